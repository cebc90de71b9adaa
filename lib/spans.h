/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open spans: what this process is doing now, in a table that another process can read from outside
 * at any moment, even when this one hangs (gfs-trace does, with process_vm_readv). Opening and
 * closing is lock-free and never waits, allocates or calls the kernel; a full table is counted.
 *
 * The reader finds struct spans_header in the ELF section ".gfs_spans" of the program, which
 * survives strip, and from there the states (small: one word a slot) and the slots by their
 * addresses.
 */
#ifndef GFS_LIB_SPANS_H
#define GFS_LIB_SPANS_H

#include "lib/timing.h"

#define SPANS_MAGIC   0x4e41505353464721ull
#define SPANS_VERSION 1
#define SPANS_SLOTS   16384 /* one for each device, and the operations of the moment */
#define SPANS_SECTION ".gfs_spans"

/*
 * The state of a slot: generation << 2 | phase. A slot is worth reading only while it is
 * SPANS_OPEN; it is BUSY for the instants in which it is filled or given back. The generation grows
 * with every use and is never 0 once used.
 */
enum spans_phase { SPANS_FREE, SPANS_BUSY, SPANS_OPEN };
#define SPANS_PHASE_BITS 2
#define SPANS_PHASE_MASK 3u

/* One open span. 384 bytes. */
struct spans_slot {
	/*
	 * seq is odd while the slot is being changed. A reader copies the slot, reads seq and gen
	 * again, and drops the copy if one of them changed. gen: of the span inside, 0 = closed.
	 */
	uint32_t seq, gen;
	uint64_t start_ns, op_id;
	uint64_t link_op_id; /* the operation whose work this one waits for; 0 = its own */
	uint64_t sector;
	uint32_t nsectors;
	int32_t dev_id;
	uint16_t queue, tag;
	uint8_t is_io, io_op, stage, attempt;
	char event[32];    /* timing_event_name() */
	char export_[128]; /* strings are cut to fit */
	char key[168];
} __attribute__((aligned(64)));

struct spans_header {
	uint64_t magic;
	uint32_t version, slot_bytes, nr_slots;
	uint32_t high_water; /* no slot from here on was ever used */
	uint64_t table;      /* address of the first slot in this process */
	uint64_t states;     /* address of the first state, a uint32_t for each slot */
	uint64_t dropped;    /* spans that found no slot */
};

/*
 * Open a span described by r (event, op_id, start_ns or 0 = now, export_, dev_id, key, attempt,
 * is_io and what belongs to it; strings are copied). Any thread. Returns a handle, or 0 when the
 * table is full.
 */
uint32_t span_open(const struct timing_rec *r);
/*
 * It now waits for the work of operation op_id (0: its own). Handle 0, and that of a span closed
 * before, is ignored here and below; but nobody may close it at the same time.
 */
void span_link(uint32_t handle, uint64_t op_id);
/* It no longer waits for operation op_id; nothing if it waits for another by now. */
void span_unlink(uint32_t handle, uint64_t op_id);
/* A guest request came further. As span_link(). */
void span_stage(uint32_t handle, enum timing_io_stage stage);
/* Any thread; of two that close the same span one does nothing. */
void span_close(uint32_t handle);

/* The header of this process, for tests and for its own metrics. */
const struct spans_header *spans_header(void);

#endif
