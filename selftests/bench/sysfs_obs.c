// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Outside observer of sysfs writes, for tests: prints "ready" when it is attached, then a line for
 * each write of any process write tgid=123 comm=sh file=queue/scheduler and, on SIGINT or SIGTERM,
 * "total dropped=0". One thread.
 */
#include "bpf/sysfs_obs.h"
#include "bpf/sysfs_obs.skel.h"
#include "lib/util.h"
#include "obs.h"

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
	struct sysfs_obs_bpf *skel;
	int r;

	obs_begin();
	skel = sysfs_obs_bpf__open_and_load();
	if (!skel)
		err(1, "cannot load");
	r = sysfs_obs_bpf__attach(skel);
	if (r)
		errx(1, "cannot attach: %s", strerror(-r));
	obs_follow(bpf_map__fd(skel->maps.events), on_event);
	printf("total dropped=%llu\n", (unsigned long long)skel->bss->dropped);
	sysfs_obs_bpf__destroy(skel);
	return 0;
}
