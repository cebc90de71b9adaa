// SPDX-License-Identifier: GPL-2.0-or-later
/* See gc_sim.h. One thread. */
#include "selftests/unit/sim/gc_sim_priv.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>

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

#define STACK_BYTES (512 * KiB)

struct sim sim;

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

unsigned int sim_deleted(void)
{
	return sim.deleted;
}

uint64_t sim_ops(void)
{
	return sim.ops;
}
