// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Credentials of the S3 store: where they come from, and the reader of the shared credentials file.
 * The first source that is there is the only one: a mistake in it is told, not papered over by the
 * next. Another kind of source joins by a case in the two functions below.
 *
 * Secrets are wiped before they are freed and never logged.
 */
#include "store/s3_priv.h"

#include <ctype.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX (256 * KiB)

static void wipe(char **s)
{
	if (*s)
		OPENSSL_cleanse(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

void s3_creds_free(struct s3_creds *c)
{
	wipe(&c->id);
	wipe(&c->secret);
	wipe(&c->token);
}

static bool str_equal(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

bool s3_creds_equal(const struct s3_creds *a, const struct s3_creds *b)
{
	return str_equal(a->id, b->id) && str_equal(a->secret, b->secret) &&
	       str_equal(a->token, b->token);
}

/* They become header lines. */
static bool printable(const char *s)
{
	for (; s && *s; s++)
		if (!isgraph((unsigned char)*s))
			return false;
	return true;
}

static int creds_set(struct s3_creds *c, const char *id, const char *secret, const char *token)
{
	struct s3_creds n = {strdup(id), strdup(secret), token && *token ? strdup(token) : NULL};

	if (!n.id || !n.secret || (token && *token && !n.token)) {
		s3_creds_free(&n);
		return -ENOMEM;
	}
	s3_creds_free(c);
	*c = n;
	return 0;
}

static int creds_check(const struct s3_creds *c, const char *where, char *err, size_t err_len)
{
	if (printable(c->id) && printable(c->secret) && printable(c->token) && strlen(c->id) <= 128)
		return 0;
	snprintf(err, err_len, "credentials of %s: a key has a blank or an unprintable character",
		 where);
	return -EINVAL;
}

/* The whole file, NUL-terminated, malloc'ed. */
static int file_read(const char *path, char **text, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = 0;
	struct stat st;
	ssize_t n = 0;
	char *buf;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISREG(st.st_mode))
		r = -EINVAL;
	else if (st.st_size > (off_t)FILE_MAX)
		r = -EFBIG;
	buf = r ? NULL : malloc(FILE_MAX + 1);
	if (!r && !buf)
		r = -ENOMEM;
	for (*len = 0; !r && *len < FILE_MAX; *len += (size_t)n) {
		n = read(fd, buf + *len, FILE_MAX - *len);
		if (n < 0)
			r = -errno;
		if (n <= 0)
			break;
	}
	close(fd);
	if (r) {
		free(buf);
		return r;
	}
	buf[*len] = '\0';
	*text = buf;
	return 0;
}

static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (isspace((unsigned char)*s))
		s++;
	while (end > s && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return s;
}

/* The keys of [profile]; they point into text. True if there is such a profile. */
static bool profile_find(char *text, const char *profile, const char *key[3])
{
	static const char *const names[3] = {"aws_access_key_id", "aws_secret_access_key",
					     "aws_session_token"};
	bool inside = false, found = false;
	char *next, *eq;

	for (char *line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		line = trim(line);
		if (*line == '[') {
			size_t n = strcspn(line, "]");

			line[n] = '\0';
			inside = !strcmp(trim(line + 1), profile);
			found |= inside;
			continue;
		}
		eq = strchr(line, '=');
		if (!inside || *line == '#' || *line == ';' || !eq)
			continue;
		*eq = '\0';
		for (int i = 0; i < 3; i++)
			if (!strcmp(trim(line), names[i]))
				key[i] = trim(eq + 1);
	}
	return found;
}

static int creds_from_file(const struct s3_creds_source *cs, struct s3_creds *c, char *err,
			   size_t err_len)
{
	const char *key[3] = {NULL, NULL, NULL};
	struct s3_creds n = {0};
	char *text = NULL;
	size_t len = 0;
	int r = file_read(cs->file, &text, &len);

	if (r) {
		snprintf(err, err_len, "credentials file %.200s: %s", cs->file, strerror(-r));
		return r;
	}
	if (!profile_find(text, cs->profile, key)) {
		snprintf(err, err_len, "credentials file %.200s: no profile [%.60s]", cs->file,
			 cs->profile);
		r = -ENOENT;
	} else if (!key[0] || !*key[0] || !key[1] || !*key[1]) {
		snprintf(err, err_len,
			 "credentials file %.200s, profile [%.60s]: aws_access_key_id and "
			 "aws_secret_access_key are both needed",
			 cs->file, cs->profile);
		r = -EINVAL;
	} else {
		r = creds_set(&n, key[0], key[1], key[2]);
		if (r)
			snprintf(err, err_len, "credentials: out of memory");
		else
			r = creds_check(&n, cs->file, err, err_len);
	}
	OPENSSL_cleanse(text, len);
	free(text);
	if (r) {
		s3_creds_free(&n);
		return r;
	}
	s3_creds_free(c);
	*c = n;
	return 0;
}

static int secret_file_read(const char *path, char **secret, char *err, size_t err_len)
{
	char *text, *s;
	size_t len;
	int r = file_read(path, &text, &len);

	if (!r) {
		s = trim(text);
		*secret = *s ? strdup(s) : NULL;
		r = *secret ? 0 : *s ? -ENOMEM : -ENODATA;
		OPENSSL_cleanse(text, len);
		free(text);
	}
	if (r)
		snprintf(err, err_len, "store.secret_key_file %.200s: %s", path, strerror(-r));
	return r ? -EINVAL : 0;
}

/* store.access_key_id and its secret. */
static int source_options(struct s3_creds_source *cs, const struct store_s3_options *o, char *err,
			  size_t err_len)
{
	const char *id = s3_or(o->access_key_id, NULL), *plain = s3_or(o->secret_access_key, NULL);
	const char *file = s3_or(o->secret_key_file, NULL);
	char *secret = NULL;
	int r;

	if (!id || (!plain && !file) || (plain && file)) {
		snprintf(err, err_len,
			 "store.access_key_id needs one of store.secret_access_key and "
			 "store.secret_key_file, and they need it");
		return -EINVAL;
	}
	r = file ? secret_file_read(file, &secret, err, err_len) : 0;
	if (!r)
		r = creds_set(&cs->fixed, id, secret ? secret : plain, NULL);
	wipe(&secret);
	return r ? r : creds_check(&cs->fixed, "the configuration", err, err_len);
}

static int source_file(struct s3_creds_source *cs, const char *file,
		       const struct store_s3_options *o)
{
	const char *profile = s3_or(o->profile, getenv("AWS_PROFILE"));

	cs->file = strdup(file);
	cs->profile = strdup(s3_or(profile, "default"));
	return cs->file && cs->profile ? 0 : -ENOMEM;
}

int s3_creds_source_init(struct s3_creds_source *cs, const struct store_s3_options *o, char *err,
			 size_t err_len)
{
	const char *id = s3_or(getenv("AWS_ACCESS_KEY_ID"), NULL);
	const char *secret = s3_or(getenv("AWS_SECRET_ACCESS_KEY"), NULL);
	const char *file = s3_or(getenv("AWS_SHARED_CREDENTIALS_FILE"), NULL);
	const char *home = s3_or(getenv("HOME"), NULL);
	char path[512];
	int r;

	memset(cs, 0, sizeof(*cs));
	snprintf(err, err_len, "credentials: out of memory");
	if (s3_or(o->access_key_id, s3_or(o->secret_access_key, o->secret_key_file)))
		return source_options(cs, o, err, err_len);
	if (s3_or(o->credentials_file, NULL))
		return source_file(cs, o->credentials_file, o);
	if (id || secret) {
		if (!id || !secret) {
			snprintf(err, err_len,
				 "environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are "
				 "both needed");
			return -EINVAL;
		}
		r = creds_set(&cs->fixed, id, secret, getenv("AWS_SESSION_TOKEN"));
		return r ? r : creds_check(&cs->fixed, "the environment", err, err_len);
	}
	if (file)
		return source_file(cs, file, o);
	snprintf(path, sizeof(path), "%.400s/.aws/credentials", home ? home : "");
	if (home && !access(path, F_OK))
		return source_file(cs, path, o);
	snprintf(err, err_len,
		 "no credentials for the store: set store.access_key_id with a secret, "
		 "store.credentials_file, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
		 "AWS_SHARED_CREDENTIALS_FILE");
	return -EINVAL;
}

void s3_creds_source_free(struct s3_creds_source *cs)
{
	s3_creds_free(&cs->fixed);
	free(cs->file);
	free(cs->profile);
	memset(cs, 0, sizeof(*cs));
}

int s3_creds_load(const struct s3_creds_source *cs, struct s3_creds *c, char *err, size_t err_len)
{
	if (!cs->fixed.id)
		return creds_from_file(cs, c, err, err_len);
	snprintf(err, err_len, "credentials: out of memory");
	return creds_set(c, cs->fixed.id, cs->fixed.secret, cs->fixed.token);
}
