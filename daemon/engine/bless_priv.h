/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of image_bless(): bless.c (order of steps, hashing and compressing on all processors),
 * bless_source.c (what the image is read from), bless_send.c (objects named by their content).
 */
#ifndef GFS_ENGINE_BLESS_PRIV_H
#define GFS_ENGINE_BLESS_PRIV_H

#include "engine/image.h"
#include "engine/objects.h"

/* ---- bless_source.c ---- */

struct bless_source {
	int fd;
	bool stream;                  /* a pipe: can only be read in order */
	uint64_t size;                /* not of a stream */
	uint64_t data_from, data_end; /* what is known to be no hole */
	bool no_holes;                /* the file system cannot tell */
};

/* -EINVAL: it is empty, or nothing that has bytes; -EFBIG. */
int source_open(struct bless_source *s, int fd, struct fmt_err *err) __must_check;
/*
 * Not of a stream: the first multiple of `step` at or after `from`, which is one, whose `step`
 * bytes may hold data. False: only holes are left.
 */
bool source_next(struct bless_source *s, uint64_t from, uint64_t step, uint64_t *at);
/* Not of a stream; any thread. -ENODATA: the file became shorter. */
int source_read(const struct bless_source *s, void *buf, size_t len, uint64_t off) __must_check;
/* Of a stream: fills buf; fewer bytes only at the end. -errno. */
ssize_t source_stream(const struct bless_source *s, void *buf, size_t len) __must_check;

/* ---- bless_send.c ---- */

/*
 * PUT of an object whose key follows from its content and the grace period, unless it is there
 * (*there): it is of this period then, so nobody deletes it for another (gc.rst). Blocks.
 */
int content_put(struct engine *e, const char *key, const void *data, size_t len, bool *there,
		uint64_t op_id, struct fmt_err *err) __must_check;

struct senders; /* packs on their way, a few at once */

struct senders *senders_new(struct engine *e, uint64_t op_id);
/*
 * Send a finished pack (taken over). Waits while all are busy; -errno: one failed, this or an
 * earlier one. One thread.
 */
int senders_send(struct senders *s, struct pack_writer *w, const void *buf, size_t len,
		 const struct manifest_entry *me, struct fmt_err *err) __must_check;
/* Wait for all of them: 0, or the first error. */
int senders_wait(struct senders *s, struct fmt_err *err) __must_check;
/* Counts so far into p. */
void senders_progress(struct senders *s, struct image_progress *p);
/* Waits. */
void senders_free(struct senders *s);

#endif
