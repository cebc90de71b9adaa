/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the tests of the registry: a host over a real engine and a file store with faults. The ublk
 * layer is replaced by a model of a kernel: devices outlive the daemon, QUIESCED, and calls fail on
 * demand. Restarts are new registries and engines over the same directories.
 */
#ifndef GFS_UNIT_HOST_BOX_H
#define GFS_UNIT_HOST_BOX_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "control/host.h"
#include "engine/worker.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "lib/step.h"
#include "lib/timing.h"
#include "store/fault.h"

/* ---- the model of ublk ---- */

#define MODEL_DEVS 256

struct ublk_host {
	const char *host_id;
	struct engine *engine;
};

struct ublk_dev {
	struct ublk_host *h;
	struct volume *v;
	int id;
	uint64_t bytes;
};

static struct model {
	pthread_mutex_t lock;
	struct {
		bool there, served, in_use;
		uint8_t uuid[16];
		uint64_t bytes; /* as the kernel has it */
		struct ublk_dev dev;
	} d[MODEL_DEVS];
	bool no_resize;                          /* a kernel without UPDATE_SIZE */
	int fail_add, fail_recover, fail_remove; /* errno of the next calls, 0 = fine */
	int together; /* atomic: adds that must be under way before any of them goes on */
	int adding;   /* atomic: so many are */
	int armed; /* atomic: devices that were made as far as they can be without their volume */
} model = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* As the real one: a volume whose release is not definite takes no lanes. */
static __unused int model_lanes(struct ublk_host *h, struct volume *v, struct fmt_err *err)
{
	struct lane *lane;
	int r = volume_lane_add(v, engine_workers(h->engine)->w[0], &lane);

	if (r)
		snprintf(err->msg, sizeof(err->msg), "lanes failed: %s", strerror(-r));
	return r;
}

int ublk_dev_add(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out,
		 struct fmt_err *err)
{
	const struct timespec pause = {.tv_nsec = NSEC_PER_MSEC};
	uint64_t deadline = now_ns() + 10 * NSEC_PER_SEC;
	int r;

	__atomic_add_fetch(&model.adding, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&model.adding, __ATOMIC_RELAXED) <
	       __atomic_load_n(&model.together, __ATOMIC_RELAXED)) {
		if (now_ns() >= deadline)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	if (model.fail_add) {
		snprintf(err->msg, sizeof(err->msg), "ADD_DEV failed (%s)",
			 strerror(model.fail_add));
		return -model.fail_add;
	}
	r = model_lanes(h, v, err);
	if (r)
		return r;
	__atomic_add_fetch(&model.armed, 1, __ATOMIC_RELAXED);
	r = volume_ready(v, true, err);
	step_reached(STEP_LOCAL_READY);
	if (r) {
		volume_lanes_remove(v);
		return r;
	}
	SCOPED_LOCK(&model.lock);
	for (int i = 0; i < MODEL_DEVS; i++) {
		if (model.d[i].there)
			continue;
		model.d[i].there = model.d[i].served = true;
		model.d[i].in_use = false;
		memcpy(model.d[i].uuid, volume_uuid(v), 16);
		model.d[i].bytes = volume_size_bytes(v);
		model.d[i].dev =
			(struct ublk_dev){.h = h, .v = v, .id = i, .bytes = model.d[i].bytes};
		*out = &model.d[i].dev;
		return 0;
	}
	volume_lanes_remove(v);
	return -ENOSPC;
}

int ublk_dev_recover(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out,
		     struct fmt_err *err)
{
	SCOPED_LOCK(&model.lock);

	if (model.fail_recover) {
		snprintf(err->msg, sizeof(err->msg), "START_USER_RECOVERY failed");
		return -model.fail_recover;
	}
	for (int i = 0; i < MODEL_DEVS; i++)
		if (model.d[i].there && !model.d[i].served &&
		    !memcmp(model.d[i].uuid, volume_uuid(v), 16)) {
			int r = model_lanes(h, v, err);

			if (r)
				return r;
			model.d[i].served = true;
			model.d[i].dev = (struct ublk_dev){
				.h = h, .v = v, .id = i, .bytes = model.d[i].bytes};
			*out = &model.d[i].dev;
			return 0;
		}
	return -ENOENT;
}

int ublk_dev_remove(struct ublk_dev *dev, bool force, uint64_t op_id, struct fmt_err *err)
{
	SCOPED_LOCK(&model.lock);

	if (model.fail_remove)
		return -model.fail_remove;
	if (model.d[dev->id].in_use && !force) {
		snprintf(err->msg, sizeof(err->msg), "mounted on /mnt");
		return -EBUSY;
	}
	volume_lanes_remove(dev->v);
	model.d[dev->id].there = model.d[dev->id].served = false;
	return 0;
}

void ublk_dev_abandon(struct ublk_dev *dev)
{
	SCOPED_LOCK(&model.lock);

	volume_lanes_remove(dev->v);
	model.d[dev->id].served = false;
}

int ublk_dev_id(const struct ublk_dev *dev)
{
	return dev->id;
}

uint64_t ublk_dev_bytes(const struct ublk_dev *dev)
{
	return dev->bytes;
}

int ublk_dev_resize(struct ublk_dev *dev, uint64_t op_id, struct fmt_err *err)
{
	SCOPED_LOCK(&model.lock);

	if (volume_size_bytes(dev->v) <= dev->bytes)
		return 0;
	if (model.no_resize) {
		snprintf(err->msg, sizeof(err->msg), "the device keeps its size");
		return -EOPNOTSUPP;
	}
	dev->bytes = model.d[dev->id].bytes = volume_size_bytes(dev->v);
	return 0;
}

bool ublk_dev_in_use(int dev_id, char *why, size_t len)
{
	SCOPED_LOCK(&model.lock);

	snprintf(why, len, "mounted on /mnt");
	return model.d[dev_id].in_use;
}

int ublk_reap_leaked(struct ublk_host *h, bool (*known)(const uint8_t uuid[16], void *arg),
		     void *arg)
{
	int n = 0;

	for (int i = 0; i < MODEL_DEVS; i++) {
		uint8_t uuid[16];
		bool candidate;

		pthread_mutex_lock(&model.lock);
		candidate = model.d[i].there && !model.d[i].served;
		memcpy(uuid, model.d[i].uuid, 16);
		pthread_mutex_unlock(&model.lock);
		if (!candidate || known(uuid, arg))
			continue;
		pthread_mutex_lock(&model.lock);
		model.d[i].there = false;
		pthread_mutex_unlock(&model.lock);
		n++;
	}
	return n;
}

static __unused unsigned int model_count(void)
{
	unsigned int n = 0;
	SCOPED_LOCK(&model.lock);

	for (int i = 0; i < MODEL_DEVS; i++)
		n += model.d[i].there;
	return n;
}

static __unused void model_set_in_use(int id, bool in_use)
{
	SCOPED_LOCK(&model.lock);

	model.d[id].in_use = in_use;
}

/* ---- a host ---- */

struct box {
	char dir[80], state[96], cache[96];
	char host_id[64];
	struct ublk_host ublk;
	struct store *store;
	struct engine *engine;
	struct pool *pool;
	struct host *host;
	uint64_t create_timeout_ns, store_timeout_ns, reap_ns, forget_ns;
	int readied; /* atomic */
};

static char top[32];
static __unused unsigned int box_nr;

static __unused void on_ready(void *arg, unsigned int attached, unsigned int failed)
{
	struct box *b = arg;

	__atomic_store_n(&b->readied, 1, __ATOMIC_RELEASE);
}

static __unused void faults(struct box *b, const char *rules)
{
	char err[200];

	if (store_fault_set(b->store, rules, err, sizeof(err)))
		fail_msg("rules %s: %s", rules, err);
}

static __unused void start_registry(struct box *b)
{
	const struct host_config hc = {
		.creates = 32,
		.state_dir = b->state,
		.cache_dir = b->cache,
		.host_id = b->host_id,
		.create_timeout_ns = b->create_timeout_ns,
		.reap_ns = b->reap_ns,
		.forget_ns = b->forget_ns,
		.on_ready = on_ready,
		.on_ready_arg = b,
	};
	struct fmt_err err = {{0}};

	b->readied = 0;
	b->pool = pool_create("test-api", 24);
	assert_non_null(b->pool);
	if (host_create(&hc, b->engine, &b->ublk, b->pool, &b->host, &err))
		fail_msg("host_create: %s", err.msg);
}

static __unused void start_engine(struct box *b, const char *rules)
{
	char url[128], err[200] = "";
	struct engine_config ec;

	snprintf(url, sizeof(url), "file://%s/store", b->dir);
	if (store_open(url, rules, &b->store, err, sizeof(err)))
		fail_msg("store: %s", err);
	engine_config_defaults(&ec);
	ec.cache_dir = b->cache;
	ec.host_id = b->host_id;
	ec.workers = 1;
	ec.cache_bytes = 8 * MiB;
	ec.store_timeout_ns = b->store_timeout_ns;
	ec.lock_fd = -1;
	assert_int_equal(engine_create(&ec, b->store, &b->engine), 0);
	b->ublk.engine = b->engine;
}

static __unused void box_start(struct box *b)
{
	start_engine(b, "seed=1");
	start_registry(b);
	host_reap_devices(b->host);
	host_recover_start(b->host);
}

static __unused void box_stop(struct box *b)
{
	store_fault_release(b->store);
	host_stop(b->host);
	pool_destroy(b->pool);
	host_destroy(b->host);
	engine_destroy(b->engine);
	store_close(b->store);
}

static __unused void box_init(struct box *b, const char *name)
{
	memset(b, 0, sizeof(*b));
	snprintf(b->dir, sizeof(b->dir), "%s/%u", top, box_nr++);
	snprintf(b->state, sizeof(b->state), "%s/state", b->dir);
	snprintf(b->cache, sizeof(b->cache), "%s/cache", b->dir);
	snprintf(b->host_id, sizeof(b->host_id), "%s/00000000-0000-4000-8000-000000000001", name);
	assert_int_equal(mkdir_all(b->dir), 0);
	assert_int_equal(mkdir_all(b->cache), 0);
	{
		char store[96];

		snprintf(store, sizeof(store), "%s/store", b->dir);
		assert_int_equal(mkdir_all(store), 0);
	}
	b->create_timeout_ns = 3 * NSEC_PER_SEC;
	b->store_timeout_ns = 10 * NSEC_PER_SEC;
	b->reap_ns = 3600 * NSEC_PER_SEC;
	b->forget_ns = 7200 * NSEC_PER_SEC;
	model.fail_add = model.fail_recover = model.fail_remove = 0;
	memset(model.d, 0, sizeof(model.d));
}

/* Wait for a condition, with a deadline. */
static __unused void wait_until(bool (*cond)(struct box *b), struct box *b, const char *what)
{
	uint64_t end = now_ns() + 20 * NSEC_PER_SEC;

	while (!cond(b)) {
		const struct timespec t = {.tv_nsec = 2000000};

		if (now_ns() > end)
			fail_msg("not within 20 s: %s", what);
		nanosleep(&t, NULL);
	}
}

static __unused int create_sized(struct box *b, const char *name, uint64_t size, bool *created,
				 struct op_err *err)
{
	const struct volume_def def = {.name = name, .size_bytes = size};

	memset(err, 0, sizeof(*err));
	return host_create_volume(b->host, &def, timing_op_id(), created, err);
}

static __unused int create(struct box *b, const char *name, bool *created, struct op_err *err)
{
	return create_sized(b, name, 64 * MiB, created, err);
}

static __unused void must_create(struct box *b, const char *name)
{
	struct op_err err;
	bool created;

	if (create(b, name, &created, &err))
		fail_msg("create %s: %s", name, err.msg);
	assert_true(created);
}

static __unused enum op_fault show(struct box *b, const char *name, struct host_volume_info *v)
{
	static char why[200];
	struct op_err err;

	return host_show(b->host, name, false, timing_op_id(), v, why, &err) ? err.fault
									     : OP_FAULT_NONE;
}

static __unused void assert_absent(struct box *b, const char *name)
{
	struct host_volume_info v;

	assert_int_equal(show(b, name, &v), OP_FAULT_MISSING);
}

static __unused void assert_state(struct box *b, const char *name, enum host_state state)
{
	struct host_volume_info v;

	assert_int_equal(show(b, name, &v), OP_FAULT_NONE);
	if (v.state != state)
		fail_msg("volume %s is %s, wanted %s (%s)", name, host_state_name(v.state),
			 host_state_name(state), v.why);
}

static __unused unsigned int pending_count(struct box *b)
{
	struct host_summary s;

	host_summary_read(b->host, &s);
	return s.pending;
}

static __unused bool nothing_pending(struct box *b)
{
	return pending_count(b) == 0;
}

static __unused bool root_in_store(struct box *b, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/store/exports/%s/export.json", b->dir, name);
	return access(path, F_OK) == 0;
}

static __unused unsigned int local_volumes(struct box *b)
{
	char cmd[256], out[32] = "";
	FILE *f;

	snprintf(cmd, sizeof(cmd), "ls %s/volumes | wc -l", b->cache);
	f = popen(cmd, "r");
	assert_non_null(f);
	assert_non_null(fgets(out, sizeof(out), f));
	pclose(f);
	return (unsigned int)atoi(out);
}

static __unused bool readied(struct box *b)
{
	return __atomic_load_n(&b->readied, __ATOMIC_ACQUIRE);
}

static __unused int setup(void **state)
{
	log_init(LOG_LVL_ERR, false);
	snprintf(top, sizeof(top), "/tmp/host_test.XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static __unused int teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	return system(cmd);
}

#endif
