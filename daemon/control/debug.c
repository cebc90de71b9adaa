// SPDX-License-Identifier: GPL-2.0-or-later
/* Debug switches; see debug.h. Set once before any worker runs, read by workers. */
#include "control/debug.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "engine/worker.h"
#include "lib/log.h"
#include "lib/step.h"

#define PAUSE_ENV    "GFS_DEBUG_WORKER_PAUSE_MS"
#define KILL_ENV     "GFS_DEBUG_KILL_AT"
#define PAUSE_MS_MAX 3600000u

static unsigned int pause_ms;
static bool pause_all;
static unsigned int pause_index; /* UINT_MAX: while lanes disagree about a switch, see view.c */

static void pause_worker(unsigned int index)
{
	const struct timespec ts = {.tv_sec = pause_ms / 1000,
				    .tv_nsec = pause_ms % 1000 * 1000000L};

	if (pause_all || index == pause_index)
		nanosleep(&ts, NULL);
}

static int pause_setup(void)
{
	const char *pause = getenv(PAUSE_ENV);
	char excess;
	int n;

	if (!pause)
		return 0;
	n = sscanf(pause, "%9u:%3u%c", &pause_ms, &pause_index, &excess);
	if (n == 1 && !strcmp(pause + strspn(pause, "0123456789"), ":switch")) {
		pause_index = UINT_MAX;
		n = 2;
	} else if (n == 1) {
		pause_all = true;
		n = sscanf(pause, "%*u%c", &excess) == 1 ? 0 : 1;
	}
	if (n < 1 || n > 2 || pause_ms > PAUSE_MS_MAX) {
		log_err(PAUSE_ENV "=%s: not MS, MS:INDEX or MS:switch, with at most %u ms", pause,
			PAUSE_MS_MAX);
		return -EINVAL;
	}
	log_warn("WORKERS ARE PAUSED (" PAUSE_ENV "=%s)", pause);
	worker_pause_hook = pause_worker;
	return 0;
}

static int kill_setup(void)
{
	const char *at = getenv(KILL_ENV);

	if (!at)
		return 0;
	if (!step_kill_at(at)) {
		log_warn("THIS PROCESS KILLS ITSELF (" KILL_ENV "=%s)", at);
		return 0;
	}
	log_err(KILL_ENV "=%s: no such step; there are:", at);
	for (unsigned int i = 0; i < STEP_NR; i++)
		log_err("step %s", step_name((enum step)i));
	return -EINVAL;
}

int debug_setup(void)
{
	int r = kill_setup();

	return r ? r : pause_setup();
}
