// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A queue and its tags; see queue.h. After the message that adds it, everything of a queue belongs
 * to its worker's thread; q->lock guards only what other threads wait for (state, idle, drained)
 * and is taken on transitions, never for a request.
 *
 * A tag is always in one of three places: armed in the kernel, served by the engine, or gone. When
 * all are gone the queue is drained.
 */
#include "ublk/queue.h"

#include "lib/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* What a request needs while it is served. Touched only then: an idle device keeps these pages
 * empty. */
struct ublk_io {
	struct gfs_req req;
	struct ublk_tag *tag;
};

struct ublk_tag {
	struct worker_op op; /* FETCH, COMMIT_AND_FETCH */
	struct ublk_queue *q;
	uint16_t tag;
};

enum queue_state {
	QUEUE_NEW,
	QUEUE_POSTED,
	QUEUE_ARMING,
	QUEUE_ARMED,
	QUEUE_FAILED,
	QUEUE_CANCELLED
};

struct ublk_queue {
	struct ublk_queue_config c;
	const struct ublksrv_io_desc *desc;
	size_t desc_bytes;
	struct lane *lane; /* atomic, set before requests can come */
	struct ublk_io *ios;
	size_t ios_bytes;
	int slot; /* of the char device in the ring, or -1 */
	int mode; /* enum ublk_queue_mode, atomic */
	unsigned int in_engine;
	unsigned int gone;
	bool tell_idle;

	/* The queues of one message: `state` and `arm_error` are those of its head, under its lock.
	 */
	struct ublk_queue *head, *chain;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	int refs; /* atomic: the owner's, and one for each message posted */
	enum queue_state state;
	int arm_error;
	bool idle, drained, release_posted, released;

	struct worker_msg add_msg, mode_msg, release_msg;
	bool mode_posted; /* under lock */
	struct ublk_queue *graveyard_next;
	struct ublk_tag tags[];
};

/*
 * Abandoned queues: the rings of this process may complete into them until they are closed. Kept
 * reachable, never freed.
 */
static struct ublk_queue *graveyard; /* atomic */

static void queue_put(struct ublk_queue *q)
{
	if (__atomic_sub_fetch(&q->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (q->desc)
		munmap((void *)q->desc, q->desc_bytes);
	if (q->ios)
		munmap(q->ios, q->ios_bytes);
	pthread_cond_destroy(&q->cond);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* ---- requests, on the worker ---- */

static void tag_commit(struct worker *w, struct ublk_tag *t, uint32_t cmd_op, int32_t result)
{
	struct ublk_queue *q = t->q;
	struct io_uring_sqe *sqe = worker_sqe(w);

	memset(sqe, 0, sizeof(*sqe));
	ublk_prep_io(sqe, cmd_op, (uint16_t)q->c.index, t->tag, result);
	if (q->c.fixed_file) {
		sqe->fd = q->slot;
		sqe->flags = IOSQE_FIXED_FILE;
	} else {
		sqe->fd = q->c.cdev_fd;
	}
	worker_sqe_op(sqe, &t->op);
}

static int copy_full(struct gfs_req *req, void *buf, uint32_t len, uint32_t off, bool to_guest)
{
	const struct ublk_io *io = container_of(req, struct ublk_io, req);
	const struct ublk_queue *q = io->tag->q;

	while (len) {
		off_t pos = (off_t)ublk_copy_pos(q->c.index, io->tag->tag, off);
		ssize_t n = to_guest ? pwrite(q->c.cdev_fd, buf, len, pos)
				     : pread(q->c.cdev_fd, buf, len, pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		buf = (char *)buf + n;
		off += (uint32_t)n;
		len -= (uint32_t)n;
	}
	return 0;
}

static int req_copy(struct gfs_req *req, void *buf, uint32_t len, uint32_t off)
{
	/* Never written to, so it costs no memory. */
	static uint8_t zeros[64 * KiB];

	if (buf)
		return copy_full(req, buf, len, off, req->op == GFS_READ);
	while (len) {
		uint32_t n = MIN(len, (uint32_t)sizeof(zeros));
		int r = copy_full(req, zeros, n, off, true);

		if (r)
			return r;
		off += n;
		len -= n;
	}
	return 0;
}

static void queue_tell(struct ublk_queue *q, bool *what)
{
	pthread_mutex_lock(&q->lock);
	*what = true;
	pthread_cond_broadcast(&q->cond);
	pthread_mutex_unlock(&q->lock);
}

/*
 * Whoever waits for this may close the char device next: what was committed must be on its way, for
 * it may go by descriptor.
 */
static void queue_tell_idle(struct ublk_queue *q)
{
	int r = worker_flush(q->c.w);

	if (r)
		log_err("worker %u: cannot submit: %s", worker_index(q->c.w), strerror(-r));
	queue_tell(q, &q->idle);
}

static void tag_gone(struct ublk_tag *t)
{
	struct ublk_queue *q = t->q;

	if (++q->gone == q->c.depth)
		queue_tell(q, &q->drained);
}

static void req_done(struct gfs_req *req, int res)
{
	struct ublk_io *io = container_of(req, struct ublk_io, req);
	struct ublk_tag *t = io->tag;
	struct ublk_queue *q = t->q;
	int32_t result = res;

	/* Only reads and writes report bytes: FLUSH, DISCARD and WRITE_ZEROES complete with 0. */
	if (!res && (req->op == GFS_READ || req->op == GFS_WRITE))
		result = (int32_t)(req->nsectors << 9);
	tag_commit(q->c.w, t, UBLK_U_IO_COMMIT_AND_FETCH_REQ, result);
	if (--q->in_engine == 0 && unlikely(q->tell_idle))
		queue_tell_idle(q);
}

static const struct {
	bool known;
	enum gfs_op op;
} ops[] = {
	[UBLK_IO_OP_READ] = {true, GFS_READ},
	[UBLK_IO_OP_WRITE] = {true, GFS_WRITE},
	[UBLK_IO_OP_FLUSH] = {true, GFS_FLUSH},
	[UBLK_IO_OP_DISCARD] = {true, GFS_DISCARD},
	[UBLK_IO_OP_WRITE_ZEROES] = {true, GFS_WRITE_ZEROES},
};

static void tag_serve(struct worker *w, struct ublk_tag *t)
{
	struct ublk_queue *q = t->q;
	const struct ublksrv_io_desc *d = &q->desc[t->tag];
	struct ublk_io *io = &q->ios[t->tag];
	struct gfs_req *req = &io->req;
	uint8_t op = ublksrv_get_op(d);

	if (unlikely(op >= ARRAY_SIZE(ops) || !ops[op].known)) {
		tag_commit(w, t, UBLK_U_IO_COMMIT_AND_FETCH_REQ, -EOPNOTSUPP);
		return;
	}
	io->tag = t;
	req->op = ops[op].op;
	req->fua = d->op_flags & UBLK_IO_F_FUA;
	req->nsectors = d->nr_sectors;
	req->sector = d->start_sector;
	req->queue = (uint16_t)q->c.index;
	req->tag = t->tag;
	req->copy = req_copy;
	req->done = req_done;
	q->in_engine++;
	lane_submit(__atomic_load_n(&q->lane, __ATOMIC_ACQUIRE), req);
}

/* FETCH or COMMIT_AND_FETCH completed: a request is here, or the tag is no longer armed. */
static void tag_event(struct worker *w, struct worker_op *op, int res)
{
	struct ublk_tag *t = container_of(op, struct ublk_tag, op);
	struct ublk_queue *q = t->q;

	if (likely(res == UBLK_IO_RES_OK)) {
		switch (__atomic_load_n(&q->mode, __ATOMIC_RELAXED)) {
		case QUEUE_SERVE:
			tag_serve(w, t);
			return;
		case QUEUE_FAIL:
			tag_commit(w, t, UBLK_U_IO_COMMIT_AND_FETCH_REQ, -EIO);
			return;
		default:
			/* The kernel takes the request back when the ring is closed. */
			return;
		}
	}
	/* ABORT is how STOP_DEV un-arms. A held queue may outlive its device: nobody is there to be
	 * told. */
	if (res != UBLK_IO_RES_ABORT && __atomic_load_n(&q->mode, __ATOMIC_RELAXED) != QUEUE_HOLD)
		q->c.refused(q->c.arg, res);
	tag_gone(t);
}

/* ---- messages, on the worker ---- */

static void chain_uninstall(struct worker *w, struct ublk_queue *head)
{
	for (struct ublk_queue *q = head; q; q = q->chain) {
		if (q->slot >= 0)
			worker_file_remove(w, q->slot);
		q->slot = -1;
	}
}

/*
 * The step that makes the queues: from here to the last worker_flush() nothing waits and nothing
 * else runs on this worker, so no other thread can ever see a queue added and not armed.
 */
static int chain_arm(struct worker *w, struct ublk_queue *head)
{
	struct ublk_queue *q;
	int r = 0;

	for (q = head; q && !r; q = q->chain) {
		q->slot = worker_file_install(w, q->c.cdev_fd);
		if (q->slot < 0)
			r = q->slot;
	}
	/*
	 * What was prepared before is others': it must not be sent with our capability, nor take
	 * room, for all FETCHes go in one submission.
	 */
	if (!r)
		r = worker_flush(w);
	/* The kernel looks at the capability of whoever arms, at that moment. */
	if (!r && head->c.scan)
		r = worker_cap_sys_admin(w, true);
	if (r) {
		chain_uninstall(w, head);
		return r;
	}
	for (q = head; q; q = q->chain)
		for (unsigned int i = 0; i < q->c.depth; i++)
			tag_commit(w, &q->tags[i], UBLK_U_IO_FETCH_REQ, 0);
	r = worker_flush(w);
	if (head->c.scan && worker_cap_sys_admin(w, false))
		log_err("worker %u: cannot drop CAP_SYS_ADMIN again", worker_index(w));
	/* Prepared entries cannot be taken back: they are sent by the next turn of the loop. */
	return r;
}

static void queue_add_run(struct worker *w, struct worker_msg *msg)
{
	struct ublk_queue *head = container_of(msg, struct ublk_queue, add_msg), *q, *next;
	bool cancelled;
	int r;

	pthread_mutex_lock(&head->lock);
	cancelled = head->state == QUEUE_CANCELLED;
	if (!cancelled)
		head->state = QUEUE_ARMING;
	pthread_mutex_unlock(&head->lock);
	if (!cancelled) {
		r = chain_arm(w, head);
		pthread_mutex_lock(&head->lock);
		head->state = r ? QUEUE_FAILED : QUEUE_ARMED;
		head->arm_error = r;
		pthread_cond_broadcast(&head->cond);
		pthread_mutex_unlock(&head->lock);
	}
	for (q = head; q; q = next) {
		next = q->chain;
		queue_put(q);
	}
}

static void queue_mode_run(struct worker *w __unused, struct worker_msg *msg)
{
	struct ublk_queue *q = container_of(msg, struct ublk_queue, mode_msg);

	/* Requests that came before this message are in the engine or done; later ones see the
	 * mode. */
	q->tell_idle = true;
	if (!q->in_engine)
		queue_tell_idle(q);
	queue_put(q);
}

static void queue_release_run(struct worker *w, struct worker_msg *msg)
{
	struct ublk_queue *q = container_of(msg, struct ublk_queue, release_msg);

	if (q->slot >= 0)
		worker_file_remove(w, q->slot);
	q->slot = -1;
	queue_tell(q, &q->released);
	queue_put(q);
}

/* ---- other threads ---- */

int queue_create(const struct ublk_queue_config *c, struct ublk_queue **out)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct ublk_queue *q = calloc(1, sizeof(*q) + c->depth * sizeof(q->tags[0]));
	void *p;
	int r;

	if (!q)
		return -ENOMEM;
	pthread_mutex_init(&q->lock, NULL);
	cond_init_mono(&q->cond);
	q->c = *c;
	q->lane = c->lane;
	q->slot = -1;
	q->refs = 1;
	q->head = q;
	q->add_msg.run = queue_add_run;
	q->mode_msg.run = queue_mode_run;
	q->release_msg.run = queue_release_run;
	for (unsigned int i = 0; i < c->depth; i++) {
		q->tags[i].op.done = tag_event;
		q->tags[i].q = q;
		q->tags[i].tag = (uint16_t)i;
	}
	q->desc_bytes = ublk_desc_bytes(c->depth, page);
	p = mmap(NULL, q->desc_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, c->cdev_fd,
		 (off_t)ublk_desc_pos(c->index, page));
	if (p == MAP_FAILED) {
		r = -errno;
		goto err;
	}
	q->desc = p;
	q->ios_bytes = ROUND_UP(c->depth * sizeof(struct ublk_io), page);
	p = mmap(NULL, q->ios_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		r = -errno;
		goto err;
	}
	q->ios = p;
	*out = q;
	return 0;
err:
	queue_put(q);
	return r;
}

void queues_arm(struct ublk_queue **q, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		struct ublk_queue *tail = q[i];

		if (q[i]->state != QUEUE_NEW)
			continue;
		for (unsigned int k = i; k < nr; k++) {
			if (q[k]->c.w != q[i]->c.w)
				continue;
			q[k]->head = q[i];
			q[k]->state = QUEUE_POSTED;
			q[k]->refs++;
			if (q[k] != tail)
				tail->chain = q[k];
			tail = q[k];
		}
		worker_post(q[i]->c.w, &q[i]->add_msg);
	}
}

int queue_arm_wait(struct ublk_queue *q, uint64_t deadline_ns)
{
	struct ublk_queue *head = q->head;
	bool never = false;
	int r = 0;

	pthread_mutex_lock(&head->lock);
	while (head->state == QUEUE_POSTED || head->state == QUEUE_ARMING) {
		if (cond_wait_until(&head->cond, &head->lock, deadline_ns) != -ETIMEDOUT)
			continue;
		if (head->state == QUEUE_POSTED) {
			head->state = QUEUE_CANCELLED;
			break;
		}
		/* It is being armed this moment: that step does not wait for anybody. */
		deadline_ns = 0;
	}
	if (head->state == QUEUE_NEW)
		r = -ECANCELED;
	else if (head->state == QUEUE_CANCELLED)
		r = -ETIMEDOUT;
	else if (head->state == QUEUE_FAILED)
		r = head->arm_error;
	/* Without a fixed file nothing was prepared: there is nothing to wait for. */
	never = r && (head->state != QUEUE_FAILED || q->slot < 0);
	pthread_mutex_unlock(&head->lock);
	if (never) {
		pthread_mutex_lock(&q->lock);
		q->idle = q->drained = true;
		pthread_mutex_unlock(&q->lock);
	}
	return r;
}

void queue_set_lane(struct ublk_queue *q, struct lane *lane)
{
	__atomic_store_n(&q->lane, lane, __ATOMIC_RELEASE);
}

void queue_set_mode(struct ublk_queue *q, enum ublk_queue_mode mode)
{
	bool post;

	__atomic_store_n(&q->mode, mode, __ATOMIC_RELAXED);
	pthread_mutex_lock(&q->lock);
	post = !q->mode_posted;
	q->mode_posted = true;
	pthread_mutex_unlock(&q->lock);
	if (!post)
		return;
	__atomic_add_fetch(&q->refs, 1, __ATOMIC_RELAXED);
	worker_post(q->c.w, &q->mode_msg);
}

static int queue_wait(struct ublk_queue *q, const bool *what, uint64_t deadline_ns)
{
	int r = 0;

	pthread_mutex_lock(&q->lock);
	while (!*what && !r)
		r = cond_wait_until(&q->cond, &q->lock, deadline_ns);
	if (*what)
		r = 0;
	pthread_mutex_unlock(&q->lock);
	return r;
}

int queue_wait_idle(struct ublk_queue *q, uint64_t deadline_ns)
{
	return queue_wait(q, &q->idle, deadline_ns);
}

int queue_wait_drained(struct ublk_queue *q, uint64_t deadline_ns)
{
	return queue_wait(q, &q->drained, deadline_ns);
}

static bool queue_on_worker(struct ublk_queue *q)
{
	bool on;

	pthread_mutex_lock(&q->lock);
	on = !q->release_posted && q->slot >= 0;
	q->release_posted |= on;
	pthread_mutex_unlock(&q->lock);
	return on;
}

int queue_release(struct ublk_queue *q, uint64_t deadline_ns)
{
	int r;

	if (queue_on_worker(q)) {
		__atomic_add_fetch(&q->refs, 1, __ATOMIC_RELAXED);
		worker_post(q->c.w, &q->release_msg);
	}
	if (q->release_posted) {
		r = queue_wait(q, &q->released, deadline_ns);
		if (r)
			return r;
	}
	/* The mapping holds the char device: it must not wait for a message that nobody runs. */
	munmap((void *)q->desc, q->desc_bytes);
	q->desc = NULL;
	queue_put(q);
	return 0;
}

void queue_abandon(struct ublk_queue *q)
{
	q->graveyard_next = __atomic_load_n(&graveyard, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&graveyard, &q->graveyard_next, q, true,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
}
