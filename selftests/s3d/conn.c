// SPDX-License-Identifier: GPL-2.0-or-later
/* The bytes of one connection. Blocking calls of the connection's own thread. */
#include "s3d.h"

#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

static ssize_t raw_read(struct conn *c, void *buf, size_t len)
{
	ssize_t r;

	if (c->ssl) {
		int n = SSL_read(c->ssl, buf, (int)MIN(len, (size_t)1 << 30));

		if (n > 0)
			return n;
		n = SSL_get_error(c->ssl, n);
		return n == SSL_ERROR_ZERO_RETURN ? 0 : -ECONNRESET;
	}
	do
		r = recv(c->fd, buf, len, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

static ssize_t raw_write(struct conn *c, const void *buf, size_t len)
{
	ssize_t r;

	if (c->ssl) {
		int n = SSL_write(c->ssl, buf, (int)MIN(len, (size_t)1 << 30));

		return n > 0 ? n : -EPIPE;
	}
	do
		r = send(c->fd, buf, len, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

/* With a rate limit, a twentieth of a second's bytes at a time, and the time they take. */
static size_t piece(const struct conn *c, size_t len)
{
	return c->rate ? MIN(len, (size_t)MAX(c->rate / 20, 1)) : len;
}

static void pace(const struct conn *c, size_t done)
{
	uint64_t ns;

	if (!c->rate)
		return;
	ns = (uint64_t)done * NSEC_PER_SEC / c->rate;
	nanosleep(&(struct timespec){.tv_sec = (time_t)(ns / NSEC_PER_SEC),
				     .tv_nsec = (long)(ns % NSEC_PER_SEC)},
		  NULL);
}

ssize_t conn_read(struct conn *c, void *buf, size_t len)
{
	ssize_t r;

	len = piece(c, len);
	if (c->have) {
		r = (ssize_t)MIN(len, c->have);
		memcpy(buf, c->buf, (size_t)r);
		c->have -= (size_t)r;
		memmove(c->buf, c->buf + r, c->have);
	} else {
		r = raw_read(c, buf, len);
	}
	if (r > 0)
		pace(c, (size_t)r);
	return r;
}

ssize_t conn_fill(struct conn *c)
{
	ssize_t r;

	if (c->have == S3D_HEAD_BYTES)
		return -EMSGSIZE;
	r = raw_read(c, c->buf + c->have, S3D_HEAD_BYTES - c->have);
	if (r > 0)
		c->have += (size_t)r;
	return r;
}

int conn_read_all(struct conn *c, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t r = conn_read(c, (char *)buf + done, len - done);

		if (r <= 0)
			return r ? (int)r : -ECONNRESET;
		done += (size_t)r;
	}
	return 0;
}

int conn_write_all(struct conn *c, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t r = raw_write(c, (const char *)buf + done, piece(c, len - done));

		if (r < 0)
			return (int)r;
		pace(c, (size_t)r);
		done += (size_t)r;
	}
	return 0;
}

void conn_wait_closed(struct conn *c)
{
	char drop[4096];
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	while (poll(&p, 1, -1) > 0 || errno == EINTR)
		if (p.revents && recv(c->fd, drop, sizeof(drop), 0) <= 0)
			return;
}

void conn_arm_reset(struct conn *c)
{
	struct linger l = {.l_onoff = 1, .l_linger = 0};

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	if (c->ssl)
		SSL_set_quiet_shutdown(c->ssl, 1);
}
