/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /proc/kallsyms: addresses to names and names to addresses, of the kernel and its modules. Read
 * once, and again when a module appeared. One thread.
 */
#ifndef GFS_TRACING_KALLSYMS_H
#define GFS_TRACING_KALLSYMS_H

#include "lib/util.h"

struct kallsyms;

/* 0; -EPERM: all addresses are 0 (kptr_restrict; need CAP_SYSLOG or root); -errno. path:
 * "/proc/kallsyms", or a test's file. */
int kallsyms_open(const char *path, struct kallsyms **out) __must_check;
void kallsyms_close(struct kallsyms *k);
/* "symbol+0x12", "symbol+0x12 [module]", or "0xffff…" into buf. */
void kallsyms_name(const struct kallsyms *k, uint64_t addr, char *buf, size_t size);
/* Address of exactly `name`; 0 = none. */
uint64_t kallsyms_addr(const struct kallsyms *k, const char *name);
/*
 * What a function is called in this kernel: `name`, else "name.isra.N", "name.constprop.N",
 * "name.part.N" (never ".cold"), into buf. 0; -ENOENT.
 */
int kallsyms_resolve(const struct kallsyms *k, const char *name, char *buf,
		     size_t size) __must_check;

#endif
