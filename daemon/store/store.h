/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The object-store contract. A store is a flat set of keys ("exports/vm-1/export.json"), each an
 * immutable-per-PUT byte string with an opaque ETag. All operations are asynchronous: submit never
 * blocks for I/O; ->done runs exactly once on a thread of the store (never inside submit). ->done
 * must not block.
 *
 * Implementations: file.c (a directory), s3.c (S3), fault.c (wraps any other with injected faults).
 */
#ifndef GFS_STORE_H
#define GFS_STORE_H

#include "lib/list.h"
#include "lib/pool.h"
#include <sys/uio.h>

#define STORE_ETAG_MAX 72  /* with NUL; opaque */
#define STORE_KEY_MAX  512 /* with NUL */

enum store_op_type { STORE_GET, STORE_PUT, STORE_HEAD, STORE_LIST, STORE_DELETE };

enum store_cond {
	STORE_ALWAYS,
	STORE_IF_NONE_MATCH, /* PUT: only if the key is absent; else -EEXIST */
	STORE_IF_MATCH, /* PUT, DELETE: only if the ETag equals op->etag; else -ESTALE (absent too,
			 * but a DELETE may also be 0 then) */
};

/* Scheduling class, most urgent first. */
enum store_prio { STORE_PRIO_READ, STORE_PRIO_META, STORE_PRIO_PREFETCH, STORE_PRIO_UPLOAD };

struct store_list_entry {
	char key[STORE_KEY_MAX];
	uint64_t size;
	uint64_t mtime_s; /* the store's clock */
};

/*
 * One operation. The caller owns the struct and every buffer and keeps them valid until ->done.
 * `key` is copied by none: it must stay valid too.
 *
 * res: 0, or
 *   -ENOENT   no such key (GET, HEAD; DELETE of an absent key is 0)
 *   -EEXIST   IF_NONE_MATCH refused;   -ESTALE  IF_MATCH refused
 *   -ERANGE   GET range starts past the end
 *   -ENODATA  the body was shorter than announced (truncated)
 *   -ETIMEDOUT past deadline_ns;  -EIO and others: failed
 * `ambiguous` (PUT, DELETE; only when res < 0): the operation may have taken effect or still will.
 */
struct store_op {
	enum store_op_type type;
	enum store_prio prio;
	const char *key;      /* LIST: the prefix */
	uint64_t deadline_ns; /* now_ns() clock; 0 = the store's default */
	uint64_t op_id;       /* for timing events */
	const char *volume;   /* for timing events, may be NULL; valid until done */
	unsigned int
		attempt; /* for timing events: the caller's count of tries, from 1; 0 = first */

	/* GET: bytes [off, off + len); len 0 = to the end. Into buf (buf_size >= len > 0), or, with
	 * buf NULL, a malloc'ed one that the caller frees. size_out = bytes delivered; object_size
	 * = whole. */
	uint64_t off, len;
	void *buf;
	size_t buf_size;

	/* PUT body; PUT and DELETE condition. */
	const struct iovec *iov;
	int iovcnt;
	enum store_cond cond;
	char etag[STORE_ETAG_MAX]; /* in: for IF_MATCH; out: of the object (GET, HEAD, PUT) */

	/* LIST: keys > start_after, at most max_entries (in `entries`, caller's array), key order.
	 */
	char start_after[STORE_KEY_MAX];
	struct store_list_entry *entries;
	unsigned int max_entries, nr_entries;
	bool truncated; /* more keys follow: go on with start_after = the last key */

	/* Results. */
	int res;
	bool ambiguous;
	uint64_t size_out, object_size, mtime_s;

	void (*done)(struct store_op *op);
	void *ctx;

	/* For the implementation. */
	struct pool_job job;
	struct list_head node;
	uint64_t start_ns;
	uint32_t span; /* valid while start_ns is set; see lib/spans.h */
	void *impl;
};

struct store;

struct store_ops {
	const char *name;
	void (*submit)(struct store *s, struct store_op *op);
	/* No operation may be in flight. */
	void (*close)(struct store *s);
};

struct store {
	const struct store_ops *ops;
	const char *url;     /* as opened, owned by the store */
	struct store *below; /* of a wrapper: what it wraps; else NULL */
};

/* How to reach an S3 endpoint. NULL and "" mean the default; see Documentation/s3.rst. */
struct store_s3_options {
	const char *endpoint;   /* "https://HOST[:PORT]" */
	const char *region;     /* of the signature */
	const char *path_style; /* "yes", "no" or "auto" */
	const char *ca_file;    /* PEM; default: the system's */
	bool tls_insecure;      /* do not verify the endpoint's certificate */
	const char *access_key_id, *secret_access_key;
	const char *secret_key_file;            /* holds the secret alone */
	const char *credentials_file, *profile; /* shared file, as of the AWS tools */
	unsigned int max_connections;           /* 0 = 64; at least 4 */
	bool single_host;       /* go on without conditional PUT: nobody else may use the prefix */
	uint64_t probe_wait_ns; /* store_open() waits this long for what the endpoint supports */
};

struct store_options {
	const char *fault; /* rules of the fault store (fault.h), or NULL */
	struct store_s3_options s3;
};

/*
 * Open by URL ("file:///dir", "s3://bucket/prefix"). Strings are copied. An S3 store opens although
 * its endpoint does not answer. Errors, with a sentence in err (err_len bytes): -EINVAL (bad URL,
 * options or rules), -errno of the directory, -EOPNOTSUPP (S3 without conditional PUT).
 */
int store_open_with(const char *url, const struct store_options *o, struct store **out, char *err,
		    size_t err_len) __must_check;
/* The same with nothing but rules of the fault store, or NULL. */
int store_open(const char *url, const char *fault, struct store **out, char *err,
	       size_t err_len) __must_check;
void store_close(struct store *s);

/* Submit; emits the object.* timing event when it completes (wraps ->done). Any thread. */
void store_submit(struct store *s, struct store_op *op);

/* What an S3 store did so far, and how its endpoint is. */
struct store_s3_stats {
	uint64_t requests;           /* sent, tries included */
	uint64_t retries, throttled; /* requests sent again; answers that asked to slow down */
	uint64_t failures;           /* requests without a usable answer: transport, 5xx */
	uint64_t connections;        /* opened */
	uint64_t sent_bytes, received_bytes; /* bodies */
	uint64_t running, queued;            /* requests now */
	uint64_t breaker; /* 0 closed, 1 one trial request at a time, 2 open: none is sent */
	uint64_t breaker_opens;
	uint64_t probed;   /* 1: what the endpoint supports is known */
	char problem[320]; /* what an operator must mend, as logged, or "" */
};
/* False if no S3 store is behind s. Any thread, does not block. */
bool store_s3_stats(const struct store *s, struct store_s3_stats *out);

/* Blocking forms, for threads that may block (never a worker's or a store's). Return op->res. */
int store_run(struct store *s, struct store_op *op) __must_check;

#endif
