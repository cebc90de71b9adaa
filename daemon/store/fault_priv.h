/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules of the fault store: shared by fault.c and fault_rules.c only. */
#ifndef GFS_STORE_FAULT_PRIV_H
#define GFS_STORE_FAULT_PRIV_H

#include "store/fault.h"
#include "store/store_priv.h"

enum fault_action {
	FAULT_NONE,
	FAULT_DELAY,
	FAULT_ERROR,
	FAULT_AMBIGUOUS_BEFORE,
	FAULT_AMBIGUOUS_AFTER,
	FAULT_AMBIGUOUS_LATE,
	FAULT_TRUNCATE,
	FAULT_CORRUPT,
	FAULT_HANG,
};

/* What happens to one operation. */
struct fault_verdict {
	enum fault_action action; /* FAULT_DELAY is never final: it adds to delay_ns */
	uint64_t delay_ns;        /* before anything else */
	uint64_t late_ns;         /* FAULT_AMBIGUOUS_LATE */
	uint64_t random;          /* FAULT_TRUNCATE, FAULT_CORRUPT: where */
	int error;                /* FAULT_ERROR: positive errno */
};

struct fault_rules;

/* Parse a rule string as in fault.h; "" is no rule. -ENOMEM, -EINVAL with a sentence in err. */
int fault_rules_parse(const char *text, struct fault_rules **out, char *err,
		      size_t err_len) __must_check;
void fault_rules_free(struct fault_rules *rules); /* NULL is fine */
/*
 * Judge op: rules apply in order, delays add up, the first other action that strikes is final.
 * Counts matches and draws random numbers, so calls are serialised by the caller, and their order
 * is what the seed makes repeatable.
 */
struct fault_verdict fault_rules_judge(struct fault_rules *rules, const struct store_op *op);

#endif
