/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the parts of the live view: writing into a screen. One thread. */
#ifndef GFS_TRACING_LIVE_SCREEN_H
#define GFS_TRACING_LIVE_SCREEN_H

#include "tracing/live_view.h"

void screen_clear(struct live_screen *s);
/*
 * Put text at a place; what does not fit is cut, what is not printable ASCII becomes '?'. Returns
 * the column behind it.
 */
unsigned int screen_put(struct live_screen *s, unsigned int y, unsigned int x,
			enum live_style style, const char *fmt, ...) __printf(5, 6);
/* Give a whole line a style. */
void screen_fill(struct live_screen *s, unsigned int y, enum live_style style);
/* "3.21 s" since then; "-" for 0. */
const char *live_age(uint64_t now_ns, uint64_t then_ns, char buf[24]);
unsigned int live_selected(const struct live_view *v, const struct live_data *d);

/* Whole screens, below the two lines of the header. */
void live_render_details(struct live_view *v, const struct live_data *d, struct live_screen *s);
void live_render_help(struct live_screen *s);

#endif
