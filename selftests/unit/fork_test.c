// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Forks keep what they were made from: before their first upload and after it, on any host, over
 * restarts, and whatever becomes of the source, its packs and its snapshots. A block that was lost
 * would read as zeros, so every block has a value that is not.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/objects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define BLOCK        (64 * KiB)
#define BLOCKS       48
#define BLOCK_SECTOR (BLOCK / SECTOR_SIZE)
#define SECTORS      (BLOCKS * BLOCK_SECTOR)

/* What each sector of a volume must read as, 0: zeros. */
struct expected {
	uint64_t sector[2 * SECTORS];
	unsigned int nr;
};

static void write_range(struct harness *h, struct expected *x, unsigned int first, unsigned int nr,
			uint64_t value)
{
	uint8_t *buf = malloc(nr * SECTOR_SIZE);

	assert_non_null(buf);
	for (unsigned int i = 0; i < nr; i++) {
		x->sector[first + i] = value + i;
		for (size_t k = 0; k < SECTOR_SIZE; k += 8)
			memcpy(buf + i * SECTOR_SIZE + k, &x->sector[first + i], 8);
	}
	for (unsigned int at = 0; at < nr; at += 256)
		assert_int_equal(harness_io(h, GFS_WRITE, first + at, MIN(256u, nr - at),
					    buf + at * SECTOR_SIZE),
				 0);
	free(buf);
}

static void fill_all(struct harness *h, struct expected *x, uint64_t value)
{
	x->nr = MAX(x->nr, (unsigned int)SECTORS);
	write_range(h, x, 0, SECTORS, value);
}

static void verify(struct harness *h, const struct expected *x, const char *when)
{
	uint8_t *buf = malloc(256 * SECTOR_SIZE);

	assert_non_null(buf);
	for (unsigned int at = 0; at < x->nr; at += 256) {
		unsigned int nr = MIN(256u, x->nr - at);

		memset(buf, 0xee, 256 * SECTOR_SIZE);
		assert_int_equal(harness_io(h, GFS_READ, at, nr, buf), 0);
		for (unsigned int i = 0; i < nr * SECTOR_SIZE / 8; i++) {
			uint64_t want = x->sector[at + i / 64], is;

			memcpy(&is, buf + (size_t)i * 8, 8);
			if (is != want)
				fail_msg("%s: sector %u is %llx, not %llx", when, at + i / 64,
					 (unsigned long long)is, (unsigned long long)want);
		}
	}
	free(buf);
}

static void take(struct harness *h, struct snapshot *s)
{
	struct fmt_err err = {""};

	harness_drain(h);
	if (volume_snapshot(h->v, "", 1, s, &err))
		fail_msg("snapshot: %s", err.msg);
}

/* One PUT of the root is the fork; it is opened as any volume of the store. */
static void fork_of(struct harness *h, const char *name, const struct snapshot *s, uint64_t size)
{
	struct volume_def def = {.name = name, .size_bytes = size, .from = s};
	char etag[STORE_ETAG_MAX];
	struct fmt_err err = {""};
	struct root root;

	assert_int_equal(root_prepare(h->e, &def, &root), 0);
	if (root_create(h->e, &root, 0, 1, etag, &err))
		fail_msg("root_create: %s", err.msg);
	harness_open(h, name, CLAIM_OWN, false, NULL);
}

static void other_host(struct harness *h, const struct harness *of, unsigned int nr)
{
	static char id[64][32];
	char name[24];

	snprintf(name, sizeof(name), "host-%u", nr);
	snprintf(id[nr], sizeof(id[nr]), "%s/test", name);
	harness_host(h, of, name);
	h->cfg.host_id = id[nr];
	harness_start(h);
}

/* An empty cache and no local state: what the store alone gives. */
static void verify_elsewhere(const struct harness *of, const char *name, const struct expected *x,
			     unsigned int nr, const char *when)
{
	struct harness h;

	other_host(&h, of, nr);
	harness_open(&h, name, CLAIM_TAKEOVER, false, NULL);
	verify(&h, x, when);
	harness_stop(&h);
}

static void source_with_data(struct harness *h, struct expected *x, struct snapshot *s)
{
	harness_init(h);
	h->cfg.upload_age_min_ns = h->cfg.upload_age_ns; /* of other hosts too: no upload by age */
	harness_start(h);
	memset(x, 0, sizeof(*x));
	harness_create(h, "base", BLOCKS * BLOCK, BLOCK);
	fill_all(h, x, 0x1000000);
	take(h, s);
}

static void a_fork_survives_restart_and_other_hosts_before_its_first_upload(void **state)
{
	static struct expected x;
	struct harness h, f, g;
	struct volume_info info;
	struct fmt_err err = {""};
	struct snapshot s;

	source_with_data(&h, &x, &s);
	other_host(&f, &h, 2);
	fork_of(&f, "fork", &s, 0);
	verify(&f, &x, "new");
	volume_info_read(f.v, &info);
	assert_int_equal(info.root.sequence, 0);
	assert_string_equal(info.root.manifest.id, s.manifest.id);
	for (int i = 0; i < 2; i++) {
		harness_stop(&f);
		harness_start(&f);
		/* What was written before a restart is uploaded soon after it. */
		harness_fault(&f, "put:chunks/* error=EIO");
		harness_open(&f, "fork", CLAIM_OWN, true, NULL);
		verify(&f, &x, "restarted");
		/* A part of a block, in the middle: the rest of it is the source's. */
		write_range(&f, &x, (5 + (unsigned int)i) * BLOCK_SECTOR + 7, 3, 0x2000000);
		verify(&f, &x, "written to");
	}
	volume_info_read(f.v, &info);
	assert_int_equal(info.root.sequence, 0);
	harness_stop(&f);
	harness_start(&f);
	harness_fault(&f, "put:chunks/* error=EIO");
	harness_open(&f, "fork", CLAIM_OWN, true, NULL);
	verify(&f, &x, "restarted with writes");
	volume_info_read(f.v, &info);
	assert_int_equal(info.root.sequence, 0);
	harness_fault(&f, "");
	/* The first upload merges with the source's blocks. */
	harness_drain(&f);
	verify(&f, &x, "uploaded");
	harness_stop(&f);
	verify_elsewhere(&h, "fork", &x, 3, "uploaded, on another host");

	/* Handed over without ever having written anything: released, and seized. */
	other_host(&g, &h, 4);
	fork_of(&g, "idle", &s, 0);
	volume_lanes_remove(g.v);
	assert_int_equal(volume_release(g.v, 1, &err), 0);
	volume_close(g.v);
	free(g.lane);
	g.lane = NULL;
	g.v = NULL;
	harness_stop(&g);
	memset(&x, 0, sizeof(x));
	x.nr = SECTORS;
	for (unsigned int i = 0; i < SECTORS; i++)
		x.sector[i] = 0x1000000 + i;
	other_host(&g, &h, 5);
	harness_open(&g, "idle", CLAIM_OWN, false, NULL);
	verify(&g, &x, "handed over");
	harness_stop(&g);
	verify_elsewhere(&h, "idle", &x, 6, "seized");
	harness_stop(&h);
	harness_fini(&h);
}

struct keys {
	char (*key)[STORE_KEY_MAX];
	size_t nr;
};

static int keys_add(const char *key, void *arg)
{
	struct keys *k = arg;

	k->key = realloc(k->key, (k->nr + 1) * sizeof(*k->key));
	assert_non_null(k->key);
	snprintf(k->key[k->nr++], STORE_KEY_MAX, "%s", key);
	return 0;
}

static struct keys keys_of(struct harness *h, const char *prefix)
{
	struct fmt_err err = {""};
	struct keys k = {NULL, 0};

	assert_int_equal(object_list(h->e, prefix, keys_add, &k, &err), 0);
	return k;
}

/* Both are in order. */
static void assert_kept(struct keys *before, struct keys *now)
{
	size_t n = 0;

	for (size_t i = 0; i < before->nr; i++) {
		while (n < now->nr && strcmp(now->key[n], before->key[i]) < 0)
			n++;
		if (n == now->nr || strcmp(now->key[n], before->key[i]))
			fail_msg("%s was deleted", before->key[i]);
	}
	free(before->key);
	free(now->key);
}

/*
 * Attacks the rule that nothing but a garbage collector deletes packs or manifests: everything that
 * makes them useless to the source happens to it.
 */
static void a_fork_outlives_all_that_happens_to_its_source(void **state)
{
	static struct expected x, y, z;
	struct harness h, f;
	struct fmt_err err = {""};
	struct keys packs, manifests, now;
	struct snapshot s;

	source_with_data(&h, &x, &s);
	y = x;
	z = x;
	other_host(&f, &h, 2);
	fork_of(&f, "fork", &s, 0);
	write_range(&f, &y, 9, 20, 0x3000000);
	harness_drain(&f);
	harness_stop(&f);
	other_host(&f, &h, 3);
	fork_of(&f, "idle", &s, 0);
	harness_stop(&f);
	packs = keys_of(&h, "chunks/");
	manifests = keys_of(&h, "manifests/");
	/* Superseded as a whole, piled up in small packs and merged, and made zeros. */
	fill_all(&h, &x, 0x4000000);
	harness_drain(&h);
	for (unsigned int i = 0; i < 20; i++) {
		write_range(&h, &x, i * BLOCK_SECTOR, 1, 0x5000000 + i);
		harness_drain(&h);
	}
	assert_int_equal(harness_io(&h, GFS_WRITE_ZEROES, 0, SECTORS, NULL), 0);
	harness_drain(&h);
	verify_elsewhere(&h, "idle", &z, 4, "source overwritten");
	verify_elsewhere(&h, "fork", &y, 5, "source overwritten");
	/* No snapshot, no source. */
	assert_int_equal(snapshot_delete(h.e, "base", s.seq, 1, &err), 0);
	volume_lanes_remove(h.v);
	assert_int_equal(volume_destroy(h.v, 1, &err), 0);
	volume_close(h.v);
	free(h.lane);
	h.lane = NULL;
	h.v = NULL;
	verify_elsewhere(&h, "idle", &z, 6, "source deleted");
	verify_elsewhere(&h, "fork", &y, 7, "source deleted");
	now = keys_of(&h, "chunks/");
	assert_kept(&packs, &now);
	now = keys_of(&h, "manifests/");
	assert_kept(&manifests, &now);
	/* A new volume of the same name has nothing of the old one, and takes nothing. */
	harness_create(&h, "base", BLOCKS * BLOCK, BLOCK);
	memset(&x, 0, sizeof(x));
	x.nr = SECTORS;
	verify(&h, &x, "new volume of the same name");
	/* Nor does one fork harm the other. */
	other_host(&f, &h, 8);
	harness_open(&f, "fork", CLAIM_TAKEOVER, false, NULL);
	fill_all(&f, &y, 0x6000000);
	harness_drain(&f);
	volume_lanes_remove(f.v);
	assert_int_equal(volume_destroy(f.v, 1, &err), 0);
	volume_close(f.v);
	free(f.lane);
	f.lane = NULL;
	f.v = NULL;
	harness_stop(&f);
	verify_elsewhere(&h, "idle", &z, 9, "other fork deleted");
	harness_stop(&h);
	harness_fini(&h);
}

static void a_chain_of_forks_reads_at_the_cost_of_one(void **state)
{
	enum { DEPTH = 32 };
	static struct expected x;
	struct harness h, f;
	struct snapshot s;
	char name[24];

	source_with_data(&h, &x, &s);
	for (unsigned int i = 0; i < DEPTH; i++) {
		/* Some levels write nothing: their snapshot names a manifest of a level below. */
		harness_close(&h);
		snprintf(name, sizeof(name), "level-%u", i);
		fork_of(&h, name, &s, 0);
		if (i % 3)
			write_range(&h, &x, i * BLOCK_SECTOR + i, 2, 0x7000000 + i * 16);
		take(&h, &s);
	}
	verify(&h, &x, "where it was made");
	harness_close(&h);
	other_host(&f, &h, 2);
	/* One manifest, whatever the depth. */
	harness_fault(&f, "get:manifests/* error=EIO skip=1;get:exports/* error=EIO skip=1");
	harness_open(&f, name, CLAIM_TAKEOVER, false, NULL);
	harness_fault(&f, "get:manifests/* error=EIO");
	verify(&f, &x, "elsewhere");
	harness_stop(&f);
	harness_stop(&h);
	harness_fini(&h);
}

static void a_fork_may_be_larger_than_its_source(void **state)
{
	const uint64_t odd = 5 * BLOCK + 3 * SECTOR_SIZE + 20 * BLOCK;
	static struct expected x;
	struct volume_def def = {.name = "fork"};
	struct harness h, f;
	struct snapshot s;
	struct root root;

	harness_init(&h);
	harness_start(&h);
	memset(&x, 0, sizeof(x));
	harness_create(&h, "base", odd, BLOCK); /* ends within a block */
	write_range(&h, &x, 0, odd / SECTOR_SIZE, 0x8000000);
	take(&h, &s);
	def.from = &s;
	def.size_bytes = odd - SECTOR_SIZE;
	assert_int_equal(root_prepare(h.e, &def, &root), -EINVAL);
	def.size_bytes = 0;
	def.block_bytes = 2 * BLOCK;
	assert_int_equal(root_prepare(h.e, &def, &root), -EINVAL);
	other_host(&f, &h, 2);
	fork_of(&f, "fork", &s, CHUNK_BYTES + 2 * BLOCK);
	assert_true(volume_size_bytes(f.v) == CHUNK_BYTES + 2 * BLOCK);
	x.nr = 2 * SECTORS;
	verify(&f, &x, "new");
	write_range(&f, &x, odd / SECTOR_SIZE + 2, 1, 0x9000000); /* the block that both share */
	write_range(&f, &x, 2 * SECTORS - 9, 9, 0xa000000);
	verify(&f, &x, "written to");
	harness_drain(&f);
	harness_stop(&f);
	verify_elsewhere(&h, "fork", &x, 3, "uploaded");
	harness_stop(&h);
	harness_fini(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fork_survives_restart_and_other_hosts_before_its_first_upload),
		cmocka_unit_test(a_fork_outlives_all_that_happens_to_its_source),
		cmocka_unit_test(a_chain_of_forks_reads_at_the_cost_of_one),
		cmocka_unit_test(a_fork_may_be_larger_than_its_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
