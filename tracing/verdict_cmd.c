// SPDX-License-Identifier: GPL-2.0-or-later
/* Control commands past their budget: which stage took the time, and who was to end it. */
#include "tracing/model_priv.h"

#include <stdio.h>
#include <string.h>

#include "tracing/words.h"

static bool is_read(const struct rec_req *q)
{
	return q->op == 'R';
}

const struct rec_cmd *verdict_cmd_of(const struct model *m, uint32_t tid, uint64_t from,
				     uint64_t until)
{
	struct mcmd *c;

	for (size_t i = 0; (c = vec_at(&m->cmd, i)); i++)
		if (c->c.tid == tid && c->c.submit_ns <= (until ? until : m->now) &&
		    (!c->c.end_ns || c->c.end_ns >= from))
			return &c->c;
	return NULL;
}

static uint64_t budget_of(const struct model *m, const struct rec_cmd *c)
{
	return c->nr == CMD_START_DEV ? m->cfg.start_dev_ns : m->cfg.cmd_ns;
}

/* What the daemon does for this device, if it is more than having sent the command. */
static void add_dev_span(const struct model *m, int32_t dev, struct rec_span *out)
{
	const struct rec_span *top = verdict_dev_span(m, dev, "ublk.");

	if (top && !verdict_deepest(m, top, out))
		*out = *top;
}

static unsigned int add_missing(struct model *m, struct finding *f, const struct snap *s)
{
	const struct rec_queue *q;
	unsigned int nr = 0;

	for (size_t i = 0; s && (q = vec_at(&s->queue, i)); i++) {
		struct blocker *b;

		if (q->armed >= q->depth)
			continue;
		nr++;
		b = verdict_blocker(f, BLK_QUEUE);
		if (!b)
			continue;
		b->queue = *q;
		b->age_ns = since(m->now, f->since_ns);
		verdict_join(m, b);
		if (!b->owner.comm[0])
			memcpy(b->owner.comm, q->owner_comm, sizeof(q->owner_comm));
		add_dev_span(m, f->dev, &b->span);
	}
	return nr;
}

static unsigned int add_openers(struct model *m, struct finding *f, bool cdev)
{
	const struct mdev *d = model_find_dev(m, f->dev);
	const struct mopener *o;
	unsigned int nr = 0;

	for (size_t i = 0; d && (o = vec_at(&d->opener, i)); i++) {
		const struct rec_task *t;
		struct blocker *b;

		if (o->o.cdev != cdev || o->t_ns < f->since_ns)
			continue;
		nr++;
		b = verdict_blocker(f, BLK_OPENER);
		if (!b)
			continue;
		b->opener = o->o;
		t = model_task(m, o->o.tgid, 0);
		if (t)
			b->owner = *t;
	}
	return nr;
}

static bool cmd_open_on(const struct model *m, int32_t dev, uint32_t nr)
{
	struct mcmd *c;

	for (size_t i = 0; (c = vec_at(&m->cmd, i)); i++)
		if (c->c.dev == dev && c->c.nr == nr && !c->c.end_ns)
			return true;
	return false;
}

/* Punted, and no worker came: only while nothing later is known of it. */
static bool punt_stuck(const struct model *m, const struct rec_cmd *c, uint64_t end)
{
	struct cmd_stages st;

	words_stages(c, end, &st);
	return c->punt_ns && st.punt >= budget_of(m, c) &&
	       (c->end_ns || (!c->worker_ns && c->ctrl_ns <= c->punt_ns));
}

/*
 * The stage that took most of the time decides, among those that there is evidence for, and that
 * were at least a quarter of the whole.
 */
static void judge_start(struct model *m, struct finding *f, const struct rec_cmd *c, uint64_t end)
{
	uint64_t whole = since(end ? end : m->now, c->submit_ns);
	uint64_t passed = c->add_disk_ns ? c->add_disk_ns : end;
	const struct snap *ready, *disk;
	struct cmd_stages st;
	bool scan, fetch = false;
	const struct rec_queue *q;

	words_stages(c, end ? end : m->now, &st);
	ready = c->ctrl_ns ? model_snap(m, c->dev, c->ctrl_ns, passed) : NULL;
	disk = c->add_disk_ns ? model_snap(m, c->dev, c->add_disk_ns, end) : NULL;
	for (size_t i = 0; ready && (q = vec_at(&ready->queue, i)); i++)
		fetch |= q->armed < q->depth;
	fetch = fetch && st.ready_wait >= whole / 4;
	scan = c->scan_ns && st.part_scan >= whole / 4;
	if (!scan && !c->scan_ns && disk && !c->add_disk_end_ns && st.add_disk >= whole / 4) {
		const struct rec_req *r;

		for (size_t i = 0; (r = vec_at(&disk->req, i)); i++)
			scan |= is_read(r);
	}
	if (scan && fetch)
		fetch = st.ready_wait > st.part_scan + st.add_disk;
	if (fetch) {
		f->verdict = V_START_LATE_FETCH;
		f->catalogue = "H2";
		add_missing(m, f, ready);
	} else if (scan) {
		f->verdict = V_START_PART_SCAN;
		f->catalogue = "H5";
		if (!verdict_add_reqs(m, f, disk, is_read) && end)
			verdict_add_done(m, f, c->add_disk_ns ? c->add_disk_ns : c->scan_ns, end,
					 is_read);
	} else if (st.elevator >= whole / 2) {
		f->verdict = V_ELV_SLOW;
	}
}

/* STOP was sent by a thread that itself has requests, or by the worker of such a thread's ring. */
static bool stop_from_io_thread(const struct finding *f, const struct rec_cmd *c)
{
	uint32_t submitter = 0;

	if (!strstr(f->waiter.kstack, "del_gendisk"))
		return false;
	if (sscanf(f->waiter.comm, "iou-wrk-%u", &submitter) != 1)
		submitter = c->tid;
	for (unsigned int i = 0; i < f->nr_blockers; i++)
		if (f->blocker[i].type == BLK_REQUEST && f->blocker[i].req.state == REQ_SERVER &&
		    f->blocker[i].req.owner_tid &&
		    (f->blocker[i].req.owner_tid == submitter ||
		     f->blocker[i].req.owner_tid == c->tid))
			return true;
	return false;
}

static void judge_stop(struct model *m, struct finding *f, const struct rec_cmd *c, uint64_t end)
{
	unsigned int held = add_openers(m, f, false);

	held += verdict_add_reqs(m, f, model_snap(m, c->dev, c->submit_ns, end), NULL);
	if (!held)
		return;
	f->verdict = V_DEL_HELD;
	if (stop_from_io_thread(f, c))
		f->catalogue = "H7";
	else
		f->catalogue = cmd_open_on(m, c->dev, CMD_START_DEV) ? "H5" : "H8";
}

static void judge_del(struct model *m, struct finding *f, const struct rec_cmd *c, uint64_t end)
{
	if (!add_openers(m, f, true))
		return;
	f->verdict = V_DEL_HELD;
	f->catalogue = "H11";
}

static void judge_end_recovery(struct model *m, struct finding *f, const struct rec_cmd *c,
			       uint64_t end)
{
	f->verdict = V_RECOVERY_INCOMPLETE;
	if (add_missing(m, f, model_snap(m, c->dev, c->submit_ns, end)))
		f->catalogue = "H2";
}

static const struct {
	uint32_t nr;
	void (*judge)(struct model *m, struct finding *f, const struct rec_cmd *c, uint64_t end);
} judges[] = {
	{CMD_START_DEV, judge_start},
	{CMD_STOP_DEV, judge_stop},
	{CMD_TRY_STOP_DEV, judge_stop},
	{CMD_DEL_DEV, judge_del},
	{CMD_END_USER_RECOVERY, judge_end_recovery},
};

/* Where an ended command spent most of its time. */
static const char *longest_stage(const struct rec_cmd *c)
{
	struct cmd_stages st;
	const char *name = "ctrl";
	uint64_t most;

	words_stages(c, c->end_ns, &st);
	most = since(c->end_ns, c->submit_ns) / 4;
	const struct {
		uint64_t ns;
		const char *name;
	} all[] = {
		{st.punt, "punt"},         {st.worker, "worker"},     {st.ready_wait, "ready-wait"},
		{st.add_disk, "add-disk"}, {st.elevator, "elevator"}, {st.part_scan, "part-scan"}};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		if (all[i].ns > most) {
			most = all[i].ns;
			name = all[i].name;
		}
	}
	return name;
}

static void set_cmd_waiter(struct model *m, struct finding *f, const struct rec_cmd *c)
{
	const struct rec_task *t = model_task(m, c->tid, c->submit_ns);

	if (t)
		f->waiter = *t;
	f->waiter.tid = c->tid;
	if (!f->waiter.tgid)
		f->waiter.tgid = c->tgid;
	if (!f->waiter.comm[0])
		memcpy(f->waiter.comm, c->comm, sizeof(c->comm));
}

/* Without the device: ADD_DEV learns its number only on the way. */
static struct subject cmd_subject(const struct rec_cmd *c)
{
	return (struct subject){.family = FAM_CMD, .dev = -1, .id = c->id, .tag = c->tgid};
}

static void draw_cmd(struct model *m, const struct rec_cmd *c, uint64_t end)
{
	struct subject s = cmd_subject(c);
	struct finding *f = verdict_begin(m, c->dev);
	struct rec_span span;

	f->verdict = V_CMD_SLOW;
	f->since_ns = c->submit_ns;
	f->end_ns = end;
	f->cmd = *c;
	snprintf(f->stage, sizeof(f->stage), "%s", c->end_ns ? longest_stage(c) : rec_cmd_stage(c));
	set_cmd_waiter(m, f, c);
	if (punt_stuck(m, c, end ? end : m->now)) {
		f->verdict = V_PUNT;
		f->catalogue = "H1";
	} else {
		for (size_t i = 0; i < ARRAY_SIZE(judges); i++)
			if (judges[i].nr == c->nr)
				judges[i].judge(m, f, c, end);
	}
	if (f->verdict == V_CMD_SLOW && m->oops_ns)
		f->catalogue = "H13";
	memset(&span, 0, sizeof(span));
	if (f->verdict == V_CMD_SLOW && !end)
		add_dev_span(m, c->dev, &span);
	if (strncmp(span.event, "object.", 7) == 0) {
		struct blocker *b = verdict_blocker(f, BLK_TASK);

		if (b) {
			const struct rec_task *t = model_task(m, span.pid, 0);

			b->span = span;
			b->age_ns = since(m->now, span.start_ns);
			if (t)
				b->owner = *t;
			b->owner.tid = b->owner.tgid = span.pid;
		}
	}
	verdict_put(m, &s, f);
}

/* Another finding tells why this command waits. */
static bool told_elsewhere(const struct model *m, const struct rec_cmd *c)
{
	if (c->nr == CMD_END_USER_RECOVERY)
		return verdict_open_for(m, FAM_RECOVERY, c->dev, 0);
	return !c->end_ns && verdict_open_for(m, FAM_FREEZE, c->dev, c->tid);
}

void verdict_cmds(struct model *m)
{
	struct mcmd *x;

	for (size_t i = 0; (x = vec_at(&m->cmd, i)); i++) {
		const struct rec_cmd *c = &x->c;
		struct subject s = cmd_subject(c);
		const struct mfinding *was = verdict_find(m, &s);
		uint64_t end = c->end_ns;
		bool known = was && !was->f.end_ns;

		if (was && !known)
			continue;
		if (!end && since(m->now, x->told_ns) > LOST_NS) {
			if (!known)
				continue;
			end = x->told_ns;
		}
		if (known || (since(end ? end : m->now, c->submit_ns) >= budget_of(m, c) &&
			      !told_elsewhere(m, c)))
			draw_cmd(m, c, end);
	}
}

static void draw_recovery(struct model *m, const struct mdev *d, const struct rec_cmd *start,
			  uint64_t end)
{
	struct subject s = {.family = FAM_RECOVERY, .dev = start->dev, .id = start->id};
	struct finding *f = verdict_begin(m, start->dev);
	struct mcmd *x;

	f->verdict = V_RECOVERY_INCOMPLETE;
	f->since_ns = start->end_ns;
	f->end_ns = end;
	f->cmd = *start;
	snprintf(f->stage, sizeof(f->stage), "recovery");
	for (size_t i = 0; (x = vec_at(&m->cmd, i)); i++)
		if (x->c.dev == start->dev && x->c.nr == CMD_END_USER_RECOVERY)
			f->cmd = x->c;
	set_cmd_waiter(m, f, &f->cmd);
	if (d && !end)
		add_missing(m, f, model_snap(m, start->dev, start->end_ns, 0));
	verdict_put(m, &s, f);
}

static uint64_t recovery_end(const struct model *m, int32_t dev)
{
	struct mcmd *x;

	for (size_t i = 0; (x = vec_at(&m->cmd, i)); i++)
		if (x->c.dev == dev && x->c.nr == CMD_END_USER_RECOVERY && x->c.end_ns)
			return x->c.end_ns;
	return m->now;
}

/* A recovery that was begun and not ended. Said only of a device seen QUIESCED that long after. */
void verdict_recovery(struct model *m)
{
	const struct mdev *d;
	struct mfinding **p;

	for (size_t i = 0; (d = vec_at(&m->dev, i)); i++) {
		struct subject s = {.family = FAM_RECOVERY, .dev = d->d.dev, .id = d->recovery.id};
		const struct mfinding *was = d->recovery.id ? verdict_find(m, &s) : NULL;

		if (!d->recovery.id || d->gone || (was && was->f.end_ns))
			continue;
		if (was || (d->d.state == DEV_QUIESCED && d->dev_ns >= d->recovery.end_ns &&
			    since(d->dev_ns, d->recovery.end_ns) >= m->cfg.cmd_ns &&
			    !cmd_open_on(m, d->d.dev, CMD_END_USER_RECOVERY)))
			draw_recovery(m, d, &d->recovery, 0);
	}
	for (size_t i = 0; (p = vec_at(&m->finding, i)); i++) {
		struct mfinding *x = *p;

		if (x->s.family != FAM_RECOVERY || x->f.end_ns)
			continue;
		d = model_find_dev(m, x->s.dev);
		if (!d || d->gone || d->recovery.id != x->s.id) {
			struct rec_cmd start = {
				.id = x->s.id, .dev = x->s.dev, .end_ns = x->f.since_ns};

			start.nr = CMD_START_USER_RECOVERY;
			start.tgid = x->f.cmd.tgid;
			start.tid = x->f.cmd.tid;
			memcpy(start.comm, x->f.cmd.comm, sizeof(start.comm));
			draw_recovery(m, d, &start, recovery_end(m, x->s.dev));
		}
	}
}
