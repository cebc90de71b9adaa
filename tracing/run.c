// SPDX-License-Identifier: GPL-2.0-or-later
/* Options, outputs and the model of one run; see run.h. */
#include "tracing/run.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define SINKS_MAX 8

volatile int run_stop;

static void on_signal(int sig)
{
	if (run_stop)
		_exit(128 + sig);
	run_stop = sig;
}

void run_signals(void)
{
	const struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- options ---- */

enum {
	O_MIN = 256,
	O_BUDGET,
	O_VOLUME,
	O_JSON,
	O_PERFETTO,
	O_HTML,
	O_FOLDED,
	O_RING,
	O_TRIGGER,
	O_DURATION,
	O_LOG,
	O_COLOR
};

static const struct {
	struct option opt;
	unsigned int takes;
	const char *help;
} table[] = {
	{{"output", required_argument, NULL, 'o'},
	 OPT_OUT,
	 "-o, --output F       write a capture to F"},
	{{"json", no_argument, NULL, O_JSON},
	 OPT_JSON,
	 "--json               one JSON object a line"},
	{{"html", required_argument, NULL, O_HTML},
	 OPT_OUT | OPT_LOG,
	 "--html F             a self-contained report with the timeline"},
	{{"perfetto", required_argument, NULL, O_PERFETTO},
	 OPT_OUT | OPT_LOG,
	 "--perfetto F         a trace for ui.perfetto.dev"},
	{{"folded", required_argument, NULL, O_FOLDED},
	 OPT_OUT | OPT_LOG,
	 "--folded F           stacks of the findings, for flame graphs"},
	{{"device", required_argument, NULL, 'd'},
	 OPT_SESSION,
	 "-d, --device DEV     only this device (3, ublkb3 or /dev/ublkb3)"},
	{{"volume", required_argument, NULL, O_VOLUME},
	 OPT_SESSION,
	 "--volume NAME        only this volume"},
	{{"pid", required_argument, NULL, 'p'},
	 OPT_SESSION,
	 "-p, --pid PID        only devices of this server"},
	{{"min-ms", required_argument, NULL, O_MIN},
	 OPT_SESSION,
	 "--min-ms N           budget of every stage"},
	{{"budget", required_argument, NULL, O_BUDGET},
	 OPT_SESSION,
	 "--budget K=T[,K=T]   start_dev=500ms, command=2s, freeze=1s, attr=1s, request=2s"},
	{{"ring", required_argument, NULL, O_RING},
	 OPT_RECORD,
	 "--ring T             keep only the last T until the trigger"},
	{{"trigger", required_argument, NULL, O_TRIGGER},
	 OPT_RECORD,
	 "--trigger K>T        start_dev, command, freeze, attr or request longer than T; or "
	 "finding"},
	{{"duration", required_argument, NULL, O_DURATION},
	 OPT_DURATION,
	 "--duration T         end after T"},
	{{"log", required_argument, NULL, O_LOG},
	 OPT_LOG,
	 "--log F              join the daemon's JSON timing log F"},
	{{"verbose", no_argument, NULL, 'v'},
	 OPT_SESSION | OPT_LOG | OPT_JSON,
	 "-v, --verbose        whole stacks, and why something could not be attached"},
	{{"help", no_argument, NULL, 'h'}, ~0u, "-h, --help           this text"},
};

void options_usage(unsigned int takes)
{
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (table[i].takes & takes)
			printf("  %s\n", table[i].help);
}

/* "250ms", "3s", "1.5s", "2m", "80us"; a bare number is ms. */
static int parse_time(const char *text, uint64_t *ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = {{"ms", 1e6}, {"", 1e6}, {"s", 1e9}, {"us", 1e3}, {"m", 60e9}, {"ns", 1}};
	char *end;
	double v = strtod(text, &end);

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(end, units[i].unit) || end == text || !(v > 0) || v * units[i].ns > 1e18)
			continue;
		*ns = MAX((uint64_t)(v * units[i].ns), 1ull);
		return 0;
	}
	return -EINVAL;
}

static uint64_t *budget_of(struct model_config *b, const char *name, size_t len)
{
	struct {
		const char *name;
		uint64_t *ns;
	} names[] = {{"start_dev", &b->start_dev_ns},
		     {"command", &b->cmd_ns},
		     {"freeze", &b->freeze_ns},
		     {"attr", &b->attr_ns},
		     {"request", &b->request_ns}};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i].name) == len && !strncmp(name, names[i].name, len))
			return names[i].ns;
	return NULL;
}

static int parse_budgets(struct model_config *b, const char *text)
{
	while (*text) {
		const char *eq = strchr(text, '='), *end = text + strcspn(text, ",");
		uint64_t *ns = eq && eq < end ? budget_of(b, text, (size_t)(eq - text)) : NULL;
		char value[32];

		if (!ns || (size_t)(end - eq) > sizeof(value))
			return -EINVAL;
		snprintf(value, sizeof(value), "%.*s", (int)(end - eq - 1), eq + 1);
		if (parse_time(value, ns))
			return -EINVAL;
		text = *end ? end + 1 : end;
	}
	return 0;
}

static int parse_number(const char *text, long max, long *out)
{
	char *end;

	errno = 0;
	*out = strtol(text, &end, 10);
	return errno || end == text || *end || *out < 0 || *out > max ? -EINVAL : 0;
}

static int parse_dev(const char *text, int32_t *dev)
{
	long v;

	if (!strncmp(text, "/dev/", 5))
		text += 5;
	if (!strncmp(text, "ublkb", 5) || !strncmp(text, "ublkc", 5))
		text += 5;
	if (parse_number(text, INT32_MAX, &v))
		return -EINVAL;
	*dev = (int32_t)v;
	return 0;
}

static int option_apply(struct options *o, int c, const char *arg)
{
	struct model_config *b = &o->session.budgets;
	uint64_t ns;
	long v;

	switch (c) {
	case 'o':
		o->capture = arg;
		return 0;
	case O_JSON:
		o->json = true;
		return 0;
	case O_HTML:
		o->html = arg;
		return 0;
	case O_PERFETTO:
		o->perfetto = arg;
		return 0;
	case O_FOLDED:
		o->folded = arg;
		return 0;
	case O_LOG:
		o->timing_log = arg;
		return 0;
	case 'd':
		return parse_dev(arg, &o->session.dev);
	case O_VOLUME:
		if (strlen(arg) >= sizeof(o->session.volume) || !*arg)
			return -EINVAL;
		strcpy(o->session.volume, arg);
		return 0;
	case 'p':
		if (parse_number(arg, INT32_MAX, &v) || !v)
			return -EINVAL;
		o->session.pid = (uint32_t)v;
		return 0;
	case O_MIN:
		if (parse_time(arg, &ns))
			return -EINVAL;
		b->start_dev_ns = b->cmd_ns = b->freeze_ns = b->attr_ns = b->request_ns = ns;
		return 0;
	case O_BUDGET:
		return parse_budgets(b, arg);
	case O_RING:
		return parse_time(arg, &o->ring_ns);
	case O_TRIGGER:
		o->trigger = arg;
		return 0;
	case O_DURATION:
		return parse_time(arg, &o->duration_ns);
	case 'v':
		o->verbose = o->session.verbose = true;
		return 0;
	}
	return -EINVAL;
}

int options_parse(struct options *o, unsigned int takes, int argc, char **argv)
{
	struct option list[ARRAY_SIZE(table) + 1] = {};
	/* Options follow the name of a capture as well; what follows a command is the command's. */
	char shorts[64] = "+";
	size_t n = 0;
	int c, i;

	if (takes & OPT_LOG)
		shorts[0] = '\0';
	memset(o, 0, sizeof(*o));
	o->session.dev = -1;
	o->color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	for (size_t t = 0; t < ARRAY_SIZE(table); t++) {
		const struct option *opt = &table[t].opt;

		if (!(table[t].takes & takes))
			continue;
		list[n++] = *opt;
		if (opt->val < 256)
			snprintf(shorts + strlen(shorts), 4, "%c%s", opt->val,
				 opt->has_arg ? ":" : "");
	}
	optind = 0;
	while ((c = getopt_long(argc, argv, shorts, list, &i)) != -1) {
		if (c == 'h')
			return -ECANCELED;
		if (c == '?')
			return -EINVAL;
		if (option_apply(o, c, optarg)) {
			fprintf(stderr, "gfs-trace: '%s' is not a valid value of option %s\n",
				optarg ? optarg : "",
				argv[optind - 1] == optarg ? argv[optind - 2] : argv[optind - 1]);
			return -EINVAL;
		}
	}
	o->args = argv + optind;
	o->nr_args = argc - optind;
	return 0;
}

/* ---- a run ---- */

struct trigger {
	enum rec_kind kind; /* 0: a finding */
	uint32_t nr;        /* of a command; 0: any */
	uint64_t ns;
};

struct run {
	struct model *model;
	struct sink *sink[SINKS_MAX];
	unsigned int nr_sinks;
	struct sink *capture;
	struct trigger trigger;
	bool has_trigger;
};

static int parse_trigger(const char *text, struct trigger *t)
{
	static const struct {
		const char *name;
		struct trigger t;
	} names[] = {{"start_dev", {REC_CMD, CMD_START_DEV, 0}},
		     {"command", {REC_CMD, 0, 0}},
		     {"freeze", {REC_FREEZE, 0, 0}},
		     {"attr", {REC_ATTR, 0, 0}},
		     {"request", {REC_REQ, 0, 0}},
		     {"finding", {0, 0, 0}}};
	size_t len = strcspn(text, ">");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strlen(names[i].name) != len || strncmp(names[i].name, text, len))
			continue;
		*t = names[i].t;
		if (!t->kind)
			return text[len] ? -EINVAL : 0;
		return text[len] ? parse_time(text + len + 1, &t->ns) : -EINVAL;
	}
	return -EINVAL;
}

static bool triggers(const struct trigger *t, const struct rec *r)
{
	uint64_t start, end;

	if (r->kind != t->kind)
		return false;
	switch (r->kind) {
	case REC_CMD:
		if (t->nr && r->cmd.nr != t->nr)
			return false;
		start = r->cmd.submit_ns;
		end = r->cmd.end_ns;
		break;
	case REC_FREEZE:
		start = r->freeze.start_ns;
		end = r->freeze.wait_end_ns;
		break;
	case REC_ATTR:
		start = r->attr.start_ns;
		end = r->attr.end_ns;
		break;
	case REC_REQ:
		start = r->req.start_ns;
		end = r->req.end_ns;
		break;
	default:
		return false;
	}
	return (end ? end : r->t_ns) - start > t->ns;
}

static void on_finding(void *ctx, const struct finding *f, enum finding_event ev)
{
	struct run *run = ctx;

	for (unsigned int i = 0; i < run->nr_sinks; i++)
		if (run->sink[i]->finding)
			run->sink[i]->finding(run->sink[i], f, ev);
	if (run->has_trigger && !run->trigger.kind && ev == FINDING_OPEN)
		sink_capture_trigger(run->capture);
}

static bool sink_add(struct run *run, struct sink *s)
{
	if (!s)
		return false;
	run->sink[run->nr_sinks++] = s;
	return true;
}

struct run *run_new(const struct options *o, bool to_stdout, char *err, size_t err_len)
{
	struct run *run = calloc(1, sizeof(*run));
	struct model_config cfg = o->session.budgets;

	if (!run) {
		snprintf(err, err_len, "out of memory");
		return NULL;
	}
	cfg.on_finding = on_finding;
	cfg.ctx = run;
	if (o->trigger && parse_trigger(o->trigger, &run->trigger)) {
		snprintf(err, err_len,
			 "trigger '%s': expected start_dev>500ms (or command, freeze, attr, "
			 "request) or "
			 "finding",
			 o->trigger);
		goto fail;
	}
	run->has_trigger = o->trigger;
	run->model = model_new(&cfg);
	if (!run->model) {
		snprintf(err, err_len, "out of memory");
		goto fail;
	}
	if (to_stdout &&
	    !sink_add(run, o->json ? sink_json("-", err, err_len)
				   : sink_text("-", o->color, o->verbose, err, err_len)))
		goto fail;
	if (o->capture && !sink_add(run, sink_capture(o->capture, o->ring_ns, err, err_len)))
		goto fail;
	if (o->capture)
		run->capture = run->sink[run->nr_sinks - 1];
	if ((o->html && !sink_add(run, sink_html(o->html, err, err_len))) ||
	    (o->perfetto && !sink_add(run, sink_perfetto(o->perfetto, err, err_len))) ||
	    (o->folded && !sink_add(run, sink_folded(o->folded, err, err_len))))
		goto fail;
	return run;
fail:
	run_abandon(run);
	return NULL;
}

void run_record(void *ctx, const struct rec *r)
{
	struct run *run = ctx;

	for (unsigned int i = 0; i < run->nr_sinks; i++)
		if (run->sink[i]->record)
			run->sink[i]->record(run->sink[i], r);
	(void)!model_feed(run->model, r);
	if (run->has_trigger && run->trigger.kind && triggers(&run->trigger, r))
		sink_capture_trigger(run->capture);
}

const struct model *run_model(const struct run *run)
{
	return run->model;
}

void run_abandon(struct run *run)
{
	for (unsigned int i = 0; i < run->nr_sinks; i++)
		(void)run->sink[i]->close(run->sink[i], NULL);
	model_free(run->model);
	free(run);
}

int run_close(struct run *run)
{
	int status = model_exit_status(run->model);

	for (unsigned int i = 0; i < run->nr_sinks; i++) {
		int res = run->sink[i]->close(run->sink[i], run->model);

		if (!res)
			continue;
		fprintf(stderr, "gfs-trace: writing the output: %s\n", strerror(-res));
		status = EXIT_FAILED;
	}
	model_free(run->model);
	free(run);
	return status;
}
