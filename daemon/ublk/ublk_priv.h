/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of daemon/ublk, shared by its files only.
 *
 * A device is driven by one thread at a time: its caller's, or the reaper's once a removal was
 * handed over. h->lock guards the list of devices and of identities.
 */
#ifndef GFS_UBLK_PRIV_H
#define GFS_UBLK_PRIV_H

#include "lib/list.h"
#include "lib/pool.h"
#include "ublk/ctrl.h"
#include "ublk/device.h"
#include "ublk/devmap.h"
#include "ublk/features.h"
#include "ublk/queue.h"

#define UBLK_IO_BYTES_MAX WORKER_BUF_MAX
/* One submission arms a queue, so that a death leaves it armed or not: see heal.c. */
#define UBLK_DEPTH_MAX    1024
#define VOLUME_QUEUES_MAX 64 /* lanes a volume can have */

struct ublk_host {
	char *host_id;
	unsigned int queues, depth;
	uint64_t cmd_timeout_ns;
	uint64_t udev_wait_ns; /* 0: not waited for */
	struct engine *e;
	struct ublk_ctrl *ctrl;
	struct devmap *map;
	struct ublk_caps caps;
	bool pins_fixed_files;
	bool recover_in_one_step; /* kernel_recovery_needs_one_step() */
	bool heal;                /* kernel_recovery_must_be_whole() */
	int no_del_async;         /* atomic: DEL_DEV_ASYNC was refused as unknown */
	unsigned int next_worker; /* atomic: spreads devices over workers */
	struct pool *reaper;
	bool closing; /* atomic */

	pthread_mutex_t lock;
	struct list_head devs; /* all there are, from before ADD_DEV until after DEL_DEV */
	uint64_t devs_freed;   /* how many have left the list */
	uint64_t *wanted;      /* identities recovery asked for: never reaped by this process */
	size_t nr_wanted;
};

/* How far a removal came; it goes on from there. */
enum dev_step { DEV_STOP, DEV_DRAIN, DEV_RELEASE, DEV_CLOSE, DEV_DELETE, DEV_GONE };

struct ublk_dev {
	struct ublk_host *h;
	struct list_head node; /* h->devs */
	uint64_t identity;
	struct volume *v; /* NULL once let go */
	char name[GFS_NAME_MAX];
	uint64_t op_id;
	int id;        /* -1 before ADD_DEV */
	uint32_t span; /* open while there is a device: tells observers its volume */
	int cdev_fd;
	uint64_t flags; /* granted */
	uint64_t bytes; /* size as the kernel has it */
	bool scan;      /* the kernel may scan partitions */
	unsigned int nr_queues, depth;
	unsigned int first_worker;
	bool one_worker;       /* all queues on it */
	struct ublk_queue **q; /* nr_queues, NULL: never posted or released */
	struct lane **lanes;   /* by worker, NULL: none */
	bool has_lanes;
	enum dev_step step;
	struct ublk_cmd *late_start, *late_stop, *late_del;
	int fetch_error; /* atomic: a FETCH was refused with this */
	struct pool_job reap_job;
};

/* device.c */
int dev_new(struct ublk_host *h, struct volume *v, uint64_t op_id, struct ublk_dev **out);
void dev_free(struct ublk_dev *dev);
/* Take over what the driver granted: id, flags, queues, depth. -ENOMEM. */
int dev_adopt(struct ublk_dev *dev, const struct ublksrv_ctrl_dev_info *info);
/* Run a command of this device with what is left until the deadline. */
int dev_cmd(struct ublk_dev *dev, uint32_t op, uint64_t data, void *buf, uint16_t len,
	    uint64_t deadline_ns, struct ublk_cmd **late);
/* Open /dev/ublkcN, waiting for the node and for an earlier opener to end; marked for udev. */
int dev_open_cdev(struct ublk_dev *dev, uint64_t deadline_ns);
/* Close it, if it is open; from then on the device is nobody's, for udev too. */
void dev_close_cdev(struct ublk_dev *dev);
/* All queues posted to their workers, then awaited. */
int dev_arm(struct ublk_dev *dev, uint64_t deadline_ns);
/* Lanes for the queues there are or will be; before requests can come. */
int dev_add_lanes(struct ublk_dev *dev);
/* Set "volume NAME: ublk PHASE of device N failed: ..." and return r. */
int dev_fail(const struct ublk_dev *dev, const char *phase, int r, struct fmt_err *err);

/* remove.c */
/* Make the volume free of the device: no request in the engine, no lane. */
void dev_release_volume(struct ublk_dev *dev);
/*
 * Go on removing: stop, drain, release, close, delete. 0: gone (not freed); -ETIMEDOUT: call again;
 * -errno: the kernel refused, call again or not.
 */
int dev_teardown(struct ublk_dev *dev, uint64_t deadline_ns);
/* Have the reaper finish a removal and free the device. */
void dev_reap_later(struct ublk_dev *dev);
/* Undo a failed add: the volume is free of it when this returns; the kernel's part may end later.
 */
void dev_undo(struct ublk_dev *dev);
/* Remove a leaked device, made by dev_new_leaked(); dev is freed now or by the reaper. */
int dev_delete_leaked(struct ublk_dev *dev, uint64_t deadline_ns);

/* resize.c */
/* Read dev->bytes from the driver. */
int dev_read_size(struct ublk_dev *dev, uint64_t deadline_ns);

/* recover.c */
/* GET_DEV_INFO of any device. */
int dev_info_read(struct ublk_host *h, int dev_id, struct ublksrv_ctrl_dev_info *info,
		  uint64_t timeout_ns);
/* Ids of all ublk devices of this kernel, malloc'ed. */
int dev_ids_list(int **ids, size_t *nr);

/* heal.c */
/*
 * Make a QUIESCED device recoverable that a dead daemon may have left in the midst of a recovery.
 * -ETIMEDOUT, -errno.
 */
int dev_heal(struct ublk_dev *dev, uint64_t deadline_ns);

/* mounts.c */
/*
 * Is the block device a ublk device, a partition of one, or built on one? dev_id_out (may be NULL):
 * which.
 */
bool block_is_ublk(unsigned int major, unsigned int minor, int *dev_id_out);
struct mount_entry {
	unsigned int major, minor;
	char *mount_point; /* unescaped */
	char *source;
};
/* Call fn for each line of a mountinfo file until it returns non-zero; that value, 0, or -errno. */
int mounts_for_each(const char *mountinfo, int (*fn)(const struct mount_entry *m, void *arg),
		    void *arg);

#endif
