// SPDX-License-Identifier: GPL-2.0-or-later
/* Rules that break answers, and counters of what was asked and fired. One lock for the rules. */
#include "s3d.h"

#include <ctype.h>
#include <fnmatch.h>

#define RULES_MAX 256

const char faults_help[] =
	"Rules: `PUT /_s3d/faults`, one rule a line, replaces all; an empty body clears.\n"
	"  op=put|get|head|list|delete|bucket|any [key=GLOB] FAULT... [count=N] [skip=N]\n"
	"  [every=N] [percent=N] [seed=N]\n"
	"A rule looks at requests of its op whose key (LIST: prefix) matches; of these it skips\n"
	"the first `skip`, then fires on each `every`th, or on `percent` of them (drawn from\n"
	"`seed`), `count` times at most. All rules that fire on a request work together.\n"
	"Without effect on the objects:\n"
	"  status=N [code=NAME] [retry_after=S]   answer the error; the usual code if none given\n"
	"  redirect=N       answer 301 or 307 with a Location that nobody listens at\n"
	"  reset_before     connection reset instead of doing it\n"
	"  reset_body=N     reset after N bytes of the request's body\n"
	"  hang_before      never answers, does nothing; until the client closes\n"
	"  expired_token    400 ExpiredToken\n"
	"  skew=S           the server's clock is S seconds ahead: Date, signatures, mtime\n"
	"Done, but:\n"
	"  reset_after      connection reset instead of an answer\n"
	"  hang_after       never answers\n"
	"  status200_error  200, but the body is an Error document\n"
	"  truncate=N       only N bytes of the answer's body, then the connection closes\n"
	"  wrong_etag, no_etag\n"
	"  bad_xml          the document is cut in the middle of a tag\n"
	"  close_idle       closes the connection after the answer, without having said so\n"
	"  stall_idle       answers, then never reads from this connection again\n"
	"Otherwise:\n"
	"  slow=N           both bodies move at N bytes per second\n"
	"  delay_ms=N       before doing it\n"
	"  no_conditional   ignores If-Match and If-None-Match\n"
	"  delete_unconditional  ignores If-Match of DELETE\n"
	"  quoted_only, unquoted_only   the other form of If-Match is a mismatch (412)\n";

static const char *const op_names[OP_NR] = {
	[OP_PUT] = "put",       [OP_GET] = "get",       [OP_HEAD] = "head",   [OP_LIST] = "list",
	[OP_DELETE] = "delete", [OP_BUCKET] = "bucket", [OP_OTHER] = "other",
};

enum kind { FLAG, NUMBER, TEXT };

struct rule {
	char *text;
	int op; /* OP_NR: any */
	char key[256];
	struct plan plan;
	int64_t count, skip, every, percent, seed;
	uint64_t random, matched, fired;
};

#define PLAN(m) offsetof(struct rule, plan.m)
#define OWN(m)  offsetof(struct rule, m)
#define F(m)                                          \
	{                                             \
#m, FLAG, PLAN(m), sizeof(bool), 0, 0 \
	}

static const struct word {
	const char *name;
	enum kind kind;
	size_t offset, size;
	int64_t min, max;
} words[] = {
	{"status", NUMBER, PLAN(status), sizeof(int), 400, 599},
	{"code", TEXT, PLAN(code), 64, 0, 0},
	{"retry_after", NUMBER, PLAN(retry_after_s), 8, 0, 86400},
	{"redirect", NUMBER, PLAN(redirect), sizeof(int), 300, 399},
	{"truncate", NUMBER, PLAN(truncate), 8, 0, INT64_MAX},
	{"reset_body", NUMBER, PLAN(reset_body), 8, 0, INT64_MAX},
	{"slow", NUMBER, PLAN(rate), 8, 1, INT64_MAX},
	{"delay_ms", NUMBER, PLAN(delay_ms), 8, 0, 86400000},
	{"skew", NUMBER, PLAN(skew_s), 8, -315360000, 315360000},
	F(reset_before),
	F(reset_after),
	F(hang_before),
	F(hang_after),
	F(close_idle),
	F(stall_idle),
	F(wrong_etag),
	F(no_etag),
	F(bad_xml),
	F(status200_error),
	F(expired_token),
	F(no_conditional),
	F(quoted_only),
	F(unquoted_only),
	F(delete_unconditional),
	{"key", TEXT, OWN(key), 256, 0, 0},
	{"count", NUMBER, OWN(count), 8, 0, INT64_MAX},
	{"skip", NUMBER, OWN(skip), 8, 0, INT64_MAX},
	{"every", NUMBER, OWN(every), 8, 1, INT64_MAX},
	{"percent", NUMBER, OWN(percent), 8, 0, 100},
	{"seed", NUMBER, OWN(seed), 8, 0, INT64_MAX},
};

/* What a plan is when no rule fires. */
static const struct plan no_plan = {.retry_after_s = -1, .truncate = -1, .reset_body = -1};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule *rules;
static size_t nr_rules;
struct stats stats;

static void free_rules(struct rule *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(r[i].text);
	free(r);
}

static int set_op(struct rule *r, const char *name)
{
	r->op = -1;
	for (int i = 0; i < OP_NR; i++)
		if (!strcmp(name, op_names[i]))
			r->op = i;
	if (!strcmp(name, "any"))
		r->op = OP_NR;
	return r->op < 0 ? -EINVAL : 0;
}

/* One word of a rule. 0, 1 if it is a fault, or -EINVAL. */
static int set_word(struct rule *r, const char *name, const char *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const struct word *w = &words[i];
		void *field = (char *)r + w->offset;
		char *end;
		int64_t n;

		if (strcmp(name, w->name) != 0)
			continue;
		if ((w->kind == FLAG) != !value)
			return -EINVAL;
		if (w->kind == FLAG) {
			*(bool *)field = true;
		} else if (w->kind == TEXT) {
			if (strlen(value) >= w->size)
				return -EINVAL;
			strcpy(field, value);
		} else {
			errno = 0;
			n = strtoll(value, &end, 10);
			if (errno || end == value || *end || n < w->min || n > w->max)
				return -EINVAL;
			if (w->size == sizeof(int))
				*(int *)field = (int)n;
			else
				*(int64_t *)field = n;
		}
		return w->offset < OWN(count) && w->offset >= PLAN(status);
	}
	return -EINVAL;
}

static int parse_rule(struct rule *r, char *line, char *err, size_t err_len)
{
	char *save = NULL;
	bool fault = false;

	*r = (struct rule){.op = -1,
			   .key = "*",
			   .plan = no_plan,
			   .count = INT64_MAX,
			   .every = 1,
			   .percent = 100};
	r->text = strdup(line);
	if (!r->text)
		abort();
	for (char *w = strtok_r(line, " \t\r", &save); w; w = strtok_r(NULL, " \t\r", &save)) {
		char *value = strchr(w, '=');
		int n;

		if (value)
			*value++ = '\0';
		n = !strcmp(w, "op") ? set_op(r, value ? value : "") : set_word(r, w, value);
		if (n < 0) {
			snprintf(err, err_len, "bad word '%s%s%s' in the rule '%s'", w,
				 value ? "=" : "", value ? value : "", r->text);
			return n;
		}
		fault |= n;
	}
	r->random = (uint64_t)r->seed;
	if (r->op >= 0 && fault)
		return 0;
	snprintf(err, err_len, "the rule '%s' has no %s", r->text, fault ? "op" : "fault");
	return -EINVAL;
}

int faults_set(const char *text, char *err, size_t err_len)
{
	struct rule *new = calloc(RULES_MAX, sizeof(*new));
	__cleanup_free char *copy = strdup(text);
	char *save = NULL;
	size_t n = 0;
	int r = 0;

	if (!new || !copy)
		abort();
	for (char *l = strtok_r(copy, "\n", &save); l && !r; l = strtok_r(NULL, "\n", &save)) {
		l += strspn(l, " \t\r");
		if (!*l)
			continue;
		if (n == RULES_MAX) {
			snprintf(err, err_len, "more than %d rules", RULES_MAX);
			r = -EINVAL;
			break;
		}
		r = parse_rule(&new[n++], l, err, err_len);
	}
	if (r) {
		free_rules(new, n);
		return r;
	}
	pthread_mutex_lock(&lock);
	free_rules(rules, nr_rules);
	rules = new;
	nr_rules = n;
	pthread_mutex_unlock(&lock);
	return 0;
}

/* 0..99, from the rule's own sequence (xorshift64*, by its published constants). */
static unsigned int draw(struct rule *r)
{
	uint64_t x = r->random ? r->random : 0x9e3779b97f4a7c15ull;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	r->random = x;
	return (unsigned int)((x * 0x2545f4914f6cdd1dull >> 33) % 100);
}

static bool fires(struct rule *r)
{
	uint64_t nth = r->matched++;

	if (nth < (uint64_t)r->skip || r->fired >= (uint64_t)r->count ||
	    (nth - (uint64_t)r->skip + 1) % (uint64_t)r->every)
		return false;
	if (r->percent < 100 && draw(r) >= r->percent)
		return false;
	r->fired++;
	return true;
}

/* What `from` says on top of what `to` says: fields that are not as in no_plan. */
static void merge(struct plan *to, const struct plan *from)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t offset = words[i].offset - offsetof(struct rule, plan);
		size_t size = words[i].size;

		if (words[i].offset < PLAN(status) || offset + size > sizeof(*to))
			continue;
		if (memcmp((const char *)from + offset, (const char *)&no_plan + offset, size) != 0)
			memcpy((char *)to + offset, (const char *)from + offset, size);
	}
}

void faults_match(enum s3d_op op, const char *key, struct plan *plan)
{
	SCOPED_LOCK(&lock);
	*plan = no_plan;
	for (size_t i = 0; i < nr_rules; i++) {
		struct rule *r = &rules[i];

		if ((r->op == OP_NR || r->op == (int)op) && !fnmatch(r->key, key, 0) && fires(r))
			merge(plan, &r->plan);
	}
}

void stats_level(_Atomic int64_t *now, _Atomic int64_t *max, int n)
{
	int64_t level = atomic_fetch_add(now, n) + n, seen = *max;

	while (level > seen && !atomic_compare_exchange_weak(max, &seen, level))
		;
}

void stats_reset(void)
{
	for (int i = 0; i < OP_NR; i++)
		stats.ops[i] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(stats.statuses); i++)
		stats.statuses[i] = 0;
	stats.requests = stats.connections = stats.auth_failures = 0;
	stats.bytes_in = stats.bytes_out = 0;
	stats.connections_max = (int64_t)stats.connections_open;
	stats.requests_max = (int64_t)stats.requests_open;
}

static void write_escaped(FILE *f, const char *s)
{
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', f);
		if ((unsigned char)*s >= 32)
			fputc(*s, f);
	}
}

char *stats_json(void)
{
	char *out = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&out, &len);
	const char *comma = "";
	uint64_t fired = 0;

	if (!f)
		abort();
	fprintf(f,
		"{\"requests\":%llu,\"max_concurrent\":%lld,\"connections\":%llu,"
		"\"connections_open\":%lld,\"connections_max\":%lld,\"auth_failures\":%llu,"
		"\"bytes_in\":%llu,\"bytes_out\":%llu,\"ops\":{",
		(unsigned long long)stats.requests, (long long)stats.requests_max,
		(unsigned long long)stats.connections, (long long)stats.connections_open,
		(long long)stats.connections_max, (unsigned long long)stats.auth_failures,
		(unsigned long long)stats.bytes_in, (unsigned long long)stats.bytes_out);
	for (int i = 0; i < OP_NR; i++)
		fprintf(f, "%s\"%s\":%llu", i ? "," : "", op_names[i],
			(unsigned long long)stats.ops[i]);
	fprintf(f, "},\"statuses\":{");
	for (size_t i = 0; i < ARRAY_SIZE(stats.statuses); i++)
		if (stats.statuses[i]) {
			fprintf(f, "%s\"%zu\":%llu", comma, i,
				(unsigned long long)stats.statuses[i]);
			comma = ",";
		}
	fprintf(f, "},\"rules\":[");
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < nr_rules; i++) {
		fprintf(f, "%s{\"rule\":\"", i ? "," : "");
		write_escaped(f, rules[i].text);
		fprintf(f, "\",\"matched\":%llu,\"fired\":%llu}",
			(unsigned long long)rules[i].matched, (unsigned long long)rules[i].fired);
		fired += rules[i].fired;
	}
	pthread_mutex_unlock(&lock);
	fprintf(f, "],\"faults_fired\":%llu}\n", (unsigned long long)fired);
	fclose(f);
	return out;
}
