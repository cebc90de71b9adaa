/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A control command of ublk as the kernel holds it; only what our programs read, relocated by
 * CO-RE. */
#ifndef GFS_BPF_UBLK_CTRL_BPF_H
#define GFS_BPF_UBLK_CTRL_BPF_H

/* What the driver answers inline, if it is asked there, before an io-wq thread enters it again with
 * the same command. */
#define EAGAIN 11

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct io_uring_sqe {
	__u64 addr3; /* the command's payload starts here */
};

struct io_uring_cmd {
	const struct io_uring_sqe *sqe;
	__u32 cmd_op;
};
#pragma clang attribute pop

#endif
