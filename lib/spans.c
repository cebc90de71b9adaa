// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The table of open spans; see spans.h. No thread and no lock of its own.
 *
 * A slot belongs to whoever moved its state from FREE or OPEN to BUSY, by compare-and-swap; only
 * the owner writes to it. The states are an array apart, so that looking for a free slot, and
 * looking from outside which are open, touches little memory.
 *
 * Each thread begins to look at a place of its own and stays in a window there while it finds
 * slots, which keeps them in its cache and threads out of each other's way.
 */
#include "lib/spans.h"

#include <string.h>

#define INDEX_BITS   14
#define INDEX_MASK   ((1u << INDEX_BITS) - 1)
#define GEN_MAX      (UINT32_MAX >> INDEX_BITS)
#define WINDOW_SLOTS 64u

_Static_assert(SPANS_SLOTS == 1u << INDEX_BITS, "a handle has room for the index of a slot");
_Static_assert(sizeof(struct spans_slot) == 384, "part of the format");
_Static_assert(sizeof(struct spans_header) == 48, "part of the format");

/* The linker must not collect it even if nothing referred to it. */
#if defined(__has_attribute) && __has_attribute(retain)
#define SPANS_KEEP __attribute__((section(SPANS_SECTION), used, retain))
#else
#define SPANS_KEEP __attribute__((section(SPANS_SECTION), used))
#endif

static struct spans_slot slots[SPANS_SLOTS];
static uint32_t states[SPANS_SLOTS];

static struct spans_header header SPANS_KEEP = {
	.magic = SPANS_MAGIC,
	.version = SPANS_VERSION,
	.slot_bytes = sizeof(struct spans_slot),
	.nr_slots = SPANS_SLOTS,
	.table = (uintptr_t)slots,
	.states = (uintptr_t)states,
};

static uint32_t next_base;
static __thread uint32_t my_base, my_next;
static __thread bool my_base_known;

const struct spans_header *spans_header(void)
{
	return &header;
}

static uint32_t state_make(uint32_t gen, enum spans_phase phase)
{
	return gen << SPANS_PHASE_BITS | phase;
}

static bool state_take(uint32_t i, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&states[i], &from, to, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static void high_water_raise(uint32_t to)
{
	uint32_t cur = __atomic_load_n(&header.high_water, __ATOMIC_RELAXED);

	/* A failed swap means that another thread raised it. */
	while (cur < to && !__atomic_compare_exchange_n(&header.high_water, &cur, to, true,
							__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* Take a free slot: true with its index and new generation, now BUSY. Each is looked at once. */
static bool slot_take(uint32_t *index, uint32_t *gen)
{
	uint32_t from;

	if (unlikely(!my_base_known)) {
		my_base =
			__atomic_fetch_add(&next_base, WINDOW_SLOTS, __ATOMIC_RELAXED) & INDEX_MASK;
		my_next = my_base;
		my_base_known = true;
	}
	from = my_next - my_base < WINDOW_SLOTS ? my_next : my_base;
	for (uint32_t n = 0; n < SPANS_SLOTS; n++) {
		uint32_t i = (from + n) & INDEX_MASK;
		uint32_t s = __atomic_load_n(&states[i], __ATOMIC_RELAXED);
		uint32_t g = s >> SPANS_PHASE_BITS;

		if ((s & SPANS_PHASE_MASK) != SPANS_FREE)
			continue;
		g = g < GEN_MAX ? g + 1 : 1;
		if (!state_take(i, s, state_make(g, SPANS_BUSY)))
			continue;
		my_next = from + n + 1;
		*index = i;
		*gen = g;
		return true;
	}
	return false;
}

/* Copies at most size - 1 bytes; what follows the NUL keeps its old content. */
static void str_set(char *dst, size_t size, const char *src)
{
	size_t n = src ? strnlen(src, size - 1) : 0;

	memcpy(dst, src ? src : "", n);
	dst[n] = '\0';
}

/* Around every change of an open slot. Full barriers: the reader is another process. */
static void slot_change(struct spans_slot *s)
{
	__atomic_fetch_add(&s->seq, 1, __ATOMIC_SEQ_CST);
}

uint32_t span_open(const struct timing_rec *r)
{
	struct spans_slot *s;
	uint32_t i, gen;

	if (!slot_take(&i, &gen)) {
		__atomic_fetch_add(&header.dropped, 1, __ATOMIC_RELAXED);
		return 0;
	}
	high_water_raise(i + 1);
	s = &slots[i];
	slot_change(s);
	s->start_ns = r->start_ns ? r->start_ns : now_ns();
	s->op_id = r->op_id;
	__atomic_store_n(&s->link_op_id, 0, __ATOMIC_RELAXED);
	s->sector = r->sector;
	s->nsectors = r->nsectors;
	s->dev_id = r->dev_id;
	s->queue = r->queue;
	s->tag = r->tag;
	s->is_io = r->is_io;
	s->io_op = (uint8_t)r->io_op;
	__atomic_store_n(&s->stage, (uint8_t)r->stage, __ATOMIC_RELAXED);
	s->attempt = (uint8_t)MIN(r->attempt, 255u);
	str_set(s->event, sizeof(s->event), timing_event_name(r->event));
	str_set(s->export_, sizeof(s->export_), r->export_);
	str_set(s->key, sizeof(s->key), r->key);
	__atomic_store_n(&s->gen, gen, __ATOMIC_RELAXED);
	slot_change(s);
	__atomic_store_n(&states[i], state_make(gen, SPANS_OPEN), __ATOMIC_RELEASE);
	return gen << INDEX_BITS | i;
}

/* The slot of a span that is open, or NULL. */
static struct spans_slot *slot_of(uint32_t handle)
{
	uint32_t i = handle & INDEX_MASK, open = state_make(handle >> INDEX_BITS, SPANS_OPEN);

	if (!handle || __atomic_load_n(&states[i], __ATOMIC_ACQUIRE) != open)
		return NULL;
	return &slots[i];
}

void span_link(uint32_t handle, uint64_t op_id)
{
	struct spans_slot *s = slot_of(handle);

	if (!s || __atomic_load_n(&s->link_op_id, __ATOMIC_RELAXED) == op_id)
		return;
	slot_change(s);
	__atomic_store_n(&s->link_op_id, op_id, __ATOMIC_RELAXED);
	slot_change(s);
}

void span_unlink(uint32_t handle, uint64_t op_id)
{
	struct spans_slot *s = slot_of(handle);

	if (s && __atomic_load_n(&s->link_op_id, __ATOMIC_RELAXED) == op_id)
		span_link(handle, 0);
}

void span_stage(uint32_t handle, enum timing_io_stage stage)
{
	struct spans_slot *s = slot_of(handle);

	if (!s)
		return;
	slot_change(s);
	__atomic_store_n(&s->stage, (uint8_t)stage, __ATOMIC_RELAXED);
	slot_change(s);
}

void span_close(uint32_t handle)
{
	uint32_t i = handle & INDEX_MASK, gen = handle >> INDEX_BITS;

	if (!handle || !state_take(i, state_make(gen, SPANS_OPEN), state_make(gen, SPANS_BUSY)))
		return;
	/* A reader that copied it before sees by this, if it looks again, that it ended. */
	__atomic_store_n(&slots[i].gen, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&states[i], state_make(gen, SPANS_FREE), __ATOMIC_RELEASE);
	if (my_base_known && i - my_base < WINDOW_SLOTS)
		my_next = i;
}
