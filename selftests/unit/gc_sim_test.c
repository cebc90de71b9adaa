// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The collector never deletes what something names, or will: the collector's own code against hosts
 * that create, upload, compact, snapshot, fork and delete, on a simulated store (gc_sim.h), in many
 * interleavings, each from a seed that is printed when it breaks the promise.
 *
 * What is the engine's code and what stands for it:
 *
 *   actor's step        stands for
 *   ------------------  ----------------------------------------------------------------------
 *   collect             gc_run() itself
 *   upload, compact     upload_steps(): publish_prepare() as PUTs of made-up packs and of a real
 *                       manifest, then the window's rule, root_update() itself, and
 *                       publish_refused() as far as it adopts
 *   snapshot            volume_snapshot(): root_load() and snapshot_write() themselves
 *   snapshot_delete     itself
 *   create, fork        create_owned(): snapshot_load(), root_prepare() and root_create_late()
 *                       themselves; local_side_undo() and record_reap() as root_delete() itself
 *   volume's delete     volume_destroy() as root_delete() itself
 *   crash               whatever the actor asks of the store from some moment on is not done
 *
 * GFS_GC_SIM=N runs N interleavings instead of 10000, GFS_GC_SIM_SEED=S begins at seed S.
 */
#include "selftests/unit/sim/gc_sim.h"
#include "engine/objects.h"
#include "lib/log.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define RUNS    10000
#define VOLUMES 4
#define SNAPS   6
#define PACKS   3

/* What a volume's host knows. */
struct vol {
	char name[8];
	bool there, busy;
	struct root root;
	char etag[STORE_ETAG_MAX];
	struct manifest *m;
};

struct snap {
	bool there;
	char name[8];
	uint64_t seq;
};

static struct world {
	struct engine *e;
	enum sim_plant plant;
	struct vol vol[VOLUMES];
	struct snap snap[SNAPS];
	unsigned int collected, refused;
	unsigned int collecting; /* runs that go on */
} world;

/* It is done, or not, or comes later: any of them has to be safe. */
static void unasked(int r __unused)
{
}

/* ---- steps ---- */

static int put(const char *key, const void *data, size_t len, uint64_t until_ns)
{
	struct store_call *c = store_call_new(world.e->store, STORE_PUT, STORE_PRIO_META, NULL, 1);
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

	world.refused++;
	if (root_load(world.e, v->name, 1, &cur, etag, &err) ||
	    memcmp(cur.uuid, v->root.uuid, 16) || cur.generation != v->root.generation ||
	    cur.sequence != want->sequence || root_manifest_load(world.e, &cur, 1, &m, &err)) {
		vol_lose(v);
		return;
	}
	manifest_put(v->m);
	v->m = m;
	v->root = cur;
	memcpy(v->etag, etag, sizeof(etag));
}

static void upload(struct vol *v, bool compact)
{
	uint64_t until_ns = gc_window_end(world.e);
	unsigned int nr = 1 + sim_random(PACKS), n = 0;
	struct manifest_entry fresh[PACKS];
	struct root next = v->root;
	char etag[STORE_ETAG_MAX];
	struct manifest *m;
	struct fmt_err err;
	int r = 0;

	if (world.plant == PLANT_NO_WINDOW)
		until_ns = UINT64_MAX;
	for (; !r && n < nr; n++)
		r = pack_put(&fresh[n], MIN(until_ns, now_ns() + 8 * NSEC_PER_SEC));
	if (r)
		return;
	if (!sim_random(8))
		sim_sleep(sim_random(world.plant == PLANT_NO_WINDOW ? 4 * SIM_GRACE_S
								    : SIM_GRACE_S / 4) *
			  NSEC_PER_SEC);
	next.sequence++;
	random_bytes(next.nonce, sizeof(next.nonce));
	m = manifest_make(v, fresh, nr, compact);
	r = manifest_write(&next, m, MIN(until_ns, now_ns() + 8 * NSEC_PER_SEC));
	/* As long as it has no answer the same bytes are sent, until the window ends. */
	while (!r && now_ns() < until_ns) {
		memcpy(etag, v->etag, sizeof(etag));
		r = root_update(world.e, &next, v->root.nonce, etag,
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

static bool snapshot(struct vol *v, struct snap *s)
{
	uint64_t until_ns = gc_window_end(world.e);
	struct snapshot out;
	struct fmt_err err;
	struct root cur;

	if (root_load(world.e, v->name, 1, &cur, NULL, &err) || memcmp(cur.uuid, v->root.uuid, 16))
		return false;
	if (snapshot_write(world.e, &cur, "", until_ns, 1, &out, &err))
		return false;
	snprintf(s->name, sizeof(s->name), "%.7s", v->name);
	s->seq = out.seq;
	s->there = true;
	return true;
}

/* from: NULL, a volume of zeros. */
static bool create(struct vol *v, const struct snap *from)
{
	uint64_t until_ns = gc_window_end(world.e), deadline;
	struct volume_def def = {.name = v->name, .size_bytes = 2 * CHUNK_BYTES};
	struct manifest *m = NULL;
	struct snapshot s;
	struct fmt_err err;
	struct root root;
	bool late;
	int r;

	if (from) {
		if (snapshot_load(world.e, from->name, from->seq, 1, &s, &err))
			return false;
		def.from = &s;
	}
	assert_int_equal(root_prepare(world.e, &def, &root), 0);
	deadline = MIN(until_ns, now_ns() + 8 * NSEC_PER_SEC);
	if (now_ns() >= deadline)
		return false;
	r = root_create_late(world.e, &root, deadline, 1, v->etag, &late, &err);
	if (!r)
		r = root_manifest_load(world.e, &root, 1, &m, &err);
	if (r) {
		/* Undone; what comes late after this stays, as it does when a host dies. */
		unasked(root_delete(world.e, v->name, root.nonce, 1, &err));
		return false;
	}
	v->root = root;
	v->m = m;
	v->there = true;
	return true;
}

static void destroy(struct vol *v)
{
	struct fmt_err err;

	/* After an error it is deleted, or not; nobody uses it. */
	unasked(root_delete(world.e, v->name, v->root.nonce, 1, &err));
	vol_lose(v);
}

static void collect(void)
{
	struct gc_params p = {.grace_s = SIM_GRACE_S};
	struct gc_progress progress = {.phase = ""};
	struct gc_report rep;
	struct fmt_err err;

	world.collecting++;
	world.collected += !gc_run(world.e, &p, NULL, 1, &progress, &rep, &err);
	world.collecting--;
	sim_collected();
}

/* ---- actors ---- */

static struct vol *vol_pick(bool there)
{
	struct vol *v = &world.vol[sim_random(VOLUMES)];

	if (v->busy || v->there != there)
		return NULL;
	v->busy = true;
	return v;
}

static struct snap *snap_pick(bool there)
{
	struct snap *s = &world.snap[sim_random(SNAPS)];

	return s->there == there ? s : NULL;
}

static void one_step(void)
{
	struct fmt_err err;
	struct snap *s, copy;
	struct vol *v;

	switch (sim_random(10)) {
	case 0:
	case 1:
	case 2:
		v = vol_pick(true);
		if (v)
			upload(v, !sim_random(4));
		break;
	case 3:
	case 4:
		/* Beside an upload of the same volume: it is not the owner of anything. */
		v = &world.vol[sim_random(VOLUMES)];
		s = snap_pick(false);
		if (v->there && s)
			snapshot(v, s);
		return;
	case 5:
	case 6:
		s = snap_pick(true);
		v = vol_pick(false);
		copy = s ? *s : (struct snap){0};
		if (v && s)
			create(v, &copy);
		break;
	case 7:
		s = snap_pick(true);
		if (!s)
			return;
		copy = *s;
		s->there = false;
		unasked(snapshot_delete(world.e, copy.name, copy.seq, 1, &err));
		return;
	case 8:
		v = vol_pick(true);
		if (v && !sim_random(2))
			destroy(v);
		break;
	default:
		v = vol_pick(false);
		if (v)
			create(v, NULL);
		break;
	}
	if (v)
		v->busy = false;
}

static void client(void *arg __unused)
{
	unsigned int steps = 4 + sim_random(12), crash = sim_random(40);

	for (unsigned int i = 0; i < steps; i++) {
		if (i == crash)
			sim_crash(sim_random(12));
		one_step();
		if (sim_random(2))
			sim_sleep(sim_random(SIM_GRACE_S * 3 / 4 * 1000) * NSEC_PER_MSEC);
	}
}

/*
 * One content that wanders: a snapshot of the volume, a fork of it, and the source is gone, as fast
 * as the store lets it, past the listings of the runs.
 */
static void wanderer(void *arg __unused)
{
	struct vol v[2] = {{.name = "w0"}, {.name = "w1"}};
	unsigned int steps = 10 + sim_random(40), patience = 400;
	struct fmt_err err;
	struct snap s;

	if (!create(&v[0], NULL))
		return;
	upload(&v[0], false);
	for (unsigned int i = 0; i < steps; i++) {
		struct vol *from = &v[i % 2], *to = &v[(i + 1) % 2];

		if (!from->there || !snapshot(from, &s))
			break;
		if (sim_random(2))
			destroy(from);
		else
			upload(from, true); /* away from it: as good as gone */
		if (to->there)
			destroy(to);
		if (!create(to, &s))
			break;
		unasked(snapshot_delete(world.e, s.name, s.seq, 1, &err));
		if (from->there)
			destroy(from);
		/* In between it would be seen where it is. */
		while (!world.collecting && patience && patience--)
			sim_sleep(NSEC_PER_SEC);
	}
	for (unsigned int i = 0; i < 2; i++)
		manifest_put(v[i].m);
}

static void collector(void *arg __unused)
{
	unsigned int runs = 2 + sim_random(4);

	for (unsigned int i = 0; i < runs; i++) {
		sim_sleep(sim_random(SIM_GRACE_S * 3 / 2 * 1000) * NSEC_PER_MSEC);
		if (!sim_random(16))
			sim_crash(sim_random(60));
		collect();
	}
}

/* Nothing else happens any more: everything that is garbage goes. */
static void last_collector(void *arg __unused)
{
	sim_calm();
	for (unsigned int i = 0; i < 6; i++) {
		sim_sleep(SIM_GRACE_S * 3 / 2 * NSEC_PER_SEC);
		collect();
	}
}

/* One interleaving: what it broke, or NULL. */
static const char *interleaving(uint64_t seed, enum sim_plant plant)
{
	memset(&world, 0, sizeof(world));
	world.plant = plant;
	world.e = sim_begin(seed, plant);
	for (unsigned int i = 0; i < VOLUMES; i++)
		snprintf(world.vol[i].name, sizeof(world.vol[i].name), "v%u", i);
	for (unsigned int i = 0; i < 3; i++)
		sim_actor(client, NULL, false);
	if (seed % 2)
		sim_actor(wanderer, NULL, false);
	for (unsigned int i = 0; i < 2; i++)
		sim_actor(collector, NULL, true);
	sim_run();
	return sim_broken();
}

static void interleaving_end(void)
{
	for (unsigned int i = 0; i < VOLUMES; i++)
		manifest_put(world.vol[i].m);
	sim_end();
}

static uint64_t from_env(const char *name, uint64_t dflt)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 10) : dflt;
}

static void gc_never_deletes_live(void **state)
{
	uint64_t runs = from_env("GFS_GC_SIM", RUNS), first = from_env("GFS_GC_SIM_SEED", 1);
	uint64_t ops = 0, deleted = 0, collected = 0;

	print_message("# %" PRIu64 " interleavings from seed %" PRIu64 "\n", runs, first);
	for (uint64_t seed = first; seed < first + runs; seed++) {
		const char *broken = interleaving(seed, PLANT_NONE);

		if (broken)
			fail_msg("%s; again with GFS_GC_SIM=1 GFS_GC_SIM_SEED=%" PRIu64, broken,
				 seed);
		ops += sim_ops();
		deleted += sim_deleted();
		collected += world.collected;
		interleaving_end();
	}
	print_message("# %" PRIu64 " operations of the store, %" PRIu64 " runs of the collector, "
		      "%" PRIu64 " packs and manifests deleted\n",
		      ops, collected, deleted);
	/* It would be easy to delete nothing. */
	assert_true(runs < 100 || deleted > runs);
}

static void all_garbage_goes_in_the_end(void **state)
{
	uint64_t first = from_env("GFS_GC_SIM_SEED", 1), before = 0;

	for (uint64_t seed = first; seed < first + 200; seed++) {
		const char *broken = interleaving(seed, PLANT_NONE);

		before += sim_garbage();
		sim_actor(last_collector, NULL, true);
		sim_run();
		broken = broken ? broken : sim_broken();
		if (broken)
			fail_msg("%s", broken);
		if (sim_garbage())
			fail_msg("seed %" PRIu64 ": %u packs and manifests that nothing names are "
				 "left",
				 seed, sim_garbage());
		interleaving_end();
	}
	assert_true(before > 0);
}

static void a_planted_bug_is_found(void **state)
{
	static const struct {
		enum sim_plant plant;
		const char *what;
	} bugs[] = {
		{PLANT_ONE_LISTING, "roots are not listed again"},
		{PLANT_NO_GRAVES, "a deleted snapshot leaves no grave"},
		{PLANT_NO_WINDOW, "an upload is published however long it took"},
	};
	uint64_t runs = from_env("GFS_GC_SIM", RUNS), first = from_env("GFS_GC_SIM_SEED", 1);

	for (size_t i = 0; i < ARRAY_SIZE(bugs); i++) {
		bool found = false;

		for (uint64_t seed = first; !found && seed < first + MAX(runs, RUNS); seed++) {
			const char *broken = interleaving(seed, bugs[i].plant);

			found = broken != NULL;
			if (found)
				print_message("# %s: found: %s\n", bugs[i].what, broken);
			interleaving_end();
		}
		if (!found)
			fail_msg("not found: %s", bugs[i].what);
	}
}

int main(void)
{
	log_init(LOG_LVL_ERR, false); /* faults are what it is about */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gc_never_deletes_live),
		cmocka_unit_test(all_garbage_goes_in_the_end),
		cmocka_unit_test(a_planted_bug_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
