// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Layers against a plain model: what a restart and what a power loss must bring back, and what the
 * parser of the log must refuse.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/layer.h"
#include "lib/fsutil.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define VOL_BYTES   (300 * MiB + 1536) /* three chunks, the last one odd */
#define VOL_SECTORS (VOL_BYTES / SECTOR_SIZE)

static const uint8_t uuid[16] = {1, 2, 3};
static char dir[] = "/tmp/gfs-layer-XXXXXX";
static char copy_dir[64];
static int dirfd_;
static uint64_t seed;

static uint32_t rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

static void boot(char c)
{
	char id[37];

	memset(id, c, 36);
	id[36] = '\0';
	setenv("GFS_BOOT_ID", id, 1);
}

static struct layer *reopen(struct layer *l)
{
	struct fmt_err e = {.msg = ""};
	int r;

	layer_put(l);
	r = layer_open(dirfd_, uuid, 7, 1, VOL_BYTES, &l, &e);
	if (r)
		fail_msg("layer_open: %d: %s", r, e.msg);
	return l;
}

static char model_state(const struct layer *l, uint64_t sector)
{
	uint16_t w = layer_word(l, sector / 8);
	bool d = w >> (sector % 8) & 1, z = w >> (sector % 8 + 8) & 1;

	assert_false(d && z);
	return d ? 'd' : z ? 'z' : '-';
}

static void assert_model(const struct layer *l, const char *model)
{
	for (uint64_t s = 0; s < VOL_SECTORS; s++)
		if (model_state(l, s) != model[s])
			fail_msg("sector %llu: %c, expected %c (seed in output)",
				 (unsigned long long)s, model_state(l, s), model[s]);
}

static void mark_random(struct layer *l, char *model)
{
	uint32_t n = rnd() % 4 ? 1 + rnd() % 16 : 1 + rnd() % 4000;
	uint64_t s = rnd() % 3 ? rnd() % 100000 : (uint64_t)rnd() % VOL_SECTORS;
	bool zero = rnd() % 3 == 0;

	n = (uint32_t)MIN(n, VOL_SECTORS - s);
	assert_int_equal(layer_reserve(l, s, n), 0);
	assert_true(layer_ready(l, s, n));
	layer_mark(l, s, n, zero);
	memset(model + s, zero ? 'z' : 'd', n);
}

static void acknowledged_state_survives_process_death(void **state __unused)
{
	__cleanup_free char *model = malloc(VOL_SECTORS);
	struct layer *l;

	boot('a');
	memset(model, '-', VOL_SECTORS);
	assert_int_equal(layer_create(dirfd_, uuid, 7, 1, VOL_BYTES, &l), 0);
	for (int round = 0; round < 20; round++) {
		uint64_t data = 0;

		for (int i = 0; i < 50; i++)
			mark_random(l, model);
		if (round % 3 == 0)
			assert_int_equal(layer_sync(l), 0);
		l = reopen(l);
		assert_model(l, model);
		for (uint64_t s = 0; s < VOL_SECTORS; s++)
			data += model[s] == 'd' ? SECTOR_SIZE : 0;
		assert_int_equal(l->data_bytes, data);
	}
	layer_put(l);
	assert_int_equal(layer_unlink(dirfd_, 1), 0);
}

/* After a reboot exactly what was flushed is there, also when the flush came after a restart. */
static void flushed_state_survives_power_loss(void **state __unused)
{
	__cleanup_free char *model = malloc(VOL_SECTORS), *flushed = malloc(VOL_SECTORS);
	struct layer *l;
	char id = 'a';

	boot(id);
	memset(model, '-', VOL_SECTORS);
	memset(flushed, '-', VOL_SECTORS);
	assert_int_equal(layer_create(dirfd_, uuid, 7, 1, VOL_BYTES, &l), 0);
	for (int round = 0; round < 30; round++) {
		for (int i = 0; i < 30; i++)
			mark_random(l, model);
		if (round % 4 == 1)
			l = reopen(l); /* SIGKILL between write and flush */
		if (round % 2) {
			assert_int_equal(layer_sync(l), 0);
			memcpy(flushed, model, VOL_SECTORS);
		}
		if (round % 5 == 4) {
			boot(++id);
			l = reopen(l);
			assert_model(l, flushed);
			memcpy(model, flushed, VOL_SECTORS);
		}
	}
	layer_put(l);
	assert_int_equal(layer_unlink(dirfd_, 1), 0);
}

/* Cut or damage the log anywhere: what is recovered is some flushed state, never anything else. */
static void damaged_log_yields_an_older_flush_or_an_error(void **state __unused)
{
	enum { FLUSHES = 8 };
	char *at[FLUSHES + 1], *log;
	size_t log_len, end;
	struct layer *l;

	boot('a');
	assert_int_equal(layer_create(dirfd_, uuid, 7, 1, VOL_BYTES, &l), 0);
	at[0] = malloc(VOL_SECTORS);
	memset(at[0], '-', VOL_SECTORS);
	for (int i = 1; i <= FLUSHES; i++) {
		at[i] = malloc(VOL_SECTORS);
		memcpy(at[i], at[i - 1], VOL_SECTORS);
		for (int j = 0; j < 3; j++)
			mark_random(l, at[i]);
		assert_int_equal(layer_sync(l), 0);
	}
	end = l->log_pos;
	layer_put(l);
	assert_int_equal(
		file_read_all(dirfd_, "layer-00000000000000000001.log", 16 * MiB, &log, &log_len),
		0);
	for (int i = 0; i < 60; i++) {
		size_t pos = rnd() % end;
		bool cut = i % 2;
		struct fmt_err e = {.msg = ""};
		int fd, r, k;

		fd = openat(dirfd_, "layer-00000000000000000001.log", O_WRONLY | O_TRUNC);
		assert_true(fd >= 0);
		if (!cut)
			log[pos] ^= (char)(1 << (i % 8));
		assert_int_equal(pwrite_full(fd, log, cut ? pos : log_len, 0), 0);
		if (!cut)
			log[pos] ^= (char)(1 << (i % 8));
		close(fd);
		boot((char)('b' + i));
		r = layer_open(dirfd_, uuid, 7, 1, VOL_BYTES, &l, &e);
		if (r) {
			assert_true(pos < 64); /* the header itself */
			assert_true(strlen(e.msg) > 0);
			continue;
		}
		for (k = FLUSHES; k >= 0; k--) {
			uint64_t s = 0;

			while (s < VOL_SECTORS && model_state(l, s) == at[k][s])
				s++;
			if (s == VOL_SECTORS)
				break;
		}
		if (k < 0)
			fail_msg("log %s at %zu: recovered state is none of the flushed ones",
				 cut ? "cut" : "flipped", pos);
		layer_put(l);
	}
	free(log);
	for (int i = 0; i <= FLUSHES; i++)
		free(at[i]);
	assert_int_equal(layer_unlink(dirfd_, 1), 0);
}

static void foreign_and_future_logs_are_refused(void **state __unused)
{
	struct fmt_err e = {.msg = ""};
	static const uint8_t other[16] = {9};
	uint32_t version = 2;
	struct layer *l, *x;
	int fd;

	boot('a');
	assert_int_equal(layer_create(dirfd_, uuid, 7, 1, VOL_BYTES, &l), 0);
	layer_put(l);
	assert_int_equal(layer_open(dirfd_, other, 7, 1, VOL_BYTES, &x, &e), -ESTALE);
	assert_int_equal(layer_open(dirfd_, uuid, 8, 1, VOL_BYTES, &x, &e), -ESTALE);
	fd = openat(dirfd_, "layer-00000000000000000001.log", O_WRONLY);
	assert_int_equal(pwrite_full(fd, &version, 4, 8), 0);
	close(fd);
	assert_int_equal(layer_open(dirfd_, uuid, 7, 1, VOL_BYTES, &x, &e), -EPROTONOSUPPORT);
	assert_non_null(strstr(e.msg, "newer"));
	assert_int_equal(layer_unlink(dirfd_, 1), 0);
}

static enum disk_op fault_op;
static int fault_at;

static int fault_hook(enum disk_op op, uint64_t seq __unused)
{
	return op == fault_op && fault_at-- == 0 ? -EIO : 0;
}

/* Storage rule 3: one failed fsync poisons, for this process and for the next of this boot. */
static void failed_fsync_poisons_for_the_rest_of_the_boot(void **state __unused)
{
	static const enum disk_op ops[] = {DISK_FSYNC, DISK_LOG_WRITE, DISK_LOG_FSYNC};

	boot('a');
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct layer *l;

		assert_int_equal(layer_create(dirfd_, uuid, 7, 1, VOL_BYTES, &l), 0);
		assert_int_equal(layer_reserve(l, 0, 8), 0);
		layer_mark(l, 0, 8, false);
		fault_op = ops[i];
		fault_at = 0;
		disk_fault_hook = fault_hook;
		assert_int_equal(layer_sync(l), -EIO);
		disk_fault_hook = NULL;
		assert_int_equal(layer_sync(l), -EIO);
		l = reopen(l);
		assert_int_equal(layer_sync(l), -EIO);
		layer_put(l);
		assert_int_equal(layer_unlink(dirfd_, 1), 0);
	}
}

static void failed_creation_leaves_nothing(void **state __unused)
{
	static const enum disk_op ops[] = {DISK_CREATE, DISK_FALLOCATE, DISK_LOG_WRITE,
					   DISK_LOG_FSYNC, DISK_FSYNC};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		struct layer *l;

		fault_op = ops[i];
		fault_at = 0;
		disk_fault_hook = fault_hook;
		assert_int_equal(layer_create(dirfd_, uuid, 7, 1, VOL_BYTES, &l), -EIO);
		disk_fault_hook = NULL;
		assert_int_equal(faccessat(dirfd_, "layer-00000000000000000001.log", F_OK, 0), -1);
		assert_int_equal(faccessat(dirfd_, "layer-00000000000000000001.map", F_OK, 0), -1);
		assert_int_equal(faccessat(dirfd_, "layer-00000000000000000001.data", F_OK, 0), -1);
	}
}

struct marker {
	struct layer *l;
	pthread_t thread;
	unsigned int lane;
	uint64_t done; /* atomic: marks made */
};

enum { MARKERS = 3, MARKS = 66000 };

static void *marker_main(void *arg)
{
	struct marker *m = arg;

	/* Neighbouring sectors of shared words and granules, so that markers race for the same
	 * bits. */
	for (uint64_t i = 0; i < MARKS; i++) {
		uint64_t s = (i * MARKERS + m->lane) * 3 % 600000;

		layer_mark(m->l, s, 1, false);
		__atomic_store_n(&m->done, i + 1, __ATOMIC_SEQ_CST);
		if (i % 64 == 0)
			usleep(50); /* spread the marks over many flushes */
	}
	return NULL;
}

/* What was marked before a collection began is in that collection or an earlier one. */
static void concurrent_marks_are_never_missed_by_a_flush(void **state __unused)
{
	struct marker m[MARKERS];
	struct layer *l;
	bool running = true;

	boot('a');
	assert_int_equal(layer_create(dirfd_, uuid, 7, 1, VOL_BYTES, &l), 0);
	assert_int_equal(layer_reserve(l, 0, 600001), 0);
	for (unsigned int i = 0; i < MARKERS; i++) {
		m[i] = (struct marker){.l = l, .lane = i};
		pthread_create(&m[i].thread, NULL, marker_main, &m[i]);
	}
	for (char id = 'b'; running; id++) {
		uint64_t done[MARKERS];
		struct layer *seen;
		struct fmt_err e;
		int copy;

		running = false;
		for (int i = 0; i < MARKERS; i++) {
			done[i] = __atomic_load_n(&m[i].done, __ATOMIC_SEQ_CST);
			running |= done[i] < MARKS;
		}
		assert_int_equal(layer_reserve(l, 0, 600001), 0);
		assert_int_equal(layer_sync(l), 0);
		/* Look at the log as the next boot would, through a copy of the directory. */
		assert_int_equal(system("rm -rf $GFS_COPY && mkdir $GFS_COPY"), 0);
		copy = open(getenv("GFS_COPY"), O_RDONLY | O_DIRECTORY);
		{
			char cmd[256];

			snprintf(cmd, sizeof(cmd),
				 "cp --sparse=always %s/layer-*.log %s/layer-*.data %s", dir, dir,
				 getenv("GFS_COPY"));
			assert_int_equal(system(cmd), 0);
		}
		boot(id);
		assert_int_equal(layer_open(copy, uuid, 7, 1, VOL_BYTES, &seen, &e), 0);
		for (int i = 0; i < MARKERS; i++)
			for (uint64_t k = 0; k < done[i]; k++) {
				uint64_t s = (k * MARKERS + (uint64_t)i) * 3 % 600000;

				if (model_state(seen, s) != 'd')
					fail_msg("mark %llu of lane %d missed",
						 (unsigned long long)k, i);
			}
		layer_put(seen);
		close(copy);
		if (id == 'y')
			id = 'a';
	}
	for (int i = 0; i < MARKERS; i++)
		pthread_join(m[i].thread, NULL);
	layer_put(l);
	assert_int_equal(layer_unlink(dirfd_, 1), 0);
	assert_int_equal(system("rm -rf $GFS_COPY"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(acknowledged_state_survives_process_death),
		cmocka_unit_test(flushed_state_survives_power_loss),
		cmocka_unit_test(damaged_log_yields_an_older_flush_or_an_error),
		cmocka_unit_test(foreign_and_future_logs_are_refused),
		cmocka_unit_test(failed_fsync_poisons_for_the_rest_of_the_boot),
		cmocka_unit_test(failed_creation_leaves_nothing),
		cmocka_unit_test(concurrent_marks_are_never_missed_by_a_flush),
	};
	const char *s = getenv("SEED");
	int r;

	seed = s ? strtoull(s, NULL, 0) : now_ns();
	print_message("SEED=%llu\n", (unsigned long long)seed);
	if (!mkdtemp(dir))
		return 1;
	snprintf(copy_dir, sizeof(copy_dir), "%s-copy", dir);
	setenv("GFS_COPY", copy_dir, 1);
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	close(dirfd_);
	rmdir(dir);
	return r;
}
