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

#include "engine/gc.h"
#include "lib/log.h"
#include "lib/step.h"

/* How often a create may find its name taken by a leftover of its own and remove that. */
#define CREATE_ROUNDS 3
/* How long a fork of a volume waits for the upload of what is dirty there. */
#define FORK_UPLOAD_NS (600 * NSEC_PER_SEC)

enum source_kind { SOURCE_VOLUME, SOURCE_SNAPSHOT, SOURCE_IMAGE };

/* A fork's source as it was asked for. */
struct source {
	enum source_kind kind;
	char name[GFS_NAME_MAX];
	uint64_t seq; /* of a snapshot, else 0 */
};

/* What a create is about. */
struct creation {
	const struct volume_def *asked;
	const struct source *src; /* NULL: no fork, or not said */
	struct volume_def def;    /* `asked`, with the source's snapshot and what follows from it */
	struct snapshot snap;     /* of a volume: seq 0 until it is made; or an image */
	char etag[STORE_ETAG_MAX]; /* of its object, "" = not known */
	uint64_t until_ns; /* of a fork: when its root is sent at the latest, see engine/gc.h */
};

static bool def_equal(const struct volume_def *d, const struct root *r)
{
	return d->partitions == r->partitions && d->read_only == r->read_only &&
	       (!d->block_bytes || d->block_bytes == r->block_bytes);
}

/* Was the volume made from this source? */
static bool source_equal(const struct source *src, const struct root *r)
{
	char name[GFS_NAME_MAX];
	uint64_t seq;

	if (src->kind == SOURCE_IMAGE)
		return !base_ref_parse(r->source, name) && !strcmp(name, src->name);
	return !snapshot_ref_parse(r->source, name, &seq) && !strcmp(name, src->name) &&
	       (src->kind == SOURCE_VOLUME || seq == src->seq);
}

/* The volume exists: 0 if it is what was asked for, or will be by growing. */
static int check_existing(const struct creation *c, const struct root *r, struct op_err *err)
{
	const struct volume_def *d = c->asked;

	if (c->src && !source_equal(c->src, r))
		return op_fail(err, OP_FAULT_CONFLICT, EEXIST,
			       "volume %s exists and was made from %s", d->name,
			       r->source[0] ? r->source : "nothing");
	if (def_equal(d, r) && (!d->size_bytes || d->size_bytes >= r->size_bytes))
		return 0;
	if (d->size_bytes && d->size_bytes < r->size_bytes)
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
static int name_taken(struct host *h, const struct creation *c, uint64_t op_id, bool *again,
		      struct op_err *err)
{
	const struct volume_def *d = c->asked;
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
		return check_existing(c, &root, err);
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

	r = root_prepare(h->e, d, &root);
	if (r) {
		if (p)
			pending_leave(h, p, false);
		return op_fail(err, OP_FAULT_REQUEST, -r, "volume %s: cannot be defined so: %s",
			       d->name, strerror(-r));
	}
	if (p && def_equal(d, &p->root) && root.size_bytes == p->root.size_bytes &&
	    !strcmp(root.source, p->root.source) &&
	    !memcmp(root.manifest.sha256, p->root.manifest.sha256, SHA256_LEN)) {
		*out = p;
		return 0;
	}
	if (p)
		pending_leave(h, p, true);
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
	int r;

	vol_set_uuid(l->vol, l->root->uuid);
	l->r = volume_open(h->e, l->vol->name, NULL, CLAIM_OWN, false, l->root, NULL, l->op_id,
			   &l->v, &fe);
	if (l->r)
		l->r = op_fail_engine(&l->err, l->r, "opening it", l->vol->name, &fe);
	else
		step_reached(STEP_LOCAL_OPENED);
	if (!l->r) {
		l->r = vol_device_add(l->vol, l->v, l->op_id, &l->dev, &l->err);
		/* The device waited for the manifest. If there is none, or it failed for that: */
		r = volume_ready(l->v, !l->r, &fe);
		if (r && r != -EINPROGRESS)
			l->r = op_fail_engine(&l->err, r, "reading its manifest", l->vol->name,
					      &fe);
	}
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
static int put_failed(struct host *h, const struct creation *c, struct pending *p, int r,
		      const struct fmt_err *fe, uint64_t op_id, bool *again, struct op_err *err)
{
	const struct volume_def *d = c->asked;

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
	return name_taken(h, c, op_id, again, err);
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

/* What was started beside the PUT, if anything. */
static int source_checked(struct host_vol *vol, struct snapshot_check **ck, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	int r = *ck ? snapshot_check_finish(*ck, &fe) : 0;

	*ck = NULL;
	if (r == -ENOENT)
		return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s: its source, %s",
			       vol->name, fe.msg);
	return r ? op_fail_engine(err, r, "asking for its source", vol->name, &fe) : 0;
}

/* One attempt. 0: created. 1: it exists as asked, and is to be attached. */
static int create_round(struct host_vol *vol, const struct creation *c, uint64_t deadline,
			uint64_t op_id, bool *again, struct op_err *err)
{
	struct host *h = vol->h;
	char etag[STORE_ETAG_MAX] = "";
	struct snapshot_check *check = NULL;
	struct fmt_err fe = {{0}};
	struct local_side local;
	struct pending *p;
	bool late;
	int r = record_take(h, &c->def, &p, err);

	*again = false;
	if (r)
		return r;
	step_reached(STEP_CREATE_RECORDED);
	if (c->def.from) {
		check = snapshot_check_start(h->e, &c->snap, c->etag, vol->name, deadline, op_id);
		if (!check) {
			pending_leave(h, p, true);
			return op_fail(err, OP_FAULT_LOCAL, ENOMEM, "volume %s: out of memory",
				       vol->name);
		}
	}
	local_side_start(&local, vol, &p->root, op_id);
	step_reached(STEP_CREATE_PUT);
	r = root_create_late(h->e, &p->root, deadline, op_id, etag, &late, &fe);
	/* Whatever comes of it: a copy may land later, when another has come and gone. */
	p->maybe |= late;
	if (!r)
		step_reached(STEP_CREATE_WRITTEN);
	local_side_wait(&local);
	if (r) {
		snapshot_check_cancel(check);
		local_side_undo(&local, false);
		r = put_failed(h, c, p, r, &fe, op_id, again, err);
		return r ? r : 1;
	}
	/* A source that is gone is also why its manifest is. */
	r = source_checked(vol, &check, err);
	if (local.r && r != -ENOENT) {
		r = local.r;
		*err = local.err;
	}
	if (!r) {
		step_reached(STEP_CREATE_CHECKED);
		r = create_finish(vol, &local, etag, err);
	}
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

/* It is open on this host, or in the store, and as asked. */
static int create_existing(struct host_vol *vol, const struct creation *c, uint64_t op_id,
			   struct op_err *err)
{
	int r = 0;

	if (vol->state != HOST_ATTACHED)
		r = vol_attach(vol, CLAIM_OWN, op_id, err);
	return r || !c->asked->size_bytes ? r : vol_grow(vol, c->asked->size_bytes, op_id, err);
}

/* What the store has of the source: -ENOENT, the engine's error. */
static int source_load(struct host *h, struct creation *c, uint64_t op_id, struct fmt_err *fe)
{
	struct base base;
	int r;

	switch (c->src->kind) {
	case SOURCE_VOLUME:
		/* Made before; or the fork was there before, so none was. */
		return c->snap.seq ? 0 : -ENOENT;
	case SOURCE_SNAPSHOT:
		return snapshot_find(h->e, c->src->name, c->src->seq, c->asked->name, op_id,
				     &c->snap, c->etag, fe);
	case SOURCE_IMAGE:
		r = base_load(h->e, c->src->name, op_id, &base, fe);
		if (!r)
			base_source(&base, &c->snap);
		return r;
	}
	return -EINVAL;
}

static int source_missing(const struct creation *c, struct op_err *err)
{
	char ref[SNAPSHOT_REF_MAX];

	if (c->src->kind == SOURCE_VOLUME)
		return op_fail(err, OP_FAULT_BUSY, EAGAIN,
			       "volume %s: it was removed meanwhile; try again", c->asked->name);
	snapshot_ref_format(c->src->name, c->src->seq, ref);
	return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s: its source, %s, does not exist",
		       c->asked->name, ref);
}

/*
 * The snapshot that the fork is of. 0; 1: it is not there, but the fork is, from an earlier
 * request: to be attached.
 */
static int source_find(struct host_vol *vol, struct creation *c, uint64_t op_id, struct op_err *err)
{
	const struct volume_def *d = c->asked;
	struct host *h = vol->h;
	struct fmt_err fe = {{0}};
	struct root root;
	int r;

	/* What is known of it may be old: create_round asks the store within this window. */
	if (c->src->kind != SOURCE_VOLUME)
		c->until_ns = gc_window_end(h->e);
	r = source_load(h, c, op_id, &fe);

	if (r == -ENOENT && !root_load(h->e, d->name, op_id, &root, NULL, &fe) &&
	    !pending_matches(h, &root)) {
		r = check_existing(c, &root, err);
		return r ? r : 1;
	}
	if (r == -ENOENT)
		return source_missing(c, err);
	if (r)
		return op_fail_engine(err, r, "reading its source", d->name, &fe);
	if (d->size_bytes && d->size_bytes < c->snap.size_bytes)
		return op_fail(err, OP_FAULT_REQUEST, EINVAL,
			       "volume %s: %llu bytes are fewer than its source has (%llu)",
			       d->name, (unsigned long long)d->size_bytes,
			       (unsigned long long)c->snap.size_bytes);
	if (d->block_bytes && d->block_bytes != c->snap.block_bytes)
		return op_fail(err, OP_FAULT_REQUEST, EINVAL,
			       "volume %s: a fork has the blocks of its source, %u bytes", d->name,
			       c->snap.block_bytes);
	c->def.from = &c->snap;
	return 0;
}

static int create_owned(struct host_vol *vol, struct creation *c, uint64_t op_id, bool *created,
			struct op_err *err)
{
	const struct volume_def *d = c->asked;
	struct host *h = vol->h;
	uint64_t deadline = now_ns() + h->cfg.create_timeout_ns;
	struct volume_info info;
	bool again;
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
		r = check_existing(c, &info.root, err);
		return r ? r : create_existing(vol, c, op_id, err);
	case HOST_DETACHED:
		break;
	}
	if (c->src)
		r = source_find(vol, c, op_id, err);
	if (r < 0)
		return r;
	if (!r && c->src && now_ns() >= c->until_ns)
		return op_fail(err, OP_FAULT_BUSY, ETIME,
			       "volume %s: its source was read more than a quarter of gc.grace_s "
			       "ago; try again",
			       d->name);
	if (!r && c->src)
		deadline = MIN(deadline, c->until_ns);
	again = !r;
	for (int round = 0; again && round < CREATE_ROUNDS; round++)
		r = create_round(vol, c, deadline, op_id, &again, err);
	if (r > 0)
		return create_existing(vol, c, op_id, err);
	*created = !r;
	return r;
}

static int create(struct host *h, struct creation *c, uint64_t op_id, bool *created,
		  struct op_err *err)
{
	const char *name = c->asked->name;
	struct op_timing t = op_timing_begin(TIMING_CREATE_EXPORT, name, -1, op_id);
	struct host_vol *vol = vol_begin(h, name, "create", err);
	struct volume_info info;
	int r, dev_id = -1;

	*created = false;
	if (!vol)
		return op_timing_refused(&t);
	c->def = *c->asked;
	c->def.from = NULL;
	r = create_owned(vol, c, op_id, created, err);
	dev_id = vol->dev_id;
	if (*created)
		volume_info_read(vol->v, &info);
	vol_end(vol);
	op_timing_end(&t, dev_id, r);
	if (!r)
		step_reached(STEP_CREATE_ENDED);
	if (*created)
		log_info("volume %s: created, %llu bytes, device %d%s%s", name,
			 (unsigned long long)info.root.size_bytes, dev_id,
			 info.root.source[0] ? ", a fork of " : "", info.root.source);
	return r;
}

int host_create_volume(struct host *h, const struct volume_def *def, uint64_t op_id, bool *created,
		       struct op_err *err)
{
	struct creation c = {.asked = def};

	return create(h, &c, op_id, created, err);
}

/* ---- forks ---- */

static int source_parse(const char *from, struct source *src, struct op_err *err)
{
	static const struct {
		const char *prefix;
		enum source_kind kind;
	} kinds[] = {
		{"volume:", SOURCE_VOLUME},
		{"snapshot:", SOURCE_SNAPSHOT},
		{"image:", SOURCE_IMAGE},
	};
	struct fmt_err fe = {{0}};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].prefix);

		if (strncmp(from, kinds[i].prefix, n))
			continue;
		*src = (struct source){.kind = kinds[i].kind};
		if (src->kind == SOURCE_SNAPSHOT) {
			if (snapshot_ref_parse(from + n, src->name, &src->seq))
				break;
			return 0;
		}
		if (volume_name_check(from + n, &fe))
			return op_fail(err, OP_FAULT_REQUEST, EINVAL, "its source: %s", fe.msg);
		snprintf(src->name, sizeof(src->name), "%s", from + n);
		return 0;
	}
	return op_fail(err, OP_FAULT_REQUEST, EINVAL,
		       "the source of a fork is volume:NAME, snapshot:NAME@SEQ or image:NAME");
}

/*
 * Storage rule 15: first a snapshot of the volume, unless the fork is there already. Not yet as the
 * owner of the fork's name: two names at once could wait for each other.
 */
static int source_snapshot(struct host *h, struct creation *c, uint64_t op_id, struct op_err *err)
{
	struct host_volume_info info;
	char tag[SNAPSHOT_TAG_MAX], why[200];
	int r;

	if (!strcmp(c->src->name, c->asked->name))
		return op_fail(err, OP_FAULT_REQUEST, EINVAL,
			       "volume %s: it cannot be a fork of itself", c->asked->name);
	r = host_show(h, c->asked->name, false, op_id, &info, why, err);
	if (!r || err->fault != OP_FAULT_MISSING)
		return r;
	snprintf(tag, sizeof(tag), "fork %.110s", c->asked->name);
	c->until_ns = gc_window_end(h->e);
	return host_snapshot(h, c->src->name, tag, FORK_UPLOAD_NS, op_id, &c->snap, err);
}

int host_fork_volume(struct host *h, const struct volume_def *def, const char *from, uint64_t op_id,
		     bool *created, struct op_err *err)
{
	struct source src;
	struct creation c = {.asked = def, .src = &src};
	struct op_err ignored;
	int r = source_parse(from, &src, err);

	*created = false;
	if (!r && src.kind == SOURCE_VOLUME)
		r = source_snapshot(h, &c, op_id, err);
	if (r)
		return r;
	r = create(h, &c, op_id, created, err);
	/* The fork names the manifest itself: should its root land late, it does without. */
	if (src.kind == SOURCE_VOLUME && c.snap.seq && !*created &&
	    host_snapshot_delete(h, src.name, c.snap.seq, op_id, &ignored))
		log_warn("volume %s: the snapshot for a fork that was not made remains: %s",
			 src.name, ignored.msg);
	return r;
}
