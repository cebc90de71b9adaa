// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests: which are in flight, who has them, what the daemon does with them; and request/slow for
 * those that nothing else explains.
 */
#include "tracing/model_priv.h"

#include <stdio.h>
#include <string.h>

/* More open findings about single requests of one device than this say nothing new. */
#define REQ_FINDINGS 64

/* Told as ended since it was told as open: its next telling has not come yet. */
static bool span_closed(const struct model *m, const struct rec_span *s)
{
	uint64_t nr = MIN(m->nr_closed, MODEL_CLOSED);

	for (uint64_t i = 0; i < nr; i++) {
		const struct rec_span *c = &m->closed[i];

		if (c->op_id == s->op_id && c->start_ns == s->start_ns && c->pid == s->pid &&
		    strcmp(c->event, s->event) == 0)
			return true;
	}
	return false;
}

static bool span_of_req(const struct rec_span *s, const struct rec_req *q)
{
	if (!s->is_io || s->dev != q->dev || s->queue != q->queue || s->tag != q->tag)
		return false;
	if (s->nsectors && q->nsectors && s->sector != q->sector)
		return false;
	/* The daemon cannot have begun before the request did: that was the tag's last user. The
	 * margin is for requests whose beginning was inferred. */
	return s->start_ns + NSEC_PER_MSEC >= q->start_ns;
}

bool verdict_deepest(const struct model *m, const struct rec_span *top, struct rec_span *out)
{
	uint64_t op = top->link_op_id ? top->link_op_id : top->op_id;
	const struct rec_span *best = NULL;

	if (!op)
		return false;
	for (unsigned int hops = 0; hops < 8; hops++) {
		const struct rec_span *any = NULL, *s;
		uint64_t link = 0;

		best = NULL;
		for (size_t i = 0; (s = vec_at(&m->span, i)); i++) {
			if (s->op_id != op || s->pid != top->pid || span_closed(m, s))
				continue;
			if (s->link_op_id && s->link_op_id != op)
				link = s->link_op_id;
			if (s->is_io)
				continue;
			if (strncmp(s->event, "object.", 7) == 0) {
				if (!best || s->start_ns < best->start_ns)
					best = s;
			} else if (!any || s->start_ns > any->start_ns) {
				any = s;
			}
		}
		if (best)
			break;
		best = any == top ? NULL : any;
		if (!link)
			break;
		op = link;
	}
	if (!best)
		return false;
	*out = *best;
	return true;
}

const struct rec_span *verdict_dev_span(const struct model *m, int32_t dev, const char *event)
{
	const struct mdev *d = model_find_dev(m, dev);
	const struct rec_span *s;

	for (size_t i = 0; (s = vec_at(&m->span, i)); i++) {
		if (strncmp(s->event, event, strlen(event)) != 0 || span_closed(m, s))
			continue;
		if (s->dev == dev ||
		    (s->dev < 0 && d && d->d.volume[0] && strcmp(d->d.volume, s->volume) == 0))
			return s;
	}
	return NULL;
}

/* Of a request that ended: the daemon's own report of it, and the longest step below it. */
static void join_closed(struct model *m, struct blocker *b)
{
	uint64_t nr = MIN(m->nr_closed, MODEL_CLOSED);
	const struct rec_span *io = NULL, *step = NULL;

	for (uint64_t i = 0; i < nr; i++) {
		const struct rec_span *s = &m->closed[i];

		if (span_of_req(s, &b->req) && s->start_ns <= b->req.end_ns)
			io = s;
	}
	if (!io)
		return;
	b->io_span = *io;
	for (uint64_t i = 0; i < nr; i++) {
		const struct rec_span *s = &m->closed[i];

		if (s->is_io || !io->op_id || s->pid != io->pid ||
		    (s->op_id != io->op_id && (!io->link_op_id || s->op_id != io->link_op_id)))
			continue;
		if (!step || s->end_ns - s->start_ns > step->end_ns - step->start_ns)
			step = s;
	}
	if (step)
		b->span = *step;
}

static void join_task(struct model *m, struct blocker *b, uint32_t tid, int32_t dev)
{
	const struct rec_task *t = model_task(m, tid, 0);
	const struct mdev *d = model_find_dev(m, dev);

	if (t) {
		b->owner = *t;
	} else if (tid) {
		b->owner.tid = tid;
		if (d) {
			b->owner.tgid = d->d.tgid;
			memcpy(b->owner.comm, d->d.comm, sizeof(d->d.comm));
		}
	}
}

void verdict_join(struct model *m, struct blocker *b)
{
	const struct rec_span *s, *io = NULL;

	join_task(m, b, b->type == BLK_QUEUE ? b->queue.owner_tid : b->req.owner_tid,
		  b->type == BLK_QUEUE ? b->queue.dev : b->req.dev);
	if (b->type != BLK_REQUEST)
		return;
	if (b->req.end_ns) {
		join_closed(m, b);
		return;
	}
	for (size_t i = 0; (s = vec_at(&m->span, i)); i++)
		if (span_of_req(s, &b->req) && !span_closed(m, s) &&
		    (!io || s->start_ns > io->start_ns))
			io = s;
	if (!io)
		return;
	b->io_span = *io;
	verdict_deepest(m, io, &b->span);
}

static void add_req(struct model *m, struct finding *f, const struct rec_req *q)
{
	struct blocker *b = verdict_blocker(f, BLK_REQUEST);

	if (!b)
		return;
	b->req = *q;
	b->age_ns = since(q->end_ns ? q->end_ns : m->now, q->start_ns);
	verdict_join(m, b);
}

unsigned int verdict_add_reqs(struct model *m, struct finding *f, const struct snap *s,
			      bool (*want)(const struct rec_req *q))
{
	uint64_t after = 0;
	unsigned int nr = 0, added = 0, room = FINDING_BLOCKERS - f->nr_blockers;
	const struct rec_req *q;

	if (!s)
		return 0;
	for (size_t i = 0; (q = vec_at(&s->req, i)); i++)
		nr += !want || want(q);
	/* Oldest first, by selection: few fit. Equal ages are taken in one pass. */
	while (added < MIN(nr, room)) {
		uint64_t next = UINT64_MAX;

		for (size_t i = 0; (q = vec_at(&s->req, i)); i++)
			if ((!want || want(q)) && q->start_ns < next &&
			    (q->start_ns > after || !added))
				next = q->start_ns;
		for (size_t i = 0; (q = vec_at(&s->req, i)) && added < room; i++) {
			if ((!want || want(q)) && q->start_ns == next) {
				add_req(m, f, q);
				added++;
			}
		}
		after = next;
	}
	f->more_blockers += nr - added;
	return nr;
}

unsigned int verdict_add_done(struct model *m, struct finding *f, uint64_t from, uint64_t until,
			      bool (*want)(const struct rec_req *q))
{
	uint64_t first = m->nr_done > MODEL_DONE ? m->nr_done - MODEL_DONE : 0;
	unsigned int nr = 0;

	for (uint64_t i = first; i < m->nr_done; i++) {
		const struct rec_req *q = &m->done[i % MODEL_DONE];

		if (q->dev != f->dev || q->end_ns < from || q->end_ns > until || (want && !want(q)))
			continue;
		add_req(m, f, q);
		nr++;
	}
	return nr;
}

bool verdict_no_server(const struct model *m, int32_t dev, uint64_t from, struct rec_server *who)
{
	const struct mdev *d = model_find_dev(m, dev);

	memset(who, 0, sizeof(*who));
	who->dev = dev;
	if (!d)
		return false;
	if (d->server.gone) {
		/* A snapshot after that may have seen the next server before its opening was told.
		 */
		if (d->dev_ns > d->server.at_ns && d->dev_ns >= from && d->d.tgid &&
		    d->d.state == DEV_LIVE && d->d.tgid != d->server.tgid)
			return false;
		*who = d->server;
		return true;
	}
	if (!d->dev_ns || d->dev_ns < from)
		return false;
	if (d->d.state != DEV_QUIESCED && !(d->d.state == DEV_LIVE && d->d.started && !d->d.tgid))
		return false;
	who->gone = true;
	who->tgid = d->d.tgid;
	memcpy(who->comm, d->d.comm, sizeof(who->comm));
	who->at_ns = d->quiesced_ns;
	return true;
}

/* Did another finding name it, and last until `at`, when it ended or was last seen in flight? */
static bool named_elsewhere(const struct model *m, const struct rec_req *q, uint64_t at)
{
	struct mfinding **x;

	for (size_t i = 0; (x = vec_at(&m->finding, i)); i++) {
		const struct finding *f = &(*x)->f;

		if ((*x)->s.family == FAM_REQ || f->dev != q->dev)
			continue;
		if (f->end_ns && f->end_ns < at)
			continue;
		for (unsigned int k = 0; k < f->nr_blockers; k++)
			if (f->blocker[k].type == BLK_REQUEST &&
			    (f->more_blockers || req_same(&f->blocker[k].req, q)))
				return true;
	}
	return false;
}

static void subject_of(const struct rec_req *q, struct subject *s)
{
	*s = (struct subject){.family = FAM_REQ,
			      .dev = q->dev,
			      .id = q->start_ns,
			      .queue = q->queue,
			      .tag = q->tag};
}

static void put_req(struct model *m, const struct rec_req *q, uint64_t seen_ns, uint64_t end_ns)
{
	struct finding *f = verdict_begin(m, q->dev);
	struct rec_server who;
	struct mfinding *x;
	struct subject s;
	struct blocker *b;

	subject_of(q, &s);
	f->verdict = V_REQUEST_SLOW;
	f->since_ns = q->start_ns;
	f->end_ns = end_ns;
	snprintf(f->stage, sizeof(f->stage), "%s",
		 q->state == REQ_SERVER ? "server" : (q->state == REQ_DONE ? "done" : "queued"));
	add_req(m, f, q);
	if (!end_ns && verdict_no_server(m, q->dev, q->start_ns, &who)) {
		f->catalogue = "H15";
		b = verdict_blocker(f, BLK_NO_SERVER);
		if (b) {
			b->server = who;
			b->age_ns = who.at_ns ? since(m->now, who.at_ns) : 0;
		}
	}
	x = verdict_put(m, &s, f);
	if (x)
		x->seen_ns = seen_ns;
}

/* Requests of a snapshot: its age counts as of the snapshot, the only moment it is known to be
 * open. */
static void reqs_of_dev(struct model *m, const struct mdev *d)
{
	const struct rec_req *q;
	unsigned int nr = 0;

	if (since(m->now, d->cur.ns) > LOST_NS)
		return;
	for (size_t i = 0; (q = vec_at(&d->cur.req, i)); i++) {
		struct mfinding *x;
		struct subject s;

		if (since(d->cur.ns, q->start_ns) < m->cfg.request_ns)
			continue;
		subject_of(q, &s);
		x = verdict_find(m, &s);
		if (x ? !x->f.end_ns : nr < REQ_FINDINGS && !named_elsewhere(m, q, d->cur.ns)) {
			put_req(m, q, d->cur.ns, 0);
			nr++;
		}
	}
}

/* Open ones that the device's snapshots do not name any more have ended, unseen. */
static void close_lost(struct model *m)
{
	struct mfinding **p;

	for (size_t i = 0; (p = vec_at(&m->finding, i)); i++) {
		struct mfinding *x = *p;
		const struct mdev *d = model_find_dev(m, x->f.dev);
		bool in_next = d && d->cur.ns > x->seen_ns;

		if (x->s.family != FAM_REQ || x->f.end_ns)
			continue;
		if (in_next || !d || since(m->now, x->seen_ns) > LOST_NS)
			put_req(m, &x->f.blocker[0].req, x->seen_ns, x->seen_ns);
	}
}

void verdict_reqs(struct model *m)
{
	uint64_t first = MAX(m->done_judged, m->nr_done > MODEL_DONE ? m->nr_done - MODEL_DONE : 0);
	const struct mdev *d;

	for (uint64_t i = first; i < m->nr_done; i++) {
		struct rec_req q = m->done[i % MODEL_DONE];
		struct mfinding *x;
		struct subject s;

		subject_of(&q, &s);
		x = verdict_find(m, &s);
		if (x ? !x->f.end_ns
		      : since(q.end_ns, q.start_ns) >= m->cfg.request_ns &&
				    !named_elsewhere(m, &q, q.end_ns)) {
			q.state = REQ_DONE;
			put_req(m, &q, q.end_ns, q.end_ns);
		}
	}
	m->done_judged = m->nr_done;
	for (size_t i = 0; (d = vec_at(&m->dev, i)); i++)
		if (d->cur.ns)
			reqs_of_dev(m, d);
	close_lost(m);
}
