// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Growing a volume. Runs on the thread that holds v->mut. Storage rules 8, 10, 11.
 *
 * The root goes first, then a layer switch to a layer of the new size; a layer never changes its
 * size. So at every moment: size of any local layer <= size of the root, an older layer is never
 * larger than a newer one, and no request reaches past the end of the active layer of its own view.
 * Whatever a layer or a manifest lies short of the volume's end is absent there: zeros.
 *
 * A crash in between leaves a root that is larger than the layers; the next open, or the next
 * upload if there is a frozen layer, makes the switch. The root's PUT changes neither generation
 * nor sequence, which tells it from anybody else's when it lands late: an ambiguous one may be
 * forgotten, because all later PUTs have the same precondition and only one of them can land.
 */
#include "engine/volume_priv.h"
#include "engine/wire.h"

#include "lib/log.h"
#include <stdio.h>
#include <string.h>

int volume_fit(struct volume *v)
{
	if (v->view->active->size_bytes >= v->root.size_bytes)
		return 0;
	if (v->view->frozen)
		return -EBUSY;
	/* A clean layer too: it is uploaded as an empty one, so that sequences stay contiguous. */
	return volume_switch_layer(v, true);
}

static void root_grown(struct volume *v, const struct root *r, const char *etag)
{
	pthread_mutex_lock(&v->lock);
	v->root.size_bytes = r->size_bytes;
	memcpy(v->root.nonce, r->nonce, sizeof(v->root.nonce));
	memcpy(v->etag, etag, sizeof(v->etag));
	pthread_mutex_unlock(&v->lock);
}

int root_regrown(struct volume *v, uint64_t op_id, struct root *cur, char *etag,
		 struct fmt_err *err)
{
	const struct root *mine = &v->root;
	int r = root_load(v->e, mine->name, op_id, cur, etag, err);

	if (r)
		return r;
	if (memcmp(cur->uuid, mine->uuid, sizeof(cur->uuid)) ||
	    cur->generation != mine->generation || strcmp(cur->owner, mine->owner) ||
	    cur->sequence != mine->sequence || strcmp(cur->manifest.id, mine->manifest.id) ||
	    cur->size_bytes <= mine->size_bytes)
		return fmt_fail(err, -ESTALE, "its root was changed by somebody else");
	root_grown(v, cur, etag);
	log_info("volume %s: a grow to %llu bytes that had no definite answer was made", mine->name,
		 (unsigned long long)cur->size_bytes);
	return 0;
}

/* The PUT. 0: v->root has at least the size. */
static int root_grow(struct volume *v, uint64_t size_bytes, uint64_t op_id, struct fmt_err *err)
{
	while (v->root.size_bytes < size_bytes) {
		struct root want = v->root, cur;
		char etag[STORE_ETAG_MAX];
		int r;

		memcpy(etag, v->etag, sizeof(etag));
		want.size_bytes = size_bytes;
		random_bytes(want.nonce, sizeof(want.nonce));
		r = root_update(v->e, &want, v->root.nonce, etag,
				now_ns() + v->e->cfg.store_timeout_ns, op_id, &v->closing, err);
		if (!r)
			root_grown(v, &want, etag);
		else if (r == -ESTALE)
			r = root_regrown(v, op_id, &cur, etag, err);
		if (r)
			return r;
	}
	return 0;
}

static int grow_check(struct volume *v, uint64_t size_bytes, struct fmt_err *err)
{
	const char *name = v->root.name;
	int r;

	if (size_bytes < v->root.size_bytes) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %s has %llu bytes, and cannot be made smaller (%llu)", name,
			 (unsigned long long)v->root.size_bytes, (unsigned long long)size_bytes);
		return -EINVAL;
	}
	if (!volume_bytes_ok(size_bytes)) {
		snprintf(err->msg, sizeof(err->msg), "volume %s: it cannot have %llu bytes", name,
			 (unsigned long long)size_bytes);
		return -EINVAL;
	}
	switch (volume_mode(v)) {
	case VOLUME_READ_ONLY:
		snprintf(err->msg, sizeof(err->msg),
			 "volume %s is read-only: its size cannot be changed", name);
		return -EROFS;
	case VOLUME_FENCED:
	case VOLUME_POISONED:
		r = volume_mode_error(v, err);
		return r;
	case VOLUME_RW:
		break;
	}
	if (v->unborn || v->releasing) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %s: the store gave no definite answer to another change yet; try "
			 "again",
			 name);
		return -EAGAIN;
	}
	return 0;
}

int volume_grow(struct volume *v, uint64_t size_bytes, uint64_t timeout_ns, uint64_t op_id,
		struct fmt_err *err)
{
	int r = volume_mut_lock(v, timeout_ns ? now_ns() + timeout_ns : 0);

	if (r) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %s: a running upload did not end in time; try again",
			 v->root.name);
		return -ETIMEDOUT;
	}
	if (size_bytes == v->root.size_bytes && v->view->active->size_bytes == size_bytes)
		goto out;
	r = grow_check(v, size_bytes, err);
	/* A publish that is not definite has its own root on the way, and a cut needs its place. */
	if (!r && v->view->frozen) {
		r = volume_upload_locked(v, op_id, err);
		r = MIN(r, 0);
	}
	if (!r)
		r = root_grow(v, size_bytes, op_id, err);
	if (!r) {
		r = volume_fit(v);
		if (r)
			snprintf(err->msg, sizeof(err->msg),
				 "volume %s has %llu bytes in the store now, but no local layer of "
				 "that size can be made: %s; try again",
				 v->root.name, (unsigned long long)size_bytes, strerror(-r));
	}
out:
	pthread_mutex_unlock(&v->mut);
	if (!r)
		volume_dirty_notify(v);
	return r;
}
