// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cold_engine: what cold_pairs measures, without a kernel device: the engine in this process serves
 * a volume from the store, requests are handed to its worker as a ublk queue hands them, and what
 * it would copy to the device goes to this program's memory. It tells the cost of the read path
 * where no ublk is, on the processor that is there.
 *
 * fill: make volume "cold" of --size bytes that do not compress, upload and release it.
 *
 * seq, random: open it as another host with nothing local, read, release it. A line "OURS
 * REFERENCE" per pair, for `figure`; OURS and REFERENCE are measured in turn.
 *   seq     --bytes in order, 1 MiB at a time as two requests of 512 KiB at once, --depth of
 *           them in flight, 1 as dd has it; until nothing of read-ahead is under way. MiB/s.
 *   random  4 KiB of a block that nobody has read since the volume was opened; the indexes of
 *           packs are known. REFERENCE is one GET of the bytes of one block. us.
 * write: 4 KiB writes to --pairs slices, each in a place that nobody has written, --depth of them
 * in flight, 2 s of each slice at most. Before a slice a line is read from standard input; after it
 * its writes per second are printed. Nothing is uploaded meanwhile; it all is at the end.
 *
 * What is read is what was written, or the program fails. With --memory-max, the most memory that
 * the process ever had, downloads of the reference included, must not exceed what it had before
 * the first read by more than that.
 */
#include "selftests/bench/cold_reference.h"
#include "engine/volume.h"
#include "engine/worker.h"

#include <getopt.h>

#define VOLUME       "cold"
#define READ_BYTES   (1 * MiB)
#define REQ_BYTES    (512 * KiB) /* as the block layer cuts what it gives to the device */
#define REQS         (READ_BYTES / REQ_BYTES)
#define RANDOM_BYTES 4096
#define STAMP_BYTES  4096 /* at each multiple: its own number */
#define WARM_BYTES   (16 * MiB)
#define DEPTH_MAX    32
#define SLICE_NS     (2 * NSEC_PER_SEC)
#define PATIENCE_NS  (60 * NSEC_PER_SEC)
#define PACK_HEAD    48 /* where the first block of a pack begins (Documentation/formats.rst) */

static struct {
	const char *store, *dir;
	uint64_t size, bytes, piece, pairs, cache, seed, memory_max;
	unsigned int connections, depth;
} o = {.size = GiB,
       .bytes = 256 * MiB,
       .piece = 4 * MiB,
       .pairs = 10,
       .connections = 8,
       .depth = 1};

static bool uploads = true; /* by themselves */
static struct reference reference;
static struct store *store;
static struct engine *engine;
static struct volume *volume;
static struct lane *lane; /* a reader stays on one processor, whose queue is one lane */
static uint64_t block_bytes;

/* One device request. */
struct request {
	struct gfs_req req;
	struct worker_msg msg;
	struct io *io;
	uint8_t *mem;
};

/* One read or write of the application: it waits for all of its requests. */
struct io {
	struct request r[REQS];
	uint8_t *mem;
	uint64_t off;
	pthread_mutex_t lock; /* the fields below */
	pthread_cond_t cond;
	unsigned int pending;
	int res;
};

static struct io ios[DEPTH_MAX];

static int req_copy(struct gfs_req *req, void *buf, uint32_t len, uint32_t off)
{
	struct request *r = container_of(req, struct request, req);

	if (req->op == GFS_WRITE)
		memcpy(buf, r->mem + off, len);
	else if (buf)
		memcpy(r->mem + off, buf, len);
	else
		memset(r->mem + off, 0, len);
	return 0;
}

static void req_done(struct gfs_req *req, int res)
{
	struct request *r = container_of(req, struct request, req);
	struct io *io = r->io;

	pthread_mutex_lock(&io->lock);
	if (res)
		io->res = res;
	if (!--io->pending)
		pthread_cond_signal(&io->cond);
	pthread_mutex_unlock(&io->lock);
}

/* On the worker, as the completion of a FETCH would. */
static void req_submit(struct worker *w __unused, struct worker_msg *msg)
{
	lane_submit(lane, &container_of(msg, struct request, msg)->req);
}

static void io_start(struct io *io, struct worker *w, enum gfs_op op, uint64_t off, size_t len)
{
	unsigned int n = (unsigned int)DIV_ROUND_UP(len, REQ_BYTES);

	io->off = off;
	io->res = 0;
	io->pending = n;
	for (unsigned int i = 0; i < n; i++) {
		struct request *r = &io->r[i];
		size_t part = MIN(len - i * REQ_BYTES, REQ_BYTES);

		memset(r, 0, sizeof(*r));
		r->io = io;
		r->mem = io->mem + i * REQ_BYTES;
		r->req.op = op;
		r->req.sector = (off + i * REQ_BYTES) / TOOL_SECTOR;
		r->req.nsectors = (uint32_t)(part / TOOL_SECTOR);
		r->req.copy = req_copy;
		r->req.done = req_done;
		r->msg.run = req_submit;
		worker_post(w, &r->msg);
	}
}

static void io_wait(struct io *io)
{
	uint64_t until = now_ns() + PATIENCE_NS;

	pthread_mutex_lock(&io->lock);
	while (io->pending && !cond_wait_until(&io->cond, &io->lock, until))
		;
	if (io->pending || io->res)
		errx(EXIT_BROKEN, "request at byte %llu: %s", (unsigned long long)io->off,
		     strerror(io->pending ? ETIMEDOUT : -io->res));
	pthread_mutex_unlock(&io->lock);
}

static struct worker *worker(void)
{
	return engine_workers(engine)->w[0];
}

static void stamp_check(const struct io *io, size_t len)
{
	for (size_t at = 0; at < len; at += STAMP_BYTES) {
		uint64_t want = (io->off + at) / STAMP_BYTES, got;

		memcpy(&got, io->mem + at, sizeof(got));
		if (got != want)
			errx(EXIT_BROKEN, "byte %llu has the content of byte %llu",
			     (unsigned long long)(io->off + at),
			     (unsigned long long)got * STAMP_BYTES);
	}
}

/* ---- set-up ---- */

static void engine_start(const char *host)
{
	struct store_options so = {
		.s3.max_connections = o.connections,
		.s3.probe_wait_ns = 10 * NSEC_PER_SEC,
	};
	struct engine_config cfg;
	static char cache_dir[4096], host_id[64];
	char msg[512];
	int r;

	if (store_open_with(o.store, &so, &store, msg, sizeof(msg)))
		errx(EXIT_USE, "%s", msg);
	snprintf(cache_dir, sizeof(cache_dir), "%s/%s", o.dir, host);
	snprintf(host_id, sizeof(host_id), "%s/cold-engine", host);
	engine_config_defaults(&cfg);
	cfg.cache_dir = cache_dir;
	cfg.host_id = host_id;
	cfg.io_slow_ns = UINT64_MAX;
	if (o.cache)
		cfg.cache_bytes = o.cache;
	if (!uploads)
		cfg.upload_age_ns = cfg.upload_age_min_ns = cfg.upload_dirty_bytes =
			UINT64_MAX / 16;
	r = engine_create(&cfg, store, &engine);
	if (r)
		errx(EXIT_USE, "engine: %s", strerror(-r));
	for (unsigned int i = 0; i < DEPTH_MAX; i++) {
		ios[i].mem = alloc_pages_or_die(READ_BYTES);
		pthread_mutex_init(&ios[i].lock, NULL);
		cond_init_mono(&ios[i].cond);
	}
}

static void lane_start(void)
{
	int r = volume_lane_add(volume, worker(), &lane);

	if (r)
		errx(EXIT_USE, "lane: %s", strerror(-r));
	block_bytes = volume_block_bytes(volume);
}

static void engine_end(void)
{
	struct fmt_err e = {""};

	volume_lanes_remove(volume);
	if (volume_release(volume, 1, &e))
		errx(EXIT_USE, "release: %s", e.msg);
	volume_close(volume);
	engine_destroy(engine);
	store_close(store);
}

static void fill(void)
{
	struct volume_def def = {.name = VOLUME, .size_bytes = o.size};
	struct prng rnd = {.s = o.seed};
	char etag[STORE_ETAG_MAX];
	struct fmt_err e = {""};
	struct io *io = &ios[0];
	struct root root;

	engine_start("writer");
	if (root_prepare(engine, &def, &root) || root_create(engine, &root, 0, 1, etag, &e) ||
	    volume_open(engine, VOLUME, NULL, CLAIM_OWN, false, &root, etag, 1, &volume, &e))
		errx(EXIT_USE, "create: %s", e.msg);
	lane_start();
	for (uint64_t at = 0; at < o.size; at += READ_BYTES) {
		uint64_t *p = (uint64_t *)io->mem;

		for (size_t i = 0; i < READ_BYTES / sizeof(*p); i++)
			p[i] = i * sizeof(*p) % STAMP_BYTES ? prng_next(&rnd)
							    : (at + i * sizeof(*p)) / STAMP_BYTES;
		io_start(io, worker(), GFS_WRITE, at, READ_BYTES);
		io_wait(io);
	}
	if (volume_drain(volume, 0, 1, &e))
		errx(EXIT_USE, "upload: %s", e.msg);
	engine_end();
}

static void reader_open(uint64_t first, uint64_t piece, unsigned int connections)
{
	struct fmt_err e = {""};

	engine_start("reader");
	if (volume_open(engine, VOLUME, NULL, CLAIM_OWN, false, NULL, NULL, 1, &volume, &e))
		errx(EXIT_USE, "open: %s", e.msg);
	lane_start();
	o.size = volume_size_bytes(volume);
	reference_open(&reference, o.store, first, piece, connections);
}

/* ---- memory ---- */

static uint64_t status_bytes(const char *field)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long kb = 0;
	char line[256];
	size_t n = strlen(field);

	if (!f)
		err(EXIT_USE, "/proc/self/status");
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, n) && line[n] == ':')
			kb = strtoull(line + n + 1, NULL, 10);
	fclose(f);
	return kb * KiB;
}

static void memory_check(uint64_t before)
{
	uint64_t most = status_bytes("VmHWM");
	struct engine_stats st;

	engine_stats_read(engine, &st);
	printf("# %llu GETs of %.1f KiB\n", (unsigned long long)st.fetch.gets,
	       (double)st.fetch.get_bytes / (double)KiB / (double)MAX(st.fetch.gets, (uint64_t)1));
	printf("# memory: %.1f MiB before, %.1f MiB at most\n", (double)before / (double)MiB,
	       (double)most / (double)MiB);
	if (o.memory_max && most > before + o.memory_max)
		errx(EXIT_BROKEN, "cold reads took %llu bytes of memory, %llu are allowed",
		     (unsigned long long)(most - before), (unsigned long long)o.memory_max);
}

/* ---- pairs ---- */

static bool read_ahead_over(void)
{
	struct engine_stats st;

	engine_stats_read(engine, &st);
	return !st.fetch.inflight_bytes;
}

static uint64_t seq_ours(uint64_t *at)
{
	uint64_t nr = o.bytes / READ_BYTES, start = now_ns();

	for (uint64_t i = 0; i < nr + o.depth; i++) {
		struct io *io = &ios[i % o.depth];

		if (i >= o.depth) {
			io_wait(io);
			stamp_check(io, READ_BYTES);
		}
		if (i < nr) {
			io_start(io, worker(), GFS_READ, *at, READ_BYTES);
			*at = (*at + READ_BYTES) % o.size;
		}
	}
	/* What was read ahead is paid for here; a piece like it was there at the beginning. */
	while (!read_ahead_over())
		usleep(100);
	return now_ns() - start;
}

static void seq(void)
{
	size_t count = o.bytes / o.piece;
	uint64_t at = 0;

	seq_ours(&at);
	for (uint64_t i = 0; i < o.pairs; i++) {
		double ours = mib_per_s(o.bytes, seq_ours(&at));

		printf("%.2f %.2f\n", ours,
		       mib_per_s(count * o.piece, reference_run(&reference, count)));
		fflush(stdout);
	}
}

static uint64_t random_ours(uint64_t off)
{
	uint64_t start = now_ns();

	io_start(&ios[0], worker(), GFS_READ, off, RANDOM_BYTES);
	io_wait(&ios[0]);
	start = now_ns() - start;
	stamp_check(&ios[0], RANDOM_BYTES);
	return start;
}

static void random_pairs(void)
{
	uint64_t blocks = o.size / block_bytes, warm = WARM_BYTES / block_bytes;
	uint64_t step = reference_stride(blocks), block = 0, done = 0;
	struct engine_stats st;

	for (uint64_t b = 0; b < blocks; b += warm)
		random_ours(b * block_bytes);
	if (o.pairs > blocks - DIV_ROUND_UP(blocks, warm))
		errx(EXIT_USE, "the volume has %llu blocks only", (unsigned long long)blocks);
	engine_stats_read(engine, &st);
	reference.next_piece = o.seed;
	for (uint64_t gets = st.fetch.gets; done < o.pairs;) {
		uint64_t ours;

		block = (block + step) % blocks;
		if (block % warm == 0)
			continue;
		ours = random_ours(block * block_bytes + STAMP_BYTES);
		reference.next_piece = (reference.next_piece + step) % reference.nr_pieces;
		printf("%.1f %.1f\n", (double)ours / 1e3,
		       (double)reference_run(&reference, 1) / 1e3);
		engine_stats_read(engine, &st);
		if (st.fetch.gets != gets + ++done)
			errx(EXIT_BROKEN, "%llu GETs for %llu reads",
			     (unsigned long long)(st.fetch.gets - gets), (unsigned long long)done);
	}
}

/* All 4 KiB places of the volume in an order of chance. */
static uint64_t *places_make(uint64_t n)
{
	uint64_t *place = malloc(n * sizeof(*place));
	struct prng rnd = {.s = o.seed};

	if (!place)
		errx(EXIT_USE, "no memory");
	for (uint64_t i = 0; i < n; i++)
		place[i] = i;
	for (uint64_t i = n - 1; i > 0; i--) {
		uint64_t j = prng_next(&rnd) % (i + 1), t = place[i];

		place[i] = place[j];
		place[j] = t;
	}
	return place;
}

/* Writes per second. */
static double write_slice(const uint64_t *place, uint64_t count)
{
	uint64_t start = now_ns(), started = 0;

	while (started < count && now_ns() < start + SLICE_NS) {
		struct io *io = &ios[started % o.depth];

		io_wait(io);
		memset(io->mem, (int)place[started], RANDOM_BYTES);
		io_start(io, worker(), GFS_WRITE, place[started++] * RANDOM_BYTES, RANDOM_BYTES);
	}
	for (unsigned int i = 0; i < o.depth; i++)
		io_wait(&ios[i]);
	return (double)started * 1e9 / (double)(now_ns() - start);
}

static void write_slices(void)
{
	uint64_t n = o.size / RANDOM_BYTES / MAX(o.pairs, (uint64_t)1), *place;
	char line[16];

	place = places_make(o.size / RANDOM_BYTES);
	for (uint64_t s = 0; s < o.pairs && fgets(line, sizeof(line), stdin); s++) {
		printf("%.1f\n", write_slice(place + s * n, n));
		fflush(stdout);
	}
	free(place);
}

static const char usage_text[] =
	"usage: cold_engine fill   --store URL --dir DIR [--size N (1G)]\n"
	"       cold_engine seq    --store URL --dir DIR [--pairs N (10)] [--bytes N (256M)]\n"
	"                          [--piece N (4M)] [--connections N (8)] [--depth N (1)]\n"
	"       cold_engine random --store URL --dir DIR [--pairs N (10)] [--seed N]\n"
	"       cold_engine write  --store URL --dir DIR [--pairs N (10)] [--seed N] [--depth N]\n"
	"Also: --cache BYTES of the engine (256M), --memory-max BYTES.\n"
	"Prints a line OURS REFERENCE per pair: MiB/s, or us; write: OURS, per second. The "
	"endpoint and the keys are in "
	"the\n"
	"environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).\n"
	"Exit status: 0; 1 a read or a download failed, or took too much memory; 2 bad use.\n";

static const struct {
	const char *name;
	const char **text;
	uint64_t *size;
	unsigned int *number;
} options[] = {
	{"store", .text = &o.store},
	{"dir", .text = &o.dir},
	{"size", .size = &o.size},
	{"bytes", .size = &o.bytes},
	{"piece", .size = &o.piece},
	{"pairs", .size = &o.pairs},
	{"cache", .size = &o.cache},
	{"seed", .size = &o.seed},
	{"memory-max", .size = &o.memory_max},
	{"connections", .number = &o.connections},
	{"depth", .number = &o.depth},
};

static void usage_die(void)
{
	fputs(usage_text, stderr);
	exit(EXIT_USE);
}

static void options_parse(int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(options) + 1] = {0};
	int i, c;

	for (size_t k = 0; k < ARRAY_SIZE(options); k++)
		longs[k] = (struct option){options[k].name, required_argument, NULL, 0};
	while ((c = getopt_long(argc, argv, "", longs, &i)) != -1) {
		if (c)
			usage_die();
		if (options[i].text)
			*options[i].text = optarg;
		else if (options[i].size)
			*options[i].size = parse_size(options[i].name, optarg);
		else
			*options[i].number = (unsigned int)parse_size(options[i].name, optarg);
	}
	if (optind != argc || !o.store || !o.dir || o.piece < KiB || o.bytes < o.piece ||
	    o.bytes % READ_BYTES || !o.size || o.size % READ_BYTES || !o.connections ||
	    o.connections > 256 || !o.depth || o.depth > DEPTH_MAX)
		usage_die();
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	uint64_t before;

	if (!strcmp(verb, "--help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	options_parse(argc - 1, argv + 1);
	if (!strcmp(verb, "fill")) {
		fill();
		return 0;
	}
	if (strcmp(verb, "seq") && strcmp(verb, "random") && strcmp(verb, "write"))
		usage_die();
	uploads = strcmp(verb, "write") != 0;
	if (!strcmp(verb, "random"))
		reader_open(PACK_HEAD, BLOCK_BYTES, 1);
	else
		reader_open(0, o.piece, o.connections);
	before = status_bytes("VmRSS");
	if (!strcmp(verb, "seq"))
		seq();
	else if (!strcmp(verb, "random"))
		random_pairs();
	else
		write_slices();
	memory_check(before);
	engine_end();
	return 0;
}
