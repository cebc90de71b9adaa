// SPDX-License-Identifier: GPL-2.0-or-later
/* The log sink: formats one line and writes it with one call, so lines of threads never mix. */
#include "lib/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum log_level log_max = LOG_LVL_INFO;
static bool log_prefix;

void log_init(enum log_level level, bool prefix)
{
	log_max = level;
	log_prefix = prefix;
}

int log_level_parse(const char *s)
{
	static const struct {
		const char *name;
		enum log_level level;
	} names[] = {
		{"error", LOG_LVL_ERR},
		{"warn", LOG_LVL_WARN},
		{"info", LOG_LVL_INFO},
		{"debug", LOG_LVL_DEBUG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(names[i].name, s))
			return (int)names[i].level;
	return -EINVAL;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char line[2048];
	int n = 0, m, saved_errno = errno;
	va_list ap;

	if (level > log_max)
		return;
	if (log_prefix)
		n = snprintf(line, sizeof(line), "<%d>", level);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	n = (int)MIN((size_t)(n + m), sizeof(line) - 2);
	line[n++] = '\n';
	/* A log that cannot be written has nobody to be reported to. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		errno = saved_errno;
	errno = saved_errno;
}
