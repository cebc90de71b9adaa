// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the API does not put up with: clients that are slow, many, loud, strangers, or mad. Whatever
 * they send, the daemon answers others, keeps no descriptor, and no volume is half made.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "selftests/unit/api_harness.h"

#define TOKEN "0123456789abcdef-secret"

static char all[1 << 16];

static void send_all(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* The answer has this status and code, as JSON. */
static void is_error(int fd, int status, const char *code)
{
	struct json_object *o;
	const char *body;
	int got = api_read_all(fd, all, sizeof(all));

	body = strstr(all, "\r\n\r\n");
	o = body ? json_tokener_parse(body + 4) : NULL;
	if (got != status ||
	    strcmp(json_object_get_string(json_object_object_get(o, "code")) ?: "", code))
		fail_msg("%d, wanted %d %s: %s", got, status, code, all);
	json_object_put(o);
}

static void slow_requests_are_cut_with_408(void **state)
{
	static const char head[] = "PUT /api/exports/slow HTTP/1.1\r\nHost: x\r\n";
	int fd[3];
	uint64_t t;

	daemon_start("request_timeout_s=2");
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		assert_true((fd[i] = api_dial()) >= 0);
	t = now_ns();
	/* Headers, or a body, a byte at a time: never idle, never done. And one that says nothing.
	 */
	send_all(fd[0], head);
	send_all(fd[1], head);
	send_all(fd[1], "Content-Length: 1000\r\n\r\n");
	for (int i = 0; i < 40; i++) {
		if (send(fd[0], "a", 1, MSG_NOSIGNAL) < 0 && send(fd[1], " ", 1, MSG_NOSIGNAL) < 0)
			break;
		(void)!send(fd[1], " ", 1, MSG_NOSIGNAL);
		pause_ms(100);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		is_error(fd[i], 408, "too_slow");
		close(fd[i]);
	}
	assert_true(now_ns() - t >= 2 * NSEC_PER_SEC);
	api_expect(404, "GET", "/api/exports/slow", NULL);
	daemon_stop(SIGTERM);
}

/* A request that works for longer than clients may take to send one is not slow. */
static void long_work_is_no_slow_request(void **state)
{
	daemon_start("request_timeout_s=1\ncreate_timeout_s=4\n[store]\nfault=put:exports/* "
		     "delay=2500");
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	daemon_stop(SIGTERM);
}

static void too_many_connections_are_told_so(void **state)
{
	int fd[540], refused = 0;

	daemon_start("");
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		assert_true((fd[i] = api_dial()) >= 0);
		if (i >= 512) {
			send_all(fd[i], "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
			is_error(fd[i], 503, "too_many_connections");
			assert_non_null(strstr(all, "Connection: close"));
			close(fd[i]);
			fd[i] = -1;
			refused++;
		}
	}
	assert_int_equal(refused, 28);
	for (size_t i = 0; i < 512; i++)
		close(fd[i]);
	for (int i = 0; api_call("GET", "/health", NULL) != 200; i++) {
		assert_true(i < 1000);
		pause_ms(10);
	}
	daemon_stop(SIGTERM);
}

static void refusals_say_what_would_be_right(void **state)
{
	static const struct {
		int status;
		const char *code, *req, *has;
	} table[] = {
		{405, "bad_method", "POST /api/exports/a HTTP/1.1\r\nHost: x\r\n\r\n",
		 "Allow: PUT, GET, DELETE\r\n"},
		{405, "bad_method",
		 "PUT /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
		 "Allow: GET\r\n"},
		{404, "no_route", "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "no such path"},
		{415, "bad_type",
		 "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
		 "Content-Length: 2\r\n\r\n{}",
		 "application/json"},
		{413, "too_large",
		 "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n",
		 "65536"},
		{411, "bad_request",
		 "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
		 "0\r\n\r\n",
		 "Content-Length"},
	};
	char *big = malloc(20000);
	int fd, n;

	daemon_start("");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_true((fd = api_dial()) >= 0);
		send_all(fd, table[i].req);
		is_error(fd, table[i].status, table[i].code);
		if (!strstr(all, table[i].has))
			fail_msg("no \"%s\" in %s", table[i].has, all);
		close(fd);
	}
	/* Headers of more than 8 KiB, a path of more than 1 KiB. */
	n = sprintf(big, "GET /health HTTP/1.1\r\nHost: x\r\nX-Pad: ");
	memset(big + n, 'p', 9000);
	strcpy(big + n + 9000, "\r\n\r\n");
	assert_true((fd = api_dial()) >= 0);
	send_all(fd, big);
	is_error(fd, 431, "too_large");
	close(fd);
	n = sprintf(big, "GET /");
	memset(big + n, 'p', 2000);
	strcpy(big + n + 2000, " HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_true((fd = api_dial()) >= 0);
	send_all(fd, big);
	is_error(fd, 414, "too_large");
	close(fd);
	free(big);
	/* Typed as JSON, with a parameter, it is taken. */
	assert_true((fd = api_dial()) >= 0);
	send_all(fd,
		 "PUT /api/exports/a HTTP/1.1\r\nHost: x\r\nContent-Type: "
		 "application/json; charset=utf-8\r\nContent-Length: 13\r\n\r\n{\"size\":\"1G\"}");
	assert_int_equal(api_read_answer(fd, NULL, 0), 201);
	close(fd);
	daemon_stop(SIGTERM);
}

/* ---- TCP ---- */

static unsigned int free_port(void)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	close(fd);
	return ntohs(sa.sin_port);
}

static int tcp_dial(unsigned int port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval tv = {.tv_sec = ANSWER_S};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

static void token_write(char path[64], const char *text, mode_t mode)
{
	FILE *f;

	snprintf(path, 64, "%s/token", daemon_dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static void tcp_asks_for_the_token(void **state)
{
	static const struct {
		int status;
		const char *header;
	} table[] = {
		{401, ""},
		{401, "Authorization: Bearer\r\n"},
		{401, "Authorization: Bearer \r\n"},
		{401, "Authorization: Bearer 0123456789abcdef-secreT\r\n"},
		{401, "Authorization: Bearer " TOKEN "x\r\n"},
		{401, "Authorization: Basic " TOKEN "\r\n"},
		{401, "X-Authorization: Bearer " TOKEN "\r\n"},
		{200, "Authorization: Bearer " TOKEN "\r\n"},
		{200, "authorization: bearer " TOKEN "\r\n"},
	};
	static const char *const paths[] = {"/health", "/metrics", "/api/exports", "/openapi.json"};
	char extra[256], req[512], path[64], host[64];
	unsigned int port = free_port();
	int fd;

	token_write(path, TOKEN "\n", 0600);
	snprintf(extra, sizeof(extra), "listen=127.0.0.1:%u\ntoken_file=%s", port, path);
	daemon_start(extra);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		for (size_t k = 0; k < ARRAY_SIZE(paths); k++) {
			int got;

			snprintf(req, sizeof(req), "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", paths[k],
				 table[i].header);
			fd = tcp_dial(port);
			send_all(fd, req);
			got = api_read_all(fd, all, sizeof(all));
			if (got != table[i].status)
				fail_msg("%s %s: %d", paths[k], table[i].header, got);
			if (got == 401)
				assert_non_null(strstr(all, "WWW-Authenticate: Bearer"));
			close(fd);
		}
	/* Without a token nothing is told of which paths there are. */
	fd = tcp_dial(port);
	send_all(fd, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
	is_error(fd, 401, "unauthorized");
	close(fd);
	/* The client by options and by environment. */
	snprintf(host, sizeof(host), "127.0.0.1:%u", port);
	setenv("GLIDEFS_HOST", host, 1);
	assert_int_equal(api_client("ls", NULL, NULL, NULL), 3);
	assert_non_null(strstr(api_answer, "GLIDEFS_TOKEN_FILE"));
	setenv("GLIDEFS_TOKEN_FILE", path, 1);
	assert_int_equal(api_client("create", "vm-1", "--size", "1G"), 0);
	assert_int_equal(api_client("--json", "show", "vm-1", NULL), 0);
	assert_string_equal(api_member("state"), "attached");
	unsetenv("GLIDEFS_HOST");
	unsetenv("GLIDEFS_TOKEN_FILE");
	assert_int_equal(api_client("--host", host, "ls", NULL), 3);
	assert_int_equal(api_client("show", "vm-1", NULL, NULL), 0);
	daemon_stop(SIGTERM);
}

static void a_token_that_others_can_read_is_refused(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
	} table[] = {{TOKEN, 0644},
		     {TOKEN, 0640},
		     {"", 0600},
		     {"short\n", 0600},
		     {"with a space in it, long enough\n", 0600}};
	char path[64], extra[256];
	int status;
	pid_t pid;

	for (size_t i = 0; i <= ARRAY_SIZE(table); i++) {
		if (i < ARRAY_SIZE(table))
			token_write(path, table[i].text, table[i].mode);
		snprintf(extra, sizeof(extra), "listen=127.0.0.1:%u\n%s%s", free_port(),
			 i < ARRAY_SIZE(table) ? "token_file=" : "",
			 i < ARRAY_SIZE(table) ? path : "");
		daemon_write_config(extra);
		pid = daemon_spawn();
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status));
	}
}

/* ---- progress ---- */

/* What the client draws on a terminal while it drains with a slow store; NULL terminal: a pipe. */
static void run_on(bool terminal, const char *arg, const char *name, const char *option)
{
	int fd, pipes[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	if (terminal) {
		pid = forkpty(&fd, NULL, NULL, NULL);
		assert_true(pid >= 0);
	} else {
		assert_int_equal(pipe(pipes), 0);
		pid = fork();
		fd = pipes[0];
	}
	if (!pid) {
		char path[300];

		if (!terminal) {
			dup2(pipes[1], 1);
			dup2(pipes[1], 2);
		}
		snprintf(path, sizeof(path), "%.*s", (int)strlen(daemon_path()) - 1, daemon_path());
		setenv("GLIDEFS_SOCKET", daemon_sock, 1);
		execl(path, path, arg, name, option, (char *)NULL);
		_exit(127);
	}
	if (!terminal)
		close(pipes[1]);
	while (n < sizeof(all) - 1 && (got = read(fd, all + n, sizeof(all) - 1 - n)) > 0)
		n += (size_t)got;
	all[n] = '\0';
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("%s %s: status %x: %s", arg, name, status, all);
}

static void long_work_shows_its_progress_on_terminals_only(void **state)
{
	daemon_start("[store]\nfault=get:exports/* delay=1500");
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"size\":\"1G\"}");
	api_expect(200, "POST", "/api/exports/vm-1/detach", NULL);
	run_on(true, "attach", "vm-1", NULL);
	if (!strstr(all, "vm-1: opening"))
		fail_msg("no phase in: %s", all);
	api_expect(200, "POST", "/api/exports/vm-1/detach", NULL);
	run_on(false, "attach", "vm-1", NULL);
	assert_string_equal(all, "vm-1\n");
	api_expect(200, "POST", "/api/exports/vm-1/detach", NULL);
	run_on(true, "attach", "vm-1", "--json");
	assert_null(strstr(all, "opening"));
	daemon_stop(SIGTERM);
}

/* ---- hammer ---- */

static unsigned int seed;

static unsigned int rnd(unsigned int below)
{
	return (unsigned int)rand_r(&seed) % below;
}

/* Requests that are nearly right, with something wrong in any place. */
static size_t malformed(char *out, size_t cap)
{
	static const char *const methods[] = {"GET",  "PUT",     "POST",    "DELETE",
					      "HEAD", "OPTIONS", "PATCH",   "get",
					      "G\tT", "TRACE",   "CONNECT", ""};
	static const char *const paths[] = {"/api/exports/h-1",
					    "/api/exports/h-1/attach",
					    "/api/exports/h-1/drain",
					    "/api/exports/h-1/detach?force=1",
					    "/api/exports/h-1/takeover?force=1",
					    "/api/exports",
					    "/health",
					    "/metrics",
					    "/openapi.json",
					    "/api/exports/../../etc",
					    "/api/exports/%2e%2e/x",
					    "/api/exports/h-1?force=1&force=1&timeout_s=3",
					    "/api/exports/h-1/drain?timeout_s=18446744073709551616",
					    "/api/exports/h-1?local=2",
					    "*",
					    "http://x/health",
					    "//",
					    "/api/exports/\xff\xfe",
					    "/api/exports/h 1",
					    "/api/exports/h-1?&&&=&=",
					    "/api/exports/h-1?local",
					    "/api/exports/h-1#x"};
	static const char *const versions[] = {"HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0",
					       "HTTP/2.0", "HTTP/1.9", "HTTP/",    "HTTP/11",
					       "http/1.1", ""};
	static const char *const headers[] = {"Host: x\r\n",
					      "Host: x\r\n",
					      "Connection: close\r\n",
					      "Content-Length: 0\r\n",
					      "Content-Length: -1\r\n",
					      "Content-Length: 18446744073709551617\r\n",
					      "Content-Length: 0x10\r\n",
					      "Content-Length: 5\r\nContent-Length: 6\r\n",
					      "Transfer-Encoding: chunked\r\n",
					      "Transfer-Encoding: gzip, chunked\r\n",
					      "Content-Type: text/plain\r\n",
					      "Expect: 100-continue\r\n",
					      "Expect: nothing\r\n",
					      "Upgrade: h2c\r\nConnection: Upgrade\r\n",
					      ": empty\r\n",
					      "No-Colon\r\n",
					      " folded: yes\r\n",
					      "X: \x01\x02\x03\r\n",
					      "Cookie: a=b; ; =\r\n",
					      "Authorization: Bearer x\r\n",
					      "Range: bytes=0-\r\n",
					      "\tX: y\r\n",
					      "X:\n",
					      "\r"};
	static const char *const bodies[] = {"{}",
					     "{\"size\":\"1G\"",
					     "{\"size\":1048575}",
					     "{\"size\":\"1G\",\"size\":\"1G\"}",
					     "{\"size\":[1]}",
					     "{\"size\":{\"a\":1}}",
					     "[{\"size\":1}]",
					     "{\"size\":\"1G\"}}",
					     "{\"size\":1e400}",
					     "{'size':'1G'}",
					     "\xef\xbb\xbf{\"size\":\"1G\"}",
					     "{\"size\":\"1G\",\"\\u0000\":1}",
					     "{\"si\\u007ae\":\"-1G\"}",
					     "nul",
					     "\"size\"",
					     "{\"size\":\"1G\",\"block_bytes\":3}",
					     "{\"size\":true}",
					     "{/**/}",
					     "5\r\n{}\r\n0",
					     "{\"size\":\"1G\",\"from\":\"volume:x\"}",
					     "{\"size\":99999999999999999999999}"};
	const char *body = bodies[rnd(ARRAY_SIZE(bodies))];
	size_t n;

	n = (size_t)snprintf(out, cap, "%s %s %s\r\n", methods[rnd(ARRAY_SIZE(methods))],
			     paths[rnd(ARRAY_SIZE(paths))], versions[rnd(ARRAY_SIZE(versions))]);
	for (unsigned int i = rnd(5); i; i--)
		n += (size_t)snprintf(out + n, cap - n, "%s", headers[rnd(ARRAY_SIZE(headers))]);
	if (rnd(2))
		n += (size_t)snprintf(out + n, cap - n, "Content-Length: %zu\r\n",
				      strlen(body) + (rnd(4) ? 0 : rnd(9)));
	n += (size_t)snprintf(out + n, cap - n, "\r\n%s", rnd(3) ? body : "");
	/* Then it is damaged. */
	for (unsigned int i = rnd(4); i && n; i--)
		switch (rnd(5)) {
		case 0:
			out[rnd((unsigned int)n)] = (char)rnd(256);
			break;
		case 1:
			n = rnd((unsigned int)n);
			break;
		case 2: {
			size_t at = rnd((unsigned int)n), len = rnd(64);

			len = MIN(len, MIN(n - at, cap - n));
			memmove(out + at + len, out + at, n - at);
			n += len;
			break;
		}
		case 3:
			out[rnd((unsigned int)n)] ^= (char)(1u << rnd(8));
			break;
		case 4:
			out[rnd((unsigned int)n)] = '\0';
			break;
		}
	return n;
}

/* Files in a directory of the daemon. */
static unsigned int entries(const char *where)
{
	unsigned int n = 0;
	char path[128];
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", daemon_dir, where);
	d = opendir(path);
	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d));)
		n += de->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Is it whole as far as one can see? What is not gets no answer before its time is over. */
static bool looks_whole(char *req, size_t n)
{
	const char *end, *length;

	req[n] = '\0';
	end = memmem(req, n, "\r\n\r\n", 4);
	length = strcasestr(req, "Content-Length:");
	return end && (!length || length > end ||
		       strtoul(length + 15, NULL, 10) <= (size_t)(req + n - end - 4));
}

/* No body above is a whole definition, and no damage makes one of it. */
static void mad_requests_change_nothing(void **state)
{
	const char *env = getenv("HAMMER_REQUESTS"), *first = getenv("HAMMER_SEED");
	unsigned int nr = env ? (unsigned int)atoi(env) : 10000, answered = 0, fds, threads;
	static char req[8192];
	unsigned int statuses[600] = {0};

	seed = first ? (unsigned int)atoi(first) : 20261122;
	print_message("seed %u, %u requests\n", seed, nr);
	daemon_start("request_timeout_s=1");
	api_expect(201, "PUT", "/api/exports/keep", "{\"size\":\"1G\"}");
	api_expect(200, "GET", "/api/exports", NULL);
	threads = daemon_threads(daemon_pid);
	fds = daemon_fds(daemon_pid);
	for (unsigned int i = 0; i < nr; i++) {
		size_t n = malformed(req, sizeof(req) - 64);
		int fd = api_dial(), status;

		assert_true(fd >= 0);
		(void)!send(fd, req, n, MSG_NOSIGNAL);
		/* Some go away without waiting. */
		status = rnd(8) && looks_whole(req, n) ? api_read_answer(fd, NULL, 0) : 0;
		answered += status != 0;
		statuses[status > 0 && status < 600 ? status : 0]++;
		close(fd);
		if (waitpid(daemon_pid, NULL, WNOHANG) == daemon_pid) {
			daemon_pid = -1;
			fail_msg("the daemon ended at request %u: %.*s", i, (int)n, req);
		}
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(statuses); i++)
		if (statuses[i])
			print_message("status %u: %u\n", i, statuses[i]);
	assert_true(answered > nr / 4);
	/* Nothing was left behind: no volume, in memory or in the store, no thread, no descriptor.
	 */
	api_expect(404, "GET", "/api/exports/h-1", NULL);
	api_expect(200, "GET", "/api/exports", NULL);
	assert_true(strstr(api_answer, "\"keep\"") && !strstr(api_answer, "h-1"));
	assert_int_equal(entries("store/exports"), 1);
	assert_int_equal(entries("cache/volumes"), 1);
	assert_int_equal(entries("state/pending"), 0);
	for (int i = 0; daemon_fds(daemon_pid) > fds || daemon_threads(daemon_pid) > threads; i++) {
		if (i > 1000)
			fail_msg("%u descriptors, %u before; %u threads, %u before",
				 daemon_fds(daemon_pid), fds, daemon_threads(daemon_pid), threads);
		pause_ms(10);
	}
	daemon_stop(SIGTERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(slow_requests_are_cut_with_408, daemon_clean),
		cmocka_unit_test_teardown(long_work_is_no_slow_request, daemon_clean),
		cmocka_unit_test_teardown(too_many_connections_are_told_so, daemon_clean),
		cmocka_unit_test_teardown(refusals_say_what_would_be_right, daemon_clean),
		cmocka_unit_test_teardown(tcp_asks_for_the_token, daemon_clean),
		cmocka_unit_test_teardown(a_token_that_others_can_read_is_refused, daemon_clean),
		cmocka_unit_test_teardown(long_work_shows_its_progress_on_terminals_only,
					  daemon_clean),
		cmocka_unit_test_teardown(mad_requests_change_nothing, daemon_clean),
	};
	struct rlimit rl = {.rlim_cur = 4096, .rlim_max = 4096};

	setrlimit(RLIMIT_NOFILE, &rl);
	return cmocka_run_group_tests(tests, daemon_setup, daemon_teardown);
}
