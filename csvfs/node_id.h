/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * node_id.h - the number of a node that is in no cluster.
 *
 * Keys at the LUN, claims and reply slots name a node by its number. In a cluster corosync gives it. A mount without one
 * must have a number that nobody else who may use the LUN has: neither a node of the volume's cluster, nor another
 * machine's mount.
 */
#ifndef CSVFS_NODE_ID_H
#define CSVFS_NODE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/limits.h"

/*
 * With NODE_ALONE; the same one each time on this machine. Both are text, and may be empty: machines that were made as
 * copies of one may differ in either alone.
 */
uint32_t node_id_alone(const char *machine_id, const char *host);

/* May a cluster's node have this number? Not one that looks like that of a node without a cluster. False: why, and what to do, in text. */
bool node_id_in_cluster(uint32_t id, char *text, size_t text_bytes);

#endif
