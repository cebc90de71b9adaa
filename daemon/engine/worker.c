// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Worker threads and their rings; see worker.h. All state of a worker belongs to its own thread,
 * but the message stack (lock-free, many producers) and its eventfd.
 */
#include "engine/worker.h"

#include "lib/log.h"
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define RING_CQ_ENTRIES 16384
#define FIXED_FILES_MAX 32768
#define SMALL_BUF_BYTES (16 * KiB)
#define SMALL_BUFS      128
#define LARGE_BUFS      12

void (*worker_pause_hook)(unsigned int index);

/* One size class of I/O buffers: a mapping cut into pieces, and a LIFO of free ones. */
struct buf_class {
	uint8_t *base;
	size_t each;
	unsigned int nr, nr_free;
	void *free[SMALL_BUFS];
	struct list_head waiters;
};

struct deferred {
	struct worker_op *op;
	int res;
};

struct worker {
	struct io_uring ring;
	unsigned int index;
	pid_t tid;
	pthread_t thread;
	int lock_fd;
	uint64_t now;

	struct worker_msg *msgs; /* atomic stack */
	int event_fd;
	uint64_t event_value;
	struct worker_op event_op;
	bool stop;

	int *free_slots;
	unsigned int nr_free_slots;

	struct buf_class small, large;

	struct deferred *deferred;
	unsigned int nr_deferred, cap_deferred;

	/* Start-up handshake. */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int started; /* 0 not yet, 1 yes, negative errno */
};

static int cap_effective_set(unsigned int cap, bool on)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2];

	/* The raw calls act on this thread alone, which is the point. */
	if (syscall(SYS_capget, &hdr, data) < 0)
		return -errno;
	if (on && !(data[cap / 32].permitted & (1u << (cap % 32))))
		return -EPERM;
	if (on)
		data[cap / 32].effective |= 1u << (cap % 32);
	else
		data[cap / 32].effective &= ~(1u << (cap % 32));
	return syscall(SYS_capset, &hdr, data) < 0 ? -errno : 0;
}

int worker_cap_sys_admin(struct worker *w __unused, bool on)
{
	return cap_effective_set(CAP_SYS_ADMIN, on);
}

static int buf_class_init(struct buf_class *c, size_t each, unsigned int nr)
{
	c->base = mmap(NULL, each * nr, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->base == MAP_FAILED) {
		c->base = NULL;
		return -errno;
	}
	c->each = each;
	c->nr = nr;
	list_init(&c->waiters);
	/* Last in, first out from the low end: an idle daemon touches few of them. */
	for (unsigned int i = 0; i < nr; i++)
		c->free[c->nr_free++] = c->base + each * (nr - 1 - i);
	return 0;
}

static struct buf_class *buf_class_of(struct worker *w, uint32_t len)
{
	return len <= w->small.each ? &w->small : &w->large;
}

void *worker_buf_get(struct worker *w, uint32_t len)
{
	struct buf_class *c = buf_class_of(w, len);

	if (!c->nr_free || len > c->each)
		return NULL;
	return c->free[--c->nr_free];
}

void worker_buf_put(struct worker *w, void *buf)
{
	uint8_t *p = buf;
	struct buf_class *c = p >= w->small.base && p < w->small.base + w->small.each * w->small.nr
				      ? &w->small
				      : &w->large;

	c->free[c->nr_free++] = buf;
	if (!list_empty(&c->waiters)) {
		struct worker_buf_wait *wait =
			list_first_entry(&c->waiters, struct worker_buf_wait, node);

		list_del(&wait->node);
		wait->run(w, wait);
	}
}

void worker_buf_wait(struct worker *w, uint32_t len, struct worker_buf_wait *wait)
{
	list_add_tail(&wait->node, &buf_class_of(w, len)->waiters);
}

void worker_post(struct worker *w, struct worker_msg *msg)
{
	struct worker_msg *head = __atomic_load_n(&w->msgs, __ATOMIC_RELAXED);

	do {
		msg->next = head;
	} while (!__atomic_compare_exchange_n(&w->msgs, &head, msg, true, __ATOMIC_RELEASE,
					      __ATOMIC_RELAXED));
	/* Only the first message of a batch needs to wake: the worker takes all of them at once. */
	if (!head) {
		uint64_t one = 1;

		while (write(w->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
}

static void run_messages(struct worker *w)
{
	struct worker_msg *m = __atomic_exchange_n(&w->msgs, NULL, __ATOMIC_ACQUIRE), *fifo = NULL;

	while (m) {
		struct worker_msg *next = m->next;

		m->next = fifo;
		fifo = m;
		m = next;
	}
	while (fifo) {
		struct worker_msg *next = fifo->next;

		fifo->run(w, fifo);
		fifo = next;
	}
}

struct worker_call_msg {
	struct worker_msg msg;
	int (*fn)(struct worker *w, void *arg);
	void *arg;
	int res;
	bool done;
	pthread_mutex_t lock;
	pthread_cond_t cond;
};

static void worker_call_run(struct worker *w, struct worker_msg *msg)
{
	struct worker_call_msg *c = container_of(msg, struct worker_call_msg, msg);
	int r = c->fn(w, c->arg);

	pthread_mutex_lock(&c->lock);
	c->res = r;
	c->done = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

int worker_call(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg)
{
	struct worker_call_msg c = {
		.msg.run = worker_call_run,
		.fn = fn,
		.arg = arg,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.cond = PTHREAD_COND_INITIALIZER,
	};

	worker_post(w, &c.msg);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.cond, &c.lock);
	pthread_mutex_unlock(&c.lock);
	return c.res;
}

int worker_flush(struct worker *w)
{
	int r;

	do {
		r = io_uring_submit(&w->ring);
	} while (r == -EINTR || r == -EAGAIN || r == -EBUSY);
	return r < 0 ? r : 0;
}

struct io_uring_sqe *worker_sqe(struct worker *w)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&w->ring))) {
		int r = worker_flush(w);

		if (r < 0) {
			/* A ring that refuses submissions serves nobody; the next daemon recovers.
			 */
			log_err("worker %u: io_uring_submit failed (%s); giving up", w->index,
				strerror(-r));
			abort();
		}
	}
	return sqe;
}

void worker_complete(struct worker *w, struct worker_op *op, int res)
{
	if (w->nr_deferred == w->cap_deferred) {
		unsigned int cap = MAX(64u, 2 * w->cap_deferred);
		struct deferred *d = realloc(w->deferred, cap * sizeof(*d));

		if (!d)
			abort();
		w->deferred = d;
		w->cap_deferred = cap;
	}
	w->deferred[w->nr_deferred++] = (struct deferred){.op = op, .res = res};
}

static void run_deferred(struct worker *w)
{
	unsigned int n = w->nr_deferred;
	struct deferred *d;

	if (!n)
		return;
	/* A handler may defer more: those run in the next turn. */
	d = w->deferred;
	w->deferred = NULL;
	w->nr_deferred = w->cap_deferred = 0;
	for (unsigned int i = 0; i < n; i++)
		d[i].op->done(w, d[i].op, d[i].res);
	free(d);
}

uint64_t worker_now(const struct worker *w)
{
	return w->now;
}

unsigned int worker_index(const struct worker *w)
{
	return w->index;
}

pid_t worker_tid(const struct worker *w)
{
	return w->tid;
}

int worker_file_install(struct worker *w, int fd)
{
	int slot, r;

	if (!w->nr_free_slots)
		return -ENFILE;
	slot = w->free_slots[w->nr_free_slots - 1];
	r = io_uring_register_files_update(&w->ring, (unsigned int)slot, &fd, 1);
	if (r < 0)
		return r;
	w->nr_free_slots--;
	return slot;
}

void worker_file_remove(struct worker *w, int slot)
{
	int none = -1;
	int r = io_uring_register_files_update(&w->ring, (unsigned int)slot, &none, 1);

	if (r < 0) {
		log_err("worker %u: cannot drop fixed file %d: %s", w->index, slot, strerror(-r));
		return;
	}
	w->free_slots[w->nr_free_slots++] = slot;
}

static void event_arm(struct worker *w)
{
	struct io_uring_sqe *sqe = worker_sqe(w);

	io_uring_prep_read(sqe, w->event_fd, &w->event_value, sizeof(w->event_value), 0);
	worker_sqe_op(sqe, &w->event_op);
}

static void event_done(struct worker *w, struct worker_op *op __unused, int res __unused)
{
	event_arm(w);
}

static int ring_setup(struct worker *w)
{
	/* Preferred first; older kernels answer EINVAL. */
	static const unsigned int flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CQSIZE,
		IORING_SETUP_CQSIZE,
	};
	struct rlimit rl;
	unsigned int nr_files = FIXED_FILES_MAX;
	int r = -EINVAL;

	for (size_t i = 0; i < ARRAY_SIZE(flags) && r == -EINVAL; i++) {
		struct io_uring_params p = {.flags = flags[i], .cq_entries = RING_CQ_ENTRIES};

		r = io_uring_queue_init_params(WORKER_SQ_ENTRIES, &w->ring, &p);
	}
	if (r < 0)
		return r;
	/* The kernel bounds the table by RLIMIT_NOFILE. */
	if (!getrlimit(RLIMIT_NOFILE, &rl) && rl.rlim_cur < nr_files)
		nr_files = (unsigned int)rl.rlim_cur;
	r = io_uring_register_files_sparse(&w->ring, nr_files);
	if (r < 0)
		goto err;
	w->free_slots = malloc(nr_files * sizeof(*w->free_slots));
	if (!w->free_slots) {
		r = -ENOMEM;
		goto err;
	}
	/* Slot 0 is the lock's; hand out low numbers first. */
	for (unsigned int i = nr_files - 1; i > 0; i--)
		w->free_slots[w->nr_free_slots++] = (int)i;
	if (w->lock_fd >= 0) {
		r = io_uring_register_files_update(&w->ring, 0, &w->lock_fd, 1);
		if (r < 0)
			goto err;
	}
	return 0;
err:
	free(w->free_slots);
	w->free_slots = NULL;
	io_uring_queue_exit(&w->ring);
	return r;
}

static void worker_started(struct worker *w, int res)
{
	pthread_mutex_lock(&w->lock);
	w->started = res;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "gfs-w%u", w->index);
	prctl(PR_SET_NAME, name);
	w->tid = (pid_t)syscall(SYS_gettid);
	r = cap_effective_set(CAP_SYS_ADMIN, false);
	if (r < 0)
		log_warn("%s: cannot drop CAP_SYS_ADMIN (%s); the kernel will scan partitions",
			 name, strerror(-r));
	r = ring_setup(w);
	if (r < 0) {
		worker_started(w, r);
		return NULL;
	}
	w->event_op.done = event_done;
	event_arm(w);
	worker_started(w, 1);

	while (!w->stop) {
		struct io_uring_cqe *cqe;
		unsigned int head, n = 0;
		bool busy = w->nr_deferred || __atomic_load_n(&w->msgs, __ATOMIC_RELAXED);

		r = io_uring_submit_and_wait(&w->ring, busy ? 0 : 1);
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY && r != -ETIME) {
			log_err("worker %u: io_uring_enter failed (%s); giving up", w->index,
				strerror(-r));
			abort();
		}
		worker_pause(w->index);
		w->now = now_ns();
		io_uring_for_each_cqe(&w->ring, head, cqe)
		{
			struct worker_op *op = io_uring_cqe_get_data(cqe);

			n++;
			if (op)
				op->done(w, op, cqe->res);
		}
		io_uring_cq_advance(&w->ring, n);
		run_messages(w);
		run_deferred(w);
	}
	io_uring_queue_exit(&w->ring);
	return NULL;
}

static void worker_free(struct worker *w)
{
	if (w->event_fd >= 0)
		close(w->event_fd);
	if (w->small.base)
		munmap(w->small.base, w->small.each * w->small.nr);
	if (w->large.base)
		munmap(w->large.base, w->large.each * w->large.nr);
	free(w->deferred);
	free(w->free_slots);
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static int worker_start(unsigned int index, int lock_fd, struct worker **out)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->index = index;
	w->lock_fd = lock_fd;
	pthread_mutex_init(&w->lock, NULL);
	cond_init_mono(&w->cond);
	w->event_fd = eventfd(0, EFD_CLOEXEC);
	if (w->event_fd < 0) {
		r = -errno;
		goto err;
	}
	r = buf_class_init(&w->small, SMALL_BUF_BYTES, SMALL_BUFS);
	if (!r)
		r = buf_class_init(&w->large, WORKER_BUF_MAX, LARGE_BUFS);
	if (r)
		goto err;
	r = -pthread_create(&w->thread, NULL, worker_main, w);
	if (r)
		goto err;
	pthread_mutex_lock(&w->lock);
	while (!w->started)
		pthread_cond_wait(&w->cond, &w->lock);
	r = w->started;
	pthread_mutex_unlock(&w->lock);
	if (r < 0) {
		pthread_join(w->thread, NULL);
		goto err;
	}
	*out = w;
	return 0;
err:
	worker_free(w);
	return r;
}

int workers_create(unsigned int nr, int lock_fd, struct workers **out)
{
	struct workers *ws;

	if (!nr || nr > 64)
		return -EINVAL;
	ws = calloc(1, sizeof(*ws) + nr * sizeof(ws->w[0]));
	if (!ws)
		return -ENOMEM;
	for (; ws->nr < nr; ws->nr++) {
		int r = worker_start(ws->nr, lock_fd, &ws->w[ws->nr]);

		if (r) {
			log_err("worker %u: cannot start: %s", ws->nr, strerror(-r));
			workers_destroy(ws);
			return r;
		}
	}
	*out = ws;
	return 0;
}

static int worker_stop_fn(struct worker *w, void *arg __unused)
{
	w->stop = true;
	return 0;
}

void workers_destroy(struct workers *ws)
{
	if (!ws)
		return;
	for (unsigned int i = 0; i < ws->nr; i++) {
		worker_call(ws->w[i], worker_stop_fn, NULL);
		pthread_join(ws->w[i]->thread, NULL);
		worker_free(ws->w[i]);
	}
	free(ws);
}
