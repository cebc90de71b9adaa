// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The durable list of volumes to attach at start: state_dir/volumes.json, replaced atomically, with
 * a checksum over its entries. Changes of many volumes at once share one write.
 */
#include "control/host_priv.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "lib/fsutil.h"
#include "lib/log.h"

#define LIST_FILE    "volumes.json"
#define LIST_VERSION 1
#define LIST_MAX     (64 * MiB)

/* ---- write ---- */

static struct json_object *list_encode_locked(struct host *h)
{
	struct json_object *all = json_object_new_array();
	struct host_vol *vol;

	for (unsigned int i = 0; all && i < HOST_BUCKETS; i++)
		list_for_each_entry (vol, &h->bucket[i], node) {
			struct json_object *o;
			char uuid[37];

			if (!vol->listed)
				continue;
			uuid_format(vol->uuid, uuid);
			o = json_object_new_object();
			json_object_object_add(o, "name", json_object_new_string(vol->name));
			json_object_object_add(o, "uuid", json_object_new_string(uuid));
			json_object_array_add(all, o);
		}
	return all;
}

static void list_checksum(struct json_object *volumes, char out[17])
{
	size_t len;
	const char *text = json_object_to_json_string_length(volumes, JSON_C_TO_STRING_PLAIN, &len);

	snprintf(out, 17, "%016llx", (unsigned long long)hash_xxh3(text, len));
}

static int list_write(struct host *h, struct json_object *volumes)
{
	struct json_object *top;
	const char *text;
	char sum[17];
	size_t len;
	int r;

	if (!volumes)
		return -ENOMEM;
	list_checksum(volumes, sum);
	top = json_object_new_object();
	json_object_object_add(top, "version", json_object_new_int(LIST_VERSION));
	json_object_object_add(top, "xxh3", json_object_new_string(sum));
	json_object_object_add(top, "volumes", volumes);
	text = json_object_to_json_string_length(top, JSON_C_TO_STRING_PLAIN, &len);
	r = text ? file_write_atomic(h->state_fd, LIST_FILE, text, len) : -ENOMEM;
	json_object_put(top);
	return r;
}

int list_set(struct host_vol *vol, bool listed)
{
	struct host *h = vol->h;
	uint64_t mine;
	int r = 0;
	SCOPED_LOCK(&h->lock);

	if (vol->listed == listed)
		return 0;
	vol->listed = listed;
	mine = ++h->list_version;
	while (h->list_persisted < mine) {
		struct json_object *snapshot;
		uint64_t version;

		if (h->list_writing) {
			pthread_cond_wait(&h->cond, &h->lock);
			continue;
		}
		h->list_writing = true;
		version = h->list_version;
		snapshot = list_encode_locked(h);
		pthread_mutex_unlock(&h->lock);
		r = list_write(h, snapshot);
		pthread_mutex_lock(&h->lock);
		h->list_writing = false;
		pthread_cond_broadcast(&h->cond);
		if (r)
			break;
		h->list_persisted = MAX(h->list_persisted, version);
	}
	if (r) {
		/* Later writes carry the old state again; what is on disk may be either. */
		vol->listed = !listed;
		h->list_version++;
		log_err("%s/%s: write failed: %s", h->cfg.state_dir, LIST_FILE, strerror(-r));
	}
	return r;
}

/* ---- read ---- */

static int list_bad(const struct host *h, struct fmt_err *err, const char *what)
{
	snprintf(err->msg, sizeof(err->msg),
		 "%.80s/%s: %s; restore it, or move it away and attach the volumes by name",
		 h->cfg.state_dir, LIST_FILE, what);
	return -EBADMSG;
}

static const char *member_str(struct json_object *o, const char *key)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return NULL;
	return json_object_get_string(v);
}

static int list_entry_load(struct host *h, struct json_object *o, struct fmt_err *err)
{
	const char *name = member_str(o, "name"), *uuid = member_str(o, "uuid");
	struct fmt_err ignored = {{0}};
	struct host_vol *vol;
	uint8_t id[16];

	if (!name || !uuid || volume_name_check(name, &ignored) || uuid_parse(uuid, id))
		return list_bad(h, err, "an entry lacks a valid name or uuid");
	if (vol_find_locked(h, name))
		return list_bad(h, err, "a name is in it twice");
	vol = vol_add_locked(h, name);
	if (!vol)
		return -ENOMEM;
	memcpy(vol->uuid, id, sizeof(id));
	vol->listed = true;
	vol->state = HOST_RECOVERING;
	/* Owned by recovery from the beginning: no request comes in between. */
	vol->busy = "recover";
	vol->busy_since = now_ns();
	return 0;
}

static int list_parse(struct host *h, struct json_object *top, struct fmt_err *err)
{
	struct json_object *version, *volumes;
	const char *sum = member_str(top, "xxh3");
	char want[17];

	if (!json_object_object_get_ex(top, "version", &version) ||
	    json_object_get_int(version) != LIST_VERSION)
		return list_bad(h, err, "it is of another version");
	if (!sum || !json_object_object_get_ex(top, "volumes", &volumes) ||
	    !json_object_is_type(volumes, json_type_array))
		return list_bad(h, err, "members are missing");
	list_checksum(volumes, want);
	if (strcmp(sum, want))
		return list_bad(h, err, "its checksum is wrong");
	for (size_t i = 0; i < json_object_array_length(volumes); i++) {
		int r = list_entry_load(h, json_object_array_get_idx(volumes, i), err);

		if (r)
			return r;
	}
	return 0;
}

int list_load(struct host *h, struct fmt_err *err)
{
	__cleanup_free char *text = NULL;
	struct json_object *top;
	size_t len;
	int r = file_read_all(h->state_fd, LIST_FILE, LIST_MAX, &text, &len);

	if (r == -ENOENT)
		return 0;
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "%.80s/%s: %s", h->cfg.state_dir, LIST_FILE,
			 strerror(-r));
		return r;
	}
	top = json_tokener_parse(text);
	if (!json_object_is_type(top, json_type_object)) {
		json_object_put(top);
		return list_bad(h, err, "it is not JSON");
	}
	r = list_parse(h, top, err);
	json_object_put(top);
	return r;
}
