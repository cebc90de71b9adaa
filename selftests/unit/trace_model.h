/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the tests of verdicts: runs a stream of records through the model, twice, as it is and
 * through a capture's lines: a replay concludes what the live session did.
 */
#ifndef GFS_UNIT_TRACE_MODEL_H
#define GFS_UNIT_TRACE_MODEL_H

#include "trace_test.h"

static struct result res; /* of the last run() */

static void __unused run_once(const struct stream *s, struct result *x, bool through_lines)
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
static void __unused run(struct stream *s)
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

static void __unused done(struct stream *s)
{
	model_free(res.m);
	free(s->r);
}

static void __unused show_all(void)
{
	for (unsigned int i = 0; i < res.nr; i++)
		print_error("event %d of %llu, %s: %s\n", res.e[i].ev,
			    (unsigned long long)res.e[i].id, verdict_name(res.e[i].verdict),
			    res.e[i].summary);
}

/* The only finding, and what it is. */
static __unused const struct finding *only(enum verdict v, const char *catalogue)
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

static void __unused none(void)
{
	if (model_nr_findings(res.m)) {
		show_all();
		fail_msg("%zu findings, not 0", model_nr_findings(res.m));
	}
	assert_int_equal(model_exit_status(res.m), 0);
}

static void __unused summary_has(const struct finding *f, const char *text)
{
	if (!strstr(f->summary, text))
		fail_msg("no \"%s\" in: %s", text, f->summary);
}

#endif
