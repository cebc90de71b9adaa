// SPDX-License-Identifier: GPL-2.0-or-later
/* Base images. */
#include "selftests/fuzz/fuzz_sealed.h"

static struct base sample(void)
{
	struct base b = {.name = "debian-12",
			 .size_bytes = 2 * GiB,
			 .block_bytes = 64 * KiB,
			 .manifest.bytes = 1234,
			 .created_s = 1700000000};

	memset(b.uuid, 0xa5, sizeof(b.uuid));
	memset(b.content_sha256, 0x5a, sizeof(b.content_sha256));
	memset(b.manifest.uuid, 0xa5, sizeof(b.manifest.uuid));
	snprintf(b.manifest.id, sizeof(b.manifest.id), "%020d.%016d", 0, 1);
	return b;
}

void fuzz_seeds(void)
{
	struct base b = sample();
	char *json;
	size_t len;

	for (int i = 0; i < 2; i++) {
		if (i == 1)
			b.manifest.id[0] = '\0';
		FUZZ_MUST(!base_encode(&b, &json, &len));
		fuzz_seed(json, len);
		free(json);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fmt_err err = {{0}};
	struct base b, again;
	char *copy = fuzz_resealed(data, len), *json;
	size_t n;

	if (!base_parse(copy, len, &b, &err)) {
		/* What is read can be written, and is read as the same. */
		FUZZ_MUST(!base_encode(&b, &json, &n));
		FUZZ_MUST(!base_parse(json, n, &again, &err));
		FUZZ_MUST(again.size_bytes == b.size_bytes && !strcmp(again.name, b.name) &&
			  !memcmp(again.content_sha256, b.content_sha256, SHA256_LEN));
		free(json);
	} else {
		FUZZ_MUST(err.msg[0]);
	}
	free(copy);
	return 0;
}
