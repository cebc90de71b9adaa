/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The glidefs command: one table of subcommands (glidefs.c) drives dispatch, usage and completion;
 * one small function per subcommand talks to the daemon's API. One thread, but for what shows
 * progress.
 */
#ifndef GFS_CLI_CLI_H
#define GFS_CLI_CLI_H

#include <json-c/json.h>

#include "lib/util.h"

#define CLI_SOCKET_DEFAULT "/run/glidefs/glidefsd.sock"

/* Exit status of the program. */
enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1, /* the daemon refused, or a check failed */
	CLI_USAGE = 2,
	CLI_UNREACHABLE = 3, /* no daemon on the socket */
	CLI_NOT_FOUND = 4,
	CLI_CONFLICT = 5, /* exists and differs, in use, owned elsewhere */
};

/* Options of subcommands; a bit per option in cli_opt.mask. */
#define CLI_OPT_SIZE       (1u << 0)
#define CLI_OPT_BLOCK      (1u << 1)
#define CLI_OPT_PARTITIONS (1u << 2)
#define CLI_OPT_READ_ONLY  (1u << 3)
#define CLI_OPT_FORCE      (1u << 4)
#define CLI_OPT_TIMEOUT    (1u << 5)
#define CLI_OPT_CACHE_DIR  (1u << 6)
#define CLI_OPT_TAG        (1u << 7)
#define CLI_OPT_FROM       (1u << 8)
#define CLI_OPT_CONFIG     (1u << 9)
#define CLI_OPT_FORMAT     (1u << 10)
#define CLI_OPT_GC         (1u << 11)
#define CLI_OPT_RATE       (1u << 12)
#define CLI_OPT_CACHE      (1u << 13)

struct cli {
	const char *socket;
	const char *host, *token_file; /* "ADDRESS:PORT" instead of the socket, or NULL */
	bool json;
	const char *name;          /* the volume, NULL if the subcommand takes none */
	uint64_t seq;              /* of a snapshot of it, 0 if the subcommand takes none */
	const char *source, *file; /* of an image, NULL if the subcommand takes none */
	const char *size, *block, *cache_dir, *tag, *from, *config, *format;
	bool partitions, read_only, force;
	unsigned int timeout_s; /* 0 = not given */
	bool dry_run, cache;
	const char *grace, *max_delete, *rate; /* numbers, or NULL */
};

/* What a subcommand takes besides options. */
enum cli_arg {
	CLI_NOTHING,
	CLI_VOLUME,
	CLI_SNAPSHOT,
	CLI_IMAGE,
	CLI_FILE_IMAGE,
	CLI_SOURCE_FILE,
	CLI_MAYBE_VOLUME
};

struct cli_command {
	const char *name;
	enum cli_arg arg;
	unsigned int opts; /* CLI_OPT_* it accepts */
	const char *help;
	int (*run)(const struct cli *c); /* enum cli_exit */
};

int cmd_create(const struct cli *c);
int cmd_fork(const struct cli *c);
int cmd_grow(const struct cli *c);
int cmd_ls(const struct cli *c);
int cmd_show(const struct cli *c);
int cmd_attach(const struct cli *c);
int cmd_detach(const struct cli *c);
int cmd_rm(const struct cli *c);
int cmd_drain(const struct cli *c);
int cmd_takeover(const struct cli *c);
int cmd_promote(const struct cli *c);
int cmd_snapshot(const struct cli *c);
int cmd_snapshots(const struct cli *c);
int cmd_snapshot_rm(const struct cli *c);
int cmd_bless(const struct cli *c);
int cmd_export_image(const struct cli *c);
int cmd_images(const struct cli *c);
int cmd_image_rm(const struct cli *c);
int cmd_gc(const struct cli *c);
int cmd_scrub(const struct cli *c);
int cmd_doctor(const struct cli *c);
int cmd_health(const struct cli *c);

/* ---- client.c ---- */

struct cli_reply {
	long status; /* HTTP, 0 = no answer */
	char *body;  /* malloc'ed, NUL-terminated; never NULL after success */
	size_t len;
	char error[300]; /* status 0: why */
};

/* One request. 0, or -errno of the connection (then reply->error says it). Any thread. */
int cli_call(const struct cli *c, const char *method, const char *path, const char *body,
	     struct cli_reply *reply) __must_check;
void cli_reply_free(struct cli_reply *r);
/*
 * Request, and answer for people: prints the error (or, with --json, the body) and returns its exit
 * status; on success CLI_OK with *out parsed (caller puts), already printed if --json.
 */
int cli_request(const struct cli *c, const char *method, const char *path, const char *body,
		struct json_object **out);
/* The same for a reply that is there. */
int cli_finish(const struct cli *c, struct cli_reply *reply, struct json_object **out);

/* "/api/exports/NAME[/ACTION][?force=1&timeout_s=N]" into path[len]. */
void cli_path(const struct cli *c, const char *action, char *path, size_t len);

/* Members with defaults. */
const char *cli_str(struct json_object *o, const char *key, const char *dflt);
uint64_t cli_u64(struct json_object *o, const char *key);
bool cli_bool(struct json_object *o, const char *key);
/* What a script wants to have: the device, or the name where there is none. */
void cli_print_device(struct json_object *o);
/* ---- progress.c ---- */

/*
 * Draw one line on standard error, over the one before: a bar of done of total bytes with `what`
 * after it ("" = nothing), or, with total 0, `what` alone. since_ns: when it all began.
 */
void cli_progress(const char *name, uint64_t done, uint64_t total, const char *what,
		  uint64_t since_ns);
/* Erase that line. */
void cli_progress_end(void);
/*
 * cli_request() of a POST that may take long. On a terminal draw() is called five times a second
 * meanwhile; it says whether it has drawn a line, which is erased at the end.
 */
int cli_post_watched(const struct cli *c, const char *path, const char *body,
		     bool (*draw)(const struct cli *c, void *arg), void *arg,
		     struct json_object **out);

/* ---- qcow2.c ---- */

/*
 * The content of a qcow2 image as an open, unnamed file in $TMPDIR or /var/tmp, by qemu-img. -errno
 * with a sentence in err[len].
 */
int qcow2_open(const char *path, char *err, size_t len) __must_check;
/* Does it begin like one? */
bool qcow2_is(int fd);

/* ---- image_file.c ---- */

/*
 * c->file as a descriptor that gives the raw image, 0 for "-"; what begins like something packed is
 * refused unless c->format says raw. -errno with a sentence in err[len].
 */
int image_source_open(const struct cli *c, char *err, size_t len) __must_check;

struct image_target {
	const char *path;
	int fd;
	bool sparse; /* an empty file: zeros may be holes */
	bool made;   /* by the export; unnamed: it has no name yet */
	bool unnamed;
};

/*
 * c->file, or standard output, for an image of `size` bytes; c->force: what is there is written
 * over, but for a disk that is in use. 0, or -errno with a sentence in err[len].
 */
int image_target_open(const struct cli *c, uint64_t size, struct image_target *t, char *err,
		      size_t len) __must_check;
/*
 * The end of it. res 0: all is written; it is synced and gets its name. Else, what failed, with its
 * sentence in err[len]: what was made goes, of what was written over the sentence then tells.
 * Returns res, or -errno with a sentence.
 */
int image_target_close(struct image_target *t, int res, char *err, size_t len) __must_check;

/* "1.5 GiB" */
const char *cli_bytes(uint64_t n, char *buf, size_t len);

#endif
