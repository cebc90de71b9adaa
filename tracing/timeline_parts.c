// SPDX-License-Identifier: GPL-2.0-or-later
/* How items of a timeline are drawn: their parts, titles, tracks and lanes. Pure functions. */
#include <stdio.h>
#include <string.h>

#include "tracing/timeline.h"

#define LANE_LEVELS 16

/* A time at which a part begins; 0: it did not come to that. */
struct edge {
	uint64_t at;
	const char *name;
};

/* Edges in the order in which they can happen; one that lies before its predecessor is not
 * believed. */
static unsigned int parts_of(const struct edge *e, unsigned int n, uint64_t start, uint64_t end,
			     struct tl_part parts[TL_PARTS])
{
	unsigned int nr = 0;
	uint64_t at = start;

	for (unsigned int i = 0; i < n; i++) {
		if (!e[i].at || e[i].at < at || e[i].at > end)
			continue;
		at = e[i].at;
		if (nr) {
			parts[nr - 1].end_ns = at;
			nr -= parts[nr - 1].start_ns == at;
		}
		if (nr < TL_PARTS)
			parts[nr++] = (struct tl_part){e[i].name, at, end};
	}
	return nr && parts[nr - 1].start_ns == end ? nr - 1 : nr;
}

static unsigned int cmd_parts(const struct rec_cmd *c, uint64_t start, uint64_t end,
			      struct tl_part parts[TL_PARTS])
{
	bool waits = c->nr == CMD_START_DEV || c->nr == CMD_END_USER_RECOVERY;
	/* Ended without add_disk being seen: how long it waited for FETCHes is not known. */
	bool known = c->add_disk_ns || !c->end_ns;
	bool scan_first = c->scan_ns && c->elevator_ns && c->scan_ns < c->elevator_ns;
	const struct edge elv[] = {{c->elevator_ns, "elevator"}, {c->elevator_end_ns, "add-disk"}};
	const struct edge scan[] = {{c->scan_ns, "part-scan"}, {c->scan_end_ns, "add-disk"}};
	const struct edge e[] = {
		{start, "submit"},
		{c->punt_ns, "punt"},
		{c->worker_ns, "worker"},
		{c->ctrl_ns, waits && known ? "ready-wait" : "ctrl"},
		{c->add_disk_ns, "add-disk"},
		scan_first ? scan[0] : elv[0],
		scan_first ? scan[1] : elv[1],
		scan_first ? elv[0] : scan[0],
		scan_first ? elv[1] : scan[1],
		{c->add_disk_end_ns, "finish"},
	};

	return parts_of(e, ARRAY_SIZE(e), start, end, parts);
}

unsigned int tl_parts(const struct timeline *t, const struct tl_item *it,
		      struct tl_part parts[TL_PARTS])
{
	uint64_t start = it->start_ns, end = tl_end(t, it);

	switch (it->kind) {
	case TL_CMD:
		return cmd_parts(&it->cmd, start, end, parts);
	case TL_FREEZE: {
		const struct edge e[] = {
			{start, "start"},
			{it->freeze.wait_ns, "wait"},
			{it->freeze.wait_end_ns, "frozen"},
		};

		return parts_of(e, ARRAY_SIZE(e), start, end, parts);
	}
	case TL_REQ: {
		const struct edge e[] = {
			{start, "queued"},
			{it->req.deliver_ns, "server"},
		};

		return parts_of(e, ARRAY_SIZE(e), start, end, parts);
	}
	default:
		return 0;
	}
}

static const char *op_name(char op)
{
	switch (op) {
	case 'R':
		return "read";
	case 'W':
		return "write";
	case 'F':
		return "flush";
	case 'D':
		return "discard";
	case 'Z':
		return "write zeroes";
	default:
		return "request";
	}
}

void tl_title(const struct tl_item *it, char *buf, size_t size)
{
	char name[24];

	switch (it->kind) {
	case TL_CMD:
		snprintf(buf, size, "%s", rec_cmd_name(it->cmd.nr, name));
		break;
	case TL_FREEZE:
		snprintf(buf, size, "freeze by %s", it->freeze.comm);
		break;
	case TL_ATTR:
		snprintf(buf, size, "%s = %s", it->attr.attr, it->attr.value);
		break;
	case TL_ELV:
		snprintf(buf, size, "elevator %s > %s", it->elv.from, it->elv.to);
		break;
	case TL_REQ:
		snprintf(buf, size, "%s %llu+%u", op_name(it->req.op),
			 (unsigned long long)it->req.sector, it->req.nsectors);
		break;
	case TL_SPAN:
		if (it->span.is_io)
			snprintf(buf, size, "%s %s %llu+%u", it->span.event,
				 op_name(it->span.io_op), (unsigned long long)it->span.sector,
				 it->span.nsectors);
		else
			snprintf(buf, size, "%s%s%s", it->span.event, it->span.key[0] ? " " : "",
				 it->span.key);
		break;
	case TL_NR:
		buf[0] = '\0';
		break;
	}
}

enum tl_track tl_track_of(enum tl_kind kind)
{
	static const enum tl_track track[TL_NR] = {
		[TL_CMD] = TRACK_CONTROL, [TL_FREEZE] = TRACK_FREEZE, [TL_ATTR] = TRACK_ATTR,
		[TL_ELV] = TRACK_ATTR,    [TL_REQ] = TRACK_REQ,       [TL_SPAN] = TRACK_DAEMON,
	};

	return track[kind];
}

const char *tl_track_name(enum tl_track track)
{
	static const char *const name[TRACK_NR] = {
		[TRACK_CONTROL] = "control", [TRACK_FREEZE] = "freeze", [TRACK_ATTR] = "attributes",
		[TRACK_REQ] = "requests",    [TRACK_DAEMON] = "daemon",
	};

	return name[track];
}

/* What is open at the end of one lane: the items that contain the last one. */
struct lane {
	struct {
		uint64_t end_ns, pid, op_id;
	} level[LANE_LEVELS];
	unsigned int depth;
};

static bool lane_takes(struct lane *l, const struct tl_item *it, uint64_t end)
{
	while (l->depth && l->level[l->depth - 1].end_ns <= it->start_ns)
		l->depth--;
	if (!l->depth)
		return true;
	return it->kind == TL_SPAN && it->span.op_id && l->depth < LANE_LEVELS &&
	       end <= l->level[l->depth - 1].end_ns &&
	       l->level[l->depth - 1].op_id == it->span.op_id &&
	       l->level[l->depth - 1].pid == it->span.pid;
}

unsigned int tl_assign_lanes(const struct timeline *t, struct tl_item **items, size_t n)
{
	struct lane *lanes = NULL;
	unsigned int nr = 0, cap = 0;

	for (size_t i = 0; i < n; i++) {
		struct tl_item *it = items[i];
		/* Something of no length takes its place nevertheless. */
		uint64_t end = MAX(tl_end(t, it), it->start_ns + 1);
		unsigned int l = 0;

		while (l < nr && !lane_takes(&lanes[l], it, end))
			l++;
		if (l == nr) {
			if (nr == cap) {
				struct lane *a = reallocarray(lanes, MAX(8, cap * 2), sizeof(*a));

				if (!a)
					break;
				lanes = a;
				cap = MAX(8, cap * 2);
			}
			lanes[nr++].depth = 0;
		}
		it->lane = l;
		it->level = lanes[l].depth;
		lanes[l].level[lanes[l].depth].end_ns = end;
		if (it->kind == TL_SPAN) {
			lanes[l].level[lanes[l].depth].op_id = it->span.op_id;
			lanes[l].level[lanes[l].depth].pid = it->span.pid;
		}
		lanes[l].depth++;
	}
	free(lanes);
	return nr;
}
