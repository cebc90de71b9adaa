// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The routes of the API: a table, and one small handler each that turns a request into an operation
 * of host.h and its outcome into JSON. Handlers marked quick run on the HTTP thread, others on the
 * pool.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "control/api.h"
#include "control/json_input.h"
#include "control/metrics.h"

/* A drain or detach without a timeout of its own ends after this. */
#define DRAIN_TIMEOUT_NS (600 * NSEC_PER_SEC)

/* ---- JSON out ---- */

static void add_str(struct json_object *o, const char *key, const char *s)
{
	json_object_object_add(o, key, json_object_new_string(s));
}

static void add_u64(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_uint64(v));
}

static void add_bool(struct json_object *o, const char *key, bool v)
{
	json_object_object_add(o, key, json_object_new_boolean(v));
}

static const char *mode_name(enum volume_mode m)
{
	static const char *const names[] = {
		[VOLUME_RW] = "rw",
		[VOLUME_READ_ONLY] = "read_only",
		[VOLUME_FENCED] = "fenced",
		[VOLUME_POISONED] = "poisoned",
	};

	return (unsigned int)m < ARRAY_SIZE(names) ? names[m] : "unknown";
}

static void add_root(struct json_object *o, const struct root *r)
{
	char uuid[37];

	uuid_format(r->uuid, uuid);
	add_str(o, "uuid", uuid);
	add_u64(o, "size_bytes", r->size_bytes);
	add_u64(o, "block_bytes", r->block_bytes);
	add_bool(o, "partitions", r->partitions);
	add_bool(o, "read_only", r->read_only);
	if (r->source[0])
		add_str(o, "source", r->source);
	add_str(o, "owner", r->owner);
	add_u64(o, "generation", r->generation);
	add_u64(o, "sequence", r->sequence);
	add_u64(o, "created_s", r->created_s);
}

static void add_live(struct json_object *o, const struct volume_info *i)
{
	add_str(o, "mode", mode_name(i->mode));
	if (i->mode != VOLUME_RW)
		add_str(o, "why", i->why);
	add_u64(o, "dirty_bytes", i->dirty_bytes);
	json_object_object_add(o, "oldest_dirty_s",
			       json_object_new_double((double)i->oldest_dirty_ns / NSEC_PER_SEC));
	add_bool(o, "uploading", i->uploading);
	if (i->upload_total) {
		add_u64(o, "upload_total_bytes", i->upload_total);
		add_u64(o, "upload_done_bytes", i->upload_done);
	}
	add_u64(o, "uploads", i->uploads);
	add_u64(o, "upload_failures", i->upload_failures);
	add_u64(o, "reads", i->reads);
	add_u64(o, "writes", i->writes);
	add_u64(o, "flushes", i->flushes);
	add_u64(o, "read_bytes", i->read_bytes);
	add_u64(o, "write_bytes", i->write_bytes);
	add_u64(o, "errors", i->errors);
	add_u64(o, "waiting_for_space", i->parked);
}

static struct json_object *volume_json(const struct host_volume_info *v)
{
	struct json_object *o = json_object_new_object();
	char dev[32];

	add_str(o, "name", v->name);
	add_str(o, "state", host_state_name(v->state));
	if (v->state == HOST_FAILED)
		add_str(o, "why", v->why);
	if (v->busy)
		add_str(o, "busy", v->busy);
	if (v->phase)
		add_str(o, "phase", v->phase);
	if (v->dev_id >= 0) {
		snprintf(dev, sizeof(dev), "/dev/ublkb%d", v->dev_id);
		add_str(o, "device", dev);
		json_object_object_add(o, "dev_id", json_object_new_int(v->dev_id));
		add_u64(o, "device_bytes", v->dev_bytes);
	} else if (v->state != HOST_DETACHED) {
		json_object_object_add(o, "device", NULL);
	}
	if (v->known)
		add_root(o, &v->info.root);
	if (v->open)
		add_live(o, &v->info);
	return o;
}

static void respond(struct api_request *req, unsigned int status, struct json_object *o)
{
	req->resp.body = strdup(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	req->resp.len = req->resp.body ? strlen(req->resp.body) : 0;
	req->resp.status = status;
	json_object_put(o);
}

/* Answer with the volume as it is now. */
static void respond_volume(struct api_request *req, unsigned int status)
{
	struct host_volume_info v;
	struct op_err err;
	char why[200];

	if (host_show(api_host(req->api), req->name, req->local, req->op_id, &v, why, &err))
		api_op_error(req, &err);
	else
		respond(req, status, volume_json(&v));
}

/* ---- handlers ---- */

struct put_body {
	uint64_t size, block_bytes;
	bool partitions, read_only;
	char from[SNAPSHOT_REF_MAX + 16]; /* "" = no fork */
};

static const struct json_in_field put_fields[] = {
	{.name = "size",
	 .type = JSON_IN_SIZE,
	 .offset = offsetof(struct put_body, size),
	 .min = VOLUME_BYTES_MIN,
	 .max = VOLUME_BYTES_MAX,
	 .multiple = SECTOR_SIZE},
	{.name = "block_bytes",
	 .type = JSON_IN_SIZE,
	 .offset = offsetof(struct put_body, block_bytes),
	 .min = 4 * KiB,
	 .max = MiB,
	 .multiple = 4096},
	{.name = "partitions",
	 .type = JSON_IN_BOOL,
	 .offset = offsetof(struct put_body, partitions)},
	{.name = "read_only", .type = JSON_IN_BOOL, .offset = offsetof(struct put_body, read_only)},
	{.name = "from",
	 .type = JSON_IN_TEXT,
	 .offset = offsetof(struct put_body, from),
	 .min = 1,
	 .max = sizeof(((struct put_body *)0)->from) - 1},
};

static void put_export(struct api_request *req)
{
	struct put_body body = {0};
	struct volume_def def;
	struct op_err err;
	char msg[256];
	bool created;
	int r;

	if (json_input_parse(req->body, req->body_len, put_fields, ARRAY_SIZE(put_fields), &body,
			     msg, sizeof(msg))) {
		api_error(req, 400, "bad_request", "%s", msg);
		return;
	}
	if (body.block_bytes & (body.block_bytes - 1)) {
		api_error(req, 400, "bad_request", "\"block_bytes\" must be a power of two");
		return;
	}
	if (!body.size && !body.from[0]) {
		api_error(req, 400, "bad_request", "\"size\" is missing");
		return;
	}
	def = (struct volume_def){
		.name = req->name,
		.size_bytes = body.size,
		.block_bytes = (uint32_t)body.block_bytes,
		.partitions = body.partitions,
		.read_only = body.read_only,
	};
	if (body.from[0])
		r = host_fork_volume(api_host(req->api), &def, body.from, req->op_id, &created,
				     &err);
	else
		r = host_create_volume(api_host(req->api), &def, req->op_id, &created, &err);
	if (r)
		api_op_error(req, &err);
	else
		respond_volume(req, created ? 201 : 200);
}

static void get_export(struct api_request *req)
{
	respond_volume(req, 200);
}

static void delete_export(struct api_request *req)
{
	struct json_object *o;
	struct op_err err;

	if (host_remove(api_host(req->api), req->name, req->force, req->op_id, &err)) {
		api_op_error(req, &err);
		return;
	}
	o = json_object_new_object();
	add_str(o, "name", req->name);
	add_str(o, "state", "removed");
	respond(req, 200, o);
}

static void list_add(const struct host_volume_info *v, void *arg)
{
	json_object_array_add(arg, volume_json(v));
}

static void list_exports(struct api_request *req)
{
	struct json_object *o = json_object_new_object(), *all = json_object_new_array();
	struct op_err err;
	int r = host_list(api_host(req->api), req->op_id, list_add, all, &err);

	json_object_object_add(o, "volumes", all);
	/* This host's volumes are told in any case: they matter most when the store is away. */
	add_bool(o, "complete", !r);
	if (r)
		add_str(o, "error", err.msg);
	respond(req, 200, o);
}

static void attach_export(struct api_request *req)
{
	struct op_err err;
	bool changed;

	if (host_attach(api_host(req->api), req->name, req->op_id, &changed, &err))
		api_op_error(req, &err);
	else
		respond_volume(req, 200);
}

static void detach_export(struct api_request *req)
{
	struct op_err err;

	if (host_detach(api_host(req->api), req->name, req->force,
			req->timeout_ns ? req->timeout_ns : DRAIN_TIMEOUT_NS, req->op_id, &err))
		api_op_error(req, &err);
	else
		respond_volume(req, 200);
}

static void drain_export(struct api_request *req)
{
	struct op_err err;

	if (host_drain(api_host(req->api), req->name,
		       req->timeout_ns ? req->timeout_ns : DRAIN_TIMEOUT_NS, req->op_id, &err))
		api_op_error(req, &err);
	else
		respond_volume(req, 200);
}

static struct json_object *snapshot_json(const struct snapshot_entry *e)
{
	struct json_object *o = json_object_new_object();
	const struct snapshot *s = &e->s;
	char uuid[37];

	add_u64(o, "seq", s->seq);
	if (e->error) {
		add_str(o, "error",
			e->error == -EPROTONOSUPPORT
				? "written by a newer version"
				: "corrupt in the store: delete it, or restore it");
		return o;
	}
	uuid_format(s->uuid, uuid);
	add_str(o, "name", s->name);
	add_str(o, "tag", s->tag);
	add_str(o, "uuid", uuid);
	add_u64(o, "size_bytes", s->size_bytes);
	add_u64(o, "block_bytes", s->block_bytes);
	add_u64(o, "generation", s->generation);
	add_u64(o, "sequence", s->sequence);
	add_u64(o, "created_s", s->created_s);
	return o;
}

struct snapshot_body {
	char tag[SNAPSHOT_TAG_MAX];
};

static const struct json_in_field snapshot_fields[] = {
	{.name = "tag",
	 .type = JSON_IN_TEXT,
	 .offset = offsetof(struct snapshot_body, tag),
	 .max = SNAPSHOT_TAG_MAX - 1},
};

static void post_snapshot(struct api_request *req)
{
	struct snapshot_entry e = {.error = 0};
	struct snapshot_body body = {.tag = ""};
	struct op_err err;
	char msg[256];

	if (json_input_parse(req->body, req->body_len, snapshot_fields, ARRAY_SIZE(snapshot_fields),
			     &body, msg, sizeof(msg)))
		api_error(req, 400, "bad_request", "%s", msg);
	else if (host_snapshot(api_host(req->api), req->name, body.tag,
			       req->timeout_ns ? req->timeout_ns : DRAIN_TIMEOUT_NS, req->op_id,
			       &e.s, &err))
		api_op_error(req, &err);
	else
		respond(req, 201, snapshot_json(&e));
}

static void get_snapshots(struct api_request *req)
{
	struct json_object *o, *all;
	struct snapshot_entry *e;
	struct op_err err;
	size_t nr;

	if (host_snapshot_list(api_host(req->api), req->name, req->op_id, &e, &nr, &err)) {
		api_op_error(req, &err);
		return;
	}
	o = json_object_new_object();
	all = json_object_new_array();
	for (size_t i = 0; i < nr; i++)
		json_object_array_add(all, snapshot_json(&e[i]));
	free(e);
	add_str(o, "name", req->name);
	json_object_object_add(o, "snapshots", all);
	respond(req, 200, o);
}

static void delete_snapshot(struct api_request *req)
{
	struct json_object *o;
	struct op_err err;

	if (host_snapshot_delete(api_host(req->api), req->name, req->seq, req->op_id, &err)) {
		api_op_error(req, &err);
		return;
	}
	o = json_object_new_object();
	add_str(o, "name", req->name);
	add_u64(o, "seq", req->seq);
	add_str(o, "state", "removed");
	respond(req, 200, o);
}

static struct json_object *image_json(const struct base_entry *e)
{
	struct json_object *o = json_object_new_object();
	const struct base *b = &e->b;
	char hex[2 * SHA256_LEN + 1];

	add_str(o, "name", b->name);
	if (e->error) {
		add_str(o, "error",
			e->error == -EPROTONOSUPPORT
				? "written by a newer version"
				: "corrupt in the store: delete it, or restore it");
		return o;
	}
	hex_encode(b->content_sha256, SHA256_LEN, hex);
	add_u64(o, "size_bytes", b->size_bytes);
	add_u64(o, "block_bytes", b->block_bytes);
	add_str(o, "content_sha256", hex);
	add_u64(o, "created_s", b->created_s);
	return o;
}

static void list_images(struct api_request *req)
{
	struct json_object *o, *all;
	struct base_entry *e;
	struct op_err err;
	size_t nr;

	if (host_image_list(api_host(req->api), req->op_id, &e, &nr, &err)) {
		api_op_error(req, &err);
		return;
	}
	o = json_object_new_object();
	all = json_object_new_array();
	for (size_t i = 0; i < nr; i++)
		json_object_array_add(all, image_json(&e[i]));
	free(e);
	json_object_object_add(o, "images", all);
	respond(req, 200, o);
}

static void delete_image(struct api_request *req)
{
	struct json_object *o;
	struct op_err err;

	if (host_image_delete(api_host(req->api), req->name, req->op_id, &err)) {
		api_op_error(req, &err);
		return;
	}
	o = json_object_new_object();
	add_str(o, "name", req->name);
	add_str(o, "state", "removed");
	respond(req, 200, o);
}

static void takeover_export(struct api_request *req)
{
	struct op_err err;

	if (host_takeover(api_host(req->api), req->name, req->force, req->op_id, &err))
		api_op_error(req, &err);
	else
		respond_volume(req, 200);
}

static void scrub_cache(struct api_request *req)
{
	struct json_object *o;
	struct ssd_scrub s;
	int r = engine_ssd_scrub(api_engine(req->api), &s);

	if (r == -ENOENT) {
		api_error(req, 404, "not_found",
			  "there is no cache on the SSD: cache.ssd_bytes is 0, or its directory "
			  "failed at start (see the log)");
		return;
	}
	if (r) {
		api_error(req, r == -EIO ? 500 : 503, r == -EIO ? "local" : "busy",
			  "scrub of the cache on the SSD, after %llu entries: %s",
			  (unsigned long long)s.entries,
			  r == -ECANCELED || r == -ESHUTDOWN ? "the daemon is stopping"
							     : strerror(-r));
		return;
	}
	o = json_object_new_object();
	add_u64(o, "entries", s.entries);
	add_u64(o, "bytes", s.bytes);
	add_u64(o, "bad", s.bad);
	respond(req, 200, o);
}

static void promote_export(struct api_request *req)
{
	struct op_err err;

	if (host_promote(api_host(req->api), req->name, req->op_id, &err))
		api_op_error(req, &err);
	else
		respond_volume(req, 200);
}

struct gc_body {
	bool dry_run;
	uint64_t grace_s, max_delete;
};

static const struct json_in_field gc_fields[] = {
	{.name = "dry_run", .type = JSON_IN_BOOL, .offset = offsetof(struct gc_body, dry_run)},
	{.name = "grace_s",
	 .type = JSON_IN_UINT,
	 .offset = offsetof(struct gc_body, grace_s),
	 .min = 1,
	 .max = 31536000},
	{.name = "max_delete",
	 .type = JSON_IN_UINT,
	 .offset = offsetof(struct gc_body, max_delete),
	 .min = 1,
	 .max = 1000000000},
};

static struct json_object *gc_json(const struct gc_report *r, bool dry_run)
{
	static const struct {
		const char *name;
		size_t offset;
	} fields[] = {
		{"roots", offsetof(struct gc_report, roots)},
		{"snapshots", offsetof(struct gc_report, snapshots)},
		{"images", offsetof(struct gc_report, bases)},
		{"graves", offsetof(struct gc_report, graves)},
		{"live", offsetof(struct gc_report, live)},
		{"live_bytes", offsetof(struct gc_report, live_bytes)},
		{"young", offsetof(struct gc_report, young)},
		{"waiting", offsetof(struct gc_report, waiting)},
		{"marked", offsetof(struct gc_report, marked)},
		{"marked_bytes", offsetof(struct gc_report, marked_bytes)},
		{"deleted", offsetof(struct gc_report, deleted)},
		{"deleted_bytes", offsetof(struct gc_report, deleted_bytes)},
		{"left", offsetof(struct gc_report, left)},
		{"spared", offsetof(struct gc_report, spared)},
		{"foreign", offsetof(struct gc_report, foreign)},
	};
	struct json_object *o = json_object_new_object();

	add_bool(o, "dry_run", dry_run);
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		add_u64(o, fields[i].name, *(const uint64_t *)((const char *)r + fields[i].offset));
	return o;
}

static void post_gc(struct api_request *req)
{
	struct gc_body body = {0};
	struct gc_params p;
	struct gc_report rep;
	struct op_err err;
	char msg[256];

	if (json_input_parse(req->body, req->body_len, gc_fields, ARRAY_SIZE(gc_fields), &body, msg,
			     sizeof(msg))) {
		api_error(req, 400, "bad_request", "%s", msg);
		return;
	}
	p = (struct gc_params){
		.dry_run = body.dry_run, .grace_s = body.grace_s, .max_delete = body.max_delete};
	if (host_gc(api_host(req->api), &p, req->op_id, &rep, &err))
		api_op_error(req, &err);
	else
		respond(req, 200, gc_json(&rep, p.dry_run));
}

static void get_gc(struct api_request *req)
{
	struct json_object *o = json_object_new_object();
	struct host_gc_status s;

	host_gc_status_read(api_host(req->api), &s);
	add_bool(o, "running", s.phase != NULL);
	if (s.phase) {
		add_str(o, "phase", s.phase);
		add_u64(o, "seen", s.seen);
		add_u64(o, "deleted", s.deleted);
	}
	add_u64(o, "runs", s.runs);
	add_u64(o, "failures", s.failures);
	if (s.last_end_s) {
		add_u64(o, "last_end_s", s.last_end_s);
		if (s.last_error[0])
			add_str(o, "last_error", s.last_error);
		json_object_object_add(o, "last", gc_json(&s.last, s.last_dry));
	}
	respond(req, 200, o);
}

struct scrub_body {
	char volume[GFS_NAME_MAX];
	uint64_t rate;
};

static const struct json_in_field scrub_fields[] = {
	{.name = "volume",
	 .type = JSON_IN_TEXT,
	 .offset = offsetof(struct scrub_body, volume),
	 .min = 1,
	 .max = GFS_NAME_MAX - 1},
	{.name = "rate",
	 .type = JSON_IN_SIZE,
	 .offset = offsetof(struct scrub_body, rate),
	 .min = 64 * KiB,
	 .max = TiB},
};

static void post_scrub(struct api_request *req)
{
	struct json_object *o, *list;
	struct scrub_body body = {.volume = ""};
	struct scrub_report *rep;
	struct scrub_params p;
	struct op_err err;
	char msg[256];

	if (json_input_parse(req->body, req->body_len, scrub_fields, ARRAY_SIZE(scrub_fields),
			     &body, msg, sizeof(msg))) {
		api_error(req, 400, "bad_request", "%s", msg);
		return;
	}
	p = (struct scrub_params){.volume = body.volume[0] ? body.volume : NULL,
				  .bytes_per_s = body.rate};
	rep = malloc(sizeof(*rep));
	if (!rep) {
		api_error(req, 507, "no_space", "out of memory");
		return;
	}
	if (host_scrub(api_host(req->api), &p, req->op_id, rep, &err)) {
		api_op_error(req, &err);
		free(rep);
		return;
	}
	o = json_object_new_object();
	add_u64(o, "holders", rep->holders);
	add_u64(o, "manifests", rep->manifests);
	add_u64(o, "packs", rep->packs);
	add_u64(o, "blocks", rep->blocks);
	add_u64(o, "bytes", rep->bytes);
	add_u64(o, "bad", rep->bad);
	list = json_object_new_array();
	for (unsigned int i = 0; i < rep->nr_bad; i++) {
		struct json_object *one = json_object_new_object();

		add_str(one, "key", rep->bad_list[i].key);
		add_str(one, "why", rep->bad_list[i].why);
		json_object_array_add(list, one);
	}
	json_object_object_add(o, "bad_objects", list);
	free(rep);
	respond(req, 200, o);
}

static void get_scrub(struct api_request *req)
{
	struct json_object *o = json_object_new_object();
	struct host_scrub_status s;

	host_scrub_status_read(api_host(req->api), &s);
	add_bool(o, "running", s.running);
	if (s.running) {
		add_u64(o, "packs", s.progress.packs);
		add_u64(o, "bytes", s.progress.bytes);
		add_u64(o, "bad", s.progress.bad);
	}
	add_u64(o, "runs", s.runs);
	add_u64(o, "bad_total", s.bad_total);
	respond(req, 200, o);
}

static struct json_object *summary_json(const struct host_summary *s)
{
	struct json_object *o = json_object_new_object();

	add_str(o, "status", "ok");
	add_str(o, "version", GFS_VERSION);
	add_bool(o, "ready", s->ready);
	add_u64(o, "attached", s->attached);
	add_u64(o, "stopped", s->stopped);
	add_u64(o, "recovering", s->recovering);
	add_u64(o, "failed", s->failed);
	add_u64(o, "failed_retrying", s->failed_passing);
	add_u64(o, "pending_creates", s->pending);
	return o;
}

static void get_health(struct api_request *req)
{
	const struct host_config *c = host_cfg(api_host(req->api));
	struct store_s3_stats store;
	struct host_summary s;
	struct json_object *o;

	host_summary_read(api_host(req->api), &s);
	o = summary_json(&s);
	add_str(o, "host_id", c->host_id);
	add_str(o, "state_dir", c->state_dir);
	add_str(o, "cache_dir", c->cache_dir);
	add_str(o, "store", engine_store(api_engine(req->api))->url);
	if (store_s3_stats(engine_store(api_engine(req->api)), &store) && store.problem[0])
		add_str(o, "store_problem", store.problem);
	respond(req, 200, o);
}

static void get_ready(struct api_request *req)
{
	struct host_summary s;
	struct json_object *o;

	host_summary_read(api_host(req->api), &s);
	o = summary_json(&s);
	if (!s.ready) {
		add_str(o, "error", "volumes of this host are still being recovered");
		add_str(o, "code", "not_ready");
	}
	respond(req, s.ready ? 200 : 503, o);
}

static void get_metrics(struct api_request *req)
{
	if (!api_metrics_enabled(req->api)) {
		api_error(req, 404, "no_route", "metrics are switched off in the configuration");
		return;
	}
	req->resp.body = metrics_text(api_host(req->api), api_engine(req->api), &req->resp.len);
	req->resp.status = 200;
	req->resp.type = "text/plain; version=0.0.4; charset=utf-8";
}

/* Read by the assembler; mk/openapi.mk knows that this file needs it. */
extern const char openapi_json[] __attribute__((visibility("hidden")));
extern const char openapi_json_end[] __attribute__((visibility("hidden")));
__asm__(".pushsection .rodata\n"
	"openapi_json:\n"
	".incbin \"Documentation/openapi.json\"\n"
	"openapi_json_end:\n"
	".popsection\n");

static void get_openapi(struct api_request *req)
{
	req->resp.len = (size_t)(openapi_json_end - openapi_json);
	req->resp.body = strndup(openapi_json, req->resp.len);
	req->resp.status = 200;
}

/* Of operations on a volume: wrong, missing, conflict, device or local, store or busy, space. */
#define ERR_VOLUME 400, 404, 409, 500, 503, 507

const struct api_route api_routes[] = {
	{"PUT", "/api/exports/*", .run = put_export, .body = true,
	 .status = {200, 201, 400, 404, 409, 500, 503, 507}},
	{"GET", "/api/exports/*", .run = get_export, .args = API_ARG_LOCAL,
	 .status = {200, 400, 404, 500, 503}},
	{"DELETE", "/api/exports/*", .run = delete_export, .args = API_ARG_FORCE,
	 .status = {200, ERR_VOLUME}},
	{"GET", "/api/exports", .run = list_exports, .status = {200}},
	{"POST", "/api/exports/*/attach", .run = attach_export, .status = {200, ERR_VOLUME}},
	{"POST", "/api/exports/*/detach", .run = detach_export,
	 .args = API_ARG_FORCE | API_ARG_TIMEOUT, .status = {200, ERR_VOLUME}},
	{"POST", "/api/exports/*/drain", .run = drain_export, .args = API_ARG_TIMEOUT,
	 .status = {200, 400, 409, 500, 503, 507}},
	{"POST", "/api/exports/*/takeover", .run = takeover_export, .args = API_ARG_FORCE,
	 .status = {200, ERR_VOLUME}},
	{"POST", "/api/exports/*/promote", .run = promote_export, .status = {200, ERR_VOLUME}},
	{"POST", "/api/exports/*/snapshot", .run = post_snapshot, .args = API_ARG_TIMEOUT,
	 .body = true, .status = {201, ERR_VOLUME}},
	{"GET", "/api/exports/*/snapshots", .run = get_snapshots,
	 .status = {200, 400, 404, 500, 503}},
	{"DELETE", "/api/exports/*/snapshots/#", .run = delete_snapshot,
	 .status = {200, 400, 500, 503}},
	{"POST", "/api/cache/scrub", .run = scrub_cache, .status = {200, 404, 500, 503}},
	{"GET", "/api/images", .run = list_images, .status = {200, 503}},
	{"DELETE", "/api/images/*", .run = delete_image, .status = {200, 400, 503}},
	{"POST", "/api/gc", .run = post_gc, .body = true, .status = {200, 400, 503}},
	{"POST", "/api/scrub", .run = post_scrub, .body = true,
	 .status = {200, 400, 404, 500, 503, 507}},
	{"GET", "/api/scrub", .run = get_scrub, .quick = true, .status = {200}},
	{"GET", "/api/gc", .run = get_gc, .quick = true, .status = {200}},
	{"GET", "/health", .run = get_health, .quick = true, .status = {200}},
	{"GET", "/health/ready", .run = get_ready, .quick = true, .status = {200, 503}},
	{"GET", "/metrics", .run = get_metrics, .quick = true, .status = {200, 404}},
	{"GET", "/openapi.json", .run = get_openapi, .quick = true, .status = {200}},
};
const unsigned int api_routes_nr = ARRAY_SIZE(api_routes);
