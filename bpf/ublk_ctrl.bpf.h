/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A control command of ublk as the kernel holds it; only what our programs read, relocated by
 * CO-RE. */
#ifndef GFS_BPF_UBLK_CTRL_BPF_H
#define GFS_BPF_UBLK_CTRL_BPF_H

#include <stdbool.h>

/* What the driver answers inline, if it is asked there, before an io-wq thread enters it again with
 * the same command. */
#define EAGAIN 11

/* User API: io_uring's opcode; and of the driver's own, in one number space with type 'u', the
 * first that is no control command. */
#define IORING_OP_URING_CMD 46
#define UBLK_NR_IO_FIRST    0x20

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct io_uring_sqe {
	__u64 addr3; /* the command's payload starts here */
};

struct io_uring_cmd {
	const struct io_uring_sqe *sqe;
	__u32 cmd_op;
};
#pragma clang attribute pop

/* By its opcode, in the encoding of today. */
static __always_inline bool ublk_ctrl_op(__u32 cmd_op)
{
	return ((cmd_op >> 8) & 0xff) == 'u' && (cmd_op & 0xff) < UBLK_NR_IO_FIRST;
}

#endif
