// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Read-ahead for sequential readers. Readers come from several lanes and a little out of order, so
 * a stream follows the highest block it saw and tolerates neighbours. Streams are kept per volume
 * in a small set-associative table; a reader that finds the table's lock taken goes on without.
 */
#include "engine/fetch_priv.h"

#include <string.h>

#define STREAM_SLACK  8 /* blocks a reader may be off the stream's head */
#define STREAM_RUN    2 /* blocks in order before reading ahead */
#define STREAM_WINDOW 4 /* first read-ahead; doubles up to cfg.prefetch_blocks */

static bool stream_near(const struct stream *st, const uint8_t uuid[16], uint64_t block)
{
	return st->used && block + STREAM_SLACK >= st->next && block <= st->next + STREAM_SLACK &&
	       !memcmp(st->uuid, uuid, sizeof(st->uuid));
}

/* The stream that reads here, or the least recently used way, made new. */
static struct stream *stream_get(struct fetcher *f, const struct manifest *m, uint64_t block)
{
	struct stream *set = f->stream[(m->uuid[0] ^ m->uuid[15]) % STREAM_SETS];
	struct stream *oldest = &set[0];

	for (int i = 0; i < STREAM_WAYS; i++) {
		if (stream_near(&set[i], m->uuid, block))
			return &set[i];
		if (set[i].tick < oldest->tick)
			oldest = &set[i];
	}
	memset(oldest, 0, sizeof(*oldest));
	memcpy(oldest->uuid, m->uuid, sizeof(oldest->uuid));
	oldest->used = true;
	oldest->next = block;
	return oldest;
}

static void ahead_queue(struct fetcher *f, struct manifest *m, uint64_t block, uint32_t count)
{
	struct ahead_job *job = malloc(sizeof(*job));

	if (!job)
		return;
	job->m = manifest_get(m);
	job->block = block;
	job->count = count;
	pthread_mutex_lock(&f->lock);
	if (f->nr_ahead < FETCH_AHEAD_JOBS && !f->stop) {
		f->nr_ahead++;
		list_add_tail(&job->node, &f->ahead);
		pthread_cond_signal(&f->wake);
		job = NULL;
	}
	pthread_mutex_unlock(&f->lock);
	if (job) {
		manifest_put(job->m);
		free(job);
	}
}

/* Blocks that must be missing before more are asked for: a whole GET, but no more than half. */
static uint32_t ahead_step(const struct fetcher *f, const struct manifest *m, uint32_t window)
{
	uint32_t get = MIN(f->cfg.max_get_bytes, FETCH_AHEAD_GET_MAX) / m->block_bytes;

	return MIN(get, window / 2);
}

void fetch_stream_note(struct fetcher *f, struct manifest *m, uint64_t block)
{
	uint64_t nr_blocks = DIV_ROUND_UP(m->size_bytes, m->block_bytes);
	uint64_t most = MIN(f->cfg.prefetch_blocks, f->ahead_bytes / m->block_bytes);
	uint64_t from = 0, count = 0;
	struct stream *st;

	if (pthread_mutex_trylock(&f->stream_lock))
		return;
	st = stream_get(f, m, block);
	st->tick = ++f->stream_tick;
	if (block < st->next)
		goto out; /* the same block again, or a straggler */
	st->run++;
	st->next = block + 1;
	if (st->run <= STREAM_RUN)
		goto out;
	st->ahead = MAX(st->ahead, st->next);
	if (st->window && st->ahead - st->next > st->window - ahead_step(f, m, st->window))
		goto out; /* far enough ahead */
	st->window = (uint32_t)MIN(st->window ? st->window * 2 : STREAM_WINDOW, most);
	from = st->ahead;
	count = MIN(st->next + st->window, nr_blocks);
	count = count > from ? count - from : 0;
	st->ahead += count;
out:
	pthread_mutex_unlock(&f->stream_lock);
	if (count)
		ahead_queue(f, m, from, (uint32_t)count);
}
