/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the oracle knows of each 512-byte sector, in a MAP_SHARED file outside of the daemon, and
 * what it writes into them.
 *
 * A version is the sequence number of the write, shifted by one, with bit 0 set if it wrote zeros
 * (discard, write-zeroes). Version 0 is the state before any write: zeros. Each sector of data
 * names its own sector, sequence and seed under a checksum, so found data needs no record of what
 * was in flight: it is legal if its sequence is not below the floor. Found zeros prove nothing, so
 * the newest zeroing that was ever issued is kept; it is legal if it is newer than the floor.
 *
 * The floor is the newest acknowledged version, or, after a power loss, the newest one that a
 * completed flush covered.
 */
#ifndef GFS_TOOLS_TRUTH_H
#define GFS_TOOLS_TRUTH_H

#include <sys/mman.h>
#include <xxhash.h>

#include "selftests/tools/journal.h"

#define TRUTH_MAGIC   0x6874757274736667ull
#define STAMP_MAGIC   0x706d617473736667ull
#define SEQ_RUN_SHIFT 40 /* sequence = run << 40 | counter: never repeats, whatever was lost */
#define VER_ZERO      1ull

struct sector_truth {
	uint64_t acked, flushed; /* versions */
	uint64_t zero_issued;    /* newest sequence of a zeroing that may have happened */
};

struct truth {
	uint64_t magic, seed, size_bytes, run;
	uint64_t reserved[4];
	struct sector_truth s[];
};

struct stamp {
	uint64_t magic, sector, seq, seed;
	uint64_t body[TOOL_SECTOR / 8 - 5];
	uint64_t sum;
};
_Static_assert(sizeof(struct stamp) == TOOL_SECTOR, "a stamp fills a sector");

/* Records of the journal. a = sequence, b = first sector, c = sectors. */
enum truth_rec { TRUTH_START = 1, TRUTH_ZERO_ISSUED, TRUTH_FLUSHED_DATA, TRUTH_FLUSHED_ZERO };

static inline uint64_t stamp_sum(const struct stamp *s)
{
	return XXH3_64bits(s, offsetof(struct stamp, sum));
}

static inline void stamp_fill(struct stamp *s, uint64_t sector, uint64_t seq, uint64_t seed)
{
	uint64_t x = (seed ^ seq * 0x9e3779b97f4a7c15ull ^ sector << 20) | 1;

	s->magic = STAMP_MAGIC;
	s->sector = sector;
	s->seq = seq;
	s->seed = seed;
	/* Half noise, half repetition: neither incompressible nor trivial for the uploader. */
	for (size_t i = 0; i < ARRAY_SIZE(s->body); i++) {
		if (i & 1) {
			s->body[i] = seq;
			continue;
		}
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		s->body[i] = x;
	}
	s->sum = stamp_sum(s);
}

static inline struct truth *truth_alloc(uint64_t size_bytes)
{
	struct truth *t = zalloc_or_die(1, sizeof(*t) + size_bytes / TOOL_SECTOR * sizeof(t->s[0]));

	t->magic = TRUTH_MAGIC;
	t->size_bytes = size_bytes;
	return t;
}

/* Maps the truth file; makes it for size_bytes if it is not there and `create`. */
static inline struct truth *truth_map(const char *path, uint64_t size_bytes, uint64_t seed,
				      bool create)
{
	int fd = open_or_die(path, O_RDWR | (create ? O_CREAT : 0));
	size_t len = sizeof(struct truth);
	struct truth *t;
	struct stat st;
	bool fresh;

	if (fstat(fd, &st))
		err(EXIT_USE, "%s", path);
	fresh = st.st_size == 0;
	if (fresh && !create)
		errx(EXIT_USE, "%s: empty", path);
	len = fresh ? sizeof(*t) + size_bytes / TOOL_SECTOR * sizeof(t->s[0]) : (size_t)st.st_size;
	if (fresh && ftruncate(fd, (off_t)len))
		err(EXIT_USE, "%s", path);
	t = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t == MAP_FAILED)
		err(EXIT_USE, "%s: mmap", path);
	close(fd);
	if (fresh) {
		t->seed = seed;
		t->size_bytes = size_bytes;
		t->magic = TRUTH_MAGIC;
	}
	if (t->magic != TRUTH_MAGIC || (size_bytes && t->size_bytes != size_bytes))
		errx(EXIT_USE, "%s: not the truth about %llu bytes", path,
		     (unsigned long long)size_bytes);
	return t;
}

struct truth_replay {
	struct truth *t;
	uint64_t size_bytes, position;
};

static inline void truth_replay_rec(const struct journal_rec *r, uint64_t index, void *arg)
{
	struct truth_replay *p = arg;

	if (!p->t)
		p->t = truth_alloc(p->size_bytes);
	if (r->type == TRUTH_START) {
		p->t->seed = r->b;
		p->t->run = r->a;
		return;
	}
	if (r->b + r->c > p->size_bytes / TOOL_SECTOR)
		errx(EXIT_USE, "the journal is about a larger device");
	for (uint64_t i = r->b; i < r->b + r->c; i++) {
		struct sector_truth *s = &p->t->s[i];
		uint64_t ver = r->a << 1 | (r->type == TRUTH_FLUSHED_ZERO ? VER_ZERO : 0);

		if (r->type == TRUTH_ZERO_ISSUED)
			s->zero_issued = MAX(s->zero_issued, r->a);
		else if (index < p->position)
			s->flushed = MAX(s->flushed, ver);
	}
}

/* What the journal says: flushed by its first `position` records; zeroings by all of it. */
static inline struct truth *truth_from_journal(const char *path, uint64_t size_bytes,
					       uint64_t position)
{
	struct truth_replay p = {.size_bytes = size_bytes, .position = position};
	uint64_t n = journal_read(path, truth_replay_rec, &p);

	if (!p.t)
		errx(EXIT_USE, "%s: an empty journal", path);
	if (position != UINT64_MAX && n < position)
		errx(EXIT_USE, "%s: has %llu records, wanted %llu", path, (unsigned long long)n,
		     (unsigned long long)position);
	return p.t;
}

enum sector_verdict {
	SECTOR_OK,
	SECTOR_NEWER, /* legal, but not what was acknowledged: it was in flight, or failed */
	SECTOR_LOST,  /* zeros or an older version where a newer one was promised */
	SECTOR_TORN,
	SECTOR_MISPLACED,
	SECTOR_FOREIGN,
};

static inline const char *sector_verdict_name(enum sector_verdict v)
{
	static const char *const names[] = {
		[SECTOR_OK] = "ok",
		[SECTOR_NEWER] = "newer",
		[SECTOR_LOST] = "LOST",
		[SECTOR_TORN] = "TORN",
		[SECTOR_MISPLACED] = "MISPLACED",
		[SECTOR_FOREIGN] = "FOREIGN",
	};

	return names[v];
}

/* Judges 512 bytes found at `sector` by a floor; *found is the version it holds. */
static inline enum sector_verdict truth_judge(const struct truth *t, uint64_t sector,
					      const void *data, uint64_t floor, uint64_t *found)
{
	const struct sector_truth *s = &t->s[sector];
	const struct stamp *st = data;

	if (is_zero(data, TOOL_SECTOR)) {
		*found = VER_ZERO;
		if (!floor || (floor & VER_ZERO)) {
			*found = floor;
			return SECTOR_OK;
		}
		if (s->zero_issued <= floor >> 1)
			return SECTOR_LOST;
		*found = s->zero_issued << 1 | VER_ZERO;
		return SECTOR_NEWER;
	}
	*found = 0;
	if (st->magic != STAMP_MAGIC || st->sum != stamp_sum(st))
		return SECTOR_TORN;
	*found = st->seq << 1;
	if (st->seed != t->seed)
		return SECTOR_FOREIGN;
	if (st->sector != sector)
		return SECTOR_MISPLACED;
	if (*found == floor)
		return SECTOR_OK;
	return st->seq > floor >> 1 ? SECTOR_NEWER : SECTOR_LOST;
}

/* "zeros", "zeros by 3.17", "data 3.17", "never written". */
static inline const char *version_text(uint64_t ver, char out[64])
{
	unsigned long long run = ver >> 1 >> SEQ_RUN_SHIFT,
			   n = ver >> 1 & ((1ull << SEQ_RUN_SHIFT) - 1);

	if (!ver)
		snprintf(out, 64, "never written (zeros)");
	else if (ver == VER_ZERO)
		snprintf(out, 64, "zeros");
	else
		snprintf(out, 64, "%s run %llu op %llu", ver & VER_ZERO ? "zeros by" : "data of",
			 run, n);
	return out;
}

/* One line about a broken promise, and what a torn sector is made of. */
static inline void truth_report(const struct truth *t, uint64_t sector, const void *data,
				enum sector_verdict v, uint64_t floor, uint64_t found,
				const char *how)
{
	const struct stamp *st = data;
	struct stamp want;
	char a[64], b[64];

	fprintf(stderr,
		"%s at offset %llu (sector %llu, 4K %llu + %llu) %s: expected %s or newer, found "
		"%s; "
		"newest zeroing issued: op %llu; seed %llu\n",
		sector_verdict_name(v), (unsigned long long)sector * TOOL_SECTOR,
		(unsigned long long)sector, (unsigned long long)sector / 8,
		(unsigned long long)sector % 8, how, version_text(floor, a), version_text(found, b),
		(unsigned long long)t->s[sector].zero_issued, (unsigned long long)t->seed);
	if (v == SECTOR_MISPLACED)
		fprintf(stderr, "  it belongs to sector %llu\n", (unsigned long long)st->sector);
	if (v == SECTOR_FOREIGN)
		fprintf(stderr, "  it has seed %llu\n", (unsigned long long)st->seed);
	if (v != SECTOR_TORN)
		return;
	stamp_fill(&want, sector, floor >> 1, t->seed);
	for (size_t i = 0; i < TOOL_SECTOR; i++) {
		if (((const uint8_t *)data)[i] == ((const uint8_t *)&want)[i])
			continue;
		fprintf(stderr,
			"  differs from the acknowledged version from byte %zu on; words there:",
			i);
		for (size_t w = i / 8; w < MIN(i / 8 + 4, (size_t)64); w++)
			fprintf(stderr, " %016llx", ((const unsigned long long *)data)[w]);
		fputc('\n', stderr);
		return;
	}
}

#endif
