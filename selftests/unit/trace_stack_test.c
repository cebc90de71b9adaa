// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Stacks: kernel symbols from a table like /proc/kallsyms, and user stacks of another process,
 * which is a small program compiled here in several ways (the compiler is a need of the build
 * already).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tracing/kallsyms.h"
#include "tracing/ustack.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#define DEADLINE_NS (20 * NSEC_PER_SEC)

static char dir[64];

static int setup(void **state __unused)
{
	snprintf(dir, sizeof(dir), "/tmp/gfs-stack-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state __unused)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd) ? -1 : 0;
}

static void put(const char *name, const char *text, char path[128])
{
	FILE *f;

	snprintf(path, 128, "%s/%s", dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

static const char symbols[] = "0000000000000000 A fixed_percpu_data\n"
			      "ffffffff81000000 T _stext\n"
			      "ffffffff81000000 T _text\n"
			      "ffffffff81000100 T blk_mq_freeze_queue_wait\n"
			      "ffffffff81000200 t elv_store.isra.0.cold\n"
			      "ffffffff81000300 t elv_store.constprop.0\n"
			      "ffffffff81000400 t elv_store.isra.0\n"
			      "ffffffff81000500 t only_cold.isra.0.cold\n"
			      "ffffffff81000600 t only_part.part.0\n"
			      "ffffffff81000700 T elv_store_other\n"
			      "ffffffff81000800 D some_data\n"
			      "this is not a symbol\n"
			      "ffffffff81000900 t twice\n"
			      "ffffffffc0502000 t ublk_ctrl_start_dev.isra.0\t[ublk_drv]\n"
			      "ffffffffc0501000 t ublk_ctrl_uring_cmd\t[ublk_drv]\n"
			      "ffffffffc0502800 t ublk_ctrl_start_dev.isra.0.cold\t[ublk_drv]\n"
			      "ffffffffc0503000 d ublk_ctl_mutex\t[ublk_drv]\n"
			      "ffffffffc0400000 t twice\t[null_blk]\n";

static struct kallsyms *table(void)
{
	struct kallsyms *k;
	char path[128];

	put("kallsyms", symbols, path);
	assert_int_equal(kallsyms_open(path, &k), 0);
	return k;
}

static void addresses_become_names(void **state __unused)
{
	static const struct {
		uint64_t addr;
		const char *name;
	} want[] = {
		{0xffffffff81000100, "blk_mq_freeze_queue_wait+0x0"},
		{0xffffffff810001ff, "blk_mq_freeze_queue_wait+0xff"},
		{0xffffffff81000404, "elv_store.isra.0+0x4"},
		{0xffffffff81000010, "_stext+0x10"},
		{0xffffffffc0501010, "ublk_ctrl_uring_cmd+0x10 [ublk_drv]"},
		{0xffffffffc0502001, "ublk_ctrl_start_dev.isra.0+0x1 [ublk_drv]"},
		{0xffffffffc0400123, "twice+0x123 [null_blk]"},
		{0xffffffff80ffffff, "0xffffffff80ffffff"}, /* before the first */
		{0xffffffffffff0000, "0xffffffffffff0000"}, /* far past the last */
		{0x1000, "0x1000"},
		{0, "0x0"},
	};
	struct kallsyms *k = table();
	char buf[128];

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		kallsyms_name(k, want[i].addr, buf, sizeof(buf));
		assert_string_equal(buf, want[i].name);
	}
	kallsyms_name(k, 0xffffffff81000100, buf, 8);
	assert_string_equal(buf, "blk_mq_");
	kallsyms_close(k);
}

static void names_become_addresses(void **state __unused)
{
	struct kallsyms *k = table();

	assert_true(kallsyms_addr(k, "ublk_ctl_mutex") == 0xffffffffc0503000);
	assert_true(kallsyms_addr(k, "twice") == 0xffffffff81000900);
	assert_true(kallsyms_addr(k, "elv_store") == 0);
	assert_true(kallsyms_addr(k, "elv_store.isra.0") == 0xffffffff81000400);
	assert_true(kallsyms_addr(k, "") == 0);
	kallsyms_close(k);
}

static void a_function_is_found_under_its_clone_but_never_its_cold_part(void **state __unused)
{
	struct kallsyms *k = table();
	char buf[64];

	assert_int_equal(kallsyms_resolve(k, "blk_mq_freeze_queue_wait", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "blk_mq_freeze_queue_wait");
	assert_int_equal(kallsyms_resolve(k, "ublk_ctrl_start_dev", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "ublk_ctrl_start_dev.isra.0");
	assert_int_equal(kallsyms_resolve(k, "elv_store", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "elv_store.isra.0");
	assert_int_equal(kallsyms_resolve(k, "only_part", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "only_part.part.0");
	assert_int_equal(kallsyms_resolve(k, "only_cold", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(kallsyms_resolve(k, "elv_stor", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(kallsyms_resolve(k, "some_data", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(kallsyms_resolve(k, "ublk_ctrl_start_dev", buf, 8), -ENAMETOOLONG);
	kallsyms_close(k);
}

static void hidden_addresses_are_said_to_be_hidden(void **state __unused)
{
	struct kallsyms *k;
	char path[128];

	put("hidden", "0000000000000000 T _text\n0000000000000000 t ublk_x\t[ublk_drv]\n", path);
	assert_int_equal(kallsyms_open(path, &k), -EPERM);
	put("empty", "", path);
	assert_int_equal(kallsyms_open(path, &k), -EBADMSG);
	put("cut", "ffffffff81000000 T _text\nffffffff810001", path);
	assert_int_equal(kallsyms_open(path, &k), 0);
	kallsyms_close(k);
	assert_int_equal(kallsyms_open("/nonexistent/kallsyms", &k), -ENOENT);
}

/* Of this thread: on a busy machine no clock on the wall says what work costs. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

static void a_large_table_is_read_quickly(void **state __unused)
{
	uint64_t from, opened, resolved;
	struct kallsyms *k;
	char path[128], buf[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/large", dir);
	f = fopen(path, "we");
	assert_non_null(f);
	for (unsigned int i = 0; i < 220000; i++)
		fprintf(f, "%016llx t function_number_%u%s\n",
			i < 180000 ? 0xffffffff81000000ull + i * 64
				   : 0xffffffffc0000000ull + (i * 7919 % 40000) * 64,
			i, i < 180000 ? "" : "\t[module]");
	fclose(f);
	from = cpu_ns();
	assert_int_equal(kallsyms_open(path, &k), 0);
	opened = cpu_ns();
	assert_int_equal(kallsyms_resolve(k, "function_number_219999", buf, sizeof(buf)), 0);
	resolved = cpu_ns();
	print_message("220000 symbols: %.1f ms, index %.1f ms\n", (double)(opened - from) / 1e6,
		      (double)(resolved - opened) / 1e6);
	/* Generous: sanitizers. */
	assert_true(resolved - from < 3 * NSEC_PER_SEC);
	kallsyms_close(k);
}

/* A program that sleeps in main -> alpha -> beta -> gamma -> read, in a thread if it is told so. */
static const char program[] =
	"#include <pthread.h>\n"
	"#include <stdlib.h>\n"
	"#include <unistd.h>\n"
	"volatile int sink;\n"
	"__attribute__((noinline)) int gamma_(int x) {\n"
	"	char b[64]; int r = read(0, b, sizeof(b)); sink += x; return r + sink; }\n"
	"__attribute__((noinline)) int beta_(int x) {\n"
	"	volatile char pad[200]; pad[x & 127] = 1; int r = gamma_(x + 1); sink += pad[3]; "
	"return r; }\n"
	"__attribute__((noinline)) int alpha_(int x) { int r = beta_(x * 3); sink += r; return r; "
	"}\n"
	/* Its call is the last thing in it: the return address belongs to what follows. */
	"__attribute__((noinline, noreturn)) void never_(int x) { alpha_(x); _exit(0); }\n"
	"__attribute__((noinline)) void caller_(int x) { sink = x; never_(x + 1); }\n"
	"static void *thread(void *arg) { alpha_(2); exit(0); }\n"
	"int main(int argc, char **argv) {\n"
	"	pthread_t t;\n"
	"	if (argc > 1) { pthread_create(&t, 0, thread, 0); pthread_exit(0); }\n"
	"	caller_(argc); return 0; }\n";

static const char *compiler(void)
{
	static const char *const names[] = {"gcc", "cc", "clang"};
	char cmd[64];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(cmd, sizeof(cmd), "%s --version >/dev/null 2>&1", names[i]);
		if (!system(cmd))
			return names[i];
	}
	return NULL;
}

static void build(const char *flags, char exe[128])
{
	char src[128], cmd[700];

	if (!compiler())
		skip();
	put("prog.c", program, src);
	snprintf(exe, 128, "%s/sleeper", dir);
	snprintf(cmd, sizeof(cmd), "%s -w -pthread -fno-optimize-sibling-calls %s -o %s %s",
		 compiler(), flags, exe, src);
	assert_int_equal(system(cmd), 0);
}

struct child {
	pid_t pid;
	uint32_t tid;
	int pipe; /* closing it ends the child */
};

static struct child start(const char *exe, bool thread)
{
	struct child c = {0};
	int fd[2];

	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (!c.pid) {
		dup2(fd[0], 0);
		execl(exe, exe, thread ? "thread" : NULL, NULL);
		_exit(127);
	}
	close(fd[0]);
	c.pipe = fd[1];
	c.tid = (uint32_t)c.pid;
	return c;
}

static void end(struct child *c)
{
	close(c->pipe);
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
}

/* Until the thread sleeps in read(0): its program counter and stack pointer, from /proc. */
static void await_read(uint32_t tid, struct ustack_regs *regs)
{
	uint64_t deadline = now_ns() + DEADLINE_NS;
	char path[48], line[256] = "";

	snprintf(path, sizeof(path), "/proc/%u/syscall", tid);
	memset(regs, 0, sizeof(*regs));
	while (now_ns() < deadline) {
		unsigned long long sp, pc;
		FILE *f = fopen(path, "re");

		if (f && fgets(line, sizeof(line), f) &&
		    sscanf(line, "0 0x0 %*x %*x %*x %*x %*x %llx %llx", &sp, &pc) == 2) {
			fclose(f);
			regs->r[7] = sp;
			regs->r[16] = pc;
			return;
		}
		if (f)
			fclose(f);
		poll(NULL, 0, 1);
	}
	fail_msg("thread %u does not sleep in read: %s", tid, line);
}

/* All registers. Only a test may stop what it looks at. */
static void registers(uint32_t tid, struct ustack_regs *regs)
{
	struct user_regs_struct u;
	int status;

	await_read(tid, regs);
	assert_int_equal(ptrace(PTRACE_ATTACH, tid, 0, 0), 0);
	assert_int_equal(waitpid((pid_t)tid, &status, __WALL), tid);
	assert_int_equal(ptrace(PTRACE_GETREGS, tid, 0, &u), 0);
	assert_int_equal(ptrace(PTRACE_DETACH, tid, 0, 0), 0);
	*regs = (struct ustack_regs){{u.rax, u.rdx, u.rcx, u.rbx, u.rsi, u.rdi, u.rbp, u.rsp, u.r8,
				      u.r9, u.r10, u.r11, u.r12, u.r13, u.r14, u.r15, u.rip}};
	await_read(tid, &(struct ustack_regs){{0}});
}

/* The frames are there, in this order. */
static void assert_chain(const char *stack, const char *const *frames, size_t nr)
{
	const char *p = stack;

	for (size_t i = 0; i < nr; i++) {
		p = strstr(p, frames[i]);
		if (!p)
			fail_msg("no %s in its place in: %s", frames[i], stack);
	}
}

static const char *const chain[] = {"sleeper!gamma_+0x",   ";sleeper!beta_+0x",
				    ";sleeper!alpha_+0x",  ";sleeper!never_+0x",
				    ";sleeper!caller_+0x", ";sleeper!main+0x"};

static int read_stack(const struct child *c, const struct ustack_regs *regs, char *buf, size_t size)
{
	struct ustack_cache *cache = ustack_cache_new();
	char err[96] = "";
	int r;

	assert_non_null(cache);
	r = ustack_read(cache, (uint32_t)c->pid, c->tid, regs, 32, buf, size, err, sizeof(err));
	if (r)
		print_message("%d: %s\n", r, err);
	else
		print_message("%s\n", buf);
	ustack_cache_free(cache);
	return r;
}

static void stack_by_cfi_needs_no_frame_pointer(void **state __unused)
{
	char exe[128], buf[4096];
	struct ustack_regs regs;
	struct child c;

	build("-O2 -g -fomit-frame-pointer", exe);
	c = start(exe, false);
	await_read(c.tid, &regs); /* rbp is 0: not known */
	assert_int_equal(read_stack(&c, &regs, buf, sizeof(buf)), 0);
	assert_chain(buf, chain, ARRAY_SIZE(chain));
	/* Line tables are there: lines are told, without folders. */
	assert_non_null(strstr(buf, " (prog.c:"));
	/* CFI says where it ends: nothing is made up past _start. */
	assert_non_null(strstr(buf, ";sleeper!_start+0x"));
	assert_null(strchr(strstr(buf, "!_start"), ';'));
	end(&c);
}

static void stack_by_frame_pointers_needs_no_cfi(void **state __unused)
{
	char exe[128], buf[4096];
	struct ustack_regs regs;
	struct child c;

	build("-O1 -fno-omit-frame-pointer -fno-asynchronous-unwind-tables -fno-unwind-tables",
	      exe);
	c = start(exe, false);
	registers(c.tid, &regs);
	assert_int_equal(read_stack(&c, &regs, buf, sizeof(buf)), 0);
	assert_chain(buf, chain, ARRAY_SIZE(chain));
	end(&c);
}

static void a_stripped_program_still_gives_modules_and_offsets(void **state __unused)
{
	char exe[128], buf[4096];
	struct ustack_regs regs;
	struct child c;
	int n = 0;

	build("-O2 -s -fomit-frame-pointer", exe);
	c = start(exe, false);
	await_read(c.tid, &regs);
	assert_int_equal(read_stack(&c, &regs, buf, sizeof(buf)), 0);
	for (const char *p = buf; (p = strstr(p, "sleeper+0x")); p++)
		n++;
	assert_true(n >= 4);
	end(&c);
}

static void a_deleted_program_is_still_read(void **state __unused)
{
	char exe[128], buf[4096];
	struct ustack_regs regs;
	struct child c;

	build("-O2 -fomit-frame-pointer", exe);
	c = start(exe, false);
	await_read(c.tid, &regs);
	assert_int_equal(unlink(exe), 0);
	assert_int_equal(read_stack(&c, &regs, buf, sizeof(buf)), 0);
	assert_chain(buf, chain, ARRAY_SIZE(chain));
	end(&c);
}

static void a_deleted_library_is_still_read(void **state __unused)
{
	static const char *const in_library[] = {"libdel.so!gamma_+0x", ";libdel.so!beta_+0x",
						 ";libdel.so!alpha_+0x", ";sleeper!main+0x"};
	char lib[128], exe[128], src[128], buf[4096];
	struct ustack_regs regs;
	struct child c;

	build("-O2 -fomit-frame-pointer -shared -fPIC -Dmain=lib_main", exe);
	snprintf(lib, sizeof(lib), "%s/libdel.so", dir);
	assert_int_equal(rename(exe, lib), 0);
	put("main.c",
	    "int lib_main(int, char **);\n"
	    "int main(int argc, char **argv) { int r = lib_main(argc, argv); return r + 1; }\n",
	    src);
	snprintf(buf, sizeof(buf), "%s -w -O2 -o %s %s %s", compiler(), exe, src, lib);
	assert_int_equal(system(buf), 0);
	c = start(exe, false);
	await_read(c.tid, &regs);
	assert_int_equal(unlink(lib), 0);
	assert_int_equal(read_stack(&c, &regs, buf, sizeof(buf)), 0);
	assert_chain(buf, in_library, ARRAY_SIZE(in_library));
	end(&c);
}

/* What a SIGKILL leaves of a process with one thread that hangs: the leader is dead, it is not. */
static void a_thread_outlives_its_leader(void **state __unused)
{
	static const char *const in_thread[] = {"sleeper!gamma_+0x", ";sleeper!beta_+0x",
						";sleeper!alpha_+0x", ";sleeper!thread+0x"};
	char exe[128], buf[4096], path[64];
	uint64_t deadline = now_ns() + DEADLINE_NS;
	struct ustack_regs regs;
	struct child c;

	build("-O2 -fomit-frame-pointer", exe);
	c = start(exe, true);
	/* Threads are numbered upwards; look for the one after the leader. */
	for (c.tid = 0; !c.tid && now_ns() < deadline; poll(NULL, 0, 1)) {
		FILE *f;

		snprintf(buf, sizeof(buf), "ls /proc/%d/task | grep -vx %d", c.pid, c.pid);
		f = popen(buf, "r");
		assert_non_null(f);
		if (fscanf(f, "%u", &c.tid) != 1)
			c.tid = 0;
		pclose(f);
	}
	assert_int_not_equal(c.tid, 0);
	await_read(c.tid, &regs);
	snprintf(path, sizeof(path), "/proc/%d/stat", c.pid);
	for (buf[0] = '\0'; !strstr(buf, ") Z ") && now_ns() < deadline; poll(NULL, 0, 1)) {
		FILE *f = fopen(path, "re");

		assert_non_null(f);
		assert_non_null(fgets(buf, sizeof(buf), f));
		fclose(f);
	}
	assert_non_null(strstr(buf, ") Z "));
	assert_int_equal(read_stack(&c, &regs, buf, sizeof(buf)), 0);
	assert_chain(buf, in_thread, ARRAY_SIZE(in_thread));
	end(&c);
}

static void a_dead_process_is_said_to_be_gone(void **state __unused)
{
	struct ustack_cache *cache = ustack_cache_new();
	char exe[128], buf[4096], err[96];
	struct ustack_regs regs;
	struct child c;

	build("-O2", exe);
	c = start(exe, false);
	await_read(c.tid, &regs);
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &regs, 32, buf, sizeof(buf),
				     err, sizeof(err)),
			 0);
	end(&c);
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &regs, 32, buf, sizeof(buf),
				     err, sizeof(err)),
			 -ESRCH);
	assert_string_equal(err, "the process is gone");
	assert_string_equal(buf, "");
	ustack_cache_free(cache);
}

static void garbage_registers_end_in_bounded_time(void **state __unused)
{
	struct ustack_cache *cache = ustack_cache_new();
	char exe[128], buf[4096], small[40], err[96];
	struct ustack_regs good, regs;
	uint64_t seed = 88172645463325252ull, from;
	struct child c;

	build("-O2 -fno-omit-frame-pointer", exe);
	c = start(exe, false);
	registers(c.tid, &good);
	regs = good;
	regs.r[7] = 0x10;
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &regs, 32, buf, sizeof(buf),
				     err, sizeof(err)),
			 -EFAULT);
	assert_string_equal(err, "no memory at its stack pointer 0x10");
	/* A page of a file is not read: it may be on the device that hangs. */
	regs.r[7] = good.r[16];
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &regs, 32, buf, sizeof(buf),
				     err, sizeof(err)),
			 -EFAULT);
	from = now_ns();
	for (unsigned int i = 0; i < 2000; i++) {
		regs = good;
		for (unsigned int j = 0; j < USTACK_REGS; j++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			/* Wild, or near to where something is. */
			if (j != 7 && seed % 3 == 0)
				regs.r[j] = seed;
			else if (seed % 3 == 1)
				regs.r[j] = good.r[j] + seed % 512 - 256;
		}
		/* The frame pointer into the stack, round in circles. */
		if (i % 4 == 0)
			regs.r[6] = regs.r[7] & ~7ull;
		if (ustack_read(cache, (uint32_t)c.pid, c.tid, &regs, 64, buf, sizeof(buf), err,
				sizeof(err)))
			assert_true(err[0]);
		else
			assert_true(buf[0]);
	}
	assert_true(now_ns() - from < 60 * NSEC_PER_SEC);
	/* A small buffer holds whole frames or nothing. */
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &good, 32, small, sizeof(small),
				     err, sizeof(err)),
			 0);
	assert_true(strlen(small) < sizeof(small));
	/* And the maximum is kept. */
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &good, 2, buf, sizeof(buf), err,
				     sizeof(err)),
			 0);
	assert_non_null(strchr(buf, ';'));
	assert_ptr_equal(strchr(buf, ';'), strrchr(buf, ';'));
	ustack_cache_free(cache);
	end(&c);
}

/* The same number, another program: what is cached must not be used. */
static void exec_is_noticed(void **state __unused)
{
	struct ustack_cache *cache = ustack_cache_new();
	char exe[128], other[160], buf[4096], err[96], cmd[400];
	struct ustack_regs regs;
	struct child c;
	int fd[2];

	build("-O2 -fomit-frame-pointer", exe);
	snprintf(other, sizeof(other), "%s/another", dir);
	snprintf(cmd, sizeof(cmd), "cp %s %s", exe, other);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (!c.pid) {
		char byte;

		dup2(fd[0], 0);
		(void)!read(0, &byte, 1);
		execl(other, other, NULL);
		_exit(127);
	}
	close(fd[0]);
	c.pipe = fd[1];
	c.tid = (uint32_t)c.pid;
	await_read(c.tid, &regs);
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &regs, 32, buf, sizeof(buf),
				     err, sizeof(err)),
			 0);
	assert_null(strstr(buf, "another!"));
	assert_int_equal(write(c.pipe, "x", 1), 1);
	for (uint64_t deadline = now_ns() + DEADLINE_NS; now_ns() < deadline; poll(NULL, 0, 1)) {
		char path[48];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/exe", c.pid);
		n = readlink(path, cmd, sizeof(cmd) - 1);
		cmd[MAX(n, 0)] = '\0';
		if (!strcmp(cmd, other))
			break;
	}
	await_read(c.tid, &regs);
	assert_int_equal(ustack_read(cache, (uint32_t)c.pid, c.tid, &regs, 32, buf, sizeof(buf),
				     err, sizeof(err)),
			 0);
	assert_non_null(strstr(buf, ";another!alpha_+0x"));
	ustack_cache_free(cache);
	end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(addresses_become_names, setup, teardown),
		cmocka_unit_test_setup_teardown(names_become_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_function_is_found_under_its_clone_but_never_its_cold_part, setup,
			teardown),
		cmocka_unit_test_setup_teardown(hidden_addresses_are_said_to_be_hidden, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_large_table_is_read_quickly, setup, teardown),
		cmocka_unit_test_setup_teardown(stack_by_cfi_needs_no_frame_pointer, setup,
						teardown),
		cmocka_unit_test_setup_teardown(stack_by_frame_pointers_needs_no_cfi, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_stripped_program_still_gives_modules_and_offsets,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_deleted_program_is_still_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_deleted_library_is_still_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_thread_outlives_its_leader, setup, teardown),
		cmocka_unit_test_setup_teardown(a_dead_process_is_said_to_be_gone, setup, teardown),
		cmocka_unit_test_setup_teardown(garbage_registers_end_in_bounded_time, setup,
						teardown),
		cmocka_unit_test_setup_teardown(exec_is_noticed, setup, teardown),
	};

	return cmocka_run_group_tests_name("stacks", tests, NULL, NULL);
}
