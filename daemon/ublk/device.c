// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Making devices, and the host they belong to; see device.h and ublk_priv.h. Removing is in
 * remove.c, recovery in recover.c.
 */
#include "ublk/ublk_priv.h"

#include "lib/log.h"
#include "lib/spans.h"
#include "lib/step.h"
#include "ublk/udev.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define CMD_TIMEOUT_NS  (30 * NSEC_PER_SEC)
#define NODE_POLL_NS    (1 * NSEC_PER_MSEC)
#define NO_PREFETCH_ENV "GFS_DEBUG_NO_EDGE_PREFETCH"

/* ---- the host ---- */

static int caps_read(struct ublk_ctrl *ctrl, struct ublk_caps *caps, struct fmt_err *err)
{
	const struct ublk_cmd_spec spec = {
		.op = UBLK_U_CMD_GET_FEATURES,
		.dev_id = UINT32_MAX,
		.buf = &caps->features,
		.len = UBLK_FEATURES_LEN,
		.timeout_ns = CMD_TIMEOUT_NS,
	};
	int r = ublk_ctrl_run(ctrl, &spec, NULL);

	if (r < 0) {
		snprintf(err->msg, sizeof(err->msg),
			 "ublk: GET_FEATURES failed (%s); Linux 6.5 or later is needed",
			 strerror(-r));
		return r;
	}
	caps->privileged = true;
	caps->async_part_scan = kernel_scans_async(caps->kernel);
	return 0;
}

/* What can be known without touching the driver. -EOPNOTSUPP: a known-bad kernel. */
static int caps_kernel(struct ublk_caps *caps, struct fmt_err *err)
{
	struct utsname u;

	memset(caps, 0, sizeof(*caps));
	if (uname(&u) < 0)
		return -errno;
	snprintf(caps->kernel, sizeof(caps->kernel), "%s", u.release);
	caps->known_bad = ublk_kernel_known_bad(caps->kernel);
	if (!caps->known_bad)
		return 0;
	snprintf(err->msg, sizeof(err->msg), "kernel %.40s is known bad for ublk: %s", caps->kernel,
		 caps->known_bad);
	return -EOPNOTSUPP;
}

static int ctrl_open(struct ublk_ctrl **ctrl, struct fmt_err *err)
{
	int r = ublk_ctrl_create(ctrl);

	if (r == -ENODEV)
		snprintf(err->msg, sizeof(err->msg),
			 "no /dev/ublk-control: load the driver (modprobe ublk_drv)");
	else if (r)
		snprintf(err->msg, sizeof(err->msg), "/dev/ublk-control: %s", strerror(-r));
	return r;
}

int ublk_caps_probe(struct ublk_caps *out, struct fmt_err *err)
{
	struct ublk_ctrl *ctrl;
	int r = caps_kernel(out, err);

	if (r)
		return r;
	r = ctrl_open(&ctrl, err);
	if (r)
		return r;
	r = caps_read(ctrl, out, err);
	ublk_ctrl_destroy(ctrl);
	return r;
}

int ublk_host_create(const struct ublk_config *c, struct engine *e, struct ublk_host **out,
		     struct fmt_err *err)
{
	struct ublk_host *h = calloc(1, sizeof(*h));
	char why[120];
	uint64_t flags;
	int r;

	if (!h)
		return -ENOMEM;
	pthread_mutex_init(&h->lock, NULL);
	list_init(&h->devs);
	h->e = e;
	h->queues = MAX(2u, c->queues);
	h->depth = MIN(c->depth ? c->depth : 128u, (unsigned int)UBLK_DEPTH_MAX);
	h->cmd_timeout_ns = c->cmd_timeout_ns ? c->cmd_timeout_ns : CMD_TIMEOUT_NS;
	h->udev_wait_ns = c->udev_wait_ns;
	h->host_id = strdup(c->host_id);
	h->reaper = pool_create("gfs-ublk-reap", 1);
	if (!h->host_id || !h->reaper) {
		r = -ENOMEM;
		snprintf(err->msg, sizeof(err->msg), "ublk: %s", strerror(-r));
		goto err_out;
	}
	r = caps_kernel(&h->caps, err);
	if (!r)
		r = ctrl_open(&h->ctrl, err);
	if (!r)
		r = caps_read(h->ctrl, &h->caps, err);
	if (r)
		goto err_out;
	h->recover_in_one_step = kernel_recovery_needs_one_step(h->caps.kernel);
	h->heal = kernel_recovery_must_be_whole(h->caps.kernel);
	h->pins_fixed_files = kernel_pins_fixed_files(h->caps.kernel);
	r = ublk_features_choose(h->caps.features, false, &flags, why, sizeof(why));
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "ublk: %s", why);
		goto err_out;
	}
	r = devmap_open(c->state_dir, &h->map, err);
	if (r == -EBADMSG) {
		log_warn("ublk: %s; devices are found by their identity instead", err->msg);
		r = 0;
	}
	if (r)
		goto err_out;
	r = udev_marks_open();
	if (r)
		log_warn("ublk: " UDEV_MARK_DIR
			 ": %s: udev cannot tell our devices and sets nothing "
			 "of them",
			 strerror(-r));
	*out = h;
	return 0;
err_out:
	ublk_host_destroy(h);
	return r;
}

void ublk_host_destroy(struct ublk_host *h)
{
	if (!h)
		return;
	__atomic_store_n(&h->closing, true, __ATOMIC_RELEASE);
	if (h->reaper)
		pool_destroy(h->reaper);
	ublk_ctrl_destroy(h->ctrl);
	devmap_close(h->map);
	pthread_mutex_destroy(&h->lock);
	free(h->wanted);
	free(h->host_id);
	free(h);
}

/* ---- a device ---- */

int dev_new(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out)
{
	struct ublk_dev *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	dev->lanes = calloc(engine_workers(h->e)->nr, sizeof(struct lane *));
	if (!dev->lanes) {
		free(dev);
		return -ENOMEM;
	}
	dev->h = h;
	dev->v = v;
	dev->op_id = op_id;
	dev->id = -1;
	dev->cdev_fd = -1;
	dev->scan = volume_partitions(v);
	list_init(&dev->node);
	snprintf(dev->name, sizeof(dev->name), "%s", volume_name(v));
	dev->identity = ublk_identity(h->host_id, volume_uuid(v));
	pthread_mutex_lock(&h->lock);
	list_add_tail(&dev->node, &h->devs);
	pthread_mutex_unlock(&h->lock);
	*out = dev;
	return 0;
}

void dev_free(struct ublk_dev *dev)
{
	if (!dev)
		return;
	span_close(dev->span);
	pthread_mutex_lock(&dev->h->lock);
	list_del(&dev->node);
	dev->h->devs_freed++;
	pthread_mutex_unlock(&dev->h->lock);
	ublk_ctrl_forget(dev->h->ctrl, dev->late_start);
	ublk_ctrl_forget(dev->h->ctrl, dev->late_stop);
	ublk_ctrl_forget(dev->h->ctrl, dev->late_del);
	free(dev->q);
	free(dev->lanes);
	free(dev);
}

int dev_fail(const struct ublk_dev *dev, const char *phase, int r, struct fmt_err *err)
{
	char device[32] = "";

	if (dev->id >= 0)
		snprintf(device, sizeof(device), " of device %d", dev->id);
	if (r == -ETIMEDOUT)
		snprintf(err->msg, sizeof(err->msg),
			 "volume %.60s: ublk %s%s did not end within %.1f s", dev->name, phase,
			 device, (double)dev->h->cmd_timeout_ns / 1e9);
	else
		snprintf(err->msg, sizeof(err->msg),
			 "volume %.60s: ublk %s%s failed: %s (errno %d)", dev->name, phase, device,
			 strerror(-r), -r);
	return r;
}

int dev_adopt(struct ublk_dev *dev, const struct ublksrv_ctrl_dev_info *info)
{
	dev->id = (int)info->dev_id;
	dev->flags = info->flags;
	dev->nr_queues = info->nr_hw_queues;
	dev->depth = info->queue_depth;
	dev->first_worker =
		__atomic_fetch_add(&dev->h->next_worker, dev->nr_queues, __ATOMIC_RELAXED);
	span_close(dev->span);
	dev->span = span_open(&(struct timing_rec){
		.event = TIMING_UBLK_DEVICE, .export_ = dev->name, .dev_id = dev->id});
	dev->q = calloc(dev->nr_queues, sizeof(struct ublk_queue *));
	return dev->q ? 0 : -ENOMEM;
}

int dev_cmd(struct ublk_dev *dev, uint32_t op, uint64_t data, void *buf, uint16_t len,
	    uint64_t deadline_ns, struct ublk_cmd **late)
{
	uint64_t now = now_ns();
	const struct ublk_cmd_spec spec = {
		.op = op,
		.dev_id = (uint32_t)dev->id,
		.data = data,
		.buf = buf,
		.len = len,
		.timeout_ns = deadline_ns > now ? deadline_ns - now : 0,
		.op_id = dev->op_id,
		.volume = dev->name,
	};

	return ublk_ctrl_run(dev->h->ctrl, &spec, late);
}

/* A step on the way to a device: seen from outside while it lasts, reported at its end. */
struct dev_phase {
	struct timing_rec rec;
	uint32_t span;
};

static struct dev_phase dev_phase_begin(const struct ublk_dev *dev, enum timing_event event)
{
	struct dev_phase p = {
		.rec =
			{
				.event = event,
				.op_id = dev->op_id,
				.start_ns = now_ns(),
				.export_ = dev->name,
				.dev_id = dev->id,
			},
	};

	p.span = span_open(&p.rec);
	return p;
}

static void dev_phase_end(struct dev_phase *p, int res)
{
	span_close(p->span);
	p->rec.result = res;
	timing_emit(&p->rec);
}

static int dev_add(struct ublk_dev *dev, uint64_t deadline_ns, struct fmt_err *err)
{
	struct ublk_host *h = dev->h;
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = (uint16_t)MIN(h->queues, (unsigned int)VOLUME_QUEUES_MAX),
		.queue_depth = (uint16_t)h->depth,
		.max_io_buf_bytes = UBLK_IO_BYTES_MAX,
		.dev_id = UINT32_MAX,
		.ublksrv_pid = getpid(),
		.ublksrv_flags = dev->identity,
	};
	char why[120];
	uint64_t asked;
	int r = ublk_features_choose(h->caps.features, dev->scan, &asked, why, sizeof(why));

	if (r) {
		snprintf(err->msg, sizeof(err->msg), "volume %.60s: %s", dev->name, why);
		return r;
	}
	info.flags = asked;
	r = dev_cmd(dev, UBLK_U_CMD_ADD_DEV, 0, &info, sizeof(info), deadline_ns, NULL);
	if (r < 0)
		return dev_fail(dev, "ADD_DEV", r, err);
	r = dev_adopt(dev, &info);
	if (r)
		return dev_fail(dev, "ADD_DEV", r, err);
	r = ublk_features_check(asked, info.flags, why, sizeof(why));
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "volume %.60s: %s", dev->name, why);
		return r;
	}
	r = devmap_set(h->map, dev->id, volume_uuid(dev->v), dev->name);
	return r ? dev_fail(dev, "device map entry", r, err) : 0;
}

static int dev_set_params(struct ublk_dev *dev, uint64_t deadline_ns)
{
	/* A multiple of the granularity, so that the pieces of a split discard stay aligned. */
	const uint32_t discard_sectors_max = ROUND_DOWN(UINT32_MAX >> 9, 4096u >> 9);
	struct volume_info vi;
	struct ublk_params p = {
		.len = sizeof(p),
		.types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD,
		.basic =
			{
				.attrs = UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA,
				.logical_bs_shift = 9,
				.physical_bs_shift = 12,
				.io_min_shift = 12,
				.max_sectors = UBLK_IO_BYTES_MAX >> 9,
				.dev_sectors = volume_size_bytes(dev->v) >> 9,
			},
		.discard =
			{
				.discard_granularity = 4096,
				.max_discard_sectors = discard_sectors_max,
				.max_write_zeroes_sectors = discard_sectors_max,
				.max_discard_segments = 1,
			},
	};
	int r;

	volume_info_read(dev->v, &vi);
	if (vi.root.read_only)
		p.basic.attrs |= UBLK_ATTR_READ_ONLY;
	p.basic.io_opt_shift =
		(uint8_t)__builtin_ctz(vi.root.block_bytes ? vi.root.block_bytes : BLOCK_BYTES);
	r = dev_cmd(dev, UBLK_U_CMD_SET_PARAMS, 0, &p, sizeof(p), deadline_ns, NULL);
	if (r >= 0)
		dev->bytes = p.basic.dev_sectors << 9;
	return MIN(r, 0);
}

int dev_open_cdev(struct ublk_dev *dev, uint64_t deadline_ns)
{
	const struct timespec pause = {.tv_nsec = NODE_POLL_NS};
	struct dev_phase phase = dev_phase_begin(dev, TIMING_UBLK_OPEN_CDEV);
	char path[32];
	int r = 0, marked;

	snprintf(path, sizeof(path), "/dev/ublkc%d", dev->id);
	for (;;) {
		dev->cdev_fd = open(path, O_RDWR | O_CLOEXEC);
		if (dev->cdev_fd >= 0)
			break;
		/* The node may come late; a predecessor's last request may hold the device a
		 * moment. */
		if ((errno != ENOENT && errno != EBUSY && errno != EINTR) ||
		    now_ns() >= deadline_ns) {
			r = -errno;
			break;
		}
		nanosleep(&pause, NULL);
	}
	dev_phase_end(&phase, r);
	if (r)
		return r;
	/* Before the device appears: udev asks when it does. */
	marked = udev_mark(dev->id, dev->cdev_fd);
	if (marked)
		log_warn("volume %s: " UDEV_MARK_DIR "/ublkb%d: %s: udev passes the device over",
			 dev->name, dev->id, strerror(-marked));
	return r;
}

void dev_close_cdev(struct ublk_dev *dev)
{
	if (dev->cdev_fd < 0)
		return;
	/* First: the number of the descriptor may be another file's right after. */
	udev_unmark(dev->id);
	close(dev->cdev_fd);
	dev->cdev_fd = -1;
}

static void fetch_refused(void *arg, int err)
{
	struct ublk_dev *dev = arg;
	int none = 0;

	/* The first one is the reason. START_DEV would wait for this FETCH until its deadline. */
	if (__atomic_compare_exchange_n(&dev->fetch_error, &none, err, false, __ATOMIC_RELAXED,
					__ATOMIC_RELAXED))
		ublk_ctrl_cancel_start(dev->h->ctrl, (uint32_t)dev->id);
}

/*
 * Queues go to workers in turn, from one on that is the device's own; or all to that one, where
 * they must be armed in one step.
 */
static struct worker *queue_worker(const struct ublk_dev *dev, unsigned int queue)
{
	const struct workers *ws = engine_workers(dev->h->e);

	return ws->w[(dev->first_worker + (dev->one_worker ? 0 : queue)) % ws->nr];
}

int dev_arm(struct ublk_dev *dev, uint64_t deadline_ns)
{
	struct dev_phase phase = dev_phase_begin(dev, TIMING_UBLK_ARM_QUEUES);
	int r = 0;

	for (unsigned int i = 0; i < dev->nr_queues && !r; i++) {
		struct worker *w = queue_worker(dev, i);
		struct ublk_queue_config c = {
			.w = w,
			.lane = dev->lanes[worker_index(w)],
			.cdev_fd = dev->cdev_fd,
			.index = i,
			.depth = dev->depth,
			.scan = dev->scan,
			.fixed_file = !dev->h->pins_fixed_files,
			.refused = fetch_refused,
			.arg = dev,
		};

		r = queue_create(&c, &dev->q[i]);
	}
	if (!r)
		queues_arm(dev->q, dev->nr_queues);
	/* Every queue is awaited: one that is given up must be told so. */
	for (unsigned int i = 0; i < dev->nr_queues; i++) {
		int one = dev->q[i] ? queue_arm_wait(dev->q[i], deadline_ns) : 0;

		if (!r)
			r = one;
	}
	if (!r)
		r = __atomic_load_n(&dev->fetch_error, __ATOMIC_RELAXED);
	dev_phase_end(&phase, r);
	return r;
}

int dev_add_lanes(struct ublk_dev *dev)
{
	/* Before the first request: the kernel reads partitions inside START_DEV. */
	volume_set_dev_id(dev->v, dev->id);
	for (unsigned int i = 0; i < dev->nr_queues; i++) {
		struct worker *w = queue_worker(dev, i);
		struct lane **lane = &dev->lanes[worker_index(w)];
		int r;

		/* One lane on each worker: queues of one worker share it. */
		if (!*lane) {
			r = volume_lane_add(dev->v, w, lane);
			if (r)
				return r;
			dev->has_lanes = true;
		}
		if (dev->q[i])
			queue_set_lane(dev->q[i], *lane);
	}
	return 0;
}

/*
 * Where the kernel scans partitions inside START_DEV, its reads must not wait for the store: the
 * blocks it reads are made resident first.
 */
static int dev_start_prepare(struct ublk_dev *dev)
{
	struct dev_phase phase = dev_phase_begin(dev, TIMING_UBLK_START_DEV_PREPARE);
	int r = 0;

	/* For tests of what such a scan looks like; from the environment, as in control/debug.h. */
	if (dev->scan && getenv(NO_PREFETCH_ENV))
		log_warn("volume %s: EDGES ARE NOT PREFETCHED (" NO_PREFETCH_ENV ")", dev->name);
	else if (dev->scan && !dev->h->caps.async_part_scan)
		r = volume_prefetch_edges(dev->v, dev->op_id);
	dev_phase_end(&phase, r);
	return r;
}

static int dev_start(struct ublk_dev *dev, uint64_t deadline_ns, struct fmt_err *err)
{
	struct dev_phase phase = dev_phase_begin(dev, TIMING_UBLK_START_DEV);
	int fetch_error, r;

	r = dev_start_prepare(dev);
	if (r) {
		dev_fail(dev, "START_DEV (prepare)", r, err);
	} else {
		r = dev_cmd(dev, UBLK_U_CMD_START_DEV, (uint64_t)getpid(), NULL, 0, deadline_ns,
			    &dev->late_start);
		fetch_error = __atomic_load_n(&dev->fetch_error, __ATOMIC_RELAXED);
		if (r < 0 && fetch_error)
			r = dev_fail(dev, "FETCH", fetch_error, err);
		else if (r < 0)
			dev_fail(dev, "START_DEV", r, err);
		else
			r = 0;
	}
	dev_phase_end(&phase, r);
	return r;
}

/* Not fatal: a device without these settings is slower, not wrong. */
static void dev_udev_wait(struct ublk_dev *dev, uint64_t since_ns)
{
	struct dev_phase phase;
	int r;

	if (!dev->h->udev_wait_ns)
		return;
	phase = dev_phase_begin(dev, TIMING_UBLK_UDEV);
	r = udev_wait(dev->id, since_ns, phase.rec.start_ns + dev->h->udev_wait_ns);
	dev_phase_end(&phase, r);
	if (r == -ETIMEDOUT)
		log_warn("volume %s: udev has not set up the queue of device %d within %llu ms; it "
			 "may come later, or see 'udevadm test /sys/block/ublkb%d'",
			 dev->name, dev->id,
			 (unsigned long long)(dev->h->udev_wait_ns / NSEC_PER_MSEC), dev->id);
}

/*
 * Guests can read from START_DEV on, and a volume that has no manifest yet would give them zeros.
 * The wait for the store does not count against the deadline of the commands.
 */
static int dev_volume_ready(struct ublk_dev *dev, uint64_t *deadline_ns, struct fmt_err *err)
{
	uint64_t begin = now_ns();
	int r = volume_ready(dev->v, true, err);

	*deadline_ns += now_ns() - begin;
	if (!r)
		step_reached(STEP_LOCAL_READY);
	return r;
}

int ublk_dev_add(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out,
		 struct fmt_err *err)
{
	uint64_t begin = now_ns(), deadline = begin + h->cmd_timeout_ns;
	struct ublk_dev *dev;
	int r = dev_new(h, v, op_id, &dev);

	if (r) {
		snprintf(err->msg, sizeof(err->msg), "volume %.60s: %s", volume_name(v),
			 strerror(-r));
		return r;
	}
	r = dev_add(dev, deadline, err);
	if (r)
		goto err_undo;
	step_reached(STEP_DEV_ADDED);
	r = dev_set_params(dev, deadline);
	if (r) {
		dev_fail(dev, "SET_PARAMS", r, err);
		goto err_undo;
	}
	step_reached(STEP_DEV_PARAMS);
	r = dev_open_cdev(dev, deadline);
	if (r) {
		dev_fail(dev, "open of the char device", r, err);
		goto err_undo;
	}
	step_reached(STEP_DEV_OPENED);
	r = dev_arm(dev, deadline);
	if (r) {
		dev_fail(dev, "arming of queues", r, err);
		goto err_undo;
	}
	r = dev_add_lanes(dev);
	if (r) {
		dev_fail(dev, "lanes", r, err);
		goto err_undo;
	}
	step_reached(STEP_DEV_ARMED);
	r = dev_volume_ready(dev, &deadline, err);
	if (r)
		goto err_undo;
	r = dev_start(dev, deadline, err);
	if (r)
		goto err_undo;
	step_reached(STEP_DEV_STARTED);
	/* The identity in the driver covers the time until here. */
	r = devmap_sync(h->map);
	if (r) {
		dev_fail(dev, "device map write", r, err);
		goto err_undo;
	}
	step_reached(STEP_DEV_MAPPED);
	dev_udev_wait(dev, begin);
	*out = dev;
	return 0;
err_undo:
	dev_undo(dev);
	return r;
}

int ublk_dev_id(const struct ublk_dev *dev)
{
	return dev->id;
}
