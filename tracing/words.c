// SPDX-License-Identifier: GPL-2.0-or-later
/* Words for people; see words.h. No state; any thread. */
#include "tracing/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tracing/out.h"

const char *words_op(char op)
{
	static const struct {
		char op;
		const char *name;
	} ops[] = {{'R', "read"},
		   {'W', "write"},
		   {'F', "flush"},
		   {'D', "discard"},
		   {'Z', "write-zeroes"}};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		if (ops[i].op == op)
			return ops[i].name;
	return "request";
}

const char *words_req(const struct rec_req *q, char *buf, size_t size)
{
	if (q->nsectors)
		snprintf(buf, size, "%s of %u sectors at %llu, queue %u tag %u", words_op(q->op),
			 q->nsectors, (unsigned long long)q->sector, q->queue, q->tag);
	else
		snprintf(buf, size, "%s, queue %u tag %u", words_op(q->op), q->queue, q->tag);
	return buf;
}

const char *words_span(const struct rec_span *s, uint64_t now, char *buf, size_t size)
{
	uint64_t end = s->end_ns ? s->end_ns : now;
	char dur[24];

	duration_text(end > s->start_ns ? end - s->start_ns : 0, dur);
	snprintf(buf, size, "%s%s%s, %s", s->event, s->key[0] ? " " : "", s->key, dur);
	return buf;
}

const char *words_task(const char *comm, uint32_t tgid, uint32_t tid, char *buf, size_t size)
{
	uint32_t pid = tgid ? tgid : tid;

	if (!pid)
		snprintf(buf, size, "%s", comm[0] ? comm : "someone");
	else if (tid && tgid && tid != tgid)
		snprintf(buf, size, "%s (pid %u, tid %u)", comm[0] ? comm : "?", tgid, tid);
	else
		snprintf(buf, size, "%s (pid %u)", comm[0] ? comm : "?", pid);
	return buf;
}

static uint64_t between(uint64_t from, uint64_t to, uint64_t end)
{
	if (!to)
		to = end;
	return from && to > from ? to - from : 0;
}

void words_stages(const struct rec_cmd *c, uint64_t now, struct cmd_stages *out)
{
	uint64_t end = c->end_ns ? c->end_ns : now, inside;
	/* Without the worker's hook the second entry tells that one took it. */
	uint64_t taken = c->worker_ns ? c->worker_ns : c->ctrl_ns;

	memset(out, 0, sizeof(*out));
	out->punt = between(c->punt_ns, taken, end);
	out->worker = between(c->worker_ns, c->ctrl_ns, end);
	if (c->nr == CMD_START_DEV || c->nr == CMD_END_USER_RECOVERY)
		out->ready_wait = between(c->ctrl_ns, c->add_disk_ns, end);
	out->elevator = between(c->elevator_ns, c->elevator_end_ns, end);
	out->part_scan = between(c->scan_ns, c->scan_end_ns, end);
	out->add_disk = between(c->add_disk_ns, c->add_disk_end_ns, end);
	inside = out->elevator + out->part_scan;
	out->add_disk -= MIN(out->add_disk, inside);
}

/* Well-formed sequences as in table 3-7 of the Unicode standard. */
size_t utf8_sequence(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	unsigned char lo = 0x80, hi = 0xbf;
	size_t n;

	if (!len)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		n = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		n = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		n = 4;
	else
		return 0;
	if (n > len)
		return 0;
	if (p[0] == 0xe0)
		lo = 0xa0;
	else if (p[0] == 0xed)
		hi = 0x9f;
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (p[i] < 0x80 || p[i] > 0xbf)
			return 0;
	return n;
}

char *utf8_clean(char *dst, size_t size, const char *src, size_t src_max, bool controls)
{
	size_t len = strnlen(src, src_max), out = 0;

	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence(src + i, len - i);
		unsigned char c = (unsigned char)src[i];
		/* C0, DEL, and C1 (U+0080..U+009F), which terminals obey as well. */
		bool ctl = (n == 1 && (c < 0x20 || c == 0x7f)) ||
			   (n == 2 && c == 0xc2 && (unsigned char)src[i + 1] < 0xa0);

		if (out + (n ? n : 1) >= size)
			break;
		if (!n || (ctl && !controls)) {
			dst[out++] = '?';
			i += n ? n : 1;
			continue;
		}
		memcpy(dst + out, src + i, n);
		out += n;
		i += n;
	}
	if (size)
		dst[out] = '\0';
	return dst;
}

void words_add(char *buf, size_t size, size_t *at, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (*at + 1 >= size)
		return;
	va_start(ap, fmt);
	n = vsnprintf(buf + *at, size - *at, fmt, ap);
	va_end(ap);
	if (n > 0)
		*at = MIN(*at + (size_t)n, size - 1);
}
