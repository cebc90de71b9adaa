/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Processes that a session looks at: stacks of threads that wait or serve, and the open spans of
 * daemons. Each is told at most twice a second. One thread.
 */
#ifndef GFS_TRACING_WATCH_H
#define GFS_TRACING_WATCH_H

#include "tracing/hooks.h"

struct watch;

/* h is borrowed. fn gets records; on_volume which volume a device serves, as its daemon says.
 * -errno. */
int watch_new(struct hooks *h, void (*fn)(void *ctx, const struct rec *r),
	      void (*on_volume)(void *ctx, int32_t dev, const char *volume), void *ctx,
	      struct watch **out) __must_check;
void watch_free(struct watch *w);
/* Tell thread `tid` as REC_TASK, with its user stack if `user`; and the parents that link it to
 * other tasks. */
void watch_task(struct watch *w, uint32_t tid, bool user, uint64_t now);
/* Process pid serves devices: tell its open spans (first time: look whether it has any), once for
 * each `now`. */
void watch_daemon(struct watch *w, uint32_t pid, uint64_t now);
/* It ended. */
void watch_forget(struct watch *w, uint32_t pid);
/* The task_struct of a thread, 0 = none. */
uint64_t watch_task_addr(struct watch *w, uint32_t tid);

#endif
