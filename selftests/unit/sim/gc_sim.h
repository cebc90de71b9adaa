/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A deterministic simulation of hosts that share a store: actors are coroutines on one thread, and
 * what they wait for, an operation of the store or a time, is where the scheduler picks another.
 * Time is virtual, randomness comes from the seed, and so does every fault: errors, PUTs and
 * DELETEs without an answer that take effect at once, never, or up to SIM_LATE_NS later, and
 * crashes. The engine's code runs in it unchanged: clock_gettime(), getrandom(),
 * pthread_mutex_lock() and pthread_cond_*wait() are the simulation's while it runs.
 *
 * The store checks with every change that no root, snapshot or image in it names an object that is
 * not there.
 */
#ifndef GFS_UNIT_GC_SIM_H
#define GFS_UNIT_GC_SIM_H

#include "engine/gc.h"
#include "engine/volume_priv.h"

#define SIM_GRACE_S 64
#define SIM_QUARTER (SIM_GRACE_S / 4 * NSEC_PER_SEC)
#define SIM_LATE_NS SIM_QUARTER /* an assumption that the collector makes */

/* Bugs that a test plants; each must be found. */
enum sim_plant {
	PLANT_NONE,
	PLANT_ONE_LISTING, /* a run sees what names others as an earlier one did */
	PLANT_NO_GRAVES,   /* a deleted snapshot leaves nothing */
	PLANT_NO_WINDOW,   /* uploads are published however long they took */
};

/* Begins a simulation; its engine has a store, a manifest cache and nothing else. */
struct engine *sim_begin(uint64_t seed, enum sim_plant plant);
/* Adds an actor. collector: it runs gc_run(). */
void sim_actor(void (*fn)(void *arg), void *arg, bool collector);
/* Runs until all actors ended, and all late effects. */
void sim_run(void);
/* What was broken first, or NULL. Valid until the next sim_begin(). */
const char *sim_broken(void);
/* Packs and manifests that nothing names. */
unsigned int sim_garbage(void);
unsigned int sim_deleted(void); /* packs and manifests, so far */
uint64_t sim_ops(void);
void sim_end(void);

/* ---- for actors ---- */
uint32_t sim_random(uint32_t below);
void sim_sleep(uint64_t ns);
/* After so many operations nothing the running actor asks of the store is done any more. */
void sim_crash(unsigned int after);
/* The running actor ended a run of the collector. */
void sim_collected(void);
/* No more faults; what is late comes. */
void sim_calm(void);

#endif
