/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Little-endian fields of the binary formats at byte offsets, and the checks they share. Private to
 * the format files. The caller has checked that the offset lies within the buffer.
 */
#ifndef GFS_ENGINE_WIRE_H
#define GFS_ENGINE_WIRE_H

#include "engine/format.h"

#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static inline uint32_t get_le32(const void *buf, size_t off)
{
	uint32_t v;

	memcpy(&v, (const uint8_t *)buf + off, sizeof(v));
	return le32toh(v);
}

static inline uint64_t get_le64(const void *buf, size_t off)
{
	uint64_t v;

	memcpy(&v, (const uint8_t *)buf + off, sizeof(v));
	return le64toh(v);
}

static inline void put_le32(void *buf, size_t off, uint32_t v)
{
	v = htole32(v);
	memcpy((uint8_t *)buf + off, &v, sizeof(v));
}

static inline void put_le64(void *buf, size_t off, uint64_t v)
{
	v = htole64(v);
	memcpy((uint8_t *)buf + off, &v, sizeof(v));
}

/* Put the sentence into e and return err, for `return fmt_fail(e, -EBADMSG, "...")`. */
static inline int __printf(3, 4) fmt_fail(struct fmt_err *e, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return err;
}

static inline bool all_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;

	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static inline bool block_bytes_ok(uint64_t n)
{
	return n >= 4 * KiB && n <= 1 * MiB && !(n & (n - 1));
}

static inline bool volume_bytes_ok(uint64_t n)
{
	return n >= VOLUME_BYTES_MIN && n <= VOLUME_BYTES_MAX && !(n % SECTOR_SIZE);
}

/*
 * What every binary structure begins with: 8 bytes of magic, a version. -ENODATA, -EBADMSG or
 * -EPROTONOSUPPORT with `what` in the sentence.
 */
static inline int wire_head_check(const void *buf, size_t len, size_t head_bytes, const char *magic,
				  uint32_t version, const char *what, struct fmt_err *e)
{
	if (len < head_bytes)
		return fmt_fail(e, -ENODATA, "%s: %zu bytes, its header alone has %zu", what, len,
				head_bytes);
	if (memcmp(buf, magic, 8))
		return fmt_fail(e, -EBADMSG, "%s: wrong magic", what);
	if (get_le32(buf, 8) > version)
		return fmt_fail(e, -EPROTONOSUPPORT, "%s: version %u, this program reads %u", what,
				get_le32(buf, 8), version);
	if (get_le32(buf, 8) != version)
		return fmt_fail(e, -EBADMSG, "%s: version %u", what, get_le32(buf, 8));
	return 0;
}

/* pack.c: bytes of the index section of a pack that holds nr blocks. */
uint64_t pack_index_bytes(uint32_t nr);

#endif
