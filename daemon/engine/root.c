// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The root of a volume as JSON, and the rules for names. Pure functions over memory, any thread.
 *
 * The checksum is the last member and covers every byte before the comma that introduces it, so it
 * is verified over the text, before any JSON is parsed. The layout of that trailer, `magic` and
 * `version` hold for all versions: a future one is recognised as such, not called corrupt.
 */
#include "engine/wire.h"

#include <json-c/json.h>

#define ROOT_MAGIC     "glidefs-root"
#define ROOT_VERSION   1
#define ROOT_BYTES_MAX (64 * KiB)
#define TRAILER_HEAD   ",\"checksum\":\"sha256:"
#define TRAILER_TAIL   "\"}\n"
#define TRAILER_BYTES  (sizeof(TRAILER_HEAD) - 1 + 2 * SHA256_LEN + sizeof(TRAILER_TAIL) - 1)
#define NUMBER_MAX     INT64_MAX /* generation and sequence stay clear of wrapping */

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

/* "%020llu.%016llx" */
static bool manifest_id_ok(const char *s)
{
	if (strnlen(s, MANIFEST_ID_MAX) != 37 || s[20] != '.')
		return false;
	for (int i = 0; i < 37; i++) {
		if (i == 20)
			continue;
		if (!(s[i] >= '0' && s[i] <= '9') && !(i > 20 && s[i] >= 'a' && s[i] <= 'f'))
			return false;
	}
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
	if (r->manifest_id[0] && (!manifest_id_ok(r->manifest_id) || !r->manifest_bytes ||
				  r->manifest_bytes > NUMBER_MAX))
		return fmt_fail(e, -EBADMSG, "root: manifest '%.*s', %llu bytes",
				MANIFEST_ID_MAX - 1, r->manifest_id,
				(unsigned long long)r->manifest_bytes);
	return 0;
}

/* Adds a member; a failed allocation of v, or an earlier one, makes *ok false. */
static void add(struct json_object *o, bool *ok, const char *key, struct json_object *v)
{
	if (!v || json_object_object_add(o, key, v)) {
		json_object_put(v);
		*ok = false;
	}
}

static struct json_object *hex_new(const void *data, size_t len)
{
	char hex[2 * SHA256_LEN + 1];

	hex_encode(data, len, hex);
	return json_object_new_string(hex);
}

static struct json_object *root_to_json(const struct root *r)
{
	struct json_object *o = json_object_new_object(), *m;
	char uuid[37];
	bool ok = true;

	if (!o)
		return NULL;
	uuid_format(r->uuid, uuid);
	add(o, &ok, "magic", json_object_new_string(ROOT_MAGIC));
	add(o, &ok, "version", json_object_new_int(ROOT_VERSION));
	add(o, &ok, "uuid", json_object_new_string(uuid));
	add(o, &ok, "name", json_object_new_string(r->name));
	add(o, &ok, "size_bytes", json_object_new_uint64(r->size_bytes));
	add(o, &ok, "block_bytes", json_object_new_uint64(r->block_bytes));
	add(o, &ok, "chunk_bytes", json_object_new_uint64(CHUNK_BYTES));
	add(o, &ok, "partitions", json_object_new_boolean(r->partitions));
	add(o, &ok, "read_only", json_object_new_boolean(r->read_only));
	add(o, &ok, "generation", json_object_new_uint64(r->generation));
	add(o, &ok, "sequence", json_object_new_uint64(r->sequence));
	add(o, &ok, "owner", json_object_new_string(r->owner));
	if (r->manifest_id[0]) {
		m = json_object_new_object();
		if (m) {
			add(m, &ok, "id", json_object_new_string(r->manifest_id));
			add(m, &ok, "sha256", hex_new(r->manifest_sha256, SHA256_LEN));
			add(m, &ok, "bytes", json_object_new_uint64(r->manifest_bytes));
		}
		add(o, &ok, "manifest", m);
	}
	add(o, &ok, "nonce", hex_new(r->nonce, sizeof(r->nonce)));
	add(o, &ok, "created_s", json_object_new_uint64(r->created_s));
	if (!ok) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

int root_encode(const struct root *r, char **json, size_t *len)
{
	struct json_object *o;
	uint8_t sum[SHA256_LEN];
	char hex[2 * SHA256_LEN + 1];
	const char *text;
	struct fmt_err e;
	size_t n = 0;
	char *out;

	if (root_check(r, &e))
		return -EINVAL;
	o = root_to_json(r);
	if (!o)
		return -ENOMEM;
	text = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);
	out = text ? malloc(n + TRAILER_BYTES) : NULL;
	if (!out) {
		json_object_put(o);
		return -ENOMEM;
	}
	n--; /* the closing brace goes behind the checksum */
	hash_sha256(text, n, sum);
	hex_encode(sum, sizeof(sum), hex);
	memcpy(out, text, n);
	snprintf(out + n, TRAILER_BYTES + 1, "%s%s%s", TRAILER_HEAD, hex, TRAILER_TAIL);
	json_object_put(o);
	*json = out;
	*len = n + TRAILER_BYTES;
	return 0;
}

static int trailer_check(const char *json, size_t len, struct fmt_err *e)
{
	const size_t head = sizeof(TRAILER_HEAD) - 1, tail = sizeof(TRAILER_TAIL) - 1;
	uint8_t want[SHA256_LEN], is[SHA256_LEN];
	char hex[2 * SHA256_LEN + 1];
	const char *t;

	if (len > ROOT_BYTES_MAX)
		return fmt_fail(e, -EBADMSG, "root: %zu bytes, more than any root has", len);
	if (len <= TRAILER_BYTES || memcmp(json + len - tail, TRAILER_TAIL, tail))
		return fmt_fail(e, -ENODATA, "root: %zu bytes that do not end as a root does", len);
	t = json + len - TRAILER_BYTES;
	if (memcmp(t, TRAILER_HEAD, head))
		return fmt_fail(e, -EBADMSG, "root: no checksum at its end");
	memcpy(hex, t + head, 2 * SHA256_LEN);
	hex[2 * SHA256_LEN] = '\0';
	hash_sha256(json, (size_t)(t - json), is);
	if (hex_decode(hex, want, sizeof(want)) || memcmp(is, want, sizeof(is)))
		return fmt_fail(e, -EBADMSG, "root: checksum is wrong");
	return 0;
}

/* Getters: -EBADMSG with a sentence unless the member is there and of the right type and range. */

static int get_u64(struct json_object *o, const char *key, uint64_t max, uint64_t *v,
		   struct fmt_err *e)
{
	struct json_object *m;

	if (!json_object_object_get_ex(o, key, &m) || !json_object_is_type(m, json_type_int) ||
	    json_object_get_int64(m) < 0)
		return fmt_fail(e, -EBADMSG, "root: '%s' is not a number or missing", key);
	*v = json_object_get_uint64(m);
	if (*v > max)
		return fmt_fail(e, -EBADMSG, "root: '%s' is %llu", key, (unsigned long long)*v);
	return 0;
}

static int get_bool(struct json_object *o, const char *key, bool *v, struct fmt_err *e)
{
	struct json_object *m;

	if (!json_object_object_get_ex(o, key, &m) || !json_object_is_type(m, json_type_boolean))
		return fmt_fail(e, -EBADMSG, "root: '%s' is not a boolean or missing", key);
	*v = json_object_get_boolean(m);
	return 0;
}

static int get_str(struct json_object *o, const char *key, char *buf, size_t size,
		   struct fmt_err *e)
{
	struct json_object *m;
	const char *s;
	size_t n;

	if (!json_object_object_get_ex(o, key, &m) || !json_object_is_type(m, json_type_string))
		return fmt_fail(e, -EBADMSG, "root: '%s' is not a string or missing", key);
	s = json_object_get_string(m);
	n = (size_t)json_object_get_string_len(m);
	if (n >= size || strlen(s) != n)
		return fmt_fail(e, -EBADMSG, "root: '%s' has %zu bytes", key, n);
	memcpy(buf, s, n + 1);
	return 0;
}

static int get_hex(struct json_object *o, const char *key, void *out, size_t len, struct fmt_err *e)
{
	char hex[2 * SHA256_LEN + 1];
	int r = get_str(o, key, hex, sizeof(hex), e);

	if (!r && hex_decode(hex, out, len))
		r = fmt_fail(e, -EBADMSG, "root: '%s' is not %zu hex digits", key, 2 * len);
	return r;
}

static int head_parse(struct json_object *o, struct fmt_err *e)
{
	char magic[sizeof(ROOT_MAGIC)];
	uint64_t version;
	int r = get_str(o, "magic", magic, sizeof(magic), e);

	if (!r && strcmp(magic, ROOT_MAGIC))
		r = fmt_fail(e, -EBADMSG, "root: wrong magic");
	if (!r)
		r = get_u64(o, "version", UINT64_MAX, &version, e);
	if (r)
		return r;
	if (version > ROOT_VERSION)
		return fmt_fail(e, -EPROTONOSUPPORT, "root: version %llu, this program reads %d",
				(unsigned long long)version, ROOT_VERSION);
	if (version != ROOT_VERSION)
		return fmt_fail(e, -EBADMSG, "root: version %llu", (unsigned long long)version);
	return 0;
}

static int manifest_member_parse(struct json_object *o, struct root *r, struct fmt_err *e)
{
	struct json_object *m;
	int res;

	if (!json_object_object_get_ex(o, "manifest", &m) || !m)
		return 0;
	if (!json_object_is_type(m, json_type_object))
		return fmt_fail(e, -EBADMSG, "root: 'manifest' is not an object");
	res = get_str(m, "id", r->manifest_id, sizeof(r->manifest_id), e);
	if (!res)
		res = get_hex(m, "sha256", r->manifest_sha256, SHA256_LEN, e);
	if (!res)
		res = get_u64(m, "bytes", NUMBER_MAX, &r->manifest_bytes, e);
	if (!res && !r->manifest_id[0])
		res = fmt_fail(e, -EBADMSG, "root: manifest without id");
	return res;
}

static int members_parse(struct json_object *o, struct root *r, struct fmt_err *e)
{
	uint64_t block_bytes = 0, chunk_bytes = 0;
	char uuid[37] = "";
	int res = get_str(o, "uuid", uuid, sizeof(uuid), e);

	if (!res && uuid_parse(uuid, r->uuid))
		res = fmt_fail(e, -EBADMSG, "root: malformed uuid");
	if (!res)
		res = get_str(o, "name", r->name, sizeof(r->name), e);
	if (!res)
		res = get_u64(o, "size_bytes", VOLUME_BYTES_MAX, &r->size_bytes, e);
	if (!res)
		res = get_u64(o, "block_bytes", UINT32_MAX, &block_bytes, e);
	r->block_bytes = (uint32_t)block_bytes;
	if (!res)
		res = get_u64(o, "chunk_bytes", UINT64_MAX, &chunk_bytes, e);
	if (!res && chunk_bytes != CHUNK_BYTES)
		res = fmt_fail(e, -EBADMSG, "root: chunk_bytes %llu",
			       (unsigned long long)chunk_bytes);
	if (!res)
		res = get_bool(o, "partitions", &r->partitions, e);
	if (!res)
		res = get_bool(o, "read_only", &r->read_only, e);
	if (!res)
		res = get_u64(o, "generation", NUMBER_MAX, &r->generation, e);
	if (!res)
		res = get_u64(o, "sequence", NUMBER_MAX, &r->sequence, e);
	if (!res)
		res = get_str(o, "owner", r->owner, sizeof(r->owner), e);
	if (!res)
		res = manifest_member_parse(o, r, e);
	if (!res)
		res = get_hex(o, "nonce", r->nonce, sizeof(r->nonce), e);
	if (!res)
		res = get_u64(o, "created_s", NUMBER_MAX, &r->created_s, e);
	return res ? res : root_check(r, e);
}

int root_parse(const char *json, size_t len, struct root *r, struct fmt_err *e)
{
	struct json_tokener *tok;
	struct json_object *o;
	int res = trailer_check(json, len, e);

	memset(r, 0, sizeof(*r));
	if (res)
		return res;
	tok = json_tokener_new();
	if (!tok)
		return fmt_fail(e, -ENOMEM, "root: out of memory");
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* Without the newline, which ends the text but is no part of the JSON. */
	o = json_tokener_parse_ex(tok, json, (int)len - 1);
	if (!o || json_tokener_get_error(tok) != json_tokener_success ||
	    json_tokener_get_parse_end(tok) != len - 1)
		res = fmt_fail(e, -EBADMSG, "root: not JSON: %s",
			       json_tokener_error_desc(json_tokener_get_error(tok)));
	else if (!json_object_is_type(o, json_type_object))
		res = fmt_fail(e, -EBADMSG, "root: not a JSON object");
	if (!res)
		res = head_parse(o, e);
	if (!res)
		res = members_parse(o, r, e);
	json_object_put(o);
	json_tokener_free(tok);
	if (res)
		memset(r, 0, sizeof(*r));
	return res;
}

void root_key(const char *name, char *key, size_t len)
{
	snprintf(key, len, "exports/%s/export.json", name);
}
