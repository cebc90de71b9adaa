// SPDX-License-Identifier: GPL-2.0-or-later
/* Verdicts on queue freezes, attribute writes and elevator switches. */
#include "trace_model.h"

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

/* A server is killed at 1600 while a freeze waits for its own request, until `end`. */
static void killed_stream(struct stream *s, uint64_t end)
{
	struct rec *r;

	begin(s);
	for (uint64_t t = 1200; t < end; t += 100) {
		at(s, t);
		if (t == 1600)
			server(s, true);
		dev(s, t < 1600 ? DEV_LIVE : DEV_QUIESCED);
		if (t < 1600)
			req(s, 0, 5, 0, REQ_SERVER)->req.owner_tid = 701;
		snap_end(s);
		freeze(s, 1, 701, 100);
		tick(s, t + 1);
	}
	at(s, end);
	r = freeze(s, 1, 701, 100);
	r->freeze.wait_end_ns = r->freeze.end_ns = AT(end - 50);
	tick(s, end + 1);
}

static void a_server_that_died_is_blamed_only_if_the_wait_goes_on(void **state)
{
	const struct finding *f;
	struct stream s;

	/* The kill is what ended the wait. */
	killed_stream(&s, 1800);
	run(&s);
	f = only(V_FREEZE_SELF, "H10");
	assert_int_equal(f->end_ns, AT(1750));
	for (unsigned int i = 0; i < res.nr; i++)
		assert_int_equal(res.e[i].verdict, V_FREEZE_SELF);
	done(&s);

	/* Seconds later it waits for another server. */
	killed_stream(&s, 4000);
	run(&s);
	f = only(V_FREEZE_NO_SERVER, "H15");
	assert_int_equal(res.e[0].verdict, V_FREEZE_SELF);
	assert_int_equal(f->blocker[0].server.at_ns, AT(1600));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(freeze_names_the_request_that_pins_it),
		cmocka_unit_test(a_write_that_ends_is_told_with_its_writer),
		cmocka_unit_test(a_request_that_ended_is_not_blamed),
		cmocka_unit_test(oldest_requests_first_and_the_rest_counted),
		cmocka_unit_test(a_thread_that_freezes_its_own_request_is_a_cycle),
		cmocka_unit_test(a_thread_that_waits_for_its_freezing_child_is_a_cycle),
		cmocka_unit_test(no_cycle_is_claimed_without_proof),
		cmocka_unit_test(pinned_becomes_a_deadlock_in_the_same_finding),
		cmocka_unit_test(a_server_that_died_is_blamed_only_if_the_wait_goes_on),
		cmocka_unit_test(what_was_proven_stays_when_the_request_is_gone),
		cmocka_unit_test(freeze_without_server_says_who_died_and_when),
		cmocka_unit_test(attr_slow_without_a_freeze),
		cmocka_unit_test(elevator_switch_on_its_own_is_slow),
		cmocka_unit_test(elevator_switch_inside_start_dev),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
