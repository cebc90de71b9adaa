/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Garbage collection: deletes packs and manifests that nothing in the store names any more, and
 * that nothing which is under way on any host can come to name. Documentation/gc.rst says why that
 * is so, rule by rule; whoever changes an object that names a manifest must read it.
 *
 * All calls block; any thread that may. A run keeps its state on its own, any number of them may
 * run on any number of hosts.
 */
#ifndef GFS_ENGINE_GC_H
#define GFS_ENGINE_GC_H

#include "engine/engine.h"

struct gc_params {
	uint64_t grace_s;    /* no less than gc_grace_ns of the engine */
	uint64_t max_delete; /* packs and manifests in one run; 0 = no limit */
	bool dry_run;        /* delete and mark nothing */
};

/* Objects are packs and manifests. */
struct gc_report {
	uint64_t roots, snapshots, bases, graves; /* read: what names manifests */
	uint64_t live, live_bytes;                /* named by one of them */
	uint64_t young;                           /* not named, younger than the grace period */
	uint64_t waiting; /* named by nothing when they were marked, less than a period ago */
	uint64_t marked, marked_bytes;   /* by this run; dry run: that it would mark */
	uint64_t deleted, deleted_bytes; /* by this run; dry run: that it would delete */
	uint64_t left;                   /* to be deleted, but for max_delete or a failure */
	uint64_t spared;                 /* marked once, but named again */
	uint64_t foreign;                /* below chunks/ and manifests/, no names of ours */
};

/* What a run is at: written by it, read by any thread, atomically. */
struct gc_progress {
	const char *phase; /* "" = none; a string that lasts */
	uint64_t seen;     /* objects looked at in this phase */
	uint64_t deleted;  /* so far */
};

/*
 * One run: reads all that names manifests, deletes what was marked at least a grace period ago and
 * is named by nothing now, marks what is named by nothing. cancel (may be NULL) is polled. 0;
 * -EINVAL: parameters; -EBADMSG, -ENODATA, -EPROTONOSUPPORT, -ENOENT: something that names others
 * cannot be read or is missing, and nothing at all was deleted; -ETIME: it took too long to be
 * safe; -ECANCELED; the store's errors. `out` counts what was done in any case.
 */
int gc_run(struct engine *e, const struct gc_params *p, const bool *cancel, uint64_t op_id,
	   struct gc_progress *progress, struct gc_report *out, struct fmt_err *err) __must_check;

/*
 * The end, in now_ns(), of what may be done on the ground of something that is seen in the store
 * now: no PUT of an object that names a manifest is sent after the end of the window in which its
 * packs were PUT, or its source was read. A quarter of the grace period.
 */
uint64_t gc_window_end(const struct engine *e);

/*
 * The number of the grace period in which the store's clock is, for names that follow from content:
 * those of one period are never used after it, so never after one of them may be deleted. The
 * store's errors.
 */
int gc_period(struct engine *e, uint64_t op_id, uint64_t *period, struct fmt_err *err) __must_check;

/* The object that was buried: one that has its key later may be another. */
struct gc_buried {
	char etag[STORE_ETAG_MAX];
	uint8_t sha256[SHA256_LEN]; /* of its text */
};
/*
 * Before a snapshot or an image is deleted: keep for the collector what it named, which others may
 * be about to name. 0; -ENOENT: there is no such object; else do not delete it.
 */
int gc_bury(struct engine *e, const char *key, const char *volume, uint64_t op_id,
	    struct gc_buried *out, struct fmt_err *err) __must_check;
/* The same of an object that may not be there yet: its text. */
int gc_bury_text(struct engine *e, const void *text, size_t len, const char *volume, uint64_t op_id,
		 struct fmt_err *err) __must_check;

#endif
