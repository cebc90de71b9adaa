// SPDX-License-Identifier: GPL-2.0-or-later
/* Several objects at once for the collector; see gc_priv.h. Blocking, no state of its own. */
#include "engine/gc_priv.h"

/* The caller of object_get() takes the bytes. */
static int take(const struct store_op *op, void *arg)
{
	struct gc_get *get = arg;

	free(get->buf);
	get->buf = malloc(op->size_out ? op->size_out : 1);
	if (!get->buf)
		return -ENOMEM;
	memcpy(get->buf, op->buf, op->size_out);
	get->len = op->size_out;
	return 0;
}

/* One that was not had at the first attempt. */
static int get_one(struct gc_run *g, struct gc_get *get)
{
	int r = object_get(g->e, get->key, NULL, object_deadline(g->e), g->op_id, g->cancel, take,
			   get, g->err);

	get->res = r;
	return r == -ENOENT ? 0 : r;
}

int gc_get_all(struct gc_run *g, struct gc_get *get, unsigned int nr)
{
	struct store_call *c[GC_PARALLEL] = {NULL};
	uint64_t deadline_ns = object_deadline(g->e);
	int r = 0;

	for (unsigned int i = 0; i < nr; i++) {
		get[i].res = -EIO;
		get[i].buf = NULL;
		c[i] = store_call_new(g->e->store, STORE_GET, STORE_PRIO_META, NULL, g->op_id);
		if (!c[i])
			continue;
		snprintf(c[i]->key, sizeof(c[i]->key), "%s", get[i].key);
		c[i]->op.attempt = 1;
		c[i]->op.deadline_ns = object_attempt_deadline(deadline_ns);
		store_call_start(c[i]);
	}
	for (unsigned int i = 0; i < nr; i++) {
		int res = c[i] ? store_call_wait(c[i], g->cancel) : -ENOMEM;

		if (!res)
			res = c[i]->op.res;
		if (!res) {
			get[i].buf = c[i]->op.buf;
			get[i].len = c[i]->op.size_out;
			c[i]->op.buf = NULL;
		}
		store_call_put(c[i]);
		get[i].res = res;
		if (res == -ECANCELED)
			r = res;
		if (!r && res && res != -ENOENT)
			r = get_one(g, &get[i]);
	}
	if (r)
		gc_get_free(get, nr);
	return r;
}

void gc_get_free(struct gc_get *get, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		free(get[i].buf);
		get[i].buf = NULL;
	}
}
