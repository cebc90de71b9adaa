// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Snapshots: a point in time that has everything acknowledged before, under load; whole or absent,
 * whichever operation of the store fails, hangs or is ambiguous; only of a volume that is ours.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define BLOCK       (64 * KiB)
#define SLOTS       64 /* each a sector in a block of its own */
#define SLOT_SECTOR (BLOCK / SECTOR_SIZE)

static void fill(uint8_t *p, uint64_t value)
{
	for (size_t i = 0; i < SECTOR_SIZE; i += 8)
		memcpy(p + i, &value, 8);
}

static void write_slot(struct harness *h, unsigned int slot, uint64_t value)
{
	uint8_t sector[SECTOR_SIZE];

	fill(sector, value);
	assert_int_equal(harness_io(h, GFS_WRITE, slot * SLOT_SECTOR, 1, sector), 0);
}

/* Drain to a mark of now, then snapshot. */
static int take(struct harness *h, const char *tag, struct snapshot *s, struct fmt_err *err)
{
	uint64_t mark = volume_drain_mark(h->v);
	int r = volume_drain_to(h->v, mark, 20 * NSEC_PER_SEC, 1, err);

	return r ? r : volume_snapshot(h->v, tag, 1, s, err);
}

static void must_take(struct harness *h, const char *tag, struct snapshot *s)
{
	struct fmt_err err = {""};

	if (take(h, tag, s, &err))
		fail_msg("snapshot: %s", err.msg);
}

static int count_key(const char *key, void *arg)
{
	(*(unsigned int *)arg)++;
	return 0;
}

static unsigned int count_keys(struct harness *h, const char *prefix)
{
	struct fmt_err err = {""};
	unsigned int n = 0;

	if (object_list(h->e, prefix, count_key, &n, &err))
		fail_msg("%s", err.msg);
	return n;
}

static size_t list_snapshots(struct harness *h, const char *name, struct snapshot_entry **e)
{
	struct fmt_err err = {""};
	size_t nr;

	if (snapshot_list(h->e, name, 1, e, &nr, &err))
		fail_msg("%s", err.msg);
	return nr;
}

/* The slots as another host reads them, which has the snapshot and nothing else. */
static void read_image(struct harness *h, const struct snapshot *s, uint64_t value[SLOTS])
{
	struct root r = {.block_bytes = s->block_bytes, .manifest = s->manifest};
	struct fmt_err err = {""};
	struct manifest *m;

	memcpy(r.uuid, s->uuid, sizeof(r.uuid));
	snprintf(r.name, sizeof(r.name), "%s", s->name);
	if (root_manifest_load(h->e, &r, 1, &m, &err))
		fail_msg("manifest: %s", err.msg);
	for (unsigned int i = 0; i < SLOTS; i++) {
		struct cache_buf *buf = NULL;

		assert_int_equal(fetch_block_sync(h->e->fetcher, m, i, 1, &buf), 0);
		value[i] = 0;
		if (buf)
			memcpy(&value[i], buf->data, 8);
		cache_buf_put(buf);
	}
	manifest_put(m);
}

static void an_idle_volume_uploads_nothing(void **state)
{
	struct harness h;
	struct snapshot a, b, c, back;
	struct snapshot_entry *e;
	struct fmt_err err = {""};
	unsigned int chunks, manifests;

	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "vm-1", SLOTS * BLOCK, BLOCK);
	must_take(&h, "empty", &a);
	assert_string_equal(a.manifest.id, "");
	write_slot(&h, 3, 7);
	must_take(&h, "", &b);
	chunks = count_keys(&h, "chunks/");
	manifests = count_keys(&h, "manifests/");
	assert_int_equal(chunks, 1);
	must_take(&h, "again", &c);
	assert_int_equal(count_keys(&h, "chunks/"), chunks);
	assert_int_equal(count_keys(&h, "manifests/"), manifests);
	assert_true(a.seq < b.seq && b.seq < c.seq);
	assert_string_equal(b.manifest.id, c.manifest.id);
	assert_int_equal(list_snapshots(&h, "vm-1", &e), 3);
	assert_string_equal(e[0].s.tag, "empty");
	assert_true(e[2].s.seq == c.seq && !e[2].error);
	free(e);
	assert_int_equal(snapshot_load(h.e, "vm-1", b.seq, 1, &back, &err), 0);
	assert_memory_equal(&back, &b, sizeof(b));
	/* Deleting is idempotent and takes nothing with it. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(snapshot_delete(h.e, "vm-1", b.seq, 1, &err), 0);
	assert_int_equal(snapshot_load(h.e, "vm-1", b.seq, 1, &back, &err), -ENOENT);
	assert_int_equal(list_snapshots(&h, "vm-1", &e), 2);
	free(e);
	assert_int_equal(list_snapshots(&h, "vm-2", &e), 0);
	free(e);
	assert_int_equal(count_keys(&h, "chunks/"), chunks);
	assert_int_equal(count_keys(&h, "manifests/"), manifests);
	assert_int_equal(take(&h, "no\ttabs", &c, &err), -EINVAL);
	harness_stop(&h);
	harness_fini(&h);
}

/* ---- point in time ---- */

/* Writes n = 1, 2, … one after the other, n to slot n % SLOTS, through both lanes in turn. */
struct writer {
	struct harness *h;
	uint64_t acked; /* atomic */
	uint64_t await; /* of who waits for it */
	bool stop;      /* atomic */
	int error;
};

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint8_t sector[SECTOR_SIZE];

	for (uint64_t n = 1; !__atomic_load_n(&w->stop, __ATOMIC_RELAXED); n++) {
		struct hreq r;

		fill(sector, n);
		hreq_start(w->h, &r, (unsigned int)n, GFS_WRITE, n % SLOTS * SLOT_SECTOR, 1, sector,
			   false);
		__atomic_store_n(&w->error, hreq_wait(&r), __ATOMIC_RELAXED);
		if (w->error)
			break;
		__atomic_store_n(&w->acked, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

static bool writer_came_so_far(void *arg)
{
	struct writer *w = arg;

	return __atomic_load_n(&w->error, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&w->acked, __ATOMIC_ACQUIRE) >= w->await;
}

/* The image holds writes 1 … N and no other, N at least `least`. Returns N. */
static uint64_t check_prefix(const uint64_t value[SLOTS], uint64_t least)
{
	uint64_t last = 0;

	for (unsigned int i = 0; i < SLOTS; i++)
		last = MAX(last, value[i]);
	if (last < least)
		fail_msg("the image ends at write %llu, %llu was acknowledged before the request",
			 (unsigned long long)last, (unsigned long long)least);
	for (unsigned int i = 0; i < SLOTS; i++) {
		uint64_t want = last - (last - i) % SLOTS;

		if (last < i || !want)
			want = 0;
		if (value[i] != want)
			fail_msg("image of write %llu: slot %u has %llu, not %llu",
				 (unsigned long long)last, i, (unsigned long long)value[i],
				 (unsigned long long)want);
	}
	return last;
}

static void a_snapshot_is_a_point_in_time_under_writers(void **state)
{
	enum { NR = 8 };
	struct harness h, h2;
	struct writer w = {.h = &h};
	struct snapshot s[NR];
	uint64_t least[NR], value[SLOTS], last = 0;
	pthread_t t;

	harness_init(&h);
	/* Uploads of their own all the time: most requests find a layer frozen. */
	h.cfg.upload_age_ns = h.cfg.upload_age_min_ns = 10 * NSEC_PER_MSEC;
	harness_start(&h);
	harness_create(&h, "vm-1", SLOTS * BLOCK, BLOCK);
	assert_int_equal(pthread_create(&t, NULL, writer_main, &w), 0);
	for (int i = 0; i < NR; i++) {
		w.await = (i ? least[i - 1] : 0) + 10;
		harness_until(writer_came_so_far, &w, "ten more writes");
		least[i] = __atomic_load_n(&w.acked, __ATOMIC_ACQUIRE);
		must_take(&h, "", &s[i]);
	}
	__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_int_equal(w.error, 0);

	harness_host(&h2, &h, "host-2");
	h2.cfg.host_id = "host-2/test";
	harness_start(&h2);
	for (int i = 0; i < NR; i++) {
		uint64_t n;

		read_image(&h2, &s[i], value);
		n = check_prefix(value, least[i]);
		assert_true(n >= last);
		last = n;
	}
	assert_true(last > 0);
	harness_stop(&h2);
	harness_stop(&h);
	harness_fini(&h);
}

/* ---- failures ---- */

static void a_failed_snapshot_leaves_nothing(void **state)
{
	static const struct {
		const char *rule;
		int want; /* 0: it succeeds nevertheless; 1: any error */
	} t[] = {
		{"put:chunks/* error=EIO", 1},
		{"put:manifests/* error=EIO", 1},
		{"put:exports/* error=EIO", 1},
		{"put:exports/* hang", 1},
		{"get:exports/* error=EIO", 1},
		{"get:exports/* hang", 1},
		{"put:snapshots/* error=EIO", -EIO},
		{"put:snapshots/* error=EACCES", -EACCES},
		{"put:snapshots/* error=ETIMEDOUT", -EIO},
		{"put:snapshots/* hang", -ETIMEDOUT},
		{"put:snapshots/* ambiguous=before", -ETIMEDOUT},
		{"put:snapshots/* ambiguous=after;get:snapshots/* error=EIO", -ETIMEDOUT},
		{"put:snapshots/* ambiguous=after count=1;put:snapshots/* error=EIO", -ETIMEDOUT},
		{"put:snapshots/* ambiguous=after count=1", 0},
		{"put:snapshots/* ambiguous=before count=1", 0},
		{"put:snapshots/* ambiguous=after count=1;get:snapshots/* error=EIO count=1", 0},
		/* The last one: a copy that lands after the deletion below would be listed. */
		{"put:snapshots/* ambiguous=late:50 count=1", 0},
	};
	struct harness h;
	struct snapshot_entry *e;
	uint64_t value[SLOTS];
	struct snapshot s;

	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "vm-1", SLOTS * BLOCK, BLOCK);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		uint64_t start = now_ns(), mark;
		struct fmt_err err = {""};
		size_t nr;
		int r;

		write_slot(&h, (unsigned int)i, i + 1);
		harness_fault(&h, t[i].rule);
		/* Only what is to run into its deadline has a short one. */
		if (t[i].want == 1 || t[i].want == -ETIMEDOUT)
			h.e->cfg.store_timeout_ns = NSEC_PER_SEC;
		mark = volume_drain_mark(h.v);
		r = volume_drain_to(h.v, mark, (t[i].want == 1 ? 1 : 20) * NSEC_PER_SEC, 1, &err);
		if (!r)
			r = volume_snapshot(h.v, "", 1, &s, &err);
		if (t[i].want == 1 ? r >= 0 : r != t[i].want)
			fail_msg("%s: %d %s", t[i].rule, r, err.msg);
		if (r && !err.msg[0])
			fail_msg("%s: no reason is given", t[i].rule);
		assert_true(now_ns() - start < 40 * NSEC_PER_SEC);
		harness_fault(&h, "");
		harness_drain(&h); /* no upload looks at what is changed now */
		h.e->cfg.store_timeout_ns = 20 * NSEC_PER_SEC;
		nr = list_snapshots(&h, "vm-1", &e);
		free(e);
		if (nr != !r)
			fail_msg("%s: %d, and %zu snapshots", t[i].rule, r, nr);
		must_take(&h, "", &s);
		read_image(&h, &s, value);
		assert_true(value[i] == i + 1);
		assert_int_equal(list_snapshots(&h, "vm-1", &e), nr + 1);
		for (size_t k = 0; k <= nr; k++)
			assert_int_equal(snapshot_delete(h.e, "vm-1", e[k].s.seq, 1, &err), 0);
		free(e);
	}
	harness_stop(&h);
	harness_fini(&h);
}

static void what_another_host_owns_is_not_snapshot(void **state)
{
	struct harness h, h2;
	struct snapshot_entry *e;
	struct volume_info info;
	struct fmt_err err = {""};
	struct snapshot s;

	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "vm-1", SLOTS * BLOCK, BLOCK);
	write_slot(&h, 1, 1);
	harness_drain(&h);
	harness_host(&h2, &h, "host-2");
	h2.cfg.host_id = "host-2/test";
	harness_start(&h2);
	harness_open(&h2, "vm-1", CLAIM_TAKEOVER, false, NULL);
	/* Idle: no upload finds it out. */
	assert_int_equal(take(&h, "", &s, &err), -ESTALE);
	assert_non_null(strstr(err.msg, "host-2/test"));
	volume_info_read(h.v, &info);
	assert_int_equal(info.mode, VOLUME_FENCED);
	assert_int_equal(take(&h, "", &s, &err), -ESTALE);
	assert_int_equal(list_snapshots(&h2, "vm-1", &e), 0);
	free(e);
	must_take(&h2, "", &s);
	harness_stop(&h);
	/* Deleted, and the name given to another volume. */
	harness_close(&h2);
	assert_int_equal(root_delete(h2.e, "vm-1", NULL, 1, &err), 0);
	harness_stop(&h2);
	harness_fini(&h);
}

static void put_object(struct harness *h, const char *key, const char *text)
{
	struct iovec iov = {.iov_base = (void *)text, .iov_len = strlen(text)};
	struct store_op op = {.type = STORE_PUT, .key = key, .iov = &iov, .iovcnt = 1};

	assert_int_equal(store_run(h->store, &op), 0);
}

static void a_taken_or_damaged_name_is_nobodys_loss(void **state)
{
	struct harness h;
	struct snapshot_entry *e;
	struct fmt_err err = {""};
	struct snapshot s;
	char key[STORE_KEY_MAX];
	uint64_t next;

	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "vm-1", SLOTS * BLOCK, BLOCK);
	next = wall_ns() / 1000 + 3600 * 1000000ull;
	h.e->snapshot_seq = next - 1;
	snapshot_key("vm-1", next, key, sizeof(key));
	put_object(&h, key, "not a snapshot");
	put_object(&h, "snapshots/vm-1/7", "nor this");
	must_take(&h, "behind it", &s);
	assert_true(s.seq == next + 1);
	assert_int_equal(snapshot_load(h.e, "vm-1", next, 1, &s, &err), -ENODATA);
	assert_int_equal(list_snapshots(&h, "vm-1", &e), 2);
	assert_true(e[0].s.seq == next && e[0].error == -ENODATA);
	assert_true(e[1].s.seq == next + 1 && !e[1].error);
	free(e);
	/* One that is whole, but under the name of another. */
	snapshot_key("vm-1", next + 2, key, sizeof(key));
	{
		char *json;
		size_t len;

		assert_int_equal(snapshot_load(h.e, "vm-1", next + 1, 1, &s, &err), 0);
		assert_int_equal(snapshot_encode(&s, &json, &len), 0);
		put_object(&h, key, json);
		free(json);
	}
	assert_int_equal(snapshot_load(h.e, "vm-1", next + 2, 1, &s, &err), -EBADMSG);
	harness_stop(&h);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_volume_uploads_nothing),
		cmocka_unit_test(a_snapshot_is_a_point_in_time_under_writers),
		cmocka_unit_test(a_failed_snapshot_leaves_nothing),
		cmocka_unit_test(what_another_host_owns_is_not_snapshot),
		cmocka_unit_test(a_taken_or_damaged_name_is_nobodys_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
