// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One upload of a volume: freeze, merge, pack, publish, drop; see volume_priv.h. Runs on the thread
 * that holds v->mut. Storage rules 3, 8, 10, 11.
 *
 * Publishing is one conditional PUT of the root. Until its outcome is known, the very root that was
 * sent stays in v->publish, and the next upload begins by sending the same bytes again under the
 * same precondition: the earlier PUT may still land. So packs are uploaded once, layers publish in
 * order, and a refusal can be told from our own earlier success.
 *
 * No failure gives up the frozen layer: it is dropped only after a root that contains it was seen
 * to be the current one.
 */
#include "engine/gc.h"
#include "engine/upload_priv.h"
#include "engine/wire.h"
#include "lib/log.h"
#include "lib/spans.h"

/* A root on its way. */
struct publish {
	struct root root;
	struct manifest *m; /* NULL: still all zeros */
	bool landed;        /* the root is current; only dropping the layer is left */
	uint64_t until_ns;  /* end of the window in which it may be sent; see gc.h */
};

void upload_forget(struct volume *v)
{
	if (!v->publish)
		return;
	manifest_put(v->publish->m);
	free(v->publish);
	v->publish = NULL;
}

const uint8_t *upload_nonce(const struct volume *v)
{
	return v->publish->root.nonce;
}

/* ---- manifest ---- */

/* PUT the encoded manifest (taken over) under its fresh, write-once name. */
static int manifest_put_object(struct volume *v, const struct root *r, void *buf, size_t len,
			       uint64_t op_id, struct fmt_err *err)
{
	uint64_t deadline_ns = now_ns() + 2 * v->e->cfg.store_timeout_ns;
	struct store_call *c =
		store_call_new(v->e->store, STORE_PUT, STORE_PRIO_META, r->name, op_id);
	int res = 0, paused = 0;

	if (!c) {
		free(buf);
		return fmt_fail(err, -ENOMEM, "manifest: out of memory");
	}
	store_call_body(c, buf, len, buf, free);
	manifest_key(r->manifest.uuid, r->manifest.id, c->key, sizeof(c->key));
	c->op.cond = STORE_IF_NONE_MATCH;
	for (unsigned int attempt = 1; !paused; attempt++) {
		c->op.attempt = attempt;
		c->op.deadline_ns = MIN(deadline_ns, now_ns() + v->e->cfg.store_timeout_ns);
		res = store_call_run(c, &v->closing);
		if (res == -EEXIST && attempt > 1)
			res = 0; /* an earlier attempt landed: the name is ours alone */
		if (!res || res == -ECANCELED)
			break;
		fmt_fail(err, res, "PUT %s (%zu bytes): %s, after %u attempts", c->key, len,
			 strerror(-res), attempt);
		paused = store_backoff(attempt, deadline_ns, &v->closing);
		if (paused == -ECANCELED)
			res = paused;
	}
	if (res == -ECANCELED)
		fmt_fail(err, res, "the volume is closing");
	store_call_put(c);
	return res;
}

/* Fill in the manifest's part of the root and upload it. */
static int manifest_upload(struct volume *v, struct root *r, const struct manifest *m,
			   uint64_t op_id, uint64_t *bytes, struct fmt_err *err)
{
	uint64_t rnd;
	size_t len;
	void *buf;
	int res = manifest_encode(m, &buf, &len);

	if (res)
		return fmt_fail(err, res, "manifest of %u entries cannot be encoded: %s",
				m->nr_entries, strerror(-res));
	random_bytes(&rnd, sizeof(rnd));
	memcpy(r->manifest.uuid, r->uuid, sizeof(r->manifest.uuid));
	snprintf(r->manifest.id, sizeof(r->manifest.id), "%020llu.%016llx",
		 (unsigned long long)r->sequence, (unsigned long long)rnd);
	hash_sha256(buf, len, r->manifest.sha256);
	r->manifest.bytes = len;
	*bytes += len;
	return manifest_put_object(v, r, buf, len, op_id, err);
}

/* ---- merge and pack ---- */

static int merge_error(struct volume *v, const struct merge *mg, struct layer *frozen, int r,
		       struct fmt_err *err)
{
	if (r == -ECANCELED)
		return fmt_fail(err, r, "the volume is closing");
	if (r == -ENOMEM)
		return fmt_fail(err, r, "out of memory");
	if (r != -EUCLEAN)
		return fmt_fail(err, r,
				"block %llu is partly written and the store's part of it is "
				"unreadable (%s)",
				(unsigned long long)merge_failed_block(mg), strerror(-r));
	/* Storage rule 3: what the disk does not give back now, it must not be trusted with. */
	layer_poison(frozen, -EIO);
	volume_set_mode(
		v, VOLUME_POISONED,
		"local layer %llu cannot be read at block %llu; the volume is read-only, its "
		"layers are kept and upload nothing more",
		(unsigned long long)frozen->seq, (unsigned long long)merge_failed_block(mg));
	return fmt_fail(err, -EIO, "local layer %llu cannot be read at block %llu",
			(unsigned long long)frozen->seq,
			(unsigned long long)merge_failed_block(mg));
}

static int pack_all(struct volume *v, struct packer *p, struct layer *frozen, struct manifest *base,
		    uint64_t op_id, struct fmt_err *err)
{
	struct merge_block b;
	struct merge *mg;
	int r = merge_new(v->e, &v->root, frozen, base, &v->closing, op_id, &mg);

	if (r)
		return fmt_fail(err, r, "out of memory");
	__atomic_store_n(&v->upload_total, layer_data_bytes(frozen), __ATOMIC_RELAXED);
	__atomic_store_n(&v->upload_done, 0, __ATOMIC_RELAXED);
	for (;;) {
		r = merge_next(mg, &b);
		if (r < 0)
			r = merge_error(v, mg, frozen, r, err);
		if (r <= 0)
			break;
		r = packer_add(p, &b, err);
		if (r)
			break;
		/* Whole blocks of which the guest may have written a part: an estimate, for bars.
		 */
		if (!b.folded && b.kind != PACK_ZERO)
			__atomic_add_fetch(&v->upload_done, v->root.block_bytes, __ATOMIC_RELAXED);
	}
	merge_put(mg);
	return r;
}

/* Upload the content of the frozen layer, all but the root: v->publish on success. */
static int publish_prepare(struct volume *v, const struct view *vw, uint64_t op_id, uint64_t *bytes,
			   struct fmt_err *err)
{
	struct publish *pub = calloc(1, sizeof(*pub));
	struct packer *p = packer_new(v, vw->manifest, op_id);
	int r = -ENOMEM;

	if (!pub || !p) {
		fmt_fail(err, r, "out of memory");
		goto out;
	}
	pub->until_ns = gc_window_end(v->e); /* before its first pack is sent */
	pub->root = v->root;
	pub->root.sequence = vw->frozen->seq;
	random_bytes(pub->root.nonce, sizeof(pub->root.nonce));
	r = pack_all(v, p, vw->frozen, vw->manifest, op_id, err);
	if (!r)
		r = packer_finish(p, &pub->root, vw->frozen->seq, &pub->m, err);
	*bytes += packer_bytes(p);
	if (!r && pub->m != vw->manifest)
		r = manifest_upload(v, &pub->root, pub->m, op_id, bytes, err);
	if (!r) {
		v->publish = pub;
		pub = NULL;
	}
out:
	packer_free(p);
	if (pub)
		manifest_put(pub->m);
	free(pub);
	return r;
}

/* ---- the root ---- */

/* Only what publishing changes is written: workers read the volume's block size unlocked. */
static void publish_landed(struct volume *v, const char *etag)
{
	const struct root *r = &v->publish->root;

	pthread_mutex_lock(&v->lock);
	v->root.sequence = r->sequence;
	v->root.manifest = r->manifest;
	memcpy(v->root.nonce, r->nonce, sizeof(v->root.nonce));
	memcpy(v->etag, etag, sizeof(v->etag));
	pthread_mutex_unlock(&v->lock);
	v->publish->landed = true;
}

static uint64_t unpublished_bytes(struct volume *v)
{
	struct view *vw = volume_view_get(v);
	uint64_t bytes = __atomic_load_n(&vw->active->data_bytes, __ATOMIC_RELAXED);

	if (vw->frozen)
		bytes += __atomic_load_n(&vw->frozen->data_bytes, __ATOMIC_RELAXED);
	view_put(vw);
	return bytes;
}

int volume_fence(struct volume *v, const struct root *cur, struct fmt_err *err)
{
	unsigned long long kib = unpublished_bytes(v) / KiB;

	if (!cur)
		fmt_fail(err, -ESTALE,
			 "its root was deleted or replaced by another; read-only now, %llu KiB "
			 "written here are in no history and stay in the local layers",
			 kib);
	else
		fmt_fail(
			err, -ESTALE,
			"%s '%.60s' took generation %llu; read-only now, %llu KiB written here are "
			"not in its history and stay in the local layers",
			cur->owner[0] ? "host" : "detached, no owner", cur->owner,
			(unsigned long long)cur->generation, kib);
	volume_set_mode(v, VOLUME_FENCED, "%s", err->msg);
	return -ESTALE;
}

/*
 * The root is not what we knew. If it carries this layer's sequence under our own generation, then
 * an earlier life of ours published the same layer and its PUT landed after we had read the root:
 * adopt it. Anything else means that somebody took the volume.
 */
/* 0: adopted; 1: a late grow of ours was in the way, send it again. */
static int publish_refused(struct volume *v, uint64_t op_id, struct fmt_err *err)
{
	struct publish *pub = v->publish;
	char etag[STORE_ETAG_MAX];
	struct manifest *m;
	struct root cur;
	int r = root_regrown(v, op_id, &cur, etag, err);

	if (!r) {
		/* The refusal was definite, so other bytes may be sent. */
		pub->root.size_bytes = v->root.size_bytes;
		random_bytes(pub->root.nonce, sizeof(pub->root.nonce));
		return 1;
	}
	if (r == -ENOENT)
		return volume_fence(v, NULL, err);
	if (r != -ESTALE)
		return r;
	if (memcmp(cur.uuid, v->root.uuid, sizeof(cur.uuid)))
		return volume_fence(v, NULL, err);
	if (cur.generation != v->root.generation || strcmp(cur.owner, v->root.owner) ||
	    cur.sequence != pub->root.sequence)
		return volume_fence(v, &cur, err);
	r = root_manifest_load(v->e, &cur, op_id, &m, err);
	if (r)
		return r;
	manifest_put(pub->m);
	pub->m = m;
	pub->root = cur;
	publish_landed(v, etag);
	log_info("volume %s: layer %llu was already published before the restart", v->root.name,
		 (unsigned long long)cur.sequence);
	return 0;
}

static int publish_root(struct volume *v, uint64_t op_id, struct fmt_err *err)
{
	char etag[STORE_ETAG_MAX];
	int r;

	do {
		uint64_t now = now_ns(), until = v->publish->until_ns;

		if (now >= until)
			return fmt_fail(err, -ETIME,
					"it took more than a quarter of gc.grace_s (%llu s), its "
					"packs may be garbage by now: it begins anew",
					v->e->cfg.gc_grace_ns / NSEC_PER_SEC);
		memcpy(etag, v->etag, sizeof(etag));
		r = root_update(v->e, &v->publish->root, v->root.nonce, etag,
				MIN(until, now + v->e->cfg.store_timeout_ns), op_id, &v->closing,
				err);
		if (!r)
			publish_landed(v, etag);
		if (r == -ESTALE)
			r = publish_refused(v, op_id, err);
	} while (r == 1);
	return r;
}

/*
 * The layer was read back, packed, and is about to be replaced by what is in the store. Storage
 * rule 3: if the disk failed to keep it, what was read may not be what was written.
 */
static int frozen_check(struct volume *v, struct layer *frozen, struct fmt_err *err)
{
	int r = disk_fault(DISK_FSYNC, frozen->seq);

	if (!r && fdatasync(frozen->data_fd) < 0)
		r = -errno;
	if (r) {
		layer_poison(frozen, r);
		volume_set_mode(
			v, VOLUME_POISONED,
			"fdatasync of layer %llu failed (%s): it is not published; the volume "
			"is read-only and uploads nothing more",
			(unsigned long long)frozen->seq, strerror(-r));
	}
	if (__atomic_load_n(&frozen->poisoned, __ATOMIC_ACQUIRE))
		return fmt_fail(err, -EIO, "local layer %llu had a failed write or fsync",
				(unsigned long long)frozen->seq);
	return 0;
}

/* ---- the whole ---- */

static int upload_steps(struct volume *v, uint64_t op_id, uint64_t *bytes, struct fmt_err *err)
{
	struct view *vw;
	int r = 0;

	if (v->unborn)
		return fmt_fail(err, -EAGAIN, "its root is still being written");
	if (v->releasing)
		return fmt_fail(err, -EAGAIN,
				"the store gave no definite answer to its release yet");
	if (volume_mode(v) == VOLUME_FENCED || volume_mode(v) == VOLUME_POISONED) {
		pthread_mutex_lock(&v->lock);
		fmt_fail(err, -EIO, "%.190s", v->why);
		pthread_mutex_unlock(&v->lock);
		return volume_mode(v) == VOLUME_FENCED ? -ESTALE : -EIO;
	}
	vw = volume_view_get(v);
	if (!vw->frozen) {
		view_put(vw);
		r = volume_switch_layer(v, false);
		if (r < 0)
			fmt_fail(err, r, "cannot switch to a new local layer: %s", strerror(-r));
		if (r)
			return r;
		vw = volume_view_get(v);
	}
	/*
	 * Storage rule 18: what was uploaded for it too long ago may be taken for garbage. Other
	 * bytes may be sent though these may land yet: both have the same precondition, so one of
	 * both lands, and publish_refused() knows the other.
	 */
	if (v->publish && !v->publish->landed && now_ns() >= v->publish->until_ns)
		upload_forget(v);
	if (!v->publish)
		r = publish_prepare(v, vw, op_id, bytes, err);
	if (!r && !v->publish->landed)
		r = frozen_check(v, vw->frozen, err);
	if (!r && !v->publish->landed)
		r = publish_root(v, op_id, err);
	if (r)
		goto out;
	r = volume_drop_frozen(v, manifest_get(v->publish->m));
	if (r)
		fmt_fail(err, r, "published, but the frozen layer cannot be dropped: %s",
			 strerror(-r));
	else
		upload_forget(v);
	view_put(vw);
	volume_claim_next(v);
	if (!r && volume_fit(v))
		log_warn(
			"volume %s: the device cannot have its new size of %llu bytes yet: no room "
			"for a new local layer",
			v->root.name, (unsigned long long)v->root.size_bytes);
	return r;
out:
	view_put(vw);
	return r;
}

int volume_upload_locked(struct volume *v, uint64_t op_id, struct fmt_err *err)
{
	struct timing_rec rec = {.event = TIMING_UPLOAD,
				 .op_id = op_id,
				 .start_ns = now_ns(),
				 .export_ = v->root.name,
				 .dev_id = __atomic_load_n(&v->dev_id, __ATOMIC_RELAXED)};
	uint32_t span = span_open(&rec);
	int r = upload_steps(v, op_id, &rec.bytes, err);
	bool failed = r < 0 && r != -ECANCELED;

	__atomic_store_n(&v->upload_total, 0, __ATOMIC_RELAXED);
	span_close(span);
	if (r == 1)
		return r;
	pthread_mutex_lock(&v->lock);
	v->uploads += !r;
	v->upload_failures += failed;
	v->upload_bytes += rec.bytes;
	pthread_mutex_unlock(&v->lock);
	__atomic_add_fetch(&v->e->uploads, !r, __ATOMIC_RELAXED);
	__atomic_add_fetch(&v->e->upload_failures, failed, __ATOMIC_RELAXED);
	__atomic_add_fetch(&v->e->upload_bytes, rec.bytes, __ATOMIC_RELAXED);
	rec.result = r;
	timing_emit(&rec);
	return r;
}
