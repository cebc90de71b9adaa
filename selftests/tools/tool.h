/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the test tools share: a generator, devices and files alike, sizes, aligned buffers. Header
 * only, no state. Exit status of every tool: 0 the promise was kept, 1 it was broken, 2 bad use or
 * a failure of the tool's own environment.
 */
#ifndef GFS_TOOLS_TOOL_H
#define GFS_TOOLS_TOOL_H

#include <err.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "lib/util.h"

#define EXIT_BROKEN 1
#define EXIT_USE    2
#define TOOL_SECTOR 512u

struct prng {
	uint64_t s;
};

/* splitmix64, by its published constants. */
static inline uint64_t prng_next(struct prng *p)
{
	uint64_t z = p->s += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline uint64_t prng_below(struct prng *p, uint64_t n)
{
	return n ? prng_next(p) % n : 0;
}

static inline bool prng_percent(struct prng *p, unsigned int percent)
{
	return prng_below(p, 100) < percent;
}

/* "4096", "64K", "512M", "1G". */
static inline uint64_t parse_size(const char *what, const char *s)
{
	static const char suffixes[] = "KMGT";
	char *end;
	unsigned long long v = strtoull(s, &end, 0);
	const char *suffix = *end ? strchr(suffixes, *end & ~0x20) : NULL;

	if (end == s || (*end && (!suffix || end[1])))
		errx(EXIT_USE, "%s: '%s' is not a number with an optional K, M, G or T", what, s);
	return suffix ? v << (10 * (suffix - suffixes + 1)) : v;
}

static inline void *alloc_pages_or_die(size_t len)
{
	void *p = aligned_alloc(4096, ROUND_UP(len, (size_t)4096));

	if (!p)
		errx(EXIT_USE, "out of memory (%zu bytes)", len);
	return p;
}

static inline void *zalloc_or_die(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		errx(EXIT_USE, "out of memory (%zu x %zu bytes)", n, size);
	return p;
}

static inline int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		err(EXIT_USE, "%s", path);
	return fd;
}

/* Bytes of a block device or file. */
static inline uint64_t target_bytes(int fd, const char *path, bool *is_block)
{
	struct stat st;
	uint64_t bytes;

	if (fstat(fd, &st) < 0)
		err(EXIT_USE, "%s", path);
	*is_block = S_ISBLK(st.st_mode);
	if (!*is_block)
		return (uint64_t)st.st_size;
	if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
		err(EXIT_USE, "%s: BLKGETSIZE64", path);
	return bytes;
}

/* Whole transfers at an offset: 0 or -errno; a short read is -ENODATA. */
static inline int pread_all(int fd, void *buf, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

static inline int pwrite_all(int fd, const void *buf, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static inline bool is_zero(const void *buf, size_t len)
{
	const char *p = buf;

	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

/* Replaces a small file, so that a reader sees the old or the new text, whole. */
static inline void __printf(2, 3) status_write(const char *path, const char *fmt, ...)
{
	char tmp[4096], text[1024];
	va_list ap;
	int fd, n;

	if (!path)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	fd = open_or_die(tmp, O_WRONLY | O_CREAT | O_TRUNC);
	if (write(fd, text, (size_t)n) != n || close(fd) || rename(tmp, path))
		err(EXIT_USE, "%s", path);
}

#endif
