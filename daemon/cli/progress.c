// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests that take long, those on a volume here: the request runs in a thread of its own while
 * this one asks what it is at and how much is left, and draws that on a terminal. Nothing is drawn
 * elsewhere. `done` and the reply are the thread's until it is joined.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#define POLL_NS   (200 * NSEC_PER_MSEC)
#define BAR_WIDTH 30

struct running {
	const struct cli *c;
	const char *path, *body;
	struct cli_reply reply;
	int res;
	bool done; /* under lock */
	pthread_mutex_t lock;
	pthread_cond_t cond;
};

static void *run_request(void *arg)
{
	struct running *r = arg;

	r->res = cli_call(r->c, "POST", r->path, r->body, &r->reply);
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

int cli_post_watched(const struct cli *c, const char *path, const char *body,
		     bool (*draw)(const struct cli *c, void *arg), void *arg,
		     struct json_object **out)
{
	struct running r = {.c = c, .path = path, .body = body, .lock = PTHREAD_MUTEX_INITIALIZER};
	bool tty = isatty(STDERR_FILENO) && !c->json, drawn = false;
	pthread_t t;

	*out = NULL;
	cond_init_mono(&r.cond);
	if (pthread_create(&t, NULL, run_request, &r)) {
		fprintf(stderr, "glidefs: cannot start a thread\n");
		return CLI_FAILED;
	}
	while (!wait_done(&r))
		drawn |= tty && draw(c, arg);
	pthread_join(t, NULL);
	if (drawn)
		cli_progress_end();
	pthread_cond_destroy(&r.cond);
	if (r.res)
		r.reply.status = 0;
	return cli_finish(c, &r.reply, out);
}

/* ---- operations on a volume ---- */

/* What the daemon says of the volume now; false: nothing. */
struct seen {
	uint64_t left; /* bytes that are not in the store yet */
	bool bytes;    /* left is known */
	char phase[64];
};

static bool look(const struct cli *c, struct seen *s)
{
	struct cli plain = {
		.socket = c->socket, .host = c->host, .token_file = c->token_file, .name = c->name};
	uint64_t total, done;
	struct cli_reply reply;
	struct json_object *o;
	char path[512];
	bool ok;

	/* Without the store: it may be what the operation waits for. */
	cli_path(&plain, NULL, path, sizeof(path) - 16);
	strcat(path, "?local=1");
	if (cli_call(&plain, "GET", path, NULL, &reply))
		return false;
	o = reply.status == 200 ? json_tokener_parse(reply.body) : NULL;
	s->bytes = json_object_object_get_ex(o, "dirty_bytes", NULL);
	s->left = cli_u64(o, "dirty_bytes");
	total = cli_u64(o, "upload_total_bytes");
	done = MIN(total, cli_u64(o, "upload_done_bytes"));
	s->left -= MIN(s->left, done);
	snprintf(s->phase, sizeof(s->phase), "%s", cli_str(o, "phase", ""));
	ok = o != NULL;
	json_object_put(o);
	cli_reply_free(&reply);
	return ok;
}

void cli_progress(const char *name, uint64_t done, uint64_t total, const char *what,
		  uint64_t since_ns)
{
	unsigned long long secs = (now_ns() - since_ns) / NSEC_PER_SEC;
	char bar[BAR_WIDTH + 1], a[32], b[32];
	unsigned int filled;

	if (!total) {
		fprintf(stderr, "\r%s: %s, %llu s \033[K", name, what, secs);
		fflush(stderr);
		return;
	}
	filled = (unsigned int)((double)BAR_WIDTH * (double)done / (double)total);
	memset(bar, '-', BAR_WIDTH);
	memset(bar, '#', MIN(filled, (unsigned int)BAR_WIDTH));
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r%s [%s] %s of %s, %llu s%s%s \033[K", name, bar,
		cli_bytes(done, a, sizeof(a)), cli_bytes(total, b, sizeof(b)), secs,
		what[0] ? ", " : "", what);
	fflush(stderr);
}

void cli_progress_end(void)
{
	fprintf(stderr, "\r\033[K");
}

struct watch {
	uint64_t start_ns, first; /* the most that was left */
};

static bool draw(const struct cli *c, void *arg)
{
	struct watch *w = arg;
	struct seen s = {0};
	const char *what = s.phase;
	uint64_t total;

	if (!look(c, &s))
		return false;
	w->first = MAX(w->first, s.left);
	total = s.bytes ? w->first : 0;
	if (!total && !what[0])
		what = "waiting for the daemon";
	cli_progress(c->name, total - MIN(s.left, total), total, what, w->start_ns);
	return true;
}

/* body (may be NULL) and what to print of the answer for people (may be NULL). */
static int with_progress(const struct cli *c, const char *action, const char *body,
			 void (*print)(struct json_object *o))
{
	struct watch w = {.start_ns = now_ns()};
	struct json_object *o;
	char path[512];
	int ret;

	cli_path(c, action, path, sizeof(path));
	ret = cli_post_watched(c, path, body, draw, &w, &o);
	if (ret == CLI_OK && print && !c->json)
		print(o);
	json_object_put(o);
	return ret;
}

int cmd_drain(const struct cli *c)
{
	return with_progress(c, "drain", NULL, NULL);
}

int cmd_detach(const struct cli *c)
{
	return with_progress(c, "detach", NULL, NULL);
}

int cmd_attach(const struct cli *c)
{
	return with_progress(c, "attach", NULL, cli_print_device);
}

int cmd_takeover(const struct cli *c)
{
	return with_progress(c, "takeover", NULL, cli_print_device);
}

static void print_snapshot(struct json_object *o)
{
	printf("%s@%llu\n", cli_str(o, "name", ""), (unsigned long long)cli_u64(o, "seq"));
}

int cmd_snapshot(const struct cli *c)
{
	struct json_object *body = json_object_new_object();
	int ret;

	if (c->tag)
		json_object_object_add(body, "tag", json_object_new_string(c->tag));
	ret = with_progress(c, "snapshot", json_object_to_json_string(body), print_snapshot);
	json_object_put(body);
	return ret;
}
