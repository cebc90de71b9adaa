// SPDX-License-Identifier: GPL-2.0-or-later
/* The made-up session; see sample.h. Times below are ms after its first record. */
#include <stdio.h>
#include <string.h>

#include "selftests/browser/sample.h"

#define T(ms)         (SAMPLE_T0 + (uint64_t)((ms)*1e6))
#define SET(dst, src) snprintf(dst, sizeof(dst), "%s", src)

enum { DEV_HEALTHY, DEV_LATE, DEV_SCAN, DEV_PINNED, DEV_SELF, DEV_ORPHAN, DEV_EVIL, NR_DEVS };
#define SERVER_PID 812

static struct sink *const *to;
static unsigned int nr_to;
static uint64_t last_id;

static void feed(double ms, struct rec *r)
{
	r->t_ns = T(ms);
	for (unsigned int i = 0; i < nr_to; i++)
		if (to[i]->record)
			to[i]->record(to[i], r);
}

static void tell(const struct finding *f, enum finding_event ev)
{
	for (unsigned int i = 0; i < nr_to; i++)
		if (to[i]->finding)
			to[i]->finding(to[i], f, ev);
}

static void device(int32_t dev, const char *volume, enum rec_dev_state state)
{
	struct rec r = {.kind = REC_DEV};

	r.dev = (struct rec_dev){.dev = dev,
				 .state = state,
				 .nr_queues = 2,
				 .depth = 64,
				 .tgid = dev == DEV_ORPHAN ? 0 : SERVER_PID,
				 .started = true,
				 .size_sectors = 1 << 21};
	SET(r.dev.volume, volume);
	SET(r.dev.comm, dev == DEV_ORPHAN ? "" : "glidefsd");
	feed(dev == DEV_ORPHAN ? 6100 : 1, &r);
}

static struct rec_cmd command(int32_t dev, uint32_t nr, double begin, double end)
{
	struct rec_cmd c = {.id = ++last_id, .dev = dev, .nr = nr, .tgid = SERVER_PID, .tid = 840};

	SET(c.comm, "glidefsd");
	c.submit_ns = T(begin);
	c.punt_ns = T(begin + 0.02);
	c.worker_ns = T(begin + 0.06);
	c.ctrl_ns = T(begin + 0.1);
	c.end_ns = end > 0 ? T(end) : 0;
	return c;
}

static void tell_cmd(double ms, const struct rec_cmd *c)
{
	struct rec r = {.kind = REC_CMD};

	r.cmd = *c;
	feed(ms, &r);
}

static void start_stages(struct rec_cmd *c, double ready, double scan, double scan_end, double end)
{
	c->add_disk_ns = T(ready);
	c->elevator_ns = T(ready + 0.8);
	c->elevator_end_ns = T(ready + 2.2);
	c->scan_ns = T(scan);
	c->scan_end_ns = T(scan_end);
	c->add_disk_end_ns = T(end - 0.1);
	c->end_ns = T(end);
}

static struct rec_span span(int32_t dev, const char *event, uint64_t op, double begin, double end)
{
	struct rec_span s = {.dev = dev, .pid = SERVER_PID, .op_id = op, .open = end <= 0};

	SET(s.event, event);
	s.start_ns = T(begin);
	s.end_ns = end > 0 ? T(end) : 0;
	return s;
}

static void tell_span(double ms, const struct rec_span *s)
{
	struct rec r = {.kind = REC_SPAN};

	r.span = *s;
	feed(ms, &r);
}

static struct rec_req request(int32_t dev, uint32_t queue, uint32_t tag, char op, uint64_t sector,
			      double begin, double end)
{
	struct rec_req q = {.dev = dev,
			    .queue = queue,
			    .tag = tag,
			    .op = op,
			    .sector = sector,
			    .nsectors = 8,
			    .owner_tid = 821 + queue};

	q.start_ns = T(begin);
	q.deliver_ns = T(begin + 0.05);
	q.end_ns = end > 0 ? T(end) : 0;
	q.state = end > 0 ? REQ_DONE : REQ_SERVER;
	return q;
}

static void tell_req(double ms, const struct rec_req *q)
{
	struct rec r = {.kind = REC_REQ};

	r.req = *q;
	feed(ms, &r);
}

static struct rec_task task(uint32_t tid, uint32_t tgid, const char *comm, char state,
			    const char *kstack, const char *ustack)
{
	struct rec_task t = {.tid = tid, .tgid = tgid, .state = state};

	SET(t.comm, comm);
	SET(t.kstack, kstack);
	SET(t.ustack, ustack);
	return t;
}

#define K_WORKER \
	"io_cqring_wait;__do_sys_io_uring_enter;do_syscall_64;entry_SYSCALL_64_after_hwframe"
#define K_FREEZE                                                                                  \
	"blk_mq_freeze_queue_wait;elevator_change;elv_iosched_store;queue_attr_store;kernfs_fop_" \
	"write_iter;"                                                                             \
	"vfs_write;ksys_write;do_syscall_64;entry_SYSCALL_64_after_hwframe"
#define K_READY                                                                                \
	"wait_for_completion_interruptible;ublk_ctrl_start_dev.isra.0;ublk_ctrl_uring_cmd;io_" \
	"uring_cmd;"                                                                           \
	"io_issue_sqe;io_wq_submit_work;io_worker_handle_work;io_wq_worker;ret_from_fork"
#define K_SCAN                                                                                     \
	"folio_wait_bit_common;do_read_cache_folio;read_part_sector;bdev_disk_changed;device_add_" \
	"disk;"                                                                                    \
	"ublk_ctrl_start_dev.isra.0;ublk_ctrl_uring_cmd;io_wq_submit_work;ret_from_fork"
#define U_WORKER                                                                              \
	"libc.so.6!syscall+0x19;glidefsd!io_uring_submit_and_wait+0x5c (uring.c:71);"         \
	"glidefsd!worker_loop+0x1a3 (worker.c:212);glidefsd!worker_main+0x88 (worker.c:318);" \
	"libc.so.6!start_thread+0x2f0"

static struct finding *finding(enum verdict v, const char *catalogue, int32_t dev,
			       const char *volume, double since, double until, bool open)
{
	static struct finding f;
	static uint64_t id;

	if (v == V_START_LATE_FETCH)
		id = 0;
	memset(&f, 0, sizeof(f));
	f.id = ++id;
	f.verdict = v;
	f.severity = open || v == V_FREEZE_NO_SERVER ? SEV_CRITICAL : SEV_WARNING;
	f.catalogue = catalogue;
	f.dev = dev;
	SET(f.volume, volume);
	f.since_ns = T(since);
	f.last_ns = T(until);
	f.end_ns = open ? 0 : T(until);
	return &f;
}

static void healthy(void)
{
	const double step[] = {100, 112, 120, 138};
	const uint32_t nr[] = {CMD_ADD_DEV, CMD_SET_PARAMS, CMD_START_DEV, CMD_GET_DEV_INFO};
	struct rec_span s;

	s = span(-1, "create_export", 7, 80, 141);
	SET(s.volume, "vm-healthy");
	tell_span(141, &s);
	for (unsigned int i = 0; i < 4; i++) {
		struct rec_cmd c = command(i ? DEV_HEALTHY : -1, nr[i], step[i], step[i] + 6);

		if (nr[i] == CMD_START_DEV)
			start_stages(&c, 121, 128, 135, 137);
		tell_cmd(step[i] + 18, &c);
	}
	s = span(DEV_HEALTHY, "ublk.start_dev", 7, 119.5, 137.5);
	tell_span(142, &s);
	s = span(DEV_HEALTHY, "save_export", 7, 85, 99);
	tell_span(142, &s);
	for (unsigned int i = 0; i < 40; i++) {
		double begin = 300 + i * 270 + (i * 37) % 90;
		struct rec_req q = request(DEV_HEALTHY, i % 2, i % 64, i % 3 ? 'R' : 'W', 8 * i,
					   begin, begin + 12 + (i * 53) % 70);

		tell_req(begin + 90, &q);
	}
}

static void late_fetch(void)
{
	struct rec_cmd c = command(DEV_LATE, CMD_START_DEV, 400, 0);
	struct finding *f;
	struct rec_span s;

	tell_cmd(1000, &c);
	f = finding(V_START_LATE_FETCH, "H2", DEV_LATE, "vm-17", 400, 1000, false);
	f->end_ns = 0;
	SET(f->stage, "ready-wait");
	SET(f->summary, "START_DEV of ublkb1 waits for 64 FETCH commands of queue 1: thread "
			"worker-1/822 has not armed them");
	SET(f->advice, "Arm every FETCH before the server waits for anything; the command goes on "
		       "by itself as soon as they are there.");
	f->cmd = c;
	f->waiter = task(840, SERVER_PID, "iou-wrk-812", 'S', K_READY, "");
	f->blocker[0].type = BLK_QUEUE;
	f->blocker[0].queue = (struct rec_queue){.dev = DEV_LATE,
						 .queue = 1,
						 .depth = 64,
						 .armed = 0,
						 .exact = true,
						 .missing = "0-63",
						 .owner_tid = 822};
	f->blocker[0].owner = task(822, SERVER_PID, "worker-1", 'S', K_WORKER, U_WORKER);
	f->blocker[0].age_ns = 600 * NSEC_PER_MSEC;
	f->nr_blockers = 1;
	tell(f, FINDING_OPEN);
	start_stages(&c, 2400, 2404, 2420, 2424);
	s = span(DEV_LATE, "ublk.start_dev", 11, 399, 2425);
	tell_span(2425, &s);
	s = span(DEV_LATE, "ublk.start_dev_command", 11, 399.5, 2424.5);
	tell_span(2425, &s);
	tell_cmd(2430, &c);
	/* The model forgets who blocked when it is over. */
	f->nr_blockers = 0;
	f->cmd = c;
	f->end_ns = f->last_ns = T(2424);
	tell(f, FINDING_CLOSE);
}

static void partition_scan(void)
{
	struct rec_cmd c = command(DEV_SCAN, CMD_START_DEV, 1500, 0);
	struct rec_req q = request(DEV_SCAN, 0, 0, 'R', 0, 1512, 4530);
	struct rec_span io, get;
	struct finding *f;

	start_stages(&c, 1504, 1511, 4532, 4534);
	io = span(DEV_SCAN, "io.slow", 21, 1512.1, 4530);
	io.is_io = true;
	io.io_op = 'R';
	io.nsectors = 8;
	SET(io.stage, "store");
	get = span(DEV_SCAN, "object.get", 21, 1513, 4528);
	SET(get.key, "chunks/0000/01977f2e-11.pack");
	get.bytes = 1 << 20;
	get.attempt = 1;
	f = finding(V_START_PART_SCAN, "H5", DEV_SCAN, "build-cache", 1500, 4534, false);
	SET(f->stage, "part-scan");
	SET(f->summary, "START_DEV of ublkb2 reads the partition table: sector 0 is held by "
			"object.get chunks/0000/01977f2e-11.pack");
	SET(f->advice, "Keep the first and last blocks of the volume resident before START_DEV, or "
		       "arm without partition scan (7.0 on).");
	f->cmd = c;
	f->waiter = task(840, SERVER_PID, "iou-wrk-812", 'D', K_SCAN, "");
	f->blocker[0].type = BLK_REQUEST;
	f->blocker[0].req = q;
	f->blocker[0].owner = task(821, SERVER_PID, "worker-0", 'S', K_WORKER, U_WORKER);
	f->blocker[0].io_span = io;
	f->blocker[0].span = get;
	f->blocker[0].age_ns = q.end_ns - q.start_ns;
	f->nr_blockers = 1;
	tell_span(4530, &get);
	tell_span(4530, &io);
	tell_req(4531, &q);
	tell_cmd(4535, &c);
	tell(f, FINDING_OPEN);
	tell(f, FINDING_CLOSE);
}

static struct rec_freeze freeze(int32_t dev, uint32_t tid, const char *comm, double begin,
				double end)
{
	struct rec_freeze z = {.id = ++last_id, .dev = dev, .tid = tid, .tgid = tid, .depth = 1};

	SET(z.comm, comm);
	z.start_ns = T(begin);
	z.wait_ns = T(begin + 0.02);
	z.wait_end_ns = end > 0 ? T(end - 2) : 0;
	z.end_ns = end > 0 ? T(end) : 0;
	return z;
}

static struct rec_attr attribute(int32_t dev, uint32_t tid, const char *comm, const char *cmdline,
				 double begin, double end)
{
	struct rec_attr a = {.id = ++last_id, .dev = dev, .tid = tid, .tgid = tid};

	SET(a.attr, "scheduler");
	SET(a.value, "mq-deadline");
	SET(a.comm, comm);
	SET(a.cmdline, cmdline);
	a.start_ns = T(begin);
	a.end_ns = end > 0 ? T(end) : 0;
	a.freeze_ns = end > 0 ? T(end) - T(begin) - 3 * NSEC_PER_MSEC : 0;
	return a;
}

static void frozen(struct finding *f, const struct rec_freeze *z, const struct rec_attr *a)
{
	struct rec r = {.kind = REC_FREEZE};

	r.freeze = f->freeze = *z;
	feed(9000, &r);
	memset(&r, 0, sizeof(r));
	r.kind = REC_ATTR;
	r.attr = f->attr = *a;
	feed(9000, &r);
	SET(f->stage, "freeze wait");
}

static void pinned(void)
{
	struct rec_freeze z = freeze(DEV_PINNED, 2044, "(udev-worker)", 5200, 8312);
	struct rec_attr a = attribute(DEV_PINNED, 2044, "(udev-worker)",
				      "/usr/lib/systemd/systemd-udevd", 5199, 8315);
	struct finding *f =
		finding(V_FREEZE_PINNED, "H10", DEV_PINNED, "db-branch", 5200, 8312, false);
	struct rec_span get = span(DEV_PINNED, "object.get", 31, 5101, 8309);
	struct rec r = {.kind = REC_ELV};

	frozen(f, &z, &a);
	r.elv = (struct rec_elv){.id = ++last_id,
				 .dev = DEV_PINNED,
				 .from = "none",
				 .to = "mq-deadline",
				 .tid = 2044,
				 .start_ns = T(8310),
				 .end_ns = T(8314),
				 .comm = "(udev-worker)"};
	feed(9000, &r);
	SET(get.key, "chunks/0007/01977f2e-3a.pack");
	get.attempt = 2;
	tell_span(9000, &get);
	SET(f->summary, "(udev-worker)/2044 writes mq-deadline to queue/scheduler of ublkb3 and "
			"waits for 18 requests that the server holds");
	SET(f->advice, "Answer the request; to avoid it, write the attribute only if its value "
		       "differs, before the device has I/O.");
	f->waiter = task(2044, 2044, "(udev-worker)", 'D', K_FREEZE,
			 "libc.so.6!write+0x4d;udevadm!0x5581");
	SET(f->waiter.cmdline, "/usr/lib/systemd/systemd-udevd");
	for (unsigned int i = 0; i < FINDING_BLOCKERS; i++) {
		struct blocker *b = &f->blocker[i];

		b->type = BLK_REQUEST;
		b->req = request(DEV_PINNED, i % 2, 12 + i, i % 4 ? 'R' : 'W', 2048 + 8 * i,
				 5100 + i * 3, 8310 + i * 0.1);
		tell_req(9000, &b->req);
		b->req.end_ns = 0;
		b->req.state = REQ_SERVER;
		b->owner = task(821 + i % 2, SERVER_PID, i % 2 ? "worker-1" : "worker-0", 'S',
				K_WORKER, U_WORKER);
		b->age_ns = T(8312) - b->req.start_ns;
		if (!(i % 3))
			b->span = get;
	}
	f->nr_blockers = FINDING_BLOCKERS;
	f->more_blockers = 2;
	tell(f, FINDING_OPEN);
}

static void self_deadlock(void)
{
	struct rec_freeze z = freeze(DEV_SELF, 903, "worker-0", 3000, 0);
	struct rec_attr a =
		attribute(DEV_SELF, 903, "worker-0", "ublk_serve --file scratch.img", 2999, 0);
	struct finding *f = finding(V_FREEZE_SELF, "H10", DEV_SELF, "scratch", 3000, 12000, true);
	struct rec_req q = request(DEV_SELF, 0, 5, 'W', 4096, 2990, 0);

	a.tgid = z.tgid = 901;
	frozen(f, &z, &a);
	tell_req(9000, &q);
	SET(f->summary, "worker-0/903 freezes ublkb4 and holds the request that the freeze waits "
			"for: this never ends");
	SET(f->advice, "Nothing in user space helps, SIGKILL included: reboot. The serving thread "
		       "must never write queue attributes.");
	f->waiter = task(903, 901, "worker-0", 'D', K_FREEZE,
			 "libc.so.6!write+0x4d;ublk_serve!set_scheduler+0x91 (serve.c:301)");
	f->waiter.killed = true;
	f->blocker[0].type = BLK_REQUEST;
	f->blocker[0].req = q;
	f->blocker[0].owner = f->waiter;
	f->blocker[0].age_ns = T(12000) - q.start_ns;
	f->nr_blockers = 1;
	SET(f->cycle[0], "worker-0/903 waits for the queue of ublkb4 to freeze");
	SET(f->cycle[1], "the queue of ublkb4 waits for queue 0 tag 5, write 4096+8");
	SET(f->cycle[2], "queue 0 tag 5 waits for worker-0/903");
	f->nr_cycle = 3;
	tell(f, FINDING_OPEN);
}

static void no_server(void)
{
	struct rec_freeze z = freeze(DEV_ORPHAN, 2101, "tee", 7000, 0);
	struct rec_attr a = attribute(DEV_ORPHAN, 2101, "tee",
				      "tee /sys/block/ublkb5/queue/scheduler", 7000, 0);
	struct finding *f =
		finding(V_FREEZE_NO_SERVER, "H15", DEV_ORPHAN, "orphan", 6100, 12000, true);
	struct rec r = {.kind = REC_SERVER};

	r.server = (struct rec_server){
		.dev = DEV_ORPHAN, .tgid = 799, .comm = "glidefsd", .gone = true, .at_ns = T(6100)};
	feed(9000, &r);
	frozen(f, &z, &a);
	SET(f->summary, "ublkb5 has had no server since glidefsd/799 died; tee/2101 waits for a "
			"freeze that 1 request holds");
	SET(f->advice,
	    "Start the daemon: it recovers the device. To give up, glidefs doctor --clean.");
	f->waiter = task(2101, 2101, "tee", 'D', K_FREEZE, "");
	SET(f->waiter.ustack_error, "no permission to read its memory");
	f->blocker[0].type = BLK_NO_SERVER;
	f->blocker[0].server = r.server;
	f->blocker[0].age_ns = T(12000) - T(6100);
	f->nr_blockers = 1;
	tell(f, FINDING_OPEN);
}

static void evil(void)
{
	struct finding *f = finding(V_REQUEST_SLOW, "", DEV_EVIL, SAMPLE_EVIL, 9500, 11600, false);
	struct rec_span get = span(DEV_EVIL, "object.get", 51, 9501, 11600);
	struct rec_req q = request(DEV_EVIL, 0, 1, 'R', 64, 9500, 11600);
	struct rec r = {.kind = REC_SNAP_END};

	SET(get.key, "<!--<script>\xe2\x80\xa8\xff\xfe\x01&amp;'\"\\;" SAMPLE_EVIL);
	tell_span(11700, &get);
	tell_req(11700, &q);
	SET(f->summary, SAMPLE_EVIL " is slow");
	f->waiter = task(666, 666, "</script>;\n<b>", 'D', "a_symbol;" SAMPLE_EVIL,
			 "mod!<svg onload=alert(1)>");
	f->blocker[0].type = BLK_REQUEST;
	f->blocker[0].req = q;
	f->blocker[0].span = get;
	f->blocker[0].owner = task(667, 667, "<i>&\xff", 'S', K_WORKER, "");
	f->nr_blockers = 1;
	tell(f, FINDING_OPEN);
	/* In flight at one look, gone at the next. */
	q = request(DEV_HEALTHY, 0, 60, 'R', 512, 11000, 0);
	tell_req(11705, &q);
	device(DEV_HEALTHY, "vm-healthy", DEV_LIVE);
	r.snap_end.dev = DEV_HEALTHY;
	feed(11800, &r);
}

static void begin(void)
{
	static const char *const hook[][3] = {
		{"ctrl", "fentry ublk_drv:ublk_ctrl_uring_cmd", ""},
		{"start_dev", "kprobe ublk_ctrl_start_dev.isra.0", "no BTF for this name"},
		{"freeze.wait", "fentry vmlinux:blk_mq_freeze_queue_wait", ""},
	};
	struct rec r = {.kind = REC_META};

	r.meta = (struct rec_meta){.version = REC_VERSION,
				   .tool = "gfs-trace 0.1.0",
				   .kernel = "6.12.95+deb12-cloud-amd64",
				   .host = "vmhost-3",
				   .wall_ns = 1763820000123456789ull};
	feed(0, &r);
	for (unsigned int i = 0; i < ARRAY_SIZE(hook); i++) {
		memset(&r, 0, sizeof(r));
		r.kind = REC_HOOK;
		SET(r.hook.hook, hook[i][0]);
		SET(r.hook.variant, hook[i][1]);
		SET(r.hook.reason, hook[i][2]);
		feed(0, &r);
	}
	device(DEV_HEALTHY, "vm-healthy", DEV_LIVE);
	device(DEV_LATE, "vm-17", DEV_LIVE);
	device(DEV_SCAN, "build-cache", DEV_LIVE);
	device(DEV_PINNED, "db-branch", DEV_LIVE);
	device(DEV_SELF, "scratch", DEV_LIVE);
	device(DEV_ORPHAN, "orphan", DEV_QUIESCED);
	device(DEV_EVIL, SAMPLE_EVIL, DEV_LIVE);
}

void sample_run(struct sink *const *sinks, unsigned int n)
{
	struct rec r = {.kind = REC_COUNTS};

	to = sinks;
	nr_to = n;
	last_id = 0;
	begin();
	healthy();
	late_fetch();
	partition_scan();
	pinned();
	self_deadlock();
	no_server();
	evil();
	r.counts = (struct rec_counts){.events = 48211, .spans = 9, .dropped = 2};
	feed(12000, &r);
	memset(&r, 0, sizeof(r));
	r.kind = REC_TICK;
	feed(12000, &r);
	r.kind = REC_END;
	feed(12000, &r);
}
