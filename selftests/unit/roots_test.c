// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Roots under ambiguous stores: every create and update has exactly one outcome, whatever an
 * attempt's answer was, and an error that is reported as definite left nothing behind.
 */
#include "selftests/unit/engine_harness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void start(struct harness *h, uint64_t timeout_ns)
{
	harness_init(h);
	h->cfg.store_timeout_ns = timeout_ns;
	h->cfg.manifest_cache_bytes = 0; /* what is loaded is read */
	harness_start(h);
}

static void stop(struct harness *h)
{
	harness_fault(h, "");
	harness_stop(h);
	harness_fini(h);
}

static void prepare(struct harness *h, const char *name, struct root *r)
{
	struct volume_def def = {.name = name, .size_bytes = 8 * MiB};

	assert_int_equal(root_prepare(h->e, &def, r), 0);
}

static uint64_t in(uint64_t ms)
{
	return now_ns() + ms * NSEC_PER_MSEC;
}

static void create_then_load_gives_the_same_root(void **state)
{
	struct root r, got, other;
	char etag[STORE_ETAG_MAX], etag2[STORE_ETAG_MAX], uuid[37];
	struct fmt_err err = {""};
	struct harness h;

	start(&h, 5 * NSEC_PER_SEC);
	prepare(&h, "vm-1", &r);
	assert_int_equal(r.generation, 1);
	assert_int_equal(r.block_bytes, BLOCK_BYTES);
	assert_string_equal(r.owner, "host-1/test");
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	assert_int_equal(root_load(h.e, "vm-1", 1, &got, etag2, &err), 0);
	assert_memory_equal(r.uuid, got.uuid, 16);
	assert_memory_equal(r.nonce, got.nonce, 16);
	assert_int_equal(got.size_bytes, 8 * MiB);
	assert_string_equal(etag, etag2);

	prepare(&h, "vm-1", &other);
	assert_int_equal(root_create(h.e, &other, 0, 1, etag, &err), -EEXIST);
	uuid_format(r.uuid, uuid);
	assert_non_null(strstr(err.msg, uuid));
	assert_int_equal(root_load(h.e, "vm-2", 1, &got, NULL, &err), -ENOENT);
	assert_int_equal(root_load(h.e, "../vm-2", 1, &got, NULL, &err), -EINVAL);
	stop(&h);
}

static void bad_definitions_are_refused(void **state)
{
	static const struct volume_def defs[] = {
		{.name = "", .size_bytes = 8 * MiB},
		{.name = "a/b", .size_bytes = 8 * MiB},
		{.name = "a", .size_bytes = 8 * MiB + 1},
		{.name = "a", .size_bytes = 512},
		{.name = "a", .size_bytes = UINT64_MAX},
		{.name = "a", .size_bytes = 8 * MiB, .block_bytes = 3000},
		{.name = "a", .size_bytes = 8 * MiB, .block_bytes = 2 * MiB},
	};
	struct harness h;
	struct root r;

	start(&h, 5 * NSEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(defs); i++)
		assert_int_equal(root_prepare(h.e, &defs[i], &r), -EINVAL);
	stop(&h);
}

static void ambiguous_puts_are_retried_until_definite(void **state)
{
	static const char *const rules[] = {
		"put ambiguous=before count=1",
		"put ambiguous=after count=1",
		"put ambiguous=late:20 count=1",
		"put ambiguous=after count=1;get error=EIO count=2",
		"put ambiguous=before count=2;put error=EIO count=2",
	};
	struct harness h;

	start(&h, 20 * NSEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		char etag[STORE_ETAG_MAX], etag2[STORE_ETAG_MAX], name[16];
		struct fmt_err err = {""};
		struct root r, got;

		snprintf(name, sizeof(name), "vm-%zu", i);
		prepare(&h, name, &r);
		harness_fault(&h, rules[i]);
		if (root_create(h.e, &r, 0, 1, etag, &err))
			fail_msg("%s: %s", rules[i], err.msg);
		harness_fault(&h, rules[i]);
		r.sequence = 1;
		random_bytes(r.nonce, sizeof(r.nonce));
		if (root_update(h.e, &r, NULL, etag, in(20000), 1, NULL, &err))
			fail_msg("%s: %s", rules[i], err.msg);
		harness_fault(&h, "");
		assert_int_equal(root_load(h.e, name, 1, &got, etag2, &err), 0);
		assert_int_equal(got.sequence, 1);
		assert_memory_equal(got.nonce, r.nonce, 16);
		assert_string_equal(etag, etag2); /* the next update's precondition holds */
	}
	stop(&h);
}

static void a_definite_failure_left_nothing(void **state)
{
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct root r, got;
	struct harness h;
	uint64_t t;

	start(&h, 5 * NSEC_PER_SEC);
	prepare(&h, "vm-1", &r);
	harness_fault(&h, "put error=EIO");
	t = now_ns();
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), -EIO);
	assert_true(now_ns() - t < 2 * NSEC_PER_SEC); /* at once, not at the deadline */
	harness_fault(&h, "put error=ETIMEDOUT");
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), -EIO);
	harness_fault(&h, "");
	assert_int_equal(root_load(h.e, "vm-1", 1, &got, NULL, &err), -ENOENT);
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	stop(&h);
}

static void an_unknown_outcome_is_told_by_the_deadline(void **state)
{
	static const char *const rules[] = {"put hang", "put ambiguous=before",
					    "put ambiguous=before count=1;put error=EIO"};
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct harness h;
	struct root r;

	start(&h, 5 * NSEC_PER_SEC);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		uint64_t t = now_ns();

		prepare(&h, "vm-1", &r);
		harness_fault(&h, rules[i]);
		assert_int_equal(root_create(h.e, &r, in(400), 1, etag, &err), -ETIMEDOUT);
		assert_true(now_ns() - t < 3 * NSEC_PER_SEC);
	}
	stop(&h);
}

static void a_foreign_update_is_refused_and_named(void **state)
{
	char etag[STORE_ETAG_MAX], old[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct root r, mine;
	struct harness h;

	start(&h, 5 * NSEC_PER_SEC);
	prepare(&h, "vm-1", &r);
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	memcpy(old, etag, sizeof(old));
	mine = r;
	snprintf(r.owner, sizeof(r.owner), "host-b/x");
	r.generation = 8;
	random_bytes(r.nonce, sizeof(r.nonce));
	assert_int_equal(root_update(h.e, &r, NULL, etag, in(5000), 1, NULL, &err), 0);
	mine.sequence = 1;
	random_bytes(mine.nonce, sizeof(mine.nonce));
	assert_int_equal(root_update(h.e, &mine, NULL, old, in(5000), 1, NULL, &err), -ESTALE);
	assert_non_null(strstr(err.msg, "generation 8"));
	assert_non_null(strstr(err.msg, "host-b/x"));
	assert_int_equal(root_delete(h.e, "vm-1", NULL, 1, &err), 0);
	assert_int_equal(root_update(h.e, &r, NULL, etag, in(5000), 1, NULL, &err), -ESTALE);
	stop(&h);
}

/* As from an answer that was wrong: nobody else wrote, so nobody fenced us. */
static void a_wrong_etag_fences_nobody(void **state)
{
	char etag[STORE_ETAG_MAX], right[STORE_ETAG_MAX], loaded[STORE_ETAG_MAX];
	uint8_t base[16], stranger[16];
	struct fmt_err err = {""};
	struct root r, got;
	struct harness h;

	start(&h, 5 * NSEC_PER_SEC);
	prepare(&h, "vm-1", &r);
	assert_int_equal(root_create(h.e, &r, 0, 1, right, &err), 0);
	snprintf(etag, sizeof(etag), "\"of-nothing\"");
	memcpy(base, r.nonce, sizeof(base));
	r.sequence = 1;
	random_bytes(r.nonce, sizeof(r.nonce));
	if (root_update(h.e, &r, base, etag, in(5000), 1, NULL, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(root_load(h.e, "vm-1", 1, &got, loaded, &err), 0);
	assert_int_equal(got.sequence, 1);
	assert_memory_equal(got.nonce, r.nonce, 16);
	assert_string_equal(etag, loaded);
	/* Where another root is in place the same refusal is a fence. */
	random_bytes(stranger, sizeof(stranger));
	snprintf(etag, sizeof(etag), "\"of-nothing\"");
	r.sequence = 2;
	random_bytes(r.nonce, sizeof(r.nonce));
	assert_int_equal(root_update(h.e, &r, stranger, etag, in(5000), 1, NULL, &err), -ESTALE);
	assert_int_equal(root_load(h.e, "vm-1", 1, &got, loaded, &err), 0);
	assert_int_equal(got.sequence, 1);
	stop(&h);
}

struct canceler {
	bool cancel;
	pthread_t t;
};

static void *cancel_soon(void *arg)
{
	struct canceler *c = arg;

	usleep(50 * 1000);
	__atomic_store_n(&c->cancel, true, __ATOMIC_RELEASE);
	return NULL;
}

static void an_update_can_be_canceled_while_the_store_hangs(void **state)
{
	struct canceler c = {0};
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct harness h;
	struct root r;
	uint64_t t;

	start(&h, 20 * NSEC_PER_SEC);
	prepare(&h, "vm-1", &r);
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	harness_fault(&h, "put hang");
	assert_int_equal(pthread_create(&c.t, NULL, cancel_soon, &c), 0);
	t = now_ns();
	assert_int_equal(root_update(h.e, &r, NULL, etag, in(20000), 1, &c.cancel, &err),
			 -ECANCELED);
	assert_true(now_ns() - t < 5 * NSEC_PER_SEC);
	pthread_join(c.t, NULL);
	stop(&h);
}

static void delete_removes_only_its_own(void **state)
{
	uint8_t nonce[16];
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct root r, got;
	struct harness h;

	start(&h, 5 * NSEC_PER_SEC);
	prepare(&h, "vm-1", &r);
	assert_int_equal(root_delete(h.e, "vm-1", r.nonce, 1, &err), 0); /* absent */
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	random_bytes(nonce, sizeof(nonce));
	assert_int_equal(root_delete(h.e, "vm-1", nonce, 1, &err), -ESTALE);
	assert_int_equal(root_load(h.e, "vm-1", 1, &got, NULL, &err), 0);
	harness_fault(&h, "delete ambiguous=after count=1;get error=EIO count=1");
	assert_int_equal(root_delete(h.e, "vm-1", r.nonce, 1, &err), 0);
	harness_fault(&h, "");
	assert_int_equal(root_load(h.e, "vm-1", 1, &got, NULL, &err), -ENOENT);
	stop(&h);
}

static void list_names_every_root_once(void **state)
{
	char etag[STORE_ETAG_MAX], seen[300] = {0};
	struct fmt_err err = {""};
	struct harness h;
	struct root r;
	char **names;
	size_t nr;

	start(&h, 20 * NSEC_PER_SEC);
	for (int i = 0; i < 300; i++) {
		char name[16];

		snprintf(name, sizeof(name), "vm-%d", i);
		prepare(&h, name, &r);
		assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	}
	harness_fault(&h, "list error=EIO count=1 skip=1");
	assert_int_equal(root_list(h.e, &names, &nr, &err), 0);
	assert_int_equal(nr, 300);
	for (size_t i = 0; i < nr; i++) {
		int n = atoi(names[i] + 3);

		assert_false(seen[n]);
		seen[n] = 1;
		free(names[i]);
	}
	free(names);
	stop(&h);
}

/*
 * Several hosts update one root by read, change, conditional write, under a store that is ambiguous
 * all the time: the number of updates that were reported as done is exactly the sequence that
 * results.
 */
struct host {
	struct harness *h;
	int done, unknown;
	pthread_t t;
};

static void *host_run(void *arg)
{
	struct host *ho = arg;

	for (int i = 0; i < 15; i++) {
		char etag[STORE_ETAG_MAX];
		struct fmt_err err;
		struct root r;
		int res = root_load(ho->h->e, "vm-1", 1, &r, etag, &err);

		if (res)
			continue;
		r.sequence++;
		random_bytes(r.nonce, sizeof(r.nonce));
		res = root_update(ho->h->e, &r, NULL, etag, in(20000), 1, NULL, &err);
		ho->done += !res;
		ho->unknown += res == -ETIMEDOUT;
	}
	return NULL;
}

static void no_update_is_lost_or_done_twice(void **state)
{
	char etag[STORE_ETAG_MAX];
	struct host host[4];
	struct fmt_err err = {""};
	struct harness h;
	struct root r;
	int done = 0;

	start(&h, 20 * NSEC_PER_SEC);
	prepare(&h, "vm-1", &r);
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	harness_fault(&h, "put ambiguous=before p=0.2;put ambiguous=after p=0.2;"
			  "put ambiguous=late:10 p=0.2;get error=EIO p=0.1");
	for (int i = 0; i < 4; i++) {
		host[i] = (struct host){.h = &h};
		assert_int_equal(pthread_create(&host[i].t, NULL, host_run, &host[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(host[i].t, NULL);
		assert_int_equal(host[i].unknown, 0);
		done += host[i].done;
	}
	harness_fault(&h, "");
	assert_int_equal(root_load(h.e, "vm-1", 1, &r, etag, &err), 0);
	/*
	 * An update of ours that landed unseen and was overwritten by another host before we looked
	 * is reported as refused: fenced is the safe verdict. So reported successes never exceed
	 * the sequence.
	 */
	assert_true(done > 0);
	assert_true((uint64_t)done <= r.sequence);
	stop(&h);
}

static void a_manifest_is_checked_against_the_root(void **state)
{
	char etag[STORE_ETAG_MAX], key[STORE_KEY_MAX];
	struct manifest *m = manifest_alloc(0), *got;
	struct fmt_err err = {""};
	struct store_op op = {0};
	struct iovec iov;
	struct harness h;
	struct root r;
	void *buf;
	size_t len;

	start(&h, 500 * NSEC_PER_MSEC);
	prepare(&h, "vm-1", &r);
	assert_int_equal(root_manifest_load(h.e, &r, 1, &got, &err), 0);
	assert_null(got);
	memcpy(m->uuid, r.uuid, 16);
	m->size_bytes = r.size_bytes;
	m->block_bytes = r.block_bytes;
	m->sequence = 1;
	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	memcpy(r.manifest.uuid, r.uuid, sizeof(r.uuid));
	snprintf(r.manifest.id, sizeof(r.manifest.id), "%020d.%016d", 1, 2);
	r.manifest.bytes = len;
	hash_sha256(buf, len, r.manifest.sha256);
	assert_int_equal(root_create(h.e, &r, 0, 1, etag, &err), 0);
	assert_int_equal(root_manifest_load(h.e, &r, 1, &got, &err), -ENOENT);
	manifest_key(r.uuid, r.manifest.id, key, sizeof(key));
	iov = (struct iovec){.iov_base = buf, .iov_len = len};
	op.type = STORE_PUT;
	op.key = key;
	op.iov = &iov;
	op.iovcnt = 1;
	assert_int_equal(store_run(h.store, &op), 0);
	assert_int_equal(root_manifest_load(h.e, &r, 1, &got, &err), 0);
	assert_int_equal(got->sequence, 1);
	manifest_put(got);
	harness_fault(&h, "get corrupt");
	assert_int_equal(root_manifest_load(h.e, &r, 1, &got, &err), -EBADMSG);
	assert_null(got);
	harness_fault(&h, "get corrupt count=1");
	assert_int_equal(root_manifest_load(h.e, &r, 1, &got, &err), 0);
	manifest_put(got);
	harness_fault(&h, "");
	r.manifest.sha256[0] ^= 1;
	assert_int_equal(root_manifest_load(h.e, &r, 1, &got, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "hash"));
	free(buf);
	manifest_put(m);
	stop(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create_then_load_gives_the_same_root),
		cmocka_unit_test(bad_definitions_are_refused),
		cmocka_unit_test(ambiguous_puts_are_retried_until_definite),
		cmocka_unit_test(a_definite_failure_left_nothing),
		cmocka_unit_test(an_unknown_outcome_is_told_by_the_deadline),
		cmocka_unit_test(a_foreign_update_is_refused_and_named),
		cmocka_unit_test(a_wrong_etag_fences_nobody),
		cmocka_unit_test(an_update_can_be_canceled_while_the_store_hangs),
		cmocka_unit_test(delete_removes_only_its_own),
		cmocka_unit_test(list_names_every_root_once),
		cmocka_unit_test(no_update_is_lost_or_done_twice),
		cmocka_unit_test(a_manifest_is_checked_against_the_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
