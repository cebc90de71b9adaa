/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every subcommand that concludes something shares: options, the sinks, the model, and the way
 * records take through them (each sink sees a record before the model does, so that a finding never
 * precedes its evidence). One thread.
 */
#ifndef GFS_TRACING_RUN_H
#define GFS_TRACING_RUN_H

#include "tracing/session.h"
#include "tracing/sink.h"

#define EXIT_CLEAN  0
#define EXIT_FAILED 1 /* usage too */
#define EXIT_BUDGET 2
#define EXIT_STALL  3
#define EXIT_CANNOT 4

struct options {
	struct session_config session;
	bool json, verbose, color;
	const char *capture, *html, *perfetto, *folded, *timing_log;
	uint64_t ring_ns, duration_ns;
	const char *trigger;
	char **args; /* after the options */
	int nr_args;
};

/* Which options a subcommand takes. */
enum {
	OPT_OUT = 1,
	OPT_SESSION = 2,
	OPT_RECORD = 4,
	OPT_DURATION = 8,
	OPT_LOG = 16,
	OPT_JSON = 32
};

/* Parse argv[1..]; prints what is wrong. 0, or -EINVAL. -ECANCELED: --help was printed. */
int options_parse(struct options *o, unsigned int takes, int argc, char **argv);
/* The lines about these options, for usage. */
void options_usage(unsigned int takes);

struct run;

/* Opens every output first. NULL: err says why. to_stdout: findings as text (or JSON) go there. */
struct run *run_new(const struct options *o, bool to_stdout, char *err, size_t err_len);
/* A record, from a session or a capture. */
void run_record(void *run, const struct rec *r);
const struct model *run_model(const struct run *run);
/* Close all outputs. The exit status: EXIT_FAILED if one could not be written, else the model's
 * verdict. */
int run_close(struct run *run);
/* It came to nothing: no summary, and what was in the output files before stays. */
void run_abandon(struct run *run);

/*
 * The signal, after SIGINT, SIGTERM or SIGHUP, once run_signals() was called. A second signal ends
 * the process at once: nothing stays attached whatever ends it.
 */
extern volatile int run_stop;
void run_signals(void);

#endif
