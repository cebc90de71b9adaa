/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sealed JSON, the form of roots and snapshots: one JSON object without white space whose last
 * member is a checksum over every byte before the comma that introduces it, and a line feed. The
 * checksum is verified on the text before any JSON is parsed. `magic` and `version` come first and
 * mean the same in all versions, so a future one is recognised as such, not called corrupt.
 * Private to the format files; pure functions over memory, any thread.
 */
#ifndef GFS_ENGINE_SEALED_H
#define GFS_ENGINE_SEALED_H

#include "engine/wire.h"

#include <json-c/json.h>

#define SEALED_BYTES_MAX (64 * KiB)
#define NUMBER_MAX       INT64_MAX /* numbers stay clear of wrapping */

/* ---- writing ---- */

/* An object under construction; what could not be added makes `failed` true. */
struct sealed_out {
	struct json_object *o;
	bool failed;
};

/* Begins with magic and version. */
void sealed_begin(struct sealed_out *w, const char *magic, int version);
/* Adds a member to o, an object of w; takes v over. */
void sealed_add(struct sealed_out *w, struct json_object *o, const char *key,
		struct json_object *v);
void sealed_add_str(struct sealed_out *w, const char *key, const char *s);
void sealed_add_u64(struct sealed_out *w, const char *key, uint64_t v);
void sealed_add_hex(struct sealed_out *w, const char *key, const void *data, size_t len);
void sealed_add_uuid(struct sealed_out *w, const char *key, const uint8_t uuid[16]);
/* The text, malloc'ed, and a NUL that *len leaves out. Frees the object. -ENOMEM. */
int sealed_end(struct sealed_out *w, char **json, size_t *len) __must_check;

/* ---- reading ---- */

/* An object that is being read; what: "root", for sentences. */
struct sealed_in {
	struct json_object *o;
	const char *what;
	struct fmt_err *e;
};

/*
 * Check the seal and the head, parse. -ENODATA, -EBADMSG, -EPROTONOSUPPORT, -ENOMEM with the
 * sentence in in->e. On success the caller calls sealed_close(). in->what and in->e are set.
 */
int sealed_open(struct sealed_in *in, const char *json, size_t len, const char *magic,
		int version) __must_check;
void sealed_close(struct sealed_in *in);

/* -EBADMSG with a sentence unless the member is there and of the right type and range. */
int sealed_u64(const struct sealed_in *in, const char *key, uint64_t max, uint64_t *v) __must_check;
int sealed_bool(const struct sealed_in *in, const char *key, bool *v) __must_check;
int sealed_str(const struct sealed_in *in, const char *key, char *buf, size_t size) __must_check;
int sealed_hex(const struct sealed_in *in, const char *key, void *out, size_t len) __must_check;
int sealed_uuid(const struct sealed_in *in, const char *key, uint8_t uuid[16]) __must_check;
/* *sub: the member as an object to read from, o NULL if it is absent. */
int sealed_sub(const struct sealed_in *in, const char *key, struct sealed_in *sub) __must_check;

/* ---- what roots and snapshots share (sealed.c) ---- */

/* The member "manifest"; `own`: the UUID that is left out because it is the object's own. */
void sealed_add_manifest(struct sealed_out *w, const struct manifest_ref *m, const uint8_t own[16]);
int sealed_manifest(const struct sealed_in *in, struct manifest_ref *m,
		    const uint8_t own[16]) __must_check;
int manifest_ref_check(const struct manifest_ref *m, const char *what,
		       struct fmt_err *e) __must_check;

#endif
