// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The life of findings: what a verdict says about a subject at a tick opens, updates or closes the
 * finding of that subject. What the verdicts are is in verdict_cmd.c, verdict_freeze.c and
 * verdict_req.c; how they are worded in verdict_words.c.
 */
#include "tracing/model_priv.h"

#include <string.h>

/* Closed findings are kept up to this number; the oldest go first. */
#define KEEP_FINDINGS 2048

static const struct {
	const char *name;
	int status; /* once it has ended; an open one is 3 */
} verdicts[V_NR] = {
	[V_START_LATE_FETCH] = {"start-dev/late-fetch", 2},
	[V_START_PART_SCAN] = {"start-dev/partition-scan", 2},
	[V_PUNT] = {"start-dev/punt", 2},
	[V_FREEZE_PINNED] = {"freeze/pinned", 2},
	[V_FREEZE_SELF] = {"freeze/self-deadlock", 3},
	[V_FREEZE_NO_SERVER] = {"freeze/no-server", 3},
	[V_ELV_SLOW] = {"elevator/slow", 2},
	[V_ATTR_SLOW] = {"attr/slow", 2},
	[V_RECOVERY_INCOMPLETE] = {"recovery/incomplete", 2},
	[V_DEL_HELD] = {"del/held", 2},
	[V_CMD_SLOW] = {"command/slow", 2},
	[V_REQUEST_SLOW] = {"request/slow", 2},
	[V_KNOWN_BAD] = {"kernel/known-bad", 3},
};

const char *verdict_name(enum verdict v)
{
	return (unsigned int)v < V_NR ? verdicts[v].name : "unknown";
}

const char *severity_name(enum severity s)
{
	return s == SEV_CRITICAL ? "critical" : "warning";
}

static int finding_status(const struct finding *f)
{
	return f->end_ns ? verdicts[f->verdict].status : 3;
}

int model_exit_status(const struct model *m)
{
	int worst = m->status;
	struct mfinding **f;

	for (size_t i = 0; (f = vec_at(&m->finding, i)); i++)
		worst = MAX(worst, finding_status(&(*f)->f));
	return worst;
}

/* A finding is large and mostly unused blockers: clear and copy only what is there. */
static void finding_clear(struct finding *f)
{
	memset(f, 0, offsetof(struct finding, blocker));
	memset(&f->nr_blockers, 0, sizeof(*f) - offsetof(struct finding, nr_blockers));
	f->catalogue = "";
}

static void finding_copy(struct finding *to, const struct finding *from)
{
	memcpy(to, from, offsetof(struct finding, blocker));
	memcpy(to->blocker, from->blocker, from->nr_blockers * sizeof(from->blocker[0]));
	memcpy(&to->nr_blockers, &from->nr_blockers,
	       sizeof(*to) - offsetof(struct finding, nr_blockers));
}

struct finding *verdict_begin(struct model *m, int32_t dev)
{
	const struct mdev *d = model_find_dev(m, dev);

	finding_clear(m->scratch);
	m->scratch->dev = dev;
	if (d)
		memcpy(m->scratch->volume, d->d.volume, sizeof(d->d.volume));
	return m->scratch;
}

struct blocker *verdict_blocker(struct finding *f, enum blocker_type type)
{
	struct blocker *b;

	if (f->nr_blockers == FINDING_BLOCKERS) {
		f->more_blockers++;
		return NULL;
	}
	b = &f->blocker[f->nr_blockers++];
	memset(b, 0, sizeof(*b));
	b->type = type;
	return b;
}

static bool subject_same(const struct subject *a, const struct subject *b)
{
	return a->family == b->family && a->dev == b->dev && a->id == b->id &&
	       a->queue == b->queue && a->tag == b->tag;
}

struct mfinding *verdict_find(const struct model *m, const struct subject *s)
{
	for (size_t i = m->finding.nr; i-- > 0;) {
		struct mfinding **f = vec_at(&m->finding, i);

		if (subject_same(&(*f)->s, s))
			return *f;
	}
	return NULL;
}

bool verdict_open_for(const struct model *m, enum family family, int32_t dev, uint32_t tid)
{
	struct mfinding **f;

	for (size_t i = 0; (f = vec_at(&m->finding, i)); i++)
		if ((*f)->s.family == family && !(*f)->f.end_ns && (*f)->f.dev == dev &&
		    (!tid || (*f)->f.waiter.tid == tid))
			return true;
	return false;
}

static void mix(uint64_t *h, const void *p, size_t len)
{
	const unsigned char *c = p;

	for (size_t i = 0; i < len; i++)
		*h = (*h ^ c[i]) * 0x100000001b3ull;
}

static void mix_num(uint64_t *h, uint64_t v)
{
	mix(h, &v, sizeof(v));
}

static void mix_str(uint64_t *h, const char *s)
{
	mix(h, s, strlen(s) + 1);
}

/* What a reader would call news: not ages, nor a stack that moved, but that there is one. */
static uint64_t evidence(const struct finding *f)
{
	uint64_t h = 0xcbf29ce484222325ull;

	mix_num(&h, f->verdict);
	mix_str(&h, f->stage);
	mix_str(&h, f->catalogue);
	mix_num(&h, f->waiter.tid);
	mix_num(&h, f->waiter.kstack[0] != 0);
	mix_num(&h, f->attr.id);
	mix_num(&h, f->more_blockers);
	mix_num(&h, f->nr_cycle);
	for (unsigned int i = 0; i < f->nr_blockers; i++) {
		const struct blocker *b = &f->blocker[i];

		mix_num(&h, b->type);
		mix_num(&h, (uint64_t)b->req.queue << 32 | b->req.tag);
		mix_num(&h, b->req.start_ns);
		mix_num(&h, b->req.state);
		mix_num(&h, (uint64_t)b->queue.queue << 32 | b->queue.armed);
		mix_str(&h, b->queue.missing);
		mix_num(&h, b->opener.tgid);
		mix_str(&h, b->opener.what);
		mix_num(&h, (uint64_t)b->server.tgid << 1 | b->server.gone);
		mix_num(&h, b->owner.tid);
		mix_num(&h, b->owner.kstack[0] != 0);
		mix_num(&h, b->owner.ustack[0] != 0);
		mix_num(&h, b->owner.killed);
		mix_num(&h, b->io_span.op_id);
		mix_str(&h, b->span.event);
		mix_str(&h, b->span.key);
	}
	return h;
}

static bool same_blockers_req(const struct finding *f, const struct rec_req *q)
{
	for (unsigned int i = 0; i < f->nr_blockers; i++)
		if (f->blocker[i].type == BLK_REQUEST && req_same(&f->blocker[i].req, q))
			return true;
	return false;
}

/*
 * What was once proven of a subject stays so: one tick without a stack or a snapshot must not turn
 * it into less. `f` is the word of this tick, `was` what is known.
 */
static bool keeps_verdict(const struct finding *was, const struct finding *f)
{
	if (f->end_ns)
		return f->verdict == was->verdict || f->verdict == V_CMD_SLOW ||
		       was->verdict != V_CMD_SLOW;
	if (f->verdict == V_CMD_SLOW)
		return was->verdict != V_CMD_SLOW;
	/* The first blocker of a deadlock is the request in the cycle. */
	return was->verdict == V_FREEZE_SELF && f->verdict == V_FREEZE_PINNED && was->nr_blockers &&
	       same_blockers_req(f, &was->blocker[0].req);
}

static void take(struct model *m, struct finding *to, struct finding *f)
{
	uint64_t id = to->id;

	if (id && keeps_verdict(to, f)) {
		/* Only the subject itself has moved on. */
		to->dev = f->dev;
		if (f->volume[0])
			memcpy(to->volume, f->volume, sizeof(to->volume));
		to->cmd = f->cmd;
		to->freeze = f->freeze;
		if (f->attr.id)
			to->attr = f->attr;
		if (f->waiter.tid && (f->waiter.kstack[0] || !to->waiter.tid))
			to->waiter = f->waiter;
		memcpy(to->stage, f->stage, sizeof(to->stage));
		to->end_ns = f->end_ns;
		if (to->verdict == f->verdict && f->catalogue[0])
			to->catalogue = f->catalogue;
		for (unsigned int i = 0; !to->end_ns && i < to->nr_blockers; i++)
			to->blocker[i].age_ns += since(m->now, to->last_ns);
	} else {
		finding_copy(to, f);
		to->id = id;
	}
	to->last_ns = m->now;
	to->severity = to->end_ns && to->verdict != V_KNOWN_BAD ? SEV_WARNING : SEV_CRITICAL;
	verdict_words(m, to);
}

static void tell(struct model *m, const struct mfinding *x, enum finding_event ev)
{
	if (m->cfg.on_finding)
		m->cfg.on_finding(m->cfg.ctx, &x->f, ev);
}

/* Makes room; the status of what goes is remembered. */
static void forget_finding(struct model *m)
{
	struct mfinding **f;

	for (size_t i = 0; (f = vec_at(&m->finding, i)); i++) {
		if (!(*f)->f.end_ns)
			continue;
		m->status = MAX(m->status, finding_status(&(*f)->f));
		free(*f);
		vec_drop(&m->finding, i);
		return;
	}
}

struct mfinding *verdict_put(struct model *m, const struct subject *s, struct finding *f)
{
	struct mfinding *x = verdict_find(m, s);
	uint64_t h;

	if (x && x->f.end_ns)
		return x;
	if (!x) {
		if (m->finding.nr >= KEEP_FINDINGS)
			forget_finding(m);
		x = calloc(1, sizeof(*x));
		if (!x || !vec_push(&m->finding, &x)) {
			free(x);
			m->untracked++;
			return NULL;
		}
		x->s = *s;
		f->subject = s->id;
		take(m, &x->f, f);
		x->f.id = ++m->nr_findings;
		x->evidence = evidence(&x->f);
		tell(m, x, FINDING_OPEN);
		if (x->f.end_ns)
			tell(m, x, FINDING_CLOSE);
		return x;
	}
	f->subject = s->id;
	take(m, &x->f, f);
	h = evidence(&x->f);
	if (x->f.end_ns)
		tell(m, x, FINDING_CLOSE);
	else if (h != x->evidence)
		tell(m, x, FINDING_UPDATE);
	x->evidence = h;
	return x;
}

/* A driver that oopsed, or one that is known to: nothing else that it does is worth a word. */
static void verdict_kernel(struct model *m)
{
	struct subject s = {.family = FAM_KERNEL, .dev = -1};
	struct finding *f;

	if (!m->oops_ns && !m->has_bad_cmd)
		return;
	f = verdict_begin(m, m->has_bad_cmd ? m->bad_cmd.dev : -1);
	f->verdict = V_KNOWN_BAD;
	f->catalogue = "H13";
	f->since_ns = m->oops_ns ? m->oops_ns : m->bad_cmd.submit_ns;
	f->cmd = m->bad_cmd;
	verdict_put(m, &s, f);
}

void verdicts_draw(struct model *m)
{
	verdict_kernel(m);
	verdict_freezes(m);
	verdict_cmds(m);
	verdict_recovery(m);
	verdict_attrs(m);
	verdict_elvs(m);
	verdict_reqs(m);
}
