// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Outside observer of ublk control commands and elevator switches. One record per command: from the
 * moment it is given to io-wq, or enters ublk_ctrl_uring_cmd inline, to the return of the entry
 * that did the work.
 *
 * A command enters in an io-wq thread of the server; if it was not submitted as asynchronous,
 * inline in the server's thread before, where it returns -EAGAIN. The io_uring_cmd stays the same
 * object (it is embedded in the request), so its address with the tgid pairs them; dev id and
 * opcode are kept to be sure.
 */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/ublk_ctrl.bpf.h"
#include "bpf/ublk_obs.h"

struct obs_key {
	__u64 cmd;
	__u32 tgid;
	__u32 op;
};

struct obs_start {
	__u64 ns;
	__u32 dev_id;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct obs_key);
	__type(value, struct obs_start);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

/* The opcode of the control command a thread is in: which command switched an elevator. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} current_op SEC(".maps");

__u64 dropped;

static __always_inline void obs_key_of(struct io_uring_cmd *cmd, struct obs_key *key)
{
	key->cmd = (__u64)cmd;
	key->tgid = bpf_get_current_pid_tgid() >> 32;
	key->op = BPF_CORE_READ(cmd, cmd_op);
}

static __always_inline void obs_begin(struct io_uring_cmd *cmd, struct obs_key *key)
{
	const struct io_uring_sqe *sqe = BPF_CORE_READ(cmd, sqe);
	struct obs_start s = {.ns = bpf_ktime_get_ns()};

	bpf_core_read(&s.dev_id, sizeof(s.dev_id), &sqe->addr3);
	bpf_map_update_elem(&starts, key, &s, BPF_NOEXIST);
}

struct io_kiocb___op {
	__u8 opcode;
} __attribute__((preserve_access_index));

/* Submitted as asynchronous: on its way from here, as the others are from their first entry. */
SEC("tp_btf/io_uring_queue_async_work")
int BPF_PROG(ctrl_queued, void *req)
{
	struct io_uring_cmd *cmd = req;
	struct obs_key key;

	if (BPF_CORE_READ((struct io_kiocb___op *)req, opcode) != IORING_OP_URING_CMD)
		return 0;
	obs_key_of(cmd, &key);
	if (ublk_ctrl_op(key.op))
		obs_begin(cmd, &key);
	return 0;
}

SEC("fentry/ublk_ctrl_uring_cmd")
int BPF_PROG(ctrl_enter, struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct obs_key key;

	obs_key_of(cmd, &key);
	bpf_map_update_elem(&current_op, &tid, &key.op, BPF_ANY);
	obs_begin(cmd, &key);
	return 0;
}

SEC("fexit/ublk_ctrl_uring_cmd")
int BPF_PROG(ctrl_exit, struct io_uring_cmd *cmd, unsigned int issue_flags, int ret)
{
	__u64 now = bpf_ktime_get_ns();
	struct obs_start *s;
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct obs_event *e;
	struct obs_key key;

	bpf_map_delete_elem(&current_op, &tid);
	if (ret == -EAGAIN)
		return 0;
	obs_key_of(cmd, &key);
	s = bpf_map_lookup_elem(&starts, &key);
	if (!s)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		e->start_ns = s->ns;
		e->end_ns = now;
		e->kind = OBS_COMMAND;
		e->op = key.op;
		e->dev_id = s->dev_id;
		e->tgid = key.tgid;
		e->res = ret;
		bpf_ringbuf_submit(e, 0);
	} else {
		__sync_fetch_and_add(&dropped, 1);
	}
	bpf_map_delete_elem(&starts, &key);
	return 0;
}

SEC("fentry/elevator_switch")
int BPF_PROG(elevator_enter)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tid = (__u32)id, *op = bpf_map_lookup_elem(&current_op, &tid);
	struct obs_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&dropped, 1);
		return 0;
	}
	e->start_ns = e->end_ns = bpf_ktime_get_ns();
	e->kind = OBS_ELEVATOR_SWITCH;
	e->op = op ? *op : 0;
	e->dev_id = -1;
	e->tgid = id >> 32;
	e->res = 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
