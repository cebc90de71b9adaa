// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * start_dev_pairs: START_DEV of two servers, alternating, both timed by the outside observer
 * (ublk_obs), as one figure. Measures until the interval is narrow enough for a verdict, within
 * bounds; a wide interval is never a pass.
 *
 * A side is one of
 *   bare:ARGUMENTS       a bare_server --loop with these arguments, one process for all its devices
 *   create:SOCKET:BODY   volumes created by PUT with this body, and removed again
 *   attach:SOCKET:NAME-%d:COUNT  these volumes (from 0 on) attached and detached in turn
 *
 * Two attach sides go by a beat: one attach of ours, then one of the reference, in each period,
 * with the detaches between them, answered or not. A store delay that is a multiple of the period
 * then only shifts an attach by whole periods: its START_DEV still falls into its own part of one,
 * and a slow store costs the measurement no time.
 *
 * One thread. Everything is a line protocol over pipes, or one HTTP request at a time per volume.
 */
#include "selftests/tools/figure_stats.h"
#include "selftests/tools/http_unix.h"

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define STEP_S      60
#define SLOTS_MAX   32
#define SAMPLES_MAX 4096
/* Pairs between two looks at the interval. */
#define LOOK_EVERY 10

struct child {
	pid_t pid;
	FILE *in, *out; /* ours to write, ours to read */
};

struct side;

struct side_ops {
	const char *prefix;
	void (*open)(struct side *s, char *args);
	/* One device up, then down. NULL: goes by the beat. */
	void (*cycle)(struct side *s);
};

enum slot_state { SLOT_IDLE, SLOT_ATTACHING, SLOT_ATTACHED, SLOT_DETACHING };

struct slot {
	char name[64];
	enum slot_state state;
	struct http_call *call;
};

struct side {
	const struct side_ops *ops;
	const char *label;
	pid_t tgid; /* of the server, for the observer */
	struct child bare;
	const char *socket, *body;
	unsigned int cycles;
	struct http_call *call; /* of create and remove */
	unsigned int nr_slots, next_up, next_down;
	struct slot slots[SLOTS_MAX];
	double us[SAMPLES_MAX];
	unsigned int nr_us;
};

struct options {
	const char *name, *pairs_path;
	enum figure_limit kind;
	double limit;
	unsigned int min_pairs, max_pairs, seconds, beat_ms;
};

static struct child observer;

static void child_start(struct child *c, char *const argv[])
{
	int to[2], from[2];

	/* A child must not hold the other ends of another child's pipes. */
	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		err(2, "pipe");
	c->pid = fork();
	if (c->pid < 0)
		err(2, "fork");
	if (!c->pid) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		dup2(to[0], 0);
		dup2(from[1], 1);
		execvp(argv[0], argv);
		err(127, "%s", argv[0]);
	}
	close(to[0]);
	close(from[1]);
	c->in = fdopen(to[1], "w");
	c->out = fdopen(from[0], "r");
	if (!c->in || !c->out)
		err(2, "fdopen");
	/* A line too many in stdio's buffer would be invisible to poll(). */
	setvbuf(c->out, NULL, _IONBF, 0);
}

static bool child_line(struct child *c, const char *who, char *line, int len, unsigned int wait_ms)
{
	struct pollfd pfd = {.fd = fileno(c->out), .events = POLLIN};

	if (poll(&pfd, 1, (int)wait_ms) <= 0)
		return false;
	if (!fgets(line, len, c->out))
		errx(2, "%s ended", who);
	line[strcspn(line, "\n")] = 0;
	return true;
}

/* ---- sides ---- */

static void bare_open(struct side *s, char *args)
{
	char *argv[32] = {(char *)"bare_server", (char *)"--loop"};
	size_t n = 2;

	for (char *a = strtok(args, " "); a && n < ARRAY_SIZE(argv) - 1; a = strtok(NULL, " "))
		argv[n++] = a;
	child_start(&s->bare, argv);
	s->tgid = s->bare.pid;
}

static void bare_order(struct side *s, const char *order, const char *answer)
{
	char line[128];

	fprintf(s->bare.in, "%s\n", order);
	fflush(s->bare.in);
	/* The first "add" may have to write the file. */
	if (!child_line(&s->bare, "bare_server", line, sizeof(line), 2 * STEP_S * 1000))
		errx(2, "bare_server: no answer to \"%s\" in %d s", order, 2 * STEP_S);
	if (strncmp(line, answer, strlen(answer)))
		errx(2, "bare_server: \"%s\" to \"%s\"", line, order);
}

static void bare_cycle(struct side *s)
{
	bare_order(s, "add", "/dev/ublkb");
	bare_order(s, "del", "gone");
}

static void begin(struct side *s, struct http_call *c, const char *method, const char *name,
		  const char *verb, const char *body)
{
	char path[256];
	int r;

	snprintf(path, sizeof(path), "/api/exports/%s%s%s", name, *verb ? "/" : "", verb);
	r = http_begin(c, s->socket, method, path, body);
	if (r)
		errx(2, "%s %s: %s", method, path, strerror(-r));
	s->tgid = c->server;
}

static void finish(struct http_call *c, const char *what, const char *name, int want)
{
	int r = http_finish(c, now_ns() + STEP_S * NSEC_PER_SEC);

	if (r)
		errx(2, "%s %s: %s", what, name, strerror(-r));
	if (c->status != want)
		errx(2, "%s %s: %d %s", what, name, c->status, c->body);
}

static struct http_call *call_new(void)
{
	struct http_call *c = malloc(sizeof(*c));

	if (!c)
		err(2, "request");
	return c;
}

static void create_open(struct side *s, char *args)
{
	s->socket = strtok(args, ":");
	s->body = strtok(NULL, "");
	if (!s->socket || !s->body)
		errx(2, "create:SOCKET:BODY");
	s->call = call_new();
}

static void create_cycle(struct side *s)
{
	struct http_call *c = s->call;
	char name[64];

	snprintf(name, sizeof(name), "pair-%s-%u", s->label, s->cycles);
	begin(s, c, "PUT", name, "", s->body);
	finish(c, "create", name, 201);
	begin(s, c, "DELETE", name, "", NULL);
	finish(c, "remove", name, 200);
}

static void attach_open(struct side *s, char *args)
{
	const char *pattern, *count;
	char *mark;

	s->socket = strtok(args, ":");
	pattern = strtok(NULL, ":");
	count = strtok(NULL, "");
	mark = pattern ? strstr(pattern, "%d") : NULL;
	if (!s->socket || !mark || !count)
		errx(2, "attach:SOCKET:NAME-%%d:COUNT");
	*mark = 0;
	s->nr_slots = MIN((unsigned int)strtoul(count, NULL, 10), SLOTS_MAX);
	for (unsigned int i = 0; i < s->nr_slots; i++) {
		struct slot *slot = &s->slots[i];

		slot->call = call_new();
		snprintf(slot->name, sizeof(slot->name), "%s%u%s", pattern, i, mark + 2);
	}
}

static void slot_begin(struct side *s, struct slot *slot, const char *verb, enum slot_state state)
{
	begin(s, slot->call, "POST", slot->name, verb, NULL);
	slot->state = state;
}

/* Take the answers that are there. True: no request is under way. */
static bool slots_reap(struct side *s)
{
	bool quiet = true;

	for (unsigned int i = 0; i < s->nr_slots; i++) {
		struct slot *slot = &s->slots[i];
		bool up = slot->state == SLOT_ATTACHING;
		struct pollfd pfd = {.fd = slot->call->fd, .events = POLLIN};

		if (!up && slot->state != SLOT_DETACHING)
			continue;
		if (poll(&pfd, 1, 0) == 1) {
			finish(slot->call, up ? "attach" : "detach", slot->name, 200);
			slot->state = up ? SLOT_ATTACHED : SLOT_IDLE;
		} else {
			quiet = false;
		}
	}
	return quiet;
}

/* Begin with the next in turn; if that is not there yet, this beat is left out. */
static bool slots_up(struct side *s)
{
	struct slot *slot = &s->slots[s->next_up];

	if (slot->state != SLOT_IDLE)
		return false;
	slot_begin(s, slot, "attach", SLOT_ATTACHING);
	s->next_up = (s->next_up + 1) % s->nr_slots;
	return true;
}

static bool slots_down(struct side *s)
{
	struct slot *slot = &s->slots[s->next_down];

	if (slot->state != SLOT_ATTACHED)
		return false;
	slot_begin(s, slot, "detach", SLOT_DETACHING);
	s->next_down = (s->next_down + 1) % s->nr_slots;
	return true;
}

static const struct side_ops sides[] = {
	{"bare:", bare_open, bare_cycle},
	{"create:", create_open, create_cycle},
	{"attach:", attach_open, NULL},
};

static void side_open(struct side *s, const char *label, char *spec)
{
	s->label = label;
	for (size_t i = 0; i < ARRAY_SIZE(sides); i++)
		if (!strncmp(spec, sides[i].prefix, strlen(sides[i].prefix)))
			s->ops = &sides[i];
	if (!s->ops)
		errx(2, "%s: no such kind of side", spec);
	s->ops->open(s, spec + strlen(s->ops->prefix));
}

static void side_close(struct side *s)
{
	uint64_t deadline = now_ns() + STEP_S * NSEC_PER_SEC;

	while (!slots_reap(s) || slots_down(s)) {
		if (now_ns() > deadline)
			errx(2, "%s: volumes do not come down in %d s", s->label, STEP_S);
		usleep(20000);
	}
	for (unsigned int i = 0; i < s->nr_slots; i++)
		free(s->slots[i].call);
	free(s->call);
	if (s->bare.pid) {
		fclose(s->bare.in);
		waitpid(s->bare.pid, NULL, 0);
	}
}

/* ---- the observer ---- */

static void observer_open(void)
{
	char *const argv[] = {(char *)"ublk_obs", NULL};
	char line[128];

	child_start(&observer, argv);
	if (!child_line(&observer, "ublk_obs", line, sizeof(line), STEP_S * 1000) ||
	    strcmp(line, "ready"))
		errx(2, "ublk_obs is not ready");
}

static void observer_close(void)
{
	kill(observer.pid, SIGTERM);
	waitpid(observer.pid, NULL, 0);
}

static void take_line(struct side *const both[2], const char *line)
{
	unsigned int tgid;
	double us;
	int res;

	if (sscanf(line, "cmd=START_DEV dev=%*d tgid=%u us=%lf res=%d", &tgid, &us, &res) != 3)
		return;
	for (int i = 0; i < 2; i++) {
		struct side *s = both[i];

		if ((pid_t)tgid != s->tgid)
			continue;
		if (res)
			errx(2, "%s: START_DEV: %s", s->label, strerror(-res));
		if (s->nr_us < SAMPLES_MAX)
			s->us[s->nr_us++] = MAX(us, 1);
		return;
	}
}

/* Every cycle has sent one START_DEV: wait until the observer told of each. */
static void observer_catch_up(struct side *const both[2])
{
	uint64_t deadline = now_ns() + STEP_S * NSEC_PER_SEC;
	char line[256];

	while (both[0]->nr_us < both[0]->cycles || both[1]->nr_us < both[1]->cycles) {
		if (child_line(&observer, "ublk_obs", line, sizeof(line), 100))
			take_line(both, line);
		else if (now_ns() > deadline)
			errx(2, "the observer saw %u and %u START_DEVs of %u and %u",
			     both[0]->nr_us, both[1]->nr_us, both[0]->cycles, both[1]->cycles);
	}
}

/* ---- measurement ---- */

/* The first device of a process pays for its threads, mappings and page faults: it does not count.
 */
static size_t pairs_nr(struct side *const both[2])
{
	unsigned int n = MIN(both[0]->nr_us, both[1]->nr_us);

	return n ? n - 1 : 0;
}

static struct figure_pair pair_get(struct side *const both[2], size_t i)
{
	return (struct figure_pair){both[0]->us[i + 1], both[1]->us[i + 1]};
}

static void pairs_write(const struct options *o, struct side *const both[2])
{
	FILE *f;

	if (!o->pairs_path)
		return;
	f = fopen(o->pairs_path, "w");
	if (!f)
		err(2, "%s", o->pairs_path);
	for (size_t i = 0; i < pairs_nr(both); i++)
		fprintf(f, "%.0f %.0f\n", pair_get(both, i).ours, pair_get(both, i).ref);
	fclose(f);
}

struct verdict {
	enum figure_verdict v;
	struct figure f;
	char why[160];
};

static void look(const struct options *o, struct side *const both[2], struct verdict *out)
{
	struct figure_pair pairs[SAMPLES_MAX];
	size_t n = pairs_nr(both);
	int r;

	for (size_t i = 0; i < n; i++)
		pairs[i] = pair_get(both, i);
	r = figure_compute(pairs, n, FIGURE_SEED, FIGURE_RESAMPLES, &out->f);
	if (r)
		errx(2, "%s: %zu pairs: %s", o->name, n, strerror(-r));
	out->v = figure_judge(&out->f, o->kind, o->limit, o->min_pairs, out->why, sizeof(out->why));
}

/* Is there a verdict, or no more time to find one? Looks now and then. */
static bool measured(const struct options *o, struct side *const both[2], uint64_t deadline,
		     struct verdict *out)
{
	static size_t looked;
	size_t n = pairs_nr(both);

	if (n >= o->min_pairs && n >= looked + LOOK_EVERY) {
		looked = n;
		look(o, both, out);
		if (out->v != FIGURE_UNDECIDED)
			return true;
	}
	return n >= o->max_pairs || (n && now_ns() >= deadline);
}

static void measure_in_turn(const struct options *o, struct side *const both[2], uint64_t deadline,
			    struct verdict *out)
{
	while (!measured(o, both, deadline, out)) {
		for (int i = 0; i < 2; i++) {
			both[i]->ops->cycle(both[i]);
			both[i]->cycles++;
			observer_catch_up(both);
		}
	}
}

/* Read what the observer says until then. */
static void observer_until(struct side *const both[2], uint64_t until)
{
	uint64_t now;
	char line[256];

	while ((now = now_ns()) < until)
		if (child_line(&observer, "ublk_obs", line, sizeof(line),
			       (unsigned int)((until - now) / NSEC_PER_MSEC) + 1))
			take_line(both, line);
}

static void measure_by_beat(const struct options *o, struct side *const both[2], uint64_t deadline,
			    struct verdict *out)
{
	uint64_t quarter_ns = o->beat_ms * NSEC_PER_MSEC / 4, next = now_ns();

	for (unsigned int quarter = 0; !measured(o, both, deadline, out); quarter++) {
		struct side *s = both[quarter / 2 % 2];

		slots_reap(both[0]);
		slots_reap(both[1]);
		if (quarter % 2)
			slots_down(s);
		else
			slots_up(s);
		next += quarter_ns;
		observer_until(both, next);
		/* Nothing measured for long: a server hangs. */
		if (!pairs_nr(both) && now_ns() > deadline)
			errx(2, "no pair in %u s", o->seconds);
	}
}

static enum figure_verdict measure(const struct options *o, struct side *const both[2])
{
	uint64_t deadline = now_ns() + o->seconds * NSEC_PER_SEC;
	struct verdict verdict = {.v = FIGURE_UNDECIDED};

	if (both[0]->ops->cycle && both[1]->ops->cycle)
		measure_in_turn(o, both, deadline, &verdict);
	else if (!both[0]->ops->cycle && !both[1]->ops->cycle)
		measure_by_beat(o, both, deadline, &verdict);
	else
		errx(2, "an attach side goes with an attach side only");
	look(o, both, &verdict);
	figure_print(stdout, o->name, "ratio", &verdict.f, verdict.v, verdict.why);
	printf("# %s: START_DEV medians %.0f us ours, %.0f us reference\n", o->name, verdict.f.ours,
	       verdict.f.ref);
	pairs_write(o, both);
	return verdict.v;
}

static void usage(FILE *f)
{
	fprintf(f, "usage: start_dev_pairs [--max LIMIT] [--min-pairs N] [--max-pairs N] "
		   "[--seconds S]\n"
		   "                       [--beat-ms MS] [--pairs FILE] NAME OURS REFERENCE\n"
		   "  a side: bare:ARGUMENTS, create:SOCKET:BODY, attach:SOCKET:NAME-%%d:COUNT\n"
		   "  exit status: 0 within the limit, 1 not, 3 undecided, 2 cannot measure\n");
}

static void options_parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{"max", required_argument, NULL, 'M'},
		{"min-pairs", required_argument, NULL, 'n'},
		{"max-pairs", required_argument, NULL, 'x'},
		{"seconds", required_argument, NULL, 's'},
		{"pairs", required_argument, NULL, 'p'},
		{"beat-ms", required_argument, NULL, 'b'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'M':
			o->kind = FIGURE_AT_MOST;
			o->limit = strtod(optarg, NULL);
			break;
		case 'n':
			o->min_pairs = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'x':
			o->max_pairs = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 's':
			o->seconds = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'b':
			o->beat_ms = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case 'p':
			o->pairs_path = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind != argc - 3 || !o->max_pairs || o->beat_ms < 4 ||
	    o->max_pairs > SAMPLES_MAX - SLOTS_MAX) {
		usage(stderr);
		exit(2);
	}
	o->name = argv[optind];
}

int main(int argc, char **argv)
{
	static struct side ours, ref;
	struct side *const both[2] = {&ours, &ref};
	struct options o = {.min_pairs = 200, .max_pairs = 2000, .seconds = 600, .beat_ms = 500};
	enum figure_verdict v;

	options_parse(argc, argv, &o);
	signal(SIGPIPE, SIG_IGN);
	observer_open();
	side_open(&ours, "ours", argv[argc - 2]);
	side_open(&ref, "ref", argv[argc - 1]);
	v = measure(&o, both);
	side_close(&ours);
	side_close(&ref);
	observer_close();
	return figure_status(v);
}
