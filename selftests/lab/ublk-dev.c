// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ublk-dev: lists, adds and removes ublk devices without a daemon, for the lab's
 * cleanup and its own tests.  Knows nothing of GlideFS: it must work when that
 * does not.
 *
 * One control command at a time, each with a deadline; a command that a kernel
 * never answers leaves this process behind in it, and the caller's own deadline
 * reports that.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/ioctl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* From Documentation/block/ublk.rst and include/uapi/linux/ublk_cmd.h, Linux 6.5. */
struct ctrl_cmd {
	uint32_t dev_id;
	uint16_t queue_id;
	uint16_t len;
	uint64_t addr;
	uint64_t data[1];
	uint16_t dev_path_len;
	uint16_t pad;
	uint32_t reserved;
};

struct dev_info {
	uint16_t nr_hw_queues;
	uint16_t queue_depth;
	uint16_t state;
	uint16_t pad0;
	uint32_t max_io_buf_bytes;
	uint32_t dev_id;
	int32_t ublksrv_pid;
	uint32_t pad1;
	uint64_t flags;
	uint64_t ublksrv_flags;
	uint32_t owner_uid;
	uint32_t owner_gid;
	uint64_t reserved1;
	uint64_t reserved2;
};

#define CMD_GET_DEV_INFO _IOR('u', 0x02, struct ctrl_cmd)
#define CMD_ADD_DEV      _IOWR('u', 0x04, struct ctrl_cmd)
#define CMD_DEL_DEV      _IOWR('u', 0x05, struct ctrl_cmd)
#define CMD_STOP_DEV     _IOWR('u', 0x07, struct ctrl_cmd)

#define FLAG_CMD_IOCTL_ENCODE (1ULL << 6)
#define DEV_IDS_MAX           8192
#define DEADLINE_S            20

struct control {
	struct io_uring ring;
	int fd;
};

static int control_open(struct control *c)
{
	struct io_uring_params p = {.flags = IORING_SETUP_SQE128};
	int ret;

	c->fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	if (c->fd < 0)
		return -errno;
	ret = io_uring_queue_init_params(4, &c->ring, &p);
	if (ret < 0)
		close(c->fd);
	return ret;
}

static int control_command(struct control *c, unsigned int op, uint32_t dev_id, void *buf,
			   uint16_t len)
{
	struct __kernel_timespec ts = {.tv_sec = DEADLINE_S};
	struct io_uring_sqe *sqe = io_uring_get_sqe(&c->ring);
	struct io_uring_cqe *cqe;
	struct ctrl_cmd *cmd;
	int ret;

	if (!sqe)
		return -EBUSY;
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = c->fd;
	sqe->off = op; /* cmd_op */
	cmd = (struct ctrl_cmd *)&sqe->addr3;
	cmd->dev_id = dev_id;
	cmd->queue_id = UINT16_MAX;
	cmd->addr = (uintptr_t)buf;
	cmd->len = len;

	ret = io_uring_submit(&c->ring);
	if (ret < 0)
		return ret;
	do {
		ret = io_uring_wait_cqe_timeout(&c->ring, &cqe, &ts);
	} while (ret == -EINTR);
	if (ret < 0)
		return ret;
	ret = cqe->res;
	io_uring_cqe_seen(&c->ring, cqe);
	return ret;
}

static int device_list(struct control *c)
{
	static const char *const states[] = {"dead", "live", "quiesced", "fail-io"};
	char path[32];

	for (uint32_t id = 0; id < DEV_IDS_MAX; id++) {
		struct dev_info info = {0};
		int ret;

		snprintf(path, sizeof(path), "/dev/ublkc%u", id);
		if (access(path, F_OK))
			continue;
		ret = control_command(c, CMD_GET_DEV_INFO, id, &info, sizeof(info));
		if (ret < 0) {
			printf("%u error %s\n", id, strerror(-ret));
			continue;
		}
		printf("%u %s pid=%d queues=%u depth=%u flags=%#llx\n", id,
		       info.state < 4 ? states[info.state] : "unknown", info.ublksrv_pid,
		       info.nr_hw_queues, info.queue_depth, (unsigned long long)info.flags);
	}
	return 0;
}

static int device_add(struct control *c)
{
	struct dev_info info = {
		.nr_hw_queues = 1,
		.queue_depth = 4,
		.max_io_buf_bytes = 64 << 10,
		.dev_id = UINT32_MAX,
		.ublksrv_pid = getpid(),
		.flags = FLAG_CMD_IOCTL_ENCODE,
	};
	int ret = control_command(c, CMD_ADD_DEV, UINT32_MAX, &info, sizeof(info));

	if (ret < 0) {
		fprintf(stderr, "ublk-dev: ADD_DEV: %s\n", strerror(-ret));
		return ret;
	}
	printf("%u\n", info.dev_id);
	return 0;
}

static int device_remove(struct control *c, uint32_t id)
{
	int ret = control_command(c, CMD_STOP_DEV, id, NULL, 0);

	/* A STOP that does not end would make DEL wait behind it. */
	if (ret == -ETIME) {
		fprintf(stderr, "ublk-dev: STOP_DEV %u: no answer in %d s\n", id, DEADLINE_S);
		return ret;
	}
	ret = control_command(c, CMD_DEL_DEV, id, NULL, 0);
	if (ret < 0)
		fprintf(stderr, "ublk-dev: DEL_DEV %u: %s\n", id, strerror(-ret));
	return ret;
}

int main(int argc, char **argv)
{
	struct control c;
	int ret;

	if (argc < 2 ||
	    (strcmp(argv[1], "ls") && strcmp(argv[1], "add") && strcmp(argv[1], "rm"))) {
		fprintf(stderr, "usage: ublk-dev ls | add | rm ID...\n");
		return 2;
	}
	ret = control_open(&c);
	if (ret < 0) {
		fprintf(stderr, "ublk-dev: /dev/ublk-control: %s\n", strerror(-ret));
		return 1;
	}
	if (!strcmp(argv[1], "ls")) {
		ret = device_list(&c);
	} else if (!strcmp(argv[1], "add")) {
		ret = device_add(&c);
	} else {
		for (int i = 2; i < argc; i++) {
			int one = device_remove(&c, strtoul(argv[i], NULL, 10));

			if (one < 0)
				ret = one;
		}
	}
	return ret < 0;
}
