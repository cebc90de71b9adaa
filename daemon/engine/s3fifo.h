/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * S3-FIFO: which values to keep, by 32-byte key and weighed in bytes. It knows nothing of what it
 * keeps but how to hold and release one, so the caches of blocks, pack indexes and manifests
 * (cache.h, manifest_cache.h) are all made of it. Any thread. Sharded; a shard's lock is held for a
 * look-up or a queue operation, never across I/O or hashing. Values in use may outlive their
 * eviction; the budget counts what is kept.
 */
#ifndef GFS_ENGINE_S3FIFO_H
#define GFS_ENGINE_S3FIFO_H

#include "lib/hash.h"

/* Values have reference counts of their own. */
struct s3fifo_ops {
	void (*get)(void *value); /* with a shard's lock held: a count and no more */
	void (*put)(void *value); /* perhaps with one held too */
};

/* Of any cache that is made of one. */
struct cache_stats {
	uint64_t hits, misses, inserts, evictions;
	uint64_t bytes, budget_bytes, entries;
};

struct s3fifo;

/*
 * At most shards_max shards (a power of two), fewer for a small budget: no value larger than a
 * shard is kept. NULL: no memory.
 */
struct s3fifo *s3fifo_create(uint64_t budget_bytes, uint32_t shards_max,
			     const struct s3fifo_ops *ops);
void s3fifo_destroy(struct s3fifo *c); /* NULL is fine */
/* The value with a reference for the caller, or NULL. */
void *s3fifo_lookup(struct s3fifo *c, const uint8_t key[32]);
/* The same without a trace: neither counted nor an access for the eviction order. */
void *s3fifo_peek(struct s3fifo *c, const uint8_t key[32]);
/*
 * Keep the value (takes a reference of its own). A present key keeps its old value. weight: its
 * bytes and s3fifo_entry_bytes(); heavier than a shard's budget: ignored.
 */
void s3fifo_insert(struct s3fifo *c, const uint8_t key[32], void *value, uint64_t weight);
/* Forget the value, if it is there, and that it ever was. */
void s3fifo_remove(struct s3fifo *c, const uint8_t key[32]);
/*
 * What the records of one value take: each pays for its ghost in advance, so that the ghosts stay
 * within the budget too.
 */
uint64_t s3fifo_entry_bytes(void);
void s3fifo_stats_read(struct s3fifo *c, struct cache_stats *out);

#endif
