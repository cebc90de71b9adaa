// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promises of the file store between processes: conditional PUTs have one winner, a killed writer
 * leaves a whole object or none. The parent has no threads when it forks; each child opens its own
 * store.
 */
#include "store_test.h"
#include "lib/hash.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ROUNDS     150
#define PROCS      2
#define KILLS      40
#define BODY_WORDS (256 * KiB / 8)

/* Shared by parent and children. Everything in it is atomic. */
struct shared {
	uint32_t arrived[ROUNDS];
	uint32_t won[ROUNDS], refused[ROUNDS], odd[ROUNDS];
	uint32_t failed_line, failed_res;
	uint32_t written[ROUNDS];
	uint32_t puts;
};

static struct scratch dir;
static struct shared *sh;

static int setup(void **state)
{
	dir = scratch_new();
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(sh != MAP_FAILED);
	return 0;
}

static int teardown(void **state)
{
	munmap(sh, sizeof(*sh));
	scratch_free(&dir);
	return 0;
}

static uint32_t load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void inc(uint32_t *p)
{
	__atomic_add_fetch(p, 1, __ATOMIC_ACQ_REL);
}

/* In a child: leave a note for the parent, which asserts. */
#define CHILD_CHECK(x)                                                                  \
	do {                                                                            \
		if (!(x)) {                                                             \
			__atomic_store_n(&sh->failed_line, __LINE__, __ATOMIC_RELEASE); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

/* Wait for the other children, but not for ever. */
static void barrier(uint32_t *arrived)
{
	uint64_t limit = now_ns() + 60 * NSEC_PER_SEC;

	inc(arrived);
	while (load(arrived) < PROCS) {
		CHILD_CHECK(now_ns() < limit);
		sched_yield();
	}
}

static void race(void (*child)(struct store *s, int me))
{
	pid_t pid[PROCS];

	for (int i = 0; i < PROCS; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (!pid[i]) {
			struct store *s;
			char err[256];

			CHILD_CHECK(!store_open(dir.url, NULL, &s, err, sizeof(err)));
			child(s, i);
			store_close(s);
			_exit(0);
		}
	}
	for (int i = 0; i < PROCS; i++) {
		int status;

		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		if (status)
			print_message("child %d: status %x, line %u, result %d\n", i, status,
				      load(&sh->failed_line), -(int)load(&sh->failed_res));
		assert_int_equal(status, 0);
	}
}

static void count(int r, int refusal, int round)
{
	inc(!r ? &sh->won[round] : r == refusal ? &sh->refused[round] : &sh->odd[round]);
	if (r && r != refusal)
		__atomic_store_n(&sh->failed_res, (uint32_t)-r, __ATOMIC_RELEASE);
}

static void assert_one_winner_each_round(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		assert_int_equal(load(&sh->odd[i]), 0);
		assert_int_equal(load(&sh->won[i]), 1);
		assert_int_equal(load(&sh->refused[i]), PROCS - 1);
	}
}

static void create_child(struct store *s, int me)
{
	char key[64], mine[16], etag[STORE_ETAG_MAX], buf[16];

	snprintf(mine, sizeof(mine), "process %d", me);
	for (int i = 0; i < ROUNDS; i++) {
		int r;

		snprintf(key, sizeof(key), "exports/vm-%d/export.json", i);
		barrier(&sh->arrived[i]);
		r = put_str(s, key, mine, STORE_IF_NONE_MATCH, etag);
		count(r, -EEXIST, i);
		/* The loser sees the winner's object, whole; the winner its own. */
		CHILD_CHECK(get_str(s, key, buf, sizeof(buf), NULL) == (int)strlen(mine));
		CHILD_CHECK((strcmp(buf, mine) == 0) == (r == 0));
	}
}

static void two_processes_create_one_wins(void **state)
{
	race(create_child);
	assert_one_winner_each_round();
}

static void update_child(struct store *s, int me)
{
	char etag[STORE_ETAG_MAX], buf[16];

	for (int i = 0; i < ROUNDS; i++) {
		/* All hold the same ETag: nobody writes before everybody has read. */
		CHILD_CHECK(get_str(s, "k", buf, sizeof(buf), etag) > 0);
		CHILD_CHECK(atoi(buf) == i);
		barrier(&sh->arrived[i]);
		snprintf(buf, sizeof(buf), "%d", i + 1);
		count(put_str(s, "k", buf, STORE_IF_MATCH, etag), -ESTALE, i);
		/* Nobody reads for the next round before everybody has written. */
		barrier(&sh->written[i]);
	}
}

static void two_processes_update_one_wins(void **state)
{
	struct store *s = open_store(dir.url, NULL);

	assert_int_equal(put_str(s, "k", "0", STORE_ALWAYS, NULL), 0);
	store_close(s);
	race(update_child);
	assert_one_winner_each_round();
}

static void counter_child(struct store *s, int me)
{
	char etag[STORE_ETAG_MAX], buf[16];

	for (int done = 0; done < ROUNDS;) {
		int r = get_str(s, "k", buf, sizeof(buf), etag);

		CHILD_CHECK(r > 0);
		snprintf(buf, sizeof(buf), "%d", atoi(buf) + 1);
		r = put_str(s, "k", buf, STORE_IF_MATCH, etag);
		CHILD_CHECK(!r || r == -ESTALE);
		done += !r;
	}
}

static void no_update_is_lost(void **state)
{
	struct store *s = open_store(dir.url, NULL);
	char want[16];

	assert_int_equal(put_str(s, "k", "0", STORE_ALWAYS, NULL), 0);
	store_close(s);
	race(counter_child);
	s = open_store(dir.url, NULL);
	snprintf(want, sizeof(want), "%d", PROCS * ROUNDS);
	assert_object(s, "k", want);
	store_close(s);
}

/* One deletes with the ETag, the other updates with it: not both, and the key tells who. */
static void delete_child(struct store *s, int me)
{
	char key[64], etag[STORE_ETAG_MAX];

	for (int i = 0; i < ROUNDS; i++) {
		int r = 0;

		snprintf(key, sizeof(key), "d%d/k", i);
		if (me == 0)
			CHILD_CHECK(!put_str(s, key, "x", STORE_IF_NONE_MATCH, NULL));
		while ((r = head_key(s, key, NULL)) == -ENOENT)
			sched_yield();
		CHILD_CHECK(!r);
		CHILD_CHECK(get_str(s, key, (char[4]){0}, 4, etag) == 1);
		barrier(&sh->arrived[i]);
		r = me ? delete_key(s, key, etag) : put_str(s, key, "y", STORE_IF_MATCH, etag);
		count(r, -ESTALE, i);
		if (!r)
			CHILD_CHECK(head_key(s, key, NULL) == (me ? -ENOENT : 0));
	}
}

static void delete_and_update_exclude_each_other(void **state)
{
	race(delete_child);
	assert_one_winner_each_round();
}

/* Directories vanish under the feet of a PUT when another process deletes their last key. */
static void prune_child(struct store *s, int me)
{
	char key[64];

	snprintf(key, sizeof(key), "a/b/c/%d", me);
	for (int i = 0; i < ROUNDS; i++) {
		int r = put_str(s, key, "x", i % 2 ? STORE_ALWAYS : STORE_IF_NONE_MATCH, NULL);

		if (r)
			__atomic_store_n(&sh->failed_res, (uint32_t)-r, __ATOMIC_RELEASE);
		CHILD_CHECK(!r);
		CHILD_CHECK(!head_key(s, key, NULL));
		CHILD_CHECK(!delete_key(s, key, NULL));
	}
}

static void puts_survive_vanishing_directories(void **state)
{
	race(prune_child);
}

/* A body tells its own length and content: word i is seed + i, word 0 the seed. */
static void body_fill(uint64_t *body, uint64_t seed, size_t words)
{
	for (size_t i = 0; i < words; i++)
		body[i] = seed + i;
	body[1] = words;
}

static bool body_whole(const uint64_t *body, size_t bytes)
{
	size_t words = bytes / 8;

	if (bytes % 8 || words < 2 || body[1] != words)
		return false;
	for (size_t i = 2; i < words; i++)
		if (body[i] != body[0] + i)
			return false;
	return true;
}

static void writer_child(struct store *s, uint64_t seed)
{
	static uint64_t body[BODY_WORDS];
	char etag[STORE_ETAG_MAX];
	struct store_op head;

	for (uint64_t i = 0;; i++) {
		size_t words = BODY_WORDS - (i % 7) * 1000;
		int r;

		body_fill(body, (seed << 32) + i, words);
		if (i % 2) {
			r = put_bytes(s, "a/always", body, words * 8, STORE_ALWAYS, NULL);
		} else {
			CHILD_CHECK(!head_key(s, "a/match", &head));
			memcpy(etag, head.etag, sizeof(etag));
			r = put_bytes(s, "a/match", body, words * 8, STORE_IF_MATCH, etag);
		}
		CHILD_CHECK(!r);
		body_fill(body, (seed << 32) + i, words);
		snprintf(etag, sizeof(etag), "new/%d/%llu", getpid(), (unsigned long long)i);
		CHILD_CHECK(!put_bytes(s, etag, body, words * 8, STORE_IF_NONE_MATCH, NULL));
		inc(&sh->puts);
	}
}

static void assert_all_whole(struct store *s)
{
	static struct store_list_entry e[200];
	char after[STORE_KEY_MAX] = "";
	struct store_op list;

	do {
		list = (struct store_op){
			.type = STORE_LIST, .key = "", .entries = e, .max_entries = ARRAY_SIZE(e)};
		strcpy(list.start_after, after);
		assert_int_equal(store_run(s, &list), 0);
		for (unsigned int i = 0; i < list.nr_entries; i++) {
			struct store_op op = {.type = STORE_GET, .key = e[i].key};

			assert_int_equal(store_run(s, &op), 0);
			if (!body_whole(op.buf, op.size_out))
				print_message("%s: %llu bytes are not whole\n", e[i].key,
					      (unsigned long long)op.size_out);
			assert_true(body_whole(op.buf, op.size_out));
			free(op.buf);
			strcpy(after, e[i].key);
			if (!strncmp(after, "new/", 4))
				assert_int_equal(delete_key(s, e[i].key, NULL), 0);
		}
	} while (list.truncated);
}

static void killed_put_leaves_whole_or_nothing(void **state)
{
	static uint64_t body[BODY_WORDS];
	uint64_t seed;
	struct store *s;

	random_bytes(&seed, sizeof(seed));
	print_message("seed %llu\n", (unsigned long long)seed);
	srandom((unsigned int)seed);
	body_fill(body, 1, 100);
	s = open_store(dir.url, NULL);
	assert_int_equal(put_bytes(s, "a/always", body, 800, STORE_ALWAYS, NULL), 0);
	assert_int_equal(put_bytes(s, "a/match", body, 800, STORE_ALWAYS, NULL), 0);
	store_close(s);
	for (int i = 0; i < KILLS; i++) {
		uint32_t before = load(&sh->puts);
		uint64_t until;
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid) {
			char err[256];

			CHILD_CHECK(!store_open(dir.url, NULL, &s, err, sizeof(err)));
			writer_child(s, (uint64_t)i);
		}
		/* Kill it in its stride, at a random moment of a PUT. */
		while (load(&sh->puts) == before && !load(&sh->failed_line))
			sched_yield();
		until = now_ns() + (uint64_t)random() % (3 * NSEC_PER_MSEC);
		while (now_ns() < until)
			;
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(load(&sh->failed_line), 0);
		s = open_store(dir.url, NULL);
		assert_all_whole(s);
		/* The dead writer's lock does not outlive it. */
		assert_int_equal(put_bytes(s, "a/always", body, 800, STORE_ALWAYS, NULL), 0);
		store_close(s);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(two_processes_create_one_wins),
		T(two_processes_update_one_wins),
		T(no_update_is_lost),
		T(delete_and_update_exclude_each_other),
		T(puts_survive_vanishing_directories),
		T(killed_put_leaves_whole_or_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
