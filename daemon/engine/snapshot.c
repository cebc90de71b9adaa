// SPDX-License-Identifier: GPL-2.0-or-later
/* A snapshot as sealed JSON (sealed.h), and how one is named. Pure functions, any thread. */
#include "engine/sealed.h"

#define SNAPSHOT_MAGIC   "glidefs-snapshot"
#define SNAPSHOT_VERSION 1

int snapshot_tag_check(const char *tag, struct fmt_err *e)
{
	size_t n = strnlen(tag, SNAPSHOT_TAG_MAX);

	if (n >= SNAPSHOT_TAG_MAX)
		return fmt_fail(e, -EINVAL, "the tag is longer than %d bytes",
				SNAPSHOT_TAG_MAX - 1);
	for (size_t i = 0; i < n; i++)
		if (tag[i] < 0x20 || tag[i] > 0x7e)
			return fmt_fail(
				e, -EINVAL,
				"the tag has byte 0x%02x at %zu; printable ASCII is allowed",
				(unsigned char)tag[i], i);
	return 0;
}

int snapshot_ref_parse(const char *ref, char *name, uint64_t *seq)
{
	const char *at = strchr(ref, '@');
	char copy[GFS_NAME_MAX];
	struct fmt_err e;
	uint64_t n = 0;

	if (!at || at - ref >= GFS_NAME_MAX || !at[1] || strlen(at + 1) > 20)
		return -EINVAL;
	snprintf(copy, sizeof(copy), "%.*s", (int)(at - ref), ref);
	for (const char *p = at + 1; *p; p++)
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return -EINVAL;
	if (!n || n > NUMBER_MAX || volume_name_check(copy, &e))
		return -EINVAL;
	if (name)
		memcpy(name, copy, sizeof(copy));
	if (seq)
		*seq = n;
	return 0;
}

void snapshot_ref_format(const char *name, uint64_t seq, char ref[SNAPSHOT_REF_MAX])
{
	if (!seq)
		snprintf(ref, SNAPSHOT_REF_MAX, "image:%.*s", GFS_NAME_MAX - 1, name);
	else
		snprintf(ref, SNAPSHOT_REF_MAX, "%.*s@%llu", GFS_NAME_MAX - 1, name,
			 (unsigned long long)seq);
}

void snapshot_key(const char *name, uint64_t seq, char *key, size_t len)
{
	snprintf(key, len, "snapshots/%s/%020llu", name, (unsigned long long)seq);
}

/* The rules for values, the same for what is written and what is read. */
static int snapshot_check(const struct snapshot *s, struct fmt_err *e)
{
	if (volume_name_check(s->name, e) || snapshot_tag_check(s->tag, e))
		return -EBADMSG;
	if (all_zero(s->uuid, sizeof(s->uuid)))
		return fmt_fail(e, -EBADMSG, "snapshot: uuid is zero");
	if (!s->seq || s->seq > NUMBER_MAX)
		return fmt_fail(e, -EBADMSG, "snapshot: seq %llu", (unsigned long long)s->seq);
	if (!volume_bytes_ok(s->size_bytes) || !block_bytes_ok(s->block_bytes))
		return fmt_fail(e, -EBADMSG, "snapshot: size_bytes %llu, block_bytes %u",
				(unsigned long long)s->size_bytes, s->block_bytes);
	if (!s->generation || s->generation > NUMBER_MAX || s->sequence > NUMBER_MAX ||
	    s->created_s > NUMBER_MAX)
		return fmt_fail(e, -EBADMSG,
				"snapshot: generation %llu, sequence %llu, created_s %llu",
				(unsigned long long)s->generation, (unsigned long long)s->sequence,
				(unsigned long long)s->created_s);
	return manifest_ref_check(&s->manifest, "snapshot", e);
}

int snapshot_encode(const struct snapshot *s, char **json, size_t *len)
{
	struct sealed_out w;
	struct fmt_err e;

	if (snapshot_check(s, &e))
		return -EINVAL;
	sealed_begin(&w, SNAPSHOT_MAGIC, SNAPSHOT_VERSION);
	sealed_add_str(&w, "name", s->name);
	sealed_add_u64(&w, "seq", s->seq);
	sealed_add_uuid(&w, "uuid", s->uuid);
	sealed_add_u64(&w, "size_bytes", s->size_bytes);
	sealed_add_u64(&w, "block_bytes", s->block_bytes);
	sealed_add_u64(&w, "chunk_bytes", CHUNK_BYTES);
	sealed_add_u64(&w, "generation", s->generation);
	sealed_add_u64(&w, "sequence", s->sequence);
	sealed_add_str(&w, "tag", s->tag);
	sealed_add_manifest(&w, &s->manifest, s->uuid);
	sealed_add_hex(&w, "nonce", s->nonce, sizeof(s->nonce));
	sealed_add_u64(&w, "created_s", s->created_s);
	return sealed_end(&w, json, len);
}

static int members_parse(const struct sealed_in *in, struct snapshot *s)
{
	uint64_t block_bytes = 0, chunk_bytes = 0;
	int r = sealed_str(in, "name", s->name, sizeof(s->name));

	if (!r)
		r = sealed_u64(in, "seq", NUMBER_MAX, &s->seq);
	if (!r)
		r = sealed_uuid(in, "uuid", s->uuid);
	if (!r)
		r = sealed_u64(in, "size_bytes", VOLUME_BYTES_MAX, &s->size_bytes);
	if (!r)
		r = sealed_u64(in, "block_bytes", UINT32_MAX, &block_bytes);
	s->block_bytes = (uint32_t)block_bytes;
	if (!r)
		r = sealed_u64(in, "chunk_bytes", UINT64_MAX, &chunk_bytes);
	if (!r && chunk_bytes != CHUNK_BYTES)
		r = fmt_fail(in->e, -EBADMSG, "snapshot: chunk_bytes %llu",
			     (unsigned long long)chunk_bytes);
	if (!r)
		r = sealed_u64(in, "generation", NUMBER_MAX, &s->generation);
	if (!r)
		r = sealed_u64(in, "sequence", NUMBER_MAX, &s->sequence);
	if (!r)
		r = sealed_str(in, "tag", s->tag, sizeof(s->tag));
	if (!r)
		r = sealed_manifest(in, &s->manifest, s->uuid);
	if (!r)
		r = sealed_hex(in, "nonce", s->nonce, sizeof(s->nonce));
	if (!r)
		r = sealed_u64(in, "created_s", NUMBER_MAX, &s->created_s);
	return r ? r : snapshot_check(s, in->e);
}

int snapshot_parse(const char *json, size_t len, struct snapshot *s, struct fmt_err *e)
{
	struct sealed_in in = {.what = "snapshot", .e = e};
	int r;

	memset(s, 0, sizeof(*s));
	r = sealed_open(&in, json, len, SNAPSHOT_MAGIC, SNAPSHOT_VERSION);
	if (r)
		return r;
	r = members_parse(&in, s);
	sealed_close(&in);
	if (r)
		memset(s, 0, sizeof(*s));
	return r;
}
