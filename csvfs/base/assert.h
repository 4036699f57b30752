/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * assert.h - assertions that are always on, in production too.
 *
 * They state what only a bug in csvfs can break; what disk, wire or user can cause is an event.
 * The core knows no way to stop a process, so the driver provides csv_assert_fail().
 */
#ifndef CSVFS_BASE_ASSERT_H
#define CSVFS_BASE_ASSERT_H

/* Provided by each driver (daemon, tools, simulator, unit tests). Prints, dumps, aborts. */
void csv_assert_fail(const char *expr, const char *file, int line) __attribute__((noreturn));

#define csv_assert(e) ((e) ? (void)0 : csv_assert_fail(#e, __FILE__, __LINE__))

#endif
