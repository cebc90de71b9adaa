// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * User stacks from outside; see ustack.h. libdwfl unwinds and symbolises, with callbacks of ours
 * for everything that touches the process: its registers are the caller's, its memory comes by
 * process_vm_readv, its files by /proc/PID/map_files, so that deleted binaries and other mount
 * namespaces work. Debug files are looked for on this disk only. Where CFI ends, frame pointers go
 * on. Files are read, not mapped: a binary that is cut short, or whose disk is the one that fails,
 * is an error then and not a SIGBUS. A file that lives on a ublk device is not read at all.
 */
#include "tracing/ustack.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "tracing/blockdev.h"
#include "tracing/guard.h"

#define PROCS_MAX     16 /* processes kept; each holds the tables of its binaries */
#define FRAMES_MAX    256
#define PAGES         16 /* of the stack, kept during one unwinding */
#define PAGE_BYTES    4096u
#define READS_MAX     2048 /* pages read for one stack: garbage ends in bounded time */
#define ELF_MAX       (4 * GiB)
#define LINES_ELF_MAX (256 * MiB) /* a larger binary's line tables take too long */
#define MAPS_MAX      (8 * MiB)
#define REPORT_NS     (2 * NSEC_PER_SEC) /* a process's modules are not looked up more often */

enum { DW_RSP = 7, DW_RIP = 16 };

struct page {
	uint64_t addr; /* 1: empty */
	uint8_t data[PAGE_BYTES];
};

struct frame {
	uint64_t pc, sp;
	bool activation; /* pc is where it stands, not where it returns to */
};

struct range {
	uint64_t from, to;
};

/* One stack being read. */
struct walk {
	uint32_t tid;
	const struct ustack_regs *regs;
	struct frame frame[FRAMES_MAX];
	unsigned int nr, max;
	struct page page[PAGES];
	unsigned int next_page, reads;
	bool unknown; /* a pc lies in no module we know */
	/* Memory that is no file's, by address. Only that is read: a page of a file may have to
	   come from the very device that hangs, and a garbage frame pointer may point anywhere. */
	struct range *anon;
	size_t nr_anon;
};

struct proc {
	uint32_t tgid;
	/* The thread asked about last: of a killed process the leader may be gone, and with it the
	   way to its memory, while the thread that hangs is still there. */
	uint32_t tid;
	uint64_t identity; /* of the program: changes with exec, and with the process of that number
			    */
	uint64_t used_ns, reported_ns;
	Dwfl *dwfl;
	bool attached;
	struct walk *walk;
};

struct ustack_cache {
	struct proc *proc[PROCS_MAX];
};

static bool is_anon(const struct walk *w, uint64_t addr)
{
	size_t lo = 0, hi = w->nr_anon;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (w->anon[mid].to <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < w->nr_anon && w->anon[lo].from <= addr;
}

static bool read_memory(struct walk *w, uint64_t addr, void *buf, size_t len)
{
	uint8_t *out = buf;

	while (len) {
		uint64_t base = addr & ~(uint64_t)(PAGE_BYTES - 1);
		size_t at = (size_t)(addr - base), n = MIN(len, PAGE_BYTES - at);
		struct page *p = NULL;

		for (unsigned int i = 0; i < PAGES && !p; i++)
			if (w->page[i].addr == base)
				p = &w->page[i];
		if (!p) {
			struct iovec local, remote = {(void *)(uintptr_t)base, PAGE_BYTES};

			if (!is_anon(w, base) || w->reads++ >= READS_MAX)
				return false;
			p = &w->page[w->next_page];
			w->next_page = (w->next_page + 1) % PAGES;
			p->addr = 1;
			local = (struct iovec){p->data, PAGE_BYTES};
			if (process_vm_readv((pid_t)w->tid, &local, 1, &remote, 1, 0) != PAGE_BYTES)
				return false;
			p->addr = base;
		}
		memcpy(out, p->data + at, n);
		out += n;
		addr += n;
		len -= n;
	}
	return true;
}

/*
 * A mapped file: a regular one, not on a ublk device, whose reads would wait for what we are to
 * explain. -errno.
 */
static int open_mapped(const char *path, uint64_t ino, uint64_t max)
{
	struct stat st;
	int fd;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (ino && st.st_ino != ino) || (uint64_t)st.st_size > max)
		return -EINVAL;
	if (blockdev_is_ublk(major(st.st_dev), minor(st.st_dev), NULL))
		return -EDEADLK;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

/* The line of maps whose mapping begins at base. */
static bool mapping_at(uint32_t tid, uint64_t base, uint64_t *end, uint64_t *ino)
{
	char path[40], *data, *save = NULL;
	bool found = false;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%u/maps", tid);
	if (guard_read(path, MAPS_MAX, GUARD_TIMEOUT_MS, &data, &len))
		return false;
	for (char *l = strtok_r(data, "\n", &save); l && !found; l = strtok_r(NULL, "\n", &save)) {
		unsigned long long from, to, inode;

		found = sscanf(l, "%llx-%llx %*s %*x %*x:%*x %llu", &from, &to, &inode) == 3 &&
			from == base;
		if (found) {
			*end = to;
			*ino = inode;
		}
	}
	free(data);
	return found;
}

/* Fill w->anon from maps, whose lines are sorted. */
static int read_anon(struct walk *w)
{
	char path[40], *data, *save = NULL;
	size_t len, lines = 1;
	int r;

	snprintf(path, sizeof(path), "/proc/%u/maps", w->tid);
	r = guard_read(path, MAPS_MAX, GUARD_TIMEOUT_MS, &data, &len);
	if (r)
		return r;
	for (size_t i = 0; i < len; i++)
		lines += data[i] == '\n';
	w->anon = malloc(lines * sizeof(*w->anon));
	for (char *l = strtok_r(data, "\n", &save); w->anon && l; l = strtok_r(NULL, "\n", &save)) {
		unsigned long long from, to, ino;

		if (sscanf(l, "%llx-%llx %*s %*x %*x:%*x %llu", &from, &to, &ino) == 3 && !ino)
			w->anon[w->nr_anon++] = (struct range){from, to};
	}
	free(data);
	return w->anon ? 0 : -ENOMEM;
}

static int open_module(uint32_t tid, const char *name, uint64_t base)
{
	char path[PATH_MAX + 64], exe[PATH_MAX];
	uint64_t end, ino;
	ssize_t n;
	int fd;

	if (!mapping_at(tid, base, &end, &ino) || !ino)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/%u/map_files/%llx-%llx", tid, (unsigned long long)base,
		 (unsigned long long)end);
	fd = open_mapped(path, 0, ELF_MAX);
	if (fd >= 0 || fd == -EDEADLK)
		return fd;
	/* map_files needs CAP_SYS_ADMIN; these do not. */
	snprintf(path, sizeof(path), "/proc/%u/exe", tid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[MAX(n, 0)] = '\0';
	if (!strcmp(exe, name))
		return open_mapped(path, 0, ELF_MAX);
	snprintf(path, sizeof(path), "/proc/%u/root%.*s", tid, PATH_MAX - 1, name);
	return open_mapped(path, ino, ELF_MAX);
}

static int find_elf(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr base,
		    char **file_name, Elf **elf)
{
	const struct proc *p = *userdata;
	unsigned int pid;
	int fd;

	/* "[vdso: 123]" is read from memory. */
	if (sscanf(name, "[vdso: %u", &pid) == 1)
		return dwfl_linux_proc_find_elf(mod, userdata, name, base, file_name, elf);
	if (!p || name[0] != '/')
		return -1;
	fd = open_module(p->tid, name, base);
	if (fd < 0)
		return -1;
	*elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!*elf || elf_kind(*elf) != ELF_K_ELF) {
		elf_end(*elf);
		*elf = NULL;
		close(fd);
		return -1;
	}
	*file_name = strdup(name);
	return fd;
}

/* /usr/lib/debug by build id, and nothing else: never the network. */
static int find_debuginfo(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr base,
			  const char *file, const char *link, GElf_Word crc, char **out)
{
	const unsigned char *id;
	GElf_Addr vaddr;
	int len = dwfl_module_build_id(mod, &id, &vaddr), fd;
	char path[192];
	size_t n;

	if (len < 2 || len > 64)
		return -1;
	n = (size_t)snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/%02x/", id[0]);
	for (int i = 1; i < len; i++)
		n += (size_t)snprintf(path + n, sizeof(path) - n, "%02x", id[i]);
	snprintf(path + n, sizeof(path) - n, ".debug");
	fd = open_mapped(path, 0, LINES_ELF_MAX);
	if (fd < 0)
		return -1;
	*out = strdup(path);
	return fd;
}

static const Dwfl_Callbacks callbacks = {
	.find_elf = find_elf,
	.find_debuginfo = find_debuginfo,
};

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
	struct proc *p = arg;

	if (*thread_arg)
		return 0;
	*thread_arg = p->walk;
	return (pid_t)p->walk->tid;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
	struct proc *p = arg;

	*thread_arg = p->walk;
	return (uint32_t)tid == p->walk->tid;
}

static bool memory_read(Dwfl *dwfl, Dwarf_Addr addr, Dwarf_Word *result, void *arg)
{
	struct proc *p = arg;
	uint64_t v;

	if (!read_memory(p->walk, addr, &v, sizeof(v)))
		return false;
	*result = v;
	return true;
}

static bool set_initial_registers(Dwfl_Thread *thread, void *arg)
{
	struct walk *w = arg;
	Dwarf_Word r[USTACK_REGS];

	for (unsigned int i = 0; i < USTACK_REGS; i++)
		r[i] = w->regs->r[i];
	return dwfl_thread_state_registers(thread, 0, USTACK_REGS, r);
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
	.next_thread = next_thread,
	.get_thread = get_thread,
	.memory_read = memory_read,
	.set_initial_registers = set_initial_registers,
};

/* Each module is to know whose it is. */
static int set_userdata(Dwfl_Module *mod, void **userdata, const char *name, Dwarf_Addr start,
			void *arg)
{
	*userdata = arg;
	return DWARF_CB_OK;
}

static int proc_report(struct proc *p, char *err, size_t err_len)
{
	int r;

	dwfl_report_begin(p->dwfl);
	r = dwfl_linux_proc_report(p->dwfl, (pid_t)p->tid);
	if (dwfl_report_end(p->dwfl, NULL, NULL) || r) {
		snprintf(err, err_len, "its memory map cannot be read: %s",
			 r > 0 ? strerror(r) : dwfl_errmsg(-1));
		return r > 0 ? -r : -EIO;
	}
	dwfl_getmodules(p->dwfl, set_userdata, p, 0);
	p->reported_ns = now_ns();
	if (!p->attached) {
		p->attached =
			dwfl_attach_state(p->dwfl, NULL, (pid_t)p->tgid, &thread_callbacks, p);
		if (!p->attached) {
			snprintf(err, err_len, "no binary of it can be read: %s", dwfl_errmsg(-1));
			return -ENOEXEC;
		}
	}
	return 0;
}

static void proc_free(struct proc *p)
{
	if (!p)
		return;
	if (p->dwfl)
		dwfl_end(p->dwfl);
	free(p);
}

/*
 * What changes when the process is another one or runs another program: its start time, and the
 * auxiliary vector, which has random bytes' address and the bases of the binaries.
 */
static int proc_identity(uint32_t tgid, uint32_t tid, uint64_t *out)
{
	char path[40], *data, *p;
	size_t len;
	int r;

	snprintf(path, sizeof(path), "/proc/%u/stat", tgid);
	r = guard_read(path, 1024, GUARD_TIMEOUT_MS, &data, &len);
	if (r)
		return r;
	/* Field 22, counted after the name. */
	p = strrchr(data, ')');
	for (int field = 2; p && field < 22; field++) {
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	*out = p ? strtoull(p, NULL, 10) : 0;
	free(data);
	snprintf(path, sizeof(path), "/proc/%u/auxv", tid);
	r = guard_read(path, 4096, GUARD_TIMEOUT_MS, &data, &len);
	if (r)
		return r;
	for (size_t i = 0; i < len; i++)
		*out = (*out ^ (uint8_t)data[i]) * 1099511628211ull;
	free(data);
	return len ? 0 : -ESRCH;
}

static struct proc **slot_of(struct ustack_cache *c, uint32_t tgid)
{
	struct proc **oldest = &c->proc[0];

	for (unsigned int i = 0; i < PROCS_MAX; i++)
		if (c->proc[i] && c->proc[i]->tgid == tgid)
			return &c->proc[i];
	for (unsigned int i = 0; i < PROCS_MAX; i++) {
		if (!c->proc[i])
			return &c->proc[i];
		if (c->proc[i]->used_ns < (*oldest)->used_ns)
			oldest = &c->proc[i];
	}
	return oldest;
}

static int proc_get(struct ustack_cache *c, uint32_t tgid, uint32_t tid, struct proc **out,
		    char *err, size_t err_len)
{
	struct proc **slot = slot_of(c, tgid), *p = *slot;
	uint64_t identity;
	int r = proc_identity(tgid, tid, &identity);

	if (r) {
		ustack_cache_drop(c, tgid);
		return r;
	}
	if (p && (p->tgid != tgid || p->identity != identity)) {
		proc_free(p);
		p = *slot = NULL;
	}
	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		p->tgid = tgid;
		p->tid = tid;
		p->identity = identity;
		p->dwfl = dwfl_begin(&callbacks);
		r = p->dwfl ? proc_report(p, err, err_len) : -ENOMEM;
		if (r) {
			proc_free(p);
			return r;
		}
		*slot = p;
	}
	p->tid = tid;
	p->used_ns = now_ns();
	*out = p;
	return 0;
}

static bool add_frame(struct walk *w, const struct frame *f)
{
	const struct frame *last = w->nr ? &w->frame[w->nr - 1] : NULL;

	/* Stacks grow down: a caller's frame lies above. Else it goes round in circles. */
	if (w->nr >= w->max || !f->pc || (last && w->nr > 1 && f->sp && f->sp <= last->sp))
		return false;
	w->frame[w->nr++] = *f;
	return true;
}

static int one_frame(Dwfl_Frame *state, void *arg)
{
	struct walk *w = arg;
	struct frame f = {0};
	Dwarf_Word v;

	if (!dwfl_frame_pc(state, &f.pc, &f.activation))
		return DWARF_CB_ABORT;
	if (dwfl_frame_reg(state, DW_RSP, &v) == 0)
		f.sp = v;
	return add_frame(w, &f) ? DWARF_CB_OK : DWARF_CB_ABORT;
}

/*
 * By CFI; where a binary has none, libdwfl goes on by frame pointers. Those may be anything in code
 * that keeps none: what they found last and lies in no binary is left out.
 */
static void unwind(struct proc *p, struct walk *w)
{
	for (unsigned int i = 0; i < PAGES; i++)
		w->page[i].addr = 1;
	w->nr = w->reads = w->next_page = 0;
	w->unknown = false;
	p->walk = w;
	/* Its result is no news: an error is how most stacks end. */
	(void)!dwfl_getthread_frames(p->dwfl, (pid_t)w->tid, one_frame, w);
	p->walk = NULL;
	if (!w->nr)
		w->frame[w->nr++] = (struct frame){.pc = w->regs->r[DW_RIP], .activation = true};
	for (unsigned int i = 0; i < w->nr; i++)
		if (!dwfl_addrmodule(p->dwfl, w->frame[i].pc))
			w->unknown = true;
	while (w->nr > 1 && !dwfl_addrmodule(p->dwfl, w->frame[w->nr - 1].pc))
		w->nr--;
}

/* Names come from the process: none may look like a separator of ours. */
static void append(char *buf, size_t size, size_t *used, const char *text)
{
	for (; *text && *used + 1 < size; text++) {
		unsigned char ch = (unsigned char)*text;

		buf[(*used)++] = ch == ';' || ch < 0x20 || ch == 0x7f ? '_' : (char)ch;
	}
	buf[*used] = '\0';
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* " (file.c:34)", "" if there are no line tables; only of binaries that are small enough. */
static void source_line(Dwfl_Module *mod, uint64_t pc, char *out, size_t size)
{
	GElf_Addr bias;
	Elf *elf = dwfl_module_getelf(mod, &bias);
	GElf_Ehdr eh;
	Dwfl_Line *line;
	const char *file;
	int nr;

	out[0] = '\0';
	/* Section headers come last: where they begin is how large it is. */
	if (!elf || !gelf_getehdr(elf, &eh) || eh.e_shoff > LINES_ELF_MAX)
		return;
	line = dwfl_module_getsrc(mod, pc);
	file = line ? dwfl_lineinfo(line, NULL, &nr, NULL, NULL, NULL) : NULL;
	if (file)
		snprintf(out, size, " (%s:%d)", base_name(file), nr);
}

static void name_frame(struct proc *p, const struct frame *f, char *out, size_t size)
{
	/* A return address may be the first byte of the next function, or line. */
	uint64_t pc = f->activation ? f->pc : f->pc - 1;
	Dwfl_Module *mod = dwfl_addrmodule(p->dwfl, pc);
	const char *path, *sym;
	char module[64], line[128];
	GElf_Off off = 0;
	Dwarf_Addr start = 0;
	GElf_Sym es;

	if (!mod) {
		snprintf(out, size, "0x%llx", (unsigned long long)f->pc);
		return;
	}
	path = dwfl_module_info(mod, NULL, &start, NULL, NULL, NULL, NULL, NULL);
	snprintf(module, sizeof(module), "%s", path ? base_name(path) : "?");
	module[strcspn(module, " :")] = '\0';
	sym = dwfl_module_addrinfo(mod, pc, &off, &es, NULL, NULL, NULL);
	if (!sym) {
		snprintf(out, size, "%s+0x%llx", module, (unsigned long long)(f->pc - start));
		return;
	}
	source_line(mod, pc, line, sizeof(line));
	/* Without the version of the symbol: "__libc_start_main@@GLIBC_2.34". */
	snprintf(out, size, "%s!%.*s+0x%llx%s", module, (int)MIN(strcspn(sym, "@"), 160u), sym,
		 (unsigned long long)(off + (f->pc - pc)), line);
}

static void print(struct proc *p, const struct walk *w, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (unsigned int i = 0; i < w->nr; i++) {
		char text[400];

		name_frame(p, &w->frame[i], text, sizeof(text));
		/* Whole frames only. */
		if (used + strlen(text) + 2 > size)
			return;
		if (used)
			buf[used++] = ';';
		append(buf, size, &used, text);
	}
}

struct ustack_cache *ustack_cache_new(void)
{
	elf_version(EV_CURRENT);
	return calloc(1, sizeof(struct ustack_cache));
}

void ustack_cache_free(struct ustack_cache *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < PROCS_MAX; i++)
		proc_free(c->proc[i]);
	free(c);
}

void ustack_cache_drop(struct ustack_cache *c, uint32_t tgid)
{
	for (unsigned int i = 0; i < PROCS_MAX; i++) {
		if (c->proc[i] && c->proc[i]->tgid == tgid) {
			proc_free(c->proc[i]);
			c->proc[i] = NULL;
		}
	}
}

/* A sentence for what stands in the way. */
static int sorry(int r, const struct ustack_regs *regs, char *err, size_t err_len)
{
	switch (r) {
	case -ENOENT:
	case -ESRCH:
		snprintf(err, err_len, "the process is gone");
		return -ESRCH;
	case -EACCES:
	case -EPERM:
		snprintf(err, err_len, "not permitted: needs CAP_SYS_PTRACE");
		return -EPERM;
	case -ETIMEDOUT:
		snprintf(err, err_len, "its memory is locked by what hangs");
		return r;
	case -EFAULT:
		snprintf(err, err_len, "no memory at its stack pointer 0x%llx",
			 (unsigned long long)regs->r[DW_RSP]);
		return r;
	default:
		snprintf(err, err_len, "%s", strerror(-r));
		return r;
	}
}

/*
 * Is its memory to be had at all? The command line is read under the same lock as all else,
 * with a deadline; the word at sp then without one.
 */
static int check_memory(struct walk *w)
{
	uint64_t sp = w->regs->r[DW_RSP], word;
	struct iovec local = {&word, sizeof(word)}, remote = {(void *)(uintptr_t)sp, sizeof(word)};
	char path[40], *data;
	size_t len;
	int r;

	snprintf(path, sizeof(path), "/proc/%u/cmdline", w->tid);
	r = guard_read(path, 64, GUARD_TIMEOUT_MS, &data, &len);
	if (r)
		return r;
	free(data);
	r = read_anon(w);
	if (r)
		return r;
	if (!is_anon(w, sp))
		return -EFAULT;
	if (process_vm_readv((pid_t)w->tid, &local, 1, &remote, 1, 0) != sizeof(word))
		return errno ? -errno : -EFAULT;
	return 0;
}

int ustack_read(struct ustack_cache *c, uint32_t tgid, uint32_t tid, const struct ustack_regs *regs,
		unsigned int max_frames, char *buf, size_t size, char *err, size_t err_len)
{
	struct walk *w;
	struct proc *p;
	int r;

	if (!size || !err_len)
		return -EINVAL;
	buf[0] = err[0] = '\0';
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->tid = tid;
	w->regs = regs;
	w->max = MIN(MAX(max_frames, 1u), FRAMES_MAX);
	r = check_memory(w);
	if (!r)
		r = proc_get(c, tgid, tid, &p, err, err_len);
	if (r)
		goto out;
	unwind(p, w);
	/* It may have loaded a library since. */
	if (w->unknown && now_ns() - p->reported_ns > REPORT_NS) {
		r = proc_report(p, err, err_len);
		if (r)
			goto out;
		unwind(p, w);
	}
	print(p, w, buf, size);
out:
	if (r && !err[0])
		r = sorry(r, regs, err, err_len);
	free(w->anon);
	free(w);
	return r;
}
