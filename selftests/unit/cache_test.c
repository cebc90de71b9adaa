// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The cache against a plain model of S3-FIFO (arrays, linear search): the same keys are present
 * after every step, and the budget is never exceeded. And what a cache of immutable values promises
 * its users.
 */
#include "engine/cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

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

static void mq_push(struct model_queue *q, struct model_entry e)
{
	assert_true(q->nr < MODEL_MAX);
	memmove(&q->e[1], &q->e[0], (size_t)q->nr * sizeof(e));
	q->e[0] = e;
	q->nr++;
	q->bytes += e.weight;
}

static struct model_entry mq_take(struct model_queue *q, int i)
{
	struct model_entry e = q->e[i];

	memmove(&q->e[i], &q->e[i + 1], (size_t)(q->nr - i - 1) * sizeof(e));
	q->nr--;
	q->bytes -= e.weight;
	return e;
}

static int mq_find(const struct model_queue *q, uint32_t id)
{
	for (int i = 0; i < q->nr; i++)
		if (q->e[i].id == id)
			return i;
	return -1;
}

static bool model_lookup(struct model *m, uint32_t id)
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

static void model_evict_small(struct model *m)
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

static void model_evict_main(struct model *m)
{
	while (m->mainq.nr) {
		struct model_entry e = mq_take(&m->mainq, m->mainq.nr - 1);

		if (!e.freq)
			return;
		e.freq--;
		mq_push(&m->mainq, e);
	}
}

static void model_insert(struct model *m, uint32_t id, uint64_t weight)
{
	struct model_entry e = {.id = id, .weight = weight};
	int g = mq_find(&m->ghost, id);

	if (weight > m->budget || mq_find(&m->small, id) >= 0 || mq_find(&m->mainq, id) >= 0)
		return;
	if (g >= 0)
		mq_take(&m->ghost, g);
	while (m->small.bytes + m->mainq.bytes + weight > m->budget) {
		if (m->small.nr && (m->small.bytes >= m->small_target || !m->mainq.nr))
			model_evict_small(m);
		else
			model_evict_main(m);
	}
	mq_push(g >= 0 ? &m->mainq : &m->small, e);
}

static void key_of(uint32_t id, uint8_t key[32])
{
	hash_sha256(&id, sizeof(id), key);
}

static struct cache_buf *value_of(uint32_t id, uint32_t size)
{
	struct cache_buf *b = cache_buf_new(size);

	assert_non_null(b);
	memset(b->data, (int)(id & 0xff), size);
	return b;
}

static uint32_t size_of(uint32_t id)
{
	static const uint32_t sizes[] = {4096, 4096, 1024, 65536, 100, 8192};

	return sizes[id % ARRAY_SIZE(sizes)];
}

static uint64_t next_rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void same_evictions_as_a_plain_model(void **state)
{
	struct model *m = calloc(1, sizeof(*m));
	const uint64_t budget = 1 * MiB;
	struct cache *c = cache_create(budget);
	uint64_t seed = 42;

	assert_non_null(m);
	assert_non_null(c);
	m->budget = budget;
	m->small_target = budget / 10;
	for (int step = 0; step < 60000; step++) {
		/* A hot set, a warm set and scans. */
		uint64_t r = next_rnd(&seed);
		uint32_t id = r % 4 == 0   ? (uint32_t)(r >> 8) % 20
			      : r % 4 == 1 ? (uint32_t)(r >> 8) % 400
					   : 1000 + (uint32_t)step % 3000;
		struct cache_stats st;
		struct cache_buf *b;
		uint8_t key[32];
		bool hit;

		key_of(id, key);
		b = cache_lookup(c, key);
		hit = model_lookup(m, id);
		assert_int_equal(b != NULL, hit);
		if (b) {
			assert_int_equal(b->size, size_of(id));
			assert_int_equal(b->data[b->size - 1], id & 0xff);
		} else {
			b = value_of(id, size_of(id));
			cache_insert(c, key, b);
			model_insert(m, id, cache_weight(size_of(id)));
		}
		cache_buf_put(b);
		cache_stats_read(c, &st);
		assert_true(st.bytes <= budget);
		assert_int_equal(st.bytes, m->small.bytes + m->mainq.bytes);
		assert_int_equal(st.entries, m->small.nr + m->mainq.nr);
	}
	for (uint32_t id = 0; id < 4000; id++) {
		uint8_t key[32];
		struct cache_buf *b;

		key_of(id, key);
		b = cache_peek(c, key);
		assert_int_equal(b != NULL,
				 mq_find(&m->small, id) >= 0 || mq_find(&m->mainq, id) >= 0);
		cache_buf_put(b);
	}
	cache_destroy(c);
	free(m);
}

static void a_scan_does_not_evict_what_is_used(void **state)
{
	struct cache *c = cache_create(64 * 70 * KiB);
	uint8_t key[32];

	for (int round = 0; round < 4; round++) {
		for (uint32_t id = 0; id < 8; id++) {
			struct cache_buf *b;

			key_of(id, key);
			b = cache_lookup(c, key);
			if (!b) {
				b = value_of(id, 65536);
				cache_insert(c, key, b);
			}
			cache_buf_put(b);
		}
	}
	for (uint32_t id = 100; id < 1100; id++) {
		struct cache_buf *b = value_of(id, 65536);

		key_of(id, key);
		cache_insert(c, key, b);
		cache_buf_put(b);
	}
	for (uint32_t id = 0; id < 8; id++) {
		struct cache_buf *b;

		key_of(id, key);
		b = cache_lookup(c, key);
		assert_non_null(b);
		cache_buf_put(b);
	}
	cache_destroy(c);
}

static void a_value_in_use_outlives_its_eviction(void **state)
{
	struct cache *c = cache_create(256 * KiB);
	struct cache_buf *held = value_of(7, 65536);
	struct cache_stats st;
	uint8_t key[32];

	key_of(7, key);
	cache_insert(c, key, held);
	for (uint32_t id = 100; id < 200; id++) {
		struct cache_buf *b = value_of(id, 65536);

		key_of(id, key);
		cache_insert(c, key, b);
		cache_buf_put(b);
	}
	key_of(7, key);
	assert_null(cache_lookup(c, key));
	assert_int_equal(held->refs, 1);
	assert_int_equal(held->data[65535], 7);
	assert_int_equal((uintptr_t)held->data % 4096, 0);
	cache_buf_put(held);
	cache_stats_read(c, &st);
	assert_true(st.bytes <= st.budget_bytes);
	cache_destroy(c);
}

static void a_present_key_keeps_its_value_and_a_large_one_is_ignored(void **state)
{
	struct cache *c = cache_create(256 * KiB);
	struct cache_buf *a = value_of(1, 4096), *b = value_of(2, 4096), *got;
	struct cache_buf *large = value_of(3, 512 * KiB);
	struct cache_stats st;
	uint8_t key[32];

	key_of(1, key);
	cache_insert(c, key, a);
	cache_insert(c, key, b);
	got = cache_lookup(c, key);
	assert_ptr_equal(got, a);
	cache_buf_put(got);
	key_of(3, key);
	cache_insert(c, key, large);
	assert_null(cache_lookup(c, key));
	cache_stats_read(c, &st);
	assert_int_equal(st.entries, 1);
	assert_int_equal(st.hits, 1);
	assert_int_equal(st.misses, 1);
	cache_buf_put(a);
	cache_buf_put(b);
	cache_buf_put(large);
	cache_destroy(c);

	c = cache_create(0);
	assert_non_null(c);
	a = value_of(1, 64);
	cache_insert(c, key, a);
	assert_null(cache_lookup(c, key));
	cache_buf_put(a);
	cache_destroy(c);
}

struct hammer {
	struct cache *c;
	uint64_t seed;
	int bad;
};

static void *hammer_run(void *arg)
{
	struct hammer *hm = arg;

	for (int i = 0; i < 20000; i++) {
		uint32_t id = (uint32_t)(next_rnd(&hm->seed) % 3000);
		struct cache_buf *b;
		uint8_t key[32];

		key_of(id, key);
		b = cache_lookup(hm->c, key);
		if (!b) {
			b = value_of(id, 8192);
			cache_insert(hm->c, key, b);
		}
		hm->bad += b->data[0] != (id & 0xff) || b->data[8191] != (id & 0xff);
		cache_buf_put(b);
	}
	return NULL;
}

static void threads_see_only_whole_values_within_the_budget(void **state)
{
	struct cache *c = cache_create(64 * MiB); /* several shards, but less than all values */
	struct cache *small = cache_create(4 * MiB);
	struct hammer hm[4];
	pthread_t t[4];
	struct cache_stats st;

	for (int i = 0; i < 4; i++) {
		hm[i] = (struct hammer){.c = i % 2 ? small : c, .seed = 77 + (uint64_t)i / 2};
		assert_int_equal(pthread_create(&t[i], NULL, hammer_run, &hm[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(hm[i].bad, 0);
	}
	cache_stats_read(small, &st);
	assert_true(st.bytes <= 4 * MiB);
	assert_true(st.evictions > 0);
	cache_stats_read(c, &st);
	assert_true(st.hits > 0 && st.bytes <= 64 * MiB);
	cache_destroy(small);
	cache_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_evictions_as_a_plain_model),
		cmocka_unit_test(a_scan_does_not_evict_what_is_used),
		cmocka_unit_test(a_value_in_use_outlives_its_eviction),
		cmocka_unit_test(a_present_key_keeps_its_value_and_a_large_one_is_ignored),
		cmocka_unit_test(threads_see_only_whole_values_within_the_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
