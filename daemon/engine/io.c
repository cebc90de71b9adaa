// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest request path, all of it on the lane's worker: reads through one view, writes into the
 * active layer, zeroes, and the way back. Nothing here blocks, logs (but the once-only poisoning)
 * or takes a lock; only reads of many pieces allocate.
 *
 * Invariants:
 *   - a write is marked valid after its data write completed and before it is acknowledged (rule
 * 1);
 *   - a request uses one view from start to end (rule 7); a parked request holds none, because what
 * it waits for may be the end of that very view;
 *   - a write never waits for the store, unless the local disk is full.
 */
#include "engine/volume_priv.h"

#include "lib/spans.h"
#include <string.h>

#define WORD_SECTORS (MAP_SECTOR / SECTOR_SIZE)
/* Zeroing marks this much between two looks at the log's room; see LOG_SLACK in layer_log.c. */
#define ZERO_PIECE_SECTORS ((uint32_t)(8 * MiB / SECTOR_SIZE))
#define CHUNK_SECTORS      (CHUNK_BYTES / SECTOR_SIZE)

static void req_start(struct lane *lane, struct gfs_req *req);

static bool req_is_write(const struct gfs_req *req)
{
	return req->op != GFS_READ;
}

static struct timing_rec req_rec(const struct gfs_req *req)
{
	static const char op_char[] = {
		[GFS_READ] = 'R',    [GFS_WRITE] = 'W',        [GFS_FLUSH] = 'F',
		[GFS_DISCARD] = 'D', [GFS_WRITE_ZEROES] = 'Z',
	};
	const struct volume *v = req->lane->v;

	return (struct timing_rec){
		.event = TIMING_IO_SLOW,
		.op_id = req->op_id,
		.start_ns = req->start_ns,
		.export_ = v->root.name,
		.dev_id = __atomic_load_n(&v->dev_id, __ATOMIC_RELAXED),
		.is_io = true,
		.io_op = op_char[req->op],
		.queue = req->queue,
		.tag = req->tag,
		.sector = req->sector,
		.nsectors = req->nsectors,
		.stage = req->stage,
	};
}

static void report_slow(const struct gfs_req *req, uint64_t end_ns, int res)
{
	struct timing_rec rec = req_rec(req);

	rec.end_ns = end_ns;
	rec.result = res;
	timing_emit(&rec);
}

void req_wait(struct gfs_req *req, enum timing_io_stage stage)
{
	struct timing_rec rec;

	if (req->stage == stage)
		return;
	if (req->stage != TIMING_STAGE_LOCAL) {
		req->stage = stage;
		span_stage(req->span, stage);
		return;
	}
	if (!req->op_id)
		req->op_id = timing_op_id();
	req->stage = stage;
	rec = req_rec(req);
	req->span = span_open(&rec);
}

static void lane_account(struct lane *lane, const struct gfs_req *req, int res)
{
	/* Plain stores of the only writer; readers may be a little behind. */
#define ADD(field, n) __atomic_store_n(&lane->field, lane->field + (uint64_t)(n), __ATOMIC_RELAXED)
	if (res)
		ADD(errors, 1);
	if (req->op == GFS_READ) {
		ADD(reads, 1);
		ADD(read_bytes, (uint64_t)req->nsectors * SECTOR_SIZE);
	} else if (req->op == GFS_FLUSH) {
		ADD(flushes, 1);
	} else {
		ADD(writes, 1);
		ADD(write_bytes, (uint64_t)req->nsectors * SECTOR_SIZE);
	}
#undef ADD
}

void req_finish(struct gfs_req *req, int res)
{
	struct lane *lane = req->lane;
	struct lane_view *lv = req->lv;
	bool hold = lane->withhold && lv == lane->cur;
	uint64_t slow_ns = lane->v->e->cfg.io_slow_ns;

	lane_account(lane, req, res);
	if (unlikely(req->stage != TIMING_STAGE_LOCAL))
		span_close(req->span);
	if (slow_ns != UINT64_MAX) {
		uint64_t end_ns = now_ns();

		if (end_ns - req->start_ns >= slow_ns)
			report_slow(req, end_ns, res);
	}
	if (req->segs != &req->seg0) {
		free(req->segs);
		req->segs = &req->seg0;
	}
	req->res = res;
	if (hold)
		list_add_tail(&req->node, &lane->held);
	lane_view_unref(lane, lv, req_is_write(req));
	if (!hold)
		req->done(req, res);
}

/* ---- waiting for local space ---- */

static void req_park(struct lane *lane, struct gfs_req *req)
{
	struct volume *v = lane->v;

	if (!req->park_deadline_ns)
		req->park_deadline_ns = now_ns() + v->e->cfg.space_wait_ns;
	req_wait(req, TIMING_STAGE_SPACE);
	lane_view_unref(lane, req->lv, true);
	req->lv = NULL;
	list_add_tail(&req->node, &lane->parked);
	__atomic_add_fetch(&v->parked, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&v->e->parked, 1, __ATOMIC_RELAXED);
	volume_dirty_notify(v); /* wakes the housekeeper */
}

void lane_retry_parked(struct worker *w __unused, struct worker_msg *msg)
{
	struct lane *lane = container_of(msg, struct lane, kick);
	struct list_head list;

	__atomic_store_n(&lane->kick_posted, 0, __ATOMIC_RELEASE);
	list_splice_init(&lane->parked, &list);
	while (!list_empty(&list)) {
		struct gfs_req *req = list_first_entry(&list, struct gfs_req, node);

		list_del(&req->node);
		__atomic_sub_fetch(&lane->v->parked, 1, __ATOMIC_RELAXED);
		__atomic_sub_fetch(&lane->v->e->parked, 1, __ATOMIC_RELAXED);
		req_start(lane, req);
	}
}

static bool park_expired(const struct gfs_req *req)
{
	return req->park_deadline_ns && now_ns() >= req->park_deadline_ns;
}

/*
 * The host's limit is shared: a volume may hold HOST_SHARE times what is still free, so one alone
 * gets three quarters, n that write all they can 3 / (3 n + 1) each, and a volume that begins to
 * write always finds something. No volume has to be asked about another.
 */
#define HOST_SHARE 3

static bool host_has_room(const struct engine *e, uint64_t used, uint64_t bytes)
{
	uint64_t all = __atomic_load_n(&e->dirty_bytes, __ATOMIC_RELAXED);
	uint64_t free_bytes = e->cfg.host_max_bytes > all ? e->cfg.host_max_bytes - all : 0;

	return bytes <= free_bytes && used + bytes <= HOST_SHARE * (free_bytes - bytes);
}

/* Would the write make the volume or the host hold more than its share of the SSD? */
static bool over_limit(struct lane *lane, const struct view *vw, uint64_t sector, uint32_t n)
{
	const struct engine_config *cfg = &lane->v->e->cfg;
	uint64_t used =
		layer_data_bytes(vw->active) + (vw->frozen ? layer_data_bytes(vw->frozen) : 0);
	uint64_t bytes = (uint64_t)n * SECTOR_SIZE;

	if (likely((!cfg->volume_max_bytes || used + bytes <= cfg->volume_max_bytes) &&
		   (!cfg->host_max_bytes || host_has_room(lane->v->e, used, bytes))))
		return false;
	/* Sectors that hold data already cost nothing. */
	for (uint64_t s = sector; s < sector + n; s++)
		if (!(layer_word(vw->active, s / WORD_SECTORS) >> (s % WORD_SECTORS) & 1))
			return true;
	return false;
}

/*
 * Local space for marking this range is there, and nobody has a claim on it; else have it
 * allocated, or start an upload.
 */
static bool space_ready(struct lane *lane, struct gfs_req *req, uint64_t sector, uint32_t n,
			bool data)
{
	struct view *vw = req->lv->view;

	/* The housekeeper's turns retry. */
	if (unlikely(__atomic_load_n(&lane->v->e->space_claims, __ATOMIC_RELAXED)))
		return false;
	if (unlikely(!layer_ready(vw->active, sector, n))) {
		volume_reserve_queue(lane->v, sector, n);
		return false;
	}
	if (data && unlikely(over_limit(lane, vw, sector, n))) {
		volume_upload_queue(lane->v);
		return false;
	}
	return true;
}

/* ---- writes ---- */

static void marked(struct lane *lane, struct layer *l, int64_t delta)
{
	struct engine *e = lane->v->e;

	if (delta)
		__atomic_add_fetch(&e->dirty_bytes, (uint64_t)delta, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&l->unsynced, __ATOMIC_SEQ_CST))
		__atomic_store_n(&l->unsynced, 1, __ATOMIC_SEQ_CST);
	if (unlikely(!__atomic_load_n(&l->touched, __ATOMIC_RELAXED))) {
		layer_first_dirty(l, worker_now(lane->w));
		__atomic_store_n(&l->touched, 1, __ATOMIC_RELEASE);
		volume_dirty_notify(lane->v);
	} else if (unlikely(layer_data_bytes(l) >= e->cfg.upload_dirty_bytes) && delta > 0) {
		volume_dirty_notify(lane->v);
	}
}

static void write_done(struct worker *w, struct worker_op *op, int res)
{
	struct gfs_seg *seg = container_of(op, struct gfs_seg, op);
	struct gfs_req *req = seg->req;
	struct lane *lane = req->lane;
	struct layer *l = req->lv->view->active;

	if (res > 0 && (uint32_t)res < seg->len && res % SECTOR_SIZE == 0) {
		/* Short: go on from there, the reason comes with the next attempt. */
		seg->off += (uint32_t)res;
		seg->len -= (uint32_t)res;
		res = -EAGAIN;
	}
	if (res == -EAGAIN || res == -EINTR) {
		struct io_uring_sqe *sqe = worker_sqe(w);

		io_uring_prep_write(sqe, l->data_fd, (char *)seg->buf + seg->off, seg->len,
				    req->sector * SECTOR_SIZE + seg->off);
		worker_sqe_op(sqe, op);
		return;
	}
	worker_buf_put(w, seg->buf);
	seg->buf = NULL;
	if (unlikely(res == -ENOSPC || res == -EDQUOT)) {
		/* Nothing was marked: the guest's old data is intact. An upload makes room. */
		if (park_expired(req)) {
			req_finish(req, -ENOSPC);
			return;
		}
		volume_upload_queue(lane->v);
		req_park(lane, req);
		return;
	}
	if (unlikely(res < 0 || (uint32_t)res != seg->len)) {
		layer_poison(l, res < 0 ? res : -EIO);
		volume_set_mode(
			lane->v, VOLUME_POISONED,
			"write of %u bytes at sector %llu to layer %llu failed (%s); the volume "
			"is read-only and uploads nothing more",
			req->nsectors * SECTOR_SIZE, (unsigned long long)req->sector,
			(unsigned long long)l->seq, strerror(res < 0 ? -res : EIO));
		req_finish(req, -EIO);
		return;
	}
	marked(lane, l, layer_mark(l, req->sector, req->nsectors, false));
	if (req->fua)
		flush_join(lane, req);
	else
		req_finish(req, 0);
}

/* The transport's error, not the disk's: only this request fails. */
static void write_copy_failed(struct worker *w, struct worker_op *op, int res __unused)
{
	struct gfs_seg *seg = container_of(op, struct gfs_seg, op);

	worker_buf_put(w, seg->buf);
	seg->buf = NULL;
	req_finish(seg->req, -EIO);
}

static void write_submit(struct worker *w, struct gfs_req *req)
{
	struct gfs_seg *seg = &req->seg0;
	struct layer *l = req->lv->view->active;
	struct io_uring_sqe *sqe;
	int r = req->copy(req, seg->buf, seg->len, 0);

	seg->op.done = write_done;
	if (unlikely(r)) {
		seg->op.done = write_copy_failed;
		worker_complete(w, &seg->op, r);
		return;
	}
	r = disk_fault(DISK_WRITE, l->seq);
	if (unlikely(r)) {
		worker_complete(w, &seg->op, r);
		return;
	}
	sqe = worker_sqe(w);
	io_uring_prep_write(sqe, l->data_fd, seg->buf, seg->len, req->sector * SECTOR_SIZE);
	worker_sqe_op(sqe, &seg->op);
}

static void write_buf_ready(struct worker *w, struct worker_buf_wait *wait)
{
	struct gfs_seg *seg = container_of(wait, struct gfs_seg, buf_wait);

	seg->buf = worker_buf_get(w, seg->len);
	write_submit(w, seg->req);
}

static void write_start(struct lane *lane, struct gfs_req *req)
{
	struct gfs_seg *seg = &req->seg0;

	if (unlikely(!space_ready(lane, req, req->sector, req->nsectors, true))) {
		if (park_expired(req))
			req_finish(req, -ENOSPC);
		else
			req_park(lane, req);
		return;
	}
	seg->off = 0;
	seg->len = req->nsectors * SECTOR_SIZE;
	seg->buf = worker_buf_get(lane->w, seg->len);
	if (unlikely(!seg->buf)) {
		seg->buf_wait.run = write_buf_ready;
		worker_buf_wait(lane->w, seg->len, &seg->buf_wait);
		return;
	}
	write_submit(lane->w, req);
}

/* ---- discard and write-zeroes ---- */

/* Sectors from `sector` to the end of its chunk, if that chunk is all zeros in the view anyway. */
static uint64_t chunk_is_zeros(const struct view *vw, uint64_t sector)
{
	uint64_t chunk = sector / CHUNK_SECTORS;
	uint32_t nr;

	if (layer_chunk_used(vw->active, chunk) ||
	    (vw->frozen && layer_chunk_used(vw->frozen, chunk)))
		return 0;
	if (vw->manifest) {
		(void)manifest_chunk(vw->manifest, (uint32_t)chunk, &nr);
		if (nr)
			return 0;
	}
	return (chunk + 1) * CHUNK_SECTORS - sector;
}

/* Marks the range zero; seg0.block keeps the progress across parking. */
static void zero_start(struct lane *lane, struct gfs_req *req)
{
	struct view *vw = req->lv->view;
	uint64_t end = req->sector + req->nsectors;

	/* Unaligned edges of a discard are left alone (storage rule 5); the volume's end is none.
	 */
	if (req->op == GFS_DISCARD) {
		req->seg0.block = ROUND_UP(req->seg0.block, WORD_SECTORS);
		if (end * SECTOR_SIZE < vw->active->size_bytes)
			end = ROUND_DOWN(end, WORD_SECTORS);
	}
	while (req->seg0.block < end) {
		uint64_t s = req->seg0.block;
		uint64_t skip = chunk_is_zeros(vw, s);
		uint32_t n;

		if (skip) {
			req->seg0.block = MIN(end, s + skip);
			continue;
		}
		n = (uint32_t)MIN(end - s, ZERO_PIECE_SECTORS);
		n = (uint32_t)MIN(n, (s / CHUNK_SECTORS + 1) * CHUNK_SECTORS - s);
		if (unlikely(!space_ready(lane, req, s, n, false))) {
			if (!park_expired(req))
				req_park(lane, req);
			else /* a discard is advice, write-zeroes a promise */
				req_finish(req, req->op == GFS_DISCARD ? 0 : -ENOSPC);
			return;
		}
		marked(lane, vw->active, layer_mark(vw->active, s, n, true));
		req->seg0.block = s + n;
	}
	if (req->fua)
		flush_join(lane, req);
	else
		req_finish(req, 0);
}

/* ---- reads ---- */

enum source { SRC_ACTIVE, SRC_FROZEN, SRC_ZERO, SRC_STORE };

static enum source sector_source(const struct view *vw, uint16_t a, uint16_t f, unsigned int bit)
{
	if (a >> bit & 1)
		return SRC_ACTIVE;
	if (a >> (bit + 8) & 1)
		return SRC_ZERO;
	if (f >> bit & 1)
		return SRC_FROZEN;
	if (f >> (bit + 8) & 1)
		return SRC_ZERO;
	return vw->manifest ? SRC_STORE : SRC_ZERO;
}

static bool word_uniform(uint16_t w)
{
	return w == 0 || w == 0x00ff || w == 0xff00;
}

/* The source of `sector`, and how many sectors from there to `end` share it (one block for the
 * store). */
static uint32_t run_length(const struct volume *v, const struct view *vw, uint64_t sector,
			   uint64_t end, enum source *src)
{
	uint64_t s = sector;

	while (s < end) {
		uint16_t a = layer_word(vw->active, s / WORD_SECTORS);
		uint16_t f = vw->frozen ? layer_word(vw->frozen, s / WORD_SECTORS) : 0;
		unsigned int bit = (unsigned int)(s % WORD_SECTORS);
		enum source here = sector_source(vw, a, f, bit);

		if (s == sector)
			*src = here;
		else if (here != *src)
			break;
		if (word_uniform(a) && (a || word_uniform(f)))
			s += WORD_SECTORS - bit;
		else
			s++;
	}
	s = MIN(s, end);
	if (*src == SRC_STORE) {
		uint64_t block_sectors = v->root.block_bytes / SECTOR_SIZE;

		s = MIN(s, (sector / block_sectors + 1) * block_sectors);
	}
	return (uint32_t)(s - sector);
}

static void seg_done(struct gfs_seg *seg, int res)
{
	struct gfs_req *req = seg->req;

	if (res && !req->res)
		req->res = res;
	if (--req->pending == 0)
		req_finish(req, req->res);
}

static void read_done(struct worker *w, struct worker_op *op, int res)
{
	struct gfs_seg *seg = container_of(op, struct gfs_seg, op);
	struct gfs_req *req = seg->req;

	if (res == -EAGAIN || res == -EINTR) {
		struct io_uring_sqe *sqe = worker_sqe(w);

		io_uring_prep_read(sqe, seg->fd, seg->buf, seg->len,
				   req->sector * SECTOR_SIZE + seg->off);
		worker_sqe_op(sqe, op);
		return;
	}
	if (res == (int)seg->len)
		res = req->copy(req, seg->buf, seg->len, seg->off);
	else
		res = -EIO;
	worker_buf_put(w, seg->buf);
	seg->buf = NULL;
	seg_done(seg, res);
}

static void read_submit(struct worker *w, struct gfs_seg *seg)
{
	struct gfs_req *req = seg->req;
	int r = disk_fault(DISK_READ, 0);
	struct io_uring_sqe *sqe;

	seg->op.done = read_done;
	if (unlikely(r)) {
		worker_complete(w, &seg->op, r);
		return;
	}
	sqe = worker_sqe(w);
	io_uring_prep_read(sqe, seg->fd, seg->buf, seg->len, req->sector * SECTOR_SIZE + seg->off);
	worker_sqe_op(sqe, &seg->op);
}

static void read_buf_ready(struct worker *w, struct worker_buf_wait *wait)
{
	struct gfs_seg *seg = container_of(wait, struct gfs_seg, buf_wait);

	seg->buf = worker_buf_get(w, seg->len);
	read_submit(w, seg);
}

static void read_local(struct lane *lane, struct gfs_seg *seg, int fd)
{
	seg->fd = fd;
	seg->buf = worker_buf_get(lane->w, seg->len);
	if (unlikely(!seg->buf)) {
		seg->buf_wait.run = read_buf_ready;
		worker_buf_wait(lane->w, seg->len, &seg->buf_wait);
		return;
	}
	read_submit(lane->w, seg);
}

static void store_copy(struct gfs_seg *seg, struct cache_buf *buf, int res)
{
	struct gfs_req *req = seg->req;
	uint64_t pos = req->sector * SECTOR_SIZE + seg->off;
	uint32_t block_bytes = req->lane->v->root.block_bytes;

	if (!res)
		res = req->copy(req, buf ? buf->data + pos % block_bytes : NULL, seg->len,
				seg->off);
	cache_buf_put(buf);
	seg_done(seg, res);
}

static void store_arrived(struct worker *w __unused, struct worker_msg *msg)
{
	struct gfs_seg *seg = container_of(msg, struct gfs_seg, msg);

	store_copy(seg, seg->cbuf, seg->res);
}

/* Any thread. */
static void store_fetched(struct fetch_wait *fw, struct cache_buf *buf, int res)
{
	struct gfs_seg *seg = container_of(fw, struct gfs_seg, fetch);

	seg->cbuf = buf;
	seg->res = res;
	seg->msg.run = store_arrived;
	worker_post(seg->req->lane->w, &seg->msg);
}

/* The block is not here: our own thread, inside fetch_block(). */
static void store_waits(struct fetch_wait *fw)
{
	struct gfs_seg *seg = container_of(fw, struct gfs_seg, fetch);

	req_wait(seg->req, TIMING_STAGE_STORE);
	fw->span = seg->req->span;
}

static void read_store(struct lane *lane, struct gfs_seg *seg)
{
	struct gfs_req *req = seg->req;
	uint64_t pos = req->sector * SECTOR_SIZE + seg->off;
	struct cache_buf *buf = NULL;
	int r;

	if (!req->op_id)
		req->op_id = timing_op_id();
	seg->fetch.done = store_fetched;
	seg->fetch.waits = store_waits;
	seg->fetch.op_id = req->op_id;
	seg->fetch.volume = lane->v->root.name;
	seg->fetch.single = req->segs == &req->seg0;
	r = fetch_block(lane->v->e->fetcher, req->lv->view->manifest,
			pos / lane->v->root.block_bytes, &seg->fetch, &buf);
	if (r == -EINPROGRESS)
		return;
	store_copy(seg, r ? NULL : buf, r);
}

static void read_seg(struct lane *lane, struct gfs_seg *seg, enum source src)
{
	struct view *vw = seg->req->lv->view;

	switch (src) {
	case SRC_ACTIVE:
		read_local(lane, seg, vw->active->data_fd);
		break;
	case SRC_FROZEN:
		read_local(lane, seg, vw->frozen->data_fd);
		break;
	case SRC_ZERO:
		seg_done(seg, seg->req->copy(seg->req, NULL, seg->len, seg->off));
		break;
	case SRC_STORE:
		read_store(lane, seg);
		break;
	}
}

static void read_start(struct lane *lane, struct gfs_req *req)
{
	struct fetcher *f = lane->v->e->fetcher;
	const struct view *vw = req->lv->view;
	uint64_t end = req->sector + req->nsectors;
	struct {
		uint32_t n;
		enum source src;
	} runs[WORKER_BUF_MAX / SECTOR_SIZE];
	uint32_t nr = 0, off = 0;

	/* One walk decides: concurrent writes may change what a second one would see. */
	for (uint64_t s = req->sector; s < end; s += runs[nr++].n)
		runs[nr].n = run_length(lane->v, vw, s, end, &runs[nr].src);
	if (nr > 1) {
		req->segs = calloc(nr, sizeof(*req->segs));
		if (!req->segs) {
			req->segs = &req->seg0;
			req_finish(req, -ENOMEM);
			return;
		}
	}
	/* All counted first: the last segment to end, maybe at once, finishes the request. */
	req->pending = nr;
	for (uint32_t i = 0; i < nr; i++) {
		struct gfs_seg *seg = &req->segs[i];

		seg->req = req;
		seg->off = off;
		seg->len = runs[i].n * SECTOR_SIZE;
		off += seg->len;
	}
	/* The request may be gone with its last segment. */
	if (nr > 1)
		fetch_plug();
	for (uint32_t i = 0; i < nr; i++)
		read_seg(lane, &req->segs[i], runs[i].src);
	if (nr > 1)
		fetch_unplug(f);
}

/* ---- entry ---- */

static void req_start(struct lane *lane, struct gfs_req *req)
{
	struct volume *v = lane->v;
	enum volume_mode mode;

	req->lv = lane->cur;
	req->lv->total++;
	if (req->op == GFS_READ) {
		read_start(lane, req);
		return;
	}
	req->lv->writes++;
	mode = volume_mode(v);
	if (unlikely(mode != VOLUME_RW)) {
		/* A FLUSH of a read-only volume has nothing to lose; of a poisoned or fenced one it
		 * has. */
		req_finish(req, req->op == GFS_FLUSH && mode == VOLUME_READ_ONLY ? 0 : -EIO);
		return;
	}
	switch (req->op) {
	case GFS_WRITE:
		write_start(lane, req);
		break;
	case GFS_FLUSH:
		flush_join(lane, req);
		break;
	default:
		zero_start(lane, req);
		break;
	}
}

void lane_submit(struct lane *lane, struct gfs_req *req)
{
	req->lane = lane;
	req->segs = &req->seg0;
	req->seg0.req = req;
	req->seg0.block = req->sector;
	req->start_ns = worker_now(lane->w);
	req->op_id = 0;
	req->park_deadline_ns = 0;
	req->res = 0;
	req->stage = TIMING_STAGE_LOCAL;
	if (req->op != GFS_FLUSH &&
	    unlikely(!req->nsectors || req->sector + req->nsectors < req->sector ||
		     (req->sector + req->nsectors) * SECTOR_SIZE >
			     lane->cur->view->active->size_bytes ||
		     (req->op <= GFS_WRITE &&
		      req->nsectors * (uint64_t)SECTOR_SIZE > WORKER_BUF_MAX))) {
		req->done(req, -EINVAL);
		return;
	}
	req_start(lane, req);
}
