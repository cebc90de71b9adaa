// SPDX-License-Identifier: GPL-2.0-or-later
/* Feature negotiation, kernel releases and device identity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/hash.h"
#include "ublk/device.h"
#include "ublk/features.h"

/* What GET_FEATURES answers on Debian's kernels. */
#define FEATURES_6_12 0x1feULL
#define FEATURES_6_17 0x3fffULL
#define FEATURES_7_3  0xfffffULL

static void required_features_are_always_asked_for(void **state __unused)
{
	const uint64_t required = UBLK_F_USER_COPY | UBLK_F_USER_RECOVERY |
				  UBLK_F_USER_RECOVERY_REISSUE | UBLK_F_CMD_IOCTL_ENCODE;
	static const uint64_t kernels[] = {FEATURES_6_12, FEATURES_6_17, FEATURES_7_3};
	char why[120];
	uint64_t flags;

	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
		assert_int_equal(ublk_features_choose(kernels[i], false, &flags, why, sizeof(why)),
				 0);
		assert_int_equal(flags & required, required);
		assert_int_equal(flags & ~kernels[i], 0);
		assert_int_equal(ublk_features_check(flags, flags, why, sizeof(why)), 0);
	}
}

static void missing_user_copy_is_refused_by_name(void **state __unused)
{
	char why[120] = "";
	uint64_t flags;

	assert_int_equal(ublk_features_choose(FEATURES_6_12 & ~UBLK_F_USER_COPY, false, &flags, why,
					      sizeof(why)),
			 -EOPNOTSUPP);
	assert_non_null(strstr(why, "USER_COPY"));
	assert_non_null(strstr(why, "6.5"));
	assert_int_equal(ublk_features_check(UBLK_F_USER_COPY, 0, why, sizeof(why)), -EOPNOTSUPP);
	assert_non_null(strstr(why, "USER_COPY"));
}

static void partition_scan_is_suppressed_where_offered_and_not_wanted(void **state __unused)
{
	char why[120];
	uint64_t flags;

	assert_int_equal(ublk_features_choose(FEATURES_7_3, false, &flags, why, sizeof(why)), 0);
	assert_true(flags & UBLK_F_NO_AUTO_PART_SCAN);
	assert_int_equal(ublk_features_choose(FEATURES_7_3, true, &flags, why, sizeof(why)), 0);
	assert_false(flags & UBLK_F_NO_AUTO_PART_SCAN);
	assert_int_equal(ublk_features_choose(FEATURES_6_12, false, &flags, why, sizeof(why)), 0);
	assert_false(flags & UBLK_F_NO_AUTO_PART_SCAN);
}

static void features_not_ours_are_never_asked_for(void **state __unused)
{
	const uint64_t never = UBLK_F_SUPPORT_ZERO_COPY | UBLK_F_NEED_GET_DATA |
			       UBLK_F_UNPRIVILEGED_DEV | UBLK_F_ZONED |
			       UBLK_F_USER_RECOVERY_FAIL_IO | UBLK_F_AUTO_BUF_REG |
			       UBLK_F_BATCH_IO | UBLK_F_INTEGRITY | UBLK_F_SHMEM_ZC;
	char why[120];
	uint64_t flags;

	assert_int_equal(ublk_features_choose(UINT64_MAX, false, &flags, why, sizeof(why)), 0);
	assert_int_equal(flags & never, 0);
}

static void every_bit_of_the_api_has_a_name(void **state __unused)
{
	for (unsigned int bit = 0; bit < 20; bit++)
		assert_non_null(ublk_feature_name(bit));
	assert_null(ublk_feature_name(20));
	assert_string_equal(ublk_feature_name(18), "NO_AUTO_PART_SCAN");
}

static void known_bad_kernels_are_named_with_a_reason(void **state __unused)
{
	assert_non_null(ublk_kernel_known_bad("6.18.4"));
	assert_non_null(ublk_kernel_known_bad("6.18.5+deb13-cloud-amd64"));
	assert_non_null(strstr(ublk_kernel_known_bad("6.18.5"), "ADD_DEV"));
	assert_null(ublk_kernel_known_bad("6.18.3"));
	assert_null(ublk_kernel_known_bad("6.18.15+deb13-cloud-amd64"));
	assert_null(ublk_kernel_known_bad("6.12.107+deb13-cloud-amd64"));
	assert_null(ublk_kernel_known_bad("6.1.5"));
	assert_null(ublk_kernel_known_bad("garbage"));
	assert_null(ublk_kernel_known_bad(""));
}

static void releases_are_parsed(void **state __unused)
{
	unsigned int v[3];

	assert_int_equal(kernel_release_parse("6.12.107+deb13-cloud-amd64", v), 0);
	assert_true(v[0] == 6 && v[1] == 12 && v[2] == 107);
	assert_int_equal(kernel_release_parse("7.3-rc1", v), 0);
	assert_true(v[0] == 7 && v[1] == 3 && v[2] == 0);
	assert_int_equal(kernel_release_parse("x", v), -EINVAL);
	assert_false(kernel_scans_async("6.17.13+deb13"));
	assert_true(kernel_scans_async("6.18.15"));
	assert_true(kernel_scans_async("7.0.1"));
	assert_true(kernel_pins_fixed_files("6.12.107"));
	assert_false(kernel_pins_fixed_files("6.16.12"));
}

static void identity_tells_hosts_and_volumes_apart(void **state __unused)
{
	uint8_t u1[16], u2[16];
	uint64_t a1, a2, b1;

	uuid_generate_v4(u1);
	uuid_generate_v4(u2);
	a1 = ublk_identity("a/1", u1);
	a2 = ublk_identity("a/1", u2);
	b1 = ublk_identity("b/2", u1);
	assert_int_equal(a1, ublk_identity("a/1", u1));
	assert_int_not_equal(a1, a2);
	assert_int_not_equal(a1, b1);
	assert_true(ublk_identity_is_ours("a/1", a1));
	assert_true(ublk_identity_is_ours("a/1", a2));
	assert_false(ublk_identity_is_ours("a/1", b1));
	/* What other servers leave there. */
	assert_false(ublk_identity_is_ours("a/1", 0));
	assert_false(ublk_identity_is_ours("a/1", UINT64_MAX));
}

static void copy_positions_follow_the_api(void **state __unused)
{
	assert_int_equal(ublk_copy_pos(0, 0, 0), 0x80000000);
	assert_int_equal(ublk_copy_pos(0, 1, 512), 0x80000000 + (1ULL << 25) + 512);
	assert_int_equal(ublk_copy_pos(3, 127, 0), 0x80000000 + (3ULL << 41) + (127ULL << 25));
	assert_int_equal(ublk_desc_bytes(128, 4096), 4096);
	assert_int_equal(ublk_desc_bytes(171, 4096), 8192);
	/* The stride is that of the deepest queue there can be. */
	assert_int_equal(ublk_desc_pos(1, 4096), 4096 * 24);
	assert_int_equal(sizeof(struct ublksrv_io_desc), 24);
	assert_int_equal(sizeof(struct ublksrv_ctrl_cmd), 32);
	assert_int_equal(sizeof(struct ublksrv_ctrl_dev_info), 64);
	assert_int_equal(sizeof(struct ublksrv_io_cmd), 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(required_features_are_always_asked_for),
		cmocka_unit_test(missing_user_copy_is_refused_by_name),
		cmocka_unit_test(partition_scan_is_suppressed_where_offered_and_not_wanted),
		cmocka_unit_test(features_not_ours_are_never_asked_for),
		cmocka_unit_test(every_bit_of_the_api_has_a_name),
		cmocka_unit_test(known_bad_kernels_are_named_with_a_reason),
		cmocka_unit_test(releases_are_parsed),
		cmocka_unit_test(identity_tells_hosts_and_volumes_apart),
		cmocka_unit_test(copy_positions_follow_the_api),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
