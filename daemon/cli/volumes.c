// SPDX-License-Identifier: GPL-2.0-or-later
/* The subcommands about volumes, but for those that show progress (progress.c). */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

void cli_print_device(struct json_object *o)
{
	puts(cli_str(o, "device", cli_str(o, "name", "")));
}

/* PUT of what the options say, and the device. */
static int put_volume(const struct cli *c)
{
	struct json_object *body, *o;
	char path[512];
	int ret;

	body = json_object_new_object();
	if (c->from)
		json_object_object_add(body, "from", json_object_new_string(c->from));
	if (c->size)
		json_object_object_add(body, "size", json_object_new_string(c->size));
	if (c->block)
		json_object_object_add(body, "block_bytes", json_object_new_string(c->block));
	if (c->partitions)
		json_object_object_add(body, "partitions", json_object_new_boolean(true));
	if (c->read_only)
		json_object_object_add(body, "read_only", json_object_new_boolean(true));
	cli_path(c, NULL, path, sizeof(path));
	ret = cli_request(c, "PUT", path, json_object_to_json_string(body), &o);
	if (ret == CLI_OK && !c->json)
		cli_print_device(o);
	json_object_put(o);
	json_object_put(body);
	return ret;
}

int cmd_create(const struct cli *c)
{
	if (c->size)
		return put_volume(c);
	fprintf(stderr, "glidefs: create needs --size, for instance --size 10G\n");
	return CLI_USAGE;
}

int cmd_fork(const struct cli *c)
{
	if (c->from)
		return put_volume(c);
	fprintf(stderr,
		"glidefs: fork needs --from volume:NAME, snapshot:NAME@SEQ or image:NAME\n");
	return CLI_USAGE;
}

/* Larger than before, or the same: what does not exist is not created. */
int cmd_grow(const struct cli *c)
{
	struct json_object *o, *body;
	char path[512], a[32], b[32];
	int ret;

	if (!c->size) {
		fprintf(stderr, "glidefs: grow needs --size, for instance --size 20G\n");
		return CLI_USAGE;
	}
	cli_path(c, NULL, path, sizeof(path));
	ret = cli_request(&(struct cli){.socket = c->socket,
					.host = c->host,
					.token_file = c->token_file,
					.name = c->name},
			  "GET", path, NULL, &o);
	if (ret != CLI_OK)
		return ret;
	body = json_object_new_object();
	json_object_object_add(body, "size", json_object_new_string(c->size));
	json_object_object_add(body, "partitions",
			       json_object_new_boolean(cli_bool(o, "partitions")));
	json_object_object_add(body, "read_only",
			       json_object_new_boolean(cli_bool(o, "read_only")));
	json_object_put(o);
	ret = cli_request(c, "PUT", path, json_object_to_json_string(body), &o);
	json_object_put(body);
	if (ret != CLI_OK)
		return ret;
	if (!c->json && json_object_object_get_ex(o, "device_bytes", NULL) &&
	    cli_u64(o, "device_bytes") < cli_u64(o, "size_bytes"))
		printf("%s has %s now; %s keeps %s until detach and attach, because its driver "
		       "cannot change a size\n",
		       c->name, cli_bytes(cli_u64(o, "size_bytes"), a, sizeof(a)),
		       cli_str(o, "device", "its device"),
		       cli_bytes(cli_u64(o, "device_bytes"), b, sizeof(b)));
	else if (!c->json)
		printf("%s has %s now\n", c->name,
		       cli_bytes(cli_u64(o, "size_bytes"), a, sizeof(a)));
	json_object_put(o);
	return CLI_OK;
}

int cmd_rm(const struct cli *c)
{
	struct json_object *o;
	char path[512];
	int ret;

	cli_path(c, NULL, path, sizeof(path));
	ret = cli_request(c, "DELETE", path, NULL, &o);
	json_object_put(o);
	return ret;
}

int cmd_promote(const struct cli *c)
{
	struct json_object *o;
	char path[512];
	int ret;

	cli_path(c, "promote", path, sizeof(path));
	ret = cli_request(c, "POST", path, NULL, &o);
	json_object_put(o);
	return ret;
}

static void print_row(struct json_object *v)
{
	char size[32], dirty[32];
	struct json_object *unused;
	bool known = json_object_object_get_ex(v, "size_bytes", &unused);
	bool open = json_object_object_get_ex(v, "dirty_bytes", &unused);

	printf("%-24s %-10s %-14s %10s %10s  %s\n", cli_str(v, "name", "?"),
	       cli_str(v, "state", "?"), cli_str(v, "device", "-"),
	       known ? cli_bytes(cli_u64(v, "size_bytes"), size, sizeof(size)) : "-",
	       open ? cli_bytes(cli_u64(v, "dirty_bytes"), dirty, sizeof(dirty)) : "-",
	       cli_str(v, "busy", cli_str(v, "mode", "")));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(cli_str(*(struct json_object *const *)a, "name", ""),
		      cli_str(*(struct json_object *const *)b, "name", ""));
}

int cmd_ls(const struct cli *c)
{
	struct json_object *o, *all;
	int ret = cli_request(c, "GET", "/api/exports", NULL, &o);

	if (ret != CLI_OK)
		return ret;
	if (!c->json && json_object_object_get_ex(o, "volumes", &all)) {
		json_object_array_sort(all, by_name);
		printf("%-24s %-10s %-14s %10s %10s  %s\n", "NAME", "STATE", "DEVICE", "SIZE",
		       "DIRTY", "MODE");
		for (size_t i = 0; i < json_object_array_length(all); i++)
			print_row(json_object_array_get_idx(all, i));
	}
	if (!cli_bool(o, "complete")) {
		fprintf(stderr, "glidefs: only this host's volumes are listed: %s\n",
			cli_str(o, "error", "the store could not be read"));
		ret = CLI_FAILED;
	}
	json_object_put(o);
	return ret;
}

/* Members in the order in which the daemon sends them; bytes also for people. */
static void print_members(struct json_object *o)
{
	json_object_object_foreach (o, key, v) {
		size_t len = strlen(key);
		char buf[32];

		printf("%-18s %s", key, v ? json_object_get_string(v) : "-");
		if (len > 6 && !strcmp(key + len - 6, "_bytes") &&
		    json_object_get_uint64(v) >= 1024)
			printf(" (%s)", cli_bytes(json_object_get_uint64(v), buf, sizeof(buf)));
		putchar('\n');
	}
}

int cmd_show(const struct cli *c)
{
	struct json_object *o;
	char path[512];
	int ret;

	cli_path(c, NULL, path, sizeof(path));
	ret = cli_request(c, "GET", path, NULL, &o);
	if (ret == CLI_OK && !c->json)
		print_members(o);
	json_object_put(o);
	return ret;
}

static void print_snapshot_row(const char *name, struct json_object *s)
{
	time_t made = (time_t)cli_u64(s, "created_s");
	char size[32], when[32] = "-", ref[160];
	struct tm tm;

	if (made && localtime_r(&made, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(ref, sizeof(ref), "%s@%llu", name, (unsigned long long)cli_u64(s, "seq"));
	printf("%-40s %-19s %10s  %s\n", ref, when,
	       cli_bytes(cli_u64(s, "size_bytes"), size, sizeof(size)),
	       cli_str(s, "error", cli_str(s, "tag", "")));
}

int cmd_snapshots(const struct cli *c)
{
	struct json_object *o, *all;
	char path[512];
	int ret;

	cli_path(c, "snapshots", path, sizeof(path));
	ret = cli_request(c, "GET", path, NULL, &o);
	if (ret == CLI_OK && !c->json && json_object_object_get_ex(o, "snapshots", &all)) {
		printf("%-40s %-19s %10s  %s\n", "SNAPSHOT", "MADE", "SIZE", "TAG");
		for (size_t i = 0; i < json_object_array_length(all); i++)
			print_snapshot_row(c->name, json_object_array_get_idx(all, i));
	}
	json_object_put(o);
	return ret;
}

int cmd_snapshot_rm(const struct cli *c)
{
	char path[512], action[64];
	struct json_object *o;
	int ret;

	snprintf(action, sizeof(action), "snapshots/%llu", (unsigned long long)c->seq);
	cli_path(c, action, path, sizeof(path));
	ret = cli_request(c, "DELETE", path, NULL, &o);
	json_object_put(o);
	return ret;
}

int cmd_health(const struct cli *c)
{
	struct json_object *o;
	int ret = cli_request(c, "GET", "/health/ready", NULL, &o);

	if (ret == CLI_OK && !c->json)
		print_members(o);
	json_object_put(o);
	return ret;
}
