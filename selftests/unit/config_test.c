// SPDX-License-Identifier: GPL-2.0-or-later
/* The configuration: defaults, every kind of mistake told with its line, all at once; documents
 * agree. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/config.h"
#include "lib/fsutil.h"
#include "lib/log.h"

static char path[64];

static int load(const char *text, struct config *c, char **errors)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return config_load(path, c, errors);
}

static void refused(const char *text, unsigned int line, const char *sentence)
{
	char *errors, want[128];
	struct config c;

	assert_int_equal(load(text, &c, &errors), -EINVAL);
	if (line)
		snprintf(want, sizeof(want), "%s:%u: ", path, line);
	else
		snprintf(want, sizeof(want), "%s: ", path);
	if (!strstr(errors, want) || !strstr(errors, sentence))
		fail_msg("wanted \"%s\" and \"%s\" in: %s", want, sentence, errors);
	free(errors);
}

static void defaults_are_valid_and_complete(void **state)
{
	struct config c;
	char *errors;

	assert_int_equal(config_load(NULL, &c, &errors), 0);
	assert_null(errors);
	assert_string_equal(c.socket, "/run/glidefs/glidefsd.sock");
	assert_string_equal(c.timing_log, "");
	assert_int_equal(c.upload_dirty_bytes, 64 * MiB);
	assert_int_equal(c.queues, 2);
	assert_int_equal(c.metrics, true);
	assert_int_equal(c.log_level, LOG_LVL_INFO);
	config_free(&c);
}

static void values_of_every_kind_are_read(void **state)
{
	struct config c;
	char *errors;

	assert_int_equal(
		load("\xef\xbb\xbf# comment\n[daemon]\n  socket = /tmp/s ; where\nlog_level=debug\n"
		     "metrics=no\nhost_name = a.b-c_1\n\n[store]\nurl = file:///x;y\n"
		     "[upload]\ndirty_bytes = 1G\nage_s=7\n[io]\nslow_ms = off\n[cache]\n"
		     "memory_bytes=2t\nhost_max_bytes = 1073741825",
		     &c, &errors),
		0);
	assert_string_equal(c.socket, "/tmp/s");
	assert_int_equal(c.log_level, LOG_LVL_DEBUG);
	assert_int_equal(c.metrics, false);
	assert_string_equal(c.host_name, "a.b-c_1");
	assert_string_equal(c.store_url, "file:///x;y");
	assert_int_equal(c.upload_dirty_bytes, GiB);
	assert_int_equal(c.upload_age_s, 7);
	assert_true(c.slow_ms == UINT64_MAX);
	assert_int_equal(c.memory_bytes, 2 * TiB);
	assert_int_equal(c.host_max_bytes, GiB + 1);
	config_free(&c);
}

static void mistakes_are_told_with_line_and_sentence(void **state)
{
	char big[6000];

	refused("[daemon]\nsockett = /x\n", 2, "unknown option \"sockett\"");
	refused("[demon]\nsocket = /x\n", 1, "unknown section [demon]");
	refused("socket = /x\n", 1, "before the first [section]");
	refused("[daemon]\nsocket /x\n", 2, "neither");
	refused("[daemon\nsocket = /x\n", 1, "lacks its ]");
	refused("[daemon]\nsocket = x\n", 2, "absolute path");
	refused("[daemon]\nsocket =\n", 2, "0 characters");
	refused("[daemon]\nlog_level = loud\n", 2, "error, warn, info or debug");
	refused("[daemon]\nmetrics = maybe\n", 2, "yes or no");
	refused("[daemon]\nhost_name = a/b\n", 0, "letters, digits");
	refused("[daemon]\nstate_dir = /a\ncache_dir = /a\n", 0, "same directory");
	refused("[io]\nworkers = 65\n", 2, "0 to 64");
	refused("[io]\nworkers = -1\n", 2, "must be a number");
	refused("[io]\nworkers = 1K\n", 2, "must be a number");
	refused("[io]\nworkers = 1 2\n", 2, "must be a number");
	refused("[io]\nworkers =\n", 2, "must be a number");
	refused("[io]\nworkers = 99999999999999999999999\n", 2, "are allowed");
	refused("[io]\nslow_ms = never\n", 2, "or off");
	refused("[ublk]\nqueues = 1\n", 2, "2 to 64");
	refused("[ublk]\ndepth = 513\n", 2, "1 to 512");
	refused("[ublk]\nqueues = 4\ndepth = 257\n", 0, "is 1028: 1024 is the most");
	refused("[upload]\ndirty_bytes = 12Q\n", 2, "K, M, G or T");
	refused("[upload]\ndirty_bytes = 99999999999T\n", 2, "are allowed");
	refused("[upload]\nage_s = 1\nage_s = 2\n", 3, "given twice: first in line 2");
	refused("[cache]\nvolume_max_bytes = 1M\n", 0, "less than upload.dirty_bytes");
	refused("[store]\npath_style = perhaps\n", 0, "yes, no or auto");
	refused("[store]\naccess_key_id = a\n", 0, "store.access_key_id goes with");
	refused("[store]\nsecret_access_key = a\n", 0, "store.access_key_id goes with");
	refused("[store]\naccess_key_id = a\nsecret_access_key = b\nsecret_key_file = /c\n", 0,
		"store.access_key_id goes with");
	refused("[store]\nmax_connections = 3\n", 2, "4 to 1024");
	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	memcpy(big, "[daemon]\nsocket = /", 19);
	refused(big, 2, "longer than");
}

static void all_mistakes_are_told_at_once(void **state)
{
	struct config c;
	char *errors;
	unsigned int lines = 0;

	assert_int_equal(
		load("[io]\nworkers = x\n[nope]\na = b\n[ublk]\ndepth = 0\njunk\n", &c, &errors),
		-EINVAL);
	for (const char *p = errors; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, 4);
	free(errors);
}

static void a_missing_file_is_an_error(void **state)
{
	struct config c;
	char *errors;

	assert_int_equal(config_load("/nonexistent/glidefsd.conf", &c, &errors), -ENOENT);
	assert_non_null(strstr(errors, "No such file"));
	free(errors);
}

/* Bytes of any kind: an answer, never a crash. */
static void random_bytes_never_crash_the_parser(void **state)
{
	unsigned int seed = 7;

	for (int round = 0; round < 300; round++) {
		static const char alphabet[] = "[]=:;# \n\t\\\"daemonsocket0123456789KMGT/\xff\x01";
		struct config c;
		char *errors, text[400];
		size_t n = (size_t)rand_r(&seed) % (sizeof(text) - 1);

		for (size_t i = 0; i < n; i++)
			text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
		text[n] = '\0';
		if (!load(text, &c, &errors))
			config_free(&c);
		else
			assert_non_null(errors);
		free(errors);
	}
}

static void sizes_are_parsed_exactly(void **state)
{
	static const struct {
		const char *s;
		int r;
		uint64_t v;
	} table[] = {
		{"0", 0, 0},
		{"1", 0, 1},
		{"4k", 0, 4096},
		{"10G", 0, 10 * GiB},
		{"16777215T", 0, 16777215 * TiB},
		{"16777216T", -ERANGE, 0},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1KB", -EINVAL, 0},
		{"1.5G", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"G", -EINVAL, 0},
		{"1e9", -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint64_t v = 0;

		if (size_parse(table[i].s, &v) != table[i].r || v != table[i].v)
			fail_msg("size \"%s\"", table[i].s);
	}
}

/* Every option stands, with its default, in the example, and in the manual. */
static void documents_name_every_option(void **state)
{
	static const char *const docs[] = {"packaging/glidefsd.conf",
					   "Documentation/man/glidefsd.conf.5",
					   "Documentation/man/glidefsd.conf.5.rst"};
	const char *top = getenv("GFS_SRCTREE");
	char file[512], want[200];

	if (!top)
		top = ".";
	for (size_t d = 0; d < ARRAY_SIZE(docs); d++) {
		char *text;
		size_t len;

		snprintf(file, sizeof(file), "%s/%s", top, docs[d]);
		if (access(file, R_OK))
			skip(); /* not run from the source tree */
		assert_int_equal(file_read_all(AT_FDCWD, file, MiB, &text, &len), 0);
		for (unsigned int i = 0; i < config_options_nr; i++) {
			const struct config_option *o = &config_options[i];

			if (d == 0)
				snprintf(want, sizeof(want), "\n#%s =%s%s\n", o->name,
					 o->def[0] ? " " : "", o->def);
			else if (d == 1)
				snprintf(want, sizeof(want), "\\fB%s\\fR (default: ", o->name);
			else
				snprintf(want, sizeof(want), "``%s`` (default: %s%s", o->name,
					 o->def[0] ? "``" : "empty", o->def);
			if (!strstr(text, want))
				fail_msg("%s lacks %s.%s with its default", docs[d], o->section,
					 o->name);
		}
		free(text);
	}
}

static void the_example_is_a_valid_configuration(void **state)
{
	struct config c;
	char *errors;

	if (access("packaging/glidefsd.conf", R_OK))
		skip();
	assert_int_equal(config_load("packaging/glidefsd.conf", &c, &errors), 0);
	config_free(&c);
}

static int setup(void **state)
{
	int fd;

	snprintf(path, sizeof(path), "/tmp/config_test.XXXXXX");
	fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_valid_and_complete),
		cmocka_unit_test(values_of_every_kind_are_read),
		cmocka_unit_test(mistakes_are_told_with_line_and_sentence),
		cmocka_unit_test(all_mistakes_are_told_at_once),
		cmocka_unit_test(a_missing_file_is_an_error),
		cmocka_unit_test(random_bytes_never_crash_the_parser),
		cmocka_unit_test(sizes_are_parsed_exactly),
		cmocka_unit_test(documents_name_every_option),
		cmocka_unit_test(the_example_is_a_valid_configuration),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
