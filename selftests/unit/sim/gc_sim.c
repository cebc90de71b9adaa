// SPDX-License-Identifier: GPL-2.0-or-later
/* See gc_sim.h. One thread. */
#include "selftests/unit/sim/gc_sim.h"
#include "store/store_priv.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBERS 1
#endif
#endif
#ifdef FIBERS
#include <sanitizer/common_interface_defs.h>
#endif

#define ACTORS_MAX  16
#define STACK_BYTES (512 * KiB)
#define OBJECTS_MAX 4096
#define LATE_MAX    256
#define REFS_MAX    64
#define EPOCH_S     1700000000ull

struct object {
	char key[112];
	uint64_t hash;
	uint8_t *data; /* kept until sim_end() */
	size_t len;
	uint64_t mtime_s, etag;
	bool holder;            /* names a manifest, ref[0] */
	bool promise;           /* what it names is there */
	bool wanted;            /* somebody was told of it, and nobody deletes it */
	unsigned int nr_refs;   /* of a manifest: its packs */
	uint64_t ref[REFS_MAX]; /* hashes of keys */
};

/* A change that was sent and has not taken effect. */
struct late {
	uint64_t due_ns;
	bool put;
	char key[112], etag[STORE_ETAG_MAX];
	uint8_t *data;
	size_t len;
	enum store_cond cond;
};

/* An operation that its actor does not wait for. */
struct beside {
	struct actor *a;
	struct store_op *op;
	uint64_t due_ns;
};

enum actor_state { ASLEEP, ASKING, ANSWERED, ENDED };

struct actor {
	ucontext_t ctx;
	void *stack;
	void *fake;
	enum actor_state state;
	uint64_t until_ns;
	struct store_op *op;
	int res;
	unsigned int host;
	bool collector, crashed, beside;
	unsigned int crash_in; /* operations, 0 = never */
	const char *die_in;    /* prefix, NULL = never */
	uint64_t die_late_ns;
	bool (*cond)(void); /* ASLEEP: ends that too */
	void (*fn)(void *arg);
	void *arg;
};

static struct sim {
	bool on;
	uint64_t seed, rnd, now_ns, old_ns, ops, etags;
	uint32_t drift; /* the store's seconds in 16ths of ours */
	enum sim_plant plant;
	bool calm;
	struct engine e[SIM_HOSTS];
	struct store store;

	struct object *obj, *old; /* old: at the end of the last run of a collector */
	unsigned int nr, nr_old, deleted;
	bool have_old;
	struct late late[LATE_MAX];
	unsigned int nr_late;
	struct beside beside[ACTORS_MAX];
	unsigned int nr_beside;
	void **mem;
	size_t nr_mem, cap_mem;

	struct actor actor[ACTORS_MAX], *cur, *rush;
	unsigned int nr_actors;
	ucontext_t main;
	void *main_fake;
	const void *main_stack;
	size_t main_stack_len;
	char broken[512];
} sim;

/* ---- what the engine asks the system for ---- */

int clock_gettime(clockid_t id, struct timespec *ts)
{
	uint64_t t = sim.now_ns;

	if (!sim.on)
		return (int)syscall(SYS_clock_gettime, id, ts);
	if (id == CLOCK_REALTIME)
		t += EPOCH_S * NSEC_PER_SEC;
	ts->tv_sec = (time_t)(t / NSEC_PER_SEC);
	ts->tv_nsec = (long)(t % NSEC_PER_SEC);
	return 0;
}

static uint64_t next_random(void)
{
	uint64_t z = (sim.rnd += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

ssize_t getrandom(void *buf, size_t len, unsigned int flags)
{
	uint8_t *p = buf;

	if (!sim.on)
		return syscall(SYS_getrandom, buf, len, flags);
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)next_random();
	return (ssize_t)len;
}

int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *abs)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	uint64_t until = (uint64_t)abs->tv_sec * NSEC_PER_SEC + (uint64_t)abs->tv_nsec;

	if (sim.on) {
		pthread_mutex_unlock(m);
		if (until > sim.now_ns)
			sim_sleep(until - sim.now_ns);
		pthread_mutex_lock(m);
		return ETIMEDOUT;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
	return real(c, m, abs);
}

/* Somebody else has to do something first. */
static void rush_yield(void)
{
	for (unsigned int i = 0; i < sim.nr_beside; i++)
		if (sim.beside[i].a == sim.cur)
			return;
	if (sim.rush == sim.cur)
		sim.rush = NULL;
}

/* An operation that is begun under a lock lets other actors run, which is no deadlock. */
int pthread_mutex_lock(pthread_mutex_t *m)
{
	static int (*real)(pthread_mutex_t *);

	if (sim.on && sim.cur) {
		while (pthread_mutex_trylock(m)) {
			rush_yield();
			sim_sleep(NSEC_PER_MSEC);
		}
		return 0;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_mutex_lock");
	return real(m);
}

int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *);

	if (sim.on && sim.cur) {
		pthread_mutex_unlock(m);
		rush_yield();
		sim_sleep(NSEC_PER_MSEC);
		pthread_mutex_lock(m);
		return 0;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_wait");
	return real(c, m);
}

uint32_t sim_random(uint32_t below)
{
	return (uint32_t)(next_random() % below);
}

/* ---- coroutines ---- */

/* From the scheduler to an actor, and back. */
static void switch_to(struct actor *a)
{
	sim.cur = a;
#ifdef FIBERS
	__sanitizer_start_switch_fiber(&sim.main_fake, a->stack, STACK_BYTES);
#endif
	swapcontext(&sim.main, &a->ctx);
#ifdef FIBERS
	__sanitizer_finish_switch_fiber(sim.main_fake, NULL, NULL);
#endif
	sim.cur = NULL;
}

static void switch_back(bool for_good)
{
	struct actor *a = sim.cur;

#ifdef FIBERS
	__sanitizer_start_switch_fiber(for_good ? NULL : &a->fake, sim.main_stack,
				       sim.main_stack_len);
#endif
	(void)for_good;
	swapcontext(&a->ctx, &sim.main);
#ifdef FIBERS
	__sanitizer_finish_switch_fiber(a->fake, &sim.main_stack, &sim.main_stack_len);
#endif
}

static void actor_main(void)
{
	struct actor *a = sim.cur;

#ifdef FIBERS
	__sanitizer_finish_switch_fiber(NULL, &sim.main_stack, &sim.main_stack_len);
#endif
	a->fn(a->arg);
	a->state = ENDED;
	switch_back(true);
}

void sim_actor(void (*fn)(void *arg), void *arg, bool collector)
{
	struct actor *a = &sim.actor[sim.nr_actors++];
	void *stack = a->stack ? a->stack : malloc(STACK_BYTES);

	if (sim.nr_actors > ACTORS_MAX || !stack)
		abort();
	memset(a, 0, sizeof(*a));
	a->stack = stack;
	a->fn = fn;
	a->arg = arg;
	a->collector = collector;
	getcontext(&a->ctx);
	a->ctx.uc_stack.ss_sp = stack;
	a->ctx.uc_stack.ss_size = STACK_BYTES;
	a->ctx.uc_link = NULL;
	makecontext(&a->ctx, actor_main, 0);
}

void sim_sleep(uint64_t ns)
{
	struct actor *a = sim.cur;

	a->until_ns = sim.now_ns + ns;
	a->state = ASLEEP;
	switch_back(false);
}

bool sim_wait(bool (*cond)(void), uint64_t ns)
{
	sim.cur->cond = cond;
	sim_sleep(ns);
	sim.cur->cond = NULL;
	return cond();
}

void sim_rush(bool on)
{
	sim.rush = on ? sim.cur : NULL;
}

void sim_beside(bool on)
{
	sim.cur->beside = on;
}

struct engine *sim_host(void)
{
	return &sim.e[sim.cur->host];
}

void sim_move(unsigned int host)
{
	sim.cur->host = host % SIM_HOSTS;
}

void sim_crash(unsigned int after)
{
	sim.cur->crash_in = after + 1;
}

void sim_die_in_put(const char *prefix, uint64_t late_ns)
{
	sim.cur->die_in = prefix;
	sim.cur->die_late_ns = late_ns;
}

void sim_reborn(void)
{
	sim.cur->die_in = NULL;
	sim.cur->crash_in = 0;
	sim.cur->crashed = false;
}

void sim_collected(void)
{
	if (sim.have_old && sim.now_ns < sim.old_ns + SIM_GRACE_S * 3 / 2 * NSEC_PER_SEC)
		return;
	sim.old_ns = sim.now_ns;
	memcpy(sim.old, sim.obj, sim.nr * sizeof(*sim.obj));
	sim.nr_old = sim.nr;
	sim.have_old = true;
}

void sim_calm(void)
{
	sim.calm = true;
}

/* ---- objects ---- */

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

static int op_run(struct actor *a, struct store_op *op)
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

static void sim_submit(struct store *s __unused, struct store_op *op)
{
	struct actor *a = sim.cur;

	if (a->beside && sim.nr_beside < ACTORS_MAX) {
		sim.beside[sim.nr_beside++] = (struct beside){
			a, op, sim.now_ns + sim_random(30) * sim_random(30) * NSEC_PER_MSEC};
		return;
	}
	a->op = op;
	a->state = ASKING;
	switch_back(false);
	store_complete(op, a->res);
}

static const struct store_ops sim_ops_table = {.name = "sim", .submit = sim_submit};

/* ---- the scheduler ---- */

static void late_run(unsigned int i)
{
	struct late l = sim.late[i];

	sim.late[i] = sim.late[--sim.nr_late];
	if (l.put)
		(void)apply_put(l.key, l.data, l.len, l.cond, l.etag, NULL);
	else
		(void)apply_delete(l.key, l.cond, l.etag);
}

/* Something takes a while; and now and then a long one. */
static void time_passes(void)
{
	uint32_t luck = sim_random(64);

	sim.now_ns += sim_random(20) * NSEC_PER_MSEC;
	if (!luck)
		sim.now_ns += sim_random(3000) * NSEC_PER_MSEC;
}

static void actor_step(struct actor *a)
{
	if (a->state == ASKING) {
		a->res = op_run(a, a->op);
		a->state = ANSWERED;
		/* Half of the time the answer takes as long as something else. */
		if (sim_random(2))
			return;
	}
	switch_to(a);
}

static void beside_run(unsigned int i)
{
	struct beside b = sim.beside[i];

	sim.beside[i] = sim.beside[--sim.nr_beside];
	store_complete(b.op, op_run(b.a, b.op));
}

static void rush_step(struct actor *a)
{
	bool asleep = a->state == ASLEEP && a->until_ns > sim.now_ns;

	for (unsigned int i = 0; asleep && i < sim.nr_beside; i++)
		if (sim.beside[i].a == a) {
			beside_run(i);
			return;
		}
	if (asleep)
		sim.now_ns = a->until_ns;
	else
		actor_step(a);
	if (a->state == ENDED)
		sim.rush = NULL;
}

/* One step of whatever can go on; false: nothing is left. */
static bool step(void)
{
	unsigned int ready[2 * ACTORS_MAX], nr = 0;
	uint64_t next = UINT64_MAX;

	for (unsigned int i = 0; i < sim.nr_actors; i++) {
		struct actor *a = &sim.actor[i];

		if (a->state == ENDED)
			continue;
		if (a->state == ASLEEP && a->cond && a->cond()) {
			switch_to(a);
			return true;
		}
		if (a->state != ASLEEP || a->until_ns <= sim.now_ns)
			ready[nr++] = i;
		else
			next = MIN(next, a->until_ns);
	}
	for (unsigned int i = 0; i < sim.nr_late; i++) {
		if (sim.late[i].due_ns <= sim.now_ns) {
			/* No later than that: the bound is what is assumed. */
			late_run(i);
			return true;
		}
		next = MIN(next, sim.late[i].due_ns);
	}
	if (sim.rush) {
		rush_step(sim.rush);
		return true;
	}
	for (unsigned int i = 0; i < sim.nr_beside; i++) {
		if (sim.beside[i].due_ns <= sim.now_ns)
			ready[nr++] = ACTORS_MAX + i;
		else
			next = MIN(next, sim.beside[i].due_ns);
	}
	if (nr) {
		unsigned int pick = ready[sim_random(nr)];

		if (pick < ACTORS_MAX)
			actor_step(&sim.actor[pick]);
		else
			beside_run(pick - ACTORS_MAX);
		time_passes();
		return true;
	}
	if (next == UINT64_MAX)
		return false;
	sim.now_ns = next;
	return true;
}

void sim_run(void)
{
	sim.on = true;
	while (step())
		;
	sim.on = false;
	sim.nr_actors = 0;
}

static void host_begin(struct engine *e)
{
	memset(e, 0, sizeof(*e));
	e->store = &sim.store;
	e->host_id = (char *)"sim/host";
	e->cfg.store_timeout_ns = 4 * NSEC_PER_SEC;
	e->cfg.gc_grace_ns = SIM_GRACE_S * NSEC_PER_SEC;
	e->manifests = manifest_cache_create(MiB);
	if (!e->manifests)
		abort();
}

void sim_begin(uint64_t seed, enum sim_plant plant)
{
	if (!sim.obj) {
		sim.obj = calloc(OBJECTS_MAX, sizeof(*sim.obj));
		sim.old = calloc(OBJECTS_MAX, sizeof(*sim.old));
		if (!sim.obj || !sim.old)
			abort();
	}
	sim.seed = sim.rnd = seed;
	sim.now_ns = 1000 * NSEC_PER_SEC;
	sim.ops = 0;
	sim.plant = plant;
	sim.calm = sim.have_old = false;
	sim.nr = sim.nr_old = sim.nr_late = sim.nr_beside = sim.deleted = sim.nr_actors = 0;
	sim.rush = NULL;
	sim.broken[0] = '\0';
	sim.drift = 12 + sim_random(9); /* 0.75 to 1.25 */
	sim.store = (struct store){.ops = &sim_ops_table, .url = "sim://"};
	for (unsigned int i = 0; i < SIM_HOSTS; i++)
		host_begin(&sim.e[i]);
}

void sim_end(void)
{
	for (unsigned int i = 0; i < SIM_HOSTS; i++) {
		manifest_cache_destroy(sim.e[i].manifests);
		sim.e[i].manifests = NULL;
	}
	while (sim.nr_mem)
		free(sim.mem[--sim.nr_mem]);
}

const char *sim_broken(void)
{
	return sim.broken[0] ? sim.broken : NULL;
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

unsigned int sim_deleted(void)
{
	return sim.deleted;
}

uint64_t sim_ops(void)
{
	return sim.ops;
}
