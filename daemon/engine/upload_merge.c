// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Blocks of a frozen layer, whole and encoded, in ascending order. The mutator's thread reads the
 * layer; bases of partly written blocks come from the fetcher, and the compute pool merges and
 * encodes, for a window of blocks at once. mg->lock guards the slots' `state` and `abandoned`; a
 * slot in state WORK belongs to the fetcher or the compute pool, in any other state to the mutator.
 */
#include "engine/upload_priv.h"

#include <string.h>
#include <zstd.h>

#define CANCEL_POLL_NS (10 * NSEC_PER_MSEC)

enum slot_state { SLOT_FREE, SLOT_WORK, SLOT_DONE };

struct slot {
	struct merge *mg;
	struct fetch_wait fetch;
	struct pool_job job;
	enum slot_state state;
	bool folded; /* the layer has nothing of it; it is moved to a new pack */
	uint64_t block;
	struct cache_buf *plain; /* reused unless somebody else keeps it too */
	struct cache_buf *base;  /* or NULL: zeros */
	void *stored;
	enum pack_block_kind kind;
	uint32_t clen;
	uint8_t sha256[SHA256_LEN];
	int res;
};

struct merge {
	int refs; /* atomic: the mutator, and each slot in work */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool abandoned;

	struct engine *e;
	struct layer *frozen;
	struct manifest *base;
	const bool *cancel; /* the mutator's only */
	uint64_t op_id, size_bytes, failed_block;
	uint32_t block_bytes;
	char volume[GFS_NAME_MAX];
	size_t stored_cap;

	uint64_t next_block;  /* to look at */
	uint64_t *fold;       /* bit per block of the chunk of next_block */
	uint32_t fold_budget; /* blocks that may still be moved */
	uint32_t head, used;  /* ring of slots in order of blocks */
	uint32_t nr_slots;
	struct slot slot[];
};

static void merge_unref(struct merge *mg)
{
	if (__atomic_sub_fetch(&mg->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (uint32_t i = 0; i < mg->nr_slots; i++) {
		cache_buf_put(mg->slot[i].plain);
		cache_buf_put(mg->slot[i].base);
		free(mg->slot[i].stored);
	}
	free(mg->fold);
	layer_put(mg->frozen);
	manifest_put(mg->base);
	pthread_cond_destroy(&mg->cond);
	pthread_mutex_destroy(&mg->lock);
	free(mg);
}

int merge_new(struct engine *e, const struct root *root, struct layer *frozen,
	      struct manifest *base, const bool *cancel, uint64_t op_id, struct merge **out)
{
	uint64_t nr = MERGE_WINDOW / root->block_bytes;
	struct merge *mg;

	nr = MIN(MAX(nr, MERGE_SLOTS_MIN), MERGE_SLOTS_MAX);
	mg = calloc(1, sizeof(*mg) + nr * sizeof(mg->slot[0]));
	if (!mg)
		return -ENOMEM;
	mg->refs = 1;
	pthread_mutex_init(&mg->lock, NULL);
	cond_init_mono(&mg->cond);
	mg->e = e;
	mg->frozen = layer_get(frozen);
	mg->base = manifest_get(base);
	mg->cancel = cancel;
	mg->op_id = op_id;
	/* What is past the end of a layer from before a grow is past the end of its base too. */
	mg->size_bytes = frozen->size_bytes;
	mg->block_bytes = root->block_bytes;
	memcpy(mg->volume, root->name, sizeof(mg->volume));
	mg->stored_cap = ZSTD_compressBound(root->block_bytes);
	mg->nr_slots = (uint32_t)nr;
	mg->fold_budget = (uint32_t)(FOLD_BYTES_MAX / root->block_bytes);
	mg->fold = calloc(DIV_ROUND_UP(CHUNK_BYTES / root->block_bytes, 64), sizeof(*mg->fold));
	if (!mg->fold) {
		merge_unref(mg);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < nr; i++) {
		mg->slot[i].mg = mg;
		mg->slot[i].stored = malloc(mg->stored_cap);
		if (!mg->slot[i].stored) {
			merge_unref(mg);
			return -ENOMEM;
		}
	}
	*out = mg;
	return 0;
}

void merge_put(struct merge *mg)
{
	if (!mg)
		return;
	pthread_mutex_lock(&mg->lock);
	mg->abandoned = true;
	pthread_mutex_unlock(&mg->lock);
	merge_unref(mg);
}

uint64_t merge_failed_block(const struct merge *mg)
{
	return mg->failed_block;
}

/* Map words of the block that lie within the volume. */
static uint32_t block_words(const struct merge *mg, uint64_t block)
{
	uint64_t off = block * mg->block_bytes;
	uint64_t len = MIN(mg->block_bytes, mg->size_bytes - off);

	return (uint32_t)DIV_ROUND_UP(len, MAP_SECTOR);
}

/* Sub-sectors of a word that lie within the volume: all but at its very end. */
static uint8_t word_inside(const struct merge *mg, uint64_t word)
{
	uint64_t left = (mg->size_bytes - word * MAP_SECTOR) / SECTOR_SIZE;

	return left >= 8 ? 0xff : (uint8_t)((1u << left) - 1);
}

/* Apply fn-like copies for each run of sub-sectors in `bits`: from src, or zeros with src NULL. */
static void sub_sectors_fill(uint8_t *dst, const uint8_t *src, uint8_t bits)
{
	for (unsigned int i = 0; i < 8; i++) {
		if (!(bits & (1u << i)))
			continue;
		if (src)
			memcpy(dst + i * SECTOR_SIZE, src + i * SECTOR_SIZE, SECTOR_SIZE);
		else
			memset(dst + i * SECTOR_SIZE, 0, SECTOR_SIZE);
	}
}

static void slot_finish(struct slot *s, int res)
{
	struct merge *mg = s->mg;

	pthread_mutex_lock(&mg->lock);
	s->res = res;
	s->state = SLOT_DONE;
	pthread_cond_signal(&mg->cond);
	pthread_mutex_unlock(&mg->lock);
	merge_unref(mg);
}

/* Compute pool: put the base where the layer has nothing, and encode. */
static void slot_encode(struct pool_job *job)
{
	struct slot *s = container_of(job, struct slot, job);
	struct merge *mg = s->mg;
	uint32_t nr = block_words(mg, s->block), per_block = mg->block_bytes / MAP_SECTOR;
	uint64_t first = s->block * per_block;
	uint8_t *p = s->plain->data;
	int res;

	for (uint32_t i = 0; i < nr; i++) {
		uint8_t inside = word_inside(mg, first + i);
		uint8_t absent = WORD_ABSENT(layer_word(mg->frozen, first + i)) & inside;
		const uint8_t *from = s->base ? s->base->data + i * MAP_SECTOR : NULL;

		sub_sectors_fill(p + i * MAP_SECTOR, from, absent);
		sub_sectors_fill(p + i * MAP_SECTOR, NULL, (uint8_t)~inside);
	}
	memset(p + (size_t)nr * MAP_SECTOR, 0, (size_t)(per_block - nr) * MAP_SECTOR);
	res = block_encode(p, mg->block_bytes, mg->e->cfg.zstd_level, s->stored, mg->stored_cap,
			   &s->kind, &s->clen, s->sha256);
	slot_finish(s, res);
}

/* Any thread: the base block arrived. */
static void slot_base_done(struct fetch_wait *w, struct cache_buf *buf, int res)
{
	struct slot *s = container_of(w, struct slot, fetch);
	struct merge *mg = s->mg;
	bool abandoned;

	s->base = buf;
	pthread_mutex_lock(&mg->lock);
	abandoned = mg->abandoned;
	pthread_mutex_unlock(&mg->lock);
	if (res || abandoned)
		slot_finish(s, res ? res : -ECANCELED);
	else
		pool_submit(mg->e->compute, &s->job);
}

/* What the layer has of the block: bits of all its words or-ed, and whether it covers the block. */
static void block_scan(const struct merge *mg, uint64_t block, uint16_t *any, bool *covered,
		       uint32_t *first_data, uint32_t *end_data)
{
	uint64_t first = block * (mg->block_bytes / MAP_SECTOR);
	uint32_t nr = block_words(mg, block);

	*any = 0;
	*covered = true;
	*first_data = *end_data = 0;
	for (uint32_t i = 0; i < nr; i++) {
		uint16_t w = layer_word(mg->frozen, first + i);

		*any |= w;
		if (WORD_ABSENT(w) & word_inside(mg, first + i))
			*covered = false;
		if (!(w & 0xff))
			continue;
		if (!*end_data)
			*first_data = i;
		*end_data = i + 1;
	}
}

/* Read the span that holds all data of the block, then blank what is zero. */
static int slot_read_layer(struct slot *s, uint32_t first_data, uint32_t end_data)
{
	struct merge *mg = s->mg;
	uint64_t first = s->block * (mg->block_bytes / MAP_SECTOR);
	uint32_t nr = block_words(mg, s->block);
	int r = 0;

	if (end_data) {
		uint64_t from = (first + first_data) * MAP_SECTOR;
		uint64_t to = MIN((first + end_data) * MAP_SECTOR, mg->size_bytes);

		r = layer_read(mg->frozen, from / SECTOR_SIZE,
			       (uint32_t)((to - from) / SECTOR_SIZE),
			       s->plain->data + (size_t)first_data * MAP_SECTOR);
	}
	for (uint32_t i = 0; !r && i < nr; i++)
		sub_sectors_fill(s->plain->data + (size_t)i * MAP_SECTOR, NULL,
				 (uint8_t)(layer_word(mg->frozen, first + i) >> 8));
	return r ? -EUCLEAN : 0;
}

/* The buffer may be written again only if the clean cache did not keep it. */
static int slot_buffer(struct slot *s)
{
	if (s->plain && __atomic_load_n(&s->plain->refs, __ATOMIC_ACQUIRE) == 1)
		return 0;
	cache_buf_put(s->plain);
	s->plain = cache_buf_new(s->mg->block_bytes);
	return s->plain ? 0 : -ENOMEM;
}

/* Start work on mg->next_block. */
static int slot_start(struct merge *mg, struct slot *s, bool folded, bool covered,
		      uint32_t first_data, uint32_t end_data)
{
	struct cache_buf *base = NULL;
	int r;

	cache_buf_put(s->base);
	s->base = NULL;
	s->block = mg->next_block;
	s->folded = folded;
	if (covered && !end_data) { /* discards may be huge: all zeros is known without looking */
		s->kind = PACK_ZERO;
		s->clen = 0;
		s->res = 0;
		s->state = SLOT_DONE;
		return 0;
	}
	r = slot_buffer(s);
	if (!r)
		r = slot_read_layer(s, first_data, end_data);
	if (r) {
		s->res = r;
		s->state = SLOT_DONE;
		return r;
	}
	s->state = SLOT_WORK;
	s->job.run = slot_encode;
	s->fetch = (struct fetch_wait){
		.done = slot_base_done, .op_id = mg->op_id, .volume = mg->volume};
	__atomic_add_fetch(&mg->refs, 1, __ATOMIC_RELAXED);
	if (!covered)
		r = fetch_block(mg->e->fetcher, mg->base, s->block, &s->fetch, &base);
	if (r == -EINPROGRESS)
		return 0;
	s->base = base;
	if (r)
		slot_finish(s, r);
	else
		pool_submit(mg->e->compute, &s->job);
	return 0;
}

/* Keep the window full. */
static void merge_fill(struct merge *mg)
{
	uint64_t nr_blocks = DIV_ROUND_UP(mg->size_bytes, mg->block_bytes);
	uint64_t per_chunk = CHUNK_BYTES / mg->block_bytes;

	while (mg->used < mg->nr_slots && mg->next_block < nr_blocks) {
		uint64_t chunk = mg->next_block / per_chunk;
		struct slot *s = &mg->slot[(mg->head + mg->used) % mg->nr_slots];
		uint64_t in_chunk = mg->next_block % per_chunk;
		uint32_t first_data, end_data;
		bool covered, folded;
		uint16_t any;

		if (!layer_chunk_used(mg->frozen, chunk)) {
			mg->next_block = (chunk + 1) * per_chunk;
			continue;
		}
		if (!in_chunk)
			fold_choose(mg->e, mg->base, (uint32_t)chunk, mg->cancel, mg->op_id,
				    mg->fold, &mg->fold_budget);
		block_scan(mg, mg->next_block, &any, &covered, &first_data, &end_data);
		folded = !any && mg->fold[in_chunk / 64] >> (in_chunk % 64) & 1;
		if (any || folded) {
			mg->used++;
			/* Of the layer's own blocks none may be missed: merge_next reports it. */
			if (slot_start(mg, s, folded, covered, first_data, end_data) && !folded)
				mg->next_block = nr_blocks;
		}
		mg->next_block++;
	}
}

static bool merge_canceled(const struct merge *mg)
{
	return __atomic_load_n(mg->cancel, __ATOMIC_ACQUIRE);
}

/* Wait for the oldest slot and take it off the ring. NULL: canceled. */
static struct slot *slot_take(struct merge *mg)
{
	struct slot *s = &mg->slot[mg->head];

	pthread_mutex_lock(&mg->lock);
	while (s->state == SLOT_WORK && !merge_canceled(mg))
		cond_wait_until(&mg->cond, &mg->lock, now_ns() + CANCEL_POLL_NS);
	pthread_mutex_unlock(&mg->lock);
	if (merge_canceled(mg))
		return NULL;
	mg->head = (mg->head + 1) % mg->nr_slots;
	mg->used--;
	return s;
}

int merge_next(struct merge *mg, struct merge_block *out)
{
	struct slot *s;

	do {
		merge_fill(mg);
		if (!mg->used)
			return 0;
		s = slot_take(mg);
		if (!s)
			return -ECANCELED;
		/* What cannot be moved just stays where it is. */
	} while (s->res && s->folded);
	if (s->res) {
		mg->failed_block = s->block;
		return s->res;
	}
	*out = (struct merge_block){.block = s->block,
				    .folded = s->folded,
				    .kind = s->kind,
				    .stored = s->stored,
				    .clen = s->clen,
				    .plain = s->plain};
	memcpy(out->sha256, s->sha256, SHA256_LEN);
	return 1;
}
