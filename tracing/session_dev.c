// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices of a session: filters, snapshots, and what of them is told; see session_priv.h. */
#include "tracing/session_priv.h"
#include "tracing/procfs.h"
#include "bpf/gfs_trace.h"
#include "bpf/gfs_trace.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

struct dev *session_dev_find(struct session *s, int32_t id)
{
	for (unsigned int i = 0; i < s->nr_devs; i++)
		if (s->dev[i].id == id)
			return &s->dev[i];
	return NULL;
}

struct dev *session_dev(struct session *s, int32_t id)
{
	struct dev *d = session_dev_find(s, id);

	if (d || id < 0)
		return d;
	if (s->nr_devs == DEVS_MAX)
		return NULL;
	d = &s->dev[s->nr_devs++];
	*d = (struct dev){.id = id};
	return d;
}

/* Filters. A device that is not known yet passes, but for one that was asked for by number. */
bool session_passes(struct session *s, int32_t id)
{
	const struct dev *d = session_dev_find(s, id);

	if (s->cfg.dev >= 0 && id != s->cfg.dev && id >= 0)
		return false;
	if (s->cfg.pid && d && d->tgid && d->tgid != s->cfg.pid)
		return false;
	if (*s->cfg.volume && d && *d->volume && strcmp(d->volume, s->cfg.volume))
		return false;
	return true;
}

void session_want(struct session *s, int32_t id)
{
	struct dev *d = session_dev(s, id);

	if (d && session_passes(s, id))
		d->wanted = true;
}

void session_volume(void *ctx, int32_t id, const char *volume)
{
	struct session *s = ctx;
	struct dev *d = *volume ? session_dev(s, id) : NULL;

	if (d)
		snprintf(d->volume, sizeof(d->volume), "%s", volume);
}

void session_owner(struct session *s, uint32_t tid)
{
	for (unsigned int i = 0; i < s->nr_owners; i++)
		if (s->owner[i] == tid)
			return;
	if (tid && s->nr_owners < OWNERS_MAX)
		s->owner[s->nr_owners++] = tid;
}

struct look {
	struct session *s;
	struct dev *d;
	bool tell;
	uint32_t owner[64]; /* threads that serve a queue */
	unsigned int nr_owners;
	struct rec_queue orphan[16]; /* queues that nobody serves yet */
	unsigned int nr_orphans;
};

static bool serves(const struct look *l, uint32_t tid)
{
	for (unsigned int i = 0; i < l->nr_owners; i++)
		if (l->owner[i] == tid)
			return true;
	return false;
}

/*
 * The thread that should arm a queue that has no FETCH yet: the driver does not know it. If just
 * one thread of the server serves no queue and is not the one that sent START_DEV, it is that one.
 */
static uint32_t idle_thread(const struct look *l, char comm[REC_COMM_LEN])
{
	struct rec *r = session_rec(l->s, REC_TASK);
	uint32_t found = 0, others = 0;
	struct dirent *de;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%u/task", l->d->tgid);
	dir = l->d->tgid ? opendir(path) : NULL;
	while (dir && (de = readdir(dir))) {
		uint32_t tid = (uint32_t)strtoul(de->d_name, NULL, 10);

		if (!tid || tid == l->d->start_tid || serves(l, tid) ||
		    procfs_task(tid, &r->task) || !strncmp(r->task.comm, "iou-", 4))
			continue;
		/* The first thread is the likeliest to have sent START_DEV, if nobody saw who did.
		 */
		if (found && found != l->d->tgid && tid != l->d->tgid)
			others++;
		if (found && tid == l->d->tgid)
			continue;
		found = tid;
		memcpy(comm, r->task.comm, REC_COMM_LEN);
	}
	if (dir)
		closedir(dir);
	return others ? 0 : found;
}

static void orphans_tell(struct look *l, uint64_t t_ns)
{
	char comm[REC_COMM_LEN] = "";
	uint32_t tid = l->nr_orphans ? idle_thread(l, comm) : 0;

	for (unsigned int i = 0; i < l->nr_orphans; i++) {
		struct rec *r = session_rec(l->s, REC_QUEUE);

		r->t_ns = t_ns;
		r->queue = l->orphan[i];
		r->queue.owner_tid = tid;
		r->queue.guessed = tid;
		memcpy(r->queue.owner_comm, comm, sizeof(comm));
		session_emit(l->s, r);
		session_owner(l->s, tid);
	}
}

static void on_snapshot(void *ctx, const struct rec *r)
{
	struct look *l = ctx;
	struct dev *d = l->d;

	switch (r->kind) {
	case REC_DEV:
		if (r->dev.tgid && r->dev.tgid != d->tgid) {
			d->tgid = r->dev.tgid;
			memcpy(d->comm, r->dev.comm, sizeof(d->comm));
		}
		convert_comm(d->tgid, d->comm);
		d->frozen = r->dev.freeze_depth;
		d->requests = 0;
		d->old_ns = 0;
		if (l->tell) {
			l->s->rec = *r;
			snprintf(l->s->rec.dev.volume, sizeof(l->s->rec.dev.volume), "%s",
				 d->volume);
			if (r->dev.tgid)
				memcpy(l->s->rec.dev.comm, d->comm, sizeof(d->comm));
			session_emit(l->s, &l->s->rec);
		}
		return;
	case REC_REQ:
		d->requests++;
		d->old_ns = MAX(d->old_ns, r->t_ns - r->req.start_ns);
		if (l->tell)
			session_owner(l->s, r->req.owner_tid);
		break;
	case REC_QUEUE:
		if (r->queue.owner_tid && l->nr_owners < ARRAY_SIZE(l->owner))
			l->owner[l->nr_owners++] = r->queue.owner_tid;
		if (!l->tell || r->queue.armed == r->queue.depth)
			break;
		if (!r->queue.owner_tid) {
			/* Told at the end of the snapshot, when all owners are known. */
			if (l->nr_orphans < ARRAY_SIZE(l->orphan)) {
				l->orphan[l->nr_orphans++] = r->queue;
				return;
			}
			break;
		}
		session_owner(l->s, r->queue.owner_tid);
		break;
	case REC_SNAP_END:
		orphans_tell(l, r->t_ns);
		break;
	default:
		break;
	}
	if (l->tell)
		session_emit(l->s, r);
}

/* Latencies are kept by the address of a queue, which another device may get. */
static void hists_forget(struct session *s, int32_t id)
{
	int fd = bpf_map__fd(hooks_skel(s->hooks)->maps.hists);
	struct gt_hist_key key, prev;
	struct gt_hist h;
	bool more = !bpf_map_get_next_key(fd, NULL, &key);

	for (int n = 0; more && n < OPEN_MAX; n++) {
		bool ours = !bpf_map_lookup_elem(fd, &key, &h) && convert_dev(h.disk) == id;

		prev = key;
		more = !bpf_map_get_next_key(fd, &prev, &key);
		if (ours)
			bpf_map_delete_elem(fd, &prev);
	}
}

/* The device is no more. The next one of this number has nothing in common with it. */
void session_dev_ended(struct session *s, struct dev *d, uint64_t at_ns)
{
	struct rec *r = session_rec(s, REC_DEV);

	r->dev.dev = d->id;
	r->dev.state = DEV_GONE;
	session_emit(s, r);
	hists_forget(s, d->id);
	*d = (struct dev){.id = d->id, .born_ns = at_ns};
}

/* Look at a device; tell it or not. A known device that is no more is told as gone. */
void session_look(struct session *s, struct dev *d, uint64_t now, bool tell)
{
	struct look l = {.s = s, .d = d, .tell = tell};
	int res = s->kdevs ? kdevs_snapshot(s->kdevs, d->id, now, on_snapshot, &l) : -ENOSYS;

	if (!res) {
		d->present = true;
		if (tell)
			d->told = d->requests;
	} else if (res == -ENODEV && d->present) {
		session_dev_ended(s, d, now);
	}
}

void session_discover(struct session *s)
{
	static int32_t ids[DEVS_MAX];
	int n = s->kdevs ? kdevs_list(s->kdevs, ids, DEVS_MAX) : 0;

	for (int i = 0; i < n; i++)
		session_dev(s, ids[i]);
}
