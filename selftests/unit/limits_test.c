// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Volumes of one host do not starve each other: neither of local space, nor of uploads. And the age
 * of what is not uploaded is told right, also after a restart.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/volume_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define NR_GREEDY 6

static uint8_t data[256 * KiB];

/* Another volume of the same engine. */
static void second(struct harness *b, const struct harness *a, const char *name, uint64_t bytes)
{
	*b = *a;
	b->v = NULL;
	b->lane = NULL;
	harness_create(b, name, bytes, 64 * KiB);
}

static uint64_t dirty(struct harness *h)
{
	struct volume_info info;

	volume_info_read(h->v, &info);
	return info.dirty_bytes;
}

static bool parked(void *arg)
{
	return __atomic_load_n(&((struct harness *)arg)->v->parked, __ATOMIC_RELAXED) != 0;
}

/* Write until a write waits; that one is left in *r. */
static void write_until_it_waits(struct harness *h, struct hreq *r)
{
	for (uint64_t at = 0;; at += sizeof(data)) {
		uint64_t deadline = now_ns() + 30 * NSEC_PER_SEC;

		assert_true(at < 60 * MiB);
		hreq_start(h, r, 0, GFS_WRITE, at / SECTOR_SIZE, sizeof(data) / SECTOR_SIZE, data,
			   false);
		while (!hreq_ended(r) && !parked(h)) {
			assert_true(now_ns() < deadline);
			usleep(100);
		}
		/* A park may be for the map's allocation only, and end at once. */
		for (int i = 0; i < 300 && !hreq_ended(r); i++)
			usleep(1000);
		if (!hreq_ended(r))
			return;
		assert_int_equal(hreq_wait(r), 0);
	}
}

static void one_volume_leaves_room_for_the_others(void **state)
{
	struct harness a, b, c;
	struct hreq ra, rb;

	harness_init(&a);
	a.cfg.host_max_bytes = 16 * MiB;
	a.cfg.upload_dirty_bytes = 4 * MiB;
	harness_start(&a);
	harness_create(&a, "greedy", 64 * MiB, 64 * KiB);
	second(&b, &a, "greedy-too", 64 * MiB);
	second(&c, &a, "modest", 64 * MiB);
	memset(data, 0x5a, sizeof(data));
	/* Nothing leaves this host. */
	harness_fault(&a, "put:* hang");
	write_until_it_waits(&a, &ra);
	assert_true(dirty(&a) <= 12 * MiB);
	assert_true(dirty(&a) >= 10 * MiB);
	write_until_it_waits(&b, &rb);
	assert_true(dirty(&b) >= 1 * MiB);
	/* The third one finds room still, without waiting. */
	for (unsigned int i = 0; i < 64; i++)
		assert_int_equal(harness_io(&c, GFS_WRITE, i * 8, 8, data), 0);
	assert_true(dirty(&a) + dirty(&b) + dirty(&c) <= 16 * MiB);
	assert_false(hreq_ended(&ra));
	assert_false(hreq_ended(&rb));
	harness_fault(&a, "");
	assert_int_equal(hreq_wait(&ra), 0);
	assert_int_equal(hreq_wait(&rb), 0);
	harness_close(&c);
	harness_close(&b);
	harness_stop(&a);
	harness_fini(&a);
}

static bool clean(void *arg)
{
	return !dirty(arg);
}

/* What is dirty elsewhere is uploaded when the host fills, although nothing else asks for it. */
static void a_full_host_uploads_everybody(void **state)
{
	struct harness a, b;

	harness_init(&a);
	a.cfg.host_max_bytes = 8 * MiB;
	a.cfg.upload_dirty_bytes = 64 * MiB;
	a.cfg.space_wait_ns = 60 * NSEC_PER_SEC;
	harness_start(&a);
	harness_create(&a, "first", 64 * MiB, 64 * KiB);
	second(&b, &a, "second", 64 * MiB);
	for (unsigned int i = 0; i < 18; i++)
		assert_int_equal(harness_io(&a, GFS_WRITE, i * 512, 512, data), 0);
	/* `first` writes no more. Its bytes must not be in the way of the other's for ever. */
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(harness_io(&b, GFS_WRITE, i % 64 * 512, 512, data), 0);
	harness_until(clean, &a, "the upload of what is in the other's way");
	harness_close(&b);
	harness_stop(&a);
	harness_fini(&a);
}

static bool published(void *arg)
{
	struct volume_info info;

	volume_info_read(((struct harness *)arg)->v, &info);
	return info.root.sequence > 0;
}

static bool queued(void *arg)
{
	struct harness *h = arg;
	SCOPED_LOCK(&h->v->lock);

	return h->v->upload_queued;
}

static void large_uploads_leave_a_thread_to_small_ones(void **state)
{
	struct harness greedy[NR_GREEDY], small;

	harness_init(&greedy[0]);
	greedy[0].cfg.upload_dirty_bytes = 1 * MiB;
	greedy[0].cfg.upload_age_ns = 100 * NSEC_PER_MSEC;
	greedy[0].cfg.upload_age_min_ns = 100 * NSEC_PER_MSEC;
	greedy[0].cfg.store_timeout_ns = 60 * NSEC_PER_SEC;
	harness_start(&greedy[0]);
	/* Chunk 0 is where the greedy write, and hangs; the small one writes to chunk 1. */
	harness_fault(&greedy[0], "put:chunks/* hang");
	harness_create(&greedy[0], "greedy-0", 64 * MiB, 64 * KiB);
	for (unsigned int i = 1; i < NR_GREEDY; i++) {
		char name[32];

		snprintf(name, sizeof(name), "greedy-%u", i);
		second(&greedy[i], &greedy[0], name, 64 * MiB);
	}
	second(&small, &greedy[0], "small", 2 * CHUNK_BYTES);
	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	for (unsigned int i = 0; i < NR_GREEDY; i++) {
		/* At once large: the first look of the housekeeper finds it so. */
		pthread_mutex_lock(&greedy[i].v->mut);
		for (unsigned int k = 0; k < 16; k++)
			assert_int_equal(harness_io(&greedy[i], GFS_WRITE, k * 512, 512, data), 0);
		pthread_mutex_unlock(&greedy[i].v->mut);
		harness_until(queued, &greedy[i], "the upload of a greedy volume is queued");
	}
	harness_fault(&greedy[0], "put:chunks/*0/* hang");
	assert_int_equal(harness_io(&small, GFS_WRITE, CHUNK_BYTES / SECTOR_SIZE, 8, data), 0);
	harness_until(published, &small, "the small volume's upload while large ones hang");
	for (unsigned int i = 0; i < NR_GREEDY; i++)
		assert_false(published(&greedy[i]));
	harness_close(&small);
	/* One in line, one in a hanging PUT: both can be closed. */
	harness_close(&greedy[NR_GREEDY - 1]);
	harness_fault(&greedy[0], "");
	for (unsigned int i = 0; i < NR_GREEDY - 1; i++)
		harness_until(published, &greedy[i], "the greedy volumes' uploads, in their turn");
	for (unsigned int i = 1; i < NR_GREEDY - 1; i++)
		harness_close(&greedy[i]);
	harness_stop(&greedy[0]);
	harness_fini(&greedy[0]);
}

static void age_of_the_oldest_write_survives_a_restart(void **state)
{
	struct volume_info info;
	struct harness h;
	uint64_t before;

	harness_init(&h);
	harness_start(&h);
	harness_create(&h, "vm-1", 64 * MiB, 64 * KiB);
	volume_info_read(h.v, &info);
	assert_int_equal(info.oldest_dirty_ns, 0);
	before = now_ns();
	assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, data), 0);
	before = now_ns() - before;
	usleep(300000);
	assert_int_equal(harness_io(&h, GFS_WRITE, 8, 8, data), 0);
	harness_stop(&h);
	harness_start(&h);
	harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
	volume_info_read(h.v, &info);
	assert_true(info.oldest_dirty_ns >= 290 * NSEC_PER_MSEC);
	assert_true(info.oldest_dirty_ns < 300 * NSEC_PER_SEC + before);
	harness_drain(&h);
	volume_info_read(h.v, &info);
	assert_int_equal(info.oldest_dirty_ns, 0);
	harness_stop(&h);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_volume_leaves_room_for_the_others),
		cmocka_unit_test(a_full_host_uploads_everybody),
		cmocka_unit_test(large_uploads_leave_a_thread_to_small_ones),
		cmocka_unit_test(age_of_the_oldest_write_survives_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
