// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * glidefsd: start order, signals, stop order.
 *
 * Start: configuration, namespace and process settings (before any thread), the locks (before any
 * local state is read), identity, store, engine, devices, registry, API, recovery. Stop on SIGTERM
 * or SIGINT: the API closes, devices are let go so that they stay QUIESCED and keep their mounts
 * for the next daemon. Every acknowledged write survives SIGKILL, so a stop that takes too long
 * ends by _exit().
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "control/api.h"
#include "control/config.h"
#include "control/config_store.h"
#include "control/debug.h"
#include "control/startup.h"
#include "control/udev_rule.h"
#include "lib/log.h"
#include "lib/timing.h"

#define STOP_TIMEOUT_NS (20 * NSEC_PER_SEC)
/* A restart with devices must not hang on a store that is down. */
#define STORE_PROBE_WAIT_NS (2 * NSEC_PER_SEC)

struct options {
	const char *config;
	bool check, no_ublk;
};

struct daemon {
	struct config cfg;
	char host_id[128];
	int state_lock_fd, cache_lock_fd;
	struct store *store;
	struct engine *engine;
	struct ublk_host *ublk;
	struct pool *pool;
	struct host *host;
	struct api *api;
};

/* ---- command line ---- */

static void usage(FILE *out)
{
	fputs("Usage: glidefsd [OPTION]...\n"
	      "Serve volumes of an object store as local block devices.\n\n"
	      "  -c, --config FILE   configuration (default " CONFIG_PATH_DEFAULT
	      ", if it exists)\n"
	      "      --check-config  check the configuration, print each problem, and exit\n"
	      "      --no-ublk       volumes without kernel devices: the API can be tried on any "
	      "host\n"
	      "  -h, --help          this text\n"
	      "  -V, --version       version\n\n"
	      "Configuration options, with their defaults:\n",
	      out);
	config_print_help(out);
}

/* 0: go on; 1: done; -EINVAL. */
static int options_parse(int argc, char **argv, struct options *o)
{
	enum { OPT_CHECK = 256, OPT_NO_UBLK };
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"check-config", no_argument, NULL, OPT_CHECK},
		{"no-ublk", no_argument, NULL, OPT_NO_UBLK},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "c:hV", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = optarg;
			break;
		case OPT_CHECK:
			o->check = true;
			break;
		case OPT_NO_UBLK:
			o->no_ublk = true;
			break;
		case 'h':
			usage(stdout);
			return 1;
		case 'V':
			puts("glidefsd " GFS_VERSION);
			return 1;
		default:
			fputs("Try 'glidefsd --help'.\n", stderr);
			return -EINVAL;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "glidefsd: unexpected argument '%s'\n", argv[optind]);
		return -EINVAL;
	}
	if (!o->config && access(CONFIG_PATH_DEFAULT, F_OK) == 0)
		o->config = CONFIG_PATH_DEFAULT;
	return 0;
}

/* ---- start ---- */

/* A step failed: one sentence, and its errno. */
static int fail(const char *what, int r, const struct fmt_err *err)
{
	log_err("%s: %s", what, err && err->msg[0] ? err->msg : strerror(-r));
	return r;
}

/* Everything that must be settled while there is only one thread. */
static int process_setup(struct daemon *d, const struct options *o)
{
	struct fmt_err err = {{0}};
	sigset_t set;
	int r;

	engine_malloc_setup();
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	/* Inherited by all threads: only the main thread takes them, by sigwaitinfo(). */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (!o->no_ublk) {
		r = ublk_mount_namespace(&err);
		if (r)
			return fail("mount namespace", r, &err);
	}
	limits_raise();
	reclaim_protect();
	d->state_lock_fd = state_lock(d->cfg.state_dir, (unsigned int)d->cfg.lock_wait_s, &err);
	if (d->state_lock_fd < 0)
		return fail("state_dir", d->state_lock_fd, &err);
	d->cache_lock_fd = state_lock(d->cfg.cache_dir, (unsigned int)d->cfg.lock_wait_s, &err);
	if (d->cache_lock_fd < 0)
		return fail("cache_dir", d->cache_lock_fd, &err);
	r = host_id_load(d->cfg.state_dir, d->cfg.host_name, d->host_id, sizeof(d->host_id), &err);
	return r ? fail("host id", r, &err) : 0;
}

static int store_start(struct daemon *d)
{
	struct fmt_err err = {{0}};
	int r = config_store_open(&d->cfg, STORE_PROBE_WAIT_NS, &d->store, &err);

	return r ? fail("store", r, &err) : 0;
}

static int engine_start(struct daemon *d)
{
	const struct config *c = &d->cfg;
	struct engine_config ec;
	int r;

	engine_config_defaults(&ec);
	ec.cache_dir = c->cache_dir;
	ec.host_id = d->host_id;
	ec.workers = (unsigned int)c->workers;
	ec.cache_bytes = c->memory_bytes;
	ec.ssd_bytes = c->ssd_bytes;
	ec.index_cache_bytes = c->index_bytes;
	ec.manifest_cache_bytes = c->manifest_cache_bytes;
	ec.upload_dirty_bytes = c->upload_dirty_bytes;
	ec.upload_age_ns = c->upload_age_s * NSEC_PER_SEC;
	ec.upload_age_min_ns = c->upload_age_min_s * NSEC_PER_SEC;
	ec.volume_max_bytes = c->volume_max_bytes;
	ec.host_max_bytes = c->host_max_bytes;
	ec.min_free_bytes = c->min_free_bytes;
	ec.space_wait_ns = c->space_wait_s * NSEC_PER_SEC;
	ec.store_timeout_ns = c->store_timeout_s * NSEC_PER_SEC;
	ec.gc_grace_ns = c->gc_grace_s * NSEC_PER_SEC;
	ec.io_slow_ns = c->slow_ms == UINT64_MAX ? UINT64_MAX : c->slow_ms * NSEC_PER_MSEC;
	ec.prefetch_blocks = (uint32_t)c->prefetch_blocks;
	ec.zstd_level = (int)c->zstd_level;
	ec.lock_fd = d->cache_lock_fd;
	r = engine_create(&ec, d->store, &d->engine);
	return r ? fail("engine", r, NULL) : 0;
}

static int ublk_start(struct daemon *d, const struct options *o)
{
	struct ublk_config uc = {
		.state_dir = d->cfg.state_dir,
		.host_id = d->host_id,
		.queues = (unsigned int)d->cfg.queues,
		.depth = (unsigned int)d->cfg.depth,
		.cmd_timeout_ns = d->cfg.command_timeout_s * NSEC_PER_SEC,
		.udev_wait_ns = d->cfg.udev_wait_ms * NSEC_PER_MSEC,
	};
	struct fmt_err err = {{0}};
	int r;

	if (o->no_ublk) {
		log_warn("--no-ublk: volumes have no devices");
		return 0;
	}
	if (d->cfg.udev_install)
		udev_rule_install();
	r = ublk_host_create(&uc, d->engine, &d->ublk, &err);
	return r ? fail("ublk", r, &err) : 0;
}

static void on_ready(void *arg, unsigned int attached, unsigned int failed)
{
	service_notify("READY=1\nSTATUS=%u volume(s) attached, %u failed", attached, failed);
	log_info("ready");
}

static int control_start(struct daemon *d)
{
	const struct config *c = &d->cfg;
	const struct host_config hc = {
		.state_dir = c->state_dir,
		.cache_dir = c->cache_dir,
		.host_id = d->host_id,
		.create_timeout_ns = c->create_timeout_s * NSEC_PER_SEC,
		.creates = (unsigned int)c->api_threads,
		.reap_ns = c->pending_reap_s * NSEC_PER_SEC,
		.forget_ns = c->pending_forget_s * NSEC_PER_SEC,
		.gc_interval_ns = c->gc_interval_s * NSEC_PER_SEC,
		.gc_max_delete = c->gc_max_delete,
		.on_ready = on_ready,
	};
	const struct api_config ac = {
		.socket = c->socket,
		.listen = c->listen,
		.token_file = c->token_file,
		.metrics = c->metrics,
		.request_timeout_s = (unsigned int)c->request_timeout_s,
	};
	struct fmt_err err = {{0}};
	int r;

	d->pool = pool_create("gfs-api", (unsigned int)c->api_threads);
	if (!d->pool)
		return fail("API threads", -errno, NULL);
	r = host_create(&hc, d->engine, d->ublk, d->pool, &d->host, &err);
	if (r)
		return fail("volumes of this host", r, &err);
	host_reap_devices(d->host);
	r = api_start(&ac, d->host, d->engine, d->pool, &d->api, &err);
	if (r)
		return fail("API", r, &err);
	log_info("glidefsd %s: host %s, store %s, API on %s%s%s", GFS_VERSION, d->host_id,
		 d->store->url, c->socket, c->listen[0] ? " and " : "", c->listen);
	host_recover_start(d->host);
	return 0;
}

static int start(struct daemon *d, const struct options *o)
{
	int r = process_setup(d, o);

	if (r)
		return r;
	r = timing_init(d->cfg.timing_log[0] ? d->cfg.timing_log : NULL);
	if (r)
		return fail("timing_log", r, NULL);
	r = debug_setup();
	if (!r)
		r = store_start(d);
	if (!r)
		r = engine_start(d);
	if (!r)
		r = ublk_start(d, o);
	if (!r)
		r = control_start(d);
	return r;
}

/* ---- stop ---- */

/* Ends the process when a stop hangs, for instance on a store that does not answer. */
static void *stop_watchdog(void *arg)
{
	const struct timespec t = {.tv_sec = (time_t)(STOP_TIMEOUT_NS / NSEC_PER_SEC)};

	nanosleep(&t, NULL);
	log_warn("stop: not finished after %llu s: leaving as it is; the next start recovers "
		 "everything",
		 STOP_TIMEOUT_NS / NSEC_PER_SEC);
	_exit(0);
}

static void stop(struct daemon *d)
{
	pthread_t t;

	if (pthread_create(&t, NULL, stop_watchdog, NULL) == 0)
		pthread_detach(t);
	if (d->host)
		host_stop(d->host);
	if (d->engine)
		engine_ssd_scrub_stop(d->engine);
	if (d->api) {
		api_quiesce(d->api);
		/* Without a limit of its own: the watchdog has one. */
		while (api_wait_idle(d->api, NSEC_PER_SEC))
			;
		api_stop(d->api);
	}
	if (d->host)
		host_destroy(d->host);
	pool_destroy(d->pool);
	if (d->ublk)
		ublk_host_destroy(d->ublk);
	if (d->engine)
		engine_destroy(d->engine);
	if (d->store)
		store_close(d->store);
	timing_exit();
	/* Last: the next daemon waits for these. */
	if (d->cache_lock_fd >= 0)
		close(d->cache_lock_fd);
	if (d->state_lock_fd >= 0)
		close(d->state_lock_fd);
	config_free(&d->cfg);
}

static void wait_for_signal(void)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	for (;;) {
		if (sigwait(&set, &sig))
			continue;
		if (sig == SIGTERM || sig == SIGINT)
			break;
		log_info("SIGHUP: the configuration is read at start only; nothing done");
	}
	service_notify("STOPPING=1\nSTATUS=stopping; devices stay for the next daemon");
	log_info("signal %d: stopping; devices and their mounts stay for the next daemon", sig);
}

int main(int argc, char **argv)
{
	struct daemon d = {.state_lock_fd = -1, .cache_lock_fd = -1};
	struct options o = {0};
	char *errors = NULL;
	int r = options_parse(argc, argv, &o);

	if (r)
		return r < 0 ? 2 : 0;
	r = config_load(o.config, &d.cfg, &errors);
	if (r) {
		fputs(errors ? errors : "glidefsd: out of memory\n", stderr);
		free(errors);
		return 2;
	}
	if (o.check) {
		printf("%s: correct\n", o.config ? o.config : "defaults");
		config_free(&d.cfg);
		return 0;
	}
	log_init((enum log_level)d.cfg.log_level, getenv("JOURNAL_STREAM") != NULL);
	r = start(&d, &o);
	if (!r)
		wait_for_signal();
	stop(&d);
	return r ? 1 : 0;
}
