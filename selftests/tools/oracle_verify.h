/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a device and judging each sector by the truth. Several threads share a scan: the counters
 * are atomic, the reports serialised by a lock. Nobody writes to what is scanned.
 */
#ifndef GFS_TOOLS_ORACLE_VERIFY_H
#define GFS_TOOLS_ORACLE_VERIFY_H

#include "selftests/tools/truth.h"

#define SCAN_CHUNK   (512 * KiB)
#define REPORTS_MAX  20u
#define SCAN_THREADS 2

struct scan {
	struct truth *t;
	bool flushed_floor; /* after a power loss: what was flushed, else what was acknowledged */
	bool settle; /* what was found in place of an older version is the truth from now on */
	uint64_t ok, newer, broken, unreadable; /* sectors; atomic */
	pthread_mutex_t report_lock;
	/* One pass. */
	const char *how;
	int fd;
	const uint64_t *pages; /* bitmap of 4 KiB pages to look at; NULL = all */
	uint64_t nr_chunks, next_chunk;
};

static inline bool page_test(const uint64_t *map, uint64_t page)
{
	return map[page / 64] >> (page % 64) & 1;
}

static inline void scan_sector(struct scan *sc, uint64_t sector, const void *data, const char *how)
{
	struct sector_truth *s = &sc->t->s[sector];
	uint64_t floor = sc->flushed_floor ? s->flushed : s->acked, found;
	enum sector_verdict v = truth_judge(sc->t, sector, data, floor, &found);

	if (v == SECTOR_OK) {
		__atomic_add_fetch(&sc->ok, 1, __ATOMIC_RELAXED);
		return;
	}
	if (v == SECTOR_NEWER) {
		__atomic_add_fetch(&sc->newer, 1, __ATOMIC_RELAXED);
		if (sc->settle)
			s->acked = MAX(found, s->acked);
		return;
	}
	if (__atomic_fetch_add(&sc->broken, 1, __ATOMIC_RELAXED) >= REPORTS_MAX)
		return;
	SCOPED_LOCK(&sc->report_lock);
	truth_report(sc->t, sector, data, v, floor, found, how);
}

/* Reads [off, off + len) and judges it. What cannot be read is broken too, sector by sector. */
static inline void scan_range(struct scan *sc, int fd, void *buf, uint64_t off, size_t len,
			      const char *how)
{
	int r = pread_all(fd, buf, len, off);

	if (r && len > 4096) {
		for (size_t done = 0; done < len; done += 4096)
			scan_range(sc, fd, buf, off + done, MIN(len - done, (size_t)4096), how);
		return;
	}
	if (r) {
		__atomic_add_fetch(&sc->unreadable, 1, __ATOMIC_RELAXED);
		if (__atomic_fetch_add(&sc->broken, len / TOOL_SECTOR, __ATOMIC_RELAXED) <
		    REPORTS_MAX)
			fprintf(stderr, "UNREADABLE at offset %llu, %zu bytes, %s: %s; seed %llu\n",
				(unsigned long long)off, len, how, strerror(-r),
				(unsigned long long)sc->t->seed);
		return;
	}
	for (size_t done = 0; done < len; done += TOOL_SECTOR)
		scan_sector(sc, (off + done) / TOOL_SECTOR, (char *)buf + done, how);
}

static inline void *scan_thread(void *arg)
{
	struct scan *sc = arg;
	void *buf = alloc_pages_or_die(SCAN_CHUNK);
	uint64_t chunk;

	while ((chunk = __atomic_fetch_add(&sc->next_chunk, 1, __ATOMIC_RELAXED)) < sc->nr_chunks) {
		uint64_t off = chunk * SCAN_CHUNK, end = MIN(off + SCAN_CHUNK, sc->t->size_bytes);

		if (!sc->pages) {
			scan_range(sc, sc->fd, buf, off, (size_t)(end - off), sc->how);
			continue;
		}
		while (off < end) {
			uint64_t stop = off;

			while (stop < end && page_test(sc->pages, stop / 4096))
				stop = MIN(stop + 4096, end);
			if (stop > off)
				scan_range(sc, sc->fd, buf, off, (size_t)(stop - off), sc->how);
			off = MIN(stop + 4096, end);
		}
	}
	free(buf);
	return NULL;
}

static inline void scan_pass(struct scan *sc, int fd, const uint64_t *pages, const char *how)
{
	pthread_t th[SCAN_THREADS];

	sc->fd = fd;
	sc->how = how;
	sc->pages = pages;
	sc->nr_chunks = DIV_ROUND_UP(sc->t->size_bytes, SCAN_CHUNK);
	sc->next_chunk = 0;
	for (int i = 0; i < SCAN_THREADS; i++)
		if (pthread_create(&th[i], NULL, scan_thread, sc))
			errx(EXIT_USE, "no thread");
	for (int i = 0; i < SCAN_THREADS; i++)
		pthread_join(th[i], NULL);
}

/*
 * By O_DIRECT, and through the page cache, which is dropped before (so that the device is asked)
 * and after (so that nobody finds our pages). pages as in struct scan. True if nothing is broken.
 */
static inline bool scan_both(struct scan *sc, int direct_fd, int buffered_fd, const uint64_t *pages)
{
	scan_pass(sc, direct_fd, pages, "read by O_DIRECT");
	if (buffered_fd >= 0) {
		posix_fadvise(buffered_fd, 0, 0, POSIX_FADV_DONTNEED);
		posix_fadvise(buffered_fd, 0, 0, POSIX_FADV_RANDOM);
		scan_pass(sc, buffered_fd, pages, "read through the page cache");
		posix_fadvise(buffered_fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	return !sc->broken;
}

#endif
