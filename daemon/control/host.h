/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The volumes of this host: which are attached, which are to be attached at start (a durable list),
 * and which creates failed without a definite answer (durable pending records, storage rule 11).
 * Operations on one name run one at a time, on different names in parallel. All operations block
 * (store, disk, kernel); any thread but a worker's. The registry lock is never held across anything
 * that blocks.
 */
#ifndef GFS_CONTROL_HOST_H
#define GFS_CONTROL_HOST_H

#include "engine/gc.h"
#include "engine/scrub.h"
#include "engine/volume.h"
#include "lib/pool.h"
#include "ublk/device.h"

struct host;

/* What kind of failure it was; the API turns it into a status. */
enum op_fault {
	OP_FAULT_NONE,
	OP_FAULT_REQUEST,  /* the caller's mistake */
	OP_FAULT_MISSING,  /* no such volume */
	OP_FAULT_CONFLICT, /* exists and differs, owned elsewhere, in use */
	OP_FAULT_BUSY,     /* another operation on the name, or the daemon is stopping */
	OP_FAULT_STORE,    /* the object store failed or gave no definite answer */
	OP_FAULT_DEVICE,   /* the kernel device failed */
	OP_FAULT_SPACE,    /* this host's disk or memory is full */
	OP_FAULT_LOCAL,    /* this host's state is corrupt, or another local failure */
};

struct op_err {
	enum op_fault fault;
	char msg[400];
};

struct host_config {
	const char *state_dir, *cache_dir;
	const char *host_id;         /* "name/uuid" */
	uint64_t create_timeout_ns;  /* how long a create's PUT is retried */
	unsigned int creates;        /* at once, 0: 8; no fewer than requests, or names wait */
	uint64_t reap_ns, forget_ns; /* of pending records, see config.c */
	uint64_t gc_interval_ns;     /* between runs of the collector in the background; 0 = none */
	uint64_t gc_max_delete;      /* of such a run; 0 = no limit */
	/* Called once, on any thread, when each known volume was tried; may be NULL. */
	void (*on_ready)(void *arg, unsigned int attached, unsigned int failed);
	void *on_ready_arg;
};

/*
 * Read the durable list and pending records and start the maintenance thread. Borrows engine, ublk
 * (NULL: volumes without devices) and pool. -EBADMSG and a sentence when the list is damaged.
 */
int host_create(const struct host_config *c, struct engine *e, struct ublk_host *u,
		struct pool *pool, struct host **out, struct fmt_err *err) __must_check;
/*
 * Remove devices of ours that belong to no volume of the registry. At start before the API, so that
 * nothing new gets a device meanwhile. Any thread that may block.
 */
void host_reap_devices(struct host *h);
/* Attach every volume of the list, in parallel on the pool; returns at once, on_ready tells. */
void host_recover_start(struct host *h);
/* From now on operations are refused and drains end early. Any thread. */
void host_stop(struct host *h);
/*
 * After host_stop() and when no operation runs: devices are abandoned (they stay, QUIESCED, for the
 * next daemon, and so do their mounts), volumes closed, the thread joined.
 */
void host_destroy(struct host *h);

/*
 * Created, or already there with the same definition (*created false); with its device either way.
 * One that is there and smaller grows; its device too where the kernel can do that, else
 * host_volume_info.dev_bytes tells that it did not.
 */
int host_create_volume(struct host *h, const struct volume_def *def, uint64_t op_id, bool *created,
		       struct op_err *err) __must_check;
/*
 * The same of a fork: metadata only. from: "snapshot:NAME@SEQ", "image:NAME", or "volume:NAME",
 * which makes a snapshot of that volume first (deleted again if the fork cannot be made). What is
 * there is it if it was made from the same snapshot, from an image of that name or, of a volume,
 * from any snapshot of it. def->from is ignored.
 */
int host_fork_volume(struct host *h, const struct volume_def *def, const char *from, uint64_t op_id,
		     bool *created, struct op_err *err) __must_check;
/* *changed: it was not attached before. */
int host_attach(struct host *h, const char *name, uint64_t op_id, bool *changed,
		struct op_err *err) __must_check;
/*
 * Upload everything, remove the device, release ownership. force: also when the device is in use,
 * and when the upload fails or is not done after timeout_ns (0 = no limit): then the data and the
 * ownership stay on this host for a later attach.
 */
int host_detach(struct host *h, const char *name, bool force, uint64_t timeout_ns, uint64_t op_id,
		struct op_err *err) __must_check;
/* Make a detached, read-only volume writable; 0 also if it is. Not while it is attached. */
int host_promote(struct host *h, const char *name, uint64_t op_id, struct op_err *err) __must_check;
/* Remove the volume and its data. force: also when its device is in use. */
int host_remove(struct host *h, const char *name, bool force, uint64_t op_id,
		struct op_err *err) __must_check;
/* Upload everything acknowledged before the call. timeout_ns 0 = none. */
int host_drain(struct host *h, const char *name, uint64_t timeout_ns, uint64_t op_id,
	       struct op_err *err) __must_check;
/*
 * Snapshot of everything acknowledged before the call; of a volume that no host owns, of what the
 * store has. timeout_ns: of the upload, 0 = none.
 */
int host_snapshot(struct host *h, const char *name, const char *tag, uint64_t timeout_ns,
		  uint64_t op_id, struct snapshot *out, struct op_err *err) __must_check;
/* malloc'ed, the caller frees. Also of a volume that was removed; missing if there is neither. */
int host_snapshot_list(struct host *h, const char *name, uint64_t op_id,
		       struct snapshot_entry **out, size_t *nr, struct op_err *err) __must_check;
/* 0 also if there is none. */
int host_snapshot_delete(struct host *h, const char *name, uint64_t seq, uint64_t op_id,
			 struct op_err *err) __must_check;
/* Base images of the store. malloc'ed, the caller frees. */
int host_image_list(struct host *h, uint64_t op_id, struct base_entry **out, size_t *nr,
		    struct op_err *err) __must_check;
/* 0 also if there is none; forks of it keep their data. */
int host_image_delete(struct host *h, const char *name, uint64_t op_id,
		      struct op_err *err) __must_check;
/* Seize the volume from another host and attach it. force: also when our own stale device is in
 * use. */
int host_takeover(struct host *h, const char *name, bool force, uint64_t op_id,
		  struct op_err *err) __must_check;

enum host_state {
	HOST_DETACHED, /* in the store only */
	HOST_ATTACHED,
	HOST_STOPPED,    /* open on this host, without a device: a detach or rm did not finish */
	HOST_RECOVERING, /* of the durable list, not tried yet */
	HOST_FAILED,     /* of the durable list, cannot be attached; see why */
};

struct host_volume_info {
	const char *name; /* valid as long as the struct */
	enum host_state state;
	const char *why;    /* of FAILED, "" otherwise */
	const char *busy;   /* operation that runs on it, or NULL */
	int dev_id;         /* -1: none */
	uint64_t dev_bytes; /* size of the device as the kernel has it */
	const char *phase;  /* what the operation is at, or NULL */
	bool open;          /* info is live */
	bool known;         /* info.root is filled (open, or loaded from the store) */
	struct volume_info info;
};

const char *host_state_name(enum host_state s);
/*
 * One volume, from this host or the store. Copies of name and why are in the caller's strings.
 * local: what this host knows only, also while it is being attached; never blocks.
 */
int host_show(struct host *h, const char *name, bool local, uint64_t op_id,
	      struct host_volume_info *out, char why[200], struct op_err *err) __must_check;
/*
 * All volumes: this host's and those only in the store, in no order. Returns 0, or -errno when the
 * store could not be listed (this host's were given nevertheless).
 */
int host_list(struct host *h, uint64_t op_id,
	      void (*fn)(const struct host_volume_info *v, void *arg), void *arg,
	      struct op_err *err) __must_check;
/* This host's volumes only; fn runs under the registry lock and must not block. Never blocks
 * itself. */
void host_each(struct host *h, void (*fn)(const struct host_volume_info *v, void *arg), void *arg);

/*
 * A run of the collector over the whole store. grace_s 0: as configured. One at a time on this
 * host, else busy. `out` tells what was done, also after an error.
 */
int host_gc(struct host *h, const struct gc_params *p, uint64_t op_id, struct gc_report *out,
	    struct op_err *err) __must_check;

/* Verify what a volume, or all, have in the store. One at a time on this host, else busy. */
int host_scrub(struct host *h, const struct scrub_params *p, uint64_t op_id,
	       struct scrub_report *out, struct op_err *err) __must_check;
struct host_scrub_status {
	bool running;
	struct scrub_progress progress;
	uint64_t runs, bad_total; /* since the start */
};
/* Never blocks. */
void host_scrub_status_read(struct host *h, struct host_scrub_status *out);

struct host_gc_status {
	const char *phase; /* of the run that goes on, NULL = none; a string that lasts */
	uint64_t seen, deleted;
	uint64_t runs, failures; /* since the start */
	struct gc_report last;   /* of the last run that ended */
	uint64_t last_end_s;     /* seconds since 1970, 0 = none */
	bool last_dry;
	char last_error[400]; /* "" = it succeeded */
	uint64_t deleted_total, deleted_bytes_total;
};
/* Never blocks. */
void host_gc_status_read(struct host *h, struct host_gc_status *out);

struct host_summary {
	bool ready; /* each known volume was tried, and none fails for a passing reason */
	unsigned int attached, stopped, recovering, failed, failed_passing, pending;
};
void host_summary_read(struct host *h, struct host_summary *out);
/* As created, immutable. */
const struct host_config *host_cfg(const struct host *h);

/*
 * The host id "name/uuid" into out[len]; the uuid is made once and kept in state_dir/host-id. name
 * NULL or
 * "": the system's host name.
 */
int host_id_load(const char *state_dir, const char *name, char *out, size_t len,
		 struct fmt_err *err) __must_check;

#endif
