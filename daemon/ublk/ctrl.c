// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control thread; see ctrl.h. The ring belongs to the thread alone. c->lock guards the queue,
 * the list of commands in flight, and every command's state; it is held for list operations only.
 *
 * A command is referenced by its caller and, until its completion came, by the thread: the kernel
 * may write to cmd->buf as long as the command is in flight, however long its caller is gone.
 */
#include "ublk/ctrl.h"

#include "lib/list.h"
#include "lib/log.h"
#include "lib/spans.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>

#define RING_ENTRIES 64
/*
 * Control commands run on the ring's io-wq, which has few bounded workers by default (four for each
 * CPU). Hung commands must not use them up: one may hang, others go on.
 */
#define IOWQ_WORKERS 256
/* How long a cancelled command has to come back before its caller is told. Measured: 1 ms. */
#define CANCEL_GRACE_NS NSEC_PER_SEC
/* Beyond a command's deadline, its caller waits this long for the control thread's verdict. */
#define CALLER_GRACE_NS (5 * NSEC_PER_SEC)
#define STOP_GRACE_NS   (5 * NSEC_PER_SEC)

enum cmd_state { CMD_QUEUED, CMD_IN_FLIGHT, CMD_DONE };

struct ublk_cmd {
	struct list_head node; /* queue, or in flight */
	int refs;              /* under c->lock */
	enum cmd_state state;
	uint32_t op, dev_id;
	uint64_t data;
	uint16_t len;
	uint64_t queued_ns, submitted_ns, done_ns, deadline_ns;
	bool cancelling;
	bool expired; /* the caller was told -ETIMEDOUT */
	int res;
	const struct ublk_cmd_spec *spec; /* the caller's; gone once it is in flight */
	uint32_t span;                    /* of lib/spans.h; thread's once in flight */
	pthread_cond_t cond;
	uint8_t buf[UBLK_CTRL_BUF_MAX] __attribute__((aligned(8)));
};

struct ublk_ctrl {
	int fd;
	int event_fd;
	pthread_t thread;
	pthread_mutex_t lock;
	struct list_head queue, in_flight;
	bool stop;
	int started; /* 0 not yet, 1, or -errno; with cond */
	pthread_cond_t cond;

	/* Injected failure, for tests: GFS_UBLK_FAIL=NAME:ERRNO[:NTH] in the environment. */
	char fail_name[32];
	int fail_errno;
	unsigned int fail_nth; /* under lock: counts down to the one that fails */

	/* The thread's own. */
	struct io_uring ring;
	uint64_t event_value;
};

/* user_data of what is not a command. */
static char tag_event, tag_cancel;

struct cmd_kind {
	uint32_t op;
	const char *name;
	int event; /* enum timing_event, or -1 */
	bool waits_for_fetches;
};

static const struct cmd_kind kinds[] = {
	{UBLK_U_CMD_GET_FEATURES, "GET_FEATURES", -1, false},
	{UBLK_U_CMD_GET_DEV_INFO, "GET_DEV_INFO", -1, false},
	{UBLK_U_CMD_ADD_DEV, "ADD_DEV", TIMING_UBLK_ADD_DEV, false},
	{UBLK_U_CMD_SET_PARAMS, "SET_PARAMS", TIMING_UBLK_SET_PARAMS, false},
	{UBLK_U_CMD_GET_PARAMS, "GET_PARAMS", -1, false},
	{UBLK_U_CMD_START_DEV, "START_DEV", TIMING_UBLK_START_DEV_COMMAND, true},
	{UBLK_U_CMD_STOP_DEV, "STOP_DEV", TIMING_UBLK_STOP_DEV, false},
	{UBLK_U_CMD_TRY_STOP_DEV, "TRY_STOP_DEV", TIMING_UBLK_STOP_DEV, false},
	{UBLK_U_CMD_DEL_DEV, "DEL_DEV", TIMING_UBLK_DEL_DEV, false},
	{UBLK_U_CMD_DEL_DEV_ASYNC, "DEL_DEV_ASYNC", TIMING_UBLK_DEL_DEV, false},
	{UBLK_U_CMD_START_USER_RECOVERY, "START_USER_RECOVERY", -1, false},
	{UBLK_U_CMD_END_USER_RECOVERY, "END_USER_RECOVERY", -1, true},
};

static const struct cmd_kind *cmd_kind(uint32_t op)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].op == op)
			return &kinds[i];
	return NULL;
}

const char *ublk_cmd_name(uint32_t op)
{
	const struct cmd_kind *k = cmd_kind(op);

	return k ? k->name : "unknown command";
}

static void ctrl_wake(struct ublk_ctrl *c)
{
	uint64_t one = 1;

	while (write(c->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* Under c->lock. */
static void cmd_put(struct ublk_cmd *cmd)
{
	if (--cmd->refs)
		return;
	pthread_cond_destroy(&cmd->cond);
	free(cmd);
}

/* ---- the control thread ---- */

static struct io_uring_sqe *ctrl_sqe(struct ublk_ctrl *c)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&c->ring)))
		io_uring_submit(&c->ring);
	/* An SQE of this ring has 128 bytes. */
	memset(sqe, 0, 2 * sizeof(*sqe));
	return sqe;
}

static void event_arm(struct ublk_ctrl *c)
{
	struct io_uring_sqe *sqe = ctrl_sqe(c);

	io_uring_prep_read(sqe, c->event_fd, &c->event_value, sizeof(c->event_value), 0);
	io_uring_sqe_set_data(sqe, &tag_event);
}

/* The step that the command is in from now to the next such call, for whoever looks from outside.
 */
static void cmd_step(struct ublk_cmd *cmd, int event, uint64_t start_ns)
{
	const struct timing_rec rec = {
		.event = (enum timing_event)event,
		.op_id = cmd->spec->op_id,
		.start_ns = start_ns,
		.export_ = cmd->spec->volume,
		.dev_id = (int)cmd->dev_id,
	};

	span_close(cmd->span);
	cmd->span = event < 0 ? 0 : span_open(&rec);
}

static void cmd_submit(struct ublk_ctrl *c, struct ublk_cmd *cmd)
{
	const struct cmd_kind *k = cmd_kind(cmd->op);
	const struct ublksrv_ctrl_cmd payload = {
		.dev_id = cmd->dev_id,
		.queue_id = UINT16_MAX,
		.len = cmd->len,
		.addr = cmd->len ? (uintptr_t)cmd->buf : 0,
		.data[0] = cmd->data,
	};
	struct io_uring_sqe *sqe = ctrl_sqe(c);

	sqe->opcode = IORING_OP_URING_CMD;
	/*
	 * 6.12 hands a command to io-wq without moving it off the ring: the driver reads dev_id and
	 * addr of whatever is in that SQE by then, and RING_ENTRIES commands later it is another's.
	 * A command that is asynchronous from the start is copied before submission returns.
	 */
	sqe->flags = IOSQE_ASYNC;
	sqe->fd = c->fd;
	sqe->cmd_op = cmd->op;
	memcpy(&sqe->addr3, &payload, sizeof(payload));
	io_uring_sqe_set_data(sqe, cmd);
	cmd->submitted_ns = now_ns();
	cmd_step(cmd, k ? k->event : -1, cmd->submitted_ns);
	cmd->spec = NULL;
}

static void cmd_cancel(struct ublk_ctrl *c, struct ublk_cmd *cmd)
{
	struct io_uring_sqe *sqe = ctrl_sqe(c);

	io_uring_prep_cancel(sqe, cmd, 0);
	io_uring_sqe_set_data(sqe, &tag_cancel);
	cmd->cancelling = true;
	cmd->deadline_ns = now_ns() + CANCEL_GRACE_NS;
}

static void cmd_complete(struct ublk_ctrl *c __unused, struct ublk_cmd *cmd, int res)
{
	cmd->done_ns = now_ns();
	cmd->res = res;
	cmd->state = CMD_DONE;
	span_close(cmd->span);
	list_del(&cmd->node);
	if (cmd->expired)
		log_info("ublk: %s of device %d came back with %d, %.1f s after it was sent",
			 ublk_cmd_name(cmd->op), (int)cmd->dev_id, res,
			 (double)(cmd->done_ns - cmd->submitted_ns) / 1e9);
	pthread_cond_broadcast(&cmd->cond);
	cmd_put(cmd);
}

/* Act on deadlines that passed; returns the next one, UINT64_MAX if there is none. */
static uint64_t ctrl_deadlines(struct ublk_ctrl *c)
{
	uint64_t now = now_ns(), next = UINT64_MAX;
	struct ublk_cmd *cmd;

	list_for_each_entry (cmd, &c->in_flight, node) {
		const struct cmd_kind *k = cmd_kind(cmd->op);

		if (cmd->expired)
			continue;
		if (now >= cmd->deadline_ns) {
			if (k && k->waits_for_fetches && !cmd->cancelling) {
				cmd_cancel(c, cmd);
			} else {
				cmd->expired = true;
				pthread_cond_broadcast(&cmd->cond);
				continue;
			}
		}
		next = MIN(next, cmd->deadline_ns);
	}
	return next;
}

/* Submit what is queued. Under c->lock, dropped by nobody: submission never waits for a command. */
static void ctrl_queue_run(struct ublk_ctrl *c)
{
	while (!list_empty(&c->queue)) {
		struct ublk_cmd *cmd = list_first_entry(&c->queue, struct ublk_cmd, node);

		list_del(&cmd->node);
		list_add_tail(&cmd->node, &c->in_flight);
		cmd->state = CMD_IN_FLIGHT;
		cmd_submit(c, cmd);
	}
}

static int ctrl_ring_setup(struct ublk_ctrl *c)
{
	static const unsigned int flags[] = {
		IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_SQE128,
	};
	unsigned int workers[2] = {IOWQ_WORKERS, 0};
	int r = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(flags) && r == -EINVAL; i++) {
		struct io_uring_params p = {.flags = flags[i]};

		r = io_uring_queue_init_params(RING_ENTRIES, &c->ring, &p);
	}
	if (r < 0)
		return r;
	r = io_uring_register_iowq_max_workers(&c->ring, workers);
	if (r < 0) {
		io_uring_queue_exit(&c->ring);
		return r;
	}
	return 0;
}

static void ctrl_cqe(struct ublk_ctrl *c, const struct io_uring_cqe *cqe)
{
	void *data = io_uring_cqe_get_data(cqe);

	if (data == &tag_event)
		event_arm(c);
	else if (data && data != &tag_cancel)
		cmd_complete(c, data, cqe->res);
}

static void ctrl_started(struct ublk_ctrl *c, int r)
{
	pthread_mutex_lock(&c->lock);
	c->started = r;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void *ctrl_main(void *arg)
{
	struct ublk_ctrl *c = arg;
	uint64_t give_up_ns = UINT64_MAX;
	int r;

	prctl(PR_SET_NAME, "gfs-ctrl");
	r = ctrl_ring_setup(c);
	if (r < 0) {
		ctrl_started(c, r);
		return NULL;
	}
	event_arm(c);
	ctrl_started(c, 1);

	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct io_uring_cqe *cqe;
		struct __kernel_timespec ts;
		uint64_t next, now;
		unsigned int head, n = 0;

		ctrl_queue_run(c);
		next = ctrl_deadlines(c);
		now = now_ns();
		if (c->stop) {
			if (give_up_ns == UINT64_MAX)
				give_up_ns = now + STOP_GRACE_NS;
			if (list_empty(&c->in_flight) || now >= give_up_ns)
				break;
			next = MIN(next, give_up_ns);
		}
		pthread_mutex_unlock(&c->lock);

		now = next > now ? next - now : 0;
		ts.tv_sec = (long long)(now / NSEC_PER_SEC);
		ts.tv_nsec = (long long)(now % NSEC_PER_SEC);
		r = io_uring_submit_and_wait_timeout(&c->ring, &cqe, 1,
						     next == UINT64_MAX ? NULL : &ts, NULL);
		if (r < 0 && r != -ETIME && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
			log_err("ublk: control ring failed (%s); giving up", strerror(-r));
			abort();
		}

		pthread_mutex_lock(&c->lock);
		io_uring_for_each_cqe(&c->ring, head, cqe)
		{
			n++;
			ctrl_cqe(c, cqe);
		}
		io_uring_cq_advance(&c->ring, n);
	}
	pthread_mutex_unlock(&c->lock);
	/* What the kernel still holds keeps its memory: it may be written to even now. */
	io_uring_queue_exit(&c->ring);
	return NULL;
}

/* ---- callers ---- */

static void fault_read(struct ublk_ctrl *c)
{
	const char *rule = getenv("GFS_UBLK_FAIL");

	if (rule &&
	    sscanf(rule, "%31[A-Z_]:%d:%u", c->fail_name, &c->fail_errno, &c->fail_nth) == 2)
		c->fail_nth = 1;
}

/* Under c->lock. */
static bool fault_hits(struct ublk_ctrl *c, uint32_t op)
{
	return c->fail_nth && !strcmp(c->fail_name, ublk_cmd_name(op)) && --c->fail_nth == 0;
}

int ublk_ctrl_create(struct ublk_ctrl **out)
{
	struct ublk_ctrl *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	cond_init_mono(&c->cond);
	list_init(&c->queue);
	list_init(&c->in_flight);
	fault_read(c);
	c->event_fd = -1;
	c->fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	if (c->fd < 0) {
		r = errno == ENOENT || errno == ENXIO ? -ENODEV : -errno;
		goto err;
	}
	c->event_fd = eventfd(0, EFD_CLOEXEC);
	if (c->event_fd < 0) {
		r = -errno;
		goto err;
	}
	r = -pthread_create(&c->thread, NULL, ctrl_main, c);
	if (r)
		goto err;
	pthread_mutex_lock(&c->lock);
	while (!c->started)
		pthread_cond_wait(&c->cond, &c->lock);
	r = c->started;
	pthread_mutex_unlock(&c->lock);
	if (r < 0) {
		pthread_join(c->thread, NULL);
		goto err;
	}
	*out = c;
	return 0;
err:
	if (c->event_fd >= 0)
		close(c->event_fd);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
	return r;
}

void ublk_ctrl_destroy(struct ublk_ctrl *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_mutex_unlock(&c->lock);
	ctrl_wake(c);
	pthread_join(c->thread, NULL);
	close(c->event_fd);
	close(c->fd);
	if (!list_empty(&c->in_flight)) {
		struct ublk_cmd *cmd;

		list_for_each_entry (cmd, &c->in_flight, node)
			log_warn("ublk: %s of device %d never came back", ublk_cmd_name(cmd->op),
				 (int)cmd->dev_id);
		/* The list's head is in c. */
		return;
	}
	pthread_cond_destroy(&c->cond);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void cmd_timing(const struct ublk_cmd_spec *spec, const struct ublk_cmd *cmd, int res)
{
	const struct cmd_kind *k = cmd_kind(spec->op);
	int dev_id = (int)spec->dev_id;
	struct timing_rec rec;

	if (!k || k->event < 0)
		return;
	if (spec->op == UBLK_U_CMD_ADD_DEV && res >= 0) {
		struct ublksrv_ctrl_dev_info info;

		memcpy(&info, cmd->buf, sizeof(info));
		dev_id = (int)info.dev_id;
	}
	rec = (struct timing_rec){
		.event = (enum timing_event)k->event,
		.op_id = spec->op_id,
		.start_ns = cmd->submitted_ns ? cmd->submitted_ns : cmd->queued_ns,
		.end_ns = cmd->done_ns,
		.export_ = spec->volume,
		.dev_id = dev_id,
		.result = res < 0 ? res : 0,
	};
	if (spec->op == UBLK_U_CMD_START_DEV) {
		struct timing_rec wait = rec;

		wait.event = TIMING_UBLK_START_DEV_WAIT;
		wait.start_ns = cmd->queued_ns;
		wait.end_ns = cmd->submitted_ns;
		wait.result = cmd->submitted_ns ? 0 : res;
		timing_emit(&wait);
	}
	timing_emit(&rec);
}

/* Wait for a verdict: the result, or -ETIMEDOUT. Under c->lock. */
static int cmd_wait(struct ublk_ctrl *c, struct ublk_cmd *cmd, uint64_t until_ns)
{
	while (cmd->state != CMD_DONE && !cmd->expired)
		if (cond_wait_until(&cmd->cond, &c->lock, until_ns) == -ETIMEDOUT)
			break;
	if (cmd->state == CMD_DONE) {
		/* Cancelled by us: in the driver, or before an io-wq thread took it there. */
		if (cmd->cancelling && (cmd->res == -EINTR || cmd->res == -ECANCELED))
			return -ETIMEDOUT;
		return cmd->res;
	}
	if (cmd->state == CMD_QUEUED) {
		/* The control thread did not come to it: then it never shall. */
		list_del(&cmd->node);
		cmd->state = CMD_DONE;
		cmd->res = -ETIMEDOUT;
		span_close(cmd->span);
		cmd_put(cmd);
	}
	cmd->expired = true;
	return -ETIMEDOUT;
}

int ublk_ctrl_run(struct ublk_ctrl *c, const struct ublk_cmd_spec *spec, struct ublk_cmd **late)
{
	struct ublk_cmd *cmd;
	int r;

	if (late)
		*late = NULL;
	if (spec->len > UBLK_CTRL_BUF_MAX)
		return -EINVAL;
	cmd = calloc(1, sizeof(*cmd));
	if (!cmd)
		return -ENOMEM;
	cond_init_mono(&cmd->cond);
	cmd->refs = 2;
	cmd->op = spec->op;
	cmd->dev_id = spec->dev_id;
	cmd->spec = spec;
	cmd->data = spec->data;
	cmd->len = spec->len;
	if (spec->len)
		memcpy(cmd->buf, spec->buf, spec->len);
	cmd->queued_ns = now_ns();
	cmd->deadline_ns = cmd->queued_ns + spec->timeout_ns;

	pthread_mutex_lock(&c->lock);
	if (unlikely(fault_hits(c, cmd->op))) {
		r = -c->fail_errno;
		cmd_timing(spec, cmd, r);
		cmd->refs = 1;
		cmd_put(cmd);
		pthread_mutex_unlock(&c->lock);
		return r;
	}
	if (cmd->op == UBLK_U_CMD_START_DEV)
		cmd_step(cmd, TIMING_UBLK_START_DEV_WAIT, cmd->queued_ns);
	list_add_tail(&cmd->node, &c->queue);
	ctrl_wake(c);
	r = cmd_wait(c, cmd, cmd->deadline_ns + CALLER_GRACE_NS);
	if (r >= 0 && spec->len)
		memcpy(spec->buf, cmd->buf, spec->len);
	cmd_timing(spec, cmd, r);
	if (r == -ETIMEDOUT && cmd->state == CMD_IN_FLIGHT && late)
		*late = cmd;
	else
		cmd_put(cmd);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int ublk_ctrl_wait(struct ublk_ctrl *c, struct ublk_cmd *late, uint64_t timeout_ns)
{
	uint64_t until = now_ns() + timeout_ns;
	int r;

	pthread_mutex_lock(&c->lock);
	while (late->state != CMD_DONE)
		if (cond_wait_until(&late->cond, &c->lock, until) == -ETIMEDOUT)
			break;
	if (late->state == CMD_DONE) {
		r = late->res;
		cmd_put(late);
	} else {
		r = -ETIMEDOUT;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

void ublk_ctrl_forget(struct ublk_ctrl *c, struct ublk_cmd *late)
{
	if (!late)
		return;
	pthread_mutex_lock(&c->lock);
	cmd_put(late);
	pthread_mutex_unlock(&c->lock);
}

void ublk_ctrl_cancel_start(struct ublk_ctrl *c, uint32_t dev_id)
{
	struct ublk_cmd *cmd;

	pthread_mutex_lock(&c->lock);
	list_for_each_entry (cmd, &c->queue, node)
		if (cmd->dev_id == dev_id && cmd_kind(cmd->op)->waits_for_fetches)
			cmd->deadline_ns = 0;
	/* The deadline does the rest: one place that cancels. */
	list_for_each_entry (cmd, &c->in_flight, node)
		if (cmd->dev_id == dev_id && cmd_kind(cmd->op)->waits_for_fetches &&
		    !cmd->cancelling)
			cmd->deadline_ns = 0;
	pthread_mutex_unlock(&c->lock);
	ctrl_wake(c);
}
