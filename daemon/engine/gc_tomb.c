// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The set of keys of a run, and tombstones: objects that say what was named by nothing when they
 * were written. See gc_priv.h; the format is in Documentation/formats.rst. The run's thread only.
 */
#include "engine/gc_priv.h"

#include <inttypes.h>

#define TOMB_HEAD      "glidefs-tombstone 1\n"
#define TOMB_BYTES_MAX (1 * MiB) /* of keys in one */
#define SUM_CHARS      (2 * SHA256_LEN + 1)

/* ---- the set ---- */

static void key_id(const char *key, uint8_t id[16])
{
	uint8_t sum[SHA256_LEN];

	hash_sha256(key, strlen(key), sum);
	memcpy(id, sum, 16);
}

/* The slot that has the id, or the free one where it would be; cap is a power of two. */
static struct gc_slot *slot_of(const struct gc_set *s, const uint8_t id[16])
{
	uint64_t at;

	memcpy(&at, id, sizeof(at));
	for (;; at++) {
		struct gc_slot *sl = &s->slot[at & (s->cap - 1)];

		if (!sl->flags || !memcmp(sl->id, id, 16))
			return sl;
	}
}

static int set_grow(struct gc_set *s)
{
	struct gc_set big = {.cap = s->cap ? 2 * s->cap : 256, .nr = s->nr};

	big.slot = calloc(big.cap, sizeof(*big.slot));
	if (!big.slot)
		return -ENOMEM;
	for (size_t i = 0; i < s->cap; i++)
		if (s->slot[i].flags)
			*slot_of(&big, s->slot[i].id) = s->slot[i];
	free(s->slot);
	*s = big;
	return 0;
}

int gc_set_add(struct gc_set *s, const char *key, uint32_t flags, uint64_t tomb_s)
{
	struct gc_slot *sl;
	uint8_t id[16];

	if (s->nr >= s->cap / 2 && set_grow(s))
		return -ENOMEM;
	key_id(key, id);
	sl = slot_of(s, id);
	if (!sl->flags) {
		memcpy(sl->id, id, sizeof(id));
		s->nr++;
	}
	sl->flags |= flags;
	if (tomb_s && (!sl->tomb_s || tomb_s < sl->tomb_s))
		sl->tomb_s = tomb_s;
	return 0;
}

const struct gc_slot *gc_set_find(const struct gc_set *s, const char *key)
{
	const struct gc_slot *sl;
	uint8_t id[16];

	if (!s->cap)
		return NULL;
	key_id(key, id);
	sl = slot_of(s, id);
	return sl->flags ? sl : NULL;
}

void gc_set_free(struct gc_set *s)
{
	free(s->slot);
	*s = (struct gc_set){0};
}

/* ---- reading ---- */

static int listed(const struct store_list_entry *entry, void *arg)
{
	struct gc_run *g = arg;
	struct gc_tomb *more = reallocarray(g->tomb, g->nr_tombs + 1, sizeof(*more));

	if (!more)
		return fmt_fail(g->err, -ENOMEM, "out of memory");
	g->tomb = more;
	g->tomb[g->nr_tombs] = (struct gc_tomb){.written_s = entry->mtime_s};
	memcpy(g->tomb[g->nr_tombs++].key, entry->key, sizeof(entry->key));
	return 0;
}

/* The lines of keys, in [*keys, *end); false: not a tombstone of this version, or damaged. */
static bool text_check(struct gc_tomb *t, char *text, size_t len, char **keys, char **end)
{
	const size_t head = sizeof(TOMB_HEAD) - 1;
	uint8_t want[SHA256_LEN], is[SHA256_LEN];
	char *sum, *rest;

	if (len < head + SUM_CHARS || memcmp(text, TOMB_HEAD, head) || text[len - 1] != '\n' ||
	    memchr(text, '\0', len))
		return false;
	text[len - 1] = '\0';
	sum = text + len - SUM_CHARS;
	hash_sha256(text, len - SUM_CHARS, is);
	if (hex_decode(sum, want, sizeof(want)) || memcmp(is, want, sizeof(is)))
		return false;
	*sum = '\0';
	t->began_s = strtoull(text + head, &rest, 10);
	if (rest == text + head || *rest != '\n' || !t->began_s)
		return false;
	*keys = rest + 1;
	*end = sum;
	return true;
}

static int keys_add(struct gc_run *g, const struct gc_tomb *t, char *keys, const char *end)
{
	while (keys < end) {
		char *nl = strchr(keys, '\n');

		if (!nl)
			break;
		*nl = '\0';
		if (gc_set_add(&g->set, keys, t->ripe ? GC_RIPE : GC_WAITING,
			       t->ripe ? t->written_s : 0))
			return fmt_fail(g->err, -ENOMEM, "out of memory");
		keys = nl + 1;
	}
	return 0;
}

/* From when on graves may matter to a run that began then. */
static uint64_t horizon_of(const struct gc_run *g, uint64_t began_s)
{
	return began_s - MIN(began_s, GC_GRAVE_SEEN * g->p->grace_s);
}

/*
 * What is damaged or too old is not acted upon: it is removed, and what it held is found again. A
 * tombstone is ripe by the store's clock, which counts in whole seconds.
 */
static int tomb_use(struct gc_run *g, struct gc_tomb *t, struct gc_get *get)
{
	char *keys, *end;

	if (get->res) /* another run removed it */
		return 0;
	if (!get->len || !text_check(t, get->buf, get->len, &keys, &end)) {
		t->spent = gc_older(g, t->written_s, GC_TOMB_VALID);
		return 0;
	}
	t->spent = gc_older(g, t->began_s, GC_TOMB_VALID);
	t->ripe = !t->spent && gc_older(g, t->written_s, 1);
	if (t->spent)
		return 0;
	if (t->ripe)
		g->horizon_s = MIN(g->horizon_s, horizon_of(g, t->began_s));
	return keys_add(g, t, keys, end);
}

int gc_tombs_load(struct gc_run *g)
{
	struct gc_get get[GC_PARALLEL];
	int r = object_scan(g->e, GC_TOMBS, listed, g, g->err);

	g->horizon_s = horizon_of(g, g->now_s);
	for (size_t i = 0; !r && i < g->nr_tombs; i += GC_PARALLEL) {
		unsigned int nr = (unsigned int)MIN(g->nr_tombs - i, (size_t)GC_PARALLEL);

		for (unsigned int k = 0; k < nr; k++)
			memcpy(get[k].key, g->tomb[i + k].key, sizeof(get[k].key));
		r = gc_get_all(g, get, nr);
		for (unsigned int k = 0; !r && k < nr; k++)
			r = tomb_use(g, &g->tomb[i + k], &get[k]);
		gc_get_free(get, nr);
	}
	return r;
}

/* ---- writing ---- */

static void text_append(struct gc_run *g, const char *s)
{
	size_t n = strlen(s);

	memcpy(g->text + g->text_len, s, n);
	g->text_len += n;
}

int gc_tombs_flush(struct gc_run *g)
{
	char hex[SUM_CHARS], key[STORE_KEY_MAX];
	uint8_t sum[SHA256_LEN];
	int r;

	if (!g->text_len)
		return 0;
	hash_sha256(g->text, g->text_len, sum);
	hex_encode(sum, sizeof(sum), hex);
	text_append(g, hex);
	text_append(g, "\n");
	gc_random_key(GC_TOMBS, key);
	r = gc_put(g->e, key, g->text, g->text_len, NULL, g->op_id, g->err);
	g->text_len = 0;
	return r;
}

int gc_tomb_add(struct gc_run *g, const char *key)
{
	char began[32];

	if (!g->text) {
		g->text_cap = TOMB_BYTES_MAX + STORE_KEY_MAX + 256;
		g->text = malloc(g->text_cap);
		if (!g->text)
			return fmt_fail(g->err, -ENOMEM, "out of memory");
	}
	if (!g->text_len) {
		text_append(g, TOMB_HEAD);
		snprintf(began, sizeof(began), "%" PRIu64 "\n", g->now_s);
		text_append(g, began);
	}
	text_append(g, key);
	text_append(g, "\n");
	return g->text_len < TOMB_BYTES_MAX ? 0 : gc_tombs_flush(g);
}
