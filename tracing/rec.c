// SPDX-License-Identifier: GPL-2.0-or-later
/* Records: what their numbers are called. Static tables only; any thread. The lines: rec_json.c. */
#include "tracing/rec.h"

#include <stdio.h>

static const char *const kind_names[] = {
	[REC_META] = "meta",     [REC_HOOK] = "hook",     [REC_DEV] = "dev",
	[REC_QUEUE] = "queue",   [REC_REQ] = "req",       [REC_SNAP_END] = "snap_end",
	[REC_CMD] = "cmd",       [REC_FREEZE] = "freeze", [REC_ATTR] = "attr",
	[REC_ELV] = "elv",       [REC_TASK] = "task",     [REC_OPENER] = "opener",
	[REC_SERVER] = "server", [REC_SPAN] = "span",     [REC_KMSG] = "kmsg",
	[REC_HIST] = "hist",     [REC_COUNTS] = "counts", [REC_TICK] = "tick",
	[REC_END] = "end",
};

static const char *const cmd_names[] = {
	[CMD_GET_QUEUE_AFFINITY] = "GET_QUEUE_AFFINITY",
	[CMD_GET_DEV_INFO] = "GET_DEV_INFO",
	[CMD_ADD_DEV] = "ADD_DEV",
	[CMD_DEL_DEV] = "DEL_DEV",
	[CMD_START_DEV] = "START_DEV",
	[CMD_STOP_DEV] = "STOP_DEV",
	[CMD_SET_PARAMS] = "SET_PARAMS",
	[CMD_GET_PARAMS] = "GET_PARAMS",
	[CMD_START_USER_RECOVERY] = "START_USER_RECOVERY",
	[CMD_END_USER_RECOVERY] = "END_USER_RECOVERY",
	[CMD_GET_DEV_INFO2] = "GET_DEV_INFO2",
	[CMD_GET_FEATURES] = "GET_FEATURES",
	[CMD_DEL_DEV_ASYNC] = "DEL_DEV_ASYNC",
	[CMD_UPDATE_SIZE] = "UPDATE_SIZE",
	[CMD_QUIESCE_DEV] = "QUIESCE_DEV",
	[CMD_TRY_STOP_DEV] = "TRY_STOP_DEV",
};

const char *rec_kind_name(enum rec_kind kind)
{
	return (unsigned int)kind < ARRAY_SIZE(kind_names) ? kind_names[kind] : NULL;
}

const char *rec_cmd_name(uint32_t nr, char buf[24])
{
	if (nr < ARRAY_SIZE(cmd_names) && cmd_names[nr])
		return cmd_names[nr];
	snprintf(buf, 24, "cmd-0x%02x", nr);
	return buf;
}

const char *rec_dev_state_name(uint32_t state)
{
	static const char *const names[] = {"dead", "live", "quiesced", "fail-io"};

	if (state == DEV_GONE)
		return "gone";
	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

const char *rec_req_state_name(uint32_t state)
{
	static const char *const names[] = {"queued", "server", "requeued", "done"};

	return state < ARRAY_SIZE(names) ? names[state] : "unknown";
}

const char *rec_cmd_stage(const struct rec_cmd *c)
{
	bool waits_ready = c->nr == CMD_START_DEV || c->nr == CMD_END_USER_RECOVERY;

	if (c->end_ns && c->res >= 0)
		return "done";
	if (c->scan_ns && !c->scan_end_ns)
		return "part-scan";
	if (c->elevator_ns && !c->elevator_end_ns)
		return "elevator";
	if (c->add_disk_ns)
		return c->add_disk_end_ns ? "ctrl" : "add-disk";
	if (c->ctrl_ns)
		return waits_ready ? "ready-wait" : "ctrl";
	return c->worker_ns ? "worker" : "punt";
}
