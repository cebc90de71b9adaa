// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The collector and the scrubber as this host runs them: one run of each at a time, by request or
 * in the background, with what they are at for those who wait. See host.h, engine/gc.h and
 * engine/scrub.h. h->gc.lock is held for copying only.
 */
#include "control/host_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "lib/log.h"

static void ended(struct host_gc *gc, const struct gc_params *p, const struct gc_report *rep, int r,
		  const struct op_err *err)
{
	struct host_gc_status *s = &gc->status;
	SCOPED_LOCK(&gc->lock);

	gc->running = false;
	/* A request that was wrong is no run, and nobody is to be woken for it. */
	if (r && err->fault == OP_FAULT_REQUEST)
		return;
	s->runs++;
	s->failures += r != 0;
	s->last = *rep;
	s->last_dry = p->dry_run;
	s->last_end_s = wall_ns() / NSEC_PER_SEC;
	snprintf(s->last_error, sizeof(s->last_error), "%s", r ? err->msg : "");
	if (!p->dry_run) {
		s->deleted_total += rep->deleted;
		s->deleted_bytes_total += rep->deleted_bytes;
	}
}

static int begin(struct host_gc *gc, struct op_err *err)
{
	SCOPED_LOCK(&gc->lock);

	if (gc->stop)
		return op_fail(err, OP_FAULT_BUSY, ESHUTDOWN, "the daemon is stopping");
	if (gc->running)
		return op_fail(
			err, OP_FAULT_BUSY, EBUSY,
			"garbage collection: this host runs one already; GET /api/gc tells how "
			"far it is");
	gc->running = true;
	return 0;
}

static int run(struct host *h, const struct gc_params *asked, uint64_t op_id, struct gc_report *out,
	       struct op_err *err)
{
	struct gc_params p = *asked;
	struct fmt_err fe = {{0}};
	int r;

	if (!p.grace_s)
		p.grace_s = engine_cfg(h->e)->gc_grace_ns / NSEC_PER_SEC;
	r = gc_run(h->e, &p, &h->gc.stop, op_id, &h->gc.progress, out, &fe);
	if (r == -ECANCELED)
		return op_fail(err, OP_FAULT_BUSY, ESHUTDOWN, "the daemon is stopping");
	if (r == -EINVAL)
		return op_fail(err, OP_FAULT_REQUEST, EINVAL, "%.390s", fe.msg);
	/* What cannot be read is in the store, and its operator's to mend. */
	if (r)
		return op_fail(err, OP_FAULT_STORE, -r, "garbage collection: %.360s",
			       fe.msg[0] ? fe.msg : strerror(-r));
	if (out->left && fe.msg[0])
		log_warn("garbage collection: %s; the next run tries again", fe.msg);
	return 0;
}

int host_gc(struct host *h, const struct gc_params *p, uint64_t op_id, struct gc_report *out,
	    struct op_err *err)
{
	struct timing_rec rec = {
		.event = TIMING_GC, .op_id = op_id, .start_ns = now_ns(), .dev_id = -1};
	uint32_t span;
	int r;

	memset(out, 0, sizeof(*out));
	r = begin(&h->gc, err);
	if (r)
		return r;
	span = span_open(&rec);
	r = run(h, p, op_id, out, err);
	rec.result = r;
	rec.bytes = out->deleted_bytes;
	span_close(span);
	timing_emit(&rec);
	ended(&h->gc, p, out, r, err);
	if (!r && !p->dry_run && (out->deleted || out->marked))
		log_info("garbage collection: %" PRIu64 " objects (%" PRIu64 " bytes) deleted, "
			 "%" PRIu64 " marked, %" PRIu64 " in use",
			 out->deleted, out->deleted_bytes, out->marked, out->live);
	return r;
}

void host_gc_status_read(struct host *h, struct host_gc_status *out)
{
	struct host_gc *gc = &h->gc;
	SCOPED_LOCK(&gc->lock);

	*out = gc->status;
	out->phase = gc->running ? __atomic_load_n(&gc->progress.phase, __ATOMIC_ACQUIRE) : NULL;
	if (gc->running && !out->phase)
		out->phase = ""; /* it has just begun */
	out->seen = __atomic_load_n(&gc->progress.seen, __ATOMIC_RELAXED);
	out->deleted = __atomic_load_n(&gc->progress.deleted, __ATOMIC_RELAXED);
}

/* ---- scrub ---- */

static int scrub_begin(struct host_gc *gc, struct op_err *err)
{
	SCOPED_LOCK(&gc->lock);

	if (gc->stop)
		return op_fail(err, OP_FAULT_BUSY, ESHUTDOWN, "the daemon is stopping");
	if (gc->scrubbing)
		return op_fail(
			err, OP_FAULT_BUSY, EBUSY,
			"scrub: this host runs one already; GET /api/scrub tells how far it is");
	gc->scrubbing = true;
	return 0;
}

int host_scrub(struct host *h, const struct scrub_params *p, uint64_t op_id,
	       struct scrub_report *out, struct op_err *err)
{
	struct timing_rec rec = {.event = TIMING_SCRUB,
				 .op_id = op_id,
				 .start_ns = now_ns(),
				 .export_ = p->volume,
				 .dev_id = -1};
	struct fmt_err fe = {{0}};
	uint32_t span;
	int r;

	memset(out, 0, sizeof(*out));
	r = scrub_begin(&h->gc, err);
	if (r)
		return r;
	span = span_open(&rec);
	r = scrub_run(h->e, p, &h->gc.stop, op_id, &h->gc.scrub_progress, out, &fe);
	rec.result = r;
	rec.bytes = out->bytes;
	span_close(span);
	timing_emit(&rec);
	pthread_mutex_lock(&h->gc.lock);
	h->gc.scrubbing = false;
	h->gc.scrub_runs++;
	h->gc.scrub_bad += out->bad;
	pthread_mutex_unlock(&h->gc.lock);
	for (unsigned int i = 0; i < out->nr_bad; i++)
		log_err("scrub: %s: %s", out->bad_list[i].key, out->bad_list[i].why);
	if (r == -ECANCELED)
		return op_fail(err, OP_FAULT_BUSY, ESHUTDOWN, "the daemon is stopping");
	if (r && p->volume)
		return op_fail_engine(err, r, "scrubbing it", p->volume, &fe);
	if (r)
		return op_fail(err, OP_FAULT_STORE, -r, "scrub: %.380s",
			       fe.msg[0] ? fe.msg : strerror(-r));
	return 0;
}

void host_scrub_status_read(struct host *h, struct host_scrub_status *out)
{
	struct host_gc *gc = &h->gc;
	SCOPED_LOCK(&gc->lock);

	*out = (struct host_scrub_status){
		.running = gc->scrubbing, .runs = gc->scrub_runs, .bad_total = gc->scrub_bad};
	out->progress.packs = __atomic_load_n(&gc->scrub_progress.packs, __ATOMIC_RELAXED);
	out->progress.bytes = __atomic_load_n(&gc->scrub_progress.bytes, __ATOMIC_RELAXED);
	out->progress.bad = __atomic_load_n(&gc->scrub_progress.bad, __ATOMIC_RELAXED);
}

/* ---- in the background ---- */

static void *background_main(void *arg)
{
	struct host *h = arg;
	struct host_gc *gc = &h->gc;
	const struct gc_params p = {.max_delete = h->cfg.gc_max_delete};
	struct gc_report rep;
	struct op_err err;

	prctl(PR_SET_NAME, "gfs-gc");
	pthread_mutex_lock(&gc->lock);
	while (!gc->stop) {
		uint64_t next = now_ns() + h->cfg.gc_interval_ns;

		while (!gc->stop && now_ns() < next)
			(void)!cond_wait_until(&gc->cond, &gc->lock, next);
		if (gc->stop)
			break;
		pthread_mutex_unlock(&gc->lock);
		if (host_gc(h, &p, timing_op_id(), &rep, &err) && err.fault != OP_FAULT_BUSY)
			log_err("%s", err.msg);
		pthread_mutex_lock(&gc->lock);
	}
	pthread_mutex_unlock(&gc->lock);
	return NULL;
}

int host_gc_start(struct host *h)
{
	int r;

	if (!h->cfg.gc_interval_ns)
		return 0;
	r = -pthread_create(&h->gc.thread, NULL, background_main, h);
	h->gc.started = !r;
	return r;
}

void host_gc_stop(struct host *h)
{
	SCOPED_LOCK(&h->gc.lock);

	__atomic_store_n(&h->gc.stop, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&h->gc.cond);
}

void host_gc_join(struct host *h)
{
	if (h->gc.started)
		pthread_join(h->gc.thread, NULL);
	h->gc.started = false;
}
