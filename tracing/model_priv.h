/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the model keeps (model.c) and the verdicts read (verdict*.c). Nothing outside includes this.
 *
 * A subject is a thing a finding may be about: a command, a freeze, an attribute write, an elevator
 * switch. It stays in its list while it is open and until the tick after its end; a subject that is
 * not told again for LOST_NS is taken for ended when it was last told (its end was dropped).
 */
#ifndef GFS_TRACING_MODEL_PRIV_H
#define GFS_TRACING_MODEL_PRIV_H

#include "tracing/model.h"

#define LOST_NS (5 * NSEC_PER_SEC)

/* A growing array of equal elements; max bounds what a corrupt capture can make it hold. */
struct vec {
	char *v;
	size_t nr, cap, size, max;
};

/* A zeroed or copied element at the end; NULL: no memory, or full. */
void *vec_push(struct vec *v, const void *elem);
void vec_drop(struct vec *v, size_t i);
void vec_free(struct vec *v);
static inline void *vec_at(const struct vec *v, size_t i)
{
	return i < v->nr ? v->v + i * v->size : NULL;
}

/* A snapshot of one device: what was armed and in flight at ns. */
struct snap {
	uint64_t ns; /* when it was begun; 0: none yet */
	struct vec queue, req;
};

struct mdev {
	struct rec_dev d; /* d.dev always valid; the rest once dev_ns != 0 */
	uint64_t dev_ns;  /* when d was told */
	bool gone;
	uint64_t quiesced_ns; /* first time it was told so, since it was last live */
	uint64_t back_ns;     /* last time a server came back; 0 = none since the session began */
	struct rec_server server; /* the last one told; at_ns 0: none */
	struct rec_cmd recovery;  /* START_USER_RECOVERY that waits for its END; id 0: none */
	struct snap cur, next;    /* complete; being told */
	struct vec opener;        /* struct mopener */
};

struct mopener {
	struct rec_opener o;
	uint64_t t_ns;
};

struct mcmd {
	struct rec_cmd c;
	uint64_t told_ns;
};

struct mfreeze {
	struct rec_freeze f;
	uint64_t told_ns;
};

struct mattr {
	struct rec_attr a;
	uint64_t told_ns;
};

struct melv {
	struct rec_elv e;
	uint64_t told_ns;
};

struct mtask {
	struct rec_task t;
	uint64_t t_ns;
};

/* What a finding is about; with its id the identity of the finding, whatever its verdict. */
enum family { FAM_CMD, FAM_FREEZE, FAM_ATTR, FAM_ELV, FAM_RECOVERY, FAM_REQ, FAM_KERNEL };

struct subject {
	enum family family;
	int32_t dev;
	uint64_t id;         /* of the record; FAM_REQ: start_ns */
	uint32_t queue, tag; /* FAM_REQ; FAM_CMD: tag is the tgid */
};

struct mfinding {
	struct finding f;
	struct subject s;
	uint64_t evidence; /* hash of what makes an UPDATE */
	uint64_t seen_ns;  /* FAM_REQ: last snapshot that had it */
};

#define MODEL_DONE   512  /* requests that ended late, remembered */
#define MODEL_CLOSED 1024 /* spans that ended, remembered */

struct model {
	struct model_config cfg, asked;
	uint64_t now, prev_tick;
	struct rec_meta meta;
	struct rec_counts counts;
	bool has_meta, has_counts;
	struct vec dev, cmd, freeze, attr, elv, task, hist;
	struct vec span; /* open, told since the last tick */
	struct rec_span *closed;
	struct rec_req *done;
	uint64_t nr_closed, nr_done, done_judged; /* ever */
	struct rec_kmsg oops; /* the first that concerns the driver; what "" = none */
	uint64_t oops_ns;
	const char *bad_kernel; /* reason, or NULL */
	bool has_bad_cmd;
	struct rec_cmd bad_cmd; /* the first command seen on it */
	struct vec finding;     /* struct mfinding * */
	uint64_t nr_findings;   /* ever */
	int status;             /* of findings no longer kept */
	struct finding *scratch;
	uint64_t untracked;
};

/* model.c */
struct mdev *model_find_dev(const struct model *m, int32_t dev);
/* The last word on a thread, NULL: never told. since: told at or after it, else NULL. */
const struct rec_task *model_task(const struct model *m, uint32_t tid, uint64_t since);
/* A snapshot of dev begun in [from, until] (until 0: no bound); NULL: none. */
const struct snap *model_snap(const struct model *m, int32_t dev, uint64_t from, uint64_t until);
static inline bool req_same(const struct rec_req *a, const struct rec_req *b)
{
	return a->dev == b->dev && a->queue == b->queue && a->tag == b->tag &&
	       a->start_ns == b->start_ns;
}
static inline uint64_t since(uint64_t now, uint64_t then)
{
	return now > then ? now - then : 0;
}

/* verdict.c: draw everything at m->now. */
void verdicts_draw(struct model *m);
/* The scratch finding, cleared, about dev. */
struct finding *verdict_begin(struct model *m, int32_t dev);
/* Tell the scratch finding: opens, updates or (end_ns set) closes the finding of this subject. */
struct mfinding *verdict_put(struct model *m, const struct subject *s, struct finding *f);
/* The finding of a subject, open or closed; NULL: none. */
struct mfinding *verdict_find(const struct model *m, const struct subject *s);
/* Is there an open finding of this family with this waiter (or any, tid 0) on dev? */
bool verdict_open_for(const struct model *m, enum family family, int32_t dev, uint32_t tid);
/* Next blocker of f, cleared; NULL when it is full, and counted. */
struct blocker *verdict_blocker(struct finding *f, enum blocker_type type);

/* verdict_cmd.c */
void verdict_cmds(struct model *m);
void verdict_recovery(struct model *m);
/* Is this an open, or just ended, command of that thread? */
const struct rec_cmd *verdict_cmd_of(const struct model *m, uint32_t tid, uint64_t from,
				     uint64_t until);

/* verdict_freeze.c */
void verdict_freezes(struct model *m);
void verdict_attrs(struct model *m);
void verdict_elvs(struct model *m);

/* verdict_req.c */
void verdict_reqs(struct model *m);
/*
 * The requests of a snapshot that `want` accepts become blockers of f, oldest first, each with its
 * thread and the daemon's spans. The number in flight, those that did not fit included.
 */
unsigned int verdict_add_reqs(struct model *m, struct finding *f, const struct snap *s,
			      bool (*want)(const struct rec_req *q));
/* The same of requests that ended in [from, until], for a subject that ended between two polls. */
unsigned int verdict_add_done(struct model *m, struct finding *f, uint64_t from, uint64_t until,
			      bool (*want)(const struct rec_req *q));
/* Owner thread and spans of b->req, as far as known. */
void verdict_join(struct model *m, struct blocker *b);
/* The oldest open span below an operation: object.* first. False: none. */
bool verdict_deepest(const struct model *m, const struct rec_span *top, struct rec_span *out);
/* The open span `event…` of a device. NULL: none. */
const struct rec_span *verdict_dev_span(const struct model *m, int32_t dev, const char *event);
/* Nobody serves dev? Fills who and when (what is known). */
bool verdict_no_server(const struct model *m, int32_t dev, uint64_t from, struct rec_server *who);

/* verdict_words.c: summary and advice of f from its other members. */
void verdict_words(const struct model *m, struct finding *f);

#endif
