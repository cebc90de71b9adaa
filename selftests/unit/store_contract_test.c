// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The contract of store.h, the same for every store: a directory, S3 on s3d, S3 on radosgw. Two
 * stores are open on the same place, as two hosts have it.
 */
#include "store_test.h"
#include "selftests/unit/s3_server.h"

#define RACE_ROUNDS 25
#define COUNT_TO    20
#define MANY_KEYS   1100
#define CONCURRENT  200
#define BIG         (16 * MiB)
/* Nothing here takes that long on a machine that works at all. */
#define PATIENCE_NS (120 * NSEC_PER_SEC)

struct backend {
	const char *name;
	bool s3;
	struct s3_server srv;
};

/* Of one test. */
struct place {
	struct backend *backend;
	struct scratch dir;
	char url[200];
	struct store *a, *b;
};

static struct store *place_open(const struct place *p, const char *below)
{
	const struct store_options o = {.s3 = p->backend->srv.options};
	char url[256], err[512] = "";
	struct store *s = NULL;

	snprintf(url, sizeof(url), "%s%s", p->url, below);
	if (store_open_with(url, &o, &s, err, sizeof(err)))
		fail_msg("%s: %s", url, err);
	return s;
}

static int setup(void **state)
{
	struct backend *be = *state;
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->backend = be;
	if (be->s3) {
		s3_server_bucket(&be->srv);
		/* What the endpoint supports is known before the first test's clock runs. */
		be->srv.options.probe_wait_ns = PATIENCE_NS;
		snprintf(p->url, sizeof(p->url), "%s/prefix", be->srv.url);
	} else {
		p->dir = scratch_new();
		snprintf(p->url, sizeof(p->url), "%s", p->dir.url);
	}
	p->a = place_open(p, "");
	p->b = place_open(p, "");
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	store_close(p->a);
	store_close(p->b);
	if (!p->backend->s3)
		scratch_free(&p->dir);
	*state = p->backend;
	free(p);
	return 0;
}

/* ---- many operations at once ---- */

static pthread_mutex_t batch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t batch_wake;
static _Thread_local bool submitting;

struct batch {
	unsigned int left;
	unsigned int done_inside_submit;
};

static void batch_done(struct store_op *op)
{
	struct batch *b = op->ctx;

	pthread_mutex_lock(&batch_lock);
	b->done_inside_submit += submitting;
	b->left--;
	pthread_cond_broadcast(&batch_wake);
	pthread_mutex_unlock(&batch_lock);
}

static void batch_submit(struct store *s, struct batch *b, struct store_op *op)
{
	op->done = batch_done;
	op->ctx = b;
	pthread_mutex_lock(&batch_lock);
	b->left++;
	pthread_mutex_unlock(&batch_lock);
	submitting = true;
	store_submit(s, op);
	submitting = false;
}

static void batch_wait(struct batch *b)
{
	uint64_t limit = now_ns() + PATIENCE_NS;

	pthread_mutex_lock(&batch_lock);
	while (b->left && !cond_wait_until(&batch_wake, &batch_lock, limit))
		;
	pthread_mutex_unlock(&batch_lock);
	assert_int_equal(b->left, 0);
	assert_int_equal(b->done_inside_submit, 0);
}

/* ---- one object ---- */

static void put_get_and_head_agree(void **state)
{
	struct place *p = *state;
	char etag[STORE_ETAG_MAX], seen[STORE_ETAG_MAX], buf[64];
	struct store_op head;
	uint64_t now = wall_ns() / NSEC_PER_SEC;

	assert_int_equal(put_str(p->a, "exports/vm-1/export.json", "hello", STORE_ALWAYS, etag), 0);
	assert_int_equal(get_str(p->b, "exports/vm-1/export.json", buf, sizeof(buf), seen), 5);
	assert_string_equal(buf, "hello");
	assert_string_equal(seen, etag);
	assert_int_equal(head_key(p->b, "exports/vm-1/export.json", &head), 0);
	assert_string_equal(head.etag, etag);
	assert_int_equal(head.object_size, 5);
	assert_in_range(head.mtime_s, now - 300, now + 300);
	/* Another content is another ETag. */
	assert_int_equal(put_str(p->b, "exports/vm-1/export.json", "other", STORE_ALWAYS, seen), 0);
	assert_string_not_equal(seen, etag);
	assert_object(p->a, "exports/vm-1/export.json", "other");
}

static void an_absent_key_is_enoent_and_deleting_it_is_not_an_error(void **state)
{
	struct place *p = *state;
	char buf[8];

	assert_int_equal(get_str(p->a, "none", buf, sizeof(buf), NULL), -ENOENT);
	assert_int_equal(head_key(p->a, "none", NULL), -ENOENT);
	assert_int_equal(delete_key(p->a, "none", NULL), 0);
	assert_int_equal(put_str(p->a, "k", "x", STORE_ALWAYS, NULL), 0);
	assert_int_equal(delete_key(p->b, "k", NULL), 0);
	assert_int_equal(delete_key(p->a, "k", NULL), 0);
	assert_int_equal(head_key(p->a, "k", NULL), -ENOENT);
}

static void an_empty_object_is_an_object(void **state)
{
	struct place *p = *state;
	struct store_op op = {.type = STORE_GET, .key = "empty"};
	char buf[8], etag[STORE_ETAG_MAX];

	assert_int_equal(put_bytes(p->a, "empty", "", 0, STORE_IF_NONE_MATCH, etag), 0);
	assert_int_equal(put_str(p->b, "empty", "", STORE_IF_NONE_MATCH, NULL), -EEXIST);
	assert_int_equal(get_str(p->b, "empty", buf, sizeof(buf), NULL), 0);
	assert_int_equal(store_run(p->a, &op), 0);
	assert_int_equal(op.size_out, 0);
	free(op.buf);
	op = (struct store_op){.type = STORE_GET, .key = "empty", .len = 4};
	assert_int_equal(store_run(p->a, &op), -ERANGE);
	assert_int_equal(put_str(p->b, "empty", "full", STORE_IF_MATCH, etag), 0);
	assert_object(p->a, "empty", "full");
}

static void a_range_is_what_was_asked_for(void **state)
{
	static const struct {
		uint64_t off, len;
		int res;
		const char *want;
	} table[] = {
		{0, 1, 0, "0"},          {3, 4, 0, "3456"},
		{9, 1, 0, "9"},          {8, 100, 0, "89"},
		{4, 0, 0, "456789"},     {0, 10, 0, "0123456789"},
		{0, 0, 0, "0123456789"}, {10, 1, -ERANGE, ""},
		{10, 0, -ERANGE, ""},    {1ull << 40, 100, -ERANGE, ""},
	};
	struct place *p = *state;
	char buf[128];

	assert_int_equal(put_str(p->a, "digits", "0123456789", STORE_ALWAYS, NULL), 0);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(table); i++) {
		bool own = i % 2; /* the caller's buffer, or one from the store */
		struct store_op op = {.type = STORE_GET,
				      .key = "digits",
				      .off = table[i / 2].off,
				      .len = table[i / 2].len,
				      .buf = own ? buf : NULL,
				      .buf_size = own ? sizeof(buf) : 0};

		assert_int_equal(store_run(p->a, &op), table[i / 2].res);
		if (op.res)
			continue;
		assert_int_equal(op.size_out, strlen(table[i / 2].want));
		assert_memory_equal(op.buf, table[i / 2].want, op.size_out);
		assert_int_equal(op.object_size, 10);
		if (!own)
			free(op.buf);
	}
}

static void a_body_of_many_pieces_comes_back_whole(void **state)
{
	struct place *p = *state;
	__cleanup_free uint64_t *body = malloc(BIG);
	struct iovec iov[37];
	struct store_op put = {.type = STORE_PUT,
			       .key = "packs/big",
			       .iov = iov,
			       .iovcnt = ARRAY_SIZE(iov),
			       .prio = STORE_PRIO_UPLOAD,
			       .deadline_ns = now_ns() + PATIENCE_NS};
	struct store_op get = {
		.type = STORE_GET, .key = "packs/big", .deadline_ns = now_ns() + PATIENCE_NS};
	size_t piece = BIG / ARRAY_SIZE(iov);

	assert_non_null(body);
	for (size_t i = 0; i < BIG / 8; i++)
		body[i] = i * 0x9e3779b97f4a7c15ull;
	for (size_t i = 0; i < ARRAY_SIZE(iov); i++) {
		iov[i].iov_base = (char *)body + i * piece;
		iov[i].iov_len = i == ARRAY_SIZE(iov) - 1 ? BIG - i * piece : piece;
	}
	assert_int_equal(store_run(p->a, &put), 0);
	assert_int_equal(store_run(p->b, &get), 0);
	assert_int_equal(get.size_out, BIG);
	assert_memory_equal(get.buf, body, BIG);
	assert_string_equal(get.etag, put.etag);
	free(get.buf);
	get = (struct store_op){
		.type = STORE_GET, .key = "packs/big", .off = BIG - 4099, .len = 65536};
	assert_int_equal(store_run(p->b, &get), 0);
	assert_int_equal(get.size_out, 4099);
	assert_memory_equal(get.buf, (char *)body + BIG - 4099, 4099);
	free(get.buf);
}

/* ---- conditions ---- */

static void a_refused_condition_changes_nothing_and_says_which(void **state)
{
	struct place *p = *state;
	char first[STORE_ETAG_MAX], now[STORE_ETAG_MAX], old[STORE_ETAG_MAX];
	struct iovec iov = {"lost", 4};
	struct store_op op = {.type = STORE_PUT,
			      .key = "k",
			      .iov = &iov,
			      .iovcnt = 1,
			      .cond = STORE_IF_NONE_MATCH};

	assert_int_equal(put_str(p->a, "k", "one", STORE_IF_NONE_MATCH, first), 0);
	assert_int_equal(store_run(p->b, &op), -EEXIST);
	assert_false(op.ambiguous);
	assert_object(p->b, "k", "one");
	memcpy(now, first, sizeof(now));
	assert_int_equal(put_str(p->b, "k", "two", STORE_IF_MATCH, now), 0);
	memcpy(old, first, sizeof(old));
	assert_int_equal(put_str(p->a, "k", "three", STORE_IF_MATCH, old), -ESTALE);
	assert_object(p->a, "k", "two");
	op.cond = STORE_IF_MATCH;
	memcpy(op.etag, first, sizeof(first));
	assert_int_equal(store_run(p->a, &op), -ESTALE);
	assert_false(op.ambiguous);
	memcpy(old, first, sizeof(old));
	assert_int_equal(put_str(p->a, "absent", "x", STORE_IF_MATCH, old), -ESTALE);
	assert_int_equal(head_key(p->a, "absent", NULL), -ENOENT);
	assert_int_equal(put_str(p->a, "k", "three", STORE_IF_MATCH, now), 0);
	assert_object(p->b, "k", "three");
}

static void an_etag_from_any_answer_serves_as_condition(void **state)
{
	struct place *p = *state;
	char etag[STORE_ETAG_MAX], buf[16];
	struct store_op op;

	assert_int_equal(put_str(p->a, "k", "0", STORE_ALWAYS, etag), 0);
	assert_int_equal(put_str(p->b, "k", "1", STORE_IF_MATCH, etag), 0);
	assert_int_equal(get_str(p->a, "k", buf, sizeof(buf), etag), 1);
	assert_int_equal(put_str(p->a, "k", "2", STORE_IF_MATCH, etag), 0);
	assert_int_equal(head_key(p->b, "k", &op), 0);
	assert_int_equal(put_str(p->b, "k", "3", STORE_IF_MATCH, op.etag), 0);
	op = (struct store_op){.type = STORE_GET, .key = "k", .len = 1};
	assert_int_equal(store_run(p->a, &op), 0);
	free(op.buf);
	assert_int_equal(put_str(p->a, "k", "4", STORE_IF_MATCH, op.etag), 0);
	assert_object(p->b, "k", "4");
}

static void a_conditional_delete_spares_what_changed(void **state)
{
	struct place *p = *state;
	char old[STORE_ETAG_MAX], now[STORE_ETAG_MAX];
	int r;

	assert_int_equal(put_str(p->a, "k", "one", STORE_ALWAYS, old), 0);
	assert_int_equal(put_str(p->b, "k", "two", STORE_ALWAYS, now), 0);
	assert_int_equal(delete_key(p->a, "k", old), -ESTALE);
	assert_object(p->a, "k", "two");
	assert_int_equal(delete_key(p->a, "k", now), 0);
	assert_int_equal(head_key(p->b, "k", NULL), -ENOENT);
	/* S3 does not tell an absent key from one that was deleted for us. */
	r = delete_key(p->a, "k", now);
	assert_true(r == -ESTALE || r == 0);
}

/* ---- two hosts ---- */

struct racer {
	struct place *p;
	struct store *s;
	int me;
	pthread_t thread;
	pthread_barrier_t *barrier;
	char etag[STORE_ETAG_MAX];
	const char *failed;
	int res[RACE_ROUNDS];
	bool ambiguous[RACE_ROUNDS];
};

static void race_put(struct racer *r, int round, const char *key, enum store_cond cond)
{
	char mine[32];
	struct iovec iov = {mine, (size_t)snprintf(mine, sizeof(mine), "%d/%d", r->me, round)};
	struct store_op op = {
		.type = STORE_PUT, .key = key, .iov = &iov, .iovcnt = 1, .cond = cond};

	memcpy(op.etag, r->etag, sizeof(op.etag));
	pthread_barrier_wait(r->barrier);
	r->res[round] = store_run(r->s, &op);
	r->ambiguous[round] = op.ambiguous;
}

static void *create_racer(void *arg)
{
	struct racer *r = arg;
	char key[32];

	for (int i = 0; i < RACE_ROUNDS; i++) {
		snprintf(key, sizeof(key), "exports/%d", i);
		race_put(r, i, key, STORE_IF_NONE_MATCH);
	}
	return NULL;
}

static void *update_racer(void *arg)
{
	struct racer *r = arg;
	char key[32];

	for (int i = 0; i < RACE_ROUNDS; i++) {
		struct store_op head;

		snprintf(key, sizeof(key), "exports/%d", i);
		if (head_key(r->s, key, &head))
			r->failed = "HEAD";
		memcpy(r->etag, head.etag, sizeof(r->etag));
		race_put(r, i, key, STORE_IF_MATCH);
	}
	return NULL;
}

static void race(struct place *p, struct racer r[2], void *(*run)(void *))
{
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, 2);
	for (int i = 0; i < 2; i++) {
		r[i] = (struct racer){.p = p, .s = i ? p->b : p->a, .me = i, .barrier = &barrier};
		assert_int_equal(pthread_create(&r[i].thread, NULL, run, &r[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(r[i].thread, NULL);
		assert_null(r[i].failed);
	}
	pthread_barrier_destroy(&barrier);
}

/*
 * The object tells who won. Whoever was told so did; whoever was refused did not; who does not know
 * says so.
 */
static void assert_one_winner(struct place *p, struct racer r[2], int refusal,
			      unsigned int *unknown)
{
	for (int i = 0; i < RACE_ROUNDS; i++) {
		char key[32], buf[32], want[32];

		snprintf(key, sizeof(key), "exports/%d", i);
		assert_true(get_str(p->a, key, buf, sizeof(buf), NULL) > 0);
		for (int me = 0; me < 2; me++) {
			bool won;

			snprintf(want, sizeof(want), "%d/%d", me, i);
			won = !strcmp(buf, want);
			if (r[me].res[i] && r[me].ambiguous[i]) {
				++*unknown;
				continue;
			}
			if (r[me].res[i] != (won ? 0 : refusal))
				print_message("round %d, host %d: %d, but the object is %s\n", i,
					      me, r[me].res[i], buf);
			assert_int_equal(r[me].res[i], won ? 0 : refusal);
		}
	}
}

static void of_two_hosts_that_create_one_wins(void **state)
{
	struct place *p = *state;
	struct racer r[2];
	unsigned int unknown = 0;

	race(p, r, create_racer);
	assert_one_winner(p, r, -EEXIST, &unknown);
	print_message("%u of %d answers were ambiguous\n", unknown, 2 * RACE_ROUNDS);
}

static void of_two_hosts_that_update_one_wins(void **state)
{
	struct place *p = *state;
	struct racer r[2];
	unsigned int unknown = 0;
	char key[32];

	for (int i = 0; i < RACE_ROUNDS; i++) {
		snprintf(key, sizeof(key), "exports/%d", i);
		assert_int_equal(put_str(p->a, key, "start", STORE_ALWAYS, NULL), 0);
	}
	race(p, r, update_racer);
	assert_one_winner(p, r, -ESTALE, &unknown);
	print_message("%u of %d answers were ambiguous\n", unknown, 2 * RACE_ROUNDS);
}

/* Read, add one, write if unchanged; who does not know whether it wrote looks at who wrote last. */
static void *counting_host(void *arg)
{
	struct racer *r = arg;
	uint64_t limit = now_ns() + PATIENCE_NS;
	char etag[STORE_ETAG_MAX], buf[32], mine[32];

	for (int done = 0; done < COUNT_TO;) {
		struct iovec iov = {mine, 0};
		struct store_op op = {.type = STORE_PUT,
				      .key = "count",
				      .iov = &iov,
				      .iovcnt = 1,
				      .cond = STORE_IF_MATCH};
		int n = get_str(r->s, "count", buf, sizeof(buf), etag);

		if (n < 0 || now_ns() > limit) {
			r->failed = n < 0 ? "GET" : "too slow";
			return NULL;
		}
		iov.iov_len =
			(size_t)snprintf(mine, sizeof(mine), "%d by %d", atoi(buf) + 1, r->me);
		memcpy(op.etag, etag, sizeof(etag));
		if (!store_run(r->s, &op)) {
			done++;
		} else if (op.ambiguous) {
			/* The next reading decides: nobody else writes this text. */
			if (get_str(r->s, "count", buf, sizeof(buf), NULL) > 0 &&
			    !strcmp(buf, mine))
				done++;
		} else if (op.res != -ESTALE) {
			r->failed = "PUT";
			return NULL;
		}
	}
	return NULL;
}

static void no_update_of_two_hosts_is_lost(void **state)
{
	struct place *p = *state;
	struct racer r[2];
	char buf[32];

	assert_int_equal(put_str(p->a, "count", "0", STORE_ALWAYS, NULL), 0);
	race(p, r, counting_host);
	assert_true(get_str(p->a, "count", buf, sizeof(buf), NULL) > 0);
	/* One that landed unseen and was counted on at once is not known as its writer's. */
	assert_true(atoi(buf) >= 2 * COUNT_TO);
}

/* ---- lists ---- */

/* All keys of a prefix, `page` at a time; checks order. Returns how many. */
static unsigned int list_all(struct store *s, const char *prefix, unsigned int page,
			     void (*seen)(const struct store_list_entry *e, unsigned int i))
{
	struct store_list_entry *e = calloc(page, sizeof(*e));
	char after[STORE_KEY_MAX] = "";
	unsigned int n = 0;
	struct store_op op;

	assert_non_null(e);
	do {
		op = (struct store_op){
			.type = STORE_LIST, .key = prefix, .entries = e, .max_entries = page};
		strcpy(op.start_after, after);
		assert_int_equal(store_run(s, &op), 0);
		assert_true(op.nr_entries <= page);
		assert_true(op.nr_entries || !op.truncated);
		for (unsigned int i = 0; i < op.nr_entries; i++) {
			assert_true(strcmp(e[i].key, after) > 0);
			assert_memory_equal(e[i].key, prefix, strlen(prefix));
			if (seen)
				seen(&e[i], n);
			n++;
			strcpy(after, e[i].key);
		}
	} while (op.truncated);
	free(e);
	return n;
}

static void numbered(const struct store_list_entry *e, unsigned int i)
{
	char want[64];

	snprintf(want, sizeof(want), "exports/many/%05u", i);
	assert_string_equal(e->key, want);
	assert_int_equal(e->size, i % 7);
	assert_in_range(e->mtime_s, wall_ns() / NSEC_PER_SEC - 900, wall_ns() / NSEC_PER_SEC + 300);
}

static void a_list_goes_on_past_a_thousand_keys(void **state)
{
	struct place *p = *state;
	struct store_op *ops = calloc(MANY_KEYS, sizeof(*ops));
	char(*keys)[64] = calloc(MANY_KEYS, sizeof(*keys));
	struct iovec iov[7];
	struct batch b = {.left = 0};

	assert_true(ops && keys);
	for (unsigned int i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){"xxxxxxx", i};
	for (unsigned int i = 0; i < MANY_KEYS; i++) {
		snprintf(keys[i], sizeof(keys[i]), "exports/many/%05u", i);
		ops[i] = (struct store_op){.type = STORE_PUT,
					   .key = keys[i],
					   .iov = &iov[i % 7],
					   .iovcnt = 1,
					   .deadline_ns = now_ns() + PATIENCE_NS};
		batch_submit(i % 2 ? p->a : p->b, &b, &ops[i]);
	}
	batch_wait(&b);
	for (unsigned int i = 0; i < MANY_KEYS; i++)
		assert_int_equal(ops[i].res, 0);
	assert_int_equal(put_str(p->a, "exports/other", "x", STORE_ALWAYS, NULL), 0);
	/* Pages of the server's own size, larger, and such that do not divide the number. */
	assert_int_equal(list_all(p->a, "exports/many/", 1000, numbered), MANY_KEYS);
	assert_int_equal(list_all(p->a, "exports/many/", MANY_KEYS + 1, numbered), MANY_KEYS);
	assert_int_equal(list_all(p->b, "exports/many/", 333, numbered), MANY_KEYS);
	assert_int_equal(list_all(p->b, "exports/many/0010", 7, NULL), 10);
	assert_int_equal(list_all(p->b, "exports/", 1000, NULL), MANY_KEYS + 1);
	free(ops);
	free(keys);
}

static const char *const odd_keys[] = {
	"! bang",
	"a b  c",
	"a\"b",
	"a#b",
	"a$b",
	"a%2Fb",
	"a%b",
	"a&amp;b",
	"a&b=c",
	"a'b",
	"a(b)",
	"a*b",
	"a+b",
	"a,b",
	"a:b",
	"a;b",
	"a<b>",
	"a=b",
	"a?list-type=2",
	"a@b",
	"a[b]",
	"a\\b",
	"a^b",
	"a`b",
	"a{b}",
	"a|b",
	"a~b",
	"deep/er/key/of/parts",
	"exports/vm-1/export.json",
	"trailing ",
	"z\xc3\xbc/\xc3\xb1",
	"\xe6\x97\xa5\xe6\x9c\xac",
};

static void odd(const struct store_list_entry *e, unsigned int i)
{
	assert_string_equal(e->key, odd_keys[i]);
}

static void odd_keys_are_keys_like_others(void **state)
{
	struct place *p = *state;
	char buf[STORE_KEY_MAX], key[STORE_KEY_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(odd_keys); i++)
		assert_int_equal(put_str(p->a, odd_keys[i], odd_keys[i], STORE_IF_NONE_MATCH, NULL),
				 0);
	for (size_t i = 0; i < ARRAY_SIZE(odd_keys); i++) {
		assert_true(get_str(p->b, odd_keys[i], buf, sizeof(buf), NULL) > 0);
		assert_string_equal(buf, odd_keys[i]);
	}
	assert_int_equal(list_all(p->b, "", 1000, odd), ARRAY_SIZE(odd_keys));
	assert_int_equal(list_all(p->b, "", 3, odd), ARRAY_SIZE(odd_keys));
	assert_int_equal(list_all(p->b, "a&", 1000, NULL), 2);
	assert_int_equal(list_all(p->b, "a%", 1000, NULL), 2);
	for (size_t i = 0; i < ARRAY_SIZE(odd_keys); i++)
		assert_int_equal(delete_key(p->a, odd_keys[i], NULL), 0);
	assert_int_equal(list_all(p->b, "", 1000, NULL), 0);
	/* The longest key. */
	memset(key, 'k', sizeof(key));
	key[STORE_KEY_MAX - 1] = '\0';
	for (size_t i = 200; i < STORE_KEY_MAX - 1; i += 200)
		key[i] = '/';
	assert_int_equal(put_str(p->a, key, "long", STORE_IF_NONE_MATCH, NULL), 0);
	assert_object(p->b, key, "long");
	assert_int_equal(list_all(p->b, "kkk", 10, NULL), 1);
	assert_int_equal(delete_key(p->b, key, NULL), 0);
}

static void bad_keys_are_refused(void **state)
{
	static const char *const bad[] = {"",   "/a",     "a/",      "a//b",
					  "..", "a/../b", ".hidden", "a/.b"};
	struct place *p = *state;
	char buf[8];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(put_str(p->a, bad[i], "x", STORE_ALWAYS, NULL), -EINVAL);
		assert_int_equal(get_str(p->a, bad[i], buf, sizeof(buf), NULL), -EINVAL);
		assert_int_equal(delete_key(p->a, bad[i], NULL), -EINVAL);
	}
}

static void a_store_sees_only_what_is_below_its_prefix(void **state)
{
	struct place *p = *state;
	struct store *inner = place_open(p, "/inner"), *twin = place_open(p, "/inner2");
	char buf[8];

	assert_int_equal(put_str(inner, "k", "in", STORE_IF_NONE_MATCH, NULL), 0);
	assert_int_equal(put_str(twin, "k", "tw", STORE_IF_NONE_MATCH, NULL), 0);
	assert_int_equal(put_str(p->a, "k", "out", STORE_IF_NONE_MATCH, NULL), 0);
	assert_object(inner, "k", "in");
	assert_object(p->b, "k", "out");
	assert_object(p->b, "inner/k", "in");
	assert_int_equal(list_all(inner, "", 10, NULL), 1);
	assert_int_equal(list_all(inner, "k", 10, NULL), 1);
	assert_int_equal(get_str(inner, "inner/k", buf, sizeof(buf), NULL), -ENOENT);
	store_close(inner);
	store_close(twin);
}

/* ---- time, order, load ---- */

static void what_is_past_its_deadline_ends_and_tells_the_truth(void **state)
{
	struct place *p = *state;
	struct iovec iov = {"late", 4};
	struct store_list_entry e[4];
	struct store_op ops[] = {
		{.type = STORE_PUT, .key = "late", .iov = &iov, .iovcnt = 1},
		{.type = STORE_GET, .key = "k"},
		{.type = STORE_HEAD, .key = "k"},
		{.type = STORE_LIST, .key = "", .entries = e, .max_entries = 4},
		{.type = STORE_DELETE, .key = "k"},
	};
	struct batch b = {.left = 0};
	char buf[8];

	assert_int_equal(put_str(p->a, "k", "kept", STORE_ALWAYS, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		ops[i].deadline_ns = now_ns() - NSEC_PER_SEC;
		batch_submit(p->a, &b, &ops[i]);
	}
	batch_wait(&b);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		assert_int_equal(ops[i].res, -ETIMEDOUT);
	if (!ops[0].ambiguous)
		assert_int_equal(get_str(p->b, "late", buf, sizeof(buf), NULL), -ENOENT);
	if (!ops[4].ambiguous)
		assert_object(p->b, "k", "kept");
	assert_int_equal(put_str(p->a, "late", "now", STORE_ALWAYS, NULL), 0);
	assert_object(p->b, "late", "now");
}

/* Uploads that had ended when ... */
static unsigned int uploads_done, at_last_read;

static void note_order(struct store_op *op)
{
	pthread_mutex_lock(&batch_lock);
	if (op->type == STORE_PUT)
		uploads_done++;
	else
		at_last_read = uploads_done;
	pthread_mutex_unlock(&batch_lock);
	batch_done(op);
}

static void wait_for_uploads(unsigned int n)
{
	uint64_t limit = now_ns() + PATIENCE_NS;
	unsigned int done;

	pthread_mutex_lock(&batch_lock);
	while (uploads_done < n && !cond_wait_until(&batch_wake, &batch_lock, limit))
		;
	done = uploads_done;
	pthread_mutex_unlock(&batch_lock);
	assert_true(done >= n);
}

/* False: the uploads were over before the reads came, which says nothing. */
static bool reads_among_uploads(struct place *p)
{
	enum { UPLOADS = 400, READS = 6, BODY = 48 * 1024 };
	__cleanup_free char *body = calloc(1, BODY);
	static struct store_op up[UPLOADS], rd[READS];
	static char keys[UPLOADS][32];
	struct iovec iov = {body, BODY};
	struct batch b = {.left = UPLOADS + READS};
	unsigned int before;

	assert_non_null(body);
	uploads_done = at_last_read = 0;
	assert_int_equal(put_str(p->a, "k", "urgent", STORE_ALWAYS, NULL), 0);
	for (int i = 0; i < UPLOADS; i++) {
		snprintf(keys[i], sizeof(keys[i]), "packs/%d", i);
		up[i] = (struct store_op){.type = STORE_PUT,
					  .prio = STORE_PRIO_UPLOAD,
					  .key = keys[i],
					  .iov = &iov,
					  .iovcnt = 1,
					  .deadline_ns = now_ns() + PATIENCE_NS,
					  .done = note_order,
					  .ctx = &b};
		store_submit(p->a, &up[i]);
	}
	/* The uploads flow, and most of them wait. */
	wait_for_uploads(4);
	pthread_mutex_lock(&batch_lock);
	before = uploads_done;
	pthread_mutex_unlock(&batch_lock);
	for (int i = 0; i < READS; i++) {
		rd[i] = (struct store_op){.type = STORE_GET,
					  .prio = STORE_PRIO_READ,
					  .key = "k",
					  .deadline_ns = now_ns() + PATIENCE_NS,
					  .done = note_order,
					  .ctx = &b};
		store_submit(p->a, &rd[i]);
	}
	batch_wait(&b);
	for (int i = 0; i < UPLOADS; i++)
		assert_int_equal(up[i].res, 0);
	for (int i = 0; i < READS; i++) {
		assert_int_equal(rd[i].res, 0);
		assert_memory_equal(rd[i].buf, "urgent", 6);
		free(rd[i].buf);
	}
	print_message("uploads done: %u of %d when the reads came, %u after the last read\n",
		      before, UPLOADS, at_last_read);
	if (before >= UPLOADS / 2)
		return false;
	assert_true(at_last_read - before < (UPLOADS - before) / 2);
	return true;
}

static void a_read_does_not_queue_behind_uploads(void **state)
{
	for (int i = 0; !reads_among_uploads(*state); i++)
		assert_true(i < 10);
}

static void many_at_once_get_each_their_own_answer(void **state)
{
	struct place *p = *state;
	struct store_op *ops = calloc(CONCURRENT, sizeof(*ops));
	uint64_t(*bodies)[1024] = calloc(CONCURRENT, sizeof(*bodies));
	struct iovec *iov = calloc(CONCURRENT, sizeof(*iov));
	char(*keys)[32] = calloc(CONCURRENT, sizeof(*keys));
	struct batch b = {.left = 0};

	assert_true(ops && bodies && iov && keys);
	for (unsigned int i = 0; i < CONCURRENT; i++) {
		for (unsigned int w = 0; w < 1024; w++)
			bodies[i][w] = (uint64_t)i << 32 | w;
		snprintf(keys[i], sizeof(keys[i]), "c/%u", i);
		iov[i] = (struct iovec){bodies[i], 8 + 8 * (i * 37 % 1024)};
		ops[i] = (struct store_op){.type = STORE_PUT,
					   .key = keys[i],
					   .iov = &iov[i],
					   .iovcnt = 1,
					   .cond = STORE_IF_NONE_MATCH,
					   .prio = i % 4,
					   .deadline_ns = now_ns() + PATIENCE_NS};
		batch_submit(i % 2 ? p->a : p->b, &b, &ops[i]);
	}
	batch_wait(&b);
	for (unsigned int i = 0; i < CONCURRENT; i++) {
		assert_int_equal(ops[i].res, 0);
		ops[i] = (struct store_op){.type = i % 3 ? STORE_GET : STORE_HEAD,
					   .key = keys[i],
					   .prio = i % 4,
					   .deadline_ns = now_ns() + PATIENCE_NS};
		batch_submit(i % 2 ? p->b : p->a, &b, &ops[i]);
	}
	batch_wait(&b);
	for (unsigned int i = 0; i < CONCURRENT; i++) {
		assert_int_equal(ops[i].res, 0);
		assert_int_equal(ops[i].object_size, iov[i].iov_len);
		if (ops[i].type == STORE_GET)
			assert_memory_equal(ops[i].buf, bodies[i], iov[i].iov_len);
		free(ops[i].buf);
	}
	free(ops);
	free(bodies);
	free(iov);
	free(keys);
}

/* ---- TLS ---- */

static int first_put(const struct s3_server *srv, char *problem, size_t size)
{
	const struct store_options o = {.s3 = srv->options};
	struct iovec iov = {"x", 1};
	struct store_op op = {.type = STORE_PUT, .key = "k", .iov = &iov, .iovcnt = 1};
	struct store_s3_stats st;
	struct store *s = NULL;
	int r = store_open_with(srv->url, &o, &s, problem, size);

	assert_int_equal(r, 0);
	/* Long enough for one that works, and for one that does not to have said why. */
	op.deadline_ns =
		now_ns() + (srv->options.ca_file || srv->options.tls_insecure ? PATIENCE_NS
									      : 2 * NSEC_PER_SEC);
	r = store_run(s, &op);
	assert_true(store_s3_stats(s, &st));
	snprintf(problem, size, "%s", st.problem);
	store_close(s);
	return r;
}

static void only_a_server_that_the_ca_knows_is_spoken_to(void **state)
{
	struct backend *be = *state;
	struct s3_server srv = be->srv;
	const char *tls = getenv("GFS_TEST_S3_TLS"), *ca = getenv("GFS_TEST_S3_CA");
	char problem[512];

	if (!tls || !ca) {
		print_message("GFS_TEST_S3_TLS and GFS_TEST_S3_CA are not set\n");
		skip();
	}
	s3_server_bucket(&srv);
	snprintf(srv.endpoint, sizeof(srv.endpoint), "%s", tls);
	srv.options.endpoint = srv.endpoint;
	assert_true(first_put(&srv, problem, sizeof(problem)) < 0);
	print_message("%s\n", problem);
	assert_non_null(strstr(problem, "certificate"));
	srv.options.ca_file = ca;
	assert_int_equal(first_put(&srv, problem, sizeof(problem)), 0);
	assert_string_equal(problem, "");
	srv.options.ca_file = NULL;
	srv.options.tls_insecure = true;
	assert_int_equal(first_put(&srv, problem, sizeof(problem)), 0);
}

#define T(f) cmocka_unit_test_prestate_setup_teardown(f, setup, teardown, be)

static int run_on(struct backend *be)
{
	const struct CMUnitTest tests[] = {
		T(put_get_and_head_agree),
		T(an_absent_key_is_enoent_and_deleting_it_is_not_an_error),
		T(an_empty_object_is_an_object),
		T(a_range_is_what_was_asked_for),
		T(a_body_of_many_pieces_comes_back_whole),
		T(a_refused_condition_changes_nothing_and_says_which),
		T(an_etag_from_any_answer_serves_as_condition),
		T(a_conditional_delete_spares_what_changed),
		T(of_two_hosts_that_create_one_wins),
		T(of_two_hosts_that_update_one_wins),
		T(no_update_of_two_hosts_is_lost),
		T(a_list_goes_on_past_a_thousand_keys),
		T(odd_keys_are_keys_like_others),
		T(bad_keys_are_refused),
		T(a_store_sees_only_what_is_below_its_prefix),
		T(what_is_past_its_deadline_ends_and_tells_the_truth),
		T(a_read_does_not_queue_behind_uploads),
		T(many_at_once_get_each_their_own_answer),
	};

	return _cmocka_run_group_tests(be->name, tests, ARRAY_SIZE(tests), NULL, NULL);
}

static int run_tls(struct backend *be)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(only_a_server_that_the_ca_knows_is_spoken_to, be),
	};

	return _cmocka_run_group_tests("TLS", tests, ARRAY_SIZE(tests), NULL, NULL);
}

int main(int argc, char **argv)
{
	struct backend file = {.name = "file"}, s3d = {.name = "s3 on s3d", .s3 = true};
	struct backend rgw = {.name = "s3 on radosgw", .s3 = true};
	int failed;

	cond_init_mono(&batch_wake);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	failed = run_on(&file);
	s3_server_start(&s3d.srv, NULL);
	failed += run_on(&s3d);
	s3_server_stop(&s3d.srv);
	if (s3_server_environment(&rgw.srv))
		failed += run_on(&rgw) + run_tls(&rgw);
	else
		print_message("GFS_TEST_S3 is not set: not run on radosgw (start one with "
			      "selftests/rgw up DIR)\n");
	return failed;
}
