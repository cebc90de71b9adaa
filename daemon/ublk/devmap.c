// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device map; see devmap.h. m->lock guards the entries and the generations; a write is made by
 * one of the callers of devmap_sync, outside the lock, while the others wait for it or for the next
 * one.
 */
#include "ublk/devmap.h"

#include "lib/fsutil.h"
#include "lib/hash.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DEVMAP_VERSION   1
#define DEVMAP_BYTES_MAX (32 * MiB)

struct devmap {
	int dirfd;
	char boot_id[37];
	bool whole;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct devmap_entry *e;
	size_t nr, cap;
	uint64_t changed; /* generation of the entries */
	uint64_t written; /* generation on disk */
	bool writing;
};

static int __printf(2, 3) bad(struct fmt_err *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

int devmap_encode(const struct devmap_entry *e, size_t nr, const char *boot_id, char **json,
		  size_t *len)
{
	struct json_object *root = json_object_new_object(), *devs = json_object_new_array();
	const char *text;
	int r = -ENOMEM;

	if (!root || !devs) {
		json_object_put(devs);
		goto out;
	}
	json_object_object_add(root, "version", json_object_new_int(DEVMAP_VERSION));
	json_object_object_add(root, "boot_id", json_object_new_string(boot_id));
	json_object_object_add(root, "devices", devs);
	for (size_t i = 0; i < nr; i++) {
		struct json_object *d = json_object_new_object();
		char uuid[37];

		if (!d)
			goto out;
		uuid_format(e[i].uuid, uuid);
		json_object_object_add(d, "dev_id", json_object_new_int(e[i].dev_id));
		json_object_object_add(d, "uuid", json_object_new_string(uuid));
		json_object_object_add(d, "name", json_object_new_string(e[i].name));
		if (json_object_array_add(devs, d)) {
			json_object_put(d);
			goto out;
		}
	}
	text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY);
	*json = text ? strdup(text) : NULL;
	if (*json) {
		*len = strlen(*json);
		r = 0;
	}
out:
	json_object_put(root);
	return r;
}

static int entry_parse(struct json_object *d, struct devmap_entry *out, size_t i,
		       struct fmt_err *err)
{
	struct json_object *id, *uuid, *name;
	struct fmt_err name_err;

	if (!json_object_is_type(d, json_type_object) ||
	    !json_object_object_get_ex(d, "dev_id", &id) ||
	    !json_object_is_type(id, json_type_int) ||
	    !json_object_object_get_ex(d, "uuid", &uuid) ||
	    !json_object_is_type(uuid, json_type_string) ||
	    !json_object_object_get_ex(d, "name", &name) ||
	    !json_object_is_type(name, json_type_string))
		return bad(err, "device map: entry %zu lacks dev_id, uuid or name", i);
	if (json_object_get_int64(id) < 0 || json_object_get_int64(id) > INT32_MAX)
		return bad(err, "device map: entry %zu: dev_id %lld is out of range", i,
			   (long long)json_object_get_int64(id));
	if (uuid_parse(json_object_get_string(uuid), out->uuid))
		return bad(err, "device map: entry %zu: bad uuid", i);
	if (volume_name_check(json_object_get_string(name), &name_err))
		return bad(err, "device map: entry %zu: bad volume name", i);
	out->dev_id = json_object_get_int(id);
	snprintf(out->name, sizeof(out->name), "%s", json_object_get_string(name));
	return 0;
}

static int root_parse_checked(struct json_object *root, struct devmap_entry **e, size_t *nr,
			      char boot_id[37], struct fmt_err *err)
{
	struct json_object *version, *boot, *devs;
	uint8_t boot_bytes[16];
	size_t n;

	if (!json_object_is_type(root, json_type_object) ||
	    !json_object_object_get_ex(root, "version", &version) ||
	    !json_object_is_type(version, json_type_int))
		return bad(err, "device map: no version");
	if (json_object_get_int64(version) != DEVMAP_VERSION) {
		snprintf(err->msg, sizeof(err->msg),
			 "device map: version %lld, this program knows %d",
			 (long long)json_object_get_int64(version), DEVMAP_VERSION);
		return -EPROTONOSUPPORT;
	}
	if (!json_object_object_get_ex(root, "boot_id", &boot) ||
	    !json_object_is_type(boot, json_type_string) ||
	    uuid_parse(json_object_get_string(boot), boot_bytes))
		return bad(err, "device map: no boot id");
	if (!json_object_object_get_ex(root, "devices", &devs) ||
	    !json_object_is_type(devs, json_type_array))
		return bad(err, "device map: no list of devices");
	n = json_object_array_length(devs);
	if (n > DEVMAP_DEVS_MAX)
		return bad(err, "device map: %zu devices, at most %d", n, DEVMAP_DEVS_MAX);
	*e = calloc(n ? n : 1, sizeof(**e));
	if (!*e)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int r = entry_parse(json_object_array_get_idx(devs, i), &(*e)[i], i, err);

		for (size_t k = 0; !r && k < i; k++)
			if ((*e)[k].dev_id == (*e)[i].dev_id)
				r = bad(err, "device map: device %d is there twice",
					(*e)[i].dev_id);
		if (r) {
			free(*e);
			*e = NULL;
			return r;
		}
	}
	snprintf(boot_id, 37, "%s", json_object_get_string(boot));
	*nr = n;
	return 0;
}

int devmap_parse(const char *json, size_t len, struct devmap_entry **e, size_t *nr,
		 char boot_id[37], struct fmt_err *err)
{
	struct json_tokener *tok = json_tokener_new();
	struct json_object *root;
	int r;

	if (!tok)
		return -ENOMEM;
	if (len > DEVMAP_BYTES_MAX) {
		json_tokener_free(tok);
		return bad(err, "device map: %zu bytes", len);
	}
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	/* With its NUL, so that a document cut within a number is not taken for whole. */
	root = json_tokener_parse_ex(tok, json, (int)len + 1);
	if (!root || json_tokener_get_error(tok) != json_tokener_success ||
	    json_tokener_get_parse_end(tok) < len)
		r = bad(err, "device map: not JSON: %s",
			json_tokener_error_desc(json_tokener_get_error(tok)));
	else
		r = root_parse_checked(root, e, nr, boot_id, err);
	json_object_put(root);
	json_tokener_free(tok);
	return r;
}

static int devmap_load(struct devmap *m, struct fmt_err *err)
{
	struct devmap_entry *e = NULL;
	char boot_id[37];
	char *json;
	size_t len, nr = 0;
	int r = file_read_all(m->dirfd, DEVMAP_FILE, DEVMAP_BYTES_MAX, &json, &len);

	if (r == -ENOENT)
		return 0;
	if (r == -EFBIG)
		return bad(err, "device map: larger than %llu bytes", DEVMAP_BYTES_MAX);
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "device map: cannot read %s: %s", DEVMAP_FILE,
			 strerror(-r));
		return r;
	}
	r = devmap_parse(json, len, &e, &nr, boot_id, err);
	free(json);
	if (r == -EPROTONOSUPPORT)
		r = -EBADMSG;
	if (r)
		return r;
	if (strcmp(boot_id, m->boot_id) != 0) {
		/* No ublk device outlives the kernel that made it. */
		free(e);
		return 0;
	}
	m->e = e;
	m->nr = m->cap = nr;
	m->whole = true;
	return 0;
}

bool devmap_was_whole(const struct devmap *m)
{
	return m->whole;
}

int devmap_open(const char *state_dir, struct devmap **out, struct fmt_err *err)
{
	struct devmap *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	pthread_mutex_init(&m->lock, NULL);
	cond_init_mono(&m->cond);
	m->dirfd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->dirfd < 0) {
		r = -errno;
		snprintf(err->msg, sizeof(err->msg), "device map: cannot open %.120s: %s",
			 state_dir, strerror(-r));
		goto err_out;
	}
	r = boot_id_read(m->boot_id);
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "device map: no boot id: %s", strerror(-r));
		goto err_out;
	}
	r = devmap_load(m, err);
	if (r && r != -EBADMSG)
		goto err_out;
	*out = m;
	return r;
err_out:
	devmap_close(m);
	return r;
}

void devmap_close(struct devmap *m)
{
	if (!m)
		return;
	if (m->dirfd >= 0)
		close(m->dirfd);
	pthread_cond_destroy(&m->cond);
	pthread_mutex_destroy(&m->lock);
	free(m->e);
	free(m);
}

/* Under m->lock. */
static void drop_entries(struct devmap *m, int dev_id, const uint8_t *uuid)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->nr; i++)
		if (m->e[i].dev_id != dev_id &&
		    !(uuid && memcmp(m->e[i].uuid, uuid, sizeof(m->e[i].uuid)) == 0))
			m->e[kept++] = m->e[i];
	if (kept != m->nr)
		m->changed++;
	m->nr = kept;
}

int devmap_set(struct devmap *m, int dev_id, const uint8_t uuid[16], const char *name)
{
	SCOPED_LOCK(&m->lock);

	/* One device per volume, one volume per device: an older claim is void. */
	drop_entries(m, dev_id, uuid);
	if (m->nr == DEVMAP_DEVS_MAX)
		return -ENOSPC;
	if (m->nr == m->cap) {
		size_t cap = MAX(16u, 2 * m->cap);
		struct devmap_entry *e = realloc(m->e, cap * sizeof(*e));

		if (!e)
			return -ENOMEM;
		m->e = e;
		m->cap = cap;
	}
	m->e[m->nr] = (struct devmap_entry){.dev_id = dev_id};
	memcpy(m->e[m->nr].uuid, uuid, 16);
	snprintf(m->e[m->nr].name, sizeof(m->e[m->nr].name), "%s", name);
	m->nr++;
	m->changed++;
	return 0;
}

void devmap_clear(struct devmap *m, int dev_id)
{
	SCOPED_LOCK(&m->lock);

	drop_entries(m, dev_id, NULL);
}

int devmap_sync(struct devmap *m)
{
	uint64_t want;
	int r = 0;

	pthread_mutex_lock(&m->lock);
	want = m->changed;
	while (!r && m->written < want) {
		uint64_t generation;
		char *json = NULL;
		size_t len = 0;

		if (m->writing) {
			pthread_cond_wait(&m->cond, &m->lock);
			continue;
		}
		m->writing = true;
		generation = m->changed;
		r = devmap_encode(m->e, m->nr, m->boot_id, &json, &len);
		pthread_mutex_unlock(&m->lock);
		if (!r)
			r = file_write_atomic(m->dirfd, DEVMAP_FILE, json, len);
		free(json);
		pthread_mutex_lock(&m->lock);
		m->writing = false;
		if (!r)
			m->written = generation;
		pthread_cond_broadcast(&m->cond);
	}
	pthread_mutex_unlock(&m->lock);
	return r;
}

bool devmap_find_uuid(struct devmap *m, const uint8_t uuid[16], struct devmap_entry *out)
{
	SCOPED_LOCK(&m->lock);

	for (size_t i = 0; i < m->nr; i++) {
		if (memcmp(m->e[i].uuid, uuid, 16) == 0) {
			*out = m->e[i];
			return true;
		}
	}
	return false;
}

bool devmap_find_dev(struct devmap *m, int dev_id, struct devmap_entry *out)
{
	SCOPED_LOCK(&m->lock);

	for (size_t i = 0; i < m->nr; i++) {
		if (m->e[i].dev_id == dev_id) {
			*out = m->e[i];
			return true;
		}
	}
	return false;
}
