// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is open: entries of the programs' maps that are older than the session's threshold, told at
 * each tick; see session_priv.h.
 */
#include "tracing/session_priv.h"
#include "tracing/procfs.h"
#include "bpf/gfs_trace.h"
#include "bpf/gfs_trace.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <signal.h>
#include <string.h>

union open_value {
	struct gt_cmd cmd;
	struct gt_freeze freeze;
	struct gt_attr attr;
	struct gt_elv elv;
};

/* Calls fn for each entry of a hash map; fn returns true to have the entry deleted, if it is still
 * the same one. */
static void map_each(struct session *s, struct bpf_map *map, void *key, void *value,
		     size_t key_size,
		     bool (*fn)(struct session *s, const void *value, uint64_t now), uint64_t now)
{
	int fd = bpf_map__fd(map), n = 0;
	size_t value_size = bpf_map__value_size(map);
	char prev[64], same[sizeof(union open_value)];
	bool more = !bpf_map_get_next_key(fd, NULL, key);

	while (more && n++ < OPEN_MAX) {
		bool found = !bpf_map_lookup_elem(fd, key, value);

		memcpy(prev, key, key_size);
		more = !bpf_map_get_next_key(fd, prev, key);
		if (found && fn(s, value, now) && !bpf_map_lookup_elem(fd, prev, same) &&
		    !memcmp(same, value, value_size))
			bpf_map_delete_elem(fd, prev);
	}
}

static bool open_old(struct session *s, uint64_t start_ns, uint64_t now)
{
	if (start_ns + s->poll_min_ns > now)
		return false;
	s->busy = true;
	s->young |= start_ns + OLD_NS > now;
	return true;
}

static bool thread_gone(uint32_t tgid)
{
	return kill((pid_t)tgid, 0) && errno == ESRCH;
}

/*
 * A program that the kernel skipped (see ctrl_exit() in bpf/gfs_trace.bpf.c) leaves what it would
 * have ended open. What is told as open is therefore looked for on its thread's kernel stack, where
 * that can be read. A thread that is just leaving the function is not there either, and its end is
 * about to be told: what is missing is not told as open from the first look on, and taken for
 * ended only when it is missing UNSEEN_NS later as well. Then *end_ns, else 0, is when it was last
 * known to go on: a budget is never exceeded by a guess.
 */
static bool ended_unseen(struct session *s, uint32_t tid, uint64_t start_ns,
			 const char *const *symbols, uint64_t now, uint64_t *end_ns)
{
	static struct rec_task t;
	struct unseen *u = NULL;
	int res = procfs_task(tid, &t);

	*end_ns = 0;
	for (unsigned int i = 0; i < s->nr_unseen && !u; i++)
		if (s->unseen[i].tid == tid && s->unseen[i].start_ns == start_ns)
			u = &s->unseen[i];
	for (; *symbols && res != -ESRCH; symbols++)
		if (res || !t.kstack[0] || procfs_stack_has(t.kstack, *symbols)) {
			if (u)
				*u = s->unseen[--s->nr_unseen];
			return false;
		}
	if (!u && s->nr_unseen < UNSEEN_MAX) {
		u = &s->unseen[s->nr_unseen++];
		*u = (struct unseen){.tid = tid,
				     .start_ns = start_ns,
				     .since_ns = now,
				     .known_ns = MAX(start_ns, s->poll_ns)};
	}
	if (u && now - u->since_ns >= UNSEEN_NS) {
		*end_ns = u->known_ns;
		*u = s->unseen[--s->nr_unseen];
	}
	return true;
}

/* Those whose end was told after all are never asked for again. */
static void unseen_expire(struct session *s, uint64_t now)
{
	for (unsigned int i = s->nr_unseen; i-- > 0;)
		if (now - s->unseen[i].since_ns > STALE_NS)
			s->unseen[i] = s->unseen[--s->nr_unseen];
}

static bool open_cmd(struct session *s, const void *value, uint64_t now)
{
	static const char *const on_stack[] = {"ublk_ctrl_uring_cmd", NULL};
	const struct gt_cmd *c = value;
	struct rec *r;
	uint64_t end_ns = 0;
	struct dev *d;

	adopt_end(s->adopt, c->task.tid);
	if (!open_old(s, c->submit_ns, now))
		return false;
	if (c->ctrl_ns && ended_unseen(s, c->task.tid, c->submit_ns, on_stack, now, &end_ns) &&
	    !end_ns)
		return false;
	r = session_rec(s, REC_CMD);
	convert_cmd(c, &r->cmd);
	/* Nobody saw its result. */
	r->cmd.end_ns = end_ns;
	/* Its process ended before a worker took it: no end will come. */
	if (!end_ns && now - c->submit_ns > STALE_NS && thread_gone(c->task.tgid)) {
		r->cmd.end_ns = now;
		r->cmd.res = -ESRCH;
	}
	if (!session_passes(s, r->cmd.dev))
		return r->cmd.end_ns;
	session_emit(s, r);
	if (r->cmd.end_ns)
		return true;
	if (r->cmd.nr != CMD_ADD_DEV)
		session_want(s, r->cmd.dev);
	d = session_dev_find(s, r->cmd.dev);
	if (d && r->cmd.nr == CMD_START_DEV)
		d->start_tid = c->submit_tid;
	if (d && (r->cmd.nr == CMD_DEL_DEV || r->cmd.nr == CMD_STOP_DEV ||
		  r->cmd.nr == CMD_TRY_STOP_DEV))
		d->openers = true;
	session_owner(s, r->cmd.tid);
	return false;
}

static bool open_freeze(struct session *s, const void *value, uint64_t now)
{
	static const char *const on_stack[] = {"blk_mq_freeze_queue_wait", NULL};
	const struct gt_freeze *f = value;
	struct rec *r;
	uint64_t end_ns;

	if (!f->wait_end_ns)
		adopt_end(s->adopt, f->task.tid);
	/* The thread went on and the queue is gone or stays frozen on purpose: nothing waits. */
	if (f->wait_end_ns && now - f->wait_end_ns > STALE_NS)
		return true;
	/* A long wait that ended is told for a while, in case nobody unfreezes the queue (it is
	 * going away). */
	if (f->wait_end_ns &&
	    (f->wait_end_ns - f->wait_ns < s->poll_min_ns || now - f->wait_end_ns > IDLE_TICK_NS))
		return false;
	if (!open_old(s, f->start_ns, now))
		return false;
	if (f->wait_ns && !f->wait_end_ns &&
	    ended_unseen(s, f->task.tid, f->wait_ns, on_stack, now, &end_ns))
		return end_ns;
	if (now - f->start_ns > STALE_NS && thread_gone(f->task.tgid))
		return true;
	r = session_rec(s, REC_FREEZE);
	convert_freeze(f, &r->freeze);
	if (!session_passes(s, r->freeze.dev))
		return false;
	session_emit(s, r);
	if (!f->wait_end_ns) {
		session_want(s, r->freeze.dev);
		session_owner(s, r->freeze.tid);
	}
	return false;
}

static bool open_attr(struct session *s, const void *value, uint64_t now)
{
	/* The functions below may be called in its place (tail calls): its caller tells. */
	static const char *const on_stack[] = {"vfs_write", NULL};
	const struct gt_attr *a = value;
	struct rec *r;
	uint64_t end_ns;

	if (!open_old(s, a->start_ns, now))
		return false;
	if (ended_unseen(s, a->task.tid, a->start_ns, on_stack, now, &end_ns))
		return end_ns;
	r = session_rec(s, REC_ATTR);
	convert_attr(a, &r->attr);
	if (session_passes(s, r->attr.dev)) {
		session_emit(s, r);
		session_want(s, r->attr.dev);
	}
	return now - a->start_ns > STALE_NS && thread_gone(a->task.tgid);
}

static bool open_elv(struct session *s, const void *value, uint64_t now)
{
	static const char *const on_stack[] = {"elevator_switch", "elevator_change", NULL};
	const struct gt_elv *e = value;
	struct rec *r;
	uint64_t end_ns;

	if (!open_old(s, e->start_ns, now))
		return false;
	if (ended_unseen(s, e->task.tid, e->start_ns, on_stack, now, &end_ns))
		return end_ns;
	r = session_rec(s, REC_ELV);
	convert_elv(e, &r->elv);
	if (session_passes(s, r->elv.dev)) {
		session_emit(s, r);
		session_want(s, r->elv.dev);
	}
	return now - e->start_ns > STALE_NS && thread_gone(e->task.tgid);
}

void session_poll_open(struct session *s, uint64_t now)
{
	struct gfs_trace_bpf *skel = hooks_skel(s->hooks);
	union open_value v;
	union {
		struct gt_cmd_key cmd;
		struct gt_freeze_key freeze;
		uint32_t tid;
	} k;

	s->busy = s->young = false;
	unseen_expire(s, now);
	map_each(s, skel->maps.cmds, &k, &v, sizeof(k.cmd), open_cmd, now);
	map_each(s, skel->maps.freezes, &k, &v, sizeof(k.freeze), open_freeze, now);
	map_each(s, skel->maps.attrs, &k, &v, sizeof(k.tid), open_attr, now);
	map_each(s, skel->maps.elvs, &k, &v, sizeof(k.tid), open_elv, now);
	s->poll_ns = now;
}
