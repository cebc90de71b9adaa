/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Prometheus exposition: tables of metrics over the engine, the volumes and the timing events.
 */
#ifndef GFS_CONTROL_METRICS_H
#define GFS_CONTROL_METRICS_H

#include "control/host.h"

/* The whole text, malloc'ed, or NULL. Never blocks; any thread. */
char *metrics_text(struct host *h, struct engine *e, size_t *len);

#endif
