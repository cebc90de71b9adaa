/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Outputs. A sink sees every record and every finding of a session or a replay, in order; it may
 * keep what it needs and write at the end. One thread. Each constructor opens its file at once, so
 * that a bad path fails before anything is attached; a regular file is written under a temporary
 * name and renamed at close, so that a full disk or a kill leaves no half file under the asked
 * name. A capture, which replays however it ends, has its name from its first tick on; text and
 * json write to a stream as they go.
 */
#ifndef GFS_TRACING_SINK_H
#define GFS_TRACING_SINK_H

#include "tracing/model.h"

struct sink {
	/* Either may be NULL. */
	void (*record)(struct sink *s, const struct rec *r);
	void (*finding)(struct sink *s, const struct finding *f, enum finding_event ev);
	/* Write the rest, close, free. m is complete. 0 or -errno of the first failed write. m
	 * NULL: it came to nothing; free, and leave a file as it was before. */
	int (*close)(struct sink *s, const struct model *m);
};

/* path "-" = standard output. NULL: err (a sentence) says why. */
struct sink *sink_text(const char *path, bool color, bool verbose, char *err, size_t err_len);
struct sink *sink_json(const char *path, char *err, size_t err_len);
struct sink *sink_perfetto(const char *path, char *err, size_t err_len);
struct sink *sink_html(const char *path, char *err, size_t err_len);
struct sink *sink_folded(const char *path, char *err, size_t err_len);
/* Every record as a line: a capture. ring_ns != 0: keeps only the last ring_ns in memory and writes
 * them when triggered (sink_capture_trigger), then goes on for as long again. */
struct sink *sink_capture(const char *path, uint64_t ring_ns, char *err, size_t err_len);
void sink_capture_trigger(struct sink *s);

#endif
