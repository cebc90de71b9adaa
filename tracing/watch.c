// SPDX-License-Identifier: GPL-2.0-or-later
/* Threads' stacks and daemons' open spans, told at a bounded rate; see watch.h. */
#include "tracing/watch.h"
#include "tracing/daemon_spans.h"
#include "tracing/procfs.h"
#include "tracing/ustack.h"
#include "bpf/gfs_trace.h"
#include "bpf/gfs_trace.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TOLD_SLOTS  1024
#define TELL_NS     (500 * NSEC_PER_MSEC)
#define DAEMONS_MAX 64
#define SPANS_MAX   1024 /* told at one poll */
#define SPAN_MIN_NS (20 * NSEC_PER_MSEC)
#define FRAMES_MAX  24
#define RETRY_NS    (10 * NSEC_PER_SEC)

struct told {
	uint32_t tid;
	uint64_t ns;
};

struct daemon {
	uint32_t pid;
	struct daemon_spans *spans;
	uint64_t not_before_ns, told_ns;
};

struct watch {
	struct hooks *h;
	void (*fn)(void *ctx, const struct rec *r);
	void (*on_volume)(void *ctx, int32_t dev, const char *volume);
	void *ctx;
	struct ustack_cache *stacks;
	struct told told[TOLD_SLOTS];
	struct daemon daemon[DAEMONS_MAX];
	unsigned int nr_daemons;
	struct rec rec; /* too big for the stack of every caller */
	/* Of the poll that goes on. */
	uint64_t now;
	unsigned int spans;
};

int watch_new(struct hooks *h, void (*fn)(void *ctx, const struct rec *r),
	      void (*on_volume)(void *ctx, int32_t dev, const char *volume), void *ctx,
	      struct watch **out)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->h = h;
	w->fn = fn;
	w->on_volume = on_volume;
	w->ctx = ctx;
	w->stacks = ustack_cache_new();
	if (!w->stacks) {
		free(w);
		return -ENOMEM;
	}
	*out = w;
	return 0;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	for (unsigned int i = 0; i < w->nr_daemons; i++)
		daemon_spans_close(w->daemon[i].spans);
	ustack_cache_free(w->stacks);
	free(w);
}

/* Registers of one thread, by an iterator that visits it alone. */
static int regs_read(struct watch *w, uint32_t tid, struct gt_regs *out)
{
	union bpf_iter_link_info info = {.task.tid = tid};
	LIBBPF_OPTS(bpf_iter_attach_opts, opts, .link_info = &info, .link_info_len = sizeof(info));
	struct bpf_link *link =
		bpf_program__attach_iter(hooks_skel(w->h)->progs.gt_regs_iter, &opts);
	ssize_t n = -1;
	int fd;

	if (!link)
		return -errno;
	fd = bpf_iter_create(bpf_link__fd(link));
	if (fd >= 0) {
		do {
			n = read(fd, out, sizeof(*out));
		} while (n < 0 && errno == EINTR);
		close(fd);
	}
	bpf_link__destroy(link);
	return n == sizeof(*out) && out->tid == tid ? 0 : -ESRCH;
}

uint64_t watch_task_addr(struct watch *w, uint32_t tid)
{
	struct gt_regs regs;

	return regs_read(w, tid, &regs) ? 0 : regs.task;
}

static bool due(struct watch *w, uint32_t tid, uint64_t now)
{
	struct told *t = &w->told[tid % TOLD_SLOTS];

	if (t->tid == tid && now - t->ns < TELL_NS)
		return false;
	*t = (struct told){tid, now};
	return true;
}

static void user_stack(struct watch *w, struct rec_task *t)
{
	struct gt_regs regs;
	struct ustack_regs ur;
	int res = regs_read(w, t->tid, &regs);

	if (res) {
		snprintf(t->ustack_error, sizeof(t->ustack_error), "no registers: %s",
			 strerror(-res));
		return;
	}
	memcpy(ur.r, regs.r, sizeof(ur.r));
	res = ustack_read(w->stacks, t->tgid, t->tid, &ur, FRAMES_MAX, t->ustack, sizeof(t->ustack),
			  t->ustack_error, sizeof(t->ustack_error));
	if (!res)
		t->ustack_error[0] = '\0';
}

/*
 * A function that a program of ours is attached to shows as itself, a trampoline, and itself again
 * at its first bytes: one of them is enough.
 */
static void trampolines_strip(char *stack)
{
	static const char mark[] = "bpf_trampoline_";
	char *out = stack, *frame = stack;
	bool skip = false;

	while (*frame) {
		size_t len = strcspn(frame, ";"), next = len + (frame[len] == ';');
		bool ours = !strncmp(frame, mark, sizeof(mark) - 1);

		if (!ours && !skip) {
			if (out != stack)
				*out++ = ';';
			memmove(out, frame, len);
			out += len;
		}
		skip = ours;
		frame += next;
	}
	*out = '\0';
}

void watch_task(struct watch *w, uint32_t tid, bool user, uint64_t now)
{
	struct rec_task *t = &w->rec.task;

	if (!tid || !due(w, tid, now))
		return;
	memset(&w->rec, 0, sizeof(w->rec));
	if (procfs_task(tid, t))
		return;
	trampolines_strip(t->kstack);
	w->rec.kind = REC_TASK;
	w->rec.t_ns = now;
	/* Threads of io_uring never were in user space. */
	if (user && strncmp(t->comm, "iou-", 4))
		user_stack(w, t);
	w->fn(w->ctx, &w->rec);
}

static struct daemon *daemon_find(struct watch *w, uint32_t pid)
{
	for (unsigned int i = 0; i < w->nr_daemons; i++)
		if (w->daemon[i].pid == pid)
			return &w->daemon[i];
	return NULL;
}

/* Room for a daemon: servers without spans, and those that are gone, give theirs up. */
static struct daemon *daemon_new(struct watch *w, uint32_t pid)
{
	struct daemon *d = NULL;

	if (w->nr_daemons < DAEMONS_MAX)
		d = &w->daemon[w->nr_daemons++];
	for (unsigned int i = 0; !d && i < w->nr_daemons; i++)
		if (!w->daemon[i].spans)
			d = &w->daemon[i];
	if (d)
		*d = (struct daemon){.pid = pid};
	return d;
}

static void on_span(void *ctx, const struct rec *r)
{
	struct watch *w = ctx;

	/* Open as long as the device is there. */
	if (!strcmp(r->span.event, "ublk.device")) {
		w->on_volume(w->ctx, r->span.dev, r->span.volume);
		return;
	}
	if (w->spans >= SPANS_MAX || r->span.start_ns + SPAN_MIN_NS > w->now)
		return;
	w->spans++;
	w->rec = *r;
	w->rec.t_ns = w->now;
	w->fn(w->ctx, &w->rec);
}

void watch_daemon(struct watch *w, uint32_t pid, uint64_t now)
{
	struct daemon *d = daemon_find(w, pid);
	char err[128];
	int res;

	if (!d)
		d = daemon_new(w, pid);
	/* Once a tick, of however many devices it serves. */
	if (!d || d->told_ns == now)
		return;
	d->told_ns = now;
	if (!d->spans && now >= d->not_before_ns &&
	    daemon_spans_open(pid, &d->spans, err, sizeof(err))) {
		d->spans = NULL;
		d->not_before_ns = now + RETRY_NS;
	}
	if (!d->spans)
		return;
	w->now = now;
	w->spans = 0;
	res = daemon_spans_read(d->spans, on_span, w);
	if (res == -ESRCH) {
		watch_forget(w, pid);
	} else if (res < 0) {
		/* It runs another program now, perhaps: look anew, later. */
		daemon_spans_close(d->spans);
		d->spans = NULL;
		d->not_before_ns = now + RETRY_NS;
	}
}

void watch_forget(struct watch *w, uint32_t pid)
{
	struct daemon *d = daemon_find(w, pid);

	ustack_cache_drop(w->stacks, pid);
	if (!d)
		return;
	daemon_spans_close(d->spans);
	*d = w->daemon[--w->nr_daemons];
}
