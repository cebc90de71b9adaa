// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where a content is: a hash table of small items, out of an arena so that neither growth nor
 * removal copies anything while the lock is held. No I/O; the caller holds s->lock.
 *
 * An item knows half of its key. Another key with the same half is found in its place, which the
 * hash of what is read then reveals.
 */
#include "engine/ssd_priv.h"

#include <string.h>

#define CHUNK_ITEMS 4096u
#define BUCKETS_MIN 1024u
#define BUCKETS_MAX (1u << 28)

int ssd_table_init(struct ssd_table *t, uint64_t max_items, uint64_t expected)
{
	memset(t, 0, sizeof(*t));
	t->nr_buckets = BUCKETS_MIN;
	while (t->nr_buckets < BUCKETS_MAX && t->nr_buckets < expected)
		t->nr_buckets *= 2;
	t->max_chunks = (uint32_t)MIN(DIV_ROUND_UP(max_items, CHUNK_ITEMS), SSD_NIL / CHUNK_ITEMS);
	t->bucket = malloc(t->nr_buckets * sizeof(t->bucket[0]));
	t->chunk = calloc(t->max_chunks, sizeof(t->chunk[0]));
	t->free = SSD_NIL;
	if (!t->bucket || !t->chunk) {
		ssd_table_free(t);
		return -ENOMEM;
	}
	memset(t->bucket, 0xff, t->nr_buckets * sizeof(t->bucket[0]));
	return 0;
}

void ssd_table_free(struct ssd_table *t)
{
	for (uint32_t i = 0; i < t->nr_chunks; i++)
		free(t->chunk[i]);
	free(t->chunk);
	free(t->bucket);
	memset(t, 0, sizeof(*t));
}

static struct ssd_item *item_at(const struct ssd_table *t, uint32_t i)
{
	return &t->chunk[i / CHUNK_ITEMS][i % CHUNK_ITEMS];
}

static uint32_t *bucket_of(const struct ssd_table *t, const uint8_t *tag)
{
	uint32_t h;

	memcpy(&h, tag, sizeof(h));
	return &t->bucket[h & (t->nr_buckets - 1)];
}

struct ssd_item *ssd_table_find(struct ssd_table *t, const uint8_t key[SHA256_LEN])
{
	for (uint32_t i = *bucket_of(t, key); i != SSD_NIL; i = item_at(t, i)->next)
		if (!memcmp(item_at(t, i)->tag, key, SSD_TAG_LEN))
			return item_at(t, i);
	return NULL;
}

static bool chunk_add(struct ssd_table *t)
{
	uint32_t first = t->nr_chunks * CHUNK_ITEMS;
	struct ssd_item *c;

	if (t->nr_chunks == t->max_chunks)
		return false;
	c = malloc(CHUNK_ITEMS * sizeof(*c));
	if (!c)
		return false;
	for (uint32_t i = 0; i < CHUNK_ITEMS; i++)
		c[i].next = i + 1 < CHUNK_ITEMS ? first + i + 1 : t->free;
	t->free = first;
	t->chunk[t->nr_chunks++] = c;
	return true;
}

bool ssd_table_add(struct ssd_table *t, struct ssd_segment *seg, const struct ssd_entry *e)
{
	uint32_t *b = bucket_of(t, e->key), i;
	struct ssd_item *it;

	if (t->free == SSD_NIL && !chunk_add(t))
		return false;
	i = t->free;
	it = item_at(t, i);
	t->free = it->next;
	*it = (struct ssd_item){.seg = seg,
				.next = *b,
				.seg_next = seg->items,
				.off = e->off,
				.len = e->len,
				.size = e->size,
				.kind = e->kind};
	memcpy(it->tag, e->key, SSD_TAG_LEN);
	*b = i;
	seg->items = i;
	t->nr++;
	return true;
}

void ssd_table_forget(struct ssd_table *t, struct ssd_item *it)
{
	uint32_t *p = bucket_of(t, it->tag);

	while (item_at(t, *p) != it)
		p = &item_at(t, *p)->next;
	*p = it->next;
	it->dead = true;
	t->nr--;
}

uint32_t ssd_table_release(struct ssd_table *t, struct ssd_segment *seg, uint32_t most)
{
	uint32_t found = 0;

	for (; most && seg->items != SSD_NIL; most--) {
		uint32_t i = seg->items;
		struct ssd_item *it = item_at(t, i);

		seg->items = it->seg_next;
		if (!it->dead) {
			ssd_table_forget(t, it);
			found++;
		}
		it->next = t->free;
		t->free = i;
	}
	return found;
}
