// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * LIST of the file store: a walk over the directory tree in key order. Owns nothing beyond the
 * call; runs on the file store's threads, takes no lock.
 *
 * Byte order of whole keys is not the order of directory entries: "a-b" sorts before "a/c". It is
 * their order once each directory's name ends in '/', so entries carry that slash. The walk keeps
 * its own stack; its depth is bounded by the length of a key.
 */
#include "store/file_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct level {
	char **names; /* sorted; a directory's ends in '/' */
	size_t nr, cap, next;
	size_t base_len; /* of walk.key: this directory's part */
};

struct walk {
	int dirfd;
	struct store_op *op;
	size_t prefix_len;
	char key[STORE_KEY_MAX + 1]; /* of the current entry */
	struct level *levels;
	size_t nr_levels;
};

static int name_cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int level_add(struct level *l, const char *name, size_t len)
{
	if (l->nr == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		char **names = reallocarray(l->names, cap, sizeof(*names));

		if (!names)
			return -ENOMEM;
		l->names = names;
		l->cap = cap;
	}
	l->names[l->nr] = strndup(name, len);
	if (!l->names[l->nr])
		return -ENOMEM;
	l->nr++;
	return 0;
}

static void level_free(struct level *l)
{
	for (size_t i = 0; i < l->nr; i++)
		free(l->names[i]);
	free(l->names);
}

/* Can `key` (a directory's ends in '/') be, or hold, something to list? */
static bool key_wanted(const struct walk *w, const char *key, size_t len)
{
	const char *after = w->op->start_after;
	bool dir = key[len - 1] == '/';
	size_t n = w->prefix_len;

	if (dir)
		n = MIN(n, len);
	if (strncmp(key, w->op->key, n))
		return false;
	return dir ? strncmp(key, after, len) >= 0 : strcmp(key, after) > 0;
}

/*
 * Is the entry a directory (1), a regular file (0), or nothing of ours (-ENOENT)? What cannot be
 * told is an error: who lists relies on seeing everything. So is a link to a directory, -ELOOP:
 * GETs follow it, and a walk might never end.
 */
static int entry_kind(int fd, const struct dirent *de)
{
	struct stat st;

	if (de->d_type == DT_DIR)
		return 1;
	if (de->d_type == DT_REG)
		return 0;
	if (de->d_type != DT_UNKNOWN && de->d_type != DT_LNK)
		return -ENOENT;
	if (fstatat(fd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return !fstatat(fd, de->d_name, &st, 0) && S_ISDIR(st.st_mode) ? -ELOOP : -ENOENT;
	if (S_ISDIR(st.st_mode))
		return 1;
	return S_ISREG(st.st_mode) ? 0 : -ENOENT;
}

static int level_read(struct walk *w, struct level *l, DIR *d)
{
	struct dirent *de;

	for (errno = 0; (de = readdir(d)); errno = 0) {
		size_t len = strlen(de->d_name);
		char *name = w->key + l->base_len;
		int kind, r;

		if (de->d_name[0] == '.' || l->base_len + len >= STORE_KEY_MAX)
			continue;
		kind = entry_kind(dirfd(d), de);
		if (kind == -ENOENT)
			continue;
		memcpy(name, de->d_name, len);
		if (kind)
			name[len++] = '/';
		name[len] = '\0';
		if (!key_wanted(w, w->key, l->base_len + len))
			continue;
		if (kind < 0)
			return kind;
		r = level_add(l, name, len);
		if (r)
			return r;
	}
	return -errno;
}

/* Read the directory w->key[0, base_len) and push it. One that is gone is empty. */
static int level_push(struct walk *w, size_t base_len)
{
	struct level *levels = reallocarray(w->levels, w->nr_levels + 1, sizeof(*levels));
	struct level *l;
	DIR *d;
	int fd, r;

	if (!levels)
		return -ENOMEM;
	w->levels = levels;
	l = &levels[w->nr_levels++];
	*l = (struct level){.base_len = base_len};
	w->key[base_len] = '\0';
	fd = openat(w->dirfd, base_len ? w->key : ".",
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	r = level_read(w, l, d);
	closedir(d);
	if (!r && l->nr)
		qsort(l->names, l->nr, sizeof(*l->names), name_cmp);
	return r;
}

/* The walk reached the file w->key. */
static int emit(struct walk *w)
{
	struct store_op *op = w->op;
	struct store_list_entry *e;
	struct stat st;

	if (fstatat(w->dirfd, w->key, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	if (op->nr_entries == op->max_entries) {
		op->truncated = true;
		return 0;
	}
	e = &op->entries[op->nr_entries++];
	memcpy(e->key, w->key, strlen(w->key) + 1);
	e->size = (uint64_t)st.st_size;
	e->mtime_s = (uint64_t)st.st_mtim.tv_sec;
	return 0;
}

int file_list(int dirfd, struct store_op *op, uint64_t deadline_ns)
{
	struct walk w = {.dirfd = dirfd, .op = op, .prefix_len = strlen(op->key)};
	const char *slash = strrchr(op->key, '/');
	size_t base_len = slash ? (size_t)(slash - op->key) + 1 : 0;
	int r;

	if (!op->max_entries || strnlen(op->start_after, STORE_KEY_MAX) == STORE_KEY_MAX)
		return -EINVAL;
	memcpy(w.key, op->key, base_len);
	r = level_push(&w, base_len);
	while (!r && w.nr_levels && !op->truncated) {
		struct level *l = &w.levels[w.nr_levels - 1];
		size_t len;

		if (l->next == l->nr) {
			level_free(l);
			w.nr_levels--;
			continue;
		}
		len = strlen(l->names[l->next]);
		memcpy(w.key + l->base_len, l->names[l->next], len + 1);
		len += l->base_len;
		l->next++;
		if (w.key[len - 1] == '/')
			r = now_ns() >= deadline_ns ? -ETIMEDOUT : level_push(&w, len);
		else
			r = emit(&w);
	}
	while (w.nr_levels)
		level_free(&w.levels[--w.nr_levels]);
	free(w.levels);
	if (r)
		op->nr_entries = 0;
	return r;
}
