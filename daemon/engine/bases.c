// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Base images in the store; see volume.h. Blocking, no lock held across I/O.
 *
 * An image is what it reads as: two that bless the same content under one name at once both
 * succeed, whosever PUT came first, so an ambiguous PUT needs no nonce to be told apart. Its
 * manifest and packs are shared with all its forks, and only a garbage collector that has looked at
 * all roots, snapshots and bases may delete them.
 */
#include "engine/gc.h"
#include "engine/objects.h"
#include "engine/wire.h"

#define GETS_MAX 16 /* in flight for one list */

static const char prefix[] = "bases/";

struct base_read {
	const char *name;
	struct base *b;
	struct fmt_err *err;
};

static int base_use(const struct store_op *op, void *arg)
{
	struct base_read *br = arg;
	struct fmt_err why = {""};
	int res = base_parse(op->buf, op->size_out, br->b, &why);

	if (res)
		return fmt_fail(br->err, res,
				"image %s cannot be read (%.400s): %s %s, or delete it: glidefs "
				"image-rm",
				br->name, why.msg,
				res == -EPROTONOSUPPORT ? "use the version that wrote" : "restore",
				op->key);
	if (strcmp(br->b->name, br->name))
		res = fmt_fail(br->err, -EBADMSG, "%s names itself %s", op->key, br->b->name);
	return res;
}

int base_load(struct engine *e, const char *name, uint64_t op_id, struct base *out,
	      struct fmt_err *err)
{
	struct base_read br = {.name = name, .b = out, .err = err};
	char key[STORE_KEY_MAX];
	int res = volume_name_check(name, err);

	if (res)
		return res;
	base_key(name, key, sizeof(key));
	res = object_get(e, key, NULL, object_deadline(e), op_id, NULL, base_use, &br, err);
	if (res == -ENOENT)
		fmt_fail(err, res, "image %s does not exist in %s", name, e->store->url);
	return res;
}

/* The name is taken: by what reads the same? */
static int taken_verdict(struct engine *e, struct base *b, uint64_t op_id, struct fmt_err *err)
{
	struct base cur;
	int res = base_load(e, b->name, op_id, &cur, err);

	if (res)
		return res == -ENOENT
			       ? fmt_fail(err, -ETIMEDOUT,
					  "image %s: it appears and vanishes; try again", b->name)
			       : res;
	if (memcmp(cur.content_sha256, b->content_sha256, SHA256_LEN))
		return fmt_fail(
			err, -EEXIST,
			"image %s exists and has another content: take another name, or delete it: "
			"glidefs image-rm",
			b->name);
	*b = cur;
	return 0;
}

int base_seal(struct engine *e, struct base *b, uint64_t until_ns, bool *there, uint64_t op_id,
	      struct fmt_err *err)
{
	char key[STORE_KEY_MAX], *json;
	struct object_write w;
	size_t len;
	int res = base_encode(b, &json, &len);

	*there = false;
	if (res)
		return fmt_fail(err, res, "image %s: cannot encode it: %s", b->name,
				strerror(-res));
	base_key(b->name, key, sizeof(key));
	w = (struct object_write){.key = key,
				  .data = json,
				  .len = len,
				  .cond = STORE_IF_NONE_MATCH,
				  .prio = STORE_PRIO_META,
				  .deadline_ns = MIN(until_ns, object_deadline(e))};
	if (now_ns() < until_ns)
		res = object_put(e, &w, op_id, err);
	else
		res = fmt_fail(
			err, -ETIME,
			"image %s: it took more than a quarter of gc.grace_s (%llu s): bless "
			"it again, it goes on with what is there",
			b->name, e->cfg.gc_grace_ns / NSEC_PER_SEC);
	free(json);
	if (res != -EEXIST)
		return res;
	*there = true;
	return taken_verdict(e, b, op_id, err);
}

int base_delete(struct engine *e, const char *name, uint64_t op_id, struct fmt_err *err)
{
	uint64_t until_ns = gc_window_end(e);
	struct gc_buried first, now;
	char key[STORE_KEY_MAX];
	int res = volume_name_check(name, err);

	if (res)
		return res;
	base_key(name, key, sizeof(key));
	for (unsigned int attempt = 1;; attempt++) {
		/* Forks may be about to name what it names (gc.rst, R4). */
		res = gc_bury(e, key, NULL, op_id, &now, err);
		if (res)
			return res == -ENOENT ? 0 : res;
		if (attempt == 1)
			first = now;
		else if (memcmp(first.sha256, now.sha256, SHA256_LEN))
			return 0; /* it has gone, and another has its name */
		if (now_ns() >= until_ns)
			return fmt_fail(err, -EIO, "DELETE %s: the store is too slow; try again",
					key);
		res = object_delete(e, key, now.etag, NULL, MIN(until_ns, object_deadline(e)),
				    op_id, err);
		/* Refused: it has gone, or that is not its ETag. */
		if (res != -ESTALE || store_backoff(attempt, until_ns, NULL))
			return res;
	}
}

/* ---- listing ---- */

struct name_list {
	struct base_entry *e;
	size_t nr, cap;
};

static int name_list_add(const char *key, void *arg)
{
	const char *name = key + sizeof(prefix) - 1;
	struct name_list *l = arg;
	struct fmt_err ignored;

	if (volume_name_check(name, &ignored))
		return 0;
	if (l->nr == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct base_entry *more = realloc(l->e, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->e = more;
		l->cap = cap;
	}
	memset(&l->e[l->nr], 0, sizeof(l->e[0]));
	snprintf(l->e[l->nr++].b.name, GFS_NAME_MAX, "%s", name);
	return 0;
}

/* GETs of up to GETS_MAX images at once; those that are not right at once are read again. */
static void entries_load(struct engine *e, struct base_entry *entry, size_t nr, uint64_t op_id)
{
	struct store_call *c[GETS_MAX] = {NULL};
	struct fmt_err err;

	for (size_t i = 0; i < nr; i++) {
		c[i] = store_call_new(e->store, STORE_GET, STORE_PRIO_META, NULL, op_id);
		if (!c[i])
			continue;
		base_key(entry[i].b.name, c[i]->key, sizeof(c[i]->key));
		c[i]->op.attempt = 1;
		c[i]->op.deadline_ns = object_attempt_deadline(object_deadline(e));
		store_call_start(c[i]);
	}
	for (size_t i = 0; i < nr; i++) {
		char name[GFS_NAME_MAX];
		struct base_read br = {.name = name, .b = &entry[i].b, .err = &err};
		int res = c[i] ? store_call_wait(c[i], NULL) : -ENOMEM;

		memcpy(name, entry[i].b.name, sizeof(name));
		if (!res)
			res = c[i]->op.res ? c[i]->op.res : base_use(&c[i]->op, &br);
		if (c[i])
			store_call_put(c[i]);
		if (res && res != -ENOENT)
			res = base_load(e, name, op_id, &entry[i].b, &err);
		entry[i].error = res;
		memcpy(entry[i].b.name, name, sizeof(name));
	}
}

int base_list(struct engine *e, uint64_t op_id, struct base_entry **out, size_t *nr,
	      struct fmt_err *err)
{
	struct name_list l = {0};
	size_t n = 0;
	int res = object_list(e, prefix, name_list_add, &l, err);

	for (size_t i = 0; !res && i < l.nr; i += GETS_MAX)
		entries_load(e, &l.e[i], MIN((size_t)GETS_MAX, l.nr - i), op_id);
	for (size_t i = 0; !res && i < l.nr; i++) {
		int bad = l.e[i].error;

		if (bad == -ENOENT)
			continue; /* deleted since it was listed */
		if (bad && bad != -EBADMSG && bad != -ENODATA && bad != -EPROTONOSUPPORT)
			res = fmt_fail(err, bad, "image %s cannot be read: %s", l.e[i].b.name,
				       strerror(-bad));
		l.e[n++] = l.e[i];
	}
	if (res) {
		free(l.e);
		return res;
	}
	*out = l.e;
	*nr = n;
	return 0;
}
