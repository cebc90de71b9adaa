/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the daemon does to its own process before and around the real work: locks, limits,
 * scheduling promises to the kernel, service-manager messages. Used by glidefsd.c only, mostly
 * before threads start.
 */
#ifndef GFS_CONTROL_STARTUP_H
#define GFS_CONTROL_STARTUP_H

#include "engine/format.h"

/*
 * Take the exclusive lock on dir/lock (dir is created), waiting up to wait_s: the last writes of a
 * killed predecessor hold it for seconds (storage rule 17). The fd, or -errno with a sentence that
 * names the holder.
 */
int state_lock(const char *dir, unsigned int wait_s, struct fmt_err *err) __must_check;

/* No file size, descriptor or locked-memory limit below what thousands of devices need. Warns. */
void limits_raise(void);
/*
 * Being in the guests' write-back path (storage rule 19): PR_SET_IO_FLUSHER, locked memory. Before
 * threads start. Warns with the consequence when refused.
 */
void reclaim_protect(void);

/* Tell the service manager ("READY=1", "STOPPING=1", "STATUS=..."); nothing if there is none. Any
 * thread. */
void service_notify(const char *fmt, ...) __printf(1, 2);

#endif
