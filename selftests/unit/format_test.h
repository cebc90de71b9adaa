/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of formats share: a seeded generator, and the attacks every parser must survive.
 */
#ifndef GFS_SELFTESTS_FORMAT_TEST_H
#define GFS_SELFTESTS_FORMAT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/format.h"

#include <stdio.h>
#include <string.h>

struct rng {
	uint64_t s;
};

/* xorshift64: only repeatability matters here. */
static inline uint64_t rng_next(struct rng *r)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return r->s;
}

static inline void rng_fill(struct rng *r, void *buf, size_t len)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rng_next(r) >> 24);
}

/* GFS_SEED repeats a run. */
static inline struct rng rng_new(void)
{
	const char *env = getenv("GFS_SEED");
	struct rng r;

	random_bytes(&r.s, sizeof(r.s));
	if (env)
		r.s = strtoull(env, NULL, 0);
	r.s |= 1;
	print_message("GFS_SEED=0x%llx\n", (unsigned long long)r.s);
	return r;
}

/*
 * The parser under attack: parse exactly `len` bytes at buf, and when that succeeds encode what was
 * understood again: *again is malloc'ed then.
 */
typedef int (*format_parse_fn)(const void *buf, size_t len, void **again, size_t *again_len,
			       struct fmt_err *e);

/* Refused for a reason this program has, with a sentence. The buffer is exact, for the sanitizers.
 */
static inline int format_try(format_parse_fn parse, const void *buf, size_t len, void **again,
			     size_t *again_len)
{
	void *exact = malloc(len ? len : 1);
	struct fmt_err e = {""};
	int r;

	assert_non_null(exact);
	memcpy(exact, buf, len);
	r = parse(exact, len, again, again_len, &e);
	free(exact);
	if (r) {
		if (r != -EBADMSG && r != -ENODATA && r != -EPROTONOSUPPORT)
			print_message("%zu bytes: result %d: %s\n", len, r, e.msg);
		assert_true(r == -EBADMSG || r == -ENODATA || r == -EPROTONOSUPPORT);
		assert_true(e.msg[0]);
	}
	return r;
}

static inline void format_must_fail(format_parse_fn parse, const void *buf, size_t len)
{
	void *again = NULL;
	size_t n;

	assert_int_not_equal(format_try(parse, buf, len, &again, &n), 0);
}

static inline void attack_truncation(format_parse_fn parse, const void *buf, size_t len)
{
	for (size_t n = 0; n < len; n++)
		format_must_fail(parse, buf, n);
}

static inline void attack_extension(format_parse_fn parse, const void *buf, size_t len)
{
	uint8_t *more = calloc(1, len + 64);

	assert_non_null(more);
	memcpy(more, buf, len);
	for (size_t n = 1; n <= 64; n++)
		format_must_fail(parse, more, len + n);
	free(more);
}

/* Every flipped bit is refused, or means the identical content. */
static inline void attack_bit_flips(format_parse_fn parse, const void *buf, size_t len)
{
	uint8_t *p = malloc(len);

	assert_non_null(p);
	memcpy(p, buf, len);
	for (size_t bit = 0; bit < 8 * len; bit++) {
		void *again = NULL;
		size_t n = 0;

		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (!format_try(parse, p, len, &again, &n)) {
			assert_int_equal(n, len);
			assert_memory_equal(again, buf, len);
			free(again);
		}
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	free(p);
}

/* Garbage, and garbage behind a good beginning. */
static inline void attack_garbage(format_parse_fn parse, const void *buf, size_t len, int rounds)
{
	struct rng r = rng_new();
	uint8_t *p = malloc(2 * len);

	assert_non_null(p);
	for (int i = 0; i < rounds; i++) {
		size_t n = rng_next(&r) % (2 * len), keep = MIN(rng_next(&r) % (len + 1), n);
		void *again = NULL;
		size_t again_len;

		rng_fill(&r, p, n);
		if (i % 2)
			memcpy(p, buf, keep);
		if (!format_try(parse, p, n, &again, &again_len)) {
			/* Only by having kept all of it. */
			assert_true(i % 2 && keep == len && n == len);
			free(again);
		}
	}
	free(p);
}

#endif
