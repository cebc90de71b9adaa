// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * image_export(): blocks in order, each verified by the fetcher, which reads ahead. The caller's
 * thread; no state of its own.
 */
#include "engine/image.h"
#include "engine/volume_priv.h"
#include "engine/wire.h"
#include "lib/fsutil.h"

struct out {
	int fd;
	bool sparse;
	const uint8_t *zeros; /* a block of them */
};

static int write_all(int fd, const uint8_t *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* data NULL: zeros. */
static int out_write(const struct out *o, const uint8_t *data, size_t len, uint64_t off)
{
	if (o->sparse)
		return data ? pwrite_full(o->fd, data, len, off) : 0;
	return write_all(o->fd, data ? data : o->zeros, len);
}

static bool chunk_empty(const struct manifest *m, uint64_t chunk)
{
	uint32_t nr = 0;

	if (m)
		manifest_chunk(m, (uint32_t)chunk, &nr);
	return !nr;
}

static int block_export(struct engine *e, struct manifest *m, uint64_t block, uint64_t off,
			size_t len, const struct out *o, uint64_t op_id, struct image_progress *p,
			struct fmt_err *err)
{
	struct cache_buf *buf = NULL;
	int res = 0;

	if (m && off < m->size_bytes)
		res = fetch_block_sync(e->fetcher, m, block, op_id, &buf);
	if (res)
		return fmt_fail(err, res, "block %llu cannot be read: %s",
				(unsigned long long)block, strerror(-res));
	if (buf)
		p->data_bytes += len;
	res = out_write(o, buf ? buf->data : NULL, len, off);
	cache_buf_put(buf);
	if (res)
		fmt_fail(err, res, "writing at %llu: %s", (unsigned long long)off, strerror(-res));
	return res;
}

int image_export(struct engine *e, struct manifest *m, uint64_t size_bytes, int fd, bool sparse,
		 image_progress_fn progress, void *arg, uint64_t op_id, struct fmt_err *err)
{
	uint32_t block_bytes = m ? m->block_bytes : BLOCK_BYTES;
	struct image_progress p = {.total_bytes = size_bytes};
	struct out o = {.fd = fd, .sparse = sparse};
	uint8_t *zeros = calloc(1, block_bytes);
	uint64_t off = 0;
	int res = 0;

	if (!zeros)
		return fmt_fail(err, -ENOMEM, "out of memory");
	o.zeros = zeros;
	if (sparse && ftruncate(fd, (off_t)size_bytes))
		res = fmt_fail(err, -errno, "making it %llu bytes long: %s",
			       (unsigned long long)size_bytes, strerror(errno));
	while (!res && off < size_bytes) {
		uint64_t chunk = off / CHUNK_BYTES;
		size_t len = (size_t)MIN((uint64_t)block_bytes, size_bytes - off);

		if (sparse && off % CHUNK_BYTES == 0 && chunk_empty(m, chunk)) {
			off = MIN((chunk + 1) * CHUNK_BYTES, size_bytes);
			continue;
		}
		res = block_export(e, m, off / block_bytes, off, len, &o, op_id, &p, err);
		off += len;
		p.done_bytes = off;
		if (!res && progress && progress(arg, &p))
			res = fmt_fail(err, -ECANCELED, "given up");
	}
	free(zeros);
	return res;
}
