// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The live session; see session.h. What ends comes from the ring buffer; what is open is polled out
 * of the programs' maps at each tick, and only for devices that have something open past a
 * threshold is their state read from the driver's memory. So a quiet host costs a poll of four
 * small maps.
 */
#include "tracing/session_priv.h"
#include "tracing/procfs.h"
#include "bpf/gfs_trace.h"
#include "bpf/gfs_trace.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#define TICK_NS      (100 * NSEC_PER_MSEC)
#define SLOW_TICK_NS (500 * NSEC_PER_MSEC) /* when all that is open is older than OLD_NS */
#define SCAN_NS      (500 * NSEC_PER_MSEC) /* look for old requests on every device */
#define SCAN_MAX_NS  (2 * NSEC_PER_SEC)
#define STATS_NS     (2 * NSEC_PER_SEC)
#define OPENERS_NS   (1 * NSEC_PER_SEC)
#define MODULE_NS    (1 * NSEC_PER_SEC)
/* Events taken at once, a full ring at least: a flood of them must not keep the ticks away. */
#define BURST_MAX 20000
/* Inode of the first pid namespace (include/linux/proc_ns.h). */
#define PID_NS_INIT_INO 0xeffffffcu

void session_emit(void *ctx, const struct rec *r)
{
	struct session *s = ctx;

	s->last_ns = MAX(s->last_ns, r->t_ns);
	if (r->t_ns < s->last_ns) {
		struct rec later = *r;

		later.t_ns = s->last_ns;
		s->cfg.record(s->cfg.ctx, &later);
		return;
	}
	s->cfg.record(s->cfg.ctx, r);
}

struct rec *session_rec(struct session *s, enum rec_kind kind)
{
	memset(&s->rec, 0, sizeof(s->rec));
	s->rec.kind = kind;
	s->rec.t_ns = now_ns();
	return &s->rec;
}
/* ---- servers ---- */

static void server_seen(struct session *s, uint32_t tgid)
{
	char err[160];

	if (tgid && (!s->cfg.pid || tgid == s->cfg.pid))
		(void)!hooks_attach_daemon(s->hooks, tgid, err, sizeof(err));
}

/* ---- events of the ring buffer ---- */

static void on_cmd(struct session *s, const struct gt_cmd *c)
{
	struct rec *r = session_rec(s, REC_CMD);
	struct dev *d;
	uint32_t nr;

	convert_cmd(c, &r->cmd);
	nr = r->cmd.nr;
	join_cmd(s->join, &r->cmd);
	if (!session_passes(s, r->cmd.dev))
		return;
	session_emit(s, r);
	if (nr == CMD_GET_FEATURES || nr == CMD_ADD_DEV)
		return;
	d = session_dev(s, (int32_t)c->dev_id);
	if (d && (nr == CMD_START_USER_RECOVERY || nr == CMD_END_USER_RECOVERY))
		d->recovering = nr == CMD_START_USER_RECOVERY && c->res >= 0;
	/* Its number may be in use again before anybody looks. */
	if (d && d->present && nr == CMD_DEL_DEV && c->res >= 0)
		session_dev_ended(s, d, c->end_ns);
	/* What it changed: state, server, or that the device is gone. */
	if (nr == CMD_DEL_DEV || nr == CMD_DEL_DEV_ASYNC || nr == CMD_START_DEV ||
	    nr == CMD_STOP_DEV || nr == CMD_START_USER_RECOVERY || nr == CMD_END_USER_RECOVERY)
		session_want(s, (int32_t)c->dev_id);
}

static void on_server(struct session *s, const struct gt_server *g)
{
	struct rec *r = session_rec(s, REC_SERVER);
	struct dev *d;

	convert_server(g, &r->server);
	d = session_dev(s, r->server.dev);
	if (d && !g->gone) {
		d->tgid = r->server.tgid;
		memcpy(d->comm, r->server.comm, sizeof(d->comm));
	} else if (d && d->tgid) {
		/* The last reference is often dropped by a kernel thread. */
		r->server.tgid = d->tgid;
		memcpy(r->server.comm, d->comm, sizeof(d->comm));
	}
	if (session_passes(s, r->server.dev))
		session_emit(s, r);
	if (g->gone)
		session_want(s, (int32_t)g->minor);
	else
		server_seen(s, g->task.tgid);
}

static void on_span(struct session *s, const struct gt_span *g)
{
	struct rec *r = session_rec(s, REC_SPAN);
	struct rec_span *sp = &r->span;
	const struct dev *d;

	convert_span(g, sp);
	d = session_dev_find(s, sp->dev);
	/* The last words about a device that ended say nothing of the next one of its number. */
	if (!d || sp->start_ns >= d->born_ns)
		session_volume(s, sp->dev, sp->volume);
	join_span(s->join, sp, s->start_ns);
	if (session_passes(s, sp->dev))
		session_emit(s, r);
}

static int on_event(void *ctx, void *data, size_t len)
{
	struct session *s = ctx;
	struct rec *r;

	s->events++;
	switch (*(const uint32_t *)data) {
	case GT_CMD:
		on_cmd(s, data);
		break;
	case GT_FREEZE:
		r = session_rec(s, REC_FREEZE);
		convert_freeze(data, &r->freeze);
		if (session_passes(s, r->freeze.dev))
			session_emit(s, r);
		break;
	case GT_ATTR:
		r = session_rec(s, REC_ATTR);
		convert_attr(data, &r->attr);
		if (session_passes(s, r->attr.dev))
			session_emit(s, r);
		break;
	case GT_ELV:
		r = session_rec(s, REC_ELV);
		convert_elv(data, &r->elv);
		if (session_passes(s, r->elv.dev))
			session_emit(s, r);
		break;
	case GT_SERVER:
		on_server(s, data);
		break;
	case GT_SPAN:
		on_span(s, data);
		break;
	}
	return ++s->burst < BURST_MAX ? 0 : -ECANCELED;
}
/* What hung before we came, if it still does. */
static void on_adopted(void *ctx, const struct rec *r, uint32_t tid, bool hangs)
{
	struct session *s = ctx;
	int32_t dev = r->kind == REC_CMD ? r->cmd.dev : r->freeze.dev;

	if (session_passes(s, dev))
		session_emit(s, r);
	if (!hangs)
		return;
	s->busy = true;
	session_owner(s, tid);
	session_want(s, dev);
}

/* The device that a thread which waits for a freeze waits for: the only frozen one, else unknown.
 */
static int32_t frozen_dev(void *ctx)
{
	const struct session *s = ctx;
	int32_t found = -1;

	for (unsigned int i = 0; i < s->nr_devs; i++) {
		if (!s->dev[i].frozen)
			continue;
		if (found >= 0)
			return -1;
		found = s->dev[i].id;
	}
	return found;
}

/* ---- numbers ---- */

static void on_opener(void *ctx, const struct rec_opener *o)
{
	struct session *s = ctx;
	const struct dev *d = session_dev_find(s, o->dev);
	struct rec *r = session_rec(s, REC_OPENER);

	if (!d || !d->openers)
		return;
	r->opener = *o;
	session_emit(s, r);
}

/* A walk through all processes serves every device that needs it, and must not become the load. */
static void tick_openers(struct session *s, uint64_t now)
{
	int32_t dev = -1;
	unsigned int nr = 0;
	uint64_t took;

	for (unsigned int i = 0; i < s->nr_devs; i++) {
		if (!s->dev[i].openers)
			continue;
		dev = s->dev[i].id;
		nr++;
	}
	if (nr && now >= s->openers_due_ns) {
		(void)!procfs_openers(nr == 1 ? dev : -1, on_opener, s);
		took = now_ns() - now;
		s->openers_due_ns = now + took + MAX(OPENERS_NS, 4 * took);
	}
	for (unsigned int i = 0; nr && i < s->nr_devs; i++)
		s->dev[i].openers = false;
}

static void on_kmsg(void *ctx, const struct rec *r)
{
	session_emit(ctx, r);
}

static void tell_hists(struct session *s)
{
	int fd = bpf_map__fd(hooks_skel(s->hooks)->maps.hists);
	struct gt_hist_key key, prev;
	struct gt_hist h;
	bool more = !bpf_map_get_next_key(fd, NULL, &key);

	for (int n = 0; more && n < OPEN_MAX; n++) {
		bool found = !bpf_map_lookup_elem(fd, &key, &h);
		struct rec *r = session_rec(s, REC_HIST);

		prev = key;
		more = !bpf_map_get_next_key(fd, &prev, &key);
		r->hist.dev = found ? convert_dev(h.disk) : -1;
		if (r->hist.dev < 0 || !session_passes(s, r->hist.dev))
			continue;
		snprintf(r->hist.what, sizeof(r->hist.what), "total");
		r->hist.op = (char)prev.op;
		r->hist.count = h.count;
		r->hist.sum_ns = h.sum_ns;
		memcpy(r->hist.bucket, h.bucket, sizeof(r->hist.bucket));
		session_emit(s, r);
	}
}

static void tell_counts(struct session *s)
{
	struct gfs_trace_bpf *skel = hooks_skel(s->hooks);
	struct rec *r = session_rec(s, REC_COUNTS);

	r->counts.events = s->events;
	r->counts.dropped = skel->bss->dropped;
	r->counts.unmatched_cmds = skel->bss->unmatched_cmds;
	r->counts.unmatched_freezes = skel->bss->unmatched_freezes;
	join_counts(s->join, &r->counts);
	session_emit(s, r);
}

/* ---- the tick ---- */

static void tick_devices(struct session *s, uint64_t now)
{
	bool scan = now >= s->scan_due_ns;
	uint64_t old = s->cfg.budgets.request_ns / 2;

	if (scan)
		session_discover(s);
	for (unsigned int i = 0; i < s->nr_devs; i++) {
		struct dev *d = &s->dev[i];
		bool tell = d->wanted || d->told || (scan && d->recovering);

		if ((!tell && !scan) || !session_passes(s, d->id))
			continue;
		if (!tell) {
			session_look(s, d, now, false);
			tell = d->present && (d->old_ns > old || s->cfg.every_device);
		}
		if (!tell)
			continue;
		session_look(s, d, now, true);
		if (d->old_ns > old) {
			s->busy = true;
			s->young |= d->old_ns < OLD_NS;
		}
		if (d->tgid && (d->wanted || d->old_ns > old))
			watch_daemon(s->watch, d->tgid, now);
		/* Requests that are gone by the next tick must be told as gone; young ones need
		 * not. */
		d->told = d->requests && d->old_ns > old;
		d->wanted = false;
	}
	/* With thousands of devices a look at all of them takes its time: a tenth of it at most. */
	if (scan)
		s->scan_due_ns = now + MAX(s->cfg.every_device ? IDLE_TICK_NS : SCAN_NS,
					   MIN(10 * (now_ns() - now), SCAN_MAX_NS));
}

static void tick(struct session *s, uint64_t now)
{
	session_poll_open(s, now);
	adopt_poll(s->adopt, now, on_adopted, s);
	tick_devices(s, now);
	tick_openers(s, now);
	for (unsigned int i = 0; i < s->nr_owners; i++)
		watch_task(s->watch, s->owner[i], true, now);
	s->nr_owners = 0;
	if (s->kmsg)
		(void)!kmsg_poll(s->kmsg, on_kmsg, s);
	if (now - s->stats_ns >= STATS_NS) {
		s->stats_ns = now;
		join_expire(s->join, now);
		tell_counts(s);
		if (s->cfg.every_device)
			tell_hists(s);
	}
	/* With nothing open, time may pass unrecorded for a while. */
	if (s->busy || now - s->quiet_tick_ns >= IDLE_TICK_NS) {
		s->quiet_tick_ns = now;
		session_emit(s, session_rec(s, REC_TICK));
	}
}

/* ---- begin and end ---- */

static void tell_meta(struct session *s)
{
	struct rec *r = session_rec(s, REC_META);
	struct rec_meta *m = &r->meta;
	struct utsname u;

	uname(&u);
	m->version = REC_VERSION;
	snprintf(m->tool, sizeof(m->tool), "gfs-trace " GFS_VERSION);
	snprintf(m->kernel, sizeof(m->kernel), "%.95s", u.release);
	snprintf(m->host, sizeof(m->host), "%.63s", u.nodename);
	m->wall_ns = wall_ns();
	m->budget_start_dev_ns = s->cfg.budgets.start_dev_ns;
	m->budget_cmd_ns = s->cfg.budgets.cmd_ns;
	m->budget_freeze_ns = s->cfg.budgets.freeze_ns;
	m->budget_attr_ns = s->cfg.budgets.attr_ns;
	m->budget_request_ns = s->cfg.budgets.request_ns;
	m->filter_pid = s->cfg.pid;
	m->filter_dev = s->cfg.dev;
	snprintf(m->filter_volume, sizeof(m->filter_volume), "%s", s->cfg.volume);
	session_emit(s, r);
}

static void attach_detach(struct session *s)
{
	ring_buffer__free(s->ring);
	watch_free(s->watch);
	kdevs_close(s->kdevs);
	kmem_close(s->kmem);
	hooks_detach(s->hooks);
	kallsyms_close(s->syms);
	s->ring = NULL;
	s->watch = NULL;
	s->kdevs = NULL;
	s->kmem = NULL;
	s->hooks = NULL;
	s->syms = NULL;
}

/* A daemon that runs, or will, from where this program or the path has it: its first events count
 * too. */
static void daemons_expect(struct session *s)
{
	char self[PATH_MAX], err[160];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 32);
	static const char *const places[] = {"/usr/sbin/glidefsd", "/usr/bin/glidefsd",
					     "/usr/local/sbin/glidefsd", "/usr/local/bin/glidefsd"};

	if (n > 0) {
		char *slash;

		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash) {
			strcpy(slash + 1, "glidefsd");
			(void)!hooks_attach_program(s->hooks, self, err, sizeof(err));
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (!access(places[i], R_OK))
			(void)!hooks_attach_program(s->hooks, places[i], err, sizeof(err));
}

/* Where a session gets things from besides hooks. */
static void tell_source(struct session *s, const char *name, const char *variant,
			const char *reason)
{
	struct rec *r = session_rec(s, REC_HOOK);

	snprintf(r->hook.hook, sizeof(r->hook.hook), "%s", name);
	snprintf(r->hook.variant, sizeof(r->hook.variant), "%s", variant);
	snprintf(r->hook.reason, sizeof(r->hook.reason), "%s", reason);
	session_emit(s, r);
}

static bool pid_namespace_own(void)
{
	struct stat st;

	return !stat("/proc/self/ns/pid", &st) && st.st_ino != PID_NS_INIT_INO;
}

static int attach(struct session *s, char *err, size_t err_len)
{
	struct gfs_trace_bpf *skel;
	char why[160], stack[256];
	int res;

	/* The kernel's numbers of processes would be taken for those of others. */
	if (pid_namespace_own()) {
		snprintf(err, err_len,
			 "this is a pid namespace of its own: run on the host, or in a "
			 "container with the host's (--pid=host)");
		return -EPERM;
	}
	res = kallsyms_open("/proc/kallsyms", &s->syms);
	if (res) {
		hooks_explain_kallsyms(res, err, err_len);
		return res;
	}
	res = hooks_attach(s->syms, s->cfg.verbose, &s->hooks, err, err_len);
	if (res)
		return res;
	s->driver = hooks_driver(s->hooks) == HOOKS_DRIVER;
	skel = hooks_skel(s->hooks);
	skel->bss->min_ns = MIN(s->poll_min_ns, NSEC_PER_MSEC);
	s->ring = ring_buffer__new(bpf_map__fd(skel->maps.events), on_event, s, NULL);
	if (!s->ring) {
		snprintf(err, err_len, "ring buffer: %s", strerror(errno));
		return -errno;
	}
	res = watch_new(s->hooks, session_emit, session_volume, s, &s->watch);
	if (res) {
		snprintf(err, err_len, "%s", strerror(-res));
		return res;
	}
	/* Without these the session goes on, with less to say. */
	res = kmem_open(bpf_program__fd(skel->progs.gt_peek), bpf_map__fd(skel->maps.peek),
			hooks_btf(s->hooks), &s->kmem);
	if (!res)
		res = kdevs_open(s->kmem, s->syms, &s->kdevs, why, sizeof(why));
	else
		snprintf(why, sizeof(why), "kernel memory: %s", strerror(-res));
	tell_meta(s);
	daemons_expect(s);
	hooks_list(s->hooks, session_emit, s);
	tell_source(s, "driver.state", s->kdevs ? "kernel memory" : "off",
		    s->kdevs    ? ""
		    : s->driver ? why
				: "ublk_drv is not loaded");
	if (procfs_line("/proc/self/stack", stack, sizeof(stack)))
		tell_source(s, "stacks.kernel", "/proc", "");
	else
		tell_source(s, "stacks.kernel", "off", "/proc/PID/stack needs CAP_SYS_ADMIN");
	return 0;
}

/* Devices, servers and hangs that are there already. */
static void begin(struct session *s)
{
	uint64_t now = now_ns();

	session_discover(s);
	for (unsigned int i = 0; i < s->nr_devs; i++) {
		session_look(s, &s->dev[i], now, false);
		if (s->dev[i].tgid && !*s->dev[i].volume)
			watch_daemon(s->watch, s->dev[i].tgid, now);
		session_look(s, &s->dev[i], now, true);
		server_seen(s, s->dev[i].tgid);
		s->dev[i].wanted = true;
	}
	adopt_find(s->adopt, s->watch, s->kdevs, frozen_dev, s, now_ns());
}

int session_open(const struct session_config *cfg, struct session **out, char *err, size_t err_len)
{
	struct session *s = calloc(1, sizeof(*s));
	struct model_config *b;
	char why[160];
	int res;

	if (!s)
		return -ENOMEM;
	s->cfg = *cfg;
	b = &s->cfg.budgets;
	b->start_dev_ns = b->start_dev_ns ? b->start_dev_ns : MODEL_START_DEV_NS;
	b->cmd_ns = b->cmd_ns ? b->cmd_ns : MODEL_CMD_NS;
	b->freeze_ns = b->freeze_ns ? b->freeze_ns : MODEL_FREEZE_NS;
	b->attr_ns = b->attr_ns ? b->attr_ns : MODEL_ATTR_NS;
	b->request_ns = b->request_ns ? b->request_ns : MODEL_REQUEST_NS;
	s->poll_min_ns = MIN(MIN(b->start_dev_ns, b->cmd_ns), MIN(b->freeze_ns, b->attr_ns)) / 2;
	s->start_ns = now_ns();
	s->dev = calloc(DEVS_MAX, sizeof(*s->dev));
	res = s->dev ? join_new(&s->join) : -ENOMEM;
	if (!res)
		res = adopt_new(&s->adopt);
	if (!res)
		res = attach(s, err, err_len);
	else
		snprintf(err, err_len, "%s", strerror(-res));
	if (res) {
		attach_detach(s);
		adopt_free(s->adopt);
		join_free(s->join);
		free(s->dev);
		free(s);
		return res;
	}
	/* Reports from before are somebody else's, but an oops stays true. */
	if (kmsg_open(false, &s->kmsg, why, sizeof(why)))
		s->kmsg = NULL;
	begin(s);
	*out = s;
	return 0;
}

/* The driver was loaded after us: attach anew, there was nothing to lose. */
static int driver_came(struct session *s, uint64_t now)
{
	char err[256];

	int res;

	if (s->driver || now - s->module_ns < MODULE_NS)
		return 0;
	s->module_ns = now;
	if (!hooks_driver_there())
		return 0;
	attach_detach(s);
	s->start_ns = now;
	res = attach(s, err, sizeof(err));
	if (res) {
		attach_detach(s);
		fprintf(stderr, "gfs-trace: ublk_drv was loaded, but: %s\n", err);
		return res;
	}
	/* It did not wait for us. */
	begin(s);
	return 0;
}

int session_step(struct session *s, int timeout_ms)
{
	uint64_t now = now_ns(), due = s->tick_ns + (s->busy && !s->young ? SLOW_TICK_NS : TICK_NS);
	int wait = due > now ? (int)((due - now) / NSEC_PER_MSEC) + 1 : 0, res;

	s->burst = 0;
	res = ring_buffer__poll(s->ring, MIN(wait, timeout_ms));
	if (res < 0 && res != -EINTR && res != -ECANCELED)
		return res;
	now = now_ns();
	if (now < due)
		return 0;
	s->tick_ns = now;
	res = driver_came(s, now);
	if (res)
		return res;
	tick(s, now);
	return 0;
}

void session_close(struct session *s)
{
	if (!s)
		return;
	if (s->ring) {
		s->burst = 0;
		(void)ring_buffer__consume(s->ring);
		tick(s, now_ns());
		tell_hists(s);
		join_expire(s->join, UINT64_MAX);
		tell_counts(s);
		session_emit(s, session_rec(s, REC_TICK));
		session_emit(s, session_rec(s, REC_END));
	}
	kmsg_close(s->kmsg);
	attach_detach(s);
	adopt_free(s->adopt);
	join_free(s->join);
	free(s->dev);
	free(s);
}
