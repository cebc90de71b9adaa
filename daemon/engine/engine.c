// SPDX-License-Identifier: GPL-2.0-or-later
/* Construction of the engine and its totals; see engine.h. */
#include "engine/store_call.h"
#include "engine/volume_priv.h"

#include "lib/fsutil.h"
#include "lib/log.h"
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

void engine_config_defaults(struct engine_config *c)
{
	*c = (struct engine_config){
		.cache_bytes = 256 * MiB,
		.index_cache_bytes = 64 * MiB,
		.upload_dirty_bytes = 64 * MiB,
		.upload_age_ns = 30 * NSEC_PER_SEC,
		.upload_age_min_ns = 5 * NSEC_PER_SEC,
		.min_free_bytes = 1 * GiB,
		.space_wait_ns = 30 * NSEC_PER_SEC,
		.store_timeout_ns = 30 * NSEC_PER_SEC,
		.gc_grace_ns = 24 * 3600 * NSEC_PER_SEC,
		.io_slow_ns = NSEC_PER_SEC,
		.prefetch_blocks = 512,
		.zstd_level = 1,
		.lock_fd = -1,
	};
}

static unsigned int cpus_usable(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (unsigned int)CPU_COUNT(&set);
}

static int open_dir(int dirfd, const char *name, int *out)
{
	if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	*out = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *out < 0 ? -errno : 0;
}

int engine_create(const struct engine_config *c, struct store *store, struct engine **out)
{
	struct engine *e = calloc(1, sizeof(*e));
	unsigned int cpus = cpus_usable();
	struct fetch_config fc = {
		.timeout_ns = c->store_timeout_ns,
		.prefetch_blocks = c->prefetch_blocks,
		.max_get_bytes = 4 * MiB,
	};
	int r = -ENOMEM;

	if (!e)
		return -ENOMEM;
	e->cfg = *c;
	e->store = store;
	e->cache_fd = e->volumes_fd = e->wake_fd = -1;
	pthread_mutex_init(&e->lock, NULL);
	list_init(&e->volumes);
	upload_queue_init(e);
	e->cache_dir = strdup(c->cache_dir);
	e->host_id = strdup(c->host_id);
	if (!e->cache_dir || !e->host_id)
		goto err;
	e->cfg.cache_dir = e->cache_dir;
	e->cfg.host_id = e->host_id;
	r = mkdir_all(e->cache_dir);
	if (r)
		goto err;
	e->cache_fd = open(e->cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->cache_fd < 0) {
		r = -errno;
		goto err;
	}
	r = open_dir(e->cache_fd, "volumes", &e->volumes_fd);
	if (!r)
		r = dir_sync(e->cache_fd);
	if (r)
		goto err;
	r = workers_create(c->workers ? MIN(c->workers, 64u) : MIN(cpus, 32u), c->lock_fd,
			   &e->workers);
	if (r)
		goto err;
	r = -ENOMEM;
	e->blocks = cache_create(c->cache_bytes);
	e->indexes = cache_create(c->index_cache_bytes);
	e->compute = pool_create("gfs-compute", MAX(1u, MIN(cpus, 16u)));
	e->uploader = pool_create("gfs-upload", UPLOAD_THREADS);
	e->local = pool_create("gfs-local", 2);
	if (!e->blocks || !e->indexes || !e->compute || !e->uploader || !e->local)
		goto err;
	e->fetcher = fetcher_create(store, e->blocks, e->indexes, e->compute, &fc);
	if (!e->fetcher)
		goto err;
	r = housekeeper_start(e);
	if (r)
		goto err;
	*out = e;
	return 0;
err:
	engine_destroy(e);
	return r;
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	housekeeper_stop(e);
	pool_destroy(e->uploader);
	pool_destroy(e->local);
	if (e->fetcher)
		fetcher_destroy(e->fetcher);
	pool_destroy(e->compute);
	store_calls_quiesce(e->store); /* of uploads that did not wait for their end */
	workers_destroy(e->workers);
	if (e->indexes)
		cache_destroy(e->indexes);
	if (e->blocks)
		cache_destroy(e->blocks);
	if (e->volumes_fd >= 0)
		close(e->volumes_fd);
	if (e->cache_fd >= 0)
		close(e->cache_fd);
	pthread_mutex_destroy(&e->upload_lock);
	pthread_mutex_destroy(&e->lock);
	free(e->cache_dir);
	free(e->host_id);
	free(e);
}

struct workers *engine_workers(struct engine *e)
{
	return e->workers;
}

struct store *engine_store(struct engine *e)
{
	return e->store;
}

const struct engine_config *engine_cfg(const struct engine *e)
{
	return &e->cfg;
}

void engine_stats_read(struct engine *e, struct engine_stats *out)
{
	memset(out, 0, sizeof(*out));
	cache_stats_read(e->blocks, &out->blocks);
	cache_stats_read(e->indexes, &out->indexes);
	fetch_stats_read(e->fetcher, &out->fetch);
	out->dirty_bytes = __atomic_load_n(&e->dirty_bytes, __ATOMIC_RELAXED);
	out->uploads = __atomic_load_n(&e->uploads, __ATOMIC_RELAXED);
	out->upload_failures = __atomic_load_n(&e->upload_failures, __ATOMIC_RELAXED);
	out->upload_bytes = __atomic_load_n(&e->upload_bytes, __ATOMIC_RELAXED);
	out->parked = __atomic_load_n(&e->parked, __ATOMIC_RELAXED);
}
