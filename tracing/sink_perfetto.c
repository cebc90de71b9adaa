// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Chrome trace JSON ("Trace Event Format", JSON object form), which ui.perfetto.dev opens: a
 * process for each device, a thread for each track of it. Complete events of one thread must nest,
 * so what overlaps gets threads of its own. Findings are instants of the process. Written at close.
 */
#include <stdio.h>
#include <string.h>

#include "tracing/out.h"
#include "tracing/sink.h"
#include "tracing/timeline.h"

struct perfetto {
	struct sink sink;
	struct out *out;
	struct timeline t;
	struct json_out j;
	uint64_t next_tid;
};

static uint64_t pid_of(int32_t dev)
{
	return dev < 0 ? 1 : (uint64_t)dev + 2;
}

static void event_begin(struct perfetto *p, const char *ph, const char *name, uint64_t pid,
			uint64_t tid)
{
	putc('\n', p->j.f);
	json_out_begin(&p->j, NULL, '{');
	json_out_str(&p->j, "ph", ph);
	json_out_str(&p->j, "name", name);
	json_out_u64(&p->j, "pid", pid);
	json_out_u64(&p->j, "tid", tid);
}

static void metadata(struct perfetto *p, const char *what, uint64_t pid, uint64_t tid,
		     const char *name, uint64_t sort_index)
{
	event_begin(p, "M", what, pid, tid);
	json_out_begin(&p->j, "args", '{');
	if (name)
		json_out_str(&p->j, "name", name);
	else
		json_out_u64(&p->j, "sort_index", sort_index);
	json_out_end(&p->j, '}');
	json_out_end(&p->j, '}');
}

static void complete(struct perfetto *p, const char *name, const char *cat, uint64_t pid,
		     uint64_t tid, uint64_t start, uint64_t end)
{
	event_begin(p, "X", name, pid, tid);
	json_out_str(&p->j, "cat", cat);
	json_out_us(&p->j, "ts", start);
	json_out_us(&p->j, "dur", end - start);
}

static void write_item(struct perfetto *p, const struct tl_item *it, uint64_t tid)
{
	const char *cat = tl_track_name(tl_track_of(it->kind));
	struct tl_part parts[TL_PARTS];
	unsigned int n;
	char title[320];

	tl_title(it, title, sizeof(title));
	complete(p, title, cat, pid_of(it->dev), tid, it->start_ns, tl_end(&p->t, it));
	json_out_begin(&p->j, "args", '{');
	tl_json_members(&p->j, it);
	json_out_end(&p->j, '}');
	json_out_end(&p->j, '}');
	n = tl_parts(&p->t, it, parts);
	for (unsigned int i = 0; i < n; i++) {
		complete(p, parts[i].name, cat, pid_of(it->dev), tid, parts[i].start_ns,
			 parts[i].end_ns);
		json_out_end(&p->j, '}');
	}
}

/* One track: its threads, then its items. */
static void write_track(struct perfetto *p, struct tl_item **items, size_t n)
{
	unsigned int lanes = tl_assign_lanes(&p->t, items, n);
	enum tl_track track = tl_track_of(items[0]->kind);
	uint64_t pid = pid_of(items[0]->dev), tid = p->next_tid;

	for (unsigned int l = 0; l < lanes; l++) {
		char base[48], name[64];

		snprintf(base, sizeof(base), "%s", tl_track_name(track));
		if (track == TRACK_REQ)
			snprintf(base, sizeof(base), "queue %u requests", items[0]->req.queue);
		snprintf(name, sizeof(name), l ? "%s (%u)" : "%s", base, l + 1);
		metadata(p, "thread_name", pid, tid + l, name, 0);
		metadata(p, "thread_sort_index", pid, tid + l, NULL, tid + l);
	}
	for (size_t i = 0; i < n; i++)
		if (items[i]->lane < lanes)
			write_item(p, items[i], tid + items[i]->lane);
	p->next_tid += lanes;
}

static void write_process(struct perfetto *p, int32_t dev)
{
	char name[REC_VOLUME_LEN + 32];

	tl_dev_name(&p->t, dev, name, sizeof(name));
	metadata(p, "process_name", pid_of(dev), 0, name, 0);
	metadata(p, "process_sort_index", pid_of(dev), 0, NULL, pid_of(dev));
}

static void write_finding(struct perfetto *p, const struct finding *f)
{
	char lasted[24];

	event_begin(p, "i", verdict_name(f->verdict), pid_of(f->dev), 0);
	json_out_str(&p->j, "cat", "finding");
	json_out_str(&p->j, "s", "p");
	json_out_us(&p->j, "ts", f->since_ns);
	json_out_begin(&p->j, "args", '{');
	json_out_str(&p->j, "summary", f->summary);
	json_out_str(&p->j, "severity", severity_name(f->severity));
	if (f->catalogue && f->catalogue[0])
		json_out_str(&p->j, "catalogue", f->catalogue);
	if (f->waiter.tid) {
		json_out_str(&p->j, "waiter", f->waiter.comm);
		json_out_u64(&p->j, "waiter tid", f->waiter.tid);
		json_out_str(&p->j, "waiter kernel stack", f->waiter.kstack);
	}
	json_out_str(&p->j, "duration",
		     duration_text(tl_finding_end(&p->t, f) - f->since_ns, lasted));
	json_out_str(&p->j, "advice", f->advice);
	if (!f->end_ns)
		json_out_bool(&p->j, "open", true);
	json_out_end(&p->j, '}');
	json_out_end(&p->j, '}');
}

static bool has_items(struct tl_item **all, size_t n, int32_t dev)
{
	for (size_t i = 0; i < n; i++)
		if (all[i]->dev == dev)
			return true;
	return false;
}

/* A device of which there is nothing but findings must have its name as well. */
static void write_findings(struct perfetto *p, struct tl_item **all, size_t n)
{
	for (size_t i = 0; i < p->t.nr_findings; i++) {
		int32_t dev = p->t.finding[i]->dev;
		bool named = has_items(all, n, dev);

		for (size_t k = 0; k < i && !named; k++)
			named = p->t.finding[k]->dev == dev;
		if (!named)
			write_process(p, dev);
		write_finding(p, p->t.finding[i]);
	}
}

static void write_other(struct perfetto *p)
{
	uint64_t left_out = p->t.findings_left_out + p->t.devs_left_out + p->t.out_of_memory;

	for (int k = 0; k < TL_NR; k++)
		left_out += p->t.left_out[k];
	json_out_begin(&p->j, "otherData", '{');
	json_out_str(&p->j, "tool", p->t.meta.tool);
	json_out_str(&p->j, "kernel", p->t.meta.kernel);
	json_out_str(&p->j, "host", p->t.meta.host);
	json_out_str(&p->j, "clock", "CLOCK_MONOTONIC");
	json_out_u64(&p->j, "wall_ns_at_first_record", p->t.meta.wall_ns);
	json_out_u64(&p->j, "dropped", p->t.counts.dropped);
	json_out_u64(&p->j, "left_out", left_out);
	json_out_end(&p->j, '}');
}

static int write_all(struct perfetto *p)
{
	size_t n = 0;
	struct tl_item **all;

	tl_finish(&p->t);
	all = tl_order(&p->t, &n);
	if (!all)
		return -ENOMEM;
	p->j.f = out_file(p->out);
	p->next_tid = 1;
	json_out_begin(&p->j, NULL, '{');
	json_out_str(&p->j, "displayTimeUnit", "ms");
	json_out_begin(&p->j, "traceEvents", '[');
	for (size_t i = 0, k; i < n; i = k) {
		if (!i || all[i]->dev != all[i - 1]->dev)
			write_process(p, all[i]->dev);
		for (k = i + 1; k < n && tl_same_track(all[i], all[k]);)
			k++;
		write_track(p, all + i, k - i);
	}
	write_findings(p, all, n);
	json_out_end(&p->j, ']');
	write_other(p);
	json_out_end(&p->j, '}');
	putc('\n', p->j.f);
	free(all);
	return 0;
}

static void perfetto_record(struct sink *s, const struct rec *r)
{
	tl_record(&container_of(s, struct perfetto, sink)->t, r);
}

static void perfetto_finding(struct sink *s, const struct finding *f, enum finding_event ev)
{
	tl_finding(&container_of(s, struct perfetto, sink)->t, f, ev);
}

static int perfetto_close(struct sink *s, const struct model *m)
{
	struct perfetto *p = container_of(s, struct perfetto, sink);
	int rc = m ? write_all(p) : 0;

	if (rc || !m)
		out_abandon(p->out);
	else
		rc = out_close(p->out);
	tl_free(&p->t);
	free(p);
	return rc;
}

struct sink *sink_perfetto(const char *path, char *err, size_t err_len)
{
	struct perfetto *p = calloc(1, sizeof(*p));

	if (!p || tl_init(&p->t)) {
		snprintf(err, err_len, "%s: out of memory", path);
		free(p);
		return NULL;
	}
	p->sink = (struct sink){perfetto_record, perfetto_finding, perfetto_close};
	p->out = out_open(path, err, err_len);
	if (p->out)
		return &p->sink;
	tl_free(&p->t);
	free(p);
	return NULL;
}
