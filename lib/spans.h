/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open spans: what this process is doing now, in a table that another process can read from outside
 * at any moment, even when this one hangs (gfs-trace does, with process_vm_readv). Opening and
 * closing is lock-free and never waits, allocates or calls the kernel; a full table is counted.
 *
 * The reader finds struct spans_header in the ELF section ".gfs_spans" of the program, which
 * survives strip, and the table by its pointer.
 */
#ifndef GFS_LIB_SPANS_H
#define GFS_LIB_SPANS_H

#include "lib/timing.h"

#define SPANS_MAGIC   0x4e41505353464721ull
#define SPANS_VERSION 1
#define SPANS_SLOTS   4096
#define SPANS_SECTION ".gfs_spans"

/* One open span. 384 bytes. */
struct spans_slot {
	/* Odd: being changed. A reader copies the slot, reads seq again, and drops the copy if it
	 * changed. state 0: free. */
	uint32_t seq, state;
	uint64_t start_ns, op_id;
	uint64_t link_op_id; /* the operation whose work this one waits for; 0 = its own */
	uint64_t sector;
	uint32_t nsectors;
	int32_t dev_id;
	uint16_t queue, tag;
	uint8_t is_io, io_op, stage, pad;
	char event[32]; /* timing_event_name() */
	char export_[96];
	char key[192];
};

struct spans_header {
	uint64_t magic;
	uint32_t version, slot_bytes, nr_slots, pad;
	uint64_t table;   /* address of the first slot in this process */
	uint64_t dropped; /* spans that found no slot */
};

/*
 * Open a span described by r (event, op_id, start_ns or 0 = now, export_, dev_id, key, is_io and
 * what belongs to it). Any thread. Returns a handle, or 0 when the table is full.
 */
uint32_t span_open(const struct timing_rec *r);
/* It now waits for the work of operation op_id. handle 0 is ignored here and below. */
void span_link(uint32_t handle, uint64_t op_id);
void span_close(uint32_t handle);

#endif
