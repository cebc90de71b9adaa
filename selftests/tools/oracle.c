// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * oracle: writes a block device at random from many threads, keeps the truth about it elsewhere,
 * and judges what the device holds.
 *
 * It goes on while the device's server dies and comes back: requests wait in the kernel meanwhile.
 * SIGUSR1 stops the writers (each ends its request first), reads back everything touched since the
 * last check, and lets them go on; sent while the server is dead, the check sees exactly what was
 * acknowledged before, and what was in flight. SIGTERM ends it.
 *
 * A sector has one request in flight at most (busy bitmap, under `lock`, as the log of what awaits
 * a flush); neighbouring sectors of one 4 KiB page have many. Threads that write through the page
 * cache have a zone of their own at the end of the device.
 */
#include "selftests/tools/oracle_verify.h"

#include <getopt.h>
#include <signal.h>
#include <sys/uio.h>

struct options {
	const char *device, *truth, *journal, *status;
	uint64_t seed, ops, seconds, max_bytes, rate, limit, position, journal_bytes, granularity;
	unsigned int threads, buffered, read, discard, zeroes, flush, fua;
	bool fill, tolerate, strict_edges, after_power_loss, settle, no_buffered;
};

/* Acknowledged, and not covered by a flush yet. */
struct unflushed {
	uint64_t seq, sector;
	uint32_t n;
	bool zero;
};

struct oracle {
	struct options o;
	struct truth *t;
	struct journal *j;
	int direct_fd, buffered_fd;
	bool is_block;
	uint64_t nr_sectors, direct_sectors; /* the rest is the buffered zone */
	struct scan scan;

	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint64_t *busy;    /* bitmap of sectors; under lock */
	uint64_t *touched; /* bitmap of 4 KiB pages since the last check; under lock */
	struct unflushed *log;
	size_t log_nr, log_cap;
	uint64_t log_base, log_done; /* position of log[0]; first one not flushed */
	unsigned int parked, ended;  /* writers */
	bool pause, stop;

	/* Atomic. */
	uint64_t counter, acked, reads, flushes, errors, max_ns;
	unsigned int checks;
	bool failed;
};

static struct oracle oracle = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.cond = PTHREAD_COND_INITIALIZER,
	.scan.report_lock = PTHREAD_MUTEX_INITIALIZER,
};

struct writer {
	unsigned int index;
	bool buffered;
	struct prng prng;
	char *buf;
};

/* ---- ranges ---- */

struct range {
	uint64_t sector;
	uint32_t n;
};

static bool range_try_lock(struct oracle *o, const struct range *r)
{
	SCOPED_LOCK(&o->lock);
	for (uint64_t s = r->sector; s < r->sector + r->n; s++)
		if (o->busy[s / 64] >> (s % 64) & 1)
			return false;
	for (uint64_t s = r->sector; s < r->sector + r->n; s++)
		o->busy[s / 64] |= 1ull << (s % 64);
	return true;
}

static void range_unlock_locked(struct oracle *o, const struct range *r)
{
	for (uint64_t s = r->sector; s < r->sector + r->n; s++)
		o->busy[s / 64] &= ~(1ull << (s % 64));
}

/* Half of the requests fall on a sixteenth of the zone, so that versions pile up. */
static struct range range_pick(struct oracle *o, struct writer *w, uint32_t n, uint32_t align)
{
	uint64_t zone = w->buffered ? o->direct_sectors : 0;
	uint64_t len = w->buffered ? o->nr_sectors - o->direct_sectors : o->direct_sectors;
	uint64_t hot = MAX(len / 16, (uint64_t)64), off = 0;

	n = (uint32_t)MIN((uint64_t)n, hot);
	if (prng_percent(&w->prng, 50)) {
		off = len / 16 * (o->t->seed % 15);
		len = hot;
	}
	off += prng_below(&w->prng, len - n + 1);
	return (struct range){zone + off / align * align, n};
}

static struct range range_lock_random(struct oracle *o, struct writer *w, uint32_t n,
				      uint32_t align)
{
	for (;;) {
		struct range r = range_pick(o, w, n, align);

		if (range_try_lock(o, &r))
			return r;
	}
}

static const struct {
	unsigned int weight;
	uint32_t min, max, align; /* sectors; max 0 = --max-bytes */
} sizes[] = {
	{30, 1, 1, 1}, {30, 8, 8, 8}, {17, 1, 16, 1}, {15, 128, 128, 8}, {4, 1, 0, 1}, {4, 8, 0, 8},
};

static struct range pick_sized(struct oracle *o, struct writer *w)
{
	unsigned int dice = (unsigned int)prng_below(&w->prng, 100);
	uint32_t max = (uint32_t)(o->o.max_bytes / TOOL_SECTOR), n;
	size_t i = 0;

	while (i + 1 < ARRAY_SIZE(sizes) && dice >= sizes[i].weight)
		dice -= sizes[i++].weight;
	n = sizes[i].min;
	n += (uint32_t)prng_below(&w->prng, (sizes[i].max ? sizes[i].max : max) - n + 1);
	n = MIN(n, max);
	return range_lock_random(o, w, n, MIN(sizes[i].align, n));
}

/* ---- what was acknowledged, what was flushed ---- */

static void log_append_locked(struct oracle *o, const struct unflushed *u)
{
	uint64_t gone = o->log_done - o->log_base;

	if (gone > 65536 && gone * 2 > o->log_nr) {
		o->log_nr -= gone;
		memmove(o->log, o->log + gone, o->log_nr * sizeof(*o->log));
		o->log_base = o->log_done;
	}
	if (o->log_nr == o->log_cap) {
		o->log_cap = MAX(o->log_cap * 2, (size_t)4096);
		o->log = realloc(o->log, o->log_cap * sizeof(*o->log));
		if (!o->log)
			errx(EXIT_USE, "out of memory");
	}
	o->log[o->log_nr++] = *u;
}

static void flushed_locked(struct oracle *o, const struct unflushed *u)
{
	uint64_t ver = u->seq << 1 | (u->zero ? VER_ZERO : 0);

	for (uint64_t s = u->sector; s < u->sector + u->n; s++)
		o->t->s[s].flushed = MAX(o->t->s[s].flushed, ver);
	if (o->j)
		journal_add(o->j, u->zero ? TRUTH_FLUSHED_ZERO : TRUTH_FLUSHED_DATA, u->seq,
			    u->sector, u->n);
}

static void latency(struct oracle *o, uint64_t start_ns)
{
	uint64_t ns = now_ns() - start_ns, max = __atomic_load_n(&o->max_ns, __ATOMIC_RELAXED);

	while (ns > max && !__atomic_compare_exchange_n(&o->max_ns, &max, ns, false,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* A request on r ended. covered: the part it changed for sure if it succeeded. */
static void request_end(struct oracle *o, const struct range *r, const struct range *covered,
			uint64_t seq, bool zero, bool durable, int res)
{
	struct unflushed u = {seq, covered->sector, covered->n, zero};

	pthread_mutex_lock(&o->lock);
	if (!res && covered->n) {
		for (uint64_t s = covered->sector; s < covered->sector + covered->n; s++)
			o->t->s[s].acked = seq << 1 | (zero ? VER_ZERO : 0);
		if (durable)
			flushed_locked(o, &u);
		else
			log_append_locked(o, &u);
	}
	for (uint64_t p = r->sector / 8; p <= (r->sector + r->n - 1) / 8; p++)
		o->touched[p / 64] |= 1ull << (p % 64);
	range_unlock_locked(o, r);
	pthread_mutex_unlock(&o->lock);
	if (!res)
		__atomic_add_fetch(&o->acked, 1, __ATOMIC_RELAXED);
	if (!res && durable && o->j)
		journal_sync(o->j);
}

static void request_failed(struct oracle *o, const char *what, const struct range *r, int res)
{
	uint64_t before = __atomic_fetch_add(&o->errors, 1, __ATOMIC_RELAXED);

	if (before < 3 || !o->o.tolerate)
		fprintf(stderr, "%s at offset %llu, %llu bytes: %s (seed %llu)\n", what,
			(unsigned long long)r->sector * TOOL_SECTOR,
			(unsigned long long)r->n * TOOL_SECTOR, strerror(-res),
			(unsigned long long)o->t->seed);
	if (!o->o.tolerate)
		__atomic_store_n(&o->failed, true, __ATOMIC_RELEASE);
	else /* a device that fails at once must not turn this into a busy loop */
		usleep(20000);
}

static uint64_t next_seq(struct oracle *o)
{
	return o->t->run << SEQ_RUN_SHIFT | __atomic_add_fetch(&o->counter, 1, __ATOMIC_RELAXED);
}

/* ---- requests ---- */

static void do_write_range(struct oracle *o, struct writer *w, const struct range *r)
{
	uint64_t seq = next_seq(o), start_ns;
	bool fua = prng_percent(&w->prng, o->o.fua);
	struct stamp *st = (struct stamp *)w->buf;
	struct iovec iov = {w->buf, (size_t)r->n * TOOL_SECTOR};
	ssize_t n;
	int res = 0;

	for (uint32_t i = 0; i < r->n; i++)
		stamp_fill(&st[i], r->sector + i, seq, o->t->seed);
	start_ns = now_ns();
	n = pwritev2(w->buffered ? o->buffered_fd : o->direct_fd, &iov, 1,
		     (off_t)(r->sector * TOOL_SECTOR), fua ? RWF_DSYNC : 0);
	if (n != (ssize_t)iov.iov_len)
		res = n < 0 ? -errno : -EIO;
	latency(o, start_ns);
	request_end(o, r, r, seq, false, fua, res);
	if (res)
		request_failed(o, fua ? "write with FUA" : "write", r, res);
}

static void do_write(struct oracle *o, struct writer *w)
{
	struct range r = pick_sized(o, w);

	do_write_range(o, w, &r);
}

enum zero_how { ZERO_DISCARD, ZERO_OUT, ZERO_PUNCH, ZERO_RANGE };
static const char *const zero_names[] = {"BLKDISCARD", "BLKZEROOUT", "punch hole", "zero range"};

static int zero_issue(struct oracle *o, enum zero_how how, const struct range *r,
		      const struct range *inner)
{
	uint64_t arg[2] = {r->sector * TOOL_SECTOR, (uint64_t)r->n * TOOL_SECTOR};
	int mode = FALLOC_FL_KEEP_SIZE |
		   (how == ZERO_RANGE ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE);

	if (how == ZERO_DISCARD && !o->is_block) {
		arg[0] = inner->sector * TOOL_SECTOR;
		arg[1] = (uint64_t)inner->n * TOOL_SECTOR;
		if (!inner->n)
			return 0;
	}
	if (o->is_block && how <= ZERO_OUT)
		return ioctl(o->direct_fd, how == ZERO_DISCARD ? BLKDISCARD : BLKZEROOUT, arg)
			       ? -errno
			       : 0;
	return fallocate(o->direct_fd, mode, (off_t)arg[0], (off_t)arg[1]) ? -errno : 0;
}

static void do_zero(struct oracle *o, struct writer *w, enum zero_how how)
{
	uint32_t max = (uint32_t)(o->o.max_bytes * 4 / TOOL_SECTOR);
	bool aligned = prng_percent(&w->prng, 40);
	uint32_t n = 1 + (uint32_t)prng_below(&w->prng, prng_percent(&w->prng, 50) ? 32 : max);
	struct range r = range_lock_random(o, w, aligned ? ROUND_UP(n, 8u) : n, aligned ? 8 : 1);
	uint64_t seq = next_seq(o), g = o->o.granularity / TOOL_SECTOR, start_ns;
	uint64_t first = ROUND_UP(r.sector, g), end = ROUND_DOWN(r.sector + r.n, g);
	struct range inner = r;
	int res;

	if (how == ZERO_DISCARD)
		inner = (struct range){first, end > first ? (uint32_t)(end - first) : 0};
	/* Before the request: from here on zeros may be found. */
	for (uint64_t s = r.sector; s < r.sector + r.n; s++) {
		bool edge = s < inner.sector || s >= inner.sector + inner.n;

		if (!edge || !o->o.strict_edges)
			o->t->s[s].zero_issued = seq;
	}
	if (o->j) {
		journal_add(o->j, TRUTH_ZERO_ISSUED, seq, r.sector, r.n);
		journal_sync(o->j);
	}
	start_ns = now_ns();
	res = zero_issue(o, how, &r, &inner);
	latency(o, start_ns);
	request_end(o, &r, &inner, seq, true, false, res);
	if (res)
		request_failed(o, zero_names[how], &r, res);
}

static void do_read(struct oracle *o, struct writer *w)
{
	struct range r = pick_sized(o, w);
	uint64_t start_ns = now_ns();
	int res = pread_all(w->buffered ? o->buffered_fd : o->direct_fd, w->buf,
			    (size_t)r.n * TOOL_SECTOR, r.sector * TOOL_SECTOR);

	latency(o, start_ns);
	for (uint32_t i = 0; !res && i < r.n; i++)
		scan_sector(&o->scan, r.sector + i, w->buf + (size_t)i * TOOL_SECTOR,
			    w->buffered ? "read through the page cache while writing"
					: "read by O_DIRECT while writing");
	pthread_mutex_lock(&o->lock);
	range_unlock_locked(o, &r);
	pthread_mutex_unlock(&o->lock);
	if (res)
		request_failed(o, "read", &r, res);
	else
		__atomic_add_fetch(&o->reads, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&o->scan.broken, __ATOMIC_RELAXED))
		__atomic_store_n(&o->failed, true, __ATOMIC_RELEASE);
}

static void do_flush(struct oracle *o, int fd)
{
	static const struct range whole;
	uint64_t start_ns, end;
	int res;

	pthread_mutex_lock(&o->lock);
	end = o->log_base + o->log_nr;
	pthread_mutex_unlock(&o->lock);
	start_ns = now_ns();
	res = fsync(fd) ? -errno : 0;
	latency(o, start_ns);
	if (res) {
		request_failed(o, "fsync", &whole, res);
		return;
	}
	pthread_mutex_lock(&o->lock);
	/* A flush that began later may have ended before. */
	for (; o->log_done < end; o->log_done++)
		flushed_locked(o, &o->log[o->log_done - o->log_base]);
	pthread_mutex_unlock(&o->lock);
	if (o->j)
		journal_sync(o->j);
	__atomic_add_fetch(&o->flushes, 1, __ATOMIC_RELAXED);
}

/* ---- writers ---- */

/* False: the end. Parks while a check runs. */
static bool may_go_on(struct oracle *o)
{
	bool go;

	pthread_mutex_lock(&o->lock);
	if (o->pause && !o->stop) {
		o->parked++;
		pthread_cond_broadcast(&o->cond);
		while (o->pause && !o->stop)
			pthread_cond_wait(&o->cond, &o->lock);
		o->parked--;
	}
	go = !o->stop;
	pthread_mutex_unlock(&o->lock);
	return go && !__atomic_load_n(&o->failed, __ATOMIC_ACQUIRE);
}

/* Every sector once, in order; threads share the work by stride. */
static void fill(struct oracle *o, struct writer *w)
{
	uint32_t step = (uint32_t)(o->o.max_bytes / TOOL_SECTOR);

	for (uint64_t s = (uint64_t)w->index * step; s < o->nr_sectors;
	     s += (uint64_t)o->o.threads * step) {
		struct range r = {s, (uint32_t)MIN((uint64_t)step, o->nr_sectors - s)};

		while (!range_try_lock(o, &r))
			usleep(1000);
		do_write_range(o, w, &r);
		if (!may_go_on(o))
			return;
	}
}

static void one_request(struct oracle *o, struct writer *w)
{
	int fd = w->buffered ? o->buffered_fd : o->direct_fd;
	unsigned int dice = (unsigned int)prng_below(&w->prng, 100);

	if (dice < o->o.flush)
		do_flush(o, fd);
	else if ((dice -= o->o.flush) < o->o.read)
		do_read(o, w);
	else if ((dice -= o->o.read) < o->o.discard && !w->buffered)
		do_zero(o, w, prng_percent(&w->prng, 70) ? ZERO_DISCARD : ZERO_PUNCH);
	else if ((dice -= o->o.discard) < o->o.zeroes && !w->buffered)
		do_zero(o, w, prng_percent(&w->prng, 70) ? ZERO_OUT : ZERO_RANGE);
	else
		do_write(o, w);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	struct oracle *o = &oracle;
	uint64_t done = 0, share = DIV_ROUND_UP(o->o.ops, o->o.threads + o->o.buffered);

	w->buf = alloc_pages_or_die(o->o.max_bytes);
	if (o->o.fill && !w->buffered)
		fill(o, w);
	while (may_go_on(o) && (!o->o.ops || done < share) &&
	       !(o->o.fill && !o->o.ops && !o->o.seconds)) {
		one_request(o, w);
		done++;
		if (o->o.rate)
			usleep((unsigned int)(prng_below(&w->prng, 2000000) *
					      (o->o.threads + o->o.buffered) / o->o.rate));
	}
	pthread_mutex_lock(&o->lock);
	o->ended++;
	pthread_cond_broadcast(&o->cond);
	pthread_mutex_unlock(&o->lock);
	return NULL;
}

/* ---- control ---- */

static void status(struct oracle *o, bool ended)
{
	status_write(o->o.status,
		     "ops=%llu acked=%llu reads=%llu flushes=%llu checks=%u errors=%llu failed=%d "
		     "ended=%d "
		     "journaled=%llu max_ms=%llu newer=%llu\n",
		     (unsigned long long)__atomic_load_n(&o->counter, __ATOMIC_RELAXED),
		     (unsigned long long)__atomic_load_n(&o->acked, __ATOMIC_RELAXED),
		     (unsigned long long)__atomic_load_n(&o->reads, __ATOMIC_RELAXED),
		     (unsigned long long)__atomic_load_n(&o->flushes, __ATOMIC_RELAXED), o->checks,
		     (unsigned long long)__atomic_load_n(&o->errors, __ATOMIC_RELAXED), o->failed,
		     ended, o->j ? (unsigned long long)o->j->synced : 0ull,
		     (unsigned long long)__atomic_load_n(&o->max_ns, __ATOMIC_RELAXED) / 1000000,
		     (unsigned long long)o->scan.newer);
}

/* Waits for the writers' requests, which may take as long as the device has no server. */
static void park_all(struct oracle *o, bool stop)
{
	pthread_mutex_lock(&o->lock);
	o->pause = true;
	o->stop = o->stop || stop;
	pthread_cond_broadcast(&o->cond);
	while (o->parked + o->ended < o->o.threads + o->o.buffered &&
	       !__atomic_load_n(&o->failed, __ATOMIC_ACQUIRE)) {
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		ts.tv_sec++;
		pthread_cond_timedwait(&o->cond, &o->lock, &ts);
	}
	pthread_mutex_unlock(&o->lock);
}

static void check_touched(struct oracle *o)
{
	park_all(o, false);
	if (!o->failed && !scan_both(&o->scan, o->direct_fd, o->buffered_fd, o->touched))
		o->failed = true;
	pthread_mutex_lock(&o->lock);
	memset(o->touched, 0, DIV_ROUND_UP(o->nr_sectors / 8 + 1, 64) * 8);
	o->checks++;
	o->pause = false;
	pthread_cond_broadcast(&o->cond);
	pthread_mutex_unlock(&o->lock);
}

static int run(struct oracle *o)
{
	unsigned int nr = o->o.threads + o->o.buffered;
	struct writer *w = zalloc_or_die(nr, sizeof(*w));
	uint64_t end_ns = o->o.seconds ? now_ns() + o->o.seconds * NSEC_PER_SEC : UINT64_MAX;
	struct prng seeds = {o->o.seed ^ o->t->run << 32};
	sigset_t set;
	bool over = false;

	o->t->run++;
	if (o->j)
		journal_add(o->j, TRUTH_START, o->t->run, o->t->seed, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (unsigned int i = 0; i < nr; i++) {
		pthread_t th;

		w[i] = (struct writer){i, i >= o->o.threads, {prng_next(&seeds)}, NULL};
		if (pthread_create(&th, NULL, writer_main, &w[i]) || pthread_detach(th))
			errx(EXIT_USE, "no thread");
	}
	while (!over && !__atomic_load_n(&o->failed, __ATOMIC_ACQUIRE)) {
		const struct timespec tick = {0, 200000000};
		int sig = sigtimedwait(&set, NULL, &tick);

		if (sig == SIGUSR1)
			check_touched(o);
		pthread_mutex_lock(&o->lock);
		over = sig == SIGTERM || sig == SIGINT || now_ns() >= end_ns || o->ended == nr;
		pthread_mutex_unlock(&o->lock);
		if (o->o.status)
			status(o, false);
	}
	park_all(o, true);
	if (!o->failed && o->o.fill)
		do_flush(o, o->direct_fd);
	if (o->scan.broken)
		o->failed = true;
	if (o->o.status)
		status(o, true);
	printf("oracle: %llu requests, %llu acknowledged, %llu flushes, %llu errors, %u checks "
	       "(%llu "
	       "sectors), slowest %llu ms, seed %llu: %s\n",
	       (unsigned long long)o->counter, (unsigned long long)o->acked,
	       (unsigned long long)o->flushes, (unsigned long long)o->errors, o->checks,
	       (unsigned long long)(o->scan.ok + o->scan.newer),
	       (unsigned long long)o->max_ns / 1000000, (unsigned long long)o->t->seed,
	       o->failed ? "FAILED" : "ok");
	fflush(stdout);
	/* Writers may hang in the kernel: do not wait for them. */
	_exit(o->failed ? EXIT_BROKEN : 0);
}

static int verify(struct oracle *o)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd >= 0) {
		if (write(fd, "1", 1) < 0)
			warn("drop_caches");
		close(fd);
	}
	o->scan.flushed_floor = o->o.after_power_loss;
	o->scan.settle = o->o.settle && !o->o.after_power_loss;
	ok = scan_both(&o->scan, o->direct_fd, o->o.no_buffered ? -1 : o->buffered_fd, NULL);
	printf("oracle: verified %llu sectors: %llu as promised, %llu newer, %llu broken, %llu "
	       "pages "
	       "unreadable, seed %llu: %s\n",
	       (unsigned long long)(o->scan.ok + o->scan.newer + o->scan.broken),
	       (unsigned long long)o->scan.ok, (unsigned long long)o->scan.newer,
	       (unsigned long long)o->scan.broken, (unsigned long long)o->scan.unreadable,
	       (unsigned long long)o->t->seed, ok ? "ok" : "FAILED");
	return ok ? 0 : EXIT_BROKEN;
}

/* ---- command line ---- */

static const char usage_text[] =
	"usage: oracle run    --device DEV --truth FILE [options]\n"
	"       oracle verify --device DEV --truth FILE | --journal FILE [options]\n"
	"       oracle position --journal FILE\n"
	"\n"
	"run: random writes, until SIGTERM, --seconds or --ops; SIGUSR1: check what was touched.\n"
	"  --truth FILE      what is known of each sector; kept, and continued by a later run\n"
	"  --journal FILE    also what was flushed, durably, on a disk that survives the power "
	"loss\n"
	"  --journal-bytes N (16M)\n"
	"  --status FILE     counters as NAME=VALUE, five times a second\n"
	"  --seed N --seconds N --ops N --rate N (requests a second, 0 = no limit)\n"
	"  --threads N (8)   by O_DIRECT\n"
	"  --buffered N (0)  through the page cache, on the last quarter of the device\n"
	"  --max-bytes N (512K) of one request\n"
	"  --limit N         random requests by O_DIRECT stay in the first N bytes\n"
	"  --read, --flush, --discard, --zeroes, --fua PERCENT (10, 3, 0, 0, 10 of the writes)\n"
	"  --granularity N (4096) of discard; what it leaves at the edges may be kept or zero,\n"
	"  --strict-edges    must be kept\n"
	"  --fill            write every sector first; alone: only that, then a flush\n"
	"  --tolerate        failed requests are counted; what they may have changed is "
	"remembered\n"
	"\n"
	"verify: reads the device by O_DIRECT, then through the page cache, after dropping it.\n"
	"  --after-power-loss  the promise is what was flushed, not what was acknowledged\n"
	"  --journal FILE [--position N]  the truth survived there; only its first N records bind\n"
	"  --settle          what was in flight and is found binds from now on\n"
	"  --no-buffered     by O_DIRECT only\n"
	"\n"
	"Exit status: 0 kept, 1 broken (offsets on standard error), 2 bad use.\n";

enum opt_type { OPT_STR, OPT_U64, OPT_UINT, OPT_FLAG };
#define OPT(n, t, f)                              \
	{                                         \
		n, t, offsetof(struct options, f) \
	}
static const struct {
	const char *name;
	enum opt_type type;
	size_t offset;
} opts[] = {
	OPT("device", OPT_STR, device),
	OPT("truth", OPT_STR, truth),
	OPT("journal", OPT_STR, journal),
	OPT("status", OPT_STR, status),
	OPT("seed", OPT_U64, seed),
	OPT("ops", OPT_U64, ops),
	OPT("seconds", OPT_U64, seconds),
	OPT("max-bytes", OPT_U64, max_bytes),
	OPT("rate", OPT_U64, rate),
	OPT("limit", OPT_U64, limit),
	OPT("position", OPT_U64, position),
	OPT("journal-bytes", OPT_U64, journal_bytes),
	OPT("granularity", OPT_U64, granularity),
	OPT("threads", OPT_UINT, threads),
	OPT("buffered", OPT_UINT, buffered),
	OPT("read", OPT_UINT, read),
	OPT("discard", OPT_UINT, discard),
	OPT("zeroes", OPT_UINT, zeroes),
	OPT("flush", OPT_UINT, flush),
	OPT("fua", OPT_UINT, fua),
	OPT("fill", OPT_FLAG, fill),
	OPT("tolerate", OPT_FLAG, tolerate),
	OPT("strict-edges", OPT_FLAG, strict_edges),
	OPT("after-power-loss", OPT_FLAG, after_power_loss),
	OPT("settle", OPT_FLAG, settle),
	OPT("no-buffered", OPT_FLAG, no_buffered),
};

static void parse_options(int argc, char **argv, struct options *o)
{
	struct option longs[ARRAY_SIZE(opts) + 1] = {0};
	int i;

	for (size_t k = 0; k < ARRAY_SIZE(opts); k++)
		longs[k] = (struct option){opts[k].name, opts[k].type != OPT_FLAG, NULL, (int)k};
	while ((i = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		char *field = (char *)o;

		if (i == '?')
			errx(EXIT_USE, "see oracle --help");
		field += opts[i].offset;
		switch (opts[i].type) {
		case OPT_STR:
			*(const char **)field = optarg;
			break;
		case OPT_U64:
			*(uint64_t *)field = parse_size(opts[i].name, optarg);
			break;
		case OPT_UINT:
			*(unsigned int *)field = (unsigned int)parse_size(opts[i].name, optarg);
			break;
		case OPT_FLAG:
			*(bool *)field = true;
			break;
		}
	}
	if (optind != argc)
		errx(EXIT_USE, "'%s' is too much; see oracle --help", argv[optind]);
	if (!o->max_bytes || o->max_bytes % TOOL_SECTOR || o->granularity % TOOL_SECTOR ||
	    !o->granularity)
		errx(EXIT_USE, "--max-bytes and --granularity must be multiples of 512");
	if (!o->threads || o->read + o->flush + o->discard + o->zeroes > 100)
		errx(EXIT_USE, "at least one thread, and at most 100 percent");
}

static void target_open(struct oracle *o)
{
	uint64_t bytes;

	if (!o->o.device)
		errx(EXIT_USE, "--device is missing");
	o->direct_fd = open_or_die(o->o.device, O_RDWR | O_DIRECT);
	o->buffered_fd = open_or_die(o->o.device, O_RDWR);
	bytes = target_bytes(o->direct_fd, o->o.device, &o->is_block);
	o->nr_sectors = bytes / TOOL_SECTOR;
	o->direct_sectors = ROUND_DOWN(o->o.buffered ? o->nr_sectors / 4 * 3 : o->nr_sectors, 8);
	if (o->o.limit)
		o->direct_sectors =
			MIN(o->direct_sectors, ROUND_DOWN(o->o.limit, 4096) / TOOL_SECTOR);
	if (o->direct_sectors < 2048)
		errx(EXIT_USE, "%s: too small", o->o.device);
}

int main(int argc, char **argv)
{
	struct oracle *o = &oracle;
	const char *verb = argc > 1 ? argv[1] : "";

	o->o = (struct options){
		.seed = now_ns() ^ (uint64_t)getpid() << 40,
		.max_bytes = 512 * KiB,
		.position = UINT64_MAX,
		.journal_bytes = 16 * MiB,
		.granularity = 4096,
		.threads = 8,
		.read = 10,
		.flush = 3,
		.fua = 10,
	};
	if (!strcmp(verb, "--help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (argc > 1)
		parse_options(argc - 1, argv + 1, &o->o);
	if (!strcmp(verb, "position") && o->o.journal) {
		printf("%llu\n", (unsigned long long)journal_read(o->o.journal, NULL, NULL));
		return 0;
	}
	if (!strcmp(verb, "run") && o->o.truth) {
		target_open(o);
		o->t = o->scan.t =
			truth_map(o->o.truth, o->nr_sectors * TOOL_SECTOR, o->o.seed, true);
		o->scan.settle = true;
		o->busy = zalloc_or_die(o->nr_sectors / 64 + 2, 8);
		o->touched = zalloc_or_die(DIV_ROUND_UP(o->nr_sectors / 8 + 1, 64), 8);
		if (o->o.journal)
			o->j = journal_create(o->o.journal, o->o.journal_bytes);
		return run(o);
	}
	if (!strcmp(verb, "verify") && (o->o.truth || o->o.journal)) {
		target_open(o);
		if (o->o.journal)
			o->t = truth_from_journal(o->o.journal, o->nr_sectors * TOOL_SECTOR,
						  o->o.position);
		else
			o->t = truth_map(o->o.truth, o->nr_sectors * TOOL_SECTOR, 0, false);
		o->scan.t = o->t;
		return verify(o);
	}
	fputs(usage_text, stderr);
	return EXIT_USE;
}
