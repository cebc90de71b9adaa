// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * drain and detach: the request runs in a thread of its own while this one asks how much is left
 * and draws a bar on a terminal. `done` and the reply are the thread's until it is joined.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#define POLL_NS   (200 * NSEC_PER_MSEC)
#define BAR_WIDTH 30

struct running {
	const struct cli *c;
	const char *action;
	struct cli_reply reply;
	int res;
	bool done; /* under lock */
	pthread_mutex_t lock;
	pthread_cond_t cond;
};

static void *run_request(void *arg)
{
	struct running *r = arg;
	char path[512];

	cli_path(r->c, r->action, path, sizeof(path));
	r->res = cli_call(r->c, "POST", path, NULL, &r->reply);
	SCOPED_LOCK(&r->lock);
	r->done = true;
	pthread_cond_signal(&r->cond);
	return NULL;
}

/* Wait for the end of the request, or a while. */
static bool wait_done(struct running *r)
{
	uint64_t until = now_ns() + POLL_NS;
	SCOPED_LOCK(&r->lock);

	while (!r->done)
		if (cond_wait_until(&r->cond, &r->lock, until) == -ETIMEDOUT)
			break;
	return r->done;
}

static void draw(const char *name, uint64_t left, uint64_t first, uint64_t start_ns)
{
	unsigned int filled =
		first ? (unsigned int)(BAR_WIDTH * (first - MIN(left, first)) / first) : BAR_WIDTH;
	char bar[BAR_WIDTH + 1], a[32];

	memset(bar, '-', BAR_WIDTH);
	memset(bar, '#', filled);
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r%s [%s] %s left, %llu s \033[K", name, bar,
		cli_bytes(left, a, sizeof(a)),
		(unsigned long long)((now_ns() - start_ns) / NSEC_PER_SEC));
	fflush(stderr);
}

static bool dirty_left(const struct cli *c, uint64_t *left)
{
	struct cli plain = {.socket = c->socket, .name = c->name};
	struct json_object *o, *v;
	struct cli_reply reply;
	char path[512];
	bool ok;

	cli_path(&plain, NULL, path, sizeof(path));
	if (cli_call(&plain, "GET", path, NULL, &reply))
		return false;
	o = json_tokener_parse(reply.body);
	ok = json_object_object_get_ex(o, "dirty_bytes", &v);
	if (ok)
		*left = json_object_get_uint64(v);
	json_object_put(o);
	cli_reply_free(&reply);
	return ok;
}

static int with_progress(const struct cli *c, const char *action)
{
	struct running r = {.c = c, .action = action, .lock = PTHREAD_MUTEX_INITIALIZER};
	uint64_t start = now_ns(), first = 0, left = 0;
	bool tty = isatty(STDERR_FILENO) && !c->json, drawn = false;
	struct json_object *o;
	pthread_t t;
	int ret;

	cond_init_mono(&r.cond);
	if (pthread_create(&t, NULL, run_request, &r)) {
		fprintf(stderr, "glidefs: cannot start a thread\n");
		return CLI_FAILED;
	}
	while (!wait_done(&r)) {
		if (!tty || !dirty_left(c, &left))
			continue;
		first = MAX(first, left);
		draw(c->name, left, first, start);
		drawn = true;
	}
	pthread_join(t, NULL);
	if (drawn)
		fprintf(stderr, "\r\033[K");
	if (r.res)
		r.reply.status = 0;
	ret = cli_finish(c, &r.reply, &o);
	json_object_put(o);
	pthread_cond_destroy(&r.cond);
	return ret;
}

int cmd_drain(const struct cli *c)
{
	return with_progress(c, "drain");
}

int cmd_detach(const struct cli *c)
{
	return with_progress(c, "detach");
}
