// SPDX-License-Identifier: GPL-2.0-or-later
/* gfs-trace: says what waits, on what, since when, and what the daemon is doing with it. */
#include "tracing/rec.h"

int main(void)
{
	return 1;
}
