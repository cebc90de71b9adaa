// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Storage rule 20: the daemon lives in a mount namespace of its own, in which no ublk device is
 * mounted. A daemon that shares a namespace with a mount of its own device can deadlock when it
 * exits; unshare alone copies such mounts, and a slave namespace would receive new ones.
 */
#include "ublk/ublk_priv.h"

#include "lib/log.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#define PASSES_MAX 64 /* mounts stacked on one another */

struct detach {
	unsigned int done, failed;
	int error;
	char first[120];
};

static int detach_ublk(const struct mount_entry *m, void *arg)
{
	struct detach *d = arg;

	if (!block_is_ublk(m->major, m->minor, NULL) &&
	    strncmp(m->source, "/dev/ublkb", strlen("/dev/ublkb")) != 0)
		return 0;
	if (umount2(m->mount_point, MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
		log_debug("mount of %s on %s detached from our namespace", m->source,
			  m->mount_point);
		d->done++;
	} else if (errno != EINVAL && errno != ENOENT) {
		d->error = -errno;
		d->failed++;
		snprintf(d->first, sizeof(d->first), "%s", m->mount_point);
	} else {
		/* Gone with the mount above it; or hidden below one that goes in this pass. */
		d->failed++;
	}
	return 0;
}

int ublk_mount_namespace(struct fmt_err *err)
{
	struct detach d = {0};
	int r;

	if (unshare(CLONE_NEWNS) < 0) {
		r = -errno;
		snprintf(err->msg, sizeof(err->msg), "cannot make a mount namespace: %s",
			 strerror(-r));
		return r;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		r = -errno;
		snprintf(err->msg, sizeof(err->msg), "cannot make mounts private: %s",
			 strerror(-r));
		return r;
	}
	/* A mount that covers another lets it be seen only after it is gone: until nothing changes.
	 */
	for (unsigned int pass = 0; pass < PASSES_MAX; pass++) {
		memset(&d, 0, sizeof(d));
		r = mounts_for_each("/proc/self/mountinfo", detach_ublk, &d);
		if (r < 0) {
			snprintf(err->msg, sizeof(err->msg), "cannot read mountinfo: %s",
				 strerror(-r));
			return r;
		}
		if (!d.done)
			break;
	}
	if (!d.failed)
		return 0;
	snprintf(err->msg, sizeof(err->msg), "cannot detach the ublk mount on %s: %s",
		 d.first[0] ? d.first : "?", strerror(d.error ? -d.error : EBUSY));
	return d.error ? d.error : -EBUSY;
}
