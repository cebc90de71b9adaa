/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest request path. A lane is one volume's presence on one worker: a ublk queue submits its
 * requests to its lane, on that worker's thread. Requests that hit local data never leave the
 * worker's ring.
 */
#ifndef GFS_ENGINE_IO_H
#define GFS_ENGINE_IO_H

#include "engine/fetch.h"
#include "engine/worker.h"
#include "lib/timing.h"

struct volume;
struct lane;
struct lane_view;

enum gfs_op { GFS_READ, GFS_WRITE, GFS_FLUSH, GFS_DISCARD, GFS_WRITE_ZEROES };

/* One contiguous piece of a read from one source. */
struct gfs_seg {
	struct worker_op op;
	struct worker_buf_wait buf_wait;
	struct worker_msg msg;
	struct fetch_wait fetch;
	struct gfs_req *req;
	struct cache_buf *cbuf; /* block from the store, referenced */
	void *buf;
	uint32_t off, len; /* bytes within the request */
	int fd;            /* layer file, or -1 */
	int res;
	uint64_t block; /* of the volume, when from the store */
};

/*
 * One guest request. The submitter fills the first part and embeds the struct; it stays valid until
 * done. nsectors * 512 <= WORKER_BUF_MAX for READ and WRITE; DISCARD and WRITE_ZEROES may be
 * larger.
 */
struct gfs_req {
	enum gfs_op op;
	bool fua;
	uint32_t nsectors;
	uint64_t sector;     /* 512-byte units */
	uint16_t queue, tag; /* for io.slow */
	/*
	 * Move data between the guest and buf: READ: buf -> guest (buf NULL: zeros), WRITE: guest
	 * -> buf. off, len in bytes within the request. 0 or -errno. Worker's thread; a memcpy-like
	 * call.
	 */
	int (*copy)(struct gfs_req *req, void *buf, uint32_t len, uint32_t off);
	/* res 0 or -errno. Worker's thread; may submit again. */
	void (*done)(struct gfs_req *req, int res);

	/* Engine's. */
	struct lane *lane;
	struct lane_view *lv;
	uint64_t start_ns, op_id, park_deadline_ns;
	struct list_head node;
	struct gfs_seg seg0;  /* the only segment of an ordinary request */
	struct gfs_seg *segs; /* &seg0 or a malloc'ed array */
	uint32_t pending;
	int res;
	enum timing_io_stage stage;
	uint32_t span; /* of lib/spans.h; set once stage is not LOCAL */
};

/* Worker's thread. Never blocks; req->done may run before it returns. */
void lane_submit(struct lane *lane, struct gfs_req *req);

#endif
