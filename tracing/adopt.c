// SPDX-License-Identifier: GPL-2.0-or-later
/* Hangs from before; see adopt.h. */
#include "tracing/adopt.h"
#include "tracing/convert.h"
#include "tracing/procfs.h"

#include <string.h>

#define ADOPTED_MAX 64

struct adopted {
	struct rec rec; /* REC_CMD or REC_FREEZE */
	const char *symbol;
	uint32_t tid;
	bool told, ended;
};

struct adopt {
	struct adopted item[ADOPTED_MAX];
	unsigned int nr;
	struct rec_task task; /* working memory */
	/* Of the search that goes on. */
	struct watch *watch;
	struct kdevs *kdevs;
	int32_t (*frozen_dev)(void *ctx);
	void *ctx;
	uint64_t since_ns;
};

int adopt_new(struct adopt **out)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : -ENOMEM;
}

void adopt_free(struct adopt *a)
{
	free(a);
}

static bool known(const struct adopt *a, uint32_t tid)
{
	for (unsigned int i = 0; i < a->nr; i++)
		if (a->item[i].tid == tid)
			return true;
	return false;
}

/* An io-wq worker in the driver: which command, of which device, is in its request. */
static bool adopt_cmd(struct adopt *a, struct adopted *it, const struct rec_task *t)
{
	struct rec_cmd *c = &it->rec.cmd;
	uint64_t task = watch_task_addr(a->watch, t->tid);
	uint32_t cmd_op;
	int32_t dev;

	if (!task || !a->kdevs || kdevs_worker_cmd(a->kdevs, task, &dev, &cmd_op))
		return false;
	it->symbol = "ublk_ctrl_uring_cmd";
	it->rec.kind = REC_CMD;
	*c = (struct rec_cmd){
		.id = a->since_ns + t->tid,
		.dev = dev,
		.nr = cmd_op & 0xff,
		.tgid = t->tgid,
		.tid = t->tid,
		.submit_ns = a->since_ns,
		.ctrl_ns = a->since_ns,
		.adopted = true,
	};
	memcpy(c->comm, t->comm, sizeof(c->comm));
	convert_comm(c->tgid, c->comm);
	if (procfs_stack_has(t->kstack, "device_add_disk"))
		c->add_disk_ns = a->since_ns;
	if (procfs_stack_has(t->kstack, "bdev_disk_changed"))
		c->scan_ns = a->since_ns;
	return true;
}

static void adopt_freeze(struct adopt *a, struct adopted *it, const struct rec_task *t)
{
	struct rec_freeze *f = &it->rec.freeze;

	it->symbol = "blk_mq_freeze_queue_wait";
	it->rec.kind = REC_FREEZE;
	*f = (struct rec_freeze){
		.id = a->since_ns + t->tid,
		.dev = a->frozen_dev(a->ctx),
		.tid = t->tid,
		.tgid = t->tgid,
		.start_ns = a->since_ns,
		.wait_ns = a->since_ns,
		.depth = 1,
		.adopted = true,
	};
	memcpy(f->comm, t->comm, sizeof(f->comm));
}

static void on_thread(void *ctx, const struct rec_task *t)
{
	struct adopt *a = ctx;
	struct adopted *it = &a->item[a->nr];

	if (a->nr == ADOPTED_MAX || known(a, t->tid))
		return;
	memset(it, 0, sizeof(*it));
	it->tid = t->tid;
	if (procfs_stack_has(t->kstack, "ublk_ctrl_uring_cmd")) {
		if (!adopt_cmd(a, it, t))
			return;
	} else if (procfs_stack_has(t->kstack, "blk_mq_freeze_queue_wait")) {
		adopt_freeze(a, it, t);
	} else {
		return;
	}
	a->nr++;
}

void adopt_find(struct adopt *a, struct watch *w, struct kdevs *kdevs,
		int32_t (*frozen_dev)(void *ctx), void *ctx, uint64_t since_ns)
{
	a->watch = w;
	a->kdevs = kdevs;
	a->frozen_dev = frozen_dev;
	a->ctx = ctx;
	a->since_ns = since_ns;
	(void)!procfs_threads_in(procfs_hang_symbols, procfs_nr_hang_symbols, on_thread, a);
}

void adopt_end(struct adopt *a, uint32_t tid)
{
	for (unsigned int i = 0; i < a->nr; i++)
		if (a->item[i].tid == tid)
			a->item[i].ended = true;
}

void adopt_poll(struct adopt *a, uint64_t now,
		void (*fn)(void *ctx, const struct rec *r, uint32_t tid, bool hangs), void *ctx)
{
	for (unsigned int i = 0; i < a->nr;) {
		struct adopted *it = &a->item[i];
		bool hangs = !it->ended && !procfs_task(it->tid, &a->task) &&
			     procfs_stack_has(a->task.kstack, it->symbol);

		it->rec.t_ns = now;
		if (!hangs && it->rec.kind == REC_CMD)
			it->rec.cmd.end_ns = now;
		else if (!hangs)
			it->rec.freeze.wait_end_ns = it->rec.freeze.end_ns = now;
		/* One that was on its way when it was seen never hung. */
		if (hangs || it->told)
			fn(ctx, &it->rec, it->tid, hangs);
		it->told = true;
		if (hangs)
			i++;
		else
			*it = a->item[--a->nr];
	}
}
