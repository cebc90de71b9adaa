// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Base images: bless and export-image, which use the store themselves, with the daemon's
 * configuration and without the daemon; images and image-rm, which ask it. One thread, but for the
 * engine's.
 */
#include "cli/cli.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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
	const char *code = r == -EEXIST   ? "exists"
			   : r == -ENOENT ? "not_found"
			   : r == -EINVAL ? "bad_request"
					  : "failed";
	struct json_object *o;

	if (c->json) {
		o = json_object_new_object();
		json_object_object_add(o, "error", json_object_new_string(msg));
		json_object_object_add(o, "code", json_object_new_string(code));
		puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
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

/* The image as a descriptor that gives raw bytes. */
static int image_open(const struct cli *c, struct fmt_err *err)
{
	bool qcow2 = c->format && !strcmp(c->format, "qcow2");
	int fd;

	if (!strcmp(c->file, "-")) {
		if (!qcow2)
			return STDIN_FILENO;
		snprintf(err->msg, sizeof(err->msg),
			 "a qcow2 image cannot be read from standard input: give its file");
		return -EINVAL;
	}
	fd = open(c->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int r = -errno;

		snprintf(err->msg, sizeof(err->msg), "%.200s: %s", c->file, strerror(-r));
		return r == -EEXIST ? -EIO : r;
	}
	if (!c->format)
		qcow2 = qcow2_is(fd);
	if (!qcow2)
		return fd;
	close(fd);
	if (isatty(STDERR_FILENO) && !c->json)
		fprintf(stderr, "%s: qemu-img converts it\n", c->file);
	return qcow2_open(c->file, err->msg, sizeof(err->msg));
}

static int size_option(const char *s, uint32_t *out, struct fmt_err *err)
{
	uint64_t v = 0;

	if (s && (size_parse(s, &v) || v < 4096 || v > MiB || (v & (v - 1)))) {
		snprintf(err->msg, sizeof(err->msg),
			 "--block-size is \"%.32s\": a power of two from 4K to 1M", s);
		return -EINVAL;
	}
	*out = (uint32_t)v;
	return 0;
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void bless_print(const struct cli *c, const struct bless_result *r)
{
	const struct image_progress *p = &r->progress;
	char hex[2 * SHA256_LEN + 1], size[32], data[32], sent[32];
	struct json_object *o;

	if (!c->json) {
		printf("image:%s %s: %s, %s of it data, %s uploaded\n", r->base.name,
		       r->there ? "was there already" : "is there",
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
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
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
	int fd, r = size_option(c->block, &o.block_bytes, &err);

	if (r)
		return failed(c, r, err.msg);
	/* Packs are made and freed all the time: their memory is used again, not faulted in again.
	 */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	fd = image_open(c, &err);
	if (fd < 0)
		return failed(c, fd, err.msg);
	r = session_open(c, &s, &err);
	if (!r) {
		r = image_bless(s.e, &o, fd, &res, &err);
		bar_end(&bar);
		session_close(&s);
	}
	close(fd);
	if (r)
		return failed(c, r, err.msg);
	bless_print(c, &res);
	return CLI_OK;
}

/* ---- export ---- */

/* What is exported, as a root: its size, and the manifest that it names. */
static int source_root(const struct cli *c, struct engine *e, uint64_t op_id, struct root *r,
		       struct fmt_err *err)
{
	static const char volume[] = "volume:", snapshot[] = "snapshot:";
	char name[GFS_NAME_MAX];
	struct snapshot s;
	struct base b;
	uint64_t seq;
	int res;

	memset(r, 0, sizeof(*r));
	if (!strncmp(c->source, volume, sizeof(volume) - 1)) {
		res = root_load(e, c->source + sizeof(volume) - 1, op_id, r, NULL, err);
		if (!res && r->owner[0] && !c->json)
			fprintf(stderr,
				"glidefs: volume %s is attached to host %s: what was not uploaded "
				"yet is not in the image; glidefs drain %s uploads it\n",
				r->name, r->owner, r->name);
		return res;
	}
	if (!strncmp(c->source, snapshot, sizeof(snapshot) - 1) &&
	    !snapshot_ref_parse(c->source + sizeof(snapshot) - 1, name, &seq)) {
		res = snapshot_load(e, name, seq, op_id, &s, err);
	} else if (!base_ref_parse(c->source, name)) {
		res = base_load(e, name, op_id, &b, err);
		if (!res)
			base_source(&b, &s);
	} else {
		snprintf(err->msg, sizeof(err->msg),
			 "\"%.200s\" is not volume:NAME, snapshot:NAME@SEQ or image:NAME",
			 c->source);
		return -EINVAL;
	}
	if (res)
		return res;
	snprintf(r->name, sizeof(r->name), "%s", s.name);
	r->size_bytes = s.size_bytes;
	r->block_bytes = s.block_bytes;
	r->manifest = s.manifest;
	return 0;
}

/* Where it goes: *sparse: an empty file. *made: it was not there. */
static int target_open(const struct cli *c, bool *sparse, bool *made, struct fmt_err *err)
{
	struct stat st;
	int fd, r;

	*sparse = *made = false;
	if (!strcmp(c->file, "-"))
		return STDOUT_FILENO;
	fd = open(c->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	*made = fd >= 0;
	if (fd < 0 && errno == EEXIST && c->force)
		fd = open(c->file, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || (S_ISREG(st.st_mode) && ftruncate(fd, 0))) {
		r = -errno;
		snprintf(err->msg, sizeof(err->msg), "%.200s: %s%s", c->file, strerror(-r),
			 r == -EEXIST ? "; --force writes over it" : "");
		if (fd >= 0)
			close(fd);
		return r == -ENOENT ? -EIO : r;
	}
	*sparse = S_ISREG(st.st_mode);
	return fd;
}

static int export_to(const struct cli *c, struct engine *e, const struct root *root, int fd,
		     bool sparse, uint64_t op_id, struct fmt_err *err)
{
	struct bar bar = bar_new(c, root->name);
	struct manifest *m = NULL;
	int r = root_manifest_load(e, root, op_id, &m, err);

	if (r)
		return r == -ENOENT ? -EIO : r; /* the source is there, a part of it is not */
	r = image_export(e, m, root->size_bytes, fd, sparse, bar_draw, &bar, op_id, err);
	manifest_put(m);
	bar_end(&bar);
	/* A pipe cannot be synced, and need not be. */
	if (!r && fsync(fd) && errno != EINVAL && errno != EROFS) {
		r = -errno;
		snprintf(err->msg, sizeof(err->msg), "%.200s: %s", c->file, strerror(-r));
	}
	return r;
}

int cmd_export_image(const struct cli *c)
{
	uint64_t op_id = timing_op_id();
	struct fmt_err err = {""};
	bool sparse, made = false;
	struct session s;
	struct root root;
	int fd = -1, r = session_open(c, &s, &err);

	if (r)
		return failed(c, r, err.msg);
	r = source_root(c, s.e, op_id, &root, &err);
	if (!r) {
		fd = target_open(c, &sparse, &made, &err);
		r = fd < 0 ? fd : export_to(c, s.e, &root, fd, sparse, op_id, &err);
	}
	if (fd >= 0 && close(fd) && !r) {
		r = -errno;
		snprintf(err.msg, sizeof(err.msg), "%.200s: %s", c->file, strerror(-r));
	}
	if (r && made)
		unlink(c->file); /* half an image is none */
	session_close(&s);
	if (r)
		return failed(c, r, err.msg);
	if (c->json && strcmp(c->file, "-") != 0)
		printf("{\"source\":\"%s\",\"size_bytes\":%llu}\n", c->source,
		       (unsigned long long)root.size_bytes);
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
