// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the base image's format, and of the names that follow from content. What sealed JSON
 * promises in general is in format_root_test.c. */
#include "format_test.h"

static struct base sample(void)
{
	struct base b = {
		.name = "debian-12",
		.size_bytes = 2 * GiB,
		.block_bytes = BLOCK_BYTES,
		.manifest.id = "00000000000000000000.0123456789abcdef",
		.manifest.bytes = 4040,
		.created_s = 1763852965,
	};

	for (int i = 0; i < 16; i++)
		b.uuid[i] = (uint8_t)(0xa0 + i);
	memcpy(b.manifest.uuid, b.uuid, 16);
	for (int i = 0; i < SHA256_LEN; i++) {
		b.manifest.sha256[i] = (uint8_t)(i * 7);
		b.content_sha256[i] = (uint8_t)(i * 5 + 1);
	}
	return b;
}

static int parse_base(const void *buf, size_t len, void **again, size_t *again_len,
		      struct fmt_err *e)
{
	struct base b;
	int r = base_parse(buf, len, &b, e);

	return r ? r : base_encode(&b, (char **)again, again_len);
}

static void round_trip(const struct base *b)
{
	struct fmt_err e = {""};
	struct base back;
	char *json;
	size_t len;

	assert_int_equal(base_encode(b, &json, &len), 0);
	if (base_parse(json, len, &back, &e))
		fail_msg("%s: %s", e.msg, json);
	free(json);
	assert_string_equal(back.name, b->name);
	assert_true(back.size_bytes == b->size_bytes && back.created_s == b->created_s);
	assert_int_equal(back.block_bytes, b->block_bytes);
	assert_memory_equal(back.uuid, b->uuid, 16);
	assert_memory_equal(back.content_sha256, b->content_sha256, SHA256_LEN);
	assert_string_equal(back.manifest.id, b->manifest.id);
	if (!b->manifest.id[0])
		return;
	assert_memory_equal(back.manifest.uuid, b->manifest.uuid, 16);
	assert_memory_equal(back.manifest.sha256, b->manifest.sha256, SHA256_LEN);
	assert_true(back.manifest.bytes == b->manifest.bytes);
}

static void what_is_written_is_read_back(void **state)
{
	struct base b = sample();

	round_trip(&b);
	b.manifest.id[0] = '\0'; /* all zeros */
	round_trip(&b);
	memset(b.name, 'n', sizeof(b.name) - 1);
	b.size_bytes = VOLUME_BYTES_MAX;
	round_trip(&b);
}

static void unparsable_bases_are_not_written(void **state)
{
	char *json;
	size_t len;

#define REFUSED(change)                                                  \
	do {                                                             \
		struct base b = sample();                                \
		change;                                                  \
		assert_int_equal(base_encode(&b, &json, &len), -EINVAL); \
	} while (0)
	REFUSED(memset(b.uuid, 0, 16));
	REFUSED(strcpy(b.name, "a/b"));
	REFUSED(b.size_bytes += 1);
	REFUSED(b.size_bytes = MiB / 2);
	REFUSED(b.block_bytes = 2048);
	REFUSED(b.created_s = UINT64_MAX);
	REFUSED(b.manifest.bytes = 0);
	REFUSED(b.manifest.id[20] = '-');
#undef REFUSED
}

static void damage_is_refused(void **state)
{
	struct snapshot s;
	struct base b = sample();
	struct fmt_err e;
	char *json;
	size_t len;

	assert_int_equal(base_encode(&b, &json, &len), 0);
	attack_truncation(parse_base, json, len);
	attack_extension(parse_base, json, len);
	attack_bit_flips(parse_base, json, len);
	attack_garbage(parse_base, json, len, 2000);
	assert_int_equal(snapshot_parse(json, len, &s, &e), -EBADMSG);
	free(json);
}

static void references_follow_the_rule(void **state)
{
	static const char *const bad[] = {"",          "image",     "image:",   "image:-a",
					  "image:a/b", "image:a@1", "images:a", "a"};
	char name[GFS_NAME_MAX], ref[SNAPSHOT_REF_MAX], key[128];
	struct base b = sample();
	struct snapshot s;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (base_ref_parse(bad[i], name) != -EINVAL)
			fail_msg("'%s' is taken for an image", bad[i]);
	memset(b.name, 'n', sizeof(b.name) - 1);
	base_source(&b, &s);
	snapshot_ref_format(s.name, s.seq, ref);
	assert_int_equal(base_ref_parse(ref, name), 0);
	assert_string_equal(name, b.name);
	assert_int_equal(snapshot_ref_parse(ref, NULL, NULL), -EINVAL);
	base_key("debian-12", key, sizeof(key));
	assert_string_equal(key, "bases/debian-12");
}

/* The bytes are the contract with every program that was ever released. */
static void bytes_are_as_documented(void **state)
{
	struct base b = sample();
	char *json, *want, hex[65];
	uint8_t sum[SHA256_LEN];
	const char *text =
		"{\"magic\":\"glidefs-base\",\"version\":1,\"name\":\"debian-12\","
		"\"uuid\":\"a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf\",\"size_bytes\":2147483648,"
		"\"block_bytes\":65536,\"chunk_bytes\":134217728,\"content_sha256\":"
		"\"01060b10151a1f24292e33383d42474c51565b60656a6f74797e83888d92979c\","
		"\"manifest\":{\"id\":\"00000000000000000000.0123456789abcdef\","
		"\"sha256\":\"00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9\","
		"\"bytes\":4040},\"created_s\":1763852965";
	size_t len;

	hash_sha256(text, strlen(text), sum);
	hex_encode(sum, sizeof(sum), hex);
	assert_true(asprintf(&want, "%s,\"checksum\":\"sha256:%s\"}\n", text, hex) > 0);
	assert_int_equal(base_encode(&b, &json, &len), 0);
	assert_string_equal(json, want);
	free(json);
	free(want);
}

/* ---- names that follow from content ---- */

static void pack_of(uint8_t fill, uint32_t block, uint64_t period, uint8_t pack_id[PACK_ID_LEN],
		    struct manifest_entry *me, uint8_t sum_without[SHA256_LEN])
{
	struct pack_writer *w = pack_writer_new(pack_id, 3, 4096, 8);
	struct pack_index *idx;
	uint8_t data[4096], sum[SHA256_LEN], *index;
	struct fmt_err e = {""};
	const void *buf;
	size_t len;

	memset(data, fill, sizeof(data));
	hash_sha256(data, sizeof(data), sum);
	assert_non_null(w);
	assert_int_equal(pack_writer_add(w, block, PACK_RAW, data, 4096, sum), 0);
	assert_int_equal(pack_writer_name(w, period), 0);
	assert_int_equal(pack_writer_finish(w, &buf, &len, me), 0);
	/* It is a pack as any other. */
	if (pack_index_parse((const uint8_t *)buf + me->index_off, me->index_len, me, 4096, &idx,
			     &e))
		fail_msg("%s", e.msg);
	free(idx);
	memcpy(pack_id, me->pack_id, PACK_ID_LEN);
	assert_memory_equal((const uint8_t *)buf + 16, pack_id, PACK_ID_LEN);
	index = malloc(me->index_len);
	assert_non_null(index);
	memcpy(index, (const uint8_t *)buf + me->index_off, me->index_len);
	memset(index + 16, 0, PACK_ID_LEN);
	index[16] = (uint8_t)period;
	index[17] = (uint8_t)(period >> 8);
	hash_sha256(index, me->index_len, sum_without);
	free(index);
	pack_writer_free(w);
}

static void packs_and_manifests_are_named_by_what_they_hold(void **state)
{
	uint8_t a[PACK_ID_LEN] = {1}, b[PACK_ID_LEN] = {2}, c[PACK_ID_LEN] = {3}, sum[SHA256_LEN];
	char id[MANIFEST_ID_MAX], again[MANIFEST_ID_MAX];
	struct manifest *m = manifest_alloc(1);
	uint8_t uuid[16];
	struct manifest_entry me;
	size_t len;
	void *buf;

	pack_of(7, 5, 20500, a, &me, sum);
	assert_memory_equal(a, sum, PACK_ID_LEN); /* as formats.rst says */
	pack_of(7, 5, 20500, b, &me, sum);
	assert_memory_equal(a, b, PACK_ID_LEN);
	pack_of(8, 5, 20500, c, &me, sum);
	assert_memory_not_equal(a, c, PACK_ID_LEN);
	pack_of(7, 6, 20500, c, &me, sum);
	assert_memory_not_equal(a, c, PACK_ID_LEN);
	pack_of(7, 5, 20501, c, &me, sum);
	assert_memory_not_equal(a, c, PACK_ID_LEN);

	assert_non_null(m);
	m->size_bytes = GiB;
	m->block_bytes = 4096;
	m->entries[0] = me;
	assert_int_equal(base_manifest_name(m, id), 0);
	memcpy(uuid, m->uuid, 16);
	memset(m->uuid, 0xff, 16);
	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	hash_sha256(buf, len, sum);
	free(buf);
	assert_memory_equal(uuid, sum, 6);
	assert_int_equal(uuid[6], (sum[6] & 0x0f) | 0x80);
	assert_int_equal(uuid[8], (sum[8] & 0x3f) | 0x80);
	assert_memory_equal(uuid + 9, sum + 9, 7);
	memset(m->uuid, 0x11, 16);
	assert_int_equal(base_manifest_name(m, again), 0);
	assert_string_equal(id, again);
	assert_memory_equal(m->uuid, uuid, 16);
	m->size_bytes += 4096;
	assert_int_equal(base_manifest_name(m, again), 0);
	assert_string_not_equal(id, again);
	manifest_put(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(unparsable_bases_are_not_written),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(references_follow_the_rule),
		cmocka_unit_test(bytes_are_as_documented),
		cmocka_unit_test(packs_and_manifests_are_named_by_what_they_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
