// SPDX-License-Identifier: GPL-2.0-or-later
/* Tasks, as /proc shows them: state, names, kernel stacks; see procfs.h. No state; one thread. */
#include "tracing/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tracing/guard.h"

const char *const procfs_hang_symbols[] = {
	/* freezes, and who waits in them */
	"blk_mq_freeze_queue_wait",
	"blk_queue_enter",
	"queue_attr_store",
	"elv_iosched_store",
	/* control commands of the driver */
	"ublk_ctrl_uring_cmd",
	"ublk_ctrl_start_dev",
	"ublk_ctrl_add_dev",
	"ublk_ctrl_del_dev",
	"ublk_ctrl_end_recovery",
	"ublk_stop_dev",
	/* beginning and end of a disk */
	"device_add_disk",
	"bdev_disk_changed",
	"del_gendisk",
	"bdev_release",
};
const size_t procfs_nr_hang_symbols = ARRAY_SIZE(procfs_hang_symbols);

/* Up to size - 1 bytes, NUL-terminated; the number, or -errno. */
static ssize_t read_at(int dirfd, const char *name, char *buf, size_t size)
{
	__cleanup_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	if (fd < 0)
		return -errno;
	while (n < size - 1) {
		ssize_t got = read(fd, buf + n, size - 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
	}
	buf[n] = '\0';
	return (ssize_t)n;
}

bool procfs_line(const char *path, char *buf, size_t size)
{
	if (read_at(AT_FDCWD, path, buf, size) < 0)
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

/* A process chooses its own name: nothing of it may end a line or a field of ours. */
static void printable(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = ' ';
}

/* "…\nName:\tvalue\n…": where the value begins, NULL if it is not there. */
static const char *status_field(const char *status, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = status; p && *p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
		if (!strncmp(p, name, len) && p[len] == ':')
			return p + len + 1 + strspn(p + len + 1, " \t");
	return NULL;
}

static uint64_t status_number(const char *status, const char *name, int base)
{
	const char *v = status_field(status, name);

	return v ? strtoull(v, NULL, base) : 0;
}

bool procfs_status_parse(const char *status, struct rec_task *out)
{
	const uint64_t sigkill = 1ull << (SIGKILL - 1);
	const char *v = status_field(status, "State");

	out->tid = (uint32_t)status_number(status, "Pid", 10);
	out->tgid = (uint32_t)status_number(status, "Tgid", 10);
	out->ppid = (uint32_t)status_number(status, "PPid", 10);
	out->state = (char)(v && isalpha((unsigned char)*v) ? *v : 0);
	out->killed = (status_number(status, "SigPnd", 16) | status_number(status, "ShdPnd", 16)) &
		      sigkill;
	return out->tid && out->tgid;
}

static void read_comm(int dirfd, char comm[REC_COMM_LEN])
{
	char text[REC_COMM_LEN + 1]; /* and a newline */
	ssize_t n = read_at(dirfd, "comm", text, sizeof(text));

	if (n > 0 && text[n - 1] == '\n')
		text[n - 1] = '\0';
	snprintf(comm, REC_COMM_LEN, "%.*s", REC_COMM_LEN - 1, n > 0 ? text : "");
	printable(comm);
}

static int read_status(int dirfd, struct rec_task *out)
{
	char status[8192];
	ssize_t n = read_at(dirfd, "status", status, sizeof(status));

	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;
	/* The name not from status, which escapes it. */
	read_comm(dirfd, out->comm);
	return procfs_status_parse(status, out) ? 0 : -ESRCH;
}

static void read_cmdline(uint32_t tid, char *buf, size_t size)
{
	char path[48], *data;
	size_t len, i;

	buf[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%u/cmdline", tid);
	if (guard_read(path, size - 1, GUARD_TIMEOUT_MS, &data, &len))
		return;
	while (len && !data[len - 1])
		len--;
	len = MIN(len, size - 1);
	for (i = 0; i < len; i++)
		buf[i] = data[i] ? data[i] : ' ';
	buf[i] = '\0';
	printable(buf);
	free(data);
}

/* "[<0>] symbol+0x12/0x34 [module]" lines to "symbol+0x12 [module];…"; what does not fit is cut by
 * line. */
static void stack_fold(char *text, char *out, size_t size)
{
	size_t used = 0;
	char *save = NULL;

	out[0] = '\0';
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *slash, *module;
		int n;

		if (l[0] == '[' && strchr(l, ']'))
			l = strchr(l, ']') + 1;
		l += strspn(l, " ");
		/* The outermost line of old kernels: 0xffffffffffffffff. */
		if (!*l || !strncmp(l, "0xffffffff", 10))
			continue;
		slash = strchr(l, '/');
		if (slash) {
			module = strchr(slash, ' ');
			if (module)
				memmove(slash, module, strlen(module) + 1);
			else
				*slash = '\0';
		}
		n = snprintf(out + used, size - used, "%s%s", used ? ";" : "", l);
		if (n < 0 || (size_t)n >= size - used) {
			out[used] = '\0';
			return;
		}
		used += (size_t)n;
	}
}

static int read_stack(int dirfd, char *out, size_t size)
{
	char text[8192];
	ssize_t n = read_at(dirfd, "stack", text, sizeof(text));

	out[0] = '\0';
	if (n < 0)
		return (int)n;
	stack_fold(text, out, size);
	return 0;
}

static int task_dir(uint32_t tid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%u", tid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 ? fd : errno == ENOENT ? -ESRCH : -errno;
}

void procfs_comm(uint32_t tid, char comm[REC_COMM_LEN])
{
	__cleanup_close int dir = task_dir(tid);

	comm[0] = '\0';
	if (dir >= 0)
		read_comm(dir, comm);
}

int procfs_task(uint32_t tid, struct rec_task *out)
{
	__cleanup_close int dir = task_dir(tid);
	int r;

	memset(out, 0, sizeof(*out));
	if (dir < 0)
		return dir;
	r = read_status(dir, out);
	if (r)
		return r;
	(void)!read_stack(dir, out->kstack, sizeof(out->kstack));
	read_cmdline(tid, out->cmdline, sizeof(out->cmdline));
	return 0;
}

bool procfs_stack_has(const char *kstack, const char *symbol)
{
	size_t len = strlen(symbol);

	for (const char *p = kstack; *p;) {
		if (!strncmp(p, symbol, len) && strchr("+.; ", p[len]))
			return true;
		p = strchrnul(p, ';');
		p += *p == ';';
	}
	return false;
}

static bool has_any(const char *kstack, const char *const *symbols, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (procfs_stack_has(kstack, symbols[i]))
			return true;
	return false;
}

/* State and name from "123 (comm) S …"; the name may contain anything, ')' too. */
static bool stat_parse(char *stat, const char **comm, char *state)
{
	char *open = strchr(stat, '('), *close = strrchr(stat, ')');

	if (!open || !close || close < open || close[1] != ' ')
		return false;
	*close = '\0';
	*comm = open + 1;
	*state = close[2];
	return true;
}

/* Cheap: is this thread worth reading its stack? */
static bool worth_a_look(int dir, const char *const *symbols, size_t nr)
{
	char stat[512], wchan[128];
	const char *comm;
	char state;

	if (read_at(dir, "stat", stat, sizeof(stat)) < 0 || !stat_parse(stat, &comm, &state))
		return false;
	if (state == 'D')
		return true;
	if (state != 'S')
		return false;
	if (!strncmp(comm, "iou-wrk", 7))
		return true;
	return read_at(dir, "wchan", wchan, sizeof(wchan)) > 0 && has_any(wchan, symbols, nr);
}

struct scan {
	const char *const *symbols;
	size_t nr;
	void (*fn)(void *ctx, const struct rec_task *t);
	void *ctx;
	int calls, error;
};

static void scan_thread(struct scan *s, uint32_t tid)
{
	__cleanup_close int dir = task_dir(tid);
	struct rec_task t = {0};
	int r;

	if (dir < 0 || !worth_a_look(dir, s->symbols, s->nr))
		return;
	r = read_stack(dir, t.kstack, sizeof(t.kstack));
	if (r == -EACCES || r == -EPERM)
		s->error = -EPERM;
	if (r || !has_any(t.kstack, s->symbols, s->nr) || read_status(dir, &t))
		return;
	read_cmdline(tid, t.cmdline, sizeof(t.cmdline));
	s->calls++;
	s->fn(s->ctx, &t);
}

/* A decimal name of a directory entry; 0: it is none. */
static uint32_t entry_number(const struct dirent *e)
{
	char *end;
	unsigned long v;

	if (!isdigit((unsigned char)e->d_name[0]))
		return 0;
	v = strtoul(e->d_name, &end, 10);
	return *end || v > INT32_MAX ? 0 : (uint32_t)v;
}

int procfs_threads_in(const char *const *symbols, size_t nr,
		      void (*fn)(void *ctx, const struct rec_task *t), void *ctx)
{
	struct scan s = {.symbols = symbols, .nr = nr, .fn = fn, .ctx = ctx};
	DIR *proc = opendir("/proc");
	struct dirent *e;

	if (!proc)
		return -errno;
	while ((e = readdir(proc))) {
		uint32_t pid = entry_number(e);
		char path[40];
		DIR *tasks;

		if (!pid)
			continue;
		snprintf(path, sizeof(path), "/proc/%u/task", pid);
		tasks = opendir(path);
		while (tasks && (e = readdir(tasks)))
			if (entry_number(e))
				scan_thread(&s, entry_number(e));
		if (tasks)
			closedir(tasks);
	}
	closedir(proc);
	return s.calls || !s.error ? s.calls : s.error;
}
