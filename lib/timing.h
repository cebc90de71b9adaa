/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Timing events: one record per step, on success and on failure, to three sinks from one call:
 *   1. a JSON line (target "glidefs.timing") to the configured file or stderr (journal),
 *   2. a USDT probe glidefs:timing (semaphore-guarded, no cost when nobody listens),
 *   3. a histogram per event, for /metrics.
 * timing_emit() may be called by any thread, including a worker for io.slow: it never blocks on I/O
 * (the line goes to a bounded ring that a writer thread drains; an overflow is counted, never
 * waited for). Times are CLOCK_MONOTONIC ns.
 */
#ifndef GFS_LIB_TIMING_H
#define GFS_LIB_TIMING_H

#include "lib/util.h"

/* Names appear in logs and metrics as in the table in timing.c ("ublk.start_dev", "object.get", …).
 */
enum timing_event {
	TIMING_CREATE_EXPORT,
	TIMING_MANIFEST_FETCH,
	TIMING_CACHE_HIT,
	TIMING_SAVE_EXPORT,
	TIMING_REGISTER_DEVICE,
	TIMING_ATTACH_EXPORT,
	TIMING_DETACH_EXPORT,
	TIMING_DELETE_EXPORT,
	TIMING_DRAIN_EXPORT,
	TIMING_PROMOTE_EXPORT,
	TIMING_SNAPSHOT,
	TIMING_DELETE_SNAPSHOT,
	TIMING_GC,
	TIMING_SCRUB,
	TIMING_UBLK_ADD_DEV,
	TIMING_UBLK_OPEN_CDEV,
	TIMING_UBLK_ARM_QUEUES,
	TIMING_UBLK_SET_PARAMS,
	TIMING_UBLK_START_DEV,         /* whole: prepare + wait + command */
	TIMING_UBLK_START_DEV_PREPARE, /* resident first and last blocks where the kernel scans */
	TIMING_UBLK_START_DEV_WAIT,    /* until the control thread submitted it */
	TIMING_UBLK_START_DEV_COMMAND, /* submission to completion */
	TIMING_UBLK_UDEV, /* wait for udev's rule, after START_DEV; failure is a warning */
	TIMING_UBLK_STOP_DEV,
	TIMING_UBLK_DEL_DEV,
	TIMING_UBLK_RECOVER,
	TIMING_UBLK_DEVICE, /* never emitted: an open span that says which volume a device serves */
	TIMING_OBJECT_GET,
	TIMING_OBJECT_PUT,
	TIMING_OBJECT_HEAD,
	TIMING_OBJECT_LIST,
	TIMING_OBJECT_DELETE,
	TIMING_UPLOAD,
	TIMING_LAYER_SWITCH,
	TIMING_LAYER_RECOVER,
	TIMING_LAYER_POISONED,
	TIMING_VOLUME_FENCED,
	TIMING_IO_SLOW,
	TIMING_NR
};

/* How far a guest request came before it was reported. */
enum timing_io_stage {
	TIMING_STAGE_LOCAL,
	TIMING_STAGE_FLUSH,
	TIMING_STAGE_SPACE,
	TIMING_STAGE_STORE
};

struct timing_rec {
	enum timing_event event;
	uint64_t op_id;       /* same for all steps of one request; 0 = none */
	uint64_t start_ns;    /* of the step; the record's own stamp is its end */
	uint64_t end_ns;      /* 0 = now */
	const char *export_;  /* volume name or NULL; copied */
	int dev_id;           /* ublk id or -1 */
	int result;           /* 0 or negative errno */
	const char *key;      /* object.*: key, copied; NULL otherwise */
	uint64_t bytes;       /* object.*, upload: payload bytes */
	unsigned int attempt; /* object.*: from 1; 0 = not applicable */
	/* io.slow only (is_io): */
	bool is_io;
	char io_op; /* 'R','W','F','D','Z' */
	uint16_t queue, tag;
	uint64_t sector; /* 512-byte units */
	uint32_t nsectors;
	enum timing_io_stage stage;
};

struct timing_hist_snapshot {
	const char *name; /* static */
	uint64_t count, errors, sum_us;
	const uint64_t *bounds_us; /* upper bounds, nr_bounds of them; +Inf implied */
	unsigned int nr_bounds;
	uint64_t buckets[24]; /* not cumulative; nr_bounds + 1 used */
};

/* path: file to append to, NULL = stderr. Starts the writer thread. -errno. */
int timing_init(const char *path) __must_check;
/* Drains the ring and joins the writer. */
void timing_exit(void);
void timing_emit(const struct timing_rec *rec);
/* Never 0, unique in this process, for op_id. */
uint64_t timing_op_id(void);
const char *timing_event_name(enum timing_event e);
/* "local", "flush", "space", "store"; "unknown" out of range. */
const char *timing_stage_name(enum timing_io_stage stage);
/* For /metrics. */
void timing_hist_read(enum timing_event e, struct timing_hist_snapshot *out);
/* Lines lost because the ring was full. */
uint64_t timing_dropped(void);

#endif
