// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * AWS Signature Version 4 for S3: path encoded once, payload hash always given. Pure functions over
 * memory. https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
#include "store/s3_priv.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

void s3_date(time_t t, char out[S3_DATE_LEN])
{
	struct tm tm;

	gmtime_r(&t, &tm);
	if (!strftime(out, S3_DATE_LEN, "%Y%m%dT%H%M%SZ", &tm))
		out[0] = '\0';
}

static bool hmac(const void *key, size_t key_len, const char *data, size_t len,
		 uint8_t out[SHA256_LEN])
{
	return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)data, len, out, NULL);
}

/* "a;b;c" */
static void signed_headers(FILE *f, const struct s3_sign_in *in)
{
	for (unsigned int i = 0; i < in->nr_headers; i++)
		fprintf(f, "%s%s", i ? ";" : "", in->headers[i].name);
}

static bool canonical_hash(const struct s3_sign_in *in, char hex[2 * SHA256_LEN + 1])
{
	uint8_t sum[SHA256_LEN];
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return false;
	fprintf(f, "%s\n%s\n%s\n", in->method, in->path, in->query ? in->query : "");
	for (unsigned int i = 0; i < in->nr_headers; i++)
		fprintf(f, "%s:%s\n", in->headers[i].name, in->headers[i].value);
	fputc('\n', f);
	signed_headers(f, in);
	fprintf(f, "\n%s", in->payload);
	if (fclose(f)) {
		free(text);
		return false;
	}
	hash_sha256(text, len, sum);
	hex_encode(sum, sizeof(sum), hex);
	free(text);
	return true;
}

static bool signing_key_make(const char *day, const char *region, const char *secret,
			     uint8_t key[SHA256_LEN])
{
	size_t n = strlen(secret) + 4;
	char *first = malloc(n + 1);
	bool ok;

	if (!first)
		return false;
	snprintf(first, n + 1, "AWS4%s", secret);
	ok = hmac(first, n, day, 8, key) && hmac(key, SHA256_LEN, region, strlen(region), key) &&
	     hmac(key, SHA256_LEN, "s3", 2, key) && hmac(key, SHA256_LEN, "aws4_request", 12, key);
	OPENSSL_cleanse(first, n);
	free(first);
	return ok;
}

/* The key of this day, region and service, derived from the secret: four HMACs, once a day. */
static bool signing_key(const struct s3_sign_in *in, const char *secret, struct s3_sign_key *k)
{
	char text[256];
	uint8_t of[SHA256_LEN];
	int n = snprintf(text, sizeof(text), "%.8s/%s/%s", in->date, in->region, secret);

	if (n >= (int)sizeof(text)) {
		OPENSSL_cleanse(text, sizeof(text));
		k->set = false;
	} else {
		hash_sha256(text, (size_t)n, of);
		OPENSSL_cleanse(text, (size_t)n);
		if (k->set && !memcmp(k->of, of, sizeof(of)))
			return true;
		memcpy(k->of, of, sizeof(of));
		k->set = true;
	}
	if (signing_key_make(in->date, in->region, secret, k->key))
		return true;
	k->set = false;
	return false;
}

int s3_sign(const struct s3_sign_in *in, const struct s3_creds *c, struct s3_sign_key *k,
	    char out[S3_AUTH_LEN])
{
	struct s3_sign_key once = {.set = false};
	char hash[2 * SHA256_LEN + 1], scope[128],
		text[S3_DATE_LEN + sizeof(scope) + sizeof(hash) + 32];
	uint8_t sum[SHA256_LEN];
	FILE *f;
	bool ok;
	int n;

	n = snprintf(scope, sizeof(scope), "%.8s/%s/s3/aws4_request", in->date, in->region);
	if (n >= (int)sizeof(scope))
		return -E2BIG;
	if (!canonical_hash(in, hash))
		return -EIO;
	n = snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", in->date, scope, hash);
	if (!k)
		k = &once;
	ok = signing_key(in, c->secret, k) && hmac(k->key, sizeof(k->key), text, (size_t)n, sum);
	OPENSSL_cleanse(&once, sizeof(once));
	if (!ok)
		return -EIO;
	hex_encode(sum, sizeof(sum), hash);
	f = fmemopen(out, S3_AUTH_LEN, "w");
	if (!f)
		return -EIO;
	setvbuf(f, NULL, _IOFBF, 2 * S3_AUTH_LEN);
	fprintf(f, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=", c->id, scope);
	signed_headers(f, in);
	fprintf(f, ",Signature=%s", hash);
	n = (int)ftell(f);
	if (fclose(f) || n <= 0 || n >= S3_AUTH_LEN)
		return -E2BIG;
	return 0;
}
