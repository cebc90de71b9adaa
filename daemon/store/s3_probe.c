// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Finds out, once per store that is opened, whether the endpoint has what storage needs: a PUT that
 * is refused when the object exists, and one that is refused when its ETag differs. On the way it
 * learns how If-Match wants the ETag (radosgw 16 matches only without the quotes), and whether
 * DELETE obeys it. Works on one small object of a random name below the prefix, which is no legal
 * store key, and removes it. The loop's thread only.
 *
 * Each step names what follows after success, after a refusal (412), and after "not implemented".
 * Any other end is no finding: it all starts again, with a new name, after a pause, for as long as
 * it takes.
 */
#include "store/s3_priv.h"
#include "lib/log.h"

#include <stdio.h>
#include <string.h>

#define PROBE_DEADLINE_NS (30 * NSEC_PER_SEC)
#define PAUSE_FIRST_NS    (50 * NSEC_PER_MSEC)
#define PAUSE_MAX_NS      (1 * NSEC_PER_SEC)
#define PAUSE_REFUSED_NS  (10 * NSEC_PER_SEC) /* an operator must act */
#define STEP_NONE         (-1)

enum etag_kind { ETAG_NONE, ETAG_RIGHT, ETAG_WRONG };

enum step {
	PROBE_CREATE,
	PROBE_CREATE_AGAIN,
	PROBE_REPLACE_WRONG,
	PROBE_REPLACE_QUOTED,
	PROBE_REPLACE_BARE_WRONG,
	PROBE_REPLACE_BARE,
	PROBE_DELETE_WRONG,
	PROBE_DELETE,
	PROBE_DELETE_UNFIT, /* the same, and the finding is that it cannot be used */
	PROBE_END,
	PROBE_END_UNFIT,
};

static const struct {
	enum s3_method method;
	enum s3_match match;
	enum etag_kind etag;
	int good, refused, absent; /* next step; absent: not implemented, not allowed */
	const char *name;
} steps[] = {
	[PROBE_CREATE] = {S3_PUT, S3_MATCH_ABSENT, ETAG_NONE, PROBE_CREATE_AGAIN, STEP_NONE,
			  PROBE_END_UNFIT, "PUT If-None-Match: * of a new object"},
	[PROBE_CREATE_AGAIN] = {S3_PUT, S3_MATCH_ABSENT, ETAG_NONE, PROBE_DELETE_UNFIT,
				PROBE_REPLACE_WRONG, PROBE_DELETE_UNFIT,
				"PUT If-None-Match: * of an object that exists"},
	[PROBE_REPLACE_WRONG] = {S3_PUT, S3_MATCH_ETAG, ETAG_WRONG, PROBE_DELETE_UNFIT,
				 PROBE_REPLACE_QUOTED, PROBE_DELETE_UNFIT,
				 "PUT If-Match of another ETag"},
	[PROBE_REPLACE_QUOTED] = {S3_PUT, S3_MATCH_ETAG, ETAG_RIGHT, PROBE_DELETE_WRONG,
				  PROBE_REPLACE_BARE_WRONG, PROBE_DELETE_UNFIT,
				  "PUT If-Match of the object's ETag, quoted"},
	[PROBE_REPLACE_BARE_WRONG] = {S3_PUT, S3_MATCH_ETAG, ETAG_WRONG, PROBE_DELETE_UNFIT,
				      PROBE_REPLACE_BARE, PROBE_DELETE_UNFIT,
				      "PUT If-Match of another ETag, not quoted"},
	[PROBE_REPLACE_BARE] = {S3_PUT, S3_MATCH_ETAG, ETAG_RIGHT, PROBE_DELETE_WRONG,
				PROBE_DELETE_UNFIT, PROBE_DELETE_UNFIT,
				"PUT If-Match of the object's ETag, not quoted"},
	[PROBE_DELETE_WRONG] = {S3_DELETE, S3_MATCH_ETAG, ETAG_WRONG, PROBE_END, PROBE_DELETE,
				PROBE_DELETE, "DELETE If-Match of another ETag"},
	[PROBE_DELETE] = {S3_DELETE, S3_MATCH_NONE, ETAG_NONE, PROBE_END, STEP_NONE, PROBE_END,
			  "DELETE"},
	[PROBE_DELETE_UNFIT] = {S3_DELETE, S3_MATCH_NONE, ETAG_NONE, PROBE_END_UNFIT, STEP_NONE,
				PROBE_END_UNFIT, "DELETE"},
};

struct s3_probe {
	struct s3 *s3;
	struct s3_req req;
	bool running;
	bool cleanup; /* a failed round: the object is removed, then a new round waits */
	enum step step;
	const char *unfit; /* the step that showed it */
	unsigned int failures;
	uint64_t again_ns; /* 0 = not wanted */
	char key[64], etag[STORE_ETAG_MAX], body[64];
	struct iovec iov;
};

static void probe_done(struct s3_req *req);

/* Another ETag of the same form. */
static void etag_spoil(char *etag)
{
	for (char *p = etag; *p; p++) {
		if ((*p < '0' || *p > '9') && (*p < 'a' || *p > 'f'))
			continue;
		*p = *p == '0' ? '1' : '0';
		return;
	}
	etag[0] ^= 1;
}

static void step_send(struct s3_probe *p, enum s3_method method, enum s3_match match,
		      enum etag_kind etag)
{
	struct s3_req *req = &p->req;

	s3_req_fini(req);
	memset(req, 0, sizeof(*req));
	req->method = method;
	req->prio = STORE_PRIO_META;
	req->deadline_ns = now_ns() + PROBE_DEADLINE_NS;
	req->path = s3_path(&p->s3->target, p->key);
	req->match = match;
	req->done = probe_done;
	if (etag != ETAG_NONE)
		memcpy(req->etag, p->etag, sizeof(req->etag));
	if (etag == ETAG_WRONG)
		etag_spoil(req->etag);
	if (method == S3_PUT) {
		req->iov = &p->iov;
		req->iovcnt = 1;
	}
	p->running = true;
	if (req->path) {
		s3_req_submit(p->s3, req);
		return;
	}
	req->res = -ENOMEM;
	probe_done(req);
}

static void step_run(struct s3_probe *p, enum step step)
{
	p->step = step;
	if (step == PROBE_REPLACE_BARE_WRONG)
		p->s3->caps.unquoted = true;
	step_send(p, steps[step].method, steps[step].match, steps[step].etag);
}

static void round_start(struct s3_probe *p)
{
	uint8_t id[12];

	random_bytes(id, sizeof(id));
	strcpy(p->key, ".probe-");
	hex_encode(id, sizeof(id), p->key + strlen(p->key));
	p->iov = (struct iovec){p->body, (size_t)snprintf(p->body, sizeof(p->body),
							  "what does this endpoint support?\n")};
	p->again_ns = 0;
	p->s3->caps.unquoted = false;
	p->etag[0] = '\0';
	step_run(p, PROBE_CREATE);
}

/* What the operator is told, and what happens to those who wait. */
static void probe_end(struct s3_probe *p, bool fit)
{
	struct s3 *s3 = p->s3;

	s3_req_fini(&p->req);
	s3->caps.error = 0;
	s3->caps.probed = fit ? S3_PROBE_GOOD : S3_PROBE_UNSUPPORTED;
	if (fit)
		log_info("store %s: conditional PUT works (If-Match %s quotes); DELETE %s If-Match",
			 s3->s.url, s3->caps.unquoted ? "without" : "with",
			 s3->caps.delete_match ? "obeys" : "ignores");
	else if (s3->single_host)
		log_warn("store %s: %s has no conditional PUT (%s): nothing protects volumes from "
			 "a second host; store.single_host says there is none",
			 s3->s.url, s3->target.base, p->unfit);
	else
		s3_problem(s3, S3_ABOUT_FITNESS,
			   "%s has no conditional PUT (%s), without which two hosts could write "
			   "one volume; use another endpoint, or set store.single_host = yes if "
			   "this is and stays the only host",
			   s3->target.base, p->unfit);
	s3_probe_heard(s3, s3->caps.probed);
	s3_req_unpark(s3, 0);
}

/* No finding. What the server refuses for good is passed on to those who wait. */
static void probe_failed(struct s3_probe *p, int res)
{
	struct s3 *s3 = p->s3;
	bool answered = p->req.answer.status != 0 && p->req.answer.status < 500;
	uint64_t pause = MIN(PAUSE_FIRST_NS << MIN(p->failures, 8u), PAUSE_MAX_NS);

	if (answered && res != -EBUSY)
		pause = PAUSE_REFUSED_NS;
	p->failures++;
	p->again_ns = now_ns() + pause;
	s3_req_fini(&p->req);
	s3->caps.unquoted = false;
	s3->caps.error = answered ? res : 0;
	s3_probe_heard(s3, S3_PROBE_UNKNOWN);
	if (answered)
		s3_req_unpark(s3, res);
}

static int step_next(struct s3_probe *p, int res)
{
	if (!res)
		return steps[p->step].good;
	if (res == -ESTALE && !p->req.ambiguous)
		return steps[p->step].refused;
	/* What may not be deleted may still be used. */
	if (steps[p->step].method == S3_DELETE && p->req.answer.status &&
	    p->req.answer.status < 500)
		return steps[p->step].absent;
	/* A form of the request the server does not know. */
	if ((res == -EOPNOTSUPP || res == -EINVAL) && steps[p->step].match != S3_MATCH_NONE)
		return steps[p->step].absent;
	return STEP_NONE;
}

static void probe_done(struct s3_req *req)
{
	struct s3_probe *p = container_of(req, struct s3_probe, req);
	int res = req->res, next = step_next(p, res);

	p->running = false;
	if (p->cleanup) {
		p->cleanup = false;
		return;
	}
	if (!res && req->method == S3_PUT)
		memcpy(p->etag, req->answer.etag, sizeof(p->etag));
	if (p->step == PROBE_DELETE_WRONG)
		p->s3->caps.delete_match = res == -ESTALE;
	if (next == PROBE_DELETE_UNFIT || next == PROBE_END_UNFIT)
		p->unfit = p->unfit ? p->unfit : steps[p->step].name;
	if (next == STEP_NONE) {
		bool left = p->step != PROBE_CREATE || req->ambiguous;

		probe_failed(p, res);
		if (left) {
			p->cleanup = true;
			step_send(p, S3_DELETE, S3_MATCH_NONE, ETAG_NONE);
		}
	} else if (next == PROBE_END || next == PROBE_END_UNFIT) {
		probe_end(p, next == PROBE_END);
	} else {
		step_run(p, (enum step)next);
	}
}

uint64_t s3_probe_tick(struct s3 *s3, uint64_t now)
{
	struct s3_probe *p = s3->probe;

	if (s3->caps.probed != S3_PROBE_UNKNOWN || p->running)
		return 0;
	if (p->again_ns && now < p->again_ns)
		return p->again_ns;
	round_start(p);
	return 0;
}

int s3_probe_new(struct s3 *s3)
{
	s3->probe = calloc(1, sizeof(*s3->probe));
	if (!s3->probe)
		return -ENOMEM;
	s3->probe->s3 = s3;
	return 0;
}

void s3_probe_free(struct s3 *s3)
{
	struct s3_probe *p = s3->probe;

	if (!p)
		return;
	if (p->running)
		s3_req_cancel(s3, &p->req);
	s3_req_fini(&p->req);
	free(p);
	s3->probe = NULL;
}
