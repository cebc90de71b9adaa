// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Snapshots of volumes. Making one runs as the owner of the volume's name; listing and deleting
 * need only the store, and so do those of base images. See host.h.
 */
#include "control/host_priv.h"

#include <stdio.h>
#include <string.h>

#include "engine/gc.h"
#include "lib/log.h"

/* Of a volume that is only in the store: nobody has anything of it that is not uploaded. */
static int snapshot_unowned(struct host_vol *vol, const char *tag, uint64_t op_id,
			    struct snapshot *out, struct op_err *err)
{
	struct host *h = vol->h;
	uint64_t until_ns = gc_window_end(h->e);
	struct fmt_err fe = {{0}};
	struct root root;
	int r = root_load(h->e, vol->name, op_id, &root, NULL, &fe);

	if (!r && pending_matches(h, &root))
		r = -ENOENT;
	if (r == -ENOENT)
		return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s does not exist",
			       vol->name);
	if (r)
		return op_fail_engine(err, r, "reading its root", vol->name, &fe);
	if (root.owner[0])
		return op_fail(err, OP_FAULT_CONFLICT, EBUSY,
			       "volume %s is owned by host %s and not attached here; make the "
			       "snapshot there",
			       vol->name, root.owner);
	r = snapshot_write(h->e, &root, tag, until_ns, op_id, out, &fe);
	return r ? op_fail_engine(err, r, "writing its snapshot", vol->name, &fe) : 0;
}

static int snapshot_owned(struct host_vol *vol, const char *tag, uint64_t timeout_ns,
			  uint64_t op_id, struct snapshot *out, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	int r;

	if (snapshot_tag_check(tag, &fe))
		return op_fail(err, OP_FAULT_REQUEST, EINVAL, "%s", fe.msg);
	if (vol->state == HOST_FAILED || vol->state == HOST_RECOVERING)
		return op_fail(err, OP_FAULT_STORE, EAGAIN,
			       "volume %s exists on this host, but is not attached: %s", vol->name,
			       vol->why[0] ? vol->why : "it is being recovered");
	if (!vol->v)
		return snapshot_unowned(vol, tag, op_id, out, err);
	vol_phase(vol, "uploading");
	r = vol_drain(vol, timeout_ns, op_id, err);
	if (r)
		return r;
	vol_phase(vol, "writing the snapshot");
	r = volume_snapshot(vol->v, tag, op_id, out, &fe);
	if (r == -ETIMEDOUT)
		return op_fail(err, OP_FAULT_STORE, ETIMEDOUT,
			       "volume %s: the store gave no definite answer to its snapshot (%s); "
			       "it does not count; try again",
			       vol->name, fe.msg);
	return r ? op_fail_engine(err, r, "making its snapshot", vol->name, &fe) : 0;
}

int host_snapshot(struct host *h, const char *name, const char *tag, uint64_t timeout_ns,
		  uint64_t op_id, struct snapshot *out, struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_SNAPSHOT, name, -1, op_id);
	struct host_vol *vol = vol_begin(h, name, "snapshot", err);
	int r, dev_id;

	if (!vol)
		return op_timing_refused(&t);
	dev_id = vol->dev_id;
	r = snapshot_owned(vol, tag, timeout_ns, op_id, out, err);
	vol_end(vol);
	op_timing_end(&t, dev_id, r);
	if (!r)
		log_info("volume %s: snapshot %llu of generation %llu, sequence %llu", name,
			 (unsigned long long)out->seq, (unsigned long long)out->generation,
			 (unsigned long long)out->sequence);
	return r;
}

int host_snapshot_list(struct host *h, const char *name, uint64_t op_id,
		       struct snapshot_entry **out, size_t *nr, struct op_err *err)
{
	struct host_volume_info info;
	struct fmt_err fe = {{0}};
	char why[200];
	int r = snapshot_list(h->e, name, op_id, out, nr, &fe);

	if (r)
		return op_fail_engine(err, r, "listing its snapshots", name, &fe);
	if (*nr)
		return 0;
	r = host_show(h, name, false, op_id, &info, why, err);
	if (r) {
		free(*out);
		*out = NULL;
	}
	return r;
}

int host_snapshot_delete(struct host *h, const char *name, uint64_t seq, uint64_t op_id,
			 struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_DELETE_SNAPSHOT, name, -1, op_id);
	struct fmt_err fe = {{0}};
	int r = snapshot_delete(h->e, name, seq, op_id, &fe);

	if (r)
		r = op_fail_engine(err, r, "deleting its snapshot", name, &fe);
	else
		log_info("volume %s: snapshot %llu deleted", name, (unsigned long long)seq);
	op_timing_end(&t, -1, r);
	return r;
}

int host_image_list(struct host *h, uint64_t op_id, struct base_entry **out, size_t *nr,
		    struct op_err *err)
{
	struct fmt_err fe = {{0}};
	int r = base_list(h->e, op_id, out, nr, &fe);

	return r ? op_fail(err, OP_FAULT_STORE, -r, "listing the images: %s", fe.msg) : 0;
}

int host_image_delete(struct host *h, const char *name, uint64_t op_id, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	int r = base_delete(h->e, name, op_id, &fe);

	if (r)
		return op_fail(err, OP_FAULT_STORE, -r, "deleting image %s: %s", name, fe.msg);
	log_info("image %s deleted", name);
	return 0;
}
