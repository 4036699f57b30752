/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cpg.h - the shell around corosync: one thread owns every handle (cpg, quorum, cmap).
 *
 * It translates and decides nothing: what corosync says becomes EV_CPG_CONF, EV_QUORUM, EV_CPG_MSG
 * and EV_CPG_DOWN; FX_CPG_SEND becomes cpg_send(), FX_CPG_JOIN becomes cpg_rejoin().
 */
#ifndef CSVFS_COORDINATOR_CPG_H
#define CSVFS_COORDINATOR_CPG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/limits.h"
#include "csvfs/base/platform.h"

struct cpg_info {
	uint32_t node; /* corosync's node id */
	char name[NODE_NAME_MAX]; /* nodelist.node.X.name; else the host's name */
	char addr[ADDR_MAX]; /* ring0_addr */
	char cluster[NODE_NAME_MAX]; /* totem.cluster_name */
	uint32_t expected_nodes; /* of the nodelist */
};

/*
 * Asks the local corosync. 0, or -errno with a sentence in err: -ECONNREFUSED (corosync does not
 * run or may not be reached), -ENOENT (we are not in its nodelist), -EIO.
 */
int cpg_probe(struct cpg_info *info, char *err, size_t err_bytes);

struct cpg;

/*
 * Called on cpg's thread: the receiver queues a copy. ev->msg.bytes is valid during the call only.
 * now_ns and wall_ns are 0: the receiver's loop sets them.
 */
typedef void (*cpg_event_fn)(void *ctx, const struct event *ev);

/*
 * Joins the group of the volume and starts the thread. 0, or -errno with a sentence in err: as
 * cpg_probe(), and -EBUSY when another daemon of this node is in the group (mounted already).
 * deliver() may be called before it returns.
 */
int cpg_open(struct cpg **out, const uint8_t uuid[16], cpg_event_fn deliver, void *ctx, char *err,
	size_t err_bytes);

/*
 * From any thread. Copied, sent in order, again while corosync says TRY AGAIN. -EMSGSIZE,
 * -ENOTCONN (it is down: lost, as everything queued is when corosync dies), -ENOBUFS.
 */
int cpg_send(struct cpg *c, const void *bytes, uint32_t length_bytes);

/* When EV_CPG_DOWN has been handled: leaves the group (only now), and tries once to connect and join again -> EV_CPG_CONF or EV_CPG_DOWN. */
void cpg_rejoin(struct cpg *c);

/* Sends what is queued (at most a second), leaves the group, ends the thread. */
void cpg_close(struct cpg *c);

#endif
