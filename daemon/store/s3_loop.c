// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The loop of an S3 store: one thread that owns every request from submit to done. It queues them
 * by urgency in front of a bounded number of connections, sends them, repeats what may be repeated,
 * and ends each by its deadline. A few hash threads do the hashing of large bodies; the lock guards
 * the two ways in: operations that are posted, and requests whose body has been hashed.
 *
 * What is repeated: everything that cannot have changed the store, and changes that may be made
 * twice (a PUT or DELETE without a condition). A conditional change whose outcome is unknown is
 * not: its own success would then look like a refusal. It is reported as ambiguous, and its owner,
 * who knows its own bytes again, repeats it (engine/roots.c). A conditional change that was
 * definitely not made (see s3_answer.c, s3_http_may_land()) is repeated here like any other.
 */
#include "store/s3_priv.h"
#include "lib/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define HASHERS           2
#define HASH_INLINE_BYTES (64 * KiB) /* about 50 us */
#define HASH_STEP         (4 * MiB)
#define PAUSE_FIRST_NS    (25 * NSEC_PER_MSEC)
#define PAUSE_MAX_NS      (2 * NSEC_PER_SEC)
#define RETRY_AFTER_MAX_S 20 /* longer, and guests' reads would fail for a server that is back */
#define BAD_ANSWERS_MAX   3
#define SKEW_TRIES_MAX    2
#define SKEW_TOLD_S       5
#define SILENT_NS         (1 * NSEC_PER_SEC) /* a try that ended unanswered after this long is one */
#define POLL_MAX_MS       1000
#define NR_PRIO           4

struct s3_loop {
	pthread_t thread;
	struct pool *hashers;

	pthread_mutex_t lock;    /* up to stop */
	struct list_head posted; /* store_op.node */
	struct list_head hashed; /* s3_req.node */
	bool woken, stop;

	/* The thread's own. */
	struct list_head queue[NR_PRIO], waiting /* parked, paused */, running;
	unsigned int nr_running, nr_running_prio[NR_PRIO], nr_queued;
	uint64_t next_ns; /* nothing is due before */
	uint64_t hold_ns; /* the server asked for silence until then */
	struct s3_breaker breaker;
	struct store_s3_stats stats; /* counters: atomic, written here only */
};

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

static void gauge(uint64_t *g, uint64_t v)
{
	__atomic_store_n(g, v, __ATOMIC_RELAXED);
}

static void due_at(struct s3_loop *l, uint64_t ns)
{
	l->next_ns = MIN(l->next_ns, ns);
}

/* ---- states ---- */

static void req_detach(struct s3_loop *l, struct s3_req *req)
{
	if (req->state == S3_REQ_QUEUED)
		l->nr_queued--;
	if (req->state == S3_REQ_RUNNING) {
		l->nr_running--;
		l->nr_running_prio[req->prio]--;
	}
	if (req->state != S3_REQ_IDLE && req->state != S3_REQ_HASHING)
		list_del(&req->node);
	req->state = S3_REQ_IDLE;
}

static void req_attach(struct s3_loop *l, struct s3_req *req, enum s3_req_state state,
		       struct list_head *list)
{
	req->state = state;
	list_add_tail(&req->node, list);
	due_at(l, req->deadline_ns);
}

static void req_queue(struct s3_loop *l, struct s3_req *req)
{
	req_attach(l, req, S3_REQ_QUEUED, &l->queue[req->prio]);
	l->nr_queued++;
}

static void req_finish(struct s3_loop *l, struct s3_req *req, int res)
{
	req_detach(l, req);
	if (res && req->buf_mine) {
		free(req->buf);
		req->buf = NULL;
		req->buf_mine = false;
	}
	req->res = res;
	if (!res)
		req->ambiguous = false;
	req->done(req);
}

static void req_pause(struct s3_loop *l, struct s3_req *req, uint64_t until_ns)
{
	req->pause_until_ns = until_ns;
	req_attach(l, req, S3_REQ_PAUSED, &l->waiting);
	due_at(l, until_ns);
}

/* ---- hashing ---- */

static void wake_locked(struct s3 *s3)
{
	struct s3_loop *l = s3->loop;

	if (!l->woken)
		curl_multi_wakeup(s3->multi);
	l->woken = true;
}

static int body_hash(struct s3_req *req)
{
	struct hash_stream *h = hash_stream_new();
	uint8_t sum[SHA256_LEN];
	int r = h ? 0 : -ENOMEM;

	for (int i = 0; !r && i < req->iovcnt; i++) {
		const char *p = req->iov[i].iov_base;

		for (size_t n = req->iov[i].iov_len, step; !r && n; n -= step, p += step) {
			step = MIN(n, HASH_STEP);
			r = now_ns() >= req->deadline_ns ? -ETIMEDOUT : 0;
			hash_stream_add(h, p, step);
		}
	}
	if (h)
		hash_stream_end(h, sum);
	if (!r)
		hex_encode(sum, sizeof(sum), req->payload);
	return r;
}

/* A hash thread. */
static void hash_job(struct pool_job *job)
{
	struct s3_req *req = container_of(job, struct s3_req, job);
	struct s3 *s3 = req->s3;
	struct s3_loop *l = s3->loop;

	req->hash_res = body_hash(req);
	pthread_mutex_lock(&l->lock);
	list_add_tail(&req->node, &l->hashed);
	wake_locked(s3);
	pthread_mutex_unlock(&l->lock);
}

void s3_req_submit(struct s3 *s3, struct s3_req *req)
{
	struct s3_loop *l = s3->loop;
	int r = 0;

	req->s3 = s3;
	req->tries = req->bad_tries = req->skew_tries = req->reload_tries = 0;
	req->ambiguous = false;
	req->body_bytes = 0;
	for (int i = 0; i < req->iovcnt; i++)
		req->body_bytes += req->iov[i].iov_len;
	if (req->body_bytes && !req->payload[0]) {
		if (req->body_bytes > HASH_INLINE_BYTES) {
			req->state = S3_REQ_HASHING;
			req->job.run = hash_job;
			pool_submit(l->hashers, &req->job);
			return;
		}
		r = body_hash(req);
	}
	/* Through the queue also to fail: its owner is not called back from within. */
	req->hash_res = r;
	req_queue(l, req);
}

void s3_req_park(struct s3 *s3, struct s3_req *req)
{
	req->s3 = s3;
	req->ambiguous = false;
	req_attach(s3->loop, req, S3_REQ_PARKED, &s3->loop->waiting);
}

void s3_req_unpark(struct s3 *s3, int res)
{
	struct s3_loop *l = s3->loop;
	struct list_head free_now;
	struct s3_req *req, *n;

	list_init(&free_now);
	list_for_each_entry_safe (req, n, &l->waiting, node) {
		if (req->state != S3_REQ_PARKED)
			continue;
		list_del(&req->node);
		list_add_tail(&req->node, &free_now);
	}
	/* The one that is done may submit and free, but only itself. */
	while (!list_empty(&free_now))
		req_finish(l, list_first_entry(&free_now, struct s3_req, node), res);
}

void s3_req_cancel(struct s3 *s3, struct s3_req *req)
{
	if (req->state == S3_REQ_RUNNING)
		s3_http_stop(s3, req);
	req_detach(s3->loop, req);
}

void s3_req_fini(struct s3_req *req)
{
	free(req->path);
	free(req->query);
	req->path = req->query = NULL;
}

/* ---- one try ---- */

static uint64_t pause_ns(unsigned int tries)
{
	uint64_t ns = MIN(PAUSE_FIRST_NS << MIN(tries, 10u), PAUSE_MAX_NS);
	uint32_t rnd;

	random_bytes(&rnd, sizeof(rnd));
	return ns / 2 + ns / 2 * (rnd % 1024) / 1024;
}

static bool creds_reload(struct s3 *s3)
{
	struct s3_creds n = {0};
	char err[320] = "";
	bool changed;

	if (s3_creds_load(&s3->source, &n, err, sizeof(err))) {
		s3_problem(s3, S3_ABOUT_CREDENTIALS, "%s", err);
		return false;
	}
	changed = !s3_creds_equal(&n, &s3->creds);
	s3_creds_free(&s3->creds);
	s3->creds = n;
	s3->creds_serial += changed;
	s3_mended(s3, S3_ABOUT_CREDENTIALS);
	return changed;
}

static bool skew_correct(struct s3 *s3, const struct s3_req *req)
{
	int64_t skew = (int64_t)req->answer.date - (int64_t)(wall_ns() / NSEC_PER_SEC);

	if (!req->answer.date)
		return false;
	/* Those that were in flight find the same. */
	if (llabs(skew - s3->skew_s) > SKEW_TOLD_S)
		log_warn(
			"store %s: the clock of this host is %lld s %s the server's: corrected for "
			"requests; set it",
			s3->s.url, (long long)(skew < 0 ? -skew : skew),
			skew < 0 ? "ahead of" : "behind");
	s3->skew_s = skew;
	return true;
}

/* A try that got no answer for as long as it could wait. */
static void silence(struct s3 *s3, const struct s3_req *req)
{
	if (s3_http_unheard(req))
		s3->doubt_ns = now_ns();
}

static bool may_repeat(const struct s3_req *req)
{
	return !req->ambiguous || req->match == S3_MATCH_NONE;
}

static void breaker_report(struct s3 *s3, const struct s3_req *req, bool known, bool good)
{
	struct s3_loop *l = s3->loop;
	struct s3_breaker *b = &l->breaker;
	enum s3_breaker_state before = b->state;

	s3_breaker_result(b, known, good, now_ns());
	if (before == S3_BREAKER_CLOSED && b->state == S3_BREAKER_OPEN)
		s3_report_down(s3, req, b->failures);
	gauge(&l->stats.breaker_opens, b->opens);
}

/* Another try after a pause, or the end. */
static void req_again(struct s3 *s3, struct s3_req *req, const struct s3_verdict *v)
{
	struct s3_loop *l = s3->loop;
	uint64_t now = now_ns(), until = now;
	bool bad = v->res == -EPROTO || v->res == -ENODATA;

	if (v->class == S3_THROTTLE && req->answer.retry_after_s) {
		uint64_t s = MIN(req->answer.retry_after_s, RETRY_AFTER_MAX_S);

		l->hold_ns = MAX(l->hold_ns, now + s * NSEC_PER_SEC);
	}
	if (!may_repeat(req) || (bad && ++req->bad_tries >= BAD_ANSWERS_MAX)) {
		req_finish(l, req, v->res);
		return;
	}
	if (v->class == S3_AGAIN || v->class == S3_THROTTLE)
		until += pause_ns(req->tries);
	if (until >= req->deadline_ns) {
		req_finish(l, req, v->res);
		return;
	}
	count(&l->stats.retries, 1);
	req_detach(l, req);
	req_pause(l, req, until);
}

/* A try has an answer, or failed. */
static void req_ended(struct s3 *s3, struct s3_req *req, CURLcode code)
{
	struct s3_loop *l = s3->loop;
	struct s3_verdict v = s3_http_verdict(req, code);
	bool mutates = req->method == S3_PUT || req->method == S3_DELETE;
	long connects = 0;

	if (code == CURLE_OPERATION_TIMEDOUT)
		silence(s3, req);
	curl_easy_getinfo(req->easy, CURLINFO_NUM_CONNECTS, &connects);
	s3_http_stop(s3, req);
	count(&l->stats.connections, (uint64_t)MAX(connects, 0L));
	count(&l->stats.sent_bytes, req->body_sent);
	count(&l->stats.received_bytes, req->got);
	count(&l->stats.failures, v.sick);
	count(&l->stats.throttled, v.class == S3_THROTTLE);
	breaker_report(s3, req, true, !v.sick);
	if (v.sick)
		s3_probe_heard(s3, s3->caps.probed); /* nobody waits for it to get well */
	else
		s3_mended(s3, S3_ABOUT_CONNECTION);
	if (v.res && mutates && !v.definite)
		req->ambiguous = true;
	if (v.class == S3_SKEW && req->skew_tries++ < SKEW_TRIES_MAX && skew_correct(s3, req)) {
		req_again(s3, req, &v);
		return;
	}
	/* Others may have been loaded while it was out. */
	if (v.class == S3_RELOAD && !req->reload_tries++ &&
	    (req->creds_serial != s3->creds_serial || creds_reload(s3))) {
		req_again(s3, req, &v);
		return;
	}
	if (v.advice)
		s3_report(s3, req, &v);
	else if (!v.res)
		s3_mended(s3, s3_about(req));
	if (v.class == S3_AGAIN || v.class == S3_THROTTLE)
		req_again(s3, req, &v);
	else
		req_finish(l, req, v.res);
}

/* The deadline has passed. */
static void req_expired(struct s3 *s3, struct s3_req *req)
{
	if (req->state == S3_REQ_RUNNING) {
		bool stuck = !req->answer.status && now_ns() - req->attempt_ns >= SILENT_NS &&
			     (!req->body_sent || req->body_sent == req->body_bytes);

		req->ambiguous |= s3_http_may_land(req);
		if (stuck)
			silence(s3, req);
		s3_http_stop(s3, req);
		count(&s3->loop->stats.failures, stuck);
		breaker_report(s3, req, stuck, false);
	}
	req_finish(s3->loop, req, -ETIMEDOUT);
}

static void req_start(struct s3 *s3, struct s3_req *req)
{
	struct s3_loop *l = s3->loop;
	int r = req->hash_res;

	/* A file with credentials may have come since. */
	if (!r && !s3->creds.id)
		(void)creds_reload(s3);
	req_detach(l, req);
	req->tries++;
	req->attempt_ns = now_ns();
	req->creds_serial = s3->creds_serial;
	if (!r)
		r = s3_http_start(s3, req);
	if (r) {
		breaker_report(s3, req, false, false);
		req_finish(l, req, r);
		return;
	}
	count(&l->stats.requests, 1);
	req_attach(l, req, S3_REQ_RUNNING, &l->running);
	l->nr_running++;
	l->nr_running_prio[req->prio]++;
}

/* ---- scheduling ---- */

/*
 * Strict order of urgency, within these bounds on the connections in use: one is always left to
 * uploads and one to metadata however many reads there are; bulk, uploads above all, never takes
 * all, so that a read does not wait for a pack to pass. Prefetch alone may starve.
 */
static bool room_for(const struct s3 *s3, enum store_prio prio)
{
	const struct s3_loop *l = s3->loop;
	const unsigned int *n = l->nr_running_prio, max = s3->max_connections;
	unsigned int bulk = n[STORE_PRIO_PREFETCH] + n[STORE_PRIO_UPLOAD];

	if (l->nr_running >= max)
		return false;
	if (prio != STORE_PRIO_UPLOAD && l->nr_running - n[STORE_PRIO_UPLOAD] >= max - 1)
		return false;
	switch (prio) {
	case STORE_PRIO_READ:
		return n[STORE_PRIO_READ] < max - 2;
	case STORE_PRIO_META:
		return true;
	case STORE_PRIO_PREFETCH:
		return bulk < max * 3 / 4;
	case STORE_PRIO_UPLOAD:
		return !n[STORE_PRIO_UPLOAD] ||
		       (bulk < max * 3 / 4 && n[STORE_PRIO_UPLOAD] < max / 2);
	}
	return false;
}

static struct s3_req *next_req(struct s3 *s3)
{
	struct s3_loop *l = s3->loop;

	for (int p = 0; p < NR_PRIO; p++)
		if (!list_empty(&l->queue[p]) && room_for(s3, (enum store_prio)p))
			return list_first_entry(&l->queue[p], struct s3_req, node);
	return NULL;
}

static void dispatch(struct s3 *s3)
{
	struct s3_loop *l = s3->loop;
	struct s3_req *req;

	while ((req = next_req(s3))) {
		uint64_t now = now_ns();

		if (now < l->hold_ns) {
			due_at(l, l->hold_ns);
			return;
		}
		if (!s3_breaker_take(&l->breaker, now)) {
			if (l->breaker.state == S3_BREAKER_OPEN)
				due_at(l, l->breaker.until_ns);
			return;
		}
		req_start(s3, req);
	}
}

static void scan(struct s3_loop *l, struct list_head *list, uint64_t now, struct list_head *due)
{
	struct s3_req *req, *n;

	list_for_each_entry_safe (req, n, list, node) {
		bool over = now >= req->deadline_ns;

		if (over || (req->state == S3_REQ_PAUSED && now >= req->pause_until_ns)) {
			list_del(&req->node);
			list_add_tail(&req->node, due);
			continue;
		}
		due_at(l, req->deadline_ns);
		if (req->state == S3_REQ_PAUSED)
			due_at(l, req->pause_until_ns);
	}
}

/* Deadlines and ends of pauses. */
static void clock_tick(struct s3 *s3, uint64_t now)
{
	struct s3_loop *l = s3->loop;
	struct list_head due;

	if (now < l->next_ns)
		return;
	list_init(&due);
	l->next_ns = UINT64_MAX;
	for (int p = 0; p < NR_PRIO; p++)
		scan(l, &l->queue[p], now, &due);
	scan(l, &l->waiting, now, &due);
	scan(l, &l->running, now, &due);
	while (!list_empty(&due)) {
		struct s3_req *req = list_first_entry(&due, struct s3_req, node);

		if (now >= req->deadline_ns) {
			req_expired(s3, req);
		} else {
			req_detach(l, req);
			req_queue(l, req);
		}
	}
}

/* ---- the thread ---- */

static bool inbox_take(struct s3 *s3)
{
	struct s3_loop *l = s3->loop;
	struct list_head ops, reqs;
	bool stop;

	pthread_mutex_lock(&l->lock);
	list_splice_init(&l->posted, &ops);
	list_splice_init(&l->hashed, &reqs);
	l->woken = false;
	stop = l->stop;
	pthread_mutex_unlock(&l->lock);
	while (!list_empty(&ops)) {
		struct store_op *op = list_first_entry(&ops, struct store_op, node);

		list_del(&op->node);
		s3_op_begin(s3, op);
	}
	while (!list_empty(&reqs)) {
		struct s3_req *req = list_first_entry(&reqs, struct s3_req, node);

		list_del(&req->node);
		req->state = S3_REQ_IDLE;
		if (req->hash_res)
			req_finish(l, req, req->hash_res);
		else
			req_queue(l, req);
	}
	return !stop;
}

static bool ended_take(struct s3 *s3)
{
	bool some = false;
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(s3->multi, &left))) {
		struct s3_req *req = NULL;
		CURLcode code = m->data.result;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&req);
		req_ended(s3, req, code);
		some = true;
	}
	return some;
}

static void *loop_run(void *arg)
{
	struct s3 *s3 = arg;
	struct s3_loop *l = s3->loop;
	int running;

	prctl(PR_SET_NAME, "gfs-s3");
	while (inbox_take(s3)) {
		uint64_t now = now_ns(), until = s3_probe_tick(s3, now);

		clock_tick(s3, now);
		dispatch(s3);
		gauge(&l->stats.running, l->nr_running);
		gauge(&l->stats.queued, l->nr_queued);
		gauge(&l->stats.breaker, l->breaker.state);
		curl_multi_perform(s3->multi, &running);
		/* What ended makes room: look again before sleeping. */
		if (ended_take(s3))
			continue;
		now = now_ns();
		until = MIN(until ? until : UINT64_MAX, l->next_ns);
		if (until > now)
			curl_multi_poll(s3->multi, NULL, 0,
					(int)MIN(DIV_ROUND_UP(until - now, NSEC_PER_MSEC),
						 (uint64_t)POLL_MAX_MS),
					NULL);
	}
	s3_probe_free(s3);
	return NULL;
}

void s3_loop_post(struct s3 *s3, struct store_op *op)
{
	struct s3_loop *l = s3->loop;

	pthread_mutex_lock(&l->lock);
	list_add_tail(&op->node, &l->posted);
	wake_locked(s3);
	pthread_mutex_unlock(&l->lock);
}

int s3_loop_start(struct s3 *s3)
{
	struct s3_loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	s3->loop = l;
	pthread_mutex_init(&l->lock, NULL);
	list_init(&l->posted);
	list_init(&l->hashed);
	for (int p = 0; p < NR_PRIO; p++)
		list_init(&l->queue[p]);
	list_init(&l->waiting);
	list_init(&l->running);
	l->next_ns = UINT64_MAX;
	s3->multi = curl_multi_init();
	s3->spare = calloc(s3->max_connections, sizeof(*s3->spare));
	l->hashers = pool_create("gfs-s3-hash", HASHERS);
	r = s3->multi && s3->spare && l->hashers ? s3_probe_new(s3) : -ENOMEM;
	if (!r) {
		curl_multi_setopt(s3->multi, CURLMOPT_MAXCONNECTS, (long)s3->max_connections);
		curl_multi_setopt(s3->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
		r = -pthread_create(&l->thread, NULL, loop_run, s3);
		if (!r)
			return 0;
		s3_probe_free(s3);
	}
	pool_destroy(l->hashers);
	l->hashers = NULL;
	s3_loop_stop(s3);
	return r;
}

void s3_loop_stop(struct s3 *s3)
{
	struct s3_loop *l = s3->loop;

	if (!l)
		return;
	if (l->hashers) {
		pthread_mutex_lock(&l->lock);
		l->stop = true;
		wake_locked(s3);
		pthread_mutex_unlock(&l->lock);
		pthread_join(l->thread, NULL);
		pool_destroy(l->hashers);
	}
	while (s3->nr_spare)
		curl_easy_cleanup(s3->spare[--s3->nr_spare]);
	free(s3->spare);
	if (s3->multi)
		curl_multi_cleanup(s3->multi);
	pthread_mutex_destroy(&l->lock);
	free(l);
	s3->loop = NULL;
}

void s3_stats_read(struct s3 *s3, struct store_s3_stats *out)
{
	const uint64_t *from = (const uint64_t *)&s3->loop->stats;
	uint64_t *to = (uint64_t *)out;

	for (size_t i = 0; i < offsetof(struct store_s3_stats, problem) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	pthread_mutex_lock(&s3->lock);
	out->probed = s3->probe_said != S3_PROBE_UNKNOWN;
	pthread_mutex_unlock(&s3->lock);
	s3_problem_read(s3, out->problem, sizeof(out->problem));
}
