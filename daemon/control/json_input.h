/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Strict reading of small JSON bodies from outside: one flat object whose members a table
 * describes. Anything else (unknown, repeated or missing members, wrong types, nesting, trailing
 * bytes, numbers out of range) is refused with a sentence. No state; any thread.
 */
#ifndef GFS_CONTROL_JSON_INPUT_H
#define GFS_CONTROL_JSON_INPUT_H

#include "lib/util.h"

enum json_in_type {
	JSON_IN_BOOL, /* bool */
	JSON_IN_UINT, /* uint64_t: an integer */
	JSON_IN_SIZE, /* uint64_t: an integer of bytes or a string such as "10G" */
	JSON_IN_TEXT, /* char[max + 1]: a string of min to max bytes, without NUL */
};

struct json_in_field {
	const char *name;
	enum json_in_type type;
	size_t offset; /* in the caller's struct */
	bool required;
	uint64_t min, max, multiple; /* numbers; multiple 0 = any; length of a text */
};

/*
 * Read `len` bytes of body into *out by the table. Members that are absent leave *out as it is. An
 * empty body counts as {}. 0, or -EINVAL with a sentence in err.
 */
int json_input_parse(const char *body, size_t len, const struct json_in_field *fields,
		     unsigned int nr, void *out, char *err, size_t err_len) __must_check;

#endif
