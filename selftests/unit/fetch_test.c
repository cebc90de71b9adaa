// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the fetcher promises: the right block or an error, in bounded time and memory, with no more
 * GETs than needed. Packs are made here, put into a file store under a fault store, and fetched
 * back.
 */
#include "engine/fetch_priv.h"
#include "lib/spans.h"
#include "store/fault.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>
#include <cmocka.h>

#define BB        (64 * KiB)
#define PER_CHUNK (CHUNK_BYTES / BB)

struct rig {
	char dir[64];
	struct store *store;
	struct cache *blocks, *indexes;
	struct pool *compute;
	struct fetcher *f;
	struct fetch_config cfg;
	struct manifest *m;
};

static void rig_fetcher(struct rig *r)
{
	r->blocks = cache_create(16 * MiB);
	r->indexes = cache_create(4 * MiB);
	r->compute = pool_create("compute", 2);
	assert_non_null(r->compute);
	r->f = fetcher_create(r->store, r->blocks, r->indexes, r->compute, &r->cfg);
	assert_non_null(r->f);
}

static void rig_fetcher_end(struct rig *r)
{
	fetcher_destroy(r->f);
	pool_destroy(r->compute);
	cache_destroy(r->blocks);
	cache_destroy(r->indexes);
}

/* Everything cold again. */
static void rig_cold(struct rig *r)
{
	rig_fetcher_end(r);
	rig_fetcher(r);
}

static void rig_init(struct rig *r, uint64_t timeout_ns)
{
	char url[128], err[200] = "";

	memset(r, 0, sizeof(*r));
	snprintf(r->dir, sizeof(r->dir), "/tmp/gfs-unit-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(url, sizeof(url), "file://%s", r->dir);
	if (store_open(url, "seed=1", &r->store, err, sizeof(err)))
		fail_msg("%s", err);
	r->cfg = (struct fetch_config){.timeout_ns = timeout_ns, .max_get_bytes = 1 * MiB};
	r->m = manifest_alloc(0);
	assert_non_null(r->m);
	memset(r->m->uuid, 7, sizeof(r->m->uuid));
	r->m->size_bytes = 4 * CHUNK_BYTES;
	r->m->block_bytes = BB;
	rig_fetcher(r);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void rig_fault(struct rig *r, const char *rules)
{
	char err[200] = "", all[512];

	snprintf(all, sizeof(all), "seed=3%s%s", *rules ? ";" : "", rules);
	if (store_fault_set(r->store, all, err, sizeof(err)))
		fail_msg("%s: %s", all, err);
	if (!*rules)
		store_fault_release(r->store);
}

static void rig_fini(struct rig *r)
{
	store_fault_release(r->store);
	rig_fetcher_end(r);
	store_close(r->store);
	manifest_put(r->m);
	nftw(r->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Block contents are a function of (seed, block). Half of each block compresses. */
static void block_fill(uint8_t *p, uint32_t seed, uint64_t block)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15 + block * 0xd1342543de82ef95 + 1;

	for (size_t i = 0; i < BB; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, i < BB / 2 ? &x : &block, 8);
	}
}

static void block_check(const struct cache_buf *buf, uint32_t seed, uint64_t block)
{
	static __thread uint8_t want[BB];

	assert_non_null(buf);
	assert_int_equal(buf->size, BB);
	block_fill(want, seed, block);
	if (memcmp(want, buf->data, BB))
		fail_msg("block %llu of seed %u: wrong data", (unsigned long long)block, seed);
}

/*
 * Make a pack of blocks [first, first + nr) of `chunk` from `seed` (0: tombstones), put it, and add
 * it to the manifest as the newest of its chunk.
 */
static void rig_pack(struct rig *r, uint32_t chunk, uint32_t first, uint32_t nr, uint32_t seed)
{
	uint8_t id[PACK_ID_LEN], *plain = malloc(BB), *out = malloc(ZSTD_compressBound(BB));
	struct manifest *m = manifest_alloc(r->m->nr_entries + 1);
	struct manifest_entry me;
	struct pack_writer *w;
	char key[STORE_KEY_MAX];
	struct store_op op = {0};
	struct iovec iov;
	const void *buf;
	uint32_t at = 0;
	size_t len;

	random_bytes(id, sizeof(id));
	w = pack_writer_new(id, chunk, BB, nr);
	assert_non_null(w);
	for (uint32_t b = first; b < first + nr; b++) {
		enum pack_block_kind kind = PACK_ZERO;
		uint8_t sha[SHA256_LEN] = {0};
		uint32_t clen = 0;

		if (seed) {
			block_fill(plain, seed, (uint64_t)chunk * PER_CHUNK + b);
			assert_int_equal(block_encode(plain, BB, 1, out, ZSTD_compressBound(BB),
						      &kind, &clen, sha),
					 0);
		}
		assert_int_equal(pack_writer_add(w, b, kind, out, clen, sha), 0);
	}
	assert_int_equal(pack_writer_finish(w, &buf, &len, &me), 0);
	pack_key(chunk, id, key, sizeof(key));
	iov = (struct iovec){.iov_base = (void *)buf, .iov_len = len};
	op.type = STORE_PUT;
	op.key = key;
	op.iov = &iov;
	op.iovcnt = 1;
	assert_int_equal(store_run(r->store, &op), 0);
	pack_writer_free(w);
	free(plain);
	free(out);

	assert_non_null(m);
	memcpy(m->uuid, r->m->uuid, sizeof(m->uuid));
	m->size_bytes = r->m->size_bytes;
	m->block_bytes = BB;
	while (at < r->m->nr_entries && r->m->entries[at].chunk < chunk)
		at++;
	memcpy(m->entries, r->m->entries, at * sizeof(me));
	m->entries[at] = me;
	memcpy(m->entries + at + 1, r->m->entries + at, (r->m->nr_entries - at) * sizeof(me));
	manifest_put(r->m);
	r->m = m;
}

static int get(struct rig *r, uint64_t block, struct cache_buf **buf)
{
	return fetch_block_sync(r->f, r->m, block, 1, buf);
}

static void expect(struct rig *r, uint64_t block, uint32_t seed)
{
	struct cache_buf *buf;

	assert_int_equal(get(r, block, &buf), 0);
	if (seed)
		block_check(buf, seed, block);
	else
		assert_null(buf);
	cache_buf_put(buf);
}

static uint64_t store_gets(void)
{
	struct timing_hist_snapshot s;

	timing_hist_read(TIMING_OBJECT_GET, &s);
	return s.count;
}

static struct fetch_stats stats(struct rig *r)
{
	struct fetch_stats st;

	fetch_stats_read(r->f, &st);
	return st;
}

/* Many waits at once. */
struct crowd {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int left;
	uint64_t inflight_max;
	struct rig *r;
};

struct member {
	struct fetch_wait w;
	struct crowd *c;
	struct cache_buf *buf;
	int res;
	bool ended;
	uint64_t end_ns;
};

static void member_end(struct member *mb, struct cache_buf *buf, int res)
{
	struct crowd *c = mb->c;
	struct fetch_stats st = stats(c->r);

	pthread_mutex_lock(&c->lock);
	assert_false(mb->ended);
	c->inflight_max = MAX(c->inflight_max, st.inflight_bytes);
	mb->buf = buf;
	mb->res = res;
	mb->ended = true;
	mb->end_ns = now_ns();
	c->left--;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void member_done(struct fetch_wait *w, struct cache_buf *buf, int res)
{
	member_end(container_of(w, struct member, w), buf, res);
}

static void crowd_init(struct crowd *c, struct rig *r)
{
	*c = (struct crowd){.lock = PTHREAD_MUTEX_INITIALIZER, .r = r};
	cond_init_mono(&c->cond);
}

static void member_begin(struct crowd *c, struct member *mb, uint64_t block, bool single)
{
	struct cache_buf *buf;
	int res;

	*mb = (struct member){
		.w = {.done = member_done, .op_id = 5, .volume = "vm-1", .single = single}, .c = c};
	pthread_mutex_lock(&c->lock);
	c->left++;
	pthread_mutex_unlock(&c->lock);
	res = fetch_block(c->r->f, c->r->m, block, &mb->w, &buf);
	if (res != -EINPROGRESS)
		member_end(mb, buf, res);
}

static void member_start(struct crowd *c, struct member *mb, uint64_t block)
{
	member_begin(c, mb, block, false);
}

static void crowd_wait(struct crowd *c)
{
	uint64_t until = now_ns() + 60 * NSEC_PER_SEC;

	pthread_mutex_lock(&c->lock);
	while (c->left && !cond_wait_until(&c->cond, &c->lock, until))
		;
	if (c->left)
		fail_msg("%u fetches did not end", c->left);
	pthread_mutex_unlock(&c->lock);
}

static void newest_pack_wins_and_absent_is_zeros(void **state)
{
	struct rig r;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_pack(&r, 1, 0, 16, 1);
	rig_pack(&r, 1, 4, 4, 2);
	rig_pack(&r, 1, 6, 4, 0); /* tombstones */
	rig_pack(&r, 1, 9, 1, 3);
	for (int warm = 0; warm < 2; warm++) {
		expect(&r, 0, 0); /* no pack for the chunk */
		expect(&r, PER_CHUNK + 0, 1);
		expect(&r, PER_CHUNK + 4, 2);
		expect(&r, PER_CHUNK + 5, 2);
		expect(&r, PER_CHUNK + 6, 0);
		expect(&r, PER_CHUNK + 8, 0);
		expect(&r, PER_CHUNK + 9, 3);
		expect(&r, PER_CHUNK + 15, 1);
		expect(&r, PER_CHUNK + 16, 0); /* in no pack */
	}
	rig_fini(&r);
}

static void fifty_waiters_cost_one_get(void **state)
{
	struct member mb[50];
	struct crowd c;
	struct rig r;
	uint64_t before;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 4, 1);
	rig_fault(&r, "get delay=30");
	crowd_init(&c, &r);
	before = store_gets();
	for (int i = 0; i < 50; i++)
		member_start(&c, &mb[i], 2);
	crowd_wait(&c);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(mb[i].res, 0);
		block_check(mb[i].buf, 1, 2);
		assert_ptr_equal(mb[i].buf, mb[0].buf);
	}
	for (int i = 0; i < 50; i++)
		cache_buf_put(mb[i].buf);
	assert_int_equal(store_gets() - before, 2); /* the index, the block */
	assert_int_equal(stats(&r).gets, 2);
	expect(&r, 2, 1); /* from the cache */
	assert_int_equal(stats(&r).gets, 2);
	rig_fini(&r);
}

static void adjacent_blocks_share_a_get(void **state)
{
	struct member mb[16];
	struct crowd c;
	struct rig r;
	bool shared = false;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 32, 1);
	/* How many share depends on when the dispatcher looks; that none ever does is a bug. */
	for (int round = 0; round < 50 && !shared; round++) {
		rig_cold(&r);
		crowd_init(&c, &r);
		for (uint64_t i = 0; i < 16; i++)
			member_start(&c, &mb[i], 4 + i);
		crowd_wait(&c);
		for (uint64_t i = 0; i < 16; i++) {
			assert_int_equal(mb[i].res, 0);
			block_check(mb[i].buf, 1, 4 + i);
			cache_buf_put(mb[i].buf);
		}
		assert_int_equal(stats(&r).gets - 1 + stats(&r).coalesced, 16);
		shared = stats(&r).coalesced > 4;
	}
	assert_true(shared);
	rig_fini(&r);
}

/* ---- what a wait says of itself ---- */

/* A copy of the table, made as a reader from outside makes it. */
static struct {
	uint32_t nr, state[SPANS_SLOTS];
	struct spans_slot slot[SPANS_SLOTS];
} table;

static void mem_copy(void *to, uint64_t from, size_t len)
{
	struct iovec local = {to, len}, remote = {(void *)(uintptr_t)from, len};

	if (len)
		assert_int_equal(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), len);
}

static void table_read(void)
{
	const struct spans_header *h = spans_header();

	table.nr = __atomic_load_n(&h->high_water, __ATOMIC_RELAXED);
	mem_copy(table.state, h->states, table.nr * sizeof(table.state[0]));
	mem_copy(table.slot, h->table, table.nr * sizeof(table.slot[0]));
}

/* Open spans of an event and operation; NULL: any. */
static unsigned int table_count(const char *event, uint64_t op_id)
{
	unsigned int n = 0;

	for (uint32_t i = 0; i < table.nr; i++)
		n += (table.state[i] & SPANS_PHASE_MASK) == SPANS_OPEN &&
		     (!event ||
		      (!strcmp(table.slot[i].event, event) && table.slot[i].op_id == op_id));
	return n;
}

static void spanned_waits(struct fetch_wait *w)
{
	w->span = span_open(
		&(struct timing_rec){.event = TIMING_IO_SLOW, .op_id = w->op_id, .dev_id = -1});
	assert_int_not_equal(w->span, 0);
}

static void spanned_done(struct fetch_wait *w, struct cache_buf *buf, int res)
{
	span_close(w->span);
	member_done(w, buf, res);
}

static void spanned_start(struct crowd *c, struct member *mb, uint64_t block)
{
	struct cache_buf *buf;

	*mb = (struct member){.w = {.done = spanned_done,
				    .waits = spanned_waits,
				    .op_id = timing_op_id(),
				    .volume = "vm-1"},
			      .c = c};
	pthread_mutex_lock(&c->lock);
	c->left++;
	pthread_mutex_unlock(&c->lock);
	assert_int_equal(fetch_block(c->r->f, c->r->m, block, &mb->w, &buf), -EINPROGRESS);
}

/* The operation whose GET it waits for, if there is such a GET; else 0. */
static uint64_t get_of(const struct member *mb)
{
	uint64_t link = table.slot[mb->w.span % SPANS_SLOTS].link_op_id;
	uint64_t op_id = link ? link : mb->w.op_id;

	return table_count("object.get", op_id) ? op_id : 0;
}

static void each_wait_leads_to_the_get_that_serves_it(void **state)
{
	struct member mb[17];
	struct crowd c;
	struct rig r;
	bool shared = false;

	rig_init(&r, 30 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 32, 1);
	for (int round = 0; round < 50 && !shared; round++) {
		uint64_t until = now_ns() + 30 * NSEC_PER_SEC;
		unsigned int served = 0;

		rig_cold(&r);
		crowd_init(&c, &r);
		/* All but the GET of the index. */
		rig_fault(&r, "get hang skip=1");
		for (uint64_t i = 0; i < 16; i++)
			spanned_start(&c, &mb[i], 4 + i);
		while ((stats(&r).gets - 1 + stats(&r).coalesced < 16 || served < 16) &&
		       now_ns() < until) {
			served = 0;
			table_read();
			for (int i = 0; i < 16; i++)
				served += get_of(&mb[i]) != 0;
		}
		assert_int_equal(served, 16);
		shared = stats(&r).coalesced > 4;
		/* One that comes later joins the GET that is under way. */
		spanned_start(&c, &mb[16], 9);
		table_read();
		assert_true(get_of(&mb[16]) == get_of(&mb[5]));
		rig_fault(&r, "");
		crowd_wait(&c);
		for (uint64_t i = 0; i < 17; i++) {
			assert_int_equal(mb[i].res, 0);
			cache_buf_put(mb[i].buf);
		}
		table_read();
		assert_int_equal(table_count(NULL, 0), 0);
	}
	assert_true(shared);
	rig_fini(&r);
}

static void bytes_in_flight_are_bounded(void **state)
{
	struct member *mb = calloc(PER_CHUNK, sizeof(*mb));
	struct crowd c;
	struct rig r;

	rig_init(&r, 30 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, PER_CHUNK, 1);
	rig_fault(&r, "get delay=10");
	crowd_init(&c, &r);
	for (uint64_t i = 0; i < PER_CHUNK; i++)
		member_start(&c, &mb[i], i);
	crowd_wait(&c);
	for (uint64_t i = 0; i < PER_CHUNK; i++) {
		assert_int_equal(mb[i].res, 0);
		block_check(mb[i].buf, 1, i);
		cache_buf_put(mb[i].buf);
	}
	assert_true(c.inflight_max > 0 && c.inflight_max <= 64 * MiB);
	assert_true(stats(&r).coalesced > PER_CHUNK / 2);
	rig_fini(&r);
	free(mb);
}

static void corrupt_data_is_an_error_never_wrong_data(void **state)
{
	struct cache_buf *buf;
	struct rig r;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 8, 1);
	rig_fault(&r, "get corrupt");
	assert_int_equal(get(&r, 3, &buf), -EIO);
	assert_null(buf);
	assert_int_equal(stats(&r).corrupt, 2); /* the index, twice */
	rig_fault(&r, "");
	expect(&r, 3, 1); /* not remembered */
	rig_fault(&r, "get corrupt");
	assert_int_equal(get(&r, 4, &buf), -EIO); /* now a block */
	rig_fault(&r, "get corrupt count=1");
	expect(&r, 5, 1); /* one bad transfer is made good */
	rig_cold(&r);
	rig_fault(&r, "get corrupt p=0.3");
	for (uint64_t b = 0; b < 8; b++) {
		int res = get(&r, b, &buf);

		assert_true(res == 0 || res == -EIO);
		if (!res)
			block_check(buf, 1, b);
		cache_buf_put(buf);
	}
	rig_fini(&r);
}

static void a_missing_or_truncated_object_is_an_error(void **state)
{
	struct cache_buf *buf;
	struct rig r;
	uint64_t t;

	rig_init(&r, 3 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 8, 1);
	rig_fault(&r, "get truncate");
	t = now_ns();
	assert_int_equal(get(&r, 3, &buf), -EIO);
	assert_true(now_ns() - t < 15 * NSEC_PER_SEC);
	rig_fault(&r, "get error=ENOENT");
	assert_int_equal(get(&r, 3, &buf), -EIO);
	rig_fault(&r, "get truncate count=2");
	expect(&r, 3, 1);
	rig_fini(&r);
}

static void transient_errors_are_retried(void **state)
{
	struct rig r;

	rig_init(&r, 20 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 8, 1);
	rig_fault(&r, "get error=EIO count=3");
	expect(&r, 3, 1);
	assert_int_equal(stats(&r).retries, 3);
	rig_fault(&r, "get error=ETIMEDOUT count=2");
	expect(&r, 4, 1);
	rig_fini(&r);
}

static void an_unreachable_store_is_an_error_in_time(void **state)
{
	static const char *const rules[] = {"get hang", "get error=ECONNREFUSED",
					    "get delay=100000"};
	struct cache_buf *buf;
	struct rig r;

	rig_init(&r, 2 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 8, 1);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		uint64_t t = now_ns();

		rig_fault(&r, rules[i]);
		assert_int_equal(get(&r, 3, &buf), -EIO);
		t = now_ns() - t;
		assert_true(t >= 1 * NSEC_PER_SEC && t < 20 * NSEC_PER_SEC);
		assert_int_equal(stats(&r).timeouts, i + 1);
		rig_fault(&r, "");
	}
	expect(&r, 3, 1);
	rig_fini(&r);
}

static void a_late_waiter_keeps_its_own_deadline(void **state)
{
	struct member first, late;
	struct crowd c;
	struct rig r;

	rig_init(&r, 2 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 8, 1);
	crowd_init(&c, &r);
	rig_fault(&r, "get hang");
	member_start(&c, &first, 3);
	usleep(1000 * 1000); /* any time well before the first one's deadline */
	member_start(&c, &late, 3);
	pthread_mutex_lock(&c.lock);
	while (!first.ended)
		pthread_cond_wait(&c.cond, &c.lock);
	assert_false(late.ended);
	pthread_mutex_unlock(&c.lock);
	assert_int_equal(first.res, -EIO);
	rig_fault(&r, "");
	crowd_wait(&c);
	assert_int_equal(late.res, 0);
	block_check(late.buf, 1, 3);
	cache_buf_put(late.buf);
	rig_fini(&r);
}

static void read_ahead_follows_sequential_readers_only(void **state)
{
	uint64_t until = now_ns() + 30 * NSEC_PER_SEC;
	struct member mb;
	struct crowd c;
	struct rig r;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_fetcher_end(&r);
	r.cfg.prefetch_blocks = 16;
	rig_fetcher(&r);
	rig_pack(&r, 0, 0, 1024, 1);
	crowd_init(&c, &r);
	for (uint64_t i = 0; i < 40; i++) {
		member_start(&c, &mb, (i * 397) % 1024);
		crowd_wait(&c);
		block_check(mb.buf, 1, (i * 397) % 1024);
		cache_buf_put(mb.buf);
	}
	assert_int_equal(stats(&r).prefetched, 0);
	for (uint64_t i = 100; i < 400; i++) {
		member_start(&c, &mb, i);
		crowd_wait(&c);
		assert_int_equal(mb.res, 0);
		block_check(mb.buf, 1, i);
		cache_buf_put(mb.buf);
	}
	while (!stats(&r).prefetched && now_ns() < until)
		usleep(1000);
	assert_true(stats(&r).prefetched > 0);
	rig_fini(&r);
}

/* Ask for blocks [first, first + 6) at once; the number of GETs that took. */
static uint64_t gets_of_six(struct rig *r, uint64_t first)
{
	uint64_t before = stats(r).gets;
	struct member mb[6];
	struct crowd c;

	crowd_init(&c, r);
	fetch_plug();
	for (unsigned int i = 0; i < ARRAY_SIZE(mb); i++)
		member_start(&c, &mb[i], first + i);
	fetch_unplug(r->f);
	crowd_wait(&c);
	for (unsigned int i = 0; i < ARRAY_SIZE(mb); i++) {
		assert_int_equal(mb[i].res, 0);
		block_check(mb[i].buf, 1, first + i);
		cache_buf_put(mb[i].buf);
	}
	return stats(r).gets - before;
}

/*
 * Also where the index of their pack must come first: its end sets all of them free one by one. A
 * dispatcher that is awake for something else takes what it finds at that moment, so not every
 * round must succeed; without plugs nearly none does where threads are slow (a thread sanitizer).
 */
static void blocks_asked_for_together_are_one_get(void **state)
{
	int rounds = 20, cold = 0, warm = 0;
	struct rig r;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 16, 1);
	for (int i = 0; i < rounds; i++) {
		rig_cold(&r);
		cold += gets_of_six(&r, 0) == 2;
		warm += gets_of_six(&r, 6) == 1;
	}
	assert_true(cold >= rounds / 4);
	assert_true(warm >= rounds / 4);
	rig_fini(&r);
}

/* A second reader of the same block joins. */
static void a_single_read_does_not_wait_for_the_dispatcher(void **state)
{
	struct member mb[2];
	uint64_t direct;
	struct crowd c;
	struct rig r;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 16, 1);
	expect(&r, 15, 1); /* the index */
	rig_fault(&r, "get delay=30");
	direct = stats(&r).direct;
	crowd_init(&c, &r);
	for (unsigned int i = 0; i < 2; i++)
		member_begin(&c, &mb[i], 3, true);
	crowd_wait(&c);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(mb[i].res, 0);
		block_check(mb[i].buf, 1, 3);
		cache_buf_put(mb[i].buf);
	}
	assert_int_equal(stats(&r).direct, direct + 1);
	rig_fini(&r);
}

static uint64_t spare_bytes(struct rig *r)
{
	SCOPED_LOCK(&r->f->lock);

	return r->f->spare_bytes;
}

static void an_idle_fetcher_keeps_no_buffers(void **state)
{
	uint64_t until = now_ns() + 60 * NSEC_PER_SEC;
	struct rig r;

	rig_init(&r, 5 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 16, 1);
	for (uint64_t b = 0; b < 16; b++)
		expect(&r, b, 1);
	assert_in_range(spare_bytes(&r), 1, FETCH_SPARE_MAX);
	while (spare_bytes(&r) && now_ns() < until)
		usleep(10000);
	assert_int_equal(spare_bytes(&r), 0);
	rig_fini(&r);
}

static void destroy_ends_read_ahead_that_hangs(void **state)
{
	struct member mb;
	struct crowd c;
	struct rig r;
	uint64_t t;

	rig_init(&r, 2 * NSEC_PER_SEC);
	rig_fetcher_end(&r);
	r.cfg.prefetch_blocks = 16;
	rig_fetcher(&r);
	rig_pack(&r, 0, 0, 1024, 1);
	crowd_init(&c, &r);
	for (uint64_t i = 0; i < 8; i++) {
		if (i == 2)
			rig_fault(&r, "get hang skip=1");
		member_start(&c, &mb, i);
		crowd_wait(&c);
		cache_buf_put(mb.buf);
		if (mb.res)
			break;
	}
	t = now_ns();
	rig_fini(&r);
	assert_true(now_ns() - t < 5 * NSEC_PER_SEC);
}

/* Readers on several threads over a store that fails in every way: right data or -EIO. */
struct reader {
	struct rig *r;
	uint64_t seed;
	int bad, ok;
	pthread_t t;
};

static void *reader_run(void *arg)
{
	struct reader *rd = arg;
	uint8_t *want = malloc(BB);

	for (int i = 0; i < 150; i++) {
		struct cache_buf *buf;
		uint64_t block;
		int res;

		rd->seed = rd->seed * 6364136223846793005 + 1442695040888963407;
		block = (rd->seed >> 33) % 300;
		res = fetch_block_sync(rd->r->f, rd->r->m, block, 1, &buf);
		if (!res) {
			block_fill(want, block < 200 ? 1 : 2, block);
			rd->bad += !buf || memcmp(want, buf->data, BB);
			rd->ok++;
		} else {
			rd->bad += res != -EIO;
		}
		cache_buf_put(buf);
	}
	free(want);
	return NULL;
}

static void a_flaky_store_yields_right_data_or_eio(void **state)
{
	struct reader rd[4];
	struct rig r;
	int ok = 0;

	rig_init(&r, 1 * NSEC_PER_SEC);
	rig_pack(&r, 0, 0, 300, 1);
	rig_pack(&r, 0, 200, 100, 2);
	rig_fault(&r, "get error=EIO p=0.1;get corrupt p=0.1;get truncate p=0.1;get delay=5 p=0.3");
	for (int i = 0; i < 4; i++) {
		rd[i] = (struct reader){.r = &r, .seed = (uint64_t)i / 2 + 9};
		assert_int_equal(pthread_create(&rd[i].t, NULL, reader_run, &rd[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(rd[i].t, NULL);
		assert_int_equal(rd[i].bad, 0);
		ok += rd[i].ok;
	}
	assert_true(ok > 300);
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(newest_pack_wins_and_absent_is_zeros),
		cmocka_unit_test(fifty_waiters_cost_one_get),
		cmocka_unit_test(adjacent_blocks_share_a_get),
		cmocka_unit_test(each_wait_leads_to_the_get_that_serves_it),
		cmocka_unit_test(bytes_in_flight_are_bounded),
		cmocka_unit_test(corrupt_data_is_an_error_never_wrong_data),
		cmocka_unit_test(a_missing_or_truncated_object_is_an_error),
		cmocka_unit_test(transient_errors_are_retried),
		cmocka_unit_test(an_unreachable_store_is_an_error_in_time),
		cmocka_unit_test(a_late_waiter_keeps_its_own_deadline),
		cmocka_unit_test(read_ahead_follows_sequential_readers_only),
		cmocka_unit_test(blocks_asked_for_together_are_one_get),
		cmocka_unit_test(a_single_read_does_not_wait_for_the_dispatcher),
		cmocka_unit_test(an_idle_fetcher_keeps_no_buffers),
		cmocka_unit_test(destroy_ends_read_ahead_that_hangs),
		cmocka_unit_test(a_flaky_store_yields_right_data_or_eio),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
