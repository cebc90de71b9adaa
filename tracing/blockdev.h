/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the daemon's device layer knows about block devices and mounts, for programs that are not
 * the daemon: its header has names that clash with those of records. No state; any thread.
 */
#ifndef GFS_TRACING_BLOCKDEV_H
#define GFS_TRACING_BLOCKDEV_H

#include "lib/util.h"

/* Is the block device a ublk disk, a partition of one, or built on one? *dev (may be NULL): which.
 */
bool blockdev_is_ublk(unsigned int major, unsigned int minor, int *dev);

struct blockdev_mount {
	unsigned int major, minor;
	const char *mount_point, *source; /* unescaped; valid during the call */
};
/* Call fn for each line of a mountinfo file. 0 or -errno. */
int blockdev_mounts(const char *mountinfo, void (*fn)(void *ctx, const struct blockdev_mount *m),
		    void *ctx) __must_check;

#endif
