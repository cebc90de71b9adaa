// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The live view's terminal: takes what is shown out of the model, paints screens with ncurses,
 * reads keys. What is shown is copied, because the model's pointers end with the next record and
 * keys come later.
 */
#include <curses.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>
#include <termios.h>

#include "tracing/live.h"
#include "tracing/live_view.h"
#include "tracing/timeline.h"

struct live {
	SCREEN *screen;
	struct live_view view;
	struct live_data data;
	struct live_screen image;
	struct rec_meta meta;
	struct rec_counts counts;
	struct rec_cmd cmd[LIVE_OPEN];
	struct rec_freeze freeze[LIVE_OPEN];
	struct finding
		*finding[LIVE_FINDINGS]; /* blocks for copies, as many as were needed so far */
	bool colors, drawn;
};

/*
 * What puts the terminal back in a signal handler, where ncurses may not be called: the settings it
 * had, and the strings that leave the full screen.
 */
static struct {
	volatile sig_atomic_t active;
	struct termios was;
	char leave[128];
	size_t leave_len;
} rescue;

static const int fatal_signals[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL, SIGABRT,
				    SIGHUP,  SIGQUIT, SIGINT, SIGTERM};
static struct sigaction old_action[ARRAY_SIZE(fatal_signals)];
static bool hooked[ARRAY_SIZE(fatal_signals)];

static void rescue_signal(int sig)
{
	if (rescue.active) {
		rescue.active = 0;
		if (write(STDOUT_FILENO, rescue.leave, rescue.leave_len) < 0)
			rescue.leave_len = 0;
		tcsetattr(STDOUT_FILENO, TCSANOW, &rescue.was);
	}
	/* SA_RESETHAND: the default action now. */
	raise(sig);
}

/* Only where nobody else cares for the signal: a handler of the program ends it in order. */
static void hook_signals(void)
{
	struct sigaction sa = {.sa_handler = rescue_signal,
			       .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};

	sigemptyset(&sa.sa_mask);
	for (unsigned int i = 0; i < ARRAY_SIZE(fatal_signals); i++) {
		hooked[i] = !sigaction(fatal_signals[i], NULL, &old_action[i]) &&
			    old_action[i].sa_handler == SIG_DFL &&
			    !sigaction(fatal_signals[i], &sa, NULL);
	}
}

static void unhook_signals(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		if (hooked[i])
			sigaction(fatal_signals[i], &old_action[i], NULL);
	memset(hooked, 0, sizeof(hooked));
}

/* The strings of the terminal in use; its settings were taken before curses changed them. */
static void rescue_strings(void)
{
	static const char *const name[] = {"sgr0", "cnorm", "rmcup"};

	rescue.leave_len = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(name); i++) {
		const char *s = tigetstr(name[i]);
		size_t len;

		if (!s || s == (char *)-1)
			continue;
		len = strlen(s);
		if (rescue.leave_len + len > sizeof(rescue.leave))
			continue;
		memcpy(rescue.leave + rescue.leave_len, s, len);
		rescue.leave_len += len;
	}
}

/* For exit() without live_free(). */
static void restore(void)
{
	if (!rescue.active)
		return;
	rescue.active = 0;
	endwin();
}

/* Can the terminal place the cursor? A sentence in err if not. */
static int check_terminal(char *err, size_t err_len)
{
	const char *term = getenv("TERM"), *s;
	int rc, known;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		snprintf(err, err_len,
			 "the live view needs a terminal; use `gfs-trace record` or `gfs-trace "
			 "check`");
		return -ENOTTY;
	}
	if (!term || !*term) {
		snprintf(err, err_len, "TERM is not set: the live view does not know the terminal");
		return -EINVAL;
	}
	rc = setupterm(NULL, STDOUT_FILENO, &known);
	if (rc != OK) {
		snprintf(err, err_len,
			 "the terminal type '%.40s' is not known here; set TERM, for example "
			 "TERM=xterm",
			 term);
		return -EINVAL;
	}
	s = tigetstr("cup");
	rc = s && s != (char *)-1 ? 0 : -EINVAL;
	del_curterm(cur_term);
	if (rc)
		snprintf(err, err_len,
			 "a terminal of type '%.40s' cannot place the cursor, which the live view "
			 "needs; "
			 "set TERM, or use `gfs-trace record`",
			 term);
	return rc;
}

static void init_colors(struct live *l)
{
	l->colors = has_colors() && start_color() == OK;
	if (!l->colors)
		return;
	use_default_colors();
	init_pair(LS_WARNING, COLOR_YELLOW, -1);
	init_pair(LS_CRITICAL, COLOR_RED, -1);
	init_pair(LS_GOOD, COLOR_GREEN, -1);
	init_pair(LS_TITLE, COLOR_CYAN, -1);
}

struct live *live_new(char *err, size_t err_len)
{
	static bool at_exit;
	struct live *l;

	if (check_terminal(err, err_len))
		return NULL;
	l = calloc(1, sizeof(*l));
	if (!l) {
		snprintf(err, err_len, "out of memory");
		return NULL;
	}
	rescue.active = !tcgetattr(STDOUT_FILENO, &rescue.was);
	l->screen = newterm(NULL, stdout, stdin);
	if (!l->screen) {
		snprintf(err, err_len, "the terminal cannot be used");
		rescue.active = 0;
		free(l);
		return NULL;
	}
	rescue_strings();
	if (!at_exit)
		at_exit = !atexit(restore);
	hook_signals();
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(25);
	curs_set(0);
	init_colors(l);
	return l;
}

void live_free(struct live *l)
{
	if (!l)
		return;
	unhook_signals();
	rescue.active = 0;
	endwin();
	delscreen(l->screen);
	for (unsigned int i = 0; i < LIVE_FINDINGS; i++)
		free(l->finding[i]);
	free(l);
}

/* Percentiles of a device: of the histogram over all operations, or of the sum of the single ones.
 */
static void take_latency(const struct model *m, struct live_dev *e)
{
	uint64_t sum[REC_HIST_BUCKETS] = {0};
	const struct rec_hist *h;

	for (size_t i = 0; (h = model_hist(m, i)); i++) {
		if (h->dev != e->dev.dev || strcmp(h->what, "total"))
			continue;
		if (h->op == '*') {
			memcpy(sum, h->bucket, sizeof(sum));
			break;
		}
		for (unsigned int b = 0; b < REC_HIST_BUCKETS; b++)
			sum[b] += h->bucket[b];
	}
	e->p50_us = live_percentile_us(sum, 50);
	e->p99_us = live_percentile_us(sum, 99);
}

static void take_devs(struct live *l, const struct model *m)
{
	struct live_data *d = &l->data;
	const struct rec_dev *dev;

	d->nr_devs = d->more_devs = 0;
	for (size_t i = 0; (dev = model_dev(m, i)); i++) {
		struct live_dev *e;
		const struct rec_req *q;

		if (dev->state == DEV_GONE)
			continue;
		if (d->nr_devs == LIVE_DEVS) {
			d->more_devs++;
			continue;
		}
		e = &d->dev[d->nr_devs++];
		*e = (struct live_dev){.dev = *dev};
		for (size_t k = 0; (q = model_req(m, dev->dev, k)); k++) {
			e->in_flight++;
			if (q->start_ns && (!e->oldest_ns || q->start_ns < e->oldest_ns))
				e->oldest_ns = q->start_ns;
		}
		take_latency(m, e);
	}
}

static void take_open(struct live *l, const struct model *m)
{
	struct live_data *d = &l->data;
	const struct rec_cmd *c;
	const struct rec_freeze *z;

	d->nr_cmds = d->nr_freezes = d->more_open = 0;
	for (size_t i = 0; (c = model_cmd(m, i)); i++) {
		if (d->nr_cmds == LIVE_OPEN) {
			d->more_open++;
			continue;
		}
		l->cmd[d->nr_cmds] = *c;
		d->cmd[d->nr_cmds] = &l->cmd[d->nr_cmds];
		d->nr_cmds++;
	}
	for (size_t i = 0; (z = model_freeze(m, i)); i++) {
		if (d->nr_freezes == LIVE_OPEN) {
			d->more_open++;
			continue;
		}
		l->freeze[d->nr_freezes] = *z;
		d->freeze[d->nr_freezes] = &l->freeze[d->nr_freezes];
		d->nr_freezes++;
	}
}

/* Open ones before ended ones, the newest first. */
static void take_findings(struct live *l, const struct model *m)
{
	struct live_data *d = &l->data;
	size_t all = model_nr_findings(m);

	d->nr_findings = 0;
	for (int ended = 0; ended <= 1; ended++) {
		for (size_t i = all; i-- > 0 && d->nr_findings < LIVE_FINDINGS;) {
			const struct finding *f = model_finding(m, i);
			struct finding **to = &l->finding[d->nr_findings];

			if (!f || (f->end_ns != 0) != (ended == 1))
				continue;
			if (!*to)
				*to = calloc(1, sizeof(**to));
			if (!*to)
				break;
			finding_copy(*to, f);
			d->finding[d->nr_findings++] = *to;
		}
	}
	d->more_findings = (unsigned int)(all - d->nr_findings);
}

static void take(struct live *l, const struct model *m, uint64_t now_ns)
{
	const struct rec_meta *meta = model_meta(m);
	const struct rec_counts *counts = model_counts(m);

	if (meta)
		l->meta = *meta;
	if (counts)
		l->counts = *counts;
	l->data.meta = meta ? &l->meta : NULL;
	l->data.counts = counts ? &l->counts : NULL;
	l->data.now_ns = now_ns;
	if (!l->view.began_ns)
		l->view.began_ns = now_ns;
	take_devs(l, m);
	take_open(l, m);
	take_findings(l, m);
	l->drawn = true;
}

static attr_t attributes(const struct live *l, enum live_style style)
{
	static const attr_t plain[LS_NR] = {
		[LS_TITLE] = A_BOLD,   [LS_HEAD] = A_REVERSE,  [LS_DIM] = A_DIM,
		[LS_WARNING] = A_BOLD, [LS_CRITICAL] = A_BOLD, [LS_SELECTED] = A_REVERSE,
		[LS_GOOD] = A_NORMAL,  [LS_NORMAL] = A_NORMAL,
	};
	bool colored = style == LS_WARNING || style == LS_CRITICAL || style == LS_GOOD ||
		       style == LS_TITLE;

	return plain[style] | (l->colors && colored ? (attr_t)COLOR_PAIR(style) : 0);
}

static void paint(const struct live *l)
{
	const struct live_screen *s = &l->image;

	erase();
	for (unsigned int y = 0; y < s->rows; y++) {
		for (unsigned int x = 0; x < s->cols;) {
			unsigned int n = 1;

			while (x + n < s->cols && s->style[y][x + n] == s->style[y][x])
				n++;
			attrset(attributes(l, s->style[y][x]));
			mvaddnstr((int)y, (int)x, s->text[y] + x, (int)n);
			x += n;
		}
	}
	attrset(A_NORMAL);
	refresh();
}

void live_draw(struct live *l, const struct model *m, uint64_t now_ns)
{
	if (m && (!l->view.paused || !l->drawn))
		take(l, m, now_ns);
	l->image.rows = (unsigned int)MAX(LINES, 1);
	l->image.cols = (unsigned int)MAX(COLS, 1);
	live_render(&l->view, &l->data, &l->image);
	paint(l);
}

/* Curses learns of a new size by SIGWINCH only if nobody else took it, so ask. */
static bool resized(void)
{
	struct winsize ws;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) || !ws.ws_row || !ws.ws_col)
		return false;
	if (ws.ws_row == LINES && ws.ws_col == COLS)
		return false;
	return resizeterm(ws.ws_row, ws.ws_col) == OK;
}

static int translate(int key)
{
	static const struct {
		int curses, ours;
	} map[] = {
		{KEY_UP, LIVE_KEY_UP},      {KEY_DOWN, LIVE_KEY_DOWN},   {KEY_PPAGE, LIVE_KEY_PGUP},
		{KEY_NPAGE, LIVE_KEY_PGDN}, {KEY_ENTER, LIVE_KEY_ENTER}, {'\n', LIVE_KEY_ENTER},
		{'\r', LIVE_KEY_ENTER},     {27, LIVE_KEY_ESC},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(map); i++)
		if (map[i].curses == key)
			return map[i].ours;
	return key;
}

int live_key(struct live *l)
{
	int last = resized() ? KEY_RESIZE : 0, key;

	while ((key = getch()) != ERR) {
		last = key;
		if (key == KEY_RESIZE)
			continue;
		/* 'L' redraws what something else wrote over. */
		if (key == 'L' || key == 12)
			clearok(curscr, TRUE);
		if (!live_view_key(&l->view, &l->data, translate(key)))
			return 'q';
	}
	/* Leaving is told only as above: a 'q' that closed the details is a key like others. */
	return last == 'q' ? KEY_ENTER : last;
}
