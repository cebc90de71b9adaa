// SPDX-License-Identifier: GPL-2.0-or-later
/* Verdicts on control commands: START_DEV, recovery, and removal that something holds. */
#include "trace_model.h"

static void late_fetch_names_queue_tags_and_thread(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	for (uint64_t t = 100; t <= 1900; t += 200) {
		at(&s, t);
		cmd(&s, 1, CMD_START_DEV, 0);
		dev(&s, DEV_DEAD);
		queue(&s, 0, 64, "");
		queue(&s, 1, 2, "2-63");
		snap_end(&s);
		task(&s, 702, SERVER, 1, "gfs-lane-1", "do_nanosleep+0x1;hrtimer_nanosleep");
		tick(&s, t + 1);
	}
	run(&s);
	f = only(V_START_LATE_FETCH, "H2");
	assert_int_equal(f->severity, SEV_CRITICAL);
	assert_string_equal(f->volume, "vm1");
	assert_string_equal(f->stage, "ready-wait");
	assert_int_equal(f->since_ns, AT(0));
	assert_int_equal(f->end_ns, 0);
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(f->blocker[0].type, BLK_QUEUE);
	assert_int_equal(f->blocker[0].queue.queue, 1);
	assert_int_equal(f->blocker[0].queue.armed, 2);
	assert_string_equal(f->blocker[0].queue.missing, "2-63");
	assert_int_equal(f->blocker[0].owner.tid, 702);
	assert_non_null(strstr(f->blocker[0].owner.kstack, "do_nanosleep"));
	summary_has(f, "62 missing (tags 2-63)");
	summary_has(f, "do_nanosleep");
	/* It appeared at the first tick past the budget, and nothing new has happened since. */
	assert_int_equal(res.nr, 1);
	assert_int_equal(model_exit_status(res.m), 3);
	done(&s);
}

static void late_fetch_closes_with_the_command(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	for (uint64_t t = 100; t <= 1900; t += 200) {
		at(&s, t);
		cmd(&s, 1, CMD_START_DEV, 0);
		dev(&s, DEV_DEAD);
		queue(&s, 1, 0, "0-63");
		snap_end(&s);
		tick(&s, t + 1);
	}
	/* Armed at last, and not gone on yet: it is still the arming that took the time. */
	at(&s, 2000);
	cmd(&s, 1, CMD_START_DEV, 0);
	snap(&s, -1, 0);
	tick(&s, 2001);
	at(&s, 2050);
	r = cmd(&s, 1, CMD_START_DEV, 0);
	r->cmd.add_disk_ns = AT(2000);
	r->cmd.add_disk_end_ns = AT(2030);
	r->cmd.end_ns = AT(2040);
	tick(&s, 2060);
	tick(&s, 2260);
	run(&s);
	f = only(V_START_LATE_FETCH, "H2");
	assert_int_equal(f->end_ns, AT(2040));
	assert_int_equal(f->severity, SEV_WARNING);
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(res.nr_open, 1);
	assert_int_equal(res.nr_close, 1);
	summary_has(f, "took 2.04 s, 2.00 s of it");
	assert_int_equal(model_exit_status(res.m), 2);
	done(&s);
}

static void start_dev_with_all_armed_is_a_slow_command(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 600);
	cmd(&s, 1, CMD_START_DEV, 0);
	snap(&s, -1, 0);
	tick(&s, 601);
	run(&s);
	f = only(V_CMD_SLOW, "");
	summary_has(f, "all 2 queues are armed");
	done(&s);
}

static void a_snapshot_from_before_proves_nothing(void **state)
{
	struct stream s;

	begin(&s);
	at(&s, 0);
	dev(&s, DEV_DEAD);
	queue(&s, 0, 0, "0-63");
	snap_end(&s);
	at(&s, 900);
	cmd(&s, 1, CMD_START_DEV, 100);
	tick(&s, 901);
	run(&s);
	only(V_CMD_SLOW, "");
	done(&s);
}

static struct rec *start_in_scan(struct stream *s)
{
	struct rec *r = cmd(s, 1, CMD_START_DEV, 0);

	r->cmd.add_disk_ns = AT(20);
	r->cmd.scan_ns = AT(30);
	return r;
}

static void partition_scan_names_the_read_and_its_get(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	for (uint64_t t = 200; t <= 2800; t += 200) {
		at(&s, t);
		start_in_scan(&s);
		snap(&s, 9, 31);
		spans_of_read(&s, 9, 32);
		tick(&s, t + 1);
	}
	run(&s);
	f = only(V_START_PART_SCAN, "H5");
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(f->blocker[0].req.tag, 9);
	assert_string_equal(f->blocker[0].span.event, "object.get");
	assert_string_equal(f->blocker[0].span.key, "chunks/0007/ab12.pack");
	summary_has(f, "chunks/0007/ab12.pack");
	assert_int_equal(res.nr, 1);
	model_free(res.m);

	/* The read is answered, and so the command ends: no second finding about the read. */
	at(&s, 3010);
	r = req(&s, 0, 9, 31, REQ_DONE);
	r->req.end_ns = AT(3000);
	r = start_in_scan(&s);
	r->cmd.scan_end_ns = r->cmd.end_ns = AT(3001);
	tick(&s, 3020);
	run(&s);
	f = only(V_START_PART_SCAN, "H5");
	assert_int_equal(f->end_ns, AT(3001));
	assert_string_equal(f->blocker[0].span.event, "object.get");
	assert_int_equal(res.nr, 2);
	done(&s);
}

static void partition_scan_without_its_hook(void **state)
{
	struct stream s;

	begin(&s);
	at(&s, 700);
	start_in_scan(&s)->cmd.scan_ns = 0;
	snap(&s, 9, 31);
	tick(&s, 701);
	run(&s);
	only(V_START_PART_SCAN, "H5");
	done(&s);
}

static void partition_scan_seen_only_at_its_end(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 3010);
	r = req(&s, 0, 9, 31, REQ_SERVER);
	r->req.end_ns = AT(3000);
	r = start_in_scan(&s);
	r->cmd.scan_end_ns = r->cmd.end_ns = AT(3001);
	tick(&s, 3020);
	run(&s);
	f = only(V_START_PART_SCAN, "H5");
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(f->blocker[0].req.tag, 9);
	assert_int_equal(res.nr, 2);
	assert_int_equal(f->severity, SEV_WARNING);
	done(&s);
}

static void punted_and_never_taken(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 2500);
	r = cmd(&s, 1, CMD_ADD_DEV, 0);
	r->cmd.worker_ns = r->cmd.ctrl_ns = 0;
	tick(&s, 2501);
	run(&s);
	f = only(V_PUNT, "H1");
	assert_string_equal(f->stage, "punt");
	summary_has(f, "none has taken it");
	done(&s);
}

static void a_command_that_learns_its_device_is_one_command(void **state)
{
	struct stream s;

	begin(&s);
	at(&s, 2500);
	cmd(&s, 1, CMD_ADD_DEV, 0)->cmd.dev = -1;
	tick(&s, 2501);
	at(&s, 2700);
	cmd(&s, 1, CMD_ADD_DEV, 0)->cmd.end_ns = AT(2650);
	tick(&s, 2701);
	run(&s);
	assert_int_equal(model_nr_findings(res.m), 1);
	assert_int_equal(model_finding(res.m, 0)->end_ns, AT(2650));
	assert_int_equal(model_finding(res.m, 0)->dev, DEV);
	assert_int_equal(res.nr, 2);
	done(&s);
}

static void opener(struct stream *s, bool cdev, uint32_t tgid, const char *what)
{
	struct rec *r = push(s, REC_OPENER);

	r->opener.dev = DEV;
	r->opener.cdev = cdev;
	r->opener.tgid = tgid;
	SET(r->opener.comm, "leak");
	SET(r->opener.what, "%s", what);
}

static void del_is_held_by_whoever_has_the_char_device(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 2500);
	cmd(&s, 1, CMD_DEL_DEV, 0);
	opener(&s, true, 4321, "fd 7");
	opener(&s, false, 4322, "fd 8");
	tick(&s, 2501);
	run(&s);
	f = only(V_DEL_HELD, "H11");
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(f->blocker[0].opener.tgid, 4321);
	summary_has(f, "/dev/ublkc3 is held by leak (pid 4321, fd 7)");
	done(&s);
	begin(&s);
	at(&s, 2500);
	cmd(&s, 1, CMD_DEL_DEV, 0);
	tick(&s, 2501);
	run(&s);
	only(V_CMD_SLOW, "");
	done(&s);
}

static void stop_waits_for_openers_and_their_requests(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 2500);
	cmd(&s, 1, CMD_STOP_DEV, 0);
	opener(&s, false, 4322, "mounted on /mnt");
	snap(&s, 5, 10);
	tick(&s, 2501);
	run(&s);
	f = only(V_DEL_HELD, "H8");
	assert_int_equal(f->nr_blockers, 2);
	assert_int_equal(f->blocker[0].type, BLK_OPENER);
	assert_int_equal(f->blocker[1].type, BLK_REQUEST);
	summary_has(f, "mounted on /mnt");
	done(&s);
}

static void stop_from_an_io_thread_is_named(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 2500);
	cmd(&s, 1, CMD_STOP_DEV, 0);
	snap(&s, 5, 10);
	task(&s, 790, SERVER, 1, "iou-wrk-701", "bdev_mark_dead;del_gendisk;ublk_stop_dev");
	tick(&s, 2501);
	run(&s);
	f = only(V_DEL_HELD, "H7");
	assert_non_null(strstr(f->advice, "another thread"));
	done(&s);
	/* The ring of another thread: the ordinary case. */
	begin(&s);
	at(&s, 2500);
	cmd(&s, 1, CMD_STOP_DEV, 0);
	snap(&s, 5, 10);
	task(&s, 790, SERVER, 1, "iou-wrk-750", "bdev_mark_dead;del_gendisk;ublk_stop_dev");
	tick(&s, 2501);
	run(&s);
	only(V_DEL_HELD, "H8");
	done(&s);
}

static void recovery_begun_and_not_ended(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 20);
	r = cmd(&s, 1, CMD_START_USER_RECOVERY, 0);
	r->cmd.end_ns = AT(10);
	for (uint64_t t = 200; t <= 3000; t += 200) {
		at(&s, t);
		dev(&s, DEV_QUIESCED);
		queue(&s, 0, 64, "");
		queue(&s, 1, 60, "60-63");
		snap_end(&s);
		tick(&s, t + 1);
	}
	run(&s);
	f = only(V_RECOVERY_INCOMPLETE, "");
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(f->blocker[0].queue.queue, 1);
	assert_int_equal(f->since_ns, AT(10));
	assert_int_equal(res.nr, 1);
	model_free(res.m);

	/* END comes, waits, and ends: one finding, closed. */
	for (uint64_t t = 3200; t <= 6000; t += 200) {
		at(&s, t);
		cmd(&s, 2, CMD_END_USER_RECOVERY, 3100);
		tick(&s, t + 1);
	}
	at(&s, 6100);
	cmd(&s, 2, CMD_END_USER_RECOVERY, 3100)->cmd.end_ns = AT(6050);
	dev(&s, DEV_LIVE);
	snap_end(&s);
	tick(&s, 6101);
	run(&s);
	f = only(V_RECOVERY_INCOMPLETE, "");
	assert_int_equal(f->end_ns, AT(6050));
	assert_int_equal(f->cmd.nr, CMD_END_USER_RECOVERY);
	done(&s);
}

static void a_recovery_within_its_budget_is_clean(void **state)
{
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 20);
	r = cmd(&s, 1, CMD_START_USER_RECOVERY, 0);
	r->cmd.end_ns = AT(10);
	for (uint64_t t = 200; t <= 1800; t += 200) {
		at(&s, t);
		dev(&s, DEV_QUIESCED);
		queue(&s, 1, 60, "60-63");
		snap_end(&s);
		tick(&s, t + 1);
	}
	/* Its END was too quick to be told; nobody looked at the device again. */
	tick(&s, 2500);
	tick(&s, 9000);
	run(&s);
	none();
	model_free(res.m);
	at(&s, 9100);
	snap(&s, -1, 0);
	tick(&s, 9101);
	run(&s);
	none();
	done(&s);
}

static void end_user_recovery_waits_for_a_queue(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 2500);
	cmd(&s, 2, CMD_END_USER_RECOVERY, 100);
	dev(&s, DEV_QUIESCED);
	queue(&s, 1, 60, "60-63");
	snap_end(&s);
	tick(&s, 2501);
	run(&s);
	f = only(V_RECOVERY_INCOMPLETE, "H2");
	assert_int_equal(f->blocker[0].queue.queue, 1);
	done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_fetch_names_queue_tags_and_thread),
		cmocka_unit_test(late_fetch_closes_with_the_command),
		cmocka_unit_test(start_dev_with_all_armed_is_a_slow_command),
		cmocka_unit_test(a_snapshot_from_before_proves_nothing),
		cmocka_unit_test(partition_scan_names_the_read_and_its_get),
		cmocka_unit_test(partition_scan_without_its_hook),
		cmocka_unit_test(partition_scan_seen_only_at_its_end),
		cmocka_unit_test(punted_and_never_taken),
		cmocka_unit_test(a_command_that_learns_its_device_is_one_command),
		cmocka_unit_test(del_is_held_by_whoever_has_the_char_device),
		cmocka_unit_test(stop_waits_for_openers_and_their_requests),
		cmocka_unit_test(stop_from_an_io_thread_is_named),
		cmocka_unit_test(recovery_begun_and_not_ended),
		cmocka_unit_test(a_recovery_within_its_budget_is_clean),
		cmocka_unit_test(end_user_recovery_waits_for_a_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
