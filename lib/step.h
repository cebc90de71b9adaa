/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Named steps of a create and of its undoing, at which a test can end the process as SIGKILL would:
 * what the promise "whole or absent, wherever it dies" is tried at. step_reached() stands behind
 * the act it names, and costs one load when nothing was asked for (control/debug.h says how to).
 */
#ifndef GFS_LIB_STEP_H
#define GFS_LIB_STEP_H

#include "lib/util.h"

enum step {
	STEP_CREATE_RECORDED, /* pending record durable; nothing else exists */
	STEP_CREATE_PUT,      /* about to send the root; the local side runs */
	STEP_CREATE_WRITTEN,  /* the root is in the store; the local side may still run */
	STEP_LOCAL_OPENED,    /* local state made, volume open */
	STEP_DEV_ADDED,
	STEP_DEV_PARAMS,
	STEP_DEV_OPENED, /* the char device */
	STEP_DEV_ARMED,
	STEP_DEV_STARTED,
	STEP_DEV_MAPPED,     /* the device map is durable */
	STEP_LOCAL_READY,    /* the manifest is there: guests may come */
	STEP_CREATE_CHECKED, /* root and device are there, and the source still was */
	STEP_CREATE_JOINED,  /* both sides succeeded, not on the list yet */
	STEP_CREATE_LISTED,  /* on the durable list, the record still there */
	STEP_CREATE_SETTLED, /* the record is removed */
	STEP_CREATE_ENDED,   /* about to answer */
	STEP_UNDO_BEGUN,
	STEP_UNDO_ROOT,   /* the root is deleted, or was not there to be */
	STEP_UNDO_DEVICE, /* the device is gone, or was not there */
	STEP_UNDO_CLOSED, /* the volume is closed */
	STEP_UNDO_LOCAL,  /* its local state is removed */
	STEP_UNDO_LEFT,   /* the record is dropped or the reaper's */
	STEP_REAP_ROOT,   /* the reaper deleted the root */
	STEP_REAP_LOCAL,  /* and local state */
	STEP_NR
};

/* Kills the process if this is the step to die at. Any thread. */
void step_reached(enum step s);
/* By the name in the table ("create.recorded"), before threads start. -EINVAL: there is none. */
int step_kill_at(const char *name) __must_check;
/* NULL out of range. */
const char *step_name(enum step s);

#endif
