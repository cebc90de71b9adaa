/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values of the BPF programs (bpf/gfs_trace.h) as the parts of records. Any thread; reads /proc for
 * names. */
#ifndef GFS_TRACING_CONVERT_H
#define GFS_TRACING_CONVERT_H

#include "tracing/rec.h"
#include "bpf/gfs_trace.h"

/* "ublkb12" -> 12; -1: of no ublk device. */
int32_t convert_dev(const char *disk);
/* The name of a process instead of that of one of its threads, if it still is. */
void convert_comm(uint32_t tgid, char comm[REC_COMM_LEN]);
void convert_cmd(const struct gt_cmd *c, struct rec_cmd *out);
void convert_freeze(const struct gt_freeze *f, struct rec_freeze *out);
void convert_attr(const struct gt_attr *a, struct rec_attr *out);
void convert_elv(const struct gt_elv *e, struct rec_elv *out);
void convert_server(const struct gt_server *g, struct rec_server *out);
void convert_span(const struct gt_span *g, struct rec_span *out);

#endif
