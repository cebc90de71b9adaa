/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Store operations that their caller may stop waiting for. The operation, its key and its body live
 * on the heap together: a caller that gives up (a volume is closed while the store hangs) drops its
 * reference and goes, and the rest is freed when the store is done with it.
 *
 * Blocking calls here are for threads that may block, never a worker's or a store's.
 */
#ifndef GFS_ENGINE_STORE_CALL_H
#define GFS_ENGINE_STORE_CALL_H

#include "store/store.h"

struct store_call {
	/* The caller sets type, prio, cond, deadline_ns, … between new and start, or between two
	 * starts. */
	struct store_op op;
	char key[STORE_KEY_MAX]; /* op.key */

	/* Private. */
	struct store *store;
	struct list_head node; /* while it runs */
	int refs;
	bool running;
	char volume[128];
	struct iovec iov;
	void *body;
	void (*body_free)(void *body);
};

/* volume (may be NULL) is copied. NULL: no memory. */
struct store_call *store_call_new(struct store *s, enum store_op_type type, enum store_prio prio,
				  const char *volume, uint64_t op_id);
/* The body of a PUT; `body` is passed to `body_free` (may be NULL) when the call is freed. */
void store_call_body(struct store_call *c, const void *data, size_t len, void *body,
		     void (*body_free)(void *));
/* Submit; it may be started again after it ended. */
void store_call_start(struct store_call *c);
/* True once c->op holds the results of the last start. */
bool store_call_ended(struct store_call *c);
/* Wait for the end: 0, or -ECANCELED as soon as *cancel (polled, may be NULL) is true. */
int store_call_wait(struct store_call *c, const bool *cancel) __must_check;
/* start + wait: op.res, or -ECANCELED: it may still take effect. */
int store_call_run(struct store_call *c, const bool *cancel) __must_check;
/* Wait until some call, any caller's, ends, or until abs_ns, or *cancel; the caller looks which. */
void store_call_wait_any(uint64_t abs_ns, const bool *cancel, bool (*ended)(void *arg), void *arg);
/* Drop the caller's reference. A buffer that a GET delivered into op.buf is freed with it unless
 * taken. */
void store_call_put(struct store_call *c);
/* Wait until no call on this store is in flight, abandoned ones included; before store_close. */
void store_calls_quiesce(struct store *s);

/*
 * Pause before attempt `attempt` (from 1) of something that failed: jittered, exponential, 50 ms to
 * 2 s. 0; -ETIMEDOUT: deadline_ns (0 = none) would pass; -ECANCELED.
 */
int store_backoff(unsigned int attempt, uint64_t deadline_ns, const bool *cancel) __must_check;
/* The length of that pause. */
uint64_t store_backoff_ns(unsigned int attempt);

#endif
