// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A run of the collector: the store's time, tombstones, what is named, and only then what is to be
 * deleted or marked. No step may be moved before another; Documentation/gc.rst has the reasons. The
 * run's thread only.
 */
#include "engine/gc_priv.h"

#include <inttypes.h>

uint64_t gc_window_end(const struct engine *e)
{
	return now_ns() + e->cfg.gc_grace_ns / GC_WINDOW_PART;
}

bool gc_canceled(const struct gc_run *g)
{
	return g->cancel && __atomic_load_n(g->cancel, __ATOMIC_ACQUIRE);
}

/*
 * Times are whole seconds, cut off: one more makes up for it. What the store says no time of (0) is
 * never old.
 */
bool gc_older(const struct gc_run *g, uint64_t t_s, unsigned int periods)
{
	return t_s && t_s < g->now_s && g->now_s - t_s > periods * g->p->grace_s;
}

void gc_random_key(const char *prefix, char key[STORE_KEY_MAX])
{
	uint8_t rnd[16];
	char hex[33];

	random_bytes(rnd, sizeof(rnd));
	hex_encode(rnd, sizeof(rnd), hex);
	snprintf(key, STORE_KEY_MAX, "%s%s", prefix, hex);
}

int gc_put(struct engine *e, const char *key, const void *data, size_t len, const char *volume,
	   uint64_t op_id, struct fmt_err *err)
{
	struct object_write w = {.key = key,
				 .data = data,
				 .len = len,
				 .cond = STORE_IF_NONE_MATCH,
				 .prio = STORE_PRIO_META,
				 .volume = volume};
	int r = object_put(e, &w, op_id, err);

	return r == -EEXIST ? 0 : r; /* an earlier attempt landed */
}

/* ---- the store's clock ---- */

/*
 * The time at which an object landed that was PUT now: not after anything the run does next. Absent
 * is the precondition, or a copy that lands late would make it later.
 */
static int clock_read(struct gc_run *g)
{
	char key[STORE_KEY_MAX];
	struct store_call *c;
	uint64_t deadline_ns = object_deadline(g->e);
	struct fmt_err ignored;
	int r;

	gc_random_key(GC_CLOCKS, key);
	r = gc_put(g->e, key, "clock\n", 6, NULL, g->op_id, g->err);
	if (r)
		return r;
	c = store_call_new(g->e->store, STORE_HEAD, STORE_PRIO_META, NULL, g->op_id);
	if (!c)
		return fmt_fail(g->err, -ENOMEM, "out of memory");
	snprintf(c->key, sizeof(c->key), "%s", key);
	for (unsigned int attempt = 1;; attempt++) {
		c->op.attempt = attempt;
		c->op.deadline_ns = object_attempt_deadline(deadline_ns);
		r = store_call_run(c, g->cancel);
		if (!r || r == -ECANCELED)
			break;
		fmt_fail(g->err, r, "HEAD %s: %s", key, strerror(-r));
		if (store_backoff(attempt, deadline_ns, g->cancel))
			break;
	}
	g->now_s = r ? 0 : c->op.mtime_s;
	store_call_put(c);
	if (object_delete(g->e, key, NULL, NULL, object_deadline(g->e), g->op_id, &ignored))
		ignored.msg[0] = '\0'; /* a later run removes it */
	if (!r && !g->now_s)
		r = fmt_fail(g->err, -EIO, "the store says no time of %s: ages are unknown", key);
	return r;
}

int gc_period(struct engine *e, uint64_t op_id, uint64_t *period, struct fmt_err *err)
{
	struct gc_run g = {.e = e, .op_id = op_id, .err = err};
	int r = clock_read(&g);

	*period = g.now_s * NSEC_PER_SEC / e->cfg.gc_grace_ns;
	return r;
}

/* ---- deleting ---- */

/* All of them at once; those without a definite answer are left to the next run. */
static void doomed_flush(struct gc_run *g)
{
	struct store_call *c[GC_PARALLEL] = {NULL};
	uint64_t deadline_ns = object_deadline(g->e);

	for (unsigned int i = 0; i < g->nr_doomed; i++) {
		c[i] = store_call_new(g->e->store, STORE_DELETE, STORE_PRIO_UPLOAD, NULL, g->op_id);
		if (!c[i])
			continue;
		snprintf(c[i]->key, sizeof(c[i]->key), "%s", g->doomed[i]);
		c[i]->op.attempt = 1;
		c[i]->op.deadline_ns = object_attempt_deadline(deadline_ns);
		store_call_start(c[i]);
	}
	for (unsigned int i = 0; i < g->nr_doomed; i++) {
		int r = c[i] ? store_call_wait(c[i], NULL) : -ENOMEM;

		if (!r)
			r = c[i]->op.res;
		store_call_put(c[i]);
		if (r && r != -ENOMEM)
			r = object_delete(g->e, g->doomed[i], NULL, NULL, object_deadline(g->e),
					  g->op_id, g->err);
		if (r) {
			g->rep->left++;
			continue;
		}
		g->rep->deleted++;
		g->rep->deleted_bytes += g->doomed_bytes[i];
		__atomic_add_fetch(&g->pr->deleted, 1, __ATOMIC_RELAXED);
	}
	g->nr_doomed = 0;
}

static void doom(struct gc_run *g, const struct store_list_entry *entry)
{
	struct gc_report *rep = g->rep;

	if (g->p->max_delete && rep->deleted + g->nr_doomed >= g->p->max_delete) {
		rep->left++;
		return;
	}
	if (g->p->dry_run) {
		rep->deleted++;
		rep->deleted_bytes += entry->size;
		return;
	}
	memcpy(g->doomed[g->nr_doomed], entry->key, sizeof(entry->key));
	g->doomed_bytes[g->nr_doomed++] = entry->size;
	if (g->nr_doomed == GC_PARALLEL)
		doomed_flush(g);
}

/* "chunks/IDX/PACKID.pack" or "manifests/UUID/ID": what is not is none of ours. */
static bool key_ours(const char *key)
{
	char again[STORE_KEY_MAX] = "", uuid_text[37], id[MANIFEST_ID_MAX];
	unsigned int chunk;
	uint8_t bin[16];
	char hex[33];

	if (sscanf(key, "chunks/%9u/%32[0-9a-f].pack", &chunk, hex) == 2 && strlen(hex) == 32 &&
	    !hex_decode(hex, bin, sizeof(bin)))
		pack_key(chunk, bin, again, sizeof(again));
	else if (sscanf(key, "manifests/%36[0-9a-f-]/%47[0-9a-f.]", uuid_text, id) == 2 &&
		 !uuid_parse(uuid_text, bin))
		manifest_key(bin, id, again, sizeof(again));
	return !strcmp(key, again);
}

static int sweep_listed(const struct store_list_entry *entry, void *arg)
{
	struct gc_run *g = arg;
	struct gc_report *rep = g->rep;
	const struct gc_slot *sl;

	if (gc_canceled(g))
		return -ECANCELED;
	__atomic_add_fetch(&g->pr->seen, 1, __ATOMIC_RELAXED);
	if (!key_ours(entry->key)) {
		rep->foreign++;
		return 0;
	}
	sl = gc_set_find(&g->set, entry->key);
	if (sl && sl->flags & GC_LIVE) {
		rep->live++;
		rep->live_bytes += entry->size;
		rep->spared += sl->flags & GC_RIPE ? 1 : 0;
	} else if (sl && sl->flags & GC_RIPE && entry->mtime_s && entry->mtime_s <= sl->tomb_s) {
		doom(g, entry);
	} else if (sl && sl->flags & GC_WAITING) {
		rep->waiting++;
	} else if (gc_older(g, entry->mtime_s, 1)) {
		rep->marked++;
		rep->marked_bytes += entry->size;
		return g->p->dry_run ? 0 : gc_tomb_add(g, entry->key);
	} else {
		rep->young++;
	}
	return 0;
}

static int sweep(struct gc_run *g, const char *prefix)
{
	int r;

	__atomic_store_n(&g->pr->seen, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&g->pr->phase, prefix, __ATOMIC_RELEASE);
	r = object_scan(g->e, prefix, sweep_listed, g, g->err);
	if (!r)
		doomed_flush(g);
	return r;
}

/* ---- the collector's own objects ---- */

static int clock_listed(const struct store_list_entry *entry, void *arg)
{
	struct gc_run *g = arg;

	if (!gc_older(g, entry->mtime_s, 1))
		return 0;
	return object_delete(g->e, entry->key, NULL, NULL, object_deadline(g->e), g->op_id, g->err);
}

/* Tombstones whose work is done, graves that nobody looks at any more, clocks of killed runs. */
static int tidy(struct gc_run *g)
{
	int r = 0;

	__atomic_store_n(&g->pr->phase, "gc/", __ATOMIC_RELEASE);
	for (size_t i = 0; !r && i < g->nr_tombs; i++)
		if (g->tomb[i].spent || (g->tomb[i].ripe && !g->rep->left))
			r = object_delete(g->e, g->tomb[i].key, NULL, NULL, object_deadline(g->e),
					  g->op_id, g->err);
	for (size_t i = 0; !r && i < g->nr_graves; i++)
		r = object_delete(g->e, g->graves[i], NULL, NULL, object_deadline(g->e), g->op_id,
				  g->err);
	return r ? r : object_scan(g->e, GC_CLOCKS, clock_listed, g, g->err);
}

static int steps(struct gc_run *g)
{
	int r = clock_read(g);

	if (!r)
		r = gc_tombs_load(g);
	if (!r)
		r = gc_mark(g);
	if (!r)
		r = sweep(g, "manifests/");
	if (!r)
		r = sweep(g, "chunks/");
	if (!r)
		r = gc_tombs_flush(g);
	return r || g->p->dry_run ? r : tidy(g);
}

int gc_run(struct engine *e, const struct gc_params *p, const bool *cancel, uint64_t op_id,
	   struct gc_progress *progress, struct gc_report *out, struct fmt_err *err)
{
	struct gc_run g = {.e = e,
			   .p = p,
			   .cancel = cancel,
			   .op_id = op_id,
			   .pr = progress,
			   .rep = out,
			   .err = err,
			   .start_ns = now_ns()};
	int r;

	memset(out, 0, sizeof(*out));
	err->msg[0] = '\0';
	if (!p->grace_s || p->grace_s * NSEC_PER_SEC < e->cfg.gc_grace_ns)
		return fmt_fail(err, -EINVAL,
				"a grace period of %" PRIu64 " s is shorter than the one that all "
				"hosts rely on, gc.grace_s = %llu",
				p->grace_s, e->cfg.gc_grace_ns / NSEC_PER_SEC);
	__atomic_store_n(&progress->deleted, 0, __ATOMIC_RELAXED);
	r = steps(&g);
	__atomic_store_n(&progress->phase, "", __ATOMIC_RELEASE);
	gc_set_free(&g.set);
	free(g.tomb);
	free(g.graves);
	free(g.text);
	return r;
}

/* ---- graves ---- */

int gc_bury_text(struct engine *e, const void *text, size_t len, const char *volume, uint64_t op_id,
		 struct fmt_err *err)
{
	char key[STORE_KEY_MAX];

	gc_random_key(GC_GRAVES, key);
	return gc_put(e, key, text, len, volume, op_id, err);
}

struct burial {
	void *text;
	size_t len;
	struct gc_buried *out;
	struct manifest_ref ref;
	int damaged; /* what holder_parse() said of it */
};

/* What is damaged is read once more, in case the transfer was bad. */
static int burial_use(const struct store_op *op, void *arg)
{
	struct burial *b = arg;
	struct fmt_err ignored;

	free(b->text);
	b->text = malloc(op->size_out ? op->size_out : 1);
	if (!b->text)
		return -ENOMEM;
	memcpy(b->text, op->buf, op->size_out);
	b->len = op->size_out;
	hash_sha256(b->text, b->len, b->out->sha256);
	memcpy(b->out->etag, op->etag, sizeof(b->out->etag));
	b->damaged = holder_parse(b->text, b->len, &b->ref, &ignored);
	return b->damaged == -EPROTONOSUPPORT ? 0 : b->damaged;
}

int gc_bury(struct engine *e, const char *key, const char *volume, uint64_t op_id,
	    struct gc_buried *out, struct fmt_err *err)
{
	struct burial b = {.out = out};
	int r = object_get(e, key, volume, object_deadline(e), op_id, NULL, burial_use, &b, err);

	/* Nobody can have taken anything from what is damaged, or what names nothing. */
	if ((r == -EBADMSG || r == -ENODATA) && r == b.damaged)
		r = 0;
	else if (!r && (b.damaged || b.ref.id[0]))
		r = gc_bury_text(e, b.text, b.len, volume, op_id, err);
	free(b.text);
	return r;
}
