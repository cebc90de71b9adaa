/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The join of control commands as the kernel saw them with the daemon's timing events about them:
 * by process, kind and time. Counts what found no partner on either side. One thread.
 */
#ifndef GFS_TRACING_JOIN_H
#define GFS_TRACING_JOIN_H

#include "tracing/rec.h"

struct join;

int join_new(struct join **out) __must_check;
void join_free(struct join *j);
/* A command ended. */
void join_cmd(struct join *j, const struct rec_cmd *c);
/* A timing event came; what began before since_ns is not expected to have a partner. */
void join_span(struct join *j, const struct rec_span *s, uint64_t since_ns);
/* Commands whose event did not come in time are counted; now_ns UINT64_MAX: all of them. */
void join_expire(struct join *j, uint64_t now_ns);
/* Sets spans, spans_unmatched and kernel_unmatched. */
void join_counts(const struct join *j, struct rec_counts *out);

#endif
