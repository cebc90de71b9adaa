// SPDX-License-Identifier: GPL-2.0-or-later
/* Promises of the file store to one process; store_race_test.c has those between processes. */
#include "store_test.h"
#include "store/store_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct scratch dir;
static struct store *st;

static int setup(void **state)
{
	dir = scratch_new();
	st = open_store(dir.url, NULL);
	return 0;
}

static int teardown(void **state)
{
	store_close(st);
	scratch_free(&dir);
	return 0;
}

static void put_get_and_head_agree(void **state)
{
	char put_etag[STORE_ETAG_MAX], get_etag[STORE_ETAG_MAX], buf[64];
	struct store_op head;

	assert_int_equal(put_str(st, "exports/vm-1/export.json", "hello", STORE_ALWAYS, put_etag),
			 0);
	assert_int_equal(get_str(st, "exports/vm-1/export.json", buf, sizeof(buf), get_etag), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(head_key(st, "exports/vm-1/export.json", &head), 0);
	assert_true(put_etag[0]);
	assert_string_equal(put_etag, get_etag);
	assert_string_equal(put_etag, head.etag);
	assert_int_equal(head.object_size, 5);
	assert_true(head.mtime_s + 60 > (uint64_t)time(NULL));
}

static void etag_survives_reopening(void **state)
{
	char before[STORE_ETAG_MAX];
	struct store_op head;

	assert_int_equal(put_str(st, "k", "v", STORE_ALWAYS, before), 0);
	store_close(st);
	st = open_store(dir.url, NULL);
	assert_int_equal(head_key(st, "k", &head), 0);
	assert_string_equal(head.etag, before);
}

static void body_is_gathered_from_its_parts(void **state)
{
	struct iovec iov[] = {{"ab", 2}, {"", 0}, {"cde", 3}};
	struct store_op op = {.type = STORE_PUT, .key = "k", .iov = iov, .iovcnt = 3};

	assert_int_equal(store_run(st, &op), 0);
	assert_object(st, "k", "abcde");
}

static void absent_keys_say_so(void **state)
{
	char buf[8];

	assert_int_equal(put_str(st, "a/b", "x", STORE_ALWAYS, NULL), 0);
	/* A directory on the way to a key is no key, nor is anything below an object. */
	assert_int_equal(get_str(st, "a", buf, sizeof(buf), NULL), -ENOENT);
	assert_int_equal(head_key(st, "a", NULL), -ENOENT);
	assert_int_equal(get_str(st, "a/b/c", buf, sizeof(buf), NULL), -ENOENT);
	assert_int_equal(get_str(st, "nope", buf, sizeof(buf), NULL), -ENOENT);
	assert_int_equal(head_key(st, "nope", NULL), -ENOENT);
	assert_int_equal(delete_key(st, "nope", NULL), 0);
	assert_int_equal(delete_key(st, "a", NULL), 0);
	assert_int_equal(delete_key(st, "nope", "1-2-3-4"), -ESTALE);
	assert_object(st, "a/b", "x");
}

static void get_ranges(void **state)
{
	static const struct {
		uint64_t off, len;
		int res;
		const char *want;
	} t[] = {
		{0, 3, 0, "012"},
		{4, 2, 0, "45"},
		{8, 100, 0, "89"},
		{9, 0, 0, "9"},
		{0, 0, 0, "0123456789"},
		{10, 1, -ERANGE, ""},
		{10, 0, -ERANGE, ""},
		{UINT64_MAX, UINT64_MAX, -ERANGE, ""},
		{5, UINT64_MAX, 0, "56789"},
	};

	assert_int_equal(put_str(st, "k", "0123456789", STORE_ALWAYS, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct store_op op = {
			.type = STORE_GET, .key = "k", .off = t[i].off, .len = t[i].len};

		assert_int_equal(store_run(st, &op), t[i].res);
		assert_int_equal(op.size_out, strlen(t[i].want));
		if (t[i].res) {
			assert_null(op.buf);
			continue;
		}
		assert_memory_equal(op.buf, t[i].want, op.size_out);
		assert_int_equal(op.object_size, 10);
		free(op.buf);
	}
}

static void get_never_overruns_the_buffer(void **state)
{
	char buf[4] = "zzz";
	struct store_op op = {.type = STORE_GET, .key = "k", .buf = buf, .buf_size = 2};

	assert_int_equal(put_str(st, "k", "0123456789", STORE_ALWAYS, NULL), 0);
	assert_int_equal(store_run(st, &op), -EINVAL);
	assert_string_equal(buf, "zzz");
	op.len = 2;
	assert_int_equal(store_run(st, &op), 0);
	assert_string_equal(buf, "01z");
}

static void empty_objects_are_objects(void **state)
{
	struct store_op op = {.type = STORE_GET, .key = "empty"};

	assert_int_equal(put_str(st, "empty", "", STORE_ALWAYS, NULL), 0);
	assert_int_equal(store_run(st, &op), 0);
	assert_int_equal(op.size_out, 0);
	free(op.buf);
}

static void create_refuses_an_existing_key(void **state)
{
	char etag[STORE_ETAG_MAX];
	struct store_op head;

	assert_int_equal(put_str(st, "d/k", "first", STORE_IF_NONE_MATCH, etag), 0);
	assert_int_equal(put_str(st, "d/k", "second", STORE_IF_NONE_MATCH, NULL), -EEXIST);
	assert_object(st, "d/k", "first");
	assert_int_equal(head_key(st, "d/k", &head), 0);
	assert_string_equal(head.etag, etag);
	assert_int_equal(delete_key(st, "d/k", NULL), 0);
	assert_int_equal(put_str(st, "d/k", "third", STORE_IF_NONE_MATCH, NULL), 0);
}

static void update_needs_the_current_etag(void **state)
{
	char old[STORE_ETAG_MAX], etag[STORE_ETAG_MAX];

	strcpy(etag, "0-0-0-0");
	assert_int_equal(put_str(st, "k", "x", STORE_IF_MATCH, etag), -ESTALE);
	assert_int_equal(put_str(st, "k", "1", STORE_ALWAYS, etag), 0);
	strcpy(old, etag);
	assert_int_equal(put_str(st, "k", "2", STORE_IF_MATCH, etag), 0);
	assert_string_not_equal(etag, old);
	assert_int_equal(put_str(st, "k", "3", STORE_IF_MATCH, old), -ESTALE);
	assert_object(st, "k", "2");
	assert_int_equal(delete_key(st, "k", old), -ESTALE);
	assert_object(st, "k", "2");
	assert_int_equal(delete_key(st, "k", etag), 0);
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

/* The same bytes written again are another version: A, B, A must not look like A. */
static void etag_never_repeats(void **state)
{
	enum { N = 200 };
	static char etag[N][STORE_ETAG_MAX];

	for (int i = 0; i < N; i++) {
		if (i % 3 == 2)
			assert_int_equal(delete_key(st, "k", NULL), 0);
		assert_int_equal(put_str(st, "k", i % 2 ? "A" : "B", STORE_ALWAYS, etag[i]), 0);
		for (int j = 0; j < i; j++)
			assert_string_not_equal(etag[i], etag[j]);
	}
	assert_int_equal(put_str(st, "k", "C", STORE_IF_MATCH, etag[N - 3]), -ESTALE);
}

static void illegal_keys_are_refused(void **state)
{
	static char longest[STORE_KEY_MAX + 8], part[300];
	const char *bad[] = {"",    "/a",     "a/",          "a//b",      "..", "a/../b", ".",
			     "a/.", ".tmp/x", ".locks/keys", "a/.hidden", "/",  longest,  part};
	char buf[8];

	for (size_t i = 0; i < sizeof(longest) - 1; i++)
		longest[i] = i % 100 ? 'k' : i ? '/' : 'k';
	memset(part, 'p', 256);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(put_str(st, bad[i], "x", STORE_ALWAYS, NULL), -EINVAL);
		assert_int_equal(get_str(st, bad[i], buf, sizeof(buf), NULL), -EINVAL);
		assert_int_equal(delete_key(st, bad[i], NULL), -EINVAL);
	}
	longest[STORE_KEY_MAX - 1] = '\0';
	part[255] = '\0';
	assert_int_equal(put_str(st, longest, "x", STORE_ALWAYS, NULL), 0);
	assert_int_equal(put_str(st, part, "x", STORE_ALWAYS, NULL), 0);
	assert_object(st, longest, "x");
}

static void symlinks_and_fifos_are_no_objects(void **state)
{
	char path[256], buf[8];

	snprintf(path, sizeof(path), "%s/link", dir.dir);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	snprintf(path, sizeof(path), "%s/fifo", dir.dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(get_str(st, "link", buf, sizeof(buf), NULL), -ENOENT);
	assert_int_equal(head_key(st, "link", NULL), -ENOENT);
	assert_int_equal(get_str(st, "fifo", buf, sizeof(buf), NULL), -ENOENT);
}

/* ---- LIST ---- */

static int list_page(const char *prefix, const char *after, struct store_list_entry *e,
		     unsigned int max, struct store_op *op)
{
	*op = (struct store_op){
		.type = STORE_LIST, .key = prefix, .entries = e, .max_entries = max};
	snprintf(op->start_after, sizeof(op->start_after), "%s", after);
	return store_run(st, op);
}

/* A collector would take what only that volume names for garbage. */
static void a_list_never_leaves_out_what_a_get_finds(void **state)
{
	struct store_list_entry e[8];
	char path[256], buf[8];
	struct store_op op;

	assert_int_equal(put_str(st, "exports/here/export.json", "x", STORE_ALWAYS, NULL), 0);
	assert_int_equal(put_str(st, "elsewhere/export.json", "x", STORE_ALWAYS, NULL), 0);
	snprintf(path, sizeof(path), "%s/exports/moved", dir.dir);
	assert_int_equal(symlink("../elsewhere", path), 0);
	assert_int_equal(get_str(st, "exports/moved/export.json", buf, sizeof(buf), NULL), 1);
	assert_int_equal(list_page("exports/", "", e, ARRAY_SIZE(e), &op), -ELOOP);
	assert_int_equal(list_page("exports/here", "", e, ARRAY_SIZE(e), &op), 0);
	assert_int_equal(op.nr_entries, 1);
	/* Nothing can be read through these. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/nowhere", path), 0);
	snprintf(path, sizeof(path), "%s/exports/file", dir.dir);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(list_page("exports/", "", e, ARRAY_SIZE(e), &op), 0);
	assert_int_equal(op.nr_entries, 1);
}

static const char *const tree[] = {
	"a-b",
	"a.c/x",
	"a/b",
	"a/b-/z",
	"a/c/d/e/f",
	"a0",
	"bases/img",
	"chunks/0/1.pack",
	"chunks/0/2.pack",
	"chunks/10/3.pack",
	"chunks/2/4.pack",
	"exports/vm-1/export.json",
	"exports/vm-10/export.json",
	"exports/vm-2/export.json",
};

static void tree_make(void)
{
	/* Not in key order. */
	for (size_t i = 0; i < ARRAY_SIZE(tree); i++)
		assert_int_equal(put_str(st, tree[(i * 5 + 3) % ARRAY_SIZE(tree)], "1234",
					 STORE_ALWAYS, NULL),
				 0);
}

static void list_is_in_key_order_page_by_page(void **state)
{
	struct store_list_entry e[ARRAY_SIZE(tree) + 1];
	struct store_op op;

	tree_make();
	for (unsigned int page = 1; page <= ARRAY_SIZE(e); page++) {
		size_t seen = 0;
		char after[STORE_KEY_MAX] = "";

		do {
			assert_int_equal(list_page("", after, e, page, &op), 0);
			for (unsigned int i = 0; i < op.nr_entries; i++, seen++) {
				assert_in_range(seen, 0, ARRAY_SIZE(tree) - 1);
				assert_string_equal(e[i].key, tree[seen]);
				assert_int_equal(e[i].size, 4);
				assert_true(e[i].mtime_s > 0);
			}
			if (op.truncated)
				assert_int_equal(op.nr_entries, page);
			if (op.nr_entries)
				strcpy(after, e[op.nr_entries - 1].key);
		} while (op.truncated);
		assert_int_equal(seen, ARRAY_SIZE(tree));
	}
}

static void list_by_prefix(void **state)
{
	static const struct {
		const char *prefix, *after;
		unsigned int first, nr;
	} t[] = {
		{"exports/", "", 11, 3}, {"exports/vm-1", "", 11, 2},
		{"chunks/0/", "", 7, 2}, {"a", "", 0, 6},
		{"a/", "", 2, 3},        {"a/", "a/b-/", 3, 2},
		{"a/", "a/b-/z", 4, 1},  {"a/", "zzz", 0, 0},
		{"a/c/d/e/f", "", 4, 1}, {"a/c/d/e/f/", "", 0, 0},
		{"nope/", "", 0, 0},     {"chunks/", "chunks/10", 9, 2},
		{"chunks/", "a", 7, 4},  {"exports/vm-1/export.json", "", 11, 1},
	};
	struct store_list_entry e[ARRAY_SIZE(tree)];
	struct store_op op;

	tree_make();
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(list_page(t[i].prefix, t[i].after, e, ARRAY_SIZE(e), &op), 0);
		assert_false(op.truncated);
		assert_int_equal(op.nr_entries, t[i].nr);
		for (unsigned int k = 0; k < t[i].nr; k++)
			assert_string_equal(e[k].key, tree[t[i].first + k]);
	}
	assert_int_equal(list_page("../", "", e, 1, &op), -EINVAL);
	assert_int_equal(list_page(".tmp/", "", e, 1, &op), -EINVAL);
	assert_int_equal(list_page("/", "", e, 1, &op), -EINVAL);
	assert_int_equal(list_page("a", "", e, 0, &op), -EINVAL);
}

static void *churn(void *arg)
{
	const bool *stop = arg;
	char key[64];

	for (unsigned int i = 0; !__atomic_load_n(stop, __ATOMIC_ACQUIRE); i++) {
		snprintf(key, sizeof(key), "m/%u/x%u", i % 7, i % 3);
		assert_int_equal(put_str(st, key, "x", STORE_ALWAYS, NULL), 0);
		snprintf(key, sizeof(key), "m/%u/x%u", (i + 4) % 7, (i + 1) % 3);
		assert_int_equal(delete_key(st, key, NULL), 0);
	}
	return NULL;
}

/* Keys that stay are listed exactly once and in order while others, and directories, come and go.
 */
static void list_is_stable_under_change(void **state)
{
	struct store_list_entry e[5];
	bool stop = false;
	pthread_t t;

	for (int i = 0; i < 10; i++) {
		char key[64];

		snprintf(key, sizeof(key), "m/stay%d/k", i);
		assert_int_equal(put_str(st, key, "x", STORE_ALWAYS, NULL), 0);
	}
	assert_int_equal(pthread_create(&t, NULL, churn, &stop), 0);
	for (int round = 0; round < 50; round++) {
		char after[STORE_KEY_MAX] = "";
		struct store_op op;
		int stay = 0;

		do {
			assert_int_equal(list_page("m/", after, e, ARRAY_SIZE(e), &op), 0);
			for (unsigned int i = 0; i < op.nr_entries; i++) {
				assert_true(strcmp(e[i].key, after) > 0);
				strcpy(after, e[i].key);
				stay += !strncmp(e[i].key, "m/stay", 6);
			}
		} while (op.truncated);
		assert_int_equal(stay, 10);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
}

static void deleting_the_last_key_removes_its_directories(void **state)
{
	char path[256];

	assert_int_equal(put_str(st, "exports/vm/export.json", "x", STORE_ALWAYS, NULL), 0);
	assert_int_equal(put_str(st, "exports/keep", "x", STORE_ALWAYS, NULL), 0);
	assert_int_equal(delete_key(st, "exports/vm/export.json", NULL), 0);
	snprintf(path, sizeof(path), "%s/exports/vm", dir.dir);
	assert_int_equal(access(path, F_OK), -1);
	assert_object(st, "exports/keep", "x");
}

/* ---- failures ---- */

static unsigned int temporaries(void)
{
	char path[256];
	struct dirent **list;
	int n;

	snprintf(path, sizeof(path), "%s/.tmp", dir.dir);
	n = scandir(path, &list, NULL, NULL);
	assert_true(n >= 2);
	for (int i = 0; i < n; i++)
		free(list[i]);
	free(list);
	return (unsigned int)n - 2;
}

static void stale_temporaries_go_at_open(void **state)
{
	struct timespec old[2] = {{.tv_sec = time(NULL) - 2 * 3600},
				  {.tv_sec = time(NULL) - 2 * 3600}};
	char path[256];
	int fd;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/.tmp/%d", dir.dir, i);
		fd = open(path, O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0);
		if (i == 0)
			assert_int_equal(futimens(fd, old), 0);
		close(fd);
	}
	store_close(st);
	st = open_store(dir.url, NULL);
	assert_int_equal(temporaries(), 1);
	assert_int_equal(access(path, F_OK), 0);
}

static void failed_put_leaves_the_old_object(void **state)
{
	struct rlimit was, small = {.rlim_cur = 64 * KiB, .rlim_max = RLIM_INFINITY};
	char etag[STORE_ETAG_MAX];
	struct store_op head;
	char *big = calloc(1, 128 * KiB);
	struct iovec iov = {big, 128 * KiB};
	struct store_op op = {.type = STORE_PUT, .key = "d/k", .iov = &iov, .iovcnt = 1};

	assert_int_equal(put_str(st, "d/k", "old", STORE_ALWAYS, etag), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	small.rlim_max = was.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(store_run(st, &op), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_false(op.ambiguous);
	assert_int_equal(head_key(st, "d/k", &head), 0);
	assert_string_equal(head.etag, etag);
	assert_int_equal(temporaries(), 0);
	free(big);
}

/* In a child with a file system of its own. Exit status: 0 good, 77 no permission, else the line.
 */
static int enospc_child(void)
{
	char mnt[256], url[300], err[256], etag[STORE_ETAG_MAX];
	size_t big_len = 4 * MiB;
	char *big = calloc(1, big_len); /* lives as long as this process */
	struct store *s;

	snprintf(mnt, sizeof(mnt), "%s/mnt", dir.dir);
	snprintf(url, sizeof(url), "file://%s", mnt);
	if (mkdir(mnt, 0700) || unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", mnt, "tmpfs", 0, "size=1m"))
		return 77;
	if (!big || store_open(url, NULL, &s, err, sizeof(err)))
		return __LINE__;
	if (put_str(s, "k", "old", STORE_ALWAYS, etag))
		return __LINE__;
	for (int i = 0; i < 3; i++)
		if (put_bytes(s, "k", big, big_len, STORE_IF_MATCH, etag) != -ENOSPC)
			return __LINE__;
	if (put_bytes(s, "new/k", big, big_len, STORE_IF_NONE_MATCH, NULL) != -ENOSPC)
		return __LINE__;
	if (head_key(s, "new/k", NULL) != -ENOENT)
		return __LINE__;
	/* The space of the failed ones is free again. */
	if (put_bytes(s, "k", big, 512 * KiB, STORE_IF_MATCH, etag))
		return __LINE__;
	store_close(s);
	free(big);
	return 0;
}

static void full_file_system_is_enospc_and_nothing_half(void **state)
{
	int status, result[2];
	pid_t pid;

	/* The line, which an exit status cannot hold, comes through a pipe. */
	assert_int_equal(pipe(result), 0);
	store_close(st);
	st = NULL;
	pid = fork();
	if (!pid) {
		int r = enospc_child();

		_exit(write(result[1], &r, sizeof(r)) != sizeof(r));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(read(result[0], &status, sizeof(status)), sizeof(status));
	close(result[0]);
	close(result[1]);
	if (status == 77)
		skip();
	assert_int_equal(status, 0);
}

static void past_deadline_nothing_happens(void **state)
{
	struct iovec iov = {"x", 1};
	struct store_op op = {
		.type = STORE_PUT, .key = "k", .iov = &iov, .iovcnt = 1, .deadline_ns = 1};

	assert_int_equal(store_run(st, &op), -ETIMEDOUT);
	assert_false(op.ambiguous);
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
}

/* The holder of a key's lock may be stopped for ever; others still end by their deadline. */
static void stuck_lock_holder_costs_only_the_deadline(void **state)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct iovec iov = {"x", 1};
	struct store_op op = {.type = STORE_PUT, .key = "k", .iov = &iov, .iovcnt = 1};
	uint64_t start = now_ns();
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/.locks/keys", dir.dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &fl), 0);
	op.deadline_ns = start + 50 * NSEC_PER_MSEC;
	assert_int_equal(store_run(st, &op), -ETIMEDOUT);
	assert_false(op.ambiguous);
	assert_true(now_ns() >= op.deadline_ns);
	assert_int_equal(head_key(st, "k", NULL), -ENOENT);
	assert_int_equal(temporaries(), 0);
	close(fd);
	op.deadline_ns = 0;
	assert_int_equal(store_run(st, &op), 0);
}

static void bad_urls_are_refused_with_a_sentence(void **state)
{
	char err[256], url[300];
	struct store *s;

	assert_int_equal(store_open("ftp://x", NULL, &s, err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "ftp://x"));
	assert_int_equal(store_open("file://relative", NULL, &s, err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "absolute"));
	assert_int_equal(put_str(st, "file", "x", STORE_ALWAYS, NULL), 0);
	snprintf(url, sizeof(url), "%s/file", dir.url);
	err[0] = '\0';
	assert_int_equal(store_open(url, NULL, &s, err, sizeof(err)), -ENOTDIR);
	assert_non_null(strstr(err, url));
	assert_int_equal(store_open(dir.url, "get nonsense", &s, err, sizeof(err)), -EINVAL);
	assert_non_null(strstr(err, "nonsense"));
}

/* ---- many at once ---- */

struct burst {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int left;
	pthread_t submitter;
	bool inside_submit;
};

static void burst_done(struct store_op *op)
{
	struct burst *b = op->ctx;

	pthread_mutex_lock(&b->lock);
	b->inside_submit |= pthread_equal(pthread_self(), b->submitter);
	if (!--b->left)
		pthread_cond_signal(&b->cond);
	pthread_mutex_unlock(&b->lock);
}

static void many_operations_each_complete_once(void **state)
{
	enum { N = 512 };
	static struct store_op op[N];
	static char key[N][32];
	struct burst b = {.lock = PTHREAD_MUTEX_INITIALIZER,
			  .cond = PTHREAD_COND_INITIALIZER,
			  .left = N,
			  .submitter = pthread_self()};
	struct iovec iov = {"x", 1};

	for (int i = 0; i < N; i++) {
		snprintf(key[i], sizeof(key[i]), "d%d/k%d", i % 8, i / 8);
		op[i] = (struct store_op){
			.type = i % 2   ? STORE_PUT
				: i % 4 ? STORE_HEAD
					: STORE_DELETE,
			.prio = (enum store_prio)(i % 4),
			.key = key[i],
			.iov = &iov,
			.iovcnt = 1,
			.done = burst_done,
			.ctx = &b,
		};
	}
	for (int i = 0; i < N; i++)
		store_submit(st, &op[i]);
	pthread_mutex_lock(&b.lock);
	while (b.left)
		pthread_cond_wait(&b.cond, &b.lock);
	pthread_mutex_unlock(&b.lock);
	assert_false(b.inside_submit);
	for (int i = 0; i < N; i++)
		assert_int_equal(op[i].res, op[i].type == STORE_HEAD ? -ENOENT : 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(put_get_and_head_agree),
		T(etag_survives_reopening),
		T(body_is_gathered_from_its_parts),
		T(absent_keys_say_so),
		T(get_ranges),
		T(get_never_overruns_the_buffer),
		T(empty_objects_are_objects),
		T(create_refuses_an_existing_key),
		T(update_needs_the_current_etag),
		T(etag_never_repeats),
		T(illegal_keys_are_refused),
		T(symlinks_and_fifos_are_no_objects),
		T(a_list_never_leaves_out_what_a_get_finds),
		T(list_is_in_key_order_page_by_page),
		T(list_by_prefix),
		T(list_is_stable_under_change),
		T(deleting_the_last_key_removes_its_directories),
		T(stale_temporaries_go_at_open),
		T(failed_put_leaves_the_old_object),
		T(full_file_system_is_enospc_and_nothing_half),
		T(past_deadline_nothing_happens),
		T(stuck_lock_holder_costs_only_the_deadline),
		T(bad_urls_are_refused_with_a_sentence),
		T(many_operations_each_complete_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
