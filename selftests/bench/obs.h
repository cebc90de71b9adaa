/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the outside observers share: they say "ready", then follow a ring buffer until a signal. */
#ifndef GFS_BENCH_OBS_H
#define GFS_BENCH_OBS_H

#include <bpf/libbpf.h>
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t obs_stopping;

static void obs_on_signal(int sig)
{
	(void)sig;
	obs_stopping = 1;
}

/* From here on a signal ends obs_follow(); before loading, so that none is lost. */
static inline void obs_begin(void)
{
	const struct sigaction sa = {.sa_handler = obs_on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
}

/* After attaching: every event of the map goes to on_event, until SIGINT or SIGTERM. */
static inline void obs_follow(int events_fd, ring_buffer_sample_fn on_event)
{
	struct ring_buffer *ring = ring_buffer__new(events_fd, on_event, NULL, NULL);

	if (!ring)
		err(1, "ring buffer");
	puts("ready");
	while (!obs_stopping) {
		int r = ring_buffer__poll(ring, 200);

		if (r < 0 && r != -EINTR)
			errx(1, "ring buffer: %s", strerror(-r));
	}
	ring_buffer__consume(ring);
	ring_buffer__free(ring);
}

#endif
