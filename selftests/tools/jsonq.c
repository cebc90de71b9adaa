// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * jsonq: asks files of JSON objects, one a line, for scenarios.
 *
 *   jsonq FILE 'type=finding,event=open,verdict=freeze/pinned' blockers.0.span.key
 *
 * prints the value at PATH in the first line that matches; exit status 1 if there is no such line,
 * or no such value. Conditions, separated by commas, must all hold: PATH=VALUE, PATH!=VALUE,
 * PATH>=N, PATH<=N, PATH~SUBSTRING; "" matches each line. A path is names and indexes with dots
 * between; "#" as its last part is the length of an array or object, "*" any element of one (in
 * conditions). A path that is not there has the value "". Without PATH the whole line is printed. A
 * last line that is cut off is not there yet.
 *
 *   --last    of the last line that matches
 *   --all     of each
 *   --count   their number (exit status 0 also for none)
 */
#include "selftests/tools/tool.h"

#include <getopt.h>
#include <json-c/json.h>

#define PARTS 16

struct cond {
	char path[128], op[3], value[256];
};

enum which { FIRST, LAST, ALL, COUNT };

static size_t length(struct json_object *o)
{
	if (json_object_is_type(o, json_type_array))
		return json_object_array_length(o);
	return json_object_is_type(o, json_type_object) ? (size_t)json_object_object_length(o) : 0;
}

static const char *text_of(struct json_object *o)
{
	return json_object_get_type(o) == json_type_string
		       ? json_object_get_string(o)
		       : json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
								   JSON_C_TO_STRING_NOSLASHESCAPE);
}

/*
 * Calls fn for each value that path leads to; true when one call was. A length is made into a value
 * of its own.
 */
static bool walk(struct json_object *o, const char *path, bool (*fn)(struct json_object *, void *),
		 void *arg)
{
	size_t n = strcspn(path, ".");
	const char *rest = path[n] ? path + n + 1 : path + n;
	struct json_object *next = NULL;
	char part[128], *end;
	unsigned long i;
	bool r = false;

	if (!*path)
		return fn(o, arg);
	if (n >= sizeof(part))
		errx(EXIT_USE, "path too long: %s", path);
	memcpy(part, path, n);
	part[n] = 0;
	if (!strcmp(part, "#") && !*rest) {
		next = json_object_new_int64((int64_t)length(o));
		r = fn(next, arg);
		json_object_put(next);
		return r;
	}
	if (!strcmp(part, "*") && json_object_is_type(o, json_type_array)) {
		for (i = 0; i < length(o) && !r; i++)
			r = walk(json_object_array_get_idx(o, i), rest, fn, arg);
		return r;
	}
	if (json_object_is_type(o, json_type_array)) {
		i = strtoul(part, &end, 10);
		if (*end || i >= length(o))
			return false;
		next = json_object_array_get_idx(o, i);
	} else if (!json_object_is_type(o, json_type_object) ||
		   !json_object_object_get_ex(o, part, &next)) {
		return false;
	}
	return walk(next, rest, fn, arg);
}

static bool value_holds(struct json_object *o, void *arg)
{
	const struct cond *c = arg;
	const char *have = o ? text_of(o) : "";

	switch (c->op[0]) {
	case '=':
		return !strcmp(have, c->value);
	case '!':
		return strcmp(have, c->value) != 0;
	case '~':
		return strstr(have, c->value) != NULL;
	case '>':
		return *have && strtod(have, NULL) >= strtod(c->value, NULL);
	default:
		return *have && strtod(have, NULL) <= strtod(c->value, NULL);
	}
}

static bool value_is_there(struct json_object *o __unused, void *arg __unused)
{
	return true;
}

static bool cond_holds(struct json_object *line, struct cond *c)
{
	if (!walk(line, c->path, value_is_there, NULL))
		return value_holds(NULL, c);
	return walk(line, c->path, value_holds, c);
}

static size_t conds_parse(char *text, struct cond *conds)
{
	size_t nr = 0;

	for (char *one = strtok(text, ","); one; one = strtok(NULL, ",")) {
		struct cond *c = &conds[nr];
		size_t n = strcspn(one, "=!<>~");
		size_t op = one[n] == '=' || one[n] == '~' ? 1 : 2;

		if (nr++ == PARTS || !one[n] || n >= sizeof(c->path) ||
		    (op == 2 && one[n + 1] != '='))
			errx(EXIT_USE, "no condition: %s", one);
		snprintf(c->path, sizeof(c->path), "%.*s", (int)n, one);
		snprintf(c->op, sizeof(c->op), "%.*s", (int)op, one + n);
		if (snprintf(c->value, sizeof(c->value), "%s", one + n + op) >=
		    (int)sizeof(c->value))
			errx(EXIT_USE, "value too long: %s", one);
	}
	return nr;
}

static bool value_print(struct json_object *o, void *arg __unused)
{
	puts(text_of(o));
	return true;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"last", no_argument, NULL, LAST},
		{"all", no_argument, NULL, ALL},
		{"count", no_argument, NULL, COUNT},
		{NULL, 0, NULL, 0},
	};
	struct json_object *found = NULL;
	struct cond conds[PARTS + 1];
	enum which which = FIRST;
	unsigned long count = 0;
	bool printed = false;
	const char *path = "";
	char *line = NULL;
	size_t cap = 0, nr, i;
	ssize_t len;
	FILE *f;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (c == '?')
			return EXIT_USE;
		else
			which = (enum which)c;
	if (argc - optind < 2 || argc - optind > 3)
		errx(EXIT_USE, "usage: jsonq [--last|--all|--count] FILE CONDITIONS [PATH]");
	f = fopen(argv[optind], "r");
	if (!f)
		err(EXIT_USE, "%s", argv[optind]);
	nr = conds_parse(argv[optind + 1], conds);
	if (argc - optind == 3)
		path = argv[optind + 2];
	while ((len = getline(&line, &cap, f)) > 0 && line[len - 1] == '\n') {
		struct json_object *o = json_tokener_parse(line);

		if (!o)
			errx(EXIT_BROKEN, "%s: not JSON: %s", argv[optind], line);
		for (i = 0; i < nr && cond_holds(o, &conds[i]); i++)
			;
		if (i == nr && count++ < UINT32_MAX && which == ALL)
			printed |= walk(o, path, value_print, NULL);
		if (i == nr && (which == LAST || (which == FIRST && !found))) {
			json_object_put(found);
			found = o;
		} else {
			json_object_put(o);
		}
	}
	if (found)
		printed = walk(found, path, value_print, NULL);
	if (which == COUNT)
		printed = printf("%lu\n", count) > 0;
	json_object_put(found);
	free(line);
	fclose(f);
	return printed ? 0 : EXIT_BROKEN;
}
