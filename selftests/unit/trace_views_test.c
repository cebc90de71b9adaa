// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The pictures of a session: a trace that ui.perfetto.dev takes, a page that runs nothing that came
 * from the traced host, and stacks for flame graphs, of a made-up session with
 * every kind of hang.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "selftests/browser/sample.h"
#include "tracing/timeline.h"

static char dir[64];

static const struct {
	struct sink *(*open)(const char *path, char *err, size_t err_len);
} sinks[] = {{sink_html}, {sink_perfetto}, {sink_folded}};

static int finish(struct sink *s)
{
	struct model *m = model_new(&(struct model_config){.on_finding = NULL});
	int r = s->close(s, m);

	model_free(m);
	return r;
}

/* What a sink writes of the made-up session; the caller frees. */
static char *written(struct sink *(*new_sink)(const char *, char *, size_t))
{
	char path[96], err[256], *text;
	struct sink *s;
	size_t len;

	snprintf(path, sizeof(path), "%s/out", dir);
	s = new_sink(path, err, sizeof(err));
	assert_non_null(s);
	sample_run(&s, 1);
	assert_int_equal(finish(s), 0);
	assert_int_equal(file_read_all(AT_FDCWD, path, 1 << 28, &text, &len), 0);
	unlink(path);
	return text;
}

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v))
		fail_msg("no member %s in %s", key, json_object_to_json_string(o));
	return v;
}

static const char *str(struct json_object *o, const char *key)
{
	assert_true(json_object_is_type(get(o, key), json_type_string));
	return json_object_get_string(get(o, key));
}

/* Times in us with three decimals, as ns. */
static int64_t ns(struct json_object *o, const char *key)
{
	struct json_object *v = get(o, key);

	assert_true(json_object_is_type(v, json_type_double) ||
		    json_object_is_type(v, json_type_int));
	return (int64_t)(json_object_get_double(v) * 1000.0 + 0.5);
}

static struct json_object *parse(const char *text)
{
	enum json_tokener_error err;
	struct json_object *o = json_tokener_parse_verbose(text, &err);

	if (!o)
		fail_msg("not JSON: %s", json_tokener_error_desc(err));
	return o;
}

#define TRACKS 512
/* What is open in a thread of the trace while its events go by. */
static struct track {
	int64_t pid, tid, end[32];
	unsigned int depth;
	bool named;
} track[TRACKS];
static unsigned int nr_tracks;

static struct track *track_of(struct json_object *e)
{
	int64_t pid = json_object_get_int64(get(e, "pid")),
		tid = json_object_get_int64(get(e, "tid"));

	for (unsigned int i = 0; i < nr_tracks; i++)
		if (track[i].pid == pid && track[i].tid == tid)
			return &track[i];
	assert_true(nr_tracks < TRACKS);
	track[nr_tracks] = (struct track){.pid = pid, .tid = tid};
	return &track[nr_tracks++];
}

/* Events of a thread come in order of their beginning here, so a stack finds what overlaps in part.
 */
static void check_complete(struct json_object *e)
{
	int64_t start = ns(e, "ts"), end = start + ns(e, "dur");
	struct track *t = track_of(e);

	assert_true(t->named);
	assert_true(end >= start);
	assert_true(start >= (int64_t)SAMPLE_T0);
	assert_true(end <= (int64_t)SAMPLE_LAST);
	str(e, "cat");
	while (t->depth && t->end[t->depth - 1] <= start)
		t->depth--;
	if (t->depth && end > t->end[t->depth - 1])
		fail_msg("overlaps in part: %s", json_object_to_json_string(e));
	assert_true(t->depth < ARRAY_SIZE(t->end));
	t->end[t->depth++] = end;
}

static void check_metadata(struct json_object *e)
{
	struct json_object *args = get(e, "args");
	const char *name = str(e, "name");

	if (strstr(name, "sort_index")) {
		assert_true(json_object_is_type(get(args, "sort_index"), json_type_int));
		return;
	}
	assert_true(!strcmp(name, "process_name") || !strcmp(name, "thread_name"));
	assert_true(strlen(str(args, "name")) > 0);
	track_of(e)->named = true;
}

static void perfetto_takes_the_trace(void **state)
{
	unsigned int instants = 0, open = 0, lanes = 0, ready_wait = 0;
	char *text = written(sink_perfetto);
	struct json_object *root = parse(text), *events = get(root, "traceEvents");

	nr_tracks = 0;
	assert_true(json_object_is_type(events, json_type_array));
	for (size_t i = 0; i < json_object_array_length(events); i++) {
		struct json_object *e = json_object_array_get_idx(events, i), *args, *v;
		const char *ph = str(e, "ph"), *name = str(e, "name");

		assert_true(json_object_is_type(get(e, "pid"), json_type_int));
		assert_true(json_object_is_type(get(e, "tid"), json_type_int));
		if (!strcmp(ph, "M")) {
			check_metadata(e);
			lanes += !strcmp(name, "thread_name") &&
				 strstr(str(get(e, "args"), "name"), "(2)");
		} else if (!strcmp(ph, "X")) {
			check_complete(e);
			if (!strcmp(name, "ready-wait") && ns(e, "dur") > 1900000000)
				ready_wait++;
			if (json_object_object_get_ex(e, "args", &args) &&
			    json_object_object_get_ex(args, "open", &v)) {
				assert_true(json_object_get_boolean(v));
				assert_int_equal(ns(e, "ts") + ns(e, "dur"), SAMPLE_LAST);
				open++;
			}
		} else if (!strcmp(ph, "i")) {
			assert_string_equal(str(e, "s"), "p");
			ns(e, "ts");
			str(get(e, "args"), "advice");
			instants++;
		} else {
			fail_msg("an event of another kind: %s", ph);
		}
	}
	assert_int_equal(instants, SAMPLE_FINDINGS);
	assert_int_equal(open, 5); /* two freezes, two writes, one request */
	assert_int_equal(ready_wait, 1);
	assert_true(lanes > 0);
	json_object_put(root);
	free(text);
}

/* The text between two marks, once in the page; the caller frees. */
static char *between(const char *page, const char *from, const char *until)
{
	const char *a = strstr(page, from), *b;

	assert_non_null(a);
	a += strlen(from);
	b = strstr(a, until);
	assert_non_null(b);
	return strndup(a, (size_t)(b - a));
}

static unsigned int occurrences(const char *text, const char *what)
{
	unsigned int n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

static void check_hash(const char *page, const char *from, const char *until, const char *directive)
{
	unsigned char sum[SHA256_DIGEST_LENGTH], b64[64];
	char *text = between(page, from, until), want[128];

	SHA256((const unsigned char *)text, strlen(text), sum);
	EVP_EncodeBlock(b64, sum, sizeof(sum));
	snprintf(want, sizeof(want), "%s 'sha256-%s'", directive, (const char *)b64);
	assert_non_null(strstr(page, want));
	free(text);
}

static void a_hostile_name_cannot_leave_the_data_of_the_page(void **state)
{
	char *page = written(sink_html), *data;
	struct json_object *root, *findings, *evil;

	/* The two of the page itself: the data and the script. */
	assert_int_equal(occurrences(page, "</script>"), 2);
	assert_int_equal(occurrences(page, "<img"), 0);
	assert_int_equal(occurrences(page, "<svg"), 0);
	assert_null(strstr(page, "\xe2\x80\xa8"));
	data = between(page, "<script type=\"application/json\" id=\"data\">", "</script>");
	assert_null(strpbrk(data, "<>&"));
	root = parse(data);
	findings = get(root, "findings");
	assert_int_equal(json_object_array_length(findings), SAMPLE_FINDINGS);
	evil = json_object_array_get_idx(findings, SAMPLE_FINDINGS - 1);
	assert_string_equal(str(evil, "volume"), SAMPLE_EVIL);
	assert_string_equal(str(get(evil, "waiter"), "comm"), "</script>;\n<b>");
	/* Not UTF-8: replaced, so that the rest can be read. */
	evil = get(json_object_array_get_idx(get(evil, "blockers"), 0), "span");
	assert_non_null(strstr(str(evil, "key"), "\xe2\x80\xa8\xef\xbf\xbd\xef\xbf\xbd"));
	json_object_put(root);
	free(data);
	free(page);
}

static void the_page_needs_no_network_and_runs_only_its_own_script(void **state)
{
	char *page = written(sink_html);

	assert_null(strstr(page, "://"));
	assert_null(strstr(page, "src=\""));
	assert_null(strstr(page, "<link"));
	assert_null(strstr(page, "@import"));
	assert_non_null(strstr(page, "default-src 'none'"));
	check_hash(page, "<style>", "</style>", "style-src");
	check_hash(page, "<script>", "</script>", "script-src");
	free(page);
}

static void a_finding_that_ended_keeps_who_blocked(void **state)
{
	char *page = written(sink_html), *data;
	struct json_object *root, *f;

	data = between(page, "<script type=\"application/json\" id=\"data\">", "</script>");
	root = parse(data);
	f = json_object_array_get_idx(get(root, "findings"), 0);
	assert_string_equal(str(f, "verdict"), "start-dev/late-fetch");
	assert_false(json_object_get_boolean(get(f, "open")));
	assert_int_equal(json_object_get_int64(get(f, "until")), 2424000000);
	f = json_object_array_get_idx(get(f, "blockers"), 0);
	assert_string_equal(str(f, "missing"), "0-63");
	assert_non_null(strstr(str(get(f, "owner"), "ustack"), "worker_loop"));
	json_object_put(root);
	free(data);
	free(page);
}

static void folded_lines_are_comm_frames_and_a_count(void **state)
{
	char *text = written(sink_folded), *line, *save = NULL;
	unsigned int n = 0;

	assert_non_null(strstr(
		text,
		"worker-1;libc.so.6!start_thread;glidefsd!worker_main;glidefsd!worker_loop;"));
	assert_non_null(strstr(text,
			       ";queue_attr_store_[k];elv_iosched_store_[k];elevator_change_[k];"
			       "blk_mq_freeze_queue_wait_[k] 9000\n"));
	/* What separates in the format does not come out of names. */
	assert_non_null(strstr(text, "\n</script>__<b>;mod!<svg onload=alert"));
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++) {
		char *count = strrchr(line, ' '), *end;

		assert_non_null(count);
		assert_true(strtoul(count + 1, &end, 10) > 0);
		assert_int_equal(*end, '\0');
		assert_non_null(strchr(line, ';'));
		assert_null(strstr(line, ";;"));
	}
	/* Six waiters, and the owners that are not the waiter: one thread counts once in a finding.
	 */
	assert_int_equal(n, 11);
	free(text);
}

static void a_path_that_cannot_be_written_fails_before_anything_starts(void **state)
{

	for (unsigned int i = 0; i < ARRAY_SIZE(sinks); i++) {
		char err[256] = "";

		assert_null(sinks[i].open("/nonexistent/dir/file", err, sizeof(err)));
		assert_non_null(strstr(err, "/nonexistent/dir/file"));
	}
}

static unsigned int files_in(const char *path)
{
	unsigned int n = 0;
	struct dirent *e;
	DIR *d = opendir(path);

	assert_non_null(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void a_full_disk_is_told_and_leaves_the_old_report(void **state)
{
	char path[96], err[256], text[8] = "";
	int fd;

	for (unsigned int i = 0; i < ARRAY_SIZE(sinks); i++) {
		struct sink *s = sinks[i].open("/dev/full", err, sizeof(err));

		assert_non_null(s);
		sample_run(&s, 1);
		assert_int_equal(finish(s), -ENOSPC);
	}
	/* While it is not closed, nothing has the asked name but what was there. */
	snprintf(path, sizeof(path), "%s/report", dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "old", 3), 3);
	{
		struct sink *s = sink_html(path, err, sizeof(err));

		assert_non_null(s);
		sample_run(&s, 1);
		assert_int_equal(pread(fd, text, 7, 0), 3);
		assert_string_equal(text, "old");
		assert_int_equal(files_in(dir), 2);
		assert_int_equal(finish(s), 0);
	}
	assert_int_equal(files_in(dir), 1);
	close(fd);
	unlink(path);
}

static void a_run_that_came_to_nothing_leaves_the_old_report(void **state)
{
	char path[96], err[256], *text;
	size_t len;
	int fd;

	snprintf(path, sizeof(path), "%s/report", dir);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "old", 3), 3);
	close(fd);
	for (unsigned int i = 0; i <= ARRAY_SIZE(sinks); i++) {
		struct sink *s = i < ARRAY_SIZE(sinks) ? sinks[i].open(path, err, sizeof(err))
						       : sink_capture(path, 0, err, sizeof(err));

		assert_non_null(s);
		/* A capture is of use whatever its end, once there is something in it. */
		if (i < ARRAY_SIZE(sinks))
			sample_run(&s, 1);
		else
			s->record(s, &(struct rec){.kind = REC_META, .t_ns = 1});
		assert_int_not_equal(s->close(s, NULL), -ENOSPC);
		assert_int_equal(files_in(dir), 1);
		assert_int_equal(file_read_all(AT_FDCWD, path, 100, &text, &len), 0);
		assert_int_equal(len, 3);
		free(text);
	}
	unlink(path);
}

static void feed_cmd(struct timeline *t, uint64_t id, uint64_t start, uint64_t end)
{
	struct rec r = {.kind = REC_CMD, .t_ns = end ? end : start};

	r.cmd = (struct rec_cmd){
		.id = id, .dev = 1, .nr = CMD_START_DEV, .submit_ns = start, .end_ns = end};
	tl_record(t, &r);
}

static void too_many_commands_leave_the_long_ones(void **state)
{
	const uint64_t all = 3 * TL_MAX;
	struct timeline t;
	unsigned int slow = 0, open = 0;

	assert_int_equal(tl_init(&t), 0);
	feed_cmd(&t, 1, 1000, 0);
	for (uint64_t i = 2; i <= all; i++)
		feed_cmd(&t, i, i * 1000, i * 1000 + (i % 1000 ? 10 + i % 7 : 5 * NSEC_PER_SEC));
	tl_finish(&t);
	assert_true(t.nr[TL_CMD] <= TL_MAX);
	assert_int_equal(t.nr[TL_CMD] + t.left_out[TL_CMD], all);
	for (size_t i = 0; i < t.nr[TL_CMD]; i++) {
		const struct tl_item *it = t.item[TL_CMD][i];

		slow += it->end_ns - it->start_ns == 5 * NSEC_PER_SEC;
		open += !it->end_ns;
	}
	assert_int_equal(slow, all / 1000);
	assert_int_equal(open, 1);
	tl_free(&t);
}

static void look(struct timeline *t, uint64_t at, uint64_t slow, uint64_t fast)
{
	struct rec r = {.kind = REC_DEV, .t_ns = at};

	r.dev.dev = 4;
	tl_record(t, &r);
	for (unsigned int i = 0; i < 2; i++) {
		r = (struct rec){.kind = REC_REQ, .t_ns = at};
		r.req = (struct rec_req){
			.dev = 4, .tag = i, .op = 'R', .start_ns = i ? fast : slow};
		if (r.req.start_ns)
			tl_record(t, &r);
	}
	r = (struct rec){.kind = REC_SNAP_END, .t_ns = at};
	r.snap_end.dev = 4;
	tl_record(t, &r);
}

static void a_request_that_a_look_does_not_name_is_over(void **state)
{
	const uint64_t s = NSEC_PER_SEC;
	struct rec r = {.kind = REC_REQ, .t_ns = 11 * s};
	struct timeline t;

	r.req = (struct rec_req){.dev = 4, .tag = 1, .op = 'R', .start_ns = 11 * s - 100000};
	assert_int_equal(tl_init(&t), 0);
	look(&t, 10 * s, 9 * s, 10 * s - 100000);
	look(&t, 11 * s, 9 * s, 11 * s - 100000);
	assert_int_equal(t.nr[TL_REQ], 2); /* the slow one, and the fast one of this look */
	/* The fast one tells its end. */
	r.req.end_ns = r.req.start_ns + 150000;
	tl_record(&t, &r);
	assert_int_equal(t.nr[TL_REQ], 1);
	look(&t, 12 * s, 0, 0);
	tl_finish(&t);
	assert_int_equal(t.nr[TL_REQ], 1);
	assert_int_equal(t.item[TL_REQ][0]->end_ns, 12 * s);
	assert_true(t.item[TL_REQ][0]->end_unknown);
	tl_free(&t);
}

static int make_dir(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/gfs-views-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(perfetto_takes_the_trace),
		cmocka_unit_test(a_hostile_name_cannot_leave_the_data_of_the_page),
		cmocka_unit_test(the_page_needs_no_network_and_runs_only_its_own_script),
		cmocka_unit_test(a_finding_that_ended_keeps_who_blocked),
		cmocka_unit_test(folded_lines_are_comm_frames_and_a_count),
		cmocka_unit_test(a_path_that_cannot_be_written_fails_before_anything_starts),
		cmocka_unit_test(a_full_disk_is_told_and_leaves_the_old_report),
		cmocka_unit_test(a_run_that_came_to_nothing_leaves_the_old_report),
		cmocka_unit_test(too_many_commands_leave_the_long_ones),
		cmocka_unit_test(a_request_that_a_look_does_not_name_is_over),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
