/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leveled log to stderr with syslog priority prefixes, as systemd reads them. The layer that
 * decides logs, once; I/O paths count and never log. Any thread; each call is one write(2).
 */
#ifndef GFS_LIB_LOG_H
#define GFS_LIB_LOG_H

#include "lib/util.h"

enum log_level { LOG_LVL_ERR = 3, LOG_LVL_WARN = 4, LOG_LVL_INFO = 6, LOG_LVL_DEBUG = 7 };

/* Set the level once at start; `prefix` says whether "<N>" is written (journal). */
void log_init(enum log_level level, bool prefix);
/* "error", "warn", "info", "debug" -> level; -EINVAL otherwise. */
int log_level_parse(const char *s);
void log_write(enum log_level level, const char *fmt, ...) __printf(2, 3);

#define log_err(...)   log_write(LOG_LVL_ERR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LVL_DEBUG, __VA_ARGS__)

#endif
