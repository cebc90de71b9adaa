// SPDX-License-Identifier: GPL-2.0-or-later
/* Control commands and timing events about them, matched; see join.h. */
#include "tracing/join.h"

#include <string.h>

#define PENDING  512
#define PIDS_MAX 64
#define LATE_NS  (10 * NSEC_PER_SEC)
/* A daemon's stamps lie around the kernel's; this much the other way is rounding. */
#define SLACK_NS (1 * NSEC_PER_MSEC)

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

struct pending {
	uint32_t tgid, nr;
	uint64_t start_ns, end_ns;
	bool used;
};

struct join {
	struct pending cmd[PENDING];
	unsigned int next;
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

static bool in_table(uint32_t nr)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++)
		for (size_t n = 0; n < ARRAY_SIZE(pairs[i].nr); n++)
			if (nr && pairs[i].nr[n] == nr)
				return true;
	return false;
}

static void give_up(struct join *j, struct pending *p)
{
	if (p->used && tells(j, p->tgid))
		j->kernel_unmatched++;
	p->used = false;
}

void join_cmd(struct join *j, const struct rec_cmd *c)
{
	struct pending *p = &j->cmd[j->next % PENDING];

	if (!in_table(c->nr))
		return;
	give_up(j, p);
	*p = (struct pending){c->tgid, c->nr, c->submit_ns, c->end_ns, true};
	j->next++;
}

static bool kind_matches(size_t pair, uint32_t nr)
{
	for (size_t n = 0; n < ARRAY_SIZE(pairs[pair].nr); n++)
		if (nr && pairs[pair].nr[n] == nr)
			return true;
	return false;
}

void join_span(struct join *j, const struct rec_span *s, uint64_t since_ns)
{
	size_t pair = 0;

	j->spans++;
	if (!tells(j, s->pid))
		j->pid[j->nr_pids++ % PIDS_MAX] = s->pid;
	while (pair < ARRAY_SIZE(pairs) && strcmp(pairs[pair].event, s->event))
		pair++;
	if (pair == ARRAY_SIZE(pairs) || s->start_ns < since_ns)
		return;
	for (size_t i = 0; i < PENDING; i++) {
		struct pending *p = &j->cmd[i];

		if (p->used && p->tgid == s->pid && kind_matches(pair, p->nr) &&
		    p->start_ns + SLACK_NS >= s->start_ns && p->end_ns <= s->end_ns + SLACK_NS) {
			p->used = false;
			return;
		}
	}
	j->spans_unmatched++;
}

void join_expire(struct join *j, uint64_t now_ns_)
{
	for (size_t i = 0; i < PENDING; i++) {
		struct pending *p = &j->cmd[i];

		if (p->used && (now_ns_ == UINT64_MAX || p->end_ns + LATE_NS < now_ns_))
			give_up(j, p);
	}
}

void join_counts(const struct join *j, struct rec_counts *out)
{
	out->spans = j->spans;
	out->spans_unmatched = j->spans_unmatched;
	out->kernel_unmatched = j->kernel_unmatched;
}
