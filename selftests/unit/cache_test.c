// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a cache of immutable buffers promises its users. Which of them it keeps: s3fifo_test.
 */
#include "engine/cache.h"
#include "s3fifo_model.h"

#include <stdio.h>

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
		cmocka_unit_test(a_scan_does_not_evict_what_is_used),
		cmocka_unit_test(a_value_in_use_outlives_its_eviction),
		cmocka_unit_test(a_present_key_keeps_its_value_and_a_large_one_is_ignored),
		cmocka_unit_test(threads_see_only_whole_values_within_the_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
