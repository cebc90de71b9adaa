// SPDX-License-Identifier: GPL-2.0-or-later
/* Kernels whose ublk driver must not be touched, with the reason. No state; any thread. */
#include "ublk/device.h"
#include "ublk/features.h"

struct bad_kernel {
	unsigned int major, minor;
	unsigned int first, last; /* point releases, inclusive */
	const char *reason;
};

static const struct bad_kernel bad_kernels[] = {
	/* Measured on 6.18.5; an io-wq thread dies holding ublk_ctl_mutex and every later command
	   hangs. */
	{6, 18, 4, 5,
	 "ADD_DEV oopses on 6.18.4 and 6.18.5 (NULL dereference with the driver's lock held); "
	 "update to 6.18.15 or later"},
};

const char *ublk_kernel_known_bad(const char *release)
{
	unsigned int v[3];

	if (kernel_release_parse(release, v))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(bad_kernels); i++) {
		const struct bad_kernel *b = &bad_kernels[i];

		if (v[0] == b->major && v[1] == b->minor && v[2] >= b->first && v[2] <= b->last)
			return b->reason;
	}
	return NULL;
}
