// SPDX-License-Identifier: GPL-2.0-or-later
/* See scrub.h. One thread per run, its own state, no lock. */
#include "engine/gc_priv.h"
#include "engine/scrub.h"

struct scrub {
	struct engine *e;
	const struct scrub_params *p;
	const bool *cancel;
	uint64_t op_id, start_ns;
	struct scrub_progress *pr;
	struct scrub_report *rep;
	struct fmt_err *err;
	struct gc_set done; /* keys of what was looked at */
};

static void bad(struct scrub *s, const char *key, const char *why)
{
	struct scrub_bad *b = &s->rep->bad_list[s->rep->nr_bad];

	s->rep->bad++;
	__atomic_store_n(&s->pr->bad, s->rep->bad, __ATOMIC_RELAXED);
	if (s->rep->nr_bad == SCRUB_BAD_MAX)
		return;
	s->rep->nr_bad++;
	snprintf(b->key, sizeof(b->key), "%s", key);
	snprintf(b->why, sizeof(b->why), "%.199s", why);
}

/* What an object is like, as opposed to what its store is like. */
static bool is_verdict(int r)
{
	return r == -EBADMSG || r == -ENODATA || r == -EPROTONOSUPPORT || r == -ENOENT ||
	       r == -EFBIG;
}

/* 1: it was not looked at before. */
static int first_time(struct scrub *s, const char *key)
{
	if (gc_set_find(&s->done, key))
		return 0;
	return gc_set_add(&s->done, key, GC_READ, 0) ? fmt_fail(s->err, -ENOMEM, "out of memory")
						     : 1;
}

/* So that no more than the rate is read on average. */
static int slow_down(struct scrub *s)
{
	uint64_t due;

	if (!s->p->bytes_per_s)
		return 0;
	due = s->start_ns +
	      (uint64_t)((double)s->rep->bytes / (double)s->p->bytes_per_s * NSEC_PER_SEC);
	while (now_ns() < due) {
		struct timespec t = {.tv_nsec = (long)MIN(due - now_ns(), 50 * NSEC_PER_MSEC)};

		if (s->cancel && __atomic_load_n(s->cancel, __ATOMIC_ACQUIRE))
			return -ECANCELED;
		nanosleep(&t, NULL);
	}
	return 0;
}

/* ---- packs ---- */

struct pack_job {
	struct scrub *s;
	const struct manifest_entry *me;
	uint32_t block_bytes;
	uint8_t *plain; /* of one block */
};

static int blocks_verify(struct pack_job *j, const uint8_t *obj, const struct pack_index *idx,
			 struct fmt_err *err)
{
	for (uint32_t i = 0; i < idx->nr; i++) {
		const struct pack_index_entry *e = &idx->e[i];

		if (e->kind == PACK_ZERO)
			continue;
		if ((uint64_t)e->off + e->clen > j->me->index_off)
			return fmt_fail(err, -EBADMSG, "block %u lies past the blocks", e->block);
		if (block_decode(e, obj + e->off, j->plain, j->block_bytes))
			return fmt_fail(err, -EBADMSG,
					"block %u of chunk %u: its hash or length is wrong",
					e->block, j->me->chunk);
		j->s->rep->blocks++;
	}
	return 0;
}

static int pack_use(const struct store_op *op, void *arg)
{
	struct pack_job *j = arg;
	struct fmt_err *err = j->s->err;
	const uint8_t *obj = op->buf;
	struct manifest_entry trailer;
	struct pack_index *idx;
	int r;

	j->s->rep->bytes += op->size_out;
	if (op->size_out < j->me->index_off + j->me->index_len + PACK_TRAILER_BYTES)
		return fmt_fail(err, -ENODATA, "%llu bytes: truncated",
				(unsigned long long)op->size_out);
	r = pack_index_parse(obj + j->me->index_off, j->me->index_len, j->me, j->block_bytes, &idx,
			     err);
	if (r)
		return r;
	r = blocks_verify(j, obj, idx, err);
	free(idx);
	if (!r)
		r = pack_trailer_parse(obj + op->size_out - PACK_TRAILER_BYTES, op->size_out,
				       &trailer, err);
	return r;
}

static int pack_verify(struct scrub *s, const struct manifest *m, const struct manifest_entry *me,
		       uint8_t *plain)
{
	struct pack_job j = {.s = s, .me = me, .block_bytes = m->block_bytes, .plain = plain};
	char key[STORE_KEY_MAX];
	int r;

	pack_key(me->chunk, me->pack_id, key, sizeof(key));
	r = first_time(s, key);
	if (r <= 0)
		return r;
	r = object_get(s->e, key, NULL, object_deadline(s->e), s->op_id, s->cancel, pack_use, &j,
		       s->err);
	if (r && !is_verdict(r))
		return r;
	if (r)
		bad(s, key, r == -ENOENT ? "missing" : s->err->msg);
	else
		s->rep->packs++;
	__atomic_store_n(&s->pr->packs, s->rep->packs, __ATOMIC_RELAXED);
	__atomic_store_n(&s->pr->bytes, s->rep->bytes, __ATOMIC_RELAXED);
	return slow_down(s);
}

/* ---- what names them ---- */

struct manifest_job {
	const struct manifest_ref *ref;
	struct manifest *m;
	struct fmt_err *err;
};

static int manifest_use(const struct store_op *op, void *arg)
{
	struct manifest_job *j = arg;

	return manifest_read(op, j->ref, &j->m, j->err);
}

/* From the store, whatever is kept of it in memory. */
static int manifest_load(struct scrub *s, const struct root *r, const char *key,
			 struct manifest **out)
{
	struct manifest_job j = {.ref = &r->manifest, .err = s->err};
	int res = object_get(s->e, key, r->name, object_deadline(s->e), s->op_id, s->cancel,
			     manifest_use, &j, s->err);

	if (!res)
		res = root_manifest_check(r, j.m, s->err);
	if (res) {
		manifest_put(j.m);
		j.m = NULL;
	}
	*out = j.m;
	return res;
}

/* r: what names the manifest, a root or one that stands for a snapshot or an image. */
static int manifest_verify(struct scrub *s, const struct root *r)
{
	char key[STORE_KEY_MAX];
	struct manifest *m;
	uint8_t *plain;
	int res;

	s->rep->holders++;
	if (!r->manifest.id[0])
		return 0;
	manifest_key(r->manifest.uuid, r->manifest.id, key, sizeof(key));
	res = first_time(s, key);
	if (res <= 0)
		return res;
	res = manifest_load(s, r, key, &m);
	if (res && !is_verdict(res))
		return res;
	if (res) {
		bad(s, key, res == -ENOENT ? "missing" : s->err->msg);
		return 0;
	}
	s->rep->manifests++;
	plain = malloc(m->block_bytes);
	if (!plain)
		res = fmt_fail(s->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; !res && i < m->nr_entries; i++)
		res = pack_verify(s, m, &m->entries[i], plain);
	free(plain);
	manifest_put(m);
	return res;
}

static int root_verify(struct scrub *s, const char *name, bool may_go)
{
	char key[STORE_KEY_MAX];
	struct root r;
	int res = root_load(s->e, name, s->op_id, &r, NULL, s->err);

	if (res == -ENOENT && may_go)
		return 0;
	if (res == -EBADMSG || res == -ENODATA || res == -EPROTONOSUPPORT) {
		root_key(name, key, sizeof(key));
		bad(s, key, s->err->msg);
		return 0;
	}
	return res ? res : manifest_verify(s, &r);
}

/* res: of loading what is at key, and became snap. */
static int holder_verify(struct scrub *s, const char *key, int res, const struct snapshot *snap)
{
	struct root r = {0};

	if (res == -ENOENT)
		return 0;
	if (res == -EBADMSG || res == -ENODATA || res == -EPROTONOSUPPORT) {
		bad(s, key, s->err->msg);
		return 0;
	}
	if (res)
		return res;
	memcpy(r.name, snap->name, sizeof(r.name));
	r.block_bytes = snap->block_bytes;
	r.manifest = snap->manifest;
	return manifest_verify(s, &r);
}

static int snapshot_listed(const char *key, void *arg)
{
	struct scrub *s = arg;
	char name[GFS_NAME_MAX];
	unsigned long long seq;
	struct snapshot snap;

	if (sscanf(key, "snapshots/%127[^/]/%20llu", name, &seq) != 2)
		return 0;
	return holder_verify(s, key, snapshot_load(s->e, name, seq, s->op_id, &snap, s->err),
			     &snap);
}

static int base_listed(const char *key, void *arg)
{
	const char *name = key + sizeof("bases/") - 1;
	struct scrub *s = arg;
	struct fmt_err ignored;
	struct snapshot snap;
	struct base b;
	int res;

	if (volume_name_check(name, &ignored))
		return 0;
	res = base_load(s->e, name, s->op_id, &b, s->err);
	if (!res)
		base_source(&b, &snap);
	return holder_verify(s, key, res, &snap);
}

static int everything(struct scrub *s)
{
	char **names = NULL;
	size_t nr = 0;
	int r = root_list(s->e, &names, &nr, s->err);

	for (size_t i = 0; i < nr; i++) {
		if (!r)
			r = root_verify(s, names[i], true);
		free(names[i]);
	}
	free(names);
	if (!r)
		r = object_list(s->e, "snapshots/", snapshot_listed, s, s->err);
	return r ? r : object_list(s->e, "bases/", base_listed, s, s->err);
}

int scrub_run(struct engine *e, const struct scrub_params *p, const bool *cancel, uint64_t op_id,
	      struct scrub_progress *progress, struct scrub_report *out, struct fmt_err *err)
{
	struct scrub s = {.e = e,
			  .p = p,
			  .cancel = cancel,
			  .op_id = op_id,
			  .start_ns = now_ns(),
			  .pr = progress,
			  .rep = out,
			  .err = err};
	int r;

	memset(out, 0, sizeof(*out));
	__atomic_store_n(&progress->packs, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&progress->bytes, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&progress->bad, 0, __ATOMIC_RELAXED);
	err->msg[0] = '\0';
	r = p->volume ? root_verify(&s, p->volume, false) : everything(&s);
	gc_set_free(&s.done);
	return r;
}
