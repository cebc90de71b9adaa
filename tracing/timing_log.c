// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon's JSON timing log (the lines of lib/timing.c) as closed spans. The file may be cut
 * anywhere, may have come through a journal that put something in front of each line, and may hold
 * lines of others; nothing in it is trusted. One thread, no state.
 */
#include "tracing/daemon_spans.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES  (16 * 1024) /* the daemon's own are a quarter of it at most */
#define DEPTH_MAX   8
#define TARGET      "glidefs.timing"
#define LOST_MARKER "timing.dropped"

static const char *str_get(struct json_object *o, const char *name)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, name, &v) || !json_object_is_type(v, json_type_string))
		return "";
	return json_object_get_string(v);
}

/* fallback if it is missing or not a number. */
static uint64_t num_get(struct json_object *o, const char *name, uint64_t fallback)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, name, &v) || !json_object_is_type(v, json_type_int))
		return fallback;
	/* What is negative or too large is clamped by the library, each in its own direction. */
	return json_object_get_int64(v) < 0 ? (uint64_t)json_object_get_int64(v)
					    : json_object_get_uint64(v);
}

static void str_take(char *dst, size_t size, const char *src)
{
	size_t n = strnlen(src, size - 1);

	memcpy(dst, src, n);
	dst[n] = '\0';
}

static bool event_rec(struct json_object *o, struct rec *r)
{
	struct rec_span *s = &r->span;
	const char *op = str_get(o, "op");

	memset(r, 0, sizeof(*r));
	r->kind = REC_SPAN;
	str_take(s->event, sizeof(s->event), str_get(o, "event"));
	s->end_ns = num_get(o, "mono_ns", 0);
	s->start_ns = num_get(o, "start_ns", 0);
	if (!s->event[0] || !s->start_ns || s->start_ns > s->end_ns || s->end_ns > INT64_MAX)
		return false;
	r->t_ns = s->end_ns;
	str_take(s->volume, sizeof(s->volume), str_get(o, "export"));
	str_take(s->key, sizeof(s->key), str_get(o, "key"));
	s->dev = (int32_t)num_get(o, "dev_id", UINT64_MAX);
	s->op_id = num_get(o, "op_id", 0);
	s->result = (int32_t)num_get(o, "result", 0);
	s->bytes = num_get(o, "bytes", 0);
	s->attempt = (uint32_t)num_get(o, "attempt", 0);
	s->is_io = op[0] && num_get(o, "tag", UINT64_MAX) != UINT64_MAX;
	if (!s->is_io)
		return true;
	s->io_op = op[0] >= 'A' && op[0] <= 'Z' ? op[0] : '?';
	s->queue = (uint32_t)num_get(o, "queue", 0);
	s->tag = (uint32_t)num_get(o, "tag", 0);
	s->sector = num_get(o, "sector", 0);
	s->nsectors = (uint32_t)num_get(o, "nsectors", 0);
	str_take(s->stage, sizeof(s->stage), str_get(o, "stage"));
	return true;
}

struct log_reader {
	struct json_tokener *tok;
	struct rec rec;
	void (*fn)(void *ctx, const struct rec *r);
	void *ctx;
	uint64_t bad;
};

/* One line, of any content. True: it was an event. */
static bool line_read(struct log_reader *lr, const char *line, size_t len)
{
	const char *json = memchr(line, '{', len);
	struct json_object *o;
	bool event = false;

	json_tokener_reset(lr->tok);
	o = json ? json_tokener_parse_ex(lr->tok, json, (int)(line + len - json)) : NULL;
	if (json_object_is_type(o, json_type_object) && !strcmp(str_get(o, "target"), TARGET)) {
		if (!strcmp(str_get(o, "event"), LOST_MARKER)) {
			/* As many events are missing here; the marker itself is in order. */
			lr->bad += num_get(o, "dropped", 1) - 1;
		} else {
			event = event_rec(o, &lr->rec);
		}
	}
	json_object_put(o);
	if (event)
		lr->fn(lr->ctx, &lr->rec);
	else
		lr->bad++;
	return event;
}

int timing_log_read(const char *path, void (*fn)(void *ctx, const struct rec *r), void *ctx,
		    uint64_t *bad)
{
	struct log_reader *lr = calloc(1, sizeof(*lr));
	char *line = malloc(LINE_BYTES);
	FILE *f = NULL;
	bool too_long = false;
	size_t len = 0;
	int events = 0, r = -ENOMEM, c;

	if (!lr || !line)
		goto out;
	lr->fn = fn;
	lr->ctx = ctx;
	lr->tok = json_tokener_new_ex(DEPTH_MAX);
	if (!lr->tok)
		goto out;
	f = fopen(path, "re");
	if (!f) {
		r = -errno;
		goto out;
	}
	do {
		c = getc_unlocked(f);
		if (c != '\n' && c != EOF) {
			if (len < LINE_BYTES)
				line[len++] = (char)c;
			else
				too_long = true;
			continue;
		}
		if (too_long)
			lr->bad++;
		else if (len && line_read(lr, line, len) && events < INT32_MAX)
			events++;
		len = 0;
		too_long = false;
	} while (c != EOF);
	r = ferror(f) ? -EIO : events;
	*bad = lr->bad;
out:
	if (f)
		fclose(f);
	if (lr && lr->tok)
		json_tokener_free(lr->tok);
	free(line);
	free(lr);
	return r;
}
