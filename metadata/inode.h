/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inode.h - one inode in its cached block; orphans and intents.
 *
 * A struct inode is a view: valid within one operation. Read in->d freely; before a change call
 * inode_dirty(). All functions return 0 or a negative errno; -EAGAIN and the like as in txn.h.
 */
#ifndef CSVFS_METADATA_INODE_H
#define CSVFS_METADATA_INODE_H

#include "metadata/btree.h"

struct inode {
	struct txn *t;
	struct block *b;
	struct disk_inode *d;
	uint64_t ino;
};

/* -ESTALE: the slot is free, or the inode is being freed. For numbers from our own blocks. */
int inode_get(struct txn *t, uint64_t ino, struct inode *in);
/* The same for a number from outside: any number at all. */
int inode_get_outside(struct txn *t, uint64_t ino, struct inode *in);
/* The same, and an inode that is being freed is given too. */
int inode_get_freeing(struct txn *t, uint64_t ino, struct inode *in);

void inode_dirty(const struct inode *in);

/*
 * A new inode near its parent (0: the root), with type and mode, times set to now, nlink 0, and the
 * empty area that its type asks for. The caller sets the rest in this operation.
 */
int inode_new(struct txn *t, uint64_t parent_ino, uint32_t mode, struct inode *in);

/* The slot is free again. Everything it held has been freed before. */
int inode_free(const struct inode *in);

uint32_t inode_mode(const struct inode *in);
uint32_t inode_type(const struct inode *in); /* S_IFMT bits */
uint32_t inode_flags(const struct inode *in);
void inode_attr(const struct inode *in, struct fs_attr *attr);

/* Sets the ctime to now; the mtime too. */
void inode_touch_ctime(const struct inode *in);
void inode_touch_mtime(const struct inode *in);

/* The inode's extents or directory entries. After changes: inode_tree_done(). */
void inode_tree(const struct inode *in, struct tree *tr);
void inode_tree_done(const struct inode *in, const struct tree *tr);

/* The inode has no link and some node has it open: keep it until inode_orphan_remove(). */
int inode_orphan_add(const struct inode *in);
int inode_orphan_remove(const struct inode *in);
/* The first orphan with a number > after; -ENOENT. */
int inode_orphan_next(struct txn *t, uint64_t after, uint64_t *ino);

/* Work that goes on in later transactions. One for an inode: a new one takes the old one's place. */
int inode_intent_set(const struct inode *in, enum intent_op op, uint64_t from, uint64_t to);
int inode_intent_clear(const struct inode *in);
int inode_intent_get(const struct inode *in, struct disk_intent *it);
/* The first inode with an intent and a number > after; -ENOENT. */
int inode_intent_next(struct txn *t, uint64_t after, uint64_t *ino, struct disk_intent *it);

#endif
