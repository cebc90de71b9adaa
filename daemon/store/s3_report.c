// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an operator must mend about an S3 store: logged once for each thing it is about, again each
 * minute while it lasts, and kept for /health. Guarded by s3->lock; any thread.
 */
#include "store/s3_priv.h"
#include "lib/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define AGAIN_NS (60 * NSEC_PER_SEC)

static const char *const names[] = {
	[S3_ABOUT_GET] = "GET",       [S3_ABOUT_PUT] = "PUT",   [S3_ABOUT_HEAD] = "HEAD",
	[S3_ABOUT_DELETE] = "DELETE", [S3_ABOUT_LIST] = "LIST",
};

enum s3_about s3_about(const struct s3_req *req)
{
	return req->list ? S3_ABOUT_LIST : (enum s3_about)req->method;
}

void s3_problem(struct s3 *s3, enum s3_about about, const char *fmt, ...)
{
	struct s3_problem *p = &s3->problem[about];
	char text[sizeof(p->text)];
	uint64_t now = now_ns();
	va_list ap;
	bool tell;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&s3->lock);
	tell = strcmp(text, p->text) || now - p->logged_ns >= AGAIN_NS;
	memcpy(p->text, text, sizeof(text));
	p->there = true;
	if (tell)
		p->logged_ns = now;
	pthread_mutex_unlock(&s3->lock);
	if (tell)
		log_err("store %s: %s", s3->s.url, text);
}

void s3_mended(struct s3 *s3, enum s3_about about)
{
	bool was;

	pthread_mutex_lock(&s3->lock);
	was = s3->problem[about].there;
	s3->problem[about].there = false;
	pthread_mutex_unlock(&s3->lock);
	if (was && about == S3_ABOUT_CONNECTION)
		log_info("store %s: %s answers again", s3->s.url, s3->target.base);
	else if (was && about <= S3_ABOUT_LIST)
		log_info("store %s: %s works again", s3->s.url, names[about]);
}

void s3_problem_read(struct s3 *s3, char *out, size_t size)
{
	out[0] = '\0';
	pthread_mutex_lock(&s3->lock);
	for (int i = 0; i < S3_ABOUT_NR && !out[0]; i++)
		if (s3->problem[i].there)
			snprintf(out, size, "%s", s3->problem[i].text);
	pthread_mutex_unlock(&s3->lock);
}

void s3_report(struct s3 *s3, const struct s3_req *req, const struct s3_verdict *v)
{
	const struct s3_answer *a = &req->answer;
	const struct s3_error *e = &a->error;
	char region[96] = "";

	if (!a->status) {
		s3_problem(s3, S3_ABOUT_CONNECTION, "%s: %s; %s", s3->target.base, req->curl_error,
			   v->advice);
		return;
	}
	/* What a HEAD cannot say, the GET that follows does. */
	if (req->method == S3_HEAD)
		return;
	if (a->has_error && e->region[0])
		snprintf(region, sizeof(region), " (the server says region %s)", e->region);
	s3_problem(s3, s3_about(req), "%s of %s refused by %s: %ld %s%s%s%s; %s",
		   names[s3_about(req)], s3->target.bucket, s3->target.base, a->status,
		   a->has_error ? e->code : "", a->has_error && e->message[0] ? ": " : "",
		   a->has_error ? e->message : "", region, v->advice);
}

void s3_report_down(struct s3 *s3, const struct s3_req *req, unsigned int failures)
{
	const struct s3_answer *a = &req->answer;
	char status[32];

	snprintf(status, sizeof(status), a->status ? "HTTP status %ld" : "no answer in time",
		 a->status);
	s3_problem(
		s3, S3_ABOUT_CONNECTION,
		"%s does not answer: %s; %u requests failed in a row, one at a time is tried from "
		"now on",
		s3->target.base, req->curl_error[0] ? req->curl_error : status, failures);
}
