/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * verify_inode.h - verifiers of MAGIC_TREE, MAGIC_INODE and MAGIC_XATTR blocks: what one block alone
 * can show. verify.c calls them after each read and before each write, fsck as well; the header has
 * been verified before. Pure; they never read outside the block, whatever it holds.
 */
#ifndef CSVFS_METADATA_VERIFY_INODE_H
#define CSVFS_METADATA_VERIFY_INODE_H

#include <stdbool.h>

#include "metadata/format_inode.h"
#include "metadata/verify.h"

/*
 * PROBLEM_NONE when the block is good. `super`: for the size of the volume; NULL: numbers of blocks
 * and clusters are not compared with it. `rep` may be NULL.
 */
enum problem verify_tree(
	const void *block, const struct disk_super *super, struct verify_report *rep);
enum problem verify_inodes(
	const void *block, const struct disk_super *super, struct verify_report *rep);
enum problem verify_value(
	const void *block, const struct disk_super *super, struct verify_report *rep);

/* One node of `bytes` bytes, in a block of its own or within an inode; kind 0: any. */
enum problem verify_node(const uint8_t *node, uint32_t bytes, uint32_t kind,
	const struct disk_super *super, struct verify_report *rep);

/* One slot of a block of inodes; `ino` is the number that belongs to the slot. */
enum problem verify_inode(const struct disk_inode *in, uint64_t ino, const struct disk_super *super,
	struct verify_report *rep);

/* One leaf record of a tree: its value. */
enum problem verify_record(enum tree_kind kind, uint64_t key, const uint8_t *value, uint32_t len,
	const struct disk_super *super, struct verify_report *rep);

/* Clusters that may hold data: behind the fixed areas, in front of the one with the superblock's last copy. */
bool verify_clusters_for_data(const struct disk_super *super, uint64_t start, uint64_t clusters);

#endif
