/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cold reads are compared with: downloads of a volume's very packs by libcurl alone, ranged
 * GETs on connections that are kept alive, nothing verified, nothing kept. One thread. For programs
 * of selftests/bench; a failure ends the program.
 */
#ifndef GFS_BENCH_COLD_REFERENCE_H
#define GFS_BENCH_COLD_REFERENCE_H

#include "selftests/tools/tool.h"
#include "store/s3_priv.h"

#define REFERENCE_LIST_PAGE 500

/* A range of a pack. */
struct reference_piece {
	char *path; /* encoded */
	uint64_t off, len;
};

struct reference_download {
	CURL *easy;
	struct curl_slist *headers;
	uint64_t got, want;
};

struct reference {
	struct s3_target target;
	struct s3_creds creds;
	struct reference_piece *pieces;
	size_t nr_pieces, next_piece;
	CURLM *multi;
	struct reference_download *downloads;
	unsigned int connections;
};

/* Whole pieces from byte `first` of each pack on: the rest of a pack is left out. */
static inline void reference_cut(struct reference *r, const struct store_list_entry *e,
				 uint64_t first, uint64_t piece, size_t *room)
{
	for (uint64_t off = first; off + piece <= e->size; off += piece) {
		char *path = s3_path(&r->target, e->key);

		if (r->nr_pieces == *room) {
			*room = *room ? 2 * *room : 1024;
			r->pieces = realloc(r->pieces, *room * sizeof(*r->pieces));
		}
		if (!r->pieces || !path)
			errx(EXIT_USE, "out of memory");
		r->pieces[r->nr_pieces++] = (struct reference_piece){path, off, piece};
	}
}

static inline void reference_list(struct reference *r, const char *url, uint64_t first,
				  uint64_t piece)
{
	struct store_list_entry *page = zalloc_or_die(REFERENCE_LIST_PAGE, sizeof(*page));
	struct store_op op = {
		.type = STORE_LIST,
		.prio = STORE_PRIO_META,
		.key = "chunks/",
		.entries = page,
		.max_entries = REFERENCE_LIST_PAGE,
	};
	char msg[512];
	struct store *s;
	size_t room = 0;

	if (store_open(url, NULL, &s, msg, sizeof(msg)))
		errx(EXIT_USE, "%s", msg);
	do {
		int res = store_run(s, &op);

		if (res)
			errx(EXIT_USE, "LIST: %s", strerror(-res));
		for (unsigned int i = 0; i < op.nr_entries; i++)
			reference_cut(r, &page[i], first, piece, &room);
		if (op.nr_entries)
			snprintf(op.start_after, sizeof(op.start_after), "%s",
				 page[op.nr_entries - 1].key);
	} while (op.truncated);
	store_close(s);
	free(page);
	if (!r->nr_pieces)
		errx(EXIT_USE, "%s holds no pack of %llu bytes", url, (unsigned long long)piece);
}

static inline size_t reference_drop(char *data __unused, size_t size, size_t n, void *arg)
{
	struct reference_download *d = arg;

	d->got += size * n;
	return size * n;
}

static inline void reference_header(struct reference_download *d, const char *name,
				    const char *value)
{
	char line[S3_AUTH_LEN + 64];

	snprintf(line, sizeof(line), "%s: %s", name, value);
	d->headers = curl_slist_append(d->headers, line);
	if (!d->headers)
		errx(EXIT_USE, "out of memory");
}

static inline void reference_sign(const struct reference *r, struct reference_download *d,
				  const struct reference_piece *p, const char *range)
{
	static const char payload[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	char date[S3_DATE_LEN], auth[S3_AUTH_LEN];
	const struct s3_header headers[] = {
		{"host", r->target.host},
		{"range", range},
		{"x-amz-content-sha256", payload},
		{"x-amz-date", date},
	};
	struct s3_sign_in in = {
		.method = "GET",
		.path = p->path,
		.query = "",
		.headers = headers,
		.nr_headers = ARRAY_SIZE(headers),
		.payload = payload,
		.region = r->target.region,
		.date = date,
	};

	s3_date(time(NULL), date);
	if (s3_sign(&in, &r->creds, NULL, auth))
		errx(EXIT_USE, "cannot sign");
	for (size_t i = 1; i < ARRAY_SIZE(headers); i++)
		reference_header(d, headers[i].name, headers[i].value);
	reference_header(d, "authorization", auth);
}

static inline void reference_start(struct reference *r, struct reference_download *d)
{
	const struct reference_piece *p = &r->pieces[r->next_piece++ % r->nr_pieces];
	char url[2048], range[64];

	curl_slist_free_all(d->headers);
	d->headers = NULL;
	d->got = 0;
	d->want = p->len;
	snprintf(url, sizeof(url), "%s%s", r->target.base, p->path);
	snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)p->off,
		 (unsigned long long)(p->off + p->len - 1));
	reference_sign(r, d, p, range);
	curl_easy_setopt(d->easy, CURLOPT_URL, url);
	curl_easy_setopt(d->easy, CURLOPT_HTTPHEADER, d->headers);
	if (curl_multi_add_handle(r->multi, d->easy))
		errx(EXIT_USE, "curl_multi_add_handle");
}

static inline void reference_check(const struct reference_download *d, CURLcode code)
{
	long status = 0;

	curl_easy_getinfo(d->easy, CURLINFO_RESPONSE_CODE, &status);
	if (code || status / 100 != 2 || d->got != d->want)
		errx(EXIT_BROKEN, "download: %s, status %ld, %llu of %llu bytes",
		     curl_easy_strerror(code), status, (unsigned long long)d->got,
		     (unsigned long long)d->want);
}

/* Downloads the next `count` pieces, in turn over all packs; the time of it in ns. */
static inline uint64_t reference_run(struct reference *r, size_t count)
{
	uint64_t start = now_ns();
	size_t running = MIN(count, (size_t)r->connections), started = running;
	int n;

	for (size_t i = 0; i < running; i++)
		reference_start(r, &r->downloads[i]);
	while (running) {
		CURLMsg *m;

		if (curl_multi_perform(r->multi, &n))
			errx(EXIT_USE, "curl_multi_perform");
		while ((m = curl_multi_info_read(r->multi, &n))) {
			struct reference_download *d;

			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&d);
			reference_check(d, m->data.result);
			curl_multi_remove_handle(r->multi, d->easy);
			running--;
			if (started < count) {
				reference_start(r, d);
				started++;
				running++;
			}
		}
		if (running && curl_multi_poll(r->multi, NULL, 0, 60000, &n))
			errx(EXIT_USE, "curl_multi_poll");
	}
	return now_ns() - start;
}

/*
 * Find the packs of the store at `url` (the endpoint and the keys are in the environment) and open
 * the connections: the server's first answers are given before anything counts.
 */
static inline void reference_open(struct reference *r, const char *url, uint64_t first,
				  uint64_t piece, unsigned int connections)
{
	const struct store_s3_options none = {0};
	struct s3_creds_source source;
	char msg[512];

	memset(r, 0, sizeof(*r));
	r->connections = connections;
	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		errx(EXIT_USE, "libcurl");
	if (s3_target_init(&r->target, url, &none, msg, sizeof(msg)) ||
	    s3_creds_source_init(&source, &none, msg, sizeof(msg)) ||
	    s3_creds_load(&source, &r->creds, msg, sizeof(msg)))
		errx(EXIT_USE, "%s", msg);
	reference_list(r, url, first, piece);
	r->multi = curl_multi_init();
	r->downloads = zalloc_or_die(connections, sizeof(*r->downloads));
	for (unsigned int i = 0; i < connections; i++) {
		struct reference_download *d = &r->downloads[i];

		d->easy = curl_easy_init();
		if (!r->multi || !d->easy)
			errx(EXIT_USE, "out of memory");
		curl_easy_setopt(d->easy, CURLOPT_WRITEFUNCTION, reference_drop);
		curl_easy_setopt(d->easy, CURLOPT_WRITEDATA, d);
		curl_easy_setopt(d->easy, CURLOPT_PRIVATE, d);
		curl_easy_setopt(d->easy, CURLOPT_BUFFERSIZE, 512 * 1024L);
		curl_easy_setopt(d->easy, CURLOPT_TCP_NODELAY, 1L);
		curl_easy_setopt(d->easy, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(d->easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	}
	reference_run(r, connections);
}

/* A step that visits each of `n` places once before it repeats: it shares no factor with n. */
static inline uint64_t reference_stride(uint64_t n)
{
	for (uint64_t step = (n * 5 / 8) | 1;; step += 2) {
		uint64_t a = step, b = n;

		while (b) {
			uint64_t t = a % b;

			a = b;
			b = t;
		}
		if (a == 1)
			return step;
	}
}

static inline double mib_per_s(uint64_t bytes, uint64_t ns)
{
	return (double)bytes / (double)MiB / ((double)ns / (double)NSEC_PER_SEC);
}

#endif
