// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A base image as sealed JSON (sealed.h), and the names that follow from content: one image, packed
 * alike, gives the same objects wherever and whenever it is blessed. Pure functions, any thread.
 */
#include "engine/sealed.h"

#define BASE_MAGIC   "glidefs-base"
#define BASE_VERSION 1

static const char ref_prefix[] = "image:";

void base_key(const char *name, char *key, size_t len)
{
	snprintf(key, len, "bases/%s", name);
}

int base_ref_parse(const char *ref, char *name)
{
	const size_t n = sizeof(ref_prefix) - 1;
	struct fmt_err e;

	if (strncmp(ref, ref_prefix, n) || volume_name_check(ref + n, &e))
		return -EINVAL;
	if (name)
		snprintf(name, GFS_NAME_MAX, "%s", ref + n);
	return 0;
}

void base_source(const struct base *b, struct snapshot *out)
{
	*out = (struct snapshot){.size_bytes = b->size_bytes,
				 .block_bytes = b->block_bytes,
				 .generation = 1,
				 .manifest = b->manifest,
				 .created_s = b->created_s};
	memcpy(out->name, b->name, sizeof(out->name));
	memcpy(out->uuid, b->uuid, sizeof(out->uuid));
}

/* The rules for values, the same for what is written and what is read. */
static int base_check(const struct base *b, struct fmt_err *e)
{
	if (volume_name_check(b->name, e))
		return -EBADMSG;
	if (all_zero(b->uuid, sizeof(b->uuid)))
		return fmt_fail(e, -EBADMSG, "base: uuid is zero");
	if (!volume_bytes_ok(b->size_bytes) || !block_bytes_ok(b->block_bytes))
		return fmt_fail(e, -EBADMSG, "base: size_bytes %llu, block_bytes %u",
				(unsigned long long)b->size_bytes, b->block_bytes);
	if (b->created_s > NUMBER_MAX)
		return fmt_fail(e, -EBADMSG, "base: created_s %llu",
				(unsigned long long)b->created_s);
	return manifest_ref_check(&b->manifest, "base", e);
}

int base_encode(const struct base *b, char **json, size_t *len)
{
	struct sealed_out w;
	struct fmt_err e;

	if (base_check(b, &e))
		return -EINVAL;
	sealed_begin(&w, BASE_MAGIC, BASE_VERSION);
	sealed_add_str(&w, "name", b->name);
	sealed_add_uuid(&w, "uuid", b->uuid);
	sealed_add_u64(&w, "size_bytes", b->size_bytes);
	sealed_add_u64(&w, "block_bytes", b->block_bytes);
	sealed_add_u64(&w, "chunk_bytes", CHUNK_BYTES);
	sealed_add_hex(&w, "content_sha256", b->content_sha256, SHA256_LEN);
	sealed_add_manifest(&w, &b->manifest, b->uuid);
	sealed_add_u64(&w, "created_s", b->created_s);
	return sealed_end(&w, json, len);
}

static int members_parse(const struct sealed_in *in, struct base *b)
{
	uint64_t block_bytes = 0, chunk_bytes = 0;
	int r = sealed_str(in, "name", b->name, sizeof(b->name));

	if (!r)
		r = sealed_uuid(in, "uuid", b->uuid);
	if (!r)
		r = sealed_u64(in, "size_bytes", VOLUME_BYTES_MAX, &b->size_bytes);
	if (!r)
		r = sealed_u64(in, "block_bytes", UINT32_MAX, &block_bytes);
	b->block_bytes = (uint32_t)block_bytes;
	if (!r)
		r = sealed_u64(in, "chunk_bytes", UINT64_MAX, &chunk_bytes);
	if (!r && chunk_bytes != CHUNK_BYTES)
		r = fmt_fail(in->e, -EBADMSG, "base: chunk_bytes %llu",
			     (unsigned long long)chunk_bytes);
	if (!r)
		r = sealed_hex(in, "content_sha256", b->content_sha256, SHA256_LEN);
	if (!r)
		r = sealed_manifest(in, &b->manifest, b->uuid);
	if (!r)
		r = sealed_u64(in, "created_s", NUMBER_MAX, &b->created_s);
	return r ? r : base_check(b, in->e);
}

int base_parse(const char *json, size_t len, struct base *b, struct fmt_err *e)
{
	struct sealed_in in = {.what = "base", .e = e};
	int r;

	memset(b, 0, sizeof(*b));
	r = sealed_open(&in, json, len, BASE_MAGIC, BASE_VERSION);
	if (r)
		return r;
	r = members_parse(&in, b);
	sealed_close(&in);
	if (r)
		memset(b, 0, sizeof(*b));
	return r;
}

/* ---- names that follow from content ---- */

int base_manifest_name(struct manifest *m, char id[MANIFEST_ID_MAX])
{
	uint8_t sum[SHA256_LEN];
	char tail[17];
	size_t len;
	void *buf;
	int r;

	memset(m->uuid, 0xff, sizeof(m->uuid));
	r = manifest_encode(m, &buf, &len);
	if (r)
		return r;
	hash_sha256(buf, len, sum);
	free(buf);
	memcpy(m->uuid, sum, sizeof(m->uuid));
	/* Version 8 of RFC 9562: the bits are ours to choose. */
	m->uuid[6] = (uint8_t)((m->uuid[6] & 0x0f) | 0x80);
	m->uuid[8] = (uint8_t)((m->uuid[8] & 0x3f) | 0x80);
	hex_encode(sum + 16, 8, tail);
	snprintf(id, MANIFEST_ID_MAX, "%020llu.%s", (unsigned long long)m->sequence, tail);
	return 0;
}

struct content_hash *content_hash_new(void)
{
	return (struct content_hash *)hash_stream_new();
}

void content_hash_add(struct content_hash *h, uint64_t block, const uint8_t sha256[SHA256_LEN])
{
	uint8_t rec[8 + SHA256_LEN];

	put_le64(rec, 0, block);
	memcpy(rec + 8, sha256, SHA256_LEN);
	hash_stream_add((struct hash_stream *)h, rec, sizeof(rec));
}

void content_hash_end(struct content_hash *h, uint64_t size_bytes, uint32_t block_bytes,
		      uint8_t out[SHA256_LEN])
{
	uint8_t rec[12];

	put_le64(rec, 0, size_bytes);
	put_le32(rec, 8, block_bytes);
	hash_stream_add((struct hash_stream *)h, rec, sizeof(rec));
	hash_stream_end((struct hash_stream *)h, out);
}
