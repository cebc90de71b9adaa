/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the running kernel's ublk driver can do, what we ask of it, and whose a device is. Pure
 * functions; any thread.
 */
#ifndef GFS_UBLK_FEATURES_H
#define GFS_UBLK_FEATURES_H

#include "lib/util.h"
#include "ublk/ublk_cmd.h"

enum ublk_want {
	WANT_NEVER,    /* known by name only */
	WANT_REQUIRED, /* ADD_DEV is not even tried without it */
	WANT_IF_OFFERED,
	WANT_UNLESS_PARTITIONS, /* offered, and the volume's partitions are not to be scanned */
	WANT_OFFERED_ANYWAY,    /* the driver sets it by itself */
};

struct ublk_feature {
	unsigned int bit;
	const char *name;
	const char *since; /* kernel, for messages */
	enum ublk_want want;
};

/* The table's entry for a bit, or NULL. */
const struct ublk_feature *ublk_feature(unsigned int bit);
/*
 * Flags for ADD_DEV from what GET_FEATURES answered. -EOPNOTSUPP with a sentence naming what is
 * missing.
 */
int ublk_features_choose(uint64_t offered, bool partitions, uint64_t *flags, char *why,
			 size_t len) __must_check;
/*
 * Compare what ADD_DEV granted with what was asked (unknown bits are silently cleared): -EOPNOTSUPP
 * with a sentence if a required one is gone.
 */
int ublk_features_check(uint64_t asked, uint64_t granted, char *why, size_t len) __must_check;

/* "6.12.107+deb13" -> 6, 12, 107; missing parts are 0. -EINVAL if it does not begin with a number.
 */
int kernel_release_parse(const char *release, unsigned int v[3]) __must_check;
/* Does this kernel scan partitions outside START_DEV? (6.18 on, measured.) */
bool kernel_scans_async(const char *release);
/*
 * Before 6.13 an io_uring releases removed fixed files in order, behind every request that was
 * submitted before the removal: an armed FETCH on a fixed file would pin all devices removed after
 * it.
 */
bool kernel_pins_fixed_files(const char *release);

/*
 * Before 6.16 a device whose recovery was cut short (the new daemon died between
 * START_USER_RECOVERY and the last FETCH) cannot be recovered again: the driver refuses, or oopses
 * when only some queues were armed.
 */
bool kernel_recovery_must_be_whole(const char *release);
/*
 * From 6.16 to 6.18 (measured; 7.2 is fine again) the FETCHes of a recovery that is cut short after
 * the first queue and before the last can never be cancelled: the dead process's ring never goes,
 * and the device is busy until the host is rebooted. There all queues must be armed by one system
 * call.
 */
bool kernel_recovery_needs_one_step(const char *release);

/*
 * The 64 bits of ublksrv_flags that say whose device it is: magic, host, volume. Survives the
 * daemon.
 */
uint64_t ublk_identity(const char *host_id, const uint8_t uuid[16]);
/* Made by this host, for whatever volume? */
bool ublk_identity_is_ours(const char *host_id, uint64_t ublksrv_flags);

#endif
