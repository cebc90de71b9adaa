// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is a ublk device in use? The driver does not tell its open count, so every kind of user is looked
 * for where it shows. No state; any thread but a worker's (opening the device may read from it).
 */
#include "ublk/ublk_priv.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct use {
	int dev_id;
	char *why;
	size_t len;
};

static int mount_uses(const struct mount_entry *m, void *arg)
{
	struct use *u = arg;
	char source[32];
	size_t n;
	int id;

	/* btrfs and the like have no block device number: there the source tells. */
	n = (size_t)snprintf(source, sizeof(source), "/dev/ublkb%d", u->dev_id);
	if (!(block_is_ublk(m->major, m->minor, &id) && id == u->dev_id) &&
	    !(strncmp(m->source, source, n) == 0 && (!m->source[n] || m->source[n] == 'p')))
		return 0;
	snprintf(u->why, u->len, "mounted on %s", m->mount_point);
	return 1;
}

static bool mounted(struct use *u)
{
	/* Ours is private: what is mounted since we started shows in the first process's only. */
	return mounts_for_each("/proc/1/mountinfo", mount_uses, u) == 1 ||
	       mounts_for_each("/proc/self/mountinfo", mount_uses, u) == 1;
}

/* One entry of DIR/holders, if there is any. */
static bool holder_in(const char *dir, struct use *u)
{
	char path[320];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "%s/holders", dir);
	d = opendir(path);
	if (!d)
		return false;
	while (!found && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(u->why, u->len, "held by %.64s", e->d_name);
		found = true;
	}
	closedir(d);
	return found;
}

static bool held(struct use *u)
{
	char disk[64], part[320], prefix[24];
	struct dirent *e;
	bool found;
	DIR *d;

	snprintf(disk, sizeof(disk), "/sys/block/ublkb%d", u->dev_id);
	found = holder_in(disk, u);
	d = opendir(disk);
	if (!d)
		return found;
	snprintf(prefix, sizeof(prefix), "ublkb%dp", u->dev_id);
	while (!found && (e = readdir(d))) {
		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
			continue;
		snprintf(part, sizeof(part), "%s/%.240s", disk, e->d_name);
		found = holder_in(part, u);
	}
	closedir(d);
	return found;
}

static bool swapped_on(struct use *u)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[512];
	bool found = false;

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		int id;

		found = sscanf(line, "/dev/ublkb%d", &id) == 1 && id == u->dev_id;
	}
	fclose(f);
	if (found)
		snprintf(u->why, u->len, "used as swap");
	return found;
}

/* Does this process have the device, or a partition of it, open? */
static bool process_opens(const char *pid, struct use *u)
{
	char path[64], target[64];
	struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	d = opendir(path);
	if (!d)
		return false;
	while (!found && (e = readdir(d))) {
		struct stat st;
		ssize_t n;
		int id;

		n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
		/* Only what looks like a device: a stat elsewhere may hang on a file system. */
		if (n < 5 || strncmp(target, "/dev/", 5) != 0 ||
		    fstatat(dirfd(d), e->d_name, &st, 0) < 0 || !S_ISBLK(st.st_mode))
			continue;
		found = block_is_ublk(major(st.st_rdev), minor(st.st_rdev), &id) && id == u->dev_id;
	}
	closedir(d);
	if (found)
		snprintf(u->why, u->len, "open in process %s", pid);
	return found;
}

static bool opened(struct use *u)
{
	struct dirent *e;
	bool found = false;
	DIR *d = opendir("/proc");

	if (!d)
		return false;
	while (!found && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			found = process_opens(e->d_name, u);
	closedir(d);
	return found;
}

/* Loop devices open without showing as holder or process. */
static bool looped(struct use *u)
{
	struct dirent *e;
	bool found = false;
	DIR *d = opendir("/sys/block");

	if (!d)
		return false;
	while (!found && (e = readdir(d))) {
		char path[320], file[64];
		FILE *f;
		int id;

		if (strncmp(e->d_name, "loop", 4) != 0)
			continue;
		snprintf(path, sizeof(path), "/sys/block/%.200s/loop/backing_file", e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		found = fgets(file, sizeof(file), f) && sscanf(file, "/dev/ublkb%d", &id) == 1 &&
			id == u->dev_id;
		fclose(f);
		if (found)
			snprintf(u->why, u->len, "held by %.64s", e->d_name);
	}
	closedir(d);
	return found;
}

/* Whoever holds it exclusively, in whatever namespace. */
static bool claimed(struct use *u)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/ublkb%d", u->dev_id);
	fd = open(path, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		return false;
	}
	if (errno != EBUSY)
		return false;
	snprintf(u->why, u->len, "held exclusively by somebody");
	return true;
}

bool ublk_dev_in_use(int dev_id, char *why, size_t len)
{
	/* From the most telling answer to the least; the open comes last, for it may do I/O. */
	static bool (*const checks[])(struct use * u) = {
		mounted, held, swapped_on, looped, opened, claimed,
	};
	struct use u = {.dev_id = dev_id, .why = why, .len = len};

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		if (checks[i](&u))
			return true;
	return false;
}
