/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of an open volume, shared by the engine's files only.
 *
 * Locks: v->mut serialises the mutators (upload, drain, release) and is held across I/O by
 * background threads; no worker takes it. v->lock guards view, lanes and flush state, is held for
 * pointer operations only.
 */
#ifndef GFS_ENGINE_VOLUME_PRIV_H
#define GFS_ENGINE_VOLUME_PRIV_H

#include "engine/volume.h"

/*
 * What a request reads through, immutable (storage rule 7). Reference-counted by lanes' lane_views,
 * by v->view, and by flush rounds; holds a reference on each part.
 */
struct view {
	int refs; /* atomic */
	struct layer *active;
	struct layer *frozen;      /* or NULL */
	struct manifest *manifest; /* or NULL: empty */
};

/*
 * A lane's adoption of one view. Counters belong to the lane's worker: no atomics in the hot path.
 * A retired lane_view tells its waiter when its writes have drained, and is freed after its last
 * request.
 */
struct lane_view {
	struct view *view;
	uint32_t writes; /* in flight */
	uint32_t total;  /* in flight, all kinds */
	bool retired;
	struct view_change *change; /* to tell when the writes have drained, once retired */
};

struct lane {
	struct volume *v;
	struct worker *w;
	unsigned int index;
	struct lane_view *cur;
	bool withhold;           /* storage rule 6: completions in `cur` wait for the release */
	struct list_head held;   /* withheld requests (gfs_req.node) */
	struct list_head parked; /* waiting for local space */
	struct worker_msg kick;  /* retry parked; posted by the housekeeper */
	int kick_posted;         /* atomic */
	uint64_t reads, writes, flushes, read_bytes, write_bytes,
		errors;      /* worker writes, others read */
	uint64_t last_block; /* end of the last read, for prefetch */
};

#define VOLUME_LANES_MAX 64
#define UPLOAD_THREADS   4

struct volume {
	struct engine *e;
	struct list_head node; /* engine's list of open volumes */
	int dirfd;             /* cache_dir/volumes/UUID */
	char dir_name[37];
	int dev_id; /* atomic */

	pthread_mutex_t mut;  /* serialises mutators */
	pthread_mutex_t lock; /* see above */
	pthread_cond_t cond;  /* with lock: upload finished, state changed */

	struct view *view;  /* latest; under lock */
	struct layer *next; /* ready for the next switch; only under mut */
	struct lane *lane[VOLUME_LANES_MAX];
	unsigned int nr_lanes;
	bool changing; /* a view change is under way: lanes may not go; under lock */

	struct root root;          /* as last published; written under mut + lock */
	char etag[STORE_ETAG_MAX]; /* under mut */
	bool unborn; /* under mut: the root's first PUT is in flight, see volume_created() */
	/* Its manifest is on its way, see volume_ready(); of who makes it, before others know it.
	 */
	struct manifest_fetch *coming;
	int unready;             /* likewise: it did not come; the sentence is in `why` */
	struct publish *publish; /* upload.c: a root PUT that is not definite yet; under mut */

	int mode;      /* enum volume_mode, atomic */
	char why[200]; /* under lock */
	bool closing;  /* atomic: cancel background work */

	/* Flush rounds (storage rule 2), under lock; see flush.c. */
	struct list_head flush_waiting, flush_current;
	struct flush_round *round;
	bool flush_running;

	/* Housekeeping. */
	int dirty_queued;                /* atomic: on the engine's dirty stack or list */
	struct volume *dirty_next;       /* engine's lock-free stack */
	struct list_head dirty_node;     /* housekeeper's list */
	bool upload_queued;              /* under lock: an upload job is queued or running */
	bool upload_wanted;              /* under lock: asked for until an upload has begun */
	bool upload_due;                 /* under lock: the queued job is for what is dirty */
	uint64_t age_ns, last_upload_ns; /* adaptive upload age; housekeeper only */
	struct pool_job upload_job;
	struct list_head upload_node;       /* upload_queue.c: in the line of large ones */
	bool upload_is_large;               /* upload_queue.c */
	uint64_t upload_total, upload_done; /* atomic: bytes of the layer that is being uploaded */
	uint64_t backoff_ns, retry_at_ns;   /* under lock */
	uint32_t parked;                    /* atomic */
	bool reserve_queued;                /* under lock: a layer_reserve job is queued */
	unsigned int local_jobs;            /* under lock: running after their reservation */
	struct pool_job reserve_job;
	uint64_t reserve_sector; /* under lock: what to reserve */
	uint32_t reserve_nsectors;
	uint64_t uploads, upload_failures, upload_bytes; /* under lock */
	bool uploading;
	bool claiming;  /* counted in space_claims; under mut */
	bool releasing; /* `release` was sent, its answer is not definite; written under mut + lock
			 */
	struct root release;
	bool removed;                     /* local files are gone: nothing to sync at close */
	uint64_t gone_reads, gone_writes; /* of lanes removed; under lock */
};

struct engine {
	struct engine_config cfg;
	char *cache_dir, *host_id;
	int cache_fd;   /* cache_dir */
	int volumes_fd; /* cache_dir/volumes */
	struct store *store;
	struct workers *workers;
	struct cache *blocks, *indexes;
	struct ssd *ssd; /* or NULL */
	int ssd_fd;      /* cache_dir/clean */
	char *ssd_path;
	struct manifest_cache *manifests; /* and snapshots */
	struct pool *compute;             /* hash and compress */
	struct pool *uploader;            /* blocking upload jobs */
	struct pool *local; /* blocking jobs that touch the local disk only: reserve */
	struct fetcher *fetcher;

	pthread_mutex_t upload_lock; /* upload_queue.c */
	struct list_head upload_large;
	unsigned int uploads_large; /* queued in the pool or running */

	pthread_mutex_t lock; /* list of volumes */
	struct list_head volumes;
	uint64_t dirty_bytes;  /* atomic, all layers */
	uint32_t parked;       /* atomic: requests waiting for local space */
	uint32_t space_claims; /* atomic: while not 0, no write may take local space */
	uint64_t uploads, upload_failures, upload_bytes; /* atomic totals */
	uint64_t snapshot_seq;                           /* atomic: the last one given out */

	/* Housekeeper: age, size and pressure triggers, parked requests. */
	pthread_t housekeeper;
	int wake_fd;
	bool stop;                  /* atomic */
	struct volume *dirty_stack; /* atomic */
	uint64_t keeper_turn;       /* turns of the housekeeper; under lock, with keeper_cond */
	pthread_cond_t keeper_cond;
};

/* view.c */
struct view *view_new(struct layer *active, struct layer *frozen, struct manifest *m);
struct view *view_get(struct view *vw);
void view_put(struct view *vw);
struct view *volume_view_get(struct volume *v); /* latest, referenced */
/*
 * Make `vw` (reference taken over) the latest view of every lane and wait until all have adopted
 * it. cut: a consistent cut for a layer switch: completions in the new view are withheld until
 * every lane adopted it. Returns after the last write in flight into the old view has finished;
 * reads may go on in the old view, which their references keep whole. Under v->mut; blocks, for
 * local I/O at most.
 */
int volume_view_change(struct volume *v, struct view *vw, bool cut) __must_check;

/*
 * Freeze the active layer: v->next becomes active, the old active one frozen (there must be no
 * frozen one). Under v->mut. 0, or 1 when the active layer is clean and nothing was done (unless
 * clean_too), or -errno.
 */
int volume_switch_layer(struct volume *v, bool clean_too) __must_check;
/* Make sure that v->next exists with the volume's size, so that a switch needs no space. Under
 * v->mut. */
int volume_next_layer(struct volume *v) __must_check;
/*
 * After its publication: view without the frozen layer and with manifest m (reference taken over);
 * removes its files. volume_claim_next() must follow once the caller's references on the old view
 * are put, whatever this returned.
 */
int volume_drop_frozen(struct volume *v, struct manifest *m) __must_check;
/*
 * On a full disk the layer that was dropped makes the room for v->next, before any waiting write
 * may have it: else a volume whose writes fill the disk again could never switch, and nothing would
 * ever make room. Under v->mut; blocks for some seconds at most.
 */
void volume_claim_next(struct volume *v);

/*
 * grow.c, under v->mut. volume_fit: let the active layer have the size of the root, by a switch; 0
 * also when there is nothing to do, -EBUSY: a frozen layer must be uploaded first.
 */
int volume_fit(struct volume *v) __must_check;
/*
 * A conditional PUT of ours was refused. 0: the root in the store differs from ours only by a grow
 * of an earlier attempt that landed late, and ours is that now (v->root, v->etag): send again.
 * -ESTALE: it is something else, in *cur with its etag; -ENOENT, store errors.
 */
int root_regrown(struct volume *v, uint64_t op_id, struct root *cur, char *etag,
		 struct fmt_err *err) __must_check;

/* flush.c */
struct flush_round *flush_round_new(struct volume *v); /* NULL: no memory; freed with free() */
void flush_join(struct lane *lane, struct gfs_req *req);

/* io.c */
void lane_retry_parked(struct worker *w, struct worker_msg *msg);
void req_finish(struct gfs_req *req, int res);
/*
 * The request is about to wait for more than its own local I/O: from now to its end it is an open
 * span. The lane's worker.
 */
void req_wait(struct gfs_req *req, enum timing_io_stage stage);
void lane_view_unref(struct lane *lane, struct lane_view *lv, bool write);

/*
 * volume_local.c: recover the layers of v->root, or create the first; sets v->dirfd, v->view,
 * v->next. With `expected`, missing or foreign layers are an error (-EUCLEAN, -ESTALE); otherwise
 * foreign ones are moved to quarantine/. And remove them all, published or given up.
 */
int volume_local_open(struct volume *v, bool expected, struct manifest *m,
		      struct fmt_err *err) __must_check;
int volume_local_remove(struct volume *v) __must_check;

/* volume.c */
void volume_set_mode(struct volume *v, enum volume_mode mode, const char *fmt, ...) __printf(3, 4);
static inline enum volume_mode volume_mode(const struct volume *v)
{
	return (enum volume_mode)__atomic_load_n(&v->mode, __ATOMIC_ACQUIRE);
}
static inline bool volume_closing(const struct volume *v)
{
	return __atomic_load_n(&v->closing, __ATOMIC_ACQUIRE);
}

/* v->mut, or -ETIMEDOUT at the deadline (0 = none). */
int volume_mut_lock(struct volume *v, uint64_t deadline_ns) __must_check;
/* -ESTALE or -EIO with the sentence of a mode other than RW. */
int volume_mode_error(struct volume *v, struct fmt_err *err);

/* housekeeper.c */
int housekeeper_start(struct engine *e) __must_check;
void housekeeper_stop(struct engine *e);
/* Wait until the housekeeper no longer knows the volume; v->closing is set. */
void housekeeper_forget(struct volume *v);
void volume_dirty_notify(struct volume *v); /* lock-free, worker's thread */
void volume_kick_parked(struct volume *v);  /* any thread */
void volume_upload_queue(struct volume *v); /* any thread: have an upload job run soon */
/* Any thread: have the active layer's space for this range allocated, then parked requests retried.
 */
void volume_reserve_queue(struct volume *v, uint64_t sector, uint32_t nsectors);

/* upload_queue.c: which upload jobs run; v->upload_job is set up and v->upload_queued. */
void upload_queue_init(struct engine *e);
void upload_queue_add(struct volume *v); /* under v->lock */
/* First thing of the job, under v->lock. False: the job ends, and runs again when it is its turn.
 */
bool upload_queue_start(struct volume *v) __must_check;
/* True: it was in line, and its job will not run. */
bool upload_queue_remove(struct volume *v);
/* The job ran; another may begin. */
void upload_queue_done(struct volume *v);

/*
 * upload.c: one whole upload under v->mut: finish a frozen layer left over from before, or freeze
 * the active one; merge, pack, PUT packs, PUT the manifest, PUT the root, drop the frozen layer. 0;
 * 1 when there was nothing to do; -errno: the frozen layer stays, try again later (-ESTALE: fenced,
 * mode set).
 */
int volume_upload_locked(struct volume *v, uint64_t op_id, struct fmt_err *err) __must_check;
/* Free what an upload that did not end left in memory; when the volume is closed. */
void upload_forget(struct volume *v);
/*
 * The root in the store is not ours: read-only from now on, with the reason. cur: what it is, NULL:
 * deleted or another volume's. -ESTALE. Any thread that may block.
 */
int volume_fence(struct volume *v, const struct root *cur, struct fmt_err *err);
const uint8_t *upload_nonce(const struct volume *v); /* of v->publish, which is there */

#endif
