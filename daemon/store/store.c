// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The store's front: opening by URL, stamping and timing of operations, the blocking form. Owns no
 * thread and no lock; everything here runs on the caller's thread except store_complete(), which
 * runs on the implementation's.
 */
#include "store/store_priv.h"
#include "store/fault.h"
#include "lib/spans.h"

#include <stdio.h>
#include <string.h>

static int open_file(const char *url, const struct store_options *o, struct store **out, char *err,
		     size_t err_len)
{
	struct store *s;
	int r = store_file_open(url, &s, err, err_len);

	if (r)
		return r;
	r = store_bound_wrap(s, out);
	if (r) {
		snprintf(err, err_len, "store %.200s: %s", url, strerror(-r));
		store_close(s);
	}
	return r;
}

/* It bounds its operations itself. */
static int open_s3(const char *url, const struct store_options *o, struct store **out, char *err,
		   size_t err_len)
{
	return store_s3_open(url, &o->s3, out, err, err_len);
}

static const struct {
	const char *prefix;
	int (*open)(const char *url, const struct store_options *o, struct store **out, char *err,
		    size_t err_len);
} schemes[] = {
	{"file://", open_file},
	{"s3://", open_s3},
};

int store_open_with(const char *url, const struct store_options *o, struct store **out, char *err,
		    size_t err_len)
{
	struct store *s = NULL;
	int r = -EINVAL;

	*out = NULL;
	snprintf(err, err_len,
		 "store URL '%.200s': unknown scheme, expected file:///DIR or s3://BUCKET/PREFIX",
		 url);
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (strncmp(url, schemes[i].prefix, strlen(schemes[i].prefix)))
			continue;
		r = schemes[i].open(url, o, &s, err, err_len);
		break;
	}
	if (r)
		return r;
	if (o->fault && *o->fault) {
		r = store_fault_wrap(s, o->fault, out, err, err_len);
		if (r)
			store_close(s);
		return r;
	}
	*out = s;
	return 0;
}

int store_open(const char *url, const char *fault, struct store **out, char *err, size_t err_len)
{
	const struct store_options o = {.fault = fault};

	return store_open_with(url, &o, out, err, err_len);
}

void store_close(struct store *s)
{
	if (s)
		s->ops->close(s);
}

static const enum timing_event events[] = {
	[STORE_GET] = TIMING_OBJECT_GET,       [STORE_PUT] = TIMING_OBJECT_PUT,
	[STORE_HEAD] = TIMING_OBJECT_HEAD,     [STORE_LIST] = TIMING_OBJECT_LIST,
	[STORE_DELETE] = TIMING_OBJECT_DELETE,
};

/* What is known of an operation that was submitted; its end adds the result. */
static struct timing_rec op_rec(const struct store_op *op)
{
	return (struct timing_rec){
		.event = events[op->type],
		.op_id = op->op_id,
		.start_ns = op->start_ns,
		.export_ = op->volume,
		.dev_id = -1,
		.key = op->key,
		.attempt = op->attempt ? op->attempt : 1,
	};
}

void store_submit(struct store *s, struct store_op *op)
{
	struct timing_rec rec;

	op->res = 0;
	op->ambiguous = false;
	op->size_out = op->object_size = op->mtime_s = 0;
	op->nr_entries = 0;
	op->truncated = false;
	op->start_ns = now_ns();
	rec = op_rec(op);
	op->span = span_open(&rec);
	s->ops->submit(s, op);
}

void store_complete(struct store_op *op, int res)
{
	op->res = res;
	if (op->start_ns) {
		struct timing_rec rec = op_rec(op);

		rec.result = res;
		rec.bytes = op->type == STORE_PUT ? store_body_bytes(op) : op->size_out;
		span_close(op->span);
		timing_emit(&rec);
	}
	op->done(op);
}

uint64_t store_op_deadline(const struct store_op *op)
{
	if (op->deadline_ns)
		return op->deadline_ns;
	return (op->start_ns ? op->start_ns : now_ns()) + STORE_TIMEOUT_NS;
}

uint64_t store_body_bytes(const struct store_op *op)
{
	uint64_t n = 0;

	for (int i = 0; i < op->iovcnt; i++)
		n += op->iov[i].iov_len;
	return n;
}

int store_key_check(const char *key, bool prefix)
{
	size_t part = 0, i;

	if (!key)
		return -EINVAL;
	for (i = 0; key[i]; i++) {
		if (i >= STORE_KEY_MAX - 1)
			return -EINVAL;
		if (key[i] == '/') {
			if (!part)
				return -EINVAL;
			part = 0;
			continue;
		}
		if (key[i] == '.' && !part)
			return -EINVAL;
		if (++part > 255)
			return -EINVAL;
	}
	return part || prefix ? 0 : -EINVAL;
}

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_done(struct store_op *op)
{
	struct waiter *w = op->ctx;

	/* Signal under the lock: the waiter's stack frame goes away as soon as it sees `done`. */
	pthread_mutex_lock(&w->lock);
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

int store_run(struct store *s, struct store_op *op)
{
	struct waiter w = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
	void (*done)(struct store_op *) = op->done;
	void *ctx = op->ctx;

	op->done = run_done;
	op->ctx = &w;
	store_submit(s, op);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_cond_destroy(&w.cond);
	pthread_mutex_destroy(&w.lock);
	op->done = done;
	op->ctx = ctx;
	return op->res;
}
