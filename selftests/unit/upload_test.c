// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Uploads keep the volume: whatever was acknowledged before a drain is what a host that has nothing
 * but the store reads afterwards, whichever operation of the store failed, hung or was ambiguous
 * meanwhile.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/volume_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Two chunks and a tail that is neither a whole block nor a whole 4 KiB. */
#define VOLUME_BYTES (CHUNK_BYTES + 300 * KiB + 512)
#define OP_BYTES_MAX (256 * KiB)

/* What the volume must read as. Most of it stays zero, so the pages are never touched. */
struct oracle {
	uint8_t *data;
	uint64_t bytes;
	uint64_t rnd;
};

static void oracle_init(struct oracle *o, uint64_t bytes, uint64_t seed)
{
	o->data = calloc(1, bytes);
	assert_non_null(o->data);
	o->bytes = bytes;
	o->rnd = seed * 2 + 1;
}

static uint64_t rnd(struct oracle *o, uint64_t below)
{
	o->rnd ^= o->rnd << 13;
	o->rnd ^= o->rnd >> 7;
	o->rnd ^= o->rnd << 17;
	return o->rnd % below;
}

/* A place in one of three busy areas: the start, around the chunk boundary, the end. */
static uint64_t rnd_sector(struct oracle *o)
{
	uint64_t span = 1 * MiB / SECTOR_SIZE, end = o->bytes / SECTOR_SIZE;
	uint64_t base[] = {0, (CHUNK_BYTES - 512 * KiB) / SECTOR_SIZE, end - 64};

	return base[rnd(o, ARRAY_SIZE(base))] + rnd(o, span);
}

static void fill_random(struct oracle *o, uint8_t *p, size_t n)
{
	bool dull = rnd(o, 2); /* compresses */

	for (size_t i = 0; i < n; i += 8) {
		uint64_t x = dull ? 0x4141414141414100 + i / 512 : rnd(o, UINT64_MAX);

		memcpy(p + i, &x, 8);
	}
}

static void random_op(struct harness *h, struct oracle *o)
{
	static const enum gfs_op ops[] = {GFS_WRITE,   GFS_WRITE, GFS_WRITE,
					  GFS_DISCARD, GFS_WRITE, GFS_WRITE_ZEROES};
	enum gfs_op op = ops[rnd(o, ARRAY_SIZE(ops))];
	uint64_t end = o->bytes / SECTOR_SIZE, s = rnd_sector(o), n;
	uint8_t *p;

	n = rnd(o, 3) ? 1 + rnd(o, 16) : 1 + rnd(o, OP_BYTES_MAX / SECTOR_SIZE);
	if (op == GFS_DISCARD) {
		s = ROUND_DOWN(s, 8);
		n = ROUND_UP(n, 8);
	}
	if (s >= end)
		return;
	n = MIN(n, end - s);
	if (op == GFS_DISCARD)
		n = ROUND_DOWN(n, 8);
	if (!n)
		return;
	p = o->data + s * SECTOR_SIZE;
	if (op == GFS_WRITE)
		fill_random(o, p, n * SECTOR_SIZE);
	else
		memset(p, 0, n * SECTOR_SIZE);
	assert_int_equal(harness_io(h, op, s, (uint32_t)n, op == GFS_WRITE ? p : NULL), 0);
}

static void verify_range(struct harness *h, struct oracle *o, uint64_t from, uint64_t to)
{
	uint8_t *buf = malloc(OP_BYTES_MAX);

	assert_non_null(buf);
	for (uint64_t at = from; at < to; at += OP_BYTES_MAX) {
		uint64_t n = MIN(OP_BYTES_MAX, to - at);

		memset(buf, 0xee, n);
		assert_int_equal(
			harness_io(h, GFS_READ, at / SECTOR_SIZE, (uint32_t)(n / SECTOR_SIZE), buf),
			0);
		for (uint64_t i = 0; i < n; i += SECTOR_SIZE) {
			if (memcmp(buf + i, o->data + at + i, SECTOR_SIZE))
				fail_msg("sector %llu differs: 0x%02x.., expected 0x%02x..",
					 (unsigned long long)((at + i) / SECTOR_SIZE), buf[i],
					 o->data[at + i]);
		}
	}
	free(buf);
}

static void verify(struct harness *h, struct oracle *o)
{
	verify_range(h, o, 0, MIN(2 * MiB, o->bytes));
	if (o->bytes > CHUNK_BYTES)
		verify_range(h, o, CHUNK_BYTES - 1 * MiB, o->bytes);
}

/* Stop, forget the local state, and open the volume from the store alone. */
static void lose_host(struct harness *h, unsigned int nr)
{
	harness_stop(h);
	snprintf(h->cache_dir, sizeof(h->cache_dir), "%.60s/lost-%u", h->dir, nr);
	harness_start(h);
	harness_open(h, "vm-1", CLAIM_OWN, false, NULL);
}

static void rounds(uint32_t block_bytes, uint64_t seed)
{
	struct harness h;
	struct oracle o;

	harness_init(&h);
	harness_start(&h);
	oracle_init(&o, VOLUME_BYTES, seed);
	harness_create(&h, "vm-1", VOLUME_BYTES, block_bytes);
	for (unsigned int round = 0; round < 6; round++) {
		for (int i = 0; i < 60; i++)
			random_op(&h, &o);
		verify(&h, &o);
		harness_drain(&h);
		verify(&h, &o);
		if (round % 2)
			lose_host(&h, round);
		verify(&h, &o);
	}
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

static void image_survives_loss_of_the_host(void **state)
{
	rounds(64 * KiB, 1);
	rounds(4 * KiB, 2);
	rounds(1 * MiB, 3);
}

static void overwriting_all_drops_superseded_packs(void **state)
{
	struct harness h;
	struct oracle o;

	harness_init(&h);
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 4);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	for (int round = 0; round < 10; round++) {
		struct view *vw;

		/* One block, again and again, then the whole volume. */
		uint64_t n = round < 9 ? 64 * KiB : o.bytes;

		for (uint64_t at = 0; at < n; at += 64 * KiB) {
			fill_random(&o, o.data + at, 64 * KiB);
			assert_int_equal(
				harness_io(&h, GFS_WRITE, at / SECTOR_SIZE, 128, o.data + at), 0);
		}
		harness_drain(&h);
		vw = volume_view_get(h.v);
		assert_true(vw->manifest->nr_entries <= (round < 9 ? 4u : 1u));
		view_put(vw);
	}
	lose_host(&h, 0);
	verify(&h, &o);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

/* Scattered writes, a tombstone now and then: packs of a chunk must not pile up, nor content
 * change. */
static void small_packs_are_merged(void **state)
{
	uint32_t most = 0;
	struct harness h;
	struct oracle o;

	harness_init(&h);
	harness_start(&h);
	oracle_init(&o, 16 * MiB, 5);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	for (int round = 0; round < 60; round++) {
		struct view *vw;

		for (int i = 0; i < 3; i++) {
			uint64_t at = rnd(&o, o.bytes / (64 * KiB)) * 64 * KiB;

			fill_random(&o, o.data + at, 8 * KiB);
			assert_int_equal(
				harness_io(&h, GFS_WRITE, at / SECTOR_SIZE, 16, o.data + at), 0);
			at = rnd(&o, o.bytes / (64 * KiB)) * 64 * KiB;
			memset(o.data + at, 0, 64 * KiB);
			assert_int_equal(
				harness_io(&h, GFS_WRITE_ZEROES, at / SECTOR_SIZE, 128, NULL), 0);
		}
		harness_drain(&h);
		vw = volume_view_get(h.v);
		if (vw->manifest)
			most = MAX(most, vw->manifest->nr_entries);
		view_put(vw);
		if (round % 20 == 19)
			lose_host(&h, (unsigned int)round);
		verify_range(&h, &o, 0, o.bytes);
	}
	assert_in_range(most, 8, 17);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

/* A round of writes whose upload meets one fault at its k-th operation of the store. */
static void every_single_fault(const char *fault, uint64_t seed)
{
	struct harness h;
	struct oracle o;
	unsigned int k;

	harness_init(&h);
	h.cfg.store_timeout_ns = 400 * NSEC_PER_MSEC;
	harness_start(&h);
	oracle_init(&o, VOLUME_BYTES, seed);
	harness_create(&h, "vm-1", VOLUME_BYTES, 64 * KiB);
	for (int i = 0; i < 40; i++)
		random_op(&h, &o);
	harness_drain(&h);
	lose_host(&h, 0);
	for (k = 0; k < 12; k++) {
		char rule[128];

		for (int i = 0; i < 6; i++)
			random_op(&h, &o);
		snprintf(rule, sizeof(rule), "* %s skip=%u count=1", fault, k);
		harness_fault(&h, rule);
		harness_drain(&h);
		harness_fault(&h, "");
		if (k % 4 == 3)
			lose_host(&h, k + 1);
		verify(&h, &o);
	}
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

static void any_failed_operation_loses_nothing(void **state)
{
	every_single_fault("error=EIO", 11);
	every_single_fault("error=ETIMEDOUT", 12);
}

static void any_ambiguous_operation_loses_nothing(void **state)
{
	every_single_fault("ambiguous=before", 21);
	every_single_fault("ambiguous=after", 22);
	every_single_fault("ambiguous=late:20", 23);
}

static void any_hanging_operation_loses_nothing(void **state)
{
	every_single_fault("hang", 31);
}

static void any_damaged_transfer_loses_nothing(void **state)
{
	every_single_fault("corrupt", 41);
	every_single_fault("truncate", 42);
}

static void write_some(struct harness *h, struct oracle *o, uint64_t at, uint64_t bytes)
{
	fill_random(o, o->data + at, bytes);
	assert_int_equal(harness_io(h, GFS_WRITE, at / SECTOR_SIZE, (uint32_t)(bytes / SECTOR_SIZE),
				    o->data + at),
			 0);
}

#define LOAD_DEPTH 8
#define LOAD_SPAN  (2 * MiB) /* of the volume, for each request in flight: its own */

/* The next random write or discard of one of the places in flight. */
static void load_step(struct harness *h, struct oracle *o, struct hreq *r, unsigned int place)
{
	uint64_t s = rnd(o, LOAD_SPAN / SECTOR_SIZE - 128), n = 1 + rnd(o, 128);
	bool zero = !rnd(o, 5);
	uint8_t *p;

	s += place * (LOAD_SPAN / SECTOR_SIZE);
	p = o->data + s * SECTOR_SIZE;
	if (zero)
		memset(p, 0, n * SECTOR_SIZE);
	else
		fill_random(o, p, n * SECTOR_SIZE);
	hreq_start(h, r, (unsigned int)rnd(o, 2), zero ? GFS_WRITE_ZEROES : GFS_WRITE, s,
		   (uint32_t)n, zero ? NULL : p, !rnd(o, 10));
}

static void uploads_under_load_and_faults_keep_every_write(void **state)
{
	struct volume_info info;
	struct hreq r[LOAD_DEPTH];
	struct harness h;
	struct oracle o;

	harness_init(&h);
	h.cfg.upload_dirty_bytes = 1 * MiB;
	h.cfg.store_timeout_ns = 1 * NSEC_PER_SEC;
	harness_start(&h);
	oracle_init(&o, LOAD_DEPTH * LOAD_SPAN, 15);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	harness_fault(&h, "* error=EIO p=0.05;put ambiguous=after p=0.05;"
			  "put ambiguous=late:20 p=0.05;get corrupt p=0.05;* delay=2 p=0.5");
	for (unsigned int i = 0; i < LOAD_DEPTH; i++)
		load_step(&h, &o, &r[i], i);
	for (int turn = 0; turn < 100000; turn++) {
		volume_info_read(h.v, &info);
		if (turn >= 400 && info.uploads >= 5)
			break;
		for (unsigned int i = 0; i < LOAD_DEPTH; i++) {
			assert_int_equal(hreq_wait(&r[i]), 0);
			load_step(&h, &o, &r[i], i);
		}
	}
	for (unsigned int i = 0; i < LOAD_DEPTH; i++)
		assert_int_equal(hreq_wait(&r[i]), 0);
	assert_true(info.uploads >= 5);
	harness_fault(&h, "");
	harness_drain(&h);
	verify_range(&h, &o, 0, o.bytes);
	lose_host(&h, 0);
	verify_range(&h, &o, 0, o.bytes);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

static void store_outage_keeps_the_layer_and_ends(void **state)
{
	struct harness h;
	struct oracle o;
	struct fmt_err err = {""};

	harness_init(&h);
	h.cfg.store_timeout_ns = 1 * NSEC_PER_SEC;
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 5);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	write_some(&h, &o, 0, 128 * KiB);
	harness_fault(&h, "put error=EIO");
	assert_int_equal(volume_drain(h.v, 5 * NSEC_PER_SEC, 1, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "chunks/0/"));
	write_some(&h, &o, 64 * KiB, 128 * KiB);
	verify(&h, &o);
	/* Only the manifest fails, then only the root. */
	harness_fault(&h, "put:manifests/* error=EIO");
	assert_int_equal(volume_drain(h.v, 500 * NSEC_PER_MSEC, 1, &err), -ETIMEDOUT);
	harness_fault(&h, "put:exports/* error=EIO");
	assert_int_equal(volume_drain(h.v, 500 * NSEC_PER_MSEC, 1, &err), -ETIMEDOUT);
	/* The daemon is restarted meanwhile: the layers are still there. */
	harness_stop(&h);
	harness_start(&h);
	harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
	verify(&h, &o);
	harness_drain(&h);
	lose_host(&h, 0);
	verify(&h, &o);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

static void zeros_over_zeros_still_advance_the_sequence(void **state)
{
	struct harness h;
	struct oracle o;
	struct volume_info info, before;

	harness_init(&h);
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 6);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	write_some(&h, &o, 1 * MiB, 4096);
	harness_drain(&h);
	volume_info_read(h.v, &before);
	assert_int_equal(before.root.sequence, 1);
	assert_int_equal(harness_io(&h, GFS_DISCARD, 0, 1024, NULL), 0);
	harness_drain(&h);
	volume_info_read(h.v, &info);
	assert_int_equal(info.root.sequence, 2);
	assert_string_equal(info.root.manifest.id, before.root.manifest.id);
	write_some(&h, &o, 0, 4096);
	harness_stop(&h);
	harness_start(&h);
	harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
	verify(&h, &o);
	harness_drain(&h);
	lose_host(&h, 0);
	verify(&h, &o);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

static void loser_of_a_takeover_is_fenced_and_keeps_its_layer(void **state)
{
	struct harness h, h2;
	struct oracle o, o2;
	struct volume_info info;
	struct fmt_err err = {""};

	harness_init(&h);
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 7);
	oracle_init(&o2, 4 * MiB, 8);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	write_some(&h, &o, 0, 128 * KiB);
	harness_drain(&h);
	memcpy(o2.data, o.data, o.bytes);

	harness_host(&h2, &h, "host-2");
	h2.cfg.host_id = "host-2/test";
	harness_start(&h2);
	assert_int_equal(harness_open(&h2, "vm-1", CLAIM_OWN, false, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "host-1/test"));
	harness_open(&h2, "vm-1", CLAIM_TAKEOVER, false, NULL);
	verify(&h2, &o2);
	write_some(&h2, &o2, 64 * KiB, 4 * KiB);
	harness_drain(&h2);

	write_some(&h, &o, 0, 64 * KiB);
	assert_int_equal(volume_drain(h.v, 5 * NSEC_PER_SEC, 1, &err), -ESTALE);
	volume_info_read(h.v, &info);
	assert_int_equal(info.mode, VOLUME_FENCED);
	assert_non_null(strstr(info.why, "host-2/test"));
	assert_non_null(strstr(info.why, "generation 2"));
	assert_non_null(strstr(info.why, "64 KiB"));
	assert_int_equal(info.dirty_bytes, 64 * KiB);
	verify(&h, &o); /* still readable here */
	assert_true(harness_io(&h, GFS_WRITE, 0, 8, o.data) < 0);

	verify(&h2, &o2);
	harness_stop(&h);
	harness_stop(&h2);
	free(o.data);
	free(o2.data);
	harness_fini(&h);
}

static bool root_is_published(void *arg)
{
	struct harness *h = arg;
	struct fmt_err err;
	struct root r;

	return !root_load(h->e, "vm-1", 1, &r, NULL, &err) && r.sequence == 1;
}

static void publish_that_lands_after_a_restart_is_recognised(void **state)
{
	struct harness h;
	struct oracle o;
	struct fmt_err err = {""};
	struct volume_info info;

	harness_init(&h);
	h.cfg.store_timeout_ns = 300 * NSEC_PER_MSEC;
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 9);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	write_some(&h, &o, 4 * KiB, 128 * KiB);
	harness_fault(&h, "put:exports/* ambiguous=late:1500 count=1;put:exports/* error=EIO");
	assert_int_equal(volume_drain(h.v, 100 * NSEC_PER_MSEC, 1, &err), -ETIMEDOUT);
	harness_close(&h);
	harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
	volume_info_read(h.v, &info);
	assert_int_equal(info.root.sequence, 0);
	harness_until(root_is_published, &h, "the late PUT of the root");
	harness_fault(&h, "");
	write_some(&h, &o, 200 * KiB, 4 * KiB);
	harness_drain(&h);
	volume_info_read(h.v, &info);
	assert_int_equal(info.mode, VOLUME_RW);
	assert_int_equal(info.root.sequence, 2);
	verify(&h, &o);
	lose_host(&h, 0);
	verify(&h, &o);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

/* Flip a byte at `at` of every pack of chunk 0, or flip it back. */
static void flip_packs(struct harness *h, off_t at)
{
	char dir[128], path[400];
	struct dirent *de;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/store/chunks/0", h->dir);
	d = opendir(dir);
	assert_non_null(d);
	while ((de = readdir(d))) {
		uint8_t c;
		int fd;

		if (!strstr(de->d_name, ".pack"))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		fd = open(path, O_RDWR);
		assert_true(fd >= 0);
		assert_int_equal(pread(fd, &c, 1, at), 1);
		c ^= 0x10;
		assert_int_equal(pwrite(fd, &c, 1, at), 1);
		close(fd);
	}
	closedir(d);
}

static void corrupt_base_fails_the_upload_and_stays_retryable(void **state)
{
	struct harness h;
	struct oracle o;
	struct fmt_err err = {""};
	struct volume_info info;

	harness_needs_store_dir();
	harness_init(&h);
	h.cfg.store_timeout_ns = 500 * NSEC_PER_MSEC;
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 10);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	write_some(&h, &o, 0, 128 * KiB);
	harness_drain(&h);
	lose_host(&h, 0);
	flip_packs(&h, 100); /* within the first stored block */
	write_some(&h, &o, 512, 512);
	assert_int_equal(volume_drain(h.v, 5 * NSEC_PER_SEC, 1, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "block 0"));
	volume_info_read(h.v, &info);
	assert_int_equal(info.mode, VOLUME_RW);
	assert_int_equal(info.dirty_bytes, 512);
	flip_packs(&h, 100);
	harness_drain(&h);
	lose_host(&h, 1);
	verify(&h, &o);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

static int reads_fail; /* atomic */

static int fail_reads(enum disk_op op, uint64_t seq __unused)
{
	return op == DISK_READ && __atomic_load_n(&reads_fail, __ATOMIC_RELAXED) ? -EIO : 0;
}

static void unreadable_layer_poisons_the_volume_and_is_kept(void **state)
{
	struct harness h;
	struct oracle o;
	struct fmt_err err = {""};
	struct volume_info info;

	harness_init(&h);
	disk_fault_hook = fail_reads; /* before there are threads */
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 11);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	write_some(&h, &o, 0, 128 * KiB);
	__atomic_store_n(&reads_fail, 1, __ATOMIC_RELAXED);
	assert_int_equal(volume_drain(h.v, 1 * NSEC_PER_SEC, 1, &err), -EIO);
	__atomic_store_n(&reads_fail, 0, __ATOMIC_RELAXED);
	volume_info_read(h.v, &info);
	assert_int_equal(info.mode, VOLUME_POISONED);
	assert_int_equal(info.root.sequence, 0);
	assert_int_equal(info.dirty_bytes, 128 * KiB);
	assert_int_equal(volume_drain(h.v, 1 * NSEC_PER_SEC, 1, &err), -EIO);
	verify(&h, &o);
	harness_stop(&h);
	disk_fault_hook = NULL;
	free(o.data);
	harness_fini(&h);
}

static bool is_uploading(void *arg)
{
	struct harness *h = arg;
	struct volume_info info;

	volume_info_read(h->v, &info);
	return info.uploading;
}

static void closing_does_not_wait_for_a_hanging_store(void **state)
{
	static const char *const rules[] = {"put:chunks/* hang", "put:manifests/* hang",
					    "put:exports/* hang", "get:chunks/* hang"};
	struct harness h;
	struct oracle o;

	harness_init(&h);
	h.cfg.store_timeout_ns = 20 * NSEC_PER_SEC;
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 12);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	write_some(&h, &o, 0, 512 * KiB);
	harness_drain(&h);
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		uint64_t t;

		lose_host(&h, (unsigned int)i);
		write_some(&h, &o, 4 * KiB + i * 64 * KiB, 4 * KiB);
		harness_fault(&h, rules[i]);
		volume_upload_queue(h.v);
		harness_until(is_uploading, &h, "the upload to begin");
		usleep(50 * 1000); /* wherever it is by then: closing must work at any time */
		t = now_ns();
		harness_close(&h);
		assert_true(now_ns() - t < 5 * NSEC_PER_SEC);
		harness_fault(&h, "");
		harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
		verify(&h, &o);
		harness_drain(&h);
		verify(&h, &o);
	}
	lose_host(&h, 99);
	verify(&h, &o);
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

/* ---- a drain and the housekeeper ---- */

static void *drain_run(void *arg)
{
	harness_drain(arg);
	return NULL;
}

static bool is_frozen(void *arg)
{
	struct harness *h = arg;
	struct view *vw = volume_view_get(h->v);
	bool frozen = vw->frozen != NULL;

	view_put(vw);
	return frozen;
}

static uint64_t turns(struct engine *e)
{
	SCOPED_LOCK(&e->lock);

	return e->keeper_turn;
}

/* Let the housekeeper look at its dirty volumes so often. It turns only while there are some. */
static void turns_wait(struct harness *h, unsigned int n)
{
	uint64_t until = turns(h->e) + n, give_up = now_ns() + 5 * NSEC_PER_SEC;

	while (turns(h->e) < until && now_ns() < give_up)
		usleep(1000);
}

/* The layer that was published last, when nobody is at it. */
static uint64_t published(struct harness *h)
{
	SCOPED_LOCK(&h->v->mut);

	return h->v->root.sequence;
}

/*
 * The housekeeper, which finishes what was left half done, sees the frozen layer of a drain too.
 * What is written after the drain is not due because of that, or each snapshot would leave a tiny
 * pack.
 */
static void what_a_drain_did_is_not_done_again(void **state)
{
	struct harness h;
	struct oracle o;
	pthread_t t;

	harness_init(&h);
	harness_start(&h);
	oracle_init(&o, 4 * MiB, 13);
	harness_create(&h, "vm-1", o.bytes, 64 * KiB);
	for (int round = 0; round < 3; round++) {
		uint64_t sequence;

		write_some(&h, &o, 0, 64 * KiB);
		harness_fault(&h, "put:chunks/* hang count=1");
		assert_int_equal(pthread_create(&t, NULL, drain_run, &h), 0);
		harness_until(is_frozen, &h, "the drain to switch the layer");
		turns_wait(&h, 3);
		harness_fault(&h, "");
		assert_int_equal(pthread_join(t, NULL), 0);
		sequence = published(&h);
		write_some(&h, &o, 64 * KiB, 64 * KiB);
		turns_wait(&h, 4);
		assert_int_equal(published(&h), sequence);
		verify(&h, &o);
	}
	harness_stop(&h);
	free(o.data);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(image_survives_loss_of_the_host),
		cmocka_unit_test(overwriting_all_drops_superseded_packs),
		cmocka_unit_test(small_packs_are_merged),
		cmocka_unit_test(any_failed_operation_loses_nothing),
		cmocka_unit_test(any_ambiguous_operation_loses_nothing),
		cmocka_unit_test(any_hanging_operation_loses_nothing),
		cmocka_unit_test(any_damaged_transfer_loses_nothing),
		cmocka_unit_test(uploads_under_load_and_faults_keep_every_write),
		cmocka_unit_test(store_outage_keeps_the_layer_and_ends),
		cmocka_unit_test(zeros_over_zeros_still_advance_the_sequence),
		cmocka_unit_test(loser_of_a_takeover_is_fenced_and_keeps_its_layer),
		cmocka_unit_test(publish_that_lands_after_a_restart_is_recognised),
		cmocka_unit_test(corrupt_base_fails_the_upload_and_stays_retryable),
		cmocka_unit_test(unreadable_layer_poisons_the_volume_and_is_kept),
		cmocka_unit_test(closing_does_not_wait_for_a_hanging_store),
		cmocka_unit_test(what_a_drain_did_is_not_done_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
