// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Rules of the fault store: parsing, matching, drawing. Owns no thread; the fault store's lock
 * serialises judging. Each rule draws from a generator of its own, seeded by the common seed and
 * its place, so one rule's draws do not depend on how often another one matched.
 */
#include "store/fault_priv.h"

#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define RULES_MAX 64
#define MS_MAX    (24 * 3600 * 1000ull)

#define BIT(n)   (1u << (n))
#define MUTATING (BIT(STORE_PUT) | BIT(STORE_DELETE))
#define ANY_OP   (MUTATING | BIT(STORE_GET) | BIT(STORE_HEAD) | BIT(STORE_LIST))

struct fault_rule {
	unsigned int ops; /* set of BIT(enum store_op_type) */
	char glob[STORE_KEY_MAX];
	enum fault_action action;
	int error;
	uint64_t ms;
	double p;
	uint64_t skip, count; /* still to pass over; still to strike */
	uint64_t prng;
};

struct fault_rules {
	uint64_t seed;
	unsigned int nr;
	struct fault_rule rule[RULES_MAX];
};

static const struct {
	const char *name;
	unsigned int ops;
} op_names[] = {
	{"get", BIT(STORE_GET)},   {"put", BIT(STORE_PUT)},       {"head", BIT(STORE_HEAD)},
	{"list", BIT(STORE_LIST)}, {"delete", BIT(STORE_DELETE)}, {"*", ANY_OP},
};

enum arg_kind { ARG_NONE, ARG_MS, ARG_ERRNO };

/* `text` is the whole word, or, where an argument follows, all up to it. */
static const struct {
	const char *text;
	enum fault_action action;
	enum arg_kind arg;
	unsigned int ops; /* to which it can happen */
} actions[] = {
	{"delay=", FAULT_DELAY, ARG_MS, ANY_OP},
	{"error=", FAULT_ERROR, ARG_ERRNO, ANY_OP},
	{"ambiguous=before", FAULT_AMBIGUOUS_BEFORE, ARG_NONE, MUTATING},
	{"ambiguous=after", FAULT_AMBIGUOUS_AFTER, ARG_NONE, MUTATING},
	{"ambiguous=late:", FAULT_AMBIGUOUS_LATE, ARG_MS, MUTATING},
	{"truncate", FAULT_TRUNCATE, ARG_NONE, BIT(STORE_GET)},
	{"corrupt", FAULT_CORRUPT, ARG_NONE, BIT(STORE_GET)},
	{"hang", FAULT_HANG, ARG_NONE, ANY_OP},
};

static const struct {
	const char *name;
	int err;
} errno_names[] = {
	{"EIO", EIO},
	{"ENOSPC", ENOSPC},
	{"ETIMEDOUT", ETIMEDOUT},
	{"ENOENT", ENOENT},
	{"EEXIST", EEXIST},
	{"ESTALE", ESTALE},
	{"EACCES", EACCES},
	{"EPERM", EPERM},
	{"EAGAIN", EAGAIN},
	{"EBUSY", EBUSY},
	{"ENOMEM", ENOMEM},
	{"ENODATA", ENODATA},
	{"ERANGE", ERANGE},
	{"ECONNRESET", ECONNRESET},
	{"ECONNREFUSED", ECONNREFUSED},
	{"EHOSTUNREACH", EHOSTUNREACH},
	{"EPIPE", EPIPE},
	{"EROFS", EROFS},
	{"EDQUOT", EDQUOT},
	{"EMFILE", EMFILE},
	{"ENETUNREACH", ENETUNREACH},
};

/* splitmix64, by its published constants. */
static uint64_t prng_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Decimal digits only, no more than max. */
static bool parse_u64(const char *s, uint64_t max, uint64_t *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*v = strtoull(s, &end, 10);
	return !errno && !*end && *v <= max;
}

static bool parse_p(const char *s, double *p)
{
	char *end;

	if ((*s < '0' || *s > '9') && *s != '.')
		return false;
	*p = strtod(s, &end);
	return !*end && *p >= 0 && *p <= 1;
}

static bool parse_errno(const char *s, int *err)
{
	uint64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(errno_names); i++) {
		if (!strcmp(s, errno_names[i].name)) {
			*err = errno_names[i].err;
			return true;
		}
	}
	if (!parse_u64(s, 4095, &n) || !n)
		return false;
	*err = (int)n;
	return true;
}

/* "put:exports/" and so on */
static bool parse_target(struct fault_rule *r, const char *word)
{
	const char *colon = strchr(word, ':');
	size_t n = colon ? (size_t)(colon - word) : strlen(word);

	if (colon && (!colon[1] || strlen(colon + 1) >= sizeof(r->glob)))
		return false;
	snprintf(r->glob, sizeof(r->glob), "%s", colon ? colon + 1 : "*");
	for (size_t i = 0; i < ARRAY_SIZE(op_names); i++) {
		if (strlen(op_names[i].name) == n && !memcmp(word, op_names[i].name, n)) {
			r->ops = op_names[i].ops;
			return true;
		}
	}
	return false;
}

static bool parse_action(struct fault_rule *r, const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		const char *text = actions[i].text;
		size_t n = strlen(text);

		if (actions[i].arg == ARG_NONE ? strcmp(word, text) : strncmp(word, text, n))
			continue;
		r->action = actions[i].action;
		r->ops &= actions[i].ops;
		if (actions[i].arg == ARG_MS)
			return parse_u64(word + n, MS_MAX, &r->ms);
		if (actions[i].arg == ARG_ERRNO)
			return parse_errno(word + n, &r->error);
		return true;
	}
	return false;
}

static bool parse_option(struct fault_rule *r, const char *word)
{
	if (!strncmp(word, "p=", 2))
		return parse_p(word + 2, &r->p);
	if (!strncmp(word, "skip=", 5))
		return parse_u64(word + 5, UINT64_MAX, &r->skip);
	if (!strncmp(word, "count=", 6))
		return parse_u64(word + 6, UINT64_MAX, &r->count);
	return false;
}

static int __printf(3, 4) fail(char *err, size_t err_len, const char *fmt, ...)
{
	size_t n = (size_t)snprintf(err, err_len, "fault rules: ");
	va_list ap;

	va_start(ap, fmt);
	if (n < err_len)
		vsnprintf(err + n, err_len - n, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static int rule_parse(struct fault_rules *rules, char *text, char *err, size_t err_len)
{
	struct fault_rule r = {.p = 1, .count = UINT64_MAX};
	char *save, *word = strtok_r(text, " \t\n", &save);

	if (!word)
		return 0;
	if (!strncmp(word, "seed=", 5)) {
		if (!parse_u64(word + 5, UINT64_MAX, &rules->seed) ||
		    strtok_r(NULL, " \t\n", &save))
			return fail(err, err_len, "bad '%.80s'", word);
		return 0;
	}
	if (rules->nr == RULES_MAX)
		return fail(err, err_len, "more than %d rules", RULES_MAX);
	if (!parse_target(&r, word))
		return fail(err, err_len,
			    "'%.80s' is not get, put, head, list, delete or *, with :KEYGLOB",
			    word);
	word = strtok_r(NULL, " \t\n", &save);
	if (!word || !parse_action(&r, word))
		return fail(err, err_len, "'%.80s' is no action", word ? word : "");
	if (!r.ops)
		return fail(err, err_len, "'%.80s' cannot happen to that operation", word);
	while ((word = strtok_r(NULL, " \t\n", &save)))
		if (!parse_option(&r, word))
			return fail(err, err_len, "'%.80s' is not p=0..1, skip=N or count=N", word);
	rules->rule[rules->nr++] = r;
	return 0;
}

int fault_rules_parse(const char *text, struct fault_rules **out, char *err, size_t err_len)
{
	struct fault_rules *rules = calloc(1, sizeof(*rules));
	__cleanup_free char *copy = strdup(text);
	char *rest = copy, *part;
	int r = 0;

	if (!rules || !copy) {
		free(rules);
		snprintf(err, err_len, "fault rules: out of memory");
		return -ENOMEM;
	}
	rules->seed = 1;
	while (!r && (part = strsep(&rest, ";")))
		r = rule_parse(rules, part, err, err_len);
	if (r) {
		free(rules);
		return r;
	}
	for (unsigned int i = 0; i < rules->nr; i++) {
		uint64_t place = i, mix = prng_next(&place);

		rules->rule[i].prng = rules->seed ^ mix;
	}
	*out = rules;
	return 0;
}

void fault_rules_free(struct fault_rules *rules)
{
	free(rules);
}

/* Does this rule strike this operation? Uses up its skip, its draw and its count. */
static bool rule_strikes(struct fault_rule *r, const struct store_op *op)
{
	if (!(r->ops & BIT(op->type)) || fnmatch(r->glob, op->key, 0))
		return false;
	if (r->skip) {
		r->skip--;
		return false;
	}
	if (!r->count)
		return false;
	if (r->p < 1 && (double)(prng_next(&r->prng) >> 11) * 0x1p-53 >= r->p)
		return false;
	if (r->count != UINT64_MAX)
		r->count--;
	return true;
}

struct fault_verdict fault_rules_judge(struct fault_rules *rules, const struct store_op *op)
{
	struct fault_verdict v = {.action = FAULT_NONE};

	for (unsigned int i = 0; i < rules->nr; i++) {
		struct fault_rule *r = &rules->rule[i];

		if (!rule_strikes(r, op))
			continue;
		if (r->action == FAULT_DELAY) {
			v.delay_ns += r->ms * NSEC_PER_MSEC;
			continue;
		}
		v.action = r->action;
		v.error = r->error;
		v.late_ns = r->ms * NSEC_PER_MSEC;
		v.random = prng_next(&r->prng);
		break;
	}
	return v;
}
