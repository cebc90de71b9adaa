/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words for people, shared by findings and sinks: requests, tasks, and text that is safe to print.
 */
#ifndef GFS_TRACING_WORDS_H
#define GFS_TRACING_WORDS_H

#include "tracing/model.h"

/* "read", "write", "flush", "discard", "write-zeroes", "request". */
const char *words_op(char op);
/* "read of 8 sectors at 4096, queue 0 tag 5". */
const char *words_req(const struct rec_req *q, char *buf, size_t size);
/* "object.get chunks/0007/ab12.pack, 2.8 s" at now_ns. */
const char *words_span(const struct rec_span *s, uint64_t now, char *buf, size_t size);
/* "sh (pid 812)", or "sh (pid 812, tid 815)"; "tid 0" never: "someone" if nothing is known. */
const char *words_task(const char *comm, uint32_t tgid, uint32_t tid, char *buf, size_t size);

/* Time a command spent in each stage, at `now` if it is open; add_disk without what is inside it.
 */
struct cmd_stages {
	uint64_t punt, worker, ready_wait, add_disk, elevator, part_scan;
};
void words_stages(const struct rec_cmd *c, uint64_t now, struct cmd_stages *out);

/* Length of the valid UTF-8 sequence at s (at most len bytes); 0: there is none. */
size_t utf8_sequence(const char *s, size_t len);
/*
 * src (at most src_max bytes or up to its NUL) into dst as valid UTF-8, every byte that is not
 * replaced by '?', and cut at a character's edge. controls: keep control characters, else they too
 * become '?': names come from any process on the host and must not steer a terminal.
 */
char *utf8_clean(char *dst, size_t size, const char *src, size_t src_max, bool controls);

/* Appends to buf at *at, never past size; *at stops at size - 1 when it is full. */
void words_add(char *buf, size_t size, size_t *at, const char *fmt, ...) __printf(4, 5);

#endif
