// SPDX-License-Identifier: GPL-2.0-or-later
/* Strict reading of JSON bodies, on top of json-c; see json_input.h. */
#include "control/json_input.h"

#include <ctype.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "control/config.h"

/* The object and scalars in it; one more so that nesting gets its own sentence. */
#define DEPTH_MAX 3

struct json_err {
	char *buf;
	size_t len;
};

static int __printf(2, 3) refuse(struct json_err *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->buf, e->len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Printable copy of something from outside, for a message. */
static const char *shown(const char *s, char *buf, size_t len)
{
	size_t n = 0;

	for (; *s && n + 1 < len; s++)
		buf[n++] = *s >= 0x20 && *s < 0x7f ? *s : '?';
	buf[n] = '\0';
	return buf;
}

/*
 * Number of colons outside strings in a valid JSON text: the members as written, repeated or not.
 * *single: it has strings in single quotes, which the library takes and JSON does not know.
 */
static size_t count_members(const char *s, size_t len, bool *single)
{
	bool in_string = false;
	size_t n = 0;

	*single = false;
	for (size_t i = 0; i < len; i++) {
		if (in_string && s[i] == '\\')
			i++;
		else if (s[i] == '"')
			in_string = !in_string;
		else if (!in_string && s[i] == ':')
			n++;
		else if (!in_string && s[i] == '\'')
			*single = true;
	}
	return n;
}

static int parse_text(const char *body, size_t len, struct json_object **out, struct json_err *e)
{
	struct json_tokener *tok = json_tokener_new_ex(DEPTH_MAX);
	enum json_tokener_error jerr;
	struct json_object *o;
	size_t end;

	if (!tok)
		return refuse(e, "out of memory");
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(tok, body, (int)len);
	jerr = json_tokener_get_error(tok);
	end = json_tokener_get_parse_end(tok);
	json_tokener_free(tok);
	while (end < len && isspace((unsigned char)body[end]))
		end++;
	if (jerr == json_tokener_success && end == len &&
	    json_object_is_type(o, json_type_object)) {
		*out = o;
		return 0;
	}
	json_object_put(o);
	switch (jerr) {
	case json_tokener_success:
		return end < len
			       ? refuse(e,
					"the body goes on after its JSON object (byte %zu of %zu)",
					end, len)
			       : refuse(e, "the body must be a JSON object");
	case json_tokener_continue:
		return refuse(e, "the body ends in the middle of its JSON (%zu bytes)", len);
	case json_tokener_error_depth:
		return refuse(e, "the JSON is nested too deeply");
	default:
		return refuse(e, "the body is not valid JSON: %s at byte %zu",
			      json_tokener_error_desc(jerr), end);
	}
}

static int read_number(const struct json_in_field *f, struct json_object *v, uint64_t *out,
		       struct json_err *e)
{
	const bool size = f->type == JSON_IN_SIZE;
	uint64_t n = 0;
	int r = 0;

	if (json_object_is_type(v, json_type_int)) {
		/* A negative number reads as 0 by the unsigned getter, one past 2^64 as the
		 * largest. */
		if (json_object_get_int64(v) < 0)
			return refuse(e, "\"%s\" is negative", f->name);
		n = json_object_get_uint64(v);
	} else if (size && json_object_is_type(v, json_type_string)) {
		const char *s = json_object_get_string(v);
		char buf[40];

		r = (size_t)json_object_get_string_len(v) == strlen(s) ? size_parse(s, &n)
								       : -EINVAL;
		if (r == -EINVAL)
			return refuse(
				e, "\"%s\" is \"%s\": write bytes, or a number with K, M, G or T",
				f->name, shown(s, buf, sizeof(buf)));
	} else {
		return refuse(e, "\"%s\" must be %s", f->name,
			      size ? "an integer of bytes or a string such as \"10G\""
				   : "an integer");
	}
	if (r || n < f->min || n > f->max)
		return refuse(e, "\"%s\" is out of range: %llu to %llu are allowed", f->name,
			      (unsigned long long)f->min, (unsigned long long)f->max);
	if (f->multiple && n % f->multiple)
		return refuse(e, "\"%s\" is %llu: it must be a multiple of %llu", f->name,
			      (unsigned long long)n, (unsigned long long)f->multiple);
	*out = n;
	return 0;
}

static int read_text(const struct json_in_field *f, struct json_object *v, char *out,
		     struct json_err *e)
{
	const char *s = json_object_get_string(v);
	size_t len;

	if (!json_object_is_type(v, json_type_string))
		return refuse(e, "\"%s\" must be a string", f->name);
	len = (size_t)json_object_get_string_len(v);
	if (len < f->min || len > f->max)
		return refuse(e, "\"%s\" has %zu bytes: %llu to %llu are allowed", f->name, len,
			      (unsigned long long)f->min, (unsigned long long)f->max);
	if (strlen(s) != len)
		return refuse(e, "\"%s\" has a zero byte", f->name);
	memcpy(out, s, len + 1);
	return 0;
}

static int read_field(const struct json_in_field *f, struct json_object *v, void *out,
		      struct json_err *e)
{
	char *field = (char *)out + f->offset;

	if (f->type == JSON_IN_TEXT)
		return read_text(f, v, field, e);
	if (f->type != JSON_IN_BOOL)
		return read_number(f, v, (uint64_t *)(void *)field, e);
	if (!json_object_is_type(v, json_type_boolean))
		return refuse(e, "\"%s\" must be true or false", f->name);
	*(bool *)field = json_object_get_boolean(v);
	return 0;
}

int json_input_parse(const char *body, size_t len, const struct json_in_field *fields,
		     unsigned int nr, void *out, char *err, size_t err_len)
{
	struct json_err e = {.buf = err, .len = err_len};
	struct json_object *o = NULL;
	size_t members;
	char buf[40];
	bool single;
	int r;

	if (len > INT_MAX)
		return refuse(&e, "the body is too large");
	if (!len)
		o = json_object_new_object();
	else if ((r = parse_text(body, len, &o, &e)))
		return r;
	if (!o)
		return refuse(&e, "out of memory");
	members = count_members(body, len, &single);
	r = single ? refuse(&e, "the body is not valid JSON: strings stand in double quotes") : 0;
	if (r)
		goto out;
	json_object_object_foreach (o, key, val) {
		const struct json_in_field *f = NULL;

		for (unsigned int i = 0; i < nr && !f; i++)
			if (!strcmp(fields[i].name, key))
				f = &fields[i];
		r = f ? read_field(f, val, out, &e)
		      : refuse(&e, "unknown member \"%s\"", shown(key, buf, sizeof(buf)));
		if (r)
			break;
	}
	/* All values are scalars by now, so every colon belongs to a member of this object. */
	if (!r && members != (size_t)json_object_object_length(o))
		r = refuse(&e, "a member is given twice");
	for (unsigned int i = 0; i < nr && !r; i++)
		if (fields[i].required && !json_object_object_get_ex(o, fields[i].name, NULL))
			r = refuse(&e, "\"%s\" is missing", fields[i].name);
out:
	json_object_put(o);
	return r;
}
