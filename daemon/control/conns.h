/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connections of one listener: how many there are, and that none of them takes longer for a
 * request than it may. A thread closes those that do; it sleeps while there is no connection.
 */
#ifndef GFS_CONTROL_CONNS_H
#define GFS_CONTROL_CONNS_H

#include "lib/list.h"

struct conns;

struct conn {
	struct conns *all;
	struct list_head node;
	int fd;            /* borrowed; open as long as the conn is there */
	bool reading;      /* a request is awaited or being read */
	uint64_t since_ns; /* reading: since then */
};

/* timeout_ns: for a whole request. NULL = -ENOMEM. */
struct conns *conns_create(uint64_t timeout_ns);
/* Every conn is gone. */
void conns_destroy(struct conns *all);
/* Any thread. conn_new: NULL = no memory, the connection is then not watched. */
struct conn *conn_new(struct conns *all, int fd);
void conn_free(struct conn *c);
/* The request is whole or refused: from now on time is not the client's. False: it was closed
 * already. */
bool conn_read_done(struct conn *c);
/* The answer was sent: another request may come. */
void conn_again(struct conn *c);
unsigned int conns_nr(struct conns *all);

#endif
