/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the store's tests share: a scratch directory and one-line operations. */
#ifndef GFS_SELFTESTS_STORE_TEST_H
#define GFS_SELFTESTS_STORE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "store/store.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct scratch {
	char dir[128];
	char url[160];
};

static inline struct scratch scratch_new(void)
{
	const char *base = getenv("TMPDIR");
	struct scratch s;

	snprintf(s.dir, sizeof(s.dir), "%.100s/gfs-store-XXXXXX", base ? base : "/tmp");
	assert_non_null(mkdtemp(s.dir));
	snprintf(s.url, sizeof(s.url), "file://%s", s.dir);
	return s;
}

static inline int scratch_rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static inline void scratch_free(const struct scratch *s)
{
	assert_int_equal(nftw(s->dir, scratch_rm, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static inline struct store *open_store(const char *url, const char *fault)
{
	char err[256] = "";
	struct store *s = NULL;
	int r = store_open(url, fault, &s, err, sizeof(err));

	if (r)
		print_message("store_open(%s, %s): %d: %s\n", url, fault ? fault : "-", r, err);
	assert_int_equal(r, 0);
	return s;
}

/* etag: IF_MATCH's condition in, the new one out; may be NULL. */
static inline int put_bytes(struct store *s, const char *key, const void *data, size_t len,
			    enum store_cond cond, char *etag)
{
	struct iovec iov = {(void *)data, len};
	struct store_op op = {
		.type = STORE_PUT,
		.prio = STORE_PRIO_META,
		.key = key,
		.iov = &iov,
		.iovcnt = 1,
		.cond = cond,
	};
	int r;

	if (cond == STORE_IF_MATCH)
		snprintf(op.etag, sizeof(op.etag), "%s", etag);
	r = store_run(s, &op);
	if (!r && etag)
		memcpy(etag, op.etag, STORE_ETAG_MAX);
	return r;
}

static inline int put_str(struct store *s, const char *key, const char *text, enum store_cond cond,
			  char *etag)
{
	return put_bytes(s, key, text, strlen(text), cond, etag);
}

/* The whole object, NUL-terminated, into buf. Its length or -errno. */
static inline int get_str(struct store *s, const char *key, char *buf, size_t size, char *etag)
{
	struct store_op op = {
		.type = STORE_GET,
		.key = key,
		.buf = buf,
		.buf_size = size - 1,
	};
	int r = store_run(s, &op);

	if (r)
		return r;
	buf[op.size_out] = '\0';
	if (etag)
		memcpy(etag, op.etag, STORE_ETAG_MAX);
	return (int)op.size_out;
}

static inline int head_key(struct store *s, const char *key, struct store_op *out)
{
	struct store_op op = {.type = STORE_HEAD, .key = key};
	int r = store_run(s, &op);

	if (out)
		*out = op;
	return r;
}

static inline int delete_key(struct store *s, const char *key, const char *if_match)
{
	struct store_op op = {.type = STORE_DELETE, .prio = STORE_PRIO_META, .key = key};

	if (if_match) {
		op.cond = STORE_IF_MATCH;
		snprintf(op.etag, sizeof(op.etag), "%s", if_match);
	}
	return store_run(s, &op);
}

#define assert_object(s, key, text)                                                        \
	do {                                                                               \
		char buf_[256];                                                            \
		assert_int_equal(get_str(s, key, buf_, sizeof(buf_), NULL), strlen(text)); \
		assert_string_equal(buf_, text);                                           \
	} while (0)

#endif
