// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Outputs: what a program reads field by field, what a person reads at night, and captures, which
 * must replay to the same findings however they were cut.
 */
#include "trace_test.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <sys/stat.h>

#include "lib/fsutil.h"
#include "selftests/unit/json_schema.h"
#include "tracing/replay.h"

static char dir[64];
static struct result res;

static char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static char *slurp(const char *path, size_t *len)
{
	char *text;

	assert_int_equal(file_read_all(AT_FDCWD, path, 1 << 28, &text, len), 0);
	return text;
}

/* A pinned freeze that ends, as one session. Hostile names included. */
static void pinned(struct stream *s)
{
	struct rec *r;

	begin(s);
	server(s, false);
	for (uint64_t t = 200; t <= 1400; t += 200) {
		at(s, t);
		snap(s, 5, 0);
		freeze(s, 1, WRITER, 100);
		attr(s, 2, WRITER, 99);
		task(s, WRITER, WRITER, 800, "sh\033[2J\n\xff",
		     "blk_mq_freeze_queue_wait+0x8b;elevator_change;elv_iosched_store");
		r = task(s, 701, SERVER, 1, "gfs-lane-0", "a;b;c;d;e;f;g;h;i;j");
		SET(r->task.ustack, "glidefsd!lane_run+0x12 lane.c:40;glidefsd!main");
		spans_of_read(s, 5, 1);
		tick(s, t + 1);
	}
	at(s, 1450);
	r = req(s, 0, 5, 0, REQ_SERVER);
	r->req.end_ns = AT(1420);
	r = freeze(s, 1, WRITER, 100);
	r->freeze.wait_end_ns = r->freeze.end_ns = AT(1421);
	r = attr(s, 2, WRITER, 99);
	r->attr.end_ns = AT(1422);
	r->attr.freeze_ns = AT(1421) - AT(100);
	r = push(s, REC_HIST);
	r->hist.dev = -1;
	SET(r->hist.what, "total");
	r->hist.op = 'R';
	r->hist.count = 3;
	r->hist.bucket[4] = 3;
	r = push(s, REC_COUNTS);
	r->counts.events = 77;
	r->counts.dropped = 4;
	tick(s, 1460);
	push(s, REC_END);
}

static void feed_all(const struct stream *s, struct sink *sink)
{
	result_begin(&res, sink);
	for (size_t i = 0; i < s->nr; i++)
		result_feed(&res, &s->r[i]);
}

static int finish(struct sink *sink)
{
	int ret = sink->close(sink, res.m);

	model_free(res.m);
	return ret;
}

static struct json_object *get(struct json_object *o, const char *path)
{
	char key[64];

	while (*path) {
		size_t n = strcspn(path, ".");

		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		if (key[0] >= '0' && key[0] <= '9')
			o = json_object_array_get_idx(o, (size_t)atoi(key));
		else if (!json_object_object_get_ex(o, key, &o))
			o = NULL;
		if (!o)
			return NULL;
		path += n + (path[n] == '.');
	}
	return o;
}

static void has_str(struct json_object *o, const char *path, const char *want)
{
	struct json_object *v = get(o, path);

	if (!v || strcmp(json_object_get_string(v), want) != 0)
		fail_msg("%s is %s, not %s", path, v ? json_object_get_string(v) : "missing", want);
}

static void has_num(struct json_object *o, const char *path, double want)
{
	struct json_object *v = get(o, path);

	if (!v || json_object_get_double(v) < want - 0.001 ||
	    json_object_get_double(v) > want + 0.001)
		fail_msg("%s is %s, not %f", path, v ? json_object_get_string(v) : "missing", want);
}

static void a_program_reads_the_finding_field_by_field(void **state)
{
	struct json_object *line[32] = {0};
	char err[200], *text, *save = NULL;
	struct stream s;
	struct sink *k = sink_json(in_dir("j"), err, sizeof(err));
	unsigned int nr = 0, findings = 0;
	size_t len;

	assert_non_null(k);
	pinned(&s);
	feed_all(&s, k);
	assert_int_equal(finish(k), 0);
	text = slurp(in_dir("j"), &len);
	assert_int_equal(text[len - 1], '\n');
	for (char *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
		assert_true(nr < ARRAY_SIZE(line));
		line[nr] = json_tokener_parse(p);
		assert_non_null(line[nr]);
		has_num(line[nr], "v", 1);
		nr++;
	}
	has_str(line[0], "type", "meta");
	has_str(line[1], "type", "hook");
	for (unsigned int i = 0; i < nr; i++) {
		struct json_object *o = line[i];

		if (strcmp(json_object_get_string(get(o, "type")), "finding") != 0 || findings++)
			continue;
		has_str(o, "event", "open");
		has_num(o, "id", 1);
		has_str(o, "verdict", "freeze/pinned");
		has_str(o, "severity", "critical");
		has_str(o, "catalogue", "H10");
		has_num(o, "dev", DEV);
		has_str(o, "device", "/dev/ublkb3");
		has_str(o, "volume", "vm1");
		has_num(o, "since_ns", (double)AT(100));
		has_num(o, "duration_ms", 1101);
		has_str(o, "open", "true");
		has_str(o, "waiter.comm", "sh\033[2J\n?");
		has_num(o, "waiter.tid", WRITER);
		has_str(o, "waiter.state", "D");
		has_str(o, "waiter.kstack.0", "blk_mq_freeze_queue_wait+0x8b");
		has_str(o, "waiter.kstack.2", "elv_iosched_store");
		has_str(o, "attribute.name", "scheduler");
		has_str(o, "attribute.value", "mq-deadline");
		assert_null(get(o, "command"));
		assert_null(get(o, "end_ns"));
		has_str(o, "blockers.0.type", "request");
		has_num(o, "blockers.0.queue", 0);
		has_num(o, "blockers.0.tag", 5);
		has_str(o, "blockers.0.op", "R");
		has_num(o, "blockers.0.sector", 4096);
		has_num(o, "blockers.0.nsectors", 8);
		has_num(o, "blockers.0.age_ms", 1201);
		has_str(o, "blockers.0.state", "server");
		has_num(o, "blockers.0.owner.tid", 701);
		has_num(o, "blockers.0.owner.tgid", SERVER);
		has_str(o, "blockers.0.owner.ustack.0", "glidefsd!lane_run+0x12 lane.c:40");
		has_str(o, "blockers.0.io_span.event", "io");
		has_str(o, "blockers.0.span.event", "object.get");
		has_str(o, "blockers.0.span.key", "chunks/0007/ab12.pack");
		has_num(o, "blockers.0.span.age_ms", 1180);
		has_num(o, "blockers.0.span.op_id", 41);
		assert_null(get(o, "blockers.1"));
		has_num(o, "more_blockers", 0);
	}
	assert_int_equal(findings, 4);
	has_str(line[nr - 1], "type", "summary");
	has_num(line[nr - 1], "findings", 2);
	has_num(line[nr - 1], "open", 0);
	has_num(line[nr - 1], "exit", 2);
	has_num(line[nr - 1], "dropped", 4);
	for (unsigned int i = 0; i < nr; i++)
		json_object_put(line[i]);
	free(text);
	free(s.r);
}

static void other_blockers_have_their_own_members(void **state)
{
	char err[200], *text;
	struct stream s;
	struct sink *k = sink_json(in_dir("j2"), err, sizeof(err));
	struct rec *r;
	size_t len;

	begin(&s);
	at(&s, 600);
	cmd(&s, 1, CMD_START_DEV, 0);
	dev(&s, DEV_DEAD);
	queue(&s, 1, 0, "0-63");
	snap_end(&s);
	tick(&s, 601);
	at(&s, 2700);
	cmd(&s, 2, CMD_DEL_DEV, 610);
	r = push(&s, REC_OPENER);
	r->opener.dev = DEV;
	r->opener.cdev = true;
	r->opener.tgid = 9;
	SET(r->opener.what, "fd 7");
	tick(&s, 2701);
	feed_all(&s, k);
	assert_int_equal(finish(k), 0);
	text = slurp(in_dir("j2"), &len);
	assert_non_null(strstr(text, "\"blockers\":[{\"type\":\"queue\",\"queue\":1,\"armed\":0,"
				     "\"depth\":64,\"missing_count\":64,\"missing\":\"0-63\","
				     "\"exact\":true"));
	assert_non_null(strstr(text, "\"stages_ms\":{\"punt\":0.040,\"worker\":0.020,"
				     "\"ready_wait\":600.920}"));
	assert_non_null(strstr(text, "\"type\":\"opener\",\"device\":\"/dev/ublkc3\",\"tgid\":9,"
				     "\"what\":\"fd 7\""));
	assert_non_null(strstr(text, "\"open\":2,\"exit\":3"));
	free(text);
	free(s.r);
}

static void a_person_reads_it_in_80_columns(void **state)
{
	char err[200], *text, *save = NULL;
	struct stream s;
	struct sink *k = sink_text(in_dir("t"), false, false, err, sizeof(err));
	size_t len;

	pinned(&s);
	feed_all(&s, k);
	assert_int_equal(finish(k), 0);
	text = slurp(in_dir("t"), &len);
	if (getenv("TRACE_SHOW"))
		printf("%s", text);
	assert_non_null(
		strstr(text, "CRITICAL freeze/pinned [H10] /dev/ublkb3 (vm1), finding 1\n"));
	assert_non_null(strstr(text, "ENDED freeze/pinned"));
	assert_non_null(strstr(text, "WARNING attr/slow"));
	assert_null(strstr(text, "ENDED attr/slow"));
	assert_non_null(strstr(text, "blk_mq_freeze_queue_wait"));
	assert_non_null(strstr(text, "(2 more)"));
	assert_non_null(strstr(text, "lane.c:40"));
	assert_non_null(strstr(text, "chunks/0007/ab12.pack"));
	assert_non_null(strstr(text, "dropped: 4."));
	assert_non_null(strstr(text, "1 of 2 hooks are off"));
	/* Names cannot steer the terminal. */
	assert_null(strchr(text, '\033'));
	for (char *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save))
		if (strlen(p) > 80)
			fail_msg("%zu columns: %s", strlen(p), p);
	free(text);
	free(s.r);
}

static void colours_only_if_asked(void **state)
{
	char err[200], *text;
	struct stream s;
	struct sink *k = sink_text(in_dir("c"), true, true, err, sizeof(err));
	size_t len;

	pinned(&s);
	feed_all(&s, k);
	assert_int_equal(finish(k), 0);
	text = slurp(in_dir("c"), &len);
	assert_non_null(strstr(text, "\033[1;31mCRITICAL"));
	assert_null(strstr(text, "\033[2J"));
	assert_null(strstr(text, "(2 more)"));
	free(text);
	free(s.r);
}

static int replay_fn(void *ctx, const struct rec *r)
{
	return model_feed(ctx, r);
}

struct log {
	unsigned int nr;
	char text[64][500];
};

static void log_finding(void *ctx, const struct finding *f, enum finding_event ev)
{
	struct log *l = ctx;

	assert_true(l->nr < ARRAY_SIZE(l->text));
	snprintf(l->text[l->nr++], sizeof(l->text[0]), "%d %llu %s %s", ev,
		 (unsigned long long)f->id, verdict_name(f->verdict), f->summary);
}

static int replay(const char *path, struct log *l, struct capture_stats *st, char *err,
		  size_t err_len)
{
	struct model_config cfg = {.on_finding = log_finding, .ctx = l};
	struct model *m = model_new(&cfg);
	int ret;

	memset(l, 0, sizeof(*l));
	ret = capture_read(path, replay_fn, m, st, err, err_len);
	model_free(m);
	return ret;
}

static void capture(const struct stream *s, const char *path)
{
	char err[200];
	struct sink *k = sink_capture(path, 0, err, sizeof(err));

	assert_non_null(k);
	/* The asked name appears only when the capture is whole. */
	assert_int_equal(access(path, F_OK), -1);
	feed_all(s, k);
	assert_int_equal(finish(k), 0);
}

/* What the schema says of a line is what the line is; and what it says of no line is refused. */
static void every_line_is_as_the_schema_says(void **state)
{
	struct json_object *schema =
		json_object_from_file(GFS_SRCTREE "/Documentation/gfs-trace.schema.json");
	char err[512] = "", def[64], *text, *save = NULL;
	unsigned int nr = 0;
	struct stream s;
	size_t len;

	assert_non_null(schema);
	for (int captured = 0; captured < 2; captured++) {
		if (captured) {
			pinned(&s);
			capture(&s, in_dir("schema-cap"));
			text = slurp(in_dir("schema-cap"), &len);
		} else {
			struct sink *k = sink_json(in_dir("schema-j"), err, sizeof(err));

			assert_non_null(k);
			pinned(&s);
			feed_all(&s, k);
			assert_int_equal(finish(k), 0);
			text = slurp(in_dir("schema-j"), &len);
		}
		for (char *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
			struct json_object *o = json_tokener_parse(p);

			if (!json_schema_ok(schema, schema, o, err, sizeof(err))) {
				/* Of all the kinds, what the one that was meant says. */
				snprintf(
					def, sizeof(def), "#/$defs/%s_%s",
					captured ? "record" : "line",
					json_object_get_string(get(o, captured ? "kind" : "type")));
				if (json_schema_ref(schema, def))
					(void)!json_schema_ok(schema, json_schema_ref(schema, def),
							      o, err, sizeof(err));
				fail_msg("%s: %s\n%s", def, err, p);
			}
			json_object_object_add(o, "surprise", json_object_new_int(1));
			if (json_schema_ok(schema, schema, o, err, sizeof(err)))
				fail_msg("a member that no schema has is fine: %s", p);
			json_object_put(o);
			nr++;
		}
		free(text);
		free(s.r);
	}
	assert_true(nr > 20);
	json_object_put(schema);
}

static void a_capture_replays_to_the_same_findings(void **state)
{
	static struct log live, again;
	struct model_config cfg = {.on_finding = log_finding, .ctx = &live};
	struct capture_stats st;
	struct model *m;
	struct stream s;
	char err[200];

	pinned(&s);
	capture(&s, in_dir("cap"));
	memset(&live, 0, sizeof(live));
	m = model_new(&cfg);
	for (size_t i = 0; i < s.nr; i++)
		assert_int_equal(model_feed(m, &s.r[i]), 0);
	model_free(m);
	assert_int_equal(replay(in_dir("cap"), &again, &st, err, sizeof(err)), 0);
	assert_int_equal(st.records, s.nr);
	assert_int_equal(st.corrupt, 0);
	assert_true(st.ended);
	assert_false(st.cut);
	assert_int_equal(live.nr, 4);
	assert_int_equal(again.nr, live.nr);
	/* Bytes of a name that are not UTF-8 do not survive; they are no part of a summary here. */
	for (unsigned int i = 0; i < live.nr; i++) {
		char *bad = memchr(live.text[i], 0xff, strlen(live.text[i]));

		if (bad)
			*bad = '?';
		assert_string_equal(live.text[i], again.text[i]);
	}
	free(s.r);
}

static void write_file(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
}

static void every_prefix_of_a_capture_replays(void **state)
{
	struct capture_stats st;
	static struct log l;
	struct stream s;
	size_t len, first;
	char err[200], *text;

	begin(&s);
	at(&s, 1200);
	snap(&s, 5, 0);
	freeze(&s, 1, WRITER, 100);
	tick(&s, 1201);
	push(&s, REC_END);
	unlink(in_dir("cap"));
	capture(&s, in_dir("cap"));
	text = slurp(in_dir("cap"), &len);
	first = strcspn(text, "\n");
	for (size_t n = 0; n <= len; n++) {
		int ret;

		write_file(in_dir("cut"), text, n);
		err[0] = '\0';
		ret = replay(in_dir("cut"), &l, &st, err, sizeof(err));
		if (n < first) {
			assert_int_equal(ret, -EBADMSG);
			assert_non_null(strstr(err, "no capture"));
			continue;
		}
		assert_int_equal(ret, 0);
		assert_int_equal(st.corrupt, 0);
		assert_int_equal(st.cut, text[n - 1] != '\n');
		assert_int_equal(l.nr, st.records >= s.nr - 1);
	}
	free(text);
	free(s.r);
}

static void damage_is_counted_and_skipped(void **state)
{
	struct capture_stats st;
	static struct log l;
	struct stream s;
	size_t len;
	char err[200], *text;

	pinned(&s);
	unlink(in_dir("cap"));
	capture(&s, in_dir("cap"));
	text = slurp(in_dir("cap"), &len);
	/* Every 50th byte in turn, after the first line. */
	for (size_t i = strcspn(text, "\n") + 1; i < len; i += 50) {
		char old = text[i];

		text[i] = (char)(i % 3 ? '\0' : '"');
		write_file(in_dir("bad"), text, len);
		assert_int_equal(replay(in_dir("bad"), &l, &st, err, sizeof(err)), 0);
		assert_true(st.records + st.corrupt + st.unknown + 1 >= s.nr);
		assert_true(st.corrupt <= 2);
		text[i] = old;
	}
	free(text);
	free(s.r);
}

static void what_is_no_capture_is_said_to_be_none(void **state)
{
	static const struct {
		const char *text, *says;
		int ret;
	} bad[] = {
		{"", "empty", -EBADMSG},
		{"\n\n", "empty", -EBADMSG},
		{"hello\n", "no capture", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"tick\"}\n", "does not begin", -EBADMSG},
		{"{\"v\":1,\"type\":\"meta\"}\n", "no capture", -EBADMSG},
		{"{\"t_ns\":1,\"kind\":\"meta\",\"version\":2}\n", "version 2", -EPROTONOSUPPORT},
	};
	struct capture_stats st;
	static struct log l;
	char err[200];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_file(in_dir("no"), bad[i].text, strlen(bad[i].text));
		assert_int_equal(replay(in_dir("no"), &l, &st, err, sizeof(err)), bad[i].ret);
		if (!strstr(err, bad[i].says))
			fail_msg("no \"%s\" in: %s", bad[i].says, err);
	}
	assert_int_equal(replay(in_dir("absent"), &l, &st, err, sizeof(err)), -ENOENT);
	assert_int_equal(replay(dir, &l, &st, err, sizeof(err)), -EIO);
}

static void unknown_kinds_are_skipped(void **state)
{
	static const char text[] = "{\"t_ns\":1,\"kind\":\"meta\",\"version\":1}\n"
				   "{\"t_ns\":2,\"kind\":\"of tomorrow\"}\n"
				   "{\"t_ns\":3,\"kind\":\"tick\"}\n";
	struct capture_stats st;
	static struct log l;
	char err[200];

	write_file(in_dir("new"), text, sizeof(text) - 1);
	assert_int_equal(replay(in_dir("new"), &l, &st, err, sizeof(err)), 0);
	assert_int_equal(st.records, 2);
	assert_int_equal(st.unknown, 1);
}

/* A line of each kind of the ring's contents, one record a second. */
static void ring_feed(struct sink *k, uint64_t from_s, uint64_t to_s)
{
	struct stream s;

	begin(&s);
	if (from_s)
		s.nr = 0;
	for (uint64_t t = from_s; t < to_s; t++) {
		at(&s, t * 1000);
		if (t % 10 == 0)
			server(&s, t % 20 != 0);
		tick(&s, t * 1000);
	}
	for (size_t i = 0; i < s.nr; i++)
		k->record(k, &s.r[i]);
	free(s.r);
}

struct ring_log {
	unsigned int metas, hooks, servers, ticks;
	uint64_t first_tick, last_tick;
};

static int ring_fn(void *ctx, const struct rec *r)
{
	struct ring_log *l = ctx;

	l->metas += r->kind == REC_META;
	l->hooks += r->kind == REC_HOOK;
	l->servers += r->kind == REC_SERVER;
	if (r->kind == REC_TICK) {
		if (!l->ticks++)
			l->first_tick = r->t_ns;
		l->last_tick = r->t_ns;
	}
	return 0;
}

static void the_flight_recorder_keeps_the_seconds_before(void **state)
{
	char err[200];
	struct sink *k = sink_capture(in_dir("ring"), 30 * NSEC_PER_SEC, err, sizeof(err));
	struct model_config cfg = {0};
	struct model *m = model_new(&cfg);
	struct ring_log l = {0};
	struct capture_stats st;

	ring_feed(k, 0, 1000);
	sink_capture_trigger(k);
	ring_feed(k, 1000, 2000);
	assert_int_equal(k->close(k, m), 0);
	assert_int_equal(capture_read(in_dir("ring"), ring_fn, &l, &st, err, sizeof(err)), 0);
	assert_int_equal(st.corrupt, 0);
	assert_int_equal(l.metas, 1);
	assert_int_equal(l.hooks, 2);
	/* The last server before the window, those in it, and those after. */
	assert_int_equal(l.servers, 1 + 3 + 3);
	assert_int_equal(l.first_tick, AT(969 * 1000));
	assert_int_equal(l.last_tick, AT(1028 * 1000));
	model_free(m);
}

static void an_untriggered_recorder_leaves_no_events(void **state)
{
	char err[200];
	struct sink *k = sink_capture(in_dir("quiet"), 30 * NSEC_PER_SEC, err, sizeof(err));
	struct model_config cfg = {0};
	struct model *m = model_new(&cfg);
	struct rec end = {.t_ns = AT(500 * 1000), .kind = REC_END};
	struct ring_log l = {0};
	struct capture_stats st;

	ring_feed(k, 0, 500);
	k->record(k, &end);
	assert_int_equal(k->close(k, m), 0);
	assert_int_equal(capture_read(in_dir("quiet"), ring_fn, &l, &st, err, sizeof(err)), 0);
	assert_int_equal(l.metas, 1);
	assert_int_equal(l.ticks, 0);
	assert_true(st.ended);
	model_free(m);
}

static void a_full_disk_is_reported(void **state)
{
	struct sink *k[3];
	char err[200];
	struct stream s;

	pinned(&s);
	k[0] = sink_json("/dev/full", err, sizeof(err));
	k[1] = sink_text("/dev/full", false, false, err, sizeof(err));
	k[2] = sink_capture("/dev/full", 0, err, sizeof(err));
	for (size_t i = 0; i < ARRAY_SIZE(k); i++) {
		assert_non_null(k[i]);
		feed_all(&s, k[i]);
		assert_int_equal(finish(k[i]), -ENOSPC);
	}
	free(s.r);
}

static void a_bad_path_fails_at_once_with_its_reason(void **state)
{
	char err[3][200];

	assert_null(sink_json("/nowhere/x", err[0], sizeof(err[0])));
	assert_null(sink_text("/nowhere/x", false, false, err[1], sizeof(err[1])));
	assert_null(sink_capture("/nowhere/x", 0, err[2], sizeof(err[2])));
	for (size_t i = 0; i < 3; i++)
		assert_non_null(strstr(err[i], "/nowhere/x: cannot be written: No such file"));
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/trace_sink_test.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmdline[100];

	snprintf(cmdline, sizeof(cmdline), "rm -rf '%s'", dir);
	return system(cmdline);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_line_is_as_the_schema_says),
		cmocka_unit_test(a_program_reads_the_finding_field_by_field),
		cmocka_unit_test(other_blockers_have_their_own_members),
		cmocka_unit_test(a_person_reads_it_in_80_columns),
		cmocka_unit_test(colours_only_if_asked),
		cmocka_unit_test(a_capture_replays_to_the_same_findings),
		cmocka_unit_test(every_prefix_of_a_capture_replays),
		cmocka_unit_test(damage_is_counted_and_skipped),
		cmocka_unit_test(what_is_no_capture_is_said_to_be_none),
		cmocka_unit_test(unknown_kinds_are_skipped),
		cmocka_unit_test(the_flight_recorder_keeps_the_seconds_before),
		cmocka_unit_test(an_untriggered_recorder_leaves_no_events),
		cmocka_unit_test(a_full_disk_is_reported),
		cmocka_unit_test(a_bad_path_fails_at_once_with_its_reason),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
