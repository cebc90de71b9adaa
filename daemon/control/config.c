// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of options and its parser, on top of inih; see config.h. One thread, at start. */
#include "control/config.h"

#include <ctype.h>
#include <ini.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/un.h>

#include "engine/worker.h"
#include "lib/log.h"

#define LINE_MAX_CHARS 4096
#define OPT(sec, key, kind, field, dflt, lo, hi, text)                                       \
	{                                                                                    \
		.section = sec, .name = key, .type = kind,                                   \
		.offset = offsetof(struct config, field), .def = dflt, .min = lo, .max = hi, \
		.help = text                                                                 \
	}
#define SOCKET_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 16)

/* clang-format off */
const struct config_option config_options[] = {
	OPT("daemon", "socket", CONFIG_PATH, socket, "/run/glidefs/glidefsd.sock", 1, SOCKET_MAX,
	    "unix socket of the API, created with mode 0600"),
	OPT("daemon", "state_dir", CONFIG_PATH, state_dir, "/var/lib/glidefs", 1, 1024,
	    "list of volumes, device map, host id"),
	OPT("daemon", "cache_dir", CONFIG_PATH, cache_dir, "/var/cache/glidefs", 1, 1024,
	    "acknowledged writes that are not uploaded yet, and the clean cache; on a local SSD, never shared or tmpfs"),
	OPT("daemon", "timing_log", CONFIG_PATH, timing_log, "", 0, 1024,
	    "file for timing events as JSON lines; empty = standard error (the journal)"),
	OPT("daemon", "host_name", CONFIG_STRING, host_name, "", 0, 63,
	    "name of this host in volume ownership; empty = the system's host name"),
	OPT("daemon", "log_level", CONFIG_LOG_LEVEL, log_level, "info", 0, 0,
	    "error, warn, info or debug"),
	OPT("daemon", "api_threads", CONFIG_UINT, api_threads, "64", 2, 1024,
	    "threads that run API requests, and volumes recovered at once at start"),
	OPT("daemon", "create_timeout_s", CONFIG_UINT, create_timeout_s, "30", 1, 3600,
	    "seconds until a create whose PUT has no definite answer fails with 503"),
	OPT("daemon", "lock_wait_s", CONFIG_UINT, lock_wait_s, "60", 0, 3600,
	    "seconds to wait at start for the last writes of a killed predecessor"),
	OPT("daemon", "pending_reap_s", CONFIG_UINT, pending_reap_s, "30", 0, 86400,
	    "seconds after which a failed create that was not retried is removed from the store"),
	OPT("daemon", "pending_forget_s", CONFIG_UINT, pending_forget_s, "900", 0, 604800,
	    "seconds for which a late PUT of a failed create is still expected and removed"),
	OPT("daemon", "listen", CONFIG_STRING, listen, "", 0, 64,
	    "ADDRESS:PORT of the API over TCP, for instance 127.0.0.1:7070; empty = none; needs token_file"),
	OPT("daemon", "token_file", CONFIG_PATH, token_file, "", 0, 1024,
	    "file of mode 0600 with the bearer token that requests over TCP must carry"),
	OPT("daemon", "request_timeout_s", CONFIG_UINT, request_timeout_s, "30", 1, 3600,
	    "seconds that a client may take to send a request; then it is answered with 408"),
	OPT("daemon", "metrics", CONFIG_BOOL, metrics, "yes", 0, 0,
	    "serve /metrics on the API socket"),
	OPT("store", "url", CONFIG_STRING, store_url, "file://" CONFIG_STORE_DIR_DEFAULT, 1, 1024,
	    "object store: file:///DIRECTORY (it must exist, but for the default) or s3://BUCKET/PREFIX"),
	OPT("store", "endpoint", CONFIG_STRING, store_endpoint, "", 0, 512,
	    "of S3: https://HOST[:PORT]; empty = AWS_ENDPOINT_URL, else AWS in the region"),
	OPT("store", "region", CONFIG_STRING, store_region, "", 0, 63,
	    "of S3; empty = AWS_REGION, AWS_DEFAULT_REGION, or us-east-1"),
	OPT("store", "path_style", CONFIG_STRING, store_path_style, "auto", 0, 8,
	    "of S3: bucket in the path (yes) or in the host name (no); auto = yes if an endpoint is given"),
	OPT("store", "ca_file", CONFIG_PATH, store_ca_file, "", 0, 1024,
	    "of S3: PEM file of the CAs that are trusted; empty = the system's"),
	OPT("store", "tls_verify", CONFIG_BOOL, store_tls_verify, "yes", 0, 0,
	    "of S3: verify the endpoint's certificate"),
	OPT("store", "access_key_id", CONFIG_STRING, store_access_key_id, "", 0, 128,
	    "of S3; empty = credentials_file, the environment, or the shared file"),
	OPT("store", "secret_access_key", CONFIG_STRING, store_secret_access_key, "", 0, 256,
	    "of S3; this file should not be readable by others then"),
	OPT("store", "secret_key_file", CONFIG_PATH, store_secret_key_file, "", 0, 1024,
	    "of S3: a file that holds the secret alone, instead of secret_access_key"),
	OPT("store", "credentials_file", CONFIG_PATH, store_credentials_file, "", 0, 1024,
	    "of S3: shared credentials file, read again when the store refuses what it had"),
	OPT("store", "profile", CONFIG_STRING, store_profile, "", 0, 128,
	    "of S3: section of the credentials file; empty = AWS_PROFILE, or default"),
	OPT("store", "max_connections", CONFIG_UINT, store_max_connections, "64", 4, 1024,
	    "of S3: connections at most"),
	OPT("store", "single_host", CONFIG_BOOL, store_single_host, "no", 0, 0,
	    "of S3: accept an endpoint without conditional PUT; this must be the only host that uses the prefix"),
	OPT("store", "fault", CONFIG_STRING, store_fault, "", 0, 2048,
	    "inject faults into the store (tests and drills only)"),
	OPT("upload", "dirty_bytes", CONFIG_SIZE, upload_dirty_bytes, "64M", 1 * MiB, TiB,
	    "upload a volume when this much is not uploaded"),
	OPT("upload", "age_s", CONFIG_UINT, upload_age_s, "30", 1, 86400,
	    "upload a volume when its oldest write is this many seconds old: at most this is lost with "
	    "the host; each upload costs at least three requests"),
	OPT("upload", "age_min_s", CONFIG_UINT, upload_age_min_s, "5", 1, 86400,
	    "the same while much is written: age_s is approached from here as long as little is uploaded "
	    "each time"),
	OPT("upload", "zstd_level", CONFIG_UINT, zstd_level, "1", 1, 19,
	    "compression level"),
	OPT("cache", "memory_bytes", CONFIG_SIZE, memory_bytes, "256M", 1 * MiB, 64 * TiB,
	    "clean blocks kept in memory, for all volumes"),
	OPT("cache", "ssd_bytes", CONFIG_SIZE, ssd_bytes, "10G", 0, 8 * TiB,
	    "clean blocks kept in cache_dir, for all volumes, while a tenth of its file system and "
	    "twice min_free_bytes stay free; 0 = none"),
	OPT("cache", "index_bytes", CONFIG_SIZE, index_bytes, "64M", 1 * MiB, TiB,
	    "pack indexes kept in memory, for all volumes"),
	OPT("cache", "manifest_cache_bytes", CONFIG_SIZE, manifest_cache_bytes, "64M", 0, TiB,
	    "manifests and snapshots kept in memory, for all volumes; what forks are made from"),
	OPT("cache", "volume_max_bytes", CONFIG_SIZE, volume_max_bytes, "0", 0, 64 * TiB,
	    "local bytes of one volume that are not uploaded; 0 = no limit"),
	OPT("cache", "host_max_bytes", CONFIG_SIZE, host_max_bytes, "0", 0, 1024 * TiB,
	    "the same for all volumes of this host; 0 = no limit"),
	OPT("cache", "min_free_bytes", CONFIG_SIZE, min_free_bytes, "1G", 0, 1024 * TiB,
	    "free space of cache_dir below which uploads start at once"),
	OPT("cache", "space_wait_s", CONFIG_UINT, space_wait_s, "30", 0, 3600,
	    "seconds that a write waits for local space before it fails with ENOSPC"),
	OPT("io", "store_timeout_s", CONFIG_UINT, store_timeout_s, "30", 1, 3600,
	    "seconds that a read waits for the store before it fails with EIO"),
	OPT("io", "slow_ms", CONFIG_UINT_OFF, slow_ms, "500", 0, 3600000,
	    "a guest request of this many milliseconds is reported as io.slow; 0 = each request, or off"),
	OPT("io", "prefetch_blocks", CONFIG_UINT, prefetch_blocks, "512", 0, 1024,
	    "most blocks fetched ahead of a sequential reader, and no more than a tenth of the cache"),
	OPT("io", "workers", CONFIG_UINT, workers, "0", 0, 64,
	    "threads that serve guest I/O; 0 = one per CPU, 32 at most"),
	OPT("gc", "grace_s", CONFIG_UINT, gc_grace_s, "86400", 8, 31536000,
	    "seconds before the collector deletes what nothing names; the same on all hosts of a store, and "
	    "uploads, snapshots and forks have a quarter of it: one that takes longer begins anew, or fails. "
	    "Less than an hour is for tests"),
	OPT("gc", "interval_s", CONFIG_UINT, gc_interval_s, "0", 0, 31536000,
	    "seconds between two runs of the collector by this host; 0 = only by glidefs gc. One host "
	    "of a store is enough"),
	OPT("gc", "max_delete", CONFIG_UINT, gc_max_delete, "0", 0, 1000000000,
	    "packs and manifests that one such run deletes at most; 0 = no limit"),
	OPT("ublk", "queues", CONFIG_UINT, queues, "2", 2, 64,
	    "hardware queues asked for each device; the kernel may grant fewer"),
	OPT("ublk", "depth", CONFIG_UINT, depth, "64", 1, WORKER_SQ_ENTRIES / 2,
	    "requests in flight per queue; queues times depth is 1024 at most"),
	OPT("ublk", "command_timeout_s", CONFIG_UINT, command_timeout_s, "30", 1, 3600,
	    "deadline in seconds of each control command to the kernel"),
	OPT("udev", "install", CONFIG_BOOL, udev_install, "yes", 0, 0,
	    "install the rule for our devices in /run/udev/rules.d at start unless udev has it"),
	OPT("udev", "wait_ms", CONFIG_UINT, udev_wait_ms, "200", 0, 60000,
	    "milliseconds that a new device waits for udev's rule, beside the store; 0 = not at all"),
};
/* clang-format on */
const unsigned int config_options_nr = ARRAY_SIZE(config_options);

int size_parse(const char *s, uint64_t *bytes)
{
	static const char suffixes[] = "KMGT";
	unsigned long long v;
	unsigned int shift = 0;
	char *end;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno)
		return -ERANGE;
	if (*end) {
		const char *p = strchr(suffixes, toupper((unsigned char)*end));

		if (!p || end[1])
			return -EINVAL;
		shift = 10 * (unsigned int)(p - suffixes + 1);
	}
	if (shift && v > UINT64_MAX >> shift)
		return -ERANGE;
	*bytes = (uint64_t)v << shift;
	return 0;
}

/* ---- parser ---- */

struct parse {
	const char *path;
	FILE *in, *errors;
	unsigned int line, nr_errors;
	unsigned int seen[ARRAY_SIZE(config_options)]; /* line, 0 = not given */
	struct config *c;
};

static void __printf(2, 3) complain(struct parse *p, const char *fmt, ...)
{
	va_list ap;

	if (p->line)
		fprintf(p->errors, "%s:%u: ", p->path, p->line);
	else
		fprintf(p->errors, "%s: ", p->path);
	va_start(ap, fmt);
	vfprintf(p->errors, fmt, ap);
	va_end(ap);
	fputc('\n', p->errors);
	p->nr_errors++;
}

static void set_string(struct parse *p, const struct config_option *o, const char *value)
{
	char **field = (char **)((char *)p->c + o->offset);
	char *copy = strdup(value);

	if (!copy) {
		complain(p, "out of memory");
		return;
	}
	free(*field);
	*field = copy;
}

static int parse_number(const struct config_option *o, const char *value, uint64_t *v)
{
	if (o->type == CONFIG_SIZE)
		return size_parse(value, v);
	for (const char *s = value; *s; s++)
		if (!isdigit((unsigned char)*s))
			return -EINVAL;
	return size_parse(value, v);
}

/* Set one option from its text; problems are reported and leave the field as it was. */
static void option_set(struct parse *p, const struct config_option *o, const char *value)
{
	uint64_t *num = (uint64_t *)((char *)p->c + o->offset), v = 0;
	size_t len = strlen(value);
	int r;

	switch (o->type) {
	case CONFIG_PATH:
		if (len && value[0] != '/') {
			complain(p, "%s.%s is \"%s\": it must be an absolute path", o->section,
				 o->name, value);
			return;
		}
		/* fall through */
	case CONFIG_STRING:
		if (len < o->min || len > o->max) {
			complain(p, "%s.%s has %zu characters: %llu to %llu are allowed",
				 o->section, o->name, len, (unsigned long long)o->min,
				 (unsigned long long)o->max);
			return;
		}
		set_string(p, o, value);
		return;
	case CONFIG_BOOL:
		if (strcmp(value, "yes") && strcmp(value, "no")) {
			complain(p, "%s.%s is \"%s\": it must be yes or no", o->section, o->name,
				 value);
			return;
		}
		*num = !strcmp(value, "yes");
		return;
	case CONFIG_LOG_LEVEL:
		r = log_level_parse(value);
		if (r < 0) {
			complain(p, "%s.%s is \"%s\": it must be error, warn, info or debug",
				 o->section, o->name, value);
			return;
		}
		*num = (uint64_t)r;
		return;
	case CONFIG_UINT_OFF:
		if (!strcmp(value, "off")) {
			*num = UINT64_MAX;
			return;
		}
		/* fall through */
	case CONFIG_UINT:
	case CONFIG_SIZE:
		r = parse_number(o, value, &v);
		if (r == -EINVAL)
			complain(p, "%s.%s is \"%s\": it must be a number%s", o->section, o->name,
				 value,
				 o->type == CONFIG_SIZE ? " of bytes, with K, M, G or T if you like"
				 : o->type == CONFIG_UINT_OFF ? ", or off"
							      : "");
		else if (r || v < o->min || v > o->max)
			complain(p, "%s.%s is %s: %llu to %llu are allowed", o->section, o->name,
				 value, (unsigned long long)o->min, (unsigned long long)o->max);
		else
			*num = v;
		return;
	}
}

static bool section_known(const char *section)
{
	for (unsigned int i = 0; i < config_options_nr; i++)
		if (!strcmp(config_options[i].section, section))
			return true;
	return false;
}

/* inih's callback for each "name = value". Returns 1 always: problems are ours to collect. */
static int on_value(void *user, const char *section, const char *name, const char *value)
{
	struct parse *p = user;

	for (unsigned int i = 0; i < config_options_nr; i++) {
		const struct config_option *o = &config_options[i];

		if (strcmp(o->section, section) || strcmp(o->name, name))
			continue;
		if (p->seen[i])
			complain(p, "%s.%s is given twice: first in line %u", section, name,
				 p->seen[i]);
		else
			option_set(p, o, value);
		p->seen[i] = p->line;
		return 1;
	}
	if (!*section)
		complain(p, "\"%s\" stands before the first [section]", name);
	else if (section_known(section))
		complain(p, "unknown option \"%s\" in [%s]", name, section);
	return 1;
}

/* What inih would stop at, and what it would ignore, is said here with its line. True if it is
 * fine. */
static bool line_check(struct parse *p, const char *s)
{
	const char *end;

	while (isspace((unsigned char)*s))
		s++;
	if (!*s || *s == ';' || *s == '#')
		return true;
	if (*s == '[') {
		char section[64];

		end = strchr(s, ']');
		if (!end) {
			complain(p, "a section starts with [ and lacks its ]");
			return false;
		}
		snprintf(section, sizeof(section), "%.*s", (int)MIN(end - s - 1, 63), s + 1);
		if (!section_known(section))
			complain(p, "unknown section [%s]", section);
		return true;
	}
	if (!strpbrk(s, "=:")) {
		complain(p, "neither a [section] nor a \"name = value\"");
		return false;
	}
	return true;
}

/* inih's line source: counts lines, and hands over an empty line for one that has been refused. */
static char *read_line(char *buf, int size, void *stream)
{
	struct parse *p = stream;
	char line[LINE_MAX_CHARS];
	size_t len;

	if (!fgets(line, sizeof(line), p->in))
		return NULL;
	p->line++;
	len = strlen(line);
	/* The byte order mark is inih's to skip; it only looks at line one. */
	if (len && line[len - 1] != '\n' && !feof(p->in)) {
		int c;

		complain(p, "the line is longer than %zu characters, or has a NUL",
			 sizeof(line) - 2);
		while ((c = fgetc(p->in)) != EOF && c != '\n')
			;
		line[0] = '\0';
	} else if (!line_check(p, p->line == 1 && !strncmp(line, "\xef\xbb\xbf", 3) ? line + 3
										    : line)) {
		/* A section nobody knows, so that what follows a broken header is not blamed on
		 * another. */
		snprintf(line, sizeof(line), "%s",
			 line[strspn(line, " \t")] == '[' ? "[?]\n" : "\n");
	}
	snprintf(buf, (size_t)size, "%s", line[0] ? line : "\n");
	return buf;
}

static void check_whole(struct parse *p)
{
	struct config *c = p->c;

	p->line = 0;
	if (c->pending_forget_s < c->pending_reap_s)
		complain(p,
			 "daemon.pending_forget_s (%llu) is less than daemon.pending_reap_s (%llu)",
			 (unsigned long long)c->pending_forget_s,
			 (unsigned long long)c->pending_reap_s);
	if (c->listen[0] && !c->token_file[0])
		complain(p,
			 "daemon.listen is set, but daemon.token_file is not: TCP needs a token");
	if (c->volume_max_bytes && c->volume_max_bytes < c->upload_dirty_bytes)
		complain(p,
			 "cache.volume_max_bytes (%llu) is less than upload.dirty_bytes (%llu): "
			 "writes "
			 "would wait before an upload starts",
			 (unsigned long long)c->volume_max_bytes,
			 (unsigned long long)c->upload_dirty_bytes);
	if (c->host_max_bytes && c->host_max_bytes < c->upload_dirty_bytes)
		complain(p, "cache.host_max_bytes (%llu) is less than upload.dirty_bytes (%llu)",
			 (unsigned long long)c->host_max_bytes,
			 (unsigned long long)c->upload_dirty_bytes);
	if (strcmp(c->store_path_style, "auto") && strcmp(c->store_path_style, "yes") &&
	    strcmp(c->store_path_style, "no"))
		complain(p, "store.path_style is \"%s\": it must be yes, no or auto",
			 c->store_path_style);
	if (!c->store_access_key_id[0] !=
		    (!c->store_secret_access_key[0] && !c->store_secret_key_file[0]) ||
	    (c->store_secret_access_key[0] && c->store_secret_key_file[0]))
		complain(p, "store.access_key_id goes with one of store.secret_access_key and "
			    "store.secret_key_file");
	if (!strcmp(c->state_dir, c->cache_dir))
		complain(p, "daemon.state_dir and daemon.cache_dir are the same directory, %s",
			 c->state_dir);
	/* Or a recovery that is cut short could leave a device half armed: see ublk/queue.h. */
	if (c->queues * c->depth > WORKER_SQ_ENTRIES)
		complain(p,
			 "ublk.queues (%llu) times ublk.depth (%llu) is %llu: %d is the most, "
			 "because all requests of a device are fetched in one step",
			 (unsigned long long)c->queues, (unsigned long long)c->depth,
			 (unsigned long long)(c->queues * c->depth), WORKER_SQ_ENTRIES);
	for (const char *s = c->host_name; *s; s++) {
		if (isalnum((unsigned char)*s) || strchr("._-", *s))
			continue;
		complain(
			p,
			"daemon.host_name is \"%s\": letters, digits, '.', '_' and '-' are allowed",
			c->host_name);
		break;
	}
}

int config_load(const char *path, struct config *c, char **errors)
{
	struct parse p = {.path = path ? path : "defaults", .c = c};
	size_t len = 0;
	int r = 0;

	*errors = NULL;
	memset(c, 0, sizeof(*c));
	p.errors = open_memstream(errors, &len);
	if (!p.errors)
		return -ENOMEM;
	for (unsigned int i = 0; i < config_options_nr; i++)
		option_set(&p, &config_options[i], config_options[i].def);
	if (path) {
		p.in = fopen(path, "re");
		if (!p.in) {
			r = -errno;
			complain(&p, "cannot open it: %s", strerror(errno));
		} else {
			/* The library's own limits would cut lines at 200 characters. */
			ini_use_stack = false;
			ini_max_line = LINE_MAX_CHARS;
			ini_initial_alloc = LINE_MAX_CHARS;
			ini_allow_multiline = false;
			if (ini_parse_stream(read_line, &p, on_value, &p) && !p.nr_errors)
				complain(&p, "cannot be parsed");
			if (ferror(p.in))
				complain(&p, "cannot be read");
			fclose(p.in);
		}
	}
	if (!p.nr_errors)
		check_whole(&p);
	fclose(p.errors);
	if (!p.nr_errors) {
		free(*errors);
		*errors = NULL;
		return 0;
	}
	config_free(c);
	return r ? r : -EINVAL;
}

void config_free(struct config *c)
{
	for (unsigned int i = 0; i < config_options_nr; i++) {
		const struct config_option *o = &config_options[i];

		if (o->type == CONFIG_PATH || o->type == CONFIG_STRING)
			free(*(char **)((char *)c + o->offset));
	}
	memset(c, 0, sizeof(*c));
}

void config_print_help(FILE *out)
{
	const char *section = "";

	for (unsigned int i = 0; i < config_options_nr; i++) {
		const struct config_option *o = &config_options[i];

		if (strcmp(section, o->section))
			fprintf(out, "\n[%s]\n", o->section);
		section = o->section;
		fprintf(out, "  %s = %s\n        %s\n", o->name, o->def, o->help);
	}
}
