// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Compaction: keeping the number of packs of a chunk small, and what is dead in them. Each upload
 * adds a pack to every chunk it touches; when they pile up, the upload also moves what is still
 * live in the smallest of them into its own pack, and the packs it emptied drop out of the manifest
 * (upload_pack.c). Work is proportional to the smallest packs, so large ones are moved rarely. When
 * more than half of a chunk's packs is dead the same is done to those that are more dead than live:
 * what is moved is less than what becomes free. Mutator's thread; struct index_load has its
 * own lock.
 */
#include "engine/upload_priv.h"

#include <string.h>

#define CANCEL_POLL_NS (10 * NSEC_PER_MSEC)

/* Outlives its caller if that gives up. */
struct index_load {
	int refs; /* atomic */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint32_t left;
	int res;
	struct manifest *m;
	uint32_t nr;
	struct index_wait {
		struct fetch_wait w;
		struct index_load *il;
		struct cache_buf *buf;
	} wait[];
};

static void index_load_unref(struct index_load *il)
{
	if (__atomic_sub_fetch(&il->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (uint32_t i = 0; i < il->nr; i++)
		cache_buf_put(il->wait[i].buf);
	manifest_put(il->m);
	pthread_cond_destroy(&il->cond);
	pthread_mutex_destroy(&il->lock);
	free(il);
}

static void index_load_done(struct fetch_wait *w, struct cache_buf *buf, int res)
{
	struct index_wait *iw = container_of(w, struct index_wait, w);
	struct index_load *il = iw->il;

	pthread_mutex_lock(&il->lock);
	iw->buf = buf;
	if (res && !il->res)
		il->res = res;
	if (!--il->left)
		pthread_cond_signal(&il->cond);
	pthread_mutex_unlock(&il->lock);
	index_load_unref(il);
}

int index_set_load(struct engine *e, struct manifest *m, const struct manifest_entry *first,
		   uint32_t nr, const bool *cancel, uint64_t op_id, struct index_set *out)
{
	struct index_load *il = calloc(1, sizeof(*il) + nr * sizeof(il->wait[0]));
	struct cache_buf **bufs = calloc(nr ? nr : 1, sizeof(*bufs));
	int r;

	if (!il || !bufs) {
		free(il);
		free(bufs);
		return -ENOMEM;
	}
	il->refs = 1 + (int)nr;
	il->left = nr;
	il->nr = nr;
	il->m = manifest_get(m);
	pthread_mutex_init(&il->lock, NULL);
	cond_init_mono(&il->cond);
	for (uint32_t i = 0; i < nr; i++) {
		struct index_wait *iw = &il->wait[i];
		struct cache_buf *buf;

		iw->il = il;
		iw->w = (struct fetch_wait){.done = index_load_done, .op_id = op_id};
		r = fetch_index_get(e->fetcher, m, &first[i], &iw->w, &buf);
		if (r != -EINPROGRESS)
			index_load_done(&iw->w, buf, r);
	}
	pthread_mutex_lock(&il->lock);
	while (il->left && !__atomic_load_n(cancel, __ATOMIC_ACQUIRE))
		cond_wait_until(&il->cond, &il->lock, now_ns() + CANCEL_POLL_NS);
	r = il->left ? -ECANCELED : il->res;
	for (uint32_t i = 0; !r && i < nr; i++)
		bufs[i] = cache_buf_get(il->wait[i].buf);
	pthread_mutex_unlock(&il->lock);
	index_load_unref(il);
	if (r)
		free(bufs);
	else
		*out = (struct index_set){.buf = bufs, .nr = nr};
	return r;
}

void index_set_free(struct index_set *s)
{
	for (uint32_t i = 0; i < s->nr; i++)
		cache_buf_put(s->buf[i]);
	free(s->buf);
	*s = (struct index_set){0};
}

/* ---- choice ---- */

struct candidate {
	uint32_t entry, live;
};

static int candidate_cmp(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	return a->live < b->live ? -1 : a->live > b->live;
}

/* Live blocks of each pack, newest pack first: those that no newer pack has. owner[block] = entry
 * + 1. */
static void live_count(const struct index_set *set, uint32_t *owner, struct candidate *c)
{
	for (uint32_t i = 0; i < set->nr; i++) {
		const struct pack_index *idx = fetch_index(set->buf[i]);

		c[i] = (struct candidate){.entry = i};
		for (uint32_t j = 0; j < idx->nr; j++) {
			uint32_t b = idx->e[j].block;

			if (owner[b])
				continue;
			owner[b] = i + 1;
			c[i].live++;
		}
	}
}

/* Mark the blocks that are live in entry i. */
static void fold_mark(const struct pack_index *idx, uint32_t i, const uint32_t *owner,
		      uint64_t *fold)
{
	for (uint32_t j = 0; j < idx->nr; j++)
		if (owner[idx->e[j].block] == i + 1)
			fold[idx->e[j].block / 64] |= 1ull << (idx->e[j].block % 64);
}

void fold_choose(struct engine *e, struct manifest *base, uint32_t chunk, const bool *cancel,
		 uint64_t op_id, uint64_t *fold, uint32_t *budget)
{
	uint32_t per_chunk, nr = 0, left;
	const struct manifest_entry *me;
	uint64_t stored = 0, live = 0;
	struct candidate *c;
	struct index_set set;
	uint32_t *owner;

	if (!base)
		return;
	per_chunk = (uint32_t)(CHUNK_BYTES / base->block_bytes);
	memset(fold, 0, DIV_ROUND_UP(per_chunk, 64) * sizeof(*fold));
	me = manifest_chunk(base, chunk, &nr);
	if (nr < SUPERSEDE_ENTRIES)
		return;
	c = calloc(nr, sizeof(*c));
	owner = calloc(per_chunk, sizeof(*owner));
	if (!c || !owner || index_set_load(e, base, me, nr, cancel, op_id, &set))
		goto out; /* it can wait */
	live_count(&set, owner, c);
	qsort(c, nr, sizeof(*c), candidate_cmp);
	for (uint32_t i = 0; i < nr; i++) {
		stored += me[i].nblocks;
		live += c[i].live;
	}
	left = nr;
	for (uint32_t i = 0; i < nr && c[i].live <= *budget; i++) {
		uint32_t blocks = me[c[i].entry].nblocks;

		if (!(nr >= FOLD_FROM && left > FOLD_TO) &&
		    !(2 * live < stored && 2ull * c[i].live < blocks))
			continue;
		*budget -= c[i].live;
		left--;
		fold_mark(fetch_index(set.buf[c[i].entry]), c[i].entry, owner, fold);
	}
	index_set_free(&set);
out:
	free(owner);
	free(c);
}
