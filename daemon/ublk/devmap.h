/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device map: which ublk device serves which volume, in STATE_DIR/ublk-devices.json. Written
 * whole, atomically and fsynced. It is a hint with names: what decides is the identity the driver
 * keeps, so a lost or corrupt map costs a scan, never a device.
 */
#ifndef GFS_UBLK_DEVMAP_H
#define GFS_UBLK_DEVMAP_H

#include "engine/format.h"

#define DEVMAP_FILE     "ublk-devices.json"
#define DEVMAP_DEVS_MAX 16384

struct devmap_entry {
	int dev_id;
	uint8_t uuid[16];
	char name[GFS_NAME_MAX];
};

struct devmap;

/*
 * Load STATE_DIR's map; an absent one, or one from before the last boot, is empty. Corrupt:
 * -EBADMSG with a sentence, and *out is an empty map all the same. Any other -errno: no map.
 */
int devmap_open(const char *state_dir, struct devmap **out, struct fmt_err *err) __must_check;
void devmap_close(struct devmap *m);
/*
 * Was there a whole map of this boot? Only then does a missing entry mean anything.
 */
bool devmap_was_whole(const struct devmap *m);

/* Change the map in memory; devmap_sync makes it durable. Any thread. -ENOMEM, -ENOSPC (too many).
 */
int devmap_set(struct devmap *m, int dev_id, const uint8_t uuid[16], const char *name) __must_check;
void devmap_clear(struct devmap *m, int dev_id);
/*
 * Return once everything changed before the call is durable. Callers at the same time share one
 * write. Blocks for an fsync. -errno.
 */
int devmap_sync(struct devmap *m) __must_check;

/* By volume or by device; false: not there. */
bool devmap_find_uuid(struct devmap *m, const uint8_t uuid[16], struct devmap_entry *out);
bool devmap_find_dev(struct devmap *m, int dev_id, struct devmap_entry *out);

/* The format, for tests: malloc'ed JSON; and its checked inverse (-EBADMSG, -EPROTONOSUPPORT). */
int devmap_encode(const struct devmap_entry *e, size_t nr, const char *boot_id, char **json,
		  size_t *len) __must_check;
int devmap_parse(const char *json, size_t len, struct devmap_entry **e, size_t *nr,
		 char boot_id[37], struct fmt_err *err) __must_check;

#endif
