// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the snapshot's format, and of how one is named. What sealed JSON promises in general
 * is in format_root_test.c. */
#include "format_test.h"

static struct snapshot sample(void)
{
	struct snapshot s = {
		.name = "vm-1.prod_A",
		.seq = 1763852965123456,
		.size_bytes = 10 * GiB,
		.block_bytes = BLOCK_BYTES,
		.generation = 7,
		.sequence = 42,
		.tag = "before \"the\" upgrade",
		.manifest.id = "00000000000000000042.0123456789abcdef",
		.manifest.bytes = 4096,
		.created_s = 1763852965,
	};

	for (int i = 0; i < 16; i++) {
		s.uuid[i] = (uint8_t)(0xa0 + i);
		s.nonce[i] = (uint8_t)(0xf0 - i);
	}
	memcpy(s.manifest.uuid, s.uuid, 16);
	for (int i = 0; i < SHA256_LEN; i++)
		s.manifest.sha256[i] = (uint8_t)(i * 7);
	return s;
}

static int parse_snapshot(const void *buf, size_t len, void **again, size_t *again_len,
			  struct fmt_err *e)
{
	struct snapshot s;
	int r = snapshot_parse(buf, len, &s, e);

	return r ? r : snapshot_encode(&s, (char **)again, again_len);
}

static void round_trip(const struct snapshot *s)
{
	struct fmt_err e = {""};
	struct snapshot back;
	char *json;
	size_t len;

	assert_int_equal(snapshot_encode(s, &json, &len), 0);
	if (snapshot_parse(json, len, &back, &e))
		fail_msg("%s: %s", e.msg, json);
	free(json);
	assert_string_equal(back.name, s->name);
	assert_true(back.seq == s->seq && back.size_bytes == s->size_bytes);
	assert_true(back.generation == s->generation && back.sequence == s->sequence);
	assert_int_equal(back.block_bytes, s->block_bytes);
	assert_string_equal(back.tag, s->tag);
	assert_string_equal(back.manifest.id, s->manifest.id);
	assert_memory_equal(back.uuid, s->uuid, 16);
	assert_memory_equal(back.nonce, s->nonce, 16);
	assert_true(back.created_s == s->created_s);
	if (s->manifest.id[0]) {
		assert_memory_equal(back.manifest.uuid, s->manifest.uuid, 16);
		assert_memory_equal(back.manifest.sha256, s->manifest.sha256, SHA256_LEN);
		assert_true(back.manifest.bytes == s->manifest.bytes);
	}
}

static void what_is_written_is_read_back(void **state)
{
	struct snapshot s = sample();

	round_trip(&s);
	memset(s.manifest.uuid, 0xbb, 16); /* of a fork that wrote nothing yet */
	round_trip(&s);
	s.manifest.id[0] = s.tag[0] = '\0';
	round_trip(&s);
	s.seq = INT64_MAX;
	memset(s.name, 'n', sizeof(s.name) - 1);
	memset(s.tag, '~', sizeof(s.tag) - 1);
	round_trip(&s);
}

static void unparsable_snapshots_are_not_written(void **state)
{
	char *json;
	size_t len;

#define REFUSED(change)                                                      \
	do {                                                                 \
		struct snapshot s = sample();                                \
		change;                                                      \
		assert_int_equal(snapshot_encode(&s, &json, &len), -EINVAL); \
	} while (0)
	REFUSED(memset(s.uuid, 0, 16));
	REFUSED(s.seq = 0);
	REFUSED(s.seq = 1ull << 63);
	REFUSED(strcpy(s.name, "a/b"));
	REFUSED(s.size_bytes += 1);
	REFUSED(s.block_bytes = 2048);
	REFUSED(s.generation = 0);
	REFUSED(s.sequence = UINT64_MAX);
	REFUSED(s.created_s = UINT64_MAX);
	REFUSED(strcpy(s.tag, "a\nb"));
	REFUSED(strcpy(s.tag, "\xc3\xa4"));
	REFUSED(memset(s.tag, 't', sizeof(s.tag)));
	REFUSED(s.manifest.bytes = 0);
	REFUSED(s.manifest.id[20] = '-');
#undef REFUSED
}

static void damage_is_refused(void **state)
{
	struct snapshot s = sample();
	struct root r = {.name = "vm-1", .size_bytes = GiB, .block_bytes = 4096, .generation = 1};
	struct fmt_err e;
	char *json;
	size_t len;

	assert_int_equal(snapshot_encode(&s, &json, &len), 0);
	attack_truncation(parse_snapshot, json, len);
	attack_extension(parse_snapshot, json, len);
	attack_bit_flips(parse_snapshot, json, len);
	attack_garbage(parse_snapshot, json, len, 2000);
	assert_int_equal(root_parse(json, len, &r, &e), -EBADMSG);
	free(json);
	memset(&r, 0, sizeof(r));
	strcpy(r.name, "vm-1");
	r.size_bytes = GiB;
	r.block_bytes = 4096;
	r.generation = 1;
	r.uuid[0] = 1;
	assert_int_equal(root_encode(&r, &json, &len), 0);
	assert_int_equal(snapshot_parse(json, len, &s, &e), -EBADMSG);
	free(json);
}

static void references_follow_the_rule(void **state)
{
	static const char *const bad[] = {"",
					  "vm",
					  "vm@",
					  "@1",
					  "vm@0",
					  "vm@-1",
					  "vm@ 1",
					  "vm@1x",
					  "vm@1@2",
					  "-vm@1",
					  "vm@0x1",
					  "vm/a@1",
					  "vm@9223372036854775808",
					  "vm@99999999999999999999",
					  "vm@000000000000000000001"};
	char name[GFS_NAME_MAX], ref[SNAPSHOT_REF_MAX], key[128];
	uint64_t seq;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (snapshot_ref_parse(bad[i], name, &seq) != -EINVAL)
			fail_msg("'%s' is taken for a snapshot", bad[i]);
	assert_int_equal(snapshot_ref_parse("vm-1@00000000000000000042", name, &seq), 0);
	assert_string_equal(name, "vm-1");
	assert_true(seq == 42);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snapshot_ref_format(name, INT64_MAX, ref);
	assert_int_equal(snapshot_ref_parse(ref, name, &seq), 0);
	assert_true(seq == INT64_MAX && strlen(name) == GFS_NAME_MAX - 1);
	snapshot_key("vm-1", 42, key, sizeof(key));
	assert_string_equal(key, "snapshots/vm-1/00000000000000000042");
}

/* The bytes are the contract with every program that was ever released. */
static void bytes_are_as_documented(void **state)
{
	struct snapshot s = sample();
	char *json, *want, hex[65];
	uint8_t sum[SHA256_LEN];
	const char *text =
		"{\"magic\":\"glidefs-snapshot\",\"version\":1,\"name\":\"vm-1.prod_A\","
		"\"seq\":1763852965123456,\"uuid\":\"a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf\","
		"\"size_bytes\":10737418240,\"block_bytes\":65536,\"chunk_bytes\":134217728,"
		"\"generation\":7,\"sequence\":42,\"tag\":\"before \\\"the\\\" upgrade\","
		"\"manifest\":{\"id\":\"00000000000000000042.0123456789abcdef\","
		"\"sha256\":\"00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9\","
		"\"bytes\":4096,\"uuid\":\"bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb\"},"
		"\"nonce\":\"f0efeeedecebeae9e8e7e6e5e4e3e2e1\",\"created_s\":1763852965";
	size_t len;

	memset(s.manifest.uuid, 0xbb, 16);
	hash_sha256(text, strlen(text), sum);
	hex_encode(sum, sizeof(sum), hex);
	assert_true(asprintf(&want, "%s,\"checksum\":\"sha256:%s\"}\n", text, hex) > 0);
	assert_int_equal(snapshot_encode(&s, &json, &len), 0);
	assert_string_equal(json, want);
	free(json);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(unparsable_snapshots_are_not_written),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(references_follow_the_rule),
		cmocka_unit_test(bytes_are_as_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
