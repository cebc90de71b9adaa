/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Switches for tests, taken from the environment so that no configuration file can turn them on by
 * mistake. Announced loudly in the log.
 *
 *   GFS_DEBUG_WORKER_PAUSE_MS=MS[:INDEX]  each worker, or the one of that index, sleeps so long in
 *                                         every turn of its loop
 *   GFS_DEBUG_WORKER_PAUSE_MS=MS:switch   a switch of layers lasts so long while some workers have
 *                                         made it and others have not
 *   GFS_DEBUG_NO_EDGE_PREFETCH=1          the first and last block are not made resident before
 *                                         START_DEV (ublk/device.c)
 *   GFS_DEBUG_KILL_AT=STEP                the process is killed, as by SIGKILL, at this step of a
 *                                         create or of its undoing (lib/step.h); an unknown name
 *                                         is refused with the list of all, one "step NAME" a line
 */
#ifndef GFS_CONTROL_DEBUG_H
#define GFS_CONTROL_DEBUG_H

#include "lib/util.h"

/* Before workers start. -EINVAL when a switch cannot be understood (logged). */
int debug_setup(void) __must_check;

#endif
