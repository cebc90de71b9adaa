// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Creating a volume: pending record, PUT of the root, local state, device, durable list. A failure
 * at any step undoes the steps before it; what cannot be undone now stays in the pending record,
 * which makes the volume not exist until the reaper has removed it. The owner of the name runs all
 * of this.
 */
#include "control/host_priv.h"

#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "lib/timing.h"

/* How often a create may find its name taken by a leftover of its own and remove that. */
#define CREATE_ROUNDS 3

static bool def_equal(const struct volume_def *d, const struct root *r)
{
	return d->size_bytes == r->size_bytes && d->partitions == r->partitions &&
	       d->read_only == r->read_only &&
	       (!d->block_bytes || d->block_bytes == r->block_bytes);
}

/* The volume exists: 0 if it is what was asked for. */
static int check_existing(const struct volume_def *d, const struct root *r, struct op_err *err)
{
	if (def_equal(d, r))
		return 0;
	if (d->size_bytes != r->size_bytes)
		return op_fail(err, OP_FAULT_CONFLICT, EEXIST,
			       "volume %s exists with %llu bytes, not %llu: the size of a volume "
			       "cannot be "
			       "changed",
			       d->name, (unsigned long long)r->size_bytes,
			       (unsigned long long)d->size_bytes);
	return op_fail(err, OP_FAULT_CONFLICT, EEXIST,
		       "volume %s exists with another definition: partitions %s, read_only %s, "
		       "blocks of %u "
		       "bytes",
		       d->name, r->partitions ? "true" : "false", r->read_only ? "true" : "false",
		       r->block_bytes);
}

/* The root is another operation's: the volume's, or a leftover of ours that is in the way. */
static int name_taken(struct host *h, const struct volume_def *d, uint64_t op_id, bool *again,
		      struct op_err *err)
{
	struct fmt_err fe = {{0}};
	struct root root;
	int r = root_load(h->e, d->name, op_id, &root, NULL, &fe);

	*again = false;
	if (r == -ENOENT) {
		*again = true;
		return op_fail(err, OP_FAULT_BUSY, EAGAIN,
			       "volume %s: it appears and vanishes; try again", d->name);
	}
	if (r)
		return op_fail_engine(err, r, "reading its root", d->name, &fe);
	if (!pending_matches(h, &root))
		return check_existing(d, &root, err);
	r = root_delete(h->e, d->name, root.nonce, op_id, &fe);
	if (r)
		return op_fail_engine(err, r, "removing the leftover of an earlier create", d->name,
				      &fe);
	*again = true;
	return op_fail(err, OP_FAULT_BUSY, EAGAIN, "volume %s: a late PUT keeps coming; try again",
		       d->name);
}

/*
 * A record for this create: the one of a failed attempt with the same definition, so that its PUT,
 * late or not, is this create's too; else a new one. Records of other definitions go to the reaper.
 */
static int record_take(struct host *h, const struct volume_def *d, struct pending **out,
		       struct op_err *err)
{
	struct root root;
	struct pending *p = pending_adopt(h, d->name);
	int r;

	if (p && def_equal(d, &p->root)) {
		*out = p;
		return 0;
	}
	if (p)
		pending_leave(h, p, true);
	r = root_prepare(h->e, d, &root);
	if (r)
		return op_fail(err, OP_FAULT_REQUEST, -r, "volume %s: cannot be defined so: %s",
			       d->name, strerror(-r));
	r = pending_add(h, &root, out);
	if (r)
		return op_fail(err, r == -ENOSPC ? OP_FAULT_SPACE : OP_FAULT_LOCAL, -r,
			       "volume %s: its pending record cannot be written to %s: %s", d->name,
			       h->cfg.state_dir, strerror(-r));
	return 0;
}

/* PUT the root. 0: ours now, *p active. 1: the volume exists as asked, *p gone. */
static int root_put(struct host *h, const struct volume_def *d, struct pending **p, char *etag,
		    uint64_t op_id, struct op_err *err)
{
	uint64_t deadline = now_ns() + h->cfg.create_timeout_ns;

	for (int round = 0;; round++) {
		struct fmt_err fe = {{0}};
		bool again = false;
		int r = record_take(h, d, p, err);

		if (r)
			return r;
		r = root_create(h->e, &(*p)->root, deadline, op_id, etag, &fe);
		if (r == -ETIMEDOUT) {
			pending_leave(h, *p, false);
			return op_fail(err, OP_FAULT_STORE, ETIMEDOUT,
				       "volume %s: the store gave no definite answer to its "
				       "creation (%s); it "
				       "does not exist; a retry of the same create is safe",
				       d->name, fe.msg[0] ? fe.msg : "timeout");
		}
		if (!r)
			return 0;
		pending_drop(h, *p);
		if (r != -EEXIST)
			return op_fail_engine(err, r, "writing its root", d->name, &fe);
		r = name_taken(h, d, op_id, &again, err);
		if (!r)
			return 1;
		if (!again || round + 1 == CREATE_ROUNDS)
			return r;
	}
}

/* The root is written, a later step failed: take everything back. */
static void undo(struct host_vol *vol, struct pending *p, struct volume *v, struct ublk_dev *dev,
		 uint64_t op_id)
{
	struct host *h = vol->h;
	struct fmt_err fe = {{0}};
	int r = 0;

	if (dev) {
		r = ublk_dev_remove(dev, true, op_id, &fe);
		if (r)
			log_err("volume %s: undoing its create: device not removed: %s", vol->name,
				fe.msg);
	}
	if (v && !r) {
		r = volume_destroy(v, op_id, &fe);
		if (r)
			log_warn("volume %s: undoing its create: %s; the reaper tries again",
				 vol->name, fe.msg[0] ? fe.msg : strerror(-r));
		volume_close(v);
	}
	/* Kept in any case: a retried PUT may still land. */
	pending_leave(h, p, true);
}

static int create_new(struct host_vol *vol, struct pending *p, const char *etag, uint64_t op_id,
		      struct op_err *err)
{
	struct host *h = vol->h;
	struct fmt_err fe = {{0}};
	struct ublk_dev *dev = NULL;
	struct volume *v = NULL;
	int r = volume_open(h->e, vol->name, CLAIM_OWN, false, &p->root, etag, op_id, &v, &fe);

	if (r) {
		r = op_fail_engine(err, r, "opening it", vol->name, &fe);
		undo(vol, p, NULL, NULL, op_id);
		return r;
	}
	vol_set_uuid(vol, p->root.uuid);
	r = vol_device_add(vol, v, op_id, &dev, err);
	if (!r) {
		r = list_set(vol, true);
		if (r)
			r = op_fail(err, r == -ENOSPC ? OP_FAULT_SPACE : OP_FAULT_LOCAL, -r,
				    "volume %s: the list of volumes cannot be written to %s: %s",
				    vol->name, h->cfg.state_dir, strerror(-r));
	}
	if (r) {
		undo(vol, p, v, dev, op_id);
		return r;
	}
	pending_drop(h, p);
	vol_set(vol, HOST_ATTACHED, v, dev);
	return 0;
}

static int create_owned(struct host_vol *vol, const struct volume_def *d, uint64_t op_id,
			bool *created, struct op_err *err)
{
	struct host *h = vol->h;
	char etag[STORE_ETAG_MAX] = "";
	struct volume_info info;
	struct pending *p;
	int r;

	switch (vol->state) {
	case HOST_RECOVERING:
	case HOST_FAILED:
		return op_fail(err, OP_FAULT_STORE, EAGAIN,
			       "volume %s exists on this host, but is not attached: %s", d->name,
			       vol->why[0] ? vol->why : "it is being recovered");
	case HOST_ATTACHED:
	case HOST_STOPPED:
		volume_info_read(vol->v, &info);
		if (info.mode == VOLUME_FENCED)
			return op_fail(err, OP_FAULT_CONFLICT, EBUSY, "volume %s: %s", d->name,
				       info.why);
		r = check_existing(d, &info.root, err);
		if (!r && vol->state == HOST_STOPPED)
			r = vol_attach(vol, CLAIM_OWN, op_id, err);
		return r;
	case HOST_DETACHED:
		break;
	}
	r = root_put(h, d, &p, etag, op_id, err);
	if (r < 0)
		return r;
	if (r)
		return vol_attach(vol, CLAIM_OWN, op_id, err);
	r = create_new(vol, p, etag, op_id, err);
	*created = !r;
	return r;
}

int host_create_volume(struct host *h, const struct volume_def *def, uint64_t op_id, bool *created,
		       struct op_err *err)
{
	uint64_t start = now_ns();
	struct host_vol *vol = vol_begin(h, def->name, "create", err);
	int r, dev_id = -1;

	*created = false;
	if (!vol)
		return -EBUSY;
	r = create_owned(vol, def, op_id, created, err);
	dev_id = vol->dev_id;
	vol_end(vol);
	timing_emit(&(struct timing_rec){.event = TIMING_CREATE_EXPORT,
					 .op_id = op_id,
					 .start_ns = start,
					 .export_ = def->name,
					 .dev_id = dev_id,
					 .result = r});
	if (*created)
		log_info("volume %s: created, %llu bytes, device %d", def->name,
			 (unsigned long long)def->size_bytes, dev_id);
	return r;
}
