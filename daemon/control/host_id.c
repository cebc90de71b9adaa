// SPDX-License-Identifier: GPL-2.0-or-later
/* The identity of this host, "name/uuid", in roots and device identities. At start, one thread. */
#include "control/host.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lib/fsutil.h"
#include "lib/log.h"

/*
 * The host's own id is compared as a whole with the owner in roots, so the name is fixed with the
 * uuid: a renamed host keeps its volumes and its old name in them.
 */
static int id_parse(const char *text, char *out, size_t len)
{
	const char *slash = strrchr(text, '/');
	uint8_t uuid[16];

	if (!slash || slash == text || uuid_parse(slash + 1, uuid))
		return -EINVAL;
	return snprintf(out, len, "%s", text) < (int)len ? 0 : -ENAMETOOLONG;
}

static void name_default(const char *name, char host[64])
{
	if (name && *name)
		snprintf(host, 64, "%s", name);
	else if (gethostname(host, 64) || !host[0])
		snprintf(host, 64, "localhost");
	host[63] = '\0';
	for (char *s = host; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
			*s = '-';
}

static int id_make(int fd, const char *name, char *out, size_t len)
{
	char host[64], uuid_text[37], line[128];
	uint8_t uuid[16];

	name_default(name, host);
	uuid_generate_v4(uuid);
	uuid_format(uuid, uuid_text);
	snprintf(line, sizeof(line), "%s/%s\n", host, uuid_text);
	if (snprintf(out, len, "%s/%s", host, uuid_text) >= (int)len)
		return -ENAMETOOLONG;
	return file_write_atomic(fd, "host-id", line, strlen(line));
}

int host_id_load(const char *state_dir, const char *name, char *out, size_t len,
		 struct fmt_err *err)
{
	__cleanup_close int fd = -1;
	__cleanup_free char *text = NULL;
	size_t text_len;
	int r = mkdir_all(state_dir);

	if (!r) {
		fd = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = fd < 0 ? -errno : 0;
	}
	if (!r)
		r = file_read_all(fd, "host-id", 128, &text, &text_len);
	if (r == -ENOENT && fd >= 0)
		r = id_make(fd, name, out, len);
	else if (!r) {
		text[strcspn(text, "\n")] = '\0';
		r = id_parse(text, out, len);
		if (r) {
			/* A new identity would turn this host's volumes into somebody else's. */
			snprintf(err->msg, sizeof(err->msg),
				 "%.60s/host-id is damaged; restore it, or remove it and seize "
				 "this host's "
				 "volumes with takeover",
				 state_dir);
			return -EBADMSG;
		}
		if (name && *name && (strncmp(out, name, strlen(name)) || out[strlen(name)] != '/'))
			log_warn("host_name is %s, but this host's volumes know it as %s: that "
				 "stays",
				 name, out);
	}
	if (r)
		snprintf(err->msg, sizeof(err->msg), "%.100s/host-id: %s", state_dir, strerror(-r));
	return r;
}
