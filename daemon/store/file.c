// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * file://DIR: a store in a directory. Keys are files below DIR, '/' separates directories. Any
 * number of processes may use one DIR at the same time.
 *
 * Owns DIR/.tmp (bodies being written) and DIR/.locks/keys. Operations run on two small pools, so
 * that guests' reads never queue behind uploads; nothing runs on the submitter's thread.
 *
 * A PUT writes and syncs a file in .tmp, then publishes it with link(2) or rename(2): a reader,
 * another process or a crash sees the whole object or none. Whatever changes a key holds that key's
 * lock, a byte of .locks/keys (an OFD lock: it works between threads and processes, and dies with
 * its holder), from the test of the condition to the change. Success is reported only after every
 * directory on the way to DIR is synced: a directory that is found rather than made here may still
 * be its maker's to sync.
 *
 * ETag = inode, size and mtime of the file. Objects are never changed in place, so this names one
 * PUT, not merely one content; a ranged GET costs no read of the whole object, as recomputing a
 * content hash would, and no extended attributes are needed, which tmpfs and copies do not keep. So
 * that neither a reused inode nor a coarse clock can make a later PUT look like an earlier one
 * (ABA), each PUT sets the nanoseconds of mtime to a random number; the seconds stay the file
 * system's own, which GC needs.
 */
#include "store/store_priv.h"
#include "store/file_priv.h"
#include "lib/fsutil.h"
#include "lib/hash.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define URGENT_THREADS 5
#define BULK_THREADS   3
#define STALE_TMP_S    3600
#define IO_STEP        (8 * MiB) /* between two looks at the deadline */
/* Another process may remove an empty directory as often as we make it; it cannot do so for ever.
 */
#define PUBLISH_TRIES 64

struct file_store {
	struct store s;
	int dirfd;
	struct pool *urgent, *bulk;
};

static int deadline_check(const struct store_op *op)
{
	return now_ns() >= store_op_deadline(op) ? -ETIMEDOUT : 0;
}

static void etag_format(const struct stat *st, char etag[STORE_ETAG_MAX])
{
	snprintf(etag, STORE_ETAG_MAX, "%llx-%llx-%llx-%lx", (unsigned long long)st->st_ino,
		 (unsigned long long)st->st_size, (unsigned long long)st->st_mtim.tv_sec,
		 (unsigned long)st->st_mtim.tv_nsec);
}

/* A key whose path leads through a file, or to something that is no regular file, is absent. */
static int absent_errno(int err)
{
	return err == ENOTDIR || err == ELOOP ? -ENOENT : -err;
}

static int key_stat(int dirfd, const char *key, struct stat *st)
{
	if (fstatat(dirfd, key, st, AT_SYMLINK_NOFOLLOW) < 0)
		return absent_errno(errno);
	return S_ISREG(st->st_mode) ? 0 : -ENOENT;
}

static void result_from_stat(struct store_op *op, const struct stat *st)
{
	op->object_size = (uint64_t)st->st_size;
	op->mtime_s = (uint64_t)st->st_mtim.tv_sec;
	etag_format(st, op->etag);
}

/* Fails at the deadline although the lock's holder may be stopped for ever, hence no F_OFD_SETLKW.
 */
static int key_lock(int dirfd, const struct store_op *op, int *fd_out)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	struct timespec pause = {.tv_nsec = (long)(100 * NSEC_PER_USEC)};
	int fd = openat(dirfd, ".locks/keys", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	fl.l_start = (off_t)(hash_xxh3(op->key, strlen(op->key)) & 0xffffff);
	while (fcntl(fd, F_OFD_SETLK, &fl) < 0) {
		r = errno == EAGAIN || errno == EACCES || errno == EINTR ? deadline_check(op)
									 : -errno;
		if (r) {
			close(fd);
			return r;
		}
		nanosleep(&pause, NULL);
		pause.tv_nsec = MIN(pause.tv_nsec * 2, (long)(5 * NSEC_PER_MSEC));
	}
	*fd_out = fd;
	return 0;
}

/* Make the directories above key. One may vanish again at once (ENOENT): publish() comes back then.
 */
static int parents_make(int dirfd, const char *key)
{
	char path[STORE_KEY_MAX];

	for (const char *p = strchr(key, '/'); p; p = strchr(p + 1, '/')) {
		snprintf(path, sizeof(path), "%.*s", (int)(p - key), key);
		if (mkdirat(dirfd, path, 0700) < 0 && errno != EEXIST)
			return errno == ENOENT ? 0 : -errno;
	}
	return 0;
}

/* Sync every directory above key, up to DIR. One that is gone held nothing of ours any more. */
static int parents_sync(int dirfd, const char *key)
{
	char path[STORE_KEY_MAX];
	char *p;

	snprintf(path, sizeof(path), "%s", key);
	while ((p = strrchr(path, '/'))) {
		__cleanup_close int fd = -1;
		int r;

		*p = '\0';
		fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno != ENOENT)
			return -errno;
		r = fd < 0 ? 0 : dir_sync(fd);
		if (r)
			return r;
	}
	return dir_sync(dirfd);
}

/* Remove the directories above key that are empty. A concurrent PUT makes them again. */
static void parents_prune(int dirfd, const char *key)
{
	char path[STORE_KEY_MAX];
	char *p;

	snprintf(path, sizeof(path), "%s", key);
	while ((p = strrchr(path, '/'))) {
		*p = '\0';
		if (unlinkat(dirfd, path, AT_REMOVEDIR) < 0)
			return;
	}
}

static int op_head(struct file_store *fs, struct store_op *op)
{
	struct stat st;
	int r = key_stat(fs->dirfd, op->key, &st);

	if (!r)
		result_from_stat(op, &st);
	return r;
}

static int read_steps(int fd, const struct store_op *op, char *buf, uint64_t n)
{
	for (uint64_t pos = 0, step; pos < n; pos += step) {
		int r = deadline_check(op);

		step = MIN(n - pos, IO_STEP);
		if (!r)
			r = pread_full(fd, buf + pos, step, op->off + pos);
		if (r)
			return r;
	}
	return 0;
}

static int op_get(struct file_store *fs, struct store_op *op)
{
	/* O_NONBLOCK: a fifo somebody left here must not hold the thread. */
	__cleanup_close int fd =
		openat(fs->dirfd, op->key, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool ranged = op->off || op->len;
	struct stat st;
	char *buf = op->buf;
	uint64_t n;
	int r;

	if (fd < 0)
		return absent_errno(errno);
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	result_from_stat(op, &st);
	if (ranged && op->off >= op->object_size)
		return -ERANGE;
	n = op->object_size - op->off;
	if (op->len)
		n = MIN(n, op->len);
	if (buf && n > op->buf_size)
		return -EINVAL;
	if (n > SIZE_MAX / 2)
		return -EFBIG;
	if (!buf)
		buf = malloc(n ? n : 1);
	if (!buf)
		return -ENOMEM;
	r = read_steps(fd, op, buf, n);
	if (r) {
		if (!op->buf)
			free(buf);
		return r;
	}
	op->buf = buf;
	op->size_out = n;
	return 0;
}

/* Set the random nanoseconds that make the ETag unique; st gets what the file system kept. */
static int mtime_stamp(int fd, struct stat *st)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}};
	uint64_t rnd;

	if (fstat(fd, st) < 0)
		return -errno;
	random_bytes(&rnd, sizeof(rnd));
	ts[1].tv_sec = st->st_mtim.tv_sec;
	ts[1].tv_nsec = (long)(rnd % NSEC_PER_SEC);
	if (futimens(fd, ts) < 0 || fstat(fd, st) < 0)
		return -errno;
	return st->st_mtim.tv_nsec == ts[1].tv_nsec ? 0 : -EOPNOTSUPP;
}

static int body_write(int fd, const struct store_op *op)
{
	uint64_t off = 0;

	for (int i = 0; i < op->iovcnt; i++) {
		const char *base = op->iov[i].iov_base;
		size_t len = op->iov[i].iov_len;

		for (size_t pos = 0, step; pos < len; pos += step) {
			int r = deadline_check(op);

			step = MIN(len - pos, IO_STEP);
			if (!r)
				r = pwrite_full(fd, base + pos, step, off + pos);
			if (r)
				return r;
		}
		off += len;
	}
	return 0;
}

static void tmp_name(char out[48])
{
	uint8_t id[16];

	random_bytes(id, sizeof(id));
	memcpy(out, ".tmp/", 5);
	hex_encode(id, sizeof(id), out + 5);
}

static int tmp_write(struct file_store *fs, const struct store_op *op, const char *tmp,
		     struct stat *st)
{
	int fd = openat(fs->dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = body_write(fd, op);
	if (!r)
		r = mtime_stamp(fd, st);
	if (!r && fsync(fd) < 0)
		r = -errno;
	if (close(fd) < 0 && !r)
		r = -errno;
	return r;
}

/* The ETag test of IF_MATCH, under the key's lock. */
static int match_check(struct file_store *fs, const struct store_op *op)
{
	char etag[STORE_ETAG_MAX];
	struct stat st;
	int r = key_stat(fs->dirfd, op->key, &st);

	if (r)
		return r == -ENOENT ? -ESTALE : r;
	etag_format(&st, etag);
	return strncmp(etag, op->etag, sizeof(etag)) ? -ESTALE : 0;
}

/* Give the finished temporary its name, under the key's lock. `linked`: tmp still has its own name.
 */
static int publish(struct file_store *fs, const struct store_op *op, const char *tmp, bool *linked)
{
	struct stat st;
	int r = op->cond == STORE_IF_MATCH ? match_check(fs, op) : 0;

	for (int i = 0; !r && i < PUBLISH_TRIES; i++) {
		if (op->cond == STORE_IF_NONE_MATCH) {
			if (!linkat(fs->dirfd, tmp, fs->dirfd, op->key, 0)) {
				*linked = true;
				return 0;
			}
			if (errno == EEXIST && !key_stat(fs->dirfd, op->key, &st))
				return -EEXIST;
			if (errno == EEXIST)
				return -EISDIR;
		} else if (!renameat(fs->dirfd, tmp, fs->dirfd, op->key)) {
			return 0;
		}
		if (errno != ENOENT)
			return -errno;
		r = parents_make(fs->dirfd, op->key);
	}
	return r ? r : -EIO;
}

static int op_put(struct file_store *fs, struct store_op *op)
{
	bool linked = false;
	struct stat st;
	char tmp[48];
	int lock = -1;
	int r;

	tmp_name(tmp);
	r = tmp_write(fs, op, tmp, &st);
	if (!r)
		r = key_lock(fs->dirfd, op, &lock);
	if (!r)
		r = deadline_check(op);
	if (!r)
		r = publish(fs, op, tmp, &linked);
	if (lock >= 0)
		close(lock);
	if (r || linked)
		unlinkat(fs->dirfd, tmp, 0);
	if (r)
		return r;
	result_from_stat(op, &st);
	r = parents_sync(fs->dirfd, op->key);
	/* It is visible, but nobody can say whether it would survive a crash. */
	op->ambiguous = r != 0;
	return r;
}

static int op_delete(struct file_store *fs, struct store_op *op)
{
	struct stat st;
	int lock = -1;
	int r = key_lock(fs->dirfd, op, &lock);

	if (r)
		return r;
	if (op->cond == STORE_IF_MATCH)
		r = match_check(fs, op);
	else
		r = key_stat(fs->dirfd, op->key, &st);
	if (!r && unlinkat(fs->dirfd, op->key, 0) < 0)
		r = -errno;
	close(lock);
	if (r)
		return r == -ENOENT ? 0 : r;
	r = parents_sync(fs->dirfd, op->key);
	op->ambiguous = r != 0;
	if (!r)
		parents_prune(fs->dirfd, op->key);
	return r;
}

static int op_list(struct file_store *fs, struct store_op *op)
{
	return file_list(fs->dirfd, op, store_op_deadline(op));
}

static int (*const op_run[])(struct file_store *fs, struct store_op *op) = {
	[STORE_GET] = op_get,   [STORE_PUT] = op_put,       [STORE_HEAD] = op_head,
	[STORE_LIST] = op_list, [STORE_DELETE] = op_delete,
};

static void file_job(struct pool_job *job)
{
	struct store_op *op = container_of(job, struct store_op, job);
	int r = store_key_check(op->key, op->type == STORE_LIST);

	if (!r)
		r = deadline_check(op);
	if (!r)
		r = op_run[op->type](op->impl, op);
	store_complete(op, r);
}

static void file_submit(struct store *s, struct store_op *op)
{
	struct file_store *fs = container_of(s, struct file_store, s);

	op->impl = fs;
	op->job.run = file_job;
	pool_submit(op->prio <= STORE_PRIO_META ? fs->urgent : fs->bulk, &op->job);
}

static void file_close(struct store *s)
{
	struct file_store *fs = container_of(s, struct file_store, s);

	pool_destroy(fs->urgent);
	pool_destroy(fs->bulk);
	if (fs->dirfd >= 0)
		close(fs->dirfd);
	free((char *)fs->s.url);
	free(fs);
}

static const struct store_ops file_ops = {
	.name = "file",
	.submit = file_submit,
	.close = file_close,
};

/* Remove what crashed writers left, judged by the file system's clock, `now_s`. */
static int tmp_clean(int dirfd, time_t now_s)
{
	int fd = openat(dirfd, ".tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *de;
	struct stat st;
	DIR *d;

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.' || fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (st.st_mtim.tv_sec < now_s - STALE_TMP_S)
			unlinkat(fd, de->d_name, 0);
	}
	closedir(d);
	return 0;
}

/* Does this file system keep what an ETag is made of, and what time does it think it is? */
static int fs_probe(int dirfd, time_t *now_s)
{
	struct stat st;
	char tmp[48];
	int fd, r;

	tmp_name(tmp);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = mtime_stamp(fd, &st);
	*now_s = st.st_mtim.tv_sec;
	close(fd);
	unlinkat(dirfd, tmp, 0);
	return r;
}

/* Sync the directories above path. Those we may not read were not made by us. */
static int ancestors_sync(const char *path)
{
	__cleanup_free char *dir = strdup(path);
	char *p;

	if (!dir)
		return -ENOMEM;
	while ((p = strrchr(dir, '/'))) {
		__cleanup_close int fd = -1;
		int r;

		*p = '\0';
		fd = open(*dir ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno != EACCES)
			return -errno;
		r = fd < 0 ? 0 : dir_sync(fd);
		if (r)
			return r;
	}
	return 0;
}

static int dir_prepare(const char *path, int *fd_out)
{
	bool made = access(path, F_OK) < 0;
	time_t now_s = 0;
	int fd, r;

	r = mkdir_all(path);
	if (!r && made)
		r = ancestors_sync(path);
	if (r)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if ((mkdirat(fd, ".tmp", 0700) < 0 && errno != EEXIST) ||
	    (mkdirat(fd, ".locks", 0700) < 0 && errno != EEXIST))
		r = -errno;
	if (!r)
		r = dir_sync(fd);
	if (!r)
		r = fs_probe(fd, &now_s);
	if (!r)
		r = tmp_clean(fd, now_s);
	if (r)
		close(fd);
	else
		*fd_out = fd;
	return r;
}

int store_file_open(const char *url, struct store **out, char *err, size_t err_len)
{
	const char *path = url + strlen("file://");
	struct file_store *fs;
	int r;

	if (path[0] != '/') {
		snprintf(err, err_len,
			 "store URL '%.200s': the directory must be absolute, file:///DIR", url);
		return -EINVAL;
	}
	fs = calloc(1, sizeof(*fs));
	if (!fs)
		return -ENOMEM;
	fs->dirfd = -1;
	fs->s.ops = &file_ops;
	fs->s.url = strdup(url);
	r = fs->s.url ? dir_prepare(path, &fs->dirfd) : -ENOMEM;
	if (!r) {
		fs->urgent = pool_create("gfs-file-urg", URGENT_THREADS);
		fs->bulk = pool_create("gfs-file-bulk", BULK_THREADS);
		if (!fs->urgent || !fs->bulk)
			r = -EAGAIN;
	}
	if (r) {
		if (r == -EOPNOTSUPP)
			snprintf(err, err_len,
				 "store %.200s: its file system keeps no nanosecond timestamps; "
				 "use ext4, xfs, btrfs or tmpfs",
				 url);
		else
			snprintf(err, err_len, "store %.200s: %s", url, strerror(-r));
		file_close(&fs->s);
		return r;
	}
	*out = &fs->s;
	return 0;
}
