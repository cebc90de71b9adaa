// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Removing devices: stop, drain, release, close, delete; each step with a deadline, resumable, so
 * that a removal that the kernel delays can be finished later by the reaper.
 *
 * STOP is sent from the control thread while the workers go on serving: it waits for requests that
 * only they can complete.
 */
#include "ublk/ublk_priv.h"

#include "lib/log.h"

#include <stdio.h>
#include <string.h>

/* How much of the reaper's time one attempt takes, so that others get their turn. */
#define REAP_ATTEMPT_NS (5 * NSEC_PER_SEC)
#define IDLE_NOTE_NS    (10 * NSEC_PER_SEC)
/* Somebody may look at a device for a moment (udev does, when it appears). */
#define TRANSIENT_OPENER_NS (2 * NSEC_PER_SEC)
#define TRANSIENT_POLL_NS   (20 * NSEC_PER_MSEC)

/*
 * A command that may take several attempts: the first sends it, later ones wait for the same
 * command. A device that is gone already is as good as done.
 */
static int dev_cmd_resumed(struct ublk_dev *dev, uint32_t op, uint64_t deadline_ns,
			   struct ublk_cmd **late)
{
	uint64_t now = now_ns();
	int r;

	if (*late) {
		r = ublk_ctrl_wait(dev->h->ctrl, *late, deadline_ns > now ? deadline_ns - now : 0);
		if (r != -ETIMEDOUT)
			*late = NULL;
	} else {
		r = dev_cmd(dev, op, 0, NULL, 0, deadline_ns, late);
	}
	return r > 0 || r == -ENODEV ? 0 : r;
}

static int dev_delete(struct ublk_dev *dev, uint64_t deadline_ns)
{
	int r = -EOPNOTSUPP;

	if (!__atomic_load_n(&dev->h->no_del_async, __ATOMIC_RELAXED) || dev->late_del) {
		r = dev_cmd_resumed(dev, UBLK_U_CMD_DEL_DEV_ASYNC, deadline_ns, &dev->late_del);
		if (r == -EOPNOTSUPP)
			__atomic_store_n(&dev->h->no_del_async, 1, __ATOMIC_RELAXED);
	}
	if (r == -EOPNOTSUPP)
		r = dev_cmd_resumed(dev, UBLK_U_CMD_DEL_DEV, deadline_ns, &dev->late_del);
	return r;
}

static int dev_drain(struct ublk_dev *dev, uint64_t deadline_ns)
{
	for (unsigned int i = 0; i < dev->nr_queues; i++) {
		int r = dev->q[i] ? queue_wait_drained(dev->q[i], deadline_ns) : 0;

		if (r)
			return r;
	}
	return 0;
}

static int dev_release_queues(struct ublk_dev *dev, uint64_t deadline_ns)
{
	for (unsigned int i = 0; i < dev->nr_queues; i++) {
		int r = dev->q[i] ? queue_release(dev->q[i], deadline_ns) : 0;

		if (r)
			return r;
		dev->q[i] = NULL;
	}
	return 0;
}

int dev_teardown(struct ublk_dev *dev, uint64_t deadline_ns)
{
	int r = 0;

	if (dev->id < 0)
		dev->step = DEV_GONE;
	for (; !r && dev->step != DEV_GONE; dev->step += !r) {
		switch (dev->step) {
		case DEV_STOP:
			/* Also un-arms the queues of a device that was never started. */
			r = dev_cmd_resumed(dev, UBLK_U_CMD_STOP_DEV, deadline_ns, &dev->late_stop);
			break;
		case DEV_DRAIN:
			r = dev_drain(dev, deadline_ns);
			break;
		case DEV_RELEASE:
			r = dev_release_queues(dev, deadline_ns);
			break;
		case DEV_CLOSE:
			/* DEL_DEV waits for the last reference to the char device. */
			dev_close_cdev(dev);
			break;
		case DEV_DELETE:
			r = dev_delete(dev, deadline_ns);
			if (!r)
				devmap_clear(dev->h->map, dev->id);
			break;
		case DEV_GONE:
			break;
		}
	}
	return r;
}

static const char *step_name(enum dev_step step)
{
	static const char *const names[] = {
		[DEV_STOP] = "STOP_DEV",
		[DEV_DRAIN] = "drain of queues",
		[DEV_RELEASE] = "release of queues",
		[DEV_CLOSE] = "close",
		[DEV_DELETE] = "DEL_DEV",
		[DEV_GONE] = "removal",
	};

	return names[step];
}

/* The map may be behind for a moment: what it says is checked against the driver's identity. */
static void map_sync(struct ublk_host *h)
{
	int r = devmap_sync(h->map);

	if (r)
		log_warn("ublk: cannot write the device map: %s", strerror(-r));
}

void dev_release_volume(struct ublk_dev *dev)
{
	uint64_t start = now_ns();

	if (!dev->has_lanes) {
		dev->v = NULL;
		return;
	}
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		if (dev->q[i])
			queue_set_mode(dev->q[i], QUEUE_FAIL);
	/* The engine bounds every request, so this ends; without it the volume must not go. */
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		while (dev->q[i] && queue_wait_idle(dev->q[i], now_ns() + IDLE_NOTE_NS))
			log_warn("volume %s: requests of device %d are still being served, %.0f s "
				 "after its end was asked for",
				 dev->name, dev->id, (double)(now_ns() - start) / 1e9);
	volume_lanes_remove(dev->v);
	volume_set_dev_id(dev->v, -1);
	dev->has_lanes = false;
	dev->v = NULL;
}

static void reap_run(struct pool_job *job)
{
	struct ublk_dev *dev = container_of(job, struct ublk_dev, reap_job);
	struct ublk_host *h = dev->h;
	int r = dev_teardown(dev, now_ns() + REAP_ATTEMPT_NS);

	if (r == -ETIMEDOUT && !__atomic_load_n(&h->closing, __ATOMIC_ACQUIRE)) {
		pool_submit(h->reaper, &dev->reap_job);
		return;
	}
	if (r) {
		/* Its queues may still be armed: nothing of it can be freed. */
		log_warn("volume %s: ublk %s of device %d failed: %s; it is left behind", dev->name,
			 step_name(dev->step), dev->id, strerror(-r));
		return;
	}
	log_info("volume %s: device %d is removed now", dev->name, dev->id);
	map_sync(h);
	dev_free(dev);
}

void dev_reap_later(struct ublk_dev *dev)
{
	dev->reap_job.run = reap_run;
	pool_submit(dev->h->reaper, &dev->reap_job);
}

void dev_undo(struct ublk_dev *dev)
{
	int r;

	dev_release_volume(dev);
	/* A START_DEV that is not back holds the driver's lock: STOP could only wait behind it. */
	if (dev->late_start) {
		r = ublk_ctrl_wait(dev->h->ctrl, dev->late_start, REAP_ATTEMPT_NS);
		if (r != -ETIMEDOUT)
			dev->late_start = NULL;
	}
	r = dev_teardown(dev, now_ns() + REAP_ATTEMPT_NS);
	if (!r) {
		map_sync(dev->h);
		dev_free(dev);
		return;
	}
	log_warn("volume %s: ublk %s of device %d: %s; it is being removed in the background",
		 dev->name, step_name(dev->step), dev->id, strerror(-r));
	dev_reap_later(dev);
}

/*
 * Stop it if nobody uses it. Where the driver can, it looks for openers itself, with no gap between
 * look and stop; -EBUSY with who.
 */
static int dev_stop_unused(struct ublk_dev *dev, uint64_t deadline_ns, struct fmt_err *err)
{
	const struct timespec pause = {.tv_nsec = TRANSIENT_POLL_NS};
	uint64_t until = now_ns() + TRANSIENT_OPENER_NS;
	char why[160];
	int r;

	/* A stop that is under way cannot be taken back. */
	if (dev->late_stop)
		return 0;
	for (;;) {
		r = 0;
		if (ublk_dev_in_use(dev->id, why, sizeof(why))) {
			r = -EBUSY;
		} else if (dev->flags & UBLK_F_SAFE_STOP_DEV) {
			snprintf(why, sizeof(why), "/dev/ublkb%d is open", dev->id);
			r = dev_cmd_resumed(dev, UBLK_U_CMD_TRY_STOP_DEV, deadline_ns,
					    &dev->late_stop);
		}
		if (r != -EBUSY || now_ns() >= until)
			break;
		nanosleep(&pause, NULL);
	}
	if (r == -EBUSY)
		snprintf(err->msg, sizeof(err->msg), "volume %.30s: device in use: %.120s",
			 dev->name, why);
	else if (r == -EOPNOTSUPP)
		r = 0;
	else if (r)
		dev_fail(dev, "TRY_STOP_DEV", r, err);
	return r;
}

int ublk_dev_remove(struct ublk_dev *dev, bool force, uint64_t op_id, struct fmt_err *err)
{
	struct ublk_host *h = dev->h;
	uint64_t deadline = now_ns() + h->cmd_timeout_ns;
	int r = 0;

	dev->op_id = op_id;
	if (!force && dev->step == DEV_STOP) {
		r = dev_stop_unused(dev, deadline, err);
		if (r)
			return r;
	}
	r = dev_teardown(dev, deadline);
	if (r)
		return dev_fail(dev, step_name(dev->step), r, err);
	if (dev->has_lanes) {
		volume_lanes_remove(dev->v);
		volume_set_dev_id(dev->v, -1);
	}
	map_sync(h);
	dev_free(dev);
	return 0;
}

void ublk_dev_abandon(struct ublk_dev *dev)
{
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		if (dev->q[i])
			queue_set_mode(dev->q[i], QUEUE_HOLD);
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		while (dev->q[i] && queue_wait_idle(dev->q[i], now_ns() + IDLE_NOTE_NS))
			log_warn("volume %s: waiting for requests of device %d", dev->name,
				 dev->id);
	if (dev->has_lanes)
		volume_lanes_remove(dev->v);
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		if (dev->q[i])
			queue_abandon(dev->q[i]);
	dev_close_cdev(dev);
	dev_free(dev);
}

int dev_delete_leaked(struct ublk_dev *dev, uint64_t deadline_ns)
{
	int r = dev_teardown(dev, deadline_ns);

	if (r == -ETIMEDOUT) {
		dev_reap_later(dev);
		return r;
	}
	dev_free(dev);
	return r;
}
