/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reads everything that volumes have in the store and verifies it, block by block. Blocks; any
 * thread that may. Nothing is changed.
 */
#ifndef GFS_ENGINE_SCRUB_H
#define GFS_ENGINE_SCRUB_H

#include "engine/engine.h"
#include "store/store.h"

#define SCRUB_BAD_MAX 64 /* told by name */

struct scrub_params {
	const char *volume;   /* NULL: all of the store, and snapshots and images */
	uint64_t bytes_per_s; /* 0 = as fast as it goes */
};

struct scrub_bad {
	char key[STORE_KEY_MAX];
	char why[200];
};

struct scrub_report {
	uint64_t holders;                  /* volumes, snapshots and images */
	uint64_t manifests, packs, blocks; /* verified, each once */
	uint64_t bytes;                    /* read */
	uint64_t bad;                      /* objects that are corrupt or missing */
	unsigned int nr_bad;
	struct scrub_bad bad_list[SCRUB_BAD_MAX];
};

/* What a run is at; read by any thread, atomically. */
struct scrub_progress {
	uint64_t packs, bytes, bad;
};

/*
 * 0, whatever it found; -ENOENT: no such volume; -ECANCELED; errors of the store, which say nothing
 * about what was not read. out is filled in any case.
 */
int scrub_run(struct engine *e, const struct scrub_params *p, const bool *cancel, uint64_t op_id,
	      struct scrub_progress *progress, struct scrub_report *out,
	      struct fmt_err *err) __must_check;

#endif
