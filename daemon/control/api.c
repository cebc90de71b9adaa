// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The HTTP server: peer check, limits, dispatch. See api.h; sockets are in listen.c, what a request
 * says in request.c, slow clients in conns.c.
 *
 * A request goes REQ_NEW (headers seen) → REQ_BODY (collecting) → REQ_RUNNING (suspended, on the
 * pool) → REQ_DONE (resumed, its answer is queued by the HTTP thread). A refusal that is known from
 * the headers is answered at once and its body never read. a->lock guards `running` only.
 */
#include "control/api.h"

#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "control/conns.h"
#include "control/listen.h"
#include "lib/log.h"
#include "lib/timing.h"

/* Request line and headers of one connection, and its buffers; more is answered with 431 by the
 * library. */
#define CONNECTION_MEMORY (32 * KiB)
/* Those past API_CONNECTIONS_MAX that can be told so. */
#define CONNECTIONS_EXTRA 64

enum req_state { REQ_NEW, REQ_BODY, REQ_RUNNING, REQ_DONE };

/* The unix socket, and TCP if it was asked for. */
struct listener {
	struct api *a;
	bool tcp;
	struct MHD_Daemon *mhd;
	struct conns *conns;
};

struct api {
	struct host *host;
	struct engine *engine;
	struct pool *pool;
	struct listener listener[2];
	unsigned int nr_listeners;
	char *socket;
	ino_t socket_ino;
	bool metrics;
	struct api_token token;

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
	if (req->resp.status == 401)
		MHD_add_response_header(resp, "WWW-Authenticate", "Bearer realm=\"glidefsd\"");
	if (req->resp.allow[0])
		MHD_add_response_header(resp, "Allow", req->resp.allow);
	if (req->resp.close)
		MHD_add_response_header(resp, "Connection", "close");
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

static bool caller_allowed(struct api_request *req, struct MHD_Connection *conn)
{
	uid_t uid;

	if (req->tcp) {
		if (token_allows(&req->api->token, MHD_lookup_connection_value(
							   conn, MHD_HEADER_KIND, "Authorization")))
			return true;
		api_error(req, 401, "unauthorized",
			  "send the daemon's token as \"Authorization: Bearer TOKEN\"");
		return false;
	}
	if (peer_allowed(conn, &uid))
		return true;
	log_warn("API: a request of user %d was refused", (int)uid);
	api_error(req, 403, "forbidden", "only root and the daemon's own user may use this API");
	return false;
}

static enum MHD_Result count_header(void *cls, enum MHD_ValueKind kind, const char *key,
				    const char *value)
{
	*(size_t *)cls += strlen(key) + (value ? strlen(value) : 0) + 4;
	return MHD_YES;
}

static enum MHD_Result check_arg(void *cls, enum MHD_ValueKind kind, const char *key,
				 const char *value)
{
	return api_arg_check(cls, key, value) ? MHD_YES : MHD_NO;
}

static bool headers_ok(struct api_request *req, struct MHD_Connection *conn, const char *url,
		       const char *method)
{
	struct fmt_err fe = {{0}};
	size_t header_bytes = 0;

	if (req->conns_nr > API_CONNECTIONS_MAX) {
		api_error(req, 503, "too_many_connections",
			  "more than %d connections are open; try again", API_CONNECTIONS_MAX);
		req->resp.close = true;
		return false;
	}
	MHD_get_connection_values(conn, MHD_HEADER_KIND, count_header, &header_bytes);
	if (header_bytes > API_HEADER_MAX) {
		api_error(req, 431, "too_large", "the headers have %zu bytes, more than %llu",
			  header_bytes, API_HEADER_MAX);
		return false;
	}
	if (!caller_allowed(req, conn) || !api_route_find(req, url, method) ||
	    !api_body_check(req,
			    MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Content-Length"),
			    MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Transfer-Encoding"),
			    MHD_lookup_connection_value(conn, MHD_HEADER_KIND, "Content-Type")))
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

	if (!conn_read_done(req->watch))
		return MHD_NO;
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

static struct conn *conn_of(struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

/* A connection came, or is about to be closed. */
static void on_connection(void *cls, struct MHD_Connection *conn, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct listener *l = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);

		*context = info ? conn_new(l->conns, info->connect_fd) : NULL;
	} else {
		conn_free(*context);
		*context = NULL;
	}
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn, const char *url,
				  const char *method, const char *version, const char *data,
				  size_t *data_len, void **con_cls)
{
	struct api_request *req = *con_cls;
	struct listener *l = cls;

	if (!req) {
		req = calloc(1, sizeof(*req));
		if (!req)
			return MHD_NO;
		req->api = l->a;
		req->tcp = l->tcp;
		req->conn = conn;
		req->watch = conn_of(conn);
		req->conns_nr = conns_nr(l->conns);
		*con_cls = req;
		if (!headers_ok(req, conn, url, method)) {
			req->state = REQ_DONE;
			if (!conn_read_done(req->watch))
				return MHD_NO;
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
	conn_again(req->watch);
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

/* ---- life cycle ---- */

static void listener_stop(struct listener *l)
{
	if (l->mhd)
		MHD_stop_daemon(l->mhd);
	if (l->conns)
		conns_destroy(l->conns);
}

/* Takes the descriptor over. */
static int listener_start(struct api *a, int fd, bool tcp, unsigned int timeout_s)
{
	struct listener *l = &a->listener[a->nr_listeners];

	l->a = a;
	l->tcp = tcp;
	l->conns = conns_create(timeout_s * NSEC_PER_SEC);
	if (l->conns)
		l->mhd = MHD_start_daemon(
			MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
				MHD_USE_ERROR_LOG,
			0, NULL, NULL, on_request, l, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
			MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
			(unsigned int)API_CONNECTIONS_MAX + CONNECTIONS_EXTRA,
			MHD_OPTION_CONNECTION_TIMEOUT, timeout_s + 1,
			MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
			MHD_OPTION_NOTIFY_CONNECTION, on_connection, l, MHD_OPTION_NOTIFY_COMPLETED,
			on_completed, NULL, MHD_OPTION_UNESCAPE_CALLBACK, no_unescape, NULL,
			MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	if (!l->mhd) {
		close(fd);
		listener_stop(l);
		return -EIO;
	}
	a->nr_listeners++;
	return 0;
}

static void api_free(struct api *a)
{
	struct stat st;

	for (unsigned int i = 0; i < a->nr_listeners; i++)
		listener_stop(&a->listener[i]);
	/* Only our own: a successor may have put its socket there already. */
	if (a->socket_ino && !lstat(a->socket, &st) && st.st_ino == a->socket_ino)
		unlink(a->socket);
	pthread_cond_destroy(&a->cond);
	pthread_mutex_destroy(&a->lock);
	free(a->socket);
	free(a);
}

static int start_unix(struct api *a, const struct api_config *c, struct fmt_err *err)
{
	int fd, r = a->socket ? socket_dir_make(a->socket) : -ENOMEM;

	if (!r) {
		fd = unix_listen(a->socket, &a->socket_ino);
		r = fd < 0 ? fd : listener_start(a, fd, false, c->request_timeout_s);
	}
	if (r)
		snprintf(err->msg, sizeof(err->msg), "socket %.100s: %s", c->socket,
			 r == -EADDRINUSE ? "another daemon answers on it"
			 : r == -EIO      ? "the HTTP server does not start"
					  : strerror(-r));
	return r;
}

static int start_tcp(struct api *a, const struct api_config *c, struct fmt_err *err)
{
	int fd, r = token_load(c->token_file, &a->token, err);

	if (r)
		return r;
	fd = tcp_listen(c->listen, err);
	if (fd < 0)
		return fd;
	r = listener_start(a, fd, true, c->request_timeout_s);
	if (r)
		snprintf(err->msg, sizeof(err->msg),
			 "daemon.listen %.60s: the HTTP server does "
			 "not start",
			 c->listen);
	return r;
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
	r = start_unix(a, c, err);
	if (!r && c->listen && *c->listen)
		r = start_tcp(a, c, err);
	if (r) {
		api_free(a);
		return r;
	}
	*out = a;
	return 0;
}

void api_quiesce(struct api *a)
{
	for (unsigned int i = 0; i < a->nr_listeners; i++) {
		MHD_socket fd = MHD_quiesce_daemon(a->listener[i].mhd);

		if (fd != MHD_INVALID_SOCKET)
			close(fd);
	}
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
	api_free(a);
}
