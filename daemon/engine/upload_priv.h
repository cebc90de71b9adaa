/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of an upload: upload.c (order of steps, publishing), upload_merge.c (blocks of the frozen
 * layer, merged and encoded), upload_pack.c (packs, their PUTs, the entries of the new manifest),
 * upload_fold.c (small packs that piled up are merged on the way).
 *
 * One upload runs on one thread, the mutator of its volume, and may be abandoned when the volume is
 * closed: what other threads still work for it keeps a reference on struct merge or struct
 * store_call.
 */
#ifndef GFS_ENGINE_UPLOAD_PRIV_H
#define GFS_ENGINE_UPLOAD_PRIV_H

#include "engine/store_call.h"
#include "engine/volume_priv.h"

#define PACK_BYTES_MAX    (16 * MiB) /* stored bytes of one pack */
#define PACK_PUTS         4          /* in flight for one upload */
#define MERGE_WINDOW      (2 * MiB)  /* of uncompressed blocks in work */
#define MERGE_SLOTS_MIN   4
#define MERGE_SLOTS_MAX   32
#define SUPERSEDE_ENTRIES 4          /* packs of a chunk from which on dead blocks are looked for */
#define FOLD_FROM         16         /* packs of a chunk from which on small ones are merged, */
#define FOLD_TO           8          /* down to about this many, */
#define FOLD_BYTES_MAX    (64 * MiB) /* moving at most this much in one upload */

/* ---- upload_merge.c ---- */

struct merge;

/* One merged and encoded block, valid until the next merge_next or merge_put. */
struct merge_block {
	uint64_t block; /* of the volume */
	bool folded;    /* not written by the layer: moved out of an old pack */
	enum pack_block_kind kind;
	const void *stored;
	uint32_t clen;
	uint8_t sha256[SHA256_LEN];
	struct cache_buf *plain; /* the block uncompressed; borrowed; not for PACK_ZERO */
};

/*
 * Begin to merge every block that `frozen` touches with what `base` (may be NULL) has. -ENOMEM.
 * `cancel` is polled by every wait.
 */
int merge_new(struct engine *e, const struct root *root, struct layer *frozen,
	      struct manifest *base, const bool *cancel, uint64_t op_id,
	      struct merge **out) __must_check;
/*
 * The next block in ascending order: 1, 0 at the end, -errno: -ECANCELED; -EUCLEAN: the frozen
 * layer cannot be read; else the base block merge_failed_block() is unreadable.
 */
int merge_next(struct merge *mg, struct merge_block *out) __must_check;
uint64_t merge_failed_block(const struct merge *mg);
void merge_put(struct merge *mg);

/* ---- upload_fold.c ---- */

/*
 * Which blocks of a chunk to move out of old packs: bits in `fold` (a bit per block of a chunk,
 * cleared first). *budget: blocks that may be moved; decreased. Waits for indexes. Best effort.
 */
void fold_choose(struct engine *e, struct manifest *base, uint32_t chunk, const bool *cancel,
		 uint64_t op_id, uint64_t *fold, uint32_t *budget);

/* Indexes of a run of manifest entries (those of one chunk). */
struct index_set {
	struct cache_buf **buf;
	uint32_t nr;
};
/* Fetch them all; waits. -errno; nothing to free then. */
int index_set_load(struct engine *e, struct manifest *m, const struct manifest_entry *first,
		   uint32_t nr, const bool *cancel, uint64_t op_id,
		   struct index_set *out) __must_check;
void index_set_free(struct index_set *s);

/* ---- upload_pack.c ---- */

struct packer;

struct packer *packer_new(struct volume *v, struct manifest *base, uint64_t op_id);
/* Add a block, ascending. May wait for PUTs. -errno with the reason in err. */
int packer_add(struct packer *p, const struct merge_block *b, struct fmt_err *err) __must_check;
/*
 * Upload what is left, wait for all PUTs, and give the manifest that the base and the new packs
 * make, with `sequence`; *out is the base (referenced, may be NULL) if no pack was needed.
 */
int packer_finish(struct packer *p, const struct root *root, uint64_t sequence,
		  struct manifest **out, struct fmt_err *err) __must_check;
uint64_t packer_bytes(const struct packer *p); /* of packs uploaded */
void packer_free(struct packer *p);

#endif
