// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The kernel's symbol table; see kallsyms.h. The file is read whole and kept, names are pointers
 * into it. The kernel prints its own symbols by address and then those of modules in no order: two
 * sorted runs. The index by name is made at its first use; the hash covers the name up to its first
 * dot, so that all clones of a function are in one chain.
 */
#include "tracing/kallsyms.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX   (256 * MiB)
#define OFFSET_MAX (1 * MiB) /* past it an address is not in the symbol before it */
#define NONE       UINT32_MAX

struct symbol {
	uint64_t addr;
	uint32_t name, module; /* offsets in text; module 0 = the kernel */
	uint32_t next;         /* in the chain of the name index */
	char type;
};

struct kallsyms {
	char *text; /* text[0] is a NUL of ours: offset 0 is no name */
	struct symbol *sym;
	uint32_t nr, nr_core; /* [0, nr_core) and [nr_core, nr) are sorted by address */
	uint32_t *bucket;     /* NULL: not made yet */
	uint32_t mask;
};

static bool is_code(const struct symbol *s)
{
	return strchr("tTwW", s->type);
}

static int read_text(const char *path, char **out, size_t *len)
{
	__cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t cap = 16 * MiB, n = 1;
	char *text;

	if (fd < 0)
		return -errno;
	text = malloc(cap);
	if (!text)
		return -ENOMEM;
	text[0] = '\0';
	for (;;) {
		ssize_t got;

		if (cap - n < 64 * KiB) {
			char *more = cap < TEXT_MAX ? realloc(text, cap * 2) : NULL;

			if (!more) {
				free(text);
				return cap < TEXT_MAX ? -ENOMEM : -EFBIG;
			}
			text = more;
			cap *= 2;
		}
		got = read(fd, text + n, cap - n - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			free(text);
			return -errno;
		}
		if (!got)
			break;
		n += (size_t)got;
	}
	text[n] = '\0';
	*out = text;
	*len = n;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "ffffffff81000000 T name\t[module]\n" at p; the next line. What does not look like it is left
 * out. */
static char *line_parse(struct kallsyms *k, char *p)
{
	char *end = strchrnul(p, '\n'), *next = *end ? end + 1 : end;
	struct symbol *s = &k->sym[k->nr];
	uint64_t addr = 0;
	int digits = 0, d;
	char *q;

	*end = '\0';
	while ((d = hex_digit(*p)) >= 0 && digits++ < 16) {
		addr = addr << 4 | (uint64_t)d;
		p++;
	}
	if (!digits || *p != ' ' || !p[1] || p[2] != ' ' || !p[3])
		return next;
	*s = (struct symbol){
		.addr = addr, .type = p[1], .name = (uint32_t)(p + 3 - k->text), .next = NONE};
	q = strpbrk(p + 3, "\t ");
	if (q) {
		*q++ = '\0';
		q += strspn(q, "\t [");
		q[strcspn(q, "]")] = '\0';
		if (*q)
			s->module = (uint32_t)(q - k->text);
	}
	k->nr++;
	return next;
}

static int by_addr(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	/* As the file has them. */
	return x->name < y->name ? -1 : x->name > y->name;
}

static void sort_run(struct symbol *s, size_t nr)
{
	for (size_t i = 1; i < nr; i++) {
		if (s[i].addr < s[i - 1].addr) {
			qsort(s, nr, sizeof(*s), by_addr);
			return;
		}
	}
}

static int parse(struct kallsyms *k, size_t len)
{
	size_t lines = 1;
	bool any = false;
	char *p;

	for (p = k->text + 1; (p = memchr(p, '\n', len - (size_t)(p - k->text))); p++)
		lines++;
	k->sym = malloc(lines * sizeof(*k->sym));
	if (!k->sym)
		return -ENOMEM;
	for (p = k->text + 1; *p;)
		p = line_parse(k, p);
	while (k->nr_core < k->nr && !k->sym[k->nr_core].module)
		k->nr_core++;
	for (uint32_t i = 0; i < k->nr && !any; i++)
		any = k->sym[i].addr;
	if (!k->nr)
		return -EBADMSG;
	if (!any)
		return -EPERM;
	sort_run(k->sym, k->nr_core);
	sort_run(k->sym + k->nr_core, k->nr - k->nr_core);
	return 0;
}

int kallsyms_open(const char *path, struct kallsyms **out)
{
	struct kallsyms *k = calloc(1, sizeof(*k));
	size_t len = 0;
	int r;

	if (!k)
		return -ENOMEM;
	r = read_text(path, &k->text, &len);
	if (!r)
		r = parse(k, len);
	if (r) {
		kallsyms_close(k);
		return r;
	}
	*out = k;
	return 0;
}

void kallsyms_close(struct kallsyms *k)
{
	if (!k)
		return;
	free(k->text);
	free(k->sym);
	free(k->bucket);
	free(k);
}

/* Last symbol of the run at or below addr; of several at one address the first that is code. */
static const struct symbol *run_find(const struct kallsyms *k, uint32_t from, uint32_t to,
				     uint64_t addr)
{
	uint32_t lo = from, hi = to;
	const struct symbol *s;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (k->sym[mid].addr <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == from)
		return NULL;
	s = &k->sym[lo - 1];
	for (uint32_t i = lo - 1; i > from && k->sym[i - 1].addr == s->addr; i--)
		if (is_code(&k->sym[i - 1]) || !is_code(s))
			s = &k->sym[i - 1];
	return s;
}

void kallsyms_name(const struct kallsyms *k, uint64_t addr, char *buf, size_t size)
{
	const struct symbol *a = run_find(k, 0, k->nr_core, addr);
	const struct symbol *b = run_find(k, k->nr_core, k->nr, addr);
	uint64_t off;

	if (!a || (b && b->addr > a->addr))
		a = b;
	off = a ? addr - a->addr : UINT64_MAX;
	if (!a || !a->addr || off > OFFSET_MAX)
		snprintf(buf, size, "0x%llx", (unsigned long long)addr);
	else if (a->module)
		snprintf(buf, size, "%s+0x%llx [%s]", k->text + a->name, (unsigned long long)off,
			 k->text + a->module);
	else
		snprintf(buf, size, "%s+0x%llx", k->text + a->name, (unsigned long long)off);
}

/* FNV-1a up to the first dot. */
static uint32_t name_hash(const char *s)
{
	uint32_t h = 2166136261u;

	for (; *s && *s != '.'; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	return h;
}

/* Lazily, behind the const of the callers: nothing they can see changes. */
static const uint32_t *name_index(const struct kallsyms *ck)
{
	struct kallsyms *k = (struct kallsyms *)ck;
	uint32_t nr = 1024;

	if (k->bucket)
		return k->bucket;
	while (nr < k->nr)
		nr *= 2;
	k->bucket = malloc(nr * sizeof(*k->bucket));
	if (!k->bucket)
		return NULL;
	memset(k->bucket, 0xff, nr * sizeof(*k->bucket));
	k->mask = nr - 1;
	/* Backwards, so that chains have the order of the file: the kernel before modules. */
	for (uint32_t i = k->nr; i-- > 0;) {
		uint32_t *b = &k->bucket[name_hash(k->text + k->sym[i].name) & k->mask];

		k->sym[i].next = *b;
		*b = i;
	}
	return k->bucket;
}

uint64_t kallsyms_addr(const struct kallsyms *k, const char *name)
{
	const uint32_t *index = name_index(k);

	if (!index)
		return 0;
	for (uint32_t i = index[name_hash(name) & k->mask]; i != NONE; i = k->sym[i].next)
		if (!strcmp(k->text + k->sym[i].name, name))
			return k->sym[i].addr;
	return 0;
}

/* How good a clone is as a stand-in for the function; 0: none of it. `suffix` is "" or ".isra.0…".
 */
static unsigned int clone_rank(const char *suffix)
{
	static const char *const kinds[] = {".isra.", ".constprop.", ".part.", ".llvm."};

	if (!*suffix)
		return UINT32_MAX;
	if (strstr(suffix, ".cold"))
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strncmp(suffix, kinds[i], strlen(kinds[i])) &&
		    isdigit((unsigned char)suffix[strlen(kinds[i])]))
			return ARRAY_SIZE(kinds) - i;
	return 0;
}

int kallsyms_resolve(const struct kallsyms *k, const char *name, char *buf, size_t size)
{
	const uint32_t *index = name_index(k);
	const char *best = NULL;
	unsigned int best_rank = 0;
	size_t len = strlen(name);

	if (!index)
		return -ENOMEM;
	for (uint32_t i = index[name_hash(name) & k->mask]; i != NONE; i = k->sym[i].next) {
		const char *have = k->text + k->sym[i].name;
		unsigned int rank;

		if (strncmp(have, name, len) || !is_code(&k->sym[i]))
			continue;
		rank = clone_rank(have + len);
		if (rank > best_rank) {
			best_rank = rank;
			best = have;
		}
	}
	if (!best)
		return -ENOENT;
	if (snprintf(buf, size, "%s", best) >= (int)size)
		return -ENAMETOOLONG;
	return 0;
}
