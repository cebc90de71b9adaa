/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine: everything a volume needs below the device. Owns workers, caches, fetcher, the upload
 * pool and the housekeeper thread. Runs without any kernel device.
 */
#ifndef GFS_ENGINE_H
#define GFS_ENGINE_H

#include "engine/cache.h"
#include "engine/fetch.h"
#include "engine/io.h"
#include "engine/layer.h"
#include "engine/ssd.h"
#include "engine/manifest_cache.h"
#include "lib/pool.h"

struct engine_config {
	/*
	 * Local state, on the SSD. NULL: none, for programs that read and write objects (image.h,
	 * roots, snapshots) and open no volume.
	 */
	const char *cache_dir;
	const char *host_id;  /* "name/uuid", the owner string in roots; "" without local state */
	unsigned int workers; /* 0 = min(cpus, 32) */
	uint64_t cache_bytes; /* clean blocks in memory */
	uint64_t ssd_bytes;   /* clean blocks in cache_dir; 0 = none */
	uint64_t index_cache_bytes;
	uint64_t manifest_cache_bytes; /* and snapshots */
	uint64_t upload_dirty_bytes;   /* 64 MiB */
	uint64_t upload_age_ns;        /* 30 s */
	uint64_t upload_age_min_ns;    /* 5 s; where the adaptive age starts */
	uint64_t volume_max_bytes;     /* local dirty bytes of one volume; 0 = no limit */
	uint64_t host_max_bytes;       /* of all volumes; 0 = no limit */
	uint64_t min_free_bytes;       /* of the SSD: below it, uploads start at once */
	uint64_t space_wait_ns;        /* how long a write waits for space: 30 s */
	uint64_t store_timeout_ns;     /* how long a read waits for the store: 30 s */
	uint64_t gc_grace_ns;          /* the same on all hosts of a store, see gc.h: 24 h */
	uint64_t io_slow_ns; /* io.slow threshold; 0 = every request (tests) ; UINT64_MAX = off */
	uint32_t prefetch_blocks;
	int zstd_level;
	int lock_fd; /* of the local state (storage rule 17), fixed in every ring; -1 in tests */
};

struct engine;

void engine_config_defaults(struct engine_config *c);
/* Bounds of the process's allocator, which the budgets rely on. Before there are threads. */
void engine_malloc_setup(void);
/* Borrows the store. Takes no lock: the caller holds lock_fd already. -errno. */
int engine_create(const struct engine_config *c, struct store *store,
		  struct engine **out) __must_check;
/* Every volume must be closed. */
void engine_destroy(struct engine *e);
struct workers *engine_workers(struct engine *e);
struct store *engine_store(struct engine *e);
const struct engine_config *engine_cfg(const struct engine *e);

/*
 * Read everything in the SSD tier and remove what is bad. Blocks for long. -ENOENT: there is no
 * tier. -EIO: its disk failed. -ECANCELED: stopped.
 */
int engine_ssd_scrub(struct engine *e, struct ssd_scrub *out) __must_check;
/* The daemon is about to stop: no scrub is to hold it up. */
void engine_ssd_scrub_stop(struct engine *e);

struct engine_stats {
	struct cache_stats blocks, indexes;
	struct ssd_stats ssd;
	struct manifest_cache_stats manifests;
	struct fetch_stats fetch;
	uint64_t dirty_bytes, uploads, upload_failures, upload_bytes, parked;
};
void engine_stats_read(struct engine *e, struct engine_stats *out);

#endif
