// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stacks of findings for flame graphs: a line for each thread that waits or is waited for,
 * "comm;frame;… ms", outermost frame first; frames of the kernel end with "_[k]". The count is how
 * long the finding lasted (of a blocker: its age, if that is less), in ms. Written at close.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tracing/out.h"
#include "tracing/sink.h"
#include "tracing/timeline.h"

#define FRAMES_MAX 256

struct folded {
	struct sink sink;
	struct out *out;
	struct timeline t;
};

/* Separators of the format and control characters must not come out of names. */
static void put_clean(FILE *f, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		putc(s[i] == ';' || (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? '_' : s[i], f);
}

/* The frame without "+0x12" and " (file.c:34)", so that calls from different places meet. */
static size_t frame_len(const char *s, size_t len)
{
	const char *cut = memmem(s, len, " (", 2);

	if (cut)
		len = (size_t)(cut - s);
	cut = memmem(s, len, "+0x", 3);
	return cut ? (size_t)(cut - s) : len;
}

/* stack is innermost first. */
static void put_stack(FILE *f, const char *stack, const char *suffix)
{
	const char *frame[FRAMES_MAX];
	size_t len[FRAMES_MAX], n = 0;

	while (*stack && n < FRAMES_MAX) {
		len[n] = strcspn(stack, ";");
		frame[n] = stack;
		stack += len[n] + (stack[len[n]] == ';');
		len[n] = frame_len(frame[n], len[n]);
		n += len[n] > 0;
	}
	while (n-- > 0) {
		putc(';', f);
		put_clean(f, frame[n], len[n]);
		fputs(suffix, f);
	}
}

static void put_task(FILE *f, const struct rec_task *task, uint64_t ns)
{
	if (!task->kstack[0] && !task->ustack[0])
		return;
	if (task->comm[0])
		put_clean(f, task->comm, strnlen(task->comm, sizeof(task->comm)));
	else
		fprintf(f, "thread-%" PRIu32, task->tid);
	put_stack(f, task->ustack, "");
	put_stack(f, task->kstack, "_[k]");
	fprintf(f, " %" PRIu64 "\n", (uint64_t)MAX(1, DIV_ROUND_UP(ns, NSEC_PER_MSEC)));
}

static void put_finding(FILE *f, const struct timeline *t, const struct finding *fi)
{
	uint64_t ns = tl_finding_end(t, fi) - fi->since_ns;

	put_task(f, &fi->waiter, ns);
	for (unsigned int i = 0; i < fi->nr_blockers; i++) {
		const struct blocker *b = &fi->blocker[i];
		bool again = b->owner.tid && b->owner.tid == fi->waiter.tid;

		/* One thread often has many of the tags: it waits once. */
		for (unsigned int k = 0; k < i && !again; k++)
			again = b->owner.tid && fi->blocker[k].owner.tid == b->owner.tid;
		if (!again)
			put_task(f, &b->owner, b->age_ns ? MIN(ns, b->age_ns) : ns);
	}
}

static void folded_record(struct sink *s, const struct rec *r)
{
	struct folded *d = container_of(s, struct folded, sink);

	/* Only the time is needed of the records. */
	d->t.last_ns = MAX(d->t.last_ns, r->t_ns);
}

static void folded_finding(struct sink *s, const struct finding *f, enum finding_event ev)
{
	tl_finding(&container_of(s, struct folded, sink)->t, f, ev);
}

static int folded_close(struct sink *s, const struct model *m)
{
	struct folded *d = container_of(s, struct folded, sink);
	int rc = 0;

	for (size_t i = 0; m && i < d->t.nr_findings; i++)
		put_finding(out_file(d->out), &d->t, d->t.finding[i]);
	if (m)
		rc = out_close(d->out);
	else
		out_abandon(d->out);
	tl_free(&d->t);
	free(d);
	return rc;
}

struct sink *sink_folded(const char *path, char *err, size_t err_len)
{
	struct folded *d = calloc(1, sizeof(*d));

	if (!d || tl_init(&d->t)) {
		snprintf(err, err_len, "%s: out of memory", path);
		free(d);
		return NULL;
	}
	d->sink = (struct sink){folded_record, folded_finding, folded_close};
	d->out = out_open(path, err, err_len);
	if (d->out)
		return &d->sink;
	tl_free(&d->t);
	free(d);
	return NULL;
}
