/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One hardware queue of a ublk device, served by one worker. Requests go to a lane; data is copied
 * with pread and pwrite on the char device (USER_COPY).
 *
 * Invariant: a queue that exists on a worker is armed. The one message that adds a device's queues
 * to a worker installs the char device in the ring, prepares every FETCH and submits them all in
 * one system call, before it returns to the loop. So a worker cannot come to wait between them, a
 * death leaves all of them armed or none, and queues whose message was given up never arm.
 */
#ifndef GFS_UBLK_QUEUE_H
#define GFS_UBLK_QUEUE_H

#include "engine/io.h"
#include "ublk/ublk_cmd.h"

struct ublk_queue;

enum ublk_queue_mode {
	QUEUE_SERVE, /* requests go to the lane */
	QUEUE_FAIL,  /* requests are answered -EIO: the device is going away */
	QUEUE_HOLD,  /* requests are left unanswered: the next daemon gets them reissued */
};

struct ublk_queue_config {
	struct worker *w;
	struct lane *lane; /* or NULL: queue_set_lane() follows */
	int cdev_fd;
	unsigned int index, depth;
	bool scan;       /* arm with CAP_SYS_ADMIN: the kernel may scan partitions */
	bool fixed_file; /* submit by fixed file; else by descriptor (kernel_pins_fixed_files()) */
	/* A FETCH was refused: the device will never be ready. Worker's thread, must not block. */
	void (*refused)(void *arg, int err);
	void *arg;
};

/* Allocate and map the descriptors. Any thread but a worker's. -errno. */
int queue_create(const struct ublk_queue_config *c, struct ublk_queue **out) __must_check;
/* Post the messages that add and arm these queues (of one device): one for each worker among them.
 */
void queues_arm(struct ublk_queue **q, unsigned int nr);
/*
 * Wait until it is armed. -ETIMEDOUT: the worker did not come to it by the deadline, and it will
 * never be armed, nor will those of its message; -ECANCELED: it was not posted; -errno: not armed.
 * On failure only queue_wait_drained() and queue_release() are left to do.
 */
int queue_arm_wait(struct ublk_queue *q, uint64_t deadline_ns) __must_check;
/*
 * Where its requests go, unless it was known from the start; before START_DEV lets any come. A lane
 * is not needed to arm a new device, so a queue that could not be armed leaves nothing on the
 * volume. (One that is recovered may get requests as soon as all queues are armed, on newer drivers
 * before END_USER_RECOVERY.)
 */
void queue_set_lane(struct ublk_queue *q, struct lane *lane);
/* From now on; a request already in the engine is finished. Any thread, does not block. */
void queue_set_mode(struct ublk_queue *q, enum ublk_queue_mode mode);
/*
 * After a mode other than SERVE was set: wait until no request of this queue is in the engine, so
 * that its lane may go. -ETIMEDOUT.
 */
int queue_wait_idle(struct ublk_queue *q, uint64_t deadline_ns) __must_check;
/* Wait until no tag is armed or served any more (after STOP_DEV). -ETIMEDOUT. */
int queue_wait_drained(struct ublk_queue *q, uint64_t deadline_ns) __must_check;
/*
 * Remove a drained (or never armed) queue from its worker: fixed file and mapping are gone when
 * this returns 0, and q is freed. -ETIMEDOUT: not yet, call again.
 */
int queue_release(struct ublk_queue *q, uint64_t deadline_ns) __must_check;
/*
 * Let go of an armed queue in HOLD mode that is idle. Its FETCHes stay armed until the worker's
 * ring is closed, so its memory stays too, until the process ends.
 */
void queue_abandon(struct ublk_queue *q);

#endif
