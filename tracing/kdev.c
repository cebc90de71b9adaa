// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Snapshots of ublk devices out of kernel memory; see kdev.h. Offsets come from BTF once; what
 * differs between kernels is in the table of members and in queue_addr() and owner_of(). Every
 * number read is checked: a device may be freed while it is read, and then its memory is anything.
 */
#include "tracing/kdev.h"

#include <stdio.h>
#include <string.h>

#define QUEUES_MAX  4096
#define DEPTH_MAX   4096
#define REQUEUE_MAX 256 /* requests looked at in a requeue list */
#define XA_DEPTH    8

/* struct ublk_io.flags; drivers/block/ublk_drv.c, the same since 6.0. */
#define IO_ACTIVE 0x01 /* the driver holds a FETCH */
#define IO_OWNED  0x02 /* the server has the request */

/* enum mq_rq_state */
#define RQ_COMPLETE 2

/* task_struct.flags; include/linux/sched.h */
#define PF_EXITING 0x4

/* Members that are needed; optional ones exist in some kernels only and are -ENOENT elsewhere. */
#define MEMBERS(X)                                 \
	X(ublk_device, ub_disk, 0)                 \
	X(ublk_device, dev_info, 0)                \
	X(ublk_device, tag_set, 0)                 \
	X(ublk_device, __queues, 1) /* to 6.17 */  \
	X(ublk_device, queue_size, 1)              \
	X(ublk_device, queues, 1) /* since 6.18 */ \
	X(ublk_device, ublksrv_tgid, 1)            \
	X(ublk_queue, ubq_daemon, 1) /* to 6.15 */ \
	X(ublk_queue, ios, 0)                      \
	X(ublk_io, flags, 0)                       \
	X(ublk_io, task, 1) /* since 6.16 */       \
	X(gendisk, queue, 0)                       \
	X(gendisk, part0, 0)                       \
	X(block_device, bd_nr_sectors, 1)          \
	X(request_queue, mq_freeze_depth, 0)       \
	X(request_queue, requeue_list, 1)          \
	X(blk_mq_tag_set, tags, 0)                 \
	X(blk_mq_tags, bitmap_tags, 0)             \
	X(blk_mq_tags, rqs, 0)                     \
	X(blk_mq_tags, static_rqs, 0)              \
	X(sbitmap_queue, sb, 0)                    \
	X(sbitmap, depth, 0)                       \
	X(sbitmap, shift, 0)                       \
	X(sbitmap, map_nr, 0)                      \
	X(sbitmap, map, 0)                         \
	X(sbitmap_word, word, 0)                   \
	X(sbitmap_word, cleared, 1)                \
	X(request, q, 0)                           \
	X(request, mq_hctx, 0)                     \
	X(request, cmd_flags, 0)                   \
	X(request, tag, 0)                         \
	X(request, __data_len, 0)                  \
	X(request, __sector, 0)                    \
	X(request, start_time_ns, 0)               \
	X(request, io_start_time_ns, 1)            \
	X(request, deadline, 0)                    \
	X(request, queuelist, 0)                   \
	X(request, state, 0)                       \
	X(blk_mq_hw_ctx, queue_num, 1)             \
	X(task_struct, pid, 0)                     \
	X(task_struct, tgid, 0)                    \
	X(task_struct, flags, 0)                   \
	X(task_struct, comm, 0)                    \
	X(task_struct, worker_private, 1)          \
	X(io_worker, cur_work, 1)                  \
	X(io_kiocb, work, 1)                       \
	X(io_uring_cmd, sqe, 1)                    \
	X(io_uring_cmd, cmd_op, 1)                 \
	X(idr, idr_rt, 0)                          \
	X(xarray, xa_head, 0)                      \
	X(xa_node, shift, 0)                       \
	X(xa_node, slots, 0)

enum member {
#define X(type, name, optional) M_##type##_##name,
	MEMBERS(X)
#undef X
		M_NR
};

static const struct {
	const char *type, *name;
	bool optional;
} members[M_NR] = {
#define X(type, name, optional) {#type, #name, optional},
	MEMBERS(X)
#undef X
};

/* Head of struct ublksrv_ctrl_dev_info (include/uapi/linux/ublk_cmd.h). */
struct dev_info {
	uint16_t nr_hw_queues, queue_depth, state, pad0;
	uint32_t max_io_buf_bytes, dev_id;
	int32_t ublksrv_pid;
	uint32_t pad1;
	uint64_t flags;
};

/*
 * A request of a queue with iostats off has no time of its birth: it is as old as it has been seen.
 * Its deadline changes with every issue, so a new request in the same place is not taken for the
 * old one.
 */
struct seen {
	uint64_t rq, deadline, first_ns;
};
#define SEEN_SLOTS 4096

struct kdevs {
	struct kmem *k;
	struct seen seen[SEEN_SLOTS];
	int off[M_NR];
	int io_size, rq_size, word_size;
	uint64_t idr; /* address of ublk_index_idr */
	/* One snapshot's working memory, grown as needed. */
	char *ios;
	uint64_t *rqs;
	size_t depth_room;
};

/* What a snapshot knows of the device. */
struct snap {
	struct kdevs *d;
	uint64_t ub, disk, q;
	struct dev_info info;
	struct rec rec;
	bool queue_dead; /* the thread of this queue is ending */
	void (*fn)(void *ctx, const struct rec *r);
	void *ctx;
};

#define OFF(d, type, name) ((d)->off[M_##type##_##name])
#define HAS(d, type, name) (OFF(d, type, name) >= 0)

int kdevs_open(struct kmem *k, const struct kallsyms *syms, struct kdevs **out, char *err,
	       size_t err_len)
{
	struct kdevs *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->k = k;
	for (int i = 0; i < M_NR; i++) {
		d->off[i] = kmem_offset(k, members[i].type, members[i].name);
		if (d->off[i] >= 0 || members[i].optional)
			continue;
		snprintf(err, err_len, "BTF has no %s.%s (is ublk_drv loaded, with BTF?)",
			 members[i].type, members[i].name);
		free(d);
		return -ENOENT;
	}
	d->io_size = kmem_size(k, "ublk_io");
	d->rq_size = kmem_size(k, "request");
	d->word_size = kmem_size(k, "sbitmap_word");
	d->idr = kallsyms_addr(syms, "ublk_index_idr");
	if (!d->idr || d->io_size <= 0 || d->rq_size <= 0 || d->rq_size > 4096 ||
	    d->word_size <= 0 || d->word_size > 512) {
		snprintf(err, err_len, "no address of ublk_index_idr in /proc/kallsyms");
		free(d);
		return -ENOENT;
	}
	*out = d;
	return 0;
}

void kdevs_close(struct kdevs *d)
{
	if (!d)
		return;
	free(d->ios);
	free(d->rqs);
	free(d);
}

/* ---- the index of devices: an xarray of struct ublk_device by id ---- */

#define XA_SLOTS 64

static bool xa_is_node(uint64_t entry)
{
	return (entry & 3) == 2 && entry > 4096;
}

static uint64_t xa_find(struct kdevs *d, uint64_t index)
{
	uint64_t entry = kmem_ptr(
		d->k, d->idr + (uint64_t)OFF(d, idr, idr_rt) + (uint64_t)OFF(d, xarray, xa_head));
	unsigned int shift = 0;

	if (!xa_is_node(entry))
		return index ? 0 : entry;
	for (int depth = 0; xa_is_node(entry) && depth < XA_DEPTH; depth++) {
		uint64_t node = entry - 2;
		uint8_t s;

		if (kmem_read(d->k, node + (uint64_t)OFF(d, xa_node, shift), &s, 1) || s > 58)
			return 0;
		if (!depth && index >> s >= XA_SLOTS)
			return 0;
		shift = s;
		entry = kmem_ptr(d->k, node + (uint64_t)OFF(d, xa_node, slots) +
					       8 * ((index >> shift) % XA_SLOTS));
	}
	return xa_is_node(entry) || (entry & 3) ? 0 : entry;
}

/*
 * Node `entry`, whose shift is below `above`. Each level's is smaller: memory that is no tree, or
 * no longer one, ends the search soon.
 */
static int xa_list(struct kdevs *d, uint64_t entry, uint64_t base, int32_t *ids, size_t max, int n,
		   unsigned int above)
{
	uint64_t slots[XA_SLOTS];
	uint8_t shift;

	if (kmem_read(d->k, entry - 2 + (uint64_t)OFF(d, xa_node, shift), &shift, 1) ||
	    shift >= above || shift % 6 || (above <= 24 && shift + 6u != above) ||
	    kmem_read(d->k, entry - 2 + (uint64_t)OFF(d, xa_node, slots), slots, sizeof(slots)))
		return n;
	for (uint64_t i = 0; i < XA_SLOTS && (size_t)n < max; i++) {
		if (xa_is_node(slots[i]))
			n = xa_list(d, slots[i], base + (i << shift), ids, max, n, shift);
		else if (slots[i] && !(slots[i] & 3))
			ids[n++] = (int32_t)(base + (i << shift));
	}
	return n;
}

int kdevs_list(struct kdevs *d, int32_t *ids, size_t max)
{
	uint64_t entry = kmem_ptr(
		d->k, d->idr + (uint64_t)OFF(d, idr, idr_rt) + (uint64_t)OFF(d, xarray, xa_head));

	if (!entry || !max)
		return 0;
	if (!xa_is_node(entry)) {
		ids[0] = 0;
		return 1;
	}
	return xa_list(d, entry, 0, ids, max, 0, 25);
}

/* ---- one device ---- */

static uint64_t queue_addr(const struct snap *s, uint32_t i)
{
	struct kdevs *d = s->d;

	if (HAS(d, ublk_device, queues))
		return kmem_ptr(d->k, s->ub + (uint64_t)OFF(d, ublk_device, queues) + 8ull * i);
	if (!HAS(d, ublk_device, __queues) || !HAS(d, ublk_device, queue_size))
		return 0;
	return kmem_ptr(d->k, s->ub + (uint64_t)OFF(d, ublk_device, __queues)) +
	       (uint64_t)i * kmem_u32(d->k, s->ub + (uint64_t)OFF(d, ublk_device, queue_size));
}

/* Thread that serves tag t of a queue: 0 = none yet. */
static uint64_t owner_of(const struct snap *s, uint64_t ubq, const char *ios, uint32_t t)
{
	struct kdevs *d = s->d;
	uint64_t task = 0;

	if (HAS(d, ublk_io, task))
		memcpy(&task, ios + (size_t)t * (size_t)d->io_size + OFF(d, ublk_io, task),
		       sizeof(task));
	else if (HAS(d, ublk_queue, ubq_daemon) && !s->queue_dead)
		task = kmem_ptr(d->k, ubq + (uint64_t)OFF(d, ublk_queue, ubq_daemon));
	return task;
}

static uint32_t task_tid(struct kdevs *d, uint64_t task)
{
	return task ? kmem_u32(d->k, task + (uint64_t)OFF(d, task_struct, pid)) : 0;
}

static uint32_t io_flags(struct kdevs *d, uint32_t t)
{
	uint32_t v;

	memcpy(&v, d->ios + (size_t)t * (size_t)d->io_size + OFF(d, ublk_io, flags), sizeof(v));
	return v;
}

/*
 * A server that dies leaves its marks in the driver until it is recovered: what it had armed or
 * owned counts no more.
 */
static void dead_owners_clear(struct snap *s, uint64_t ubq, uint32_t depth)
{
	struct kdevs *d = s->d;
	uint64_t last = 0;
	bool dead = false;

	s->queue_dead = false;
	for (uint32_t t = 0; t < depth; t++) {
		uint64_t task = owner_of(s, ubq, d->ios, t);

		if (!task)
			continue;
		if (task != last)
			dead = kmem_u32(d->k, task + (uint64_t)OFF(d, task_struct, flags)) &
			       PF_EXITING;
		last = task;
		if (!dead)
			continue;
		if (!HAS(d, ublk_io, task)) {
			s->queue_dead = true;
			memset(d->ios, 0, (size_t)d->io_size * depth);
			return;
		}
		memset(d->ios + (size_t)t * (size_t)d->io_size, 0, (size_t)d->io_size);
	}
}

static void snap_emit(struct snap *s, enum rec_kind kind)
{
	s->rec.kind = kind;
	s->fn(s->ctx, &s->rec);
}

static char op_char(uint32_t cmd_flags)
{
	static const char ops[] = {[0] = 'R', [1] = 'W', [2] = 'F', [3] = 'D', [9] = 'Z'};
	uint32_t op = cmd_flags & 0xff;

	return op < sizeof(ops) && ops[op] ? ops[op] : '?';
}

static uint64_t first_seen(struct kdevs *d, uint64_t rq, uint64_t deadline, uint64_t now)
{
	struct seen *s = &d->seen[(rq >> 6) % SEEN_SLOTS];

	if (s->rq != rq || s->deadline != deadline)
		*s = (struct seen){rq, deadline, now};
	return s->first_ns;
}

/* Fill and tell a request. False: it is not one of this queue that has this tag, or has ended. */
static bool req_emit(struct snap *s, uint64_t rq, uint32_t queue, uint32_t tag, uint32_t state,
		     uint32_t owner)
{
	struct kdevs *d = s->d;
	char raw[4096];
	uint32_t flags, len, rq_state, rq_op;
	uint64_t sector, start = 0, q, deadline;
	int32_t has_tag;

	if (!rq || kmem_read(d->k, rq, raw, (size_t)d->rq_size))
		return false;
	memcpy(&q, raw + OFF(d, request, q), 8);
	memcpy(&flags, raw + OFF(d, request, cmd_flags), 4);
	memcpy(&len, raw + OFF(d, request, __data_len), 4);
	memcpy(&sector, raw + OFF(d, request, __sector), 8);
	memcpy(&rq_state, raw + OFF(d, request, state), 4);
	memcpy(&start, raw + OFF(d, request, start_time_ns), 8);
	if (!start && HAS(d, request, io_start_time_ns))
		memcpy(&start, raw + OFF(d, request, io_start_time_ns), 8);
	memcpy(&deadline, raw + OFF(d, request, deadline), 8);
	memcpy(&has_tag, raw + OFF(d, request, tag), 4);
	if (q != s->q || rq_state == RQ_COMPLETE ||
	    (tag < s->info.queue_depth && has_tag != (int32_t)tag))
		return false;
	if (!start || start > s->rec.t_ns)
		start = first_seen(d, rq, deadline, s->rec.t_ns);
	rq_op = flags & 0xff;
	s->rec.req = (struct rec_req){
		.dev = (int32_t)s->info.dev_id,
		.queue = queue,
		.tag = tag,
		.op = op_char(rq_op),
		.sector = rq_op == 2 ? 0 : sector,
		.nsectors = len >> 9,
		.start_ns = start,
		.state = state,
		.owner_tid = owner,
	};
	snap_emit(s, REC_REQ);
	return true;
}

/*
 * The requests that hold the tags in use. One that the driver was given is in rqs; one that was not
 * yet, or never can be because nobody serves, is where its tag's request always is.
 */
static void tags_emit(struct snap *s, uint32_t queue, uint64_t ubq, uint32_t depth)
{
	struct kdevs *d = s->d;
	uint64_t tags_arr, tags, sb, map, fixed;
	uint32_t shift = 0, map_nr;
	char word[512];

	tags_arr = kmem_ptr(d->k, s->ub + (uint64_t)OFF(d, ublk_device, tag_set) +
					  (uint64_t)OFF(d, blk_mq_tag_set, tags));
	tags = tags_arr ? kmem_ptr(d->k, tags_arr + 8ull * queue) : 0;
	if (!tags)
		return;
	sb = tags + (uint64_t)OFF(d, blk_mq_tags, bitmap_tags) +
	     (uint64_t)OFF(d, sbitmap_queue, sb);
	shift = kmem_u32(d->k, sb + (uint64_t)OFF(d, sbitmap, shift));
	map_nr = kmem_u32(d->k, sb + (uint64_t)OFF(d, sbitmap, map_nr));
	map = kmem_ptr(d->k, sb + (uint64_t)OFF(d, sbitmap, map));
	if (shift > 6 || map_nr > DEPTH_MAX || !map)
		return;
	if (kmem_read(d->k, kmem_ptr(d->k, tags + (uint64_t)OFF(d, blk_mq_tags, rqs)), d->rqs,
		      8ull * depth))
		return;
	fixed = kmem_ptr(d->k, tags + (uint64_t)OFF(d, blk_mq_tags, static_rqs));
	for (uint32_t w = 0; w < map_nr; w++) {
		uint64_t bits, cleared = 0;

		if (kmem_read(d->k, map + (uint64_t)w * (uint64_t)d->word_size, word,
			      (size_t)d->word_size))
			return;
		memcpy(&bits, word + OFF(d, sbitmap_word, word), 8);
		if (HAS(d, sbitmap_word, cleared))
			memcpy(&cleared, word + OFF(d, sbitmap_word, cleared), 8);
		bits &= ~cleared;
		for (uint32_t b = 0; b < 1u << shift; b++) {
			uint32_t t = (w << shift) + b;
			uint32_t state, owner;

			if (!(bits >> b & 1) || t >= depth)
				continue;
			state = io_flags(d, t) & IO_OWNED   ? REQ_SERVER
				: s->info.state == DEV_LIVE ? REQ_QUEUED
							    : REQ_REQUEUED;
			owner = task_tid(d, owner_of(s, ubq, d->ios, t));
			if (!req_emit(s, d->rqs[t], queue, t, state, owner))
				req_emit(s, kmem_ptr(d->k, fixed + 8ull * t), queue, t, state,
					 owner);
		}
	}
}

/* "0-3,7" of the tags that are neither armed nor owned. Returns how many are. */
static uint32_t missing_format(struct kdevs *d, uint32_t depth, char *out, size_t size)
{
	uint32_t armed = 0;
	size_t len = 0;

	out[0] = '\0';
	for (uint32_t t = 0; t < depth;) {
		uint32_t end = t;
		int n;

		if (io_flags(d, t) & (IO_ACTIVE | IO_OWNED)) {
			armed++;
			t++;
			continue;
		}
		while (end + 1 < depth && !(io_flags(d, end + 1) & (IO_ACTIVE | IO_OWNED)))
			end++;
		n = snprintf(out + len, size - len, end > t ? "%s%u-%u" : "%s%u", len ? "," : "", t,
			     end);
		len = MIN(len + (size_t)MAX(n, 0), size - 1);
		t = end + 1;
	}
	return armed;
}

static int queue_emit(struct snap *s, uint32_t i)
{
	uint32_t depth = s->info.queue_depth;
	uint64_t ubq = queue_addr(s, i), owner = 0;
	struct kdevs *d = s->d;
	struct rec_queue *rq = &s->rec.queue;

	if (!ubq || kmem_read(d->k, ubq + (uint64_t)OFF(d, ublk_queue, ios), d->ios,
			      (size_t)d->io_size * depth))
		return -EFAULT;
	dead_owners_clear(s, ubq, depth);
	*rq = (struct rec_queue){
		.dev = (int32_t)s->info.dev_id, .queue = i, .depth = depth, .exact = true};
	rq->armed = missing_format(d, depth, rq->missing, sizeof(rq->missing));
	for (uint32_t t = 0; t < depth && !owner; t++)
		owner = owner_of(s, ubq, d->ios, t);
	rq->owner_tid = task_tid(d, owner);
	if (rq->owner_tid && kmem_read(d->k, owner + (uint64_t)OFF(d, task_struct, comm),
				       rq->owner_comm, sizeof(rq->owner_comm) - 1))
		rq->owner_comm[0] = '\0';
	snap_emit(s, REC_QUEUE);
	if (s->q)
		tags_emit(s, i, ubq, depth);
	return 0;
}

/* Requests that were given back and wait for a server hold no tag. */
static void requeued_emit(struct snap *s)
{
	struct kdevs *d = s->d;
	uint64_t head, at;

	if (!s->q || !HAS(d, request_queue, requeue_list))
		return;
	head = s->q + (uint64_t)OFF(d, request_queue, requeue_list);
	at = kmem_ptr(d->k, head);
	for (int i = 0; at && at != head && i < REQUEUE_MAX; i++) {
		uint64_t rq = at - (uint64_t)OFF(d, request, queuelist);
		uint64_t hctx = kmem_ptr(d->k, rq + (uint64_t)OFF(d, request, mq_hctx));
		uint32_t queue =
			hctx && HAS(d, blk_mq_hw_ctx, queue_num)
				? kmem_u32(d->k, hctx + (uint64_t)OFF(d, blk_mq_hw_ctx, queue_num))
				: 0;

		/* With its tag it was told with the others; else its place in the list, past all
		 * tags, tells it. */
		if ((int32_t)kmem_u32(d->k, rq + (uint64_t)OFF(d, request, tag)) < 0)
			req_emit(s, rq, queue, s->info.queue_depth + (uint32_t)i, REQ_REQUEUED, 0);
		at = kmem_ptr(d->k, at);
	}
}

static int room_for(struct kdevs *d, size_t depth)
{
	char *ios;
	uint64_t *rqs;

	if (depth <= d->depth_room)
		return 0;
	ios = realloc(d->ios, depth * (size_t)d->io_size);
	if (ios)
		d->ios = ios;
	rqs = realloc(d->rqs, depth * sizeof(*rqs));
	if (rqs)
		d->rqs = rqs;
	if (!ios || !rqs)
		return -ENOMEM;
	d->depth_room = depth;
	return 0;
}

static int info_read(struct snap *s, int32_t dev)
{
	struct kdevs *d = s->d;

	s->ub = xa_find(d, (uint64_t)dev);
	if (!s->ub)
		return -ENODEV;
	if (kmem_read(d->k, s->ub + (uint64_t)OFF(d, ublk_device, dev_info), &s->info,
		      sizeof(s->info)))
		return -EFAULT;
	if (s->info.dev_id != (uint32_t)dev || !s->info.nr_hw_queues ||
	    s->info.nr_hw_queues > QUEUES_MAX || !s->info.queue_depth ||
	    s->info.queue_depth > DEPTH_MAX)
		return -EFAULT;
	return 0;
}

int kdevs_snapshot(struct kdevs *d, int32_t dev, uint64_t t_ns,
		   void (*fn)(void *ctx, const struct rec *r), void *ctx)
{
	struct snap s = {.d = d, .rec.t_ns = t_ns, .fn = fn, .ctx = ctx};
	struct rec_dev *rd = &s.rec.dev;
	uint64_t ubq, owner = 0, part0;
	int r;

	if (dev < 0)
		return -ENODEV;
	r = info_read(&s, dev);
	if (!r)
		r = room_for(d, s.info.queue_depth);
	if (r)
		return r;
	s.disk = kmem_ptr(d->k, s.ub + (uint64_t)OFF(d, ublk_device, ub_disk));
	s.q = s.disk ? kmem_ptr(d->k, s.disk + (uint64_t)OFF(d, gendisk, queue)) : 0;
	*rd = (struct rec_dev){
		.dev = dev,
		.state = s.info.state,
		.nr_queues = s.info.nr_hw_queues,
		.depth = s.info.queue_depth,
		.flags = s.info.flags,
		.started = s.disk != 0,
		.tgid = s.info.ublksrv_pid > 0 ? (uint32_t)s.info.ublksrv_pid : 0,
	};
	if (s.q)
		rd->freeze_depth =
			kmem_u32(d->k, s.q + (uint64_t)OFF(d, request_queue, mq_freeze_depth));
	part0 = s.disk && HAS(d, block_device, bd_nr_sectors)
			? kmem_ptr(d->k, s.disk + (uint64_t)OFF(d, gendisk, part0))
			: 0;
	if (part0)
		rd->size_sectors =
			kmem_ptr(d->k, part0 + (uint64_t)OFF(d, block_device, bd_nr_sectors));
	/* Before START_DEV the driver knows the server by its threads only. */
	for (uint32_t i = 0; i < s.info.nr_hw_queues && !owner && !rd->tgid; i++) {
		ubq = queue_addr(&s, i);
		if (!ubq || kmem_read(d->k, ubq + (uint64_t)OFF(d, ublk_queue, ios), d->ios,
				      (size_t)d->io_size * s.info.queue_depth))
			return -EFAULT;
		for (uint32_t t = 0; t < s.info.queue_depth && !owner; t++)
			owner = owner_of(&s, ubq, d->ios, t);
	}
	if (owner)
		rd->tgid = kmem_u32(d->k, owner + (uint64_t)OFF(d, task_struct, tgid));
	snap_emit(&s, REC_DEV);
	for (uint32_t i = 0; i < s.info.nr_hw_queues; i++)
		if (queue_emit(&s, i))
			break;
	requeued_emit(&s);
	s.rec.snap_end.dev = dev;
	snap_emit(&s, REC_SNAP_END);
	return 0;
}

int kdevs_worker_cmd(struct kdevs *d, uint64_t task, int32_t *dev, uint32_t *cmd_op)
{
	uint64_t worker, work, req, sqe;

	if (!HAS(d, task_struct, worker_private) || !HAS(d, io_worker, cur_work) ||
	    !HAS(d, io_kiocb, work) || !HAS(d, io_uring_cmd, sqe) || !HAS(d, io_uring_cmd, cmd_op))
		return -ENOENT;
	worker = kmem_ptr(d->k, task + (uint64_t)OFF(d, task_struct, worker_private));
	work = worker ? kmem_ptr(d->k, worker + (uint64_t)OFF(d, io_worker, cur_work)) : 0;
	if (!work)
		return -ENOENT;
	req = work - (uint64_t)OFF(d, io_kiocb, work);
	*cmd_op = kmem_u32(d->k, req + (uint64_t)OFF(d, io_uring_cmd, cmd_op));
	sqe = kmem_ptr(d->k, req + (uint64_t)OFF(d, io_uring_cmd, sqe));
	/* The payload of a control command begins at byte 48 of the SQE, with the device's id. */
	if (!sqe || (*cmd_op >> 8 & 0xff) != 'u')
		return -ENOENT;
	*dev = (int32_t)kmem_u32(d->k, sqe + 48);
	return 0;
}
