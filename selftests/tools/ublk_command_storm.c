// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * More control commands at once than their ring has entries, for the lab: NR threads add a device,
 * ask about it and delete it, ROUNDS times. No two of their devices are alike, and nobody else is
 * there: a command that fails, or an answer about another device, means that one command was
 * carried out with the arguments of another. Prints what was wrong; exit status 0 if nothing was.
 */
#include "lib/log.h"
#include "ublk/ctrl.h"

#include <stdio.h>

#define NR     160
#define ROUNDS 5
/* An emulated CPU takes seconds for as many devices. */
#define TIMEOUT_NS (60 * NSEC_PER_SEC)

static struct ublk_ctrl *ctrl;

struct client {
	pthread_t thread;
	uint16_t depth; /* its devices', nobody else's */
	unsigned int commands, bad;
};

static int command(struct client *c, uint32_t op, uint32_t dev_id,
		   struct ublksrv_ctrl_dev_info *info)
{
	const struct ublk_cmd_spec spec = {
		.op = op,
		.dev_id = dev_id,
		.buf = info,
		.len = info ? sizeof(*info) : 0,
		.timeout_ns = TIMEOUT_NS,
	};
	int r = ublk_ctrl_run(ctrl, &spec, NULL);

	c->commands++;
	if (r < 0) {
		c->bad++;
		printf("%s of device %d: %s (errno %d)\n", ublk_cmd_name(op), (int)dev_id,
		       strerror(-r), -r);
	}
	return r;
}

static void device_cycle(struct client *c)
{
	struct ublksrv_ctrl_dev_info have = {0};
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = 1,
		.queue_depth = c->depth,
		.max_io_buf_bytes = 64 * 1024,
		.dev_id = UINT32_MAX,
		.ublksrv_pid = getpid(),
		.flags = UBLK_F_USER_COPY | UBLK_F_CMD_IOCTL_ENCODE,
	};

	if (command(c, UBLK_U_CMD_ADD_DEV, UINT32_MAX, &info) < 0)
		return;
	if (info.dev_id == UINT32_MAX || info.queue_depth != c->depth) {
		c->bad++;
		printf("added device %d of depth %u, asked for depth %u\n", (int)info.dev_id,
		       info.queue_depth, c->depth);
		return;
	}
	if (command(c, UBLK_U_CMD_GET_DEV_INFO, info.dev_id, &have) >= 0 &&
	    (have.dev_id != info.dev_id || have.queue_depth != c->depth)) {
		c->bad++;
		printf("asked about device %u of depth %u, told about %u of depth %u\n",
		       info.dev_id, c->depth, have.dev_id, have.queue_depth);
	}
	command(c, UBLK_U_CMD_DEL_DEV, info.dev_id, NULL);
}

static void *client_main(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		device_cycle(arg);
	return NULL;
}

int main(void)
{
	static struct client clients[NR];
	unsigned int commands = 0, bad = 0;
	int r = ublk_ctrl_create(&ctrl);

	log_init(LOG_LVL_INFO, false);
	if (r) {
		printf("setup: %d\n", r);
		return 1;
	}
	for (unsigned int i = 0; i < NR; i++) {
		clients[i].depth = (uint16_t)(i + 1);
		if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]))
			return 1;
	}
	for (unsigned int i = 0; i < NR; i++) {
		pthread_join(clients[i].thread, NULL);
		commands += clients[i].commands;
		bad += clients[i].bad;
	}
	printf("%u commands of %d threads: %u wrong\n", commands, NR, bad);
	ublk_ctrl_destroy(ctrl);
	return bad ? 1 : 0;
}
