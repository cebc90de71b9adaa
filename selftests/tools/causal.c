// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * causal: writes that depend on each other, over a block device whose server switches layers and
 * uploads meanwhile; and the check that an image of it is a consistent cut.
 *
 * A chain is a region of slots. Its writes are numbered 1, 2, 3, …; each is issued only after the
 * one before was acknowledged, alternately by two threads on two CPUs, so that they pass through
 * different hardware queues. Number n fills one slot, which it leaves to n + slots later. An image
 * is a cut if there is a k so that each slot holds the greatest number up to k that belongs there.
 */
#include "selftests/tools/tool.h"

#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <xxhash.h>

#define CAUSAL_MAGIC 0x6c61737561636667ull
#define CHAINS_MAX   32

struct slot_head {
	uint64_t magic, chain, n, seed, slot, sum;
};

struct geometry {
	unsigned int chains;
	uint32_t slots, slot_bytes;
	uint64_t offset, seed; /* seed 0: any, in a check */
};

struct chain {
	const struct geometry *g;
	unsigned int index;
	int fd;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint64_t acked; /* under lock */
};

struct side {
	struct chain *c;
	unsigned int parity, cpu;
};

static bool stop;  /* atomic */
static int failed; /* atomic: errno */

/* An odd factor walks through all slots of a power of two, far from each other. */
static uint32_t slot_of(const struct geometry *g, uint64_t n)
{
	return (uint32_t)(n * 2654435761u) & (g->slots - 1);
}

static uint64_t slot_offset(const struct geometry *g, unsigned int chain, uint32_t slot)
{
	return g->offset + ((uint64_t)chain * g->slots + slot) * g->slot_bytes;
}

static uint64_t head_sum(const struct slot_head *h)
{
	return XXH3_64bits(h, offsetof(struct slot_head, sum));
}

static void slot_fill(const struct geometry *g, unsigned int chain, uint64_t n, char *buf)
{
	for (uint32_t off = 0; off < g->slot_bytes; off += TOOL_SECTOR) {
		struct slot_head h = {CAUSAL_MAGIC, chain, n, g->seed, slot_of(g, n), 0};

		h.sum = head_sum(&h);
		memset(buf + off, (int)(n + off / TOOL_SECTOR) & 0xff, TOOL_SECTOR);
		memcpy(buf + off, &h, sizeof(h));
	}
}

static void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	/* On one CPU both sides share it: the order is still theirs to keep. */
	(void)sched_setaffinity(0, sizeof(set), &set);
}

static void *side_main(void *arg)
{
	struct side *s = arg;
	struct chain *c = s->c;
	const struct geometry *g = c->g;
	char *buf = alloc_pages_or_die(g->slot_bytes);

	pin(s->cpu);
	for (;;) {
		uint64_t n;
		int r;

		pthread_mutex_lock(&c->lock);
		while ((c->acked + 1) % 2 != s->parity && !__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
			pthread_cond_wait(&c->cond, &c->lock);
		n = c->acked + 1;
		pthread_mutex_unlock(&c->lock);
		if (__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
			break;
		slot_fill(g, c->index, n, buf);
		r = pwrite_all(c->fd, buf, g->slot_bytes, slot_offset(g, c->index, slot_of(g, n)));
		if (r) {
			fprintf(stderr, "causal: write %llu of chain %u: %s\n",
				(unsigned long long)n, c->index, strerror(-r));
			__atomic_store_n(&failed, -r, __ATOMIC_RELEASE);
			break;
		}
		pthread_mutex_lock(&c->lock);
		c->acked = n;
		pthread_cond_broadcast(&c->cond);
		pthread_mutex_unlock(&c->lock);
	}
	free(buf);
	return NULL;
}

static uint64_t acked(struct chain *c)
{
	SCOPED_LOCK(&c->lock);
	return c->acked;
}

static void run_status(const char *path, struct chain *chains, unsigned int nr)
{
	uint64_t least = UINT64_MAX, total = 0;

	for (unsigned int i = 0; i < nr; i++) {
		uint64_t n = acked(&chains[i]);

		least = MIN(least, n);
		total += n;
	}
	status_write(path, "least=%llu total=%llu\n", (unsigned long long)least,
		     (unsigned long long)total);
}

static int run(struct geometry *g, int fd, unsigned int seconds, const char *status)
{
	static struct chain chains[CHAINS_MAX];
	static struct side sides[CHAINS_MAX][2];
	pthread_t th[CHAINS_MAX][2];
	uint64_t end_ns = seconds ? now_ns() + seconds * NSEC_PER_SEC : UINT64_MAX;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	sigset_t set;
	bool over = false;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (unsigned int i = 0; i < g->chains; i++) {
		struct chain *c = &chains[i];

		*c = (struct chain){.g = g, .index = i, .fd = fd};
		pthread_mutex_init(&c->lock, NULL);
		pthread_cond_init(&c->cond, NULL);
		for (unsigned int k = 0; k < 2; k++) {
			sides[i][k] = (struct side){c, k, (k + i) % (unsigned int)cpus};
			if (pthread_create(&th[i][k], NULL, side_main, &sides[i][k]))
				errx(EXIT_USE, "no thread");
		}
	}
	while (!over && !__atomic_load_n(&failed, __ATOMIC_ACQUIRE)) {
		const struct timespec tick = {0, 200000000};

		over = sigtimedwait(&set, NULL, &tick) > 0 || now_ns() >= end_ns;
		run_status(status, chains, g->chains);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < g->chains; i++) {
		pthread_mutex_lock(&chains[i].lock);
		pthread_cond_broadcast(&chains[i].cond);
		pthread_mutex_unlock(&chains[i].lock);
	}
	for (unsigned int i = 0; i < g->chains; i++)
		for (unsigned int k = 0; k < 2; k++)
			pthread_join(th[i][k], NULL);
	run_status(status, chains, g->chains);
	printf("causal: %u chains, first one up to %llu, seed %llu\n", g->chains,
	       (unsigned long long)acked(&chains[0]), (unsigned long long)g->seed);
	return failed ? EXIT_BROKEN : 0;
}

/* ---- check ---- */

/* The number in a slot, 0 if it was never written; false: nothing that was ever written there. */
static bool slot_read(const struct geometry *g, unsigned int chain, uint32_t slot, const char *buf,
		      uint64_t *n)
{
	struct slot_head first, h;

	*n = 0;
	if (is_zero(buf, g->slot_bytes))
		return true;
	memcpy(&first, buf, sizeof(first));
	*n = first.n;
	for (uint32_t off = 0; off < g->slot_bytes; off += TOOL_SECTOR) {
		memcpy(&h, buf + off, sizeof(h));
		if (h.magic != CAUSAL_MAGIC || h.sum != head_sum(&h) || h.chain != chain ||
		    h.slot != slot || slot_of(g, h.n) != slot || h.n != first.n ||
		    (g->seed && h.seed != g->seed)) {
			fprintf(stderr,
				"chain %u slot %u, offset %llu: torn or foreign (number %llu, "
				"first %llu)\n",
				chain, slot, (unsigned long long)slot_offset(g, chain, slot) + off,
				(unsigned long long)h.n, (unsigned long long)first.n);
			return false;
		}
	}
	return true;
}

static unsigned int chain_check(const struct geometry *g, int fd, unsigned int chain,
				uint64_t *k_out)
{
	size_t len = (size_t)g->slots * g->slot_bytes;
	char *buf = alloc_pages_or_die(len);
	uint64_t *have = zalloc_or_die(g->slots, sizeof(*have)), k = 0;
	unsigned int bad = 0;
	int r = pread_all(fd, buf, len, slot_offset(g, chain, 0));

	if (r)
		errx(EXIT_USE, "chain %u cannot be read: %s", chain, strerror(-r));
	for (uint32_t s = 0; s < g->slots; s++) {
		if (!slot_read(g, chain, s, buf + (size_t)s * g->slot_bytes, &have[s]))
			bad++;
		k = MAX(k, have[s]);
	}
	/* The last `slots` numbers up to k, each in its slot; before the first round, nothing. */
	for (uint64_t n = k > g->slots ? k - g->slots + 1 : 1; n <= k; n++) {
		uint32_t s = slot_of(g, n);

		if (have[s] == n)
			continue;
		if (bad++ < 10)
			fprintf(stderr,
				"chain %u: the image holds write %llu but not write %llu, which "
				"was "
				"acknowledged before it was issued: slot %u at offset %llu has "
				"%llu\n",
				chain, (unsigned long long)k, (unsigned long long)n, s,
				(unsigned long long)slot_offset(g, chain, s),
				(unsigned long long)have[s]);
	}
	free(have);
	free(buf);
	*k_out = k;
	return bad;
}

static int check(const struct geometry *g, int fd, uint64_t least)
{
	unsigned int bad = 0;

	printf("causal: prefixes");
	for (unsigned int i = 0; i < g->chains; i++) {
		uint64_t k;

		bad += chain_check(g, fd, i, &k);
		printf(" %llu", (unsigned long long)k);
		if (k < least) {
			fprintf(stderr, "chain %u ends at %llu, at least %llu was promised\n", i,
				(unsigned long long)k, (unsigned long long)least);
			bad++;
		}
	}
	printf(": %s\n", bad ? "FAILED" : "ok");
	return bad ? EXIT_BROKEN : 0;
}

static const char usage_text[] =
	"usage: causal run   --device DEV [--seconds N] [--status FILE] [options]\n"
	"       causal check --device DEV|IMAGE [--least K] [options]\n"
	"\n"
	"  --chains N (4) --slots N (256, a power of two) --slot-bytes N (4096)\n"
	"  --offset N (0) of the first chain on the device\n"
	"  --seed N (1)\n"
	"run: each chain writes 1, 2, 3, …, each after the one before was acknowledged, from two "
	"CPUs in\n"
	"turn, until SIGTERM or --seconds. check: each chain of the image must be a prefix, and "
	"hold K.\n"
	"Exit status: 0 kept, 1 broken, 2 bad use.\n";

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"device", 1, NULL, 'd'}, {"seconds", 1, NULL, 't'}, {"status", 1, NULL, 'S'},
		{"chains", 1, NULL, 'c'}, {"slots", 1, NULL, 'n'},   {"slot-bytes", 1, NULL, 'b'},
		{"offset", 1, NULL, 'o'}, {"seed", 1, NULL, 's'},    {"least", 1, NULL, 'k'},
		{NULL, 0, NULL, 0},
	};
	struct geometry g = {.chains = 4, .slots = 256, .slot_bytes = 4096, .seed = 1};
	const char *verb = argc > 1 ? argv[1] : "", *device = NULL, *status = NULL;
	bool checking = !strcmp(verb, "check"), is_block;
	uint64_t seconds = 0, least = 0;
	int c, fd;

	if (!strcmp(verb, "--help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (!checking && strcmp(verb, "run")) {
		fputs(usage_text, stderr);
		return EXIT_USE;
	}
	while ((c = getopt_long(argc - 1, argv + 1, "", longs, NULL)) != -1) {
		uint64_t v = c == '?' || c == 'd' || c == 'S' ? 0 : parse_size("number", optarg);

		switch (c) {
		case 'd':
			device = optarg;
			break;
		case 'S':
			status = optarg;
			break;
		case 't':
			seconds = v;
			break;
		case 'c':
			g.chains = (unsigned int)v;
			break;
		case 'n':
			g.slots = (uint32_t)v;
			break;
		case 'b':
			g.slot_bytes = (uint32_t)v;
			break;
		case 'o':
			g.offset = v;
			break;
		case 's':
			g.seed = v;
			break;
		case 'k':
			least = v;
			break;
		default:
			fputs(usage_text, stderr);
			return EXIT_USE;
		}
	}
	if (!device || !g.chains || g.chains > CHAINS_MAX || !g.slots ||
	    (g.slots & (g.slots - 1)) || !g.slot_bytes || g.slot_bytes % TOOL_SECTOR ||
	    g.offset % TOOL_SECTOR) {
		fputs(usage_text, stderr);
		return EXIT_USE;
	}
	fd = open_or_die(device, (checking ? O_RDONLY : O_RDWR) | O_DIRECT);
	if (slot_offset(&g, g.chains, 0) > target_bytes(fd, device, &is_block))
		errx(EXIT_USE, "%s: too small", device);
	return checking ? check(&g, fd, least) : run(&g, fd, (unsigned int)seconds, status);
}
