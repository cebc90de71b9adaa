// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Packs: blocks of one chunk, one after the other, behind a header and before an index section and
 * a trailer. The writer builds one in memory and belongs to one thread; a parsed index is
 * immutable.
 *
 * Readers come from the manifest, which has place, length and hash of the index section; the
 * trailer lets a pack that no manifest describes be read from its end.
 */
#include "engine/wire.h"

#define VERSION        1
#define HEAD_MAGIC     "GFSPACK\0"
#define INDEX_MAGIC    "GFSPKIDX"
#define TRAILER_MAGIC  "GFSPKEND"
#define HEAD_BYTES     48
#define INDEX_HEAD     48
#define ENTRY_BYTES    48
#define HASH_SHA256_ID 1

/* Header of the pack and of its index section: the same fields. */
enum {
	H_VERSION = 8,
	H_HASH = 12,
	H_PACK_ID = 16,
	H_CHUNK = 32,
	H_BLOCK_BYTES = 36,
	H_SUM = 40,      /* pack: XXH3 of the bytes before */
	H_NR = 40,       /* index */
	H_RESERVED = 44, /* index */
};

enum {
	E_BLOCK = 0,
	E_KIND = 4,
	E_PAD = 5,
	E_OFF = 8,
	E_CLEN = 12,
	E_SHA256 = 16,
};

enum {
	T_VERSION = 8,
	T_INDEX_LEN = 12,
	T_INDEX_OFF = 16,
	T_NR = 24,
	T_CHUNK = 28,
	T_PACK_ID = 32,
	T_INDEX_SHA256 = 48,
	T_SUM = 80,
};

_Static_assert(H_SUM + 8 == HEAD_BYTES && H_RESERVED + 4 == INDEX_HEAD, "header layouts");
_Static_assert(H_PACK_ID + PACK_ID_LEN == H_CHUNK, "pack id");
_Static_assert(E_SHA256 + SHA256_LEN == ENTRY_BYTES, "entry layout");
_Static_assert(ENTRY_BYTES <= INDEX_HEAD, "pack_writer_name's buffer");
_Static_assert(T_PACK_ID + PACK_ID_LEN == T_INDEX_SHA256, "trailer layout");
_Static_assert(T_INDEX_SHA256 + SHA256_LEN == T_SUM, "trailer layout");
_Static_assert(T_SUM + 8 == PACK_TRAILER_BYTES, "trailer layout");

struct pack_writer {
	uint8_t pack_id[PACK_ID_LEN];
	uint32_t chunk, block_bytes;
	uint32_t nr, cap_blocks;
	bool finished;
	uint8_t *buf;
	size_t len, cap;
	struct pack_index_entry *e;
};

uint64_t pack_index_bytes(uint32_t nr)
{
	return INDEX_HEAD + (uint64_t)nr * ENTRY_BYTES;
}

/* Room for n more bytes at w->len. */
static int writer_reserve(struct pack_writer *w, size_t n)
{
	size_t need = w->len + n, cap = w->cap;
	uint8_t *buf;

	if (need <= cap)
		return 0;
	while (cap < need)
		cap += cap / 2 + 64 * KiB;
	buf = realloc(w->buf, cap);
	if (!buf)
		return -ENOMEM;
	w->buf = buf;
	w->cap = cap;
	return 0;
}

static void head_put(const struct pack_writer *w, uint8_t *p, const char *magic)
{
	memcpy(p, magic, 8);
	put_le32(p, H_VERSION, VERSION);
	put_le32(p, H_HASH, HASH_SHA256_ID);
	memcpy(p + H_PACK_ID, w->pack_id, PACK_ID_LEN);
	put_le32(p, H_CHUNK, w->chunk);
	put_le32(p, H_BLOCK_BYTES, w->block_bytes);
}

struct pack_writer *pack_writer_new(const uint8_t pack_id[PACK_ID_LEN], uint32_t chunk,
				    uint32_t block_bytes, uint32_t cap_blocks)
{
	struct pack_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	memcpy(w->pack_id, pack_id, PACK_ID_LEN);
	w->chunk = chunk;
	w->block_bytes = block_bytes;
	w->cap_blocks = cap_blocks;
	w->e = calloc(cap_blocks ? cap_blocks : 1, sizeof(*w->e));
	if (!w->e || writer_reserve(w, HEAD_BYTES)) {
		pack_writer_free(w);
		return NULL;
	}
	head_put(w, w->buf, HEAD_MAGIC);
	put_le64(w->buf, H_SUM, hash_xxh3(w->buf, H_SUM));
	w->len = HEAD_BYTES;
	return w;
}

int pack_writer_reserve(struct pack_writer *w, size_t bytes)
{
	uint8_t *buf = bytes > w->cap ? realloc(w->buf, bytes) : w->buf;

	if (!buf)
		return -ENOMEM;
	w->buf = buf;
	w->cap = MAX(w->cap, bytes);
	return 0;
}

void pack_writer_free(struct pack_writer *w)
{
	if (!w)
		return;
	free(w->buf);
	free(w->e);
	free(w);
}

size_t pack_writer_bytes(const struct pack_writer *w)
{
	return w->len;
}

uint32_t pack_writer_blocks(const struct pack_writer *w)
{
	return w->nr;
}

/* The stored length that each kind may have. */
static bool clen_ok(unsigned int kind, uint32_t clen, uint32_t block_bytes)
{
	switch (kind) {
	case PACK_ZERO:
		return clen == 0;
	case PACK_RAW:
		return clen == block_bytes;
	case PACK_ZSTD:
		return clen > 0 && clen < block_bytes;
	default:
		return false;
	}
}

int pack_writer_add(struct pack_writer *w, uint32_t block, enum pack_block_kind kind,
		    const void *data, uint32_t clen, const uint8_t sha256[SHA256_LEN])
{
	struct pack_index_entry *e;
	int r;

	if (w->finished || w->nr == w->cap_blocks || !block_bytes_ok(w->block_bytes) ||
	    block >= CHUNK_BYTES / w->block_bytes || (w->nr && block <= w->e[w->nr - 1].block) ||
	    !clen_ok(kind, clen, w->block_bytes))
		return -EINVAL;
	r = writer_reserve(w, clen);
	if (r)
		return r;
	e = &w->e[w->nr++];
	e->block = block;
	e->kind = (uint8_t)kind;
	if (kind == PACK_ZERO)
		return 0;
	e->off = (uint32_t)w->len;
	e->clen = clen;
	memcpy(e->sha256, sha256, SHA256_LEN);
	memcpy(w->buf + w->len, data, clen);
	w->len += clen;
	return 0;
}

static void index_entry_put(const struct pack_index_entry *e, uint8_t *q)
{
	put_le32(q, E_BLOCK, e->block);
	put_le32(q, E_KIND, e->kind); /* and the padding behind it */
	put_le32(q, E_OFF, e->off);
	put_le32(q, E_CLEN, e->clen);
	memcpy(q + E_SHA256, e->sha256, SHA256_LEN);
}

static void index_put(const struct pack_writer *w, uint8_t *p)
{
	head_put(w, p, INDEX_MAGIC);
	put_le32(p, H_NR, w->nr);
	put_le32(p, H_RESERVED, 0);
	for (uint32_t i = 0; i < w->nr; i++)
		index_entry_put(&w->e[i], p + INDEX_HEAD + (size_t)i * ENTRY_BYTES);
}

int pack_writer_name(struct pack_writer *w, uint64_t period)
{
	struct hash_stream *h = hash_stream_new();
	uint8_t sum[SHA256_LEN], p[INDEX_HEAD] = {0};

	if (!h)
		return -ENOMEM;
	memset(w->pack_id, 0, PACK_ID_LEN);
	put_le64(w->pack_id, 0, period);
	head_put(w, p, INDEX_MAGIC);
	put_le32(p, H_NR, w->nr);
	hash_stream_add(h, p, INDEX_HEAD);
	for (uint32_t i = 0; i < w->nr; i++) {
		index_entry_put(&w->e[i], p);
		hash_stream_add(h, p, ENTRY_BYTES);
	}
	hash_stream_end(h, sum);
	memcpy(w->pack_id, sum, PACK_ID_LEN);
	head_put(w, w->buf, HEAD_MAGIC);
	put_le64(w->buf, H_SUM, hash_xxh3(w->buf, H_SUM));
	return 0;
}

int pack_writer_finish(struct pack_writer *w, const void **buf, size_t *len,
		       struct manifest_entry *entry)
{
	uint64_t index_len = pack_index_bytes(w->nr);
	uint8_t *t;
	int r;

	if (!w->nr || w->finished)
		return -EINVAL;
	r = writer_reserve(w, index_len + PACK_TRAILER_BYTES);
	if (r)
		return r;
	memset(entry, 0, sizeof(*entry));
	entry->chunk = w->chunk;
	entry->nblocks = w->nr;
	memcpy(entry->pack_id, w->pack_id, PACK_ID_LEN);
	entry->index_off = w->len;
	entry->index_len = (uint32_t)index_len;
	index_put(w, w->buf + w->len);
	hash_sha256(w->buf + w->len, index_len, entry->index_sha256);

	t = w->buf + w->len + index_len;
	memcpy(t, TRAILER_MAGIC, 8);
	put_le32(t, T_VERSION, VERSION);
	put_le32(t, T_INDEX_LEN, entry->index_len);
	put_le64(t, T_INDEX_OFF, entry->index_off);
	put_le32(t, T_NR, w->nr);
	put_le32(t, T_CHUNK, w->chunk);
	memcpy(t + T_PACK_ID, w->pack_id, PACK_ID_LEN);
	memcpy(t + T_INDEX_SHA256, entry->index_sha256, SHA256_LEN);
	put_le64(t, T_SUM, hash_xxh3(t, T_SUM));
	w->finished = true;
	*buf = w->buf;
	*len = w->len + index_len + PACK_TRAILER_BYTES;
	return 0;
}

int pack_trailer_parse(const void *buf, uint64_t object_bytes, struct manifest_entry *entry,
		       struct fmt_err *e)
{
	const uint8_t *t = buf;
	int r = wire_head_check(t, PACK_TRAILER_BYTES, PACK_TRAILER_BYTES, TRAILER_MAGIC, VERSION,
				"pack trailer", e);

	if (r)
		return r;
	if (get_le64(t, T_SUM) != hash_xxh3(t, T_SUM))
		return fmt_fail(e, -EBADMSG, "pack trailer: checksum is wrong");
	memset(entry, 0, sizeof(*entry));
	entry->chunk = get_le32(t, T_CHUNK);
	entry->nblocks = get_le32(t, T_NR);
	memcpy(entry->pack_id, t + T_PACK_ID, PACK_ID_LEN);
	entry->index_off = get_le64(t, T_INDEX_OFF);
	entry->index_len = get_le32(t, T_INDEX_LEN);
	memcpy(entry->index_sha256, t + T_INDEX_SHA256, SHA256_LEN);
	if (!entry->nblocks || entry->index_len != pack_index_bytes(entry->nblocks) ||
	    entry->index_off > UINT32_MAX ||
	    entry->index_off + entry->index_len + PACK_TRAILER_BYTES != object_bytes)
		return fmt_fail(e, -EBADMSG, "pack trailer: index of %u blocks at %llu+%u of %llu",
				entry->nblocks, (unsigned long long)entry->index_off,
				entry->index_len, (unsigned long long)object_bytes);
	return 0;
}

/* `end`: where the entry before ended. Stored blocks follow each other in the order of the blocks.
 */
static int index_entry_check(const struct pack_index *idx, uint32_t i, uint64_t end,
			     uint64_t index_off, struct fmt_err *e)
{
	const struct pack_index_entry *en = &idx->e[i];
	const char *what = NULL;

	if (en->block >= CHUNK_BYTES / idx->block_bytes)
		what = "block past the end of the chunk";
	else if (i && en->block <= en[-1].block)
		what = "blocks out of order";
	else if (!clen_ok(en->kind, en->clen, idx->block_bytes))
		what = "kind or length";
	else if (!all_zero(en->pad, sizeof(en->pad)))
		what = "padding";
	else if (en->kind == PACK_ZERO && (en->off || !all_zero(en->sha256, SHA256_LEN)))
		what = "tombstone";
	else if (en->kind != PACK_ZERO &&
		 (en->off < end || (uint64_t)en->off + en->clen > index_off))
		what = "place";
	if (!what)
		return 0;
	return fmt_fail(e, -EBADMSG, "pack index: entry %u (block %u, kind %u, %u+%u): bad %s", i,
			en->block, en->kind, en->off, en->clen, what);
}

static int index_frame_check(const uint8_t *p, size_t len, const struct manifest_entry *want,
			     uint32_t block_bytes, struct fmt_err *e)
{
	uint8_t sum[SHA256_LEN];
	int r;

	if (len != want->index_len || len != pack_index_bytes(want->nblocks))
		return fmt_fail(e, len < want->index_len ? -ENODATA : -EBADMSG,
				"pack index: %zu bytes, the manifest says %u for %u blocks", len,
				want->index_len, want->nblocks);
	hash_sha256(p, len, sum);
	if (memcmp(sum, want->index_sha256, SHA256_LEN))
		return fmt_fail(e, -EBADMSG, "pack index: hash differs from the manifest's");
	r = wire_head_check(p, len, INDEX_HEAD, INDEX_MAGIC, VERSION, "pack index", e);
	if (r)
		return r;
	if (get_le32(p, H_HASH) != HASH_SHA256_ID)
		return fmt_fail(e, -EPROTONOSUPPORT, "pack index: hash algorithm %u",
				get_le32(p, H_HASH));
	if (memcmp(p + H_PACK_ID, want->pack_id, PACK_ID_LEN) ||
	    get_le32(p, H_CHUNK) != want->chunk || get_le32(p, H_NR) != want->nblocks ||
	    get_le32(p, H_BLOCK_BYTES) != block_bytes || get_le32(p, H_RESERVED))
		return fmt_fail(e, -EBADMSG,
				"pack index: chunk %u, %u blocks of %u bytes; expected %u, %u, %u",
				get_le32(p, H_CHUNK), get_le32(p, H_NR), get_le32(p, H_BLOCK_BYTES),
				want->chunk, want->nblocks, block_bytes);
	return 0;
}

int pack_index_parse(const void *buf, size_t len, const struct manifest_entry *want,
		     uint32_t block_bytes, struct pack_index **out, struct fmt_err *e)
{
	const uint8_t *p = buf;
	uint64_t end = HEAD_BYTES;
	struct pack_index *idx;
	int r;

	*out = NULL;
	if (!block_bytes_ok(block_bytes))
		return fmt_fail(e, -EBADMSG, "pack index: block size %u", block_bytes);
	r = index_frame_check(p, len, want, block_bytes, e);
	if (r)
		return r;
	idx = calloc(1, sizeof(*idx) + (size_t)want->nblocks * sizeof(idx->e[0]));
	if (!idx)
		return fmt_fail(e, -ENOMEM, "pack index: no memory for %u blocks", want->nblocks);
	idx->refs = 1;
	memcpy(idx->pack_id, want->pack_id, PACK_ID_LEN);
	idx->chunk = want->chunk;
	idx->block_bytes = block_bytes;
	idx->nr = want->nblocks;
	for (uint32_t i = 0; i < idx->nr; i++) {
		const uint8_t *q = p + INDEX_HEAD + (size_t)i * ENTRY_BYTES;
		struct pack_index_entry *en = &idx->e[i];

		en->block = get_le32(q, E_BLOCK);
		en->kind = q[E_KIND];
		memcpy(en->pad, q + E_PAD, sizeof(en->pad));
		en->off = get_le32(q, E_OFF);
		en->clen = get_le32(q, E_CLEN);
		memcpy(en->sha256, q + E_SHA256, SHA256_LEN);
		r = index_entry_check(idx, i, end, want->index_off, e);
		if (r) {
			free(idx);
			return r;
		}
		if (en->kind != PACK_ZERO)
			end = (uint64_t)en->off + en->clen;
	}
	*out = idx;
	return 0;
}

const struct pack_index_entry *pack_index_find(const struct pack_index *idx, uint32_t block)
{
	uint32_t lo = 0, hi = idx->nr;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (idx->e[mid].block == block)
			return &idx->e[mid];
		if (idx->e[mid].block < block)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

void pack_key(uint32_t chunk, const uint8_t pack_id[PACK_ID_LEN], char *key, size_t len)
{
	char hex[2 * PACK_ID_LEN + 1];

	hex_encode(pack_id, PACK_ID_LEN, hex);
	snprintf(key, len, "chunks/%u/%s.pack", chunk, hex);
}
