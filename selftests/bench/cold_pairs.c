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
#include "selftests/bench/cold_reference.h"

#include <getopt.h>

#define READ_BYTES   (1 * MiB)
#define RANDOM_BYTES 4096

static struct {
	const char *device, *store;
	uint64_t bytes, piece, seed, pairs, first, block, from;
	unsigned int connections;
} o = {.bytes = 32 * MiB, .piece = 4 * MiB, .pairs = 10, .connections = 8, .block = 64 * KiB};

static struct reference reference;

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
		       mib_per_s(count * o.piece, reference_run(&reference, count)));
		fflush(stdout);
	}
}

/* A walk over all blocks that meets each once. */
static void random_reads(uint64_t size)
{
	uint64_t blocks = size / o.block, step = reference_stride(blocks);
	uint64_t block = o.seed % blocks;

	if (o.first + o.pairs > blocks)
		errx(EXIT_USE, "%s has %llu blocks only", o.device, (unsigned long long)blocks);
	reference.next_piece = o.seed;
	for (uint64_t i = 0; i < o.first + o.pairs; i++) {
		uint64_t ours;

		block = (block + step) % blocks;
		reference.next_piece = (reference.next_piece + step) % reference.nr_pieces;
		if (i < o.first)
			continue;
		ours = read_at(block * o.block + RANDOM_BYTES, RANDOM_BYTES);
		printf("%.1f %.1f\n", (double)ours / 1e3,
		       (double)reference_run(&reference, 1) / 1e3);
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
	device = open_or_die(o.device, O_RDONLY | O_DIRECT);
	size = ROUND_DOWN(target_bytes(device, o.device, &is_block), READ_BYTES);
	buf = alloc_pages_or_die(READ_BYTES);
	if (!size)
		errx(EXIT_USE, "%s: too small", o.device);
	reference_open(&reference, o.store, 0, o.piece, o.connections);
	if (!strcmp(verb, "seq"))
		seq(size);
	else
		random_reads(size);
	return 0;
}
