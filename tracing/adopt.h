/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hung before anybody watched: threads that sleep in a control command or in the wait for a
 * freeze, found by their kernel stacks, told as commands and freezes that are "adopted" until their
 * stack says otherwise. One thread.
 */
#ifndef GFS_TRACING_ADOPT_H
#define GFS_TRACING_ADOPT_H

#include "tracing/kdev.h"
#include "tracing/watch.h"

struct adopt;

int adopt_new(struct adopt **out) __must_check;
void adopt_free(struct adopt *a);
/*
 * Look at all threads. kdevs may be NULL: then commands cannot be told. frozen_dev: which device a
 * freeze is probably about, -1 = unknown. since_ns: now, told as their beginning: what is known is
 * that they hang, not since when, and what only passes by must not look old.
 */
void adopt_find(struct adopt *a, struct watch *w, struct kdevs *kdevs,
		int32_t (*frozen_dev)(void *ctx), void *ctx, uint64_t since_ns);
/* The programs see what this thread does now: it is adopted no longer. */
void adopt_end(struct adopt *a, uint32_t tid);
/* Tell each of them; one that hangs no longer is told with its end, for the last time. */
void adopt_poll(struct adopt *a, uint64_t now,
		void (*fn)(void *ctx, const struct rec *r, uint32_t tid, bool hangs), void *ctx);

#endif
