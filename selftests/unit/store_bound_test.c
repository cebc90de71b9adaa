// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the bounding store: every operation ends by its deadline, once, whatever is below. */
#include "store_test.h"
#include "store/store_priv.h"

/* A store that holds every operation until it is told to answer. */
struct stuck {
	struct store s;
	pthread_mutex_t lock;
	struct store_op *held[8];
	unsigned int nr;
};

static struct stuck below;
static struct store *st;

static void stuck_submit(struct store *s, struct store_op *op)
{
	SCOPED_LOCK(&below.lock);
	below.held[below.nr++] = op;
}

static void stuck_close(struct store *s)
{
	assert_int_equal(below.nr, 0);
}

static const struct store_ops stuck_ops = {"stuck", stuck_submit, stuck_close};

static int setup(void **state)
{
	memset(&below, 0, sizeof(below));
	pthread_mutex_init(&below.lock, NULL);
	below.s.ops = &stuck_ops;
	below.s.url = "stuck://";
	assert_int_equal(store_bound_wrap(&below.s, &st), 0);
	return 0;
}

static int teardown(void **state)
{
	store_close(st);
	return 0;
}

/* Everything that is held comes back at last, with data. */
static void release(void)
{
	for (unsigned int i = 0; i < below.nr; i++) {
		struct store_op *op = below.held[i];

		if (op->type == STORE_GET) {
			memset(op->buf, 0x5a, op->buf_size);
			op->size_out = op->buf_size;
		}
		op->res = 0;
		op->done(op);
	}
	below.nr = 0;
}

static void late_answers_change_nothing(void **state)
{
	char key[] = "a/b", *buf = malloc(64), *body = malloc(64);
	struct iovec iov = {body, 64};
	struct store_op get = {.type = STORE_GET,
			       .key = key,
			       .buf = buf,
			       .buf_size = 64,
			       .len = 64,
			       .deadline_ns = now_ns() + 50 * NSEC_PER_MSEC};
	struct store_op put = {.type = STORE_PUT,
			       .key = key,
			       .iov = &iov,
			       .iovcnt = 1,
			       .deadline_ns = now_ns() + 50 * NSEC_PER_MSEC};
	uint64_t t0 = now_ns();

	memset(buf, 1, 64);
	memset(body, 2, 64);
	assert_int_equal(store_run(st, &get), -ETIMEDOUT);
	assert_false(get.ambiguous);
	assert_int_equal(store_run(st, &put), -ETIMEDOUT);
	assert_true(put.ambiguous);
	assert_true(now_ns() - t0 < 20 * NSEC_PER_SEC);
	assert_int_equal(below.nr, 2);
	/* The callers are gone, with all they owned. */
	assert_int_equal(buf[0], 1);
	free(buf);
	assert_int_equal(((char *)below.held[1]->iov->iov_base)[63], 2);
	free(body);
	memset(key, 'x', sizeof(key) - 1);
	assert_string_equal(below.held[1]->key, "a/b");
	release();
}

static void set_done(struct store_op *op)
{
	*(bool *)op->ctx = true;
}

static void no_answer_of_a_volume_waits_behind_a_stuck_one(void **state)
{
	char a[8], b[8];
	struct store_op stuck = {.type = STORE_GET,
				 .key = "a",
				 .buf = a,
				 .buf_size = 8,
				 .len = 8,
				 .deadline_ns = now_ns() + 3600 * NSEC_PER_SEC};
	struct store_op late = {.type = STORE_GET,
				.key = "b",
				.buf = b,
				.buf_size = 8,
				.len = 8,
				.deadline_ns = now_ns() + NSEC_PER_MSEC};
	bool done = false;

	stuck.done = set_done;
	stuck.ctx = &done;
	store_submit(st, &stuck);
	assert_int_equal(store_run(st, &late), -ETIMEDOUT);
	assert_false(done);
	release();
	assert_true(done);
	assert_int_equal(stuck.res, 0);
	assert_int_equal(a[7], 0x5a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(late_answers_change_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(no_answer_of_a_volume_waits_behind_a_stuck_one,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
