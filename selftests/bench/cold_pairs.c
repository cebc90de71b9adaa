// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cold_pairs: reads of a cold volume, beside downloads of its very objects from the same server by
 * libcurl alone, in turn. A line "OURS REFERENCE" per pair, for `figure`.
 *
 * seq: OURS reads --bytes of the device in order, 1 MiB at a time by O_DIRECT, one request after
 * the other, as a copying program does; the next pair goes on where this one ended. REFERENCE
 * downloads as many bytes of the packs, whole pieces of --piece bytes, --connections at once, each
 * kept alive. Both in MiB/s: the data does not compress, so that the bytes are the same.
 *
 * random: OURS reads 4 KiB by O_DIRECT in a block nobody has read since the daemon started.
 * REFERENCE is one ranged GET of --piece bytes, on a connection that is open. Both in us.
 *
 * The reference verifies and stores nothing. One thread.
 */
#include "selftests/tools/tool.h"

#include <curl/curl.h>
#include <getopt.h>

#include "store/s3_priv.h"

#define LIST_PAGE    500
#define READ_BYTES   (1 * MiB)
#define RANDOM_BYTES 4096

static struct {
	const char *device, *store;
	uint64_t bytes, piece, seed, pairs, first, block, from;
	unsigned int connections;
} o = {.bytes = 32 * MiB, .piece = 4 * MiB, .pairs = 10, .connections = 8, .block = 64 * KiB};

struct piece {
	char *path; /* encoded */
	uint64_t off, len;
};

static struct piece *pieces;
static size_t nr_pieces, room_pieces, next_piece;
static struct s3_target target;
static struct s3_creds creds;

static void pieces_add(const struct store_list_entry *e)
{
	for (uint64_t off = 0; off < e->size; off += o.piece) {
		char *path = s3_path(&target, e->key);

		/* All of the same length: the rest of an object is left out. */
		if (e->size - off < o.piece) {
			free(path);
			break;
		}
		if (nr_pieces == room_pieces) {
			room_pieces = room_pieces ? 2 * room_pieces : 1024;
			pieces = realloc(pieces, room_pieces * sizeof(*pieces));
		}
		if (!pieces || !path)
			errx(EXIT_USE, "out of memory");
		pieces[nr_pieces++] = (struct piece){path, off, o.piece};
	}
}

static void pieces_list(void)
{
	struct store_list_entry *page = zalloc_or_die(LIST_PAGE, sizeof(*page));
	struct store_op op = {
		.type = STORE_LIST,
		.prio = STORE_PRIO_META,
		.key = "chunks/",
		.entries = page,
		.max_entries = LIST_PAGE,
	};
	char msg[512];
	struct store *s;

	if (store_open(o.store, NULL, &s, msg, sizeof(msg)))
		errx(EXIT_USE, "%s", msg);
	do {
		int r = store_run(s, &op);

		if (r)
			errx(EXIT_USE, "LIST: %s", strerror(-r));
		for (unsigned int i = 0; i < op.nr_entries; i++)
			pieces_add(&page[i]);
		if (op.nr_entries)
			snprintf(op.start_after, sizeof(op.start_after), "%s",
				 page[op.nr_entries - 1].key);
	} while (op.truncated);
	store_close(s);
	free(page);
	if (!nr_pieces)
		errx(EXIT_USE, "%s holds no pack of %llu bytes", o.store,
		     (unsigned long long)o.piece);
}

/* ---- reference ---- */

struct download {
	CURL *easy;
	struct curl_slist *headers;
	uint64_t got, want;
};

static size_t drop(char *data, size_t size, size_t n, void *arg)
{
	struct download *d = arg;

	d->got += size * n;
	return size * n;
}

static void header(struct download *d, const char *name, const char *value)
{
	char line[S3_AUTH_LEN + 64];

	snprintf(line, sizeof(line), "%s: %s", name, value);
	d->headers = curl_slist_append(d->headers, line);
	if (!d->headers)
		errx(EXIT_USE, "out of memory");
}

static void sign(struct download *d, const struct piece *p, const char *range)
{
	static const char payload[] =
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	char date[S3_DATE_LEN], auth[S3_AUTH_LEN];
	const struct s3_header headers[] = {
		{"host", target.host},
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
		.region = target.region,
		.date = date,
	};

	s3_date(time(NULL), date);
	if (s3_sign(&in, &creds, auth))
		errx(EXIT_USE, "cannot sign");
	for (size_t i = 1; i < ARRAY_SIZE(headers); i++)
		header(d, headers[i].name, headers[i].value);
	header(d, "authorization", auth);
}

/* The next piece in turn, or the one given. */
static void download_start(CURLM *multi, struct download *d, const struct piece *p)
{
	char url[2048], range[64];

	curl_slist_free_all(d->headers);
	d->headers = NULL;
	d->got = 0;
	d->want = p->len;
	snprintf(url, sizeof(url), "%s%s", target.base, p->path);
	snprintf(range, sizeof(range), "bytes=%llu-%llu", (unsigned long long)p->off,
		 (unsigned long long)(p->off + p->len - 1));
	sign(d, p, range);
	curl_easy_setopt(d->easy, CURLOPT_URL, url);
	curl_easy_setopt(d->easy, CURLOPT_HTTPHEADER, d->headers);
	if (curl_multi_add_handle(multi, d->easy))
		errx(EXIT_USE, "curl_multi_add_handle");
}

static CURLM *multi;
static struct download *downloads;

static void reference_init(void)
{
	multi = curl_multi_init();
	downloads = zalloc_or_die(o.connections, sizeof(*downloads));
	for (unsigned int i = 0; i < o.connections; i++) {
		struct download *d = &downloads[i];

		d->easy = curl_easy_init();
		if (!multi || !d->easy)
			errx(EXIT_USE, "out of memory");
		curl_easy_setopt(d->easy, CURLOPT_WRITEFUNCTION, drop);
		curl_easy_setopt(d->easy, CURLOPT_WRITEDATA, d);
		curl_easy_setopt(d->easy, CURLOPT_PRIVATE, d);
		curl_easy_setopt(d->easy, CURLOPT_BUFFERSIZE, 512 * 1024L);
		curl_easy_setopt(d->easy, CURLOPT_TCP_NODELAY, 1L);
		curl_easy_setopt(d->easy, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(d->easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	}
}

static const struct piece *piece_next(void)
{
	return &pieces[next_piece++ % nr_pieces];
}

static void download_check(const struct download *d, CURLcode code)
{
	long status = 0;

	curl_easy_getinfo(d->easy, CURLINFO_RESPONSE_CODE, &status);
	if (code || status / 100 != 2 || d->got != d->want)
		errx(EXIT_BROKEN, "download: %s, status %ld, %llu of %llu bytes",
		     curl_easy_strerror(code), status, (unsigned long long)d->got,
		     (unsigned long long)d->want);
}

/* Downloads `count` pieces; the time of it in ns. */
static uint64_t reference(size_t count)
{
	uint64_t start = now_ns();
	size_t running = MIN(count, (size_t)o.connections), started = running;
	int n;

	for (size_t i = 0; i < running; i++)
		download_start(multi, &downloads[i], piece_next());
	while (running) {
		CURLMsg *m;

		if (curl_multi_perform(multi, &n))
			errx(EXIT_USE, "curl_multi_perform");
		while ((m = curl_multi_info_read(multi, &n))) {
			struct download *d;

			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&d);
			download_check(d, m->data.result);
			curl_multi_remove_handle(multi, d->easy);
			running--;
			if (started < count) {
				download_start(multi, d, piece_next());
				started++;
				running++;
			}
		}
		if (running && curl_multi_poll(multi, NULL, 0, 60000, &n))
			errx(EXIT_USE, "curl_multi_poll");
	}
	return now_ns() - start;
}

/* ---- ours ---- */

static int device;
static char *buf;

static uint64_t read_at(uint64_t off, size_t len)
{
	uint64_t start = now_ns();
	int r = pread_all(device, buf, len, off);

	if (r)
		errx(EXIT_BROKEN, "%s: %zu bytes at %llu: %s", o.device, len,
		     (unsigned long long)off, strerror(-r));
	return now_ns() - start;
}

static double mib_per_s(uint64_t bytes, uint64_t ns)
{
	return (double)bytes / (double)MiB / ((double)ns / (double)NSEC_PER_SEC);
}

static void seq(uint64_t size)
{
	uint64_t at = o.from;

	for (uint64_t i = 0; i < o.pairs; i++) {
		size_t count = o.bytes / o.piece;
		uint64_t start = now_ns(), ours;

		for (uint64_t done = 0; done < o.bytes; done += READ_BYTES) {
			read_at(at, READ_BYTES);
			at = (at + READ_BYTES) % size;
		}
		ours = now_ns() - start;
		printf("%.2f %.2f\n", mib_per_s(o.bytes, ours),
		       mib_per_s(count * o.piece, reference(count)));
		fflush(stdout);
	}
}

/* A walk over all blocks that meets each once: a step that shares no factor with their number. */
static void random_reads(uint64_t size)
{
	uint64_t blocks = size / o.block, step = (blocks * 5 / 8) | 1;
	uint64_t block = o.seed % blocks;

	while (true) {
		uint64_t a = step, b = blocks;

		while (b) {
			uint64_t t = a % b;

			a = b;
			b = t;
		}
		if (a == 1)
			break;
		step += 2;
	}
	if (o.first + o.pairs > blocks)
		errx(EXIT_USE, "%s has %llu blocks only", o.device, (unsigned long long)blocks);
	next_piece = o.seed;
	for (uint64_t i = 0; i < o.first + o.pairs; i++) {
		uint64_t ours;

		block = (block + step) % blocks;
		next_piece = (next_piece + step) % nr_pieces;
		if (i < o.first)
			continue;
		ours = read_at(block * o.block + RANDOM_BYTES, RANDOM_BYTES);
		printf("%.1f %.1f\n", (double)ours / 1e3, (double)reference(1) / 1e3);
	}
}

static const char usage_text[] =
	"usage: cold_pairs seq    --device DEV --store URL [--pairs N (10)] [--bytes N (32M)]\n"
	"                         [--piece N (4M)] [--connections N (8)] [--from BYTE]\n"
	"       cold_pairs random --device DEV --store URL [--pairs N] [--piece N] [--seed N]\n"
	"                         [--first N: blocks to pass over, read by an earlier run]\n"
	"Prints a line OURS REFERENCE per pair: MiB/s, or us. The endpoint and the keys are in "
	"the\n"
	"environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).\n"
	"Exit status: 0; 1 a read or a download failed; 2 bad use.\n";

static void options_parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"device", required_argument, NULL, 'd'},
		{"store", required_argument, NULL, 's'},
		{"pairs", required_argument, NULL, 'n'},
		{"bytes", required_argument, NULL, 'b'},
		{"piece", required_argument, NULL, 'p'},
		{"connections", required_argument, NULL, 'c'},
		{"seed", required_argument, NULL, 'r'},
		{"first", required_argument, NULL, 'f'},
		{"from", required_argument, NULL, 'a'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'd':
			o.device = optarg;
			break;
		case 's':
			o.store = optarg;
			break;
		case 'n':
			o.pairs = parse_size("--pairs", optarg);
			break;
		case 'b':
			o.bytes = parse_size("--bytes", optarg);
			break;
		case 'p':
			o.piece = parse_size("--piece", optarg);
			break;
		case 'c':
			o.connections = (unsigned int)parse_size("--connections", optarg);
			break;
		case 'r':
			o.seed = parse_size("--seed", optarg);
			break;
		case 'f':
			o.first = parse_size("--first", optarg);
			break;
		case 'a':
			o.from = parse_size("--from", optarg);
			break;
		default:
			fputs(usage_text, stderr);
			exit(EXIT_USE);
		}
	}
	if (optind != argc || !o.device || !o.store || !o.piece || !o.connections ||
	    o.connections > 256 || o.bytes < MAX(o.piece, (uint64_t)READ_BYTES) ||
	    o.bytes % READ_BYTES || o.from % READ_BYTES) {
		fputs(usage_text, stderr);
		exit(EXIT_USE);
	}
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	const struct store_s3_options none = {0};
	struct s3_creds_source source;
	char msg[512];
	uint64_t size;
	bool is_block;

	if (!strcmp(verb, "--help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (strcmp(verb, "seq") && strcmp(verb, "random")) {
		fputs(usage_text, stderr);
		return EXIT_USE;
	}
	options_parse(argc - 1, argv + 1);
	if (curl_global_init(CURL_GLOBAL_DEFAULT))
		errx(EXIT_USE, "libcurl");
	if (s3_target_init(&target, o.store, &none, msg, sizeof(msg)) ||
	    s3_creds_source_init(&source, &none, msg, sizeof(msg)) ||
	    s3_creds_load(&source, &creds, msg, sizeof(msg)))
		errx(EXIT_USE, "%s", msg);
	device = open_or_die(o.device, O_RDONLY | O_DIRECT);
	size = ROUND_DOWN(target_bytes(device, o.device, &is_block), READ_BYTES);
	buf = alloc_pages_or_die(READ_BYTES);
	if (!size)
		errx(EXIT_USE, "%s: too small", o.device);
	pieces_list();
	reference_init();
	/* Connections are open, and the server's first answer is given, before anything counts. */
	reference(o.connections);
	if (!strcmp(verb, "seq"))
		seq(size);
	else
		random_reads(size);
	return 0;
}
