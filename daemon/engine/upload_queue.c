// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who uploads next. Jobs run on the uploader pool in order of queueing, one per volume. A large
 * layer holds its thread for long, so large ones never have all threads: at least one takes volumes
 * that write little, which then wait for other small ones only. Large ones wait in a line of their
 * own, first come, first served.
 *
 * e->upload_lock guards the line and the count; it is taken under v->lock.
 */
#include "engine/volume_priv.h"

#define UPLOADS_LARGE_MAX (UPLOAD_THREADS - 1)

void upload_queue_init(struct engine *e)
{
	pthread_mutex_init(&e->upload_lock, NULL);
	list_init(&e->upload_large);
}

static bool is_large(const struct volume *v)
{
	const struct view *vw = v->view;
	const struct layer *l = vw->frozen ? vw->frozen : vw->active;

	return layer_data_bytes(l) > 2 * v->e->cfg.upload_dirty_bytes;
}

void upload_queue_add(struct volume *v)
{
	struct engine *e = v->e;
	SCOPED_LOCK(&e->upload_lock);

	v->upload_is_large = is_large(v);
	if (v->upload_is_large && e->uploads_large == UPLOADS_LARGE_MAX) {
		list_add_tail(&v->upload_node, &e->upload_large);
		return;
	}
	e->uploads_large += v->upload_is_large;
	pool_submit(e->uploader, &v->upload_job);
}

bool upload_queue_start(struct volume *v)
{
	struct engine *e = v->e;
	SCOPED_LOCK(&e->upload_lock);

	/* It may have become large while its job waited. */
	if (v->upload_is_large || !is_large(v))
		return true;
	v->upload_is_large = true;
	if (e->uploads_large == UPLOADS_LARGE_MAX) {
		list_add_tail(&v->upload_node, &e->upload_large);
		return false;
	}
	e->uploads_large++;
	return true;
}

bool upload_queue_remove(struct volume *v)
{
	SCOPED_LOCK(&v->e->upload_lock);

	if (list_empty(&v->upload_node))
		return false;
	list_del(&v->upload_node);
	v->upload_is_large = false;
	return true;
}

void upload_queue_done(struct volume *v)
{
	struct engine *e = v->e;
	struct volume *next;
	SCOPED_LOCK(&e->upload_lock);

	if (!v->upload_is_large)
		return;
	v->upload_is_large = false;
	if (list_empty(&e->upload_large)) {
		e->uploads_large--;
		return;
	}
	/* It takes over the place. */
	next = list_first_entry(&e->upload_large, struct volume, upload_node);
	list_del(&next->upload_node);
	pool_submit(e->uploader, &next->upload_job);
}
