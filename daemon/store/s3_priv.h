/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared by the files of the S3 store; not for users. From the bottom: s3_url, s3_sign, s3_creds,
 * s3_xml, s3_answer and s3_breaker are pure or own their data; s3_http does one HTTP exchange;
 * s3_loop is the thread that queues, schedules, retries and bounds requests; s3_probe finds out
 * what the endpoint supports; s3 turns store operations into requests.
 *
 * "The loop" below is the one thread of a store (s3_loop.c). What is not said to be for any thread
 * is for it alone.
 */
#ifndef GFS_STORE_S3_PRIV_H
#define GFS_STORE_S3_PRIV_H

#include "store/store_priv.h"
#include "lib/hash.h"

#include <curl/curl.h>
#include <time.h>

/* ---- s3_url.c: names (pure) ---- */

struct s3_target {
	char *base;   /* "https://host[:port]", nothing behind it; with the bucket if virtual */
	char *host;   /* of the Host header */
	char *bucket; /* as in the URL */
	char *prefix; /* "" or "a/b/" */
	char *region;
	bool path_style, tls;
};

/* From the URL, the options and the environment. -EINVAL with a sentence in err, -ENOMEM. */
int s3_target_init(struct s3_target *t, const char *url, const struct store_s3_options *o,
		   char *err, size_t err_len) __must_check;
void s3_target_free(struct s3_target *t);
/* Percent-encode len bytes as SigV4 wants it; `slash`: '/' stays. out has 3 * len + 1 bytes.
 * Returns the length. */
size_t s3_encode(const char *in, size_t len, bool slash, char *out);
/* The path of key below the prefix, or of the bucket (key NULL), encoded, malloc'ed, or NULL. */
char *s3_path(const struct s3_target *t, const char *key);
/* The canonical query of a LIST of `limit` keys below prefix + key_prefix and behind `after` (a
 * whole key of the bucket, or ""), malloc'ed, or NULL. */
char *s3_list_query(const struct s3_target *t, const char *key_prefix, const char *after,
		    unsigned int limit);
/* First of the two that is neither NULL nor "", or NULL. */
const char *s3_or(const char *a, const char *b);

/* ---- s3_creds.c: credentials ---- */

struct s3_creds {
	char *id, *secret, *token; /* token: NULL if there is none */
};

/* Where they come from; set once. */
struct s3_creds_source {
	struct s3_creds fixed; /* id NULL: the file has them */
	char *file, *profile;
};

/*
 * Decide where credentials come from: the options' keys, the options' file, the environment's keys,
 * the environment's or the user's file. -EINVAL with a sentence in err (half a pair of keys, none
 * anywhere, a secret file that cannot be read), -ENOMEM.
 */
int s3_creds_source_init(struct s3_creds_source *cs, const struct store_s3_options *o, char *err,
			 size_t err_len) __must_check;
void s3_creds_source_free(struct s3_creds_source *cs);
/* Read them (a small local file at most). 0; -errno with a sentence in err, *c unchanged. */
int s3_creds_load(const struct s3_creds_source *cs, struct s3_creds *c, char *err,
		  size_t err_len) __must_check;
bool s3_creds_equal(const struct s3_creds *a, const struct s3_creds *b);
/* Wipes them. */
void s3_creds_free(struct s3_creds *c);

/* ---- s3_sign.c: AWS Signature Version 4 (pure) ---- */

struct s3_header {
	const char *name, *value; /* name in lower case */
};

struct s3_sign_in {
	const char *method, *path, *query; /* encoded; query in canonical order */
	const struct s3_header *headers;   /* sorted by name; host and x-amz-date among them */
	unsigned int nr_headers;
	const char *payload;       /* SHA-256 of the body, hex */
	const char *region, *date; /* date: as x-amz-date */
};

#define S3_DATE_LEN 17 /* "20240131T235959Z" and NUL */
#define S3_AUTH_LEN 1024

/* The signing key of the last request, and of what (day, region, secret) it is the key; zeroed
 * first. */
struct s3_sign_key {
	bool set;
	uint8_t of[SHA256_LEN], key[SHA256_LEN];
};

void s3_date(time_t t, char out[S3_DATE_LEN]);
/* The value of the Authorization header; k: the caller's, or NULL. -E2BIG, -EIO (the library
 * failed). */
int s3_sign(const struct s3_sign_in *in, const struct s3_creds *c, struct s3_sign_key *k,
	    char out[S3_AUTH_LEN]) __must_check;

/* ---- s3_xml.c: documents of the server (never trusted) ---- */

struct s3_error {
	char code[64], region[64], message[160]; /* cut to fit; printable ASCII */
};

/* True if it is an <Error> document with a code. */
bool s3_error_parse(const char *body, size_t len, struct s3_error *e);

/* A LIST answer, parsed as it comes in. */
struct s3_list {
	struct store_op *op; /* gets the entries */
	const char *prefix;  /* of the target, cut off the keys */
	char after[1025];    /* the request asks for keys behind this one, whole */
	char last[1025];     /* last key seen, whole, also if it is none of ours */
	bool truncated;      /* the server has more */
	struct s3_list_parser *parser;
};

/* Forgets what an earlier try brought. -ENOMEM. */
int s3_list_begin(struct s3_list *l) __must_check;
/* -EPROTO: not a LIST answer, or beyond all bounds. */
int s3_list_feed(struct s3_list *l, const char *data, size_t len) __must_check;
/* The document is complete: 0, or -EPROTO. */
int s3_list_end(struct s3_list *l) __must_check;
void s3_list_free(struct s3_list *l);

/* ---- s3_answer.c: what an answer means (pure) ---- */

enum s3_class {
	S3_DONE,     /* final: res is the result */
	S3_AGAIN,    /* another try may succeed */
	S3_THROTTLE, /* the same, and the server asks for less */
	S3_SKEW,     /* our clock differs from the server's */
	S3_RELOAD,   /* credentials may have changed */
};

struct s3_verdict {
	int res; /* 0 or -errno */
	enum s3_class class;
	bool definite;      /* a change that was asked for has not been made and will not be */
	bool sick;          /* counts against the endpoint (circuit breaker) */
	const char *advice; /* for the operator, or NULL */
};

/* e: the error document, or NULL if there was none. */
struct s3_verdict s3_judge(long status, const struct s3_error *e);

/* ---- s3_breaker.c: circuit breaker of the endpoint (pure; times are now_ns()) ---- */

enum s3_breaker_state { S3_BREAKER_CLOSED, S3_BREAKER_HALF_OPEN, S3_BREAKER_OPEN };

struct s3_breaker {
	enum s3_breaker_state state;
	unsigned int failures; /* in a row */
	bool trial;            /* half open: the one request is out */
	uint64_t until_ns;     /* open: no request before */
	uint64_t pause_ns;     /* of the last opening */
	uint64_t opens;
};

/* May a request be sent now? If so it counts as sent. */
bool s3_breaker_take(struct s3_breaker *b, uint64_t now);
/* A request ended. `known`: false if it says nothing about the endpoint (given up by us). */
void s3_breaker_result(struct s3_breaker *b, bool known, bool good, uint64_t now);

/* ---- requests ---- */

enum s3_method { S3_GET, S3_PUT, S3_HEAD, S3_DELETE };

enum s3_match { S3_MATCH_NONE, S3_MATCH_ABSENT /* If-None-Match: * */, S3_MATCH_ETAG };

enum s3_req_state {
	S3_REQ_IDLE,
	S3_REQ_PARKED,  /* its owner waits for the probe */
	S3_REQ_HASHING, /* a hash thread works on it */
	S3_REQ_QUEUED,
	S3_REQ_PAUSED, /* between two tries */
	S3_REQ_RUNNING,
};

struct s3;

/* What the server said. */
struct s3_answer {
	long status; /* 0: no answer */
	bool has_error;
	struct s3_error error;
	char etag[STORE_ETAG_MAX];
	bool etag_bad;
	time_t date, mtime; /* 0 = not said */
	bool has_length, has_range, range_total;
	uint64_t length, range_first, range_last, total;
	unsigned int retry_after_s;
};

/* One request: sent until it has an answer or its deadline passes. Owned by its submitter. */
struct s3_req {
	/* Set by the submitter; kept for the next submit of the same request. */
	enum s3_method method;
	enum store_prio prio;
	uint64_t deadline_ns;
	char *path, *query; /* s3_path(), s3_list_query(); freed by s3_req_fini() */
	bool ranged;
	uint64_t off, len; /* of a ranged GET; len 0 = to the end */
	const struct iovec *iov;
	int iovcnt;
	enum s3_match match;
	char etag[STORE_ETAG_MAX];
	struct s3_list *list; /* the answer goes there */
	char *buf;            /* GET: body goes there; NULL: allocated, the submitter frees it */
	uint64_t buf_size;
	void (*done)(struct s3_req *req); /* on the loop; may submit again or free it */

	/* Result. */
	int res;
	bool ambiguous; /* as in struct store_op */
	struct s3_answer answer;
	uint64_t got; /* bytes in buf */

	/* Private to s3_loop.c and s3_http.c. */
	struct s3 *s3;
	enum s3_req_state state;
	struct list_head node; /* of the queue, or of the list of those that run or wait */
	struct pool_job job;
	uint64_t body_bytes, pause_until_ns, attempt_ns;
	char payload[2 * SHA256_LEN + 1]; /* "" = not hashed yet */
	int hash_res;
	unsigned int tries, bad_tries, skew_tries, reload_tries;
	/* Of the current try. */
	unsigned int creds_serial;
	CURL *easy;
	struct curl_slist *headers;
	int iov_at;
	size_t iov_pos;
	uint64_t body_sent, skipped, buf_room;
	bool buf_mine, enough;
	int body_res; /* why the body was refused */
	char *text;   /* of an error document */
	size_t text_len;
	char curl_error[CURL_ERROR_SIZE];
};

void s3_req_fini(struct s3_req *req);

/* ---- s3_http.c: one try ---- */

/* Give req an easy handle of the multi and start. -ENOMEM, -EACCES (no credentials). */
int s3_http_start(struct s3 *s3, struct s3_req *req) __must_check;
/* What became of it; code is curl's. Does not end it. */
struct s3_verdict s3_http_verdict(struct s3_req *req, CURLcode code);
/* The try is out on a connection from an earlier one, and not a byte came. */
bool s3_http_unheard(const struct s3_req *req);
/* Might the server act on what was sent so far? (PUT and DELETE) */
bool s3_http_may_land(const struct s3_req *req);
/* Take the try back, whatever its state: nothing of req is touched afterwards. */
void s3_http_stop(struct s3 *s3, struct s3_req *req);

/* ---- s3_loop.c ---- */

struct s3_loop;

int s3_loop_start(struct s3 *s3) __must_check;
/* No operation may be in flight; the probe is given up. */
void s3_loop_stop(struct s3 *s3);
/* Hand over an operation. Any thread. */
void s3_loop_post(struct s3 *s3, struct store_op *op);
/* Send req until it is done. */
void s3_req_submit(struct s3 *s3, struct s3_req *req);
/* Keep req, which was not submitted, until s3_req_unpark(), or done(-ETIMEDOUT) at its deadline. */
void s3_req_park(struct s3 *s3, struct s3_req *req);
/* Take it back: done is not called. Not while it is hashed. */
void s3_req_cancel(struct s3 *s3, struct s3_req *req);
/* Call done(res) of all that are parked. */
void s3_req_unpark(struct s3 *s3, int res);
void s3_stats_read(struct s3 *s3, struct store_s3_stats *out); /* any thread */

/* ---- s3_probe.c: what the endpoint supports ---- */

enum s3_probed {
	S3_PROBE_UNKNOWN,
	S3_PROBE_GOOD,        /* conditional PUT works */
	S3_PROBE_UNSUPPORTED, /* it does not */
};

struct s3_caps {
	enum s3_probed probed;
	bool unquoted;     /* If-Match wants the ETag without its quotes */
	bool delete_match; /* DELETE obeys If-Match */
	int error;         /* while unknown: why a new try now would be pointless, or 0 */
};

struct s3_probe;
int s3_probe_new(struct s3 *s3) __must_check;
/* Called by the loop at each turn; the time of the next wanted call, 0 = none. */
uint64_t s3_probe_tick(struct s3 *s3, uint64_t now);
void s3_probe_free(struct s3 *s3);

/* ---- s3.c ---- */

/* What a problem is about. The first ones are those of enum s3_method. */
enum s3_about {
	S3_ABOUT_GET,
	S3_ABOUT_PUT,
	S3_ABOUT_HEAD,
	S3_ABOUT_DELETE,
	S3_ABOUT_LIST,
	S3_ABOUT_CONNECTION,
	S3_ABOUT_CREDENTIALS,
	S3_ABOUT_FITNESS, /* conditional PUT */
	S3_ABOUT_NR
};

struct s3 {
	struct store s;
	struct s3_target target;
	struct s3_creds_source source;
	char *ca_file;
	bool tls_insecure, single_host;
	unsigned int max_connections;

	/* The loop's. */
	struct s3_creds creds;
	unsigned int creds_serial; /* counts those that were loaded */
	struct s3_sign_key sign_key;
	CURLM *multi;
	CURL **spare; /* easy handles between requests, max_connections at most */
	unsigned int nr_spare;
	int64_t skew_s;    /* server's clock minus ours */
	uint64_t doubt_ns; /* what was idle then is not used again; 0 = there is no doubt */
	struct s3_caps caps;
	struct s3_probe *probe;
	struct s3_loop *loop;

	/* First word of the probe, for store_open(); the problem, for everybody. */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool probe_heard;
	enum s3_probed probe_said;
	struct s3_problem {
		char text[320];
		bool there;
		uint64_t logged_ns;
	} problem[S3_ABOUT_NR];
};

/* The loop begins an operation that was posted. */
void s3_op_begin(struct s3 *s3, struct store_op *op);
/* The probe has news: wakes store_open(). */
void s3_probe_heard(struct s3 *s3, enum s3_probed said);
/* ---- s3_report.c: what an operator must mend ---- */

/* Logged when it is new, and once a minute while it lasts. */
void s3_problem(struct s3 *s3, enum s3_about about, const char *fmt, ...) __printf(3, 4);
/* It is not, or no longer. */
void s3_mended(struct s3 *s3, enum s3_about about);
/* The most important one, or "". */
void s3_problem_read(struct s3 *s3, char *out, size_t size);
enum s3_about s3_about(const struct s3_req *req);
/* A verdict with advice. */
void s3_report(struct s3 *s3, const struct s3_req *req, const struct s3_verdict *v);
/* The breaker opened, by this request. */
void s3_report_down(struct s3 *s3, const struct s3_req *req, unsigned int failures);

#endif
