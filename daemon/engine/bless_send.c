// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Objects that are named by their content, on their way to the store; see bless_priv.h. A thread
 * per pack that is being sent, which blocks; s->lock guards the counters and the first error.
 */
#include "engine/bless_priv.h"
#include "engine/wire.h"

#define SENDERS 8

struct send {
	struct pool_job job;
	struct senders *s;
	struct pack_writer *w;
	const void *buf;
	size_t len;
	char key[STORE_KEY_MAX];
};

struct senders {
	struct engine *e;
	uint64_t op_id;
	struct pool *pool;
	pthread_mutex_t lock;
	pthread_cond_t cond; /* one ended */
	unsigned int busy;
	int res; /* first error, and its sentence */
	struct fmt_err err;
	uint64_t packs, packs_there, sent_bytes, there_bytes;
};

/* 0: it is there; -ENOENT, or the store's error. One try: the PUT that follows has its own. */
static int content_head(struct engine *e, const char *key, uint64_t op_id, uint64_t *size)
{
	struct store_call *c = store_call_new(e->store, STORE_HEAD, STORE_PRIO_META, NULL, op_id);
	int res;

	if (!c)
		return -ENOMEM;
	snprintf(c->key, sizeof(c->key), "%s", key);
	c->op.attempt = 1;
	c->op.deadline_ns = object_attempt_deadline(object_deadline(e));
	res = store_call_run(c, NULL);
	if (!res)
		*size = c->op.object_size;
	store_call_put(c);
	return res;
}

int content_put(struct engine *e, const char *key, const void *data, size_t len, bool *there,
		uint64_t op_id, struct fmt_err *err)
{
	uint64_t size = 0;
	int head = content_head(e, key, op_id, &size), res;

	*there = !head && size == len;
	if (*there)
		return 0;
	res = object_put(e, key, data, len, head ? STORE_IF_NONE_MATCH : STORE_ALWAYS, UINT64_MAX,
			 op_id, err);
	return res == -EEXIST ? 0
			      : res; /* just now, by this call or by another that does the same */
}

static void send_run(struct pool_job *job)
{
	struct send *d = container_of(job, struct send, job);
	struct senders *s = d->s;
	struct fmt_err err = {""};
	bool there = false, skip;
	int res;

	pthread_mutex_lock(&s->lock);
	skip = s->res;
	pthread_mutex_unlock(&s->lock);
	res = skip ? -ECANCELED : content_put(s->e, d->key, d->buf, d->len, &there, s->op_id, &err);
	pthread_mutex_lock(&s->lock);
	if (res && !s->res) {
		s->res = res;
		s->err = err;
	}
	if (!res) {
		s->packs++;
		s->packs_there += there;
		*(there ? &s->there_bytes : &s->sent_bytes) += d->len;
	}
	s->busy--;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
	pack_writer_free(d->w);
	free(d);
}

struct senders *senders_new(struct engine *e, uint64_t op_id)
{
	struct senders *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->e = e;
	s->op_id = op_id;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
	s->pool = pool_create("gfs-bless", SENDERS);
	if (!s->pool) {
		senders_free(s);
		return NULL;
	}
	return s;
}

/* Until fewer than `below` are busy. */
static int busy_wait(struct senders *s, unsigned int below, struct fmt_err *err)
{
	SCOPED_LOCK(&s->lock);

	while (s->busy >= below)
		pthread_cond_wait(&s->cond, &s->lock);
	if (s->res)
		*err = s->err;
	return s->res;
}

int senders_send(struct senders *s, struct pack_writer *w, const void *buf, size_t len,
		 const struct manifest_entry *me, struct fmt_err *err)
{
	int res = busy_wait(s, SENDERS, err);
	struct send *d = res ? NULL : calloc(1, sizeof(*d));

	if (!d) {
		pack_writer_free(w);
		return res ? res : fmt_fail(err, -ENOMEM, "out of memory");
	}
	*d = (struct send){.s = s, .w = w, .buf = buf, .len = len};
	d->job.run = send_run;
	pack_key(me->chunk, me->pack_id, d->key, sizeof(d->key));
	pthread_mutex_lock(&s->lock);
	s->busy++;
	pthread_mutex_unlock(&s->lock);
	pool_submit(s->pool, &d->job);
	return 0;
}

int senders_wait(struct senders *s, struct fmt_err *err)
{
	return busy_wait(s, 1, err);
}

void senders_progress(struct senders *s, struct image_progress *p)
{
	SCOPED_LOCK(&s->lock);

	p->packs = s->packs;
	p->packs_there = s->packs_there;
	p->sent_bytes = s->sent_bytes;
	p->there_bytes = s->there_bytes;
}

void senders_free(struct senders *s)
{
	if (!s)
		return;
	pool_destroy(s->pool);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
}
