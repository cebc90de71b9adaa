// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Manifests and snapshots in memory, and one GET for all who ask for the same; see
 * manifest_cache.h.
 *
 * Who asks for something that is neither kept nor on its way begins a flight: its GET runs from
 * then on. The first one to wait for it drives it (tries again, verifies, parses) and the others
 * wait for that one, so that it needs no thread of its own, and does not matter who of them turns
 * away before. mc->lock guards flights; a flight that succeeded is kept before it leaves their
 * list, so nobody can miss both.
 */
#include "engine/manifest_cache.h"
#include "engine/objects.h"
#include "engine/wire.h"
#include "lib/spans.h"

#define MANIFEST_BYTES_MAX (1 * GiB)
#define MALLOC_BYTES       16 /* what the allocator adds to each piece */

/* What is kept. Immutable. */
struct value {
	int refs;           /* atomic */
	struct manifest *m; /* NULL: it is a snapshot */
	struct snapshot *s;
	char etag[STORE_ETAG_MAX]; /* of a snapshot */
};

struct flight {
	struct list_head node;
	uint8_t id[32]; /* the key it will be kept by */
	unsigned int users;
	bool driven, done;
	uint64_t op_id, deadline_ns;
	struct store_call *call; /* until it is driven */
	int (*use)(const struct store_op *op, void *flight);
	struct manifest_ref ref; /* of a manifest */
	char name[GFS_NAME_MAX]; /* of a snapshot */
	uint64_t seq;

	/* Results. */
	int res;
	struct fmt_err err;
	struct value *v;
};

struct manifest_cache {
	struct s3fifo *kept;
	pthread_mutex_t lock;
	pthread_cond_t cond; /* a flight ended */
	struct list_head flights;
	uint64_t gets, joined;
};

struct manifest_fetch {
	struct engine *e;
	char volume[GFS_NAME_MAX];
	char key[STORE_KEY_MAX];
	struct timing_rec rec;
	uint32_t span;
	struct value *v;  /* it was there at once, or: */
	struct flight *f; /* NULL: refused without asking the store */
};

/* ---- values ---- */

static struct value *value_new(struct manifest *m, struct snapshot *s)
{
	struct value *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->refs = 1;
	v->m = m;
	v->s = s;
	return v;
}

static void value_get(void *value)
{
	struct value *v = value;

	__atomic_add_fetch(&v->refs, 1, __ATOMIC_RELAXED);
}

static void value_put(void *value)
{
	struct value *v = value;

	if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL))
		return;
	manifest_put(v->m);
	free(v->s);
	free(v);
}

uint64_t manifest_cache_weight(uint32_t nr_entries)
{
	return sizeof(struct value) + manifest_alloc_bytes(nr_entries) + 2 * MALLOC_BYTES +
	       s3fifo_entry_bytes();
}

static uint64_t value_weight(const struct value *v)
{
	return v->m ? manifest_cache_weight(v->m->nr_entries)
		    : sizeof(*v) + sizeof(*v->s) + 2 * MALLOC_BYTES + s3fifo_entry_bytes();
}

/*
 * Keys. What a reference says of a manifest may be anything, the hash of a snapshot's name too, so
 * their last byte tells the two kinds apart.
 */
static void manifest_id(const struct manifest_ref *ref, uint8_t id[32])
{
	memcpy(id, ref->sha256, 32);
	id[31] = 'm';
}

static void snapshot_id(const char *name, uint64_t seq, uint8_t id[32])
{
	char key[STORE_KEY_MAX];

	snapshot_key(name, seq, key, sizeof(key));
	hash_sha256(key, strlen(key), id);
	id[31] = 's';
}

/* ---- the cache ---- */

struct manifest_cache *manifest_cache_create(uint64_t budget_bytes)
{
	static const struct s3fifo_ops ops = {.get = value_get, .put = value_put};
	struct manifest_cache *mc = calloc(1, sizeof(*mc));

	if (!mc)
		return NULL;
	/* One shard: few look-ups, and a large manifest may take most of the budget. */
	mc->kept = s3fifo_create(budget_bytes, 1, &ops);
	if (!mc->kept) {
		free(mc);
		return NULL;
	}
	pthread_mutex_init(&mc->lock, NULL);
	pthread_cond_init(&mc->cond, NULL);
	list_init(&mc->flights);
	return mc;
}

void manifest_cache_destroy(struct manifest_cache *mc)
{
	if (!mc)
		return;
	s3fifo_destroy(mc->kept);
	pthread_cond_destroy(&mc->cond);
	pthread_mutex_destroy(&mc->lock);
	free(mc);
}

void manifest_cache_stats_read(struct manifest_cache *mc, struct manifest_cache_stats *out)
{
	s3fifo_stats_read(mc->kept, &out->kept);
	SCOPED_LOCK(&mc->lock);
	out->gets = mc->gets;
	out->joined = mc->joined;
}

void manifest_keep(struct engine *e, const struct manifest_ref *ref, struct manifest *m)
{
	struct s3fifo *kept = e->manifests->kept;
	uint8_t sum[SHA256_LEN], id[32];
	struct value *v;
	size_t len;
	void *buf;

	manifest_id(ref, id);
	v = ref->id[0] ? s3fifo_peek(kept, id) : NULL;
	if (v || !ref->id[0] || manifest_encode(m, &buf, &len)) {
		value_put(v);
		return;
	}
	hash_sha256(buf, len, sum);
	free(buf);
	if (len != ref->bytes || memcmp(sum, ref->sha256, sizeof(sum)))
		return;
	v = value_new(manifest_get(m), NULL);
	if (!v) {
		manifest_put(m);
		return;
	}
	s3fifo_insert(kept, id, v, value_weight(v));
	value_put(v);
}

void snapshot_keep(struct engine *e, const struct snapshot *s, const char etag[STORE_ETAG_MAX])
{
	struct snapshot *copy = malloc(sizeof(*copy));
	struct value *v = copy ? value_new(NULL, copy) : NULL;
	uint8_t id[32];

	if (!v) {
		free(copy);
		return;
	}
	*copy = *s;
	memcpy(v->etag, etag, sizeof(v->etag));
	snapshot_id(s->name, s->seq, id);
	s3fifo_insert(e->manifests->kept, id, v, value_weight(v));
	value_put(v);
}

void snapshot_forget(struct engine *e, const char *name, uint64_t seq)
{
	uint8_t id[32];

	snapshot_id(name, seq, id);
	s3fifo_remove(e->manifests->kept, id);
}

/* ---- flights ---- */

static int manifest_use(const struct store_op *op, void *flight)
{
	struct flight *f = flight;
	struct manifest *m;
	int res = manifest_read(op, &f->ref, &m, &f->err);

	if (res)
		return res;
	f->v = value_new(m, NULL);
	if (!f->v) {
		manifest_put(m);
		return fmt_fail(&f->err, -ENOMEM, "%s: out of memory", op->key);
	}
	return 0;
}

static int snapshot_use(const struct store_op *op, void *flight)
{
	struct flight *f = flight;
	struct snapshot *s = malloc(sizeof(*s));
	int res = s ? snapshot_read(op, f->name, f->seq, s, &f->err)
		    : fmt_fail(&f->err, -ENOMEM, "%s: out of memory", op->key);

	if (!res) {
		f->v = value_new(NULL, s);
		if (!f->v)
			res = fmt_fail(&f->err, -ENOMEM, "%s: out of memory", op->key);
	}
	if (res) {
		free(s);
		return res;
	}
	memcpy(f->v->etag, op->etag, sizeof(f->v->etag));
	return 0;
}

/* Under mc->lock. */
static struct flight *flight_find(struct manifest_cache *mc, const uint8_t id[32])
{
	struct flight *f;

	list_for_each_entry (f, &mc->flights, node)
		if (!memcmp(f->id, id, sizeof(f->id)))
			return f;
	return NULL;
}

/* Under mc->lock. No GET of it runs, but for one that nobody waits for any more. */
static void flight_free(struct flight *f)
{
	store_call_put(f->call);
	value_put(f->v);
	free(f);
}

/*
 * The value if it is kept, else the flight that brings it, with a use for the caller: `fresh` is
 * its first if it has to begin, and is freed if not. All NULL: no memory.
 */
static struct flight *flight_join(struct engine *e, struct flight *fresh, const char *key,
				  const char *volume, struct value **v)
{
	struct manifest_cache *mc = e->manifests;
	struct flight *f;
	SCOPED_LOCK(&mc->lock);

	*v = s3fifo_lookup(mc->kept, fresh->id);
	f = *v ? NULL : flight_find(mc, fresh->id);
	if (*v || f) {
		free(fresh);
		if (f) {
			f->users++;
			mc->joined++;
		}
		return f;
	}
	fresh->deadline_ns = object_deadline(e);
	fresh->call =
		object_read_start(e, STORE_GET, key, volume, fresh->deadline_ns, fresh->op_id);
	if (!fresh->call) {
		free(fresh);
		return NULL;
	}
	fresh->users = 1;
	list_add_tail(&fresh->node, &mc->flights);
	mc->gets++;
	return fresh;
}

/* Until it has landed; its results do not change any more. */
static void flight_wait(struct manifest_cache *mc, struct flight *f)
{
	SCOPED_LOCK(&mc->lock);

	while (!f->done) {
		struct store_call *c = f->call;

		if (f->driven) {
			pthread_cond_wait(&mc->cond, &mc->lock);
			continue;
		}
		f->driven = true;
		f->call = NULL;
		pthread_mutex_unlock(&mc->lock);
		f->res = object_read_finish(c, f->deadline_ns, NULL, f->use, f, &f->err);
		pthread_mutex_lock(&mc->lock);
		if (!f->res)
			s3fifo_insert(mc->kept, f->id, f->v, value_weight(f->v));
		list_del(&f->node);
		f->done = true;
		pthread_cond_broadcast(&mc->cond);
	}
}

static void flight_leave(struct manifest_cache *mc, struct flight *f)
{
	SCOPED_LOCK(&mc->lock);

	if (--f->users)
		return;
	if (!f->done)
		list_del(&f->node);
	flight_free(f);
}

/* ---- asking ---- */

struct manifest_fetch *manifest_fetch_start(struct engine *e, const struct manifest_ref *ref,
					    const char *volume, uint64_t op_id)
{
	struct manifest_fetch *mf = calloc(1, sizeof(*mf));
	struct flight *f = calloc(1, sizeof(*f));

	if (!mf || !f)
		goto err;
	mf->e = e;
	snprintf(mf->volume, sizeof(mf->volume), "%s", volume);
	manifest_key(ref->uuid, ref->id, mf->key, sizeof(mf->key));
	mf->rec = (struct timing_rec){.event = TIMING_MANIFEST_FETCH,
				      .op_id = op_id,
				      .start_ns = now_ns(),
				      .export_ = mf->volume,
				      .dev_id = -1,
				      .key = mf->key,
				      .bytes = ref->bytes};
	manifest_id(ref, f->id);
	f->op_id = op_id;
	f->use = manifest_use;
	f->ref = *ref;
	if (ref->bytes > MANIFEST_BYTES_MAX) {
		free(f);
		return mf;
	}
	mf->f = f = flight_join(e, f, mf->key, mf->volume, &mf->v);
	if (!mf->v && !f)
		goto err;
	if (f) {
		mf->span = span_open(&mf->rec);
		if (f->op_id != op_id)
			span_link(mf->span, f->op_id);
	}
	return mf;
err:
	free(f);
	free(mf);
	return NULL;
}

void manifest_fetch_cancel(struct manifest_fetch *mf)
{
	if (!mf)
		return;
	span_close(mf->span);
	if (mf->f)
		flight_leave(mf->e->manifests, mf->f);
	value_put(mf->v);
	free(mf);
}

static void say_hit(const struct timing_rec *asked)
{
	struct timing_rec rec = *asked;

	rec.event = TIMING_CACHE_HIT;
	timing_emit(&rec);
}

int manifest_fetch_finish(struct manifest_fetch *mf, struct manifest **out, struct fmt_err *err)
{
	const struct value *v = mf->v;
	int res = 0;

	*out = NULL;
	if (mf->f) {
		flight_wait(mf->e->manifests, mf->f);
		v = mf->f->v;
		res = mf->f->res;
		*err = mf->f->err;
	} else if (v) {
		mf->rec.end_ns = mf->rec.start_ns;
		say_hit(&mf->rec);
	} else {
		res = fmt_fail(err, -EFBIG, "%s: %llu bytes are too many for a manifest", mf->key,
			       (unsigned long long)mf->rec.bytes);
	}
	if (!res)
		*out = manifest_get(v->m);
	mf->rec.result = res;
	timing_emit(&mf->rec);
	manifest_fetch_cancel(mf);
	return res;
}

int snapshot_find(struct engine *e, const char *name, uint64_t seq, const char *volume,
		  uint64_t op_id, struct snapshot *out, char etag[STORE_ETAG_MAX],
		  struct fmt_err *err)
{
	struct timing_rec rec = {.op_id = op_id, .export_ = volume, .dev_id = -1};
	struct flight *f = calloc(1, sizeof(*f));
	const struct value *v;
	struct value *kept;
	char key[STORE_KEY_MAX];
	int res = 0;

	snapshot_key(name, seq, key, sizeof(key));
	rec.key = key;
	rec.start_ns = rec.end_ns = now_ns();
	if (!f)
		return fmt_fail(err, -ENOMEM, "%s: out of memory", key);
	snapshot_id(name, seq, f->id);
	f->op_id = op_id;
	f->use = snapshot_use;
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->seq = seq;
	f = flight_join(e, f, key, volume, &kept);
	if (!f && !kept)
		return fmt_fail(err, -ENOMEM, "%s: out of memory", key);
	v = kept;
	if (f) {
		flight_wait(e->manifests, f);
		v = f->v;
		res = f->res;
		*err = f->err;
	} else {
		say_hit(&rec);
	}
	if (!res) {
		*out = *v->s;
		memcpy(etag, v->etag, STORE_ETAG_MAX);
	}
	if (f)
		flight_leave(e->manifests, f);
	value_put(kept);
	return res;
}
