// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Outside observer for figures and tests: prints a line for each ublk control command of any
 * process cmd=START_DEV dev=0 tgid=123 us=2145 res=0
 * ("ready" first, when it is attached) and, on SIGINT or SIGTERM, the totals:
 *   total commands=9 elevator_switches=0 dropped=0
 * Each elevator switch is a line too, with the command it is part of (STOP_DEV sets "none" on newer
 * kernels; START_DEV must not):
 *   elevator_switch tgid=123 during=STOP_DEV
 * One thread. us is from the command's first entry into the driver to its completion.
 */
#include "bpf/ublk_obs.h"
#include "bpf/ublk_obs.skel.h"
#include "lib/util.h"
#include "obs.h"
#include "ublk/ublk_cmd.h"

static unsigned long commands, switches;

/* By the number in the opcode: the same in both encodings. */
static const char *const names[] = {
	[0x01] = "GET_QUEUE_AFFINITY",
	[0x02] = "GET_DEV_INFO",
	[0x04] = "ADD_DEV",
	[0x05] = "DEL_DEV",
	[0x06] = "START_DEV",
	[0x07] = "STOP_DEV",
	[0x08] = "SET_PARAMS",
	[0x09] = "GET_PARAMS",
	[0x10] = "START_USER_RECOVERY",
	[0x11] = "END_USER_RECOVERY",
	[0x12] = "GET_DEV_INFO2",
	[0x13] = "GET_FEATURES",
	[0x14] = "DEL_DEV_ASYNC",
	[0x15] = "UPDATE_SIZE",
	[0x16] = "QUIESCE_DEV",
	[0x17] = "TRY_STOP_DEV",
};

static int on_event(void *ctx __unused, void *data, size_t len)
{
	const struct obs_event *e = data;
	unsigned int nr = _IOC_NR(e->op);
	const char *name = nr < ARRAY_SIZE(names) ? names[nr] : NULL;

	if (len < sizeof(*e))
		return 0;
	if (e->kind == OBS_ELEVATOR_SWITCH) {
		switches++;
		printf("elevator_switch tgid=%u during=%s\n", e->tgid, name ? name : "nothing");
		return 0;
	}
	commands++;
	printf("cmd=%s dev=%d tgid=%u us=%llu res=%d\n", name ? name : "unknown", (int)e->dev_id,
	       e->tgid, (unsigned long long)((e->end_ns - e->start_ns) / NSEC_PER_USEC), e->res);
	return 0;
}

int main(void)
{
	struct ublk_obs_bpf *skel;
	int r;

	obs_begin();
	skel = ublk_obs_bpf__open_and_load();
	if (!skel)
		err(1, "cannot load (is ublk_drv loaded, with BTF?)");
	r = ublk_obs_bpf__attach(skel);
	if (r)
		errx(1, "cannot attach: %s", strerror(-r));
	obs_follow(bpf_map__fd(skel->maps.events), on_event);
	printf("total commands=%lu elevator_switches=%lu dropped=%llu\n", commands, switches,
	       (unsigned long long)skel->bss->dropped);
	ublk_obs_bpf__destroy(skel);
	return 0;
}
