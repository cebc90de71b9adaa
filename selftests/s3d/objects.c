// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Buckets and objects, in memory: each bucket is an array sorted by key. One lock for all; bodies
 * are immutable and counted, so that they are sent without it.
 */
#include "s3d.h"

#include <openssl/evp.h>

struct body {
	_Atomic unsigned int refs;
	void *data;
	size_t len;
	time_t mtime;
	char etag[S3D_ETAG_MAX];
};

struct bucket {
	struct bucket *next;
	char *name;
	struct object *objects;
	size_t nr, room;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct bucket *buckets;

static void *check(void *p)
{
	if (!p)
		abort();
	return p;
}

const void *body_data(const struct body *b, size_t *len)
{
	*len = b->len;
	return b->data;
}

const char *body_etag(const struct body *b)
{
	return b->etag;
}

time_t body_mtime(const struct body *b)
{
	return b->mtime;
}

void body_put(struct body *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	free(b->data);
	free(b);
}

static struct body *body_new(void *data, size_t len, time_t mtime)
{
	struct body *b = check(calloc(1, sizeof(*b)));
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int n = 0;

	b->refs = 1;
	b->data = data;
	b->len = len;
	b->mtime = mtime;
	EVP_Digest(data ? data : "", len, md, &n, EVP_md5(), NULL);
	for (unsigned int i = 0; i < n; i++)
		snprintf(b->etag + 2 * i, 3, "%02x", md[i]);
	return b;
}

static struct bucket *find_bucket(const char *name)
{
	for (struct bucket *b = buckets; b; b = b->next)
		if (!strcmp(b->name, name))
			return b;
	return NULL;
}

/* The first object whose key is not below `key`. */
static size_t lower(const struct bucket *b, const char *key)
{
	size_t lo = 0, hi = b->nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(b->objects[mid].key, key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct object *find(struct bucket *b, const char *key)
{
	size_t i = lower(b, key);

	return i < b->nr && !strcmp(b->objects[i].key, key) ? &b->objects[i] : NULL;
}

int bucket_create(const char *name)
{
	struct bucket *b;

	SCOPED_LOCK(&lock);
	if (find_bucket(name))
		return -EEXIST;
	b = check(calloc(1, sizeof(*b)));
	b->name = check(strdup(name));
	b->next = buckets;
	buckets = b;
	return 0;
}

bool bucket_exists(const char *name)
{
	SCOPED_LOCK(&lock);
	return find_bucket(name);
}

struct body *object_get(const char *bucket, const char *key)
{
	struct bucket *b;
	struct object *o;

	SCOPED_LOCK(&lock);
	b = find_bucket(bucket);
	o = b ? find(b, key) : NULL;
	if (!o)
		return NULL;
	atomic_fetch_add(&o->body->refs, 1);
	return o->body;
}

static int allowed(const struct object *o, enum cond_kind cond, const char *etag)
{
	if (cond == COND_ABSENT && o)
		return -EEXIST;
	if (cond == COND_MATCH && !o)
		return -ENOENT;
	if (cond == COND_MATCH && strcmp(o->body->etag, etag) != 0)
		return -ESTALE;
	return 0;
}

static void insert(struct bucket *b, const char *key, struct body *body)
{
	size_t i = lower(b, key);

	if (b->nr == b->room) {
		b->room = b->room ? 2 * b->room : 64;
		b->objects = check(realloc(b->objects, b->room * sizeof(*b->objects)));
	}
	memmove(&b->objects[i + 1], &b->objects[i], (b->nr - i) * sizeof(*b->objects));
	b->objects[i] = (struct object){.key = check(strdup(key)), .body = body};
	b->nr++;
}

int object_put(const char *bucket, const char *key, void *data, size_t len, time_t mtime,
	       enum cond_kind cond, char etag[S3D_ETAG_MAX])
{
	struct body *new = body_new(data, len, mtime), *old = NULL;
	struct bucket *b;
	struct object *o;
	int r;

	pthread_mutex_lock(&lock);
	b = find_bucket(bucket);
	o = b ? find(b, key) : NULL;
	r = b ? allowed(o, cond, etag) : -ENOENT;
	if (!r && o) {
		old = o->body;
		o->body = new;
	} else if (!r) {
		insert(b, key, new);
	}
	if (!r)
		strcpy(etag, new->etag);
	pthread_mutex_unlock(&lock);
	body_put(r ? new : old);
	return r;
}

int object_delete(const char *bucket, const char *key, enum cond_kind cond, const char *etag)
{
	struct body *old = NULL;
	char *old_key = NULL;
	struct bucket *b;
	struct object *o;
	int r = 0;

	pthread_mutex_lock(&lock);
	b = find_bucket(bucket);
	o = b ? find(b, key) : NULL;
	if (o)
		r = allowed(o, cond, etag);
	if (o && !r) {
		old = o->body;
		old_key = o->key;
		b->nr--;
		memmove(o, o + 1, (size_t)(b->objects + b->nr - o) * sizeof(*o));
	}
	pthread_mutex_unlock(&lock);
	body_put(old);
	free(old_key);
	return r;
}

size_t object_list(const char *bucket, const char *prefix, const char *after, size_t max,
		   struct object *out, bool *more)
{
	size_t n = 0, i, plen = strlen(prefix);
	struct bucket *b;

	SCOPED_LOCK(&lock);
	*more = false;
	b = find_bucket(bucket);
	if (!b)
		return 0;
	i = lower(b, strcmp(prefix, after) > 0 ? prefix : after);
	for (; i < b->nr && !*more; i++) {
		const struct object *o = &b->objects[i];

		if (strncmp(o->key, prefix, plen) != 0)
			break;
		if (strcmp(o->key, after) <= 0)
			continue;
		if (n == max) {
			*more = true;
			break;
		}
		atomic_fetch_add(&o->body->refs, 1);
		out[n++] = (struct object){.key = check(strdup(o->key)), .body = o->body};
	}
	return n;
}
