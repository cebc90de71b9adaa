// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every operation of the S3 store against everything that a wire and a server can do to it. Always:
 * no wrong data, an end by the deadline, what is reported as done is done, what is reported as
 * definitely not done is not, and after the fault all works again.
 */
#include "store_test.h"
#include "selftests/unit/s3_server.h"

#define WAVE 4u /* faults at once */
#define BODY 20000u
/* Time for another try: the default of the store. */
#define ONCE_NS     (30 * NSEC_PER_SEC)
#define DEADLINE_NS (1 * NSEC_PER_SEC)
/* An operation may end that much past its deadline: a busy machine, not a lost timer. */
#define GRACE_NS    (4 * NSEC_PER_SEC)
#define PATIENCE_NS (60 * NSEC_PER_SEC)

static struct s3_server srv;

static int setup(void **state)
{
	s3_server_start(&srv, NULL);
	/* Faults come after the probe. */
	srv.options.probe_wait_ns = PATIENCE_NS;
	return 0;
}

static int teardown(void **state)
{
	s3_server_stop(&srv);
	return 0;
}

/* ---- one fault, every operation ---- */

enum what { PUT, CREATE, UPDATE, GET, RANGE, HEAD, LIST, DELETE, NR_WHAT };
#define B(x)        (1u << (x))
#define CHANGES     (B(PUT) | B(CREATE) | B(UPDATE) | B(DELETE))
#define UPLOADS     (B(PUT) | B(CREATE) | B(UPDATE))
#define BODIES      (B(GET) | B(RANGE) | B(LIST))
#define CONDITIONAL (B(CREATE) | B(UPDATE))
#define ALL         (B(NR_WHAT) - 1)

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

/* The slow ones first, and together: WAVE faults happen at once. */
static const struct fault faults[] = {
	{"hang_before", ALL, FAILS, RETRIED},
	{"hang_after", ALL, FAILS, RETRIED},
	{"stall_idle", ALL, WORKS, WORKS},
	{"slow=2000", UPLOADS | B(GET) | B(RANGE), FAILS, EITHER},
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
	assert_int_equal(delete_key(clean, m->key, NULL), 0);
	if (m->what != CREATE)
		assert_int_equal(put_bytes(clean, m->key, before, BODY, STORE_ALWAYS, m->op.etag),
				 0);
}

static unsigned int broken;

/* Goes on: one run shows everything that is broken. */
static void say(const struct meeting *m, const char *what)
{
	broken++;
	print_error("%s with '%s' %s: %s: result %d%s after %llu ms\n", what_names[m->what],
		    m->fault->rule, m->once ? "once" : "for ever", what, m->op.res,
		    m->op.ambiguous ? " (ambiguous)" : "",
		    (unsigned long long)((m->ended_ns - m->begun_ns) / NSEC_PER_MSEC));
}

static void check_fate(const struct meeting *m)
{
	bool bites = m->fault->bites & B(m->what), change = CHANGES & B(m->what);
	bool conditional = CONDITIONAL & B(m->what);
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
		fail_msg("%s with '%s': half an object", what_names[m->what], m->fault->rule);
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

static void meet_all(struct meeting *m, unsigned int n)
{
	uint64_t limit;

	for (unsigned int i = 0; i < n; i++) {
		m[i].ended = false;
		op_make(&m[i], m[i].once ? ONCE_NS : DEADLINE_NS);
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
			fail_msg("%s with '%s' never ended", what_names[m[i].what],
				 m[i].fault->rule);
	}
}

/* Of each fault: for ever on some, and once on each of the others. */
static void set_rules(const struct meeting *m, unsigned int n)
{
	char *rules = NULL;
	size_t len;
	FILE *text = open_memstream(&rules, &len);

	assert_non_null(text);
	for (unsigned int i = 0; i < n; i++)
		fprintf(text, "op=any key=p/%s* %s %s\n", m[i].dir, m[i].once ? "count=1" : "",
			m[i].fault->rule);
	fclose(text);
	s3_server_rules(&srv, rules);
	free(rules);
}

static void check_all(struct meeting *m, unsigned int n, struct store *clean, bool after)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct store_op *op = &m[i].op;

		if (m[i].ended_ns > op->deadline_ns + GRACE_NS)
			say(&m[i], "long past its deadline");
		if (after && op->res && !(CONDITIONAL & B(m[i].what) && op->ambiguous))
			say(&m[i], "does not work again after the fault");
		if (!after)
			check_fate(&m[i]);
		if (CHANGES & B(m[i].what))
			check_truth(&m[i], clean);
		else if (!op->res)
			check_data(&m[i]);
		if (op->type == STORE_GET && !op->res)
			free(op->buf);
	}
}

static void meet_faults(const struct fault *f, unsigned int nr, struct store *clean)
{
	static struct meeting m[WAVE * 2 * NR_WHAT];
	unsigned int n = nr * 2 * NR_WHAT;

	memset(m, 0, sizeof(m));
	for (unsigned int i = 0; i < n; i++) {
		m[i].fault = &f[i / (2 * NR_WHAT)];
		m[i].what = i / 2 % NR_WHAT;
		m[i].once = i % 2;
		snprintf(m[i].dir, sizeof(m[i].dir), "dir-%03u/", i);
		snprintf(m[i].key, sizeof(m[i].key), "%sk", m[i].dir);
		prepare(&m[i], clean);
		/* Each its own connections and its own opinion of the server. */
		m[i].s = s3_server_open(&srv);
	}
	set_rules(m, n);
	meet_all(m, n);
	s3_server_rules(&srv, "");
	check_all(m, n, clean, false);
	/* Afterwards everything works, on the same stores. */
	for (unsigned int i = 0; i < n; i++) {
		m[i].once = true;
		prepare(&m[i], clean);
	}
	meet_all(m, n);
	check_all(m, n, clean, true);
	for (unsigned int i = 0; i < n; i++)
		store_close(m[i].s);
}

static void every_operation_survives_every_fault(void **state)
{
	struct store *clean = s3_server_open(&srv);

	for (unsigned int i = 0; i < ARRAY_SIZE(faults); i += WAVE) {
		uint64_t begun = now_ns();

		meet_faults(&faults[i], MIN(WAVE, ARRAY_SIZE(faults) - i), clean);
		print_message("'%s' and those with it: %llu ms\n", faults[i].rule,
			      (unsigned long long)((now_ns() - begun) / NSEC_PER_MSEC));
	}
	store_close(clean);
	assert_int_equal(broken, 0);
}

/* ---- connections that died while they were idle ---- */

#define IDLE_NR 6
/* Of a request: far more than a busy machine needs for it. */
#define TRY_NS (3 * NSEC_PER_SEC)
/* Longer than one has been seen to fail and connections are opened anew for a while. */
#define WATCH_NS (TRY_NS + 4 * NSEC_PER_SEC)

static int get_within(struct store *s, const char *key, uint64_t ns)
{
	struct store_op get = {.type = STORE_GET, .key = key, .deadline_ns = now_ns() + ns};
	int r = store_run(s, &get);

	free(get.buf);
	return r;
}

static void *get_once(void *s)
{
	return (void *)(intptr_t)get_within(s, "kept", ONCE_NS);
}

/* A dead peer that still acknowledges bytes: each of its connections costs who takes it a try. */
static void connections_stalled_while_idle_cost_one_request(void **state)
{
	struct store *s = s3_server_open(&srv);
	unsigned int failed = 0, asked = 0;
	pthread_t threads[IDLE_NR];
	uint64_t end;

	assert_int_equal(put_str(s, "kept", "value", STORE_ALWAYS, NULL), 0);
	/* At once, so that each has a connection of its own. */
	s3_server_rules(&srv, "op=get delay_ms=500 stall_idle");
	for (int i = 0; i < IDLE_NR; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, get_once, s), 0);
	for (int i = 0; i < IDLE_NR; i++) {
		void *r;

		pthread_join(threads[i], &r);
		assert_null(r);
	}
	s3_server_rules(&srv, "");
	end = now_ns() + WATCH_NS;
	do {
		failed += get_within(s, "kept", TRY_NS) != 0;
		asked++;
		nanosleep(&(struct timespec){.tv_nsec = 50 * NSEC_PER_MSEC}, NULL);
	} while (now_ns() < end || asked < 2 * IDLE_NR);
	if (failed > 1)
		fail_msg("%u of %u requests failed after the fault", failed, asked);
	store_close(s);
}

/* ---- a long time on a bad wire ---- */

#define WRITERS 4
#define STEPS   40

struct writer {
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
	struct store *s = s3_server_open(&srv);
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
		w[i] = (struct writer){.me = i};
	s3_server_rules(&srv, "op=put key=p/* reset_after percent=10 seed=1\n"
			      "op=put key=p/* reset_before percent=10 seed=2\n"
			      "op=put key=p/* status=500 percent=10 seed=3\n"
			      "op=get key=p/* truncate=1 percent=20 seed=4\n"
			      "op=get key=p/* status=503 percent=10 seed=5\n"
			      "op=get key=p/* reset_before percent=10 seed=6\n"
			      "op=put key=p/* hang_after percent=2 seed=7\n");
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&w[i].thread, NULL, write_and_read, &w[i]), 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(w[i].thread, NULL);
	fired = s3_server_stat(&srv, "faults_fired");
	for (int i = 0; i < WRITERS; i++)
		if (w[i].failed[0])
			fail_msg("%s", w[i].failed);
	assert_true(fired > WRITERS * STEPS / 10);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(every_operation_survives_every_fault),
		T(connections_stalled_while_idle_cost_one_request),
		T(what_is_acknowledged_on_a_bad_wire_is_there),
	};

	cond_init_mono(&wake);
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
