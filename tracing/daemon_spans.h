/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open spans of a running daemon, read from its memory (lib/spans.h): works on a daemon that hangs,
 * and on one that was started long before. One thread.
 */
#ifndef GFS_TRACING_DAEMON_SPANS_H
#define GFS_TRACING_DAEMON_SPANS_H

#include "tracing/rec.h"

struct daemon_spans;

/* 0; -ENOENT: this program keeps no spans (a foreign server); -EPERM; -EPROTONOSUPPORT: of another
 * version. */
int daemon_spans_open(uint32_t pid, struct daemon_spans **out, char *err,
		      size_t err_len) __must_check;
void daemon_spans_close(struct daemon_spans *d);
/*
 * Calls fn for each span open now, as a record with kind REC_SPAN and open = true. The number of
 * them, or -errno (-ESRCH: it ended).
 */
int daemon_spans_read(struct daemon_spans *d, void (*fn)(void *ctx, const struct rec *r),
		      void *ctx) __must_check;

/* Spans that found no room in the daemon's table since it started, as of the last open or read. */
uint64_t daemon_spans_dropped(const struct daemon_spans *d);

/*
 * The daemon's JSON timing log, for the join offline: calls fn for each line that is a timing
 * event, as a closed REC_SPAN (rec.t_ns = its end; pid = 0, the log does not say it). A line may
 * have something in front of its JSON, as from a journal. Lines that are no events, and events that
 * the daemon says it lost, are counted in *bad. The number of events or -errno.
 */
int timing_log_read(const char *path, void (*fn)(void *ctx, const struct rec *r), void *ctx,
		    uint64_t *bad) __must_check;

#endif
