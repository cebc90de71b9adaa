/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the registry, shared by host*.c and pending.c only. h->lock guards everything here but
 * what is marked immutable or "owner", which belongs to whoever holds the name (vol->busy).
 */
#ifndef GFS_CONTROL_HOST_PRIV_H
#define GFS_CONTROL_HOST_PRIV_H

#include "control/host.h"
#include "lib/spans.h"

#define HOST_BUCKETS      1024
#define CREATE_THREADS    8 /* unless the configuration says */
#define NAME_WAITERS_MAX  16
#define NAME_WAIT_NS      (30 * NSEC_PER_SEC)
#define RETRY_BACKOFF_MIN (1 * NSEC_PER_SEC)
#define RETRY_BACKOFF_MAX (30 * NSEC_PER_SEC)

/* One name: registered (state != DETACHED), or only held by an operation. */
struct host_vol {
	struct list_head node; /* bucket */
	struct host *h;
	char name[GFS_NAME_MAX];
	uint8_t uuid[16];
	enum host_state state;
	bool listed; /* in the durable list */
	char why[200];

	/* Written by the owner of the name under the lock, so that both locks' holders may read. */
	struct volume *v;
	struct ublk_dev *dev;
	int dev_id;
	uint64_t dev_bytes;

	const char *busy;  /* operation that owns the name, NULL = free */
	const char *phase; /* what it is at, NULL = nothing to tell */
	uint64_t busy_since;
	unsigned int waiters;

	/* Recovery. */
	bool tried;   /* the first attempt is over */
	bool passing; /* FAILED for a reason that may pass: tried again */
	uint64_t retry_ns, backoff_ns;
	struct pool_job job;
};

/* A create without a definite end. Keyed by uuid; a name may have several. */
struct pending {
	struct list_head node;
	struct root root; /* immutable: name, uuid, nonce identify the PUT */
	bool active;      /* a create is using it: the reaper keeps off */
	bool reaped;      /* removed from the store once; a late PUT may still land */
	bool maybe;       /* a PUT of it may still land: never unset, adopted or not */
	/*
	 * Its volume exists, and this only remembers that a copy of its PUT may land again, which
	 * matters when the volume is removed. In memory only: after a restart nothing may take the
	 * root of a volume for the leftover of a create.
	 */
	bool whole;
	uint64_t due_ns, forget_at_ns;
};

/* host_gc.c; under its own lock but for what is atomic. */
struct host_gc {
	pthread_mutex_t lock;
	pthread_cond_t cond; /* stop */
	pthread_t thread;    /* of the background mode */
	bool started, running;
	bool stop; /* atomic too: cancels a run */
	struct gc_progress progress;
	struct host_gc_status status;

	/* Of scrub. */
	bool scrubbing;
	struct scrub_progress scrub_progress;
	uint64_t scrub_runs, scrub_bad;
};

struct host {
	struct host_config cfg;
	struct host_gc gc;
	char *host_id, *cache_dir;
	struct engine *e;
	struct ublk_host *u;
	struct pool *pool;
	struct pool *create_pool; /* local sides of creates, see host_create.c */
	int state_fd, pending_fd,
		volumes_fd; /* state_dir, state_dir/pending, cache_dir/volumes or -1 */

	pthread_mutex_t lock;
	pthread_cond_t cond; /* a name became free, the list was written, maintenance has work */
	struct list_head bucket[HOST_BUCKETS];
	struct list_head pendings;

	/* Durable list: changes are numbered, one writer at a time covers all changes so far. */
	uint64_t list_version, list_persisted;
	bool list_writing;

	bool stopping, recovered;
	unsigned int recover_left; /* volumes whose first attempt is not finished */
	unsigned int jobs;         /* on the pool */
	pthread_t maintenance;
	bool maintenance_started;
};

/* ---- host.c: names ---- */
/*
 * Own the name: waits for the operation that owns it, bounded. NULL with err filled. A fresh entry
 * has state DETACHED and vanishes at vol_end() unless it was registered.
 */
struct host_vol *vol_begin(struct host *h, const char *name, const char *op, struct op_err *err);
void vol_end(struct host_vol *vol);
/* Owner: publish the outcome of an operation. */
void vol_set(struct host_vol *vol, enum host_state state, struct volume *v, struct ublk_dev *dev);
/* Owner: whose device is about to come, so that it is not taken for a leaked one. */
void vol_set_uuid(struct host_vol *vol, const uint8_t uuid[16]);
struct host_vol *vol_find_locked(struct host *h, const char *name);
struct host_vol *vol_add_locked(struct host *h, const char *name);
void vol_fill_info(const struct host_vol *vol, struct host_volume_info *out);

/* Owner: what the operation is at, for those who wait (a string that lasts). */
void vol_phase(struct host_vol *vol, const char *phase);

/* Fill err and return -errno_: classified by errno for store and engine calls. */
int op_fail(struct op_err *err, enum op_fault fault, int errno_, const char *fmt, ...)
	__printf(4, 5);
int op_fail_engine(struct op_err *err, int r, const char *what, const char *name,
		   const struct fmt_err *fe);
int op_fail_device(struct op_err *err, int r, const char *name, const struct fmt_err *fe);

/* ---- host_list.c: the durable list ---- */
/* Put the volume on, or take it off, the list, durably. On failure it stays as it was. -errno. */
int list_set(struct host_vol *vol, bool listed) __must_check;
/* Read it at start: entries in state RECOVERING. */
int list_load(struct host *h, struct fmt_err *err) __must_check;

/* ---- pending.c ---- */
int pending_load(struct host *h, struct fmt_err *err) __must_check;
/* Durable record, active. -errno. */
int pending_add(struct host *h, const struct root *r, struct pending **out) __must_check;
/* A record for this name that no create uses, made active; NULL if none. */
struct pending *pending_adopt(struct host *h, const char *name);
/* The create reached a definite end: forget it. */
void pending_drop(struct host *h, struct pending *p);
/* Leave it to the reaper: now, or after the configured time for a retry. */
void pending_leave(struct host *h, struct pending *p, bool now);
/* The create succeeded: forget it, or, as long as a copy of its PUT may land, remember that. */
void pending_whole(struct host *h, struct pending *p);
/* The volume was removed: a copy of its PUT that lands now is the reaper's. */
void pending_removed(struct host *h, const uint8_t uuid[16]);
/* Is this root the leftover of a failed create of ours? nonce (16 bytes, may be NULL) is filled if
 * so. */
bool pending_matches(struct host *h, const struct root *r);
bool pending_has_name(struct host *h, const char *name);
/* Reap what is due; returns when the next one is due (0 = none). Maintenance thread. */
uint64_t pending_reap(struct host *h);
/* Remove what a create that is undone left under cache_dir/volumes; its volume is closed. */
void pending_local_remove(struct host *h, const uint8_t uuid[16]);
void pending_free_all(struct host *h);

/* ---- host_ops.c ---- */

/* An operation on a volume: an open span while it lasts, a timing event at its end. */
struct op_timing {
	struct timing_rec rec; /* borrows the name */
	uint32_t span;
};
/* From now. dev_id: -1 if it is not known yet. */
struct op_timing op_timing_begin(enum timing_event ev, const char *name, int dev_id,
				 uint64_t op_id);
void op_timing_end(struct op_timing *t, int dev_id, int result);
/* It did not get to begin, another has the name: no event. Returns -EBUSY. */
int op_timing_refused(struct op_timing *t);

/* Register the device of an open volume, or note that there is none without ublk. */
int vol_device_add(struct host_vol *vol, struct volume *v, uint64_t op_id, struct ublk_dev **dev,
		   struct op_err *err) __must_check;

/* The device it had before, if there is one, else a new one. */
int vol_device_recover(struct host_vol *vol, struct volume *v, uint64_t op_id,
		       struct ublk_dev **dev, struct op_err *err) __must_check;
/*
 * Attach: open it (unless it is STOPPED), device, durable list. On failure it is as before, and
 * released again if it was opened here.
 */
int vol_attach(struct host_vol *vol, enum volume_claim claim, uint64_t op_id,
	       struct op_err *err) __must_check;
/* Remove the device, if any: STOPPED. */
int vol_stop(struct host_vol *vol, bool force, uint64_t op_id, struct op_err *err) __must_check;

/*
 * Owner of an open volume: upload what was acknowledged before, in slices that end early when the
 * daemon stops. timeout_ns 0 = none. -ETIMEDOUT, -ESHUTDOWN, the engine's error.
 */
int vol_drain(struct host_vol *vol, uint64_t timeout_ns, uint64_t op_id,
	      struct op_err *err) __must_check;

/* ---- host_grow.c ---- */
/*
 * Owner of an open volume: let it and its device have at least size_bytes. A device that cannot
 * follow is no failure.
 */
int vol_grow(struct host_vol *vol, uint64_t size_bytes, uint64_t op_id,
	     struct op_err *err) __must_check;
/* After a device was recovered: its volume may have grown meanwhile. */
void vol_device_follow(struct host_vol *vol, struct ublk_dev *dev, uint64_t op_id);

/* ---- host_gc.c ---- */
int host_gc_start(struct host *h) __must_check;
/* Cancels what runs. */
void host_gc_stop(struct host *h);
/* After that, when no request runs. */
void host_gc_join(struct host *h);

/* ---- host_recover.c ---- */
void recover_retry_due(struct host *h, uint64_t *next_ns); /* maintenance thread, under lock */

#endif
