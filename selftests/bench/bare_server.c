// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The bare minimal ublk server that our figures are measured against: USER_COPY, one O_DIRECT file
 * whose sectors are already written, no store, no log, no cache. One thread and one ring per queue,
 * with the ring flags of the daemon's workers; queues are armed like the daemon's (without
 * CAP_SYS_ADMIN, so that the kernel does not scan partitions).
 *
 * Prints /dev/ublkbN when the device is there; SIGTERM or SIGINT stops and deletes it. With --loop
 * it waits for commands on standard input instead, one a line: "add" makes a device and prints its
 * path, "del" removes it and prints "gone", the end of input ends the program; so one process, like
 * the daemon, makes many devices. The main thread owns the control ring; each queue thread owns
 * everything of its queue. START_DEV is sent when all queues are armed (unless one is to be late).
 *
 * It can also be a bad server, on request: arm a queue late, hold a read, or hang itself by writing
 * the scheduler of its own device from a thread that holds a request of it. And it can take over
 * the quiesced device of one that died.
 */
#include "lib/util.h"
#include "ublk/ublk_cmd.h"

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define IO_BYTES_MAX    (512 * KiB)
#define CTRL_WAIT_S     60
#define DEADLOCK_SECTOR 8
#define UNSET           UINT64_MAX

/* Numbers of the command line: all of one type, so that a table fills them. */
struct options {
	const char *file;
	uint64_t size_bytes, queues, depth;
	uint64_t flags;                         /* all of them, or 0 */
	uint64_t arm_delay_ms, arm_delay_queue; /* UNSET: the last */
	uint64_t hold_ms, hold_sector;
	uint64_t recover; /* id of a quiesced device, or UNSET */
	bool recovery, part_scan, loop, self_deadlock, child_deadlock;
};

struct bare_queue;

struct bare_io {
	struct bare_queue *q;
	uint16_t tag;
	uint8_t op;
	bool serving; /* the next completion is the file's, not the fetch's */
	int32_t result;
	void *buf;
};

struct bare_queue {
	pthread_t thread;
	struct io_uring ring;
	unsigned int index, depth, gone;
	int cdev_fd, file_fd;
	unsigned int delay_ms;
	bool part_scan;
	sem_t *armed;
	uint32_t dev_id;
	const struct options *bad; /* how to behave badly, or NULL */
	struct __kernel_timespec hold;
	const struct ublksrv_io_desc *desc;
	struct bare_io *ios;
	void *bufs;
};

static struct io_uring ctrl_ring;
static int ctrl_fd;

static int ctrl(uint32_t op, uint32_t dev_id, void *buf, uint16_t len, uint64_t data)
{
	struct __kernel_timespec ts = {.tv_sec = CTRL_WAIT_S};
	const struct ublksrv_ctrl_cmd cmd = {
		.dev_id = dev_id,
		.queue_id = UINT16_MAX,
		.len = len,
		.addr = (uintptr_t)buf,
		.data[0] = data,
	};
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ctrl_ring);
	struct io_uring_cqe *cqe;
	int r;

	if (!sqe)
		return -EBUSY;
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = ctrl_fd;
	sqe->cmd_op = op;
	memcpy(&sqe->addr3, &cmd, sizeof(cmd));
	r = io_uring_submit(&ctrl_ring);
	if (r < 0)
		return r;
	do {
		r = io_uring_wait_cqe_timeout(&ctrl_ring, &cqe, &ts);
	} while (r == -EINTR);
	if (r < 0)
		return r;
	r = cqe->res;
	io_uring_cqe_seen(&ctrl_ring, cqe);
	return r;
}

static struct io_uring_sqe *queue_sqe(struct bare_queue *q, struct bare_io *io)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	/* The ring has two entries for each tag, and a tag has one operation at a time. */
	if (!sqe)
		errx(1, "queue %u: ring full", q->index);
	memset(sqe, 0, sizeof(*sqe));
	io_uring_sqe_set_data(sqe, io);
	sqe->flags = IOSQE_FIXED_FILE;
	return sqe;
}

static void io_fetch(struct bare_io *io, uint32_t cmd_op, int32_t result)
{
	struct io_uring_sqe *sqe = queue_sqe(io->q, io);

	io->serving = false;
	ublk_prep_io(sqe, cmd_op, (uint16_t)io->q->index, io->tag, result);
	sqe->fd = 0;
}

static void io_to_file(struct bare_io *io, uint8_t opcode, uint64_t off, uint32_t len, int rw_flags)
{
	struct io_uring_sqe *sqe = queue_sqe(io->q, io);

	io->serving = true;
	sqe->opcode = opcode;
	sqe->fd = 1;
	sqe->off = off;
	sqe->addr = (uintptr_t)io->buf;
	sqe->len = len;
	sqe->rw_flags = rw_flags;
}

static bool io_covers(const struct ublksrv_io_desc *d, uint64_t sector)
{
	return sector >= d->start_sector && sector < d->start_sector + d->nr_sectors;
}

/* The write waits for all requests of the device, and this thread has one. */
static void scheduler_write(uint32_t dev_id)
{
	static const char name[] = "mq-deadline";
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/sys/block/ublkb%u/queue/scheduler", dev_id);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, name, sizeof(name) - 1) < 0)
		err(1, "%s", path);
	close(fd);
}

/* The same, but this thread waits for a child that waits. */
static void scheduler_write_by_child(uint32_t dev_id)
{
	char command[96];
	char *const argv[] = {"sh", "-c", command, NULL};
	int r, status;
	pid_t pid;

	snprintf(command, sizeof(command), "echo mq-deadline > /sys/block/ublkb%u/queue/scheduler",
		 dev_id);
	r = posix_spawnp(&pid, "sh", NULL, NULL, argv, environ);
	if (r)
		errx(1, "sh: %s", strerror(r));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

/* True: the request is held, and comes back to queue_event() when the time is over. */
static bool io_misbehave(struct bare_io *io)
{
	struct bare_queue *q = io->q;
	const struct ublksrv_io_desc *d = &q->desc[io->tag];
	struct io_uring_sqe *sqe;

	if (ublksrv_get_op(d) != UBLK_IO_OP_READ)
		return false;
	if (q->bad->self_deadlock && io_covers(d, DEADLOCK_SECTOR))
		scheduler_write(q->dev_id);
	if (q->bad->child_deadlock && io_covers(d, DEADLOCK_SECTOR))
		scheduler_write_by_child(q->dev_id);
	if (!q->bad->hold_ms || !io_covers(d, q->bad->hold_sector))
		return false;
	sqe = queue_sqe(q, io);
	io_uring_prep_timeout(sqe, &q->hold, 0, 0);
	io_uring_sqe_set_data(sqe, io);
	return true;
}

/* Start the file operation of a request. */
static void io_serve(struct bare_io *io)
{
	struct bare_queue *q = io->q;
	const struct ublksrv_io_desc *d = &q->desc[io->tag];
	uint64_t off = d->start_sector << 9;
	uint32_t len = d->nr_sectors << 9;
	struct io_uring_sqe *sqe;
	ssize_t n;

	io->op = ublksrv_get_op(d);
	io->result = 0;
	switch (io->op) {
	case UBLK_IO_OP_READ:
		io->result = (int32_t)len;
		io_to_file(io, IORING_OP_READ, off, len, 0);
		return;
	case UBLK_IO_OP_WRITE:
		n = pread(q->cdev_fd, io->buf, len, (off_t)ublk_copy_pos(q->index, io->tag, 0));
		if (n != (ssize_t)len)
			break;
		io->result = (int32_t)len;
		io_to_file(io, IORING_OP_WRITE, off, len,
			   d->op_flags & UBLK_IO_F_FUA ? RWF_DSYNC : 0);
		return;
	case UBLK_IO_OP_FLUSH:
		sqe = queue_sqe(q, io);
		io->serving = true;
		sqe->opcode = IORING_OP_FSYNC;
		sqe->fd = 1;
		sqe->fsync_flags = IORING_FSYNC_DATASYNC;
		return;
	case UBLK_IO_OP_DISCARD:
	case UBLK_IO_OP_WRITE_ZEROES:
		sqe = queue_sqe(q, io);
		io->serving = true;
		sqe->opcode = IORING_OP_FALLOCATE;
		sqe->fd = 1;
		sqe->off = off;
		sqe->addr = len;
		sqe->len =
			FALLOC_FL_KEEP_SIZE | (io->op == UBLK_IO_OP_DISCARD ? FALLOC_FL_PUNCH_HOLE
									    : FALLOC_FL_ZERO_RANGE);
		return;
	}
	io_fetch(io, UBLK_U_IO_COMMIT_AND_FETCH_REQ, -EIO);
}

/* A request arrived. */
static void io_start(struct bare_io *io)
{
	if (io->q->bad && io_misbehave(io))
		return;
	io_serve(io);
}

/* The file operation of a request ended: hand over the data of a read, commit. */
static void io_finish(struct bare_io *io, int res)
{
	struct bare_queue *q = io->q;
	ssize_t n;

	if (res >= 0 && io->result && res != io->result)
		res = -EIO;
	if (res >= 0 && io->op == UBLK_IO_OP_READ) {
		n = pwrite(q->cdev_fd, io->buf, (size_t)res,
			   (off_t)ublk_copy_pos(q->index, io->tag, 0));
		if (n != res)
			res = -EIO;
	}
	io_fetch(io, UBLK_U_IO_COMMIT_AND_FETCH_REQ, res < 0 ? res : io->result);
}

static void queue_drop_cap_sys_admin(void)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &hdr, data) < 0)
		err(1, "capget");
	data[0].effective &= ~(1u << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &hdr, data) < 0)
		err(1, "capset");
}

static void queue_setup(struct bare_queue *q)
{
	struct io_uring_params p = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CQSIZE,
		.cq_entries = 4 * q->depth,
	};
	const int fds[2] = {q->cdev_fd, q->file_fd};
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *desc;
	int r;

	r = io_uring_queue_init_params(2 * q->depth, &q->ring, &p);
	if (r < 0)
		errx(1, "queue %u: ring: %s", q->index, strerror(-r));
	r = io_uring_register_files(&q->ring, fds, 2);
	if (r < 0)
		errx(1, "queue %u: fixed files: %s", q->index, strerror(-r));
	desc = mmap(NULL, ublk_desc_bytes(q->depth, page), PROT_READ, MAP_SHARED | MAP_POPULATE,
		    q->cdev_fd, (off_t)ublk_desc_pos(q->index, page));
	if (desc == MAP_FAILED)
		err(1, "queue %u: descriptors", q->index);
	q->desc = desc;
	q->bufs = mmap(NULL, q->depth * IO_BYTES_MAX, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	q->ios = calloc(q->depth, sizeof(*q->ios));
	if (q->bufs == MAP_FAILED || !q->ios)
		err(1, "queue %u", q->index);
	for (unsigned int i = 0; i < q->depth; i++) {
		q->ios[i].q = q;
		q->ios[i].tag = (uint16_t)i;
		q->ios[i].buf = (char *)q->bufs + i * IO_BYTES_MAX;
	}
}

static void queue_event(struct bare_io *io, int res)
{
	if (io->serving) {
		io_finish(io, res);
	} else if (res == UBLK_IO_RES_OK) {
		io_start(io);
	} else if (res == -ETIME) {
		io_serve(io);
	} else {
		/* ABORT: the device was stopped; anything else is a refused fetch. */
		if (res != UBLK_IO_RES_ABORT)
			warnx("queue %u tag %u: fetch: %s", io->q->index, io->tag, strerror(-res));
		io->q->gone++;
	}
}

static void *queue_main(void *arg)
{
	struct bare_queue *q = arg;
	int r;

	if (!q->part_scan)
		queue_drop_cap_sys_admin();
	queue_setup(q);
	if (q->delay_ms) {
		const struct timespec ts = {.tv_sec = q->delay_ms / 1000,
					    .tv_nsec = q->delay_ms % 1000 * 1000000L};

		nanosleep(&ts, NULL);
	}
	for (unsigned int i = 0; i < q->depth; i++)
		io_fetch(&q->ios[i], UBLK_U_IO_FETCH_REQ, 0);
	r = io_uring_submit(&q->ring);
	if (r != (int)q->depth)
		errx(1, "queue %u: %d fetches submitted of %u", q->index, r, q->depth);
	sem_post(q->armed);
	while (q->gone < q->depth) {
		struct io_uring_cqe *cqe;
		unsigned int head, n = 0;

		r = io_uring_submit_and_wait(&q->ring, 1);
		if (r < 0 && r != -EINTR)
			errx(1, "queue %u: io_uring_enter: %s", q->index, strerror(-r));
		io_uring_for_each_cqe(&q->ring, head, cqe)
		{
			n++;
			queue_event(io_uring_cqe_get_data(cqe), cqe->res);
		}
		io_uring_cq_advance(&q->ring, n);
	}
	munmap((void *)q->desc, ublk_desc_bytes(q->depth, (size_t)sysconf(_SC_PAGESIZE)));
	io_uring_queue_exit(&q->ring);
	munmap(q->bufs, q->depth * IO_BYTES_MAX);
	free(q->ios);
	return NULL;
}

/* Preallocated and written, so that no measured write allocates or converts an extent. */
static int file_prepare(const struct options *o)
{
	const size_t step = 4 * MiB;
	struct stat st;
	char *zeros;
	int fd = open(o->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || fstat(fd, &st) < 0)
		err(1, "%s", o->file);
	if ((uint64_t)st.st_size != o->size_bytes || (uint64_t)st.st_blocks * 512 < o->size_bytes) {
		zeros = calloc(1, step);
		if (!zeros)
			err(1, "%s", o->file);
		if (ftruncate(fd, (off_t)o->size_bytes) < 0)
			err(1, "%s: truncate", o->file);
		for (uint64_t off = 0; off < o->size_bytes; off += step) {
			size_t n = MIN(step, o->size_bytes - off);

			if (pwrite(fd, zeros, n, (off_t)off) != (ssize_t)n)
				err(1, "%s: write", o->file);
		}
		if (fsync(fd) < 0)
			err(1, "%s: fsync", o->file);
		free(zeros);
	}
	close(fd);
	fd = open(o->file, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s: O_DIRECT", o->file);
	return fd;
}

/* As the daemon sets them, so that START_DEV does the same work. */
static int dev_set_params(uint32_t dev_id, uint64_t size_bytes)
{
	struct ublk_params p = {
		.len = sizeof(p),
		.types = UBLK_PARAM_TYPE_BASIC | UBLK_PARAM_TYPE_DISCARD,
		.basic =
			{
				.attrs = UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA,
				.logical_bs_shift = 9,
				.physical_bs_shift = 12,
				.io_opt_shift = 16,
				.io_min_shift = 12,
				.max_sectors = IO_BYTES_MAX >> 9,
				.dev_sectors = size_bytes >> 9,
			},
		.discard =
			{
				.discard_granularity = 4096,
				.max_discard_sectors = UINT32_MAX >> 9,
				.max_write_zeroes_sectors = UINT32_MAX >> 9,
				.max_discard_segments = 1,
			},
	};

	return ctrl(UBLK_U_CMD_SET_PARAMS, dev_id, &p, sizeof(p), 0);
}

static int cdev_open(uint32_t dev_id)
{
	uint64_t deadline = now_ns() + 10 * NSEC_PER_SEC;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/dev/ublkc%u", dev_id);
	/* devtmpfs or udev makes the node; ADD_DEV may return a little earlier. */
	while ((fd = open(path, O_RDWR | O_CLOEXEC)) < 0 && now_ns() < deadline)
		usleep(1000);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static const struct {
	const char *name, *arg, *help;
	size_t offset; /* in struct options: of a number, or with no arg of a bool */
} options[] = {
	{"file", "FILE", "what is served; made and written if need be",
	 offsetof(struct options, file)},
	{"size", "BYTES", "of the device and the file", offsetof(struct options, size_bytes)},
	{"queues", "N", "ask for so many (2)", offsetof(struct options, queues)},
	{"depth", "N", "of a queue (64)", offsetof(struct options, depth)},
	{"recovery", NULL, "ask for USER_RECOVERY and USER_RECOVERY_REISSUE",
	 offsetof(struct options, recovery)},
	{"flags", "BITS", "ask for exactly these UBLK_F_* bits", offsetof(struct options, flags)},
	{"part-scan", NULL, "arm with CAP_SYS_ADMIN, so that the kernel scans partitions",
	 offsetof(struct options, part_scan)},
	{"loop", NULL, "obey \"add\" and \"del\" on standard input",
	 offsetof(struct options, loop)},
	{"recover", "DEV", "take over the quiesced device of this number",
	 offsetof(struct options, recover)},
	{"arm-delay-ms", "MS", "arm a queue that much later, and do not wait with START_DEV",
	 offsetof(struct options, arm_delay_ms)},
	{"arm-delay-queue", "N", "which one (the last)", offsetof(struct options, arm_delay_queue)},
	{"hold-ms", "MS", "answer a read of the sector below so late",
	 offsetof(struct options, hold_ms)},
	{"hold-sector", "N", "(0)", offsetof(struct options, hold_sector)},
	{"self-deadlock", NULL,
	 "a read of sector 8 makes the queue's thread write its scheduler: reboot afterwards",
	 offsetof(struct options, self_deadlock)},
	{"child-deadlock", NULL, "the same by a child that the thread waits for",
	 offsetof(struct options, child_deadlock)},
};

static void usage(FILE *f)
{
	char text[40];

	fprintf(f, "usage: bare_server --file FILE --size BYTES [OPTION]...\n");
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		snprintf(text, sizeof(text), "--%s%s%s", options[i].name, options[i].arg ? " " : "",
			 options[i].arg ? options[i].arg : "");
		fprintf(f, "  %-20s %s\n", text, options[i].help);
	}
}

static uint64_t number_parse(const char *name, const char *text)
{
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-')
		errx(2, "--%s: %s is no number", name, text);
	return n;
}

static void options_parse(int argc, char **argv, struct options *o)
{
	struct option longs[ARRAY_SIZE(options) + 2] = {0};
	int i;

	for (i = 0; i < (int)ARRAY_SIZE(options); i++)
		longs[i] = (struct option){
			.name = options[i].name,
			.has_arg = options[i].arg ? required_argument : no_argument,
		};
	longs[i].name = "help";
	for (int c; (c = getopt_long(argc, argv, "", longs, &i)) != -1;) {
		char *field;

		if (c || i == (int)ARRAY_SIZE(options)) {
			usage(c ? stderr : stdout);
			exit(c ? 2 : 0);
		}
		field = (char *)o + options[i].offset;
		if (!options[i].arg)
			*(bool *)field = true;
		else if (options[i].offset == offsetof(struct options, file))
			*(const char **)field = optarg;
		else
			*(uint64_t *)field = number_parse(options[i].name, optarg);
	}
	if (!o->file || !o->size_bytes || o->size_bytes % 4096 || !o->queues ||
	    o->queues > UINT16_MAX || !o->depth || o->depth > UBLK_MAX_QUEUE_DEPTH ||
	    (o->loop && o->recover != UNSET)) {
		usage(stderr);
		exit(2);
	}
}

static void ctrl_open(void)
{
	struct io_uring_params p = {.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER};
	int r;

	ctrl_fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	if (ctrl_fd < 0)
		err(1, "/dev/ublk-control");
	r = io_uring_queue_init_params(8, &ctrl_ring, &p);
	if (r < 0)
		errx(1, "control ring: %s", strerror(-r));
}

static struct ublksrv_ctrl_dev_info dev_add(const struct options *o)
{
	struct ublksrv_ctrl_dev_info info = {
		.nr_hw_queues = (uint16_t)o->queues,
		.queue_depth = (uint16_t)o->depth,
		.max_io_buf_bytes = IO_BYTES_MAX,
		.dev_id = UINT32_MAX,
		.ublksrv_pid = getpid(),
		.flags = UBLK_F_USER_COPY | UBLK_F_CMD_IOCTL_ENCODE,
	};
	uint64_t features = 0;
	int r;

	r = ctrl(UBLK_U_CMD_GET_FEATURES, UINT32_MAX, &features, UBLK_FEATURES_LEN, 0);
	if (r < 0)
		errx(1, "GET_FEATURES: %s", strerror(-r));
	if (o->recovery)
		info.flags |= UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;
	if (!o->part_scan)
		info.flags |= features & UBLK_F_NO_AUTO_PART_SCAN;
	if (o->flags)
		info.flags = o->flags;
	r = ctrl(UBLK_U_CMD_ADD_DEV, UINT32_MAX, &info, sizeof(info), 0);
	if (r < 0)
		errx(1, "ADD_DEV: %s", strerror(-r));
	return info;
}

/*
 * The device of a server that died. It is quiesced, and START_USER_RECOVERY not refused with EBUSY,
 * soon after the last of that process is gone.
 */
static struct ublksrv_ctrl_dev_info dev_take_over(const struct options *o)
{
	uint64_t deadline = now_ns() + 30 * NSEC_PER_SEC;
	struct ublksrv_ctrl_dev_info info;
	int r;

	do {
		r = ctrl(UBLK_U_CMD_START_USER_RECOVERY, (uint32_t)o->recover, NULL, 0, 0);
	} while (r == -EBUSY && now_ns() < deadline && !usleep(5000));
	if (r < 0)
		errx(1, "START_USER_RECOVERY: %s", strerror(-r));
	memset(&info, 0, sizeof(info));
	r = ctrl(UBLK_U_CMD_GET_DEV_INFO, (uint32_t)o->recover, &info, sizeof(info), 0);
	if (r < 0)
		errx(1, "GET_DEV_INFO: %s", strerror(-r));
	return info;
}

struct bare_dev {
	struct ublksrv_ctrl_dev_info info;
	struct bare_queue *queues;
	int cdev_fd;
};

static void armed_wait(sem_t *armed, unsigned int queues)
{
	for (unsigned int i = 0; i < queues; i++)
		while (sem_wait(armed) < 0 && errno == EINTR)
			;
}

static void dev_start(const struct options *o, int file_fd, struct bare_dev *dev)
{
	bool recover = o->recover != UNSET;
	bool bad = o->hold_ms || o->self_deadlock || o->child_deadlock;
	unsigned int late, nr;
	sem_t armed;
	int r;

	dev->info = recover ? dev_take_over(o) : dev_add(o);
	nr = dev->info.nr_hw_queues;
	late = o->arm_delay_queue < nr ? (unsigned int)o->arm_delay_queue : nr - 1;
	dev->cdev_fd = cdev_open(dev->info.dev_id);
	r = recover ? 0 : dev_set_params(dev->info.dev_id, o->size_bytes);
	if (r < 0)
		errx(1, "SET_PARAMS: %s", strerror(-r));
	dev->queues = calloc(nr, sizeof(*dev->queues));
	if (!dev->queues)
		err(1, "queues");
	sem_init(&armed, 0, 0);
	for (unsigned int i = 0; i < nr; i++) {
		dev->queues[i] = (struct bare_queue){
			.index = i,
			.depth = dev->info.queue_depth,
			.dev_id = dev->info.dev_id,
			.cdev_fd = dev->cdev_fd,
			.file_fd = file_fd,
			.delay_ms = i == late ? (unsigned int)o->arm_delay_ms : 0,
			.part_scan = o->part_scan,
			.bad = bad ? o : NULL,
			.hold = {.tv_sec = (long long)(o->hold_ms / 1000),
				 .tv_nsec = (long long)(o->hold_ms % 1000 * NSEC_PER_MSEC)},
			.armed = &armed,
		};
		r = pthread_create(&dev->queues[i].thread, NULL, queue_main, &dev->queues[i]);
		if (r)
			errx(1, "queue %u: %s", i, strerror(r));
	}
	/* A late queue is there to make START_DEV wait. */
	if (!o->arm_delay_ms)
		armed_wait(&armed, nr);
	r = ctrl(recover ? UBLK_U_CMD_END_USER_RECOVERY : UBLK_U_CMD_START_DEV, dev->info.dev_id,
		 NULL, 0, (uint64_t)getpid());
	if (r < 0)
		errx(1, "%s: %s", recover ? "END_USER_RECOVERY" : "START_DEV", strerror(-r));
	if (o->arm_delay_ms)
		armed_wait(&armed, nr);
	sem_destroy(&armed);
	printf("/dev/ublkb%u\n", dev->info.dev_id);
	fflush(stdout);
}

static void dev_remove(struct bare_dev *dev)
{
	int r = ctrl(UBLK_U_CMD_STOP_DEV, dev->info.dev_id, NULL, 0, 0);

	if (r < 0)
		errx(1, "STOP_DEV: %s", strerror(-r));
	for (unsigned int i = 0; i < dev->info.nr_hw_queues; i++)
		pthread_join(dev->queues[i].thread, NULL);
	close(dev->cdev_fd);
	r = ctrl(UBLK_U_CMD_DEL_DEV, dev->info.dev_id, NULL, 0, 0);
	if (r < 0)
		errx(1, "DEL_DEV: %s", strerror(-r));
	free(dev->queues);
}

static void obey_commands(const struct options *o, int file_fd)
{
	struct bare_dev dev;
	bool there = false;
	char line[32];

	while (fgets(line, sizeof(line), stdin)) {
		if (!strcmp(line, "add\n") && !there) {
			dev_start(o, file_fd, &dev);
			there = true;
		} else if (!strcmp(line, "del\n") && there) {
			dev_remove(&dev);
			there = false;
			puts("gone");
			fflush(stdout);
		} else {
			errx(2, "bad command: %s", line);
		}
	}
	if (there)
		dev_remove(&dev);
}

int main(int argc, char **argv)
{
	struct options o = {.queues = 2, .depth = 64, .arm_delay_queue = UNSET, .recover = UNSET};
	struct bare_dev dev;
	int file_fd, sig;
	sigset_t set;

	options_parse(argc, argv, &o);
	if (!o.loop) {
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigaddset(&set, SIGINT);
		sigprocmask(SIG_BLOCK, &set, NULL);
	}
	file_fd = file_prepare(&o);
	ctrl_open();
	if (o.loop) {
		obey_commands(&o, file_fd);
	} else {
		dev_start(&o, file_fd, &dev);
		sigwait(&set, &sig);
		dev_remove(&dev);
	}
	io_uring_queue_exit(&ctrl_ring);
	close(ctrl_fd);
	close(file_fd);
	return 0;
}
