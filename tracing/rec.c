// SPDX-License-Identifier: GPL-2.0-or-later
/* Records as JSON lines; see rec.h. */
#include "tracing/rec.h"
