// SPDX-License-Identifier: GPL-2.0-or-later
/* The identity of this host, "name/uuid", in roots and device identities. At start, one thread. */
#include "control/host.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lib/fsutil.h"

/* The uuid of state_dir/host-id, made durable before its first use. */
static int uuid_load(int fd, char out[37], struct fmt_err *err)
{
	__cleanup_free char *text = NULL;
	uint8_t uuid[16];
	size_t len;
	int r = file_read_all(fd, "host-id", 128, &text, &len);

	if (r == -ENOENT) {
		char line[38];

		uuid_generate_v4(uuid);
		uuid_format(uuid, out);
		snprintf(line, sizeof(line), "%s\n", out);
		r = file_write_atomic(fd, "host-id", line, strlen(line));
		if (r)
			snprintf(err->msg, sizeof(err->msg), "cannot write host-id: %s", strerror(-r));
		return r;
	}
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "cannot read host-id: %s", strerror(-r));
		return r;
	}
	text[strcspn(text, "\n")] = '\0';
	if (uuid_parse(text, uuid)) {
		/* A new identity would turn this host's volumes into somebody else's. */
		snprintf(err->msg, sizeof(err->msg),
			 "host-id holds no uuid; restore it from a backup, or remove it and seize the "
			 "volumes of this host with takeover");
		return -EBADMSG;
	}
	uuid_format(uuid, out);
	return 0;
}

int host_id_load(const char *state_dir, const char *name, char *out, size_t len,
		 struct fmt_err *err)
{
	__cleanup_close int fd = -1;
	char host[64], uuid[37];
	int r = mkdir_all(state_dir);

	if (!r) {
		fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? -errno : 0;
	}
	if (r) {
		snprintf(err->msg, sizeof(err->msg), "state_dir: %s", strerror(-r));
		return r;
	}
	r = uuid_load(fd, uuid, err);
	if (r)
		return r;
	if (name && *name)
		snprintf(host, sizeof(host), "%s", name);
	else if (gethostname(host, sizeof(host)) || !host[0])
		snprintf(host, sizeof(host), "localhost");
	host[sizeof(host) - 1] = '\0';
	for (char *s = host; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
			*s = '-';
	return snprintf(out, len, "%s/%s", host, uuid) < (int)len ? 0 : -ENAMETOOLONG;
}
