/* SPDX-License-Identifier: GPL-2.0-or-later */
/* proc_status.h - what the kernel tells of a thread: its signals, rights and groups. */
#ifndef CSVFS_PROC_STATUS_H
#define CSVFS_PROC_STATUS_H

#include <stdint.h>

/*
 * All of /proc/TID/status, to be freed. NULL: *err says why; -ENOENT or -ESRCH: there is no such thread. The groups of its user come
 * before its signals, and may be NGROUPS_MAX.
 */
char *proc_status(uint32_t tid, int *err);

#endif
