/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fault store: wraps any store and injects latency, errors, ambiguous outcomes, truncation,
 * corruption and hangs, by rule and seed. For tests and drills; announced loudly in the log.
 *
 * Rules: "seed=N;RULE;RULE…", RULE = "OP[:KEYGLOB] ACTION[=ARG] [p=0.1] [skip=N] [count=N]", OP =
 * get, put, head, list, delete or *; ACTION: delay=MS            before the operation; past its
 * deadline: -ETIMEDOUT, ambiguous, not performed error=ERRNO|NAME    without performing it
 * (definite) ambiguous=before    not performed, reported as -ETIMEDOUT with `ambiguous`
 *   ambiguous=after     performed, reported as -ETIMEDOUT with `ambiguous`
 *   ambiguous=late:MS   reported at once as ambiguous, performed MS later
 *   truncate            GET delivers a part: -ENODATA
 *   corrupt             GET delivers the bytes with one flipped, and success
 *   hang                never completes before the deadline (-ETIMEDOUT, ambiguous), or
 * store_fault_release()
 *
 * Rules apply in order: delays add up, the first other action that strikes is final. skip passes
 * over the first N matches, count limits the strikes. ambiguous strikes PUT and DELETE only,
 * truncate and corrupt GET only. Each rule draws from a generator seeded by `seed` (default 1) and
 * its place.
 */
#ifndef GFS_STORE_FAULT_H
#define GFS_STORE_FAULT_H

#include "store/store.h"

/* Wraps `inner` (owned from then on, closed with it). -EINVAL with a sentence in err. */
int store_fault_wrap(struct store *inner, const char *rules, struct store **out, char *err,
		     size_t err_len) __must_check;
/* Replace the rules of a running fault store (tests, `fault` file); same errors. Any thread. */
int store_fault_set(struct store *s, const char *rules, char *err, size_t err_len) __must_check;
/* True if `s` is a fault store. */
bool store_is_fault(const struct store *s);
/* Complete all hanging operations now, as if their deadline had passed. */
void store_fault_release(struct store *s);

#endif
