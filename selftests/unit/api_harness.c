// SPDX-License-Identifier: GPL-2.0-or-later
/* See api_harness.h. One thread starts and stops the daemon; calls may come from more. */
#include "selftests/unit/api_harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
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

#include "selftests/unit/json_schema.h"

char daemon_dir[32], daemon_sock[64];
static char daemon_program[PATH_MAX];
pid_t daemon_pid = -1;

/* ---- the daemon ---- */

void daemon_write_config(const char *extra)
{
	const char *store = strstr(extra, "[store]\n");
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "%s/conf", daemon_dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fprintf(f,
		"[daemon]\nsocket=%s\nstate_dir=%s/state\ncache_dir=%s/cache\ntiming_log=%s/"
		"timing\nlog_level=warn\n%s%.*s\n"
		"[store]\nurl=file://%s/store\n%s\n"
		"[io]\nworkers=1\nstore_timeout_s=2\n[cache]\nmemory_bytes=8M\n",
		daemon_sock, daemon_dir, daemon_dir, daemon_dir,
		strstr(extra, "create_timeout_s") ? "" : "create_timeout_s=1\n",
		store ? (int)(store - extra) : (int)strlen(extra), extra, daemon_dir,
		store ? store + 8 : "");
	fclose(f);
}

pid_t daemon_spawn(void)
{
	char conf[64], log[64];
	pid_t pid;

	snprintf(conf, sizeof(conf), "%s/conf", daemon_dir);
	snprintf(log, sizeof(log), "%s/log", daemon_dir);
	pid = fork();
	if (pid)
		return pid;
	{
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);

		dup2(fd, 2);
		execl(daemon_program, daemon_program, "--config", conf, "--no-ublk", (char *)NULL);
		_exit(127);
	}
}

int api_dial(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_sec = ANSWER_S};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", daemon_sock);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int read_answer(int fd, char *out, size_t len, bool headers)
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
		snprintf(out, len, "%s", headers ? buf : body ? body + 4 : "");
	free(buf);
	return status;
}

int api_read_answer(int fd, char *out, size_t len)
{
	return read_answer(fd, out, len, false);
}

int api_read_all(int fd, char *out, size_t len)
{
	return read_answer(fd, out, len, true);
}

int api_raw(const char *req, size_t len, char *out, size_t out_len)
{
	int fd = api_dial(), status;

	if (fd < 0)
		return fd;
	/* The daemon may answer and close before it has read everything. */
	for (size_t off = 0; off < len;) {
		ssize_t n = send(fd, req + off, len - off, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		off += (size_t)n;
	}
	status = api_read_answer(fd, out, out_len);
	close(fd);
	return status;
}

char api_answer[API_ANSWER_MAX];

/* ---- the document ---- */

struct json_object *api_doc;

/* The path of the document that this one is an instance of. */
/* "{X}" in the template stands for one part of the path. */
static bool doc_path_is(const char *key, const char *path, size_t len)
{
	const char *end = path + len;

	while (*key) {
		if (*key == '{') {
			const char *part = path;

			while (path < end && *path != '/')
				path++;
			if (path == part)
				return false;
			key = strchr(key, '}') + 1;
		} else if (path == end || *key++ != *path++) {
			return false;
		}
	}
	return path == end;
}

static struct json_object *doc_path(const char *path)
{
	size_t len = strcspn(path, "?");
	struct json_object *paths = NULL;

	json_object_object_get_ex(api_doc, "paths", &paths);
	json_object_object_foreach (paths, key, item)
		if (doc_path_is(key, path, len))
			return item;
	return NULL;
}

void api_validate(const char *method, const char *path, int status)
{
	/* Low bytes of what is answered before a route runs: 400 401 403 405 408 411 413 ... */
	static const uint8_t general[] = {400 & 0xff, 401 & 0xff, 403 & 0xff, 405 & 0xff,
					  408 & 0xff, 411 & 0xff, 413 & 0xff, 414 & 0xff,
					  415 & 0xff, 431 & 0xff, 500 & 0xff, 503 & 0xff};
	struct json_object *item = doc_path(path), *op, *all, *one, *v, *schema;
	char lower[16] = "", code[16], err[512];

	if (!api_doc || status <= 0)
		return;
	for (size_t i = 0; method[i] && i < sizeof(lower) - 1; i++)
		lower[i] = (char)(method[i] | 0x20);
	snprintf(code, sizeof(code), "%d", status);
	schema = json_schema_ref(api_doc, "#/components/schemas/Error");
	if (item && json_object_object_get_ex(item, lower, &op)) {
		json_object_object_get_ex(op, "responses", &all);
		if (json_object_object_get_ex(all, code, &one)) {
			json_object_object_get_ex(one, "content", &one);
			/* /metrics is text. */
			if (!json_object_object_get_ex(one, "application/json", &one))
				return;
			json_object_object_get_ex(one, "schema", &schema);
		} else if (status < 400 || !memchr(general, status & 0xff, sizeof(general))) {
			fail_msg("%s %s: %d is not in the document", method, path, status);
		}
	} else if (status < 400) {
		fail_msg("%s %s is not in the document, and answers %d", method, path, status);
	}
	v = json_tokener_parse(api_answer);
	if (!json_schema_ok(api_doc, schema, v, err, sizeof(err)))
		fail_msg("%s %s: %d %s\nis not as described: %s", method, path, status, api_answer,
			 err);
	json_object_put(v);
}

int api_call(const char *method, const char *path, const char *body)
{
	size_t cap = strlen(path) + (body ? strlen(body) : 0) + 256;
	char *req = malloc(cap);
	int n, status;

	if (body)
		n = snprintf(req, cap, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
			     method, path, strlen(body), body);
	else
		n = snprintf(req, cap, "%s %s HTTP/1.1\r\nHost: x\r\n\r\n", method, path);
	status = api_raw(req, (size_t)n, api_answer, sizeof(api_answer));
	free(req);
	api_validate(method, path, status);
	return status;
}

void api_expect(int want, const char *method, const char *path, const char *body)
{
	int got = api_call(method, path, body);
	struct json_object *o, *v;

	if (got != want)
		fail_msg("%s %s %s: %d, wanted %d: %s", method, path, body ? body : "", got, want,
			 api_answer);
	if (want < 400)
		return;
	/* Every error is a JSON object with a sentence. */
	o = json_tokener_parse(api_answer);
	if (!json_object_object_get_ex(o, "error", &v) || strlen(json_object_get_string(v)) < 10 ||
	    !json_object_object_get_ex(o, "code", NULL))
		fail_msg("%s %s: %d without a sentence: %s", method, path, got, api_answer);
	json_object_put(o);
}

void pause_ms(unsigned int ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

void daemon_wait_ready(void)
{
	uint64_t end = now_ns() + 60 * NSEC_PER_SEC;
	int status;

	while ((status = api_call("GET", "/health/ready", NULL)) != 200) {
		if (daemon_pid > 0 && waitpid(daemon_pid, NULL, WNOHANG) == daemon_pid) {
			daemon_pid = -1;
			fail_msg("glidefsd ended at start; see %s/log", daemon_dir);
		}
		if (now_ns() > end)
			fail_msg("not ready: %d %s", status, api_answer);
		pause_ms(5);
	}
}

void daemon_start(const char *extra)
{
	daemon_write_config(extra);
	daemon_pid = daemon_spawn();
	assert_true(daemon_pid > 0);
	daemon_wait_ready();
}

void daemon_stop(int sig)
{
	int status;

	assert_int_equal(kill(daemon_pid, sig), 0);
	assert_int_equal(waitpid(daemon_pid, &status, 0), daemon_pid);
	daemon_pid = -1;
	if (sig == SIGTERM && (!WIFEXITED(status) || WEXITSTATUS(status)))
		fail_msg("status %x after SIGTERM; see %s/log", status, daemon_dir);
}

const char *api_member(const char *key)
{
	static char value[300];
	struct json_object *o = json_tokener_parse(api_answer), *v;

	snprintf(value, sizeof(value), "%s",
		 json_object_object_get_ex(o, key, &v) && v ? json_object_get_string(v) : "");
	json_object_put(o);
	return value;
}

const char *daemon_path(void)
{
	return daemon_program;
}

static unsigned int entries_of(pid_t pid, const char *what)
{
	unsigned int n = 0;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	d = opendir(path);
	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d));)
		n += de->d_name[0] != '.';
	closedir(d);
	return n;
}

unsigned int daemon_threads(pid_t pid)
{
	return entries_of(pid, "task");
}

unsigned int daemon_fds(pid_t pid)
{
	return entries_of(pid, "fd");
}

pid_t api_client_spawn(const char *const *args, int fd)
{
	char path[PATH_MAX + 8];
	const char *argv[16] = {path};
	pid_t pid;

	/* BUILD/glidefsd -> BUILD/glidefs */
	snprintf(path, sizeof(path), "%.*s", (int)strlen(daemon_program) - 1, daemon_program);
	for (unsigned int i = 0; args[i]; i++) {
		assert_true(i + 2 < ARRAY_SIZE(argv));
		argv[i + 1] = args[i];
	}
	pid = fork();
	if (pid)
		return pid;
	dup2(fd, 1);
	dup2(fd, 2);
	signal(SIGINT, SIG_DFL); /* ignored in what a shell runs in the background */
	setenv("GLIDEFS_SOCKET", daemon_sock, 1);
	execv(path, (char *const *)argv);
	_exit(127);
}

int api_client(const char *a, const char *b, const char *c, const char *d)
{
	const char *const args[] = {a, b, c, d, NULL};
	int pipes[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = api_client_spawn(args, pipes[1]);
	close(pipes[1]);
	while ((got = read(pipes[0], api_answer + n, sizeof(api_answer) - 1 - n)) > 0)
		n += (size_t)got;
	api_answer[n] = '\0';
	close(pipes[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- frame ---- */

int daemon_setup(void **state)
{
	char exe[PATH_MAX], store[64];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *env = getenv("GLIDEFSD");

	api_doc = json_object_from_file(GFS_SRCTREE "/Documentation/openapi.json");
	signal(SIGPIPE, SIG_IGN);
	if (n < 0)
		return -1;
	exe[n] = '\0';
	/* BUILD/selftests/unit/api_test -> BUILD/glidefsd */
	for (int i = 0; i < 3; i++)
		*strrchr(exe, '/') = '\0';
	snprintf(daemon_program, sizeof(daemon_program), "%s", env ? env : exe);
	if (!env)
		strncat(daemon_program, "/glidefsd",
			sizeof(daemon_program) - strlen(daemon_program) - 1);
	if (access(daemon_program, X_OK)) {
		print_error("%s is not there\n", daemon_program);
		return -1;
	}
	snprintf(daemon_dir, sizeof(daemon_dir), "/tmp/api_test.XXXXXX");
	if (!mkdtemp(daemon_dir) || chmod(daemon_dir, 0755))
		return -1;
	snprintf(daemon_sock, sizeof(daemon_sock), "%s/sock", daemon_dir);
	snprintf(store, sizeof(store), "%s/store", daemon_dir);
	return mkdir(store, 0700);
}

/* Each test begins with empty directories, and leaves no daemon. */
int daemon_clean(void **state)
{
	char cmd[256];

	if (daemon_pid > 0) {
		kill(daemon_pid, SIGKILL);
		waitpid(daemon_pid, NULL, 0);
		daemon_pid = -1;
	}
	snprintf(cmd, sizeof(cmd), "cd %s && rm -rf state cache timing sock notify store/* conf",
		 daemon_dir);
	return system(cmd);
}

int daemon_teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", daemon_dir);
	return system(cmd);
}
