/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An S3 server for tests: s3d of this build, started for the test, or, if the environment names one
 * in GFS_TEST_S3 (see selftests/rgw), that one. Functions assert (cmocka).
 */
#ifndef GFS_UNIT_S3_SERVER_H
#define GFS_UNIT_S3_SERVER_H

#include "store/store.h"

#include <sys/types.h>

struct s3_server {
	pid_t pid; /* 0: not ours, and it takes no rules */
	char dir[96];
	char endpoint[64], access[64], secret[64];
	char cert[128];                  /* "" = no TLS */
	char bucket[32];                 /* nobody else's */
	char url[160];                   /* "s3://BUCKET/p" */
	struct store_s3_options options; /* reach it by these */
};

/* Start s3d with these rules (NULL: none). */
void s3_server_start(struct s3_server *s, const char *rules);
/* The same over TLS, with a certificate of its own in DIR/cert.pem (s->options.ca_file names it).
 * False: there is no openssl to make one. */
bool s3_server_start_tls(struct s3_server *s);
/* The one of GFS_TEST_S3. False: the environment names none. */
bool s3_server_environment(struct s3_server *s);
/* Another bucket of its own, empty; changes bucket and url. */
void s3_server_bucket(struct s3_server *s);
void s3_server_stop(struct s3_server *s);
/* New rules; "" = none. */
void s3_server_rules(const struct s3_server *s, const char *rules);
/* Change the credentials it accepts: "ACCESS SECRET [TOKEN]". */
void s3_server_credentials(const struct s3_server *s, const char *text);
/* A number of its statistics: "requests", or in an object: "ops.put". 0 if it has none. */
uint64_t s3_server_stat(const struct s3_server *s, const char *name);
/* Forget the statistics. */
void s3_server_stats_reset(const struct s3_server *s);
/* Open s->url with s->options. */
struct store *s3_server_open(const struct s3_server *s);

#endif
