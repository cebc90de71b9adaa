/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /proc says about tasks and about who holds a device. Everything read is untrusted and may
 * vanish meanwhile; nothing is opened that belongs to a traced process, and reads that may hang on
 * its memory map have a deadline (guard.h). One thread.
 */
#ifndef GFS_TRACING_PROCFS_H
#define GFS_TRACING_PROCFS_H

#include "tracing/rec.h"

/*
 * All of *out but the user stack. What cannot be read stays 0 or "": the kernel stack needs
 * CAP_SYS_ADMIN. 0; -ESRCH: no such thread. At most GUARD_TIMEOUT_MS.
 */
int procfs_task(uint32_t tid, struct rec_task *out) __must_check;

/* The name of a thread, printable; "" if it is gone. */
void procfs_comm(uint32_t tid, char comm[REC_COMM_LEN]);

/* What the text of a status file says: ids, state, killed. False: it is none. */
bool procfs_status_parse(const char *status, struct rec_task *out) __must_check;

/*
 * Every thread that sleeps with one of the symbols (or a clone of it) in its kernel stack, for what
 * hung before we came. Threads in D state are looked into; of those in S only io_uring workers and
 * those whose wchan is one of the symbols. Number of calls, or -errno (-EPERM: stacks cannot be
 * read).
 */
int procfs_threads_in(const char *const *symbols, size_t nr,
		      void (*fn)(void *ctx, const struct rec_task *t), void *ctx) __must_check;
/* Symbols that something which already hangs would wait in. */
extern const char *const procfs_hang_symbols[];
extern const size_t procfs_nr_hang_symbols;

/* Does the stack ("symbol+0x1;symbol …") contain the symbol, or "symbol.isra.0" and the like? */
bool procfs_stack_has(const char *kstack, const char *symbol);

/*
 * Who holds ublk device `dev` (-1: any): char or block device open, mapped, registered with an
 * io_uring, mounted, used as swap or by another block device. tgid 0: the kernel, or a mount that
 * everybody sees. Number of calls, or -errno. Looks at every process, which takes some 50 us each.
 */
int procfs_openers(int32_t dev, void (*fn)(void *ctx, const struct rec_opener *o),
		   void *ctx) __must_check;
/* Look for devices below another directory than "/sys", in tests; NULL: "/sys" again. */
void procfs_set_sysfs(const char *path);
const char *procfs_sysfs(void);

/* One line of a small file, without its newline; false if it cannot be read. */
bool procfs_line(const char *path, char *buf, size_t size);

#endif
