// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log of a layer: which sectors a completed FLUSH made durable. Batches of granule images are
 * appended; the last image of a granule wins. Format: Documentation/formats.rst.
 *
 * Invariants (storage rule 2):
 *   - an image is taken before the fdatasync of the data, and only of sectors whose write
 * completed;
 *   - a batch carries a tag made of (uuid, generation, sequence), a running number and a checksum,
 * so that recycled bytes of another layer or of a torn append never parse as a batch;
 *   - space is allocated before a sector may become valid, so an append cannot fail with ENOSPC.
 *
 * One caller at a time: the volume's flush round, or whoever opens the layer.
 */
#include "engine/layer_priv.h"

#include "lib/fsutil.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOG_MAGIC   "GFSLOG01"
#define LOG_VERSION 1u
#define LOG_HEADER  4096u
#define BATCH_MAGIC 0x42464c47u /* "GLFB" */
#define LOG_STEP    (1 * MiB)
#define LOG_FIRST   (1 * MiB)
/*
 * Granules that requests in flight may dirty between their look at layer_log_room() and the
 * look of others: 1024 concurrent writes of 512 KiB, the most that one
 * device's queues can hold.
 */
#define LOG_SLACK (512 * KiB)

struct log_header {
	char magic[8];
	uint32_t version, header_bytes;
	uint8_t uuid[16];
	uint64_t generation, seq, size_bytes;
	uint64_t checksum; /* XXH3 of the bytes before */
};

struct log_batch {
	uint32_t magic, nr;
	uint64_t number;   /* 1, 2, 3, … */
	uint64_t tag;      /* of this layer */
	uint64_t checksum; /* XXH3 of header (with this 0) and records */
};

struct log_record {
	uint64_t granule;
	uint16_t words[GRANULE_WORDS];
};

_Static_assert(sizeof(struct log_header) == 64, "log header layout");
_Static_assert(sizeof(struct log_batch) == 32, "log batch layout");
_Static_assert(sizeof(struct log_record) == 72, "log record layout");

static uint64_t log_tag(const struct layer *l)
{
	struct {
		uint8_t uuid[16];
		uint64_t generation, seq;
	} id;

	memcpy(id.uuid, l->uuid, 16);
	id.generation = l->generation;
	id.seq = l->seq;
	return hash_xxh3(&id, sizeof(id));
}

static uint64_t batch_sum(void *batch, size_t len)
{
	struct log_batch *b = batch;
	uint64_t keep = b->checksum, sum;

	b->checksum = 0;
	sum = hash_xxh3(batch, len);
	b->checksum = keep;
	return sum;
}

int layer_log_init(struct layer *l)
{
	char page[LOG_HEADER] = {0};
	struct log_header *h = (struct log_header *)page;
	int r = disk_fault(DISK_LOG_WRITE, l->seq);

	if (r)
		return r;
	r = -posix_fallocate(l->log_fd, 0, LOG_FIRST);
	if (r)
		return r;
	memcpy(h->magic, LOG_MAGIC, 8);
	h->version = LOG_VERSION;
	h->header_bytes = LOG_HEADER;
	memcpy(h->uuid, l->uuid, 16);
	h->generation = l->generation;
	h->seq = l->seq;
	h->size_bytes = l->size_bytes;
	h->checksum = hash_xxh3(h, offsetof(struct log_header, checksum));
	r = pwrite_full(l->log_fd, page, sizeof(page), 0);
	if (!r)
		r = disk_fault(DISK_LOG_FSYNC, l->seq);
	if (!r && fsync(l->log_fd) < 0)
		r = -errno;
	l->log_pos = LOG_HEADER;
	l->log_cap = LOG_FIRST;
	return r;
}

int layer_log_check(struct layer *l, struct fmt_err *e)
{
	struct log_header h;
	struct stat st;
	int r = pread_full(l->log_fd, &h, sizeof(h), 0);

	/* The header is synced before a layer is used: an empty one never held a write. */
	if (r == -ENODATA) {
		memset(&h, 0, sizeof(h));
		r = 0;
	}
	if (r) {
		snprintf(e->msg, sizeof(e->msg), "layer %llu: log header unreadable: %s",
			 (unsigned long long)l->seq, strerror(-r));
		return r;
	}
	if (!memcmp(&h, &(struct log_header){0}, sizeof(h))) {
		snprintf(e->msg, sizeof(e->msg), "layer %llu: creation was cut short",
			 (unsigned long long)l->seq);
		return -ENOENT;
	}
	if (memcmp(h.magic, LOG_MAGIC, 8)) {
		snprintf(e->msg, sizeof(e->msg), "layer %llu: not a layer log",
			 (unsigned long long)l->seq);
		return -EBADMSG;
	}
	if (h.version > LOG_VERSION) {
		snprintf(e->msg, sizeof(e->msg),
			 "layer %llu: log format %u is newer than this program's %u",
			 (unsigned long long)l->seq, h.version, LOG_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (h.version != LOG_VERSION || h.header_bytes != LOG_HEADER ||
	    h.checksum != hash_xxh3(&h, offsetof(struct log_header, checksum))) {
		snprintf(e->msg, sizeof(e->msg), "layer %llu: log header is corrupt",
			 (unsigned long long)l->seq);
		return -EBADMSG;
	}
	if (memcmp(h.uuid, l->uuid, 16) || h.generation != l->generation || h.seq != l->seq ||
	    h.size_bytes > l->size_bytes || !h.size_bytes) {
		snprintf(e->msg, sizeof(e->msg),
			 "layer %llu: log belongs to generation %llu, layer %llu, %llu bytes",
			 (unsigned long long)l->seq, (unsigned long long)h.generation,
			 (unsigned long long)h.seq, (unsigned long long)h.size_bytes);
		return -ESTALE;
	}
	if (fstat(l->log_fd, &st) < 0)
		return -errno;
	l->size_bytes = h.size_bytes;
	l->log_cap = (uint64_t)st.st_size;
	return 0;
}

static int replay_batch(struct layer *l, const struct log_batch *b, const struct log_record *rec,
			bool apply)
{
	uint64_t granules = DIV_ROUND_UP(l->size_bytes, GRANULE_BYTES);
	uint64_t words = DIV_ROUND_UP(l->size_bytes, MAP_SECTOR);

	for (uint32_t i = 0; i < b->nr; i++) {
		uint64_t first = rec[i].granule * GRANULE_WORDS;
		uint64_t n;
		int r;

		if (rec[i].granule >= granules)
			return -EBADMSG;
		n = MIN(GRANULE_WORDS, words - first);
		if (!apply) {
			/* What was valid once stays so: absent never comes back. */
			for (uint64_t w = 0; w < n; w++)
				if (~WORD_ABSENT(rec[i].words[w]) & WORD_ABSENT(l->map[first + w]) &
				    0xff)
					return -ESTALE;
			continue;
		}
		/* Allocate the map before touching it: a fault on a full disk would be SIGBUS. */
		r = layer_reserve(l, rec[i].granule * (GRANULE_BYTES / SECTOR_SIZE), 1);
		if (r)
			return r;
		memcpy(&l->map[first], rec[i].words, n * sizeof(uint16_t));
	}
	return 0;
}

int layer_log_replay(struct layer *l, bool apply, struct fmt_err *e)
{
	uint64_t tag = log_tag(l), pos = LOG_HEADER, number = 0;
	int r = 0;

	for (;;) {
		struct log_batch head;
		__cleanup_free char *buf = NULL;
		size_t len;

		if (pos + sizeof(head) > l->log_cap)
			break;
		r = pread_full(l->log_fd, &head, sizeof(head), pos);
		if (r)
			break;
		if (head.magic != BATCH_MAGIC || head.tag != tag || head.number != number + 1 ||
		    !head.nr)
			break;
		len = sizeof(head) + (size_t)head.nr * sizeof(struct log_record);
		if (len > l->log_cap - pos)
			break;
		buf = malloc(len);
		if (!buf) {
			r = -ENOMEM;
			break;
		}
		r = pread_full(l->log_fd, buf, len, pos);
		if (r)
			break;
		if (batch_sum(buf, len) != head.checksum)
			break;
		r = replay_batch(l, &head, (struct log_record *)(buf + sizeof(head)), apply);
		if (r)
			break;
		number++;
		pos += len;
	}
	if (r == -ENODATA)
		r = 0; /* a file shorter than announced: the log ends there */
	if (r == -ESTALE)
		snprintf(e->msg, sizeof(e->msg),
			 "layer %llu: its map lacks sectors that the log at byte %llu says were "
			 "flushed: "
			 "the local disk lost a part of it",
			 (unsigned long long)l->seq, (unsigned long long)pos);
	else if (r)
		snprintf(e->msg, sizeof(e->msg), "layer %llu: log replay at byte %llu: %s",
			 (unsigned long long)l->seq, (unsigned long long)pos, strerror(-r));
	l->log_pos = pos;
	l->log_batch = number;
	return r;
}

bool layer_log_room(const struct layer *l)
{
	uint64_t need =
		__atomic_load_n(&l->dirty_granules, __ATOMIC_RELAXED) * sizeof(struct log_record) +
		2 * sizeof(struct log_batch) + LOG_SLACK;

	return __atomic_load_n(&l->log_pos, __ATOMIC_RELAXED) + need <=
	       __atomic_load_n(&l->log_cap, __ATOMIC_RELAXED);
}

int layer_log_extend(struct layer *l)
{
	while (!layer_log_room(l)) {
		uint64_t cap = l->log_cap;
		int r = -posix_fallocate(l->log_fd, (off_t)cap, LOG_STEP);

		if (r)
			return r;
		__atomic_store_n(&l->log_cap, cap + LOG_STEP, __ATOMIC_RELAXED);
	}
	return 0;
}

bool layer_log_pending(const struct layer *l)
{
	for (size_t i = 0; i < l->dirty_len[2]; i++)
		if (__atomic_load_n(&l->dirty[2][i], __ATOMIC_SEQ_CST))
			return true;
	return false;
}

/* Append the image of a granule to the batch under construction, growing it as needed. */
static int batch_add(struct layer *l, uint64_t granule, char **buf, size_t *len, size_t *cap)
{
	struct log_record *rec;
	uint64_t first = granule * GRANULE_WORDS;
	uint64_t n = MIN(GRANULE_WORDS, DIV_ROUND_UP(l->size_bytes, MAP_SECTOR) - first);

	if (*len + sizeof(*rec) > *cap) {
		size_t want = MAX((size_t)4096, *cap * 2);
		char *p = realloc(*buf, want);

		if (!p)
			return -ENOMEM;
		*buf = p;
		*cap = want;
	}
	rec = (struct log_record *)(*buf + *len);
	memset(rec, 0, sizeof(*rec));
	rec->granule = granule;
	for (uint64_t i = 0; i < n; i++)
		rec->words[i] = __atomic_load_n(&l->map[first + i], __ATOMIC_SEQ_CST);
	*len += sizeof(*rec);
	return 0;
}

int layer_log_collect(struct layer *l, void **out, size_t *out_len)
{
	char *buf = NULL;
	size_t len = sizeof(struct log_batch), cap = 0;
	struct log_batch *b;
	int r = 0;

	*out = NULL;
	*out_len = 0;
	buf = malloc(4096);
	if (!buf)
		return -ENOMEM;
	cap = 4096;
	/* From the top down, each word taken whole; see layer_granule_dirty() for why that is safe.
	 */
	for (size_t i2 = 0; i2 < l->dirty_len[2]; i2++) {
		uint64_t w2 = __atomic_load_n(&l->dirty[2][i2], __ATOMIC_SEQ_CST);

		if (w2)
			w2 = __atomic_exchange_n(&l->dirty[2][i2], 0, __ATOMIC_SEQ_CST);
		for (; w2; w2 &= w2 - 1) {
			size_t i1 = i2 * 64 + (size_t)__builtin_ctzll(w2);
			uint64_t w1 = __atomic_exchange_n(&l->dirty[1][i1], 0, __ATOMIC_SEQ_CST);

			for (; w1; w1 &= w1 - 1) {
				size_t i0 = i1 * 64 + (size_t)__builtin_ctzll(w1);
				uint64_t w0 =
					__atomic_exchange_n(&l->dirty[0][i0], 0, __ATOMIC_SEQ_CST);

				for (; w0; w0 &= w0 - 1) {
					r = batch_add(l, i0 * 64 + (size_t)__builtin_ctzll(w0),
						      &buf, &len, &cap);
					if (r)
						goto err;
				}
			}
		}
	}
	b = (struct log_batch *)buf;
	memset(b, 0, sizeof(*b));
	b->nr = (uint32_t)((len - sizeof(*b)) / sizeof(struct log_record));
	if (!b->nr) {
		free(buf);
		return 0;
	}
	b->magic = BATCH_MAGIC;
	b->number = l->log_batch + 1;
	b->tag = log_tag(l);
	b->checksum = batch_sum(buf, len);
	*out = buf;
	*out_len = len;
	return 0;
err:
	/* Bits were taken and are lost to later rounds: the caller poisons the layer. */
	free(buf);
	return r;
}

void layer_log_commit(struct layer *l, size_t len)
{
	uint64_t nr = (len - sizeof(struct log_batch)) / sizeof(struct log_record);

	/* Position first: layer_log_room() may count the bytes twice meanwhile, never not at all.
	 */
	__atomic_add_fetch(&l->log_pos, len, __ATOMIC_SEQ_CST);
	__atomic_sub_fetch(&l->dirty_granules, nr, __ATOMIC_SEQ_CST);
	l->log_batch++;
}

int layer_sync(struct layer *l)
{
	__cleanup_free void *buf = NULL;
	size_t len = 0;
	int r = __atomic_load_n(&l->poisoned, __ATOMIC_ACQUIRE);

	if (r)
		return r;
	__atomic_store_n(&l->unsynced, 0, __ATOMIC_SEQ_CST);
	r = layer_log_collect(l, &buf, &len);
	if (!r)
		r = disk_fault(DISK_FSYNC, l->seq);
	if (!r && fdatasync(l->data_fd) < 0)
		r = -errno;
	if (!r && len) {
		r = disk_fault(DISK_LOG_WRITE, l->seq);
		if (!r)
			r = pwrite_full(l->log_fd, buf, len, l->log_pos);
		if (!r)
			r = disk_fault(DISK_LOG_FSYNC, l->seq);
		if (!r && fdatasync(l->log_fd) < 0)
			r = -errno;
		if (!r)
			layer_log_commit(l, len);
	}
	if (r)
		layer_poison(l, r);
	return r;
}
