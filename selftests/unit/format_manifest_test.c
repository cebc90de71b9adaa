// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the manifest's format. */
#include "format_test.h"

#define HEAD_BYTES  80
#define ENTRY_BYTES 72

/* Chunks 0, 0, 0, 3, 3, 7: several packs in one chunk, chunks without any. */
static const uint32_t chunks[] = {0, 0, 0, 3, 3, 7};

static struct manifest *sample(void)
{
	struct manifest *m = manifest_alloc(ARRAY_SIZE(chunks));

	assert_non_null(m);
	for (int i = 0; i < 16; i++)
		m->uuid[i] = (uint8_t)(i + 1);
	m->size_bytes = 1 * GiB;
	m->sequence = 42;
	m->block_bytes = BLOCK_BYTES;
	for (uint32_t i = 0; i < m->nr_entries; i++) {
		struct manifest_entry *e = &m->entries[i];

		e->chunk = chunks[i];
		e->nblocks = i + 1;
		memset(e->pack_id, (int)(0x10 + i), PACK_ID_LEN);
		e->index_off = 48 + 1000 * i;
		e->index_len = 48 + 48 * (i + 1);
		memset(e->index_sha256, (int)(0x80 + i), SHA256_LEN);
	}
	return m;
}

static int parse_manifest(const void *buf, size_t len, void **again, size_t *again_len,
			  struct fmt_err *e)
{
	struct manifest *m;
	int r = manifest_parse(buf, len, &m, e);

	if (r) {
		assert_null(m);
		return r;
	}
	r = manifest_encode(m, again, again_len);
	manifest_put(m);
	return r;
}

static void round_trip(const struct manifest *m)
{
	struct manifest *back;
	struct fmt_err e;
	void *buf;
	size_t len;

	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	assert_int_equal(len, HEAD_BYTES + (size_t)ENTRY_BYTES * m->nr_entries);
	assert_int_equal(manifest_parse(buf, len, &back, &e), 0);
	free(buf);
	assert_int_equal(back->refs, 1);
	assert_memory_equal(back->uuid, m->uuid, 16);
	assert_true(back->size_bytes == m->size_bytes);
	assert_true(back->sequence == m->sequence);
	assert_int_equal(back->block_bytes, m->block_bytes);
	assert_int_equal(back->nr_entries, m->nr_entries);
	if (m->nr_entries)
		assert_memory_equal(back->entries, m->entries,
				    m->nr_entries * sizeof(m->entries[0]));
	manifest_put(back);
}

static void what_is_written_is_read_back(void **state)
{
	struct manifest *m = sample(), *empty = manifest_alloc(0);

	round_trip(m);
	m->sequence = UINT64_MAX;
	m->size_bytes = VOLUME_BYTES_MAX;
	m->entries[5].chunk = (uint32_t)(VOLUME_BYTES_MAX / CHUNK_BYTES - 1);
	m->entries[5].index_off = UINT32_MAX;
	m->entries[5].nblocks = CHUNK_BYTES / BLOCK_BYTES;
	m->entries[5].index_len = 48 + 48 * m->entries[5].nblocks;
	round_trip(m);
	memcpy(empty->uuid, m->uuid, 16);
	empty->size_bytes = VOLUME_BYTES_MIN;
	empty->block_bytes = 4096;
	round_trip(empty);
	manifest_put(m);
	manifest_put(empty);
}

static void random_manifests_round_trip(void **state)
{
	struct rng rng = rng_new();

	for (int i = 0; i < 200; i++) {
		uint32_t nr = rng_next(&rng) % 300;
		struct manifest *m = manifest_alloc(nr);
		uint32_t chunk = 0;

		assert_non_null(m);
		rng_fill(&rng, m->uuid, 16);
		m->size_bytes = VOLUME_BYTES_MAX;
		m->sequence = rng_next(&rng);
		m->block_bytes = 4096u << rng_next(&rng) % 9;
		for (uint32_t k = 0; k < nr; k++) {
			struct manifest_entry *e = &m->entries[k];

			chunk += rng_next(&rng) % 3;
			e->chunk = chunk;
			e->nblocks = 1 + rng_next(&rng) % (CHUNK_BYTES / m->block_bytes);
			e->index_len = 48 + 48 * e->nblocks;
			e->index_off = (uint32_t)rng_next(&rng);
			rng_fill(&rng, e->pack_id, PACK_ID_LEN);
			rng_fill(&rng, e->index_sha256, SHA256_LEN);
		}
		round_trip(m);
		manifest_put(m);
	}
}

static void chunks_are_found(void **state)
{
	static const struct {
		uint32_t chunk, first, nr;
	} t[] = {{0, 0, 3}, {1, 0, 0}, {2, 0, 0}, {3, 3, 2},
		 {4, 0, 0}, {7, 5, 1}, {8, 0, 0}, {UINT32_MAX, 0, 0}};
	struct manifest *m = sample(), *empty = manifest_alloc(0);
	uint32_t nr = 99;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		const struct manifest_entry *e = manifest_chunk(m, t[i].chunk, &nr);

		assert_int_equal(nr, t[i].nr);
		if (nr)
			assert_ptr_equal(e, &m->entries[t[i].first]);
	}
	manifest_chunk(empty, 0, &nr);
	assert_int_equal(nr, 0);
	manifest_put(m);
	manifest_put(empty);
}

static void unparsable_manifests_are_not_written(void **state)
{
	void *buf;
	size_t len;

#define REFUSED(change)                                                    \
	do {                                                               \
		struct manifest *m = sample();                             \
		change;                                                    \
		assert_int_equal(manifest_encode(m, &buf, &len), -EINVAL); \
		manifest_put(m);                                           \
	} while (0)
	REFUSED(memset(m->uuid, 0, 16));
	REFUSED(m->size_bytes = 0);
	REFUSED(m->size_bytes += 1);
	REFUSED(m->size_bytes = 7 * CHUNK_BYTES); /* the last chunk is past the end */
	REFUSED(m->block_bytes = 512);
	REFUSED(m->block_bytes = 3 * 4096);
	REFUSED(m->entries[3].chunk = 8);
	REFUSED(m->entries[0].chunk = 1);
	REFUSED(m->entries[2].nblocks = 0);
	REFUSED(m->entries[2].nblocks = CHUNK_BYTES / BLOCK_BYTES + 1);
	REFUSED(m->entries[2].index_len++);
	REFUSED(m->entries[2].index_off = 1ull << 32);
	REFUSED(m->entries[2].reserved = 1);
#undef REFUSED
}

static void put32(uint8_t *p, size_t off, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[off + i] = (uint8_t)(v >> 8 * i);
}

static void put64(uint8_t *p, size_t off, uint64_t v)
{
	put32(p, off, (uint32_t)v);
	put32(p, off + 4, (uint32_t)(v >> 32));
}

/* Make both checksums right again, as a hostile writer would. */
static void sign(uint8_t *p, size_t len)
{
	put64(p, 64, hash_xxh3(p + HEAD_BYTES, len - HEAD_BYTES));
	put64(p, 72, hash_xxh3(p, 72));
}

static void well_signed_nonsense_is_refused(void **state)
{
	static const struct {
		size_t off;
		uint32_t v;
		int want;
	} t[] = {
		{0, 0, -EBADMSG},
		{8, 2, -EPROTONOSUPPORT},
		{8, UINT32_MAX, -EPROTONOSUPPORT},
		{8, 0, -EBADMSG},
		{12, 81, -EBADMSG},
		{52, 5, -EBADMSG},
		{52, 7, -ENODATA},
		{52, UINT32_MAX, -ENODATA},
		{56, 71, -EBADMSG},
		{60, 1, -EBADMSG},
		{48, 0, -EBADMSG},
		{32, 1, -EBADMSG},
		{36, UINT32_MAX, -EBADMSG},
		{HEAD_BYTES, 1, -EBADMSG},
		{HEAD_BYTES + 4, 0, -EBADMSG},
		{HEAD_BYTES + 4, UINT32_MAX, -EBADMSG},
		{HEAD_BYTES + 28, 1, -EBADMSG},
		{HEAD_BYTES + 32, UINT32_MAX, -EBADMSG},
		{HEAD_BYTES + 36, 1, -EBADMSG},
	};
	struct manifest *m = sample(), *back;
	struct fmt_err e;
	uint8_t *buf;
	size_t len;

	assert_int_equal(manifest_encode(m, (void **)&buf, &len), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		uint8_t *p = malloc(len);
		int r;

		memcpy(p, buf, len);
		put32(p, t[i].off, t[i].v);
		sign(p, len);
		e.msg[0] = '\0';
		r = manifest_parse(p, len, &back, &e);
		if (r != t[i].want)
			print_message("offset %zu: %d: %s\n", t[i].off, r, e.msg);
		assert_int_equal(r, t[i].want);
		assert_true(e.msg[0]);
		free(p);
	}
	free(buf);
	manifest_put(m);
}

static void damage_is_refused(void **state)
{
	struct manifest *m = sample();
	void *buf;
	size_t len;

	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	attack_truncation(parse_manifest, buf, len);
	attack_extension(parse_manifest, buf, len);
	attack_bit_flips(parse_manifest, buf, len);
	attack_garbage(parse_manifest, buf, len, 3000);
	free(buf);
	manifest_put(m);
}

static void truncation_is_told_from_corruption(void **state)
{
	struct manifest *m = sample(), *back;
	struct fmt_err e;
	void *buf;
	size_t len;

	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(manifest_parse(buf, n, &back, &e), -ENODATA);
	free(buf);
	manifest_put(m);
}

static void references_keep_it_alive(void **state)
{
	struct manifest *m = sample();

	assert_ptr_equal(manifest_get(m), m);
	manifest_put(m);
	assert_int_equal(m->sequence, 42);
	manifest_put(m);
	manifest_put(NULL);
	assert_null(manifest_get(NULL));
}

/* The bytes are the contract with every program that was ever released. */
static void bytes_are_as_documented(void **state)
{
	uint8_t want[HEAD_BYTES + ENTRY_BYTES] = "GFSMANIF";
	struct manifest *m = manifest_alloc(1);
	char key[128];
	void *buf;
	size_t len;

	for (int i = 0; i < 16; i++)
		want[16 + i] = m->uuid[i] = (uint8_t)(i + 1);
	m->size_bytes = 1 * GiB;
	m->sequence = 42;
	m->block_bytes = BLOCK_BYTES;
	m->entries[0] = (struct manifest_entry){
		.chunk = 5, .nblocks = 2, .index_off = 0x12345678, .index_len = 48 + 2 * 48};
	memset(m->entries[0].pack_id, 0x11, PACK_ID_LEN);
	memset(m->entries[0].index_sha256, 0x22, SHA256_LEN);
	put32(want, 8, 1);
	put32(want, 12, 80);
	put64(want, 32, 1 * GiB);
	put64(want, 40, 42);
	put32(want, 48, 65536);
	put32(want, 52, 1);
	put32(want, 56, 72);
	put32(want, 80, 5);
	put32(want, 84, 2);
	memset(want + 88, 0x11, 16);
	put64(want, 104, 0x12345678);
	put32(want, 112, 144);
	memset(want + 120, 0x22, 32);
	sign(want, sizeof(want));
	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	assert_int_equal(len, sizeof(want));
	assert_memory_equal(buf, want, len);
	manifest_key(m->uuid, "00000000000000000042.0123456789abcdef", key, sizeof(key));
	assert_string_equal(key, "manifests/01020304-0506-0708-090a-0b0c0d0e0f10/"
				 "00000000000000000042.0123456789abcdef");
	free(buf);
	manifest_put(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(random_manifests_round_trip),
		cmocka_unit_test(chunks_are_found),
		cmocka_unit_test(unparsable_manifests_are_not_written),
		cmocka_unit_test(well_signed_nonsense_is_refused),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(truncation_is_told_from_corruption),
		cmocka_unit_test(references_keep_it_alive),
		cmocka_unit_test(bytes_are_as_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
