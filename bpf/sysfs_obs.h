/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Record shared by bpf/sysfs_obs.bpf.c and selftests/bench/sysfs_obs.c. */
#ifndef GFS_BPF_SYSFS_OBS_H
#define GFS_BPF_SYSFS_OBS_H

#include <linux/types.h>

struct sysfs_event {
	__u32 tgid;
	char comm[16];
	char dir[32], file[32];
};

#endif
