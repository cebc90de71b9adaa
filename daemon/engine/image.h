/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images in and out: a raw image becomes a base image of the store, and what a manifest names
 * becomes a raw image. Both block, need no volume and no local state, and may be called by any
 * thread that may block; the engine needs none either (engine_config.cache_dir NULL).
 */
#ifndef GFS_ENGINE_IMAGE_H
#define GFS_ENGINE_IMAGE_H

#include "engine/volume.h"

struct image_progress {
	uint64_t total_bytes;             /* of the image; 0: not known, it comes through a pipe */
	uint64_t done_bytes;              /* of them read or passed over, or written */
	uint64_t data_bytes;              /* of them not zeros */
	uint64_t packs, packs_there;      /* of bless: finished; of them in the store before */
	uint64_t sent_bytes, there_bytes; /* the same in bytes, with the manifest */
};

/* Called often, on the caller's thread. Not 0: give up, -ECANCELED. */
typedef int (*image_progress_fn)(void *arg, const struct image_progress *p);

struct bless_options {
	const char *name;
	uint32_t block_bytes; /* 0: default */
	uint64_t op_id;
	image_progress_fn progress; /* or NULL */
	void *arg;
};

struct bless_result {
	struct base base;
	bool there; /* an image that reads the same had the name before: nothing was written */
	struct image_progress progress;
};

/*
 * Make the image that fd gives a base image: a regular file or block device is read from its
 * beginning, holes are passed over; anything else from where it is to its end. The size is rounded
 * up to sectors and to VOLUME_BYTES_MIN; what is added is zeros.
 *
 * All processors hash and compress, uploads overlap, and memory is bounded, at about 2 MiB for each
 * of twice the processors and 16 MiB for each of 9 packs. Objects are named by what they hold, so a
 * call that was cut short is resumed by the next one, and the last step writes the base itself.
 *
 * 0; -EEXIST: the name has another image; -EINVAL: name, block size, empty image; -EFBIG: more than
 * VOLUME_BYTES_MAX; -ETIME: it took too long, the same call goes on; errors of reading fd, of the
 * store; -ECANCELED. The sentence is in err.
 */
int image_bless(struct engine *e, const struct bless_options *o, int fd, struct bless_result *out,
		struct fmt_err *err) __must_check;

/*
 * Write what manifest m (NULL: zeros) holds, size_bytes of it, to fd; every block is verified.
 * sparse: fd is an empty regular file, zeros become holes; else bytes are written one after the
 * other. Not synced. -EIO: a block cannot be had, or is corrupt; errors of writing; -ECANCELED.
 */
int image_export(struct engine *e, struct manifest *m, uint64_t size_bytes, int fd, bool sparse,
		 image_progress_fn progress, void *arg, uint64_t op_id,
		 struct fmt_err *err) __must_check;

#endif
