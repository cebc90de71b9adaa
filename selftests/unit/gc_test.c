// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The collector on a real engine and a directory: what nothing names goes after two runs, what is
 * named stays and reads right on another host, and whatever cannot be read stops it. Time passes by
 * changing the times of files. Interleavings are in gc_sim_test.c.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/gc.h"
#include "engine/image.h"
#include "engine/objects.h"
#include "engine/scrub.h"

#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

/* A volume is one block of 1 MiB, so that each upload supersedes the one before. */
#define BLOCK   (8 * KiB) /* of the one that is compacted */
#define BLOCKS  16
#define GRACE_S 3600

static uint8_t data[BLOCKS * BLOCK];

/* One request, so that no upload has a part of it. */
static void transfer(struct harness *h, enum gfs_op op, unsigned int first_block)
{
	size_t at = first_block * BLOCK;

	assert_int_equal(
		harness_io(h, op, at / SECTOR_SIZE, (sizeof(data) - at) / SECTOR_SIZE, data + at),
		0);
}

static void fill(struct harness *h, uint8_t seed)
{
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(seed + i / SECTOR_SIZE * 7 + i % 251);
	transfer(h, GFS_WRITE, 0);
	harness_drain(h);
}

static void verify(struct harness *h, uint8_t seed, const char *what)
{
	memset(data, 0, sizeof(data));
	transfer(h, GFS_READ, 0);
	for (size_t i = 0; i < sizeof(data); i++)
		if (data[i] != (uint8_t)(seed + i / SECTOR_SIZE * 7 + i % 251))
			fail_msg("%s: byte %zu is wrong", what, i);
}

static void begin(struct harness *h)
{
	harness_needs_store_dir();
	harness_init(h);
	h->cfg.gc_grace_ns = GRACE_S * NSEC_PER_SEC;
	harness_start(h);
}

/* ---- the store's time ---- */

static time_t by_s;

static int older(const char *path, const struct stat *st, int type, struct FTW *ftw __unused)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, st->st_mtim};

	ts[1].tv_sec = by_s ? ts[1].tv_sec - by_s : 0;
	return type == FTW_F ? utimensat(AT_FDCWD, path, ts, 0) : 0;
}

/* Everything that the collector asks the age of becomes older; or, with 0, of unknown age. */
static void time_passes(struct harness *h, time_t seconds)
{
	static const char *const dirs[] = {"chunks", "manifests", "gc"};
	char path[128];

	by_s = seconds;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/store/%s", h->dir, dirs[i]);
		if (!access(path, F_OK))
			assert_int_equal(nftw(path, older, 16, FTW_PHYS), 0);
	}
}

/*
 * A tombstone also says, in its text, when its run began; so that of real runs cannot be made older
 * as a file can. It is what bounds its life, at four periods.
 */
static struct gc_report collect(struct harness *h, int want, struct fmt_err *err)
{
	struct gc_params p = {.grace_s = GRACE_S};
	struct gc_progress progress = {.phase = ""};
	struct gc_report rep;
	struct fmt_err mine;
	int r = gc_run(h->e, &p, NULL, 1, &progress, &rep, err ? err : &mine);

	if (r != want)
		fail_msg("gc_run: %d, not %d: %s", r, want, err ? err->msg : mine.msg);
	return rep;
}

static int count_one(const char *key __unused, void *arg)
{
	++*(unsigned int *)arg;
	return 0;
}

static unsigned int count(struct harness *h, const char *prefix)
{
	struct fmt_err err;
	unsigned int n = 0;

	assert_int_equal(object_list(h->e, prefix, count_one, &n, &err), 0);
	return n;
}

/* Another host, with nothing but the store. */
static void verify_elsewhere(const struct harness *of, const char *name, uint8_t seed)
{
	static unsigned int nr;
	static char ids[16][16];
	struct harness h;
	char dir[16];

	snprintf(dir, sizeof(dir), "other-%u", nr);
	snprintf(ids[nr], sizeof(ids[nr]), "other-%u/x", nr);
	harness_host(&h, of, dir);
	h.cfg.host_id = ids[nr++];
	harness_start(&h);
	harness_open(&h, name, CLAIM_TAKEOVER, false, NULL);
	verify(&h, seed, name);
	harness_stop(&h);
}

static void fork_make(struct harness *h, const char *name, const struct snapshot *s)
{
	struct volume_def def = {.name = name, .from = s};
	char etag[STORE_ETAG_MAX];
	struct fmt_err err;
	struct root root;

	assert_int_equal(root_prepare(h->e, &def, &root), 0);
	assert_int_equal(root_create(h->e, &root, 0, 1, etag, &err), 0);
}

static void destroy(struct harness *h)
{
	struct fmt_err err = {""};

	volume_lanes_remove(h->v);
	if (volume_destroy(h->v, 1, &err))
		fail_msg("volume_destroy: %s", err.msg);
	volume_close(h->v);
	free(h->lane);
	h->lane = NULL;
	h->v = NULL;
}

static void what_nothing_names_goes_and_the_rest_stays(void **state)
{
	struct fmt_err err = {""};
	struct gc_report rep;
	struct snapshot s;
	struct harness h;

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	fill(&h, 1);
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	fork_make(&h, "fork", &s);
	fill(&h, 2); /* superseded, held by nothing once 3 is there */
	fill(&h, 3);
	assert_int_equal(count(&h, "manifests/"), 3);

	/* Young: nothing is even marked. */
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.roots, 2);
	assert_int_equal(rep.snapshots, 1);
	assert_int_equal(rep.live, 4);
	assert_int_equal(rep.young, 2);
	assert_int_equal(rep.marked + rep.deleted, 0);

	time_passes(&h, GRACE_S + 10);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.marked, 2);
	assert_int_equal(rep.deleted, 0);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.waiting, 2);
	assert_int_equal(rep.marked + rep.deleted, 0);
	time_passes(&h, GRACE_S + 10);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.deleted, 2);
	assert_int_equal(rep.live, 4);
	assert_int_equal(count(&h, "manifests/"), 2);
	assert_int_equal(count(&h, "chunks/"), 2);
	assert_int_equal(count(&h, "gc/"), 0);
	verify_elsewhere(&h, "fork", 1);

	/* The volume goes, and its snapshot: only the fork is left. What the snapshot named stays
	 * as long as its grave, whoever else names it. */
	destroy(&h);
	assert_int_equal(snapshot_delete(h.e, "base", s.seq, 1, &err), 0);
	assert_int_equal(count(&h, "gc/graves/"), 1);
	collect(&h, 0, NULL);
	time_passes(&h, GRACE_S + 10);
	collect(&h, 0, NULL);
	verify_elsewhere(&h, "fork", 1);
	assert_int_equal(count(&h, "manifests/"), 1);
	assert_int_equal(root_delete(h.e, "fork", NULL, 1, &err), 0);
	collect(&h, 0, NULL);
	time_passes(&h, 2 * GRACE_S + 10);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.live + rep.graves, 0);
	time_passes(&h, 5 * GRACE_S + 10);
	collect(&h, 0, NULL);
	assert_int_equal(count(&h, "gc/graves/"), 0);
	time_passes(&h, GRACE_S + 10);
	collect(&h, 0, NULL);
	assert_int_equal(count(&h, "manifests/") + count(&h, "chunks/"), 0);
	harness_stop(&h);
	harness_fini(&h);
}

static void marked_and_named_again_is_spared(void **state)
{
	char key[STORE_KEY_MAX];
	struct fmt_err err = {""};
	struct gc_report rep;
	struct snapshot s;
	struct harness h;

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	fill(&h, 1);
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	destroy(&h);
	/* A snapshot and a fork of it that are on their way while the first run looks. */
	time_passes(&h, GRACE_S + 10);
	snapshot_key("base", s.seq, key, sizeof(key));
	assert_int_equal(object_delete(h.e, key, NULL, NULL, now_ns() + NSEC_PER_SEC, 1, &err), 0);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.marked, 2);
	fork_make(&h, "fork", &s);
	time_passes(&h, GRACE_S + 10);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.deleted, 0);
	assert_int_equal(rep.spared, 2);
	time_passes(&h, GRACE_S + 10);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.deleted + rep.marked, 0);
	verify_elsewhere(&h, "fork", 1);
	harness_stop(&h);
	harness_fini(&h);
}

static void damage(struct harness *h, const char *key)
{
	char path[700];
	FILE *f;

	snprintf(path, sizeof(path), "%s/store/%s", h->dir, key);
	f = fopen(path, "r+");
	if (!f)
		fail_msg("%s", path);
	assert_int_equal(fseek(f, 30, SEEK_SET), 0);
	fputc('~', f);
	fclose(f);
}

static void copy_object(struct harness *h, const char *from, const char *to)
{
	char cmd[1500];

	snprintf(cmd, sizeof(cmd), "cp -p '%s/store/%s' '%s/store/%s'", h->dir, from, h->dir, to);
	assert_int_equal(system(cmd), 0);
}

/* A store that does not say when an object came must not be taken for one that says 1970. */
static void what_has_no_known_age_is_not_old(void **state)
{
	struct gc_report rep;
	struct harness h;

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	fill(&h, 1);
	fill(&h, 2);
	for (int i = 0; i < 3; i++) {
		time_passes(&h, 0);
		rep = collect(&h, 0, NULL);
		assert_int_equal(rep.marked, 0);
		assert_int_equal(rep.deleted, 0);
		assert_int_equal(rep.young, 2);
	}
	assert_int_equal(count(&h, "chunks/"), 2);
	harness_stop(&h);
	harness_fini(&h);
}

/* The collector learns from its grave what a deleted snapshot named. */
static void a_bad_transfer_does_not_cost_a_snapshot_its_grave(void **state)
{
	struct fmt_err err = {""};
	struct snapshot s;
	struct harness h;

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	fill(&h, 1);
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	harness_fault(&h, "get:snapshots/* corrupt count=1");
	assert_int_equal(snapshot_delete(h.e, "base", s.seq, 1, &err), 0);
	harness_fault(&h, "");
	assert_int_equal(count(&h, "snapshots/"), 0);
	assert_int_equal(count(&h, "gc/graves/"), 1);
	/* What is damaged in the store can be deleted nevertheless. */
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	harness_fault(&h, "get:snapshots/* corrupt");
	assert_int_equal(snapshot_delete(h.e, "base", s.seq, 1, &err), 0);
	assert_int_equal(count(&h, "snapshots/"), 0);
	assert_int_equal(count(&h, "gc/graves/"), 1);
	harness_stop(&h);
	harness_fini(&h);
}

/* All the garbage there is stays, as long as something that names others cannot be read. */
static void what_cannot_be_read_stops_it(void **state)
{
	char keys[4][STORE_KEY_MAX], stranger[] = "exports/what-is-this";
	struct fmt_err err = {""};
	struct gc_report rep;
	struct snapshot s;
	struct harness h;
	struct root root;
	unsigned int packs;

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	fill(&h, 1);
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	fill(&h, 2);
	fill(&h, 3);
	time_passes(&h, GRACE_S + 10);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.marked, 2);
	time_passes(&h, GRACE_S + 10);
	packs = count(&h, "chunks/");
	assert_int_equal(root_load(h.e, "base", 1, &root, NULL, &err), 0);
	root_key("base", keys[0], sizeof(keys[0]));
	snapshot_key("base", s.seq, keys[1], sizeof(keys[1]));
	manifest_key(root.manifest.uuid, root.manifest.id, keys[2], sizeof(keys[2]));
	manifest_key(s.manifest.uuid, s.manifest.id, keys[3], sizeof(keys[3]));
	for (unsigned int i = 0; i < 4; i++) {
		copy_object(&h, keys[i], "saved");
		damage(&h, keys[i]);
		collect(&h, -EBADMSG, &err);
		if (!strstr(err.msg, keys[i]))
			fail_msg("%s is not named: %s", keys[i], err.msg);
		assert_int_equal(count(&h, "chunks/"), packs);
		/* Missing is no better, but for roots and snapshots, which may come and go. */
		if (i >= 2) {
			char path[700];

			snprintf(path, sizeof(path), "%s/store/%s", h.dir, keys[i]);
			assert_int_equal(unlink(path), 0);
			collect(&h, -ENOENT, &err);
			assert_non_null(strstr(err.msg, keys[i]));
		}
		copy_object(&h, "saved", keys[i]);
	}
	copy_object(&h, keys[0], stranger);
	collect(&h, -EBADMSG, &err);
	assert_non_null(strstr(err.msg, stranger));
	assert_int_equal(count(&h, "chunks/"), packs);
	{
		char path[700];

		snprintf(path, sizeof(path), "%s/store/%s", h.dir, stranger);
		assert_int_equal(unlink(path), 0);
	}
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.deleted, 2);
	harness_stop(&h);
	harness_fini(&h);
}

static void limits_are_kept(void **state)
{
	struct gc_params p = {.grace_s = GRACE_S - 1};
	struct gc_progress progress = {.phase = ""};
	struct fmt_err err = {""};
	struct gc_report rep;
	struct harness h;

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	for (uint8_t i = 0; i < 4; i++)
		fill(&h, i);
	assert_int_equal(gc_run(h.e, &p, NULL, 1, &progress, &rep, &err), -EINVAL);
	time_passes(&h, GRACE_S + 10);
	p = (struct gc_params){.grace_s = GRACE_S, .dry_run = true};
	assert_int_equal(gc_run(h.e, &p, NULL, 1, &progress, &rep, &err), 0);
	assert_int_equal(rep.marked, 6);
	assert_int_equal(count(&h, "gc/"), 0);
	collect(&h, 0, NULL);
	time_passes(&h, GRACE_S + 10);
	assert_int_equal(gc_run(h.e, &p, NULL, 1, &progress, &rep, &err), 0);
	assert_int_equal(rep.deleted, 6);
	assert_int_equal(count(&h, "chunks/") + count(&h, "manifests/"), 8);
	p = (struct gc_params){.grace_s = GRACE_S, .max_delete = 4};
	assert_int_equal(gc_run(h.e, &p, NULL, 1, &progress, &rep, &err), 0);
	assert_int_equal(rep.deleted, 4);
	assert_int_equal(rep.left, 2);
	assert_int_equal(count(&h, "chunks/") + count(&h, "manifests/"), 4);
	rep = collect(&h, 0, NULL);
	assert_int_equal(rep.deleted, 2);
	assert_int_equal(count(&h, "gc/"), 0);
	verify_elsewhere(&h, "base", 3);
	harness_stop(&h);
	harness_fini(&h);
}

/* What has been in the store for too long without a root may be garbage: it is not published. */
static void an_upload_that_took_too_long_begins_anew(void **state)
{
	struct fmt_err err = {""};
	struct harness h;
	unsigned int packs;

	harness_init(&h);
	h.cfg.gc_grace_ns = 4 * NSEC_PER_SEC;
	harness_start(&h);
	harness_create(&h, "base", MiB, MiB);
	harness_fault(&h, "put:exports/* error=EIO");
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(harness_io(&h, GFS_WRITE, 0, 8, data), 0);
	/* As often as it is tried within a second, the packs are the same. */
	assert_true(volume_drain(h.v, 300 * NSEC_PER_MSEC, 1, &err) < 0);
	packs = count(&h, "chunks/");
	assert_int_equal(packs, 1);
	assert_true(volume_drain(h.v, 1500 * NSEC_PER_MSEC, 1, &err) < 0);
	usleep(1100000);
	harness_fault(&h, "");
	harness_drain(&h);
	assert_true(count(&h, "chunks/") > packs);
	harness_stop(&h);
	harness_fini(&h);
}

/* Blocks that the volume's packs have, dead ones too. */
static uint64_t stored_blocks(struct harness *h)
{
	struct fmt_err err;
	struct manifest *m;
	struct root root;
	uint64_t n = 0;

	assert_int_equal(root_load(h->e, "base", 1, &root, NULL, &err), 0);
	assert_int_equal(root_manifest_load(h->e, &root, 1, &m, &err), 0);
	for (uint32_t i = 0; i < m->nr_entries; i++)
		n += m->entries[i].nblocks;
	manifest_put(m);
	return n;
}

/* Each write leaves one block of the one before alive, so no pack is ever of no use. */
static void packs_that_are_mostly_dead_are_compacted(void **state)
{
	struct gc_report rep;
	struct harness h;

	begin(&h);
	harness_create(&h, "base", MiB, BLOCK);
	fill(&h, 7);
	for (unsigned int k = 1; k < BLOCKS - 4; k++) {
		transfer(&h, GFS_WRITE, k);
		harness_drain(&h);
		if (stored_blocks(&h) > 4 * BLOCKS)
			fail_msg("%llu blocks are stored for %d after %u writes",
				 (unsigned long long)stored_blocks(&h), BLOCKS, k);
	}
	time_passes(&h, GRACE_S + 10);
	collect(&h, 0, NULL);
	time_passes(&h, GRACE_S + 10);
	rep = collect(&h, 0, NULL);
	assert_true(rep.deleted_bytes > rep.live_bytes);
	verify(&h, 7, "here");
	verify_elsewhere(&h, "base", 7);
	harness_stop(&h);
	harness_fini(&h);
}

static char a_pack[STORE_KEY_MAX];

static int keep_key(const char *key, void *arg __unused)
{
	snprintf(a_pack, sizeof(a_pack), "%s", key);
	return 0;
}

static void scrub(struct harness *h, const char *volume, struct scrub_report *rep)
{
	struct scrub_params p = {.volume = volume};
	struct scrub_progress progress;
	struct fmt_err err;

	if (scrub_run(h->e, &p, NULL, 1, &progress, rep, &err))
		fail_msg("scrub: %s", err.msg);
}

/* One bit of a block, far from any header. */
static void flip(struct harness *h, const char *key)
{
	char path[700];
	FILE *f;
	int c;

	snprintf(path, sizeof(path), "%s/store/%s", h->dir, key);
	f = fopen(path, "r+");
	assert_non_null(f);
	assert_int_equal(fseek(f, 100, SEEK_SET), 0);
	c = fgetc(f);
	assert_int_equal(fseek(f, 100, SEEK_SET), 0);
	fputc(c ^ 1, f);
	fclose(f);
}

static void scrub_finds_what_is_corrupt_and_nothing_else(void **state)
{
	static struct scrub_report rep;
	struct fmt_err err = {""};
	struct snapshot s;
	struct harness h;
	char path[700];

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	fill(&h, 1);
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	scrub(&h, "base", &rep);
	assert_int_equal(rep.bad, 0);
	assert_int_equal(rep.packs, 1);
	assert_int_equal(rep.blocks, 1);
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.holders, 2);
	assert_int_equal(rep.packs, 1); /* each once */
	assert_int_equal(object_list(h.e, "chunks/", keep_key, NULL, &err), 0);
	copy_object(&h, a_pack, "saved");
	flip(&h, a_pack);
	snprintf(path, sizeof(path), "%s/store/%s", h.dir, a_pack);
	scrub(&h, "base", &rep);
	assert_int_equal(rep.bad, 1);
	assert_string_equal(rep.bad_list[0].key, a_pack);
	assert_int_equal(unlink(path), 0);
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.bad, 1);
	assert_string_equal(rep.bad_list[0].why, "missing");
	copy_object(&h, "saved", a_pack);
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.bad, 0);
	harness_stop(&h);
	harness_fini(&h);
}

/* What forks are made from is kept in memory: that it is whole there says nothing of the store. */
static void scrub_reads_the_store_and_not_what_is_kept_of_it(void **state)
{
	static struct scrub_report rep;
	char key[STORE_KEY_MAX];
	struct fmt_err err = {""};
	struct snapshot s;
	struct harness h;
	struct manifest *m;
	struct root root;

	begin(&h);
	harness_create(&h, "base", MiB, MiB);
	fill(&h, 1);
	assert_int_equal(volume_snapshot(h.v, "", 1, &s, &err), 0);
	assert_int_equal(root_load(h.e, "base", 1, &root, NULL, &err), 0);
	manifest_key(root.manifest.uuid, root.manifest.id, key, sizeof(key));
	copy_object(&h, key, "saved");
	damage(&h, key);
	assert_int_equal(root_manifest_load(h.e, &root, 1, &m, &err), 0); /* it is kept */
	manifest_put(m);
	scrub(&h, "base", &rep);
	assert_int_equal(rep.bad, 1);
	assert_string_equal(rep.bad_list[0].key, key);
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.bad, 1);
	copy_object(&h, "saved", key);
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.bad, 0);
	harness_stop(&h);
	harness_fini(&h);
}

static void scrub_verifies_images_that_nothing_was_forked_from(void **state)
{
	static struct scrub_report rep;
	const struct bless_options o = {.name = "debian", .op_id = 1};
	struct bless_result made;
	struct fmt_err err = {""};
	struct harness h;
	char path[200];
	int fd;

	begin(&h);
	snprintf(path, sizeof(path), "%s/image", h.dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	if (image_bless(h.e, &o, fd, &made, &err))
		fail_msg("image_bless: %s", err.msg);
	close(fd);
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.bad, 0);
	assert_int_equal(rep.holders, 1);
	assert_int_equal(rep.packs, 1);
	assert_int_equal(object_list(h.e, "chunks/", keep_key, NULL, &err), 0);
	flip(&h, a_pack);
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.bad, 1);
	assert_string_equal(rep.bad_list[0].key, a_pack);
	damage(&h, "bases/debian");
	scrub(&h, NULL, &rep);
	assert_int_equal(rep.bad, 1);
	assert_string_equal(rep.bad_list[0].key, "bases/debian");
	harness_stop(&h);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_nothing_names_goes_and_the_rest_stays),
		cmocka_unit_test(marked_and_named_again_is_spared),
		cmocka_unit_test(what_has_no_known_age_is_not_old),
		cmocka_unit_test(a_bad_transfer_does_not_cost_a_snapshot_its_grave),
		cmocka_unit_test(what_cannot_be_read_stops_it),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(an_upload_that_took_too_long_begins_anew),
		cmocka_unit_test(packs_that_are_mostly_dead_are_compacted),
		cmocka_unit_test(scrub_finds_what_is_corrupt_and_nothing_else),
		cmocka_unit_test(scrub_reads_the_store_and_not_what_is_kept_of_it),
		cmocka_unit_test(scrub_verifies_images_that_nothing_was_forked_from),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
