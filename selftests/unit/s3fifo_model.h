/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plain model of S3-FIFO: arrays and linear search, one shard. What a cache that is made of
 * s3fifo.h keeps must be what this keeps, after every step.
 */
#ifndef GFS_UNIT_S3FIFO_MODEL_H
#define GFS_UNIT_S3FIFO_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "lib/util.h"

#define MODEL_MAX 4096

struct model_entry {
	uint32_t id;
	uint64_t weight;
	int freq;
};

/* [0] is the newest. */
struct model_queue {
	struct model_entry e[MODEL_MAX];
	int nr;
	uint64_t bytes;
};

struct model {
	struct model_queue small, mainq, ghost;
	uint64_t budget, small_target;
};

static inline struct model *model_new(uint64_t budget)
{
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->budget = budget;
	m->small_target = budget / 10;
	return m;
}

static inline void mq_push(struct model_queue *q, struct model_entry e)
{
	assert_true(q->nr < MODEL_MAX);
	memmove(&q->e[1], &q->e[0], (size_t)q->nr * sizeof(e));
	q->e[0] = e;
	q->nr++;
	q->bytes += e.weight;
}

static inline struct model_entry mq_take(struct model_queue *q, int i)
{
	struct model_entry e = q->e[i];

	memmove(&q->e[i], &q->e[i + 1], (size_t)(q->nr - i - 1) * sizeof(e));
	q->nr--;
	q->bytes -= e.weight;
	return e;
}

static inline int mq_find(const struct model_queue *q, uint32_t id)
{
	for (int i = 0; i < q->nr; i++)
		if (q->e[i].id == id)
			return i;
	return -1;
}

static inline bool model_has(const struct model *m, uint32_t id)
{
	return mq_find(&m->small, id) >= 0 || mq_find(&m->mainq, id) >= 0;
}

static inline uint64_t model_bytes(const struct model *m)
{
	return m->small.bytes + m->mainq.bytes;
}

static inline bool model_lookup(struct model *m, uint32_t id)
{
	struct model_queue *qs[] = {&m->small, &m->mainq};

	for (int k = 0; k < 2; k++) {
		int i = mq_find(qs[k], id);

		if (i < 0)
			continue;
		if (qs[k]->e[i].freq < 3)
			qs[k]->e[i].freq++;
		return true;
	}
	return false;
}

static inline void model_evict_small(struct model *m)
{
	while (m->small.nr) {
		struct model_entry e = mq_take(&m->small, m->small.nr - 1);

		if (e.freq > 1) {
			e.freq = 0;
			mq_push(&m->mainq, e);
			continue;
		}
		mq_push(&m->ghost, e);
		while (m->ghost.bytes > m->budget - m->small_target)
			mq_take(&m->ghost, m->ghost.nr - 1);
		return;
	}
}

static inline void model_evict_main(struct model *m)
{
	while (m->mainq.nr) {
		struct model_entry e = mq_take(&m->mainq, m->mainq.nr - 1);

		if (!e.freq)
			return;
		e.freq--;
		mq_push(&m->mainq, e);
	}
}

static inline void model_insert(struct model *m, uint32_t id, uint64_t weight)
{
	struct model_entry e = {.id = id, .weight = weight};
	int g = mq_find(&m->ghost, id);

	if (weight > m->budget || model_has(m, id))
		return;
	if (g >= 0)
		mq_take(&m->ghost, g);
	while (model_bytes(m) + weight > m->budget) {
		if (m->small.nr && (m->small.bytes >= m->small_target || !m->mainq.nr))
			model_evict_small(m);
		else
			model_evict_main(m);
	}
	mq_push(g >= 0 ? &m->mainq : &m->small, e);
}

static inline void model_remove(struct model *m, uint32_t id)
{
	struct model_queue *qs[] = {&m->small, &m->mainq, &m->ghost};

	for (int k = 0; k < 3; k++) {
		int i = mq_find(qs[k], id);

		if (i >= 0)
			mq_take(qs[k], i);
	}
}

static inline uint64_t next_rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

#endif
