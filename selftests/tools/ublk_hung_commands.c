// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Control commands that hang, for the lab: NR devices are started whose FETCHes never come, all at
 * once. Each START_DEV must end at its own deadline, cancelled and not left in the kernel, and
 * meanwhile other commands must be answered as if nothing was. Prints what it measured; exit status
 * 0 if all of it holds.
 */
#include "lib/log.h"
#include "ublk/ctrl.h"

#include <stdio.h>

#define NR          48
#define DEADLINE_MS 12000
/* An answer that waited for a hung command would take all of its deadline. */
#define QUICK_NS (DEADLINE_MS / 2 * NSEC_PER_MSEC)

static struct ublk_ctrl *ctrl;

struct hung {
	pthread_t thread;
	uint32_t dev_id;
	uint64_t took_ns;
	int res;
	bool left; /* the kernel still held it */
};

static int command(uint32_t op, uint32_t dev_id, uint64_t data, void *buf, uint16_t len,
		   uint64_t timeout_ns, struct ublk_cmd **late)
{
	const struct ublk_cmd_spec spec = {
		.op = op,
		.dev_id = dev_id,
		.data = data,
		.buf = buf,
		.len = len,
		.timeout_ns = timeout_ns,
	};

	return ublk_ctrl_run(ctrl, &spec, late);
}

static int device_add(uint32_t *dev_id)
{
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = 1,
		.queue_depth = 4,
		.max_io_buf_bytes = 64 * 1024,
		.dev_id = UINT32_MAX,
		.ublksrv_pid = getpid(),
		.flags = UBLK_F_USER_COPY | UBLK_F_CMD_IOCTL_ENCODE,
	};
	struct ublk_params p = {
		.len = sizeof(p),
		.types = UBLK_PARAM_TYPE_BASIC,
		.basic = {.logical_bs_shift = 9,
			  .physical_bs_shift = 12,
			  .io_min_shift = 12,
			  .io_opt_shift = 12,
			  .max_sectors = 128,
			  .dev_sectors = 2048},
	};
	int r = command(UBLK_U_CMD_ADD_DEV, UINT32_MAX, 0, &info, sizeof(info), 30 * NSEC_PER_SEC,
			NULL);

	if (r < 0)
		return r;
	*dev_id = info.dev_id;
	return command(UBLK_U_CMD_SET_PARAMS, *dev_id, 0, &p, sizeof(p), 30 * NSEC_PER_SEC, NULL);
}

static void *start_unarmed(void *arg)
{
	struct hung *h = arg;
	struct ublk_cmd *late;
	uint64_t start = now_ns();

	h->res = command(UBLK_U_CMD_START_DEV, h->dev_id, (uint64_t)getpid(), NULL, 0,
			 DEADLINE_MS * NSEC_PER_MSEC, &late);
	h->took_ns = now_ns() - start;
	h->left = late != NULL;
	ublk_ctrl_forget(ctrl, late);
	return NULL;
}

/* GET_DEV_INFO again and again while the others hang; the slowest. */
static int others_go_on(uint32_t dev_id, uint64_t until_ns, uint64_t *slowest_ns)
{
	struct ublksrv_ctrl_dev_info info;

	*slowest_ns = 0;
	while (now_ns() < until_ns) {
		uint64_t start = now_ns();
		int r = command(UBLK_U_CMD_GET_DEV_INFO, dev_id, 0, &info, sizeof(info),
				30 * NSEC_PER_SEC, NULL);

		if (r < 0)
			return r;
		*slowest_ns = MAX(*slowest_ns, now_ns() - start);
	}
	return 0;
}

static int cancel_works(uint32_t dev_id)
{
	struct hung h = {.dev_id = dev_id};
	uint64_t start = now_ns();

	if (pthread_create(&h.thread, NULL, start_unarmed, &h))
		return 1;
	/* Whenever it comes, before or after the command was sent. */
	while (now_ns() - start < NSEC_PER_SEC && !__atomic_load_n(&h.took_ns, __ATOMIC_RELAXED)) {
		ublk_ctrl_cancel_start(ctrl, dev_id);
		usleep(1000);
	}
	pthread_join(h.thread, NULL);
	printf("cancelled: res=%d after %llu ms\n", h.res,
	       (unsigned long long)(h.took_ns / 1000000));
	return h.res != -ETIMEDOUT || h.left || h.took_ns >= DEADLINE_MS * NSEC_PER_MSEC;
}

int main(void)
{
	static struct hung hung[NR];
	uint64_t slowest, longest = 0;
	unsigned int bad = 0;
	int r = ublk_ctrl_create(&ctrl);

	log_init(LOG_LVL_INFO, false);
	for (unsigned int i = 0; !r && i < NR; i++)
		r = device_add(&hung[i].dev_id);
	if (r) {
		printf("setup: %d\n", r);
		return 1;
	}
	for (unsigned int i = 0; i < NR; i++)
		if (pthread_create(&hung[i].thread, NULL, start_unarmed, &hung[i]))
			return 1;
	r = others_go_on(hung[0].dev_id, now_ns() + DEADLINE_MS * NSEC_PER_MSEC / 2, &slowest);
	for (unsigned int i = 0; i < NR; i++) {
		pthread_join(hung[i].thread, NULL);
		longest = MAX(longest, hung[i].took_ns);
		if (hung[i].res == -ETIMEDOUT && !hung[i].left)
			continue;
		bad++;
		printf("device %u: START_DEV: res=%d left=%d\n", hung[i].dev_id, hung[i].res,
		       hung[i].left);
	}
	printf("%d hung commands ended after at most %llu ms (deadline %d ms); others: res=%d, "
	       "slowest "
	       "%llu ms\n",
	       NR, (unsigned long long)(longest / 1000000), DEADLINE_MS, r,
	       (unsigned long long)(slowest / 1000000));
	bad += r || slowest > QUICK_NS || longest > DEADLINE_MS * NSEC_PER_MSEC + QUICK_NS;
	bad += (unsigned int)cancel_works(hung[0].dev_id);
	for (unsigned int i = 0; i < NR; i++) {
		r = command(UBLK_U_CMD_DEL_DEV, hung[i].dev_id, 0, NULL, 0, 30 * NSEC_PER_SEC,
			    NULL);
		if (r < 0) {
			printf("device %u: DEL_DEV: %d\n", hung[i].dev_id, r);
			bad++;
		}
	}
	ublk_ctrl_destroy(ctrl);
	return bad ? 1 : 0;
}
