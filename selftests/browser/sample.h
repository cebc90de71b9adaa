/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A made-up session that is the same each time: a healthy device, each kind of hang that a report
 * must explain, and names chosen by an attacker. For the tests of everything that draws. It is told
 * thing by thing, not in order of time.
 */
#ifndef GFS_SELFTESTS_BROWSER_SAMPLE_H
#define GFS_SELFTESTS_BROWSER_SAMPLE_H

#include "tracing/sink.h"

#define SAMPLE_T0       (5000 * NSEC_PER_SEC) /* of the first record */
#define SAMPLE_LAST     (SAMPLE_T0 + 12 * NSEC_PER_SEC)
#define SAMPLE_FINDINGS 6
#define SAMPLE_EVIL     "</script><img src=x onerror=\"window.pwned=1\">"

/* Tell sinks[0..n) the whole session, findings included; the caller closes them. */
void sample_run(struct sink *const *sinks, unsigned int n);

#endif
