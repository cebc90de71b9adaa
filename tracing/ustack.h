/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The user stack of a thread of another process, from outside and without stopping it: registers
 * from the caller (a BPF task iterator), memory by process_vm_readv, unwound and symbolised by
 * libdwfl with thread callbacks of our own. CFI where the binary has it, else frame pointers. Never
 * ptrace. Costly the first time per process (it reads the ELF files), so processes are cached. One
 * thread.
 */
#ifndef GFS_TRACING_USTACK_H
#define GFS_TRACING_USTACK_H

#include "lib/util.h"

/* x86-64 user registers in DWARF order: rax rdx rcx rbx rsi rdi rbp rsp r8..r15 rip. */
#define USTACK_REGS 17
struct ustack_regs {
	uint64_t r[USTACK_REGS];
};

struct ustack_cache;

struct ustack_cache *ustack_cache_new(void);
void ustack_cache_free(struct ustack_cache *c);
/*
 * "module!symbol+0x12 (file.c:34);…" innermost first, at most max_frames, into buf. 0; or -errno
 * with a sentence in err (gone, no permission, no memory readable at sp). A stack that could be
 * unwound only in part is 0 with what there is. Blocks on file reads only.
 */
int ustack_read(struct ustack_cache *c, uint32_t tgid, uint32_t tid, const struct ustack_regs *regs,
		unsigned int max_frames, char *buf, size_t size, char *err,
		size_t err_len) __must_check;
/* Forget a process that ended or exec'ed. */
void ustack_cache_drop(struct ustack_cache *c, uint32_t tgid);

#endif
