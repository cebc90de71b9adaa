// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The clean cache under volumes: what was read once is not got from the store again after a
 * restart, whoever reads it; forks of one image hold its blocks once; and a bad SSD costs GETs,
 * nothing else.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/ssd_priv.h"
#include "engine/volume_priv.h"
#include "lib/fsutil.h"
#include "lib/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#define BLOCK   (64 * KiB)
#define BLOCKS  64
#define SECTORS (BLOCKS * BLOCK / SECTOR_SIZE)
#define AT_ONCE 256 /* sectors of a request */

/* Half of each block compresses; each is another. */
static void content_fill(uint8_t *p, uint32_t sector)
{
	uint64_t x = (sector + 1) * 0x9e3779b97f4a7c15;

	for (size_t i = 0; i < SECTOR_SIZE; i += 8) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(p + i, &x, 8);
		if (sector % 2)
			x = sector;
	}
}

static void write_all(struct harness *h)
{
	uint8_t *buf = malloc(AT_ONCE * SECTOR_SIZE);

	assert_non_null(buf);
	for (uint32_t at = 0; at < SECTORS; at += AT_ONCE) {
		for (uint32_t i = 0; i < AT_ONCE; i++)
			content_fill(buf + i * SECTOR_SIZE, at + i);
		assert_int_equal(harness_io(h, GFS_WRITE, at, AT_ONCE, buf), 0);
	}
	free(buf);
}

static void read_check(const uint8_t *buf, uint32_t at)
{
	uint8_t want[SECTOR_SIZE];

	for (uint32_t i = 0; i < AT_ONCE; i++) {
		content_fill(want, at + i);
		if (memcmp(buf + i * SECTOR_SIZE, want, SECTOR_SIZE))
			fail_msg("sector %u: wrong data", at + i);
	}
}

/* All of it, by several requests at once. */
static void read_all(struct harness *h)
{
	enum { NR = SECTORS / AT_ONCE };
	struct hreq *r = calloc(NR, sizeof(*r));
	uint8_t *buf = malloc(SECTORS * SECTOR_SIZE);

	assert_true(r && buf);
	memset(buf, 0xee, SECTORS * SECTOR_SIZE);
	for (uint32_t i = 0; i < NR; i++)
		hreq_start(h, &r[i], i, GFS_READ, i * AT_ONCE, AT_ONCE,
			   buf + (size_t)i * AT_ONCE * SECTOR_SIZE, false);
	for (uint32_t i = 0; i < NR; i++) {
		assert_int_equal(hreq_wait(&r[i]), 0);
		read_check(buf + (size_t)i * AT_ONCE * SECTOR_SIZE, i * AT_ONCE);
	}
	free(buf);
	free(r);
}

static struct engine_stats stats(struct harness *h)
{
	struct engine_stats st;

	engine_stats_read(h->e, &st);
	return st;
}

static void restart(struct harness *h, const char *name)
{
	harness_stop(h);
	harness_start(h);
	ssd_flush(h->e->ssd); /* it has read what is there */
	harness_open(h, name, CLAIM_OWN, true, NULL);
}

/* A volume whose blocks are in the store, and nowhere else. */
static void volume_in_store(struct harness *h)
{
	harness_init(h);
	h->cfg.ssd_bytes = 64 * MiB;
	harness_start(h);
	harness_create(h, "base", BLOCKS * BLOCK, BLOCK);
	write_all(h);
	harness_drain(h);
	restart(h, "base");
}

static void a_restart_reads_what_was_read_before_without_a_get(void **state)
{
	struct harness h;

	volume_in_store(&h);
	assert_int_equal(stats(&h).ssd.entries, 0); /* nobody has read yet */
	read_all(&h);
	assert_true(stats(&h).fetch.gets > 0);
	ssd_flush(h.e->ssd);
	assert_true(stats(&h).ssd.entries >= BLOCKS + 1);
	for (int i = 0; i < 2; i++) {
		restart(&h, "base");
		read_all(&h);
		assert_int_equal(stats(&h).fetch.gets, 0);
		assert_true(stats(&h).ssd.hits >= BLOCKS + 1);
		assert_int_equal(stats(&h).ssd.bad, 0);
	}
	/* Switched off, it leaves nothing behind. */
	h.cfg.ssd_bytes = 0;
	harness_stop(&h);
	harness_start(&h);
	harness_open(&h, "base", CLAIM_OWN, true, NULL);
	read_all(&h);
	assert_true(stats(&h).fetch.gets > 0);
	harness_stop(&h);
	h.cfg.ssd_bytes = 64 * MiB;
	harness_start(&h);
	ssd_flush(h.e->ssd);
	assert_int_equal(stats(&h).ssd.entries, 0);
	harness_stop(&h);
	harness_fini(&h);
}

static void fork_of(struct harness *h, const char *name, const struct snapshot *s)
{
	struct volume_def def = {.name = name, .from = s};
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct root root;

	assert_int_equal(root_prepare(h->e, &def, &root), 0);
	if (root_create(h->e, &root, 0, 1, etag, &err))
		fail_msg("root_create: %s", err.msg);
	harness_open(h, name, CLAIM_OWN, false, NULL);
}

/* Memory has room for a few blocks only, so each fork reads the SSD. */
static void forks_of_one_image_hold_its_blocks_once(void **state)
{
	struct engine_stats one, all;
	struct fmt_err err = {""};
	struct snapshot s;
	struct harness h;

	volume_in_store(&h);
	if (volume_snapshot(h.v, "", 1, &s, &err))
		fail_msg("snapshot: %s", err.msg);
	h.cfg.cache_bytes = 1 * MiB;
	restart(&h, "base");
	read_all(&h);
	ssd_flush(h.e->ssd);
	one = stats(&h);
	assert_true(one.ssd.entries >= BLOCKS + 1);
	for (int i = 0; i < 20; i++) {
		char name[16];

		snprintf(name, sizeof(name), "fork-%d", i);
		harness_close(&h);
		fork_of(&h, name, &s);
		read_all(&h);
	}
	ssd_flush(h.e->ssd);
	all = stats(&h);
	assert_int_equal(all.ssd.entries, one.ssd.entries);
	assert_int_equal(all.ssd.inserts, one.ssd.inserts);
	assert_int_equal(all.ssd.bytes, one.ssd.bytes);
	assert_int_equal(all.fetch.gets, one.fetch.gets);
	assert_true(all.ssd.hits > 10 * BLOCKS);
	harness_stop(&h);
	harness_fini(&h);
}

/* Every page of every file in cache_dir/clean from `data` on. */
static void rot(struct harness *h, off_t data)
{
	char path[200];
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof(path), "%s/clean", h->cache_dir);
	d = opendir(path);
	assert_non_null(d);
	while ((de = readdir(d)) != NULL) {
		int fd = openat(dirfd(d), de->d_name, O_RDWR | O_CLOEXEC);
		struct stat st;

		if (fd < 0 || de->d_name[0] == '.')
			continue;
		assert_int_equal(fstat(fd, &st), 0);
		for (off_t off = data; off < st.st_size; off += 4096)
			assert_int_equal(pwrite_full(fd, "rotten", 6, (uint64_t)off), 0);
		close(fd);
	}
	closedir(d);
}

static void bad_data_on_the_ssd_is_never_seen(void **state)
{
	struct harness h;
	off_t data;

	volume_in_store(&h);
	read_all(&h);
	data = (off_t)ROUND_UP(4096 + h.e->ssd->segment_entries * SSD_ENTRY_BYTES, SSD_PAGE);
	/* While it is in use, and while it is not. */
	for (int i = 0; i < 2; i++) {
		harness_stop(&h);
		if (i)
			rot(&h, data);
		harness_start(&h);
		ssd_flush(h.e->ssd);
		if (!i)
			rot(&h, data);
		harness_open(&h, "base", CLAIM_OWN, true, NULL);
		read_all(&h);
		assert_true(stats(&h).ssd.bad >= BLOCKS);
		assert_true(stats(&h).fetch.gets > 0);
		assert_int_equal(stats(&h).ssd.on, 1);
		/* It was mended. */
		restart(&h, "base");
		read_all(&h);
		assert_int_equal(stats(&h).fetch.gets, 0);
	}
	harness_stop(&h);
	harness_fini(&h);
}

static void a_failing_ssd_costs_gets_not_errors(void **state)
{
	struct ssd_segment *seg;
	struct harness h;
	int dir;

	volume_in_store(&h);
	read_all(&h);
	restart(&h, "base");
	dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list_for_each_entry (seg, &h.e->ssd->segments, node)
		assert_true(dup2(dir, seg->fd) >= 0);
	close(dir);
	read_all(&h);
	assert_int_equal(stats(&h).ssd.on, 0);
	assert_true(stats(&h).fetch.gets > 0);
	harness_stop(&h);
	harness_fini(&h);
}

/* The same GETs as ever when the store is slow and the SSD has half of what is asked for. */
static void half_of_it_on_the_ssd_is_half_of_the_gets(void **state)
{
	uint8_t *buf = malloc(AT_ONCE * SECTOR_SIZE);
	struct harness h;
	uint64_t bytes;

	volume_in_store(&h);
	h.cfg.prefetch_blocks = 0;
	restart(&h, "base");
	for (uint32_t at = 0; at < SECTORS / 2; at += AT_ONCE) {
		assert_int_equal(harness_io(&h, GFS_READ, at, AT_ONCE, buf), 0);
		read_check(buf, at);
	}
	bytes = stats(&h).fetch.get_bytes;
	restart(&h, "base");
	read_all(&h);
	assert_true(stats(&h).fetch.gets > 0);
	/* The index is there; of the other half each byte comes once. */
	assert_true(stats(&h).fetch.get_bytes <= bytes + bytes / 10);
	assert_int_equal(stats(&h).ssd.hits, BLOCKS / 2 + 1);
	free(buf);
	harness_stop(&h);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_restart_reads_what_was_read_before_without_a_get),
		cmocka_unit_test(forks_of_one_image_hold_its_blocks_once),
		cmocka_unit_test(bad_data_on_the_ssd_is_never_seen),
		cmocka_unit_test(a_failing_ssd_costs_gets_not_errors),
		cmocka_unit_test(half_of_it_on_the_ssd_is_half_of_the_gets),
	};

	log_init(LOG_LVL_WARN, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
