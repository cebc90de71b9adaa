// SPDX-License-Identifier: GPL-2.0-or-later
/* glidefs gc and scrub: a request, drawn while it runs, and a report. One thread; see progress.c.
 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

static void draw_gc(struct json_object *o)
{
	fprintf(stderr, "\r%-14s %llu objects seen, %llu deleted \033[K", cli_str(o, "phase", ""),
		(unsigned long long)cli_u64(o, "seen"), (unsigned long long)cli_u64(o, "deleted"));
}

static void draw_scrub(struct json_object *o)
{
	char bytes[32];

	fprintf(stderr, "\r%llu packs, %s verified, %llu bad \033[K",
		(unsigned long long)cli_u64(o, "packs"),
		cli_bytes(cli_u64(o, "bytes"), bytes, sizeof(bytes)),
		(unsigned long long)cli_u64(o, "bad"));
}

struct watched {
	const char *path;
	void (*draw)(struct json_object *o);
};

static bool look(const struct cli *c, void *arg)
{
	const struct watched *w = arg;
	struct cli_reply reply;
	struct json_object *o;
	bool drawn = false;

	if (cli_call(c, "GET", w->path, NULL, &reply))
		return false;
	o = reply.status == 200 ? json_tokener_parse(reply.body) : NULL;
	if (cli_bool(o, "running")) {
		w->draw(o);
		fflush(stderr);
		drawn = true;
	}
	json_object_put(o);
	cli_reply_free(&reply);
	return drawn;
}

static void print_report(struct json_object *o)
{
	bool dry = cli_bool(o, "dry_run");
	char bytes[32];

	printf("in use    %8llu objects, %s, by %llu volumes, %llu snapshots, %llu images\n",
	       (unsigned long long)cli_u64(o, "live"),
	       cli_bytes(cli_u64(o, "live_bytes"), bytes, sizeof(bytes)),
	       (unsigned long long)cli_u64(o, "roots"), (unsigned long long)cli_u64(o, "snapshots"),
	       (unsigned long long)cli_u64(o, "images"));
	printf("deleted   %8llu objects, %s%s\n", (unsigned long long)cli_u64(o, "deleted"),
	       cli_bytes(cli_u64(o, "deleted_bytes"), bytes, sizeof(bytes)),
	       dry ? " (would be)" : "");
	if (cli_u64(o, "left"))
		printf("left      %8llu objects: run it again\n",
		       (unsigned long long)cli_u64(o, "left"));
	printf("marked    %8llu objects, %s: a run after the grace period deletes them%s\n",
	       (unsigned long long)cli_u64(o, "marked"),
	       cli_bytes(cli_u64(o, "marked_bytes"), bytes, sizeof(bytes)),
	       dry ? " (would be)" : "");
	printf("waiting   %8llu objects that were marked before\n",
	       (unsigned long long)cli_u64(o, "waiting"));
	printf("young     %8llu objects that may come into use\n",
	       (unsigned long long)cli_u64(o, "young"));
}

static struct json_object *body_new(const struct cli *c)
{
	struct json_object *o = json_object_new_object();

	if (c->dry_run)
		json_object_object_add(o, "dry_run", json_object_new_boolean(true));
	if (c->grace)
		json_object_object_add(o, "grace_s",
				       json_object_new_uint64(strtoull(c->grace, NULL, 10)));
	if (c->max_delete)
		json_object_object_add(o, "max_delete",
				       json_object_new_uint64(strtoull(c->max_delete, NULL, 10)));
	return o;
}

/* The body is taken over. The answer is the caller's. */
static int with_progress(const struct cli *c, const char *path, struct json_object *body,
			 void (*draw)(struct json_object *o), struct json_object **out)
{
	struct watched w = {.path = path, .draw = draw};
	int ret = cli_post_watched(c, path, json_object_to_json_string(body), look, &w, out);

	json_object_put(body);
	return ret;
}

int cmd_gc(const struct cli *c)
{
	struct json_object *o;
	int ret = with_progress(c, "/api/gc", body_new(c), draw_gc, &o);

	if (ret == CLI_OK && !c->json)
		print_report(o);
	json_object_put(o);
	return ret;
}

static void print_scrub(struct json_object *o)
{
	struct json_object *list;
	char bytes[32];

	printf("%llu volumes and snapshots, %llu packs, %llu blocks, %s: %llu bad\n",
	       (unsigned long long)cli_u64(o, "holders"), (unsigned long long)cli_u64(o, "packs"),
	       (unsigned long long)cli_u64(o, "blocks"),
	       cli_bytes(cli_u64(o, "bytes"), bytes, sizeof(bytes)),
	       (unsigned long long)cli_u64(o, "bad"));
	if (!json_object_object_get_ex(o, "bad_objects", &list))
		return;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *one = json_object_array_get_idx(list, i);

		printf("%s: %s\n", cli_str(one, "key", ""), cli_str(one, "why", ""));
	}
	if (cli_u64(o, "bad") > json_object_array_length(list))
		printf("and %llu more\n",
		       (unsigned long long)(cli_u64(o, "bad") - json_object_array_length(list)));
}

static int scrub_cache(const struct cli *c)
{
	struct json_object *o;
	char bytes[32];
	int ret = cli_request(c, "POST", "/api/cache/scrub", NULL, &o);

	if (ret == CLI_OK && !c->json)
		printf("%llu blocks and indexes, %s: %llu bad\n",
		       (unsigned long long)cli_u64(o, "entries"),
		       cli_bytes(cli_u64(o, "bytes"), bytes, sizeof(bytes)),
		       (unsigned long long)cli_u64(o, "bad"));
	if (ret == CLI_OK && cli_u64(o, "bad"))
		ret = CLI_FAILED;
	json_object_put(o);
	return ret;
}

int cmd_scrub(const struct cli *c)
{
	struct json_object *body, *o;
	int ret;

	if (c->cache && (c->name || c->rate)) {
		fprintf(stderr,
			"glidefs: scrub --cache reads all of the cache: no NAME, no --rate\n");
		return CLI_USAGE;
	}
	if (c->cache)
		return scrub_cache(c);
	body = json_object_new_object();
	if (c->name)
		json_object_object_add(body, "volume", json_object_new_string(c->name));
	if (c->rate)
		json_object_object_add(body, "rate", json_object_new_string(c->rate));
	ret = with_progress(c, "/api/scrub", body, draw_scrub, &o);
	if (ret == CLI_OK && !c->json)
		print_scrub(o);
	if (ret == CLI_OK && cli_u64(o, "bad"))
		ret = CLI_FAILED;
	json_object_put(o);
	return ret;
}
