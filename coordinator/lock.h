/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lock.h - a table of file locks: POSIX (fcntl), OFD and flock, and who waits for one.
 *
 * The coordinator has one of all nodes' locks; every node has one of its own, which is what it believes
 * to hold and reclaims from a new coordinator. Nothing of it is on disk.
 *
 * There are two operations, and both may be done twice (PROTOCOL.md, "Locks"):
 *   lock_get     makes stronger: afterwards the owner holds at least this much. May conflict or wait.
 *   lock_weaken  makes weaker: afterwards the owner holds at most this much. Never conflicts.
 * A fcntl that turns a write lock into a read lock is the one, then the other.
 *
 * An owner is (node, kind, owner): for a POSIX lock the kernel's owner stands for a process, for OFD and
 * flock for an open file. POSIX and OFD locks exclude each other; flock is a world of its own. A lock
 * remembers through which open file (handle) it was taken last, also when its owner had it already: it goes
 * with that handle.
 *
 * Invariants (lock_check)
 *  K1 two locks of one kind that overlap, of different owners, are both for reading;
 *  K2 one owner's locks of an inode do not overlap, and neighbours that could be one are one;
 *  K3 nobody waits for what nothing stands against, unless somebody has just let go, and it is to be looked at `again`;
 *     nobody waits in a circle, but for flock and what a search was too short to find;
 *  K4 the counts, in all and per node, are those of the lists.
 */
#ifndef CSVFS_COORDINATOR_LOCK_H
#define CSVFS_COORDINATOR_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/fsreq.h"
#include "csvfs/base/list.h"
#include "csvfs/base/mem.h"

#define LOCK_BUCKETS 1024
#define LOCK_WAIT_BUCKETS 256

struct lock_key {
	uint64_t ino, owner;
	uint32_t idx; /* of the node, 0 .. NODES_MAX-1 */
	bool flock;
};

struct lock {
	struct list link; /* of its inode, by where they begin; or staged */
	struct lock_key key;
	uint64_t handle;
	uint64_t start, end; /* bytes, the last one included */
	uint32_t pid; /* of who asked, on its node */
	bool write;
};

struct lock_ino {
	struct list hash, changed;
	uint64_t ino;
	struct list held; /* lock */
	struct list waiting; /* lock_wait, in order of arrival */
	uint32_t staged; /* so many locks of it */
};

/* Somebody who waits; the caller's memory, until lock_next_ended() or lock_leave(). */
struct lock_wait {
	struct list link, hash, ended;
	struct lock want;
	bool again; /* somebody has let go of a part of it, and nobody has looked since */
	int err; /* when ended: 0 granted, -EDEADLK, -ENOLCK */
	uint64_t seen; /* by which search for a deadlock */
};

struct lock_table {
	struct mem *mem;
	struct list bucket[LOCK_BUCKETS];
	struct list wait_bucket[LOCK_WAIT_BUCKETS];
	struct list changed; /* inodes: of some who wait it has to be looked `again` whether they may go on */
	struct list ended; /* lock_wait */
	struct list staged[NODES_MAX];
	uint32_t count, waits, node_count[NODES_MAX];
	uint32_t limit, node_limit;
	uint32_t tries; /* in this round: since lock_next_ended() gave NULL */
	uint64_t searches;
	uint64_t steps; /* locks and waits that were looked at for those who wait: what a request costs is limited */
};

/*
 * A node that has `node_limit` locks gets no more, and nobody when all have `limit`: -ENOLCK. What has been granted is
 * beyond that: to unlock the middle of a lock is allowed even then, and so is to reclaim what is left.
 */
void lock_init(struct lock_table *t, struct mem *mem, uint32_t limit, uint32_t node_limit);
/* Forgets everything, those who wait too: their memory is the caller's. */
void lock_reset(struct lock_table *t);

/*
 * 0; -EAGAIN: another owner's lock stands against it; -ENOLCK. Nothing has changed then. When it is granted, and its owner
 * waits elsewhere, the waiting of somebody else may end (-EDEADLK).
 */
int lock_get(struct lock_table *t, const struct lock *want);

/* After -EAGAIN: waits with w->want. -EDEADLK: each would wait for the other (not for flock). */
int lock_enqueue(struct lock_table *t, struct lock_wait *w);

/* Waits no longer. Harmless when it does not. */
void lock_leave(struct lock_table *t, struct lock_wait *w);

/*
 * Of its range want's owner keeps nothing, or, to_read, at most a read lock. -ENOLCK: a lock
 * would become two, and there is no memory; nothing has changed.
 */
int lock_weaken(struct lock_table *t, const struct lock *want, bool to_read);

/*
 * Memory for `n` locks, until lock_unreserve(); right after that so many more can be made. One lock_weaken needs two at most.
 * -ENOLCK: there is less, and it is in the (initialized) list.
 */
int lock_reserve(struct lock_table *t, struct list *spare, uint32_t n);
void lock_unreserve(struct lock_table *t, struct list *spare);

/* All that was taken through this open file, and all of a node. */
void lock_drop_handle(struct lock_table *t, uint64_t ino, uint32_t idx, uint64_t handle);
void lock_drop_node(struct lock_table *t, uint32_t idx);

/*
 * Whose waiting has ended, one per call, in order of arrival for each inode. NULL: no more, or that was enough for one
 * step: then `changed` is not empty, and the caller comes again after others had their turn.
 */
struct lock_wait *lock_next_ended(struct lock_table *t);

/* What stands against `want`, the one that begins first; NULL: nothing. */
const struct lock *lock_conflict(const struct lock_table *t, const struct lock *want);

/* Whether the owner holds a lock of that type that touches the range. */
bool lock_has(const struct lock_table *t, const struct lock *want, bool write);

/* To unlock that range would make two of one. */
bool lock_splits(const struct lock_table *t, const struct lock *want);

/*
 * The first part of `want`, from part->start on, of which the owner holds less: nothing, or (*to_read) a
 * read lock, when it is wanted for writing. False: there is none.
 */
bool lock_lacks(
	const struct lock_table *t, const struct lock *want, struct lock *part, bool *to_read);

/* Each lock in turn, in table order; NULL: the first, or no more. */
struct lock *lock_next(const struct lock_table *t, const struct lock *prev);

/*
 * What a node reclaims is put aside, until it has said all; then it replaces what was known of the node. lock_stage:
 * -ENOMEM. lock_stage_apply: -EEXIST, another node holds what this one claims, or it contradicts itself (the rest is in force);
 * nothing else can fail.
 */
int lock_stage(struct lock_table *t, const struct lock *l);
void lock_stage_clear(struct lock_table *t, uint32_t idx);
int lock_stage_apply(struct lock_table *t, uint32_t idx);

void lock_check(const struct lock_table *t);

#endif
