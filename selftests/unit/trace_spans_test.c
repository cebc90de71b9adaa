// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Open spans of another process: each one that is open is seen, whole, with what it is about, also
 * while the table changes, also of a program that was stripped and deleted; nothing else is.
 *
 * The other process is a child that runs one function and answers over a socket when it is told to.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lib/spans.h"
#include "tracing/daemon_spans.h"

#define CHURN_OP     (1ull << 40)
#define CHURNERS     4
#define STABLE_SPANS 100u
#define CHURN_READS  300

static const char *self_path;

/* ---- the child ---- */

struct child {
	pid_t pid;
	int fd;
};

/* Tell the other side, and wait until it says so too. */
static void child_say(int fd)
{
	char c = 'x';

	if (send(fd, &c, 1, MSG_NOSIGNAL) != 1)
		_exit(1);
}

static void child_hear(int fd)
{
	char c;

	if (recv(fd, &c, 1, 0) != 1)
		_exit(0); /* the parent is gone or has seen enough */
}

static struct child child_start(void (*fn)(int fd))
{
	struct child ch;
	int sp[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp), 0);
	ch.pid = fork();
	assert_true(ch.pid >= 0);
	if (!ch.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sp[0]);
		fn(sp[1]);
		_exit(0);
	}
	close(sp[1]);
	ch.fd = sp[0];
	return ch;
}

static void child_wait(struct child *ch)
{
	char c;

	assert_int_equal(recv(ch->fd, &c, 1, 0), 1);
}

static void child_go(struct child *ch)
{
	char c = 'g';

	assert_int_equal(send(ch->fd, &c, 1, MSG_NOSIGNAL), 1);
}

static void child_end(struct child *ch)
{
	kill(ch->pid, SIGKILL);
	waitpid(ch->pid, NULL, 0);
	close(ch->fd);
}

/* ---- what was read ---- */

struct seen {
	struct rec_span *span;
	size_t nr, cap;
};

static void seen_add(void *ctx, const struct rec *r)
{
	struct seen *s = ctx;

	assert_int_equal(r->kind, REC_SPAN);
	assert_true(r->t_ns && r->t_ns <= now_ns());
	assert_true(r->span.open);
	assert_int_equal(r->span.end_ns, 0);
	if (s->nr == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->span = realloc(s->span, s->cap * sizeof(*s->span));
		assert_non_null(s->span);
	}
	s->span[s->nr++] = r->span;
}

static void seen_read(struct seen *s, struct daemon_spans *d)
{
	int r;

	s->nr = 0;
	r = daemon_spans_read(d, seen_add, s);
	assert_int_equal(r, s->nr);
}

static const struct rec_span *seen_op(const struct seen *s, uint64_t op_id)
{
	const struct rec_span *found = NULL;

	for (size_t i = 0; i < s->nr; i++) {
		if (s->span[i].op_id != op_id)
			continue;
		if (found)
			fail_msg("operation %llu is there twice", (unsigned long long)op_id);
		found = &s->span[i];
	}
	return found;
}

static struct daemon_spans *spans_of(pid_t pid)
{
	struct daemon_spans *d;
	char err[200] = "";
	int r = daemon_spans_open((uint32_t)pid, &d, err, sizeof(err));

	if (r)
		fail_msg("%d: %s", r, err);
	return d;
}

/* ---- one of each kind ---- */

static const struct timing_rec io_rec = {.event = TIMING_IO_SLOW,
					 .op_id = 7,
					 .start_ns = 1000,
					 .export_ = "vm-1",
					 .dev_id = 3,
					 .is_io = true,
					 .io_op = 'R',
					 .queue = 2,
					 .tag = 63,
					 .sector = 1ull << 50,
					 .nsectors = 8,
					 .stage = TIMING_STAGE_SPACE};

static void open_one_of_each(int fd)
{
	char name[200], key[600];
	uint32_t io, cmd, get;

	memset(name, 'n', sizeof(name) - 1);
	memset(key, 'k', sizeof(key) - 1);
	name[sizeof(name) - 1] = key[sizeof(key) - 1] = '\0';
	io = span_open(&io_rec);
	get = span_open(&(struct timing_rec){.event = TIMING_OBJECT_GET,
					     .op_id = 8,
					     .dev_id = -1,
					     .export_ = name,
					     .key = key,
					     .attempt = 1000});
	cmd = span_open(&(struct timing_rec){
		.event = TIMING_UBLK_START_DEV_COMMAND, .op_id = 9, .dev_id = 5});
	child_say(fd);
	child_hear(fd);
	span_link(io, 8);
	span_stage(io, TIMING_STAGE_STORE);
	span_close(cmd);
	child_say(fd);
	child_hear(fd);
	span_close(io);
	span_close(get);
	/* Of one closed, of one that never was, and of no span: nothing happens. */
	span_close(io);
	span_link(io, 99);
	span_stage(io, TIMING_STAGE_FLUSH);
	span_close(0);
	span_close(UINT32_MAX);
	span_link(0, 1);
	child_say(fd);
	child_hear(fd);
}

static void an_open_span_tells_what_it_is_about(void **state)
{
	struct child ch = child_start(open_one_of_each);
	const struct rec_span *io, *get, *cmd;
	struct seen s = {0};
	struct daemon_spans *d;
	uint64_t before = now_ns();

	child_wait(&ch);
	d = spans_of(ch.pid);
	seen_read(&s, d);
	assert_int_equal(s.nr, 3);
	io = seen_op(&s, 7);
	get = seen_op(&s, 8);
	cmd = seen_op(&s, 9);
	assert_true(io && get && cmd);
	assert_int_equal(io->pid, ch.pid);
	assert_string_equal(io->event, "io.slow");
	assert_string_equal(io->volume, "vm-1");
	assert_int_equal(io->start_ns, 1000);
	assert_int_equal(io->dev, 3);
	assert_true(io->is_io);
	assert_int_equal(io->io_op, 'R');
	assert_int_equal(io->queue, 2);
	assert_int_equal(io->tag, 63);
	assert_true(io->sector == 1ull << 50);
	assert_int_equal(io->nsectors, 8);
	assert_string_equal(io->stage, "space");
	assert_int_equal(io->link_op_id, 0);
	assert_string_equal(get->event, "object.get");
	/* Cut, and complete as far as they go. */
	assert_int_equal(strlen(get->volume), 127);
	assert_int_equal(strlen(get->key), 167);
	assert_int_equal(get->attempt, 255);
	assert_int_equal(get->dev, -1);
	assert_false(get->is_io);
	assert_true(get->start_ns + 10 * NSEC_PER_SEC > before && get->start_ns <= now_ns());
	assert_string_equal(cmd->event, "ublk.start_dev.command");
	assert_string_equal(cmd->key, "");
	assert_int_equal(cmd->dev, 5);

	child_go(&ch);
	child_wait(&ch);
	seen_read(&s, d);
	assert_int_equal(s.nr, 2);
	io = seen_op(&s, 7);
	assert_non_null(io);
	assert_int_equal(io->link_op_id, 8);
	assert_string_equal(io->stage, "store");
	assert_int_equal(io->start_ns, 1000);

	child_go(&ch);
	child_wait(&ch);
	seen_read(&s, d);
	assert_int_equal(s.nr, 0);
	daemon_spans_close(d);
	child_end(&ch);
	free(s.span);
}

/* ---- under load ---- */

/* All members are a function of op_id, so that a torn copy is recognised. */
static uint32_t derived_open(uint64_t op_id)
{
	char name[64], key[160];

	snprintf(name, sizeof(name), "vm-%llx-%0*d", (unsigned long long)op_id,
		 (int)(op_id % 40) + 1, 0);
	snprintf(key, sizeof(key), "chunks/%llx/%0*d", (unsigned long long)op_id,
		 (int)(op_id % 120) + 1, 0);
	return span_open(&(struct timing_rec){.event = TIMING_IO_SLOW,
					      .op_id = op_id,
					      .start_ns = op_id,
					      .export_ = name,
					      .key = key,
					      .dev_id = (int)(op_id % 1000),
					      .is_io = true,
					      .io_op = 'W',
					      .queue = (uint16_t)(op_id % 7),
					      .tag = (uint16_t)op_id,
					      .sector = op_id * 3,
					      .nsectors = (uint32_t)op_id + 1});
}

static void derived_check(const struct rec_span *sp)
{
	char name[64], key[160];
	uint64_t op_id = sp->op_id;

	snprintf(name, sizeof(name), "vm-%llx-%0*d", (unsigned long long)op_id,
		 (int)(op_id % 40) + 1, 0);
	snprintf(key, sizeof(key), "chunks/%llx/%0*d", (unsigned long long)op_id,
		 (int)(op_id % 120) + 1, 0);
	assert_string_equal(sp->volume, name);
	assert_string_equal(sp->key, key);
	assert_true(sp->start_ns == op_id);
	assert_int_equal(sp->dev, op_id % 1000);
	assert_int_equal(sp->queue, op_id % 7);
	assert_int_equal(sp->tag, (uint16_t)op_id);
	assert_true(sp->sector == op_id * 3);
	assert_int_equal(sp->nsectors, (uint32_t)op_id + 1);
	if (sp->link_op_id)
		assert_true(sp->link_op_id == op_id + 1);
}

static void *churn(void *arg)
{
	uint64_t op = CHURN_OP + ((uint64_t)(uintptr_t)arg << 32);
	uint32_t h[16] = {0};

	for (;; op++) {
		uint32_t *slot = &h[op % ARRAY_SIZE(h)];

		span_close(*slot);
		*slot = derived_open(op);
		if (op % 3 == 0)
			span_link(*slot, op + 1);
	}
	return NULL;
}

static void churn_child(int fd)
{
	pthread_t t;

	for (uint64_t i = 1; i <= STABLE_SPANS; i++)
		if (!derived_open(i))
			_exit(1);
	for (uintptr_t i = 0; i < CHURNERS; i++)
		if (pthread_create(&t, NULL, churn, (void *)i))
			_exit(1);
	child_say(fd);
	child_hear(fd);
}

static void no_span_is_missed_or_torn_while_others_come_and_go(void **state)
{
	struct child ch = child_start(churn_child);
	struct daemon_spans *d;
	struct seen s = {0};
	size_t churned = 0;

	child_wait(&ch);
	d = spans_of(ch.pid);
	for (int n = 0; n < CHURN_READS; n++) {
		size_t stable = 0;

		seen_read(&s, d);
		for (size_t i = 0; i < s.nr; i++) {
			derived_check(&s.span[i]);
			if (s.span[i].op_id < CHURN_OP)
				stable++;
			else
				churned++;
		}
		assert_int_equal(stable, STABLE_SPANS);
		for (uint64_t op = 1; op <= STABLE_SPANS; op++)
			assert_non_null(seen_op(&s, op));
	}
	assert_true(churned > 0);
	assert_int_equal(daemon_spans_dropped(d), 0);
	daemon_spans_close(d);
	child_end(&ch);
	free(s.span);
}

/* ---- a full table ---- */

static void *open_share(void *arg)
{
	uint32_t *h = arg;

	for (unsigned int i = 0; i < SPANS_SLOTS / 4 + 10; i++)
		h[i] = derived_open(1000 + i);
	return NULL;
}

static void full_child(int fd)
{
	static uint32_t h[4][SPANS_SLOTS / 4 + 10];
	unsigned int refused = 0;
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		if (pthread_create(&t[i], NULL, open_share, h[i]))
			_exit(1);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (size_t i = 0; i < 4 * ARRAY_SIZE(h[0]); i++)
		refused += !h[i / ARRAY_SIZE(h[0])][i % ARRAY_SIZE(h[0])];
	if (refused != 40)
		_exit(1);
	child_say(fd);
	child_hear(fd);
	for (size_t i = 0; i < 4 * ARRAY_SIZE(h[0]); i++)
		span_close(h[i / ARRAY_SIZE(h[0])][i % ARRAY_SIZE(h[0])]);
	if (!derived_open(5))
		_exit(1);
	child_say(fd);
	child_hear(fd);
}

static void a_full_table_is_counted_and_recovers(void **state)
{
	struct child ch = child_start(full_child);
	struct daemon_spans *d;
	struct seen s = {0};

	child_wait(&ch);
	d = spans_of(ch.pid);
	seen_read(&s, d);
	assert_int_equal(s.nr, SPANS_SLOTS);
	for (size_t i = 0; i < s.nr; i++)
		derived_check(&s.span[i]);
	assert_int_equal(daemon_spans_dropped(d), 40);
	child_go(&ch);
	child_wait(&ch);
	seen_read(&s, d);
	assert_int_equal(s.nr, 1);
	derived_check(&s.span[0]);
	assert_int_equal(daemon_spans_dropped(d), 40);
	daemon_spans_close(d);
	child_end(&ch);
	free(s.span);
}

static void a_stale_handle_never_closes_its_successor(void **state)
{
	uint32_t first = derived_open(1), h = first, n = 0;
	struct daemon_spans *d = spans_of(getpid());
	struct seen s = {0};

	/* One thread gets the same slot again. */
	do {
		span_close(h);
		h = derived_open(2);
		assert_int_not_equal(h, first);
	} while (++n < 1000);
	span_close(first);
	span_link(first, 77);
	seen_read(&s, d);
	assert_int_equal(s.nr, 1);
	derived_check(&s.span[0]);
	span_close(h);
	seen_read(&s, d);
	assert_int_equal(s.nr, 0);
	daemon_spans_close(d);
	free(s.span);
}

/* ---- other programs ---- */

/* Run a program with a pipe as its input; when this returns it has begun. */
static struct child exec_start(const char *path, const char *arg)
{
	struct child ch;
	int sp[2], begun[2];
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp), 0);
	assert_int_equal(pipe2(begun, O_CLOEXEC), 0);
	ch.pid = fork();
	assert_true(ch.pid >= 0);
	if (!ch.pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(sp[1], 0);
		execlp(path, path, arg, NULL);
		if (write(begun[1], "!", 1) < 0)
			_exit(1);
		_exit(1);
	}
	close(sp[1]);
	close(begun[1]);
	/* Closed by a successful exec. */
	if (read(begun[0], &c, 1) != 0)
		fail_msg("%s cannot be run", path);
	close(begun[0]);
	ch.fd = sp[0];
	return ch;
}

static void a_program_without_spans_is_told_so(void **state)
{
	struct child ch = exec_start("cat", "-");
	struct daemon_spans *d;
	char err[200] = "";

	assert_int_equal(daemon_spans_open((uint32_t)ch.pid, &d, err, sizeof(err)), -ENOENT);
	assert_null(d);
	assert_non_null(strstr(err, "keeps no spans"));
	child_end(&ch);
	/* Ended, and nobody has its number. */
	assert_int_equal(daemon_spans_open((uint32_t)ch.pid, &d, err, sizeof(err)), -ESRCH);
}

/* Somebody who may not look is told that, not that there is nothing. */
static void without_the_right_it_says_so(void **state)
{
	struct child ch;
	pid_t pid;
	int status;

	if (geteuid() != 0)
		skip();
	ch = child_start(open_one_of_each);
	child_wait(&ch);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct daemon_spans *d;
		char err[200];

		if (setresuid(65534, 65534, 65534))
			_exit(2);
		_exit(daemon_spans_open((uint32_t)ch.pid, &d, err, sizeof(err)) != -EPERM);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	child_end(&ch);
}

static void a_stripped_and_deleted_program_is_readable(void **state)
{
	char dir[] = "/tmp/trace_spans_test.XXXXXX", path[128], cmd[512], c;
	struct daemon_spans *d;
	struct seen s = {0};
	struct child ch;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/prog", dir);
	snprintf(cmd, sizeof(cmd), "strip -o %s '%s'", path, self_path);
	assert_int_equal(system(cmd), 0);
	ch = exec_start(path, "--open");
	assert_int_equal(recv(ch.fd, &c, 1, 0), 1);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
	d = spans_of(ch.pid);
	seen_read(&s, d);
	assert_int_equal(s.nr, 1);
	derived_check(&s.span[0]);

	/* It ends while we watch. */
	kill(ch.pid, SIGKILL);
	waitpid(ch.pid, NULL, 0);
	assert_int_equal(daemon_spans_read(d, seen_add, &s), -ESRCH);
	daemon_spans_close(d);
	close(ch.fd);
	free(s.span);
}

/* ---- hostile tables ---- */

static struct spans_header *bad_header;

static const struct bad {
	const char *name;
	size_t off;
	uint64_t value;
	size_t len;
	bool at_read; /* plausible until it is followed */
} bads[] = {
#define BAD(field, v, r)                                                \
	{                                                               \
#field " " #v, offsetof(struct spans_header, field), v, \
			sizeof(((struct spans_header *)NULL)->field), r \
	}
	BAD(magic, 0, false),
	BAD(version, SPANS_VERSION + 1, false),
	BAD(slot_bytes, 0, false),
	BAD(slot_bytes, 383, false),
	BAD(slot_bytes, 4097, false),
	BAD(nr_slots, 0, false),
	BAD(nr_slots, 65537, false),
	BAD(nr_slots, UINT32_MAX, false),
	BAD(high_water, SPANS_SLOTS + 1, false),
	BAD(high_water, UINT32_MAX, false),
	BAD(table, 0, false),
	BAD(table, UINT64_MAX - 4, false),
	BAD(states, 0, false),
	BAD(states, 1, false),
	BAD(states, 1ull << 63, false),
	BAD(table, 4096, true),
	BAD(states, 4096, true),
};

static void bad_child(int fd)
{
	struct spans_header good;

	bad_header = (struct spans_header *)(uintptr_t)spans_header();
	if (!derived_open(1))
		_exit(1);
	good = *bad_header;
	for (size_t i = 0; i < ARRAY_SIZE(bads); i++) {
		memcpy((char *)bad_header + bads[i].off, &bads[i].value, bads[i].len);
		child_say(fd);
		child_hear(fd);
		*bad_header = good;
		child_say(fd);
		child_hear(fd);
	}
}

static void a_damaged_header_is_refused(void **state)
{
	struct child ch = child_start(bad_child);
	struct daemon_spans *d, *before = NULL;
	struct seen s = {0};
	char err[200];

	for (size_t i = 0; i < ARRAY_SIZE(bads); i++) {
		int r;

		child_wait(&ch);
		r = daemon_spans_open((uint32_t)ch.pid, &d, err, sizeof(err));
		if (bads[i].at_read) {
			assert_int_equal(r, 0);
			r = daemon_spans_read(d, seen_add, &s);
			daemon_spans_close(d);
		} else if (r != -EPROTONOSUPPORT) {
			fail_msg("%s: %d", bads[i].name, r);
		}
		if (r >= 0)
			fail_msg("%s was accepted", bads[i].name);
		/* The same for one that was opened while it was in order. */
		if (before && daemon_spans_read(before, seen_add, &s) >= 0)
			fail_msg("%s was accepted at a read", bads[i].name);
		assert_int_equal(s.nr, 0);
		child_go(&ch);
		child_wait(&ch);
		if (!before)
			before = spans_of(ch.pid);
		child_go(&ch);
	}
	daemon_spans_close(before);
	child_end(&ch);
}

/* A slot that is for ever being changed is left out; strings without an end are cut. */
static void odd_child(int fd)
{
	uint32_t h = derived_open(1), other = derived_open(2);
	struct spans_slot *slot = (struct spans_slot *)(uintptr_t)spans_header()->table;

	slot[h & 4095].seq++;
	memset(slot[other & 4095].key, 'k', sizeof(slot->key));
	memset(slot[other & 4095].export_, 'e', sizeof(slot->export_));
	memset(slot[other & 4095].event, 'x', sizeof(slot->event));
	slot[other & 4095].io_op = 1;
	slot[other & 4095].stage = 200;
	slot[other & 4095].start_ns = UINT64_MAX;
	child_say(fd);
	child_hear(fd);
}

static void a_damaged_slot_harms_nobody(void **state)
{
	struct child ch = child_start(odd_child);
	struct daemon_spans *d;
	struct seen s = {0};

	child_wait(&ch);
	d = spans_of(ch.pid);
	seen_read(&s, d);
	assert_int_equal(s.nr, 1);
	assert_int_equal(s.span[0].op_id, 2);
	assert_int_equal(strlen(s.span[0].event), 31);
	assert_int_equal(strlen(s.span[0].volume), 127);
	assert_int_equal(strlen(s.span[0].key), 168);
	assert_int_equal(s.span[0].io_op, '?');
	assert_string_equal(s.span[0].stage, "unknown");
	assert_true(s.span[0].start_ns <= now_ns());
	daemon_spans_close(d);
	child_end(&ch);
	free(s.span);
}

/* ---- what it costs ---- */

static void ignore(void *ctx, const struct rec *r)
{
}

/* Printed for people; fails only if it is out of all proportion, as a lock or a system call would
 * be. */
static void opening_and_closing_is_cheap(void **state)
{
	const struct timing_rec rec = {.event = TIMING_OBJECT_GET,
				       .op_id = 5,
				       .start_ns = 77,
				       .export_ = "vm-0001",
				       .key = "chunks/0007/0123456789abcdef0123456789abcdef.pack",
				       .dev_id = -1};
	struct daemon_spans *d = spans_of(getpid());
	enum { N = 1000000, POLLS = 1000 };
	uint64_t start = now_ns(), ns;

	for (int i = 0; i < N; i++)
		span_close(span_open(&rec));
	ns = now_ns() - start;
	print_message("[          ] open and close: %.1f ns\n", (double)ns / N);
	assert_true(ns / N < 20000);
	for (int i = 0; i < 100; i++)
		assert_int_not_equal(span_open(&rec), 0);
	start = now_ns();
	for (int i = 0; i < POLLS; i++)
		assert_int_equal(daemon_spans_read(d, ignore, NULL), 100);
	ns = now_ns() - start;
	print_message("[          ] poll of 100 open spans: %.1f us\n", (double)ns / POLLS / 1000);
	daemon_spans_close(d);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_open_span_tells_what_it_is_about),
		cmocka_unit_test(no_span_is_missed_or_torn_while_others_come_and_go),
		cmocka_unit_test(a_full_table_is_counted_and_recovers),
		cmocka_unit_test(a_stale_handle_never_closes_its_successor),
		cmocka_unit_test(a_program_without_spans_is_told_so),
		cmocka_unit_test(without_the_right_it_says_so),
		cmocka_unit_test(a_stripped_and_deleted_program_is_readable),
		cmocka_unit_test(a_damaged_header_is_refused),
		cmocka_unit_test(a_damaged_slot_harms_nobody),
		cmocka_unit_test(opening_and_closing_is_cheap),
	};

	self_path = argv[0];
	if (argc > 1 && !strcmp(argv[1], "--open")) {
		derived_open(1);
		child_say(0);
		child_hear(0);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
