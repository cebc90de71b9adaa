// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Reads that may hang, in threads of their own; see guard.h. One reader that came back is kept for
 * the next job. `lock` guards the state of jobs and readers.
 */
#include "tracing/guard.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define STUCK_MAX  8
#define STACK_SIZE (256 * KiB)

/* Freed by whoever lets go last: the caller when done, the reader when left behind. */
struct guard_job {
	char path[256];
	size_t max;
	bool done, left;
	int result;
	char *data;
	size_t len;
	pthread_cond_t cond;
};

struct reader {
	struct guard_job *job; /* NULL: waits for one */
	pthread_cond_t cond;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int stuck;
static struct reader *idle;

static void job_free(struct guard_job *j)
{
	pthread_cond_destroy(&j->cond);
	free(j->data);
	free(j);
}

/* Files of /proc have no size: read until the end, in growing steps. */
static int read_whole(struct guard_job *j)
{
	__cleanup_close int fd = open(j->path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t cap = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t n;

		if (j->len + 1 >= cap) {
			char *more;

			if (j->len >= j->max)
				break;
			cap = MIN(cap ? cap * 2 : 4096, j->max + 1);
			more = realloc(j->data, cap);
			if (!more)
				return -ENOMEM;
			j->data = more;
		}
		n = read(fd, j->data + j->len, cap - 1 - j->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		j->len += (size_t)n;
	}
	j->data[j->len] = '\0';
	return 0;
}

/* Read it and hand it back, or free it if nobody waits any more. Called and returns with the lock.
 */
static void job_run(struct guard_job *j)
{
	int r;

	pthread_mutex_unlock(&lock);
	r = read_whole(j);
	pthread_mutex_lock(&lock);
	j->result = r;
	j->done = true;
	if (j->left) {
		stuck--;
		job_free(j);
	} else {
		pthread_cond_signal(&j->cond);
	}
}

static void *reader_main(void *arg)
{
	struct reader *me = arg;

	pthread_mutex_lock(&lock);
	do {
		job_run(me->job);
		me->job = NULL;
		if (idle)
			break;
		idle = me;
		while (!me->job)
			pthread_cond_wait(&me->cond, &lock);
	} while (true);
	pthread_mutex_unlock(&lock);
	pthread_cond_destroy(&me->cond);
	free(me);
	return NULL;
}

static int reader_start(struct guard_job *j)
{
	struct reader *new = calloc(1, sizeof(*new));
	pthread_attr_t attr;
	pthread_t t;
	int r;

	if (!new)
		return -ENOMEM;
	new->job = j;
	pthread_cond_init(&new->cond, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, MAX(STACK_SIZE, (size_t)PTHREAD_STACK_MIN));
	r = -pthread_create(&t, &attr, reader_main, new);
	pthread_attr_destroy(&attr);
	if (r) {
		pthread_cond_destroy(&new->cond);
		free(new);
	}
	return r;
}

/* Give it to the idle reader, or to a new one. With the lock. */
static int job_start(struct guard_job *j)
{
	if (!idle)
		return reader_start(j);
	idle->job = j;
	pthread_cond_signal(&idle->cond);
	idle = NULL;
	return 0;
}

int guard_read(const char *path, size_t max, unsigned int timeout_ms, char **data, size_t *len)
{
	struct guard_job *j;
	uint64_t deadline = now_ns() + timeout_ms * NSEC_PER_MSEC;
	int r = 0;

	if (guard_stuck() >= STUCK_MAX)
		return -EBUSY;
	if (!max || max > SIZE_MAX / 4)
		return -EINVAL;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	cond_init_mono(&j->cond);
	j->max = max;
	if (snprintf(j->path, sizeof(j->path), "%s", path) >= (int)sizeof(j->path)) {
		job_free(j);
		return -ENAMETOOLONG;
	}
	pthread_mutex_lock(&lock);
	r = job_start(j);
	if (r) {
		pthread_mutex_unlock(&lock);
		job_free(j);
		return r;
	}
	while (!j->done && r != -ETIMEDOUT)
		r = cond_wait_until(&j->cond, &lock, deadline);
	if (!j->done) {
		j->left = true;
		stuck++;
		pthread_mutex_unlock(&lock);
		return -ETIMEDOUT;
	}
	pthread_mutex_unlock(&lock);
	r = j->result;
	if (!r) {
		*data = j->data;
		*len = j->len;
		j->data = NULL;
	}
	job_free(j);
	return r;
}

unsigned int guard_stuck(void)
{
	SCOPED_LOCK(&lock);
	return stuck;
}
