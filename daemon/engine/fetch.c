// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests and flights of the fetcher; see fetch.h and fetch_priv.h. Requests begin on any thread
 * and go on on the thread that ended the flight they waited for (store, compute or dispatcher).
 * f->lock guards the table of flights and their waiters.
 */
#include "engine/fetch_priv.h"
#include "lib/spans.h"
#include "lib/timing.h"

#include <string.h>

enum walk_result { WALK_ZERO, WALK_HIT, WALK_INDEX, WALK_BLOCK };

/* What a request found, or needs next. */
struct walk {
	struct cache_buf *buf;           /* WALK_HIT: referenced */
	const struct manifest_entry *me; /* WALK_INDEX, WALK_BLOCK */
	struct pack_index_entry e;       /* WALK_BLOCK */
};

static struct cache_buf *req_cached(const struct fetch_req *r, struct cache *c,
				    const uint8_t key[32])
{
	return r->w ? cache_lookup(c, key) : cache_peek(c, key);
}

/* An index is cached under its hash alone; it must still be the one of this entry's pack. */
static bool index_matches(const struct fetch_req *r, const struct cache_buf *buf,
			  const struct manifest_entry *me)
{
	const struct pack_index *idx = fetch_index(buf);

	return idx->chunk == me->chunk && idx->block_bytes == r->m->block_bytes &&
	       !memcmp(idx->pack_id, me->pack_id, sizeof(idx->pack_id));
}

/* Look into one pack: a walk_result or -errno; *next: the block is not in it. */
static int walk_entry(struct fetch_req *r, const struct manifest_entry *me, struct cache_buf *idx,
		      struct walk *wk, bool *next)
{
	uint32_t in_chunk = (uint32_t)(r->block % (CHUNK_BYTES / r->m->block_bytes));
	const struct pack_index_entry *pe;
	int res = 0;

	*next = false;
	wk->me = me;
	if (!idx)
		idx = req_cached(r, r->f->indexes, me->index_sha256);
	if (!idx)
		return WALK_INDEX;
	if (!index_matches(r, idx, me)) {
		res = -EBADMSG;
		goto out;
	}
	if (r->want == WANT_INDEX) {
		wk->buf = cache_buf_get(idx);
		res = WALK_HIT;
		goto out;
	}
	pe = pack_index_find(fetch_index(idx), in_chunk);
	if (!pe) {
		*next = true;
		goto out;
	}
	wk->e = *pe;
	if (pe->kind == PACK_ZERO) {
		res = WALK_ZERO;
		goto out;
	}
	res = WALK_BLOCK;
	wk->buf = req_cached(r, r->f->blocks, pe->sha256);
	if (wk->buf && wk->buf->size == r->m->block_bytes) {
		res = WALK_HIT;
	} else {
		cache_buf_put(wk->buf);
		wk->buf = NULL;
	}
out:
	cache_buf_put(idx);
	return res;
}

/* Newest pack first; a block in none of them is zeros. */
static int req_walk(struct fetch_req *r, struct cache_buf *idx, struct walk *wk)
{
	const struct manifest_entry *me;
	uint32_t nr;

	memset(wk, 0, sizeof(*wk));
	if (r->want == WANT_INDEX) {
		bool next;

		return walk_entry(r, r->index, idx, wk, &next);
	}
	me = manifest_chunk(r->m, (uint32_t)(r->block / (CHUNK_BYTES / r->m->block_bytes)), &nr);
	for (; r->pos < nr; r->pos++) {
		bool next;
		int res = walk_entry(r, &me[r->pos], idx, wk, &next);

		idx = NULL;
		if (!next)
			return res;
	}
	cache_buf_put(idx);
	return WALK_ZERO;
}

static void flight_key_make(struct flight_key *k, enum flight_kind kind,
			    const struct manifest_entry *me, const struct pack_index_entry *e)
{
	memset(k, 0, sizeof(*k));
	k->kind = kind;
	memcpy(k->pack_id, me->pack_id, sizeof(k->pack_id));
	memcpy(k->sha256, kind == FLIGHT_INDEX ? me->index_sha256 : e->sha256, SHA256_LEN);
	k->block = kind == FLIGHT_INDEX ? 0 : e->block;
}

static struct flight **flight_bucket(struct fetcher *f, const struct flight_key *k)
{
	uint32_t h;

	memcpy(&h, k->sha256, sizeof(h));
	return &f->bucket[(h ^ k->pack_id[0] ^ k->block) % FLIGHT_BUCKETS];
}

static struct flight *flight_find(struct fetcher *f, const struct flight_key *k)
{
	struct flight *fl = *flight_bucket(f, k);

	while (fl && memcmp(&fl->key, k, sizeof(*k)))
		fl = fl->hash_next;
	return fl;
}

/* Under f->lock. NULL without memory. */
static struct flight *flight_new(struct fetch_req *r, const struct flight_key *k,
				 const struct walk *wk)
{
	struct fetcher *f = r->f;
	struct flight *fl = calloc(1, sizeof(*fl));
	struct flight **b = flight_bucket(f, k);

	if (!fl)
		return NULL;
	fl->f = f;
	fl->key = *k;
	fl->me = *wk->me;
	fl->e = wk->e;
	fl->block_bytes = r->m->block_bytes;
	fl->off = k->kind == FLIGHT_INDEX ? wk->me->index_off : wk->e.off;
	fl->len = k->kind == FLIGHT_INDEX ? wk->me->index_len : wk->e.clen;
	fl->seq = f->seq++;
	fl->deadline_ns = r->deadline_ns;
	list_init(&fl->waiters);
	if (r->w) {
		fl->op_id = r->w->op_id;
		fl->volume = r->w->volume;
		fl->demand = true;
	} else {
		fetch_count(&f->stats.prefetched, 1);
	}
	if (!fl->op_id)
		fl->op_id = timing_op_id();
	fl->get_op_id = fl->op_id;
	fl->hash_next = *b;
	*b = fl;
	f->nr_flights++;
	list_init(&fl->node);
	return fl;
}

/*
 * A thread that plugs wakes the dispatcher once, at the end. Others wake it as ever, and it takes
 * what is there: no thread waits for another one's unplug.
 */
static __thread struct {
	unsigned int depth;
	bool queued;
} plug;

void fetch_flight_queue(struct fetcher *f, struct flight *fl)
{
	list_add_tail(&fl->node, &f->submitq);
	if (plug.depth)
		plug.queued = true;
	else
		pthread_cond_signal(&f->wake);
}

void fetch_plug(void)
{
	plug.depth++;
}

void fetch_unplug(struct fetcher *f)
{
	if (--plug.depth || !plug.queued)
		return;
	plug.queued = false;
	pthread_mutex_lock(&f->lock);
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

/*
 * The dispatcher merges what comes together; for a flight that comes alone, and finds few others,
 * it is only another thread to wake.
 */
static bool flight_is_direct(const struct fetch_req *r)
{
	const struct fetcher *f = r->f;

	return r->w && r->w->single && f->nr_flights <= FETCH_DIRECT_MAX &&
	       list_empty(&f->submitq) && !f->backlogged && !f->stop;
}

/*
 * All packs of a chunk are looked at in turn, so ask for their indexes together. Nobody waits for
 * these flights yet; they count as demand because the walk is about to.
 */
static void index_ahead(struct fetch_req *r, const struct walk *wk)
{
	struct fetcher *f = r->f;
	const struct manifest_entry *me;
	uint32_t nr;

	if (r->want != WANT_BLOCK)
		return;
	me = manifest_chunk(r->m, wk->me->chunk, &nr);
	for (uint32_t i = r->pos + 1; i < nr && i <= r->pos + FETCH_INDEX_AHEAD; i++) {
		struct walk other = {.me = &me[i]};
		struct flight_key k;
		struct cache_buf *b = cache_peek(f->indexes, me[i].index_sha256);
		struct flight *fl;

		if (b || !me[i].index_len || me[i].index_len > FETCH_INDEX_MAX) {
			cache_buf_put(b);
			continue;
		}
		flight_key_make(&k, FLIGHT_INDEX, &me[i], NULL);
		if (flight_find(f, &k))
			continue;
		fl = flight_new(r, &k, &other);
		if (!fl)
			continue;
		fl->volume = NULL; /* the request may end before this flight does */
		if (!fetch_local_submit(f, fl))
			fetch_flight_queue(f, fl);
	}
}

/*
 * A wait of many blocks has one span for them all: a foreign GET is worth telling, its own is found
 * by the operation anyway. What this request told before is over.
 */
void fetch_req_link(struct fetch_req *r, uint64_t op_id)
{
	if (!r->w || !r->w->span)
		return;
	if (op_id != r->w->op_id) {
		span_link(r->w->span, op_id);
		r->link_op_id = op_id;
	} else if (r->link_op_id) {
		span_unlink(r->w->span, r->link_op_id);
		r->link_op_id = 0;
	}
}

/*
 * Under f->lock. Wait for what the walk needs. 0, -EAGAIN: it is cached by now, -errno. *direct:
 * the caller submits this flight, without the lock.
 */
static int req_join(struct fetch_req *r, enum flight_kind kind, const struct flight_key *k,
		    const struct walk *wk, struct flight **direct)
{
	struct fetcher *f = r->f;
	struct flight *fl = flight_find(f, k);
	struct cache_buf *b;

	if (!fl) {
		/* A flight fills the cache before it leaves the table: absent from both means
		 * nobody fetches it. */
		b = cache_peek(kind == FLIGHT_INDEX ? f->indexes : f->blocks, k->sha256);
		if (b && (kind == FLIGHT_INDEX || b->size == r->m->block_bytes)) {
			cache_buf_put(b);
			return -EAGAIN;
		}
		cache_buf_put(b);
		fl = flight_new(r, k, wk);
		if (!fl)
			return -ENOMEM;
		if (!fetch_local_submit(f, fl)) {
			if (flight_is_direct(r))
				*direct = fl;
			else
				fetch_flight_queue(f, fl);
		}
		if (kind == FLIGHT_INDEX)
			index_ahead(r, wk);
	} else if (r->w && !__atomic_load_n(&fl->demand, __ATOMIC_RELAXED)) {
		__atomic_store_n(&fl->demand, true, __ATOMIC_RELAXED);
		__atomic_store_n(&fl->deadline_ns, r->deadline_ns, __ATOMIC_RELAXED);
		f->room = true; /* look at the backlog again */
		pthread_cond_signal(&f->wake);
	}
	list_add_tail(&r->node, &fl->waiters);
	fetch_req_link(r, fl->get_op_id);
	return 0;
}

/* The same, complete; r may be gone if it is 0. */
static int req_enqueue(struct fetch_req *r, enum walk_result need, const struct walk *wk)
{
	enum flight_kind kind = need == WALK_INDEX ? FLIGHT_INDEX : FLIGHT_BLOCK;
	struct flight *direct = NULL;
	struct fetcher *f = r->f;
	struct flight_key k;
	int res;

	if (kind == FLIGHT_INDEX && (!wk->me->index_len || wk->me->index_len > FETCH_INDEX_MAX))
		return -EBADMSG;
	if (kind == FLIGHT_BLOCK && (!wk->e.clen || wk->e.clen > 2 * r->m->block_bytes))
		return -EBADMSG;
	flight_key_make(&k, kind, wk->me, &wk->e);
	pthread_mutex_lock(&f->lock);
	res = req_join(r, kind, &k, wk, &direct);
	pthread_mutex_unlock(&f->lock);
	if (direct && !fetch_flight_submit(f, direct)) {
		pthread_mutex_lock(&f->lock);
		fetch_flight_queue(f, direct);
		pthread_mutex_unlock(&f->lock);
	}
	return res;
}

static void req_end(struct fetch_req *r, struct cache_buf *buf, int res)
{
	struct fetch_wait *w = r->w;

	if (w)
		w->done(w, buf, res);
	else
		cache_buf_put(buf);
	manifest_put(r->m);
	free(r);
}

/* Corrupt objects are -EIO for the reader; the details were logged and counted. */
static int reader_error(int res)
{
	return res == -ENOMEM || res == -ECANCELED ? res : -EIO;
}

static bool walk_must_wait(int walked)
{
	return walked == WALK_INDEX || walked == WALK_BLOCK;
}

/* The end of a walk as an answer: 0 with *buf (NULL: zeros), or -errno. */
static int walk_answer(int walked, const struct walk *wk, struct cache_buf **buf)
{
	*buf = walked == WALK_HIT ? wk->buf : NULL;
	return walked < 0 ? reader_error(walked) : 0;
}

/* Park r (on the heap) at a flight: -EINPROGRESS, r is gone; else the answer, which came meanwhile.
 */
static int req_park(struct fetch_req *r, int walked, struct walk *wk, struct cache_buf **buf)
{
	while (walk_must_wait(walked)) {
		int res = req_enqueue(r, walked, wk);

		if (!res)
			return -EINPROGRESS;
		walked = res == -EAGAIN ? req_walk(r, NULL, wk) : res;
	}
	return walk_answer(walked, wk, buf);
}

void fetch_req_run(struct fetch_req *r, struct cache_buf *idx)
{
	struct cache_buf *buf;
	struct walk wk;
	int res = req_park(r, req_walk(r, idx, &wk), &wk, &buf);

	if (res != -EINPROGRESS)
		req_end(r, buf, res);
}

/* Begin a request that was prepared on the stack; it moves to the heap only if it has to wait. */
static int req_start(struct fetch_req *proto, struct cache_buf **buf)
{
	struct fetch_req *r;
	struct walk wk;
	int res = req_walk(proto, NULL, &wk);

	if (!walk_must_wait(res))
		return walk_answer(res, &wk, buf);
	r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = *proto;
	manifest_get(r->m);
	r->deadline_ns = now_ns() + r->f->cfg.timeout_ns;
	r->w->span = 0;
	if (r->w->waits)
		r->w->waits(r->w);
	res = req_park(r, res, &wk, buf);
	if (res != -EINPROGRESS) {
		manifest_put(r->m);
		free(r);
	}
	return res;
}

void fetch_flight_end(struct flight *fl, struct cache_buf *buf, int res)
{
	struct flight **p = flight_bucket(fl->f, &fl->key);
	struct fetcher *f = fl->f;
	struct fetch_req *r, *n;
	struct list_head waiters;
	uint64_t now = now_ns();
	bool stop;

	pthread_mutex_lock(&f->lock);
	while (*p != fl)
		p = &(*p)->hash_next;
	*p = fl->hash_next;
	list_splice_init(&fl->waiters, &waiters);
	stop = f->stop;
	pthread_mutex_unlock(&f->lock);

	/* Those that waited for an index all want blocks now. */
	fetch_plug();
	list_for_each_entry_safe (r, n, &waiters, node) {
		if (!res && r->want == WANT_BLOCK && fl->key.kind == FLIGHT_BLOCK)
			req_end(r, cache_buf_get(buf), 0);
		else if (!res)
			fetch_req_run(r, cache_buf_get(buf));
		else if (res == -ETIMEDOUT && r->deadline_ns > now + FETCH_WORTH_NS && !stop)
			fetch_req_run(r, NULL); /* it came later than the flight's first waiter */
		else
			req_end(r, NULL, reader_error(res));
	}
	fetch_unplug(f);
	cache_buf_put(buf);
	free(fl);
	pthread_mutex_lock(&f->lock);
	if (!--f->nr_flights && f->stop)
		pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

void fetch_ahead_run(struct fetcher *f, const struct ahead_job *job)
{
	for (uint32_t i = 0; i < job->count; i++) {
		struct fetch_req *r = calloc(1, sizeof(*r));

		if (!r)
			return;
		r->f = f;
		r->m = manifest_get(job->m);
		r->want = WANT_BLOCK;
		r->block = job->block + i;
		/* Short of a reader's, so that one that joins has time left for an attempt of its
		 * own. */
		r->deadline_ns = now_ns() + f->cfg.timeout_ns / 2;
		fetch_req_run(r, NULL);
	}
}

int fetch_block(struct fetcher *f, struct manifest *m, uint64_t block, struct fetch_wait *w,
		struct cache_buf **buf)
{
	struct fetch_req proto = {.f = f, .w = w, .m = m, .want = WANT_BLOCK, .block = block};

	*buf = NULL;
	if (!m || !m->nr_entries)
		return 0;
	/* The volume has grown since: zeros. */
	if (block >= DIV_ROUND_UP(m->size_bytes, m->block_bytes))
		return 0;
	if (f->cfg.prefetch_blocks)
		fetch_stream_note(f, m, block);
	return req_start(&proto, buf);
}

/* A thread that waits for one answer; lives on its stack. */
struct sync_wait {
	struct fetch_wait w;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool ended;
	struct cache_buf *buf;
	int res;
};

static void sync_done(struct fetch_wait *w, struct cache_buf *buf, int res)
{
	struct sync_wait *sw = container_of(w, struct sync_wait, w);

	pthread_mutex_lock(&sw->lock);
	sw->buf = buf;
	sw->res = res;
	sw->ended = true;
	pthread_cond_signal(&sw->cond);
	pthread_mutex_unlock(&sw->lock);
}

int fetch_block_sync(struct fetcher *f, struct manifest *m, uint64_t block, uint64_t op_id,
		     struct cache_buf **buf)
{
	struct sync_wait sw = {.w = {.done = sync_done, .op_id = op_id},
			       .lock = PTHREAD_MUTEX_INITIALIZER};
	struct fetch_req proto = {.f = f, .w = &sw.w, .m = m, .want = WANT_BLOCK, .block = block};
	int res;

	*buf = NULL;
	if (!m || !m->nr_entries)
		return 0;
	/* The volume has grown since: zeros. */
	if (block >= DIV_ROUND_UP(m->size_bytes, m->block_bytes))
		return 0;
	cond_init_mono(&sw.cond);
	res = req_start(&proto, buf);
	if (res == -EINPROGRESS) {
		pthread_mutex_lock(&sw.lock);
		while (!sw.ended)
			pthread_cond_wait(&sw.cond, &sw.lock);
		pthread_mutex_unlock(&sw.lock);
		res = sw.res;
		*buf = sw.buf;
	}
	pthread_cond_destroy(&sw.cond);
	pthread_mutex_destroy(&sw.lock);
	return res;
}

int fetch_index_get(struct fetcher *f, struct manifest *m, const struct manifest_entry *me,
		    struct fetch_wait *w, struct cache_buf **buf)
{
	struct fetch_req proto = {.f = f, .w = w, .m = m, .want = WANT_INDEX, .index = me};

	*buf = NULL;
	return req_start(&proto, buf);
}

void fetch_index_add(struct fetcher *f, const struct manifest_entry *me, uint32_t block_bytes,
		     const void *section, size_t len)
{
	struct cache_buf *buf;
	struct fmt_err err;

	if (fetch_index_load(section, len, me, block_bytes, &buf, &err))
		return;
	cache_insert(f->indexes, me->index_sha256, buf);
	cache_buf_put(buf);
}

struct fetcher *fetcher_create(struct store *store, struct cache *blocks, struct cache *indexes,
			       struct pool *compute, const struct fetch_config *cfg)
{
	struct fetcher *f = calloc(1, sizeof(*f));
	struct cache_stats cs;

	if (!f)
		return NULL;
	cache_stats_read(blocks, &cs);
	/* What the cache gives to new blocks when it is full of used ones: no more, or blocks leave
	 * before they are read. */
	f->ahead_bytes = cs.budget_bytes / 10;
	f->store = store;
	f->blocks = blocks;
	f->indexes = indexes;
	f->compute = compute;
	f->cfg = *cfg;
	f->cfg.max_get_bytes = MAX(cfg->max_get_bytes, 64 * KiB);
	pthread_mutex_init(&f->lock, NULL);
	pthread_mutex_init(&f->stream_lock, NULL);
	cond_init_mono(&f->wake);
	list_init(&f->submitq);
	list_init(&f->ahead);
	list_init(&f->backlog);
	if (!fetch_local_start(f) && !fetch_dispatcher_start(f))
		return f;
	fetch_local_stop(f);
	pthread_cond_destroy(&f->wake);
	free(f);
	return NULL;
}

void fetcher_destroy(struct fetcher *f)
{
	struct ahead_job *job, *n;

	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->dispatcher, NULL);
	fetch_local_stop(f);
	fetch_spare_free(f);
	list_for_each_entry_safe (job, n, &f->ahead, node) {
		manifest_put(job->m);
		free(job);
	}
	pthread_cond_destroy(&f->wake);
	pthread_mutex_destroy(&f->lock);
	pthread_mutex_destroy(&f->stream_lock);
	free(f);
}

void fetch_stats_read(struct fetcher *f, struct fetch_stats *out)
{
	const uint64_t *from = (const uint64_t *)&f->stats;
	uint64_t *to = (uint64_t *)out;

	for (size_t i = 0; i < sizeof(*out) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
