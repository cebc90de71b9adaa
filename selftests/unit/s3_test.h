/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * S3 servers for tests: s3d, started by the test and stopped with it, and the radosgw of the run,
 * whose address is in the environment (selftests/rgw). Each test makes a bucket of its own.
 */
#ifndef GFS_SELFTESTS_S3_TEST_H
#define GFS_SELFTESTS_S3_TEST_H

#include "store_test.h"
#include "store/s3_priv.h"

#include <arpa/inet.h>
#include <libgen.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define S3_TEST_ACCESS "TESTKEY"
#define S3_TEST_SECRET "TESTSECRET"

struct s3_server {
	char endpoint[64]; /* "http://127.0.0.1:PORT" */
	uint16_t port;
	pid_t pid; /* 0: not ours to stop */
};

/* The program beside the test: BUILD/selftests/s3d/s3d. It dies with the test. port 0 = any. */
static inline struct s3_server s3d_start(uint16_t port)
{
	struct s3_server srv = {.pid = 0};
	char self[4096], path[4200], number[16], said[16] = "";
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int out[2];

	assert_true(n > 0);
	self[n] = '\0';
	snprintf(path, sizeof(path), "%s/../s3d/s3d", dirname(self));
	snprintf(number, sizeof(number), "%u", port);
	assert_int_equal(pipe(out), 0);
	srv.pid = fork();
	assert_true(srv.pid >= 0);
	if (!srv.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execl(path, "s3d", "--port", number, NULL);
		_exit(127);
	}
	close(out[1]);
	/* It says its port when it listens. */
	for (size_t have = 0; have < sizeof(said) - 1 && !strchr(said, '\n'); have += (size_t)n) {
		n = read(out[0], said + have, sizeof(said) - 1 - have);
		if (n <= 0)
			fail_msg("%s does not start (it is built by `make tools`)", path);
	}
	close(out[0]);
	srv.port = (uint16_t)atoi(said);
	snprintf(srv.endpoint, sizeof(srv.endpoint), "http://127.0.0.1:%u", srv.port);
	return srv;
}

static inline void s3d_stop(struct s3_server *srv)
{
	if (!srv->pid)
		return;
	kill(srv->pid, SIGKILL);
	assert_int_equal(waitpid(srv->pid, NULL, 0), srv->pid);
	srv->pid = 0;
}

/* The radosgw of this run. False: there is none. */
static inline bool rgw_server(struct s3_server *srv)
{
	const char *endpoint = getenv("GFS_TEST_S3"),
		   *colon = endpoint ? strrchr(endpoint, ':') : 0;

	*srv = (struct s3_server){.pid = 0};
	if (!colon) {
		print_message(
			"no radosgw: not tested on one (start one with selftests/rgw, and set "
			"GFS_TEST_S3)\n");
		return false;
	}
	srv->port = (uint16_t)atoi(colon + 1);
	snprintf(srv->endpoint, sizeof(srv->endpoint), "%s", endpoint);
	return true;
}

/* One request on a connection of its own: the status, and what follows the headers. */
static inline int http_request(const struct s3_server *srv, const char *method, const char *path,
			       const char *headers, const char *body, char *out, size_t out_size)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(srv->port)};
	__cleanup_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	static _Thread_local char answer[64 * 1024];
	size_t have = 0;
	char *end;
	ssize_t n;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_true(dprintf(fd,
			    "%s %s HTTP/1.1\r\nhost: 127.0.0.1:%u\r\nconnection: close\r\n"
			    "content-length: %zu\r\n%s\r\n%s",
			    method, path, srv->port, strlen(body), headers, body) > 0);
	while (have < sizeof(answer) - 1 &&
	       (n = read(fd, answer + have, sizeof(answer) - 1 - have)) > 0)
		have += (size_t)n;
	answer[have] = '\0';
	end = strstr(answer, "\r\n\r\n");
	if (!end || strncmp(answer, "HTTP/1.1 ", 9) != 0)
		fail_msg("%s %s: no answer: %.100s", method, path, answer);
	if (out)
		snprintf(out, out_size, "%s", end + 4);
	return atoi(answer + 9);
}

/* Rules of s3d, one a line; "" clears. */
static inline void s3d_faults(const struct s3_server *srv, const char *rules)
{
	char said[512];

	if (http_request(srv, "PUT", "/_s3d/faults", "", rules, said, sizeof(said)) != 200)
		fail_msg("%s", said);
}

/* A counter of s3d's stats by its name: the first of that name. */
static inline uint64_t s3d_stat(const struct s3_server *srv, const char *name)
{
	char json[16384], want[64], *at;

	assert_int_equal(http_request(srv, "GET", "/_s3d/stats", "", "", json, sizeof(json)), 200);
	snprintf(want, sizeof(want), "\"%s\":", name);
	at = strstr(json, want);
	assert_non_null(at);
	return strtoull(at + strlen(want), NULL, 10);
}

/* A bucket that nobody else uses; its name to `name` (64 bytes). */
static inline void s3_bucket_new(const struct s3_server *srv, char *name)
{
	static _Atomic unsigned int count;
	const struct s3_creds creds = {.id = (char *)S3_TEST_ACCESS,
				       .secret = (char *)S3_TEST_SECRET};
	char host[32], date[S3_DATE_LEN], auth[S3_AUTH_LEN], path[80], headers[2048], said[512];
	const char *nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	struct s3_header signed_headers[] = {
		{"host", host}, {"x-amz-content-sha256", nothing}, {"x-amz-date", date}};
	struct s3_sign_in in = {.method = "PUT",
				.path = path,
				.query = "",
				.headers = signed_headers,
				.nr_headers = ARRAY_SIZE(signed_headers),
				.payload = nothing,
				.region = "us-east-1",
				.date = date};
	int status;

	snprintf(name, 64, "test-%d-%llx-%u", getpid(), (unsigned long long)now_ns(), ++count);
	snprintf(path, sizeof(path), "/%s", name);
	snprintf(host, sizeof(host), "127.0.0.1:%u", srv->port);
	s3_date(time(NULL), date);
	assert_int_equal(s3_sign(&in, &creds, auth), 0);
	snprintf(headers, sizeof(headers),
		 "x-amz-content-sha256: %s\r\nx-amz-date: %s\r\nauthorization: %s\r\n", nothing,
		 date, auth);
	status = http_request(srv, "PUT", path, headers, "", said, sizeof(said));
	if (status != 200)
		fail_msg("bucket %s: status %d: %s", name, status, said);
}

/* Options that reach srv. */
static inline struct store_options s3_test_options(const struct s3_server *srv)
{
	return (struct store_options){.s3 = {.endpoint = srv->endpoint,
					     .region = "us-east-1",
					     .access_key_id = S3_TEST_ACCESS,
					     .secret_access_key = S3_TEST_SECRET,
					     .probe_wait_ns = 30 * NSEC_PER_SEC}};
}

static inline struct store *s3_open_store(const char *url, const struct store_options *o)
{
	char err[512] = "";
	struct store *s = NULL;
	int r = store_open_with(url, o, &s, err, sizeof(err));

	if (r)
		fail_msg("%s at %s: %d: %s", url, o->s3.endpoint, r, err);
	return s;
}

#endif
