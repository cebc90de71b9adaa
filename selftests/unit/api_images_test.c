// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Base images from outside: the client program that blesses and exports beside a real glidefsd
 * without devices, and the API that forks, lists and deletes them.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/fsutil.h"
#include "selftests/unit/api_harness.h"

static void images_live_through_the_api(void **state)
{
	char path[64], config[64], *bytes;
	struct json_object *o, *all;
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/image", daemon_dir);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite("content", 1, 7, f), 7);
	assert_int_equal(ftruncate(fileno(f), 3 * MiB), 0);
	assert_int_equal(fclose(f), 0);
	snprintf(config, sizeof(config), "--config=%s/conf", daemon_dir);
	daemon_start("");
	api_expect(200, "GET", "/api/images", NULL);
	api_expect(404, "PUT", "/api/exports/vm-1", "{\"from\":\"image:debian\"}");
	api_expect(404, "GET", "/api/exports/vm-1", NULL);
	/* By a process of its own, beside the daemon. */
	assert_int_equal(api_client("bless", path, "debian", config), 0);
	assert_int_equal(api_client("bless", path, "debian", config), 0);
	assert_non_null(strstr(api_answer, "already"));
	assert_int_equal(api_client("bless", path, NULL, NULL), 2);
	assert_int_equal(api_client("bless", path, "a/b", config), 2);
	assert_int_equal(api_client("bless", "/nonexistent", "debian", config), 4);
	assert_int_equal(truncate(path, 4 * MiB), 0);
	assert_int_equal(api_client("bless", path, "debian", config), 5);
	api_expect(200, "GET", "/api/images", NULL);
	o = json_tokener_parse(api_answer);
	assert_true(json_object_object_get_ex(o, "images", &all));
	assert_int_equal(json_object_array_length(all), 1);
	json_object_put(o);
	api_expect(201, "PUT", "/api/exports/vm-1", "{\"from\":\"image:debian\"}");
	assert_string_equal(api_member("source"), "image:debian");
	assert_string_equal(api_member("size_bytes"), "3145728");
	api_expect(200, "PUT", "/api/exports/vm-1", "{\"from\":\"image:debian\"}");
	api_expect(409, "PUT", "/api/exports/vm-1", "{\"from\":\"image:other\"}");
	api_expect(409, "PUT", "/api/exports/vm-1", "{\"from\":\"snapshot:debian@1\"}");
	api_expect(400, "PUT", "/api/exports/vm-2", "{\"from\":\"image:\"}");
	api_expect(400, "PUT", "/api/exports/vm-2", "{\"from\":\"image:a@1\"}");
	api_expect(400, "PUT", "/api/exports/vm-2", "{\"from\":\"image:debian\",\"size\":\"1M\"}");
	api_expect(201, "PUT", "/api/exports/vm-2", "{\"from\":\"image:debian\",\"size\":\"1G\"}");
	assert_int_equal(api_client("fork", "vm-3", "--from", "image:debian"), 0);
	/* The image goes, the forks stay; a fork that is there stays one of it. */
	assert_int_equal(api_client("images", NULL, NULL, NULL), 0);
	assert_non_null(strstr(api_answer, "debian"));
	assert_int_equal(api_client("image-rm", "debian", NULL, NULL), 0);
	assert_int_equal(api_client("image-rm", "debian", NULL, NULL), 0);
	api_expect(200, "DELETE", "/api/images/debian", NULL);
	api_expect(400, "DELETE", "/api/images/-debian", NULL);
	api_expect(200, "PUT", "/api/exports/vm-1", "{\"from\":\"image:debian\"}");
	api_expect(404, "PUT", "/api/exports/vm-4", "{\"from\":\"image:debian\"}");
	/* Out again: the fork, through a file and through a pipe. */
	snprintf(path, sizeof(path), "%s/out", daemon_dir);
	assert_int_equal(api_client("export-image", "volume:vm-1", path, config), 0);
	assert_int_equal(api_client("export-image", "volume:vm-1", path, config), 5);
	assert_int_equal(api_client("export-image", "volume:vm-9", path, config), 4);
	assert_int_equal(api_client("export-image", "vm-1", path, config), 2);
	assert_int_equal(api_client("export-image", "volume:vm-1", daemon_dir, config), 1);
	assert_int_equal(file_read_all(AT_FDCWD, path, 8 * MiB, &bytes, &len), 0);
	assert_int_equal(len, 3 * MiB);
	assert_memory_equal(bytes, "content", 8);
	free(bytes);
	assert_int_equal(api_client("export-image", "image:debian", "-", config), 4);
	daemon_stop(SIGTERM);
}

static int __attribute__((format(printf, 1, 2))) shell(const char *fmt, ...)
{
	char cmd[512], all[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	snprintf(all, sizeof(all), "cd %s && { %s; } >/dev/null 2>&1", daemon_dir, cmd);
	return system(all);
}

/* What the last command said of its failure. */
static void assert_said(const char *what)
{
	if (!strstr(api_answer, what))
		fail_msg("not a word of \"%s\": %s", what, api_answer);
}

static void a_qcow2_image_is_the_image_that_it_holds(void **state)
{
	char raw[64], q[64], config[64], *path = strdup(getenv("PATH"));

	snprintf(raw, sizeof(raw), "%s/raw", daemon_dir);
	snprintf(q, sizeof(q), "%s/nbd:image", daemon_dir); /* no protocol: a file */
	snprintf(config, sizeof(config), "--config=%s/conf", daemon_dir);
	daemon_write_config("");
	assert_int_equal(shell("head -c 3000000 /dev/urandom >raw && truncate -s 40M raw && "
			       "printf end | dd of=raw bs=1 seek=41943037 conv=notrunc"),
			 0);
	if (shell("qemu-img convert -f raw -O qcow2 -c raw ./nbd:image"))
		skip(); /* no qemu-img */
	assert_int_equal(api_client("bless", raw, "debian", config), 0);
	/* The same content: nothing else would be there already. */
	assert_int_equal(api_client("bless", q, "debian", config), 0);
	assert_said("already");
	assert_int_equal(shell("cp ./nbd:image copy"), 0);
	/* It must not choose what of this host is read, nor be damaged. */
	assert_int_equal(shell("qemu-img create -f qcow2 -b raw -F raw backed"), 0);
	snprintf(q, sizeof(q), "%s/backed", daemon_dir);
	assert_int_equal(api_client("bless", q, "backed", config), 1);
	assert_said("backing file");
	assert_int_equal(
		shell("qemu-img create -f qcow2 -o data_file=raw,data_file_raw=on split 40M"), 0);
	snprintf(q, sizeof(q), "%s/split", daemon_dir);
	assert_int_equal(api_client("bless", q, "split", config), 1);
	assert_said("another file");
	for (int bytes = 300; bytes < 3000000; bytes *= 7) {
		assert_int_equal(shell("head -c %d copy >short", bytes), 0);
		snprintf(q, sizeof(q), "%s/short", daemon_dir);
		assert_int_equal(api_client("bless", q, "short", config), 1);
		assert_said("qemu-img");
	}
	/* Without the tool the sentence names the package. */
	snprintf(q, sizeof(q), "%s/copy", daemon_dir);
	/* What no volume can hold is refused before it is converted. */
	assert_int_equal(shell("qemu-img create -f qcow2 huge 65T"), 0);
	snprintf(q, sizeof(q), "%s/huge", daemon_dir);
	assert_int_equal(api_client("bless", q, "huge", config), 1);
	assert_said("at most 70368744177664");
	snprintf(q, sizeof(q), "%s/copy", daemon_dir);
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(api_client("bless", q, "debian", config), 1);
	setenv("PATH", path, 1);
	assert_said("qemu-utils");
	free(path);
}

/* Has the process an open file below daemon_dir that has no name (yet)? */
static bool has_unnamed_file(pid_t pid)
{
	char path[64], to[256];
	bool found = false;

	for (int fd = 3; fd < 64 && !found; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, fd);
		n = readlink(path, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		found = !strncmp(to, daemon_dir, strlen(daemon_dir)) && strstr(to, "(deleted)");
	}
	return found;
}

static void half_an_export_has_no_name(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGKILL};
	char image[64], out[64], config[64];
	const char *const args[] = {"export-image", "image:debian", out, config, NULL};
	const char *const over[] = {"export-image", "image:debian", out, config, "--force", NULL};
	int fd = open(daemon_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), null, status;
	pid_t pid;

	if (fd < 0)
		skip(); /* a file system without unnamed files */
	close(fd);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	snprintf(image, sizeof(image), "%s/image", daemon_dir);
	snprintf(out, sizeof(out), "%s/whole", daemon_dir);
	snprintf(config, sizeof(config), "--config=%s/conf", daemon_dir);
	daemon_write_config("");
	assert_int_equal(shell("head -c 3000320 /dev/urandom >image"), 0);
	assert_int_equal(api_client("bless", image, "debian", config), 0);
	daemon_write_config("[store]\nfault=get:chunks/* hang\n");
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		uint64_t until = now_ns() + 60 * NSEC_PER_SEC;

		pid = api_client_spawn(args, null);
		while (!has_unnamed_file(pid)) {
			assert_true(now_ns() < until);
			pause_ms(5);
		}
		assert_int_equal(kill(pid, signals[i]), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		assert_int_equal(access(out, F_OK), -1);
	}
	/* What the store does not give is no image either; what was there is said not to be one. */
	daemon_write_config("[store]\nfault=get:chunks/* error=EACCES\n");
	assert_int_equal(api_client("export-image", "image:debian", out, config), 1);
	assert_said("is not made");
	assert_int_equal(access(out, F_OK), -1);
	assert_int_equal(shell("echo old >whole"), 0);
	assert_int_equal(api_client("export-image", "image:debian", out, config), 5);
	assert_int_equal(shell("grep -q old whole"), 0);
	daemon_write_config("");
	pid = api_client_spawn(over, null);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	assert_int_equal(shell("cmp whole image"), 0);
	close(null);
}

static void what_is_packed_is_not_taken_for_a_raw_image(void **state)
{
	char path[64], config[64];

	snprintf(config, sizeof(config), "--config=%s/conf", daemon_dir);
	daemon_write_config("");
	assert_int_equal(shell("head -c 100000 /dev/urandom >raw && gzip -c raw >packed && "
			       "printf 'QFI\\373' >q && cat raw >>q && rm -f pipe && mkfifo pipe"),
			 0);
	snprintf(path, sizeof(path), "%s/packed", daemon_dir);
	assert_int_equal(api_client("bless", path, "debian", config), 1);
	assert_said("gzip -dc");
	/* Through a pipe too, from which nothing is taken by looking. */
	snprintf(path, sizeof(path), "%s/pipe", daemon_dir);
	assert_int_equal(shell("cat q >pipe & :"), 0);
	assert_int_equal(api_client("bless", path, "debian", config), 1);
	assert_said("qcow2");
	assert_int_equal(shell("cat raw >pipe & :"), 0);
	assert_int_equal(api_client("bless", path, "debian", config), 0);
	snprintf(path, sizeof(path), "%s/raw", daemon_dir);
	assert_int_equal(api_client("bless", path, "debian", config), 0);
	assert_said("already");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(images_live_through_the_api, daemon_clean),
		cmocka_unit_test_teardown(a_qcow2_image_is_the_image_that_it_holds, daemon_clean),
		cmocka_unit_test_teardown(half_an_export_has_no_name, daemon_clean),
		cmocka_unit_test_teardown(what_is_packed_is_not_taken_for_a_raw_image,
					  daemon_clean),
	};

	return cmocka_run_group_tests(tests, daemon_setup, daemon_teardown);
}
