// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Segment files of the SSD tier; byte by byte in formats.rst. A segment has its entries in front,
 * so that a start reads them alone, and grows at its end by one process only. Direct I/O where the
 * file system has it: the page cache would hold everything twice. Blocking; see ssd_priv.h.
 */
#include "engine/ssd_priv.h"
#include "engine/wire.h"
#include "lib/fsutil.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#define MAGIC        "GFSCLN01"
#define VERSION      1u
#define HEADER_BYTES SSD_PAGE
#define SUFFIX       ".seg"
#define VALUE_MAX    SSD_BATCH_MAX
#define ENTRIES_MAX  (SSD_SEGMENT_MAX / SSD_PAGE)
#define READ_AT_ONCE (256 * KiB) /* of entries */
#define PER_PAGE     (SSD_PAGE / SSD_ENTRY_BYTES)

void ssd_segment_name(uint64_t seq, char name[32])
{
	snprintf(name, 32, "%016" PRIx64 SUFFIX, seq);
}

/* False: not one of our names. */
static bool name_parse(const char *name, uint64_t *seq)
{
	char again[32], *end;

	*seq = strtoull(name, &end, 16);
	ssd_segment_name(*seq, again);
	return !strcmp(name, again);
}

static int seq_cmp(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

int ssd_segment_list(int dirfd, uint64_t **out, size_t *out_nr)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	uint64_t *seq = NULL, one;
	size_t nr = 0, cap = 0;
	struct dirent *de;
	int r = 0;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while (!r && (errno = 0, de = readdir(d)) != NULL) {
		if (!name_parse(de->d_name, &one))
			continue;
		if (nr == cap) {
			uint64_t *more = realloc(seq, (cap ? 2 * cap : 64) * sizeof(*seq));

			if (!more) {
				r = -ENOMEM;
				break;
			}
			cap = cap ? 2 * cap : 64;
			seq = more;
		}
		seq[nr++] = one;
	}
	if (!r && errno)
		r = -errno;
	closedir(d);
	if (r) {
		free(seq);
		return r;
	}
	if (nr)
		qsort(seq, nr, sizeof(*seq), seq_cmp);
	*out = seq;
	*out_nr = nr;
	return 0;
}

/* Where the data begins. */
static uint64_t data_off(uint32_t cap)
{
	return HEADER_BYTES + ROUND_UP((uint64_t)cap * SSD_ENTRY_BYTES, SSD_PAGE);
}

uint64_t ssd_segment_bytes(const struct ssd_segment *seg)
{
	return HEADER_BYTES + ROUND_UP((uint64_t)seg->nr * SSD_ENTRY_BYTES, SSD_PAGE) + seg->end -
	       data_off(seg->cap);
}

/* File systems differ in where they refuse direct I/O; buffered is as good, but for memory. */
static bool direct_off(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && (flags & O_DIRECT) && !fcntl(fd, F_SETFL, flags & ~O_DIRECT);
}

/* buf, off and len are whole pages. What lies past the end of the file is zeros. Bytes read. */
static int64_t read_pages(int fd, void *buf, size_t len, uint64_t off)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = pread(fd, (uint8_t *)buf + got, len - got, (off_t)(off + got));

		if (n < 0 && (errno == EINTR || (errno == EINVAL && direct_off(fd))))
			continue;
		if (n < 0)
			return -errno;
		got += (size_t)n;
		if (!n || n % SSD_PAGE) /* the end of the file */
			break;
	}
	memset((uint8_t *)buf + got, 0, len - got);
	return (int64_t)got;
}

static int write_pages(int fd, const void *buf, size_t len, uint64_t off)
{
	int r = pwrite_full(fd, buf, len, off);

	return r == -EINVAL && direct_off(fd) ? pwrite_full(fd, buf, len, off) : r;
}

static int segment_open(const struct ssd *s, uint64_t seq, int flags)
{
	char name[32];
	int fd;

	ssd_segment_name(seq, name);
	fd = openat(s->cfg.dirfd, name, flags | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
	if (fd < 0 && errno == EINVAL)
		fd = openat(s->cfg.dirfd, name, (flags & ~O_EXCL) | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static struct ssd_segment *segment_new(uint64_t seq, uint32_t cap, int fd)
{
	struct ssd_segment *seg = calloc(1, sizeof(*seg));

	if (!seg)
		return NULL;
	list_init(&seg->node);
	seg->refs = 1;
	seg->fd = fd;
	seg->seq = seq;
	seg->cap = cap;
	seg->end = data_off(cap);
	seg->items = SSD_NIL;
	return seg;
}

int ssd_segment_create(struct ssd *s, struct ssd_segment **out)
{
	uint64_t seq = s->next_seq++;
	struct ssd_segment *seg;
	int fd, r;

	fd = segment_open(s, seq, O_CREAT | O_EXCL);
	if (fd < 0)
		return fd;
	seg = segment_new(seq, s->segment_entries, fd);
	r = -ENOMEM;
	if (!seg)
		goto err;
	/* The page that is partly full, and those that a batch may fill. */
	seg->index_tail = aligned_alloc(
		SSD_PAGE, ROUND_UP(SSD_BATCH_ENTRIES * SSD_ENTRY_BYTES, SSD_PAGE) + SSD_PAGE);
	if (!seg->index_tail)
		goto err;
	memset(seg->index_tail, 0, SSD_PAGE);
	memcpy(seg->index_tail, MAGIC, 8);
	put_le32(seg->index_tail, 8, VERSION);
	put_le32(seg->index_tail, 12, seg->cap);
	put_le64(seg->index_tail, 16, seq);
	put_le64(seg->index_tail, 24, hash_xxh3(seg->index_tail, 24));
	r = write_pages(fd, seg->index_tail, HEADER_BYTES, 0);
	if (r)
		goto err;
	*out = seg;
	return 0;
err:
	if (seg)
		free(seg->index_tail);
	free(seg);
	close(fd);
	ssd_segment_unlink(s, seq);
	return r;
}

void ssd_segment_seal(struct ssd_segment *seg)
{
	free(seg->index_tail);
	seg->index_tail = NULL;
}

bool ssd_segment_has_room(const struct ssd *s, const struct ssd_segment *seg,
			  const struct ssd_batch *b)
{
	return seg->nr + b->nr <= seg->cap &&
	       seg->end + ROUND_UP(b->used, SSD_PAGE) <= data_off(seg->cap) + s->segment_bytes;
}

static void entry_write(uint8_t *p, const struct ssd_entry *e, uint64_t seq)
{
	memcpy(p, e->key, SHA256_LEN);
	put_le32(p, 32, e->off);
	put_le32(p, 36, e->len);
	put_le32(p, 40, e->size);
	put_le32(p, 44, e->kind);
	put_le64(p, 48, seq);
	put_le64(p, 56, hash_xxh3(p, 56));
}

/* False: no entry of this segment. */
static bool entry_read(const uint8_t *p, const struct ssd_segment *seg, struct ssd_entry *e)
{
	uint32_t kind = get_le32(p, 44);

	if (get_le64(p, 56) != hash_xxh3(p, 56) || get_le64(p, 48) != seg->seq)
		return false;
	memcpy(e->key, p, SHA256_LEN);
	e->off = get_le32(p, 32);
	e->len = get_le32(p, 36);
	e->size = get_le32(p, 40);
	e->kind = (uint8_t)kind;
	return (kind == PACK_RAW || kind == PACK_ZSTD) && e->len && e->len <= VALUE_MAX &&
	       e->size && e->size <= VALUE_MAX && e->off >= data_off(seg->cap);
}

int ssd_segment_append(struct ssd_segment *seg, struct ssd_batch *b)
{
	uint32_t tail = seg->nr % PER_PAGE, whole = seg->nr - tail;
	size_t pages = ROUND_UP((tail + b->nr) * SSD_ENTRY_BYTES, SSD_PAGE);
	size_t data = ROUND_UP(b->used, SSD_PAGE);
	int r;

	memset(b->data + b->used, 0, data - b->used);
	r = write_pages(seg->fd, b->data, data, seg->end);
	if (r) {
		(void)!ftruncate(seg->fd, (off_t)seg->end); /* what there was no room for all of */
		return r;
	}
	memset(seg->index_tail + tail * SSD_ENTRY_BYTES, 0, pages - tail * SSD_ENTRY_BYTES);
	for (uint32_t i = 0; i < b->nr; i++) {
		b->e[i].off += (uint32_t)seg->end;
		entry_write(seg->index_tail + (tail + i) * SSD_ENTRY_BYTES, &b->e[i], seg->seq);
	}
	r = write_pages(seg->fd, seg->index_tail, pages,
			HEADER_BYTES + (uint64_t)whole * SSD_ENTRY_BYTES);
	if (r)
		return r;
	seg->nr += b->nr;
	seg->end += data;
	/* What begins the next page to be written. */
	memmove(seg->index_tail, seg->index_tail + (seg->nr - whole) / PER_PAGE * SSD_PAGE,
		SSD_PAGE);
	return 0;
}

int ssd_segment_entries(const struct ssd_segment *seg, struct ssd_entry **out, uint32_t *out_nr)
{
	uint64_t len = data_off(seg->cap) - HEADER_BYTES;
	uint8_t *raw = aligned_alloc(SSD_PAGE, READ_AT_ONCE);
	struct ssd_entry *e = malloc(seg->cap * sizeof(*e));
	uint32_t nr = 0;
	int64_t r = raw && e ? 0 : -ENOMEM;

	for (uint64_t at = 0; r >= 0 && at < len; at += READ_AT_ONCE) {
		size_t n = MIN(len - at, READ_AT_ONCE);

		r = read_pages(seg->fd, raw, n, HEADER_BYTES + at);
		for (size_t i = 0; r >= 0 && i < n && nr < seg->cap; i += SSD_ENTRY_BYTES) {
			if (!entry_read(raw + i, seg, &e[nr]))
				goto out; /* the first that was not written ends them */
			nr++;
		}
	}
out:
	free(raw);
	if (r < 0) {
		free(e);
		return (int)r;
	}
	*out = e;
	*out_nr = nr;
	return 0;
}

/* Its capacity, or -EBADMSG. */
static int64_t header_read(int fd, uint64_t seq)
{
	uint8_t *p = aligned_alloc(SSD_PAGE, HEADER_BYTES);
	int64_t r = p ? read_pages(fd, p, HEADER_BYTES, 0) : -ENOMEM;

	if (r >= 0) {
		uint32_t cap = get_le32(p, 12);

		r = cap;
		if (memcmp(p, MAGIC, 8) || get_le32(p, 8) != VERSION || get_le64(p, 16) != seq ||
		    get_le64(p, 24) != hash_xxh3(p, 24) || !cap || cap > ENTRIES_MAX)
			r = -EBADMSG;
	}
	free(p);
	return r;
}

int ssd_segment_load(struct ssd *s, uint64_t seq, struct ssd_segment **out, struct ssd_entry **e,
		     uint32_t *nr)
{
	struct ssd_segment *seg;
	uint32_t kept = 0;
	struct stat st;
	int fd = segment_open(s, seq, 0);
	int64_t cap;
	int r;

	if (fd < 0)
		return fd;
	cap = header_read(fd, seq);
	if (cap >= 0 && fstat(fd, &st) < 0)
		cap = -errno;
	if (cap < 0) {
		close(fd);
		return (int)cap;
	}
	seg = segment_new(seq, (uint32_t)cap, fd);
	if (!seg) {
		close(fd);
		return -ENOMEM;
	}
	r = ssd_segment_entries(seg, e, &seg->nr);
	if (r) {
		close(fd);
		free(seg);
		return r;
	}
	for (uint32_t i = 0; i < seg->nr; i++)
		if ((uint64_t)(*e)[i].off + (*e)[i].len <= (uint64_t)st.st_size)
			(*e)[kept++] = (*e)[i];
	*nr = kept;
	/* What its index does not name takes room too. */
	seg->end = MAX(seg->end, ROUND_UP((uint64_t)st.st_size, SSD_PAGE));
	seg->bytes = ssd_segment_bytes(seg);
	*out = seg;
	return 0;
}

int ssd_segment_read(const struct ssd_segment *seg, uint32_t off, uint32_t len, void **mem,
		     const uint8_t **data)
{
	uint64_t from = ROUND_DOWN((uint64_t)off, SSD_PAGE);
	size_t want = ROUND_UP((uint64_t)off + len, SSD_PAGE) - from;
	int64_t r;

	*mem = aligned_alloc(SSD_PAGE, want);
	if (!*mem)
		return -ENOMEM;
	r = read_pages(seg->fd, *mem, want, from);
	if (r >= 0 && (uint64_t)r < (uint64_t)off + len - from)
		r = -ENODATA;
	if (r < 0) {
		free(*mem);
		return (int)r;
	}
	*data = (uint8_t *)*mem + (off - from);
	return 0;
}

void ssd_segment_unlink(const struct ssd *s, uint64_t seq)
{
	char name[32];

	ssd_segment_name(seq, name);
	unlinkat(s->cfg.dirfd, name, 0);
}

struct ssd_segment *ssd_segment_get(struct ssd_segment *seg)
{
	seg->refs++;
	return seg;
}

void ssd_segment_put(struct ssd *s, struct ssd_segment *seg)
{
	int refs;

	pthread_mutex_lock(&s->lock);
	refs = --seg->refs;
	pthread_mutex_unlock(&s->lock);
	if (refs)
		return;
	close(seg->fd);
	free(seg->index_tail);
	free(seg);
}
