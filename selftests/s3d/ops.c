// SPDX-License-Identifier: GPL-2.0-or-later
/* What requests do: the part of S3 that a block store needs, and the control of the server. */
#include "s3d.h"

#include <strings.h>

#define LIST_MAX 1000

static void rfc_date(time_t t, char *out, size_t len)
{
	struct tm tm;

	strftime(out, len, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&t, &tm));
}

static bool need_bucket(const struct request *rq, struct answer *a)
{
	if (bucket_exists(rq->bucket))
		return true;
	answer_error(a, 404, "NoSuchBucket", "The specified bucket does not exist");
	return false;
}

/* If-Match and If-None-Match of a PUT or DELETE. False: the answer says why not. */
static bool parse_condition(const struct request *rq, enum cond_kind *cond, char etag[S3D_ETAG_MAX],
			    struct answer *a)
{
	const char *match = request_header(rq, "If-Match");
	const char *none = request_header(rq, "If-None-Match");
	const struct plan *plan = &rq->plan;
	bool quoted;
	size_t len;

	*cond = COND_NONE;
	etag[0] = '\0';
	if (plan->no_conditional || (plan->delete_unconditional && rq->op == OP_DELETE))
		return true;
	if (none && (strcmp(none, "*") != 0 || rq->op != OP_PUT || match)) {
		answer_error(a, 501, "NotImplemented", "If-None-Match: only '*', only PUT");
		return false;
	}
	if (none)
		*cond = COND_ABSENT;
	if (!match)
		return true;
	*cond = COND_MATCH;
	len = strlen(match);
	quoted = len >= 2 && match[0] == '"' && match[len - 1] == '"';
	/* What no object has: a mismatch. */
	if ((plan->quoted_only && !quoted) || (plan->unquoted_only && quoted) ||
	    len - 2 * quoted >= S3D_ETAG_MAX)
		snprintf(etag, S3D_ETAG_MAX, "?");
	else
		snprintf(etag, S3D_ETAG_MAX, "%.*s", (int)(len - 2 * quoted), match + quoted);
	return true;
}

static void refuse_condition(struct answer *a, int r)
{
	if (r == -ENOENT)
		answer_error(a, 404, "NoSuchKey", "The specified key does not exist.");
	else
		answer_error(a, 412, "PreconditionFailed",
			     "At least one of the pre-conditions you specified did not hold");
}

static void op_put(struct request *rq, time_t now, struct answer *a)
{
	enum cond_kind cond;
	char etag[S3D_ETAG_MAX];
	void *data = rq->body;
	int r;

	if (!need_bucket(rq, a) || !parse_condition(rq, &cond, etag, a))
		return;
	rq->body = NULL;
	r = object_put(rq->bucket, rq->key, data, rq->content_length, now, cond, etag);
	if (r)
		refuse_condition(a, r);
	else
		strcpy(a->etag, etag);
}

static void op_delete(struct request *rq, time_t now, struct answer *a)
{
	enum cond_kind cond;
	char etag[S3D_ETAG_MAX];
	int r;

	if (!need_bucket(rq, a) || !parse_condition(rq, &cond, etag, a))
		return;
	r = object_delete(rq->bucket, rq->key, cond, etag);
	if (r)
		refuse_condition(a, r);
	else
		a->status = 204;
}

/* bytes=A-B, bytes=A-, bytes=-N. False: no range that can be served. */
static bool parse_range(const char *s, size_t size, size_t *off, size_t *len)
{
	unsigned long long from, to;
	char *end;

	if (strncmp(s, "bytes=", 6) != 0)
		return false;
	s += 6;
	if (*s == '-') {
		to = strtoull(s + 1, &end, 10);
		*len = MIN(to, size);
		*off = size - *len;
		return !*end && end > s + 1 && *len;
	}
	from = strtoull(s, &end, 10);
	if (end == s || *end != '-')
		return false;
	s = end + 1;
	to = *s ? strtoull(s, &end, 10) : UINT64_MAX;
	if ((*s && *end) || from > to || from >= size)
		return false;
	*off = from;
	*len = MIN(to - from, size - from - 1) + 1;
	return true;
}

static void op_get(struct request *rq, time_t now, struct answer *a)
{
	const char *range = request_header(rq, "Range");
	struct body *b;
	size_t size, off = 0;
	const char *data;
	char date[64];

	if (!need_bucket(rq, a))
		return;
	b = object_get(rq->bucket, rq->key);
	if (!b) {
		answer_error(a, 404, "NoSuchKey", "The specified key does not exist.");
		return;
	}
	data = body_data(b, &size);
	a->hold = b;
	a->len = size;
	if (range && rq->op == OP_GET) {
		if (!parse_range(range, size, &off, &a->len)) {
			answer_header(a, "Content-Range", "bytes */%zu", size);
			answer_error(a, 416, "InvalidRange",
				     "The requested range is not satisfiable");
			a->len = 0;
			return;
		}
		a->status = 206;
		answer_header(a, "Content-Range", "bytes %zu-%zu/%zu", off, off + a->len - 1, size);
	}
	a->body = data ? data + off : NULL;
	rfc_date(body_mtime(b), date, sizeof(date));
	answer_header(a, "Last-Modified", "%s", date);
	answer_header(a, "Accept-Ranges", "bytes");
	answer_header(a, "Content-Type", "binary/octet-stream");
	strcpy(a->etag, body_etag(b));
}

static void write_xml(FILE *f, const char *s)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < 32 || strchr("&<>\"'", c))
			fprintf(f, "&#%u;", c);
		else
			fputc(c, f);
	}
}

static void write_key(FILE *f, const char *tag, const char *key, bool url)
{
	__cleanup_free char *encoded = url ? url_encode(key, true) : NULL;

	fprintf(f, "<%s>", tag);
	write_xml(f, encoded ? encoded : key);
	fprintf(f, "</%s>", tag);
}

/* The continuation token: the last key, in hexadecimal. */
static bool token_key(const char *token, char *key, size_t size)
{
	size_t len = strlen(token);
	unsigned int byte;

	if (len % 2 || len / 2 >= size)
		return false;
	for (size_t i = 0; i < len / 2; i++) {
		if (sscanf(token + 2 * i, "%2x", &byte) != 1)
			return false;
		key[i] = (char)byte;
	}
	key[len / 2] = '\0';
	return true;
}

static void write_contents(FILE *f, const struct object *o, bool url)
{
	size_t size;
	struct tm tm;
	time_t mtime = body_mtime(o->body);
	char date[64];

	body_data(o->body, &size);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S.000Z", gmtime_r(&mtime, &tm));
	fprintf(f, "<Contents>");
	write_key(f, "Key", o->key, url);
	fprintf(f,
		"<LastModified>%s</LastModified><ETag>&quot;%s&quot;</ETag><Size>%zu</Size>"
		"<StorageClass>STANDARD</StorageClass></Contents>",
		date, body_etag(o->body), size);
}

static char *list_xml(const struct request *rq, const char *prefix, const char *after, size_t max)
{
	const char *encoding = request_query(rq, "encoding-type");
	bool url = encoding && !strcmp(encoding, "url"), more;
	struct object found[LIST_MAX];
	size_t n = object_list(rq->bucket, prefix, after, max, found, &more), len;
	char *xml = NULL;
	FILE *f = open_memstream(&xml, &len);

	if (!f)
		abort();
	fprintf(f, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		   "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>");
	write_xml(f, rq->bucket);
	fprintf(f, "</Name>");
	write_key(f, "Prefix", prefix, url);
	if (url)
		fprintf(f, "<EncodingType>url</EncodingType>");
	fprintf(f, "<KeyCount>%zu</KeyCount><MaxKeys>%zu</MaxKeys><IsTruncated>%s</IsTruncated>", n,
		max, more ? "true" : "false");
	for (size_t i = 0; i < n; i++)
		write_contents(f, &found[i], url);
	if (more && n) {
		fprintf(f, "<NextContinuationToken>");
		for (const char *p = found[n - 1].key; *p; p++)
			fprintf(f, "%02x", (unsigned char)*p);
		fprintf(f, "</NextContinuationToken>");
	}
	fprintf(f, "</ListBucketResult>");
	fclose(f);
	for (size_t i = 0; i < n; i++) {
		free(found[i].key);
		body_put(found[i].body);
	}
	return xml;
}

static void op_list(struct request *rq, time_t now, struct answer *a)
{
	const char *type = request_query(rq, "list-type"), *prefix = request_query(rq, "prefix");
	const char *token = request_query(rq, "continuation-token");
	const char *after = request_query(rq, "start-after");
	const char *max_keys = request_query(rq, "max-keys");
	char key[2048], *end;
	unsigned long max = max_keys ? strtoul(max_keys, &end, 10) : LIST_MAX;

	if (!need_bucket(rq, a))
		return;
	if (!type || strcmp(type, "2") != 0 || request_query(rq, "delimiter")) {
		answer_error(a, 501, "NotImplemented",
			     "only ListObjectsV2 without a delimiter is supported");
		return;
	}
	if (max_keys && (!*max_keys || *end)) {
		answer_error(a, 400, "InvalidArgument", "max-keys is not a number");
		return;
	}
	if (token && !token_key(token, key, sizeof(key))) {
		answer_error(a, 400, "InvalidArgument", "The continuation token is incorrect");
		return;
	}
	a->xml = list_xml(rq, prefix ? prefix : "",
			  token   ? key
			  : after ? after
				  : "",
			  MIN(max, LIST_MAX));
}

static void op_bucket(struct request *rq, time_t now, struct answer *a)
{
	if (!strcmp(rq->method, "HEAD"))
		need_bucket(rq, a);
	else if (bucket_create(rq->bucket))
		answer_error(a, 409, "BucketAlreadyOwnedByYou", "You already own this bucket");
}

static void op_other(struct request *rq, time_t now, struct answer *a)
{
	answer_error(a, 501, "NotImplemented", "s3d does not do this");
}

void op_run(struct request *rq, time_t now, struct answer *a)
{
	static void (*const run[OP_NR])(struct request * rq, time_t now, struct answer * a) = {
		[OP_PUT] = op_put,     [OP_GET] = op_get,       [OP_HEAD] = op_get,
		[OP_LIST] = op_list,   [OP_DELETE] = op_delete, [OP_BUCKET] = op_bucket,
		[OP_OTHER] = op_other,
	};
	/* Sub-resources and multipart uploads would be taken for plain objects. */
	static const char *const subresources[] = {"uploads", "uploadId", "acl",     "tagging",
						   "policy",  "versions", "location"};

	for (size_t i = 0; i < ARRAY_SIZE(subresources); i++)
		if (request_query(rq, subresources[i])) {
			op_other(rq, now, a);
			return;
		}
	if (request_header(rq, "x-amz-copy-source"))
		op_other(rq, now, a);
	else
		run[rq->op](rq, now, a);
}

/* "ACCESS SECRET [TOKEN]": what requests are checked against from now on. */
static void set_credentials(char *text, struct answer *a)
{
	struct credentials c = {.region = ""};
	int n = sscanf(text, "%131s %131s %1023s", c.access, c.secret, c.token);

	if (n < 2)
		answer_error(a, 400, "InvalidArgument", "want: ACCESS SECRET [TOKEN]");
	else
		sigv4_set(&c);
}

void op_control(const struct request *rq, struct answer *a)
{
	__cleanup_free char *text =
		strndup(rq->body ? (const char *)rq->body : "", rq->content_length);
	bool put = !strcmp(rq->method, "PUT");
	char err[160];

	if (!text)
		abort();
	if (put && !strcmp(rq->key, "faults")) {
		if (faults_set(text, err, sizeof(err)))
			answer_error(a, 400, "InvalidArgument", "%s", err);
	} else if (put && !strcmp(rq->key, "credentials")) {
		set_credentials(text, a);
	} else if (!strcmp(rq->method, "GET") && !strcmp(rq->key, "stats")) {
		a->xml = stats_json();
	} else if (!strcmp(rq->method, "DELETE") && !strcmp(rq->key, "stats")) {
		stats_reset();
	} else {
		answer_error(a, 404, "NoSuchKey",
			     "PUT /_s3d/faults, PUT /_s3d/credentials, GET or DELETE /_s3d/stats");
	}
}
