// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * s3://BUCKET/PREFIX: store operations as S3 requests. An operation is one struct s3_call for its
 * whole life, on the loop's thread (s3_loop.c): the steps below send requests until there is a
 * result. Opening and closing run on the caller's thread.
 *
 * Most operations are one request. The others:
 *   HEAD    its refusals have no body: the same is asked by a GET of one byte, which says why
 *   LIST    goes on while a page holds nothing of ours
 *   PUT, DELETE with a condition wait until the endpoint is probed. Where DELETE ignores If-Match,
 *           and, with store.single_host, where PUT does, a HEAD compares first: what changes
 * between the two requests is not noticed.
 */
#include "store/s3_priv.h"
#include "lib/log.h"

#include <stdio.h>
#include <string.h>

#define CONNECTIONS_DEFAULT 64
#define CONNECTIONS_MIN     4
#define CONNECTIONS_MAX     1024
#define PAGE_MAX            1000 /* of the protocol */

enum call_step {
	CALL_WAIT,    /* for the probe */
	CALL_COMPARE, /* HEAD, instead of a condition */
	CALL_SEND,
	CALL_WHY,   /* GET of a byte, to learn why a HEAD failed */
	CALL_AGAIN, /* HEAD after that */
};

struct s3_call {
	struct s3 *s3;
	struct store_op *op;
	struct s3_req req;
	struct s3_list list;
	enum call_step step;
	uint8_t byte[16];
};

static void call_done(struct s3_req *req);

static void call_end(struct s3_call *c, int res)
{
	struct store_op *op = c->op;

	s3_req_fini(&c->req);
	s3_list_free(&c->list);
	free(c);
	store_complete(op, res);
}

static const enum s3_method op_method[] = {
	[STORE_GET] = S3_GET,  [STORE_PUT] = S3_PUT,       [STORE_HEAD] = S3_HEAD,
	[STORE_LIST] = S3_GET, [STORE_DELETE] = S3_DELETE,
};

/* Send a request of this method for the key; conditions are the caller's to set before. */
static void call_send(struct s3_call *c, enum call_step step, enum s3_method method)
{
	c->step = step;
	c->req.method = method;
	s3_req_submit(c->s3, &c->req);
}

/* The operation's own request, with its condition unless a comparison took its place. */
static void call_send_op(struct s3_call *c, bool condition)
{
	struct store_op *op = c->op;

	c->req.match = S3_MATCH_NONE;
	if (condition && op->cond == STORE_IF_NONE_MATCH)
		c->req.match = S3_MATCH_ABSENT;
	if (condition && op->cond == STORE_IF_MATCH)
		c->req.match = S3_MATCH_ETAG;
	memcpy(c->req.etag, op->etag, sizeof(c->req.etag));
	if (op->type == STORE_PUT) {
		c->req.iov = op->iov;
		c->req.iovcnt = op->iovcnt;
	}
	call_send(c, CALL_SEND, op_method[op->type]);
}

static void call_list(struct s3_call *c)
{
	unsigned int limit = c->op->max_entries < PAGE_MAX ? c->op->max_entries + 1 : PAGE_MAX;

	free(c->req.query);
	c->req.query = s3_list_query(&c->s3->target, c->op->key, c->list.after, limit);
	if (!c->req.query) {
		call_end(c, -ENOMEM);
		return;
	}
	c->req.list = &c->list;
	call_send_op(c, false);
}

/* With a condition: now, by a comparison, or not before the probe is over. */
static void call_conditional(struct s3_call *c)
{
	const struct s3_caps *caps = &c->s3->caps;
	bool put = c->op->type == STORE_PUT;

	if (caps->probed == S3_PROBE_UNKNOWN) {
		if (caps->error) {
			call_end(c, caps->error);
			return;
		}
		c->step = CALL_WAIT;
		s3_req_park(c->s3, &c->req);
	} else if (put ? caps->probed == S3_PROBE_GOOD : caps->delete_match) {
		call_send_op(c, true);
	} else if (put && !c->s3->single_host) {
		call_end(c, -EOPNOTSUPP);
	} else {
		call_send(c, CALL_COMPARE, S3_HEAD);
	}
}

static void results_take(struct s3_call *c)
{
	const struct s3_answer *a = &c->req.answer;
	struct store_op *op = c->op;

	op->mtime_s = (uint64_t)(a->mtime ? a->mtime : a->date);
	memcpy(op->etag, a->etag, sizeof(op->etag));
	switch (op->type) {
	case STORE_GET:
		op->buf = c->req.buf;
		op->size_out = c->req.got;
		op->object_size = a->total;
		break;
	case STORE_PUT:
		op->object_size = c->req.body_bytes;
		break;
	case STORE_HEAD:
		op->object_size = c->step == CALL_WHY ? a->total : a->length;
		break;
	default:
		break;
	}
}

static void compared(struct s3_call *c, int res)
{
	struct store_op *op = c->op;

	if (res == -ENOENT && op->type == STORE_DELETE)
		call_end(c, 0);
	else if (res == -ENOENT && op->cond == STORE_IF_MATCH)
		call_end(c, -ESTALE);
	else if (res && res != -ENOENT)
		call_end(c, res);
	else if (!res && op->cond == STORE_IF_NONE_MATCH)
		call_end(c, -EEXIST);
	else if (!res && strcmp(c->req.answer.etag, op->etag))
		call_end(c, -ESTALE);
	else
		call_send_op(c, false);
}

/* A HEAD failed, and without a body: ask in a way that has one. */
static void ask_why(struct s3_call *c)
{
	c->req.ranged = true;
	c->req.off = 0;
	c->req.len = 1;
	c->req.buf = (char *)c->byte;
	c->req.buf_size = sizeof(c->byte);
	call_send(c, CALL_WHY, S3_GET);
}

/* The result of the operation's own request, in the words of store.h. */
static int op_result(struct s3_call *c, int res)
{
	struct store_op *op = c->op;

	if (op->type == STORE_DELETE && res == -ENOENT)
		return 0;
	/* AWS answers 404 to If-Match of an object that is gone. */
	if (op->type == STORE_PUT && res == -ENOENT)
		return op->cond == STORE_IF_MATCH ? -ESTALE : -EPROTO;
	if (op->type == STORE_PUT && res == -ESTALE && op->cond == STORE_IF_NONE_MATCH)
		return -EEXIST;
	if (res == -ERANGE)
		op->object_size = c->req.answer.total;
	return res;
}

static void call_done(struct s3_req *req)
{
	struct s3_call *c = container_of(req, struct s3_call, req);
	struct store_op *op = c->op;
	int res = req->res;
	bool head = req->method == S3_HEAD;

	if (head && res && req->answer.status >= 300 && c->step != CALL_AGAIN) {
		/* CALL_SEND for a HEAD; a comparison just learns that it must look further. */
		if (c->step == CALL_SEND || req->answer.status == 404) {
			bool compare = c->step == CALL_COMPARE;

			ask_why(c);
			c->byte[sizeof(c->byte) - 1] = compare;
			return;
		}
	}
	switch (c->step) {
	case CALL_WAIT:
		if (res)
			call_end(c, res);
		else
			call_conditional(c);
		return;
	case CALL_COMPARE:
		compared(c, res);
		return;
	case CALL_WHY:
		c->req.ranged = false;
		c->req.buf = NULL;
		if (c->byte[sizeof(c->byte) - 1]) {
			compared(c, res);
			return;
		}
		if (res == -ERANGE) {
			/* It is there, and empty. */
			call_send(c, CALL_AGAIN, S3_HEAD);
			return;
		}
		break;
	case CALL_AGAIN:
		if (res && req->answer.status == 404)
			res = -ENOENT;
		break;
	case CALL_SEND:
		break;
	}
	if (op->type == STORE_LIST && !res && c->list.truncated && !op->nr_entries) {
		memcpy(c->list.after, c->list.last, sizeof(c->list.after));
		call_list(c);
		return;
	}
	if (op->type == STORE_LIST && !res && c->list.truncated)
		op->truncated = true;
	res = op_result(c, res);
	if (!res && op->type != STORE_LIST && op->type != STORE_DELETE)
		results_take(c);
	if (op->type == STORE_LIST && res)
		op->nr_entries = 0;
	op->ambiguous = res && req->ambiguous && store_op_mutates(op);
	call_end(c, res);
}

static int call_new(struct s3 *s3, struct store_op *op, struct s3_call **out)
{
	struct s3_call *c;
	int r = store_key_check(op->key, op->type == STORE_LIST);

	if (r)
		return r;
	if (op->type == STORE_LIST &&
	    (!op->max_entries || strnlen(op->start_after, STORE_KEY_MAX) == STORE_KEY_MAX))
		return -EINVAL;
	if (op->type == STORE_GET && op->buf && op->buf_size < op->len)
		return -EINVAL;
	if (op->cond == STORE_IF_MATCH && !op->etag[0])
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->s3 = s3;
	c->op = op;
	c->req.prio = op->prio;
	c->req.deadline_ns = store_op_deadline(op);
	c->req.done = call_done;
	c->req.path = s3_path(&s3->target, op->type == STORE_LIST ? NULL : op->key);
	if (!c->req.path) {
		free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void s3_op_begin(struct s3 *s3, struct store_op *op)
{
	struct s3_call *c;
	int r = call_new(s3, op, &c);

	if (r) {
		store_complete(op, r);
		return;
	}
	switch (op->type) {
	case STORE_LIST:
		c->list.op = op;
		c->list.prefix = s3->target.prefix;
		if (op->start_after[0])
			snprintf(c->list.after, sizeof(c->list.after), "%s%s", s3->target.prefix,
				 op->start_after);
		call_list(c);
		return;
	case STORE_GET:
		c->req.ranged = op->off || op->len;
		c->req.off = op->off;
		c->req.len = op->len;
		c->req.buf = op->buf;
		c->req.buf_size = op->buf_size;
		break;
	case STORE_PUT:
	case STORE_DELETE:
		if (op->cond != STORE_ALWAYS) {
			call_conditional(c);
			return;
		}
		break;
	case STORE_HEAD:
		break;
	}
	call_send_op(c, false);
}

/* ---- store ---- */

static void s3_submit(struct store *s, struct store_op *op)
{
	s3_loop_post(container_of(s, struct s3, s), op);
}

static void s3_close(struct store *s)
{
	struct s3 *s3 = container_of(s, struct s3, s);

	s3_loop_stop(s3);
	s3_creds_free(&s3->creds);
	s3_creds_source_free(&s3->source);
	s3_target_free(&s3->target);
	free(s3->ca_file);
	free((char *)s3->s.url);
	pthread_cond_destroy(&s3->cond);
	pthread_mutex_destroy(&s3->lock);
	free(s3);
}

static const struct store_ops s3_ops = {
	.name = "s3",
	.submit = s3_submit,
	.close = s3_close,
};

void s3_probe_heard(struct s3 *s3, enum s3_probed said)
{
	pthread_mutex_lock(&s3->lock);
	s3->probe_heard = true;
	s3->probe_said = said;
	pthread_cond_broadcast(&s3->cond);
	pthread_mutex_unlock(&s3->lock);
}

/* -EOPNOTSUPP if the endpoint is known to be unfit; an endpoint that does not answer is waited for
 * later. */
static int probe_wait(struct s3 *s3, uint64_t wait_ns, char *err, size_t err_len)
{
	uint64_t until = now_ns() + wait_ns;
	int r = 0;

	if (!wait_ns)
		return 0;
	pthread_mutex_lock(&s3->lock);
	while (!s3->probe_heard && !cond_wait_until(&s3->cond, &s3->lock, until))
		;
	if (s3->probe_said == S3_PROBE_UNSUPPORTED && !s3->single_host) {
		snprintf(err, err_len, "store %.120s: %s", s3->s.url,
			 s3->problem[S3_ABOUT_FITNESS].text);
		r = -EOPNOTSUPP;
	}
	pthread_mutex_unlock(&s3->lock);
	return r;
}

static void curl_init(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int options_take(struct s3 *s3, const char *url, const struct store_s3_options *o, char *err,
			size_t err_len)
{
	char why[320] = "";
	int r;

	s3->max_connections = o->max_connections ? o->max_connections : CONNECTIONS_DEFAULT;
	s3->tls_insecure = o->tls_insecure;
	s3->single_host = o->single_host;
	if (s3->max_connections < CONNECTIONS_MIN || s3->max_connections > CONNECTIONS_MAX) {
		snprintf(err, err_len, "store.max_connections is %u: %d to %d are allowed",
			 s3->max_connections, CONNECTIONS_MIN, CONNECTIONS_MAX);
		return -EINVAL;
	}
	s3->s.url = strdup(url);
	if (s3_or(o->ca_file, NULL)) {
		s3->ca_file = strdup(o->ca_file);
		if (access(o->ca_file, R_OK) < 0) {
			snprintf(err, err_len, "store.ca_file %.200s: %s", o->ca_file,
				 strerror(errno));
			return -EINVAL;
		}
	}
	if (!s3->s.url || (s3_or(o->ca_file, NULL) && !s3->ca_file))
		return -ENOMEM;
	r = s3_target_init(&s3->target, url, o, err, err_len);
	if (!r)
		r = s3_creds_source_init(&s3->source, o, err, err_len);
	/* A file that is not there yet is read when it is needed: a host must start. */
	if (!r && s3_creds_load(&s3->source, &s3->creds, why, sizeof(why)))
		s3_problem(s3, S3_ABOUT_CREDENTIALS, "%s", why);
	return r;
}

int store_s3_open(const char *url, const struct store_s3_options *o, struct store **out, char *err,
		  size_t err_len)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct s3 *s3 = calloc(1, sizeof(*s3));
	int r;

	pthread_once(&once, curl_init);
	if (!s3) {
		snprintf(err, err_len, "store %.200s: out of memory", url);
		return -ENOMEM;
	}
	s3->s.ops = &s3_ops;
	pthread_mutex_init(&s3->lock, NULL);
	cond_init_mono(&s3->cond);
	snprintf(err, err_len, "store %.200s: cannot start", url);
	r = options_take(s3, url, o, err, err_len);
	if (!r)
		r = s3_loop_start(s3);
	if (!r)
		r = probe_wait(s3, o->probe_wait_ns, err, err_len);
	if (r) {
		s3_close(&s3->s);
		return r;
	}
	*out = &s3->s;
	return 0;
}

bool store_s3_stats(const struct store *s, struct store_s3_stats *out)
{
	while (s && s->below)
		s = s->below;
	if (!s || s->ops != &s3_ops)
		return false;
	s3_stats_read(container_of(s, struct s3, s), out);
	return true;
}
