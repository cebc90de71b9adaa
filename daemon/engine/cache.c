// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Caches of buffers over S3-FIFO; see cache.h. Any thread. `spare` has a lock of its own, which
 * nothing is done under but a list operation.
 */
#include "engine/cache.h"
#include "lib/list.h"

#include <string.h>

#define SHARDS_MAX    16u
#define SPARE_MIN     (4 * KiB) /* block sizes: up to 1 MiB */
#define SPARE_CLASSES 9
#define SPARE_MAX     (4 * MiB)

static size_t buf_alloc_size(uint32_t size)
{
	return size >= 4096 ? ROUND_UP((size_t)size, 4096) : ROUND_UP((size_t)size + !size, 64);
}

/*
 * Blocks that were evicted wait here, a few, for the next ones. Given back to the allocator they
 * would lie in the arena of the thread that fetched them, and another thread's arena would grow.
 */
static struct {
	pthread_mutex_t lock;
	struct cache_buf
		*free[SPARE_CLASSES]; /* by size; the next one's address lies in its data */
	uint64_t bytes;
} spare = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* SPARE_CLASSES: not of a block's size. */
static unsigned int spare_class(uint32_t size)
{
	unsigned int c = 0;

	while (c < SPARE_CLASSES && SPARE_MIN << c != size)
		c++;
	return c;
}

static struct cache_buf *spare_take(uint32_t size)
{
	unsigned int c = spare_class(size);
	struct cache_buf *b;

	if (c == SPARE_CLASSES)
		return NULL;
	SCOPED_LOCK(&spare.lock);
	b = spare.free[c];
	if (b) {
		memcpy(&spare.free[c], b->data, sizeof(b));
		spare.bytes -= size;
	}
	return b;
}

static bool spare_give(struct cache_buf *b)
{
	unsigned int c = spare_class(b->size);

	if (c == SPARE_CLASSES)
		return false;
	SCOPED_LOCK(&spare.lock);
	if (spare.bytes + b->size > SPARE_MAX)
		return false;
	memcpy(b->data, &spare.free[c], sizeof(b));
	spare.free[c] = b;
	spare.bytes += b->size;
	return true;
}

struct cache_buf *cache_buf_new(uint32_t size)
{
	struct cache_buf *b = spare_take(size);

	if (b) {
		b->refs = 1;
		return b;
	}
	b = malloc(sizeof(*b));

	if (!b)
		return NULL;
	b->refs = 1;
	b->size = size;
	b->data = aligned_alloc(size >= 4096 ? 4096 : 64, buf_alloc_size(size));
	if (!b->data) {
		free(b);
		return NULL;
	}
	return b;
}

struct cache_buf *cache_buf_get(struct cache_buf *b)
{
	__atomic_fetch_add(&b->refs, 1, __ATOMIC_RELAXED);
	return b;
}

void cache_buf_put(struct cache_buf *b)
{
	if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL))
		return;
	if (spare_give(b))
		return;
	free(b->data);
	free(b);
}

uint64_t cache_weight(uint32_t size)
{
	return buf_alloc_size(size) + sizeof(struct cache_buf) + s3fifo_entry_bytes();
}

static void value_get(void *value)
{
	cache_buf_get(value);
}

static void value_put(void *value)
{
	cache_buf_put(value);
}

/* The same object under another name: there is nothing to add to it. */
static struct s3fifo *fifo(struct cache *c)
{
	return (struct s3fifo *)c;
}

struct cache *cache_create(uint64_t budget_bytes)
{
	static const struct s3fifo_ops ops = {.get = value_get, .put = value_put};

	return (struct cache *)s3fifo_create(budget_bytes, SHARDS_MAX, &ops);
}

void cache_destroy(struct cache *c)
{
	s3fifo_destroy(fifo(c));
}

struct cache_buf *cache_lookup(struct cache *c, const uint8_t key[32])
{
	return s3fifo_lookup(fifo(c), key);
}

struct cache_buf *cache_peek(struct cache *c, const uint8_t key[32])
{
	return s3fifo_peek(fifo(c), key);
}

void cache_insert(struct cache *c, const uint8_t key[32], struct cache_buf *b)
{
	s3fifo_insert(fifo(c), key, b, cache_weight(b->size));
}

void cache_stats_read(struct cache *c, struct cache_stats *out)
{
	s3fifo_stats_read(fifo(c), out);
}
