/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks from the store: manifest -> pack index -> (clean cache in memory | on the SSD | range GET
 * -> decompress -> verify hash -> clean cache). Single-flight per pack index and per block;
 * adjacent blocks of one pack are fetched with one GET; sequential misses prefetch. Every fetch
 * ends by its deadline with data or an error: a corrupt object is -EIO (logged and counted), an
 * unreachable store -EIO after timeout_ns; transient errors are retried with backoff within it.
 * Wrong data is never delivered.
 */
#ifndef GFS_ENGINE_FETCH_H
#define GFS_ENGINE_FETCH_H

#include "engine/cache.h"
#include "engine/format.h"
#include "store/store.h"

struct fetcher;
struct ssd;

struct fetch_config {
	struct ssd *ssd;          /* the cache's tier on the local disk, or NULL; borrowed */
	uint64_t timeout_ns;      /* default 30 s */
	uint32_t prefetch_blocks; /* upper bound of read-ahead, 0 = off */
	uint32_t max_get_bytes;   /* one coalesced GET */
};

struct fetch_stats {
	/* coalesced: flights that share a GET; direct: GETs that did not pass the dispatcher. */
	uint64_t gets, get_bytes, retries, corrupt, timeouts, coalesced, direct, prefetched,
		inflight_bytes;
};

/* One wait for one block; embedded in the caller's object. */
struct fetch_wait {
	/* Runs exactly once, on any thread (never inside fetch_block, which answers at once
	 * instead); must not block. res 0: buf is referenced for the caller, or NULL for a block of
	 * zeros. */
	void (*done)(struct fetch_wait *w, struct cache_buf *buf, int res);
	/*
	 * May be NULL. Runs at most once, on the caller's thread inside fetch_block, before the
	 * wait begins; sets span if there is one. Even then the answer may come at once.
	 */
	void (*waits)(struct fetch_wait *w);
	struct list_head node; /* fetcher's */
	uint64_t op_id;
	const char *volume; /* for timing events; valid until done; may be NULL */
	uint32_t span;      /* open until done, linked to the GET that serves it; 0 = none */
	bool single; /* the caller asks for no other block now: nothing to merge with, no need to
			wait */
};

/* Borrow all three for its lifetime. */
struct fetcher *fetcher_create(struct store *store, struct cache *blocks, struct cache *indexes,
			       struct pool *compute, const struct fetch_config *cfg);
/* No fetch may be in flight. */
void fetcher_destroy(struct fetcher *f);

/*
 * Block `block` (of the volume) as manifest `m` (NULL = empty) has it. Takes its own reference on m
 * while it works. Any thread, does not block. Returns
 *   0            *buf set: the data (referenced), or NULL: zeros. w is untouched.
 *   -EINPROGRESS w->done comes later
 *   -errno       failed at once
 */
int fetch_block(struct fetcher *f, struct manifest *m, uint64_t block, struct fetch_wait *w,
		struct cache_buf **buf) __must_check;
/*
 * Between these two the calling thread asks for several blocks of one fetcher: what they miss is
 * merged into as few GETs as their places allow, and leaves with the second call at the latest. Any
 * thread; the first takes no lock, the second only after a miss. May be nested.
 */
void fetch_plug(void);
void fetch_unplug(struct fetcher *f);
/* Blocking form for background threads. */
int fetch_block_sync(struct fetcher *f, struct manifest *m, uint64_t block, uint64_t op_id,
		     struct cache_buf **buf) __must_check;
/*
 * The index of entry `me` of m, answered as by fetch_block (never NULL with 0); look at it with
 * fetch_index().
 */
int fetch_index_get(struct fetcher *f, struct manifest *m, const struct manifest_entry *me,
		    struct fetch_wait *w, struct cache_buf **buf) __must_check;
static inline const struct pack_index *fetch_index(const struct cache_buf *buf)
{
	return (const struct pack_index *)buf->data;
}
/* A pack was just uploaded: keep its index section, so that nobody has to fetch it. Best effort. */
void fetch_index_add(struct fetcher *f, const struct manifest_entry *me, uint32_t block_bytes,
		     const void *section, size_t len);
void fetch_stats_read(struct fetcher *f, struct fetch_stats *out);

#endif
