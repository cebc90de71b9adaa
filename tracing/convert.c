// SPDX-License-Identifier: GPL-2.0-or-later
/* Values of the BPF programs as records; see convert.h. */
#include "tracing/convert.h"
#include "tracing/procfs.h"

#include <stdio.h>
#include <string.h>

/* Threads have names of their own; a person knows the process. */
void convert_comm(uint32_t tgid, char comm[REC_COMM_LEN])
{
	char path[64], name[REC_COMM_LEN];

	snprintf(path, sizeof(path), "/proc/%u/comm", tgid);
	if (tgid && procfs_line(path, name, sizeof(name)))
		memcpy(comm, name, sizeof(name));
}

int32_t convert_dev(const char *disk)
{
	int dev;

	return sscanf(disk, "ublkb%d", &dev) == 1 ? dev : -1;
}

void convert_cmd(const struct gt_cmd *c, struct rec_cmd *out)
{
	uint32_t nr = c->cmd_op & 0xff;

	*out = (struct rec_cmd){
		.id = c->submit_ns,
		.dev = (int32_t)c->dev_id,
		.nr = nr,
		.tgid = c->task.tgid,
		.tid = c->task.tid,
		.submit_ns = c->submit_ns,
		.punt_ns = c->punt_ns,
		.worker_ns = c->worker_ns,
		.ctrl_ns = c->ctrl_ns,
		.add_disk_ns = c->add_disk_ns,
		.add_disk_end_ns = c->add_disk_end_ns,
		.elevator_ns = c->elevator_ns,
		.elevator_end_ns = c->elevator_end_ns,
		.scan_ns = c->scan_ns,
		.scan_end_ns = c->scan_end_ns,
		.end_ns = c->end_ns,
		.res = c->res,
	};
	memcpy(out->comm, c->task.comm, sizeof(out->comm));
	convert_comm(c->task.tgid, out->comm);
}

void convert_freeze(const struct gt_freeze *f, struct rec_freeze *out)
{
	*out = (struct rec_freeze){
		.id = f->start_ns,
		.dev = convert_dev(f->disk),
		.tid = f->task.tid,
		.tgid = f->task.tgid,
		.start_ns = f->start_ns,
		.wait_ns = f->wait_ns,
		.wait_end_ns = f->wait_end_ns,
		.end_ns = f->end_ns,
		.depth = f->depth,
	};
	memcpy(out->comm, f->task.comm, sizeof(out->comm));
}

void convert_attr(const struct gt_attr *a, struct rec_attr *out)
{
	size_t len;

	*out = (struct rec_attr){
		.id = a->start_ns,
		.dev = convert_dev(a->disk),
		.tid = a->task.tid,
		.tgid = a->task.tgid,
		.start_ns = a->start_ns,
		.end_ns = a->end_ns,
		.res = a->res,
		.freeze_ns = a->freeze_ns,
	};
	memcpy(out->comm, a->task.comm, sizeof(out->comm));
	snprintf(out->attr, sizeof(out->attr), "%s", a->attr);
	snprintf(out->value, sizeof(out->value), "%s", a->value);
	out->value[strcspn(out->value, "\n")] = '\0';
	memcpy(out->cmdline, a->cmdline, sizeof(out->cmdline) - 1);
	len = MIN(a->cmdline_len, sizeof(out->cmdline) - 1);
	memset(out->cmdline + len, 0, sizeof(out->cmdline) - len);
	/* Arguments are separated by NULs; the last ones are padding. */
	while (len && !out->cmdline[len - 1])
		len--;
	for (size_t i = 0; i < len; i++)
		if (!out->cmdline[i])
			out->cmdline[i] = ' ';
}

void convert_elv(const struct gt_elv *e, struct rec_elv *out)
{
	*out = (struct rec_elv){
		.id = e->start_ns,
		.dev = convert_dev(e->disk),
		.tid = e->task.tid,
		.tgid = e->task.tgid,
		.start_ns = e->start_ns,
		.end_ns = e->end_ns,
		.freeze_ns = e->freeze_ns,
	};
	memcpy(out->comm, e->task.comm, sizeof(out->comm));
	snprintf(out->from, sizeof(out->from), "%s", e->from);
	snprintf(out->to, sizeof(out->to), "%s", e->to);
}

void convert_server(const struct gt_server *g, struct rec_server *out)
{
	*out = (struct rec_server){
		.dev = (int32_t)g->minor,
		.tgid = g->task.tgid,
		.gone = g->gone,
		.at_ns = g->at_ns,
	};
	memcpy(out->comm, g->task.comm, sizeof(out->comm));
	convert_comm(out->tgid, out->comm);
}

void convert_span(const struct gt_span *g, struct rec_span *sp)
{
	static const char *const stages[] = {"local", "flush", "space", "store"};
	uint32_t stage = (uint32_t)(g->io >> 32 & 0xffff);

	*sp = (struct rec_span){
		.pid = g->pid,
		.dev = g->dev_id,
		.op_id = g->op_id,
		.start_ns = g->start_ns,
		.end_ns = g->end_ns,
		.result = g->result,
		.bytes = g->bytes,
	};
	snprintf(sp->event, sizeof(sp->event), "%s", g->event);
	snprintf(sp->volume, sizeof(sp->volume), "%s", g->volume);
	snprintf(sp->key, sizeof(sp->key), "%s", g->key);
	if (!g->io)
		return;
	sp->is_io = true;
	sp->io_op = (char)(g->io >> 48);
	sp->queue = (uint32_t)(g->io >> 16 & 0xffff);
	sp->tag = (uint32_t)(g->io & 0xffff);
	sp->sector = g->sector;
	sp->nsectors = (uint32_t)g->nsectors;
	if (stage < ARRAY_SIZE(stages))
		snprintf(sp->stage, sizeof(sp->stage), "%s", stages[stage]);
}
