/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Streams of records as a session would make them, for the tests of gfs-trace: a script of what
 * happens on one device, in milliseconds. Included by one test program each; everything is static.
 */
#ifndef GFS_SELFTESTS_TRACE_TEST_H
#define GFS_SELFTESTS_TRACE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tracing/model.h"
#include "tracing/sink.h"

#define DEV    3
#define SERVER 700 /* tgid of the daemon; its queue threads are 701, 702 */
#define T0     (1000 * NSEC_PER_SEC)
#define AT(ms) (T0 + (uint64_t)(ms)*NSEC_PER_MSEC)

struct stream {
	struct rec *r;
	size_t nr, cap;
	uint64_t now;
};

static struct rec *push(struct stream *s, enum rec_kind kind)
{
	struct rec *r;

	if (s->nr == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->r = realloc(s->r, s->cap * sizeof(*s->r));
		assert_non_null(s->r);
	}
	r = &s->r[s->nr++];
	memset(r, 0, sizeof(*r));
	r->t_ns = s->now;
	r->kind = kind;
	return r;
}

#define SET(field, ...) snprintf((field), sizeof(field), __VA_ARGS__)

static void __unused at(struct stream *s, uint64_t ms)
{
	s->now = AT(ms);
}

static void __unused begin_on(struct stream *s, const char *kernel)
{
	struct rec *r;

	memset(s, 0, sizeof(*s));
	at(s, 0);
	r = push(s, REC_META);
	r->meta.version = REC_VERSION;
	SET(r->meta.tool, "gfs-trace test");
	SET(r->meta.kernel, "%s", kernel);
	SET(r->meta.host, "h");
	r->meta.wall_ns = 1700000000ull * NSEC_PER_SEC;
	r->meta.filter_dev = -1;
	r = push(s, REC_HOOK);
	SET(r->hook.hook, "ctrl");
	SET(r->hook.variant, "fentry ublk_drv:ublk_ctrl_uring_cmd");
	r = push(s, REC_HOOK);
	SET(r->hook.hook, "scan");
	SET(r->hook.variant, "off");
	SET(r->hook.reason, "no such symbol");
}

static void __unused begin(struct stream *s)
{
	begin_on(s, "6.12.95+deb12-cloud-amd64");
}

static void __unused tick(struct stream *s, uint64_t ms)
{
	at(s, ms);
	push(s, REC_TICK);
}

static void __unused server(struct stream *s, bool gone)
{
	struct rec *r = push(s, REC_SERVER);

	r->server.dev = DEV;
	r->server.tgid = SERVER;
	r->server.gone = gone;
	r->server.at_ns = s->now;
	SET(r->server.comm, "glidefsd");
}

/* Begins a snapshot. */
static __unused struct rec *dev(struct stream *s, enum rec_dev_state state)
{
	struct rec *r = push(s, REC_DEV);

	r->dev.dev = DEV;
	SET(r->dev.volume, "vm1");
	r->dev.state = state;
	r->dev.nr_queues = 2;
	r->dev.depth = 64;
	r->dev.started = state != DEV_DEAD;
	if (state == DEV_LIVE || state == DEV_DEAD) {
		r->dev.tgid = SERVER;
		SET(r->dev.comm, "glidefsd");
	}
	return r;
}

static void __unused queue(struct stream *s, uint32_t q, uint32_t armed, const char *missing)
{
	struct rec *r = push(s, REC_QUEUE);

	r->queue.dev = DEV;
	r->queue.queue = q;
	r->queue.depth = 64;
	r->queue.armed = armed;
	r->queue.exact = true;
	r->queue.owner_tid = 701 + q;
	SET(r->queue.missing, "%s", missing);
	SET(r->queue.owner_comm, "gfs-lane");
}

static __unused struct rec *req(struct stream *s, uint32_t q, uint32_t tag, uint64_t start_ms,
				enum rec_req_state state)
{
	struct rec *r = push(s, REC_REQ);

	r->req.dev = DEV;
	r->req.queue = q;
	r->req.tag = tag;
	r->req.op = 'R';
	r->req.sector = 4096;
	r->req.nsectors = 8;
	r->req.start_ns = AT(start_ms);
	r->req.state = state;
	if (state == REQ_SERVER) {
		r->req.deliver_ns = AT(start_ms) + 50000;
		r->req.owner_tid = 701 + q;
	}
	return r;
}

static void __unused snap_end(struct stream *s)
{
	push(s, REC_SNAP_END)->snap_end.dev = DEV;
}

/* A whole snapshot of a live device with one read in flight, or none (tag < 0). */
static void __unused snap(struct stream *s, int tag, uint64_t start_ms)
{
	dev(s, DEV_LIVE);
	queue(s, 0, 64, "");
	queue(s, 1, 64, "");
	if (tag >= 0)
		req(s, 0, (uint32_t)tag, start_ms, REQ_SERVER);
	snap_end(s);
}

static __unused struct rec *cmd(struct stream *s, uint64_t id, enum rec_cmd_nr nr,
				uint64_t submit_ms)
{
	struct rec *r = push(s, REC_CMD);

	r->cmd.id = id;
	r->cmd.dev = DEV;
	r->cmd.nr = nr;
	r->cmd.tgid = SERVER;
	r->cmd.tid = 790;
	SET(r->cmd.comm, "glidefsd");
	r->cmd.submit_ns = AT(submit_ms);
	r->cmd.punt_ns = r->cmd.submit_ns + 20000;
	r->cmd.worker_ns = r->cmd.submit_ns + 60000;
	r->cmd.ctrl_ns = r->cmd.submit_ns + 80000;
	return r;
}

#define WRITER 812 /* sh, that writes attributes */

static __unused struct rec *freeze(struct stream *s, uint64_t id, uint32_t tid, uint64_t wait_ms)
{
	struct rec *r = push(s, REC_FREEZE);

	r->freeze.id = id;
	r->freeze.dev = DEV;
	r->freeze.tid = r->freeze.tgid = tid;
	SET(r->freeze.comm, tid == WRITER ? "sh" : "gfs-lane");
	r->freeze.start_ns = r->freeze.wait_ns = AT(wait_ms);
	r->freeze.depth = 1;
	return r;
}

static __unused struct rec *attr(struct stream *s, uint64_t id, uint32_t tid, uint64_t start_ms)
{
	struct rec *r = push(s, REC_ATTR);

	r->attr.id = id;
	r->attr.dev = DEV;
	r->attr.tid = r->attr.tgid = tid;
	SET(r->attr.attr, "scheduler");
	SET(r->attr.value, "mq-deadline");
	SET(r->attr.comm, "sh");
	SET(r->attr.cmdline, "sh -c echo mq-deadline > scheduler");
	r->attr.start_ns = AT(start_ms);
	return r;
}

static __unused struct rec *task(struct stream *s, uint32_t tid, uint32_t tgid, uint32_t ppid,
				 const char *comm, const char *kstack)
{
	struct rec *r = push(s, REC_TASK);

	r->task.tid = tid;
	r->task.tgid = tgid;
	r->task.ppid = ppid;
	r->task.state = strstr(kstack, "freeze") ? 'D' : 'S';
	SET(r->task.comm, "%s", comm);
	SET(r->task.kstack, "%s", kstack);
	return r;
}

static __unused struct rec *span(struct stream *s, const char *event, uint64_t op,
				 uint64_t start_ms)
{
	struct rec *r = push(s, REC_SPAN);

	r->span.open = true;
	r->span.pid = SERVER;
	r->span.dev = DEV;
	SET(r->span.event, "%s", event);
	SET(r->span.volume, "vm1");
	r->span.op_id = op;
	r->span.start_ns = AT(start_ms);
	return r;
}

/* The daemon serves (0, tag): an io span, that waits for another operation's GET. */
static void __unused spans_of_read(struct stream *s, uint32_t tag, uint64_t start_ms)
{
	struct rec *r = span(s, "io", 40, start_ms);

	r->span.is_io = true;
	r->span.io_op = 'R';
	r->span.tag = tag;
	r->span.sector = 4096;
	r->span.nsectors = 8;
	r->span.link_op_id = 41;
	r = span(s, "object.get", 41, start_ms + 20);
	r->span.dev = -1;
	r->span.attempt = 1;
	SET(r->span.key, "chunks/0007/ab12.pack");
	r = span(s, "object.get", 99, start_ms - 100);
	SET(r->span.key, "chunks/somebody/else");
}

/* What a session was concluded to: the events, in order, and the findings as they ended. */
struct result {
	struct model *m;
	unsigned int nr, nr_open, nr_update, nr_close;
	struct {
		uint64_t id;
		enum verdict verdict;
		enum finding_event ev;
		char summary[400];
	} e[256];
	struct sink *sink;
};

static void on_finding(void *ctx, const struct finding *f, enum finding_event ev)
{
	struct result *x = ctx;

	assert_true(x->nr < ARRAY_SIZE(x->e));
	x->e[x->nr].id = f->id;
	x->e[x->nr].verdict = f->verdict;
	x->e[x->nr].ev = ev;
	memcpy(x->e[x->nr].summary, f->summary, sizeof(f->summary));
	x->nr++;
	x->nr_open += ev == FINDING_OPEN;
	x->nr_update += ev == FINDING_UPDATE;
	x->nr_close += ev == FINDING_CLOSE;
	assert_true(f->summary[0]);
	assert_true(f->advice[0]);
	assert_null(strchr(f->summary, '\n'));
	if (x->sink && x->sink->finding)
		x->sink->finding(x->sink, f, ev);
}

static void __unused result_begin(struct result *x, struct sink *sink)
{
	struct model_config cfg = {.on_finding = on_finding, .ctx = x};

	memset(x, 0, sizeof(*x));
	x->sink = sink;
	x->m = model_new(&cfg);
	assert_non_null(x->m);
}

static void __unused result_feed(struct result *x, const struct rec *r)
{
	assert_int_equal(model_feed(x->m, r), 0);
	if (x->sink && x->sink->record)
		x->sink->record(x->sink, r);
}

#endif
