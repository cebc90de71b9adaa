/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Formats of objects in the store; byte by byte in Documentation/formats.rst. Pure functions over
 * memory: no I/O, any thread. Parsers treat input as hostile: -EBADMSG (corrupt, with a sentence in
 * err), -ENODATA (truncated), -EPROTONOSUPPORT (written by a future version).
 */
#ifndef GFS_ENGINE_FORMAT_H
#define GFS_ENGINE_FORMAT_H

#include "lib/hash.h"

#define SECTOR_SIZE      512u
#define GFS_NAME_MAX     128         /* with NUL: [A-Za-z0-9][A-Za-z0-9._-]{0,126} */
#define CHUNK_BYTES      (128 * MiB) /* fixed by format version 1 */
#define BLOCK_BYTES      (64 * KiB)  /* default; a power of two, 4 KiB .. 1 MiB */
#define VOLUME_BYTES_MIN (1 * MiB)
#define VOLUME_BYTES_MAX (64 * TiB)
#define PACK_ID_LEN      16
#define MANIFEST_ID_MAX  48                  /* "%020llu.%016llx" and NUL */
#define SNAPSHOT_REF_MAX (GFS_NAME_MAX + 21) /* "NAME@SEQ" and NUL */
#define SNAPSHOT_TAG_MAX 128                 /* with NUL */

struct fmt_err {
	char msg[1024];
};

/* 0 if the name is legal, -EINVAL with the reason in e. */
int volume_name_check(const char *name, struct fmt_err *e) __must_check;

/* ---- root: exports/NAME/export.json, the only mutable object of a volume ---- */

/* Which manifest: manifests/UUID/ID. The UUID is of the volume that wrote it, for a fork its
 * source.
 */
struct manifest_ref {
	char id[MANIFEST_ID_MAX]; /* "" = none: all zeros */
	uint8_t uuid[16];
	uint8_t sha256[SHA256_LEN];
	uint64_t bytes;
};

struct root {
	uint8_t uuid[16];
	char name[GFS_NAME_MAX];
	uint64_t size_bytes;
	uint32_t block_bytes;
	bool partitions; /* let the kernel scan for partitions */
	bool read_only;
	uint64_t generation; /* raised by every change of ownership */
	uint64_t sequence;   /* number of published layers; (generation, sequence) never repeats */
	char owner[128];     /* host id ("name/uuid"), "" = detached */
	char source[SNAPSHOT_REF_MAX]; /* of a fork: "NAME@SEQ" or "image:NAME"; "" = no fork */
	struct manifest_ref manifest;
	uint8_t nonce[16];  /* of the operation that wrote this body (storage rule 11) */
	uint64_t created_s; /* wall clock, for people */
};

/* malloc'ed JSON and a NUL, which *len leaves out. -ENOMEM; -EINVAL: root_parse would refuse it. */
int root_encode(const struct root *r, char **json, size_t *len) __must_check;
int root_parse(const char *json, size_t len, struct root *r, struct fmt_err *e) __must_check;
/* "exports/NAME/export.json" into key[STORE_KEY_MAX]. */
void root_key(const char *name, char *key, size_t len);

/* ---- snapshot: snapshots/NAME/SEQ, write-once: a volume as it was ---- */

struct snapshot {
	char name[GFS_NAME_MAX]; /* of the volume, then */
	uint64_t seq; /* microseconds since 1970 of the making, raised if taken; never used again */
	uint8_t uuid[16]; /* of the volume; names are reused */
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint64_t generation, sequence; /* of the volume: what it contains */
	char tag[SNAPSHOT_TAG_MAX];    /* for people; "" = none */
	struct manifest_ref manifest;
	uint8_t nonce[16]; /* of the operation that wrote it (storage rule 11) */
	uint64_t created_s;
};

/* As root_encode() and root_parse(). */
int snapshot_encode(const struct snapshot *s, char **json, size_t *len) __must_check;
int snapshot_parse(const char *json, size_t len, struct snapshot *s,
		   struct fmt_err *e) __must_check;
/* "snapshots/NAME/SEQ", SEQ with 20 digits. */
void snapshot_key(const char *name, uint64_t seq, char *key, size_t len);
/* 0 if it is legal: printable ASCII; -EINVAL with the reason in e. */
int snapshot_tag_check(const char *tag, struct fmt_err *e) __must_check;
/* "NAME@SEQ", SEQ with 1 to 20 digits; name[GFS_NAME_MAX] and seq may be NULL. -EINVAL. */
int snapshot_ref_parse(const char *ref, char *name, uint64_t *seq) __must_check;
/* The same as text, without leading zeros; seq 0: "image:NAME", see base_source(). */
void snapshot_ref_format(const char *name, uint64_t seq, char ref[SNAPSHOT_REF_MAX]);

/*
 * Of any object that names a manifest, root, snapshot or image: which; ref->id is "" if it names
 * none. Errors as of their parsers.
 */
int holder_parse(const char *json, size_t len, struct manifest_ref *ref,
		 struct fmt_err *e) __must_check;

/* ---- manifest: manifests/UUID/ID, write-once, flattened ---- */

/* One pack that holds blocks of one chunk. Entries are sorted by chunk; within one chunk newest
 * first. */
struct manifest_entry {
	uint32_t chunk;
	uint32_t nblocks; /* entries in its index */
	uint8_t pack_id[PACK_ID_LEN];
	uint64_t index_off; /* of the pack's index section within the pack object */
	uint32_t index_len;
	uint32_t reserved;
	uint8_t index_sha256[SHA256_LEN]; /* "pack hash": of the index section, which holds each
					     block's */
};

/* Immutable once built; reference-counted (atomic). */
struct manifest {
	int refs;
	uint8_t uuid[16];
	uint64_t size_bytes, sequence;
	uint32_t block_bytes;
	uint32_t nr_entries;
	struct manifest_entry entries[];
};

/* Room for nr entries, refs 1, entries zeroed; NULL = -ENOMEM. */
struct manifest *manifest_alloc(uint32_t nr);
/* What that takes of memory. */
uint64_t manifest_alloc_bytes(uint32_t nr);
struct manifest *manifest_get(struct manifest *m);
void manifest_put(struct manifest *m); /* NULL is fine */
/* malloc'ed; -ENOMEM; -EINVAL: manifest_parse would refuse it. */
int manifest_encode(const struct manifest *m, void **buf, size_t *len) __must_check;
int manifest_parse(const void *buf, size_t len, struct manifest **out,
		   struct fmt_err *e) __must_check;
/* First entry of the chunk and the number of entries for it (0 = none). O(log n). */
const struct manifest_entry *manifest_chunk(const struct manifest *m, uint32_t chunk, uint32_t *nr);
void manifest_key(const uint8_t uuid[16], const char *id, char *key, size_t len);

/* ---- base: bases/NAME, write-once: an image that was blessed, for forks ---- */

struct base {
	char name[GFS_NAME_MAX];
	uint8_t uuid[16]; /* of the manifest's key; follows from the manifest */
	uint64_t size_bytes;
	uint32_t block_bytes;
	uint8_t content_sha256[SHA256_LEN]; /* of what it reads as; see struct content_hash */
	struct manifest_ref manifest;
	uint64_t created_s;
};

/* As root_encode() and root_parse(). */
int base_encode(const struct base *b, char **json, size_t *len) __must_check;
int base_parse(const char *json, size_t len, struct base *b, struct fmt_err *e) __must_check;
/* "bases/NAME" into key[STORE_KEY_MAX]. */
void base_key(const char *name, char *key, size_t len);
/* "image:NAME"; name[GFS_NAME_MAX] may be NULL. -EINVAL. */
int base_ref_parse(const char *ref, char *name) __must_check;
/* The image as the source of a fork: a snapshot whose seq is 0. */
void base_source(const struct base *b, struct snapshot *out);
/*
 * Of a manifest that is complete but for its uuid: the uuid and the ID that follow from everything
 * else in it, so that one content, packed alike, has one manifest. -ENOMEM, -EINVAL.
 */
int base_manifest_name(struct manifest *m, char id[MANIFEST_ID_MAX]) __must_check;

/*
 * What an image reads as, whatever it was packed into: its blocks that are not all zeros,
 * ascending, then its size and block size. NULL: no memory. One thread.
 */
struct content_hash;
struct content_hash *content_hash_new(void);
void content_hash_add(struct content_hash *h, uint64_t block, const uint8_t sha256[SHA256_LEN]);
/* Ends and frees it. */
void content_hash_end(struct content_hash *h, uint64_t size_bytes, uint32_t block_bytes,
		      uint8_t out[SHA256_LEN]);

/* ---- pack: chunks/IDX/PACKID.pack ---- */

enum pack_block_kind {
	PACK_ZERO, /* tombstone: the block is zeros, hides older packs; no bytes */
	PACK_RAW,
	PACK_ZSTD,
};

struct pack_index_entry {
	uint32_t block; /* within the chunk */
	uint8_t kind;
	uint8_t pad[3];
	uint32_t off, clen;         /* stored bytes within the pack object */
	uint8_t sha256[SHA256_LEN]; /* of the uncompressed block */
};

struct pack_index {
	int refs;
	uint8_t pack_id[PACK_ID_LEN];
	uint32_t chunk, block_bytes, nr;
	struct pack_index_entry e[]; /* sorted by block, no repeats */
};

struct pack_writer; /* builds one pack in memory */

/* cap_blocks: most blocks it will hold. NULL = -ENOMEM. */
struct pack_writer *pack_writer_new(const uint8_t pack_id[PACK_ID_LEN], uint32_t chunk,
				    uint32_t block_bytes, uint32_t cap_blocks);
/* Room for a pack of so many bytes at once, rather than little by little. -ENOMEM. */
int pack_writer_reserve(struct pack_writer *w, size_t bytes) __must_check;
/* Blocks in ascending order. data may be NULL for PACK_ZERO. Copies. -ENOMEM, -EINVAL (order). */
int pack_writer_add(struct pack_writer *w, uint32_t block, enum pack_block_kind kind,
		    const void *data, uint32_t clen, const uint8_t sha256[SHA256_LEN]) __must_check;
size_t pack_writer_bytes(const struct pack_writer *w); /* so far, without index */
uint32_t pack_writer_blocks(const struct pack_writer *w);
/*
 * Before it is finished: give the pack, instead of the PACKID it has, the one that follows from its
 * index and gc_period(), so that two packs of one name hold the same blocks in the same places.
 * -ENOMEM.
 */
int pack_writer_name(struct pack_writer *w, uint64_t period) __must_check;
/* Finish: *buf stays owned by the writer, valid until pack_writer_free; fills entry for the
 * manifest. */
int pack_writer_finish(struct pack_writer *w, const void **buf, size_t *len,
		       struct manifest_entry *entry) __must_check;
void pack_writer_free(struct pack_writer *w);
/*
 * From the last PACK_TRAILER_BYTES of a pack object of object_bytes: what a manifest would say
 * about it. For tools that read packs no manifest names; readers of volumes do not need it.
 */
#define PACK_TRAILER_BYTES 88
int pack_trailer_parse(const void *buf, uint64_t object_bytes, struct manifest_entry *entry,
		       struct fmt_err *e) __must_check;

/* Parse an index section fetched by the manifest entry; checks its hash, chunk, id, order, ranges.
 */
int pack_index_parse(const void *buf, size_t len, const struct manifest_entry *want,
		     uint32_t block_bytes, struct pack_index **out, struct fmt_err *e) __must_check;
/* Binary search; NULL if the pack does not hold the block. */
const struct pack_index_entry *pack_index_find(const struct pack_index *idx, uint32_t block);
void pack_key(uint32_t chunk, const uint8_t pack_id[PACK_ID_LEN], char *key, size_t len);

/*
 * The stored form of a block into out[cap >= ZSTD bound]: kind, clen, and the hash of the block.
 * All zeros: PACK_ZERO, hash zeroed, out untouched. What zstd (level) hardly shrinks is copied,
 * PACK_RAW.
 */
int block_encode(const void *block, uint32_t block_bytes, int level, void *out, size_t cap,
		 enum pack_block_kind *kind, uint32_t *clen,
		 uint8_t sha256[SHA256_LEN]) __must_check;
/* Decompress and verify; -EBADMSG when the hash or length is wrong. out has block_bytes. */
int block_decode(const struct pack_index_entry *e, const void *stored, void *out,
		 uint32_t block_bytes) __must_check;

#endif
