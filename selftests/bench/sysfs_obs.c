// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Outside observer of sysfs writes, for tests: prints "ready" when it is attached, then a line for
 * each write of any process write tgid=123 comm=sh file=queue/scheduler and, on SIGINT or SIGTERM,
 * "total dropped=0". One thread.
 */
#include "bpf/sysfs_obs.h"
#include "bpf/sysfs_obs.skel.h"
#include "lib/util.h"

#include <bpf/libbpf.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t stopping;

static void on_signal(int sig __unused)
{
	stopping = 1;
}

static int on_event(void *ctx __unused, void *data, size_t len)
{
	const struct sysfs_event *e = data;

	if (len >= sizeof(*e))
		printf("write tgid=%u comm=%.16s file=%.32s/%.32s\n", e->tgid, e->comm, e->dir,
		       e->file);
	return 0;
}

int main(void)
{
	const struct sigaction sa = {.sa_handler = on_signal};
	struct sysfs_obs_bpf *skel;
	struct ring_buffer *ring;
	int r;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);

	skel = sysfs_obs_bpf__open_and_load();
	if (!skel)
		err(1, "cannot load");
	r = sysfs_obs_bpf__attach(skel);
	if (r)
		errx(1, "cannot attach: %s", strerror(-r));
	ring = ring_buffer__new(bpf_map__fd(skel->maps.events), on_event, NULL, NULL);
	if (!ring)
		err(1, "ring buffer");
	puts("ready");
	while (!stopping) {
		r = ring_buffer__poll(ring, 200);
		if (r < 0 && r != -EINTR)
			errx(1, "ring buffer: %s", strerror(-r));
	}
	ring_buffer__consume(ring);
	printf("total dropped=%llu\n", (unsigned long long)skel->bss->dropped);
	ring_buffer__free(ring);
	sysfs_obs_bpf__destroy(skel);
	return 0;
}
