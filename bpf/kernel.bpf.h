/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Types of the kernel that gfs_trace.bpf.c reads: only the members it needs, relocated by CO-RE. */
#ifndef GFS_BPF_KERNEL_BPF_H
#define GFS_BPF_KERNEL_BPF_H

#include "bpf/ublk_ctrl.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct io_cqe {
	__s32 res;
};

struct io_wq_work {
	int cancel_seq;
};

struct io_kiocb {
	__u8 opcode;
	struct io_cqe cqe;
	struct io_wq_work work;
};

struct elevator_type {
	const char *elevator_name;
};

struct elevator_queue {
	struct elevator_type *type;
};

struct blk_mq_ops {
	void *queue_rq;
};

struct kobject {
	const char *name;
};

struct gendisk {
	char disk_name[32];
	struct kobject queue_kobj;
};

struct request_queue {
	struct elevator_queue *elevator;
	const struct blk_mq_ops *mq_ops;
	struct gendisk *disk;
	int mq_freeze_depth;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	__u64 start_time_ns;
};

struct attribute {
	const char *name;
};

struct inode {
	unsigned int i_rdev;
};

struct mm_struct {
	unsigned long arg_start, arg_end;
};

struct task_struct {
	int pid, tgid;
	struct mm_struct *mm;
};

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip,
		cs, flags, sp, ss;
};

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
#pragma clang attribute pop

#endif
