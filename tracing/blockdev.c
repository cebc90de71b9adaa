// SPDX-License-Identifier: GPL-2.0-or-later
/* The daemon's knowledge of block devices, for the tracer; see blockdev.h. */
#include "tracing/blockdev.h"

#include "ublk/ublk_priv.h"

bool blockdev_is_ublk(unsigned int major, unsigned int minor, int *dev)
{
	return block_is_ublk(major, minor, dev);
}

struct call {
	void (*fn)(void *ctx, const struct blockdev_mount *m);
	void *ctx;
};

static int one_mount(const struct mount_entry *m, void *arg)
{
	const struct call *c = arg;
	struct blockdev_mount b = {.major = m->major,
				   .minor = m->minor,
				   .mount_point = m->mount_point,
				   .source = m->source};

	c->fn(c->ctx, &b);
	return 0;
}

int blockdev_mounts(const char *mountinfo, void (*fn)(void *ctx, const struct blockdev_mount *m),
		    void *ctx)
{
	struct call c = {fn, ctx};

	return mounts_for_each(mountinfo, one_mount, &c);
}
