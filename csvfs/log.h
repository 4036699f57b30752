/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log.h - where the daemon's messages go: stderr, a file or syslog; and a ring of the last lines,
 * which is written out when the daemon crashes. Any thread.
 *
 * Nobody waits for the log: a line that it does not take at once (journald hangs, a pipe is full) is lost, and
 * the next that it takes says how many were. A daemon that waited would stop renewing its lease, and be fenced.
 */
#ifndef CSVFS_LOG_H
#define CSVFS_LOG_H

#include <stdbool.h>

#include "csvfs/base/trace.h"

/* `file` NULL: stderr if foreground, else syslog. 0 or a negative errno. */
int log_open(const char *file, bool foreground, enum trace_level level);

/* From now on nobody looks at stderr: to syslog, unless there is a file. */
void log_leave_stderr(void);

/* To syslog, whose socket is at `path` (must stay valid). For tests. */
void log_syslog_at(const char *path);

void log_line(enum trace_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What node_create() gets. */
const struct trace *log_trace(void);

/* "error", "warn", "info", "debug". */
bool log_parse_level(const char *s, enum trace_level *level);

/* SIGSEGV, SIGABRT and the like write the ring to the log and then do what they always do. */
void log_catch_crashes(void);

#endif
