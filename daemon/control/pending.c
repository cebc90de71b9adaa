// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Pending creates (storage rule 11): a durable record state_dir/pending/NAME@UUID.json is written
 * before the PUT of a root and removed after the volume is on the durable list. While a record
 * exists and the root in the store carries its nonce, the volume does not exist for anybody who
 * asks here. A retry of the create adopts the record; otherwise the reaper removes the root, only
 * by that nonce, and again at the end of the time in which a late PUT may still land. h->lock
 * guards the list and the flags.
 */
#include "control/host_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/step.h"

#define PENDING_FILE_MAX (64 * KiB)
#define REAP_RETRY_NS    (5 * NSEC_PER_SEC)

static void record_name(const struct root *r, char *out, size_t len)
{
	char uuid[37];

	uuid_format(r->uuid, uuid);
	snprintf(out, len, "%s@%s.json", r->name, uuid);
}

static struct pending *pending_new(const struct root *r)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (p) {
		p->root = *r;
		list_init(&p->node);
	}
	return p;
}

int pending_add(struct host *h, const struct root *r, struct pending **out)
{
	struct pending *p = pending_new(r);
	__cleanup_free char *json = NULL;
	char file[256];
	size_t len;
	int ret = p ? root_encode(r, &json, &len) : -ENOMEM;

	if (!ret) {
		record_name(r, file, sizeof(file));
		ret = file_write_atomic(h->pending_fd, file, json, len);
	}
	if (ret) {
		free(p);
		return ret;
	}
	p->active = true;
	SCOPED_LOCK(&h->lock);
	list_add_tail(&p->node, &h->pendings);
	*out = p;
	return 0;
}

struct pending *pending_adopt(struct host *h, const char *name)
{
	struct pending *p;
	SCOPED_LOCK(&h->lock);

	list_for_each_entry (p, &h->pendings, node)
		if (!p->active && !p->whole && !strcmp(p->root.name, name)) {
			p->active = true;
			p->reaped = false;
			return p;
		}
	return NULL;
}

static void record_unlink(struct host *h, const struct pending *p)
{
	char file[256];

	record_name(&p->root, file, sizeof(file));
	/* Not synced: a record that comes back after a crash is recognised by the list, or reaped
	 * again. */
	if (unlinkat(h->pending_fd, file, 0) < 0 && errno != ENOENT)
		log_warn("pending/%s: unlink failed: %s", file, strerror(errno));
}

void pending_drop(struct host *h, struct pending *p)
{
	record_unlink(h, p);
	pthread_mutex_lock(&h->lock);
	list_del(&p->node);
	pthread_mutex_unlock(&h->lock);
	free(p);
}

void pending_leave(struct host *h, struct pending *p, bool now)
{
	uint64_t t = now_ns();
	SCOPED_LOCK(&h->lock);

	p->active = false;
	p->reaped = false;
	p->maybe = true;
	p->due_ns = t + (now ? 0 : h->cfg.reap_ns);
	p->forget_at_ns = t + h->cfg.forget_ns;
	pthread_cond_broadcast(&h->cond);
}

void pending_whole(struct host *h, struct pending *p)
{
	if (!p->maybe) {
		pending_drop(h, p);
		return;
	}
	record_unlink(h, p);
	SCOPED_LOCK(&h->lock);
	p->active = false;
	p->whole = true;
	p->due_ns = p->forget_at_ns = now_ns() + h->cfg.forget_ns;
	pthread_cond_broadcast(&h->cond);
}

void pending_removed(struct host *h, const uint8_t uuid[16])
{
	uint64_t t = now_ns();
	struct pending *p;
	SCOPED_LOCK(&h->lock);

	list_for_each_entry (p, &h->pendings, node)
		if (p->whole && !memcmp(p->root.uuid, uuid, sizeof(p->root.uuid))) {
			p->whole = false;
			p->due_ns = t + h->cfg.reap_ns;
			p->forget_at_ns = t + h->cfg.forget_ns;
			pthread_cond_broadcast(&h->cond);
		}
}

bool pending_matches(struct host *h, const struct root *r)
{
	struct pending *p;
	SCOPED_LOCK(&h->lock);

	list_for_each_entry (p, &h->pendings, node)
		if (!p->whole && !memcmp(p->root.uuid, r->uuid, sizeof(r->uuid)) &&
		    !memcmp(p->root.nonce, r->nonce, sizeof(r->nonce)))
			return true;
	return false;
}

bool pending_has_name(struct host *h, const char *name)
{
	struct pending *p;
	SCOPED_LOCK(&h->lock);

	list_for_each_entry (p, &h->pendings, node)
		if (!p->whole && !strcmp(p->root.name, name))
			return true;
	return false;
}

/* ---- start ---- */

static int record_load(struct host *h, const char *file, struct fmt_err *err)
{
	__cleanup_free char *json = NULL;
	struct pending *p;
	struct root root;
	char want[256];
	size_t len;
	int r = file_read_all(h->pending_fd, file, PENDING_FILE_MAX, &json, &len);

	if (!r)
		r = root_parse(json, len, &root, err);
	if (!r) {
		record_name(&root, want, sizeof(want));
		r = strcmp(want, file) ? -EBADMSG : 0;
	}
	if (r) {
		char bad[300];

		/* Written atomically, so only the disk can have done this; without its nonce
		 * nothing can be reaped. */
		snprintf(bad, sizeof(bad), ".bad-%s", file);
		log_err("pending/%s: not a valid record (%s): set aside as %s", file,
			err->msg[0] ? err->msg : strerror(-r), bad);
		err->msg[0] = '\0';
		renameat(h->pending_fd, file, h->pending_fd, bad);
		return 0;
	}
	p = pending_new(&root);
	if (!p)
		return -ENOMEM;
	p->maybe = true;
	p->due_ns = now_ns() + h->cfg.reap_ns;
	p->forget_at_ns = now_ns() + h->cfg.forget_ns;
	list_add_tail(&p->node, &h->pendings);
	return 0;
}

/* A create that reached the list was whole; the crash came before its record was removed. */
static void drop_listed(struct host *h)
{
	struct pending *p, *n;

	list_for_each_entry_safe (p, n, &h->pendings, node) {
		struct host_vol *vol;
		bool whole;

		pthread_mutex_lock(&h->lock);
		vol = vol_find_locked(h, p->root.name);
		whole = vol && vol->listed && !memcmp(vol->uuid, p->root.uuid, sizeof(vol->uuid));
		pthread_mutex_unlock(&h->lock);
		if (whole)
			pending_drop(h, p);
	}
}

int pending_load(struct host *h, struct fmt_err *err)
{
	int fd = openat(h->pending_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *de;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (de = readdir(d))) {
		size_t len = strlen(de->d_name);

		if (de->d_name[0] == '.') {
			if (len > 4 && !strcmp(de->d_name + len - 4, ".tmp"))
				unlinkat(h->pending_fd, de->d_name, 0);
			continue;
		}
		r = record_load(h, de->d_name, err);
	}
	closedir(d);
	if (!r)
		drop_listed(h);
	return r;
}

void pending_free_all(struct host *h)
{
	struct pending *p, *n;

	list_for_each_entry_safe (p, n, &h->pendings, node) {
		list_del(&p->node);
		free(p);
	}
}

/* ---- reaper ---- */

/* What the engine left of a volume that was undone: a directory of plain files named by its uuid.
 */
void pending_local_remove(struct host *h, const uint8_t uuid[16])
{
	char name[37];
	struct dirent *de;
	DIR *d;
	int fd;

	uuid_format(uuid, name);
	fd = h->volumes_fd >= 0
		     ? openat(h->volumes_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
		     : -1;
	if (fd < 0)
		return;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return;
	}
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			unlinkat(fd, de->d_name, 0);
	closedir(d);
	if (unlinkat(h->volumes_fd, name, AT_REMOVEDIR) < 0)
		log_warn("local state of the undone volume %s: %s", name, strerror(errno));
}

/* Remove what the record stands for. True if it may be forgotten. */
static bool record_reap(struct host *h, struct pending *p)
{
	bool forget = now_ns() >= p->forget_at_ns;
	struct fmt_err fe = {{0}};
	struct op_err oe;
	struct host_vol *vol = vol_begin(h, p->root.name, "reap", &oe);
	int r;

	if (!vol)
		return false;
	/*
	 * The name may be held by another, later volume; this one's root is told apart by its
	 * nonce. If it is this one it is whole, or its device hangs: then it is undone after the
	 * next start.
	 */
	if (vol->state != HOST_DETACHED && !memcmp(vol->uuid, p->root.uuid, sizeof(vol->uuid))) {
		bool whole = vol->listed;

		vol_end(vol);
		return whole;
	}
	r = root_delete(h->e, p->root.name, p->root.nonce, timing_op_id(), &fe);
	/* Somebody else's root has the name: ours is not there. */
	if (r == -ESTALE || r == -EEXIST)
		r = 0;
	if (!r) {
		step_reached(STEP_REAP_ROOT);
		pending_local_remove(h, p->root.uuid);
		step_reached(STEP_REAP_LOCAL);
	}
	vol_end(vol);
	pthread_mutex_lock(&h->lock);
	if (r) {
		p->due_ns = now_ns() + REAP_RETRY_NS;
	} else {
		if (!p->reaped)
			log_info("volume %s: its failed create is undone in the store",
				 p->root.name);
		p->reaped = true;
		p->due_ns = p->forget_at_ns;
	}
	pthread_mutex_unlock(&h->lock);
	return !r && forget;
}

uint64_t pending_reap(struct host *h)
{
	for (;;) {
		struct pending *p, *due = NULL;
		uint64_t now = now_ns(), next = 0;

		pthread_mutex_lock(&h->lock);
		list_for_each_entry (p, &h->pendings, node) {
			if (p->active)
				continue;
			if (p->due_ns <= now && !due && !h->stopping)
				due = p;
			else if (!next || p->due_ns < next)
				next = p->due_ns;
		}
		if (due)
			due->active =
				true; /* a retry of the create makes its own record meanwhile */
		pthread_mutex_unlock(&h->lock);
		if (!due)
			return next;
		if (due->whole || record_reap(h, due)) {
			pending_drop(h, due);
			continue;
		}
		pthread_mutex_lock(&h->lock);
		due->active = false;
		if (due->due_ns <= now)
			due->due_ns = now_ns() + REAP_RETRY_NS;
		pthread_mutex_unlock(&h->lock);
	}
}
