// SPDX-License-Identifier: GPL-2.0-or-later
/* See objects.h. */
#include "engine/objects.h"
#include "engine/wire.h"

#define ATTEMPT_NS (10 * NSEC_PER_SEC)
#define LIST_PAGE  256

uint64_t object_attempt_deadline(uint64_t deadline_ns)
{
	return MIN(deadline_ns, now_ns() + ATTEMPT_NS);
}

uint64_t object_deadline(struct engine *e)
{
	return now_ns() + e->cfg.store_timeout_ns;
}

/* Errors that another attempt within the deadline may cure, for reads. */
static bool get_again(int res)
{
	return res != -ENOENT && res != -EINVAL && res != -ENOMEM && res != -ECANCELED &&
	       res != -EPROTONOSUPPORT && res != -ELOOP;
}

struct store_call *object_read_start(struct engine *e, enum store_op_type type, const char *key,
				     const char *volume, uint64_t deadline_ns, uint64_t op_id)
{
	struct store_call *c = store_call_new(e->store, type, STORE_PRIO_META, volume, op_id);

	if (!c)
		return NULL;
	snprintf(c->key, sizeof(c->key), "%s", key);
	c->op.attempt = 1;
	c->op.deadline_ns = object_attempt_deadline(deadline_ns);
	store_call_start(c);
	return c;
}

int object_read_finish(struct store_call *c, uint64_t deadline_ns, const bool *cancel,
		       int (*use)(const struct store_op *op, void *arg), void *arg,
		       struct fmt_err *err)
{
	const char *verb = c->op.type == STORE_HEAD ? "HEAD" : "GET";
	unsigned int bad = 0;
	int res, r;

	for (unsigned int attempt = 1;; attempt++) {
		if (attempt > 1) {
			c->op.attempt = attempt;
			c->op.deadline_ns = object_attempt_deadline(deadline_ns);
			store_call_start(c);
		}
		res = store_call_wait(c, cancel);
		if (res)
			break;
		res = c->op.res;
		if (res) {
			fmt_fail(err, res, "%s %s: %s (attempt %u)", verb, c->key, strerror(-res),
				 attempt);
		} else {
			res = use(&c->op, arg);
			if (!res || ++bad > 1)
				break;
		}
		if (!get_again(res))
			break;
		r = store_backoff(attempt, deadline_ns, cancel);
		if (r) {
			res = r == -ECANCELED ? r : res;
			break;
		}
	}
	store_call_put(c);
	return res;
}

int object_get(struct engine *e, const char *key, const char *volume, uint64_t deadline_ns,
	       uint64_t op_id, const bool *cancel, int (*use)(const struct store_op *op, void *arg),
	       void *arg, struct fmt_err *err)
{
	struct store_call *c = object_read_start(e, STORE_GET, key, volume, deadline_ns, op_id);

	if (!c)
		return fmt_fail(err, -ENOMEM, "%s: out of memory", key);
	return object_read_finish(c, deadline_ns, cancel, use, arg, err);
}

int manifest_read(const struct store_op *op, const struct manifest_ref *ref, struct manifest **out,
		  struct fmt_err *err)
{
	uint8_t sum[SHA256_LEN];

	*out = NULL;
	if (op->size_out != ref->bytes)
		return fmt_fail(err, op->size_out < ref->bytes ? -ENODATA : -EBADMSG,
				"%s: %llu bytes, what names it says %llu", op->key,
				(unsigned long long)op->size_out, (unsigned long long)ref->bytes);
	hash_sha256(op->buf, op->size_out, sum);
	if (memcmp(sum, ref->sha256, sizeof(sum)))
		return fmt_fail(err, -EBADMSG, "%s: its hash differs from the one in what names it",
				op->key);
	return manifest_parse(op->buf, op->size_out, out, err);
}

/* Errors that no other attempt will cure, if nothing is in doubt. */
static bool put_refused(int res)
{
	return res == -EACCES || res == -EPERM || res == -EROFS || res == -EINVAL || res == -ENOMEM;
}

int object_put(struct engine *e, const struct object_write *w, uint64_t op_id, struct fmt_err *err)
{
	struct store_call *c = store_call_new(e->store, STORE_PUT, w->prio, w->volume, op_id);
	/* As for packs of an upload: they may be large, and the uplink slow. */
	bool large = w->prio == STORE_PRIO_UPLOAD, ambiguous = false;
	uint64_t deadline_ns = w->deadline_ns;
	int res;

	if (!c)
		return fmt_fail(err, -ENOMEM, "PUT %s: out of memory", w->key);
	if (!deadline_ns)
		deadline_ns = now_ns() + (large ? 4 : 1) * e->cfg.store_timeout_ns;
	snprintf(c->key, sizeof(c->key), "%s", w->key);
	store_call_body(c, w->data, w->len, NULL, NULL);
	c->op.cond = w->cond;
	for (unsigned int attempt = 1;; attempt++) {
		c->op.attempt = attempt;
		c->op.deadline_ns = large ? MIN(deadline_ns, now_ns() + 2 * e->cfg.store_timeout_ns)
					  : object_attempt_deadline(deadline_ns);
		res = store_call_run(c, NULL);
		if (!res || res == -EEXIST)
			break;
		ambiguous |= c->op.ambiguous;
		fmt_fail(err, res, "PUT %s (%zu bytes): %s, after %u attempts%s", w->key, w->len,
			 strerror(-res), attempt, ambiguous ? " (it may still land)" : "");
		if ((!ambiguous && put_refused(res)) || store_backoff(attempt, deadline_ns, NULL))
			break;
	}
	store_call_put(c);
	if (!res || res == -EEXIST)
		return res;
	if (ambiguous)
		return -ETIMEDOUT;
	return res == -ETIMEDOUT ? -EIO : res; /* -ETIMEDOUT means "not definite" here */
}

int object_delete(struct engine *e, const char *key, const char *etag, const char *volume,
		  uint64_t deadline_ns, uint64_t op_id, struct fmt_err *err)
{
	struct store_call *c =
		store_call_new(e->store, STORE_DELETE, STORE_PRIO_META, volume, op_id);
	int res;

	if (!c)
		return fmt_fail(err, -ENOMEM, "DELETE %s: out of memory", key);
	snprintf(c->key, sizeof(c->key), "%s", key);
	c->op.cond = etag ? STORE_IF_MATCH : STORE_ALWAYS;
	for (unsigned int attempt = 1;; attempt++) {
		c->op.attempt = attempt;
		c->op.deadline_ns = object_attempt_deadline(deadline_ns);
		if (etag)
			memcpy(c->op.etag, etag, sizeof(c->op.etag));
		res = store_call_run(c, NULL);
		if (!res)
			break;
		fmt_fail(err, res, "DELETE %s: %s (attempt %u)", key, strerror(-res), attempt);
		if (!c->op.ambiguous || store_backoff(attempt, deadline_ns, NULL))
			break;
	}
	store_call_put(c);
	return res;
}

int object_scan(struct engine *e, const char *prefix,
		int (*fn)(const struct store_list_entry *entry, void *arg), void *arg,
		struct fmt_err *err)
{
	struct store_list_entry *page = calloc(LIST_PAGE, sizeof(*page));
	struct store_call *c = store_call_new(e->store, STORE_LIST, STORE_PRIO_META, NULL, 0);
	uint64_t deadline_ns = object_deadline(e);
	unsigned int attempt = 1;
	int res = page && c ? 0 : -ENOMEM;

	if (!res) {
		snprintf(c->key, sizeof(c->key), "%s", prefix);
		c->op.entries = page;
		c->op.max_entries = LIST_PAGE;
	}
	while (!res) {
		c->op.attempt = attempt;
		c->op.deadline_ns = object_attempt_deadline(deadline_ns);
		res = store_call_run(c, NULL);
		if (res) {
			fmt_fail(err, res, "LIST %s: %s", prefix, strerror(-res));
			if (get_again(res) && !store_backoff(attempt++, deadline_ns, NULL))
				res = 0;
			continue;
		}
		for (unsigned int i = 0; !res && i < c->op.nr_entries; i++)
			res = fn(&page[i], arg);
		if (res || !c->op.truncated || !c->op.nr_entries)
			break;
		snprintf(c->op.start_after, sizeof(c->op.start_after), "%s",
			 page[c->op.nr_entries - 1].key);
		deadline_ns = object_deadline(e);
		attempt = 1;
	}
	if (res == -ENOMEM)
		fmt_fail(err, res, "LIST %s: out of memory", prefix);
	store_call_put(c);
	free(page);
	return res;
}

struct list_fn {
	int (*fn)(const char *key, void *arg);
	void *arg;
};

static int list_key(const struct store_list_entry *entry, void *arg)
{
	struct list_fn *l = arg;

	return l->fn(entry->key, l->arg);
}

int object_list(struct engine *e, const char *prefix, int (*fn)(const char *key, void *arg),
		void *arg, struct fmt_err *err)
{
	struct list_fn l = {.fn = fn, .arg = arg};

	return object_scan(e, prefix, list_key, &l, err);
}
