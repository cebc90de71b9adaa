// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fault store: decides at submit what goes wrong with an operation (fault_rules.c), then
 * carries it out. One thread does everything that happens at a time: delays, errors, hangs, late
 * performances.
 *
 * Each operation has a fault_op, which is on the list of things to come or is being performed by
 * the inner store. The lock guards the rules, the list and the count of fault_ops. The inner store
 * gets copies of operations, so that the caller's can be answered while the inner one still runs;
 * only a late performance, which outlives its caller's buffers, copies those too.
 */
#include "store/fault_priv.h"
#include "lib/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

enum fault_next {
	NEXT_PERFORM, /* give it to the inner store */
	NEXT_ANSWER,  /* complete the caller's with f->res, f->ambiguous */
	NEXT_LATE,    /* as NEXT_ANSWER, then perform a copy later */
	NEXT_HANG,    /* as NEXT_ANSWER, but may be asked to come early */
};

struct fault_op {
	struct list_head node; /* of fault_store.timed, when it is there */
	struct store_op *outer;
	struct store_op inner;
	struct fault_store *fs;
	struct fault_verdict verdict;
	enum fault_next next;
	uint64_t at_ns;
	int res;
	bool ambiguous;
	/* A late performance owns these. */
	char key[STORE_KEY_MAX];
	struct iovec iov;
};

struct fault_store {
	struct store s;
	struct store *inner;
	pthread_mutex_t lock;
	pthread_cond_t wake; /* the list changed, or an operation ended while closing */
	struct fault_rules *rules;
	struct list_head timed;
	struct list_head no_memory; /* store_ops whose fault_op could not be had */
	uint64_t nr_ops;
	bool stop;
	pthread_t thread;
	bool thread_running;
};

static void fault_op_free(struct fault_op *f)
{
	struct fault_store *fs = f->fs;

	free(f->iov.iov_base);
	free(f);
	pthread_mutex_lock(&fs->lock);
	if (!--fs->nr_ops)
		pthread_cond_broadcast(&fs->wake);
	pthread_mutex_unlock(&fs->lock);
}

static void answer(struct fault_op *f, int res, bool ambiguous)
{
	f->outer->ambiguous = ambiguous && store_op_mutates(f->outer);
	store_complete(f->outer, res);
}

/* What the inner store found out becomes the caller's. */
static void results_copy(struct store_op *to, const struct store_op *from)
{
	to->buf = from->buf;
	memcpy(to->etag, from->etag, sizeof(to->etag));
	to->nr_entries = from->nr_entries;
	to->truncated = from->truncated;
	to->size_out = from->size_out;
	to->object_size = from->object_size;
	to->mtime_s = from->mtime_s;
}

static void spoil_body(struct fault_op *f, struct store_op *op, int *res)
{
	uint64_t n = op->size_out;
	uint8_t *body = op->buf;

	if (*res || !n)
		return;
	if (f->verdict.action == FAULT_CORRUPT) {
		body[f->verdict.random % n] ^= (uint8_t)(1 + (f->verdict.random >> 40) % 255);
		return;
	}
	op->size_out = f->verdict.random % n;
	memset(body + op->size_out, 0, n - op->size_out);
	if (!f->outer->buf) {
		free(body);
		op->buf = NULL;
	}
	*res = -ENODATA;
}

static void inner_done(struct store_op *op)
{
	struct fault_op *f = container_of(op, struct fault_op, inner);
	bool ambiguous = op->ambiguous;
	int res = op->res;

	switch (f->verdict.action) {
	case FAULT_AMBIGUOUS_LATE:
		fault_op_free(f); /* its caller was answered before */
		return;
	case FAULT_AMBIGUOUS_AFTER:
		res = -ETIMEDOUT;
		ambiguous = true;
		break;
	case FAULT_TRUNCATE:
	case FAULT_CORRUPT:
		spoil_body(f, op, &res);
		break;
	default:
		break;
	}
	if (f->verdict.action != FAULT_AMBIGUOUS_AFTER)
		results_copy(f->outer, op);
	answer(f, res, ambiguous);
	fault_op_free(f);
}

/* A copy of what the caller may take back once answered. */
static int late_own(struct fault_op *f)
{
	uint64_t n = store_body_bytes(f->outer);
	char *p = malloc(n ? n : 1);

	if (!p)
		return -ENOMEM;
	f->iov = (struct iovec){p, n};
	for (int i = 0; i < f->outer->iovcnt; i++) {
		memcpy(p, f->outer->iov[i].iov_base, f->outer->iov[i].iov_len);
		p += f->outer->iov[i].iov_len;
	}
	snprintf(f->key, sizeof(f->key), "%s", f->outer->key);
	f->inner.key = f->key;
	f->inner.iov = &f->iov;
	f->inner.iovcnt = 1;
	f->inner.volume = NULL;
	f->inner.deadline_ns = UINT64_MAX;
	return 0;
}

/* Keeps the list sorted by time, first come first among equals, so that a seed means one order. */
static void timed_add(struct fault_store *fs, struct fault_op *f)
{
	struct fault_op *pos;

	list_for_each_entry (pos, &fs->timed, node)
		if (pos->at_ns > f->at_ns)
			break;
	list_add_tail(&f->node, &pos->node);
	pthread_cond_broadcast(&fs->wake);
}

/* f's time has come; it is off the list and the lock is not held. */
static void advance(struct fault_store *fs, struct fault_op *f)
{
	switch (f->next) {
	case NEXT_PERFORM:
		fs->inner->ops->submit(fs->inner, &f->inner);
		break;
	case NEXT_LATE:
		answer(f, f->res, f->ambiguous);
		f->outer = NULL;
		f->next = NEXT_PERFORM;
		pthread_mutex_lock(&fs->lock);
		f->at_ns = now_ns() + f->verdict.late_ns;
		timed_add(fs, f);
		pthread_mutex_unlock(&fs->lock);
		break;
	case NEXT_ANSWER:
	case NEXT_HANG:
		answer(f, f->res, f->ambiguous);
		fault_op_free(f);
		break;
	}
}

static void *fault_thread(void *arg)
{
	struct fault_store *fs = arg;

	prctl(PR_SET_NAME, "gfs-fault");
	pthread_mutex_lock(&fs->lock);
	/* When closing, everything is due at once; what the inner store still performs is waited
	 * for. */
	while (!fs->stop || fs->nr_ops) {
		struct fault_op *f;

		if (!list_empty(&fs->no_memory)) {
			struct store_op *op =
				list_first_entry(&fs->no_memory, struct store_op, node);

			list_del(&op->node);
			pthread_mutex_unlock(&fs->lock);
			store_complete(op, -ENOMEM);
			pthread_mutex_lock(&fs->lock);
			fs->nr_ops--;
			continue;
		}
		if (list_empty(&fs->timed)) {
			pthread_cond_wait(&fs->wake, &fs->lock);
			continue;
		}
		f = list_first_entry(&fs->timed, struct fault_op, node);
		if (!fs->stop && f->at_ns > now_ns()) {
			cond_wait_until(&fs->wake, &fs->lock, f->at_ns);
			continue;
		}
		list_del(&f->node);
		pthread_mutex_unlock(&fs->lock);
		advance(fs, f);
		pthread_mutex_lock(&fs->lock);
	}
	pthread_mutex_unlock(&fs->lock);
	return NULL;
}

/* Turn the verdict into what happens next. */
static void plan(struct fault_op *f)
{
	const struct fault_verdict *v = &f->verdict;

	f->next = NEXT_PERFORM;
	switch (v->action) {
	case FAULT_NONE:
	case FAULT_DELAY:
	case FAULT_TRUNCATE:
	case FAULT_CORRUPT:
	case FAULT_AMBIGUOUS_AFTER:
		break;
	case FAULT_ERROR:
		f->next = NEXT_ANSWER;
		f->res = -v->error;
		break;
	case FAULT_AMBIGUOUS_BEFORE:
	case FAULT_HANG:
		f->next = v->action == FAULT_HANG ? NEXT_HANG : NEXT_ANSWER;
		f->res = -ETIMEDOUT;
		f->ambiguous = true;
		break;
	case FAULT_AMBIGUOUS_LATE:
		f->next = NEXT_LATE;
		f->res = -ETIMEDOUT;
		f->ambiguous = true;
		if (late_own(f)) {
			f->next = NEXT_ANSWER;
			f->res = -ENOMEM;
			f->ambiguous = false;
		}
		break;
	}
}

static void fault_submit(struct store *s, struct store_op *op)
{
	struct fault_store *fs = container_of(s, struct fault_store, s);
	uint64_t start_ns = op->start_ns ? op->start_ns : now_ns(),
		 deadline = store_op_deadline(op);
	struct fault_op *f = calloc(1, sizeof(*f));

	pthread_mutex_lock(&fs->lock);
	fs->nr_ops++;
	if (!f) {
		list_add_tail(&op->node, &fs->no_memory);
		pthread_cond_broadcast(&fs->wake);
		pthread_mutex_unlock(&fs->lock);
		return;
	}
	f->verdict = fault_rules_judge(fs->rules, op);
	pthread_mutex_unlock(&fs->lock);

	f->fs = fs;
	f->outer = op;
	f->inner = *op;
	f->inner.done = inner_done;
	f->inner.start_ns = 0; /* the caller's operation has the timing event */
	f->inner.deadline_ns = deadline;
	plan(f);
	f->at_ns = start_ns + f->verdict.delay_ns;
	if (f->next == NEXT_HANG)
		f->at_ns = deadline;
	if (f->at_ns > deadline || (f->at_ns == deadline && f->verdict.delay_ns)) {
		/* The delay outlasts the caller, who cannot know that nothing was done. */
		f->next = NEXT_ANSWER;
		f->res = -ETIMEDOUT;
		f->ambiguous = true;
		f->at_ns = deadline;
	}
	if (f->next == NEXT_PERFORM && !f->verdict.delay_ns) {
		fs->inner->ops->submit(fs->inner, &f->inner);
		return;
	}
	pthread_mutex_lock(&fs->lock);
	timed_add(fs, f);
	pthread_mutex_unlock(&fs->lock);
}

static void fault_close(struct store *s)
{
	struct fault_store *fs = container_of(s, struct fault_store, s);

	if (fs->thread_running) {
		pthread_mutex_lock(&fs->lock);
		fs->stop = true;
		pthread_cond_broadcast(&fs->wake);
		pthread_mutex_unlock(&fs->lock);
		pthread_join(fs->thread, NULL);
	}
	store_close(fs->inner);
	fault_rules_free(fs->rules);
	pthread_cond_destroy(&fs->wake);
	pthread_mutex_destroy(&fs->lock);
	free((char *)fs->s.url);
	free(fs);
}

static const struct store_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.close = fault_close,
};

int store_fault_wrap(struct store *inner, const char *rules, struct store **out, char *err,
		     size_t err_len)
{
	struct fault_store *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs) {
		snprintf(err, err_len, "fault store: out of memory");
		return -ENOMEM;
	}
	fs->s.ops = &fault_ops;
	pthread_mutex_init(&fs->lock, NULL);
	cond_init_mono(&fs->wake);
	list_init(&fs->timed);
	list_init(&fs->no_memory);
	r = fault_rules_parse(rules, &fs->rules, err, err_len);
	if (!r && !(fs->s.url = strdup(inner->url)))
		r = -ENOMEM;
	if (!r)
		r = -pthread_create(&fs->thread, NULL, fault_thread, fs);
	if (r) {
		if (r != -EINVAL)
			snprintf(err, err_len, "fault store: %s", strerror(-r));
		fault_close(&fs->s);
		return r;
	}
	fs->thread_running = true;
	fs->inner = inner;
	fs->s.below = inner;
	log_warn("store %s: FAULTS ARE INJECTED: %s", inner->url, rules);
	*out = &fs->s;
	return 0;
}

int store_fault_set(struct store *s, const char *rules, char *err, size_t err_len)
{
	struct fault_store *fs = container_of(s, struct fault_store, s);
	struct fault_rules *new, *old;
	int r = store_is_fault(s) ? fault_rules_parse(rules, &new, err, err_len) : -EINVAL;

	if (!store_is_fault(s))
		snprintf(err, err_len, "store %.200s injects no faults", s->url);
	if (r)
		return r;
	pthread_mutex_lock(&fs->lock);
	old = fs->rules;
	fs->rules = new;
	pthread_mutex_unlock(&fs->lock);
	fault_rules_free(old);
	log_warn("store %s: injected faults are now: %s", s->url, *rules ? rules : "none");
	return 0;
}

bool store_is_fault(const struct store *s)
{
	return s->ops == &fault_ops;
}

void store_fault_release(struct store *s)
{
	struct fault_store *fs = container_of(s, struct fault_store, s);
	struct fault_op *f, *n;
	struct list_head due;

	if (!store_is_fault(s))
		return;
	list_init(&due);
	pthread_mutex_lock(&fs->lock);
	list_for_each_entry_safe (f, n, &fs->timed, node) {
		if (f->next != NEXT_HANG)
			continue;
		list_del(&f->node);
		list_add_tail(&f->node, &due);
	}
	while (!list_empty(&due)) {
		f = list_first_entry(&due, struct fault_op, node);
		list_del(&f->node);
		f->at_ns = 0;
		timed_add(fs, f);
	}
	pthread_mutex_unlock(&fs->lock);
}
