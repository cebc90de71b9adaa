/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arithmetic of a figure: ratio of medians over pairs, its 95 % bootstrap interval, and the
 * verdict. Shared by figure.c and by drivers that measure until the answer is clear. Header only;
 * no state but the caller's, any thread.
 *
 * Rule (for an upper limit): the interval's lower bound is within the limit, the median is within
 * the limit
 * + FIGURE_SLACK, and half of the interval's width is at most FIGURE_HALF_WIDTH. A lower limit is
 * the mirror image: upper bound, limit - FIGURE_SLACK. A wide interval is no verdict: measure more.
 */
#ifndef GFS_SELFTESTS_FIGURE_STATS_H
#define GFS_SELFTESTS_FIGURE_STATS_H

#include "lib/util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FIGURE_SLACK      0.05
#define FIGURE_HALF_WIDTH 0.08
#define FIGURE_RESAMPLES  2000
#define FIGURE_SEED       20241105

struct figure_pair {
	double ours, ref;
};

enum figure_limit { FIGURE_NO_LIMIT, FIGURE_AT_MOST, FIGURE_AT_LEAST };

enum figure_verdict { FIGURE_PASS, FIGURE_FAIL, FIGURE_UNDECIDED };

struct figure {
	double median;    /* of the ratio: median of ours over median of the reference */
	double lo, hi;    /* 95 % */
	double ours, ref; /* the two medians */
	size_t n;
};

static inline int figure_cmp(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Sorts v. NaN if there is none. */
static inline double figure_median(double *v, size_t n)
{
	if (!n)
		return NAN;
	qsort(v, n, sizeof(*v), figure_cmp);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* splitmix64: the same numbers everywhere, from any seed. */
static inline uint64_t figure_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* 0; -EINVAL: no pair, or a sample that is not a positive number; -ENOMEM. */
static inline int __must_check figure_compute(const struct figure_pair *p, size_t n, uint64_t seed,
					      unsigned int resamples, struct figure *out)
{
	double *ours, *ref, *ratio;
	int r = -ENOMEM;

	*out = (struct figure){.median = NAN, .lo = NAN, .hi = NAN};
	if (!n || !resamples)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (!(p[i].ours > 0 && p[i].ref > 0) || isinf(p[i].ours) || isinf(p[i].ref))
			return -EINVAL;
	ours = calloc(n, sizeof(*ours));
	ref = calloc(n, sizeof(*ref));
	ratio = calloc(resamples, sizeof(*ratio));
	if (!ours || !ref || !ratio)
		goto out;
	for (unsigned int k = 0; k < resamples; k++) {
		for (size_t i = 0; i < n; i++) {
			const struct figure_pair *pick = &p[figure_random(&seed) % n];

			ours[i] = pick->ours;
			ref[i] = pick->ref;
		}
		ratio[k] = figure_median(ours, n) / figure_median(ref, n);
	}
	qsort(ratio, resamples, sizeof(*ratio), figure_cmp);
	for (size_t i = 0; i < n; i++) {
		ours[i] = p[i].ours;
		ref[i] = p[i].ref;
	}
	*out = (struct figure){
		.lo = ratio[(size_t)(0.025 * (resamples - 1) + 0.5)],
		.hi = ratio[(size_t)(0.975 * (resamples - 1) + 0.5)],
		.ours = figure_median(ours, n),
		.ref = figure_median(ref, n),
		.n = n,
	};
	out->median = out->ours / out->ref;
	r = 0;
out:
	free(ours);
	free(ref);
	free(ratio);
	return r;
}

static inline double figure_half_width(const struct figure *f, enum figure_limit kind)
{
	double half = (f->hi - f->lo) / 2;

	return kind == FIGURE_AT_LEAST && f->median > 1 ? (1 / f->lo - 1 / f->hi) / 2 : half;
}

/* min_pairs: fewer of them are no verdict either. The reason goes to why. */
static inline enum figure_verdict figure_judge(const struct figure *f, enum figure_limit kind,
					       double limit, size_t min_pairs, char *why,
					       size_t len)
{
	double half = figure_half_width(f, kind);
	bool most = kind == FIGURE_AT_MOST;

	if (f->n < min_pairs) {
		snprintf(why, len, "%zu pairs of at least %zu", f->n, min_pairs);
		return FIGURE_UNDECIDED;
	}
	/* Rounding of the arithmetic must not decide a case that sits on the limit. */
	if (half > FIGURE_HALF_WIDTH + 1e-9) {
		snprintf(why, len, "half-width %.3f is over %.2f: measure more", half,
			 FIGURE_HALF_WIDTH);
		return FIGURE_UNDECIDED;
	}
	if (kind == FIGURE_NO_LIMIT) {
		snprintf(why, len, "no limit");
		return FIGURE_PASS;
	}
	if (most ? f->lo > limit + 1e-9 : f->hi < limit - 1e-9) {
		snprintf(why, len, "%s bound %.4f is %s the limit %.2f", most ? "lower" : "upper",
			 most ? f->lo : f->hi, most ? "over" : "under", limit);
		return FIGURE_FAIL;
	}
	if (most ? f->median > limit + FIGURE_SLACK + 1e-9
		 : f->median < limit - FIGURE_SLACK - 1e-9) {
		snprintf(why, len, "median %.4f is more than %.2f %s the limit %.2f", f->median,
			 FIGURE_SLACK, most ? "over" : "under", limit);
		return FIGURE_FAIL;
	}
	snprintf(why, len, "within the limit: %s %.2f", most ? "at most" : "at least", limit);
	return FIGURE_PASS;
}

/* The two lines of a figure: ratio, interval, count and the two medians behind it; and the verdict.
 */
static inline void figure_print(FILE *out, const char *name, const char *unit,
				const struct figure *f, enum figure_verdict v, const char *why)
{
	static const char *const verdicts[] = {"pass", "FAIL", "undecided"};

	fprintf(out, "# figure %s=%.4f lo=%.4f hi=%.4f n=%zu unit=%s ours=%g ref=%g\n", name,
		f->median, f->lo, f->hi, f->n, unit, f->ours, f->ref);
	fprintf(out, "# %s: %s (%s)\n", name, verdicts[v], why);
	fflush(out);
}

/* Exit status of programs that print a figure. */
static inline int figure_status(enum figure_verdict v)
{
	static const int status[] = {[FIGURE_PASS] = 0, [FIGURE_FAIL] = 1, [FIGURE_UNDECIDED] = 3};

	return status[v];
}

#endif
