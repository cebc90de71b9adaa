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
 * not there; a root only from the moment on in which its creation was acknowledged, because until
 * then it may be undone. And nothing that was acknowledged may vanish unasked.
 */
#ifndef GFS_UNIT_GC_SIM_H
#define GFS_UNIT_GC_SIM_H

#include "engine/gc.h"
#include "engine/volume_priv.h"

#define SIM_GRACE_S 64
#define SIM_QUARTER (SIM_GRACE_S / 4 * NSEC_PER_SEC)
#define SIM_LATE_NS SIM_QUARTER /* an assumption that the collector makes */
#define SIM_HOSTS   2           /* engines, each with a cache of its own */

/* Bugs that a test plants; each must be found. */
enum sim_plant {
	PLANT_NONE,
	PLANT_ONE_LISTING, /* a run sees what names others as an earlier one did */
	PLANT_NO_GRAVES,   /* a deleted snapshot leaves nothing */
	PLANT_NO_WINDOW,   /* uploads are published however long they took */
	PLANT_UNASKED,     /* a fork of what is cached does not ask whether that is still there */
	PLANT_NO_PERIOD,   /* names of a blessing follow from its content alone */
	PLANT_NO_BASE_GRAVES, /* a deleted image leaves nothing */
};

/* Begins a simulation; its engines have a store, a manifest cache and nothing else. */
void sim_begin(uint64_t seed, enum sim_plant plant);
/* Adds an actor, on host 0. collector: it runs gc_run(). */
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
/* The engine of the host that the running actor is on, and another host for it. */
struct engine *sim_host(void);
void sim_move(unsigned int host);
/* Until cond() is true, which is noticed before anything else happens, or so much time passed. */
bool sim_wait(bool (*cond)(void), uint64_t ns);
/* Nobody else does anything while the running actor does. */
void sim_rush(bool on);
/* What the running actor asks from now on goes on beside it, or does no longer. */
void sim_beside(bool on);
/*
 * The host of the running actor dies in the midst of its next PUT of a key with this prefix, which
 * takes effect so much later; until sim_reborn().
 */
void sim_die_in_put(const char *prefix, uint64_t late_ns);
void sim_reborn(void);
/* Somebody was told that this root or image is there; and somebody asked for it to go. */
void sim_acknowledged(const char *key);
void sim_forsaken(const char *key);
/* Remove roots that nobody was told of: what the hosts' records are for. */
void sim_reap(void);
/* After so many operations nothing the running actor asks of the store is done any more. */
void sim_crash(unsigned int after);
/* The running actor ended a run of the collector. */
void sim_collected(void);
/* No more faults; what is late comes. */
void sim_calm(void);

#endif
