/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Captures, read back. */
#ifndef GFS_TRACING_REPLAY_H
#define GFS_TRACING_REPLAY_H

#include "tracing/rec.h"

struct capture_stats {
	uint64_t records; /* given to fn */
	uint64_t corrupt; /* lines that are no record: skipped */
	uint64_t unknown; /* records of a kind a later version knows: skipped */
	bool cut;         /* the last line is incomplete: the recorder was killed */
	bool ended;       /* the session ended in order */
};

/*
 * Reads a capture ("-" = standard input) and calls fn for each record in order. 0; what fn returned
 * if that is not 0 (reading stops); -errno; -EBADMSG: it is no capture; -EPROTONOSUPPORT: of a
 * later version. err then says what. Blocks on file reads.
 */
int capture_read(const char *path, int (*fn)(void *ctx, const struct rec *r), void *ctx,
		 struct capture_stats *st, char *err, size_t err_len) __must_check;

#endif
