// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Flights whose content is in the SSD tier. A thread of a small pool reads and verifies it, and
 * ends the flight; when that fails, for whatever reason, the flight goes on to the store as if the
 * tier did not have it. So there is one flight for one block, wherever it comes from. Read-ahead
 * has threads of its own: a reader never waits behind it.
 */
#include "engine/fetch_priv.h"
#include "engine/ssd.h"

#define LOCAL_THREADS 4
#define AHEAD_THREADS 2

static int local_read(struct flight *fl, struct cache_buf **out)
{
	struct fetcher *f = fl->f;
	bool index = fl->key.kind == FLIGHT_INDEX;
	uint32_t size = index ? fl->len : fl->block_bytes;
	struct cache_buf *raw = NULL;
	struct fmt_err err;
	int r = ssd_get(f->cfg.ssd, fl->key.sha256, size, &raw);

	if (r)
		return r;
	if (!index) {
		cache_insert(f->blocks, fl->key.sha256, raw);
		*out = raw;
		return 0;
	}
	r = fetch_index_load(raw->data, size, &fl->me, fl->block_bytes, out, &err);
	cache_buf_put(raw);
	if (!r)
		cache_insert(f->indexes, fl->key.sha256, *out);
	return r;
}

static void local_run(struct pool_job *job)
{
	struct flight *fl = container_of(job, struct flight, job);
	struct cache_buf *buf = NULL;
	struct fetcher *f = fl->f;

	if (!local_read(fl, &buf)) {
		fetch_flight_end(fl, buf, 0);
		return;
	}
	pthread_mutex_lock(&f->lock);
	fetch_flight_queue(f, fl);
	pthread_mutex_unlock(&f->lock);
}

bool fetch_local_submit(struct fetcher *f, struct flight *fl)
{
	if (!f->cfg.ssd || f->stop || !ssd_has(f->cfg.ssd, fl->key.sha256))
		return false;
	fl->job.run = local_run;
	pool_submit(fl->demand ? f->local : f->local_ahead, &fl->job);
	return true;
}

void fetch_local_put(struct flight *fl, const void *stored)
{
	struct ssd *ssd = fl->f->cfg.ssd;

	if (!ssd)
		return;
	if (fl->key.kind == FLIGHT_INDEX)
		ssd_put(ssd, fl->key.sha256, PACK_RAW, fl->len, stored, fl->len);
	else
		ssd_put(ssd, fl->key.sha256, fl->e.kind, fl->block_bytes, stored, fl->len);
}

int fetch_local_start(struct fetcher *f)
{
	if (!f->cfg.ssd)
		return 0;
	f->local = pool_create("gfs-ssd", LOCAL_THREADS);
	f->local_ahead = pool_create("gfs-ssd-ahead", AHEAD_THREADS);
	if (f->local && f->local_ahead)
		return 0;
	fetch_local_stop(f);
	return -ENOMEM;
}

void fetch_local_stop(struct fetcher *f)
{
	if (f->local)
		pool_destroy(f->local);
	if (f->local_ahead)
		pool_destroy(f->local_ahead);
	f->local = f->local_ahead = NULL;
}
