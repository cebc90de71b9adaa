/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef GFS_CONTROL_CONFIG_STORE_H
#define GFS_CONTROL_CONFIG_STORE_H

#include "control/config.h"
#include "engine/format.h"
#include "store/store.h"

/*
 * Open the store that c names; probe_wait_ns: how long to wait for what an S3 endpoint supports.
 * Blocks. Errors as of store_open_with(), with the sentence in err.
 */
int config_store_open(const struct config *c, uint64_t probe_wait_ns, struct store **out,
		      struct fmt_err *err) __must_check;

#endif
