// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registry: restarts, recovery, growth, removal, lists.
 */
#include "host_box.h"

static bool is_ready(struct box *b)
{
	struct host_summary s;

	host_summary_read(b->host, &s);
	return s.ready;
}

static void restart_recovers_the_same_devices_and_removes_leaked_ones(void **state)
{
	struct host_volume_info v;
	int ids[8];
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	for (int i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "vm-%d", i);
		must_create(&b, name);
		assert_int_equal(show(&b, name, &v), OP_FAULT_NONE);
		ids[i] = v.dev_id;
	}
	box_stop(&b);
	assert_int_equal(model_count(), 8);
	/* One that belongs to no volume, and one volume whose device is gone. */
	model.d[20].there = true;
	memset(model.d[20].uuid, 0xee, 16);
	model.d[ids[3]].there = false;
	box_start(&b);
	wait_until(is_ready, &b, "recovery");
	assert_true(readied(&b));
	assert_false(model.d[20].there);
	for (int i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "vm-%d", i);
		assert_state(&b, name, HOST_ATTACHED);
		assert_int_equal(show(&b, name, &v), OP_FAULT_NONE);
		if (i != 3)
			assert_int_equal(v.dev_id, ids[i]);
	}
	assert_int_equal(model_count(), 8);
	box_stop(&b);
}

static void a_larger_create_grows_the_volume_and_its_device(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(create_sized(&b, "vm-1", 128 * MiB, &created, &err), 0);
	assert_false(created);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.info.root.size_bytes, 128 * MiB);
	assert_int_equal(v.dev_bytes, 128 * MiB);
	/* A kernel that cannot: the volume is larger, the device says that it is not. */
	model.no_resize = true;
	assert_int_equal(create_sized(&b, "vm-1", 256 * MiB, &created, &err), 0);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.info.root.size_bytes, 256 * MiB);
	assert_int_equal(v.dev_bytes, 128 * MiB);
	/* Another daemon, and a kernel that can: the device follows when it is recovered. */
	model.no_resize = false;
	box_stop(&b);
	box_start(&b);
	wait_until(is_ready, &b, "recovery");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.dev_bytes, 256 * MiB);
	/* One that is only in the store is attached, and grows. */
	assert_int_equal(host_detach(b.host, "vm-1", false, 0, timing_op_id(), &err), 0);
	assert_int_equal(create_sized(&b, "vm-1", 512 * MiB, &created, &err), 0);
	assert_false(created);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.state, HOST_ATTACHED);
	assert_int_equal(v.dev_bytes, 512 * MiB);
	box_stop(&b);
}

static void recovery_waits_for_a_store_that_is_away(void **state)
{
	struct host_summary s;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	must_create(&b, "vm-2");
	box_stop(&b);
	start_engine(&b, "get:* error=EIO");
	start_registry(&b);
	host_recover_start(b.host);
	wait_until(readied, &b, "the first pass");
	host_summary_read(b.host, &s);
	assert_false(s.ready);
	assert_int_equal(s.failed_passing, 2);
	faults(&b, "seed=1");
	wait_until(is_ready, &b, "the volumes to be tried again");
	assert_state(&b, "vm-1", HOST_ATTACHED);
	assert_state(&b, "vm-2", HOST_ATTACHED);
	box_stop(&b);
}

static void failed_recovery_of_a_device_is_tried_again(void **state)
{
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	box_stop(&b);
	model.fail_recover = ETIMEDOUT;
	box_start(&b);
	wait_until(readied, &b, "the first pass");
	assert_state(&b, "vm-1", HOST_FAILED);
	model.fail_recover = 0;
	wait_until(is_ready, &b, "the device to be recovered");
	assert_state(&b, "vm-1", HOST_ATTACHED);
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static void lost_local_state_is_never_served_silently(void **state)
{
	struct op_err err;
	char cmd[160];
	bool changed;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	box_stop(&b);
	snprintf(cmd, sizeof(cmd), "rm -r %s/volumes/*", b.cache);
	assert_int_equal(system(cmd), 0);
	box_start(&b);
	wait_until(is_ready, &b, "the first pass");
	assert_state(&b, "vm-1", HOST_FAILED);
	/* Neither does a plain attach; a takeover accepts the store's image. */
	assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_int_equal(host_takeover(b.host, "vm-1", false, 1, &err), 0);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static void damaged_list_is_refused_with_its_name(void **state)
{
	struct fmt_err err = {{0}};
	struct host_config hc;
	struct host *h;
	char path[160], *text;
	size_t len;
	struct box b;
	int fd;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	box_stop(&b);
	snprintf(path, sizeof(path), "%s/volumes.json", b.state);
	assert_int_equal(file_read_all(AT_FDCWD, path, MiB, &text, &len), 0);
	start_engine(&b, "seed=1");
	b.pool = pool_create("t", 2);
	hc = (struct host_config){.state_dir = b.state, .cache_dir = b.cache, .host_id = b.host_id};
	for (size_t i = 0; i < len; i++) {
		char old = text[i];

		text[i] ^= 1;
		fd = open(path, O_WRONLY | O_TRUNC);
		assert_int_equal(write(fd, text, len), (ssize_t)len);
		close(fd);
		text[i] = old;
		if (host_create(&hc, b.engine, &b.ublk, b.pool, &h, &err) == 0)
			fail_msg("accepted with byte %zu ('%c') changed", i, old);
		assert_non_null(strstr(err.msg, "volumes.json"));
	}
	free(text);
	pool_destroy(b.pool);
	engine_destroy(b.engine);
	store_close(b.store);
}

static void remove_deletes_all_or_can_be_repeated(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	model_set_in_use(v.dev_id, true);
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), -EBUSY);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	faults(&b, "delete:* error=EIO");
	assert_true(host_remove(b.host, "vm-1", true, 1, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_state(&b, "vm-1", HOST_STOPPED);
	faults(&b, "seed=1");
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	assert_absent(&b, "vm-1");
	assert_false(root_in_store(&b, "vm-1"));
	assert_int_equal(local_volumes(&b), 0);
	assert_int_equal(model_count(), 0);
	/* Of one that is only in the store, too. */
	must_create(&b, "vm-2");
	assert_int_equal(host_detach(b.host, "vm-2", false, 0, 1, &err), 0);
	assert_int_equal(host_remove(b.host, "vm-2", false, 1, &err), 0);
	assert_absent(&b, "vm-2");
	box_stop(&b);
	box_start(&b);
	assert_absent(&b, "vm-1");
	assert_absent(&b, "vm-2");
	box_stop(&b);
}

struct listed {
	unsigned int n, detached, attached;
};

static void count_listed(const struct host_volume_info *v, void *arg)
{
	struct listed *l = arg;

	l->n++;
	l->detached += v->state == HOST_DETACHED;
	l->attached += v->state == HOST_ATTACHED;
}

static void list_shows_this_host_and_the_store_but_no_leftovers(void **state)
{
	struct listed l = {0};
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "here");
	must_create(&b, "away");
	assert_int_equal(host_detach(b.host, "away", false, 0, 1, &err), 0);
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "ghost", &created, &err), -ETIMEDOUT);
	faults(&b, "seed=1");
	assert_int_equal(host_list(b.host, 1, count_listed, &l, &err), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.attached, 1);
	assert_int_equal(l.detached, 1);
	memset(&l, 0, sizeof(l));
	faults(&b, "list:* error=EIO");
	assert_true(host_list(b.host, 1, count_listed, &l, &err) < 0);
	assert_int_equal(l.n, 1);
	box_stop(&b);
}

static void illegal_names_reach_nothing(void **state)
{
	static const char *const names[] = {"",    ".",   "..",   "-a",  "a/b",
					    "a b", "a\n", "\xff", "a%2f"};
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_true(create(&b, names[i], &created, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_REQUEST);
		assert_int_equal(show(&b, names[i], &v), OP_FAULT_REQUEST);
		assert_true(host_remove(b.host, names[i], true, 1, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_REQUEST);
	}
	box_stop(&b);
}

static void host_id_is_made_once_and_kept(void **state)
{
	char a[128], b[128], dir[128], cmd[200];
	struct fmt_err err = {{0}};

	snprintf(dir, sizeof(dir), "%s/id", top);
	assert_int_equal(host_id_load(dir, "box-1", a, sizeof(a), &err), 0);
	assert_memory_equal(a, "box-1/", 6);
	assert_int_equal(host_id_load(dir, "renamed", b, sizeof(b), &err), 0);
	assert_string_equal(a, b);
	snprintf(cmd, sizeof(cmd), "echo nonsense > %s/host-id", dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(host_id_load(dir, "box-1", b, sizeof(b), &err), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_larger_create_grows_the_volume_and_its_device),
		cmocka_unit_test(restart_recovers_the_same_devices_and_removes_leaked_ones),
		cmocka_unit_test(recovery_waits_for_a_store_that_is_away),
		cmocka_unit_test(failed_recovery_of_a_device_is_tried_again),
		cmocka_unit_test(lost_local_state_is_never_served_silently),
		cmocka_unit_test(damaged_list_is_refused_with_its_name),
		cmocka_unit_test(remove_deletes_all_or_can_be_repeated),
		cmocka_unit_test(list_shows_this_host_and_the_store_but_no_leftovers),
		cmocka_unit_test(illegal_names_reach_nothing),
		cmocka_unit_test(host_id_is_made_once_and_kept),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
