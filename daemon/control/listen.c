// SPDX-License-Identifier: GPL-2.0-or-later
/* Where the API listens, and who may speak to it over TCP; see listen.h. At start; no state. */
#include "control/listen.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "lib/fsutil.h"
#include "lib/log.h"

#define TOKEN_MIN 16
#define TOKEN_MAX 4096

/* Is there a live server? A file nobody listens on is stale. */
static bool socket_answers(const struct sockaddr_un *sa)
{
	__cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0;
}

/*
 * Listen under a temporary name, then rename: the path is never without a server of ours or with
 * wider permissions, and a stale socket is replaced in one step.
 */
int unix_listen(const char *path, ino_t *ino)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX}, tmp = sa;
	struct stat st;
	int fd, r;

	if (snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path) >= (int)sizeof(sa.sun_path) ||
	    snprintf(tmp.sun_path, sizeof(tmp.sun_path), "%s.%d", path, getpid()) >=
		    (int)sizeof(tmp.sun_path))
		return -ENAMETOOLONG;
	if (socket_answers(&sa))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	unlink(tmp.sun_path);
	/* The file gets the mode of the socket's own inode, cut by the umask: 0600 from its first
	 * moment. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&tmp, sizeof(tmp)) < 0 ||
	    stat(tmp.sun_path, &st) < 0 || chmod(tmp.sun_path, 0600) < 0 || listen(fd, 256) < 0 ||
	    rename(tmp.sun_path, sa.sun_path) < 0) {
		r = -errno;
		unlink(tmp.sun_path);
		close(fd);
		return r;
	}
	*ino = st.st_ino;
	return fd;
}

int socket_dir_make(const char *path)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	char *slash;

	if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
		return -ENAMETOOLONG;
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = '\0';
	return mkdir_all(dir);
}

/* ---- TCP ---- */

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)sa)->sin_addr.s_addr) >>
			       24 ==
		       127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

static int tcp_bind(const struct addrinfo *ai)
{
	int one = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 256) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int tcp_listen(const char *where, struct fmt_err *err)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC,
				       .ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	const char *colon = strrchr(where, ':');
	struct addrinfo *ai = NULL;
	char host[64];
	size_t len;
	int fd;

	snprintf(host, sizeof(host), "%.*s", colon ? (int)MIN(colon - where, 63) : 0, where);
	len = strlen(host);
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		memmove(host, host + 1, len - 1);
	}
	if (!host[0] || getaddrinfo(host, colon + 1, &hints, &ai)) {
		snprintf(err->msg, sizeof(err->msg),
			 "daemon.listen is \"%.60s\": write ADDRESS:PORT, for instance "
			 "127.0.0.1:7070 or [::1]:7070",
			 where);
		return -EINVAL;
	}
	fd = tcp_bind(ai);
	if (fd < 0)
		snprintf(err->msg, sizeof(err->msg), "daemon.listen %.60s: %s", where,
			 strerror(-fd));
	else if (!is_loopback(ai->ai_addr))
		log_warn("API: %s is reachable from other hosts, and neither the token nor the "
			 "data is encrypted: put TLS in front of it",
			 where);
	freeaddrinfo(ai);
	return fd;
}

/* ---- token ---- */

int token_load(const char *path, struct api_token *out, struct fmt_err *err)
{
	__cleanup_free char *text = NULL;
	struct stat st;
	size_t len;
	int r;

	if (stat(path, &st) < 0) {
		r = -errno;
		snprintf(err->msg, sizeof(err->msg), "token_file %.100s: %s", path, strerror(-r));
		return r;
	}
	if ((st.st_mode & 077) || (st.st_uid && st.st_uid != geteuid())) {
		snprintf(err->msg, sizeof(err->msg),
			 "token_file %.100s has mode %03o and owner %u: nobody but root and the "
			 "daemon may have access (chmod 600)",
			 path, st.st_mode & 0777, st.st_uid);
		return -EPERM;
	}
	r = file_read_all(AT_FDCWD, path, TOKEN_MAX, &text, &len);
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "token_file %.100s: %s", path, strerror(-r));
		return r;
	}
	while (len && strchr(" \t\r\n", text[len - 1]))
		len--;
	for (size_t i = 0; i < len; i++)
		if (text[i] <= 0x20 || text[i] >= 0x7f)
			len = 0;
	if (len < TOKEN_MIN) {
		snprintf(err->msg, sizeof(err->msg),
			 "token_file %.100s: one line of at least %d printable characters without "
			 "spaces is needed (for instance from: openssl rand -hex 32)",
			 path, TOKEN_MIN);
		return -EINVAL;
	}
	hash_sha256(text, len, out->sha256);
	OPENSSL_cleanse(text, len);
	return 0;
}

bool token_allows(const struct api_token *t, const char *authorization)
{
	uint8_t sum[SHA256_LEN];

	if (!authorization || strncasecmp(authorization, "Bearer ", 7))
		return false;
	/* Of hashes, so that neither time nor length tells anything. */
	hash_sha256(authorization + 7, strlen(authorization + 7), sum);
	return !CRYPTO_memcmp(sum, t->sha256, sizeof(sum));
}
