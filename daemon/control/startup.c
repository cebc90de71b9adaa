// SPDX-License-Identifier: GPL-2.0-or-later
/* Locks, limits and the service manager's protocol; see startup.h. */
#include "control/startup.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/fsutil.h"
#include "lib/log.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
#define LOCK_POLL_NS  (2 * NSEC_PER_MSEC)
#define NOFILE_WANTED (1u << 20)

/* ---- the lock ---- */

/* The pid in the file: the holder, or the predecessor whose writes are still in flight. */
static pid_t lock_holder(int fd)
{
	char buf[32] = "";

	if (pread(fd, buf, sizeof(buf) - 1, 0) <= 0)
		return 0;
	return (pid_t)strtol(buf, NULL, 10);
}

static bool process_alive(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	return pid > 0 && access(path, F_OK) == 0;
}

static int lock_wait(int fd, const char *path, unsigned int wait_s)
{
	uint64_t start = now_ns(), told = start;
	const struct timespec pause = {.tv_nsec = LOCK_POLL_NS};

	/* flock() cannot wait with a deadline, and a timer signal would need a handler: it is
	 * polled. */
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		uint64_t now = now_ns();

		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (now - start >= wait_s * NSEC_PER_SEC)
			return -EWOULDBLOCK;
		if (now - told >= NSEC_PER_SEC) {
			pid_t pid = lock_holder(fd);

			log_warn("%s: waiting for process %d (%s)", path, pid,
				 process_alive(pid) ? "running"
						    : "gone; its last writes are still in flight");
			told = now + 4 * NSEC_PER_SEC;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

int state_lock(const char *dir, unsigned int wait_s, struct fmt_err *err)
{
	char path[1100], pid[32];
	int fd, r = mkdir_all(dir);

	if (r) {
		snprintf(err->msg, sizeof(err->msg), "%.100s: %s", dir, strerror(-r));
		return r;
	}
	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		r = -errno;
		snprintf(err->msg, sizeof(err->msg), "%.100s: %s", path, strerror(-r));
		return r;
	}
	r = lock_wait(fd, path, wait_s);
	if (r) {
		pid_t holder = lock_holder(fd);

		if (r == -EWOULDBLOCK)
			snprintf(err->msg, sizeof(err->msg),
				 "%.80s is held by process %d (%s) after %u s: two daemons cannot "
				 "share it",
				 path, holder,
				 process_alive(holder) ? "running" : "gone, its last writes hang",
				 wait_s);
		else
			snprintf(err->msg, sizeof(err->msg), "%.100s: %s", path, strerror(-r));
		close(fd);
		return r;
	}
	snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, strlen(pid), 0) < 0)
		log_warn("%s: cannot note our pid: %s", path, strerror(errno));
	return fd;
}

/* ---- limits ---- */

static void limit_raise(int what, const char *name, rlim_t want)
{
	struct rlimit rl;

	if (getrlimit(what, &rl) < 0)
		return;
	if (rl.rlim_cur != RLIM_INFINITY && rl.rlim_cur < want) {
		struct rlimit ask = {.rlim_cur = want, .rlim_max = MAX(rl.rlim_max, want)};

		if (setrlimit(what, &ask) == 0)
			return;
		ask = (struct rlimit){.rlim_cur = rl.rlim_max, .rlim_max = rl.rlim_max};
		(void)!setrlimit(what, &ask);
		if (rl.rlim_max != RLIM_INFINITY && rl.rlim_max < want)
			log_warn("%s is %llu: it may be too low for many devices", name,
				 (unsigned long long)rl.rlim_max);
	}
}

void limits_raise(void)
{
	limit_raise(RLIMIT_NOFILE, "RLIMIT_NOFILE", NOFILE_WANTED);
	limit_raise(RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", RLIM_INFINITY);
}

void reclaim_protect(void)
{
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_warn("PR_SET_IO_FLUSHER: %s: under memory pressure the kernel may wait for the "
			 "devices "
			 "this daemon serves",
			 strerror(errno));
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		log_warn("mlockall: %s: the daemon may be swapped out, to a device it serves",
			 strerror(errno));
}

/* ---- the service manager ---- */

void service_notify(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	char msg[512];
	size_t len = path ? strlen(path) : 0;
	va_list ap;
	int fd;

	if (!len || len >= sizeof(sa.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	memcpy(sa.sun_path, path, len);
	if (path[0] == '@')
		sa.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, msg, strlen(msg), MSG_NOSIGNAL, (struct sockaddr *)&sa,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
		log_warn("service manager: %s", strerror(errno));
	close(fd);
}
