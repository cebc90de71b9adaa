/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the fetcher, shared by fetch.c (requests and flights), fetch_get.c (the dispatcher,
 * GETs, retries, verification), fetch_local.c (what the SSD tier has), fetch_spare.c (buffers of
 * GETs) and fetch_stream.c (read-ahead).
 *
 * A request (struct fetch_req) wants one block or one pack index. What is not cached is brought by
 * a flight (struct flight), one per index and per block of a pack, however many requests wait for
 * it. The dispatcher thread forms GETs out of the flights that wait to be submitted; so a burst of
 * misses is merged, a retry is just a flight that may not leave yet, and no caller ever waits for
 * the store.
 */
#ifndef GFS_ENGINE_FETCH_PRIV_H
#define GFS_ENGINE_FETCH_PRIV_H

#include "engine/fetch.h"

#define FETCH_INFLIGHT_MAX  (64 * MiB)         /* of GETs: bytes not verified yet */
#define FETCH_INDEX_MAX     (4 * MiB)          /* 32768 blocks of a chunk take less */
#define FETCH_GAP_MAX       (32 * KiB)         /* unwanted bytes worth reading to save a GET */
#define FETCH_AHEAD_GET_MAX (2 * MiB)          /* one GET of read-ahead */
#define FETCH_SPARE_MAX     (16 * MiB)         /* buffers that wait for another GET */
#define FETCH_SPARE_NS      (2 * NSEC_PER_SEC) /* so long at least */
#define FETCH_SPARE_MIN     (64 * KiB)         /* of the first class; each has twice the size */
#define FETCH_SPARE_CLASSES 7
#define FETCH_DIRECT_MAX    4    /* flights, up to which one leaves without the dispatcher */
#define FETCH_FORM_MAX      1024 /* flights considered together */
#define FETCH_AHEAD_JOBS    64   /* queued read-ahead jobs */
#define FETCH_INDEX_AHEAD   8    /* indexes of one chunk asked for at once */
#define FLIGHT_BUCKETS      1024
#define FETCH_WORTH_NS      (20 * NSEC_PER_MSEC) /* with less time left, no new attempt is made */
#define STREAM_SETS         64
#define STREAM_WAYS         4

enum flight_kind { FLIGHT_BLOCK, FLIGHT_INDEX };

/* What identifies a flight. No padding: compared as bytes. */
struct flight_key {
	uint8_t sha256[SHA256_LEN]; /* of the block's content, or of the index */
	uint8_t pack_id[PACK_ID_LEN];
	uint32_t block; /* within the chunk; 0 for an index */
	uint32_t kind;
};

struct get;

struct flight {
	struct fetcher *f;
	struct flight *hash_next; /* under f->lock */
	struct list_head waiters; /* fetch_req.node; under f->lock */
	struct list_head node;    /* f->submitq under f->lock, else the dispatcher's */
	struct flight_key key;
	struct manifest_entry me;
	struct pack_index_entry e; /* of a block */
	uint32_t block_bytes;
	uint64_t off; /* in the pack object */
	uint32_t len;
	uint64_t seq;           /* order of creation */
	uint64_t deadline_ns;   /* atomic: a joining reader may move it */
	uint64_t not_before_ns; /* of the next attempt */
	uint32_t attempts;
	uint8_t bad;        /* definite failures: corrupt or missing */
	bool demand;        /* atomic: somebody waits for it */
	bool alone;         /* do not merge: it was corrupt when merged */
	uint64_t op_id;     /* never 0 */
	uint64_t get_op_id; /* of the GET that brings it; under f->lock */
	const char *volume; /* valid while a GET of it runs: its first waiter ends later */
	struct get *get;
	struct pool_job job; /* fetch_local.c */
};

enum fetch_want { WANT_BLOCK, WANT_INDEX };

struct fetch_req {
	struct list_head node;
	struct fetcher *f;
	struct fetch_wait *w; /* NULL: read-ahead */
	struct manifest *m;
	enum fetch_want want;
	uint64_t block;
	const struct manifest_entry *index; /* WANT_INDEX: in m */
	uint32_t pos;                       /* entry of the chunk that is looked at: only grows */
	uint64_t deadline_ns;
	uint64_t link_op_id; /* the foreign GET that w->span was last told; 0: none */
};

/* Flights form[first .. first + nr) that share a GET. */
struct fetch_group {
	uint32_t first, nr;
	uint64_t seq; /* of the oldest */
};

struct ahead_job {
	struct list_head node;
	struct manifest *m;
	uint64_t block;
	uint32_t count;
};

struct stream {
	uint8_t uuid[16];
	bool used;
	uint32_t run;    /* blocks read in order so far */
	uint32_t window; /* blocks to read ahead */
	uint64_t next;   /* block after the highest read */
	uint64_t ahead;  /* block after the last one read ahead */
	uint64_t tick;   /* of the last use */
};

/* A buffer that waits for another GET; lies in the buffer. */
struct fetch_spare {
	struct fetch_spare *next;
};

struct fetcher {
	struct store *store;
	struct cache *blocks, *indexes;
	struct pool *compute;
	struct pool *local, *local_ahead; /* readers of cfg.ssd; NULL without it */
	struct fetch_config cfg;
	uint64_t ahead_bytes; /* most to read ahead of one reader: a part of the cache's budget */
	struct fetch_stats stats; /* each counter atomic */

	pthread_mutex_t lock; /* below; held for list and hash operations only */
	pthread_cond_t wake;  /* the dispatcher */
	struct flight *bucket[FLIGHT_BUCKETS];
	struct list_head submitq;
	struct list_head ahead; /* struct ahead_job */
	uint32_t nr_ahead, nr_flights;
	uint64_t seq;
	bool room;       /* bytes in flight ended */
	bool backlogged; /* flights wait for room, and the dispatcher sleeps: wake it */
	bool stop;
	struct fetch_spare *spare[FETCH_SPARE_CLASSES];
	uint64_t spare_bytes, spare_put_ns; /* of the last one; 0 = there are none */
	bool spare_timed;                   /* the dispatcher looks at them in time */

	pthread_t dispatcher;
	struct list_head backlog; /* dispatcher's own */
	struct flight *form[FETCH_FORM_MAX];
	struct fetch_group group[FETCH_FORM_MAX];
	uint8_t logged[64][PACK_ID_LEN]; /* packs reported as bad; under lock */
	unsigned int nr_logged;

	pthread_mutex_t stream_lock; /* only ever tried by readers */
	struct stream stream[STREAM_SETS][STREAM_WAYS];
	uint64_t stream_tick;
};

static inline void fetch_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* fetch.c */

/* Go on with a request: ends it, or parks it at a flight. `idx` (may be NULL, reference taken over)
 * is the index it waited for. */
void fetch_req_run(struct fetch_req *r, struct cache_buf *idx);
/* Under f->lock: a flight that is in no list, to the dispatcher. */
void fetch_flight_queue(struct fetcher *f, struct flight *fl);
/* Start reading `count` blocks ahead; dispatcher's thread. */
void fetch_ahead_run(struct fetcher *f, const struct ahead_job *job);
/* A flight ended: tell every waiter and free it. buf (reference taken over) is set if res is 0. */
void fetch_flight_end(struct flight *fl, struct cache_buf *buf, int res);

/* Under f->lock: r, which waits at a flight, is served by the GET of operation op_id. */
void fetch_req_link(struct fetch_req *r, uint64_t op_id);

/* fetch_get.c */

/*
 * Send a GET for one flight that is in no list, without the dispatcher. Any thread, no lock held;
 * true: the flight may be gone. False: there is no room or no memory now.
 */
bool fetch_flight_submit(struct fetcher *f, struct flight *fl) __must_check;
/* Start f->dispatcher. After f->stop was set it ends when no flight is left. -errno. */
int fetch_dispatcher_start(struct fetcher *f) __must_check;
/* Parse and check an index section into a value for the index cache. -EBADMSG and so on. */
int fetch_index_load(const void *raw, size_t len, const struct manifest_entry *me,
		     uint32_t block_bytes, struct cache_buf **out,
		     struct fmt_err *err) __must_check;

/* fetch_local.c */

/*
 * Under f->lock: if the SSD tier has what a new flight wants, have it brought from there. It does
 * not end before the lock is released.
 */
bool fetch_local_submit(struct fetcher *f, struct flight *fl) __must_check;
/* What came from the store for the flight, and was verified, to the SSD tier. */
void fetch_local_put(struct flight *fl, const void *stored);
int fetch_local_start(struct fetcher *f) __must_check;
/* No flight is left. */
void fetch_local_stop(struct fetcher *f);

/* fetch_spare.c */

/* A buffer of at least len bytes, or NULL; free() does for it too. */
void *fetch_spare_get(struct fetcher *f, uint64_t len);
/* Under f->lock: keep buf, which was got for len bytes. False: the caller frees it. */
bool fetch_spare_put(struct fetcher *f, void *buf, uint64_t len) __must_check;
/*
 * Free them if no GET gave one back for FETCH_SPARE_NS; dispatcher's thread. Returns when to look
 * again, at `next` (0 = never) at the latest.
 */
uint64_t fetch_spare_tick(struct fetcher *f, uint64_t now, uint64_t next);
void fetch_spare_free(struct fetcher *f);

/* fetch_stream.c: a reader asked for this block; may queue read-ahead. Never blocks. */
void fetch_stream_note(struct fetcher *f, struct manifest *m, uint64_t block);

#endif
