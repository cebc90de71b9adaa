// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The circuit breaker of an endpoint: after FAILURES_MAX failures in a row nothing is sent for a
 * while; then one trial request at a time, until one succeeds. An endpoint that comes back is not
 * met by everything that waited, and a dead one costs one connection attempt per pause. What waits
 * meanwhile waits in the queue, until its own deadline. Pure: the caller owns it and gives the
 * time.
 */
#include "store/s3_priv.h"

#define FAILURES_MAX   8
#define PAUSE_FIRST_NS (250 * NSEC_PER_MSEC)
#define PAUSE_MAX_NS   (5 * NSEC_PER_SEC)

bool s3_breaker_take(struct s3_breaker *b, uint64_t now)
{
	if (b->state == S3_BREAKER_OPEN && now >= b->until_ns)
		b->state = S3_BREAKER_HALF_OPEN;
	if (b->state == S3_BREAKER_CLOSED)
		return true;
	if (b->state == S3_BREAKER_OPEN || b->trial)
		return false;
	b->trial = true;
	return true;
}

static void breaker_open(struct s3_breaker *b, uint64_t now)
{
	uint32_t rnd;

	random_bytes(&rnd, sizeof(rnd));
	b->pause_ns = b->pause_ns ? MIN(b->pause_ns * 2, PAUSE_MAX_NS) : PAUSE_FIRST_NS;
	b->until_ns = now + b->pause_ns / 2 + b->pause_ns / 2 * (rnd % 1024) / 1024;
	b->state = S3_BREAKER_OPEN;
	b->opens++;
}

void s3_breaker_result(struct s3_breaker *b, bool known, bool good, uint64_t now)
{
	/* Requests from before the opening end here too: while it is open they cannot prolong it,
	 * but a good one closes it. */
	if (b->state == S3_BREAKER_HALF_OPEN)
		b->trial = false;
	if (!known)
		return;
	if (good) {
		b->state = S3_BREAKER_CLOSED;
		b->failures = 0;
		b->pause_ns = 0;
		return;
	}
	b->failures++;
	if (b->state == S3_BREAKER_HALF_OPEN ||
	    (b->state == S3_BREAKER_CLOSED && b->failures >= FAILURES_MAX))
		breaker_open(b, now);
}
