// SPDX-License-Identifier: GPL-2.0-or-later
/* glidefs: the table of subcommands, and the options they share. See cli/cli.h. */
#include <curl/curl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "engine/format.h"

static const struct {
	const char *names;
	int nr;
	const char *missing; /* a sentence about the subcommand */
} arg_kinds[] = {
	[CLI_NOTHING] = {"", 0, ""},
	[CLI_VOLUME] = {"NAME", 1, "%s needs the NAME of a volume"},
	[CLI_SNAPSHOT] = {"NAME@SEQ", 1, "%s needs a snapshot, NAME@SEQ"},
	[CLI_IMAGE] = {"NAME", 1, "%s needs the NAME of an image"},
	[CLI_FILE_IMAGE] = {"FILE NAME", 2, "%s needs a FILE (- is standard input) and a NAME"},
	[CLI_MAYBE_VOLUME] = {"[NAME]", 1, NULL},
	[CLI_SOURCE_FILE] = {"SOURCE FILE", 2,
			     "%s needs volume:NAME, snapshot:NAME@SEQ or image:NAME, and a FILE (- "
			     "is standard output)"},
};

static const struct cli_command commands[] = {
	{"create", CLI_VOLUME,
	 CLI_OPT_SIZE | CLI_OPT_BLOCK | CLI_OPT_PARTITIONS | CLI_OPT_READ_ONLY,
	 "create a volume and its device; prints the device", cmd_create},
	{"fork", CLI_VOLUME, CLI_OPT_FROM | CLI_OPT_SIZE | CLI_OPT_PARTITIONS | CLI_OPT_READ_ONLY,
	 "create a volume with the content of another, a snapshot or an image; prints the device",
	 cmd_fork},
	{"grow", CLI_VOLUME, CLI_OPT_SIZE,
	 "make a volume larger, and its device where the kernel can", cmd_grow},
	{"ls", CLI_NOTHING, 0, "list all volumes: this host's and those only in the store", cmd_ls},
	{"show", CLI_VOLUME, 0, "everything about one volume", cmd_show},
	{"attach", CLI_VOLUME, 0, "attach a volume of the store; prints the device", cmd_attach},
	{"detach", CLI_VOLUME, CLI_OPT_FORCE | CLI_OPT_TIMEOUT,
	 "upload what is left, remove the device, give the volume up", cmd_detach},
	{"rm", CLI_VOLUME, CLI_OPT_FORCE, "remove a volume and its data for good", cmd_rm},
	{"drain", CLI_VOLUME, CLI_OPT_TIMEOUT, "upload everything written so far", cmd_drain},
	{"snapshot", CLI_VOLUME, CLI_OPT_TAG | CLI_OPT_TIMEOUT,
	 "make a snapshot of everything written so far; prints its NAME@SEQ", cmd_snapshot},
	{"snapshots", CLI_VOLUME, 0, "list the snapshots of a volume", cmd_snapshots},
	{"snapshot-rm", CLI_SNAPSHOT, 0, "delete a snapshot; forks of it keep their data",
	 cmd_snapshot_rm},
	{"bless", CLI_FILE_IMAGE, CLI_OPT_BLOCK | CLI_OPT_FORMAT | CLI_OPT_CONFIG,
	 "make a raw or qcow2 image a base image, for forks; needs no daemon", cmd_bless},
	{"images", CLI_NOTHING, 0, "list the base images", cmd_images},
	{"image-rm", CLI_IMAGE, 0, "delete a base image; forks of it keep their data",
	 cmd_image_rm},
	{"export-image", CLI_SOURCE_FILE, CLI_OPT_FORCE | CLI_OPT_CONFIG,
	 "write what the store has of a volume, a snapshot or an image to a raw image; needs no "
	 "daemon",
	 cmd_export_image},
	{"takeover", CLI_VOLUME, CLI_OPT_FORCE,
	 "seize a volume from another host, which loses what it has not uploaded", cmd_takeover},
	{"promote", CLI_VOLUME, 0, "make a read-only volume writable, while it is detached",
	 cmd_promote},
	{"gc", CLI_NOTHING, CLI_OPT_GC,
	 "delete packs and manifests of the store that nothing names any more", cmd_gc},
	{"scrub", CLI_MAYBE_VOLUME, CLI_OPT_RATE | CLI_OPT_CACHE,
	 "verify every block that a volume, or everything, has in the store", cmd_scrub},
	{"doctor", CLI_NOTHING, CLI_OPT_CACHE_DIR, "can this host run glidefsd, and does it?",
	 cmd_doctor},
	{"health", CLI_NOTHING, 0, "is the daemon ready? (exit status 0)", cmd_health},
};

enum {
	O_SIZE = 256,
	O_BLOCK,
	O_PARTITIONS,
	O_READ_ONLY,
	O_TIMEOUT,
	O_CACHE_DIR,
	O_HOST,
	O_TOKEN,
	O_TAG,
	O_FROM,
	O_CONFIG,
	O_FORMAT,
	O_DRY_RUN,
	O_GRACE,
	O_MAX_DELETE,
	O_RATE,
	O_CACHE
};

static const struct {
	const char *name, *arg, *help;
	int val;
	unsigned int mask; /* 0: for every subcommand */
} options[] = {
	{"socket", "PATH",
	 "the daemon's socket (default $GLIDEFS_SOCKET or " CLI_SOCKET_DEFAULT ")", 's', 0},
	{"host", "ADDR:PORT", "the daemon over TCP (default $GLIDEFS_HOST)", O_HOST, 0},
	{"token-file", "FILE", "with its token (default $GLIDEFS_TOKEN_FILE)", O_TOKEN, 0},
	{"json", NULL, "answer with the daemon's JSON", 'j', 0},
	{"help", NULL, "this text", 'h', 0},
	{"version", NULL, "version", 'V', 0},
	{"size", "SIZE", "bytes, or with K, M, G, T", O_SIZE, CLI_OPT_SIZE},
	{"block-size", "SIZE", "block of the object store, 4K to 1M (default 64K)", O_BLOCK,
	 CLI_OPT_BLOCK},
	{"partitions", NULL, "let the kernel look for partitions", O_PARTITIONS,
	 CLI_OPT_PARTITIONS},
	{"read-only", NULL, "a device that refuses writes", O_READ_ONLY, CLI_OPT_READ_ONLY},
	{"config", "FILE", "the daemon's configuration, which names the store", O_CONFIG,
	 CLI_OPT_CONFIG},
	{"format", "FORMAT", "of the FILE: raw or qcow2 (default: what it looks like)", O_FORMAT,
	 CLI_OPT_FORMAT},
	{"force", NULL, "also when it is in use, or exists", 'f', CLI_OPT_FORCE},
	{"timeout", "SECONDS", "give up after this (default 600)", O_TIMEOUT, CLI_OPT_TIMEOUT},
	{"from", "SOURCE", "volume:NAME, snapshot:NAME@SEQ or image:NAME", O_FROM, CLI_OPT_FROM},
	{"tag", "TEXT", "a note kept with the snapshot", O_TAG, CLI_OPT_TAG},
	{"dry-run", NULL, "only tell what would be done", O_DRY_RUN, CLI_OPT_GC},
	{"grace", "SECONDS", "grace period (default and least: gc.grace_s of the daemon)", O_GRACE,
	 CLI_OPT_GC},
	{"max-delete", "N", "delete no more objects than this", O_MAX_DELETE, CLI_OPT_GC},
	{"rate", "SIZE", "read no more than this each second", O_RATE, CLI_OPT_RATE},
	{"cache", NULL, "instead: what this host has in its cache on the SSD", O_CACHE,
	 CLI_OPT_CACHE},
	{"cache-dir", "DIR", "directory to examine (default: the daemon's)", O_CACHE_DIR,
	 CLI_OPT_CACHE_DIR},
};

static void print_option(size_t i)
{
	char text[40];

	snprintf(text, sizeof(text), "--%s%s%s", options[i].name, options[i].arg ? " " : "",
		 options[i].arg ? options[i].arg : "");
	printf("  %-20s %s\n", text, options[i].help);
}

static int usage(const struct cli_command *cmd)
{
	if (cmd)
		printf("Usage: glidefs %s%s%s [OPTION]...\n%s\n\nOptions:\n", cmd->name,
		       cmd->arg ? " " : "", arg_kinds[cmd->arg].names, cmd->help);
	else
		printf("Usage: glidefs COMMAND [ARGUMENT]... [OPTION]...\nManage the volumes of "
		       "glidefsd.\n\n"
		       "Commands:\n");
	for (size_t i = 0; !cmd && i < ARRAY_SIZE(commands); i++)
		printf("  %-12s %-11s %s\n", commands[i].name, arg_kinds[commands[i].arg].names,
		       commands[i].help);
	if (!cmd)
		printf("\nOptions of all commands (glidefs COMMAND --help shows its own):\n");
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (!options[i].mask || (cmd && cmd->opts & options[i].mask))
			print_option(i);
	if (!cmd)
		printf("\nExit status: 0 done, 1 failed, 2 usage, 3 no daemon, 4 no such volume, "
		       "snapshot, image or FILE, 5 conflict (exists, in use, owned elsewhere).\n");
	return CLI_OK;
}

/* What the shell's completion is told of arguments: packaging/glidefs.bash knows these words. */
static const char *const follows[] = {
	[CLI_VOLUME] = "NAME",     [CLI_MAYBE_VOLUME] = "NAME", [CLI_IMAGE] = "IMAGE",
	[CLI_FILE_IMAGE] = "FILE", [CLI_SOURCE_FILE] = "FILE",  [CLI_NOTHING] = NULL,
	[CLI_SNAPSHOT] = NULL,
};

/* For the shell's completion: what may follow. */
static int complete(int argc, char **argv)
{
	const struct cli_command *cmd = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (argc > 2 && !strcmp(argv[2], commands[i].name))
			cmd = &commands[i];
	for (size_t i = 0; !cmd && i < ARRAY_SIZE(commands); i++)
		puts(commands[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (!options[i].mask || (cmd && cmd->opts & options[i].mask))
			printf("--%s\n", options[i].name);
	if (cmd && follows[cmd->arg])
		puts(follows[cmd->arg]);
	return CLI_OK;
}

static int bad_usage(const char *fmt, const char *arg)
{
	fprintf(stderr, "glidefs: ");
	fprintf(stderr, fmt, arg);
	fprintf(stderr, "; try 'glidefs --help'\n");
	return CLI_USAGE;
}

static int option_set(struct cli *c, int val, const char *arg)
{
	char *end;
	unsigned long n;

	switch (val) {
	case 's':
		c->socket = arg;
		return 0;
	case 'j':
		c->json = true;
		return 0;
	case 'f':
		c->force = true;
		return 0;
	case O_HOST:
		c->host = arg;
		return 0;
	case O_TOKEN:
		c->token_file = arg;
		return 0;
	case O_SIZE:
		c->size = arg;
		return 0;
	case O_BLOCK:
		c->block = arg;
		return 0;
	case O_PARTITIONS:
		c->partitions = true;
		return 0;
	case O_READ_ONLY:
		c->read_only = true;
		return 0;
	case O_FROM:
		c->from = arg;
		return 0;
	case O_TAG:
		c->tag = arg;
		return 0;
	case O_DRY_RUN:
		c->dry_run = true;
		return 0;
	case O_GRACE:
	case O_MAX_DELETE:
		n = *arg && strspn(arg, "0123456789") == strlen(arg) ? strtoul(arg, NULL, 10) : 0;
		if (n < 1 || n > 1000000000)
			return bad_usage(
				val == O_GRACE
					? "--grace is \"%s\": 1 to 1000000000 seconds are allowed"
					: "--max-delete is \"%s\": 1 to 1000000000 objects are "
					  "allowed",
				arg);
		*(val == O_GRACE ? &c->grace : &c->max_delete) = arg;
		return 0;
	case O_RATE:
		c->rate = arg;
		return 0;
	case O_CACHE:
		c->cache = true;
		return 0;
	case O_CACHE_DIR:
		c->cache_dir = arg;
		return 0;
	case O_CONFIG:
		c->config = arg;
		return 0;
	case O_FORMAT:
		if (strcmp(arg, "raw") && strcmp(arg, "qcow2"))
			return bad_usage("--format is \"%s\": raw or qcow2", arg);
		c->format = arg;
		return 0;
	case O_TIMEOUT:
		n = strtoul(arg, &end, 10);
		if (*end || n < 1 || n > 86400)
			return bad_usage("--timeout is \"%s\": 1 to 86400 seconds are allowed",
					 arg);
		c->timeout_s = (unsigned int)n;
		return 0;
	default:
		return CLI_USAGE;
	}
}

static const struct cli_command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int run(const struct cli_command *cmd, struct cli *c, unsigned int given, char **args,
	       int nr)
{
	struct fmt_err err = {{0}};
	char name[GFS_NAME_MAX];
	int ret;

	if (given & ~cmd->opts) {
		for (size_t i = 0; i < ARRAY_SIZE(options); i++)
			if (options[i].mask & given & ~cmd->opts)
				return bad_usage("this command has no option --%s",
						 options[i].name);
	}
	if (nr > arg_kinds[cmd->arg].nr)
		return bad_usage("unexpected argument \"%s\"", args[nr - 1]);
	if (nr < arg_kinds[cmd->arg].nr && arg_kinds[cmd->arg].missing)
		return bad_usage(arg_kinds[cmd->arg].missing, cmd->name);
	if (cmd->arg == CLI_FILE_IMAGE) {
		c->file = args[0];
		c->name = args[1];
	} else if (cmd->arg == CLI_SOURCE_FILE) {
		c->source = args[0];
		c->file = args[1];
	} else if (nr) {
		c->name = args[0];
	}
	if (cmd->arg == CLI_SNAPSHOT) {
		if (snapshot_ref_parse(args[0], name, &c->seq))
			return bad_usage("\"%s\" is not a snapshot, NAME@SEQ", args[0]);
		c->name = name;
	}
	if (c->name && volume_name_check(c->name, &err)) {
		fprintf(stderr, "glidefs: %s\n", err.msg);
		return CLI_USAGE;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	ret = cmd->run(c);
	curl_global_cleanup();
	if (fflush(stdout) || ferror(stdout))
		return CLI_FAILED;
	return ret;
}

int main(int argc, char **argv)
{
	struct option longs[ARRAY_SIZE(options) + 1] = {0};
	struct cli c = {.socket = getenv("GLIDEFS_SOCKET"),
			.host = getenv("GLIDEFS_HOST"),
			.token_file = getenv("GLIDEFS_TOKEN_FILE")};
	const struct cli_command *cmd;
	unsigned int given = 0;
	bool help = false;
	int val, r;

	if (argc > 1 && !strcmp(argv[1], "__complete"))
		return complete(argc, argv);
	if (!c.socket || !*c.socket)
		c.socket = CLI_SOCKET_DEFAULT;
	if (c.host && !*c.host)
		c.host = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		longs[i] = (struct option){options[i].name,
					   options[i].arg ? required_argument : no_argument, NULL,
					   options[i].val};
	while ((val = getopt_long(argc, argv, "s:jhVf", longs, NULL)) != -1) {
		if (val == 'V') {
			puts("glidefs " GFS_VERSION);
			return CLI_OK;
		}
		if (val == 'h') {
			help = true;
			continue;
		}
		if (val == '?')
			return CLI_USAGE;
		if (val == 's') /* said here wins over the environment */
			c.host = NULL;
		r = option_set(&c, val, optarg);
		if (r)
			return r;
		for (size_t i = 0; i < ARRAY_SIZE(options); i++)
			if (options[i].val == val)
				given |= options[i].mask;
	}
	if (optind == argc) {
		usage(NULL);
		return help ? CLI_OK : CLI_USAGE;
	}
	cmd = command_find(argv[optind]);
	if (!cmd)
		return bad_usage("there is no command \"%s\"", argv[optind]);
	if (help)
		return usage(cmd);
	return run(cmd, &c, given, argv + optind + 1, argc - optind - 1);
}
