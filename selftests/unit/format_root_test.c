// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the root's format, and of names. */
#include "format_test.h"

static struct root sample(void)
{
	struct root r = {
		.name = "vm-1.prod_A",
		.size_bytes = 10 * GiB,
		.block_bytes = BLOCK_BYTES,
		.partitions = true,
		.generation = 7,
		.sequence = 42,
		.owner = "host-a/5b1e0a52-0c1c-4f6e-9a55-0b5c3c9d2f10",
		.manifest.id = "00000000000000000042.0123456789abcdef",
		.manifest.bytes = 4096,
		.created_s = 1700000000,
	};

	for (int i = 0; i < 16; i++) {
		r.uuid[i] = (uint8_t)(0xa0 + i);
		r.nonce[i] = (uint8_t)(0xf0 - i);
	}
	for (int i = 0; i < SHA256_LEN; i++)
		r.manifest.sha256[i] = (uint8_t)(i * 7);
	return r;
}

static int parse_root(const void *buf, size_t len, void **again, size_t *again_len,
		      struct fmt_err *e)
{
	struct root r;
	int res = root_parse(buf, len, &r, e);

	return res ? res : root_encode(&r, (char **)again, again_len);
}

static void round_trip(const struct root *r)
{
	struct fmt_err e = {""};
	struct root back;
	char *json;
	size_t len;

	assert_int_equal(root_encode(r, &json, &len), 0);
	assert_int_equal(strlen(json), len);
	if (root_parse(json, len, &back, &e))
		print_message("%s\n%s\n", json, e.msg);
	assert_int_equal(root_parse(json, len, &back, &e), 0);
	free(json);
	assert_memory_equal(back.uuid, r->uuid, 16);
	assert_string_equal(back.name, r->name);
	assert_true(back.size_bytes == r->size_bytes);
	assert_int_equal(back.block_bytes, r->block_bytes);
	assert_int_equal(back.partitions, r->partitions);
	assert_int_equal(back.read_only, r->read_only);
	assert_true(back.generation == r->generation);
	assert_true(back.sequence == r->sequence);
	assert_string_equal(back.owner, r->owner);
	assert_string_equal(back.manifest.id, r->manifest.id);
	assert_string_equal(back.source, r->source);
	if (r->manifest.id[0]) {
		assert_memory_equal(back.manifest.uuid, r->source[0] ? r->manifest.uuid : r->uuid,
				    16);
		assert_memory_equal(back.manifest.sha256, r->manifest.sha256, SHA256_LEN);
		assert_true(back.manifest.bytes == r->manifest.bytes);
	}
	assert_memory_equal(back.nonce, r->nonce, 16);
	assert_true(back.created_s == r->created_s);
}

static void what_is_written_is_read_back(void **state)
{
	struct root r = sample();

	round_trip(&r);
	r.manifest.id[0] = '\0';
	round_trip(&r);
	r.owner[0] = '\0';
	r.read_only = true;
	r.partitions = false;
	r.sequence = 0;
	r.created_s = 0;
	round_trip(&r);
	r.size_bytes = VOLUME_BYTES_MIN;
	r.block_bytes = 4096;
	round_trip(&r);
	strcpy(r.source, "vm-0@1763852965123456");
	round_trip(&r);
	r = sample();
	strcpy(r.source, "vm-0@1");
	memset(r.manifest.uuid, 0xbb, 16);
	round_trip(&r);
	r.size_bytes = VOLUME_BYTES_MAX;
	r.block_bytes = 1 << 20;
	memset(r.name, 'n', sizeof(r.name) - 1);
	memset(r.owner, 'o', sizeof(r.owner) - 1);
	round_trip(&r);
}

/* JSON numbers are doubles to many programs; to this one they are integers of 63 bits. */
static void large_numbers_are_exact(void **state)
{
	static const uint64_t n[] = {(1ull << 53) - 1, (1ull << 53) + 1, (1ull << 62) + 1,
				     INT64_MAX - 1, INT64_MAX};
	struct root r = sample();

	for (size_t i = 0; i < ARRAY_SIZE(n); i++) {
		r.generation = r.sequence = r.created_s = r.manifest.bytes = n[i];
		round_trip(&r);
	}
}

static void unparsable_roots_are_not_written(void **state)
{
	char *json;
	size_t len;

#define REFUSED(change)                                                  \
	do {                                                             \
		struct root r = sample();                                \
		change;                                                  \
		assert_int_equal(root_encode(&r, &json, &len), -EINVAL); \
	} while (0)
	REFUSED(memset(r.uuid, 0, 16));
	REFUSED(r.name[0] = '\0');
	REFUSED(strcpy(r.name, "-x"));
	REFUSED(strcpy(r.name, "a/b"));
	REFUSED(memset(r.name, 'n', sizeof(r.name)));
	REFUSED(r.size_bytes = VOLUME_BYTES_MIN - 512);
	REFUSED(r.size_bytes = VOLUME_BYTES_MAX + 512);
	REFUSED(r.size_bytes += 1);
	REFUSED(r.block_bytes = 0);
	REFUSED(r.block_bytes = 2048);
	REFUSED(r.block_bytes = 2 << 20);
	REFUSED(r.block_bytes = 65536 + 4096);
	REFUSED(r.generation = 0);
	REFUSED(r.generation = 1ull << 63);
	REFUSED(r.sequence = UINT64_MAX);
	REFUSED(r.created_s = UINT64_MAX);
	REFUSED(strcpy(r.owner, "host a"));
	REFUSED(strcpy(r.owner, "host\"a"));
	REFUSED(memset(r.owner, 'o', sizeof(r.owner)));
	REFUSED(strcpy(r.source, "vm-0"));
	REFUSED(strcpy(r.source, "vm-0@"));
	REFUSED(strcpy(r.source, "vm-0@0"));
	REFUSED(strcpy(r.source, "vm/0@1"));
	REFUSED(strcpy(r.source, "vm-0@9223372036854775808"));
	REFUSED(memset(r.source, '1', sizeof(r.source)));
	REFUSED(r.manifest.bytes = 0);
	REFUSED(r.manifest.id[20] = '-');
	REFUSED(r.manifest.id[36] = 'G');
	REFUSED(r.manifest.id[3] = 'a');
	REFUSED(r.manifest.id[36] = '\0');
	REFUSED(strcat(r.manifest.id, "0"));
#undef REFUSED
}

/* `text` is the object up to the checksum; returns what root_parse says. */
static int parse_signed(const char *text, struct root *r, struct fmt_err *e)
{
	char buf[4096], hex[65];
	uint8_t sum[SHA256_LEN];

	hash_sha256(text, strlen(text), sum);
	hex_encode(sum, sizeof(sum), hex);
	snprintf(buf, sizeof(buf), "%s,\"checksum\":\"sha256:%s\"}\n", text, hex);
	return root_parse(buf, strlen(buf), r, e);
}

/* The sample's text up to the checksum, with the first `from` replaced by `to`. */
static int parse_changed(const char *from, const char *to, struct root *out)
{
	struct root r = sample();
	struct fmt_err e = {""};
	char text[4096], *json, *at;
	size_t len;
	int res;

	assert_int_equal(root_encode(&r, &json, &len), 0);
	*strstr(json, ",\"checksum\"") = '\0';
	at = strstr(json, from);
	if (!at)
		print_message("no '%s' in %s\n", from, json);
	assert_non_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - json), json, to, at + strlen(from));
	free(json);
	res = parse_signed(text, out, &e);
	assert_true(!res == !e.msg[0]);
	return res;
}

static void well_signed_nonsense_is_refused(void **state)
{
	static const struct {
		const char *from, *to;
		int want;
	} t[] = {
		{"glidefs-root", "glidefs-toot", -EBADMSG},
		{"\"version\":1", "\"version\":2", -EPROTONOSUPPORT},
		{"\"version\":1", "\"version\":99,\"new\":[{}]", -EPROTONOSUPPORT},
		{"\"version\":1", "\"version\":0", -EBADMSG},
		{"\"version\":1", "\"version\":-1", -EBADMSG},
		{"\"version\":1", "\"version\":\"1\"", -EBADMSG},
		{"\"version\":1", "\"version\":1.0", -EBADMSG},
		{"\"generation\":7", "\"generation\":0", -EBADMSG},
		{"\"generation\":7", "\"generation\":-7", -EBADMSG},
		{"\"generation\":7", "\"generation\":7.5", -EBADMSG},
		{"\"generation\":7", "\"generation\":7e3", -EBADMSG},
		{"\"generation\":7", "\"generation\":9223372036854775808", -EBADMSG},
		{"\"generation\":7", "\"generation\":18446744073709551616", -EBADMSG},
		{"\"generation\":7", "\"generation\":99999999999999999999999", -EBADMSG},
		{"\"generation\":7", "\"generation\":null", -EBADMSG},
		{"\"generation\":7", "\"generations\":7", -EBADMSG},
		{"\"size_bytes\":10737418240", "\"size_bytes\":10737418241", -EBADMSG},
		{"\"size_bytes\":10737418240", "\"size_bytes\":0", -EBADMSG},
		{"\"block_bytes\":65536", "\"block_bytes\":65537", -EBADMSG},
		{"\"block_bytes\":65536", "\"block_bytes\":4295032832", -EBADMSG},
		{"\"chunk_bytes\":134217728", "\"chunk_bytes\":134217729", -EBADMSG},
		{"\"partitions\":true", "\"partitions\":1", -EBADMSG},
		{"\"read_only\":false", "\"read_only\":null", -EBADMSG},
		{"vm-1.prod_A", "vm-1\\u0000A", -EBADMSG},
		{"vm-1.prod_A", "vm-1\\/A", -EBADMSG},
		{"vm-1.prod_A", "vm-1\xff", -EBADMSG},
		{"vm-1.prod_A", "", -EBADMSG},
		{"host-a/", "host a/", -EBADMSG},
		{"a0a1a2a3", "A0A1A2A3", -EBADMSG},
		{"a0a1a2a3", "a0a1a2a", -EBADMSG},
		{"00042.", "0004.", -EBADMSG},
		{"\"bytes\":4096", "\"bytes\":4096,\"uuid\":\"x\"", -EBADMSG},
		{"\"bytes\":4096",
		 "\"bytes\":4096,\"uuid\":\"00000000-0000-0000-0000-000000000000\"", -EBADMSG},
		{"\"manifest\":{", "\"source\":7,\"manifest\":{", -EBADMSG},
		{"\"manifest\":{", "\"source\":\"vm\",\"manifest\":{", -EBADMSG},
		{"\"bytes\":4096", "\"bytes\":0", -EBADMSG},
		{"\"nonce\":\"f0", "\"nonce\":\"", -EBADMSG},
		{"\"manifest\":{", "\"manifest\":[],\"x\":{", -EBADMSG},
		{"\"manifest\":{\"id\":\"00000000000000000042.0123456789abcdef\"",
		 "\"manifest\":{\"id\":\"\"", -EBADMSG},
		{"{\"magic\"", "[{\"magic\"", -EBADMSG},
		{"\"created_s\":1700000000", "\"created_s\":1700000000}", -EBADMSG},
	};
	struct root r;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		int res = parse_changed(t[i].from, t[i].to, &r);

		if (res != t[i].want)
			print_message("%s -> %s: %d\n", t[i].from, t[i].to, res);
		assert_int_equal(res, t[i].want);
	}
}

static void unknown_members_are_tolerated(void **state)
{
	struct root r;

	assert_int_equal(parse_changed("\"version\":1",
				       "\"version\":1,\"later\":{\"a\":[1,2,{\"b\":null}]}", &r),
			 0);
	assert_int_equal(r.generation, 7);
	assert_int_equal(parse_changed("\"id\":", "\"later\":1.5,\"id\":", &r), 0);
	assert_string_equal(r.manifest.id, sample().manifest.id);
	assert_int_equal(parse_changed("\"version\":1", "\"manifest_x\":7,\"version\":1", &r), 0);
}

static void missing_members_are_refused(void **state)
{
	static const char *const members[] = {
		"magic",       "version",    "uuid",      "name",       "size_bytes", "block_bytes",
		"chunk_bytes", "partitions", "read_only", "generation", "sequence",   "owner",
		"id",          "sha256",     "bytes",     "nonce",      "created_s"};
	char from[32], to[32];
	struct root r;

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		snprintf(from, sizeof(from), "\"%s\":", members[i]);
		snprintf(to, sizeof(to), "\"x%s\":", members[i]);
		assert_int_equal(parse_changed(from, to, &r), -EBADMSG);
	}
}

/* Nesting must not cost the parser its stack. */
static void deep_nesting_is_refused(void **state)
{
	char to[2200] = "\"version\":1,\"later\":";

	memset(to + strlen(to), '[', 1000);
	memset(to + strlen(to), ']', 1000);
	assert_int_equal(parse_changed("\"version\":1", to, &(struct root){0}), -EBADMSG);
}

static void damage_is_refused(void **state)
{
	struct root r = sample();
	struct fmt_err e;
	char *json;
	size_t len;

	assert_int_equal(root_encode(&r, &json, &len), 0);
	attack_truncation(parse_root, json, len);
	attack_extension(parse_root, json, len);
	attack_bit_flips(parse_root, json, len);
	attack_garbage(parse_root, json, len, 3000);
	assert_int_equal(root_parse(json, len - 1, &r, &e), -ENODATA);
	assert_int_equal(root_parse("", 0, &r, &e), -ENODATA);
	free(json);
}

static void huge_input_is_refused(void **state)
{
	char *big = malloc(MiB);
	struct fmt_err e;
	struct root r;

	assert_non_null(big);
	memset(big, '[', MiB);
	memcpy(big + MiB - 3, "\"}\n", 3);
	assert_int_equal(root_parse(big, MiB, &r, &e), -EBADMSG);
	free(big);
}

static void names_follow_the_rule(void **state)
{
	static const char *const good[] = {"a", "0", "Vm-1.x_y", "a..b", "A-"};
	static const char *const bad[] = {"",    ".",   "..",       "-a",  "_a", "a/b",
					  "a b", "a\n", "\xc3\xa4", "a\\", "a%", "a:b"};
	char name[GFS_NAME_MAX + 1], key[512];
	struct fmt_err e;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(volume_name_check(good[i], &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		e.msg[0] = '\0';
		assert_int_equal(volume_name_check(bad[i], &e), -EINVAL);
		assert_true(e.msg[0]);
	}
	assert_int_equal(volume_name_check(NULL, &e), -EINVAL);
	memset(name, 'x', sizeof(name));
	name[GFS_NAME_MAX] = '\0';
	assert_int_equal(volume_name_check(name, &e), -EINVAL);
	name[GFS_NAME_MAX - 1] = '\0';
	assert_int_equal(volume_name_check(name, &e), 0);
	root_key(name, key, sizeof(key));
	assert_int_equal(strlen(key), strlen("exports//export.json") + GFS_NAME_MAX - 1);
	root_key("vm-1", key, sizeof(key));
	assert_string_equal(key, "exports/vm-1/export.json");
}

/* The bytes are the contract with every program that was ever released. */
static void bytes_are_as_documented(void **state)
{
	struct root r = sample();
	char *json, *want, hex[65];
	uint8_t sum[SHA256_LEN];
	const char *text =
		"{\"magic\":\"glidefs-root\",\"version\":1,"
		"\"uuid\":\"a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf\",\"name\":\"vm-1.prod_A\","
		"\"size_bytes\":10737418240,\"block_bytes\":65536,\"chunk_bytes\":134217728,"
		"\"partitions\":true,\"read_only\":false,\"generation\":7,\"sequence\":42,"
		"\"owner\":\"host-a/5b1e0a52-0c1c-4f6e-9a55-0b5c3c9d2f10\","
		"\"manifest\":{\"id\":\"00000000000000000042.0123456789abcdef\","
		"\"sha256\":\"00070e151c232a31383f464d545b626970777e858c939aa1a8afb6bdc4cbd2d9\","
		"\"bytes\":4096},\"nonce\":\"f0efeeedecebeae9e8e7e6e5e4e3e2e1\","
		"\"created_s\":1700000000";
	size_t len;

	hash_sha256(text, strlen(text), sum);
	hex_encode(sum, sizeof(sum), hex);
	assert_true(asprintf(&want, "%s,\"checksum\":\"sha256:%s\"}\n", text, hex) > 0);
	assert_int_equal(root_encode(&r, &json, &len), 0);
	assert_string_equal(json, want);
	free(json);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read_back),
		cmocka_unit_test(large_numbers_are_exact),
		cmocka_unit_test(unparsable_roots_are_not_written),
		cmocka_unit_test(well_signed_nonsense_is_refused),
		cmocka_unit_test(unknown_members_are_tolerated),
		cmocka_unit_test(missing_members_are_refused),
		cmocka_unit_test(deep_nesting_is_refused),
		cmocka_unit_test(damage_is_refused),
		cmocka_unit_test(huge_input_is_refused),
		cmocka_unit_test(names_follow_the_rule),
		cmocka_unit_test(bytes_are_as_documented),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
