/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the implementations of a store share: completion, deadlines, key rules. Not for users. */
#ifndef GFS_STORE_PRIV_H
#define GFS_STORE_PRIV_H

#include "store/store.h"

/* Deadline of an operation that names none. */
#define STORE_TIMEOUT_NS (30 * NSEC_PER_SEC)

/*
 * Finish `op` with `res`: emits the timing event if op came in through store_submit(), then calls
 * ->done, after which op may be gone. On a thread of the store, exactly once per operation.
 */
void store_complete(struct store_op *op, int res);

/* When op must have ended, now_ns() clock; never 0. Does not change op, which its owner may reuse.
 */
uint64_t store_op_deadline(const struct store_op *op);

/* Total length of a PUT body in bytes. */
uint64_t store_body_bytes(const struct store_op *op);

/* PUT and DELETE change the store, so their failures can be ambiguous. */
static inline bool store_op_mutates(const struct store_op *op)
{
	return op->type == STORE_PUT || op->type == STORE_DELETE;
}

/*
 * 0, or -EINVAL: a key is 1..511 bytes of parts joined by '/', each part 1..255 bytes and not
 * starting with a dot. `prefix`: a LIST prefix, which may also be empty or end anywhere.
 */
int store_key_check(const char *key, bool prefix) __must_check;

/* file.c: open the directory of "file:///dir", creating it; blocks. -errno with a sentence in err.
 */
int store_file_open(const char *url, struct store **out, char *err, size_t err_len) __must_check;

/*
 * s3.c: open "s3://BUCKET[/PREFIX]"; blocks for o->probe_wait_ns at most. Errors as
 * store_open_with().
 */
int store_s3_open(const char *url, const struct store_s3_options *o, struct store **out, char *err,
		  size_t err_len) __must_check;

/*
 * bound.c: wrap a store whose operations may outlast their deadline; takes it over. The wrapper
 * ends them in time with -ETIMEDOUT (PUT, DELETE: ambiguous), but for PUTs of more than 1 MiB.
 * -errno.
 */
int store_bound_wrap(struct store *below, struct store **out) __must_check;

#endif
