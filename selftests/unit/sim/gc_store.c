// SPDX-License-Identifier: GPL-2.0-or-later
/* The store of the simulation, its faults, and the promise; see gc_sim.h. One thread. */
#include "selftests/unit/sim/gc_sim_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static uint64_t key_hash(const char *key)
{
	return hash_xxh3(key, strlen(key));
}

static struct object *find(struct object *obj, unsigned int nr, const char *key)
{
	uint64_t h = key_hash(key);

	for (unsigned int i = 0; i < nr; i++)
		if (obj[i].hash == h && !strcmp(obj[i].key, key))
			return &obj[i];
	return NULL;
}

static const struct object *find_hash(uint64_t h)
{
	for (unsigned int i = 0; i < sim.nr; i++)
		if (sim.obj[i].hash == h)
			return &sim.obj[i];
	return NULL;
}

static void *keep(const void *data, size_t len)
{
	char *p = calloc(1, len + 1);

	if (sim.nr_mem == sim.cap_mem) {
		sim.cap_mem = sim.cap_mem ? 2 * sim.cap_mem : 1024;
		sim.mem = realloc(sim.mem, sim.cap_mem * sizeof(*sim.mem));
	}
	if (!p || !sim.mem)
		abort();
	memcpy(p, data, len);
	sim.mem[sim.nr_mem++] = p;
	return p;
}

static bool starts(const char *key, const char *prefix)
{
	return !strncmp(key, prefix, strlen(prefix));
}

static bool is_data(const char *key)
{
	return starts(key, "chunks/") || starts(key, "manifests/");
}

static void __printf(1, 2) breaks(const char *fmt, ...)
{
	va_list ap;
	int n;

	if (sim.broken[0])
		return;
	n = snprintf(sim.broken, sizeof(sim.broken),
		     "seed %llu, operation %llu, %.3f s: ", (unsigned long long)sim.seed,
		     (unsigned long long)sim.ops, (double)sim.now_ns / NSEC_PER_SEC);
	va_start(ap, fmt);
	vsnprintf(sim.broken + n, sizeof(sim.broken) - (size_t)n, fmt, ap);
	va_end(ap);
}

/* The promise, for one object that names others: what it names is there. */
static void holder_check(const struct object *o, const char *when)
{
	const struct object *m;

	if (!o->nr_refs || !o->promise)
		return;
	m = find_hash(o->ref[0]);
	if (!m) {
		breaks("%s: %s names a manifest that is not there", when, o->key);
		return;
	}
	for (unsigned int i = 0; i < m->nr_refs; i++)
		if (!find_hash(m->ref[i])) {
			breaks("%s: %s names %s, a pack of which is not there", when, o->key,
			       m->key);
			return;
		}
}

static void refs_read(struct object *o)
{
	char key[STORE_KEY_MAX];
	struct manifest_ref ref;
	struct manifest *m;
	struct fmt_err err;

	o->holder = starts(o->key, "exports/") || starts(o->key, "snapshots/") ||
		    starts(o->key, "bases/");
	o->nr_refs = 0;
	if (o->holder && !holder_parse((char *)o->data, o->len, &ref, &err) && ref.id[0]) {
		manifest_key(ref.uuid, ref.id, key, sizeof(key));
		o->ref[o->nr_refs++] = key_hash(key);
	} else if (starts(o->key, "manifests/") && !manifest_parse(o->data, o->len, &m, &err)) {
		if (m->nr_entries > REFS_MAX)
			abort();
		for (uint32_t i = 0; i < m->nr_entries; i++) {
			pack_key(m->entries[i].chunk, m->entries[i].pack_id, key, sizeof(key));
			o->ref[o->nr_refs++] = key_hash(key);
		}
		manifest_put(m);
	}
}

static uint64_t store_s(void)
{
	return EPOCH_S + 12345 + sim.now_ns / 16 * sim.drift / NSEC_PER_SEC;
}

static int apply_put(const char *key, uint8_t *data, size_t len, enum store_cond cond,
		     const char *etag, char *etag_out)
{
	struct object *o = find(sim.obj, sim.nr, key);
	char is[STORE_ETAG_MAX] = "";

	if (o)
		snprintf(is, sizeof(is), "%llx", (unsigned long long)o->etag);
	if (cond == STORE_IF_NONE_MATCH && o)
		return -EEXIST;
	if (cond == STORE_IF_MATCH && (!o || strcmp(is, etag)))
		return -ESTALE;
	if (!o) {
		if (sim.nr == OBJECTS_MAX)
			abort();
		o = &sim.obj[sim.nr++];
		memset(o, 0, sizeof(*o));
		snprintf(o->key, sizeof(o->key), "%s", key);
		o->hash = key_hash(key);
		o->promise = !starts(key, "exports/");
	}
	o->data = data;
	o->len = len;
	o->mtime_s = store_s();
	o->etag = ++sim.etags;
	refs_read(o);
	if (o->holder)
		holder_check(o, "written");
	if (etag_out)
		snprintf(etag_out, STORE_ETAG_MAX, "%llx", (unsigned long long)o->etag);
	return 0;
}

static int apply_delete(const char *key, enum store_cond cond, const char *etag)
{
	struct object *o = find(sim.obj, sim.nr, key);
	char is[STORE_ETAG_MAX], when[160];
	bool data = is_data(key);

	if (!o)
		return 0;
	snprintf(is, sizeof(is), "%llx", (unsigned long long)o->etag);
	if (cond == STORE_IF_MATCH && strcmp(is, etag))
		return -ESTALE;
	if (o->wanted)
		breaks("%s deleted: it was acknowledged, and nobody asked for that", key);
	*o = sim.obj[--sim.nr];
	if (!data)
		return 0;
	sim.deleted++;
	snprintf(when, sizeof(when), "%s deleted", key);
	for (unsigned int i = 0; i < sim.nr; i++)
		if (sim.obj[i].holder)
			holder_check(&sim.obj[i], when);
	return 0;
}

void sim_acknowledged(const char *key)
{
	struct object *o = find(sim.obj, sim.nr, key);

	if (!o)
		return; /* it was there, and somebody else has deleted it since */
	o->promise = o->wanted = true;
	holder_check(o, "acknowledged");
}

void sim_forsaken(const char *key)
{
	struct object *o = find(sim.obj, sim.nr, key);

	if (o)
		o->wanted = false;
}

void sim_reap(void)
{
	for (unsigned int i = 0; i < sim.nr;)
		if (sim.obj[i].promise)
			i++;
		else
			sim.obj[i] = sim.obj[--sim.nr];
}

static uint8_t *body_copy(const struct store_op *op, size_t *len)
{
	uint8_t *buf = malloc(store_body_bytes(op) + 1), *p = buf;
	void *kept;

	if (!buf)
		abort();
	for (int i = 0; i < op->iovcnt; i++) {
		memcpy(p, op->iov[i].iov_base, op->iov[i].iov_len);
		p += op->iov[i].iov_len;
	}
	*len = (size_t)(p - buf);
	kept = keep(buf, *len);
	free(buf);
	return kept;
}

/* What a collector sees under PLANT_ONE_LISTING. */
static bool stale(const struct actor *a, const char *key)
{
	return sim.plant == PLANT_ONE_LISTING && a->collector && sim.have_old &&
	       (starts(key, "exports/") || starts(key, "snapshots/") || starts(key, "gc/graves/") ||
		starts(key, "bases/") || starts(key, "manifests/"));
}

static int entry_cmp(const void *a, const void *b)
{
	return strcmp(((const struct store_list_entry *)a)->key,
		      ((const struct store_list_entry *)b)->key);
}

static int run_list(struct store_op *op, const struct object *obj, unsigned int nr)
{
	static struct store_list_entry all[OBJECTS_MAX];
	unsigned int n = 0;

	for (unsigned int i = 0; i < nr; i++) {
		if (!starts(obj[i].key, op->key) || strcmp(obj[i].key, op->start_after) <= 0)
			continue;
		memcpy(all[n].key, obj[i].key, sizeof(obj[i].key));
		all[n].size = obj[i].len;
		all[n++].mtime_s = obj[i].mtime_s;
	}
	qsort(all, n, sizeof(*all), entry_cmp);
	/* Small pages: what comes and goes between two of them is the point. */
	op->nr_entries = MIN(n, MIN(op->max_entries, 3u));
	op->truncated = n > op->nr_entries;
	memcpy(op->entries, all, op->nr_entries * sizeof(*all));
	return 0;
}

static int run_read(const struct actor *a, struct store_op *op)
{
	bool old = stale(a, op->key) && !(op->type == STORE_LIST && starts(op->key, "manifests/"));
	struct object *obj = old ? sim.old : sim.obj, *o;
	unsigned int nr = old ? sim.nr_old : sim.nr;

	if (op->type == STORE_LIST)
		return run_list(op, obj, nr);
	o = find(obj, nr, op->key);
	if (!o)
		return -ENOENT;
	snprintf(op->etag, sizeof(op->etag), "%llx", (unsigned long long)o->etag);
	op->mtime_s = o->mtime_s;
	op->object_size = o->len;
	if (op->type == STORE_HEAD)
		return 0;
	op->buf = malloc(o->len ? o->len : 1);
	if (!op->buf)
		return -ENOMEM;
	memcpy(op->buf, o->data, o->len);
	op->size_out = o->len;
	return 0;
}

static void late_add(const struct store_op *op, uint8_t *data, size_t len, uint64_t after_ns)
{
	struct late *l = &sim.late[sim.nr_late++];

	*l = (struct late){.put = op->type == STORE_PUT,
			   .data = data,
			   .len = len,
			   .cond = op->cond,
			   .due_ns = sim.now_ns + after_ns};
	snprintf(l->key, sizeof(l->key), "%s", op->key);
	snprintf(l->etag, sizeof(l->etag), "%s", op->etag);
}

static bool grave_missing(const char *key, const uint8_t *data)
{
	static const char base[] = "glidefs-base";

	if (!starts(key, "gc/graves/") || !data)
		return false;
	return sim.plant == PLANT_NO_GRAVES ||
	       (sim.plant == PLANT_NO_BASE_GRAVES && strstr((const char *)data, base));
}

static int run_change(struct actor *a, struct store_op *op)
{
	size_t len = 0;
	uint8_t *data = op->type == STORE_PUT ? body_copy(op, &len) : NULL;
	uint32_t luck = sim.calm ? 99 : sim_random(100);
	int res;

	if (grave_missing(op->key, data))
		return 0;
	if (a->die_in && starts(op->key, a->die_in) && sim.nr_late < LATE_MAX) {
		late_add(op, data, len, a->die_late_ns);
		a->crashed = true;
		return -ECANCELED;
	}
	if (luck == 0)
		return -EIO;
	if (luck <= 3 && sim.nr_late < LATE_MAX) {
		op->ambiguous = true;
		if (luck != 3) /* else never */
			late_add(op, data, len,
				 luck == 1 ? 0 : sim_random(1000) * (SIM_LATE_NS / 1000));
		return -ETIMEDOUT;
	}
	if (op->type == STORE_PUT)
		res = apply_put(op->key, data, len, op->cond, op->etag, op->etag);
	else
		res = apply_delete(op->key, op->cond, op->etag);
	return res;
}

int op_run(struct actor *a, struct store_op *op)
{
	sim.ops++;
	if (a->crash_in && !--a->crash_in)
		a->crashed = true;
	if (a->crashed)
		return -ECANCELED;
	if (op->deadline_ns && sim.now_ns >= op->deadline_ns)
		return -ETIMEDOUT;
	if (store_op_mutates(op))
		return run_change(a, op);
	if (!sim.calm && !sim_random(100))
		return -EIO;
	return run_read(a, op);
}

void late_run(unsigned int i)
{
	struct late l = sim.late[i];

	sim.late[i] = sim.late[--sim.nr_late];
	if (l.put)
		(void)apply_put(l.key, l.data, l.len, l.cond, l.etag, NULL);
	else
		(void)apply_delete(l.key, l.cond, l.etag);
}

unsigned int sim_garbage(void)
{
	unsigned int garbage = 0;

	for (unsigned int i = 0; i < sim.nr; i++) {
		const struct object *o = &sim.obj[i];
		bool named = false;

		if (!is_data(o->key))
			continue;
		for (unsigned int h = 0; h < sim.nr && !named; h++) {
			const struct object *m = sim.obj[h].holder && sim.obj[h].nr_refs
							 ? find_hash(sim.obj[h].ref[0])
							 : NULL;

			named = m == o;
			for (unsigned int k = 0; m && k < m->nr_refs && !named; k++)
				named = m->ref[k] == o->hash;
		}
		garbage += !named;
	}
	return garbage;
}
