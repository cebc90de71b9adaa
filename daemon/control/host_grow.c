// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Growing a volume and its device: the volume first, so that no request can come that nobody would
 * serve. Runs as the owner of the name. See host_priv.h.
 */
#include "control/host_priv.h"

#include <string.h>

#include "lib/log.h"

#define GROW_TIMEOUT_NS (60 * NSEC_PER_SEC)

void vol_device_follow(struct host_vol *vol, struct ublk_dev *dev, uint64_t op_id)
{
	struct fmt_err fe = {{0}};

	if (ublk_dev_resize(dev, op_id, &fe))
		log_warn("%s", fe.msg);
}

int vol_grow(struct host_vol *vol, uint64_t size_bytes, uint64_t op_id, struct op_err *err)
{
	struct host *h = vol->h;
	struct volume_info info;
	struct fmt_err fe = {{0}};
	int r = 0;

	volume_info_read(vol->v, &info);
	/* A larger volume is as good, and a root may be ahead of what is served. */
	size_bytes = MAX(size_bytes, info.root.size_bytes);
	if (volume_size_bytes(vol->v) < size_bytes) {
		vol_phase(vol, "growing");
		r = volume_grow(vol->v, size_bytes, GROW_TIMEOUT_NS, op_id, &fe);
		if (r == -EROFS)
			return op_fail(err, OP_FAULT_CONFLICT, EROFS, "%s", fe.msg);
		if (r && info.mode == VOLUME_POISONED)
			return op_fail(err, OP_FAULT_LOCAL, -r, "%s", fe.msg);
		if (r)
			return op_fail_engine(err, r, "growing it", vol->name, &fe);
		log_info("volume %s: %llu bytes now", vol->name, (unsigned long long)size_bytes);
	}
	if (!vol->dev)
		return 0;
	r = ublk_dev_resize(vol->dev, op_id, &fe);
	if (r)
		log_warn("%s", fe.msg);
	SCOPED_LOCK(&h->lock);
	vol->dev_bytes = ublk_dev_bytes(vol->dev);
	return r && r != -EOPNOTSUPP ? op_fail_device(err, r, vol->name, &fe) : 0;
}
