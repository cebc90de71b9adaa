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
#include "selftests/unit/json_schema.h"

#define ANSWER_S 30 /* generous: sanitizers, shared processors */

static char dir[32], sock[64], program[PATH_MAX];
static pid_t child = -1;

/* ---- the daemon ---- */

/* extra: lines of [daemon], or "[store]\n" and lines of that section. */
static void write_config(const char *extra)
{
	const char *store = strncmp(extra, "[store]\n", 8) ? "" : strchr(extra, '\n');
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/conf", dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f,
		"[daemon]\nsocket=%s\nstate_dir=%s/state\ncache_dir=%s/cache\ntiming_log=%s/"
		"timing\n"
		"log_level=warn\ncreate_timeout_s=1\n%s\n"
		"[store]\nurl=file://%s/store\n%s\n"
		"[io]\nworkers=1\nstore_timeout_s=2\n[cache]\nmemory_bytes=8M\n",
		sock, dir, dir, dir, *store ? "" : extra, dir, store);
	fclose(f);
}

static pid_t spawn(void)
{
	char conf[64], log[64];
	pid_t pid;

	snprintf(conf, sizeof(conf), "%s/conf", dir);
	snprintf(log, sizeof(log), "%s/log", dir);
	pid = fork();
	if (pid)
		return pid;
	{
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);

		dup2(fd, 2);
		execl(program, program, "--config", conf, "--no-ublk", (char *)NULL);
		_exit(127);
	}
}

static int dial(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_sec = ANSWER_S};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", sock);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

/* Read one answer: its status, body into out (NUL-terminated, may be NULL); 0 = closed without one.
 */
static int read_answer(int fd, char *out, size_t len)
{
	char *buf = malloc(4 << 20), *body;
	size_t n = 0, want = SIZE_MAX;
	int status = 0;

	while (n < want && n < (4 << 20) - 1) {
		ssize_t got = recv(fd, buf + n, (4 << 20) - 1 - n, 0);

		if (got <= 0)
			break;
		n += (size_t)got;
		buf[n] = '\0';
		body = strstr(buf, "\r\n\r\n");
		if (body && want == SIZE_MAX) {
			const char *cl = strcasestr(buf, "Content-Length:");

			want = (size_t)(body + 4 - buf) + (cl ? strtoul(cl + 15, NULL, 10) : 0);
		}
	}
	buf[n] = '\0';
	if (sscanf(buf, "HTTP/1.%*d %d", &status) != 1)
		status = 0;
	body = strstr(buf, "\r\n\r\n");
	if (out)
		snprintf(out, len, "%s", body ? body + 4 : "");
	free(buf);
	return status;
}

/* Send bytes as they are, read one answer. */
static int raw(const char *req, size_t len, char *out, size_t out_len)
{
	int fd = dial(), status;

	if (fd < 0)
		return fd;
	/* The daemon may answer and close before it has read everything. */
	for (size_t off = 0; off < len;) {
		ssize_t n = send(fd, req + off, len - off, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		off += (size_t)n;
	}
	status = read_answer(fd, out, out_len);
	close(fd);
	return status;
}

static char answer[1 << 20];

/* ---- the document ---- */

static struct json_object *openapi;

/* The path of the document that this one is an instance of. */
static struct json_object *doc_path(const char *path)
{
	size_t len = strcspn(path, "?");
	struct json_object *paths = NULL;

	json_object_object_get_ex(openapi, "paths", &paths);
	json_object_object_foreach (paths, key, item) {
		const char *brace = strchr(key, '{'), *rest;
		size_t fixed = brace ? (size_t)(brace - key) : strlen(key), name;

		if (strncmp(path, key, MIN(fixed, len)) || fixed > len)
			continue;
		if (!brace) {
			if (fixed == len)
				return item;
			continue;
		}
		rest = strchr(brace, '}') + 1;
		name = strcspn(path + fixed, "/?");
		if (name && len - fixed - name == strlen(rest) &&
		    !strncmp(path + fixed + name, rest, strlen(rest)))
			return item;
	}
	return NULL;
}

/* What came is what the document says: a status that it has, with a body of its schema. */
static void validate(const char *method, const char *path, int status)
{
	struct json_object *item = doc_path(path), *op, *all, *one, *v, *schema;
	char lower[16] = "", code[16], err[512];

	if (!openapi || status <= 0)
		return;
	for (size_t i = 0; method[i] && i < sizeof(lower) - 1; i++)
		lower[i] = (char)(method[i] | 0x20);
	snprintf(code, sizeof(code), "%d", status);
	schema = json_schema_ref(openapi, "#/components/schemas/Error");
	if (item && json_object_object_get_ex(item, lower, &op)) {
		json_object_object_get_ex(op, "responses", &all);
		if (json_object_object_get_ex(all, code, &one)) {
			json_object_object_get_ex(one, "content", &one);
			/* /metrics is text. */
			if (!json_object_object_get_ex(one, "application/json", &one))
				return;
			json_object_object_get_ex(one, "schema", &schema);
		} else if (status < 400) {
			fail_msg("%s %s: %d is not in the document", method, path, status);
		}
	} else if (status < 400) {
		fail_msg("%s %s is not in the document, and answers %d", method, path, status);
	}
	v = json_tokener_parse(answer);
	if (!json_schema_ok(openapi, schema, v, err, sizeof(err)))
		fail_msg("%s %s: %d %s\nis not as described: %s", method, path, status, answer,
			 err);
	json_object_put(v);
}

static int call(const char *method, const char *path, const char *body)
{
	size_t cap = strlen(path) + (body ? strlen(body) : 0) + 256;
	char *req = malloc(cap);
	int n, status;

	if (body)
		n = snprintf(req, cap, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
			     method, path, strlen(body), body);
	else
		n = snprintf(req, cap, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path);
	status = raw(req, (size_t)n, answer, sizeof(answer));
	free(req);
	validate(method, path, status);
	return status;
}

static void expect(int want, const char *method, const char *path, const char *body)
{
	int got = call(method, path, body);
	struct json_object *o, *v;

	if (got != want)
		fail_msg("%s %s %s: %d, wanted %d: %s", method, path, body ? body : "", got, want,
			 answer);
	if (want < 400)
		return;
	/* Every error is a JSON object with a sentence. */
	o = json_tokener_parse(answer);
	if (!json_object_object_get_ex(o, "error", &v) || strlen(json_object_get_string(v)) < 10 ||
	    !json_object_object_get_ex(o, "code", NULL))
		fail_msg("%s %s: %d without a sentence: %s", method, path, got, answer);
	json_object_put(o);
}

static void pause_ms(unsigned int ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

static void wait_ready(void)
{
	uint64_t end = now_ns() + 60 * NSEC_PER_SEC;
	int status;

	while ((status = call("GET", "/health/ready", NULL)) != 200) {
		if (child > 0 && waitpid(child, NULL, WNOHANG) == child) {
			child = -1;
			fail_msg("glidefsd ended at start; see %s/log", dir);
		}
		if (now_ns() > end)
			fail_msg("not ready: %d %s", status, answer);
		pause_ms(5);
	}
}

static void start(const char *extra)
{
	write_config(extra);
	child = spawn();
	assert_true(child > 0);
	wait_ready();
}

static void stop(int sig)
{
	int status;

	assert_int_equal(kill(child, sig), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	child = -1;
	if (sig == SIGTERM && (!WIFEXITED(status) || WEXITSTATUS(status)))
		fail_msg("status %x after SIGTERM; see %s/log", status, dir);
}

static const char *member(const char *key)
{
	static char value[300];
	struct json_object *o = json_tokener_parse(answer), *v;

	snprintf(value, sizeof(value), "%s",
		 json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "");
	json_object_put(o);
	return value;
}

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

	assert_non_null(openapi);
	json_object_object_get_ex(openapi, "paths", &paths);
	json_object_object_foreach (paths, p, item) {
		(void)p;
		documented += (unsigned int)json_object_object_length(item);
	}
	assert_int_equal(documented, api_routes_nr);
	for (unsigned int i = 0; i < api_routes_nr; i++) {
		const struct api_route *r = &api_routes[i];
		char path[64], lower[16] = "";
		unsigned int have = 0, nr = 0;
		const char *star = strchr(r->path, '*');
		bool named = false;

		snprintf(path, sizeof(path), "%.*s%s%s", (int)(star ? star - r->path : 60), r->path,
			 star ? "{NAME}" : "", star ? star + 1 : "");
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
				named |= !strcmp(json_object_get_string(v), "NAME");
				nr++;
			}
		if (have != r->args || named != (star != NULL) ||
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
	start("");
	expect(200, "GET", "/openapi.json", NULL);
	v = json_tokener_parse(answer);
	assert_true(json_object_equal(v, openapi));
	json_object_put(v);
	stop(SIGTERM);
}

static void volumes_live_through_the_api(void **state)
{
	start("");
	expect(404, "GET", "/api/exports/vm-1", NULL);
	expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	assert_string_equal(member("state"), "attached");
	assert_string_equal(member("size_bytes"), "1073741824");
	expect(200, "PUT", "/api/exports/vm-1", "{\"size\":1073741824}");
	expect(200, "PUT", "/api/exports/vm-1", "{\"size\":\"2G\"}");
	assert_string_equal(member("size_bytes"), "2147483648");
	expect(409, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	expect(409, "PUT", "/api/exports/vm-1", "{\"size\":\"2G\",\"partitions\":true}");
	expect(201, "PUT", "/api/exports/vm-2",
	       "{\"size\":1049088,\"read_only\":true,\"partitions\":true,\"block_bytes\":\"4K\"}");
	assert_string_equal(member("mode"), "read_only");
	expect(200, "GET", "/api/exports", NULL);
	assert_non_null(strstr(answer, "vm-1"));
	assert_non_null(strstr(answer, "vm-2"));
	expect(200, "POST", "/api/exports/vm-1/drain?timeout_s=5", NULL);
	expect(200, "POST", "/api/exports/vm-1/detach", "{}");
	assert_string_equal(member("state"), "detached");
	expect(409, "POST", "/api/exports/vm-1/drain", NULL);
	expect(200, "POST", "/api/exports/vm-1/attach", NULL);
	assert_string_equal(member("state"), "attached");
	expect(200, "POST", "/api/exports/vm-1/takeover", NULL);
	expect(404, "POST", "/api/exports/vm-9/attach", NULL);
	expect(404, "POST", "/api/exports/vm-9/detach", NULL);
	expect(404, "POST", "/api/exports/vm-9/takeover", NULL);
	expect(404, "DELETE", "/api/exports/vm-9", NULL);
	expect(200, "DELETE", "/api/exports/vm-1?force=true", NULL);
	expect(404, "GET", "/api/exports/vm-1", NULL);
	expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"2G\"}");
	stop(SIGTERM);
	assert_int_equal(access(sock, F_OK), -1);
	start("");
	expect(200, "GET", "/api/exports/vm-1", NULL);
	assert_string_equal(member("state"), "attached");
	stop(SIGTERM);
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
		{400, "POST", "/api/exports/a/drain?timeout_s=0"},
		{400, "POST", "/api/exports/a/drain?timeout_s=-1"},
		{400, "POST", "/api/exports/a/drain?timeout_s=99999999999999999999"},
		{400, "POST", "/api/exports/a/drain?timeout_s=1x"},
	};
	char path[400];

	start("");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		expect(table[i].status, table[i].method, table[i].path, NULL);
	memset(path, 'a', sizeof(path));
	memcpy(path, "/api/exports/", 13);
	path[13 + 127] = '\0';
	expect(404, "GET", path, NULL);
	path[13 + 127] = 'a';
	path[13 + 128] = '\0';
	expect(400, "GET", path, NULL);
	path[13 + 128] = 'a';
	path[399] = '\0';
	expect(400, "GET", path, NULL);
	expect(400, "POST", "/api/exports/a/attach", "{\"force\":true}");
	expect(400, "GET", "/health", "x");
	stop(SIGTERM);
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

	start("");
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		expect(400, "PUT", "/api/exports/vm-bad", bodies[i]);
		expect(404, "GET", "/api/exports/vm-bad", NULL);
	}
	stop(SIGTERM);
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

	start("");
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		int fd = dial();

		assert_true(fd >= 0);
		assert_true(send(fd, requests[i], strlen(requests[i]), MSG_NOSIGNAL) >= 0);
		/* Some get an answer, some would wait for the idle timeout; gone is gone. */
		close(fd);
		expect(200, "GET", "/health", NULL);
	}
	expect(404, "GET", "/api/exports/vm-t", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		int got = raw(limits[i].req, strlen(limits[i].req), answer, sizeof(answer));

		/* What the library refuses itself it may answer in its own words. */
		if (got != limits[i].status && got != 400)
			fail_msg("%s: %d %s", limits[i].req, got, answer);
	}
	/* A body of 64 KiB is read and refused as JSON; headers without end are cut. */
	big = malloc(300000);
	memset(big, ' ', 65536);
	big[65536] = '\0';
	expect(400, "PUT", "/api/exports/a", big);
	memcpy(big, "GET /health HTTP/1.1\r\nX: ", 25);
	memset(big + 25, 'y', 299974);
	big[299999] = '\0';
	{
		int got = raw(big, 299999, NULL, 0);

		if (got && got != 431 && got != 413 && got != 400)
			fail_msg("endless header: %d", got);
	}
	for (int i = 0; i < 300; i++) {
		size_t n = (size_t)rand_r(&seed) % 400;
		int fd = dial();

		assert_true(fd >= 0);
		for (size_t k = 0; k < n; k++)
			big[k] = (char)rand_r(&seed);
		if (i % 2)
			memcpy(big, "PUT /api/exports/a HTTP/1.1\r\n", MIN(n, 29u));
		(void)!send(fd, big, n, MSG_NOSIGNAL);
		close(fd);
	}
	free(big);
	expect(200, "GET", "/health", NULL);
	expect(200, "GET", "/api/exports", NULL);
	stop(SIGTERM);
}

static void slow_clients_delay_nobody(void **state)
{
	static const char part[] =
		"PUT /api/exports/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{";
	int fds[100];
	uint64_t t;

	start("");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = dial();
		assert_true(fds[i] >= 0);
		assert_true(send(fds[i], part, i % 3 ? 20 : sizeof(part) - 1, MSG_NOSIGNAL) > 0);
	}
	t = now_ns();
	expect(201, "PUT", "/api/exports/quick", "{\"size\":\"1G\"}");
	expect(200, "GET", "/health", NULL);
	assert_true(now_ns() - t < 10 * NSEC_PER_SEC);
	/* One of them ends its request after all, byte by byte. */
	for (const char *p = "\"size\":\"1G\"} "; *p; p++)
		assert_int_equal(send(fds[0], p, 1, MSG_NOSIGNAL), 1);
	assert_int_equal(read_answer(fds[0], answer, sizeof(answer)), 201);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	stop(SIGTERM);
}

static void requests_on_one_connection_are_answered_in_order(void **state)
{
	static const char health[] = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
	static const char missing[] = "GET /api/exports/none HTTP/1.1\r\nHost: x\r\n\r\n";
	int fd;

	start("");
	fd = dial();
	assert_true(fd >= 0);
	for (int i = 0; i < 20; i++) {
		const char *req = i % 2 ? missing : health;

		assert_int_equal(send(fd, req, strlen(req), MSG_NOSIGNAL), (ssize_t)strlen(req));
		assert_int_equal(read_answer(fd, answer, sizeof(answer)), i % 2 ? 404 : 200);
	}
	close(fd);
	stop(SIGTERM);
}

static void others_are_refused_by_mode_and_by_credentials(void **state)
{
	struct stat st;
	int status;
	pid_t pid;

	if (geteuid())
		skip();
	start("");
	assert_int_equal(stat(sock, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	for (int open_mode = 0; open_mode < 2; open_mode++) {
		/* The second time somebody has opened the file's mode. */
		if (open_mode)
			assert_int_equal(chmod(sock, 0666), 0);
		pid = fork();
		if (!pid) {
			int got;

			if (setgid(65534) || setuid(65534))
				_exit(99);
			got = call("GET", "/health", NULL);
			_exit(open_mode ? got != 403 : got != -EACCES);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
	stop(SIGTERM);
}

static void failed_create_is_undone(void **state)
{
	start("[store]\nfault=put:exports/* error=EIO count=1");
	expect(503, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	assert_string_equal(member("code"), "store");
	expect(404, "GET", "/api/exports/vm-1", NULL);
	expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	stop(SIGTERM);
	start("");
	expect(200, "GET", "/api/exports/vm-1", NULL);
	stop(SIGTERM);
}

static void ambiguous_create_is_503_then_404_then_201(void **state)
{
	/* The PUT hangs past the create's deadline of a second. */
	start("[store]\nfault=put:exports/vm-1/* hang count=1");
	expect(503, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	expect(404, "GET", "/api/exports/vm-1", NULL);
	expect(200, "GET", "/api/exports", NULL);
	assert_null(strstr(answer, "vm-1"));
	expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	stop(SIGKILL);
	start("[store]\nfault=put:exports/vm-2/* ambiguous=after count=1");
	expect(200, "GET", "/api/exports/vm-1", NULL);
	assert_string_equal(member("state"), "attached");
	expect(201, "PUT", "/api/exports/vm-2", "{\"size\":\"1G\"}");
	stop(SIGTERM);
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

	p->status = raw(req, (size_t)n, NULL, 0);
	return NULL;
}

static void killed_create_is_whole_or_absent(void **state)
{
	unsigned int seed = (unsigned int)now_ns(), whole = 0, absent = 0;

	print_message("seed %u\n", seed);
	for (int round = 0; round < 24; round++) {
		struct put put[3] = {0};
		pthread_t t[3];

		start("[store]\nfault=put:exports/* delay=5");
		for (int i = 0; i < 3; i++) {
			snprintf(put[i].path, sizeof(put[i].path), "/api/exports/k-%d-%d", round,
				 i);
			assert_int_equal(pthread_create(&t[i], NULL, put_main, &put[i]), 0);
		}
		{
			const struct timespec d = {.tv_nsec = (long)(rand_r(&seed) % 60000) * 1000};

			nanosleep(&d, NULL);
		}
		stop(SIGKILL);
		for (int i = 0; i < 3; i++)
			pthread_join(t[i], NULL);
		start("");
		for (int i = 0; i < 3; i++) {
			int got = call("GET", put[i].path, NULL);

			if (got == 200) {
				assert_string_equal(member("state"), "attached");
				expect(200, "PUT", put[i].path, "{\"size\":\"1G\"}");
				whole++;
			} else {
				assert_int_equal(got, 404);
				/* Answered is there. */
				assert_int_not_equal(put[i].status, 201);
				expect(201, "PUT", put[i].path, "{\"size\":\"1G\"}");
				absent++;
			}
			expect(200, "DELETE", put[i].path, NULL);
		}
		stop(SIGTERM);
	}
	print_message("%u whole, %u absent\n", whole, absent);
}

static unsigned int threads_of(pid_t pid)
{
	unsigned int n = 0;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d));)
		n += de->d_name[0] != '.';
	closedir(d);
	return n;
}

static void threads_stay_constant(void **state)
{
	unsigned int before;
	struct put put[32] = {0};
	pthread_t t[32];

	start("");
	before = threads_of(child);
	for (int i = 0; i < 32; i++) {
		snprintf(put[i].path, sizeof(put[i].path), "/api/exports/t-%d", i);
		assert_int_equal(pthread_create(&t[i], NULL, put_main, &put[i]), 0);
	}
	for (int i = 0; i < 32; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(put[i].status, 201);
	}
	assert_int_equal(threads_of(child), before);
	stop(SIGTERM);
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

	start("");
	expect(201, "PUT", "/api/exports/m-1", "{\"size\":\"1G\"}");
	expect(200, "GET", "/metrics", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!strstr(answer, wanted[i]))
			fail_msg("no %s in:\n%s", wanted[i], answer);
	for (line = strtok_r(answer, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *value = strrchr(line, ' '), *end;

		if (!strncmp(line, "# HELP ", 7) || !strncmp(line, "# TYPE ", 7))
			continue;
		assert_memory_equal(line, "glidefs_", 8);
		assert_non_null(value);
		strtod(value + 1, &end);
		if (end == value + 1 || *end)
			fail_msg("not a sample: %s", line);
	}
	stop(SIGTERM);
	start("metrics=no");
	expect(404, "GET", "/metrics", NULL);
	stop(SIGTERM);
}

/* Every metric that an alert asks for is there, or the alert would never come. */
static void alerts_name_only_metrics_that_exist(void **state)
{
	char path[PATH_MAX], *rules, name[128];
	unsigned int seen = 0;
	size_t len;

	start("");
	expect(201, "PUT", "/api/exports/m-1", "{\"size\":\"1G\"}");
	expect(200, "GET", "/metrics", NULL);
	snprintf(path, sizeof(path), "%s/packaging/prometheus/glidefs.rules.yml", GFS_SRCTREE);
	assert_int_equal(file_read_all(AT_FDCWD, path, MiB, &rules, &len), 0);
	for (char *p = rules; (p = strstr(p, "glidefs_")); seen++) {
		size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz_0123456789");

		snprintf(name, sizeof(name), "\n# TYPE %.*s ", (int)MIN(n, 100u), p);
		if (!strstr(answer, name))
			fail_msg("no metric %.*s", (int)n, p);
		p += n;
	}
	assert_true(seen >= 8);
	free(rules);
	stop(SIGTERM);
}

static void a_second_daemon_is_refused_naming_the_first(void **state)
{
	char log[64], want[64], *text;
	int status;
	size_t len;
	pid_t pid;

	start("lock_wait_s=0");
	pid = spawn();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	snprintf(log, sizeof(log), "%s/log", dir);
	snprintf(want, sizeof(want), "held by process %d (running)", child);
	assert_int_equal(file_read_all(AT_FDCWD, log, 64 * MiB, &text, &len), 0);
	if (!strstr(text, want))
		fail_msg("no \"%s\" in %s", want, text);
	free(text);
	expect(200, "GET", "/health", NULL);
	stop(SIGTERM);
}

static void the_service_manager_is_told(void **state)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct timeval tv = {.tv_sec = ANSWER_S};
	char msg[512];
	ssize_t n;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/notify", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setenv("NOTIFY_SOCKET", sa.sun_path, 1);
	start("");
	unsetenv("NOTIFY_SOCKET");
	n = recv(fd, msg, sizeof(msg) - 1, 0);
	assert_true(n > 0);
	msg[n] = '\0';
	assert_memory_equal(msg, "READY=1\n", 8);
	stop(SIGTERM);
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
		execl(program, program, arg, conf ? "--config" : NULL, conf, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void options_answer_without_starting(void **state)
{
	char conf[64];
	FILE *f;

	write_config("");
	snprintf(conf, sizeof(conf), "%s/conf", dir);
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

/* The client program with these arguments: its exit status; what it printed is in `answer`. */
static int client(const char *a, const char *b, const char *c, const char *d)
{
	char path[PATH_MAX + 8];
	int pipes[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	/* BUILD/glidefsd -> BUILD/glidefs */
	snprintf(path, sizeof(path), "%.*s", (int)strlen(program) - 1, program);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (!pid) {
		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		close(pipes[0]);
		setenv("GLIDEFS_SOCKET", sock, 1);
		execl(path, path, a, b, c, d, (char *)NULL);
		_exit(127);
	}
	close(pipes[1]);
	while ((got = read(pipes[0], answer + n, sizeof(answer) - 1 - n)) > 0)
		n += (size_t)got;
	answer[n] = '\0';
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void command_line_says_what_happened_by_its_status(void **state)
{
	assert_int_equal(client("ls", NULL, NULL, NULL), 3);
	assert_non_null(strstr(answer, "is glidefsd running?"));
	start("");
	assert_int_equal(client("health", NULL, NULL, NULL), 0);
	assert_int_equal(client("create", "vm-1", "--size", "1G"), 0);
	assert_string_equal(answer, "vm-1\n"); /* there is no device here */
	assert_int_equal(client("create", "vm-1", "--size", "512M"), 5);
	assert_non_null(strstr(answer, "exists with 1073741824 bytes"));
	assert_int_equal(client("create", "vm-2", "--size", "1Q"), 1);
	assert_int_equal(client("create", "vm-2", NULL, NULL), 2);
	assert_int_equal(client("create", "-x", "--size", "1G"), 2);
	assert_int_equal(client("create", "../x", "--size", "1G"), 2);
	assert_int_equal(client("frobnicate", NULL, NULL, NULL), 2);
	assert_int_equal(client("ls", "vm-1", NULL, NULL), 2);
	assert_int_equal(client("ls", "--force", NULL, NULL), 2);
	assert_int_equal(client("drain", "vm-1", "--timeout", "0"), 2);
	assert_int_equal(client("show", "vm-9", NULL, NULL), 4);
	assert_int_equal(client("--json", "show", "vm-1", NULL), 0);
	assert_string_equal(member("name"), "vm-1");
	assert_int_equal(client("--json", "show", "vm-9", NULL), 4);
	assert_string_equal(member("code"), "not_found");
	assert_int_equal(client("ls", NULL, NULL, NULL), 0);
	assert_non_null(strstr(answer, "vm-1                     attached"));
	assert_int_equal(client("drain", "vm-1", NULL, NULL), 0);
	assert_int_equal(client("detach", "vm-1", "--force", NULL), 0);
	assert_int_equal(client("drain", "vm-1", NULL, NULL), 5);
	assert_int_equal(client("attach", "vm-1", NULL, NULL), 0);
	assert_int_equal(client("takeover", "vm-1", NULL, NULL), 0);
	assert_int_equal(client("rm", "vm-1", NULL, NULL), 0);
	assert_int_equal(client("rm", "vm-1", NULL, NULL), 4);
	assert_int_equal(client("__complete", "detach", NULL, NULL), 0);
	assert_non_null(strstr(answer, "--timeout\n"));
	assert_non_null(strstr(answer, "NAME\n"));
	assert_null(strstr(answer, "--size"));
	client("--json", "doctor", NULL, NULL);
	{
		struct json_object *o = json_tokener_parse(answer);

		assert_true(json_object_is_type(o, json_type_array));
		assert_true(json_object_array_length(o) >= 9);
		json_object_put(o);
	}
	stop(SIGTERM);
}

/* ---- frame ---- */

static int setup(void **state)
{
	char exe[PATH_MAX], store[64];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *env = getenv("GLIDEFSD");

	openapi = json_object_from_file(GFS_SRCTREE "/Documentation/openapi.json");
	signal(SIGPIPE, SIG_IGN);
	if (n < 0)
		return -1;
	exe[n] = '\0';
	/* BUILD/selftests/unit/api_test -> BUILD/glidefsd */
	for (int i = 0; i < 3; i++)
		*strrchr(exe, '/') = '\0';
	snprintf(program, sizeof(program), "%s", env ? env : exe);
	if (!env)
		strncat(program, "/glidefsd", sizeof(program) - strlen(program) - 1);
	if (access(program, X_OK)) {
		print_error("%s is not there\n", program);
		return -1;
	}
	snprintf(dir, sizeof(dir), "/tmp/api_test.XXXXXX");
	if (!mkdtemp(dir) || chmod(dir, 0755))
		return -1;
	snprintf(sock, sizeof(sock), "%s/sock", dir);
	snprintf(store, sizeof(store), "%s/store", dir);
	return mkdir(store, 0700);
}

/* Each test begins with empty directories, and leaves no daemon. */
static int clean(void **state)
{
	char cmd[256];

	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		child = -1;
	}
	snprintf(cmd, sizeof(cmd), "cd %s && rm -rf state cache timing sock notify store/* conf",
		 dir);
	return system(cmd);
}

static int teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(the_document_is_the_api, clean),
		cmocka_unit_test_teardown(volumes_live_through_the_api, clean),
		cmocka_unit_test_teardown(bad_paths_names_and_arguments_are_refused, clean),
		cmocka_unit_test_teardown(bad_bodies_are_refused_and_make_nothing, clean),
		cmocka_unit_test_teardown(broken_http_never_stops_the_daemon, clean),
		cmocka_unit_test_teardown(slow_clients_delay_nobody, clean),
		cmocka_unit_test_teardown(requests_on_one_connection_are_answered_in_order, clean),
		cmocka_unit_test_teardown(others_are_refused_by_mode_and_by_credentials, clean),
		cmocka_unit_test_teardown(failed_create_is_undone, clean),
		cmocka_unit_test_teardown(ambiguous_create_is_503_then_404_then_201, clean),
		cmocka_unit_test_teardown(killed_create_is_whole_or_absent, clean),
		cmocka_unit_test_teardown(threads_stay_constant, clean),
		cmocka_unit_test_teardown(metrics_are_well_formed, clean),
		cmocka_unit_test_teardown(alerts_name_only_metrics_that_exist, clean),
		cmocka_unit_test_teardown(a_second_daemon_is_refused_naming_the_first, clean),
		cmocka_unit_test_teardown(the_service_manager_is_told, clean),
		cmocka_unit_test_teardown(options_answer_without_starting, clean),
		cmocka_unit_test_teardown(command_line_says_what_happened_by_its_status, clean),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
