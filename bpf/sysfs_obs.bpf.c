// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Outside observer of writes to sysfs: one record per write that goes through kernfs, with the
 * file's name and its directory's. cgroup files are kernfs too; the reader tells them apart by the
 * writer.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/sysfs_obs.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

struct kiocb {
	struct file *ki_filp;
};
#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} events SEC(".maps");

__u64 dropped;

SEC("fentry/kernfs_fop_write_iter")
int BPF_PROG(sysfs_write, struct kiocb *iocb)
{
	struct sysfs_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	struct dentry *d;

	if (!e) {
		__sync_fetch_and_add(&dropped, 1);
		return 0;
	}
	e->tgid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	d = BPF_CORE_READ(iocb, ki_filp, f_path.dentry);
	bpf_probe_read_kernel_str(e->file, sizeof(e->file), BPF_CORE_READ(d, d_name.name));
	bpf_probe_read_kernel_str(e->dir, sizeof(e->dir), BPF_CORE_READ(d, d_parent, d_name.name));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
