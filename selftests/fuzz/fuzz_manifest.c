// SPDX-License-Identifier: GPL-2.0-or-later
/* Manifests, with their counts and checksums made right. Every lookup stays inside. */
#include "selftests/fuzz/fuzz.h"

#include "engine/wire.h"

/* Offsets: Documentation/formats.rst. */
enum { NR = 52, BODY_SUM = 64, HEAD_SUM = 72, HEAD = 80, ENTRY = 72 };

void fuzz_seeds(void)
{
	for (uint32_t nr = 0; nr < 5; nr++) {
		struct manifest *m = manifest_alloc(nr);
		size_t len;
		void *buf;

		FUZZ_MUST(m);
		memset(m->uuid, 1, sizeof(m->uuid));
		m->size_bytes = GiB;
		m->block_bytes = 64 * KiB;
		m->sequence = nr;
		for (uint32_t i = 0; i < nr; i++) {
			m->entries[i].chunk = i / 2;
			m->entries[i].nblocks = 1 + i;
			m->entries[i].index_off = 4096;
			m->entries[i].index_len = (uint32_t)pack_index_bytes(1 + i);
		}
		FUZZ_MUST(!manifest_encode(m, &buf, &len));
		fuzz_seed(buf, len);
		free(buf);
		manifest_put(m);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fmt_err err = {{0}};
	uint8_t *copy = malloc(len ? len : 1);
	struct manifest *m;
	size_t again_len;
	void *again;

	FUZZ_MUST(copy);
	memcpy(copy, data, len);
	if (len >= HEAD) {
		put_le32(copy, NR, (uint32_t)((len - HEAD) / ENTRY));
		put_le64(copy, BODY_SUM, hash_xxh3(copy + HEAD, len - HEAD));
		put_le64(copy, HEAD_SUM, hash_xxh3(copy, HEAD_SUM));
	}
	if (!manifest_parse(copy, len, &m, &err)) {
		for (uint32_t c = 0; c < 10; c++) {
			uint32_t nr;
			const struct manifest_entry *e = manifest_chunk(m, c * c, &nr);

			for (uint32_t i = 0; i < nr; i++)
				FUZZ_MUST(e[i].chunk == c * c);
		}
		FUZZ_MUST(!manifest_encode(m, &again, &again_len));
		FUZZ_MUST(again_len == len && !memcmp(again, copy, len));
		free(again);
		manifest_put(m);
	} else {
		FUZZ_MUST(!m && err.msg[0]);
	}
	free(copy);
	return 0;
}
