// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Serves volumes through the engine and the ublk layer alone, without the daemon's control plane:
 * what the device layer promises can be tried apart from the rest.
 *
 * Volumes NAME0, NAME1, … are created when absent, else opened; a device is added for each, or with
 * --recover taken over. Prints "ready" and the devices. SIGTERM removes the devices, SIGUSR1
 * abandons them.
 */
#include "engine/volume.h"
#include "lib/fsutil.h"
#include "lib/log.h"
#include "ublk/device.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

struct options {
	const char *dir, *fault, *pause;
	unsigned int nr, queues, depth, workers, timeout_ms, parallel;
	uint64_t size_bytes;
	unsigned int churn;
	bool recover, partitions, force, reap;
};

struct one {
	char name[32];
	struct volume *v;
	struct ublk_dev *dev;
	int res;
};

static struct options o = {
	.nr = 1,
	.queues = 2,
	.depth = 64,
	.size_bytes = 64 * MiB,
	.timeout_ms = 30000,
	.parallel = 1,
};
static struct engine *engine;
static struct ublk_host *host;
static struct one *ones;
static unsigned int next_one;

static unsigned int pause_index, pause_ms;

/* Sleep once, at the first turn of that worker after it was told to. */
static void pause_worker(unsigned int index)
{
	struct timespec ts;

	if (index != pause_index || !__atomic_load_n(&pause_ms, __ATOMIC_ACQUIRE))
		return;
	ts.tv_sec = pause_ms / 1000;
	ts.tv_nsec = pause_ms % 1000 * 1000000L;
	__atomic_store_n(&pause_ms, 0, __ATOMIC_RELEASE);
	nanosleep(&ts, NULL);
}

static int one_open(struct one *one, struct fmt_err *err)
{
	const struct volume_def def = {
		.name = one->name, .size_bytes = o.size_bytes, .partitions = o.partitions};
	char etag[STORE_ETAG_MAX];
	struct root root;
	int r = volume_open(engine, one->name, NULL, CLAIM_OWN, false, NULL, NULL, 0, &one->v, err);

	if (r != -ENOENT)
		return r;
	r = root_prepare(engine, &def, &root);
	if (!r)
		r = root_create(engine, &root, now_ns() + 30 * NSEC_PER_SEC, 0, etag, err);
	if (!r)
		r = volume_open(engine, one->name, NULL, CLAIM_OWN, false, &root, etag, 0, &one->v,
				err);
	return r;
}

static int one_start(struct one *one)
{
	struct fmt_err err = {""};
	int r = one_open(one, &err);

	if (!r)
		r = o.recover ? ublk_dev_recover(host, one->v, 1, &one->dev, &err)
			      : ublk_dev_add(host, one->v, 1, &one->dev, &err);
	if (r) {
		printf("failed %s: %d: %s\n", one->name, r, err.msg);
		if (one->v)
			volume_close(one->v);
		one->v = NULL;
	}
	return r;
}

static void *starter(void *arg)
{
	unsigned int i;

	while ((i = __atomic_fetch_add(&next_one, 1, __ATOMIC_RELAXED)) < o.nr)
		ones[i].res = one_start(&ones[i]);
	return arg;
}

static void *stopper(void *arg)
{
	unsigned int i;

	while ((i = __atomic_fetch_add(&next_one, 1, __ATOMIC_RELAXED)) < o.nr) {
		struct fmt_err err = {""};

		if (!ones[i].v)
			continue;
		ones[i].res = ublk_dev_remove(ones[i].dev, o.force, 2, &err);
		if (ones[i].res)
			printf("not removed %s: %d: %s\n", ones[i].name, ones[i].res, err.msg);
		else
			volume_close(ones[i].v);
		if (!ones[i].res)
			ones[i].v = NULL;
	}
	return arg;
}

static int run_all(void *(*fn)(void *))
{
	pthread_t t[64];
	unsigned int n = MIN(o.parallel, 64u);
	int r = 0;

	next_one = 0;
	for (unsigned int i = 0; i < n; i++)
		pthread_create(&t[i], NULL, fn, NULL);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	for (unsigned int i = 0; i < o.nr; i++)
		r = r ? r : ones[i].res;
	return r;
}

/* Add and remove one more device, again and again, while the others are armed and idle. */
static void churn(void)
{
	for (unsigned int i = 0; i < o.churn; i++) {
		struct one one = {.name = "churn"};
		struct fmt_err err = {""};
		int id;

		if (one_start(&one))
			return;
		id = ublk_dev_id(one.dev);
		one.res = ublk_dev_remove(one.dev, false, 3, &err);
		printf("churn id=%d removed=%d %s\n", id, one.res, err.msg);
		if (one.res)
			return;
		volume_close(one.v);
	}
}

static bool known(const uint8_t uuid[16], void *arg __unused)
{
	for (unsigned int i = 0; i < o.nr; i++)
		if (ones[i].v && !memcmp(volume_uuid(ones[i].v), uuid, 16))
			return true;
	return false;
}

static int setup(void)
{
	struct fmt_err err = {""};
	struct ublk_config uc = {
		.host_id = "lab/serve",
		.queues = o.queues,
		.depth = o.depth,
		.cmd_timeout_ns = o.timeout_ms * NSEC_PER_MSEC,
	};
	struct engine_config ec;
	char path[512], url[600], msg[200] = "";
	struct store *store;
	int r;

	engine_config_defaults(&ec);
	ec.host_id = "lab/serve";
	ec.workers = o.workers;
	ec.lock_fd = -1;
	snprintf(path, sizeof(path), "%s/store", o.dir);
	r = mkdir_all(path);
	snprintf(url, sizeof(url), "file://%s/store", o.dir);
	if (!r)
		r = store_open(url, o.fault, &store, msg, sizeof(msg));
	if (r) {
		printf("failed store: %d: %s\n", r, msg);
		return r;
	}
	snprintf(path, sizeof(path), "%s/cache", o.dir);
	ec.cache_dir = path;
	r = mkdir_all(path);
	if (!r)
		r = engine_create(&ec, store, &engine);
	if (r) {
		printf("failed engine: %d\n", r);
		return r;
	}
	uc.state_dir = path;
	r = ublk_host_create(&uc, engine, &host, &err);
	if (r)
		printf("failed host: %d: %s\n", r, err.msg);
	return r;
}

static void options_parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"dir", required_argument, NULL, 'd'},
		{"fault", required_argument, NULL, 'f'},
		{"nr", required_argument, NULL, 'n'},
		{"queues", required_argument, NULL, 'q'},
		{"depth", required_argument, NULL, 'D'},
		{"size", required_argument, NULL, 's'},
		{"workers", required_argument, NULL, 'w'},
		{"timeout-ms", required_argument, NULL, 't'},
		{"parallel", required_argument, NULL, 'j'},
		{"pause", required_argument, NULL, 'p'},
		{"recover", no_argument, NULL, 'r'},
		{"partitions", no_argument, NULL, 'P'},
		{"churn", required_argument, NULL, 'C'},
		{"force", no_argument, NULL, 'F'},
		{"reap", no_argument, NULL, 'R'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		unsigned long n = optarg ? strtoul(optarg, NULL, 0) : 0;

		switch (c) {
		case 'd':
			o.dir = optarg;
			break;
		case 'f':
			o.fault = optarg;
			break;
		case 'p':
			o.pause = optarg;
			break;
		case 'n':
			o.nr = (unsigned int)n;
			break;
		case 'q':
			o.queues = (unsigned int)n;
			break;
		case 'D':
			o.depth = (unsigned int)n;
			break;
		case 's':
			o.size_bytes = n;
			break;
		case 'w':
			o.workers = (unsigned int)n;
			break;
		case 't':
			o.timeout_ms = (unsigned int)n;
			break;
		case 'j':
			o.parallel = (unsigned int)n;
			break;
		case 'C':
			o.churn = (unsigned int)n;
			break;
		case 'r':
			o.recover = true;
			break;
		case 'P':
			o.partitions = true;
			break;
		case 'F':
			o.force = true;
			break;
		case 'R':
			o.reap = true;
			break;
		default:
			exit(2);
		}
	}
	if (!o.dir) {
		fprintf(stderr,
			"usage: ublk_serve --dir DIR [--nr N] [--size B] [--queues N] [--depth N]\n"
			"  [--workers N] [--timeout-ms N] [--parallel N] [--pause WORKER:MS] "
			"[--fault RULES]\n"
			"  [--recover] [--partitions] [--force] [--reap] [--churn N]\n");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct fmt_err err = {""};
	sigset_t set;
	int sig, r;

	options_parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	log_init(LOG_LVL_DEBUG, false);
	r = ublk_mount_namespace(&err);
	if (r)
		printf("failed namespace: %d: %s\n", r, err.msg);
	if (!r)
		r = setup();
	if (r)
		return 1;
	ones = calloc(o.nr, sizeof(*ones));
	for (unsigned int i = 0; i < o.nr; i++)
		snprintf(ones[i].name, sizeof(ones[i].name), "vol%u", i);
	if (o.pause && sscanf(o.pause, "%u:%u", &pause_index, &pause_ms) == 2)
		worker_pause_hook = pause_worker;
	r = run_all(starter);
	if (o.reap)
		printf("reaped %d\n", ublk_reap_leaked(host, known, NULL));
	for (unsigned int i = 0; i < o.nr; i++)
		if (ones[i].v)
			printf("/dev/ublkb%d %s\n", ublk_dev_id(ones[i].dev), ones[i].name);
	churn();
	printf("ready %d\n", r);

	do {
		sigwait(&set, &sig);
		if (sig == SIGUSR1) {
			for (unsigned int i = 0; i < o.nr; i++) {
				if (!ones[i].v)
					continue;
				ublk_dev_abandon(ones[i].dev);
				volume_close(ones[i].v);
				ones[i].v = NULL;
			}
			r = 0;
		} else {
			/* SIGUSR2: try without force, and go on when it is in use. */
			r = run_all(stopper);
			printf("removed %d\n", r);
		}
	} while (sig == SIGUSR2 && r);
	ublk_host_destroy(host);
	engine_destroy(engine);
	free(ones);
	return r ? 1 : 0;
}
