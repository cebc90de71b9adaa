// SPDX-License-Identifier: GPL-2.0-or-later
/* Captures, read back; see replay.h. One thread, that of the caller. */
#include "tracing/replay.h"

#include <stdio.h>
#include <string.h>

/* No record is that long; without a bound a file without newlines would be read into memory whole.
 */
#define LINE_MAX_BYTES (4 * REC_LINE_MAX)

struct reader {
	FILE *f;
	const char *path;
	char *buf;
	uint64_t last_ns;
	bool begun; /* the first line was a session's */
};

/* The next line into r->buf: its length, -1 at the end. Too long: *skipped, cut at the bound. */
static ssize_t next_line(struct reader *r, bool *complete, bool *skipped)
{
	size_t len = 0;
	int c;

	*complete = *skipped = false;
	while ((c = getc_unlocked(r->f)) != EOF) {
		if (c == '\n') {
			*complete = true;
			break;
		}
		if (len < LINE_MAX_BYTES)
			r->buf[len++] = (char)c;
		else
			*skipped = true;
	}
	return c == EOF && !len ? -1 : (ssize_t)len;
}

static int begin(struct reader *r, const struct rec *rec, char *err, size_t err_len)
{
	if (rec->kind != REC_META || !rec->meta.version) {
		snprintf(err, err_len, "%s: is no capture: it does not begin with a meta record",
			 r->path);
		return -EBADMSG;
	}
	if (rec->meta.version > REC_VERSION) {
		snprintf(err, err_len, "%s: capture of version %u, this program reads up to %d",
			 r->path, rec->meta.version, REC_VERSION);
		return -EPROTONOSUPPORT;
	}
	r->begun = true;
	return 0;
}

static int one_line(struct reader *r, size_t len, bool complete, bool skipped, struct rec *rec,
		    int (*fn)(void *ctx, const struct rec *r), void *ctx, struct capture_stats *st,
		    char *err, size_t err_len)
{
	char why[160] = "line too long";
	int ret = skipped ? -EBADMSG : rec_decode(r->buf, len, rec, why, sizeof(why));

	if (!complete)
		st->cut = true;
	if (ret == -ENOMEM)
		return ret;
	if (ret && !r->begun) {
		snprintf(err, err_len, "%s: is no capture: %s", r->path, why);
		return -EBADMSG;
	}
	if (ret == -EPROTONOSUPPORT) {
		st->unknown++;
		return 0;
	}
	if (ret) {
		/* A cut last line is what a kill leaves; anything else is damage. */
		st->corrupt += complete;
		return 0;
	}
	if (!r->begun) {
		ret = begin(r, rec, err, err_len);
		if (ret)
			return ret;
	}
	/* Time that goes back is damage too, but the rest of the record may well be right. */
	if (rec->t_ns < r->last_ns)
		rec->t_ns = r->last_ns;
	r->last_ns = rec->t_ns;
	st->records++;
	st->ended = rec->kind == REC_END;
	return fn(ctx, rec);
}

int capture_read(const char *path, int (*fn)(void *ctx, const struct rec *r), void *ctx,
		 struct capture_stats *st, char *err, size_t err_len)
{
	struct reader r = {.path = path};
	bool complete, skipped;
	struct rec *rec = NULL;
	ssize_t len;
	int ret = 0;

	memset(st, 0, sizeof(*st));
	r.f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	if (!r.f) {
		ret = -errno;
		snprintf(err, err_len, "%s: %s", path, strerror(errno));
		return ret;
	}
	rec = malloc(sizeof(*rec));
	r.buf = malloc(LINE_MAX_BYTES);
	if (!rec || !r.buf) {
		ret = -ENOMEM;
		snprintf(err, err_len, "%s: no memory", path);
		goto out;
	}
	while (!ret && (len = next_line(&r, &complete, &skipped)) >= 0)
		if (len)
			ret = one_line(&r, (size_t)len, complete, skipped, rec, fn, ctx, st, err,
				       err_len);
	if (!ret && ferror(r.f)) {
		ret = -EIO;
		snprintf(err, err_len, "%s: cannot be read", path);
	} else if (!ret && !r.begun) {
		ret = -EBADMSG;
		snprintf(err, err_len, "%s: is no capture: it is empty", path);
	}
out:
	free(r.buf);
	free(rec);
	if (r.f != stdin)
		fclose(r.f);
	return ret;
}
