// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Creating a volume: a pending record, then the PUT of the root while local state and device are
 * made, then the durable list: one round trip of the store and little more. A failure at any step
 * undoes the others; what cannot be undone now stays in the pending record, which makes the volume
 * not exist until the reaper has removed it. The owner of the name runs all of this, with a job on
 * the create pool.
 */
#include "control/host_priv.h"

#include <stdio.h>
#include <string.h>

#include "lib/log.h"
#include "lib/step.h"

/* How often a create may find its name taken by a leftover of its own and remove that. */
#define CREATE_ROUNDS 3

static bool def_equal(const struct volume_def *d, const struct root *r)
{
	return d->partitions == r->partitions && d->read_only == r->read_only &&
	       (!d->block_bytes || d->block_bytes == r->block_bytes);
}

/* The volume exists: 0 if it is what was asked for, or will be by growing. */
static int check_existing(const struct volume_def *d, const struct root *r, struct op_err *err)
{
	if (def_equal(d, r) && d->size_bytes >= r->size_bytes)
		return 0;
	if (d->size_bytes < r->size_bytes)
		return op_fail(err, OP_FAULT_CONFLICT, EEXIST,
			       "volume %s exists with %llu bytes: it cannot be made smaller (%llu)",
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

	if (p && def_equal(d, &p->root) && d->size_bytes == p->root.size_bytes) {
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

/* ---- the local side: volume and device, while the PUT is in flight ---- */

struct local_side {
	struct pool_job job;
	struct host_vol *vol;
	const struct root *root;
	uint64_t op_id;

	/* Results, valid once done. */
	struct volume *v;
	struct ublk_dev *dev;
	int r;
	struct op_err err;
	bool done; /* under h->lock */
};

static void local_side_run(struct pool_job *job)
{
	struct local_side *l = container_of(job, struct local_side, job);
	struct host *h = l->vol->h;
	struct fmt_err fe = {{0}};

	vol_set_uuid(l->vol, l->root->uuid);
	l->r = volume_open(h->e, l->vol->name, NULL, CLAIM_OWN, false, l->root, NULL, l->op_id,
			   &l->v, &fe);
	if (l->r)
		l->r = op_fail_engine(&l->err, l->r, "opening it", l->vol->name, &fe);
	else
		step_reached(STEP_LOCAL_OPENED);
	if (!l->r)
		l->r = vol_device_add(l->vol, l->v, l->op_id, &l->dev, &l->err);
	SCOPED_LOCK(&h->lock);
	l->done = true;
	pthread_cond_broadcast(&h->cond);
}

static void local_side_start(struct local_side *l, struct host_vol *vol, const struct root *root,
			     uint64_t op_id)
{
	*l = (struct local_side){.vol = vol, .root = root, .op_id = op_id};
	l->job.run = local_side_run;
	/* A pool of its own: its jobs never wait for the requests that wait for them. */
	pool_submit(vol->h->create_pool, &l->job);
}

static void local_side_wait(struct local_side *l)
{
	struct host *h = l->vol->h;
	SCOPED_LOCK(&h->lock);

	while (!l->done)
		pthread_cond_wait(&h->cond, &h->lock);
}

/*
 * A device that the kernel does not let go needs its volume: both are kept, out of reach, until the
 * daemon ends. The next one removes the device, because its volume is on no list.
 */
static void local_side_keep(struct local_side *l, const struct fmt_err *fe)
{
	struct host *h = l->vol->h;

	log_err("volume %s: undoing its create: device not removed: %s", l->vol->name, fe->msg);
	vol_set(l->vol, HOST_FAILED, l->v, l->dev);
	SCOPED_LOCK(&h->lock);
	snprintf(l->vol->why, sizeof(l->vol->why),
		 "its create failed and its device cannot be removed (%.100s); restart glidefsd",
		 fe->msg);
}

/*
 * Take it back. in_store: the root was written, so it goes too; what cannot be removed now is the
 * reaper's, by the pending record. The caller disposes of the record.
 */
static void local_side_undo(struct local_side *l, bool in_store)
{
	struct host *h = l->vol->h;
	struct fmt_err fe = {{0}};
	int r;

	step_reached(STEP_UNDO_BEGUN);
	if (in_store && (r = root_delete(h->e, l->vol->name, l->root->nonce, l->op_id, &fe)))
		log_warn("volume %s: undoing its create: %s; the reaper tries again", l->vol->name,
			 fe.msg[0] ? fe.msg : strerror(-r));
	step_reached(STEP_UNDO_ROOT);
	if (l->dev && ublk_dev_remove(l->dev, true, l->op_id, &fe)) {
		local_side_keep(l, &fe);
		return;
	}
	step_reached(STEP_UNDO_DEVICE);
	if (l->v)
		volume_close(l->v);
	step_reached(STEP_UNDO_CLOSED);
	pending_local_remove(h, l->root->uuid);
	step_reached(STEP_UNDO_LOCAL);
}

/* ---- the whole ---- */

/* The PUT did not succeed (r); the local side is undone. What the create answers; *again: another
 * round. */
static int put_failed(struct host *h, const struct volume_def *d, struct pending *p, int r,
		      const struct fmt_err *fe, uint64_t op_id, bool *again, struct op_err *err)
{
	*again = false;
	/* A PUT of an earlier attempt may still land, however definitely this one failed. */
	if (r == -ETIMEDOUT || p->maybe)
		pending_leave(h, p, false);
	else
		pending_drop(h, p);
	step_reached(STEP_UNDO_LEFT);
	if (r == -ETIMEDOUT)
		return op_fail(
			err, OP_FAULT_STORE, ETIMEDOUT,
			"volume %s: the store gave no definite answer to its creation (%s); it "
			"does not exist; a retry of the same create is safe",
			d->name, fe->msg[0] ? fe->msg : "timeout");
	if (r != -EEXIST)
		return op_fail_engine(err, r, "writing its root", d->name, fe);
	return name_taken(h, d, op_id, again, err);
}

/* Root and device are there: make it last. */
static int create_finish(struct host_vol *vol, struct local_side *l, const char *etag,
			 struct op_err *err)
{
	int r;

	step_reached(STEP_CREATE_JOINED);
	volume_created(l->v, etag);
	r = list_set(vol, true);
	if (r)
		return op_fail(err, r == -ENOSPC ? OP_FAULT_SPACE : OP_FAULT_LOCAL, -r,
			       "volume %s: the list of volumes cannot be written to %s: %s",
			       vol->name, vol->h->cfg.state_dir, strerror(-r));
	step_reached(STEP_CREATE_LISTED);
	vol_set(vol, HOST_ATTACHED, l->v, l->dev);
	return 0;
}

/* One attempt. 0: created. 1: it exists as asked, and is to be attached. */
static int create_round(struct host_vol *vol, const struct volume_def *d, uint64_t deadline,
			uint64_t op_id, bool *again, struct op_err *err)
{
	struct host *h = vol->h;
	char etag[STORE_ETAG_MAX] = "";
	struct fmt_err fe = {{0}};
	struct local_side local;
	struct pending *p;
	bool late;
	int r = record_take(h, d, &p, err);

	*again = false;
	if (r)
		return r;
	step_reached(STEP_CREATE_RECORDED);
	local_side_start(&local, vol, &p->root, op_id);
	step_reached(STEP_CREATE_PUT);
	r = root_create_late(h->e, &p->root, deadline, op_id, etag, &late, &fe);
	/* Whatever comes of it: a copy may land later, when another has come and gone. */
	p->maybe |= late;
	if (!r)
		step_reached(STEP_CREATE_WRITTEN);
	local_side_wait(&local);
	if (r) {
		local_side_undo(&local, false);
		r = put_failed(h, d, p, r, &fe, op_id, again, err);
		return r ? r : 1;
	}
	r = local.r;
	if (r)
		*err = local.err;
	else
		r = create_finish(vol, &local, etag, err);
	if (!r) {
		pending_whole(h, p);
		step_reached(STEP_CREATE_SETTLED);
		return 0;
	}
	local_side_undo(&local, true);
	/* Kept in any case: a PUT that was retried may still land. */
	pending_leave(h, p, true);
	step_reached(STEP_UNDO_LEFT);
	return r;
}

static int create_owned(struct host_vol *vol, const struct volume_def *d, uint64_t op_id,
			bool *created, struct op_err *err)
{
	struct host *h = vol->h;
	uint64_t deadline = now_ns() + h->cfg.create_timeout_ns;
	struct volume_info info;
	bool again = true;
	int r = 0;

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
		return r ? r : vol_grow(vol, d->size_bytes, op_id, err);
	case HOST_DETACHED:
		break;
	}
	for (int round = 0; again && round < CREATE_ROUNDS; round++)
		r = create_round(vol, d, deadline, op_id, &again, err);
	if (r > 0) {
		r = vol_attach(vol, CLAIM_OWN, op_id, err);
		return r ? r : vol_grow(vol, d->size_bytes, op_id, err);
	}
	*created = !r;
	return r;
}

int host_create_volume(struct host *h, const struct volume_def *def, uint64_t op_id, bool *created,
		       struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_CREATE_EXPORT, def->name, -1, op_id);
	struct host_vol *vol = vol_begin(h, def->name, "create", err);
	int r, dev_id = -1;

	*created = false;
	if (!vol)
		return op_timing_refused(&t);
	r = create_owned(vol, def, op_id, created, err);
	dev_id = vol->dev_id;
	vol_end(vol);
	op_timing_end(&t, dev_id, r);
	if (!r)
		step_reached(STEP_CREATE_ENDED);
	if (*created)
		log_info("volume %s: created, %llu bytes, device %d", def->name,
			 (unsigned long long)def->size_bytes, dev_id);
	return r;
}
