// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices of a daemon that is gone: found by the map or by their identity, taken over, or removed.
 * A device is ours only if its identity says so; all others are never touched.
 */
#include "ublk/ublk_priv.h"

#include "lib/log.h"
#include "lib/spans.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define POLL_NS              (5 * NSEC_PER_MSEC)
#define RECOVER_ARM_EXTRA_NS (300 * NSEC_PER_SEC)

int dev_info_read(struct ublk_host *h, int dev_id, struct ublksrv_ctrl_dev_info *info,
		  uint64_t timeout_ns)
{
	const struct ublk_cmd_spec spec = {
		.op = UBLK_U_CMD_GET_DEV_INFO,
		.dev_id = (uint32_t)dev_id,
		.buf = info,
		.len = sizeof(*info),
		.timeout_ns = timeout_ns,
	};

	memset(info, 0, sizeof(*info));
	return MIN(ublk_ctrl_run(h->ctrl, &spec, NULL), 0);
}

int dev_ids_list(int **ids, size_t *nr)
{
	DIR *d = opendir("/sys/class/ublk-char");
	struct dirent *e;
	size_t cap = 0;
	int r = 0;

	*ids = NULL;
	*nr = 0;
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		int id;

		if (sscanf(e->d_name, "ublkc%d", &id) != 1)
			continue;
		if (*nr == cap) {
			int *more = realloc(*ids, MAX(16u, 2 * cap) * sizeof(int));

			if (!more) {
				r = -ENOMEM;
				break;
			}
			*ids = more;
			cap = MAX(16u, 2 * cap);
		}
		(*ids)[(*nr)++] = id;
	}
	closedir(d);
	if (r) {
		free(*ids);
		*ids = NULL;
	}
	return r;
}

/* Remember that a volume with this identity exists: its device is not leaked, come what may. */
static int identity_want(struct ublk_host *h, uint64_t identity)
{
	uint64_t *more;
	SCOPED_LOCK(&h->lock);

	for (size_t i = 0; i < h->nr_wanted; i++)
		if (h->wanted[i] == identity)
			return 0;
	more = realloc(h->wanted, (h->nr_wanted + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	h->wanted = more;
	h->wanted[h->nr_wanted++] = identity;
	return 0;
}

static bool identity_wanted(struct ublk_host *h, uint64_t identity)
{
	SCOPED_LOCK(&h->lock);

	for (size_t i = 0; i < h->nr_wanted; i++)
		if (h->wanted[i] == identity)
			return true;
	return false;
}

/* The device of this identity that still can be recovered. -ENOENT. */
static int dev_find(struct ublk_host *h, const uint8_t uuid[16], uint64_t identity,
		    struct ublksrv_ctrl_dev_info *info)
{
	struct devmap_entry entry;
	int *ids, r;
	size_t nr;

	/* The map saves the scan; that it is right is for the identity to say. */
	if (devmap_find_uuid(h->map, uuid, &entry)) {
		r = dev_info_read(h, entry.dev_id, info, h->cmd_timeout_ns);
		if (!r && info->ublksrv_flags == identity && info->state != UBLK_S_DEV_DEAD)
			return 0;
		if (r == -ETIMEDOUT)
			return r;
	}
	r = dev_ids_list(&ids, &nr);
	if (r)
		return r;
	r = -ENOENT;
	for (size_t i = 0; i < nr && r == -ENOENT; i++) {
		int one = dev_info_read(h, ids[i], info, h->cmd_timeout_ns);

		if (one == -ETIMEDOUT)
			r = one;
		else if (!one && info->ublksrv_flags == identity && info->state != UBLK_S_DEV_DEAD)
			r = 0;
	}
	free(ids);
	return r;
}

/*
 * Wait until the predecessor has let go, then START_USER_RECOVERY. The state is LIVE while the
 * dying process still has I/O in flight, and the command answers -EBUSY until its descriptor is
 * closed.
 */
static int dev_start_recovery(struct ublk_dev *dev, struct ublksrv_ctrl_dev_info *info,
			      uint64_t deadline_ns, struct fmt_err *err)
{
	const struct timespec pause = {.tv_nsec = POLL_NS};
	bool heal = dev->h->heal;
	int r;

	for (;;) {
		r = -EBUSY;
		if (info->state == UBLK_S_DEV_QUIESCED || info->state == UBLK_S_DEV_FAIL_IO) {
			r = heal ? dev_heal(dev, deadline_ns) : 0;
			if (r)
				return dev_fail(dev, "preparation for recovery", r, err);
			heal = false;
			r = dev_cmd(dev, UBLK_U_CMD_START_USER_RECOVERY, 0, NULL, 0, deadline_ns,
				    NULL);
		}
		if (r >= 0)
			return 0;
		if (r != -EBUSY)
			return dev_fail(dev, "START_USER_RECOVERY", r, err);
		if (now_ns() >= deadline_ns)
			break;
		nanosleep(&pause, NULL);
		r = dev_info_read(dev->h, dev->id, info, dev->h->cmd_timeout_ns);
		if (r)
			return dev_fail(dev, "GET_DEV_INFO", r, err);
		if (info->state == UBLK_S_DEV_DEAD)
			return -ENOENT;
	}
	snprintf(err->msg, sizeof(err->msg),
		 "volume %.60s: device %d is still served by process %d (state %s)", dev->name,
		 dev->id, info->ublksrv_pid, info->state == UBLK_S_DEV_LIVE ? "live" : "quiesced");
	return -EBUSY;
}

/*
 * A recovery that failed half-way: requests must go on waiting, for the next attempt of a new
 * process. The queues that were armed cannot be un-armed without stopping the device, so they are
 * held.
 */
static void dev_give_back(struct ublk_dev *dev, struct fmt_err *err)
{
	char msg[sizeof(err->msg)];

	snprintf(msg, sizeof(msg), "%.150s; it waits for a restart", err->msg);
	*err = (struct fmt_err){0};
	snprintf(err->msg, sizeof(err->msg), "%s", msg);
	ublk_dev_abandon(dev);
}

static int dev_recover(struct ublk_dev *dev, struct ublksrv_ctrl_dev_info *info,
		       struct fmt_err *err)
{
	struct ublk_host *h = dev->h;
	uint64_t deadline = now_ns() + h->cmd_timeout_ns;
	char why[120];
	int r;

	r = ublk_features_check(UBLK_F_USER_COPY | UBLK_F_USER_RECOVERY, info->flags, why,
				sizeof(why));
	if (!r && info->max_io_buf_bytes > UBLK_IO_BYTES_MAX) {
		snprintf(why, sizeof(why), "its requests may have %u bytes, ours %llu",
			 info->max_io_buf_bytes, UBLK_IO_BYTES_MAX);
		r = -EOPNOTSUPP;
	}
	if (r) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %.30s: device %d cannot be recovered: %s", dev->name, dev->id,
			 why);
		return r;
	}
	r = dev_read_size(dev, deadline);
	if (r)
		return dev_fail(dev, "GET_PARAMS", r, err);
	r = dev_start_recovery(dev, info, deadline, err);
	if (r)
		return r;
	log_debug("volume %s: recovering device %d", dev->name, dev->id);
	r = dev_open_cdev(dev, deadline);
	if (r)
		return dev_fail(dev, "open of the char device", r, err);
	dev->one_worker = h->recover_in_one_step;
	r = dev_add_lanes(dev);
	if (r)
		return dev_fail(dev, "lanes", r, err);
	/*
	 * Requests may come as soon as all queues are armed (measured on 7.3), or with
	 * END_USER_RECOVERY. From here it is all queues or none: a driver before 6.16 cannot start
	 * another recovery of a device of which only some are armed. So a slow worker is waited
	 * for.
	 */
	r = dev_arm(dev, deadline + RECOVER_ARM_EXTRA_NS);
	if (r)
		return dev_fail(dev, "arming of queues", r, err);
	r = dev_cmd(dev, UBLK_U_CMD_END_USER_RECOVERY, (uint64_t)getpid(), NULL, 0, deadline,
		    &dev->late_start);
	if (r < 0)
		return dev_fail(dev, "END_USER_RECOVERY", r, err);
	return 0;
}

int ublk_dev_recover(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out,
		     struct fmt_err *err)
{
	const uint64_t identity = ublk_identity(h->host_id, volume_uuid(v));
	struct ublksrv_ctrl_dev_info info;
	struct timing_rec rec = {
		.event = TIMING_UBLK_RECOVER,
		.op_id = op_id,
		.start_ns = now_ns(),
		.export_ = volume_name(v),
		.dev_id = -1,
	};
	struct ublk_dev *dev = NULL;
	uint32_t span;
	int r;

	r = identity_want(h, identity);
	if (!r)
		r = dev_find(h, volume_uuid(v), identity, &info);
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "volume %.60s: no device to recover: %s",
			 volume_name(v), strerror(-r));
		return r;
	}
	rec.dev_id = (int)info.dev_id;
	span = span_open(&rec);
	r = dev_new(h, v, op_id, &dev);
	if (!r) {
		r = dev_adopt(dev, &info);
		if (!r)
			r = dev_recover(dev, &info, err);
	}
	if (!r) {
		/* The volume's own device, whatever the map said. */
		r = devmap_set(h->map, dev->id, volume_uuid(v), dev->name);
		if (!r)
			r = devmap_sync(h->map);
		if (r)
			log_warn("ublk: cannot write the device map: %s", strerror(-r));
		r = 0;
		*out = dev;
	} else if (dev && dev->cdev_fd >= 0) {
		dev_give_back(dev, err);
	} else {
		dev_free(dev);
	}
	rec.result = r;
	span_close(span);
	timing_emit(&rec);
	return r;
}

static uint64_t devs_freed(struct ublk_host *h)
{
	SCOPED_LOCK(&h->lock);

	return h->devs_freed;
}

/*
 * Take over the removal of a device whose info was read when `freed` devices of this process were
 * gone. -EEXIST: this process has one of that identity, being added, served or removed. -EAGAIN:
 * one went meanwhile; it may have been this one, and its id may be another's by now.
 */
static int dev_new_leaked(struct ublk_host *h, const struct ublksrv_ctrl_dev_info *info,
			  uint64_t freed, struct ublk_dev **out)
{
	struct ublk_dev *dev = calloc(1, sizeof(*dev)), *other;
	int r = 0;

	if (!dev)
		return -ENOMEM;
	dev->h = h;
	dev->id = (int)info->dev_id;
	dev->identity = info->ublksrv_flags;
	dev->cdev_fd = -1;
	snprintf(dev->name, sizeof(dev->name), "(leaked)");
	pthread_mutex_lock(&h->lock);
	if (h->devs_freed != freed)
		r = -EAGAIN;
	list_for_each_entry (other, &h->devs, node)
		if (other->identity == dev->identity)
			r = -EEXIST;
	if (!r)
		list_add_tail(&dev->node, &h->devs);
	pthread_mutex_unlock(&h->lock);
	if (r)
		free(dev);
	else
		*out = dev;
	return r;
}

/* Ours, with nobody behind it, and of no volume that anybody knows. */
static bool dev_is_leaked(struct ublk_host *h, const struct ublksrv_ctrl_dev_info *info,
			  bool (*known)(const uint8_t uuid[16], void *arg), void *arg)
{
	struct devmap_entry entry;

	if (!ublk_identity_is_ours(h->host_id, info->ublksrv_flags) ||
	    info->state == UBLK_S_DEV_LIVE)
		return false;
	/*
	 * Never started: whatever it was to become, nobody has seen it. That it is not of this
	 * process, which may be adding or removing it, is for dev_new_leaked().
	 */
	if (info->state == UBLK_S_DEV_DEAD)
		return true;
	if (identity_wanted(h, info->ublksrv_flags))
		return false;
	/* A map entry names the volume, if it is this device's. */
	if (devmap_find_dev(h->map, (int)info->dev_id, &entry) &&
	    ublk_identity(h->host_id, entry.uuid) == info->ublksrv_flags)
		return !known(entry.uuid, arg);
	/*
	 * Not in the map: its creation was never answered. But a lost map says nothing, and a
	 * volume that could not be opened yet may be the owner.
	 */
	return devmap_was_whole(h->map);
}

int ublk_reap_leaked(struct ublk_host *h, bool (*known)(const uint8_t uuid[16], void *arg),
		     void *arg)
{
	int *ids, reaped = 0, r;
	size_t nr;

	r = dev_ids_list(&ids, &nr);
	if (r)
		return r;
	for (size_t i = 0; i < nr; i++) {
		struct ublksrv_ctrl_dev_info info;
		struct ublk_dev *dev;

		do {
			uint64_t freed = devs_freed(h);

			if (dev_info_read(h, ids[i], &info, h->cmd_timeout_ns) ||
			    !dev_is_leaked(h, &info, known, arg))
				r = -ENOENT;
			else
				r = dev_new_leaked(h, &info, freed, &dev);
		} while (r == -EAGAIN);
		if (r)
			continue;
		log_warn("ublk: device %d carries our identity but belongs to no volume; removing "
			 "it",
			 ids[i]);
		if (!dev_delete_leaked(dev, now_ns() + h->cmd_timeout_ns))
			reaped++;
	}
	free(ids);
	if (reaped && devmap_sync(h->map))
		log_warn("ublk: cannot write the device map");
	return reaped;
}
