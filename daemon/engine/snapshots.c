// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Snapshots in the store; see volume.h. Blocking, no lock held across I/O. Storage rules 10 to 12.
 *
 * A snapshot points to what a root named while it was current, and that is a point in time by
 * itself: a layer is published as a whole. So nothing has to stand still while it is made, and an
 * idle volume has nothing to upload.
 *
 * A PUT without a definite answer is sent again, the same bytes under the same name, until the
 * answer is definite; past the deadline what may have landed is deleted, which is safe at any time
 * because its name is never used again.
 */
#include "engine/gc.h"
#include "engine/objects.h"
#include "engine/wire.h"
#include "lib/log.h"

#define SEQ_TRIES 8  /* keys that may be taken */
#define GETS_MAX  16 /* in flight for one list */

/* Microseconds since 1970, and different from all others of this process. */
static uint64_t seq_next(struct engine *e)
{
	uint64_t last = __atomic_load_n(&e->snapshot_seq, __ATOMIC_RELAXED), seq;

	do
		seq = MAX(wall_ns() / 1000, last + 1);
	while (!__atomic_compare_exchange_n(&e->snapshot_seq, &last, seq, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED));
	return seq;
}

int snapshot_read(const struct store_op *op, const char *name, uint64_t seq, struct snapshot *s,
		  struct fmt_err *err)
{
	int res = snapshot_parse(op->buf, op->size_out, s, err);

	if (!res && (strcmp(s->name, name) || s->seq != seq))
		res = fmt_fail(err, -EBADMSG, "%s names itself %s@%llu", op->key, s->name,
			       (unsigned long long)s->seq);
	return res;
}

struct snapshot_want {
	const char *name;
	uint64_t seq;
	struct snapshot *s;
	struct fmt_err *err;
};

static int snapshot_use(const struct store_op *op, void *arg)
{
	struct snapshot_want *sr = arg;

	return snapshot_read(op, sr->name, sr->seq, sr->s, sr->err);
}

int snapshot_load(struct engine *e, const char *name, uint64_t seq, uint64_t op_id,
		  struct snapshot *out, struct fmt_err *err)
{
	struct snapshot_want sr = {.name = name, .seq = seq, .s = out, .err = err};
	char key[STORE_KEY_MAX];
	int res = volume_name_check(name, err);

	if (res)
		return res;
	snapshot_key(name, seq, key, sizeof(key));
	res = object_get(e, key, name, object_deadline(e), op_id, NULL, snapshot_use, &sr, err);
	if (res == -ENOENT)
		fmt_fail(err, res, "snapshot %s@%llu does not exist in %s", name,
			 (unsigned long long)seq, e->store->url);
	return res;
}

/* ---- making one ---- */

/* The name is taken: by an earlier attempt of ours (0), or not (-EEXIST); -EAGAIN: ask again. */
static int taken_verdict(struct engine *e, const struct snapshot *s, const char *key,
			 uint64_t deadline_ns, uint64_t op_id, struct fmt_err *err)
{
	struct snapshot cur;
	struct snapshot_want sr = {.name = s->name, .seq = s->seq, .s = &cur, .err = err};
	int res = object_get(e, key, s->name, deadline_ns, op_id, NULL, snapshot_use, &sr, err);

	if (!res)
		return memcmp(cur.nonce, s->nonce, sizeof(cur.nonce)) ? -EEXIST : 0;
	if (res == -EBADMSG || res == -ENODATA || res == -EPROTONOSUPPORT)
		return -EEXIST;
	return -EAGAIN;
}

/*
 * 0; -EEXIST: another has the name; -ETIMEDOUT: not definite; others: definitely not written. etag:
 * "" if it was an earlier attempt that landed.
 */
static int snapshot_put(struct engine *e, const struct snapshot *s, const char *key,
			uint64_t until_ns, uint64_t op_id, char etag[STORE_ETAG_MAX],
			struct fmt_err *err)
{
	struct store_call *c = store_call_new(e->store, STORE_PUT, STORE_PRIO_META, s->name, op_id);
	uint64_t deadline_ns = MIN(until_ns, object_deadline(e));
	bool ambiguous = false;
	char *json = NULL;
	size_t len = 0;
	int res = c ? snapshot_encode(s, &json, &len) : -ENOMEM;

	etag[0] = '\0';
	if (res) {
		store_call_put(c);
		return fmt_fail(err, res, "snapshot of %s: cannot encode it: %s", s->name,
				strerror(-res));
	}
	store_call_body(c, json, len, json, free);
	snprintf(c->key, sizeof(c->key), "%s", key);
	c->op.cond = STORE_IF_NONE_MATCH;
	for (unsigned int attempt = 1;; attempt++) {
		int paused;

		c->op.attempt = attempt;
		c->op.deadline_ns = object_attempt_deadline(deadline_ns);
		res = store_call_run(c, NULL);
		if (!res) {
			memcpy(etag, c->op.etag, STORE_ETAG_MAX);
		} else if (res == -EEXIST) {
			res = taken_verdict(e, s, key, deadline_ns, op_id, err);
			ambiguous |= res == -EAGAIN;
		} else {
			ambiguous |= c->op.ambiguous;
			fmt_fail(err, res, "PUT %s: %s%s", key, strerror(-res),
				 c->op.ambiguous ? " (it may still land)" : "");
		}
		if (!res || res == -EEXIST || !ambiguous)
			break;
		paused = store_backoff(attempt, deadline_ns, NULL);
		if (paused) {
			res = paused;
			break;
		}
	}
	store_call_put(c);
	if (!res || res == -EEXIST)
		return res;
	if (ambiguous)
		return -ETIMEDOUT;
	return res == -ETIMEDOUT ? -EIO : res; /* -ETIMEDOUT means "not definite" here */
}

/* What may have landed, or lands before this: nobody was told of it. */
static int snapshot_unwrite(struct engine *e, const struct snapshot *s, const char *key,
			    uint64_t op_id)
{
	uint64_t until_ns = gc_window_end(e); /* as in snapshot_delete() */
	struct fmt_err ignored;
	size_t len;
	char *json;
	int res = snapshot_encode(s, &json, &len);

	if (res)
		return res;
	res = gc_bury_text(e, json, len, s->name, op_id, &ignored);
	free(json);
	if (!res && now_ns() >= until_ns)
		res = -ETIME;
	return res ? res
		   : object_delete(e, key, NULL, s->name, MIN(until_ns, object_deadline(e)), op_id,
				   &ignored);
}

int snapshot_write(struct engine *e, const struct root *r, const char *tag, uint64_t until_ns,
		   uint64_t op_id, struct snapshot *out, struct fmt_err *err)
{
	char key[STORE_KEY_MAX], etag[STORE_ETAG_MAX];
	int res;

	memset(out, 0, sizeof(*out));
	res = snapshot_tag_check(tag, err);
	if (res)
		return res;
	memcpy(out->name, r->name, sizeof(out->name));
	memcpy(out->uuid, r->uuid, sizeof(out->uuid));
	out->size_bytes = r->size_bytes;
	out->block_bytes = r->block_bytes;
	out->generation = r->generation;
	out->sequence = r->sequence;
	snprintf(out->tag, sizeof(out->tag), "%s", tag);
	out->manifest = r->manifest;
	out->created_s = wall_ns() / NSEC_PER_SEC;
	res = -EEXIST;
	for (int i = 0; i < SEQ_TRIES && res == -EEXIST; i++) {
		if (now_ns() >= until_ns)
			return fmt_fail(err, -EIO,
					"snapshot of %s: it took more than a quarter of gc.grace_s "
					"(%llu s); try again",
					r->name, e->cfg.gc_grace_ns / NSEC_PER_SEC);
		random_bytes(out->nonce, sizeof(out->nonce));
		out->seq = seq_next(e);
		snapshot_key(out->name, out->seq, key, sizeof(key));
		res = snapshot_put(e, out, key, until_ns, op_id, etag, err);
	}
	if (res == -EEXIST)
		return fmt_fail(err, -EIO,
				"snapshot of %s: %d names in a row are taken, the last is %s",
				r->name, SEQ_TRIES, key);
	if (res == -ETIMEDOUT && snapshot_unwrite(e, out, key, op_id))
		log_warn("volume %s: a snapshot that failed without a definite answer could not "
			 "be removed: %s may appear",
			 r->name, key);
	if (!res)
		snapshot_keep(e, out, etag);
	return res;
}

/*
 * The root names the layers that were published, and is ours as long as the one in the store has
 * our generation: one look within the request, and the snapshot is of a moment within the request.
 */
static int snapshot_current(struct volume *v, const struct root *mine, const char *tag,
			    uint64_t until_ns, uint64_t op_id, struct snapshot *out,
			    struct fmt_err *err)
{
	struct root cur;
	int res = root_load(v->e, mine->name, op_id, &cur, NULL, err);

	if (res == -ENOENT)
		return volume_fence(v, NULL, err);
	if (res)
		return res;
	if (memcmp(cur.uuid, mine->uuid, sizeof(cur.uuid)))
		return volume_fence(v, NULL, err);
	if (cur.generation != mine->generation || strcmp(cur.owner, mine->owner))
		return volume_fence(v, &cur, err);
	/* Not mine: an upload that has no answer yet may have taken its place long ago. */
	return snapshot_write(v->e, &cur, tag, until_ns, op_id, out, err);
}

int volume_snapshot(struct volume *v, const char *tag, uint64_t op_id, struct snapshot *out,
		    struct fmt_err *err)
{
	uint64_t until_ns = gc_window_end(v->e);
	struct root mine;
	struct view *vw;
	int res;

	if (volume_mode(v) == VOLUME_FENCED || volume_mode(v) == VOLUME_POISONED)
		return volume_mode_error(v, err);
	if (volume_releasing(v))
		return fmt_fail(err, -EAGAIN,
				"the store gave no definite answer to its release yet");
	pthread_mutex_lock(&v->lock);
	mine = v->root;
	vw = view_get(v->view);
	pthread_mutex_unlock(&v->lock);
	res = snapshot_current(v, &mine, tag, until_ns, op_id, out, err);
	/* Forks will ask for it. The view may be one upload behind the root: then it is refused. */
	if (!res && vw->manifest)
		manifest_keep(v->e, &out->manifest, vw->manifest);
	view_put(vw);
	return res;
}

int snapshot_delete(struct engine *e, const char *name, uint64_t seq, uint64_t op_id,
		    struct fmt_err *err)
{
	uint64_t until_ns = gc_window_end(e);
	char key[STORE_KEY_MAX];
	struct gc_buried buried;
	int res = volume_name_check(name, err);

	if (res)
		return res;
	snapshot_key(name, seq, key, sizeof(key));
	snapshot_forget(e, name, seq);
	res = gc_bury(e, key, name, op_id, &buried, err);
	if (res)
		return res == -ENOENT ? 0 : res;
	if (now_ns() >= until_ns)
		return fmt_fail(err, -EIO, "DELETE %s: the store is too slow; try again", key);
	return object_delete(e, key, NULL, name, MIN(until_ns, object_deadline(e)), op_id, err);
}

/* ---- is it still there? ---- */

struct snapshot_check {
	struct engine *e;
	struct store_call *head;
	const struct snapshot *s;
	const char *etag;
	uint64_t deadline_ns, op_id;
	char seen[STORE_ETAG_MAX];
};

struct snapshot_check *snapshot_check_start(struct engine *e, const struct snapshot *s,
					    const char *etag, const char *volume,
					    uint64_t deadline_ns, uint64_t op_id)
{
	struct snapshot_check *ck = calloc(1, sizeof(*ck));
	char key[STORE_KEY_MAX];

	if (!ck)
		return NULL;
	*ck = (struct snapshot_check){
		.e = e, .s = s, .etag = etag, .deadline_ns = deadline_ns, .op_id = op_id};
	if (s->seq)
		snapshot_key(s->name, s->seq, key, sizeof(key));
	else
		base_key(s->name, key, sizeof(key));
	ck->head = object_read_start(e, STORE_HEAD, key, volume, deadline_ns, op_id);
	if (ck->head)
		return ck;
	free(ck);
	return NULL;
}

void snapshot_check_cancel(struct snapshot_check *ck)
{
	if (!ck)
		return;
	store_call_put(ck->head);
	free(ck);
}

static int head_use(const struct store_op *op, void *arg)
{
	struct snapshot_check *ck = arg;

	memcpy(ck->seen, op->etag, sizeof(ck->seen));
	return 0;
}

int snapshot_check_finish(struct snapshot_check *ck, struct fmt_err *err)
{
	const struct snapshot *s = ck->s;
	struct snapshot cur;
	char ref[SNAPSHOT_REF_MAX];
	int res = object_read_finish(ck->head, ck->deadline_ns, NULL, head_use, ck, err);

	ck->head = NULL;
	/* An ETag alone convicts nobody: who is between us and the store may change it. */
	if (!res && ck->etag[0] && strcmp(ck->etag, ck->seen)) {
		res = snapshot_load(ck->e, s->name, s->seq, ck->op_id, &cur, err);
		if (!res && memcmp(cur.nonce, s->nonce, sizeof(cur.nonce)))
			res = -ENOENT;
	}
	if (res == -ENOENT) {
		snapshot_forget(ck->e, s->name, s->seq);
		snapshot_ref_format(s->name, s->seq, ref);
		fmt_fail(err, res, "%s, was deleted meanwhile", ref);
	}
	snapshot_check_cancel(ck);
	return res;
}

/* ---- listing ---- */

struct seq_list {
	const char *prefix;
	struct snapshot_entry *e;
	size_t nr, cap;
};

static int seq_list_add(const char *key, void *arg)
{
	struct seq_list *l = arg;
	const char *digits = key + strlen(l->prefix);
	uint64_t seq;

	if (strspn(digits, "0123456789") != 20 || digits[20])
		return 0;
	seq = strtoull(digits, NULL, 10);
	if (!seq || seq > INT64_MAX)
		return 0;
	if (l->nr == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct snapshot_entry *more = realloc(l->e, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->e = more;
		l->cap = cap;
	}
	memset(&l->e[l->nr], 0, sizeof(l->e[0]));
	l->e[l->nr++].s.seq = seq;
	return 0;
}

/* GETs of up to GETS_MAX snapshots at once; those that are not right at once are read again. */
static void entries_load(struct engine *e, const char *name, struct snapshot_entry *entry,
			 size_t nr, uint64_t op_id)
{
	struct store_call *c[GETS_MAX] = {NULL};
	struct fmt_err err;

	for (size_t i = 0; i < nr; i++) {
		c[i] = store_call_new(e->store, STORE_GET, STORE_PRIO_META, name, op_id);
		if (!c[i])
			continue;
		snapshot_key(name, entry[i].s.seq, c[i]->key, sizeof(c[i]->key));
		c[i]->op.attempt = 1;
		c[i]->op.deadline_ns = object_attempt_deadline(object_deadline(e));
		store_call_start(c[i]);
	}
	for (size_t i = 0; i < nr; i++) {
		uint64_t seq = entry[i].s.seq;
		struct snapshot_want sr = {.name = name, .seq = seq, .s = &entry[i].s, .err = &err};
		int res = c[i] ? store_call_wait(c[i], NULL) : -ENOMEM;

		if (!res)
			res = c[i]->op.res ? c[i]->op.res : snapshot_use(&c[i]->op, &sr);
		if (c[i])
			store_call_put(c[i]);
		if (res && res != -ENOENT)
			res = snapshot_load(e, name, seq, op_id, &entry[i].s, &err);
		entry[i].error = res;
		entry[i].s.seq = seq;
	}
}

int snapshot_list(struct engine *e, const char *name, uint64_t op_id, struct snapshot_entry **out,
		  size_t *nr, struct fmt_err *err)
{
	char prefix[STORE_KEY_MAX];
	struct seq_list l = {.prefix = prefix};
	size_t n = 0;
	int res = volume_name_check(name, err);

	if (res)
		return res;
	snprintf(prefix, sizeof(prefix), "snapshots/%s/", name);
	res = object_list(e, prefix, seq_list_add, &l, err);
	for (size_t i = 0; !res && i < l.nr; i += GETS_MAX)
		entries_load(e, name, &l.e[i], MIN((size_t)GETS_MAX, l.nr - i), op_id);
	for (size_t i = 0; !res && i < l.nr; i++) {
		int bad = l.e[i].error;

		if (bad == -ENOENT)
			continue; /* deleted since it was listed */
		if (bad && bad != -EBADMSG && bad != -ENODATA && bad != -EPROTONOSUPPORT)
			res = fmt_fail(err, bad, "snapshot %s@%llu cannot be read: %s", name,
				       (unsigned long long)l.e[i].s.seq, strerror(-bad));
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
