// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registry over a real engine and a file store with faults. The ublk layer is replaced by a
 * model of a kernel below: devices outlive the daemon, QUIESCED, and calls fail on demand. Restarts
 * are new registries and engines over the same directories.
 */
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
#include "lib/timing.h"
#include "store/fault.h"

/* ---- the model of ublk ---- */

#define MODEL_DEVS 64

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
} model = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* As the real one: a volume whose release is not definite takes no lanes. */
static int model_lanes(struct ublk_host *h, struct volume *v, struct fmt_err *err)
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

	__atomic_add_fetch(&model.adding, 1, __ATOMIC_RELAXED);
	while (__atomic_load_n(&model.adding, __ATOMIC_RELAXED) <
	       __atomic_load_n(&model.together, __ATOMIC_RELAXED)) {
		if (now_ns() >= deadline)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	SCOPED_LOCK(&model.lock);

	if (model.fail_add) {
		snprintf(err->msg, sizeof(err->msg), "ADD_DEV failed (%s)",
			 strerror(model.fail_add));
		return -model.fail_add;
	}
	for (int i = 0; i < MODEL_DEVS; i++) {
		int r;

		if (model.d[i].there)
			continue;
		r = model_lanes(h, v, err);
		if (r)
			return r;
		model.d[i].there = model.d[i].served = true;
		model.d[i].in_use = false;
		memcpy(model.d[i].uuid, volume_uuid(v), 16);
		model.d[i].bytes = volume_size_bytes(v);
		model.d[i].dev =
			(struct ublk_dev){.h = h, .v = v, .id = i, .bytes = model.d[i].bytes};
		*out = &model.d[i].dev;
		return 0;
	}
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

static unsigned int model_count(void)
{
	unsigned int n = 0;
	SCOPED_LOCK(&model.lock);

	for (int i = 0; i < MODEL_DEVS; i++)
		n += model.d[i].there;
	return n;
}

static void model_set_in_use(int id, bool in_use)
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
static unsigned int box_nr;

static void on_ready(void *arg, unsigned int attached, unsigned int failed)
{
	struct box *b = arg;

	__atomic_store_n(&b->readied, 1, __ATOMIC_RELEASE);
}

static void faults(struct box *b, const char *rules)
{
	char err[200];

	if (store_fault_set(b->store, rules, err, sizeof(err)))
		fail_msg("rules %s: %s", rules, err);
}

static void start_registry(struct box *b)
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

static void start_engine(struct box *b, const char *rules)
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

static void box_start(struct box *b)
{
	start_engine(b, "seed=1");
	start_registry(b);
	host_reap_devices(b->host);
	host_recover_start(b->host);
}

static void box_stop(struct box *b)
{
	store_fault_release(b->store);
	host_stop(b->host);
	pool_destroy(b->pool);
	host_destroy(b->host);
	engine_destroy(b->engine);
	store_close(b->store);
}

static void box_init(struct box *b, const char *name)
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
static void wait_until(bool (*cond)(struct box *b), struct box *b, const char *what)
{
	uint64_t end = now_ns() + 20 * NSEC_PER_SEC;

	while (!cond(b)) {
		const struct timespec t = {.tv_nsec = 2000000};

		if (now_ns() > end)
			fail_msg("not within 20 s: %s", what);
		nanosleep(&t, NULL);
	}
}

static int create_sized(struct box *b, const char *name, uint64_t size, bool *created,
			struct op_err *err)
{
	const struct volume_def def = {.name = name, .size_bytes = size};

	memset(err, 0, sizeof(*err));
	return host_create_volume(b->host, &def, timing_op_id(), created, err);
}

static int create(struct box *b, const char *name, bool *created, struct op_err *err)
{
	return create_sized(b, name, 64 * MiB, created, err);
}

static void must_create(struct box *b, const char *name)
{
	struct op_err err;
	bool created;

	if (create(b, name, &created, &err))
		fail_msg("create %s: %s", name, err.msg);
	assert_true(created);
}

static enum op_fault show(struct box *b, const char *name, struct host_volume_info *v)
{
	static char why[200];
	struct op_err err;

	return host_show(b->host, name, false, timing_op_id(), v, why, &err) ? err.fault
									     : OP_FAULT_NONE;
}

static void assert_absent(struct box *b, const char *name)
{
	struct host_volume_info v;

	assert_int_equal(show(b, name, &v), OP_FAULT_MISSING);
}

static void assert_state(struct box *b, const char *name, enum host_state state)
{
	struct host_volume_info v;

	assert_int_equal(show(b, name, &v), OP_FAULT_NONE);
	if (v.state != state)
		fail_msg("volume %s is %s, wanted %s (%s)", name, host_state_name(v.state),
			 host_state_name(state), v.why);
}

static unsigned int pending_count(struct box *b)
{
	struct host_summary s;

	host_summary_read(b->host, &s);
	return s.pending;
}

static bool nothing_pending(struct box *b)
{
	return pending_count(b) == 0;
}

static bool root_in_store(struct box *b, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/store/exports/%s/export.json", b->dir, name);
	return access(path, F_OK) == 0;
}

static unsigned int local_volumes(struct box *b)
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

/* ---- creates ---- */

static void create_is_idempotent_and_refuses_another_definition(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(create(&b, "vm-1", &created, &err), 0);
	assert_false(created);
	assert_int_equal(create_sized(&b, "vm-1", 32 * MiB, &created, &err), -EEXIST);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.state, HOST_ATTACHED);
	assert_true(v.open && v.dev_id >= 0);
	assert_int_equal(model_count(), 1);
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void failed_put_is_undone_and_a_retry_creates(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	faults(&b, "put:exports/* error=EIO");
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_absent(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	assert_int_equal(model_count(), 0);
	faults(&b, "seed=1");
	must_create(&b, "vm-1");
	box_stop(&b);
}

static void ambiguous_put_that_was_made_is_recognised_as_ours(void **state)
{
	struct box b;

	box_init(&b, "a");
	b.create_timeout_ns = 10 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=after count=1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void create_without_answer_does_not_exist_and_a_retry_adopts_it(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	/* Made, and never confirmed: the worst case, the root is there. */
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_true(root_in_store(&b, "vm-1"));
	assert_int_equal(pending_count(&b), 1);
	faults(&b, "seed=1");
	assert_absent(&b, "vm-1");
	{
		bool changed;

		/* Nor can it be attached, detached or removed. */
		assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_MISSING);
		assert_true(host_detach(b.host, "vm-1", false, 0, 1, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_MISSING);
		assert_true(host_remove(b.host, "vm-1", false, 1, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_MISSING);
	}
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void retry_with_another_definition_replaces_the_leftover(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	faults(&b, "seed=1");
	if (create_sized(&b, "vm-1", 256 * MiB, &created, &err))
		fail_msg("%s", err.msg);
	assert_true(created);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.info.root.size_bytes, 256 * MiB);
	box_stop(&b);
}

static void late_put_of_a_failed_create_is_reaped(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	b.reap_ns = 0;
	b.forget_ns = 8 * NSEC_PER_SEC;
	b.create_timeout_ns = 1 * NSEC_PER_SEC;
	box_start(&b);
	/* Reaped at once, while it has not landed; it lands later and is found at the end. */
	faults(&b, "put:exports/* ambiguous=late:3000");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	faults(&b, "seed=1");
	assert_absent(&b, "vm-1");
	for (uint64_t end = now_ns() + 20 * NSEC_PER_SEC; !root_in_store(&b, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&b, "vm-1");
	wait_until(nothing_pending, &b, "the record is forgotten");
	assert_false(root_in_store(&b, "vm-1"));
	assert_absent(&b, "vm-1");
	box_stop(&b);
}

static void definite_failure_of_a_retry_does_not_forget_the_late_put(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	b.create_timeout_ns = 1 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=late:3000");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	faults(&b, "put:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -EIO);
	assert_int_equal(pending_count(&b), 1);
	for (uint64_t end = now_ns() + 20 * NSEC_PER_SEC; !root_in_store(&b, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&b, "vm-1");
	faults(&b, "seed=1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	box_stop(&b);
}

static void late_put_does_not_bring_back_a_removed_volume(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	b.reap_ns = 0;
	b.forget_ns = 6 * NSEC_PER_SEC;
	b.create_timeout_ns = 10 * NSEC_PER_SEC;
	box_start(&b);
	/* The first copy has no answer and lands later; the second one makes the volume. */
	faults(&b, "put:exports/* ambiguous=late:1000 count=1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 0);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	assert_false(root_in_store(&b, "vm-1"));
	for (uint64_t end = now_ns() + 10 * NSEC_PER_SEC; !root_in_store(&b, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&b, "vm-1");
	wait_until(nothing_pending, &b, "the record is forgotten");
	assert_false(root_in_store(&b, "vm-1"));
	/* A new volume of the name is not the old one. */
	faults(&b, "put:exports/* ambiguous=late:300 count=1");
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	box_stop(&b);
}

static void late_put_of_a_refused_create_is_reaped(void **state)
{
	struct op_err err;
	struct box a, b;
	bool created;

	box_init(&a, "a");
	a.reap_ns = 0;
	a.forget_ns = 6 * NSEC_PER_SEC;
	a.create_timeout_ns = 10 * NSEC_PER_SEC;
	box_start(&a);
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", a.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", a.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&b);
	if (create_sized(&b, "vm-1", 256 * MiB, &created, &err))
		fail_msg("%s", err.msg);
	faults(&a, "put:exports/* ambiguous=late:1500 count=1");
	assert_true(create(&a, "vm-1", &created, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	/* The other goes, and what was refused lands. */
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	for (uint64_t end = now_ns() + 10 * NSEC_PER_SEC; !root_in_store(&a, "vm-1");)
		assert_true(now_ns() < end);
	assert_absent(&a, "vm-1");
	wait_until(nothing_pending, &a, "the record is forgotten");
	assert_false(root_in_store(&a, "vm-1"));
	box_stop(&a);
	box_stop(&b);
}

static void pending_record_survives_a_restart(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -ETIMEDOUT);
	assert_int_equal(create(&b, "vm-2", &created, &err), -ETIMEDOUT);
	box_stop(&b);
	assert_true(root_in_store(&b, "vm-1"));
	box_start(&b);
	assert_int_equal(pending_count(&b), 2);
	assert_absent(&b, "vm-1");
	must_create(&b, "vm-1");
	assert_int_equal(pending_count(&b), 1);
	box_stop(&b);
	b.reap_ns = b.forget_ns = 0;
	box_start(&b);
	wait_until(nothing_pending, &b, "the other record is reaped");
	assert_false(root_in_store(&b, "vm-2"));
	assert_true(root_in_store(&b, "vm-1"));
	box_stop(&b);
}

static void failed_device_is_undone_and_a_retry_creates(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	model.fail_add = EIO;
	assert_int_equal(create(&b, "vm-1", &created, &err), -EIO);
	assert_int_equal(err.fault, OP_FAULT_DEVICE);
	assert_non_null(strstr(err.msg, "ADD_DEV"));
	assert_absent(&b, "vm-1");
	assert_false(root_in_store(&b, "vm-1"));
	assert_int_equal(local_volumes(&b), 0);
	model.fail_add = ENOSPC;
	assert_int_equal(create(&b, "vm-1", &created, &err), -ENOSPC);
	assert_int_equal(err.fault, OP_FAULT_SPACE);
	/* Also when the store cannot be told: the name stays absent. */
	model.fail_add = EIO;
	faults(&b, "delete:* error=EIO");
	assert_int_equal(create(&b, "vm-1", &created, &err), -EIO);
	assert_true(root_in_store(&b, "vm-1"));
	assert_absent(&b, "vm-1");
	faults(&b, "seed=1");
	model.fail_add = 0;
	must_create(&b, "vm-1");
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static int fork_of(struct box *b, const char *name, const char *from, bool *created,
		   struct op_err *err)
{
	const struct volume_def def = {.name = name};

	memset(err, 0, sizeof(*err));
	return host_fork_volume(b->host, &def, from, timing_op_id(), created, err);
}

static unsigned int snapshots_of(struct box *b, const char *name)
{
	struct snapshot_entry *e;
	struct op_err err;
	size_t nr;

	assert_int_equal(host_snapshot_list(b->host, name, timing_op_id(), &e, &nr, &err), 0);
	free(e);
	return (unsigned int)nr;
}

/* Whatever fails, neither the fork nor the snapshot for it is there, and a retry makes both. */
static void failed_fork_is_undone_and_a_retry_creates(void **state)
{
	static const struct {
		const char *rules;
		int fail_add;
		enum op_fault want;
	} t[] = {
		{"get:exports/* error=EIO", 0, OP_FAULT_STORE},
		{"put:snapshots/* error=EIO", 0, OP_FAULT_STORE},
		{"put:snapshots/* hang", 0, OP_FAULT_STORE},
		{"put:exports/* error=EIO", 0, OP_FAULT_STORE},
		{"put:exports/* hang", 0, OP_FAULT_STORE},
		{"put:exports/* ambiguous=before", 0, OP_FAULT_STORE},
		{"", EIO, OP_FAULT_DEVICE},
	};
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	b.create_timeout_ns = b.store_timeout_ns = 1 * NSEC_PER_SEC;
	box_start(&b);
	must_create(&b, "base");
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++) {
		char name[32];
		int r;

		snprintf(name, sizeof(name), "fork-%u", i);
		faults(&b, t[i].rules);
		model.fail_add = t[i].fail_add;
		r = fork_of(&b, name, "volume:base", &created, &err);
		model.fail_add = 0;
		if (!r || created || err.fault != t[i].want)
			fail_msg("%s: %d, fault %d: %s", t[i].rules, r, err.fault, err.msg);
		faults(&b, "");
		assert_absent(&b, name);
		assert_int_equal(model_count(), 1 + i);
		assert_int_equal(local_volumes(&b), 1 + i);
		assert_int_equal(snapshots_of(&b, "base"), i);
		if (fork_of(&b, name, "volume:base", &created, &err))
			fail_msg("%s: again: %s", t[i].rules, err.msg);
		assert_true(created);
		assert_state(&b, name, HOST_ATTACHED);
		assert_int_equal(snapshots_of(&b, "base"), i + 1);
	}
	box_stop(&b);
}

/* A snapshot whose manifest is gone: the fork is refused and leaves nothing, not even its root. */
static void a_fork_of_a_broken_snapshot_is_undone(void **state)
{
	struct snapshot s = {.name = "base",
			     .seq = 77,
			     .size_bytes = 64 * MiB,
			     .block_bytes = BLOCK_BYTES,
			     .generation = 1,
			     .manifest.id = "00000000000000000001.0123456789abcdef",
			     .manifest.bytes = 80};
	char path[256], *json;
	struct op_err err;
	struct box b;
	bool created;
	size_t len;
	FILE *f;

	memset(s.uuid, 7, sizeof(s.uuid));
	box_init(&b, "a");
	box_start(&b);
	snprintf(path, sizeof(path), "%s/store/snapshots/base", b.dir);
	assert_int_equal(mkdir_all(path), 0);
	snprintf(path, sizeof(path), "%s/store/snapshots/base/%020d", b.dir, 77);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(snapshot_encode(&s, &json, &len), 0);
	assert_int_equal(fwrite(json, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	free(json);
	assert_int_equal(fork_of(&b, "fork", "snapshot:base@77", &created, &err), -EBADMSG);
	assert_int_equal(err.fault, OP_FAULT_LOCAL);
	assert_absent(&b, "fork");
	assert_false(root_in_store(&b, "fork"));
	assert_int_equal(local_volumes(&b), 0);
	assert_int_equal(model_count(), 0);
	assert_int_equal(fork_of(&b, "fork", "snapshot:base@78", &created, &err), -ENOENT);
	assert_int_equal(err.fault, OP_FAULT_MISSING);
	box_stop(&b);
}

static void unwritable_list_undoes_the_create(void **state)
{
	struct op_err err;
	struct box b;
	bool created;
	char tmp[160];

	box_init(&b, "a");
	box_start(&b);
	/* A directory in the way of the temporary file: as root nothing else is refused. */
	snprintf(tmp, sizeof(tmp), "%s/.volumes.json.%d.tmp", b.state, getpid());
	assert_int_equal(mkdir(tmp, 0700), 0);
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_absent(&b, "vm-1");
	assert_int_equal(model_count(), 0);
	assert_int_equal(rmdir(tmp), 0);
	must_create(&b, "vm-1");
	box_stop(&b);
	box_start(&b);
	{
		struct host_volume_info v;

		assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	}
	box_stop(&b);
}

struct creator {
	struct box *b;
	const char *name;
	bool created;
	int r;
	struct op_err err;
};

static void *creator_main(void *arg)
{
	struct creator *c = arg;

	c->r = create(c->b, c->name, &c->created, &c->err);
	return NULL;
}

static void one_of_many_creates_of_a_name_wins(void **state)
{
	struct creator c[12];
	unsigned int winners = 0;
	pthread_t t[12];
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	for (int i = 0; i < 12; i++) {
		c[i] = (struct creator){.b = &b, .name = "vm-1"};
		assert_int_equal(pthread_create(&t[i], NULL, creator_main, &c[i]), 0);
	}
	for (int i = 0; i < 12; i++) {
		pthread_join(t[i], NULL);
		if (c[i].r)
			fail_msg("%s", c[i].err.msg);
		winners += c[i].created;
	}
	assert_int_equal(winners, 1);
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static void a_hanging_create_delays_no_other_name(void **state)
{
	struct creator slow;
	struct box b;
	pthread_t t;

	box_init(&b, "a");
	b.create_timeout_ns = 3 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/slow/* hang");
	slow = (struct creator){.b = &b, .name = "slow"};
	assert_int_equal(pthread_create(&t, NULL, creator_main, &slow), 0);
	must_create(&b, "fast");
	assert_int_equal(pthread_tryjoin_np(t, NULL), EBUSY);
	pthread_join(t, NULL);
	assert_int_equal(slow.err.fault, OP_FAULT_STORE);
	assert_absent(&b, "slow");
	box_stop(&b);
}

static void creates_of_different_names_are_all_under_way_at_once(void **state)
{
	enum { NAMES = 20 };
	char names[NAMES][16];
	struct creator c[NAMES];
	pthread_t t[NAMES];
	struct box b;

	box_init(&b, "a");
	b.create_timeout_ns = 60 * NSEC_PER_SEC;
	box_start(&b);
	__atomic_store_n(&model.adding, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&model.together, NAMES, __ATOMIC_RELAXED);
	for (int i = 0; i < NAMES; i++) {
		snprintf(names[i], sizeof(names[i]), "vm-%d", i);
		c[i] = (struct creator){.b = &b, .name = names[i]};
		assert_int_equal(pthread_create(&t[i], NULL, creator_main, &c[i]), 0);
	}
	for (int i = 0; i < NAMES; i++)
		pthread_join(t[i], NULL);
	__atomic_store_n(&model.together, 0, __ATOMIC_RELAXED);
	for (int i = 0; i < NAMES; i++)
		if (c[i].r)
			fail_msg("%s: %s", names[i], c[i].err.msg);
	box_stop(&b);
}

static bool device_there(struct box *b)
{
	return model_count() == 1;
}

static void device_is_made_while_the_put_is_in_flight(void **state)
{
	struct creator c;
	struct box b;
	pthread_t t;

	box_init(&b, "a");
	b.create_timeout_ns = 60 * NSEC_PER_SEC;
	box_start(&b);
	faults(&b, "put:exports/* hang");
	c = (struct creator){.b = &b, .name = "vm-1"};
	assert_int_equal(pthread_create(&t, NULL, creator_main, &c), 0);
	wait_until(device_there, &b, "the device before the PUT has an answer");
	assert_int_equal(pthread_tryjoin_np(t, NULL), EBUSY);
	assert_absent(&b, "vm-1");
	faults(&b, "seed=1");
	store_fault_release(b.store);
	pthread_join(t, NULL);
	if (c.r)
		fail_msg("%s", c.err.msg);
	assert_true(c.created);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	box_stop(&b);
}

static void a_device_that_hangs_keeps_a_failed_create_out_of_reach(void **state)
{
	struct op_err err;
	struct box b;
	bool created, changed;

	box_init(&b, "a");
	b.reap_ns = b.forget_ns = 0;
	box_start(&b);
	faults(&b, "put:exports/* error=EIO");
	model.fail_remove = ETIMEDOUT;
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_state(&b, "vm-1", HOST_FAILED);
	faults(&b, "seed=1");
	assert_true(create(&b, "vm-1", &created, &err) < 0);
	assert_non_null(strstr(err.msg, "restart glidefsd"));
	assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
	assert_true(host_detach(b.host, "vm-1", true, 0, 1, &err) < 0);
	assert_true(host_takeover(b.host, "vm-1", true, 1, &err) < 0);
	assert_int_equal(model_count(), 1);
	model.fail_remove = 0;
	box_stop(&b);
	box_start(&b);
	wait_until(nothing_pending, &b, "the record is reaped");
	assert_absent(&b, "vm-1");
	assert_int_equal(model_count(), 0);
	must_create(&b, "vm-1");
	box_stop(&b);
}

/* ---- life ---- */

static bool readied(struct box *b)
{
	return __atomic_load_n(&b->readied, __ATOMIC_ACQUIRE);
}

static bool is_ready(struct box *b)
{
	struct host_summary s;

	host_summary_read(b->host, &s);
	return s.ready;
}

static void restart_recovers_the_same_devices_and_removes_leaked_ones(void **state)
{
	struct host_volume_info v;
	int ids[8];
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	for (int i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "vm-%d", i);
		must_create(&b, name);
		assert_int_equal(show(&b, name, &v), OP_FAULT_NONE);
		ids[i] = v.dev_id;
	}
	box_stop(&b);
	assert_int_equal(model_count(), 8);
	/* One that belongs to no volume, and one volume whose device is gone. */
	model.d[20].there = true;
	memset(model.d[20].uuid, 0xee, 16);
	model.d[ids[3]].there = false;
	box_start(&b);
	wait_until(is_ready, &b, "recovery");
	assert_true(readied(&b));
	assert_false(model.d[20].there);
	for (int i = 0; i < 8; i++) {
		char name[16];

		snprintf(name, sizeof(name), "vm-%d", i);
		assert_state(&b, name, HOST_ATTACHED);
		assert_int_equal(show(&b, name, &v), OP_FAULT_NONE);
		if (i != 3)
			assert_int_equal(v.dev_id, ids[i]);
	}
	assert_int_equal(model_count(), 8);
	box_stop(&b);
}

static void a_larger_create_grows_the_volume_and_its_device(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(create_sized(&b, "vm-1", 128 * MiB, &created, &err), 0);
	assert_false(created);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.info.root.size_bytes, 128 * MiB);
	assert_int_equal(v.dev_bytes, 128 * MiB);
	/* A kernel that cannot: the volume is larger, the device says that it is not. */
	model.no_resize = true;
	assert_int_equal(create_sized(&b, "vm-1", 256 * MiB, &created, &err), 0);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.info.root.size_bytes, 256 * MiB);
	assert_int_equal(v.dev_bytes, 128 * MiB);
	/* Another daemon, and a kernel that can: the device follows when it is recovered. */
	model.no_resize = false;
	box_stop(&b);
	box_start(&b);
	wait_until(is_ready, &b, "recovery");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.dev_bytes, 256 * MiB);
	/* One that is only in the store is attached, and grows. */
	assert_int_equal(host_detach(b.host, "vm-1", false, 0, timing_op_id(), &err), 0);
	assert_int_equal(create_sized(&b, "vm-1", 512 * MiB, &created, &err), 0);
	assert_false(created);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_int_equal(v.state, HOST_ATTACHED);
	assert_int_equal(v.dev_bytes, 512 * MiB);
	box_stop(&b);
}

static void recovery_waits_for_a_store_that_is_away(void **state)
{
	struct host_summary s;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	must_create(&b, "vm-2");
	box_stop(&b);
	start_engine(&b, "get:* error=EIO");
	start_registry(&b);
	host_recover_start(b.host);
	wait_until(readied, &b, "the first pass");
	host_summary_read(b.host, &s);
	assert_false(s.ready);
	assert_int_equal(s.failed_passing, 2);
	faults(&b, "seed=1");
	wait_until(is_ready, &b, "the volumes to be tried again");
	assert_state(&b, "vm-1", HOST_ATTACHED);
	assert_state(&b, "vm-2", HOST_ATTACHED);
	box_stop(&b);
}

static void failed_recovery_of_a_device_is_tried_again(void **state)
{
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	box_stop(&b);
	model.fail_recover = ETIMEDOUT;
	box_start(&b);
	wait_until(readied, &b, "the first pass");
	assert_state(&b, "vm-1", HOST_FAILED);
	model.fail_recover = 0;
	wait_until(is_ready, &b, "the device to be recovered");
	assert_state(&b, "vm-1", HOST_ATTACHED);
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static void lost_local_state_is_never_served_silently(void **state)
{
	struct op_err err;
	char cmd[160];
	bool changed;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	box_stop(&b);
	snprintf(cmd, sizeof(cmd), "rm -r %s/volumes/*", b.cache);
	assert_int_equal(system(cmd), 0);
	box_start(&b);
	wait_until(is_ready, &b, "the first pass");
	assert_state(&b, "vm-1", HOST_FAILED);
	/* Neither does a plain attach; a takeover accepts the store's image. */
	assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_int_equal(host_takeover(b.host, "vm-1", false, 1, &err), 0);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	assert_int_equal(model_count(), 1);
	box_stop(&b);
}

static void damaged_list_is_refused_with_its_name(void **state)
{
	struct fmt_err err = {{0}};
	struct host_config hc;
	struct host *h;
	char path[160], *text;
	size_t len;
	struct box b;
	int fd;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	box_stop(&b);
	snprintf(path, sizeof(path), "%s/volumes.json", b.state);
	assert_int_equal(file_read_all(AT_FDCWD, path, MiB, &text, &len), 0);
	start_engine(&b, "seed=1");
	b.pool = pool_create("t", 2);
	hc = (struct host_config){.state_dir = b.state, .cache_dir = b.cache, .host_id = b.host_id};
	for (size_t i = 0; i < len; i++) {
		char old = text[i];

		text[i] ^= 1;
		fd = open(path, O_WRONLY | O_TRUNC);
		assert_int_equal(write(fd, text, len), (ssize_t)len);
		close(fd);
		text[i] = old;
		if (host_create(&hc, b.engine, &b.ublk, b.pool, &h, &err) == 0)
			fail_msg("accepted with byte %zu ('%c') changed", i, old);
		assert_non_null(strstr(err.msg, "volumes.json"));
	}
	free(text);
	pool_destroy(b.pool);
	engine_destroy(b.engine);
	store_close(b.store);
}

static void detach_releases_and_another_host_attaches(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box a, b;
	bool changed;

	box_init(&a, "a");
	box_start(&a);
	must_create(&a, "vm-1");
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", a.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", a.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&b);
	assert_true(host_attach(b.host, "vm-1", 1, &changed, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_non_null(strstr(err.msg, a.host_id));
	/* In use: refused, and nothing changed. */
	assert_int_equal(show(&a, "vm-1", &v), OP_FAULT_NONE);
	model_set_in_use(v.dev_id, true);
	assert_int_equal(host_detach(a.host, "vm-1", false, 0, 1, &err), -EBUSY);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_non_null(strstr(err.msg, "mounted on /mnt"));
	assert_state(&a, "vm-1", HOST_ATTACHED);
	model_set_in_use(v.dev_id, false);
	assert_int_equal(host_detach(a.host, "vm-1", false, 0, 1, &err), 0);
	assert_state(&a, "vm-1", HOST_DETACHED);
	assert_int_equal(local_volumes(&a), 0);
	assert_int_equal(host_attach(b.host, "vm-1", 1, &changed, &err), 0);
	assert_true(changed);
	assert_int_equal(host_attach(b.host, "vm-1", 1, &changed, &err), 0);
	assert_false(changed);
	/* Seized back: only takeover does that. */
	assert_true(host_attach(a.host, "vm-1", 1, &changed, &err) < 0);
	assert_int_equal(host_takeover(a.host, "vm-1", false, 1, &err), 0);
	assert_state(&a, "vm-1", HOST_ATTACHED);
	/* The loser has not noticed, and must not remove what is another's. */
	assert_int_equal(host_remove(b.host, "vm-1", true, 1, &err), -ESTALE);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_true(root_in_store(&a, "vm-1"));
	box_stop(&b);
	box_stop(&a);
}

static void a_stranger_with_a_listed_name_is_not_claimed(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box a, b;
	uint64_t generation;
	bool changed;

	box_init(&a, "a");
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", b.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", b.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&a);
	must_create(&a, "vm-1");
	box_stop(&a);
	box_start(&b);
	assert_int_equal(host_takeover(b.host, "vm-1", false, 1, &err), 0);
	assert_int_equal(host_detach(b.host, "vm-1", false, 0, 1, &err), 0);
	/* Detached by another: it is on our list, but not ours any more. */
	for (int round = 0; round < 2; round++) {
		assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
		generation = v.info.root.generation;
		box_start(&a);
		wait_until(readied, &a, "the first pass");
		assert_state(&a, "vm-1", HOST_FAILED);
		assert_int_equal(host_attach(a.host, "vm-1", 1, &changed, &err), -ESTALE);
		assert_int_equal(err.fault, OP_FAULT_CONFLICT);
		box_stop(&a);
		assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
		assert_string_equal(v.info.root.owner, "");
		assert_int_equal(v.info.root.generation, generation);
		if (round)
			break;
		/* And again with another volume of that name. */
		assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
		must_create(&b, "vm-1");
		assert_int_equal(host_detach(b.host, "vm-1", false, 0, 1, &err), 0);
	}
	box_stop(&b);
}

static void failed_release_leaves_a_volume_that_a_retry_detaches(void **state)
{
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	faults(&b, "put:exports/* error=EIO");
	assert_true(host_detach(b.host, "vm-1", false, 0, 1, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_state(&b, "vm-1", HOST_STOPPED);
	faults(&b, "seed=1");
	assert_int_equal(host_detach(b.host, "vm-1", false, 0, 1, &err), 0);
	assert_state(&b, "vm-1", HOST_DETACHED);
	/* And after a restart it is not attached. */
	box_stop(&b);
	box_start(&b);
	assert_state(&b, "vm-1", HOST_DETACHED);
	box_stop(&b);
}

/* Attached, then a detach that got as far as the PUT of its release, and no answer to that. */
static void detach_without_answer(struct box *b, const char *rules)
{
	struct op_err err;

	box_init(b, "a");
	b->store_timeout_ns = 2 * NSEC_PER_SEC;
	box_start(b);
	must_create(b, "vm-1");
	faults(b, rules);
	assert_true(host_detach(b->host, "vm-1", false, 0, 1, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_non_null(strstr(err.msg, "may still land"));
	assert_non_null(strstr(err.msg, "again"));
	assert_state(b, "vm-1", HOST_STOPPED);
}

enum after_detach { THEN_ATTACH, THEN_CREATE, THEN_TAKEOVER, THEN_DETACH, THEN_REMOVE, AFTER_NR };

static int after_detach(struct box *b, enum after_detach what, struct op_err *err)
{
	bool changed;

	memset(err, 0, sizeof(*err));
	switch (what) {
	case THEN_ATTACH:
		return host_attach(b->host, "vm-1", 1, &changed, err);
	case THEN_CREATE:
		return create(b, "vm-1", &changed, err);
	case THEN_TAKEOVER:
		return host_takeover(b->host, "vm-1", false, 1, err);
	case THEN_DETACH:
		return host_detach(b->host, "vm-1", false, 0, 1, err);
	case THEN_REMOVE:
		return host_remove(b->host, "vm-1", false, 1, err);
	case AFTER_NR:
		break;
	}
	return -EINVAL;
}

static void an_unanswered_release_hinders_nothing_once_the_store_answers(void **state)
{
	static const struct {
		const char *rules;
		enum after_detach then;
	} cases[] = {
		{"put:exports/* ambiguous=before", THEN_ATTACH},
		{"put:exports/* ambiguous=before", THEN_CREATE},
		{"put:exports/* ambiguous=before", THEN_TAKEOVER},
		{"put:exports/* ambiguous=before", THEN_DETACH},
		{"put:exports/* ambiguous=before", THEN_REMOVE},
		{"put:exports/* ambiguous=after", THEN_ATTACH},
		{"put:exports/* ambiguous=after", THEN_DETACH},
		{"put:exports/* hang", THEN_CREATE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		enum after_detach then = cases[i].then;
		bool attached = then < THEN_DETACH;
		struct host_volume_info v;
		struct op_err err;
		struct box b;

		detach_without_answer(&b, cases[i].rules);
		faults(&b, "seed=1");
		if (after_detach(&b, then, &err))
			fail_msg("%s, then %d: %s", cases[i].rules, (int)then, err.msg);
		if (then == THEN_REMOVE) {
			assert_absent(&b, "vm-1");
		} else {
			assert_state(&b, "vm-1", attached ? HOST_ATTACHED : HOST_DETACHED);
			assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
			assert_string_equal(v.info.root.owner, attached ? b.host_id : "");
			assert_int_equal(v.info.mode, VOLUME_RW);
		}
		assert_int_equal(model_count(), attached);
		assert_int_equal(local_volumes(&b), attached);
		box_stop(&b);
	}
}

static void an_unanswered_release_is_not_overtaken(void **state)
{
	static const enum after_detach also[] = {THEN_ATTACH, THEN_CREATE, THEN_TAKEOVER,
						 THEN_DETACH};
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	detach_without_answer(&b, "put:exports/* hang");
	/* As long as the PUT may land, nothing is served and nothing else is written. */
	for (size_t i = 0; i < ARRAY_SIZE(also); i++) {
		uint64_t begin = now_ns();

		assert_true(after_detach(&b, also[i], &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_STORE);
		assert_non_null(strstr(err.msg, "may still land"));
		assert_non_null(strstr(err.msg, "again"));
		assert_true(now_ns() - begin < 5 * b.store_timeout_ns);
		assert_state(&b, "vm-1", HOST_STOPPED);
		assert_int_equal(model_count(), 0);
	}
	/* Nor is it attached by itself after a restart, landed or not; by request it is. */
	box_stop(&b);
	box_start(&b);
	wait_until(readied, &b, "the first pass");
	assert_state(&b, "vm-1", HOST_DETACHED);
	assert_int_equal(after_detach(&b, THEN_ATTACH, &err), 0);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_string_equal(v.info.root.owner, b.host_id);
	box_stop(&b);
}

static void a_release_that_landed_unseen_survives_a_restart_and_another_owner(void **state)
{
	struct op_err err;
	struct box a, b;

	detach_without_answer(&a, "put:exports/* ambiguous=after");
	b = a;
	snprintf(b.state, sizeof(b.state), "%s/state-b", a.dir);
	snprintf(b.cache, sizeof(b.cache), "%s/cache-b", a.dir);
	snprintf(b.host_id, sizeof(b.host_id), "b/00000000-0000-4000-8000-000000000002");
	assert_int_equal(mkdir_all(b.cache), 0);
	box_start(&b);
	/* It is free in the store, so another takes it. */
	assert_int_equal(after_detach(&b, THEN_ATTACH, &err), 0);
	faults(&a, "seed=1");
	assert_int_equal(after_detach(&a, THEN_ATTACH, &err), -EBUSY);
	assert_int_equal(err.fault, OP_FAULT_CONFLICT);
	assert_non_null(strstr(err.msg, b.host_id));
	assert_state(&a, "vm-1", HOST_DETACHED);
	assert_int_equal(after_detach(&b, THEN_DETACH, &err), 0);
	assert_int_equal(after_detach(&a, THEN_ATTACH, &err), 0);
	box_stop(&b);
	box_stop(&a);

	detach_without_answer(&a, "put:exports/* ambiguous=after");
	box_stop(&a);
	box_start(&a);
	wait_until(readied, &a, "the first pass");
	assert_state(&a, "vm-1", HOST_DETACHED);
	assert_int_equal(after_detach(&a, THEN_ATTACH, &err), 0);
	box_stop(&a);
}

static void a_release_that_was_not_written_leaves_a_volume_that_is_attached_at_once(void **state)
{
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	faults(&b, "put:* error=EIO");
	assert_true(after_detach(&b, THEN_DETACH, &err) < 0);
	assert_state(&b, "vm-1", HOST_STOPPED);
	/* It is ours for certain: no answer of the store is needed. */
	if (after_detach(&b, THEN_ATTACH, &err))
		fail_msg("%s", err.msg);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	box_stop(&b);
}

static void a_failed_attach_that_cannot_give_back_is_finished_by_the_next(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	b.store_timeout_ns = 2 * NSEC_PER_SEC;
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(after_detach(&b, THEN_DETACH, &err), 0);
	model.fail_add = EIO;
	/* The claim is written, the release has no answer. */
	faults(&b, "put:exports/* ambiguous=before skip=1");
	assert_true(after_detach(&b, THEN_ATTACH, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_DEVICE);
	assert_state(&b, "vm-1", HOST_STOPPED);
	model.fail_add = 0;
	faults(&b, "seed=1");
	if (after_detach(&b, THEN_ATTACH, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	assert_string_equal(v.info.root.owner, b.host_id);
	box_stop(&b);
}

static void remove_deletes_all_or_can_be_repeated(void **state)
{
	struct host_volume_info v;
	struct op_err err;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "vm-1");
	assert_int_equal(show(&b, "vm-1", &v), OP_FAULT_NONE);
	model_set_in_use(v.dev_id, true);
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), -EBUSY);
	assert_state(&b, "vm-1", HOST_ATTACHED);
	faults(&b, "delete:* error=EIO");
	assert_true(host_remove(b.host, "vm-1", true, 1, &err) < 0);
	assert_int_equal(err.fault, OP_FAULT_STORE);
	assert_state(&b, "vm-1", HOST_STOPPED);
	faults(&b, "seed=1");
	assert_int_equal(host_remove(b.host, "vm-1", false, 1, &err), 0);
	assert_absent(&b, "vm-1");
	assert_false(root_in_store(&b, "vm-1"));
	assert_int_equal(local_volumes(&b), 0);
	assert_int_equal(model_count(), 0);
	/* Of one that is only in the store, too. */
	must_create(&b, "vm-2");
	assert_int_equal(host_detach(b.host, "vm-2", false, 0, 1, &err), 0);
	assert_int_equal(host_remove(b.host, "vm-2", false, 1, &err), 0);
	assert_absent(&b, "vm-2");
	box_stop(&b);
	box_start(&b);
	assert_absent(&b, "vm-1");
	assert_absent(&b, "vm-2");
	box_stop(&b);
}

struct listed {
	unsigned int n, detached, attached;
};

static void count_listed(const struct host_volume_info *v, void *arg)
{
	struct listed *l = arg;

	l->n++;
	l->detached += v->state == HOST_DETACHED;
	l->attached += v->state == HOST_ATTACHED;
}

static void list_shows_this_host_and_the_store_but_no_leftovers(void **state)
{
	struct listed l = {0};
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	must_create(&b, "here");
	must_create(&b, "away");
	assert_int_equal(host_detach(b.host, "away", false, 0, 1, &err), 0);
	faults(&b, "put:exports/* ambiguous=after; get:exports/* error=EIO");
	assert_int_equal(create(&b, "ghost", &created, &err), -ETIMEDOUT);
	faults(&b, "seed=1");
	assert_int_equal(host_list(b.host, 1, count_listed, &l, &err), 0);
	assert_int_equal(l.n, 2);
	assert_int_equal(l.attached, 1);
	assert_int_equal(l.detached, 1);
	memset(&l, 0, sizeof(l));
	faults(&b, "list:* error=EIO");
	assert_true(host_list(b.host, 1, count_listed, &l, &err) < 0);
	assert_int_equal(l.n, 1);
	box_stop(&b);
}

static void illegal_names_reach_nothing(void **state)
{
	static const char *const names[] = {"",    ".",   "..",   "-a",  "a/b",
					    "a b", "a\n", "\xff", "a%2f"};
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		assert_true(create(&b, names[i], &created, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_REQUEST);
		assert_int_equal(show(&b, names[i], &v), OP_FAULT_REQUEST);
		assert_true(host_remove(b.host, names[i], true, 1, &err) < 0);
		assert_int_equal(err.fault, OP_FAULT_REQUEST);
	}
	box_stop(&b);
}

static void host_id_is_made_once_and_kept(void **state)
{
	char a[128], b[128], dir[128], cmd[200];
	struct fmt_err err = {{0}};

	snprintf(dir, sizeof(dir), "%s/id", top);
	assert_int_equal(host_id_load(dir, "box-1", a, sizeof(a), &err), 0);
	assert_memory_equal(a, "box-1/", 6);
	assert_int_equal(host_id_load(dir, "renamed", b, sizeof(b), &err), 0);
	assert_string_equal(a, b);
	snprintf(cmd, sizeof(cmd), "echo nonsense > %s/host-id", dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(host_id_load(dir, "box-1", b, sizeof(b), &err), -EBADMSG);
}

static int setup(void **state)
{
	log_init(LOG_LVL_ERR, false);
	snprintf(top, sizeof(top), "/tmp/host_test.XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(create_is_idempotent_and_refuses_another_definition),
		cmocka_unit_test(a_larger_create_grows_the_volume_and_its_device),
		cmocka_unit_test(failed_put_is_undone_and_a_retry_creates),
		cmocka_unit_test(ambiguous_put_that_was_made_is_recognised_as_ours),
		cmocka_unit_test(create_without_answer_does_not_exist_and_a_retry_adopts_it),
		cmocka_unit_test(retry_with_another_definition_replaces_the_leftover),
		cmocka_unit_test(late_put_of_a_failed_create_is_reaped),
		cmocka_unit_test(definite_failure_of_a_retry_does_not_forget_the_late_put),
		cmocka_unit_test(late_put_does_not_bring_back_a_removed_volume),
		cmocka_unit_test(late_put_of_a_refused_create_is_reaped),
		cmocka_unit_test(pending_record_survives_a_restart),
		cmocka_unit_test(failed_device_is_undone_and_a_retry_creates),
		cmocka_unit_test(failed_fork_is_undone_and_a_retry_creates),
		cmocka_unit_test(a_fork_of_a_broken_snapshot_is_undone),
		cmocka_unit_test(unwritable_list_undoes_the_create),
		cmocka_unit_test(one_of_many_creates_of_a_name_wins),
		cmocka_unit_test(a_hanging_create_delays_no_other_name),
		cmocka_unit_test(creates_of_different_names_are_all_under_way_at_once),
		cmocka_unit_test(device_is_made_while_the_put_is_in_flight),
		cmocka_unit_test(a_device_that_hangs_keeps_a_failed_create_out_of_reach),
		cmocka_unit_test(restart_recovers_the_same_devices_and_removes_leaked_ones),
		cmocka_unit_test(recovery_waits_for_a_store_that_is_away),
		cmocka_unit_test(failed_recovery_of_a_device_is_tried_again),
		cmocka_unit_test(lost_local_state_is_never_served_silently),
		cmocka_unit_test(damaged_list_is_refused_with_its_name),
		cmocka_unit_test(detach_releases_and_another_host_attaches),
		cmocka_unit_test(a_stranger_with_a_listed_name_is_not_claimed),
		cmocka_unit_test(failed_release_leaves_a_volume_that_a_retry_detaches),
		cmocka_unit_test(an_unanswered_release_hinders_nothing_once_the_store_answers),
		cmocka_unit_test(an_unanswered_release_is_not_overtaken),
		cmocka_unit_test(a_release_that_landed_unseen_survives_a_restart_and_another_owner),
		cmocka_unit_test(
			a_release_that_was_not_written_leaves_a_volume_that_is_attached_at_once),
		cmocka_unit_test(a_failed_attach_that_cannot_give_back_is_finished_by_the_next),
		cmocka_unit_test(remove_deletes_all_or_can_be_repeated),
		cmocka_unit_test(list_shows_this_host_and_the_store_but_no_leftovers),
		cmocka_unit_test(illegal_names_reach_nothing),
		cmocka_unit_test(host_id_is_made_once_and_kept),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
