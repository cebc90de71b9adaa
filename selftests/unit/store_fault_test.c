// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the fault store: each fault does what fault.h says, and a seed means one sequence. */
#include "store_test.h"
#include "store/fault.h"
#include "lib/log.h"

static struct scratch dir;
static struct store *st;

static int setup(void **state)
{
	dir = scratch_new();
	st = open_store(dir.url, "seed=1");
	return 0;
}

static int teardown(void **state)
{
	store_close(st);
	scratch_free(&dir);
	return 0;
}

static void rules(const char *text)
{
	char err[256] = "";
	int r = store_fault_set(st, text, err, sizeof(err));

	if (r)
		print_message("%s: %s\n", text, err);
	assert_int_equal(r, 0);
}

/* An operation in flight, waited for with a deadline. */
struct flight {
	struct store_op op;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	unsigned int times;
	pthread_t on;
};

static void flight_done(struct store_op *op)
{
	struct flight *f = op->ctx;

	pthread_mutex_lock(&f->lock);
	f->done = true;
	f->times++;
	f->on = pthread_self();
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void launch(struct flight *f)
{
	pthread_mutex_init(&f->lock, NULL);
	cond_init_mono(&f->cond);
	f->op.done = flight_done;
	f->op.ctx = f;
	store_submit(st, &f->op);
}

static bool landed(struct flight *f)
{
	SCOPED_LOCK(&f->lock);
	return f->done;
}

static int land(struct flight *f)
{
	uint64_t limit = now_ns() + 60 * NSEC_PER_SEC;

	pthread_mutex_lock(&f->lock);
	while (!f->done)
		assert_int_equal(cond_wait_until(&f->cond, &f->lock, limit), 0);
	assert_int_equal(f->times, 1);
	pthread_mutex_unlock(&f->lock);
	return f->op.res;
}

static struct iovec one_iov = {"new", 3};

static struct flight put_flight(const char *key)
{
	return (struct flight){.op = {.type = STORE_PUT, .key = key, .iov = &one_iov, .iovcnt = 1}};
}

static void bad_rules_are_refused_with_a_sentence(void **state)
{
	static const struct {
		const char *rules, *says;
	} t[] = {
		{"frobnicate hang", "frobnicate"},
		{"get", "no action"},
		{"get explode", "explode"},
		{"get error=EWHAT", "EWHAT"},
		{"get error=0", "error=0"},
		{"get error=4096", "error=4096"},
		{"get delay=", "delay="},
		{"get delay=-1", "delay=-1"},
		{"get delay=1x", "delay=1x"},
		{"get hang p=1.5", "p=1.5"},
		{"get hang p=nan", "p=nan"},
		{"get hang skip=x", "skip=x"},
		{"get hang count=-1", "count=-1"},
		{"get hang often", "often"},
		{"get ambiguous=after", "cannot"},
		{"put corrupt", "cannot"},
		{"list truncate", "cannot"},
		{"put ambiguous=never", "never"},
		{"put ambiguous=late:", "late:"},
		{"get: hang", "get:"},
		{"seed=x", "seed=x"},
		{"seed=1 get hang", "seed=1"},
		{"get hang;put nonsense", "nonsense"},
		{"geth hang", "geth"},
		{"get hangs", "hangs"},
	};
	char err[256];

	rules("put error=EIO");
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		err[0] = '\0';
		assert_int_equal(store_fault_set(st, t[i].rules, err, sizeof(err)), -EINVAL);
		if (!strstr(err, t[i].says))
			print_message("%s: %s\n", t[i].rules, err);
		assert_non_null(strstr(err, t[i].says));
	}
	/* The rules before stay in force. */
	assert_int_equal(put_str(st, "k", "x", STORE_ALWAYS, NULL), -EIO);
}

static void only_a_fault_store_takes_rules(void **state)
{
	struct store *plain = open_store(dir.url, NULL);
	char err[256] = "";

	assert_true(store_is_fault(st));
	assert_false(store_is_fault(plain));
	assert_int_equal(store_fault_set(plain, "", err, sizeof(err)), -EINVAL);
	assert_true(err[0]);
	store_close(plain);
}

static void without_rules_everything_passes_through(void **state)
{
	char etag[STORE_ETAG_MAX], buf[16];
	struct store_list_entry e[2];
	struct store_op list = {.type = STORE_LIST, .key = "", .entries = e, .max_entries = 1};
	struct store_op get = {.type = STORE_GET, .key = "a/b", .off = 1};

	rules(" ; ;\n");
	assert_int_equal(put_str(st, "a/b", "text", STORE_IF_NONE_MATCH, etag), 0);
	assert_int_equal(put_str(st, "a/b", "text", STORE_IF_NONE_MATCH, NULL), -EEXIST);
	assert_int_equal(put_str(st, "a/b", "text2", STORE_IF_MATCH, etag), 0);
	assert_int_equal(put_str(st, "a/b", "text3", STORE_IF_MATCH, (char[STORE_ETAG_MAX]){"1"}),
			 -ESTALE);
	assert_int_equal(put_str(st, "c", "x", STORE_ALWAYS, NULL), 0);
	assert_int_equal(get_str(st, "a/b", buf, sizeof(buf), etag), 5);
	assert_int_equal(store_run(st, &get), 0);
	assert_int_equal(get.size_out, 4);
	assert_int_equal(get.object_size, 5);
	assert_memory_equal(get.buf, "ext2", 4);
	assert_string_equal(get.etag, etag);
	free(get.buf);
	assert_int_equal(store_run(st, &list), 0);
	assert_int_equal(list.nr_entries, 1);
	assert_true(list.truncated);
	assert_string_equal(e[0].key, "a/b");
	assert_int_equal(delete_key(st, "a/b", etag), 0);
	assert_int_equal(head_key(st, "a/b", NULL), -ENOENT);
}

static void error_is_definite_and_not_inside_submit(void **state)
{
	struct flight f = put_flight("k");

	rules("put error=ENOSPC; get error=5");
	launch(&f);
	assert_int_equal(land(&f), -ENOSPC);
	assert_false(pthread_equal(f.on, pthread_self()));
	assert_false(f.op.ambiguous);
	assert_int_equal(get_str(st, "k", (char[8]){0}, 8, NULL), -EIO);
	rules("");
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

static void rules_choose_by_operation_and_key(void **state)
{
	rules("put:exports/*/export.json error=EIO;head:k? error=EACCES;delete error=EPERM");
	assert_int_equal(put_str(st, "exports/a/export.json", "x", STORE_ALWAYS, NULL), -EIO);
	assert_int_equal(put_str(st, "exports/a", "x", STORE_ALWAYS, NULL), 0);
	assert_int_equal(head_key(st, "k1", NULL), -EACCES);
	assert_int_equal(head_key(st, "k12", NULL), -ENOENT);
	assert_int_equal(delete_key(st, "exports/a", NULL), -EPERM);
	assert_object(st, "exports/a", "x");
}

static void skip_and_count_select_the_nth(void **state)
{
	static const int want[] = {0, 0, -EIO, -EIO, -EIO, 0, 0};

	rules("put error=EIO skip=2 count=3");
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_int_equal(put_str(st, "k", "x", STORE_ALWAYS, NULL), want[i]);
}

static void ambiguous_before_did_not_happen(void **state)
{
	struct flight f = put_flight("k");

	rules("* ambiguous=before");
	launch(&f);
	assert_int_equal(land(&f), -ETIMEDOUT);
	assert_true(f.op.ambiguous);
	/* It strikes only what changes the store. */
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

static void ambiguous_after_did_happen(void **state)
{
	struct flight f = put_flight("k");

	rules("put ambiguous=after count=1;delete ambiguous=after");
	launch(&f);
	assert_int_equal(land(&f), -ETIMEDOUT);
	assert_true(f.op.ambiguous);
	assert_object(st, "k", "new");
	assert_int_equal(delete_key(st, "k", NULL), -ETIMEDOUT);
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

static void ambiguous_late_lands_after_the_answer(void **state)
{
	char body[] = "new", key[] = "late/key", etag[STORE_ETAG_MAX];
	struct iovec iov = {body, 3};
	struct flight f = {.op = {.type = STORE_PUT,
				  .key = key,
				  .iov = &iov,
				  .iovcnt = 1,
				  .cond = STORE_IF_MATCH}};
	uint64_t start, limit;
	char buf[8];

	assert_int_equal(put_str(st, "late/key", "old", STORE_ALWAYS, etag), 0);
	memcpy(f.op.etag, etag, sizeof(etag));
	rules("put ambiguous=late:300 count=1");
	start = now_ns();
	launch(&f);
	assert_int_equal(land(&f), -ETIMEDOUT);
	assert_true(f.op.ambiguous);
	/* Answered, the caller may take everything back. */
	memset(body, 'z', sizeof(body));
	memset(key, 'z', sizeof(key) - 1);
	memset(&f.op, 0xee, sizeof(f.op));
	assert_int_equal(get_str(st, "late/key", buf, sizeof(buf), NULL), 3);
	if (now_ns() < start + 300 * NSEC_PER_MSEC)
		assert_string_equal(buf, "old");
	for (limit = start + 60 * NSEC_PER_SEC; now_ns() < limit;) {
		assert_int_equal(get_str(st, "late/key", buf, sizeof(buf), NULL), 3);
		if (!strcmp(buf, "new"))
			break;
	}
	assert_object(st, "late/key", "new");
	assert_true(now_ns() >= start + 300 * NSEC_PER_MSEC);
}

/* What the retry of an ambiguous PUT is for: the late one must not undo a newer one. */
static void late_put_obeys_its_precondition(void **state)
{
	char etag[STORE_ETAG_MAX], old[STORE_ETAG_MAX];

	assert_int_equal(put_str(st, "k", "1", STORE_ALWAYS, etag), 0);
	memcpy(old, etag, sizeof(old));
	rules("put ambiguous=late:60000 count=1");
	assert_int_equal(put_str(st, "k", "2", STORE_IF_MATCH, old), -ETIMEDOUT);
	assert_int_equal(put_str(st, "k", "3", STORE_IF_MATCH, etag), 0);
	store_close(st); /* performs what is still to come */
	st = open_store(dir.url, "seed=1");
	assert_object(st, "k", "3");
}

static void truncate_delivers_a_part(void **state)
{
	char buf[16] = "";
	struct flight f = {.op = {.type = STORE_GET, .key = "k"}};

	assert_int_equal(put_str(st, "k", "0123456789", STORE_ALWAYS, NULL), 0);
	rules("get truncate");
	launch(&f);
	assert_int_equal(land(&f), -ENODATA);
	assert_null(f.op.buf);
	f = (struct flight){
		.op = {.type = STORE_GET, .key = "k", .buf = buf, .buf_size = sizeof(buf)}};
	launch(&f);
	assert_int_equal(land(&f), -ENODATA);
	assert_in_range(f.op.size_out, 0, 9);
	assert_memory_equal(buf, "0123456789", f.op.size_out);
	assert_int_equal(buf[f.op.size_out], 0);
	/* An error of the store itself is not covered up. */
	assert_int_equal(get_str(st, "nope", buf, sizeof(buf), NULL), -ENOENT);
}

static void corrupt_changes_one_byte_and_reports_success(void **state)
{
	const char *text = "0123456789";
	char buf[16];

	assert_int_equal(put_str(st, "k", text, STORE_ALWAYS, NULL), 0);
	rules("get corrupt");
	for (int round = 0; round < 50; round++) {
		int differ = 0;

		assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), 10);
		for (int i = 0; i < 10; i++)
			differ += buf[i] != text[i];
		assert_int_equal(differ, 1);
	}
	rules("");
	assert_object(st, "k", text);
}

static void hang_ends_at_the_deadline(void **state)
{
	struct flight f = put_flight("k");
	uint64_t start = now_ns();

	rules("* hang");
	f.op.deadline_ns = start + 50 * NSEC_PER_MSEC;
	launch(&f);
	assert_int_equal(land(&f), -ETIMEDOUT);
	assert_true(f.op.ambiguous);
	assert_true(now_ns() >= start + 50 * NSEC_PER_MSEC);
	f = (struct flight){.op = {.type = STORE_HEAD, .key = "k"}};
	f.op.deadline_ns = start + 60 * NSEC_PER_MSEC;
	launch(&f);
	assert_int_equal(land(&f), -ETIMEDOUT);
	assert_false(f.op.ambiguous);
	rules("");
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

static void hang_ends_at_release_and_others_pass(void **state)
{
	struct flight f[4];

	rules("put:h* hang");
	for (size_t i = 0; i < ARRAY_SIZE(f); i++) {
		f[i] = put_flight("h");
		launch(&f[i]);
	}
	assert_int_equal(put_str(st, "k", "x", STORE_ALWAYS, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(f); i++)
		assert_false(landed(&f[i]));
	store_fault_release(st);
	for (size_t i = 0; i < ARRAY_SIZE(f); i++)
		assert_int_equal(land(&f[i]), -ETIMEDOUT);
}

static void closing_completes_what_hangs(void **state)
{
	struct flight a = put_flight("a"), b = put_flight("b");

	rules("put:a hang;put:b delay=60000");
	launch(&a);
	launch(&b);
	store_close(st);
	assert_int_equal(land(&a), -ETIMEDOUT);
	assert_true(landed(&b));
	st = open_store(dir.url, "seed=1");
	assert_int_equal(head_key(st, "a", NULL), -ENOENT);
}

static void delays_add_up_then_the_operation_happens(void **state)
{
	uint64_t start = now_ns();

	rules("put delay=30;put:k* delay=20;get delay=10;get error=EIO");
	assert_int_equal(put_str(st, "k", "x", STORE_ALWAYS, NULL), 0);
	assert_true(now_ns() >= start + 50 * NSEC_PER_MSEC);
	start = now_ns();
	assert_int_equal(get_str(st, "k", (char[8]){0}, 8, NULL), -EIO);
	assert_true(now_ns() >= start + 10 * NSEC_PER_MSEC);
}

static void delay_ends_at_the_deadline(void **state)
{
	struct flight f = put_flight("k");
	uint64_t start = now_ns();

	rules("put delay=60000");
	f.op.deadline_ns = start + 30 * NSEC_PER_MSEC;
	launch(&f);
	assert_int_equal(land(&f), -ETIMEDOUT);
	assert_true(f.op.ambiguous);
	assert_true(now_ns() < start + 50 * NSEC_PER_SEC);
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

enum { DRAWS = 400 };

static unsigned int draw(const char *text, uint8_t out[DRAWS])
{
	unsigned int hits = 0;

	rules(text);
	for (int i = 0; i < DRAWS; i++) {
		out[i] = put_str(st, "k", "x", STORE_ALWAYS, NULL) == -EIO;
		hits += out[i];
	}
	return hits;
}

static void same_seed_same_faults(void **state)
{
	uint8_t a[DRAWS], b[DRAWS];
	unsigned int hits = draw("seed=7;put error=EIO p=0.25", a);

	assert_in_range(hits, DRAWS / 4 - 60, DRAWS / 4 + 60);
	draw("seed=7;put error=EIO p=0.25", b);
	assert_memory_equal(a, b, DRAWS);
	draw("seed=8;put error=EIO p=0.25", b);
	assert_memory_not_equal(a, b, DRAWS);
	/* What other rules draw does not matter, their place does. */
	draw("put error=EIO p=0.25;get error=EIO p=0.5;seed=7", b);
	assert_memory_equal(a, b, DRAWS);
	assert_int_equal(draw("put error=EIO p=0", a), 0);
	assert_int_equal(draw("put error=EIO p=1", a), DRAWS);
}

struct crowd {
	pthread_t thread;
	unsigned int ok, failed;
};

static void *crowd_run(void *arg)
{
	struct crowd *c = arg;
	char key[32], buf[8];

	snprintf(key, sizeof(key), "c/%p", (void *)c);
	for (int i = 0; i < 200; i++) {
		int r = i % 2 ? put_str(st, key, "x", STORE_ALWAYS, NULL)
			      : get_str(st, key, buf, sizeof(buf), NULL);

		if (r >= 0 || r == -ENOENT)
			c->ok++;
		else
			c->failed++;
	}
	return NULL;
}

/* Every kind of fault at once, from many threads, while rules change: each operation ends once. */
static void every_operation_ends_under_every_fault(void **state)
{
	struct crowd c[8] = {0};

	rules("seed=3;* delay=1 p=0.2;put ambiguous=late:5 p=0.1;put ambiguous=after p=0.1;"
	      "* error=EIO p=0.1;get truncate p=0.1;get corrupt p=0.1");
	for (size_t i = 0; i < ARRAY_SIZE(c); i++)
		assert_int_equal(pthread_create(&c[i].thread, NULL, crowd_run, &c[i]), 0);
	for (int i = 0; i < 50; i++)
		rules(i % 2 ? "* error=EIO p=0.3;put ambiguous=late:2 p=0.3" : "* delay=1 p=0.5");
	for (size_t i = 0; i < ARRAY_SIZE(c); i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].ok + c[i].failed, 200);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bad_rules_are_refused_with_a_sentence),
		T(only_a_fault_store_takes_rules),
		T(without_rules_everything_passes_through),
		T(error_is_definite_and_not_inside_submit),
		T(rules_choose_by_operation_and_key),
		T(skip_and_count_select_the_nth),
		T(ambiguous_before_did_not_happen),
		T(ambiguous_after_did_happen),
		T(ambiguous_late_lands_after_the_answer),
		T(late_put_obeys_its_precondition),
		T(truncate_delivers_a_part),
		T(corrupt_changes_one_byte_and_reports_success),
		T(hang_ends_at_the_deadline),
		T(hang_ends_at_release_and_others_pass),
		T(closing_completes_what_hangs),
		T(delays_add_up_then_the_operation_happens),
		T(delay_ends_at_the_deadline),
		T(same_seed_same_faults),
		T(every_operation_ends_under_every_fault),
	};

	log_init(LOG_LVL_ERR, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
