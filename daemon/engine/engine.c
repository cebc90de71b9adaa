// SPDX-License-Identifier: GPL-2.0-or-later
/* Construction of the engine and its totals; see engine.h. */
#include "engine/store_call.h"
#include "engine/volume_priv.h"

#include "lib/fsutil.h"
#include "lib/log.h"
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* Of the disk, at least, whatever min_free_bytes is: layers grow in steps. */
#define KEEP_FREE_MIN (64 * MiB)

/* Heaps per thread would multiply what 64 mostly idle API threads keep. */
#define MALLOC_ARENAS 8
/*
 * What is larger than a GET of blocks (manifests and packs on their way) is mapped, and gone when
 * it is freed. By itself this would grow with what is freed, to 32 MiB, twice of which each heap
 * may then keep.
 */
#define MALLOC_MAPPED_BYTES (4 * MiB + 64 * KiB)
#define MALLOC_KEPT_BYTES   (8 * MiB)

void engine_malloc_setup(void)
{
	mallopt(M_ARENA_MAX, MALLOC_ARENAS);
	mallopt(M_MMAP_THRESHOLD, MALLOC_MAPPED_BYTES);
	mallopt(M_TRIM_THRESHOLD, MALLOC_KEPT_BYTES);
}

void engine_config_defaults(struct engine_config *c)
{
	*c = (struct engine_config){
		.cache_bytes = 256 * MiB,
		.index_cache_bytes = 64 * MiB,
		.manifest_cache_bytes = 64 * MiB,
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

/*
 * What the SSD tier leaves free: twice min_free_bytes, so that it is gone before its presence makes
 * anybody upload early, and a tenth of the file system, for whatever else lives there.
 */
static uint64_t ssd_keep_free(const struct engine *e)
{
	uint64_t keep = MAX(2 * e->cfg.min_free_bytes, KEEP_FREE_MIN);
	struct statvfs st;

	if (e->cfg.min_free_bytes && !fstatvfs(e->cache_fd, &st))
		keep = MAX(keep, (uint64_t)st.f_blocks * st.f_frsize / 10);
	return keep;
}

/* Without it everything works as well, only slower: no reason not to start. */
static void ssd_start(struct engine *e)
{
	struct ssd_config sc = {.budget_bytes = e->cfg.ssd_bytes,
				.memory = {e->blocks, e->indexes}};
	int r;

	if (!e->cfg.ssd_bytes) {
		e->ssd_fd = openat(e->cache_fd, "clean", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (e->ssd_fd >= 0)
			ssd_remove_all(e->ssd_fd);
		return;
	}
	r = open_dir(e->cache_fd, "clean", &e->ssd_fd);
	if (!r && asprintf(&e->ssd_path, "%s/clean", e->cache_dir) < 0) {
		e->ssd_path = NULL;
		r = -ENOMEM;
	}
	sc.dirfd = e->ssd_fd;
	sc.path = e->ssd_path;
	sc.keep_free_bytes = ssd_keep_free(e);
	if (!r)
		r = ssd_open(&sc, &e->ssd);
	if (r == -EINVAL)
		log_warn(
			"clean cache: %llu bytes on the SSD are too few, %llu are the least: there "
			"is none",
			(unsigned long long)sc.budget_bytes, (unsigned long long)SSD_BUDGET_MIN);
	else if (r)
		log_warn("clean cache: %s/clean: %s: there is none on the SSD", e->cache_dir,
			 strerror(-r));
}

/* What open volumes need. */
static int local_start(struct engine *e, unsigned int cpus)
{
	const struct engine_config *c = &e->cfg;
	int r = mkdir_all(e->cache_dir);

	if (r)
		return r;
	e->cache_fd = open(e->cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->cache_fd < 0)
		return -errno;
	r = open_dir(e->cache_fd, "volumes", &e->volumes_fd);
	if (!r)
		r = dir_sync(e->cache_fd);
	if (!r)
		r = workers_create(c->workers ? MIN(c->workers, 64u) : MIN(cpus, 32u), c->lock_fd,
				   &e->workers);
	if (r)
		return r;
	e->uploader = pool_create("gfs-upload", UPLOAD_THREADS);
	e->local = pool_create("gfs-local", 2);
	return e->uploader && e->local ? 0 : -ENOMEM;
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
	e->cache_fd = e->volumes_fd = e->ssd_fd = e->wake_fd = -1;
	pthread_mutex_init(&e->lock, NULL);
	list_init(&e->volumes);
	upload_queue_init(e);
	e->cache_dir = strdup(c->cache_dir ? c->cache_dir : "");
	e->host_id = strdup(c->host_id);
	if (!e->cache_dir || !e->host_id)
		goto err;
	e->cfg.cache_dir = c->cache_dir ? e->cache_dir : NULL;
	e->cfg.host_id = e->host_id;
	r = c->cache_dir ? local_start(e, cpus) : 0;
	if (r)
		goto err;
	r = -ENOMEM;
	e->blocks = cache_create(c->cache_bytes);
	e->indexes = cache_create(c->index_cache_bytes);
	e->manifests = manifest_cache_create(c->manifest_cache_bytes);
	e->compute = pool_create("gfs-compute", MAX(1u, MIN(cpus, 16u)));
	if (!e->blocks || !e->indexes || !e->manifests || !e->compute)
		goto err;
	if (c->cache_dir)
		ssd_start(e);
	fc.ssd = e->ssd;
	e->fetcher = fetcher_create(store, e->blocks, e->indexes, e->compute, &fc);
	if (!e->fetcher)
		goto err;
	r = c->cache_dir ? housekeeper_start(e) : 0;
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
	ssd_close(e->ssd);
	store_calls_quiesce(e->store); /* of uploads that did not wait for their end */
	workers_destroy(e->workers);
	manifest_cache_destroy(e->manifests);
	if (e->indexes)
		cache_destroy(e->indexes);
	if (e->blocks)
		cache_destroy(e->blocks);
	if (e->volumes_fd >= 0)
		close(e->volumes_fd);
	if (e->ssd_fd >= 0)
		close(e->ssd_fd);
	if (e->cache_fd >= 0)
		close(e->cache_fd);
	pthread_mutex_destroy(&e->upload_lock);
	pthread_mutex_destroy(&e->lock);
	free(e->cache_dir);
	free(e->ssd_path);
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

int engine_ssd_scrub(struct engine *e, struct ssd_scrub *out)
{
	return e->ssd ? ssd_scrub(e->ssd, out) : -ENOENT;
}

void engine_ssd_scrub_stop(struct engine *e)
{
	if (e->ssd)
		ssd_scrub_stop(e->ssd);
}

void engine_stats_read(struct engine *e, struct engine_stats *out)
{
	memset(out, 0, sizeof(*out));
	if (e->ssd)
		ssd_stats_read(e->ssd, &out->ssd);
	cache_stats_read(e->blocks, &out->blocks);
	cache_stats_read(e->indexes, &out->indexes);
	manifest_cache_stats_read(e->manifests, &out->manifests);
	fetch_stats_read(e->fetcher, &out->fetch);
	out->dirty_bytes = __atomic_load_n(&e->dirty_bytes, __ATOMIC_RELAXED);
	out->uploads = __atomic_load_n(&e->uploads, __ATOMIC_RELAXED);
	out->upload_failures = __atomic_load_n(&e->upload_failures, __ATOMIC_RELAXED);
	out->upload_bytes = __atomic_load_n(&e->upload_bytes, __ATOMIC_RELAXED);
	out->parked = __atomic_load_n(&e->parked, __ATOMIC_RELAXED);
}
