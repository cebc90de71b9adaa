/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The live view on a terminal, by ncurses. One thread. The terminal is put back by live_free(), at
 * exit(), and when a signal ends the program.
 */
#ifndef GFS_TRACING_LIVE_H
#define GFS_TRACING_LIVE_H

#include "tracing/model.h"

struct live;

/* NULL: err (a sentence) says why: no terminal, or one that cannot do it. At most one at a time. */
struct live *live_new(char *err, size_t err_len);
/*
 * Show the model as it is at now_ns (clock of the records). While paused the screen keeps what it
 * had. NULL: paint the same data again, after a key.
 */
void live_draw(struct live *l, const struct model *m, uint64_t now_ns);
/*
 * Takes the keys that were typed; never blocks. 0: none; 'q': the user wants to leave; else the
 * last key, and live_draw() should follow at once. A change of the window's size counts as a key.
 */
int live_key(struct live *l);
/* The terminal as it was. NULL is ignored. */
void live_free(struct live *l);

#endif
