// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The report as one HTML file that needs nothing else: page, style and script from tracing/html/
 * and the data as JSON, all inline. The page's policy allows exactly this style and this script by
 * their hashes and no network, so nothing that came from outside can run even if it were taken for
 * markup. Written at close.
 */
#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "tracing/out.h"
#include "tracing/sink.h"
#include "tracing/timeline.h"

/* A file of the source tree in the program, with a NUL behind. */
#define EMBED(symbol, path)                                           \
	__asm__(".pushsection .rodata\n"                              \
		".type " #symbol ", @object\n" #symbol ":\n"          \
		".incbin \"" path "\"\n"                              \
		".byte 0\n"                                           \
		".size " #symbol ", . - " #symbol "\n.popsection\n"); \
	extern const char symbol[] __attribute__((visibility("hidden")))

EMBED(report_html, "tracing/html/report.html");
EMBED(report_css, "tracing/html/report.css");
EMBED(report_js, "tracing/html/report.js");

struct html {
	struct sink sink;
	struct out *out;
	struct timeline t;
	struct json_out j;
};

/* Times in the page: ns since the first record. */
static void rel(struct html *h, const char *key, uint64_t ns)
{
	json_out_i64(&h->j, key, (int64_t)(ns - h->t.first_ns));
}

static void opt_str(struct html *h, const char *key, const char *s)
{
	if (s[0])
		json_out_str(&h->j, key, s);
}

static void opt_u64(struct html *h, const char *key, uint64_t v)
{
	if (v)
		json_out_u64(&h->j, key, v);
}

static void write_task(struct html *h, const char *key, const struct rec_task *t)
{
	char state[2] = {t->state, '\0'};

	if (!t->tid && !t->comm[0])
		return;
	json_out_begin(&h->j, key, '{');
	json_out_u64(&h->j, "tid", t->tid);
	json_out_u64(&h->j, "pid", t->tgid);
	json_out_str(&h->j, "comm", t->comm);
	opt_str(h, "cmdline", t->cmdline);
	opt_str(h, "state", state);
	opt_str(h, "kstack", t->kstack);
	opt_str(h, "ustack", t->ustack);
	opt_str(h, "ustack_error", t->ustack_error);
	if (t->killed)
		json_out_bool(&h->j, "killed", true);
	json_out_end(&h->j, '}');
}

static void write_span(struct html *h, const char *key, const struct rec_span *s)
{
	if (!s->event[0])
		return;
	json_out_begin(&h->j, key, '{');
	json_out_str(&h->j, "event", s->event);
	opt_str(h, "key", s->key);
	opt_str(h, "volume", s->volume);
	opt_str(h, "stage", s->stage);
	opt_u64(h, "attempt", s->attempt);
	rel(h, "start", s->start_ns);
	if (s->end_ns)
		rel(h, "end", s->end_ns);
	json_out_end(&h->j, '}');
}

static void write_request(struct html *h, const struct rec_req *r)
{
	char op[2] = {r->op, '\0'};

	json_out_begin(&h->j, "req", '{');
	json_out_i64(&h->j, "dev", r->dev);
	json_out_u64(&h->j, "queue", r->queue);
	json_out_u64(&h->j, "tag", r->tag);
	json_out_str(&h->j, "op", op);
	json_out_u64(&h->j, "sector", r->sector);
	json_out_u64(&h->j, "sectors", r->nsectors);
	json_out_str(&h->j, "state", rec_req_state_name(r->state));
	if (r->start_ns)
		rel(h, "start", r->start_ns);
	json_out_end(&h->j, '}');
}

static void write_blocker(struct html *h, const struct blocker *b)
{
	static const char *const type[] = {
		[BLK_REQUEST] = "request", [BLK_QUEUE] = "queue",         [BLK_OPENER] = "opener",
		[BLK_TASK] = "thread",     [BLK_NO_SERVER] = "no server",
	};

	json_out_begin(&h->j, NULL, '{');
	json_out_str(&h->j, "type", b->type < ARRAY_SIZE(type) ? type[b->type] : "?");
	opt_u64(h, "age", b->age_ns);
	switch (b->type) {
	case BLK_REQUEST:
		write_request(h, &b->req);
		break;
	case BLK_QUEUE:
		json_out_u64(&h->j, "queue", b->queue.queue);
		json_out_u64(&h->j, "depth", b->queue.depth);
		json_out_u64(&h->j, "armed", b->queue.armed);
		json_out_bool(&h->j, "exact", b->queue.exact);
		opt_str(h, "missing", b->queue.missing);
		opt_u64(h, "owner_tid", b->queue.owner_tid);
		opt_str(h, "owner_comm", b->queue.owner_comm);
		break;
	case BLK_OPENER:
		json_out_str(&h->j, "comm", b->opener.comm);
		json_out_u64(&h->j, "pid", b->opener.tgid);
		json_out_str(&h->j, "what", b->opener.what);
		json_out_bool(&h->j, "cdev", b->opener.cdev);
		break;
	case BLK_NO_SERVER:
		opt_str(h, "comm", b->server.comm);
		opt_u64(h, "pid", b->server.tgid);
		if (b->server.at_ns)
			rel(h, "at", b->server.at_ns);
		break;
	case BLK_TASK:
		break;
	}
	write_task(h, "owner", &b->owner);
	write_span(h, "io_span", &b->io_span);
	write_span(h, "span", &b->span);
	json_out_end(&h->j, '}');
}

static void write_finding(struct html *h, const struct finding *f)
{
	json_out_begin(&h->j, NULL, '{');
	json_out_u64(&h->j, "id", f->id);
	json_out_str(&h->j, "verdict", verdict_name(f->verdict));
	json_out_str(&h->j, "severity", severity_name(f->severity));
	json_out_bool(&h->j, "critical", f->severity == SEV_CRITICAL);
	if (f->catalogue)
		opt_str(h, "catalogue", f->catalogue);
	json_out_i64(&h->j, "dev", f->dev);
	opt_str(h, "volume", f->volume);
	opt_str(h, "stage", f->stage);
	rel(h, "since", f->since_ns);
	rel(h, "until", tl_finding_end(&h->t, f));
	json_out_bool(&h->j, "open", !f->end_ns);
	json_out_str(&h->j, "summary", f->summary);
	opt_str(h, "advice", f->advice);
	write_task(h, "waiter", &f->waiter);
	opt_u64(h, "cmd", f->cmd.id);
	opt_u64(h, "freeze", f->freeze.id);
	opt_u64(h, "attr", f->attr.id);
	if (f->attr.id) {
		json_out_str(&h->j, "attr_name", f->attr.attr);
		json_out_str(&h->j, "attr_value", f->attr.value);
		opt_u64(h, "attr_freeze_ns", f->attr.freeze_ns);
	}
	json_out_begin(&h->j, "cycle", '[');
	for (unsigned int i = 0; i < f->nr_cycle; i++)
		json_out_str(&h->j, NULL, f->cycle[i]);
	json_out_end(&h->j, ']');
	json_out_begin(&h->j, "blockers", '[');
	for (unsigned int i = 0; i < f->nr_blockers; i++)
		write_blocker(h, &f->blocker[i]);
	json_out_end(&h->j, ']');
	opt_u64(h, "more_blockers", f->more_blockers);
	json_out_end(&h->j, '}');
}

static uint64_t item_id(const struct tl_item *it)
{
	switch (it->kind) {
	case TL_CMD:
		return it->cmd.id;
	case TL_FREEZE:
		return it->freeze.id;
	case TL_ATTR:
		return it->attr.id;
	default:
		return 0;
	}
}

static bool item_failed(const struct tl_item *it)
{
	if (!it->end_ns || it->end_unknown)
		return false;
	return (it->kind == TL_CMD && it->cmd.res < 0) ||
	       (it->kind == TL_ATTR && it->attr.res < 0) ||
	       (it->kind == TL_SPAN && it->span.result < 0);
}

static void write_item(struct html *h, const struct tl_item *it)
{
	static const char *const kind[TL_NR] = {
		[TL_CMD] = "cmd", [TL_FREEZE] = "freeze", [TL_ATTR] = "attr",
		[TL_ELV] = "elv", [TL_REQ] = "req",       [TL_SPAN] = "span",
	};
	struct tl_part parts[TL_PARTS];
	unsigned int n = tl_parts(&h->t, it, parts);
	char title[320];

	tl_title(it, title, sizeof(title));
	putc('\n', h->j.f);
	json_out_begin(&h->j, NULL, '{');
	json_out_str(&h->j, "k", kind[it->kind]);
	json_out_i64(&h->j, "d", it->dev);
	opt_u64(h, "id", item_id(it));
	json_out_str(&h->j, "t", title);
	rel(h, "s", it->start_ns);
	rel(h, "e", tl_end(&h->t, it));
	if (!it->end_ns)
		json_out_u64(&h->j, "o", 1);
	if (item_failed(it))
		json_out_u64(&h->j, "f", 1);
	json_out_begin(&h->j, "p", '[');
	for (unsigned int i = 0; i < n; i++) {
		json_out_begin(&h->j, NULL, '[');
		json_out_str(&h->j, NULL, parts[i].name);
		rel(h, NULL, parts[i].start_ns);
		rel(h, NULL, parts[i].end_ns);
		json_out_end(&h->j, ']');
	}
	json_out_end(&h->j, ']');
	json_out_begin(&h->j, "a", '{');
	tl_json_members(&h->j, it);
	json_out_end(&h->j, '}');
	json_out_end(&h->j, '}');
}

static void write_devs(struct html *h)
{
	json_out_begin(&h->j, "devices", '[');
	for (size_t i = 0; i < h->t.nr_devs; i++) {
		const struct rec_dev *d = &h->t.dev[i].dev;

		json_out_begin(&h->j, NULL, '{');
		json_out_i64(&h->j, "dev", d->dev);
		opt_str(h, "volume", d->volume);
		json_out_str(&h->j, "state", rec_dev_state_name(d->state));
		opt_str(h, "comm", d->comm);
		opt_u64(h, "pid", d->tgid);
		json_out_end(&h->j, '}');
	}
	json_out_end(&h->j, ']');
}

static void write_counts(struct html *h)
{
	static const char *const kind[TL_NR] = {
		[TL_CMD] = "commands",          [TL_FREEZE] = "freezes",
		[TL_ATTR] = "attribute writes", [TL_ELV] = "elevator switches",
		[TL_REQ] = "requests",          [TL_SPAN] = "daemon spans",
	};
	const struct rec_counts *c = &h->t.counts;

	if (h->t.has_counts) {
		json_out_begin(&h->j, "counts", '{');
		json_out_u64(&h->j, "events", c->events);
		json_out_u64(&h->j, "dropped", c->dropped);
		json_out_u64(&h->j, "unmatched commands", c->unmatched_cmds);
		json_out_u64(&h->j, "unmatched freezes", c->unmatched_freezes);
		json_out_u64(&h->j, "daemon spans", c->spans);
		json_out_u64(&h->j, "spans without kernel event", c->spans_unmatched);
		json_out_u64(&h->j, "commands without span", c->kernel_unmatched);
		json_out_end(&h->j, '}');
	}
	json_out_begin(&h->j, "left_out", '{');
	for (int k = 0; k < TL_NR; k++)
		opt_u64(h, kind[k], h->t.left_out[k]);
	opt_u64(h, "findings", h->t.findings_left_out);
	opt_u64(h, "devices", h->t.devs_left_out);
	opt_u64(h, "for lack of memory", h->t.out_of_memory);
	json_out_end(&h->j, '}');
}

static void write_hooks(struct html *h)
{
	json_out_begin(&h->j, "hooks", '[');
	for (size_t i = 0; i < h->t.nr_hooks; i++) {
		json_out_begin(&h->j, NULL, '{');
		json_out_str(&h->j, "hook", h->t.hook[i].hook);
		json_out_str(&h->j, "variant", h->t.hook[i].variant);
		opt_str(h, "reason", h->t.hook[i].reason);
		json_out_end(&h->j, '}');
	}
	json_out_end(&h->j, ']');
}

static void write_data(struct html *h)
{
	const struct timeline *t = &h->t;

	json_out_begin(&h->j, NULL, '{');
	json_out_u64(&h->j, "version", 1);
	json_out_str(&h->j, "tool", t->meta.tool);
	json_out_str(&h->j, "kernel", t->meta.kernel);
	json_out_str(&h->j, "host", t->meta.host);
	/* Milliseconds are what a page can show; the number stays exact. */
	json_out_u64(&h->j, "wall_ms", t->meta.wall_ns / NSEC_PER_MSEC);
	rel(h, "last", t->last_ns);
	json_out_bool(&h->j, "ended", t->ended);
	write_counts(h);
	write_hooks(h);
	write_devs(h);
	json_out_begin(&h->j, "findings", '[');
	for (size_t i = 0; i < t->nr_findings; i++)
		write_finding(h, t->finding[i]);
	json_out_end(&h->j, ']');
	json_out_begin(&h->j, "items", '[');
	for (int k = 0; k < TL_NR; k++)
		for (size_t i = 0; i < t->nr[k]; i++)
			write_item(h, t->item[k][i]);
	json_out_end(&h->j, ']');
	json_out_end(&h->j, '}');
}

/* The hash by which a policy names an inline text: base64 of its SHA-256. */
static void write_hash(FILE *f, const char *text)
{
	unsigned char sum[SHA256_DIGEST_LENGTH], b64[64];

	SHA256((const unsigned char *)text, strlen(text), sum);
	EVP_EncodeBlock(b64, sum, sizeof(sum));
	fprintf(f, "'sha256-%s'", (const char *)b64);
}

/* The page with "@NAME@" replaced. */
static void write_page(struct html *h)
{
	FILE *f = out_file(h->out);
	const char *p = report_html;

	h->j.f = f;
	for (;;) {
		const char *at = strchr(p, '@');

		fwrite(p, 1, at ? (size_t)(at - p) : strlen(p), f);
		if (!at)
			return;
		if (!strncmp(at, "@CSS@", 5))
			fputs(report_css, f);
		else if (!strncmp(at, "@JS@", 4))
			fputs(report_js, f);
		else if (!strncmp(at, "@CSS_HASH@", 10))
			write_hash(f, report_css);
		else if (!strncmp(at, "@JS_HASH@", 9))
			write_hash(f, report_js);
		else if (!strncmp(at, "@DATA@", 6))
			write_data(h);
		p = strchr(at + 1, '@') + 1;
	}
}

static void html_record(struct sink *s, const struct rec *r)
{
	tl_record(&container_of(s, struct html, sink)->t, r);
}

static void html_finding(struct sink *s, const struct finding *f, enum finding_event ev)
{
	tl_finding(&container_of(s, struct html, sink)->t, f, ev);
}

static int html_close(struct sink *s, const struct model *m)
{
	struct html *h = container_of(s, struct html, sink);
	int rc = 0;

	if (m) {
		tl_finish(&h->t);
		write_page(h);
		rc = out_close(h->out);
	} else {
		out_abandon(h->out);
	}
	tl_free(&h->t);
	free(h);
	return rc;
}

struct sink *sink_html(const char *path, char *err, size_t err_len)
{
	struct html *h = calloc(1, sizeof(*h));

	if (!h || tl_init(&h->t)) {
		snprintf(err, err_len, "%s: out of memory", path);
		free(h);
		return NULL;
	}
	h->sink = (struct sink){html_record, html_finding, html_close};
	h->out = out_open(path, err, err_len);
	if (h->out)
		return &h->sink;
	tl_free(&h->t);
	free(h);
	return NULL;
}
