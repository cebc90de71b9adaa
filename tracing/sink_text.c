// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Findings for a person at 3 a.m.: a block per finding, as it appears; one line when it ends;
 * totals at the end. 80 columns. Text from elsewhere is cleaned of control characters. One thread.
 */
#include "tracing/sink.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tracing/out.h"
#include "tracing/words.h"

#define COLUMNS      80
#define SHORT_FRAMES 8

struct text_sink {
	struct sink s;
	FILE *f;
	bool color, verbose;
	uint64_t wall_minus_mono; /* 0: unknown */
	unsigned int nr_hooks_off, nr_hooks;
	uint64_t nr_findings, nr_open;
	uint64_t told_ended; /* finding that had ended when it was opened: its end is told */
};

/* label, then text from column `indent` on; long text goes on below, at the same column. */
static void put_wrapped(FILE *f, unsigned int indent, const char *label, const char *text)
{
	unsigned int at = indent;
	char clean[4096];
	const char *p = utf8_clean(clean, sizeof(clean), text, SIZE_MAX, false);
	bool first = true;

	fprintf(f, "%-*s", (int)indent, label);
	while (*p) {
		size_t len = strcspn(p, " ");

		if (!first && at + 1 + len > COLUMNS) {
			fprintf(f, "\n%*s", (int)indent, "");
			at = indent;
			first = true;
		}
		if (!first) {
			putc(' ', f);
			at++;
		}
		fwrite(p, 1, len, f);
		at += len;
		first = false;
		p += len;
		while (*p == ' ')
			p++;
	}
	putc('\n', f);
}

static void put_stack(struct text_sink *k, const char *label, const char *stack)
{
	unsigned int nr = 0, skipped = 0;

	for (const char *p = stack; *p;) {
		size_t len = strcspn(p, ";");
		char frame[512];

		if (len && (k->verbose || nr < SHORT_FRAMES))
			fprintf(k->f, "           %-7s%s\n", nr++ ? "" : label,
				utf8_clean(frame, sizeof(frame), p, len, false));
		else if (len)
			skipped++;
		p += len + (p[len] == ';');
	}
	if (skipped)
		fprintf(k->f, "           %-7s(%u more)\n", "", skipped);
}

static void put_task(struct text_sink *k, const char *label, const struct rec_task *t)
{
	char text[320], who[96];
	size_t at = 0;

	if (!t->tid && !t->comm[0])
		return;
	words_add(text, sizeof(text), &at, "%s",
		  words_task(t->comm, t->tgid, t->tid, who, sizeof(who)));
	if (t->state)
		words_add(text, sizeof(text), &at, ", state %c", t->state);
	if (t->killed)
		words_add(text, sizeof(text), &at, ", SIGKILL pending");
	if (t->cmdline[0])
		words_add(text, sizeof(text), &at, ": %s", t->cmdline);
	put_wrapped(k->f, 11, label, text);
	put_stack(k, "kernel", t->kstack);
	put_stack(k, "user", t->ustack);
	if (t->ustack_error[0] && !t->ustack[0])
		put_wrapped(k->f, 18, "           user", t->ustack_error);
}

static void put_span(struct text_sink *k, const char *label, const struct rec_span *s, uint64_t now)
{
	char text[420], span[400];

	if (!s->event[0])
		return;
	words_span(s, now, span, sizeof(span));
	snprintf(text, sizeof(text), "daemon: %s", span);
	put_wrapped(k->f, 11, label, text);
}

static void put_blocker(struct text_sink *k, const struct finding *f, const struct blocker *b,
			bool first)
{
	const char *label = first ? "  blocker" : "";
	char text[320], part[200], dur[24];
	size_t at = 0;

	switch (b->type) {
	case BLK_REQUEST:
		words_add(text, sizeof(text), &at, "%s, %s", words_req(&b->req, part, sizeof(part)),
			  b->req.state == REQ_SERVER ? "the server has it"
						     : rec_req_state_name(b->req.state));
		break;
	case BLK_QUEUE:
		words_add(text, sizeof(text), &at, "queue %u: %s%u of %u FETCHes armed",
			  b->queue.queue, b->queue.exact ? "" : "at least ", b->queue.armed,
			  b->queue.depth);
		if (b->queue.missing[0])
			words_add(text, sizeof(text), &at, ", missing tags %s", b->queue.missing);
		break;
	case BLK_OPENER:
		words_add(text, sizeof(text), &at, "/dev/ublk%c%d open in %s%s%s",
			  b->opener.cdev ? 'c' : 'b', b->opener.dev,
			  words_task(b->opener.comm, b->opener.tgid, 0, part, sizeof(part)),
			  b->opener.what[0] ? ", " : "", b->opener.what);
		break;
	case BLK_TASK:
		words_add(text, sizeof(text), &at, "the server's own work");
		break;
	case BLK_NO_SERVER:
		words_add(text, sizeof(text), &at, "no server");
		if (b->server.tgid)
			words_add(
				text, sizeof(text), &at, "; it was %s",
				words_task(b->server.comm, b->server.tgid, 0, part, sizeof(part)));
		break;
	}
	if (b->age_ns)
		words_add(text, sizeof(text), &at, ", %s", duration_text(b->age_ns, dur));
	put_wrapped(k->f, 11, label, text);
	put_span(k, "", &b->io_span, f->last_ns);
	put_span(k, "", &b->span, f->last_ns);
	put_task(k, "  owner", &b->owner);
}

static void time_text(const struct text_sink *k, uint64_t ns, char buf[32])
{
	uint64_t wall = ns + k->wall_minus_mono;
	time_t sec = (time_t)(wall / NSEC_PER_SEC);
	struct tm tm;
	size_t n;

	if (!k->wall_minus_mono || !localtime_r(&sec, &tm)) {
		snprintf(buf, 32, "%.3f s", (double)ns / 1e9);
		return;
	}
	n = strftime(buf, 24, "%H:%M:%S", &tm);
	snprintf(buf + n, 32 - n, ".%03u", (unsigned int)(wall / NSEC_PER_MSEC % 1000));
}

static void put_headline(struct text_sink *k, const struct finding *f, const char *what)
{
	const char *on = "", *off = "";
	char volume[REC_VOLUME_LEN];

	if (k->color) {
		on = f->end_ns ? "\033[32m"
			       : (f->severity == SEV_CRITICAL ? "\033[1;31m" : "\033[1;33m");
		off = "\033[0m";
	}
	fprintf(k->f, "%s%s %s%s", on, what, verdict_name(f->verdict), off);
	if (f->catalogue[0])
		fprintf(k->f, " [%s]", f->catalogue);
	if (f->dev >= 0)
		fprintf(k->f, " /dev/ublkb%d", f->dev);
	if (f->volume[0])
		fprintf(k->f, " (%s)",
			utf8_clean(volume, sizeof(volume), f->volume, sizeof(f->volume), false));
	fprintf(k->f, ", finding %llu\n", (unsigned long long)f->id);
}

static void put_block(struct text_sink *k, const struct finding *f)
{
	char since[32], dur[24], text[96];
	uint64_t end = f->end_ns ? f->end_ns : f->last_ns;

	time_text(k, f->since_ns, since);
	snprintf(text, sizeof(text), "%s, %s%s", since,
		 duration_text(end > f->since_ns ? end - f->since_ns : 0, dur),
		 f->end_ns ? "" : " so far");
	put_wrapped(k->f, 11, "  since", text);
	put_wrapped(k->f, 11, "  what", f->summary);
	put_task(k, "  waiter", &f->waiter);
	for (unsigned int i = 0; i < f->nr_blockers; i++)
		put_blocker(k, f, &f->blocker[i], !i);
	if (f->more_blockers)
		fprintf(k->f, "           and %u more\n", f->more_blockers);
	for (unsigned int i = 0; i < f->nr_cycle; i++)
		put_wrapped(k->f, 11, i ? "" : "  cycle", f->cycle[i]);
	put_wrapped(k->f, 11, "  advice", f->advice);
	putc('\n', k->f);
}

static void text_finding(struct sink *s, const struct finding *f, enum finding_event ev)
{
	struct text_sink *k = container_of(s, struct text_sink, s);

	switch (ev) {
	case FINDING_OPEN:
		k->nr_findings++;
		k->nr_open++;
		k->told_ended = f->end_ns ? f->id : 0;
		put_headline(k, f, f->severity == SEV_CRITICAL ? "CRITICAL" : "WARNING");
		put_block(k, f);
		break;
	case FINDING_UPDATE:
		put_headline(k, f, "UPDATE");
		put_block(k, f);
		break;
	case FINDING_CLOSE:
		k->nr_open -= k->nr_open != 0;
		if (k->told_ended == f->id)
			break;
		put_headline(k, f, "ENDED");
		put_wrapped(k->f, 11, "", f->summary);
		putc('\n', k->f);
		break;
	}
	fflush(k->f);
}

static void text_record(struct sink *s, const struct rec *r)
{
	struct text_sink *k = container_of(s, struct text_sink, s);

	switch (r->kind) {
	case REC_META:
		k->wall_minus_mono = r->meta.wall_ns > r->t_ns ? r->meta.wall_ns - r->t_ns : 0;
		if (k->verbose)
			fprintf(k->f, "%s on %s, kernel %s\n", r->meta.tool, r->meta.host,
				r->meta.kernel);
		break;
	case REC_HOOK:
		k->nr_hooks++;
		k->nr_hooks_off += strcmp(r->hook.variant, "off") == 0;
		if (k->verbose)
			fprintf(k->f, "hook %-16s %s%s%s\n", r->hook.hook, r->hook.variant,
				r->hook.reason[0] ? ": " : "", r->hook.reason);
		break;
	case REC_KMSG:
		if (k->verbose)
			put_wrapped(k->f, 11, "kernel log", r->kmsg.line);
		break;
	default:
		break;
	}
}

static int text_close(struct sink *s, const struct model *m)
{
	struct text_sink *k = container_of(s, struct text_sink, s);
	const struct rec_counts none = {0}, *c = m ? model_counts(m) : NULL;
	char text[400];
	size_t at = 0;
	int ret = 0;

	if (!m)
		goto out;
	if (!c)
		c = &none;
	words_add(text, sizeof(text), &at, "%llu findings, %llu of them open.",
		  (unsigned long long)k->nr_findings, (unsigned long long)k->nr_open);
	words_add(text, sizeof(text), &at, " Events: %llu, dropped: %llu.",
		  (unsigned long long)c->events, (unsigned long long)c->dropped);
	words_add(text, sizeof(text), &at, " Unmatched: %llu commands, %llu freezes.",
		  (unsigned long long)c->unmatched_cmds, (unsigned long long)c->unmatched_freezes);
	words_add(text, sizeof(text), &at,
		  " Daemon spans: %llu, without kernel partner: %llu; commands without span: %llu.",
		  (unsigned long long)c->spans, (unsigned long long)c->spans_unmatched,
		  (unsigned long long)c->kernel_unmatched);
	put_wrapped(k->f, 0, "", text);
	if (k->nr_hooks_off)
		fprintf(k->f, "%u of %u hooks are off (gfs-trace probes says why).\n",
			k->nr_hooks_off, k->nr_hooks);
out:
	errno = 0;
	if (fflush(k->f) || ferror(k->f))
		ret = errno ? -errno : -EIO;
	if (k->f != stdout && fclose(k->f) && !ret)
		ret = -errno;
	free(k);
	return ret;
}

struct sink *sink_text(const char *path, bool color, bool verbose, char *err, size_t err_len)
{
	struct text_sink *k = calloc(1, sizeof(*k));

	if (k)
		k->f = strcmp(path, "-") == 0 ? stdout : fopen(path, "we");
	if (!k || !k->f) {
		snprintf(err, err_len, "%s: cannot be written: %s", path, strerror(errno));
		free(k);
		return NULL;
	}
	k->color = color;
	k->verbose = verbose;
	k->s = (struct sink){.record = text_record, .finding = text_finding, .close = text_close};
	return &k->s;
}
