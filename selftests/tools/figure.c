// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * figure: pairs of samples on standard input to a figure and a verdict.
 *
 * A line is a pair, "OURS REFERENCE"; text after # is ignored. With --columns NAME a line is a
 * single sample, "INDEX SIDE VALUE": SIDE is NAME for ours, anything else for the reference; a pair
 * is two lines of the same INDEX. Exit status: 0 within the limit (or none), 1 not, 3 undecided:
 * measure more; 2 bad use or input. One thread.
 */
#include "selftests/tools/figure_stats.h"

#include <err.h>
#include <getopt.h>

struct options {
	const char *name, *unit, *ours_column;
	enum figure_limit kind;
	double limit;
	uint64_t seed;
	unsigned int resamples;
	size_t min_pairs;
};

struct pairs {
	struct figure_pair *v;
	size_t n, cap;
};

static void usage(FILE *f)
{
	fprintf(f,
		"usage: figure [--max LIMIT | --min LIMIT] [--unit U] [--min-pairs N] [--seed N]\n"
		"              [--resamples N] [--columns OURS] NAME < PAIRS\n");
}

static struct figure_pair *pair_at(struct pairs *p, size_t i)
{
	if (i > 1000000)
		errx(2, "pair %zu: too many", i);
	if (i >= p->cap) {
		size_t cap = MAX(2 * p->cap, i + 64);
		struct figure_pair *v = realloc(p->v, cap * sizeof(*v));

		if (!v)
			err(2, "pairs");
		memset(v + p->cap, 0, (cap - p->cap) * sizeof(*v));
		p->v = v;
		p->cap = cap;
	}
	p->n = MAX(p->n, i + 1);
	return &p->v[i];
}

static void read_pair(struct pairs *p, const char *line, unsigned int number)
{
	double ours, ref;

	if (sscanf(line, "%lf %lf", &ours, &ref) != 2)
		errx(2, "line %u: not \"OURS REFERENCE\": %s", number, line);
	*pair_at(p, p->n) = (struct figure_pair){ours, ref};
}

static void read_sample(struct pairs *p, const char *ours_column, const char *line,
			unsigned int number)
{
	struct figure_pair *pair;
	char side[64];
	double value;
	size_t i;

	if (sscanf(line, "%zu %63s %lf", &i, side, &value) != 3)
		errx(2, "line %u: not \"INDEX SIDE VALUE\": %s", number, line);
	pair = pair_at(p, i);
	if (!strcmp(side, ours_column))
		pair->ours = value;
	else
		pair->ref = value;
}

/* An index that has only one side is no pair. */
static void drop_halves(struct pairs *p)
{
	size_t kept = 0;

	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].ours != 0 && p->v[i].ref != 0)
			p->v[kept++] = p->v[i];
	p->n = kept;
}

static void read_input(const struct options *o, struct pairs *p)
{
	unsigned int number = 0;
	char *line = NULL, *end;
	size_t cap = 0;

	while (getline(&line, &cap, stdin) > 0) {
		number++;
		end = line + strcspn(line, "#\n");
		*end = 0;
		if (!line[strspn(line, " \t")])
			continue;
		if (o->ours_column)
			read_sample(p, o->ours_column, line, number);
		else
			read_pair(p, line, number);
	}
	free(line);
	if (o->ours_column)
		drop_halves(p);
}

static void options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"max", required_argument, NULL, 'M'},
		{"min", required_argument, NULL, 'm'},
		{"unit", required_argument, NULL, 'u'},
		{"min-pairs", required_argument, NULL, 'n'},
		{"seed", required_argument, NULL, 's'},
		{"resamples", required_argument, NULL, 'r'},
		{"columns", required_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'M':
			o->kind = FIGURE_AT_MOST;
			o->limit = strtod(optarg, NULL);
			break;
		case 'm':
			o->kind = FIGURE_AT_LEAST;
			o->limit = strtod(optarg, NULL);
			break;
		case 'u':
			o->unit = optarg;
			break;
		case 'n':
			o->min_pairs = strtoul(optarg, NULL, 0);
			break;
		case 's':
			o->seed = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			o->resamples = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'c':
			o->ours_column = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind != argc - 1 || !o->resamples) {
		usage(stderr);
		exit(2);
	}
	o->name = argv[optind];
}

int main(int argc, char **argv)
{
	struct options o = {.unit = "ratio", .seed = FIGURE_SEED, .resamples = FIGURE_RESAMPLES};
	enum figure_verdict v;
	struct pairs p = {0};
	struct figure f;
	char why[160];
	int r;

	options_parse(argc, argv, &o);
	read_input(&o, &p);
	r = figure_compute(p.v, p.n, o.seed, o.resamples, &f);
	if (r)
		errx(2, "%s: %zu pairs: %s", o.name, p.n,
		     r == -EINVAL ? "no positive samples" : strerror(-r));
	v = figure_judge(&f, o.kind, o.limit, o.min_pairs, why, sizeof(why));
	figure_print(stdout, o.name, o.unit, &f, v, why);
	free(p.v);
	return figure_status(v);
}
