// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a request says, and error answers: route, arguments, length and type of the body. Pure
 * functions over strings from outside, for the HTTP thread and for the fuzzer. See api.h.
 */
#include <ctype.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "control/api.h"

void api_error(struct api_request *req, unsigned int status, const char *code, const char *fmt, ...)
{
	struct json_object *o = json_object_new_object();
	char msg[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	json_object_object_add(o, "error", json_object_new_string(msg));
	json_object_object_add(o, "code", json_object_new_string(code));
	json_object_object_add(o, "status", json_object_new_int((int)status));
	free(req->resp.body);
	req->resp.body = strdup(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	req->resp.len = req->resp.body ? strlen(req->resp.body) : 0;
	req->resp.status = status;
	req->resp.type = NULL;
	json_object_put(o);
}

void api_op_error(struct api_request *req, const struct op_err *err)
{
	static const struct {
		unsigned int status;
		const char *code;
	} table[] = {
		[OP_FAULT_NONE] = {500, "internal"},     [OP_FAULT_REQUEST] = {400, "bad_request"},
		[OP_FAULT_MISSING] = {404, "not_found"}, [OP_FAULT_CONFLICT] = {409, "conflict"},
		[OP_FAULT_BUSY] = {503, "busy"},         [OP_FAULT_STORE] = {503, "store"},
		[OP_FAULT_DEVICE] = {500, "device"},     [OP_FAULT_SPACE] = {507, "no_space"},
		[OP_FAULT_LOCAL] = {500, "local"},
	};

	api_error(req, table[err->fault].status, table[err->fault].code, "%s", err->msg);
}

/* The number that the n bytes are: 1 to 20 digits, not 0, of 63 bits; 0 if they are none. */
static uint64_t path_number(const char *s, size_t n)
{
	unsigned long long v;

	if (n > 20 || strspn(s, "0123456789") < n)
		return 0;
	errno = 0;
	v = strtoull(s, NULL, 10);
	return errno || v > INT64_MAX ? 0 : v;
}

/*
 * Does path match the pattern? The part under "*" goes to name[len], the number under "#" to *seq,
 * 0 if it is none; -1 when the name does not fit.
 */
static int path_match(const char *pattern, const char *path, char *name, size_t len, uint64_t *seq)
{
	for (; *pattern; pattern++) {
		size_t n;

		if (*pattern == '#') {
			n = strcspn(path, "/");
			if (!n)
				return 0;
			*seq = path_number(path, n);
			path += n;
			continue;
		}
		if (*pattern != '*') {
			if (*pattern != *path++)
				return 0;
			continue;
		}
		n = strcspn(path, "/");
		if (!n)
			return 0;
		snprintf(name, len, "%.*s", (int)MIN(n, len - 1), path);
		path += n;
		if (n >= len)
			return *path || pattern[1] ? 0 : -1;
	}
	return !*path;
}

bool api_route_find(struct api_request *req, const char *url, const char *method)
{
	char *allow = req->resp.allow;
	const size_t cap = sizeof(req->resp.allow);

	if (strlen(url) > API_URL_MAX) {
		api_error(req, 414, "too_large", "the path is longer than %d bytes", API_URL_MAX);
		return false;
	}
	for (unsigned int i = 0; i < api_routes_nr; i++) {
		const struct api_route *r = &api_routes[i];
		int m = path_match(r->path, url, req->name, sizeof(req->name), &req->seq);

		if (!m)
			continue;
		if (m < 0) {
			api_error(req, 400, "bad_request", "the name is longer than %d characters",
				  GFS_NAME_MAX - 1);
			return false;
		}
		if (!strcmp(r->method, method)) {
			req->route = r;
			break;
		}
		snprintf(allow + strlen(allow), cap - strlen(allow), "%s%s", allow[0] ? ", " : "",
			 r->method);
	}
	if (req->route && strchr(req->route->path, '#') && !req->seq) {
		api_error(req, 400, "bad_request", "the number of a snapshot has 1 to 20 digits");
		return false;
	}
	if (req->route) {
		allow[0] = '\0';
		return true;
	}
	if (allow[0])
		api_error(req, 405, "bad_method", "%.16s is not possible here; %s is", method,
			  allow);
	else
		api_error(req, 404, "no_route", "there is no such path in this API");
	return false;
}

static bool bool_arg(const char *value, bool *out)
{
	*out = value && (!strcmp(value, "1") || !strcmp(value, "true"));
	return *out || (value && (!strcmp(value, "0") || !strcmp(value, "false")));
}

bool api_arg_check(struct api_request *req, const char *key, const char *value)
{
	unsigned int allowed = req->route->args;
	char *end;

	if (!strcmp(key, "force") && (allowed & API_ARG_FORCE)) {
		if (bool_arg(value, &req->force))
			return true;
		api_error(req, 400, "bad_request", "force must be true or false");
	} else if (!strcmp(key, "local") && (allowed & API_ARG_LOCAL)) {
		if (bool_arg(value, &req->local))
			return true;
		api_error(req, 400, "bad_request", "local must be true or false");
	} else if (!strcmp(key, "timeout_s") && (allowed & API_ARG_TIMEOUT)) {
		unsigned long s =
			value && isdigit((unsigned char)*value) ? strtoul(value, &end, 10) : 0;

		if (s >= 1 && s <= 86400 && !*end) {
			req->timeout_ns = s * NSEC_PER_SEC;
			return true;
		}
		api_error(req, 400, "bad_request", "timeout_s must be a number from 1 to 86400");
	} else {
		api_error(req, 400, "bad_request",
			  "this request takes no such argument: see the manual");
	}
	return false;
}

bool api_body_check(struct api_request *req, const char *length, const char *coding,
		    const char *type)
{
	size_t digits = length ? strspn(length, "0123456789") : 0;

	if (coding) {
		api_error(req, 411, "bad_request", "send Content-Length, not Transfer-Encoding");
		return false;
	}
	if (!length)
		return true;
	if (!digits || length[digits]) {
		api_error(req, 400, "bad_request", "Content-Length is not a number");
		return false;
	}
	if (digits > 9 || strtoul(length, NULL, 10) > API_BODY_MAX) {
		api_error(req, 413, "too_large", "the body is larger than %llu bytes",
			  API_BODY_MAX);
		return false;
	}
	/* What says nothing of its type is taken for JSON. */
	if (type && strtoul(length, NULL, 10) &&
	    (strncasecmp(type, "application/json", 16) ||
	     (type[16] && !strchr("; \t", type[16])))) {
		api_error(req, 415, "bad_type", "send the body as Content-Type: application/json");
		return false;
	}
	return true;
}
