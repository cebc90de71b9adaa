// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Request line, query and headers as the API sees them: nine strings separated by NUL. A route is
 * found with a name that fits, or the answer is a JSON error.
 */
#include "selftests/fuzz/fuzz.h"

#include <json-c/json.h>

#include "control/api.h"

enum { METHOD, URL, LENGTH, CODING, TYPE, KEY1, VALUE1, KEY2, VALUE2, NR_STRINGS };

void fuzz_seeds(void)
{
	static const char a[] = "PUT\0/api/exports/vm-1\000013\0\0application/json\0\0\0\0";
	static const char b[] =
		"POST\0/api/exports/vm-1/detach\0\0\0\0force\0true\0timeout_s\00030";
	static const char c[] = "GET\0/api/exports/vm-1\0\0\0\0local\0001\0\0";
	static const char d[] = "DELETE\0/metrics\00099999\0chunked\0text/plain\0force\0\0\0";

	fuzz_seed(a, sizeof(a) - 1);
	fuzz_seed(b, sizeof(b) - 1);
	fuzz_seed(c, sizeof(c) - 1);
	fuzz_seed(d, sizeof(d) - 1);
}

static void check(struct api_request *req, bool ok)
{
	struct json_object *o;

	FUZZ_MUST(ok == !req->resp.status);
	if (ok)
		return;
	FUZZ_MUST(req->resp.status >= 400 && req->resp.status < 600);
	o = json_tokener_parse(req->resp.body);
	FUZZ_MUST(json_object_object_get_ex(o, "error", NULL) &&
		  json_object_object_get_ex(o, "code", NULL));
	json_object_put(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct api_request req = {0};
	const char *s[NR_STRINGS], *p, *end;
	char *copy = malloc(len + NR_STRINGS + 1);
	bool ok;

	FUZZ_MUST(copy);
	memcpy(copy, data, len);
	memset(copy + len, 0, NR_STRINGS + 1);
	end = copy + len + NR_STRINGS;
	p = copy;
	for (int i = 0; i < NR_STRINGS; i++) {
		s[i] = p;
		p += strlen(p) + (p < end);
	}
	ok = api_route_find(&req, s[URL], s[METHOD]);
	check(&req, ok);
	if (ok) {
		FUZZ_MUST(req.route && strlen(req.name) < GFS_NAME_MAX);
		for (int i = KEY1; ok && i <= KEY2; i += 2)
			if (*s[i])
				ok = api_arg_check(&req, s[i], *s[i + 1] ? s[i + 1] : NULL);
		if (ok)
			ok = api_body_check(&req, *s[LENGTH] ? s[LENGTH] : NULL,
					    *s[CODING] ? s[CODING] : NULL,
					    *s[TYPE] ? s[TYPE] : NULL);
		check(&req, ok);
		if (ok)
			FUZZ_MUST(!*s[LENGTH] || strtoul(s[LENGTH], NULL, 10) <= API_BODY_MAX);
	}
	free(req.resp.body);
	free(copy);
	return 0;
}
