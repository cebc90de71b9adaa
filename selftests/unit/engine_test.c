// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the request path: the consistent cut, a full disk, a failing disk, and requests at
 * the edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/volume_priv.h"
#include "engine_harness.h"
#include "lib/fsutil.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

/* ---- layer_switch_is_a_consistent_cut ---- */

#define SLOTS      64u
#define SLOT_PAGES 16u /* each slot in its own 64 KiB block */

/*
 * Requests of a device come to a worker as completions of its ring, not as messages, and so may
 * overtake the message that announces a new view. A doorbell does the same: an eventfd that the
 * ring reads.
 */
struct doorbell {
	struct worker_op op;
	struct lane *lane;
	int fd;
	uint64_t value;
	struct gfs_req *req; /* atomic */
	bool closed;
};

struct chain {
	struct harness *h;
	struct doorbell bell[2];
	bool stop;
	uint64_t last; /* atomic: acknowledged */
	uint64_t seen;
	int res;
};

static void bell_arm(struct worker *w, struct doorbell *b)
{
	struct io_uring_sqe *sqe = worker_sqe(w);

	io_uring_prep_read(sqe, b->fd, &b->value, sizeof(b->value), 0);
	worker_sqe_op(sqe, &b->op);
}

static void bell_rung(struct worker *w, struct worker_op *op, int res __unused)
{
	struct doorbell *b = container_of(op, struct doorbell, op);
	struct gfs_req *req = __atomic_exchange_n(&b->req, NULL, __ATOMIC_ACQUIRE);

	if (!req) {
		__atomic_store_n(&b->closed, true, __ATOMIC_RELEASE);
		return;
	}
	bell_arm(w, b);
	lane_submit(b->lane, req);
}

static int bell_start(struct worker *w, void *arg)
{
	bell_arm(w, arg);
	return 0;
}

static void bell_ring(struct doorbell *b, struct gfs_req *req)
{
	uint64_t one = 1;

	__atomic_store_n(&b->req, req, __ATOMIC_RELEASE);
	assert_int_equal(write(b->fd, &one, sizeof(one)), sizeof(one));
}

static bool bell_closed(void *arg)
{
	return __atomic_load_n(&((struct doorbell *)arg)->closed, __ATOMIC_ACQUIRE);
}

struct chain_req {
	struct gfs_req req;
	uint8_t page[4096];
	int res;
	int ended; /* atomic */
};

static int chain_copy(struct gfs_req *req, void *buf, uint32_t len, uint32_t off)
{
	memcpy(buf, container_of(req, struct chain_req, req)->page + off, len);
	return 0;
}

static void chain_done(struct gfs_req *req, int res)
{
	struct chain_req *r = container_of(req, struct chain_req, req);

	r->res = res;
	__atomic_store_n(&r->ended, 1, __ATOMIC_RELEASE);
}

static bool chain_moved(void *arg)
{
	struct chain *c = arg;

	return __atomic_load_n(&c->last, __ATOMIC_ACQUIRE) > c->seen;
}

/* n = 1, 2, 3, …: each write begins after the one before was acknowledged, on the other lane. */
static void *chain_main(void *arg)
{
	struct chain *c = arg;
	struct chain_req r;

	memset(&r, 0, sizeof(r));
	r.req.op = GFS_WRITE;
	r.req.nsectors = 8;
	r.req.copy = chain_copy;
	r.req.done = chain_done;
	for (uint64_t n = 1; !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE); n++) {
		for (size_t i = 0; i < sizeof(r.page); i += sizeof(n))
			memcpy(r.page + i, &n, sizeof(n));
		r.req.sector = n % SLOTS * SLOT_PAGES * 8;
		r.ended = 0;
		bell_ring(&c->bell[n % 2], &r.req);
		/* Busy: the next write must come as soon as a guest could send it. */
		while (!__atomic_load_n(&r.ended, __ATOMIC_ACQUIRE))
			sched_yield();
		c->res = r.res;
		if (c->res)
			break;
		__atomic_store_n(&c->last, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

/* Lets one worker lag behind the other, and hear of a switch later: what the cut must withstand. */
static void lag(unsigned int index)
{
	static __thread uint64_t s;

	if (!s)
		s = now_ns() + index;
	s = s * 6364136223846793005ull + 1442695040888963407ull;
	if (index == UINT_MAX)
		usleep((unsigned int)((s >> 33) % 4000));
	else if ((s >> 40) % 8 == 0)
		usleep((unsigned int)((s >> 33) % 400));
}

static uint64_t image_slot(struct harness *h, struct manifest *m, uint64_t slot)
{
	struct cache_buf *buf = NULL;
	uint64_t n = 0;

	assert_int_equal(fetch_block_sync(h->e->fetcher, m, slot, 1, &buf), 0);
	if (buf)
		memcpy(&n, buf->data, sizeof(n));
	cache_buf_put(buf);
	return n;
}

/* Every published image is a prefix of the order of acknowledgement. */
static unsigned int images_check(struct harness *h)
{
	char path[256];
	struct dirent *de;
	unsigned int nr = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/store/manifests/%s", h->dir, h->v->dir_name);
	d = opendir(path);
	assert_non_null(d);
	while ((de = readdir(d))) {
		uint64_t slot[SLOTS], max = 0;
		struct manifest *m;
		struct fmt_err e;
		char *buf;
		size_t len;

		if (de->d_name[0] == '.')
			continue;
		assert_int_equal(file_read_all(dirfd(d), de->d_name, MiB, &buf, &len), 0);
		assert_int_equal(manifest_parse(buf, len, &m, &e), 0);
		free(buf);
		for (uint64_t i = 0; i < SLOTS; i++) {
			slot[i] = image_slot(h, m, i);
			max = MAX(max, slot[i]);
		}
		for (uint64_t n = max; n && n + SLOTS > max; n--)
			if (slot[n % SLOTS] != n)
				fail_msg("image %s: holds write %llu, but slot of write %llu holds "
					 "%llu",
					 de->d_name, (unsigned long long)max, (unsigned long long)n,
					 (unsigned long long)slot[n % SLOTS]);
		manifest_put(m);
		nr++;
	}
	closedir(d);
	return nr;
}

static void layer_switch_is_a_consistent_cut(void **state __unused)
{
	struct chain c = {0};
	struct harness h;
	uint64_t published = 0;
	pthread_t thread;
	unsigned int nr;

	harness_needs_store_dir();
	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "cut", 64 * MiB, 64 * KiB);
	c.h = &h;
	for (int i = 0; i < 2; i++) {
		c.bell[i] = (struct doorbell){.op.done = bell_rung, .lane = h.lane[i]};
		c.bell[i].fd = eventfd(0, EFD_CLOEXEC);
		assert_true(c.bell[i].fd >= 0);
		worker_call(h.lane[i]->w, bell_start, &c.bell[i]);
	}
	__atomic_store_n(&worker_pause_hook, lag, __ATOMIC_RELEASE);
	pthread_create(&thread, NULL, chain_main, &c);
	/* The write that was waited for may be in the image of the drain before. */
	while (published < 60) {
		c.seen = __atomic_load_n(&c.last, __ATOMIC_ACQUIRE);
		harness_until(chain_moved, &c, "progress of the writer");
		harness_drain(&h);
		pthread_mutex_lock(&h.v->mut);
		published = h.v->root.sequence;
		pthread_mutex_unlock(&h.v->mut);
	}
	__atomic_store_n(&c.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	__atomic_store_n(&worker_pause_hook, NULL, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++) {
		bell_ring(&c.bell[i], NULL);
		harness_until(bell_closed, &c.bell[i], "end of a doorbell");
		close(c.bell[i].fd);
	}
	assert_int_equal(c.res, 0);
	nr = images_check(&h);
	print_message("%u images, %llu writes\n", nr, (unsigned long long)c.last);
	assert_true(nr >= 60);
	harness_stop(&h);
	harness_fini(&h);
}

/* ---- disks ---- */

/* Atomic all three: workers of an earlier setting may still look. */
static int fault_op, fault_res, fault_hits;

static int disk_fault_fn(enum disk_op op, uint64_t seq __unused)
{
	int r = (int)op == __atomic_load_n(&fault_op, __ATOMIC_ACQUIRE)
			? __atomic_load_n(&fault_res, __ATOMIC_ACQUIRE)
			: 0;

	if (r)
		__atomic_add_fetch(&fault_hits, 1, __ATOMIC_RELAXED);
	return r;
}

static bool faults_seen(void *arg __unused)
{
	return __atomic_load_n(&fault_hits, __ATOMIC_RELAXED) > 2;
}

static void fault_set(enum disk_op op, int res)
{
	__atomic_store_n(&fault_res, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&fault_op, (int)op, __ATOMIC_RELEASE);
	__atomic_store_n(&fault_hits, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&fault_res, res, __ATOMIC_RELEASE);
	__atomic_store_n(&disk_fault_hook, disk_fault_fn, __ATOMIC_RELEASE);
}

/* Full disk: a write waits, then goes on; past the bound it is ENOSPC; FLUSH and old data are fine.
 */
static void full_disk_waits_then_recovers_or_says_enospc(void **state __unused)
{
	static const enum disk_op ops[] = {DISK_WRITE, DISK_FALLOCATE};
	uint8_t a[4096], b[4096], got[4096];

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		/* A chunk that has no map yet, so that the allocation is met too. */
		uint64_t at = 200 * MiB / SECTOR_SIZE;
		struct harness h;
		struct hreq r;

		harness_init(&h);
		h.cfg.space_wait_ns = 60 * NSEC_PER_SEC;
		harness_start(&h);
		harness_create(&h, "full", 400 * MiB, 64 * KiB);
		assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, a), 0);
		fault_set(ops[i], -ENOSPC);
		hreq_start(&h, &r, 0, GFS_WRITE, at, 8, b, true);
		harness_until(faults_seen, NULL, "attempts to write to the full disk");
		assert_false(hreq_ended(&r));
		assert_int_equal(harness_io(&h, GFS_FLUSH, 0, 0, NULL), 0);
		assert_int_equal(harness_io(&h, GFS_READ, 0, 8, got), 0);
		assert_memory_equal(got, a, sizeof(a));
		fault_set(ops[i], 0);
		assert_int_equal(hreq_wait(&r), 0);
		assert_int_equal(harness_io(&h, GFS_READ, at, 8, got), 0);
		assert_memory_equal(got, b, sizeof(b));
		harness_drain(&h);
		harness_stop(&h);

		h.cfg.space_wait_ns = 200 * NSEC_PER_MSEC;
		harness_start(&h);
		harness_open(&h, "full", CLAIM_OWN, true, NULL);
		fault_set(ops[i], -ENOSPC);
		hreq_start(&h, &r, 1, GFS_WRITE, at, 8, a, false);
		assert_int_equal(hreq_wait(&r), -ENOSPC);
		fault_set(ops[i], 0);
		assert_int_equal(harness_io(&h, GFS_READ, at, 8, got), 0);
		assert_memory_equal(got, b, sizeof(b)); /* the refused write left no trace */
		assert_int_equal(harness_io(&h, GFS_WRITE, at, 8, a), 0);
		__atomic_store_n(&disk_fault_hook, NULL, __ATOMIC_RELEASE);
		harness_stop(&h);
		harness_fini(&h);
	}
}

/*
 * A disk with room for so many things, each a write or the files of a layer. A layer that is
 * removed gives back two, and not at once: whoever still reads it holds its blocks.
 */
static struct {
	int room;
	uint64_t more_at_ns;
} disk;
static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;

static int disk_small_fn(enum disk_op op, uint64_t seq __unused)
{
	int r = 0;

	pthread_mutex_lock(&disk_lock);
	if (disk.more_at_ns && now_ns() >= disk.more_at_ns) {
		disk.more_at_ns = 0;
		disk.room += 2;
	}
	if (op == DISK_UNLINK)
		disk.more_at_ns = now_ns() + 50 * NSEC_PER_MSEC;
	if (op == DISK_WRITE || op == DISK_CREATE)
		r = disk.room > 0 ? (disk.room--, 0) : -ENOSPC;
	pthread_mutex_unlock(&disk_lock);
	return r;
}

static unsigned int creates_failed; /* atomic */

static int disk_create_fn(enum disk_op op, uint64_t layer __unused)
{
	if (op != DISK_CREATE)
		return 0;
	__atomic_add_fetch(&creates_failed, 1, __ATOMIC_RELAXED);
	return -EIO;
}

/* Only for want of space is there a claim, for which everybody's writes wait. */
static void next_layer_that_fails_otherwise_holds_nobody_up(void **state __unused)
{
	static uint8_t data[4096], got[4096];
	struct harness h;

	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "unlucky", 64 * MiB, 64 * KiB);
	memset(data, 1, sizeof(data));
	assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, data), 0);
	harness_drain(&h);
	assert_int_equal(harness_io(&h, GFS_WRITE, 8, 8, data), 0);
	__atomic_store_n(&disk_fault_hook, disk_create_fn, __ATOMIC_RELEASE);
	harness_drain(&h);
	assert_in_range(__atomic_load_n(&creates_failed, __ATOMIC_RELAXED), 1, 2);
	__atomic_store_n(&disk_fault_hook, NULL, __ATOMIC_RELEASE);
	assert_int_equal(harness_io(&h, GFS_WRITE, 16, 8, data), 0);
	harness_drain(&h);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(harness_io(&h, GFS_READ, i * 8, 8, got), 0);
		assert_memory_equal(got, data, sizeof(got));
	}
	harness_stop(&h);
	harness_fini(&h);
}

/* Writers that are hungrier than what an upload frees never take the room of the next switch. */
static void full_disk_keeps_room_for_the_next_layer(void **state __unused)
{
	static uint8_t data[4][4096], got[4096];
	struct hreq r[4];
	struct harness h;

	harness_init(&h);
	h.cfg.space_wait_ns = 20 * NSEC_PER_SEC;
	harness_start(&h);
	harness_create(&h, "hungry", 64 * MiB, 64 * KiB);
	assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, data[0]), 0);
	harness_drain(&h);
	disk.room = 1;
	disk.more_at_ns = 0;
	__atomic_store_n(&disk_fault_hook, disk_small_fn, __ATOMIC_RELEASE);
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
			memset(data[i], (int)(1 + round * ARRAY_SIZE(r) + i), sizeof(data[i]));
			hreq_start(&h, &r[i], i, GFS_WRITE, (uint64_t)i * 8, 8, data[i], false);
		}
		for (unsigned int i = 0; i < ARRAY_SIZE(r); i++)
			assert_int_equal(hreq_wait(&r[i]), 0);
	}
	harness_drain(&h);
	__atomic_store_n(&disk_fault_hook, NULL, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		assert_int_equal(harness_io(&h, GFS_READ, (uint64_t)i * 8, 8, got), 0);
		assert_memory_equal(got, data[i], sizeof(got));
	}
	harness_stop(&h);
	harness_fini(&h);
}

static void volume_limit_makes_writes_wait_for_upload(void **state __unused)
{
	uint8_t *buf = malloc(256 * KiB);
	struct volume_info vi;
	struct harness h;

	harness_init(&h);
	h.cfg.volume_max_bytes = 1 * MiB;
	h.cfg.upload_dirty_bytes = 64 * MiB; /* only the limit asks for an upload */
	harness_start(&h);
	harness_create(&h, "limit", 64 * MiB, 64 * KiB);
	for (uint64_t i = 0; i < 32; i++) {
		memset(buf, (int)i + 1, 256 * KiB);
		assert_int_equal(harness_io(&h, GFS_WRITE, i * 512, 512, buf), 0);
		volume_info_read(h.v, &vi);
		assert_true(vi.dirty_bytes <= 2 * MiB);
	}
	assert_true(vi.uploads > 2);
	for (uint64_t i = 0; i < 32; i++) {
		assert_int_equal(harness_io(&h, GFS_READ, i * 512, 512, buf), 0);
		assert_int_equal(buf[1000], i + 1);
	}
	harness_stop(&h);
	harness_fini(&h);
	free(buf);
}

/* Storage rule 3, through the request path, and across a restart in the same boot. */
static void local_disk_error_poisons_layer(void **state __unused)
{
	static const enum disk_op ops[] = {DISK_WRITE, DISK_FSYNC, DISK_LOG_WRITE, DISK_LOG_FSYNC};
	uint8_t a[4096], got[4096];

	memset(a, 'a', sizeof(a));
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct volume_info vi;
		struct fmt_err err = {""};
		struct harness h;

		harness_init(&h);
		harness_start(&h);
		harness_create(&h, "sick", 16 * MiB, 64 * KiB);
		assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, a), 0);
		fault_set(ops[i], -EIO);
		if (ops[i] == DISK_WRITE)
			assert_int_equal(harness_io(&h, GFS_WRITE, 8, 8, a), -EIO);
		else
			assert_int_equal(harness_io(&h, GFS_FLUSH, 0, 0, NULL), -EIO);
		__atomic_store_n(&disk_fault_hook, NULL, __ATOMIC_RELEASE);
		/* The disk is fine again; what it may have lost is not. */
		assert_int_equal(harness_io(&h, GFS_FLUSH, 0, 0, NULL), -EIO);
		assert_int_equal(harness_io(&h, GFS_WRITE, 16, 8, a), -EIO);
		assert_int_equal(harness_io(&h, GFS_READ, 0, 8, got), 0);
		assert_memory_equal(got, a, sizeof(a));
		volume_info_read(h.v, &vi);
		assert_int_equal(vi.mode, VOLUME_POISONED);
		assert_true(strlen(vi.why) > 20);
		assert_int_equal(volume_drain(h.v, NSEC_PER_SEC, 1, &err), -EIO);
		assert_true(strlen(err.msg) > 20);
		harness_stop(&h);
		harness_start(&h);
		harness_open(&h, "sick", CLAIM_OWN, true, NULL);
		volume_info_read(h.v, &vi);
		assert_int_equal(vi.mode, VOLUME_POISONED);
		assert_int_equal(harness_io(&h, GFS_FLUSH, 0, 0, NULL), -EIO);
		harness_stop(&h);
		harness_fini(&h);
	}
}

/* ---- edges ---- */

static void unwritten_sectors_are_zeros_and_edges_are_exact(void **state __unused)
{
	uint64_t bytes = 150 * MiB + 512, sectors = bytes / SECTOR_SIZE;
	uint8_t one[512], got[4096];
	struct harness h;

	memset(one, 0xab, sizeof(one));
	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "edge", bytes, 64 * KiB);
	assert_int_equal(harness_io(&h, GFS_WRITE, sectors - 1, 1, one), 0);
	assert_int_equal(harness_io(&h, GFS_WRITE, 9, 1, one), 0);
	assert_int_equal(harness_io(&h, GFS_WRITE, sectors, 1, one), -EINVAL);
	assert_int_equal(harness_io(&h, GFS_WRITE, UINT64_MAX - 1, 4, one), -EINVAL);
	assert_int_equal(harness_io(&h, GFS_READ, 0, 0, got), -EINVAL);
	for (int cold = 0; cold < 2; cold++) {
		assert_int_equal(harness_io(&h, GFS_READ, 8, 8, got), 0);
		for (int i = 0; i < 4096; i++)
			assert_int_equal(got[i], i / 512 == 1 ? 0xab : 0);
		assert_int_equal(harness_io(&h, GFS_READ, sectors - 8, 8, got), 0);
		for (int i = 0; i < 4096; i++)
			assert_int_equal(got[i], i / 512 == 7 ? 0xab : 0);
		harness_drain(&h);
	}
	/* Zero one sector of a cold block: its neighbours stay. */
	assert_int_equal(harness_io(&h, GFS_WRITE, 10, 1, one), 0);
	assert_int_equal(harness_io(&h, GFS_WRITE_ZEROES, 9, 1, NULL), 0);
	for (int cold = 0; cold < 2; cold++) {
		assert_int_equal(harness_io(&h, GFS_READ, 8, 8, got), 0);
		for (int i = 0; i < 4096; i++)
			assert_int_equal(got[i], i / 512 == 2 ? 0xab : 0);
		harness_drain(&h);
	}
	/* The whole volume at once. */
	assert_int_equal(harness_io(&h, GFS_DISCARD, 0, (uint32_t)sectors, NULL), 0);
	for (int cold = 0; cold < 2; cold++) {
		assert_int_equal(harness_io(&h, GFS_READ, sectors - 8, 8, got), 0);
		for (int i = 0; i < 4096; i++)
			assert_int_equal(got[i], 0);
		harness_drain(&h);
	}
	harness_stop(&h);
	harness_fini(&h);
}

static void foreign_local_state_is_quarantined_not_served(void **state __unused)
{
	uint8_t a[4096], b[4096], got[4096];
	struct fmt_err err = {""};
	struct harness h, other;
	char path[256];

	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "q", 16 * MiB, 64 * KiB);
	assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, a), 0);
	harness_drain(&h);
	assert_int_equal(harness_io(&h, GFS_WRITE, 8, 8, a), 0); /* never uploaded */
	harness_stop(&h);
	/* Another host seizes the volume, writes, and gives it up. */
	harness_host(&other, &h, "other");
	harness_start(&other);
	harness_open(&other, "q", CLAIM_TAKEOVER, false, NULL);
	assert_int_equal(harness_io(&other, GFS_WRITE, 0, 8, b), 0);
	volume_lanes_remove(other.v);
	assert_int_equal(volume_release(other.v, 1, &err), 0);
	volume_close(other.v);
	free(other.lane);
	other.v = NULL;
	harness_stop(&other);
	/* Back here: the old layers are neither merged nor served nor deleted. */
	harness_start(&h);
	assert_int_equal(harness_open(&h, "q", CLAIM_OWN, true, &err), -ESTALE);
	harness_open(&h, "q", CLAIM_OWN, false, NULL);
	assert_int_equal(harness_io(&h, GFS_READ, 0, 8, got), 0);
	assert_memory_equal(got, b, sizeof(b));
	assert_int_equal(harness_io(&h, GFS_READ, 8, 8, got), 0);
	assert_int_equal(got[0], 0);
	snprintf(path, sizeof(path), "ls %s/quarantine/*/layer-*.data >/dev/null", h.cache_dir);
	assert_int_equal(system(path), 0);
	harness_stop(&h);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(layer_switch_is_a_consistent_cut),
		cmocka_unit_test(full_disk_waits_then_recovers_or_says_enospc),
		cmocka_unit_test(full_disk_keeps_room_for_the_next_layer),
		cmocka_unit_test(next_layer_that_fails_otherwise_holds_nobody_up),
		cmocka_unit_test(volume_limit_makes_writes_wait_for_upload),
		cmocka_unit_test(local_disk_error_poisons_layer),
		cmocka_unit_test(unwritten_sectors_are_zeros_and_edges_are_exact),
		cmocka_unit_test(foreign_local_state_is_quarantined_not_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
