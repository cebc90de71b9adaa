/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ublk devices for open volumes. The control thread (ctrl.c) owns one 128-byte-SQE ring for control
 * commands: many in flight, each with a deadline and a phase name, so that one stuck command delays
 * nobody else and a failure names its phase. Calls here block until done or past their deadline;
 * any thread but a worker's or the control thread.
 */
#ifndef GFS_UBLK_DEVICE_H
#define GFS_UBLK_DEVICE_H

#include "engine/volume.h"

struct ublk_host; /* control ring, features, device map */
struct ublk_dev;

struct ublk_config {
	const char *state_dir;   /* device map lives here */
	const char *host_id;     /* part of the identity */
	unsigned int queues;     /* asked, at least 2; the granted number is used */
	unsigned int depth;      /* per queue */
	uint64_t cmd_timeout_ns; /* per control command, default 30 s */
	uint64_t udev_wait_ns;   /* after START_DEV, for udev's rule; 0 = not at all */
};

/*
 * Open /dev/ublk-control, refuse known-bad kernels (-EOPNOTSUPP, reason in err), negotiate
 * features, load the device map. -ENODEV: no ublk_drv here (err says to load it).
 */
int ublk_host_create(const struct ublk_config *c, struct engine *e, struct ublk_host **out,
		     struct fmt_err *err) __must_check;
void ublk_host_destroy(struct ublk_host *h);

/*
 * Register a device for the volume: ADD_DEV (identity in ublksrv_flags), open the char device,
 * lanes and queues armed on workers, SET_PARAMS, START_DEV; device map updated durably; then udev's
 * rule is waited for, not past udev_wait_ns: that it did not come is an event and a warning, no
 * failure. On failure everything is undone and err names the phase and errno.
 */
int ublk_dev_add(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out,
		 struct fmt_err *err) __must_check;
/* Recover the QUIESCED device of this volume (from the map or by identity). -ENOENT: there is none.
 */
int ublk_dev_recover(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out,
		     struct fmt_err *err) __must_check;
/*
 * Stop and delete. force false: -EBUSY with the reason (openers, holders, mounts) when it is in
 * use. Queues are served until STOP returns; lanes are removed. dev is freed when 0.
 */
int ublk_dev_remove(struct ublk_dev *dev, bool force, uint64_t op_id,
		    struct fmt_err *err) __must_check;
/*
 * Let go without stopping, at daemon exit: rings and char device are closed so that the kernel
 * quiesces the device for the next daemon. Frees dev.
 */
void ublk_dev_abandon(struct ublk_dev *dev);
int ublk_dev_id(const struct ublk_dev *dev);
/* As the kernel has it, now. */
uint64_t ublk_dev_bytes(const struct ublk_dev *dev);
/*
 * Let the device have the volume's size, which grew. 0 also if it has it. -EOPNOTSUPP: this driver
 * cannot (before 6.16), and err says what to do. By whoever may remove the device.
 */
int ublk_dev_resize(struct ublk_dev *dev, uint64_t op_id, struct fmt_err *err) __must_check;

/* Is it in use (open count, holders, mounts)? Sentence in `why`. */
bool ublk_dev_in_use(int dev_id, char *why, size_t len);

/* Devices that carry this host's identity but no volume of the list: stop and delete (leaked).
 * Count. */
int ublk_reap_leaked(struct ublk_host *h, bool (*known)(const uint8_t uuid[16], void *arg),
		     void *arg);

/* Storage rule 20: private mount namespace, every ublk mount detached in it. Before threads start.
 */
int ublk_mount_namespace(struct fmt_err *err) __must_check;

/* Doctor and START_DEV strategy. */
struct ublk_caps {
	uint64_t features;
	bool privileged;      /* /dev/ublk-control usable */
	bool async_part_scan; /* the kernel scans outside START_DEV */
	char kernel[65];
	const char *known_bad; /* reason or NULL */
};
int ublk_caps_probe(struct ublk_caps *out, struct fmt_err *err) __must_check;
const char *ublk_feature_name(unsigned int bit);        /* NULL if unknown */
const char *ublk_kernel_known_bad(const char *release); /* reason or NULL */

#endif
