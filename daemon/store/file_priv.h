/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by file.c and file_list.c only. */
#ifndef GFS_STORE_FILE_PRIV_H
#define GFS_STORE_FILE_PRIV_H

#include "store/store.h"

/*
 * LIST over the tree below dirfd, whose key is a legal prefix: fills op->entries, nr_entries and
 * truncated. What appears or vanishes meanwhile may or may not be listed; what stays is, once.
 * Blocks. 0, -EINVAL (no room for entries), -ETIMEDOUT past deadline_ns, -ENOMEM, -errno of the
 * file system.
 */
int file_list(int dirfd, struct store_op *op, uint64_t deadline_ns) __must_check;

#endif
