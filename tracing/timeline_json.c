// SPDX-License-Identifier: GPL-2.0-or-later
/* What is known about an item of a timeline, as JSON members: arguments in a trace, tooltip in a
 * report. */
#include <stdio.h>
#include <string.h>

#include "tracing/out.h"
#include "tracing/timeline.h"

static void str(struct json_out *j, const char *key, const char *s)
{
	if (s[0])
		json_out_str(j, key, s);
}

static void num(struct json_out *j, const char *key, uint64_t v)
{
	if (v)
		json_out_u64(j, key, v);
}

static void who(struct json_out *j, const char *comm, uint32_t tgid, uint32_t tid)
{
	str(j, "comm", comm);
	num(j, "pid", tgid);
	num(j, "tid", tid);
}

static void result(struct json_out *j, const struct tl_item *it, int32_t res)
{
	if (it->end_ns && !it->end_unknown)
		json_out_i64(j, "result", res);
}

static void ms(struct json_out *j, const char *key, uint64_t ns)
{
	char buf[24];

	if (ns)
		json_out_str(j, key, duration_text(ns, buf));
}

static void span_members(struct json_out *j, const struct tl_item *it)
{
	const struct rec_span *s = &it->span;

	str(j, "volume", s->volume);
	str(j, "key", s->key);
	num(j, "bytes", s->bytes);
	num(j, "attempt", s->attempt);
	num(j, "pid", s->pid);
	num(j, "op", s->op_id);
	num(j, "waits for op", s->link_op_id);
	if (s->is_io) {
		json_out_u64(j, "queue", s->queue);
		json_out_u64(j, "tag", s->tag);
		json_out_u64(j, "sector", s->sector);
		json_out_u64(j, "sectors", s->nsectors);
		str(j, "stage", s->stage);
	}
	result(j, it, s->result);
}

void tl_json_members(struct json_out *j, const struct tl_item *it)
{
	switch (it->kind) {
	case TL_CMD:
		str(j, "stage", rec_cmd_stage(&it->cmd));
		who(j, it->cmd.comm, it->cmd.tgid, it->cmd.tid);
		result(j, it, it->cmd.res);
		if (it->cmd.adopted)
			json_out_bool(j, "began before tracing", true);
		break;
	case TL_FREEZE:
		who(j, it->freeze.comm, it->freeze.tgid, it->freeze.tid);
		num(j, "depth", it->freeze.depth);
		if (it->freeze.adopted)
			json_out_bool(j, "began before tracing", true);
		break;
	case TL_ATTR:
		who(j, it->attr.comm, it->attr.tgid, it->attr.tid);
		str(j, "command line", it->attr.cmdline);
		ms(j, "waited for freezes", it->attr.freeze_ns);
		result(j, it, it->attr.res);
		if (it->attr.adopted)
			json_out_bool(j, "began before tracing", true);
		break;
	case TL_ELV:
		who(j, it->elv.comm, it->elv.tgid, it->elv.tid);
		ms(j, "waited for freezes", it->elv.freeze_ns);
		break;
	case TL_REQ:
		json_out_u64(j, "queue", it->req.queue);
		json_out_u64(j, "tag", it->req.tag);
		json_out_u64(j, "sector", it->req.sector);
		json_out_u64(j, "sectors", it->req.nsectors);
		str(j, "state", rec_req_state_name(it->req.state));
		num(j, "server thread", it->req.owner_tid);
		break;
	case TL_SPAN:
		span_members(j, it);
		break;
	case TL_NR:
		break;
	}
	if (!it->end_ns)
		json_out_bool(j, "open", true);
	if (it->end_unknown)
		json_out_bool(j, "end not seen", true);
}
