// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is named: by all roots, snapshots and images, and last by graves, because what is deleted
 * meanwhile leaves its grave first; and the packs of all these manifests. Documentation/gc.rst.
 *
 * Whatever cannot be read might name anything, so it ends the run. The run's thread only.
 */
#include "engine/gc_priv.h"

struct kind {
	const char *prefix, *what;
	bool (*key_ok)(const char *rest); /* of what follows the prefix */
	size_t count;                     /* offset in struct gc_report */
	bool grave;
};

static bool name_ok(const char *s, size_t n)
{
	char name[GFS_NAME_MAX];
	struct fmt_err ignored;

	if (n >= sizeof(name))
		return false;
	snprintf(name, sizeof(name), "%.*s", (int)n, s);
	return !volume_name_check(name, &ignored);
}

static bool root_key_ok(const char *rest)
{
	size_t n = strcspn(rest, "/");

	return !strcmp(rest + n, "/export.json") && name_ok(rest, n);
}

static bool snapshot_key_ok(const char *rest)
{
	size_t n = strcspn(rest, "/");

	return rest[n] && strlen(rest + n + 1) == 20 && strspn(rest + n + 1, "0123456789") == 20 &&
	       name_ok(rest, n);
}

static bool base_key_ok(const char *rest)
{
	return name_ok(rest, strlen(rest));
}

static bool grave_key_ok(const char *rest)
{
	return strlen(rest) == 32 && strspn(rest, "0123456789abcdef") == 32;
}

static const struct kind kinds[] = {
	{"exports/", "root", root_key_ok, offsetof(struct gc_report, roots), false},
	{"snapshots/", "snapshot", snapshot_key_ok, offsetof(struct gc_report, snapshots), false},
	{"bases/", "image", base_key_ok, offsetof(struct gc_report, bases), false},
	{GC_GRAVES, "grave", grave_key_ok, offsetof(struct gc_report, graves), true},
};

struct mark {
	struct gc_run *g;
	const struct kind *k;
	struct gc_get get[GC_PARALLEL];
	unsigned int nr;
};

/* ---- manifests ---- */

/* What is to be done about a manifest that is not what its holder names. */
#define STOPS ": nothing is deleted; restore the first, or remove the second, then try again"

struct manifest_want {
	const struct manifest_ref *ref;
	const char *holder;
};

static int manifest_mark(struct gc_run *g, const struct gc_get *get)
{
	const struct manifest_want *want = get->arg;
	uint8_t sum[SHA256_LEN];
	struct manifest *m;
	char key[STORE_KEY_MAX];
	int r = 0;

	if (get->res)
		return fmt_fail(g->err, -ENOENT, "%s is missing, %s names it" STOPS, get->key,
				want->holder);
	if (get->len != want->ref->bytes)
		return fmt_fail(g->err, -EBADMSG, "%s: %zu bytes, %s says %llu" STOPS, get->key,
				get->len, want->holder, (unsigned long long)want->ref->bytes);
	hash_sha256(get->buf, get->len, sum);
	if (memcmp(sum, want->ref->sha256, sizeof(sum)))
		return fmt_fail(g->err, -EBADMSG,
				"%s is corrupt: its hash is not the one in %s" STOPS, get->key,
				want->holder);
	r = manifest_parse(get->buf, get->len, &m, g->err);
	if (r)
		return r;
	for (uint32_t i = 0; !r && i < m->nr_entries; i++) {
		pack_key(m->entries[i].chunk, m->entries[i].pack_id, key, sizeof(key));
		r = gc_set_add(&g->set, key, GC_LIVE, 0);
	}
	manifest_put(m);
	if (!r)
		r = gc_set_add(&g->set, get->key, GC_LIVE | GC_READ, 0);
	return r ? fmt_fail(g->err, r, "out of memory") : 0;
}

static bool was_read(struct gc_run *g, const char *key)
{
	const struct gc_slot *sl = gc_set_find(&g->set, key);

	return sl && sl->flags & GC_READ;
}

/* ---- what names them ---- */

/* What get holds names which manifest? 1: none, or it is gone. */
static int ref_read(struct mark *mk, const struct gc_get *get, struct manifest_ref *ref)
{
	struct gc_run *g = mk->g;
	struct fmt_err why = {""};
	int r;

	if (get->res)
		return 1;
	r = holder_parse(get->buf, get->len, ref, &why);
	if (r)
		return fmt_fail(g->err, r,
				"%s cannot be read (%.300s) and may name anything: nothing is "
				"deleted; mend or remove it, then try again",
				get->key, why.msg);
	return ref->id[0] ? 0 : 1;
}

/*
 * The manifest was not as its holder says. That is no fault if the holder names another one by now.
 * A grave is kept longer than what it names.
 */
static int mark_again(struct mark *mk, const struct gc_get *holder, const struct manifest_ref *was,
		      int bad)
{
	struct fmt_err first = *mk->g->err;
	struct gc_get again = {.arg = NULL}, m = {.arg = NULL};
	struct manifest_want want;
	struct manifest_ref ref;
	int r;

	memcpy(again.key, holder->key, sizeof(again.key));
	r = gc_get_all(mk->g, &again, 1);
	if (r)
		return r;
	r = ref_read(mk, &again, &ref);
	gc_get_free(&again, 1);
	if (r)
		return r == 1 ? 0 : r;
	if (!memcmp(&ref, was, sizeof(ref))) {
		*mk->g->err = first;
		return bad;
	}
	want = (struct manifest_want){.ref = &ref, .holder = holder->key};
	m.arg = &want;
	manifest_key(ref.uuid, ref.id, m.key, sizeof(m.key));
	r = gc_get_all(mk->g, &m, 1);
	if (r)
		return r;
	r = manifest_mark(mk->g, &m);
	gc_get_free(&m, 1);
	return r;
}

static int manifests_mark(struct mark *mk, struct manifest_ref *ref, const unsigned int *of,
			  unsigned int nr)
{
	struct manifest_want want[GC_PARALLEL];
	struct gc_get get[GC_PARALLEL];
	struct gc_run *g = mk->g;
	unsigned int n = 0;
	int r;

	for (unsigned int i = 0; i < nr; i++) {
		manifest_key(ref[i].uuid, ref[i].id, get[n].key, sizeof(get[n].key));
		if (was_read(g, get[n].key))
			continue;
		want[n] = (struct manifest_want){.ref = &ref[i], .holder = mk->get[of[i]].key};
		get[n].arg = &want[n];
		n++;
	}
	r = gc_get_all(g, get, n);
	if (r)
		return r;
	for (unsigned int i = 0; !r && i < n; i++) {
		r = manifest_mark(g, &get[i]);
		if (r == -ENOENT && mk->k->grave)
			r = 0;
		else if (r && r != -ENOMEM)
			r = mark_again(mk, &mk->get[of[want[i].ref - ref]], want[i].ref, r);
	}
	gc_get_free(get, n);
	return r;
}

/* The objects that were collected so far. */
static int mark_flush(struct mark *mk)
{
	struct manifest_ref ref[GC_PARALLEL];
	unsigned int of[GC_PARALLEL], nr = 0;
	struct gc_run *g = mk->g;
	uint64_t *count = (uint64_t *)((char *)g->rep + mk->k->count);
	int r = gc_get_all(g, mk->get, mk->nr);

	if (r)
		return r;
	for (unsigned int i = 0; i < mk->nr && r >= 0; i++) {
		*count += !mk->get[i].res;
		memset(&ref[nr], 0, sizeof(ref[nr]));
		r = ref_read(mk, &mk->get[i], &ref[nr]);
		if (!r)
			of[nr++] = i;
	}
	if (r >= 0)
		r = manifests_mark(mk, ref, of, nr);
	gc_get_free(mk->get, mk->nr);
	mk->nr = 0;
	return r;
}

/* Graves that are older than all that is to be deleted need not be read: 1, or -errno. */
static int grave_passed(struct gc_run *g, const struct store_list_entry *entry)
{
	void *more;

	if (!entry->mtime_s || entry->mtime_s + 1 >= g->horizon_s)
		return 0;
	if (!gc_older(g, entry->mtime_s, GC_GRAVE_KEPT))
		return 1;
	more = reallocarray(g->graves, g->nr_graves + 1, sizeof(*g->graves));
	if (!more)
		return fmt_fail(g->err, -ENOMEM, "out of memory");
	g->graves = more;
	memcpy(g->graves[g->nr_graves++], entry->key, sizeof(*g->graves));
	return 1;
}

static int mark_listed(const struct store_list_entry *entry, void *arg)
{
	struct mark *mk = arg;
	struct gc_run *g = mk->g;
	int r;

	if (gc_canceled(g))
		return -ECANCELED;
	__atomic_add_fetch(&g->pr->seen, 1, __ATOMIC_RELAXED);
	if (!mk->k->key_ok(entry->key + strlen(mk->k->prefix)))
		return fmt_fail(g->err, -EBADMSG,
				"%s is no %s of this version and may name anything: nothing is "
				"deleted; remove it, or use the version that wrote it",
				entry->key, mk->k->what);
	r = mk->k->grave ? grave_passed(g, entry) : 0;
	if (r)
		return r == 1 ? 0 : r;
	memcpy(mk->get[mk->nr++].key, entry->key, sizeof(entry->key));
	return mk->nr < GC_PARALLEL ? 0 : mark_flush(mk);
}

int gc_mark(struct gc_run *g)
{
	uint64_t limit_ns = g->start_ns + g->p->grace_s * NSEC_PER_SEC / GC_WINDOW_PART;
	struct mark *mk = calloc(1, sizeof(*mk));
	int r = 0;

	if (!mk)
		return fmt_fail(g->err, -ENOMEM, "out of memory");
	for (size_t i = 0; !r && i < ARRAY_SIZE(kinds); i++) {
		mk->g = g;
		mk->k = &kinds[i];
		__atomic_store_n(&g->pr->seen, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&g->pr->phase, kinds[i].prefix, __ATOMIC_RELEASE);
		r = object_scan(g->e, kinds[i].prefix, mark_listed, mk, g->err);
		if (!r && mk->nr)
			r = mark_flush(mk);
	}
	free(mk);
	if (!r && now_ns() > limit_ns)
		r = fmt_fail(g->err, -ETIME,
			     "reading all that names others took more than a quarter of the grace "
			     "period of %llu s: nothing is deleted; make it longer on all hosts",
			     (unsigned long long)g->p->grace_s);
	return r;
}
