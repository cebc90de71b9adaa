// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Verifies AWS Signature Version 4 of a request's headers, from the published description
 * (docs.aws.amazon.com, "Authenticating Requests: Using the Authorization Header"). The canonical
 * request is made from the decoded request, never from how the client wrote it.
 */
#include "s3d.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <strings.h>

#define MAX_SKEW_S (15 * 60)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct credentials known;

void sigv4_set(const struct credentials *c)
{
	char region[sizeof(known.region)];

	SCOPED_LOCK(&lock);
	memcpy(region, known.region, sizeof(region));
	known = *c;
	if (!c->region[0])
		memcpy(known.region, region, sizeof(region));
}

/* A growing text. */
struct text {
	char *s;
	size_t len;
};

static void add(struct text *t, const char *s)
{
	size_t n = strlen(s);

	t->s = realloc(t->s, t->len + n + 1);
	if (!t->s)
		abort();
	memcpy(t->s + t->len, s, n + 1);
	t->len += n;
}

static void to_hex(const unsigned char *md, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", md[i]);
}

static void sha256_hex(const void *data, size_t len, char out[65])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int n = 0;

	EVP_Digest(len ? data : "", len, md, &n, EVP_sha256(), NULL);
	to_hex(md, 32, out);
}

static void hmac(const void *key, size_t key_len, const char *data, unsigned char out[32])
{
	unsigned int n = 32;

	HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)data, strlen(data), out, &n);
}

/* The fields of an Authorization header; pointers into `storage`. */
struct authorization {
	char storage[2048];
	char *access, *date, *region, *signed_headers, *signature;
};

static bool parse_authorization(const char *header, struct authorization *a)
{
	static const char scheme[] = "AWS4-HMAC-SHA256 ";
	char *save = NULL, *service, *end, *credential = NULL;

	if (strncmp(header, scheme, sizeof(scheme) - 1) != 0 ||
	    strlen(header) >= sizeof(a->storage))
		return false;
	strcpy(a->storage, header + sizeof(scheme) - 1);
	for (char *f = strtok_r(a->storage, ", ", &save); f; f = strtok_r(NULL, ", ", &save)) {
		char *eq = strchr(f, '=');

		if (!eq)
			return false;
		*eq++ = '\0';
		if (!strcmp(f, "Credential"))
			credential = eq;
		else if (!strcmp(f, "SignedHeaders"))
			a->signed_headers = eq;
		else if (!strcmp(f, "Signature"))
			a->signature = eq;
		else
			return false;
	}
	if (!credential || !a->signed_headers || !a->signature)
		return false;
	a->access = strtok_r(credential, "/", &save);
	a->date = strtok_r(NULL, "/", &save);
	a->region = strtok_r(NULL, "/", &save);
	service = strtok_r(NULL, "/", &save);
	end = strtok_r(NULL, "/", &save);
	return end && !strcmp(service, "s3") && !strcmp(end, "aws4_request") &&
	       strlen(a->signature) == 64;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_query(struct text *t, const struct request *rq)
{
	char *pairs[S3D_QUERY_MAX] = {NULL};

	for (size_t i = 0; i < rq->nr_query; i++) {
		char *name = url_encode(rq->query[i].name, false);
		char *value = url_encode(rq->query[i].value, false);

		/* '\1' sorts before all that an encoded name may contain, as its end must. */
		if (asprintf(&pairs[i], "%s\1%s", name, value) < 0)
			abort();
		free(name);
		free(value);
	}
	qsort(pairs, rq->nr_query, sizeof(pairs[0]), by_text);
	for (size_t i = 0; i < rq->nr_query; i++) {
		*strchr(pairs[i], '\1') = '=';
		add(t, i ? "&" : "");
		add(t, pairs[i]);
		free(pairs[i]);
	}
	add(t, "\n");
}

/* Trimmed, runs of spaces as one; values of one name joined with commas. */
static bool add_header(struct text *t, const struct request *rq, const char *name)
{
	bool found = false;

	add(t, name);
	add(t, ":");
	for (size_t i = 0; i < rq->nr_headers; i++) {
		if (strcasecmp(rq->headers[i].name, name) != 0)
			continue;
		add(t, found ? "," : "");
		for (const char *p = rq->headers[i].value; *p; p++)
			if (*p != ' ' || p[1] != ' ')
				add(t, (char[2]){*p});
		found = true;
	}
	add(t, "\n");
	return found;
}

static bool is_signed(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p; p = strchr(p, ';') ? strchr(p, ';') + 1 : NULL)
		if (!strncasecmp(p, name, len) && (p[len] == ';' || !p[len]))
			return true;
	return false;
}

/* The headers that S3 wants signed: Host, and every x-amz one that is there. */
static const char *unsigned_header(const struct request *rq, const char *list)
{
	if (!is_signed(list, "host"))
		return "host";
	for (size_t i = 0; i < rq->nr_headers; i++)
		if (!strncasecmp(rq->headers[i].name, "x-amz-", 6) &&
		    !is_signed(list, rq->headers[i].name))
			return rq->headers[i].name;
	return NULL;
}

/* False: the list is not sorted lower case, or names a header that is not there. */
static bool add_headers(struct text *t, const struct request *rq, const char *list)
{
	__cleanup_free char *copy = strdup(list);
	char *save = NULL;
	const char *last = "";

	if (!copy)
		abort();
	for (char *n = strtok_r(copy, ";", &save); n; n = strtok_r(NULL, ";", &save)) {
		for (char *p = n; *p; p++)
			if (isupper((unsigned char)*p))
				return false;
		if (strcmp(n, last) <= 0 || !add_header(t, rq, n))
			return false;
		last = n;
	}
	add(t, "\n");
	add(t, list);
	add(t, "\n");
	return true;
}

static void sign(const struct credentials *c, const struct authorization *a, const char *amz_date,
		 const char *canonical, char out[65])
{
	unsigned char key[32], next[32];
	char secret[160], to_sign[512], hash[65];

	snprintf(secret, sizeof(secret), "AWS4%s", c->secret);
	hmac(secret, strlen(secret), a->date, key);
	hmac(key, 32, a->region, next);
	hmac(next, 32, "s3", key);
	hmac(key, 32, "aws4_request", next);
	sha256_hex(canonical, strlen(canonical), hash);
	snprintf(to_sign, sizeof(to_sign), "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s",
		 amz_date, a->date, a->region, hash);
	hmac(next, 32, to_sign, key);
	to_hex(key, 32, out);
}

static bool refuse(struct answer *a, int status, const char *code, const char *what)
{
	answer_error(a, status, code, "%s", what);
	return false;
}

static bool date_ok(const char *amz_date, time_t now, struct answer *a)
{
	struct tm tm = {0};
	const char *end = strptime(amz_date, "%Y%m%dT%H%M%SZ", &tm);
	time_t t = end ? timegm(&tm) : 0;

	if (!end || *end || strlen(amz_date) != 16)
		return refuse(a, 403, "AccessDenied", "x-amz-date is not YYYYMMDDTHHMMSSZ");
	if (t > now + MAX_SKEW_S || t < now - MAX_SKEW_S)
		return refuse(a, 403, "RequestTimeTooSkewed",
			      "The difference between the request time and the current time is too "
			      "large.");
	return true;
}

static bool payload_ok(const struct request *rq, const char *sent, struct answer *a)
{
	char hash[65];

	if (!sent)
		return refuse(a, 400, "InvalidRequest",
			      "Missing required header: x-amz-content-sha256");
	if (!strcmp(sent, "UNSIGNED-PAYLOAD"))
		return true;
	sha256_hex(rq->body, rq->content_length, hash);
	if (strcmp(sent, hash) != 0)
		return refuse(a, 400, "XAmzContentSHA256Mismatch",
			      "The provided x-amz-content-sha256 header does not match what was "
			      "computed.");
	return true;
}

static bool token_ok(const struct request *rq, const struct credentials *c, struct answer *a)
{
	const char *token = request_header(rq, "x-amz-security-token");

	if (rq->plan.expired_token)
		return refuse(a, 400, "ExpiredToken", "The provided token has expired.");
	if (strcmp(token ? token : "", c->token) != 0)
		return refuse(a, 400, "InvalidToken",
			      "The provided token is malformed or otherwise invalid.");
	return true;
}

bool sigv4_verify(const struct request *rq, time_t now, struct answer *a)
{
	const char *header = request_header(rq, "Authorization"), *missing;
	const char *amz_date = request_header(rq, "x-amz-date");
	const char *payload = request_header(rq, "x-amz-content-sha256");
	__cleanup_free char *canonical = NULL, *path = url_encode(rq->path, true);
	struct authorization auth = {0};
	struct credentials c;
	struct text t = {0};
	char want[65];
	bool known_headers;

	pthread_mutex_lock(&lock);
	c = known;
	pthread_mutex_unlock(&lock);
	if (!header)
		return refuse(a, 403, "AccessDenied", "Anonymous access is forbidden.");
	if (!parse_authorization(header, &auth))
		return refuse(a, 400, "AuthorizationHeaderMalformed",
			      "The authorization header is malformed.");
	if (strcmp(auth.region, c.region) != 0) {
		answer_error(a, 400, "AuthorizationHeaderMalformed",
			     "the region '%.64s' is wrong; expecting '%s'", auth.region, c.region);
		return false;
	}
	if (strcmp(auth.access, c.access) != 0)
		return refuse(a, 403, "InvalidAccessKeyId",
			      "The access key Id you provided does not exist in our records.");
	if (!amz_date || strncmp(amz_date, auth.date, 8) != 0 || strlen(auth.date) != 8)
		return refuse(a, 403, "AccessDenied", "x-amz-date is missing or not the scope's");
	if (!date_ok(amz_date, now, a) || !token_ok(rq, &c, a))
		return false;
	missing = unsigned_header(rq, auth.signed_headers);
	if (missing) {
		answer_error(a, 403, "AccessDenied", "the header %.64s is not signed", missing);
		return false;
	}
	add(&t, rq->method);
	add(&t, "\n");
	add(&t, path);
	add(&t, "\n");
	add_query(&t, rq);
	known_headers = add_headers(&t, rq, auth.signed_headers);
	add(&t, payload ? payload : "");
	canonical = t.s;
	sign(&c, &auth, amz_date, canonical, want);
	if (!known_headers || strcmp(want, auth.signature) != 0)
		return refuse(
			a, 403, "SignatureDoesNotMatch",
			"The request signature we calculated does not match the signature you "
			"provided.");
	return payload_ok(rq, payload, a);
}
