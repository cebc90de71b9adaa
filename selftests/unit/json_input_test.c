// SPDX-License-Identifier: GPL-2.0-or-later
/* JSON from outside: what the table says is read, everything else is refused with a sentence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "control/json_input.h"

struct body {
	uint64_t size, count;
	bool flag;
};

static const struct json_in_field fields[] = {
	{"size", JSON_IN_SIZE, offsetof(struct body, size), true, 512, 64 * TiB, 512},
	{"count", JSON_IN_UINT, offsetof(struct body, count), false, 1, 100, 0},
	{"flag", JSON_IN_BOOL, offsetof(struct body, flag), false, 0, 0, 0},
};

static int parse(const char *text, size_t len, struct body *b, char err[256])
{
	memset(b, 0, sizeof(*b));
	err[0] = '\0';
	return json_input_parse(text, len, fields, ARRAY_SIZE(fields), b, err, 256);
}

static void accepted(const char *text, uint64_t size, uint64_t count, bool flag)
{
	struct body b;
	char err[256];

	if (parse(text, strlen(text), &b, err))
		fail_msg("%s refused: %s", text, err);
	assert_int_equal(b.size, size);
	assert_int_equal(b.count, count);
	assert_int_equal(b.flag, flag);
}

static void refused_len(const char *text, size_t len, const char *sentence)
{
	struct body b;
	char err[256];

	if (parse(text, len, &b, err) != -EINVAL)
		fail_msg("accepted: %s", text);
	if (!strstr(err, sentence))
		fail_msg("%s: wanted \"%s\", got \"%s\"", text, sentence, err);
}

static void refused(const char *text, const char *sentence)
{
	refused_len(text, strlen(text), sentence);
}

static void what_the_table_says_is_read(void **state)
{
	accepted("{\"size\":512}", 512, 0, false);
	accepted(" {\n\t\"size\" : \"10G\" , \"flag\":true,\"count\":100 } \r\n", 10 * GiB, 100,
		 true);
	accepted("{\"count\":1,\"flag\":false,\"size\":\"1T\"}", TiB, 1, false);
}

static void wrong_types_and_ranges_are_refused(void **state)
{
	refused("{\"size\":511}", "out of range");
	refused("{\"size\":513}", "multiple of 512");
	refused("{\"size\":0}", "out of range");
	refused("{\"size\":-512}", "negative");
	refused("{\"size\":-99999999999999999999}", "negative");
	refused("{\"size\":1e9}", "must be an integer");
	refused("{\"size\":1024.0}", "must be an integer");
	refused("{\"size\":18446744073709551615}", "out of range");
	refused("{\"size\":18446744073709552000}", "out of range");
	refused("{\"size\":99999999999999999999999999999999999}", "out of range");
	refused("{\"size\":NaN}", "");
	refused("{\"size\":Infinity}", "");
	refused("{\"size\":-Infinity}", "");
	refused("{\"size\":null}", "must be an integer");
	refused("{\"size\":true}", "must be an integer");
	refused("{\"size\":[512]}", "must be an integer");
	refused("{\"size\":{}}", "must be an integer");
	refused("{\"size\":\"\"}", "write bytes");
	refused("{\"size\":\"10GB\"}", "write bytes");
	refused("{\"size\":\" 10G\"}", "write bytes");
	refused("{\"size\":\"-1\"}", "write bytes");
	refused("{\"size\":\"10G\\u0000\"}", "write bytes");
	refused("{\"size\":\"99999999999999999999T\"}", "out of range");
	refused("{\"size\":512,\"count\":\"1\"}", "must be an integer");
	refused("{\"size\":512,\"count\":101}", "out of range");
	refused("{\"size\":512,\"flag\":1}", "true or false");
	refused("{\"size\":512,\"flag\":\"true\"}", "true or false");
	refused("{\"size\":512,\"flag\":null}", "true or false");
}

static void unknown_missing_and_repeated_members_are_refused(void **state)
{
	refused("{}", "\"size\" is missing");
	refused("", "\"size\" is missing");
	refused("{\"size\":512,\"sice\":1}", "unknown member \"sice\"");
	refused("{\"size\":512,\"\\u0001\\n\":1}", "unknown member \"??\"");
	refused("{\"size\":512,\"size\":1024}", "given twice");
	refused("{\"flag\":true,\"size\":512,\"flag\":true}", "given twice");
	refused("{\"size\":512,\"si\\u007ae\":512}", "given twice");
	accepted("{\"size\":512,\"flag\":true}", 512, 0, true);
}

static void what_is_not_one_flat_object_is_refused(void **state)
{
	char deep[4000];

	refused("[]", "must be a JSON object");
	refused("1", "");
	refused("\"size\"", "must be a JSON object");
	refused("null", "");
	refused("{", "ends in the middle");
	refused("{\"size\":51", "ends in the middle");
	refused("{\"size\":512", "ends in the middle");
	refused("{\"size\":512}}", "not valid JSON");
	refused("{\"size\":512}{\"size\":512}", "not valid JSON");
	refused("{\"size\":512} x", "not valid JSON");
	refused("{\"size\":512,}", "not valid JSON");
	refused("{size:512}", "not valid JSON");
	refused("{'size':512}", "not valid JSON");
	refused("/* a */{\"size\":512}", "");
	refused("{\"size\":512,\"a\":\"\xff\xfe\"}", "not valid JSON");
	refused_len("{\"size\":512}\0", 13, "");
	refused_len("\0\0\0\0", 4, "");
	for (int kind = 0; kind < 2; kind++) {
		memset(deep, kind ? '[' : ' ', sizeof(deep));
		if (!kind)
			for (size_t i = 0; i + 5 < sizeof(deep); i += 5)
				memcpy(deep + i, "{\"a\":", 5);
		deep[sizeof(deep) - 1] = '\0';
		refused(deep, "nested too deeply");
	}
	refused("{\"size\":[[[[1]]]]}", "nested too deeply");
}

static void mutated_bodies_never_crash(void **state)
{
	static const char good[] = "{\"size\":\"10G\",\"count\":17,\"flag\":true}";
	unsigned int seed = 3;

	for (int round = 0; round < 20000; round++) {
		char text[sizeof(good)], err[256];
		struct body b;
		size_t len = sizeof(good) - 1;

		memcpy(text, good, sizeof(good));
		for (int k = rand_r(&seed) % 4; k >= 0; k--)
			text[(size_t)rand_r(&seed) % len] = (char)rand_r(&seed);
		if (!(rand_r(&seed) % 4))
			len = (size_t)rand_r(&seed) % len;
		if (parse(text, len, &b, err))
			assert_true(err[0] && strlen(err) < sizeof(err));
		else
			assert_true(b.size >= 512 && b.size <= 64 * TiB && b.size % 512 == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_table_says_is_read),
		cmocka_unit_test(wrong_types_and_ranges_are_refused),
		cmocka_unit_test(unknown_missing_and_repeated_members_are_refused),
		cmocka_unit_test(what_is_not_one_flat_object_is_refused),
		cmocka_unit_test(mutated_bodies_never_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
