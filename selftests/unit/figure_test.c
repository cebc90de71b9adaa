// SPDX-License-Identifier: GPL-2.0-or-later
/* The verdict of a figure: selftests/tools/figure_stats.h. */
#include "selftests/tools/figure_stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define N 200

/* Reference samples with a spread of `spread` around 100; ours are `ratio` of an independent draw.
 */
static void make_pairs(struct figure_pair *p, size_t n, double ratio, double spread)
{
	uint64_t seed = 7;

	for (size_t i = 0; i < n; i++) {
		double a = (double)(figure_random(&seed) >> 11) / 9007199254740992.0 - 0.5;
		double b = (double)(figure_random(&seed) >> 11) / 9007199254740992.0 - 0.5;

		p[i].ours = ratio * 100 * (1 + 2 * spread * a);
		p[i].ref = 100 * (1 + 2 * spread * b);
	}
}

static enum figure_verdict judge(double ratio, double spread, size_t n, enum figure_limit kind,
				 double limit)
{
	struct figure_pair p[N];
	struct figure f;
	char why[160];

	make_pairs(p, n, ratio, spread);
	assert_int_equal(figure_compute(p, n, FIGURE_SEED, 500, &f), 0);
	assert_true(f.lo <= f.median && f.median <= f.hi);
	return figure_judge(&f, kind, limit, 0, why, sizeof(why));
}

static void ratio_is_of_medians(void **state __unused)
{
	/* Medians 30 and 10; the median of the ratios would be 2. */
	const struct figure_pair p[] = {{30, 15}, {10, 10}, {100, 1}, {40, 20}, {20, 10}};
	struct figure f;

	assert_int_equal(figure_compute(p, ARRAY_SIZE(p), 1, 100, &f), 0);
	assert_float_equal(f.median, 3.0, 1e-12);
	assert_float_equal(f.ours, 30, 1e-12);
	assert_float_equal(f.ref, 10, 1e-12);
}

static void even_counts_take_the_middle(void **state __unused)
{
	double v[] = {4, 1, 3, 2};

	assert_float_equal(figure_median(v, 4), 2.5, 1e-12);
	assert_true(isnan(figure_median(v, 0)));
}

static void same_seed_same_interval(void **state __unused)
{
	struct figure_pair p[N];
	struct figure a, b, c;

	make_pairs(p, N, 1, 0.3);
	assert_int_equal(figure_compute(p, N, 5, 300, &a), 0);
	assert_int_equal(figure_compute(p, N, 5, 300, &b), 0);
	assert_int_equal(figure_compute(p, N, 6, 300, &c), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_true(a.lo != c.lo || a.hi != c.hi);
}

/* Half of the intervals' width shrinks like the square root of the count, and covers the truth. */
static void interval_narrows_with_pairs(void **state __unused)
{
	struct figure_pair p[N];
	struct figure few, many;

	make_pairs(p, N, 1, 0.3);
	assert_int_equal(figure_compute(p, 20, 5, 1000, &few), 0);
	assert_int_equal(figure_compute(p, N, 5, 1000, &many), 0);
	assert_true(many.hi - many.lo < (few.hi - few.lo) / 2);
	assert_true(many.lo <= 1 && 1 <= many.hi);
}

static void upper_limit(void **state __unused)
{
	assert_int_equal(judge(1.00, 0.2, N, FIGURE_AT_MOST, 1.05), FIGURE_PASS);
	assert_int_equal(judge(0.50, 0.2, N, FIGURE_AT_MOST, 1.05), FIGURE_PASS);
	assert_int_equal(judge(1.30, 0.2, N, FIGURE_AT_MOST, 1.05), FIGURE_FAIL);
}

static void lower_limit(void **state __unused)
{
	assert_int_equal(judge(0.97, 0.2, N, FIGURE_AT_LEAST, 0.9), FIGURE_PASS);
	assert_int_equal(judge(1.50, 0.1, N, FIGURE_AT_LEAST, 0.9), FIGURE_PASS);
	assert_int_equal(judge(0.75, 0.2, N, FIGURE_AT_LEAST, 0.9), FIGURE_FAIL);
}

static void wide_interval_is_no_pass(void **state __unused)
{
	assert_int_equal(judge(1.0, 0.45, 12, FIGURE_AT_MOST, 1.05), FIGURE_UNDECIDED);
	assert_int_equal(judge(1.0, 0.45, 12, FIGURE_AT_LEAST, 0.9), FIGURE_UNDECIDED);
	assert_int_equal(judge(1.0, 0.45, 12, FIGURE_NO_LIMIT, 0), FIGURE_UNDECIDED);
}

/* The three conditions of an upper limit and of its mirror image, each on its own edge. */
static void every_condition_counts(void **state __unused)
{
	static const struct {
		enum figure_limit kind;
		double limit, lo, median, hi;
		enum figure_verdict want;
	} cases[] = {
		{FIGURE_AT_MOST, 1.05, 1.05, 1.10, 1.15, FIGURE_PASS},
		{FIGURE_AT_MOST, 1.05, 1.051, 1.08, 1.15, FIGURE_FAIL},
		{FIGURE_AT_MOST, 1.05, 1.04, 1.101, 1.15, FIGURE_FAIL},
		{FIGURE_AT_MOST, 1.05, 0.90, 0.98, 1.06, FIGURE_PASS},
		{FIGURE_AT_MOST, 1.05, 0.90, 0.98, 1.07, FIGURE_UNDECIDED},
		{FIGURE_AT_LEAST, 0.9, 0.80, 0.85, 0.90, FIGURE_PASS},
		{FIGURE_AT_LEAST, 0.9, 0.80, 0.86, 0.899, FIGURE_FAIL},
		{FIGURE_AT_LEAST, 0.9, 0.80, 0.849, 0.92, FIGURE_FAIL},
		{FIGURE_AT_LEAST, 0.9, 0.90, 0.98, 1.07, FIGURE_UNDECIDED},
		{FIGURE_AT_LEAST, 0.9, 2.40, 2.60, 2.80, FIGURE_PASS},
		{FIGURE_AT_LEAST, 0.9, 1.80, 2.60, 4.00, FIGURE_UNDECIDED},
		{FIGURE_AT_MOST, 1.05, 2.40, 2.60, 2.80, FIGURE_UNDECIDED},
	};
	char why[160];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct figure f = {
			.lo = cases[i].lo, .median = cases[i].median, .hi = cases[i].hi, .n = 50};

		why[0] = 0;
		if (figure_judge(&f, cases[i].kind, cases[i].limit, 0, why, sizeof(why)) !=
		    cases[i].want)
			fail_msg("case %zu: %s", i, why);
		assert_true(why[0]);
	}
}

static void too_few_pairs_are_no_verdict(void **state __unused)
{
	struct figure f = {.lo = 0.99, .median = 1, .hi = 1.01, .n = 199};
	char why[160];

	assert_int_equal(figure_judge(&f, FIGURE_AT_MOST, 1.05, 200, why, sizeof(why)),
			 FIGURE_UNDECIDED);
	f.n = 200;
	assert_int_equal(figure_judge(&f, FIGURE_AT_MOST, 1.05, 200, why, sizeof(why)),
			 FIGURE_PASS);
}

static void bad_samples_are_refused(void **state __unused)
{
	struct figure_pair p[] = {{1, 1}, {1, 0}};
	struct figure f;

	assert_int_equal(figure_compute(p, 0, 1, 100, &f), -EINVAL);
	assert_int_equal(figure_compute(p, 2, 1, 100, &f), -EINVAL);
	p[1].ref = NAN;
	assert_int_equal(figure_compute(p, 2, 1, 100, &f), -EINVAL);
	p[1].ref = INFINITY;
	assert_int_equal(figure_compute(p, 2, 1, 100, &f), -EINVAL);
	assert_int_equal(figure_compute(p, 1, 1, 0, &f), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ratio_is_of_medians),
		cmocka_unit_test(even_counts_take_the_middle),
		cmocka_unit_test(same_seed_same_interval),
		cmocka_unit_test(interval_narrows_with_pairs),
		cmocka_unit_test(upper_limit),
		cmocka_unit_test(lower_limit),
		cmocka_unit_test(wide_interval_is_no_pass),
		cmocka_unit_test(every_condition_counts),
		cmocka_unit_test(too_few_pairs_are_no_verdict),
		cmocka_unit_test(bad_samples_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
