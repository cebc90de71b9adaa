/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records: the only thing that passes from what is observed to what is concluded. A live session
 * makes them from BPF events, kernel memory and the daemon's spans; a capture is a file of them,
 * one JSON object a line; the model (model.h) is a function of them alone, so that a replay
 * concludes what the live session did.
 *
 * Times are CLOCK_MONOTONIC ns; 0 = did not happen (yet). dev is the ublk id, -1 = unknown or none.
 * A thing that lasts (command, freeze, attribute write, elevator switch, request, span) has an id
 * and is told again whenever it is polled while open; end_ns != 0 tells its end. `adopted`: it
 * began before we watched, so its beginning is the earliest time it was seen or could be inferred.
 */
#ifndef GFS_TRACING_REC_H
#define GFS_TRACING_REC_H

#include "lib/util.h"

#define REC_COMM_LEN   16
#define REC_VOLUME_LEN 128

enum rec_kind {
	REC_META = 1, /* first record of a capture */
	REC_HOOK,     /* an attach point: what it became and why */
	REC_DEV,      /* a device as it is now: begins its snapshot; REC_QUEUE and REC_REQ follow */
	REC_QUEUE,    /* one of its hardware queues, in a snapshot */
	REC_REQ,      /* one of its requests in flight, in a snapshot; or one that ended late */
	REC_SNAP_END, /* the snapshot of dev is complete: what it did not name is not in flight */
	REC_CMD,      /* a control command */
	REC_FREEZE,   /* a queue freeze */
	REC_ATTR,     /* a write to a queue attribute */
	REC_ELV,      /* an elevator switch */
	REC_TASK,     /* a thread: state and stacks */
	REC_OPENER,   /* a process that has /dev/ublkbN or /dev/ublkcN open */
	REC_SERVER,   /* a server opened or let go of /dev/ublkcN */
	REC_SPAN,     /* a span of the daemon */
	REC_KMSG,     /* a line of the kernel log that matters */
	REC_HIST,     /* a latency histogram, since the session began */
	REC_COUNTS,   /* what was lost or found no partner, since the session began */
	REC_TICK,     /* time passes: verdicts are drawn now, and only now */
	REC_END,      /* last record of a session that ended in order */
};

/* Opcode numbers of control commands: _IOC_NR of cmd_op, the same in both encodings. */
enum rec_cmd_nr {
	CMD_GET_QUEUE_AFFINITY = 0x01,
	CMD_GET_DEV_INFO = 0x02,
	CMD_ADD_DEV = 0x04,
	CMD_DEL_DEV = 0x05,
	CMD_START_DEV = 0x06,
	CMD_STOP_DEV = 0x07,
	CMD_SET_PARAMS = 0x08,
	CMD_GET_PARAMS = 0x09,
	CMD_START_USER_RECOVERY = 0x10,
	CMD_END_USER_RECOVERY = 0x11,
	CMD_GET_DEV_INFO2 = 0x12,
	CMD_GET_FEATURES = 0x13,
	CMD_DEL_DEV_ASYNC = 0x14,
	CMD_UPDATE_SIZE = 0x15,
	CMD_QUIESCE_DEV = 0x16,
	CMD_TRY_STOP_DEV = 0x17,
};

enum rec_dev_state {
	DEV_DEAD = 0, /* added or stopped, not started */
	DEV_LIVE = 1,
	DEV_QUIESCED = 2,
	DEV_FAIL_IO = 3,
	DEV_GONE = 100,
};

struct rec_meta {
	uint32_t version; /* of the format: REC_VERSION */
	char tool[32], kernel[96], host[64];
	uint64_t wall_ns;                            /* at rec.t_ns */
	uint64_t budget_start_dev_ns, budget_cmd_ns, /* the session's budgets: model_config */
		budget_freeze_ns, budget_attr_ns, budget_request_ns;
	uint32_t filter_pid;
	int32_t filter_dev;
	char filter_volume[REC_VOLUME_LEN];
};
#define REC_VERSION 1

struct rec_hook {
	char hook[32];    /* "ctrl", "freeze.wait", … */
	char variant[96]; /* "fentry ublk_drv:ublk_ctrl_uring_cmd", …; "off" */
	char reason[160]; /* why a better variant, or none, was taken; "" */
};

struct rec_dev {
	int32_t dev;
	char volume[REC_VOLUME_LEN]; /* "" = unknown */
	uint32_t state;              /* enum rec_dev_state */
	uint32_t nr_queues, depth;
	uint32_t tgid; /* of the server, 0 = none */
	char comm[REC_COMM_LEN];
	uint64_t flags; /* UBLK_F_* */
	uint64_t size_sectors;
	uint32_t freeze_depth; /* of the queue, now */
	bool started;          /* the block device is there */
};

struct rec_queue {
	int32_t dev;
	uint32_t queue, depth;
	uint32_t armed;     /* FETCHes the driver holds, plus tags that the server owns */
	bool exact;         /* read from the driver; else "at least", from commands seen */
	char missing[96];   /* tags neither armed nor owned: "0-63", "3,7" */
	uint32_t owner_tid; /* thread that arms and serves it, 0 = unknown yet */
	char owner_comm[REC_COMM_LEN];
	bool guessed; /* the owner: the only thread of the server that serves nothing yet */
};

enum rec_req_state {
	REQ_QUEUED = 0,   /* issued by the block layer, not delivered to the server */
	REQ_SERVER = 1,   /* the server has it */
	REQ_REQUEUED = 2, /* given back: waits for a server */
	REQ_DONE = 3,
};

struct rec_req {
	int32_t dev;
	uint32_t queue, tag;
	char op; /* 'R' read, 'W' write, 'F' flush, 'D' discard, 'Z' write zeroes, '?' */
	uint64_t sector;
	uint32_t nsectors;
	uint64_t start_ns, deliver_ns, end_ns;
	uint32_t state;     /* enum rec_req_state */
	uint32_t owner_tid; /* the server's thread of this tag */
};

struct rec_cmd {
	uint64_t id;
	int32_t dev;
	uint32_t nr; /* enum rec_cmd_nr */
	uint32_t tgid;
	char comm[REC_COMM_LEN];
	uint32_t tid;         /* thread that works on it now: an iou-wrk after WORKER */
	uint64_t submit_ns;   /* first entry into the driver, or punt_ns if that was first */
	uint64_t punt_ns;     /* given to io-wq */
	uint64_t worker_ns;   /* an io-wq worker took it */
	uint64_t ctrl_ns;     /* second entry into the driver; the first if it was not punted */
	uint64_t add_disk_ns; /* START_DEV: every FETCH was there */
	uint64_t add_disk_end_ns;
	uint64_t elevator_ns, elevator_end_ns;
	uint64_t scan_ns, scan_end_ns; /* partition scan inside the command */
	uint64_t end_ns;
	int32_t res;
	bool adopted;
};

struct rec_freeze {
	uint64_t id;
	int32_t dev;
	uint32_t tid, tgid; /* who asked */
	char comm[REC_COMM_LEN];
	uint64_t start_ns;
	uint64_t wait_ns, wait_end_ns; /* of the waiter; wait_ns 0: nobody waited */
	uint64_t end_ns;               /* unfrozen */
	uint32_t depth;                /* nesting at the start, from 1 */
	bool adopted;
};

struct rec_attr {
	uint64_t id;
	int32_t dev;
	char attr[32], value[48];
	uint32_t tid, tgid;
	char comm[REC_COMM_LEN], cmdline[160];
	uint64_t start_ns, end_ns;
	int32_t res;
	uint64_t freeze_ns; /* of it, spent waiting for freezes */
	bool adopted;
};

struct rec_elv {
	uint64_t id;
	int32_t dev;
	char from[20], to[20];
	uint32_t tid, tgid;
	char comm[REC_COMM_LEN];
	uint64_t start_ns, end_ns;
	uint64_t freeze_ns;
};

struct rec_task {
	uint32_t tid, tgid, ppid; /* ppid: parent's tgid */
	char comm[REC_COMM_LEN], cmdline[160];
	char state;        /* 'R', 'S', 'D', … */
	char kstack[2048]; /* innermost first, "symbol;symbol"; "" = unknown */
	char ustack[4096]; /* the same, with "module!symbol file:line" */
	char ustack_error[96];
	bool killed; /* a SIGKILL is pending and has not helped */
};

struct rec_opener {
	int32_t dev;
	bool cdev; /* /dev/ublkcN, else /dev/ublkbN */
	uint32_t tgid;
	char comm[REC_COMM_LEN];
	char what[64]; /* "fd 7", "mapped", "mounted on /mnt" */
};

struct rec_server {
	int32_t dev;
	uint32_t tgid;
	char comm[REC_COMM_LEN];
	bool gone; /* let go of the device (died, or closed it) */
	uint64_t at_ns;
};

struct rec_span {
	bool open;
	uint32_t pid;
	char event[32]; /* lib/timing.h names */
	char volume[REC_VOLUME_LEN];
	int32_t dev;
	uint64_t op_id;
	uint64_t link_op_id; /* waits for that operation's work; 0 = none */
	uint64_t start_ns, end_ns;
	int32_t result;
	char key[256];
	uint64_t bytes;
	uint32_t attempt;
	bool is_io; /* queue, tag, … are set: the span of a guest request */
	char io_op;
	uint32_t queue, tag;
	uint64_t sector;
	uint32_t nsectors;
	char stage[16]; /* "local", "flush", "space", "store" */
};

struct rec_kmsg {
	char what[16]; /* "oops", "hung" */
	char line[400];
};

#define REC_HIST_BUCKETS 32 /* bucket i: [2^i, 2^(i+1)) us; 0 also less than 1 us */
struct rec_hist {
	int32_t dev;   /* -1: all devices */
	char what[16]; /* "total": allocation to end; "deliver", "server": its stages */
	char op;       /* as in rec_req, '*' all */
	uint64_t count, sum_ns;
	uint64_t bucket[REC_HIST_BUCKETS];
};

struct rec_counts {
	uint64_t events;         /* taken from the ring buffer */
	uint64_t dropped;        /* ring buffer or map was full */
	uint64_t unmatched_cmds; /* ends of control commands without a beginning, and the other way
				  */
	uint64_t unmatched_freezes;
	uint64_t spans;            /* of the daemon, seen */
	uint64_t spans_unmatched;  /* of them ublk.* or io.slow without a kernel partner */
	uint64_t kernel_unmatched; /* commands of a daemon with spans, without a span */
};

struct rec {
	uint64_t t_ns; /* when the record was made; never goes back within a capture */
	enum rec_kind kind;
	union {
		struct rec_meta meta;
		struct rec_hook hook;
		struct rec_dev dev;
		struct rec_queue queue;
		struct rec_req req;
		struct rec_cmd cmd;
		struct rec_freeze freeze;
		struct rec_attr attr;
		struct rec_elv elv;
		struct rec_task task;
		struct rec_opener opener;
		struct rec_server server;
		struct rec_span span;
		struct rec_kmsg kmsg;
		struct rec_hist hist;
		struct rec_counts counts;
		struct {
			int32_t dev;
		} snap_end;
	};
};

/* No encoded record is longer, NUL included. */
#define REC_LINE_MAX (64 * 1024)

/* Static names: "cmd", "freeze", …; NULL out of range. */
const char *rec_kind_name(enum rec_kind kind);
/* "START_DEV", …; "cmd-0xNN" in buf (24 bytes) if unknown. */
const char *rec_cmd_name(uint32_t nr, char buf[24]);
/* "dead", "live", "quiesced", "fail-io", "gone". */
const char *rec_dev_state_name(uint32_t state);
/* "queued", "server", "requeued", "done". */
const char *rec_req_state_name(uint32_t state);
/* The stage a command is in, or ended in: "punt", "worker", "ctrl", "ready-wait", "add-disk",
 * "elevator", "part-scan", "done". */
const char *rec_cmd_stage(const struct rec_cmd *c);

/*
 * One JSON object, no newline, into buf: length, or -ENOSPC (never with REC_LINE_MAX bytes);
 * -EINVAL: no such kind. Strings are made valid UTF-8 (a bad byte becomes a question mark); fields
 * that are 0 or "" are left out.
 */
int rec_encode(const struct rec *r, char *buf, size_t size) __must_check;
/*
 * The reverse. 0; -EBADMSG: not a record (err says what); -EPROTONOSUPPORT: of a kind this version
 * does not know (skip it). Fields that are missing are 0; unknown ones are ignored.
 */
int rec_decode(const char *line, size_t len, struct rec *out, char *err,
	       size_t err_len) __must_check;

#endif
