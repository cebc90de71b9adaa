/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SSD tier of the clean cache: what came from the store, in the form in which it came, by the
 * SHA-256 of its content; so one copy serves all volumes of the host, and a restart finds it again.
 *
 * It is a log of segment files (formats.rst). The only thread that writes, ssd_writer.c, gathers
 * values into batches, appends them to the newest segment, and makes room by removing the oldest
 * one, out of which it takes along what was used. A segment is never written again by another
 * process, no byte of a file is ever replaced, and no file name comes back; so nothing has to be
 * ordered or synced:
 *
 *  - Whatever is read is hashed before anybody sees it. A torn or lost write, a flipped bit, bytes
 *    that a killed predecessor still had under way: each is a miss, counted as bad, and the block
 *    comes from the store again.
 *  - A lost entry is a miss.
 *
 * Dirty data needs the disk more: the tier keeps keep_free_bytes of the file system free, also by
 * giving back what it has. A local disk that fails ends it, with one line in the log: the store has
 * everything.
 */
#ifndef GFS_ENGINE_SSD_H
#define GFS_ENGINE_SSD_H

#include "engine/cache.h"
#include "engine/format.h"

#define SSD_BUDGET_MIN (4 * MiB)

struct ssd;

struct ssd_config {
	int dirfd;        /* of the directory, its own; borrowed */
	const char *path; /* the same for messages; borrowed */
	uint64_t budget_bytes;
	uint64_t keep_free_bytes; /* of the file system */
	struct cache *memory[2];  /* what they hold counts as used when a segment goes; or NULL;
				     borrowed */
};

struct ssd_stats {
	/* dropped: values not written because the disk was busy or short. bad: failed to verify. */
	uint64_t hits, misses, inserts, evictions, bad, dropped;
	uint64_t bytes, budget_bytes, entries; /* bytes: of the disk */
	uint64_t on;                           /* 0: the disk failed */
};

struct ssd_scrub {
	uint64_t entries, bytes, bad; /* looked at; their stored bytes; removed */
};

/*
 * Begin; what an earlier process left is read by the writer's thread, until then it is not found.
 * -EINVAL: less than SSD_BUDGET_MIN; -ENOMEM.
 */
int ssd_open(const struct ssd_config *c, struct ssd **out) __must_check;
/* Writes what was put, and ends the thread. Nobody may use it any more. NULL is fine. */
void ssd_close(struct ssd *s);
/* Remove all segments in a directory that no tier uses. */
void ssd_remove_all(int dirfd);

/*
 * May ssd_get find it? Counts the miss if not. Any thread, workers too: a lock that nobody holds
 * across I/O.
 */
bool ssd_has(struct ssd *s, const uint8_t key[SHA256_LEN]);
/*
 * The content of `size` bytes whose SHA-256 is key, read and verified. Blocks: no worker. 0: *out
 * is referenced. -ENOENT: not there; -EBADMSG: it was not that content and is removed; -ENOMEM;
 * -EIO: the disk failed.
 */
int ssd_get(struct ssd *s, const uint8_t key[SHA256_LEN], uint32_t size,
	    struct cache_buf **out) __must_check;
/*
 * Keep `len` stored bytes (PACK_RAW or PACK_ZSTD) of a content of `size` bytes, which the caller
 * has verified. Copies them, never waits for the disk: what does not fit just now is dropped. Any
 * thread but a worker.
 */
void ssd_put(struct ssd *s, const uint8_t key[SHA256_LEN], enum pack_block_kind kind, uint32_t size,
	     const void *stored, uint32_t len);
/* So much of the file system is free: gives back what keep_free_bytes is short of. Never blocks. */
void ssd_disk_free(struct ssd *s, uint64_t free_bytes);
/* Wait until what was put before is written or dropped. */
void ssd_flush(struct ssd *s);
/* Read and verify everything; what is bad is removed. Blocks for long. -ECANCELED: stopped. */
int ssd_scrub(struct ssd *s, struct ssd_scrub *out) __must_check;
/* Let those that run end soon, and any other at once. */
void ssd_scrub_stop(struct ssd *s);
void ssd_stats_read(struct ssd *s, struct ssd_stats *out);

#endif
