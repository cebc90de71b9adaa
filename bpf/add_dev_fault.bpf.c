// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Fault injector for tests: while armed, each ADD_DEV of the process `tgid` is refused by the
 * driver, because the device info it is about to read asks for no queue at all.
 *
 * Stock kernels have no FAULT_INJECTION; what the driver sees of a command is in the server's
 * memory, and the command runs in a thread of that process.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/ublk_ctrl.bpf.h"

#define UBLK_CMD_ADD_DEV_NR 0x04
/* Of struct ublksrv_ctrl_cmd (user API). */
#define CTRL_CMD_ADDR 8

__u32 tgid;
__u64 struck;

SEC("fentry/ublk_ctrl_uring_cmd")
int BPF_PROG(ctrl_enter, struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	const struct io_uring_sqe *sqe;
	__u64 info = 0;
	__u16 none = 0;

	if (bpf_get_current_pid_tgid() >> 32 != tgid ||
	    (BPF_CORE_READ(cmd, cmd_op) & 0xff) != UBLK_CMD_ADD_DEV_NR)
		return 0;
	sqe = BPF_CORE_READ(cmd, sqe);
	bpf_core_read(&info, sizeof(info), (const char *)&sqe->addr3 + CTRL_CMD_ADDR);
	/* nr_hw_queues is the first member of struct ublksrv_ctrl_dev_info. */
	if (!bpf_probe_write_user((void *)info, &none, sizeof(none)))
		__sync_fetch_and_add(&struck, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
