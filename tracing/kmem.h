/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel memory, read only: copies by a BPF program (gt_peek), offsets from the kernel's own BTF. A
 * read of a bad address fails, it never faults. What is read may change meanwhile: check before
 * use. One thread.
 */
#ifndef GFS_TRACING_KMEM_H
#define GFS_TRACING_KMEM_H

#include "lib/util.h"

struct btf;
struct kmem;

/* peek_prog: gt_peek; peek_map: its mmapable array; btf: of the kernel and ublk_drv. Borrowed.
 * -errno. */
int kmem_open(int peek_prog, int peek_map, const struct btf *btf, struct kmem **out) __must_check;
void kmem_close(struct kmem *k);
/* len bytes at addr; any length. 0 or -EFAULT. */
int kmem_read(struct kmem *k, uint64_t addr, void *buf, size_t len) __must_check;
uint64_t kmem_ptr(struct kmem *k, uint64_t addr); /* 0 on failure */
uint32_t kmem_u32(struct kmem *k, uint64_t addr);
/*
 * Byte offset of a member (also of an anonymous part) of struct `type`, of the kernel's types, else
 * of ublk_drv's. -ENOENT: this kernel has no such type or member.
 */
int kmem_offset(struct kmem *k, const char *type, const char *member);
/* Size in bytes; -ENOENT. */
int kmem_size(struct kmem *k, const char *type);

#endif
