// SPDX-License-Identifier: GPL-2.0-or-later
/* Attach, detach, remove, drain, takeover: each runs as the owner of its name. See host.h. */
#include "control/host_priv.h"

#include <stdio.h>
#include <string.h>

#include "lib/log.h"

/* A drain waits in slices of this, so that a stopping daemon is not held up by it. */
#define DRAIN_SLICE_NS (5 * NSEC_PER_SEC)

struct op_timing op_timing_begin(enum timing_event ev, const char *name, int dev_id, uint64_t op_id)
{
	struct op_timing t = {.rec = {.event = ev,
				      .op_id = op_id,
				      .start_ns = now_ns(),
				      .export_ = name,
				      .dev_id = dev_id}};

	t.span = span_open(&t.rec);
	return t;
}

void op_timing_end(struct op_timing *t, int dev_id, int result)
{
	span_close(t->span);
	t->rec.dev_id = dev_id;
	t->rec.result = result;
	timing_emit(&t->rec);
}

int op_timing_refused(struct op_timing *t)
{
	span_close(t->span);
	return -EBUSY;
}

int vol_device_add(struct host_vol *vol, struct volume *v, uint64_t op_id, struct ublk_dev **dev,
		   struct op_err *err)
{
	struct fmt_err fe = {{0}};
	struct op_timing t;
	int r;

	*dev = NULL;
	if (!vol->h->u)
		return 0;
	t = op_timing_begin(TIMING_REGISTER_DEVICE, vol->name, -1, op_id);
	r = ublk_dev_add(vol->h->u, v, op_id, dev, &fe);
	op_timing_end(&t, r ? -1 : ublk_dev_id(*dev), r);
	return r ? op_fail_device(err, r, vol->name, &fe) : 0;
}

int vol_device_recover(struct host_vol *vol, struct volume *v, uint64_t op_id,
		       struct ublk_dev **dev, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	int r;

	*dev = NULL;
	if (!vol->h->u)
		return 0;
	r = ublk_dev_recover(vol->h->u, v, op_id, dev, &fe);
	if (r == -ENOENT)
		return vol_device_add(vol, v, op_id, dev, err);
	if (!r)
		vol_device_follow(vol, *dev, op_id);
	return r ? op_fail_device(err, r, vol->name, &fe) : 0;
}

/* ---- giving it up ---- */

/*
 * Release the open volume of `vol`, which has no device and is off the list, and close it:
 * DETACHED. On failure it stays open. If then volume_releasing(), the PUT may still land (storage
 * rule 11), and only this, which repeats the same bytes, or its removal may come next; it stays off
 * the list, because after a restart it may be nobody's, or another's.
 */
static int give_up(struct host_vol *vol, uint64_t op_id, struct op_err *err)
{
	struct volume *v = vol->v;
	bool late = volume_releasing(v);
	struct fmt_err fe = {{0}};
	int r = volume_release(v, op_id, &fe);

	if (r && volume_releasing(v))
		return op_fail(err, OP_FAULT_STORE, ETIMEDOUT,
			       "volume %s: the store gave no definite answer to its release, which "
			       "may still land (%.150s); nothing is lost, but it cannot be used "
			       "before; try again when the store answers",
			       vol->name, fe.msg[0] ? fe.msg : strerror(-r));
	/* The first PUT landed unseen and another took the volume, or it was seized. All of it was
	 * uploaded before the first PUT. */
	if (r == -ESTALE && late)
		log_warn("volume %s: not this host's any more: %s", vol->name, fe.msg);
	else if (r)
		return op_fail_engine(err, r, "releasing it", vol->name, &fe);
	vol_set(vol, HOST_DETACHED, NULL, NULL);
	volume_close(v);
	return 0;
}

/* ---- attach ---- */

int vol_attach(struct host_vol *vol, enum volume_claim claim, uint64_t op_id, struct op_err *err)
{
	struct host *h = vol->h;
	struct fmt_err fe = {{0}};
	struct volume *v;
	struct ublk_dev *dev = NULL;
	/* Its local state is here, and perhaps its device. */
	bool opened, ours = vol->listed && claim == CLAIM_OWN;
	int r;

	if (vol->state == HOST_FAILED && vol->v)
		return op_fail(err, OP_FAULT_CONFLICT, EBUSY, "volume %s: %s", vol->name, vol->why);
	/* What is to be nobody's cannot be served: it becomes that first, and is claimed anew. */
	if (vol->v && volume_releasing(vol->v)) {
		vol_phase(vol, "finishing its release");
		r = give_up(vol, op_id, err);
		if (r)
			return r;
	}
	v = vol->v;
	opened = !v;
	if (opened) {
		struct root root;

		vol_phase(vol, "opening: claim, manifest and local layers");
		/* The leftover of a failed create is not a volume. */
		if (pending_has_name(h, vol->name) &&
		    !root_load(h->e, vol->name, op_id, &root, NULL, &fe) &&
		    pending_matches(h, &root))
			return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s does not exist",
				       vol->name);
		/* What is on the list has local data; only a takeover may do without. */
		r = volume_open(h->e, vol->name, ours ? vol->uuid : NULL, claim, ours, NULL, NULL,
				op_id, &v, &fe);
		if (r == -ENOENT)
			return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s does not exist",
				       vol->name);
		if (r)
			return op_fail_engine(err, r, "opening it", vol->name, &fe);
	}
	vol_set_uuid(vol, volume_uuid(v));
	vol_phase(vol, "making the device");
	/* A listed volume may have left its device, QUIESCED; a seized one must not come back under
	 * it. */
	if (ours)
		r = vol_device_recover(vol, v, op_id, &dev, err);
	else
		r = vol_device_add(vol, v, op_id, &dev, err);
	if (!r) {
		vol_phase(vol, "writing the list of volumes");
		r = list_set(vol, true);
		if (!r) {
			vol_set(vol, HOST_ATTACHED, v, dev);
			return 0;
		}
		r = op_fail(err, r == -ENOSPC ? OP_FAULT_SPACE : OP_FAULT_LOCAL, -r,
			    "volume %s: the list of volumes cannot be written to %s: %s", vol->name,
			    h->cfg.state_dir, strerror(-r));
		if (dev && ublk_dev_remove(dev, true, op_id, &fe)) {
			/* Serve it after all: a device that cannot be removed must keep its server.
			 */
			log_err("volume %s: %s", vol->name, fe.msg);
			vol_set(vol, HOST_ATTACHED, v, dev);
			return r;
		}
	}
	if (opened) {
		struct volume_info info;

		/*
		 * Give ownership back, so that another host may try, unless there is local data to
		 * go on with. If that fails too the volume stays ours in the store, and a later
		 * attach here finds it. No bytes does not mean clean (zeros), and a release would
		 * wait for the store without end: it is drained first.
		 */
		volume_info_read(v, &info);
		if (!vol->listed && !info.dirty_bytes &&
		    (volume_drain(v, DRAIN_SLICE_NS, op_id, &fe) || volume_release(v, op_id, &fe)))
			log_warn("volume %s: not released after its attach failed: %s", vol->name,
				 fe.msg);
		/* Not forgotten: the next operation goes on with it. */
		if (volume_releasing(v))
			vol_set(vol, HOST_STOPPED, v, NULL);
		else
			volume_close(v);
	}
	return r;
}

int host_attach(struct host *h, const char *name, uint64_t op_id, bool *changed, struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_ATTACH_EXPORT, name, -1, op_id);
	struct host_vol *vol = vol_begin(h, name, "attach", err);
	int r, dev_id;

	*changed = false;
	if (!vol)
		return op_timing_refused(&t);
	if (vol->state == HOST_ATTACHED) {
		r = 0;
	} else if (vol->state == HOST_FAILED && vol->passing) {
		r = op_fail(err, OP_FAULT_STORE, EAGAIN,
			    "volume %s: %s; it is tried again by itself", name, vol->why);
	} else {
		/* A lasting failure (FAILED) is answered anew: its cause may be gone. */
		r = vol_attach(vol, CLAIM_OWN, op_id, err);
		*changed = !r;
	}
	dev_id = vol->dev_id;
	vol_end(vol);
	op_timing_end(&t, dev_id, r);
	if (*changed)
		log_info("volume %s: attached, device %d", name, dev_id);
	return r;
}

int host_takeover(struct host *h, const char *name, bool force, uint64_t op_id, struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_ATTACH_EXPORT, name, -1, op_id);
	struct host_vol *vol = vol_begin(h, name, "takeover", err);
	struct volume_info info;
	int r = 0, dev_id;

	if (!vol)
		return op_timing_refused(&t);
	if (vol->v) {
		volume_info_read(vol->v, &info);
		if (info.mode == VOLUME_FENCED)
			/* Our copy lost; it is put aside (its layer stays on disk) to open the
			 * winner's. */
			r = vol_stop(vol, force, op_id, err);
		if (!r && info.mode == VOLUME_FENCED) {
			struct volume *v = vol->v;

			vol_set(vol, HOST_DETACHED, NULL, NULL);
			volume_close(v);
		}
	} else if (vol->state == HOST_FAILED) {
		/* Its old device holds a state of before; it goes, guests of it get errors. */
		vol_set(vol, HOST_DETACHED, NULL, NULL);
		host_reap_devices(h);
	}
	if (!r && vol->state != HOST_ATTACHED)
		r = vol_attach(vol, CLAIM_TAKEOVER, op_id, err);
	if (r && vol->listed && vol->state == HOST_DETACHED) {
		pthread_mutex_lock(&h->lock);
		vol->state = HOST_FAILED;
		snprintf(vol->why, sizeof(vol->why), "%.*s", (int)sizeof(vol->why) - 1, err->msg);
		pthread_mutex_unlock(&h->lock);
	}
	dev_id = vol->dev_id;
	vol_end(vol);
	op_timing_end(&t, dev_id, r);
	if (!r)
		log_warn("volume %s: taken over, device %d", name, dev_id);
	return r;
}

/* ---- drain ---- */

/* Wait for the rest of a slice that ended early, so that a failing store is not hammered. True:
 * stopping. */
static bool slice_rest(struct host *h, uint64_t end)
{
	SCOPED_LOCK(&h->lock);

	while (!h->stopping && now_ns() < end)
		(void)!cond_wait_until(&h->cond, &h->lock, end);
	return h->stopping;
}

int vol_drain(struct host_vol *vol, uint64_t timeout_ns, uint64_t op_id, struct op_err *err)
{
	uint64_t mark = volume_drain_mark(vol->v);
	uint64_t end = timeout_ns ? now_ns() + timeout_ns : UINT64_MAX;
	struct fmt_err fe = {{0}};
	int r;

	for (;;) {
		uint64_t now = now_ns(),
			 slice = now + (end > now ? MIN(DRAIN_SLICE_NS, end - now) : 1);

		r = volume_drain_to(vol->v, mark, slice - now, op_id, &fe);
		if (r != -ETIMEDOUT)
			break;
		if (slice_rest(vol->h, slice)) {
			r = op_fail(err, OP_FAULT_BUSY, ESHUTDOWN,
				    "volume %s: the daemon is stopping; not everything is uploaded",
				    vol->name);
			break;
		}
		if (now_ns() >= end) {
			r = op_fail(err, OP_FAULT_STORE, ETIMEDOUT,
				    "volume %s: not everything was uploaded within %llu s%s%s",
				    vol->name, (unsigned long long)(timeout_ns / NSEC_PER_SEC),
				    fe.msg[0] ? ": " : "", fe.msg);
			break;
		}
	}
	if (r && r != -ETIMEDOUT && r != -ESHUTDOWN)
		r = op_fail_engine(err, r, "uploading it", vol->name, &fe);
	return r;
}

static int drain(struct host_vol *vol, uint64_t timeout_ns, uint64_t op_id, struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_DRAIN_EXPORT, vol->name, vol->dev_id, op_id);
	int r = vol_drain(vol, timeout_ns, op_id, err);

	op_timing_end(&t, vol->dev_id, r);
	return r;
}

int host_drain(struct host *h, const char *name, uint64_t timeout_ns, uint64_t op_id,
	       struct op_err *err)
{
	struct host_vol *vol = vol_begin(h, name, "drain", err);
	int r;

	if (!vol)
		return -EBUSY;
	if (vol->v)
		r = drain(vol, timeout_ns, op_id, err);
	else
		r = op_fail(err, OP_FAULT_CONFLICT, ENOTCONN,
			    "volume %s is not attached on this host", name);
	vol_end(vol);
	return r;
}

/* ---- detach and remove ---- */

static int check_unused(const struct host_vol *vol, struct op_err *err)
{
	char why[200] = "";

	if (vol->dev_id >= 0 && ublk_dev_in_use(vol->dev_id, why, sizeof(why)))
		return op_fail(err, OP_FAULT_CONFLICT, EBUSY, "volume %s is in use: %s", vol->name,
			       why);
	return 0;
}

/* Remove the device; the volume stays open (STOPPED). */
int vol_stop(struct host_vol *vol, bool force, uint64_t op_id, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	struct ublk_dev *dev = vol->dev;
	int r, id = vol->dev_id;

	if (!dev) {
		if (vol->v)
			vol_set(vol, HOST_STOPPED, vol->v, NULL);
		return 0;
	}
	r = ublk_dev_remove(dev, force, op_id, &fe);
	if (r == -EBUSY)
		return op_fail(err, OP_FAULT_CONFLICT, EBUSY, "volume %s is in use: %s", vol->name,
			       fe.msg[0] ? fe.msg : "its device is open");
	if (r)
		return op_fail_device(err, r, vol->name, &fe);
	vol_set(vol, HOST_STOPPED, vol->v, NULL);
	log_info("volume %s: device %d removed", vol->name, id);
	return 0;
}

static int list_fail(struct host_vol *vol, int r, struct op_err *err)
{
	return op_fail(err, r == -ENOSPC ? OP_FAULT_SPACE : OP_FAULT_LOCAL, -r,
		       "volume %s: the list of volumes cannot be written to %s: %s", vol->name,
		       vol->h->cfg.state_dir, strerror(-r));
}

/* Open a volume that is only in the store, to release or destroy it. */
static int open_unlisted(struct host_vol *vol, uint64_t op_id, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	struct volume *v;
	struct root root;
	int r = root_load(vol->h->e, vol->name, op_id, &root, NULL, &fe);

	if (!r && pending_matches(vol->h, &root))
		r = -ENOENT;
	if (!r)
		r = volume_open(vol->h->e, vol->name, NULL, CLAIM_OWN, false, NULL, NULL, op_id, &v,
				&fe);
	if (r == -ENOENT)
		return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s does not exist",
			       vol->name);
	if (r)
		return op_fail_engine(err, r, "opening it", vol->name, &fe);
	vol_set(vol, HOST_STOPPED, v, NULL);
	return 0;
}

/* FAILED: there is no open volume. Forget it, and its device if one is left. */
static int forget_failed(struct host_vol *vol, bool force, struct op_err *err)
{
	int r;

	if (!force || vol->v)
		return op_fail(err, OP_FAULT_CONFLICT, EBUSY,
			       "volume %s could not be attached (%s); detach it with force to "
			       "forget it on this "
			       "host (local data is kept)",
			       vol->name, vol->why);
	r = list_set(vol, false);
	if (r)
		return list_fail(vol, r, err);
	vol_set(vol, HOST_DETACHED, NULL, NULL);
	host_reap_devices(vol->h);
	return 0;
}

static int detach_owned(struct host_vol *vol, bool force, uint64_t timeout_ns, uint64_t op_id,
			struct op_err *err)
{
	struct op_err why;
	struct volume *v;
	bool keep = false;
	int r;

	if (vol->state == HOST_FAILED || vol->state == HOST_RECOVERING)
		return forget_failed(vol, force, err);
	if (!vol->v) {
		r = open_unlisted(vol, op_id, err);
		if (r)
			return r;
	}
	if (!force) {
		r = check_unused(vol, err);
		if (r)
			return r;
	}
	/* Most of the upload happens while the guest is still served. */
	vol_phase(vol, "uploading");
	r = drain(vol, timeout_ns, op_id, &why);
	if (!r || force) {
		keep = r != 0;
		vol_phase(vol, "removing the device");
		r = vol_stop(vol, force, op_id, err);
		if (r)
			return r;
		vol_phase(vol, "uploading the rest");
		/* What came meanwhile; nothing more comes. */
		if (!keep)
			r = drain(vol, timeout_ns, op_id, &why);
		keep |= r != 0;
	}
	if (r && !force) {
		*err = why;
		return r;
	}
	/*
	 * Off the list before ownership is given up: a crash in between leaves a volume that is
	 * ours and not attached, which a repeated detach finishes; the other order would leave a
	 * listed stranger.
	 */
	vol_phase(vol, "giving it up");
	r = list_set(vol, false);
	if (r)
		return list_fail(vol, r, err);
	v = vol->v;
	if (!keep) {
		r = give_up(vol, op_id, &why);
		if (!r)
			return 0;
		/* Not by force either: forgotten, the release could land under a later attach. */
		if (!force || volume_releasing(v)) {
			*err = why;
			/* Still ours: attached again at the next start unless a retry finishes
			 * this. */
			if (!volume_releasing(v) && list_set(vol, true))
				log_warn("volume %s: not on the list of volumes", vol->name);
			return r;
		}
	}
	log_warn("volume %s: detached by force without a complete upload (%s); its data and its "
		 "ownership stay on this host",
		 vol->name, why.msg);
	vol_set(vol, HOST_DETACHED, NULL, NULL);
	volume_close(v);
	return 0;
}

int host_detach(struct host *h, const char *name, bool force, uint64_t timeout_ns, uint64_t op_id,
		struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_DETACH_EXPORT, name, -1, op_id);
	struct host_vol *vol = vol_begin(h, name, "detach", err);
	int r, dev_id;

	if (!vol)
		return op_timing_refused(&t);
	dev_id = vol->dev_id;
	r = detach_owned(vol, force, timeout_ns, op_id, err);
	vol_end(vol);
	op_timing_end(&t, dev_id, r);
	if (!r)
		log_info("volume %s: detached", name);
	return r;
}

/* Another host may have seized it without our having noticed: then it is not ours to remove. */
static int check_still_ours(struct host_vol *vol, uint64_t op_id, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	struct volume_info info;
	struct root root;
	int r;

	volume_info_read(vol->v, &info);
	if (info.mode == VOLUME_FENCED)
		return op_fail(err, OP_FAULT_CONFLICT, ESTALE,
			       "volume %s is not this host's any more: %s", vol->name, info.why);
	r = root_load(vol->h->e, vol->name, op_id, &root, NULL, &fe);
	if (r == -ENOENT)
		return 0;
	if (r)
		return op_fail_engine(err, r, "reading its root", vol->name, &fe);
	if (memcmp(root.uuid, info.root.uuid, sizeof(root.uuid)) ||
	    root.generation != info.root.generation)
		return op_fail(
			err, OP_FAULT_CONFLICT, ESTALE,
			"volume %s is not this host's any more: generation %llu belongs to %s",
			vol->name, (unsigned long long)root.generation,
			root.owner[0] ? root.owner : "nobody");
	return 0;
}

static int remove_owned(struct host_vol *vol, bool force, uint64_t op_id, struct op_err *err)
{
	struct fmt_err fe = {{0}};
	struct volume *v;
	int r;

	if (vol->state == HOST_FAILED || vol->state == HOST_RECOVERING)
		return op_fail(err, OP_FAULT_CONFLICT, EBUSY,
			       "volume %s could not be attached (%s): detach or take it over "
			       "before removing it",
			       vol->name, vol->why);
	if (!vol->v) {
		r = open_unlisted(vol, op_id, err);
		if (r)
			return r;
	}
	r = check_still_ours(vol, op_id, err);
	if (r)
		return r;
	r = vol_stop(vol, force, op_id, err);
	if (r)
		return r;
	r = list_set(vol, false);
	if (r)
		return list_fail(vol, r, err);
	v = vol->v;
	r = volume_destroy(v, op_id, &fe);
	if (r)
		return op_fail_engine(err, r, "removing it", vol->name, &fe);
	pending_removed(vol->h, volume_uuid(v));
	vol_set(vol, HOST_DETACHED, NULL, NULL);
	volume_close(v);
	return 0;
}

int host_remove(struct host *h, const char *name, bool force, uint64_t op_id, struct op_err *err)
{
	struct op_timing t = op_timing_begin(TIMING_DELETE_EXPORT, name, -1, op_id);
	struct host_vol *vol = vol_begin(h, name, "rm", err);
	int r, dev_id;

	if (!vol)
		return op_timing_refused(&t);
	dev_id = vol->dev_id;
	r = remove_owned(vol, force, op_id, err);
	vol_end(vol);
	op_timing_end(&t, dev_id, r);
	if (!r)
		log_info("volume %s: removed", name);
	return r;
}
