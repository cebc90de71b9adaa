/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A real glidefsd without devices as a child process, and raw HTTP over its socket. Every answer of
 * api_call() is compared with Documentation/openapi.json. Functions assert (cmocka).
 */
#ifndef GFS_UNIT_API_HARNESS_H
#define GFS_UNIT_API_HARNESS_H

#include <json-c/json.h>
#include <sys/types.h>

#include "lib/util.h"

#define ANSWER_S       30 /* generous: sanitizers, shared processors */
#define API_ANSWER_MAX (1 << 20)

extern char daemon_dir[32], daemon_sock[64]; /* of the group of tests */
extern pid_t daemon_pid;                     /* -1: none runs */
extern char api_answer[API_ANSWER_MAX];      /* body of the last answer of api_call() */
extern struct json_object *api_doc;          /* the document */

/* ---- frame of a group of tests: BUILD/glidefsd, or $GLIDEFSD ---- */
int daemon_setup(void **state);
int daemon_teardown(void **state);
/* After each test: no daemon, empty directories. */
int daemon_clean(void **state);
/* Path of the program. */
const char *daemon_path(void);

/* ---- the daemon ---- */
/* extra: lines of [daemon], then perhaps "[store]\n" and lines of that section. */
void daemon_write_config(const char *extra);
/* Start it by the configuration that is there; its pid, which is not daemon_pid yet. */
pid_t daemon_spawn(void);
void daemon_wait_ready(void);
/* All three. */
void daemon_start(const char *extra);
/* SIGTERM must end it with 0, so that sanitizers have their say. */
void daemon_stop(int sig);
unsigned int daemon_threads(pid_t pid);
unsigned int daemon_fds(pid_t pid);

/* ---- requests ---- */
/* A connection to the socket, or -errno. */
int api_dial(void);
/* Read one answer: its status, body into out (NUL-terminated, may be NULL); 0 = closed without one.
 */
int api_read_answer(int fd, char *out, size_t len);
/* The same with its headers. */
int api_read_all(int fd, char *out, size_t len);
/* Send bytes as they are, read one answer. */
int api_raw(const char *req, size_t len, char *out, size_t out_len);
/* One request: its status, body in api_answer. */
int api_call(const char *method, const char *path, const char *body);
/* The same with the status that must come; an error must have a sentence. */
void api_expect(int want, const char *method, const char *path, const char *body);
/* A member of the object in api_answer as text, "" if it is not there. */
const char *api_member(const char *key);
/* What came is what the document says: a status that it has, with a body of its schema. */
void api_validate(const char *method, const char *path, int status);
/* The client program with these arguments (NULL ends): its exit status; what it printed is in
 * api_answer. */
int api_client(const char *a, const char *b, const char *c, const char *d);
/* The same with any number of arguments, in the background; what it prints goes into fd. */
pid_t api_client_spawn(const char *const *args, int fd);

void pause_ms(unsigned int ms);

#endif
