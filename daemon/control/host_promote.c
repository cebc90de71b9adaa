// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Making a read-only volume writable. Only while it is detached: its device has told the kernel,
 * and whoever looked, that it is read-only. Runs as the owner of the name. See host.h.
 */
#include "control/host_priv.h"

#include <string.h>

#include "lib/log.h"

static int promote_owned(struct host_vol *vol, uint64_t op_id, bool *changed, struct op_err *err)
{
	struct host *h = vol->h;
	char etag[STORE_ETAG_MAX];
	struct fmt_err fe = {{0}};
	struct volume_info info;
	struct root root;
	int r;

	if (vol->v) {
		volume_info_read(vol->v, &info);
		if (!info.root.read_only)
			return 0;
	}
	if (vol->state != HOST_DETACHED)
		return op_fail(err, OP_FAULT_CONFLICT, EBUSY,
			       "volume %s is %s on this host: detach it, promote it, and attach it "
			       "again",
			       vol->name, host_state_name(vol->state));
	r = root_load(h->e, vol->name, op_id, &root, etag, &fe);
	if (!r && pending_matches(h, &root))
		r = -ENOENT;
	if (r == -ENOENT)
		return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s does not exist",
			       vol->name);
	if (r)
		return op_fail_engine(err, r, "reading its root", vol->name, &fe);
	*changed = root.read_only;
	r = root_promote(h->e, &root, etag, op_id, &fe);
	if (r == -EBUSY || r == -ESTALE)
		return op_fail(err, OP_FAULT_CONFLICT, -r, "%s", fe.msg);
	if (r == -ETIMEDOUT)
		return op_fail(err, OP_FAULT_STORE, ETIMEDOUT,
			       "volume %s: the store gave no definite answer (%s); it may be "
			       "writable now; try again",
			       vol->name, fe.msg);
	return r ? op_fail_engine(err, r, "writing its root", vol->name, &fe) : 0;
}

int host_promote(struct host *h, const char *name, uint64_t op_id, struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_PROMOTE_EXPORT, name, -1, op_id);
	struct host_vol *vol = vol_begin(h, name, "promote", err);
	bool changed = false;
	int r;

	if (!vol)
		return op_timing_refused(&t);
	r = promote_owned(vol, op_id, &changed, err);
	vol_end(vol);
	op_timing_end(&t, -1, r);
	if (!r && changed)
		log_info("volume %s: writable from now on", name);
	return r;
}
