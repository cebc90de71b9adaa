// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The root of a volume as sealed JSON (sealed.h), and the rules for names. Pure functions over
 * memory, any thread.
 */
#include "engine/sealed.h"

#define ROOT_MAGIC   "glidefs-root"
#define ROOT_VERSION 1

static bool plain_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int volume_name_check(const char *name, struct fmt_err *e)
{
	size_t n = name ? strnlen(name, GFS_NAME_MAX) : 0;

	if (!n)
		return fmt_fail(e, -EINVAL, "a volume needs a name");
	if (n >= GFS_NAME_MAX)
		return fmt_fail(e, -EINVAL, "volume name is longer than %d characters",
				GFS_NAME_MAX - 1);
	if (!plain_char(name[0]))
		return fmt_fail(e, -EINVAL, "volume name must begin with a letter or a digit");
	for (size_t i = 1; i < n; i++)
		if (!plain_char(name[i]) && !strchr("._-", name[i]))
			return fmt_fail(
				e, -EINVAL,
				"volume name has byte 0x%02x at %zu; allowed are A-Z a-z 0-9 . _ -",
				(unsigned char)name[i], i);
	return 0;
}

static bool owner_ok(const char *s)
{
	size_t n = strnlen(s, sizeof(((struct root *)0)->owner));

	if (n >= sizeof(((struct root *)0)->owner))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!plain_char(s[i]) && !strchr("._:/@+-", s[i]))
			return false;
	return true;
}

/* The rules for values, the same for what is written and what is read. */
static int root_check(const struct root *r, struct fmt_err *e)
{
	if (volume_name_check(r->name, e))
		return -EBADMSG;
	if (all_zero(r->uuid, sizeof(r->uuid)))
		return fmt_fail(e, -EBADMSG, "root: uuid is zero");
	if (!volume_bytes_ok(r->size_bytes))
		return fmt_fail(e, -EBADMSG, "root: size_bytes %llu",
				(unsigned long long)r->size_bytes);
	if (!block_bytes_ok(r->block_bytes))
		return fmt_fail(e, -EBADMSG, "root: block_bytes %u", r->block_bytes);
	if (!r->generation || r->generation > NUMBER_MAX)
		return fmt_fail(e, -EBADMSG, "root: generation %llu",
				(unsigned long long)r->generation);
	if (r->sequence > NUMBER_MAX || r->created_s > NUMBER_MAX)
		return fmt_fail(e, -EBADMSG, "root: sequence %llu, created_s %llu",
				(unsigned long long)r->sequence, (unsigned long long)r->created_s);
	if (!owner_ok(r->owner))
		return fmt_fail(e, -EBADMSG, "root: owner has illegal characters or length");
	if (strnlen(r->source, sizeof(r->source)) == sizeof(r->source) ||
	    (r->source[0] && snapshot_ref_parse(r->source, NULL, NULL) &&
	     base_ref_parse(r->source, NULL)))
		return fmt_fail(e, -EBADMSG, "root: source '%.*s'", SNAPSHOT_REF_MAX - 1,
				r->source);
	return manifest_ref_check(&r->manifest, "root", e);
}

int root_encode(const struct root *r, char **json, size_t *len)
{
	struct sealed_out w;
	struct fmt_err e;

	if (root_check(r, &e))
		return -EINVAL;
	sealed_begin(&w, ROOT_MAGIC, ROOT_VERSION);
	sealed_add_uuid(&w, "uuid", r->uuid);
	sealed_add_str(&w, "name", r->name);
	sealed_add_u64(&w, "size_bytes", r->size_bytes);
	sealed_add_u64(&w, "block_bytes", r->block_bytes);
	sealed_add_u64(&w, "chunk_bytes", CHUNK_BYTES);
	sealed_add(&w, w.o, "partitions", json_object_new_boolean(r->partitions));
	sealed_add(&w, w.o, "read_only", json_object_new_boolean(r->read_only));
	sealed_add_u64(&w, "generation", r->generation);
	sealed_add_u64(&w, "sequence", r->sequence);
	sealed_add_str(&w, "owner", r->owner);
	if (r->source[0])
		sealed_add_str(&w, "source", r->source);
	sealed_add_manifest(&w, &r->manifest, r->uuid);
	sealed_add_hex(&w, "nonce", r->nonce, sizeof(r->nonce));
	sealed_add_u64(&w, "created_s", r->created_s);
	return sealed_end(&w, json, len);
}

static int members_parse(const struct sealed_in *in, struct root *r)
{
	uint64_t block_bytes = 0, chunk_bytes = 0;
	int res = sealed_uuid(in, "uuid", r->uuid);

	if (!res)
		res = sealed_str(in, "name", r->name, sizeof(r->name));
	if (!res)
		res = sealed_u64(in, "size_bytes", VOLUME_BYTES_MAX, &r->size_bytes);
	if (!res)
		res = sealed_u64(in, "block_bytes", UINT32_MAX, &block_bytes);
	r->block_bytes = (uint32_t)block_bytes;
	if (!res)
		res = sealed_u64(in, "chunk_bytes", UINT64_MAX, &chunk_bytes);
	if (!res && chunk_bytes != CHUNK_BYTES)
		res = fmt_fail(in->e, -EBADMSG, "root: chunk_bytes %llu",
			       (unsigned long long)chunk_bytes);
	if (!res)
		res = sealed_bool(in, "partitions", &r->partitions);
	if (!res)
		res = sealed_bool(in, "read_only", &r->read_only);
	if (!res)
		res = sealed_u64(in, "generation", NUMBER_MAX, &r->generation);
	if (!res)
		res = sealed_u64(in, "sequence", NUMBER_MAX, &r->sequence);
	if (!res)
		res = sealed_str(in, "owner", r->owner, sizeof(r->owner));
	if (!res && json_object_object_get_ex(in->o, "source", NULL))
		res = sealed_str(in, "source", r->source, sizeof(r->source));
	if (!res)
		res = sealed_manifest(in, &r->manifest, r->uuid);
	if (!res)
		res = sealed_hex(in, "nonce", r->nonce, sizeof(r->nonce));
	if (!res)
		res = sealed_u64(in, "created_s", NUMBER_MAX, &r->created_s);
	return res ? res : root_check(r, in->e);
}

int root_parse(const char *json, size_t len, struct root *r, struct fmt_err *e)
{
	struct sealed_in in = {.what = "root", .e = e};
	int res;

	memset(r, 0, sizeof(*r));
	res = sealed_open(&in, json, len, ROOT_MAGIC, ROOT_VERSION);
	if (res)
		return res;
	res = members_parse(&in, r);
	sealed_close(&in);
	if (res)
		memset(r, 0, sizeof(*r));
	return res;
}

void root_key(const char *name, char *key, size_t len)
{
	snprintf(key, len, "exports/%s/export.json", name);
}
