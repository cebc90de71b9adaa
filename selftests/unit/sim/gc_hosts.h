/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What hosts do in the simulation (gc_sim.h), step by step, as actors call it, on sim_host(). What
 * of it is the engine's code is in the table in gc_sim_test.c.
 */
#ifndef GFS_UNIT_GC_HOSTS_H
#define GFS_UNIT_GC_HOSTS_H

#include "selftests/unit/sim/gc_sim.h"
#include "engine/objects.h"

#define COLLECTORS 4

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
	char name[8]; /* "" = there never was one */
	uint64_t seq;
};

struct image {
	char name[8];
	bool there;
	unsigned int deleting; /* deletions under way */
};

/* Of a fork. */
struct source {
	bool image;
	const char *name;
	uint64_t seq; /* of a snapshot */
};

/* Of the interleaving that runs; zeroed before it begins. */
extern struct hosts {
	enum sim_plant plant;
	unsigned int collected, aborted;    /* runs that ended well; that met what names nothing */
	unsigned int refused;               /* roots of uploads */
	unsigned int forks, gone;           /* made; undone, because the source was gone */
	unsigned int blessed, relied;       /* images; objects that were there already */
	unsigned int collecting;            /* runs that go on */
	struct gc_progress run[COLLECTORS]; /* of those; phase NULL: none */
} hosts;

/* It is done, or not, or comes later: any of them has to be safe. */
void unasked(int r);

/* compact: nothing of what the volume holds is held any more. */
void upload(struct vol *v, bool compact);
bool snapshot(struct vol *v, struct snap *s);
/* from: NULL, a volume of zeros. Acknowledged if true. */
bool create(struct vol *v, const struct source *from);
void destroy(struct vol *v);
/* cut_short: it ends before the base is written. Acknowledged if true. */
bool bless(struct image *im, unsigned int content, bool cut_short);
void image_delete(struct image *im);
/* A run of the collector. */
void collect(void);

#endif
