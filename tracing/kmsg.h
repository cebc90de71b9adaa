/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel log, for oopses and hung-task reports that concern block devices. One thread; nothing
 * here blocks.
 */
#ifndef GFS_TRACING_KMSG_H
#define GFS_TRACING_KMSG_H

#include "tracing/rec.h"

struct kmsg;

/*
 * Open /dev/kmsg, at the oldest message or past the newest. 0; -EPERM or -EACCES (needs CAP_SYSLOG
 * or root), -errno; err says why.
 */
int kmsg_open(bool from_start, struct kmsg **out, char *err, size_t err_len) __must_check;
/* A reader without a file, that kmsg_feed feeds. NULL without memory. */
struct kmsg *kmsg_new(void);
void kmsg_close(struct kmsg *k);
/* For poll(2): readable when there is something; -1 without a file. */
int kmsg_fd(const struct kmsg *k);
/*
 * Read what there is and call fn with a REC_KMSG for each report, once per report, as soon as it is
 * known to concern block devices. Number of calls, or -errno. Messages that were overwritten
 * before they could be read are skipped and counted.
 */
int kmsg_poll(struct kmsg *k, void (*fn)(void *ctx, const struct rec *r), void *ctx) __must_check;
uint64_t kmsg_lost(const struct kmsg *k);
/* One record as /dev/kmsg gives it ("6,339,5140900,-;text"); number of calls, 0 or 1. */
int kmsg_feed(struct kmsg *k, const char *record, size_t len,
	      void (*fn)(void *ctx, const struct rec *r), void *ctx);

#endif
