// SPDX-License-Identifier: GPL-2.0-or-later
/* The device map's format, durability and change; and the reading of mountinfo. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "lib/hash.h"
#include "ublk/ublk_priv.h"

#include <fcntl.h>
#include <sys/stat.h>

#define BOOT_1 "11111111-2222-4333-8444-555555555555"
#define BOOT_2 "99999999-2222-4333-8444-555555555555"

static char dir[64];

static int setup(void **state __unused)
{
	snprintf(dir, sizeof(dir), "/tmp/gfs-devmap-XXXXXX");
	setenv("GFS_BOOT_ID", BOOT_1, 1);
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state __unused)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, DEVMAP_FILE);
	unlink(path);
	snprintf(path, sizeof(path), "%s/mountinfo", dir);
	unlink(path);
	return rmdir(dir);
}

static void put(const char *name, const char *text)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY);

	assert_int_equal(file_write_atomic(fd, name, text, strlen(text)), 0);
	close(fd);
}

static void map_survives_reopen(void **state __unused)
{
	struct devmap_entry e;
	struct fmt_err err = {""};
	struct devmap *m;
	uint8_t u[3][16];

	assert_int_equal(devmap_open(dir, &m, &err), 0);
	assert_false(devmap_was_whole(m));
	for (int i = 0; i < 3; i++) {
		uuid_generate_v4(u[i]);
		assert_int_equal(devmap_set(m, i, u[i], i == 1 ? "db-1" : "vm"), 0);
	}
	devmap_clear(m, 0);
	assert_int_equal(devmap_sync(m), 0);
	devmap_close(m);

	assert_int_equal(devmap_open(dir, &m, &err), 0);
	assert_true(devmap_was_whole(m));
	assert_false(devmap_find_uuid(m, u[0], &e));
	assert_false(devmap_find_dev(m, 0, &e));
	assert_true(devmap_find_uuid(m, u[1], &e));
	assert_int_equal(e.dev_id, 1);
	assert_string_equal(e.name, "db-1");
	assert_true(devmap_find_dev(m, 2, &e));
	assert_memory_equal(e.uuid, u[2], 16);
	devmap_close(m);
}

static void newer_claim_replaces_older(void **state __unused)
{
	struct devmap_entry e;
	struct fmt_err err = {""};
	uint8_t a[16], b[16];
	struct devmap *m;

	uuid_generate_v4(a);
	uuid_generate_v4(b);
	assert_int_equal(devmap_open(dir, &m, &err), 0);
	assert_int_equal(devmap_set(m, 5, a, "a"), 0);
	/* The device has a new volume, then the volume a new device. */
	assert_int_equal(devmap_set(m, 5, b, "b"), 0);
	assert_false(devmap_find_uuid(m, a, &e));
	assert_int_equal(devmap_set(m, 6, b, "b"), 0);
	assert_false(devmap_find_dev(m, 5, &e));
	assert_true(devmap_find_uuid(m, b, &e));
	assert_int_equal(e.dev_id, 6);
	devmap_close(m);
}

static void map_of_an_earlier_boot_is_empty(void **state __unused)
{
	struct devmap_entry e;
	struct fmt_err err = {""};
	struct devmap *m;
	uint8_t u[16];

	uuid_generate_v4(u);
	assert_int_equal(devmap_open(dir, &m, &err), 0);
	assert_int_equal(devmap_set(m, 7, u, "vm"), 0);
	assert_int_equal(devmap_sync(m), 0);
	devmap_close(m);
	setenv("GFS_BOOT_ID", BOOT_2, 1);
	assert_int_equal(devmap_open(dir, &m, &err), 0);
	assert_false(devmap_find_uuid(m, u, &e));
	assert_false(devmap_was_whole(m));
	devmap_close(m);
}

static void bad_maps_are_refused_with_a_reason(void **state __unused)
{
#define DEV(id, uuid, name) "{\"dev_id\":" id ",\"uuid\":\"" uuid "\",\"name\":\"" name "\"}"
#define MAP(devs)           "{\"version\":1,\"boot_id\":\"" BOOT_1 "\",\"devices\":[" devs "]}"
#define UUID                "0a1b2c3d-4e5f-4071-8293-a4b5c6d7e8f9"
	static const struct {
		const char *json;
		const char *why;
		int r;
	} bad[] = {
		{"", "not JSON", -EBADMSG},
		{"{", "not JSON", -EBADMSG},
		{"[]", "version", -EBADMSG},
		{"{\"version\":1}", "boot id", -EBADMSG},
		{"{\"version\":2,\"boot_id\":\"" BOOT_1 "\",\"devices\":[]}", "version 2",
		 -EPROTONOSUPPORT},
		{"{\"version\":1,\"boot_id\":\"x\",\"devices\":[]}", "boot id", -EBADMSG},
		{"{\"version\":1,\"boot_id\":\"" BOOT_1 "\",\"devices\":{}}", "list", -EBADMSG},
		{MAP("1"), "entry 0", -EBADMSG},
		{MAP(DEV("-1", UUID, "a")), "out of range", -EBADMSG},
		{MAP(DEV("99999999999", UUID, "a")), "out of range", -EBADMSG},
		{MAP(DEV("\"1\"", UUID, "a")), "lacks", -EBADMSG},
		{MAP(DEV("1", "zz", "a")), "uuid", -EBADMSG},
		{MAP(DEV("1", UUID, "../etc")), "name", -EBADMSG},
		{MAP(DEV("1", UUID, "a") "," DEV("1", UUID, "b")), "twice", -EBADMSG},
		{MAP("") "x", "not JSON", -EBADMSG},
	};
	struct devmap_entry *e = NULL;
	struct fmt_err err;
	char boot[37];
	size_t nr;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		err.msg[0] = '\0';
		assert_int_equal(
			devmap_parse(bad[i].json, strlen(bad[i].json), &e, &nr, boot, &err),
			bad[i].r);
		if (!strstr(err.msg, bad[i].why))
			fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.msg, bad[i].why);
	}
	assert_int_equal(devmap_parse(MAP(DEV("1", UUID, "a")), strlen(MAP(DEV("1", UUID, "a"))),
				      &e, &nr, boot, &err),
			 0);
	assert_int_equal(nr, 1);
	free(e);
}

static void every_truncation_is_refused(void **state __unused)
{
	struct devmap_entry in[2] = {{.dev_id = 3, .name = "one"}, {.dev_id = 4, .name = "two"}};
	struct devmap_entry *e = NULL;
	struct fmt_err err;
	char boot[37], *json;
	size_t len, nr;

	uuid_generate_v4(in[0].uuid);
	uuid_generate_v4(in[1].uuid);
	assert_int_equal(devmap_encode(in, 2, BOOT_1, &json, &len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		char *part = strndup(json, cut);

		assert_int_equal(devmap_parse(part, cut, &e, &nr, boot, &err), -EBADMSG);
		free(part);
	}
	assert_int_equal(devmap_parse(json, len, &e, &nr, boot, &err), 0);
	assert_int_equal(nr, 2);
	assert_memory_equal(e[1].uuid, in[1].uuid, 16);
	assert_string_equal(boot, BOOT_1);
	free(e);
	free(json);
}

static void corrupt_map_file_still_gives_an_empty_map(void **state __unused)
{
	struct fmt_err err = {""};
	struct devmap *m;
	uint8_t u[16];

	put(DEVMAP_FILE, "{\"version\":1,");
	uuid_generate_v4(u);
	assert_int_equal(devmap_open(dir, &m, &err), -EBADMSG);
	assert_true(err.msg[0]);
	assert_false(devmap_was_whole(m));
	assert_int_equal(devmap_set(m, 1, u, "vm"), 0);
	assert_int_equal(devmap_sync(m), 0);
	devmap_close(m);
	assert_int_equal(devmap_open(dir, &m, &err), 0);
	devmap_close(m);
}

static void *many_syncs(void *arg)
{
	struct devmap *m = arg;
	static int next = 100;

	for (int i = 0; i < 20; i++) {
		int id = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
		uint8_t u[16];

		uuid_generate_v4(u);
		if (devmap_set(m, id, u, "vm") || devmap_sync(m))
			return (void *)1;
	}
	return NULL;
}

static void syncs_of_many_threads_are_all_durable(void **state __unused)
{
	struct fmt_err err = {""};
	struct devmap_entry e;
	struct devmap *m;
	pthread_t t[8];
	void *res;

	assert_int_equal(devmap_open(dir, &m, &err), 0);
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, many_syncs, m);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], &res);
		assert_null(res);
	}
	devmap_close(m);
	assert_int_equal(devmap_open(dir, &m, &err), 0);
	for (int id = 100; id < 260; id++)
		assert_true(devmap_find_dev(m, id, &e));
	devmap_close(m);
}

static int count_mount(const struct mount_entry *m, void *arg)
{
	int *n = arg;

	if (++*n == 2) {
		assert_string_equal(m->mount_point, "/mnt/with space\\x");
		assert_string_equal(m->source, "/dev/ublkb0");
		assert_int_equal(m->major, 259);
		assert_int_equal(m->minor, 3);
		return 7;
	}
	return 0;
}

static void mountinfo_is_read_with_its_escapes(void **state __unused)
{
	char path[128];
	int n = 0;

	put("mountinfo", "22 1 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n"
			 "garbage\n"
			 "36 22 259:3 / /mnt/with\\040space\\134x rw shared:1 master:2 - ext4 "
			 "/dev/ublkb0 rw\n"
			 "37 22 259:4 / /never rw - ext4 /dev/x rw\n");
	snprintf(path, sizeof(path), "%s/mountinfo", dir);
	assert_int_equal(mounts_for_each(path, count_mount, &n), 7);
	assert_int_equal(n, 2);
	assert_int_equal(mounts_for_each("/nonexistent", count_mount, &n), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(map_survives_reopen),
		T(newer_claim_replaces_older),
		T(map_of_an_earlier_boot_is_empty),
		T(bad_maps_are_refused_with_a_reason),
		T(every_truncation_is_refused),
		T(corrupt_map_file_still_gives_an_empty_map),
		T(syncs_of_many_threads_are_all_durable),
		T(mountinfo_is_read_with_its_escapes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
