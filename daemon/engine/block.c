// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One block to and from its stored form. Any thread; each keeps its own pair of zstd contexts,
 * which die with it.
 */
#include "engine/wire.h"

#include <zstd.h>

struct codec {
	ZSTD_CCtx *c;
	ZSTD_DCtx *d;
};

static pthread_once_t codec_once = PTHREAD_ONCE_INIT;
static pthread_key_t codec_key;
static __thread struct codec *codec_mine;

static void codec_free(void *p)
{
	struct codec *k = p;

	ZSTD_freeCCtx(k->c);
	ZSTD_freeDCtx(k->d);
	free(k);
}

static void codec_key_init(void)
{
	if (pthread_key_create(&codec_key, codec_free))
		abort();
}

/* This thread's contexts, or NULL when there is no memory for them. */
static struct codec *codec_get(void)
{
	struct codec *k = codec_mine;

	if (k)
		return k;
	pthread_once(&codec_once, codec_key_init);
	k = calloc(1, sizeof(*k));
	if (!k)
		return NULL;
	k->c = ZSTD_createCCtx();
	k->d = ZSTD_createDCtx();
	if (!k->c || !k->d || pthread_setspecific(codec_key, k)) {
		codec_free(k);
		return NULL;
	}
	codec_mine = k;
	return k;
}

int block_encode(const void *block, uint32_t block_bytes, int level, void *out, size_t cap,
		 enum pack_block_kind *kind, uint32_t *clen, uint8_t sha256[SHA256_LEN])
{
	struct codec *k;
	size_t n;

	if (all_zero(block, block_bytes)) {
		*kind = PACK_ZERO;
		*clen = 0;
		memset(sha256, 0, SHA256_LEN);
		return 0;
	}
	if (cap < ZSTD_compressBound(block_bytes))
		return -EINVAL;
	k = codec_get();
	if (!k)
		return -ENOMEM;
	hash_sha256(block, block_bytes, sha256);
	n = ZSTD_compressCCtx(k->c, out, cap, block, block_bytes, level);
	if (ZSTD_isError(n))
		return -ENOMEM;
	/* What saves less than a sixteenth is not worth decompressing at every read. */
	if (n > block_bytes - block_bytes / 16) {
		memcpy(out, block, block_bytes);
		*kind = PACK_RAW;
		*clen = block_bytes;
		return 0;
	}
	*kind = PACK_ZSTD;
	*clen = (uint32_t)n;
	return 0;
}

static int block_inflate(const void *stored, uint32_t clen, void *out, uint32_t block_bytes)
{
	struct codec *k = codec_get();
	size_t n;

	if (!k)
		return -ENOMEM;
	n = ZSTD_decompressDCtx(k->d, out, block_bytes, stored, clen);
	return ZSTD_isError(n) || n != block_bytes ? -EBADMSG : 0;
}

int block_decode(const struct pack_index_entry *e, const void *stored, void *out,
		 uint32_t block_bytes)
{
	uint8_t sum[SHA256_LEN];
	int r;

	switch (e->kind) {
	case PACK_ZERO:
		memset(out, 0, block_bytes);
		return 0;
	case PACK_RAW:
		if (e->clen != block_bytes)
			return -EBADMSG;
		memcpy(out, stored, block_bytes);
		break;
	case PACK_ZSTD:
		r = block_inflate(stored, e->clen, out, block_bytes);
		if (r)
			return r;
		break;
	default:
		return -EBADMSG;
	}
	hash_sha256(out, block_bytes, sum);
	return memcmp(sum, e->sha256, SHA256_LEN) ? -EBADMSG : 0;
}
