// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How a finding is worded: one line that says all, with numbers, and one line of advice. A function
 * of the finding and of what the model knows of its device.
 */
#include "tracing/model_priv.h"

#include <stdio.h>
#include <string.h>

#include "tracing/out.h"
#include "tracing/words.h"

struct line {
	char *buf;
	size_t at, size;
};

#define say(l, ...) words_add((l)->buf, (l)->size, &(l)->at, __VA_ARGS__)

static void say_ns(struct line *l, uint64_t ns)
{
	char buf[24];

	say(l, "%s", duration_text(ns, buf));
}

static uint64_t age(const struct finding *f)
{
	return since(f->end_ns ? f->end_ns : f->last_ns, f->since_ns);
}

static const char *server_name(const struct model *m, const struct finding *f,
			       const struct blocker *b)
{
	const struct mdev *d = model_find_dev(m, f->dev);
	const struct rec_task *leader;

	if (d && d->d.comm[0])
		return d->d.comm;
	if (b && b->owner.tgid) {
		leader = model_task(m, b->owner.tgid, 0);
		if (leader && leader->comm[0])
			return leader->comm;
	}
	return b && b->owner.comm[0] ? b->owner.comm : "the server";
}

/* "read of 8 sectors at 4096, queue 0 tag 5, in glidefsd for 2.9 s (object.get k, 2.8 s)" */
static void say_request(const struct model *m, const struct finding *f, const struct blocker *b,
			struct line *l)
{
	const struct rec_req *q = &b->req;
	uint64_t now = q->end_ns ? q->end_ns : (f->end_ns ? f->end_ns : f->last_ns);
	const struct rec_span *s = b->span.event[0] ? &b->span : &b->io_span;
	char text[320];

	say(l, "%s, ", words_req(q, text, sizeof(text)));
	if (q->state == REQ_QUEUED || q->state == REQ_REQUEUED) {
		say(l, "%s for ",
		    q->state == REQ_QUEUED ? "not with a server"
					   : "given back, waits for a server");
		say_ns(l, since(now, q->start_ns));
	} else {
		say(l, "in %s for ", server_name(m, f, b));
		say_ns(l, since(now, q->deliver_ns ? q->deliver_ns : q->start_ns));
	}
	if (s->event[0]) {
		words_span(s, now, text, sizeof(text));
		say(l, " (%s)", text);
	}
}

static const struct blocker *first_of(const struct finding *f, enum blocker_type type,
				      unsigned int *nr)
{
	const struct blocker *first = NULL;

	*nr = 0;
	for (unsigned int i = 0; i < f->nr_blockers; i++) {
		if (f->blocker[i].type != type)
			continue;
		if (!first)
			first = &f->blocker[i];
		(*nr)++;
	}
	return first;
}

static void say_requests(const struct model *m, const struct finding *f, struct line *l)
{
	unsigned int nr;
	const struct blocker *b = first_of(f, BLK_REQUEST, &nr);

	if (!b) {
		say(l, "no request in flight was seen");
		return;
	}
	say_request(m, f, b, l);
	nr += f->more_blockers;
	if (nr > 1)
		say(l, "; and %u more", nr - 1);
}

static void say_owner(const struct blocker *b, struct line *l)
{
	const struct rec_task *o = &b->owner;
	char who[80];

	if (!o->tid && !o->comm[0]) {
		say(l, ", thread not known yet");
		return;
	}
	say(l, b->queue.guessed ? ", probably thread %s" : ", thread %s",
	    words_task(o->comm, o->tgid, o->tid, who, sizeof(who)));
	if (o->kstack[0])
		say(l, " in %.*s", (int)strcspn(o->kstack, ";+"), o->kstack);
}

static void say_missing(const struct finding *f, struct line *l)
{
	unsigned int nr;
	const struct blocker *b = first_of(f, BLK_QUEUE, &nr);

	if (!b)
		return;
	say(l, "queue %u has %s%u of %u FETCHes, %u missing", b->queue.queue,
	    b->queue.exact ? "" : "at least ", b->queue.armed, b->queue.depth,
	    b->queue.depth - b->queue.armed);
	if (b->queue.missing[0])
		say(l, " (tags %s)", b->queue.missing);
	say_owner(b, l);
	nr += f->more_blockers;
	if (nr > 1)
		say(l, "; and %u more queues", nr - 1);
}

static void say_cmd(const struct finding *f, struct line *l)
{
	char name[24], who[80];

	say(l, "%s", rec_cmd_name(f->cmd.nr, name));
	if (f->dev >= 0)
		say(l, " of device %d", f->dev);
	if (f->cmd.tgid || f->cmd.comm[0])
		say(l, " by %s", words_task(f->cmd.comm, f->cmd.tgid, 0, who, sizeof(who)));
	if (!f->end_ns)
		say(l, " has taken ");
	else if (f->cmd.end_ns && f->cmd.res < 0)
		say(l, " failed (%d) after ", f->cmd.res);
	else
		say(l, " took ");
	say_ns(l, age(f));
}

static void sum_start(const struct model *m, const struct finding *f, struct line *l)
{
	struct cmd_stages st;

	words_stages(&f->cmd, f->end_ns ? f->end_ns : f->last_ns, &st);
	say_cmd(f, l);
	switch (f->verdict) {
	case V_START_LATE_FETCH:
		say(l, ", ");
		say_ns(l, st.ready_wait);
		say(l, " of it for FETCH commands: ");
		say_missing(f, l);
		break;
	case V_START_PART_SCAN:
		say(l, ", ");
		say_ns(l, st.part_scan ? st.part_scan : st.add_disk);
		say(l, " of it in the partition scan: ");
		say_requests(m, f, l);
		break;
	default:
		say(l, ", ");
		say_ns(l, st.punt);
		say(l, " of it for an io-wq worker");
		if (!f->cmd.worker_ns)
			say(l, ", and none has taken it");
		break;
	}
}

static void say_device(const struct finding *f, struct line *l)
{
	say(l, "ublkb%d", f->dev);
	if (f->volume[0])
		say(l, " (%s)", f->volume);
}

static void say_asker(const struct finding *f, struct line *l)
{
	char who[80], name[24];

	words_task(f->waiter.comm, f->waiter.tgid, 0, who, sizeof(who));
	if (f->attr.attr[0])
		say(l, "%s write by %s", f->attr.attr, who);
	else if (f->cmd.id)
		say(l, "%s by %s", rec_cmd_name(f->cmd.nr, name), who);
	else
		say(l, "%s", who);
	say(l, f->end_ns ? " waited " : " waits ");
	say_ns(l, age(f));
	say(l, " for the freeze of ");
	say_device(f, l);
	say(l, ": ");
}

static void sum_freeze(const struct model *m, const struct finding *f, struct line *l)
{
	unsigned int nr;
	const struct blocker *b = first_of(f, BLK_NO_SERVER, &nr);
	char who[80];

	say_asker(f, l);
	if (f->verdict == V_FREEZE_NO_SERVER) {
		say(l, f->end_ns ? "there was no server" : "no server");
		if (b && b->age_ns && !f->end_ns) {
			say(l, " for ");
			say_ns(l, b->age_ns);
		}
		if (b && b->server.tgid)
			say(l, ", %s went away",
			    words_task(b->server.comm, b->server.tgid, 0, who, sizeof(who)));
		if (!first_of(f, BLK_REQUEST, &nr))
			return;
		say(l, "; ");
	} else if (f->verdict == V_FREEZE_SELF) {
		say(l,
		    f->nr_cycle > 3 ? "deadlock with its own parent: " : "deadlock with itself: ");
	}
	say_requests(m, f, l);
}

static void sum_attr(const struct model *m, const struct finding *f, struct line *l)
{
	uint64_t freeze = MIN(f->attr.freeze_ns, age(f));
	char who[80];

	if (f->cmd.id && f->verdict == V_ELV_SLOW) {
		struct cmd_stages st;

		words_stages(&f->cmd, f->end_ns ? f->end_ns : f->last_ns, &st);
		say_cmd(f, l);
		say(l, ", ");
		say_ns(l, st.elevator);
		say(l, " of it in the elevator switch");
		return;
	}
	if (f->verdict == V_ELV_SLOW)
		say(l, "elevator switch to %s of ", f->attr.value);
	else
		say(l, "write of \"%s\" to %s of ", f->attr.value, f->attr.attr);
	say_device(f, l);
	say(l, " by %s", words_task(f->waiter.comm, f->waiter.tgid, 0, who, sizeof(who)));
	if (f->waiter.cmdline[0])
		say(l, " [%s]", f->waiter.cmdline);
	say(l, f->end_ns ? " took " : " lasts ");
	say_ns(l, age(f));
	say(l, ": ");
	say_ns(l, freeze);
	say(l, " waiting for freezes, ");
	say_ns(l, age(f) - freeze);
	say(l, " for the rest");
}

static void sum_recovery(const struct model *m, const struct finding *f, struct line *l)
{
	unsigned int nr;

	if (f->cmd.nr == CMD_END_USER_RECOVERY) {
		say_cmd(f, l);
	} else {
		say(l, "recovery of device %d was begun", f->dev);
		if (f->cmd.comm[0])
			say(l, " by %s (pid %u)", f->cmd.comm, f->cmd.tgid);
		say(l, f->end_ns ? ", and took " : " and is not ended for ");
		say_ns(l, age(f));
		if (!f->end_ns)
			say(l, ": no END_USER_RECOVERY");
	}
	if (first_of(f, BLK_QUEUE, &nr)) {
		say(l, ": ");
		say_missing(f, l);
	}
}

static void sum_held(const struct model *m, const struct finding *f, struct line *l)
{
	unsigned int nr, reqs;
	const struct blocker *b = first_of(f, BLK_OPENER, &nr);

	say_cmd(f, l);
	if (b) {
		say(l, ": /dev/ublk%c%d is held by %s (pid %u", b->opener.cdev ? 'c' : 'b', f->dev,
		    b->opener.comm, b->opener.tgid);
		say(l, b->opener.what[0] ? ", %s)" : ")", b->opener.what);
		if (nr > 1)
			say(l, " and %u more", nr - 1);
	}
	if (first_of(f, BLK_REQUEST, &reqs)) {
		say(l, b ? "; in flight: " : ": ");
		say_requests(m, f, l);
	}
}

static void sum_cmd(const struct model *m, const struct finding *f, struct line *l)
{
	const struct mdev *d = model_find_dev(m, f->dev);
	unsigned int nr;
	const struct blocker *b = first_of(f, BLK_TASK, &nr);
	char text[320];

	say_cmd(f, l);
	say(l, f->end_ns ? ", most of it in stage %s" : ", in stage %s", f->stage);
	if (strcmp(f->stage, "ready-wait") == 0 && !f->end_ns && d && d->cur.ns >= f->cmd.ctrl_ns &&
	    d->cur.queue.nr)
		say(l, ", although all %u queues are armed", (unsigned int)d->cur.queue.nr);
	if (b)
		say(l, " (%s)", words_span(&b->span, f->last_ns, text, sizeof(text)));
	if (m->oops_ns)
		say(l, "; the kernel oopsed before: %.120s", m->oops.line);
}

static void sum_request(const struct model *m, const struct finding *f, struct line *l)
{
	unsigned int nr;
	const struct blocker *b = first_of(f, BLK_REQUEST, &nr);

	if (!b)
		return;
	if (f->end_ns) {
		char text[320];

		say(l, "%s, took ", words_req(&b->req, text, sizeof(text)));
		say_ns(l, age(f));
		if (b->span.event[0] || b->io_span.event[0]) {
			words_span(b->span.event[0] ? &b->span : &b->io_span, f->end_ns, text,
				   sizeof(text));
			say(l, " (%s)", text);
		}
		return;
	}
	say_request(m, f, b, l);
	b = first_of(f, BLK_NO_SERVER, &nr);
	if (b) {
		say(l, "; the device has no server");
		if (b->age_ns) {
			say(l, " for ");
			say_ns(l, b->age_ns);
		}
	}
}

static void sum_kernel(const struct model *m, const struct finding *f, struct line *l)
{
	char name[24];

	if (m->bad_kernel)
		say(l, "kernel %s: %s", m->meta.kernel, m->bad_kernel);
	if (f->cmd.id)
		say(l, "; %s was sent by %s (pid %u)", rec_cmd_name(f->cmd.nr, name), f->cmd.comm,
		    f->cmd.tgid);
	if (m->oops_ns)
		say(l, "%sthe kernel oopsed: %.200s", m->bad_kernel ? "; " : "", m->oops.line);
}

static const struct {
	void (*sum)(const struct model *m, const struct finding *f, struct line *l);
	const char *advice;
} words[V_NR] = {
	[V_START_LATE_FETCH] =
		{sum_start,
		 "The server must arm these tags: see where the thread sleeps. Cancelling "
		 "START_DEV ends it with EINTR."},
	[V_START_PART_SCAN] =
		{sum_start,
		 "The server must answer this read, with an error if need be; STOP_DEV "
		 "waits behind it. Keep the first and last blocks resident before START_DEV."},
	[V_PUNT] = {sum_start,
		    "io-wq did not start a worker: send control commands from one long-lived "
		    "ring and thread, with a deadline; look for a kernel update."},
	[V_FREEZE_PINNED] =
		{sum_freeze,
		 "The freeze ends when these requests are answered: look at what the server "
		 "does with the oldest. New I/O to the device waits meanwhile."},
	[V_FREEZE_SELF] =
		{sum_freeze,
		 "SIGKILL does not help: the thread waits in D state for its own request. "
		 "Reboot the host; never write queue attributes from a thread that serves I/O."},
	[V_FREEZE_NO_SERVER] = {sum_freeze,
				"Start the server, so that it recovers the device, or delete the "
				"device; the freeze lasts until then."},
	[V_ELV_SLOW] = {sum_attr,
			"Use at least two queues, so that the kernel picks \"none\" by itself, "
			"and switch elevators only on idle devices."},
	[V_ATTR_SLOW] = {sum_attr,
			 "Write a queue attribute only if its value differs, on an idle device; "
			 "take read-ahead through bdi/read_ahead_kb, which freezes nothing."},
	[V_RECOVERY_INCOMPLETE] =
		{sum_recovery, "The new server must arm every queue and send END_USER_RECOVERY; if "
			       "it died, start it again."},
	[V_DEL_HELD] = {sum_held,
			"Serve the device until STOP_DEV has returned, and make the holders "
			"let go first (or use DEL_DEV_ASYNC)."},
	[V_CMD_SLOW] = {sum_cmd,
			"See the kernel stack of the waiter: it names what the driver waits for."},
	[V_REQUEST_SLOW] = {sum_request,
			    "Look at what the server does with this request: its span, and the "
			    "stacks of its thread."},
	[V_KNOWN_BAD] = {sum_kernel,
			 "Use no ublk device on this kernel: boot another one; what hangs now "
			 "hangs until then."},
};

/* Where the general advice would mislead. */
static const char *special_advice(const struct finding *f)
{
	if (f->verdict == V_FREEZE_SELF && f->nr_cycle > 3)
		return "Killing the child does not help (it waits in D state); killing the server "
		       "does: "
		       "its requests fail or wait for recovery. Serve I/O from a thread that waits "
		       "for nobody.";
	if (strcmp(f->catalogue, "H7") == 0)
		return "A thread that serves I/O sent STOP_DEV and now cannot serve: stop from "
		       "another "
		       "thread and keep serving until it returns.";
	if (f->verdict == V_DEL_HELD && strcmp(f->catalogue, "H5") == 0)
		return "START_DEV is still in its partition scan: answer every held request (with "
		       "an "
		       "error if need be), then both commands end.";
	if (f->verdict == V_REQUEST_SLOW && strcmp(f->catalogue, "H15") == 0)
		return "Start the server, so that it recovers the device, or delete the device; "
		       "I/O "
		       "waits by design until then.";
	return words[f->verdict].advice;
}

void verdict_words(const struct model *m, struct finding *f)
{
	struct line l = {f->summary, 0, sizeof(f->summary)};

	f->summary[0] = '\0';
	words[f->verdict].sum(m, f, &l);
	/* Names come from anywhere: one line stays one line. */
	for (char *p = f->summary; *p; p++)
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	snprintf(f->advice, sizeof(f->advice), "%s", special_advice(f));
}
