/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by layer.c and layer_log.c only. */
#ifndef GFS_ENGINE_LAYER_PRIV_H
#define GFS_ENGINE_LAYER_PRIV_H

#include "engine/layer.h"

/* A granule's words changed. Lock-free; the words were changed before by a full-barrier operation.
 */
void layer_granule_dirty(struct layer *l, uint64_t granule);

/* Write and sync the header of a fresh log and allocate its first part. */
int layer_log_init(struct layer *l) __must_check;
/* Is this the log of the layer that `l` says? Sets log_cap, and size_bytes to the layer's own. */
int layer_log_check(struct layer *l, struct fmt_err *e) __must_check;
/*
 * Find the end of the log; apply = fill the (empty) map from it, else check that the map holds all
 * that it names (-ESTALE: it does not).
 */
int layer_log_replay(struct layer *l, bool apply, struct fmt_err *e) __must_check;
/* Room for all dirty granules plus what may become dirty before the next look. */
bool layer_log_room(const struct layer *l);
/* Make such room. Blocking; one caller at a time. */
int layer_log_extend(struct layer *l) __must_check;

#endif
