/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gfs-trace doctor: can this host run glidefs and gfs-trace, and what is amiss with its ublk
 * devices? Reads only. One thread; blocks for some 100 ms on a large host.
 */
#ifndef GFS_TRACING_DOCTOR_H
#define GFS_TRACING_DOCTOR_H

#include "lib/util.h"
#include <stdio.h>

enum doctor_verdict {
	DOCTOR_OK,
	DOCTOR_UNKNOWN, /* could not be found out */
	DOCTOR_WARN,    /* runs, but not as well as it could */
	DOCTOR_BAD,     /* cannot run here */
};

struct doctor_result {
	enum doctor_verdict verdict;
	char text[600]; /* what was found, one line */
	char next[400]; /* what to do about it; "" = nothing */
};

/* Add to a result: the worst verdict stays, texts and steps are joined. */
void doctor_say(struct doctor_result *r, enum doctor_verdict v, const char *fmt, ...)
	__printf(3, 4);
void doctor_next(struct doctor_result *r, const char *fmt, ...) __printf(2, 3);

/* Where results go, for checks of others. */
struct doctor_out;
void doctor_emit(struct doctor_out *o, const char *check, const struct doctor_result *r);

#define DOCTOR_CAN_RUN    0
#define DOCTOR_CANNOT_RUN 4

/*
 * Run all checks, then extra (may be NULL), which emits its own (0, or -errno: counts as one that
 * cannot run). Text, or one JSON object a line:
 * {"v":1,"type":"doctor","check":…,"verdict":…,"text":…,"next":…}. DOCTOR_CAN_RUN, or
 * DOCTOR_CANNOT_RUN if a verdict is DOCTOR_BAD.
 */
int doctor_checks(FILE *out, bool json, int (*extra)(struct doctor_out *o, void *ctx), void *ctx);
/* Without others' checks. */
int doctor_run(FILE *out, bool json);

#endif
