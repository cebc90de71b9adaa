// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Promises of the S3 store, kept over a real connection: the contract of store.h on a server that
 * works (also on the one of GFS_TEST_S3, if there is one), and what happens on one that breaks.
 */
#include "store_test.h"
#include "selftests/unit/s3_server.h"
#include "lib/hash.h"

static struct s3_server srv;
static struct store *st;

static void open_it(void)
{
	st = s3_server_open(&srv);
}

static int setup(void **state)
{
	s3_server_start(&srv, NULL);
	open_it();
	return 0;
}

static int setup_environment(void **state)
{
	if (!s3_server_environment(&srv))
		return -1;
	open_it();
	return 0;
}

static int teardown(void **state)
{
	store_close(st);
	s3_server_stop(&srv);
	return 0;
}

static uint64_t in_ms(uint64_t ms)
{
	return now_ns() + ms * NSEC_PER_MSEC;
}

static struct store_s3_stats stats(void)
{
	struct store_s3_stats s;

	assert_true(store_s3_stats(st, &s));
	return s;
}

/* ---- the contract ---- */

static void put_get_and_head_agree(void **state)
{
	char put_etag[STORE_ETAG_MAX], get_etag[STORE_ETAG_MAX], buf[64];
	struct store_op head;

	assert_int_equal(put_str(st, "exports/vm-1/export.json", "hello", STORE_ALWAYS, put_etag),
			 0);
	assert_int_equal(get_str(st, "exports/vm-1/export.json", buf, sizeof(buf), get_etag), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(head_key(st, "exports/vm-1/export.json", &head), 0);
	assert_true(put_etag[0]);
	assert_string_equal(put_etag, get_etag);
	assert_string_equal(put_etag, head.etag);
	assert_int_equal(head.object_size, 5);
	assert_true(head.mtime_s + 60 > (uint64_t)time(NULL));
	assert_true(head.mtime_s < (uint64_t)time(NULL) + 60);
}

static void keys_of_any_characters_are_kept_apart(void **state)
{
	static const char *const keys[] = {"a b",    "a+b",       "a%20b",  "a%b", "a/b",
					   "a//b",   "a&b=c",     "a?b",    "a#b", "a'b",
					   "a\"<>b", "a\xc3\xa4", "~a*(b)!"};
	struct store_list_entry e[32];
	struct store_op list = {
		.type = STORE_LIST, .key = "k/", .entries = e, .max_entries = ARRAY_SIZE(e)};
	unsigned int n = 0;
	char key[64];

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		snprintf(key, sizeof(key), "k/%s", keys[i]);
		if (strstr(key, "//")) {
			assert_int_equal(put_str(st, key, key, STORE_ALWAYS, NULL), -EINVAL);
			continue;
		}
		assert_int_equal(put_str(st, key, key, STORE_ALWAYS, NULL), 0);
		n++;
	}
	assert_int_equal(store_run(st, &list), 0);
	assert_int_equal(list.nr_entries, n);
	for (unsigned int i = 0; i < n; i++)
		assert_object(st, e[i].key, e[i].key);
}

static void body_is_gathered_from_its_parts(void **state)
{
	struct iovec iov[] = {{"ab", 2}, {"", 0}, {"cde", 3}};
	struct store_op op = {.type = STORE_PUT, .key = "k", .iov = iov, .iovcnt = 3};

	assert_int_equal(store_run(st, &op), 0);
	assert_object(st, "k", "abcde");
}

static int get_range(const char *key, uint64_t off, uint64_t len, struct store_op *out)
{
	*out = (struct store_op){.type = STORE_GET, .key = key, .off = off, .len = len};
	return store_run(st, out);
}

static void ranges_end_where_the_object_does(void **state)
{
	struct store_op op;

	assert_int_equal(put_str(st, "k", "0123456789", STORE_ALWAYS, NULL), 0);
	assert_int_equal(get_range("k", 2, 3, &op), 0);
	assert_int_equal(op.size_out, 3);
	assert_int_equal(op.object_size, 10);
	assert_memory_equal(op.buf, "234", 3);
	free(op.buf);
	assert_int_equal(get_range("k", 8, 100, &op), 0);
	assert_int_equal(op.size_out, 2);
	assert_memory_equal(op.buf, "89", 2);
	free(op.buf);
	assert_int_equal(get_range("k", 4, 0, &op), 0);
	assert_int_equal(op.size_out, 6);
	free(op.buf);
	assert_int_equal(get_range("k", 10, 1, &op), -ERANGE);
	assert_null(op.buf);
	assert_int_equal(get_range("nope", 0, 1, &op), -ENOENT);
}

static void an_empty_object_is_one(void **state)
{
	struct store_op op;

	assert_int_equal(put_str(st, "k", "", STORE_ALWAYS, NULL), 0);
	assert_int_equal(get_range("k", 0, 0, &op), 0);
	assert_int_equal(op.size_out, 0);
	assert_non_null(op.buf);
	free(op.buf);
	assert_int_equal(get_range("k", 0, 1, &op), -ERANGE);
	assert_int_equal(head_key(st, "k", &op), 0);
	assert_int_equal(op.object_size, 0);
}

static void a_buffer_too_small_is_never_overrun(void **state)
{
	char buf[8];

	memset(buf, 'z', sizeof(buf));
	assert_int_equal(put_str(st, "k", "0123456789", STORE_ALWAYS, NULL), 0);
	assert_int_equal(get_str(st, "k", buf, 5, NULL), -EINVAL);
	assert_int_equal(buf[4], 'z');
}

static void conditions_decide(void **state)
{
	char e1[STORE_ETAG_MAX], e2[STORE_ETAG_MAX], stale[STORE_ETAG_MAX];

	assert_int_equal(put_str(st, "k", "one", STORE_IF_NONE_MATCH, e1), 0);
	assert_int_equal(put_str(st, "k", "two", STORE_IF_NONE_MATCH, NULL), -EEXIST);
	assert_object(st, "k", "one");
	memcpy(e2, e1, sizeof(e2));
	assert_int_equal(put_str(st, "k", "three", STORE_IF_MATCH, e2), 0);
	assert_string_not_equal(e1, e2);
	memcpy(stale, e1, sizeof(stale));
	assert_int_equal(put_str(st, "k", "four", STORE_IF_MATCH, stale), -ESTALE);
	assert_object(st, "k", "three");
	assert_int_equal(delete_key(st, "k", e1), -ESTALE);
	assert_object(st, "k", "three");
	assert_int_equal(delete_key(st, "k", e2), 0);
	assert_int_equal(put_str(st, "k", "five", STORE_IF_MATCH, e2), -ESTALE);
	assert_int_equal(delete_key(st, "k", NULL), 0);
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

static void absent_keys_say_so(void **state)
{
	char buf[8];

	assert_int_equal(get_str(st, "nope", buf, sizeof(buf), NULL), -ENOENT);
	assert_int_equal(head_key(st, "nope", NULL), -ENOENT);
	assert_int_equal(delete_key(st, "nope", NULL), 0);
	assert_int_equal(put_str(st, "../x", "x", STORE_ALWAYS, NULL), -EINVAL);
	assert_int_equal(put_str(st, "", "x", STORE_ALWAYS, NULL), -EINVAL);
}

static void lists_go_on_where_they_stopped(void **state)
{
	struct store_list_entry e[3];
	struct store_op op = {
		.type = STORE_LIST, .key = "l/", .entries = e, .max_entries = ARRAY_SIZE(e)};
	unsigned int seen = 0;
	char key[32];

	for (int i = 0; i < 7; i++) {
		snprintf(key, sizeof(key), "l/%d", i);
		assert_int_equal(put_str(st, key, "12345", STORE_ALWAYS, NULL), 0);
	}
	assert_int_equal(put_str(st, "m", "", STORE_ALWAYS, NULL), 0);
	do {
		assert_int_equal(store_run(st, &op), 0);
		for (unsigned int i = 0; i < op.nr_entries; i++, seen++) {
			snprintf(key, sizeof(key), "l/%u", seen);
			assert_string_equal(e[i].key, key);
			assert_int_equal(e[i].size, 5);
			assert_true(e[i].mtime_s + 60 > (uint64_t)time(NULL));
		}
		snprintf(op.start_after, sizeof(op.start_after), "%s", key);
	} while (op.truncated);
	assert_int_equal(seen, 7);
	op = (struct store_op){.type = STORE_LIST, .key = "nope/", .entries = e, .max_entries = 3};
	assert_int_equal(store_run(st, &op), 0);
	assert_int_equal(op.nr_entries, 0);
	assert_false(op.truncated);
}

static void large_bodies_arrive_whole(void **state)
{
	size_t n = 24 * MiB + 12345;
	uint8_t *body = malloc(n), sum[SHA256_LEN], got[SHA256_LEN];
	struct iovec iov[3] = {{body, 5 * MiB}, {body + 5 * MiB, 7}, {body + 5 * MiB + 7, 0}};
	struct store_op put = {.type = STORE_PUT,
			       .prio = STORE_PRIO_UPLOAD,
			       .key = "big",
			       .iov = iov,
			       .iovcnt = 3,
			       .cond = STORE_IF_NONE_MATCH};
	struct store_op op;

	iov[2].iov_len = n - 5 * MiB - 7;
	assert_non_null(body);
	for (size_t i = 0; i < n; i++)
		body[i] = (uint8_t)(i * 2654435761u >> 13);
	hash_sha256(body, n, sum);
	assert_int_equal(store_run(st, &put), 0);
	free(body);
	assert_int_equal(get_range("big", 0, 0, &op), 0);
	assert_int_equal(op.size_out, n);
	hash_sha256(op.buf, op.size_out, got);
	assert_memory_equal(sum, got, sizeof(sum));
	free(op.buf);
}

/*
 * The rule for conditional PUTs (engine/roots.c): the same bytes under the same condition until the
 * answer is definite; refused with one's own bytes in place is success. True if we won.
 */
static bool put_until_definite(struct store *s, const char *key, const char *body,
			       enum store_cond cond, const char *etag)
{
	char now[64];

	for (;;) {
		struct iovec iov = {(void *)body, strlen(body)};
		struct store_op op = {.type = STORE_PUT,
				      .prio = STORE_PRIO_META,
				      .key = key,
				      .iov = &iov,
				      .iovcnt = 1,
				      .cond = cond};

		if (cond == STORE_IF_MATCH)
			memcpy(op.etag, etag, sizeof(op.etag));
		if (!store_run(s, &op))
			return true;
		if (op.res == -EEXIST || op.res == -ESTALE)
			return get_str(s, key, now, sizeof(now), NULL) > 0 && !strcmp(now, body);
		if (!op.ambiguous) {
			print_message("PUT %s: %d, and that is definite\n", key, op.res);
			abort();
		}
	}
}

#define RACERS 4
#define ROUNDS 10

struct racer {
	pthread_t thread;
	struct store *s;
	unsigned int me, won;
};

static void *racer_run(void *arg)
{
	struct racer *r = arg;
	char body[64], etag[STORE_ETAG_MAX];

	for (unsigned int i = 0, serial = 0; i < ROUNDS; serial++) {
		unsigned long value;

		/* One counter, and who counted last: no two bodies are the same. */
		if (get_str(r->s, "counter", body, sizeof(body), etag) < 0)
			abort();
		value = strtoul(body, NULL, 10);
		snprintf(body, sizeof(body), "%lu %u.%u", value + 1, r->me, serial);
		if (put_until_definite(r->s, "counter", body, STORE_IF_MATCH, etag))
			i++;
	}
	return NULL;
}

static void *creator_run(void *arg)
{
	struct racer *r = arg;
	char key[32], body[32];

	for (unsigned int i = 0; i < ROUNDS; i++) {
		snprintf(key, sizeof(key), "create/%u", i);
		snprintf(body, sizeof(body), "%u", r->me);
		r->won += put_until_definite(r->s, key, body, STORE_IF_NONE_MATCH, NULL);
	}
	return NULL;
}

static void race(struct racer *r, void *(*run)(void *arg))
{
	for (unsigned int i = 0; i < RACERS; i++) {
		r[i] = (struct racer){.me = i, .s = s3_server_open(&srv)};
		assert_int_equal(pthread_create(&r[i].thread, NULL, run, &r[i]), 0);
	}
	for (unsigned int i = 0; i < RACERS; i++) {
		pthread_join(r[i].thread, NULL);
		store_close(r[i].s);
	}
}

static void no_update_is_lost_and_one_creator_wins(void **state)
{
	struct racer r[RACERS];
	unsigned int won = 0;
	char body[64];

	assert_int_equal(put_str(st, "counter", "0 start", STORE_ALWAYS, NULL), 0);
	race(r, racer_run);
	assert_true(get_str(st, "counter", body, sizeof(body), NULL) > 0);
	/* One that landed unseen and was counted on at once is not known as ours: more may be
	 * there, never less. */
	assert_true(strtoul(body, NULL, 10) >= RACERS * ROUNDS);
	race(r, creator_run);
	for (unsigned int i = 0; i < RACERS; i++)
		won += r[i].won;
	assert_int_equal(won, ROUNDS);
}

/* ---- a server that breaks ---- */

static void no_update_is_lost_on_a_server_that_breaks(void **state)
{
	s3_server_rules(&srv, "op=put percent=15 seed=1 reset_after\n"
			      "op=put percent=15 seed=2 status=500\n"
			      "op=put percent=15 seed=3 status=409\n"
			      "op=get percent=15 seed=4 reset_before\n"
			      "op=get percent=15 seed=5 truncate=1\n"
			      "op=any percent=5 seed=6 close_idle\n");
	no_update_is_lost_and_one_creator_wins(state);
	assert_true(s3_server_stat(&srv, "faults_fired") > 20);
}

static void tls_endpoints_are_verified(void **state)
{
	struct store_op op = {.type = STORE_HEAD, .key = "k"};
	struct s3_server tls;
	struct store *good = st;
	char buf[8];

	if (!s3_server_start_tls(&tls))
		skip();
	st = s3_server_open(&tls);
	assert_int_equal(put_str(st, "k", "v", STORE_IF_NONE_MATCH, NULL), 0);
	store_close(st);
	tls.options.ca_file = NULL;
	st = s3_server_open(&tls);
	/* Its retries end by its deadline, with the reason. */
	op.deadline_ns = in_ms(4000);
	assert_true(store_run(st, &op) < 0);
	assert_non_null(strstr(stats().problem, "store.ca_file"));
	store_close(st);
	tls.options.tls_insecure = true;
	st = s3_server_open(&tls);
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), 1);
	store_close(st);
	st = good;
	s3_server_stop(&tls);
}

static void refused_signature_is_named(void **state)
{
	struct s3_server other = srv;
	struct store *good = st;
	char buf[8];

	strcpy(other.secret, "WRONG");
	other.options.secret_access_key = other.secret;
	st = s3_server_open(&other);
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), -EACCES);
	assert_int_equal(put_str(st, "k", "v", STORE_IF_NONE_MATCH, NULL), -EACCES);
	assert_non_null(strstr(stats().problem, "SignatureDoesNotMatch"));
	assert_non_null(strstr(stats().problem, "check the access key"));
	assert_null(strstr(stats().problem, "WRONG"));
	store_close(st);
	st = good;
}

static void reads_survive_resets_errors_and_truncation(void **state)
{
	char buf[64];

	assert_int_equal(put_str(st, "k", "0123456789", STORE_ALWAYS, NULL), 0);
	s3_server_rules(&srv, "op=get reset_before count=2\nop=get status=500 skip=2 count=2\n"
			      "op=get truncate=4 skip=4 count=2\n");
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), 10);
	assert_int_equal(s3_server_stat(&srv, "ops.get"), 7);
	assert_true(stats().retries >= 4); /* the resets may have been curl's own to repeat */
}

static void truncated_for_good_is_no_data(void **state)
{
	char buf[64];

	assert_int_equal(put_str(st, "k", "0123456789", STORE_ALWAYS, NULL), 0);
	s3_server_rules(&srv, "op=get truncate=4");
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), -ENODATA);
}

/* One conditional PUT, with a deadline, and what it says. */
static struct store_op put_once(const char *key, const char *text, enum store_cond cond,
				uint64_t deadline_ns)
{
	static struct iovec iov;
	struct store_op op = {.type = STORE_PUT,
			      .prio = STORE_PRIO_META,
			      .key = key,
			      .iov = &iov,
			      .iovcnt = 1,
			      .cond = cond,
			      .deadline_ns = deadline_ns};

	iov = (struct iovec){(void *)text, strlen(text)};
	if (store_run(st, &op) == 0)
		assert_true(op.etag[0]);
	return op;
}

static void landed_but_reset_is_ambiguous_and_sent_once(void **state)
{
	struct store_op op;

	/* The connection is kept alive already: curl would repeat it by itself if it could. */
	assert_int_equal(put_str(st, "warm", "x", STORE_IF_NONE_MATCH, NULL), 0);
	s3_server_stats_reset(&srv);
	s3_server_rules(&srv, "op=put reset_after count=1");
	op = put_once("k", "v", STORE_IF_NONE_MATCH, in_ms(20000));
	assert_true(op.res < 0 && op.res != -EEXIST);
	assert_true(op.ambiguous);
	assert_int_equal(s3_server_stat(&srv, "ops.put"), 1);
	assert_object(st, "k", "v");
}

static void server_error_to_a_conditional_put_is_ambiguous(void **state)
{
	static const char *const rules[] = {"op=put status=500", "op=put status=502 code=Bad",
					    "op=put status200_error", "op=put no_etag"};

	assert_int_equal(put_str(st, "warm", "x", STORE_IF_NONE_MATCH, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		struct store_op op;
		char key[16];

		snprintf(key, sizeof(key), "k%zu", i);
		s3_server_stats_reset(&srv);
		s3_server_rules(&srv, rules[i]);
		op = put_once(key, "v", STORE_IF_NONE_MATCH, in_ms(20000));
		assert_true(op.res < 0 && op.res != -EEXIST);
		assert_true(op.ambiguous);
		assert_int_equal(s3_server_stat(&srv, "ops.put"), 1);
	}
}

static void a_refusal_before_the_work_is_repeated(void **state)
{
	static const char *const rules[] = {
		"op=put status=503 count=2", "op=put status=429 count=2",
		"op=put status=409 count=2", "op=put reset_body=0 count=1",
		"op=put reset_body=100000 count=1"};
	size_t n = 32 * MiB; /* more than the sockets hold */
	char *body = malloc(n + 1);

	assert_non_null(body);
	memset(body, 'b', n);
	body[n] = '\0';
	assert_int_equal(put_str(st, "warm", "x", STORE_IF_NONE_MATCH, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		struct store_op op;
		char key[16];

		snprintf(key, sizeof(key), "k%zu", i);
		s3_server_rules(&srv, rules[i]);
		op = put_once(key, strncmp(rules[i], "op=put reset_body", 17) ? "v" : body,
			      STORE_IF_NONE_MATCH, in_ms(20000));
		if (op.res)
			print_message("%s: %d\n", rules[i], op.res);
		assert_int_equal(op.res, 0);
	}
	free(body);
}

static void other_puts_are_repeated_whatever_happened(void **state)
{
	s3_server_rules(&srv, "op=put reset_after count=1\nop=put status=500 skip=1 count=1\n"
			      "op=put status200_error skip=2 count=1");
	assert_int_equal(put_once("k", "v", STORE_ALWAYS, in_ms(20000)).res, 0);
	s3_server_rules(&srv, "op=delete reset_after count=1\nop=delete status=500 skip=1 count=1");
	assert_int_equal(delete_key(st, "k", NULL), 0);
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

static void nothing_outlasts_its_deadline(void **state)
{
	static const char *const rules[] = {"op=any hang_before", "op=any hang_after"};
	struct store_list_entry e[2];
	struct iovec iov = {"v", 1};

	assert_int_equal(put_str(st, "warm", "x", STORE_IF_NONE_MATCH, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		s3_server_rules(&srv, rules[i]);
		for (int type = STORE_GET; type <= STORE_DELETE; type++) {
			struct store_op op = {.type = (enum store_op_type)type,
					      .key = "warm",
					      .iov = &iov,
					      .iovcnt = type == STORE_PUT,
					      .entries = e,
					      .max_entries = 2};
			bool change = type == STORE_PUT || type == STORE_DELETE;
			uint64_t start = now_ns();

			op.deadline_ns = in_ms(300);
			assert_int_equal(store_run(st, &op), -ETIMEDOUT);
			assert_int_equal(op.ambiguous, change);
			assert_true(now_ns() - start >= 290 * NSEC_PER_MSEC);
			assert_true(now_ns() - start < 20 * NSEC_PER_SEC);
		}
	}
}

static void silence_asked_for_is_kept(void **state)
{
	uint64_t start;
	char buf[8];

	assert_int_equal(put_str(st, "k", "v", STORE_ALWAYS, NULL), 0);
	s3_server_rules(&srv, "op=get status=503 retry_after=2 count=1");
	start = now_ns();
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), 1);
	assert_true(now_ns() - start >= 2 * NSEC_PER_SEC);
	assert_int_equal(stats().throttled, 1);
}

static void a_wrong_clock_is_corrected(void **state)
{
	char buf[8];

	assert_int_equal(put_str(st, "k", "v", STORE_ALWAYS, NULL), 0);
	s3_server_rules(&srv, "op=any skew=7200");
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), 1);
	assert_int_equal(put_str(st, "k", "w", STORE_ALWAYS, NULL), 0);
	assert_int_equal(head_key(st, "k", NULL), 0);
	s3_server_rules(&srv, "op=any skew=-7200");
	assert_int_equal(head_key(st, "k", NULL), 0);
}

static void credentials_are_read_again_when_they_expire(void **state)
{
	struct s3_server other = srv;
	struct store *good = st;
	char file[128], buf[8];
	FILE *f;

	assert_int_equal(put_str(st, "k", "v", STORE_ALWAYS, NULL), 0);
	snprintf(file, sizeof(file), "%s/credentials", srv.dir);
	f = fopen(file, "w");
	assert_non_null(f);
	fprintf(f, "[default]\naws_access_key_id = OLD\naws_secret_access_key = OLD\n");
	fclose(f);
	other.options =
		(struct store_s3_options){.endpoint = srv.endpoint, .credentials_file = file};
	st = s3_server_open(&other);
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), -EACCES);
	f = fopen(file, "w");
	fprintf(f, "[default]\naws_access_key_id=TESTKEY\naws_secret_access_key=TESTSECRET\n"
		   "aws_session_token = TOKEN\n");
	fclose(f);
	s3_server_credentials(&srv, "TESTKEY TESTSECRET TOKEN");
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), 1);
	unlink(file);
	store_close(st);
	st = good;
}

static void the_region_is_named(void **state)
{
	char buf[8];

	s3_server_rules(&srv, "op=get redirect=301");
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), -EREMCHG);
	assert_non_null(strstr(stats().problem, "store.region"));
	s3_server_rules(&srv, "op=get redirect=307");
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), -EREMCHG);
}

static void a_missing_bucket_is_not_a_missing_key(void **state)
{
	struct s3_server other = srv;
	struct store *good = st;
	char buf[8];

	snprintf(other.url, sizeof(other.url), "s3://no-such-bucket/p");
	st = s3_server_open(&other);
	assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), -ENODEV);
	assert_int_equal(head_key(st, "k", NULL), -ENODEV);
	assert_int_equal(put_str(st, "k", "v", STORE_IF_NONE_MATCH, NULL), -ENODEV);
	assert_non_null(strstr(stats().problem, "create the bucket"));
	store_close(st);
	st = good;
}

static void bad_lists_are_refused(void **state)
{
	struct store_list_entry e[4];
	struct store_op op = {.type = STORE_LIST, .key = "", .entries = e, .max_entries = 4};

	assert_int_equal(put_str(st, "k", "v", STORE_ALWAYS, NULL), 0);
	s3_server_rules(&srv, "op=list bad_xml");
	assert_int_equal(store_run(st, &op), -EPROTO);
	assert_int_equal(op.nr_entries, 0);
	s3_server_rules(&srv, "op=list status200_error count=1");
	assert_int_equal(store_run(st, &op), 0);
	assert_int_equal(op.nr_entries, 1);
}

static void without_conditional_put_it_is_refused(void **state)
{
	struct store_options o;
	struct s3_server bare;
	struct store *s = NULL;
	char err[512] = "", etag[STORE_ETAG_MAX];

	s3_server_start(&bare, "op=any no_conditional");
	o = (struct store_options){.s3 = bare.options};
	o.s3.probe_wait_ns = 30 * NSEC_PER_SEC;
	assert_int_equal(store_open_with(bare.url, &o, &s, err, sizeof(err)), -EOPNOTSUPP);
	assert_non_null(strstr(err, "no conditional PUT"));
	assert_non_null(strstr(err, "store.single_host"));
	/* Also without waiting nothing is written that needs the condition. */
	o.s3.probe_wait_ns = 0;
	assert_int_equal(store_open_with(bare.url, &o, &s, err, sizeof(err)), 0);
	assert_int_equal(put_str(s, "k", "v", STORE_IF_NONE_MATCH, NULL), -EOPNOTSUPP);
	assert_int_equal(head_key(s, "k", NULL), -ENOENT);
	store_close(s);
	/* On the user's word conditions are compared, for this host. */
	o.s3.single_host = true;
	assert_int_equal(store_open_with(bare.url, &o, &s, err, sizeof(err)), 0);
	assert_int_equal(put_str(s, "k", "v", STORE_IF_NONE_MATCH, etag), 0);
	assert_int_equal(put_str(s, "k", "w", STORE_IF_NONE_MATCH, NULL), -EEXIST);
	assert_int_equal(put_str(s, "k", "w", STORE_IF_MATCH, etag), 0);
	assert_object(s, "k", "w");
	store_close(s);
	s3_server_stop(&bare);
}

static void either_form_of_if_match_works(void **state)
{
	static const char *const rules[] = {"op=any quoted_only", "op=any unquoted_only",
					    "op=any unquoted_only delete_unconditional"};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		s3_server_stop(&srv);
		store_close(st);
		s3_server_start(&srv, rules[i]);
		open_it();
		conditions_decide(NULL);
		/* The probe leaves nothing behind. */
		assert_true(stats().probed);
	}
}

static void the_probe_cleans_up(void **state)
{
	struct s3_server whole = srv;
	struct store_list_entry e[4];
	struct store_op op = {.type = STORE_LIST, .key = "p/", .entries = e, .max_entries = 4};
	char *prefix = strrchr(whole.url, '/');
	struct store *outer;

	assert_int_equal(put_str(st, "k", "v", STORE_IF_NONE_MATCH, NULL), 0);
	assert_true(stats().probed);
	assert_int_equal(s3_server_stat(&srv, "ops.delete"), 2);
	/* The outer store probes on its own time, with keys outside of p/. */
	*prefix = '\0';
	outer = s3_server_open(&whole);
	assert_int_equal(store_run(outer, &op), 0);
	assert_int_equal(op.nr_entries, 1);
	assert_string_equal(e[0].key, "p/k");
	store_close(outer);
}

/* ---- a server that is not there ---- */

static void a_store_opens_while_its_server_is_down(void **state)
{
	struct s3_server gone = srv;
	uint64_t start = now_ns();
	struct store *good = st;
	struct store_op op;

	snprintf(gone.endpoint, sizeof(gone.endpoint), "http://127.0.0.1:1");
	gone.options.endpoint = gone.endpoint;
	gone.options.probe_wait_ns = 60 * NSEC_PER_SEC;
	st = s3_server_open(&gone);
	assert_true(now_ns() - start < 10 * NSEC_PER_SEC);
	op = put_once("k", "v", STORE_IF_NONE_MATCH, in_ms(300));
	assert_int_equal(op.res, -ETIMEDOUT);
	assert_false(op.ambiguous);
	op = put_once("k", "v", STORE_ALWAYS, in_ms(300));
	assert_true(op.res < 0);
	assert_false(op.ambiguous);
	store_close(st);
	st = good;
}

static void a_server_that_returns_is_used_again(void **state)
{
	struct store_op op;

	/* Its connections fail until the breaker is open, and count little from then on. */
	s3_server_rules(&srv, "op=any reset_before");
	op = put_once("k", "v", STORE_ALWAYS, in_ms(4000));
	assert_true(op.res < 0);
	assert_true(stats().breaker_opens >= 1);
	assert_true(stats().breaker != 0);
	assert_non_null(strstr(stats().problem, "does not answer"));
	assert_true(s3_server_stat(&srv, "requests") < 40);
	s3_server_rules(&srv, "");
	assert_int_equal(put_once("k", "v", STORE_IF_NONE_MATCH, in_ms(30000)).res, 0);
	assert_int_equal(stats().breaker, 0);
	assert_string_equal(stats().problem, "");
}

/* ---- many at once ---- */

struct many {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int left, bad;
};

static void many_done(struct store_op *op)
{
	struct many *m = op->ctx;

	pthread_mutex_lock(&m->lock);
	m->bad += op->res != 0;
	if (!--m->left)
		pthread_cond_signal(&m->cond);
	pthread_mutex_unlock(&m->lock);
}

static void many_wait(struct many *m)
{
	pthread_mutex_lock(&m->lock);
	while (m->left)
		pthread_cond_wait(&m->cond, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

static void connections_are_bounded_and_kept(void **state)
{
	struct many m = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 400, 0};
	struct store_op *op = calloc(m.left, sizeof(*op));

	assert_int_equal(put_str(st, "k", "0123456789", STORE_IF_NONE_MATCH, NULL), 0);
	s3_server_stats_reset(&srv);
	for (unsigned int i = 0, n = m.left; i < n; i++) {
		op[i] = (struct store_op){.type = STORE_GET,
					  .prio = (enum store_prio)(i % 4),
					  .key = "k",
					  .len = 4,
					  .off = i % 6,
					  .done = many_done,
					  .ctx = &m};
		store_submit(st, &op[i]);
	}
	many_wait(&m);
	assert_int_equal(m.bad, 0);
	for (unsigned int i = 0; i < 400; i++) {
		assert_memory_equal(op[i].buf, &"0123456789"[i % 6], 4);
		free(op[i].buf);
	}
	assert_true(s3_server_stat(&srv, "connections_max") <= 17);
	assert_true(s3_server_stat(&srv, "connections") <= 17);
	free(op);
}

static void reads_do_not_wait_for_uploads(void **state)
{
	struct many m = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 16, 0};
	struct iovec iov = {calloc(1, 256 * KiB), 256 * KiB};
	struct store_op op[16];
	char keys[16][16], buf[16];

	assert_int_equal(put_str(st, "k", "0123456789", STORE_IF_NONE_MATCH, NULL), 0);
	/* As many as there are connections; each takes two seconds. */
	s3_server_rules(&srv, "op=put slow=131072");
	for (int i = 0; i < 16; i++) {
		snprintf(keys[i], sizeof(keys[i]), "up/%d", i);
		op[i] = (struct store_op){.type = STORE_PUT,
					  .prio = STORE_PRIO_UPLOAD,
					  .key = keys[i],
					  .iov = &iov,
					  .iovcnt = 1,
					  .deadline_ns = in_ms(100000),
					  .done = many_done,
					  .ctx = &m};
		store_submit(st, &op[i]);
	}
	while (stats().running + stats().queued < 16)
		usleep(1000);
	for (int i = 0; i < 20; i++)
		assert_int_equal(get_str(st, "k", buf, sizeof(buf), NULL), 10);
	pthread_mutex_lock(&m.lock);
	assert_int_equal(m.left, 16);
	pthread_mutex_unlock(&m.lock);
	many_wait(&m);
	assert_int_equal(m.bad, 0);
	free(iov.iov_base);
}

struct endless {
	struct many many;
	bool stop; /* atomic */
};

static void endless_done(struct store_op *op)
{
	struct endless *e = op->ctx;

	free(op->buf);
	op->buf = NULL;
	if (__atomic_load_n(&e->stop, __ATOMIC_ACQUIRE)) {
		op->ctx = &e->many;
		many_done(op);
	} else {
		store_submit(st, op);
	}
}

static void uploads_and_metadata_pass_endless_reads(void **state)
{
	struct endless e = {{PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 64, 0}, false};
	struct iovec iov = {"v", 1};
	struct store_op op[64], put = {.type = STORE_PUT,
				       .prio = STORE_PRIO_UPLOAD,
				       .key = "up",
				       .iov = &iov,
				       .iovcnt = 1};

	assert_int_equal(put_str(st, "k", "0123456789", STORE_IF_NONE_MATCH, NULL), 0);
	s3_server_rules(&srv, "op=get delay_ms=20");
	for (int i = 0; i < 64; i++) {
		op[i] = (struct store_op){.type = STORE_GET,
					  .prio = i % 2 ? STORE_PRIO_READ : STORE_PRIO_PREFETCH,
					  .key = "k",
					  .deadline_ns = UINT64_MAX,
					  .done = endless_done,
					  .ctx = &e};
		store_submit(st, &op[i]);
	}
	put.deadline_ns = in_ms(20000);
	assert_int_equal(store_run(st, &put), 0);
	assert_int_equal(put_once("meta", "v", STORE_ALWAYS, in_ms(20000)).res, 0);
	__atomic_store_n(&e.stop, true, __ATOMIC_RELEASE);
	many_wait(&e.many);
	assert_int_equal(e.many.bad, 0);
}

static void connections_closed_by_the_server_are_not_missed(void **state)
{
	char key[16], buf[16];

	s3_server_rules(&srv, "op=any close_idle");
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(put_once(key, "v", STORE_ALWAYS, in_ms(30000)).res, 0);
		assert_int_equal(get_str(st, key, buf, sizeof(buf), NULL), 1);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define E(f)                                                                           \
	{                                                                              \
		"server of the environment: " #f, f, setup_environment, teardown, NULL \
	}

#define CONTRACT(X)                                                                             \
	X(put_get_and_head_agree), X(keys_of_any_characters_are_kept_apart),                    \
		X(body_is_gathered_from_its_parts), X(ranges_end_where_the_object_does),        \
		X(an_empty_object_is_one), X(a_buffer_too_small_is_never_overrun),              \
		X(conditions_decide), X(absent_keys_say_so), X(lists_go_on_where_they_stopped), \
		X(large_bodies_arrive_whole), X(no_update_is_lost_and_one_creator_wins)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONTRACT(T),
		T(refused_signature_is_named),
		T(no_update_is_lost_on_a_server_that_breaks),
		T(tls_endpoints_are_verified),
		T(reads_survive_resets_errors_and_truncation),
		T(truncated_for_good_is_no_data),
		T(landed_but_reset_is_ambiguous_and_sent_once),
		T(server_error_to_a_conditional_put_is_ambiguous),
		T(a_refusal_before_the_work_is_repeated),
		T(other_puts_are_repeated_whatever_happened),
		T(nothing_outlasts_its_deadline),
		T(silence_asked_for_is_kept),
		T(a_wrong_clock_is_corrected),
		T(credentials_are_read_again_when_they_expire),
		T(the_region_is_named),
		T(a_missing_bucket_is_not_a_missing_key),
		T(bad_lists_are_refused),
		T(without_conditional_put_it_is_refused),
		T(either_form_of_if_match_works),
		T(the_probe_cleans_up),
		T(a_store_opens_while_its_server_is_down),
		T(a_server_that_returns_is_used_again),
		T(connections_are_bounded_and_kept),
		T(reads_do_not_wait_for_uploads),
		T(uploads_and_metadata_pass_endless_reads),
		T(connections_closed_by_the_server_are_not_missed),
	};
	const struct CMUnitTest environment[] = {CONTRACT(E)};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	if (getenv("GFS_TEST_S3"))
		r |= cmocka_run_group_tests(environment, NULL, NULL);
	return r;
}
