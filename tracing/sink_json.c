// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Findings as JSON, one object a line, written as they come; Documentation/gfs-trace.schema.json is
 * the contract. What is unknown, zero or empty is left out. One thread.
 */
#include "tracing/sink.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "tracing/words.h"

#define LINE_VERSION 1

struct json_sink {
	struct sink s;
	FILE *f;
	int err; /* first failed write */
	uint64_t nr_findings, nr_open;
};

static void add(struct json_object *o, const char *key, struct json_object *v)
{
	if (v)
		json_object_object_add(o, key, v);
}

static void add_str(struct json_object *o, const char *key, const char *s)
{
	char buf[4096];

	if (s[0])
		add(o, key,
		    json_object_new_string(utf8_clean(buf, sizeof(buf), s, SIZE_MAX, true)));
}

static void add_num(struct json_object *o, const char *key, uint64_t v)
{
	if (v)
		add(o, key, json_object_new_uint64(v));
}

static void add_int(struct json_object *o, const char *key, int64_t v)
{
	if (v)
		add(o, key, json_object_new_int64(v));
}

static void add_always(struct json_object *o, const char *key, uint64_t v)
{
	add(o, key, json_object_new_uint64(v));
}

/* Three decimals: a microsecond. */
static void add_ms_always(struct json_object *o, const char *key, uint64_t ns)
{
	char text[40];

	snprintf(text, sizeof(text), "%llu.%03llu", (unsigned long long)(ns / NSEC_PER_MSEC),
		 (unsigned long long)(ns / NSEC_PER_USEC % 1000));
	add(o, key, json_object_new_double_s((double)ns / 1e6, text));
}

static void add_ms(struct json_object *o, const char *key, uint64_t ns)
{
	if (ns)
		add_ms_always(o, key, ns);
}

static void add_op(struct json_object *o, const char *key, char op)
{
	char s[2] = {op, '\0'};

	add_str(o, key, s);
}

static void add_stack(struct json_object *o, const char *key, const char *stack)
{
	struct json_object *a;

	if (!stack[0])
		return;
	a = json_object_new_array();
	for (const char *p = stack; *p;) {
		size_t len = strcspn(p, ";");
		char buf[512];

		if (len)
			json_object_array_add(a, json_object_new_string(utf8_clean(buf, sizeof(buf),
										   p, len, true)));
		p += len + (p[len] == ';');
	}
	add(o, key, a);
}

static struct json_object *task_object(const struct rec_task *t)
{
	struct json_object *o;

	if (!t->tid && !t->comm[0])
		return NULL;
	o = json_object_new_object();
	add_num(o, "tid", t->tid);
	add_num(o, "tgid", t->tgid);
	add_str(o, "comm", t->comm);
	add_op(o, "state", t->state);
	add_str(o, "cmdline", t->cmdline);
	if (t->killed)
		add(o, "killed", json_object_new_boolean(true));
	add_stack(o, "kstack", t->kstack);
	add_stack(o, "ustack", t->ustack);
	add_str(o, "ustack_error", t->ustack_error);
	return o;
}

static struct json_object *span_object(const struct rec_span *s, uint64_t now)
{
	struct json_object *o;
	uint64_t end = s->end_ns ? s->end_ns : now;

	if (!s->event[0])
		return NULL;
	o = json_object_new_object();
	add_str(o, "event", s->event);
	add_str(o, "key", s->key);
	add_ms_always(o, "age_ms", end > s->start_ns ? end - s->start_ns : 0);
	add_num(o, "op_id", s->op_id);
	add_num(o, "pid", s->pid);
	add_str(o, "volume", s->volume);
	add_num(o, "attempt", s->attempt);
	add_int(o, "result", s->result);
	add_str(o, "stage", s->stage);
	return o;
}

static void request_members(struct json_object *o, const struct blocker *b)
{
	const struct rec_req *q = &b->req;

	add_always(o, "queue", q->queue);
	add_always(o, "tag", q->tag);
	add_op(o, "op", q->op);
	add_always(o, "sector", q->sector);
	add_always(o, "nsectors", q->nsectors);
	add_str(o, "state", rec_req_state_name(q->state));
	add_num(o, "start_ns", q->start_ns);
}

static void queue_members(struct json_object *o, const struct blocker *b)
{
	const struct rec_queue *q = &b->queue;

	add_always(o, "queue", q->queue);
	add_always(o, "armed", q->armed);
	add_always(o, "depth", q->depth);
	add_always(o, "missing_count", q->depth > q->armed ? q->depth - q->armed : 0);
	add_str(o, "missing", q->missing);
	add(o, "exact", json_object_new_boolean(q->exact));
	if (q->guessed)
		add(o, "owner_guessed", json_object_new_boolean(true));
}

static void opener_members(struct json_object *o, const struct blocker *b)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/ublk%c%d", b->opener.cdev ? 'c' : 'b', b->opener.dev);
	add_str(o, "device", path);
	add_num(o, "tgid", b->opener.tgid);
	add_str(o, "comm", b->opener.comm);
	add_str(o, "what", b->opener.what);
}

static void server_members(struct json_object *o, const struct blocker *b)
{
	add_num(o, "tgid", b->server.tgid);
	add_str(o, "comm", b->server.comm);
	add_num(o, "since_ns", b->server.at_ns);
}

static void task_members(struct json_object *o, const struct blocker *b)
{
}

static const struct {
	const char *type;
	void (*members)(struct json_object *o, const struct blocker *b);
} blockers[] = {
	[BLK_REQUEST] = {"request", request_members},    [BLK_QUEUE] = {"queue", queue_members},
	[BLK_OPENER] = {"opener", opener_members},       [BLK_TASK] = {"task", task_members},
	[BLK_NO_SERVER] = {"no-server", server_members},
};

static struct json_object *blocker_object(const struct finding *f, const struct blocker *b)
{
	struct json_object *o = json_object_new_object();

	add_str(o, "type", blockers[b->type].type);
	blockers[b->type].members(o, b);
	add_ms(o, "age_ms", b->age_ns);
	add(o, "owner", task_object(&b->owner));
	add(o, "io_span", span_object(&b->io_span, f->last_ns));
	add(o, "span", span_object(&b->span, f->last_ns));
	return o;
}

static struct json_object *command_object(const struct finding *f)
{
	const struct rec_cmd *c = &f->cmd;
	struct json_object *o, *ms;
	struct cmd_stages st;
	char name[24];

	if (!c->id)
		return NULL;
	o = json_object_new_object();
	ms = json_object_new_object();
	words_stages(c, f->end_ns ? f->end_ns : f->last_ns, &st);
	add_always(o, "id", c->id);
	add_str(o, "name", rec_cmd_name(c->nr, name));
	add_num(o, "tgid", c->tgid);
	add_str(o, "comm", c->comm);
	add_num(o, "tid", c->tid);
	add_str(o, "stage", rec_cmd_stage(c));
	add_ms(ms, "punt", st.punt);
	add_ms(ms, "worker", st.worker);
	add_ms(ms, "ready_wait", st.ready_wait);
	add_ms(ms, "add_disk", st.add_disk);
	add_ms(ms, "elevator", st.elevator);
	add_ms(ms, "part_scan", st.part_scan);
	add(o, "stages_ms", ms);
	if (c->end_ns)
		add(o, "res", json_object_new_int(c->res));
	if (c->adopted)
		add(o, "adopted", json_object_new_boolean(true));
	return o;
}

static struct json_object *attr_object(const struct rec_attr *a)
{
	struct json_object *o;

	if (!a->attr[0])
		return NULL;
	o = json_object_new_object();
	add_str(o, "name", a->attr);
	add_str(o, "value", a->value);
	add_ms_always(o, "freeze_ms", a->freeze_ns);
	add_num(o, "tgid", a->tgid);
	add_str(o, "comm", a->comm);
	add_str(o, "cmdline", a->cmdline);
	return o;
}

static struct json_object *line_new(const char *type)
{
	struct json_object *o = json_object_new_object();

	add(o, "v", json_object_new_int(LINE_VERSION));
	add_str(o, "type", type);
	return o;
}

static void put_line(struct json_sink *k, struct json_object *o, bool flush)
{
	const char *text = json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);

	errno = 0;
	if (!k->err && (!text || fputs(text, k->f) == EOF || putc('\n', k->f) == EOF ||
			(flush && fflush(k->f))))
		k->err = errno ? -errno : -EIO;
	json_object_put(o);
}

static void json_finding(struct sink *s, const struct finding *f, enum finding_event ev)
{
	static const char *const events[] = {"open", "update", "close"};
	struct json_sink *k = container_of(s, struct json_sink, s);
	struct json_object *o = line_new("finding"), *a;
	char path[32];

	k->nr_findings += ev == FINDING_OPEN;
	k->nr_open += ev == FINDING_OPEN;
	k->nr_open -= ev == FINDING_CLOSE && k->nr_open;
	add_str(o, "event", events[ev]);
	add_always(o, "id", f->id);
	add_str(o, "verdict", verdict_name(f->verdict));
	add_str(o, "severity", severity_name(f->severity));
	add_str(o, "catalogue", f->catalogue);
	if (f->dev >= 0) {
		snprintf(path, sizeof(path), "/dev/ublkb%d", f->dev);
		add(o, "dev", json_object_new_int(f->dev));
		add_str(o, "device", path);
	}
	add_str(o, "volume", f->volume);
	add_str(o, "stage", f->stage);
	add_always(o, "since_ns", f->since_ns);
	add_num(o, "end_ns", f->end_ns);
	add_ms_always(o, "duration_ms",
		      (f->end_ns ? f->end_ns : f->last_ns) > f->since_ns
			      ? (f->end_ns ? f->end_ns : f->last_ns) - f->since_ns
			      : 0);
	add(o, "open", json_object_new_boolean(!f->end_ns));
	add_str(o, "summary", f->summary);
	add_str(o, "advice", f->advice);
	add(o, "waiter", f->waiter.tid ? task_object(&f->waiter) : NULL);
	add(o, "command", command_object(f));
	add(o, "attribute", attr_object(&f->attr));
	a = json_object_new_array();
	for (unsigned int i = 0; i < f->nr_blockers; i++)
		json_object_array_add(a, blocker_object(f, &f->blocker[i]));
	add(o, "blockers", a);
	add_always(o, "more_blockers", f->more_blockers);
	if (f->nr_cycle) {
		a = json_object_new_array();
		for (unsigned int i = 0; i < f->nr_cycle; i++) {
			char buf[256];

			json_object_array_add(
				a, json_object_new_string(utf8_clean(buf, sizeof(buf), f->cycle[i],
								     sizeof(f->cycle[i]), true)));
		}
		add(o, "cycle", a);
	}
	put_line(k, o, true);
}

static void add_counts(struct json_object *o, const struct rec_counts *c)
{
	add_always(o, "events", c->events);
	add_always(o, "dropped", c->dropped);
	add_always(o, "unmatched_cmds", c->unmatched_cmds);
	add_always(o, "unmatched_freezes", c->unmatched_freezes);
	add_always(o, "spans", c->spans);
	add_always(o, "spans_unmatched", c->spans_unmatched);
	add_always(o, "kernel_unmatched", c->kernel_unmatched);
}

static struct json_object *meta_line(const struct rec *r)
{
	const struct rec_meta *t = &r->meta;
	struct json_object *o = line_new("meta");

	add_always(o, "t_ns", r->t_ns);
	add_str(o, "tool", t->tool);
	add_str(o, "kernel", t->kernel);
	add_str(o, "host", t->host);
	add_num(o, "wall_ns", t->wall_ns);
	add_ms(o, "budget_start_dev_ms", t->budget_start_dev_ns);
	add_ms(o, "budget_cmd_ms", t->budget_cmd_ns);
	add_ms(o, "budget_freeze_ms", t->budget_freeze_ns);
	add_ms(o, "budget_attr_ms", t->budget_attr_ns);
	add_ms(o, "budget_request_ms", t->budget_request_ns);
	add_num(o, "filter_pid", t->filter_pid);
	if (t->filter_dev > 0)
		add_int(o, "filter_dev", t->filter_dev);
	add_str(o, "filter_volume", t->filter_volume);
	return o;
}

static struct json_object *hook_line(const struct rec *r)
{
	struct json_object *o = line_new("hook");

	add_str(o, "hook", r->hook.hook);
	add_str(o, "variant", r->hook.variant);
	add_str(o, "reason", r->hook.reason);
	return o;
}

static struct json_object *hist_line(const struct rec *r)
{
	struct json_object *o = line_new("hist"), *a = json_object_new_array();
	size_t nr = REC_HIST_BUCKETS;

	add_always(o, "t_ns", r->t_ns);
	if (r->hist.dev >= 0)
		add(o, "dev", json_object_new_int(r->hist.dev));
	add_str(o, "what", r->hist.what);
	add_op(o, "op", r->hist.op);
	add_always(o, "count", r->hist.count);
	add_always(o, "sum_ns", r->hist.sum_ns);
	while (nr && !r->hist.bucket[nr - 1])
		nr--;
	for (size_t i = 0; i < nr; i++)
		json_object_array_add(a, json_object_new_uint64(r->hist.bucket[i]));
	add(o, "bucket", a);
	return o;
}

static void json_record(struct sink *s, const struct rec *r)
{
	struct json_sink *k = container_of(s, struct json_sink, s);
	struct json_object *o;

	switch (r->kind) {
	case REC_META:
		put_line(k, meta_line(r), true);
		break;
	case REC_HOOK:
		put_line(k, hook_line(r), false);
		break;
	case REC_HIST:
		put_line(k, hist_line(r), false);
		break;
	case REC_COUNTS:
		o = line_new("counts");
		add_always(o, "t_ns", r->t_ns);
		add_counts(o, &r->counts);
		put_line(k, o, true);
		break;
	default:
		break;
	}
}

static int json_close(struct sink *s, const struct model *m)
{
	struct json_sink *k = container_of(s, struct json_sink, s);
	const struct rec_counts none = {0}, *c = m ? model_counts(m) : NULL;
	struct json_object *o;
	int ret;

	if (!m)
		goto out;
	o = line_new("summary");
	add_always(o, "findings", k->nr_findings);
	add_always(o, "open", k->nr_open);
	add_always(o, "exit", (uint64_t)model_exit_status(m));
	add_counts(o, c ? c : &none);
	put_line(k, o, true);
out:
	errno = 0;
	if (k->f != stdout && fclose(k->f) && !k->err)
		k->err = errno ? -errno : -EIO;
	ret = k->err;
	free(k);
	return ret;
}

struct sink *sink_json(const char *path, char *err, size_t err_len)
{
	struct json_sink *k = calloc(1, sizeof(*k));

	if (k)
		k->f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	if (!k || !k->f) {
		snprintf(err, err_len, "%s: cannot be written: %s", path, strerror(errno));
		free(k);
		return NULL;
	}
	k->s = (struct sink){.record = json_record, .finding = json_finding, .close = json_close};
	return &k->s;
}
