// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * fsyncer: creates, appends to, rewrites, renames and removes files below a directory, and keeps a
 * journal on another disk of what fsync has promised; the check holds a file system to it after a
 * crash.
 *
 * Each thread has a directory of its own. A file begins with a 512-byte head (identity, version),
 * and goes on with records that name file, number and length under a checksum. After fsync of the
 * file: its head has at least that version, and at least that many records are there, whole. After
 * fsync of the directory: the file has at least that name (a later rename may have happened as
 * well), or is gone. What was not synced may be there or not, in part or whole.
 */
#include "selftests/tools/journal.h"

#include <dirent.h>
#include <getopt.h>
#include <signal.h>

#define FSYNC_MAGIC 0x636e797366736667ull
#define FILES       16u
#define THREADS_MAX 16u
#define RECORD_MAX  8192u
#define RECORDS_MAX 64u

/* Records: a = thread << 48 | file id, b = value. */
enum fsync_rec {
	FSYNC_VERSION = 1, /* b: version of the head */
	FSYNC_RECORDS,     /* b: number of records */
	FSYNC_NAME,        /* b: number of renames */
	FSYNC_REMOVING,    /* from here on it may be gone */
	FSYNC_GONE,
	FSYNC_RUN, /* b: seed */
};

struct file_head {
	uint64_t magic, id, version, seed, sum;
	char pad[TOOL_SECTOR - 40];
};

struct record_head {
	uint64_t magic, id;
	uint32_t number, len; /* len of the whole record */
	uint64_t sum;         /* of the body */
};

struct file {
	uint64_t id; /* 0: no file */
	uint64_t version, names, size;
	uint32_t records;
};

struct fsyncer {
	const char *dir, *journal_path, *status;
	struct journal *j;
	uint64_t seed, seconds;
	unsigned int threads;
	uint64_t syncs; /* atomic */
	bool stop, failed;
};

static struct fsyncer f;

struct writer {
	unsigned int index;
	int dirfd;
	struct prng prng;
	struct file files[FILES];
	uint64_t next_id;
	char *buf;
};

static void name_of(uint64_t id, uint64_t names, char out[64])
{
	snprintf(out, 64, "f%llx.%llu", (unsigned long long)id, (unsigned long long)names);
}

static int file_open(struct writer *w, const struct file *x, int flags)
{
	char name[64];

	name_of(x->id, x->names, name);
	return openat(w->dirfd, name, O_RDWR | O_CLOEXEC | flags, 0600);
}

static uint64_t head_sum(const struct file_head *h)
{
	return XXH3_64bits(h, offsetof(struct file_head, sum));
}

static int head_write(struct writer *w, struct file *x, int fd)
{
	struct file_head h = {
		.magic = FSYNC_MAGIC, .id = x->id, .version = ++x->version, .seed = f.seed};

	(void)w;
	h.sum = head_sum(&h);
	return pwrite_all(fd, &h, sizeof(h), 0);
}

static int record_append(struct writer *w, struct file *x, int fd)
{
	uint32_t len =
		(uint32_t)(sizeof(struct record_head) + 1 + prng_below(&w->prng, RECORD_MAX));
	struct record_head *h = (struct record_head *)w->buf;
	int r;

	for (uint32_t i = sizeof(*h); i < len; i++)
		w->buf[i] = (char)(x->id + x->records + i * 7);
	*h = (struct record_head){FSYNC_MAGIC, x->id, x->records, len, 0};
	h->sum = XXH3_64bits(w->buf + sizeof(*h), len - sizeof(*h));
	r = pwrite_all(fd, w->buf, len, x->size);
	if (!r) {
		x->size += len;
		x->records++;
	}
	return r;
}

static int file_sync(struct file *x, int fd)
{
	if (fsync(fd))
		return -errno;
	journal_add(f.j, FSYNC_VERSION, x->id, x->version, 0);
	journal_add(f.j, FSYNC_RECORDS, x->id, x->records, 0);
	journal_sync(f.j);
	__atomic_add_fetch(&f.syncs, 1, __ATOMIC_RELAXED);
	return 0;
}

static int dir_fsync(struct writer *w, struct file *x, bool gone)
{
	if (fsync(w->dirfd))
		return -errno;
	journal_add(f.j, gone ? FSYNC_GONE : FSYNC_NAME, x->id, x->names, 0);
	journal_sync(f.j);
	__atomic_add_fetch(&f.syncs, 1, __ATOMIC_RELAXED);
	return 0;
}

static int file_create(struct writer *w, struct file *x)
{
	int r, fd;

	*x = (struct file){.id = (uint64_t)w->index << 48 | ++w->next_id, .size = TOOL_SECTOR};
	fd = file_open(w, x, O_CREAT | O_EXCL);
	if (fd < 0)
		return -errno;
	r = head_write(w, x, fd);
	if (!r && prng_percent(&w->prng, 60))
		r = file_sync(x, fd);
	close(fd);
	if (!r && prng_percent(&w->prng, 60))
		r = dir_fsync(w, x, false);
	return r;
}

static int file_rename(struct writer *w, struct file *x)
{
	char from[64], to[64];

	name_of(x->id, x->names, from);
	name_of(x->id, x->names + 1, to);
	if (renameat(w->dirfd, from, w->dirfd, to))
		return -errno;
	x->names++;
	return prng_percent(&w->prng, 70) ? dir_fsync(w, x, false) : 0;
}

static int file_remove(struct writer *w, struct file *x)
{
	char name[64];
	int r = 0;

	/* Durable before the unlink: a crash may come between. */
	journal_add(f.j, FSYNC_REMOVING, x->id, 0, 0);
	journal_sync(f.j);
	name_of(x->id, x->names, name);
	if (unlinkat(w->dirfd, name, 0))
		return -errno;
	if (prng_percent(&w->prng, 70))
		r = dir_fsync(w, x, true);
	x->id = 0;
	return r;
}

static int file_change(struct writer *w, struct file *x, bool rewrite)
{
	int fd = file_open(w, x, 0), r;

	if (fd < 0)
		return -errno;
	r = rewrite ? head_write(w, x, fd) : record_append(w, x, fd);
	if (!r && prng_percent(&w->prng, 50))
		r = file_sync(x, fd);
	close(fd);
	return r;
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	int r = 0;

	while (!r && !__atomic_load_n(&f.stop, __ATOMIC_ACQUIRE)) {
		struct file *x = &w->files[prng_below(&w->prng, FILES)];
		unsigned int dice = (unsigned int)prng_below(&w->prng, 100);

		if (!x->id)
			r = file_create(w, x);
		else if (x->records >= RECORDS_MAX || dice < 3)
			r = file_remove(w, x);
		else if (dice < 15)
			r = file_rename(w, x);
		else
			r = file_change(w, x, dice < 40);
	}
	if (r) {
		fprintf(stderr, "fsyncer: thread %u: %s\n", w->index, strerror(-r));
		__atomic_store_n(&f.failed, true, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int run(void)
{
	static struct writer writers[THREADS_MAX];
	uint64_t end_ns = f.seconds ? now_ns() + f.seconds * NSEC_PER_SEC : UINT64_MAX;
	struct prng seeds = {f.seed};
	pthread_t th[THREADS_MAX];
	sigset_t set;
	bool over = false;

	f.j = journal_create(f.journal_path, 16 * MiB);
	journal_add(f.j, FSYNC_RUN, f.threads, f.seed, 0);
	journal_sync(f.j);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (unsigned int i = 0; i < f.threads; i++) {
		struct writer *w = &writers[i];
		char path[4096];

		snprintf(path, sizeof(path), "%s/t%u", f.dir, i);
		if (mkdir(path, 0700))
			err(EXIT_USE, "%s", path);
		w->index = i;
		w->prng.s = prng_next(&seeds);
		w->buf = alloc_pages_or_die(sizeof(struct record_head) + RECORD_MAX + 1);
		w->dirfd = open_or_die(path, O_RDONLY | O_DIRECTORY);
		if (fsync(w->dirfd))
			err(EXIT_USE, "%s", path);
	}
	/* The threads' directories themselves. */
	int top = open_or_die(f.dir, O_RDONLY | O_DIRECTORY);

	if (fsync(top))
		err(EXIT_USE, "%s", f.dir);
	for (unsigned int i = 0; i < f.threads; i++)
		if (pthread_create(&th[i], NULL, writer_main, &writers[i]))
			errx(EXIT_USE, "no thread");
	while (!over && !__atomic_load_n(&f.failed, __ATOMIC_ACQUIRE)) {
		const struct timespec tick = {0, 200000000};

		over = sigtimedwait(&set, NULL, &tick) > 0 || now_ns() >= end_ns;
		status_write(f.status, "syncs=%llu\n",
			     (unsigned long long)__atomic_load_n(&f.syncs, __ATOMIC_RELAXED));
	}
	__atomic_store_n(&f.stop, true, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < f.threads; i++)
		pthread_join(th[i], NULL);
	printf("fsyncer: %llu syncs promised, seed %llu\n", (unsigned long long)f.syncs,
	       (unsigned long long)f.seed);
	return f.failed ? EXIT_BROKEN : 0;
}

/* ---- check ---- */

struct promise {
	uint64_t id, version, records, names;
	bool named, synced, removing, gone;
};

struct promises {
	struct promise *p;
	size_t nr, cap;
	uint64_t seed;
	unsigned int threads;
};

static struct promise *promise_of(struct promises *ps, uint64_t id)
{
	/* The newest are asked for most. */
	for (size_t i = ps->nr; i--;)
		if (ps->p[i].id == id)
			return &ps->p[i];
	if (ps->nr == ps->cap) {
		ps->cap = MAX(2 * ps->cap, (size_t)1024);
		ps->p = realloc(ps->p, ps->cap * sizeof(*ps->p));
		if (!ps->p)
			errx(EXIT_USE, "out of memory");
	}
	ps->p[ps->nr] = (struct promise){.id = id};
	return &ps->p[ps->nr++];
}

static void promise_rec(const struct journal_rec *r, uint64_t index, void *arg)
{
	struct promises *ps = arg;
	struct promise *p;

	(void)index;
	if (r->type == FSYNC_RUN) {
		ps->threads = (unsigned int)r->a;
		ps->seed = r->b;
		return;
	}
	p = promise_of(ps, r->a);
	switch (r->type) {
	case FSYNC_VERSION:
		p->version = MAX(p->version, r->b);
		p->synced = true;
		break;
	case FSYNC_RECORDS:
		p->records = MAX(p->records, r->b);
		break;
	case FSYNC_NAME:
		p->names = MAX(p->names, r->b);
		p->named = true;
		break;
	case FSYNC_REMOVING:
		p->removing = true;
		break;
	case FSYNC_GONE:
		p->gone = true;
		break;
	}
}

static unsigned int bad;

static void __printf(2, 3) complain(const struct promise *p, const char *fmt, ...)
{
	va_list ap;

	if (bad++ >= 20)
		return;
	fprintf(stderr, "thread %llu file %llx: ", (unsigned long long)p->id >> 48,
		(unsigned long long)p->id);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static void file_check(const struct promises *ps, const struct promise *p, int fd, const char *name)
{
	char *buf = alloc_pages_or_die(sizeof(struct record_head) + RECORD_MAX + 1);
	uint64_t off = TOOL_SECTOR;
	struct file_head h;
	int r = pread_all(fd, &h, sizeof(h), 0);

	if (p->synced && (r || h.magic != FSYNC_MAGIC || h.sum != head_sum(&h) || h.id != p->id ||
			  h.seed != ps->seed))
		complain(p, "%s: the head is %s; version %llu was synced", name,
			 r ? strerror(-r) : "corrupt", (unsigned long long)p->version);
	else if (p->synced && h.version < p->version)
		complain(p, "%s: the head has version %llu; %llu was synced", name,
			 (unsigned long long)h.version, (unsigned long long)p->version);
	for (uint64_t n = 0; n < p->records; n++) {
		struct record_head rh;

		r = pread_all(fd, &rh, sizeof(rh), off);
		if (!r && (rh.magic != FSYNC_MAGIC || rh.id != p->id || rh.number != n ||
			   rh.len <= sizeof(rh) || rh.len > sizeof(rh) + RECORD_MAX + 1))
			r = -EBADMSG;
		if (!r)
			r = pread_all(fd, buf, rh.len - sizeof(rh), off + sizeof(rh));
		if (!r && XXH3_64bits(buf, rh.len - sizeof(rh)) != rh.sum)
			r = -EBADMSG;
		if (r) {
			complain(p, "%s: record %llu of %llu synced ones, at %llu: %s", name,
				 (unsigned long long)n, (unsigned long long)p->records,
				 (unsigned long long)off, strerror(-r));
			break;
		}
		off += rh.len;
	}
	free(buf);
}

/* The file's name, if it has one in its directory: the count of renames, or -1. */
static int64_t name_find(uint64_t id, char name[64])
{
	char path[4096], prefix[64];
	int64_t found = -1;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/t%llu", f.dir, (unsigned long long)id >> 48);
	snprintf(prefix, sizeof(prefix), "f%llx.", (unsigned long long)id);
	dir = opendir(path);
	if (!dir)
		err(EXIT_BROKEN, "%s", path);
	while ((d = readdir(dir))) {
		if (strncmp(d->d_name, prefix, strlen(prefix)))
			continue;
		if (found >= 0)
			found = INT64_MAX; /* two names */
		else
			found = (int64_t)strtoull(d->d_name + strlen(prefix), NULL, 10);
		snprintf(name, 64, "%.63s", d->d_name);
	}
	closedir(dir);
	return found;
}

static void promise_check(const struct promises *ps, const struct promise *p)
{
	char name[64] = "", path[4200];
	int64_t names = name_find(p->id, name);
	int fd;

	if (p->gone) {
		if (names >= 0)
			complain(p, "%s is back; its removal was synced", name);
		return;
	}
	if (names < 0) {
		/* ext4 makes a new file's name durable with its fsync; POSIX asks for the
		 * directory's. */
		if (p->named && !p->removing)
			complain(p, "missing; name %llu was synced", (unsigned long long)p->names);
		return;
	}
	if (names == INT64_MAX)
		complain(p, "has two names");
	else if (p->named && (uint64_t)names < p->names)
		complain(p, "is called %s; name %llu was synced", name,
			 (unsigned long long)p->names);
	snprintf(path, sizeof(path), "%s/t%llu/%s", f.dir, (unsigned long long)p->id >> 48, name);
	fd = open_or_die(path, O_RDONLY);
	file_check(ps, p, fd, name);
	close(fd);
}

static int check(uint64_t least)
{
	struct promises ps = {0};
	uint64_t n = journal_read(f.journal_path, promise_rec, &ps);

	for (size_t i = 0; i < ps.nr; i++)
		promise_check(&ps, &ps.p[i]);
	if (n < least) {
		fprintf(stderr, "%llu promises: fewer than %llu\n", (unsigned long long)n,
			(unsigned long long)least);
		bad++;
	}
	printf("fsyncer: %llu promises about %zu files checked, seed %llu: %s\n",
	       (unsigned long long)n, ps.nr, (unsigned long long)ps.seed, bad ? "FAILED" : "ok");
	return bad ? EXIT_BROKEN : 0;
}

static const char usage_text[] =
	"usage: fsyncer run   --dir DIR --journal FILE [--seconds N] [--threads N] [--seed N]\n"
	"                     [--status FILE]\n"
	"       fsyncer check --dir DIR --journal FILE [--least N]\n"
	"\n"
	"run: works on files below DIR (threads: 4) until SIGTERM or --seconds, and notes in the "
	"journal, on a\n"
	"disk that survives the crash, what fsync has promised. check: after the crash, DIR keeps "
	"all of it,\n"
	"and the promises are at least N.\n"
	"Exit status: 0 kept, 1 broken, 2 bad use.\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"dir", 1, NULL, 'd'},     {"journal", 1, NULL, 'j'}, {"seconds", 1, NULL, 't'},
		{"threads", 1, NULL, 'n'}, {"seed", 1, NULL, 's'},    {"status", 1, NULL, 'S'},
		{"least", 1, NULL, 'k'},   {NULL, 0, NULL, 0},
	};
	const char *verb = argc > 1 ? argv[1] : "";
	uint64_t least = 0;
	int c;

	f.seed = now_ns();
	f.threads = 4;
	if (!strcmp(verb, "--help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	while (argc > 1 && (c = getopt_long(argc - 1, argv + 1, "", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			f.dir = optarg;
			break;
		case 'j':
			f.journal_path = optarg;
			break;
		case 'S':
			f.status = optarg;
			break;
		case 't':
			f.seconds = parse_size("seconds", optarg);
			break;
		case 'n':
			f.threads = (unsigned int)parse_size("threads", optarg);
			break;
		case 's':
			f.seed = parse_size("seed", optarg);
			break;
		case 'k':
			least = parse_size("least", optarg);
			break;
		default:
			fputs(usage_text, stderr);
			return EXIT_USE;
		}
	}
	if (f.dir && f.journal_path && f.threads && f.threads <= THREADS_MAX) {
		if (!strcmp(verb, "run"))
			return run();
		if (!strcmp(verb, "check"))
			return check(least);
	}
	fputs(usage_text, stderr);
	return EXIT_USE;
}
