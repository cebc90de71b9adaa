/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTTP API on a unix socket, and on TCP if it is configured. One libmicrohttpd thread for each
 * reads requests and writes answers; a request that may block runs on the pool while its connection
 * is suspended. Nothing from a request reaches a handler before its size, its path and its caller
 * were checked.
 */
#ifndef GFS_CONTROL_API_H
#define GFS_CONTROL_API_H

#include "control/host.h"

#define API_BODY_MAX        (64 * KiB)
#define API_HEADER_MAX      (8 * KiB)
#define API_URL_MAX         1024
#define API_CONNECTIONS_MAX 512 /* of each of both */

struct api;

struct api_config {
	const char *socket;              /* path; mode 0600 */
	const char *listen, *token_file; /* TCP: "ADDRESS:PORT", NULL or "" = none */
	bool metrics;
	unsigned int request_timeout_s; /* until a request is complete, or an answer goes on */
};

/*
 * Listen. Borrows host, engine and pool. -EADDRINUSE when somebody answers on the socket; a stale
 * one is replaced. The sentence is in err.
 */
int api_start(const struct api_config *c, struct host *h, struct engine *e, struct pool *pool,
	      struct api **out, struct fmt_err *err) __must_check;
/* No new connections from now on. Any thread. */
void api_quiesce(struct api *a);
/* Wait until no request runs: 0, or -ETIMEDOUT (then api_stop must not be called). */
int api_wait_idle(struct api *a, uint64_t timeout_ns) __must_check;
/* Close everything, remove the socket. */
void api_stop(struct api *a);

/* ---- requests, for routes.c ---- */

struct MHD_Connection;

struct api_response {
	unsigned int status;
	const char *type; /* NULL: application/json */
	char *body;       /* malloc'ed */
	size_t len;
	char allow[32]; /* of a 405 */
	bool close;
};

struct api_request {
	struct api *api;
	const struct api_route *route;
	char name[GFS_NAME_MAX]; /* of the path, checked; "" if the route has none */
	uint64_t seq;            /* of the path; 0 if the route has none */
	bool force, local;
	uint64_t timeout_ns; /* 0 = none given */
	char *body;
	size_t body_len;
	uint64_t op_id;
	struct api_response resp;

	/* api.c's */
	struct MHD_Connection *conn;
	struct conn *watch;
	unsigned int conns_nr; /* open when it came */
	bool tcp;
	struct pool_job job;
	int state;
};

/* Query arguments that a route accepts. */
#define API_ARG_FORCE   (1u << 0)
#define API_ARG_TIMEOUT (1u << 1)
#define API_ARG_LOCAL   (1u << 2)

struct api_route {
	const char *method,
		*path; /* "*" in the path stands for a volume's name, "#" for a snapshot's number */
	bool quick;    /* never blocks: runs on the HTTP thread, even when the pool is busy */
	unsigned int args;   /* API_ARG_* */
	uint16_t status[10]; /* its answers, 0 at the end; others come before it runs */
	bool body;           /* takes one; for other routes it must be empty or {} */
	void (*run)(struct api_request *req);
};

extern const struct api_route api_routes[];
extern const unsigned int api_routes_nr;

/* ---- request.c: what a request says; false: refused, the answer is in req->resp ---- */

/* Sets route and name; the name's characters are not checked yet. */
bool api_route_find(struct api_request *req, const char *url, const char *method);
/* One query argument of the route (value NULL: none). */
bool api_arg_check(struct api_request *req, const char *key, const char *value);
/* Headers about the body, each NULL if absent. What is refused here is never read. */
bool api_body_check(struct api_request *req, const char *length, const char *coding,
		    const char *type);

struct host *api_host(struct api *a);
struct engine *api_engine(struct api *a);
bool api_metrics_enabled(const struct api *a);

/* Answer with {"error": sentence, "code": code, "status": status}. */
void api_error(struct api_request *req, unsigned int status, const char *code, const char *fmt, ...)
	__printf(4, 5);
/* The same for a failed operation. */
void api_op_error(struct api_request *req, const struct op_err *err);

#endif
