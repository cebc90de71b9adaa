// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The manifest cache: large manifests and small ones mixed are kept as a plain model of S3-FIFO
 * keeps them, within the budget and with the memory that is accounted for; what is missing is
 * fetched once; and nothing is ever taken for something else.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/objects.h"
#include "engine/wire.h"
#include "s3fifo_model.h"

#include <stdio.h>

#define SMALL_ENTRIES (128 * GiB / CHUNK_BYTES)
#define LARGE_ENTRIES (10 * TiB / CHUNK_BYTES)

static void put(struct harness *h, const char *key, const void *data, size_t len)
{
	struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
	struct store_op op = {.type = STORE_PUT, .key = key, .iov = &iov, .iovcnt = 1};

	assert_int_equal(store_run(h->store, &op), 0);
}

static struct manifest *manifest_of(uint32_t id, uint32_t nr)
{
	struct manifest *m = manifest_alloc(nr);

	assert_non_null(m);
	memset(m->uuid, 0x42, sizeof(m->uuid));
	m->size_bytes = nr * CHUNK_BYTES;
	m->block_bytes = BLOCK_BYTES;
	m->sequence = id;
	for (uint32_t i = 0; i < nr; i++) {
		m->entries[i].chunk = i;
		m->entries[i].nblocks = 1;
		m->entries[i].index_len = (uint32_t)pack_index_bytes(1);
		memcpy(m->entries[i].pack_id, &id, sizeof(id));
	}
	return m;
}

/* In the store, under a name of its own. */
static struct manifest_ref manifest_stored(struct harness *h, uint32_t id, uint32_t nr)
{
	struct manifest *m = manifest_of(id, nr);
	struct manifest_ref ref = {.id = ""};
	char key[STORE_KEY_MAX];
	size_t len;
	void *buf;

	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	snprintf(ref.id, sizeof(ref.id), "%020u.%016u", id, id);
	memcpy(ref.uuid, m->uuid, sizeof(ref.uuid));
	hash_sha256(buf, len, ref.sha256);
	ref.bytes = len;
	manifest_key(ref.uuid, ref.id, key, sizeof(key));
	put(h, key, buf, len);
	free(buf);
	manifest_put(m);
	return ref;
}

static struct manifest *find(struct harness *h, const struct manifest_ref *ref)
{
	struct manifest_fetch *f = manifest_fetch_start(h->e, ref, "test", 1);
	struct fmt_err err = {""};
	struct manifest *m;

	assert_non_null(f);
	if (manifest_fetch_finish(f, &m, &err))
		fail_msg("%s", err.msg);
	return m;
}

static struct manifest_cache_stats stats(struct harness *h)
{
	struct engine_stats st;

	engine_stats_read(h->e, &st);
	return st.manifests;
}

static uint64_t resident_bytes(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*u %llu", &pages), 1);
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void large_and_small_ones_are_kept_as_by_a_plain_model(void **state)
{
	enum { LARGE = 14, SMALL = 300, STEPS = 1500 };
	static struct manifest_ref ref[LARGE + SMALL];
	uint64_t seed = 0x5eed, budget = 64 * MiB, before, after;
	struct model *model = model_new(budget);
	struct manifest_cache_stats st;
	struct harness h;

	harness_init(&h);
	h.cfg.manifest_cache_bytes = budget;
	harness_start(&h);
	for (uint32_t i = 0; i < LARGE + SMALL; i++)
		ref[i] = manifest_stored(&h, i + 1, i < LARGE ? LARGE_ENTRIES : SMALL_ENTRIES);
	before = resident_bytes();
	for (int step = 0; step < STEPS; step++) {
		/* Some of them often, and all of them now and then. */
		uint64_t r = next_rnd(&seed);
		uint32_t id = r % 16 == 0   ? (uint32_t)(r >> 8) % LARGE
			      : r % 16 == 1 ? (uint32_t)(r >> 8) % 2
			      : r % 2       ? LARGE + (uint32_t)(r >> 8) % 40
					    : LARGE + (uint32_t)(r >> 8) % SMALL;
		uint32_t nr = id < LARGE ? LARGE_ENTRIES : SMALL_ENTRIES;
		uint64_t gets = stats(&h).gets;
		struct manifest *m = find(&h, &ref[id]);

		assert_int_equal(m->sequence, id + 1);
		assert_int_equal(m->nr_entries, nr);
		manifest_put(m);
		st = stats(&h);
		if ((st.gets == gets) != model_lookup(model, id))
			fail_msg("step %d: manifest %u was %s", step, id,
				 st.gets == gets ? "kept" : "not kept");
		model_insert(model, id, manifest_cache_weight(nr));
		assert_true(st.kept.bytes <= budget);
		assert_int_equal(st.kept.bytes, model_bytes(model));
		assert_int_equal(st.kept.entries, model->small.nr + model->mainq.nr);
	}
	after = resident_bytes();
	st = stats(&h);
	assert_true(st.kept.evictions > 50 && st.kept.hits > 300);
	assert_true(st.kept.bytes > budget / 2);
	print_message("accounted %.2f MiB, process %.2f MiB more than before\n",
		      (double)st.kept.bytes / MiB, (double)(after - before) / MiB);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_in_range(after - before, st.kept.bytes * 9 / 10, st.kept.bytes * 11 / 10);
#endif
	free(model);
	harness_stop(&h);
	harness_fini(&h);
}

static void what_is_larger_than_the_budget_is_fetched_each_time(void **state)
{
	struct manifest_ref ref;
	struct harness h;

	harness_init(&h);
	h.cfg.manifest_cache_bytes = 64 * KiB;
	harness_start(&h);
	ref = manifest_stored(&h, 1, SMALL_ENTRIES);
	for (unsigned int i = 1; i <= 3; i++) {
		manifest_put(find(&h, &ref));
		assert_int_equal(stats(&h).gets, i);
		assert_int_equal(stats(&h).kept.bytes, 0);
	}
	harness_stop(&h);
	harness_fini(&h);
}

struct asker {
	struct harness *h;
	const struct manifest_ref *ref;
	struct manifest *m;
	int r;
	struct fmt_err err;
	pthread_t t;
};

static void *asker_main(void *arg)
{
	struct asker *a = arg;
	struct manifest_fetch *f = manifest_fetch_start(a->h->e, a->ref, "test", 1);

	a->r = manifest_fetch_finish(f, &a->m, &a->err);
	return NULL;
}

static bool all_asked(void *arg)
{
	struct manifest_cache_stats st = stats(arg);

	return st.gets == 1 && st.joined == 49;
}

static void ask_at_once(struct harness *h, const struct manifest_ref *ref, struct asker a[50])
{
	for (int i = 0; i < 50; i++) {
		a[i] = (struct asker){.h = h, .ref = ref};
		assert_int_equal(pthread_create(&a[i].t, NULL, asker_main, &a[i]), 0);
	}
	harness_until(all_asked, h, "50 who ask at once");
}

static void fifty_who_ask_at_once_share_one_get(void **state)
{
	static struct asker a[50];
	struct manifest_ref ref;
	struct harness h;

	harness_init(&h);
	h.cfg.store_timeout_ns = 60 * NSEC_PER_SEC;
	harness_start(&h);
	ref = manifest_stored(&h, 1, SMALL_ENTRIES);
	harness_fault(&h, "get:manifests/* hang");
	ask_at_once(&h, &ref, a);
	harness_fault(&h, "");
	store_fault_release(h.store);
	for (int i = 0; i < 50; i++) {
		pthread_join(a[i].t, NULL);
		if (a[i].r)
			fail_msg("%s", a[i].err.msg);
		assert_ptr_equal(a[i].m, a[0].m);
	}
	for (int i = 0; i < 50; i++)
		manifest_put(a[i].m);
	assert_int_equal(stats(&h).gets, 1);
	manifest_put(find(&h, &ref));
	assert_int_equal(stats(&h).gets, 1);
	harness_stop(&h);
	harness_fini(&h);
}

/* All who wait are told why, nothing is kept, and the next one asks anew. */
static void a_failure_is_everybodys_and_is_not_kept(void **state)
{
	static struct asker a[50];
	struct manifest_ref ref;
	struct harness h;

	harness_init(&h);
	h.cfg.store_timeout_ns = 3 * NSEC_PER_SEC;
	harness_start(&h);
	ref = manifest_stored(&h, 1, SMALL_ENTRIES);
	harness_fault(&h, "get:manifests/* hang");
	ask_at_once(&h, &ref, a);
	for (int i = 0; i < 50; i++) {
		pthread_join(a[i].t, NULL);
		assert_int_equal(a[i].r, -ETIMEDOUT);
		assert_null(a[i].m);
		assert_non_null(strstr(a[i].err.msg, ref.id));
	}
	harness_fault(&h, "");
	assert_int_equal(stats(&h).kept.entries, 0);
	manifest_put(find(&h, &ref));
	assert_int_equal(stats(&h).gets, 2);
	harness_stop(&h);
	harness_fini(&h);
}

/* Not even the one who asked first. */
static void who_turns_away_stops_nobody(void **state)
{
	struct manifest_fetch *first, *second, *third;
	struct manifest_ref ref;
	struct fmt_err err = {""};
	struct manifest *m;
	struct harness h;

	harness_init(&h);
	harness_start(&h);
	ref = manifest_stored(&h, 1, SMALL_ENTRIES);
	first = manifest_fetch_start(h.e, &ref, "a", 1);
	second = manifest_fetch_start(h.e, &ref, "b", 2);
	third = manifest_fetch_start(h.e, &ref, "c", 3);
	manifest_fetch_cancel(first);
	if (manifest_fetch_finish(second, &m, &err))
		fail_msg("%s", err.msg);
	manifest_fetch_cancel(third);
	manifest_put(m);
	assert_int_equal(stats(&h).gets, 1);
	/* When all turn away it is as if nobody had asked. */
	ref = manifest_stored(&h, 2, SMALL_ENTRIES);
	harness_fault(&h, "get:manifests/* delay=200");
	manifest_fetch_cancel(manifest_fetch_start(h.e, &ref, "a", 1));
	harness_fault(&h, "");
	assert_int_equal(stats(&h).kept.entries, 1);
	manifest_put(find(&h, &ref));
	assert_int_equal(stats(&h).gets, 3);
	harness_stop(&h);
	harness_fini(&h);
}

/* Its key is the hash of its content, and whoever fills the cache has to prove it. */
static void only_what_a_reference_names_is_kept_for_it(void **state)
{
	struct manifest_ref ref, other;
	struct manifest *m, *got;
	struct harness h;

	harness_init(&h);
	harness_start(&h);
	ref = manifest_stored(&h, 1, SMALL_ENTRIES);
	other = manifest_stored(&h, 2, SMALL_ENTRIES);
	m = manifest_of(2, SMALL_ENTRIES);
	manifest_keep(h.e, &ref, m);
	assert_int_equal(stats(&h).kept.entries, 0);
	manifest_keep(h.e, &other, m);
	assert_int_equal(stats(&h).kept.entries, 1);
	got = find(&h, &other);
	assert_ptr_equal(got, m);
	manifest_put(got);
	assert_int_equal(stats(&h).gets, 0);
	manifest_put(m);
	harness_stop(&h);
	harness_fini(&h);
}

/* What is in the store can say any hash: also the one by which something else is kept. */
static void no_reference_finds_a_snapshot_for_a_manifest(void **state)
{
	struct snapshot s = {.name = "base", .seq = 7, .size_bytes = MiB};
	const char etag[STORE_ETAG_MAX] = "";
	struct manifest_fetch *f;
	struct manifest_ref ref;
	struct manifest *m;
	struct fmt_err err;
	struct harness h;
	char key[STORE_KEY_MAX];

	harness_init(&h);
	harness_start(&h);
	snapshot_keep(h.e, &s, etag);
	ref = manifest_stored(&h, 1, SMALL_ENTRIES);
	snapshot_key(s.name, s.seq, key, sizeof(key));
	hash_sha256(key, strlen(key), ref.sha256);
	f = manifest_fetch_start(h.e, &ref, "test", 1);
	assert_non_null(f);
	assert_int_equal(manifest_fetch_finish(f, &m, &err), -EBADMSG);
	assert_null(m);
	harness_stop(&h);
	harness_fini(&h);
}

/* What a snapshot writes, the forks on this host need not fetch. */
static void a_snapshot_fills_the_cache(void **state)
{
	uint8_t data[4096];
	struct snapshot s, found;
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct manifest *m;
	struct harness h;

	memset(data, 0x5a, sizeof(data));
	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "base", 64 * MiB, BLOCK_BYTES);
	assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, data), 0);
	harness_drain(&h);
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	harness_fault(&h, "get:snapshots/* error=EIO; get:manifests/* error=EIO");
	if (snapshot_find(h.e, "base", s.seq, "fork", 1, &found, etag, &err))
		fail_msg("%s", err.msg);
	assert_memory_equal(&found, &s, sizeof(s));
	assert_true(etag[0]);
	m = find(&h, &s.manifest);
	assert_int_equal(m->nr_entries, 1);
	manifest_put(m);
	assert_int_equal(stats(&h).gets, 0);
	/* Deleted here, it is not known here either. */
	harness_fault(&h, "");
	assert_int_equal(snapshot_delete(h.e, "base", s.seq, 1, &err), 0);
	assert_int_equal(snapshot_find(h.e, "base", s.seq, "fork", 1, &found, etag, &err), -ENOENT);
	harness_stop(&h);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_and_small_ones_are_kept_as_by_a_plain_model),
		cmocka_unit_test(what_is_larger_than_the_budget_is_fetched_each_time),
		cmocka_unit_test(fifty_who_ask_at_once_share_one_get),
		cmocka_unit_test(a_failure_is_everybodys_and_is_not_kept),
		cmocka_unit_test(who_turns_away_stops_nobody),
		cmocka_unit_test(only_what_a_reference_names_is_kept_for_it),
		cmocka_unit_test(no_reference_finds_a_snapshot_for_a_manifest),
		cmocka_unit_test(a_snapshot_fills_the_cache),
	};

	engine_malloc_setup(); /* as the daemon does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
