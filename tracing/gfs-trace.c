// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * gfs-trace: says what waits, on what, since when, who must act, and what the daemon is doing with
 * it. One table drives dispatch and usage. One thread, but for a child that `check` runs.
 */
#include "tracing/daemon_spans.h"
#include "tracing/doctor.h"
#include "tracing/hooks.h"
#include "tracing/live.h"
#include "tracing/replay.h"
#include "tracing/run.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

struct command {
	const char *name, *args, *help;
	unsigned int takes;
	int (*run)(struct options *o);
};

static const struct command commands[];

static int fail(const char *what)
{
	fprintf(stderr, "gfs-trace: %s\n", what);
	return EXIT_FAILED;
}

/* A session that cannot be opened is "cannot run here", whatever the reason. */
static int cannot(const char *err)
{
	fprintf(stderr, "gfs-trace: cannot run here: %s\n", err);
	return EXIT_CANNOT;
}

static void ready(const struct options *o)
{
	if (o->json)
		printf("{\"v\":1,\"type\":\"ready\",\"pid\":%d,\"t_ns\":%llu}\n", getpid(),
		       (unsigned long long)now_ns());
	else
		fprintf(stderr, "ready\n");
	fflush(stdout);
}

/* ---- sessions: live, record, check ---- */

/* The live view: draw at each turn. */
static int view(struct session *s, struct run *run)
{
	char err[128];
	struct live *l = live_new(err, sizeof(err));
	uint64_t drawn = 0;
	int res = 0;

	if (!l)
		return fail(err);
	while (!run_stop && !res) {
		int key = live_key(l);
		uint64_t now = now_ns();

		if (key == 'q')
			break;
		/* After a key at once, else twice a second. */
		if (key || now - drawn >= NSEC_PER_SEC / 2) {
			live_draw(l, key ? NULL : run_model(run), now);
			drawn = now;
		}
		res = session_step(s, 50);
	}
	live_free(l);
	return res;
}

/* *child: 0 once it has ended, with *child_status. */
static int steps(struct session *s, uint64_t until_ns, pid_t *child, int *child_status)
{
	int res = 0;

	while (!run_stop && !res) {
		if (until_ns && now_ns() >= until_ns)
			break;
		if (*child > 0 && waitpid(*child, child_status, WNOHANG) == *child) {
			*child = 0;
			break;
		}
		/* Nobody reads it any more: run_close() says so. */
		if (ferror(stdout))
			break;
		res = session_step(s, 100);
	}
	return res;
}

/* With own_stdout, standard output is ours alone: the command's goes where its errors go. */
static pid_t spawn(char **argv, bool own_stdout)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	signal(SIGPIPE, SIG_DFL);
	if (own_stdout)
		dup2(STDERR_FILENO, STDOUT_FILENO);
	execvp(argv[0], argv);
	fprintf(stderr, "gfs-trace: %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static int trace(struct options *o, bool to_stdout, bool screen, bool with_command)
{
	int child_status = 0, res, status;
	uint64_t until;
	struct session *s;
	struct run *run;
	pid_t child = 0;
	char err[512];

	run_signals();
	run = run_new(o, to_stdout, err, sizeof(err));
	if (!run)
		return fail(err);
	o->session.record = run_record;
	o->session.ctx = run;
	o->session.every_device = screen;
	res = session_open(&o->session, &s, err, sizeof(err));
	if (res) {
		run_abandon(run);
		return cannot(err);
	}
	if (!screen)
		ready(o);
	if (with_command) {
		child = spawn(o->args, o->json);
		if (child < 0)
			res = -errno;
	}
	until = o->duration_ns ? now_ns() + o->duration_ns : 0;
	if (!res)
		res = screen ? view(s, run) : steps(s, until, &child, &child_status);
	/* The terminal tells the whole job of SIGINT; other signals come to us alone. */
	if (child > 0 && run_stop && run_stop != SIGINT)
		kill(child, run_stop);
	/* A command that hangs is left to its owner; what it hangs on was said. */
	session_close(s);
	status = run_close(run);
	if (res < 0)
		return fail(strerror(-res));
	if (res)
		return res;
	if (status == EXIT_CLEAN && child > 0) {
		fprintf(stderr, "gfs-trace: no finding, but the command (pid %d) has not ended\n",
			(int)child);
		return EXIT_FAILED;
	}
	if (status == EXIT_CLEAN && child_status) {
		fprintf(stderr, "gfs-trace: no finding, but the command %s %d\n",
			WIFEXITED(child_status) ? "exited with" : "was ended by signal",
			WIFEXITED(child_status) ? WEXITSTATUS(child_status)
						: WTERMSIG(child_status));
		return EXIT_FAILED;
	}
	return status;
}

static int cmd_live(struct options *o)
{
	bool screen = !o->json && isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);

	if (o->nr_args)
		return fail("live takes no arguments");
	return trace(o, !screen, screen, false);
}

static int cmd_record(struct options *o)
{
	if (!o->capture)
		return fail("record needs -o FILE");
	if (o->ring_ns && !o->trigger)
		return fail("--ring needs --trigger, else nothing would ever be kept");
	if (o->trigger && !o->ring_ns)
		return fail("--trigger needs --ring: without it everything is kept");
	if (o->nr_args)
		return fail("record takes no arguments");
	return trace(o, true, false, false);
}

static int cmd_check(struct options *o)
{
	if (!o->nr_args && !o->duration_ns)
		return fail("check needs a command (after --) or --duration T");
	return trace(o, true, false, o->nr_args > 0);
}

/* ---- captures: report, replay ---- */

static int feed(void *ctx, const struct rec *r)
{
	run_record(ctx, r);
	return 0;
}

/* Events of a timing log and records of a capture, in order of time. */
struct merged {
	struct rec *span;
	size_t nr, room, next;
	struct run *run;
	uint64_t last_ns;
	int err;
};

static void on_log_span(void *ctx, const struct rec *r)
{
	struct merged *m = ctx;

	if (m->nr == m->room) {
		size_t room = m->room ? m->room * 2 : 256;
		struct rec *p = realloc(m->span, room * sizeof(*p));

		if (!p) {
			m->err = -ENOMEM;
			return;
		}
		m->span = p;
		m->room = room;
	}
	m->span[m->nr++] = *r;
}

static int span_cmp(const void *a, const void *b)
{
	const struct rec *x = a, *y = b;

	return x->t_ns < y->t_ns ? -1 : x->t_ns > y->t_ns;
}

static int feed_merged(void *ctx, const struct rec *r)
{
	struct merged *m = ctx;

	/* Before the capture began there is nothing to join with. */
	while (m->next < m->nr && m->span[m->next].t_ns <= r->t_ns) {
		if (m->last_ns)
			run_record(m->run, &m->span[m->next]);
		m->next++;
	}
	m->last_ns = r->t_ns;
	run_record(m->run, r);
	return 0;
}

static int replay(struct options *o, bool quiet)
{
	struct capture_stats st = {};
	struct merged m = {};
	uint64_t bad = 0;
	char err[512];
	int res;

	(void)quiet;
	if (o->nr_args != 1)
		return fail("one capture file is expected");
	run_signals();
	m.run = run_new(o, true, err, sizeof(err));
	if (!m.run)
		return fail(err);
	if (o->timing_log) {
		res = timing_log_read(o->timing_log, on_log_span, &m, &bad);
		if (res < 0 || m.err) {
			run_abandon(m.run);
			free(m.span);
			fprintf(stderr, "gfs-trace: %s: %s\n", o->timing_log,
				strerror(res < 0 ? -res : -m.err));
			return EXIT_FAILED;
		}
		qsort(m.span, m.nr, sizeof(*m.span), span_cmp);
	}
	res = capture_read(o->args[0], m.nr ? feed_merged : feed, m.nr ? (void *)&m : m.run, &st,
			   err, sizeof(err));
	free(m.span);
	if (res < 0) {
		run_abandon(m.run);
		return fail(err);
	}
	res = run_close(m.run);
	if (st.corrupt)
		fprintf(stderr, "gfs-trace: %llu lines of the capture were unreadable\n",
			(unsigned long long)st.corrupt);
	if (bad)
		fprintf(stderr, "gfs-trace: %llu lines of %s were no timing events\n",
			(unsigned long long)bad, o->timing_log);
	return res;
}

static int cmd_replay(struct options *o)
{
	return replay(o, false);
}

/* ---- doctor, probes ---- */

struct hook_list {
	struct sink *json;
	struct doctor_out *out;
};

static void print_hook(void *ctx, const struct rec *r)
{
	struct hook_list *l = ctx;

	if (l->out) {
		struct doctor_result res = {};
		char name[48];

		snprintf(name, sizeof(name), "hook %s", r->hook.hook);
		doctor_say(&res,
			   !strcmp(r->hook.variant, "off") && strcmp(r->hook.hook, "daemon")
				   ? DOCTOR_WARN
				   : DOCTOR_OK,
			   "%s%s%s", r->hook.variant, *r->hook.reason ? ": " : "", r->hook.reason);
		doctor_emit(l->out, name, &res);
		return;
	}
	if (l->json) {
		l->json->record(l->json, r);
		return;
	}
	printf("%-18s %-44s %s\n", r->hook.hook, r->hook.variant, r->hook.reason);
}

static int list_hooks(struct hook_list *l, bool verbose, char *err, size_t err_len)
{
	struct kallsyms *syms;
	struct hooks *h;
	int res = kallsyms_open("/proc/kallsyms", &syms);

	if (res) {
		hooks_explain_kallsyms(res, err, err_len);
		return res;
	}
	res = hooks_attach(syms, verbose, &h, err, err_len);
	if (!res) {
		hooks_list(h, print_hook, l);
		hooks_detach(h);
	}
	kallsyms_close(syms);
	return res;
}

static int cmd_probes(struct options *o)
{
	struct hook_list l = {};
	char err[512];
	int res;

	if (o->json) {
		l.json = sink_json("-", err, sizeof(err));
		if (!l.json)
			return fail(err);
	}
	res = list_hooks(&l, o->verbose, err, sizeof(err));
	if (l.json)
		(void)l.json->close(l.json, NULL); /* no session: no summary */
	if (!res && (fflush(stdout) || ferror(stdout)))
		return fail("standard output cannot be written");
	return res ? cannot(err) : EXIT_CLEAN;
}

static int doctor_hooks(struct doctor_out *out, void *ctx)
{
	struct hook_list l = {.out = out};
	struct options *o = ctx;
	struct doctor_result res = {};
	char err[512];
	int r = list_hooks(&l, o->verbose, err, sizeof(err));

	if (r) {
		doctor_say(&res, DOCTOR_BAD, "gfs-trace cannot attach: %s", err);
		doctor_emit(out, "hooks", &res);
	}
	return 0;
}

static int cmd_doctor(struct options *o)
{
	return doctor_checks(stdout, o->json, doctor_hooks, o);
}

static int cmd_help(struct options *o);

static const struct command commands[] = {
	{"live", "", "what waits now: a live view, or a stream of findings",
	 OPT_OUT | OPT_SESSION | OPT_JSON | OPT_DURATION, cmd_live},
	{"record", "-o FILE", "write everything observed to a capture",
	 OPT_OUT | OPT_SESSION | OPT_RECORD | OPT_JSON | OPT_DURATION, cmd_record},
	{"check", "[-- COMMAND…]",
	 "for CI: watch a command, or for a while; the exit status says what was found",
	 OPT_OUT | OPT_SESSION | OPT_JSON | OPT_DURATION, cmd_check},
	{"report", "FILE", "what a capture shows", OPT_LOG | OPT_JSON, cmd_replay},
	{"replay", "FILE", "the same, event by event", OPT_LOG | OPT_JSON, cmd_replay},
	{"doctor", "", "can this host run glidefs and gfs-trace", OPT_JSON, cmd_doctor},
	{"probes", "", "each attach point, the variant chosen, and why", OPT_JSON, cmd_probes},
	{"help", "[COMMAND]", "this text", 0, cmd_help},
};

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static void usage(const struct command *c)
{
	if (c) {
		printf("usage: gfs-trace %s %s\n%s\n\n", c->name, c->args, c->help);
		options_usage(c->takes);
		return;
	}
	puts("usage: gfs-trace [COMMAND] [OPTIONS]\n"
	     "Says what is waiting in ublk devices, on what, since when, and what the daemon does "
	     "with it.\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-8s %-16s %s\n", commands[i].name, commands[i].args, commands[i].help);
	puts("\nWithout a command: live. gfs-trace COMMAND --help lists its options.\n"
	     "Exit status: 0 clean, 1 usage or failure, 2 a budget was exceeded, 3 a stall or "
	     "deadlock was found,\n"
	     "4 cannot run here. See gfs-trace(1).");
}

static int cmd_help(struct options *o)
{
	const struct command *c = o->nr_args ? command_find(o->args[0]) : NULL;

	if (o->nr_args && !c)
		return fail("no such command");
	usage(c);
	return 0;
}

int main(int argc, char **argv)
{
	const struct command *c = &commands[0];
	struct options o;
	int res;

	if (argc > 1 && !strcmp(argv[1], "--version")) {
		puts("gfs-trace " GFS_VERSION);
		return 0;
	}
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		usage(NULL);
		return 0;
	}
	if (argc > 1 && argv[1][0] != '-') {
		c = command_find(argv[1]);
		if (!c) {
			fprintf(stderr, "gfs-trace: no command '%s'; gfs-trace --help lists them\n",
				argv[1]);
			return EXIT_FAILED;
		}
		argc--;
		argv++;
	}
	res = options_parse(&o, c->takes, argc, argv);
	if (res == -ECANCELED) {
		usage(c);
		return 0;
	}
	if (res) {
		fprintf(stderr, "gfs-trace %s --help lists the options\n", c->name);
		return EXIT_FAILED;
	}
	return c->run(&o);
}
