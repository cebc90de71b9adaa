/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Worker threads: each owns one io_uring and hosts the lanes (volume side) and ublk queues of any
 * number of devices. Everything here runs on the worker's own thread unless it says "any thread".
 * A worker never blocks except in io_uring_enter with nothing to do, and never on a lock that
 * background work holds.
 *
 * Storage rule 17: the lock fd of the local state is fixed file 0 of every ring, so the lock
 * outlives the last write in flight of a killed process. The char device of a ublk queue is a fixed
 * file too.
 */
#ifndef GFS_ENGINE_WORKER_H
#define GFS_ENGINE_WORKER_H

#include "lib/list.h"
#include <liburing.h>

/* What one submission can have. */
#define WORKER_SQ_ENTRIES 1024

struct worker;

/* A pending ring operation: user_data of its SQE is the address of this. Embedded in its owner. */
struct worker_op {
	void (*done)(struct worker *w, struct worker_op *op, int res);
};

/* A message; owned by the sender until run, which may free it. */
struct worker_msg {
	struct worker_msg *next;
	void (*run)(struct worker *w, struct worker_msg *msg);
};

struct workers {
	unsigned int nr;
	struct worker *w[];
};

/*
 * Start `nr` workers (1..64) named "gfs-wN". lock_fd becomes fixed file 0 of every ring (-1: none,
 * for tests). Worker threads drop CAP_SYS_ADMIN from their effective set (it stays permitted, see
 * worker_cap_sys_admin). -errno.
 */
int workers_create(unsigned int nr, int lock_fd, struct workers **out) __must_check;
/* Stop and join; no lane, queue or operation may be left. */
void workers_destroy(struct workers *ws);

/* Any thread: run msg->run on the worker, in order of posting. Never blocks. */
void worker_post(struct worker *w, struct worker_msg *msg);
/* Any thread but a worker's: run fn on the worker, wait, return its result. */
int worker_call(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg);

/*
 * A zeroed SQE whose completion calls op->done, once (a multishot or uring_cmd that completes again
 * has been submitted again). Never NULL: submits when the queue is full. It is submitted at the end
 * of the loop turn, or by worker_flush now. The caller preps with io_uring_prep_*, which clears
 * user_data, so call worker_sqe_op(sqe, op) after the prep.
 */
struct io_uring_sqe *worker_sqe(struct worker *w);
static inline void worker_sqe_op(struct io_uring_sqe *sqe, struct worker_op *op)
{
	io_uring_sqe_set_data(sqe, op);
}
/* Submit everything prepared so far, without waiting. 0 or -errno. */
int worker_flush(struct worker *w) __must_check;
/* Complete op with res in a later loop turn (injected faults). */
void worker_complete(struct worker *w, struct worker_op *op, int res);

/* now_ns() at the start of this loop turn: cheap stamp for requests. */
uint64_t worker_now(const struct worker *w);
unsigned int worker_index(const struct worker *w);
pid_t worker_tid(const struct worker *w);

/* Install fd in the ring's fixed-file table: slot >= 0, or -errno. Remove drops the ring's
 * reference. */
int worker_file_install(struct worker *w, int fd) __must_check;
void worker_file_remove(struct worker *w, int slot);

/* Raise or drop CAP_SYS_ADMIN in this thread's effective set (partition scan follows the armer's).
 */
int worker_cap_sys_admin(struct worker *w, bool on) __must_check;

/*
 * Aligned I/O buffers, preallocated: at least `len` (<= WORKER_BUF_MAX) bytes, or NULL when none is
 * free (queue `wait` then: its run is called when one was freed; take again then).
 */
#define WORKER_BUF_MAX (512 * KiB)
void *worker_buf_get(struct worker *w, uint32_t len);
void worker_buf_put(struct worker *w, void *buf);
struct worker_buf_wait {
	struct list_head node;
	void (*run)(struct worker *w, struct worker_buf_wait *wait);
};
void worker_buf_wait(struct worker *w, uint32_t len, struct worker_buf_wait *wait);

/*
 * Test hook: called in each loop turn on the worker's thread, and between two announcements of a
 * new view; with index UINT_MAX; may sleep.
 */
extern void (*worker_pause_hook)(unsigned int index); /* atomic */
static inline void worker_pause(unsigned int index)
{
	void (*hook)(unsigned int) = __atomic_load_n(&worker_pause_hook, __ATOMIC_ACQUIRE);

	if (unlikely(hook != NULL))
		hook(index);
}

#endif
