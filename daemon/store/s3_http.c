// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One HTTP exchange of the S3 store: signed headers, the body from the caller's memory, the answer
 * into the caller's memory, all bounded. The loop's thread only.
 *
 * No seek function is given to curl, on purpose: when a kept-alive connection dies under a request
 * curl sends it again by itself, unseen, if it can rewind the body. A conditional PUT that landed
 * the first time would then come back as refused. Without it curl repeats only what has sent no
 * byte of a body (see s3_http_may_land()), and GET, HEAD and DELETE, which may be repeated.
 */
#include "store/s3_priv.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define EMPTY_SHA256    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define CONNECT_MS      4000
#define STALL_S         10 /* no byte moved; leaves time for another try by the default deadline */
#define STALL_LARGE_S   30 /* the server may think about a large body */
#define STALL_LARGE     (1 * MiB)
#define USER_TIMEOUT_MS 15000
#define BUFFER_SMALL    (64 * KiB)
#define BUFFER_LARGE    (512 * KiB)
#define OBJECT_MAX      (4 * GiB)
#define GROW_FIRST      (1 * MiB)
#define TEXT_MAX        (64 * KiB)
#define HEADERS_SIGNED  8
#define IDLE_MAX_S      118 /* curl's own */

static const char *const methods[] = {
	[S3_GET] = "GET", [S3_PUT] = "PUT", [S3_HEAD] = "HEAD", [S3_DELETE] = "DELETE"};

/* ---- request ---- */

static size_t on_read(char *out, size_t size, size_t nitems, void *user)
{
	struct s3_req *req = user;
	size_t room = size * nitems, n = 0;

	while (n < room && req->iov_at < req->iovcnt) {
		const struct iovec *v = &req->iov[req->iov_at];
		size_t step = MIN(room - n, v->iov_len - req->iov_pos);

		memcpy(out + n, (const char *)v->iov_base + req->iov_pos, step);
		n += step;
		req->iov_pos += step;
		if (req->iov_pos == v->iov_len) {
			req->iov_at++;
			req->iov_pos = 0;
		}
	}
	req->body_sent += n;
	return n;
}

static bool header_add(struct curl_slist **list, const char *name, const char *value)
{
	size_t n = strlen(name) + strlen(value) + 3;
	char *line = malloc(n);
	struct curl_slist *l;

	if (!line)
		return false;
	snprintf(line, n, "%s: %s", name, value);
	l = curl_slist_append(*list, line);
	free(line);
	if (!l)
		return false;
	*list = l;
	return true;
}

/* The ETag as this endpoint wants it. A weak one has its own quotes. */
static void etag_value(const struct s3 *s3, const char *etag, char *out, size_t size)
{
	bool bare = s3->caps.unquoted || !strncmp(etag, "W/", 2);

	snprintf(out, size, bare ? "%s" : "\"%s\"", etag);
}

static int headers_make(struct s3 *s3, struct s3_req *req)
{
	char date[S3_DATE_LEN], range[64], etag[STORE_ETAG_MAX + 2], auth[S3_AUTH_LEN];
	struct s3_header h[HEADERS_SIGNED];
	struct s3_sign_in in = {.method = methods[req->method],
				.path = req->path,
				.query = req->query,
				.headers = h,
				.payload = req->payload[0] ? req->payload : EMPTY_SHA256,
				.region = s3->target.region,
				.date = date};
	unsigned int n = 0;
	bool ok;
	int r;

	s3_date((time_t)((int64_t)(wall_ns() / NSEC_PER_SEC) + s3->skew_s), date);
	h[n++] = (struct s3_header){"host", s3->target.host};
	if (req->match == S3_MATCH_ETAG) {
		etag_value(s3, req->etag, etag, sizeof(etag));
		h[n++] = (struct s3_header){"if-match", etag};
	} else if (req->match == S3_MATCH_ABSENT) {
		h[n++] = (struct s3_header){"if-none-match", "*"};
	}
	if (req->ranged) {
		if (req->len)
			snprintf(range, sizeof(range), "bytes=%llu-%llu",
				 (unsigned long long)req->off,
				 (unsigned long long)(req->off + req->len - 1));
		else
			snprintf(range, sizeof(range), "bytes=%llu-", (unsigned long long)req->off);
		h[n++] = (struct s3_header){"range", range};
	}
	h[n++] = (struct s3_header){"x-amz-content-sha256", in.payload};
	h[n++] = (struct s3_header){"x-amz-date", date};
	if (s3->creds.token)
		h[n++] = (struct s3_header){"x-amz-security-token", s3->creds.token};
	in.nr_headers = n;
	r = s3_sign(&in, &s3->creds, &s3->sign_key, auth);
	if (r)
		return r;
	ok = header_add(&req->headers, "authorization", auth);
	for (unsigned int i = 0; ok && i < n; i++)
		ok = header_add(&req->headers, h[i].name, h[i].value);
	if (ok) {
		/* Waiting for "100 Continue" costs a round trip and is not needed. */
		struct curl_slist *l = curl_slist_append(req->headers, "Expect:");

		ok = l != NULL;
		if (l)
			req->headers = l;
	}
	return ok ? 0 : -ENOMEM;
}

/* ---- answer: headers ---- */

static bool header_is(const char *line, size_t len, const char *name, char *value, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || line[n] != ':' || strncasecmp(line, name, n))
		return false;
	line += n + 1;
	len -= n + 1;
	while (len && (*line == ' ' || *line == '\t')) {
		line++;
		len--;
	}
	while (len && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
		len--;
	/* What does not fit is not what we expect there: seen as cut, it fails its parser. */
	n = MIN(len, size - 1);
	memcpy(value, line, n);
	value[n] = '\0';
	return true;
}

static void etag_take(struct s3_answer *a, char *value)
{
	size_t n = strlen(value);

	if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
		value[n - 1] = '\0';
		value++;
		n -= 2;
	}
	a->etag_bad = !n || n >= sizeof(a->etag);
	for (size_t i = 0; i < n; i++)
		a->etag_bad |= value[i] <= 0x20 || value[i] >= 0x7f;
	a->etag[0] = '\0';
	if (!a->etag_bad)
		memcpy(a->etag, value, n + 1);
}

static bool u64_take(const char **s, uint64_t *v)
{
	char *end;

	if (**s < '0' || **s > '9')
		return false;
	errno = 0;
	*v = strtoull(*s, &end, 10);
	*s = end;
	return !errno;
}

/* "bytes 0-9/100", "bytes * /100" (without the blank) */
static void range_take(struct s3_answer *a, const char *s)
{
	if (strncasecmp(s, "bytes ", 6))
		return;
	s += 6;
	if (*s == '*')
		s++;
	else if (u64_take(&s, &a->range_first) && *s++ == '-' && u64_take(&s, &a->range_last))
		a->has_range = a->range_first <= a->range_last;
	else
		return;
	if (*s++ == '/' && u64_take(&s, &a->total))
		a->range_total = !*s;
}

static size_t on_header(char *line, size_t size, size_t nitems, void *user)
{
	struct s3_req *req = user;
	struct s3_answer *a = &req->answer;
	size_t len = size * nitems;
	const char *p;
	char value[256];

	if (len > 5 && !strncasecmp(line, "HTTP/", 5)) {
		const char *blank = memchr(line, ' ', len);

		memset(a, 0, sizeof(*a));
		a->status =
			blank && len - (size_t)(blank - line) >= 4 ? strtol(blank, NULL, 10) : 0;
		return len;
	}
	if (header_is(line, len, "ETag", value, sizeof(value))) {
		etag_take(a, value);
	} else if (header_is(line, len, "Content-Length", value, sizeof(value))) {
		p = value;
		a->has_length = u64_take(&p, &a->length) && !*p;
	} else if (header_is(line, len, "Content-Range", value, sizeof(value))) {
		range_take(a, value);
	} else if (header_is(line, len, "Last-Modified", value, sizeof(value))) {
		a->mtime = MAX(curl_getdate(value, NULL), (time_t)0);
	} else if (header_is(line, len, "Date", value, sizeof(value))) {
		a->date = MAX(curl_getdate(value, NULL), (time_t)0);
	} else if (header_is(line, len, "Retry-After", value, sizeof(value))) {
		uint64_t s;

		p = value;
		if (u64_take(&p, &s))
			a->retry_after_s = (unsigned int)MIN(s, 3600u);
	}
	return len;
}

/* ---- answer: body ---- */

static size_t refuse(struct s3_req *req, int res)
{
	req->body_res = res;
	return 0;
}

/* Room for n more bytes of an object. */
static bool buf_grow(struct s3_req *req, uint64_t n, uint64_t limit)
{
	uint64_t want = req->got + n, room = req->buf_room;
	char *buf;

	if (req->buf && want <= room)
		return true;
	if (!room)
		room = req->answer.has_length ? MIN(req->answer.length, GROW_FIRST) : GROW_FIRST;
	while (room < want)
		room *= 2;
	room = MIN(room, limit);
	buf = realloc(req->buf, room ? room : 1);
	if (!buf)
		return false;
	req->buf = buf;
	req->buf_room = room;
	req->buf_mine = true;
	return true;
}

/* The body of a GET: 206 from off on, 200 from the beginning. */
static size_t object_data(struct s3_req *req, const char *p, size_t n)
{
	const struct s3_answer *a = &req->answer;
	bool whole = a->status == 200, mine = !req->buf || req->buf_mine;
	uint64_t limit = req->len ? req->len : OBJECT_MAX, skip = 0;
	size_t len = n;

	if (!whole && (!req->ranged || !a->has_range || a->range_first != req->off))
		return refuse(req, -EPROTO);
	if (whole && req->ranged && req->skipped < req->off) {
		skip = MIN(len, req->off - req->skipped);
		req->skipped += skip;
		p += skip;
		len -= skip;
	}
	if (!mine && !req->len)
		limit = req->buf_size;
	if (len > limit - req->got) {
		if (!whole || !req->ranged)
			return refuse(req, req->len ? -EPROTO : mine ? -EFBIG : -EINVAL);
		/* The range was ignored: the rest of the object is not waited for. */
		len = limit - req->got;
		req->enough = true;
	}
	if (mine && !buf_grow(req, len, limit))
		return refuse(req, -ENOMEM);
	if (len)
		memcpy(req->buf + req->got, p, len);
	req->got += len;
	return req->enough ? 0 : n;
}

static size_t on_body(char *p, size_t size, size_t nitems, void *user)
{
	struct s3_req *req = user;
	size_t n = size * nitems, keep;
	char *text;

	if (req->list && req->answer.status == 200) {
		int r = s3_list_feed(req->list, p, n);

		return r ? refuse(req, r) : n;
	}
	if (req->method == S3_GET && (req->answer.status == 200 || req->answer.status == 206))
		return object_data(req, p, n);
	keep = MIN(n, TEXT_MAX - req->text_len);
	if (!keep)
		return refuse(req, -EPROTO);
	text = realloc(req->text, req->text_len + keep);
	if (!text)
		return refuse(req, -ENOMEM);
	memcpy(text + req->text_len, p, keep);
	req->text = text;
	req->text_len += keep;
	return n;
}

/* ---- start and stop ---- */

/* A peer that is gone without a word is noticed, also when nothing is sent. */
static int on_socket(void *user __unused, curl_socket_t fd, curlsocktype purpose __unused)
{
	int ms = USER_TIMEOUT_MS;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	return CURL_SOCKOPT_OK;
}

/*
 * One connection that was kept and does not answer casts a doubt on all that were idle when that
 * was found: each would cost somebody a whole try. curl closes by the idle time, in whole seconds.
 */
static void options_doubt(const struct s3 *s3, CURL *c)
{
	uint64_t age_s = (now_ns() - s3->doubt_ns) / NSEC_PER_SEC;

	if (!s3->doubt_ns || age_s > IDLE_MAX_S)
		return;
	if (age_s < 2)
		curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
	else
		curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)age_s - 1);
}

static void options_common(struct s3 *s3, struct s3_req *req)
{
	CURL *c = req->easy;

	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	/* A look-up that hangs must not hold the loop when its request is given up. */
	curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, 15L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, 5L);
	curl_easy_setopt(c, CURLOPT_SOCKOPTFUNCTION, on_socket);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME,
			 (long)(req->body_bytes > STALL_LARGE ? STALL_LARGE_S : STALL_S));
	curl_easy_setopt(c, CURLOPT_USERAGENT, "glidefs/" GFS_VERSION);
	if (s3->ca_file)
		curl_easy_setopt(c, CURLOPT_CAINFO, s3->ca_file);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, s3->tls_insecure ? 0L : 1L);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, s3->tls_insecure ? 0L : 2L);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, req->curl_error);
	curl_easy_setopt(c, CURLOPT_PRIVATE, req);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, req);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, req);
	options_doubt(s3, c);
}

static int options_set(struct s3 *s3, struct s3_req *req)
{
	size_t n = strlen(s3->target.base) + strlen(req->path) +
		   (req->query ? strlen(req->query) : 0) + 2;
	bool big = req->list || (req->method == S3_GET && (!req->len || req->len > BUFFER_SMALL));
	CURL *c = req->easy;
	char *url = malloc(n);
	CURLcode r;

	if (!url)
		return -ENOMEM;
	snprintf(url, n, "%s%s%s%s", s3->target.base, req->path, req->query ? "?" : "",
		 req->query ? req->query : "");
	options_common(s3, req);
	curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)(big ? BUFFER_LARGE : BUFFER_SMALL));
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, req->headers);
	if (req->method == S3_HEAD)
		curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
	if (req->method == S3_DELETE)
		curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "DELETE");
	if (req->method == S3_PUT) {
		curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)req->body_bytes);
		curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(c, CURLOPT_READDATA, req);
		curl_easy_setopt(
			c, CURLOPT_UPLOAD_BUFFERSIZE,
			(long)(req->body_bytes > BUFFER_SMALL ? BUFFER_LARGE : BUFFER_SMALL));
	}
	r = curl_easy_setopt(c, CURLOPT_URL, url);
	free(url);
	return r ? -ENOMEM : 0;
}

int s3_http_start(struct s3 *s3, struct s3_req *req)
{
	int r = s3->creds.id ? 0 : -EACCES;

	memset(&req->answer, 0, sizeof(req->answer));
	req->iov_at = 0;
	req->iov_pos = 0;
	req->body_sent = req->skipped = req->got = 0;
	req->enough = false;
	req->body_res = 0;
	req->text_len = 0;
	req->curl_error[0] = '\0';
	if (!r && req->list)
		r = s3_list_begin(req->list);
	if (!r) {
		req->easy = s3->nr_spare ? s3->spare[--s3->nr_spare] : curl_easy_init();
		r = req->easy ? headers_make(s3, req) : -ENOMEM;
	}
	if (!r)
		r = options_set(s3, req);
	if (!r && curl_multi_add_handle(s3->multi, req->easy))
		r = -ENOMEM;
	if (r)
		s3_http_stop(s3, req);
	return r;
}

void s3_http_stop(struct s3 *s3, struct s3_req *req)
{
	if (req->easy) {
		/* Closes the connection if the exchange is not over. */
		curl_multi_remove_handle(s3->multi, req->easy);
		curl_easy_reset(req->easy);
		if (s3->nr_spare < s3->max_connections)
			s3->spare[s3->nr_spare++] = req->easy;
		else
			curl_easy_cleanup(req->easy);
	}
	req->easy = NULL;
	curl_slist_free_all(req->headers);
	req->headers = NULL;
	free(req->text);
	req->text = NULL;
}

/* ---- verdict ---- */

bool s3_http_unheard(const struct s3_req *req)
{
	long made = 0;

	curl_easy_getinfo(req->easy, CURLINFO_NUM_CONNECTS, &made);
	return !made && !req->answer.status;
}

/*
 * Only a whole request can take effect: the body's length is announced and its hash is signed. What
 * curl has taken of the body counts as sent.
 */
bool s3_http_may_land(const struct s3_req *req)
{
	long sent = 0;

	if ((req->method != S3_PUT && req->method != S3_DELETE) || !req->easy)
		return false;
	curl_easy_getinfo(req->easy, CURLINFO_REQUEST_SIZE, &sent);
	return sent > 0 && req->body_sent == req->body_bytes;
}

static const char advice_tls[] = "set store.ca_file to the CA that signed the endpoint's "
				 "certificate, and check its host name";

static const struct {
	CURLcode code;
	int res;
	const char *advice;
} failures[] = {
	{CURLE_COULDNT_RESOLVE_HOST, -EHOSTUNREACH, NULL},
	{CURLE_COULDNT_CONNECT, -ECONNREFUSED, NULL},
	{CURLE_OPERATION_TIMEDOUT, -ETIMEDOUT, NULL},
	{CURLE_GOT_NOTHING, -ECONNRESET, NULL},
	{CURLE_SEND_ERROR, -ECONNRESET, NULL},
	{CURLE_SEND_FAIL_REWIND, -ECONNRESET, NULL},
	{CURLE_RECV_ERROR, -ECONNRESET, NULL},
	{CURLE_PARTIAL_FILE, -ENODATA, NULL},
	{CURLE_OUT_OF_MEMORY, -ENOMEM, NULL},
	{CURLE_SSL_CONNECT_ERROR, -EPROTO, NULL},
	{CURLE_PEER_FAILED_VERIFICATION, -EPROTO, advice_tls},
	{CURLE_SSL_CACERT_BADFILE, -EPROTO, advice_tls},
	{CURLE_WEIRD_SERVER_REPLY, -EPROTO, NULL},
	{CURLE_UNSUPPORTED_PROTOCOL, -EPROTO, NULL},
};

static struct s3_verdict failure_verdict(const struct s3_req *req, CURLcode code)
{
	struct s3_verdict v = {.res = -EIO, .class = S3_AGAIN, .sick = true};

	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		if (failures[i].code != code)
			continue;
		v.res = failures[i].res;
		v.advice = failures[i].advice;
	}
	v.definite = !s3_http_may_land(req);
	return v;
}

/* The bytes of a GET are all there: 0, -ERANGE, -ENODATA or -EPROTO. */
static int object_check(struct s3_req *req)
{
	struct s3_answer *a = &req->answer;
	uint64_t want;

	if (a->etag_bad || !a->etag[0])
		return -EPROTO;
	if (a->status == 206) {
		if (!req->ranged || !a->has_range || !a->range_total ||
		    a->range_first != req->off || a->range_last >= a->total)
			return -EPROTO;
	} else {
		if (a->has_length)
			a->total = a->length;
		else if (!req->enough)
			a->total = req->skipped + req->got;
		else
			return -EPROTO;
		if (req->ranged && req->off >= a->total)
			return -ERANGE;
	}
	want = a->total - (req->ranged ? req->off : 0);
	if (req->ranged && req->len)
		want = MIN(want, req->len);
	if (req->got != want)
		return -ENODATA;
	/* An empty object is a buffer too. */
	return req->buf || buf_grow(req, 0, 1) ? 0 : -ENOMEM;
}

static int success_check(struct s3_req *req)
{
	const struct s3_answer *a = &req->answer;

	if (req->list)
		return a->status == 200 ? s3_list_end(req->list) : -EPROTO;
	switch (req->method) {
	case S3_GET:
		return a->status == 200 || a->status == 206 ? object_check(req) : -EPROTO;
	case S3_HEAD:
		return a->status == 200 && a->has_length && a->etag[0] ? 0 : -EPROTO;
	case S3_PUT:
		/* Without the ETag nobody could go on from here. */
		return a->etag[0] ? 0 : -EPROTO;
	case S3_DELETE:
		return 0;
	}
	return -EPROTO;
}

struct s3_verdict s3_http_verdict(struct s3_req *req, CURLcode code)
{
	struct s3_answer *a = &req->answer;
	struct s3_verdict v;

	if (code == CURLE_WRITE_ERROR && req->enough)
		code = CURLE_OK;
	if (code == CURLE_WRITE_ERROR && req->body_res) {
		v = (struct s3_verdict){.res = req->body_res, .class = S3_AGAIN};
		if (v.res == -EINVAL || v.res == -EFBIG)
			v.class = S3_DONE;
		return v;
	}
	/* An error whose document was cut short is still that error. */
	if (code && a->status < 300)
		return failure_verdict(req, code);
	a->has_error = req->text && s3_error_parse(req->text, req->text_len, &a->error);
	v = s3_judge(a->status, a->has_error ? &a->error : NULL);
	if (!v.res) {
		v.res = success_check(req);
		v.class = v.res == -ENODATA || v.res == -EPROTO ? S3_AGAIN : S3_DONE;
	}
	return v;
}
