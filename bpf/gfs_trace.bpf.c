// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What gfs-trace observes in the kernel. Everything that lasts has an entry in a hash map while it
 * is open, which user space polls: a thing that hangs is seen while it hangs. What ends goes to the
 * ring buffer. Requests are not followed one by one: their state is read from the driver's own
 * memory when somebody asks (gt_peek), so the I/O path pays for one small program per request,
 * the histogram.
 *
 * Each program is one hook of the table in tracing/hooks.c, which decides what is loaded. Nothing
 * here needs the types of the ublk module; the module may come later.
 *
 * A control command enters the driver in an io-wq thread of the server; if it was not submitted as
 * asynchronous, inline before, where it returns -EAGAIN. The io_uring_cmd is the same object, at
 * the beginning of its request.
 */
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
/* struct pt_regs is the kernel's, of kernel.bpf.h, not the one of user-space headers. */
#define __VMLINUX_H__
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/gfs_trace.h"
#include "bpf/kernel.bpf.h"

#define EIOCBQUEUED 529

#include <bpf/usdt.bpf.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct gt_cmd_key);
	__type(value, struct gt_cmd);
} cmds SEC(".maps");

/* tid -> the command it is in: for the stages inside. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct gt_cmd_key);
} cmd_of_tid SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct gt_freeze_key);
	__type(value, struct gt_freeze);
} freezes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct gt_attr);
} attrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct gt_elv);
} elvs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct gt_hist_key);
	__type(value, struct gt_hist);
} hists SEC(".maps");

/* Values too big for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gt_attr);
} scratch_attr SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct gt_hist);
} scratch_hist SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[GT_PEEK_MAX]);
} peek SEC(".maps");

/* Written by user space: address of ublk_queue_rq, 0 while the module is not there. */
__u64 ublk_queue_rq_addr;
/* Freezes, attribute writes and elevator switches that end sooner are not told. */
__u64 min_ns;
/* Read by user space. */
__u64 dropped;
__u64 unmatched_cmds;
__u64 unmatched_freezes;

static __always_inline void count(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static __always_inline void task_now(struct gt_task *t)
{
	__u64 id = bpf_get_current_pid_tgid();

	t->tgid = id >> 32;
	t->tid = (__u32)id;
	bpf_get_current_comm(t->comm, sizeof(t->comm));
}

static __always_inline bool is_ublk(struct request_queue *q)
{
	return ublk_queue_rq_addr &&
	       (__u64)BPF_CORE_READ(q, mq_ops, queue_rq) == ublk_queue_rq_addr;
}

static __always_inline void disk_name(struct request_queue *q, char *out)
{
	struct gendisk *disk = BPF_CORE_READ(q, disk);

	if (disk)
		bpf_probe_read_kernel_str(out, GT_DISK_LEN, &disk->disk_name);
}

/* ---- control commands ---- */

static __always_inline void cmd_tell(struct gt_cmd *c, __s32 res)
{
	struct gt_cmd *e;

	c->res = res;
	c->end_ns = bpf_ktime_get_ns();
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		__builtin_memcpy(e, c, sizeof(*e));
		bpf_ringbuf_submit(e, 0);
	} else {
		count(&dropped);
	}
}

/* A command of the current task that nobody knew. */
static __always_inline void cmd_fresh(struct gt_cmd *fresh, struct io_uring_cmd *cmd, __u64 now)
{
	const struct io_uring_sqe *sqe = BPF_CORE_READ(cmd, sqe);

	task_now(&fresh->task);
	fresh->req = (__u64)cmd;
	fresh->cmd_op = BPF_CORE_READ(cmd, cmd_op);
	bpf_core_read(&fresh->dev_id, sizeof(fresh->dev_id), &sqe->addr3);
	fresh->submit_tid = fresh->task.tid;
	fresh->submit_ns = now;
}

static __always_inline int ctrl_enter(struct io_uring_cmd *cmd)
{
	__u64 now = bpf_ktime_get_ns();
	struct gt_cmd_key key = {.req = (__u64)cmd};
	struct gt_cmd fresh = {.kind = GT_CMD}, *c;
	__u32 tid;

	cmd_fresh(&fresh, cmd, now);
	key.tgid = fresh.task.tgid;
	tid = fresh.task.tid;
	bpf_map_update_elem(&cmd_of_tid, &tid, &key, BPF_ANY);
	c = bpf_map_lookup_elem(&cmds, &key);
	if (c && !c->ctrl_ns && c->cmd_op == fresh.cmd_op && c->dev_id == fresh.dev_id) {
		c->task = fresh.task;
		c->ctrl_ns = now;
		return 0;
	}
	/*
	 * The request was used again before the last command in it returned: an older driver
	 * completes a command itself. One that is not in the driver was cancelled.
	 */
	if (c && c->ctrl_ns)
		cmd_tell(c, 0);
	fresh.ctrl_ns = now;
	if (bpf_map_update_elem(&cmds, &key, &fresh, BPF_ANY))
		count(&dropped);
	return 0;
}

static __always_inline int ctrl_exit(struct gt_cmd_key *key, long ret)
{
	struct gt_cmd *c = bpf_map_lookup_elem(&cmds, key);
	struct io_kiocb *req = (void *)key->req;

	__u32 tid = (__u32)bpf_get_current_pid_tgid();

	/*
	 * The kernel does not run a program while the same one is preempted on this CPU, so either
	 * entry may have been missed: the other one makes up for it.
	 */
	if (!c) {
		if (ret != -EAGAIN)
			count(&unmatched_cmds);
		return 0;
	}
	if (!c->ctrl_ns && c->worker_tid == tid)
		c->ctrl_ns = c->worker_ns;
	/* The next command in the same request, by now: this one was told when that began. */
	else if (c->task.tid != tid)
		return 0;
	if (ret == -EAGAIN) {
		/* It comes back in an io-wq thread. */
		c->ctrl_ns = 0;
		return 0;
	}
	/* Older drivers complete the command themselves and return this. */
	if (ret == -EIOCBQUEUED)
		ret = BPF_CORE_READ(req, cqe.res);
	cmd_tell(c, (__s32)ret);
	bpf_map_delete_elem(&cmds, key);
	return 0;
}

static __always_inline int ctrl_exit_tid(long ret)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct gt_cmd_key *at = bpf_map_lookup_elem(&cmd_of_tid, &tid), key;

	if (!at) {
		count(&unmatched_cmds);
		return 0;
	}
	key = *at;
	bpf_map_delete_elem(&cmd_of_tid, &tid);
	return ctrl_exit(&key, ret);
}

SEC("fentry/ublk_ctrl_uring_cmd")
int BPF_PROG(gt_ctrl_enter, struct io_uring_cmd *cmd)
{
	return ctrl_enter(cmd);
}

SEC("fexit/ublk_ctrl_uring_cmd")
int BPF_PROG(gt_ctrl_exit, struct io_uring_cmd *cmd, unsigned int issue_flags, int ret)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct gt_cmd_key key = {.req = (__u64)cmd, .tgid = id >> 32};
	__u32 tid = (__u32)id;

	bpf_map_delete_elem(&cmd_of_tid, &tid);
	return ctrl_exit(&key, ret);
}

SEC("kprobe")
int BPF_KPROBE(gt_ctrl_enter_kp, struct io_uring_cmd *cmd)
{
	return ctrl_enter(cmd);
}

SEC("kretprobe")
int BPF_KRETPROBE(gt_ctrl_exit_kp, int ret)
{
	return ctrl_exit_tid(ret);
}

static __always_inline struct gt_cmd *cmd_of_req(const void *req)
{
	struct gt_cmd_key key = {.req = (__u64)req, .tgid = bpf_get_current_pid_tgid() >> 32};

	return bpf_map_lookup_elem(&cmds, &key);
}

SEC("tp_btf/io_uring_queue_async_work")
int BPF_PROG(gt_punt, struct io_kiocb *req)
{
	struct gt_cmd fresh = {.kind = GT_CMD}, *c = cmd_of_req(req);
	__u64 now = bpf_ktime_get_ns();
	struct gt_cmd_key key = {.req = (__u64)req};

	if (c) {
		c->punt_ns = now;
		return 0;
	}
	if (BPF_CORE_READ(req, opcode) != IORING_OP_URING_CMD)
		return 0;
	/* Submitted as asynchronous: the driver did not see it yet. */
	cmd_fresh(&fresh, (struct io_uring_cmd *)req, now);
	if (!ublk_ctrl_op(fresh.cmd_op))
		return 0;
	fresh.punt_ns = now;
	key.tgid = fresh.task.tgid;
	if (bpf_map_update_elem(&cmds, &key, &fresh, BPF_ANY))
		count(&dropped);
	return 0;
}

SEC("fentry/io_wq_submit_work")
int BPF_PROG(gt_worker, struct io_wq_work *work)
{
	struct gt_cmd *c = cmd_of_req((char *)work - bpf_core_field_offset(struct io_kiocb, work));

	if (c) {
		c->worker_ns = bpf_ktime_get_ns();
		c->worker_tid = (__u32)bpf_get_current_pid_tgid();
	}
	return 0;
}

/* The command this thread is in, or NULL. */
static __always_inline struct gt_cmd *cmd_current(void)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct gt_cmd_key *key = bpf_map_lookup_elem(&cmd_of_tid, &tid);

	return key ? bpf_map_lookup_elem(&cmds, key) : NULL;
}

#define STAGE(name, field)                             \
	int BPF_PROG(name)                             \
	{                                              \
		struct gt_cmd *c = cmd_current();      \
                                                       \
		if (c)                                 \
			c->field = bpf_ktime_get_ns(); \
		return 0;                              \
	}

SEC("fentry/device_add_disk")
STAGE(gt_add_disk, add_disk_ns)
SEC("fexit/device_add_disk")
STAGE(gt_add_disk_end, add_disk_end_ns)
SEC("fentry/elevator_init_mq")
STAGE(gt_elv_init, elevator_ns)
SEC("fexit/elevator_init_mq")
STAGE(gt_elv_init_end, elevator_end_ns)
SEC("fentry/bdev_disk_changed")
STAGE(gt_scan, scan_ns)
SEC("fexit/bdev_disk_changed")
STAGE(gt_scan_end, scan_end_ns)

/* ---- freezes ---- */

static __always_inline struct gt_freeze *freeze_current(struct request_queue *q,
							struct gt_freeze_key *key)
{
	key->q = (__u64)q;
	key->tid = (__u32)bpf_get_current_pid_tgid();
	key->pad = 0;
	return bpf_map_lookup_elem(&freezes, key);
}

static __always_inline int freeze_start(struct request_queue *q, bool outer)
{
	struct gt_freeze f = {.kind = GT_FREEZE}, *old;
	struct gt_freeze_key key;

	if (!is_ublk(q))
		return 0;
	f.depth = BPF_CORE_READ(q, mq_freeze_depth) + 1;
	old = freeze_current(q, &key);
	if (old && !outer && old->flags & GT_FREEZE_BY_OUTER) {
		old->flags &= ~GT_FREEZE_BY_OUTER;
		return 0;
	}
	/*
	 * A thread that freezes a queue twice (6.12: the write of an attribute, and the elevator
	 * switch inside) keeps the first: that is what holds I/O back. An entry of a queue that is
	 * not frozen is stale.
	 */
	if (old && f.depth > 1) {
		old->nest++;
		if (outer)
			old->flags |= GT_FREEZE_BY_OUTER;
		return 0;
	}
	task_now(&f.task);
	f.q = key.q;
	f.flags = outer ? GT_FREEZE_BY_OUTER : 0;
	f.start_ns = bpf_ktime_get_ns();
	disk_name(q, f.disk);
	if (bpf_map_update_elem(&freezes, &key, &f, BPF_ANY))
		count(&dropped);
	return 0;
}

SEC("fentry/blk_freeze_queue_start")
int BPF_PROG(gt_freeze_start, struct request_queue *q)
{
	return freeze_start(q, false);
}

/* Callers in the same file may have the function above inlined: this one is theirs. */
SEC("fentry/blk_mq_freeze_queue_nomemsave")
int BPF_PROG(gt_freeze_start_outer, struct request_queue *q)
{
	return freeze_start(q, true);
}

SEC("fentry/blk_mq_freeze_queue_wait")
int BPF_PROG(gt_freeze_wait, struct request_queue *q)
{
	struct gt_freeze_key key;
	struct gt_freeze *f, fresh = {.kind = GT_FREEZE};

	if (!is_ublk(q))
		return 0;
	f = freeze_current(q, &key);
	/* It is frozen: there is nothing to wait for once more. */
	if (f && f->wait_end_ns && f->nest)
		return 0;
	if (f && !f->wait_end_ns) {
		f->wait_ns = bpf_ktime_get_ns();
		return 0;
	}
	/* Another thread, or another way, began it; or what is there is of the last disk here. */
	task_now(&fresh.task);
	fresh.q = key.q;
	fresh.depth = BPF_CORE_READ(q, mq_freeze_depth);
	fresh.start_ns = fresh.wait_ns = bpf_ktime_get_ns();
	disk_name(q, fresh.disk);
	if (bpf_map_update_elem(&freezes, &key, &fresh, BPF_ANY))
		count(&dropped);
	return 0;
}

SEC("fexit/blk_mq_freeze_queue_wait")
int BPF_PROG(gt_freeze_wait_end, struct request_queue *q)
{
	struct gt_freeze_key key;
	struct gt_freeze *f;
	struct gt_attr *a;
	struct gt_elv *e;
	__u64 waited;

	if (!is_ublk(q))
		return 0;
	f = freeze_current(q, &key);
	if (!f || f->wait_end_ns)
		return 0;
	f->wait_end_ns = bpf_ktime_get_ns();
	waited = f->wait_end_ns - f->wait_ns;
	a = bpf_map_lookup_elem(&attrs, &key.tid);
	if (a)
		a->freeze_ns += waited;
	e = bpf_map_lookup_elem(&elvs, &key.tid);
	if (e)
		e->freeze_ns += waited;
	return 0;
}

static __always_inline int freeze_end(struct request_queue *q, bool outer)
{
	struct gt_freeze_key key;
	struct gt_freeze *f, *e;

	if (!is_ublk(q))
		return 0;
	f = freeze_current(q, &key);
	if (!f) {
		if (!outer)
			count(&unmatched_freezes);
		return 0;
	}
	if (outer && f->flags & GT_FREEZE_UNDONE) {
		f->flags &= ~GT_FREEZE_UNDONE;
		return 0;
	}
	if (f->nest) {
		f->nest--;
		if (!outer)
			f->flags |= GT_FREEZE_UNDONE;
		return 0;
	}
	f->end_ns = bpf_ktime_get_ns();
	if (f->end_ns - f->start_ns >= min_ns) {
		e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
		if (e) {
			__builtin_memcpy(e, f, sizeof(*e));
			bpf_ringbuf_submit(e, 0);
		} else {
			count(&dropped);
		}
	}
	bpf_map_delete_elem(&freezes, &key);
	return 0;
}

SEC("fentry/__blk_mq_unfreeze_queue")
int BPF_PROG(gt_unfreeze, struct request_queue *q)
{
	return freeze_end(q, false);
}

/* At its end the inner one, if it was called, has taken the entry. */
SEC("fexit/blk_mq_unfreeze_queue_nomemrestore")
int BPF_PROG(gt_unfreeze_outer, struct request_queue *q)
{
	return freeze_end(q, true);
}

/* ---- elevator and attributes ---- */

static __always_inline void elevator_name(struct request_queue *q, char *out)
{
	struct elevator_queue *eq = BPF_CORE_READ(q, elevator);
	const char *name = eq ? BPF_CORE_READ(eq, type, elevator_name) : NULL;

	__builtin_memcpy(out, "none", 5);
	if (name)
		bpf_probe_read_kernel_str(out, 20, name);
}

SEC("fentry/elevator_switch")
int BPF_PROG(gt_elv_switch, struct request_queue *q)
{
	struct gt_elv e = {.kind = GT_ELV};
	struct gt_cmd *c = cmd_current();
	__u64 now = bpf_ktime_get_ns();

	if (!is_ublk(q))
		return 0;
	if (c && !c->elevator_ns)
		c->elevator_ns = now;
	task_now(&e.task);
	e.q = (__u64)q;
	e.start_ns = now;
	disk_name(q, e.disk);
	elevator_name(q, e.from);
	if (bpf_map_update_elem(&elvs, &e.task.tid, &e, BPF_ANY))
		count(&dropped);
	return 0;
}

SEC("fexit/elevator_switch")
int BPF_PROG(gt_elv_switch_end, struct request_queue *q)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct gt_elv *e = bpf_map_lookup_elem(&elvs, &tid), *out;
	struct gt_cmd *c = cmd_current();
	__u64 now = bpf_ktime_get_ns();

	if (!e || e->q != (__u64)q)
		return 0;
	if (c)
		c->elevator_end_ns = now;
	e->end_ns = now;
	elevator_name(q, e->to);
	if (e->end_ns - e->start_ns >= min_ns) {
		out = bpf_ringbuf_reserve(&events, sizeof(*out), 0);
		if (out) {
			__builtin_memcpy(out, e, sizeof(*out));
			bpf_ringbuf_submit(out, 0);
		} else {
			count(&dropped);
		}
	}
	bpf_map_delete_elem(&elvs, &tid);
	return 0;
}

SEC("fentry/queue_attr_store")
int BPF_PROG(gt_attr_store, struct kobject *kobj, struct attribute *attr, const char *page)
{
	struct gendisk *disk = (void *)kobj - bpf_core_field_offset(struct gendisk, queue_kobj);
	struct task_struct *task = (void *)bpf_get_current_task();
	unsigned long args, args_end;
	__u32 zero = 0;
	struct gt_attr *a = bpf_map_lookup_elem(&scratch_attr, &zero);

	if (!a)
		return 0;
	__builtin_memset(a, 0, sizeof(*a));
	bpf_probe_read_kernel_str(a->disk, sizeof(a->disk), &disk->disk_name);
	if (a->disk[0] != 'u' || a->disk[1] != 'b' || a->disk[2] != 'l' || a->disk[3] != 'k')
		return 0;
	a->kind = GT_ATTR;
	task_now(&a->task);
	bpf_probe_read_kernel_str(a->attr, sizeof(a->attr), BPF_CORE_READ(attr, name));
	bpf_probe_read_kernel_str(a->value, sizeof(a->value), page);
	args = BPF_CORE_READ(task, mm, arg_start);
	args_end = BPF_CORE_READ(task, mm, arg_end);
	/* What follows the arguments is read with them; user space cuts it off. */
	a->cmdline_len = args_end > args ? args_end - args : 0;
	if (bpf_probe_read_user(a->cmdline, sizeof(a->cmdline), (void *)args))
		bpf_probe_read_user_str(a->cmdline, sizeof(a->cmdline), (void *)args);
	a->start_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&attrs, &a->task.tid, a, BPF_ANY))
		count(&dropped);
	return 0;
}

SEC("fexit/queue_attr_store")
int BPF_PROG(gt_attr_store_end, struct kobject *kobj, struct attribute *attr, const char *page,
	     unsigned long length, long ret)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct gt_attr *a = bpf_map_lookup_elem(&attrs, &tid), *e;

	if (!a)
		return 0;
	a->end_ns = bpf_ktime_get_ns();
	a->res = ret < 0 ? (__s32)ret : 0;
	if (a->end_ns - a->start_ns >= min_ns) {
		e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
		if (e) {
			__builtin_memcpy(e, a, sizeof(*e));
			bpf_ringbuf_submit(e, 0);
		} else {
			count(&dropped);
		}
	}
	bpf_map_delete_elem(&attrs, &tid);
	return 0;
}

/* ---- servers ---- */

static __always_inline int server(struct inode *inode, __u32 gone)
{
	struct gt_server *s = bpf_ringbuf_reserve(&events, sizeof(*s), 0);

	if (!s) {
		count(&dropped);
		return 0;
	}
	s->kind = GT_SERVER;
	s->gone = gone;
	task_now(&s->task);
	s->minor = BPF_CORE_READ(inode, i_rdev) & 0xfffff;
	s->pad = 0;
	s->at_ns = bpf_ktime_get_ns();
	bpf_ringbuf_submit(s, 0);
	return 0;
}

/* Only an open that succeeds makes a server. */
SEC("fexit/ublk_ch_open")
int BPF_PROG(gt_ch_open, struct inode *inode, struct file *file, int ret)
{
	return ret ? 0 : server(inode, 0);
}

SEC("fentry/ublk_ch_release")
int BPF_PROG(gt_ch_release, struct inode *inode)
{
	return server(inode, 1);
}

/* ---- requests ---- */

static __always_inline __u32 op_char(unsigned int cmd_flags)
{
	switch (cmd_flags & 0xff) {
	case 0:
		return 'R';
	case 1:
		return 'W';
	case 2:
		return 'F';
	case 3:
		return 'D';
	case 9:
		return 'Z';
	}
	return '?';
}

static __always_inline __u32 log2_us(__u64 ns)
{
	__u32 us = ns / 1000 > 0xffffffff ? 0xffffffff : (__u32)(ns / 1000), r, s;

	r = (us > 0xffff) << 4;
	us >>= r;
	s = (us > 0xff) << 3;
	us >>= s;
	r |= s;
	s = (us > 0xf) << 2;
	us >>= s;
	r |= s;
	s = (us > 0x3) << 1;
	us >>= s;
	r |= s;
	return r | (us >> 1);
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(gt_rq_complete, struct request *rq, int error, unsigned int nr_bytes)
{
	struct request_queue *q = rq->q;
	struct gt_hist_key key = {};
	struct gt_hist *h;
	__u64 start, ns;
	__u32 zero = 0;

	if (!ublk_queue_rq_addr || (__u64)q->mq_ops->queue_rq != ublk_queue_rq_addr)
		return 0;
	/* The last part of it. */
	if (nr_bytes < rq->__data_len)
		return 0;
	start = rq->start_time_ns;
	if (!start)
		return 0;
	ns = bpf_ktime_get_ns() - start;
	key.q = (__u64)q;
	key.op = op_char(rq->cmd_flags);
	h = bpf_map_lookup_elem(&hists, &key);
	if (!h) {
		struct gt_hist *fresh = bpf_map_lookup_elem(&scratch_hist, &zero);

		if (!fresh)
			return 0;
		__builtin_memset(fresh, 0, sizeof(*fresh));
		disk_name(q, fresh->disk);
		bpf_map_update_elem(&hists, &key, fresh, BPF_NOEXIST);
		h = bpf_map_lookup_elem(&hists, &key);
		if (!h)
			return 0;
	}
	__sync_fetch_and_add(&h->count, 1);
	__sync_fetch_and_add(&h->sum_ns, ns);
	__sync_fetch_and_add(&h->bucket[log2_us(ns) & 31], 1);
	return 0;
}

/* ---- the daemon's timing events ---- */

SEC("usdt")
int gt_timing(struct pt_regs *ctx)
{
	struct gt_span *s = bpf_ringbuf_reserve(&events, sizeof(*s), 0);
	long v = 0;

	if (!s) {
		count(&dropped);
		return 0;
	}
	s->kind = GT_SPAN;
	s->pid = bpf_get_current_pid_tgid() >> 32;
	s->event[0] = s->volume[0] = s->key[0] = 0;
	bpf_usdt_arg((void *)ctx, 0, &v);
	bpf_probe_read_user_str(s->event, sizeof(s->event), (void *)v);
	bpf_usdt_arg((void *)ctx, 1, &v);
	bpf_probe_read_user_str(s->volume, sizeof(s->volume), (void *)v);
	bpf_usdt_arg((void *)ctx, 2, &v);
	s->dev_id = (__s32)v;
	bpf_usdt_arg((void *)ctx, 3, &v);
	s->op_id = v;
	bpf_usdt_arg((void *)ctx, 4, &v);
	s->start_ns = v;
	bpf_usdt_arg((void *)ctx, 5, &v);
	s->end_ns = v;
	bpf_usdt_arg((void *)ctx, 6, &v);
	s->result = (__s32)v;
	bpf_usdt_arg((void *)ctx, 7, &v);
	bpf_probe_read_user_str(s->key, sizeof(s->key), (void *)v);
	bpf_usdt_arg((void *)ctx, 8, &v);
	s->bytes = v;
	bpf_usdt_arg((void *)ctx, 9, &v);
	s->io = v;
	bpf_usdt_arg((void *)ctx, 10, &v);
	s->sector = v;
	bpf_usdt_arg((void *)ctx, 11, &v);
	s->nsectors = (__u32)v;
	bpf_ringbuf_submit(s, 0);
	return 0;
}

/* ---- on demand ---- */

SEC("syscall")
int gt_peek(struct gt_peek_args *args)
{
	__u32 zero = 0, len = args->len;
	char *buf = bpf_map_lookup_elem(&peek, &zero);

	if (!buf || !len || len > GT_PEEK_MAX)
		return -22;
	args->res = bpf_probe_read_kernel(buf, len, (void *)args->addr);
	return 0;
}

/* User registers of a thread; rip and rsp are what it will return to. */
SEC("iter/task")
int gt_regs_iter(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct gt_regs out = {};
	struct pt_regs *regs;

	if (!task || !BPF_CORE_READ(task, mm))
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs((void *)task);
	if (!regs)
		return 0;
	out.tid = task->pid;
	out.tgid = task->tgid;
	out.task = (__u64)task;
	out.r[0] = BPF_CORE_READ(regs, ax);
	out.r[1] = BPF_CORE_READ(regs, dx);
	out.r[2] = BPF_CORE_READ(regs, cx);
	out.r[3] = BPF_CORE_READ(regs, bx);
	out.r[4] = BPF_CORE_READ(regs, si);
	out.r[5] = BPF_CORE_READ(regs, di);
	out.r[6] = BPF_CORE_READ(regs, bp);
	out.r[7] = BPF_CORE_READ(regs, sp);
	out.r[8] = BPF_CORE_READ(regs, r8);
	out.r[9] = BPF_CORE_READ(regs, r9);
	out.r[10] = BPF_CORE_READ(regs, r10);
	out.r[11] = BPF_CORE_READ(regs, r11);
	out.r[12] = BPF_CORE_READ(regs, r12);
	out.r[13] = BPF_CORE_READ(regs, r13);
	out.r[14] = BPF_CORE_READ(regs, r14);
	out.r[15] = BPF_CORE_READ(regs, r15);
	out.r[16] = BPF_CORE_READ(regs, ip);
	bpf_seq_write((void *)seq, &out, sizeof(out));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
