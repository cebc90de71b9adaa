// SPDX-License-Identifier: GPL-2.0-or-later
/* See engine_harness.h. Requests complete on workers; each hreq has its own lock. */
#include "selftests/unit/engine_harness.h"
#include "selftests/unit/s3_server.h"
#include "engine/volume_priv.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#define REQ_PATIENCE_NS (60 * NSEC_PER_SEC)

/* The S3 server of GFS_TEST_ENGINE, one for all tests of a program. */
static struct s3_server server;

static bool on_s3(void)
{
	const char *on = getenv("GFS_TEST_ENGINE");

	if (!on || server.endpoint[0])
		return on != NULL;
	if (!strcmp(on, "s3d"))
		s3_server_start(&server, NULL);
	else if (strcmp(on, "s3") || !s3_server_environment(&server))
		fail_msg("GFS_TEST_ENGINE=%s: s3d, or s3 with GFS_TEST_S3", on);
	return true;
}

void harness_needs_store_dir(void)
{
	if (on_s3())
		skip();
}

void harness_init(struct harness *h)
{
	const char *tmp = getenv("TMPDIR");
	char path[96];

	memset(h, 0, sizeof(*h));
	snprintf(h->dir, sizeof(h->dir), "%.40s/gfs-unit-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(h->dir));
	snprintf(path, sizeof(path), "%s/store", h->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(h->cache_dir, sizeof(h->cache_dir), "%s/cache-1", h->dir);
	engine_config_defaults(&h->cfg);
	h->cfg.host_id = "host-1/test";
	h->cfg.workers = 2;
	h->cfg.cache_bytes = 8 * MiB;
	h->cfg.index_cache_bytes = 1 * MiB;
	h->cfg.manifest_cache_bytes = 1 * MiB;
	h->cfg.upload_age_ns = 3600 * NSEC_PER_SEC;
	h->cfg.upload_age_min_ns = h->cfg.upload_age_ns;
	h->cfg.upload_dirty_bytes = 1 * TiB;
	h->cfg.min_free_bytes = 0;
	h->cfg.io_slow_ns = UINT64_MAX;
	h->cfg.prefetch_blocks = 4;
	h->cfg.store_timeout_ns = 5 * NSEC_PER_SEC;
}

void harness_host(struct harness *h, const struct harness *of, const char *name)
{
	*h = *of;
	h->store = NULL;
	h->e = NULL;
	h->v = NULL;
	h->lane = NULL;
	h->nr_lanes = 0;
	snprintf(h->cache_dir, sizeof(h->cache_dir), "%s/%.24s", h->dir, name);
}

static int remove_one(const char *path, const struct stat *st __unused, int type __unused,
		      struct FTW *ftw __unused)
{
	return remove(path);
}

void harness_remove_all(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void harness_fini(struct harness *h)
{
	assert_null(h->e);
	harness_remove_all(h->dir);
}

void harness_start(struct harness *h)
{
	struct store_options o = {.fault = "seed=1"};
	char url[128], err[512] = "";

	snprintf(url, sizeof(url), "file://%s/store", h->dir);
	if (on_s3()) {
		o.s3 = server.options;
		snprintf(url, sizeof(url), "s3://%s/%s", server.bucket, strrchr(h->dir, '/') + 1);
	}
	if (store_open_with(url, &o, &h->store, err, sizeof(err)))
		fail_msg("store_open: %s", err);
	h->cfg.cache_dir = h->cache_dir;
	assert_int_equal(engine_create(&h->cfg, h->store, &h->e), 0);
}

void harness_fault(struct harness *h, const char *rules)
{
	char err[256] = "", all[1024];

	snprintf(all, sizeof(all), "seed=1%s%s", *rules ? ";" : "", rules);
	if (store_fault_set(h->store, all, err, sizeof(err)))
		fail_msg("store_fault_set '%s': %s", all, err);
	if (!*rules)
		store_fault_release(h->store);
}

void harness_stop(struct harness *h)
{
	if (h->v)
		harness_close(h);
	if (store_is_fault(h->store))
		store_fault_release(h->store);
	engine_destroy(h->e);
	store_close(h->store);
	h->e = NULL;
	h->store = NULL;
}

static void lanes_add(struct harness *h)
{
	struct workers *ws = engine_workers(h->e);

	h->nr_lanes = ws->nr;
	h->lane = calloc(ws->nr, sizeof(*h->lane));
	assert_non_null(h->lane);
	for (unsigned int i = 0; i < ws->nr; i++)
		assert_int_equal(volume_lane_add(h->v, ws->w[i], &h->lane[i]), 0);
}

void harness_create(struct harness *h, const char *name, uint64_t size_bytes, uint32_t block_bytes)
{
	struct volume_def def = {
		.name = name, .size_bytes = size_bytes, .block_bytes = block_bytes};
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct root root;

	assert_int_equal(root_prepare(h->e, &def, &root), 0);
	if (root_create(h->e, &root, 0, 1, etag, &err))
		fail_msg("root_create: %s", err.msg);
	if (volume_open(h->e, name, NULL, CLAIM_OWN, false, &root, etag, 1, &h->v, &err))
		fail_msg("volume_open: %s", err.msg);
	lanes_add(h);
}

int harness_open(struct harness *h, const char *name, enum volume_claim claim, bool local_expected,
		 struct fmt_err *err)
{
	struct fmt_err mine = {""};
	int r = volume_open(h->e, name, NULL, claim, local_expected, NULL, NULL, 1, &h->v,
			    err ? err : &mine);

	if (r) {
		h->v = NULL;
		if (!err)
			fail_msg("volume_open: %d %s", r, mine.msg);
		return r;
	}
	lanes_add(h);
	return 0;
}

void harness_close(struct harness *h)
{
	volume_lanes_remove(h->v);
	volume_close(h->v);
	free(h->lane);
	h->lane = NULL;
	h->v = NULL;
}

static int req_copy(struct gfs_req *req, void *buf, uint32_t len, uint32_t off)
{
	struct hreq *r = container_of(req, struct hreq, req);

	if (req->op == GFS_WRITE)
		memcpy(buf, r->guest + off, len);
	else if (buf)
		memcpy(r->guest + off, buf, len);
	else
		memset(r->guest + off, 0, len);
	return 0;
}

static void req_done(struct gfs_req *req, int res)
{
	struct hreq *r = container_of(req, struct hreq, req);

	pthread_mutex_lock(&r->lock);
	r->res = res;
	r->ended = true;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static void req_submit(struct worker *w __unused, struct worker_msg *msg)
{
	struct hreq *r = container_of(msg, struct hreq, msg);

	lane_submit(r->lane, &r->req);
}

void hreq_start(struct harness *h, struct hreq *r, unsigned int lane, enum gfs_op op,
		uint64_t sector, uint32_t nsectors, void *guest, bool fua)
{
	memset(r, 0, sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	cond_init_mono(&r->cond);
	r->guest = guest;
	r->lane = h->lane[lane % h->nr_lanes];
	r->req.op = op;
	r->req.fua = fua;
	r->req.sector = sector;
	r->req.nsectors = nsectors;
	r->req.copy = req_copy;
	r->req.done = req_done;
	r->msg.run = req_submit;
	worker_post(r->lane->w, &r->msg);
}

bool hreq_ended(struct hreq *r)
{
	SCOPED_LOCK(&r->lock);

	return r->ended;
}

int hreq_wait(struct hreq *r)
{
	uint64_t until = now_ns() + REQ_PATIENCE_NS;
	bool ended;

	pthread_mutex_lock(&r->lock);
	while (!r->ended && !cond_wait_until(&r->cond, &r->lock, until))
		;
	ended = r->ended;
	pthread_mutex_unlock(&r->lock);
	return ended ? r->res : -ETIME;
}

int harness_io(struct harness *h, enum gfs_op op, uint64_t sector, uint32_t nsectors, void *guest)
{
	static unsigned int turn;
	struct hreq r;
	int res;

	hreq_start(h, &r, turn++, op, sector, nsectors, guest, false);
	res = hreq_wait(&r);
	if (res == -ETIME)
		fail_msg("request %d at sector %llu+%u did not end", op, (unsigned long long)sector,
			 nsectors);
	return res;
}

void harness_drain(struct harness *h)
{
	struct fmt_err err = {""};

	if (volume_drain(h->v, 60 * NSEC_PER_SEC, 1, &err))
		fail_msg("volume_drain: %s", err.msg);
}

void harness_until(bool (*cond)(void *arg), void *arg, const char *what)
{
	uint64_t until = now_ns() + 30 * NSEC_PER_SEC;

	while (!cond(arg)) {
		if (now_ns() > until)
			fail_msg("not within 30 s: %s", what);
		usleep(1000);
	}
}
