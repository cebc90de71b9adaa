// SPDX-License-Identifier: GPL-2.0-or-later
/* Snapshots. */
#include "selftests/fuzz/fuzz_sealed.h"

static struct snapshot sample(void)
{
	struct snapshot s = {.name = "vm-1",
			     .seq = 1763852965123456,
			     .size_bytes = 10 * GiB,
			     .block_bytes = 64 * KiB,
			     .generation = 3,
			     .sequence = 17,
			     .tag = "before the upgrade",
			     .manifest.bytes = 1234,
			     .created_s = 1700000000};

	memset(s.uuid, 0xa5, sizeof(s.uuid));
	memset(s.nonce, 0x5a, sizeof(s.nonce));
	memset(s.manifest.uuid, 0x77, sizeof(s.manifest.uuid));
	snprintf(s.manifest.id, sizeof(s.manifest.id), "%020d.%016d", 17, 1);
	return s;
}

void fuzz_seeds(void)
{
	struct snapshot s = sample();
	char *json;
	size_t len;

	for (int i = 0; i < 2; i++) {
		if (i == 1)
			s.manifest.id[0] = s.tag[0] = '\0';
		FUZZ_MUST(!snapshot_encode(&s, &json, &len));
		fuzz_seed(json, len);
		free(json);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fmt_err err = {{0}};
	struct snapshot s, again;
	char *copy = fuzz_resealed(data, len), *json;
	size_t n;

	if (!snapshot_parse(copy, len, &s, &err)) {
		/* What is read can be written, and is read as the same. */
		FUZZ_MUST(!snapshot_encode(&s, &json, &n));
		FUZZ_MUST(!snapshot_parse(json, n, &again, &err));
		FUZZ_MUST(again.size_bytes == s.size_bytes && again.seq == s.seq &&
			  !strcmp(again.name, s.name) && !strcmp(again.tag, s.tag));
		free(json);
	} else {
		FUZZ_MUST(err.msg[0]);
	}
	free(copy);
	return 0;
}
