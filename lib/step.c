// SPDX-License-Identifier: GPL-2.0-or-later
/* Steps to die at; see step.h. `kill_at` is set before threads start and only read after. */
#include "lib/step.h"

#include <signal.h>
#include <string.h>

static const char *const names[] = {
	[STEP_CREATE_RECORDED] = "create.recorded",
	[STEP_CREATE_PUT] = "create.put",
	[STEP_CREATE_WRITTEN] = "create.written",
	[STEP_LOCAL_OPENED] = "local.opened",
	[STEP_DEV_ADDED] = "dev.added",
	[STEP_DEV_PARAMS] = "dev.params",
	[STEP_DEV_OPENED] = "dev.opened",
	[STEP_DEV_ARMED] = "dev.armed",
	[STEP_DEV_STARTED] = "dev.started",
	[STEP_DEV_MAPPED] = "dev.mapped",
	[STEP_LOCAL_READY] = "local.ready",
	[STEP_CREATE_CHECKED] = "create.checked",
	[STEP_CREATE_JOINED] = "create.joined",
	[STEP_CREATE_LISTED] = "create.listed",
	[STEP_CREATE_SETTLED] = "create.settled",
	[STEP_CREATE_ENDED] = "create.ended",
	[STEP_UNDO_BEGUN] = "undo.begun",
	[STEP_UNDO_ROOT] = "undo.root",
	[STEP_UNDO_DEVICE] = "undo.device",
	[STEP_UNDO_CLOSED] = "undo.closed",
	[STEP_UNDO_LOCAL] = "undo.local",
	[STEP_UNDO_LEFT] = "undo.left",
	[STEP_REAP_ROOT] = "reap.root",
	[STEP_REAP_LOCAL] = "reap.local",
};
_Static_assert(ARRAY_SIZE(names) == STEP_NR, "each step has a name");

static enum step kill_at = STEP_NR;

void step_reached(enum step s)
{
	if (unlikely(s == kill_at))
		kill(getpid(), SIGKILL);
}

int step_kill_at(const char *name)
{
	for (unsigned int i = 0; i < STEP_NR; i++)
		if (!strcmp(name, names[i])) {
			kill_at = (enum step)i;
			return 0;
		}
	return -EINVAL;
}

const char *step_name(enum step s)
{
	return (unsigned int)s < STEP_NR ? names[s] : NULL;
}
