// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Packs: the trailer with its checksum made right, and the index section as if the hash in the
 * manifest were the attacker's. What is accepted lies inside of the pack; a block that decodes has
 * its hash.
 */
#include "selftests/fuzz/fuzz.h"

#include "engine/wire.h"

#define BLOCK 4096u

static size_t trailer_sum_at(void)
{
	return PACK_TRAILER_BYTES - 8;
}

void fuzz_seeds(void)
{
	static const uint8_t id[PACK_ID_LEN] = {7};
	uint8_t block[BLOCK], stored[2 * BLOCK], sum[SHA256_LEN];

	for (uint32_t nr = 1; nr < 5; nr++) {
		struct pack_writer *w = pack_writer_new(id, 0, BLOCK, 16);
		struct manifest_entry entry;
		const void *buf;
		size_t len;

		FUZZ_MUST(w);
		for (uint32_t i = 0; i < nr; i++) {
			enum pack_block_kind kind;
			uint32_t clen;

			for (uint32_t k = 0; k < BLOCK; k++)
				block[k] =
					i == 3 ? 0 : (uint8_t)(i == 1 ? k * k * 31 >> 3 : k / 64);
			FUZZ_MUST(!block_encode(block, BLOCK, 1, stored, sizeof(stored), &kind,
						&clen, sum));
			FUZZ_MUST(!pack_writer_add(w, i * 3, kind, stored, clen, sum));
		}
		FUZZ_MUST(!pack_writer_finish(w, &buf, &len, &entry));
		fuzz_seed(buf, len);
		pack_writer_free(w);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fmt_err err = {{0}};
	struct manifest_entry entry;
	struct pack_index *idx;
	uint8_t *copy, *t, out[BLOCK];

	if (len < PACK_TRAILER_BYTES)
		return 0;
	copy = malloc(len);
	FUZZ_MUST(copy);
	memcpy(copy, data, len);
	t = copy + len - PACK_TRAILER_BYTES;
	put_le64(t, trailer_sum_at(), hash_xxh3(t, trailer_sum_at()));
	if (pack_trailer_parse(t, len, &entry, &err)) {
		FUZZ_MUST(err.msg[0]);
		goto out;
	}
	FUZZ_MUST(entry.index_off + entry.index_len <= len);
	hash_sha256(copy + entry.index_off, entry.index_len, entry.index_sha256);
	if (pack_index_parse(copy + entry.index_off, entry.index_len, &entry, BLOCK, &idx, &err)) {
		FUZZ_MUST(!idx && err.msg[0]);
		goto out;
	}
	for (uint32_t i = 0; i < idx->nr; i++) {
		const struct pack_index_entry *e = &idx->e[i];

		FUZZ_MUST(pack_index_find(idx, e->block) == e);
		FUZZ_MUST((uint64_t)e->off + e->clen <= entry.index_off);
		if (!block_decode(e, copy + e->off, out, BLOCK) && e->kind != PACK_ZERO) {
			uint8_t sum[SHA256_LEN];

			hash_sha256(out, BLOCK, sum);
			FUZZ_MUST(!memcmp(sum, e->sha256, sizeof(sum)));
		}
	}
	free(idx);
out:
	free(copy);
	return 0;
}
