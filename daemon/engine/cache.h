/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A byte-bounded cache of immutable buffers by 32-byte key: the host-wide clean-block cache (key =
 * SHA-256 of the content) and the pack-index cache (key = the index's SHA-256). s3fifo.h chooses
 * what stays.
 */
#ifndef GFS_ENGINE_CACHE_H
#define GFS_ENGINE_CACHE_H

#include "engine/s3fifo.h"

/* A reference-counted value. data is 64-byte aligned. */
struct cache_buf {
	int refs;
	uint32_t size;
	uint8_t *data; /* page-aligned for block-sized values */
};

struct cache_buf *cache_buf_new(uint32_t size); /* refs 1; NULL = no memory */
struct cache_buf *cache_buf_get(struct cache_buf *b);
void cache_buf_put(struct cache_buf *b); /* NULL is fine; any thread */

struct cache;

struct cache *cache_create(uint64_t budget_bytes);
void cache_destroy(struct cache *c);
/* A new reference, or NULL. */
struct cache_buf *cache_lookup(struct cache *c, const uint8_t key[32]);
/* The same without a trace: neither counted nor an access for the eviction order. */
struct cache_buf *cache_peek(struct cache *c, const uint8_t key[32]);
/* Insert (takes its own reference). A present key keeps its old value. Larger than a shard:
 * ignored. */
void cache_insert(struct cache *c, const uint8_t key[32], struct cache_buf *b);
/* What a value of `size` bytes takes of the budget: its allocation and the cache's own records of
 * it. */
uint64_t cache_weight(uint32_t size);
void cache_stats_read(struct cache *c, struct cache_stats *out);

#endif
