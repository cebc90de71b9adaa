// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registry: a create is whole or absent, whatever fails and whenever; a fork: host_fork_test.
 */
#include "host_box.h"

static void create_is_idempotent_and_refuses_another_definition(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(create(&b, "vm-1", &created, &err), 0);
	assert_false(created);
	assert_int_equal(create_sized(&b, "vm-1", 32 * MiB, &created, &err), -EEXIST);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.state, HOST_ATTACHED);
	assert_true(v.open && v.dev_id >= 0);
	assert_int_equal(model_count(), 1);
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void failed_put_is_undone_and_a_retry_creates(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	faults(&b, "put:exports/* error=EIO");
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_absent(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	assert_int_equal(model_count(), 0);
	faults(&b, "seed=1");
	must_create(&b, "vm-1");
	box_stop(&b);
}

static void ambiguous_put_that_was_made_is_recognised_as_ours(void **state)
{
	struct box b;

	box_init(&b, "a");
	b.create_timeout_ns = 10 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=after count=1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void create_without_answer_does_not_exist_and_a_retry_adopts_it(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	/* Made, and never confirmed: the worst case, the root is there. */
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_true(root_in_store(&b, "vm-1"));
	assert_int_equal(pending_count(&b), 1);
	faults(&b, "seed=1");
	assert_absent(&b, "vm-1");
	{
		bool changed;

		/* Nor can it be attached, detached or removed. */
		assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_MISSING);
		assert_true(host_detach(b.host, "vm-1", false, 0, 1, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_MISSING);
		assert_true(host_remove(b.host, "vm-1", false, 1, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_MISSING);
	}
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void retry_with_another_definition_replaces_the_leftover(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	faults(&b, "seed=1");
	if (create_sized(&b, "vm-1", 256 * MiB, &created, &err))
		fail_msg("%s", err.msg);
	assert_true(created);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.info.root.size_bytes, 256 * MiB);
	box_stop(&b);
}

static void late_put_of_a_failed_create_is_reaped(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	b.reap_ns = 0;
	b.forget_ns = 8 * NSEC_PER_SEC;
	b.create_timeout_ns = 1 * NSEC_PER_SEC;
	box_start(&b);
	/* Reaped at once, while it has not landed; it lands later and is found at the end. */
	faults(&b, "put:exports/* ambiguous=late:3000");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	faults(&b, "seed=1");
	assert_absent(&b, "vm-1");
	for (uint64_t end = now_ns() + 20 * NSEC_PER_SEC; !root_in_store(&b, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&b, "vm-1");
	wait_until(nothing_pending, &b, "the record is forgotten");
	assert_false(root_in_store(&b, "vm-1"));
	assert_absent(&b, "vm-1");
	box_stop(&b);
}

static void definite_failure_of_a_retry_does_not_forget_the_late_put(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	b.create_timeout_ns = 1 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=late:3000");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	faults(&b, "put:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -EIO);
	assert_int_equal(pending_count(&b), 1);
	for (uint64_t end = now_ns() + 20 * NSEC_PER_SEC; !root_in_store(&b, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&b, "vm-1");
	faults(&b, "seed=1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void late_put_does_not_bring_back_a_removed_volume(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	b.reap_ns = 0;
	b.forget_ns = 6 * NSEC_PER_SEC;
	b.create_timeout_ns = 10 * NSEC_PER_SEC;
	box_start(&b);
	/* The first copy has no answer and lands later; the second one makes the volume. */
	faults(&b, "put:exports/* ambiguous=late:1000 count=1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	assert_false(root_in_store(&b, "vm-1"));
	for (uint64_t end = now_ns() + 10 * NSEC_PER_SEC; !root_in_store(&b, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&b, "vm-1");
	wait_until(nothing_pending, &b, "the record is forgotten");
	assert_false(root_in_store(&b, "vm-1"));
	/* A new volume of the name is not the old one. */
	faults(&b, "put:exports/* ambiguous=late:300 count=1");
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	box_stop(&b);
}

static void late_put_of_a_refused_create_is_reaped(void **state)
{
	struct op_err err;
	struct box a, b;
	bool created;

	box_init(&a, "a");
	a.reap_ns = 0;
	a.forget_ns = 6 * NSEC_PER_SEC;
	a.create_timeout_ns = 10 * NSEC_PER_SEC;
	box_start(&a);
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", a.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", a.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&b);
	if (create_sized(&b, "vm-1", 256 * MiB, &created, &err))
		fail_msg("%s", err.msg);
	faults(&a, "put:exports/* ambiguous=late:1500 count=1");
	assert_true(create(&a, "vm-1", &created, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	/* The other goes, and what was refused lands. */
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	for (uint64_t end = now_ns() + 10 * NSEC_PER_SEC; !root_in_store(&a, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&a, "vm-1");
	wait_until(nothing_pending, &a, "the record is forgotten");
	assert_false(root_in_store(&a, "vm-1"));
	box_stop(&a);
	box_stop(&b);
}

static void pending_record_survives_a_restart(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	assert_int_equal(create(&b, "vm-2", &created, &err), -ETIMEDOUT);
	box_stop(&b);
	assert_true(root_in_store(&b, "vm-1"));
	box_start(&b);
	assert_int_equal(pending_count(&b), 2);
	assert_absent(&b, "vm-1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 1);
	box_stop(&b);
	b.reap_ns = b.forget_ns = 0;
	box_start(&b);
	wait_until(nothing_pending, &b, "the other record is reaped");
	assert_false(root_in_store(&b, "vm-2"));
	assert_true(root_in_store(&b, "vm-1"));
	box_stop(&b);
}

static void failed_device_is_undone_and_a_retry_creates(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	model.fail_add = EIO;
	assert_int_equal(create(&b, "vm-1", &created, &err), -EIO);
	assert_int_equal(err.fault, OP_FAULT_DEVICE);
	assert_non_null(strstr(err.msg, "ADD_DEV"));
	assert_absent(&b, "vm-1");
	assert_false(root_in_store(&b, "vm-1"));
	assert_int_equal(local_volumes(&b), 0);
	model.fail_add = ENOSPC;
	assert_int_equal(create(&b, "vm-1", &created, &err), -ENOSPC);
	assert_int_equal(err.fault, OP_FAULT_SPACE);
	/* Also when the store cannot be told: the name stays absent. */
	model.fail_add = EIO;
	faults(&b, "delete:* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -EIO);
	assert_true(root_in_store(&b, "vm-1"));
	assert_absent(&b, "vm-1");
	faults(&b, "seed=1");
	model.fail_add = 0;
	must_create(&b, "vm-1");
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static void unwritable_list_undoes_the_create(void **state)
{
	struct op_err err;
	struct box b;
	bool created;
	char tmp[160];

	box_init(&b, "a");
	box_start(&b);
	/* A directory in the way of the temporary file: as root nothing else is refused. */
	snprintf(tmp, sizeof(tmp), "%s/.volumes.json.%d.tmp", b.state, getpid());
	assert_int_equal(mkdir(tmp, 0700), 0);
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_absent(&b, "vm-1");
	assert_int_equal(model_count(), 0);
	assert_int_equal(rmdir(tmp), 0);
	must_create(&b, "vm-1");
	box_stop(&b);
	box_start(&b);
	{
		struct host_volume_info v;

		assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	}
	box_stop(&b);
}

struct creator {
	struct box *b;
	const char *name;
	bool created;
	int r;
	struct op_err err;
};

static void *creator_main(void *arg)
{
	struct creator *c = arg;

	c->r = create(c->b, c->name, &c->created, &c->err);
	return NULL;
}

static void one_of_many_creates_of_a_name_wins(void **state)
{
	struct creator c[12];
	unsigned int winners = 0;
	pthread_t t[12];
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	for (int i = 0; i < 12; i++) {
		c[i] = (struct creator){.b = &b, .name = "vm-1"};
		assert_int_equal(pthread_create(&t[i], NULL, creator_main, &c[i]), 0);
	}
	for (int i = 0; i < 12; i++) {
		pthread_join(t[i], NULL);
		if (c[i].r)
			fail_msg("%s", c[i].err.msg);
		winners += c[i].created;
	}
	assert_int_equal(winners, 1);
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static void a_hanging_create_delays_no_other_name(void **state)
{
	struct creator slow;
	struct box b;
	pthread_t t;

	box_init(&b, "a");
	b.create_timeout_ns = 3 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/slow/* hang");
	slow = (struct creator){.b = &b, .name = "slow"};
	assert_int_equal(pthread_create(&t, NULL, creator_main, &slow), 0);
	must_create(&b, "fast");
	assert_int_equal(pthread_tryjoin_np(t, NULL), EBUSY);
	pthread_join(t, NULL);
	assert_int_equal(slow.err.fault, OP_FAULT_STORE);
	assert_absent(&b, "slow");
	box_stop(&b);
}

static void creates_of_different_names_are_all_under_way_at_once(void **state)
{
	enum { NAMES = 20 };
	char names[NAMES][16];
	struct creator c[NAMES];
	pthread_t t[NAMES];
	struct box b;

	box_init(&b, "a");
	b.create_timeout_ns = 60 * NSEC_PER_SEC;
	box_start(&b);
	__atomic_store_n(&model.adding, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&model.together, NAMES, __ATOMIC_RELAXED);
	for (int i = 0; i < NAMES; i++) {
		snprintf(names[i], sizeof(names[i]), "vm-%d", i);
		c[i] = (struct creator){.b = &b, .name = names[i]};
		assert_int_equal(pthread_create(&t[i], NULL, creator_main, &c[i]), 0);
	}
	for (int i = 0; i < NAMES; i++)
		pthread_join(t[i], NULL);
	__atomic_store_n(&model.together, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < NAMES; i++)
		if (c[i].r)
			fail_msg("%s: %s", names[i], c[i].err.msg);
	box_stop(&b);
}

static bool device_there(struct box *b)
{
	return model_count() == 1;
}

static void device_is_made_while_the_put_is_in_flight(void **state)
{
	struct creator c;
	struct box b;
	pthread_t t;

	box_init(&b, "a");
	b.create_timeout_ns = 60 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/* hang");
	c = (struct creator){.b = &b, .name = "vm-1"};
	assert_int_equal(pthread_create(&t, NULL, creator_main, &c), 0);
	wait_until(device_there, &b, "the device before the PUT has an answer");
	assert_int_equal(pthread_tryjoin_np(t, NULL), EBUSY);
	assert_absent(&b, "vm-1");
	faults(&b, "seed=1");
	store_fault_release(b.store);
	pthread_join(t, NULL);
	if (c.r)
		fail_msg("%s", c.err.msg);
	assert_true(c.created);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	box_stop(&b);
}

static void a_device_that_hangs_keeps_a_failed_create_out_of_reach(void **state)
{
	struct op_err err;
	struct box b;
	bool created, changed;

	box_init(&b, "a");
	b.reap_ns = b.forget_ns = 0;
	box_start(&b);
	faults(&b, "put:exports/* error=EIO");
	model.fail_remove = ETIMEDOUT;
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_state(&b, "vm-1", HOST_FAILED);
	faults(&b, "seed=1");
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_non_null(strstr(err.msg, "restart glidefsd"));
	assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
	assert_true(host_detach(b.host, "vm-1", true, 0, 1, &err) < 0);
	assert_true(host_takeover(b.host, "vm-1", true, 1, &err) < 0);
	assert_int_equal(model_count(), 1);
	model.fail_remove = 0;
	box_stop(&b);
	box_start(&b);
	wait_until(nothing_pending, &b, "the record is reaped");
	assert_absent(&b, "vm-1");
	assert_int_equal(model_count(), 0);
	must_create(&b, "vm-1");
	box_stop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create_is_idempotent_and_refuses_another_definition),
		cmocka_unit_test(failed_put_is_undone_and_a_retry_creates),
		cmocka_unit_test(ambiguous_put_that_was_made_is_recognised_as_ours),
		cmocka_unit_test(create_without_answer_does_not_exist_and_a_retry_adopts_it),
		cmocka_unit_test(retry_with_another_definition_replaces_the_leftover),
		cmocka_unit_test(late_put_of_a_failed_create_is_reaped),
		cmocka_unit_test(definite_failure_of_a_retry_does_not_forget_the_late_put),
		cmocka_unit_test(late_put_does_not_bring_back_a_removed_volume),
		cmocka_unit_test(late_put_of_a_refused_create_is_reaped),
		cmocka_unit_test(pending_record_survives_a_restart),
		cmocka_unit_test(failed_device_is_undone_and_a_retry_creates),
		cmocka_unit_test(unwritable_list_undoes_the_create),
		cmocka_unit_test(one_of_many_creates_of_a_name_wins),
		cmocka_unit_test(a_hanging_create_delays_no_other_name),
		cmocka_unit_test(creates_of_different_names_are_all_under_way_at_once),
		cmocka_unit_test(device_is_made_while_the_put_is_in_flight),
		cmocka_unit_test(a_device_that_hangs_keeps_a_failed_create_out_of_reach),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
