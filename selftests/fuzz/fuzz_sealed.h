/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For targets that read sealed JSON (engine/sealed.h): the checksum at its end is made right, so
 * that what is behind it is reached. */
#ifndef GFS_FUZZ_FUZZ_SEALED_H
#define GFS_FUZZ_FUZZ_SEALED_H

#include "selftests/fuzz/fuzz.h"

#include "engine/format.h"

/* A copy of the input, to be freed, with the right checksum if it ends in one at all; see
 * Documentation/formats.rst. */
static inline char *fuzz_resealed(const uint8_t *data, size_t len)
{
	static const char head[] = ",\"checksum\":\"sha256:", tail[] = "\"}\n";
	const size_t end = sizeof(head) - 1 + 2 * SHA256_LEN + sizeof(tail) - 1;
	char *copy = malloc(len + 1), hex[2 * SHA256_LEN + 1];
	uint8_t sum[SHA256_LEN];

	FUZZ_MUST(copy);
	memcpy(copy, data, len);
	if (len > end && !memcmp(copy + len - end, head, sizeof(head) - 1)) {
		hash_sha256(copy, len - end, sum);
		hex_encode(sum, sizeof(sum), hex);
		memcpy(copy + len - end + sizeof(head) - 1, hex, sizeof(hex) - 1);
	}
	return copy;
}

#endif
