// SPDX-License-Identifier: GPL-2.0-or-later
/* Sealed JSON; see sealed.h. */
#include "engine/sealed.h"

#define TRAILER_HEAD  ",\"checksum\":\"sha256:"
#define TRAILER_TAIL  "\"}\n"
#define TRAILER_BYTES (sizeof(TRAILER_HEAD) - 1 + 2 * SHA256_LEN + sizeof(TRAILER_TAIL) - 1)
#define MAGIC_MAX     32

/* ---- writing ---- */

void sealed_add(struct sealed_out *w, struct json_object *o, const char *key, struct json_object *v)
{
	if (!v || !o || json_object_object_add(o, key, v)) {
		json_object_put(v);
		w->failed = true;
	}
}

void sealed_begin(struct sealed_out *w, const char *magic, int version)
{
	w->failed = false;
	w->o = json_object_new_object();
	sealed_add(w, w->o, "magic", json_object_new_string(magic));
	sealed_add(w, w->o, "version", json_object_new_int(version));
}

void sealed_add_str(struct sealed_out *w, const char *key, const char *s)
{
	sealed_add(w, w->o, key, json_object_new_string(s));
}

void sealed_add_u64(struct sealed_out *w, const char *key, uint64_t v)
{
	sealed_add(w, w->o, key, json_object_new_uint64(v));
}

static struct json_object *hex_new(const void *data, size_t len)
{
	char hex[2 * SHA256_LEN + 1];

	hex_encode(data, len, hex);
	return json_object_new_string(hex);
}

void sealed_add_hex(struct sealed_out *w, const char *key, const void *data, size_t len)
{
	sealed_add(w, w->o, key, hex_new(data, len));
}

static struct json_object *uuid_new(const uint8_t uuid[16])
{
	char text[37];

	uuid_format(uuid, text);
	return json_object_new_string(text);
}

void sealed_add_uuid(struct sealed_out *w, const char *key, const uint8_t uuid[16])
{
	sealed_add(w, w->o, key, uuid_new(uuid));
}

int sealed_end(struct sealed_out *w, char **json, size_t *len)
{
	uint8_t sum[SHA256_LEN];
	char hex[2 * SHA256_LEN + 1];
	const char *text = NULL;
	char *out = NULL;
	size_t n = 0;

	if (!w->failed)
		text = json_object_to_json_string_length(
			w->o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &n);
	out = text ? malloc(n + TRAILER_BYTES) : NULL;
	if (out) {
		n--; /* the closing brace goes behind the checksum */
		hash_sha256(text, n, sum);
		hex_encode(sum, sizeof(sum), hex);
		memcpy(out, text, n);
		snprintf(out + n, TRAILER_BYTES + 1, "%s%s%s", TRAILER_HEAD, hex, TRAILER_TAIL);
		*json = out;
		*len = n + TRAILER_BYTES;
	}
	json_object_put(w->o);
	w->o = NULL;
	return out ? 0 : -ENOMEM;
}

/* ---- reading ---- */

static int trailer_check(const struct sealed_in *in, const char *json, size_t len)
{
	const size_t head = sizeof(TRAILER_HEAD) - 1, tail = sizeof(TRAILER_TAIL) - 1;
	uint8_t want[SHA256_LEN], is[SHA256_LEN];
	char hex[2 * SHA256_LEN + 1];
	const char *t;

	if (len > SEALED_BYTES_MAX)
		return fmt_fail(in->e, -EBADMSG, "%s: %zu bytes, more than any %s has", in->what,
				len, in->what);
	if (len <= TRAILER_BYTES || memcmp(json + len - tail, TRAILER_TAIL, tail))
		return fmt_fail(in->e, -ENODATA, "%s: %zu bytes that do not end as a %s does",
				in->what, len, in->what);
	t = json + len - TRAILER_BYTES;
	if (memcmp(t, TRAILER_HEAD, head))
		return fmt_fail(in->e, -EBADMSG, "%s: no checksum at its end", in->what);
	memcpy(hex, t + head, 2 * SHA256_LEN);
	hex[2 * SHA256_LEN] = '\0';
	hash_sha256(json, (size_t)(t - json), is);
	if (hex_decode(hex, want, sizeof(want)) || memcmp(is, want, sizeof(is)))
		return fmt_fail(in->e, -EBADMSG, "%s: checksum is wrong", in->what);
	return 0;
}

int sealed_u64(const struct sealed_in *in, const char *key, uint64_t max, uint64_t *v)
{
	struct json_object *m;

	if (!json_object_object_get_ex(in->o, key, &m) || !json_object_is_type(m, json_type_int) ||
	    json_object_get_int64(m) < 0)
		return fmt_fail(in->e, -EBADMSG, "%s: '%s' is not a number or missing", in->what,
				key);
	*v = json_object_get_uint64(m);
	if (*v > max)
		return fmt_fail(in->e, -EBADMSG, "%s: '%s' is %llu", in->what, key,
				(unsigned long long)*v);
	return 0;
}

int sealed_bool(const struct sealed_in *in, const char *key, bool *v)
{
	struct json_object *m;

	if (!json_object_object_get_ex(in->o, key, &m) ||
	    !json_object_is_type(m, json_type_boolean))
		return fmt_fail(in->e, -EBADMSG, "%s: '%s' is not a boolean or missing", in->what,
				key);
	*v = json_object_get_boolean(m);
	return 0;
}

int sealed_str(const struct sealed_in *in, const char *key, char *buf, size_t size)
{
	struct json_object *m;
	const char *s;
	size_t n;

	if (!json_object_object_get_ex(in->o, key, &m) || !json_object_is_type(m, json_type_string))
		return fmt_fail(in->e, -EBADMSG, "%s: '%s' is not a string or missing", in->what,
				key);
	s = json_object_get_string(m);
	n = (size_t)json_object_get_string_len(m);
	if (n >= size || strlen(s) != n)
		return fmt_fail(in->e, -EBADMSG, "%s: '%s' has %zu bytes", in->what, key, n);
	memcpy(buf, s, n + 1);
	return 0;
}

int sealed_hex(const struct sealed_in *in, const char *key, void *out, size_t len)
{
	char hex[2 * SHA256_LEN + 1];
	int r = sealed_str(in, key, hex, sizeof(hex));

	if (!r && hex_decode(hex, out, len))
		r = fmt_fail(in->e, -EBADMSG, "%s: '%s' is not %zu hex digits", in->what, key,
			     2 * len);
	return r;
}

int sealed_uuid(const struct sealed_in *in, const char *key, uint8_t uuid[16])
{
	char text[37];
	int r = sealed_str(in, key, text, sizeof(text));

	if (!r && (uuid_parse(text, uuid) || all_zero(uuid, 16)))
		r = fmt_fail(in->e, -EBADMSG, "%s: '%s' is not a uuid", in->what, key);
	return r;
}

int sealed_sub(const struct sealed_in *in, const char *key, struct sealed_in *sub)
{
	*sub = (struct sealed_in){.what = in->what, .e = in->e};
	if (!json_object_object_get_ex(in->o, key, &sub->o) || !sub->o)
		return 0;
	if (!json_object_is_type(sub->o, json_type_object))
		return fmt_fail(in->e, -EBADMSG, "%s: '%s' is not an object", in->what, key);
	return 0;
}

static int head_parse(const struct sealed_in *in, const char *want, int max)
{
	char magic[MAGIC_MAX];
	uint64_t version;
	int r = sealed_str(in, "magic", magic, sizeof(magic));

	if (!r && strcmp(magic, want))
		r = fmt_fail(in->e, -EBADMSG, "%s: wrong magic", in->what);
	if (!r)
		r = sealed_u64(in, "version", UINT64_MAX, &version);
	if (r)
		return r;
	if (version > (uint64_t)max)
		return fmt_fail(in->e, -EPROTONOSUPPORT, "%s: version %llu, this program reads %d",
				in->what, (unsigned long long)version, max);
	if (!version)
		return fmt_fail(in->e, -EBADMSG, "%s: version 0", in->what);
	return 0;
}

int sealed_open(struct sealed_in *in, const char *json, size_t len, const char *magic, int version)
{
	struct json_tokener *tok;
	int r;

	in->o = NULL;
	r = trailer_check(in, json, len);
	if (r)
		return r;
	tok = json_tokener_new();
	if (!tok)
		return fmt_fail(in->e, -ENOMEM, "%s: out of memory", in->what);
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	/* Without the newline, which ends the text but is no part of the JSON. */
	in->o = json_tokener_parse_ex(tok, json, (int)len - 1);
	if (!in->o || json_tokener_get_error(tok) != json_tokener_success ||
	    json_tokener_get_parse_end(tok) != len - 1)
		r = fmt_fail(in->e, -EBADMSG, "%s: not JSON: %s", in->what,
			     json_tokener_error_desc(json_tokener_get_error(tok)));
	else if (!json_object_is_type(in->o, json_type_object))
		r = fmt_fail(in->e, -EBADMSG, "%s: not a JSON object", in->what);
	if (!r)
		r = head_parse(in, magic, version);
	json_tokener_free(tok);
	if (r)
		sealed_close(in);
	return r;
}

void sealed_close(struct sealed_in *in)
{
	json_object_put(in->o);
	in->o = NULL;
}

/* ---- the manifest that an object names ---- */

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

int manifest_ref_check(const struct manifest_ref *m, const char *what, struct fmt_err *e)
{
	if (!m->id[0] || (manifest_id_ok(m->id) && m->bytes && m->bytes <= NUMBER_MAX))
		return 0;
	return fmt_fail(e, -EBADMSG, "%s: manifest '%.*s', %llu bytes", what, MANIFEST_ID_MAX - 1,
			m->id, (unsigned long long)m->bytes);
}

void sealed_add_manifest(struct sealed_out *w, const struct manifest_ref *m, const uint8_t own[16])
{
	struct json_object *o;

	if (!m->id[0])
		return;
	o = json_object_new_object();
	sealed_add(w, o, "id", json_object_new_string(m->id));
	sealed_add(w, o, "sha256", hex_new(m->sha256, SHA256_LEN));
	sealed_add(w, o, "bytes", json_object_new_uint64(m->bytes));
	if (!all_zero(m->uuid, 16) && memcmp(m->uuid, own, 16))
		sealed_add(w, o, "uuid", uuid_new(m->uuid));
	sealed_add(w, w->o, "manifest", o);
}

int sealed_manifest(const struct sealed_in *in, struct manifest_ref *m, const uint8_t own[16])
{
	struct sealed_in sub;
	int r = sealed_sub(in, "manifest", &sub);

	if (r || !sub.o)
		return r;
	r = sealed_str(&sub, "id", m->id, sizeof(m->id));
	if (!r)
		r = sealed_hex(&sub, "sha256", m->sha256, SHA256_LEN);
	if (!r)
		r = sealed_u64(&sub, "bytes", NUMBER_MAX, &m->bytes);
	if (!r && !m->id[0])
		r = fmt_fail(in->e, -EBADMSG, "%s: manifest without id", in->what);
	memcpy(m->uuid, own, 16);
	if (!r && json_object_object_get_ex(sub.o, "uuid", NULL))
		r = sealed_uuid(&sub, "uuid", m->uuid);
	return r;
}
