// SPDX-License-Identifier: GPL-2.0-or-later
/* A fixed pool of threads with one queue; see pool.h. The lock guards the queue and `stop`. */
#include "lib/pool.h"

#include <stdio.h>
#include <sys/prctl.h>

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct list_head jobs;
	bool stop;
	unsigned int threads;
	char name[16];
	pthread_t thread[];
};

static void *pool_thread(void *arg)
{
	struct pool *p = arg;

	prctl(PR_SET_NAME, p->name);
	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct pool_job *job;

		while (list_empty(&p->jobs) && !p->stop)
			pthread_cond_wait(&p->cond, &p->lock);
		if (list_empty(&p->jobs))
			break;
		job = list_first_entry(&p->jobs, struct pool_job, node);
		list_del(&job->node);
		pthread_mutex_unlock(&p->lock);
		job->run(job);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct pool *pool_create(const char *name, unsigned int threads)
{
	struct pool *p = calloc(1, sizeof(*p) + threads * sizeof(p->thread[0]));

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	list_init(&p->jobs);
	snprintf(p->name, sizeof(p->name), "%s", name);
	for (; p->threads < threads; p->threads++) {
		int r = pthread_create(&p->thread[p->threads], NULL, pool_thread, p);

		if (r) {
			pool_destroy(p);
			errno = r;
			return NULL;
		}
	}
	return p;
}

unsigned int pool_threads(const struct pool *p)
{
	return p->threads;
}

void pool_submit(struct pool *p, struct pool_job *job)
{
	pthread_mutex_lock(&p->lock);
	list_add_tail(&job->node, &p->jobs);
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (unsigned int i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
