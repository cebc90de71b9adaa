// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registry: a fork is whole or absent, whatever fails, whenever it is killed, and whatever
 * happens to its source meanwhile; and many forks of one source ask the store for it once.
 *
 * The sources are made up: their manifests name packs that do not exist, so that a fork has either
 * its source's manifest or reads zeros, which is what "whole" looks for.
 */
#include "host_box.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#include "engine/volume_priv.h"
#include "engine/wire.h"

#define ENTRIES 40

static int fork_sized(struct box *b, const char *name, const char *from, uint64_t size,
		      bool *created, struct op_err *err)
{
	const struct volume_def def = {.name = name, .size_bytes = size};

	memset(err, 0, sizeof(*err));
	return host_fork_volume(b->host, &def, from, timing_op_id(), created, err);
}

static int fork_of(struct box *b, const char *name, const char *from, bool *created,
		   struct op_err *err)
{
	return fork_sized(b, name, from, 0, created, err);
}

static void put(struct store *store, const char *key, void *data, size_t len)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};
	struct store_op op = {.type = STORE_PUT, .key = key, .iov = &iov, .iovcnt = 1};

	assert_int_equal(store_run(store, &op), 0);
	free(data);
}

/* snapshots/NAME/SEQ and its manifest; another `seed` is another content. */
static void source_put_of(struct store *store, const char *name, uint64_t seq, uint8_t seed,
			  uint32_t entries)
{
	struct snapshot s = {.seq = seq,
			     .size_bytes = entries * CHUNK_BYTES,
			     .block_bytes = BLOCK_BYTES,
			     .generation = 1,
			     .sequence = 1};
	struct manifest *m = manifest_alloc(entries);
	char key[STORE_KEY_MAX], *json;
	size_t len;
	void *buf;

	assert_non_null(m);
	snprintf(s.name, sizeof(s.name), "%s", name);
	memset(s.uuid, seed, sizeof(s.uuid));
	memset(s.nonce, seed, sizeof(s.nonce));
	memcpy(m->uuid, s.uuid, sizeof(m->uuid));
	m->size_bytes = s.size_bytes;
	m->block_bytes = s.block_bytes;
	m->sequence = 1;
	for (uint32_t i = 0; i < entries; i++) {
		m->entries[i].chunk = i;
		m->entries[i].nblocks = 1;
		m->entries[i].index_len = (uint32_t)pack_index_bytes(1);
		memset(m->entries[i].pack_id, seed, PACK_ID_LEN);
	}
	assert_int_equal(manifest_encode(m, &buf, &len), 0);
	manifest_put(m);
	snprintf(s.manifest.id, sizeof(s.manifest.id), "%020d.%016x", 1, seed);
	memcpy(s.manifest.uuid, s.uuid, sizeof(s.manifest.uuid));
	s.manifest.bytes = len;
	hash_sha256(buf, len, s.manifest.sha256);
	manifest_key(s.uuid, s.manifest.id, key, sizeof(key));
	put(store, key, buf, len);
	assert_int_equal(snapshot_encode(&s, &json, &len), 0);
	snapshot_key(name, seq, key, sizeof(key));
	put(store, key, json, len);
}

static void source_put(struct store *store, const char *name, uint64_t seq, uint8_t seed)
{
	source_put_of(store, name, seq, seed, ENTRIES);
}

/* It is attached, with a device that has the source's manifest. */
static void assert_whole(struct box *b, const char *name)
{
	struct host_volume_info v;
	struct view *vw;

	assert_int_equal(show(b, name, &v), OP_FAULT_NONE);
	assert_int_equal(v.state, HOST_ATTACHED);
	assert_true(v.dev_id >= 0);
	vw = volume_view_get(model.d[v.dev_id].dev.v);
	if (!vw->manifest || vw->manifest->nr_entries != ENTRIES)
		fail_msg("%s has no manifest: it would read as zeros", name);
	view_put(vw);
}

/* Events of this kind so far, of all tests. */
static uint64_t events(enum timing_event e)
{
	struct timing_hist_snapshot s;

	timing_hist_read(e, &s);
	return s.count;
}

static unsigned int snapshots_of(struct box *b, const char *name)
{
	struct snapshot_entry *e;
	struct op_err err;
	size_t nr;

	assert_int_equal(host_snapshot_list(b->host, name, timing_op_id(), &e, &nr, &err), 0);
	free(e);
	return (unsigned int)nr;
}

/* Whatever fails, neither the fork nor the snapshot for it is there, and a retry makes both. */
static void failed_fork_is_undone_and_a_retry_creates(void **state)
{
	static const struct {
		const char *rules;
		int fail_add;
		enum op_fault want;
	} t[] = {
		{"get:exports/* error=EIO", 0, OP_FAULT_STORE},
		{"put:snapshots/* error=EIO", 0, OP_FAULT_STORE},
		{"put:snapshots/* hang", 0, OP_FAULT_STORE},
		{"put:exports/* error=EIO", 0, OP_FAULT_STORE},
		{"put:exports/* hang", 0, OP_FAULT_STORE},
		{"put:exports/* ambiguous=before", 0, OP_FAULT_STORE},
		{"", EIO, OP_FAULT_DEVICE},
	};
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	b.create_timeout_ns = b.store_timeout_ns = 1 * NSEC_PER_SEC;
	box_start(&b);
	must_create(&b, "base");
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++) {
		char name[32];
		int r;

		snprintf(name, sizeof(name), "fork-%u", i);
		faults(&b, t[i].rules);
		model.fail_add = t[i].fail_add;
		r = fork_of(&b, name, "volume:base", &created, &err);
		model.fail_add = 0;
		if (!r || created || err.fault != t[i].want)
			fail_msg("%s: %d, fault %d: %s", t[i].rules, r, err.fault, err.msg);
		faults(&b, "");
		assert_absent(&b, name);
		assert_int_equal(model_count(), 1 + i);
		assert_int_equal(local_volumes(&b), 1 + i);
		assert_int_equal(snapshots_of(&b, "base"), i);
		if (fork_of(&b, name, "volume:base", &created, &err))
			fail_msg("%s: again: %s", t[i].rules, err.msg);
		assert_true(created);
		assert_state(&b, name, HOST_ATTACHED);
		assert_int_equal(snapshots_of(&b, "base"), i + 1);
	}
	box_stop(&b);
}

/* A snapshot whose manifest is gone: the fork is refused and leaves nothing, not even its root. */
static void a_fork_of_a_broken_snapshot_is_undone(void **state)
{
	struct snapshot s = {.name = "base",
			     .seq = 77,
			     .size_bytes = 64 * MiB,
			     .block_bytes = BLOCK_BYTES,
			     .generation = 1,
			     .manifest.id = "00000000000000000001.0123456789abcdef",
			     .manifest.bytes = 80};
	char path[256], *json;
	struct op_err err;
	struct box b;
	bool created;
	size_t len;
	FILE *f;

	memset(s.uuid, 7, sizeof(s.uuid));
	box_init(&b, "a");
	box_start(&b);
	snprintf(path, sizeof(path), "%s/store/snapshots/base", b.dir);
	assert_int_equal(mkdir_all(path), 0);
	snprintf(path, sizeof(path), "%s/store/snapshots/base/%020d", b.dir, 77);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(snapshot_encode(&s, &json, &len), 0);
	assert_int_equal(fwrite(json, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	free(json);
	assert_int_equal(fork_of(&b, "fork", "snapshot:base@77", &created, &err), -EBADMSG);
	assert_int_equal(err.fault, OP_FAULT_LOCAL);
	assert_absent(&b, "fork");
	assert_false(root_in_store(&b, "fork"));
	assert_int_equal(local_volumes(&b), 0);
	assert_int_equal(model_count(), 0);
	assert_int_equal(fork_of(&b, "fork", "snapshot:base@78", &created, &err), -ENOENT);
	assert_int_equal(err.fault, OP_FAULT_MISSING);
	box_stop(&b);
}

struct forker {
	struct box *b;
	char name[24], from[40];
	bool created;
	int r;
	struct op_err err;
	pthread_t t;
};

static void *forker_main(void *arg)
{
	struct forker *f = arg;

	f->r = fork_of(f->b, f->name, f->from, &f->created, &f->err);
	return NULL;
}

/* Each fork has a source and rules of its own: @F, @S, @M are its root, snapshot and manifest. */
static const struct failure {
	const char *rules;
	bool warm; /* also if this host knows the source already */
	enum op_fault want;
} failures[] = {
	{"get:@S error=EIO", false, OP_FAULT_STORE},
	{"get:@S hang", false, OP_FAULT_STORE},
	{"get:@S corrupt", false, OP_FAULT_LOCAL},
	{"get:@M error=EIO", false, OP_FAULT_STORE},
	{"get:@M hang", false, OP_FAULT_STORE},
	{"get:@M corrupt", false, OP_FAULT_LOCAL},
	{"get:@M error=ENOENT", false, OP_FAULT_LOCAL},
	{"head:@S error=EIO", true, OP_FAULT_STORE},
	{"head:@S hang", true, OP_FAULT_STORE},
	{"head:@S error=ENOENT", true, OP_FAULT_MISSING},
	{"put:@F error=EIO", true, OP_FAULT_STORE},
	{"put:@F hang", true, OP_FAULT_STORE},
	{"put:@F ambiguous=before", true, OP_FAULT_STORE},
	{"put:@F ambiguous=after;get:@F error=EIO", true, OP_FAULT_STORE},
	{"put:@F hang;head:@S hang", true, OP_FAULT_STORE},
	{"head:@S error=EIO;delete:@F error=EIO", true, OP_FAULT_STORE},
	{"head:@S hang;delete:@F hang", true, OP_FAULT_STORE},
};

static void rules_add(char *all, size_t len, const char *rules, const char *fork,
		      const char *source, uint8_t seed)
{
	uint8_t uuid[16];
	char text[37];
	size_t n = strlen(all);

	memset(uuid, seed, sizeof(uuid));
	uuid_format(uuid, text);
	for (const char *p = rules; *p && n + 80 < len; p++) {
		if (*p != '@')
			all[n++] = *p;
		else if (*++p == 'F')
			n += (size_t)sprintf(all + n, "exports/%s/*", fork);
		else if (*p == 'S')
			n += (size_t)sprintf(all + n, "snapshots/%s/*", source);
		else
			n += (size_t)sprintf(all + n, "manifests/%s/*", text);
	}
	all[n++] = ';';
	all[n] = '\0';
}

/*
 * Of a snapshot that is known here already, and of one that is not: whatever operation fails, hangs
 * or has no answer, nothing is left, and a retry makes the fork.
 */
static void a_fork_of_a_snapshot_that_fails_is_undone(void **state)
{
	static struct forker f[2 * ARRAY_SIZE(failures)];
	static char rules[64 * KiB];
	unsigned int nr = 0;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	b.create_timeout_ns = b.store_timeout_ns = 1 * NSEC_PER_SEC;
	box_start(&b);
	rules[0] = '\0';
	for (unsigned int i = 0; i < ARRAY_SIZE(f); i++) {
		const struct failure *t = &failures[i / 2];
		char source[24];

		f[i].b = NULL;
		if (i % 2 && !t->warm)
			continue;
		f[i] = (struct forker){.b = &b};
		snprintf(f[i].name, sizeof(f[i].name), "fork-%u", i);
		snprintf(source, sizeof(source), "base-%u", i);
		snprintf(f[i].from, sizeof(f[i].from), "snapshot:%s@1", source);
		source_put(b.store, source, 1, (uint8_t)(i + 1));
		if (i % 2) {
			if (fork_of(&b, "known", f[i].from, &created, &err))
				fail_msg("%s", err.msg);
			assert_int_equal(host_remove(b.host, "known", false, 1, &err), 0);
		}
		rules_add(rules, sizeof(rules), t->rules, f[i].name, source, (uint8_t)(i + 1));
		nr++;
	}
	assert_int_equal(model_count(), 0);
	faults(&b, rules);
	for (unsigned int i = 0; i < ARRAY_SIZE(f); i++)
		if (f[i].b)
			assert_int_equal(pthread_create(&f[i].t, NULL, forker_main, &f[i]), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(f); i++) {
		if (!f[i].b)
			continue;
		pthread_join(f[i].t, NULL);
		if (!f[i].r || f[i].created || f[i].err.fault != failures[i / 2].want)
			fail_msg("%s (%s): %d, fault %d: %s", failures[i / 2].rules,
				 i % 2 ? "warm" : "cold", f[i].r, f[i].err.fault, f[i].err.msg);
	}
	faults(&b, "");
	assert_int_equal(model_count(), 0);
	assert_int_equal(local_volumes(&b), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(f); i++)
		if (f[i].b)
			assert_absent(&b, f[i].name);
	for (unsigned int i = 0; i < ARRAY_SIZE(f); i++) {
		if (!f[i].b)
			continue;
		if (fork_of(&b, f[i].name, f[i].from, &created, &err))
			fail_msg("%s: again: %s", failures[i / 2].rules, err.msg);
		assert_true(created);
		assert_whole(&b, f[i].name);
	}
	assert_int_equal(model_count(), nr);
	assert_int_equal(local_volumes(&b), nr);
	box_stop(&b);
}

static void snapshot_delete_by(struct box *b, uint64_t seq)
{
	char key[STORE_KEY_MAX];
	struct store_op op = {.type = STORE_DELETE, .key = key};

	snapshot_key("base", seq, key, sizeof(key));
	assert_int_equal(store_run(b->store, &op), 0);
}

/* By another host, so that this one still keeps it. */
static void a_source_that_was_deleted_is_missing_though_it_is_kept(void **state)
{
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	source_put(b.store, "base", 1, 1);
	assert_int_equal(fork_of(&b, "first", "snapshot:base@1", &created, &err), 0);
	snapshot_delete_by(&b, 1);
	assert_int_equal(fork_of(&b, "late", "snapshot:base@1", &created, &err), -ENOENT);
	assert_int_equal(err.fault, OP_FAULT_MISSING);
	assert_absent(&b, "late");
	assert_int_equal(model_count(), 1);
	assert_int_equal(local_volumes(&b), 1);
	/* What is there is still it. */
	assert_int_equal(fork_of(&b, "first", "snapshot:base@1", &created, &err), 0);
	assert_false(created);
	/* Another of the same name and number, which no clock should give again, is another. */
	source_put(b.store, "base", 1, 2);
	if (fork_of(&b, "late", "snapshot:base@1", &created, &err))
		fail_msg("%s", err.msg);
	{
		struct host_volume_info v;

		assert_int_equal(show(&b, "late", &v), OP_FAULT_NONE);
		assert_non_null(strstr(v.info.root.manifest.id, ".0000000000000002"));
	}
	source_put(b.store, "base", 1, 3);
	assert_int_equal(fork_of(&b, "later", "snapshot:base@1", &created, &err), -ENOENT);
	assert_absent(&b, "later");
	if (fork_of(&b, "later", "snapshot:base@1", &created, &err))
		fail_msg("%s", err.msg);
	box_stop(&b);
}

/* And its manifest collected, which is not kept, or not any more. Again and again. */
static void a_source_that_was_collected_is_missing_and_not_corrupt(void **state)
{
	char key[STORE_KEY_MAX], etag[STORE_ETAG_MAX];
	struct store_op op = {.type = STORE_DELETE, .key = key};
	struct fmt_err fe;
	struct op_err err;
	struct snapshot s;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	source_put(b.store, "base", 1, 1);
	assert_int_equal(snapshot_find(b.engine, "base", 1, "x", 1, &s, etag, &fe), 0);
	snapshot_delete_by(&b, 1);
	manifest_key(s.manifest.uuid, s.manifest.id, key, sizeof(key));
	assert_int_equal(store_run(b.store, &op), 0);
	for (int i = 0; i < 2; i++) {
		if (fork_of(&b, "late", "snapshot:base@1", &created, &err) != -ENOENT ||
		    err.fault != OP_FAULT_MISSING)
			fail_msg("fork %d: %s", i, err.msg);
		assert_absent(&b, "late");
		assert_int_equal(model_count(), 0);
		assert_int_equal(local_volumes(&b), 0);
	}
	box_stop(&b);
}

static bool armed(struct box *b)
{
	return __atomic_load_n(&model.armed, __ATOMIC_RELAXED) == 1;
}

/* Deleted while the fork is under way, at any moment: it is whole, or it is missing its source. */
static void a_source_deleted_meanwhile_gives_404_or_a_whole_fork(void **state)
{
	static const char *const hangs[] = {"put:exports/* hang", "head:snapshots/* hang",
					    "get:manifests/* hang"};

	for (unsigned int i = 0; i < ARRAY_SIZE(hangs); i++) {
		struct forker f = {.from = "snapshot:base@1", .name = "fork"};
		struct op_err err;
		struct box b;
		bool created;

		box_init(&b, "a");
		b.create_timeout_ns = b.store_timeout_ns = 60 * NSEC_PER_SEC;
		box_start(&b);
		source_put(b.store, "base", 1, 1);
		f.b = &b;
		faults(&b, hangs[i]);
		__atomic_store_n(&model.armed, 0, __ATOMIC_RELAXED);
		assert_int_equal(pthread_create(&f.t, NULL, forker_main, &f), 0);
		wait_until(armed, &b, "the device, as far as it goes");
		faults(&b, "");
		snapshot_delete_by(&b, 1);
		store_fault_release(b.store);
		pthread_join(f.t, NULL);
		if (!f.r) {
			assert_whole(&b, "fork");
		} else {
			if (f.err.fault != OP_FAULT_MISSING)
				fail_msg("%s: %s", hangs[i], f.err.msg);
			assert_absent(&b, "fork");
			assert_int_equal(local_volumes(&b), 0);
			assert_int_equal(model_count(), 0);
		}
		/* A HEAD that comes after the deletion must have seen it. */
		assert_true(i != 1 || f.r == -ENOENT);
		source_put(b.store, "base", 1, 1);
		assert_int_equal(fork_of(&b, "fork", "snapshot:base@1", &created, &err), 0);
		assert_whole(&b, "fork");
		box_stop(&b);
	}
}

static void fifty_forks_at_once_fetch_their_source_once(void **state)
{
	enum { FORKS = 50 };
	static struct forker f[FORKS];
	struct engine_stats st;
	uint64_t gets, asked;
	struct box b;

	box_init(&b, "a");
	b.create_timeout_ns = b.store_timeout_ns = 60 * NSEC_PER_SEC;
	box_start(&b);
	source_put(b.store, "base", 1, 1);
	faults(&b, "get:* delay=300");
	gets = events(TIMING_OBJECT_GET);
	asked = events(TIMING_MANIFEST_FETCH);
	for (int i = 0; i < FORKS; i++) {
		f[i] = (struct forker){.b = &b, .from = "snapshot:base@1"};
		snprintf(f[i].name, sizeof(f[i].name), "fork-%d", i);
		assert_int_equal(pthread_create(&f[i].t, NULL, forker_main, &f[i]), 0);
	}
	for (int i = 0; i < FORKS; i++) {
		pthread_join(f[i].t, NULL);
		if (f[i].r)
			fail_msg("%s: %s", f[i].name, f[i].err.msg);
		assert_true(f[i].created);
		assert_whole(&b, f[i].name);
	}
	/* One of the snapshot, one of the manifest; and each fork says how long it waited. */
	assert_int_equal(events(TIMING_OBJECT_GET) - gets, 2);
	assert_int_equal(events(TIMING_MANIFEST_FETCH) - asked, FORKS);
	engine_stats_read(b.engine, &st);
	assert_int_equal(st.manifests.gets, 2);
	assert_int_equal(st.manifests.kept.entries, 2);
	assert_int_equal(st.manifests.joined + st.manifests.kept.hits, 2 * FORKS - 2);
	/* All of them have the same one in memory. */
	{
		struct host_volume_info v[2];
		struct view *vw[2];

		for (int i = 0; i < 2; i++) {
			assert_int_equal(show(&b, f[i * 30].name, &v[i]), OP_FAULT_NONE);
			vw[i] = volume_view_get(model.d[v[i].dev_id].dev.v);
		}
		assert_ptr_equal(vw[0]->manifest, vw[1]->manifest);
		view_put(vw[0]);
		view_put(vw[1]);
	}
	box_stop(&b);
}

/* Guests must not come before the manifest: they would read zeros. Everything else may. */
static void a_device_is_made_but_not_started_while_the_manifest_is_in_flight(void **state)
{
	struct forker f = {.from = "snapshot:base@1", .name = "fork"};
	struct box b;

	box_init(&b, "a");
	b.create_timeout_ns = b.store_timeout_ns = 60 * NSEC_PER_SEC;
	box_start(&b);
	source_put(b.store, "base", 1, 1);
	f.b = &b;
	faults(&b, "get:manifests/* hang; put:exports/* hang");
	__atomic_store_n(&model.armed, 0, __ATOMIC_RELAXED);
	assert_int_equal(pthread_create(&f.t, NULL, forker_main, &f), 0);
	wait_until(armed, &b, "the device before any answer of the store");
	assert_int_equal(model_count(), 0);
	assert_absent(&b, "fork");
	faults(&b, "");
	store_fault_release(b.store);
	pthread_join(f.t, NULL);
	if (f.r)
		fail_msg("%s", f.err.msg);
	assert_whole(&b, "fork");
	box_stop(&b);
}

static void a_warm_fork_asks_the_store_for_nothing_but_its_put_and_head(void **state)
{
	struct op_err err;
	struct box b;
	uint64_t gets, heads, puts, hits;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	source_put(b.store, "base", 1, 1);
	assert_int_equal(fork_of(&b, "first", "snapshot:base@1", &created, &err), 0);
	gets = events(TIMING_OBJECT_GET);
	heads = events(TIMING_OBJECT_HEAD);
	puts = events(TIMING_OBJECT_PUT);
	hits = events(TIMING_CACHE_HIT);
	assert_int_equal(fork_of(&b, "second", "snapshot:base@1", &created, &err), 0);
	assert_int_equal(events(TIMING_OBJECT_GET) - gets, 0);
	assert_int_equal(events(TIMING_OBJECT_HEAD) - heads, 1);
	assert_int_equal(events(TIMING_OBJECT_PUT) - puts, 1);
	assert_int_equal(events(TIMING_CACHE_HIT) - hits, 2);
	assert_whole(&b, "second");
	box_stop(&b);
}

static void a_fork_may_be_larger_and_not_smaller(void **state)
{
	const uint64_t source = ENTRIES * CHUNK_BYTES;
	struct host_volume_info v;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	source_put(b.store, "base", 1, 1);
	assert_int_equal(fork_sized(&b, "small", "snapshot:base@1", source - MiB, &created, &err),
			 -EINVAL);
	assert_int_equal(err.fault, OP_FAULT_REQUEST);
	assert_absent(&b, "small");
	assert_int_equal(fork_sized(&b, "large", "snapshot:base@1", 2 * source, &created, &err), 0);
	assert_int_equal(show(&b, "large", &v), OP_FAULT_NONE);
	assert_true(v.dev_bytes == 2 * source && v.info.root.size_bytes == 2 * source);
	assert_whole(&b, "large");
	box_stop(&b);
}

/* ---- what a fork costs ---- */

#define SMALL (GiB / CHUNK_BYTES)
#define LARGE (10 * TiB / CHUNK_BYTES)

static uint64_t fork_ns(struct box *b, const char *name, const char *from)
{
	uint64_t begin = now_ns(), end;
	struct op_err err;
	bool created;

	if (fork_of(b, name, from, &created, &err))
		fail_msg("%s: %s", name, err.msg);
	end = now_ns();
	assert_true(created);
	assert_int_equal(host_remove(b->host, name, false, 1, &err), 0);
	return end - begin;
}

/* With a round trip of 50 ms, and a source that is known here: its transfer does not count. */
static void a_fork_of_ten_terabytes_takes_as_long_as_of_one_gigabyte(void **state)
{
	uint64_t small = UINT64_MAX, large = UINT64_MAX;
	double ratio = 2;
	struct box b;

	box_init(&b, "a");
	box_start(&b);
	source_put_of(b.store, "small", 1, 1, SMALL);
	source_put_of(b.store, "large", 1, 2, LARGE);
	fork_ns(&b, "known", "snapshot:small@1");
	fork_ns(&b, "known", "snapshot:large@1");
	faults(&b, "put delay=50; head delay=50; get delay=50");
	/* The shortest of each, for what else the machine does only adds; more on a busy one. */
	for (int i = 0; i < 100 && (i < 5 || ratio > 1.10); i++) {
		small = MIN(small, fork_ns(&b, "fork", "snapshot:small@1"));
		large = MIN(large, fork_ns(&b, "fork", "snapshot:large@1"));
		ratio = (double)large / (double)small;
	}
	print_message("fork of 10 TB %.1f ms, of 1 GB %.1f ms: %.3f\n", (double)large / 1e6,
		      (double)small / 1e6, ratio);
	assert_true(ratio <= 1.10);
	box_stop(&b);
}

static uint64_t resident_bytes(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*u %llu", &pages), 1);
	fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* 64 KiB each, beside the one manifest, of 10 TB, that all of them have. */
static void an_idle_fork_takes_little_memory(void **state)
{
	enum { WARM = 20, FORKS = 100 };
	uint64_t before = 0, each;
	struct engine_stats st;
	struct op_err err;
	struct box b;
	bool created;

	box_init(&b, "a");
	box_start(&b);
	source_put_of(b.store, "large", 1, 2, LARGE);
	for (int i = 0; i < WARM + FORKS; i++) {
		char name[24];

		if (i == WARM)
			before = resident_bytes();
		snprintf(name, sizeof(name), "fork-%d", i);
		if (fork_of(&b, name, "snapshot:large@1", &created, &err))
			fail_msg("%s: %s", name, err.msg);
	}
	each = (MAX(resident_bytes(), before) - before) / FORKS;
	engine_stats_read(b.engine, &st);
	assert_int_equal(st.manifests.kept.entries, 2);
	print_message("an idle fork takes %.1f KiB\n", (double)each / KiB);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(each <= 64 * KiB);
#endif
	box_stop(&b);
}

/* ---- killed ---- */

/* In a child, which is killed at the step; true: it came to it. */
static bool killed_at(struct box *b, enum step step, const char *rules, int fail_add)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		struct op_err err;
		bool created;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		box_start(b);
		model.fail_add = fail_add;
		faults(b, rules);
		if (step_kill_at(step_name(step)))
			_exit(2);
		(void)!fork_of(b, "fork", "snapshot:base@1", &created, &err);
		for (uint64_t end = now_ns() + 20 * NSEC_PER_SEC; !nothing_pending(b);)
			if (now_ns() > end)
				_exit(3);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return false;
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("%s: the child ended with status %x", step_name(step), status);
	return true;
}

/* Where the kernel's device is at: lab/failed_fork_is_undone. */
static bool is_of_device(unsigned int step)
{
	return step >= STEP_DEV_ADDED && step <= STEP_DEV_MAPPED;
}

static void killed_at_any_step_a_fork_is_whole_or_absent(void **state)
{
	static const struct way {
		const char *rules;
		int fail_add;
		enum step first, last;
	} ways[] = {
		{"get:manifests/* delay=100", 0, STEP_CREATE_RECORDED, STEP_CREATE_ENDED},
		{"put:exports/* delay=100", 0, STEP_LOCAL_READY, STEP_CREATE_LISTED},
		{"head:snapshots/* delay=100", 0, STEP_CREATE_WRITTEN, STEP_CREATE_CHECKED},
		{"head:snapshots/* error=ENOENT", 0, STEP_UNDO_BEGUN, STEP_UNDO_LEFT},
		{"get:manifests/* error=ENOENT", 0, STEP_UNDO_BEGUN, STEP_UNDO_LEFT},
		{"put:exports/* error=EIO", 0, STEP_UNDO_BEGUN, STEP_UNDO_LEFT},
		{"delete:* error=EIO count=1", EIO, STEP_UNDO_BEGUN, STEP_REAP_LOCAL},
	};
	unsigned int wholes = 0, absents = 0, reached[STEP_NR] = {0};

	for (unsigned int w = 0; w < ARRAY_SIZE(ways); w++) {
		for (unsigned int s = ways[w].first; s <= ways[w].last; s++) {
			struct host_volume_info v;
			char url[128], why[200];
			struct op_err err;
			struct store *st;
			struct box b;
			bool created;

			if (is_of_device(s))
				continue;
			box_init(&b, "a");
			snprintf(url, sizeof(url), "file://%s/store", b.dir);
			assert_int_equal(store_open(url, NULL, &st, why, sizeof(why)), 0);
			source_put(st, "base", 1, 1);
			store_close(st);
			b.store_timeout_ns = b.create_timeout_ns = 20 * NSEC_PER_SEC;
			b.reap_ns = b.forget_ns = 0;
			if (!killed_at(&b, (enum step)s, ways[w].rules, ways[w].fail_add))
				fail_msg("\"%s\" never came to %s", ways[w].rules,
					 step_name((enum step)s));
			reached[s]++;
			b.reap_ns = b.forget_ns = 3600 * NSEC_PER_SEC;
			box_start(&b);
			wait_until(readied, &b, "the volumes of before");
			if (show(&b, "fork", &v) == OP_FAULT_NONE) {
				wholes++;
				assert_whole(&b, "fork");
			} else {
				absents++;
				assert_absent(&b, "fork");
				assert_int_equal(model_count(), 0);
			}
			if (fork_of(&b, "fork", "snapshot:base@1", &created, &err))
				fail_msg("%s, \"%s\": again: %s", step_name((enum step)s),
					 ways[w].rules, err.msg);
			assert_whole(&b, "fork");
			assert_int_equal(pending_count(&b), 0);
			assert_int_equal(local_volumes(&b), 1);
			box_stop(&b);
		}
	}
	for (unsigned int s = 0; s < STEP_NR; s++)
		if (!reached[s] && !is_of_device(s))
			fail_msg("step %s was never reached", step_name((enum step)s));
	print_message("killed: absent %u times, whole %u times\n", absents, wholes);
	assert_true(wholes >= 3 && absents >= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(failed_fork_is_undone_and_a_retry_creates),
		cmocka_unit_test(a_fork_of_a_broken_snapshot_is_undone),
		cmocka_unit_test(a_fork_of_a_snapshot_that_fails_is_undone),
		cmocka_unit_test(a_source_that_was_deleted_is_missing_though_it_is_kept),
		cmocka_unit_test(a_source_that_was_collected_is_missing_and_not_corrupt),
		cmocka_unit_test(a_source_deleted_meanwhile_gives_404_or_a_whole_fork),
		cmocka_unit_test(fifty_forks_at_once_fetch_their_source_once),
		cmocka_unit_test(a_device_is_made_but_not_started_while_the_manifest_is_in_flight),
		cmocka_unit_test(a_warm_fork_asks_the_store_for_nothing_but_its_put_and_head),
		cmocka_unit_test(a_fork_may_be_larger_and_not_smaller),
		cmocka_unit_test(a_fork_of_ten_terabytes_takes_as_long_as_of_one_gigabyte),
		cmocka_unit_test(an_idle_fork_takes_little_memory),
		cmocka_unit_test(killed_at_any_step_a_fork_is_whole_or_absent),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
