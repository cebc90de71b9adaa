/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * s3d: a small S3 server for tests, which breaks on request. Objects live in memory; one thread a
 * connection. It verifies what a real server verifies, with code of its own: nothing here is
 * shared with the client under test but the hash functions of libcrypto.
 *
 *   main.c     options, listening, one thread a connection
 *   conn.c     bytes: plain or TLS, rate limit, reset
 *   http.c     requests in, answers out
 *   sigv4.c    who asks, and is the request what was signed
 *   objects.c  buckets, objects
 *   ops.c      what each request does
 *   faults.c   rules, and what was seen and fired
 */
#ifndef GFS_S3D_H
#define GFS_S3D_H

#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "lib/util.h"

#define S3D_HEADERS_MAX 64
#define S3D_QUERY_MAX   32
#define S3D_HEAD_BYTES  (32 * 1024)
#define S3D_BODY_MAX    (5ull * GiB)
#define S3D_ETAG_MAX    40

/* ---- conn.c: one connection, used by its own thread only. ---- */

struct conn {
	int fd;
	SSL *ssl;      /* NULL: plain */
	uint64_t rate; /* bytes per second in both directions; 0 = unlimited */
	char buf[S3D_HEAD_BYTES + 1];
	size_t have; /* read but not consumed, from buf[0] */
};

/* Up to len bytes, what is buffered first. The number, 0 at the peer's end, or -errno. */
ssize_t conn_read(struct conn *c, void *buf, size_t len);
/* Reads more into buf behind what it has; like read(). -EMSGSIZE when it is full. */
ssize_t conn_fill(struct conn *c);
/* Exactly len bytes. 0, or -errno. */
int conn_read_all(struct conn *c, void *buf, size_t len);
int conn_write_all(struct conn *c, const void *buf, size_t len);
/* Waits until the peer has closed; reads and drops what it sends. */
void conn_wait_closed(struct conn *c);
/* Makes the close that follows a reset (RST). */
void conn_arm_reset(struct conn *c);

/* ---- faults.c: any thread. ---- */

enum s3d_op {
	OP_PUT,
	OP_GET,
	OP_HEAD,
	OP_LIST,
	OP_DELETE,
	OP_BUCKET, /* PUT and HEAD of a bucket */
	OP_OTHER,
	OP_NR,
};

/* What the rules that fire do to one request; zero: nothing. */
struct plan {
	int status; /* answer this, without effect */
	char code[64];
	int64_t retry_after_s; /* < 0: none */
	int redirect;          /* answer this status with a Location */
	int64_t truncate;      /* bytes of the answer's body that are sent; < 0: all */
	int64_t reset_body;    /* reset after so many bytes of the request's body; < 0: no */
	uint64_t rate, delay_ms;
	int64_t skew_s;
	bool reset_before, reset_after, hang_before, hang_after;
	bool close_idle, stall_idle;
	bool wrong_etag, no_etag, bad_xml, status200_error;
	bool expired_token, no_conditional, quoted_only, unquoted_only, delete_unconditional;
};

/* Replaces all rules. 0, or -EINVAL with a message in err; the old rules stay then. */
int faults_set(const char *text, char *err, size_t err_len);
void faults_match(enum s3d_op op, const char *key, struct plan *plan);
/* The text of --help about rules. */
extern const char faults_help[];

struct stats {
	_Atomic uint64_t ops[OP_NR], requests, connections, auth_failures, bytes_in, bytes_out;
	_Atomic int64_t connections_open, connections_max, requests_open, requests_max;
	_Atomic uint64_t statuses[600];
};
extern struct stats stats;
/* Adds n to *now and raises *max to it. */
void stats_level(_Atomic int64_t *now, _Atomic int64_t *max, int n);
void stats_reset(void);
/* A malloc'ed JSON text. */
char *stats_json(void);

/* ---- http.c ---- */

struct field {
	char *name, *value; /* headers: as sent; query: decoded */
};

struct request {
	char method[16];
	char *target;       /* as sent, without the query */
	char *path;         /* decoded */
	char *bucket, *key; /* of path; "" when absent */
	size_t nr_headers, nr_query;
	struct field headers[S3D_HEADERS_MAX], query[S3D_QUERY_MAX];
	uint64_t content_length;
	unsigned char *body; /* malloc'ed, NULL when empty */
	bool http10, keep_alive, expect_continue;
	enum s3d_op op;
	struct plan plan;
	char *storage; /* behind the strings */
	char date[64];
};

struct answer {
	int status;
	char code[64]; /* of an Error document */
	char message[192];
	char headers[1024];      /* further lines, each ended by CRLF */
	char etag[S3D_ETAG_MAX]; /* without quotes; "" = none */
	const void *body;
	size_t len;
	char *xml;  /* malloc'ed document; sent instead of body */
	void *hold; /* struct body *: dropped after sending */
};

/*
 * The request line and headers, but not the body. 1, 0 at the end of the connection, or -errno;
 * -EBADMSG: answer 400 with `why`. Release with request_free.
 */
int request_read(struct conn *c, struct request *rq, const char **why);
int request_read_body(struct conn *c, struct request *rq);
void request_free(struct request *rq);
const char *request_header(const struct request *rq, const char *name);
const char *request_query(const struct request *rq, const char *name);
/* Adds a header line to the answer. */
void answer_header(struct answer *a, const char *name, const char *fmt, ...) __printf(3, 4);
/* Sets status, code and message. */
void answer_error(struct answer *a, int status, const char *code, const char *fmt, ...)
	__printf(4, 5);
/* 0, or -errno: the connection is of no more use. */
int answer_send(struct conn *c, const struct request *rq, struct answer *a);
/* Percent-encodes everything but A-Za-z0-9-._~ (and '/' if keep_slash). malloc'ed. */
char *url_encode(const char *s, bool keep_slash);

/* ---- sigv4.c ---- */

struct credentials {
	char access[132], secret[132], token[1024]; /* token "" = none */
	char region[64];
};
/* Replaces what requests are checked against; an empty region leaves the old one. */
void sigv4_set(const struct credentials *c);
/* Is the request signed, by the known key, and is the body the signed one? Fills the answer if
 * not. `now` is the server's clock. */
bool sigv4_verify(const struct request *rq, time_t now, struct answer *a);

/* ---- objects.c: any thread. ---- */

struct body; /* immutable, counted */
struct object {
	char *key;
	struct body *body;
};
const void *body_data(const struct body *b, size_t *len);
const char *body_etag(const struct body *b);
time_t body_mtime(const struct body *b);
void body_put(struct body *b);

enum cond_kind { COND_NONE, COND_ABSENT, COND_MATCH };

/* 0, or -EEXIST. */
int bucket_create(const char *name);
bool bucket_exists(const char *name);
/* A counted body, or NULL. */
struct body *object_get(const char *bucket, const char *key);
/* Takes data (malloc'ed, may be NULL) over. 0, -EEXIST (COND_ABSENT), -ENOENT or -ESTALE
 * (COND_MATCH). `etag` in: the condition's; out: the new one's. */
int object_put(const char *bucket, const char *key, void *data, size_t len, time_t mtime,
	       enum cond_kind cond, char etag[S3D_ETAG_MAX]);
/* 0 also when absent; -ESTALE. */
int object_delete(const char *bucket, const char *key, enum cond_kind cond, const char *etag);
/*
 * Up to max objects with the prefix and a key after `after`, in key order; counted bodies, keys
 * malloc'ed. The number; *more says whether others follow.
 */
size_t object_list(const char *bucket, const char *prefix, const char *after, size_t max,
		   struct object *out, bool *more);

/* ---- ops.c ---- */

/* Does what the request asks, takes the body of a PUT, and fills the answer. `now` is the server's
 * clock. */
void op_run(struct request *rq, time_t now, struct answer *a);
/* Requests to /_s3d/... */
void op_control(const struct request *rq, struct answer *a);

#endif
