// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What /proc, the kernel log and the host say: tasks, who holds a device, reports in the log,
 * doctor. Devices are made up by a directory like /sys; the processes are real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "tracing/doctor.h"
#include "tracing/guard.h"
#include "tracing/kmsg.h"
#include "tracing/procfs.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define DEADLINE_NS (20 * NSEC_PER_SEC)

static char dir[64];

static int setup(void **state __unused)
{
	snprintf(dir, sizeof(dir), "/tmp/gfs-procfs-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state __unused)
{
	char cmd[128];

	procfs_set_sysfs(NULL);
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd) ? -1 : 0;
}

static void put(const char *name, const char *text)
{
	char path[256], parent[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	snprintf(parent, sizeof(parent), "%s", path);
	*strrchr(parent, '/') = '\0';
	assert_int_equal(mkdir_all(parent), 0);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

/* A child that runs fn, says that it is ready, and sleeps until the pipe is closed. */
struct child {
	pid_t pid;
	int pipe;
};

static int sleep_fd;

static void sleep_on_pipe(void)
{
	char byte;

	(void)!read(sleep_fd, &byte, 1);
}

static struct child start(void (*fn)(void))
{
	struct child c;
	int ready[2], hold[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(hold), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (!c.pid) {
		close(hold[1]);
		close(ready[0]);
		sleep_fd = hold[0];
		fn();
		(void)!write(ready[1], "r", 1);
		close(ready[1]);
		sleep_on_pipe();
		_exit(0);
	}
	close(hold[0]);
	close(ready[1]);
	/* 0: fn does not return. */
	if (read(ready[0], &byte, 1) < 0)
		fail();
	close(ready[0]);
	c.pipe = hold[1];
	return c;
}

static void end(struct child *c)
{
	close(c->pipe);
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
}

/* Until it sleeps. */
static void await_state(uint32_t tid, const char *states, struct rec_task *t)
{
	uint64_t deadline = now_ns() + DEADLINE_NS;

	while (now_ns() < deadline) {
		assert_int_equal(procfs_task(tid, t), 0);
		if (strchr(states, t->state))
			return;
		poll(NULL, 0, 1);
	}
	fail_msg("task %u is in state %c", tid, t->state);
}

static void set_odd_name(void)
{
	prctl(PR_SET_NAME, "a) R\n;\tb");
}

static void a_task_is_told_whatever_it_calls_itself(void **state __unused)
{
	struct child c = start(set_odd_name);
	struct rec_task t;

	await_state((uint32_t)c.pid, "S", &t);
	assert_int_equal(t.tid, c.pid);
	assert_int_equal(t.tgid, c.pid);
	assert_int_equal(t.ppid, getpid());
	assert_string_equal(t.comm, "a) R ; b");
	assert_non_null(strstr(t.cmdline, "trace_procfs_test"));
	assert_false(t.killed);
	if (geteuid() == 0) {
		assert_non_null(strstr(t.kstack, "pipe_read+0x"));
		/* Symbols and offsets only. */
		assert_null(strchr(t.kstack, '/'));
		assert_null(strchr(t.kstack, '\n'));
		assert_null(strstr(t.kstack, "[<"));
	}
	end(&c);
	assert_int_equal(procfs_task((uint32_t)c.pid, &t), -ESRCH);
	assert_int_equal(procfs_task(0, &t), -ESRCH);
}

static void a_command_line_is_one_bounded_line(void **state __unused)
{
	static char long_arg[1000];
	struct rec_task t;
	uint64_t deadline = now_ns() + DEADLINE_NS;
	int hold[2];
	pid_t pid;

	memset(long_arg, 'x', sizeof(long_arg) - 1);
	assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(hold[0], 0);
		execl("/bin/sh", "sh", "-c", "read x", "two\nlines\x1b[1m", long_arg, NULL);
		_exit(127);
	}
	close(hold[0]);
	do {
		poll(NULL, 0, 1);
		assert_int_equal(procfs_task((uint32_t)pid, &t), 0);
	} while (strncmp(t.cmdline, "sh ", 3) && now_ns() < deadline);
	assert_int_equal(strncmp(t.cmdline, "sh -c read x two lines [1m xxx", 30), 0);
	assert_int_equal(strlen(t.cmdline), sizeof(t.cmdline) - 1);
	close(hold[1]);
	waitpid(pid, NULL, 0);
}

static void a_pending_sigkill_is_seen(void **state __unused)
{
	static const char text[] =
		"Name:\tState:\tX\nUmask:\t0022\nState:\tD (disk sleep)\nTgid:\t70\n"
		"Pid:\t71\nPPid:\t1\nSigQ:\t1/9\nSigPnd:\t0000000000000000\n"
		"ShdPnd:\t%s\nSigBlk:\t0000000000000100\n";
	struct rec_task t = {0};
	char status[400];

	snprintf(status, sizeof(status), text, "0000000000000100");
	assert_true(procfs_status_parse(status, &t));
	assert_true(t.killed);
	assert_int_equal(t.state, 'D');
	assert_int_equal(t.tid, 71);
	assert_int_equal(t.tgid, 70);
	assert_int_equal(t.ppid, 1);
	snprintf(status, sizeof(status), text, "0000000000004000"); /* SIGTERM */
	assert_true(procfs_status_parse(status, &t));
	assert_false(t.killed);
	assert_false(procfs_status_parse("", &t));
	assert_false(procfs_status_parse("Pid:", &t));
}

static void a_stack_has_a_function_or_its_clone(void **state __unused)
{
	static const char stack[] = "blk_mq_freeze_queue_wait+0x9a;ublk_ctrl_start_dev.isra.0+0x12 "
				    "[ublk_drv];io_wq_submit_work";

	assert_true(procfs_stack_has(stack, "blk_mq_freeze_queue_wait"));
	assert_true(procfs_stack_has(stack, "ublk_ctrl_start_dev"));
	assert_true(procfs_stack_has(stack, "io_wq_submit_work"));
	assert_false(procfs_stack_has(stack, "blk_mq_freeze_queue"));
	assert_false(procfs_stack_has(stack, "mq_freeze_queue_wait"));
	assert_false(procfs_stack_has(stack, "ublk_drv"));
	assert_false(procfs_stack_has("", "x"));
}

struct seen {
	uint32_t tgid;
	struct rec_task task;
	unsigned int calls;
};

static void on_thread(void *ctx, const struct rec_task *t)
{
	struct seen *s = ctx;

	if (t->tgid == s->tgid) {
		s->task = *t;
		s->calls++;
	}
}

static void wait_for_vforked(void)
{
	/* As vfork() waits, in D state, but with a memory of its own. */
	if (syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0) == 0) {
		sleep_on_pipe();
		_exit(0);
	}
}

static pid_t vfork_parent(int *hold_write)
{
	int hold[2];
	pid_t pid;

	assert_int_equal(pipe(hold), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		close(hold[1]);
		sleep_fd = hold[0];
		wait_for_vforked();
		_exit(0);
	}
	close(hold[0]);
	*hold_write = hold[1];
	return pid;
}

static void what_already_hangs_is_found_by_its_stack(void **state __unused)
{
	static const char *const forks[] = {"kernel_clone"};
	static const char *const pipes[] = {"pipe_read", "anon_pipe_read"};
	static const char *const none[] = {"ublk_no_such_function"};
	struct seen s = {0};
	int hold, hangs = -1;
	struct child c;
	pid_t pid;

	if (geteuid())
		skip();
	/* In D state: whatever it waits in. */
	pid = vfork_parent(&hold);
	await_state((uint32_t)pid, "D", &s.task);
	s.tgid = (uint32_t)pid;
	memset(&s.task, 0, sizeof(s.task));
	assert_true(procfs_threads_in(forks, 1, on_thread, &s) >= 1);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.task.state, 'D');
	assert_true(procfs_stack_has(s.task.kstack, "kernel_clone"));
	assert_true(s.task.cmdline[0]);
	assert_int_equal(procfs_threads_in(none, 1, on_thread, &s), 0);
	close(hold);
	waitpid(pid, NULL, 0);

	/* In S state: by its wchan. */
	c = start(set_odd_name);
	await_state((uint32_t)c.pid, "S", &s.task);
	s = (struct seen){.tgid = (uint32_t)c.pid};
	assert_true(procfs_threads_in(pipes, 2, on_thread, &s) >= 1);
	assert_int_equal(s.calls, 1);
	end(&c);
	/* A healthy host has nothing that hangs, at least not for long. */
	for (uint64_t deadline = now_ns() + DEADLINE_NS; now_ns() < deadline; poll(NULL, 0, 1)) {
		hangs = procfs_threads_in(procfs_hang_symbols, procfs_nr_hang_symbols, on_thread,
					  &s);
		if (!hangs)
			break;
	}
	assert_int_equal(hangs, 0);
}

struct openers {
	struct rec_opener o[64];
	unsigned int nr;
};

static void on_opener(void *ctx, const struct rec_opener *o)
{
	struct openers *all = ctx;

	if (all->nr < ARRAY_SIZE(all->o))
		all->o[all->nr++] = *o;
}

static const struct rec_opener *opener(const struct openers *all, uint32_t tgid, const char *what)
{
	for (unsigned int i = 0; i < all->nr; i++)
		if (all->o[i].tgid == tgid && !strcmp(all->o[i].what, what))
			return &all->o[i];
	return NULL;
}

/* ublkc3 is /dev/full; ublkb3 is the disk that / is on, ublkb3p1 no device of here. */
static void fake_devices(void)
{
	struct stat st;
	char text[32];

	assert_int_equal(stat("/", &st), 0);
	snprintf(text, sizeof(text), "%u:%u\n", major(st.st_dev), minor(st.st_dev));
	put("class/ublk-char/ublkc3/dev", "1:7\n");
	put("block/ublkb3/dev", text);
	put("block/ublkb3/ublkb3p1/dev", "259:4000\n");
	put("block/ublkb3/ublkb3p1/holders/dm-9", "");
	put("block/ublkb3/queue/scheduler", "[none]\n");
	put("block/ublkbx/dev", "1:7\n");
	put("ublkc3", "0123456789");
	procfs_set_sysfs(dir);
}

static struct io_uring ring;
static bool no_ring;

static void hold_everything(void)
{
	char path[128];
	int fd = open("/dev/full", O_RDWR);

	dup2(fd, 57);
	if (fd != 57)
		close(fd);
	/* Looks like a device and is none. */
	dup2(open("/dev/null", O_RDWR), 58);
	/* A mapping and a registered file show by name only. */
	snprintf(path, sizeof(path), "%s/ublkc3", dir);
	fd = open(path, O_RDWR);
	if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		_exit(1);
	if (io_uring_queue_init(4, &ring, 0) == 0) {
		dup2(ring.ring_fd, 59);
		if (io_uring_register_files(&ring, &fd, 1))
			_exit(1);
	}
	close(fd);
}

static void every_holder_of_a_device_is_named(void **state __unused)
{
	struct openers all = {0};
	const struct rec_opener *o;
	struct io_uring probe;
	struct child c;
	struct stat st;

	no_ring = io_uring_queue_init(4, &probe, 0) < 0;
	if (!no_ring)
		io_uring_queue_exit(&probe);
	fake_devices();
	c = start(hold_everything);
	assert_true(procfs_openers(3, on_opener, &all) > 0);
	o = opener(&all, (uint32_t)c.pid, "fd 57");
	assert_non_null(o);
	assert_true(o->cdev);
	assert_int_equal(o->dev, 3);
	assert_non_null(strstr(o->comm, "trace_procfs"));
	assert_null(opener(&all, (uint32_t)c.pid, "fd 58"));
	assert_non_null(opener(&all, (uint32_t)c.pid, "mapped"));
	if (!no_ring)
		assert_non_null(opener(&all, (uint32_t)c.pid, "registered with io_uring fd 59"));
	assert_non_null(opener(&all, 0, "held by dm-9"));
	if (!stat("/", &st) && major(st.st_dev)) {
		o = opener(&all, 0, "mounted on /");
		assert_non_null(o);
		assert_false(o->cdev);
	}
	/* Another device is nobody's. */
	all.nr = 0;
	assert_int_equal(procfs_openers(4, on_opener, &all), 0);
	/* All devices at once are this one. */
	assert_true(procfs_openers(-1, on_opener, &all) > 0);
	assert_non_null(opener(&all, (uint32_t)c.pid, "fd 57"));
	end(&c);
	all.nr = 0;
	(void)!procfs_openers(3, on_opener, &all);
	assert_null(opener(&all, (uint32_t)c.pid, "fd 57"));
}

static void *thread_sleeps(void *arg)
{
	sleep_on_pipe();
	_exit(0);
}

static void leave_a_thread(void)
{
	pthread_t t;

	dup2(open("/dev/full", O_RDWR), 57);
	pthread_create(&t, NULL, thread_sleeps, NULL);
	/* Ends the leader only. */
	pthread_exit(NULL);
}

/* A SIGKILLed server with one thread that hangs: its leader is a zombie, the device is still held.
 */
static void a_thread_holds_what_its_dead_leader_opened(void **state __unused)
{
	uint64_t deadline = now_ns() + DEADLINE_NS;
	struct openers all = {0};
	struct rec_task t;
	struct child c;
	int hold[2];

	fake_devices();
	assert_int_equal(pipe(hold), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (!c.pid) {
		close(hold[1]);
		sleep_fd = hold[0];
		leave_a_thread();
	}
	close(hold[0]);
	c.pipe = hold[1];
	await_state((uint32_t)c.pid, "Z", &t);
	while (!opener(&all, (uint32_t)c.pid, "fd 57") && now_ns() < deadline) {
		all.nr = 0;
		(void)!procfs_openers(3, on_opener, &all);
	}
	assert_non_null(opener(&all, (uint32_t)c.pid, "fd 57"));
	end(&c);
}

static void a_read_that_hangs_is_left_behind(void **state __unused)
{
	char path[128], *data = NULL;
	uint64_t from = now_ns(), deadline = from + DEADLINE_NS;
	size_t len;
	int fd;

	put("file", "content");
	snprintf(path, sizeof(path), "%s/file", dir);
	assert_int_equal(guard_read(path, 100, 5000, &data, &len), 0);
	assert_int_equal(len, 7);
	assert_string_equal(data, "content");
	free(data);
	assert_int_equal(guard_read(path, 3, 5000, &data, &len), 0);
	assert_string_equal(data, "con");
	free(data);
	assert_int_equal(guard_read("/nonexistent", 3, 5000, &data, &len), -ENOENT);

	/* Opening a fifo waits for a writer. */
	snprintf(path, sizeof(path), "%s/fifo", dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	from = now_ns();
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(guard_read(path, 100, 20, &data, &len), -ETIMEDOUT);
	assert_int_equal(guard_stuck(), 8);
	/* There is an end to it. */
	assert_int_equal(guard_read(path, 100, 20, &data, &len), -EBUSY);
	assert_true(now_ns() - from < 10 * NSEC_PER_SEC);
	/* A writer lets those go that wait by then. */
	while (guard_stuck() && now_ns() < deadline) {
		fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
		poll(NULL, 0, 1);
	}
	assert_int_equal(guard_stuck(), 0);
}

struct reports {
	struct rec_kmsg r[8];
	unsigned int nr;
};

static void on_kmsg(void *ctx, const struct rec *r)
{
	struct reports *all = ctx;

	assert_int_equal(r->kind, REC_KMSG);
	assert_true(all->nr < ARRAY_SIZE(all->r));
	all->r[all->nr++] = r->kmsg;
}

static unsigned int seq;

static void feed(struct kmsg *k, struct reports *all, unsigned int prio, const char *const *lines,
		 size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		char rec[400];
		int n = snprintf(rec, sizeof(rec), "%u,%u,5140900,-,caller=T9;%s\n SUBSYSTEM=x\n",
				 prio, ++seq, lines[i]);

		(void)!kmsg_feed(k, rec, (size_t)n, on_kmsg, all);
	}
}

static const char *const oops[] = {
	"BUG: kernel NULL pointer dereference, address: 0000000000000010",
	"#PF: supervisor write access in kernel mode",
	"#PF: error_code(0x0002) - not-present page",
	"PGD 0 P4D 0 ",
	"Oops: Oops: 0002 [#1] SMP NOPTI",
	"CPU: 1 UID: 0 PID: 171 Comm: iou-wrk-170 Not tainted 6.18.5+deb13-cloud-amd64 #1",
	"RIP: 0010:ublk_ctrl_add_dev+0x1c4/0x6d0 [ublk_drv]",
	"Call Trace:",
	" <TASK>",
	" ublk_ctrl_uring_cmd+0x100/0x8a0 [ublk_drv]",
	" </TASK>",
	"---[ end trace 0000000000000000 ]---",
};

static const char *const hung[] = {
	"INFO: task kworker/u8:3:99 blocked for more than 120 seconds.",
	"      Not tainted 6.12.107 #1",
	"task:kworker/u8:3 state:D stack:0 pid:99 ppid:2",
	"Call Trace:",
	" <TASK>",
	" __schedule+0x4d1/0xe00",
	" ? blk_finish_plug+0x2c/0x40",
	" blk_mq_freeze_queue_wait+0x9a/0xe0",
	" queue_attr_store+0x10/0x20",
	" </TASK>",
};

static const char *const hung_elsewhere[] = {
	"INFO: task nfsd:77 blocked for more than 120 seconds.",
	"Call Trace:",
	" <TASK>",
	" __schedule+0x4d1/0xe00",
	" ? blk_finish_plug+0x2c/0x40",
	" nfs_wait_bit_killable+0x10/0x60 [nfs]",
	" </TASK>",
	" blk_mq_freeze_queue_wait+0x9a/0xe0", /* of no report any more */
};

static void the_log_tells_oopses_and_hangs_of_block_devices_once(void **state __unused)
{
	struct kmsg *k = kmsg_new();
	struct reports all = {0};

	assert_non_null(k);
	feed(k, &all, 6, hung_elsewhere, ARRAY_SIZE(hung_elsewhere));
	assert_int_equal(all.nr, 0);
	feed(k, &all, 4, oops, ARRAY_SIZE(oops));
	assert_int_equal(all.nr, 1);
	assert_string_equal(all.r[0].what, "oops");
	assert_non_null(strstr(all.r[0].line, "BUG: kernel NULL pointer dereference"));
	assert_non_null(strstr(all.r[0].line, "Oops: 0002"));
	assert_non_null(strstr(all.r[0].line, "in ublk_ctrl_add_dev; task iou-wrk-170"));
	assert_non_null(strstr(all.r[0].line, "[5.140900]"));
	feed(k, &all, 3, hung, ARRAY_SIZE(hung));
	assert_int_equal(all.nr, 2);
	assert_string_equal(all.r[1].what, "hung");
	assert_non_null(strstr(all.r[1].line, "task kworker/u8:3:99 blocked for more than 120"));
	assert_non_null(strstr(all.r[1].line, "in blk_mq_freeze_queue_wait"));
	/* Anybody may write such lines to /dev/kmsg: those are not the kernel's. */
	feed(k, &all, 8 + 4, oops, ARRAY_SIZE(oops));
	assert_int_equal(all.nr, 2);
	/* A report cut by an overrun, and the next whole. */
	feed(k, &all, 4, oops, 3);
	seq += 100;
	feed(k, &all, 4, hung, ARRAY_SIZE(hung));
	assert_int_equal(all.nr, 3);
	assert_int_equal(kmsg_lost(k), 100);
	kmsg_close(k);
}

static void malformed_log_records_are_skipped(void **state __unused)
{
	static const char *const bad[] = {"",
					  ";",
					  "x,y,z;BUG: a",
					  "4,1",
					  "4,1,2;",
					  "4,1,2,-",
					  "99999999999999999999,1,1;BUG: x",
					  "4;BUG: RIP: 0010:ublk_a+0x1"};
	struct kmsg *k = kmsg_new();
	struct reports all = {0};

	assert_non_null(k);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		/* Exactly as long as it says: a byte past it would be seen by the sanitizer. */
		char *exact = malloc(MAX(strlen(bad[i]), (size_t)1));

		assert_non_null(exact);
		memcpy(exact, bad[i], strlen(bad[i]));
		assert_int_equal(kmsg_feed(k, exact, strlen(bad[i]), on_kmsg, &all), 0);
		free(exact);
	}
	kmsg_close(k);
}

static void the_real_log_can_be_read_to_its_end(void **state __unused)
{
	struct reports all = {0};
	char err[128] = "";
	struct kmsg *k;

	if (kmsg_open(false, &k, err, sizeof(err))) {
		assert_true(err[0]);
		skip();
	}
	assert_true(kmsg_fd(k) >= 0);
	assert_true(kmsg_poll(k, on_kmsg, &all) >= 0);
	kmsg_close(k);
}

static int one_more(struct doctor_out *o, void *ctx)
{
	struct doctor_result r = {.verdict = DOCTOR_OK};

	doctor_say(&r, DOCTOR_OK, "first");
	doctor_say(&r, *(enum doctor_verdict *)ctx, "second %d", 2);
	doctor_next(&r, "do this");
	doctor_emit(o, "extra", &r);
	return 0;
}

static void doctor_says_for_each_check_what_and_what_next(void **state __unused)
{
	enum doctor_verdict v = DOCTOR_BAD;
	char *text = NULL, *save = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	unsigned int lines = 0;

	assert_non_null(f);
	assert_int_equal(doctor_checks(f, true, one_more, &v), DOCTOR_CANNOT_RUN);
	fclose(f);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		struct json_object *o = json_tokener_parse(l), *x;

		assert_non_null(o);
		assert_true(json_object_object_get_ex(o, "check", &x));
		assert_true(json_object_object_get_ex(o, "text", &x));
		assert_true(json_object_get_string_len(x) > 0);
		assert_true(json_object_object_get_ex(o, "verdict", &x));
		/* What cannot run has a next step. */
		if (!strcmp(json_object_get_string(x), "FAILED"))
			assert_true(json_object_object_get_ex(o, "next", &x));
		json_object_put(o);
		lines++;
	}
	assert_true(lines >= 10);
	free(text);
}

static void doctor_output_ends_with_the_checks_of_others(void **state __unused)
{
	enum doctor_verdict v = DOCTOR_WARN;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int alone, both;

	assert_non_null(f);
	both = doctor_checks(f, false, one_more, &v);
	fclose(f);
	assert_non_null(strstr(text, "\nwarning  extra          first; second 2: do this\n"));
	free(text);
	f = open_memstream(&text, &len);
	alone = doctor_run(f, false);
	fclose(f);
	free(text);
	/* A warning changes nothing. */
	assert_int_equal(both, alone);
}

static char *doctor_text(void)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	(void)!doctor_run(f, false);
	fclose(f);
	return text;
}

static void doctor_names_who_serves_and_what_nobody_does(void **state __unused)
{
	struct child c;
	char want[80], *text;

	fake_devices();
	text = doctor_text();
	assert_non_null(strstr(text, "nobody seen that serves ublkb3"));
	assert_non_null(strstr(text, "scheduler      none wherever there is a device"));
	free(text);
	put("block/ublkb3/queue/scheduler", "none [mq-deadline] kyber\n");
	c = start(hold_everything);
	text = doctor_text();
	snprintf(want, sizeof(want), "ok       devices        ublkb3 is served by %.15s[%d]\n",
		 program_invocation_short_name, c.pid);
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(text, "ublkb3 uses none [mq-deadline] kyber: none is best"));
	free(text);
	end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: later we have a thread, and TSan wants no threads in a child then. */
		cmocka_unit_test_setup_teardown(a_thread_holds_what_its_dead_leader_opened, setup,
						teardown),
		cmocka_unit_test(a_task_is_told_whatever_it_calls_itself),
		cmocka_unit_test(a_command_line_is_one_bounded_line),
		cmocka_unit_test(a_pending_sigkill_is_seen),
		cmocka_unit_test(a_stack_has_a_function_or_its_clone),
		cmocka_unit_test(what_already_hangs_is_found_by_its_stack),
		cmocka_unit_test_setup_teardown(every_holder_of_a_device_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(a_read_that_hangs_is_left_behind, setup, teardown),
		cmocka_unit_test(the_log_tells_oopses_and_hangs_of_block_devices_once),
		cmocka_unit_test(malformed_log_records_are_skipped),
		cmocka_unit_test(the_real_log_can_be_read_to_its_end),
		cmocka_unit_test(doctor_says_for_each_check_what_and_what_next),
		cmocka_unit_test(doctor_output_ends_with_the_checks_of_others),
		cmocka_unit_test_setup_teardown(doctor_names_who_serves_and_what_nobody_does, setup,
						teardown),
	};

	return cmocka_run_group_tests_name("procfs", tests, NULL, NULL);
}
