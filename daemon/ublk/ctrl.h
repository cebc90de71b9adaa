/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control commands on /dev/ublk-control. One thread ("gfs-ctrl") owns one long-lived ring; callers
 * hand it commands and wait. Many commands are in flight at once, each with a deadline of its own.
 *
 * A command past its deadline is cancelled where that helps (a START_DEV or END_USER_RECOVERY that
 * waits for FETCHes); otherwise its caller gets -ETIMEDOUT while the command, with the buffer that
 * the kernel may still write to, stays the thread's until its completion comes.
 */
#ifndef GFS_UBLK_CTRL_H
#define GFS_UBLK_CTRL_H

#include "lib/util.h"
#include "ublk/ublk_cmd.h"

#define UBLK_CTRL_BUF_MAX 512

struct ublk_ctrl;
struct ublk_cmd;

struct ublk_cmd_spec {
	uint32_t op;     /* UBLK_U_CMD_* */
	uint32_t dev_id; /* UINT32_MAX: none */
	uint64_t data;   /* inline argument */
	void *buf;       /* in and out, copied; or NULL */
	uint16_t len;    /* of buf, at most UBLK_CTRL_BUF_MAX */
	uint64_t timeout_ns;
	uint64_t op_id;     /* for timing events */
	const char *volume; /* for timing events, may be NULL */
};

/* Open /dev/ublk-control, start the thread. -ENODEV no driver, -EACCES or -EPERM no right, -errno.
 */
int ublk_ctrl_create(struct ublk_ctrl **out) __must_check;
/* No caller may be waiting. Commands the kernel still holds are given up with the ring. */
void ublk_ctrl_destroy(struct ublk_ctrl *c);

/*
 * Run a command and wait for it: its result (0 or more, or the kernel's -errno), or -ETIMEDOUT at
 * the deadline. late (may be NULL): on -ETIMEDOUT, a reference to the command if the kernel still
 * holds it, for ublk_ctrl_wait; else NULL. Emits the command's timing event, on success and
 * failure. Any thread but a worker's and the control thread.
 */
int ublk_ctrl_run(struct ublk_ctrl *c, const struct ublk_cmd_spec *spec,
		  struct ublk_cmd **late) __must_check;
/*
 * Wait for a late command: its result, and the reference is gone; or -ETIMEDOUT again, and it is
 * not.
 */
int ublk_ctrl_wait(struct ublk_ctrl *c, struct ublk_cmd *late, uint64_t timeout_ns) __must_check;
/* Drop the reference; the command stays with the thread until its completion. NULL is fine. */
void ublk_ctrl_forget(struct ublk_ctrl *c, struct ublk_cmd *late);
/*
 * Cancel now what waits for the device's FETCHes: one of them was refused, so it would wait in
 * vain. Any thread, does not block.
 */
void ublk_ctrl_cancel_start(struct ublk_ctrl *c, uint32_t dev_id);

/* "START_DEV" etc.; the phase in errors. */
const char *ublk_cmd_name(uint32_t op);

#endif
