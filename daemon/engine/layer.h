/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A layer: the writes of one volume since the last switch, on the local SSD. Three files in the
 * volume's directory, named by the layer's sequence number:
 *
 *   layer-SEQ.data  sparse, the volume's size; a sector's data lies at its own offset
 *   layer-SEQ.map   MAP_SHARED validity: 16 bits per 4 KiB sector, low byte "data", high byte
 * "zero", one bit of each per 512 bytes; both clear = absent. Survives death of the process.
 *   layer-SEQ.log   what a FLUSH made durable: images of map granules; survives power loss
 *
 * Invariants (storage rules 1, 2, 4, 5):
 *   - a validity bit is set only after the data write it describes completed, and before the
 * request is acknowledged;
 *   - after a power loss (other boot id) the map is rebuilt from the log alone;
 *   - the log names only sectors whose data was fdatasync'ed before the log record was written;
 *   - no hole is ever punched in a layer, so a late punch cannot destroy a newer write.
 */
#ifndef GFS_ENGINE_LAYER_H
#define GFS_ENGINE_LAYER_H

#include "engine/format.h"
#include "lib/list.h"

#define MAP_SECTOR     4096u /* bytes described by one 16-bit map word */
#define GRANULE_WORDS  32u   /* words logged together: 64 bytes, 128 KiB of volume */
#define GRANULE_BYTES  (GRANULE_WORDS * MAP_SECTOR)
#define WORD_ABSENT(w) ((uint8_t)(~((w) | ((w) >> 8))))

struct layer {
	int refs; /* atomic */
	uint8_t uuid[16];
	uint64_t generation, seq;
	uint64_t size_bytes;
	int dirfd; /* borrowed from the volume */
	int data_fd, log_fd;
	bool direct;          /* data_fd is O_DIRECT and accepts 512-byte alignment */
	uint16_t *map;        /* size_bytes / 4096 words (rounded up) */
	uint64_t *chunk_used; /* shared bitmap: the chunk's map words are allocated on disk */
	void *map_base;
	size_t map_len;
	int map_fd;

	/* Granules changed since the last log record: bit per granule, and two summary levels. */
	uint64_t *dirty[3];
	size_t dirty_len[3];     /* in words */
	uint64_t dirty_granules; /* atomic: reserved log records */
	uint64_t data_bytes;     /* atomic: bytes in state data */
	uint64_t touched;        /* atomic flag: anything at all was written (data or zero) */
	uint64_t first_dirty_ns; /* now_ns() of the first change, 0 = clean */
	int unsynced;            /* atomic flag: data written since the last fdatasync */
	int poisoned;            /* atomic: -errno of the first failed write or fsync */

	/* Log position; only the flush round touches it. */
	uint64_t log_pos, log_batch;
	uint64_t log_cap; /* atomic: bytes allocated on disk */
};

/*
 * Create the files, preallocate log and header, fsync files and directory. Blocking. -errno;
 * nothing is left behind on failure.
 */
int layer_create(int dirfd, const uint8_t uuid[16], uint64_t generation, uint64_t seq,
		 uint64_t size_bytes, struct layer **out) __must_check;
/*
 * Open an existing layer: the same boot id -> the map is trusted; else it is rebuilt from the log.
 * Its size is what its log says, at most size_bytes: one made before the volume grew is smaller.
 * -ENOENT (its creation was cut short: it never held a write), -EBADMSG, -EPROTONOSUPPORT, -ESTALE
 * (uuid or generation differ, or it is larger), with the reason in e. Blocking.
 */
int layer_open(int dirfd, const uint8_t uuid[16], uint64_t generation, uint64_t seq,
	       uint64_t size_bytes, struct layer **out, struct fmt_err *e) __must_check;
struct layer *layer_get(struct layer *l);
void layer_put(struct layer *l); /* closes; the files stay */
/* Remove the files of a layer that is published, or that is quarantined elsewhere; fsyncs the
 * directory. */
int layer_unlink(int dirfd, uint64_t seq) __must_check;

/* Past the end of a layer that is smaller than the volume all is absent. */
static inline uint16_t layer_word(const struct layer *l, uint64_t map_sector)
{
	if (unlikely(map_sector * MAP_SECTOR >= l->size_bytes))
		return 0;
	return __atomic_load_n(&l->map[map_sector], __ATOMIC_ACQUIRE);
}

/* Anything in this chunk (CHUNK_BYTES) may be valid; false: all absent, or past its end. */
static inline bool layer_chunk_used(const struct layer *l, uint64_t chunk)
{
	if (unlikely(chunk * CHUNK_BYTES >= l->size_bytes))
		return false;
	return __atomic_load_n(&l->chunk_used[chunk / 64], __ATOMIC_ACQUIRE) >> (chunk % 64) & 1;
}

/*
 * Space for the map words and log records of this range is on disk, so marking cannot fail: false
 * means call layer_reserve on a background thread first. No system call.
 */
bool layer_ready(const struct layer *l, uint64_t sector, uint32_t nsectors);
/* Allocate it. Blocking. -ENOSPC, -EIO. */
int layer_reserve(struct layer *l, uint64_t sector, uint32_t nsectors) __must_check;

/*
 * Reserve the chunks that `other` uses, at most max_chunks, so that writes need not wait for that
 * one by one after a switch. Failure only means that they will. Blocking.
 */
void layer_reserve_like(struct layer *l, const struct layer *other, unsigned int max_chunks);

/*
 * Mark 512-byte sectors as data (after their write completed) or zero. Lock-free, any thread.
 * Returns the change in data bytes.
 */
int64_t layer_mark(struct layer *l, uint64_t sector, uint32_t nsectors, bool zero);

/* The first change of a clean layer, at now_ns() `now`. Any thread, no system call. */
void layer_first_dirty(struct layer *l, uint64_t now);

static inline uint64_t layer_data_bytes(const struct layer *l)
{
	return __atomic_load_n(&l->data_bytes, __ATOMIC_RELAXED);
}

/* True if the layer has anything to upload. */
static inline bool layer_dirty(const struct layer *l)
{
	return __atomic_load_n(&l->touched, __ATOMIC_ACQUIRE) != 0;
}

/* ---- flush: collect, fdatasync data, append, fdatasync log; see flush.c ---- */

/* Has anything changed that no batch holds yet? What was acknowledged before the call is seen. */
bool layer_log_pending(const struct layer *l);
/*
 * Collect the granules changed since the last call into a log batch (malloc'ed, *buf; *len 0 if
 * none). The batch is stamped for log position l->log_pos. One caller at a time per layer.
 */
int layer_log_collect(struct layer *l, void **buf, size_t *len) __must_check;
/* The batch was written and synced: advance. */
void layer_log_commit(struct layer *l, size_t len);
/* The whole flush of one layer with plain system calls (background threads). Poisons on failure. */
int layer_sync(struct layer *l) __must_check;

/* After a failed write or fsync (storage rule 3): never trusted again in this boot. Any thread. */
void layer_poison(struct layer *l, int err);

/* Read whole 512-byte sectors from the data file by plain system calls (buf 4 KiB-aligned). */
int layer_read(struct layer *l, uint64_t sector, uint32_t nsectors, void *buf) __must_check;

/* ---- fault injection: NULL in production ---- */
enum disk_op {
	DISK_CREATE,
	DISK_FALLOCATE,
	DISK_READ,
	DISK_WRITE,
	DISK_FSYNC,
	DISK_LOG_WRITE,
	DISK_LOG_FSYNC,
	DISK_UNLINK
};
extern int (*disk_fault_hook)(enum disk_op op, uint64_t layer_seq); /* atomic */
static inline int disk_fault(enum disk_op op, uint64_t seq)
{
	int (*hook)(enum disk_op, uint64_t) = __atomic_load_n(&disk_fault_hook, __ATOMIC_ACQUIRE);

	return unlikely(hook != NULL) ? hook(op, seq) : 0;
}

#endif
