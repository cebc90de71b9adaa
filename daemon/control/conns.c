// SPDX-License-Identifier: GPL-2.0-or-later
/* See conns.h. all->lock guards everything. */
#include "control/conns.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

struct conns {
	uint64_t timeout_ns;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct list_head list;
	unsigned int nr;
	bool stop;
	pthread_t thread;
};

/* While a request is read nobody else writes to the socket. */
static void conn_expire(struct conn *c, uint64_t timeout_ns)
{
	char body[160], text[400];
	int n;

	snprintf(body, sizeof(body),
		 "{\"error\":\"the request was not complete after %llu s\",\"code\":\"too_slow\","
		 "\"status\":408}",
		 (unsigned long long)(timeout_ns / NSEC_PER_SEC));
	n = snprintf(text, sizeof(text),
		     "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
		     "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
		     strlen(body), body);
	(void)!send(c->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(c->fd, SHUT_RDWR);
	c->reading = false;
}

static void *conns_main(void *arg)
{
	struct conns *all = arg;

	prctl(PR_SET_NAME, "gfs-http-slow");
	pthread_mutex_lock(&all->lock);
	while (!all->stop) {
		uint64_t now = now_ns(), next = 0;
		struct conn *c;

		list_for_each_entry (c, &all->list, node) {
			uint64_t due = c->since_ns + all->timeout_ns;

			if (!c->reading)
				continue;
			if (due <= now)
				conn_expire(c, all->timeout_ns);
			else if (!next || due < next)
				next = due;
		}
		/* New ones come later than what is waited for; from none to one is a wake-up. */
		(void)!cond_wait_until(&all->cond, &all->lock, next);
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

struct conns *conns_create(uint64_t timeout_ns)
{
	struct conns *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	all->timeout_ns = timeout_ns;
	pthread_mutex_init(&all->lock, NULL);
	cond_init_mono(&all->cond);
	list_init(&all->list);
	if (pthread_create(&all->thread, NULL, conns_main, all)) {
		free(all);
		return NULL;
	}
	return all;
}

void conns_destroy(struct conns *all)
{
	pthread_mutex_lock(&all->lock);
	all->stop = true;
	pthread_cond_signal(&all->cond);
	pthread_mutex_unlock(&all->lock);
	pthread_join(all->thread, NULL);
	pthread_cond_destroy(&all->cond);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

struct conn *conn_new(struct conns *all, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->all = all;
	c->fd = fd;
	SCOPED_LOCK(&all->lock);
	c->reading = true;
	c->since_ns = now_ns();
	list_add_tail(&c->node, &all->list);
	all->nr++;
	pthread_cond_signal(&all->cond);
	return c;
}

void conn_free(struct conn *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->all->lock);
	list_del(&c->node);
	c->all->nr--;
	pthread_mutex_unlock(&c->all->lock);
	free(c);
}

bool conn_read_done(struct conn *c)
{
	bool was;

	if (!c)
		return true;
	SCOPED_LOCK(&c->all->lock);

	was = c->reading;
	c->reading = false;
	return was;
}

void conn_again(struct conn *c)
{
	if (!c)
		return;
	SCOPED_LOCK(&c->all->lock);

	c->reading = true;
	c->since_ns = now_ns();
	pthread_cond_signal(&c->all->cond);
}

unsigned int conns_nr(struct conns *all)
{
	SCOPED_LOCK(&all->lock);

	return all->nr;
}
