// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * apicall: requests to the daemon's API, many at once, from one process.
 *
 *   apicall --jobs 128 --count 128 SOCKET PUT /api/exports/vm-%d '{"size":"64M"}'
 *
 * %d in the path is the number of the request, from --first (0). A line per request, when all are
 * done: NUMBER STATUS MILLISECONDS BODY. Exit status 0 if each was answered 2xx, else 1; 2 on bad
 * use. Each thread takes the next number until none is left.
 */
#include "selftests/tools/http_unix.h"

#include <err.h>
#include <getopt.h>

struct answer {
	int status; /* of HTTP, or -errno */
	unsigned int ms;
	char body[8192];
};

static struct {
	const char *socket, *method, *path, *body;
	unsigned int jobs, count, first, seconds;
} o = {.jobs = 1, .count = 1, .seconds = 60};

static struct answer *answers;
static unsigned int next_request; /* atomic */

/* Numbers only: the path is no format string. */
static void path_of(unsigned int number, char *out, size_t len)
{
	const char *mark = strstr(o.path, "%d");

	if (mark)
		snprintf(out, len, "%.*s%u%s", (int)(mark - o.path), o.path, number, mark + 2);
	else
		snprintf(out, len, "%s", o.path);
}

static void request(struct http_call *c, unsigned int i)
{
	struct answer *a = &answers[i];
	uint64_t start = now_ns();
	char path[256];
	int r;

	path_of(o.first + i, path, sizeof(path));
	r = http_begin(c, o.socket, o.method, path, o.body);
	if (!r)
		r = http_finish(c, start + o.seconds * NSEC_PER_SEC);
	a->ms = (unsigned int)((now_ns() - start) / NSEC_PER_MSEC);
	a->status = r ? r : c->status;
	snprintf(a->body, sizeof(a->body), "%s", r ? strerror(-r) : c->body);
	for (char *p = a->body; *p; p++)
		if (*p == '\n')
			*p = ' ';
}

static void *thread_main(void *arg __unused)
{
	struct http_call *c = malloc(sizeof(*c));
	unsigned int i;

	if (!c)
		err(2, "request");
	while ((i = __atomic_fetch_add(&next_request, 1, __ATOMIC_RELAXED)) < o.count)
		request(c, i);
	free(c);
	return NULL;
}

static void usage(FILE *f)
{
	fprintf(f, "usage: apicall [--jobs N] [--count N] [--first N] [--seconds S] SOCKET METHOD "
		   "PATH [BODY]\n");
}

static void options_parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"jobs", required_argument, NULL, 'j'},  {"count", required_argument, NULL, 'n'},
		{"first", required_argument, NULL, 'f'}, {"seconds", required_argument, NULL, 's'},
		{"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		unsigned int number = optarg ? (unsigned int)strtoul(optarg, NULL, 10) : 0;

		switch (c) {
		case 'j':
			o.jobs = number;
			break;
		case 'n':
			o.count = number;
			break;
		case 'f':
			o.first = number;
			break;
		case 's':
			o.seconds = number;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (argc - optind < 3 || argc - optind > 4 || !o.jobs || o.jobs > 1024 || !o.count) {
		usage(stderr);
		exit(2);
	}
	o.socket = argv[optind];
	o.method = argv[optind + 1];
	o.path = argv[optind + 2];
	o.body = argv[optind + 3];
}

int main(int argc, char **argv)
{
	unsigned int bad = 0, jobs;
	pthread_attr_t attr;
	pthread_t *threads;

	options_parse(argc, argv);
	jobs = MIN(o.jobs, o.count);
	answers = calloc(o.count, sizeof(*answers));
	threads = calloc(jobs, sizeof(*threads));
	if (!answers || !threads)
		err(2, "answers");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 256 * KiB);
	for (unsigned int i = 0; i < jobs; i++)
		if (pthread_create(&threads[i], &attr, thread_main, NULL))
			err(2, "thread");
	for (unsigned int i = 0; i < jobs; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < o.count; i++) {
		const struct answer *a = &answers[i];

		printf("%u %d %u %s\n", o.first + i, a->status, a->ms, a->body);
		bad += a->status < 200 || a->status > 299;
	}
	free(threads);
	free(answers);
	return bad != 0;
}
