// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * S3-FIFO over sharded hash tables; see s3fifo.h. A shard's lock guards everything of the shard;
 * evicted values are released after it was dropped, but for the first of
 * many that one replaces.
 *
 * S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): new keys
 * enter a small queue of a tenth of the budget; those used more than once while there move to the
 * main queue, the others leave a ghost (the key alone). A key that returns while its ghost is
 * remembered enters the main queue at once. The main queue gives used entries another round.
 */
#include "engine/s3fifo.h"
#include "lib/list.h"

#include <string.h>

#define SHARD_BYTES_MIN (16 * MiB) /* smaller budgets get fewer shards */
#define BUCKETS_MIN     64u
#define FREQ_MAX        3
#define VICTIMS         16

enum queue_id { QUEUE_SMALL, QUEUE_MAIN, QUEUE_GHOST, QUEUE_NR };

struct entry {
	struct entry *hash_next;
	struct list_head node; /* in its queue: next of the head is the newest */
	uint8_t key[32];
	void *value; /* NULL in the ghost queue */
	uint64_t weight;
	uint8_t queue, freq;
};

struct queue {
	struct list_head list;
	uint64_t bytes;
};

struct shard {
	pthread_mutex_t lock;
	const struct s3fifo_ops *ops;
	struct entry **buckets;
	uint32_t nr_buckets; /* a power of two */
	uint32_t nr_entries; /* with ghosts */
	uint32_t nr_values;
	uint64_t budget, small_target;
	struct queue q[QUEUE_NR];
	uint64_t hits, misses, inserts, evictions;
} __attribute__((aligned(64)));

struct s3fifo {
	uint32_t nr_shards; /* a power of two */
	struct shard shard[];
};

/* Values dropped under a shard's lock, to be released after it. */
struct victims {
	unsigned int nr;
	void *value[VICTIMS];
};

static void shard_destroy(struct shard *s)
{
	for (int i = 0; i < QUEUE_NR; i++) {
		struct entry *e, *n;

		list_for_each_entry_safe (e, n, &s->q[i].list, node) {
			if (e->value)
				s->ops->put(e->value);
			free(e);
		}
	}
	free(s->buckets);
	pthread_mutex_destroy(&s->lock);
}

static int shard_init(struct shard *s, uint64_t budget, const struct s3fifo_ops *ops)
{
	s->buckets = calloc(BUCKETS_MIN, sizeof(s->buckets[0]));
	if (!s->buckets)
		return -ENOMEM;
	s->nr_buckets = BUCKETS_MIN;
	s->ops = ops;
	s->budget = budget;
	s->small_target = budget / 10;
	for (int i = 0; i < QUEUE_NR; i++)
		list_init(&s->q[i].list);
	pthread_mutex_init(&s->lock, NULL);
	return 0;
}

struct s3fifo *s3fifo_create(uint64_t budget_bytes, uint32_t shards_max,
			     const struct s3fifo_ops *ops)
{
	uint32_t nr = 1;
	struct s3fifo *c;

	while (nr < shards_max && budget_bytes / (nr * 2) >= SHARD_BYTES_MIN)
		nr *= 2;
	c = aligned_alloc(64, ROUND_UP(sizeof(*c) + nr * sizeof(c->shard[0]), 64));
	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c) + nr * sizeof(c->shard[0]));
	for (; c->nr_shards < nr; c->nr_shards++) {
		if (shard_init(&c->shard[c->nr_shards], budget_bytes / nr, ops)) {
			s3fifo_destroy(c);
			return NULL;
		}
	}
	return c;
}

void s3fifo_destroy(struct s3fifo *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->nr_shards; i++)
		shard_destroy(&c->shard[i]);
	free(c);
}

/* Keys are hashes already: some of their bytes choose the shard, others the bucket. */
static struct shard *key_shard(struct s3fifo *c, const uint8_t key[32])
{
	return &c->shard[key[0] & (c->nr_shards - 1)];
}

static struct entry **key_bucket(struct shard *s, const uint8_t key[32])
{
	uint32_t h;

	memcpy(&h, key + 4, sizeof(h));
	return &s->buckets[h & (s->nr_buckets - 1)];
}

static struct entry *shard_find(struct shard *s, const uint8_t key[32])
{
	struct entry *e = *key_bucket(s, key);

	while (e && memcmp(e->key, key, sizeof(e->key)))
		e = e->hash_next;
	return e;
}

/* Keeps chains short; without memory they just grow longer. */
static void shard_grow(struct shard *s)
{
	uint32_t old_nr = s->nr_buckets;
	struct entry **old = s->buckets;
	struct entry **bigger;

	if (s->nr_entries < old_nr || old_nr >= 1u << 30)
		return;
	bigger = calloc((size_t)old_nr * 2, sizeof(*bigger));
	if (!bigger)
		return;
	s->buckets = bigger;
	s->nr_buckets = old_nr * 2;
	for (uint32_t i = 0; i < old_nr; i++) {
		while (old[i]) {
			struct entry *e = old[i];
			struct entry **b = key_bucket(s, e->key);

			old[i] = e->hash_next;
			e->hash_next = *b;
			*b = e;
		}
	}
	free(old);
}

static void queue_push(struct shard *s, struct entry *e, enum queue_id id)
{
	struct list_head *h = &s->q[id].list;

	e->queue = id;
	s->q[id].bytes += e->weight;
	list_add_tail(&e->node, h->next); /* before the newest: becomes the newest */
}

static void queue_remove(struct shard *s, struct entry *e)
{
	list_del(&e->node);
	s->q[e->queue].bytes -= e->weight;
}

static struct entry *queue_oldest(struct shard *s, enum queue_id id)
{
	struct list_head *h = &s->q[id].list;

	return list_empty(h) ? NULL : list_entry(h->prev, struct entry, node);
}

static void entry_forget(struct shard *s, struct entry *e)
{
	struct entry **p = key_bucket(s, e->key);

	while (*p != e)
		p = &(*p)->hash_next;
	*p = e->hash_next;
	queue_remove(s, e);
	s->nr_entries--;
	free(e);
}

static void entry_drop_value(struct shard *s, struct entry *e, struct victims *v)
{
	if (v->nr == VICTIMS) {
		while (v->nr)
			s->ops->put(v->value[--v->nr]);
	}
	v->value[v->nr++] = e->value;
	e->value = NULL;
	s->nr_values--;
	s->evictions++;
}

static void evict_small(struct shard *s, struct victims *v)
{
	struct entry *e;

	while ((e = queue_oldest(s, QUEUE_SMALL)) != NULL) {
		queue_remove(s, e);
		if (e->freq > 1) {
			e->freq = 0;
			queue_push(s, e, QUEUE_MAIN);
			continue;
		}
		entry_drop_value(s, e, v);
		queue_push(s, e, QUEUE_GHOST);
		while (s->q[QUEUE_GHOST].bytes > s->budget - s->small_target)
			entry_forget(s, queue_oldest(s, QUEUE_GHOST));
		return;
	}
}

static void evict_main(struct shard *s, struct victims *v)
{
	struct entry *e;

	while ((e = queue_oldest(s, QUEUE_MAIN)) != NULL) {
		if (e->freq) {
			e->freq--;
			queue_remove(s, e);
			queue_push(s, e, QUEUE_MAIN);
			continue;
		}
		entry_drop_value(s, e, v);
		entry_forget(s, e);
		return;
	}
}

static uint64_t shard_bytes(const struct shard *s)
{
	return s->q[QUEUE_SMALL].bytes + s->q[QUEUE_MAIN].bytes;
}

static void shard_make_room(struct shard *s, uint64_t weight, struct victims *v)
{
	while (shard_bytes(s) + weight > s->budget) {
		if (s->q[QUEUE_SMALL].bytes &&
		    (s->q[QUEUE_SMALL].bytes >= s->small_target || !s->q[QUEUE_MAIN].bytes))
			evict_small(s, v);
		else
			evict_main(s, v);
	}
}

void *s3fifo_lookup(struct s3fifo *c, const uint8_t key[32])
{
	struct shard *s = key_shard(c, key);
	struct entry *e;

	SCOPED_LOCK(&s->lock);
	e = shard_find(s, key);
	if (!e || !e->value) {
		s->misses++;
		return NULL;
	}
	s->hits++;
	if (e->freq < FREQ_MAX)
		e->freq++;
	s->ops->get(e->value);
	return e->value;
}

void *s3fifo_peek(struct s3fifo *c, const uint8_t key[32])
{
	struct shard *s = key_shard(c, key);
	struct entry *e;

	SCOPED_LOCK(&s->lock);
	e = shard_find(s, key);
	if (!e || !e->value)
		return NULL;
	s->ops->get(e->value);
	return e->value;
}

static struct entry *entry_new(struct shard *s, const uint8_t key[32])
{
	struct entry *e = calloc(1, sizeof(*e));
	struct entry **b;

	if (!e)
		return NULL;
	shard_grow(s);
	memcpy(e->key, key, sizeof(e->key));
	b = key_bucket(s, key);
	e->hash_next = *b;
	*b = e;
	s->nr_entries++;
	return e;
}

void s3fifo_insert(struct s3fifo *c, const uint8_t key[32], void *value, uint64_t weight)
{
	struct shard *s = key_shard(c, key);
	enum queue_id id = QUEUE_SMALL;
	struct victims v = {0};
	struct entry *e;

	if (weight > s->budget)
		return;
	pthread_mutex_lock(&s->lock);
	e = shard_find(s, key);
	if (e && e->value)
		goto out;
	if (e) {
		queue_remove(s, e); /* its ghost, before making room can forget it */
		id = QUEUE_MAIN;
	}
	shard_make_room(s, weight, &v);
	if (!e)
		e = entry_new(s, key);
	if (!e)
		goto out;
	s->ops->get(value);
	e->value = value;
	e->weight = weight;
	e->freq = 0;
	queue_push(s, e, id);
	s->nr_values++;
	s->inserts++;
out:
	pthread_mutex_unlock(&s->lock);
	while (v.nr)
		s->ops->put(v.value[--v.nr]);
}

void s3fifo_remove(struct s3fifo *c, const uint8_t key[32])
{
	struct shard *s = key_shard(c, key);
	void *value = NULL;
	struct entry *e;

	pthread_mutex_lock(&s->lock);
	e = shard_find(s, key);
	if (e) {
		value = e->value;
		s->nr_values -= value != NULL;
		entry_forget(s, e);
	}
	pthread_mutex_unlock(&s->lock);
	if (value)
		s->ops->put(value);
}

uint64_t s3fifo_entry_bytes(void)
{
	return 2 * sizeof(struct entry);
}

void s3fifo_stats_read(struct s3fifo *c, struct cache_stats *out)
{
	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < c->nr_shards; i++) {
		struct shard *s = &c->shard[i];
		SCOPED_LOCK(&s->lock);

		out->hits += s->hits;
		out->misses += s->misses;
		out->inserts += s->inserts;
		out->evictions += s->evictions;
		out->bytes += shard_bytes(s);
		out->budget_bytes += s->budget;
		out->entries += s->nr_values;
	}
}
