// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fetcher's dispatcher thread: forms range GETs out of the flights that wait, submits them
 * within the bound of bytes in flight, and keeps the time of retries. A completion of a GET (a
 * store's thread) hands each flight to the compute pool to be verified, or back to the dispatcher
 * to be tried again.
 */
#include "engine/fetch_priv.h"
#include "engine/store_call.h"
#include "lib/log.h"

#include <string.h>
#include <sys/prctl.h>

#define ATTEMPT_MIN_NS (1 * NSEC_PER_SEC)
#define ATTEMPTS       3 /* of timeout_ns, when each one hangs */

#define VERIFY_JOBS     8
#define VERIFY_HERE_MAX (64 * KiB) /* a block of so many bytes takes 0.1 ms */

struct verify_job {
	struct pool_job job;
	struct get *g;
};

/* One range GET and the flights it serves. */
struct get {
	struct store_op op;
	char key[STORE_KEY_MAX];
	struct fetcher *f;
	int refs; /* atomic: one for each flight that still reads op.buf */
	int jobs; /* atomic: those that still look for a flight; the last one frees this */
	uint64_t cost;
	struct verify_job job[VERIFY_JOBS];
	uint32_t next; /* atomic: flight to be verified by a job that has ended its own */
	uint32_t nr;
	struct flight *flight[];
};

static uint64_t flight_deadline(const struct flight *fl)
{
	return __atomic_load_n(&fl->deadline_ns, __ATOMIC_RELAXED);
}

static bool flight_demand(const struct flight *fl)
{
	return __atomic_load_n(&fl->demand, __ATOMIC_RELAXED);
}

/* A flight no longer reads the buffer, and is about to end: the fetcher may go away with it. */
static void get_put(struct get *g)
{
	struct fetcher *f = g->f;

	if (__atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL))
		return;
	__atomic_fetch_sub(&f->stats.inflight_bytes, g->cost, __ATOMIC_RELAXED);
	pthread_mutex_lock(&f->lock);
	if (fetch_spare_put(f, g->op.buf, g->op.len))
		g->op.buf = NULL;
	f->room = true;
	if (f->backlogged)
		pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
	free(g->op.buf);
	g->op.buf = NULL;
}

/* Once per pack: the same bad object is met again at every read. */
static void log_bad(struct flight *fl, int res, const char *why)
{
	struct fetcher *f = fl->f;
	char key[STORE_KEY_MAX];
	bool known = false;

	pthread_mutex_lock(&f->lock);
	for (unsigned int i = 0; i < MIN(f->nr_logged, ARRAY_SIZE(f->logged)); i++)
		known |= !memcmp(f->logged[i], fl->me.pack_id, PACK_ID_LEN);
	if (!known)
		memcpy(f->logged[f->nr_logged++ % ARRAY_SIZE(f->logged)], fl->me.pack_id,
		       PACK_ID_LEN);
	pthread_mutex_unlock(&f->lock);
	if (known)
		return;
	pack_key(fl->me.chunk, fl->me.pack_id, key, sizeof(key));
	log_err("%s: bytes %llu+%u (%s %u): %s (%s); reads of them fail", key,
		(unsigned long long)fl->off, fl->len,
		fl->key.kind == FLIGHT_INDEX ? "index, blocks" : "block",
		fl->key.kind == FLIGHT_INDEX ? fl->me.nblocks : fl->e.block, why, strerror(-res));
}

static void flight_requeue(struct flight *fl, uint64_t not_before_ns)
{
	struct fetcher *f = fl->f;

	fl->not_before_ns = not_before_ns;
	fetch_count(&f->stats.retries, 1);
	pthread_mutex_lock(&f->lock);
	list_add_tail(&fl->node, &f->submitq);
	pthread_cond_signal(&f->wake);
	pthread_mutex_unlock(&f->lock);
}

/* A failure that another attempt is not expected to cure; one is made in case the transfer was bad.
 */
static void flight_bad(struct flight *fl, int res, const char *why)
{
	fetch_count(&fl->f->stats.corrupt, 1);
	if (fl->bad++) {
		log_bad(fl, res, why);
		fetch_flight_end(fl, NULL, -EIO);
		return;
	}
	fl->alone = true;
	flight_requeue(fl, now_ns());
}

static void flight_failed(struct flight *fl, int res)
{
	uint64_t now = now_ns(), deadline = flight_deadline(fl);

	if (res == -ENOENT || res == -ERANGE) {
		flight_bad(fl, res, "the object is missing or too short");
		return;
	}
	if (now + FETCH_WORTH_NS >= deadline) {
		fetch_count(&fl->f->stats.timeouts, 1);
		fetch_flight_end(fl, NULL, -ETIMEDOUT);
		return;
	}
	flight_requeue(fl, now + MIN(store_backoff_ns(++fl->attempts), (deadline - now) / 2));
}

int fetch_index_load(const void *raw, size_t len, const struct manifest_entry *me,
		     uint32_t block_bytes, struct cache_buf **out, struct fmt_err *err)
{
	struct pack_index *idx;
	struct cache_buf *buf;
	size_t size;
	int res = pack_index_parse(raw, len, me, block_bytes, &idx, err);

	if (res)
		return res;
	size = sizeof(*idx) + idx->nr * sizeof(idx->e[0]);
	buf = cache_buf_new((uint32_t)size);
	if (buf)
		memcpy(buf->data, idx, size);
	free(idx);
	*out = buf;
	return buf ? 0 : -ENOMEM;
}

static int flight_verify(struct flight *fl, const void *stored, struct cache_buf **out,
			 struct fmt_err *err)
{
	struct cache_buf *buf;
	int res;

	if (fl->key.kind == FLIGHT_INDEX) {
		res = fetch_index_load(stored, fl->len, &fl->me, fl->block_bytes, out, err);
		if (!res) {
			cache_insert(fl->f->indexes, fl->key.sha256, *out);
			fetch_local_put(fl, stored);
		}
		return res;
	}
	buf = cache_buf_new(fl->block_bytes);
	if (!buf)
		return -ENOMEM;
	res = block_decode(&fl->e, stored, buf->data, fl->block_bytes);
	if (res) {
		cache_buf_put(buf);
		return res;
	}
	cache_insert(fl->f->blocks, fl->key.sha256, buf);
	fetch_local_put(fl, stored);
	*out = buf;
	return 0;
}

static void flight_verify_and_end(struct flight *fl)
{
	struct fmt_err err = {"the content does not match its hash"};
	struct get *g = fl->get;
	struct cache_buf *buf = NULL;
	int res = flight_verify(fl, (uint8_t *)g->op.buf + (fl->off - g->op.off), &buf, &err);

	fl->get = NULL;
	get_put(g);
	if (!res || res == -ENOMEM)
		fetch_flight_end(fl, buf, res);
	else
		flight_bad(fl, res, err.msg);
}

/* Compute pool: a few jobs share the flights of a GET, for one each would be a wake-up each. */
static void get_verify_job(struct pool_job *job)
{
	struct verify_job *vj = container_of(job, struct verify_job, job);
	struct get *g = vj->g;
	uint32_t i = (uint32_t)(vj - g->job);

	for (; i < g->nr; i = __atomic_fetch_add(&g->next, 1, __ATOMIC_RELAXED))
		flight_verify_and_end(g->flight[i]);
	if (!__atomic_sub_fetch(&g->jobs, 1, __ATOMIC_ACQ_REL))
		free(g);
}

/*
 * One block, and nothing else is under way: verified where it arrived, it is there a wake-up
 * earlier, and nobody waits for this thread meanwhile.
 */
static bool get_is_alone(const struct get *g)
{
	const struct flight *fl = g->flight[0];

	return g->nr == 1 && fl->key.kind == FLIGHT_BLOCK && fl->block_bytes <= VERIFY_HERE_MAX &&
	       __atomic_load_n(&g->f->stats.inflight_bytes, __ATOMIC_RELAXED) == g->cost;
}

/* A store's thread. */
static void get_done(struct store_op *op)
{
	struct get *g = op->ctx;
	struct fetcher *f = g->f;
	int res = op->res;

	if (!res && op->size_out != op->len)
		res = op->object_size < op->off + op->len ? -ERANGE : -ENODATA;
	if (!res)
		fetch_count(&f->stats.get_bytes, op->len);
	if (!res) {
		struct pool *compute = f->compute;
		uint32_t jobs = MIN(g->nr, VERIFY_JOBS);

		/*
		 * Each begins with a flight of its own, so that while one is not submitted yet a
		 * flight has not ended, and fetcher and pool are there.
		 */
		g->jobs = (int)jobs;
		g->next = jobs;
		if (get_is_alone(g)) {
			g->job[0].g = g;
			get_verify_job(&g->job[0].job);
			return;
		}
		for (uint32_t i = 0; i < jobs; i++) {
			g->job[i].g = g;
			g->job[i].job.run = get_verify_job;
			pool_submit(compute, &g->job[i].job);
		}
		return;
	}
	__atomic_store_n(&g->refs, 1, __ATOMIC_RELAXED);
	get_put(g);
	for (uint32_t i = 0; i < g->nr; i++) {
		g->flight[i]->get = NULL;
		flight_failed(g->flight[i], res);
	}
	free(g);
}

/* ---- GETs ---- */

/* What a GET holds until it is verified: a verified block is the cache's, an index is parsed
 * beside. */
static uint64_t flight_cost(const struct flight *fl)
{
	return fl->key.kind == FLIGHT_BLOCK ? fl->len : 2 * (uint64_t)fl->len;
}

/* By place, so that what can share a GET is adjacent. */
static int flight_cmp(const void *pa, const void *pb)
{
	const struct flight *a = *(struct flight *const *)pa, *b = *(struct flight *const *)pb;
	int r;

	if (a->key.kind != b->key.kind)
		return a->key.kind < b->key.kind ? -1 : 1;
	r = memcmp(a->me.pack_id, b->me.pack_id, PACK_ID_LEN);
	if (r)
		return r;
	return a->off < b->off ? -1 : a->off > b->off;
}

static int group_cmp(const void *pa, const void *pb)
{
	const struct fetch_group *a = pa, *b = pb;

	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static bool can_join(const struct fetcher *f, const struct flight *first, const struct flight *last,
		     const struct flight *fl)
{
	uint64_t end = last->off + last->len;

	/* Read-ahead in several GETs at once is faster than in one. */
	uint64_t max = flight_demand(first) ? f->cfg.max_get_bytes
					    : MIN(f->cfg.max_get_bytes, FETCH_AHEAD_GET_MAX);

	return fl->key.kind == FLIGHT_BLOCK && last->key.kind == FLIGHT_BLOCK && !fl->alone &&
	       !first->alone && !memcmp(fl->me.pack_id, first->me.pack_id, PACK_ID_LEN) &&
	       fl->me.chunk == first->me.chunk && fl->off >= end &&
	       fl->off - end <= FETCH_GAP_MAX && fl->off + fl->len - first->off <= max;
}

/* All that wait for the flights of this GET wait for its operation now. */
static void get_link(struct get *g)
{
	struct fetcher *f = g->f;
	struct fetch_req *r;

	SCOPED_LOCK(&f->lock);
	for (uint32_t i = 0; i < g->nr; i++) {
		g->flight[i]->get_op_id = g->op.op_id;
		list_for_each_entry (r, &g->flight[i]->waiters, node)
			fetch_req_link(r, g->op.op_id);
	}
}

/* Which attempt the flight is about to make, from 1. */
static unsigned int flight_attempt(const struct flight *fl)
{
	return fl->attempts + fl->bad + 1;
}

/* A GET that brings `nr` flights, which are in no list, in the order of their places. NULL: no
 * memory. */
static struct get *get_new(struct fetcher *f, struct flight **member, uint32_t nr,
			   enum store_prio prio, uint64_t cost)
{
	const struct flight *first = member[0], *last = member[nr - 1];
	uint64_t now = now_ns(), attempt = MAX(f->cfg.timeout_ns / ATTEMPTS, ATTEMPT_MIN_NS);
	struct get *g = calloc(1, sizeof(*g) + nr * sizeof(g->flight[0]));

	if (!g)
		return NULL;
	g->op.len = last->off + last->len - first->off;
	g->op.buf = fetch_spare_get(f, g->op.len);
	if (!g->op.buf) {
		free(g);
		return NULL;
	}
	g->f = f;
	g->refs = (int)nr;
	g->nr = nr;
	g->cost = cost;
	g->op.type = STORE_GET;
	g->op.prio = prio;
	g->op.key = g->key;
	pack_key(first->me.chunk, first->me.pack_id, g->key, sizeof(g->key));
	g->op.op_id = first->op_id;
	g->op.volume = first->volume;
	g->op.off = first->off;
	g->op.buf_size = g->op.len;
	g->op.deadline_ns = now + attempt;
	g->op.done = get_done;
	g->op.ctx = g;
	for (uint32_t i = 0; i < nr; i++) {
		member[i]->get = g;
		g->flight[i] = member[i];
		g->op.attempt = MAX(g->op.attempt, flight_attempt(member[i]));
		g->op.deadline_ns = MIN(g->op.deadline_ns, flight_deadline(member[i]));
	}
	return g;
}

/* It may be gone when this returns, with its flights. */
static void get_submit(struct get *g)
{
	struct fetcher *f = g->f;

	fetch_count(&f->stats.gets, 1);
	fetch_count(&f->stats.coalesced, g->nr - 1);
	fetch_count(&f->stats.inflight_bytes, g->cost);
	get_link(g);
	store_submit(f->store, &g->op);
}

bool fetch_flight_submit(struct fetcher *f, struct flight *fl)
{
	uint64_t used = __atomic_load_n(&f->stats.inflight_bytes, __ATOMIC_RELAXED);
	uint64_t cost = flight_cost(fl);
	struct get *g;

	if (used + cost > FETCH_INFLIGHT_MAX / 2)
		return false;
	g = get_new(f, &fl, 1, STORE_PRIO_READ, cost);
	if (!g)
		return false;
	fetch_count(&f->stats.direct, 1);
	get_submit(g);
	return true;
}

/* ---- dispatcher's thread ---- */

static void group_submit(struct fetcher *f, const struct fetch_group *gr, enum store_prio prio,
			 uint64_t cost)
{
	struct flight **member = &f->form[gr->first];
	struct get *g;

	for (uint32_t i = 0; i < gr->nr; i++)
		list_del(&member[i]->node);
	g = get_new(f, member, gr->nr, prio, cost);
	if (g) {
		get_submit(g);
		return;
	}
	for (uint32_t i = 0; i < gr->nr; i++)
		fetch_flight_end(member[i], NULL, -ENOMEM);
}

/* Drop what is too late. Returns when to look again (0 = nothing waits for time). */
static uint64_t backlog_expire(struct fetcher *f, uint64_t now, bool stop)
{
	struct flight *fl, *n;
	uint64_t next = 0;

	list_for_each_entry_safe (fl, n, &f->backlog, node) {
		uint64_t deadline = flight_deadline(fl);
		uint64_t at = fl->not_before_ns > now ? fl->not_before_ns : deadline;

		if (stop || deadline <= now) {
			list_del(&fl->node);
			if (!stop)
				fetch_count(&f->stats.timeouts, 1);
			fetch_flight_end(fl, NULL, stop ? -ECANCELED : -ETIMEDOUT);
		} else if (!next || at < next) {
			next = at;
		}
	}
	return next;
}

/* Form and submit the GETs of one class; what does not fit stays in the backlog and may grow there.
 */
static void backlog_submit(struct fetcher *f, uint64_t now, bool demand)
{
	static const uint64_t limit[] = {FETCH_INFLIGHT_MAX / 2, FETCH_INFLIGHT_MAX};
	uint32_t nr = 0, nr_groups = 0;
	struct flight *fl;

	list_for_each_entry (fl, &f->backlog, node) {
		if (nr == ARRAY_SIZE(f->form))
			break;
		if (fl->not_before_ns <= now && flight_demand(fl) == demand)
			f->form[nr++] = fl;
	}
	qsort(f->form, nr, sizeof(f->form[0]), flight_cmp);
	for (uint32_t i = 0; i < nr; i++) {
		struct fetch_group *gr = nr_groups ? &f->group[nr_groups - 1] : NULL;

		fl = f->form[i];
		if (gr && can_join(f, f->form[gr->first], f->form[i - 1], fl)) {
			gr->nr++;
			gr->seq = MIN(gr->seq, fl->seq);
		} else {
			f->group[nr_groups++] =
				(struct fetch_group){.first = i, .nr = 1, .seq = fl->seq};
		}
	}
	qsort(f->group, nr_groups, sizeof(f->group[0]), group_cmp);
	for (uint32_t i = 0; i < nr_groups; i++) {
		uint64_t used = __atomic_load_n(&f->stats.inflight_bytes, __ATOMIC_RELAXED);
		uint64_t cost = 0;

		for (uint32_t j = 0; j < f->group[i].nr; j++)
			cost += flight_cost(f->form[f->group[i].first + j]);
		if (used && used + cost > limit[demand])
			break; /* the end of a GET makes room and wakes us */
		group_submit(f, &f->group[i], demand ? STORE_PRIO_READ : STORE_PRIO_PREFETCH, cost);
	}
}

static void ahead_run(struct fetcher *f, struct list_head *jobs, bool stop)
{
	struct ahead_job *job, *n;

	list_for_each_entry_safe (job, n, jobs, node) {
		uint64_t used = __atomic_load_n(&f->stats.inflight_bytes, __ATOMIC_RELAXED);

		if (!stop && used < FETCH_INFLIGHT_MAX / 2)
			fetch_ahead_run(f, job);
		manifest_put(job->m);
		free(job);
	}
}

static bool dispatcher_idle(struct fetcher *f, uint64_t next)
{
	if (!list_empty(&f->submitq) || !list_empty(&f->ahead))
		return false;
	if (f->spare_put_ns && !f->spare_timed)
		return false;
	if (f->stop && (!f->nr_flights || !list_empty(&f->backlog)))
		return false;
	if (f->room && !list_empty(&f->backlog))
		return false;
	return !next || now_ns() < next;
}

static void *dispatcher_run(void *arg)
{
	struct fetcher *f = arg;
	uint64_t next = 0, now;
	bool stop = false;

	prctl(PR_SET_NAME, "gfs-fetch");
	for (;;) {
		struct list_head fresh, jobs;

		pthread_mutex_lock(&f->lock);
		f->backlogged = !list_empty(&f->backlog);
		while (dispatcher_idle(f, next))
			cond_wait_until(&f->wake, &f->lock, next);
		stop = f->stop;
		if (stop && !f->nr_flights) {
			pthread_mutex_unlock(&f->lock);
			return NULL;
		}
		f->room = false;
		f->nr_ahead = 0;
		list_splice_init(&f->ahead, &jobs);
		list_splice_init(&f->submitq, &fresh);
		while (!list_empty(&fresh)) {
			struct list_head *node = fresh.next;

			list_del(node);
			list_add_tail(node, &f->backlog);
		}
		pthread_mutex_unlock(&f->lock);

		now = now_ns();
		next = backlog_expire(f, now, stop);
		backlog_submit(f, now, true);
		backlog_submit(f, now, false);
		ahead_run(f, &jobs, stop);
		next = fetch_spare_tick(f, now, next);
	}
}

int fetch_dispatcher_start(struct fetcher *f)
{
	return -pthread_create(&f->dispatcher, NULL, dispatcher_run, f);
}
