/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small objects of the store, read and listed with retries until a deadline. Blocking, no state of
 * its own; any thread that may block.
 */
#ifndef GFS_ENGINE_OBJECTS_H
#define GFS_ENGINE_OBJECTS_H

#include "engine/store_call.h"
#include "engine/volume_priv.h"

/* Of a whole operation that has none of its own: store_timeout_ns from now. */
uint64_t object_deadline(struct engine *e);
/* Of its next attempt: a part of that. */
uint64_t object_attempt_deadline(uint64_t deadline_ns);

/*
 * One GET after the other until `use` accepts the bytes (0) or the deadline passes. Bytes it
 * refuses are fetched once more, in case the transfer was bad. volume: for timing events, may be
 * NULL. `cancel` (may be NULL) is polled. 0, -ENOENT, -ECANCELED, what `use` said, the store's
 * error; with a sentence but for -ECANCELED.
 */
int object_get(struct engine *e, const char *key, const char *volume, uint64_t deadline_ns,
	       uint64_t op_id, const bool *cancel, int (*use)(const struct store_op *op, void *arg),
	       void *arg, struct fmt_err *err) __must_check;
/*
 * The same in two steps, for a caller that has something else to do meanwhile, and for HEAD too.
 * What was started ends with the other call, or with store_call_put(). NULL: no memory.
 */
struct store_call *object_read_start(struct engine *e, enum store_op_type type, const char *key,
				     const char *volume, uint64_t deadline_ns, uint64_t op_id);
int object_read_finish(struct store_call *c, uint64_t deadline_ns, const bool *cancel,
		       int (*use)(const struct store_op *op, void *arg), void *arg,
		       struct fmt_err *err) __must_check;
/* What a GET of a snapshot brought: parsed, and compared with its name. As snapshot_parse(). */
int snapshot_read(const struct store_op *op, const char *name, uint64_t seq, struct snapshot *s,
		  struct fmt_err *err) __must_check;
/* Of a manifest: length and hash as what names it says, then manifest_parse(). *out is referenced.
 */
int manifest_read(const struct store_op *op, const struct manifest_ref *ref, struct manifest **out,
		  struct fmt_err *err) __must_check;
struct object_write {
	const char *key;
	const void *data; /* borrowed until object_put() returns */
	size_t len;
	enum store_cond cond; /* not STORE_IF_MATCH */
	enum store_prio prio; /* UPLOAD: may be large, attempts have the time of a pack's */
	const char *volume;   /* for timing events, may be NULL */
	uint64_t deadline_ns; /* no attempt is sent after it; 0: some times store_timeout_ns */
};
/*
 * PUT of bytes that never change: the same again until the answer is definite. 0; with cond
 * STORE_IF_NONE_MATCH -EEXIST: the key is taken, perhaps by an attempt of this very call;
 * -ETIMEDOUT: not definite; others: definitely not written.
 */
int object_put(struct engine *e, const struct object_write *w, uint64_t op_id,
	       struct fmt_err *err) __must_check;
/*
 * DELETE until it is definite: 0 also if absent. etag: only that object, -ESTALE: it is another, or
 * absent. NULL is for keys that are never used again only: an attempt may take effect late.
 */
int object_delete(struct engine *e, const char *key, const char *etag, const char *volume,
		  uint64_t deadline_ns, uint64_t op_id, struct fmt_err *err) __must_check;
/*
 * fn for each key that begins with prefix, in order; an error of it ends the list and is returned.
 * Each page has the time of object_deadline().
 */
int object_list(struct engine *e, const char *prefix, int (*fn)(const char *key, void *arg),
		void *arg, struct fmt_err *err) __must_check;
/* The same with size and time of each. */
int object_scan(struct engine *e, const char *prefix,
		int (*fn)(const struct store_list_entry *entry, void *arg), void *arg,
		struct fmt_err *err) __must_check;

#endif
