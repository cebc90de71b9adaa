// SPDX-License-Identifier: GPL-2.0-or-later
/* HTTP/1.1 requests in, answers out. Strict: what a server may refuse is refused. */
#include "s3d.h"

#include <ctype.h>
#include <stdarg.h>
#include <strings.h>

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c |= 32) >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place. False: a bad escape, or an escaped NUL. */
static bool url_decode(char *s, bool plus_is_space)
{
	char *out = s;

	for (; *s; s++) {
		if (*s == '%') {
			int hi = hex(s[1]), lo = hi < 0 ? -1 : hex(s[2]);

			if (lo < 0 || (!hi && !lo))
				return false;
			*out++ = (char)(hi << 4 | lo);
			s += 2;
		} else {
			*out++ = plus_is_space && *s == '+' ? ' ' : *s;
		}
	}
	*out = '\0';
	return true;
}

char *url_encode(const char *s, bool keep_slash)
{
	char *out = malloc(3 * strlen(s) + 1), *p = out;

	if (!out)
		abort();
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c < 128 && isalnum(c)) || strchr("-._~", c) || (keep_slash && c == '/'))
			*p++ = (char)c;
		else
			p += sprintf(p, "%%%02X", c);
	}
	*p = '\0';
	return out;
}

const char *request_header(const struct request *rq, const char *name)
{
	for (size_t i = 0; i < rq->nr_headers; i++)
		if (!strcasecmp(rq->headers[i].name, name))
			return rq->headers[i].value;
	return NULL;
}

const char *request_query(const struct request *rq, const char *name)
{
	for (size_t i = 0; i < rq->nr_query; i++)
		if (!strcmp(rq->query[i].name, name))
			return rq->query[i].value;
	return NULL;
}

static const char *parse_query(struct request *rq, char *q)
{
	for (char *next; q && *q; q = next) {
		struct field *f = &rq->query[rq->nr_query];
		char *eq;

		if (rq->nr_query == S3D_QUERY_MAX)
			return "too many query parameters";
		next = strchr(q, '&');
		if (next)
			*next++ = '\0';
		eq = strchr(q, '=');
		f->value = eq ? eq + 1 : q + strlen(q);
		if (eq)
			*eq = '\0';
		f->name = q;
		if (!url_decode(f->name, true) || !url_decode(f->value, true))
			return "bad escape in the query";
		rq->nr_query++;
	}
	return NULL;
}

static const char *parse_target(struct request *rq, char *target)
{
	char *query = strchr(target, '?'), *slash;

	if (target[0] != '/')
		return "the target does not begin with '/'";
	if (query)
		*query++ = '\0';
	rq->target = target;
	rq->path = strdup(target);
	rq->bucket = strdup(target + 1);
	if (!rq->path || !rq->bucket)
		abort();
	if (!url_decode(rq->path, false) || !url_decode(rq->bucket, false))
		return "bad escape in the path";
	slash = strchr(rq->bucket, '/');
	if (slash)
		*slash++ = '\0';
	rq->key = slash ? slash : rq->bucket + strlen(rq->bucket);
	return query ? parse_query(rq, query) : NULL;
}

static const char *parse_header(struct request *rq, char *line)
{
	struct field *f = &rq->headers[rq->nr_headers];
	char *colon = strchr(line, ':'), *end;

	if (!colon || colon == line)
		return "a header line without a name";
	if (rq->nr_headers == S3D_HEADERS_MAX)
		return "too many headers";
	*colon = '\0';
	if (strpbrk(line, " \t"))
		return "white space in a header's name";
	f->name = line;
	f->value = colon + 1 + strspn(colon + 1, " \t");
	end = f->value + strlen(f->value);
	while (end > f->value && strchr(" \t", end[-1]))
		*--end = '\0';
	rq->nr_headers++;
	return NULL;
}

static const char *understand(struct request *rq)
{
	const char *length = request_header(rq, "Content-Length"), *h;
	char *end;

	if (!request_header(rq, "Host"))
		return "no Host header";
	if (request_header(rq, "Transfer-Encoding"))
		return "Transfer-Encoding is not supported: send a Content-Length";
	if (length) {
		errno = 0;
		rq->content_length = strtoull(length, &end, 10);
		if (errno || *end || !isdigit((unsigned char)*length))
			return "Content-Length is not a number";
		if (rq->content_length > S3D_BODY_MAX)
			return "the body is too large";
	} else if (!strcmp(rq->method, "PUT")) {
		return "a PUT without a Content-Length";
	}
	h = request_header(rq, "Connection");
	rq->keep_alive =
		rq->http10 ? h && !strcasecmp(h, "keep-alive") : !h || strcasecmp(h, "close") != 0;
	h = request_header(rq, "Expect");
	rq->expect_continue = h && !strcasecmp(h, "100-continue");
	return NULL;
}

static void classify(struct request *rq)
{
	static const struct {
		const char *method;
		bool key;
		enum s3d_op op;
	} table[] = {
		{"PUT", true, OP_PUT},       {"GET", true, OP_GET},   {"HEAD", true, OP_HEAD},
		{"DELETE", true, OP_DELETE}, {"GET", false, OP_LIST}, {"PUT", false, OP_BUCKET},
		{"HEAD", false, OP_BUCKET},
	};

	rq->op = OP_OTHER;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (!strcmp(rq->method, table[i].method) && table[i].key == (*rq->key != '\0') &&
		    *rq->bucket)
			rq->op = table[i].op;
}

static const char *parse(struct request *rq, char *text)
{
	char *save = NULL, *line = strtok_r(text, "\r\n", &save), *target, *version;
	const char *why;

	target = line ? strchr(line, ' ') : NULL;
	version = target ? strchr(target + 1, ' ') : NULL;
	if (!version || (strcmp(version, " HTTP/1.1") != 0 && strcmp(version, " HTTP/1.0") != 0))
		return "not an HTTP/1.1 request line";
	*target++ = '\0';
	*version = '\0';
	rq->http10 = version[8] == '0';
	snprintf(rq->method, sizeof(rq->method), "%s", line);
	/* The headers first: the target's parts refer to the same storage. */
	while ((line = strtok_r(NULL, "\r\n", &save))) {
		why = parse_header(rq, line);
		if (why)
			return why;
	}
	why = parse_target(rq, target);
	if (!why)
		why = understand(rq);
	if (!why)
		classify(rq);
	return why;
}

int request_read(struct conn *c, struct request *rq, const char **why)
{
	char *end;
	size_t len;

	memset(rq, 0, sizeof(*rq));
	for (;;) {
		ssize_t r;

		c->buf[c->have] = '\0';
		end = strstr(c->buf, "\r\n\r\n");
		if (end)
			break;
		r = conn_fill(c);
		if (r == -EMSGSIZE) {
			*why = "the headers are too long";
			return -EBADMSG;
		}
		if (r <= 0)
			return c->have ? -ECONNRESET : (int)r;
	}
	len = (size_t)(end - c->buf) + 4;
	rq->storage = strndup(c->buf, len - 4);
	if (!rq->storage)
		abort();
	c->have -= len;
	memmove(c->buf, c->buf + len, c->have);
	*why = parse(rq, rq->storage);
	return *why ? -EBADMSG : 1;
}

int request_read_body(struct conn *c, struct request *rq)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	int64_t limit = rq->plan.reset_body;

	if (rq->expect_continue && conn_write_all(c, go_on, sizeof(go_on) - 1))
		return -EPIPE;
	if (!rq->content_length)
		return 0;
	rq->body = malloc(rq->content_length);
	if (!rq->body)
		return -ENOMEM;
	if (limit >= 0 && (uint64_t)limit < rq->content_length) {
		int r = conn_read_all(c, rq->body, (size_t)limit);

		conn_arm_reset(c);
		return r ? r : -ECONNABORTED;
	}
	return conn_read_all(c, rq->body, rq->content_length);
}

void request_free(struct request *rq)
{
	free(rq->storage);
	free(rq->path);
	free(rq->bucket);
	free(rq->body);
}

void answer_header(struct answer *a, const char *name, const char *fmt, ...)
{
	size_t used = strlen(a->headers);
	va_list ap;
	char value[512];

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	snprintf(a->headers + used, sizeof(a->headers) - used, "%s: %s\r\n", name, value);
}

void answer_error(struct answer *a, int status, const char *code, const char *fmt, ...)
{
	va_list ap;

	a->status = status;
	snprintf(a->code, sizeof(a->code), "%s", code);
	va_start(ap, fmt);
	vsnprintf(a->message, sizeof(a->message), fmt, ap);
	va_end(ap);
}

static char *error_xml(const struct answer *a)
{
	char *xml;

	if (asprintf(&xml,
		     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code>"
		     "<Message>%s</Message><RequestId>s3d</RequestId></Error>",
		     a->code, a->message) < 0)
		abort();
	return xml;
}

/* Bad XML: half of the document, and a tag that does not end. */
static void spoil(char *xml)
{
	size_t half = strlen(xml) / 2;

	snprintf(xml + half, strlen(xml) - half, "<Unfi");
}

int answer_send(struct conn *c, const struct request *rq, struct answer *a)
{
	const struct plan *plan = &rq->plan;
	bool head = !strcmp(rq->method, "HEAD");
	char lines[2048];
	size_t sent;
	int n, r;

	if (a->code[0] && !a->xml && !head)
		a->xml = error_xml(a);
	if (a->xml) {
		if (plan->bad_xml)
			spoil(a->xml);
		a->body = a->xml;
		a->len = strlen(a->xml);
		answer_header(a, "Content-Type", "application/%s", *a->xml == '{' ? "json" : "xml");
	}
	if (plan->wrong_etag && a->etag[0])
		a->etag[0] = a->etag[0] == '0' ? '1' : '0';
	if (a->etag[0] && !plan->no_etag)
		answer_header(a, "ETag", "\"%s\"", a->etag);
	if (plan->retry_after_s >= 0)
		answer_header(a, "Retry-After", "%lld", (long long)plan->retry_after_s);
	/* 204 and 304 have no body and, as HTTP wants it, no length. */
	if (a->status != 204)
		answer_header(a, "Content-Length", "%zu", a->len);
	n = snprintf(
		lines, sizeof(lines),
		"HTTP/1.1 %d %s\r\nDate: %s\r\nServer: s3d\r\nx-amz-request-id: s3d\r\n%s%s\r\n",
		a->status, a->code[0] ? a->code : "OK", rq->date, a->headers,
		rq->keep_alive ? "" : "Connection: close\r\n");
	if (n >= (int)sizeof(lines))
		abort();
	if (a->status < (int)ARRAY_SIZE(stats.statuses))
		stats.statuses[a->status]++;
	r = conn_write_all(c, lines, (size_t)n);
	if (r || head)
		return r;
	sent = plan->truncate >= 0 ? MIN(a->len, (size_t)plan->truncate) : a->len;
	r = conn_write_all(c, a->body, sent);
	stats.bytes_out += sent;
	return r ? r : sent < a->len ? -EPIPE : 0;
}
