// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The live view: what it shows of a made-up session in any size of screen, and that it leaves the
 * terminal as it was, however it ends.
 */
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>

#include <cmocka.h>

#include "selftests/browser/sample.h"
#include "tracing/live.h"
#include "tracing/live_view.h"

static struct live_data data;
static struct live_screen screen;
static struct rec_meta meta;
static struct rec_counts counts;
static struct rec_cmd start_cmd;
static struct rec_freeze pinned_freeze;
static struct finding *found[SAMPLE_FINDINGS];
static unsigned int nr_found;

static void keep_finding(struct sink *s, const struct finding *f, enum finding_event ev)
{
	if (ev != FINDING_OPEN)
		return;
	found[nr_found] = malloc(sizeof(*f));
	memcpy(found[nr_found], f, sizeof(*f));
	data.finding[nr_found] = found[nr_found];
	data.nr_findings = ++nr_found;
}

static void keep_record(struct sink *s, const struct rec *r)
{
	if (r->kind == REC_META)
		meta = r->meta;
	if (r->kind == REC_COUNTS)
		counts = r->counts;
	if (r->kind == REC_DEV && r->dev.dev == (int32_t)data.nr_devs)
		data.dev[data.nr_devs++] =
			(struct live_dev){.dev = r->dev, .p50_us = 256, .p99_us = 131072};
	if (r->kind == REC_CMD && !r->cmd.end_ns)
		start_cmd = r->cmd;
	if (r->kind == REC_FREEZE && !r->freeze.end_ns)
		pinned_freeze = r->freeze;
}

static int live_setup(void **state)
{
	struct sink keep = {.record = keep_record, .finding = keep_finding}, *s = &keep;

	memset(&data, 0, sizeof(data));
	nr_found = 0;
	sample_run(&s, 1);
	data.now_ns = SAMPLE_LAST;
	data.meta = &meta;
	data.counts = &counts;
	data.cmd[0] = &start_cmd;
	data.freeze[0] = &pinned_freeze;
	data.nr_cmds = data.nr_freezes = 1;
	data.dev[3].in_flight = 18;
	data.dev[3].oldest_ns = SAMPLE_LAST - 3 * NSEC_PER_SEC;
	return 0;
}

static int live_teardown(void **state)
{
	for (unsigned int i = 0; i < nr_found; i++)
		free(found[i]);
	return 0;
}

static void render(struct live_view *v, unsigned int rows, unsigned int cols)
{
	memset(&screen, 0, sizeof(screen));
	screen.rows = rows;
	screen.cols = cols;
	live_render(v, &data, &screen);
	for (unsigned int y = 0; y < rows; y++) {
		assert_int_equal(strlen(screen.text[y]), cols);
		for (unsigned int x = 0; x < cols; x++)
			assert_in_range(screen.text[y][x], 0x20, 0x7e);
	}
	for (unsigned int y = rows; y < LIVE_ROWS_MAX; y++)
		assert_int_equal(screen.text[y][0], '\0');
}

/* The first line with all these words, or NULL. */
static const char *line_with(const char *a, const char *b)
{
	for (unsigned int y = 0; y < screen.rows; y++)
		if (strstr(screen.text[y], a) && strstr(screen.text[y], b))
			return screen.text[y];
	return NULL;
}

static void dump(void)
{
	if (getenv("SHOW"))
		for (unsigned int y = 0; y < screen.rows; y++)
			printf("|%s|\n", screen.text[y]);
}

static void live_80x24_tells_what_matters(void **state)
{
	struct live_view v = {.began_ns = SAMPLE_T0};

	render(&v, 24, 80);
	dump();
	assert_non_null(line_with("6.12.95+deb12-cloud-amd64", "12.00 s"));
	assert_non_null(line_with("dropped 2", "unmatched 0"));
	/* The device with the oldest request comes first. */
	assert_non_null(strstr(screen.text[4], "ublkb3"));
	assert_non_null(strstr(screen.text[4], "3.00 s"));
	assert_non_null(strstr(screen.text[4], "131ms"));
	assert_non_null(line_with("orphan", "quiesced"));
	assert_non_null(line_with("START_DEV", "ready-wait"));
	assert_non_null(line_with("freeze ", "wait"));
	assert_non_null(line_with("freeze/self-deadlock", "H10"));
	assert_non_null(line_with(">", "start-dev/late-fetch"));
	assert_non_null(line_with("q quit", "? help"));
}

static void live_fits_any_size(void **state)
{
	struct live_view v = {0};

	for (unsigned int rows = 1; rows <= 60; rows++)
		for (unsigned int cols = 1; cols <= 180; cols += 7) {
			for (unsigned int mode = 0; mode < 3; mode++) {
				v.details = mode == 1;
				v.help = mode == 2;
				render(&v, rows, cols);
			}
		}
	v = (struct live_view){0};
	render(&v, LIVE_ROWS_MAX, LIVE_COLS_MAX);
	data.nr_devs = data.nr_findings = data.nr_cmds = data.nr_freezes = 0;
	render(&v, 24, 80);
	assert_non_null(line_with("none:", "budget"));
	assert_true(live_view_key(&v, &data, LIVE_KEY_ENTER));
	assert_true(live_view_key(&v, &data, 'j'));
	render(&v, 24, 80);
}

static void live_details_show_the_cycle_and_the_stacks(void **state)
{
	struct live_view v = {0};
	unsigned int was;

	render(&v, 24, 80);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(live_view_key(&v, &data, LIVE_KEY_DOWN));
	assert_true(live_view_key(&v, &data, LIVE_KEY_ENTER));
	render(&v, 24, 80);
	dump();
	assert_non_null(line_with("freeze/self-deadlock", "ublkb4 scratch"));
	assert_non_null(line_with("queue 0 tag 5 waits for", "worker-0/903"));
	assert_non_null(line_with("SIGKILL does not help", "state D"));
	assert_non_null(line_with("blk_mq_freeze_queue_wait", ""));
	/* To the end, not further. */
	for (unsigned int i = 0; i < 20; i++)
		live_view_key(&v, &data, LIVE_KEY_PGDN);
	render(&v, 24, 80);
	was = v.scroll;
	assert_non_null(line_with("held by", "worker-0/903"));
	live_view_key(&v, &data, 'j');
	render(&v, 24, 80);
	assert_int_equal(v.scroll, was);
	/* q goes back first, then leaves. */
	assert_true(live_view_key(&v, &data, 'q'));
	assert_false(v.details);
	assert_true(live_view_key(&v, &data, LIVE_KEY_ESC));
	assert_false(live_view_key(&v, &data, 'q'));
}

static void live_sorts_devices(void **state)
{
	struct live_view v = {0};

	data.dev[5].p99_us = 1 << 22;
	assert_true(live_view_key(&v, &data, 's'));
	render(&v, 24, 80);
	assert_non_null(strstr(screen.text[4], "ublkb0"));
	live_view_key(&v, &data, 's');
	render(&v, 24, 80);
	assert_non_null(strstr(screen.text[4], "ublkb3"));
	live_view_key(&v, &data, 's');
	render(&v, 24, 80);
	assert_non_null(strstr(screen.text[4], "ublkb5"));
}

static void percentiles_are_upper_bounds(void **state)
{
	uint64_t b[REC_HIST_BUCKETS] = {0};

	assert_int_equal(live_percentile_us(b, 50), 0);
	b[6] = 98; /* 64 to 127 us */
	b[20] = 2;
	assert_int_equal(live_percentile_us(b, 50), 128);
	assert_int_equal(live_percentile_us(b, 98), 128);
	assert_int_equal(live_percentile_us(b, 99), 2 << 20);
}

/* ---- on a terminal ---- */

#define ANSWER_MS 20000

enum ending { END_FREE, END_EXIT, END_ABORT, END_HUP };

/* A device with one request of 1.5 s at 2 s, and latencies. */
static int feed_device(struct model *m)
{
	struct rec r = {.kind = REC_DEV, .t_ns = NSEC_PER_SEC};
	int rc;

	r.dev = (struct rec_dev){
		.dev = 7, .state = DEV_LIVE, .nr_queues = 2, .depth = 64, .tgid = 812};
	snprintf(r.dev.volume, sizeof(r.dev.volume), "vm-marker");
	rc = model_feed(m, &r);
	r = (struct rec){.kind = REC_REQ, .t_ns = NSEC_PER_SEC};
	r.req = (struct rec_req){
		.dev = 7, .op = 'R', .start_ns = NSEC_PER_SEC / 2, .state = REQ_SERVER};
	rc |= model_feed(m, &r);
	r = (struct rec){.kind = REC_SNAP_END, .t_ns = NSEC_PER_SEC};
	r.snap_end.dev = 7;
	rc |= model_feed(m, &r);
	r = (struct rec){.kind = REC_HIST, .t_ns = NSEC_PER_SEC};
	r.hist = (struct rec_hist){.dev = 7, .what = "total", .op = '*', .count = 100};
	r.hist.bucket[7] = 90;
	r.hist.bucket[16] = 10;
	return rc | model_feed(m, &r);
}

/* The child: shows a model until 'q', then ends in one of the ways there are. Exit status 3:
 * refused. */
static void show(enum ending how)
{
	struct rlimit no_core = {0, 0};
	struct model_config cfg = {0};
	struct rec r = {.kind = REC_META, .t_ns = NSEC_PER_SEC};
	struct model *m = model_new(&cfg);
	char err[256] = "";
	/* Whoever runs the tests may have had it ignored (nohup). */
	void (*was)(int) = signal(SIGHUP, SIG_DFL);
	struct live *l = live_new(err, sizeof(err));
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};

	(void)was;
	setrlimit(RLIMIT_CORE, &no_core);
	if (!l) {
		printf("refused: %s\n", err);
		fflush(stdout);
		_exit(3);
	}
	r.meta.version = REC_VERSION;
	snprintf(r.meta.kernel, sizeof(r.meta.kernel), "6.12-marker");
	if (!m || model_feed(m, &r) || feed_device(m))
		_exit(4);
	for (;;) {
		int key;

		live_draw(l, m, 2 * NSEC_PER_SEC);
		/* A change of the size interrupts this. */
		if (poll(&in, 1, ANSWER_MS) <= 0 && errno != EINTR)
			_exit(5);
		key = live_key(l);
		if (key == 'q')
			break;
	}
	if (how == END_ABORT)
		abort();
	if (how == END_HUP)
		raise(SIGHUP);
	if (how == END_EXIT)
		exit(0);
	live_free(l);
	model_free(m);
	_exit(0);
}

/* What came out of the terminal so far. */
static char output[1 << 16];
static size_t output_len;

/* Until the terminal shows text, or nothing more comes from it. */
static bool wait_for(int master, const char *text)
{
	struct pollfd p = {.fd = master, .events = POLLIN};

	for (;;) {
		ssize_t n;

		if (text && memmem(output, output_len, text, strlen(text)))
			return true;
		if (output_len == sizeof(output) || poll(&p, 1, ANSWER_MS) <= 0)
			return false;
		n = read(master, output + output_len, sizeof(output) - output_len);
		if (n <= 0)
			return !text;
		output_len += (size_t)n;
	}
}

/* Runs show() on a terminal of that type and size; the wait status. */
static int on_terminal(const char *type, enum ending how, const char *keys, bool resize)
{
	struct winsize ws = {.ws_row = 24, .ws_col = 80}, wider = {.ws_row = 40, .ws_col = 120};
	struct termios before, after;
	int master, slave, status;
	bool restored;
	pid_t pid;

	output_len = 0;
	assert_int_equal(openpty(&master, &slave, NULL, NULL, &ws), 0);
	fcntl(master, F_SETFD, FD_CLOEXEC);
	assert_int_equal(tcgetattr(slave, &before), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		setsid();
		if (ioctl(slave, TIOCSCTTY, 0) || dup2(slave, 0) < 0 || dup2(slave, 1) < 0 ||
		    dup2(slave, 2) < 0)
			_exit(6);
		setenv("TERM", type, 1);
		unsetenv("LINES");
		unsetenv("COLUMNS");
		show(how);
	}
	close(slave);
	if (wait_for(master, keys ? "q quit" : "refused: ")) {
		if (resize)
			ioctl(master, TIOCSWINSZ, &wider);
		if (keys)
			assert_int_equal(write(master, keys, strlen(keys)), strlen(keys));
	}
	/* To its end, when nobody has the terminal open any more. */
	wait_for(master, NULL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(tcgetattr(master, &after), 0);
	restored = before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag &&
		   before.c_oflag == after.c_oflag;
	close(master);
	assert_true(restored);
	return status;
}

static bool shown(const char *text)
{
	return memmem(output, output_len, text, strlen(text)) != NULL;
}

static void the_terminal_is_put_back_however_it_ends(void **state)
{
	int status = on_terminal("xterm", END_FREE, "q", false);

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(shown("6.12-marker"));
	assert_true(shown("vm-marker") && shown("1.50 s") && shown("256us") && shown("131ms"));
	assert_true(shown("\033[?1049h") && shown("\033[?1049l"));
	status = on_terminal("xterm", END_EXIT, "q", false);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_true(shown("\033[?1049l"));
	status = on_terminal("xterm", END_ABORT, "q", false);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_true(shown("\033[?1049l"));
	status = on_terminal("xterm", END_HUP, "q", false);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP);
	assert_true(shown("\033[?1049l"));
}

static void common_terminals_work(void **state)
{
	static const char *const type[] = {"xterm", "xterm-256color", "screen", "linux", "vt100"};

	for (unsigned int i = 0; i < ARRAY_SIZE(type); i++) {
		int status = on_terminal(type[i], END_FREE, "sjk?qq", true);

		if (!WIFEXITED(status) || WEXITSTATUS(status))
			fail_msg("%s: status %x: %.*s", type[i], status, (int)output_len, output);
	}
}

static void a_terminal_without_cursor_is_refused_in_a_sentence(void **state)
{
	int status = on_terminal("dumb", END_FREE, NULL, false);

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	assert_true(shown("'dumb' cannot place the cursor"));
	assert_false(shown("\033["));
	status = on_terminal("no-such-terminal", END_FREE, NULL, false);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	assert_true(shown("'no-such-terminal' is not known"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(live_80x24_tells_what_matters, live_setup,
						live_teardown),
		cmocka_unit_test_setup_teardown(live_fits_any_size, live_setup, live_teardown),
		cmocka_unit_test_setup_teardown(live_details_show_the_cycle_and_the_stacks,
						live_setup, live_teardown),
		cmocka_unit_test_setup_teardown(live_sorts_devices, live_setup, live_teardown),
		cmocka_unit_test(percentiles_are_upper_bounds),
		cmocka_unit_test(the_terminal_is_put_back_however_it_ends),
		cmocka_unit_test(common_terminals_work),
		cmocka_unit_test(a_terminal_without_cursor_is_refused_in_a_sentence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
