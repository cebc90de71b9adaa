// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Who holds a ublk device; see procfs_openers(). The driver does not tell, so every kind of holder
 * is looked for where it shows. Devices are told by number, which holds in any mount namespace;
 * only links that look like such a node are followed, and only by stat: the node is never opened.
 */
#include "tracing/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tracing/blockdev.h"
#include "tracing/guard.h"

#define MAPS_MAX  (4 * MiB)
#define NODES_MAX 65536

/* A device number of a ublk device: its char device, its disk, or a partition of it. */
struct node {
	dev_t rdev;
	int32_t dev;
	bool cdev;
};

struct search {
	void (*fn)(void *ctx, const struct rec_opener *o);
	void *ctx;
	int calls;
	int32_t dev;
	struct node *node;
	size_t nr, cap;
	ino_t host_ns; /* mounts that everybody sees are in this one */
	ino_t *ns;     /* mount namespaces that were looked at */
	size_t nr_ns, cap_ns;
	/* The process looked at: */
	uint32_t tgid;
	uint32_t tid; /* of it, that still has files */
	char comm[REC_COMM_LEN];
	bool everybody; /* its mounts are the host's */
};

static const char *sysfs = "/sys";

void procfs_set_sysfs(const char *path)
{
	sysfs = path ? path : "/sys";
}

const char *procfs_sysfs(void)
{
	return sysfs;
}

static void found(struct search *s, int32_t dev, bool cdev, uint32_t tgid, const char *fmt, ...)
	__printf(5, 6);
static void found(struct search *s, int32_t dev, bool cdev, uint32_t tgid, const char *fmt, ...)
{
	struct rec_opener o = {.dev = dev, .cdev = cdev, .tgid = tgid};
	va_list ap;

	if (tgid)
		memcpy(o.comm, s->comm, sizeof(o.comm));
	va_start(ap, fmt);
	vsnprintf(o.what, sizeof(o.what), fmt, ap);
	va_end(ap);
	s->calls++;
	s->fn(s->ctx, &o);
}

/* "ublkb12" after the prefix "ublkb": 12, *rest what follows; -1: not so. */
static int32_t name_id(const char *name, const char *prefix, const char **rest)
{
	size_t n = strlen(prefix);
	unsigned long id;
	char *end;

	if (strncmp(name, prefix, n) || !isdigit((unsigned char)name[n]))
		return -1;
	id = strtoul(name + n, &end, 10);
	if (rest)
		*rest = end;
	else if (*end)
		return -1;
	return id > INT32_MAX ? -1 : (int32_t)id;
}

static int add_number(struct search *s, dev_t rdev, int32_t dev, bool cdev)
{
	if (s->nr >= NODES_MAX)
		return 0;
	if (s->nr == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 32;
		struct node *more = realloc(s->node, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->node = more;
		s->cap = cap;
	}
	s->node[s->nr++] = (struct node){.rdev = rdev, .dev = dev, .cdev = cdev};
	return 0;
}

static int add_node(struct search *s, const char *dir, int32_t dev, bool cdev)
{
	char path[512], line[32];
	unsigned int maj, min;

	snprintf(path, sizeof(path), "%s/dev", dir);
	if (!procfs_line(path, line, sizeof(line)) || sscanf(line, "%u:%u", &maj, &min) != 2)
		return 0;
	return add_number(s, makedev(maj, min), dev, cdev);
}

/* DEL_DEV takes the char device out of sysfs first, and then waits for who holds it. Its minor is
 * its id. */
static int add_deleted_cdev(struct search *s)
{
	char line[64], name[32];
	unsigned int maj;
	int r = 0;
	FILE *f;

	for (size_t i = 0; i < s->nr; i++)
		if (s->node[i].cdev)
			return 0;
	f = fopen("/proc/devices", "re");
	while (f && !r && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "Block", 5))
			break;
		if (sscanf(line, "%u %31s", &maj, name) == 2 && !strcmp(name, "ublk-char"))
			r = add_number(s, makedev(maj, (unsigned int)s->dev), s->dev, true);
	}
	if (f)
		fclose(f);
	return r;
}

/* What other block devices (dm, md, …) built on the disk or partition. */
static void find_holders(struct search *s, const char *dir, int32_t dev)
{
	char path[512];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/holders", dir);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			found(s, dev, false, 0, "held by %.48s", e->d_name);
	if (d)
		closedir(d);
}

static int add_disk(struct search *s, const char *name, int32_t dev)
{
	char disk[320], part[400], prefix[24];
	struct dirent *e;
	DIR *d;
	int r;

	snprintf(disk, sizeof(disk), "%.256s/block/%.32s", sysfs, name);
	snprintf(prefix, sizeof(prefix), "%.16sp", name);
	r = add_node(s, disk, dev, false);
	find_holders(s, disk, dev);
	d = opendir(disk);
	while (!r && d && (e = readdir(d))) {
		if (name_id(e->d_name, prefix, NULL) < 0)
			continue;
		snprintf(part, sizeof(part), "%s/%.48s", disk, e->d_name);
		r = add_node(s, part, dev, false);
		find_holders(s, part, dev);
	}
	if (d)
		closedir(d);
	return r;
}

static int add_nodes(struct search *s, const char *class, const char *prefix, bool cdev)
{
	char path[400];
	struct dirent *e;
	DIR *d;
	int r = 0;

	snprintf(path, sizeof(path), "%.256s/%s", sysfs, class);
	d = opendir(path);
	while (!r && d && (e = readdir(d))) {
		int32_t dev = name_id(e->d_name, prefix, NULL);

		if (dev < 0 || (s->dev >= 0 && dev != s->dev))
			continue;
		if (!cdev) {
			r = add_disk(s, e->d_name, dev);
			continue;
		}
		snprintf(path, sizeof(path), "%.256s/%s/%.32s", sysfs, class, e->d_name);
		r = add_node(s, path, dev, true);
	}
	if (d)
		closedir(d);
	return r;
}

static const struct node *node_of(const struct search *s, const struct stat *st)
{
	for (size_t i = 0; i < s->nr; i++)
		if (s->node[i].rdev == st->st_rdev &&
		    (s->node[i].cdev ? S_ISCHR(st->st_mode) : S_ISBLK(st->st_mode)))
			return &s->node[i];
	return NULL;
}

/* Is it the name of a char device we look for? Where only names are to be had. */
static int32_t cdev_named(const struct search *s, const char *path)
{
	const char *base = strrchr(path, '/');
	const char *rest = "";
	int32_t dev = name_id(base ? base + 1 : path, "ublkc", &rest);

	if (*rest && strcmp(rest, " (deleted)"))
		return -1;
	for (size_t i = 0; dev >= 0 && i < s->nr; i++)
		if (s->node[i].cdev && s->node[i].dev == dev)
			return dev;
	return -1;
}

/* Registered files of an io_uring, "    0: /dev/ublkc3": held after the descriptor was closed. */
static void look_at_ring(struct search *s, const char *fd)
{
	char path[64], *data, *save = NULL;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%u/fdinfo/%.12s", s->tid, fd);
	if (guard_read(path, MAPS_MAX, GUARD_TIMEOUT_MS, &data, &len))
		return;
	for (char *l = strtok_r(data, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *colon = strstr(l, ": ");
		int32_t dev;

		if (!isdigit((unsigned char)l[strspn(l, " ")]) || !colon)
			continue;
		dev = cdev_named(s, colon + 2 + strspn(colon + 2, " "));
		if (dev >= 0)
			found(s, dev, true, s->tgid, "registered with io_uring fd %.12s", fd);
	}
	free(data);
}

static void look_at_fd(struct search *s, int dir, const char *fd)
{
	const struct node *n;
	char target[256];
	struct stat st;
	ssize_t len = readlinkat(dir, fd, target, sizeof(target) - 1);

	if (len < 0)
		return;
	target[len] = '\0';
	if (!strcmp(target, "anon_inode:[io_uring]")) {
		look_at_ring(s, fd);
		return;
	}
	/* A stat elsewhere may hang on a file system. */
	if (strncmp(target, "/dev/", 5) && !strstr(target, "/ublk"))
		return;
	if (fstatat(dir, fd, &st, 0) < 0)
		return;
	n = node_of(s, &st);
	if (n)
		found(s, n->dev, n->cdev, s->tgid, "fd %.12s", fd);
}

static void look_at_fds(struct search *s)
{
	char path[40];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%u/fd", s->tid);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (isdigit((unsigned char)e->d_name[0]))
			look_at_fd(s, dirfd(d), e->d_name);
	if (d)
		closedir(d);
}

/* Lines of maps end with the path; one record per device is enough. */
static void look_at_maps(struct search *s)
{
	char path[40], *data, *save = NULL;
	int32_t last = -1;
	size_t len;
	int r;

	snprintf(path, sizeof(path), "/proc/%u/maps", s->tid);
	r = guard_read(path, MAPS_MAX, GUARD_TIMEOUT_MS, &data, &len);
	if (r)
		return;
	for (char *l = strtok_r(data, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		char *slash = strchr(l, '/');
		int32_t dev = slash ? cdev_named(s, slash) : -1;

		if (dev >= 0 && dev != last)
			found(s, dev, true, s->tgid, "mapped");
		if (dev >= 0)
			last = dev;
	}
	free(data);
}

static void look_at_mount(void *ctx, const struct blockdev_mount *m)
{
	struct search *s = ctx;
	const char *rest;
	int32_t dev = -1;
	int below;

	for (size_t i = 0; i < s->nr && dev < 0; i++)
		if (!s->node[i].cdev && s->node[i].rdev == makedev(m->major, m->minor))
			dev = s->node[i].dev;
	/* btrfs and the like have no block device number: there the source tells. */
	if (dev < 0 && !strncmp(m->source, "/dev/", 5))
		dev = name_id(m->source + 5, "ublkb", &rest);
	if (dev < 0 && m->major && blockdev_is_ublk(m->major, m->minor, &below))
		dev = below;
	if (dev < 0 || (s->dev >= 0 && dev != s->dev))
		return;
	found(s, dev, false, s->everybody ? 0 : s->tgid, "mounted on %.48s", m->mount_point);
}

/* Each mount namespace once, by the first process that is in it. */
static int look_at_mounts(struct search *s)
{
	char path[48];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%u/ns/mnt", s->tid);
	if (stat(path, &st) < 0)
		return 0;
	for (size_t i = 0; i < s->nr_ns; i++)
		if (s->ns[i] == st.st_ino)
			return 0;
	if (s->nr_ns == s->cap_ns) {
		size_t cap = s->cap_ns ? s->cap_ns * 2 : 16;
		ino_t *more = realloc(s->ns, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->ns = more;
		s->cap_ns = cap;
	}
	s->ns[s->nr_ns++] = st.st_ino;
	s->everybody = st.st_ino == s->host_ns;
	snprintf(path, sizeof(path), "/proc/%u/mountinfo", s->tid);
	(void)!blockdev_mounts(path, look_at_mount, s);
	return 0;
}

/* State of a thread; 0: gone, or a thread of the kernel, which has no files. */
static char thread_state(uint32_t tid)
{
	const unsigned int pf_kthread = 0x00200000;
	char path[40], stat[256], state;
	unsigned int flags;
	const char *p;

	snprintf(path, sizeof(path), "/proc/%u/stat", tid);
	p = procfs_line(path, stat, sizeof(stat)) ? strrchr(stat, ')') : NULL;
	/* state ppid pgrp session tty tpgid flags */
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return 0;
	return flags & pf_kthread ? 0 : state;
}

/*
 * A thread that still has the process's files. Of a killed process the leader may be dead while a
 * thread that hangs in the kernel keeps everything: that one is who holds the device. 0: none.
 */
static uint32_t living_thread(uint32_t tgid)
{
	char path[40], state = thread_state(tgid);
	uint32_t tid = 0;
	struct dirent *e;
	DIR *d;

	if (state != 'Z' && state != 'X')
		return state ? tgid : 0;
	snprintf(path, sizeof(path), "/proc/%u/task", tgid);
	d = opendir(path);
	while (!tid && d && (e = readdir(d))) {
		uint32_t t = (uint32_t)strtoul(e->d_name, NULL, 10);

		state = t ? thread_state(t) : 0;
		if (state && state != 'Z' && state != 'X')
			tid = t;
	}
	if (d)
		closedir(d);
	return tid;
}

static int look_at_process(struct search *s, uint32_t tgid)
{
	s->tgid = tgid;
	s->tid = living_thread(tgid);
	if (!s->tid)
		return 0;
	procfs_comm(tgid, s->comm);
	look_at_fds(s);
	look_at_maps(s);
	return look_at_mounts(s);
}

static int look_at_processes(struct search *s)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	struct stat st;
	int r = 0;

	if (!d)
		return -errno;
	/* The first process's may be out of reach; then ours is taken for it. */
	if (!stat("/proc/1/ns/mnt", &st) || !stat("/proc/self/ns/mnt", &st))
		s->host_ns = st.st_ino;
	while (!r && (e = readdir(d))) {
		char *end;
		unsigned long pid = strtoul(e->d_name, &end, 10);

		if (isdigit((unsigned char)e->d_name[0]) && !*end && pid && pid <= INT32_MAX)
			r = look_at_process(s, (uint32_t)pid);
	}
	closedir(d);
	return r;
}

static void look_at_swaps(struct search *s)
{
	FILE *f = fopen("/proc/swaps", "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		const char *rest;
		int32_t dev = strncmp(line, "/dev/", 5) ? -1 : name_id(line + 5, "ublkb", &rest);

		if (dev >= 0 && (s->dev < 0 || dev == s->dev))
			found(s, dev, false, 0, "used as swap");
	}
	if (f)
		fclose(f);
}

int procfs_openers(int32_t dev, void (*fn)(void *ctx, const struct rec_opener *o), void *ctx)
{
	struct search s = {.fn = fn, .ctx = ctx, .dev = dev};
	int r = add_nodes(&s, "class/ublk-char", "ublkc", true);

	if (!r)
		r = add_nodes(&s, "block", "ublkb", false);
	if (!r && dev >= 0)
		r = add_deleted_cdev(&s);
	/* Without a device there is nothing to hold, and the rest costs. */
	if (!r && s.nr) {
		look_at_swaps(&s);
		r = look_at_processes(&s);
	}
	free(s.node);
	free(s.ns);
	return r ? r : s.calls;
}
