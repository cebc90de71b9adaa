// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Timing events: histograms, the USDT probe, and the ring of lines; see timing.h.
 *
 * The ring is a bounded many-producers, one-consumer queue of fixed slots. A producer claims a slot
 * by one compare-and-swap of `head`, fills it and publishes it by the slot's own sequence; it
 * neither locks, waits nor allocates. The writer thread alone consumes, formats and writes. Static,
 * so that an emit that races with timing_exit() touches valid memory.
 */
#define _SDT_HAS_SEMAPHORES 1
#include "lib/timing.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/sdt.h>

#include "lib/log.h"

#define RING_SLOTS 4096u /* a power of two */
#define EXPORT_MAX 128
#define KEY_MAX    256

/* Raised by whoever attaches to the probe; while 0 the arguments are not even computed. */
unsigned short glidefs_timing_semaphore __attribute__((section(".probes"), used));

static const char *const event_names[TIMING_NR] = {
	[TIMING_CREATE_EXPORT] = "create_export",
	[TIMING_MANIFEST_FETCH] = "manifest_fetch",
	[TIMING_CACHE_HIT] = "cache_hit",
	[TIMING_SAVE_EXPORT] = "save_export",
	[TIMING_REGISTER_DEVICE] = "register_device",
	[TIMING_ATTACH_EXPORT] = "attach_export",
	[TIMING_DETACH_EXPORT] = "detach_export",
	[TIMING_DELETE_EXPORT] = "delete_export",
	[TIMING_DRAIN_EXPORT] = "drain_export",
	[TIMING_PROMOTE_EXPORT] = "promote_export",
	[TIMING_SNAPSHOT] = "snapshot",
	[TIMING_DELETE_SNAPSHOT] = "delete_snapshot",
	[TIMING_GC] = "gc",
	[TIMING_SCRUB] = "scrub",
	[TIMING_UBLK_ADD_DEV] = "ublk.add_dev",
	[TIMING_UBLK_OPEN_CDEV] = "ublk.open_cdev",
	[TIMING_UBLK_ARM_QUEUES] = "ublk.arm_queues",
	[TIMING_UBLK_SET_PARAMS] = "ublk.set_params",
	[TIMING_UBLK_START_DEV] = "ublk.start_dev",
	[TIMING_UBLK_START_DEV_PREPARE] = "ublk.start_dev.prepare",
	[TIMING_UBLK_START_DEV_WAIT] = "ublk.start_dev.wait",
	[TIMING_UBLK_START_DEV_COMMAND] = "ublk.start_dev.command",
	[TIMING_UBLK_UDEV] = "ublk.udev",
	[TIMING_UBLK_STOP_DEV] = "ublk.stop_dev",
	[TIMING_UBLK_DEL_DEV] = "ublk.del_dev",
	[TIMING_UBLK_RECOVER] = "ublk.recover",
	[TIMING_UBLK_DEVICE] = "ublk.device",
	[TIMING_OBJECT_GET] = "object.get",
	[TIMING_OBJECT_PUT] = "object.put",
	[TIMING_OBJECT_HEAD] = "object.head",
	[TIMING_OBJECT_LIST] = "object.list",
	[TIMING_OBJECT_DELETE] = "object.delete",
	[TIMING_UPLOAD] = "upload",
	[TIMING_LAYER_SWITCH] = "layer.switch",
	[TIMING_LAYER_RECOVER] = "layer.recover",
	[TIMING_LAYER_POISONED] = "layer.poisoned",
	[TIMING_VOLUME_FENCED] = "volume.fenced",
	[TIMING_IO_SLOW] = "io.slow",
};

static const char *const stage_names[] = {
	[TIMING_STAGE_LOCAL] = "local",
	[TIMING_STAGE_FLUSH] = "flush",
	[TIMING_STAGE_SPACE] = "space",
	[TIMING_STAGE_STORE] = "store",
};

static const uint64_t hist_bounds_us[] = {
	10,     20,      50,      100,     200,      500,      1000,
	2000,   5000,    10000,   20000,   50000,    100000,   200000,
	500000, 1000000, 2000000, 5000000, 10000000, 30000000, 60000000,
};

/* One more than the bounds, for +Inf; must fit the snapshot. */
#define HIST_BUCKETS (ARRAY_SIZE(hist_bounds_us) + 1)
_Static_assert(HIST_BUCKETS <= 24, "timing_hist_snapshot.buckets");
_Static_assert(ARRAY_SIZE(event_names) == TIMING_NR, "each event has a name");

struct hist {
	_Atomic uint64_t count, errors, sum_ns;
	_Atomic uint64_t bucket[HIST_BUCKETS];
};

/* Slot `seq`: == position: free for the producer of that position; position + 1: filled. */
struct slot {
	_Atomic uint64_t seq;
	struct timing_rec rec; /* export_ and key point into this slot, or are NULL */
	uint64_t wall_ns;
	char export_[EXPORT_MAX];
	char key[KEY_MAX];
};

static struct hist hists[TIMING_NR];
static struct slot ring[RING_SLOTS];
static _Atomic uint64_t ring_head; /* next position to claim */
static uint64_t ring_tail;         /* next position to consume: writer's */
static _Atomic uint64_t dropped;
static _Atomic uint64_t next_op = 1;
static _Atomic bool running, stopping, sleeping;
static int out_fd = -1, wake_fd = -1;
static bool out_owned;
static uint64_t dropped_before; /* at init: drops since then are told in the log */
static pthread_t writer;

const char *timing_event_name(enum timing_event e)
{
	return (unsigned int)e < TIMING_NR ? event_names[e] : "unknown";
}

const char *timing_stage_name(enum timing_io_stage stage)
{
	return (unsigned int)stage < ARRAY_SIZE(stage_names) ? stage_names[stage] : "unknown";
}

uint64_t timing_op_id(void)
{
	return atomic_fetch_add_explicit(&next_op, 1, memory_order_relaxed);
}

uint64_t timing_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
}

static void hist_add(enum timing_event e, uint64_t dur_ns, bool error)
{
	struct hist *h = &hists[e];
	uint64_t us = dur_ns / NSEC_PER_USEC;
	unsigned int b = 0;

	while (b < ARRAY_SIZE(hist_bounds_us) && us > hist_bounds_us[b])
		b++;
	atomic_fetch_add_explicit(&h->bucket[b], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_ns, dur_ns, memory_order_relaxed);
	if (error)
		atomic_fetch_add_explicit(&h->errors, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
}

void timing_hist_read(enum timing_event e, struct timing_hist_snapshot *out)
{
	struct hist *h = &hists[e];

	*out = (struct timing_hist_snapshot){
		.name = timing_event_name(e),
		.bounds_us = hist_bounds_us,
		.nr_bounds = ARRAY_SIZE(hist_bounds_us),
		.errors = atomic_load_explicit(&h->errors, memory_order_relaxed),
		.sum_us = atomic_load_explicit(&h->sum_ns, memory_order_relaxed) / NSEC_PER_USEC,
	};
	/* The count is the sum of the buckets, so that one exposition never contradicts itself. */
	for (unsigned int i = 0; i < HIST_BUCKETS; i++) {
		out->buckets[i] = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
		out->count += out->buckets[i];
	}
}

/*
 * Probe glidefs:timing. Arguments: 1 event name, 2 export or "", 3 dev_id, 4 op_id, 5 start_ns, 6
 * end_ns, 7 result, 8 key or "", 9 bytes, 10 for io.slow op << 48 | stage << 32 | queue << 16 |
 * tag, 11 sector, 12 nsectors.
 */
static void probe_fire(const struct timing_rec *r)
{
	const char *name = timing_event_name(r->event);
	const char *export_ = r->export_ ? r->export_ : "";
	const char *key = r->key ? r->key : "";
	uint64_t io = 0;

	if (r->is_io)
		io = (uint64_t)(unsigned char)r->io_op << 48 | (uint64_t)r->stage << 32 |
		     (uint64_t)r->queue << 16 | r->tag;
	DTRACE_PROBE12(glidefs, timing, name, export_, r->dev_id, r->op_id, r->start_ns, r->end_ns,
		       r->result, key, r->bytes, io, r->sector, r->nsectors);
}

/* The slot of a claimed position, or NULL when the ring is full. */
static struct slot *ring_claim(uint64_t *pos_out)
{
	uint64_t pos = atomic_load_explicit(&ring_head, memory_order_relaxed);

	for (;;) {
		struct slot *s = &ring[pos % RING_SLOTS];
		int64_t lag = (int64_t)(atomic_load_explicit(&s->seq, memory_order_acquire) - pos);

		if (lag < 0)
			return NULL; /* the writer has not freed it yet */
		if (lag > 0) {
			pos = atomic_load_explicit(&ring_head, memory_order_relaxed);
			continue;
		}
		/* A failed swap means that another producer made progress. */
		if (atomic_compare_exchange_weak_explicit(&ring_head, &pos, pos + 1,
							  memory_order_relaxed,
							  memory_order_relaxed)) {
			*pos_out = pos;
			return s;
		}
	}
}

static const char *copy_str(char *dst, size_t size, const char *src)
{
	size_t n;

	if (!src)
		return NULL;
	n = strnlen(src, size - 1);
	memcpy(dst, src, n);
	dst[n] = '\0';
	return dst;
}

static void writer_wake(void)
{
	uint64_t one = 1;

	/* Non-blocking eventfd: a full counter means that the wakeup is already pending. */
	if (write(wake_fd, &one, sizeof(one)) < 0)
		return;
}

void timing_emit(const struct timing_rec *rec)
{
	struct timing_rec r = *rec;
	uint64_t now = now_ns(), pos;
	struct slot *s;

	if ((unsigned int)r.event >= TIMING_NR)
		return;
	if (!r.end_ns)
		r.end_ns = now;
	if (!r.start_ns || r.start_ns > r.end_ns)
		r.start_ns = r.end_ns;
	hist_add(r.event, r.end_ns - r.start_ns, r.result < 0);
	if (unlikely(*(volatile unsigned short *)&glidefs_timing_semaphore))
		probe_fire(&r);
	if (!atomic_load_explicit(&running, memory_order_acquire))
		return;
	s = ring_claim(&pos);
	if (!s) {
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
		return;
	}
	s->rec = r;
	s->rec.export_ = copy_str(s->export_, sizeof(s->export_), r.export_);
	s->rec.key = copy_str(s->key, sizeof(s->key), r.key);
	s->wall_ns = wall_ns() - (now > r.end_ns ? now - r.end_ns : 0);
	/* Sequentially consistent with the writer's sleeping flag: one of the two sees the other.
	 */
	atomic_store(&s->seq, pos + 1);
	if (atomic_load(&sleeping) && atomic_exchange(&sleeping, false))
		writer_wake();
}

/* ---- the writer ---- */

/* Large enough for every member with its strings escaped (six characters for each byte). */
#define LINE_MAX_BYTES (1024 + 6 * (EXPORT_MAX + KEY_MAX))
#define BATCH_BYTES    (64 * 1024)

static size_t put_str(char *out, const char *s)
{
	char *p = out;

	*p++ = '"';
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\') {
			*p++ = '\\';
			*p++ = (char)c;
		} else if (c < 0x20 || c >= 0x7f) {
			p += sprintf(p, "\\u%04x", c);
		} else {
			*p++ = (char)c;
		}
	}
	*p++ = '"';
	return (size_t)(p - out);
}

/* One record as a JSON line into out[LINE_MAX_BYTES]. */
static size_t format_line(const struct timing_rec *r, uint64_t wall, char *out)
{
	uint64_t dur = r->end_ns - r->start_ns;
	char *p = out;

	p += sprintf(
		p,
		"{\"target\":\"glidefs.timing\",\"event\":\"%s\",\"mono_ns\":%llu,\"wall_ns\":%llu,"
		"\"start_ns\":%llu,",
		timing_event_name(r->event), (unsigned long long)r->end_ns,
		(unsigned long long)wall, (unsigned long long)r->start_ns);
	if (r->export_) {
		p += sprintf(p, "\"export\":");
		p += put_str(p, r->export_);
		*p++ = ',';
	}
	p += sprintf(p, "\"dev_id\":%d,\"op_id\":%llu,\"duration_us\":%llu.%03llu,\"result\":%d",
		     r->dev_id, (unsigned long long)r->op_id, (unsigned long long)(dur / 1000),
		     (unsigned long long)(dur % 1000), r->result);
	if (r->result < 0) {
		const char *name = strerrorname_np(-r->result);

		p += sprintf(p, ",\"error\":\"%s\"", name ? name : "unknown");
	}
	if (r->key) {
		p += sprintf(p, ",\"key\":");
		p += put_str(p, r->key);
	}
	if (r->key || r->bytes)
		p += sprintf(p, ",\"bytes\":%llu", (unsigned long long)r->bytes);
	if (r->attempt)
		p += sprintf(p, ",\"attempt\":%u", r->attempt);
	if (r->is_io) {
		char op[2] = {r->io_op, '\0'};

		p += sprintf(p, ",\"op\":");
		p += put_str(p, op);
		p += sprintf(
			p,
			",\"queue\":%u,\"tag\":%u,\"sector\":%llu,\"nsectors\":%u,\"stage\":\"%s\"",
			r->queue, r->tag, (unsigned long long)r->sector, r->nsectors,
			timing_stage_name(r->stage));
	}
	*p++ = '}';
	*p++ = '\n';
	return (size_t)(p - out);
}

static void write_batch(const char *buf, size_t len, unsigned int lines)
{
	static bool complained;

	while (len) {
		ssize_t n = write(out_fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			atomic_fetch_add_explicit(&dropped, lines, memory_order_relaxed);
			if (!complained)
				log_err("timing log: write failed (%s); lines are counted as "
					"dropped",
					strerror(errno));
			complained = true;
			return;
		}
		buf += n;
		len -= (size_t)n;
	}
	complained = false;
}

/* Say in the log itself that lines are missing in front of this point. */
static size_t format_dropped(char *out, uint64_t *told)
{
	uint64_t d = timing_dropped();
	int n;

	if (d == *told)
		return 0;
	n = sprintf(out,
		    "{\"target\":\"glidefs.timing\",\"event\":\"timing.dropped\",\"mono_ns\":%llu,"
		    "\"wall_ns\":%llu,\"dropped\":%llu,\"dropped_total\":%llu}\n",
		    (unsigned long long)now_ns(), (unsigned long long)wall_ns(),
		    (unsigned long long)(d - *told), (unsigned long long)d);
	*told = d;
	return (size_t)n;
}

/* Consume what is there into one batch. Number of lines. */
static unsigned int ring_drain(char *batch, size_t *len)
{
	unsigned int lines = 0;

	while (*len + LINE_MAX_BYTES <= BATCH_BYTES) {
		struct slot *s = &ring[ring_tail % RING_SLOTS];

		if (atomic_load(&s->seq) != ring_tail + 1)
			break;
		*len += format_line(&s->rec, s->wall_ns, batch + *len);
		atomic_store_explicit(&s->seq, ring_tail + RING_SLOTS, memory_order_release);
		ring_tail++;
		lines++;
	}
	return lines;
}

static void *writer_main(void *arg)
{
	static char batch[BATCH_BYTES + LINE_MAX_BYTES];
	uint64_t told = dropped_before;

	prctl(PR_SET_NAME, "gfs-timing");
	for (;;) {
		bool last = atomic_load(&stopping);
		size_t len = format_dropped(batch, &told);
		unsigned int lines = ring_drain(batch, &len);
		uint64_t v;

		if (len) {
			write_batch(batch, len, lines);
			continue;
		}
		if (last)
			return NULL;
		atomic_store(&sleeping, true);
		/* A producer that published before it saw the flag is seen here. */
		if (atomic_load(&ring[ring_tail % RING_SLOTS].seq) != ring_tail + 1 &&
		    !atomic_load(&stopping)) {
			struct pollfd pfd = {.fd = wake_fd, .events = POLLIN};

			poll(&pfd, 1, -1);
		}
		atomic_store(&sleeping, false);
		if (read(wake_fd, &v, sizeof(v)) < 0 && errno != EAGAIN)
			log_err("timing: wakeup read failed (%s)", strerror(errno));
	}
}

int timing_init(const char *path)
{
	int r;

	if (atomic_load(&running))
		return -EBUSY;
	out_owned = path != NULL;
	out_fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : STDERR_FILENO;
	if (out_fd < 0)
		return -errno;
	/* Kept open across exit and init: a late producer may still wake it. */
	if (wake_fd < 0) {
		wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (wake_fd < 0) {
			r = -errno;
			goto err;
		}
		for (uint64_t i = 0; i < RING_SLOTS; i++)
			atomic_store(&ring[i].seq, i);
	}
	atomic_store(&stopping, false);
	dropped_before = timing_dropped();
	r = -pthread_create(&writer, NULL, writer_main, NULL);
	if (r)
		goto err;
	atomic_store(&running, true);
	return 0;
err:
	if (out_owned && out_fd >= 0)
		close(out_fd);
	out_fd = -1;
	return r;
}

void timing_exit(void)
{
	if (!atomic_exchange(&running, false))
		return;
	atomic_store(&stopping, true);
	writer_wake();
	pthread_join(writer, NULL);
	if (out_owned)
		close(out_fd);
	out_fd = -1;
}
