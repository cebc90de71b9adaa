// SPDX-License-Identifier: GPL-2.0-or-later
/* Control commands and timing events about them, matched; see join.h. */
#include "tracing/join.h"

#include <string.h>

#define PENDING  512
#define PIDS_MAX 64
#define LATE_NS  (10 * NSEC_PER_SEC)

/* Events that are about one control command each. */
static const struct {
	const char *event;
	uint32_t nr[3];
} pairs[] = {
	{"ublk.add_dev", {CMD_ADD_DEV}},
	{"ublk.set_params", {CMD_SET_PARAMS}},
	{"ublk.start_dev.command", {CMD_START_DEV}},
	{"ublk.stop_dev", {CMD_STOP_DEV, CMD_TRY_STOP_DEV}},
	{"ublk.del_dev", {CMD_DEL_DEV, CMD_DEL_DEV_ASYNC}},
};

/*
 * One that waits for its partner. Either may come first: the daemon can see the end of a command,
 * and tell it, before the kernel's own thread has left the driver.
 */
struct pending {
	uint32_t tgid;
	size_t pair; /* in pairs */
	int32_t dev; /* -1: not known */
	uint64_t start_ns, end_ns;
	bool used;
};

struct waiting {
	struct pending p[PENDING];
	unsigned int next;
};

struct join {
	struct waiting cmds, spans_waiting;
	uint32_t pid[PIDS_MAX]; /* processes that tell events */
	unsigned int nr_pids;
	uint64_t spans, spans_unmatched, kernel_unmatched;
};

int join_new(struct join **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void join_free(struct join *j)
{
	free(j);
}

static bool tells(const struct join *j, uint32_t pid)
{
	for (unsigned int i = 0; i < MIN(j->nr_pids, PIDS_MAX); i++)
		if (j->pid[i] == pid)
			return true;
	return false;
}

static size_t pair_of_cmd(uint32_t nr)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		for (size_t n = 0; n < ARRAY_SIZE(pairs[i].nr); n++)
			if (nr && pairs[i].nr[n] == nr)
				return i;
	return ARRAY_SIZE(pairs);
}

static size_t pair_of_event(const char *event)
{
	size_t i = 0;

	while (i < ARRAY_SIZE(pairs) && strcmp(pairs[i].event, event))
		i++;
	return i;
}

static void cmd_give_up(struct join *j, struct pending *p)
{
	if (p->used && tells(j, p->tgid))
		j->kernel_unmatched++;
	p->used = false;
}

static void span_give_up(struct join *j, struct pending *p)
{
	j->spans_unmatched += p->used;
	p->used = false;
}

/* Takes the partner of `want` if it waits there: the same time, process, kind and device. */
static bool take(struct waiting *w, const struct pending *want)
{
	for (size_t i = 0; i < PENDING; i++) {
		struct pending *p = &w->p[i];

		if (!p->used || p->tgid != want->tgid || p->pair != want->pair ||
		    p->start_ns > want->end_ns || p->end_ns < want->start_ns ||
		    (p->dev >= 0 && want->dev >= 0 && p->dev != want->dev))
			continue;
		p->used = false;
		return true;
	}
	return false;
}

static struct pending *place(struct waiting *w)
{
	return &w->p[w->next++ % PENDING];
}

void join_cmd(struct join *j, const struct rec_cmd *c)
{
	const struct pending p = {c->tgid,      pair_of_cmd(c->nr), c->dev,
				  c->submit_ns, c->end_ns,          true};
	struct pending *at;

	if (p.pair == ARRAY_SIZE(pairs) || take(&j->spans_waiting, &p))
		return;
	at = place(&j->cmds);
	cmd_give_up(j, at);
	*at = p;
}

void join_span(struct join *j, const struct rec_span *s, uint64_t since_ns)
{
	/* The driver chooses the id of a new device: the command does not have it. */
	const struct pending p = {s->pid, pair_of_event(s->event), s->dev, s->start_ns, s->end_ns,
				  true};
	struct pending *at;

	j->spans++;
	if (!tells(j, s->pid))
		j->pid[j->nr_pids++ % PIDS_MAX] = s->pid;
	if (p.pair == ARRAY_SIZE(pairs) || s->start_ns < since_ns || take(&j->cmds, &p))
		return;
	at = place(&j->spans_waiting);
	span_give_up(j, at);
	*at = p;
}

void join_expire(struct join *j, uint64_t now_ns_)
{
	for (size_t i = 0; i < PENDING; i++) {
		struct pending *c = &j->cmds.p[i], *s = &j->spans_waiting.p[i];

		if (now_ns_ == UINT64_MAX || c->end_ns + LATE_NS < now_ns_)
			cmd_give_up(j, c);
		if (now_ns_ == UINT64_MAX || s->end_ns + LATE_NS < now_ns_)
			span_give_up(j, s);
	}
}

void join_counts(const struct join *j, struct rec_counts *out)
{
	out->spans = j->spans;
	out->spans_unmatched = j->spans_unmatched;
	out->kernel_unmatched = j->kernel_unmatched;
}
