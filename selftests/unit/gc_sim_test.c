// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The collector never deletes what something names, or will: the collector's own code against hosts
 * that create, upload, compact, snapshot, fork and delete, on a simulated store (gc_sim.h), in many
 * interleavings, each from a seed that is printed when it breaks the promise. Hosts have caches of
 * their own, so what one deletes another may still fork from.
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
 *   create, fork        create_owned(): snapshot_find() or base_load() and base_source(),
 *                       root_prepare(), and create_round(): snapshot_check_start(),
 *                       root_create_late() and snapshot_check_finish() themselves;
 *                       local_side_undo() and record_reap() as root_delete() itself
 *   bless               image_bless(): gc_period(), pack_writer_name(), content_put() and
 *                       base_manifest_name() themselves for one pack of one block, base_seal()
 *   image_delete        base_delete() itself
 *   volume's delete     volume_destroy() as root_delete() itself
 *   crash               whatever the actor asks of the store from some moment on is not done
 *
 * GFS_GC_SIM=N runs N interleavings instead of 10000 (1000 with a sanitizer), GFS_GC_SIM_SEED=S
 * begins at seed S.
 */
#include "selftests/unit/sim/gc_hosts.h"
#include "lib/log.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* A sanitizer takes ten times as long, and looks for other things. */
#ifdef __SANITIZE_ADDRESS__
#define RUNS 1000
#else
#define RUNS 10000
#endif
#define VOLUMES  4
#define SNAPS    6
#define IMAGES   2
#define CONTENTS 2

static struct world {
	struct vol vol[VOLUMES];
	struct snap snap[SNAPS];
	struct image image[IMAGES];
} world;

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
	struct source from;
	struct snap *s, copy;
	struct image *im;
	struct vol *v;

	switch (sim_random(14)) {
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
		/* One that is gone may be in a cache. */
		s = snap_pick(sim_random(4));
		v = vol_pick(false);
		copy = s ? *s : (struct snap){0};
		from = (struct source){.name = copy.name, .seq = copy.seq};
		if (v && copy.name[0])
			create(v, &from);
		break;
	case 7:
		s = snap_pick(true);
		if (!s)
			return;
		copy = *s;
		s->there = false;
		unasked(snapshot_delete(sim_host(), copy.name, copy.seq, 1, &err));
		return;
	case 9:
	case 10:
		im = &world.image[sim_random(IMAGES)];
		if (!im->there)
			bless(im, sim_random(CONTENTS), !sim_random(4));
		else if (!sim_random(3))
			image_delete(im);
		return;
	case 11:
	case 12:
		im = &world.image[sim_random(IMAGES)];
		v = vol_pick(false);
		from = (struct source){.image = true, .name = im->name};
		if (v)
			create(v, &from);
		break;
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
		sim_move(sim_random(SIM_HOSTS));
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

	sim_move(sim_random(SIM_HOSTS));
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
		if (!create(to, &(struct source){.name = s.name, .seq = s.seq}))
			break;
		unasked(snapshot_delete(sim_host(), s.name, s.seq, 1, &err));
		if (from->there)
			destroy(from);
		/* In between it would be seen where it is. */
		while (!hosts.collecting && patience && patience--)
			sim_sleep(NSEC_PER_SEC);
	}
	for (unsigned int i = 0; i < 2; i++)
		manifest_put(v[i].m);
}

static bool phase_is(const char *phase)
{
	for (unsigned int i = 0; i < COLLECTORS; i++)
		if (hosts.run[i].phase && !strcmp(hosts.run[i].phase, phase))
			return true;
	return false;
}

static bool looking_at_roots(void)
{
	return phase_is("exports/");
}

static bool past_roots(void)
{
	return phase_is("snapshots/");
}

static bool past_all(void)
{
	return phase_is("manifests/");
}

/* A snapshot of a volume that is no more, or an image. */
static bool source_make(struct vol *v, struct snap *s, struct image *im, struct source *src)
{
	bool ok;

	if (im) {
		*src = (struct source){.image = true, .name = im->name};
		return bless(im, 100, false);
	}
	if (!create(v, NULL))
		return false;
	upload(v, false);
	ok = v->there && snapshot(v, s);
	if (v->there)
		destroy(v);
	*src = (struct source){.name = s->name, .seq = s->seq};
	return ok;
}

static void source_delete(const struct source *src, struct image *im)
{
	struct fmt_err err;

	if (src->image)
		image_delete(im);
	else
		unasked(snapshot_delete(sim_host(), src->name, src->seq, 1, &err));
}

/*
 * Past a run that has seen the roots as a fork whose source goes; past another, when the fork has
 * gone, in a snapshot whose writer died and which lands later.
 */
static void smuggler(void *arg __unused)
{
	struct image im = {.name = "smuggle"}, *image = sim_random(2) ? &im : NULL;
	struct vol v = {.name = "s0"}, fork = {.name = "s1"};
	struct source src;
	struct snap s;

	if (!source_make(&v, &s, image, &src))
		return;
	sim_sleep((SIM_GRACE_S + sim_random(SIM_GRACE_S / 4)) * NSEC_PER_SEC);
	if (!sim_wait(past_roots, 2 * SIM_GRACE_S * NSEC_PER_SEC))
		return;
	sim_rush(true);
	if (!create(&fork, &src)) {
		sim_rush(false);
		return;
	}
	source_delete(&src, image);
	sim_rush(false);
	sim_sleep((SIM_GRACE_S + SIM_GRACE_S / 4) * NSEC_PER_SEC);
	if (sim_wait(looking_at_roots, 2 * SIM_GRACE_S * NSEC_PER_SEC)) {
		sim_rush(true);
		sim_die_in_put("snapshots/", sim_random(1000) * (SIM_LATE_NS / 1000));
		if (snapshot(&fork, &s))
			fail_msg("a host that died goes on");
		sim_reborn();
		destroy(&fork);
		sim_rush(false);
	}
	manifest_put(fork.m);
}

/*
 * Forks, on a host that has done so before, of what another host has deleted, and has collected.
 * Who dies before the fork is undone leaves a root that stops the runs of all, until it is removed.
 */
static void hoarder(void *arg __unused)
{
	struct vol v = {.name = "h0"}, fork = {.name = "h1"};
	unsigned int tries = 1 + sim_random(2);
	struct source src;
	struct fmt_err err;
	struct snap s;

	if (!source_make(&v, &s, NULL, &src))
		return;
	sim_move(1);
	if (!create(&fork, &src))
		return;
	destroy(&fork);
	sim_move(0);
	source_delete(&src, NULL);
	for (unsigned int i = 0; i < tries; i++) {
		sim_sleep((2 * SIM_GRACE_S + sim_random(SIM_GRACE_S / 2)) * NSEC_PER_SEC);
		collect();
	}
	sim_move(1);
	if (sim_random(2))
		sim_crash(sim_random(6));
	else if (sim_random(2))
		sim_wait(sim_random(2) ? past_roots : past_all, SIM_GRACE_S * NSEC_PER_SEC);
	create(&fork, &src);
	sim_reborn();
	if (sim_random(2))
		collect();
	/* Else nobody was told of it: a leftover for the reaper. */
	if (!fork.there)
		unasked(root_delete(sim_host(), fork.name, NULL, 1, &err));
	manifest_put(fork.m);
}

/* Blesses what it has blessed before while runs decide about that. */
static void blesser(void *arg __unused)
{
	struct image im = {.name = "again"};
	unsigned int steps = 3 + sim_random(6);

	bless(&im, 200, true);
	for (unsigned int i = 0; i < steps; i++) {
		if (sim_random(2))
			sim_sleep(sim_random(SIM_GRACE_S) * NSEC_PER_SEC);
		sim_move(sim_random(SIM_HOSTS));
		if (!sim_wait(past_all, 2 * SIM_GRACE_S * NSEC_PER_SEC))
			break;
		sim_rush(sim_random(2));
		if (im.there)
			image_delete(&im);
		else
			bless(&im, 200, sim_random(2));
		sim_rush(false);
	}
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
	sim_reap();
	for (unsigned int i = 0; i < 6; i++) {
		sim_sleep(SIM_GRACE_S * 3 / 2 * NSEC_PER_SEC);
		collect();
	}
}

/* One interleaving: what it broke, or NULL. */
static const char *interleaving(uint64_t seed, enum sim_plant plant)
{
	static void (*const special[])(void *arg) = {hoarder, wanderer, smuggler, blesser};

	memset(&world, 0, sizeof(world));
	memset(&hosts, 0, sizeof(hosts));
	hosts.plant = plant;
	sim_begin(seed, plant);
	for (unsigned int i = 0; i < IMAGES; i++)
		snprintf(world.image[i].name, sizeof(world.image[i].name), "i%u", i);
	for (unsigned int i = 0; i < VOLUMES; i++)
		snprintf(world.vol[i].name, sizeof(world.vol[i].name), "v%u", i);
	for (unsigned int i = 0; i < 3; i++)
		sim_actor(client, NULL, false);
	sim_actor(special[seed % ARRAY_SIZE(special)], NULL, false);
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
	uint64_t ops = 0, deleted = 0;
	struct hosts sum = {.refused = 0};

	print_message("# %" PRIu64 " interleavings from seed %" PRIu64 "\n", runs, first);
	for (uint64_t seed = first; seed < first + runs; seed++) {
		const char *broken = interleaving(seed, PLANT_NONE);

		if (broken)
			fail_msg("%s; again with GFS_GC_SIM=1 GFS_GC_SIM_SEED=%" PRIu64, broken,
				 seed);
		ops += sim_ops();
		deleted += sim_deleted();
		sum.collected += hosts.collected;
		sum.aborted += hosts.aborted;
		sum.forks += hosts.forks;
		sum.gone += hosts.gone;
		sum.blessed += hosts.blessed;
		sum.relied += hosts.relied;
		interleaving_end();
	}
	print_message("# %" PRIu64
		      " operations of the store, %u runs of the collector, %u that met "
		      "what is no promise, %" PRIu64 " packs and manifests deleted\n",
		      ops, sum.collected, sum.aborted, deleted);
	print_message("# %u forks, %u undone because the source was gone; %u images, %u of their "
		      "objects were there\n",
		      sum.forks, sum.gone, sum.blessed, sum.relied);
	/* It would be easy to delete nothing, or never to meet what this is about. */
	assert_true(runs < 100 ||
		    (deleted > runs && sum.forks && sum.gone && sum.aborted && sum.relied));
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
		{PLANT_UNASKED, "a fork does not ask whether what is cached is still there"},
		{PLANT_NO_PERIOD, "names of a blessing follow from its content alone"},
		{PLANT_NO_BASE_GRAVES, "a deleted image leaves no grave"},
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
#ifdef __SANITIZE_THREAD__
	/* One thread, whose coroutines are more than it can keep in mind. */
	puts("# nothing that a thread sanitizer could find");
	return 0;
#endif
	log_init(LOG_LVL_ERR, false); /* faults are what it is about */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gc_never_deletes_live),
		cmocka_unit_test(all_garbage_goes_in_the_end),
		cmocka_unit_test(a_planted_bug_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
