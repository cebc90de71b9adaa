// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The timing log read back: every event that the daemon wrote is there as it was told, and a file
 * that is cut, mixed or hostile costs lines, never more.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "lib/timing.h"
#include "tracing/daemon_spans.h"

static char dir[64];

struct got {
	struct rec r[64];
	size_t nr;
};

static void got_add(void *ctx, const struct rec *r)
{
	struct got *g = ctx;

	assert_true(g->nr < ARRAY_SIZE(g->r));
	g->r[g->nr++] = *r;
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void text_write(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static const struct timing_rec io = {.event = TIMING_IO_SLOW,
				     .op_id = UINT64_MAX - 5,
				     .start_ns = 5000,
				     .end_ns = 90000,
				     .export_ = "vm \"1\"\n",
				     .dev_id = 7,
				     .result = -EIO,
				     .is_io = true,
				     .io_op = 'W',
				     .queue = 3,
				     .tag = 65535,
				     .sector = 1ull << 50,
				     .nsectors = 8,
				     .stage = TIMING_STAGE_SPACE};
static const struct timing_rec get = {.event = TIMING_OBJECT_GET,
				      .op_id = 8,
				      .start_ns = 6000,
				      .end_ns = 7000,
				      .dev_id = -1,
				      .key = "chunks/0007/x",
				      .bytes = 5000000000,
				      .attempt = 3};

static void what_was_emitted_is_read_back(void **state)
{
	struct got *g = calloc(1, sizeof(*g));
	const struct rec_span *s;
	uint64_t bad = 7;

	assert_non_null(g);
	assert_int_equal(timing_init(path_of("log")), 0);
	timing_emit(&io);
	timing_emit(&get);
	timing_exit();
	assert_int_equal(timing_log_read(path_of("log"), got_add, g, &bad), 2);
	assert_int_equal(bad, 0);
	assert_int_equal(g->nr, 2);
	s = &g->r[0].span;
	assert_int_equal(g->r[0].kind, REC_SPAN);
	assert_int_equal(g->r[0].t_ns, 90000);
	assert_false(s->open);
	assert_int_equal(s->start_ns, 5000);
	assert_int_equal(s->end_ns, 90000);
	assert_string_equal(s->event, "io.slow");
	assert_string_equal(s->volume, "vm \"1\"\n");
	assert_true(s->op_id == UINT64_MAX - 5);
	assert_int_equal(s->dev, 7);
	assert_int_equal(s->result, -EIO);
	assert_true(s->is_io);
	assert_int_equal(s->io_op, 'W');
	assert_int_equal(s->queue, 3);
	assert_int_equal(s->tag, 65535);
	assert_true(s->sector == 1ull << 50);
	assert_int_equal(s->nsectors, 8);
	assert_string_equal(s->stage, "space");
	s = &g->r[1].span;
	assert_string_equal(s->event, "object.get");
	assert_string_equal(s->volume, "");
	assert_string_equal(s->key, "chunks/0007/x");
	assert_int_equal(s->dev, -1);
	assert_int_equal(s->bytes, 5000000000);
	assert_int_equal(s->attempt, 3);
	assert_false(s->is_io);
	free(g);
}

/* Wherever the file ends, what was complete before is read and at most one line is bad. */
static void a_cut_file_loses_only_its_last_line(void **state)
{
	struct got *g = calloc(1, sizeof(*g));
	size_t len, first;
	char *text;

	assert_non_null(g);
	assert_int_equal(timing_init(path_of("whole")), 0);
	timing_emit(&io);
	timing_emit(&get);
	timing_exit();
	assert_int_equal(file_read_all(AT_FDCWD, path_of("whole"), 1 << 20, &text, &len), 0);
	first = (size_t)(strchr(text, '\n') - text);
	for (size_t cut = 0; cut <= len; cut++) {
		int expect = (cut >= first) + (cut >= len - 1);
		uint64_t bad;

		g->nr = 0;
		text_write(path_of("cut"), text, cut);
		assert_int_equal(timing_log_read(path_of("cut"), got_add, g, &bad), expect);
		assert_int_equal(bad, cut && cut != first && cut != first + 1 && cut < len - 1);
	}
	free(text);
	free(g);
}

static void foreign_lines_are_counted(void **state)
{
	static const char event[] =
		"{\"target\":\"glidefs.timing\",\"event\":\"upload\",\"mono_ns\":9,\"start_ns\":4}";
	static const struct {
		const char *line;
		unsigned int events, bad;
	} lines[] = {
		{"", 0, 0},
		{"hello", 0, 1},
		{"{}", 0, 1},
		{"[1]", 0, 1},
		{"{\"target\":\"other\",\"event\":\"upload\",\"mono_ns\":9,\"start_ns\":4}", 0, 1},
		{"{\"target\":\"glidefs.timing\",\"mono_ns\":9,\"start_ns\":4}", 0, 1},
		{"{\"target\":\"glidefs.timing\",\"event\":\"upload\",\"mono_ns\":3,\"start_ns\":"
		 "4}",
		 0, 1},
		{"{\"target\":\"glidefs.timing\",\"event\":\"upload\",\"mono_ns\":-3,"
		 "\"start_ns\":-4}",
		 0, 1},
		{"{\"target\":\"glidefs.timing\",\"event\":\"upload\",\"mono_ns\":\"9\","
		 "\"start_ns\":4}",
		 0, 1},
		{"{\"target\":\"glidefs.timing\",\"event\":7,\"mono_ns\":9,\"start_ns\":4}", 0, 1},
		{"{\"target\":\"glidefs.timing\",\"event\":\"timing.dropped\",\"mono_ns\":9,"
		 "\"dropped\":12}",
		 0, 12},
		{"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}", 0, 1},
		{event, 1, 0},
	};
	struct got *g = calloc(1, sizeof(*g));
	char *text = calloc(1, 64 * KiB);
	uint64_t bad;

	assert_true(g && text);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		int n = snprintf(text, 64 * KiB, "%s\n%s\n", lines[i].line, event);

		text_write(path_of("foreign"), text, (size_t)n);
		g->nr = 0;
		if (timing_log_read(path_of("foreign"), got_add, g, &bad) !=
			    (int)lines[i].events + 1 ||
		    bad != lines[i].bad)
			fail_msg("%s: %zu events, %llu bad", lines[i].line, g->nr,
				 (unsigned long long)bad);
	}
	/* From a journal. */
	snprintf(text, 64 * KiB, "Nov 22 10:00:00 host glidefsd[12]: %s\n", event);
	text_write(path_of("foreign"), text, strlen(text));
	assert_int_equal(timing_log_read(path_of("foreign"), got_add, g, &bad), 1);
	assert_int_equal(bad, 0);
	/* Longer than any line of ours, with zeros in it. */
	memset(text, '{', 40000);
	memset(text + 100, 0, 5);
	snprintf(text + 40000, 1000, "\n%s\n", event);
	text_write(path_of("foreign"), text, 40000 + strlen(text + 40000));
	assert_int_equal(timing_log_read(path_of("foreign"), got_add, g, &bad), 1);
	assert_int_equal(bad, 1);
	assert_int_equal(timing_log_read(path_of("absent"), got_add, g, &bad), -ENOENT);
	assert_int_equal(timing_log_read(dir, got_add, g, &bad), -EIO);
	free(text);
	free(g);
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/trace_timing_log_test.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_emitted_is_read_back),
		cmocka_unit_test(a_cut_file_loses_only_its_last_line),
		cmocka_unit_test(foreign_lines_are_counted),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
