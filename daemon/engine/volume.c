// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Open volumes: claim, manifest, lanes, drain, release. See volume.h for the contract and
 * volume_priv.h for the locks; local state is in volume_local.c.
 */
#include "engine/volume_priv.h"

#include "lib/log.h"
#include "lib/spans.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DRAIN_RETRY_NS (200 * NSEC_PER_MSEC)

void volume_set_mode(struct volume *v, enum volume_mode mode, const char *fmt, ...)
{
	struct timing_rec rec = {
		.event = mode == VOLUME_FENCED ? TIMING_VOLUME_FENCED : TIMING_LAYER_POISONED,
		.export_ = v->root.name,
		.dev_id = __atomic_load_n(&v->dev_id, __ATOMIC_RELAXED),
		.start_ns = now_ns(),
		.result = mode == VOLUME_FENCED ? -ESTALE : -EIO,
	};
	bool first;
	va_list ap;

	pthread_mutex_lock(&v->lock);
	first = v->mode == VOLUME_RW && mode != VOLUME_RW;
	if (first) {
		va_start(ap, fmt);
		vsnprintf(v->why, sizeof(v->why), fmt, ap);
		va_end(ap);
		__atomic_store_n(&v->mode, (int)mode, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&v->lock);
	if (!first)
		return;
	log_err("volume %s: %s", v->root.name, v->why);
	if (mode != VOLUME_READ_ONLY)
		timing_emit(&rec);
}

/* ---- claim ---- */

/* Is the root the one that was meant? A wrong one must not even be claimed. -ESTALE. */
static int claim_check(const struct root *r, const uint8_t *uuid, bool owned, struct fmt_err *err)
{
	if (uuid && memcmp(r->uuid, uuid, sizeof(r->uuid)))
		snprintf(err->msg, sizeof(err->msg),
			 "volume %.60s: the store has another volume of this name now (detach with "
			 "force forgets the old one)",
			 r->name);
	else if (owned && !r->owner[0])
		snprintf(err->msg, sizeof(err->msg),
			 "volume %.60s: nobody owns it in the store (generation %llu), though this "
			 "host has it on its list (detach with force, then attach)",
			 r->name, (unsigned long long)r->generation);
	else
		return 0;
	return -ESTALE;
}

static int claim(struct engine *e, enum volume_claim how, const uint8_t *uuid, bool owned,
		 struct root *r, char *etag, uint64_t op_id, struct fmt_err *err)
{
	for (int attempt = 0;; attempt++) {
		char name[GFS_NAME_MAX];
		uint8_t base[sizeof(r->nonce)];
		int res = claim_check(r, uuid, owned, err);

		if (res)
			return res;
		if (!strcmp(r->owner, e->host_id) && how == CLAIM_OWN)
			return 0;
		if (r->owner[0] && strcmp(r->owner, e->host_id) && how == CLAIM_OWN) {
			snprintf(err->msg, sizeof(err->msg),
				 "volume %s is owned by host %s (generation %llu); detach it "
				 "there, or "
				 "take it over",
				 r->name, r->owner, (unsigned long long)r->generation);
			return -EBUSY;
		}
		snprintf(r->owner, sizeof(r->owner), "%s", e->host_id);
		r->generation++;
		memcpy(base, r->nonce, sizeof(base));
		random_bytes(r->nonce, sizeof(r->nonce));
		res = root_update(e, r, base, etag, now_ns() + e->cfg.store_timeout_ns, op_id, NULL,
				  err);
		if (res != -ESTALE || attempt == 2)
			return res;
		/* Somebody else changed it: look again, the answer may be -EBUSY now. */
		snprintf(name, sizeof(name), "%s", r->name);
		res = root_load(e, name, op_id, r, etag, err);
		if (res)
			return res;
	}
}

/* ---- open, close ---- */

static void volume_free(struct volume *v)
{
	upload_forget(v);
	manifest_fetch_cancel(v->coming);
	view_put(v->view);
	layer_put(v->next);
	if (v->dirfd >= 0)
		close(v->dirfd);
	free(v->round);
	pthread_cond_destroy(&v->cond);
	pthread_mutex_destroy(&v->lock);
	pthread_mutex_destroy(&v->mut);
	free(v);
}

static struct volume *volume_alloc(struct engine *e)
{
	struct volume *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->e = e;
	v->dirfd = -1;
	v->dev_id = -1;
	v->root.size_bytes = 0;
	pthread_mutex_init(&v->mut, NULL);
	pthread_mutex_init(&v->lock, NULL);
	cond_init_mono(&v->cond);
	list_init(&v->node);
	list_init(&v->flush_waiting);
	list_init(&v->flush_current);
	list_init(&v->dirty_node);
	list_init(&v->upload_node);
	v->round = flush_round_new(v);
	if (!v->round) {
		volume_free(v);
		return NULL;
	}
	return v;
}

int volume_open(struct engine *e, const char *name, const uint8_t uuid[16], enum volume_claim how,
		bool local_expected, const struct root *created, const char *etag, uint64_t op_id,
		struct volume **out, struct fmt_err *err)
{
	struct timing_rec rec = {
		.event = TIMING_LAYER_RECOVER, .op_id = op_id, .export_ = name, .dev_id = -1};
	struct volume *v = volume_alloc(e);
	struct manifest *m = NULL;
	uint32_t span;
	int r;

	if (!v)
		return -ENOMEM;
	if (created) {
		v->root = *created;
		snprintf(v->etag, sizeof(v->etag), "%s", etag ? etag : "");
		v->unborn = !etag;
	} else {
		r = root_load(e, name, op_id, &v->root, v->etag, err);
		if (r)
			goto err;
	}
	local_expected = local_expected && how == CLAIM_OWN;
	r = claim(e, how, uuid, local_expected, &v->root, v->etag, op_id, err);
	if (r)
		goto err;
	uuid_format(v->root.uuid, v->dir_name);
	if (v->unborn && v->root.manifest.id[0]) {
		/* Beside the PUT of the root and all that follows here. */
		v->coming = manifest_fetch_start(e, &v->root.manifest, name, op_id);
		r = v->coming ? 0 : -ENOMEM;
	} else {
		r = root_manifest_load(e, &v->root, op_id, &m, err);
	}
	if (r == -ENOENT)
		r = -EBADMSG; /* the volume exists; its store lost a part of it */
	if (r)
		goto err;
	rec.start_ns = now_ns();
	span = span_open(&rec);
	r = volume_local_open(v, local_expected, m, err);
	manifest_put(m);
	rec.result = r;
	span_close(span);
	timing_emit(&rec);
	if (r)
		goto err;
	if (v->root.read_only)
		v->mode = VOLUME_READ_ONLY;
	/* The last owner was stopped in the midst of a grow. With a frozen layer the next upload
	 * does it. */
	if (!v->view->frozen && volume_fit(v))
		log_warn("volume %s: it is served with its old size of %llu bytes for now: no room "
			 "for a new local layer",
			 name, (unsigned long long)v->view->active->size_bytes);
	for (int i = 0; i < 2; i++) {
		struct layer *l = i ? v->view->active : v->view->frozen;

		if (!l)
			continue;
		__atomic_add_fetch(&e->dirty_bytes, l->data_bytes, __ATOMIC_RELAXED);
		if (l->poisoned)
			volume_set_mode(
				v, VOLUME_POISONED,
				"layer %llu had a failed write or fsync (%s) earlier in this "
				"boot; the volume is read-only and uploads nothing more",
				(unsigned long long)l->seq, strerror(-l->poisoned));
	}
	pthread_mutex_lock(&e->lock);
	list_add_tail(&v->node, &e->volumes);
	pthread_mutex_unlock(&e->lock);
	if (v->view->frozen || layer_dirty(v->view->active))
		volume_dirty_notify(v);
	*out = v;
	return 0;
err:
	volume_free(v);
	return r;
}

/* Lanes may have been added; they adopt the new view before this returns. */
static int manifest_adopt(struct volume *v, struct manifest *m, struct fmt_err *err)
{
	struct view *vw;
	int r = root_manifest_check(&v->root, m, err);

	if (r)
		return r;
	pthread_mutex_lock(&v->mut);
	vw = view_new(v->view->active, v->view->frozen, m);
	r = vw ? volume_view_change(v, vw, false) : -ENOMEM;
	pthread_mutex_unlock(&v->mut);
	if (r)
		snprintf(err->msg, sizeof(err->msg), "volume %s: its manifest: %s", v->root.name,
			 strerror(-r));
	return r;
}

int volume_ready(struct volume *v, bool wait, struct fmt_err *err)
{
	struct manifest *m;
	int r;

	if (v->unready) {
		snprintf(err->msg, sizeof(err->msg), "%s", v->why);
		return v->unready;
	}
	if (!v->coming)
		return 0;
	if (!wait)
		return -EINPROGRESS;
	r = manifest_fetch_finish(v->coming, &m, err);
	v->coming = NULL;
	if (r == -ENOENT)
		r = -EBADMSG; /* as in volume_open() */
	if (!r)
		r = manifest_adopt(v, m, err);
	manifest_put(m);
	v->unready = r;
	if (r)
		snprintf(v->why, sizeof(v->why), "%.199s", err->msg);
	return r;
}

void volume_created(struct volume *v, const char *etag)
{
	pthread_mutex_lock(&v->mut);
	snprintf(v->etag, sizeof(v->etag), "%s", etag);
	v->unborn = false;
	pthread_mutex_unlock(&v->mut);
}

void volume_close(struct volume *v)
{
	struct engine *e = v->e;

	__atomic_store_n(&v->closing, true, __ATOMIC_RELEASE);
	housekeeper_forget(v);
	pthread_mutex_lock(&v->lock);
	if (upload_queue_remove(v))
		v->upload_queued = false;
	while (v->upload_queued || v->reserve_queued || v->local_jobs)
		pthread_cond_wait(&v->cond, &v->lock);
	pthread_mutex_unlock(&v->lock);
	pthread_mutex_lock(&e->lock);
	list_del(&v->node);
	pthread_mutex_unlock(&e->lock);
	/* Not owed to anybody, but a clean stop followed by a reboot then loses nothing. */
	if (!v->removed) {
		int r = v->view->frozen ? layer_sync(v->view->frozen) : 0;

		if (!r)
			r = layer_sync(v->view->active);
		if (r)
			log_warn("volume %s: final sync of the local layers failed: %s",
				 v->root.name, strerror(-r));
	}
	for (int i = 0; i < 2; i++) {
		struct layer *l = i ? v->view->active : v->view->frozen;

		if (l)
			__atomic_sub_fetch(&e->dirty_bytes, l->data_bytes, __ATOMIC_RELAXED);
	}
	volume_free(v);
}

/* ---- drain, release, destroy ---- */

int volume_mut_lock(struct volume *v, uint64_t deadline_ns)
{
	uint64_t now = now_ns(), wall;
	struct timespec ts;

	if (!deadline_ns)
		return -pthread_mutex_lock(&v->mut);
	/* By the wall clock, because the thread sanitizer knows no other form; a jump moves the
	 * deadline. */
	wall = wall_ns() + (deadline_ns > now ? deadline_ns - now : 0);
	ts.tv_sec = (time_t)(wall / NSEC_PER_SEC);
	ts.tv_nsec = (long)(wall % NSEC_PER_SEC);
	return -pthread_mutex_timedlock(&v->mut, &ts);
}

int volume_mode_error(struct volume *v, struct fmt_err *err)
{
	pthread_mutex_lock(&v->lock);
	snprintf(err->msg, sizeof(err->msg), "volume %s: %.150s", v->root.name, v->why);
	pthread_mutex_unlock(&v->lock);
	return volume_mode(v) == VOLUME_FENCED ? -ESTALE : -EIO;
}

uint64_t volume_drain_mark(struct volume *v)
{
	struct view *vw = volume_view_get(v);
	/* Everything acknowledged so far is in this layer or an older one. */
	uint64_t mark = vw->active->seq - (layer_dirty(vw->active) ? 0 : 1);

	view_put(vw);
	return mark;
}

int volume_drain(struct volume *v, uint64_t timeout_ns, uint64_t op_id, struct fmt_err *err)
{
	return volume_drain_to(v, volume_drain_mark(v), timeout_ns, op_id, err);
}

int volume_drain_to(struct volume *v, uint64_t mark, uint64_t timeout_ns, uint64_t op_id,
		    struct fmt_err *err)
{
	uint64_t deadline = timeout_ns ? now_ns() + timeout_ns : 0;
	int r = volume_mut_lock(v, deadline);

	if (r) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %s: a running upload did not end in time", v->root.name);
		return -ETIMEDOUT;
	}
	while (v->root.sequence < mark) {
		if (volume_mode(v) == VOLUME_POISONED || volume_mode(v) == VOLUME_FENCED) {
			r = volume_mode_error(v, err);
			break;
		}
		if (volume_closing(v)) {
			r = -ECANCELED;
			snprintf(err->msg, sizeof(err->msg), "volume %s is closing", v->root.name);
			break;
		}
		r = volume_upload_locked(v, op_id, err);
		if (r == 1) {
			r = 0; /* only zeros over zeros: nothing to publish */
			break;
		}
		if (!r)
			continue;
		if (deadline && now_ns() + DRAIN_RETRY_NS >= deadline) {
			struct fmt_err last = *err;

			snprintf(err->msg, sizeof(err->msg),
				 "volume %s: not drained in time (%s): %.120s", v->root.name,
				 strerror(-r), last.msg);
			r = -ETIMEDOUT;
			break;
		}
		pthread_mutex_lock(&v->lock);
		(void)cond_wait_until(&v->cond, &v->lock, now_ns() + DRAIN_RETRY_NS);
		pthread_mutex_unlock(&v->lock);
	}
	pthread_mutex_unlock(&v->mut);
	volume_kick_parked(v);
	return r;
}

/* Under v->mut, after success in the store. */
static void local_gone(struct volume *v, const char *what)
{
	int r;

	pthread_mutex_lock(&v->lock);
	v->removed = true;
	pthread_mutex_unlock(&v->lock);
	r = volume_local_remove(v);
	if (r)
		log_warn("volume %s: %s, but its local files remain in %s/volumes/%s: %s",
			 v->root.name, what, v->e->cache_dir, v->dir_name, strerror(-r));
}

/* The release was refused because of an earlier grow that landed late: make it anew. */
static bool release_regrown(struct volume *v, uint64_t op_id)
{
	struct fmt_err ignored = {{0}};
	char etag[STORE_ETAG_MAX];
	struct root cur;

	if (root_regrown(v, op_id, &cur, etag, &ignored))
		return false;
	v->release.size_bytes = v->root.size_bytes;
	random_bytes(v->release.nonce, sizeof(v->release.nonce));
	return true;
}

int volume_release(struct volume *v, uint64_t op_id, struct fmt_err *err)
{
	bool late = volume_releasing(v), definite;
	int r = late ? 0 : volume_drain(v, 0, op_id, err);

	if (r)
		return r;
	pthread_mutex_lock(&v->mut);
	if (!late) {
		v->release = v->root;
		v->release.owner[0] = '\0';
		random_bytes(v->release.nonce, sizeof(v->release.nonce));
		pthread_mutex_lock(&v->lock);
		v->releasing = true;
		pthread_mutex_unlock(&v->lock);
	}
	/*
	 * Storage rule 11: until the answer is definite the PUT may still land. So no other root is
	 * sent, no lane is added (volume_lane_add), and a repeated release sends the same bytes
	 * again.
	 */
	do {
		r = root_update(v->e, &v->release, v->root.nonce, v->etag,
				now_ns() + v->e->cfg.store_timeout_ns, op_id, &v->closing, err);
	} while (r == -ESTALE && release_regrown(v, op_id));
	/* Taken, refused, or never written; the last holds for this call's attempts only. */
	definite = !r || r == -ESTALE || (!late && r != -ETIMEDOUT && r != -ECANCELED);
	if (definite) {
		pthread_mutex_lock(&v->lock);
		v->releasing = false;
		if (!r)
			v->root = v->release;
		pthread_mutex_unlock(&v->lock);
	}
	if (!r)
		local_gone(v, "released");
	pthread_mutex_unlock(&v->mut);
	return r;
}

bool volume_releasing(struct volume *v)
{
	SCOPED_LOCK(&v->lock);

	return v->releasing;
}

int volume_destroy(struct volume *v, uint64_t op_id, struct fmt_err *err)
{
	char etag[STORE_ETAG_MAX];
	struct root cur;
	int r;

	pthread_mutex_lock(&v->mut);
	/* Only the root that we know, or the one that we are publishing: never another host's. */
	r = root_delete(v->e, v->root.name, v->root.nonce, op_id, err);
	if (r == -ESTALE && v->publish)
		r = root_delete(v->e, v->root.name, upload_nonce(v), op_id, err);
	if (r == -ESTALE && v->releasing)
		r = root_delete(v->e, v->root.name, v->release.nonce, op_id, err);
	if (r == -ESTALE && !root_regrown(v, op_id, &cur, etag, err))
		r = root_delete(v->e, v->root.name, v->root.nonce, op_id, err);
	if (!r) {
		__atomic_store_n(&v->closing, true, __ATOMIC_RELEASE);
		local_gone(v, "deleted");
	}
	pthread_mutex_unlock(&v->mut);
	return r;
}

/* ---- lanes ---- */

int volume_lane_add(struct volume *v, struct worker *w, struct lane **out)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	struct lane_view *lv = calloc(1, sizeof(*lv));
	int r = -ENOMEM;

	if (!lane || !lv)
		goto err;
	lane->v = v;
	lane->w = w;
	lane->cur = lv;
	list_init(&lane->held);
	list_init(&lane->parked);
	pthread_mutex_lock(&v->lock);
	while (v->changing)
		pthread_cond_wait(&v->cond, &v->lock);
	if (v->nr_lanes == VOLUME_LANES_MAX || v->releasing) {
		r = v->releasing ? -EBUSY : -ENOSPC;
		pthread_mutex_unlock(&v->lock);
		goto err;
	}
	lv->view = view_get(v->view);
	lane->index = v->nr_lanes;
	v->lane[v->nr_lanes++] = lane;
	pthread_mutex_unlock(&v->lock);
	*out = lane;
	return 0;
err:
	free(lane);
	free(lv);
	return r;
}

static int lane_quiesce(struct worker *w __unused, void *arg __unused)
{
	return 0;
}

void volume_lanes_remove(struct volume *v)
{
	struct lane *lanes[VOLUME_LANES_MAX];
	unsigned int nr;

	pthread_mutex_lock(&v->lock);
	while (v->changing)
		pthread_cond_wait(&v->cond, &v->lock);
	nr = v->nr_lanes;
	memcpy(lanes, v->lane, nr * sizeof(lanes[0]));
	v->nr_lanes = 0;
	pthread_mutex_unlock(&v->lock);
	for (unsigned int i = 0; i < nr; i++) {
		/* Kicks posted before are run before this. */
		worker_call(lanes[i]->w, lane_quiesce, NULL);
		pthread_mutex_lock(&v->lock);
		v->gone_reads += lanes[i]->reads;
		v->gone_writes += lanes[i]->writes;
		pthread_mutex_unlock(&v->lock);
		view_put(lanes[i]->cur->view);
		free(lanes[i]->cur);
		free(lanes[i]);
	}
}

int volume_prefetch_edges(struct volume *v, uint64_t op_id)
{
	struct view *vw = volume_view_get(v);
	uint64_t last = (vw->active->size_bytes - 1) / v->root.block_bytes;
	/* What the scan reads: sector 0 onwards, and the backup GPT header at the end. */
	uint64_t blocks[] = {0, last};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(blocks) && !r; i++) {
		struct cache_buf *buf = NULL;

		r = fetch_block_sync(v->e->fetcher, vw->manifest, blocks[i], op_id, &buf);
		cache_buf_put(buf);
	}
	view_put(vw);
	return r;
}

/* ---- queries ---- */

const char *volume_name(const struct volume *v)
{
	return v->root.name;
}

const uint8_t *volume_uuid(const struct volume *v)
{
	return v->root.uuid;
}

uint64_t volume_size_bytes(struct volume *v)
{
	SCOPED_LOCK(&v->lock);

	return v->view->active->size_bytes;
}

bool volume_partitions(const struct volume *v)
{
	return v->root.partitions;
}

bool volume_read_only(const struct volume *v)
{
	return v->root.read_only;
}

uint32_t volume_block_bytes(const struct volume *v)
{
	return v->root.block_bytes;
}

void volume_set_dev_id(struct volume *v, int dev_id)
{
	__atomic_store_n(&v->dev_id, dev_id, __ATOMIC_RELAXED);
}

void volume_info_read(struct volume *v, struct volume_info *out)
{
	uint64_t first = 0;
	struct view *vw;

	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&v->lock);
	vw = view_get(v->view);
	out->root = v->root;
	out->mode = (enum volume_mode)v->mode;
	memcpy(out->why, v->why, sizeof(out->why));
	out->reads = v->gone_reads;
	out->writes = v->gone_writes;
	for (unsigned int i = 0; i < v->nr_lanes; i++) {
		const struct lane *lane = v->lane[i];

#define SUM(field) out->field += __atomic_load_n(&lane->field, __ATOMIC_RELAXED)
		SUM(reads);
		SUM(writes);
		SUM(flushes);
		SUM(read_bytes);
		SUM(write_bytes);
		SUM(errors);
#undef SUM
	}
	out->uploads = v->uploads;
	out->upload_failures = v->upload_failures;
	out->uploading = v->uploading;
	pthread_mutex_unlock(&v->lock);
	out->upload_total = __atomic_load_n(&v->upload_total, __ATOMIC_RELAXED);
	out->upload_done =
		MIN(out->upload_total, __atomic_load_n(&v->upload_done, __ATOMIC_RELAXED));
	out->parked = __atomic_load_n(&v->parked, __ATOMIC_RELAXED);
	out->layer_seq = vw->active->seq;
	out->dirty_bytes = layer_data_bytes(vw->active);
	if (vw->frozen) {
		out->dirty_bytes += layer_data_bytes(vw->frozen);
		first = vw->frozen->first_dirty_ns;
	} else if (layer_dirty(vw->active)) {
		first = vw->active->first_dirty_ns;
	}
	if (first)
		out->oldest_dirty_ns = now_ns() - first;
	view_put(vw);
}
