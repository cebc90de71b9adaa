// SPDX-License-Identifier: GPL-2.0-or-later
/* The checks of gfs-trace doctor and their output; see doctor.h. `glidefs doctor` asks the daemon,
 * this one asks the host. */
#include "tracing/doctor.h"

#include <cap-ng.h>
#include <dirent.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "tracing/procfs.h"
#include "ublk/ctrl.h"
#include "ublk/device.h"
#include "ublk/features.h"

#define DEVICES_MAX 4096
#define INFO_NS     (3 * NSEC_PER_SEC)

struct device {
	int32_t dev;
	uint32_t server; /* 0: nobody has the char device */
	char comm[REC_COMM_LEN];
};

/* What several checks need, gathered once. */
struct doctor_host {
	struct utsname uts;
	const char *known_bad; /* the driver is not touched then */
	struct ublk_caps caps;
	struct fmt_err caps_err;
	int caps_res; /* of ublk_caps_probe; -ECANCELED: not asked */
	struct ublk_ctrl *ctrl;
	struct device *device;
	size_t nr_devices;
};

struct doctor_out {
	FILE *f;
	bool json;
	enum doctor_verdict worst;
};

static const char *const words[] = {[DOCTOR_OK] = "ok",
				    [DOCTOR_UNKNOWN] = "unknown",
				    [DOCTOR_WARN] = "warning",
				    [DOCTOR_BAD] = "FAILED"};

static void __attribute__((format(printf, 3, 0)))
join(char *buf, size_t size, const char *fmt, va_list ap)
{
	size_t n = strlen(buf);

	if (n && n + 3 < size) {
		memcpy(buf + n, "; ", 3);
		n += 2;
	}
	vsnprintf(buf + n, size - n, fmt, ap);
}

void doctor_say(struct doctor_result *r, enum doctor_verdict v, const char *fmt, ...)
{
	va_list ap;

	r->verdict = MAX(r->verdict, v);
	va_start(ap, fmt);
	join(r->text, sizeof(r->text), fmt, ap);
	va_end(ap);
}

void doctor_next(struct doctor_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	join(r->next, sizeof(r->next), fmt, ap);
	va_end(ap);
}

static void check_kernel(struct doctor_host *h, struct doctor_result *r)
{
	if (!h->known_bad) {
		doctor_say(r, DOCTOR_OK, "%s", h->uts.release);
		return;
	}
	doctor_say(r, DOCTOR_BAD, "%s is known bad: %s", h->uts.release, h->known_bad);
	doctor_next(r, "boot another kernel");
}

/* Can modprobe find the module? Its index is text. */
static bool module_installed(const struct doctor_host *h, const char *file)
{
	static const char *const indexes[] = {"modules.dep", "modules.builtin"};
	char path[160], line[1024];
	bool found = false;

	for (size_t i = 0; i < ARRAY_SIZE(indexes) && !found; i++) {
		FILE *f;

		snprintf(path, sizeof(path), "/lib/modules/%.64s/%s", h->uts.release, indexes[i]);
		f = fopen(path, "re");
		while (f && !found && fgets(line, sizeof(line), f))
			found = strstr(line, file);
		if (f)
			fclose(f);
	}
	return found;
}

static void check_ublk(struct doctor_host *h, struct doctor_result *r)
{
	char line[64];

	if (h->known_bad) {
		doctor_say(r, DOCTOR_UNKNOWN, "not asked on this kernel");
		return;
	}
	if (access("/dev/ublk-control", F_OK) < 0) {
		if (!access("/sys/module/ublk_drv", F_OK)) {
			doctor_say(r, DOCTOR_BAD,
				   "ublk_drv is loaded and /dev/ublk-control is not there");
			doctor_next(r, "mount devtmpfs on /dev, or run outside of the container");
		} else if (module_installed(h, "/ublk_drv.ko")) {
			doctor_say(r, DOCTOR_WARN, "ublk_drv is not loaded");
			doctor_next(r, "modprobe ublk_drv");
		} else {
			doctor_say(r, DOCTOR_BAD, "this kernel has no ublk_drv");
			doctor_next(r,
				    "boot a kernel with CONFIG_BLK_DEV_UBLK (Debian 6.12 has it)");
		}
		return;
	}
	if (h->caps_res) {
		doctor_say(r, DOCTOR_BAD, "%s",
			   h->caps_err.msg[0] ? h->caps_err.msg : strerror(-h->caps_res));
		return;
	}
	doctor_say(r, h->caps.privileged ? DOCTOR_OK : DOCTOR_WARN, "/dev/ublk-control is %susable",
		   h->caps.privileged ? "" : "not ");
	doctor_say(r, DOCTOR_OK, "features 0x%llx", (unsigned long long)h->caps.features);
	doctor_say(r, DOCTOR_OK, "partition scan %s START_DEV",
		   h->caps.async_part_scan ? "outside" : "inside");
	if (procfs_line("/sys/module/ublk_drv/parameters/ublks_max", line, sizeof(line)))
		doctor_say(r, DOCTOR_OK, "ublks_max %s", line);
}

static void check_io_uring(struct doctor_host *h, struct doctor_result *r)
{
	char line[32];

	if (!procfs_line("/proc/sys/kernel/io_uring_disabled", line, sizeof(line))) {
		doctor_say(r, DOCTOR_OK, "no switch in this kernel");
	} else if (!strcmp(line, "0")) {
		doctor_say(r, DOCTOR_OK, "enabled");
	} else {
		doctor_say(r, DOCTOR_BAD, "kernel.io_uring_disabled is %s", line);
		doctor_next(r, "sysctl kernel.io_uring_disabled=0");
	}
}

static void check_btf(struct doctor_host *h, struct doctor_result *r)
{
	if (access("/sys/kernel/btf/vmlinux", R_OK) < 0) {
		doctor_say(r, DOCTOR_BAD,
			   "/sys/kernel/btf/vmlinux: %s: gfs-trace cannot load its programs",
			   strerror(errno));
		doctor_next(r, "boot a kernel with CONFIG_DEBUG_INFO_BTF");
		return;
	}
	doctor_say(r, DOCTOR_OK, "vmlinux");
	if (!access("/sys/kernel/btf/ublk_drv", R_OK)) {
		doctor_say(r, DOCTOR_OK, "ublk_drv");
	} else if (access("/sys/module/ublk_drv", F_OK)) {
		doctor_say(r, DOCTOR_UNKNOWN, "of ublk_drv when it is loaded");
	} else {
		doctor_say(r, DOCTOR_WARN,
			   "none of ublk_drv: stages inside the driver come from kprobes");
		doctor_next(r, "a kernel with CONFIG_DEBUG_INFO_BTF_MODULES shows more");
	}
}

/* A switch of /proc/sys, and from which value on it takes something away from us. */
static void check_sysctl(struct doctor_result *r, const char *path, long limit, const char *lost,
			 enum doctor_verdict v)
{
	const char *name = path + strlen("/proc/sys/kernel/");
	char line[32];
	long value;

	if (!procfs_line(path, line, sizeof(line)))
		return;
	value = strtol(line, NULL, 10);
	if (value < limit)
		doctor_say(r, DOCTOR_OK, "%s %ld", name, value);
	else
		doctor_say(r, v, "%s %ld: %s", name, value, lost);
}

static bool have_cap(unsigned int cap)
{
	return capng_have_capability(CAPNG_EFFECTIVE, cap);
}

static void check_access(struct doctor_host *h, struct doctor_result *r)
{
	char line[128];

	check_sysctl(r, "/proc/sys/kernel/kptr_restrict", have_cap(CAP_SYSLOG) ? 2 : 1,
		     "no kernel addresses, so no symbols in kernel stacks", DOCTOR_WARN);
	check_sysctl(r, "/proc/sys/kernel/perf_event_paranoid", have_cap(CAP_PERFMON) ? 5 : 3,
		     "kprobes need CAP_PERFMON", DOCTOR_WARN);
	check_sysctl(r, "/proc/sys/kernel/unprivileged_bpf_disabled", have_cap(CAP_BPF) ? 5 : 1,
		     "BPF needs CAP_BPF", DOCTOR_WARN);
	if (!procfs_line("/sys/kernel/security/lockdown", line, sizeof(line)))
		return;
	if (strstr(line, "[confidentiality]")) {
		doctor_say(r, DOCTOR_BAD,
			   "lockdown is confidentiality: BPF programs must not read kernel memory");
		doctor_next(r, "boot with lockdown=integrity or none to trace");
	} else {
		doctor_say(r, DOCTOR_OK, "lockdown %s", line);
	}
}

/* What each capability is for. CAP_SYS_ADMIN stands in for the first two, as in the kernel. */
static const struct {
	unsigned int cap;
	const char *name;
	const char *off; /* without it */
	enum doctor_verdict v;
	bool admin_does;
} capabilities[] = {
	{CAP_BPF, "CAP_BPF", "no programs, so no tracing", DOCTOR_BAD, true},
	{CAP_PERFMON, "CAP_PERFMON", "no attaching to the kernel, so no tracing", DOCTOR_BAD, true},
	{CAP_SYS_ADMIN, "CAP_SYS_ADMIN",
	 "no kernel stacks of what hung before, no deleted or containers' binaries in user stacks",
	 DOCTOR_WARN, false},
	{CAP_SYS_PTRACE, "CAP_SYS_PTRACE",
	 "no user stacks and no openers of other users' processes", DOCTOR_WARN, false},
	{CAP_SYSLOG, "CAP_SYSLOG", "no kernel symbols, no kernel log", DOCTOR_WARN, false},
	{CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH",
	 "no open files of other users' processes, no tracefs", DOCTOR_WARN, false},
};

static void check_capabilities(struct doctor_host *h, struct doctor_result *r)
{
	unsigned int missing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		if (have_cap(capabilities[i].cap) ||
		    (capabilities[i].admin_does && have_cap(CAP_SYS_ADMIN)))
			continue;
		missing++;
		doctor_say(r, capabilities[i].v, "%s is missing: %s", capabilities[i].name,
			   capabilities[i].off);
	}
	if (missing)
		doctor_next(r, "run as root, or with these capabilities");
	else
		doctor_say(r, DOCTOR_OK, "all that gfs-trace uses");
}

static void check_limit(struct doctor_result *r, int what, const char *name, rlim_t want)
{
	struct rlimit rl;

	if (getrlimit(what, &rl) < 0)
		return;
	if (rl.rlim_max == RLIM_INFINITY)
		doctor_say(r, DOCTOR_OK, "%s unlimited", name);
	else
		doctor_say(r, rl.rlim_max < want ? DOCTOR_WARN : DOCTOR_OK, "%s %llu", name,
			   (unsigned long long)rl.rlim_max);
}

static void check_limits(struct doctor_host *h, struct doctor_result *r)
{
	check_limit(r, RLIMIT_NOFILE, "open files", 65536);
	check_limit(r, RLIMIT_MEMLOCK, "locked memory", 1 * GiB);
	if (r->verdict != DOCTOR_OK)
		doctor_next(r, "these are of this shell; the systemd unit sets its own");
}

static void check_udev(struct doctor_host *h, struct doctor_result *r)
{
	static const char *const dirs[] = {"/etc/udev/rules.d", "/run/udev/rules.d",
					   "/usr/lib/udev/rules.d", "/lib/udev/rules.d"};
	char path[96];

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/99-glidefs-ublk.rules", dirs[i]);
		if (access(path, F_OK) == 0) {
			doctor_say(r, DOCTOR_OK, "%s", path);
			return;
		}
	}
	/* No fault: see the words of `glidefs doctor`. */
	doctor_say(r, DOCTOR_OK,
		   "99-glidefs-ublk.rules is not installed; devices with two queues need none");
}

/*
 * The driver's word on a device; -errno if it does not answer. Opening the char device instead
 * would get in the way of a recovery: only one opener is allowed.
 */
static int device_state(struct doctor_host *h, int32_t dev)
{
	struct ublksrv_ctrl_dev_info info = {0};
	const struct ublk_cmd_spec spec = {
		.op = UBLK_U_CMD_GET_DEV_INFO,
		.dev_id = (uint32_t)dev,
		.buf = &info,
		.len = sizeof(info),
		.timeout_ns = INFO_NS,
	};
	int r = h->ctrl ? ublk_ctrl_run(h->ctrl, &spec, NULL) : -ENODEV;

	return r < 0 ? r : info.state;
}

static void check_one_device(struct doctor_host *h, struct doctor_result *r, const struct device *d)
{
	int state;

	if (d->server) {
		doctor_say(r, DOCTOR_OK, "ublkb%d is served by %s[%u]", d->dev, d->comm, d->server);
		return;
	}
	state = device_state(h, d->dev);
	if (state == UBLK_S_DEV_QUIESCED) {
		doctor_say(r, DOCTOR_WARN,
			   "ublkb%d is QUIESCED: it has no server and its I/O waits", d->dev);
		doctor_next(r, "start the server of ublkb%d: it recovers or removes it", d->dev);
	} else if (state == UBLK_S_DEV_DEAD) {
		doctor_say(r, DOCTOR_WARN,
			   "ublkb%d was added and is not started, by nobody that is here", d->dev);
		doctor_next(r, "delete it, or start its server");
	} else if (state < 0) {
		doctor_say(r, DOCTOR_UNKNOWN,
			   "nobody seen that serves ublkb%d; its state is unknown (%s)", d->dev,
			   strerror(-state));
	} else {
		doctor_say(r, DOCTOR_UNKNOWN,
			   "ublkb%d is served by a process that is not seen here", d->dev);
	}
}

static void check_devices(struct doctor_host *h, struct doctor_result *r)
{
	for (size_t i = 0; i < h->nr_devices; i++)
		check_one_device(h, r, &h->device[i]);
	if (!h->nr_devices)
		doctor_say(r, DOCTOR_OK, "none on this host");
}

static void note_writer(void *ctx, const struct rec_task *t)
{
	struct rec_task *first = ctx;

	if (!first->tid)
		*first = *t;
}

/*
 * On 6.12 a reader of a queue attribute waits, not to be killed, behind a writer of one, who waits
 * for a freeze: we would be one more that hangs. Says so and returns true.
 */
static bool attribute_write_hangs(struct doctor_result *r)
{
	static const char *const writers[] = {"queue_attr_store", "elv_iosched_store"};
	struct rec_task t = {0};
	int n = procfs_threads_in(writers, ARRAY_SIZE(writers), note_writer, &t);

	if (!n)
		return false;
	if (n < 0) {
		doctor_say(r, DOCTOR_UNKNOWN,
			   "not read: whether a write of it hangs is not to be seen (%s)",
			   strerror(-n));
		return true;
	}
	doctor_say(r, DOCTOR_WARN, "not read: %s[%u] hangs in a write to a queue attribute", t.comm,
		   t.tid);
	doctor_next(r, "gfs-trace says which request it waits for");
	return true;
}

static void check_scheduler(struct doctor_host *h, struct doctor_result *r)
{
	char path[256], line[128];

	if (h->nr_devices && attribute_write_hangs(r))
		return;
	for (size_t i = 0; i < h->nr_devices; i++) {
		int32_t dev = h->device[i].dev;

		snprintf(path, sizeof(path), "%.200s/block/ublkb%d/queue/scheduler", procfs_sysfs(),
			 dev);
		if (!procfs_line(path, line, sizeof(line)) || strstr(line, "[none]") ||
		    !strcmp(line, "none"))
			continue;
		doctor_say(r, DOCTOR_WARN, "ublkb%d uses %s: none is best", dev, line);
	}
	if (r->verdict == DOCTOR_OK)
		doctor_say(r, DOCTOR_OK, "none wherever there is a device");
	else
		doctor_next(r, "serve with two queues; a change of a device in use waits for its "
			       "requests");
}

static void check_hung_task(struct doctor_host *h, struct doctor_result *r)
{
	char line[32];

	if (!procfs_line("/proc/sys/kernel/hung_task_timeout_secs", line, sizeof(line))) {
		doctor_say(r, DOCTOR_OK, "the kernel does not report hung tasks; gfs-trace does");
		return;
	}
	doctor_say(r, DOCTOR_OK, "reported after %s s", line);
	if (procfs_line("/proc/sys/kernel/hung_task_panic", line, sizeof(line)) &&
	    strcmp(line, "0")) {
		doctor_say(r, DOCTOR_WARN,
			   "hung_task_panic is %s: a slow store can reset this host", line);
		doctor_next(r, "sysctl kernel.hung_task_panic=0, unless that is wanted");
	}
	if (procfs_line("/proc/sys/kernel/hung_task_warnings", line, sizeof(line)) &&
	    !strcmp(line, "0"))
		doctor_say(r, DOCTOR_WARN, "hung_task_warnings is used up: no more reports");
}

static const struct {
	const char *name;
	void (*run)(struct doctor_host *h, struct doctor_result *r);
} checks[] = {
	{"kernel", check_kernel},        {"ublk driver", check_ublk},
	{"io_uring", check_io_uring},    {"BTF", check_btf},
	{"access", check_access},        {"capabilities", check_capabilities},
	{"limits", check_limits},        {"udev rule", check_udev},
	{"devices", check_devices},      {"scheduler", check_scheduler},
	{"hung tasks", check_hung_task},
};

void doctor_emit(struct doctor_out *o, const char *check, const struct doctor_result *r)
{
	struct json_object *j;

	o->worst = MAX(o->worst, r->verdict);
	if (!o->json) {
		fprintf(o->f, "%-8s %-14s %s%s%s\n", words[r->verdict], check, r->text,
			r->next[0] ? ": " : "", r->next);
		return;
	}
	j = json_object_new_object();
	json_object_object_add(j, "v", json_object_new_int(1));
	json_object_object_add(j, "type", json_object_new_string("doctor"));
	json_object_object_add(j, "check", json_object_new_string(check));
	json_object_object_add(j, "verdict", json_object_new_string(words[r->verdict]));
	json_object_object_add(j, "text", json_object_new_string(r->text));
	if (r->next[0])
		json_object_object_add(j, "next", json_object_new_string(r->next));
	fprintf(o->f, "%s\n",
		json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN |
							  JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(j);
}

/* Who serves: the one that has the char device, in whatever way. */
static void note_opener(void *ctx, const struct rec_opener *o)
{
	struct doctor_host *h = ctx;

	for (size_t i = 0; o->cdev && i < h->nr_devices; i++) {
		struct device *d = &h->device[i];

		if (d->dev != o->dev || d->server)
			continue;
		d->server = o->tgid;
		memcpy(d->comm, o->comm, sizeof(d->comm));
	}
}

static int by_dev(const void *a, const void *b)
{
	const struct device *x = a, *y = b;

	return x->dev < y->dev ? -1 : x->dev > y->dev;
}

static void list_devices(struct doctor_host *h)
{
	char path[256];
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "%.200s/class/ublk-char", procfs_sysfs());
	dir = opendir(path);
	h->device = calloc(DEVICES_MAX, sizeof(*h->device));
	while (dir && h->device && h->nr_devices < DEVICES_MAX && (e = readdir(dir))) {
		int dev;

		if (sscanf(e->d_name, "ublkc%d", &dev) == 1 && dev >= 0)
			h->device[h->nr_devices++].dev = dev;
	}
	if (dir)
		closedir(dir);
	if (h->nr_devices)
		qsort(h->device, h->nr_devices, sizeof(*h->device), by_dev);
	(void)!procfs_openers(-1, note_opener, h);
}

static void host_gather(struct doctor_host *h)
{
	uname(&h->uts);
	capng_get_caps_process();
	h->known_bad = ublk_kernel_known_bad(h->uts.release);
	list_devices(h);
	h->caps_res = -ECANCELED;
	if (h->known_bad || access("/dev/ublk-control", F_OK) < 0)
		return;
	h->caps_res = ublk_caps_probe(&h->caps, &h->caps_err);
	if (!h->caps_res && ublk_ctrl_create(&h->ctrl))
		h->ctrl = NULL;
}

int doctor_checks(FILE *out, bool json, int (*extra)(struct doctor_out *o, void *ctx), void *ctx)
{
	struct doctor_out o = {.f = out, .json = json};
	struct doctor_host h = {0};
	int r;

	host_gather(&h);
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		struct doctor_result res = {.verdict = DOCTOR_OK};

		checks[i].run(&h, &res);
		doctor_emit(&o, checks[i].name, &res);
	}
	if (h.ctrl)
		ublk_ctrl_destroy(h.ctrl);
	free(h.device);
	r = extra ? extra(&o, ctx) : 0;
	if (r < 0)
		o.worst = DOCTOR_BAD;
	return o.worst == DOCTOR_BAD ? DOCTOR_CANNOT_RUN : DOCTOR_CAN_RUN;
}

int doctor_run(FILE *out, bool json)
{
	return doctor_checks(out, json, NULL, NULL);
}
