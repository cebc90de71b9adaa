// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is open now, from records alone: devices with their snapshots, commands, freezes, attribute
 * writes, elevator switches, threads, spans. The verdicts (verdict*.c) read it at each tick. One
 * thread, that of the caller of model_feed().
 */
#include "tracing/model_priv.h"

#include <string.h>

#include "ublk/device.h"

void *vec_push(struct vec *v, const void *elem)
{
	char *p;

	if (v->nr == v->cap) {
		size_t cap = v->cap ? 2 * v->cap : 16;

		if (v->nr >= v->max)
			return NULL;
		cap = MIN(cap, v->max);
		p = realloc(v->v, cap * v->size);
		if (!p)
			return NULL;
		v->v = p;
		v->cap = cap;
	}
	p = v->v + v->nr++ * v->size;
	if (elem)
		memcpy(p, elem, v->size);
	else
		memset(p, 0, v->size);
	return p;
}

void vec_drop(struct vec *v, size_t i)
{
	v->nr--;
	memmove(v->v + i * v->size, v->v + (i + 1) * v->size, (v->nr - i) * v->size);
}

void vec_free(struct vec *v)
{
	free(v->v);
	v->v = NULL;
	v->nr = v->cap = 0;
}

static void vec_init(struct vec *v, size_t size, size_t max)
{
	*v = (struct vec){.size = size, .max = max};
}

struct model *model_new(const struct model_config *cfg)
{
	struct model *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->asked = *cfg;
	vec_init(&m->dev, sizeof(struct mdev), 4096);
	vec_init(&m->cmd, sizeof(struct mcmd), 4096);
	vec_init(&m->freeze, sizeof(struct mfreeze), 4096);
	vec_init(&m->attr, sizeof(struct mattr), 4096);
	vec_init(&m->elv, sizeof(struct melv), 4096);
	vec_init(&m->task, sizeof(struct mtask), 1024);
	vec_init(&m->hist, sizeof(struct rec_hist), 4096);
	vec_init(&m->span, sizeof(struct rec_span), 16384);
	vec_init(&m->finding, sizeof(struct mfinding *), SIZE_MAX / sizeof(struct mfinding *));
	m->closed = calloc(MODEL_CLOSED, sizeof(*m->closed));
	m->done = calloc(MODEL_DONE, sizeof(*m->done));
	m->scratch = calloc(1, sizeof(*m->scratch));
	if (!m->closed || !m->done || !m->scratch) {
		model_free(m);
		return NULL;
	}
	m->cfg = *cfg;
	m->cfg.start_dev_ns = cfg->start_dev_ns ? cfg->start_dev_ns : MODEL_START_DEV_NS;
	m->cfg.cmd_ns = cfg->cmd_ns ? cfg->cmd_ns : MODEL_CMD_NS;
	m->cfg.freeze_ns = cfg->freeze_ns ? cfg->freeze_ns : MODEL_FREEZE_NS;
	m->cfg.attr_ns = cfg->attr_ns ? cfg->attr_ns : MODEL_ATTR_NS;
	m->cfg.request_ns = cfg->request_ns ? cfg->request_ns : MODEL_REQUEST_NS;
	return m;
}

static void dev_free(struct mdev *d)
{
	vec_free(&d->cur.queue);
	vec_free(&d->cur.req);
	vec_free(&d->next.queue);
	vec_free(&d->next.req);
	vec_free(&d->opener);
}

void model_free(struct model *m)
{
	struct mdev *d;
	struct mfinding **f;
	size_t i;

	if (!m)
		return;
	for (i = 0; (d = vec_at(&m->dev, i)); i++)
		dev_free(d);
	for (i = 0; (f = vec_at(&m->finding, i)); i++)
		free(*f);
	vec_free(&m->dev);
	vec_free(&m->cmd);
	vec_free(&m->freeze);
	vec_free(&m->attr);
	vec_free(&m->elv);
	vec_free(&m->task);
	vec_free(&m->hist);
	vec_free(&m->span);
	vec_free(&m->finding);
	free(m->closed);
	free(m->done);
	free(m->scratch);
	free(m);
}

struct mdev *model_find_dev(const struct model *m, int32_t dev)
{
	struct mdev *d;
	size_t i;

	for (i = 0; (d = vec_at(&m->dev, i)); i++)
		if (d->d.dev == dev)
			return d;
	return NULL;
}

static struct mdev *dev_get(struct model *m, int32_t dev)
{
	struct mdev *d = model_find_dev(m, dev);

	if (d || dev < 0)
		return d;
	d = vec_push(&m->dev, NULL);
	if (!d)
		return NULL;
	d->d.dev = dev;
	vec_init(&d->cur.queue, sizeof(struct rec_queue), 4096);
	vec_init(&d->cur.req, sizeof(struct rec_req), 65536);
	d->next = d->cur;
	vec_init(&d->opener, sizeof(struct mopener), 256);
	return d;
}

const struct rec_task *model_task(const struct model *m, uint32_t tid, uint64_t from)
{
	struct mtask *t;
	size_t i;

	if (!tid)
		return NULL;
	for (i = 0; (t = vec_at(&m->task, i)); i++)
		if (t->t.tid == tid)
			return t->t_ns >= from ? &t->t : NULL;
	return NULL;
}

const struct snap *model_snap(const struct model *m, int32_t dev, uint64_t from, uint64_t until)
{
	const struct mdev *d = model_find_dev(m, dev);

	if (!d || !d->cur.ns || d->cur.ns < from || (until && d->cur.ns > until))
		return NULL;
	return &d->cur;
}

static int feed_meta(struct model *m, const struct rec_meta *r)
{
	const struct {
		uint64_t asked, told, *set;
	} b[] = {
		{m->asked.start_dev_ns, r->budget_start_dev_ns, &m->cfg.start_dev_ns},
		{m->asked.cmd_ns, r->budget_cmd_ns, &m->cfg.cmd_ns},
		{m->asked.freeze_ns, r->budget_freeze_ns, &m->cfg.freeze_ns},
		{m->asked.attr_ns, r->budget_attr_ns, &m->cfg.attr_ns},
		{m->asked.request_ns, r->budget_request_ns, &m->cfg.request_ns},
	};

	m->meta = *r;
	m->has_meta = true;
	for (size_t i = 0; i < ARRAY_SIZE(b); i++)
		if (!b[i].asked && b[i].told)
			*b[i].set = b[i].told;
	m->bad_kernel = ublk_kernel_known_bad(m->meta.kernel);
	return 0;
}

static int feed_dev(struct model *m, const struct rec_dev *r)
{
	struct mdev *d = dev_get(m, r->dev);
	bool was_down;

	if (!d)
		return r->dev < 0 ? 0 : -ENOMEM;
	was_down = d->dev_ns && d->d.state == DEV_QUIESCED;
	if (r->state == DEV_GONE) {
		/* What comes under this number now is another device. */
		memset(&d->server, 0, sizeof(d->server));
		d->back_ns = d->quiesced_ns = d->recovery.id = 0;
		d->cur.ns = 0;
		d->cur.queue.nr = d->cur.req.nr = d->opener.nr = 0;
		was_down = false;
	}
	d->d = *r;
	d->dev_ns = m->now;
	d->gone = r->state == DEV_GONE;
	if (r->state == DEV_QUIESCED) {
		if (!d->quiesced_ns)
			d->quiesced_ns = m->now;
	} else {
		d->quiesced_ns = 0;
		d->recovery.id = 0;
		if (was_down && r->state == DEV_LIVE)
			d->back_ns = m->now;
	}
	d->next.ns = m->now;
	d->next.queue.nr = d->next.req.nr = 0;
	return 0;
}

static int feed_queue(struct model *m, const struct rec_queue *r)
{
	struct mdev *d = model_find_dev(m, r->dev);

	if (!d || !d->next.ns)
		return 0;
	return vec_push(&d->next.queue, r) ? 0 : -ENOMEM;
}

static void snap_forget(struct snap *s, const struct rec_req *done)
{
	struct rec_req *q;
	size_t i;

	for (i = 0; (q = vec_at(&s->req, i)); i++) {
		if (q->queue == done->queue && q->tag == done->tag && q->start_ns <= done->end_ns) {
			vec_drop(&s->req, i);
			return;
		}
	}
}

static int feed_req(struct model *m, const struct rec_req *r)
{
	struct mdev *d = model_find_dev(m, r->dev);

	if (r->end_ns || r->state == REQ_DONE) {
		struct rec_req done = *r;

		if (!done.end_ns)
			done.end_ns = m->now;
		m->done[m->nr_done++ % MODEL_DONE] = done;
		if (d) {
			snap_forget(&d->cur, &done);
			snap_forget(&d->next, &done);
		}
		return 0;
	}
	if (!d || !d->next.ns)
		return 0;
	return vec_push(&d->next.req, r) ? 0 : -ENOMEM;
}

static int feed_snap_end(struct model *m, int32_t dev)
{
	struct mdev *d = model_find_dev(m, dev);
	struct snap swap;

	if (!d || !d->next.ns)
		return 0;
	swap = d->cur;
	d->cur = d->next;
	d->next = swap;
	d->next.ns = 0;
	return 0;
}

static void note_recovery(struct model *m, const struct rec_cmd *c)
{
	struct mdev *d = dev_get(m, c->dev);

	if (!d || !c->end_ns || c->res < 0)
		return;
	switch (c->nr) {
	case CMD_START_USER_RECOVERY:
		d->recovery = *c;
		break;
	case CMD_END_USER_RECOVERY:
	case CMD_STOP_DEV:
	case CMD_TRY_STOP_DEV:
	case CMD_DEL_DEV:
	case CMD_DEL_DEV_ASYNC:
		d->recovery.id = 0;
		break;
	}
}

static int feed_cmd(struct model *m, const struct rec_cmd *r)
{
	struct mcmd *c;
	size_t i;

	if (m->bad_kernel && !m->has_bad_cmd && r->nr != CMD_GET_FEATURES) {
		m->bad_cmd = *r;
		m->has_bad_cmd = true;
	}
	note_recovery(m, r);
	for (i = 0; (c = vec_at(&m->cmd, i)); i++)
		if (c->c.id == r->id && c->c.tgid == r->tgid)
			break;
	if (!c)
		c = vec_push(&m->cmd, NULL);
	if (!c)
		return -ENOMEM;
	c->c = *r;
	c->told_ns = m->now;
	return 0;
}

static int feed_freeze(struct model *m, const struct rec_freeze *r)
{
	struct mfreeze *f;
	size_t i;

	for (i = 0; (f = vec_at(&m->freeze, i)); i++)
		if (f->f.id == r->id && f->f.dev == r->dev)
			break;
	if (!f)
		f = vec_push(&m->freeze, NULL);
	if (!f)
		return -ENOMEM;
	f->f = *r;
	f->told_ns = m->now;
	return 0;
}

static int feed_attr(struct model *m, const struct rec_attr *r)
{
	struct mattr *a;
	size_t i;

	for (i = 0; (a = vec_at(&m->attr, i)); i++)
		if (a->a.id == r->id && a->a.dev == r->dev)
			break;
	if (!a)
		a = vec_push(&m->attr, NULL);
	if (!a)
		return -ENOMEM;
	a->a = *r;
	a->told_ns = m->now;
	return 0;
}

static int feed_elv(struct model *m, const struct rec_elv *r)
{
	struct melv *e;
	size_t i;

	for (i = 0; (e = vec_at(&m->elv, i)); i++)
		if (e->e.id == r->id && e->e.dev == r->dev)
			break;
	if (!e)
		e = vec_push(&m->elv, NULL);
	if (!e)
		return -ENOMEM;
	e->e = *r;
	e->told_ns = m->now;
	return 0;
}

static int feed_task(struct model *m, const struct rec_task *r)
{
	struct mtask *t, *oldest = NULL;
	size_t i;

	for (i = 0; (t = vec_at(&m->task, i)); i++) {
		if (t->t.tid == r->tid)
			break;
		if (!oldest || t->t_ns < oldest->t_ns)
			oldest = t;
	}
	if (!t)
		t = vec_push(&m->task, NULL);
	if (!t)
		t = oldest;
	if (!t)
		return -ENOMEM;
	t->t = *r;
	t->t_ns = m->now;
	return 0;
}

static int feed_opener(struct model *m, const struct rec_opener *r)
{
	struct mdev *d = dev_get(m, r->dev);
	struct mopener *o;
	size_t i;

	if (!d)
		return r->dev < 0 ? 0 : -ENOMEM;
	for (i = 0; (o = vec_at(&d->opener, i)); i++) {
		if (o->o.tgid == r->tgid && o->o.cdev == r->cdev && strcmp(o->o.what, r->what) == 0)
			break;
	}
	if (!o)
		o = vec_push(&d->opener, NULL);
	if (!o)
		return -ENOMEM;
	o->o = *r;
	o->t_ns = m->now;
	return 0;
}

static int feed_server(struct model *m, const struct rec_server *r)
{
	struct mdev *d = dev_get(m, r->dev);

	if (!d)
		return r->dev < 0 ? 0 : -ENOMEM;
	if (!r->gone && d->server.gone)
		d->back_ns = r->at_ns ? r->at_ns : m->now;
	d->server = *r;
	if (!d->server.at_ns)
		d->server.at_ns = m->now;
	return 0;
}

static int feed_span(struct model *m, const struct rec_span *r)
{
	if (r->open)
		return vec_push(&m->span, r) ? 0 : -ENOMEM;
	m->closed[m->nr_closed++ % MODEL_CLOSED] = *r;
	return 0;
}

static int feed_kmsg(struct model *m, const struct rec_kmsg *r)
{
	static const char *const ours[] = {"ublk",    "blk_",     "blk-mq",   "block",
					   "bdev",    "gendisk",  "elevator", "elv_",
					   "iou-wrk", "io_uring", "io_wq"};

	if (strcmp(r->what, "oops") != 0 || m->oops.what[0])
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
		if (strstr(r->line, ours[i])) {
			m->oops = *r;
			m->oops_ns = m->now;
			break;
		}
	}
	return 0;
}

static int feed_hist(struct model *m, const struct rec_hist *r)
{
	struct rec_hist *h;
	size_t i;

	for (i = 0; (h = vec_at(&m->hist, i)); i++) {
		if (h->dev == r->dev && h->op == r->op && strcmp(h->what, r->what) == 0) {
			*h = *r;
			return 0;
		}
	}
	return vec_push(&m->hist, r) ? 0 : -ENOMEM;
}

/* Subjects that have ended and were judged, or are not told any more, are done with. */
#define FORGET_ENDED(vec, type, member)                                                \
	do {                                                                           \
		type *p_;                                                              \
		for (size_t i_ = 0; (p_ = vec_at((vec), i_));) {                       \
			if (p_->member.end_ns || since(m->now, p_->told_ns) > LOST_NS) \
				vec_drop((vec), i_);                                   \
			else                                                           \
				i_++;                                                  \
		}                                                                      \
	} while (0)

/* Threads and openers not told for long say nothing about now; numbers are used again. */
static void forget_old(struct model *m)
{
	struct mtask *t;
	struct mdev *d;
	size_t i;

	FORGET_ENDED(&m->cmd, struct mcmd, c);
	FORGET_ENDED(&m->freeze, struct mfreeze, f);
	FORGET_ENDED(&m->attr, struct mattr, a);
	FORGET_ENDED(&m->elv, struct melv, e);
	for (i = 0; (t = vec_at(&m->task, i));) {
		if (since(m->now, t->t_ns) > 30 * NSEC_PER_SEC)
			vec_drop(&m->task, i);
		else
			i++;
	}
	for (i = 0; (d = vec_at(&m->dev, i));) {
		struct mopener *o;

		for (size_t k = 0; (o = vec_at(&d->opener, k));) {
			if (since(m->now, o->t_ns) > 2 * NSEC_PER_SEC)
				vec_drop(&d->opener, k);
			else
				k++;
		}
		if (d->gone) {
			dev_free(d);
			vec_drop(&m->dev, i);
		} else {
			i++;
		}
	}
}

static int feed_tick(struct model *m)
{
	verdicts_draw(m);
	forget_old(m);
	/* Those still open are told again before the next tick. */
	m->span.nr = 0;
	m->prev_tick = m->now;
	return 0;
}

int model_feed(struct model *m, const struct rec *r)
{
	int ret = 0;

	if (r->t_ns > m->now)
		m->now = r->t_ns;
	switch (r->kind) {
	case REC_META:
		ret = feed_meta(m, &r->meta);
		break;
	case REC_DEV:
		ret = feed_dev(m, &r->dev);
		break;
	case REC_QUEUE:
		ret = feed_queue(m, &r->queue);
		break;
	case REC_REQ:
		ret = feed_req(m, &r->req);
		break;
	case REC_SNAP_END:
		ret = feed_snap_end(m, r->snap_end.dev);
		break;
	case REC_CMD:
		ret = feed_cmd(m, &r->cmd);
		break;
	case REC_FREEZE:
		ret = feed_freeze(m, &r->freeze);
		break;
	case REC_ATTR:
		ret = feed_attr(m, &r->attr);
		break;
	case REC_ELV:
		ret = feed_elv(m, &r->elv);
		break;
	case REC_TASK:
		ret = feed_task(m, &r->task);
		break;
	case REC_OPENER:
		ret = feed_opener(m, &r->opener);
		break;
	case REC_SERVER:
		ret = feed_server(m, &r->server);
		break;
	case REC_SPAN:
		ret = feed_span(m, &r->span);
		break;
	case REC_KMSG:
		ret = feed_kmsg(m, &r->kmsg);
		break;
	case REC_HIST:
		ret = feed_hist(m, &r->hist);
		break;
	case REC_COUNTS:
		m->counts = r->counts;
		m->has_counts = true;
		break;
	case REC_TICK:
		ret = feed_tick(m);
		break;
	case REC_HOOK:
	case REC_END:
		break;
	}
	if (ret == -ENOMEM)
		m->untracked++;
	return ret;
}

const struct finding *model_finding(const struct model *m, size_t i)
{
	struct mfinding **f = vec_at(&m->finding, i);

	return f ? &(*f)->f : NULL;
}

size_t model_nr_findings(const struct model *m)
{
	return m->finding.nr;
}

const struct rec_counts *model_counts(const struct model *m)
{
	return m->has_counts ? &m->counts : NULL;
}

const struct rec_meta *model_meta(const struct model *m)
{
	return m->has_meta ? &m->meta : NULL;
}

const struct rec_dev *model_dev(const struct model *m, size_t i)
{
	struct mdev *d;
	size_t k;

	for (k = 0; (d = vec_at(&m->dev, k)); k++)
		if (d->dev_ns && !d->gone && !i--)
			return &d->d;
	return NULL;
}

const struct rec_cmd *model_cmd(const struct model *m, size_t i)
{
	struct mcmd *c;
	size_t k;

	for (k = 0; (c = vec_at(&m->cmd, k)); k++)
		if (!c->c.end_ns && !i--)
			return &c->c;
	return NULL;
}

const struct rec_freeze *model_freeze(const struct model *m, size_t i)
{
	struct mfreeze *f;
	size_t k;

	for (k = 0; (f = vec_at(&m->freeze, k)); k++)
		if (!f->f.end_ns && !i--)
			return &f->f;
	return NULL;
}

const struct rec_req *model_req(const struct model *m, int32_t dev, size_t i)
{
	const struct mdev *d = model_find_dev(m, dev);

	return d ? vec_at(&d->cur.req, i) : NULL;
}

const struct rec_hist *model_hist(const struct model *m, size_t i)
{
	return vec_at(&m->hist, i);
}
