/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lasted, collected out of the records for the pictures: commands, freezes, attribute writes,
 * elevator switches, slow requests, spans of the daemon, and the findings. Memory is bounded: when
 * there are too many of a kind, the shorter half of those that ended is left out, and counted. One
 * thread.
 */
#ifndef GFS_TRACING_TIMELINE_H
#define GFS_TRACING_TIMELINE_H

#include "tracing/model.h"

enum tl_kind { TL_CMD, TL_FREEZE, TL_ATTR, TL_ELV, TL_REQ, TL_SPAN, TL_NR };

#define TL_MAX          10000 /* things of one kind */
#define TL_FINDINGS_MAX 512
#define TL_DEVS_MAX     8192
#define TL_HOOKS_MAX    64
#define TL_REQ_MIN_NS   (10 * NSEC_PER_MSEC) /* shorter requests are not told one by one */

/* Something that lasts. Its description is the last record about it. */
struct tl_item {
	enum tl_kind kind;
	int32_t dev; /* of the record, or of the volume it names */
	uint64_t start_ns;
	uint64_t end_ns;          /* 0: open to the end */
	bool end_unknown;         /* end_ns is when it was seen gone, or seen last */
	unsigned int lane, level; /* tl_assign_lanes(): items of a lane nest, level 0 outermost */
	uint64_t seen;            /* number of the last record about it */
	uint64_t seen_ns;
	struct tl_item *next; /* in the bucket of the index */
	union {               /* only the member of kind is allocated */
		struct rec_cmd cmd;
		struct rec_freeze freeze;
		struct rec_attr attr;
		struct rec_elv elv;
		struct rec_req req;
		struct rec_span span;
	};
};

struct tl_dev {
	struct rec_dev dev;
	uint64_t snap_seen; /* number of the record that began its last snapshot */
};

struct timeline {
	struct tl_item **item[TL_NR]; /* after tl_finish(): in order of start, longest first */
	size_t nr[TL_NR], cap[TL_NR];
	uint64_t left_out[TL_NR], findings_left_out, devs_left_out;
	struct finding **finding; /* only the blockers in use are filled; in order of id */
	size_t nr_findings;
	struct tl_dev *dev; /* in order of id */
	size_t nr_devs, cap_devs;
	struct rec_hook *hook;
	size_t nr_hooks;
	struct rec_meta meta;
	struct rec_counts counts;
	bool has_meta, has_counts, ended; /* ended: REC_END was seen */
	uint64_t first_ns, last_ns;       /* of the records */
	uint64_t records;
	uint64_t out_of_memory;
	struct tl_item **index;
};

/* 0 or -ENOMEM. */
int tl_init(struct timeline *t) __must_check;
void tl_free(struct timeline *t);
void tl_record(struct timeline *t, const struct rec *r);
void tl_finding(struct timeline *t, const struct finding *f, enum finding_event ev);
/* No more records: order everything, find devices of volumes. Once. */
void tl_finish(struct timeline *t);
/*
 * All items, those of a track together: in order of device, track, queue of requests, start,
 * longest first. The caller frees; NULL without memory.
 */
struct tl_item **tl_order(const struct timeline *t, size_t *n);
bool tl_same_track(const struct tl_item *a, const struct tl_item *b);
/*
 * Give items[0..n) (one track, in order of tl_finish) lanes in which they follow or contain each
 * other, never overlap in part. Containing is only for spans of one operation. Number of lanes.
 */
unsigned int tl_assign_lanes(const struct timeline *t, struct tl_item **items, size_t n);

/* Only as many blockers as f has are written: the rest of a large block stays untouched memory. */
void finding_copy(struct finding *to, const struct finding *f);

/* Where it ends in a picture: its end, or the last record for what is open. */
uint64_t tl_end(const struct timeline *t, const struct tl_item *it);
uint64_t tl_finding_end(const struct timeline *t, const struct finding *f);

/* A part of an item: stages of a command, wait of a freeze, queue and server of a request. */
struct tl_part {
	const char *name; /* static */
	uint64_t start_ns, end_ns;
};
#define TL_PARTS 12
/* Parts in order, without gaps or overlaps, none empty. Their number; 0: it has none. */
unsigned int tl_parts(const struct timeline *t, const struct tl_item *it,
		      struct tl_part parts[TL_PARTS]);
/* One line that names it: "START_DEV", "mq-deadline > queue/scheduler", "object.get chunks/7". */
void tl_title(const struct tl_item *it, char *buf, size_t size);
struct json_out;
/* What is known about it, as members of the object that is open in j. */
void tl_json_members(struct json_out *j, const struct tl_item *it);
/* Tracks: "control", "freeze", "attributes", "requests", "daemon". */
enum tl_track { TRACK_CONTROL, TRACK_FREEZE, TRACK_ATTR, TRACK_REQ, TRACK_DAEMON, TRACK_NR };
enum tl_track tl_track_of(enum tl_kind kind);
const char *tl_track_name(enum tl_track track);
/* "ublkb3 vm-17", "no device". */
void tl_dev_name(const struct timeline *t, int32_t dev, char *buf, size_t size);
/* The volume of dev, "" if unknown. */
const char *tl_volume(const struct timeline *t, int32_t dev);

#endif
