/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fixed pool of threads that runs jobs in order of submission: compute (hash, compress), blocking
 * store calls, API requests. Jobs may block; size the pool for that.
 */
#ifndef GFS_LIB_POOL_H
#define GFS_LIB_POOL_H

#include "lib/list.h"

struct pool;

/* Embedded in the caller's object; the caller owns it, `run` may free it. */
struct pool_job {
	struct list_head node;
	void (*run)(struct pool_job *job);
};

/* Start `threads` threads named `name` (15 characters). NULL with errno set on failure. */
struct pool *pool_create(const char *name, unsigned int threads);
unsigned int pool_threads(const struct pool *p);
/* Any thread; never blocks beyond the queue's lock. */
void pool_submit(struct pool *p, struct pool_job *job);
/* Runs what is queued, then joins. No submit may race with it. */
void pool_destroy(struct pool *p);

#endif
