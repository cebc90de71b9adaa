/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hashes, random bytes and hex. Any thread; none blocks beyond computing. */
#ifndef GFS_LIB_HASH_H
#define GFS_LIB_HASH_H

#include "lib/util.h"

#define SHA256_LEN 32

void hash_sha256(const void *data, size_t len, uint8_t out[SHA256_LEN]);
/* The same over several pieces. NULL: no memory. One thread at a time. */
struct hash_stream;
struct hash_stream *hash_stream_new(void);
void hash_stream_add(struct hash_stream *h, const void *data, size_t len);
/* Ends and frees it. */
void hash_stream_end(struct hash_stream *h, uint8_t out[SHA256_LEN]);
/* XXH3-64: checksum of local logs and of binary headers. Not for content addressing. */
uint64_t hash_xxh3(const void *data, size_t len);
/* Cryptographically random bytes; aborts when the kernel has none, nothing safe could follow. */
void random_bytes(void *out, size_t len);
/* out gets 2 * len hex digits and NUL. */
void hex_encode(const void *data, size_t len, char *out);
/* Exactly len bytes from 2 * len lower-case hex digits; -EINVAL otherwise. */
int hex_decode(const char *hex, void *out, size_t len) __must_check;
/* Random version-4 UUID. */
void uuid_generate_v4(uint8_t out[16]);
/* 36 characters and NUL. */
void uuid_format(const uint8_t uuid[16], char out[37]);
int uuid_parse(const char *s, uint8_t uuid[16]) __must_check;

#endif
