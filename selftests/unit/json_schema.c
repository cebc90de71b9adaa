// SPDX-License-Identifier: GPL-2.0-or-later
/* See json_schema.h. Schemas are our own files: recursion is as deep as they are. */
#include "selftests/unit/json_schema.h"

#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/util.h"

struct check {
	struct json_object *doc;
	char *err;
	size_t len;
	char path[256];
};

static bool check(struct check *c, struct json_object *schema, struct json_object *value);

static bool __printf(2, 3) wrong(struct check *c, const char *fmt, ...)
{
	int n = snprintf(c->err, c->len, "%s: ", c->path[0] ? c->path : "/");
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->err + n, c->len - (size_t)n, fmt, ap);
	va_end(ap);
	return false;
}

struct json_object *json_schema_ref(struct json_object *doc, const char *ref)
{
	char copy[256], *save = NULL;

	if (ref[0] != '#')
		return NULL;
	snprintf(copy, sizeof(copy), "%s", ref + 1);
	for (char *p = strtok_r(copy, "/", &save); p; p = strtok_r(NULL, "/", &save))
		if (!json_object_object_get_ex(doc, p, &doc))
			return NULL;
	return doc;
}

static bool is_type(struct json_object *v, const char *type)
{
	static const struct {
		const char *name;
		enum json_type type;
	} types[] = {
		{"object", json_type_object}, {"array", json_type_array},
		{"string", json_type_string}, {"boolean", json_type_boolean},
		{"integer", json_type_int},   {"null", json_type_null},
		{"number", json_type_double}, {"number", json_type_int},
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i].name, type) && json_object_is_type(v, types[i].type))
			return true;
	return false;
}

static bool check_type(struct check *c, struct json_object *rule, struct json_object *v)
{
	if (json_object_is_type(rule, json_type_string)) {
		if (is_type(v, json_object_get_string(rule)))
			return true;
	} else {
		for (size_t i = 0; i < json_object_array_length(rule); i++)
			if (is_type(v, json_object_get_string(json_object_array_get_idx(rule, i))))
				return true;
	}
	return wrong(c, "is %s, not %s", json_object_to_json_string(v),
		     json_object_to_json_string(rule));
}

static bool check_enum(struct check *c, struct json_object *rule, struct json_object *v)
{
	for (size_t i = 0; i < json_object_array_length(rule); i++)
		if (json_object_equal(json_object_array_get_idx(rule, i), v))
			return true;
	return wrong(c, "%s is none of %s", json_object_to_json_string(v),
		     json_object_to_json_string(rule));
}

static bool check_member(struct check *c, const char *key, struct json_object *schema,
			 struct json_object *v)
{
	size_t n = strlen(c->path);
	bool ok;

	snprintf(c->path + n, sizeof(c->path) - n, "/%s", key);
	ok = check(c, schema, v);
	c->path[n] = '\0';
	return ok;
}

static bool check_members(struct check *c, struct json_object *schema, struct json_object *v)
{
	struct json_object *props = NULL, *more = NULL, *required = NULL, *one;

	if (!json_object_is_type(v, json_type_object))
		return true;
	json_object_object_get_ex(schema, "properties", &props);
	json_object_object_get_ex(schema, "additionalProperties", &more);
	if (json_object_object_get_ex(schema, "required", &required))
		for (size_t i = 0; i < json_object_array_length(required); i++) {
			const char *key =
				json_object_get_string(json_object_array_get_idx(required, i));

			if (!json_object_object_get_ex(v, key, NULL))
				return wrong(c, "%s is missing", key);
		}
	json_object_object_foreach (v, key, val) {
		if (props && json_object_object_get_ex(props, key, &one)) {
			if (!check_member(c, key, one, val))
				return false;
		} else if (json_object_is_type(more, json_type_boolean) &&
			   !json_object_get_boolean(more)) {
			return wrong(c, "%s is not described", key);
		} else if (json_object_is_type(more, json_type_object) &&
			   !check_member(c, key, more, val)) {
			return false;
		}
	}
	return true;
}

/* How many of the schemas match: at least `least`, at most `most`. */
static bool check_some(struct check *c, struct json_object *list, struct json_object *v,
		       size_t least, size_t most)
{
	size_t nr = json_object_array_length(list), ok = 0;

	for (size_t i = 0; i < nr; i++)
		ok += check(c, json_object_array_get_idx(list, i), v);
	/* The sentence of the last one that did not stays otherwise. */
	if (ok > most)
		return wrong(c, "%zu of %zu schemas match", ok, nr);
	return ok >= MIN(least, nr);
}

static bool check_items(struct check *c, struct json_object *rule, struct json_object *v)
{
	char index[24];

	for (size_t i = 0;
	     json_object_is_type(v, json_type_array) && i < json_object_array_length(v); i++) {
		snprintf(index, sizeof(index), "%zu", i);
		if (!check_member(c, index, rule, json_object_array_get_idx(v, i)))
			return false;
	}
	return true;
}

static size_t items(struct json_object *v)
{
	return json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
}

static bool matches(const char *pattern, const char *text)
{
	regex_t re;
	bool ok;

	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB))
		return false;
	ok = !regexec(&re, text ? text : "", 0, NULL, 0);
	regfree(&re);
	return ok;
}

static bool check(struct check *c, struct json_object *schema, struct json_object *v)
{
	static const char *const passive[] = {
		"description", "properties", "required", "title", "additionalProperties",
		"default",     "examples",   "$schema",  "$id",   "$defs",
		"$comment"};

	json_object_object_foreach (schema, key, rule) {
		bool ok = true, known = false;

		for (size_t i = 0; i < ARRAY_SIZE(passive); i++)
			known |= !strcmp(key, passive[i]);
		if (known)
			continue;
		if (!strcmp(key, "type")) {
			ok = check_type(c, rule, v);
		} else if (!strcmp(key, "enum")) {
			ok = check_enum(c, rule, v);
		} else if (!strcmp(key, "const")) {
			ok = json_object_equal(rule, v) || wrong(c, "is not the constant");
		} else if (!strcmp(key, "minimum")) {
			ok = json_object_get_double(v) >= json_object_get_double(rule) ||
			     wrong(c, "%s is too small", json_object_to_json_string(v));
		} else if (!strcmp(key, "maximum")) {
			ok = json_object_get_double(v) <= json_object_get_double(rule) ||
			     wrong(c, "%s is too large", json_object_to_json_string(v));
		} else if (!strcmp(key, "minLength")) {
			ok = json_object_get_string_len(v) >= json_object_get_int(rule) ||
			     wrong(c, "%s is too short", json_object_to_json_string(v));
		} else if (!strcmp(key, "maxLength")) {
			ok = json_object_get_string_len(v) <= json_object_get_int(rule) ||
			     wrong(c, "%s is too long", json_object_to_json_string(v));
		} else if (!strcmp(key, "minItems")) {
			ok = items(v) >= json_object_get_uint64(rule) || wrong(c, "too few items");
		} else if (!strcmp(key, "maxItems")) {
			ok = items(v) <= json_object_get_uint64(rule) || wrong(c, "too many items");
		} else if (!strcmp(key, "pattern")) {
			ok = matches(json_object_get_string(rule), json_object_get_string(v)) ||
			     wrong(c, "%s does not match %s", json_object_to_json_string(v),
				   json_object_get_string(rule));
		} else if (!strcmp(key, "items")) {
			ok = check_items(c, rule, v);
		} else if (!strcmp(key, "oneOf")) {
			ok = check_some(c, rule, v, 1, 1);
		} else if (!strcmp(key, "anyOf")) {
			ok = check_some(c, rule, v, 1, SIZE_MAX);
		} else if (!strcmp(key, "allOf")) {
			ok = check_some(c, rule, v, SIZE_MAX, SIZE_MAX);
		} else if (!strcmp(key, "$ref")) {
			struct json_object *to =
				json_schema_ref(c->doc, json_object_get_string(rule));

			ok = to ? check(c, to, v)
				: wrong(c, "%s is not there", json_object_get_string(rule));
		} else {
			ok = wrong(c, "the keyword %s is not known to this test", key);
		}
		if (!ok)
			return false;
	}
	return check_members(c, schema, v);
}

bool json_schema_ok(struct json_object *doc, struct json_object *schema, struct json_object *value,
		    char *err, size_t len)
{
	struct check c = {.doc = doc, .err = err, .len = len};

	return check(&c, schema, value);
}
