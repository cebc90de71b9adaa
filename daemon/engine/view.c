// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Views and their replacement: how every lane of a volume comes to see a new {active, frozen,
 * manifest}, and the consistent cut of a layer switch.
 *
 * Invariant (storage rule 6): at a switch, no completion of a request that ran in the new view
 * reaches the guest before every lane has adopted that view. So a write into the frozen layer can
 * never depend on one that is only in the new layer: what the frozen layer holds is a prefix of the
 * acknowledged order.
 */
#include "engine/volume_priv.h"

#include "lib/log.h"
#include "lib/spans.h"
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define CLAIM_NS       (5 * NSEC_PER_SEC) /* for the files of the next layer on a full disk */
#define CLAIM_RETRY_US 10000

/* Chunks of 128 MiB whose map is allocated in the new layer before a switch: 64 KiB each. */
#define SWITCH_RESERVE_CHUNKS 256

struct view *view_new(struct layer *active, struct layer *frozen, struct manifest *m)
{
	struct view *vw = calloc(1, sizeof(*vw));

	if (!vw)
		return NULL;
	vw->refs = 1;
	vw->active = layer_get(active);
	vw->frozen = frozen ? layer_get(frozen) : NULL;
	vw->manifest = m ? manifest_get(m) : NULL;
	return vw;
}

struct view *view_get(struct view *vw)
{
	__atomic_add_fetch(&vw->refs, 1, __ATOMIC_RELAXED);
	return vw;
}

void view_put(struct view *vw)
{
	if (!vw || __atomic_sub_fetch(&vw->refs, 1, __ATOMIC_ACQ_REL))
		return;
	layer_put(vw->active);
	layer_put(vw->frozen);
	manifest_put(vw->manifest);
	free(vw);
}

struct view *volume_view_get(struct volume *v)
{
	struct view *vw;

	pthread_mutex_lock(&v->lock);
	vw = view_get(v->view);
	pthread_mutex_unlock(&v->lock);
	return vw;
}

/* One replacement under way; lives on the mutator's stack until nothing refers to it. */
struct view_change {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int adopt_left, release_left, writes_left;
	bool cut;
};

struct lane_msg {
	struct worker_msg msg;
	struct lane *lane;
	struct lane_view *lv; /* to adopt */
	struct view_change *change;
};

static void change_count(struct view_change *c, unsigned int *left)
{
	pthread_mutex_lock(&c->lock);
	--*left;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void change_wait(struct view_change *c, unsigned int *left)
{
	pthread_mutex_lock(&c->lock);
	while (*left)
		pthread_cond_wait(&c->cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

/* Worker's thread: report a drained retired view, and free it when nothing uses it. */
static void lane_view_check(struct lane_view *lv)
{
	if (!lv->retired)
		return;
	if (!lv->writes && lv->change) {
		struct view_change *c = lv->change;

		/* The change may be gone once counted. */
		lv->change = NULL;
		change_count(c, &c->writes_left);
	}
	if (!lv->total) {
		view_put(lv->view);
		free(lv);
	}
}

void lane_view_unref(struct lane *lane __unused, struct lane_view *lv, bool write)
{
	if (write)
		lv->writes--;
	lv->total--;
	lane_view_check(lv);
}

static void lane_adopt(struct worker *w __unused, struct worker_msg *msg)
{
	struct lane_msg *m = container_of(msg, struct lane_msg, msg);
	struct lane_view *old = m->lane->cur;
	struct view_change *c = m->change;

	m->lane->cur = m->lv;
	m->lane->withhold = c->cut;
	old->retired = true;
	old->change = c;
	lane_view_check(old);
	change_count(c, &c->adopt_left);
}

static void lane_release(struct worker *w __unused, struct worker_msg *msg)
{
	struct lane_msg *m = container_of(msg, struct lane_msg, msg);
	struct list_head held;

	m->lane->withhold = false;
	list_splice_init(&m->lane->held, &held);
	while (!list_empty(&held)) {
		struct gfs_req *req = list_first_entry(&held, struct gfs_req, node);

		list_del(&req->node);
		req->done(req, req->res);
	}
	change_count(m->change, &m->change->release_left);
}

int volume_view_change(struct volume *v, struct view *vw, bool cut)
{
	struct view_change c = {.cut = cut, .lock = PTHREAD_MUTEX_INITIALIZER};
	struct lane_msg *msgs = NULL;
	struct view *old;
	unsigned int nr;

	pthread_cond_init(&c.cond, NULL);
	pthread_mutex_lock(&v->lock);
	while (v->changing)
		pthread_cond_wait(&v->cond, &v->lock);
	nr = v->nr_lanes;
	if (nr) {
		msgs = calloc(nr, sizeof(*msgs));
		for (unsigned int i = 0; msgs && i < nr; i++) {
			msgs[i].lv = calloc(1, sizeof(*msgs[i].lv));
			if (!msgs[i].lv) {
				while (i--)
					free(msgs[i].lv);
				free(msgs);
				msgs = NULL;
			}
		}
		if (!msgs) {
			pthread_mutex_unlock(&v->lock);
			view_put(vw);
			return -ENOMEM;
		}
	}
	v->changing = true;
	/* Before any lane adopts it: a FLUSH that is submitted from now on covers the new layer
	 * too. */
	old = v->view;
	v->view = vw;
	c.adopt_left = c.release_left = c.writes_left = nr;
	for (unsigned int i = 0; i < nr; i++) {
		msgs[i].msg.run = lane_adopt;
		msgs[i].lane = v->lane[i];
		msgs[i].lv->view = view_get(vw);
		msgs[i].change = &c;
		worker_post(v->lane[i]->w, &msgs[i].msg);
		/* Here lanes disagree: tests make that last. */
		worker_pause(UINT_MAX);
	}
	pthread_mutex_unlock(&v->lock);

	change_wait(&c, &c.adopt_left);
	for (unsigned int i = 0; i < nr; i++) {
		msgs[i].msg.run = lane_release;
		worker_post(msgs[i].lane->w, &msgs[i].msg);
	}
	change_wait(&c, &c.release_left);
	/* Writes in flight into the old view end by themselves: local I/O only. */
	change_wait(&c, &c.writes_left);

	pthread_mutex_lock(&v->lock);
	v->changing = false;
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
	pthread_cond_destroy(&c.cond);
	free(msgs);
	view_put(old);
	return 0;
}

int volume_switch_layer(struct volume *v, bool clean_too)
{
	struct timing_rec rec = {.event = TIMING_LAYER_SWITCH,
				 .export_ = v->root.name,
				 .dev_id = v->dev_id,
				 .start_ns = now_ns()};
	struct view *cur = v->view, *vw; /* only mutators replace it, and we are the one */
	uint32_t span;
	int r;

	if (cur->frozen)
		return -EBUSY;
	if (!layer_dirty(cur->active) && !clean_too)
		return 1;
	span = span_open(&rec);
	r = volume_next_layer(v);
	if (r)
		goto out;
	layer_reserve_like(v->next, cur->active, SWITCH_RESERVE_CHUNKS);
	rec.bytes = layer_data_bytes(cur->active);
	vw = view_new(v->next, cur->active, cur->manifest);
	if (!vw) {
		r = -ENOMEM;
		goto out;
	}
	r = volume_view_change(v, vw, true);
	if (!r) {
		layer_put(v->next); /* the view holds it now */
		v->next = NULL;
	}
out:
	rec.result = r;
	span_close(span);
	timing_emit(&rec);
	return r;
}

int volume_next_layer(struct volume *v)
{
	if (v->next && v->next->size_bytes >= v->root.size_bytes)
		return 0;
	if (v->next) {
		/* Made before the volume grew, and never written. */
		int r = layer_unlink(v->dirfd, v->next->seq);

		if (r)
			return r;
		layer_put(v->next);
		v->next = NULL;
	}
	return layer_create(v->dirfd, v->root.uuid, v->root.generation, v->view->active->seq + 1,
			    v->root.size_bytes, &v->next);
}

int volume_drop_frozen(struct volume *v, struct manifest *m)
{
	struct view *cur = v->view, *vw;
	struct layer *frozen = layer_get(cur->frozen);
	int r;

	vw = view_new(cur->active, NULL, m);
	manifest_put(m);
	if (!vw) {
		layer_put(frozen);
		return -ENOMEM;
	}
	r = volume_view_change(v, vw, false);
	if (!r) {
		__atomic_sub_fetch(&v->e->dirty_bytes, frozen->data_bytes, __ATOMIC_RELAXED);
		/*
		 * The next switch is what frees a full disk, so its layer has the first claim on
		 * what this one frees: until volume_claim_next nobody else may write. Room cures
		 * nothing else; the switch tries again and tells its caller.
		 */
		r = volume_next_layer(v);
		if (r == -ENOSPC || r == -EDQUOT) {
			v->claiming = true;
			__atomic_add_fetch(&v->e->space_claims, 1, __ATOMIC_SEQ_CST);
		} else if (r) {
			log_warn("volume %s: cannot prepare the next layer: %s", v->root.name,
				 strerror(-r));
		}
		/* Published: recognised by its sequence and removed at the next open if this fails.
		 */
		r = layer_unlink(v->dirfd, frozen->seq);
		if (r)
			log_warn("volume %s: layer %llu is published but its files remain: %s",
				 v->root.name, (unsigned long long)frozen->seq, strerror(-r));
		r = 0;
	}
	layer_put(frozen);
	return r;
}

void volume_claim_next(struct volume *v)
{
	uint64_t deadline = now_ns() + CLAIM_NS;
	int r;

	if (!v->claiming)
		return;
	/* Reads in the old view may keep the dropped layer, and its blocks, for a while. */
	while ((r = volume_next_layer(v)) && now_ns() < deadline && !volume_closing(v))
		usleep(CLAIM_RETRY_US);
	v->claiming = false;
	__atomic_sub_fetch(&v->e->space_claims, 1, __ATOMIC_SEQ_CST);
	if (r)
		log_warn("volume %s: cannot prepare the next layer: %s", v->root.name,
			 strerror(-r));
}
