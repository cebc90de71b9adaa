/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublk devices as the driver has them now, read from kernel memory: which FETCHes are armed, which
 * requests are in flight and who has them. Exact whenever it is asked, also about what began before
 * anybody watched. Costs the kernel nothing between two questions. One thread.
 */
#ifndef GFS_TRACING_KDEV_H
#define GFS_TRACING_KDEV_H

#include "tracing/kallsyms.h"
#include "tracing/kmem.h"
#include "tracing/rec.h"

struct kdevs;

/* Borrows both. -ENOENT with a sentence in err: this kernel's driver cannot be read. */
int kdevs_open(struct kmem *k, const struct kallsyms *syms, struct kdevs **out, char *err,
	       size_t err_len) __must_check;
void kdevs_close(struct kdevs *d);

/* Ids of all devices, ascending, at most max. The number, or -errno. */
int kdevs_list(struct kdevs *d, int32_t *ids, size_t max) __must_check;
/*
 * A snapshot of device `dev`: REC_DEV, REC_QUEUE…, REC_REQ…, REC_SNAP_END, all with t_ns, to fn. 0;
 * -ENODEV: there is none; -EFAULT: it went away meanwhile (nothing was told).
 */
int kdevs_snapshot(struct kdevs *d, int32_t dev, uint64_t t_ns,
		   void (*fn)(void *ctx, const struct rec *r), void *ctx) __must_check;
/*
 * The control command that io-wq worker `tid` (its task_struct is found by the caller's means)
 * works on now: dev and cmd_op. For commands that were submitted before anybody watched. task:
 * address. 0; -ENOENT: none.
 */
int kdevs_worker_cmd(struct kdevs *d, uint64_t task, int32_t *dev, uint32_t *cmd_op) __must_check;

#endif
