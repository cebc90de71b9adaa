// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The API from outside: a real glidefsd without devices as a child process, raw HTTP over its
 * socket, and everything a client can get wrong. The daemon must answer with a sentence, and go on.
 */
#include <dirent.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "control/api.h"
#include "lib/fsutil.h"
#include "selftests/unit/api_harness.h"

/* ---- tests ---- */

/* Both ways: each route with its arguments and answers is in the document, and nothing else is. */
static void the_document_is_the_api(void **state)
{
	static const struct {
		unsigned int bit;
		const char *name;
	} args[] = {
		{API_ARG_FORCE, "force"}, {API_ARG_TIMEOUT, "timeout_s"}, {API_ARG_LOCAL, "local"}};
	struct json_object *paths = NULL, *op, *o, *v;
	unsigned int documented = 0;

	assert_non_null(api_doc);
	json_object_object_get_ex(api_doc, "paths", &paths);
	json_object_object_foreach (paths, p, item) {
		(void)p;
		documented += (unsigned int)json_object_object_length(item);
	}
	assert_int_equal(documented, api_routes_nr);
	for (unsigned int i = 0; i < api_routes_nr; i++) {
		const struct api_route *r = &api_routes[i];
		char path[64], lower[16] = "";
		unsigned int have = 0, nr = 0;
		const char *star = strchr(r->path, '*'), *hash = strchr(r->path, '#');
		unsigned int named = 0;

		snprintf(path, sizeof(path), "%.*s%s%.*s%s", (int)(star ? star - r->path : 60),
			 r->path, star ? "{NAME}" : "", star ? (int)strcspn(star + 1, "#") : 0,
			 star ? star + 1 : "", hash ? "{SEQ}" : "");
		for (size_t k = 0; r->method[k]; k++)
			lower[k] = (char)(r->method[k] | 0x20);
		if (!json_object_object_get_ex(paths, path, &o) ||
		    !json_object_object_get_ex(o, lower, &op))
			fail_msg("%s %s is not in the document", r->method, path);
		if (json_object_object_get_ex(op, "parameters", &o))
			for (size_t k = 0; k < json_object_array_length(o); k++) {
				struct json_object *one = json_object_array_get_idx(o, k);

				json_object_object_get_ex(one, "name", &v);
				for (size_t a = 0; a < ARRAY_SIZE(args); a++)
					if (!strcmp(json_object_get_string(v), args[a].name))
						have |= args[a].bit;
				named += !strcmp(json_object_get_string(v), "NAME") ||
					 !strcmp(json_object_get_string(v), "SEQ");
				nr++;
			}
		if (have != r->args || named != (star != NULL) + (hash != NULL) ||
		    nr != (unsigned int)__builtin_popcount(have) + named)
			fail_msg("%s %s: other parameters", r->method, path);
		if (json_object_object_get_ex(op, "requestBody", NULL) != r->body)
			fail_msg("%s %s: the body", r->method, path);
		json_object_object_get_ex(op, "responses", &o);
		for (nr = 0; nr < ARRAY_SIZE(r->status) && r->status[nr]; nr++) {
			char code[16];

			snprintf(code, sizeof(code), "%u", r->status[nr]);
			if (!json_object_object_get_ex(o, code, NULL))
				fail_msg("%s %s: %s is not in the document", r->method, path, code);
		}
		assert_true(json_object_object_get_ex(o, "default", NULL));
		assert_int_equal(json_object_object_length(o), nr + 1);
	}
	daemon_start("");
	api_expect(200, "GET", "/openapi.json", NULL);
	v = json_tokener_parse(api_answer);
	assert_true(json_object_equal(v, api_doc));
	json_object_put(v);
	daemon_stop(SIGTERM);
}

static void *gc_in_background(void *arg)
{
	static const char req[] = "POST /api/gc HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
	char out[4096];

	assert_int_equal(api_raw(req, sizeof(req) - 1, out, sizeof(out)), 200);
	return arg;
}

static void the_store_is_collected_and_scrubbed_through_the_api(void **state)
{
	uint64_t until;
	pthread_t t;

	daemon_start("[gc]\ngrace_s = 3600\n");
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	api_expect(200, "POST", "/api/gc", "{\"dry_run\":true}");
	assert_string_equal(api_member("roots"), "1");
	assert_string_equal(api_member("deleted"), "0");
	api_expect(200, "POST", "/api/gc", "{\"grace_s\":7200,\"max_delete\":5}");
	/* Other hosts rely on the configured one. */
	api_expect(400, "POST", "/api/gc", "{\"grace_s\":3599}");
	api_expect(400, "POST", "/api/gc", "{\"grace_s\":\"1h\"}");
	api_expect(400, "POST", "/api/gc", "{\"force\":true}");
	api_expect(200, "GET", "/api/gc", NULL);
	/* No alert for a wrong request. */
	assert_string_equal(api_member("failures"), "0");
	assert_string_equal(api_member("running"), "false");
	api_expect(200, "POST", "/api/scrub", NULL);
	assert_string_equal(api_member("holders"), "1");
	assert_string_equal(api_member("bad"), "0");
	api_expect(200, "POST", "/api/scrub", "{\"volume\":\"vm-1\",\"rate\":\"1M\"}");
	api_expect(404, "POST", "/api/scrub", "{\"volume\":\"vm-2\"}");
	api_expect(400, "POST", "/api/scrub", "{\"volume\":\"../x\"}");
	api_expect(400, "POST", "/api/scrub", "{\"rate\":1}");
	api_expect(200, "GET", "/api/scrub", NULL);
	assert_string_equal(api_member("bad_total"), "0");
	assert_int_equal(api_client("scrub", NULL, NULL, NULL), 0);
	assert_int_equal(api_client("scrub", "--cache", NULL, NULL), 0);
	assert_int_equal(api_client("scrub", "--cache", "vm-1", NULL), 2);
	assert_int_equal(api_client("gc", "--dry-run", "--json", NULL), 0);
	assert_non_null(strstr(api_answer, "\"dry_run\":true"));
	daemon_stop(SIGTERM);
	daemon_start("[cache]\nssd_bytes=0\n");
	api_expect(404, "POST", "/api/cache/scrub", NULL);
	assert_int_equal(api_client("scrub", "--cache", NULL, NULL), 4);
	daemon_stop(SIGTERM);
	/* Of two at once one is told so, and where to look. */
	daemon_start("[store]\nfault=list:* delay=300\n");
	assert_int_equal(pthread_create(&t, NULL, gc_in_background, NULL), 0);
	until = now_ns() + 60 * NSEC_PER_SEC;
	do {
		assert_true(now_ns() < until);
		api_expect(200, "GET", "/api/gc", NULL);
	} while (strcmp(api_member("running"), "true"));
	assert_int_equal(api_client("gc", NULL, NULL, NULL), 1);
	assert_non_null(strstr(api_answer, "GET /api/gc"));
	assert_int_equal(pthread_join(t, NULL), 0);
	daemon_stop(SIGTERM);
}

static void volumes_live_through_the_api(void **state)
{
	daemon_start("");
	api_expect(404, "GET", "/api/exports/vm-1", NULL);
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	assert_string_equal(api_member("state"), "attached");
	assert_string_equal(api_member("size_bytes"), "1073741824");
	api_expect(200, "PUT", "/api/exports/vm-1", "{\"size\":1073741824}");
	api_expect(200, "PUT", "/api/exports/vm-1", "{\"size\":\"2G\"}");
	assert_string_equal(api_member("size_bytes"), "2147483648");
	api_expect(409, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	api_expect(409, "PUT", "/api/exports/vm-1", "{\"size\":\"2G\",\"partitions\":true}");
	api_expect(
		201, "PUT", "/api/exports/vm-2",
		"{\"size\":1049088,\"read_only\":true,\"partitions\":true,\"block_bytes\":\"4K\"}");
	assert_string_equal(api_member("mode"), "read_only");
	api_expect(200, "GET", "/api/exports", NULL);
	assert_non_null(strstr(api_answer, "vm-1"));
	assert_non_null(strstr(api_answer, "vm-2"));
	api_expect(200, "POST", "/api/exports/vm-1/drain?timeout_s=5", NULL);
	api_expect(200, "POST", "/api/exports/vm-1/detach", "{}");
	assert_string_equal(api_member("state"), "detached");
	api_expect(409, "POST", "/api/exports/vm-1/drain", NULL);
	api_expect(200, "POST", "/api/exports/vm-1/attach", NULL);
	assert_string_equal(api_member("state"), "attached");
	api_expect(200, "POST", "/api/exports/vm-1/takeover", NULL);
	api_expect(404, "POST", "/api/exports/vm-9/attach", NULL);
	api_expect(404, "POST", "/api/exports/vm-9/detach", NULL);
	api_expect(404, "POST", "/api/exports/vm-9/takeover", NULL);
	api_expect(404, "DELETE", "/api/exports/vm-9", NULL);
	api_expect(200, "POST", "/api/cache/scrub", NULL);
	assert_string_equal(api_member("bad"), "0");
	api_expect(200, "DELETE", "/api/exports/vm-1?force=true", NULL);
	api_expect(404, "GET", "/api/exports/vm-1", NULL);
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"2G\"}");
	daemon_stop(SIGTERM);
	assert_int_equal(access(daemon_sock, F_OK), -1);
	daemon_start("");
	api_expect(200, "GET", "/api/exports/vm-1", NULL);
	assert_string_equal(api_member("state"), "attached");
	daemon_stop(SIGTERM);
}

static void a_read_only_volume_is_promoted_while_it_is_detached(void **state)
{
	daemon_start("");
	api_expect(201, "PUT", "/api/exports/ro", "{\"size\":\"1G\",\"read_only\":true}");
	assert_string_equal(api_member("mode"), "read_only");
	api_expect(409, "POST", "/api/exports/ro/promote", NULL);
	assert_non_null(strstr(api_answer, "detach it"));
	api_expect(200, "POST", "/api/exports/ro/detach", NULL);
	api_expect(200, "POST", "/api/exports/ro/promote", NULL);
	assert_string_equal(api_member("read_only"), "false");
	api_expect(200, "POST", "/api/exports/ro/attach", NULL);
	assert_string_equal(api_member("mode"), "rw");
	/* It is writable already, attached or not. */
	api_expect(200, "POST", "/api/exports/ro/promote", NULL);
	api_expect(200, "PUT", "/api/exports/ro", "{\"size\":\"2G\"}");
	api_expect(200, "POST", "/api/exports/ro/detach", NULL);
	assert_int_equal(api_client("promote", "ro", NULL, NULL), 0);
	api_expect(404, "POST", "/api/exports/nobody/promote", NULL);
	assert_int_equal(api_client("promote", "nobody", NULL, NULL), 4);
	/* A fork of it too: made read-only, larger than its source, and written to later. */
	assert_int_equal(api_client("fork", "rw", "--from", "volume:ro"), 0);
	api_expect(201, "PUT", "/api/exports/fork",
		   "{\"from\":\"volume:ro\",\"size\":\"3G\",\"read_only\":true}");
	assert_string_equal(api_member("size_bytes"), "3221225472");
	assert_int_equal(api_client("promote", "fork", NULL, NULL), 5);
	assert_int_equal(api_client("detach", "fork", NULL, NULL), 0);
	assert_int_equal(api_client("promote", "fork", NULL, NULL), 0);
	api_expect(200, "POST", "/api/exports/fork/attach", NULL);
	assert_string_equal(api_member("mode"), "rw");
	daemon_stop(SIGTERM);
	/* What has no answer is the same, and a retry says what became of it. */
	daemon_start("");
	api_expect(201, "PUT", "/api/exports/ro2", "{\"size\":\"1G\",\"read_only\":true}");
	api_expect(200, "POST", "/api/exports/ro2/detach", NULL);
	daemon_stop(SIGTERM);
	daemon_start("[store]\nfault=put:exports/ro2/* error=EIO count=1\n");
	api_expect(503, "POST", "/api/exports/ro2/promote", NULL);
	api_expect(200, "GET", "/api/exports/ro2", NULL);
	assert_string_equal(api_member("read_only"), "true");
	api_expect(200, "POST", "/api/exports/ro2/promote", NULL);
	assert_string_equal(api_member("read_only"), "false");
	daemon_stop(SIGTERM);
}

static void snapshots_live_through_the_api(void **state)
{
	struct json_object *o, *all;
	char path[128], ref[64], seq[32];

	daemon_start("");
	api_expect(404, "POST", "/api/exports/vm-1/snapshot", NULL);
	api_expect(404, "GET", "/api/exports/vm-1/snapshots", NULL);
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	api_expect(200, "GET", "/api/exports/vm-1/snapshots", NULL);
	api_expect(201, "POST", "/api/exports/vm-1/snapshot", NULL);
	snprintf(seq, sizeof(seq), "%s", api_member("seq"));
	assert_string_equal(api_member("tag"), "");
	api_expect(201, "POST", "/api/exports/vm-1/snapshot?timeout_s=5", "{\"tag\":\"two\"}");
	assert_string_equal(api_member("tag"), "two");
	api_expect(400, "POST", "/api/exports/vm-1/snapshot", "{\"tag\":7}");
	api_expect(400, "POST", "/api/exports/vm-1/snapshot", "{\"tag\":\"a\\u0000b\"}");
	api_expect(400, "POST", "/api/exports/vm-1/snapshot", "{\"tag\":\"a\\nb\"}");
	api_expect(400, "POST", "/api/exports/vm-1/snapshot", "{\"name\":\"x\"}");
	api_expect(200, "GET", "/api/exports/vm-1/snapshots", NULL);
	o = json_tokener_parse(api_answer);
	assert_true(json_object_object_get_ex(o, "snapshots", &all));
	assert_int_equal(json_object_array_length(all), 2);
	json_object_put(o);
	/* Of what no host has attached, and of what is gone. */
	api_expect(200, "POST", "/api/exports/vm-1/detach", NULL);
	assert_int_equal(api_client("snapshot", "vm-1", "--tag", "three"), 0);
	snprintf(ref, sizeof(ref), "%.*s", (int)strcspn(api_answer, "\n"), api_answer);
	assert_memory_equal(ref, "vm-1@", 5);
	assert_int_equal(api_client("snapshots", "vm-1", NULL, NULL), 0);
	assert_non_null(strstr(api_answer, ref));
	assert_non_null(strstr(api_answer, "three"));
	assert_int_equal(api_client("snapshot-rm", ref, NULL, NULL), 0);
	assert_int_equal(api_client("snapshot-rm", ref, NULL, NULL), 0);
	assert_int_equal(api_client("snapshot-rm", "vm-1", NULL, NULL), 2);
	assert_int_equal(api_client("snapshots", "vm-9", NULL, NULL), 4);
	api_expect(200, "DELETE", "/api/exports/vm-1", NULL);
	api_expect(404, "POST", "/api/exports/vm-1/snapshot", NULL);
	api_expect(200, "GET", "/api/exports/vm-1/snapshots", NULL);
	assert_null(strstr(api_answer, "three"));
	snprintf(path, sizeof(path), "/api/exports/vm-1/snapshots/%020llu",
		 strtoull(seq, NULL, 10));
	api_expect(200, "DELETE", path, NULL);
	assert_string_equal(api_member("state"), "removed");
	api_expect(200, "DELETE", path, NULL);
	api_expect(405, "GET", path, NULL);
	api_expect(400, "DELETE", "/api/exports/vm-1/snapshots/0", NULL);
	api_expect(400, "DELETE", "/api/exports/vm-1/snapshots/9223372036854775808", NULL);
	api_expect(400, "DELETE", "/api/exports/vm-1/snapshots/1x", NULL);
	daemon_stop(SIGTERM);
}

static void forks_live_through_the_api(void **state)
{
	char body[160], ref[64], path[128];
	struct json_object *o, *all;

	daemon_start("");
	api_expect(201, "PUT", "/api/exports/base", "{\"size\":\"1G\",\"block_bytes\":\"128K\"}");
	assert_int_equal(api_client("snapshot", "base", NULL, NULL), 0);
	snprintf(ref, sizeof(ref), "%.*s", (int)strcspn(api_answer, "\n"), api_answer);
	snprintf(body, sizeof(body), "{\"from\":\"snapshot:%s\"}", ref);
	api_expect(201, "PUT", "/api/exports/fork-1", body);
	assert_string_equal(api_member("source"), ref);
	assert_string_equal(api_member("size_bytes"), "1073741824");
	assert_string_equal(api_member("block_bytes"), "131072");
	assert_string_equal(api_member("state"), "attached");
	api_expect(200, "PUT", "/api/exports/fork-1", body);
	/* Without a source it is any volume of that size; with another it is not the one. */
	api_expect(200, "PUT", "/api/exports/fork-1", "{\"size\":\"1G\"}");
	api_expect(409, "PUT", "/api/exports/fork-1", "{\"from\":\"snapshot:base@1\"}");
	api_expect(409, "PUT", "/api/exports/base", body);
	api_expect(200, "PUT", "/api/exports/fork-1", "{\"from\":\"volume:base\"}");
	/* Larger, and not smaller, nor of other blocks. */
	snprintf(body, sizeof(body), "{\"from\":\"snapshot:%s\",\"size\":\"2G\"}", ref);
	api_expect(201, "PUT", "/api/exports/fork-2", body);
	assert_string_equal(api_member("size_bytes"), "2147483648");
	snprintf(body, sizeof(body), "{\"from\":\"snapshot:%s\",\"size\":\"512M\"}", ref);
	api_expect(400, "PUT", "/api/exports/fork-3", body);
	snprintf(body, sizeof(body), "{\"from\":\"snapshot:%s\",\"block_bytes\":\"64K\"}", ref);
	api_expect(400, "PUT", "/api/exports/fork-3", body);
	api_expect(404, "PUT", "/api/exports/fork-3", "{\"from\":\"snapshot:base@1\"}");
	api_expect(404, "PUT", "/api/exports/fork-3", "{\"from\":\"volume:nobody\"}");
	api_expect(400, "PUT", "/api/exports/fork-3", "{\"from\":\"volume:fork-3\"}");
	api_expect(400, "PUT", "/api/exports/fork-3", "{\"from\":\"base\"}");
	api_expect(400, "PUT", "/api/exports/fork-3", "{\"from\":\"snapshot:base\"}");
	api_expect(400, "PUT", "/api/exports/fork-3", "{\"from\":\"\"}");
	api_expect(404, "GET", "/api/exports/fork-3", NULL);
	/* Of a volume: one snapshot for a fork that is made, none for one that is not. */
	api_expect(201, "PUT", "/api/exports/fork-4", "{\"from\":\"volume:fork-2\"}");
	api_expect(200, "PUT", "/api/exports/fork-4", "{\"from\":\"volume:fork-2\"}");
	api_expect(400, "PUT", "/api/exports/fork-5",
		   "{\"from\":\"volume:fork-2\",\"size\":\"1G\"}");
	api_expect(200, "GET", "/api/exports/fork-2/snapshots", NULL);
	o = json_tokener_parse(api_answer);
	assert_true(json_object_object_get_ex(o, "snapshots", &all));
	assert_int_equal(json_object_array_length(all), 1);
	json_object_put(o);
	/* The source goes, the forks stay, also over a restart; the same request is still theirs.
	 */
	snprintf(path, sizeof(path), "/api/exports/base/snapshots/%s", strchr(ref, '@') + 1);
	api_expect(200, "DELETE", path, NULL);
	api_expect(200, "DELETE", "/api/exports/base", NULL);
	api_expect(200, "POST", "/api/exports/fork-1/detach", NULL);
	daemon_stop(SIGTERM);
	daemon_start("");
	snprintf(body, sizeof(body), "{\"from\":\"snapshot:%s\"}", ref);
	api_expect(200, "PUT", "/api/exports/fork-1", body);
	assert_string_equal(api_member("state"), "attached");
	api_expect(404, "PUT", "/api/exports/fork-6", body);
	api_expect(200, "GET", "/api/exports/fork-4", NULL);
	assert_string_equal(api_member("state"), "attached");
	assert_int_equal(api_client("fork", "fork-7", "--from", "volume:fork-1"), 0);
	assert_string_equal(api_answer, "fork-7\n");
	assert_int_equal(api_client("fork", "fork-8", "--from", "volume:nobody"), 4);
	assert_int_equal(api_client("fork", "fork-8", NULL, NULL), 2);
	daemon_stop(SIGTERM);
}

static void bad_paths_names_and_arguments_are_refused(void **state)
{
	static const struct {
		int status;
		const char *method, *path;
	} table[] = {
		{404, "GET", "/"},
		{404, "GET", "/api"},
		{404, "GET", "/api/exports/"},
		{404, "GET", "/api/exports//"},
		{404, "GET", "//api/exports"},
		{404, "POST", "/api/exports/a/b"},
		{404, "POST", "/api/exports/a/attach/x"},
		{404, "POST", "/api/exports//attach"},
		{404, "GET", "/api/exports/../health"},
		{400, "GET", "/api/exports/.."},
		{400, "GET", "/api/exports/-a"},
		{400, "GET", "/api/exports/a%2fb"},
		{400, "GET", "/api/exports/a%00b"},
		{400, "PUT", "/api/exports/\xc3\xa9"},
		{400, "DELETE", "/api/exports/a*b"},
		{405, "POST", "/api/exports/a"},
		{405, "GET", "/api/exports/a/attach"},
		{405, "DELETE", "/api/exports"},
		{405, "FETCH", "/health"},
		{405, "PUT", "/metrics"},
		{400, "GET", "/health?x=1"},
		{400, "DELETE", "/api/exports/a?force=maybe"},
		{400, "DELETE", "/api/exports/a?force"},
		{400, "DELETE", "/api/exports/a?timeout_s=1"},
		{404, "DELETE", "/api/exports/a/snapshots/"},
		{404, "DELETE", "/api/exports/a/snapshots/1/2"},
		{400, "DELETE", "/api/exports/a/snapshots/-1"},
		{400, "DELETE", "/api/exports/a/snapshots/123456789012345678901"},
		{400, "DELETE", "/api/exports/-a/snapshots/1"},
		{400, "POST", "/api/exports/a/snapshot?force=1"},
		{400, "POST", "/api/exports/a/drain?timeout_s=0"},
		{400, "POST", "/api/exports/a/drain?timeout_s=-1"},
		{400, "POST", "/api/exports/a/drain?timeout_s=99999999999999999999"},
		{400, "POST", "/api/exports/a/drain?timeout_s=1x"},
	};
	char path[400];

	daemon_start("");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		api_expect(table[i].status, table[i].method, table[i].path, NULL);
	memset(path, 'a', sizeof(path));
	memcpy(path, "/api/exports/", 13);
	path[13 + 127] = '\0';
	api_expect(404, "GET", path, NULL);
	path[13 + 127] = 'a';
	path[13 + 128] = '\0';
	api_expect(400, "GET", path, NULL);
	path[13 + 128] = 'a';
	path[399] = '\0';
	api_expect(400, "GET", path, NULL);
	api_expect(400, "POST", "/api/exports/a/attach", "{\"force\":true}");
	api_expect(400, "GET", "/health", "x");
	daemon_stop(SIGTERM);
}

static void bad_bodies_are_refused_and_make_nothing(void **state)
{
	static const char *const bodies[] = {
		"",
		"{}",
		"x",
		"[]",
		"{\"size\":\"1G\"",
		"{\"size\":\"1G\",\"size\":\"1G\"}",
		"{\"size\":\"1G\",\"colour\":1}",
		"{\"size\":null}",
		"{\"size\":-1}",
		"{\"size\":1e9}",
		"{\"size\":NaN}",
		"{\"size\":0}",
		"{\"size\":1048577}",
		"{\"size\":\"1023K\"}",
		"{\"size\":\"65T\"}",
		"{\"size\":\"1G\",\"block_bytes\":12288}",
		"{\"size\":\"1G\",\"block_bytes\":2048}",
		"{\"size\":\"1G\",\"partitions\":\"yes\"}",
		"{\"size\":18446744073709551616}",
		"{\"size\":[[[[[[[[[[1]]]]]]]]]]}",
		"\xff\xfe\x00",
	};

	daemon_start("");
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		api_expect(400, "PUT", "/api/exports/vm-bad", bodies[i]);
		api_expect(404, "GET", "/api/exports/vm-bad", NULL);
	}
	daemon_stop(SIGTERM);
}

static void broken_http_never_stops_the_daemon(void **state)
{
	static const char *const requests[] = {
		"",
		"\r\n\r\n",
		"GET",
		"GET /health",
		"GET /health HTTP/9.9\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"PUT /api/exports/vm-t HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"size\"",
		"PUT /api/exports/t HTTP/1.1\r\nContent-Length: 13\r\nContent-Length: 1\r\n\r\n{",
		"GET /health HTTP/1.1\r\nHost: x\r\n",
		"GET /health HTTP/1.1\r\n: \r\n\r\n",
	};
	static const struct {
		int status;
		const char *req;
	} limits[] = {
		{413, "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n"},
		{413,
		 "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"},
		{400, "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"},
		{411, "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		      "5\r\nhello\r\n0\r\n\r\n"},
	};
	unsigned int seed = 11;
	char *big;

	daemon_start("");
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		int fd = api_dial();

		assert_true(fd >= 0);
		assert_true(send(fd, requests[i], strlen(requests[i]), MSG_NOSIGNAL) >= 0);
		/* Some get an answer, some would wait for the idle timeout; gone is gone. */
		close(fd);
		api_expect(200, "GET", "/health", NULL);
	}
	api_expect(404, "GET", "/api/exports/vm-t", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		int got = api_raw(limits[i].req, strlen(limits[i].req), api_answer,
				  sizeof(api_answer));

		/* What the library refuses itself it may answer in its own words. */
		if (got != limits[i].status && got != 400)
			fail_msg("%s: %d %s", limits[i].req, got, api_answer);
	}
	/* A body of 64 KiB is read and refused as JSON; headers without end are cut. */
	big = malloc(300000);
	memset(big, ' ', 65536);
	big[65536] = '\0';
	api_expect(400, "PUT", "/api/exports/a", big);
	memcpy(big, "GET /health HTTP/1.1\r\nX: ", 25);
	memset(big + 25, 'y', 299974);
	big[299999] = '\0';
	{
		int got = api_raw(big, 299999, NULL, 0);

		if (got && got != 431 && got != 413 && got != 400)
			fail_msg("endless header: %d", got);
	}
	for (int i = 0; i < 300; i++) {
		size_t n = (size_t)rand_r(&seed) % 400;
		int fd = api_dial();

		assert_true(fd >= 0);
		for (size_t k = 0; k < n; k++)
			big[k] = (char)rand_r(&seed);
		if (i % 2)
			memcpy(big, "PUT /api/exports/a HTTP/1.1\r\n", MIN(n, 29u));
		(void)!send(fd, big, n, MSG_NOSIGNAL);
		close(fd);
	}
	free(big);
	api_expect(200, "GET", "/health", NULL);
	api_expect(200, "GET", "/api/exports", NULL);
	daemon_stop(SIGTERM);
}

static void slow_clients_delay_nobody(void **state)
{
	static const char part[] =
		"PUT /api/exports/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{";
	int fds[100];
	uint64_t t;

	daemon_start("");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = api_dial();
		assert_true(fds[i] >= 0);
		assert_true(send(fds[i], part, i % 3 ? 20 : sizeof(part) - 1, MSG_NOSIGNAL) > 0);
	}
	t = now_ns();
	api_expect(201, "PUT", "/api/exports/quick", "{\"size\":\"1G\"}");
	api_expect(200, "GET", "/health", NULL);
	assert_true(now_ns() - t < 10 * NSEC_PER_SEC);
	/* One of them ends its request after all, byte by byte. */
	for (const char *p = "\"size\":\"1G\"} "; *p; p++)
		assert_int_equal(send(fds[0], p, 1, MSG_NOSIGNAL), 1);
	assert_int_equal(api_read_answer(fds[0], api_answer, sizeof(api_answer)), 201);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	daemon_stop(SIGTERM);
}

static void requests_on_one_connection_are_answered_in_order(void **state)
{
	static const char health[] = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
	static const char missing[] = "GET /api/exports/none HTTP/1.1\r\nHost: x\r\n\r\n";
	int fd;

	daemon_start("");
	fd = api_dial();
	assert_true(fd >= 0);
	for (int i = 0; i < 20; i++) {
		const char *req = i % 2 ? missing : health;

		assert_int_equal(send(fd, req, strlen(req), MSG_NOSIGNAL), (ssize_t)strlen(req));
		assert_int_equal(api_read_answer(fd, api_answer, sizeof(api_answer)),
				 i % 2 ? 404 : 200);
	}
	close(fd);
	daemon_stop(SIGTERM);
}

static void others_are_refused_by_mode_and_by_credentials(void **state)
{
	struct stat st;
	int status;
	pid_t pid;

	if (geteuid())
		skip();
	daemon_start("");
	assert_int_equal(stat(daemon_sock, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	for (int open_mode = 0; open_mode < 2; open_mode++) {
		/* The second time somebody has opened the file's mode. */
		if (open_mode)
			assert_int_equal(chmod(daemon_sock, 0666), 0);
		pid = fork();
		if (!pid) {
			int got;

			if (setgid(65534) || setuid(65534))
				_exit(99);
			got = api_call("GET", "/health", NULL);
			_exit(open_mode ? got != 403 : got != -EACCES);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	daemon_stop(SIGTERM);
}

static void failed_create_is_undone(void **state)
{
	daemon_start("[store]\nfault=put:exports/* error=EIO count=1");
	api_expect(503, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	assert_string_equal(api_member("code"), "store");
	api_expect(404, "GET", "/api/exports/vm-1", NULL);
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	daemon_stop(SIGTERM);
	daemon_start("");
	api_expect(200, "GET", "/api/exports/vm-1", NULL);
	daemon_stop(SIGTERM);
}

static void ambiguous_create_is_503_then_404_then_201(void **state)
{
	/* The PUT hangs past the create's deadline of a second. */
	daemon_start("[store]\nfault=put:exports/vm-1/* hang count=1");
	api_expect(503, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	api_expect(404, "GET", "/api/exports/vm-1", NULL);
	api_expect(200, "GET", "/api/exports", NULL);
	assert_null(strstr(api_answer, "vm-1"));
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	daemon_stop(SIGKILL);
	daemon_start("[store]\nfault=put:exports/vm-2/* ambiguous=after count=1");
	api_expect(200, "GET", "/api/exports/vm-1", NULL);
	assert_string_equal(api_member("state"), "attached");
	api_expect(201, "PUT", "/api/exports/vm-2", "{\"size\":\"1G\"}");
	daemon_stop(SIGTERM);
}

struct put {
	char path[64];
	int status;
};

static void *put_main(void *arg)
{
	struct put *p = arg;
	char req[256];
	int n = snprintf(
		req, sizeof(req),
		"PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n{\"size\":\"1G\"}",
		p->path);

	p->status = api_raw(req, (size_t)n, NULL, 0);
	return NULL;
}

static void killed_create_is_whole_or_absent(void **state)
{
	unsigned int seed = (unsigned int)now_ns(), whole = 0, absent = 0;

	print_message("seed %u\n", seed);
	for (int round = 0; round < 24; round++) {
		struct put put[3] = {0};
		pthread_t t[3];

		daemon_start("[store]\nfault=put:exports/* delay=5");
		for (int i = 0; i < 3; i++) {
			snprintf(put[i].path, sizeof(put[i].path), "/api/exports/k-%d-%d", round,
				 i);
			assert_int_equal(pthread_create(&t[i], NULL, put_main, &put[i]), 0);
		}
		{
			const struct timespec d = {.tv_nsec = (long)(rand_r(&seed) % 60000) * 1000};

			nanosleep(&d, NULL);
		}
		daemon_stop(SIGKILL);
		for (int i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
		daemon_start("");
		for (int i = 0; i < 3; i++) {
			int got = api_call("GET", put[i].path, NULL);

			if (got == 200) {
				assert_string_equal(api_member("state"), "attached");
				api_expect(200, "PUT", put[i].path, "{\"size\":\"1G\"}");
				whole++;
			} else {
				assert_int_equal(got, 404);
				/* Answered is there. */
				assert_int_not_equal(put[i].status, 201);
				api_expect(201, "PUT", put[i].path, "{\"size\":\"1G\"}");
				absent++;
			}
			api_expect(200, "DELETE", put[i].path, NULL);
		}
		daemon_stop(SIGTERM);
	}
	print_message("%u whole, %u absent\n", whole, absent);
}

static void threads_stay_constant(void **state)
{
	unsigned int before;
	struct put put[32] = {0};
	pthread_t t[32];

	daemon_start("");
	before = daemon_threads(daemon_pid);
	for (int i = 0; i < 32; i++) {
		snprintf(put[i].path, sizeof(put[i].path), "/api/exports/t-%d", i);
		assert_int_equal(pthread_create(&t[i], NULL, put_main, &put[i]), 0);
	}
	for (int i = 0; i < 32; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(put[i].status, 201);
	}
	assert_int_equal(daemon_threads(daemon_pid), before);
	daemon_stop(SIGTERM);
}

static void metrics_are_well_formed(void **state)
{
	static const char *const wanted[] = {
		"glidefs_build_info{version=",
		"glidefs_ready 1",
		"glidefs_volume_dirty_bytes{volume=\"m-1\"} 0",
		"glidefs_volume_oldest_dirty_seconds{volume=\"m-1\"} 0",
		"glidefs_volume_healthy{volume=\"m-1\",state=\"attached\"} 1",
		"glidefs_event_duration_seconds_bucket{event=\"create_export\",le=\"+Inf\"} 1",
		"glidefs_event_duration_seconds_count{event=\"object.put\"} 1",
		"glidefs_timing_dropped_total 0",
	};
	char *line, *save = NULL;

	daemon_start("");
	api_expect(201, "PUT", "/api/exports/m-1", "{\"size\":\"1G\"}");
	api_expect(200, "GET", "/metrics", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!strstr(api_answer, wanted[i]))
			fail_msg("no %s in:\n%s", wanted[i], api_answer);
	for (line = strtok_r(api_answer, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value = strrchr(line, ' '), *end;

		if (!strncmp(line, "# HELP ", 7) || !strncmp(line, "# TYPE ", 7))
			continue;
		assert_memory_equal(line, "glidefs_", 8);
		assert_non_null(value);
		strtod(value + 1, &end);
		if (end == value + 1 || *end)
			fail_msg("not a sample: %s", line);
	}
	daemon_stop(SIGTERM);
	daemon_start("metrics=no");
	api_expect(404, "GET", "/metrics", NULL);
	daemon_stop(SIGTERM);
}

/* Every metric that an alert asks for is there, or the alert would never come. */
static void alerts_name_only_metrics_that_exist(void **state)
{
	char path[PATH_MAX], *rules, name[128];
	unsigned int seen = 0;
	size_t len;

	daemon_start("");
	api_expect(201, "PUT", "/api/exports/m-1", "{\"size\":\"1G\"}");
	api_expect(200, "GET", "/metrics", NULL);
	snprintf(path, sizeof(path), "%s/packaging/prometheus/glidefs.rules.yml", GFS_SRCTREE);
	assert_int_equal(file_read_all(AT_FDCWD, path, MiB, &rules, &len), 0);
	for (char *p = rules; (p = strstr(p, "glidefs_")); seen++) {
		size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz_0123456789");

		snprintf(name, sizeof(name), "\n# TYPE %.*s ", (int)MIN(n, 100u), p);
		if (!strstr(api_answer, name))
			fail_msg("no metric %.*s", (int)n, p);
		p += n;
	}
	assert_true(seen >= 8);
	free(rules);
	daemon_stop(SIGTERM);
}

static void a_second_daemon_is_refused_naming_the_first(void **state)
{
	char log[64], want[64], *text;
	int status;
	size_t len;
	pid_t pid;

	daemon_start("lock_wait_s=0");
	pid = daemon_spawn();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	snprintf(log, sizeof(log), "%s/log", daemon_dir);
	snprintf(want, sizeof(want), "held by process %d (running)", daemon_pid);
	assert_int_equal(file_read_all(AT_FDCWD, log, 64 * MiB, &text, &len), 0);
	if (!strstr(text, want))
		fail_msg("no \"%s\" in %s", want, text);
	free(text);
	api_expect(200, "GET", "/health", NULL);
	daemon_stop(SIGTERM);
}

static void the_service_manager_is_told(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct timeval tv = {.tv_sec = ANSWER_S};
	char msg[512];
	ssize_t n;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/notify", daemon_dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setenv("NOTIFY_SOCKET", sa.sun_path, 1);
	daemon_start("");
	unsetenv("NOTIFY_SOCKET");
	n = recv(fd, msg, sizeof(msg) - 1, 0);
	assert_true(n > 0);
	msg[n] = '\0';
	assert_memory_equal(msg, "READY=1\n", 8);
	daemon_stop(SIGTERM);
	n = recv(fd, msg, sizeof(msg) - 1, 0);
	assert_true(n > 0);
	assert_memory_equal(msg, "STOPPING=1", 10);
	close(fd);
}

static int run_program(const char *arg, const char *conf)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		int fd = open("/dev/null", O_WRONLY);

		dup2(fd, 1);
		dup2(fd, 2);
		execl(daemon_path(), daemon_path(), arg, conf ? "--config" : NULL, conf,
		      (char *)NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void options_answer_without_starting(void **state)
{
	char conf[64];
	FILE *f;

	daemon_write_config("");
	snprintf(conf, sizeof(conf), "%s/conf", daemon_dir);
	assert_int_equal(run_program("--check-config", conf), 0);
	assert_int_equal(run_program("--help", NULL), 0);
	assert_int_equal(run_program("--version", NULL), 0);
	assert_int_equal(run_program("--nonsense", NULL), 2);
	assert_int_equal(run_program("--check-config", "/nonexistent"), 2);
	f = fopen(conf, "ae");
	fputs("\n[nope]\n", f);
	fclose(f);
	assert_int_equal(run_program("--check-config", conf), 2);
}

static void command_line_says_what_happened_by_its_status(void **state)
{
	assert_int_equal(api_client("ls", NULL, NULL, NULL), 3);
	assert_non_null(strstr(api_answer, "is glidefsd running?"));
	daemon_start("");
	assert_int_equal(api_client("health", NULL, NULL, NULL), 0);
	assert_int_equal(api_client("create", "vm-1", "--size", "1G"), 0);
	assert_string_equal(api_answer, "vm-1\n"); /* there is no device here */
	assert_int_equal(api_client("create", "vm-1", "--size", "512M"), 5);
	assert_non_null(strstr(api_answer, "exists with 1073741824 bytes"));
	assert_int_equal(api_client("create", "vm-2", "--size", "1Q"), 1);
	assert_int_equal(api_client("create", "vm-2", NULL, NULL), 2);
	assert_int_equal(api_client("create", "-x", "--size", "1G"), 2);
	assert_int_equal(api_client("create", "../x", "--size", "1G"), 2);
	assert_int_equal(api_client("frobnicate", NULL, NULL, NULL), 2);
	assert_int_equal(api_client("ls", "vm-1", NULL, NULL), 2);
	assert_int_equal(api_client("ls", "--force", NULL, NULL), 2);
	assert_int_equal(api_client("drain", "vm-1", "--timeout", "0"), 2);
	assert_int_equal(api_client("show", "vm-9", NULL, NULL), 4);
	assert_int_equal(api_client("--json", "show", "vm-1", NULL), 0);
	assert_string_equal(api_member("name"), "vm-1");
	assert_int_equal(api_client("--json", "show", "vm-9", NULL), 4);
	assert_string_equal(api_member("code"), "not_found");
	assert_int_equal(api_client("ls", NULL, NULL, NULL), 0);
	assert_non_null(strstr(api_answer, "vm-1                     attached"));
	assert_int_equal(api_client("drain", "vm-1", NULL, NULL), 0);
	assert_int_equal(api_client("detach", "vm-1", "--force", NULL), 0);
	assert_int_equal(api_client("drain", "vm-1", NULL, NULL), 5);
	assert_int_equal(api_client("attach", "vm-1", NULL, NULL), 0);
	assert_int_equal(api_client("takeover", "vm-1", NULL, NULL), 0);
	assert_int_equal(api_client("rm", "vm-1", NULL, NULL), 0);
	assert_int_equal(api_client("rm", "vm-1", NULL, NULL), 4);
	assert_int_equal(api_client("__complete", "detach", NULL, NULL), 0);
	assert_non_null(strstr(api_answer, "--timeout\n"));
	assert_non_null(strstr(api_answer, "NAME\n"));
	assert_null(strstr(api_answer, "--size"));
	api_client("--json", "doctor", NULL, NULL);
	{
		struct json_object *o = json_tokener_parse(api_answer);

		assert_true(json_object_is_type(o, json_type_array));
		assert_true(json_object_array_length(o) >= 9);
		json_object_put(o);
	}
	daemon_stop(SIGTERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(the_document_is_the_api, daemon_clean),
		cmocka_unit_test_teardown(volumes_live_through_the_api, daemon_clean),
		cmocka_unit_test_teardown(the_store_is_collected_and_scrubbed_through_the_api,
					  daemon_clean),
		cmocka_unit_test_teardown(snapshots_live_through_the_api, daemon_clean),
		cmocka_unit_test_teardown(forks_live_through_the_api, daemon_clean),
		cmocka_unit_test_teardown(a_read_only_volume_is_promoted_while_it_is_detached,
					  daemon_clean),
		cmocka_unit_test_teardown(bad_paths_names_and_arguments_are_refused, daemon_clean),
		cmocka_unit_test_teardown(bad_bodies_are_refused_and_make_nothing, daemon_clean),
		cmocka_unit_test_teardown(broken_http_never_stops_the_daemon, daemon_clean),
		cmocka_unit_test_teardown(slow_clients_delay_nobody, daemon_clean),
		cmocka_unit_test_teardown(requests_on_one_connection_are_answered_in_order,
					  daemon_clean),
		cmocka_unit_test_teardown(others_are_refused_by_mode_and_by_credentials,
					  daemon_clean),
		cmocka_unit_test_teardown(failed_create_is_undone, daemon_clean),
		cmocka_unit_test_teardown(ambiguous_create_is_503_then_404_then_201, daemon_clean),
		cmocka_unit_test_teardown(killed_create_is_whole_or_absent, daemon_clean),
		cmocka_unit_test_teardown(threads_stay_constant, daemon_clean),
		cmocka_unit_test_teardown(metrics_are_well_formed, daemon_clean),
		cmocka_unit_test_teardown(alerts_name_only_metrics_that_exist, daemon_clean),
		cmocka_unit_test_teardown(a_second_daemon_is_refused_naming_the_first,
					  daemon_clean),
		cmocka_unit_test_teardown(the_service_manager_is_told, daemon_clean),
		cmocka_unit_test_teardown(options_answer_without_starting, daemon_clean),
		cmocka_unit_test_teardown(command_line_says_what_happened_by_its_status,
					  daemon_clean),
	};

	return cmocka_run_group_tests(tests, daemon_setup, daemon_teardown);
}
