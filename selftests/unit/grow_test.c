// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A volume that grows keeps every byte, reads as zeros where it is new, and comes through failed,
 * late and killed grows with one of the two sizes.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/volume_priv.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#define OLD_BYTES (1 * MiB + 300 * KiB + 512)
#define MAX_BYTES (CHUNK_BYTES + 2 * MiB + 512)
#define IO_MAX    (256 * KiB)

static uint8_t *oracle;
static uint64_t oracle_bytes; /* size of the volume */
static uint64_t seed = 7;

static uint64_t rnd(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void check_range(struct harness *h, uint64_t from, uint64_t to)
{
	static uint8_t buf[IO_MAX];

	for (uint64_t at = from; at < to; at += IO_MAX) {
		uint64_t n = MIN(IO_MAX, to - at);

		memset(buf, 0xee, n);
		assert_int_equal(
			harness_io(h, GFS_READ, at / SECTOR_SIZE, (uint32_t)(n / SECTOR_SIZE), buf),
			0);
		for (uint64_t i = 0; i < n; i += SECTOR_SIZE)
			if (memcmp(buf + i, oracle + at + i, SECTOR_SIZE))
				fail_msg("sector %llu of %llu differs: 0x%02x, expected 0x%02x",
					 (unsigned long long)(at + i) / SECTOR_SIZE,
					 (unsigned long long)oracle_bytes / SECTOR_SIZE, buf[i],
					 oracle[at + i]);
	}
}

/* All of a small volume, or of a large one what is ever written, and its end. */
static void check(struct harness *h)
{
	struct volume_info info;
	uint8_t sector[SECTOR_SIZE];

	check_range(h, 0, MIN(4 * MiB, oracle_bytes));
	if (oracle_bytes > CHUNK_BYTES - MiB)
		check_range(h, CHUNK_BYTES - MiB, oracle_bytes);
	/* Nothing past the root's size; what is served may come nearer to it at any time. */
	volume_info_read(h->v, &info);
	assert_int_equal(harness_io(h, GFS_READ, info.root.size_bytes / SECTOR_SIZE, 1, sector),
			 -EINVAL);
}

/* Around the old end, the chunk boundary and the new end. */
static void scribble(struct harness *h, unsigned int times)
{
	static const enum gfs_op ops[] = {GFS_WRITE, GFS_WRITE, GFS_WRITE, GFS_WRITE_ZEROES};
	uint64_t end = oracle_bytes / SECTOR_SIZE;

	while (times--) {
		uint64_t where[] = {0, OLD_BYTES - 64 * KiB, CHUNK_BYTES - 256 * KiB,
				    oracle_bytes - MIN(oracle_bytes, 128 * KiB)};
		uint64_t s = where[rnd(4)] / SECTOR_SIZE + rnd(300), n = 1 + rnd(200);
		enum gfs_op op = ops[rnd(4)];
		uint8_t *p;

		if (s >= end)
			continue;
		n = MIN(n, end - s);
		p = oracle + s * SECTOR_SIZE;
		for (uint64_t i = 0; i < n * SECTOR_SIZE; i += 8) {
			uint64_t x = op == GFS_WRITE ? rnd(UINT64_MAX) : 0;

			memcpy(p + i, &x, 8);
		}
		assert_int_equal(harness_io(h, op, s, (uint32_t)n, op == GFS_WRITE ? p : NULL), 0);
	}
}

static void begin(struct harness *h)
{
	harness_init(h);
	harness_start(h);
	oracle = calloc(1, MAX_BYTES);
	assert_non_null(oracle);
	oracle_bytes = OLD_BYTES;
	harness_create(h, "vm-1", OLD_BYTES, 64 * KiB);
}

static void end(struct harness *h)
{
	harness_stop(h);
	free(oracle);
	harness_fini(h);
}

static int grow(struct harness *h, uint64_t bytes, struct fmt_err *err)
{
	int r;

	memset(err, 0, sizeof(*err));
	r = volume_grow(h->v, bytes, 60 * NSEC_PER_SEC, 1, err);
	if (!r)
		oracle_bytes = bytes;
	return r;
}

static void must_grow(struct harness *h, uint64_t bytes)
{
	struct fmt_err err;

	if (grow(h, bytes, &err))
		fail_msg("grow to %llu: %s", (unsigned long long)bytes, err.msg);
	assert_int_equal(volume_size_bytes(h->v), bytes);
}

static void lose_host(struct harness *h, unsigned int nr)
{
	harness_stop(h);
	snprintf(h->cache_dir, sizeof(h->cache_dir), "%.60s/lost-%u", h->dir, nr);
	harness_start(h);
	harness_open(h, "vm-1", CLAIM_OWN, false, NULL);
}

static void reopen(struct harness *h)
{
	harness_close(h);
	harness_open(h, "vm-1", CLAIM_OWN, true, NULL);
}

static void data_survives_and_what_is_new_reads_as_zeros(void **state)
{
	static const uint64_t sizes[] = {OLD_BYTES + 512, 3 * MiB + 1024, CHUNK_BYTES - 512,
					 CHUNK_BYTES + 512, MAX_BYTES};
	struct harness h;

	begin(&h);
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		scribble(&h, 40);
		if (i & 1)
			harness_drain(&h);
		scribble(&h, 10);
		must_grow(&h, sizes[i]);
		check(&h);
		scribble(&h, 40);
		check(&h);
		if (i & 2)
			reopen(&h);
		check(&h);
		harness_drain(&h);
		check(&h);
		lose_host(&h, i);
		check(&h);
	}
	end(&h);
}

static void a_clean_volume_grows_and_goes_on_uploading(void **state)
{
	struct harness h;

	begin(&h);
	must_grow(&h, 3 * MiB);
	must_grow(&h, 4 * MiB);
	must_grow(&h, 4 * MiB);
	reopen(&h);
	assert_int_equal(volume_size_bytes(h.v), 4 * MiB);
	scribble(&h, 20);
	harness_drain(&h);
	check(&h);
	lose_host(&h, 0);
	check(&h);
	end(&h);
}

static void smaller_is_refused_with_numbers(void **state)
{
	struct fmt_err err;
	struct harness h;

	begin(&h);
	assert_int_equal(grow(&h, OLD_BYTES - 512, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "has 1356288 bytes, and cannot be made smaller"));
	assert_int_equal(grow(&h, VOLUME_BYTES_MAX + 512, &err), -EINVAL);
	assert_int_equal(volume_size_bytes(h.v), OLD_BYTES);
	check(&h);
	end(&h);
}

struct load {
	struct harness *h;
	bool stop;
	unsigned int done;
};

/* Writes into the old part; each sector holds its number and a counter. */
static void *load_main(void *arg)
{
	struct load *l = arg;
	uint64_t buf[8 * SECTOR_SIZE / 8];
	unsigned int turn = 0;

	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE)) {
		uint64_t s = (uint64_t)(turn * 8) % (1 * MiB / SECTOR_SIZE);
		struct hreq r;

		for (unsigned int i = 0; i < ARRAY_SIZE(buf); i++)
			buf[i] = turn * 1000ull + i;
		hreq_start(l->h, &r, turn, GFS_WRITE, s, 8, buf, false);
		if (hreq_wait(&r))
			break;
		memcpy(oracle + s * SECTOR_SIZE, buf, sizeof(buf));
		turn++;
		__atomic_add_fetch(&l->done, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

static bool load_runs(void *arg)
{
	return __atomic_load_n(&((struct load *)arg)->done, __ATOMIC_ACQUIRE) > 20;
}

static void grows_under_load_lose_nothing(void **state)
{
	struct load l = {0};
	struct harness h;
	pthread_t t;

	begin(&h);
	l.h = &h;
	assert_int_equal(pthread_create(&t, NULL, load_main, &l), 0);
	for (unsigned int i = 1; i <= 20; i++) {
		__atomic_store_n(&l.done, 0, __ATOMIC_RELEASE);
		harness_until(load_runs, &l, "writes");
		must_grow(&h, OLD_BYTES + i * 64 * KiB);
	}
	__atomic_store_n(&l.stop, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	check(&h);
	harness_drain(&h);
	lose_host(&h, 0);
	check(&h);
	end(&h);
}

/* ---- failures ---- */

static int fail_op, fail_after;

static int fail_hook(enum disk_op op, uint64_t layer_seq)
{
	if ((int)op == fail_op && __atomic_sub_fetch(&fail_after, 1, __ATOMIC_SEQ_CST) == 0)
		return -ENOSPC;
	return 0;
}

/* Grown in the store, no room here: the old size is served, and a retry or a restart ends it. */
static void no_room_for_the_new_layer_is_finished_later(void **state)
{
	for (int by_open = 0; by_open < 2; by_open++) {
		struct fmt_err err;
		struct harness h;

		begin(&h);
		scribble(&h, 30);
		fail_op = DISK_CREATE;
		fail_after = 1;
		__atomic_store_n(&disk_fault_hook, fail_hook, __ATOMIC_RELEASE);
		assert_int_equal(grow(&h, 5 * MiB, &err), -ENOSPC);
		assert_non_null(strstr(err.msg, "5242880 bytes in the store now"));
		assert_int_equal(volume_size_bytes(h.v), OLD_BYTES);
		check(&h);
		__atomic_store_n(&disk_fault_hook, NULL, __ATOMIC_RELEASE);
		if (by_open) {
			reopen(&h);
			oracle_bytes = 5 * MiB;
			assert_int_equal(volume_size_bytes(h.v), oracle_bytes);
		} else {
			must_grow(&h, 5 * MiB);
		}
		check(&h);
		scribble(&h, 30);
		harness_drain(&h);
		lose_host(&h, 0);
		check(&h);
		end(&h);
	}
}

static void a_failed_put_leaves_the_old_size(void **state)
{
	struct volume_info info;
	struct fmt_err err;
	struct harness h;

	begin(&h);
	scribble(&h, 30);
	harness_fault(&h, "put:exports/* error=EACCES count=1");
	assert_true(grow(&h, 5 * MiB, &err) < 0);
	volume_info_read(h.v, &info);
	assert_int_equal(info.root.size_bytes, OLD_BYTES);
	check(&h);
	must_grow(&h, 5 * MiB);
	check(&h);
	end(&h);
}

/* The answer is lost, the PUT lands: neither the next publish nor a retry takes it for a stranger.
 */
static void a_grow_without_answer_never_fences_the_volume(void **state)
{
	static const char *const then[] = {"publish", "grow", "release", "restart"};

	for (unsigned int i = 0; i < ARRAY_SIZE(then); i++) {
		struct volume_info info;
		struct fmt_err err;
		struct harness h;
		char etag[STORE_ETAG_MAX];
		struct root root;

		begin(&h);
		scribble(&h, 30);
		/* Another writer of our own name: what an earlier life left in flight. */
		assert_int_equal(root_load(h.e, "vm-1", 1, &root, etag, &err), 0);
		root.size_bytes = 3 * MiB;
		root.nonce[0] ^= 1;
		if (root_update(h.e, &root, NULL, etag, now_ns() + NSEC_PER_SEC, 1, NULL, &err))
			fail_msg("%s: %s", then[i], err.msg);
		switch (i) {
		case 0:
			break;
		case 1:
			must_grow(&h, 4 * MiB);
			break;
		case 2:
			harness_drain(&h);
			break;
		case 3:
			reopen(&h);
			break;
		}
		harness_drain(&h);
		if (i != 1)
			oracle_bytes = 3 * MiB;
		volume_info_read(h.v, &info);
		if (info.mode != VOLUME_RW)
			fail_msg("%s: %s", then[i], info.why);
		assert_int_equal(info.root.size_bytes, oracle_bytes);
		assert_int_equal(volume_size_bytes(h.v), oracle_bytes);
		check(&h);
		if (i == 2) {
			assert_int_equal(root_load(h.e, "vm-1", 1, &root, etag, &err), 0);
			root.size_bytes = oracle_bytes = 4 * MiB;
			root.nonce[0] ^= 1;
			assert_int_equal(root_update(h.e, &root, NULL, etag,
						     now_ns() + NSEC_PER_SEC, 1, NULL, &err),
					 0);
			volume_lanes_remove(h.v);
			if (volume_release(h.v, 1, &err))
				fail_msg("release: %s", err.msg);
			volume_close(h.v);
			free(h.lane);
			h.v = NULL;
			harness_open(&h, "vm-1", CLAIM_OWN, false, NULL);
		}
		scribble(&h, 30);
		harness_drain(&h);
		lose_host(&h, i);
		check(&h);
		end(&h);
	}
}

static void an_ambiguous_grow_is_retried_or_adopted(void **state)
{
	struct volume_info info;
	struct fmt_err err;
	struct harness h;

	begin(&h);
	h.cfg.store_timeout_ns = 500 * NSEC_PER_MSEC;
	harness_stop(&h);
	harness_start(&h);
	harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
	scribble(&h, 30);
	harness_fault(&h, "put:exports/* ambiguous=after count=1");
	must_grow(&h, 3 * MiB);
	/* Lands after its own deadline. */
	harness_fault(&h, "put:exports/* ambiguous=late:800 count=1;put:exports/* error=EIO");
	assert_true(grow(&h, 4 * MiB, &err) < 0);
	check(&h);
	usleep(1000000);
	harness_fault(&h, "");
	scribble(&h, 10);
	harness_drain(&h);
	volume_info_read(h.v, &info);
	assert_int_equal(info.mode, VOLUME_RW);
	oracle_bytes = info.root.size_bytes;
	assert_true(oracle_bytes == 3 * MiB || oracle_bytes == 4 * MiB);
	must_grow(&h, 4 * MiB);
	check(&h);
	end(&h);
}

/* ---- SIGKILL ---- */

/* A process of its own that writes, and grows in small steps, until it is killed. */
static void child_main(struct harness *h, int fd)
{
	struct fmt_err err = {{0}};
	uint64_t size, n = 0;

	harness_start(h);
	harness_open(h, "vm-1", CLAIM_OWN, true, NULL);
	size = volume_size_bytes(h->v);
	for (;;) {
		uint64_t word[SECTOR_SIZE / 8];
		uint64_t told[2];

		size += 64 * KiB + 512;
		if (volume_grow(h->v, size, 0, 1, &err))
			_exit(3);
		/* The last sector of the new size says the size. */
		for (unsigned int i = 0; i < ARRAY_SIZE(word); i++)
			word[i] = size;
		if (harness_io(h, GFS_WRITE, size / SECTOR_SIZE - 1, 1, word))
			_exit(4);
		told[0] = size;
		told[1] = ++n;
		if (write(fd, told, sizeof(told)) != sizeof(told))
			_exit(5);
	}
}

static void killed_grows_keep_every_acknowledged_byte(void **state)
{
	uint64_t acked[512], nr = 0;
	struct harness h;

	begin(&h);
	scribble(&h, 60);
	harness_stop(&h);
	for (unsigned int round = 0; round < 12; round++) {
		uint64_t told[2], before = nr, base = nr ? acked[nr - 1] : OLD_BYTES;
		int pipes[2], status;
		pid_t pid;

		assert_int_equal(pipe(pipes), 0);
		pid = fork();
		if (!pid)
			child_main(&h, pipes[1]);
		close(pipes[1]);
		/* At least one grow of each life is acknowledged; then at any moment. */
		while (nr < ARRAY_SIZE(acked) &&
		       read(pipes[0], told, sizeof(told)) == sizeof(told)) {
			acked[nr++] = told[0];
			if (rnd(3) == 0)
				break;
		}
		usleep((useconds_t)rnd(8000));
		kill(pid, SIGKILL);
		while (nr < ARRAY_SIZE(acked) && read(pipes[0], told, sizeof(told)) == sizeof(told))
			acked[nr++] = told[0];
		close(pipes[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_true(nr > before);

		harness_start(&h);
		harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
		oracle_bytes = volume_size_bytes(h.v);
		if (oracle_bytes < acked[nr - 1])
			fail_msg("%llu bytes after an acknowledged grow to %llu (from %llu)",
				 (unsigned long long)oracle_bytes,
				 (unsigned long long)acked[nr - 1], (unsigned long long)base);
		for (uint64_t i = 0; i < nr; i++)
			for (unsigned int k = 0; k < SECTOR_SIZE; k += 8)
				memcpy(oracle + acked[i] - SECTOR_SIZE + k, &acked[i], 8);
		/* The write that nobody acknowledged may be there. */
		if (oracle_bytes > acked[nr - 1]) {
			uint64_t word[SECTOR_SIZE / 8];

			assert_int_equal(
				harness_io(&h, GFS_READ, oracle_bytes / SECTOR_SIZE - 1, 1, word),
				0);
			assert_true(!word[0] || word[0] == oracle_bytes);
			memcpy(oracle + oracle_bytes - SECTOR_SIZE, word, SECTOR_SIZE);
		}
		check(&h);
		if (round % 3 == 2) {
			harness_drain(&h);
			check(&h);
		}
		harness_stop(&h);
		if (nr > ARRAY_SIZE(acked) - 60)
			break;
	}
	harness_start(&h);
	harness_open(&h, "vm-1", CLAIM_OWN, true, NULL);
	harness_drain(&h);
	lose_host(&h, 0);
	check(&h);
	end(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_survives_and_what_is_new_reads_as_zeros),
		cmocka_unit_test(a_clean_volume_grows_and_goes_on_uploading),
		cmocka_unit_test(smaller_is_refused_with_numbers),
		cmocka_unit_test(grows_under_load_lose_nothing),
		cmocka_unit_test(no_room_for_the_new_layer_is_finished_later),
		cmocka_unit_test(a_failed_put_leaves_the_old_size),
		cmocka_unit_test(a_grow_without_answer_never_fences_the_volume),
		cmocka_unit_test(an_ambiguous_grow_is_retried_or_adopted),
		cmocka_unit_test(killed_grows_keep_every_acknowledged_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
