/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * txn.h - what an operation sees of the metadata engine: cached blocks, and a transaction in which
 * it changes them.
 *
 * An operation is a plain function op_x(txn, ...) that runs to its end on cached blocks:
 *  - txn_get() of a block that is not cached gives -EAGAIN. The operation returns it at once; all it
 *    changed is undone; the engine reads the block and runs the operation again from its start.
 *  - Any other error (-ENOSPC, -EEXIST, -EUCLEAN ...) also undoes all that the operation changed.
 *    So an operation needs no cleanup of blocks, ever.
 *  - Success: its changes are part of the running transaction; its reply leaves when that
 *    transaction is durable (invariant 2). An operation that only read waits for the newest change
 *    it could have seen.
 */
#ifndef CSVFS_METADATA_TXN_H
#define CSVFS_METADATA_TXN_H

#include <stdbool.h>
#include <stdint.h>

#include "csvfs/base/list.h"
#include "csvfs/base/platform.h"
#include "metadata/format.h"
#include "metadata/problem.h"

struct vol;
struct txn;

/* A cached block. `data` is the current content, BLOCK_SIZE bytes; read it freely until you return. */
struct block {
	uint64_t blkno;
	uint8_t *data;
	/* The rest is the engine's. */
	struct block *hash;
	struct list lru;      /* on it while it may be evicted */
	struct list running;  /* changed (or forgotten) by the running transaction */
	struct list needed;   /* durable in the journal, not yet in its place; in order of journal_seq */
	struct list waiters;  /* requests that wait until it is read */
	uint64_t dirty_lsn;   /* newest transaction that changed it; 0: not since it was read */
	uint64_t journal_seq; /* its newest durable transaction that is still needed: first record, */
	uint64_t journal_lsn; /* lsn */
	uint64_t journal_at;  /* and where in the journal; journal_seq 0: in its place */
	uint64_t op, changed_op; /* last operation that used it, that changed it */
	uint64_t fetch;	      /* BLOCK_READING: number of the read that fills it */
	int32_t err;	      /* BLOCK_BAD */
	uint32_t magic;
	uint8_t state, flags;
};

/*
 * The block, verified to be of that type (magic) and to be where it says. `owner`: ino it must
 * belong to, or OWNER_ANY. 0, -EAGAIN (see above), -EUCLEAN (damaged: logged with the problem's code
 * and both values; the caller's request ends with EIO, the volume goes on), -EIO (medium).
 */
#define OWNER_ANY UINT64_MAX
int txn_get(struct txn *t, uint64_t blkno, uint32_t magic, uint64_t owner, struct block **out);

/*
 * From now on t may write b->data; what stood there comes back if the operation fails. An operation begins when there
 * is room for TXN_OP_BLOCKS different blocks (with txn_new, txn_forget). One that dirties more is put back, and waits for a
 * transaction that has room for what it really needs (-ENOMEM if none ever has); none dirties more than TXN_UNDO_BLOCKS.
 *
 * Counted for the worst volume: every block that is made or freed in a chunk, a group and a summary block of its own.
 *   a block made or freed       4   itself, the chunk's header, the group, the summary
 *   clusters taken (freed)      6 (2)   a group and its summary; taken: of the goal, the window, the new place
 *   a tree of L levels below the root, no deeper than TREE_LEVELS_MAX allows (9). Real ones have 2 (intents, orphans,
 *   attributes) to 5 (extents, names):
 *     insert   9 + 5 L   the root, two blocks below it; in each level one that is split, and one made
 *     delete   4 + 8 L   the root, which may go; in each level one that is emptied or merged, its neighbour; both may go
 *     at two places at once (the rest of an extent that is cut is another leaf's)   9 + 13 L
 *   the last things of an operation (TXN_END_BLOCKS)   35   an intent set (an insert) or taken away (a delete, L = 2), the two
 *       superblocks; a link's target of two blocks, the inode's slot; the reply
 * One that works in steps begins none with less room than EXTENT_STEP_BLOCKS, or what an attribute needs (xattr.c): at most 88
 * before the last step of the extents, 9 + 13 L + 6 in it, the last things behind it: 203 with a real tree, 311 with the
 * deepest there can be (in the intents, too). An attribute of 64 KiB put in place of another: 2 * 17 * 4, a delete and
 * an insert: 177, and 268. A rename: two trees of names, four inodes, the last things: 117, and 225. The most is what changes
 * size, mode and capabilities at once: a step of the extents and an intent, a list of two blocks in place of another,
 * an attribute that goes: 330, and 563.
 */
#define TXN_OP_BLOCKS 128
#define TXN_UNDO_BLOCKS 576
#define TXN_END_BLOCKS 35
void txn_dirty(struct txn *t, struct block *b);

/*
 * A block just allocated: its content is not read; it is zero but for its header, and dirty.
 * -EAGAIN when the cache has no room at this moment.
 */
int txn_new(struct txn *t, uint64_t blkno, uint32_t magic, uint64_t owner, struct block **out);

/* The block is freed in this transaction: its image need not be journaled any more. */
void txn_forget(struct txn *t, uint64_t blkno);

/* The operation changes something of this inode that its attributes, or a lookup in it, show. */
void txn_changes(struct txn *t, uint64_t ino);

/* How many of TXN_OP_BLOCKS are left: for work done in bounded steps. */
uint32_t txn_room(const struct txn *t);

/* There is background work now (an intent or orphan was made): vol_ops.background will be called. */
void txn_kick(struct txn *t);

/* LSN that the running transaction will have. */
uint64_t txn_lsn(const struct txn *t);

/*
 * What stands in (verified) blocks contradicts itself, or another block. Logs the problem's name, the
 * block, the inode (0: none) and both values; returns -EUCLEAN, for the caller to return.
 */
int txn_damaged(struct txn *t, enum problem p, uint64_t blkno, uint64_t ino, uint64_t found,
	uint64_t expected);

/* vol_config.ino_is_open */
bool txn_ino_is_open(struct txn *t, uint64_t ino);

struct vol *txn_vol(struct txn *t);
int64_t txn_time(const struct txn *t); /* wall clock of the request, ns */
/* Superblock, cached and verified; to change it: txn_super_dirty. */
const struct disk_super *txn_super(struct txn *t);
struct disk_super *txn_super_dirty(struct txn *t);

/*
 * What the engine calls: ops.c's `metadata_ops`, or those of a test. Each runs as one operation: its
 * changes stay if it returns 0 (or -EINPROGRESS), else they are undone.
 */
struct vol_req;
struct vol_ops {
	/*
	 * r->rq to r->reply. The engine has zeroed the reply, but for the room given for data and
	 * extents. Returns what goes into reply.err, or -EAGAIN, or -EINPROGRESS: this step's changes
	 * stay, call again (r->step is the operation's own; it comes back to what it was if the step
	 * is undone). A recorded request (id.slot != 0) is recorded with reply.attr.ino,
	 * attr.generation, attr.mode and off.
	 */
	int (*execute)(struct txn *t, struct vol_req *r);
	/*
	 * The request was executed before: reply.attr.ino, attr.generation, attr.mode and off stand as
	 * recorded; fill in what else a reply of this kind has (attr.ino 0: nothing).
	 */
	int (*replied)(struct txn *t, struct vol_req *r);
	/* The first operation of a new volume: the root directory; sets super.root_ino. */
	int (*make_root)(struct txn *t);
	/*
	 * One bounded step of work that nobody waits for (intents): of the first inode behind *ino, which
	 * it then is. 0: a step was done, call again; -ENOENT: there is nothing to do behind *ino. Called
	 * after vol_open and txn_kick().
	 */
	int (*background)(struct txn *t, uint64_t *ino);
};

/* ---- alloc.c: space. All return 0, -EAGAIN, -ENOSPC, -EUCLEAN. */

/* One metadata block, near `near` if possible. May use the reserve if `reserve` is set. */
int alloc_block(struct txn *t, uint64_t near, bool reserve, uint64_t *blkno);
int alloc_free_block(struct txn *t, uint64_t blkno);

/* A slot for an inode: ino = blkno << 3 | slot, slot 1 .. INODES_PER_BLOCK. `*is_new`: block is new. */
int alloc_inode(struct txn *t, uint64_t parent_ino, uint64_t *ino, bool *is_new);
int alloc_free_inode(struct txn *t, uint64_t ino);

/*
 * For an ino that came from outside and may name no inode at all (any number; a file handle kept for
 * years). 0: that slot is in use; -ESTALE: it is not, or there is no inode block.
 */
int alloc_inode_used(struct txn *t, uint64_t ino);

/*
 * A run of 1 .. want clusters for data: near `goal` (cluster number, 0: no wish), in the window of
 * writer `who` (node id and ino, mixed). `*got` may be less than want. -ENOSPC when only the reserve is left.
 */
int alloc_clusters(
	struct txn *t, uint64_t goal, uint64_t who, uint32_t want, uint64_t *start, uint32_t *got);

/* Not reused before the transaction that freed them is durable (invariant 8). */
int alloc_free_clusters(struct txn *t, uint64_t start, uint32_t count);

void alloc_statfs(struct vol *v, struct fs_statfs *st);
/*
 * Before it, for the number of inodes in use: counts on. 0: done; -EINPROGRESS: there are more. What is counted
 * stays so, whatever becomes of the operation.
 */
int alloc_count_inodes(struct txn *t);

#endif
