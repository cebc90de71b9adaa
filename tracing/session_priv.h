/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of a session, shared by session.c (events, ticks, begin and end), session_dev.c (devices
 * and their snapshots) and session_open.c (what is open). One thread.
 */
#ifndef GFS_TRACING_SESSION_PRIV_H
#define GFS_TRACING_SESSION_PRIV_H

#include "tracing/adopt.h"
#include "tracing/convert.h"
#include "tracing/hooks.h"
#include "tracing/join.h"
#include "tracing/kdev.h"
#include "tracing/kmsg.h"
#include "tracing/session.h"
#include "tracing/watch.h"

#define OLD_NS       (5 * NSEC_PER_SEC)
#define IDLE_TICK_NS (1 * NSEC_PER_SEC)
#define DEVS_MAX     4096
#define OPEN_MAX     4096 /* entries of a map looked at in one poll */
#define OWNERS_MAX   64   /* server threads told at one tick */
/* A freeze that outlived its queue, or whose thread is gone. */
#define STALE_NS   (10 * NSEC_PER_SEC)
#define UNSEEN_NS  (1 * NSEC_PER_SEC)
#define UNSEEN_MAX 64

struct ring_buffer;

struct dev {
	int32_t id;
	uint32_t tgid;      /* of the last server */
	uint32_t start_tid; /* thread that submitted START_DEV */
	char comm[REC_COMM_LEN], volume[REC_VOLUME_LEN];
	bool wanted; /* tell a snapshot at this tick */
	bool told;   /* the last snapshot that was told had requests */
	bool present;
	bool frozen;
	bool recovering;  /* between START_ and END_USER_RECOVERY */
	bool openers;     /* something waits for who holds it */
	uint64_t old_ns;  /* age of the oldest request in the last look */
	uint64_t born_ns; /* the last device of this number ended then */
	unsigned int requests;
};

/* Open by a map, missing on its thread's stack since then, known to be open a moment before. */
struct unseen {
	uint32_t tid;
	uint64_t start_ns, since_ns, known_ns;
};

struct session {
	struct session_config cfg;
	struct kallsyms *syms;
	struct hooks *hooks;
	struct kmem *kmem;
	struct kdevs *kdevs;
	struct kmsg *kmsg;
	struct watch *watch;
	struct join *join;
	struct ring_buffer *ring;
	struct dev *dev;
	unsigned int nr_devs;
	struct adopt *adopt;
	uint32_t owner[OWNERS_MAX];
	unsigned int nr_owners;
	struct unseen unseen[UNSEEN_MAX];
	unsigned int nr_unseen;
	uint64_t poll_ns;     /* last poll of what is open */
	uint64_t poll_min_ns; /* younger things are not told while open */
	uint64_t start_ns, tick_ns, quiet_tick_ns, stats_ns, module_ns;
	uint64_t scan_due_ns, openers_due_ns;
	uint64_t last_ns; /* of the last record: they never go back */
	uint64_t events, burst;
	bool busy;  /* something is open past poll_min_ns */
	bool young; /* some of it is younger than OLD_NS */
	bool driver;
	struct rec rec;
};

/* session.c */

/* ctx: the session. Gives the record to the user, with a time that does not go back. */
void session_emit(void *ctx, const struct rec *r);
/* The session's own record, empty but for kind and time; the next call uses it again. */
struct rec *session_rec(struct session *s, enum rec_kind kind);

/* session_dev.c */

/* NULL: not known. */
struct dev *session_dev_find(struct session *s, int32_t id);
/* Known from now on; NULL: no id, or no room. */
struct dev *session_dev(struct session *s, int32_t id);
/* Filters. A device that is not known yet passes, but for one that was asked for by number. */
bool session_passes(struct session *s, int32_t id);
/* Tell a snapshot of it at this tick. */
void session_want(struct session *s, int32_t id);
/* ctx: the session. Device `id` serves that volume. */
void session_volume(void *ctx, int32_t id, const char *volume);
/* Tell this thread at the end of the tick. */
void session_owner(struct session *s, uint32_t tid);
/* Look at a device; tell it or not. A known device that is no more is told as gone. */
void session_look(struct session *s, struct dev *d, uint64_t now, bool tell);
/* The device is no more. The next one of this number has nothing in common with it. */
void session_dev_ended(struct session *s, struct dev *d, uint64_t at_ns);
/* All devices that the driver has are known. */
void session_discover(struct session *s);

/* session_open.c: tell what is open and old enough; sets busy and young. */
void session_poll_open(struct session *s, uint64_t now);

#endif
