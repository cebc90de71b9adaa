// SPDX-License-Identifier: GPL-2.0-or-later
/* See s3_server.h. */
#include "selftests/unit/s3_server.h"
#include "lib/hash.h"
#include "store/s3_priv.h"

#include <json-c/json.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <cmocka.h>

#define START_NS (30 * NSEC_PER_SEC)

static void bucket_name(struct s3_server *s)
{
	uint8_t id[8];
	char hex[17];

	random_bytes(id, sizeof(id));
	hex_encode(id, sizeof(id), hex);
	snprintf(s->bucket, sizeof(s->bucket), "gfs-test-%s", hex);
	snprintf(s->url, sizeof(s->url), "s3://%s/p", s->bucket);
}

static void common(struct s3_server *s)
{
	s->options = (struct store_s3_options){.endpoint = s->endpoint,
					       .access_key_id = s->access,
					       .secret_access_key = s->secret,
					       .max_connections = 16};
}

/* The program beside this one: BUILD/selftests/unit/X -> BUILD/selftests/s3d/s3d. */
static void program_path(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);
	char *end;

	assert_true(n > 0);
	path[n] = '\0';
	for (int i = 0; i < 2; i++) {
		end = strrchr(path, '/');
		assert_non_null(end);
		*end = '\0';
	}
	assert_true(strlen(path) + 10 < size);
	strcat(path, "/s3d/s3d");
}

static void dir_make(struct s3_server *s)
{
	const char *tmp = getenv("TMPDIR");

	memset(s, 0, sizeof(*s));
	bucket_name(s);
	snprintf(s->dir, sizeof(s->dir), "%.60s/gfs-s3d-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(s->dir));
}

static void run(struct s3_server *s, const char *rules)
{
	uint64_t until = now_ns() + START_NS;
	char program[512], file[128], key[128];
	unsigned int port = 0;

	program_path(program, sizeof(program));
	snprintf(file, sizeof(file), "%s/port", s->dir);
	snprintf(key, sizeof(key), "%s/key.pem", s->dir);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (!s->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (s->cert[0])
			execl(program, "s3d", "--port-file", file, "--bucket", s->bucket, "--cert",
			      s->cert, "--key", key, NULL);
		else
			execl(program, "s3d", "--port-file", file, "--bucket", s->bucket,
			      rules ? "--faults" : NULL, rules, NULL);
		_exit(127);
	}
	while (!port) {
		FILE *f = fopen(file, "r");
		int status;

		if (f && fscanf(f, "%u", &port) != 1)
			port = 0;
		if (f)
			fclose(f);
		if (port)
			break;
		if (waitpid(s->pid, &status, WNOHANG) == s->pid || now_ns() > until)
			fail_msg("%s did not start", program);
		usleep(1000);
	}
	unlink(file);
	snprintf(s->endpoint, sizeof(s->endpoint), "http%s://127.0.0.1:%u", s->cert[0] ? "s" : "",
		 port);
	strcpy(s->access, "TESTKEY");
	strcpy(s->secret, "TESTSECRET");
	common(s);
}

void s3_server_start(struct s3_server *s, const char *rules)
{
	dir_make(s);
	run(s, rules);
}

bool s3_server_start_tls(struct s3_server *s)
{
	char cmd[640];

	dir_make(s);
	snprintf(s->cert, sizeof(s->cert), "%s/cert.pem", s->dir);
	snprintf(cmd, sizeof(cmd),
		 "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
		 "-subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout %s/key.pem -out %s "
		 ">/dev/null 2>&1",
		 s->dir, s->cert);
	if (system(cmd)) {
		rmdir(s->dir);
		return false;
	}
	run(s, NULL);
	s->options.ca_file = s->cert;
	return true;
}

bool s3_server_environment(struct s3_server *s)
{
	const char *endpoint = getenv("GFS_TEST_S3"), *access = getenv("GFS_TEST_S3_ACCESS");
	const char *secret = getenv("GFS_TEST_S3_SECRET");

	memset(s, 0, sizeof(*s));
	if (!endpoint || !access || !secret)
		return false;
	snprintf(s->endpoint, sizeof(s->endpoint), "%s", endpoint);
	snprintf(s->access, sizeof(s->access), "%s", access);
	snprintf(s->secret, sizeof(s->secret), "%s", secret);
	common(s);
	s3_server_bucket(s);
	return true;
}

void s3_server_stop(struct s3_server *s)
{
	if (s->pid) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
		if (s->cert[0]) {
			char key[128];

			snprintf(key, sizeof(key), "%s/key.pem", s->dir);
			unlink(key);
			unlink(s->cert);
		}
		rmdir(s->dir);
	}
	s->pid = 0;
}

static size_t collect(char *p, size_t size, size_t n, void *user)
{
	FILE *f = user;

	return fwrite(p, size, n, f);
}

/* One request; the answer, malloc'ed. */
static char *request(const struct s3_server *s, const char *method, const char *path,
		     struct curl_slist *headers, const char *body)
{
	CURL *c = curl_easy_init();
	char url[160], *answer = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&answer, &len);
	long status = 0;
	CURLcode r;

	assert_non_null(c);
	assert_non_null(f);
	snprintf(url, sizeof(url), "%s%s", s->endpoint, path);
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	if (body)
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
	r = curl_easy_perform(c);
	curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(c);
	fclose(f);
	if (r || status / 100 != 2)
		fail_msg("%s %s: %s, %ld: %s", method, url, curl_easy_strerror(r), status, answer);
	return answer;
}

static void add_header(struct curl_slist **list, const char *name, const char *value)
{
	char line[S3_AUTH_LEN + 64];

	snprintf(line, sizeof(line), "%s: %s", name, value);
	*list = curl_slist_append(*list, line);
	assert_non_null(*list);
}

void s3_server_bucket(struct s3_server *s)
{
	/* SHA-256 of nothing. */
	static const char nothing[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	const struct s3_creds creds = {.id = s->access, .secret = s->secret};
	char date[S3_DATE_LEN], auth[S3_AUTH_LEN], path[40];
	const struct s3_header sent[] = {{"host", strstr(s->endpoint, "://") + 3},
					 {"x-amz-content-sha256", nothing},
					 {"x-amz-date", date}};
	const struct s3_sign_in in = {.method = "PUT",
				      .path = path,
				      .query = "",
				      .headers = sent,
				      .nr_headers = ARRAY_SIZE(sent),
				      .payload = nothing,
				      .region = "us-east-1",
				      .date = date};
	struct curl_slist *headers = NULL;

	bucket_name(s);
	snprintf(path, sizeof(path), "/%s", s->bucket);
	s3_date(time(NULL), date);
	assert_int_equal(s3_sign(&in, &creds, NULL, auth), 0);
	for (size_t i = 1; i < ARRAY_SIZE(sent); i++)
		add_header(&headers, sent[i].name, sent[i].value);
	add_header(&headers, "authorization", auth);
	free(request(s, "PUT", path, headers, ""));
	curl_slist_free_all(headers);
}

static char *control(const struct s3_server *s, const char *method, const char *path,
		     const char *body)
{
	char whole[64];

	assert_true(s->pid > 0);
	snprintf(whole, sizeof(whole), "/_s3d/%s", path);
	return request(s, method, whole, NULL, body);
}

void s3_server_rules(const struct s3_server *s, const char *rules)
{
	free(control(s, "PUT", "faults", rules));
}

void s3_server_credentials(const struct s3_server *s, const char *text)
{
	free(control(s, "PUT", "credentials", text));
}

void s3_server_stats_reset(const struct s3_server *s)
{
	free(control(s, "DELETE", "stats", NULL));
}

uint64_t s3_server_stat(const struct s3_server *s, const char *name)
{
	char *text = control(s, "GET", "stats", NULL), part[64];
	struct json_object *root = json_tokener_parse(text), *o = root;
	const char *dot = strchr(name, '.');
	uint64_t v = 0;

	assert_non_null(root);
	if (dot) {
		snprintf(part, sizeof(part), "%.*s", (int)(dot - name), name);
		name = dot + 1;
		assert_true(json_object_object_get_ex(root, part, &o));
	}
	if (json_object_object_get_ex(o, name, &o))
		v = json_object_get_uint64(o);
	json_object_put(root);
	free(text);
	return v;
}

struct store *s3_server_open(const struct s3_server *s)
{
	struct store_options o = {.s3 = s->options};
	struct store *st = NULL;
	char err[512] = "";

	if (store_open_with(s->url, &o, &st, err, sizeof(err)))
		fail_msg("store_open_with(%s): %s", s->url, err);
	return st;
}
