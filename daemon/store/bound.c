// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Ends every operation by its deadline, whatever the store below does: a system call on a dead
 * network file system or a suspended disk may never return, and a guest's read waits for it.
 *
 * The store below works on a copy of the operation, with its own key and buffers (struct bounded).
 * Whoever takes the copy off `running` first, its completion or the clock, answers the caller; a
 * copy that is late is freed when the store below gives it back. A PUT whose body is too big to
 * copy is passed on as it is: only uploads make such PUTs, and they wait in a way that can be
 * abandoned (engine/store_call.h).
 *
 * The clock runs only while operations are in flight.
 */
#include "store/store_priv.h"
#include "lib/list.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define BODY_COPY_MAX (1 * MiB)
#define CLOCK_TICK_NS (200 * NSEC_PER_MSEC)
/* Past the deadline, or the submission if that is later: the store below tells its own time-outs
 * better. */
#define GRACE_NS (500 * NSEC_PER_MSEC)

struct bound_store {
	struct store s;
	struct store *below;
	pthread_t clock;
	pthread_mutex_t lock; /* the fields below */
	pthread_cond_t wake;
	struct list_head running; /* struct bounded */
	bool stop;
};

/* The copy that the store below works on. */
struct bounded {
	struct store_op op;
	struct bound_store *bs;
	struct store_op *user; /* NULL: answered by the clock; under bs->lock */
	struct list_head node;
	uint64_t late_ns;
	char key[STORE_KEY_MAX];
	struct iovec iov;
	void *body;
};

static void bounded_free(struct bounded *b)
{
	if (b->op.type == STORE_GET)
		free(b->op.buf);
	free(b->op.entries);
	free(b->body);
	free(b);
}

static void results_copy(struct store_op *to, struct store_op *from)
{
	to->ambiguous = from->ambiguous;
	to->size_out = from->size_out;
	to->object_size = from->object_size;
	to->mtime_s = from->mtime_s;
	memcpy(to->etag, from->etag, sizeof(to->etag));
	to->nr_entries = from->nr_entries;
	to->truncated = from->truncated;
	if (from->type == STORE_GET && from->buf && !from->res) {
		if (to->buf) {
			memcpy(to->buf, from->buf, MIN(from->size_out, to->buf_size));
		} else {
			to->buf = from->buf;
			from->buf = NULL;
		}
	}
	if (from->nr_entries)
		memcpy(to->entries, from->entries, from->nr_entries * sizeof(*to->entries));
}

/* A thread of the store below. */
static void bounded_done(struct store_op *op)
{
	struct bounded *b = op->ctx;
	struct bound_store *bs = b->bs;
	struct store_op *user;
	int res = op->res;

	pthread_mutex_lock(&bs->lock);
	user = b->user;
	if (user)
		list_del(&b->node);
	pthread_mutex_unlock(&bs->lock);
	if (user)
		results_copy(user, op);
	bounded_free(b);
	if (user)
		store_complete(user, res);
}

static bool copy_op(struct bounded *b, const struct store_op *op)
{
	b->op.type = op->type;
	b->op.prio = op->prio;
	b->op.deadline_ns = store_op_deadline(op);
	b->op.off = op->off;
	b->op.len = op->len;
	b->op.cond = op->cond;
	memcpy(b->op.etag, op->etag, sizeof(b->op.etag));
	memcpy(b->op.start_after, op->start_after, sizeof(b->op.start_after));
	snprintf(b->key, sizeof(b->key), "%s", op->key);
	b->op.key = b->key;
	b->op.done = bounded_done;
	b->op.ctx = b;
	if (op->type == STORE_GET && op->buf) {
		b->op.buf_size = op->buf_size;
		b->op.buf = malloc(op->buf_size);
		if (!b->op.buf)
			return false;
	}
	if (op->type == STORE_LIST) {
		b->op.max_entries = op->max_entries;
		b->op.entries = calloc(op->max_entries, sizeof(*op->entries));
		if (!b->op.entries)
			return false;
	}
	if (op->type == STORE_PUT) {
		char *p = b->body = malloc(store_body_bytes(op) + 1);

		if (!p)
			return false;
		for (int i = 0; i < op->iovcnt; i++) {
			memcpy(p, op->iov[i].iov_base, op->iov[i].iov_len);
			p += op->iov[i].iov_len;
		}
		b->iov = (struct iovec){b->body, (size_t)(p - (char *)b->body)};
		b->op.iov = &b->iov;
		b->op.iovcnt = 1;
	}
	return true;
}

static void bound_submit(struct store *s, struct store_op *op)
{
	struct bound_store *bs = container_of(s, struct bound_store, s);
	struct bounded *b;

	/* A bad key is for the store below to refuse; it does not fit into a copy. */
	if ((op->type == STORE_PUT && store_body_bytes(op) > BODY_COPY_MAX) ||
	    store_key_check(op->key, op->type == STORE_LIST)) {
		bs->below->ops->submit(bs->below, op);
		return;
	}
	b = calloc(1, sizeof(*b));
	if (!b || !copy_op(b, op)) {
		/* Without memory, unbounded: ->done must not run inside submit. */
		if (b)
			bounded_free(b);
		bs->below->ops->submit(bs->below, op);
		return;
	}
	b->bs = bs;
	b->user = op;
	b->late_ns = MAX(b->op.deadline_ns, now_ns()) + GRACE_NS;
	pthread_mutex_lock(&bs->lock);
	if (list_empty(&bs->running))
		pthread_cond_signal(&bs->wake);
	list_add_tail(&b->node, &bs->running);
	pthread_mutex_unlock(&bs->lock);
	bs->below->ops->submit(bs->below, &b->op);
}

static void *clock_run(void *arg)
{
	struct bound_store *bs = arg;

	prctl(PR_SET_NAME, "gfs-store-clock");
	pthread_mutex_lock(&bs->lock);
	while (!bs->stop) {
		struct store_op *late = NULL;
		uint64_t now = now_ns();
		struct bounded *b;

		list_for_each_entry (b, &bs->running, node) {
			if (now < b->late_ns)
				continue;
			late = b->user;
			b->user = NULL;
			list_del(&b->node);
			break;
		}
		if (late) {
			pthread_mutex_unlock(&bs->lock);
			late->ambiguous = store_op_mutates(late);
			store_complete(late, -ETIMEDOUT);
			pthread_mutex_lock(&bs->lock);
			continue;
		}
		cond_wait_until(&bs->wake, &bs->lock,
				list_empty(&bs->running) ? 0 : now + CLOCK_TICK_NS);
	}
	pthread_mutex_unlock(&bs->lock);
	return NULL;
}

/* The store below first: it gives back every copy. */
static void bound_close(struct store *s)
{
	struct bound_store *bs = container_of(s, struct bound_store, s);

	store_close(bs->below);
	pthread_mutex_lock(&bs->lock);
	bs->stop = true;
	pthread_cond_signal(&bs->wake);
	pthread_mutex_unlock(&bs->lock);
	pthread_join(bs->clock, NULL);
	pthread_cond_destroy(&bs->wake);
	pthread_mutex_destroy(&bs->lock);
	free(bs);
}

static const struct store_ops bound_ops = {
	.name = "bound",
	.submit = bound_submit,
	.close = bound_close,
};

int store_bound_wrap(struct store *below, struct store **out)
{
	struct bound_store *bs = calloc(1, sizeof(*bs));
	int r;

	if (!bs)
		return -ENOMEM;
	bs->s.ops = &bound_ops;
	bs->s.url = below->url;
	bs->below = below;
	bs->s.below = below;
	list_init(&bs->running);
	pthread_mutex_init(&bs->lock, NULL);
	cond_init_mono(&bs->wake);
	r = -pthread_create(&bs->clock, NULL, clock_run, bs);
	if (r) {
		pthread_cond_destroy(&bs->wake);
		pthread_mutex_destroy(&bs->lock);
		free(bs);
		return r;
	}
	*out = &bs->s;
	return 0;
}
