/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Output files of sinks, and a small JSON writer on top. One thread. A write error sticks: it is
 * found by out_close(), nobody has to check each call.
 */
#ifndef GFS_TRACING_OUT_H
#define GFS_TRACING_OUT_H

#include <stdio.h>

#include "lib/util.h"

struct out;

/*
 * Open path for writing, "-" = standard output. What is a regular file, or is not there yet, is
 * written under a temporary name next to it; a device or a pipe is written directly. NULL: err says
 * why.
 */
struct out *out_open(const char *path, char *err, size_t err_len);
FILE *out_file(struct out *o);
/* Give the file its name and free o. -errno of the first failed write: then the name is not
 * touched. */
int out_close(struct out *o) __must_check;
/*
 * Give the file its name now and go on writing: for a file that is of use whatever its end. Nothing
 * is abandoned after that. -errno.
 */
int out_publish(struct out *o) __must_check;
/* Forget what was written, and free. */
void out_abandon(struct out *o);

#define JSON_OUT_DEPTH 12
/* Where a JSON text is being written; zero but f at the beginning. */
struct json_out {
	FILE *f;
	unsigned int depth;
	bool more[JSON_OUT_DEPTH]; /* this level has a member already */
};

/* key NULL: an element of an array. */
void json_out_begin(struct json_out *j, const char *key, char bracket);
void json_out_end(struct json_out *j, char bracket);
/*
 * Any bytes become a valid string: what is not UTF-8 becomes U+FFFD. '<', '>', '&', U+2028 and
 * U+2029 are escaped, so that the text may stand inside a <script> element.
 */
void json_out_str(struct json_out *j, const char *key, const char *s);
void json_out_u64(struct json_out *j, const char *key, uint64_t v);
void json_out_i64(struct json_out *j, const char *key, int64_t v);
void json_out_bool(struct json_out *j, const char *key, bool v);
/* ns as microseconds with three decimals. */
void json_out_us(struct json_out *j, const char *key, uint64_t ns);

/* "850 us", "12.3 ms", "3.21 s", "2 min 05 s" into buf; returns buf. */
const char *duration_text(uint64_t ns, char buf[24]);

#endif
