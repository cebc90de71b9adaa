/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of a run of the collector: gc.c (order of steps, deleting), gc_mark.c (what is named),
 * gc_tomb.c (the set of keys, tombstones). One thread per run, no lock.
 */
#ifndef GFS_ENGINE_GC_PRIV_H
#define GFS_ENGINE_GC_PRIV_H

#include "engine/gc.h"
#include "engine/objects.h"
#include "engine/wire.h"

#define GC_PARALLEL 16 /* GETs and DELETEs in flight */

#define GC_TOMBS  "gc/tombstones/"
#define GC_GRAVES "gc/graves/"
#define GC_CLOCKS "gc/clock/"

/* In grace periods, by the store's clock. gc.rst has the inequalities. */
#define GC_TOMB_VALID  4 /* from the beginning of the run that wrote a tombstone */
#define GC_GRAVE_SEEN  2 /* before the beginning of that run */
#define GC_GRAVE_KEPT  7
#define GC_WINDOW_PART 4 /* a window is this part of one */

/* ---- gc_tomb.c ---- */

enum {
	GC_LIVE = 1,    /* named by something */
	GC_READ = 2,    /* a manifest that is live, and so is what it names */
	GC_RIPE = 4,    /* in a tombstone that is old enough */
	GC_WAITING = 8, /* in one that is not */
};

struct gc_slot {
	uint8_t id[16];  /* of the key */
	uint32_t flags;  /* 0: free */
	uint64_t tomb_s; /* RIPE: when the tombstone was written */
};

/* Keys with flags. A key is kept as a part of its SHA-256. */
struct gc_set {
	struct gc_slot *slot;
	size_t cap, nr;
};

/* Adds to the flags that it has. -ENOMEM. */
int gc_set_add(struct gc_set *s, const char *key, uint32_t flags, uint64_t tomb_s) __must_check;
/* NULL: not there. Valid until the next gc_set_add(). */
const struct gc_slot *gc_set_find(const struct gc_set *s, const char *key);
void gc_set_free(struct gc_set *s);

/* A tombstone object of the store. */
struct gc_tomb {
	char key[STORE_KEY_MAX];
	uint64_t began_s, written_s;
	bool ripe, spent; /* spent: to be removed, whatever it says */
};

struct gc_run {
	struct engine *e;
	const struct gc_params *p;
	const bool *cancel;
	uint64_t op_id;
	struct gc_progress *pr;
	struct gc_report *rep;
	struct fmt_err *err;

	uint64_t start_ns;  /* this host's clock */
	uint64_t now_s;     /* the store's clock: not after the run's first look at anything */
	uint64_t horizon_s; /* graves from then on count */
	struct gc_set set;
	struct gc_tomb *tomb;
	size_t nr_tombs;
	char (*graves)[STORE_KEY_MAX]; /* to be removed */
	size_t nr_graves;

	/* Keys for the next tombstone of this run. */
	char *text;
	size_t text_len, text_cap;

	/* Keys to be deleted next. */
	char doomed[GC_PARALLEL][STORE_KEY_MAX];
	uint64_t doomed_bytes[GC_PARALLEL];
	unsigned int nr_doomed;
};

bool gc_canceled(const struct gc_run *g);
/* Whether t_s, of the store's clock, is at least that many grace periods before the run. */
bool gc_older(const struct gc_run *g, uint64_t t_s, unsigned int periods);
/* object_put() of an object whose random name is ours alone. Borrows the bytes. */
int gc_put(struct engine *e, const char *key, const void *data, size_t len, const char *volume,
	   uint64_t op_id, struct fmt_err *err) __must_check;
/* prefix and 128 random bits. */
void gc_random_key(const char *prefix, char key[STORE_KEY_MAX]);

/* Read all tombstones into the set, and the horizon. */
int gc_tombs_load(struct gc_run *g) __must_check;
/* Put the key into a tombstone, some time until gc_tombs_flush(). */
int gc_tomb_add(struct gc_run *g, const char *key) __must_check;
int gc_tombs_flush(struct gc_run *g) __must_check;

/* ---- gc_mark.c ---- */

/* Everything that something names becomes LIVE. */
int gc_mark(struct gc_run *g) __must_check;

/*
 * ---- gc_get.c ---- Up to GC_PARALLEL GETs at once; use() is called for each, on this thread, with
 * the object or the error: res 0, -ENOENT. Other errors are tried again, then end the whole.
 */
struct gc_get {
	char key[STORE_KEY_MAX];
	void *arg;
	int res; /* 0 or -ENOENT */
	void *buf;
	size_t len;
};
int gc_get_all(struct gc_run *g, struct gc_get *get, unsigned int nr) __must_check;
void gc_get_free(struct gc_get *get, unsigned int nr);

#endif
