/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * trace.h - the narrated trace: "view 7 lost node 2, it coordinated -> fence 2/8f3a".
 *
 * The core formats a line into a fixed buffer and hands it to the driver's sink. Formatting is our
 * own small subset, so that the core needs no stdio: %s %c %% %d %u %x %lld %llu %llx %zu, with
 * optional width and 0-padding.
 */
#ifndef CSVFS_BASE_TRACE_H
#define CSVFS_BASE_TRACE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

enum trace_level { TRACE_ERROR, TRACE_WARN, TRACE_INFO, TRACE_DEBUG };

struct trace {
	enum trace_level level; /* lines above this level are not made */
	void (*sink)(void *ctx, enum trace_level level, const char *line);
	void *ctx;
};

/* A line for the log; `t` may be NULL. Not for the data path. */
void trace(const struct trace *t, enum trace_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* snprintf's subset named above; always ends with a zero byte; returns the length written. */
size_t trace_format(char *out, size_t out_bytes, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
size_t trace_vformat(char *out, size_t out_bytes, const char *fmt, va_list ap);

#endif
