// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the SSD tier of the clean cache promises: never wrong data, whatever becomes of its files;
 * never more than its budget, nor of the space that others need; what was written is found again
 * after a restart or a kill.
 */
#include "engine/ssd_priv.h"
#include "lib/fsutil.h"
#include "lib/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <zstd.h>
#include <cmocka.h>

#define SIZE_MAX_USED (64 * KiB)

struct box {
	char dir[64];
	struct ssd_config cfg;
	struct ssd *s;
};

static void box_open(struct box *b)
{
	assert_int_equal(ssd_open(&b->cfg, &b->s), 0);
	ssd_flush(b->s); /* what is there was read */
}

static void box_init(struct box *b, uint64_t budget)
{
	memset(b, 0, sizeof(*b));
	snprintf(b->dir, sizeof(b->dir), "%.40s/gfs-unit-XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(b->dir));
	b->cfg.dirfd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(b->cfg.dirfd >= 0);
	b->cfg.path = b->dir;
	b->cfg.budget_bytes = budget;
	box_open(b);
}

static void box_restart(struct box *b)
{
	ssd_close(b->s);
	box_open(b);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void box_fini(struct box *b)
{
	ssd_close(b->s);
	close(b->cfg.dirfd);
	nftw(b->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static struct ssd_stats stats(struct box *b)
{
	struct ssd_stats st;

	ssd_stats_read(b->s, &st);
	return st;
}

static uint64_t next_rnd(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* A content is a function of its number: its size, its bytes, and how it is stored. */
static uint32_t content_size(uint32_t id)
{
	static const uint32_t sizes[] = {64 * KiB, 4 * KiB, 64 * KiB, 1000, 16 * KiB};

	return sizes[id % ARRAY_SIZE(sizes)];
}

static void content_make(uint32_t id, uint8_t *p)
{
	uint64_t x = id * 0x9e3779b97f4a7c15 + 7;
	uint32_t size = content_size(id);

	memset(p, (int)(id & 0xff), size);
	/* Every third one does not compress. */
	for (uint32_t i = 0; i + 8 <= (id % 3 ? size / 2 : size); i += 8) {
		next_rnd(&x);
		memcpy(p + i, &x, 8);
	}
	memcpy(p, &id, sizeof(id));
}

static void content_key(uint32_t id, uint8_t key[SHA256_LEN])
{
	uint8_t plain[SIZE_MAX_USED];

	content_make(id, plain);
	hash_sha256(plain, content_size(id), key);
}

static void put(struct box *b, uint32_t id)
{
	uint8_t plain[SIZE_MAX_USED], out[SIZE_MAX_USED + 4096], key[SHA256_LEN];
	enum pack_block_kind kind;
	uint32_t len;

	content_make(id, plain);
	assert_int_equal(
		block_encode(plain, content_size(id), 1, out, sizeof(out), &kind, &len, key), 0);
	ssd_put(b->s, key, kind, content_size(id), out, len);
}

static int get(struct box *b, uint32_t id)
{
	uint8_t plain[SIZE_MAX_USED], key[SHA256_LEN];
	struct cache_buf *buf = NULL;
	int r;

	content_make(id, plain);
	hash_sha256(plain, content_size(id), key);
	r = ssd_get(b->s, key, content_size(id), &buf);
	if (!r && (buf->size != content_size(id) || memcmp(buf->data, plain, buf->size)))
		fail_msg("content %u: wrong data", id);
	if (r)
		assert_null(buf);
	cache_buf_put(buf);
	return r;
}

static unsigned int found(struct box *b, uint32_t first, uint32_t nr)
{
	unsigned int n = 0;

	for (uint32_t id = first; id < first + nr; id++)
		n += !get(b, id);
	return n;
}

/* Put without being faster than the disk. */
static void put_all(struct box *b, uint32_t first, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		put(b, first + i);
		if (i % 8 == 7)
			ssd_flush(b->s);
	}
	ssd_flush(b->s);
}

/* Call fn for each file; its names are in order of age. Number of files. */
static unsigned int each_file(struct box *b, void (*fn)(const char *path, void *arg), void *arg)
{
	struct dirent **list;
	int nr = scandir(b->dir, &list, NULL, alphasort);
	unsigned int n = 0;

	assert_true(nr >= 0);
	for (int i = 0; i < nr; i++) {
		char path[400];

		snprintf(path, sizeof(path), "%s/%s", b->dir, list[i]->d_name);
		if (list[i]->d_name[0] != '.') {
			n++;
			if (fn)
				fn(path, arg);
		}
		free(list[i]);
	}
	free(list);
	return n;
}

static void add_blocks(const char *path, void *arg)
{
	struct stat st;

	if (!stat(path, &st))
		*(uint64_t *)arg += (uint64_t)st.st_blocks * 512;
}

static uint64_t disk_bytes(struct box *b)
{
	uint64_t bytes = 0;

	each_file(b, add_blocks, &bytes);
	return bytes;
}

static void what_was_put_is_found_again_after_a_restart(void **state)
{
	struct ssd_stats st;
	struct box b;

	box_init(&b, 64 * MiB);
	assert_int_equal(get(&b, 1), -ENOENT);
	for (int turn = 0; turn < 3; turn++) {
		put_all(&b, 0, 100 + (uint32_t)turn * 50);
		assert_int_equal(found(&b, 0, 100 + (uint32_t)turn * 50), 100 + turn * 50);
		box_restart(&b);
		assert_int_equal(found(&b, 0, 100 + (uint32_t)turn * 50), 100 + turn * 50);
	}
	st = stats(&b);
	assert_int_equal(st.entries, 200); /* each once */
	assert_int_equal(st.bad, 0);
	assert_int_equal(st.dropped, 0);
	assert_int_equal(get(&b, 1000), -ENOENT);
	box_fini(&b);
}

/* Not even one that was put a moment before it was closed is lost. */
static void closing_writes_what_was_put(void **state)
{
	struct box b;

	box_init(&b, 64 * MiB);
	for (uint32_t id = 0; id < 10; id++)
		put(&b, id);
	box_restart(&b);
	assert_int_equal(found(&b, 0, 10), 10);
	box_fini(&b);
}

static void one_content_is_stored_once(void **state)
{
	uint64_t bytes[2];

	for (int many = 0; many < 2; many++) {
		struct box b;

		box_init(&b, 64 * MiB);
		for (int turn = 0; turn < (many ? 20 : 1); turn++) {
			for (uint32_t id = 0; id < 8; id++)
				put(&b, id);
			if (turn == 10)
				ssd_flush(b.s);
		}
		ssd_flush(b.s);
		assert_int_equal(stats(&b).inserts, 8);
		assert_int_equal(stats(&b).entries, 8);
		bytes[many] = stats(&b).bytes;
		box_fini(&b);
	}
	/* On the disk too; the writer may have begun between two of them, that costs a page. */
	assert_true(bytes[1] <= bytes[0] + 8 * SSD_PAGE);
}

static void the_budget_is_never_exceeded(void **state)
{
	const uint64_t budget = 6 * MiB;
	struct box b;

	box_init(&b, budget);
	for (uint32_t id = 0; id < 1500; id++) {
		put(&b, id);
		if (id % 3 == 0)
			get(&b, id / 2); /* so that some of the oldest are carried along */
		if (id % 32 == 31) {
			ssd_flush(b.s);
			assert_true(stats(&b).bytes <= budget);
			assert_true(disk_bytes(&b) <= budget);
		}
		if (id % 500 == 499) {
			assert_true(stats(&b).evictions > 50);
			box_restart(&b);
		}
	}
	assert_true(stats(&b).entries > 50);
	/* A smaller budget holds from the start. */
	ssd_close(b.s);
	b.cfg.budget_bytes = 4 * MiB;
	box_open(&b);
	assert_true(stats(&b).bytes <= 4 * MiB);
	assert_true(disk_bytes(&b) <= 4 * MiB);
	assert_true(stats(&b).entries > 0);
	box_fini(&b);
}

static void many_short_lives_leave_few_files(void **state)
{
	struct box b;

	box_init(&b, 4 * MiB);
	for (uint32_t life = 0; life < 90; life++) {
		put(&b, life);
		box_restart(&b);
	}
	assert_true(each_file(&b, NULL, NULL) <= b.s->max_segments + 1);
	assert_int_equal(get(&b, 89), 0);
	box_fini(&b);
}

/* Hot ones are read now and then, or only from memory, while much more passes through. */
static void what_is_used_survives_a_scan(void **state)
{
	struct cache *memory = cache_create(16 * MiB);
	struct box b;

	box_init(&b, 16 * MiB);
	b.s->cfg.memory[0] = memory;
	put_all(&b, 0, 10);
	for (uint32_t id = 5; id < 10; id++) {
		struct cache_buf *buf = cache_buf_new(64);
		uint8_t key[SHA256_LEN];

		content_key(id, key);
		cache_insert(memory, key, buf);
		cache_buf_put(buf);
	}
	for (uint32_t id = 1000; id < 2500; id++) {
		put(&b, id);
		if (id % 16 == 0) {
			ssd_flush(b.s);
			assert_int_equal(found(&b, 0, 5), 5);
		}
	}
	assert_true(stats(&b).evictions > 300);
	assert_int_equal(found(&b, 5, 5), 5);
	assert_int_equal(stats(&b).bad, 0);
	box_restart(&b);
	assert_int_equal(found(&b, 0, 10), 10);
	box_fini(&b);
	cache_destroy(memory);
}

/* ---- files that suffer ---- */

struct damage {
	uint64_t seed;
	char other[400];
};

static void overwrite(const char *path, uint64_t off, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite_full(fd, data, len, off), 0);
	close(fd);
}

static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_TRUNC | O_CLOEXEC);
	uint8_t buf[65536];
	ssize_t n;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(out, buf, (size_t)n), n);
	close(in);
	close(out);
}

/* One of the things that power loss, a bad disk or an administrator does. */
static void hurt(const char *path, void *arg)
{
	static uint8_t junk[8192];
	struct damage *d = arg;
	uint64_t what = next_rnd(&d->seed), at;
	struct stat st;

	if (stat(path, &st) || !st.st_size)
		return;
	at = (what >> 16) % (uint64_t)st.st_size;
	for (size_t i = 0; i < sizeof(junk); i += 8) {
		uint64_t x = next_rnd(&d->seed);

		memcpy(junk + i, &x, 8);
	}
	switch (what % 10) {
	case 0:
		assert_int_equal(truncate(path, (off_t)at), 0);
		break;
	case 1: /* pages that were never written */
		memset(junk, 0, sizeof(junk));
		overwrite(path, ROUND_DOWN(at, 4096), junk, 4096 * (1 + what / 10 % 2));
		break;
	case 2:
		overwrite(path, at, junk, 1 + what / 10 % 64);
		break;
	case 3: /* in its entries */
		overwrite(path, 4096 + at % 8192, junk, 1 + what / 10 % 100);
		break;
	case 4:
		overwrite(path, at % 64, junk, 1 + what / 10 % 8);
		break;
	case 5: /* another segment's bytes */
		if (d->other[0] && access(d->other, F_OK) == 0)
			copy_file(d->other, path);
		break;
	case 6:
		assert_int_equal(unlink(path), 0);
		return;
	default:
		return;
	}
	snprintf(d->other, sizeof(d->other), "%s", path);
}

static void no_wrong_data_whatever_happens_to_the_files(void **state)
{
	uint64_t seed = 20240607;
	unsigned int hits = 0, bad = 0;
	struct box b;

	box_init(&b, 6 * MiB);
	for (int round = 0; round < 24; round++) {
		struct damage d = {.seed = next_rnd(&seed)};

		for (int i = 0; i < 40; i++) {
			uint32_t id = (uint32_t)(next_rnd(&seed) % 400);

			if (get(&b, id))
				put(&b, id);
			else
				hits++;
			if (i % 10 == 9)
				ssd_flush(b.s);
		}
		/* Under its hands, between two lives, or not at all. */
		if (round % 3 == 0)
			each_file(&b, hurt, &d);
		for (uint32_t id = 0; id < 400; id += 7)
			hits += !get(&b, id);
		bad += (unsigned int)stats(&b).bad;
		ssd_close(b.s);
		if (round % 3 == 1)
			each_file(&b, hurt, &d);
		box_open(&b);
		assert_true(stats(&b).on);
		for (uint32_t id = 0; id < 400; id++)
			hits += !get(&b, id);
		bad += (unsigned int)stats(&b).bad;
		/* What was found bad is mended by the next put. */
		put_all(&b, (uint32_t)round * 10, 3);
		assert_int_equal(found(&b, (uint32_t)round * 10, 3), 3);
		assert_true(stats(&b).bytes <= 6 * MiB);
	}
	/* The test is worth something. */
	assert_true(hits > 600);
	assert_true(bad > 12);
	box_fini(&b);
}

static void flip_data(const char *path, void *arg)
{
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t off = *(uint64_t *)arg;

	assert_true(fd >= 0 && !fstat(fd, &st));
	for (; off < (uint64_t)st.st_size; off += 4096) {
		uint8_t x;

		assert_int_equal(pread_full(fd, &x, 1, off), 0);
		x ^= 0x40;
		assert_int_equal(pwrite_full(fd, &x, 1, off), 0);
	}
	close(fd);
}

static void scrub_removes_what_has_rotted(void **state)
{
	struct ssd_scrub sc;
	uint64_t data;
	struct box b;

	box_init(&b, 64 * MiB);
	put_all(&b, 0, 60);
	assert_int_equal(ssd_scrub(b.s, &sc), 0);
	assert_int_equal(sc.entries, 60);
	assert_int_equal(sc.bad, 0);
	data = 4096 + ROUND_UP(b.s->segment_entries * 64, 4096);
	each_file(&b, flip_data, &data);
	assert_int_equal(ssd_scrub(b.s, &sc), 0);
	assert_int_equal(sc.entries, 60);
	assert_true(sc.bad > 40); /* small ones may lie between the bytes that were flipped */
	assert_int_equal(stats(&b).entries, 60 - sc.bad);
	assert_int_equal(found(&b, 0, 60), 60 - sc.bad);
	put_all(&b, 0, 60);
	assert_int_equal(ssd_scrub(b.s, &sc), 0);
	assert_int_equal(sc.entries, 60);
	assert_int_equal(sc.bad, 0);
	box_fini(&b);
}

/* ---- processes ---- */

static void a_killed_process_leaves_what_it_wrote(void **state)
{
	struct box b;
	int status;
	pid_t pid;

	box_init(&b, 64 * MiB);
	put_all(&b, 0, 30);
	ssd_close(b.s);
	for (uint32_t life = 1; life < 6; life++) {
		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			if (ssd_open(&b.cfg, &b.s))
				_exit(1);
			put_all(&b, life * 100, 30);
			/* And some that are under way. */
			for (uint32_t id = 0; id < 30; id++)
				put(&b, 50000 + life * 100 + id);
			usleep(1000 * (useconds_t)(life * 50));
			kill(getpid(), SIGKILL);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		box_open(&b);
		for (uint32_t old = 0; old <= life; old++)
			assert_int_equal(found(&b, old * 100, 30), 30);
		found(&b, 50000, 600);
		assert_int_equal(stats(&b).bad, 0);
		ssd_close(b.s);
	}
	box_open(&b);
	box_fini(&b);
}

/* ---- the disk ---- */

static uint64_t disk_free(const char *path)
{
	struct statvfs st;

	assert_int_equal(statvfs(path, &st), 0);
	return (uint64_t)st.f_bavail * st.f_frsize;
}

/* A file system of its own at b->dir; false: not allowed here. */
static bool small_disk(struct box *b, const char *options)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", b->dir, "tmpfs", 0, options))
		return false;
	ssd_close(b->s);
	close(b->cfg.dirfd);
	b->cfg.dirfd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(b->cfg.dirfd >= 0);
	return true;
}

static void space_that_others_need_is_given_back(void **state)
{
	const uint64_t keep = 8 * MiB;
	uint8_t junk[65536] = {1};
	char path[100];
	struct box b;
	int fd;

	box_init(&b, 64 * MiB);
	if (!small_disk(&b, "size=24m")) {
		box_fini(&b);
		skip();
	}
	b.cfg.keep_free_bytes = keep;
	box_open(&b);
	put_all(&b, 0, 1200); /* more than there is room for */
	assert_true(stats(&b).on);
	assert_true(disk_free(b.dir) >= keep);
	assert_true(stats(&b).bytes > 4 * MiB);
	assert_true(found(&b, 0, 1200) > 100);

	/* Somebody else writes. */
	snprintf(path, sizeof(path), "%s/dirty", b.dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (uint64_t off = 0; off < 15 * MiB; off += sizeof(junk)) {
		assert_int_equal(pwrite_full(fd, junk, sizeof(junk), off), 0);
		if (off % MiB == 0) {
			ssd_disk_free(b.s, disk_free(b.dir));
			ssd_flush(b.s);
			assert_true(disk_free(b.dir) >= keep || !stats(&b).bytes);
		}
	}
	ssd_disk_free(b.s, 0);
	ssd_flush(b.s);
	assert_int_equal(stats(&b).bytes, 0);
	assert_int_equal(stats(&b).entries, 0);
	put(&b, 1);
	ssd_flush(b.s);
	assert_int_equal(stats(&b).bytes, 0); /* as long as it is short */
	assert_true(stats(&b).dropped > 0);
	close(fd);
	unlink(path);
	/* And it comes back. */
	for (int i = 0; i < 600 && get(&b, 1); i++) {
		put(&b, 1);
		ssd_flush(b.s);
		usleep(50000);
	}
	assert_int_equal(get(&b, 1), 0);
	ssd_close(b.s);
	close(b.cfg.dirfd);
	umount2(b.dir, MNT_DETACH);
	rmdir(b.dir);
}

static void full_disk(const char *options, bool by_surprise)
{
	struct box b;

	box_init(&b, 64 * MiB);
	if (!small_disk(&b, options)) {
		box_fini(&b);
		skip();
	}
	box_open(&b);
	for (uint32_t id = 0; id < 800; id++) {
		put(&b, id);
		ssd_flush(b.s);
		get(&b, id);
		b.s->pause_ns = 0; /* the writer sleeps: it was flushed */
	}
	assert_true(stats(&b).on);
	assert_int_equal(stats(&b).bad, 0);
	assert_int_equal(stats(&b).dropped > 0, by_surprise);
	assert_true(stats(&b).inserts > 100);
	assert_true(stats(&b).evictions > 100);
	ssd_close(b.s);
	box_open(&b);
	found(&b, 0, 800);
	assert_int_equal(stats(&b).bad, 0);
	ssd_close(b.s);
	close(b.cfg.dirfd);
	umount2(b.dir, MNT_DETACH);
	rmdir(b.dir);
}

/* Not even where nothing is kept free, and where the number of files is what it lacks. */
static void a_full_disk_is_not_an_error(void **state)
{
	full_disk("size=6m", false);
	full_disk("size=24m,nr_inodes=3", true);
}

static void a_disk_that_fails_ends_the_tier_alone(void **state)
{
	struct rlimit was, small;
	struct ssd_segment *seg;
	struct box b;
	int dir;

	box_init(&b, 64 * MiB);
	put_all(&b, 0, 20);
	assert_int_equal(found(&b, 0, 20), 20);
	/* A directory cannot be read as a file is. */
	dir = open(b.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list_for_each_entry (seg, &b.s->segments, node)
		assert_true(dup2(dir, seg->fd) >= 0);
	close(dir);
	assert_int_equal(get(&b, 1), -EIO);
	assert_int_equal(stats(&b).on, 0);
	assert_int_equal(get(&b, 2), -EIO);
	put(&b, 30);
	ssd_flush(b.s);
	ssd_disk_free(b.s, 0);
	ssd_flush(b.s);

	/* The next start tries again; now it cannot be written. */
	box_restart(&b);
	assert_int_equal(stats(&b).on, 1);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small = (struct rlimit){.rlim_cur = 8192, .rlim_max = was.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	put(&b, 40);
	ssd_flush(b.s);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(stats(&b).on, 0);
	assert_int_equal(get(&b, 40), -EIO);
	box_restart(&b);
	assert_int_equal(get(&b, 40), -ENOENT);
	put(&b, 40);
	ssd_flush(b.s);
	assert_int_equal(get(&b, 40), 0);
	box_fini(&b);
}

/* ---- threads ---- */

struct hammer {
	struct box *b;
	uint64_t seed;
	uint64_t hits;
};

static void *hammer_run(void *arg)
{
	struct hammer *hm = arg;

	for (int i = 0; i < 1500; i++) {
		uint32_t id = (uint32_t)(next_rnd(&hm->seed) % 500);
		struct ssd_scrub sc;
		uint8_t key[SHA256_LEN];

		content_key(id, key);
		if (ssd_has(hm->b->s, key) && !get(hm->b, id))
			hm->hits++;
		else
			put(hm->b, id);
		if (i % 64 == 63)
			ssd_flush(hm->b->s);
		if (i == 700 && hm->seed % 2)
			assert_int_equal(ssd_scrub(hm->b->s, &sc), 0);
	}
	return NULL;
}

static void threads_see_only_what_was_put(void **state)
{
	struct hammer hm[4];
	pthread_t t[4];
	uint64_t hits = 0;
	struct box b;

	box_init(&b, 6 * MiB);
	for (int i = 0; i < 4; i++) {
		hm[i] = (struct hammer){.b = &b, .seed = 4711 + (uint64_t)i * 31};
		assert_int_equal(pthread_create(&t[i], NULL, hammer_run, &hm[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		hits += hm[i].hits;
	}
	assert_true(hits > 200);
	assert_int_equal(stats(&b).bad, 0);
	assert_true(stats(&b).evictions > 0);
	assert_true(stats(&b).bytes <= 6 * MiB);
	box_fini(&b);
}

static void too_small_a_budget_is_refused(void **state)
{
	struct ssd_config c = {.dirfd = AT_FDCWD, .path = ".", .budget_bytes = SSD_BUDGET_MIN - 1};
	struct ssd *s;

	assert_int_equal(ssd_open(&c, &s), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_put_is_found_again_after_a_restart),
		cmocka_unit_test(closing_writes_what_was_put),
		cmocka_unit_test(one_content_is_stored_once),
		cmocka_unit_test(the_budget_is_never_exceeded),
		cmocka_unit_test(many_short_lives_leave_few_files),
		cmocka_unit_test(what_is_used_survives_a_scan),
		cmocka_unit_test(no_wrong_data_whatever_happens_to_the_files),
		cmocka_unit_test(scrub_removes_what_has_rotted),
		cmocka_unit_test(a_killed_process_leaves_what_it_wrote),
		cmocka_unit_test(space_that_others_need_is_given_back),
		cmocka_unit_test(a_full_disk_is_not_an_error),
		cmocka_unit_test(a_disk_that_fails_ends_the_tier_alone),
		cmocka_unit_test(threads_see_only_what_was_put),
		cmocka_unit_test(too_small_a_budget_is_refused),
	};

	log_init(LOG_LVL_WARN, false);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
