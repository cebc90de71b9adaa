// SPDX-License-Identifier: GPL-2.0-or-later
/* The main screen of the live view, and its keys; see live_view.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tracing/live_screen.h"
#include "tracing/out.h"

static const char *const sort_name[SORT_NR] = {
	[SORT_OLDEST] = "oldest request",
	[SORT_DEV] = "device",
	[SORT_IN_FLIGHT] = "in flight",
	[SORT_P99] = "p99",
};

uint64_t live_percentile_us(const uint64_t bucket[REC_HIST_BUCKETS], unsigned int percent)
{
	uint64_t total = 0, seen = 0;

	for (unsigned int i = 0; i < REC_HIST_BUCKETS; i++)
		total += bucket[i];
	if (!total)
		return 0;
	for (unsigned int i = 0; i < REC_HIST_BUCKETS; i++) {
		seen += bucket[i];
		/* seen / total >= percent / 100, without overflow */
		if ((double)seen * 100.0 >= (double)total * percent)
			return 2ull << i;
	}
	return 2ull << (REC_HIST_BUCKETS - 1);
}

void screen_clear(struct live_screen *s)
{
	s->rows = MIN(s->rows, LIVE_ROWS_MAX);
	s->cols = MIN(s->cols, LIVE_COLS_MAX);
	for (unsigned int y = 0; y < s->rows; y++) {
		memset(s->text[y], ' ', s->cols);
		s->text[y][s->cols] = '\0';
		memset(s->style[y], LS_NORMAL, s->cols);
	}
}

unsigned int screen_put(struct live_screen *s, unsigned int y, unsigned int x,
			enum live_style style, const char *fmt, ...)
{
	char buf[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (y >= s->rows)
		return x;
	for (const char *p = buf; *p && x < s->cols; p++) {
		/* The tail of a UTF-8 character: its head is a '?' already. */
		if (((unsigned char)*p & 0xc0) == 0x80)
			continue;
		s->text[y][x] = *p >= 0x20 && *p < 0x7f ? *p : '?';
		s->style[y][x++] = (uint8_t)style;
	}
	return x;
}

void screen_fill(struct live_screen *s, unsigned int y, enum live_style style)
{
	if (y < s->rows)
		memset(s->style[y], style, s->cols);
}

const char *live_age(uint64_t now_ns, uint64_t then_ns, char buf[24])
{
	if (!then_ns)
		return "-";
	return duration_text(now_ns > then_ns ? now_ns - then_ns : 0, buf);
}

static const char *us_text(uint64_t us, char buf[24])
{
	if (!us)
		return "-";
	if (us < 1000)
		snprintf(buf, 24, "%" PRIu64 "us", us);
	else if (us < 1000 * 1000)
		snprintf(buf, 24, us < 10000 ? "%.1fms" : "%.0fms", (double)us / 1e3);
	else
		snprintf(buf, 24, "%.1fs", (double)us / 1e6);
	return buf;
}

/* Begins in time order: the smaller, not 0, first. */
static int age_cmp(uint64_t a, uint64_t b)
{
	if (!a || !b)
		return a ? -1 : b ? 1 : 0;
	return a < b ? -1 : a > b;
}

static int dev_cmp(const struct live_dev *a, const struct live_dev *b, enum live_sort sort)
{
	int r = 0;

	switch (sort) {
	case SORT_OLDEST:
		r = age_cmp(a->oldest_ns, b->oldest_ns);
		break;
	case SORT_IN_FLIGHT:
		r = a->in_flight > b->in_flight ? -1 : a->in_flight < b->in_flight;
		break;
	case SORT_P99:
		r = a->p99_us > b->p99_us ? -1 : a->p99_us < b->p99_us;
		break;
	case SORT_DEV:
	case SORT_NR:
		break;
	}
	if (r)
		return r;
	return a->dev.dev < b->dev.dev ? -1 : a->dev.dev > b->dev.dev;
}

#define SORT_BY(name, sort)                                          \
	static int name(const void *a, const void *b)                \
	{                                                            \
		return dev_cmp((const struct live_dev *)a, b, sort); \
	}
SORT_BY(by_oldest, SORT_OLDEST)
SORT_BY(by_dev, SORT_DEV)
SORT_BY(by_in_flight, SORT_IN_FLIGHT)
SORT_BY(by_p99, SORT_P99)

static void sort_devs(struct live_data *d, enum live_sort sort)
{
	static int (*const cmp[SORT_NR])(const void *, const void *) = {
		[SORT_OLDEST] = by_oldest,
		[SORT_DEV] = by_dev,
		[SORT_IN_FLIGHT] = by_in_flight,
		[SORT_P99] = by_p99,
	};

	qsort(d->dev, d->nr_devs, sizeof(d->dev[0]), cmp[sort]);
}

/* Index of the selected finding; the first if it is gone. */
unsigned int live_selected(const struct live_view *v, const struct live_data *d)
{
	for (unsigned int i = 0; i < d->nr_findings; i++)
		if (d->finding[i]->id == v->selected)
			return i;
	return 0;
}

static void header(const struct live_view *v, const struct live_data *d, struct live_screen *s)
{
	const struct rec_counts *c = d->counts;
	char up[24], clock[32] = "";
	bool lost = c && (c->dropped || c->unmatched_cmds || c->unmatched_freezes);
	unsigned int x;

	screen_fill(s, 0, LS_HEAD);
	x = screen_put(s, 0, 1, LS_HEAD, "gfs-trace  %s", d->meta ? d->meta->kernel : "");
	if (d->meta && d->meta->wall_ns && v->began_ns) {
		time_t t = (time_t)((d->meta->wall_ns + (d->now_ns - v->began_ns)) / NSEC_PER_SEC);
		struct tm tm;

		if (localtime_r(&t, &tm))
			strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	}
	screen_put(s, 0, x + 2, LS_HEAD, "%s  %s%s", clock,
		   v->began_ns ? live_age(d->now_ns, v->began_ns, up) : "",
		   v->paused ? "  PAUSED" : "");
	if (!c) {
		screen_put(s, 1, 1, LS_DIM, "no counts yet");
		return;
	}
	screen_put(s, 1, 1, lost ? LS_WARNING : LS_DIM,
		   "events %" PRIu64 "  dropped %" PRIu64 "  unmatched %" PRIu64 "  spans %" PRIu64
		   "  not joined %" PRIu64 "/%" PRIu64,
		   c->events, c->dropped, c->unmatched_cmds + c->unmatched_freezes, c->spans,
		   c->spans_unmatched, c->kernel_unmatched);
}

static unsigned int title(struct live_screen *s, unsigned int y, const char *name,
			  unsigned int shown, unsigned int all, const char *rest)
{
	unsigned int x;

	screen_fill(s, y, LS_TITLE);
	if (shown < all)
		x = screen_put(s, y, 0, LS_TITLE, "%s %u of %u", name, shown, all);
	else
		x = screen_put(s, y, 0, LS_TITLE, "%s %u", name, all);
	screen_put(s, y, x, LS_TITLE, "%s", rest);
	return y + 1;
}

/* Columns of the devices; the volume takes what is left. */
static unsigned int volume_width(const struct live_screen *s)
{
	return MIN(s->cols - 64, 40u);
}

static unsigned int draw_devs(struct live_view *v, const struct live_data *d, struct live_screen *s,
			      unsigned int y, unsigned int rows)
{
	unsigned int from = MIN(v->dev_from, d->nr_devs > rows ? d->nr_devs - rows : 0);
	unsigned int n = MIN(d->nr_devs - from, rows), w = volume_width(s);
	char rest[64];

	v->dev_from = from;
	snprintf(rest, sizeof(rest), "   by %s", sort_name[v->sort]);
	y = title(s, y, "DEVICES", n, d->nr_devs + d->more_devs, rest);
	screen_put(s, y++, 1, LS_DIM, "%-9s%-*s %-9s%-16s%5s%9s%7s%7s", "device", (int)w, "volume",
		   "state", "server", "infl", "oldest", "p50<", "p99<");
	for (unsigned int i = 0; i < n; i++, y++) {
		const struct live_dev *e = &d->dev[from + i];
		bool bad = e->dev.state == DEV_QUIESCED || e->dev.state == DEV_FAIL_IO;
		char age[24], p50[24], p99[24], name[16], server[40] = "-";

		snprintf(name, sizeof(name), "ublkb%d", e->dev.dev);
		if (e->dev.tgid)
			snprintf(server, sizeof(server), "%.8s/%u", e->dev.comm, e->dev.tgid);
		screen_put(s, y, 1, bad ? LS_WARNING : LS_NORMAL,
			   "%-9.8s%-*.*s %-9.8s%-16.15s%5u%9s%7s%7s", name, (int)w, (int)w,
			   e->dev.volume, rec_dev_state_name(e->dev.state), server, e->in_flight,
			   live_age(d->now_ns, e->oldest_ns, age), us_text(e->p50_us, p50),
			   us_text(e->p99_us, p99));
	}
	return y;
}

/* When the command came to the stage it is in. */
static uint64_t stage_since(const struct rec_cmd *c)
{
	const uint64_t at[] = {c->submit_ns,   c->punt_ns,        c->worker_ns,       c->ctrl_ns,
			       c->add_disk_ns, c->elevator_ns,    c->elevator_end_ns, c->scan_ns,
			       c->scan_end_ns, c->add_disk_end_ns};
	uint64_t latest = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++)
		latest = MAX(latest, at[i]);
	return latest;
}

static unsigned int draw_open(const struct live_data *d, struct live_screen *s, unsigned int y,
			      unsigned int rows)
{
	unsigned int all = d->nr_cmds + d->nr_freezes + d->more_open, left = rows;
	char age[24], stage_age[24], name[24], dev[16];

	y = title(s, y, "OPEN", MIN(rows, all), all, "   commands and freezes");
	for (unsigned int i = 0; i < d->nr_cmds && left; i++, left--) {
		const struct rec_cmd *c = d->cmd[i];

		snprintf(dev, sizeof(dev), c->dev < 0 ? "-" : "ublkb%d", c->dev);
		screen_put(s, y++, 1, LS_NORMAL, "%-9.8s%-16s%-11s%10s  %s/%u  in stage %s", dev,
			   rec_cmd_name(c->nr, name), rec_cmd_stage(c),
			   live_age(d->now_ns, c->submit_ns, age), c->comm, c->tgid,
			   live_age(d->now_ns, stage_since(c), stage_age));
	}
	for (unsigned int i = 0; i < d->nr_freezes && left; i++, left--) {
		const struct rec_freeze *z = d->freeze[i];
		bool waits = z->wait_ns && !z->wait_end_ns;

		snprintf(dev, sizeof(dev), z->dev < 0 ? "-" : "ublkb%d", z->dev);
		screen_put(s, y++, 1, waits ? LS_WARNING : LS_NORMAL, "%-9.8s%-16s%-11s%10s  %s/%u",
			   dev, "freeze", waits ? "wait" : "frozen",
			   live_age(d->now_ns, z->start_ns, age), z->comm, z->tid);
	}
	if (!all)
		screen_put(s, y++, 1, LS_DIM, "nothing");
	return y;
}

static void draw_findings(const struct live_view *v, const struct live_data *d,
			  struct live_screen *s, unsigned int y, unsigned int rows)
{
	unsigned int sel = live_selected(v, d), from = sel >= rows ? sel - rows + 1 : 0;
	unsigned int n = MIN(d->nr_findings - from, rows);

	y = title(s, y, "FINDINGS", n, d->nr_findings + d->more_findings, "   Enter shows one");
	if (!d->nr_findings)
		screen_put(s, y, 1, LS_GOOD, "none: nothing waits longer than its budget");
	for (unsigned int i = 0; i < n; i++, y++) {
		const struct finding *f = d->finding[from + i];
		enum live_style style = f->end_ns                     ? LS_DIM
					: f->severity == SEV_CRITICAL ? LS_CRITICAL
								      : LS_WARNING;
		char age[24], dev[16] = "-";
		bool on = from + i == sel;

		if (on) {
			style = LS_SELECTED;
			screen_fill(s, y, style);
		}
		if (f->dev >= 0)
			snprintf(dev, sizeof(dev), "ublkb%d", f->dev);
		screen_put(s, y, 0, style, "%c%s %-27s%-4s %-9.8s%9s %-5s %s", on ? '>' : ' ',
			   f->severity == SEV_CRITICAL ? "!!" : " !", verdict_name(f->verdict),
			   f->catalogue ? f->catalogue : "", dev,
			   live_age(f->end_ns ? f->end_ns : d->now_ns, f->since_ns, age),
			   f->end_ns ? "ended" : "open", f->summary);
	}
}

/* Lines of each section: at least one each; findings and open things first, devices take the rest.
 */
static void share(const struct live_data *d, unsigned int room, unsigned int rows[3])
{
	const unsigned int want[3] = {MAX(1, d->nr_devs), MAX(1, d->nr_cmds + d->nr_freezes),
				      MAX(1, d->nr_findings)};
	const unsigned int limit[3] = {room, MAX(1, room / 4), MAX(1, room * 2 / 5)};

	rows[1] = MIN(want[1], limit[1]);
	rows[2] = MIN(want[2], limit[2]);
	rows[0] = MIN(want[0], room - rows[1] - rows[2]);
	/* What the devices do not need. */
	rows[2] = MIN(want[2], room - rows[0] - rows[1]);
	rows[1] = MIN(want[1], room - rows[0] - rows[2]);
}

void live_render(struct live_view *v, struct live_data *d, struct live_screen *s)
{
	unsigned int rows[3], y = 2;

	screen_clear(s);
	if (s->rows < LIVE_ROWS_MIN || s->cols < LIVE_COLS_MIN) {
		screen_put(s, 0, 0, LS_WARNING, "at least %ux%u, please", LIVE_COLS_MIN,
			   LIVE_ROWS_MIN);
		return;
	}
	sort_devs(d, v->sort);
	header(v, d, s);
	if (v->help) {
		live_render_help(s);
	} else if (v->details && d->nr_findings) {
		live_render_details(v, d, s);
	} else {
		/* header 2, titles 3, columns 1, keys 1 */
		share(d, s->rows - 7, rows);
		y = draw_devs(v, d, s, y, rows[0]);
		y = draw_open(d, s, y, rows[1]);
		draw_findings(v, d, s, y, rows[2]);
		screen_put(s, s->rows - 1, 0, LS_DIM,
			   " j/k select  Enter details  s sort  PgUp/PgDn devices  p %s  ? help  q "
			   "quit",
			   v->paused ? "go on" : "pause");
	}
}

static void move_selection(struct live_view *v, const struct live_data *d, int by)
{
	int i = (int)live_selected(v, d) + by;

	if (d->nr_findings)
		v->selected = d->finding[MAX(0, MIN(i, (int)d->nr_findings - 1))]->id;
}

/* Lines in the details, devices in the main screen. */
static void page(struct live_view *v, int by)
{
	unsigned int *pos = v->details ? &v->scroll : &v->dev_from;

	*pos = by < 0 && *pos < (unsigned int)-by ? 0 : *pos + (unsigned int)by;
}

bool live_view_key(struct live_view *v, const struct live_data *d, int key)
{
	bool was_open = v->help || v->details;

	switch (key) {
	case 'q':
	case LIVE_KEY_ESC:
		if (!was_open)
			return key != 'q';
		v->details = v->details && v->help;
		v->help = false;
		break;
	case '?':
		v->help = !v->help;
		break;
	case 'p':
		v->paused = !v->paused;
		break;
	case 's':
		v->sort = (v->sort + 1) % SORT_NR;
		v->dev_from = 0;
		break;
	case 'j':
	case LIVE_KEY_DOWN:
	case 'k':
	case LIVE_KEY_UP: {
		int by = key == 'j' || key == LIVE_KEY_DOWN ? 1 : -1;

		if (v->details)
			page(v, by);
		else
			move_selection(v, d, by);
		break;
	}
	case LIVE_KEY_PGDN:
	case ' ':
		page(v, 10);
		break;
	case LIVE_KEY_PGUP:
	case 'b':
		page(v, -10);
		break;
	case 'n':
		move_selection(v, d, 1);
		v->scroll = 0;
		break;
	case LIVE_KEY_ENTER:
		if (d->nr_findings && !v->help) {
			v->selected = d->finding[live_selected(v, d)]->id;
			v->details = !v->details;
			v->scroll = 0;
		}
		break;
	default:
		break;
	}
	return true;
}
