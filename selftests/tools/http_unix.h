/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One HTTP/1.1 request on one connection to a unix socket, for test programs: starting a client
 * program costs more than the request under emulation. Header only; a request belongs to one
 * thread.
 */
#ifndef GFS_SELFTESTS_HTTP_UNIX_H
#define GFS_SELFTESTS_HTTP_UNIX_H

#include "lib/util.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#define HTTP_RESPONSE_MAX (64 * KiB)

struct http_call {
	int fd; /* -1: no request is under way */
	pid_t server;
	size_t len;
	int status;       /* of the response */
	const char *body; /* in buf, terminated; of the response */
	char buf[HTTP_RESPONSE_MAX];
};

/* Connect and send. body may be NULL. -errno. */
static inline int __must_check http_begin(struct http_call *c, const char *socket_path,
					  const char *method, const char *path, const char *body)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ucred cred;
	socklen_t cred_len = sizeof(cred);
	int n, r;

	c->fd = -1;
	c->len = 0;
	c->status = 0;
	c->body = "";
	if (strlen(socket_path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, socket_path, strlen(socket_path));
	n = snprintf(c->buf, sizeof(c->buf),
		     "%s %s HTTP/1.1\r\nHost: glidefs\r\nConnection: close\r\n"
		     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		     method, path, body ? strlen(body) : 0, body ? body : "");
	if (n < 0 || n >= (int)sizeof(c->buf))
		return -EMSGSIZE;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) < 0)
		goto err;
	c->server = cred.pid;
	if (send(c->fd, c->buf, (size_t)n, MSG_NOSIGNAL) != n)
		goto err;
	return 0;
err:
	r = -errno;
	close(c->fd);
	c->fd = -1;
	return r;
}

/* The body, without the chunk sizes if it came in chunks; c->buf is changed. */
static inline int http_parse(struct http_call *c)
{
	char *head_end = strstr(c->buf, "\r\n\r\n"), *out, *p;
	bool chunked;

	if (!head_end || sscanf(c->buf, "HTTP/1.%*d %d", &c->status) != 1)
		return -EBADMSG;
	*head_end = 0;
	chunked = strcasestr(c->buf, "transfer-encoding: chunked") != NULL;
	out = p = head_end + 4;
	c->body = out;
	while (chunked) {
		unsigned long n = strtoul(p, &p, 16);

		if (strncmp(p, "\r\n", 2) || n > (size_t)(c->buf + c->len - p))
			return -EBADMSG;
		memmove(out, p + 2, n);
		out += n;
		*out = 0;
		p += 2 + n + 2;
		chunked = n > 0;
	}
	return 0;
}

/* Wait for the response until deadline_ns. 0: status and body are there; -ETIMEDOUT; -errno. */
static inline int __must_check http_finish(struct http_call *c, uint64_t deadline_ns)
{
	int r = 0;

	while (!r) {
		struct pollfd pfd = {.fd = c->fd, .events = POLLIN};
		uint64_t now = now_ns();
		ssize_t n;

		if (c->len == sizeof(c->buf) - 1) {
			r = -EMSGSIZE;
		} else if (now >= deadline_ns ||
			   !poll(&pfd, 1, (int)((deadline_ns - now) / NSEC_PER_MSEC) + 1)) {
			r = -ETIMEDOUT;
		} else {
			n = recv(c->fd, c->buf + c->len, sizeof(c->buf) - 1 - c->len, 0);
			if (n > 0)
				c->len += (size_t)n;
			else if (n == 0)
				break;
			else if (errno != EINTR)
				r = -errno;
		}
	}
	close(c->fd);
	c->fd = -1;
	c->buf[c->len] = 0;
	return r ? r : http_parse(c);
}

#endif
