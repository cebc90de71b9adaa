// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Layer files: creation, opening, and the shared validity map; see layer.h. The log (what a FLUSH
 * made durable) is in layer_log.c. Formats: Documentation/formats.rst.
 *
 * Marking is lock-free and may run on any number of workers at once; everything else of one layer
 * has one caller at a time, as the comments in layer.h say.
 */
#include "engine/layer_priv.h"

#include "lib/fsutil.h"
#include "lib/log.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int (*disk_fault_hook)(enum disk_op op, uint64_t layer_seq);

#define MAP_MAGIC   "GFSMAP01"
#define MAP_VERSION 1u
#define MAP_HEADER  4096u
/* Map words of one chunk: the unit in which the map is allocated on disk. */
#define CHUNK_WORDS     (CHUNK_BYTES / MAP_SECTOR)
#define CHUNK_MAP_BYTES (CHUNK_WORDS * sizeof(uint16_t))
#define CHUNK_SECTORS   (CHUNK_BYTES / SECTOR_SIZE)
#define WORD_SECTORS    (MAP_SECTOR / SECTOR_SIZE)

/* First page of layer-SEQ.map. `poisoned` and what follows the checksum change after creation. */
struct map_header {
	char magic[8];
	uint32_t version;
	int32_t poisoned; /* negative errno; outlives the process (storage rule 3) */
	uint8_t uuid[16];
	uint64_t generation, seq, size_bytes;
	char boot_id[40];
	uint64_t checksum; /* XXH3 of the bytes before, with poisoned 0 */
	/* Wall clock of the first change, 0 = clean or unknown; for the age after a restart. */
	uint64_t first_dirty_wall_ns;
};

static void layer_name(char out[64], uint64_t seq, const char *suffix)
{
	snprintf(out, 64, "layer-%020llu.%s", (unsigned long long)seq, suffix);
}

static uint64_t map_header_sum(const struct map_header *h)
{
	struct map_header t = *h;

	t.poisoned = 0;
	return hash_xxh3(&t, offsetof(struct map_header, checksum));
}

static uint64_t layer_chunks(const struct layer *l)
{
	return DIV_ROUND_UP(l->size_bytes, CHUNK_BYTES);
}

static uint64_t layer_words(const struct layer *l)
{
	return DIV_ROUND_UP(l->size_bytes, MAP_SECTOR);
}

static size_t chunk_bitmap_bytes(const struct layer *l)
{
	return ROUND_UP(DIV_ROUND_UP(layer_chunks(l), 64) * 8, 4096);
}

static uint64_t words_offset(const struct layer *l)
{
	return MAP_HEADER + chunk_bitmap_bytes(l);
}

static void *anon_map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static struct layer *layer_alloc(int dirfd, const uint8_t uuid[16], uint64_t generation,
				 uint64_t seq, uint64_t size_bytes)
{
	struct layer *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->refs = 1;
	memcpy(l->uuid, uuid, 16);
	l->generation = generation;
	l->seq = seq;
	l->size_bytes = size_bytes;
	l->dirfd = dirfd;
	l->data_fd = l->log_fd = l->map_fd = -1;
	return l;
}

/* The bitmaps of changed granules, once the size is known. */
static int dirty_alloc(struct layer *l)
{
	uint64_t n = DIV_ROUND_UP(l->size_bytes, GRANULE_BYTES);

	for (int i = 0; i < 3; i++) {
		n = DIV_ROUND_UP(n, 64);
		l->dirty_len[i] = n;
		l->dirty[i] = anon_map(n * 8);
		if (!l->dirty[i])
			return -ENOMEM;
	}
	return 0;
}

struct layer *layer_get(struct layer *l)
{
	__atomic_add_fetch(&l->refs, 1, __ATOMIC_RELAXED);
	return l;
}

void layer_put(struct layer *l)
{
	if (!l || __atomic_sub_fetch(&l->refs, 1, __ATOMIC_ACQ_REL))
		return;
	for (int i = 0; i < 3; i++)
		if (l->dirty[i])
			munmap(l->dirty[i], l->dirty_len[i] * 8);
	if (l->map_base)
		munmap(l->map_base, l->map_len);
	if (l->data_fd >= 0)
		close(l->data_fd);
	if (l->log_fd >= 0)
		close(l->log_fd);
	if (l->map_fd >= 0)
		close(l->map_fd);
	free(l);
}

/*
 * O_DIRECT where the file takes 512-byte-aligned transfers, so that the page cache holds nothing
 * twice and reclaim never waits for our own dirty pages. Elsewhere (4 KiB-native disks, file
 * systems without it) all I/O of the layer is buffered: the page lock then serialises the
 * read-modify-write of a sector (storage rule 4). The two are never mixed on one file.
 */
static int data_open(struct layer *l, const char *name, int flags)
{
	struct statx sx;
	int fd = openat(l->dirfd, name, flags | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);

	l->direct = false;
	if (fd >= 0) {
#ifdef STATX_DIOALIGN
		if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) &&
		    (sx.stx_mask & STATX_DIOALIGN) && sx.stx_dio_offset_align &&
		    sx.stx_dio_offset_align <= SECTOR_SIZE) {
			l->direct = true;
			return fd;
		}
#else
		(void)sx;
#endif
		close(fd);
		flags &= ~O_EXCL;
	} else if (errno != EINVAL) {
		return -errno;
	}
	fd = openat(l->dirfd, name, (flags & ~(O_EXCL | O_DIRECT)) | O_RDWR | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int map_attach(struct layer *l)
{
	l->map_len = words_offset(l) + layer_words(l) * sizeof(uint16_t);
	l->map_base = mmap(NULL, l->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, l->map_fd, 0);
	if (l->map_base == MAP_FAILED) {
		l->map_base = NULL;
		return -errno;
	}
	/* Random access: read-ahead of the map file would only waste memory. */
	madvise(l->map_base, l->map_len, MADV_RANDOM);
	l->chunk_used = (uint64_t *)((char *)l->map_base + MAP_HEADER);
	l->map = (uint16_t *)((char *)l->map_base + words_offset(l));
	return 0;
}

/* Size the map file and allocate its fixed part, so that touching that cannot fail later. */
static int map_prepare(struct layer *l)
{
	int r = disk_fault(DISK_FALLOCATE, l->seq);

	if (r)
		return r;
	if (ftruncate(l->map_fd, (off_t)(words_offset(l) + layer_words(l) * 2)) < 0)
		return -errno;
	r = posix_fallocate(l->map_fd, 0, (off_t)words_offset(l));
	return -r;
}

static void map_header_write(struct layer *l)
{
	struct map_header *h = l->map_base;

	memset(h, 0, sizeof(*h));
	memcpy(h->uuid, l->uuid, 16);
	h->version = MAP_VERSION;
	h->generation = l->generation;
	h->seq = l->seq;
	h->size_bytes = l->size_bytes;
	if (boot_id_read(h->boot_id))
		memset(h->boot_id, 0, sizeof(h->boot_id)); /* never equal: never trusted */
	memcpy(h->magic, MAP_MAGIC, 8);
	h->checksum = map_header_sum(h);
}

/* Is the map of this boot, and this layer's? Then it holds every acknowledged write. */
static bool map_trusted(const struct layer *l)
{
	const struct map_header *h = l->map_base;
	char boot_id[37];

	return !memcmp(h->magic, MAP_MAGIC, 8) && h->version == MAP_VERSION &&
	       h->checksum == map_header_sum(h) && !memcmp(h->uuid, l->uuid, 16) &&
	       h->generation == l->generation && h->seq == l->seq &&
	       h->size_bytes == l->size_bytes && !boot_id_read(boot_id) &&
	       !strncmp(h->boot_id, boot_id, sizeof(h->boot_id));
}

/* Start over with an empty map, to be filled from the log. */
static int map_reset(struct layer *l)
{
	int r;

	if (l->map_base)
		munmap(l->map_base, l->map_len);
	l->map_base = NULL;
	if (ftruncate(l->map_fd, 0) < 0)
		return -errno;
	r = map_prepare(l);
	return r ? r : map_attach(l);
}

void layer_poison(struct layer *l, int err)
{
	int none = 0;

	if (!__atomic_compare_exchange_n(&l->poisoned, &none, err, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		return;
	/*
	 * By a system call, not through the mapping: on a file system that failed that would be
	 * SIGBUS. If it fails here too, a restart finds the layer unreadable.
	 */
	if (pwrite(l->map_fd, &err, sizeof(err), offsetof(struct map_header, poisoned)) < 0)
		log_err("layer %llu: cannot note that it is poisoned: %s",
			(unsigned long long)l->seq, strerror(errno));
}

int layer_create(int dirfd, const uint8_t uuid[16], uint64_t generation, uint64_t seq,
		 uint64_t size_bytes, struct layer **out)
{
	struct layer *l = layer_alloc(dirfd, uuid, generation, seq, size_bytes);
	char data[64], map[64], log[64];
	int r;

	if (!l)
		return -ENOMEM;
	layer_name(data, seq, "data");
	layer_name(map, seq, "map");
	layer_name(log, seq, "log");
	r = dirty_alloc(l);
	if (!r)
		r = disk_fault(DISK_CREATE, seq);
	if (r)
		goto err;
	/* Leftovers of a creation that was cut short carry no acknowledged write. */
	unlinkat(dirfd, map, 0);
	unlinkat(dirfd, log, 0);
	unlinkat(dirfd, data, 0);
	l->data_fd = data_open(l, data, O_CREAT | O_EXCL);
	if (l->data_fd < 0) {
		r = l->data_fd;
		goto err_unlink;
	}
	if (ftruncate(l->data_fd, (off_t)ROUND_UP(size_bytes, MAP_SECTOR)) < 0) {
		r = -errno;
		goto err_unlink;
	}
	l->map_fd = openat(dirfd, map, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (l->map_fd < 0) {
		r = -errno;
		goto err_unlink;
	}
	r = map_prepare(l);
	if (!r)
		r = map_attach(l);
	if (r)
		goto err_unlink;
	map_header_write(l);
	/* The log comes last: a layer exists if and only if its log has a valid header. */
	l->log_fd = openat(dirfd, log, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (l->log_fd < 0) {
		r = -errno;
		goto err_unlink;
	}
	r = layer_log_init(l);
	if (!r)
		r = disk_fault(DISK_FSYNC, seq);
	if (!r && fsync(l->data_fd) < 0)
		r = -errno;
	if (!r)
		r = dir_sync(dirfd);
	if (r)
		goto err_unlink;
	*out = l;
	return 0;
err_unlink:
	unlinkat(dirfd, log, 0);
	unlinkat(dirfd, map, 0);
	unlinkat(dirfd, data, 0);
err:
	layer_put(l);
	return r;
}

static void account_words(struct layer *l, uint64_t first, uint64_t nr)
{
	for (uint64_t i = first; i < first + nr; i++) {
		uint16_t w = l->map[i];

		if (!w)
			continue;
		l->data_bytes += (uint64_t)__builtin_popcount(w & 0xff) * SECTOR_SIZE;
		l->touched = 1;
		/* What the log lacks is not known after a restart: log it all again at the next
		 * FLUSH. */
		layer_granule_dirty(l, i / GRANULE_WORDS);
	}
}

/* As old as the map says; a map that was rebuilt does not say. */
static void first_dirty_restore(struct layer *l)
{
	struct map_header *h = l->map_base;
	uint64_t now = now_ns(), wall = wall_ns(), then = h->first_dirty_wall_ns;
	uint64_t age = then && wall > then ? wall - then : 0;

	l->first_dirty_ns = now > age ? now - age : 1;
	if (!then)
		h->first_dirty_wall_ns = wall;
}

void layer_first_dirty(struct layer *l, uint64_t now)
{
	struct map_header *h = l->map_base;

	__atomic_store_n(&h->first_dirty_wall_ns, wall_ns(), __ATOMIC_RELAXED);
	__atomic_store_n(&l->first_dirty_ns, now, __ATOMIC_RELAXED);
}

int layer_open(int dirfd, const uint8_t uuid[16], uint64_t generation, uint64_t seq,
	       uint64_t size_bytes, struct layer **out, struct fmt_err *e)
{
	struct layer *l = layer_alloc(dirfd, uuid, generation, seq, size_bytes);
	char data[64], map[64], log[64];
	bool trusted = false, damaged = false;
	struct stat st;
	int r;

	if (!l)
		return -ENOMEM;
	layer_name(data, seq, "data");
	layer_name(map, seq, "map");
	layer_name(log, seq, "log");
	l->log_fd = openat(dirfd, log, O_RDWR | O_CLOEXEC);
	if (l->log_fd < 0) {
		r = -errno;
		snprintf(e->msg, sizeof(e->msg), "%s: %s", log, strerror(-r));
		goto err;
	}
	r = layer_log_check(l, e);
	if (!r)
		r = dirty_alloc(l);
	if (r)
		goto err;
	size_bytes = l->size_bytes;
	l->data_fd = data_open(l, data, 0);
	if (l->data_fd < 0) {
		r = l->data_fd == -ENOENT ? -EUCLEAN : l->data_fd;
		snprintf(e->msg, sizeof(e->msg), "%s: %s", data, strerror(-r));
		goto err;
	}
	if (fstat(l->data_fd, &st) < 0 ||
	    (uint64_t)st.st_size != ROUND_UP(size_bytes, MAP_SECTOR)) {
		r = -EBADMSG;
		snprintf(e->msg, sizeof(e->msg), "%s: %lld bytes, expected %llu", data,
			 (long long)st.st_size,
			 (unsigned long long)ROUND_UP(size_bytes, MAP_SECTOR));
		goto err;
	}
	l->map_fd = openat(dirfd, map, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	if (l->map_fd < 0 || fstat(l->map_fd, &st) < 0) {
		r = -errno;
		snprintf(e->msg, sizeof(e->msg), "%s: %s", map, strerror(-r));
		goto err;
	}
	if ((uint64_t)st.st_size == words_offset(l) + layer_words(l) * 2) {
		r = map_attach(l);
		if (r)
			goto err_map;
		trusted = map_trusted(l);
	}
	if (!trusted) {
		r = map_reset(l);
		if (r)
			goto err_map;
	}
	/* Finds the end of the log either way; fills the map from it when that is not trusted. */
	r = layer_log_replay(l, !trusted, e);
	if (r == -ESTALE) {
		/* A map of this boot that lacks what was flushed: the disk lost a part of it. */
		log_err("%s", e->msg);
		r = map_reset(l);
		if (!r)
			r = layer_log_replay(l, true, e);
		damaged = true;
		trusted = false;
	}
	if (r)
		goto err;
	for (uint64_t c = 0; c < layer_chunks(l); c++)
		if (layer_chunk_used(l, c))
			account_words(l, c * CHUNK_WORDS,
				      MIN(CHUNK_WORDS, layer_words(l) - c * CHUNK_WORDS));
	if (trusted) {
		l->poisoned = ((struct map_header *)l->map_base)->poisoned;
		l->unsynced = 1;
	} else {
		/* Last: only a complete map may be believed by the next start of this boot. */
		map_header_write(l);
		if (damaged)
			layer_poison(l, -EIO);
	}
	if (l->touched)
		first_dirty_restore(l);
	/* The log must have room for all of it before the first guest write. */
	r = layer_reserve(l, 0, 0);
	if (r) {
		snprintf(e->msg, sizeof(e->msg), "%s: no space for the log: %s", log, strerror(-r));
		goto err;
	}
	*out = l;
	return 0;
err_map:
	snprintf(e->msg, sizeof(e->msg), "%s: %s", map, strerror(-r));
err:
	layer_put(l);
	return r;
}

int layer_unlink(int dirfd, uint64_t seq)
{
	/* The log last: it is what names the layer, so an interrupted removal is found again. */
	static const char *const suffix[] = {"data", "map", "log"};
	int r = disk_fault(DISK_UNLINK, seq);

	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(suffix); i++) {
		char name[64];

		layer_name(name, seq, suffix[i]);
		if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
			return -errno;
	}
	return dir_sync(dirfd);
}

bool layer_ready(const struct layer *l, uint64_t sector, uint32_t nsectors)
{
	uint64_t first = sector / CHUNK_SECTORS,
		 last = (sector + MAX(nsectors, 1u) - 1) / CHUNK_SECTORS;

	for (uint64_t c = first; c <= last; c++)
		if (!layer_chunk_used(l, c))
			return false;
	return layer_log_room(l);
}

int layer_reserve(struct layer *l, uint64_t sector, uint32_t nsectors)
{
	uint64_t first = sector / CHUNK_SECTORS, last;
	int r = disk_fault(DISK_FALLOCATE, l->seq);

	if (!r)
		r = layer_log_extend(l);
	if (r || !nsectors)
		return r;
	last = (sector + nsectors - 1) / CHUNK_SECTORS;
	for (uint64_t c = first; c <= last; c++) {
		uint64_t off = words_offset(l) + c * CHUNK_MAP_BYTES;
		uint64_t len = MIN(CHUNK_MAP_BYTES, l->map_len - off);

		if (layer_chunk_used(l, c))
			continue;
		r = -posix_fallocate(l->map_fd, (off_t)off, (off_t)len);
		if (r)
			return r;
		__atomic_or_fetch(&l->chunk_used[c / 64], 1ull << (c % 64), __ATOMIC_RELEASE);
	}
	return 0;
}

void layer_reserve_like(struct layer *l, const struct layer *other, unsigned int max_chunks)
{
	for (uint64_t c = 0; c < layer_chunks(other) && max_chunks; c++) {
		if (!layer_chunk_used(other, c))
			continue;
		if (layer_reserve(l, c * CHUNK_SECTORS, 1))
			return;
		max_chunks--;
	}
}

void layer_granule_dirty(struct layer *l, uint64_t granule)
{
	uint64_t i = granule;

	/*
	 * All three levels are looked at even when the lowest bit is set already: another marker
	 * may have set it and not yet come to the summaries, and our write is acknowledged next.
	 * The map word was changed by a full-barrier operation before; the collector clears from
	 * the top and reads words last, so a bit found set here is one the collector has yet to
	 * take.
	 */
	for (int level = 0; level < 3; level++) {
		uint64_t bit = 1ull << (i % 64);
		uint64_t *word = &l->dirty[level][i / 64];

		i /= 64;
		if (__atomic_load_n(word, __ATOMIC_SEQ_CST) & bit)
			continue;
		/* Counted before it can be collected: the count is never short. */
		if (level == 0)
			__atomic_add_fetch(&l->dirty_granules, 1, __ATOMIC_SEQ_CST);
		if ((__atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST) & bit) && level == 0)
			__atomic_sub_fetch(&l->dirty_granules, 1, __ATOMIC_SEQ_CST);
	}
}

/* Set the bits of `mask` in one word; returns the change in data sectors, and whether it changed.
 */
static int word_mark(uint16_t *word, uint8_t mask, bool zero, bool *changed)
{
	uint16_t old = __atomic_load_n(word, __ATOMIC_SEQ_CST), new;

	do {
		if (zero)
			new = (uint16_t)((old & ~mask) | (uint16_t)(mask << 8));
		else
			new = (uint16_t)((old | mask) & ~(uint16_t)(mask << 8));
		if (new == old)
			return 0;
	} while (!__atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	*changed = true;
	return __builtin_popcount(new & 0xff) - __builtin_popcount(old & 0xff);
}

int64_t layer_mark(struct layer *l, uint64_t sector, uint32_t nsectors, bool zero)
{
	uint64_t end = sector + nsectors;
	int64_t delta = 0;

	while (sector < end) {
		uint64_t granule = sector / (GRANULE_WORDS * WORD_SECTORS);
		uint64_t granule_end = MIN(end, (granule + 1) * GRANULE_WORDS * WORD_SECTORS);
		bool changed = false;

		while (sector < granule_end) {
			unsigned int bit = (unsigned int)(sector % WORD_SECTORS);
			unsigned int n =
				(unsigned int)MIN(WORD_SECTORS - bit, granule_end - sector);
			uint8_t mask = (uint8_t)(((1u << n) - 1) << bit);

			delta += word_mark(&l->map[sector / WORD_SECTORS], mask, zero, &changed);
			sector += n;
		}
		if (changed)
			layer_granule_dirty(l, granule);
	}
	delta *= SECTOR_SIZE;
	if (delta)
		__atomic_add_fetch(&l->data_bytes, (uint64_t)delta, __ATOMIC_RELAXED);
	return delta;
}

int layer_read(struct layer *l, uint64_t sector, uint32_t nsectors, void *buf)
{
	int r = disk_fault(DISK_READ, l->seq);

	return r ? r
		 : pread_full(l->data_fd, buf, (size_t)nsectors * SECTOR_SIZE,
			      sector * SECTOR_SIZE);
}
