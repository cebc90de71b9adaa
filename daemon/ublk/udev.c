// SPDX-License-Identifier: GPL-2.0-or-later
/* Marks for udev's rule, and its answer; see udev.h. No state: any number of threads. */
#include "ublk/udev.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "lib/fsutil.h"

#define CONTROL_SOCKET "/run/udev/control"
#define DATABASE       "/run/udev/data"
#define ENTRY_MAX      (64 * KiB)
#define POLL_NS        (2 * NSEC_PER_MSEC)

int udev_marks_open(void)
{
	int r = mkdir_all(UDEV_MARK_DIR);
	struct dirent *de;
	struct stat st;
	DIR *d;

	if (r)
		return r;
	d = opendir(UDEV_MARK_DIR);
	if (!d)
		return -errno;
	while ((de = readdir(d)))
		if (de->d_name[0] != '.' && fstatat(dirfd(d), de->d_name, &st, 0) < 0)
			unlinkat(dirfd(d), de->d_name, 0);
	closedir(d);
	return 0;
}

int udev_mark(int dev_id, int fd)
{
	char path[64], tmp[72], target[64];

	snprintf(path, sizeof(path), UDEV_MARK_DIR "/ublkb%d", dev_id);
	snprintf(tmp, sizeof(tmp), UDEV_MARK_DIR "/.ublkb%d", dev_id);
	snprintf(target, sizeof(target), "/proc/%d/fd/%d", getpid(), fd);
	unlink(tmp);
	if (symlink(target, tmp) < 0 || rename(tmp, path) < 0)
		return -errno;
	return 0;
}

void udev_unmark(int dev_id)
{
	char path[64];

	snprintf(path, sizeof(path), UDEV_MARK_DIR "/ublkb%d", dev_id);
	unlink(path);
}

bool udev_entry_done(const char *entry, uint64_t since_ns)
{
	bool ran = false, fresh = false;

	for (const char *line = entry; *line;) {
		size_t n = strcspn(line, "\n");

		/* An entry of an earlier device with this number may still be there. */
		if (!strncmp(line, "I:", 2))
			fresh = strtoull(line + 2, NULL, 10) >= since_ns / NSEC_PER_USEC;
		else if (n == 16 && !strncmp(line, "E:GLIDEFS_UDEV=1", n))
			ran = true;
		line += n + (line[n] == '\n');
	}
	return ran && fresh;
}

static bool entry_done(const char *path, uint64_t since_ns)
{
	__cleanup_free char *text = NULL;
	size_t len;

	return !file_read_all(AT_FDCWD, path, ENTRY_MAX, &text, &len) &&
	       udev_entry_done(text, since_ns);
}

int udev_wait(int dev_id, uint64_t since_ns, uint64_t deadline_ns)
{
	const struct timespec pause = {.tv_nsec = POLL_NS};
	char node[32], path[64] = "";
	struct stat st;

	snprintf(node, sizeof(node), "/dev/ublkb%d", dev_id);
	if (access(CONTROL_SOCKET, F_OK) < 0)
		return -ENOENT;
	for (;;) {
		/* The number, from the node: devtmpfs has it before udev hears of the device. */
		if (!path[0] && !stat(node, &st) && S_ISBLK(st.st_mode))
			snprintf(path, sizeof(path), DATABASE "/b%u:%u", major(st.st_rdev),
				 minor(st.st_rdev));
		if (path[0] && entry_done(path, since_ns))
			return 0;
		if (now_ns() >= deadline_ns)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
}
