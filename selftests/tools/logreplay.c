// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * logreplay: what a disk with a volatile cache may hold after the power went, from the log of a
 * dm-log-writes device (format: Documentation/admin-guide/device-mapper/log-writes.rst in the
 * kernel).
 *
 * The kernel logs a write when a FLUSH that began after its completion has completed, and a FUA
 * write when it has completed. So the log up to a FLUSH entry is what that FLUSH made durable. A
 * cut at a mark is moved on to just before the next FLUSH entry (--exact: not moved): everything up
 * to the last FLUSH before the cut is written, and each FUA write; of the rest a random part, by
 * seed: nothing, all, or some writes, and of some only some 4 KiB pieces. One thread.
 */
#include "selftests/tools/tool.h"

#include <getopt.h>

/* From the kernel's format. */
#define LOG_MAGIC   0x6a736677736872ull
#define LOG_FLUSH   1u
#define LOG_FUA     2u
#define LOG_DISCARD 4u
#define LOG_MARK    8u

struct log_super {
	uint64_t magic, version, nr_entries;
	uint32_t sectorsize;
};

struct log_entry {
	uint64_t sector, nr_sectors, flags, data_len;
};

struct entry {
	uint64_t data_off; /* in the log */
	uint64_t off, len; /* on the disk, bytes */
	uint64_t flags;
	char mark[64];
};

struct replay {
	int log_fd, target_fd;
	bool target_is_block;
	uint64_t target_bytes;
	uint32_t sectorsize;
	struct entry *e;
	uint64_t nr;
	struct prng prng;
	uint64_t written, dropped, torn, bytes;
	char *buf;
};

#define BUF_BYTES MiB

static void log_load(struct replay *r, const char *path)
{
	const struct log_super *s = (const void *)r->buf;
	uint64_t off;

	r->log_fd = open_or_die(path, O_RDONLY | O_DIRECT);
	if (pread_all(r->log_fd, r->buf, 4096, 0))
		errx(EXIT_USE, "%s: cannot be read", path);
	if (s->magic != LOG_MAGIC || s->version != 1)
		errx(EXIT_USE, "%s: no dm-log-writes log (magic %llx, version %llu)", path,
		     (unsigned long long)s->magic, (unsigned long long)s->version);
	r->sectorsize = s->sectorsize;
	r->nr = s->nr_entries;
	r->e = zalloc_or_die(r->nr + 1, sizeof(*r->e));
	off = r->sectorsize;
	for (uint64_t i = 0; i < r->nr; i++) {
		struct entry *e = &r->e[i];
		struct log_entry h;
		uint64_t page = ROUND_DOWN(off, 4096);

		if (pread_all(r->log_fd, r->buf, 8192, page))
			errx(EXIT_USE, "%s: entry %llu at %llu cannot be read", path,
			     (unsigned long long)i, (unsigned long long)off);
		memcpy(&h, r->buf + (off - page), sizeof(h));
		e->flags = h.flags;
		e->off = h.sector * r->sectorsize;
		e->len = h.nr_sectors * r->sectorsize;
		e->data_off = off + r->sectorsize;
		if (h.flags & LOG_MARK)
			memcpy(e->mark, r->buf + (off - page) + sizeof(h),
			       MIN(h.data_len, sizeof(e->mark) - 1));
		off = e->data_off + (h.flags & LOG_DISCARD ? 0 : e->len);
	}
}

static int64_t mark_find(const struct replay *r, const char *mark)
{
	for (uint64_t i = 0; i < r->nr; i++)
		if ((r->e[i].flags & LOG_MARK) && !strcmp(r->e[i].mark, mark))
			return (int64_t)i;
	return -1;
}

static void target_zero(struct replay *r, uint64_t off, uint64_t len)
{
	uint64_t arg[2] = {off, len};

	if (r->target_is_block ? ioctl(r->target_fd, BLKZEROOUT, arg)
			       : fallocate(r->target_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)off, (off_t)len))
		err(EXIT_USE, "zeroing %llu bytes at %llu", (unsigned long long)len,
		    (unsigned long long)off);
}

/* The data of an entry starts at any sector of the log; O_DIRECT wants no more than that. */
static void target_copy(struct replay *r, uint64_t from, uint64_t to, uint64_t len)
{
	while (len) {
		size_t n = (size_t)MIN(len, BUF_BYTES);
		int res = pread_all(r->log_fd, r->buf, n, from);

		if (!res)
			res = pwrite_all(r->target_fd, r->buf, n, to);
		if (res)
			errx(EXIT_USE, "log %llu -> disk %llu, %zu bytes: %s",
			     (unsigned long long)from, (unsigned long long)to, n, strerror(-res));
		from += n;
		to += n;
		len -= n;
		r->bytes += n;
	}
}

static void apply(struct replay *r, const struct entry *e, unsigned int percent)
{
	if (!e->len)
		return;
	if (e->off + e->len > r->target_bytes)
		errx(EXIT_USE, "the target is too small: a write of %llu bytes at %llu",
		     (unsigned long long)e->len, (unsigned long long)e->off);
	if (e->flags & LOG_DISCARD) {
		target_zero(r, e->off, e->len);
		r->written++;
		return;
	}
	if (percent == 100) {
		target_copy(r, e->data_off, e->off, e->len);
		r->written++;
		return;
	}
	r->torn++;
	for (uint64_t done = 0; done < e->len; done += 4096)
		if (prng_percent(&r->prng, percent))
			target_copy(r, e->data_off + done, e->off + done,
				    MIN(e->len - done, 4096ull));
}

static void replay(struct replay *r, uint64_t mark, bool exact)
{
	static const unsigned int keeps[] = {0, 25, 50, 75, 100};
	unsigned int keep = keeps[prng_below(&r->prng, ARRAY_SIZE(keeps))];
	uint64_t cut = mark, durable = 0;

	if (!exact)
		while (cut < r->nr && !(r->e[cut].flags & LOG_FLUSH))
			cut++;
	for (uint64_t i = 0; i < cut; i++)
		if (r->e[i].flags & LOG_FLUSH)
			durable = i + 1;
	for (uint64_t i = 0; i < cut; i++) {
		const struct entry *e = &r->e[i];

		if (!e->len || (e->flags & LOG_MARK))
			continue;
		if (i < durable || (e->flags & LOG_FUA))
			apply(r, e, 100);
		else if (prng_percent(&r->prng, keep))
			apply(r, e, prng_percent(&r->prng, 75) ? 100 : 50);
		else
			r->dropped++;
	}
	if (fsync(r->target_fd))
		err(EXIT_USE, "fsync");
	printf("logreplay: %llu of %llu entries (durable up to %llu): %llu written, %llu torn, "
	       "%llu "
	       "dropped, %llu MiB\n",
	       (unsigned long long)cut, (unsigned long long)r->nr, (unsigned long long)durable,
	       (unsigned long long)r->written, (unsigned long long)r->torn,
	       (unsigned long long)r->dropped, (unsigned long long)(r->bytes / MiB));
}

static void list(const struct replay *r)
{
	for (uint64_t i = 0; i < r->nr; i++) {
		const struct entry *e = &r->e[i];

		printf("%llu off=%llu len=%llu%s%s%s%s%s\n", (unsigned long long)i,
		       (unsigned long long)e->off, (unsigned long long)e->len,
		       e->flags & LOG_FLUSH ? " FLUSH" : "", e->flags & LOG_FUA ? " FUA" : "",
		       e->flags & LOG_DISCARD ? " DISCARD" : "",
		       e->flags & LOG_MARK ? " MARK " : "", e->mark);
	}
}

static const char usage_text[] =
	"usage: logreplay --log DEV --list\n"
	"       logreplay --log DEV --find MARK       0 if the mark is in the log\n"
	"       logreplay --log DEV --target DISK --mark MARK [--seed N] [--exact] [--zero]\n"
	"\n"
	"Writes to DISK what the logged disk may have held when the power went after MARK:\n"
	"everything flushed, and a random part, by seed, of what was not.\n"
	"  --exact   cut at the mark, not before the FLUSH that follows it\n"
	"  --zero    fill DISK with zeros first\n"
	"Exit status: 0, 1 no such mark, 2 failure.\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"log", 1, NULL, 'l'},  {"target", 1, NULL, 't'}, {"mark", 1, NULL, 'm'},
		{"find", 1, NULL, 'f'}, {"seed", 1, NULL, 's'},   {"exact", 0, NULL, 'e'},
		{"zero", 0, NULL, 'z'}, {"list", 0, NULL, 'i'},   {"help", 0, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *log = NULL, *target = NULL, *mark = NULL;
	bool exact = false, zero = false, do_list = false, find = false;
	struct replay r = {.prng = {1}, .buf = alloc_pages_or_die(BUF_BYTES)};
	int64_t at;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'l':
			log = optarg;
			break;
		case 't':
			target = optarg;
			break;
		case 'f':
			find = true;
			/* fall through */
		case 'm':
			mark = optarg;
			break;
		case 's':
			r.prng.s = parse_size("seed", optarg);
			break;
		case 'e':
			exact = true;
			break;
		case 'z':
			zero = true;
			break;
		case 'i':
			do_list = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return 0;
		default:
			fputs(usage_text, stderr);
			return EXIT_USE;
		}
	}
	if (!log || optind != argc || (!do_list && (!mark || (!find && !target)))) {
		fputs(usage_text, stderr);
		return EXIT_USE;
	}
	log_load(&r, log);
	if (do_list) {
		list(&r);
		return 0;
	}
	at = mark_find(&r, mark);
	if (at < 0) {
		fprintf(stderr, "logreplay: no mark '%s' among %llu entries\n", mark,
			(unsigned long long)r.nr);
		return EXIT_BROKEN;
	}
	if (find)
		return 0;
	r.target_fd = open_or_die(target, O_RDWR | O_DIRECT);
	r.target_bytes = target_bytes(r.target_fd, target, &r.target_is_block);
	if (zero)
		target_zero(&r, 0, r.target_bytes);
	replay(&r, (uint64_t)at, exact);
	return 0;
}
