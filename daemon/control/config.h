/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's configuration: one table (config_options) drives the parser, the defaults, `glidefsd
 * --help`, and the check that the man page names every option. Read once at start; immutable after.
 */
#ifndef GFS_CONTROL_CONFIG_H
#define GFS_CONTROL_CONFIG_H

#include <stdio.h>

#include "lib/util.h"

#define CONFIG_PATH_DEFAULT "/etc/glidefs/glidefsd.conf"
/* The store of a daemon that was told nothing; made at its first start. Any other must exist. */
#define CONFIG_STORE_DIR_DEFAULT "/var/lib/glidefs/store"

struct config {
	/* [daemon] */
	char *socket, *state_dir, *cache_dir, *timing_log, *host_name;
	uint64_t log_level; /* enum log_level */
	uint64_t api_threads, create_timeout_s, lock_wait_s, pending_reap_s, pending_forget_s;
	char *listen, *token_file;
	uint64_t request_timeout_s;
	uint64_t metrics; /* bool */
	/* [store] */
	char *store_url, *store_fault;
	char *store_endpoint, *store_region, *store_path_style, *store_ca_file;
	char *store_access_key_id, *store_secret_access_key, *store_secret_key_file;
	char *store_credentials_file, *store_profile;
	uint64_t store_tls_verify, store_single_host; /* bool */
	uint64_t store_max_connections;
	/* [upload] */
	uint64_t upload_dirty_bytes, upload_age_s, upload_age_min_s, zstd_level;
	/* [cache] */
	uint64_t memory_bytes, ssd_bytes, index_bytes, volume_max_bytes, host_max_bytes,
		min_free_bytes, space_wait_s;
	/* [io] */
	uint64_t store_timeout_s, slow_ms /* UINT64_MAX = off */, prefetch_blocks, workers;
	/* [ublk] */
	uint64_t queues, depth, command_timeout_s;
	/* [udev] */
	uint64_t udev_install /* bool */, udev_wait_ms;
};

enum config_type {
	CONFIG_PATH,     /* absolute; may be empty if min is 0 */
	CONFIG_STRING,   /* min..max characters */
	CONFIG_UINT,     /* min..max */
	CONFIG_SIZE,     /* bytes, suffixes K M G T (powers of 1024) */
	CONFIG_UINT_OFF, /* min..max, or "off" = UINT64_MAX */
	CONFIG_BOOL,     /* yes or no */
	CONFIG_LOG_LEVEL,
};

struct config_option {
	const char *section, *name;
	enum config_type type;
	size_t offset;   /* in struct config: char * or uint64_t */
	const char *def; /* as written in the file */
	uint64_t min, max;
	const char *help; /* one sentence, lower case, with the unit */
};

extern const struct config_option config_options[];
extern const unsigned int config_options_nr;

/*
 * Defaults, then the file (NULL: defaults only). 0; -EINVAL or the errno of the file: *errors is a
 * malloc'ed text, one "file:line: sentence" line per problem, all of them at once. c is valid only
 * on 0.
 */
int config_load(const char *path, struct config *c, char **errors) __must_check;
void config_free(struct config *c);
/* The options with defaults, for --help. */
void config_print_help(FILE *out);

/*
 * "4096", "64K", "10G", "1T" to bytes: digits and one optional suffix (either case), nothing else.
 * -EINVAL, -ERANGE past 2^64 - 1.
 */
int size_parse(const char *s, uint64_t *bytes) __must_check;

#endif
