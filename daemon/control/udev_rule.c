// SPDX-License-Identifier: GPL-2.0-or-later
/* Installing the udev rule; see udev_rule.h. Runs once, on the main thread. */
#include "control/udev_rule.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "lib/fsutil.h"
#include "lib/log.h"

#define RULE_NAME      "99-glidefs-ublk.rules"
#define CONTROL_SOCKET "/run/udev/control"
#define RULE_MAX       (64 * KiB)
#define RELOAD_MS      2000

/* The rule file of the source tree, with a NUL behind. */
__asm__(".pushsection .rodata\n"
	".type udev_rule_text, @object\nudev_rule_text:\n"
	".incbin \"udev/" RULE_NAME "\"\n"
	".byte 0\n"
	".size udev_rule_text, . - udev_rule_text\n.popsection\n");
extern const char udev_rule_text[] __attribute__((visibility("hidden")));

/* Where udev looks; of files of one name it takes the first. */
enum { DIR_ETC, DIR_RUN, DIR_NR = 5 };
static const char *const rule_dirs[DIR_NR] = {
	[DIR_ETC] = "/etc/udev/rules.d",
	[DIR_RUN] = "/run/udev/rules.d",
	"/usr/local/lib/udev/rules.d",
	"/usr/lib/udev/rules.d",
	"/lib/udev/rules.d",
};

/* The file udev uses: index of its directory, and its text (malloc'ed); DIR_NR if there is none. */
static unsigned int rule_in_use(char **text)
{
	char path[128];
	unsigned int i;
	size_t len;

	for (i = 0; i < DIR_NR; i++) {
		snprintf(path, sizeof(path), "%s/" RULE_NAME, rule_dirs[i]);
		if (access(path, F_OK) < 0)
			continue;
		if (file_read_all(AT_FDCWD, path, RULE_MAX, text, &len))
			*text = NULL;
		break;
	}
	return i;
}

static int rule_write(void)
{
	__cleanup_close int fd = -1;
	int r;

	if ((mkdir("/run/udev", 0755) < 0 && errno != EEXIST) ||
	    (mkdir(rule_dirs[DIR_RUN], 0755) < 0 && errno != EEXIST))
		return -errno;
	fd = open(rule_dirs[DIR_RUN], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = file_write_atomic(fd, RULE_NAME, udev_rule_text, strlen(udev_rule_text));
	if (!r && fchmodat(fd, RULE_NAME, 0644, 0) < 0)
		r = -errno;
	return r;
}

/* udevadm does not inherit what the daemon blocks. */
static int udevadm_spawn(pid_t *pid)
{
	static char name[] = "udevadm", control[] = "control", reload[] = "--reload";
	char *const argv[] = {name, control, reload, NULL};
	posix_spawnattr_t attr;
	sigset_t none;
	int r = posix_spawnattr_init(&attr);

	if (r)
		return -r;
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawnp(pid, name, NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	return -r;
}

/* A udevd that hangs must not hold up the devices that wait for this daemon. */
static int rules_reload(void)
{
	struct pollfd pfd = {.events = POLLIN};
	int status, r;
	pid_t pid;

	r = udevadm_spawn(&pid);
	if (r)
		return r;
	pfd.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	r = pfd.fd < 0 ? -errno : poll(&pfd, 1, RELOAD_MS);
	if (pfd.fd >= 0)
		close(pfd.fd);
	if (r <= 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, WNOHANG);
		return r ? r : -ETIMEDOUT;
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EREMOTEIO;
}

void udev_rule_install(void)
{
	__cleanup_free char *text = NULL;
	unsigned int dir = rule_in_use(&text);
	bool same = text && !strcmp(text, udev_rule_text);
	int r;

	if (same)
		return;
	if (dir == DIR_ETC) {
		log_info("udev: %s/" RULE_NAME " differs from this program's rule; it is left as "
			 "it is",
			 rule_dirs[DIR_ETC]);
		return;
	}
	r = rule_write();
	if (r) {
		log_warn("udev: %s/" RULE_NAME " cannot be written: %s; install the rule by hand, "
			 "or set udev.install = no",
			 rule_dirs[DIR_RUN], strerror(-r));
		return;
	}
	log_info("udev: %s/" RULE_NAME " %s", rule_dirs[DIR_RUN],
		 dir == DIR_NR ? "installed" : "installed over another version");
	if (access(CONTROL_SOCKET, F_OK) < 0) {
		log_info("udev: not running; queue settings of devices stay the kernel's");
		return;
	}
	r = rules_reload();
	if (r)
		log_warn("udev: 'udevadm control --reload' failed: %s; udev reads the rule when it "
			 "looks again, or run it by hand",
			 r == -EREMOTEIO ? "see its message" : strerror(-r));
}
