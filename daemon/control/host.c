// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registry: names and who owns them, life cycle, views for the API, the maintenance thread
 * (pending records, volumes to be tried again). See host.h and host_priv.h.
 */
#include "control/host_priv.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "lib/fsutil.h"
#include "lib/log.h"

/* ---- errors ---- */

int op_fail(struct op_err *err, enum op_fault fault, int errno_, const char *fmt, ...)
{
	va_list ap;

	err->fault = fault;
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return -errno_;
}

static enum op_fault fault_of_engine(int r)
{
	static const struct {
		int err;
		enum op_fault fault;
	} table[] = {
		{ENOENT, OP_FAULT_MISSING},   {EEXIST, OP_FAULT_CONFLICT},
		{EBUSY, OP_FAULT_CONFLICT},   {ESTALE, OP_FAULT_CONFLICT},
		{EUCLEAN, OP_FAULT_CONFLICT}, {EINVAL, OP_FAULT_REQUEST},
		{EBADMSG, OP_FAULT_LOCAL},    {EPROTONOSUPPORT, OP_FAULT_LOCAL},
		{EROFS, OP_FAULT_LOCAL},      {ENOSPC, OP_FAULT_SPACE},
		{EDQUOT, OP_FAULT_SPACE},     {ENOMEM, OP_FAULT_SPACE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].err == -r)
			return table[i].fault;
	return OP_FAULT_STORE;
}

int op_fail_engine(struct op_err *err, int r, const char *what, const char *name,
		   const struct fmt_err *fe)
{
	/* The engine's sentence often names the volume itself. */
	if (!strncmp(fe->msg, "volume ", 7))
		return op_fail(err, fault_of_engine(r), -r, "%s", fe->msg);
	return op_fail(err, fault_of_engine(r), -r, "volume %s: %s failed: %s", name, what,
		       fe->msg[0] ? fe->msg : strerror(-r));
}

int op_fail_device(struct op_err *err, int r, const char *name, const struct fmt_err *fe)
{
	enum op_fault f =
		r == -ENOSPC || r == -ENOMEM || r == -EACCES ? OP_FAULT_SPACE : OP_FAULT_DEVICE;

	if (r == -EBUSY)
		f = OP_FAULT_CONFLICT;
	if (!strncmp(fe->msg, "volume ", 7))
		return op_fail(err, f, -r, "%s", fe->msg);
	return op_fail(err, f, -r, "volume %s: device: %s", name,
		       fe->msg[0] ? fe->msg : strerror(-r));
}

/* ---- names ---- */

static struct list_head *bucket_of(struct host *h, const char *name)
{
	return &h->bucket[hash_xxh3(name, strlen(name)) % HOST_BUCKETS];
}

struct host_vol *vol_find_locked(struct host *h, const char *name)
{
	struct host_vol *vol;

	list_for_each_entry (vol, bucket_of(h, name), node)
		if (!strcmp(vol->name, name))
			return vol;
	return NULL;
}

struct host_vol *vol_add_locked(struct host *h, const char *name)
{
	struct host_vol *vol = calloc(1, sizeof(*vol));

	if (!vol)
		return NULL;
	vol->h = h;
	vol->dev_id = -1;
	vol->state = HOST_DETACHED;
	snprintf(vol->name, sizeof(vol->name), "%s", name);
	list_add_tail(&vol->node, bucket_of(h, name));
	return vol;
}

struct host_vol *vol_begin(struct host *h, const char *name, const char *op, struct op_err *err)
{
	uint64_t deadline = now_ns() + NAME_WAIT_NS;
	struct host_vol *vol;
	struct fmt_err fe = {{0}};

	if (volume_name_check(name, &fe)) {
		op_fail(err, OP_FAULT_REQUEST, EINVAL, "%s", fe.msg);
		return NULL;
	}
	SCOPED_LOCK(&h->lock);
	vol = vol_find_locked(h, name);
	if (!vol)
		vol = vol_add_locked(h, name);
	if (!vol) {
		op_fail(err, OP_FAULT_SPACE, ENOMEM, "volume %s: out of memory", name);
		return NULL;
	}
	while (vol->busy && !h->stopping) {
		int r = 0;

		if (vol->waiters < NAME_WAITERS_MAX) {
			vol->waiters++;
			r = cond_wait_until(&h->cond, &h->lock, deadline);
			vol->waiters--;
		}
		if (vol->busy && (r || vol->waiters >= NAME_WAITERS_MAX)) {
			op_fail(err, OP_FAULT_BUSY, EBUSY,
				"volume %s: another operation (%s) has been running for %llu s; "
				"try again",
				name, vol->busy,
				(unsigned long long)((now_ns() - vol->busy_since) / NSEC_PER_SEC));
			return NULL;
		}
	}
	if (h->stopping) {
		if (!vol->busy && !vol->waiters && vol->state == HOST_DETACHED) {
			list_del(&vol->node);
			free(vol);
		}
		op_fail(err, OP_FAULT_BUSY, ESHUTDOWN, "the daemon is stopping");
		return NULL;
	}
	vol->busy = op;
	vol->busy_since = now_ns();
	return vol;
}

void vol_end(struct host_vol *vol)
{
	struct host *h = vol->h;
	SCOPED_LOCK(&h->lock);

	vol->busy = NULL;
	vol->phase = NULL;
	if (vol->state == HOST_DETACHED && !vol->listed && !vol->waiters) {
		list_del(&vol->node);
		free(vol);
	}
	pthread_cond_broadcast(&h->cond);
}

void vol_phase(struct host_vol *vol, const char *phase)
{
	SCOPED_LOCK(&vol->h->lock);

	vol->phase = phase;
}

void vol_set_uuid(struct host_vol *vol, const uint8_t uuid[16])
{
	SCOPED_LOCK(&vol->h->lock);

	memcpy(vol->uuid, uuid, sizeof(vol->uuid));
}

void vol_set(struct host_vol *vol, enum host_state state, struct volume *v, struct ublk_dev *dev)
{
	SCOPED_LOCK(&vol->h->lock);

	vol->state = state;
	vol->v = v;
	vol->dev = dev;
	vol->dev_id = dev ? ublk_dev_id(dev) : -1;
	vol->dev_bytes = dev ? ublk_dev_bytes(dev) : 0;
	if (v)
		memcpy(vol->uuid, volume_uuid(v), sizeof(vol->uuid));
	if (state != HOST_FAILED) {
		vol->why[0] = '\0';
		vol->passing = false;
	}
}

/* ---- views ---- */

const char *host_state_name(enum host_state s)
{
	static const char *const names[] = {
		[HOST_DETACHED] = "detached", [HOST_ATTACHED] = "attached",
		[HOST_STOPPED] = "stopped",   [HOST_RECOVERING] = "recovering",
		[HOST_FAILED] = "failed",
	};

	return (unsigned int)s < ARRAY_SIZE(names) ? names[s] : "unknown";
}

void vol_fill_info(const struct host_vol *vol, struct host_volume_info *out)
{
	*out = (struct host_volume_info){
		.name = vol->name,
		.state = vol->state,
		.why = vol->why,
		.busy = vol->busy,
		.dev_id = vol->dev_id,
		.dev_bytes = vol->dev_bytes,
		.phase = vol->busy ? vol->phase : NULL,
	};
	if (vol->v) {
		volume_info_read(vol->v, &out->info);
		out->open = out->known = true;
	}
}

void host_each(struct host *h, void (*fn)(const struct host_volume_info *v, void *arg), void *arg)
{
	struct host_volume_info info;
	struct host_vol *vol;
	SCOPED_LOCK(&h->lock);

	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node) {
			if (vol->state == HOST_DETACHED)
				continue;
			vol_fill_info(vol, &info);
			fn(&info, arg);
		}
}

int host_show(struct host *h, const char *name, bool local, uint64_t op_id,
	      struct host_volume_info *out, char why[200], struct op_err *err)
{
	struct fmt_err fe = {{0}};
	struct host_vol *vol;
	bool here = false;
	int r;

	if (volume_name_check(name, &fe))
		return op_fail(err, OP_FAULT_REQUEST, EINVAL, "%s", fe.msg);
	pthread_mutex_lock(&h->lock);
	vol = vol_find_locked(h, name);
	if (vol && (vol->state != HOST_DETACHED || (local && vol->busy))) {
		vol_fill_info(vol, out);
		here = true;
	} else {
		*out = (struct host_volume_info){.dev_id = -1, .busy = vol ? vol->busy : NULL};
	}
	snprintf(why, 200, "%s", here ? vol->why : "");
	pthread_mutex_unlock(&h->lock);
	out->name = name;
	out->why = why;
	if (out->known || (local && here))
		return 0;
	if (local)
		return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s is not on this host",
			       name);
	r = root_load(h->e, name, op_id, &out->info.root, NULL, &fe);
	if (!r && pending_matches(h, &out->info.root))
		r = -ENOENT;
	if (!r) {
		out->known = true;
		return 0;
	}
	/* A volume of ours that cannot be loaded is still shown, with the reason. */
	if (here)
		return 0;
	if (r == -ENOENT)
		return op_fail(err, OP_FAULT_MISSING, ENOENT, "volume %s does not exist", name);
	return op_fail_engine(err, r, "reading its root", name, &fe);
}

/* Is the name one to be listed from the store: not this host's, not the leftover of a failed
 * create? */
static bool list_wants(struct host *h, const char *name, uint64_t op_id)
{
	struct fmt_err fe = {{0}};
	struct host_vol *vol;
	struct root root;
	bool ours;

	pthread_mutex_lock(&h->lock);
	vol = vol_find_locked(h, name);
	ours = vol && vol->state != HOST_DETACHED;
	pthread_mutex_unlock(&h->lock);
	if (ours)
		return false;
	if (!pending_has_name(h, name))
		return true;
	return !root_load(h->e, name, op_id, &root, NULL, &fe) && !pending_matches(h, &root);
}

int host_list(struct host *h, uint64_t op_id,
	      void (*fn)(const struct host_volume_info *v, void *arg), void *arg,
	      struct op_err *err)
{
	struct fmt_err fe = {{0}};
	char **names = NULL;
	size_t nr = 0;
	int r = root_list(h->e, &names, &nr, &fe);

	if (r)
		op_fail_engine(err, r, "listing the store", "*", &fe);
	for (size_t i = 0; i < nr; i++) {
		if (list_wants(h, names[i], op_id))
			fn(&(struct host_volume_info){.name = names[i], .why = "", .dev_id = -1},
			   arg);
		free(names[i]);
	}
	free(names);
	host_each(h, fn, arg);
	return r;
}

void host_summary_read(struct host *h, struct host_summary *out)
{
	struct host_vol *vol;
	struct pending *p;
	SCOPED_LOCK(&h->lock);

	memset(out, 0, sizeof(*out));
	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node) {
			out->attached += vol->state == HOST_ATTACHED;
			out->stopped += vol->state == HOST_STOPPED;
			out->recovering += vol->state == HOST_RECOVERING;
			out->failed += vol->state == HOST_FAILED;
			out->failed_passing += vol->state == HOST_FAILED && vol->passing;
		}
	list_for_each_entry (p, &h->pendings, node)
		out->pending += !p->whole;
	out->ready = h->recovered && !out->recovering && !out->failed_passing && !h->stopping;
}

const struct host_config *host_cfg(const struct host *h)
{
	return &h->cfg;
}

/* ---- maintenance ---- */

/* Sleeps without a timer unless a pending record or a failed volume is due at a known time. */
static void *maintenance_main(void *arg)
{
	struct host *h = arg;

	prctl(PR_SET_NAME, "gfs-host");
	pthread_mutex_lock(&h->lock);
	while (!h->stopping) {
		uint64_t next, retry = 0;

		pthread_mutex_unlock(&h->lock);
		next = pending_reap(h);
		pthread_mutex_lock(&h->lock);
		recover_retry_due(h, &retry);
		if (retry && (!next || retry < next))
			next = retry;
		if (h->stopping)
			break;
		(void)!cond_wait_until(&h->cond, &h->lock, next);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* ---- life cycle ---- */

static int open_dirs(struct host *h, struct fmt_err *err)
{
	char path[1200];
	int r;

	snprintf(path, sizeof(path), "%s/pending", h->cfg.state_dir);
	r = mkdir_all(path);
	if (!r) {
		h->state_fd = open(h->cfg.state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		h->pending_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (h->state_fd < 0 || h->pending_fd < 0)
			r = -errno;
	}
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "%.100s: %s", path, strerror(-r));
		return r;
	}
	snprintf(path, sizeof(path), "%s/volumes", h->cache_dir);
	h->volumes_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static void host_free(struct host *h)
{
	struct host_vol *vol, *next;

	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry_safe (vol, next, &h->bucket[i], node) {
			list_del(&vol->node);
			free(vol);
		}
	pending_free_all(h);
	pool_destroy(h->create_pool);
	if (h->state_fd >= 0)
		close(h->state_fd);
	if (h->pending_fd >= 0)
		close(h->pending_fd);
	if (h->volumes_fd >= 0)
		close(h->volumes_fd);
	pthread_cond_destroy(&h->gc.cond);
	pthread_mutex_destroy(&h->gc.lock);
	pthread_cond_destroy(&h->cond);
	pthread_mutex_destroy(&h->lock);
	free(h->host_id);
	free(h->cache_dir);
	free(h);
}

int host_create(const struct host_config *c, struct engine *e, struct ublk_host *u,
		struct pool *pool, struct host **out, struct fmt_err *err)
{
	struct host *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return -ENOMEM;
	h->cfg = *c;
	h->e = e;
	h->u = u;
	h->pool = pool;
	h->state_fd = h->pending_fd = h->volumes_fd = -1;
	pthread_mutex_init(&h->lock, NULL);
	cond_init_mono(&h->cond);
	pthread_mutex_init(&h->gc.lock, NULL);
	cond_init_mono(&h->gc.cond);
	h->gc.progress.phase = "";
	list_init(&h->pendings);
	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_init(&h->bucket[i]);
	h->host_id = strdup(c->host_id);
	h->cache_dir = strdup(c->cache_dir);
	h->create_pool = pool_create("gfs-create", c->creates ? c->creates : CREATE_THREADS);
	r = h->host_id && h->cache_dir && h->create_pool ? 0 : -ENOMEM;
	if (!r)
		r = open_dirs(h, err);
	if (!r)
		r = list_load(h, err);
	if (!r)
		r = pending_load(h, err);
	if (!r)
		r = -pthread_create(&h->maintenance, NULL, maintenance_main, h);
	if (r) {
		if (!err->msg[0])
			snprintf(err->msg, sizeof(err->msg), "%s", strerror(-r));
		host_free(h);
		return r;
	}
	h->maintenance_started = true;
	r = host_gc_start(h);
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "collector's thread: %s", strerror(-r));
		host_destroy(h);
		return r;
	}
	*out = h;
	return 0;
}

void host_stop(struct host *h)
{
	host_gc_stop(h);
	SCOPED_LOCK(&h->lock);

	h->stopping = true;
	pthread_cond_broadcast(&h->cond);
}

void host_destroy(struct host *h)
{
	struct host_vol *vol;

	host_stop(h);
	host_gc_join(h);
	pthread_join(h->maintenance, NULL);
	pthread_mutex_lock(&h->lock);
	while (h->jobs)
		pthread_cond_wait(&h->cond, &h->lock);
	pthread_mutex_unlock(&h->lock);
	/*
	 * First every device lets go, so that no guest waits for the close of another's volume
	 * longer than it must; the pointers are ours alone by now.
	 */
	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node) {
			if (vol->dev)
				ublk_dev_abandon(vol->dev);
			vol->dev = NULL;
		}
	for (unsigned int i = 0; i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node) {
			if (vol->v)
				volume_close(vol->v);
			vol->v = NULL;
		}
	host_free(h);
}
