/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lease.h - what the coordinator remembers of every node's rights: which inodes it has open, and what
 * of their layouts it was told.
 *
 * Kept in memory; a new coordinator rebuilds it from what the members reclaim.
 *
 * Invariants (lease_check)
 *  L1 a range that is owned (allocated, unwritten, given to one node to first-write) has one owner
 *     (invariant 7 of the system);
 *  L2 a node that owns a range of an inode holds a layout of it;
 *  L3 while an exclusive operation runs on an inode nobody holds a layout of it;
 *  L4 a recall is outstanding only from a holder;
 *  L5 an edge range has one owner, a holder;
 *  L6 who was told that it may write anywhere but in edge ranges of its own is a *writer*. A range becomes an edge range
 *     only when there is no other writer, and nobody else is told then that it may write there;
 *  L7 who appends or writes to an inode has it open.
 *
 * Words: a holder was told any extent; a *blank* holder was told that some range reads as zero, so it
 * must be asked to forget before anybody first-writes there. In an *edge* range one node alone writes, so it may
 * write parts of blocks, which it reads and writes back; it is kept when what was first-written there is committed.
 * All others may read there, but are told SHARED. Once one node has asked for an edge range, who reads the file is told
 * SHARED everywhere: it is no writer then, and is left alone when the next range is asked for.
 *
 * Nodes are named by an index 0 .. NODES_MAX-1 that the caller keeps stable while the node has rights.
 */
#ifndef CSVFS_COORDINATOR_LEASE_H
#define CSVFS_COORDINATOR_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/fsreq.h"
#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"

#define LEASE_BUCKETS 4096
/* Edge ranges of an inode. With more the owners give them back and begin anew: what is looked through stays short. */
#define LEASE_EDGES_MAX 512u

struct lease_range {
	struct list link;
	uint64_t off, len;
	uint32_t idx;
};

/*
 * Disjoint, by offset, of all nodes. Who reclaims or commits many names them in ascending order: each is looked for from where the one
 * before was found, so that all of them together cost one walk.
 */
struct lease_ranges {
	struct list all;
	struct list *at; /* one of them, or (none before) `all` itself */
	uint64_t looked_at; /* ranges, for tests */
};

#define LEASE_APPENDS_MAX 4u /* under way at once */
#define LEASE_PLACES_MAX 8u /* with those that are late */

/*
 * Appends that are under way, all of one node, and the caller's requests that wait for their end (csvfs/node_append.c). Late ones may
 * be of several nodes.
 */
struct lease_appends {
	uint32_t idx; /* of those that are not late, while there are any */
	uint32_t placing; /* in the engine */
	uint32_t count;
	struct lease_place {
		uint64_t off; /* where it begins */
		uint64_t version; /* of the layout then */
		struct fs_reqid id;
		uint32_t idx;
		bool late;
	} told[LEASE_PLACES_MAX];
	uint64_t deadline_ns;
	struct list waiting;
};

struct lease_ino {
	struct list hash;
	uint64_t ino;
	uint64_t open_mask, holder_mask, blank_mask, writer_mask;
	uint64_t write_mask; /* have it open, and asked for a layout to write since */
	uint64_t recall_mask; /* asked to give back, not answered yet */
	uint64_t recall_later; /* of those: asked when the time of others ran already */
	uint64_t recall_again; /* to be asked anew, if it is one of those: served in another session */
	uint64_t reclaim_mask; /* said in the present reclaim that they have something here */
	uint64_t reclaim_held; /* ... and a layout */
	uint64_t recall_deadline_ns;
	struct lease_ranges ranges; /* owned */
	struct lease_ranges edges;
	uint32_t edge_count;
	bool edged; /* somebody has asked for an edge range */
	/* The caller's queue: requests that wait for this inode, and what runs on it. */
	struct list waiting;
	uint32_t granting; /* LAYOUT_GETs in the engine */
	bool exclusive;	   /* a destructive operation is in the engine */
	struct lease_appends appends;
};

struct lease_table {
	struct mem *mem;
	struct list bucket[LEASE_BUCKETS];
	uint64_t count;
};

void lease_init(struct lease_table *t, struct mem *mem);
/* Forgets everything. No caller's request may be queued any more. */
void lease_reset(struct lease_table *t);

struct lease_ino *lease_find(const struct lease_table *t, uint64_t ino);
/* Found or made; NULL: no memory. */
struct lease_ino *lease_get(struct lease_table *t, uint64_t ino);
/* Frees the entry when nothing is in it. Call after each change; `li` may be gone then. */
void lease_put(struct lease_table *t, struct lease_ino *li);

bool lease_is_open(const struct lease_table *t, uint64_t ino);
/* idx does not have it open any more. */
void lease_closed(struct lease_ino *li, uint32_t idx);
int lease_set_open(struct lease_table *t, uint64_t ino, uint32_t idx, bool open);

/*
 * Who must give the layout back before node `idx` may be told of [off, off + len). `flags`: FS_LAYOUT_*. For reading:
 * others that own parts of it. For writing also those that were told it is blank, or have edge ranges
 * there. For EDGE also all other writers. A mask of node indexes; may have idx in it.
 */
uint64_t lease_conflicts(
	const struct lease_ino *li, uint32_t idx, uint32_t flags, uint64_t off, uint64_t len);

/*
 * Node `idx` is told these extents. Turns an UNWRITTEN extent into a hole unless it is, or with
 * WRITE becomes, the node's own; another's own range must not be among those (lease_conflicts). With EDGE the asked
 * range [off, off + len), whole clusters, becomes its edge range as far as the extents go and have space; all of them
 * if nobody else knows anything of the file.
 * What differs in this beyond the asked range is cut off: *count may shrink. 0 or -ENOMEM.
 */
int lease_grant(struct lease_table *t, struct lease_ino *li, uint32_t idx, uint32_t flags, uint64_t off,
	uint64_t len, struct fs_extent *extents, uint32_t *count);

/* The range is WRITTEN now: it is owned no longer. An edge range stays one. */
int lease_commit(
	struct lease_table *t, struct lease_ino *li, uint32_t idx, uint64_t off, uint64_t len);

/* For reclaim: the node says that it owns the range, or (edge) has it for an edge range. -EEXIST: another one does. */
int lease_own(struct lease_table *t, struct lease_ino *li, uint32_t idx, uint64_t off, uint64_t len,
	bool edge);

/* For reclaim: it knows extents of it, and perhaps (blank) that some read as zero. What they are only it knows. */
void lease_hold(struct lease_ino *li, uint32_t idx, bool blank);

/*
 * Nodes of `mask` are to give back what they hold by due_ns. Returns those that were not asked before. Who is asked while others'
 * time runs has at least as long as they had.
 */
uint64_t lease_recall(struct lease_ino *li, uint64_t mask, uint64_t due_ns);
/* recall_deadline_ns has come: whose time is over. They, and those that were asked later, have until due_ns from now on. */
uint64_t lease_overdue(struct lease_ino *li, uint64_t due_ns);

/* The node knows nothing of this inode's extents any more. */
void lease_return(struct lease_table *t, struct lease_ino *li, uint32_t idx);

/* The next inode, after `ino` in table order (0: first), in which `idx` has any right. */
struct lease_ino *lease_next_of(const struct lease_table *t, uint32_t idx, uint64_t ino);

void lease_check(const struct lease_table *t);

#endif
