// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Verdicts: each from the records of such a hang, and none from those of a healthy device. Every
 * stream is run twice, as it is and through a capture's lines: a replay concludes what the live
 * session did.
 */
#include "trace_test.h"

static struct result res;

static void run_once(const struct stream *s, struct result *x, bool through_lines)
{
	static char line[REC_LINE_MAX];
	static struct rec back;
	char err[200];

	result_begin(x, NULL);
	for (size_t i = 0; i < s->nr; i++) {
		int len;

		if (!through_lines) {
			result_feed(x, &s->r[i]);
			continue;
		}
		len = rec_encode(&s->r[i], line, sizeof(line));
		assert_true(len > 0);
		assert_int_equal(rec_decode(line, (size_t)len, &back, err, sizeof(err)), 0);
		result_feed(x, &back);
	}
}

/* Runs and ends the stream; the result is in res, to be freed by done(). */
static void run(struct stream *s)
{
	static struct result replayed;

	run_once(s, &res, false);
	run_once(s, &replayed, true);
	assert_int_equal(res.nr, replayed.nr);
	for (unsigned int i = 0; i < res.nr; i++) {
		assert_int_equal(res.e[i].id, replayed.e[i].id);
		assert_int_equal(res.e[i].ev, replayed.e[i].ev);
		assert_int_equal(res.e[i].verdict, replayed.e[i].verdict);
		assert_string_equal(res.e[i].summary, replayed.e[i].summary);
	}
	assert_int_equal(model_exit_status(res.m), model_exit_status(replayed.m));
	model_free(replayed.m);
	if (getenv("TRACE_SHOW"))
		for (unsigned int i = 0; i < res.nr; i++)
			printf("# %d %s: %s\n", res.e[i].ev, verdict_name(res.e[i].verdict),
			       res.e[i].summary);
}

static void done(struct stream *s)
{
	model_free(res.m);
	free(s->r);
}

static void show_all(void)
{
	for (unsigned int i = 0; i < res.nr; i++)
		print_error("event %d of %llu, %s: %s\n", res.e[i].ev,
			    (unsigned long long)res.e[i].id, verdict_name(res.e[i].verdict),
			    res.e[i].summary);
}

/* The only finding, and what it is. */
static const struct finding *only(enum verdict v, const char *catalogue)
{
	const struct finding *f = model_finding(res.m, 0);

	if (model_nr_findings(res.m) != 1) {
		show_all();
		fail_msg("%zu findings, not 1", model_nr_findings(res.m));
	}
	if (f->verdict != v)
		fail_msg("%s, not %s: %s", verdict_name(f->verdict), verdict_name(v), f->summary);
	assert_string_equal(f->catalogue, catalogue);
	assert_int_equal(f->dev, DEV);
	return f;
}

static void none(void)
{
	if (model_nr_findings(res.m)) {
		show_all();
		fail_msg("%zu findings, not 0", model_nr_findings(res.m));
	}
	assert_int_equal(model_exit_status(res.m), 0);
}

static void summary_has(const struct finding *f, const char *text)
{
	if (!strstr(f->summary, text))
		fail_msg("no \"%s\" in: %s", text, f->summary);
}

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

static void pinned_until(struct stream *s, uint64_t until)
{
	begin(s);
	at(s, 0);
	server(s, false);
	for (uint64_t t = 200; t <= until; t += 200) {
		at(s, t);
		snap(s, 5, 0);
		freeze(s, 1, WRITER, 100);
		attr(s, 2, WRITER, 99);
		task(s, WRITER, WRITER, 800, "sh",
		     "blk_mq_freeze_queue_wait+0x8b;elevator_change;elv_iosched_store");
		task(s, 701, SERVER, 1, "gfs-lane-0", "io_cqring_wait;__do_sys_io_uring_enter");
		spans_of_read(s, 5, 1);
		tick(s, t + 1);
	}
}

static void freeze_names_the_request_that_pins_it(void **state)
{
	const struct finding *f;
	struct stream s;

	pinned_until(&s, 3000);
	run(&s);
	f = only(V_FREEZE_PINNED, "H10");
	assert_string_equal(f->waiter.comm, "sh");
	assert_int_equal(f->waiter.tid, WRITER);
	assert_non_null(strstr(f->waiter.cmdline, "mq-deadline"));
	assert_string_equal(f->attr.attr, "scheduler");
	assert_string_equal(f->attr.value, "mq-deadline");
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(f->blocker[0].type, BLK_REQUEST);
	assert_int_equal(f->blocker[0].req.queue, 0);
	assert_int_equal(f->blocker[0].req.tag, 5);
	assert_int_equal(f->blocker[0].req.sector, 4096);
	assert_int_equal(f->blocker[0].age_ns, AT(3001) - AT(0));
	assert_int_equal(f->blocker[0].owner.tid, 701);
	assert_true(f->blocker[0].io_span.is_io);
	assert_string_equal(f->blocker[0].span.key, "chunks/0007/ab12.pack");
	summary_has(f, "scheduler write by sh (pid 812) waits 2.90 s for the freeze of ublkb3");
	summary_has(f, "read of 8 sectors at 4096, queue 0 tag 5, in glidefsd for 3.00 s");
	summary_has(f, "(object.get chunks/0007/ab12.pack, 2.98 s)");
	/* It was told while it hung, and once. */
	assert_int_equal(res.nr, 1);
	assert_int_equal(res.e[0].ev, FINDING_OPEN);
	done(&s);
}

static void a_write_that_ends_is_told_with_its_writer(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	pinned_until(&s, 3000);
	at(&s, 3150);
	r = req(&s, 0, 5, 0, REQ_SERVER);
	r->req.end_ns = AT(3100);
	r = freeze(&s, 1, WRITER, 100);
	r->freeze.wait_end_ns = AT(3101);
	r->freeze.end_ns = AT(3102);
	r = attr(&s, 2, WRITER, 99);
	r->attr.end_ns = AT(3103);
	r->attr.freeze_ns = AT(3101) - AT(100);
	tick(&s, 3200);
	/* An end that is told twice is one end. */
	at(&s, 3300);
	r = attr(&s, 2, WRITER, 99);
	r->attr.end_ns = AT(3103);
	tick(&s, 3400);
	run(&s);
	assert_int_equal(model_nr_findings(res.m), 2);
	f = model_finding(res.m, 0);
	assert_int_equal(f->verdict, V_FREEZE_PINNED);
	assert_int_equal(f->end_ns, AT(3101));
	assert_int_equal(f->nr_blockers, 1);
	summary_has(f, "waited 3.00 s");
	f = model_finding(res.m, 1);
	assert_int_equal(f->verdict, V_ATTR_SLOW);
	assert_int_equal(f->end_ns, AT(3103));
	assert_string_equal(f->waiter.cmdline, "sh -c echo mq-deadline > scheduler");
	summary_has(f, "took 3.00 s: 3.00 s waiting for freezes, 3.0 ms for the rest");
	/* open, close of the freeze; open, close of the write; nothing about the request. */
	assert_int_equal(res.nr, 4);
	assert_int_equal(model_exit_status(res.m), 2);
	done(&s);
}

static void a_request_that_ended_is_not_blamed(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 200);
	dev(&s, DEV_LIVE);
	queue(&s, 0, 64, "");
	req(&s, 0, 5, 0, REQ_SERVER);
	req(&s, 0, 6, 50, REQ_SERVER);
	snap_end(&s);
	r = req(&s, 0, 5, 0, REQ_DONE);
	r->req.end_ns = AT(250);
	at(&s, 1200);
	freeze(&s, 1, WRITER, 150);
	tick(&s, 1201);
	run(&s);
	f = only(V_FREEZE_PINNED, "");
	assert_int_equal(f->nr_blockers, 1);
	assert_int_equal(f->blocker[0].req.tag, 6);
	model_free(res.m);
	/* A snapshot from before the freeze names nobody. */
	at(&s, 2400);
	r = freeze(&s, 1, WRITER, 150);
	r->freeze.wait_end_ns = AT(2399);
	freeze(&s, 2, 900, 1100);
	tick(&s, 2401);
	run(&s);
	f = model_finding(res.m, 1);
	assert_int_equal(f->verdict, V_FREEZE_PINNED);
	assert_int_equal(f->nr_blockers, 0);
	done(&s);
}

static void oldest_requests_first_and_the_rest_counted(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 1200);
	dev(&s, DEV_LIVE);
	for (uint32_t i = 0; i < 40; i++)
		req(&s, 0, i, 90 - 2 * (i / 2), REQ_SERVER);
	snap_end(&s);
	freeze(&s, 1, WRITER, 100);
	tick(&s, 1201);
	run(&s);
	f = only(V_FREEZE_PINNED, "");
	assert_int_equal(f->nr_blockers, FINDING_BLOCKERS);
	assert_int_equal(f->more_blockers, 40 - FINDING_BLOCKERS);
	for (unsigned int i = 0; i < f->nr_blockers; i++) {
		assert_int_equal(f->blocker[i].req.start_ns, AT(52 + 2 * (i / 2)));
		assert_true(!i || f->blocker[i].req.tag != f->blocker[i - 1].req.tag);
	}
	summary_has(f, "and 39 more");
	done(&s);
}

static void a_thread_that_freezes_its_own_request_is_a_cycle(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	for (uint64_t t = 200; t <= 2000; t += 200) {
		at(&s, t);
		/* At 1800 its thread is not known: what was proven stays proven. */
		dev(&s, DEV_LIVE);
		req(&s, 0, 5, 0, REQ_SERVER)->req.owner_tid = t == 1800 ? 0 : 701;
		snap_end(&s);
		freeze(&s, 1, 701, 100);
		attr(&s, 2, 701, 99);
		task(&s, 701, SERVER, 1, "gfs-lane-0", "blk_mq_freeze_queue_wait");
		tick(&s, t + 1);
	}
	run(&s);
	f = only(V_FREEZE_SELF, "H10");
	assert_int_equal(f->nr_cycle, 3);
	assert_non_null(strstr(f->cycle[0], "tid 701) waits for the freeze of ublkb3"));
	assert_non_null(strstr(f->cycle[1], "queue 0 tag 5"));
	assert_non_null(strstr(f->cycle[2], "tid 701), which has it"));
	assert_non_null(strstr(f->advice, "SIGKILL does not help"));
	assert_non_null(strstr(f->advice, "Reboot"));
	assert_int_equal(res.nr, 1);
	done(&s);
}

static void child_stream(struct stream *s, const char *owner_stack, uint32_t sh_parent, bool stale)
{
	begin(s);
	if (stale) {
		at(s, 50);
		task(s, 701, SERVER, 1, "gfs-lane-0", owner_stack);
	}
	at(s, 1200);
	snap(s, 5, 0);
	freeze(s, 1, WRITER, 100);
	attr(s, 2, WRITER, 99);
	task(s, WRITER, WRITER, 811, "sh", "blk_mq_freeze_queue_wait");
	task(s, 811, 811, sh_parent, "sh", "do_wait");
	if (!stale)
		task(s, 701, SERVER, 1, "gfs-lane-0", owner_stack);
	tick(s, 1201);
}

static void a_thread_that_waits_for_its_freezing_child_is_a_cycle(void **state)
{
	const struct finding *f;
	struct stream s;

	child_stream(&s, "do_wait+0x57;kernel_wait4", SERVER, false);
	run(&s);
	f = only(V_FREEZE_SELF, "H10");
	assert_int_equal(f->nr_cycle, 4);
	assert_non_null(strstr(f->cycle[3], "waits for its child sh (pid 812)"));
	assert_non_null(strstr(f->advice, "Killing the child does not help"));
	done(&s);
}

static void no_cycle_is_claimed_without_proof(void **state)
{
	struct stream s;

	/* Not its child; not waiting for a child; a stack from before the freeze; another name. */
	child_stream(&s, "do_wait;kernel_wait4", 1, false);
	run(&s);
	only(V_FREEZE_PINNED, "H10");
	done(&s);
	child_stream(&s, "io_cqring_wait;schedule", SERVER, false);
	run(&s);
	only(V_FREEZE_PINNED, "H10");
	done(&s);
	child_stream(&s, "do_wait;kernel_wait4", SERVER, true);
	run(&s);
	only(V_FREEZE_PINNED, "H10");
	done(&s);
	child_stream(&s, "do_wait_intr_irq;schedule", SERVER, false);
	run(&s);
	only(V_FREEZE_PINNED, "H10");
	done(&s);
}

static void what_was_proven_stays_when_the_request_is_gone(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	for (uint64_t t = 1200; t <= 1600; t += 200) {
		at(&s, t);
		dev(&s, DEV_LIVE);
		/* The server was killed, its request failed, and the freeze has not ended yet. */
		if (t < 1600)
			req(&s, 0, 5, 0, REQ_SERVER)->req.owner_tid = 701;
		snap_end(&s);
		freeze(&s, 1, 701, 100);
		tick(&s, t + 1);
	}
	at(&s, 1700);
	r = freeze(&s, 1, 701, 100);
	r->freeze.wait_end_ns = r->freeze.end_ns = AT(1650);
	tick(&s, 1701);
	run(&s);
	f = only(V_FREEZE_SELF, "H10");
	assert_int_equal(res.nr, 2);
	assert_int_equal(res.e[0].verdict, V_FREEZE_SELF);
	assert_int_equal(res.e[1].ev, FINDING_CLOSE);
	assert_int_equal(f->nr_blockers, 1);
	done(&s);
}

static void pinned_becomes_a_deadlock_in_the_same_finding(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	for (uint64_t t = 1200; t <= 1600; t += 200) {
		at(&s, t);
		dev(&s, DEV_LIVE);
		/* Its thread is not known at first. */
		req(&s, 0, 5, 0, REQ_SERVER)->req.owner_tid = t > 1200 ? 701 : 0;
		snap_end(&s);
		freeze(&s, 1, 701, 100);
		tick(&s, t + 1);
	}
	run(&s);
	f = only(V_FREEZE_SELF, "H10");
	assert_int_equal(f->id, 1);
	assert_int_equal(res.nr, 2);
	assert_int_equal(res.e[0].verdict, V_FREEZE_PINNED);
	assert_int_equal(res.e[1].ev, FINDING_UPDATE);
	done(&s);
}

static void freeze_without_server_says_who_died_and_when(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 0);
	server(&s, false);
	at(&s, 500);
	server(&s, true);
	for (uint64_t t = 700; t <= 2700; t += 200) {
		at(&s, t);
		dev(&s, DEV_QUIESCED);
		req(&s, 0, 5, 400, REQ_REQUEUED);
		snap_end(&s);
		freeze(&s, 1, WRITER, 600);
		attr(&s, 2, WRITER, 599);
		tick(&s, t + 1);
	}
	run(&s);
	f = only(V_FREEZE_NO_SERVER, "H15");
	assert_int_equal(f->nr_blockers, 2);
	assert_int_equal(f->blocker[0].type, BLK_NO_SERVER);
	assert_int_equal(f->blocker[0].server.tgid, SERVER);
	assert_int_equal(f->blocker[0].server.at_ns, AT(500));
	assert_int_equal(f->blocker[1].type, BLK_REQUEST);
	assert_int_equal(f->blocker[1].req.tag, 5);
	summary_has(f, "no server for 2.20 s, glidefsd (pid 700) went away");
	assert_int_equal(res.nr, 1);
	model_free(res.m);

	/* A new server comes and serves what was left: the same finding ends, as what it was. */
	at(&s, 2800);
	server(&s, false);
	snap(&s, 5, 400);
	freeze(&s, 1, WRITER, 600);
	tick(&s, 2801);
	at(&s, 2900);
	r = req(&s, 0, 5, 400, REQ_DONE);
	r->req.end_ns = AT(2849);
	r = freeze(&s, 1, WRITER, 600);
	r->freeze.wait_end_ns = r->freeze.end_ns = AT(2850);
	attr(&s, 2, WRITER, 599)->attr.end_ns = AT(2851);
	tick(&s, 2901);
	run(&s);
	assert_int_equal(model_nr_findings(res.m), 2);
	f = model_finding(res.m, 0);
	assert_int_equal(f->verdict, V_FREEZE_NO_SERVER);
	assert_int_equal(f->end_ns, AT(2850));
	assert_int_equal(f->blocker[0].server.at_ns, AT(500));
	summary_has(f, "waited 2.25 s");
	assert_int_equal(model_finding(res.m, 1)->verdict, V_ATTR_SLOW);
	assert_int_equal(res.nr_close, 2);
	assert_int_equal(model_exit_status(res.m), 3);
	done(&s);
}

static void attr_slow_without_a_freeze(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 1500);
	attr(&s, 2, WRITER, 100);
	tick(&s, 1501);
	at(&s, 1700);
	r = attr(&s, 2, WRITER, 100);
	r->attr.end_ns = AT(1650);
	r->attr.freeze_ns = 20 * NSEC_PER_MSEC;
	tick(&s, 1701);
	run(&s);
	f = only(V_ATTR_SLOW, "H10");
	assert_int_equal(f->end_ns, AT(1650));
	summary_has(f, "write of \"mq-deadline\" to scheduler of ublkb3 by sh (pid 812)");
	assert_int_equal(res.nr, 2);
	done(&s);
}

static void put_elv(struct stream *s, uint32_t tid, uint64_t end_ms)
{
	struct rec *r = push(s, REC_ELV);

	r->elv.id = 8;
	r->elv.dev = DEV;
	r->elv.tid = tid;
	r->elv.tgid = tid;
	SET(r->elv.comm, "kworker");
	SET(r->elv.from, "none");
	SET(r->elv.to, "bfq");
	r->elv.start_ns = AT(100);
	r->elv.end_ns = end_ms ? AT(end_ms) : 0;
	r->elv.freeze_ns = 300 * NSEC_PER_MSEC;
}

static void elevator_switch_on_its_own_is_slow(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 1600);
	put_elv(&s, 555, 1600);
	tick(&s, 1601);
	run(&s);
	f = only(V_ELV_SLOW, "");
	summary_has(f, "elevator switch to bfq from none of ublkb3");
	summary_has(f, "300 ms waiting for freezes, 1.20 s for the rest");
	done(&s);
	/* As part of a write it is told with the write. */
	begin(&s);
	at(&s, 1600);
	put_elv(&s, WRITER, 1590);
	attr(&s, 2, WRITER, 99)->attr.end_ns = AT(1595);
	tick(&s, 1601);
	run(&s);
	only(V_ATTR_SLOW, "");
	done(&s);
}

static void elevator_switch_inside_start_dev(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 1500);
	r = cmd(&s, 1, CMD_START_DEV, 0);
	r->cmd.add_disk_ns = AT(20);
	r->cmd.elevator_ns = AT(30);
	put_elv(&s, 790, 0);
	snap(&s, -1, 0);
	tick(&s, 1501);
	run(&s);
	f = only(V_ELV_SLOW, "");
	assert_int_equal(f->cmd.id, 1);
	summary_has(f, "START_DEV of device 3");
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

static void a_slow_request_has_its_span(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	for (uint64_t t = 200; t <= 2800; t += 200) {
		at(&s, t);
		snap(&s, 5, 0);
		spans_of_read(&s, 5, 1);
		tick(&s, t + 1);
	}
	run(&s);
	f = only(V_REQUEST_SLOW, "");
	assert_string_equal(f->blocker[0].span.key, "chunks/0007/ab12.pack");
	summary_has(f, "in glidefsd for 2.80 s (object.get chunks/0007/ab12.pack, 2.78 s)");
	assert_int_equal(res.nr, 1);
	model_free(res.m);
	at(&s, 3100);
	r = req(&s, 0, 5, 0, REQ_SERVER);
	r->req.end_ns = AT(3050);
	tick(&s, 3101);
	tick(&s, 3300);
	run(&s);
	f = only(V_REQUEST_SLOW, "");
	assert_int_equal(f->end_ns, AT(3050));
	assert_int_equal(res.nr, 2);
	done(&s);
}

static void a_slow_request_without_server_is_by_design(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 100);
	server(&s, true);
	at(&s, 2500);
	dev(&s, DEV_QUIESCED);
	req(&s, 0, 5, 0, REQ_REQUEUED);
	snap_end(&s);
	tick(&s, 2501);
	run(&s);
	f = only(V_REQUEST_SLOW, "H15");
	summary_has(f, "no server");
	done(&s);
}

static void a_slow_request_whose_end_was_lost_closes(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 2500);
	snap(&s, 5, 0);
	tick(&s, 2501);
	at(&s, 2700);
	snap(&s, -1, 0);
	tick(&s, 2701);
	run(&s);
	f = only(V_REQUEST_SLOW, "");
	assert_int_equal(f->end_ns, AT(2500));
	done(&s);
	/* And without any snapshot, after a while. */
	begin(&s);
	at(&s, 2500);
	snap(&s, 5, 0);
	tick(&s, 2501);
	tick(&s, 5000);
	tick(&s, 7600);
	run(&s);
	f = only(V_REQUEST_SLOW, "");
	assert_int_not_equal(f->end_ns, 0);
	done(&s);
}

static void a_request_that_ended_unseen_is_told_once(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 3000);
	r = span(&s, "io.slow", 40, 2);
	r->span.open = false;
	r->span.is_io = true;
	r->span.tag = 5;
	r->span.end_ns = AT(2999);
	r = span(&s, "object.get", 40, 5);
	r->span.open = false;
	r->span.end_ns = AT(2990);
	r = req(&s, 0, 5, 1, REQ_DONE);
	r->req.end_ns = AT(3000);
	tick(&s, 3001);
	tick(&s, 3201);
	run(&s);
	f = only(V_REQUEST_SLOW, "");
	assert_string_equal(f->blocker[0].io_span.event, "io.slow");
	assert_string_equal(f->blocker[0].span.event, "object.get");
	assert_int_equal(res.nr, 2);
	done(&s);
}

static void a_span_not_told_again_is_over(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 2300);
	snap(&s, 5, 0);
	spans_of_read(&s, 5, 1);
	tick(&s, 2301);
	at(&s, 2500);
	snap(&s, 5, 0);
	tick(&s, 2501);
	run(&s);
	f = only(V_REQUEST_SLOW, "");
	assert_int_equal(f->blocker[0].span.op_id, 0);
	assert_int_equal(res.nr_update, 1);
	done(&s);
}

static void spans_of_another_request_are_not_joined(void **state)
{
	const struct finding *f;
	struct stream s;
	struct rec *r;

	begin(&s);
	at(&s, 2500);
	snap(&s, 5, 1000 - 990);
	/* Another sector; the tag's last user; another device. */
	r = span(&s, "io", 50, 20);
	r->span.is_io = true;
	r->span.tag = 5;
	r->span.sector = 8;
	r->span.nsectors = 8;
	r = span(&s, "io", 51, 2);
	r->span.is_io = true;
	r->span.tag = 5;
	r = span(&s, "io", 52, 20);
	r->span.is_io = true;
	r->span.tag = 5;
	r->span.dev = DEV + 1;
	tick(&s, 2501);
	run(&s);
	f = only(V_REQUEST_SLOW, "");
	assert_int_equal(f->blocker[0].io_span.op_id, 0);
	done(&s);
}

static void known_bad_kernel_is_told_when_a_server_tries(void **state)
{
	const struct finding *f;
	struct stream s;

	begin_on(&s, "6.18.5+deb13-cloud-amd64");
	cmd(&s, 1, CMD_GET_FEATURES, 0)->cmd.end_ns = AT(1);
	tick(&s, 100);
	run(&s);
	none();
	model_free(res.m);
	at(&s, 150);
	cmd(&s, 2, CMD_ADD_DEV, 140);
	tick(&s, 200);
	tick(&s, 400);
	run(&s);
	f = only(V_KNOWN_BAD, "H13");
	assert_int_equal(f->severity, SEV_CRITICAL);
	summary_has(f, "kernel 6.18.5+deb13-cloud-amd64: ADD_DEV oopses");
	summary_has(f, "ADD_DEV was sent by glidefsd (pid 700)");
	assert_int_equal(res.nr, 1);
	assert_int_equal(model_exit_status(res.m), 3);
	done(&s);
}

static void an_oops_in_the_driver_is_told(void **state)
{
	struct stream s;
	struct rec *r;

	begin(&s);
	r = push(&s, REC_KMSG);
	SET(r->kmsg.what, "oops");
	SET(r->kmsg.line, "RIP: 0010:nfs_readpage+0x1/0x2");
	r = push(&s, REC_KMSG);
	SET(r->kmsg.what, "hung");
	SET(r->kmsg.line, "task ublk:1 blocked for more than 120 seconds");
	tick(&s, 100);
	run(&s);
	none();
	model_free(res.m);
	r = push(&s, REC_KMSG);
	SET(r->kmsg.what, "oops");
	SET(r->kmsg.line, "RIP: 0010:ublk_ctrl_add_dev+0x1a/0x2 [ublk_drv]");
	tick(&s, 200);
	run(&s);
	assert_int_equal(model_nr_findings(res.m), 1);
	assert_int_equal(model_finding(res.m, 0)->verdict, V_KNOWN_BAD);
	summary_has(model_finding(res.m, 0), "ublk_ctrl_add_dev");
	done(&s);
}

static void a_healthy_device_has_no_findings(void **state)
{
	struct stream s;
	uint64_t id = 1;

	begin(&s);
	for (uint64_t t = 0; t < 20000; t += 200) {
		struct rec *r;

		at(&s, t);
		server(&s, false);
		/* Every command, each inside its budget; START_DEV seen in the middle of arming. */
		for (uint32_t nr = 1; nr <= CMD_TRY_STOP_DEV; nr++) {
			r = cmd(&s, id++, (enum rec_cmd_nr)nr, t);
			r->cmd.end_ns = AT(t + 90);
		}
		cmd(&s, id, CMD_START_DEV, t);
		dev(&s, DEV_DEAD);
		queue(&s, 0, 3, "3-63");
		snap_end(&s);
		tick(&s, t + 50);
		at(&s, t + 60);
		cmd(&s, id++, CMD_START_DEV, t)->cmd.end_ns = AT(t + 60);
		/* A scheduler write that waits 40 ms for a read. */
		snap(&s, 5, t + 50);
		r = freeze(&s, id, WRITER, t + 60);
		r = freeze(&s, id++, WRITER, t + 60);
		r->freeze.wait_end_ns = r->freeze.end_ns = AT(t + 100);
		r = attr(&s, id++, WRITER, t + 59);
		r->attr.end_ns = AT(t + 101);
		task(&s, WRITER, WRITER, 1, "sh", "blk_mq_freeze_queue_wait");
		spans_of_read(&s, 5, t + 51);
		tick(&s, t + 110);
		/* The last snapshot stays as it was: that read is not slow because nobody looked.
		 */
	}
	tick(&s, 23000);
	tick(&s, 60000);
	run(&s);
	none();
	done(&s);
}

static void an_idle_quiesced_device_is_clean(void **state)
{
	struct stream s;
	struct rec *r;

	begin(&s);
	server(&s, true);
	for (uint64_t t = 200; t <= 30000; t += 200) {
		at(&s, t);
		dev(&s, DEV_QUIESCED);
		snap_end(&s);
		tick(&s, t + 1);
	}
	r = freeze(&s, 1, WRITER, 29000);
	r->freeze.wait_end_ns = r->freeze.end_ns = AT(29001);
	r = attr(&s, 2, WRITER, 29000);
	r->attr.end_ns = AT(29002);
	tick(&s, 30300);
	run(&s);
	none();
	done(&s);
}

static void a_subject_not_told_any_more_closes(void **state)
{
	const struct finding *f;
	struct stream s;

	begin(&s);
	at(&s, 1200);
	freeze(&s, 1, WRITER, 100);
	tick(&s, 1201);
	tick(&s, 4000);
	tick(&s, 6300);
	run(&s);
	f = only(V_FREEZE_PINNED, "");
	assert_int_equal(f->end_ns, AT(1200));
	assert_null(model_freeze(res.m, 0));
	done(&s);
}

static void budgets_come_from_the_session_unless_asked(void **state)
{
	struct model_config cfg = {.freeze_ns = 5 * NSEC_PER_SEC};
	struct stream s;
	struct model *m;

	begin(&s);
	s.r[0].meta.budget_freeze_ns = 100 * NSEC_PER_MSEC;
	at(&s, 400);
	freeze(&s, 1, WRITER, 200);
	tick(&s, 401);
	run(&s);
	only(V_FREEZE_PINNED, "");
	m = model_new(&cfg);
	for (size_t i = 0; i < s.nr; i++)
		assert_int_equal(model_feed(m, &s.r[i]), 0);
	assert_int_equal(model_nr_findings(m), 0);
	model_free(m);
	done(&s);
}

static void many_findings_are_kept_within_bounds(void **state)
{
	struct model_config cfg = {0};
	struct model *m = model_new(&cfg);
	struct stream s;

	begin(&s);
	for (size_t i = 0; i < 3000; i++) {
		struct rec *r;

		s.nr = 0;
		at(&s, 3000 + i);
		r = req(&s, 0, 5, i, REQ_DONE);
		r->req.end_ns = AT(2999 + i);
		assert_int_equal(model_feed(m, r), 0);
		tick(&s, 3000 + i);
		assert_int_equal(model_feed(m, &s.r[1]), 0);
	}
	assert_true(model_nr_findings(m) <= 2048);
	assert_int_equal(model_finding(m, model_nr_findings(m) - 1)->id, 3000);
	assert_int_equal(model_exit_status(m), 2);
	model_free(m);
	free(s.r);
}

static void the_live_view_sees_what_is_open(void **state)
{
	struct stream s;

	begin(&s);
	at(&s, 100);
	snap(&s, 5, 0);
	cmd(&s, 1, CMD_GET_PARAMS, 90);
	freeze(&s, 1, WRITER, 95);
	push(&s, REC_COUNTS)->counts.dropped = 4;
	tick(&s, 101);
	run(&s);
	assert_string_equal(model_dev(res.m, 0)->volume, "vm1");
	assert_null(model_dev(res.m, 1));
	assert_int_equal(model_cmd(res.m, 0)->nr, CMD_GET_PARAMS);
	assert_int_equal(model_freeze(res.m, 0)->tid, WRITER);
	assert_int_equal(model_req(res.m, DEV, 0)->tag, 5);
	assert_null(model_req(res.m, DEV, 1));
	assert_null(model_req(res.m, DEV + 1, 0));
	assert_int_equal(model_counts(res.m)->dropped, 4);
	assert_non_null(model_meta(res.m));
	model_free(res.m);
	at(&s, 200);
	dev(&s, DEV_GONE);
	tick(&s, 201);
	run(&s);
	assert_null(model_dev(res.m, 0));
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
		cmocka_unit_test(freeze_names_the_request_that_pins_it),
		cmocka_unit_test(a_write_that_ends_is_told_with_its_writer),
		cmocka_unit_test(a_request_that_ended_is_not_blamed),
		cmocka_unit_test(oldest_requests_first_and_the_rest_counted),
		cmocka_unit_test(a_thread_that_freezes_its_own_request_is_a_cycle),
		cmocka_unit_test(a_thread_that_waits_for_its_freezing_child_is_a_cycle),
		cmocka_unit_test(no_cycle_is_claimed_without_proof),
		cmocka_unit_test(pinned_becomes_a_deadlock_in_the_same_finding),
		cmocka_unit_test(what_was_proven_stays_when_the_request_is_gone),
		cmocka_unit_test(freeze_without_server_says_who_died_and_when),
		cmocka_unit_test(attr_slow_without_a_freeze),
		cmocka_unit_test(elevator_switch_on_its_own_is_slow),
		cmocka_unit_test(elevator_switch_inside_start_dev),
		cmocka_unit_test(del_is_held_by_whoever_has_the_char_device),
		cmocka_unit_test(stop_waits_for_openers_and_their_requests),
		cmocka_unit_test(stop_from_an_io_thread_is_named),
		cmocka_unit_test(recovery_begun_and_not_ended),
		cmocka_unit_test(a_recovery_within_its_budget_is_clean),
		cmocka_unit_test(end_user_recovery_waits_for_a_queue),
		cmocka_unit_test(a_slow_request_has_its_span),
		cmocka_unit_test(a_slow_request_without_server_is_by_design),
		cmocka_unit_test(a_slow_request_whose_end_was_lost_closes),
		cmocka_unit_test(a_request_that_ended_unseen_is_told_once),
		cmocka_unit_test(a_span_not_told_again_is_over),
		cmocka_unit_test(spans_of_another_request_are_not_joined),
		cmocka_unit_test(known_bad_kernel_is_told_when_a_server_tries),
		cmocka_unit_test(an_oops_in_the_driver_is_told),
		cmocka_unit_test(a_healthy_device_has_no_findings),
		cmocka_unit_test(an_idle_quiesced_device_is_clean),
		cmocka_unit_test(a_subject_not_told_any_more_closes),
		cmocka_unit_test(budgets_come_from_the_session_unless_asked),
		cmocka_unit_test(many_findings_are_kept_within_bounds),
		cmocka_unit_test(the_live_view_sees_what_is_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
