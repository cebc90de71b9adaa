// SPDX-License-Identifier: GPL-2.0-or-later
/* Bodies of API requests: whatever is accepted lies within the table's bounds. */
#include "selftests/fuzz/fuzz.h"

#include "control/json_input.h"

struct body {
	uint64_t size, count;
	bool flag;
};

static const struct json_in_field fields[] = {
	{.name = "size",
	 .type = JSON_IN_SIZE,
	 .offset = offsetof(struct body, size),
	 .required = true,
	 .min = 1 * MiB,
	 .max = 64 * TiB,
	 .multiple = 512},
	{.name = "count",
	 .type = JSON_IN_UINT,
	 .offset = offsetof(struct body, count),
	 .min = 2,
	 .max = 99},
	{.name = "flag", .type = JSON_IN_BOOL, .offset = offsetof(struct body, flag)},
};

void fuzz_seeds(void)
{
	static const char *const seeds[] = {
		"{\"size\":\"10G\"}",
		"{\"size\":1048576,\"flag\":true,\"count\":3}",
		"{}",
		"",
		"{\"size\":\"1T\",\"flag\":false}",
		"[1,{\"size\":\"1M\"}]",
		"{\"s\\u0069ze\":18446744073709551615}",
		"{\"size\":-1e3,\"count\":null}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(seeds); i++)
		fuzz_seed(seeds[i], strlen(seeds[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct body b = {.count = 7};
	char err[200] = "";
	char *copy = malloc(len + 1);
	int r;

	FUZZ_MUST(copy);
	memcpy(copy, data, len);
	copy[len] = '\0'; /* as the API does */
	r = json_input_parse(copy, len, fields, ARRAY_SIZE(fields), &b, err, sizeof(err));
	if (r) {
		FUZZ_MUST(r == -EINVAL && err[0]);
	} else {
		FUZZ_MUST(b.size >= MiB && b.size <= 64 * TiB && b.size % 512 == 0);
		FUZZ_MUST(b.count >= 2 && b.count <= 99);
	}
	free(copy);
	return 0;
}
