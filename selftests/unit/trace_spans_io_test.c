// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the daemon's parts say of themselves while they wait: from a guest request that hangs one
 * gets to the store operation that it waits for; a request that is served locally says nothing; and
 * when all has ended nothing is left open.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/volume_priv.h"
#include "engine_harness.h"
#include "lib/spans.h"
#include "tracing/daemon_spans.h"

#define VOLUME_BYTES (256 * MiB)
#define BB           (64 * KiB)
#define BB_SECTORS   (BB / SECTOR_SIZE)
#define READS        12u

/* What is open in this process. */
struct seen {
	struct daemon_spans *d;
	struct rec_span span[256];
	size_t nr;
};

static void seen_add(void *ctx, const struct rec *r)
{
	struct seen *s = ctx;

	assert_true(s->nr < ARRAY_SIZE(s->span));
	s->span[s->nr++] = r->span;
}

static void seen_read(struct seen *s)
{
	s->nr = 0;
	assert_true(daemon_spans_read(s->d, seen_add, s) >= 0);
}

static void seen_init(struct seen *s)
{
	char err[200];

	memset(s, 0, sizeof(*s));
	if (daemon_spans_open((uint32_t)getpid(), &s->d, err, sizeof(err)))
		fail_msg("%s", err);
}

static const struct rec_span *event_of(const struct seen *s, const char *event, uint64_t op_id)
{
	for (size_t i = 0; i < s->nr; i++)
		if (!strcmp(s->span[i].event, event) && (!op_id || s->span[i].op_id == op_id))
			return &s->span[i];
	return NULL;
}

static unsigned int count_of(const struct seen *s, const char *event)
{
	unsigned int n = 0;

	for (size_t i = 0; i < s->nr; i++)
		n += !strcmp(s->span[i].event, event);
	return n;
}

static const struct rec_span *tag_of(const struct seen *s, uint16_t queue, uint16_t tag)
{
	for (size_t i = 0; i < s->nr; i++)
		if (s->span[i].is_io && s->span[i].queue == queue && s->span[i].tag == tag)
			return &s->span[i];
	return NULL;
}

static bool nothing_open(void *arg)
{
	struct seen *s = arg;

	seen_read(s);
	return !s->nr;
}

/* A volume with data in the store only, and nothing of it cached; device 9 as far as it knows. */
static void cold_volume(struct harness *h)
{
	uint8_t *data = malloc(READS * BB);

	assert_non_null(data);
	/* Each block another content, or one would be the other for the cache. */
	for (uint32_t i = 0; i < READS; i++)
		memset(data + i * BB, (int)i + 1, BB);
	harness_init(h);
	harness_start(h);
	harness_create(h, "vm-1", VOLUME_BYTES, BB);
	for (uint32_t i = 0; i < READS; i++)
		assert_int_equal(
			harness_io(h, GFS_WRITE, i * BB_SECTORS, BB_SECTORS, data + i * BB), 0);
	harness_drain(h);
	harness_stop(h);
	harness_start(h);
	assert_int_equal(harness_open(h, "vm-1", CLAIM_OWN, true, NULL), 0);
	volume_set_dev_id(h->v, 9);
	free(data);
}

/* A request with a place in a queue, as the kernel's have. */
struct treq {
	struct gfs_req req;
	struct worker_msg msg;
	struct lane *lane;
	uint8_t *guest;
	int res;
	bool ended; /* atomic */
};

static int treq_copy(struct gfs_req *req, void *buf, uint32_t len, uint32_t off)
{
	struct treq *t = container_of(req, struct treq, req);

	if (req->op == GFS_WRITE)
		memcpy(buf, t->guest + off, len);
	else
		memcpy(t->guest + off, buf, len);
	return 0;
}

static void treq_done(struct gfs_req *req, int res)
{
	struct treq *t = container_of(req, struct treq, req);

	t->res = res;
	__atomic_store_n(&t->ended, true, __ATOMIC_RELEASE);
}

static void treq_submit(struct worker *w __unused, struct worker_msg *msg)
{
	struct treq *t = container_of(msg, struct treq, msg);

	lane_submit(t->lane, &t->req);
}

static void treq_start(struct harness *h, struct treq *t, unsigned int i, enum gfs_op op,
		       uint64_t sector, uint32_t nsectors, uint8_t *guest)
{
	memset(t, 0, sizeof(*t));
	t->req = (struct gfs_req){
		.op = op,
		.fua = op == GFS_WRITE,
		.sector = sector,
		.nsectors = nsectors,
		.queue = (uint16_t)(i % 2),
		.tag = (uint16_t)(100 + i),
		.copy = treq_copy,
		.done = treq_done,
	};
	t->guest = guest;
	t->lane = h->lane[i % h->nr_lanes];
	t->msg.run = treq_submit;
	worker_post(t->lane->w, &t->msg);
}

static bool treq_ended(void *arg)
{
	return __atomic_load_n(&((struct treq *)arg)->ended, __ATOMIC_ACQUIRE);
}

static void treq_wait(struct treq *t)
{
	harness_until(treq_ended, t, "the end of a request");
	assert_int_equal(t->res, 0);
}

/* ---- reads that wait for the store ---- */

struct waiting {
	struct seen *s;
	unsigned int nr;
	const char *why; /* it is not as it should be yet */
};

/* From each of the reads one gets to a GET that is under way. */
static bool each_leads_to_its_get(void *arg)
{
	struct waiting *w = arg;

	seen_read(w->s);
	w->why = "not all reads have a span";
	for (unsigned int i = 0; i < w->nr; i++) {
		const struct rec_span *io = tag_of(w->s, (uint16_t)(i % 2), (uint16_t)(100 + i));
		const struct rec_span *get;

		if (!io)
			return false;
		w->why = "a read leads to no GET";
		get = event_of(w->s, "object.get", io->op_id);
		if (!get && io->link_op_id)
			get = event_of(w->s, "object.get", io->link_op_id);
		if (!get)
			return false;
		assert_true(io->op_id && get->op_id);
		assert_string_equal(io->event, "io.slow");
		assert_string_equal(io->stage, "store");
		assert_string_equal(io->volume, "vm-1");
		assert_int_equal(io->dev, 9);
		assert_int_equal(io->io_op, 'R');
		assert_true(io->sector < READS * BB_SECTORS && io->nsectors);
		assert_non_null(strstr(get->key, "chunks/"));
		assert_true(get->start_ns && get->start_ns <= now_ns());
		assert_true(get->attempt >= 1);
	}
	return true;
}

static void reads_expect(struct harness *h, struct seen *s, const char *what)
{
	static uint8_t guest[READS][BB];
	struct waiting w = {.s = s, .nr = READS};
	struct treq r[READS];

	harness_fault(h, "get:chunks/* hang");
	/* Pairs want the same block; neighbours may be merged into one GET. */
	for (unsigned int i = 0; i < READS; i++)
		treq_start(h, &r[i], i, GFS_READ, i / 2 * BB_SECTORS + i % 2, 8, guest[i]);
	harness_until(each_leads_to_its_get, &w, what);
	assert_int_equal(count_of(s, "io.slow"), READS);
	harness_fault(h, "");
	for (unsigned int i = 0; i < READS; i++)
		treq_wait(&r[i]);
	harness_until(nothing_open, s, "all spans to be closed");
}

static void a_waiting_read_leads_to_its_get(void **state)
{
	struct harness h;
	struct seen s;

	seen_init(&s);
	cold_volume(&h);
	reads_expect(&h, &s, "GETs of an index");
	/* The index is here now, the blocks are not: those of before fill few of them. */
	harness_stop(&h);
	harness_start(&h);
	assert_int_equal(harness_open(&h, "vm-1", CLAIM_OWN, true, NULL), 0);
	volume_set_dev_id(h.v, 9);
	{
		static uint8_t guest[SECTOR_SIZE];

		assert_int_equal(harness_io(&h, GFS_READ, (READS - 1) * BB_SECTORS, 1, guest), 0);
	}
	reads_expect(&h, &s, "GETs of blocks");
	harness_stop(&h);
	harness_fini(&h);
	daemon_spans_close(s.d);
}

/* ---- the retry of a GET ---- */

static bool second_attempt(void *arg)
{
	struct seen *s = arg;
	const struct rec_span *get;

	seen_read(s);
	get = event_of(s, "object.get", 0);
	return get && get->attempt >= 2 && tag_of(s, 0, 100);
}

static void a_retried_get_says_which_attempt_it_is(void **state)
{
	static uint8_t guest[SECTOR_SIZE];
	struct harness h;
	struct treq r;
	struct seen s;

	seen_init(&s);
	cold_volume(&h);
	harness_fault(&h, "get:chunks/* error=EIO count=2;get:chunks/* hang");
	treq_start(&h, &r, 0, GFS_READ, 0, 1, guest);
	harness_until(second_attempt, &s, "a second attempt");
	harness_fault(&h, "");
	treq_wait(&r);
	harness_until(nothing_open, &s, "all spans to be closed");
	harness_stop(&h);
	harness_fini(&h);
	daemon_spans_close(s.d);
}

/* ---- attempts of an upload ---- */

struct drainer {
	struct harness *h;
	struct seen *s;
	const char *key; /* part of the one that is awaited */
	int res;
};

static void *drain_run(void *arg)
{
	struct drainer *dr = arg;
	struct fmt_err err;

	dr->res = volume_drain(dr->h->v, 60 * NSEC_PER_SEC, 77, &err);
	return NULL;
}

static bool second_put(void *arg)
{
	struct drainer *dr = arg;

	seen_read(dr->s);
	for (size_t i = 0; i < dr->s->nr; i++) {
		const struct rec_span *sp = &dr->s->span[i];

		if (!strcmp(sp->event, "object.put") && strstr(sp->key, dr->key) &&
		    sp->attempt == 2) {
			assert_int_equal(sp->op_id, 77);
			assert_string_equal(sp->volume, "vm-1");
			return true;
		}
	}
	return false;
}

static void a_retried_put_says_which_attempt_it_is(void **state)
{
	static const struct {
		const char *rules, *key;
	} puts[] = {
		{"put:chunks/* error=EIO count=1;put:chunks/* hang count=1", "chunks/"},
		{"put:*manifest* error=EIO count=1;put:*manifest* hang count=1", "manifest"},
		{"put:*export.json ambiguous=before count=1;put:*export.json hang count=1",
		 "export.json"},
	};
	static uint8_t guest[BB];
	struct harness h;
	struct seen s;

	seen_init(&s);
	for (size_t i = 0; i < ARRAY_SIZE(puts); i++) {
		struct drainer dr = {.h = &h, .s = &s, .key = puts[i].key};
		pthread_t t;

		/* A volume of its own: after a drain the housekeeper may upload once more, with an
		 * operation of its own. */
		harness_init(&h);
		harness_start(&h);
		harness_create(&h, "vm-1", VOLUME_BYTES, BB);
		memset(guest, (int)i + 1, sizeof(guest));
		assert_int_equal(harness_io(&h, GFS_WRITE, 0, BB_SECTORS, guest), 0);
		harness_fault(&h, puts[i].rules);
		assert_int_equal(pthread_create(&t, NULL, drain_run, &dr), 0);
		harness_until(second_put, &dr, puts[i].key);
		harness_fault(&h, "");
		assert_int_equal(pthread_join(t, NULL), 0);
		assert_int_equal(dr.res, 0);
		harness_stop(&h);
		harness_until(nothing_open, &s, "all spans to be closed");
		harness_fini(&h);
	}
	daemon_spans_close(s.d);
}

/* ---- local requests ---- */

static void a_local_request_touches_no_table(void **state)
{
	static uint8_t guest[BB];
	uint32_t before = 0;
	struct harness h;

	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "vm-1", VOLUME_BYTES, BB);
	/*
	 * Using a slot moves its state; the sum of all tells whether any was used. The first round
	 * waits for local space to be set up.
	 */
	for (int round = 0; round < 2; round++) {
		const uint32_t *states = (const uint32_t *)(uintptr_t)spans_header()->states;
		uint32_t sum = 0;

		for (int i = 0; i < 100; i++) {
			assert_int_equal(harness_io(&h, GFS_WRITE, 8 * (uint64_t)i, 8, guest), 0);
			assert_int_equal(harness_io(&h, GFS_READ, 8 * (uint64_t)i, 8, guest), 0);
			assert_int_equal(harness_io(&h, GFS_DISCARD, 8 * (uint64_t)i, 8, NULL), 0);
			assert_int_equal(harness_io(&h, GFS_READ, 4 * (uint64_t)i, 16, guest), 0);
		}
		for (unsigned int i = 0; i < SPANS_SLOTS; i++)
			sum += __atomic_load_n(&states[i], __ATOMIC_RELAXED);
		if (round)
			assert_int_equal(sum, before);
		before = sum;
	}
	harness_stop(&h);
	harness_fini(&h);
}

/* ---- waiting for space, and the upload that makes it ---- */

static bool waits_for_space(void *arg)
{
	struct seen *s = arg;
	const struct rec_span *io, *put;

	seen_read(s);
	io = tag_of(s, 0, 100);
	put = event_of(s, "object.put", 0);
	if (!io || !put || !event_of(s, "upload", put->op_id))
		return false;
	assert_string_equal(io->stage, "space");
	assert_int_equal(io->io_op, 'W');
	assert_string_equal(event_of(s, "upload", put->op_id)->volume, "vm-1");
	return true;
}

static void a_write_without_space_and_its_upload_are_seen(void **state)
{
	static uint8_t guest[512 * KiB];
	struct harness h;
	struct treq r;
	struct seen s;

	/* Zeros would need no PUT. */
	random_bytes(guest, sizeof(guest));
	seen_init(&s);
	harness_init(&h);
	h.cfg.volume_max_bytes = sizeof(guest);
	h.cfg.space_wait_ns = 60 * NSEC_PER_SEC;
	harness_start(&h);
	harness_create(&h, "vm-1", VOLUME_BYTES, BB);
	harness_fault(&h, "put:chunks/* hang");
	assert_int_equal(harness_io(&h, GFS_WRITE, 0, sizeof(guest) / SECTOR_SIZE, guest), 0);
	/* Flushed in the end: the span follows it there. */
	treq_start(&h, &r, 0, GFS_WRITE, 65536, 8, guest);
	harness_until(waits_for_space, &s, "a write in want of space");
	harness_fault(&h, "");
	treq_wait(&r);
	harness_stop(&h);
	harness_until(nothing_open, &s, "all spans to be closed");
	harness_fini(&h);
	daemon_spans_close(s.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_waiting_read_leads_to_its_get),
		cmocka_unit_test(a_retried_get_says_which_attempt_it_is),
		cmocka_unit_test(a_retried_put_says_which_attempt_it_is),
		cmocka_unit_test(a_local_request_touches_no_table),
		cmocka_unit_test(a_write_without_space_and_its_upload_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
