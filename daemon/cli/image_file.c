// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The local file of a bless or an export: what is read as an image, and what an image is written
 * to. One thread.
 *
 * A file that is new has no name until it is whole, so that nobody boots half an image, whatever
 * ends the program: it gets its name by linkat(). Where the file system has no unnamed files it has
 * its name at once, and loses it when the export fails.
 */
#include "cli/cli.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "lib/fsutil.h"

#define HEAD_BYTES 8

/* ---- what is blessed ---- */

/* What nobody means to be the first bytes of a disk. */
static const struct {
	const char *magic;
	uint8_t len;
	const char *what, *next;
} not_raw[] = {
	{"QFI\xfb", 4, "a qcow2 image", "give its file, or convert it: qemu-img convert -O raw"},
	{"\x1f\x8b\x08", 3, "gzip", "unpack it: gzip -dc FILE | glidefs bless - NAME"},
	{"\xfd"
	 "7zXZ",
	 5, "xz", "unpack it: xz -dc FILE | glidefs bless - NAME"},
	{"\x28\xb5\x2f\xfd", 4, "zstd", "unpack it: zstd -dc FILE | glidefs bless - NAME"},
	{"BZh", 3, "bzip2", "unpack it: bzip2 -dc FILE | glidefs bless - NAME"},
	{"KDMV", 4, "a VMDK image", "convert it: qemu-img convert -O raw"},
	{"vhdxfile", 8, "a VHDX image", "convert it: qemu-img convert -O raw"},
};

/* The first bytes, without taking them: 0 where that is not possible. */
static size_t head_peek(int fd, uint8_t head[HEAD_BYTES])
{
	ssize_t n = pread(fd, head, HEAD_BYTES, 0);
	int fds[2];

	if (n >= 0 || errno != ESPIPE || pipe2(fds, O_CLOEXEC))
		return n > 0 ? (size_t)n : 0;
	n = tee(fd, fds[1], HEAD_BYTES, 0);
	if (n > 0)
		n = read(fds[0], head, (size_t)n);
	close(fds[0]);
	close(fds[1]);
	return n > 0 ? (size_t)n : 0;
}

static int raw_check(const struct cli *c, int fd, char *err, size_t len)
{
	uint8_t head[HEAD_BYTES];
	size_t n = head_peek(fd, head);

	for (size_t i = 0; i < ARRAY_SIZE(not_raw); i++)
		if (n >= not_raw[i].len && !memcmp(head, not_raw[i].magic, not_raw[i].len)) {
			snprintf(err, len,
				 "%.200s begins like %s, no raw image: %s; --format raw takes it "
				 "as it "
				 "is",
				 c->file, not_raw[i].what, not_raw[i].next);
			return -EINVAL;
		}
	return 0;
}

int image_source_open(const struct cli *c, char *err, size_t len)
{
	bool qcow2 = c->format && !strcmp(c->format, "qcow2"), in = !strcmp(c->file, "-");
	int fd = STDIN_FILENO, r;

	if (in && qcow2) {
		snprintf(err, len,
			 "a qcow2 image cannot be read from standard input: give its file");
		return -EINVAL;
	}
	if (!in)
		fd = open(c->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		snprintf(err, len, "%.200s: %s", c->file, strerror(-r));
		return r == -EEXIST ? -EIO : r;
	}
	if (!in && !c->format)
		qcow2 = qcow2_is(fd);
	if (!qcow2) {
		r = c->format ? 0 : raw_check(c, fd, err, len);
		if (!r)
			return fd;
		if (!in)
			close(fd);
		return r;
	}
	close(fd);
	if (isatty(STDERR_FILENO) && !c->json)
		fprintf(stderr, "%s: qemu-img converts it\n", c->file);
	return qcow2_open(c->file, err, len);
}

/* ---- what is exported to ---- */

static int new_open(struct image_target *t, const char *path)
{
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s", path);
	t->fd = open(dirname(dir), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	t->unnamed = t->fd >= 0;
	if (t->fd < 0)
		t->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	t->sparse = t->made = t->fd >= 0;
	return t->fd < 0 ? -errno : 0;
}

static int old_open(struct image_target *t, const char *path, uint64_t size, char *err, size_t len)
{
	uint64_t room = 0;
	struct stat st;

	/* The kernel refuses a disk that is mounted, or in use by another such. */
	t->fd = stat(path, &st)
			? -1
			: open(path, O_RDWR | O_CLOEXEC | (S_ISBLK(st.st_mode) ? O_EXCL : 0));
	if (t->fd < 0 || fstat(t->fd, &st))
		return -errno;
	t->sparse = S_ISREG(st.st_mode);
	if (t->sparse && ftruncate(t->fd, 0))
		return -errno;
	if (S_ISBLK(st.st_mode) && ioctl(t->fd, BLKGETSIZE64, &room))
		return -errno;
	if (!S_ISBLK(st.st_mode) || room >= size)
		return 0;
	snprintf(err, len, "%.200s has %llu bytes, the image %llu: a larger one is needed", path,
		 (unsigned long long)room, (unsigned long long)size);
	return -EFBIG;
}

int image_target_open(const struct cli *c, uint64_t size, struct image_target *t, char *err,
		      size_t len)
{
	struct stat st;
	int r;

	*t = (struct image_target){.path = c->file, .fd = -1};
	err[0] = '\0';
	if (!strcmp(c->file, "-")) {
		t->fd = STDOUT_FILENO;
		return 0;
	}
	if (lstat(c->file, &st))
		r = new_open(t, c->file);
	else if (!stat(c->file, &st) && S_ISDIR(st.st_mode))
		r = -EISDIR;
	else
		r = c->force ? old_open(t, c->file, size, err, len) : -EEXIST;
	if (!r)
		return 0;
	if (!err[0])
		snprintf(err, len, "%.200s: %s%s", c->file, strerror(-r),
			 r == -EEXIST   ? "; --force writes over it"
			 : r == -EISDIR ? ": name a file in it"
			 : r == -EBUSY  ? ": a mounted disk is not written over"
					: "");
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	return r == -ENOENT ? -EIO : r;
}

/* Its name, and that for good. */
static int target_name(const struct image_target *t)
{
	char self[64], dir[PATH_MAX];
	int fd, r;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", t->fd);
	if (t->unnamed && linkat(AT_FDCWD, self, AT_FDCWD, t->path, AT_SYMLINK_FOLLOW))
		return -errno;
	snprintf(dir, sizeof(dir), "%s", t->path);
	fd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = dir_sync(fd);
	close(fd);
	return r;
}

int image_target_close(struct image_target *t, int res, char *err, size_t len)
{
	const char *left = t->made ? "is not made" : t->fd != STDOUT_FILENO ? "is not whole" : NULL;
	int r = res;

	/* What is no file or disk, a pipe say, cannot be synced, and need not be. */
	if (!r && fsync(t->fd) && errno != EINVAL && errno != EROFS)
		r = -errno;
	if (!r && t->made)
		r = target_name(t);
	if (close(t->fd) && !r)
		r = -errno;
	if (r && !res)
		snprintf(err, len, "%.200s: %s", t->path, strerror(-r));
	else if (r && left)
		snprintf(err + strlen(err), len - strlen(err), "; %.200s %s", t->path, left);
	if (r && t->made && !t->unnamed)
		unlink(t->path);
	return r == -ENOENT ? -EIO : r;
}
