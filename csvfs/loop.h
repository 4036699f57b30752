/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop.h - the daemon's driver of the core: one epoll loop; whoever holds its lock steps.
 *
 * It owns the core's own session to the LUN, the timer and the control socket; everybody else's
 * events come through the inbox. Each event becomes one node_step(), whose effects are carried out
 * at once.
 */
#ifndef CSVFS_LOOP_H
#define CSVFS_LOOP_H

#include "csvfs/config.h"
#include "csvfs/node.h"
#include "csvfs/probe.h"

struct loop_config {
	const struct config *cfg;
	struct node_config node;
	const struct probe *volume;
	const char *ctl_path;
	bool cluster;
	/* Called once, when the volume is mounted and usable. */
	void (*ready)(void *ctx);
	void *ctx;
	int parent_fd; /* when its other side closes nobody waits for ready() any more; -1: none */
};

/*
 * Mounts, runs until it is unmounted, leaves in order. 0, or a negative errno and a line of text.
 * Signals SIGINT, SIGTERM must be blocked by the caller; they unmount.
 */
int loop_run(const struct loop_config *cfg, char *text, size_t text_bytes);

#endif
