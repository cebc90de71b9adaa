// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the command line of gfs-trace, and of the join of commands with timing events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tracing/join.h"
#include "tracing/run.h"

#include <stdio.h>
#include <string.h>

#define ALL (OPT_OUT | OPT_SESSION | OPT_RECORD | OPT_DURATION | OPT_JSON)

static struct options o;

static int parse(unsigned int takes, const char *a, const char *b, const char *c)
{
	char *argv[8] = {(char *)"gfs-trace"};
	int argc = 1;

	for (const char *const *p = (const char *const[]){a, b, c, NULL}; *p; p++)
		argv[argc++] = (char *)*p;
	return options_parse(&o, takes, argc, argv);
}

static void times_have_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns;
	} good[] = {{"250ms", 250000000}, {"3s", 3000000000}, {"1.5s", 1500000000},
		    {"2m", 120000000000}, {"80us", 80000},    {"40", 40000000}};
	static const char *const bad[] = {"", "s", "-1s", "0", "5 s", "1h", "nan", "1e30s", "3ss"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse(ALL, "--duration", good[i].text, NULL), 0);
		assert_int_equal(o.duration_ns, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(ALL, "--duration", bad[i], NULL), -EINVAL);
}

static void budgets_are_set_by_name(void **state)
{
	struct model_config *b = &o.session.budgets;

	assert_int_equal(parse(ALL, "--budget", "start_dev=100ms,freeze=2s,request=3s", NULL), 0);
	assert_int_equal(b->start_dev_ns, 100 * NSEC_PER_MSEC);
	assert_int_equal(b->freeze_ns, 2 * NSEC_PER_SEC);
	assert_int_equal(b->request_ns, 3 * NSEC_PER_SEC);
	assert_int_equal(b->cmd_ns, 0);
	assert_int_equal(parse(ALL, "--min-ms", "7", NULL), 0);
	assert_int_equal(b->attr_ns, 7 * NSEC_PER_MSEC);
	assert_int_equal(parse(ALL, "--budget", "start=1s", NULL), -EINVAL);
	assert_int_equal(parse(ALL, "--budget", "freeze", NULL), -EINVAL);
	assert_int_equal(parse(ALL, "--budget", "freeze=", NULL), -EINVAL);
	assert_int_equal(parse(ALL, "--budget", "freeze=1s=2s", NULL), -EINVAL);
}

static void devices_by_any_name(void **state)
{
	static const char *const names[] = {"3", "ublkb3", "ublkc3", "/dev/ublkb3"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(parse(ALL, "-d", names[i], NULL), 0);
		assert_int_equal(o.session.dev, 3);
	}
	assert_int_equal(parse(ALL, "-d", "/dev/sda", NULL), -EINVAL);
	assert_int_equal(parse(ALL, "-d", "-3", NULL), -EINVAL);
	assert_int_equal(parse(ALL, "-p", "0", NULL), -EINVAL);
}

static void a_command_keeps_its_own_options(void **state)
{
	assert_int_equal(parse(ALL, "--json", "ls", "--html"), 0);
	assert_int_equal(o.nr_args, 2);
	assert_string_equal(o.args[1], "--html");
	assert_true(o.json);
	assert_int_equal(parse(OPT_JSON, "--ring", "3s", NULL), -EINVAL);
	/* A capture is no command. */
	assert_int_equal(parse(OPT_JSON | OPT_LOG, "capture", "--json", NULL), 0);
	assert_int_equal(o.nr_args, 1);
	assert_true(o.json);
	assert_int_equal(parse(ALL, "--help", NULL, NULL), -ECANCELED);
}

static void triggers_are_checked(void **state)
{
	static const char *const good[] = {"start_dev>500ms", "command>2s", "freeze>1s", "finding"};
	static const char *const bad[] = {"",        "start_dev",  "start_dev>",
					  "boot>1s", "finding>1s", "freeze>x"};
	char err[256];

	memset(&o, 0, sizeof(o));
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct run *run;

		o.trigger = good[i];
		run = run_new(&o, false, err, sizeof(err));
		assert_non_null(run);
		assert_int_equal(run_close(run), EXIT_CLEAN);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		o.trigger = bad[i];
		err[0] = '\0';
		assert_null(run_new(&o, false, err, sizeof(err)));
		assert_non_null(strstr(err, "trigger"));
	}
}

static void outputs_that_cannot_be_made_are_said_at_once(void **state)
{
	char err[256] = "";

	memset(&o, 0, sizeof(o));
	o.html = "/nonexistent/report.html";
	assert_null(run_new(&o, false, err, sizeof(err)));
	assert_non_null(strstr(err, "/nonexistent"));
}

/* ---- the join ---- */

static const struct rec_cmd add = {
	.nr = CMD_ADD_DEV, .tgid = 7, .submit_ns = 5000000, .end_ns = 9000000};

static struct rec_span event(const char *name, uint32_t pid)
{
	struct rec_span s = {.pid = pid, .dev = -1, .start_ns = 4900000, .end_ns = 9100000};

	snprintf(s.event, sizeof(s.event), "%s", name);
	return s;
}

static void partners_find_each_other_once(void **state)
{
	struct rec_span s = event("ublk.add_dev", 7), other = event("ublk.add_dev", 8),
			early = event("ublk.start_dev.command", 7), object = event("object.get", 7);
	struct rec_counts c = {};
	struct join *j;

	assert_int_equal(join_new(&j), 0);
	join_cmd(j, &add);
	join_span(j, &s, 0);
	join_counts(j, &c);
	assert_int_equal(c.spans, 1);
	assert_int_equal(c.spans_unmatched, 0);
	/* Taken already; of another process; before anybody watched; about no command. */
	join_span(j, &s, 0);
	join_span(j, &other, 0);
	join_span(j, &early, 8000000);
	join_span(j, &object, 0);
	join_expire(j, UINT64_MAX);
	join_counts(j, &c);
	assert_int_equal(c.spans, 5);
	assert_int_equal(c.spans_unmatched, 2);
	assert_int_equal(c.kernel_unmatched, 0);
	join_free(j);
}

static void either_may_come_first(void **state)
{
	struct rec_span s = event("ublk.add_dev", 7);
	struct rec_counts c = {};
	struct join *j;

	/* The daemon saw the end before the kernel's thread had left the driver. */
	s.end_ns = add.end_ns - 10000;
	assert_int_equal(join_new(&j), 0);
	join_span(j, &s, 0);
	join_cmd(j, &add);
	join_expire(j, UINT64_MAX);
	join_counts(j, &c);
	assert_int_equal(c.spans_unmatched, 0);
	assert_int_equal(c.kernel_unmatched, 0);
	/* Another device's is no partner. */
	s = event("ublk.stop_dev", 7);
	s.dev = 3;
	join_span(j, &s, 0);
	join_cmd(j, &(struct rec_cmd){.nr = CMD_STOP_DEV,
				      .tgid = 7,
				      .dev = 4,
				      .submit_ns = 5000000,
				      .end_ns = 9000000});
	join_expire(j, UINT64_MAX);
	join_counts(j, &c);
	assert_int_equal(c.spans_unmatched, 1);
	assert_int_equal(c.kernel_unmatched, 1);
	join_free(j);
}

static void commands_without_an_event_are_counted_for_daemons_only(void **state)
{
	struct rec_span object = event("object.get", 7);
	struct rec_cmd foreign = add, old = add;
	struct rec_counts c = {};
	struct join *j;

	foreign.tgid = 9;
	assert_int_equal(join_new(&j), 0);
	join_cmd(j, &old);
	join_cmd(j, &foreign);
	join_span(j, &object, 0); /* pid 7 tells events */
	join_expire(j, add.end_ns);
	join_counts(j, &c);
	assert_int_equal(c.kernel_unmatched, 0);
	join_expire(j, add.end_ns + 60 * NSEC_PER_SEC);
	join_counts(j, &c);
	assert_int_equal(c.kernel_unmatched, 1);
	join_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_have_units),
		cmocka_unit_test(budgets_are_set_by_name),
		cmocka_unit_test(devices_by_any_name),
		cmocka_unit_test(a_command_keeps_its_own_options),
		cmocka_unit_test(triggers_are_checked),
		cmocka_unit_test(outputs_that_cannot_be_made_are_said_at_once),
		cmocka_unit_test(partners_find_each_other_once),
		cmocka_unit_test(either_may_come_first),
		cmocka_unit_test(commands_without_an_event_are_counted_for_daemons_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
