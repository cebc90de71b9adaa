// SPDX-License-Identifier: GPL-2.0-or-later
/* Collects what lasted; see timeline.h. Items are found again by a hash of what identifies them. */
#include <stdio.h>
#include <string.h>

#include "tracing/timeline.h"

#define INDEX_SIZE 32768 /* buckets; a power of two */
/* A span that was polled no more for so long ended without telling. */
#define SPAN_LOST_NS (5 * NSEC_PER_SEC)

struct key {
	enum tl_kind kind;
	uint64_t a, b, c, d;
};

static const size_t rec_size[TL_NR] = {
	[TL_CMD] = sizeof(struct rec_cmd),   [TL_FREEZE] = sizeof(struct rec_freeze),
	[TL_ATTR] = sizeof(struct rec_attr), [TL_ELV] = sizeof(struct rec_elv),
	[TL_REQ] = sizeof(struct rec_req),   [TL_SPAN] = sizeof(struct rec_span),
};

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

static uint64_t str_hash(const char *s)
{
	uint64_t h = 1;

	while (*s)
		h = mix(h, (unsigned char)*s++);
	return h;
}

static uint64_t key_hash(const struct key *k)
{
	return mix(mix(mix(mix(mix(0, (uint64_t)k->kind), k->a), k->b), k->c), k->d);
}

/* Identity: the id where the record has one; else what cannot be the same of two at one time. */
static struct key key_of(enum tl_kind kind, const void *rec)
{
	struct key k = {.kind = kind};

	switch (kind) {
	case TL_CMD:
		k.a = ((const struct rec_cmd *)rec)->id;
		break;
	case TL_FREEZE:
		k.a = ((const struct rec_freeze *)rec)->id;
		break;
	case TL_ATTR:
		k.a = ((const struct rec_attr *)rec)->id;
		break;
	case TL_ELV:
		k.a = ((const struct rec_elv *)rec)->id;
		break;
	case TL_REQ: {
		const struct rec_req *r = rec;

		k.a = (uint32_t)r->dev;
		k.b = (uint64_t)r->queue << 32 | r->tag;
		k.c = r->start_ns;
		break;
	}
	case TL_SPAN: {
		const struct rec_span *s = rec;

		k.a = (uint64_t)s->pid << 32 | (s->is_io ? s->queue << 16 | s->tag : 0);
		k.b = s->op_id;
		k.c = s->start_ns;
		k.d = mix(mix(str_hash(s->event), str_hash(s->key)), s->attempt);
		break;
	}
	case TL_NR:
		break;
	}
	return k;
}

static struct tl_item **bucket_of(const struct timeline *t, const struct key *k)
{
	return &t->index[key_hash(k) & (INDEX_SIZE - 1)];
}

static struct tl_item *find(const struct timeline *t, const struct key *k)
{
	struct tl_item *it;

	for (it = *bucket_of(t, k); it; it = it->next) {
		struct key o;

		if (it->kind != k->kind)
			continue;
		o = key_of(it->kind, &it->cmd);
		if (o.a == k->a && o.b == k->b && o.c == k->c && o.d == k->d)
			return it;
	}
	return NULL;
}

static void unindex(struct timeline *t, struct tl_item *it)
{
	struct key k = key_of(it->kind, &it->cmd);
	struct tl_item **p;

	for (p = bucket_of(t, &k); *p; p = &(*p)->next) {
		if (*p == it) {
			*p = it->next;
			return;
		}
	}
}

static int u64_cmp(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

/* Leave out the shorter half of what ended; of open ones, if all are, the newest. */
static void make_room(struct timeline *t, enum tl_kind kind)
{
	uint64_t *len = calloc(t->nr[kind], sizeof(*len));
	size_t ended = 0, quota, kept = 0;
	uint64_t limit;

	if (!len)
		return;
	for (size_t i = 0; i < t->nr[kind]; i++) {
		struct tl_item *it = t->item[kind][i];

		if (it->end_ns)
			len[ended++] = it->end_ns - it->start_ns;
	}
	qsort(len, ended, sizeof(*len), u64_cmp);
	quota = DIV_ROUND_UP(ended, 2);
	limit = ended ? len[quota - 1] : 0;
	free(len);
	for (size_t i = 0; i < t->nr[kind]; i++) {
		struct tl_item *it = t->item[kind][i];

		if (quota && it->end_ns && it->end_ns - it->start_ns <= limit) {
			quota--;
			unindex(t, it);
			free(it);
			t->left_out[kind]++;
		} else {
			t->item[kind][kept++] = it;
		}
	}
	t->nr[kind] = kept;
}

static bool grow(struct timeline *t, enum tl_kind kind)
{
	size_t cap = MIN(TL_MAX, MAX(64, t->cap[kind] * 2));
	struct tl_item **a;

	if (t->nr[kind] < t->cap[kind])
		return true;
	if (t->nr[kind] >= TL_MAX) {
		make_room(t, kind);
		return t->nr[kind] < TL_MAX;
	}
	a = reallocarray(t->item[kind], cap, sizeof(struct tl_item *));
	if (!a) {
		t->out_of_memory++;
		return false;
	}
	t->item[kind] = a;
	t->cap[kind] = cap;
	return true;
}

static struct tl_item *insert(struct timeline *t, const struct key *k)
{
	struct tl_item *it, **b;

	if (!grow(t, k->kind)) {
		t->left_out[k->kind]++;
		return NULL;
	}
	it = calloc(1, offsetof(struct tl_item, cmd) + rec_size[k->kind]);
	if (!it) {
		t->out_of_memory++;
		return NULL;
	}
	it->kind = k->kind;
	b = bucket_of(t, k);
	it->next = *b;
	*b = it;
	t->item[k->kind][t->nr[k->kind]++] = it;
	return it;
}

static void note(struct timeline *t, uint64_t t_ns, enum tl_kind kind, const void *rec, int32_t dev,
		 uint64_t start_ns, uint64_t end_ns)
{
	struct key k = key_of(kind, rec);
	struct tl_item *it = find(t, &k);

	if (!it)
		it = insert(t, &k);
	if (!it)
		return;
	memcpy(&it->cmd, rec, rec_size[kind]);
	it->dev = dev;
	it->start_ns = MIN(start_ns ? start_ns : t_ns, t_ns);
	it->end_ns = end_ns ? MAX(end_ns, it->start_ns) : 0;
	it->end_unknown = false;
	it->seen = t->records;
	it->seen_ns = t_ns;
}

static struct tl_dev *dev_slot(struct timeline *t, int32_t dev, bool create)
{
	size_t lo = 0, hi = t->nr_devs;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->dev[mid].dev.dev < dev)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < t->nr_devs && t->dev[lo].dev.dev == dev)
		return &t->dev[lo];
	if (!create)
		return NULL;
	if (t->nr_devs == TL_DEVS_MAX) {
		t->devs_left_out++;
		return NULL;
	}
	if (t->nr_devs == t->cap_devs) {
		size_t cap = MAX(16, t->cap_devs * 2);
		struct tl_dev *a = reallocarray(t->dev, cap, sizeof(*a));

		if (!a) {
			t->out_of_memory++;
			return NULL;
		}
		t->dev = a;
		t->cap_devs = cap;
	}
	memmove(&t->dev[lo + 1], &t->dev[lo], (t->nr_devs - lo) * sizeof(*t->dev));
	memset(&t->dev[lo], 0, sizeof(*t->dev));
	t->nr_devs++;
	return &t->dev[lo];
}

static void note_dev(struct timeline *t, const struct rec_dev *d)
{
	struct tl_dev *slot = dev_slot(t, d->dev, true);
	char volume[REC_VOLUME_LEN];

	if (!slot)
		return;
	memcpy(volume, slot->dev.volume, sizeof(volume));
	slot->dev = *d;
	if (!d->volume[0])
		memcpy(slot->dev.volume, volume, sizeof(volume));
	slot->snap_seen = t->records;
}

/* A request that ended soon is of no interest, even if it was seen in flight. */
static void note_req(struct timeline *t, const struct rec *r)
{
	const struct rec_req *q = &r->req;
	struct key k = key_of(TL_REQ, q);
	struct tl_item *it;

	if (!q->end_ns || q->end_ns >= q->start_ns + TL_REQ_MIN_NS) {
		note(t, r->t_ns, TL_REQ, q, q->dev, q->start_ns, q->end_ns);
		return;
	}
	it = find(t, &k);
	for (size_t i = t->nr[TL_REQ]; it && i-- > 0;) {
		if (t->item[TL_REQ][i] == it) {
			unindex(t, it);
			free(it);
			t->item[TL_REQ][i] = t->item[TL_REQ][--t->nr[TL_REQ]];
			return;
		}
	}
}

/* Requests of dev that the snapshot did not name are over; short ones are of no interest. */
static void snap_end(struct timeline *t, int32_t dev, uint64_t t_ns)
{
	const struct tl_dev *slot = dev_slot(t, dev, false);
	size_t kept = 0;

	if (!slot)
		return;
	for (size_t i = 0; i < t->nr[TL_REQ]; i++) {
		struct tl_item *it = t->item[TL_REQ][i];

		if (it->dev == dev && !it->end_ns && it->seen < slot->snap_seen) {
			if (it->seen_ns - it->start_ns < TL_REQ_MIN_NS) {
				unindex(t, it);
				free(it);
				continue;
			}
			it->end_ns = t_ns;
			it->end_unknown = true;
		}
		t->item[TL_REQ][kept++] = it;
	}
	t->nr[TL_REQ] = kept;
}

void tl_record(struct timeline *t, const struct rec *r)
{
	if (!t->records++)
		t->first_ns = r->t_ns;
	t->last_ns = MAX(t->last_ns, r->t_ns);
	switch (r->kind) {
	case REC_META:
		t->meta = r->meta;
		t->has_meta = true;
		break;
	case REC_HOOK:
		if (t->nr_hooks < TL_HOOKS_MAX)
			t->hook[t->nr_hooks++] = r->hook;
		break;
	case REC_DEV:
		note_dev(t, &r->dev);
		break;
	case REC_SNAP_END:
		snap_end(t, r->snap_end.dev, r->t_ns);
		break;
	case REC_REQ:
		note_req(t, r);
		break;
	case REC_CMD:
		note(t, r->t_ns, TL_CMD, &r->cmd, r->cmd.dev, r->cmd.submit_ns, r->cmd.end_ns);
		break;
	case REC_FREEZE:
		note(t, r->t_ns, TL_FREEZE, &r->freeze, r->freeze.dev, r->freeze.start_ns,
		     r->freeze.end_ns);
		break;
	case REC_ATTR:
		note(t, r->t_ns, TL_ATTR, &r->attr, r->attr.dev, r->attr.start_ns, r->attr.end_ns);
		break;
	case REC_ELV:
		note(t, r->t_ns, TL_ELV, &r->elv, r->elv.dev, r->elv.start_ns, r->elv.end_ns);
		break;
	case REC_SPAN:
		note(t, r->t_ns, TL_SPAN, &r->span, r->span.dev, r->span.start_ns, r->span.end_ns);
		break;
	case REC_COUNTS:
		t->counts = r->counts;
		t->has_counts = true;
		break;
	case REC_END:
		t->ended = true;
		break;
	default:
		break;
	}
}

void finding_copy(struct finding *to, const struct finding *f)
{
	size_t head = offsetof(struct finding, blocker),
	       tail = offsetof(struct finding, nr_blockers);
	unsigned int nr = MIN(f->nr_blockers, FINDING_BLOCKERS);

	memcpy(to, f, head);
	memcpy(to->blocker, f->blocker, nr * sizeof(f->blocker[0]));
	memcpy((char *)to + tail, (const char *)f + tail, sizeof(*f) - tail);
	to->nr_blockers = nr;
	to->nr_cycle = MIN(f->nr_cycle, FINDING_CYCLE);
}

/* When a finding ends its blockers and stacks are gone, but the report is about them. */
static void finding_close(struct finding *to, const struct finding *f)
{
	to->end_ns = f->end_ns;
	to->last_ns = f->last_ns;
	memcpy(to->summary, f->summary, sizeof(to->summary));
	if (f->cmd.id)
		to->cmd = f->cmd;
	if (f->attr.id)
		to->attr = f->attr;
	if (f->freeze.id)
		to->freeze = f->freeze;
}

void tl_finding(struct timeline *t, const struct finding *f, enum finding_event ev)
{
	struct finding *slot = NULL;

	for (size_t i = t->nr_findings; i-- > 0 && !slot;)
		if (t->finding[i]->id == f->id)
			slot = t->finding[i];
	if (slot && ev == FINDING_CLOSE && !f->nr_blockers && slot->nr_blockers) {
		finding_close(slot, f);
		return;
	}
	if (!slot) {
		if (t->nr_findings == TL_FINDINGS_MAX) {
			t->findings_left_out += ev == FINDING_OPEN;
			return;
		}
		slot = calloc(1, sizeof(*slot));
		if (!slot) {
			t->out_of_memory++;
			return;
		}
		t->finding[t->nr_findings++] = slot;
	}
	finding_copy(slot, f);
	/* What has no beginning (a fact about the kernel) is shown where it was found. */
	if (!slot->since_ns)
		slot->since_ns = slot->last_ns ? slot->last_ns : t->last_ns;
}

int tl_init(struct timeline *t)
{
	memset(t, 0, sizeof(*t));
	t->index = calloc(INDEX_SIZE, sizeof(struct tl_item *));
	t->finding = calloc(TL_FINDINGS_MAX, sizeof(struct finding *));
	t->hook = calloc(TL_HOOKS_MAX, sizeof(*t->hook));
	if (t->index && t->finding && t->hook)
		return 0;
	tl_free(t);
	return -ENOMEM;
}

void tl_free(struct timeline *t)
{
	for (int k = 0; k < TL_NR; k++) {
		for (size_t i = 0; i < t->nr[k]; i++)
			free(t->item[k][i]);
		free(t->item[k]);
	}
	for (size_t i = 0; i < t->nr_findings; i++)
		free(t->finding[i]);
	free(t->finding);
	free(t->hook);
	free(t->dev);
	free(t->index);
	memset(t, 0, sizeof(*t));
}

static int item_cmp(const void *pa, const void *pb)
{
	const struct tl_item *a = *(struct tl_item *const *)pa;
	const struct tl_item *b = *(struct tl_item *const *)pb;
	uint64_t ea = a->end_ns ? a->end_ns : UINT64_MAX, eb = b->end_ns ? b->end_ns : UINT64_MAX;

	if (a->start_ns != b->start_ns)
		return a->start_ns < b->start_ns ? -1 : 1;
	if (ea != eb)
		return ea > eb ? -1 : 1;
	return a->seen < b->seen ? -1 : a->seen > b->seen;
}

static uint32_t queue_of(const struct tl_item *it)
{
	return it->kind == TL_REQ ? it->req.queue : 0;
}

bool tl_same_track(const struct tl_item *a, const struct tl_item *b)
{
	return a->dev == b->dev && tl_track_of(a->kind) == tl_track_of(b->kind) &&
	       queue_of(a) == queue_of(b);
}

static int track_cmp(const void *pa, const void *pb)
{
	const struct tl_item *a = *(struct tl_item *const *)pa;
	const struct tl_item *b = *(struct tl_item *const *)pb;
	enum tl_track ta = tl_track_of(a->kind), tb = tl_track_of(b->kind);

	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	if (ta != tb)
		return ta < tb ? -1 : 1;
	if (queue_of(a) != queue_of(b))
		return queue_of(a) < queue_of(b) ? -1 : 1;
	return item_cmp(pa, pb);
}

struct tl_item **tl_order(const struct timeline *t, size_t *n)
{
	struct tl_item **all;
	size_t nr = 0;

	for (int k = 0; k < TL_NR; k++)
		nr += t->nr[k];
	all = calloc(nr + 1, sizeof(*all));
	if (!all)
		return NULL;
	*n = nr;
	nr = 0;
	for (int k = 0; k < TL_NR; k++)
		for (size_t i = 0; i < t->nr[k]; i++)
			all[nr++] = t->item[k][i];
	qsort(all, nr, sizeof(*all), track_cmp);
	return all;
}

static int32_t dev_of_volume(const struct timeline *t, const char *volume)
{
	for (size_t i = 0; i < t->nr_devs; i++)
		if (!strcmp(t->dev[i].dev.volume, volume))
			return t->dev[i].dev.dev;
	return -1;
}

void tl_finish(struct timeline *t)
{
	for (size_t i = 0; i < t->nr[TL_SPAN]; i++) {
		struct tl_item *it = t->item[TL_SPAN][i];

		if (it->dev < 0 && it->span.volume[0])
			it->dev = dev_of_volume(t, it->span.volume);
		if (!it->end_ns && it->seen_ns + SPAN_LOST_NS < t->last_ns) {
			it->end_ns = it->seen_ns;
			it->end_unknown = true;
		}
	}
	for (int k = 0; k < TL_NR; k++)
		if (t->nr[k])
			qsort(t->item[k], t->nr[k], sizeof(*t->item[k]), item_cmp);
}

uint64_t tl_end(const struct timeline *t, const struct tl_item *it)
{
	return it->end_ns ? it->end_ns : MAX(t->last_ns, it->start_ns);
}

uint64_t tl_finding_end(const struct timeline *t, const struct finding *f)
{
	return MAX(f->since_ns, f->end_ns ? f->end_ns : MAX(f->last_ns, t->last_ns));
}

const char *tl_volume(const struct timeline *t, int32_t dev)
{
	for (size_t lo = 0, hi = t->nr_devs; lo < hi;) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->dev[mid].dev.dev == dev)
			return t->dev[mid].dev.volume;
		if (t->dev[mid].dev.dev < dev)
			lo = mid + 1;
		else
			hi = mid;
	}
	return "";
}

void tl_dev_name(const struct timeline *t, int32_t dev, char *buf, size_t size)
{
	const char *volume = tl_volume(t, dev);

	if (dev < 0)
		snprintf(buf, size, "no device");
	else
		snprintf(buf, size, "ublkb%d%s%s", dev, volume[0] ? " " : "", volume);
}
