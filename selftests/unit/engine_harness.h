/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An engine over a file store in temporary directories, and requests submitted to a volume from a
 * test's thread. Functions assert (cmocka) unless they return an error. With GFS_TEST_ENGINE=s3d it
 * is over an S3 store on a server of its own, with s3 on that of GFS_TEST_S3.
 */
#ifndef GFS_UNIT_ENGINE_HARNESS_H
#define GFS_UNIT_ENGINE_HARNESS_H

#include "engine/volume.h"
#include "store/fault.h"

struct harness {
	char dir[64]; /* holds store/ and cache-N/ */
	char cache_dir[96];
	struct store *store; /* a fault store over file://DIR/store */
	struct engine_config cfg;
	struct engine *e;
	struct volume *v;
	struct lane **lane;
	unsigned int nr_lanes;
};

/* A new temporary directory; configuration with small budgets, no upload by itself, 2 workers. */
void harness_init(struct harness *h);
/* Skips the test unless the store is the directory DIR/store, which it changes itself. */
void harness_needs_store_dir(void);
/* Removes the directory; everything must be closed. */
void harness_fini(struct harness *h);
/* rm -r */
void harness_remove_all(const char *dir);
/* Another host on the same store: fresh cache directory `name`, own store handle. */
void harness_host(struct harness *h, const struct harness *of, const char *name);

/* Open the store and create the engine with h->cfg. */
void harness_start(struct harness *h);
/* Close the volume if one is open, destroy the engine, close the store. */
void harness_stop(struct harness *h);
/* New rules of the fault store; "" = none. */
void harness_fault(struct harness *h, const char *rules);

/* Create a root and open it, with a lane per worker. */
void harness_create(struct harness *h, const char *name, uint64_t size_bytes, uint32_t block_bytes);
/* Open an existing volume, with lanes. 0 or volume_open's error; err may be NULL. */
int harness_open(struct harness *h, const char *name, enum volume_claim claim, bool local_expected,
		 struct fmt_err *err);
void harness_close(struct harness *h);

/* One request, from start to wait; reusable. */
struct hreq {
	struct gfs_req req;
	struct worker_msg msg;
	struct lane *lane;
	struct worker *w;
	uint8_t *guest; /* nsectors * 512 bytes, for READ and WRITE */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool ended;
	int res;
};
/* Submit on the volume's lane number `lane` (any, modulo their number). */
void hreq_start(struct harness *h, struct hreq *r, unsigned int lane, enum gfs_op op,
		uint64_t sector, uint32_t nsectors, void *guest, bool fua);
/* 0, or the request's error; -ETIME if it has not ended after 60 s (it must not be freed then). */
int hreq_wait(struct hreq *r);
bool hreq_ended(struct hreq *r);
/* Both. */
int harness_io(struct harness *h, enum gfs_op op, uint64_t sector, uint32_t nsectors, void *guest);
/* Upload everything; asserts success. */
void harness_drain(struct harness *h);

/* Wait up to 30 s for cond(arg), polling; asserts. */
void harness_until(bool (*cond)(void *arg), void *arg, const char *what);

#endif
