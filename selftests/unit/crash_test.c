// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The engine killed at random moments, against an oracle in memory that outlives it: after SIGKILL
 * every acknowledged write is there; after a simulated power loss (other boot id: only the log is
 * believed) everything covered by a completed FLUSH or FUA. Uploads run all the time.
 *
 * The data file itself survives here either way; what the disk's volatile cache may lose is tried
 * with dm-log-writes in the lab. CYCLES and SEED from the environment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine_harness.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define VOL_BYTES   (24 * MiB)
#define VOL_SECTORS ((uint32_t)(VOL_BYTES / SECTOR_SIZE))
/* The first part is dealt out in stripes of 3 sectors, so that both writers meet in one 4 KiB word.
 */
#define SHARED_SECTORS 2048u
#define STRIPE         3u
#define WRITERS        2u

/* One writer per sector, one request of it at a time: versions of a sector only grow. */
struct truth {
	uint32_t started[VOL_SECTORS]; /* last version submitted; odd = zeros */
	uint32_t acked[VOL_SECTORS];
	uint32_t flushed[VOL_SECTORS];
	bool zero_since_flush[VOL_SECTORS]; /* some zero version may be newer than `flushed` */
	uint32_t version[WRITERS];          /* last used, even */
	uint64_t ops, flushes;
	bool failed;
};

struct stamp {
	uint32_t magic, sector, version, writer;
};

static struct truth *truth;
static uint64_t seed;

static uint32_t rnd(uint64_t *s)
{
	*s = *s * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(*s >> 33);
}

static void sector_fill(uint8_t *p, uint32_t sector, uint32_t version, uint32_t writer)
{
	struct stamp st = {0x676c6964, sector, version, writer};

	for (unsigned int i = 0; i < SECTOR_SIZE; i += sizeof(st))
		memcpy(p + i, &st, sizeof(st));
}

struct writer {
	struct harness *h;
	unsigned int id;
	uint64_t seed;
	pthread_t thread;
};

/* A run of sectors that belongs to this writer alone. */
static void pick(struct writer *w, uint32_t *sector, uint32_t *n)
{
	if (rnd(&w->seed) % 2) {
		uint32_t stripe = rnd(&w->seed) % (SHARED_SECTORS / STRIPE / WRITERS);
		uint32_t skip = rnd(&w->seed) % STRIPE;

		*sector = (stripe * WRITERS + w->id) * STRIPE + skip;
		*n = 1 + rnd(&w->seed) % (STRIPE - skip);
	} else {
		uint32_t room = (VOL_SECTORS - SHARED_SECTORS) / WRITERS;
		uint32_t s = rnd(&w->seed) % room;

		*n = rnd(&w->seed) % 4 ? 8 : 1 + rnd(&w->seed) % 700;
		if (rnd(&w->seed) % 4)
			s = s / 8 * 8;
		*n = MIN(*n, room - s);
		*sector = SHARED_SECTORS + w->id * room + s;
	}
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint8_t *buf = malloc(700 * SECTOR_SIZE);
	uint32_t *snap = malloc(VOL_SECTORS * sizeof(*snap));

	for (;;) {
		uint32_t kind = rnd(&w->seed) % 100, sector, n, v = truth->version[w->id] += 2;
		bool zero = kind >= 80, fua = kind % 10 == 0;
		struct hreq r;

		if (kind < 4) {
			for (uint32_t s = 0; s < VOL_SECTORS; s++)
				snap[s] = __atomic_load_n(&truth->acked[s], __ATOMIC_SEQ_CST);
			hreq_start(w->h, &r, w->id, GFS_FLUSH, 0, 0, NULL, false);
			if (hreq_wait(&r))
				break;
			/* Versions of the other writer count too: a FLUSH covers the volume. */
			for (uint32_t s = 0; s < VOL_SECTORS; s++) {
				uint32_t old =
					__atomic_load_n(&truth->flushed[s], __ATOMIC_RELAXED);

				while (old < snap[s] &&
				       !__atomic_compare_exchange_n(
					       &truth->flushed[s], &old, snap[s], false,
					       __ATOMIC_RELAXED, __ATOMIC_RELAXED))
					;
			}
			__atomic_add_fetch(&truth->flushes, 1, __ATOMIC_RELAXED);
			continue;
		}
		pick(w, &sector, &n);
		v |= zero;
		for (uint32_t i = 0; i < n; i++) {
			truth->started[sector + i] = v;
			if (zero)
				truth->zero_since_flush[sector + i] = true;
			sector_fill(buf + i * SECTOR_SIZE, sector + i, v, w->id);
		}
		hreq_start(w->h, &r, w->id,
			   !zero                                   ? GFS_WRITE
			   : kind % 2 && !(sector % 8) && !(n % 8) ? GFS_DISCARD
								   : GFS_WRITE_ZEROES,
			   sector, n, buf, fua);
		if (hreq_wait(&r))
			break;
		for (uint32_t i = 0; i < n; i++)
			__atomic_store_n(&truth->acked[sector + i], v, __ATOMIC_SEQ_CST);
		for (uint32_t i = 0; fua && i < n; i++)
			__atomic_store_n(&truth->flushed[sector + i], v, __ATOMIC_RELAXED);
		__atomic_add_fetch(&truth->ops, 1, __ATOMIC_RELAXED);
	}
	truth->failed = true;
	free(snap);
	free(buf);
	return NULL;
}

/* In the child: serve and write until killed. */
static void child_main(struct harness *h)
{
	struct writer w[WRITERS];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	h->cfg.upload_dirty_bytes = 1 * MiB;
	h->cfg.upload_age_ns = 50 * NSEC_PER_MSEC;
	harness_start(h);
	harness_open(h, "crash", CLAIM_OWN, true, NULL);
	for (unsigned int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){.h = h, .id = i, .seed = seed + i * 77777};
		pthread_create(&w[i].thread, NULL, writer_main, &w[i]);
	}
	for (;;)
		pause();
}

/* What is in this sector: a version, 0 = zeros; fails on anything else. */
static uint32_t sector_version(const uint8_t *p, uint32_t sector)
{
	static const uint8_t zeros[SECTOR_SIZE];
	struct stamp st;
	uint8_t want[SECTOR_SIZE];

	if (!memcmp(p, zeros, SECTOR_SIZE))
		return 0;
	memcpy(&st, p, sizeof(st));
	sector_fill(want, sector, st.version, st.writer);
	if (memcmp(p, want, SECTOR_SIZE))
		fail_msg("sector %u: torn or foreign content (magic %x, sector %u, version %u)",
			 sector, st.magic, st.sector, st.version);
	return st.version;
}

static void verify(struct harness *h, bool power_loss, int cycle)
{
	enum { STEP = 512 };
	uint8_t *buf = malloc(STEP * SECTOR_SIZE);

	for (uint32_t at = 0; at < VOL_SECTORS; at += STEP) {
		assert_int_equal(harness_io(h, GFS_READ, at, STEP, buf), 0);
		for (uint32_t i = 0; i < STEP; i++) {
			uint32_t s = at + i, got = sector_version(buf + i * SECTOR_SIZE, s);
			uint32_t acked = truth->acked[s], started = truth->started[s];
			uint32_t low = power_loss ? truth->flushed[s] : acked;
			bool zero_ok = !low || low % 2 || started % 2 ||
				       (power_loss && truth->zero_since_flush[s]);
			bool ok = got ? got >= low && got <= started &&
						  (power_loss || got == acked || got == started)
				      : zero_ok;

			if (!ok)
				fail_msg("cycle %d, %s, sector %u: found %s%u; acknowledged %u, "
					 "flushed "
					 "%u, started %u (odd = zeros)",
					 cycle, power_loss ? "power loss" : "SIGKILL", s,
					 got ? "version " : "zeros ", got, acked, truth->flushed[s],
					 started);
			/* From here on this is the truth. */
			if (got || low % 2 || !low)
				got = got ? got : (low % 2 ? low : 0);
			else
				got = started % 2 ? started : low | 1;
			truth->acked[s] = truth->started[s] = got;
			if (!power_loss)
				continue;
			truth->flushed[s] = MIN(truth->flushed[s], got);
			truth->zero_since_flush[s] = got % 2;
		}
	}
	free(buf);
}

static void set_boot(int n)
{
	char id[37];

	snprintf(id, sizeof(id), "%036d", n);
	setenv("GFS_BOOT_ID", id, 1);
}

static void acknowledged_and_flushed_writes_survive(void **state __unused)
{
	const char *env = getenv("CYCLES");
	int cycles = env ? atoi(env) : 40, boots = 1;
	struct harness h;

	truth = mmap(NULL, sizeof(*truth), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	assert_true(truth != MAP_FAILED);
	harness_init(&h);
	set_boot(boots);
	harness_start(&h);
	harness_create(&h, "crash", VOL_BYTES, 64 * KiB);
	harness_stop(&h);
	for (int c = 0; c < cycles; c++) {
		bool power_loss = rnd(&seed) % 3 == 0;
		uint32_t ms = 20 + rnd(&seed) % 300;
		int status;
		pid_t pid;

		pid = fork();
		assert_true(pid >= 0);
		if (!pid) {
			child_main(&h);
			_exit(0);
		}
		usleep(ms * 1000); /* the random moment itself, not a wait for something */
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail_msg("cycle %d: the engine ended by itself, status %#x", c, status);
		assert_false(truth->failed);
		if (power_loss)
			set_boot(++boots);
		harness_start(&h);
		harness_open(&h, "crash", CLAIM_OWN, true, NULL);
		verify(&h, power_loss, c);
		harness_stop(&h);
	}
	print_message("%d cycles, %d power losses, %llu writes, %llu flushes\n", cycles, boots - 1,
		      (unsigned long long)truth->ops, (unsigned long long)truth->flushes);
	assert_true(truth->ops > (uint64_t)cycles);
	/* And the same from another host after a drain. */
	harness_start(&h);
	harness_open(&h, "crash", CLAIM_OWN, true, NULL);
	harness_drain(&h);
	{
		struct fmt_err err;

		volume_lanes_remove(h.v);
		assert_int_equal(volume_release(h.v, 1, &err), 0);
		volume_close(h.v);
		free(h.lane);
		h.v = NULL;
	}
	harness_stop(&h);
	{
		struct harness b;

		harness_host(&b, &h, "b");
		harness_start(&b);
		harness_open(&b, "crash", CLAIM_OWN, false, NULL);
		verify(&b, false, cycles);
		harness_stop(&b);
	}
	harness_fini(&h);
	munmap(truth, sizeof(*truth));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(acknowledged_and_flushed_writes_survive),
	};
	const char *s = getenv("SEED");

	seed = s ? strtoull(s, NULL, 0) : now_ns();
	print_message("SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
