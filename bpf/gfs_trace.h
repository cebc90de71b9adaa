/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs of gfs_trace.bpf.c and tracing/ share: values of maps and events of the ring
 * buffer. Times are CLOCK_MONOTONIC ns (bpf_ktime_get_ns).
 */
#ifndef GFS_BPF_GFS_TRACE_H
#define GFS_BPF_GFS_TRACE_H

#include <linux/types.h>

#define GT_COMM_LEN 16
#define GT_DISK_LEN 16 /* "ublkb123" */
#define GT_PEEK_MAX 65536

enum gt_event_kind { GT_CMD = 1, GT_FREEZE, GT_ATTR, GT_ELV, GT_SERVER, GT_SPAN };

struct gt_task {
	__u32 tgid, tid;
	char comm[GT_COMM_LEN];
};

/* Key of an open control command: the io_uring_cmd sits at the beginning of its request. */
struct gt_cmd_key {
	__u64 req;
	__u32 tgid, pad;
};

struct gt_cmd {
	__u32 kind;
	__s32 res;
	__u64 req;
	struct gt_task task; /* the one that works on it now */
	__u32 dev_id, cmd_op;
	__u32 submit_tid, worker_tid; /* threads of the first entry, and of io-wq */
	__u64 submit_ns, punt_ns, worker_ns, ctrl_ns;
	__u64 add_disk_ns, add_disk_end_ns, elevator_ns, elevator_end_ns, scan_ns, scan_end_ns;
	__u64 end_ns;
};

struct gt_freeze_key {
	__u64 q;
	__u32 tid, pad;
};

/* gt_freeze.flags: the outer function told of it, the inner one will too; the inner one undid it.
 */
#define GT_FREEZE_BY_OUTER 1
#define GT_FREEZE_UNDONE   2

struct gt_freeze {
	__u32 kind, depth;
	__u32 nest, flags; /* nest: times the thread froze it once more, not undone yet */
	__u64 q;
	struct gt_task task;
	char disk[GT_DISK_LEN];
	__u64 start_ns, wait_ns, wait_end_ns, end_ns;
};

/* Key: tid. */
struct gt_attr {
	__u32 kind;
	__s32 res;
	struct gt_task task;
	char disk[GT_DISK_LEN];
	char attr[32], value[48], cmdline[160];
	__u64 cmdline_len; /* of the arguments; cmdline holds the first of them, or what it can */
	__u64 start_ns, end_ns, freeze_ns;
};

/* Key: tid. */
struct gt_elv {
	__u32 kind, pad;
	struct gt_task task;
	__u64 q;
	char disk[GT_DISK_LEN];
	char from[20], to[20];
	__u64 start_ns, end_ns, freeze_ns;
};

struct gt_server {
	__u32 kind, gone; /* gone: let go of the char device */
	struct gt_task task;
	__u32 minor, pad; /* of /dev/ublkcN */
	__u64 at_ns;
};

/* A timing event of the daemon, as its probe gives it (lib/timing.c). */
struct gt_span {
	__u32 kind;
	__s32 result;
	__u32 pid;
	__s32 dev_id;
	__u64 op_id, start_ns, end_ns, bytes, io, sector, nsectors;
	char event[32], volume[128], key[256];
};

/* Latencies of the requests of one queue and kind, total, from allocation to end. */
struct gt_hist_key {
	__u64 q;
	__u32 op, pad; /* 'R', 'W', 'F', 'D', 'Z' */
};

struct gt_hist {
	char disk[GT_DISK_LEN];
	__u64 count, sum_ns;
	__u64 bucket[32]; /* [2^i, 2^(i+1)) us */
};

/* Argument of gt_peek: copies len bytes of kernel memory at addr to the peek map. */
struct gt_peek_args {
	__u64 addr;
	__u32 len;
	__s32 res;
};

/* What the task iterator tells of each thread. */
struct gt_regs {
	__u32 tid, tgid;
	__u64 task;  /* address of its task_struct */
	__u64 r[17]; /* rax rdx rcx rbx rsi rdi rbp rsp r8..r15 rip */
};

#endif
