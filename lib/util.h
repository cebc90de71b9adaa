/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small helpers shared by every program of the project: macros, clocks, scope-bound cleanup,
 * deadlines. Header only; no state, any thread.
 */
#ifndef GFS_LIB_UTIL_H
#define GFS_LIB_UTIL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define DIV_ROUND_UP(n, d)              (((n) + (d)-1) / (d))
#define ROUND_UP(n, d)                  (DIV_ROUND_UP(n, d) * (d))
#define ROUND_DOWN(n, d)                ((n) / (d) * (d))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define likely(x)                       __builtin_expect(!!(x), 1)
#define unlikely(x)                     __builtin_expect(!!(x), 0)
#define __must_check                    __attribute__((warn_unused_result))
#define __printf(f, a)                  __attribute__((format(printf, f, a)))
#define __unused                        __attribute__((unused))

#define NSEC_PER_SEC  1000000000ull
#define NSEC_PER_MSEC 1000000ull
#define NSEC_PER_USEC 1000ull
#define KiB           1024ull
#define MiB           (1024ull * KiB)
#define GiB           (1024ull * MiB)
#define TiB           (1024ull * GiB)

/* CLOCK_MONOTONIC in ns: the clock of every deadline, span and BPF event. */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* CLOCK_REALTIME in ns: for people only, never for ordering. */
static inline uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_unlock_fn(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

/* Scope-bound cleanup, for leaf code. */
#define __cleanup_free  __attribute__((cleanup(cleanup_free_fn)))
#define __cleanup_close __attribute__((cleanup(cleanup_close_fn)))
#define SCOPED_LOCK(m)                                                                      \
	pthread_mutex_t *scoped_lock_ __attribute__((cleanup(cleanup_unlock_fn), unused)) = \
		(pthread_mutex_lock(m), (m))

/* A condition variable on CLOCK_MONOTONIC. */
static inline void cond_init_mono(pthread_cond_t *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

/* Wait until abs_ns (now_ns() clock; 0 = for ever). 0, or -ETIMEDOUT. */
static inline int cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, uint64_t abs_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(abs_ns / NSEC_PER_SEC),
			      .tv_nsec = (long)(abs_ns % NSEC_PER_SEC)};

	if (!abs_ns)
		return -pthread_cond_wait(c, m);
	return -pthread_cond_timedwait(c, m, &ts);
}

#endif
