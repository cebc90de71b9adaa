// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The Prometheus exposition; see metrics.h. Volumes are read once into an array, so that all
 * samples of one metric stand together, as the format wants. No state.
 */
#include "control/metrics.h"

#include <stdio.h>
#include <string.h>

#include "lib/timing.h"

struct metric {
	const char *name, *type, *help;
	size_t offset; /* of a uint64_t in the struct of its table */
	double scale;  /* 0 = 1 */
};

#define ENGINE(n, t, field, h)                                              \
	{                                                                   \
		"glidefs_" n, t, h, offsetof(struct engine_stats, field), 0 \
	}
#define VOLUME(n, t, field, h)                                                    \
	{                                                                         \
		"glidefs_volume_" n, t, h, offsetof(struct volume_info, field), 0 \
	}

/* clang-format off */
static const struct metric engine_metrics[] = {
	ENGINE("dirty_bytes", "gauge", dirty_bytes, "Local bytes not uploaded yet, all volumes."),
	ENGINE("uploads_total", "counter", uploads, "Uploads published."),
	ENGINE("upload_failures_total", "counter", upload_failures, "Uploads that failed and are tried again."),
	ENGINE("upload_bytes_total", "counter", upload_bytes, "Bytes of packs uploaded."),
	ENGINE("writes_waiting_for_space", "gauge", parked, "Guest writes waiting for local space."),
	ENGINE("block_cache_hits_total", "counter", blocks.hits, "Block cache hits."),
	ENGINE("block_cache_misses_total", "counter", blocks.misses, "Block cache misses."),
	ENGINE("block_cache_evictions_total", "counter", blocks.evictions, "Blocks evicted."),
	ENGINE("block_cache_bytes", "gauge", blocks.bytes, "Bytes in the block cache."),
	ENGINE("block_cache_budget_bytes", "gauge", blocks.budget_bytes, "Budget of the block cache."),
	ENGINE("ssd_cache_on", "gauge", ssd.on, "1 if the cache has a tier on the SSD whose disk works."),
	ENGINE("ssd_cache_hits_total", "counter", ssd.hits, "Blocks and indexes read from the SSD instead of the store."),
	ENGINE("ssd_cache_misses_total", "counter", ssd.misses, "Blocks and indexes that were not on the SSD."),
	ENGINE("ssd_cache_inserts_total", "counter", ssd.inserts, "Blocks and indexes written to the SSD."),
	ENGINE("ssd_cache_evictions_total", "counter", ssd.evictions, "Blocks and indexes removed to make room, those written again included."),
	ENGINE("ssd_cache_dropped_total", "counter", ssd.dropped, "Blocks and indexes not written because the SSD was busy or short of space."),
	ENGINE("ssd_cache_bad_total", "counter", ssd.bad, "Blocks and indexes on the SSD that failed verification; they came from the store."),
	ENGINE("ssd_cache_entries", "gauge", ssd.entries, "Blocks and indexes on the SSD."),
	ENGINE("ssd_cache_bytes", "gauge", ssd.bytes, "Bytes that they take of the SSD."),
	ENGINE("ssd_cache_budget_bytes", "gauge", ssd.budget_bytes, "Budget of the cache on the SSD."),
	ENGINE("index_cache_hits_total", "counter", indexes.hits, "Index cache hits."),
	ENGINE("index_cache_misses_total", "counter", indexes.misses, "Index cache misses."),
	ENGINE("index_cache_bytes", "gauge", indexes.bytes, "Bytes in the index cache."),
	ENGINE("manifest_cache_hits_total", "counter", manifests.kept.hits, "Manifests and snapshots that were in memory."),
	ENGINE("manifest_cache_misses_total", "counter", manifests.kept.misses, "Those that were not."),
	ENGINE("manifest_cache_gets_total", "counter", manifests.gets, "Those that were fetched for it."),
	ENGINE("manifest_cache_joined_total", "counter", manifests.joined, "Those that were on their way for another."),
	ENGINE("manifest_cache_evictions_total", "counter", manifests.kept.evictions, "Manifests and snapshots evicted."),
	ENGINE("manifest_cache_entries", "gauge", manifests.kept.entries, "Manifests and snapshots in memory."),
	ENGINE("manifest_cache_bytes", "gauge", manifests.kept.bytes, "Bytes they take."),
	ENGINE("manifest_cache_budget_bytes", "gauge", manifests.kept.budget_bytes, "Budget of the manifest cache."),
	ENGINE("fetch_gets_total", "counter", fetch.gets, "GETs sent to the store for reads."),
	ENGINE("fetch_bytes_total", "counter", fetch.get_bytes, "Bytes got from the store for reads."),
	ENGINE("fetch_retries_total", "counter", fetch.retries, "GETs repeated."),
	ENGINE("fetch_corrupt_total", "counter", fetch.corrupt, "Objects that failed verification."),
	ENGINE("fetch_timeouts_total", "counter", fetch.timeouts, "Reads given up after the store timeout."),
	ENGINE("fetch_coalesced_total", "counter", fetch.coalesced, "Blocks and indexes that came in the GET of another."),
	ENGINE("fetch_prefetched_total", "counter", fetch.prefetched, "Blocks fetched ahead."),
	ENGINE("fetch_inflight_bytes", "gauge", fetch.inflight_bytes, "Bytes being fetched."),
};

#define S3(n, t, field, h)                                                              \
	{                                                                               \
		"glidefs_store_" n, t, h, offsetof(struct store_s3_stats, field), 0 \
	}
static const struct metric s3_metrics[] = {
	S3("requests_total", "counter", requests, "Requests sent to the S3 endpoint, tries included."),
	S3("retries_total", "counter", retries, "Requests sent again."),
	S3("throttled_total", "counter", throttled, "Answers that asked to slow down."),
	S3("failures_total", "counter", failures, "Requests without a usable answer: transport, 5xx."),
	S3("connections_total", "counter", connections, "Connections opened."),
	S3("sent_bytes_total", "counter", sent_bytes, "Bytes of bodies sent."),
	S3("received_bytes_total", "counter", received_bytes, "Bytes of bodies received."),
	S3("running_requests", "gauge", running, "Requests on a connection."),
	S3("queued_requests", "gauge", queued, "Requests that wait for a connection."),
	S3("breaker_state", "gauge", breaker, "0 closed; 1 half open, one trial request at a time; 2 open, nothing is sent."),
	S3("breaker_opens_total", "counter", breaker_opens, "Times the circuit breaker opened."),
	S3("probed", "gauge", probed, "1 when it is known what the endpoint supports."),
};

static const struct metric volume_metrics[] = {
	VOLUME("size_bytes", "gauge", root.size_bytes, "Size of the device."),
	VOLUME("generation", "gauge", root.generation, "Ownership generation."),
	VOLUME("sequence", "gauge", root.sequence, "Layers published."),
	VOLUME("dirty_bytes", "gauge", dirty_bytes, "Bytes that would be lost with this host."),
	VOLUME("reads_total", "counter", reads, "Guest reads."),
	VOLUME("writes_total", "counter", writes, "Guest writes, discards and write-zeroes."),
	VOLUME("flushes_total", "counter", flushes, "Guest flushes."),
	VOLUME("read_bytes_total", "counter", read_bytes, "Bytes read by the guest."),
	VOLUME("write_bytes_total", "counter", write_bytes, "Bytes written by the guest."),
	VOLUME("errors_total", "counter", errors, "Guest requests that failed."),
	VOLUME("uploads_total", "counter", uploads, "Uploads published."),
	VOLUME("upload_failures_total", "counter", upload_failures, "Uploads that failed."),
	VOLUME("writes_waiting_for_space", "gauge", parked, "Guest writes waiting for local space."),
	{"glidefs_volume_oldest_dirty_seconds", "gauge",
	 "Age of the oldest write that is not uploaded; 0 = none.",
	 offsetof(struct volume_info, oldest_dirty_ns), 1e-9},
};
/* clang-format on */

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static uint64_t field(const void *base, const struct metric *m)
{
	return *(const uint64_t *)(const void *)((const char *)base + m->offset);
}

static void print_value(FILE *f, const struct metric *m, uint64_t v)
{
	if (m->scale)
		fprintf(f, " %.6f\n", (double)v * m->scale);
	else
		fprintf(f, " %llu\n", (unsigned long long)v);
}

struct volumes {
	struct one {
		char name[GFS_NAME_MAX];
		enum host_state state;
		bool open;
		struct volume_info info;
	} * v;
	size_t nr, cap;
};

static void collect(const struct host_volume_info *v, void *arg)
{
	struct volumes *all = arg;
	struct one *one;

	if (all->nr == all->cap) {
		size_t cap = all->cap ? all->cap * 2 : 64;

		one = realloc(all->v, cap * sizeof(*one));
		if (!one)
			return;
		all->v = one;
		all->cap = cap;
	}
	one = &all->v[all->nr++];
	snprintf(one->name, sizeof(one->name), "%s", v->name);
	one->state = v->state;
	one->open = v->open;
	one->info = v->info;
}

static void print_volumes(FILE *f, struct host *h)
{
	struct volumes all = {0};
	uint64_t oldest = 0;

	host_each(h, collect, &all);
	for (size_t k = 0; k < all.nr; k++)
		if (all.v[k].open)
			oldest = MAX(oldest, all.v[k].info.oldest_dirty_ns);
	head(f, "glidefs_oldest_dirty_seconds", "gauge",
	     "Age of the oldest write of this host that is not uploaded; 0 = none.");
	fprintf(f, "glidefs_oldest_dirty_seconds %.6f\n", (double)oldest * 1e-9);
	for (size_t i = 0; i < ARRAY_SIZE(volume_metrics); i++) {
		const struct metric *m = &volume_metrics[i];

		head(f, m->name, m->type, m->help);
		for (size_t k = 0; k < all.nr; k++) {
			if (!all.v[k].open)
				continue;
			fprintf(f, "%s{volume=\"%s\"}", m->name, all.v[k].name);
			print_value(f, m, field(&all.v[k].info, m));
		}
	}
	head(f, "glidefs_volume_healthy", "gauge",
	     "1 if it is attached and neither fenced nor poisoned, else 0.");
	for (size_t k = 0; k < all.nr; k++)
		fprintf(f, "glidefs_volume_healthy{volume=\"%s\",state=\"%s\"} %d\n", all.v[k].name,
			host_state_name(all.v[k].state),
			all.v[k].state == HOST_ATTACHED && all.v[k].info.mode != VOLUME_FENCED &&
				all.v[k].info.mode != VOLUME_POISONED);
	free(all.v);
}

/* One histogram family with a label per event, and the failures beside it. */
static void print_events(FILE *f)
{
	static const char name[] = "glidefs_event_duration_seconds";
	struct timing_hist_snapshot s;

	head(f, name, "histogram", "Duration of each step that the timing log reports.");
	for (int e = 0; e < TIMING_NR; e++) {
		uint64_t sum = 0;

		timing_hist_read((enum timing_event)e, &s);
		if (!s.count)
			continue;
		for (unsigned int b = 0; b < s.nr_bounds; b++) {
			sum += s.buckets[b];
			fprintf(f, "%s_bucket{event=\"%s\",le=\"%g\"} %llu\n", name, s.name,
				(double)s.bounds_us[b] / 1e6, (unsigned long long)sum);
		}
		fprintf(f, "%s_bucket{event=\"%s\",le=\"+Inf\"} %llu\n", name, s.name,
			(unsigned long long)s.count);
		fprintf(f, "%s_sum{event=\"%s\"} %.6f\n", name, s.name, (double)s.sum_us / 1e6);
		fprintf(f, "%s_count{event=\"%s\"} %llu\n", name, s.name,
			(unsigned long long)s.count);
	}
	head(f, "glidefs_event_errors_total", "counter", "Steps that failed.");
	for (int e = 0; e < TIMING_NR; e++) {
		timing_hist_read((enum timing_event)e, &s);
		fprintf(f, "glidefs_event_errors_total{event=\"%s\"} %llu\n", s.name,
			(unsigned long long)s.errors);
	}
	head(f, "glidefs_timing_dropped_total", "counter",
	     "Timing lines lost to a full ring or disk.");
	fprintf(f, "glidefs_timing_dropped_total %llu\n", (unsigned long long)timing_dropped());
}

static void print_host(FILE *f, struct host *h)
{
	struct host_summary s;
	host_summary_read(h, &s);
	head(f, "glidefs_ready", "gauge", "1 when each known volume was recovered or given up.");
	fprintf(f, "glidefs_ready %d\n", s.ready);
	head(f, "glidefs_volumes", "gauge", "Volumes of this host by state.");
	fprintf(f, "glidefs_volumes{state=\"attached\"} %u\n", s.attached);
	fprintf(f, "glidefs_volumes{state=\"stopped\"} %u\n", s.stopped);
	fprintf(f, "glidefs_volumes{state=\"recovering\"} %u\n", s.recovering);
	fprintf(f, "glidefs_volumes{state=\"failed\"} %u\n", s.failed);
	head(f, "glidefs_pending_creates", "gauge", "Failed creates still to be cleaned up.");
	fprintf(f, "glidefs_pending_creates %u\n", s.pending);
}

#define GC(n, t, field, h)                                                       \
	{                                                                        \
		"glidefs_gc_" n, t, h, offsetof(struct host_gc_status, field), 0 \
	}
/* clang-format off */
static const struct metric gc_metrics[] = {
	GC("runs_total", "counter", runs, "Runs of garbage collection by this host."),
	GC("failures_total", "counter", failures, "Of these, failed."),
	GC("deleted_objects_total", "counter", deleted_total, "Packs and manifests deleted by this host."),
	GC("deleted_bytes_total", "counter", deleted_bytes_total, "Bytes of these."),
	GC("last_end_seconds", "gauge", last_end_s, "When the last run ended, seconds since 1970; 0 = none."),
	GC("live_bytes", "gauge", last.live_bytes, "Bytes of packs and manifests in use, as of the last run."),
	GC("waiting_objects", "gauge", last.waiting, "Packs and manifests waiting for their grace period then."),
};
#define SCRUB(n, field, h)                                                                 \
	{                                                                                  \
		"glidefs_scrub_" n, "counter", h, offsetof(struct host_scrub_status, field), 0 \
	}
static const struct metric scrub_metrics[] = {
	SCRUB("runs_total", runs, "Scrubs of the store by this host."),
	SCRUB("bad_total", bad_total, "Objects that they found corrupt or missing."),
};
/* clang-format on */

static void print_gc(FILE *f, struct host *h)
{
	struct host_scrub_status scrub;
	struct host_gc_status s;

	host_gc_status_read(h, &s);
	host_scrub_status_read(h, &scrub);
	for (size_t i = 0; i < ARRAY_SIZE(scrub_metrics); i++) {
		const struct metric *m = &scrub_metrics[i];

		head(f, m->name, m->type, m->help);
		fprintf(f, "%s", m->name);
		print_value(f, m, field(&scrub, m));
	}
	for (size_t i = 0; i < ARRAY_SIZE(gc_metrics); i++) {
		const struct metric *m = &gc_metrics[i];

		head(f, m->name, m->type, m->help);
		fprintf(f, "%s", m->name);
		print_value(f, m, field(&s, m));
	}
}

static void print_store(FILE *f, const struct store *store)
{
	struct store_s3_stats s;

	if (!store_s3_stats(store, &s))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(s3_metrics); i++) {
		const struct metric *m = &s3_metrics[i];

		head(f, m->name, m->type, m->help);
		fprintf(f, "%s", m->name);
		print_value(f, m, field(&s, m));
	}
	head(f, "glidefs_store_problem", "gauge",
	     "1 if an operator must mend something about the store; /health says what.");
	fprintf(f, "glidefs_store_problem %d\n", s.problem[0] != 0);
}

char *metrics_text(struct host *h, struct engine *e, size_t *len)
{
	struct engine_stats es;
	char *text = NULL;
	FILE *f = open_memstream(&text, len);

	if (!f)
		return NULL;
	head(f, "glidefs_build_info", "gauge", "Version of the daemon.");
	fprintf(f, "glidefs_build_info{version=\"%s\"} 1\n", GFS_VERSION);
	print_host(f, h);
	engine_stats_read(e, &es);
	for (size_t i = 0; i < ARRAY_SIZE(engine_metrics); i++) {
		const struct metric *m = &engine_metrics[i];

		head(f, m->name, m->type, m->help);
		fprintf(f, "%s", m->name);
		print_value(f, m, field(&es, m));
	}
	print_store(f, engine_store(e));
	print_gc(f, h);
	head(f, "glidefs_dirty_limit_bytes", "gauge",
	     "Limit of glidefs_dirty_bytes (cache.host_max_bytes); 0 = none.");
	fprintf(f, "glidefs_dirty_limit_bytes %llu\n",
		(unsigned long long)engine_cfg(e)->host_max_bytes);
	print_volumes(f, h);
	print_events(f);
	fclose(f);
	return text;
}
