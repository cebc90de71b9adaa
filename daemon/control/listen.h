/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sockets of the API, and the bearer token that TCP asks for. Used by api.c at start. */
#ifndef GFS_CONTROL_LISTEN_H
#define GFS_CONTROL_LISTEN_H

#include <sys/types.h>

#include "engine/format.h"

/*
 * Listen on a unix socket of mode 0600 under this path, in place of a stale one; *ino is its
 * file's. The descriptor, -EADDRINUSE when somebody answers on it, -errno.
 */
int unix_listen(const char *path, ino_t *ino) __must_check;
/* The directories above the path. -errno. */
int socket_dir_make(const char *path) __must_check;

/* Listen on "ADDRESS:PORT" (numbers). Warns when it is not loopback. The descriptor, or -errno and
 * the sentence. */
int tcp_listen(const char *where, struct fmt_err *err) __must_check;

struct api_token {
	uint8_t sha256[SHA256_LEN];
};
/* Read it from a file that nobody else can read. -EPERM, -EINVAL, -errno and the sentence. */
int token_load(const char *path, struct api_token *out, struct fmt_err *err) __must_check;
/* Does the value of the Authorization header (NULL: none) carry it? In constant time. */
bool token_allows(const struct api_token *t, const char *authorization);

#endif
