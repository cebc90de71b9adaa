// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The HTTP server: socket, peer check, limits, dispatch. See api.h.
 *
 * A request goes REQ_NEW (headers seen) → REQ_BODY (collecting) → REQ_RUNNING (suspended, on the
 * pool) → REQ_DONE (resumed, its answer is queued by the HTTP thread). A refusal that is known from
 * the headers is answered at once and its body never read. a->lock guards `running` only.
 */
#include "control/api.h"

#include <ctype.h>
#include <json-c/json.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/timing.h"

/* Request line and headers of one connection, and its buffers; more is answered with 431 by the
 * library. */
#define CONNECTION_MEMORY (16 * KiB)

enum req_state { REQ_NEW, REQ_BODY, REQ_RUNNING, REQ_DONE };

struct api {
	struct host *host;
	struct engine *engine;
	struct pool *pool;
	struct MHD_Daemon *mhd;
	int listen_fd;
	char *socket;
	ino_t socket_ino;
	bool metrics;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int running;
};

struct host *api_host(struct api *a)
{
	return a->host;
}

struct engine *api_engine(struct api *a)
{
	return a->engine;
}

bool api_metrics_enabled(const struct api *a)
{
	return a->metrics;
}

/* ---- answers ---- */

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

static enum MHD_Result send_response(struct MHD_Connection *conn, struct api_request *req)
{
	struct MHD_Response *resp;
	enum MHD_Result ret;

	if (!req->resp.body)
		api_error(req, 500, "internal", "out of memory");
	resp = MHD_create_response_from_buffer(req->resp.len, req->resp.body,
					       MHD_RESPMEM_MUST_FREE);
	if (!resp)
		return MHD_NO; /* closes the connection; the body is freed with the request */
	req->resp.body = NULL;
	MHD_add_response_header(resp, "Content-Type",
				req->resp.type ? req->resp.type : "application/json");
	MHD_add_response_header(resp, "Cache-Control", "no-store");
	if (req->resp.status == 503)
		MHD_add_response_header(resp, "Retry-After", "1");
	ret = MHD_queue_response(conn, req->resp.status, resp);
	MHD_destroy_response(resp);
	return ret;
}

/* ---- what the headers say ---- */

/* Root and our own user, nobody else. */
static bool peer_allowed(struct MHD_Connection *conn, uid_t *uid)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct ucred cred;
	socklen_t len = sizeof(cred);

	*uid = (uid_t)-1;
	if (!info || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	*uid = cred.uid;
	return cred.uid == 0 || cred.uid == geteuid();
}

/* Does path match the pattern? The part under "*" goes to name[len]; -1 when it does not fit there.
 */
static int path_match(const char *pattern, const char *path, char *name, size_t len)
{
	for (; *pattern; pattern++) {
		size_t n;

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

static bool route_find(struct api_request *req, const char *url, const char *method)
{
	char allow[64] = "";

	for (unsigned int i = 0; i < api_routes_nr; i++) {
		const struct api_route *r = &api_routes[i];
		int m = path_match(r->path, url, req->name, sizeof(req->name));

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
		snprintf(allow + strlen(allow), sizeof(allow) - strlen(allow), "%s%s",
			 allow[0] ? ", " : "", r->method);
	}
	if (req->route)
		return true;
	if (allow[0])
		api_error(req, 405, "bad_method", "%.16s is not possible here; %s is", method,
			  allow);
	else
		api_error(req, 404, "no_route", "there is no such path in this API");
	return false;
}

static enum MHD_Result check_arg(void *cls, enum MHD_ValueKind kind, const char *key,
				 const char *value)
{
	struct api_request *req = cls;
	unsigned int allowed = req->route->args;
	char *end;

	if (!strcmp(key, "force") && (allowed & API_ARG_FORCE)) {
		bool yes = value && (!strcmp(value, "1") || !strcmp(value, "true"));

		if (yes || (value && (!strcmp(value, "0") || !strcmp(value, "false")))) {
			req->force = yes;
			return MHD_YES;
		}
		api_error(req, 400, "bad_request", "force must be true or false");
	} else if (!strcmp(key, "timeout_s") && (allowed & API_ARG_TIMEOUT)) {
		unsigned long s =
			value && isdigit((unsigned char)*value) ? strtoul(value, &end, 10) : 0;

		if (s >= 1 && s <= 86400 && !*end) {
			req->timeout_ns = s * NSEC_PER_SEC;
			return MHD_YES;
		}
		api_error(req, 400, "bad_request", "timeout_s must be a number from 1 to 86400");
	} else {
		api_error(req, 400, "bad_request",
			  "this request takes no such argument: see the manual");
	}
	return MHD_NO;
}

/* A body is announced with its length, and small: refused here, it is never read. */
static bool check_length(struct api_request *req, struct MHD_Connection *conn)
{
	const char *cl = MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Content-Length");
	const char *coding =
		MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Transfer-Encoding");
	size_t digits = cl ? strspn(cl, "0123456789") : 0;

	if (coding) {
		api_error(req, 411, "bad_request", "send Content-Length, not Transfer-Encoding");
		return false;
	}
	if (!cl)
		return true;
	if (!digits || cl[digits]) {
		api_error(req, 400, "bad_request", "Content-Length is not a number");
		return false;
	}
	if (digits > 9 || strtoul(cl, NULL, 10) > API_BODY_MAX) {
		api_error(req, 413, "too_large", "the body is larger than %llu bytes",
			  API_BODY_MAX);
		return false;
	}
	return true;
}

static bool headers_ok(struct api_request *req, struct MHD_Connection *conn, const char *url,
		       const char *method)
{
	struct fmt_err fe = {{0}};
	uid_t uid;

	if (!peer_allowed(conn, &uid)) {
		log_warn("API: a request of user %d was refused", (int)uid);
		api_error(req, 403, "forbidden",
			  "only root and the daemon's own user may use this API");
		return false;
	}
	if (!check_length(req, conn) || !route_find(req, url, method))
		return false;
	MHD_get_connection_values(conn, MHD_GET_ARGUMENT_KIND, check_arg, req);
	if (req->resp.status)
		return false;
	if (strchr(req->route->path, '*') && volume_name_check(req->name, &fe)) {
		api_error(req, 400, "bad_request", "%s", fe.msg);
		return false;
	}
	return true;
}

/* ---- running ---- */

static void request_run(struct pool_job *job)
{
	struct api_request *req = container_of(job, struct api_request, job);
	struct api *a = req->api;

	req->route->run(req);
	req->state = REQ_DONE;
	/* From here on the HTTP thread may free it. */
	MHD_resume_connection(req->conn);
	pthread_mutex_lock(&a->lock);
	if (!--a->running)
		pthread_cond_broadcast(&a->cond);
	pthread_mutex_unlock(&a->lock);
}

static bool body_empty(const struct api_request *req)
{
	size_t i = strspn(req->body ? req->body : "", " \t\r\n");

	if (i == req->body_len)
		return true;
	return req->body[i] == '{' && i + 1 < req->body_len && req->body[i + 1] == '}' &&
	       i + 2 + strspn(req->body + i + 2, " \t\r\n") == req->body_len;
}

static enum MHD_Result request_start(struct api_request *req)
{
	struct api *a = req->api;

	if (!req->route->body && !body_empty(req)) {
		api_error(req, 400, "bad_request", "this request takes no body");
		return send_response(req->conn, req);
	}
	req->op_id = timing_op_id();
	if (req->route->quick) {
		req->route->run(req);
		req->state = REQ_DONE;
		return send_response(req->conn, req);
	}
	req->state = REQ_RUNNING;
	req->job.run = request_run;
	pthread_mutex_lock(&a->lock);
	a->running++;
	pthread_mutex_unlock(&a->lock);
	MHD_suspend_connection(req->conn);
	pool_submit(a->pool, &req->job);
	return MHD_YES;
}

static bool body_add(struct api_request *req, const char *data, size_t len)
{
	char *p;

	/* Content-Length was checked, so this bound holds unless the library breaks its word. */
	if (len > API_BODY_MAX - req->body_len)
		return false;
	p = realloc(req->body, req->body_len + len + 1);
	if (!p)
		return false;
	memcpy(p + req->body_len, data, len);
	req->body = p;
	req->body_len += len;
	p[req->body_len] = '\0';
	return true;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *data_len, void **con_cls)
{
	struct api_request *req = *con_cls;

	if (!req) {
		req = calloc(1, sizeof(*req));
		if (!req)
			return MHD_NO;
		req->api = cls;
		req->conn = conn;
		*con_cls = req;
		if (!headers_ok(req, conn, url, method)) {
			req->state = REQ_DONE;
			return send_response(conn, req);
		}
		req->state = REQ_BODY;
		return MHD_YES;
	}
	if (req->state == REQ_DONE)
		return send_response(conn, req);
	if (*data_len) {
		if (!body_add(req, data, *data_len))
			return MHD_NO;
		*data_len = 0;
		return MHD_YES;
	}
	return request_start(req);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **con_cls,
			 enum MHD_RequestTerminationCode toe)
{
	struct api_request *req = *con_cls;

	if (!req)
		return;
	free(req->body);
	free(req->resp.body);
	free(req);
	*con_cls = NULL;
}

/* Percent signs are illegal in names, so paths are taken as they are; there is nothing to decode.
 */
static size_t no_unescape(void *cls, struct MHD_Connection *conn, char *s)
{
	return strlen(s);
}

static void __printf(2, 0) on_log(void *cls, const char *fmt, va_list ap)
{
	char msg[512];

	vsnprintf(msg, sizeof(msg), fmt, ap);
	msg[strcspn(msg, "\n")] = '\0';
	log_debug("HTTP: %s", msg);
}

/* ---- socket ---- */

/* Is there a live server? A file nobody listens on is stale. */
static bool socket_answers(const struct sockaddr_un *sa)
{
	__cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0;
}

/*
 * Listen under a temporary name, then rename: the path is never without a server of ours or with
 * wider permissions, and a stale socket is replaced in one step.
 */
static int socket_listen(struct api *a)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX}, tmp = sa;
	struct stat st;
	int fd, r;

	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", a->socket) >=
		    (int)sizeof(sa.sun_path) ||
	    snprintf(tmp.sun_path, sizeof(tmp.sun_path), "%s.%d", a->socket, getpid()) >=
		    (int)sizeof(tmp.sun_path))
		return -ENAMETOOLONG;
	if (socket_answers(&sa))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(tmp.sun_path);
	/* The file gets the mode of the socket's own inode, cut by the umask: 0600 from its first
	 * moment. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&tmp, sizeof(tmp)) < 0 ||
	    stat(tmp.sun_path, &st) < 0 || chmod(tmp.sun_path, 0600) < 0 || listen(fd, 256) < 0 ||
	    rename(tmp.sun_path, sa.sun_path) < 0) {
		r = -errno;
		unlink(tmp.sun_path);
		close(fd);
		return r;
	}
	a->socket_ino = st.st_ino;
	return fd;
}

static int socket_dir_make(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
		return -ENAMETOOLONG;
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = '\0';
	return mkdir_all(dir);
}

/* ---- life cycle ---- */

static void api_free(struct api *a)
{
	pthread_cond_destroy(&a->cond);
	pthread_mutex_destroy(&a->lock);
	free(a->socket);
	free(a);
}

int api_start(const struct api_config *c, struct host *h, struct engine *e, struct pool *pool,
	      struct api **out, struct fmt_err *err)
{
	struct api *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	a->host = h;
	a->engine = e;
	a->pool = pool;
	a->metrics = c->metrics;
	pthread_mutex_init(&a->lock, NULL);
	cond_init_mono(&a->cond);
	a->socket = strdup(c->socket);
	r = a->socket ? socket_dir_make(a->socket) : -ENOMEM;
	if (!r) {
		a->listen_fd = socket_listen(a);
		r = a->listen_fd < 0 ? a->listen_fd : 0;
	}
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "socket %.100s: %s", c->socket,
			 r == -EADDRINUSE ? "another daemon answers on it" : strerror(-r));
		api_free(a);
		return r;
	}
	a->mhd = MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
		NULL, NULL, on_request, a, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, a->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned int)API_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, c->idle_timeout_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_UNESCAPE_CALLBACK,
		no_unescape, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (!a->mhd) {
		snprintf(err->msg, sizeof(err->msg),
			 "socket %.100s: the HTTP server does not start", c->socket);
		close(a->listen_fd);
		unlink(a->socket);
		api_free(a);
		return -EIO;
	}
	*out = a;
	return 0;
}

void api_quiesce(struct api *a)
{
	MHD_socket fd = MHD_quiesce_daemon(a->mhd);

	if (fd != MHD_INVALID_SOCKET)
		close(fd);
}

int api_wait_idle(struct api *a, uint64_t timeout_ns)
{
	uint64_t deadline = now_ns() + timeout_ns;
	SCOPED_LOCK(&a->lock);

	while (a->running)
		if (cond_wait_until(&a->cond, &a->lock, deadline) == -ETIMEDOUT && a->running)
			return -ETIMEDOUT;
	return 0;
}

void api_stop(struct api *a)
{
	struct stat st;

	MHD_stop_daemon(a->mhd);
	/* Only our own: a successor may have put its socket there already. */
	if (!lstat(a->socket, &st) && st.st_ino == a->socket_ino)
		unlink(a->socket);
	api_free(a);
}
