/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * corosync.h - a cluster of real corosyncs on this machine, one network namespace each, joined by a
 * bridge in the namespace of the test.
 */
#ifndef CSVFS_TESTS_SHELL_COROSYNC_H
#define CSVFS_TESTS_SHELL_COROSYNC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define COROSYNC_NODES 3

/* Leaves the caller in a network namespace of its own. False: no root, or no corosync here. */
bool corosync_net_up(void);
void corosync_net_down(void);

void corosync_start(uint32_t node);
void corosync_kill(uint32_t node);
void corosync_cut(uint32_t node, bool cut);

/* A child process in the node's network; it gets what happens on stdin and stdout of *in, *out. */
pid_t corosync_spawn(uint32_t node, void (*run)(uint32_t node), int *in, int *out);

#endif
