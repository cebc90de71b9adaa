// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log of a layer, replayed after a power loss: raw bytes, or batches with right numbers, tags
 * and checksums around wild records. The first byte says which. Includes the source for its
 * structs.
 */
#include "selftests/fuzz/fuzz.h"

#include "daemon/engine/layer_log.c" /* NOLINT */

#include <sys/stat.h>

#define VOLUME (4 * MiB + 512)

static const uint8_t uuid[16] = {9};

static int dir_fd(void)
{
	static char dir[] = "/dev/shm/gfs-fuzz-XXXXXX";
	static int fd = -1;

	if (fd < 0) {
		FUZZ_MUST(mkdtemp(dir));
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		FUZZ_MUST(fd >= 0);
		/* The descriptor is enough; nothing stays when the process ends. */
	}
	return fd;
}

void fuzz_seeds(void)
{
	uint8_t seed[1 + 4 * (1 + 2 * sizeof(struct log_record))];

	for (unsigned int k = 0; k < 4; k++) {
		memset(seed, 0, sizeof(seed));
		seed[0] = (uint8_t)k;
		for (unsigned int i = 0; i < 4; i++) {
			uint8_t *p = seed + 1 + i * (1 + 2 * sizeof(struct log_record));

			p[0] = 1; /* two records */
			p[1] = (uint8_t)(i * 8);
			p[9] = 0xff;
			p[1 + sizeof(struct log_record)] = (uint8_t)(i * 8 + 1);
			p[10 + sizeof(struct log_record)] = 0xf0;
		}
		fuzz_seed(seed, sizeof(seed));
	}
}

/* Header and batches that pass every check but those of the records. */
static size_t build(uint8_t *out, size_t cap, const uint8_t *data, size_t len)
{
	struct layer l = {.generation = 7, .seq = 1, .size_bytes = VOLUME};
	struct log_header *h = (struct log_header *)(void *)out;
	size_t pos = LOG_HEADER;

	memcpy(l.uuid, uuid, sizeof(uuid));
	memset(out, 0, LOG_HEADER);
	memcpy(h->magic, LOG_MAGIC, 8);
	h->version = LOG_VERSION;
	h->header_bytes = LOG_HEADER;
	memcpy(h->uuid, uuid, 16);
	h->generation = 7;
	h->seq = 1;
	h->size_bytes = VOLUME;
	h->checksum = hash_xxh3(h, offsetof(struct log_header, checksum));
	for (uint64_t number = 1; len; number++) {
		size_t nr = 1 + data[0] % 8, n = nr * sizeof(struct log_record);
		struct log_batch b = {.magic = BATCH_MAGIC,
				      .nr = (uint32_t)nr,
				      .number = number,
				      .tag = log_tag(&l)};

		data++;
		len--;
		if (len < n || pos + sizeof(b) + n > cap)
			break;
		memcpy(out + pos, &b, sizeof(b));
		memcpy(out + pos + sizeof(b), data, n);
		b.checksum = batch_sum(out + pos, sizeof(b) + n);
		memcpy(out + pos, &b, sizeof(b));
		pos += sizeof(b) + n;
		data += n;
		len -= n;
	}
	return pos;
}

static void file_write(const char *suffix, const void *data, size_t len, size_t size)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "layer-%020d.%s", 1, suffix);
	fd = openat(dir_fd(), name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FUZZ_MUST(fd >= 0 && (!len || write(fd, data, len) == (ssize_t)len));
	FUZZ_MUST(!ftruncate(fd, (off_t)(size ? size : len)));
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t file[256 * 1024];
	struct fmt_err err = {{0}};
	struct layer *l;
	size_t n;
	int r;

	if (!len)
		return 0;
	if (data[0] & 1) {
		n = build(file, sizeof(file), data + 1, len - 1);
		if (data[0] & 2)
			file[n - 1 - data[0] % 64] ^= data[0]; /* and damaged near its end */
	} else {
		n = MIN(len - 1, sizeof(file));
		memcpy(file, data + 1, n);
	}
	file_write("log", file, n, 0);
	file_write("map", "", 0, 0);
	file_write("data", "", 0, ROUND_UP(VOLUME, MAP_SECTOR));
	r = layer_open(dir_fd(), uuid, 7, 1, 2 * VOLUME, &l, &err);
	if (r) {
		FUZZ_MUST(err.msg[0]);
		return 0;
	}
	FUZZ_MUST(l->size_bytes <= 2 * VOLUME && l->log_pos <= l->log_cap);
	layer_put(l);
	return 0;
}
