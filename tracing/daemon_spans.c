// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Open spans of a daemon, read from its memory; see daemon_spans.h. The program's file says where
 * the header of the table is linked, the auxiliary vector where the program was loaded.
 *
 * The daemon takes no part in this and may write while we read; it may also be broken, or another
 * program may only look like it. So everything read is checked before it is used, and all sizes
 * here are ours. A poll of an idle daemon costs two reads of a few KiB.
 */
#include "tracing/daemon_spans.h"
#include "lib/spans.h"

#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define SLOTS_MAX      65536u
#define SLOT_BYTES_MAX 4096u
#define BATCH          512u /* slots of one call; at most IOV_MAX */
#define READ_ROUNDS    3    /* of slots that changed under our hands */

struct daemon_spans {
	uint32_t pid;
	int pidfd;
	uint64_t header_addr;
	uint64_t dropped; /* as last read */
	struct rec rec;   /* handed to the caller; large */

	uint32_t *states; /* nr_states of them */
	uint32_t nr_states;
	uint32_t todo[SLOTS_MAX]; /* slots to read in this round */
	struct spans_slot slot[BATCH];
	struct {
		uint32_t seq, gen;
	} again[BATCH];
};

_Static_assert(offsetof(struct spans_slot, seq) == 0 && offsetof(struct spans_slot, gen) == 4,
	       "both are read again by one read of 8 bytes");

/* ---- finding the header ---- */

static int fail(char *err, size_t len, int r, const char *what, uint32_t pid)
{
	snprintf(err, len, "process %u: %s: %s", pid, what, strerror(-r));
	return r;
}

/* EACCES of /proc and EPERM of other processes' memory are one thing to our caller. */
static int access_errno(int e)
{
	return e == EACCES ? -EPERM : -e;
}

/* Link-time address of the section and entry point of the program. -ENOENT: there is no such
 * section. */
static int section_find(int fd, uint64_t *addr, uint64_t *entry)
{
	Elf_Scn *scn = NULL;
	GElf_Ehdr ehdr;
	size_t names;
	int r = -ENOENT;
	Elf *elf;

	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!elf)
		return -ENOENT;
	if (elf_kind(elf) != ELF_K_ELF || gelf_getclass(elf) != ELFCLASS64 ||
	    !gelf_getehdr(elf, &ehdr) || elf_getshdrstrndx(elf, &names))
		goto out;
	while (r && (scn = elf_nextscn(elf, scn))) {
		const char *name;
		GElf_Shdr shdr;

		if (!gelf_getshdr(scn, &shdr))
			break;
		name = elf_strptr(elf, names, shdr.sh_name);
		if (!name || strcmp(name, SPANS_SECTION) || !(shdr.sh_flags & SHF_ALLOC))
			continue;
		*addr = shdr.sh_addr;
		*entry = ehdr.e_entry;
		r = 0;
	}
out:
	elf_end(elf);
	return r;
}

/* Where the kernel entered the program: tells how far from its link address it was loaded. */
static int auxv_entry(uint32_t pid, uint64_t *entry)
{
	Elf64_auxv_t aux[64];
	char path[32];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/auxv", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return access_errno(errno);
	n = read(fd, aux, sizeof(aux));
	if (n < 0)
		n = access_errno(errno);
	close(fd);
	if (n < 0)
		return (int)n;
	for (size_t i = 0; i < (size_t)n / sizeof(aux[0]); i++) {
		if (aux[i].a_type != AT_ENTRY)
			continue;
		*entry = aux[i].a_un.a_val;
		return 0;
	}
	return -ESRCH; /* it is a zombie, or a kernel thread */
}

static int header_find(struct daemon_spans *d)
{
	uint64_t addr, linked, loaded;
	char path[32];
	int fd, r;

	/* Opens the very file that runs, though it may be replaced or deleted by now. */
	snprintf(path, sizeof(path), "/proc/%u/exe", d->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : access_errno(errno);
	r = section_find(fd, &addr, &linked);
	close(fd);
	if (!r)
		r = auxv_entry(d->pid, &loaded);
	if (!r)
		d->header_addr = addr + (loaded - linked);
	return r;
}

/* ---- reading ---- */

static bool ended(const struct daemon_spans *d)
{
	struct pollfd pfd = {.fd = d->pidfd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

/* All of what remote[] names into one buffer. */
static int mem_readv(const struct daemon_spans *d, void *buf, const struct iovec *remote,
		     unsigned int nr)
{
	struct iovec local = {.iov_base = buf};
	ssize_t n;

	for (unsigned int i = 0; i < nr; i++)
		local.iov_len += remote[i].iov_len;
	n = process_vm_readv((pid_t)d->pid, &local, 1, remote, nr, 0);
	if (n == (ssize_t)local.iov_len)
		return 0;
	if (ended(d))
		return -ESRCH;
	return n < 0 ? access_errno(errno) : -EFAULT;
}

static int mem_read(const struct daemon_spans *d, uint64_t addr, void *buf, size_t len)
{
	struct iovec remote = {.iov_base = (void *)(uintptr_t)addr, .iov_len = len};

	return mem_readv(d, buf, &remote, 1);
}

/* [addr, addr + nr * size) is a sane range of user addresses. */
static bool range_ok(uint64_t addr, uint64_t nr, uint64_t size)
{
	const uint64_t top = 1ull << 56;

	return addr && addr % sizeof(uint32_t) == 0 && addr < top && nr * size < top - addr;
}

static int header_read(struct daemon_spans *d, struct spans_header *h)
{
	int r = mem_read(d, d->header_addr, h, sizeof(*h));

	if (r)
		return r;
	if (h->magic != SPANS_MAGIC || h->version != SPANS_VERSION ||
	    h->slot_bytes < sizeof(struct spans_slot) || h->slot_bytes > SLOT_BYTES_MAX ||
	    !h->nr_slots || h->nr_slots > SLOTS_MAX || h->high_water > h->nr_slots ||
	    !range_ok(h->table, h->nr_slots, h->slot_bytes) ||
	    !range_ok(h->states, h->nr_slots, sizeof(uint32_t)))
		return -EPROTONOSUPPORT;
	d->dropped = h->dropped;
	return 0;
}

static int states_read(struct daemon_spans *d, const struct spans_header *h)
{
	if (d->nr_states < h->high_water) {
		uint32_t *p = realloc(d->states, h->high_water * sizeof(*p));

		if (!p)
			return -ENOMEM;
		d->states = p;
		d->nr_states = h->high_water;
	}
	if (!h->high_water)
		return 0;
	return mem_read(d, h->states, d->states, h->high_water * sizeof(*d->states));
}

/* Strings of the table may lack their NUL. */
static void str_take(char *dst, size_t dst_size, const char *src, size_t src_size)
{
	size_t n = strnlen(src, MIN(src_size, dst_size - 1));

	memcpy(dst, src, n);
	dst[n] = '\0';
}

static void slot_rec(struct daemon_spans *d, const struct spans_slot *s, uint64_t now)
{
	struct rec_span *sp = &d->rec.span;

	memset(&d->rec, 0, sizeof(d->rec));
	d->rec.t_ns = now;
	d->rec.kind = REC_SPAN;
	sp->open = true;
	sp->pid = d->pid;
	str_take(sp->event, sizeof(sp->event), s->event, sizeof(s->event));
	str_take(sp->volume, sizeof(sp->volume), s->export_, sizeof(s->export_));
	str_take(sp->key, sizeof(sp->key), s->key, sizeof(s->key));
	sp->dev = s->dev_id;
	sp->op_id = s->op_id;
	sp->link_op_id = s->link_op_id;
	sp->start_ns = MIN(s->start_ns, now);
	sp->attempt = s->attempt;
	sp->is_io = s->is_io != 0;
	if (!sp->is_io)
		return;
	sp->io_op = s->io_op >= 'A' && s->io_op <= 'Z' ? (char)s->io_op : '?';
	sp->queue = s->queue;
	sp->tag = s->tag;
	sp->sector = s->sector;
	sp->nsectors = s->nsectors;
	snprintf(sp->stage, sizeof(sp->stage), "%s",
		 timing_stage_name((enum timing_io_stage)s->stage));
}

/*
 * Read the nr slots of todo[], at most BATCH; those that stood still meanwhile go to fn, those that
 * moved stay in todo[]: *left of them. How many went, or -errno.
 */
static int batch_read(struct daemon_spans *d, const struct spans_header *h, uint32_t *todo,
		      uint32_t nr, uint32_t *left, uint64_t now,
		      void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	struct iovec remote[BATCH];
	int found = 0, r;

	for (uint32_t i = 0; i < nr; i++)
		remote[i] = (struct iovec){
			.iov_base =
				(void *)(uintptr_t)(h->table + (uint64_t)todo[i] * h->slot_bytes),
			.iov_len = sizeof(struct spans_slot)};
	r = mem_readv(d, d->slot, remote, nr);
	if (r)
		return r;
	for (uint32_t i = 0; i < nr; i++)
		remote[i].iov_len = sizeof(d->again[0]);
	r = mem_readv(d, d->again, remote, nr);
	if (r)
		return r;
	*left = 0;
	for (uint32_t i = 0; i < nr; i++) {
		const struct spans_slot *s = &d->slot[i];

		if (!d->again[i].gen)
			continue; /* closed */
		if (s->seq != d->again[i].seq || s->gen != d->again[i].gen || s->seq & 1) {
			todo[(*left)++] = todo[i];
			continue;
		}
		slot_rec(d, s, now);
		fn(ctx, &d->rec);
		found++;
	}
	return found;
}

int daemon_spans_read(struct daemon_spans *d, void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	struct spans_header h;
	uint32_t nr = 0;
	int found = 0, r;

	r = ended(d) ? -ESRCH : header_read(d, &h);
	if (!r)
		r = states_read(d, &h);
	if (r)
		return r;
	for (uint32_t i = 0; i < h.high_water; i++)
		if ((d->states[i] & SPANS_PHASE_MASK) == SPANS_OPEN)
			d->todo[nr++] = i;
	for (int round = 0; nr && round < READ_ROUNDS; round++) {
		uint64_t now = now_ns();
		uint32_t kept = 0;

		for (uint32_t i = 0; i < nr; i += BATCH) {
			uint32_t *todo = &d->todo[i], n = MIN(nr - i, BATCH), left;

			r = batch_read(d, &h, todo, n, &left, now, fn, ctx);
			if (r < 0)
				return r;
			found += r;
			memmove(&d->todo[kept], todo, left * sizeof(*todo));
			kept += left;
		}
		nr = kept;
	}
	return found;
}

uint64_t daemon_spans_dropped(const struct daemon_spans *d)
{
	return d->dropped;
}

/* ---- opening ---- */

int daemon_spans_open(uint32_t pid, struct daemon_spans **out, char *err, size_t err_len)
{
	struct daemon_spans *d = calloc(1, sizeof(*d));
	struct spans_header h;
	int r;

	*out = NULL;
	if (!d)
		return fail(err, err_len, -ENOMEM, "reading its spans", pid);
	d->pid = pid;
	/* First, so that a process which takes over its number later is told from it. */
	d->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (d->pidfd < 0) {
		r = fail(err, err_len, -errno, "pidfd_open", pid);
		free(d);
		return r;
	}
	r = header_find(d);
	if (ended(d))
		r = -ESRCH;
	if (r == -ENOENT)
		snprintf(err, err_len, "process %u: its program keeps no spans", pid);
	else if (r)
		fail(err, err_len, r, "finding its spans", pid);
	if (r)
		goto out;
	r = header_read(d, &h);
	if (r == -EPROTONOSUPPORT)
		snprintf(err, err_len,
			 "process %u: its table of spans is damaged or of another version "
			 "(version %u, %u slots of %u bytes)",
			 pid, h.version, h.nr_slots, h.slot_bytes);
	else if (r)
		fail(err, err_len, r, "reading its memory", pid);
out:
	if (r)
		daemon_spans_close(d);
	else
		*out = d;
	return r;
}

void daemon_spans_close(struct daemon_spans *d)
{
	if (!d)
		return;
	close(d->pidfd);
	free(d->states);
	free(d);
}
