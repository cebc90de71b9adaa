// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Abandonable store operations; see store_call.h. One lock and one condition for all of them: they
 * are few (a handful per upload) and last milliseconds. The lock guards refs, running and the list.
 */
#include "engine/store_call.h"
#include "lib/hash.h"

#include <stdio.h>

#define CANCEL_POLL_NS   (10 * NSEC_PER_MSEC)
#define BACKOFF_FIRST_NS (50 * NSEC_PER_MSEC)
#define BACKOFF_MAX_NS   (2 * NSEC_PER_SEC)

static pthread_mutex_t calls_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t calls_cond;
static pthread_once_t calls_once = PTHREAD_ONCE_INIT;
static struct list_head calls_running = LIST_HEAD_INIT(calls_running);

static void calls_init(void)
{
	cond_init_mono(&calls_cond);
}

static bool canceled(const bool *cancel)
{
	return cancel && __atomic_load_n(cancel, __ATOMIC_ACQUIRE);
}

static void call_free(struct store_call *c)
{
	if (c->body_free)
		c->body_free(c->body);
	if (c->op.type == STORE_GET)
		free(c->op.buf);
	free(c);
}

/* A store's thread. */
static void call_done(struct store_op *op)
{
	struct store_call *c = op->ctx;
	bool last;

	pthread_mutex_lock(&calls_lock);
	c->running = false;
	list_del(&c->node);
	last = !--c->refs;
	pthread_cond_broadcast(&calls_cond);
	pthread_mutex_unlock(&calls_lock);
	if (last)
		call_free(c);
}

struct store_call *store_call_new(struct store *s, enum store_op_type type, enum store_prio prio,
				  const char *volume, uint64_t op_id)
{
	struct store_call *c = calloc(1, sizeof(*c));

	pthread_once(&calls_once, calls_init);
	if (!c)
		return NULL;
	c->store = s;
	c->refs = 1;
	c->op.type = type;
	c->op.prio = prio;
	c->op.key = c->key;
	c->op.op_id = op_id;
	c->op.done = call_done;
	c->op.ctx = c;
	if (volume) {
		snprintf(c->volume, sizeof(c->volume), "%s", volume);
		c->op.volume = c->volume;
	}
	return c;
}

void store_call_body(struct store_call *c, const void *data, size_t len, void *body,
		     void (*body_free)(void *))
{
	c->iov = (struct iovec){.iov_base = (void *)data, .iov_len = len};
	c->op.iov = &c->iov;
	c->op.iovcnt = 1;
	c->body = body;
	c->body_free = body_free;
}

void store_call_start(struct store_call *c)
{
	if (c->op.type == STORE_GET) {
		free(c->op.buf);
		c->op.buf = NULL;
	}
	pthread_mutex_lock(&calls_lock);
	c->running = true;
	c->refs++;
	list_add_tail(&c->node, &calls_running);
	pthread_mutex_unlock(&calls_lock);
	store_submit(c->store, &c->op);
}

bool store_call_ended(struct store_call *c)
{
	SCOPED_LOCK(&calls_lock);

	return !c->running;
}

int store_call_wait(struct store_call *c, const bool *cancel)
{
	SCOPED_LOCK(&calls_lock);

	while (c->running) {
		if (canceled(cancel))
			return -ECANCELED;
		cond_wait_until(&calls_cond, &calls_lock, cancel ? now_ns() + CANCEL_POLL_NS : 0);
	}
	return 0;
}

int store_call_run(struct store_call *c, const bool *cancel)
{
	int r;

	store_call_start(c);
	r = store_call_wait(c, cancel);
	return r ? r : c->op.res;
}

void store_call_wait_any(uint64_t abs_ns, const bool *cancel, bool (*ended)(void *arg), void *arg)
{
	pthread_once(&calls_once, calls_init);
	SCOPED_LOCK(&calls_lock);
	while (!ended(arg) && !canceled(cancel)) {
		uint64_t now = now_ns(), until = abs_ns;

		if (abs_ns && now >= abs_ns)
			return;
		if (cancel && (!until || until > now + CANCEL_POLL_NS))
			until = now + CANCEL_POLL_NS;
		cond_wait_until(&calls_cond, &calls_lock, until);
	}
}

void store_call_put(struct store_call *c)
{
	bool last;

	if (!c)
		return;
	pthread_mutex_lock(&calls_lock);
	last = !--c->refs;
	pthread_mutex_unlock(&calls_lock);
	if (last)
		call_free(c);
}

void store_calls_quiesce(struct store *s)
{
	bool found = true;

	pthread_once(&calls_once, calls_init);
	SCOPED_LOCK(&calls_lock);
	while (found) {
		struct store_call *c;

		found = false;
		list_for_each_entry (c, &calls_running, node)
			found |= c->store == s;
		if (found)
			pthread_cond_wait(&calls_cond, &calls_lock);
	}
}

uint64_t store_backoff_ns(unsigned int attempt)
{
	uint64_t ns = BACKOFF_FIRST_NS << MIN(attempt ? attempt - 1 : 0, 10u);
	uint32_t rnd;

	ns = MIN(ns, BACKOFF_MAX_NS);
	random_bytes(&rnd, sizeof(rnd));
	return ns / 2 + ns / 2 * (rnd % 1024) / 1024;
}

static bool never(void *arg __unused)
{
	return false;
}

int store_backoff(unsigned int attempt, uint64_t deadline_ns, const bool *cancel)
{
	uint64_t until = now_ns() + store_backoff_ns(attempt);

	if (deadline_ns && until >= deadline_ns)
		return -ETIMEDOUT;
	store_call_wait_any(until, cancel, never, NULL);
	return canceled(cancel) ? -ECANCELED : 0;
}
