/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * btree.h - the one B+tree: extents, directory entries, xattrs, orphans, intents.
 *
 * Keys are unique 64-bit numbers, values 0 .. TREE_VALUE_MAX bytes. The root never moves: it lies
 * within an inode, or in a block of its own that the inode or superblock points to (format_inode.h).
 *
 * Every function returns 0 or a negative errno; -EAGAIN, -ENOSPC, -EUCLEAN, -EIO come from below and
 * mean, as for every operation, that the engine undoes whatever was changed.
 */
#ifndef CSVFS_METADATA_BTREE_H
#define CSVFS_METADATA_BTREE_H

#include "metadata/format_inode.h"
#include "metadata/txn.h"

/* A tree in use. Filled by tree_inline() or tree_block(); valid within one operation. */
struct tree {
	struct txn *t;
	enum tree_kind kind;
	bool reserve; /* new nodes may come from the metadata reserve (work that must not fail) */
	uint64_t owner; /* ino that its blocks name as owner; 0: the superblock */

	struct block *holder; /* inline root: the block that root lies in */
	uint8_t *root;
	uint32_t root_bytes;
	uint64_t root_blkno; /* block root; 0: empty. Changes: the caller stores it if it differs */

	int64_t block_delta; /* nodes below an inline root, or all of a block root, made less freed */
};

/* A record found. `value` lies in the block: valid until the tree is changed. */
struct tree_rec {
	uint64_t key;
	const uint8_t *value;
	uint32_t len;
};

/* The root is `root`, `root_bytes` long, within block `holder`. */
void tree_inline(struct tree *tr, struct txn *t, enum tree_kind kind, uint64_t owner,
	struct block *holder, uint8_t *root, uint32_t root_bytes);

/* The root is a block, or none (0). */
void tree_block(
	struct tree *tr, struct txn *t, enum tree_kind kind, uint64_t owner, uint64_t root_blkno);

/* An empty leaf, for a new inode's inline root. */
void tree_format_root(uint8_t *root, uint32_t root_bytes, enum tree_kind kind);

/* -ENOENT when there is none: the record with this key; the first one with a key >= (of all); the
 * last one with a key <=. */
int tree_get(struct tree *tr, uint64_t key, struct tree_rec *rec);
int tree_seek(struct tree *tr, uint64_t key, struct tree_rec *rec);
int tree_floor(struct tree *tr, uint64_t key, struct tree_rec *rec);

/* -EEXIST. `value` must not lie in the tree. */
int tree_insert(struct tree *tr, uint64_t key, const void *value, uint32_t len);
/* -ENOENT. The new value may have another length. `value` must not lie in the tree. */
int tree_update(struct tree *tr, uint64_t key, const void *value, uint32_t len);
/* -ENOENT. */
int tree_delete(struct tree *tr, uint64_t key);

/*
 * Walks in order of key, forward. cur is filled by tree_first() (first key >= `key`) and moved by
 * tree_next(); -ENOENT at the end. The tree must not change meanwhile.
 */
struct tree_cursor {
	struct tree *tr;
	uint32_t depth; /* steps in use; 0: at the end */
	struct tree_step {
		struct block *b;
		uint8_t *node;
		uint32_t bytes;
		uint32_t pos;
	} at[TREE_LEVELS_MAX];
};
int tree_first(struct tree *tr, uint64_t key, struct tree_cursor *cur, struct tree_rec *rec);
int tree_next(struct tree_cursor *cur, struct tree_rec *rec);

#endif
