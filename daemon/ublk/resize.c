// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The size of a device whose volume grew. UPDATE_SIZE (6.16 and newer) changes it while the device
 * is in use; before that it stays until the device is made anew. By the thread that drives the
 * device.
 */
#include "ublk/ublk_priv.h"

#include "lib/log.h"

#include <stdio.h>

uint64_t ublk_dev_bytes(const struct ublk_dev *dev)
{
	return dev->bytes;
}

int dev_read_size(struct ublk_dev *dev, uint64_t deadline_ns)
{
	struct ublk_params p = {.len = sizeof(p)};
	int r = dev_cmd(dev, UBLK_U_CMD_GET_PARAMS, 0, &p, sizeof(p), deadline_ns, NULL);

	if (r < 0)
		return r;
	dev->bytes = p.basic.dev_sectors << 9;
	return 0;
}

int ublk_dev_resize(struct ublk_dev *dev, uint64_t op_id, struct fmt_err *err)
{
	uint64_t bytes = volume_size_bytes(dev->v);
	int r;

	if (bytes <= dev->bytes)
		return 0;
	if (!(dev->flags & UBLK_F_UPDATE_SIZE)) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %.60s: device %d keeps its %llu bytes, because %s; the %llu bytes "
			 "of the volume are there after detach and attach",
			 dev->name, dev->id, (unsigned long long)dev->bytes,
			 dev->h->caps.features & UBLK_F_UPDATE_SIZE
				 ? "it was made by an older kernel's driver"
				 : "this kernel cannot change the size of a ublk device (Linux "
				   "6.16 and newer can)",
			 (unsigned long long)bytes);
		return -EOPNOTSUPP;
	}
	dev->op_id = op_id;
	r = dev_cmd(dev, UBLK_U_CMD_UPDATE_SIZE, bytes >> 9, NULL, 0,
		    now_ns() + dev->h->cmd_timeout_ns, NULL);
	if (r < 0)
		return dev_fail(dev, "UPDATE_SIZE", r, err);
	dev->bytes = bytes;
	log_info("volume %s: device %d has %llu bytes now", dev->name, dev->id,
		 (unsigned long long)bytes);
	return 0;
}
