/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads of /proc that may hang. The memory map of a process (cmdline, maps, …) is read under its
 * mmap_lock, and that lock may be held, or be waited for, by exactly the thread that hangs: what ps
 * does there, it does for ever. Such a read runs in a thread of its own and is left behind at its
 * deadline. Any thread.
 */
#ifndef GFS_TRACING_GUARD_H
#define GFS_TRACING_GUARD_H

#include "lib/util.h"

#define GUARD_TIMEOUT_MS 200

/*
 * The file whole, at most max bytes of it, into a malloc'ed, NUL-terminated buffer (caller frees).
 * 0; -ETIMEDOUT: it did not come, and a thread waits for it until it comes or the program ends;
 * -EBUSY: too many such threads already, not tried; -errno.
 */
int guard_read(const char *path, size_t max, unsigned int timeout_ms, char **data,
	       size_t *len) __must_check;
/* Reads left behind that have not come back. */
unsigned int guard_stuck(void);

#endif
