// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A capture: every record as a line (rec.h). It has its name from the first tick on and is
 * flushed at each tick, so that a kill costs less than one interval; a full disk ends it, and what
 * is there replays. As a flight recorder (ring_ns) the last lines are kept in memory, and before
 * them those that a replay needs whatever their age: what the session is, its hooks, and each
 * device's last server. One thread.
 */
#include "tracing/sink.h"

#include <stdio.h>
#include <string.h>

#include "lib/list.h"
#include "tracing/out.h"

/* However much happens, the ring holds no more: the oldest lines go. */
#define RING_BYTES_MAX (256 * MiB)

struct line {
	struct list_head node;
	uint64_t t_ns;
	enum rec_kind kind;
	int32_t dev; /* REC_SERVER */
	size_t len;
	char text[];
};

struct capture_sink {
	struct sink s;
	struct out *out;
	int err; /* the first failed write; nothing is written after it */
	bool published;
	uint64_t ring_ns, last_ns, until_ns; /* until_ns: lines are written through */
	bool asked;                          /* triggered, before the first record */
	struct list_head sticky, ring;
	size_t bytes;
	char buf[REC_LINE_MAX];
};

static void put_text(struct capture_sink *k, const char *text, size_t len)
{
	FILE *f = out_file(k->out);

	errno = 0;
	if (!k->err && (fwrite(text, 1, len, f) != len || putc('\n', f) == EOF))
		k->err = errno ? -errno : -EIO;
}

static void flush(struct capture_sink *k)
{
	if (k->err)
		return;
	errno = 0;
	if (fflush(out_file(k->out)))
		k->err = errno ? -errno : -EIO;
	if (!k->err && !k->published) {
		k->err = out_publish(k->out);
		k->published = !k->err;
	}
	if (k->err)
		fprintf(stderr, "gfs-trace: the capture ends here: %s\n", strerror(-k->err));
}

static void line_free(struct capture_sink *k, struct line *l)
{
	list_del(&l->node);
	k->bytes -= l->len;
	free(l);
}

/* A line grows too old for the ring: it goes, or stays as what a replay cannot do without. */
static void retire(struct capture_sink *k, struct line *l)
{
	struct line *old, *next;

	if (l->kind != REC_META && l->kind != REC_HOOK && l->kind != REC_SERVER) {
		line_free(k, l);
		return;
	}
	list_for_each_entry_safe (old, next, &k->sticky, node) {
		if (l->kind == REC_SERVER && old->kind == REC_SERVER && old->dev == l->dev)
			line_free(k, old);
	}
	list_del(&l->node);
	list_add_tail(&l->node, &k->sticky);
}

static void ring_trim(struct capture_sink *k)
{
	while (!list_empty(&k->ring)) {
		struct line *l = list_first_entry(&k->ring, struct line, node);

		if (k->last_ns - l->t_ns <= k->ring_ns && k->bytes <= RING_BYTES_MAX)
			break;
		retire(k, l);
	}
}

static void ring_add(struct capture_sink *k, const struct rec *r, size_t len)
{
	struct line *l = malloc(sizeof(*l) + len);

	if (!l) {
		k->err = k->err ? k->err : -ENOMEM;
		return;
	}
	/* Time never goes back within a capture; a record that claims so belongs to now. */
	l->t_ns = k->last_ns;
	l->kind = r->kind;
	l->dev = r->kind == REC_SERVER ? r->server.dev : -1;
	l->len = len;
	memcpy(l->text, k->buf, len);
	list_add_tail(&l->node, &k->ring);
	k->bytes += len;
	ring_trim(k);
}

static void drain(struct capture_sink *k, struct list_head *h)
{
	while (!list_empty(h)) {
		struct line *l = list_first_entry(h, struct line, node);

		put_text(k, l->text, l->len);
		line_free(k, l);
	}
}

static void capture_record(struct sink *s, const struct rec *r)
{
	struct capture_sink *k = container_of(s, struct capture_sink, s);
	int len = rec_encode(r, k->buf, sizeof(k->buf));

	if (len < 0) {
		k->err = k->err ? k->err : len;
		return;
	}
	if (r->t_ns > k->last_ns)
		k->last_ns = r->t_ns;
	if (k->asked) {
		k->asked = false;
		k->until_ns = k->last_ns + k->ring_ns;
	}
	if (k->ring_ns && k->last_ns >= k->until_ns) {
		ring_add(k, r, (size_t)len);
		return;
	}
	put_text(k, k->buf, (size_t)len);
	/* Before the first tick the session may still come to nothing. */
	if (r->kind == REC_TICK || r->kind == REC_END)
		flush(k);
}

void sink_capture_trigger(struct sink *s)
{
	struct capture_sink *k = container_of(s, struct capture_sink, s);

	if (!k->ring_ns)
		return;
	drain(k, &k->sticky);
	drain(k, &k->ring);
	flush(k);
	if (k->last_ns)
		k->until_ns = k->last_ns + k->ring_ns;
	else
		k->asked = true;
}

static int capture_close(struct sink *s, const struct model *m)
{
	struct capture_sink *k = container_of(s, struct capture_sink, s);
	struct line *l, *next;
	int ret = m ? k->err : -ECANCELED, rc;

	/* Never triggered: what the session was, and that it ended, is still worth a file. */
	if (k->ring_ns) {
		list_for_each_entry_safe (l, next, &k->ring, node) {
			if (l->kind != REC_END)
				retire(k, l);
		}
		if (!k->until_ns)
			drain(k, &k->sticky);
		drain(k, &k->ring);
		while (!list_empty(&k->sticky))
			line_free(k, list_first_entry(&k->sticky, struct line, node));
		ret = m ? k->err : -ECANCELED;
	}
	if (ret) {
		out_abandon(k->out);
	} else {
		rc = out_close(k->out);
		ret = rc;
	}
	free(k);
	return ret;
}

struct sink *sink_capture(const char *path, uint64_t ring_ns, char *err, size_t err_len)
{
	struct capture_sink *k = calloc(1, sizeof(*k));

	if (!k) {
		snprintf(err, err_len, "%s: no memory", path);
		return NULL;
	}
	k->out = out_open(path, err, err_len);
	if (!k->out) {
		free(k);
		return NULL;
	}
	k->ring_ns = ring_ns;
	list_init(&k->sticky);
	list_init(&k->ring);
	k->s = (struct sink){.record = capture_record, .close = capture_close};
	return &k->s;
}
