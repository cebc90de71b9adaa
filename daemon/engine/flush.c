// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * FLUSH and FUA: group commit in rounds. One round of a volume runs at a time, on the worker of the
 * lane that started it; requests that arrive meanwhile share the next one, since a running round
 * may have collected before their writes completed.
 *
 * A round covers {frozen, active} of the volume's latest view, oldest first (storage rule 2): take
 * the images of newly valid granules, fdatasync the data, append exactly those images, fdatasync
 * the log. After any failure the layer is poisoned: no fsync is ever retried and called good
 * (storage rule 3).
 *
 * v->lock guards the waiting list and flush_running. A FLUSH goes to the disk anyway; plain reads
 * and writes take no lock.
 */
#include "engine/volume_priv.h"

#include "lib/log.h"
#include <string.h>

enum flush_step { STEP_LAYER, STEP_DATA_SYNCED, STEP_LOG_WRITTEN, STEP_LOG_SYNCED };

struct flush_round {
	struct worker_op op;
	struct volume *v;
	struct view *view;
	struct layer *layer[2];
	unsigned int nr_layers, cur;
	enum flush_step step;
	void *buf;
	size_t len;
	int res;
};

static void round_start(struct worker *w, struct flush_round *fr);

static void waiter_finish(struct worker *w __unused, struct worker_msg *msg)
{
	struct gfs_req *req = container_of(msg, struct gfs_req, seg0.msg);

	req_finish(req, req->res);
}

/* The round is over: answer its waiters on their own workers, start the next round if there is one.
 */
static void round_end(struct worker *w, struct flush_round *fr)
{
	struct volume *v = fr->v;
	int res = fr->res;
	struct list_head done;
	bool again;

	view_put(fr->view);
	fr->view = NULL;
	list_splice_init(&v->flush_current, &done);
	pthread_mutex_lock(&v->lock);
	again = !list_empty(&v->flush_waiting);
	v->flush_running = again;
	pthread_mutex_unlock(&v->lock);
	/* The next round first: the answers below may submit more. */
	if (again)
		round_start(w, fr);
	while (!list_empty(&done)) {
		struct gfs_req *req = list_first_entry(&done, struct gfs_req, node);

		list_del(&req->node);
		if (req->lane->w == w) {
			req_finish(req, res);
		} else {
			req->res = res;
			req->seg0.msg.run = waiter_finish;
			worker_post(req->lane->w, &req->seg0.msg);
		}
	}
}

static void round_fail(struct flush_round *fr, int res, const char *what)
{
	struct layer *l = fr->layer[fr->cur];

	layer_poison(l, res);
	volume_set_mode(
		fr->v, VOLUME_POISONED,
		"%s of layer %llu failed (%s): acknowledged writes of this layer may not be on "
		"the disk; the volume is read-only and uploads nothing more",
		what, (unsigned long long)l->seq, strerror(-res));
	fr->res = -EIO;
}

static void round_sync(struct worker *w, struct flush_round *fr, int fd, enum disk_op fault)
{
	int r = disk_fault(fault, fr->layer[fr->cur]->seq);
	struct io_uring_sqe *sqe;

	if (r) {
		worker_complete(w, &fr->op, r);
		return;
	}
	sqe = worker_sqe(w);
	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	worker_sqe_op(sqe, &fr->op);
}

static void round_log_write(struct worker *w, struct flush_round *fr)
{
	struct layer *l = fr->layer[fr->cur];
	int r = disk_fault(DISK_LOG_WRITE, l->seq);
	struct io_uring_sqe *sqe;

	if (r) {
		worker_complete(w, &fr->op, r);
		return;
	}
	sqe = worker_sqe(w);
	io_uring_prep_write(sqe, l->log_fd, fr->buf, (unsigned int)fr->len, l->log_pos);
	worker_sqe_op(sqe, &fr->op);
}

/* Go on with the current layer or the next; returns when something is in flight, or at the end. */
static void round_advance(struct worker *w, struct flush_round *fr)
{
	while (!fr->res && fr->cur < fr->nr_layers) {
		struct layer *l = fr->layer[fr->cur];
		int r;

		if (fr->step == STEP_DATA_SYNCED && fr->buf) {
			fr->step = STEP_LOG_WRITTEN;
			round_log_write(w, fr);
			return;
		}
		if (fr->step == STEP_LOG_WRITTEN) {
			fr->step = STEP_LOG_SYNCED;
			round_sync(w, fr, l->log_fd, DISK_LOG_FSYNC);
			return;
		}
		if (fr->step != STEP_LAYER) {
			if (fr->step == STEP_LOG_SYNCED)
				layer_log_commit(l, fr->len);
			free(fr->buf);
			fr->buf = NULL;
			fr->step = STEP_LAYER;
			fr->cur++;
			continue;
		}
		if (__atomic_load_n(&l->poisoned, __ATOMIC_ACQUIRE)) {
			fr->res = -EIO;
			break;
		}
		/* Cleared before the images are taken: what completes later sets it for the next
		 * round. */
		if (!__atomic_exchange_n(&l->unsynced, 0, __ATOMIC_SEQ_CST) &&
		    !layer_log_pending(l)) {
			fr->cur++;
			continue;
		}
		r = layer_log_collect(l, &fr->buf, &fr->len);
		if (r) {
			round_fail(fr, r, "log collection");
			break;
		}
		fr->step = STEP_DATA_SYNCED;
		round_sync(w, fr, l->data_fd, DISK_FSYNC);
		return;
	}
	free(fr->buf);
	fr->buf = NULL;
	round_end(w, fr);
}

static void round_op_done(struct worker *w, struct worker_op *op, int res)
{
	struct flush_round *fr = container_of(op, struct flush_round, op);
	static const char *const what[] = {
		[STEP_DATA_SYNCED] = "fdatasync",
		[STEP_LOG_WRITTEN] = "log write",
		[STEP_LOG_SYNCED] = "log fdatasync",
	};

	/* An fsync interrupted by a signal said nothing about the data, but is not retried either.
	 */
	if (res >= 0 && fr->step == STEP_LOG_WRITTEN && (size_t)res != fr->len)
		res = -EIO;
	if (res < 0)
		round_fail(fr, res, what[fr->step]);
	round_advance(w, fr);
}

static void round_start(struct worker *w, struct flush_round *fr)
{
	struct volume *v = fr->v;

	pthread_mutex_lock(&v->lock);
	list_splice_init(&v->flush_waiting, &v->flush_current);
	fr->view = view_get(v->view);
	pthread_mutex_unlock(&v->lock);
	fr->nr_layers = 0;
	if (fr->view->frozen)
		fr->layer[fr->nr_layers++] = fr->view->frozen;
	fr->layer[fr->nr_layers++] = fr->view->active;
	fr->cur = 0;
	fr->step = STEP_LAYER;
	fr->res = 0;
	round_advance(w, fr);
}

void flush_join(struct lane *lane, struct gfs_req *req)
{
	struct volume *v = lane->v;
	bool start;

	req_wait(req, TIMING_STAGE_FLUSH);
	pthread_mutex_lock(&v->lock);
	list_add_tail(&req->node, &v->flush_waiting);
	start = !v->flush_running;
	v->flush_running = true;
	pthread_mutex_unlock(&v->lock);
	if (start)
		round_start(lane->w, v->round);
}

struct flush_round *flush_round_new(struct volume *v)
{
	struct flush_round *fr = calloc(1, sizeof(*fr));

	if (fr) {
		fr->op.done = round_op_done;
		fr->v = v;
	}
	return fr;
}
