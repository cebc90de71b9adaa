// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Verdicts on requests and kernels, no verdict on what is healthy, and how the model keeps its
 * findings and its view of what is open.
 */
#include "trace_model.h"

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
