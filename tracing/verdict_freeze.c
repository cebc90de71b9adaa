// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Freezes that wait, and the attribute writes and elevator switches that caused them. A deadlock is
 * said only when the cycle closes on evidence taken while the freeze waited.
 */
#include "tracing/model_priv.h"

#include <stdio.h>
#include <string.h>

/* A server that came back has this long to serve what was left over before it is blamed. */
static bool just_back(const struct model *m, const struct mdev *d)
{
	return d && d->back_ns && since(m->now, d->back_ns) < m->cfg.freeze_ns;
}

/*
 * Does a freeze that was last told as waiting at told_ns wait for want of a server? One that goes
 * away during the wait often ends it: its requests fail, a moment later. So the wait must have been
 * seen to go on for a budget after that.
 */
static bool serverless(const struct model *m, const struct rec_freeze *z, uint64_t told_ns,
		       struct rec_server *who)
{
	return verdict_no_server(m, z->dev, z->wait_ns, who) &&
	       (who->at_ns <= z->wait_ns || since(told_ns, who->at_ns) >= m->cfg.freeze_ns);
}

static const struct rec_attr *attr_of(const struct model *m, const struct rec_freeze *z)
{
	uint64_t until = z->wait_end_ns ? z->wait_end_ns : m->now;
	struct mattr *a;

	for (size_t i = 0; (a = vec_at(&m->attr, i)); i++)
		if (a->a.tid == z->tid && a->a.dev == z->dev && a->a.start_ns <= until &&
		    (!a->a.end_ns || a->a.end_ns >= z->wait_ns))
			return &a->a;
	return NULL;
}

static void set_waiter(struct model *m, struct finding *f, uint32_t tid, uint32_t tgid,
		       const char *comm, const char *cmdline)
{
	const struct rec_task *t = model_task(m, tid, f->since_ns);

	if (t)
		f->waiter = *t;
	f->waiter.tid = tid;
	if (!f->waiter.tgid)
		f->waiter.tgid = tgid;
	if (!f->waiter.comm[0])
		snprintf(f->waiter.comm, REC_COMM_LEN, "%.15s", comm);
	if (!f->waiter.cmdline[0] && cmdline)
		snprintf(f->waiter.cmdline, sizeof(f->waiter.cmdline), "%s", cmdline);
}

/* Is `frame` (up to its offset or module) one of the functions of a stack? */
static bool stack_has(const char *stack, const char *frame)
{
	size_t len = strlen(frame);

	for (const char *p = stack; *p;) {
		const char *end = strchr(p, ';');

		if (strncmp(p, frame, len) == 0 &&
		    !(p[len] == '_' || (p[len] >= 'a' && p[len] <= 'z') ||
		      (p[len] >= '0' && p[len] <= '9')))
			return true;
		if (!end)
			return false;
		p = end + 1;
	}
	return false;
}

/* Any thread of a process that was told since; its parent is the same for all. */
static uint32_t parent_of(const struct model *m, uint32_t tgid)
{
	struct mtask *t;

	for (size_t i = 0; (t = vec_at(&m->task, i)); i++)
		if (t->t.tgid == tgid && t->t.ppid)
			return t->t.ppid;
	return 0;
}

static bool descends(const struct model *m, uint32_t tgid, uint32_t ancestor)
{
	for (unsigned int i = 0; i < 32 && tgid && tgid != 1; i++) {
		tgid = parent_of(m, tgid);
		if (tgid == ancestor)
			return ancestor != 0;
	}
	return false;
}

static bool waits_for_child(const struct rec_task *t)
{
	static const char *const frames[] = {"do_wait", "kernel_wait4", "kernel_waitid"};

	for (size_t i = 0; i < ARRAY_SIZE(frames); i++)
		if (stack_has(t->kstack, frames[i]))
			return true;
	return false;
}

/* The request goes to the front: it is what the cycle is about. */
static void cycle_first(struct finding *f, unsigned int i)
{
	struct blocker b = f->blocker[i];

	memmove(&f->blocker[1], &f->blocker[0], i * sizeof(b));
	f->blocker[0] = b;
}

static void say_cycle(struct finding *f, const struct blocker *b, bool child)
{
	const struct rec_task *w = &f->waiter, *o = &b->owner;
	const size_t size = sizeof(f->cycle[0]);
	const struct rec_req *q = &b->req;

	snprintf(f->cycle[0], size, "%s (pid %u, tid %u) waits for the freeze of ublkb%d", w->comm,
		 w->tgid, w->tid, f->dev);
	snprintf(f->cycle[1], size, "the freeze of ublkb%d waits for the %s, queue %u tag %u",
		 f->dev, q->op == 'R' ? "read" : "request", q->queue, q->tag);
	snprintf(f->cycle[2], size,
		 "the %s, queue %u tag %u, waits for %s (pid %u, tid %u), which has it",
		 q->op == 'R' ? "read" : "request", q->queue, q->tag, o->comm, o->tgid, o->tid);
	f->nr_cycle = 3;
	if (child)
		snprintf(f->cycle[f->nr_cycle++], size,
			 "%s (pid %u, tid %u) waits for its child %s (pid %u) to end", o->comm,
			 o->tgid, o->tid, w->comm, w->tgid);
}

/* Looks for a request whose thread is, or waits for, the waiter. Evidence from before the wait does
 * not count. */
static bool prove_cycle(struct model *m, struct finding *f, uint64_t from)
{
	for (unsigned int i = 0; i < f->nr_blockers; i++) {
		const struct blocker *b = &f->blocker[i];
		const struct rec_task *o;
		bool same, child;

		if (b->type != BLK_REQUEST || b->req.state != REQ_SERVER || !b->req.owner_tid)
			continue;
		same = b->req.owner_tid == f->waiter.tid;
		o = model_task(m, b->req.owner_tid, from);
		child = !same && o && waits_for_child(o) && o->tgid != f->waiter.tgid &&
			descends(m, f->waiter.tgid, o->tgid);
		if (!same && !child)
			continue;
		cycle_first(f, i);
		say_cycle(f, &f->blocker[0], child);
		return true;
	}
	return false;
}

static void add_no_server(struct model *m, struct finding *f, const struct rec_server *who)
{
	struct blocker *b = verdict_blocker(f, BLK_NO_SERVER);

	if (!b)
		return;
	b->server = *who;
	b->age_ns = who->at_ns ? since(m->now, who->at_ns) : 0;
}

static void draw_freeze(struct model *m, const struct mfreeze *x, uint64_t end_ns)
{
	const struct rec_freeze *z = &x->f;
	struct subject s = {.family = FAM_FREEZE, .dev = z->dev, .id = z->id};
	struct mfinding *was = verdict_find(m, &s);
	const struct mdev *d = model_find_dev(m, z->dev);
	struct finding *f = verdict_begin(m, z->dev);
	const struct rec_attr *a = attr_of(m, z);
	const struct rec_cmd *c = verdict_cmd_of(m, z->tid, z->wait_ns, end_ns);
	struct rec_server who;

	f->verdict = V_FREEZE_PINNED;
	f->since_ns = z->wait_ns;
	f->end_ns = end_ns;
	f->freeze = *z;
	snprintf(f->stage, sizeof(f->stage), "freeze");
	set_waiter(m, f, z->tid, z->tgid, z->comm, a ? a->cmdline : NULL);
	if (a) {
		f->attr = *a;
		f->catalogue = "H10";
	}
	if (c)
		f->cmd = *c;
	if (!end_ns && serverless(m, z, x->told_ns, &who)) {
		f->verdict = V_FREEZE_NO_SERVER;
		f->catalogue = "H15";
		add_no_server(m, f, &who);
	} else if (!end_ns && was && was->f.verdict == V_FREEZE_NO_SERVER && just_back(m, d)) {
		f->verdict = V_FREEZE_NO_SERVER;
		f->catalogue = "H15";
		if (was->f.nr_blockers && was->f.blocker[0].type == BLK_NO_SERVER)
			add_no_server(m, f, &was->f.blocker[0].server);
	}
	if (!verdict_add_reqs(m, f, model_snap(m, z->dev, z->wait_ns, end_ns), NULL) && end_ns)
		verdict_add_done(m, f, z->wait_ns, end_ns, NULL);
	if (f->verdict == V_FREEZE_PINNED && !end_ns && prove_cycle(m, f, z->wait_ns)) {
		f->verdict = V_FREEZE_SELF;
		f->catalogue = "H10";
	}
	/* Nothing holds the queue any more: the freeze is about to end, and what held it has been
	 * said. */
	if (was && !end_ns && f->verdict == V_FREEZE_PINNED && !f->nr_blockers &&
	    was->f.nr_blockers)
		return;
	verdict_put(m, &s, f);
}

void verdict_freezes(struct model *m)
{
	struct mfreeze *x;

	for (size_t i = 0; (x = vec_at(&m->freeze, i)); i++) {
		const struct rec_freeze *z = &x->f;
		struct subject s = {.family = FAM_FREEZE, .dev = z->dev, .id = z->id};
		uint64_t end_ns = z->wait_end_ns ? z->wait_end_ns : z->end_ns;
		const struct mfinding *was;
		bool known;

		if (!z->wait_ns)
			continue;
		was = verdict_find(m, &s);
		known = was && !was->f.end_ns;
		if (was && !known)
			continue;
		if (!end_ns && since(m->now, x->told_ns) > LOST_NS) {
			if (!known)
				continue;
			end_ns = x->told_ns;
		}
		if (known || since(end_ns ? end_ns : m->now, z->wait_ns) >= m->cfg.freeze_ns)
			draw_freeze(m, x, end_ns);
	}
}

/* The freeze this write waits in now, if its own budget will report it, or has. */
static bool freeze_reports(const struct model *m, const struct rec_attr *a)
{
	struct mfreeze *x;

	if (verdict_open_for(m, FAM_FREEZE, a->dev, a->tid))
		return true;
	for (size_t i = 0; (x = vec_at(&m->freeze, i)); i++)
		if (x->f.dev == a->dev && x->f.tid == a->tid && x->f.wait_ns && !x->f.wait_end_ns &&
		    !x->f.end_ns &&
		    since(m->now, x->f.wait_ns) + NSEC_PER_SEC / 2 >= m->cfg.freeze_ns)
			return true;
	return false;
}

static uint64_t waits_now(const struct model *m, const struct rec_attr *a)
{
	struct mfreeze *x;

	for (size_t i = 0; (x = vec_at(&m->freeze, i)); i++)
		if (x->f.dev == a->dev && x->f.tid == a->tid && x->f.wait_ns && !x->f.wait_end_ns &&
		    !x->f.end_ns)
			return since(m->now, x->f.wait_ns);
	return 0;
}

/*
 * Whether what began at start_ns, and was last told of at told_ns, is worth a finding by now: it
 * took long enough, or is known as one that goes on. *end_ns: 0 while it goes on; set if its end
 * was lost.
 */
static bool lasts(struct model *m, const struct subject *s, uint64_t start_ns, uint64_t told_ns,
		  uint64_t *end_ns, bool *known)
{
	const struct mfinding *was = verdict_find(m, s);

	*known = was && !was->f.end_ns;
	if (was && !*known)
		return false;
	if (!*end_ns && since(m->now, told_ns) > LOST_NS) {
		if (!*known)
			return false;
		*end_ns = told_ns;
	}
	return *known || since(*end_ns ? *end_ns : m->now, start_ns) >= m->cfg.attr_ns;
}

static void draw_attr(struct model *m, const struct rec_attr *a, uint64_t end_ns)
{
	struct subject s = {.family = FAM_ATTR, .dev = a->dev, .id = a->id};
	struct finding *f = verdict_begin(m, a->dev);

	f->verdict = V_ATTR_SLOW;
	f->since_ns = a->start_ns;
	f->end_ns = end_ns;
	f->attr = *a;
	/* The wait that goes on counts as well. */
	if (!end_ns)
		f->attr.freeze_ns += waits_now(m, a);
	if (f->attr.freeze_ns)
		f->catalogue = "H10";
	snprintf(f->stage, sizeof(f->stage), "%s", end_ns ? "done" : "write");
	set_waiter(m, f, a->tid, a->tgid, a->comm, a->cmdline);
	verdict_put(m, &s, f);
}

void verdict_attrs(struct model *m)
{
	struct mattr *x;

	for (size_t i = 0; (x = vec_at(&m->attr, i)); i++) {
		const struct rec_attr *a = &x->a;
		struct subject s = {.family = FAM_ATTR, .dev = a->dev, .id = a->id};
		uint64_t end_ns = a->end_ns;
		bool known;

		if (lasts(m, &s, a->start_ns, x->told_ns, &end_ns, &known) &&
		    (known || end_ns || !freeze_reports(m, a)))
			draw_attr(m, a, end_ns);
	}
}

/* A switch that is part of an attribute write or of a command is told with that. */
static bool elv_is_part(const struct model *m, const struct rec_elv *e)
{
	struct mattr *x;

	for (size_t i = 0; (x = vec_at(&m->attr, i)); i++)
		if (x->a.tid == e->tid && x->a.dev == e->dev && x->a.start_ns <= e->start_ns &&
		    (!x->a.end_ns || x->a.end_ns >= e->start_ns))
			return true;
	return verdict_cmd_of(m, e->tid, e->start_ns, e->end_ns) != NULL ||
	       (!e->end_ns && verdict_open_for(m, FAM_FREEZE, e->dev, e->tid));
}

static void draw_elv(struct model *m, const struct rec_elv *e, uint64_t end_ns)
{
	struct subject s = {.family = FAM_ELV, .dev = e->dev, .id = e->id};
	struct finding *f = verdict_begin(m, e->dev);

	f->verdict = V_ELV_SLOW;
	f->since_ns = e->start_ns;
	f->end_ns = end_ns;
	snprintf(f->stage, sizeof(f->stage), "elevator");
	/* Told as what it is: a write of the scheduler, without the id of one. */
	snprintf(f->attr.attr, sizeof(f->attr.attr), "scheduler");
	snprintf(f->attr.value, sizeof(f->attr.value), "%s from %s", e->to, e->from);
	f->attr.freeze_ns = e->freeze_ns;
	f->attr.start_ns = e->start_ns;
	f->attr.end_ns = end_ns;
	f->attr.dev = e->dev;
	set_waiter(m, f, e->tid, e->tgid, e->comm, NULL);
	verdict_put(m, &s, f);
}

void verdict_elvs(struct model *m)
{
	struct melv *x;

	for (size_t i = 0; (x = vec_at(&m->elv, i)); i++) {
		const struct rec_elv *e = &x->e;
		struct subject s = {.family = FAM_ELV, .dev = e->dev, .id = e->id};
		uint64_t end_ns = e->end_ns;
		bool known;

		if (lasts(m, &s, e->start_ns, x->told_ns, &end_ns, &known) &&
		    (known || !elv_is_part(m, e)))
			draw_elv(m, e, end_ns);
	}
}
