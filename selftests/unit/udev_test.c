// SPDX-License-Identifier: GPL-2.0-or-later
/* What udev's database must say before a device counts as set up, and the names of steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "lib/step.h"
#include "ublk/udev.h"

static void only_our_rule_on_this_very_device_counts(void **state __unused)
{
	static const struct {
		const char *entry;
		bool done;
	} cases[] = {
		{"I:2000000\nE:ID_X=1\nE:GLIDEFS_UDEV=1\nG:systemd\nV:1\n", true},
		{"E:GLIDEFS_UDEV=1\nI:2000001\n", true},
		{"I:2000000\nE:GLIDEFS_UDEV=1", true},
		/* Of an earlier device with the same number. */
		{"I:1999999\nE:GLIDEFS_UDEV=1\n", false},
		/* Seen, but passed over by the rule. */
		{"I:2000000\nE:ID_X=1\nV:1\n", false},
		{"I:2000000\nE:GLIDEFS_UDEV=0\n", false},
		{"I:2000000\nE:GLIDEFS_UDEV=10\n", false},
		{"I:2000000\nE:XGLIDEFS_UDEV=1\n", false},
		/* Cut off, or no entry at all. */
		{"I:2000000\nE:GLIDEFS_UDEV=", false},
		{"E:GLIDEFS_UDEV=1\n", false},
		{"I:\nE:GLIDEFS_UDEV=1\n", false},
		{"", false},
		{"\n\n", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (udev_entry_done(cases[i].entry, 2 * NSEC_PER_SEC) != cases[i].done)
			fail_msg("entry %zu: '%s'", i, cases[i].entry);
}

static void each_step_has_a_name_of_its_own(void **state __unused)
{
	for (unsigned int i = 0; i < STEP_NR; i++) {
		assert_non_null(step_name((enum step)i));
		for (unsigned int k = 0; k < i; k++)
			assert_string_not_equal(step_name((enum step)i), step_name((enum step)k));
	}
	assert_null(step_name(STEP_NR));
	assert_int_equal(step_kill_at("create"), -EINVAL);
	assert_int_equal(step_kill_at(""), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_our_rule_on_this_very_device_counts),
		cmocka_unit_test(each_step_has_a_name_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
