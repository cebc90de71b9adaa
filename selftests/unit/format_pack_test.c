// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the pack's format and of the stored form of blocks. */
#include "format_test.h"

#include <zstd.h>

#define BB         4096u /* small blocks keep the exhaustive attacks short */
#define CHUNK      5u
#define HEAD_BYTES 48
#define ENTRY      48

static const uint8_t pack_id[PACK_ID_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* Blocks of the sample pack, by how they are filled. */
enum fill { ZEROS, TEXT, NOISE };
static const struct {
	uint32_t block;
	enum fill fill;
	enum pack_block_kind kind;
} blocks[] = {
	{0, TEXT, PACK_ZSTD},
	{1, ZEROS, PACK_ZERO},
	{9, NOISE, PACK_RAW},
	{CHUNK_BYTES / BB - 1, TEXT, PACK_ZSTD},
};

static void fill(uint8_t *p, enum fill f, uint32_t seed)
{
	struct rng r = {seed * 77 + 1};

	memset(p, 0, BB);
	if (f == NOISE)
		rng_fill(&r, p, BB);
	for (uint32_t i = 0; f == TEXT && i < BB; i++)
		p[i] = (uint8_t)('a' + (i / 64 + seed) % 26);
}

struct sample {
	struct pack_writer *w;
	const void *buf;
	size_t len;
	struct manifest_entry entry;
};

static struct sample sample(void)
{
	struct sample s = {.w = pack_writer_new(pack_id, CHUNK, BB, ARRAY_SIZE(blocks))};
	size_t cap = ZSTD_compressBound(BB), bytes;
	uint8_t data[BB], *out = malloc(cap);

	assert_non_null(s.w);
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
		enum pack_block_kind kind;
		uint8_t sha[SHA256_LEN];
		uint32_t clen;

		fill(data, blocks[i].fill, blocks[i].block);
		assert_int_equal(block_encode(data, BB, 3, out, cap, &kind, &clen, sha), 0);
		assert_int_equal(kind, blocks[i].kind);
		bytes = pack_writer_bytes(s.w);
		assert_int_equal(pack_writer_add(s.w, blocks[i].block, kind,
						 kind == PACK_ZERO ? NULL : out, clen, sha),
				 0);
		assert_int_equal(pack_writer_bytes(s.w), bytes + clen);
		assert_int_equal(pack_writer_blocks(s.w), i + 1);
	}
	free(out);
	assert_int_equal(pack_writer_finish(s.w, &s.buf, &s.len, &s.entry), 0);
	return s;
}

static const void *index_of(const struct sample *s)
{
	return (const uint8_t *)s->buf + s->entry.index_off;
}

static void every_block_is_read_back(void **state)
{
	struct sample s = sample();
	struct pack_index *idx;
	uint8_t want[BB], is[BB];
	struct fmt_err e;

	assert_int_equal(s.entry.chunk, CHUNK);
	assert_int_equal(s.entry.nblocks, ARRAY_SIZE(blocks));
	assert_int_equal(s.len, s.entry.index_off + s.entry.index_len + PACK_TRAILER_BYTES);
	assert_int_equal(pack_index_parse(index_of(&s), s.entry.index_len, &s.entry, BB, &idx, &e),
			 0);
	assert_int_equal(idx->refs, 1);
	assert_int_equal(idx->nr, ARRAY_SIZE(blocks));
	assert_int_equal(idx->chunk, CHUNK);
	assert_int_equal(idx->block_bytes, BB);
	assert_memory_equal(idx->pack_id, pack_id, PACK_ID_LEN);
	for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
		const struct pack_index_entry *en = pack_index_find(idx, blocks[i].block);

		assert_non_null(en);
		assert_int_equal(en->kind, blocks[i].kind);
		fill(want, blocks[i].fill, blocks[i].block);
		memset(is, 0xee, sizeof(is));
		assert_int_equal(block_decode(en, (const uint8_t *)s.buf + en->off, is, BB), 0);
		assert_memory_equal(is, want, BB);
	}
	assert_null(pack_index_find(idx, 2));
	assert_null(pack_index_find(idx, 10));
	assert_null(pack_index_find(idx, UINT32_MAX));
	free(idx);
	pack_writer_free(s.w);
}

static void trailer_says_what_the_manifest_says(void **state)
{
	struct sample s = sample();
	struct manifest_entry en;
	struct fmt_err e;
	const uint8_t *t = (const uint8_t *)s.buf + s.len - PACK_TRAILER_BYTES;
	uint8_t bad[PACK_TRAILER_BYTES];

	assert_int_equal(pack_trailer_parse(t, s.len, &en, &e), 0);
	assert_memory_equal(&en, &s.entry, sizeof(en));
	assert_int_equal(pack_trailer_parse(t, s.len - 1, &en, &e), -EBADMSG);
	for (size_t bit = 0; bit < 8 * sizeof(bad); bit++) {
		memcpy(bad, t, sizeof(bad));
		bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
		e.msg[0] = '\0';
		assert_int_not_equal(pack_trailer_parse(bad, s.len, &en, &e), 0);
		assert_true(e.msg[0]);
	}
	memcpy(bad, t, sizeof(bad));
	bad[8] = 2;
	assert_int_equal(pack_trailer_parse(bad, s.len, &en, &e), -EPROTONOSUPPORT);
	pack_writer_free(s.w);
}

static void writer_refuses_what_the_parser_would(void **state)
{
	struct pack_writer *w = pack_writer_new(pack_id, CHUNK, BB, 3);
	struct manifest_entry entry;
	uint8_t data[BB] = {1}, sha[SHA256_LEN] = {0};
	const void *buf;
	size_t len;

	assert_int_equal(pack_writer_finish(w, &buf, &len, &entry), -EINVAL);
	assert_int_equal(pack_writer_add(w, CHUNK_BYTES / BB, PACK_RAW, data, BB, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 4, PACK_RAW, data, BB - 1, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 4, PACK_ZSTD, data, BB, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 4, PACK_ZSTD, data, 0, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 4, PACK_ZERO, data, 1, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 4, (enum pack_block_kind)3, data, 1, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 4, PACK_RAW, data, BB, sha), 0);
	assert_int_equal(pack_writer_add(w, 4, PACK_RAW, data, BB, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 3, PACK_ZERO, NULL, 0, sha), -EINVAL);
	assert_int_equal(pack_writer_add(w, 5, PACK_ZERO, NULL, 0, NULL), 0);
	assert_int_equal(pack_writer_add(w, 6, PACK_RAW, data, BB, sha), 0);
	assert_int_equal(pack_writer_add(w, 7, PACK_RAW, data, BB, sha), -EINVAL);
	assert_int_equal(pack_writer_finish(w, &buf, &len, &entry), 0);
	assert_int_equal(pack_writer_finish(w, &buf, &len, &entry), -EINVAL);
	assert_int_equal(pack_writer_add(w, 8, PACK_ZERO, NULL, 0, NULL), -EINVAL);
	pack_writer_free(w);
	pack_writer_free(NULL);
}

/* A chunk's worth of blocks in one pack. */
static void full_pack_round_trips(void **state)
{
	const uint32_t nr = CHUNK_BYTES / BB;
	struct pack_writer *w = pack_writer_new(pack_id, 0, BB, nr);
	struct manifest_entry entry;
	struct pack_index *idx;
	uint8_t sha[SHA256_LEN];
	struct fmt_err e;
	const void *buf;
	size_t len;

	for (uint32_t i = 0; i < nr; i++) {
		memset(sha, (int)i, sizeof(sha));
		assert_int_equal(pack_writer_add(w, i, PACK_ZSTD, &i, sizeof(i), sha), 0);
	}
	assert_int_equal(pack_writer_finish(w, &buf, &len, &entry), 0);
	assert_int_equal(pack_index_parse((const uint8_t *)buf + entry.index_off, entry.index_len,
					  &entry, BB, &idx, &e),
			 0);
	for (uint32_t i = 0; i < nr; i++) {
		const struct pack_index_entry *en = pack_index_find(idx, i);

		assert_int_equal(en->block, i);
		assert_memory_equal((const uint8_t *)buf + en->off, &i, sizeof(i));
	}
	free(idx);
	pack_writer_free(w);
}

/* The manifest entry the parser under attack is given, fixed by each test. */
static struct manifest_entry trusted;
static struct sample attacked;

static int parse_index(const void *buf, size_t len, void **again, size_t *again_len,
		       struct fmt_err *e)
{
	struct pack_index *idx;
	int r = pack_index_parse(buf, len, &trusted, BB, &idx, e);

	if (r) {
		assert_null(idx);
		return r;
	}
	free(idx);
	*again = malloc(len);
	*again_len = len;
	memcpy(*again, buf, len);
	return 0;
}

/* As parse_index, but as if the hash in the manifest were the attacker's: only structure defends.
 */
static int parse_index_rehashed(const void *buf, size_t len, void **again, size_t *again_len,
				struct fmt_err *e)
{
	hash_sha256(buf, len, trusted.index_sha256);
	return parse_index(buf, len, again, again_len, e);
}

static void damage_is_refused(void **state)
{
	attacked = sample();
	trusted = attacked.entry;
	attack_truncation(parse_index, index_of(&attacked), trusted.index_len);
	attack_extension(parse_index, index_of(&attacked), trusted.index_len);
	attack_bit_flips(parse_index, index_of(&attacked), trusted.index_len);
	attack_garbage(parse_index, index_of(&attacked), trusted.index_len, 3000);
	pack_writer_free(attacked.w);
}

static void put32(uint8_t *p, size_t off, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[off + i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get32(const uint8_t *p, size_t off)
{
	return p[off] | p[off + 1] << 8 | p[off + 2] << 16 | (uint32_t)p[off + 3] << 24;
}

static void well_signed_nonsense_is_refused(void **state)
{
	static const struct {
		size_t off;
		uint32_t v;
		int want;
	} t[] = {
		{0, 0, -EBADMSG},         /* magic */
		{8, 2, -EPROTONOSUPPORT}, /* version */
		{8, 0, -EBADMSG},
		{12, 2, -EPROTONOSUPPORT}, /* hash algorithm */
		{16, 0, -EBADMSG},         /* another pack's */
		{32, CHUNK + 1, -EBADMSG}, /* another chunk's */
		{36, 2 * BB, -EBADMSG},    /* block size */
		{40, 3, -EBADMSG},         /* number of blocks */
		{44, 1, -EBADMSG},         /* reserved */
		{48, 1, -EBADMSG},         /* entry 0: block repeats */
		{48, 2, -EBADMSG},         /* out of order */
		{48 + 3 * ENTRY, CHUNK_BYTES / BB, -EBADMSG},
		{48 + 4, PACK_RAW, -EBADMSG},  /* with another length than a block's */
		{48 + 4, PACK_ZERO, -EBADMSG}, /* with bytes */
		{48 + 4, 3, -EBADMSG},
		{48 + 4, PACK_ZSTD | 0x100, -EBADMSG}, /* padding */
		{48 + 8, 47, -EBADMSG},                /* within the header */
		{48 + 8, UINT32_MAX, -EBADMSG},
		{48 + 12, 0, -EBADMSG},
		{48 + 12, BB, -EBADMSG},
		{48 + 12, UINT32_MAX, -EBADMSG},
		{48 + ENTRY + 8, 48, -EBADMSG},        /* a tombstone has no place */
		{48 + ENTRY + 16, 1, -EBADMSG},        /* and no hash */
		{48 + 2 * ENTRY + 8, 48, -EBADMSG},    /* overlaps the block before */
		{48 + 3 * ENTRY + 12, 4000, -EBADMSG}, /* reaches into the index */
	};
	struct pack_index *idx;
	struct fmt_err e;

	attacked = sample();
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		uint8_t *p = malloc(attacked.entry.index_len);
		int r;

		trusted = attacked.entry;
		memcpy(p, index_of(&attacked), trusted.index_len);
		put32(p, t[i].off, t[i].v);
		hash_sha256(p, trusted.index_len, trusted.index_sha256);
		e.msg[0] = '\0';
		r = pack_index_parse(p, trusted.index_len, &trusted, BB, &idx, &e);
		if (r != t[i].want)
			print_message("offset %zu: %d: %s\n", t[i].off, r, e.msg);
		assert_int_equal(r, t[i].want);
		assert_true(e.msg[0]);
		free(p);
	}
	pack_writer_free(attacked.w);
}

/* Whatever an index says, what it accepts lies within the pack. */
static void accepted_entries_stay_in_bounds(void **state)
{
	struct rng rng = rng_new();
	uint8_t *p;

	attacked = sample();
	p = malloc(attacked.entry.index_len);
	for (int i = 0; i < 20000; i++) {
		struct pack_index *idx;
		struct fmt_err e;

		trusted = attacked.entry;
		memcpy(p, index_of(&attacked), trusted.index_len);
		for (uint64_t n = rng_next(&rng) % 4 + 1; n; n--)
			p[HEAD_BYTES + rng_next(&rng) % (trusted.index_len - HEAD_BYTES)] ^=
				(uint8_t)rng_next(&rng);
		hash_sha256(p, trusted.index_len, trusted.index_sha256);
		if (pack_index_parse(p, trusted.index_len, &trusted, BB, &idx, &e))
			continue;
		for (uint32_t k = 0; k < idx->nr; k++) {
			const struct pack_index_entry *en = &idx->e[k];
			uint8_t out[BB];

			assert_true(en->block < CHUNK_BYTES / BB);
			assert_true((uint64_t)en->off + en->clen <= trusted.index_off);
			assert_true(en->clen <= BB);
			(void)!block_decode(en, (const uint8_t *)attacked.buf + en->off, out, BB);
		}
		free(idx);
	}
	trusted = attacked.entry;
	attack_truncation(parse_index_rehashed, index_of(&attacked), trusted.index_len);
	free(p);
	pack_writer_free(attacked.w);
}

static void manifest_entry_of_another_pack_is_refused(void **state)
{
	struct sample s = sample();
	struct pack_index *idx;
	struct manifest_entry en;
	struct fmt_err e;

	en = s.entry;
	en.pack_id[0] ^= 1;
	assert_int_equal(pack_index_parse(index_of(&s), en.index_len, &en, BB, &idx, &e), -EBADMSG);
	en = s.entry;
	en.chunk++;
	assert_int_equal(pack_index_parse(index_of(&s), en.index_len, &en, BB, &idx, &e), -EBADMSG);
	en = s.entry;
	en.nblocks++;
	assert_int_equal(pack_index_parse(index_of(&s), en.index_len, &en, BB, &idx, &e), -EBADMSG);
	en = s.entry;
	assert_int_equal(pack_index_parse(index_of(&s), en.index_len, &en, 2 * BB, &idx, &e),
			 -EBADMSG);
	assert_int_equal(pack_index_parse(index_of(&s), en.index_len, &en, 0, &idx, &e), -EBADMSG);
	assert_int_equal(pack_index_parse(index_of(&s), en.index_len - 1, &en, BB, &idx, &e),
			 -ENODATA);
	pack_writer_free(s.w);
}

/* ---- blocks ---- */

static void damaged_blocks_are_never_delivered(void **state)
{
	struct sample s = sample();
	struct pack_index *idx;
	uint8_t want[BB], is[BB];
	struct fmt_err e;

	assert_int_equal(pack_index_parse(index_of(&s), s.entry.index_len, &s.entry, BB, &idx, &e),
			 0);
	for (uint32_t i = 0; i < idx->nr; i++) {
		const struct pack_index_entry *en = &idx->e[i];
		uint8_t *stored = malloc(en->clen ? en->clen : 1);
		struct pack_index_entry shorter = *en;

		memcpy(stored, (const uint8_t *)s.buf + en->off, en->clen);
		fill(want, blocks[i].fill, blocks[i].block);
		for (size_t bit = 0; bit < 8ul * en->clen; bit++) {
			stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
			/* zstd has unused bits: the block may still be right, never wrong. */
			if (!block_decode(en, stored, is, BB))
				assert_memory_equal(is, want, BB);
			stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		while (shorter.clen) {
			shorter.clen--;
			assert_int_equal(block_decode(&shorter, stored, is, BB), -EBADMSG);
		}
		free(stored);
	}
	free(idx);
	pack_writer_free(s.w);
}

static void a_bomb_does_not_overrun_the_block(void **state)
{
	size_t big_len = 1 * MiB, cap = ZSTD_compressBound(big_len), n;
	uint8_t *big = calloc(1, big_len), *bomb = malloc(cap), out[BB + 64];
	struct pack_index_entry en = {.kind = PACK_ZSTD};

	n = ZSTD_compress(bomb, cap, big, big_len, 3);
	assert_false(ZSTD_isError(n));
	en.clen = (uint32_t)n;
	memset(out, 0x5a, sizeof(out));
	assert_int_equal(block_decode(&en, bomb, out, BB), -EBADMSG);
	for (size_t i = BB; i < sizeof(out); i++)
		assert_int_equal(out[i], 0x5a);
	en.kind = 9;
	assert_int_equal(block_decode(&en, bomb, out, BB), -EBADMSG);
	free(big);
	free(bomb);
}

static void blocks_of_every_size_and_kind_round_trip(void **state)
{
	struct rng rng = rng_new();

	for (uint32_t bb = 4096; bb <= 1 << 20; bb *= 2) {
		size_t cap = ZSTD_compressBound(bb);
		uint8_t *in = malloc(bb), *out = malloc(cap), *back = malloc(bb);

		for (int i = 0; i < 6; i++) {
			struct pack_index_entry en = {0};
			enum pack_block_kind kind;

			/* From all noise to all zeros; then one bit at the very end. */
			rng_fill(&rng, in, bb);
			memset(in, 0, bb * (size_t)MIN(i, 4) / 4);
			if (i == 5)
				in[bb - 1] = 1;
			assert_int_equal(
				block_encode(in, bb, 3, out, cap, &kind, &en.clen, en.sha256), 0);
			assert_int_equal(kind, i == 0 ? PACK_RAW : i == 4 ? PACK_ZERO : PACK_ZSTD);
			en.kind = (uint8_t)kind;
			assert_int_equal(block_decode(&en, out, back, bb), 0);
			assert_memory_equal(in, back, bb);
		}
		assert_int_equal(block_encode(in, bb, 3, out, cap - 1, &(enum pack_block_kind){0},
					      &(uint32_t){0}, (uint8_t[SHA256_LEN]){0}),
				 -EINVAL);
		free(in);
		free(out);
		free(back);
	}
}

static void *coder(void *arg)
{
	uint8_t in[BB], back[BB];
	size_t cap = ZSTD_compressBound(BB);
	uint8_t *out = malloc(cap);

	for (uint32_t i = 0; i < 300; i++) {
		struct pack_index_entry en = {0};
		enum pack_block_kind kind;

		fill(in, TEXT, i + (uint32_t)(uintptr_t)arg);
		assert_int_equal(block_encode(in, BB, 1, out, cap, &kind, &en.clen, en.sha256), 0);
		en.kind = (uint8_t)kind;
		assert_int_equal(block_decode(&en, out, back, BB), 0);
		assert_memory_equal(in, back, BB);
	}
	free(out);
	return NULL;
}

static void threads_code_side_by_side(void **state)
{
	pthread_t t[6];

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_int_equal(pthread_create(&t[i], NULL, coder, (void *)i), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
}

/* The bytes are the contract with every program that was ever released. */
static void bytes_are_as_documented(void **state)
{
	static const uint8_t sha[SHA256_LEN] = {0xaa, 0xbb};
	uint8_t want[HEAD_BYTES + 3 + 48 + 2 * ENTRY + PACK_TRAILER_BYTES] = "GFSPACK";
	uint8_t *idx = want + HEAD_BYTES + 3, *t = idx + 48 + 2 * ENTRY, index_sha[SHA256_LEN];
	struct pack_writer *w = pack_writer_new(pack_id, CHUNK, BB, 2);
	struct manifest_entry en;
	const void *buf;
	uint64_t sum;
	char key[64];
	size_t len;

	assert_int_equal(pack_writer_add(w, 7, PACK_ZSTD, "xyz", 3, sha), 0);
	assert_int_equal(pack_writer_add(w, 8, PACK_ZERO, NULL, 0, sha), 0);
	assert_int_equal(pack_writer_finish(w, &buf, &len, &en), 0);

	memcpy(idx, "GFSPKIDX", 8);
	for (int i = 0; i < 2; i++) {
		uint8_t *p = i ? idx : want;

		put32(p, 8, 1);
		put32(p, 12, 1);
		memcpy(p + 16, pack_id, 16);
		put32(p, 32, CHUNK);
		put32(p, 36, BB);
	}
	sum = hash_xxh3(want, 40);
	put32(want, 40, (uint32_t)sum);
	put32(want, 44, (uint32_t)(sum >> 32));
	memcpy(want + 48, "xyz", 3);
	put32(idx, 40, 2);
	put32(idx, 48, 7);
	idx[52] = 2;
	put32(idx, 56, 48);
	put32(idx, 60, 3);
	memcpy(idx + 64, sha, 32);
	put32(idx, 96, 8);
	hash_sha256(idx, 48 + 2 * ENTRY, index_sha);
	memcpy(t, "GFSPKEND", 8);
	put32(t, 8, 1);
	put32(t, 12, 48 + 2 * ENTRY);
	put32(t, 16, 51);
	put32(t, 24, 2);
	put32(t, 28, CHUNK);
	memcpy(t + 32, pack_id, 16);
	memcpy(t + 48, index_sha, 32);
	sum = hash_xxh3(t, 80);
	put32(t, 80, (uint32_t)sum);
	put32(t, 84, (uint32_t)(sum >> 32));

	assert_int_equal(len, sizeof(want));
	assert_memory_equal(buf, want, len);
	assert_int_equal(get32(t, 16), en.index_off);
	pack_key(CHUNK, pack_id, key, sizeof(key));
	assert_string_equal(key, "chunks/5/0102030405060708090a0b0c0d0e0f10.pack");
	pack_writer_free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_block_is_read_back),
		cmocka_unit_test(trailer_says_what_the_manifest_says),
		cmocka_unit_test(writer_refuses_what_the_parser_would),
		cmocka_unit_test(full_pack_round_trips),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(well_signed_nonsense_is_refused),
		cmocka_unit_test(accepted_entries_stay_in_bounds),
		cmocka_unit_test(manifest_entry_of_another_pack_is_refused),
		cmocka_unit_test(damaged_blocks_are_never_delivered),
		cmocka_unit_test(a_bomb_does_not_overrun_the_block),
		cmocka_unit_test(blocks_of_every_size_and_kind_round_trip),
		cmocka_unit_test(threads_code_side_by_side),
		cmocka_unit_test(bytes_are_as_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
