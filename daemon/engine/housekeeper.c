// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * When to upload: one thread watches the volumes that have something dirty, by size, age and free
 * space on the SSD, and wakes requests that wait for local space. Nothing runs while every volume
 * is clean.
 *
 * Workers hand a volume over by a lock-free stack (volume_dirty_notify), at most once until it was
 * clean again. The upload itself runs on the uploader pool, one job per volume at a time; which one
 * is next is in upload_queue.c.
 *
 * Age is adaptive: upload_age_min_ns after the first write of a volume that was idle; doubled, up
 * to the configured maximum, each time an upload by age carried little, so that a trickle of small
 * writes costs two PUTs and a root update per 30 s, not per 5 s.
 */
#include "engine/volume_priv.h"

#include "lib/log.h"
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>

#define TICK_MS     100
#define AGE_LITTLE  (1 * MiB)
#define BACKOFF_MIN (200 * NSEC_PER_MSEC)
#define BACKOFF_MAX (30 * NSEC_PER_SEC)

static void housekeeper_wake(struct engine *e)
{
	uint64_t one = 1;

	while (write(e->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void volume_dirty_notify(struct volume *v)
{
	struct engine *e = v->e;
	struct volume *head;

	if (__atomic_exchange_n(&v->dirty_queued, 1, __ATOMIC_ACQ_REL))
		return;
	head = __atomic_load_n(&e->dirty_stack, __ATOMIC_RELAXED);
	do {
		v->dirty_next = head;
	} while (!__atomic_compare_exchange_n(&e->dirty_stack, &head, v, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	if (!head)
		housekeeper_wake(e);
}

/* ---- upload jobs ---- */

static bool volume_has_frozen(struct volume *v)
{
	struct view *vw = volume_view_get(v);
	bool frozen = vw->frozen != NULL;

	view_put(vw);
	return frozen;
}

static void upload_run(struct pool_job *job)
{
	struct volume *v = container_of(job, struct volume, upload_job);
	struct fmt_err err = {.msg = ""};
	uint64_t now;
	int r = -ECANCELED;
	bool busy, asked, due;

	pthread_mutex_lock(&v->lock);
	if (!upload_queue_start(v)) {
		pthread_mutex_unlock(&v->lock);
		return;
	}
	asked = v->upload_wanted;
	due = v->upload_due;
	v->upload_wanted = false;
	v->upload_due = false;
	v->uploading = true;
	pthread_mutex_unlock(&v->lock);

	/* Whoever has it uploads, or will soon be done; a thread of the pool does not wait for
	 * that. */
	busy = pthread_mutex_trylock(&v->mut) != 0;
	if (!busy) {
		/* Was it only to finish a frozen layer, and a drain has done so: what was written
		 * after it is not due. */
		if (!asked && !due && !volume_has_frozen(v))
			r = 1;
		else if (!volume_closing(v) && volume_mode(v) == VOLUME_RW)
			r = volume_upload_locked(v, timing_op_id(), &err);
		pthread_mutex_unlock(&v->mut);
	}
	if (r >= 0 || __atomic_load_n(&v->e->parked, __ATOMIC_RELAXED))
		volume_kick_parked(v);
	upload_queue_done(v);

	pthread_mutex_lock(&v->lock);
	now = now_ns();
	v->uploading = false;
	v->upload_queued = false;
	v->upload_wanted |= busy && asked; /* the housekeeper's next look asks again */
	if (r >= 0) {
		v->backoff_ns = 0;
		v->retry_at_ns = 0;
	} else if (r != -ECANCELED) {
		v->backoff_ns = MIN(MAX(v->backoff_ns * 2, BACKOFF_MIN), BACKOFF_MAX);
		v->retry_at_ns = now + v->backoff_ns;
		log_warn("volume %s: upload failed (%s): %s; again in %llu ms, nothing is lost",
			 v->root.name, strerror(-r), err.msg,
			 (unsigned long long)(v->backoff_ns / NSEC_PER_MSEC));
	}
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
}

/* Under v->lock. */
static void upload_job_add(struct volume *v)
{
	if (!v->upload_queued && !volume_closing(v) && v->retry_at_ns <= now_ns()) {
		v->upload_queued = true;
		v->upload_job.run = upload_run;
		upload_queue_add(v);
	}
}

void volume_upload_queue(struct volume *v)
{
	pthread_mutex_lock(&v->lock);
	v->upload_wanted = true;
	upload_job_add(v);
	pthread_mutex_unlock(&v->lock);
}

/* ---- space for parked requests ---- */

void volume_kick_parked(struct volume *v)
{
	pthread_mutex_lock(&v->lock);
	for (unsigned int i = 0; i < v->nr_lanes; i++) {
		struct lane *lane = v->lane[i];

		if (!__atomic_exchange_n(&lane->kick_posted, 1, __ATOMIC_ACQ_REL)) {
			lane->kick.run = lane_retry_parked;
			worker_post(lane->w, &lane->kick);
		}
	}
	pthread_mutex_unlock(&v->lock);
}

static void reserve_run(struct pool_job *job)
{
	struct volume *v = container_of(job, struct volume, reserve_job);
	struct view *vw;
	uint64_t sector;
	uint32_t n;
	int r;

	pthread_mutex_lock(&v->lock);
	sector = v->reserve_sector;
	n = v->reserve_nsectors;
	vw = view_get(v->view);
	pthread_mutex_unlock(&v->lock);
	r = layer_reserve(vw->active, sector, n);
	if (r && r != -ENOSPC && r != -EDQUOT) {
		layer_poison(vw->active, r);
		volume_set_mode(v, VOLUME_POISONED,
				"cannot allocate local space (%s); the volume is read-only",
				strerror(-r));
	}
	view_put(vw);
	pthread_mutex_lock(&v->lock);
	v->reserve_queued = false;
	v->local_jobs++;
	pthread_mutex_unlock(&v->lock);
	if (r == -ENOSPC || r == -EDQUOT)
		volume_upload_queue(v); /* the housekeeper's turns retry until the deadline */
	else
		volume_kick_parked(v);
	/*
	 * The first write of a volume comes by here: have the next layer ready before the disk is
	 * full. An upload that holds the mutex makes it itself.
	 */
	if (!r && !pthread_mutex_trylock(&v->mut)) {
		r = volume_next_layer(v);
		if (r)
			log_warn("volume %s: cannot prepare the next layer: %s", v->root.name,
				 strerror(-r));
		pthread_mutex_unlock(&v->mut);
	}
	pthread_mutex_lock(&v->lock);
	v->local_jobs--;
	pthread_cond_broadcast(&v->cond);
	pthread_mutex_unlock(&v->lock);
}

void volume_reserve_queue(struct volume *v, uint64_t sector, uint32_t nsectors)
{
	pthread_mutex_lock(&v->lock);
	if (!v->reserve_queued && !volume_closing(v)) {
		v->reserve_queued = true;
		v->reserve_sector = sector;
		v->reserve_nsectors = nsectors;
		v->reserve_job.run = reserve_run;
		pool_submit(v->e->local, &v->reserve_job);
	}
	pthread_mutex_unlock(&v->lock);
}

/* ---- the thread ---- */

/* The clean cache on it gives way first. */
static bool ssd_pressure(struct engine *e)
{
	struct statvfs st;
	uint64_t free_bytes;

	if (fstatvfs(e->cache_fd, &st) < 0)
		return false;
	free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	if (e->ssd)
		ssd_disk_free(e->ssd, free_bytes);
	return free_bytes < e->cfg.min_free_bytes;
}

/* Somebody's writes may soon have to wait for the host's limit: all that is dirty goes out. */
static bool host_pressure(const struct engine *e)
{
	uint64_t used = __atomic_load_n(&e->dirty_bytes, __ATOMIC_RELAXED);

	return e->cfg.host_max_bytes && used > e->cfg.host_max_bytes / 2;
}

static bool volume_has_dirty(struct volume *v)
{
	struct view *vw = volume_view_get(v);
	bool dirty = vw->frozen || layer_dirty(vw->active) ||
		     __atomic_load_n(&v->parked, __ATOMIC_SEQ_CST);

	view_put(vw);
	return dirty;
}

/* One look at a dirty volume. False: it is clean and off the list. */
static bool volume_look(struct volume *v, uint64_t now, bool pressure)
{
	struct engine *e = v->e;
	bool asked, due, idle, parked = __atomic_load_n(&v->parked, __ATOMIC_RELAXED) != 0;
	uint64_t bytes, first, retry_at;
	struct view *vw = volume_view_get(v);
	bool frozen = vw->frozen != NULL, dirty = layer_dirty(vw->active);

	bytes = __atomic_load_n(&vw->active->data_bytes, __ATOMIC_RELAXED);
	first = __atomic_load_n(&vw->active->first_dirty_ns, __ATOMIC_RELAXED);
	view_put(vw);

	pthread_mutex_lock(&v->lock);
	idle = !v->upload_queued;
	retry_at = v->retry_at_ns;
	asked = v->upload_wanted;
	pthread_mutex_unlock(&v->lock);

	if (!v->age_ns || (dirty && first > v->last_upload_ns + 10 * e->cfg.upload_age_ns))
		v->age_ns = MIN(e->cfg.upload_age_min_ns, e->cfg.upload_age_ns);
	due = dirty && (bytes >= e->cfg.upload_dirty_bytes || pressure);
	if (dirty && !asked && !due && !frozen && now >= first + v->age_ns) {
		due = true;
		if (bytes < AGE_LITTLE)
			v->age_ns = MIN(v->age_ns * 2, e->cfg.upload_age_ns);
		else
			v->age_ns = MIN(e->cfg.upload_age_min_ns, e->cfg.upload_age_ns);
	}
	if ((asked || due || frozen) && idle && now >= retry_at && volume_mode(v) == VOLUME_RW) {
		v->last_upload_ns = now;
		pthread_mutex_lock(&v->lock);
		v->upload_due = due;
		upload_job_add(v);
		pthread_mutex_unlock(&v->lock);
	}
	if (parked)
		volume_kick_parked(v);
	return dirty || frozen || parked || !idle;
}

static void *housekeeper_main(void *arg)
{
	struct engine *e = arg;
	struct list_head dirty;
	uint64_t checked_ns = 0;
	bool pressure = false;

	prctl(PR_SET_NAME, "gfs-keeper");
	list_init(&dirty);
	for (;;) {
		struct pollfd pfd = {.fd = e->wake_fd, .events = POLLIN};
		struct volume *v, *next;
		uint64_t now, value;

		if (poll(&pfd, 1, list_empty(&dirty) ? -1 : TICK_MS) > 0 &&
		    read(e->wake_fd, &value, sizeof(value)) < 0 && errno != EAGAIN)
			log_err("housekeeper: eventfd: %s", strerror(errno));
		if (__atomic_load_n(&e->stop, __ATOMIC_ACQUIRE))
			break;
		now = now_ns();
		if (now - checked_ns >= NSEC_PER_SEC) {
			checked_ns = now;
			pressure = ssd_pressure(e);
		}
		/* The list of open volumes is locked so that none is closed under our hands. */
		pthread_mutex_lock(&e->lock);
		v = __atomic_exchange_n(&e->dirty_stack, NULL, __ATOMIC_ACQUIRE);
		for (; v; v = next) {
			next = v->dirty_next;
			list_add_tail(&v->dirty_node, &dirty);
		}
		list_for_each_entry_safe (v, next, &dirty, dirty_node) {
			if (!volume_closing(v) && volume_look(v, now, pressure || host_pressure(e)))
				continue;
			list_del(&v->dirty_node);
			__atomic_store_n(&v->dirty_queued, 0, __ATOMIC_SEQ_CST);
			/* A write that found it still queued did not notify: look again. */
			if (!volume_closing(v) && volume_has_dirty(v))
				volume_dirty_notify(v);
		}
		e->keeper_turn++;
		pthread_cond_broadcast(&e->keeper_cond);
		pthread_mutex_unlock(&e->lock);
	}
	return NULL;
}

int housekeeper_start(struct engine *e)
{
	int r;

	pthread_cond_init(&e->keeper_cond, NULL);
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (e->wake_fd < 0)
		return -errno;
	r = -pthread_create(&e->housekeeper, NULL, housekeeper_main, e);
	if (r) {
		close(e->wake_fd);
		e->wake_fd = -1;
	}
	return r;
}

void housekeeper_stop(struct engine *e)
{
	if (e->wake_fd < 0)
		return;
	__atomic_store_n(&e->stop, true, __ATOMIC_RELEASE);
	housekeeper_wake(e);
	pthread_join(e->housekeeper, NULL);
	close(e->wake_fd);
	e->wake_fd = -1;
	pthread_cond_destroy(&e->keeper_cond);
}

void housekeeper_forget(struct volume *v)
{
	struct engine *e = v->e;

	/* v->closing is set: the next turn drops it from the list and the stack. */
	pthread_mutex_lock(&e->lock);
	while (__atomic_load_n(&v->dirty_queued, __ATOMIC_SEQ_CST)) {
		uint64_t turn = e->keeper_turn;

		housekeeper_wake(e);
		while (turn == e->keeper_turn)
			pthread_cond_wait(&e->keeper_cond, &e->lock);
	}
	pthread_mutex_unlock(&e->lock);
}
