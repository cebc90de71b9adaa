// SPDX-License-Identifier: GPL-2.0-or-later
/* What users of the SSD tier call; see ssd.h and ssd_priv.h. Any thread where ssd.h says so. */
#include "engine/ssd_priv.h"

#include <string.h>

#define SEGMENTS       64u /* of the budget; fewer or more where the limits of their size say so */
#define SEGMENTS_MIN   16u
#define SEGMENTS_EXTRA 64u /* short ones, of short lives */
#define BLOCK_EXPECTED (32 * KiB)

int ssd_open(const struct ssd_config *c, struct ssd **out)
{
	struct ssd *s;
	int r;

	if (c->budget_bytes < SSD_BUDGET_MIN)
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->cfg = *c;
	s->segment_bytes = MIN(c->budget_bytes / SEGMENTS_MIN, SSD_BATCH_MAX);
	s->segment_bytes = MAX(s->segment_bytes, c->budget_bytes / SEGMENTS);
	s->segment_bytes = ROUND_DOWN(MIN(s->segment_bytes, SSD_SEGMENT_MAX), SSD_PAGE);
	s->segment_entries = (uint32_t)(s->segment_bytes / SSD_PAGE);
	s->batch_entries = MIN(SSD_BATCH_ENTRIES, s->segment_entries);
	s->batch_bytes = (uint32_t)MIN(s->segment_bytes, SSD_BATCH_MAX);
	s->max_segments = (unsigned int)(c->budget_bytes / s->segment_bytes) + SEGMENTS_EXTRA;
	list_init(&s->segments);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->q_lock, NULL);
	cond_init_mono(&s->wake);
	cond_init_mono(&s->done);
	s->next_seq = 1;
	s->fill = ssd_batch_new(s->batch_bytes);
	s->writing = ssd_batch_new(s->batch_bytes);
	r = s->fill && s->writing ? 0 : -ENOMEM;
	if (!r)
		r = ssd_table_init(&s->table, c->budget_bytes / SSD_PAGE,
				   c->budget_bytes / BLOCK_EXPECTED);
	if (!r)
		r = -pthread_create(&s->writer, NULL, ssd_writer_run, s);
	if (!r) {
		*out = s;
		return 0;
	}
	ssd_table_free(&s->table);
	ssd_batch_free(s->fill);
	ssd_batch_free(s->writing);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->done);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->q_lock);
	free(s);
	return r;
}

void ssd_close(struct ssd *s)
{
	if (!s)
		return;
	ssd_scrub_stop(s);
	pthread_mutex_lock(&s->q_lock);
	s->stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->q_lock);
	pthread_join(s->writer, NULL);
	while (!list_empty(&s->segments)) {
		struct ssd_segment *seg = list_first_entry(&s->segments, struct ssd_segment, node);

		list_del(&seg->node);
		ssd_segment_put(s, seg);
	}
	ssd_table_free(&s->table);
	ssd_batch_free(s->fill);
	ssd_batch_free(s->writing);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->done);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->q_lock);
	free(s);
}

void ssd_remove_all(int dirfd)
{
	uint64_t *seq;
	size_t nr;

	if (ssd_segment_list(dirfd, &seq, &nr))
		return;
	for (size_t i = 0; i < nr; i++) {
		char name[32];

		ssd_segment_name(seq[i], name);
		unlinkat(dirfd, name, 0);
	}
	free(seq);
}

bool ssd_has(struct ssd *s, const uint8_t key[SHA256_LEN])
{
	bool there;

	if (ssd_is_off(s))
		return false;
	SCOPED_LOCK(&s->lock);
	there = ssd_table_find(&s->table, key) != NULL;
	s->misses += !there;
	return there;
}

/* The content of an entry of a segment that the caller has a reference on. */
static int content_read(struct ssd *s, const struct ssd_segment *seg, const struct ssd_entry *e,
			struct cache_buf **out)
{
	struct pack_index_entry pe = {.kind = e->kind, .clen = e->len};
	struct cache_buf *buf;
	const uint8_t *data;
	void *mem;
	int r = ssd_segment_read(seg, e->off, e->len, &mem, &data);

	if (r == -ENODATA)
		return -EBADMSG;
	if (r)
		return r == -ENOMEM ? r : ssd_fail(s, "a read", r);
	memcpy(pe.sha256, e->key, SHA256_LEN);
	buf = cache_buf_new(e->size);
	r = buf ? block_decode(&pe, data, buf->data, e->size) : -ENOMEM;
	free(mem);
	if (r) {
		cache_buf_put(buf);
		return r;
	}
	*out = buf;
	return 0;
}

/* It was not what its key says: gone, unless something else is there by now. */
static void content_forget(struct ssd *s, const struct ssd_segment *seg, const struct ssd_entry *e)
{
	struct ssd_item *it;

	SCOPED_LOCK(&s->lock);
	it = ssd_table_find(&s->table, e->key);
	s->bad++;
	if (it && it->seg == seg && it->off == e->off)
		ssd_table_forget(&s->table, it);
}

int ssd_get(struct ssd *s, const uint8_t key[SHA256_LEN], uint32_t size, struct cache_buf **out)
{
	struct ssd_segment *seg;
	struct ssd_entry e;
	struct ssd_item *it;
	int r;

	if (ssd_is_off(s))
		return -EIO;
	pthread_mutex_lock(&s->lock);
	it = ssd_table_find(&s->table, key);
	if (!it || it->size != size) {
		s->misses++;
		pthread_mutex_unlock(&s->lock);
		return -ENOENT;
	}
	it->used = true;
	seg = ssd_segment_get(it->seg);
	e = (struct ssd_entry){.off = it->off, .len = it->len, .size = it->size, .kind = it->kind};
	pthread_mutex_unlock(&s->lock);
	memcpy(e.key, key, SHA256_LEN);
	r = content_read(s, seg, &e, out);
	if (r == -EBADMSG)
		content_forget(s, seg, &e);
	ssd_segment_put(s, seg);
	pthread_mutex_lock(&s->lock);
	s->hits += !r;
	pthread_mutex_unlock(&s->lock);
	return r;
}

static bool batch_has(const struct ssd_batch *b, const uint8_t key[SHA256_LEN])
{
	for (uint32_t i = 0; i < b->nr; i++)
		if (!memcmp(b->e[i].key, key, SHA256_LEN))
			return true;
	return false;
}

void ssd_put(struct ssd *s, const uint8_t key[SHA256_LEN], enum pack_block_kind kind, uint32_t size,
	     const void *stored, uint32_t len)
{
	struct ssd_batch *b;
	bool there;

	if (ssd_is_off(s) || !len || len > s->batch_bytes || size > SSD_BATCH_MAX)
		return;
	pthread_mutex_lock(&s->lock);
	there = ssd_table_find(&s->table, key) != NULL;
	pthread_mutex_unlock(&s->lock);
	if (there)
		return;
	SCOPED_LOCK(&s->q_lock);
	b = s->fill;
	if (batch_has(b, key) || batch_has(s->writing, key))
		return;
	if (!ssd_batch_fits(s, b, len) || (s->pause_ns && now_ns() < s->pause_ns)) {
		__atomic_fetch_add(&s->dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	ssd_batch_add(b, key, (uint8_t)kind, size, stored, len);
	if (b->nr == 1)
		b->first_ns = now_ns();
	if (b->nr == 1 || b->nr == s->batch_entries / 2 || b->used >= s->batch_bytes / 2)
		pthread_cond_signal(&s->wake);
}

void ssd_disk_free(struct ssd *s, uint64_t free_bytes)
{
	uint64_t keep = s->cfg.keep_free_bytes;

	if (free_bytes >= keep)
		return;
	SCOPED_LOCK(&s->q_lock);
	s->pause_ns = now_ns() + SSD_PAUSE_NS;
	s->give_back = keep - free_bytes;
	pthread_cond_signal(&s->wake);
}

void ssd_flush(struct ssd *s)
{
	uint64_t want;

	SCOPED_LOCK(&s->q_lock);
	want = ++s->flush_want;
	pthread_cond_signal(&s->wake);
	while (s->flush_done < want)
		pthread_cond_wait(&s->done, &s->q_lock);
}

/* The segments there are now, referenced, malloc'ed. */
static int segments_hold(struct ssd *s, struct ssd_segment ***out, size_t *nr)
{
	struct ssd_segment *seg;

	*nr = 0;
	SCOPED_LOCK(&s->lock);
	*out = malloc((s->nr_segments + 1) * sizeof(**out));
	if (!*out)
		return -ENOMEM;
	list_for_each_entry (seg, &s->segments, node)
		(*out)[(*nr)++] = ssd_segment_get(seg);
	return 0;
}

static int entry_scrub(struct ssd *s, const struct ssd_segment *seg, const struct ssd_entry *e,
		       struct ssd_scrub *out)
{
	struct cache_buf *buf = NULL;
	struct ssd_item *it;
	bool there;
	int r;

	pthread_mutex_lock(&s->lock);
	it = ssd_table_find(&s->table, e->key);
	there = it && it->seg == seg && it->off == e->off;
	pthread_mutex_unlock(&s->lock);
	if (!there)
		return 0;
	r = content_read(s, seg, e, &buf);
	cache_buf_put(buf);
	if (r && r != -EBADMSG)
		return r;
	out->entries++;
	out->bytes += e->len;
	if (r) {
		content_forget(s, seg, e);
		out->bad++;
	}
	return 0;
}

int ssd_scrub(struct ssd *s, struct ssd_scrub *out)
{
	struct ssd_segment **segs;
	size_t nr;
	int r = segments_hold(s, &segs, &nr);

	memset(out, 0, sizeof(*out));
	if (r)
		return r;
	for (size_t i = 0; i < nr; i++) {
		struct ssd_entry *e = NULL;
		uint32_t n = 0;

		if (!r && ssd_is_off(s))
			r = -EIO;
		if (!r)
			r = ssd_segment_entries(segs[i], &e, &n);
		if (r < 0 && r != -ENOMEM && r != -ECANCELED)
			r = ssd_fail(s, "a read", r);
		for (uint32_t k = 0; !r && k < n; k++)
			r = __atomic_load_n(&s->closing, __ATOMIC_RELAXED)
				    ? -ECANCELED
				    : entry_scrub(s, segs[i], &e[k], out);
		free(e);
		ssd_segment_put(s, segs[i]);
	}
	free(segs);
	return r;
}

void ssd_scrub_stop(struct ssd *s)
{
	__atomic_store_n(&s->closing, true, __ATOMIC_RELAXED);
}

void ssd_stats_read(struct ssd *s, struct ssd_stats *out)
{
	memset(out, 0, sizeof(*out));
	out->on = !ssd_is_off(s);
	out->budget_bytes = s->cfg.budget_bytes;
	out->dropped = __atomic_load_n(&s->dropped, __ATOMIC_RELAXED);
	SCOPED_LOCK(&s->lock);
	out->hits = s->hits;
	out->misses = s->misses;
	out->inserts = s->inserts;
	out->evictions = s->evictions;
	out->bad = s->bad;
	out->bytes = s->bytes;
	out->entries = s->table.nr;
}
