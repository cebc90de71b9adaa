// SPDX-License-Identifier: GPL-2.0-or-later
/* See gc_hosts.h. */
#include "selftests/unit/sim/gc_hosts.h"
#include "engine/bless_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define PACKS 3

struct hosts hosts;

/* It is done, or not, or comes later: any of them has to be safe. */
void unasked(int r __unused)
{
}

static int put(const char *key, const void *data, size_t len, uint64_t until_ns)
{
	struct store_call *c =
		store_call_new(sim_host()->store, STORE_PUT, STORE_PRIO_META, NULL, 1);
	int r;

	assert_non_null(c);
	snprintf(c->key, sizeof(c->key), "%s", key);
	store_call_body(c, data, len, NULL, NULL);
	c->op.cond = STORE_IF_NONE_MATCH;
	for (unsigned int attempt = 1;; attempt++) {
		c->op.deadline_ns = now_ns() + 4 * NSEC_PER_SEC;
		r = store_call_run(c, NULL);
		if (r == -EEXIST && attempt > 1)
			r = 0;
		if (!r || store_backoff(attempt, until_ns, NULL))
			break;
	}
	store_call_put(c);
	return r;
}

static int pack_put(struct manifest_entry *me, uint64_t until_ns)
{
	char key[STORE_KEY_MAX];

	*me = (struct manifest_entry){
		.nblocks = 1, .index_len = 96, .chunk = sim_random(2), .index_off = 4096};
	random_bytes(me->pack_id, sizeof(me->pack_id));
	pack_key(me->chunk, me->pack_id, key, sizeof(key));
	return put(key, "pack", 4, until_ns);
}

static int entry_cmp(const void *a, const void *b)
{
	const struct manifest_entry *x = a, *y = b;

	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

/* All new packs, and those of the base that are not superseded: of a compaction none. */
static struct manifest *manifest_make(const struct vol *v, const struct manifest_entry *fresh,
				      unsigned int nr_fresh, bool compact)
{
	uint32_t nr = v->m ? v->m->nr_entries : 0, n = 0;
	struct manifest *m = manifest_alloc(nr + nr_fresh);

	assert_non_null(m);
	memcpy(m->uuid, v->root.uuid, sizeof(m->uuid));
	m->size_bytes = v->root.size_bytes;
	m->block_bytes = v->root.block_bytes;
	m->sequence = v->root.sequence + 1;
	for (unsigned int i = 0; i < nr_fresh; i++)
		m->entries[n++] = fresh[i];
	for (uint32_t i = 0; !compact && i < nr && n < 12; i++)
		if (sim_random(3))
			m->entries[n++] = v->m->entries[i];
	m->nr_entries = n;
	qsort(m->entries, n, sizeof(m->entries[0]), entry_cmp);
	return m;
}

static int manifest_write(struct root *r, const struct manifest *m, uint64_t until_ns)
{
	char key[STORE_KEY_MAX];
	uint64_t rnd;
	size_t len;
	void *buf;
	int res;

	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	random_bytes(&rnd, sizeof(rnd));
	memcpy(r->manifest.uuid, r->uuid, sizeof(r->uuid));
	snprintf(r->manifest.id, sizeof(r->manifest.id), "%020llu.%016llx",
		 (unsigned long long)r->sequence, (unsigned long long)rnd);
	hash_sha256(buf, len, r->manifest.sha256);
	r->manifest.bytes = len;
	manifest_key(r->manifest.uuid, r->manifest.id, key, sizeof(key));
	res = put(key, buf, len, until_ns);
	free(buf);
	return res;
}

static void vol_lose(struct vol *v)
{
	v->there = false;
	manifest_put(v->m);
	v->m = NULL;
}

/* The root was refused: another has it, or an earlier upload landed after all. */
static void upload_refused(struct vol *v, const struct root *want)
{
	char etag[STORE_ETAG_MAX];
	struct fmt_err err;
	struct manifest *m;
	struct root cur;

	hosts.refused++;
	if (root_load(sim_host(), v->name, 1, &cur, etag, &err) ||
	    memcmp(cur.uuid, v->root.uuid, 16) || cur.generation != v->root.generation ||
	    cur.sequence != want->sequence || root_manifest_load(sim_host(), &cur, 1, &m, &err)) {
		vol_lose(v);
		return;
	}
	manifest_put(v->m);
	v->m = m;
	v->root = cur;
	memcpy(v->etag, etag, sizeof(etag));
}

void upload(struct vol *v, bool compact)
{
	uint64_t until_ns = gc_window_end(sim_host());
	unsigned int nr = 1 + sim_random(PACKS), n = 0;
	struct manifest_entry fresh[PACKS];
	struct root next = v->root;
	char etag[STORE_ETAG_MAX];
	struct manifest *m;
	struct fmt_err err;
	int r = 0;

	if (hosts.plant == PLANT_NO_WINDOW)
		until_ns = UINT64_MAX;
	for (; !r && n < nr; n++)
		r = pack_put(&fresh[n], MIN(until_ns, now_ns() + 8 * NSEC_PER_SEC));
	if (r)
		return;
	if (!sim_random(8))
		sim_sleep(sim_random(hosts.plant == PLANT_NO_WINDOW ? 4 * SIM_GRACE_S
								    : SIM_GRACE_S / 4) *
			  NSEC_PER_SEC);
	next.sequence++;
	random_bytes(next.nonce, sizeof(next.nonce));
	m = manifest_make(v, fresh, nr, compact);
	r = manifest_write(&next, m, MIN(until_ns, now_ns() + 8 * NSEC_PER_SEC));
	/* As long as it has no answer the same bytes are sent, until the window ends. */
	while (!r && now_ns() < until_ns) {
		memcpy(etag, v->etag, sizeof(etag));
		r = root_update(sim_host(), &next, v->root.nonce, etag,
				MIN(until_ns, now_ns() + 4 * NSEC_PER_SEC), 1, NULL, &err);
		if (!r) {
			manifest_put(v->m);
			v->m = m;
			v->root = next;
			memcpy(v->etag, etag, sizeof(etag));
			return;
		}
		if (r != -ETIMEDOUT || !sim_random(4))
			break;
		r = 0;
	}
	manifest_put(m);
	if (r == -ESTALE)
		upload_refused(v, &next);
}

bool snapshot(struct vol *v, struct snap *s)
{
	uint64_t until_ns = gc_window_end(sim_host());
	struct snapshot out;
	struct fmt_err err;
	struct root cur;

	if (root_load(sim_host(), v->name, 1, &cur, NULL, &err) ||
	    memcmp(cur.uuid, v->root.uuid, 16))
		return false;
	if (snapshot_write(sim_host(), &cur, "", until_ns, 1, &out, &err))
		return false;
	snprintf(s->name, sizeof(s->name), "%.7s", v->name);
	s->seq = out.seq;
	s->there = true;
	return true;
}

/* What is known of the source, of a snapshot maybe from the cache. */
static int source_load(const struct source *from, struct snapshot *s, char *etag,
		       struct fmt_err *err)
{
	struct base base;
	int r;

	etag[0] = '\0';
	if (!from->image)
		return snapshot_find(sim_host(), from->name, from->seq, "fork", 1, s, etag, err);
	r = base_load(sim_host(), from->name, 1, &base, err);
	if (!r)
		base_source(&base, s);
	return r;
}

/* The PUT of the root, and beside it the question whether its source is there. */
static int root_put(const struct root *root, const struct snapshot *s, const char *s_etag,
		    uint64_t deadline, char *etag, struct manifest **m)
{
	struct snapshot_check *ck = NULL;
	struct fmt_err err;
	bool late;
	int r;

	sim_beside(true);
	if (s && hosts.plant != PLANT_UNASKED)
		ck = snapshot_check_start(sim_host(), s, s_etag, root->name, deadline, 1);
	sim_beside(false);
	r = root_create_late(sim_host(), root, deadline, 1, etag, &late, &err);
	if (!r)
		r = root_manifest_load(sim_host(), root, 1, m, &err);
	if (r)
		snapshot_check_cancel(ck);
	else if (ck)
		r = snapshot_check_finish(ck, &err);
	hosts.gone += ck && r == -ENOENT;
	return r;
}

bool create(struct vol *v, const struct source *from)
{
	uint64_t until_ns = gc_window_end(sim_host()), deadline;
	struct volume_def def = {.name = v->name, .size_bytes = 2 * CHUNK_BYTES};
	char key[STORE_KEY_MAX], etag[STORE_ETAG_MAX];
	struct manifest *m = NULL;
	struct snapshot s;
	struct fmt_err err;
	struct root root;

	if (from) {
		if (source_load(from, &s, etag, &err))
			return false;
		def.from = &s;
	}
	assert_int_equal(root_prepare(sim_host(), &def, &root), 0);
	deadline = MIN(until_ns, now_ns() + 8 * NSEC_PER_SEC);
	if (now_ns() >= deadline)
		return false;
	if (root_put(&root, from ? &s : NULL, etag, deadline, v->etag, &m)) {
		/* Undone; what comes late after this is nothing that anybody was told of. */
		unasked(root_delete(sim_host(), v->name, root.nonce, 1, &err));
		manifest_put(m);
		return false;
	}
	v->root = root;
	v->m = m;
	v->there = true;
	root_key(v->name, key, sizeof(key));
	sim_acknowledged(key);
	hosts.forks += from != NULL;
	return true;
}

void destroy(struct vol *v)
{
	char key[STORE_KEY_MAX];
	struct fmt_err err;

	root_key(v->name, key, sizeof(key));
	sim_forsaken(key);
	/* After an error it is deleted, or not; nobody uses it. */
	unasked(root_delete(sim_host(), v->name, v->root.nonce, 1, &err));
	vol_lose(v);
}

/* ---- images ---- */

static int content_pack(unsigned int content, uint64_t period, struct manifest_entry *me)
{
	static const uint8_t unnamed[PACK_ID_LEN];
	struct pack_writer *w = pack_writer_new(unnamed, content % 2, BLOCK_BYTES, 1);
	uint8_t sha256[SHA256_LEN];
	char key[STORE_KEY_MAX];
	struct fmt_err err;
	const void *buf;
	size_t len;
	bool there;
	int r;

	assert_non_null(w);
	hash_sha256(&content, sizeof(content), sha256);
	assert_int_equal(pack_writer_add(w, 0, PACK_ZSTD, &content, sizeof(content), sha256), 0);
	assert_int_equal(pack_writer_name(w, period), 0);
	assert_int_equal(pack_writer_finish(w, &buf, &len, me), 0);
	pack_key(me->chunk, me->pack_id, key, sizeof(key));
	r = content_put(sim_host(), key, buf, len, &there, 1, &err);
	hosts.relied += !r && there;
	pack_writer_free(w);
	return r;
}

static int content_manifest(struct base *b, const struct manifest_entry *me)
{
	struct manifest *m = manifest_alloc(1);
	char key[STORE_KEY_MAX];
	struct fmt_err err;
	size_t len;
	bool there;
	void *buf;
	int r;

	assert_non_null(m);
	m->size_bytes = b->size_bytes;
	m->block_bytes = b->block_bytes;
	m->entries[0] = *me;
	assert_int_equal(base_manifest_name(m, b->manifest.id), 0);
	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	memcpy(b->uuid, m->uuid, sizeof(b->uuid));
	memcpy(b->manifest.uuid, m->uuid, sizeof(b->uuid));
	hash_sha256(buf, len, b->manifest.sha256);
	b->manifest.bytes = len;
	manifest_key(b->uuid, b->manifest.id, key, sizeof(key));
	manifest_put(m);
	r = content_put(sim_host(), key, buf, len, &there, 1, &err);
	hosts.relied += !r && there;
	free(buf);
	return r;
}

bool bless(struct image *im, unsigned int content, bool cut_short)
{
	struct base b = {.size_bytes = 2 * CHUNK_BYTES, .block_bytes = BLOCK_BYTES};
	uint64_t until_ns = gc_window_end(sim_host()), period;
	struct manifest_entry me;
	char key[STORE_KEY_MAX];
	struct fmt_err err;
	struct base old;
	bool there;

	if (base_load(sim_host(), im->name, 1, &old, &err) != -ENOENT ||
	    gc_period(sim_host(), 1, &period, &err))
		return false;
	if (hosts.plant == PLANT_NO_PERIOD)
		period = 0;
	snprintf(b.name, sizeof(b.name), "%s", im->name);
	hash_sha256(&content, sizeof(content), b.content_sha256);
	if (content_pack(content, period, &me) || content_manifest(&b, &me) || cut_short)
		return false;
	/* The image has other packs, and a slow uplink. */
	if (!sim_random(8))
		sim_sleep(sim_random(SIM_GRACE_S / 4) * NSEC_PER_SEC);
	b.created_s = wall_ns() / NSEC_PER_SEC;
	if (base_seal(sim_host(), &b, until_ns, &there, 1, &err))
		return false;
	im->there = true;
	/* What was there may be on its way out since long ago. */
	if (!there && !im->deleting) {
		base_key(im->name, key, sizeof(key));
		sim_acknowledged(key);
	}
	hosts.blessed++;
	return true;
}

void image_delete(struct image *im)
{
	char key[STORE_KEY_MAX];
	struct fmt_err err;

	base_key(im->name, key, sizeof(key));
	sim_forsaken(key);
	im->there = false;
	im->deleting++;
	unasked(base_delete(sim_host(), im->name, 1, &err));
	im->deleting--;
}

void collect(void)
{
	struct gc_params p = {.grace_s = SIM_GRACE_S};
	struct gc_progress *progress = NULL;
	struct gc_report rep;
	struct fmt_err err;
	int r;

	for (unsigned int i = 0; !progress && i < COLLECTORS; i++)
		if (!hosts.run[i].phase)
			progress = &hosts.run[i];
	assert_non_null(progress);
	progress->phase = "";
	hosts.collecting++;
	r = gc_run(sim_host(), &p, NULL, 1, progress, &rep, &err);
	hosts.collected += !r;
	hosts.aborted += r == -ENOENT;
	if (r == -ENOENT)
		assert_true(!rep.deleted && !rep.marked);
	hosts.collecting--;
	progress->phase = NULL;
	sim_collected();
}
