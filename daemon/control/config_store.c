// SPDX-License-Identifier: GPL-2.0-or-later
/* The store that the configuration names; for the daemon, and for commands that need none. */
#include "control/config_store.h"

#include <stdio.h>
#include <string.h>

#include "lib/fsutil.h"

int config_store_open(const struct config *c, uint64_t probe_wait_ns, struct store **out,
		      struct fmt_err *err)
{
	const struct store_options o = {
		.fault = c->store_fault[0] ? c->store_fault : NULL,
		.s3 = {.endpoint = c->store_endpoint,
		       .region = c->store_region,
		       .path_style = c->store_path_style,
		       .ca_file = c->store_ca_file,
		       .tls_insecure = !c->store_tls_verify,
		       .access_key_id = c->store_access_key_id,
		       .secret_access_key = c->store_secret_access_key,
		       .secret_key_file = c->store_secret_key_file,
		       .credentials_file = c->store_credentials_file,
		       .profile = c->store_profile,
		       .max_connections = (unsigned int)c->store_max_connections,
		       .single_host = c->store_single_host,
		       .probe_wait_ns = probe_wait_ns},
	};
	int r = 0;

	/* A configured directory that is missing may be one that is not mounted: that is never
	 * made. */
	if (!strcmp(c->store_url, "file://" CONFIG_STORE_DIR_DEFAULT))
		r = mkdir_all(CONFIG_STORE_DIR_DEFAULT);
	if (r)
		snprintf(err->msg, sizeof(err->msg), "%s: %s", CONFIG_STORE_DIR_DEFAULT,
			 strerror(-r));
	else
		r = store_open_with(c->store_url, &o, out, err->msg, sizeof(err->msg));
	return r;
}
