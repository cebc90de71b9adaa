// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * imagecat: the images a volume published, from a file:// store without a daemon: every manifest of
 * the volume, or one of them, written out as a raw image. Manifests and packs are write-once, so a
 * whole history of images can be read after the fact. One thread; a sparse image file.
 */
#include "selftests/tools/tool.h"

#include <dirent.h>

#include "engine/format.h"
#include "lib/fsutil.h"

#define OBJECT_MAX (2 * GiB)

struct object {
	char *data;
	size_t len;
};

static struct object object_load(const char *store, const char *key)
{
	struct object o = {0};
	char path[8192];
	int r;

	snprintf(path, sizeof(path), "%s/%s", store, key);
	r = file_read_all(AT_FDCWD, path, OBJECT_MAX, &o.data, &o.len);
	if (r)
		errx(EXIT_BROKEN, "%s: %s", path, strerror(-r));
	return o;
}

static void root_of(const char *store, const char *name, struct root *root)
{
	struct fmt_err e = {{0}};
	char key[1024];
	struct object o;

	root_key(name, key, sizeof(key));
	o = object_load(store, key);
	if (root_parse(o.data, o.len, root, &e))
		errx(EXIT_BROKEN, "%s: %s", key, e.msg);
	free(o.data);
}

/* Blocks that an older pack of the chunk holds too are hidden by the newer one: write each once. */
static void pack_write_out(const char *store, const struct manifest *m,
			   const struct manifest_entry *me, uint8_t *done, int fd, void *block)
{
	uint64_t base = (uint64_t)me->chunk * CHUNK_BYTES;
	struct fmt_err e = {{0}};
	struct pack_index *idx;
	char key[1024];
	struct object o;

	pack_key(me->chunk, me->pack_id, key, sizeof(key));
	o = object_load(store, key);
	if (me->index_off + me->index_len > o.len)
		errx(EXIT_BROKEN, "%s: %zu bytes, its index ends at %llu", key, o.len,
		     (unsigned long long)me->index_off + me->index_len);
	if (pack_index_parse(o.data + me->index_off, me->index_len, me, m->block_bytes, &idx, &e))
		errx(EXIT_BROKEN, "%s: %s", key, e.msg);
	for (uint32_t i = 0; i < idx->nr; i++) {
		const struct pack_index_entry *b = &idx->e[i];
		uint64_t off = base + (uint64_t)b->block * m->block_bytes;
		int r;

		if (done[b->block])
			continue;
		done[b->block] = 1;
		if (b->kind == PACK_ZERO)
			continue;
		r = block_decode(b, o.data + b->off, block, m->block_bytes);
		if (!r && off < m->size_bytes)
			r = pwrite_all(fd, block,
				       (size_t)MIN((uint64_t)m->block_bytes, m->size_bytes - off),
				       off);
		if (r)
			errx(EXIT_BROKEN, "%s: block %u: %s", key, b->block, strerror(-r));
	}
	free(idx);
	free(o.data);
}

static void image_write(const char *store, const char *key, const char *out)
{
	struct object o = object_load(store, key);
	struct fmt_err e = {{0}};
	struct manifest *m;
	uint8_t *done;
	void *block;
	int fd;

	if (manifest_parse(o.data, o.len, &m, &e))
		errx(EXIT_BROKEN, "%s: %s", key, e.msg);
	done = zalloc_or_die(CHUNK_BYTES / m->block_bytes, 1);
	block = alloc_pages_or_die(m->block_bytes);
	fd = open_or_die(out, O_RDWR | O_CREAT | O_TRUNC);
	if (ftruncate(fd, (off_t)m->size_bytes))
		err(EXIT_USE, "%s", out);
	/* Entries of one chunk are newest first. */
	for (uint32_t i = 0; i < m->nr_entries; i++) {
		if (i && m->entries[i].chunk != m->entries[i - 1].chunk)
			memset(done, 0, CHUNK_BYTES / m->block_bytes);
		pack_write_out(store, m, &m->entries[i], done, fd, block);
	}
	close(fd);
	free(done);
	free(block);
	free(o.data);
	manifest_put(m);
}

static void list(const char *store, const struct root *root)
{
	char uuid[37], path[8192];
	struct dirent **names;
	int n;

	uuid_format(root->uuid, uuid);
	snprintf(path, sizeof(path), "%s/manifests/%s", store, uuid);
	n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++)
		if (names[i]->d_name[0] != '.')
			puts(names[i]->d_name);
}

static const char usage_text[] =
	"usage: imagecat --list STORE_DIR VOLUME          manifests in the store, oldest first\n"
	"       imagecat STORE_DIR VOLUME IMAGE [MANIFEST] writes an image, of the root's manifest "
	"unless\n"
	"                                                 another one is named\n"
	"Exit status: 0; 1 an object is missing or corrupt; 2 bad use.\n";

int main(int argc, char **argv)
{
	bool do_list = argc == 4 && !strcmp(argv[1], "--list");
	struct root root;
	char key[1024];

	if (argc == 2 && !strcmp(argv[1], "--help")) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (!do_list && argc != 4 && argc != 5) {
		fputs(usage_text, stderr);
		return EXIT_USE;
	}
	root_of(argv[1 + do_list], argv[2 + do_list], &root);
	if (do_list) {
		list(argv[2], &root);
		return 0;
	}
	if (argc == 4 && !root.manifest.id[0])
		errx(EXIT_BROKEN, "%s: nothing was published", argv[2]);
	if (argc == 5)
		manifest_key(root.uuid, argv[4], key, sizeof(key));
	else
		manifest_key(root.manifest.uuid, root.manifest.id, key, sizeof(key));
	image_write(argv[1], key, argv[3]);
	return 0;
}
