// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records as JSON lines, and back. One field table per kind drives both directions, so that they
 * cannot disagree; a member's type comes from the struct itself. No state; any thread.
 */
#include "tracing/rec.h"

#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "tracing/words.h"

enum field_type { F_U32, F_I32, F_U64, F_BOOL, F_CHAR, F_STR, F_U64S };

struct field {
	const char *name;
	enum field_type type;
	uint32_t offset, size;
};

#define MEMBER(k, m) (((struct rec *)0)->k.m)
#define F(k, m)                                                               \
	{                                                                     \
#m,                                                                         \
		_Generic(MEMBER(k, m), uint32_t: F_U32, int32_t: F_I32, uint64_t: F_U64,    \
			 bool: F_BOOL, char: F_CHAR, char *: F_STR, uint64_t *: F_U64S),    \
		offsetof(struct rec, k.m), sizeof(MEMBER(k, m)) \
	}
#define END                   \
	{                     \
		NULL, 0, 0, 0 \
	}

/* clang-format off */
static const struct field f_meta[] = {
	F(meta, version), F(meta, tool), F(meta, kernel), F(meta, host), F(meta, wall_ns),
	F(meta, budget_start_dev_ns), F(meta, budget_cmd_ns), F(meta, budget_freeze_ns),
	F(meta, budget_attr_ns), F(meta, budget_request_ns), F(meta, filter_pid), F(meta, filter_dev),
	F(meta, filter_volume), END };
static const struct field f_hook[] = { F(hook, hook), F(hook, variant), F(hook, reason), END };
static const struct field f_dev[] = {
	F(dev, dev), F(dev, volume), F(dev, state), F(dev, nr_queues), F(dev, depth), F(dev, tgid),
	F(dev, comm), F(dev, flags), F(dev, size_sectors), F(dev, freeze_depth), F(dev, started), END };
static const struct field f_queue[] = {
	F(queue, dev), F(queue, queue), F(queue, depth), F(queue, armed), F(queue, exact), F(queue, guessed),
	F(queue, missing), F(queue, owner_tid), F(queue, owner_comm), END };
static const struct field f_req[] = {
	F(req, dev), F(req, queue), F(req, tag), F(req, op), F(req, sector), F(req, nsectors),
	F(req, start_ns), F(req, deliver_ns), F(req, end_ns), F(req, state), F(req, owner_tid), END };
static const struct field f_snap_end[] = { F(snap_end, dev), END };
static const struct field f_cmd[] = {
	F(cmd, id), F(cmd, dev), F(cmd, nr), F(cmd, tgid), F(cmd, comm), F(cmd, tid), F(cmd, submit_ns),
	F(cmd, punt_ns), F(cmd, worker_ns), F(cmd, ctrl_ns), F(cmd, add_disk_ns), F(cmd, add_disk_end_ns),
	F(cmd, elevator_ns), F(cmd, elevator_end_ns), F(cmd, scan_ns), F(cmd, scan_end_ns), F(cmd, end_ns),
	F(cmd, res), F(cmd, adopted), END };
static const struct field f_freeze[] = {
	F(freeze, id), F(freeze, dev), F(freeze, tid), F(freeze, tgid), F(freeze, comm),
	F(freeze, start_ns), F(freeze, wait_ns), F(freeze, wait_end_ns), F(freeze, end_ns),
	F(freeze, depth), F(freeze, adopted), END };
static const struct field f_attr[] = {
	F(attr, id), F(attr, dev), F(attr, attr), F(attr, value), F(attr, tid), F(attr, tgid),
	F(attr, comm), F(attr, cmdline), F(attr, start_ns), F(attr, end_ns), F(attr, res),
	F(attr, freeze_ns), F(attr, adopted), END };
static const struct field f_elv[] = {
	F(elv, id), F(elv, dev), F(elv, from), F(elv, to), F(elv, tid), F(elv, tgid), F(elv, comm),
	F(elv, start_ns), F(elv, end_ns), F(elv, freeze_ns), END };
static const struct field f_task[] = {
	F(task, tid), F(task, tgid), F(task, ppid), F(task, comm), F(task, cmdline), F(task, state),
	F(task, kstack), F(task, ustack), F(task, ustack_error), F(task, killed), END };
static const struct field f_opener[] = {
	F(opener, dev), F(opener, cdev), F(opener, tgid), F(opener, comm), F(opener, what), END };
static const struct field f_server[] = {
	F(server, dev), F(server, tgid), F(server, comm), F(server, gone), F(server, at_ns), END };
static const struct field f_span[] = {
	F(span, open), F(span, pid), F(span, event), F(span, volume), F(span, dev), F(span, op_id),
	F(span, link_op_id), F(span, start_ns), F(span, end_ns), F(span, result), F(span, key),
	F(span, bytes), F(span, attempt), F(span, is_io), F(span, io_op), F(span, queue), F(span, tag),
	F(span, sector), F(span, nsectors), F(span, stage), END };
static const struct field f_kmsg[] = { F(kmsg, what), F(kmsg, line), END };
static const struct field f_hist[] = {
	F(hist, dev), F(hist, what), F(hist, op), F(hist, count), F(hist, sum_ns), F(hist, bucket), END };
static const struct field f_counts[] = {
	F(counts, events), F(counts, dropped), F(counts, unmatched_cmds), F(counts, unmatched_freezes),
	F(counts, spans), F(counts, spans_unmatched), F(counts, kernel_unmatched), END };
static const struct field f_none[] = { END };

static const struct field *const fields[] = {
	[REC_META] = f_meta, [REC_HOOK] = f_hook, [REC_DEV] = f_dev, [REC_QUEUE] = f_queue,
	[REC_REQ] = f_req, [REC_SNAP_END] = f_snap_end, [REC_CMD] = f_cmd, [REC_FREEZE] = f_freeze,
	[REC_ATTR] = f_attr, [REC_ELV] = f_elv, [REC_TASK] = f_task, [REC_OPENER] = f_opener,
	[REC_SERVER] = f_server, [REC_SPAN] = f_span, [REC_KMSG] = f_kmsg, [REC_HIST] = f_hist,
	[REC_COUNTS] = f_counts, [REC_TICK] = f_none, [REC_END] = f_none,
};
/* clang-format on */
_Static_assert(ARRAY_SIZE(fields) == REC_END + 1, "each kind has a table");

/* Output that remembers whether it overflowed. */
struct out {
	char *buf;
	size_t at, size;
	bool full;
};

static void put(struct out *o, const char *s, size_t len)
{
	if (o->full || len >= o->size - o->at) {
		o->full = true;
		return;
	}
	memcpy(o->buf + o->at, s, len);
	o->at += len;
}

static void puts_(struct out *o, const char *s)
{
	put(o, s, strlen(s));
}

static void put_num(struct out *o, bool negative, uint64_t v)
{
	char tmp[24];
	int n = snprintf(tmp, sizeof(tmp), "%s%llu", negative ? "-" : "", (unsigned long long)v);

	put(o, tmp, (size_t)n);
}

static void put_str(struct out *o, const char *s, size_t max)
{
	size_t len = strnlen(s, max);

	puts_(o, "\"");
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence(s + i, len - i);
		unsigned char c = (unsigned char)s[i];
		char esc[8] = "";

		if (!n) {
			puts_(o, "?");
			n = 1;
		} else if (c == '"' || c == '\\') {
			esc[0] = '\\';
			esc[1] = (char)c;
			put(o, esc, 2);
		} else if (c < 0x20 || c == 0x7f) {
			snprintf(esc, sizeof(esc), "\\u%04x", c);
			puts_(o, esc);
		} else {
			put(o, s + i, n);
		}
		i += n;
	}
	puts_(o, "\"");
}

static bool field_is_zero(const struct field *f, const char *p)
{
	if (f->type == F_STR)
		return !p[0];
	for (uint32_t i = 0; i < f->size; i++)
		if (p[i])
			return false;
	return true;
}

static void put_array(struct out *o, const uint64_t *v, size_t nr)
{
	while (nr && !v[nr - 1])
		nr--;
	puts_(o, "[");
	for (size_t i = 0; i < nr; i++) {
		if (i)
			puts_(o, ",");
		put_num(o, false, v[i]);
	}
	puts_(o, "]");
}

static void put_field(struct out *o, const struct field *f, const char *p)
{
	int32_t i32;
	uint32_t u32;
	uint64_t u64;

	puts_(o, ",\"");
	puts_(o, f->name);
	puts_(o, "\":");
	switch (f->type) {
	case F_U32:
		memcpy(&u32, p, sizeof(u32));
		put_num(o, false, u32);
		break;
	case F_I32:
		memcpy(&i32, p, sizeof(i32));
		put_num(o, i32 < 0, i32 < 0 ? (uint64_t)(-(int64_t)i32) : (uint64_t)i32);
		break;
	case F_U64:
		memcpy(&u64, p, sizeof(u64));
		put_num(o, false, u64);
		break;
	case F_BOOL:
		puts_(o, "true");
		break;
	case F_CHAR:
		put_str(o, p, 1);
		break;
	case F_STR:
		put_str(o, p, f->size);
		break;
	case F_U64S:
		put_array(o, (const uint64_t *)(const void *)p, f->size / sizeof(uint64_t));
		break;
	}
}

int rec_encode(const struct rec *r, char *buf, size_t size)
{
	struct out o = {.buf = buf, .size = size};
	const char *kind = rec_kind_name(r->kind);

	if (!kind)
		return -EINVAL;
	if (!size)
		return -ENOSPC;
	puts_(&o, "{\"t_ns\":");
	put_num(&o, false, r->t_ns);
	puts_(&o, ",\"kind\":\"");
	puts_(&o, kind);
	puts_(&o, "\"");
	for (const struct field *f = fields[r->kind]; f->name; f++) {
		const char *p = (const char *)r + f->offset;

		if (!field_is_zero(f, p))
			put_field(&o, f, p);
	}
	puts_(&o, "}");
	if (o.full || o.at > INT_MAX)
		return -ENOSPC;
	buf[o.at] = '\0';
	return (int)o.at;
}

static bool get_u64(struct json_object *v, uint64_t max, uint64_t *out)
{
	if (json_object_get_type(v) != json_type_int || json_object_get_int64(v) < 0)
		return false;
	*out = json_object_get_uint64(v);
	return *out <= max;
}

static bool get_str(struct json_object *v, char *p, uint32_t size)
{
	if (json_object_get_type(v) != json_type_string)
		return false;
	utf8_clean(p, size, json_object_get_string(v), (size_t)json_object_get_string_len(v), true);
	return true;
}

static bool get_array(struct json_object *v, char *p, uint32_t size)
{
	size_t nr;

	if (json_object_get_type(v) != json_type_array)
		return false;
	nr = json_object_array_length(v);
	if (nr > size / sizeof(uint64_t))
		return false;
	for (size_t i = 0; i < nr; i++) {
		uint64_t n;

		if (!get_u64(json_object_array_get_idx(v, i), UINT64_MAX, &n))
			return false;
		memcpy(p + i * sizeof(n), &n, sizeof(n));
	}
	return true;
}

static bool get_field(struct json_object *v, const struct field *f, char *p)
{
	uint64_t n;
	uint32_t u32;
	int64_t i;
	int32_t i32;
	bool b;
	char c[2];

	switch (f->type) {
	case F_U32:
		if (!get_u64(v, UINT32_MAX, &n))
			return false;
		u32 = (uint32_t)n;
		memcpy(p, &u32, sizeof(u32));
		return true;
	case F_I32:
		i = json_object_get_int64(v);
		if (json_object_get_type(v) != json_type_int || i < INT32_MIN || i > INT32_MAX)
			return false;
		i32 = (int32_t)i;
		memcpy(p, &i32, sizeof(i32));
		return true;
	case F_U64:
		if (!get_u64(v, UINT64_MAX, &n))
			return false;
		memcpy(p, &n, sizeof(n));
		return true;
	case F_BOOL:
		if (json_object_get_type(v) != json_type_boolean)
			return false;
		b = json_object_get_boolean(v);
		memcpy(p, &b, sizeof(b));
		return true;
	case F_CHAR:
		if (!get_str(v, c, sizeof(c)))
			return false;
		*p = c[0];
		return true;
	case F_STR:
		return get_str(v, p, f->size);
	case F_U64S:
		return get_array(v, p, f->size);
	}
	return false;
}

static int decode_object(struct json_object *o, struct rec *out, char *err, size_t err_len)
{
	struct json_object *v;
	const char *kind;
	size_t k;

	if (json_object_get_type(o) != json_type_object ||
	    !json_object_object_get_ex(o, "kind", &v) ||
	    json_object_get_type(v) != json_type_string) {
		snprintf(err, err_len, "not a record: no kind");
		return -EBADMSG;
	}
	kind = json_object_get_string(v);
	for (k = 0; k < ARRAY_SIZE(fields); k++)
		if (rec_kind_name((enum rec_kind)k) &&
		    strcmp(rec_kind_name((enum rec_kind)k), kind) == 0)
			break;
	if (k == ARRAY_SIZE(fields)) {
		snprintf(err, err_len, "kind \"%.40s\" is not known to this version", kind);
		return -EPROTONOSUPPORT;
	}
	out->kind = (enum rec_kind)k;
	if (!json_object_object_get_ex(o, "t_ns", &v) || !get_u64(v, UINT64_MAX, &out->t_ns)) {
		snprintf(err, err_len, "%s record without a valid t_ns", kind);
		return -EBADMSG;
	}
	for (const struct field *f = fields[k]; f->name; f++) {
		if (!json_object_object_get_ex(o, f->name, &v))
			continue;
		if (!get_field(v, f, (char *)out + f->offset)) {
			snprintf(err, err_len, "%s record: \"%s\" is not valid: %.60s", kind,
				 f->name, json_object_to_json_string(v));
			return -EBADMSG;
		}
	}
	return 0;
}

int rec_decode(const char *line, size_t len, struct rec *out, char *err, size_t err_len)
{
	struct json_tokener *tok;
	struct json_object *o;
	int ret = -EBADMSG;

	memset(out, 0, sizeof(*out));
	if (len > INT_MAX) {
		snprintf(err, err_len, "line of %zu bytes", len);
		return -EBADMSG;
	}
	tok = json_tokener_new_ex(8);
	if (!tok) {
		snprintf(err, err_len, "no memory");
		return -ENOMEM;
	}
	json_tokener_set_flags(tok, JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(tok, line, (int)len);
	if (!o || json_tokener_get_parse_end(tok) != len)
		snprintf(err, err_len, "not one JSON object: %s",
			 json_tokener_error_desc(json_tokener_get_error(tok)));
	else
		ret = decode_object(o, out, err, err_len);
	json_object_put(o);
	json_tokener_free(tok);
	return ret;
}
