// SPDX-License-Identifier: GPL-2.0-or-later
/* Timing events: every event is named, each line is valid JSON, nothing blocks, losses are counted.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "lib/timing.h"

static char dir[64];

static const char *log_path(char *buf, size_t len, const char *name)
{
	snprintf(buf, len, "%s/%s", dir, name);
	return buf;
}

/* Parse all lines of the file; an array the caller puts. */
static struct json_object *log_read(const char *path)
{
	struct json_object *all = json_object_new_array();
	char *text, *line, *save = NULL;
	size_t len;

	assert_int_equal(file_read_all(AT_FDCWD, path, 1 << 28, &text, &len), 0);
	if (len)
		assert_int_equal(text[len - 1], '\n');
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		enum json_tokener_error err;
		struct json_object *o = json_tokener_parse_verbose(line, &err);

		if (!o)
			fail_msg("not JSON (%s): %s", json_tokener_error_desc(err), line);
		json_object_array_add(all, o);
	}
	free(text);
	return all;
}

static const char *str(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no member %s in %s", key, json_object_to_json_string(o));
	return json_object_get_string(v);
}

static int64_t num(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no member %s in %s", key, json_object_to_json_string(o));
	return json_object_get_int64(v);
}

static void every_event_has_a_distinct_name(void **state)
{
	for (int i = 0; i < TIMING_NR; i++) {
		const char *name = timing_event_name((enum timing_event)i);

		assert_non_null(name);
		assert_string_not_equal(name, "unknown");
		for (int j = 0; j < i; j++)
			assert_string_not_equal(name, timing_event_name((enum timing_event)j));
	}
	assert_string_equal(timing_event_name(TIMING_NR), "unknown");
}

/* They are in logs, and in the table of open spans that other programs read. */
static void every_stage_has_its_name(void **state)
{
	assert_string_equal(timing_stage_name(TIMING_STAGE_LOCAL), "local");
	assert_string_equal(timing_stage_name(TIMING_STAGE_FLUSH), "flush");
	assert_string_equal(timing_stage_name(TIMING_STAGE_SPACE), "space");
	assert_string_equal(timing_stage_name(TIMING_STAGE_STORE), "store");
	assert_string_equal(timing_stage_name((enum timing_io_stage)4), "unknown");
	assert_string_equal(timing_stage_name((enum timing_io_stage) - 1), "unknown");
}

static void each_line_is_json_with_the_common_members(void **state)
{
	char path[128];
	struct json_object *all;

	assert_int_equal(timing_init(log_path(path, sizeof(path), "all")), 0);
	assert_int_equal(timing_init(path), -EBUSY);
	for (int i = 0; i < TIMING_NR; i++)
		timing_emit(&(struct timing_rec){
			.event = (enum timing_event)i,
			.op_id = 7 + (uint64_t)i,
			.start_ns = 1000,
			.end_ns = 1000 + 1234567,
			.export_ = "vm-1",
			.dev_id = i % 2 ? 3 : -1,
			.result = i % 2 ? -ETIMEDOUT : 0,
		});
	timing_exit();
	all = log_read(path);
	assert_int_equal(json_object_array_length(all), TIMING_NR);
	for (int i = 0; i < TIMING_NR; i++) {
		struct json_object *o = json_object_array_get_idx(all, (size_t)i), *v;

		assert_string_equal(str(o, "target"), "glidefs.timing");
		assert_string_equal(str(o, "event"), timing_event_name((enum timing_event)i));
		assert_string_equal(str(o, "export"), "vm-1");
		assert_int_equal(num(o, "op_id"), 7 + i);
		assert_int_equal(num(o, "start_ns"), 1000);
		assert_int_equal(num(o, "mono_ns"), 1235567);
		assert_true(num(o, "wall_ns") > 0);
		assert_int_equal(num(o, "dev_id"), i % 2 ? 3 : -1);
		assert_int_equal(num(o, "result"), i % 2 ? -ETIMEDOUT : 0);
		json_object_object_get_ex(o, "duration_us", &v);
		assert_true(json_object_get_double(v) > 1234.5 &&
			    json_object_get_double(v) < 1234.6);
		if (i % 2)
			assert_string_equal(str(o, "error"), "ETIMEDOUT");
		else
			assert_false(json_object_object_get_ex(o, "error", &v));
	}
	json_object_put(all);
}

static void hostile_strings_stay_valid_json(void **state)
{
	char path[128], key[700];
	struct json_object *all, *o;

	memset(key, 0xff, sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	assert_int_equal(timing_init(log_path(path, sizeof(path), "hostile")), 0);
	timing_emit(&(struct timing_rec){.event = TIMING_OBJECT_GET,
					 .export_ = "a\"b\\c\n\x01\x7f",
					 .key = key,
					 .attempt = 2,
					 .bytes = 5});
	timing_emit(&(struct timing_rec){.event = TIMING_IO_SLOW,
					 .is_io = true,
					 .io_op = 'W',
					 .queue = 1,
					 .tag = 65535,
					 .sector = 1ull << 50,
					 .nsectors = 8,
					 .stage = TIMING_STAGE_STORE});
	timing_exit();
	all = log_read(path);
	assert_int_equal(json_object_array_length(all), 2);
	o = json_object_array_get_idx(all, 0);
	assert_string_equal(str(o, "export"), "a\"b\\c\n\x01\x7f");
	assert_int_equal(num(o, "attempt"), 2);
	assert_int_equal(num(o, "bytes"), 5);
	o = json_object_array_get_idx(all, 1);
	assert_string_equal(str(o, "op"), "W");
	assert_string_equal(str(o, "stage"), "store");
	assert_int_equal(num(o, "tag"), 65535);
	assert_int_equal(num(o, "sector"), 1ll << 50);
	json_object_put(all);
}

static void histograms_count_results_and_durations(void **state)
{
	struct timing_hist_snapshot a, b;

	timing_hist_read(TIMING_UPLOAD, &a);
	timing_emit(
		&(struct timing_rec){.event = TIMING_UPLOAD, .start_ns = 1, .end_ns = 1 + 15000});
	timing_emit(&(struct timing_rec){.event = TIMING_UPLOAD,
					 .start_ns = 1,
					 .end_ns = 1 + 3600 * NSEC_PER_SEC,
					 .result = -EIO});
	timing_hist_read(TIMING_UPLOAD, &b);
	assert_string_equal(b.name, "upload");
	assert_int_equal(b.count - a.count, 2);
	assert_int_equal(b.errors - a.errors, 1);
	assert_int_equal(b.sum_us - a.sum_us, 15 + 3600ull * 1000000);
	assert_int_equal(b.bounds_us[1], 20);
	assert_int_equal(b.buckets[1] - a.buckets[1], 1);
	assert_int_equal(b.buckets[b.nr_bounds] - a.buckets[a.nr_bounds], 1);
	for (unsigned int i = 1; i < b.nr_bounds; i++)
		assert_true(b.bounds_us[i] > b.bounds_us[i - 1]);
}

struct emitters {
	unsigned int nr;
	unsigned int id;
};

static void *emit_many(void *arg)
{
	struct emitters *e = arg;

	for (unsigned int i = 0; i < e->nr; i++)
		timing_emit(&(struct timing_rec){.event = TIMING_CACHE_HIT,
						 .op_id = (uint64_t)e->id << 32 | (i + 1),
						 .export_ = "many",
						 .dev_id = -1});
	return NULL;
}

/* The reader of the log stands still: emitters go on, and each line is either written or counted.
 */
static void a_full_ring_is_counted_never_waited_for(void **state)
{
	struct emitters e[4];
	struct timing_hist_snapshot a, b;
	uint64_t before = timing_dropped(), lost, lines = 0, told = 0;
	char path[128], buf[65536], *text = NULL, *line, *save = NULL;
	size_t len = 0;
	pthread_t t[4], drain;
	FILE *mem = open_memstream(&text, &len);
	int fd;

	/* A FIFO nobody reads blocks the writer thread after 64 KiB. */
	log_path(path, sizeof(path), "fifo");
	assert_int_equal(mkfifo(path, 0600), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(timing_init(path), 0);
	timing_hist_read(TIMING_CACHE_HIT, &a);
	for (unsigned int i = 0; i < 4; i++) {
		e[i] = (struct emitters){.nr = 5000, .id = i};
		assert_int_equal(pthread_create(&t[i], NULL, emit_many, &e[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	timing_hist_read(TIMING_CACHE_HIT, &b);
	assert_int_equal(b.count - a.count, 20000);
	lost = timing_dropped() - before;
	assert_true(lost > 0);
	/* Now read: the writer drains and stops. Lines plus losses are everything. */
	assert_int_equal(
		pthread_create(&drain, NULL, (void *(*)(void *))(void (*)(void))timing_exit, NULL),
		0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	for (bool done = false; !done;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n > 0)
			fwrite(buf, 1, (size_t)n, mem);
		else if (pthread_tryjoin_np(drain, NULL) == 0)
			done = true;
	}
	for (ssize_t n; (n = read(fd, buf, sizeof(buf))) > 0;)
		fwrite(buf, 1, (size_t)n, mem);
	close(fd);
	fclose(mem);
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct json_object *o = json_tokener_parse(line);

		assert_non_null(o);
		if (!strcmp(str(o, "event"), "timing.dropped"))
			told += (uint64_t)num(o, "dropped");
		else
			lines++;
		json_object_put(o);
	}
	free(text);
	assert_int_equal(lines + lost, 20000);
	assert_int_equal(told, lost);
}

static void lines_of_one_thread_keep_their_order(void **state)
{
	struct emitters e[4];
	uint64_t last[4] = {0};
	struct json_object *all;
	pthread_t t[4];
	char path[128];

	assert_int_equal(timing_init(log_path(path, sizeof(path), "order")), 0);
	for (unsigned int i = 0; i < 4; i++) {
		e[i] = (struct emitters){.nr = 800, .id = i};
		assert_int_equal(pthread_create(&t[i], NULL, emit_many, &e[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	timing_exit();
	all = log_read(path);
	assert_int_equal(json_object_array_length(all), 3200);
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		uint64_t op = (uint64_t)num(json_object_array_get_idx(all, i), "op_id");

		assert_true((op & 0xffffffff) == last[op >> 32] + 1);
		last[op >> 32]++;
	}
	json_object_put(all);
}

static void op_ids_are_unique_and_never_zero(void **state)
{
	uint64_t a = timing_op_id(), b = timing_op_id();

	assert_true(a && b && a != b);
}

static void an_unwritable_log_is_refused_at_start(void **state)
{
	assert_int_equal(timing_init("/nonexistent/dir/log"), -ENOENT);
	/* Without init an emit only counts. */
	timing_emit(&(struct timing_rec){.event = TIMING_UPLOAD});
	timing_exit();
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/timing_test.XXXXXX");
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
		cmocka_unit_test(every_event_has_a_distinct_name),
		cmocka_unit_test(every_stage_has_its_name),
		cmocka_unit_test(each_line_is_json_with_the_common_members),
		cmocka_unit_test(hostile_strings_stay_valid_json),
		cmocka_unit_test(histograms_count_results_and_durations),
		cmocka_unit_test(lines_of_one_thread_keep_their_order),
		cmocka_unit_test(a_full_ring_is_counted_never_waited_for),
		cmocka_unit_test(op_ids_are_unique_and_never_zero),
		cmocka_unit_test(an_unwritable_log_is_refused_at_start),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
