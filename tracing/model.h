/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The model: what is open now, built from records alone, and the findings drawn from it. One
 * thread. No clock of its own: time is the t_ns of the records, verdicts are drawn at each
 * REC_TICK.
 */
#ifndef GFS_TRACING_MODEL_H
#define GFS_TRACING_MODEL_H

#include "tracing/rec.h"

enum verdict {
	V_START_LATE_FETCH,    /* start-dev/late-fetch */
	V_START_PART_SCAN,     /* start-dev/partition-scan */
	V_PUNT,                /* start-dev/punt: also of other commands */
	V_FREEZE_PINNED,       /* freeze/pinned */
	V_FREEZE_SELF,         /* freeze/self-deadlock: proven */
	V_FREEZE_NO_SERVER,    /* freeze/no-server */
	V_ELV_SLOW,            /* elevator/slow */
	V_ATTR_SLOW,           /* attr/slow */
	V_RECOVERY_INCOMPLETE, /* recovery/incomplete */
	V_DEL_HELD,            /* del/held: also STOP_DEV that waits for an opener */
	V_CMD_SLOW,     /* command/slow: a command past its budget that no other verdict explains */
	V_REQUEST_SLOW, /* request/slow */
	V_KNOWN_BAD,    /* kernel/known-bad */
	V_NR
};

enum severity { SEV_WARNING, SEV_CRITICAL };

enum blocker_type { BLK_REQUEST, BLK_QUEUE, BLK_OPENER, BLK_TASK, BLK_NO_SERVER };

/* Who must act. What is not known is 0 or "". */
struct blocker {
	enum blocker_type type;
	struct rec_req req;     /* BLK_REQUEST */
	struct rec_queue queue; /* BLK_QUEUE */
	struct rec_opener opener;
	struct rec_server server; /* BLK_NO_SERVER: who died, when */
	struct rec_task owner;    /* thread of the server that has it */
	struct rec_span io_span;  /* the daemon's span of this request */
	struct rec_span span;     /* the deepest open span it waits for: object.get … */
	uint64_t age_ns;
};

#define FINDING_BLOCKERS 16
#define FINDING_CYCLE    8

struct finding {
	uint64_t id; /* from 1, in order of appearance */
	enum verdict verdict;
	enum severity severity;
	const char *catalogue; /* "H10", or "" */
	int32_t dev;
	char volume[REC_VOLUME_LEN];
	char stage[24];
	uint64_t since_ns, last_ns, end_ns; /* end_ns 0: still so at last_ns */
	uint64_t subject;       /* id of the command, freeze, …: with verdict and dev, identity */
	struct rec_task waiter; /* tid 0: nobody in particular */
	struct rec_cmd cmd;     /* when it is about a command; else id 0 */
	struct rec_attr attr;   /* when an attribute write is involved; else id 0 */
	struct rec_freeze freeze;
	struct blocker blocker[FINDING_BLOCKERS];
	unsigned int nr_blockers, more_blockers; /* more: did not fit */
	char cycle[FINDING_CYCLE][160]; /* self-deadlock: each "A waits for B" in turn, closing */
	unsigned int nr_cycle;
	char summary[400]; /* one line */
	char advice[240];  /* one line */
};

enum finding_event { FINDING_OPEN, FINDING_UPDATE, FINDING_CLOSE };

struct model_config {
	uint64_t start_dev_ns, cmd_ns, freeze_ns, attr_ns, request_ns; /* budgets; 0 = default */
	/* Called from model_feed. UPDATE: verdict, blockers or proof changed, not just the age. */
	void (*on_finding)(void *ctx, const struct finding *f, enum finding_event ev);
	void *ctx;
};
#define MODEL_START_DEV_NS (500 * NSEC_PER_MSEC)
#define MODEL_CMD_NS       (2 * NSEC_PER_SEC)
#define MODEL_FREEZE_NS    (1 * NSEC_PER_SEC)
#define MODEL_ATTR_NS      (1 * NSEC_PER_SEC)
#define MODEL_REQUEST_NS   (2 * NSEC_PER_SEC)

struct model;

/* NULL without memory. A REC_META that is fed sets budgets that cfg leaves 0. */
struct model *model_new(const struct model_config *cfg);
void model_free(struct model *m);
/* -ENOMEM: something is not tracked; counted. */
int model_feed(struct model *m, const struct rec *r);

const char *verdict_name(enum verdict v);
const char *severity_name(enum severity s);

/* All findings so far, in order of id (of thousands that ended, the last); valid until the next
 * model_feed. */
const struct finding *model_finding(const struct model *m, size_t i);
size_t model_nr_findings(const struct model *m);
/* The last REC_COUNTS, REC_META (NULL before). */
const struct rec_counts *model_counts(const struct model *m);
const struct rec_meta *model_meta(const struct model *m);
/* Devices now, for the live view: i-th, NULL past the end. */
const struct rec_dev *model_dev(const struct model *m, size_t i);
/* Open commands and freezes now. */
const struct rec_cmd *model_cmd(const struct model *m, size_t i);
const struct rec_freeze *model_freeze(const struct model *m, size_t i);
/* Requests in flight of dev in its last snapshot. */
const struct rec_req *model_req(const struct model *m, int32_t dev, size_t i);
const struct rec_hist *model_hist(const struct model *m, size_t i);

/*
 * Exit status of `check`: 3 a proven deadlock, a missing server, a known-bad kernel, or a finding
 * still open at the end; 2 findings that all ended by themselves; 0 none.
 */
int model_exit_status(const struct model *m);

#endif
