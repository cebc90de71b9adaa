// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * S3-FIFO against a plain model of it over random traces: the same values are kept after every
 * step, so the order of evictions is the same; the budget is never exceeded; and each value is held
 * exactly as long as it is kept.
 */
#include "engine/s3fifo.h"
#include "s3fifo_model.h"

#include <stdio.h>

#define IDS 3400

static struct counted {
	int refs;
} values[IDS];

static void counted_get(void *value)
{
	struct counted *v = value;

	v->refs++;
}

static void counted_put(void *value)
{
	struct counted *v = value;

	v->refs--;
}

static const struct s3fifo_ops counted_ops = {.get = counted_get, .put = counted_put};

static void key_of(uint32_t id, uint8_t key[32])
{
	hash_sha256(&id, sizeof(id), key);
}

/* Of some ids too heavy to be kept at all, of one alone more than the small queue's share. */
static uint64_t weight_of(uint32_t id)
{
	static const uint64_t weights[] = {4096, 4096, 1024, 65536, 100, 8192, 200 * KiB};

	return id == 399 ? 2 * MiB : weights[id % ARRAY_SIZE(weights)];
}

/* A hot set, a warm set and scans. */
static uint32_t next_id(uint64_t *seed, int step)
{
	uint64_t r = next_rnd(seed);

	switch (r % 4) {
	case 0:
		return (uint32_t)(r >> 8) % 20;
	case 1:
		return (uint32_t)(r >> 8) % 400;
	default:
		return 400 + (uint32_t)step % 3000;
	}
}

static void assert_same(struct s3fifo *c, const struct model *m, uint64_t seed, int step)
{
	for (uint32_t id = 0; id < IDS; id++) {
		uint8_t key[32];
		struct counted *v;

		key_of(id, key);
		v = s3fifo_peek(c, key);
		if (v)
			counted_put(v);
		if ((v != NULL) != model_has(m, id) || values[id].refs != (v != NULL))
			fail_msg("seed %llu, step %d: value %u is %s, held %d times",
				 (unsigned long long)seed, step, id, v ? "kept" : "not kept",
				 values[id].refs);
	}
}

static void trace_run(uint64_t seed)
{
	const uint64_t budget = 1 * MiB, first = seed;
	struct s3fifo *c = s3fifo_create(budget, 16, &counted_ops);
	struct model *m = model_new(budget);
	struct cache_stats st;

	assert_non_null(c);
	for (int step = 0; step < 12000; step++) {
		uint32_t id = next_id(&seed, step);
		struct counted *v;
		uint8_t key[32];

		key_of(id, key);
		v = s3fifo_lookup(c, key);
		if ((v != NULL) != model_lookup(m, id))
			fail_msg("seed %llu, step %d: value %u is %s", (unsigned long long)first,
				 step, id, v ? "kept" : "not kept");
		if (v) {
			assert_ptr_equal(v, &values[id]);
			counted_put(v);
		} else {
			s3fifo_insert(c, key, &values[id], weight_of(id));
			model_insert(m, id, weight_of(id));
		}
		if (next_rnd(&seed) % 64 == 0) {
			id = next_id(&seed, step);
			key_of(id, key);
			s3fifo_remove(c, key);
			model_remove(m, id);
		}
		s3fifo_stats_read(c, &st);
		assert_true(st.bytes <= budget);
		assert_int_equal(st.bytes, model_bytes(m));
		assert_int_equal(st.entries, m->small.nr + m->mainq.nr);
		if (step % 1000 == 0)
			assert_same(c, m, first, step);
	}
	assert_same(c, m, first, -1);
	assert_true(st.evictions > 1000 && st.hits > 1000);
	s3fifo_destroy(c);
	for (uint32_t id = 0; id < IDS; id++)
		assert_int_equal(values[id].refs, 0);
	free(m);
}

static void the_same_values_are_kept_as_by_a_plain_model(void **state)
{
	for (uint64_t seed = 1; seed <= 8; seed++)
		trace_run(seed * 0x9e3779b97f4a7c15);
}

/* What was removed is as if it had never been there: not even its ghost is left. */
static void a_removed_value_is_forgotten(void **state)
{
	struct s3fifo *c = s3fifo_create(1 * MiB, 1, &counted_ops);
	struct cache_stats st;
	uint8_t key[32];

	key_of(1, key);
	s3fifo_remove(c, key);
	s3fifo_insert(c, key, &values[1], 4096);
	s3fifo_remove(c, key);
	assert_null(s3fifo_lookup(c, key));
	assert_int_equal(values[1].refs, 0);
	s3fifo_stats_read(c, &st);
	assert_int_equal(st.bytes, 0);
	assert_int_equal(st.entries, 0);
	s3fifo_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_values_are_kept_as_by_a_plain_model),
		cmocka_unit_test(a_removed_value_is_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
