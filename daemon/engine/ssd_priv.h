/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the SSD tier, shared by ssd.c (what its users call), ssd_table.c (where a content is),
 * ssd_segment.c (files) and ssd_writer.c (the thread that writes and removes).
 *
 * s->lock guards the table and the list of segments; s->q_lock the batch that is being filled and
 * what the writer is asked for. Neither is held across I/O, and neither is taken within the other.
 */
#ifndef GFS_ENGINE_SSD_PRIV_H
#define GFS_ENGINE_SSD_PRIV_H

#include "engine/ssd.h"
#include "lib/list.h"

#define SSD_PAGE          4096u /* of direct I/O */
#define SSD_ENTRY_BYTES   64u
#define SSD_SEGMENT_MAX   (1 * GiB)
#define SSD_BATCH_MAX     (4 * MiB)
#define SSD_BATCH_ENTRIES 1024u
#define SSD_TAG_LEN       16 /* of the key: what it takes in memory is halved */
#define SSD_NIL           UINT32_MAX
#define SSD_PAUSE_NS      (2 * NSEC_PER_SEC) /* after the disk was short */

/* One content, as a segment's index has it. */
struct ssd_entry {
	uint8_t key[SHA256_LEN];
	uint32_t off; /* in the segment; in a batch: in its data */
	uint32_t len, size;
	uint8_t kind;
};

/* Values on their way to the disk. */
struct ssd_batch {
	uint8_t *data;
	uint32_t used, nr;
	uint64_t first_ns; /* when the first one came */
	struct ssd_entry e[SSD_BATCH_ENTRIES];
};

struct ssd_segment {
	struct list_head node; /* s->segments */
	int refs;              /* the list's, and those who read; under s->lock */
	int fd;
	uint64_t seq;
	uint32_t nr;         /* entries; writer's */
	uint32_t cap;        /* of them, at most */
	uint64_t end;        /* of its data; writer's */
	uint64_t bytes;      /* of the disk; under s->lock */
	uint32_t items;      /* the first one in the table; under s->lock */
	uint8_t *index_tail; /* of the segment that grows: its last pages of entries; writer's */
};

struct ssd_item {
	uint8_t tag[SSD_TAG_LEN];
	struct ssd_segment *seg;
	uint32_t next;     /* in its bucket, or of the free ones */
	uint32_t seg_next; /* of the segment's items */
	uint32_t off, len, size;
	uint8_t kind;
	bool used; /* read since it was written */
	bool dead; /* not found any more; goes with its segment */
};

struct ssd_table {
	uint32_t *bucket;
	uint32_t nr_buckets; /* a power of two */
	struct ssd_item **chunk;
	uint32_t nr_chunks, max_chunks;
	uint32_t free;
	uint64_t nr; /* that can be found */
};

struct ssd {
	struct ssd_config cfg;
	uint64_t segment_bytes; /* of data */
	uint32_t batch_bytes, batch_entries, segment_entries;
	unsigned int max_segments;

	pthread_mutex_t lock;
	struct ssd_table table;
	struct list_head segments; /* oldest first */
	unsigned int nr_segments;
	uint64_t bytes;
	uint64_t hits, misses, inserts, evictions, bad; /* under lock */
	uint64_t dropped;                               /* atomic */
	bool off;                                       /* atomic: the disk failed */
	bool closing;                                   /* atomic */

	pthread_mutex_t q_lock;
	pthread_cond_t wake, done; /* the writer; those who wait for it */
	struct ssd_batch *fill, *writing;
	uint64_t give_back; /* bytes that the disk is short of */
	uint64_t pause_ns;  /* nothing is taken until then: the disk is short */
	uint64_t flush_want, flush_done;
	bool stop;

	pthread_t writer;
	struct ssd_segment *active; /* writer's: the one that grows, or NULL */
	uint64_t next_seq;          /* writer's */
};

static inline bool ssd_is_off(const struct ssd *s)
{
	return __atomic_load_n(&s->off, __ATOMIC_RELAXED);
}

/* ssd_table.c: all under s->lock. */

/* For at most max_items. -ENOMEM. */
int ssd_table_init(struct ssd_table *t, uint64_t max_items, uint64_t expected) __must_check;
void ssd_table_free(struct ssd_table *t);
/* NULL: not there. */
struct ssd_item *ssd_table_find(struct ssd_table *t, const uint8_t key[SHA256_LEN]);
/* The key must not be there. False: no memory, or as many as there may be. */
bool ssd_table_add(struct ssd_table *t, struct ssd_segment *seg, const struct ssd_entry *e);
/* Not found any more. */
void ssd_table_forget(struct ssd_table *t, struct ssd_item *it);
/* Free up to `most` items of a segment; how many of them could still be found. */
uint32_t ssd_table_release(struct ssd_table *t, struct ssd_segment *seg, uint32_t most);

/* ssd_segment.c: blocking; no lock is held, or is taken but where it says so. */

/* A new file of number s->next_seq, which it raises; empty, on no list, with one reference. */
int ssd_segment_create(struct ssd *s, struct ssd_segment **out) __must_check;
/*
 * Open what an earlier process left and read its entries into *e (malloc'ed). -EBADMSG: it is none
 * of ours, or of another version.
 */
int ssd_segment_load(struct ssd *s, uint64_t seq, struct ssd_segment **out, struct ssd_entry **e,
		     uint32_t *nr) __must_check;
/* Entries that the disk has of it by now, malloc'ed. Any thread that may block. */
int ssd_segment_entries(const struct ssd_segment *seg, struct ssd_entry **e,
			uint32_t *nr) __must_check;
/* Does the batch fit? */
bool ssd_segment_has_room(const struct ssd *s, const struct ssd_segment *seg,
			  const struct ssd_batch *b);
/* Write a batch behind what is there: the data, then its entries, whose `off` it rebases. */
int ssd_segment_append(struct ssd_segment *seg, struct ssd_batch *b) __must_check;
/* Nothing is appended any more. */
void ssd_segment_seal(struct ssd_segment *seg);
/* Bytes that it takes of the disk. */
uint64_t ssd_segment_bytes(const struct ssd_segment *seg);
/*
 * Read len bytes at off; *mem is malloc'ed, *data lies in it. -ENODATA: the file is shorter; -errno
 * of the disk.
 */
int ssd_segment_read(const struct ssd_segment *seg, uint32_t off, uint32_t len, void **mem,
		     const uint8_t **data) __must_check;
void ssd_segment_unlink(const struct ssd *s, uint64_t seq);
struct ssd_segment *ssd_segment_get(struct ssd_segment *seg); /* under s->lock */
void ssd_segment_put(struct ssd *s, struct ssd_segment *seg); /* takes s->lock */
/* Numbers of the segments in the directory, malloc'ed, in order. */
int ssd_segment_list(int dirfd, uint64_t **seq, size_t *nr) __must_check;
void ssd_segment_name(uint64_t seq, char name[32]);

/* ssd_writer.c */

void *ssd_writer_run(void *arg);
struct ssd_batch *ssd_batch_new(uint32_t bytes); /* NULL: no memory */
void ssd_batch_free(struct ssd_batch *b);
/* Room for len more bytes? */
bool ssd_batch_fits(const struct ssd *s, const struct ssd_batch *b, uint32_t len);
void ssd_batch_add(struct ssd_batch *b, const uint8_t key[SHA256_LEN], uint8_t kind, uint32_t size,
		   const void *stored, uint32_t len);
/* The local disk failed: say so once, and end the tier's work. -EIO. */
int ssd_fail(struct ssd *s, const char *what, int err);

#endif
