// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every operation of the S3 store against everything that a wire and a server can do to it. Always:
 * no wrong data, an end by the deadline, what is reported as done is done, what is reported as
 * definitely not done is not, and after the fault all works again.
 */
#include "s3_test.h"

#define BODY        20000u
#define DEADLINE_NS (1 * NSEC_PER_SEC)
/* An operation may end that much past its deadline: a busy machine, not a lost timer. */
#define GRACE_NS    (4 * NSEC_PER_SEC)
#define PATIENCE_NS (60 * NSEC_PER_SEC)

static struct s3_server srv;

static int group_setup(void **state)
{
	srv = s3d_start(0);
	return 0;
}

static int group_teardown(void **state)
{
	s3d_stop(&srv);
	return 0;
}

static int setup(void **state)
{
	char *bucket = malloc(64);

	assert_non_null(bucket);
	s3d_faults(&srv, "");
	s3_bucket_new(&srv, bucket);
	*state = bucket;
	return 0;
}

static int teardown(void **state)
{
	s3d_faults(&srv, "");
	free(*state);
	return 0;
}

static struct store *open_below(const char *bucket, const char *below)
{
	struct store_options o = s3_test_options(&srv);
	char url[256];

	snprintf(url, sizeof(url), "s3://%s/%s", bucket, below);
	return s3_open_store(url, &o);
}

/* ---- one fault, every operation ---- */

enum what { PUT, CREATE, UPDATE, GET, RANGE, HEAD, LIST, DELETE, WHATS };
#define B(x)    (1u << (x))
#define CHANGES (B(PUT) | B(CREATE) | B(UPDATE) | B(DELETE))
#define UPLOADS (B(PUT) | B(CREATE) | B(UPDATE))
#define BODIES  (B(GET) | B(RANGE) | B(LIST))
#define ALL     (B(WHATS) - 1)

static const char *const what_names[] = {"PUT",        "PUT if absent", "PUT if match", "GET",
					 "ranged GET", "HEAD",          "LIST",         "DELETE"};

/* What must become of an operation. */
enum fate {
	WORKS,   /* success */
	FAILS,   /* an error */
	REFUSED, /* an error, and definitely without effect */
	EITHER,  /* whatever is true */
	RETRIED, /* success; of a conditional change also: ambiguous */
};

struct fault {
	const char *rule;
	unsigned int bites; /* the others do not notice it */
	enum fate forever;  /* while it lasts */
	enum fate once;     /* when it happens once, with time for another try */
};

static const struct fault faults[] = {
	{"status=500", ALL, FAILS, RETRIED},
	{"status=503 retry_after=1", ALL, FAILS, RETRIED},
	{"status=503", ALL, FAILS, RETRIED},
	{"status=429", ALL, FAILS, RETRIED},
	{"status=409", ALL, FAILS, EITHER},
	{"status=400 code=RequestTimeout", ALL, FAILS, RETRIED},
	{"status=403", ALL, REFUSED, EITHER},
	{"status=403 code=InvalidAccessKeyId", ALL, REFUSED, EITHER},
	{"status=404 code=NoSuchBucket", ALL, REFUSED, EITHER},
	{"status=507", ALL, FAILS, EITHER},
	{"expired_token", ALL, REFUSED, EITHER},
	{"redirect=307", ALL, FAILS, EITHER},
	{"redirect=301", ALL, FAILS, EITHER},
	{"reset_before", ALL, FAILS, RETRIED},
	{"reset_after", ALL, FAILS, RETRIED},
	{"reset_body=100", UPLOADS, FAILS, RETRIED},
	{"hang_before", ALL, FAILS, EITHER},
	{"hang_after", ALL, FAILS, EITHER},
	{"slow=2000", UPLOADS | B(GET) | B(RANGE), FAILS, EITHER},
	{"slow=400000", ALL, EITHER, RETRIED},
	{"delay_ms=60", ALL, EITHER, RETRIED},
	{"truncate=100", BODIES, FAILS, RETRIED},
	{"truncate=0", BODIES, FAILS, RETRIED},
	{"wrong_etag", ALL, WORKS, WORKS},
	{"no_etag", UPLOADS | B(GET) | B(RANGE) | B(HEAD), EITHER, EITHER},
	{"bad_xml", B(LIST), FAILS, RETRIED},
	{"status=500 bad_xml", ALL, FAILS, RETRIED},
	{"status200_error", ALL, FAILS, EITHER},
	{"skew=3600", ALL, WORKS, WORKS},
	{"skew=-3600", ALL, WORKS, WORKS},
	{"close_idle", ALL, WORKS, WORKS},
	{"stall_idle", ALL, WORKS, WORKS},
};

/* One operation, met by a fault. */
struct meeting {
	const struct fault *fault;
	enum what what;
	bool once;
	struct store *s;
	char dir[32], key[64];
	unsigned char body[BODY];
	struct iovec iov;
	struct store_list_entry entries[4];
	struct store_op op;
	uint64_t begun_ns, ended_ns;
	bool ended;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake;

static void old_body(unsigned char *out)
{
	for (unsigned int i = 0; i < BODY; i++)
		out[i] = (unsigned char)(i * 31 >> 3);
}

static void ended(struct store_op *op)
{
	struct meeting *m = op->ctx;

	pthread_mutex_lock(&lock);
	m->ended_ns = now_ns();
	m->ended = true;
	pthread_cond_broadcast(&wake);
	pthread_mutex_unlock(&lock);
}

static void op_make(struct meeting *m, uint64_t deadline_ns)
{
	static const enum store_op_type types[] = {
		[PUT] = STORE_PUT,   [CREATE] = STORE_PUT,    [UPDATE] = STORE_PUT,
		[GET] = STORE_GET,   [RANGE] = STORE_GET,     [HEAD] = STORE_HEAD,
		[LIST] = STORE_LIST, [DELETE] = STORE_DELETE,
	};
	char etag[STORE_ETAG_MAX];

	memcpy(etag, m->op.etag, sizeof(etag));
	m->op = (struct store_op){.type = types[m->what],
				  .key = m->key,
				  .ctx = m,
				  .done = ended,
				  .deadline_ns = now_ns() + deadline_ns};
	if (m->op.type == STORE_PUT) {
		m->op.iov = &m->iov;
		m->op.iovcnt = 1;
	}
	m->iov = (struct iovec){m->body, BODY};
	if (m->what == CREATE)
		m->op.cond = STORE_IF_NONE_MATCH;
	if (m->what == UPDATE) {
		m->op.cond = STORE_IF_MATCH;
		memcpy(m->op.etag, etag, sizeof(etag));
	}
	if (m->what == RANGE) {
		m->op.off = 5000;
		m->op.len = 10000;
	}
	if (m->what == LIST) {
		m->op.key = m->dir;
		m->op.entries = m->entries;
		m->op.max_entries = ARRAY_SIZE(m->entries);
	}
}

/* The object before: absent for CREATE. Leaves its ETag in m->op.etag. */
static void prepare(struct meeting *m, struct store *clean)
{
	unsigned char before[BODY];

	old_body(before);
	memset(m->body, 0xa5, BODY);
	if (m->what != CREATE)
		assert_int_equal(put_bytes(clean, m->key, before, BODY, STORE_ALWAYS, m->op.etag),
				 0);
}

static void say(const struct meeting *m, const char *what)
{
	fail_msg("%s with '%s' %s: %s: result %d%s after %llu ms", what_names[m->what],
		 m->fault->rule, m->once ? "once" : "for ever", what, m->op.res,
		 m->op.ambiguous ? " (ambiguous)" : "",
		 (unsigned long long)((m->ended_ns - m->begun_ns) / NSEC_PER_MSEC));
}

static void check_fate(const struct meeting *m)
{
	bool bites = m->fault->bites & B(m->what), change = CHANGES & B(m->what);
	bool conditional = m->what == CREATE || m->what == UPDATE;
	enum fate fate = !bites ? WORKS : m->once ? m->fault->once : m->fault->forever;
	const struct store_op *op = &m->op;

	if (op->ambiguous && (!change || !op->res))
		say(m, "ambiguous without reason");
	switch (fate) {
	case WORKS:
		if (op->res)
			say(m, "did not work");
		break;
	case FAILS:
		if (!op->res)
			say(m, "succeeded");
		break;
	case REFUSED:
		if (!op->res || op->ambiguous)
			say(m, "not refused");
		break;
	case RETRIED:
		if (op->res && !(conditional && op->ambiguous))
			say(m, "not tried again");
		break;
	case EITHER:
		break;
	}
}

/* Success of a reading operation: exactly what is there. */
static void check_data(const struct meeting *m)
{
	const struct store_op *op = &m->op;
	unsigned char before[BODY];
	bool good = true;

	old_body(before);
	if (m->what == GET)
		good = op->size_out == BODY && !memcmp(op->buf, before, BODY);
	else if (m->what == RANGE)
		good = op->size_out == 10000 && !memcmp(op->buf, before + 5000, 10000) &&
		       op->object_size == BODY;
	else if (m->what == HEAD)
		good = op->object_size == BODY;
	else if (m->what == LIST)
		good = op->nr_entries == 1 && !op->truncated && op->entries[0].size == BODY &&
		       !strcmp(op->entries[0].key, m->key);
	if (!good)
		say(m, "wrong data");
}

/* A change: is what was reported true? */
static void check_truth(const struct meeting *m, struct store *clean)
{
	unsigned char before[BODY];
	struct store_op get = {.type = STORE_GET, .key = m->key};
	int r = store_run(clean, &get);
	bool changed;

	old_body(before);
	assert_true(!r || r == -ENOENT);
	if (!r && get.size_out != BODY)
		say(m, "half an object");
	if (m->what == DELETE || m->what == CREATE)
		changed = (r == -ENOENT) == (m->what == DELETE);
	else
		changed = !r && memcmp(get.buf, before, BODY) != 0;
	if (changed && m->what != DELETE && memcmp(get.buf, m->body, BODY) != 0)
		say(m, "another body");
	if (!m->op.res && !changed)
		say(m, "reported as done, but is not");
	if (m->op.res && !m->op.ambiguous && changed)
		say(m, "reported as not done, but is");
	free(get.buf);
}

static void meet_all(struct meeting *m, unsigned int n, uint64_t once_ns)
{
	uint64_t limit;

	for (unsigned int i = 0; i < n; i++) {
		m[i].ended = false;
		op_make(&m[i], m[i].once ? once_ns : DEADLINE_NS);
		m[i].begun_ns = now_ns();
		store_submit(m[i].s, &m[i].op);
	}
	limit = now_ns() + PATIENCE_NS;
	for (unsigned int i = 0; i < n; i++) {
		pthread_mutex_lock(&lock);
		while (!m[i].ended && !cond_wait_until(&wake, &lock, limit))
			;
		pthread_mutex_unlock(&lock);
		if (!m[i].ended)
			say(&m[i], "never ended");
	}
}

/* The fault for ever on some, and once on each of the others. */
static void set_rules(const struct fault *f, const struct meeting *m, unsigned int n)
{
	char *rules = NULL;
	size_t len;
	FILE *text = open_memstream(&rules, &len);

	assert_non_null(text);
	fprintf(text, "op=any key=x/ever-* %s\n", f->rule);
	for (unsigned int i = 0; i < n; i++)
		if (m[i].once)
			fprintf(text, "op=any key=x/%s* count=1 %s\n", m[i].dir, f->rule);
	fclose(text);
	s3d_faults(&srv, rules);
	free(rules);
}

static void meet_fault(const struct fault *f, const char *bucket, struct store *clean)
{
	static struct meeting m[2 * WHATS];

	memset(m, 0, sizeof(m));
	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++) {
		m[i].fault = f;
		m[i].what = i / 2;
		m[i].once = i % 2;
		snprintf(m[i].dir, sizeof(m[i].dir), "%s-%u/", m[i].once ? "once" : "ever", i);
		snprintf(m[i].key, sizeof(m[i].key), "%sk", m[i].dir);
		prepare(&m[i], clean);
		/* Each its own connections and its own opinion of the server. */
		m[i].s = open_below(bucket, "x");
	}
	set_rules(f, m, ARRAY_SIZE(m));
	meet_all(m, ARRAY_SIZE(m), PATIENCE_NS / 2);
	s3d_faults(&srv, "");
	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++) {
		if (!m[i].once && m[i].ended_ns > m[i].op.deadline_ns + GRACE_NS)
			say(&m[i], "long past its deadline");
		check_fate(&m[i]);
		if (CHANGES & B(m[i].what))
			check_truth(&m[i], clean);
		else if (!m[i].op.res)
			check_data(&m[i]);
		if (m[i].op.type == STORE_GET && !m[i].op.res)
			free(m[i].op.buf);
	}
	/* Afterwards everything works, on the same stores. */
	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++) {
		m[i].once = true;
		assert_int_equal(delete_key(clean, m[i].key, NULL), 0);
		prepare(&m[i], clean);
	}
	meet_all(m, ARRAY_SIZE(m), PATIENCE_NS / 2);
	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++) {
		if (m[i].op.res)
			say(&m[i], "does not work again after the fault");
		if (CHANGES & B(m[i].what))
			check_truth(&m[i], clean);
		else
			check_data(&m[i]);
		if (m[i].op.type == STORE_GET)
			free(m[i].op.buf);
		store_close(m[i].s);
	}
}

static void every_operation_survives_every_fault(void **state)
{
	struct store *clean = open_below(*state, "x");

	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		uint64_t begun = now_ns();

		meet_fault(&faults[i], *state, clean);
		print_message("%s: %llu ms\n", faults[i].rule,
			      (unsigned long long)((now_ns() - begun) / NSEC_PER_MSEC));
	}
	store_close(clean);
}

/* ---- a long time on a bad wire ---- */

#define WRITERS 4
#define STEPS   40

struct writer {
	const char *bucket;
	int me;
	pthread_t thread;
	char failed[160];
};

/* Values that the object may have now. */
struct known {
	int value[STEPS + 1];
	int nr;
};

static bool read_back(struct store *s, struct writer *w, struct known *k, const char *key, int step)
{
	char buf[64];
	int n = get_str(s, key, buf, sizeof(buf), NULL), v;

	if (n < 0)
		return true; /* says nothing */
	v = atoi(buf);
	for (int i = 0; i < k->nr; i++)
		if (k->value[i] == v)
			return true;
	snprintf(w->failed, sizeof(w->failed), "step %d: %s is %d, last acknowledged was %d", step,
		 key, v, k->value[0]);
	return false;
}

/* One writer a key: what it may read is what it wrote last, or what is not known to have failed. */
static void *write_and_read(void *arg)
{
	struct writer *w = arg;
	struct store *s = open_below(w->bucket, "soak");
	struct known k = {.value = {-1}, .nr = 0};
	char key[32], text[32];

	snprintf(key, sizeof(key), "exports/%d", w->me);
	for (int step = 0; step < STEPS; step++) {
		struct iovec iov = {text, (size_t)snprintf(text, sizeof(text), "%d", step)};
		struct store_op op = {.type = STORE_PUT,
				      .key = key,
				      .iov = &iov,
				      .iovcnt = 1,
				      .deadline_ns = now_ns() + 3 * NSEC_PER_SEC};

		if (!store_run(s, &op))
			k.nr = 0;
		if (!op.res || op.ambiguous)
			k.value[k.nr++] = step;
		if (k.nr && !read_back(s, w, &k, key, step))
			break;
	}
	store_close(s);
	return NULL;
}

static void what_is_acknowledged_on_a_bad_wire_is_there(void **state)
{
	struct writer w[WRITERS];
	uint64_t fired;

	for (int i = 0; i < WRITERS; i++)
		w[i] = (struct writer){.bucket = *state, .me = i};
	s3d_faults(&srv, "op=put key=soak/* reset_after percent=10 seed=1\n"
			 "op=put key=soak/* reset_before percent=10 seed=2\n"
			 "op=put key=soak/* status=500 percent=10 seed=3\n"
			 "op=get key=soak/* truncate=1 percent=20 seed=4\n"
			 "op=get key=soak/* status=503 percent=10 seed=5\n"
			 "op=get key=soak/* reset_before percent=10 seed=6\n"
			 "op=put key=soak/* hang_after percent=2 seed=7\n");
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&w[i].thread, NULL, write_and_read, &w[i]), 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(w[i].thread, NULL);
	fired = s3d_stat(&srv, "faults_fired");
	for (int i = 0; i < WRITERS; i++)
		if (w[i].failed[0])
			fail_msg("%s", w[i].failed);
	assert_true(fired > WRITERS * STEPS / 10);
}

/* ---- connections, load, restarts ---- */

static void connections_are_kept(void **state)
{
	struct store *s = open_below(*state, "p");
	uint64_t before;

	assert_int_equal(put_str(s, "k", "x", STORE_ALWAYS, NULL), 0);
	before = s3d_stat(&srv, "connections");
	for (int i = 0; i < 100; i++)
		assert_object(s, "k", "x");
	/* The two of the counter are its own. */
	assert_in_range(s3d_stat(&srv, "connections") - before, 0, 4);
	store_close(s);
}

static void connections_stay_below_their_limit(void **state)
{
	enum { OPS = 100, LIMIT = 6 };
	struct store_options o = s3_test_options(&srv);
	static struct meeting m[OPS];
	char url[128];
	struct store *s;

	o.s3.max_connections = LIMIT;
	snprintf(url, sizeof(url), "s3://%s/p", (char *)*state);
	s = s3_open_store(url, &o);
	assert_int_equal(put_str(s, "k", "x", STORE_ALWAYS, NULL), 0);
	s3d_faults(&srv, "op=head delay_ms=5");
	assert_int_equal(http_request(&srv, "DELETE", "/_s3d/stats", "", "", NULL, 0), 200);
	memset(m, 0, sizeof(m));
	for (int i = 0; i < OPS; i++) {
		m[i].fault = &faults[0];
		m[i].what = HEAD;
		m[i].once = true;
		m[i].s = s;
		strcpy(m[i].key, "k");
	}
	meet_all(m, OPS, PATIENCE_NS);
	for (int i = 0; i < OPS; i++)
		assert_int_equal(m[i].op.res, 0);
	assert_in_range(s3d_stat(&srv, "max_concurrent"), 2, LIMIT);
	store_close(s);
}

static void a_server_that_asks_for_time_gets_it(void **state)
{
	struct store *s = open_below(*state, "p");
	uint64_t begun = now_ns();

	s3d_faults(&srv, "op=put status=503 retry_after=2 count=1");
	assert_int_equal(put_str(s, "k", "x", STORE_ALWAYS, NULL), 0);
	assert_true(now_ns() - begun >= 2 * NSEC_PER_SEC);
	store_close(s);
}

static void a_dead_server_fails_operations_in_time_and_is_found_again(void **state)
{
	struct s3_server own = s3d_start(0);
	struct store_options o = s3_test_options(&own);
	struct store_op op;
	struct iovec iov = {"x", 1};
	char bucket[64], url[128];
	struct store *s;

	s3_bucket_new(&own, bucket);
	snprintf(url, sizeof(url), "s3://%s/p", bucket);
	s = s3_open_store(url, &o);
	assert_int_equal(put_str(s, "k", "x", STORE_ALWAYS, NULL), 0);
	s3d_stop(&own);
	for (int i = 0; i < 5; i++) {
		uint64_t begun = now_ns();

		op = (struct store_op){.type = STORE_PUT,
				       .key = "k",
				       .iov = &iov,
				       .iovcnt = 1,
				       .cond = STORE_IF_NONE_MATCH,
				       .deadline_ns = begun + DEADLINE_NS / 2};
		assert_true(store_run(s, &op) < 0);
		assert_true(now_ns() - begun < DEADLINE_NS / 2 + GRACE_NS);
		/* Nobody was there: nothing can have happened. The first may have met the end. */
		assert_true(!i || !op.ambiguous);
	}
	own = s3d_start(own.port);
	assert_true(own.port);
	/* The bucket went with the server; a new one has the same name. */
	{
		struct store_op head = {
			.type = STORE_HEAD, .key = "k", .deadline_ns = now_ns() + PATIENCE_NS};

		assert_int_not_equal(store_run(s, &head), -ETIMEDOUT);
	}
	store_close(s);
	s3d_stop(&own);
}

static void a_wrong_key_is_refused_with_a_reason(void **state)
{
	struct store_options o = s3_test_options(&srv);
	char url[128], err[512] = "";
	struct store *s = NULL;
	struct store_s3_stats st;
	int r;

	snprintf(url, sizeof(url), "s3://%s/p", (char *)*state);
	o.s3.secret_access_key = "not the secret";
	r = store_open_with(url, &o, &s, err, sizeof(err));
	if (!r) {
		assert_true(put_str(s, "k", "x", STORE_ALWAYS, NULL) < 0);
		assert_true(store_s3_stats(s, &st));
		snprintf(err, sizeof(err), "%s", st.problem);
		store_close(s);
	}
	print_message("%s\n", err);
	assert_non_null(strstr(err, "SignatureDoesNotMatch"));
}

static void a_server_without_conditional_put_is_refused(void **state)
{
	struct store_options o = s3_test_options(&srv);
	char url[128], err[512] = "";
	struct store *s = NULL;

	snprintf(url, sizeof(url), "s3://%s/p", (char *)*state);
	s3d_faults(&srv, "op=any no_conditional");
	assert_int_equal(store_open_with(url, &o, &s, err, sizeof(err)), -EOPNOTSUPP);
	print_message("%s\n", err);
	assert_true(strlen(err) > 20);
	o.s3.single_host = true;
	s = s3_open_store(url, &o);
	assert_int_equal(put_str(s, "k", "x", STORE_ALWAYS, NULL), 0);
	assert_object(s, "k", "x");
	store_close(s);
}

/* Conditions hold on servers that take only one form of If-Match, and none with DELETE. */
static void both_forms_of_if_match_are_found_out(void **state)
{
	static const char *const rules[] = {"op=any quoted_only", "op=any unquoted_only",
					    "op=any unquoted_only delete_unconditional"};
	char etag[STORE_ETAG_MAX], old[STORE_ETAG_MAX], below[16];

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		struct store *s;

		s3d_faults(&srv, rules[i]);
		snprintf(below, sizeof(below), "p%zu", i);
		s = open_below(*state, below);
		assert_int_equal(put_str(s, "k", "1", STORE_IF_NONE_MATCH, etag), 0);
		memcpy(old, etag, sizeof(old));
		assert_int_equal(put_str(s, "k", "2", STORE_IF_MATCH, etag), 0);
		assert_int_equal(delete_key(s, "k", old), -ESTALE);
		assert_int_equal(put_str(s, "k", "3", STORE_IF_MATCH, old), -ESTALE);
		assert_object(s, "k", "2");
		store_close(s);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(every_operation_survives_every_fault),
		T(what_is_acknowledged_on_a_bad_wire_is_there),
		T(connections_are_kept),
		T(connections_stay_below_their_limit),
		T(a_server_that_asks_for_time_gets_it),
		T(a_dead_server_fails_operations_in_time_and_is_found_again),
		T(a_wrong_key_is_refused_with_a_reason),
		T(a_server_without_conditional_put_is_refused),
		T(both_forms_of_if_match_are_found_out),
	};

	cond_init_mono(&wake);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
