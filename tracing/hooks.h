/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attach points. One table lists each hook's variants in order of preference; what this kernel has
 * is found out at start, the rest is off, with the reason. Everything is attached read-only and
 * goes away with the process, however it ends. One thread.
 */
#ifndef GFS_TRACING_HOOKS_H
#define GFS_TRACING_HOOKS_H

#include "tracing/kallsyms.h"
#include "tracing/rec.h"

struct btf;
struct gfs_trace_bpf;
struct hooks;

/* Must the driver be there for this hook to be useful, and is it there? */
enum hooks_driver { HOOKS_NO_DRIVER, HOOKS_DRIVER };

/*
 * Load and attach what this host offers. verbose: libbpf's own messages to stderr. 0; -EPERM,
 * -ENOSYS, … with a sentence that names what is missing (capability, BTF, lockdown). Takes about 1
 * s.
 */
int hooks_attach(const struct kallsyms *syms, bool verbose, struct hooks **out, char *err,
		 size_t err_len) __must_check;
void hooks_detach(struct hooks *h);
/* Names of the capabilities that loading needs and this process lacks, "" if none. */
void hooks_missing_caps(char *buf, size_t size);
/* Why the kernel's symbols could not be had, and what to do: res is of kallsyms_open(). */
void hooks_explain_kallsyms(int res, char *err, size_t err_len);
/* Is ublk_drv there, and through with its initialisation? */
bool hooks_driver_there(void);
/* The loaded programs and maps. */
struct gfs_trace_bpf *hooks_skel(struct hooks *h);
/* Types of the kernel and, if it is there, of ublk_drv. */
const struct btf *hooks_btf(const struct hooks *h);
enum hooks_driver hooks_driver(const struct hooks *h);
/* What each hook became, as REC_HOOK records. */
void hooks_list(const struct hooks *h, void (*fn)(void *ctx, const struct rec *r), void *ctx);
/*
 * Listen to the daemon's timing probe in a program, in every process that runs it now or later
 * (once per file). 0; -ENOENT: it has no such probe (a foreign server); -errno with a sentence.
 */
int hooks_attach_program(struct hooks *h, const char *path, char *err, size_t err_len) __must_check;
/* The same of the program that process pid runs. */
int hooks_attach_daemon(struct hooks *h, uint32_t pid, char *err, size_t err_len) __must_check;

#endif
