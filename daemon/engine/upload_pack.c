// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Packs of an upload: blocks of one chunk are collected into packs, which are PUT in the
 * background, a few at a time, under fresh random names; at the end the base manifest and the new
 * packs make the new one. Mutator's thread only, no lock of its own.
 *
 * A pack's PUT needs no precondition to be safe, the name is ours alone; IF_NONE_MATCH makes an
 * attempt that landed unseen answer -EEXIST, which is success.
 */
#include "engine/upload_priv.h"
#include "engine/wire.h"

enum put_state { PUT_IDLE, PUT_RUNNING, PUT_PAUSED };

struct put {
	enum put_state state;
	struct store_call *c;
	size_t bytes;
	unsigned int attempt;
	uint64_t deadline_ns, retry_at_ns;
};

struct packer {
	struct volume *v;
	struct engine *e;
	struct manifest *base; /* or NULL */
	uint64_t op_id;
	uint32_t block_bytes, per_chunk; /* blocks */

	/* The chunk that is being written. */
	bool open;
	uint32_t chunk;
	const struct manifest_entry *old;
	uint32_t nr_old;
	struct index_set idx; /* of old, loaded on demand */
	uint64_t *covered;    /* bit per block: in a new pack, or zeros without any */
	uint32_t nr_covered;
	struct pack_writer *w;
	uint8_t pack_id[PACK_ID_LEN];

	/* All chunks. */
	struct manifest_entry *fresh;
	uint32_t nr_fresh, cap_fresh;
	bool *dropped; /* base entry no longer needed */
	uint32_t nr_dropped;
	uint64_t bytes, keep_bytes; /* uploaded; may still go to the clean cache */
	struct put put[PACK_PUTS];
};

static bool bit_test(const uint64_t *map, uint32_t i)
{
	return map[i / 64] >> (i % 64) & 1;
}

struct packer *packer_new(struct volume *v, struct manifest *base, uint64_t op_id)
{
	struct packer *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->v = v;
	p->e = v->e;
	p->base = manifest_get(base);
	p->op_id = op_id;
	p->block_bytes = v->root.block_bytes;
	p->per_chunk = (uint32_t)(CHUNK_BYTES / p->block_bytes);
	/* What was just written is likely to be read, but must not flush out everything else. */
	p->keep_bytes = p->e->cfg.cache_bytes / 8;
	p->covered = calloc(DIV_ROUND_UP(p->per_chunk, 64), sizeof(uint64_t));
	p->dropped = calloc(base && base->nr_entries ? base->nr_entries : 1, sizeof(bool));
	if (!p->covered || !p->dropped) {
		packer_free(p);
		return NULL;
	}
	return p;
}

void packer_free(struct packer *p)
{
	if (!p)
		return;
	for (int i = 0; i < PACK_PUTS; i++)
		store_call_put(p->put[i].c); /* one in flight goes on, or fails, by itself */
	index_set_free(&p->idx);
	pack_writer_free(p->w);
	manifest_put(p->base);
	free(p->covered);
	free(p->dropped);
	free(p->fresh);
	free(p);
}

uint64_t packer_bytes(const struct packer *p)
{
	return p->bytes;
}

/* ---- PUTs ---- */

static void put_start(struct packer *p, struct put *put)
{
	/* Twice the patience of a reader: a pack may be large and the uplink slow. */
	put->c->op.deadline_ns = MIN(put->deadline_ns, now_ns() + 2 * p->e->cfg.store_timeout_ns);
	put->c->op.attempt = ++put->attempt;
	put->state = PUT_RUNNING;
	store_call_start(put->c);
}

/* Let a PUT make progress. 0, or -errno: it failed for good. */
static int put_step(struct packer *p, struct put *put, struct fmt_err *err)
{
	uint64_t now = now_ns();
	int res;

	if (put->state == PUT_PAUSED && now >= put->retry_at_ns)
		put_start(p, put);
	if (put->state != PUT_RUNNING || !store_call_ended(put->c))
		return 0;
	res = put->c->op.res;
	if (!res || (res == -EEXIST && put->attempt > 1)) {
		p->bytes += put->bytes;
		store_call_put(put->c);
		*put = (struct put){.state = PUT_IDLE};
		return 0;
	}
	put->retry_at_ns = now + store_backoff_ns(put->attempt);
	put->state = PUT_PAUSED;
	if (put->retry_at_ns < put->deadline_ns)
		return 0;
	return fmt_fail(err, res, "PUT %s (%zu bytes): %s, after %u attempts", put->c->key,
			put->bytes, strerror(-res), put->attempt);
}

/* With the lock of all calls held. */
static bool some_put_ended(void *arg)
{
	struct packer *p = arg;

	for (int i = 0; i < PACK_PUTS; i++)
		if (p->put[i].state == PUT_RUNNING && !p->put[i].c->running)
			return true;
	return false;
}

/* Wait until a PUT slot is idle (*idle set), or with idle NULL until all are. */
static int puts_wait(struct packer *p, struct put **idle, struct fmt_err *err)
{
	for (;;) {
		uint64_t next = 0;
		bool busy = false;

		if (volume_closing(p->v))
			return fmt_fail(err, -ECANCELED, "the volume is closing");
		for (int i = 0; i < PACK_PUTS; i++) {
			struct put *put = &p->put[i];
			int r = put_step(p, put, err);

			if (r)
				return r;
			if (put->state == PUT_IDLE && idle) {
				*idle = put;
				return 0;
			}
			busy |= put->state != PUT_IDLE;
			if (put->state == PUT_PAUSED)
				next = next ? MIN(next, put->retry_at_ns) : put->retry_at_ns;
		}
		if (!busy)
			return 0;
		store_call_wait_any(next, &p->v->closing, some_put_ended, p);
	}
}

static void writer_release(void *w)
{
	pack_writer_free(w);
}

static int fresh_add(struct packer *p, const struct manifest_entry *me)
{
	if (p->nr_fresh == p->cap_fresh) {
		uint32_t cap = p->cap_fresh ? p->cap_fresh * 2 : 16;
		struct manifest_entry *fresh = realloc(p->fresh, cap * sizeof(*fresh));

		if (!fresh)
			return -ENOMEM;
		p->fresh = fresh;
		p->cap_fresh = cap;
	}
	p->fresh[p->nr_fresh++] = *me;
	return 0;
}

/* Finish the pack in p->w and send it off. */
static int pack_send(struct packer *p, struct fmt_err *err)
{
	struct manifest_entry me;
	struct store_call *c;
	struct put *put;
	const void *buf;
	size_t len;
	int r;

	r = puts_wait(p, &put, err);
	if (r)
		return r;
	r = pack_writer_finish(p->w, &buf, &len, &me);
	if (!r)
		r = fresh_add(p, &me);
	c = r ? NULL
	      : store_call_new(p->e->store, STORE_PUT, STORE_PRIO_UPLOAD, p->v->root.name,
			       p->op_id);
	if (!c)
		return fmt_fail(err, r ? r : -ENOMEM, "pack of chunk %u: %s", p->chunk,
				strerror(r ? -r : ENOMEM));
	fetch_index_add(p->e->fetcher, &me, p->block_bytes, (const uint8_t *)buf + me.index_off,
			me.index_len);
	pack_key(p->chunk, p->pack_id, c->key, sizeof(c->key));
	store_call_body(c, buf, len, p->w, writer_release);
	p->w = NULL;
	c->op.cond = STORE_IF_NONE_MATCH;
	*put = (struct put){
		.c = c, .bytes = len, .deadline_ns = now_ns() + 4 * p->e->cfg.store_timeout_ns};
	put_start(p, put);
	return 0;
}

/* ---- chunks ---- */

static int idx_need(struct packer *p, struct fmt_err *err)
{
	int r;

	if (p->idx.buf || !p->nr_old)
		return 0;
	r = index_set_load(p->e, p->base, p->old, p->nr_old, &p->v->closing, p->op_id, &p->idx);
	if (r)
		return fmt_fail(err, r, "indexes of %u packs of chunk %u are unreadable: %s",
				p->nr_old, p->chunk, strerror(-r));
	return 0;
}

enum zero_verdict {
	ZERO_NEEDED,    /* the base has data: hide it */
	ZERO_THERE,     /* the base reads as zeros, by a tombstone over data */
	ZERO_POINTLESS, /* nothing has data: needs no entry at all */
};

/* What it takes to make a block zeros, or -errno. */
static int zero_verdict(struct packer *p, uint32_t block, struct fmt_err *err)
{
	bool tombstone = false;
	int r = idx_need(p, err);

	if (r)
		return r;
	for (uint32_t i = 0; i < p->idx.nr; i++) {
		const struct pack_index_entry *e =
			pack_index_find(fetch_index(p->idx.buf[i]), block);

		if (e && e->kind != PACK_ZERO)
			return tombstone ? ZERO_THERE : ZERO_NEEDED;
		tombstone |= e != NULL;
	}
	return ZERO_POINTLESS;
}

static void cover(struct packer *p, uint32_t block)
{
	p->covered[block / 64] |= 1ull << (block % 64);
	p->nr_covered++;
}

static void old_drop(struct packer *p, uint32_t i)
{
	p->dropped[&p->old[i] - p->base->entries] = true;
	p->nr_dropped++;
}

/* True if some block of the index is not in a newer pack; adds its blocks to the covered ones. */
static bool index_useful(struct packer *p, const struct pack_index *idx)
{
	bool useful = false;

	for (uint32_t i = 0; i < idx->nr; i++) {
		uint32_t b = idx->e[i].block;

		useful |= !bit_test(p->covered, b);
		p->covered[b / 64] |= 1ull << (b % 64);
	}
	return useful;
}

/*
 * Entries of packs that can serve no block any more are left out of the new manifest. Indexes are
 * looked at only when packs have piled up; one that is unreadable now just keeps its entry.
 */
static int supersede(struct packer *p)
{
	uint64_t volume_blocks = DIV_ROUND_UP(p->v->root.size_bytes, p->block_bytes);
	uint64_t first = (uint64_t)p->chunk * p->per_chunk;
	struct fmt_err ignored;
	int r;

	if (p->nr_covered == MIN(volume_blocks - first, p->per_chunk)) {
		for (uint32_t i = 0; i < p->nr_old; i++)
			old_drop(p, i);
		return 0;
	}
	if (p->nr_old < SUPERSEDE_ENTRIES)
		return 0;
	r = idx_need(p, &ignored);
	if (r)
		return r == -ECANCELED ? r : 0;
	for (uint32_t i = 0; i < p->nr_old; i++)
		if (!index_useful(p, fetch_index(p->idx.buf[i])))
			old_drop(p, i);
	return 0;
}

static int chunk_close(struct packer *p, struct fmt_err *err)
{
	int r = 0;

	if (!p->open)
		return 0;
	if (p->w)
		r = pack_send(p, err);
	if (!r && p->nr_covered)
		r = supersede(p);
	index_set_free(&p->idx);
	memset(p->covered, 0, DIV_ROUND_UP(p->per_chunk, 64) * sizeof(uint64_t));
	p->nr_covered = 0;
	p->open = false;
	return r;
}

static void chunk_open(struct packer *p, uint32_t chunk)
{
	p->open = true;
	p->chunk = chunk;
	p->nr_old = 0;
	if (p->base)
		p->old = manifest_chunk(p->base, chunk, &p->nr_old);
}

int packer_add(struct packer *p, const struct merge_block *b, struct fmt_err *err)
{
	uint32_t chunk = (uint32_t)(b->block / p->per_chunk);
	uint32_t block = (uint32_t)(b->block % p->per_chunk);
	int r;

	if (!p->open || p->chunk != chunk) {
		r = chunk_close(p, err);
		if (r)
			return r;
		chunk_open(p, chunk);
	}
	if (b->kind == PACK_ZERO) {
		r = zero_verdict(p, block, err);
		if (r < 0)
			return r;
		if (r == ZERO_POINTLESS)
			cover(p, block); /* by nothing: no pack has to be kept for it */
		if (r == ZERO_POINTLESS || (r == ZERO_THERE && !b->folded))
			return 0;
	}
	if (p->w && pack_writer_bytes(p->w) + b->clen > PACK_BYTES_MAX) {
		r = pack_send(p, err);
		if (r)
			return r;
	}
	if (!p->w) {
		random_bytes(p->pack_id, sizeof(p->pack_id));
		p->w = pack_writer_new(p->pack_id, chunk, p->block_bytes, p->per_chunk);
		if (!p->w)
			return fmt_fail(err, -ENOMEM, "pack of chunk %u: out of memory", chunk);
	}
	r = pack_writer_add(p->w, block, b->kind, b->stored, b->clen, b->sha256);
	if (r)
		return fmt_fail(err, r, "pack of chunk %u, block %u: %s", chunk, block,
				strerror(-r));
	cover(p, block);
	if (b->kind != PACK_ZERO && !b->folded && p->keep_bytes >= p->block_bytes) {
		p->keep_bytes -= p->block_bytes;
		cache_insert(p->e->blocks, b->sha256, b->plain);
	}
	return 0;
}

/* New entries of a chunk first, then what is left of its old ones. */
static void entries_merge(const struct packer *p, struct manifest *m)
{
	uint32_t nr_base = p->base ? p->base->nr_entries : 0, b = 0, f = 0, n = 0;

	while (b < nr_base || f < p->nr_fresh) {
		bool fresh = f < p->nr_fresh &&
			     (b == nr_base || p->fresh[f].chunk <= p->base->entries[b].chunk);

		if (fresh)
			m->entries[n++] = p->fresh[f++];
		else if (p->dropped[b])
			b++;
		else
			m->entries[n++] = p->base->entries[b++];
	}
}

int packer_finish(struct packer *p, const struct root *root, uint64_t sequence,
		  struct manifest **out, struct fmt_err *err)
{
	uint32_t nr_base = p->base ? p->base->nr_entries : 0;
	struct manifest *m;
	int r = chunk_close(p, err);

	if (!r)
		r = puts_wait(p, NULL, err);
	if (r)
		return r;
	if (!p->nr_fresh && !p->nr_dropped) {
		*out = manifest_get(p->base);
		return 0;
	}
	m = manifest_alloc(nr_base - p->nr_dropped + p->nr_fresh);
	if (!m)
		return fmt_fail(err, -ENOMEM, "manifest: out of memory");
	memcpy(m->uuid, root->uuid, sizeof(m->uuid));
	m->size_bytes = root->size_bytes;
	m->block_bytes = root->block_bytes;
	m->sequence = sequence;
	entries_merge(p, m);
	*out = m;
	return 0;
}
