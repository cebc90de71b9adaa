// SPDX-License-Identifier: GPL-2.0-or-later
/* What an image is read from; see bless_priv.h. Reading a file is for any thread, the rest for one.
 */
#include "engine/bless_priv.h"
#include "engine/wire.h"
#include "lib/fsutil.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

int source_open(struct bless_source *s, int fd, struct fmt_err *err)
{
	struct stat st;

	*s = (struct bless_source){.fd = fd};
	if (fstat(fd, &st))
		return fmt_fail(err, -errno, "the image: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return fmt_fail(err, -EINVAL, "the image is a directory");
	if (S_ISREG(st.st_mode))
		s->size = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		s->stream = true;
	else if (ioctl(fd, BLKGETSIZE64, &s->size))
		return fmt_fail(err, -errno, "the image's size: %s", strerror(errno));
	if (!s->stream && !s->size)
		return fmt_fail(err, -EINVAL, "the image is empty");
	if (s->size > VOLUME_BYTES_MAX)
		return fmt_fail(err, -EFBIG, "the image has %llu bytes, a volume at most %llu",
				(unsigned long long)s->size, VOLUME_BYTES_MAX);
	if (!s->stream)
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	return 0;
}

bool source_next(struct bless_source *s, uint64_t from, uint64_t step, uint64_t *at)
{
	off_t data, hole;

	if (from >= s->size)
		return false;
	*at = from;
	/* A step that begins in data or whose end reaches into it: neither needs another look. */
	if (s->no_holes || (from + step > s->data_from && from < s->data_end))
		return true;
	data = lseek(s->fd, (off_t)from, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return false;
	hole = data < 0 ? -1 : lseek(s->fd, data, SEEK_HOLE);
	if (hole < 0) {
		s->no_holes = true;
		return true;
	}
	s->data_from = (uint64_t)data;
	s->data_end = (uint64_t)hole;
	*at = ROUND_DOWN((uint64_t)data, step);
	return *at < s->size;
}

int source_read(const struct bless_source *s, void *buf, size_t len, uint64_t off)
{
	return pread_full(s->fd, buf, len, off);
}

ssize_t source_stream(const struct bless_source *s, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(s->fd, (char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}
