/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mend.h - repair: how a damaged volume becomes a sound one.
 *
 *   check -> skeleton -> ( check -> mend )... -> clean -> commit
 *
 * Nothing is written at first. Each block that is to be changed is *put* into a table in memory, and
 * every later read sees it there. So the whole check runs on the volume as it would be, and what one
 * round has mended the next one looks at. Rules:
 *
 *  M1. Only a volume that the check finds clean in memory is written. What cannot be made clean stays
 *      as it is.
 *  M2. Blocks are written through the journal, in transactions: a torn or a lost write is replayed. A
 *      transaction holds new tree nodes before what points to them, and nothing overwrites a
 *      block that is in use otherwise; so wherever power fails, a further repair finds as much.
 *  M3. The claim is held, in a new epoch, from the first write to the last: a volume with half a repair
 *      is not taken for one that was unmounted in order, and late writes of dead nodes are refused. Who has it taken
 *      (check_dev.claim) has seen to it that the volume is as it was when the check began.
 *  M4. The more fundamental goes first, and each round mends one stratum: blocks and chunks, then
 *      inodes and trees, clusters, names, links, and in the end maps and counters, which follow from all.
 *  M5. What was reachable and sound stays so. Clusters that two files have are copied; who has lost
 *      its name goes to lost+found.
 *
 * vote.c      three superblocks with wrong checksums: what most of them say
 * skeleton.c  groups, chunks and their headers, superblock, claim: so that everything can be found
 * kind.c      what an inode is, when its mode or its size does not say it
 * restore.c   a single block: a flipped bit, a block in another's place, an inode block's sound inodes
 * gather.c    the records of a damaged tree: from its own nodes, and from leaves that were cut off
 * build.c     a tree of records; free blocks
 * mend.c      the rounds; inodes
 * names.c     entries, links, lost+found, orphans, intents
 * repair.c    maps and counters
 * commit.c    writing
 */
#ifndef CSVFS_TOOLS_CHECK_MEND_H
#define CSVFS_TOOLS_CHECK_MEND_H

#include "tools/check/internal.h"

#define CK_ROUNDS_MAX 40u
#define CK_PROBED_MAX 256u
#define CK_SUSPECTS_MAX 1024u
#define CK_NAMINGS_MAX 64u
#define CK_NUMBER_MAX (1ull << 62) /* no epoch or lsn is higher; a damaged one may be */

struct ck_put {
	uint64_t blkno;
	uint8_t *data; /* NULL: free place in the table */
};

/* A record of a tree that is being made anew. */
struct ck_rec {
	uint64_t key;
	uint64_t rank; /* of two with one key the higher counts */
	const uint8_t *value;
	uint32_t len;
};

/* Records, in the arena: the table from its start, values from its end. */
struct ck_recs {
	struct ck_rec *rec;
	uint64_t count;
	uint8_t *values; /* lowest byte in use */
	bool full;
};

struct ck_copy {
	uint64_t from, to;
};

/* A leaf that no tree led to. */
struct ck_leaf {
	uint64_t owner, blkno, lsn;
	uint8_t kind;
	uint8_t pad[7];
};

struct ck_mend {
	struct mem
		keep; /* lives as long as the repair; the check's own memory starts anew each round */
	uint8_t *arena;
	size_t arena_bytes;
	struct ck_put *puts;
	uint32_t put_room, put_count;
	uint64_t epoch, lsn; /* of all that is written */
	uint64_t next_seq; /* of a journal record */
	uint64_t changes; /* puts that made a difference, in this round */
	bool salvage; /* the journal's run is broken: take what is whole in the ring */
	bool skeleton; /* it was made */
	bool missed; /* something leads to a chunk that no group names */
	bool dirs_lost; /* entries were lost somewhere: who has no name may have had one */
	uint64_t probed[CK_PROBED_MAX]; /* chunks whose header was lost */
	uint32_t probed_count;
	uint64_t suspect
		[CK_SUSPECTS_MAX]; /* inodes whose extents were mended: they may be wrong still */
	uint32_t suspect_count;
	bool suspects_turn;
	uint32_t namings; /* inodes whose name was looked for */
	bool no_room, no_memory;
	struct ck_copy *copies; /* clusters, in the order in which they are to be made */
	uint32_t copy_count, copy_room;
	uint64_t written; /* blocks */
	uint64_t found_again, cleared;

	/* Of one round. */
	struct ck_leaf *leaves; /* at the start of the arena, sorted by owner */
	uint64_t leaf_count;
	bool leaves_known;
	uint64_t alloc_group; /* where the last free block was found */
	uint64_t data_at; /* the cluster behind the last one that was allocated */
	struct naming *naming; /* the inode whose name is looked for */
	uint64_t lost_found; /* ino */
	uint64_t lost; /* inodes that no entry leads to */
	struct ck_recs *recs; /* that ck_inodes_each() adds to */
	uint64_t recs_before; /* of those: sorted */
};

static inline bool ck_is_dir(const struct ck_inode *i)
{
	return i->type == 4; /* S_IFDIR >> 12 */
}

/* ---- mend.c */
/* The block as it is to be; NULL: not changed. */
const void *ck_put_find(const struct check *c, uint64_t blkno);
/* Seals the block (not one of inodes only: any with a header) and notes it. */
void ck_put(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, void *block);
/* The same for a block that is sealed already. */
void ck_put_sealed(struct check *c, uint64_t blkno, const void *block);
/* Reads into `block` what stands there, if it is valid; nothing is reported. */
bool ck_try(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, void *block);
/* A copy of the inode. False: its block cannot be read. */
bool ck_inode_get(struct check *c, uint64_t ino, struct disk_inode *out);
void ck_inode_put(struct check *c, uint64_t ino, const struct disk_inode *d);

/* ---- vote.c */
/* The volume as it is to be repaired: with a superblock, if those that are there can be put together. */
const struct check_dev *ck_vote(const struct check_dev *dev, struct mem *mem);

/* ---- kind.c */
/* The type that the inode has by what it holds, if its mode cannot be right. False: it is not in use. */
bool ck_mend_mode(struct check *c, uint64_t ino, struct disk_inode *d);
/* A link's size and target. False: its target is lost. */
bool ck_mend_symlink(struct check *c, uint64_t ino, struct disk_inode *d);
/* A file's size, if it cannot be right. */
void ck_mend_size(struct check *c, uint64_t ino, struct disk_inode *d);

/* ---- restore.c */
/* What can be had of a block whose header is not right; it is put. NULL: nothing. */
const void *ck_restore(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner);

/* ---- skeleton.c */
int ck_skeleton(struct check *c);
/* The chunk at `blkno` holds metadata from now on, if it did not. */
/* `fresh`: without anything in it; else with what stands there. */
void ck_chunk_add(struct check *c, uint64_t blkno, bool inode, bool fresh);
/* Block of a chunk is marked as in use, with these slots. */
void ck_chunk_mark(struct check *c, uint64_t blkno, uint8_t slots);

/*
 * Something leads to the block of an inode, or of its tree, in a place that no group names. If what
 * stands there agrees, it is a chunk from now on.
 */
void ck_missed_inode(struct check *c, uint64_t ino);
void ck_missed_block(struct check *c, uint64_t blkno, uint64_t ino);

/* ---- gather.c */
void ck_recs_start(struct check *c, struct ck_recs *r);
void ck_recs_add(struct ck_recs *r, uint64_t key, uint64_t rank, const void *value, uint32_t len);
/* In order of key; of equal keys one stays. */
void ck_recs_sort(struct ck_recs *r);
/* All records of a tree: what its root leads to, and where that is broken, what else says it is of it. */
void ck_gather(struct check *c, struct ck_recs *r, enum tree_kind kind, uint64_t ino,
	const uint8_t *root, uint32_t root_bytes);
void ck_gather_block(
	struct check *c, struct ck_recs *r, enum tree_kind kind, uint64_t ino, uint64_t root_blkno);
/* Leaves that nothing leads to, of this owner; *count of them. */
const struct ck_leaf *ck_leaves(struct check *c, uint64_t owner, uint64_t *count);
/* Only those records stay that the format allows. */
void ck_extents_fit(struct check *c, struct ck_recs *r);
void ck_names_fit(struct check *c, struct ck_recs *r);
void ck_xattrs_fit(struct check *c, struct ck_recs *r, uint64_t ino, uint64_t *names_bytes);

/* ---- build.c */
/* 0: there is none. The block is in use from then on. */
uint64_t ck_block_alloc(struct check *c);
uint64_t ck_chunk_alloc(struct check *c, bool inode);
uint64_t ck_inode_alloc(struct check *c);
/* A free cluster for data; UINT64_MAX: none. */
uint64_t ck_cluster_alloc(struct check *c);
/* The tree with root in an inode's area. *blocks: below it. False: no room, nothing is put. */
bool ck_build(struct check *c, const struct ck_recs *r, enum tree_kind kind, uint64_t ino,
	uint8_t area[INODE_INLINE_BYTES], uint64_t *blocks);
/* The tree with a root of its own; *root 0: no records. */
bool ck_build_block(struct check *c, const struct ck_recs *r, enum tree_kind kind, uint64_t ino,
	uint64_t *root);

/* ---- names.c */
int ck_mend_names(struct check *c);
int ck_mend_links(struct check *c);
int ck_mend_lists(struct check *c);
bool ck_mend_root(struct check *c);

/* ---- repair.c */
void ck_mend_numbers(struct check *c);
void ck_mend_maps(struct check *c);
void ck_mend_supers(struct check *c);

/* ---- ring.c */
/* All whole transactions in the ring, wherever the heads say that it begins. */
int ck_ring_scan(struct check *c);
/* Their newest images, where they are newer than what stands in place, are laid over the volume. */
int ck_ring_apply(struct check *c);
/* The newest image of the block in the ring; NULL: none. */
const void *ck_ring_image(struct check *c, uint64_t blkno);

/* ---- commit.c */
int ck_commit(struct check *c);

#endif
