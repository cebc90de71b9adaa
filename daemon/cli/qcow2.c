// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * qcow2 images, by qemu-img: what it says of one, then its content as a sparse file without a name.
 * Images that refer to other files are refused: an image from elsewhere must not choose what of
 * this host is read.
 */
#include "cli/cli.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "engine/format.h"
#include "lib/fsutil.h"

#define OUTPUT_MAX (1 * MiB)

static const char missing[] = "qemu-img is not installed: install qemu-utils, or give a raw image";

bool qcow2_is(int fd)
{
	char magic[4];

	return !pread_full(fd, magic, sizeof(magic), 0) && !memcmp(magic, "QFI\xfb", 4);
}

/*
 * Run qemu-img with these arguments and collect what it prints, both streams, in out
 * (NUL-terminated, cut to len). 0, also when it exits with leaks_status; -ENOEXEC: there is none;
 * -EIO: it failed, out says why.
 */
static int qemu_img(const char *const *args, int leaks_status, char *out, size_t len)
{
	size_t n = 0;
	int fds[2], status;
	pid_t pid;

	out[0] = '\0';
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0) {
		close(fds[0]);
		close(fds[1]);
		return -EAGAIN;
	}
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fds[1], STDOUT_FILENO);
		dup2(fds[1], STDERR_FILENO);
		execvp("qemu-img", (char *const *)args);
		_exit(errno == ENOENT ? 127 : 126);
	}
	close(fds[1]);
	for (;;) {
		char drop[4096];
		bool full = n + 1 >= len;
		ssize_t got =
			read(fds[0], full ? drop : out + n, full ? sizeof(drop) : len - 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += full ? 0 : (size_t)got;
	}
	out[n] = '\0';
	close(fds[0]);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return -ENOEXEC;
	return WIFEXITED(status) && (!WEXITSTATUS(status) || WEXITSTATUS(status) == leaks_status)
		       ? 0
		       : -EIO;
}

static int run(const char *const *args, int leaks_status, char *out, size_t out_len,
	       const char *path, char *err, size_t len)
{
	int r = qemu_img(args, leaks_status, out, out_len);

	if (r == -ENOEXEC)
		snprintf(err, len, "%s", missing);
	else if (r)
		snprintf(err, len, "%.200s: qemu-img: %.600s", path,
			 r == -EIO ? out : strerror(-r));
	err[strcspn(err, "\n")] = '\0';
	return r;
}

/* Nothing but itself may be read. */
static int info_check(const char *info, const char *path, char *err, size_t len)
{
	struct json_object *o = json_tokener_parse(info), *special, *data, *unused;
	const char *why = NULL;

	if (!o)
		why = "what qemu-img says of it is not JSON";
	else if (json_object_object_get_ex(o, "backing-filename", &unused))
		why = "it has a backing file; make it whole first: qemu-img convert -O qcow2";
	else if (json_object_object_get_ex(o, "format-specific", &special) &&
		 json_object_object_get_ex(special, "data", &data) &&
		 json_object_object_get_ex(data, "data-file", &unused))
		why = "its data is in another file; make it whole first: qemu-img convert -O qcow2";
	else if (json_object_object_get_ex(o, "encrypted", &unused) &&
		 json_object_get_boolean(unused))
		why = "it is encrypted; decrypt it first: qemu-img convert -O qcow2";
	if (!why && cli_u64(o, "virtual-size") > VOLUME_BYTES_MAX) {
		snprintf(err, len, "%.200s: it holds %llu bytes, a volume at most %llu", path,
			 (unsigned long long)cli_u64(o, "virtual-size"), VOLUME_BYTES_MAX);
		json_object_put(o);
		return -EFBIG;
	}
	json_object_put(o);
	if (!why)
		return 0;
	snprintf(err, len, "%.200s: %s", path, why);
	return -EINVAL;
}

static int unnamed_file(char *err, size_t len)
{
	const char *dir = getenv("TMPDIR");
	char path[PATH_MAX];
	int fd, r;

	snprintf(path, sizeof(path), "%s/glidefs-XXXXXX", dir && *dir ? dir : "/var/tmp");
	fd = mkstemp(path); /* qemu-img must inherit it */
	if (fd < 0) {
		r = -errno;
		snprintf(err, len, "a temporary file in %.200s: %s", dir && *dir ? dir : "/var/tmp",
			 strerror(-r));
		return r == -ENOENT ? -EIO : r; /* that would be the image */
	}
	unlink(path);
	return fd;
}

int qcow2_open(const char *path, char *err, size_t len)
{
	/* From the root on, so that no colon in it is taken for a protocol. */
	char *whole = realpath(path, NULL), *out = malloc(OUTPUT_MAX), target[64];
	int fd = -1, r = whole && out ? 0 : -errno;

	if (r)
		snprintf(err, len, "%.200s: %s", path, strerror(-r));
	if (!r) {
		const char *const info[] = {"qemu-img", "info",          "-f",  "qcow2",
					    "-U",       "--output=json", whole, NULL};

		r = run(info, 0, out, OUTPUT_MAX, path, err, len);
	}
	if (!r)
		r = info_check(out, path, err, len);
	/* What is missing at the end of a file would be zeros. Clusters without a use do no harm.
	 */
	if (!r) {
		const char *const check[] = {"qemu-img", "check", "-q", "-f", "qcow2", whole, NULL};

		r = run(check, 3, out, OUTPUT_MAX, path, err, len);
	}
	if (!r) {
		fd = unnamed_file(err, len);
		r = fd < 0 ? fd : 0;
	}
	if (!r) {
		const char *const convert[] = {"qemu-img", "convert", "-f",  "qcow2", "-O", "raw",
					       "-S",       "64k",     whole, target,  NULL};

		snprintf(target, sizeof(target), "/proc/self/fd/%d", fd);
		r = run(convert, 0, out, OUTPUT_MAX, path, err, len);
	}
	free(whole);
	free(out);
	if (!r)
		return fd;
	if (fd >= 0)
		close(fd);
	return r;
}
