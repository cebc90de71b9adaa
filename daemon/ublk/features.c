// SPDX-License-Identifier: GPL-2.0-or-later
/* Feature negotiation by table, kernel releases, and device identity; see features.h. No state. */
#include "ublk/features.h"

#include "lib/hash.h"
#include "ublk/device.h"

#include <stdio.h>

/* Bits and releases: include/uapi/linux/ublk_cmd.h and its history. */
static const struct ublk_feature features[] = {
	{0, "SUPPORT_ZERO_COPY", "6.15", WANT_NEVER},
	{1, "URING_CMD_COMP_IN_TASK", "6.0", WANT_OFFERED_ANYWAY},
	{2, "NEED_GET_DATA", "6.0", WANT_NEVER},
	{3, "USER_RECOVERY", "6.1", WANT_REQUIRED},
	{4, "USER_RECOVERY_REISSUE", "6.1", WANT_REQUIRED},
	{5, "UNPRIVILEGED_DEV", "6.3", WANT_NEVER},
	{6, "CMD_IOCTL_ENCODE", "6.4", WANT_REQUIRED},
	{7, "USER_COPY", "6.5", WANT_REQUIRED},
	{8, "ZONED", "6.6", WANT_NEVER},
	{9, "USER_RECOVERY_FAIL_IO", "6.13", WANT_NEVER},
	{10, "UPDATE_SIZE", "6.16", WANT_IF_OFFERED},
	{11, "AUTO_BUF_REG", "6.16", WANT_NEVER},
	{12, "QUIESCE", "6.16", WANT_IF_OFFERED},
	{13, "PER_IO_DAEMON", "6.16", WANT_OFFERED_ANYWAY},
	{14, "BUF_REG_OFF_DAEMON", "6.17", WANT_OFFERED_ANYWAY},
	{15, "BATCH_IO", "7.0", WANT_NEVER},
	{16, "INTEGRITY", "7.0", WANT_NEVER},
	{17, "SAFE_STOP_DEV", "7.0", WANT_IF_OFFERED},
	{18, "NO_AUTO_PART_SCAN", "7.0", WANT_UNLESS_PARTITIONS},
	{19, "SHMEM_ZC", "7.2", WANT_NEVER},
};

const struct ublk_feature *ublk_feature(unsigned int bit)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].bit == bit)
			return &features[i];
	return NULL;
}

const char *ublk_feature_name(unsigned int bit)
{
	const struct ublk_feature *f = ublk_feature(bit);

	return f ? f->name : NULL;
}

int ublk_features_choose(uint64_t offered, bool partitions, uint64_t *flags, char *why, size_t len)
{
	uint64_t chosen = 0;

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const struct ublk_feature *f = &features[i];
		uint64_t mask = 1ULL << f->bit;
		bool has = offered & mask;

		switch (f->want) {
		case WANT_REQUIRED:
			if (!has) {
				snprintf(why, len,
					 "this kernel's ublk_drv lacks %s (in Linux since %s)",
					 f->name, f->since);
				return -EOPNOTSUPP;
			}
			chosen |= mask;
			break;
		case WANT_IF_OFFERED:
			chosen |= offered & mask;
			break;
		case WANT_UNLESS_PARTITIONS:
			if (!partitions)
				chosen |= offered & mask;
			break;
		case WANT_NEVER:
		case WANT_OFFERED_ANYWAY:
			break;
		}
	}
	*flags = chosen;
	return 0;
}

int ublk_features_check(uint64_t asked, uint64_t granted, char *why, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		const struct ublk_feature *f = &features[i];
		uint64_t mask = 1ULL << f->bit;

		if (f->want == WANT_REQUIRED && asked & mask && !(granted & mask)) {
			snprintf(why, len, "the driver did not grant %s", f->name);
			return -EOPNOTSUPP;
		}
	}
	return 0;
}

int kernel_release_parse(const char *release, unsigned int v[3])
{
	v[0] = v[1] = v[2] = 0;
	return sscanf(release, "%u.%u.%u", &v[0], &v[1], &v[2]) < 1 ? -EINVAL : 0;
}

static bool kernel_at_least(const char *release, unsigned int major, unsigned int minor)
{
	unsigned int v[3];

	if (kernel_release_parse(release, v))
		return false;
	return v[0] > major || (v[0] == major && v[1] >= minor);
}

bool kernel_scans_async(const char *release)
{
	return kernel_at_least(release, 6, 18);
}

bool kernel_pins_fixed_files(const char *release)
{
	return !kernel_at_least(release, 6, 13);
}

bool kernel_recovery_must_be_whole(const char *release)
{
	return !kernel_at_least(release, 6, 16);
}

bool kernel_recovery_needs_one_step(const char *release)
{
	return kernel_at_least(release, 6, 16) && !kernel_at_least(release, 7, 2);
}

/* 16 bits of magic, 16 of the host, 32 of host and volume. */
#define IDENTITY_MAGIC 0x67f5ULL

static uint64_t identity_host(const char *host_id)
{
	return IDENTITY_MAGIC << 48 | (hash_xxh3(host_id, strlen(host_id)) >> 48) << 32;
}

uint64_t ublk_identity(const char *host_id, const uint8_t uuid[16])
{
	uint8_t both[8 + 16];
	uint64_t host = hash_xxh3(host_id, strlen(host_id));

	memcpy(both, &host, 8);
	memcpy(both + 8, uuid, 16);
	return identity_host(host_id) | (uint32_t)hash_xxh3(both, sizeof(both));
}

bool ublk_identity_is_ours(const char *host_id, uint64_t ublksrv_flags)
{
	return (ublksrv_flags & ~0xffffffffULL) == identity_host(host_id);
}
