// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Before 6.16, START_USER_RECOVERY expects every queue to have been armed by a task that is dead
 * now. A daemon that is killed in its own recovery leaves queues that nobody armed: then the driver
 * answers EINVAL for ever, or, if some queues were armed and others not, dereferences NULL with its
 * lock held (measured on 6.12.107). It cannot be asked which it is, so we make it true: a thread of
 * its own FETCHes every tag of every queue and ends. Queues that the dead daemon had armed refuse
 * (EINVAL, theirs is another task); the others become armed by a task that is dead when we are
 * joined.
 *
 * A queue is never half armed: queue.c submits all its FETCHes in one call, which no signal
 * interrupts.
 */
#include "ublk/ublk_priv.h"

#include "lib/log.h"

#include <stdio.h>
#include <string.h>

struct heal {
	int cdev_fd;
	unsigned int nr_queues, depth;
	unsigned int armed; /* queues that needed it */
	int res;
};

static int heal_queue(struct heal *h, struct io_uring *ring, unsigned int queue)
{
	struct io_uring_cqe *cqe;
	unsigned int refused = 0;
	int r;

	for (unsigned int tag = 0; tag < h->depth; tag++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

		if (!sqe)
			return -EBUSY;
		memset(sqe, 0, sizeof(*sqe));
		ublk_prep_io(sqe, UBLK_U_IO_FETCH_REQ, (uint16_t)queue, (uint16_t)tag, 0);
		sqe->fd = h->cdev_fd;
	}
	r = io_uring_submit(ring);
	if (r < 0)
		return r;
	/* Refusals complete at once, armed ones do not. */
	while (!io_uring_peek_cqe(ring, &cqe)) {
		refused++;
		io_uring_cqe_seen(ring, cqe);
	}
	if (refused != 0 && refused != h->depth) {
		log_err("ublk: queue %u is half armed: %u of %u tags refused", queue, refused,
			h->depth);
		return -EUCLEAN;
	}
	if (!refused)
		h->armed++;
	return 0;
}

static void *heal_main(void *arg)
{
	struct heal *h = arg;
	struct io_uring ring;

	h->res = io_uring_queue_init(h->depth, &ring, 0);
	if (h->res)
		return NULL;
	for (unsigned int i = 0; !h->res && i < h->nr_queues; i++)
		h->res = heal_queue(h, &ring, i);
	/* Closing the ring cancels what it armed; the kernel does it soon after. */
	io_uring_queue_exit(&ring);
	return NULL;
}

int dev_heal(struct ublk_dev *dev, uint64_t deadline_ns)
{
	struct heal h = {.nr_queues = dev->nr_queues, .depth = dev->depth};
	pthread_t t;
	int r = dev_open_cdev(dev, deadline_ns);

	if (r)
		return r;
	h.cdev_fd = dev->cdev_fd;
	r = -pthread_create(&t, NULL, heal_main, &h);
	if (!r) {
		pthread_join(t, NULL);
		r = h.res;
	}
	dev_close_cdev(dev);
	if (!r && h.armed)
		log_info("volume %s: device %d was left in the midst of a recovery; %u of its %u "
			 "queues had not been armed",
			 dev->name, dev->id, h.armed, dev->nr_queues);
	return r;
}
