// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Choosing, loading and attaching the BPF programs; see hooks.h. The table is the whole policy: a
 * hook takes the first variant whose target exists in this kernel's BTF (or symbols) and whose
 * program the verifier accepts.
 *
 * A skeleton loads as a whole: one target that is missing fails it all. So programs are chosen
 * first, by BTF; if the load still fails, the program that libbpf names is dropped and its hook's
 * next variant tried.
 */
#include "tracing/hooks.h"
#include "bpf/gfs_trace.h"
#include "bpf/gfs_trace.skel.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <cap-ng.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define VARIANTS_MAX 3
#define PROGS_MAX    2
#define LINKS_MAX    64
#define BINARIES_MAX 64

enum variant_kind { VAR_NONE, VAR_FENTRY, VAR_TP_BTF, VAR_KPROBE };

struct variant {
	enum variant_kind kind;
	const char *target;          /* function or tracepoint */
	const char *prog[PROGS_MAX]; /* of a kprobe: entry, return */
};

struct hook {
	const char *name;
	const char *what_for;
	bool driver; /* its target is in ublk_drv */
	struct variant v[VARIANTS_MAX];
};

static const struct hook table[] = {
	{"ctrl",
	 "control commands",
	 true,
	 {{VAR_FENTRY, "ublk_ctrl_uring_cmd", {"gt_ctrl_enter", "gt_ctrl_exit"}},
	  {VAR_KPROBE, "ublk_ctrl_uring_cmd", {"gt_ctrl_enter_kp", "gt_ctrl_exit_kp"}}}},
	{"ctrl.punt",
	 "commands given to io-wq",
	 false,
	 {{VAR_TP_BTF, "io_uring_queue_async_work", {"gt_punt"}}}},
	{"ctrl.worker",
	 "commands taken by an io-wq worker",
	 false,
	 {{VAR_FENTRY, "io_wq_submit_work", {"gt_worker"}}}},
	{"start.add_disk",
	 "START_DEV past readiness",
	 false,
	 {{VAR_FENTRY, "device_add_disk", {"gt_add_disk", "gt_add_disk_end"}}}},
	/* Where the first elevator is set up by a function of its own: 6.12. */
	{"start.elevator",
	 "START_DEV sets up the elevator",
	 false,
	 {{VAR_FENTRY, "elevator_init_mq", {"gt_elv_init", "gt_elv_init_end"}},
	  {VAR_FENTRY, "elevator_set_default", {"gt_elv_init", "gt_elv_init_end"}}}},
	{"start.scan",
	 "partition scan",
	 false,
	 {{VAR_FENTRY, "bdev_disk_changed", {"gt_scan", "gt_scan_end"}}}},
	{"freeze.start",
	 "queue freezes begin",
	 false,
	 {{VAR_FENTRY, "blk_freeze_queue_start", {"gt_freeze_start"}}}},
	{"freeze.start.outer",
	 "the same, where that function is inlined",
	 false,
	 {{VAR_FENTRY, "blk_mq_freeze_queue_nomemsave", {"gt_freeze_start_outer"}},
	  {VAR_FENTRY, "blk_mq_freeze_queue", {"gt_freeze_start_outer"}}}},
	{"freeze.wait",
	 "waits for freezes",
	 false,
	 {{VAR_FENTRY, "blk_mq_freeze_queue_wait", {"gt_freeze_wait", "gt_freeze_wait_end"}}}},
	{"freeze.end",
	 "queue freezes end",
	 false,
	 {{VAR_FENTRY, "__blk_mq_unfreeze_queue", {"gt_unfreeze"}}}},
	{"freeze.end.outer",
	 "the same, where that function is inlined",
	 false,
	 {{VAR_FENTRY, "blk_mq_unfreeze_queue_nomemrestore", {"gt_unfreeze_outer"}},
	  {VAR_FENTRY, "blk_mq_unfreeze_queue", {"gt_unfreeze_outer"}}}},
	{"elevator",
	 "elevator switches",
	 false,
	 {{VAR_FENTRY, "elevator_switch", {"gt_elv_switch", "gt_elv_switch_end"}}}},
	{"attr",
	 "writes to queue attributes",
	 false,
	 {{VAR_FENTRY, "queue_attr_store", {"gt_attr_store", "gt_attr_store_end"}}}},
	{"server.open",
	 "servers open their device",
	 true,
	 {{VAR_FENTRY, "ublk_ch_open", {"gt_ch_open"}}}},
	{"server.release",
	 "servers let go of their device",
	 true,
	 {{VAR_FENTRY, "ublk_ch_release", {"gt_ch_release"}}}},
	{"request.latency",
	 "latency histograms",
	 false,
	 {{VAR_TP_BTF, "block_rq_complete", {"gt_rq_complete"}}}},
};
#define HOOKS ARRAY_SIZE(table)

/* Loaded in any case, attached by hand or never. */
static const char *const always[] = {"gt_peek", "gt_regs_iter", "gt_timing"};

struct chosen {
	int variant; /* -1: off */
	char target[96];
	char reason[160];
};

struct binary {
	dev_t dev;
	ino_t ino;
	int res;
};

struct hooks {
	struct gfs_trace_bpf *skel;
	struct btf *vmlinux, *module; /* parsed once: it takes a good part of the start */
	struct chosen chosen[HOOKS];
	struct bpf_link *link[LINKS_MAX];
	unsigned int nr_links;
	bool driver;
	struct binary binary[BINARIES_MAX];
	unsigned int nr_binaries;
	char daemon_variant[96], daemon_reason[160];
};

/* ---- libbpf's messages: the name of the program that failed is only there ---- */

static char failed_prog[64];
static bool print_all;

static int on_print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[512];
	const char *p;
	va_list copy;

	va_copy(copy, ap);
	vsnprintf(line, sizeof(line), fmt, copy);
	va_end(copy);
	p = strstr(line, "prog '");
	if (level == LIBBPF_WARN && p && strstr(line, "failed to"))
		sscanf(p + 6, "%63[^']", failed_prog);
	if (print_all && level != LIBBPF_DEBUG)
		vfprintf(stderr, fmt, ap);
	return 0;
}

/* ---- what this host lacks, in a sentence ---- */

void hooks_missing_caps(char *buf, size_t size)
{
	static const struct {
		unsigned int cap;
		const char *name;
	} caps[] = {{CAP_BPF, "CAP_BPF"}, {CAP_PERFMON, "CAP_PERFMON"}};
	size_t len = 0;

	buf[0] = '\0';
	capng_get_caps_process();
	if (capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_ADMIN))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		if (capng_have_capability(CAPNG_EFFECTIVE, caps[i].cap))
			continue;
		len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? ", " : "",
					caps[i].name);
		len = MIN(len, size - 1);
	}
}

void hooks_explain_kallsyms(int res, char *err, size_t err_len)
{
	char caps[64];

	hooks_missing_caps(caps, sizeof(caps));
	if (res == -EPERM && capng_have_capability(CAPNG_EFFECTIVE, CAP_SYSLOG))
		snprintf(err, err_len,
			 "/proc/kallsyms hides its addresses "
			 "(sysctl kernel.kptr_restrict is 2?)");
	else if (res == -EPERM)
		snprintf(err, err_len,
			 "missing capability: CAP_SYSLOG%s%s (run as root, or grant it)",
			 *caps ? ", " : "", caps);
	else
		snprintf(err, err_len, "/proc/kallsyms: %s", strerror(-res));
}

/* A module has its directory before it has run its init function. */
bool hooks_driver_there(void)
{
	char state[16] = "";
	int fd = open("/sys/module/ublk_drv/initstate", O_RDONLY | O_CLOEXEC);

	/* Built in, it has no such file. */
	if (fd < 0)
		return !access("/sys/module/ublk_drv", F_OK);
	if (read(fd, state, sizeof(state) - 1) < 0)
		state[0] = '\0';
	close(fd);
	return !strncmp(state, "live", 4);
}

/* "none [integrity] confidentiality" */
static bool locked_down(void)
{
	char mode[64] = "";
	int fd = open("/sys/kernel/security/lockdown", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (read(fd, mode, sizeof(mode) - 1) < 0)
		mode[0] = '\0';
	close(fd);
	return strstr(mode, "[confidentiality]");
}

static int explain(int res, char *err, size_t err_len)
{
	char caps[64];

	hooks_missing_caps(caps, sizeof(caps));
	if (*caps)
		snprintf(err, err_len, "missing capability: %s (run as root, or grant it)", caps);
	else if (access("/sys/kernel/btf/vmlinux", R_OK))
		snprintf(err, err_len,
			 "this kernel has no BTF (/sys/kernel/btf/vmlinux: %s); "
			 "CONFIG_DEBUG_INFO_BTF is needed",
			 strerror(errno));
	else if (locked_down())
		snprintf(err, err_len,
			 "the kernel is locked down (confidentiality): BPF may not "
			 "read its memory");
	else
		snprintf(err, err_len, "BPF programs cannot be loaded: %s", strerror(-res));
	return res;
}

/* ---- choosing ---- */

static bool target_exists(const struct hooks *h, const struct variant *v,
			  const struct kallsyms *syms, char *target, size_t size)
{
	char name[96];

	snprintf(target, size, "%s", v->target);
	switch (v->kind) {
	case VAR_FENTRY:
		return btf__find_by_name_kind(h->vmlinux, v->target, BTF_KIND_FUNC) > 0 ||
		       (h->module &&
			btf__find_by_name_kind(h->module, v->target, BTF_KIND_FUNC) > 0);
	case VAR_TP_BTF:
		snprintf(name, sizeof(name), "btf_trace_%s", v->target);
		return btf__find_by_name_kind(h->vmlinux, name, BTF_KIND_TYPEDEF) > 0;
	case VAR_KPROBE:
		return syms && !kallsyms_resolve(syms, v->target, target, size);
	case VAR_NONE:
		break;
	}
	return false;
}

static const char *const kind_names[] = {[VAR_NONE] = "off",
					 [VAR_FENTRY] = "fentry",
					 [VAR_TP_BTF] = "tp_btf",
					 [VAR_KPROBE] = "kprobe"};

/* The next variant of hook i after `from` that this kernel has. */
static void choose(struct hooks *h, size_t i, int from, const struct kallsyms *syms)
{
	struct chosen *c = &h->chosen[i];

	for (int n = from; n < VARIANTS_MAX && table[i].v[n].kind; n++) {
		const struct variant *v = &table[i].v[n];
		size_t len = strlen(c->reason);

		if (target_exists(h, v, syms, c->target, sizeof(c->target))) {
			c->variant = n;
			return;
		}
		snprintf(c->reason + len, sizeof(c->reason) - len, "%sno %s %s", len ? "; " : "",
			 v->kind == VAR_KPROBE ? "symbol" : "BTF of", v->target);
	}
	if (table[i].driver && !h->driver)
		snprintf(c->reason, sizeof(c->reason), "ublk_drv is not loaded");
	c->variant = -1;
}

static struct bpf_program *prog_of(const struct hooks *h, const char *name)
{
	return bpf_object__find_program_by_name(h->skel->obj, name);
}

static void autoload_set(struct hooks *h)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, h->skel->obj) bpf_program__set_autoload(p, false);
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		bpf_program__set_autoload(prog_of(h, always[i]), true);
	for (size_t i = 0; i < HOOKS; i++) {
		const struct chosen *c = &h->chosen[i];

		for (int n = 0; c->variant >= 0 && n < PROGS_MAX; n++) {
			const struct variant *v = &table[i].v[c->variant];

			if (!v->prog[n])
				continue;
			p = prog_of(h, v->prog[n]);
			bpf_program__set_autoload(p, true);
			if (v->kind == VAR_FENTRY)
				bpf_program__set_attach_target(p, 0, v->target);
		}
	}
}

/* The hook that program `name` is chosen for; -1: none. */
static int hook_of_prog(const struct hooks *h, const char *name)
{
	for (size_t i = 0; i < HOOKS; i++) {
		for (int n = 0; h->chosen[i].variant >= 0 && n < PROGS_MAX; n++) {
			const char *p = table[i].v[h->chosen[i].variant].prog[n];

			if (p && !strcmp(p, name))
				return (int)i;
		}
	}
	return -1;
}

static void drop(struct hooks *h, size_t i, const char *why, int res, const struct kallsyms *syms)
{
	struct chosen *c = &h->chosen[i];
	const struct variant *v = &table[i].v[c->variant];
	size_t len = strlen(c->reason);

	snprintf(c->reason + len, sizeof(c->reason) - len, "%s%s %s: %s (%s)", len ? "; " : "",
		 kind_names[v->kind], v->target, why, strerror(-res));
	choose(h, i, c->variant + 1, syms);
}

static int load(struct hooks *h, const struct kallsyms *syms)
{
	int res = 0;

	for (size_t tries = 0; tries <= HOOKS * VARIANTS_MAX; tries++) {
		int i;

		h->skel = gfs_trace_bpf__open();
		if (!h->skel)
			return -errno;
		autoload_set(h);
		failed_prog[0] = '\0';
		res = gfs_trace_bpf__load(h->skel);
		if (!res)
			return 0;
		gfs_trace_bpf__destroy(h->skel);
		h->skel = NULL;
		i = hook_of_prog(h, failed_prog);
		if (i < 0)
			return res;
		drop(h, (size_t)i, "refused", res, syms);
	}
	return res;
}

/* ---- attaching ---- */

static int link_add(struct hooks *h, struct bpf_link *link)
{
	if (!link)
		return -errno;
	if (h->nr_links == LINKS_MAX) {
		bpf_link__destroy(link);
		return -ENOSPC;
	}
	h->link[h->nr_links++] = link;
	return 0;
}

static int attach_one(struct hooks *h, size_t i)
{
	const struct chosen *c = &h->chosen[i];
	const struct variant *v = &table[i].v[c->variant];
	unsigned int before = h->nr_links;

	/* The end first: a beginning without an end would stay open for ever. */
	for (int n = PROGS_MAX - 1; n >= 0; n--) {
		struct bpf_program *p = v->prog[n] ? prog_of(h, v->prog[n]) : NULL;
		int res;

		if (!p)
			continue;
		res = link_add(h, v->kind == VAR_KPROBE
					  ? bpf_program__attach_kprobe(p, n == 1, c->target)
					  : bpf_program__attach(p));
		if (res) {
			while (h->nr_links > before)
				bpf_link__destroy(h->link[--h->nr_links]);
			return res;
		}
	}
	return 0;
}

int hooks_attach(const struct kallsyms *syms, bool verbose, struct hooks **out, char *err,
		 size_t err_len)
{
	struct hooks *h = calloc(1, sizeof(*h));
	int res;

	if (!h)
		return -ENOMEM;
	print_all = verbose;
	libbpf_set_print(on_print);
	h->vmlinux = btf__load_vmlinux_btf();
	if (!h->vmlinux) {
		free(h);
		return explain(-ENOENT, err, err_len);
	}
	h->driver = hooks_driver_there();
	h->module = h->driver ? btf__load_module_btf("ublk_drv", h->vmlinux) : NULL;
	for (size_t i = 0; i < HOOKS; i++)
		choose(h, i, 0, syms);
	snprintf(h->daemon_variant, sizeof(h->daemon_variant), "off");
	snprintf(h->daemon_reason, sizeof(h->daemon_reason), "no server with probes seen yet");
	res = load(h, syms);
	if (!res) {
		h->skel->bss->ublk_queue_rq_addr = syms ? kallsyms_addr(syms, "ublk_queue_rq") : 0;
		for (size_t i = 0; i < HOOKS; i++) {
			if (h->chosen[i].variant < 0)
				continue;
			res = attach_one(h, i);
			if (res) {
				struct chosen *c = &h->chosen[i];

				snprintf(c->reason, sizeof(c->reason), "cannot attach to %s: %s",
					 table[i].v[c->variant].target, strerror(-res));
				c->variant = -1;
			}
		}
		res = 0;
	}
	if (res) {
		hooks_detach(h);
		return explain(res, err, err_len);
	}
	*out = h;
	return 0;
}

void hooks_detach(struct hooks *h)
{
	if (!h)
		return;
	while (h->nr_links)
		bpf_link__destroy(h->link[--h->nr_links]);
	gfs_trace_bpf__destroy(h->skel);
	btf__free(h->module);
	btf__free(h->vmlinux);
	free(h);
}

/* A module's types come with the kernel's. */
const struct btf *hooks_btf(const struct hooks *h)
{
	return h->module ? h->module : h->vmlinux;
}

struct gfs_trace_bpf *hooks_skel(struct hooks *h)
{
	return h->skel;
}

enum hooks_driver hooks_driver(const struct hooks *h)
{
	return h->driver ? HOOKS_DRIVER : HOOKS_NO_DRIVER;
}

static void hook_tell(const char *name, const char *variant, const char *reason,
		      void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	struct rec r = {.kind = REC_HOOK, .t_ns = now_ns()};

	snprintf(r.hook.hook, sizeof(r.hook.hook), "%s", name);
	snprintf(r.hook.variant, sizeof(r.hook.variant), "%s", variant);
	snprintf(r.hook.reason, sizeof(r.hook.reason), "%s", reason);
	fn(ctx, &r);
}

void hooks_list(const struct hooks *h, void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	for (size_t i = 0; i < HOOKS; i++) {
		const struct chosen *c = &h->chosen[i];
		char variant[96] = "off";

		if (c->variant >= 0)
			snprintf(variant, sizeof(variant), "%s %.80s",
				 kind_names[table[i].v[c->variant].kind], c->target);
		hook_tell(table[i].name, variant, c->reason, fn, ctx);
	}
	hook_tell("daemon", h->daemon_variant, h->daemon_reason, fn, ctx);
}

/* ---- the daemon's probe ---- */

/* Does the file have a USDT note of our provider? libbpf would complain at length. */
static bool has_probe(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf_Scn *scn = NULL;
	bool found = false;
	Elf *elf;

	if (fd < 0)
		return false;
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	while (elf && !found && (scn = elf_nextscn(elf, scn))) {
		GElf_Shdr sh;
		Elf_Data *data;

		if (!gelf_getshdr(scn, &sh) || sh.sh_type != SHT_NOTE)
			continue;
		data = elf_getdata(scn, NULL);
		found = data && data->d_buf &&
			memmem(data->d_buf, data->d_size, "glidefs\0timing", 15);
	}
	elf_end(elf);
	close(fd);
	return found;
}

int hooks_attach_program(struct hooks *h, const char *path, char *err, size_t err_len)
{
	struct binary *b;
	struct stat st;
	int res;

	if (stat(path, &st)) {
		snprintf(err, err_len, "%s: %s", path, strerror(errno));
		return -errno;
	}
	for (unsigned int i = 0; i < h->nr_binaries; i++)
		if (h->binary[i].dev == st.st_dev && h->binary[i].ino == st.st_ino)
			return h->binary[i].res;
	if (h->nr_binaries == BINARIES_MAX) {
		snprintf(err, err_len, "more than %d server programs", BINARIES_MAX);
		return -ENOSPC;
	}
	if (!has_probe(path)) {
		snprintf(err, err_len, "%s has no glidefs:timing probe", path);
		res = -ENOENT;
	} else {
		/* All processes that run this file, now and later. */
		res = link_add(h, bpf_program__attach_usdt(h->skel->progs.gt_timing, -1, path,
							   "glidefs", "timing", NULL));
		if (res)
			snprintf(err, err_len, "USDT glidefs:timing of %s: %s", path,
				 strerror(-res));
	}
	b = &h->binary[h->nr_binaries++];
	*b = (struct binary){st.st_dev, st.st_ino, res};
	if (!res) {
		snprintf(h->daemon_variant, sizeof(h->daemon_variant), "usdt glidefs:timing");
		h->daemon_reason[0] = '\0';
	} else if (strcmp(h->daemon_variant, "usdt glidefs:timing")) {
		snprintf(h->daemon_reason, sizeof(h->daemon_reason), "%.150s", err);
	}
	return res;
}

int hooks_attach_daemon(struct hooks *h, uint32_t pid, char *err, size_t err_len)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%u/exe", pid);
	return hooks_attach_program(h, path, err, err_len);
}
