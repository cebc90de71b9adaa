// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A late FETCH is impossible: a queue that exists on a worker is armed before that worker can wait,
 * and a queue whose adding was given up never arms.
 *
 * The calls into liburing that can enter the kernel are wrapped (the executable's symbols come
 * first), so the test sees what a worker submits and when it waits. A plain file stands in for the
 * char device: it refuses each FETCH, after that was submitted.
 */
#include "engine/worker.h"
#include "ublk/queue.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <cmocka.h>

#define EVENTS_MAX 4096
#define SOON_NS    (60 * NSEC_PER_SEC)

enum event_kind { EVENT_INSTALL, EVENT_SUBMIT, EVENT_WAIT };

/* What a worker did, in order. Written by the one worker of a test, read when it is gone. */
struct event {
	enum event_kind kind;
	unsigned int fetches; /* prepared FETCHes that this call submits */
};

static struct event events[EVENTS_MAX];
static unsigned int nr_events;
static unsigned int refused; /* atomic */

static struct event *event_add(enum event_kind kind)
{
	struct event *e = &events[MIN(nr_events, EVENTS_MAX - 1u)];

	nr_events++;
	*e = (struct event){.kind = kind};
	return e;
}

static unsigned int prepared_fetches(const struct io_uring *ring)
{
	unsigned int n = 0;

	for (unsigned int i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++)
		n += ring->sq.sqes[i & ring->sq.ring_mask].opcode == IORING_OP_URING_CMD;
	return n;
}

int io_uring_submit(struct io_uring *ring)
{
	int (*real)(struct io_uring *) = dlsym(RTLD_NEXT, "io_uring_submit");

	event_add(EVENT_SUBMIT)->fetches = prepared_fetches(ring);
	return real(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned int wait_nr)
{
	int (*real)(struct io_uring *, unsigned int) = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");

	event_add(wait_nr ? EVENT_WAIT : EVENT_SUBMIT)->fetches = prepared_fetches(ring);
	return real(ring, wait_nr);
}

int io_uring_register_files_update(struct io_uring *ring, unsigned int off, const int *files,
				   unsigned int nr)
{
	int (*real)(struct io_uring *, unsigned int, const int *, unsigned int) =
		dlsym(RTLD_NEXT, "io_uring_register_files_update");

	if (nr && files[0] >= 0)
		event_add(EVENT_INSTALL);
	return real(ring, off, files, nr);
}

/* ---- a worker, and a file to play the char device ---- */

struct env {
	struct workers *ws;
	int fd;
};

static sem_t paused, resume;
static bool pause_next; /* atomic */

/* Not a sleep: the test says when the worker goes on. */
static void pause_hook(unsigned int index __unused)
{
	if (!__atomic_exchange_n(&pause_next, false, __ATOMIC_ACQ_REL))
		return;
	sem_post(&paused);
	while (sem_wait(&resume) < 0 && errno == EINTR)
		;
}

static void wake_run(struct worker *w __unused, struct worker_msg *msg)
{
	free(msg);
}

/* The worker is inside its loop and does nothing until resume is posted. */
static void pause_worker(struct env *env)
{
	struct worker_msg *msg = calloc(1, sizeof(*msg));

	assert_non_null(msg);
	msg->run = wake_run;
	__atomic_store_n(&pause_next, true, __ATOMIC_RELEASE);
	worker_post(env->ws->w[0], msg);
	while (sem_wait(&paused) < 0 && errno == EINTR)
		;
}

static int setup(void **state)
{
	struct env *env = calloc(1, sizeof(*env));

	assert_non_null(env);
	sem_init(&paused, 0, 0);
	sem_init(&resume, 0, 0);
	worker_pause_hook = pause_hook;
	nr_events = 0;
	refused = 0;
	assert_int_equal(workers_create(1, -1, &env->ws), 0);
	env->fd = memfd_create("cdev", MFD_CLOEXEC);
	assert_true(env->fd >= 0);
	assert_int_equal(ftruncate(env->fd, 64 * MiB), 0);
	*state = env;
	return 0;
}

static int teardown(void **state)
{
	struct env *env = *state;

	close(env->fd);
	free(env);
	worker_pause_hook = NULL;
	return 0;
}

static void on_refused(void *arg __unused, int err)
{
	if (err != -EOPNOTSUPP)
		print_error("FETCH on a file: %s\n", strerror(-err));
	__atomic_add_fetch(&refused, 1, __ATOMIC_RELAXED);
}

static struct ublk_queue *create(struct env *env, unsigned int index, unsigned int depth)
{
	const struct ublk_queue_config c = {
		.w = env->ws->w[0],
		.cdev_fd = env->fd,
		.index = index,
		.depth = depth,
		.fixed_file = true,
		.refused = on_refused,
	};
	struct ublk_queue *q;

	assert_int_equal(queue_create(&c, &q), 0);
	return q;
}

static struct ublk_queue *arm_start(struct env *env, unsigned int index, unsigned int depth)
{
	struct ublk_queue *q = create(env, index, depth);

	queues_arm(&q, 1);
	return q;
}

static void queue_end(struct ublk_queue *q, bool armed)
{
	if (armed)
		assert_int_equal(queue_wait_drained(q, now_ns() + SOON_NS), 0);
	assert_int_equal(queue_release(q, now_ns() + SOON_NS), 0);
}

/* Each INSTALL must be followed by `depth` submitted FETCHes before anything waits. Counts the
 * queues. */
static unsigned int check_armed_before_wait(unsigned int depth)
{
	unsigned int queues = 0, want = 0;

	assert_true(nr_events <= EVENTS_MAX);
	for (unsigned int i = 0; i < nr_events; i++) {
		const struct event *e = &events[i];

		if (e->kind == EVENT_INSTALL) {
			if (want)
				fail_msg("event %u: a second queue before the first was armed", i);
			queues++;
			want = depth;
		} else if (e->kind == EVENT_WAIT && (want || e->fetches)) {
			fail_msg("event %u: the worker waits with %u FETCHes not submitted", i,
				 want + e->fetches);
		} else {
			if (e->fetches > want)
				fail_msg("event %u: %u FETCHes too many", i, e->fetches - want);
			want -= e->fetches;
		}
	}
	assert_int_equal(want, 0);
	return queues;
}

static void queue_is_armed_before_its_worker_can_wait(void **state)
{
	struct env *env = *state;
	struct ublk_queue *q = arm_start(env, 0, 64);

	assert_int_equal(queue_arm_wait(q, now_ns() + SOON_NS), 0);
	queue_end(q, true);
	workers_destroy(env->ws);
	assert_int_equal(check_armed_before_wait(64), 1);
	assert_int_equal(refused, 64);
}

/* More FETCHes than the ring has entries, of many queues that are added at once. */
static void many_queues_are_armed_one_by_one(void **state)
{
	enum { NR = 24, DEPTH = 300 };
	struct env *env = *state;
	struct ublk_queue *q[NR];

	pause_worker(env);
	for (unsigned int i = 0; i < NR; i++)
		q[i] = arm_start(env, i % 4, DEPTH);
	sem_post(&resume);
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(queue_arm_wait(q[i], now_ns() + SOON_NS), 0);
	for (unsigned int i = 0; i < NR; i++)
		queue_end(q[i], true);
	workers_destroy(env->ws);
	assert_int_equal(check_armed_before_wait(DEPTH), NR);
	assert_int_equal(refused, NR * DEPTH);
}

static void late_worker_still_arms_before_it_waits(void **state)
{
	struct env *env = *state;
	struct ublk_queue *q;

	pause_worker(env);
	q = arm_start(env, 0, 64);
	assert_int_equal(refused, 0);
	sem_post(&resume);
	assert_int_equal(queue_arm_wait(q, now_ns() + SOON_NS), 0);
	queue_end(q, true);
	workers_destroy(env->ws);
	assert_int_equal(check_armed_before_wait(64), 1);
}

static void queue_that_was_given_up_never_arms(void **state)
{
	struct env *env = *state;
	struct ublk_queue *q;

	pause_worker(env);
	q = arm_start(env, 0, 64);
	/* The deadline is over before the worker looks. */
	assert_int_equal(queue_arm_wait(q, now_ns() + NSEC_PER_MSEC), -ETIMEDOUT);
	/* And letting go of it does not wait for that worker either. */
	queue_end(q, false);
	sem_post(&resume);
	workers_destroy(env->ws);
	assert_int_equal(check_armed_before_wait(64), 0);
	assert_int_equal(refused, 0);
}

/* A death must leave them all armed, or none: some drivers cannot recover a device in between. */
static void queues_added_together_are_armed_by_one_call(void **state)
{
	enum { NR = 4, DEPTH = 128 };
	struct env *env = *state;
	struct ublk_queue *q[NR];
	unsigned int calls = 0;

	for (unsigned int i = 0; i < NR; i++)
		q[i] = create(env, i, DEPTH);
	queues_arm(q, NR);
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(queue_arm_wait(q[i], now_ns() + SOON_NS), 0);
	for (unsigned int i = 0; i < NR; i++)
		queue_end(q[i], true);
	workers_destroy(env->ws);
	for (unsigned int i = 0; i < nr_events; i++) {
		if (!events[i].fetches)
			continue;
		assert_int_equal(events[i].fetches, NR * DEPTH);
		assert_int_equal(events[i].kind, EVENT_SUBMIT);
		calls++;
	}
	assert_int_equal(calls, 1);
	assert_int_equal(refused, NR * DEPTH);
}

static void queues_given_up_together_never_arm(void **state)
{
	enum { NR = 3 };
	struct env *env = *state;
	struct ublk_queue *q[NR];

	for (unsigned int i = 0; i < NR; i++)
		q[i] = create(env, i, 64);
	pause_worker(env);
	queues_arm(q, NR);
	/* Given up by one is given up by all: in between there is nothing. */
	for (unsigned int i = 0; i < NR; i++)
		assert_int_equal(queue_arm_wait(q[i], now_ns() + NSEC_PER_MSEC), -ETIMEDOUT);
	for (unsigned int i = 0; i < NR; i++)
		queue_end(q[i], false);
	sem_post(&resume);
	workers_destroy(env->ws);
	assert_int_equal(check_armed_before_wait(64), 0);
	assert_int_equal(refused, 0);
}

static void queue_that_was_not_posted_is_let_go(void **state)
{
	struct env *env = *state;
	struct ublk_queue *q = create(env, 0, 64);

	assert_int_equal(queue_arm_wait(q, now_ns() + SOON_NS), -ECANCELED);
	assert_int_equal(queue_wait_drained(q, now_ns()), 0);
	queue_end(q, false);
	workers_destroy(env->ws);
	assert_int_equal(refused, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(queue_is_armed_before_its_worker_can_wait, setup,
						teardown),
		cmocka_unit_test_setup_teardown(many_queues_are_armed_one_by_one, setup, teardown),
		cmocka_unit_test_setup_teardown(late_worker_still_arms_before_it_waits, setup,
						teardown),
		cmocka_unit_test_setup_teardown(queue_that_was_given_up_never_arms, setup,
						teardown),
		cmocka_unit_test_setup_teardown(queues_added_together_are_armed_by_one_call, setup,
						teardown),
		cmocka_unit_test_setup_teardown(queues_given_up_together_never_arm, setup,
						teardown),
		cmocka_unit_test_setup_teardown(queue_that_was_not_posted_is_let_go, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
