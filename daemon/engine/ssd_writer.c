// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The only thread of the SSD tier that writes or removes files. It reads what an earlier process
 * left, then waits for batches.
 *
 * The log is a FIFO with a second chance: of the oldest segment, what was read since it was
 * written, or is in the memory cache (whose hits never come here), is written again at the end; the
 * rest goes. So a scan of a large volume passes through, and what a restart would miss stays.
 */
#include "engine/ssd_priv.h"
#include "lib/log.h"

#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>

#define GATHER_NS (200 * NSEC_PER_MSEC) /* the first value of a batch waits so long for others */
#define SLICE     256u                  /* items released under the lock at once */

int ssd_fail(struct ssd *s, const char *what, int err)
{
	if (!__atomic_exchange_n(&s->off, true, __ATOMIC_RELAXED))
		log_err("clean cache: %s in %s: %s: it is off until the next start, blocks come "
			"from the object store; look at this disk, unsent writes are on it too",
			what, s->cfg.path, strerror(-err));
	return -EIO;
}

/* ---- batches ---- */

struct ssd_batch *ssd_batch_new(uint32_t bytes)
{
	struct ssd_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->data = aligned_alloc(SSD_PAGE, bytes);
	if (!b->data) {
		free(b);
		return NULL;
	}
	return b;
}

void ssd_batch_free(struct ssd_batch *b)
{
	if (!b)
		return;
	free(b->data);
	free(b);
}

bool ssd_batch_fits(const struct ssd *s, const struct ssd_batch *b, uint32_t len)
{
	return len <= s->batch_bytes - b->used && b->nr < s->batch_entries;
}

void ssd_batch_add(struct ssd_batch *b, const uint8_t key[SHA256_LEN], uint8_t kind, uint32_t size,
		   const void *stored, uint32_t len)
{
	struct ssd_entry *e = &b->e[b->nr++];

	memcpy(e->key, key, SHA256_LEN);
	e->off = b->used;
	e->len = len;
	e->size = size;
	e->kind = kind;
	memcpy(b->data + b->used, stored, len);
	b->used += len;
}

/* ---- segments ---- */

/* Takes over the reference. */
static void segment_link(struct ssd *s, struct ssd_segment *seg)
{
	pthread_mutex_lock(&s->lock);
	list_add_tail(&seg->node, &s->segments);
	s->nr_segments++;
	s->bytes += seg->bytes;
	pthread_mutex_unlock(&s->lock);
}

static struct ssd_segment *segment_oldest(struct ssd *s)
{
	SCOPED_LOCK(&s->lock);

	return list_empty(&s->segments) ? NULL
					: list_first_entry(&s->segments, struct ssd_segment, node);
}

/* Its items are not found any more. */
static void segment_forget(struct ssd *s, struct ssd_segment *seg)
{
	bool more = true;

	while (more) {
		SCOPED_LOCK(&s->lock);

		s->evictions += ssd_table_release(&s->table, seg, SLICE);
		more = seg->items != SSD_NIL;
	}
}

/* And its file is gone, with the last reader. */
static void segment_remove(struct ssd *s, struct ssd_segment *seg)
{
	if (seg == s->active)
		s->active = NULL;
	segment_forget(s, seg);
	pthread_mutex_lock(&s->lock);
	list_del(&seg->node);
	s->nr_segments--;
	s->bytes -= seg->bytes;
	pthread_mutex_unlock(&s->lock);
	ssd_segment_unlink(s, seg->seq);
	ssd_segment_put(s, seg);
}

/* Let the entries of a batch, which are on the disk, be found. */
static void batch_publish(struct ssd *s, struct ssd_segment *seg, const struct ssd_batch *b)
{
	uint64_t bytes = ssd_segment_bytes(seg);

	for (uint32_t i = 0; i < b->nr;) {
		SCOPED_LOCK(&s->lock);

		for (uint32_t end = MIN(b->nr, i + SLICE); i < end; i++)
			if (!ssd_table_find(&s->table, b->e[i].key))
				s->inserts += ssd_table_add(&s->table, seg, &b->e[i]);
	}
	pthread_mutex_lock(&s->lock);
	s->bytes += bytes - seg->bytes;
	seg->bytes = bytes;
	pthread_mutex_unlock(&s->lock);
}

/* Write it at the end of the log. -errno of the disk, -ENOMEM. */
static int batch_append(struct ssd *s, struct ssd_batch *b)
{
	int r;

	if (s->active && !ssd_segment_has_room(s, s->active, b)) {
		ssd_segment_seal(s->active);
		s->active = NULL;
	}
	if (!s->active) {
		struct ssd_segment *seg;

		r = ssd_segment_create(s, &seg);
		if (r)
			return r;
		seg->bytes = ssd_segment_bytes(seg);
		segment_link(s, seg);
		s->active = seg;
	}
	r = ssd_segment_append(s->active, b);
	if (r)
		return r;
	batch_publish(s, s->active, b);
	return 0;
}

/* ---- room ---- */

/* Is what this entry names still there, and was it of use? */
static bool entry_wanted(struct ssd *s, const struct ssd_segment *seg, const struct ssd_entry *e)
{
	bool in_memory = false;
	struct ssd_item *it;

	for (size_t i = 0; i < ARRAY_SIZE(s->cfg.memory) && !in_memory; i++) {
		struct cache_buf *b =
			s->cfg.memory[i] ? cache_peek(s->cfg.memory[i], e->key) : NULL;

		in_memory = b != NULL;
		cache_buf_put(b);
	}
	SCOPED_LOCK(&s->lock);
	it = ssd_table_find(&s->table, e->key);
	return it && it->seg == seg && it->off == e->off && (it->used || in_memory);
}

/* What is worth it, and fits into what is reserved for it: e[0 .. returned). */
static uint32_t entries_keep(struct ssd *s, const struct ssd_segment *seg, struct ssd_entry *e,
			     uint32_t nr)
{
	uint64_t room = MIN(s->segment_bytes * 3 / 8, seg->bytes / 2);
	uint32_t kept = 0;

	for (uint32_t i = 0; i < nr; i++) {
		if (e[i].len > room || !entry_wanted(s, seg, &e[i]))
			continue;
		room -= e[i].len;
		e[kept++] = e[i];
	}
	return kept;
}

/* Copy them to the end of the log. */
static int entries_carry(struct ssd *s, const struct ssd_segment *seg, const struct ssd_entry *e,
			 uint32_t nr)
{
	struct ssd_batch *b = ssd_batch_new(s->batch_bytes);
	int r = b ? 0 : -ENOMEM;

	for (uint32_t i = 0; !r && i < nr; i++) {
		const uint8_t *data;
		void *mem;

		r = ssd_segment_read(seg, e[i].off, e[i].len, &mem, &data);
		if (r == -ENODATA) {
			r = 0;
			continue;
		}
		if (r)
			break;
		if (!ssd_batch_fits(s, b, e[i].len)) {
			r = batch_append(s, b);
			b->used = b->nr = 0;
		}
		if (!r && ssd_batch_fits(s, b, e[i].len))
			ssd_batch_add(b, e[i].key, e[i].kind, e[i].size, data, e[i].len);
		free(mem);
	}
	if (!r && b->nr)
		r = batch_append(s, b);
	ssd_batch_free(b);
	return r;
}

/* The oldest segment goes; what was of use is written again. What fails there is only lost. */
static int evict(struct ssd *s)
{
	struct ssd_segment *seg = segment_oldest(s);
	struct ssd_entry *e = NULL;
	uint32_t nr = 0;
	int r = 0;

	if (seg != s->active) {
		r = ssd_segment_entries(seg, &e, &nr);
		if (!r)
			nr = entries_keep(s, seg, e, nr);
	}
	segment_forget(s, seg);
	if (!r && nr)
		r = entries_carry(s, seg, e, nr);
	free(e);
	segment_remove(s, seg);
	return r == -ENOMEM ? 0 : r;
}

/* Dirty data needs the disk: at least so much goes, whatever it is. */
static void give_back(struct ssd *s, uint64_t bytes)
{
	struct ssd_segment *seg;
	uint64_t given = 0;

	while (given < bytes && (seg = segment_oldest(s)) != NULL) {
		given += seg->bytes;
		segment_remove(s, seg);
	}
}

/* How large the tier may be, now: its budget, or what the disk has left for it. */
static int limit_now(struct ssd *s, uint64_t *limit)
{
	/* A margin, or it would give back what it has just taken. */
	uint64_t keep = s->cfg.keep_free_bytes, more = keep + keep / 8, avail;
	struct statvfs st;

	if (fstatvfs(s->cfg.dirfd, &st) < 0)
		return -errno;
	avail = (uint64_t)st.f_bavail * st.f_frsize;
	if (avail < keep) {
		give_back(s, keep - avail);
		return -ENOSPC;
	}
	*limit = MIN(s->cfg.budget_bytes, s->bytes + (avail > more ? avail - more : 0));
	return 0;
}

/* What evict() may write before it removes anything is kept in reserve. */
static int room_make(struct ssd *s, const struct ssd_batch *b)
{
	uint64_t need = ROUND_UP(b->used, SSD_PAGE) + 3 * SSD_PAGE +
			ROUND_UP(b->nr * SSD_ENTRY_BYTES, SSD_PAGE) + s->segment_bytes / 2;
	uint64_t limit = 0;
	int r = limit_now(s, &limit);

	/* Only this thread changes the two. */
	while (!r && s->nr_segments &&
	       (s->bytes + need > limit || s->nr_segments > s->max_segments))
		r = evict(s);
	return !r && s->bytes + need > limit ? -ENOSPC : r;
}

static void batch_write(struct ssd *s, struct ssd_batch *b)
{
	int r = ssd_is_off(s) ? -ECANCELED : room_make(s, b);

	if (!r) {
		r = batch_append(s, b);
		if (!r)
			return;
		/* Who else finds the disk full has dirty data. */
		if (r == -ENOSPC || r == -EDQUOT)
			give_back(s, 1);
	}
	__atomic_fetch_add(&s->dropped, b->nr, __ATOMIC_RELAXED);
	if (r == -ENOSPC || r == -EDQUOT) {
		/* What is in the file beyond its entries is nobody's. */
		if (s->active)
			ssd_segment_seal(s->active);
		s->active = NULL;
		pthread_mutex_lock(&s->q_lock);
		s->pause_ns = now_ns() + SSD_PAUSE_NS;
		pthread_mutex_unlock(&s->q_lock);
	} else if (r != -ENOMEM && r != -ECANCELED) {
		ssd_fail(s, "a write", r);
	}
}

/* ---- what an earlier process left ---- */

static void entries_load(struct ssd *s, struct ssd_segment *seg, const struct ssd_entry *e,
			 uint32_t nr)
{
	for (uint32_t i = 0; i < nr;) {
		SCOPED_LOCK(&s->lock);

		for (uint32_t end = MIN(nr, i + SLICE); i < end; i++) {
			struct ssd_item *it = ssd_table_find(&s->table, e[i].key);

			if (it)
				ssd_table_forget(&s->table, it); /* a later one replaced it */
			(void)!ssd_table_add(&s->table, seg, &e[i]);
		}
	}
}

static void segment_adopt(struct ssd *s, uint64_t seq)
{
	struct ssd_segment *seg;
	struct ssd_entry *e;
	uint32_t nr;
	int r = ssd_segment_load(s, seq, &seg, &e, &nr);

	if (r == -EBADMSG) {
		/* Of a version that this one does not read, or torn: it would be in the way. */
		ssd_segment_unlink(s, seq);
		return;
	}
	if (r == -ENOMEM || r == -ENOENT)
		return;
	if (r) {
		ssd_fail(s, "reading what is there", r);
		return;
	}
	segment_link(s, seg);
	entries_load(s, seg, e, nr);
	free(e);
	if (!nr)
		segment_remove(s, seg);
}

static void load(struct ssd *s)
{
	struct ssd_stats st;
	uint64_t *seq = NULL;
	size_t nr = 0;
	int r = ssd_segment_list(s->cfg.dirfd, &seq, &nr);

	if (r)
		ssd_fail(s, "a look at the directory", r);
	if (nr)
		s->next_seq = seq[nr - 1] + 1;
	for (size_t i = 0;
	     i < nr && !ssd_is_off(s) && !__atomic_load_n(&s->closing, __ATOMIC_RELAXED); i++)
		segment_adopt(s, seq[i]);
	free(seq);
	/* It may have been configured smaller. */
	while (s->nr_segments && (s->bytes + s->segment_bytes / 2 > s->cfg.budget_bytes ||
				  s->nr_segments > s->max_segments))
		segment_remove(s, segment_oldest(s));
	ssd_stats_read(s, &st);
	log_info("clean cache: %llu entries, %llu of %llu MiB in %s",
		 (unsigned long long)st.entries, (unsigned long long)(st.bytes / MiB),
		 (unsigned long long)(st.budget_bytes / MiB), s->cfg.path);
}

/* ---- the thread ---- */

/* Under q_lock. *until: when it will be, 0 = not by itself. */
static bool work_is_due(const struct ssd *s, uint64_t *until)
{
	const struct ssd_batch *b = s->fill;

	*until = b->nr ? b->first_ns + GATHER_NS : 0;
	return s->stop || s->give_back || s->flush_want != s->flush_done ||
	       b->used >= s->batch_bytes / 2 || b->nr >= s->batch_entries / 2 ||
	       (*until && now_ns() >= *until);
}

void *ssd_writer_run(void *arg)
{
	struct ssd *s = arg;
	bool stop = false;

	prctl(PR_SET_NAME, "gfs-ssd-w");
	load(s);
	while (!stop) {
		uint64_t want, back, until;
		struct ssd_batch *b;

		pthread_mutex_lock(&s->q_lock);
		while (!work_is_due(s, &until))
			cond_wait_until(&s->wake, &s->q_lock, until);
		b = s->fill;
		s->fill = s->writing;
		s->writing = b;
		want = s->flush_want;
		back = s->give_back;
		s->give_back = 0;
		stop = s->stop;
		pthread_mutex_unlock(&s->q_lock);

		if (back)
			give_back(s, back);
		if (b->nr)
			batch_write(s, b);

		pthread_mutex_lock(&s->q_lock);
		b->used = b->nr = 0;
		s->flush_done = want;
		pthread_cond_broadcast(&s->done);
		pthread_mutex_unlock(&s->q_lock);
	}
	return NULL;
}
