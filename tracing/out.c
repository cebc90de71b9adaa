// SPDX-License-Identifier: GPL-2.0-or-later
/* Output files under a temporary name, and JSON that is valid whatever the strings are. */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "tracing/out.h"

struct out {
	FILE *f;
	char *path, *tmp; /* tmp NULL: path is written directly */
	bool borrowed;    /* standard output */
};

static void out_free(struct out *o)
{
	free(o->path);
	free(o->tmp);
	free(o);
}

/* A temporary file next to path, with the mode a plain open would have given. */
static int open_tmp(struct out *o)
{
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	if (asprintf(&o->tmp, "%s.XXXXXX", o->path) < 0) {
		o->tmp = NULL;
		errno = ENOMEM;
		return -1;
	}
	fd = mkostemp(o->tmp, O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0666 & ~mask) == 0)
		return fd;
	unlink(o->tmp);
	close(fd);
	return -1;
}

struct out *out_open(const char *path, char *err, size_t err_len)
{
	struct out *o = calloc(1, sizeof(*o));
	struct stat st;
	int fd;

	if (!o)
		goto fail;
	if (!strcmp(path, "-")) {
		o->f = stdout;
		o->borrowed = true;
		return o;
	}
	/* The file behind a symbolic link is replaced, not the link. */
	o->path = realpath(path, NULL);
	if (!o->path)
		o->path = strdup(path);
	if (!o->path)
		goto fail;
	if (!stat(o->path, &st) && !S_ISREG(st.st_mode))
		fd = open(o->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	else
		fd = open_tmp(o);
	if (fd < 0)
		goto fail;
	o->f = fdopen(fd, "w");
	if (o->f)
		return o;
	close(fd);
	if (o->tmp)
		unlink(o->tmp);
fail:
	snprintf(err, err_len, "%s: cannot be written: %s", path, strerror(errno));
	if (o)
		out_free(o);
	return NULL;
}

FILE *out_file(struct out *o)
{
	return o->f;
}

int out_close(struct out *o)
{
	int rc = 0;

	errno = 0;
	if (fflush(o->f) || ferror(o->f))
		rc = errno ? -errno : -EIO;
	if (!o->borrowed && fclose(o->f) && !rc)
		rc = -errno;
	if (!rc && o->tmp && rename(o->tmp, o->path))
		rc = -errno;
	if (rc && o->tmp)
		unlink(o->tmp);
	out_free(o);
	return rc;
}

int out_publish(struct out *o)
{
	if (!o->tmp)
		return 0;
	if (rename(o->tmp, o->path))
		return -errno;
	free(o->tmp);
	o->tmp = NULL;
	return 0;
}

void out_abandon(struct out *o)
{
	if (!o->borrowed)
		fclose(o->f);
	if (o->tmp)
		unlink(o->tmp);
	out_free(o);
}

/* Length of the UTF-8 sequence at s, 0 if it is none. */
static unsigned int utf8_len(const unsigned char *s)
{
	unsigned int n, i;
	uint32_t c;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] < 0xe0)
		n = 2, c = s[0] & 0x1f;
	else if (s[0] >= 0xe0 && s[0] < 0xf0)
		n = 3, c = s[0] & 0x0f;
	else if (s[0] >= 0xf0 && s[0] < 0xf5)
		n = 4, c = s[0] & 0x07;
	else
		return 0;
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff)) ||
	    (c >= 0xd800 && c < 0xe000))
		return 0;
	return n;
}

static void put_string(FILE *f, const char *str)
{
	const unsigned char *s = (const unsigned char *)str;

	putc('"', f);
	while (*s) {
		unsigned int n = utf8_len(s);

		if (!n) {
			fputs("\\ufffd", f);
			n = 1;
		} else if (n == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] & 0xfe) == 0xa8) {
			fprintf(f, "\\u202%c", s[2] == 0xa8 ? '8' : '9');
		} else if (n > 1) {
			fwrite(s, 1, n, f);
		} else if (*s == '"' || *s == '\\') {
			putc('\\', f);
			putc(*s, f);
		} else if (*s < 0x20 || *s == 0x7f || strchr("<>&", *s)) {
			fprintf(f, "\\u%04x", *s);
		} else {
			putc(*s, f);
		}
		s += n;
	}
	putc('"', f);
}

static void member(struct json_out *j, const char *key)
{
	if (j->more[j->depth])
		putc(',', j->f);
	j->more[j->depth] = true;
	if (key) {
		put_string(j->f, key);
		putc(':', j->f);
	}
}

void json_out_begin(struct json_out *j, const char *key, char bracket)
{
	if (j->depth)
		member(j, key);
	putc(bracket, j->f);
	if (j->depth + 1 >= JSON_OUT_DEPTH)
		abort();
	j->more[++j->depth] = false;
}

void json_out_end(struct json_out *j, char bracket)
{
	putc(bracket, j->f);
	j->depth--;
}

void json_out_str(struct json_out *j, const char *key, const char *s)
{
	member(j, key);
	put_string(j->f, s);
}

void json_out_u64(struct json_out *j, const char *key, uint64_t v)
{
	member(j, key);
	fprintf(j->f, "%" PRIu64, v);
}

void json_out_i64(struct json_out *j, const char *key, int64_t v)
{
	member(j, key);
	fprintf(j->f, "%" PRId64, v);
}

void json_out_bool(struct json_out *j, const char *key, bool v)
{
	member(j, key);
	fputs(v ? "true" : "false", j->f);
}

void json_out_us(struct json_out *j, const char *key, uint64_t ns)
{
	member(j, key);
	fprintf(j->f, "%" PRIu64 ".%03u", ns / 1000, (unsigned int)(ns % 1000));
}

const char *duration_text(uint64_t ns, char buf[24])
{
	double s = (double)ns / (double)NSEC_PER_SEC;

	if (ns < NSEC_PER_MSEC)
		snprintf(buf, 24, "%.0f us", s * 1e6);
	else if (ns < 100 * NSEC_PER_MSEC)
		snprintf(buf, 24, "%.1f ms", s * 1e3);
	else if (ns < NSEC_PER_SEC)
		snprintf(buf, 24, "%.0f ms", s * 1e3);
	else if (ns < 60 * NSEC_PER_SEC)
		snprintf(buf, 24, "%.2f s", s);
	else if (ns < 3600 * NSEC_PER_SEC)
		snprintf(buf, 24, "%d min %02d s", (int)(s / 60), (int)s % 60);
	else
		snprintf(buf, 24, "%d h %02d min", (int)(s / 3600) % 100000, (int)(s / 60) % 60);
	return buf;
}
