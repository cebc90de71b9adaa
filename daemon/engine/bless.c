// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * image_bless(): the caller's thread walks over the image in spans and puts their blocks into
 * packs, in order; the compute pool reads, hashes and compresses a window of spans at once; packs
 * are sent in the background (bless_send.c). At the end the manifest, and last the base, which
 * makes the image exist. b->lock guards span.done; a span that is not done belongs to the compute
 * pool.
 *
 * Nothing is uploaded for a name that is taken: then the image is only hashed, to be compared.
 */
#include "engine/bless_priv.h"
#include "engine/gc.h"
#include "engine/wire.h"

#include <sys/mman.h>
#include <zstd.h>

#define SPAN_BYTES \
	(256 * KiB)        /* or a block that is larger; few, so that all spans fit into a cache */
#define SPANS_MIN      24u /* in work, so that nobody runs dry while this thread waits its turn */
#define PACK_BYTES_MAX (16 * MiB) /* formats.rst: a part of what follows from content */

struct span_block {
	enum pack_block_kind kind;
	uint32_t clen;
	uint8_t sha256[SHA256_LEN];
};

struct span {
	struct pool_job job;
	struct bless *b;
	bool done;
	int res;
	uint64_t off;
	size_t len; /* less than span_bytes only at the end of the image */
	uint8_t *plain, *stored;
	struct span_block *blk;
};

struct bless {
	struct engine *e;
	const struct bless_options *o;
	struct fmt_err *err;
	uint64_t until_ns; /* gc_window_end(): when the base is sent at the latest */
	uint64_t period;   /* gc_period(): a part of the names */
	struct bless_source src;
	uint32_t block_bytes, per_chunk, per_span; /* blocks */
	size_t stored_cap, span_bytes;
	bool compare; /* the name is taken: only hash */

	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct span *span; /* ring, in order of the image */
	unsigned int nr_spans, head, used;
	uint8_t *mem;
	size_t mem_bytes;
	uint64_t next; /* offset to look at */
	bool ended;    /* nothing is left to read */

	struct content_hash *content;
	struct senders *senders;
	struct pack_writer *w;
	uint32_t chunk; /* of w */
	struct manifest_entry *entry;
	uint32_t nr_entries, cap_entries;
	struct image_progress p;
};

/* ---- spans ---- */

static int span_encode(struct span *s, uint32_t i)
{
	struct bless *b = s->b;
	const uint8_t *plain = s->plain + (size_t)i * b->block_bytes;
	struct span_block *k = &s->blk[i];

	if (!b->compare)
		return block_encode(plain, b->block_bytes, b->e->cfg.zstd_level,
				    s->stored + i * b->stored_cap, b->stored_cap, &k->kind,
				    &k->clen, k->sha256);
	k->kind = all_zero(plain, b->block_bytes) ? PACK_ZERO : PACK_RAW;
	if (k->kind != PACK_ZERO)
		hash_sha256(plain, b->block_bytes, k->sha256);
	return 0;
}

static uint32_t span_blocks(const struct span *s)
{
	return (uint32_t)DIV_ROUND_UP(s->len, s->b->block_bytes);
}

/* Compute pool. */
static void span_run(struct pool_job *job)
{
	struct span *s = container_of(job, struct span, job);
	struct bless *b = s->b;
	uint32_t nr = span_blocks(s);
	int res = b->src.stream ? 0 : source_read(&b->src, s->plain, s->len, s->off);

	memset(s->plain + s->len, 0, (size_t)nr * b->block_bytes - s->len);
	for (uint32_t i = 0; !res && i < nr; i++)
		res = span_encode(s, i);
	pthread_mutex_lock(&b->lock);
	s->res = res;
	s->done = true;
	pthread_cond_signal(&b->cond);
	pthread_mutex_unlock(&b->lock);
}

/* Where the next span is, and of a stream its bytes. 0; 1: none is left. */
static int span_locate(struct bless *b, struct span *s)
{
	ssize_t n;

	if (!b->src.stream) {
		if (!source_next(&b->src, b->next, b->span_bytes, &s->off)) {
			b->next = b->src.size;
			return 1;
		}
		s->len = (size_t)MIN(b->span_bytes, b->src.size - s->off);
		b->next = s->off + s->len;
		return 0;
	}
	n = source_stream(&b->src, s->plain, b->span_bytes);
	if (n < 0)
		return fmt_fail(b->err, (int)n, "reading the image at %llu: %s",
				(unsigned long long)b->next, strerror((int)-n));
	s->off = b->next;
	s->len = (size_t)n;
	b->next += s->len;
	if (b->next > VOLUME_BYTES_MAX)
		return fmt_fail(b->err, -EFBIG, "the image has more than %llu bytes",
				VOLUME_BYTES_MAX);
	return !n;
}

/* Keep the window full. */
static int spans_fill(struct bless *b)
{
	while (!b->ended && b->used < b->nr_spans) {
		struct span *s = &b->span[(b->head + b->used) % b->nr_spans];
		int res = span_locate(b, s);

		if (res < 0)
			return res;
		b->ended = res;
		if (res)
			break;
		s->done = false;
		s->job.run = span_run;
		b->used++;
		pool_submit(b->e->compute, &s->job);
	}
	return 0;
}

/* Wait for the oldest one and take it off the ring; it is whole until the window is filled again.
 */
static struct span *span_take(struct bless *b)
{
	struct span *s = &b->span[b->head];
	SCOPED_LOCK(&b->lock);

	while (!s->done)
		pthread_cond_wait(&b->cond, &b->lock);
	b->head = (b->head + 1) % b->nr_spans;
	b->used--;
	return s;
}

/* ---- packs ---- */

static int entry_add(struct bless *b, const struct manifest_entry *me)
{
	if (b->nr_entries == b->cap_entries) {
		uint32_t cap = b->cap_entries ? b->cap_entries * 2 : 64;
		struct manifest_entry *more = realloc(b->entry, cap * sizeof(*more));

		if (!more)
			return fmt_fail(b->err, -ENOMEM, "out of memory");
		b->entry = more;
		b->cap_entries = cap;
	}
	b->entry[b->nr_entries++] = *me;
	return 0;
}

static int pack_close(struct bless *b)
{
	struct pack_writer *w = b->w;
	struct manifest_entry me;
	const void *buf;
	size_t len;
	int res;

	if (!w)
		return 0;
	b->w = NULL;
	res = pack_writer_name(w, b->period);
	if (!res)
		res = pack_writer_finish(w, &buf, &len, &me);
	if (res)
		fmt_fail(b->err, res, "pack of chunk %u: %s", b->chunk, strerror(-res));
	else
		res = entry_add(b, &me);
	if (res) {
		pack_writer_free(w);
		return res;
	}
	return senders_send(b->senders, w, buf, len, &me, b->err);
}

static int block_add(struct bless *b, uint64_t block, const struct span_block *k,
		     const void *stored)
{
	static const uint8_t unnamed[PACK_ID_LEN];
	uint32_t chunk = (uint32_t)(block / b->per_chunk);
	int res = 0;

	if (b->w && (b->chunk != chunk || pack_writer_bytes(b->w) + k->clen > PACK_BYTES_MAX))
		res = pack_close(b);
	if (!res && !b->w) {
		b->w = pack_writer_new(unnamed, chunk, b->block_bytes, b->per_chunk);
		b->chunk = chunk;
		res = b->w ? pack_writer_reserve(b->w, PACK_BYTES_MAX + MiB) : -ENOMEM;
	}
	if (!res)
		res = pack_writer_add(b->w, (uint32_t)(block % b->per_chunk), k->kind, stored,
				      k->clen, k->sha256);
	if (res && !b->err->msg[0])
		fmt_fail(b->err, res, "block %llu: %s", (unsigned long long)block, strerror(-res));
	return res;
}

static int span_add(struct bless *b, const struct span *s)
{
	uint32_t nr = span_blocks(s);
	int res = 0;

	if (s->res)
		return fmt_fail(
			b->err, s->res, "reading the image at %llu: %s", (unsigned long long)s->off,
			s->res == -ENODATA ? "it became shorter meanwhile" : strerror(-s->res));
	for (uint32_t i = 0; !res && i < nr; i++) {
		const struct span_block *k = &s->blk[i];
		uint64_t block = s->off / b->block_bytes + i;

		if (k->kind == PACK_ZERO)
			continue;
		b->p.data_bytes += b->block_bytes;
		content_hash_add(b->content, block, k->sha256);
		if (!b->compare)
			res = block_add(b, block, k, s->stored + i * b->stored_cap);
	}
	return res;
}

static int progress(struct bless *b)
{
	if (b->senders)
		senders_progress(b->senders, &b->p);
	if (b->o->progress && b->o->progress(b->o->arg, &b->p))
		return fmt_fail(b->err, -ECANCELED, "given up");
	return 0;
}

/* ---- the whole ---- */

static int pack_all(struct bless *b)
{
	int res;

	b->p.total_bytes = b->src.size;
	for (;;) {
		struct span *s;

		res = spans_fill(b);
		if (res || !b->used)
			break;
		s = span_take(b);
		res = span_add(b, s);
		b->p.done_bytes = s->off + s->len;
		if (!res)
			res = progress(b);
		if (res)
			break;
	}
	/* What is left of the window, after an error. */
	while (b->used)
		span_take(b);
	b->p.done_bytes = b->next;
	return res;
}

/* The manifest of the packs, in the store; nothing of it for an image of zeros. */
static int manifest_make(struct bless *b, struct base *base)
{
	struct manifest *m = manifest_alloc(b->nr_entries);
	char key[STORE_KEY_MAX];
	void *buf = NULL;
	size_t len = 0;
	bool there;
	int res = -ENOMEM;

	if (m) {
		m->size_bytes = base->size_bytes;
		m->block_bytes = b->block_bytes;
		for (uint32_t i = 0; i < b->nr_entries; i++)
			m->entries[i] = b->entry[i];
		res = base_manifest_name(m, base->manifest.id);
	}
	if (!res)
		res = manifest_encode(m, &buf, &len);
	if (res) {
		manifest_put(m);
		return fmt_fail(b->err, res, "manifest of %u packs: %s", b->nr_entries,
				strerror(-res));
	}
	memcpy(base->uuid, m->uuid, sizeof(base->uuid));
	manifest_put(m);
	if (b->nr_entries) {
		memcpy(base->manifest.uuid, base->uuid, sizeof(base->uuid));
		hash_sha256(buf, len, base->manifest.sha256);
		base->manifest.bytes = len;
		manifest_key(base->uuid, base->manifest.id, key, sizeof(key));
		res = content_put(b->e, key, buf, len, &there, b->o->op_id, b->err);
		if (!res)
			*(there ? &b->p.there_bytes : &b->p.sent_bytes) += len;
	} else {
		base->manifest.id[0] = '\0';
	}
	free(buf);
	return res;
}

/* The image is read: compare it, or make it exist. `old`: what has the name. */
static int bless_end(struct bless *b, const struct base *old, struct bless_result *out)
{
	struct base *base = &out->base;
	int res = 0;

	if (!b->next)
		return fmt_fail(b->err, -EINVAL, "the image is empty");
	snprintf(base->name, sizeof(base->name), "%s", b->o->name);
	base->size_bytes = MAX(ROUND_UP(b->next, (uint64_t)SECTOR_SIZE), VOLUME_BYTES_MIN);
	base->block_bytes = b->block_bytes;
	base->created_s = wall_ns() / NSEC_PER_SEC;
	content_hash_end(b->content, base->size_bytes, b->block_bytes, base->content_sha256);
	b->content = NULL;
	if (b->compare) {
		out->there = true;
		if (memcmp(base->content_sha256, old->content_sha256, SHA256_LEN))
			return fmt_fail(
				b->err, -EEXIST,
				"image %s exists and has another content (%llu bytes, blocks of "
				"%u): take another name, or delete it: glidefs image-rm",
				old->name, (unsigned long long)old->size_bytes, old->block_bytes);
		*base = *old;
		return 0;
	}
	res = pack_close(b);
	if (!res)
		res = senders_wait(b->senders, b->err);
	senders_progress(b->senders, &b->p);
	if (!res)
		res = manifest_make(b, base);
	if (!res)
		res = base_seal(b->e, base, b->until_ns, &out->there, b->o->op_id, b->err);
	return res;
}

static void bless_free(struct bless *b)
{
	uint8_t unused[SHA256_LEN];

	if (b->content)
		content_hash_end(b->content, 0, 0, unused);
	senders_free(b->senders);
	pack_writer_free(b->w);
	free(b->entry);
	if (b->mem)
		munmap(b->mem, b->mem_bytes);
	for (unsigned int i = 0; b->span && i < b->nr_spans; i++)
		free(b->span[i].blk);
	free(b->span);
	pthread_cond_destroy(&b->cond);
	pthread_mutex_destroy(&b->lock);
}

static int bless_init(struct bless *b)
{
	size_t stored, each;
	void *mem;

	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->cond, NULL);
	b->per_chunk = (uint32_t)(CHUNK_BYTES / b->block_bytes);
	b->span_bytes = MAX(SPAN_BYTES, (size_t)b->block_bytes);
	b->per_span = (uint32_t)(b->span_bytes / b->block_bytes);
	b->stored_cap = ZSTD_compressBound(b->block_bytes);
	stored = ROUND_UP(b->per_span * b->stored_cap, (size_t)4096);
	each = b->span_bytes + (b->compare ? 0 : stored);
	b->nr_spans = MAX(SPANS_MIN, 2 * pool_threads(b->e->compute) + 1);
	b->span = calloc(b->nr_spans, sizeof(*b->span));
	b->content = content_hash_new();
	if (!b->compare)
		b->senders = senders_new(b->e, b->o->op_id);
	if (!b->span || !b->content || (!b->compare && !b->senders))
		return -ENOMEM;
	b->mem_bytes = b->nr_spans * each;
	mem = mmap(NULL, b->mem_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return -ENOMEM;
	b->mem = mem;
	for (unsigned int i = 0; i < b->nr_spans; i++) {
		struct span *s = &b->span[i];

		s->b = b;
		s->plain = b->mem + i * each;
		s->stored = s->plain + b->span_bytes;
		s->blk = calloc(b->per_span, sizeof(*s->blk));
		if (!s->blk)
			return -ENOMEM;
	}
	return 0;
}

int image_bless(struct engine *e, const struct bless_options *o, int fd, struct bless_result *out,
		struct fmt_err *err)
{
	struct bless b = {.e = e, .o = o, .err = err, .until_ns = gc_window_end(e)};
	struct base old;
	int res;

	memset(out, 0, sizeof(*out));
	err->msg[0] = '\0';
	b.block_bytes = o->block_bytes ? o->block_bytes : BLOCK_BYTES;
	if (!block_bytes_ok(b.block_bytes))
		return fmt_fail(err, -EINVAL,
				"blocks of %u bytes: a power of two from 4096 to 1048576",
				b.block_bytes);
	res = source_open(&b.src, fd, err);
	if (!res)
		res = base_load(e, o->name, o->op_id, &old, err);
	b.compare = !res;
	if (res && res != -ENOENT)
		return res;
	err->msg[0] = '\0';
	if (b.compare && o->block_bytes && o->block_bytes != old.block_bytes)
		return fmt_fail(err, -EEXIST,
				"image %s exists, with blocks of %u bytes: take another name, or "
				"delete it: glidefs image-rm",
				o->name, old.block_bytes);
	if (b.compare)
		b.block_bytes = old.block_bytes;
	res = bless_init(&b);
	if (res)
		fmt_fail(err, res, "out of memory");
	if (!res && !b.compare)
		res = gc_period(e, o->op_id, &b.period, err);
	if (!res)
		res = pack_all(&b);
	if (!res)
		res = bless_end(&b, &old, out);
	out->progress = b.p;
	bless_free(&b);
	return res;
}
