// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The manifest: which packs hold the blocks of each chunk. Immutable in memory once built; the
 * reference count is the only field that changes, atomically. Pure functions, any thread.
 */
#include "engine/wire.h"

#include <sys/mman.h>

#define MAGIC       "GFSMANIF"
#define VERSION     1
#define HEAD_BYTES  80
#define ENTRY_BYTES 72
#define MAPPED_MIN  (64 * KiB) /* smaller ones are malloc'ed */

/* Offsets within the header and within an entry; Documentation/formats.rst has the same tables. */
enum {
	H_VERSION = 8,
	H_HEAD_BYTES = 12,
	H_UUID = 16,
	H_SIZE = 32,
	H_SEQUENCE = 40,
	H_BLOCK_BYTES = 48,
	H_NR = 52,
	H_ENTRY_BYTES = 56,
	H_RESERVED = 60,
	H_BODY_SUM = 64,
	H_HEAD_SUM = 72,
	E_CHUNK = 0,
	E_NBLOCKS = 4,
	E_PACK_ID = 8,
	E_INDEX_OFF = 24,
	E_INDEX_LEN = 32,
	E_RESERVED = 36,
	E_INDEX_SHA256 = 40,
};

_Static_assert(H_HEAD_SUM + 8 == HEAD_BYTES, "header layout");
_Static_assert(E_INDEX_SHA256 + SHA256_LEN == ENTRY_BYTES, "entry layout");
_Static_assert(H_UUID + 16 == H_SIZE && E_PACK_ID + PACK_ID_LEN == E_INDEX_OFF, "ids");

uint64_t manifest_alloc_bytes(uint32_t nr)
{
	uint64_t bytes = sizeof(struct manifest) + (uint64_t)nr * sizeof(struct manifest_entry);

	return bytes < MAPPED_MIN ? bytes : ROUND_UP(bytes, (uint64_t)sysconf(_SC_PAGESIZE));
}

/*
 * Large ones are mappings of their own: a manifest is made by one thread and freed by another much
 * later, and what lies in an allocator's arena by then may never be given back.
 */
struct manifest *manifest_alloc(uint32_t nr)
{
	uint64_t bytes = manifest_alloc_bytes(nr);
	struct manifest *m;

	if (bytes < MAPPED_MIN) {
		m = calloc(1, bytes);
	} else {
		m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (m == MAP_FAILED)
			m = NULL;
	}
	if (!m)
		return NULL;
	m->refs = 1;
	m->nr_entries = nr;
	return m;
}

struct manifest *manifest_get(struct manifest *m)
{
	if (m)
		__atomic_add_fetch(&m->refs, 1, __ATOMIC_RELAXED);
	return m;
}

void manifest_put(struct manifest *m)
{
	uint64_t bytes;

	if (!m || __atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL))
		return;
	bytes = manifest_alloc_bytes(m->nr_entries);
	if (bytes < MAPPED_MIN)
		free(m);
	else
		munmap(m, bytes);
}

static int entry_check(const struct manifest *m, uint32_t i, struct fmt_err *e)
{
	const struct manifest_entry *en = &m->entries[i];
	const char *what = NULL;

	if ((uint64_t)en->chunk * CHUNK_BYTES >= m->size_bytes)
		what = "chunk past the end of the volume";
	else if (i && en->chunk < en[-1].chunk)
		what = "chunks out of order";
	else if (!en->nblocks || en->nblocks > CHUNK_BYTES / m->block_bytes)
		what = "number of blocks";
	else if (en->index_len != pack_index_bytes(en->nblocks))
		what = "length of the index";
	else if (en->index_off > UINT32_MAX)
		what = "offset of the index";
	else if (en->reserved)
		what = "reserved field";
	if (!what)
		return 0;
	return fmt_fail(e, -EBADMSG, "manifest: entry %u (chunk %u, %u blocks): bad %s", i,
			en->chunk, en->nblocks, what);
}

/* The rules for values, the same for what is written and what is read. */
static int manifest_check(const struct manifest *m, struct fmt_err *e)
{
	if (all_zero(m->uuid, sizeof(m->uuid)))
		return fmt_fail(e, -EBADMSG, "manifest: uuid is zero");
	if (!volume_bytes_ok(m->size_bytes) || !block_bytes_ok(m->block_bytes))
		return fmt_fail(e, -EBADMSG, "manifest: size_bytes %llu, block_bytes %u",
				(unsigned long long)m->size_bytes, m->block_bytes);
	for (uint32_t i = 0; i < m->nr_entries; i++) {
		int r = entry_check(m, i, e);

		if (r)
			return r;
	}
	return 0;
}

int manifest_encode(const struct manifest *m, void **buf, size_t *len)
{
	size_t n = HEAD_BYTES + (size_t)m->nr_entries * ENTRY_BYTES;
	struct fmt_err e;
	uint8_t *p;

	if (manifest_check(m, &e))
		return -EINVAL;
	p = calloc(1, n);
	if (!p)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->nr_entries; i++) {
		const struct manifest_entry *en = &m->entries[i];
		uint8_t *q = p + HEAD_BYTES + (size_t)i * ENTRY_BYTES;

		put_le32(q, E_CHUNK, en->chunk);
		put_le32(q, E_NBLOCKS, en->nblocks);
		memcpy(q + E_PACK_ID, en->pack_id, PACK_ID_LEN);
		put_le64(q, E_INDEX_OFF, en->index_off);
		put_le32(q, E_INDEX_LEN, en->index_len);
		memcpy(q + E_INDEX_SHA256, en->index_sha256, SHA256_LEN);
	}
	memcpy(p, MAGIC, 8);
	put_le32(p, H_VERSION, VERSION);
	put_le32(p, H_HEAD_BYTES, HEAD_BYTES);
	memcpy(p + H_UUID, m->uuid, sizeof(m->uuid));
	put_le64(p, H_SIZE, m->size_bytes);
	put_le64(p, H_SEQUENCE, m->sequence);
	put_le32(p, H_BLOCK_BYTES, m->block_bytes);
	put_le32(p, H_NR, m->nr_entries);
	put_le32(p, H_ENTRY_BYTES, ENTRY_BYTES);
	put_le64(p, H_BODY_SUM, hash_xxh3(p + HEAD_BYTES, n - HEAD_BYTES));
	put_le64(p, H_HEAD_SUM, hash_xxh3(p, H_HEAD_SUM));
	*buf = p;
	*len = n;
	return 0;
}

/* Everything that can be said before the entries are looked at. */
static int frame_check(const uint8_t *p, size_t len, struct fmt_err *e)
{
	uint64_t want;
	int r = wire_head_check(p, len, HEAD_BYTES, MAGIC, VERSION, "manifest", e);

	if (r)
		return r;
	if (get_le64(p, H_HEAD_SUM) != hash_xxh3(p, H_HEAD_SUM))
		return fmt_fail(e, -EBADMSG, "manifest: checksum of the header is wrong");
	if (get_le32(p, H_HEAD_BYTES) != HEAD_BYTES || get_le32(p, H_ENTRY_BYTES) != ENTRY_BYTES ||
	    get_le32(p, H_RESERVED))
		return fmt_fail(e, -EBADMSG, "manifest: malformed header");
	want = HEAD_BYTES + (uint64_t)get_le32(p, H_NR) * ENTRY_BYTES;
	if (len != want)
		return fmt_fail(e, len < want ? -ENODATA : -EBADMSG,
				"manifest: %zu bytes, %u entries need %llu", len, get_le32(p, H_NR),
				(unsigned long long)want);
	if (get_le64(p, H_BODY_SUM) != hash_xxh3(p + HEAD_BYTES, len - HEAD_BYTES))
		return fmt_fail(e, -EBADMSG, "manifest: checksum of the entries is wrong");
	return 0;
}

int manifest_parse(const void *buf, size_t len, struct manifest **out, struct fmt_err *e)
{
	const uint8_t *p = buf;
	struct manifest *m;
	int r = frame_check(p, len, e);

	*out = NULL;
	if (r)
		return r;
	m = manifest_alloc(get_le32(p, H_NR));
	if (!m)
		return fmt_fail(e, -ENOMEM, "manifest: no memory for %u entries",
				get_le32(p, H_NR));
	memcpy(m->uuid, p + H_UUID, sizeof(m->uuid));
	m->size_bytes = get_le64(p, H_SIZE);
	m->sequence = get_le64(p, H_SEQUENCE);
	m->block_bytes = get_le32(p, H_BLOCK_BYTES);
	for (uint32_t i = 0; i < m->nr_entries; i++) {
		const uint8_t *q = p + HEAD_BYTES + (size_t)i * ENTRY_BYTES;
		struct manifest_entry *en = &m->entries[i];

		en->chunk = get_le32(q, E_CHUNK);
		en->nblocks = get_le32(q, E_NBLOCKS);
		memcpy(en->pack_id, q + E_PACK_ID, PACK_ID_LEN);
		en->index_off = get_le64(q, E_INDEX_OFF);
		en->index_len = get_le32(q, E_INDEX_LEN);
		en->reserved = get_le32(q, E_RESERVED);
		memcpy(en->index_sha256, q + E_INDEX_SHA256, SHA256_LEN);
	}
	r = manifest_check(m, e);
	if (r) {
		manifest_put(m);
		return r;
	}
	*out = m;
	return 0;
}

/* The first entry whose chunk is at least `chunk`. */
static uint32_t lower_bound(const struct manifest *m, uint64_t chunk)
{
	uint32_t lo = 0, hi = m->nr_entries;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (m->entries[mid].chunk < chunk)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

const struct manifest_entry *manifest_chunk(const struct manifest *m, uint32_t chunk, uint32_t *nr)
{
	uint32_t first = lower_bound(m, chunk);

	*nr = lower_bound(m, (uint64_t)chunk + 1) - first;
	return &m->entries[first];
}

void manifest_key(const uint8_t uuid[16], const char *id, char *key, size_t len)
{
	char u[37];

	uuid_format(uuid, u);
	snprintf(key, len, "manifests/%s/%s", u, id);
}
