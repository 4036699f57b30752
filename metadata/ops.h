/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops.h - file-system operations: what the engine runs for each request.
 *
 * Each is straight code on a transaction (txn.h): it runs to its end, or is undone and run again.
 * What is longer than one transaction is cut into steps that each leave a sound volume:
 *  - Truncate and unlink of a large file, a punch and a zeroed range take effect at once; what is left to do is done in the
 *    background (intents). A request that changes the same file's extents before that is done does a
 *    step of it first (-EINPROGRESS).
 *  - Fallocate (which shows nothing before it is done), commit of many ranges, a search for data or a hole: -EINPROGRESS until done.
 *
 * Contracts with whoever asks
 *  1. Permissions have been checked by the kernel (default_permissions); sticky bits too. Setgid
 *     directories, POSIX ACLs (inheritance, their mode bits), link limits and types are handled here.
 *  2. Before a shrinking SETATTR, PUNCH_HOLE, ZERO_RANGE and FS_CLOSE of the last opener, layouts
 *     that cover what goes are recalled, and what was first-written there is committed.
 *  3. Invariant 6 at a cluster that is cut: what a WRITTEN cluster holds behind the file's end is unknown. So
 *     who makes a file longer, by SETATTR, FALLOCATE or a write that leaves a gap, zeroes the rest of the cluster in which
 *     it ended on the LUN first (as far as it is WRITTEN); who shrinks it to the middle of one does so behind the new end,
 *     since APPEND sets the size before anything is written; and who punches or zeroes a range zeroes the parts of
 *     clusters at its two ends, and says FS_EDGES_ZEROED: without, a range that ends within a WRITTEN
 *     cluster before the end of the file is refused (EOPNOTSUPP). Here only whole clusters are freed
 *     or made UNWRITTEN. Of a first write every byte of the cluster that is not data is zero.
 *  4. Before LSEEK, what was first-written is committed, and by whom a right to first-write was given, given back:
 *     UNWRITTEN counts as a hole.
 *  5. FS_LAYOUT_GET answers with pieces without a gap from the cluster of `off` on, as many as there
 *     is room for; holes are pieces too. With FS_LAYOUT_WRITE it succeeds when the cluster of
 *     `off` has space; where space ends early, a hole follows: ask again from there (-ENOSPC). With
 *     FS_LAYOUT_AROUND written extents that end at `off` may come first. With FS_LAYOUT_NEAR behind the
 *     range come only pieces that wait to be written.
 *  6. FS_CLOSE, or FS_FREE_ORPHAN with an ino, is given here when no node has the file open any more
 *     (ino_is_open says no): an orphan is freed; of another file space ahead of its end is taken
 *     back. Safe to repeat, safe to omit.
 *     With FS_TRIM_OPEN also while it is open: who asks knows that no node has a layout of it.
 *  7. FS_FREE_ORPHAN with ino 0: frees the first orphan with a number > off that nobody has open;
 *     reply.off is its number; -ENOENT: none is left. So all orphans after a crash: off = 0, then
 *     the last reply's.
 */
#ifndef CSVFS_METADATA_OPS_H
#define CSVFS_METADATA_OPS_H

#include "metadata/txn.h"
#include "metadata/volume.h"

/* For vol_config.ops. */
extern const struct vol_ops metadata_ops;

/* As struct vol_ops says (txn.h). */
int op_execute(struct txn *t, struct vol_req *r);
int op_replied(struct txn *t, struct vol_req *r);
int op_background(struct txn *t, uint64_t *ino);
int inode_make_root(struct txn *t);

/* The first orphan with a number > after; -ENOENT. */
int op_next_orphan(struct txn *t, uint64_t after, uint64_t *ino);

#endif
