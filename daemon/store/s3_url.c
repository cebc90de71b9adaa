// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Names of the S3 store: the target of "s3://BUCKET/PREFIX" and its options, and the encoded paths
 * and queries of its requests. Pure functions, but for the environment that s3_target_init() reads.
 */
#include "store/s3_priv.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BUCKET_MAX 63

const char *s3_or(const char *a, const char *b)
{
	if (a && *a)
		return a;
	return b && *b ? b : NULL;
}

size_t s3_encode(const char *in, size_t len, bool slash, char *out)
{
	static const char digits[] = "0123456789ABCDEF";
	char *p = out;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)in[i];

		if ((c < 0x80 && isalnum(c)) || (c && strchr("-._~", c)) || (slash && c == '/')) {
			*p++ = (char)c;
			continue;
		}
		*p++ = '%';
		*p++ = digits[c >> 4];
		*p++ = digits[c & 15];
	}
	*p = '\0';
	return (size_t)(p - out);
}

char *s3_path(const struct s3_target *t, const char *key)
{
	size_t bucket = strlen(t->bucket), prefix = strlen(t->prefix), n = key ? strlen(key) : 0;
	char *path = malloc(3 * (bucket + prefix + n) + 3), *p = path;

	if (!path)
		return NULL;
	*p++ = '/';
	if (t->path_style) {
		p += s3_encode(t->bucket, bucket, false, p);
		if (key)
			*p++ = '/';
	}
	*p = '\0';
	if (key) {
		p += s3_encode(t->prefix, prefix, true, p);
		s3_encode(key, n, true, p);
	}
	return path;
}

char *s3_list_query(const struct s3_target *t, const char *key_prefix, const char *after,
		    unsigned int limit)
{
	static const char head[] = "encoding-type=url&list-type=2&max-keys=";
	size_t prefix = strlen(t->prefix), n = strlen(key_prefix), a = strlen(after);
	size_t size = sizeof(head) + 64 + 3 * (prefix + n + a);
	char *q = malloc(size), *p = q;

	if (!q)
		return NULL;
	p += snprintf(p, size, "%s%u&prefix=", head, limit);
	p += s3_encode(t->prefix, prefix, false, p);
	p += s3_encode(key_prefix, n, false, p);
	if (a) {
		p = stpcpy(p, "&start-after=");
		s3_encode(after, a, false, p);
	}
	return q;
}

static bool bucket_ok(const char *s, size_t n)
{
	if (n < 3 || n > BUCKET_MAX || !isalnum((unsigned char)s[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr(".-_", s[i]))
			return false;
	return true;
}

static bool region_ok(const char *s)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("-_", s[i]))
			return false;
	return n > 0 && n < 64;
}

/* "s3://BUCKET[/PREFIX[/]]" */
static int url_split(struct s3_target *t, const char *url, char *err, size_t err_len)
{
	const char *bucket = url + strlen("s3://"), *slash = strchrnul(bucket, '/');
	const char *prefix = *slash ? slash + 1 : slash;
	size_t n = strlen(prefix);

	if (!bucket_ok(bucket, (size_t)(slash - bucket))) {
		snprintf(
			err, err_len,
			"store URL '%.200s': a bucket has 3 to %d letters, digits, '.', '-' or '_'",
			url, BUCKET_MAX);
		return -EINVAL;
	}
	if (n && prefix[n - 1] == '/')
		n--;
	t->bucket = strndup(bucket, (size_t)(slash - bucket));
	t->prefix = malloc(n + 2);
	if (!t->bucket || !t->prefix)
		return -ENOMEM;
	memcpy(t->prefix, prefix, n);
	t->prefix[n] = '\0';
	if (*prefix && store_key_check(t->prefix, false)) {
		snprintf(err, err_len,
			 "store URL '%.200s': the prefix is parts joined by '/', none empty or "
			 "beginning with a dot, %d bytes at most",
			 url, STORE_KEY_MAX - 1);
		return -EINVAL;
	}
	if (n)
		strcpy(t->prefix + n, "/");
	return 0;
}

/* Checked by curl's own parser, so that both read the same out of it. */
static int endpoint_split(struct s3_target *t, const char *endpoint, char **host, char **port,
			  char *err, size_t err_len)
{
	static const CURLUPart refused[] = {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY,
					    CURLUPART_FRAGMENT};
	char *scheme = NULL, *path = NULL, *part;
	CURLU *u = curl_url();
	bool ok;

	if (!u)
		return -ENOMEM;
	ok = !curl_url_set(u, CURLUPART_URL, endpoint, 0) &&
	     !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) &&
	     !curl_url_get(u, CURLUPART_HOST, host, 0) &&
	     !curl_url_get(u, CURLUPART_PATH, &path, 0) &&
	     (!strcmp(scheme, "http") || !strcmp(scheme, "https")) && !strcmp(path, "/");
	for (size_t i = 0; ok && i < ARRAY_SIZE(refused); i++) {
		if (curl_url_get(u, refused[i], &part, 0))
			continue;
		curl_free(part);
		ok = false;
	}
	if (ok) {
		t->tls = !strcmp(scheme, "https");
		/* The default port is left out of the Host header. */
		if (!curl_url_get(u, CURLUPART_PORT, port, CURLU_NO_DEFAULT_PORT) &&
		    !strcmp(*port, t->tls ? "443" : "80")) {
			curl_free(*port);
			*port = NULL;
		}
	} else {
		snprintf(err, err_len,
			 "store endpoint '%.200s': expected https://HOST[:PORT] or "
			 "http://HOST[:PORT], without path, user or query",
			 endpoint);
	}
	curl_free(scheme);
	curl_free(path);
	curl_url_cleanup(u);
	return ok ? 0 : -EINVAL;
}

static int path_style_set(struct s3_target *t, const struct store_s3_options *o, bool own_endpoint,
			  char *err, size_t err_len)
{
	const char *style = s3_or(o->path_style, "auto");

	if (strcmp(style, "yes") && strcmp(style, "no") && strcmp(style, "auto")) {
		snprintf(err, err_len, "store.path_style is '%.40s': it must be yes, no or auto",
			 style);
		return -EINVAL;
	}
	/* A dot in the bucket's name does not match the endpoint's wildcard certificate. */
	t->path_style = !strcmp(style, "yes") ||
			(!strcmp(style, "auto") && (own_endpoint || strchr(t->bucket, '.')));
	return 0;
}

int s3_target_init(struct s3_target *t, const char *url, const struct store_s3_options *o,
		   char *err, size_t err_len)
{
	const char *endpoint = s3_or(o->endpoint, getenv("AWS_ENDPOINT_URL")), *region;
	char *host = NULL, *port = NULL, aws[128];
	bool own = endpoint != NULL;
	int r;

	memset(t, 0, sizeof(*t));
	region = s3_or(o->region, s3_or(getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION")));
	if (!region)
		region = "us-east-1";
	if (!region_ok(region)) {
		snprintf(err, err_len, "store.region is '%.80s': letters, digits and '-' only",
			 region);
		return -EINVAL;
	}
	if (!own) {
		snprintf(aws, sizeof(aws), "https://s3.%s.amazonaws.com", region);
		endpoint = aws;
	}
	r = url_split(t, url, err, err_len);
	if (!r)
		r = path_style_set(t, o, own, err, err_len);
	if (!r)
		r = endpoint_split(t, endpoint, &host, &port, err, err_len);
	if (!r) {
		const char *dot = t->path_style ? "" : ".";
		const char *bucket = t->path_style ? "" : t->bucket;
		const char *colon = port ? ":" : "";

		for (char *p = host; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		if (asprintf(&t->host, "%s%s%s%s%s", bucket, dot, host, colon, port ? port : "") <
		    0)
			t->host = NULL;
		if (!t->host ||
		    asprintf(&t->base, "%s://%s", t->tls ? "https" : "http", t->host) < 0)
			t->base = NULL;
		t->region = strdup(region);
		r = t->host && t->base && t->region ? 0 : -ENOMEM;
	}
	curl_free(host);
	curl_free(port);
	return r;
}

void s3_target_free(struct s3_target *t)
{
	free(t->base);
	free(t->host);
	free(t->bucket);
	free(t->prefix);
	free(t->region);
	memset(t, 0, sizeof(*t));
}
