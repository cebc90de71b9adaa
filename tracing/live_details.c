// SPDX-License-Identifier: GPL-2.0-or-later
/* One finding on the whole screen, and the help. Text is laid out on an endless page, a window of
 * it is shown. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tracing/live_screen.h"
#include "tracing/out.h"

#define TOP 2 /* lines of the header */

/* An endless page; only lines [from, from + rows) of it reach the screen. */
struct pager {
	struct live_screen *s;
	unsigned int from, rows, line;
};

static void put_line(struct pager *p, unsigned int indent, enum live_style style, const char *text,
		     size_t len)
{
	unsigned int y = p->line++;

	if (y >= p->from && y < p->from + p->rows)
		screen_put(p->s, TOP + y - p->from, indent, style, "%.*s", (int)len, text);
}

/* A paragraph, broken at blanks; a word that is longer than a line is cut into lines. */
static void put_text(struct pager *p, unsigned int indent, enum live_style style, const char *text)
{
	size_t width = p->s->cols - indent - 1, left = strlen(text);

	do {
		size_t n = MIN(left, width);

		if (n < left) {
			size_t cut = n;

			while (cut > width / 2 && text[cut] != ' ')
				cut--;
			if (text[cut] == ' ')
				n = cut;
		}
		put_line(p, indent, style, text, n);
		text += n;
		left -= n;
		while (left && *text == ' ')
			text++, left--;
	} while (left);
}

static void __printf(4, 5)
	put(struct pager *p, unsigned int indent, enum live_style style, const char *fmt, ...)
{
	char buf[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	put_text(p, indent, style, buf);
}

static void put_stack(struct pager *p, const char *what, const char *stack)
{
	if (!stack[0])
		return;
	put(p, 5, LS_DIM, "%s stack, innermost first", what);
	while (*stack) {
		size_t len = strcspn(stack, ";");

		put_line(p, 7, LS_NORMAL, stack, len);
		stack += len + (stack[len] == ';');
	}
}

static void put_task(struct pager *p, const char *role, const struct rec_task *t, bool stacks)
{
	char state[16] = "";

	if (!t->tid)
		return;
	if (t->state)
		snprintf(state, sizeof(state), ", state %c", t->state);
	put(p, 3, LS_NORMAL, "%s %s/%u of process %u%s%s", role, t->comm, t->tid, t->tgid, state,
	    t->killed ? ", SIGKILL does not help" : "");
	if (t->cmdline[0])
		put(p, 5, LS_DIM, "%s", t->cmdline);
	if (!stacks)
		return;
	put_stack(p, "kernel", t->kstack);
	put_stack(p, "user", t->ustack);
	if (t->ustack_error[0])
		put(p, 5, LS_DIM, "user stack: %s", t->ustack_error);
}

static void put_span(struct pager *p, const struct rec_span *s, uint64_t now_ns)
{
	char age[24];

	if (s->event[0])
		put(p, 5, LS_NORMAL, "daemon: %s %s%s%s %s%s", s->event, s->key,
		    s->stage[0] ? " at " : "", s->stage,
		    live_age(s->end_ns ? s->end_ns : now_ns, s->start_ns, age),
		    s->end_ns ? "" : ", open");
}

static void put_blocker(struct pager *p, const struct live_data *d, const struct finding *f,
			unsigned int i)
{
	const struct blocker *b = &f->blocker[i];
	bool again = b->owner.tid && b->owner.tid == f->waiter.tid;
	char age[24];

	for (unsigned int k = 0; k < i && !again; k++)
		again = b->owner.tid && f->blocker[k].owner.tid == b->owner.tid;
	switch (b->type) {
	case BLK_REQUEST:
		put(p, 1, LS_NORMAL, "request %c queue %u tag %u sector %" PRIu64 "+%u %s, %s old",
		    b->req.op ? b->req.op : '?', b->req.queue, b->req.tag, b->req.sector,
		    b->req.nsectors, rec_req_state_name(b->req.state),
		    duration_text(b->age_ns, age));
		break;
	case BLK_QUEUE:
		put(p, 1, LS_NORMAL, "queue %u: %s%u of %u armed%s%s", b->queue.queue,
		    b->queue.exact ? "" : "at least ", b->queue.armed, b->queue.depth,
		    b->queue.missing[0] ? ", missing tags " : "", b->queue.missing);
		break;
	case BLK_OPENER:
		put(p, 1, LS_NORMAL, "%s/%u has the %s device: %s", b->opener.comm, b->opener.tgid,
		    b->opener.cdev ? "char" : "block", b->opener.what);
		break;
	case BLK_NO_SERVER:
		put(p, 1, LS_NORMAL, "no server: %s/%u let go %s ago", b->server.comm,
		    b->server.tgid, live_age(d->now_ns, b->server.at_ns, age));
		break;
	case BLK_TASK:
		put(p, 1, LS_NORMAL, "thread");
		break;
	}
	put_span(p, &b->io_span, d->now_ns);
	put_span(p, &b->span, d->now_ns);
	put_task(p, "held by", &b->owner, !again);
}

static void put_finding(struct pager *p, const struct live_data *d, const struct finding *f)
{
	char age[24];

	put(p, 0, f->severity == SEV_CRITICAL ? LS_CRITICAL : LS_WARNING, "%s %s  ublkb%d %s  %s%s",
	    verdict_name(f->verdict), f->catalogue ? f->catalogue : "", f->dev, f->volume,
	    live_age(f->end_ns ? f->end_ns : d->now_ns, f->since_ns, age),
	    f->end_ns ? ", ended" : ", open");
	put_text(p, 1, LS_NORMAL, f->summary);
	if (f->advice[0])
		put_text(p, 1, LS_GOOD, f->advice);
	if (f->attr.id)
		put(p, 1, LS_NORMAL, "attribute %s = %s by %s: %s", f->attr.attr, f->attr.value,
		    f->attr.comm, f->attr.cmdline);
	if (f->nr_cycle) {
		put_text(p, 0, LS_TITLE, "proven cycle");
		for (unsigned int i = 0; i < MIN(f->nr_cycle, FINDING_CYCLE); i++)
			put_text(p, 1, LS_NORMAL, f->cycle[i]);
	}
	if (f->waiter.tid) {
		put_text(p, 0, LS_TITLE, "waiter");
		put_task(p, "thread", &f->waiter, true);
	}
	if (f->nr_blockers)
		put_text(p, 0, LS_TITLE, "blockers");
	for (unsigned int i = 0; i < MIN(f->nr_blockers, FINDING_BLOCKERS); i++)
		put_blocker(p, d, f, i);
	if (f->more_blockers)
		put(p, 1, LS_DIM, "and %u more", f->more_blockers);
}

void live_render_details(struct live_view *v, const struct live_data *d, struct live_screen *s)
{
	const struct finding *f = d->finding[live_selected(v, d)];
	struct pager p = {.s = s, .from = UINT32_MAX / 2, .rows = s->rows - TOP - 1};
	unsigned int total;

	/* Once without a screen, to know how long it is. */
	put_finding(&p, d, f);
	total = p.line;
	v->scroll = MIN(v->scroll, total > p.rows ? total - p.rows : 0);
	p.line = 0;
	p.from = v->scroll;
	put_finding(&p, d, f);
	screen_put(s, s->rows - 1, 0, LS_DIM,
		   " lines %u-%u of %u  j/k scroll  n next  Enter back  q back", v->scroll + 1,
		   MIN(v->scroll + p.rows, total), total);
}

void live_render_help(struct live_screen *s)
{
	static const char *const text[] = {
		"",
		"j k, arrows    select a finding; scroll its details",
		"Enter          details of the finding: who waits, who blocks, stacks",
		"n              details of the next one",
		"s              sort devices: oldest request, device, in flight, p99",
		"PgUp PgDn      page through devices, or details",
		"p              pause: the screen stays, the session goes on",
		"q, Esc         back; q on the main screen quits",
		"",
		"p50<, p99<     half, 99 % of the requests were faster than this",
		"unmatched      events whose beginning or end was not seen",
		"not joined     daemon spans without a kernel event / commands without a span",
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(text); i++)
		screen_put(s, TOP + i, 2, LS_NORMAL, "%s", text[i]);
	screen_put(s, s->rows - 1, 0, LS_DIM, " ? or q: back");
}
