// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The local state of a volume: which layers of cache_dir/volumes/UUID belong to its root, and which
 * do not. Blocking; called by whoever opens, releases or destroys the volume, one at a time.
 *
 * Invariants (storage rules 8, 12, 13):
 *   - the directory is named by uuid, and each layer's log names (uuid, generation, sequence); what
 * does not match the root is moved to quarantine/, never merged, served or deleted;
 *   - layers with a sequence <= the root's are published: a crash between publishing and removing
 * them is recognised by that, and they are removed;
 *   - what remains must be contiguous: sequence + 1 [frozen or active], + 2 [active or next], + 3
 * [next].
 */
#include "engine/volume_priv.h"

#include "lib/fsutil.h"
#include "lib/log.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LAYERS_MAX 16 /* of which at most 3 are unpublished */

static int seq_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sequences of the layers in the directory, ascending. Count or -errno. */
static int layers_list(int dirfd, uint64_t seq[LAYERS_MAX])
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
	struct dirent *de;
	DIR *d;

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while ((de = readdir(d))) {
		unsigned long long s;
		int end = 0;

		if (sscanf(de->d_name, "layer-%20llu.log%n", &s, &end) != 1 || !end ||
		    de->d_name[end])
			continue;
		if (n == LAYERS_MAX) {
			n = -EBADMSG;
			break;
		}
		seq[n++] = s;
	}
	closedir(d);
	if (n > 0)
		qsort(seq, (size_t)n, sizeof(*seq), seq_compare);
	return n;
}

static int quarantine(struct volume *v, const char *why)
{
	struct engine *e = v->e;
	char to[128];
	int qfd, r = 0;

	if (mkdirat(e->cache_fd, "quarantine", 0700) < 0 && errno != EEXIST)
		return -errno;
	qfd = openat(e->cache_fd, "quarantine", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (qfd < 0)
		return -errno;
	snprintf(to, sizeof(to), "%s.%llu", v->dir_name, (unsigned long long)wall_ns());
	if (renameat(e->volumes_fd, v->dir_name, qfd, to) < 0)
		r = -errno;
	if (!r)
		r = dir_sync(qfd);
	if (!r)
		r = dir_sync(e->volumes_fd);
	close(qfd);
	if (!r)
		log_warn(
			"volume %s: local layers do not belong to generation %llu of it (%s); kept "
			"unused in %s/quarantine/%s",
			v->root.name, (unsigned long long)v->root.generation, why, e->cache_dir,
			to);
	return r;
}

static int volume_dir_open(struct volume *v)
{
	struct engine *e = v->e;
	int r;

	if (v->dirfd >= 0)
		close(v->dirfd);
	v->dirfd = -1;
	if (mkdirat(e->volumes_fd, v->dir_name, 0700) < 0 && errno != EEXIST)
		return -errno;
	v->dirfd = openat(e->volumes_fd, v->dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->dirfd < 0)
		return -errno;
	r = dir_sync(e->volumes_fd);
	return r;
}

/* Open what the directory holds for this root into l[0..2], oldest first. Count or -errno. */
static int layers_open(struct volume *v, struct layer *l[3], struct fmt_err *err)
{
	uint64_t seq[LAYERS_MAX];
	int nr = layers_list(v->dirfd, seq), n = 0;

	if (nr < 0) {
		snprintf(err->msg, sizeof(err->msg), "volume %s: local directory %s: %s",
			 v->root.name, v->dir_name, strerror(-nr));
		return nr;
	}
	for (int i = 0; i < nr; i++) {
		int r;

		if (seq[i] <= v->root.sequence) {
			struct layer *old;

			/* Published by this generation, or somebody else's: the log's header tells.
			 */
			r = layer_open(v->dirfd, v->root.uuid, v->root.generation, seq[i],
				       v->root.size_bytes, &old, err);
			if (!r)
				layer_put(old);
			/* -EUCLEAN: a removal was cut short. What else it may be is not for us to
			 * delete. */
			if (r && r != -ENOENT && r != -EUCLEAN)
				goto fail;
			r = layer_unlink(v->dirfd, seq[i]);
			if (r)
				goto fail;
			continue;
		}
		if (n == 3 || seq[i] != v->root.sequence + 1 + (uint64_t)n) {
			snprintf(err->msg, sizeof(err->msg),
				 "volume %s: local layer %llu does not follow published sequence "
				 "%llu",
				 v->root.name, (unsigned long long)seq[i],
				 (unsigned long long)v->root.sequence);
			r = -ESTALE;
			goto fail;
		}
		r = layer_open(v->dirfd, v->root.uuid, v->root.generation, seq[i],
			       v->root.size_bytes, &l[n], err);
		if (r == -ENOENT && i == nr - 1) {
			r = layer_unlink(v->dirfd, seq[i]);
			if (!r)
				continue;
		}
		if (r)
			goto fail;
		n++;
		continue;
	fail:
		while (n)
			layer_put(l[--n]);
		return r;
	}
	return n;
}

/* Recover or create the layers; on success v->view is set. */
int volume_local_open(struct volume *v, bool expected, struct manifest *m, struct fmt_err *err)
{
	struct layer *l[3] = {NULL, NULL, NULL}, *frozen = NULL, *active;
	int n, r = volume_dir_open(v);

	if (r) {
		snprintf(err->msg, sizeof(err->msg), "volume %s: local directory %s: %s",
			 v->root.name, v->dir_name, strerror(-r));
		return r;
	}
	n = layers_open(v, l, err);
	if (n == -ESTALE && !expected) {
		r = quarantine(v, err->msg);
		if (!r)
			r = volume_dir_open(v);
		if (r)
			return r;
		n = 0;
	}
	if (n < 0)
		return n;
	if (!n && expected) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %s: its local layers are missing from %s/volumes/%s: acknowledged "
			 "writes "
			 "would be lost; bring them back, or take the volume over to accept the "
			 "store's image",
			 v->root.name, v->e->cache_dir, v->dir_name);
		return -EUCLEAN;
	}
	if (!n) {
		r = layer_create(v->dirfd, v->root.uuid, v->root.generation, v->root.sequence + 1,
				 v->root.size_bytes, &l[0]);
		if (r) {
			snprintf(err->msg, sizeof(err->msg),
				 "volume %s: cannot create layer %llu: %s", v->root.name,
				 (unsigned long long)v->root.sequence + 1, strerror(-r));
			return r;
		}
		n = 1;
	}
	active = l[0];
	if (n > 1) {
		/*
		 * The older one is taken as frozen even if it may not have been: a PUT that an
		 * earlier life left in flight may publish it yet, so it must not change any more.
		 */
		frozen = l[0];
		active = l[1];
		v->next = l[2];
	}
	if (v->next && layer_dirty(v->next)) {
		snprintf(err->msg, sizeof(err->msg),
			 "volume %s: layer %llu is written but not in use", v->root.name,
			 (unsigned long long)v->next->seq);
		r = -EBADMSG;
	} else {
		v->view = view_new(active, frozen, m);
		if (!v->view)
			r = -ENOMEM;
	}
	for (int i = 0; i < 3; i++)
		if (l[i] && l[i] != v->next)
			layer_put(l[i]);
	/* While nobody writes yet; else the first upload tries again. */
	if (!r && !frozen && layer_dirty(active)) {
		int next = volume_next_layer(v);

		if (next)
			log_warn("volume %s: cannot prepare the next layer: %s", v->root.name,
				 strerror(-next));
	}
	return r;
}

int volume_local_remove(struct volume *v)
{
	uint64_t seq[LAYERS_MAX];
	int nr = layers_list(v->dirfd, seq), r;

	if (nr < 0)
		return nr;
	for (int i = 0; i < nr; i++) {
		r = layer_unlink(v->dirfd, seq[i]);
		if (r)
			return r;
	}
	if (unlinkat(v->e->volumes_fd, v->dir_name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return dir_sync(v->e->volumes_fd);
}
