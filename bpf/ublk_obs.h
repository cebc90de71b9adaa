/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Record shared by bpf/ublk_obs.bpf.c and selftests/bench/ublk_obs.c. */
#ifndef GFS_BPF_UBLK_OBS_H
#define GFS_BPF_UBLK_OBS_H

#include <linux/types.h>

enum obs_kind { OBS_COMMAND, OBS_ELEVATOR_SWITCH };

struct obs_event {
	__u64 start_ns, end_ns; /* CLOCK_MONOTONIC */
	__u32 kind;
	__u32 op; /* UBLK_U_CMD_* or the old number; of a switch: the command it is part of, or 0 */
	__u32 dev_id;
	__u32 tgid;
	__s32 res;
};

#endif
