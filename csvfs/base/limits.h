/* SPDX-License-Identifier: GPL-2.0-or-later */
/* limits.h - every limit of the system, in one place. */
#ifndef CSVFS_BASE_LIMITS_H
#define CSVFS_BASE_LIMITS_H

#include <stdint.h>

#define BLOCK_SIZE 4096u	/* metadata block, bytes; also the unit of the journal */
#define BLOCK_SHIFT 12
#define CHUNK_SIZE (1u << 20)	/* metadata lives in chunks of this size (or a cluster, if larger) */
#define CLUSTER_MIN 4096u
#define CLUSTER_MAX (1u << 20)
#define CLUSTER_DEFAULT 65536u

#define FILE_BYTES_MAX (64ull << 40)
#define VOLUME_BYTES_MAX (256ull << 40)
#define NAME_BYTES_MAX 255
#define SYMLINK_BYTES_MAX 4095
#define XATTR_BYTES_MAX 65536
#define LINKS_MAX 65000
#define DIR_LINKS_MAX 0x7fffffffu /* subdirectories: more than there is room for, but the field has an end */

#define NODES_MAX 64		/* nodes of one cluster that mount one volume at once */
#define NODE_ALONE (1u << 31)	/* in the number of a node that is in no cluster (csvfs/node_id.h) */
#define NODE_NAME_MAX 64	/* with the ending zero */
#define ADDR_MAX 64		/* an IP address as text, with the ending zero */
#define SLOTS_MAX 60		/* requests of one node that may change something, at once */
#define LOCKS_NODE_MAX 16384 /* locks that one node holds */
#define LOCKS_MAX (8 * LOCKS_NODE_MAX) /* that all nodes hold; beyond, ENOLCK */
#define LOCK_WAITS_MAX 16384 /* requests that wait for a lock, of all nodes */
#define IO_BYTES_MAX (1u << 20) /* one read or write of the kernel */
#define SEGS_MAX 272		/* pieces of one read or write on the LUN: 1 MiB of 4 KiB clusters */
#define EXTENTS_PER_REPLY 256
#define FRAME_BODY_MAX (128u << 10)
#define CPG_MSG_MAX 1024

#define NS_PER_MS ((uint64_t)1000000)
#define NS_PER_SEC ((uint64_t)1000000000)
#define NEVER UINT64_MAX	/* a deadline that does not come */

#endif
