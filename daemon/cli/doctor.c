// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * glidefs doctor: can this host run glidefsd, and does it? A table of checks; each says what it
 * found and, when that is not good, what to do. Reads only; nothing is changed but a probe file in
 * the cache directory.
 */
#include "cli/cli.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "lib/fsutil.h"
#include "ublk/ctrl.h"
#include "ublk/device.h"

#define CACHE_DIR_DEFAULT "/var/cache/glidefs"
#define DEVICES_MAX       4096

enum verdict { V_OK, V_NOTE, V_WARN, V_FAIL };

struct finding {
	enum verdict verdict;
	char text[600];
};

/* What several checks need, gathered once. */
struct doctor {
	const struct cli *c;
	struct json_object *health, *volumes; /* NULL: the daemon does not answer */
	char cache_dir[1024];
	struct ublk_caps caps;
	struct fmt_err caps_err;
	int caps_res;
	struct ublk_ctrl *ctrl; /* NULL: no driver here */
};

static void __printf(3, 4) say(struct finding *f, enum verdict v, const char *fmt, ...)
{
	size_t n = strlen(f->text);
	va_list ap;

	if (v > f->verdict)
		f->verdict = v;
	if (n && n + 2 < sizeof(f->text)) {
		memcpy(f->text + n, "; ", 3);
		n += 2;
	}
	va_start(ap, fmt);
	vsnprintf(f->text + n, sizeof(f->text) - n, fmt, ap);
	va_end(ap);
}

#define READ_TIMEOUT_MS 1000

/* First line of a small file; false if it cannot be read. */
static bool read_line(const char *path, char *buf, size_t len)
{
	char *text;
	size_t n;

	if (file_read_all(AT_FDCWD, path, 1 << 16, &text, &n)) {
		/* sysfs and procfs files have no size: read them as they come. */
		return false;
	}
	if (!n) {
		__cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t got = fd >= 0 ? read(fd, buf, len - 1) : -1;

		free(text);
		if (got < 0)
			return false;
		buf[got] = '\0';
	} else {
		/* The reported size of a sysfs file is a page. */
		snprintf(buf, len, "%s", text);
		free(text);
	}
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

static void check_kernel(struct doctor *d, struct finding *f)
{
	const char *bad;
	struct utsname u;

	uname(&u);
	bad = ublk_kernel_known_bad(u.release);
	if (bad)
		say(f, V_FAIL, "%s is known bad: %s; boot another kernel", u.release, bad);
	else
		say(f, V_OK, "%s", u.release);
}

static void check_ublk(struct doctor *d, struct finding *f)
{
	char line[64];

	struct utsname u;

	uname(&u);
	if (d->caps_res && ublk_kernel_known_bad(u.release)) {
		say(f, V_FAIL, "not asked: see kernel");
		return;
	}
	if (d->caps_res) {
		say(f, V_FAIL, "%s", d->caps_err.msg[0] ? d->caps_err.msg : strerror(-d->caps_res));
		if (access("/sys/module/ublk_drv", F_OK))
			say(f, V_FAIL, "ublk_drv is not loaded: modprobe ublk_drv");
		return;
	}
	for (unsigned int bit = 0; bit < 64; bit++) {
		const char *name = d->caps.features >> bit & 1 ? ublk_feature_name(bit) : NULL;

		if (name)
			say(f, V_OK, "%s", name);
	}
	if (!d->caps.privileged)
		say(f, V_WARN, "/dev/ublk-control is not usable by this user");
	say(f, V_OK, "partition scan %s START_DEV", d->caps.async_part_scan ? "outside" : "inside");
	if (read_line("/sys/module/ublk_drv/parameters/ublks_max", line, sizeof(line)))
		say(f, V_OK, "ublks_max %s", line);
}

static void check_io_uring(struct doctor *d, struct finding *f)
{
	char line[32];

	if (!read_line("/proc/sys/kernel/io_uring_disabled", line, sizeof(line)))
		say(f, V_OK, "no switch in this kernel");
	else if (strcmp(line, "0"))
		say(f, V_FAIL, "kernel.io_uring_disabled is %s: set it to 0", line);
	else
		say(f, V_OK, "enabled");
}

static void check_fs_type(const struct statfs *st, struct finding *f)
{
	static const struct {
		unsigned long magic;
		const char *name;
		enum verdict v;
		const char *why;
	} table[] = {
		{TMPFS_MAGIC, "tmpfs", V_FAIL, "acknowledged writes would not survive a reset"},
		{RAMFS_MAGIC, "ramfs", V_FAIL, "acknowledged writes would not survive a reset"},
		{NFS_SUPER_MAGIC, "nfs", V_FAIL, "it must be a local disk"},
		{OVERLAYFS_SUPER_MAGIC, "overlayfs", V_WARN, "use a file system of its own"},
		{0x65735546, "fuse", V_WARN, "use a local disk"},
		{BTRFS_SUPER_MAGIC, "btrfs", V_WARN, "copy on write makes small writes slow"},
		{EXT4_SUPER_MAGIC, "ext4", V_OK, NULL},
		{0x58465342, "xfs", V_OK, NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if ((unsigned long)st->f_type != table[i].magic)
			continue;
		if (table[i].why)
			say(f, table[i].v, "%s: %s", table[i].name, table[i].why);
		else
			say(f, V_OK, "%s", table[i].name);
		return;
	}
	say(f, V_NOTE, "file system 0x%lx", (unsigned long)st->f_type);
}

static void check_cache_dir(struct doctor *d, struct finding *f)
{
	char path[1100], size[32];
	struct statfs st;
	int fd;

	say(f, V_OK, "%s", d->cache_dir);
	if (statfs(d->cache_dir, &st) < 0) {
		say(f, d->health ? V_FAIL : V_NOTE, "%s%s", strerror(errno),
		    errno == ENOENT ? ": made by glidefsd at its first start" : "");
		return;
	}
	check_fs_type(&st, f);
	snprintf(path, sizeof(path), "%s/.doctor.%d", d->cache_dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0) {
		say(f, errno == EINVAL ? V_FAIL : V_WARN, "O_DIRECT: %s", strerror(errno));
	} else {
		say(f, V_OK, "O_DIRECT");
		close(fd);
	}
	unlink(path);
	cli_bytes((uint64_t)st.f_bavail * (uint64_t)st.f_frsize, size, sizeof(size));
	say(f, (uint64_t)st.f_bavail * (uint64_t)st.f_frsize < GiB ? V_WARN : V_OK, "%s free",
	    size);
}

static void check_limit(struct finding *f, int what, const char *name, rlim_t want)
{
	struct rlimit rl;

	if (getrlimit(what, &rl) < 0)
		return;
	if (rl.rlim_max == RLIM_INFINITY)
		say(f, V_OK, "%s unlimited", name);
	else
		say(f, rl.rlim_max < want ? V_NOTE : V_OK, "%s %llu", name,
		    (unsigned long long)rl.rlim_max);
}

static void check_limits(struct doctor *d, struct finding *f)
{
	check_limit(f, RLIMIT_NOFILE, "open files", 65536);
	check_limit(f, RLIMIT_MEMLOCK, "locked memory", 1 * GiB);
	if (f->verdict != V_OK)
		say(f, V_NOTE, "of this shell; the systemd unit sets its own");
}

static void check_daemon(struct doctor *d, struct finding *f)
{
	if (!d->health) {
		say(f, V_WARN, "no daemon answers on %s", d->c->socket);
		return;
	}
	say(f, V_OK, "version %s, host %s, store %s", cli_str(d->health, "version", "?"),
	    cli_str(d->health, "host_id", "?"), cli_str(d->health, "store", "?"));
	if (!cli_bool(d->health, "ready"))
		say(f, V_WARN, "not ready: %llu volume(s) recovering, %llu being tried again",
		    (unsigned long long)cli_u64(d->health, "recovering"),
		    (unsigned long long)cli_u64(d->health, "failed_retrying"));
	else
		say(f, V_OK, "ready, %llu volume(s) attached",
		    (unsigned long long)cli_u64(d->health, "attached"));
	if (cli_u64(d->health, "failed"))
		say(f, V_FAIL, "%llu volume(s) cannot be attached: see glidefs ls",
		    (unsigned long long)cli_u64(d->health, "failed"));
}

/* Does the daemon serve this device? */
static bool served(struct doctor *d, int id)
{
	struct json_object *all, *v;

	if (!json_object_object_get_ex(d->volumes, "volumes", &all))
		return false;
	for (size_t i = 0; i < json_object_array_length(all); i++) {
		struct json_object *o = json_object_array_get_idx(all, i);

		if (json_object_object_get_ex(o, "dev_id", &v) && json_object_get_int(v) == id)
			return true;
	}
	return false;
}

/* Call fn for each /dev/ublkcN. Number of devices. */
static unsigned int each_device(struct doctor *d, struct finding *f,
				void (*fn)(struct doctor *d, struct finding *f, int id))
{
	DIR *dir = opendir("/dev");
	struct dirent *de;
	unsigned int n = 0;

	while (dir && n < DEVICES_MAX && (de = readdir(dir))) {
		char *end;
		long id;

		if (strncmp(de->d_name, "ublkc", 5) || !de->d_name[5])
			continue;
		id = strtol(de->d_name + 5, &end, 10);
		if (*end || id < 0 || id > 1 << 20)
			continue;
		fn(d, f, (int)id);
		n++;
	}
	if (dir)
		closedir(dir);
	return n;
}

/*
 * The driver's word on it; -errno if it does not answer. Opening the char device instead would get
 * in the way of a recovery: only one opener is allowed.
 */
static int device_state(struct doctor *d, int id)
{
	struct ublksrv_ctrl_dev_info info = {0};
	const struct ublk_cmd_spec spec = {
		.op = UBLK_U_CMD_GET_DEV_INFO,
		.dev_id = (uint32_t)id,
		.buf = &info,
		.len = sizeof(info),
		.timeout_ns = 5 * NSEC_PER_SEC,
	};
	int r = d->ctrl ? ublk_ctrl_run(d->ctrl, &spec, NULL) : -ENODEV;

	return r < 0 ? r : info.state;
}

static void check_one_leaked(struct doctor *d, struct finding *f, int id)
{
	int state;

	if (served(d, id))
		return;
	state = device_state(d, id);
	if (state < 0)
		say(f, V_NOTE, "ublkb%d: its state is unknown (%s)", id, strerror(-state));
	else if (state == UBLK_S_DEV_QUIESCED)
		say(f, V_WARN, "ublkb%d is QUIESCED: it has no server and its I/O waits; %s", id,
		    d->health ? "if it is ours, a restart of glidefsd recovers or removes it"
			      : "starting glidefsd recovers it if it is ours");
	else if (state == UBLK_S_DEV_DEAD)
		say(f, V_WARN, "ublkb%d was added and never started", id);
	else
		say(f, V_NOTE, "ublkb%d is served by somebody else", id);
}

static void check_devices(struct doctor *d, struct finding *f)
{
	if (!each_device(d, f, check_one_leaked))
		say(f, V_OK, "none on this host");
	else if (!f->text[0])
		say(f, V_OK, "all served");
}

/*
 * On 6.12 a read of a queue attribute sleeps, deaf to signals, while a write to one waits for a
 * freeze. So a child reads, and is left behind if it does not answer. 0, -ETIMEDOUT, or another
 * -errno.
 */
static int read_line_in_time(const char *path, char *buf, size_t len)
{
	struct pollfd p = {.events = POLLIN};
	int fds[2], r;
	ssize_t n = -1;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (!pid) {
		if (read_line(path, buf, len))
			n = write(fds[1], buf, strlen(buf) + 1);
		_exit(n < 0);
	}
	close(fds[1]);
	p.fd = fds[0];
	r = pid < 0 ? -errno : poll(&p, 1, READ_TIMEOUT_MS);
	if (r > 0) {
		n = read(fds[0], buf, len - 1);
		buf[MAX(n, 0)] = '\0';
		waitpid(pid, NULL, 0);
	}
	close(fds[0]);
	return r < 0 ? r : r ? (n > 0 ? 0 : -EIO) : -ETIMEDOUT;
}

static void check_one_scheduler(struct doctor *d, struct finding *f, int id)
{
	char path[96], line[128];
	int r;

	snprintf(path, sizeof(path), "/sys/block/ublkb%d/queue/scheduler", id);
	if (!served(d, id))
		return;
	r = read_line_in_time(path, line, sizeof(line));
	if (r == -ETIMEDOUT)
		say(f, V_WARN,
		    "ublkb%d: reading its scheduler hangs, so a write to a queue attribute waits "
		    "for a freeze: "
		    "gfs-trace -d %d says for what",
		    id, id);
	if (r)
		return;
	if (!strstr(line, "[none]") && strcmp(line, "none"))
		say(f, V_WARN, "ublkb%d uses %s: none is best; see 99-glidefs-ublk.rules", id,
		    line);
}

static void check_scheduler(struct doctor *d, struct finding *f)
{
	each_device(d, f, check_one_scheduler);
	if (!f->text[0])
		say(f, V_OK, "none wherever there is a device of ours");
}

static void check_udev(struct doctor *d, struct finding *f)
{
	static const char *const dirs[] = {"/etc/udev/rules.d", "/run/udev/rules.d",
					   "/usr/lib/udev/rules.d", "/lib/udev/rules.d"};
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/99-glidefs-ublk.rules", dirs[i]);
		if (access(path, F_OK) == 0) {
			say(f, V_OK, "%s", path);
			return;
		}
	}
	say(f, V_NOTE, "99-glidefs-ublk.rules is not installed; devices with two queues need none");
}

static const struct {
	const char *name;
	void (*run)(struct doctor *d, struct finding *f);
} checks[] = {
	{"kernel", check_kernel},     {"ublk driver", check_ublk},
	{"io_uring", check_io_uring}, {"cache dir", check_cache_dir},
	{"limits", check_limits},     {"daemon", check_daemon},
	{"devices", check_devices},   {"scheduler", check_scheduler},
	{"udev rule", check_udev},
};

static struct json_object *ask(const struct cli *c, const char *path)
{
	struct json_object *o = NULL;
	struct cli_reply reply;

	if (cli_call(c, "GET", path, NULL, &reply) == 0) {
		o = reply.status == 200 ? json_tokener_parse(reply.body) : NULL;
		cli_reply_free(&reply);
	}
	return o;
}

int cmd_doctor(const struct cli *c)
{
	static const char *const words[] = {
		[V_OK] = "ok", [V_NOTE] = "note", [V_WARN] = "warning", [V_FAIL] = "FAILED"};
	struct doctor d = {.c = c, .health = ask(c, "/health")};
	struct json_object *all = json_object_new_array();
	enum verdict worst = V_OK;

	d.volumes = d.health ? ask(c, "/api/exports") : NULL;
	d.caps_res = ublk_caps_probe(&d.caps, &d.caps_err);
	if (!d.caps_res && ublk_ctrl_create(&d.ctrl))
		d.ctrl = NULL;
	snprintf(d.cache_dir, sizeof(d.cache_dir), "%s",
		 c->cache_dir ? c->cache_dir : cli_str(d.health, "cache_dir", CACHE_DIR_DEFAULT));
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct finding f = {.verdict = V_OK};
		struct json_object *o;

		checks[i].run(&d, &f);
		worst = MAX(worst, f.verdict);
		if (!c->json) {
			printf("%-8s %-12s %s\n", words[f.verdict], checks[i].name, f.text);
			continue;
		}
		o = json_object_new_object();
		json_object_object_add(o, "check", json_object_new_string(checks[i].name));
		json_object_object_add(o, "verdict", json_object_new_string(words[f.verdict]));
		json_object_object_add(o, "text", json_object_new_string(f.text));
		json_object_array_add(all, o);
	}
	if (c->json)
		puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN |
								 JSON_C_TO_STRING_NOSLASHESCAPE));
	if (d.ctrl)
		ublk_ctrl_destroy(d.ctrl);
	json_object_put(all);
	json_object_put(d.health);
	json_object_put(d.volumes);
	return worst == V_FAIL ? CLI_FAILED : CLI_OK;
}
