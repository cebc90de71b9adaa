/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A live session: turns what the kernel, the driver's memory and the daemons say into records. One
 * thread; blocks only in session_step().
 */
#ifndef GFS_TRACING_SESSION_H
#define GFS_TRACING_SESSION_H

#include "tracing/model.h"

struct session;

struct session_config {
	int32_t dev;                 /* only this device; -1: all */
	uint32_t pid;                /* only devices of this server; 0: all */
	char volume[REC_VOLUME_LEN]; /* only this volume; "": all */
	struct model_config budgets; /* callbacks unused; 0 = default */
	bool every_device;           /* tell all devices once a second (live view) */
	bool verbose;                /* libbpf's messages to stderr */
	/* Gets every record, in order. */
	void (*record)(void *ctx, const struct rec *r);
	void *ctx;
};

/*
 * Attach, and tell what is there already. 0; -EPERM, -ENOENT, …: cannot run here, err is a sentence
 * with the next step.
 */
int session_open(const struct session_config *cfg, struct session **out, char *err,
		 size_t err_len) __must_check;
/* Wait for events, at most timeout_ms, and draw ticks that are due. 0 or -errno (not -EINTR). */
int session_step(struct session *s, int timeout_ms) __must_check;
/* Tell the last counts and histograms and REC_END, detach, free. */
void session_close(struct session *s);

#endif
