/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What forks are made from: manifests and snapshots, kept in memory by S3-FIFO within a budget of
 * bytes, for all volumes. They are write-once, and keyed so that nothing else can have the key: a
 * manifest by the hash of its content; a snapshot by its name, which is never used again (whoever
 * makes something of it asks the store whether it is still that one: snapshot_check_start()).
 *
 * What is not there is fetched with one GET, however many ask for it meanwhile. Blocking calls, for
 * any thread that may block; no lock is held across I/O, hashing or parsing.
 */
#ifndef GFS_ENGINE_MANIFEST_CACHE_H
#define GFS_ENGINE_MANIFEST_CACHE_H

#include "engine/format.h"
#include "engine/s3fifo.h"
#include "store/store.h"

struct engine;
struct manifest_cache;

/* NULL: no memory. */
struct manifest_cache *manifest_cache_create(uint64_t budget_bytes);
/* No fetch may be under way. NULL is fine. */
void manifest_cache_destroy(struct manifest_cache *mc);

struct manifest_cache_stats {
	struct cache_stats kept;
	uint64_t gets;   /* fetches that were begun */
	uint64_t joined; /* by those who asked for what was on its way already */
};
void manifest_cache_stats_read(struct manifest_cache *mc, struct manifest_cache_stats *out);
/* What one manifest of so many entries takes of the budget. */
uint64_t manifest_cache_weight(uint32_t nr_entries);

/* Something asked for, here or on its way. */
struct manifest_fetch;

/*
 * Ask for a manifest; does not block. volume: for timing events, copied. The caller ends it with
 * one of the two below, from any thread. NULL: no memory.
 */
struct manifest_fetch *manifest_fetch_start(struct engine *e, const struct manifest_ref *ref,
					    const char *volume, uint64_t op_id);
/*
 * Wait for it: verified, with a reference for the caller. Says manifest_fetch, and cache_hit if it
 * was there at once. -ENOENT, -EBADMSG, -EFBIG, store errors after store_timeout_ns.
 */
int manifest_fetch_finish(struct manifest_fetch *f, struct manifest **out,
			  struct fmt_err *err) __must_check;
/* No longer wanted; NULL is fine. */
void manifest_fetch_cancel(struct manifest_fetch *f);

/*
 * Keep the manifest that `ref` names, if m is that: its hash decides. For whoever has written it.
 */
void manifest_keep(struct engine *e, const struct manifest_ref *ref, struct manifest *m);

/*
 * A snapshot, kept or fetched. etag: of the object it was read from or written to, as far as it is
 * known ("" = not). -ENOENT: it was deleted or never there, though one that is kept may have been
 * deleted since.
 */
int snapshot_find(struct engine *e, const char *name, uint64_t seq, const char *volume,
		  uint64_t op_id, struct snapshot *out, char etag[STORE_ETAG_MAX],
		  struct fmt_err *err) __must_check;
/* It was just written. */
void snapshot_keep(struct engine *e, const struct snapshot *s, const char etag[STORE_ETAG_MAX]);
/* It was deleted. */
void snapshot_forget(struct engine *e, const char *name, uint64_t seq);

#endif
