// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Roots of volumes in the store, and the manifests they name; see volume.h. Blocking, no state of
 * its own, no lock. Storage rules 10 to 12.
 *
 * The rule about ambiguous PUTs: after a timeout the PUT may still land, so a re-read proves
 * nothing. The same bytes are sent again under the same precondition until the store either takes
 * them or refuses them. Refused with our own nonce in the object is success: an earlier attempt
 * landed.
 */
#include "engine/objects.h"
#include "engine/volume_priv.h"
#include "engine/wire.h"
#include "lib/spans.h"

int root_prepare(struct engine *e, const struct volume_def *def, struct root *r)
{
	struct fmt_err err;

	memset(r, 0, sizeof(*r));
	r->size_bytes = def->size_bytes;
	r->block_bytes = def->block_bytes ? def->block_bytes : BLOCK_BYTES;
	if (def->from) {
		r->manifest = def->from->manifest;
		snapshot_ref_format(def->from->name, def->from->seq, r->source);
		if (!r->size_bytes)
			r->size_bytes = def->from->size_bytes;
		if (!def->block_bytes)
			r->block_bytes = def->from->block_bytes;
		if (r->size_bytes < def->from->size_bytes ||
		    r->block_bytes != def->from->block_bytes)
			return -EINVAL;
	}
	if (volume_name_check(def->name, &err) || !volume_bytes_ok(r->size_bytes) ||
	    !block_bytes_ok(r->block_bytes))
		return -EINVAL;
	snprintf(r->name, sizeof(r->name), "%s", def->name);
	snprintf(r->owner, sizeof(r->owner), "%s", e->host_id);
	uuid_generate_v4(r->uuid);
	random_bytes(r->nonce, sizeof(r->nonce));
	r->partitions = def->partitions;
	r->read_only = def->read_only;
	r->generation = 1;
	r->created_s = wall_ns() / NSEC_PER_SEC;
	return 0;
}

struct root_read {
	const char *name;
	struct root *r;
	char *etag;
	struct fmt_err *err;
};

static int root_use(const struct store_op *op, void *arg)
{
	struct root_read *rr = arg;
	int res = root_parse(op->buf, op->size_out, rr->r, rr->err);

	if (!res && strcmp(rr->r->name, rr->name))
		res = fmt_fail(rr->err, -EBADMSG, "root of %s names itself %s", rr->name,
			       rr->r->name);
	if (!res && rr->etag)
		memcpy(rr->etag, op->etag, STORE_ETAG_MAX);
	return res;
}

static int root_get(struct engine *e, const char *name, uint64_t deadline_ns, uint64_t op_id,
		    const bool *cancel, struct root *r, char *etag, struct fmt_err *err)
{
	struct root_read rr = {.name = name, .r = r, .etag = etag, .err = err};
	char key[STORE_KEY_MAX];
	int res;

	root_key(name, key, sizeof(key));
	res = object_get(e, key, name, deadline_ns, op_id, cancel, root_use, &rr, err);
	if (res == -ENOENT)
		fmt_fail(err, res, "volume %s does not exist in %s", name, e->store->url);
	return res;
}

int root_load(struct engine *e, const char *name, uint64_t op_id, struct root *r, char *etag_out,
	      struct fmt_err *err)
{
	int res = volume_name_check(name, err);

	if (res)
		return res;
	return root_get(e, name, object_deadline(e), op_id, NULL, r, etag_out, err);
}

/* A PUT of a root until its outcome is known. */
struct root_put {
	struct engine *e;
	const struct root *r;
	enum store_cond cond;
	const uint8_t *base; /* IF_MATCH: the nonce of the root that it replaces */
	char *etag;          /* in for IF_MATCH, out on success */
	uint64_t deadline_ns;
	uint64_t op_id;
	const bool *cancel;
	bool ambiguous; /* some attempt may have landed, or may land yet */
	struct fmt_err *err;
};

/*
 * The store refused it: was that because our own earlier attempt landed? 0 yes; -EAGAIN: ask again.
 * A nonce is of one PUT: where the root that ours is based on is still in place nobody wrote
 * another, so the precondition holds and what was wrong is the ETag that an answer gave us.
 */
static int refusal_verdict(struct root_put *p, int refused)
{
	struct root cur;
	char etag[STORE_ETAG_MAX] = "", uuid[37];
	int res =
		root_get(p->e, p->r->name, p->deadline_ns, p->op_id, p->cancel, &cur, etag, p->err);

	if (!res && !memcmp(cur.nonce, p->r->nonce, sizeof(cur.nonce))) {
		memcpy(p->etag, etag, STORE_ETAG_MAX);
		return 0;
	}
	if (!res && p->base && !memcmp(cur.nonce, p->base, sizeof(cur.nonce))) {
		memcpy(p->etag, etag, STORE_ETAG_MAX);
		return fmt_fail(p->err, -EAGAIN,
				"root of %s refused though nobody changed it: wrong ETag",
				cur.name);
	}
	if (res == -ENOENT)
		return refused == -EEXIST
			       ? -EAGAIN
			       : fmt_fail(p->err, -ESTALE, "root of %s was deleted", p->r->name);
	if (res == -ECANCELED)
		return res;
	if (res && res != -EBADMSG && res != -EPROTONOSUPPORT)
		return -ETIMEDOUT; /* unreadable until the deadline: still unknown */
	if (res)
		return fmt_fail(p->err, refused,
				"root of %s was replaced by one that is unreadable", p->r->name);
	uuid_format(cur.uuid, uuid);
	return fmt_fail(
		p->err, refused,
		"root of %s was written by another: uuid %s, generation %llu, sequence %llu, "
		"owner '%s'",
		cur.name, uuid, (unsigned long long)cur.generation,
		(unsigned long long)cur.sequence, cur.owner);
}

/* One attempt. 0, -EEXIST, -ESTALE: definite. -EAGAIN: try again. Others: definitely not written.
 */
static int root_put_attempt(struct root_put *p, struct store_call *c)
{
	int res;

	c->op.cond = p->cond;
	if (p->cond == STORE_IF_MATCH)
		memcpy(c->op.etag, p->etag, STORE_ETAG_MAX);
	c->op.deadline_ns = object_attempt_deadline(p->deadline_ns);
	res = store_call_run(c, p->cancel);
	if (!res) {
		memcpy(p->etag, c->op.etag, STORE_ETAG_MAX);
		return 0;
	}
	if (res == -ECANCELED) {
		p->ambiguous = true;
		return res;
	}
	if (res == -EEXIST || res == -ESTALE)
		return refusal_verdict(p, res);
	fmt_fail(p->err, res, "PUT %s: %s%s", c->key, strerror(-res),
		 c->op.ambiguous ? " (it may still land)" : "");
	p->ambiguous |= c->op.ambiguous;
	if (p->ambiguous)
		return -EAGAIN;
	return res == -ETIMEDOUT ? -EIO : res; /* -ETIMEDOUT means "unknown" to our callers */
}

static int root_put(struct root_put *p)
{
	struct timing_rec rec = {.event = TIMING_SAVE_EXPORT,
				 .op_id = p->op_id,
				 .start_ns = now_ns(),
				 .export_ = p->r->name,
				 .dev_id = -1};
	struct store_call *c =
		store_call_new(p->e->store, STORE_PUT, STORE_PRIO_META, p->r->name, p->op_id);
	uint32_t span = span_open(&rec);
	char *json = NULL;
	size_t len = 0;
	int res = c ? root_encode(p->r, &json, &len) : -ENOMEM;

	if (res) {
		fmt_fail(p->err, res, "root of %s: cannot encode it: %s", p->r->name,
			 strerror(-res));
		goto out;
	}
	store_call_body(c, json, len, json, free);
	root_key(p->r->name, c->key, sizeof(c->key));
	for (unsigned int attempt = 1;; attempt++) {
		c->op.attempt = attempt;
		res = root_put_attempt(p, c);
		if (res != -EAGAIN)
			break;
		res = store_backoff(attempt, p->deadline_ns, p->cancel);
		if (res)
			break;
	}
out:
	store_call_put(c);
	rec.result = res;
	rec.bytes = len;
	span_close(span);
	timing_emit(&rec);
	return res;
}

int root_create_late(struct engine *e, const struct root *r, uint64_t deadline_ns, uint64_t op_id,
		     char *etag_out, bool *late, struct fmt_err *err)
{
	struct root_put p = {.e = e,
			     .r = r,
			     .cond = STORE_IF_NONE_MATCH,
			     .etag = etag_out,
			     .deadline_ns = deadline_ns ? deadline_ns : object_deadline(e),
			     .op_id = op_id,
			     .err = err};
	int res = root_put(&p);

	*late = p.ambiguous;
	return res;
}

int root_create(struct engine *e, const struct root *r, uint64_t deadline_ns, uint64_t op_id,
		char *etag_out, struct fmt_err *err)
{
	bool late;

	return root_create_late(e, r, deadline_ns, op_id, etag_out, &late, err);
}

int root_update(struct engine *e, const struct root *r, const uint8_t base[16], char *etag,
		uint64_t deadline_ns, uint64_t op_id, const bool *cancel, struct fmt_err *err)
{
	struct root_put p = {.e = e,
			     .r = r,
			     .cond = STORE_IF_MATCH,
			     .base = base,
			     .etag = etag,
			     .deadline_ns = deadline_ns ? deadline_ns : object_deadline(e),
			     .op_id = op_id,
			     .cancel = cancel,
			     .err = err};

	return root_put(&p);
}

int root_promote(struct engine *e, struct root *r, char *etag, uint64_t op_id, struct fmt_err *err)
{
	uint8_t base[sizeof(r->nonce)];

	if (!r->read_only)
		return 0;
	if (r->owner[0])
		return fmt_fail(err, -EBUSY, "volume %s is owned by host %s: detach it there first",
				r->name, r->owner);
	memcpy(base, r->nonce, sizeof(base));
	random_bytes(r->nonce, sizeof(r->nonce));
	r->read_only = false;
	return root_update(e, r, base, etag, 0, op_id, NULL, err);
}

/* One attempt; -EAGAIN: read the root and decide again. */
static int root_delete_attempt(struct engine *e, const char *name, const uint8_t *nonce,
			       uint64_t deadline_ns, uint64_t op_id, struct store_call *c,
			       struct fmt_err *err)
{
	struct root cur;
	int res;

	c->op.cond = STORE_ALWAYS;
	if (nonce) {
		res = root_get(e, name, deadline_ns, op_id, NULL, &cur, c->op.etag, err);
		if (res)
			return res == -ENOENT ? 0 : res;
		if (memcmp(cur.nonce, nonce, sizeof(cur.nonce)))
			return fmt_fail(err, -ESTALE,
					"root of %s was written by another since: generation %llu, "
					"owner '%s'",
					name, (unsigned long long)cur.generation, cur.owner);
		c->op.cond = STORE_IF_MATCH;
	}
	c->op.deadline_ns = object_attempt_deadline(deadline_ns);
	res = store_call_run(c, NULL);
	if (!res)
		return 0;
	fmt_fail(err, res, "DELETE %s: %s", c->key, strerror(-res));
	return res == -ESTALE || c->op.ambiguous ? -EAGAIN : res;
}

int root_delete(struct engine *e, const char *name, const uint8_t nonce[16], uint64_t op_id,
		struct fmt_err *err)
{
	uint64_t deadline_ns = object_deadline(e);
	struct store_call *c;
	int res = volume_name_check(name, err);

	if (res)
		return res;
	c = store_call_new(e->store, STORE_DELETE, STORE_PRIO_META, name, op_id);
	if (!c)
		return fmt_fail(err, -ENOMEM, "DELETE of %s: out of memory", name);
	root_key(name, c->key, sizeof(c->key));
	for (unsigned int attempt = 1;; attempt++) {
		c->op.attempt = attempt;
		res = root_delete_attempt(e, name, nonce, deadline_ns, op_id, c, err);
		if (res != -EAGAIN)
			break;
		res = store_backoff(attempt, deadline_ns, NULL);
		if (res)
			break;
	}
	store_call_put(c);
	return res;
}

/* "exports/NAME/export.json" -> NAME in out[GFS_NAME_MAX]; false for any other key. */
static bool root_key_name(const char *key, char *out)
{
	static const char head[] = "exports/", tail[] = "/export.json";
	size_t n = strlen(key), fixed = sizeof(head) - 1 + sizeof(tail) - 1;
	struct fmt_err err;

	if (n <= fixed || n - fixed >= GFS_NAME_MAX || strncmp(key, head, sizeof(head) - 1) ||
	    strcmp(key + n - (sizeof(tail) - 1), tail))
		return false;
	snprintf(out, GFS_NAME_MAX, "%.*s", (int)(n - fixed), key + sizeof(head) - 1);
	return !volume_name_check(out, &err);
}

struct name_list {
	char **names;
	size_t nr, cap;
};

static void name_list_free(struct name_list *l)
{
	while (l->nr)
		free(l->names[--l->nr]);
	free(l->names);
}

static int name_list_add(struct name_list *l, const char *name)
{
	if (l->nr == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		char **names = realloc(l->names, cap * sizeof(*names));

		if (!names)
			return -ENOMEM;
		l->names = names;
		l->cap = cap;
	}
	l->names[l->nr] = strdup(name);
	if (!l->names[l->nr])
		return -ENOMEM;
	l->nr++;
	return 0;
}

static int name_list_key(const char *key, void *arg)
{
	char name[GFS_NAME_MAX];

	return root_key_name(key, name) ? name_list_add(arg, name) : 0;
}

int root_list(struct engine *e, char ***names, size_t *nr, struct fmt_err *err)
{
	struct name_list l = {0};
	int res = object_list(e, "exports/", name_list_key, &l, err);

	if (res) {
		name_list_free(&l);
		return res;
	}
	*names = l.names;
	*nr = l.nr;
	return 0;
}

int root_manifest_check(const struct root *r, const struct manifest *m, struct fmt_err *err)
{
	if (m->block_bytes == r->block_bytes)
		return 0;
	return fmt_fail(err, -EBADMSG, "manifest %s: blocks of %u bytes, the root of %s says %u",
			r->manifest.id, m->block_bytes, r->name, r->block_bytes);
}

int root_manifest_load(struct engine *e, const struct root *r, uint64_t op_id,
		       struct manifest **out, struct fmt_err *err)
{
	struct manifest_fetch *f;
	int res;

	*out = NULL;
	if (!r->manifest.id[0])
		return 0;
	f = manifest_fetch_start(e, &r->manifest, r->name, op_id);
	if (!f)
		return fmt_fail(err, -ENOMEM, "manifest of %s: out of memory", r->name);
	res = manifest_fetch_finish(f, out, err);
	if (!res)
		res = root_manifest_check(r, *out, err);
	if (res) {
		manifest_put(*out);
		*out = NULL;
	}
	return res;
}
