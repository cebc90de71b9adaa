// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which block devices are ublk devices, and what is mounted: read from sysfs and mountinfo. No
 * state; any thread. ublk disks have no major number of their own, so only sysfs tells.
 */
#include "ublk/ublk_priv.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define STACK_MAX 64 /* devices looked at below one device-mapper stack */

struct devt {
	unsigned int major, minor;
};

/* "…/block/ublkb12/ublkb12p1" or "/dev/ublkb12" -> 12. */
static bool ublk_id_in_path(const char *path, int *id)
{
	const char *p = strstr(path, "/ublkb");

	return p && sscanf(p, "/ublkb%d", id) == 1;
}

static bool sys_link_is_ublk(const struct devt *d, int *id)
{
	char path[64], target[512];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", d->major, d->minor);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return ublk_id_in_path(target, id);
}

static bool loop_on_ublk(const struct devt *d, int *id)
{
	char path[96], file[512];
	FILE *f;
	bool is = false;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/loop/backing_file", d->major, d->minor);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(file, sizeof(file), f))
		is = strncmp(file, "/dev/ublkb", 10) == 0 && ublk_id_in_path(file, id);
	fclose(f);
	return is;
}

/* Add what the device is built on to the stack. */
static void push_slaves(const struct devt *d, struct devt *stack, unsigned int *nr)
{
	char path[400];
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/slaves", d->major, d->minor);
	dir = opendir(path);
	if (!dir)
		return;
	while ((e = readdir(dir)) && *nr < STACK_MAX) {
		struct devt slave;
		FILE *f;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/slaves/%.255s/dev", d->major,
			 d->minor, e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%u:%u", &slave.major, &slave.minor) == 2)
			stack[(*nr)++] = slave;
		fclose(f);
	}
	closedir(dir);
}

bool block_is_ublk(unsigned int major, unsigned int minor, int *dev_id_out)
{
	struct devt stack[STACK_MAX];
	unsigned int nr = 0, looked = 0;
	int id;

	stack[nr++] = (struct devt){major, minor};
	while (nr && looked++ < STACK_MAX) {
		struct devt d = stack[--nr];

		if (sys_link_is_ublk(&d, &id) || loop_on_ublk(&d, &id)) {
			if (dev_id_out)
				*dev_id_out = id;
			return true;
		}
		push_slaves(&d, stack, &nr);
	}
	return false;
}

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*out++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
}

/* "36 35 98:0 /root /mnt opts [optional]... - fstype source superopts"; proc(5). */
static bool mount_line_parse(char *line, struct mount_entry *m)
{
	char *save, *field = NULL, *sep;
	int n;

	sep = strstr(line, " - ");
	if (!sep)
		return false;
	*sep = '\0';
	for (n = 0; n < 5; n++) {
		field = strtok_r(n ? NULL : line, " ", &save);
		if (!field || (n == 2 && sscanf(field, "%u:%u", &m->major, &m->minor) != 2))
			return false;
	}
	m->mount_point = field;
	field = strtok_r(sep + 3, " ", &save);
	m->source = field ? strtok_r(NULL, " ", &save) : NULL;
	if (!m->source)
		return false;
	unescape(m->mount_point);
	unescape(m->source);
	return true;
}

int mounts_for_each(const char *mountinfo, int (*fn)(const struct mount_entry *m, void *arg),
		    void *arg)
{
	FILE *f = fopen(mountinfo, "re");
	char *line = NULL;
	size_t cap = 0;
	int r = 0;

	if (!f)
		return -errno;
	while (!r && getline(&line, &cap, f) > 0) {
		struct mount_entry m;

		line[strcspn(line, "\n")] = '\0';
		if (mount_line_parse(line, &m))
			r = fn(&m, arg);
	}
	free(line);
	fclose(f);
	return r;
}
