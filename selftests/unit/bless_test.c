// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Blessed images read as the image did, are the same objects whenever and however the same image is
 * read, cost nothing twice, and exist whole or not at all, wherever the blessing is cut short.
 */
#include "selftests/unit/engine_harness.h"
#include "engine/gc.h"
#include "engine/image.h"
#include "engine/objects.h"
#include "lib/fsutil.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#define BLOCK (64 * KiB)

/* ---- images ---- */

/* A piece of an image: bytes that compress, that do not, or zeros that are written. */
struct piece {
	uint64_t off, len;
	enum { TEXT, NOISE, ZEROS } kind;
};

static const struct piece pieces[] = {
	{0, 3 * BLOCK, TEXT},
	{3 * BLOCK + 100, 1, TEXT}, /* one byte of a block */
	{5 * BLOCK - 512, 1024, NOISE},
	{9 * BLOCK, 4 * BLOCK, ZEROS},
	{40 * BLOCK, 180 * BLOCK, NOISE},       /* more than is in work at once */
	{CHUNK_BYTES - BLOCK / 2, BLOCK, TEXT}, /* over the end of a chunk */
	{3 * CHUNK_BYTES + 7 * BLOCK, 17 * BLOCK + 4097, TEXT},
};

static void fill(uint8_t *p, const struct piece *pc, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ull | 1;

	for (uint64_t i = 0; i < pc->len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(pc->kind == ZEROS  ? 0
				 : pc->kind == TEXT ? 'a' + (i / 7 + seed) % 20
						    : x >> 24);
	}
}

static int image_fd(struct harness *h, const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", h->dir, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return fd;
}

/* A sparse file of `size` bytes with those pieces that lie within it. */
static int image_make(struct harness *h, const char *name, uint64_t size, uint64_t seed)
{
	int fd = image_fd(h, name, O_RDWR | O_CREAT | O_TRUNC);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct piece pc = pieces[i];
		uint8_t *p = malloc(pc.len);

		assert_non_null(p);
		fill(p, &pc, seed + i);
		if (pc.off < size)
			assert_int_equal(pwrite_full(fd, p, MIN(pc.len, size - pc.off), pc.off), 0);
		free(p);
	}
	return fd;
}

static off_t data_at(int fd, off_t off, off_t end)
{
	off_t data = lseek(fd, off, SEEK_DATA);

	return data < 0 ? end : data;
}

/* Do both read alike? b may be longer: zeros then. */
static void assert_same(int a, int b, const char *when)
{
	off_t size_a = lseek(a, 0, SEEK_END), size_b = lseek(b, 0, SEEK_END);
	uint8_t *pa = malloc(MiB), *pb = malloc(MiB);

	assert_true(size_a <= size_b);
	for (off_t off = 0; off < size_b; off += (off_t)MiB) {
		off_t first = MIN(data_at(a, off, size_b), data_at(b, off, size_b));
		size_t nb;
		off_t na;

		off = ROUND_DOWN(first, (off_t)MiB);
		nb = (size_t)MIN((off_t)MiB, size_b - off);
		na = size_a > off ? MIN((off_t)nb, size_a - off) : 0;
		memset(pa, 0, MiB);
		assert_int_equal(pread_full(a, pa, (size_t)na, (uint64_t)off), 0);
		assert_int_equal(pread_full(b, pb, nb, (uint64_t)off), 0);
		for (size_t i = 0; memcmp(pa, pb, nb) && i < nb; i++)
			if (pa[i] != pb[i])
				fail_msg("%s: byte %llu is %02x, not %02x", when,
					 (unsigned long long)off + i, pb[i], pa[i]);
	}
	free(pa);
	free(pb);
}

static int try_bless(struct harness *h, const char *name, int fd, struct bless_result *res,
		     struct fmt_err *err)
{
	const struct bless_options o = {.name = name, .op_id = 1};

	return image_bless(h->e, &o, fd, res, err);
}

static struct bless_result bless(struct harness *h, const char *name, int fd)
{
	struct bless_result res;
	struct fmt_err err = {""};

	if (try_bless(h, name, fd, &res, &err))
		fail_msg("bless %s: %s", name, err.msg);
	return res;
}

static int export(struct harness *h, const char *name, int fd, bool sparse, struct fmt_err *err)
{
	struct root root = {.size_bytes = 0};
	struct manifest *m;
	struct base b;
	int r = base_load(h->e, name, 1, &b, err);

	if (r)
		return r;
	snprintf(root.name, sizeof(root.name), "%s", name);
	root.block_bytes = b.block_bytes;
	root.manifest = b.manifest;
	r = root_manifest_load(h->e, &root, 1, &m, err);
	if (!r)
		r = image_export(h->e, m, b.size_bytes, fd, sparse, NULL, NULL, 1, err);
	manifest_put(m);
	return r;
}

static void assert_reads_as(struct harness *h, const char *name, int fd, const char *when)
{
	int out = image_fd(h, "out", O_RDWR | O_CREAT | O_TRUNC);
	struct fmt_err err = {""};

	if (export(h, name, out, true, &err))
		fail_msg("%s: export of %s: %s", when, name, err.msg);
	assert_same(fd, out, when);
	close(out);
}

/* ---- objects ---- */

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

static void assert_keys(struct harness *h, const char *prefix, const struct keys *want)
{
	struct keys now = keys_of(h, prefix);

	assert_int_equal(now.nr, want->nr);
	for (size_t i = 0; i < now.nr; i++)
		assert_string_equal(now.key[i], want->key[i]);
	free(now.key);
}

static void start(struct harness *h)
{
	harness_init(h);
	harness_start(h);
}

static void stop(struct harness *h)
{
	harness_stop(h);
	harness_fini(h);
}

/* ---- tests ---- */

static const uint64_t sizes[] = {
	4 * CHUNK_BYTES, 3 * CHUNK_BYTES + 8 * BLOCK + 1,
	CHUNK_BYTES + 1, CHUNK_BYTES,
	MiB + 511,       MiB,
	100 * KiB + 3,   1,
};

static void an_image_of_any_size_reads_as_it_was(void **state)
{
	struct harness h;

	start(&h);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		int fd = image_make(&h, "image", sizes[i], i);
		struct bless_result res;
		char name[32];

		snprintf(name, sizeof(name), "size-%zu", i);
		res = bless(&h, name, fd);
		assert_false(res.there);
		assert_true(res.base.size_bytes ==
			    MAX(ROUND_UP(sizes[i], (uint64_t)SECTOR_SIZE), VOLUME_BYTES_MIN));
		assert_true(res.progress.done_bytes == sizes[i]);
		assert_reads_as(&h, name, fd, name);
		close(fd);
	}
	stop(&h);
}

static void blocks_of_any_size_read_as_they_were(void **state)
{
	struct harness h;
	int fd;

	start(&h);
	fd = image_make(&h, "image", CHUNK_BYTES + 5 * BLOCK + 77, 1);
	for (uint32_t block = 4096; block <= MiB; block *= 4) {
		struct bless_options o = {.block_bytes = block, .op_id = 1};
		struct fmt_err err = {""};
		struct bless_result res;
		char name[32];

		snprintf(name, sizeof(name), "blocks-%u", block);
		o.name = name;
		if (image_bless(h.e, &o, fd, &res, &err))
			fail_msg("%s: %s", name, err.msg);
		assert_int_equal(res.base.block_bytes, block);
		assert_reads_as(&h, name, fd, name);
		o.block_bytes = block == 4096 ? 8192 : 4096;
		assert_int_equal(image_bless(h.e, &o, fd, &res, &err), -EEXIST);
		o.block_bytes = 5000;
		assert_int_equal(image_bless(h.e, &o, fd, &res, &err), -EINVAL);
	}
	close(fd);
	stop(&h);
}

/* The same bytes, with every hole written out. */
static int image_dense(struct harness *h, int from)
{
	uint64_t size = (uint64_t)lseek(from, 0, SEEK_END);
	int fd = image_fd(h, "dense", O_RDWR | O_CREAT | O_TRUNC);
	uint8_t *p = malloc(MiB);

	for (uint64_t off = 0; off < size; off += MiB) {
		size_t n = (size_t)MIN(MiB, size - off);

		assert_int_equal(pread_full(from, p, n, off), 0);
		assert_int_equal(pwrite_full(fd, p, n, off), 0);
	}
	free(p);
	return fd;
}

struct feeder {
	int from, to;
};

/* Odd pieces, so that no read gets what it asks for. */
static void *feed(void *arg)
{
	const struct feeder *f = arg;
	uint64_t size = (uint64_t)lseek(f->from, 0, SEEK_END);
	uint8_t *p = malloc(70001);

	for (uint64_t off = 0; off < size;) {
		size_t n = (size_t)MIN((uint64_t)70001, size - off);
		ssize_t done;

		assert_int_equal(pread_full(f->from, p, n, off), 0);
		done = write(f->to, p, n);
		assert_true(done > 0);
		off += (uint64_t)done;
	}
	free(p);
	close(f->to);
	return NULL;
}

static struct bless_result bless_pipe(struct harness *h, const char *name, int from)
{
	struct bless_result res;
	struct feeder f = {.from = from};
	int fds[2];
	pthread_t t;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f.to = fds[1];
	assert_int_equal(pthread_create(&t, NULL, feed, &f), 0);
	res = bless(h, name, fds[0]);
	pthread_join(t, NULL);
	close(fds[0]);
	return res;
}

static void one_image_is_one_set_of_objects_however_it_is_read(void **state)
{
	const uint64_t size = CHUNK_BYTES + 200 * BLOCK + 9;
	struct bless_result first, res;
	struct keys packs, manifests;
	struct harness h, other;
	int fd, dense;

	start(&h);
	fd = image_make(&h, "image", size, 3);
	dense = image_dense(&h, fd);
	first = bless(&h, "sparse", fd);
	packs = keys_of(&h, "chunks/");
	manifests = keys_of(&h, "manifests/");
	assert_true(packs.nr >= 2);
	assert_int_equal(manifests.nr, 1);
	/* In another store, by another process's luck, of the dense file. */
	harness_init(&other);
	other.cfg.workers = 1;
	harness_start(&other);
	res = bless(&other, "dense", dense);
	assert_keys(&other, "chunks/", &packs);
	assert_keys(&other, "manifests/", &manifests);
	assert_memory_equal(res.base.content_sha256, first.base.content_sha256, SHA256_LEN);
	assert_memory_equal(res.base.manifest.sha256, first.base.manifest.sha256, SHA256_LEN);
	stop(&other);
	/* Here, by other names: nothing but the base is written. */
	harness_fault(&h, "put:chunks/* error=EIO;put:manifests/* error=EIO");
	res = bless(&h, "dense", dense);
	assert_true(!res.there && !res.progress.sent_bytes);
	assert_int_equal(res.progress.packs_there, packs.nr);
	res = bless_pipe(&h, "piped", fd);
	assert_true(!res.there && !res.progress.sent_bytes);
	/* By the same name: nothing at all. */
	harness_fault(&h, "put error=EIO");
	res = bless(&h, "sparse", dense);
	assert_true(res.there && !res.progress.sent_bytes);
	assert_memory_equal(&res.base, &first.base, sizeof(res.base));
	res = bless_pipe(&h, "sparse", dense);
	assert_true(res.there);
	harness_fault(&h, "");
	assert_reads_as(&h, "piped", fd, "piped");
	free(packs.key);
	free(manifests.key);
	close(fd);
	close(dense);
	stop(&h);
}

static void a_name_that_is_taken_is_refused_before_anything_is_uploaded(void **state)
{
	struct bless_result res;
	struct fmt_err err = {""};
	struct keys all;
	struct harness h;
	int fd, other;

	start(&h);
	fd = image_make(&h, "image", 2 * MiB, 1);
	other = image_make(&h, "other", 2 * MiB, 2);
	bless(&h, "debian", fd);
	all = keys_of(&h, "");
	assert_int_equal(try_bless(&h, "debian", other, &res, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "debian"));
	assert_keys(&h, "", &all);
	/* Longer, by zeros only, is another image too. */
	assert_int_equal(ftruncate(fd, 2 * MiB + 512), 0);
	assert_int_equal(try_bless(&h, "debian", fd, &res, &err), -EEXIST);
	assert_int_equal(ftruncate(fd, 2 * MiB), 0);
	assert_int_equal(try_bless(&h, "a/b", fd, &res, &err), -EINVAL);
	/* Gone, and free again; to delete it twice is no error. */
	assert_int_equal(base_delete(h.e, "debian", 1, &err), 0);
	assert_int_equal(base_delete(h.e, "debian", 1, &err), 0);
	assert_int_equal(try_bless(&h, "debian", other, &res, &err), 0);
	assert_reads_as(&h, "debian", other, "another");
	free(all.key);
	close(fd);
	close(other);
	stop(&h);
}

/* Two blessings that both found the name free. */
static void of_two_that_seal_one_name_the_first_wins(void **state)
{
	struct fmt_err err = {""};
	struct base a, b;
	struct harness h;
	uint64_t window;
	bool there;
	int fd;

	start(&h);
	window = gc_window_end(h.e);
	fd = image_make(&h, "image", 2 * MiB, 1);
	a = b = bless(&h, "debian", fd).base;
	assert_int_equal(base_delete(h.e, "debian", 1, &err), 0);
	assert_int_equal(base_seal(h.e, &a, window, &there, 1, &err), 0);
	assert_false(there);
	b.created_s += 1000;
	assert_int_equal(base_seal(h.e, &b, window, &there, 1, &err), 0);
	assert_true(there && b.created_s == a.created_s);
	b.content_sha256[0] ^= 1;
	assert_int_equal(base_seal(h.e, &b, window, &there, 1, &err), -EEXIST);
	assert_int_equal(base_load(h.e, "debian", 1, &b, &err), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	close(fd);
	stop(&h);
}

/* gc.rst, R1: neither the first attempt nor one that repeats it. */
static void no_base_is_sent_after_its_window(void **state)
{
	struct fmt_err err = {""};
	struct harness h;
	struct base a;
	uint64_t began;
	bool there;
	int fd;

	harness_init(&h);
	h.cfg.store_timeout_ns = 10 * NSEC_PER_SEC;
	harness_start(&h);
	fd = image_make(&h, "image", 2 * MiB, 1);
	a = bless(&h, "debian", fd).base;
	snprintf(a.name, sizeof(a.name), "late");
	assert_int_equal(base_seal(h.e, &a, now_ns(), &there, 1, &err), -ETIME);
	began = now_ns();
	harness_fault(&h, "put:bases/late ambiguous=before");
	assert_int_equal(base_seal(h.e, &a, now_ns() + NSEC_PER_SEC / 2, &there, 1, &err),
			 -ETIMEDOUT);
	assert_true(now_ns() - began < h.cfg.store_timeout_ns / 2);
	harness_fault(&h, "");
	assert_int_equal(base_load(h.e, "late", 1, &a, &err), -ENOENT);
	close(fd);
	stop(&h);
}

static struct manifest_ref grave_ref;

static int grave_use(const struct store_op *op, void *arg)
{
	return holder_parse(op->buf, op->size_out, &grave_ref, arg);
}

/* gc.rst, R4. */
static void an_image_is_deleted_after_its_grave_or_not_at_all(void **state)
{
	struct fmt_err err = {""};
	struct base was, is;
	struct harness h;
	struct keys k;
	int fd;

	harness_init(&h);
	h.cfg.store_timeout_ns = NSEC_PER_SEC / 2;
	harness_start(&h);
	fd = image_make(&h, "image", 2 * MiB, 1);
	was = bless(&h, "debian", fd).base;
	harness_fault(&h, "put:gc/graves/* error=EIO");
	assert_int_equal(base_delete(h.e, "debian", 1, &err), -EIO);
	harness_fault(&h, "put:gc/graves/* ambiguous=before");
	assert_int_equal(base_delete(h.e, "debian", 1, &err), -ETIMEDOUT);
	harness_fault(&h, "");
	assert_int_equal(base_load(h.e, "debian", 1, &is, &err), 0);
	assert_memory_equal(&was, &is, sizeof(was));
	k = keys_of(&h, "gc/graves/");
	assert_int_equal(k.nr, 0);
	free(k.key);
	assert_int_equal(base_delete(h.e, "debian", 1, &err), 0);
	assert_int_equal(base_load(h.e, "debian", 1, &is, &err), -ENOENT);
	k = keys_of(&h, "gc/graves/");
	assert_int_equal(k.nr, 1);
	assert_int_equal(object_get(h.e, k.key[0], NULL, now_ns() + NSEC_PER_SEC, 1, NULL,
				    grave_use, &err, &err),
			 0);
	assert_memory_equal(&grave_ref, &was.manifest, sizeof(grave_ref));
	free(k.key);
	close(fd);
	stop(&h);
}

static bool marker_gone(void *arg)
{
	struct keys k = keys_of(arg, "gc/marker");

	free(k.key);
	return !k.nr;
}

/* The name is used again: a DELETE that comes late is of the image that was there. */
static void a_late_delete_spares_what_was_blessed_since(void **state)
{
	struct object_write marker = {
		.key = "gc/marker", .data = "m", .len = 1, .prio = STORE_PRIO_META};
	struct fmt_err err = {""};
	struct harness h;
	struct base was, is;
	int fd, other;

	start(&h);
	fd = image_make(&h, "image", 2 * MiB, 1);
	other = image_make(&h, "other", 2 * MiB, 2);
	bless(&h, "debian", fd);
	assert_int_equal(object_put(h.e, &marker, 1, &err), 0);
	harness_fault(&h, "delete:bases/* ambiguous=late:1000 count=1;"
			  "delete:gc/marker ambiguous=late:1000");
	assert_int_equal(base_delete(h.e, "debian", 1, &err), 0);
	was = bless(&h, "debian", other).base;
	/* Of two that are late by the same time the first comes first. */
	assert_int_equal(
		object_delete(h.e, "gc/marker", NULL, NULL, now_ns() + NSEC_PER_MSEC, 1, &err),
		-ETIMEDOUT);
	harness_until(marker_gone, &h, "the late DELETE");
	assert_int_equal(base_load(h.e, "debian", 1, &is, &err), 0);
	assert_memory_equal(&was, &is, sizeof(was));
	close(fd);
	close(other);
	stop(&h);
}

static void zeros_cost_nothing(void **state)
{
	struct bless_result res;
	struct keys k;
	struct harness h;
	int fd;

	start(&h);
	fd = image_make(&h, "image", 0, 1);
	assert_int_equal(ftruncate(fd, (off_t)(2 * TiB)), 0);
	res = bless(&h, "zeros", fd);
	assert_int_equal(res.progress.packs, 0);
	assert_true(res.progress.done_bytes == 2 * TiB);
	k = keys_of(&h, "");
	assert_int_equal(k.nr, 1);
	assert_string_equal(k.key[0], "bases/zeros");
	free(k.key);
	/* One block in the middle: one pack, found by its place. */
	assert_int_equal(pwrite_full(fd, "x", 1, TiB), 0);
	res = bless(&h, "one", fd);
	assert_int_equal(res.progress.packs, 1);
	assert_true(res.progress.data_bytes == BLOCK);
	close(fd);
	stop(&h);
}

/* ---- failures ---- */

static int shorten(void *arg, const struct image_progress *p)
{
	return ftruncate(*(int *)arg, 4096);
}

static int give_up(void *arg, const struct image_progress *p)
{
	return p->done_bytes >= *(uint64_t *)arg;
}

static void a_source_that_cannot_be_read_makes_no_image(void **state)
{
	struct bless_options o = {.name = "bad", .op_id = 1};
	uint64_t half = 5 * MiB;
	struct bless_result res;
	struct fmt_err err = {""};
	struct harness h;
	struct keys k;
	char path[128];
	int fd, bad;

	start(&h);
	fd = image_make(&h, "image", 64 * MiB, 5);
	snprintf(path, sizeof(path), "%s/image", h.dir);
	bad = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(image_bless(h.e, &o, bad, &res, &err), -EBADF);
	assert_non_null(strstr(err.msg, "reading the image at 0"));
	close(bad);
	bad = open(h.dir, O_RDONLY | O_CLOEXEC);
	assert_int_equal(image_bless(h.e, &o, bad, &res, &err), -EINVAL);
	close(bad);
	bad = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(image_bless(h.e, &o, bad, &res, &err), -EINVAL);
	close(bad);
	o.progress = give_up;
	o.arg = &half;
	assert_int_equal(image_bless(h.e, &o, fd, &res, &err), -ECANCELED);
	/* Dense, so that no hole is passed over where the file was. */
	bad = image_dense(&h, fd);
	o.progress = shorten;
	o.arg = &bad;
	assert_int_equal(image_bless(h.e, &o, bad, &res, &err), -ENODATA);
	assert_non_null(strstr(err.msg, "shorter"));
	close(bad);
	k = keys_of(&h, "bases/");
	assert_int_equal(k.nr, 0);
	free(k.key);
	close(fd);
	stop(&h);
}

static void every_store_failure_is_an_image_or_none(void **state)
{
	static const struct {
		const char *rules;
		bool passes;
	} t[] = {
		{"put error=EIO count=3", true},
		{"head:chunks/* error=EIO", true},
		{"head:gc/* error=EIO count=2", true},
		{"put ambiguous=after count=4", true},
		{"put ambiguous=before count=4", true},
		{"put:chunks/* ambiguous=late:50 count=2", true},
		{"get error=EIO count=2", true},
		{"put:bases/* ambiguous=after count=1", true},
		{"put:chunks/* error=EIO skip=1", false},
		{"put:chunks/* error=EACCES skip=2", false},
		{"put:manifests/* error=EIO", false},
		{"put:bases/* error=ENOSPC", false},
		{"get:bases/* error=EIO", false},
	};
	struct harness h;
	int fd;

	harness_init(&h);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct bless_result res;
		struct fmt_err err = {""};
		struct keys k;
		char name[32];
		int r;

		fd = image_make(&h, "image", 4 * CHUNK_BYTES, 100 + i);
		snprintf(name, sizeof(name), "image-%zu", i);
		h.cfg.store_timeout_ns = (t[i].passes ? 20000 : 200) * NSEC_PER_MSEC;
		harness_start(&h);
		harness_fault(&h, t[i].rules);
		r = try_bless(&h, name, fd, &res, &err);
		harness_stop(&h);
		h.cfg.store_timeout_ns = 20 * NSEC_PER_SEC;
		harness_start(&h);
		if (!r != t[i].passes)
			fail_msg("%s: %d %s", t[i].rules, r, err.msg);
		if (r) {
			assert_true(err.msg[0] != '\0');
			k = keys_of(&h, "bases/");
			for (size_t j = 0; j < k.nr; j++)
				if (strstr(k.key[j], name))
					fail_msg("%s: there is a base", t[i].rules);
			free(k.key);
			bless(&h, name, fd);
		}
		assert_reads_as(&h, name, fd, t[i].rules);
		close(fd);
		harness_stop(&h);
	}
	harness_fini(&h);
}

/* A store that kills the process at its n-th operation. */
struct deadly {
	struct store s;
	unsigned int left; /* atomic */
};

static void deadly_submit(struct store *s, struct store_op *op)
{
	struct deadly *d = container_of(s, struct deadly, s);

	if (!__atomic_sub_fetch(&d->left, 1, __ATOMIC_RELAXED))
		kill(getpid(), SIGKILL);
	s->below->ops->submit(s->below, op);
}

static void deadly_close(struct store *s)
{
	store_close(s->below);
}

/* Child: exit status 0 once it was blessed before the n-th operation. */
static void __attribute__((noreturn)) bless_until(struct harness *h, unsigned int n, int fd)
{
	static const struct store_ops ops = {
		.name = "deadly", .submit = deadly_submit, .close = deadly_close};
	struct engine_config cfg = h->cfg;
	struct deadly d = {.s = {.ops = &ops}, .left = n};
	const struct bless_options o = {.name = "image", .op_id = 1};
	struct bless_result res;
	struct fmt_err err = {""};
	struct engine *e;
	char url[128];

	snprintf(url, sizeof(url), "file://%s/store", h->dir);
	d.s.url = url;
	cfg.cache_dir = NULL; /* as the command has it */
	cfg.host_id = "";
	if (store_open(url, NULL, &d.s.below, err.msg, sizeof(err.msg)) ||
	    engine_create(&cfg, &d.s, &e) || image_bless(e, &o, fd, &res, &err)) {
		fprintf(stderr, "%s\n", err.msg);
		_exit(1);
	}
	engine_destroy(e);
	deadly_close(&d.s);
	_exit(0);
}

static void a_blessing_killed_at_any_operation_goes_on_with_what_is_missing(void **state)
{
	struct fmt_err err = {""};
	struct harness h;
	unsigned int n = 0;
	int status, fd;

	harness_needs_store_dir();
	harness_init(&h);
	fd = image_make(&h, "image", 4 * CHUNK_BYTES, 9);
	do {
		struct bless_result res;
		struct keys packs;
		size_t nr;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid)
			bless_until(&h, ++n, fd);
		n++;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status))
			fail_msg("operation %u: the blessing failed", n);
		harness_start(&h);
		packs = keys_of(&h, "chunks/");
		nr = packs.nr;
		free(packs.key);
		packs = keys_of(&h, "bases/");
		if (packs.nr) {
			/* Whole, as soon as there is one. */
			assert_reads_as(&h, "image", fd, "killed after its last step");
		} else {
			res = bless(&h, "copy", fd);
			assert_int_equal(res.progress.packs_there, nr);
			assert_reads_as(&h, "copy", fd, "resumed");
			assert_int_equal(base_delete(h.e, "copy", 1, &err), 0);
		}
		free(packs.key);
		harness_stop(&h);
		/* The next one begins with nothing, like the first. */
		if (WIFSIGNALED(status)) {
			char path[128];

			snprintf(path, sizeof(path), "%s/store", h.dir);
			harness_remove_all(path);
			assert_int_equal(mkdir(path, 0700), 0);
		}
	} while (WIFSIGNALED(status) && n < 1000);
	assert_true(WIFEXITED(status));
	assert_true(n >
		    8); /* a GET, HEAD and PUT of each of three packs at least, and two more PUTs */
	close(fd);
	harness_fini(&h);
}

/* gc.rst, "Names that follow from content". */
static void what_may_be_garbage_by_now_is_not_relied_on(void **state)
{
	struct bless_result res;
	struct fmt_err err = {""};
	struct harness h;
	int fd;

	start(&h);
	fd = image_make(&h, "image", 4 * CHUNK_BYTES, 11);
	res = bless(&h, "image", fd);
	assert_true(res.progress.packs > 1);
	assert_int_equal(base_delete(h.e, "image", 1, &err), 0);
	res = bless(&h, "image", fd);
	assert_int_equal(res.progress.packs_there, res.progress.packs);
	assert_int_equal(base_delete(h.e, "image", 1, &err), 0);
	harness_stop(&h);
	/* Another period, as its number is the time by the period's length. */
	h.cfg.gc_grace_ns -= 3600 * NSEC_PER_SEC;
	harness_start(&h);
	res = bless(&h, "image", fd);
	assert_int_equal(res.progress.packs_there, 0);
	assert_reads_as(&h, "image", fd, "in another period");
	close(fd);
	stop(&h);
}

/* ---- forks and exports ---- */

static void fork_of(struct harness *h, const char *name, const char *image, uint64_t size)
{
	struct volume_def def = {.name = name, .size_bytes = size};
	char etag[STORE_ETAG_MAX], ref[GFS_NAME_MAX + 8];
	struct fmt_err err = {""};
	struct snapshot s;
	struct root root;
	struct base b;

	if (base_load(h->e, image, 1, &b, &err))
		fail_msg("base_load: %s", err.msg);
	base_source(&b, &s);
	def.from = &s;
	assert_int_equal(root_prepare(h->e, &def, &root), 0);
	snprintf(ref, sizeof(ref), "image:%s", image);
	assert_string_equal(root.source, ref);
	if (root_create(h->e, &root, 0, 1, etag, &err))
		fail_msg("root_create: %s", err.msg);
	harness_open(h, name, CLAIM_OWN, false, NULL);
}

static void assert_volume_reads_as(struct harness *h, int fd, const char *when)
{
	uint64_t size = (uint64_t)lseek(fd, 0, SEEK_END);
	uint8_t *want = malloc(128 * KiB), *have = malloc(128 * KiB);

	for (uint64_t off = 0; off < size; off += 128 * KiB) {
		size_t n = (size_t)MIN(128 * KiB, size - off);

		memset(want, 0, 128 * KiB);
		assert_int_equal(pread_full(fd, want, n, off), 0);
		n = ROUND_UP(n, (size_t)SECTOR_SIZE);
		assert_int_equal(harness_io(h, GFS_READ, off / SECTOR_SIZE,
					    (uint32_t)(n / SECTOR_SIZE), have),
				 0);
		if (memcmp(want, have, n))
			fail_msg("%s: %zu bytes at %llu differ", when, n, (unsigned long long)off);
	}
	free(want);
	free(have);
}

static void forks_read_as_the_image_and_keep_what_they_write(void **state)
{
	struct harness h, other;
	struct fmt_err err = {""};
	uint8_t buf[4096];
	int fd;

	start(&h);
	fd = image_make(&h, "image", CHUNK_BYTES + 12 * BLOCK + 100, 7);
	bless(&h, "debian", fd);
	fork_of(&h, "vm-1", "debian", 0);
	assert_volume_reads_as(&h, fd, "new fork");
	/* A part of a block, where the image has data and where it has a hole. */
	for (uint64_t at = 2 * BLOCK + 512; at < 40 * BLOCK; at += 36 * BLOCK) {
		memset(buf, (int)(at >> 12), sizeof(buf));
		assert_int_equal(pwrite_full(fd, buf, sizeof(buf), at), 0);
		assert_int_equal(harness_io(&h, GFS_WRITE, at / SECTOR_SIZE, 8, buf), 0);
	}
	harness_drain(&h);
	assert_volume_reads_as(&h, fd, "written to");
	/* The image goes, its forks stay. */
	assert_int_equal(base_delete(h.e, "debian", 1, &err), 0);
	harness_host(&other, &h, "other");
	other.cfg.host_id = "host-2/test";
	harness_start(&other);
	harness_open(&other, "vm-1", CLAIM_TAKEOVER, false, NULL);
	assert_volume_reads_as(&other, fd, "elsewhere, without the image");
	harness_stop(&other);
	close(fd);
	stop(&h);
}

static int store_flip(const char *dir, const char *key)
{
	char path[700], c;
	int fd, r;

	snprintf(path, sizeof(path), "%s/store/%s", dir, key);
	fd = open(path, O_RDWR | O_CLOEXEC);
	r = pread_full(fd, &c, 1, 5000);
	c ^= 1;
	if (!r)
		r = pwrite_full(fd, &c, 1, 5000);
	close(fd);
	return r;
}

static void exports_verify_and_fit_pipes_too(void **state)
{
	struct fmt_err err = {""};
	struct harness h;
	struct keys packs;
	struct stat st;
	int fd, out;

	harness_needs_store_dir();
	start(&h);
	fd = image_make(&h, "image", CHUNK_BYTES + 400 * BLOCK, 13);
	bless(&h, "image", fd);
	/* Holes stay holes. */
	out = image_fd(&h, "out", O_RDWR | O_CREAT | O_TRUNC);
	assert_int_equal(export(&h, "image", out, true, &err), 0);
	assert_same(fd, out, "sparse");
	assert_int_equal(fstat(out, &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 < 32 * MiB);
	close(out);
	/* As through a pipe: every byte is written, in order. */
	out = image_fd(&h, "out", O_RDWR | O_CREAT | O_TRUNC);
	assert_int_equal(export(&h, "image", out, false, &err), 0);
	assert_same(fd, out, "in order");
	close(out);
	/* Damage is an error, never wrong bytes. */
	packs = keys_of(&h, "chunks/");
	assert_int_equal(store_flip(h.dir, packs.key[0]), 0);
	free(packs.key);
	harness_stop(&h);
	harness_start(&h);
	out = image_fd(&h, "out", O_RDWR | O_CREAT | O_TRUNC);
	assert_true(export(&h, "image", out, true, &err) < 0);
	assert_non_null(strstr(err.msg, "block"));
	close(out);
	close(fd);
	stop(&h);
}

static void lists_tell_what_is_there(void **state)
{
	struct base_entry *e;
	struct fmt_err err = {""};
	struct harness h;
	char path[128];
	size_t nr;
	FILE *f;
	int fd;

	harness_needs_store_dir();
	start(&h);
	assert_int_equal(base_list(h.e, 1, &e, &nr, &err), 0);
	assert_int_equal(nr, 0);
	free(e);
	fd = image_make(&h, "image", 2 * MiB, 1);
	for (int i = 0; i < 20; i++) {
		char name[32];

		snprintf(name, sizeof(name), "image-%02d", i);
		bless(&h, name, fd);
	}
	snprintf(path, sizeof(path), "%s/store/bases/image-07", h.dir);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs("{}\n", f);
	fclose(f);
	assert_int_equal(base_list(h.e, 1, &e, &nr, &err), 0);
	assert_int_equal(nr, 20);
	for (size_t i = 0; i < nr; i++) {
		char name[32];

		snprintf(name, sizeof(name), "image-%02zu", i);
		assert_string_equal(e[i].b.name, name);
		assert_true(i == 7 ? e[i].error != 0 : e[i].b.size_bytes == 2 * MiB);
	}
	free(e);
	close(fd);
	stop(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_image_of_any_size_reads_as_it_was),
		cmocka_unit_test(blocks_of_any_size_read_as_they_were),
		cmocka_unit_test(one_image_is_one_set_of_objects_however_it_is_read),
		cmocka_unit_test(a_name_that_is_taken_is_refused_before_anything_is_uploaded),
		cmocka_unit_test(of_two_that_seal_one_name_the_first_wins),
		cmocka_unit_test(no_base_is_sent_after_its_window),
		cmocka_unit_test(an_image_is_deleted_after_its_grave_or_not_at_all),
		cmocka_unit_test(a_late_delete_spares_what_was_blessed_since),
		cmocka_unit_test(zeros_cost_nothing),
		cmocka_unit_test(a_source_that_cannot_be_read_makes_no_image),
		cmocka_unit_test(every_store_failure_is_an_image_or_none),
		cmocka_unit_test(a_blessing_killed_at_any_operation_goes_on_with_what_is_missing),
		cmocka_unit_test(what_may_be_garbage_by_now_is_not_relied_on),
		cmocka_unit_test(forks_read_as_the_image_and_keep_what_they_write),
		cmocka_unit_test(exports_verify_and_fit_pipes_too),
		cmocka_unit_test(lists_tell_what_is_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
