// SPDX-License-Identifier: GPL-2.0-or-later
/* Roots. */
#include "selftests/fuzz/fuzz_sealed.h"

static struct root sample(void)
{
	struct root r = {.size_bytes = 10 * GiB,
			 .block_bytes = 64 * KiB,
			 .generation = 3,
			 .sequence = 17,
			 .manifest.bytes = 1234,
			 .created_s = 1700000000};

	memset(r.uuid, 0xa5, sizeof(r.uuid));
	memset(r.nonce, 0x5a, sizeof(r.nonce));
	snprintf(r.name, sizeof(r.name), "vm-1");
	snprintf(r.owner, sizeof(r.owner), "host/00000000-0000-4000-8000-000000000001");
	snprintf(r.manifest.id, sizeof(r.manifest.id), "%020d.%016d", 17, 1);
	return r;
}

void fuzz_seeds(void)
{
	struct root r = sample();
	char *json;
	size_t len;

	for (int i = 0; i < 3; i++) {
		if (i == 1)
			r.manifest.id[0] = r.owner[0] = '\0', r.manifest.bytes = 0;
		if (i == 2) {
			r.partitions = r.read_only = true;
			snprintf(r.source, sizeof(r.source), "vm-0@17");
		}
		FUZZ_MUST(!root_encode(&r, &json, &len));
		fuzz_seed(json, len);
		free(json);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fmt_err err = {{0}};
	struct root r, again;
	char *copy = fuzz_resealed(data, len), *json;
	size_t n;

	if (!root_parse(copy, len, &r, &err)) {
		/* What is read can be written, and is read as the same. */
		FUZZ_MUST(!root_encode(&r, &json, &n));
		FUZZ_MUST(!root_parse(json, n, &again, &err));
		FUZZ_MUST(again.size_bytes == r.size_bytes && again.sequence == r.sequence &&
			  !strcmp(again.name, r.name) && !strcmp(again.owner, r.owner));
		free(json);
	} else {
		FUZZ_MUST(err.msg[0]);
	}
	free(copy);
	return 0;
}
