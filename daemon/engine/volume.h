/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Volumes: roots in the store (create, open, claim, release, delete) and open volumes on this host.
 * All calls here block (store round trips, fsync) and may be made by any thread but a worker's or a
 * store's; calls for one volume name must be serialised by the caller, except where noted.
 * Errors are negative errno plus a sentence in e: -ENOENT no such volume, -EEXIST exists and
 * differs, -EBUSY owned by another host (named in e), -ESTALE fenced, -EBADMSG corrupt, -ETIMEDOUT
 * / -EIO store.
 */
#ifndef GFS_ENGINE_VOLUME_H
#define GFS_ENGINE_VOLUME_H

#include "engine/engine.h"

struct volume;

struct volume_def {
	const char *name;
	uint64_t size_bytes;         /* with `from` 0 = the same, and no smaller */
	uint32_t block_bytes;        /* 0 = default; with `from` 0 or the same */
	const struct snapshot *from; /* a fork of that, or of an image (base_source()); NULL: all
					zeros */
	bool partitions;
	bool read_only;
};

/* ---- roots ---- */

/*
 * Prepare a root owned by this host (generation 1, sequence 0), with a fresh uuid and nonce. That
 * of a fork names its source's manifest, so that one PUT makes the fork and all that it reads.
 */
int root_prepare(struct engine *e, const struct volume_def *def, struct root *r) __must_check;
/*
 * PUT it if absent; same bytes are retried under the same precondition until the answer is definite
 * or deadline_ns passes (storage rule 11). 0; -EEXIST: another volume has the name; -ETIMEDOUT:
 * still ambiguous (the caller keeps the pending record); -errno: definitely not written. etag_out
 * [STORE_ETAG_MAX].
 */
int root_create(struct engine *e, const struct root *r, uint64_t deadline_ns, uint64_t op_id,
		char *etag_out, struct fmt_err *err) __must_check;
/*
 * The same; *late, whatever it returns: some attempt had no answer of its own, so a copy may land
 * even now, for instance after the volume was removed.
 */
int root_create_late(struct engine *e, const struct root *r, uint64_t deadline_ns, uint64_t op_id,
		     char *etag_out, bool *late, struct fmt_err *err) __must_check;
/* GET and parse. etag_out may be NULL. */
int root_load(struct engine *e, const char *name, uint64_t op_id, struct root *r, char *etag_out,
	      struct fmt_err *err) __must_check;
/*
 * Conditional PUT of a changed root (the caller set a new nonce): retried until definite. -ESTALE:
 * somebody else wrote it (fenced). base: the nonce of the root that it changes, NULL if not known;
 * while that one is in place a refusal only means that the store told us a wrong ETag. etag: in the
 * precondition, out the new one. `cancel` (may be NULL) is polled.
 */
int root_update(struct engine *e, const struct root *r, const uint8_t base[16], char *etag,
		uint64_t deadline_ns, uint64_t op_id, const bool *cancel,
		struct fmt_err *err) __must_check;
/* Remove the root if it still carries `nonce` (or whatever it is, if nonce is NULL). 0 also if
 * absent. */
int root_delete(struct engine *e, const char *name, const uint8_t nonce[16], uint64_t op_id,
		struct fmt_err *err) __must_check;
/*
 * Let a read-only volume that no host owns be written to from now on, by a conditional PUT. 0 also
 * if it is writable already, out its root; -EBUSY: a host owns it; -ESTALE: it was changed at the
 * same time; -ETIMEDOUT: not definite, the same call again is safe.
 */
int root_promote(struct engine *e, struct root *r, char *etag, uint64_t op_id,
		 struct fmt_err *err) __must_check;
/*
 * The manifest that a root names, verified, kept or fetched (manifest_cache.h); *out = NULL when it
 * names none (all zeros). -ENOENT, -EBADMSG, store errors after store_timeout_ns.
 */
int root_manifest_load(struct engine *e, const struct root *r, uint64_t op_id,
		       struct manifest **out, struct fmt_err *err) __must_check;
/* Can m be the manifest of r? -EBADMSG. */
int root_manifest_check(const struct root *r, const struct manifest *m,
			struct fmt_err *err) __must_check;
/* Names in the store after `start_after` (NULL = all), malloc'ed array of strings; caller frees
 * each. */
int root_list(struct engine *e, char ***names, size_t *nr, struct fmt_err *err) __must_check;

/* ---- snapshots ---- */

/*
 * Write a snapshot of what r, a root that was current within this operation, names: metadata only.
 * until_ns: gc_window_end() from before r was read; nothing is sent after it. 0; -EINVAL: tag;
 * -ETIMEDOUT: no definite answer, what may have landed was deleted as far as the store let us;
 * other errors: definitely not written.
 */
int snapshot_write(struct engine *e, const struct root *r, const char *tag, uint64_t until_ns,
		   uint64_t op_id, struct snapshot *out, struct fmt_err *err) __must_check;
/* GET, parse, compare with its name. */
int snapshot_load(struct engine *e, const char *name, uint64_t seq, uint64_t op_id,
		  struct snapshot *out, struct fmt_err *err) __must_check;
/* 0 also if absent. Nothing but the snapshot is deleted: what it names may be named by others, and
 * is buried for the collector first. */
int snapshot_delete(struct engine *e, const char *name, uint64_t seq, uint64_t op_id,
		    struct fmt_err *err) __must_check;

/*
 * Is s, which is known since some time, still in the store, and the same (storage rule 18)? In two
 * steps, so that a create asks while its PUT is in flight. s, and its etag ("" = not known), last
 * until the end. Start: NULL is no memory. Finish: 0; -ENOENT, and it is not kept any more; store
 * errors until deadline_ns. Cancel instead: NULL is fine.
 */
struct snapshot_check;
struct snapshot_check *snapshot_check_start(struct engine *e, const struct snapshot *s,
					    const char *etag, const char *volume,
					    uint64_t deadline_ns, uint64_t op_id);
int snapshot_check_finish(struct snapshot_check *ck, struct fmt_err *err) __must_check;
void snapshot_check_cancel(struct snapshot_check *ck);

struct snapshot_entry {
	struct snapshot s; /* with `error` only seq is filled */
	int error;         /* 0; -EBADMSG, -ENODATA, -EPROTONOSUPPORT: it cannot be understood */
};
/* All snapshots of volumes that had this name, by seq; malloc'ed, the caller frees. */
int snapshot_list(struct engine *e, const char *name, uint64_t op_id, struct snapshot_entry **out,
		  size_t *nr, struct fmt_err *err) __must_check;

/* ---- base images ---- */

/* GET, parse, compare with its name. */
int base_load(struct engine *e, const char *name, uint64_t op_id, struct base *out,
	      struct fmt_err *err) __must_check;
/*
 * PUT it unless the name is taken; nothing is sent after until_ns, see gc_window_end(). 0: written,
 * or, with *there, an image that reads the same has the name (*b is that one then); -EEXIST:
 * another has it; -ETIMEDOUT: not definite, the same call again is safe.
 */
int base_seal(struct engine *e, struct base *b, bool *there, uint64_t until_ns, uint64_t op_id,
	      struct fmt_err *err) __must_check;
/* 0 also if absent. Nothing but the image's name is deleted: what it names may be named by others.
 */
int base_delete(struct engine *e, const char *name, uint64_t op_id,
		struct fmt_err *err) __must_check;

struct base_entry {
	struct base b; /* with `error` only name is filled */
	int error;     /* 0; -EBADMSG, -ENODATA, -EPROTONOSUPPORT: it cannot be understood */
};
/* All images by name; malloc'ed, the caller frees. */
int base_list(struct engine *e, uint64_t op_id, struct base_entry **out, size_t *nr,
	      struct fmt_err *err) __must_check;

/* ---- open volumes ---- */

enum volume_claim {
	CLAIM_OWN,      /* ours or detached; -EBUSY when another host owns it */
	CLAIM_TAKEOVER, /* seize it: raises the generation */
};

/*
 * Open a volume on this host: load the root (or use `created`, just written by root_create with its
 * etag; etag NULL: its PUT is in flight, so nothing is published before volume_created(), and its
 * manifest may be on its way until volume_ready()), claim it, bind or recover the local state under
 * cache_dir/volumes/UUID (mismatch: quarantined, and the store's image is served only if
 * `local_expected` is false, else -EUCLEAN). It has no lanes yet. -ESTALE, and the root is left
 * alone: it has another uuid than the one expected (NULL: any), or with local_expected and
 * CLAIM_OWN it is not this host's.
 */
int volume_open(struct engine *e, const char *name, const uint8_t uuid[16], enum volume_claim claim,
		bool local_expected, const struct root *created, const char *etag, uint64_t op_id,
		struct volume **out, struct fmt_err *err) __must_check;
/*
 * Wait for the manifest of a volume that was opened without an etag; no request may reach it
 * before. One thread. 0 at once for others, and the same when asked again. -EBADMSG, store errors,
 * -ENOMEM: the volume is of no use; -EINPROGRESS: not known yet, and `wait` is false.
 */
int volume_ready(struct volume *v, bool wait, struct fmt_err *err) __must_check;
/* The PUT of a volume opened without an etag succeeded. Not from a worker. */
void volume_created(struct volume *v, const char *etag);
/*
 * Close without uploading; local state stays for the next open. Lanes must be removed. Cancels a
 * running upload.
 */
void volume_close(struct volume *v);
/* Upload everything acknowledged before the call. May run while lanes serve I/O. timeout_ns 0 =
 * none. */
int volume_drain(struct volume *v, uint64_t timeout_ns, uint64_t op_id,
		 struct fmt_err *err) __must_check;
/*
 * The same in two steps, for callers that wait in slices: a mark for everything acknowledged so
 * far, however much is written after it, and the upload of all that is older than it.
 */
uint64_t volume_drain_mark(struct volume *v);
int volume_drain_to(struct volume *v, uint64_t mark, uint64_t timeout_ns, uint64_t op_id,
		    struct fmt_err *err) __must_check;
/*
 * Snapshot of what is uploaded, a point in time; after volume_drain_to() it has everything that was
 * acknowledged before the mark. May run while lanes serve I/O and uploads run. -ESTALE: another
 * host has the volume; -EAGAIN: a release is not definite yet; else as snapshot_write().
 */
int volume_snapshot(struct volume *v, const char *tag, uint64_t op_id, struct snapshot *out,
		    struct fmt_err *err) __must_check;
/*
 * Drain, give up ownership in the root, remove the local state. Lanes must be removed. Then close
 * it. After an error volume_releasing() tells whether it is ours for certain, and goes on as
 * before, or the release may still land: then call this again, and nothing else, until it is
 * definite. -ESTALE: refused for good, the root is another's.
 */
int volume_release(struct volume *v, uint64_t op_id, struct fmt_err *err) __must_check;
/* A release was sent and has no definite answer. Any thread. */
bool volume_releasing(struct volume *v);
/* Delete the root, then the local state. Lanes must be removed. Then close it. */
int volume_destroy(struct volume *v, uint64_t op_id, struct fmt_err *err) __must_check;

/*
 * Make the volume size_bytes large: a conditional PUT of the root, then a layer switch, after which
 * requests up to the new end are served. What was there stays, what is new reads as zeros. May run
 * while lanes serve I/O. A layer frozen before is uploaded first. 0 also if it has the size already
 * (then an unfinished grow is finished); -EINVAL smaller; -EROFS read-only; -ESTALE fenced;
 * -ETIMEDOUT: not definite, the same call again is safe.
 */
int volume_grow(struct volume *v, uint64_t size_bytes, uint64_t timeout_ns, uint64_t op_id,
		struct fmt_err *err) __must_check;

/* Add a lane on worker w (any thread but a worker's). -ENOMEM; -EBUSY: a release is not definite
 * yet. */
int volume_lane_add(struct volume *v, struct worker *w, struct lane **out) __must_check;
/* Remove all lanes; no request may be in flight. */
void volume_lanes_remove(struct volume *v);
/* For the kernel's partition scan (up to 6.17 inside START_DEV): make the first and last blocks
 * resident. */
int volume_prefetch_edges(struct volume *v, uint64_t op_id) __must_check;

/* Immutable after open; any thread. */
const char *volume_name(const struct volume *v);
const uint8_t *volume_uuid(const struct volume *v);
/* What requests may reach: the root's size, or less while a grow is not finished. Never shrinks. */
uint64_t volume_size_bytes(struct volume *v);
bool volume_partitions(const struct volume *v);
bool volume_read_only(const struct volume *v);
uint32_t volume_block_bytes(const struct volume *v);
/* Set once, by the device layer, for events; -1 before. */
void volume_set_dev_id(struct volume *v, int dev_id);

enum volume_mode { VOLUME_RW, VOLUME_READ_ONLY, VOLUME_FENCED, VOLUME_POISONED };
struct volume_info {
	struct root root;
	enum volume_mode mode;
	char why[200];                         /* of a mode other than RW */
	uint64_t dirty_bytes, oldest_dirty_ns; /* age of the oldest un-uploaded write, 0 = none */
	uint64_t reads, writes, flushes, read_bytes, write_bytes, errors;
	uint64_t uploads, upload_failures, layer_seq, parked;
	bool uploading;
	uint64_t upload_total, upload_done; /* bytes of the layer on its way; total 0 = none */
};
void volume_info_read(struct volume *v, struct volume_info *out);

#endif
