/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What we use of the ublk driver's user API, completed for build hosts whose <linux/ublk_cmd.h> is
 * older than the kernels we run on (Debian 12's is that of 6.1). Names, numbers and layouts are the
 * kernel's: include/uapi/linux/ublk_cmd.h and Documentation/block/ublk.rst.
 */
#ifndef GFS_UBLK_CMD_H
#define GFS_UBLK_CMD_H

#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>
#include <liburing.h>
#include <string.h>

/* Control commands, encoded (6.4). */
#ifndef UBLK_U_CMD_ADD_DEV
#define UBLK_U_CMD_GET_QUEUE_AFFINITY  _IOR('u', 0x01, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_GET_DEV_INFO        _IOR('u', 0x02, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_ADD_DEV             _IOWR('u', 0x04, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_DEL_DEV             _IOWR('u', 0x05, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_START_DEV           _IOWR('u', 0x06, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_STOP_DEV            _IOWR('u', 0x07, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_SET_PARAMS          _IOWR('u', 0x08, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_GET_PARAMS          _IOR('u', 0x09, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_START_USER_RECOVERY _IOWR('u', 0x10, struct ublksrv_ctrl_cmd)
#define UBLK_U_CMD_END_USER_RECOVERY   _IOWR('u', 0x11, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_GET_FEATURES /* 6.5 */
#define UBLK_U_CMD_GET_FEATURES _IOR('u', 0x13, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_DEL_DEV_ASYNC /* 6.9 */
#define UBLK_U_CMD_DEL_DEV_ASYNC _IOR('u', 0x14, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_UPDATE_SIZE /* 6.16 */
#define UBLK_U_CMD_UPDATE_SIZE _IOWR('u', 0x15, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_QUIESCE_DEV /* 6.16 */
#define UBLK_U_CMD_QUIESCE_DEV _IOWR('u', 0x16, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_U_CMD_TRY_STOP_DEV /* 7.0 */
#define UBLK_U_CMD_TRY_STOP_DEV _IOWR('u', 0x17, struct ublksrv_ctrl_cmd)
#endif
#ifndef UBLK_FEATURES_LEN
#define UBLK_FEATURES_LEN 8
#endif

/* I/O commands, encoded (6.4). */
#ifndef UBLK_U_IO_FETCH_REQ
#define UBLK_U_IO_FETCH_REQ _IOWR('u', UBLK_IO_FETCH_REQ, struct ublksrv_io_cmd)
#define UBLK_U_IO_COMMIT_AND_FETCH_REQ \
	_IOWR('u', UBLK_IO_COMMIT_AND_FETCH_REQ, struct ublksrv_io_cmd)
#endif

/* Where USER_COPY (6.5) finds a request's data in the char device: offset | tag << 25 | queue
 * << 41. */
#ifndef UBLK_IO_BUF_BITS
#define UBLK_IO_BUF_BITS 25
#define UBLK_TAG_OFF     UBLK_IO_BUF_BITS
#define UBLK_TAG_BITS    16
#define UBLK_QID_OFF     (UBLK_TAG_OFF + UBLK_TAG_BITS)
#define UBLK_QID_BITS    12
#endif

/* Feature bits of ublksrv_ctrl_dev_info.flags and GET_FEATURES beyond those of 6.1. */
#ifndef UBLK_F_UNPRIVILEGED_DEV
#define UBLK_F_UNPRIVILEGED_DEV (1ULL << 5)
#endif
#ifndef UBLK_F_CMD_IOCTL_ENCODE
#define UBLK_F_CMD_IOCTL_ENCODE (1ULL << 6)
#endif
#ifndef UBLK_F_USER_COPY
#define UBLK_F_USER_COPY (1ULL << 7)
#endif
#ifndef UBLK_F_ZONED
#define UBLK_F_ZONED (1ULL << 8)
#endif
#ifndef UBLK_F_USER_RECOVERY_FAIL_IO
#define UBLK_F_USER_RECOVERY_FAIL_IO (1ULL << 9)
#endif
#ifndef UBLK_F_UPDATE_SIZE
#define UBLK_F_UPDATE_SIZE (1ULL << 10)
#endif
#ifndef UBLK_F_AUTO_BUF_REG
#define UBLK_F_AUTO_BUF_REG (1ULL << 11)
#endif
#ifndef UBLK_F_QUIESCE
#define UBLK_F_QUIESCE (1ULL << 12)
#endif
#ifndef UBLK_F_PER_IO_DAEMON
#define UBLK_F_PER_IO_DAEMON (1ULL << 13)
#endif
#ifndef UBLK_F_BUF_REG_OFF_DAEMON
#define UBLK_F_BUF_REG_OFF_DAEMON (1ULL << 14)
#endif
#ifndef UBLK_F_BATCH_IO
#define UBLK_F_BATCH_IO (1ULL << 15)
#endif
#ifndef UBLK_F_INTEGRITY
#define UBLK_F_INTEGRITY (1ULL << 16)
#endif
#ifndef UBLK_F_SAFE_STOP_DEV
#define UBLK_F_SAFE_STOP_DEV (1ULL << 17)
#endif
#ifndef UBLK_F_NO_AUTO_PART_SCAN
#define UBLK_F_NO_AUTO_PART_SCAN (1ULL << 18)
#endif
#ifndef UBLK_F_SHMEM_ZC
#define UBLK_F_SHMEM_ZC (1ULL << 19)
#endif

#ifndef UBLK_S_DEV_FAIL_IO /* 6.13 */
#define UBLK_S_DEV_FAIL_IO 3
#endif

/* File position of byte `off` of the request in (queue, tag), for pread and pwrite on /dev/ublkcN.
 */
static inline uint64_t ublk_copy_pos(unsigned int queue, unsigned int tag, uint32_t off)
{
	return (uint64_t)UBLKSRV_IO_BUF_OFFSET +
	       ((uint64_t)queue << UBLK_QID_OFF | (uint64_t)tag << UBLK_TAG_OFF | off);
}

/* Bytes of one queue's descriptor area as it must be mapped: its depth, in whole pages. */
static inline size_t ublk_desc_bytes(unsigned int depth, size_t page)
{
	return (depth * sizeof(struct ublksrv_io_desc) + page - 1) / page * page;
}

/* Where queue q's descriptors start in the char device: the stride ignores the real depth. */
static inline uint64_t ublk_desc_pos(unsigned int queue, size_t page)
{
	return UBLKSRV_CMD_BUF_OFFSET +
	       (uint64_t)queue * ublk_desc_bytes(UBLK_MAX_QUEUE_DEPTH, page);
}

/* Prepare FETCH_REQ or COMMIT_AND_FETCH_REQ in a zeroed 64-byte SQE; fd and its flags are the
 * caller's. */
static inline void ublk_prep_io(struct io_uring_sqe *sqe, uint32_t cmd_op, uint16_t queue,
				uint16_t tag, int32_t result)
{
	const struct ublksrv_io_cmd cmd = {.q_id = queue, .tag = tag, .result = result};

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->cmd_op = cmd_op;
	memcpy(&sqe->addr3, &cmd, sizeof(cmd));
}

#endif
