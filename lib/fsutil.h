/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File helpers with durability spelled out. Blocking; any thread but a worker's. Negative errno. */
#ifndef GFS_LIB_FSUTIL_H
#define GFS_LIB_FSUTIL_H

#include "lib/util.h"
#include <sys/types.h>

/*
 * Replace dirfd/name with `len` bytes so that after a crash the old or the new content is there,
 * whole: temporary file, fsync, rename, fsync of the directory. Mode 0600.
 */
int file_write_atomic(int dirfd, const char *name, const void *data, size_t len) __must_check;
/*
 * Read dirfd/name whole into a malloc'ed, NUL-terminated buffer (caller frees). -EFBIG when larger
 * than `max` bytes.
 */
int file_read_all(int dirfd, const char *name, size_t max, char **data, size_t *len) __must_check;
/* mkdir -p with mode 0700 for what is created; 0 if it exists. */
int mkdir_all(const char *path) __must_check;
/* fsync a directory by descriptor. */
int dir_sync(int dirfd) __must_check;
/* Full-length pread/pwrite; short transfer at end of file is -ENODATA for reads. */
int pread_full(int fd, void *buf, size_t len, uint64_t off) __must_check;
int pwrite_full(int fd, const void *buf, size_t len, uint64_t off) __must_check;
/* The kernel's boot id (36 characters and NUL) into out[37]. GFS_BOOT_ID overrides it in tests. */
int boot_id_read(char out[37]) __must_check;

#endif
