// SPDX-License-Identifier: GPL-2.0-or-later
/* A record that was written is read back the same, whatever is in it; damage is refused, never
 * obeyed. */
#include "trace_test.h"

static char buf[REC_LINE_MAX];

static void round_trip(const struct rec *r)
{
	static struct rec back;
	char err[200];
	int len = rec_encode(r, buf, sizeof(buf));

	assert_true(len > 0);
	assert_int_equal(strlen(buf), len);
	assert_null(memchr(buf, '\n', (size_t)len));
	if (rec_decode(buf, (size_t)len, &back, err, sizeof(err)))
		fail_msg("%s: %s", err, buf);
	assert_memory_equal(&back, r, sizeof(back));
}

static void every_kind_comes_back_the_same(void **state)
{
	struct stream s;
	struct rec *r;

	begin(&s);
	server(&s, true);
	dev(&s, DEV_LIVE)->dev.flags = UINT64_MAX;
	queue(&s, 1, 3, "3-63");
	req(&s, 0, 5, 10, REQ_SERVER);
	snap_end(&s);
	r = cmd(&s, UINT64_MAX, CMD_START_DEV, 3);
	r->cmd.res = INT32_MIN;
	r->cmd.adopted = true;
	r->cmd.dev = -1;
	freeze(&s, 1, 2, 3);
	attr(&s, 1, 2, 3);
	r = push(&s, REC_ELV);
	r->elv.id = 9;
	SET(r->elv.from, "none");
	SET(r->elv.to, "mq-deadline");
	r = task(&s, 1, 2, 3, "a\"b\\c\x01\x7f\n", "x+0x1;y");
	r->task.killed = true;
	SET(r->task.cmdline, "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xa7");
	r = push(&s, REC_OPENER);
	r->opener.cdev = true;
	SET(r->opener.what, "fd 7");
	spans_of_read(&s, 5, 1000);
	r = push(&s, REC_KMSG);
	SET(r->kmsg.what, "oops");
	r = push(&s, REC_HIST);
	r->hist.dev = -1;
	r->hist.op = '*';
	r->hist.bucket[0] = 1;
	r->hist.bucket[31] = UINT64_MAX;
	r = push(&s, REC_HIST);
	r->hist.bucket[4] = 7;
	r = push(&s, REC_COUNTS);
	r->counts.dropped = 3;
	push(&s, REC_TICK);
	push(&s, REC_END);
	for (size_t i = 0; i < s.nr; i++)
		round_trip(&s.r[i]);
	free(s.r);
}

static void full_records_of_every_kind_survive(void **state)
{
	static char again[REC_LINE_MAX];
	static struct rec r, back;
	char err[200];

	for (int kind = REC_META; kind <= REC_END; kind++) {
		int len;

		/* Every number is set, and no string has an end. */
		memset(&r, 1, sizeof(r));
		r.kind = (enum rec_kind)kind;
		len = rec_encode(&r, buf, sizeof(buf));
		assert_true(len > 0);
		assert_int_equal(rec_decode(buf, (size_t)len, &back, err, sizeof(err)), 0);
		len = rec_encode(&back, again, sizeof(again));
		assert_true(len > 0);
		assert_int_equal(rec_decode(again, (size_t)len, &r, err, sizeof(err)), 0);
		assert_memory_equal(&r, &back, sizeof(r));
	}
}

static void bad_utf8_becomes_question_marks(void **state)
{
	static struct rec r, back;
	char err[200];
	int len;

	r.kind = REC_KMSG;
	SET(r.kmsg.line, "a\xff\xc3(\xe2\x82 \xed\xa0\x80 \xf5z\xc0\xaf");
	len = rec_encode(&r, buf, sizeof(buf));
	assert_true(len > 0);
	assert_int_equal(rec_decode(buf, (size_t)len, &back, err, sizeof(err)), 0);
	assert_string_equal(back.kmsg.line, "a??"
					    "(?? ??? ?z??");
	/* Unterminated. */
	memset(r.kmsg.what, 'x', sizeof(r.kmsg.what));
	len = rec_encode(&r, buf, sizeof(buf));
	assert_int_equal(rec_decode(buf, (size_t)len, &back, err, sizeof(err)), 0);
	assert_string_equal(back.kmsg.what, "xxxxxxxxxxxxxxx");
}

static void the_longest_record_fits(void **state)
{
	static struct rec r;

	r.kind = REC_TASK;
	memset(r.task.kstack, 1, sizeof(r.task.kstack));
	memset(r.task.ustack, 1, sizeof(r.task.ustack));
	memset(r.task.cmdline, 1, sizeof(r.task.cmdline));
	memset(r.task.ustack_error, 1, sizeof(r.task.ustack_error));
	assert_true(rec_encode(&r, buf, sizeof(buf)) > 6 * 6000);
	for (size_t size = 0; size < 200; size++)
		assert_int_equal(rec_encode(&r, buf, size), -ENOSPC);
	r.kind = (enum rec_kind)200;
	assert_int_equal(rec_encode(&r, buf, sizeof(buf)), -EINVAL);
}

static void damage_is_refused_with_a_reason(void **state)
{
	static const struct {
		const char *line;
		int ret;
	} bad[] = {
		{"", -EBADMSG},
		{"{", -EBADMSG},
		{"[]", -EBADMSG},
		{"17", -EBADMSG},
		{"{\"t_ns\":1}", -EBADMSG},
		{"{\"kind\":\"tick\"}", -EBADMSG},
		{"{\"t_ns\":-1,\"kind\":\"tick\"}", -EBADMSG},
		{"{\"t_ns\":1.5,\"kind\":\"tick\"}", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"tick\"} x", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"queue\",\"queue\":4294967296}", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"queue\",\"queue\":\"1\"}", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"queue\",\"dev\":2147483648}", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"queue\",\"exact\":1}", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"kmsg\",\"line\":[]}", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"hist\",\"bucket\":[0,-1]}", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"hist\",\"bucket\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"
		 "0,0,0,0,"
		 "0,0,0,0,0,0,0,0,0,0]}",
		 -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"of tomorrow\",\"x\":{}}", -EPROTONOSUPPORT},
		{"{\"t_ns\":1,\"kind\":\"tick\",\"new\":[1,{}]}", 0},
	};
	static struct rec r;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char err[200] = "";
		int ret = rec_decode(bad[i].line, strlen(bad[i].line), &r, err, sizeof(err));

		if (ret != bad[i].ret || (ret && !err[0]))
			fail_msg("%s: %d (%s), not %d", bad[i].line, ret, err, bad[i].ret);
	}
}

static void any_damaged_byte_is_survived(void **state)
{
	static struct rec back;
	struct stream s;
	char err[200];

	begin(&s);
	cmd(&s, 7, CMD_START_DEV, 3);
	spans_of_read(&s, 5, 1000);
	for (size_t i = 0; i < s.nr; i++) {
		int len = rec_encode(&s.r[i], buf, sizeof(buf));

		for (int k = 0; k < len; k++) {
			char old = buf[k];

			for (unsigned int c = 0; c < 256; c += 5) {
				buf[k] = (char)c;
				if (rec_decode(buf, (size_t)len, &back, err, sizeof(err)) == 0)
					assert_true(back.kind >= REC_META && back.kind <= REC_END);
			}
			buf[k] = old;
			assert_int_not_equal(rec_decode(buf, (size_t)k, &back, err, sizeof(err)),
					     0);
		}
	}
	free(s.r);
}

static void a_command_says_its_stage(void **state)
{
	struct rec_cmd c = {.nr = CMD_START_DEV, .submit_ns = 1};
	char name[24];

	assert_string_equal(rec_cmd_stage(&c), "punt");
	c.punt_ns = 2;
	assert_string_equal(rec_cmd_stage(&c), "punt");
	c.worker_ns = 3;
	assert_string_equal(rec_cmd_stage(&c), "worker");
	c.ctrl_ns = 4;
	assert_string_equal(rec_cmd_stage(&c), "ready-wait");
	c.add_disk_ns = 5;
	assert_string_equal(rec_cmd_stage(&c), "add-disk");
	c.elevator_ns = 6;
	assert_string_equal(rec_cmd_stage(&c), "elevator");
	c.elevator_end_ns = 7;
	c.scan_ns = 8;
	assert_string_equal(rec_cmd_stage(&c), "part-scan");
	c.end_ns = 9;
	c.res = -EINTR;
	assert_string_equal(rec_cmd_stage(&c), "part-scan");
	c.res = 0;
	assert_string_equal(rec_cmd_stage(&c), "done");
	c = (struct rec_cmd){.nr = CMD_DEL_DEV, .ctrl_ns = 4};
	assert_string_equal(rec_cmd_stage(&c), "ctrl");
	assert_string_equal(rec_cmd_name(CMD_TRY_STOP_DEV, name), "TRY_STOP_DEV");
	assert_string_equal(rec_cmd_name(0xffffffff, name), "cmd-0xffffffff");
	assert_null(rec_kind_name((enum rec_kind)0));
	assert_string_equal(rec_dev_state_name(DEV_GONE), "gone");
	assert_string_equal(rec_dev_state_name(77), "unknown");
	assert_string_equal(rec_req_state_name(REQ_REQUEUED), "requeued");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_comes_back_the_same),
		cmocka_unit_test(full_records_of_every_kind_survive),
		cmocka_unit_test(bad_utf8_becomes_question_marks),
		cmocka_unit_test(the_longest_record_fits),
		cmocka_unit_test(damage_is_refused_with_a_reason),
		cmocka_unit_test(any_damaged_byte_is_survived),
		cmocka_unit_test(a_command_says_its_stage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
