// SPDX-License-Identifier: GPL-2.0-or-later
/* Debug switches; see debug.h. Set once before any worker runs, read by workers. */
#include "control/debug.h"

#include <stdio.h>

#include "engine/worker.h"
#include "lib/log.h"

#define PAUSE_ENV    "GFS_DEBUG_WORKER_PAUSE_MS"
#define PAUSE_MS_MAX 3600000u

static unsigned int pause_ms;
static int pause_index = -1; /* -1: all */

static void pause_worker(unsigned int index)
{
	const struct timespec ts = {.tv_sec = pause_ms / 1000,
				    .tv_nsec = pause_ms % 1000 * 1000000L};

	if (pause_index < 0 || index == (unsigned int)pause_index)
		nanosleep(&ts, NULL);
}

int debug_setup(void)
{
	const char *pause = getenv(PAUSE_ENV);
	unsigned int index;
	char excess;
	int n;

	if (!pause)
		return 0;
	n = sscanf(pause, "%9u:%3u%c", &pause_ms, &index, &excess);
	if (n == 2)
		pause_index = (int)index;
	else if (n != 1 || sscanf(pause, "%*u%c", &excess) == 1)
		n = 0;
	if (!n || pause_ms > PAUSE_MS_MAX) {
		log_err(PAUSE_ENV "=%s: not MS or MS:INDEX, with at most %u ms", pause,
			PAUSE_MS_MAX);
		return -EINVAL;
	}
	log_warn("WORKERS ARE PAUSED for %u ms in every turn (" PAUSE_ENV ")", pause_ms);
	worker_pause_hook = pause_worker;
	return 0;
}
