// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Base images: bless and export-image, which use the store themselves, with the daemon's
 * configuration and without the daemon; images and image-rm, which ask it. One thread, but for the
 * engine's.
 */
#include "cli/cli.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control/config_store.h"
#include "engine/image.h"
#include "lib/log.h"
#include "lib/timing.h"

#define PROBE_WAIT_NS (30 * NSEC_PER_SEC)
#define DRAW_NS       (200 * NSEC_PER_MSEC)

/* What these commands say when they fail: for people, or with --json an object. */
static int failed(const struct cli *c, int r, const char *msg)
{
	const char *code = r == -EEXIST   ? "conflict"
			   : r == -ENOENT ? "not_found"
			   : r == -EINVAL ? "bad_request"
					  : "failed";
	struct json_object *o;

	if (c->json) {
		o = json_object_new_object();
		json_object_object_add(o, "error", json_object_new_string(msg));
		json_object_object_add(o, "code", json_object_new_string(code));
		puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE));
		json_object_put(o);
	} else {
		fprintf(stderr, "glidefs: %s\n", msg);
	}
	return r == -EEXIST ? CLI_CONFLICT : r == -ENOENT ? CLI_NOT_FOUND : CLI_FAILED;
}

/* ---- the store ---- */

struct session {
	struct config cfg;
	struct store *store;
	struct engine *e;
};

static void session_close(struct session *s)
{
	if (s->e)
		engine_destroy(s->e);
	if (s->store)
		store_close(s->store);
	config_free(&s->cfg);
}

static int session_open(const struct cli *c, struct session *s, struct fmt_err *err)
{
	const char *path = c->config;
	struct engine_config ec;
	char *errors = NULL;
	int r;

	memset(s, 0, sizeof(*s));
	log_init(LOG_LVL_WARN, false);
	if (!path && !access(CONFIG_PATH_DEFAULT, F_OK))
		path = CONFIG_PATH_DEFAULT;
	r = config_load(path, &s->cfg, &errors);
	if (r) {
		if (errors)
			errors[strcspn(errors, "\n")] = '\0';
		snprintf(err->msg, sizeof(err->msg), "configuration: %s",
			 errors ? errors : "out of memory");
		free(errors);
		return r == -ENOENT ? -EINVAL : r;
	}
	r = config_store_open(&s->cfg, PROBE_WAIT_NS, &s->store, err);
	if (r) {
		session_close(s);
		return r == -ENOENT ? -EIO : r;
	}
	engine_config_defaults(&ec);
	ec.cache_dir = NULL;
	ec.host_id = "";
	ec.store_timeout_ns = s->cfg.store_timeout_s * NSEC_PER_SEC;
	ec.gc_grace_ns = s->cfg.gc_grace_s * NSEC_PER_SEC;
	ec.zstd_level = (int)s->cfg.zstd_level;
	ec.prefetch_blocks = (uint32_t)s->cfg.prefetch_blocks;
	r = engine_create(&ec, s->store, &s->e);
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "starting: %s", strerror(-r));
		session_close(s);
	}
	return r;
}

/* ---- progress ---- */

struct bar {
	const char *name;
	uint64_t since_ns, drawn_ns;
	bool on;
};

static struct bar bar_new(const struct cli *c, const char *name)
{
	return (struct bar){
		.name = name, .since_ns = now_ns(), .on = isatty(STDERR_FILENO) && !c->json};
}

static int bar_draw(void *arg, const struct image_progress *p)
{
	struct bar *b = arg;
	char what[96] = "", done[32], sent[32];

	if (!b->on || now_ns() - b->drawn_ns < DRAW_NS)
		return 0;
	b->drawn_ns = now_ns();
	if (!p->total_bytes)
		snprintf(what, sizeof(what), "%s read, %s uploaded",
			 cli_bytes(p->done_bytes, done, sizeof(done)),
			 cli_bytes(p->sent_bytes, sent, sizeof(sent)));
	else if (p->packs)
		snprintf(what, sizeof(what), "%s uploaded",
			 cli_bytes(p->sent_bytes, sent, sizeof(sent)));
	cli_progress(b->name, p->done_bytes, p->total_bytes, what, b->since_ns);
	return 0;
}

static void bar_end(const struct bar *b)
{
	if (b->on && b->drawn_ns)
		cli_progress_end();
}

/* ---- bless ---- */

static int size_option(const char *s, uint32_t *out)
{
	uint64_t v = 0;

	if (s && (size_parse(s, &v) || v < 4096 || v > MiB || (v & (v - 1)))) {
		fprintf(stderr, "glidefs: --block-size is \"%s\": a power of two from 4K to 1M\n",
			s);
		return -EINVAL;
	}
	*out = (uint32_t)v;
	return 0;
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void bless_print(const struct cli *c, const struct session *s, const struct bless_result *r)
{
	const struct image_progress *p = &r->progress;
	char hex[2 * SHA256_LEN + 1], size[32], data[32], sent[32];
	struct json_object *o;

	if (!c->json) {
		printf("image:%s %s in %s: %s, %s of it data, %s uploaded\n", r->base.name,
		       r->there ? "was there already" : "is there", s->cfg.store_url,
		       cli_bytes(r->base.size_bytes, size, sizeof(size)),
		       cli_bytes(p->data_bytes, data, sizeof(data)),
		       cli_bytes(p->sent_bytes, sent, sizeof(sent)));
		return;
	}
	hex_encode(r->base.content_sha256, SHA256_LEN, hex);
	o = json_object_new_object();
	json_object_object_add(o, "name", json_object_new_string(r->base.name));
	json_object_object_add(o, "existed", json_object_new_boolean(r->there));
	add_u64(o, "size_bytes", r->base.size_bytes);
	add_u64(o, "block_bytes", r->base.block_bytes);
	json_object_object_add(o, "content_sha256", json_object_new_string(hex));
	add_u64(o, "data_bytes", p->data_bytes);
	add_u64(o, "packs", p->packs);
	add_u64(o, "packs_found", p->packs_there);
	add_u64(o, "uploaded_bytes", p->sent_bytes);
	add_u64(o, "found_bytes", p->there_bytes);
	json_object_object_add(o, "store", json_object_new_string(s->cfg.store_url));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

int cmd_bless(const struct cli *c)
{
	struct bar bar = bar_new(c, c->name);
	struct bless_options o = {
		.name = c->name, .op_id = timing_op_id(), .progress = bar_draw, .arg = &bar};
	struct fmt_err err = {""};
	struct bless_result res;
	struct session s;
	int fd, r;

	if (size_option(c->block, &o.block_bytes))
		return CLI_USAGE;
	/* Packs are made and freed all the time: their memory is used again, not faulted in again.
	 */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	/* First what fails at once: a qcow2 image takes long to convert. */
	r = session_open(c, &s, &err);
	if (r)
		return failed(c, r, err.msg);
	fd = image_source_open(c, err.msg, sizeof(err.msg));
	r = fd < 0 ? fd : image_bless(s.e, &o, fd, &res, &err);
	bar_end(&bar);
	if (fd >= 0)
		close(fd);
	if (!r)
		bless_print(c, &s, &res);
	session_close(&s);
	return r ? failed(c, r, err.msg) : CLI_OK;
}

/* ---- export ---- */

static const char of_volume[] = "volume:", of_snapshot[] = "snapshot:";

static bool source_ok(const char *source)
{
	char name[GFS_NAME_MAX];
	struct fmt_err ignored;
	uint64_t seq;

	if (!strncmp(source, of_volume, sizeof(of_volume) - 1))
		return !volume_name_check(source + sizeof(of_volume) - 1, &ignored);
	if (!strncmp(source, of_snapshot, sizeof(of_snapshot) - 1))
		return !snapshot_ref_parse(source + sizeof(of_snapshot) - 1, name, &seq);
	return !base_ref_parse(source, name);
}

/* What is exported, as a root: its size, and the manifest that it names. source_ok(). */
static int source_root(const struct cli *c, struct engine *e, uint64_t op_id, struct root *r,
		       struct fmt_err *err)
{
	char name[GFS_NAME_MAX];
	struct snapshot s;
	struct base b;
	uint64_t seq;
	int res;

	memset(r, 0, sizeof(*r));
	if (!strncmp(c->source, of_volume, sizeof(of_volume) - 1)) {
		res = root_load(e, c->source + sizeof(of_volume) - 1, op_id, r, NULL, err);
		if (!res && r->owner[0] && !c->json)
			fprintf(stderr,
				"glidefs: volume %s is attached to host %s: what was not uploaded "
				"yet is not in the image; glidefs drain %s uploads it\n",
				r->name, r->owner, r->name);
		return res;
	}
	if (!base_ref_parse(c->source, name)) {
		res = base_load(e, name, op_id, &b, err);
		if (!res)
			base_source(&b, &s);
	} else {
		res = snapshot_ref_parse(c->source + sizeof(of_snapshot) - 1, name, &seq);
		if (!res)
			res = snapshot_load(e, name, seq, op_id, &s, err);
	}
	if (res)
		return res;
	snprintf(r->name, sizeof(r->name), "%s", s.name);
	r->size_bytes = s.size_bytes;
	r->block_bytes = s.block_bytes;
	r->manifest = s.manifest;
	return 0;
}

static int export_to(const struct cli *c, struct engine *e, const struct root *root,
		     const struct image_target *t, uint64_t op_id, struct fmt_err *err)
{
	struct bar bar = bar_new(c, root->name);
	struct manifest *m = NULL;
	int r = root_manifest_load(e, root, op_id, &m, err);

	if (r)
		return r == -ENOENT ? -EIO : r; /* the source is there, a part of it is not */
	r = image_export(e, m, root->size_bytes, t->fd, t->sparse, bar_draw, &bar, op_id, err);
	manifest_put(m);
	bar_end(&bar);
	return r;
}

static void export_print(const struct cli *c, const struct root *root)
{
	struct json_object *o;

	if (!c->json || !strcmp(c->file, "-"))
		return;
	o = json_object_new_object();
	json_object_object_add(o, "source", json_object_new_string(c->source));
	add_u64(o, "size_bytes", root->size_bytes);
	if (root->owner[0])
		json_object_object_add(o, "attached_to", json_object_new_string(root->owner));
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

int cmd_export_image(const struct cli *c)
{
	uint64_t op_id = timing_op_id();
	struct fmt_err err = {""};
	struct image_target t;
	struct session s;
	struct root root;
	int r;

	if (!source_ok(c->source)) {
		fprintf(stderr,
			"glidefs: \"%s\" is not volume:NAME, snapshot:NAME@SEQ or image:NAME\n",
			c->source);
		return CLI_USAGE;
	}
	r = session_open(c, &s, &err);
	if (r)
		return failed(c, r, err.msg);
	r = source_root(c, s.e, op_id, &root, &err);
	if (!r)
		r = image_target_open(c, root.size_bytes, &t, err.msg, sizeof(err.msg));
	if (!r) {
		r = export_to(c, s.e, &root, &t, op_id, &err);
		r = image_target_close(&t, r, err.msg, sizeof(err.msg));
	}
	session_close(&s);
	if (r)
		return failed(c, r, err.msg);
	export_print(c, &root);
	return CLI_OK;
}

/* ---- what the daemon tells ---- */

static void print_image_row(struct json_object *i)
{
	time_t made = (time_t)cli_u64(i, "created_s");
	char size[32], when[32] = "-";
	struct tm tm;

	if (made && localtime_r(&made, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%-40s %-19s %10s  %s\n", cli_str(i, "name", "?"), when,
	       cli_bytes(cli_u64(i, "size_bytes"), size, sizeof(size)), cli_str(i, "error", ""));
}

int cmd_images(const struct cli *c)
{
	struct json_object *o, *all;
	int ret = cli_request(c, "GET", "/api/images", NULL, &o);

	if (ret == CLI_OK && !c->json && json_object_object_get_ex(o, "images", &all)) {
		printf("%-40s %-19s %10s\n", "IMAGE", "BLESSED", "SIZE");
		for (size_t i = 0; i < json_object_array_length(all); i++)
			print_image_row(json_object_array_get_idx(all, i));
	}
	json_object_put(o);
	return ret;
}

int cmd_image_rm(const struct cli *c)
{
	struct json_object *o;
	char path[512];
	int ret;

	snprintf(path, sizeof(path), "/api/images/%s", c->name);
	ret = cli_request(c, "DELETE", path, NULL, &o);
	json_object_put(o);
	return ret;
}
