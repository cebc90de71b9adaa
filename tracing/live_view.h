/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the live view shows, as lines of characters: pure functions from data and the state of the
 * view to a screen, without a terminal. live.c paints the screen. One thread.
 */
#ifndef GFS_TRACING_LIVE_VIEW_H
#define GFS_TRACING_LIVE_VIEW_H

#include "tracing/model.h"

#define LIVE_ROWS_MIN 10
#define LIVE_COLS_MIN 72
#define LIVE_ROWS_MAX 200
#define LIVE_COLS_MAX 300

#define LIVE_DEVS     512
#define LIVE_OPEN     64
#define LIVE_FINDINGS 128

enum live_style {
	LS_NORMAL,
	LS_TITLE,
	LS_HEAD,
	LS_DIM,
	LS_WARNING,
	LS_CRITICAL,
	LS_SELECTED,
	LS_GOOD,
	LS_NR
};

struct live_screen {
	unsigned int rows, cols; /* at most the MAX above */
	/* Printable ASCII, padded with blanks to cols, NUL behind. */
	char text[LIVE_ROWS_MAX][LIVE_COLS_MAX + 1];
	uint8_t style[LIVE_ROWS_MAX][LIVE_COLS_MAX];
};

/* A device, with what was counted about it. */
struct live_dev {
	struct rec_dev dev;
	unsigned int in_flight;
	uint64_t oldest_ns;      /* start of its oldest request, 0 = none */
	uint64_t p50_us, p99_us; /* upper bounds; 0 = nothing measured */
};

/* What there is to show. The pointers live as long as the caller says. */
struct live_data {
	uint64_t now_ns;
	const struct rec_meta *meta;     /* or NULL */
	const struct rec_counts *counts; /* or NULL */
	struct live_dev dev[LIVE_DEVS];
	const struct rec_cmd *cmd[LIVE_OPEN];
	const struct rec_freeze *freeze[LIVE_OPEN];
	const struct finding
		*finding[LIVE_FINDINGS]; /* newest first, open ones before ended ones */
	unsigned int nr_devs, nr_cmds, nr_freezes, nr_findings;
	unsigned int more_devs, more_open, more_findings; /* did not fit */
};

enum live_sort { SORT_OLDEST, SORT_DEV, SORT_IN_FLIGHT, SORT_P99, SORT_NR };

/* Keys that are no characters. */
enum live_key {
	LIVE_KEY_UP = 0x1000,
	LIVE_KEY_DOWN,
	LIVE_KEY_PGUP,
	LIVE_KEY_PGDN,
	LIVE_KEY_ENTER,
	LIVE_KEY_ESC
};

/* State of the view; zero at the beginning. */
struct live_view {
	uint64_t selected; /* id of the finding, 0 = the first */
	bool details, help, paused;
	unsigned int scroll;   /* of the details */
	unsigned int dev_from; /* first device shown */
	enum live_sort sort;
	uint64_t began_ns; /* of the session, 0 = unknown */
};

/* Draw everything. s->rows and s->cols are given. v is corrected to what d has. */
void live_render(struct live_view *v, struct live_data *d, struct live_screen *s);
/* A key was pressed: false = leave. */
bool live_view_key(struct live_view *v, const struct live_data *d, int key);
/* Upper bound in us of the bucket in which the percentile lies; 0 without samples. */
uint64_t live_percentile_us(const uint64_t bucket[REC_HIST_BUCKETS], unsigned int percent);

#endif
