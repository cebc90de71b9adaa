/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the simulation: gc_sim.c (time, actors, order), gc_store.c (objects, faults). */
#ifndef GFS_UNIT_GC_SIM_PRIV_H
#define GFS_UNIT_GC_SIM_PRIV_H

#include "selftests/unit/sim/gc_sim.h"
#include "store/store_priv.h"

#include <ucontext.h>

#define ACTORS_MAX  16
#define OBJECTS_MAX 4096
#define LATE_MAX    256
#define REFS_MAX    64
#define EPOCH_S     1700000000ull

struct object {
	char key[112];
	uint64_t hash;
	uint8_t *data; /* kept until sim_end() */
	size_t len;
	uint64_t mtime_s, etag;
	bool holder;            /* names a manifest, ref[0] */
	bool promise;           /* what it names is there */
	bool wanted;            /* somebody was told of it, and nobody deletes it */
	unsigned int nr_refs;   /* of a manifest: its packs */
	uint64_t ref[REFS_MAX]; /* hashes of keys */
};

/* A change that was sent and has not taken effect. */
struct late {
	uint64_t due_ns;
	bool put;
	char key[112], etag[STORE_ETAG_MAX];
	uint8_t *data;
	size_t len;
	enum store_cond cond;
};

/* An operation that its actor does not wait for. */
struct beside {
	struct actor *a;
	struct store_op *op;
	uint64_t due_ns;
};

enum actor_state { ASLEEP, ASKING, ANSWERED, ENDED };

struct actor {
	ucontext_t ctx;
	void *stack;
	void *fake;
	enum actor_state state;
	uint64_t until_ns;
	struct store_op *op;
	int res;
	unsigned int host;
	bool collector, crashed, beside;
	unsigned int crash_in; /* operations, 0 = never */
	const char *die_in;    /* prefix, NULL = never */
	uint64_t die_late_ns;
	bool (*cond)(void); /* ASLEEP: ends that too */
	void (*fn)(void *arg);
	void *arg;
};

extern struct sim {
	bool on;
	uint64_t seed, rnd, now_ns, old_ns, ops, etags;
	uint32_t drift; /* the store's seconds in 16ths of ours */
	enum sim_plant plant;
	bool calm;
	struct engine e[SIM_HOSTS];
	struct store store;

	struct object *obj, *old; /* old: at the end of the last run of a collector */
	unsigned int nr, nr_old, deleted;
	bool have_old;
	struct late late[LATE_MAX];
	unsigned int nr_late;
	struct beside beside[ACTORS_MAX];
	unsigned int nr_beside;
	void **mem;
	size_t nr_mem, cap_mem;

	struct actor actor[ACTORS_MAX], *cur, *rush;
	unsigned int nr_actors;
	ucontext_t main;
	void *main_fake;
	const void *main_stack;
	size_t main_stack_len;
	char broken[512];
} sim;

/* One operation of the actor, now: its result. */
int op_run(struct actor *a, struct store_op *op);
/* The change number i that was late takes effect. */
void late_run(unsigned int i);

#endif
