// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registry: a volume passes from one host to another, and is never of two.
 */
#include "host_box.h"

static void detach_releases_and_another_host_attaches(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box a, b;
	bool changed;

	box_init(&a, "a");
	box_start(&a);
	must_create(&a, "vm-1");
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", a.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", a.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&b);
	assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_non_null(strstr(err.msg, a.host_id));
	/* In use: refused, and nothing changed. */
	assert_int_equal(show(&a, "vm-1", &v), OP_FAULT_NONE);
	model_set_in_use(v.dev_id, true);
	assert_int_equal(host_detach(a.host, "vm-1", false, 0, 1, &err), -EBUSY);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_non_null(strstr(err.msg, "mounted on /mnt"));
	assert_state(&a, "vm-1", HOST_ATTACHED);
	model_set_in_use(v.dev_id, false);
	assert_int_equal(host_detach(a.host, "vm-1", false, 0, 1, &err), 0);
	assert_state(&a, "vm-1", HOST_DETACHED);
	assert_int_equal(local_volumes(&a), 0);
	assert_int_equal(host_attach(b.host, "vm-1", 1, &changed, &err), 0);
	assert_true(changed);
	assert_int_equal(host_attach(b.host, "vm-1", 1, &changed, &err), 0);
	assert_false(changed);
	/* Seized back: only takeover does that. */
	assert_true(host_attach(a.host, "vm-1", 1, &changed, &err) < 0);
	assert_int_equal(host_takeover(a.host, "vm-1", false, 1, &err), 0);
	assert_state(&a, "vm-1", HOST_ATTACHED);
	/* The loser has not noticed, and must not remove what is another's. */
	assert_int_equal(host_remove(b.host, "vm-1", true, 1, &err), -ESTALE);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_true(root_in_store(&a, "vm-1"));
	box_stop(&b);
	box_stop(&a);
}

static void a_stranger_with_a_listed_name_is_not_claimed(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box a, b;
	uint64_t generation;
	bool changed;

	box_init(&a, "a");
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", b.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", b.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&a);
	must_create(&a, "vm-1");
	box_stop(&a);
	box_start(&b);
	assert_int_equal(host_takeover(b.host, "vm-1", false, 1, &err), 0);
	assert_int_equal(host_detach(b.host, "vm-1", false, 0, 1, &err), 0);
	/* Detached by another: it is on our list, but not ours any more. */
	for (int round = 0; round < 2; round++) {
		assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
		generation = v.info.root.generation;
		box_start(&a);
		wait_until(readied, &a, "the first pass");
		assert_state(&a, "vm-1", HOST_FAILED);
		assert_int_equal(host_attach(a.host, "vm-1", 1, &changed, &err), -ESTALE);
		assert_int_equal(err.fault, OP_FAULT_CONFLICT);
		box_stop(&a);
		assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
		assert_string_equal(v.info.root.owner, "");
		assert_int_equal(v.info.root.generation, generation);
		if (round)
			break;
		/* And again with another volume of that name. */
		assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
		must_create(&b, "vm-1");
		assert_int_equal(host_detach(b.host, "vm-1", false, 0, 1, &err), 0);
	}
	box_stop(&b);
}

static void failed_release_leaves_a_volume_that_a_retry_detaches(void **state)
{
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	faults(&b, "put:exports/* error=EIO");
	assert_true(host_detach(b.host, "vm-1", false, 0, 1, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_state(&b, "vm-1", HOST_STOPPED);
	faults(&b, "seed=1");
	assert_int_equal(host_detach(b.host, "vm-1", false, 0, 1, &err), 0);
	assert_state(&b, "vm-1", HOST_DETACHED);
	/* And after a restart it is not attached. */
	box_stop(&b);
	box_start(&b);
	assert_state(&b, "vm-1", HOST_DETACHED);
	box_stop(&b);
}

/* Attached, then a detach that got as far as the PUT of its release, and no answer to that. */
static void detach_without_answer(struct box *b, const char *rules)
{
	struct op_err err;

	box_init(b, "a");
	b->store_timeout_ns = 2 * NSEC_PER_SEC;
	box_start(b);
	must_create(b, "vm-1");
	faults(b, rules);
	assert_true(host_detach(b->host, "vm-1", false, 0, 1, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_non_null(strstr(err.msg, "may still land"));
	assert_non_null(strstr(err.msg, "again"));
	assert_state(b, "vm-1", HOST_STOPPED);
}

enum after_detach { THEN_ATTACH, THEN_CREATE, THEN_TAKEOVER, THEN_DETACH, THEN_REMOVE, AFTER_NR };

static int after_detach(struct box *b, enum after_detach what, struct op_err *err)
{
	bool changed;

	memset(err, 0, sizeof(*err));
	switch (what) {
	case THEN_ATTACH:
		return host_attach(b->host, "vm-1", 1, &changed, err);
	case THEN_CREATE:
		return create(b, "vm-1", &changed, err);
	case THEN_TAKEOVER:
		return host_takeover(b->host, "vm-1", false, 1, err);
	case THEN_DETACH:
		return host_detach(b->host, "vm-1", false, 0, 1, err);
	case THEN_REMOVE:
		return host_remove(b->host, "vm-1", false, 1, err);
	case AFTER_NR:
		break;
	}
	return -EINVAL;
}

static void an_unanswered_release_hinders_nothing_once_the_store_answers(void **state)
{
	static const struct {
		const char *rules;
		enum after_detach then;
	} cases[] = {
		{"put:exports/* ambiguous=before", THEN_ATTACH},
		{"put:exports/* ambiguous=before", THEN_CREATE},
		{"put:exports/* ambiguous=before", THEN_TAKEOVER},
		{"put:exports/* ambiguous=before", THEN_DETACH},
		{"put:exports/* ambiguous=before", THEN_REMOVE},
		{"put:exports/* ambiguous=after", THEN_ATTACH},
		{"put:exports/* ambiguous=after", THEN_DETACH},
		{"put:exports/* hang", THEN_CREATE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum after_detach then = cases[i].then;
		bool attached = then < THEN_DETACH;
		struct host_volume_info v;
		struct op_err err;
		struct box b;

		detach_without_answer(&b, cases[i].rules);
		faults(&b, "seed=1");
		if (after_detach(&b, then, &err))
			fail_msg("%s, then %d: %s", cases[i].rules, (int)then, err.msg);
		if (then == THEN_REMOVE) {
			assert_absent(&b, "vm-1");
		} else {
			assert_state(&b, "vm-1", attached ? HOST_ATTACHED : HOST_DETACHED);
			assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
			assert_string_equal(v.info.root.owner, attached ? b.host_id : "");
			assert_int_equal(v.info.mode, VOLUME_RW);
		}
		assert_int_equal(model_count(), attached);
		assert_int_equal(local_volumes(&b), attached);
		box_stop(&b);
	}
}

static void an_unanswered_release_is_not_overtaken(void **state)
{
	static const enum after_detach also[] = {THEN_ATTACH, THEN_CREATE, THEN_TAKEOVER,
						 THEN_DETACH};
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	detach_without_answer(&b, "put:exports/* hang");
	/* As long as the PUT may land, nothing is served and nothing else is written. */
	for (size_t i = 0; i < ARRAY_SIZE(also); i++) {
		uint64_t begin = now_ns();

		assert_true(after_detach(&b, also[i], &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_STORE);
		assert_non_null(strstr(err.msg, "may still land"));
		assert_non_null(strstr(err.msg, "again"));
		assert_true(now_ns() - begin < 5 * b.store_timeout_ns);
		assert_state(&b, "vm-1", HOST_STOPPED);
		assert_int_equal(model_count(), 0);
	}
	/* Nor is it attached by itself after a restart, landed or not; by request it is. */
	box_stop(&b);
	box_start(&b);
	wait_until(readied, &b, "the first pass");
	assert_state(&b, "vm-1", HOST_DETACHED);
	assert_int_equal(after_detach(&b, THEN_ATTACH, &err), 0);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_string_equal(v.info.root.owner, b.host_id);
	box_stop(&b);
}

static void a_release_that_landed_unseen_survives_a_restart_and_another_owner(void **state)
{
	struct op_err err;
	struct box a, b;

	detach_without_answer(&a, "put:exports/* ambiguous=after");
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", a.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", a.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&b);
	/* It is free in the store, so another takes it. */
	assert_int_equal(after_detach(&b, THEN_ATTACH, &err), 0);
	faults(&a, "seed=1");
	assert_int_equal(after_detach(&a, THEN_ATTACH, &err), -EBUSY);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_non_null(strstr(err.msg, b.host_id));
	assert_state(&a, "vm-1", HOST_DETACHED);
	assert_int_equal(after_detach(&b, THEN_DETACH, &err), 0);
	assert_int_equal(after_detach(&a, THEN_ATTACH, &err), 0);
	box_stop(&b);
	box_stop(&a);

	detach_without_answer(&a, "put:exports/* ambiguous=after");
	box_stop(&a);
	box_start(&a);
	wait_until(readied, &a, "the first pass");
	assert_state(&a, "vm-1", HOST_DETACHED);
	assert_int_equal(after_detach(&a, THEN_ATTACH, &err), 0);
	box_stop(&a);
}

static void a_release_that_was_not_written_leaves_a_volume_that_is_attached_at_once(void **state)
{
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	faults(&b, "put:* error=EIO");
	assert_true(after_detach(&b, THEN_DETACH, &err) < 0);
	assert_state(&b, "vm-1", HOST_STOPPED);
	/* It is ours for certain: no answer of the store is needed. */
	if (after_detach(&b, THEN_ATTACH, &err))
		fail_msg("%s", err.msg);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	box_stop(&b);
}

static void a_failed_attach_that_cannot_give_back_is_finished_by_the_next(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	b.store_timeout_ns = 2 * NSEC_PER_SEC;
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(after_detach(&b, THEN_DETACH, &err), 0);
	model.fail_add = EIO;
	/* The claim is written, the release has no answer. */
	faults(&b, "put:exports/* ambiguous=before skip=1");
	assert_true(after_detach(&b, THEN_ATTACH, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_DEVICE);
	assert_state(&b, "vm-1", HOST_STOPPED);
	model.fail_add = 0;
	faults(&b, "seed=1");
	if (after_detach(&b, THEN_ATTACH, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_string_equal(v.info.root.owner, b.host_id);
	box_stop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(detach_releases_and_another_host_attaches),
		cmocka_unit_test(a_stranger_with_a_listed_name_is_not_claimed),
		cmocka_unit_test(failed_release_leaves_a_volume_that_a_retry_detaches),
		cmocka_unit_test(an_unanswered_release_hinders_nothing_once_the_store_answers),
		cmocka_unit_test(an_unanswered_release_is_not_overtaken),
		cmocka_unit_test(a_release_that_landed_unseen_survives_a_restart_and_another_owner),
		cmocka_unit_test(
			a_release_that_was_not_written_leaves_a_volume_that_is_attached_at_once),
		cmocka_unit_test(a_failed_attach_that_cannot_give_back_is_finished_by_the_next),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
