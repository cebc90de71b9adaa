/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a test knows about the disk under test must not be lost with it. A journal is a preallocated
 * file on another disk, written by O_DIRECT | O_DSYNC: what journal_sync() returned for is there
 * after a reset. Each record carries a checksum over its content and position, so the first record
 * that was never written, or only in part, ends it. Adding is for any thread; one lock, held over
 * the write.
 */
#ifndef GFS_TOOLS_JOURNAL_H
#define GFS_TOOLS_JOURNAL_H

#include <xxhash.h>

#include "selftests/tools/tool.h"

struct journal_rec {
	uint32_t type;
	uint32_t c;
	uint64_t a, b;
	uint64_t sum;
};

#define JOURNAL_PAGE     4096u
#define JOURNAL_PER_PAGE (JOURNAL_PAGE / sizeof(struct journal_rec))

struct journal {
	int fd;
	const char *path;
	pthread_mutex_t lock;
	uint64_t capacity;         /* records */
	uint64_t nr, synced;       /* added; on disk */
	struct journal_rec *pages; /* from the page of record `synced` on */
	uint64_t buffered_pages;
};

#define JOURNAL_BUFFER_PAGES 1024u

static inline uint64_t journal_sum(const struct journal_rec *r, uint64_t index)
{
	return XXH3_64bits_withSeed(r, offsetof(struct journal_rec, sum), index + 1);
}

/* Makes it: filled with zeros, so that later writes change no metadata. */
static inline struct journal *journal_create(const char *path, uint64_t bytes)
{
	struct journal *j = zalloc_or_die(1, sizeof(*j));
	char *zeros = alloc_pages_or_die(MiB);

	bytes = ROUND_UP(bytes, MiB);
	memset(zeros, 0, MiB);
	j->path = path;
	j->fd = open_or_die(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_DSYNC);
	j->capacity = bytes / sizeof(struct journal_rec);
	for (uint64_t off = 0; off < bytes; off += MiB)
		if (pwrite_all(j->fd, zeros, MiB, off))
			err(EXIT_USE, "%s", path);
	if (fsync(j->fd))
		err(EXIT_USE, "%s", path);
	free(zeros);
	j->pages = alloc_pages_or_die(JOURNAL_BUFFER_PAGES * JOURNAL_PAGE);
	memset(j->pages, 0, JOURNAL_BUFFER_PAGES * JOURNAL_PAGE);
	pthread_mutex_init(&j->lock, NULL);
	return j;
}

/* With the lock held. Afterwards the last, partial page is the first of the buffer. */
static inline void journal_write_out(struct journal *j)
{
	uint64_t first = j->synced / JOURNAL_PER_PAGE, last = j->nr / JOURNAL_PER_PAGE;
	size_t len = (size_t)(last - first + 1) * JOURNAL_PAGE;
	int r;

	if (j->nr == j->synced)
		return;
	r = pwrite_all(j->fd, j->pages, len, first * JOURNAL_PAGE);
	if (r)
		errx(EXIT_USE, "%s: journal: %s", j->path, strerror(-r));
	memmove(j->pages, (char *)j->pages + (last - first) * JOURNAL_PAGE, JOURNAL_PAGE);
	memset((char *)j->pages + JOURNAL_PAGE, 0, len - JOURNAL_PAGE);
	j->synced = j->nr;
}

static inline void journal_add(struct journal *j, uint32_t type, uint64_t a, uint64_t b, uint32_t c)
{
	struct journal_rec *r;
	uint64_t slot;

	SCOPED_LOCK(&j->lock);
	if (j->nr + JOURNAL_PER_PAGE >= j->capacity)
		errx(EXIT_USE, "%s: the journal is full (%llu records)", j->path,
		     (unsigned long long)j->capacity);
	slot = j->nr - ROUND_DOWN(j->synced, JOURNAL_PER_PAGE);
	if (slot + JOURNAL_PER_PAGE >= JOURNAL_BUFFER_PAGES * JOURNAL_PER_PAGE) {
		journal_write_out(j);
		slot = j->nr - ROUND_DOWN(j->synced, JOURNAL_PER_PAGE);
	}
	r = &j->pages[slot];
	*r = (struct journal_rec){.type = type, .a = a, .b = b, .c = c};
	r->sum = journal_sum(r, j->nr++);
}

/* Everything added before is on disk when it returns. */
static inline void journal_sync(struct journal *j)
{
	SCOPED_LOCK(&j->lock);
	journal_write_out(j);
}

/* Calls fn for each valid record; returns their number. fn may be NULL. */
static inline uint64_t
journal_read(const char *path, void (*fn)(const struct journal_rec *r, uint64_t index, void *arg),
	     void *arg)
{
	int fd = open_or_die(path, O_RDONLY | O_DIRECT);
	struct journal_rec *buf = alloc_pages_or_die(MiB);
	uint64_t n = 0;
	struct stat st;

	if (fstat(fd, &st))
		err(EXIT_USE, "%s", path);
	for (uint64_t off = 0; off + MiB <= (uint64_t)st.st_size; off += MiB) {
		if (pread_all(fd, buf, MiB, off))
			err(EXIT_USE, "%s", path);
		for (size_t i = 0; i < MiB / sizeof(*buf); i++) {
			if (!buf[i].type || buf[i].sum != journal_sum(&buf[i], n))
				goto out;
			if (fn)
				fn(&buf[i], n, arg);
			n++;
		}
	}
out:
	free(buf);
	close(fd);
	return n;
}

#endif
