/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format_inode.h - inodes, trees, directory entries, extended attributes, orphans, intents on disk.
 * Areas, block header and space: format.h. Prose with every bit: FORMAT.md.
 *
 *   inode block   MAGIC_INODE, header.owner 0: header, then INODES_PER_BLOCK inodes of 576 bytes.
 *   tree node     MAGIC_TREE, header.owner = ino the tree belongs to (0: a tree of the superblock).
 *   value block   MAGIC_XATTR, header.owner = ino: a piece of a large xattr value or symlink target.
 *
 * An inode number names its place: ino = block number << 3 | slot, slot 1 .. 7. Slot s is the
 * (s-1)th inode of its block.
 */
#ifndef CSVFS_METADATA_FORMAT_INODE_H
#define CSVFS_METADATA_FORMAT_INODE_H

#include "metadata/format.h"

/* ------------------------------------------------------------------ trees */

/*
 * All trees are one kind of B+tree: keys are 64-bit and unique, values are 0 .. TREE_VALUE_MAX
 * bytes. A node is a buffer of `size` bytes:
 *
 *   struct disk_node, then `count` slots in ascending order of key, then free room, then at
 *   [heap, size) the values, in any order. Of the heap `frag` bytes belong to no slot.
 *   So: sizeof(disk_node) + 12 * count <= heap <= size, and sum of slot.len + frag == size - heap.
 *
 * Level 0: a leaf, the slots are the tree's records. Level n > 0: the value of a slot is the le64
 * block number of a node of level n - 1 whose keys are >= the slot's key and < the next slot's key.
 * The first slot of an inner node has key 0, which stands for the lower bound of the node itself.
 *
 * The root never moves: it is the inline area of the inode (extents, directories), or a block that
 * the superblock or inode points to (orphans, intents, xattrs; pointer 0: the tree is empty). When
 * it is full its content moves into a new block and the root becomes one level higher; when what is
 * below fits into it again, it comes back. Every other node is a MAGIC_TREE block and never empty.
 * A leaf root in the inode may be empty; an inner root has at least one child.
 */
struct disk_node {
	uint8_t kind;  /* enum tree_kind */
	uint8_t level; /* 0: leaf */
	le16 count;
	le16 heap; /* offset in the node of the lowest byte of values; size when there is none */
	le16 frag; /* bytes of the heap that no slot uses */
};
_Static_assert(sizeof(struct disk_node) == 8, "format");

struct disk_slot {
	le64 key;
	le16 off; /* of the value, from the start of the node */
	le16 len;
};
_Static_assert(sizeof(struct disk_slot) == 12, "format");

#define TREE_NODE_BYTES (BLOCK_SIZE - (unsigned int)sizeof(struct disk_header)) /* 4032 */
struct disk_tree_block {
	struct disk_header h;
	uint8_t node[TREE_NODE_BYTES];
};
_Static_assert(sizeof(struct disk_tree_block) == BLOCK_SIZE, "format");

#define TREE_LEVELS_MAX 10 /* levels 0 .. 9 */
#define TREE_VALUE_MAX 1000u

enum tree_kind {
	TREE_EXTENTS = 1, /* root inline in a regular file. key: offset in the file, in clusters */
	TREE_DIR = 2,	  /* root inline in a directory. key: cookie of the name */
	TREE_XATTRS = 3,  /* root block: inode.xattr_root. key: cookie of the name */
	TREE_ORPHANS = 4, /* root block: super.orphan_root. key: ino; value: none */
	TREE_INTENTS = 5, /* root block: super.intent_root. key: ino; value: struct disk_intent */
};

/* Value of TREE_EXTENTS. Extents do not overlap; what no extent covers is a hole. */
struct disk_extent {
	le64 start; /* first cluster on the LUN (cluster number of the volume: lun offset / cluster) */
	le32 len;   /* clusters, 1 .. EXTENT_LEN_MAX */
	le32 state; /* enum ext_state of fsreq.h: UNWRITTEN 1, WRITTEN 2, SHARED 3 */
};
_Static_assert(sizeof(struct disk_extent) == 16, "format");
#define EXTENT_LEN_MAX 0x80000000u

/*
 * The cookie of a name: h = SipHash-2-4(super.dir_hash_key, name); bucket = (h >> 1) & ~255, but 256
 * for 0 and 2^63 - 512 for the highest, 2^63 - 256; cookie = bucket + index, index 0 .. 255 the
 * first free one when the entry was made. A cookie never changes while its entry stays, fits
 * a positive off_t, and leaves 0, 1 (".") and 2 ("..") free. Names of one directory (one
 * xattr tree) are unique.
 */
#define COOKIE_INDEX_MAX 255u
#define COOKIE_DOT 1
#define COOKIE_DOTDOT 2

/* Value of TREE_DIR: this, then the name (1 .. 255 bytes, no '/', no zero byte, not "." or ".."). */
struct disk_dirent {
	le64 ino;
	uint8_t type; /* S_IFMT bits of mode >> 12 */
	/* uint8_t name[len - 9] */
};
#define DIRENT_BYTES 9u
_Static_assert(sizeof(struct disk_dirent) == DIRENT_BYTES, "format");

/*
 * Value of TREE_XATTRS: this, then the name (1 .. 255 bytes, no zero byte), then the value itself
 * (XATTR_INLINE) or le64 numbers of the value blocks (XATTR_BLOCKS), which are full but the last.
 */
enum xattr_place { XATTR_INLINE = 0, XATTR_BLOCKS = 1 };
struct disk_xattr {
	le32 value_bytes; /* 0 .. XATTR_BYTES_MAX */
	uint8_t name_bytes;
	uint8_t place; /* enum xattr_place */
};
_Static_assert(sizeof(struct disk_xattr) == 6, "format");
#define XATTR_INLINE_MAX 704u /* bytes of value; longer ones are in blocks */

#define VALUE_BLOCK_BYTES (BLOCK_SIZE - (unsigned int)sizeof(struct disk_header) - 16u) /* 4016 */
struct disk_value_block {
	struct disk_header h;
	le32 index; /* 0, 1, ...: which piece of the value */
	le32 len;   /* bytes used of data; the rest is zero */
	le64 reserved;
	uint8_t data[VALUE_BLOCK_BYTES];
};
_Static_assert(sizeof(struct disk_value_block) == BLOCK_SIZE, "format");
#define VALUE_BLOCKS_MAX ((XATTR_BYTES_MAX + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES) /* 17 */

/*
 * Value of TREE_INTENTS: work on an inode that is longer than one transaction. It is gone on with
 * in the background and after a crash. One at most per inode; inode.flags says which.
 */
enum intent_op {
	INTENT_TRUNCATE = 1, /* free all extents from cluster `from` of the file on */
	INTENT_FREE = 2,     /* nlink is 0 and nobody has it open: free all of it, then the inode */
	INTENT_PUNCH = 3,    /* free all extents in clusters [from, to) of the file */
	INTENT_ZERO = 4,     /* make them UNWRITTEN */
};
struct disk_intent {
	le32 op;
	le32 reserved0;
	le64 from, to; /* to: of INTENT_PUNCH and INTENT_ZERO; else 0 */
	le64 reserved;
};
_Static_assert(sizeof(struct disk_intent) == 32, "format");

/* ------------------------------------------------------------------ inodes */

#define INODE_BYTES 576u
#define INODES_PER_BLOCK 7u
#define INODE_INLINE_BYTES 432u
#define INO_BLOCK(ino) ((uint64_t)(ino) >> 3)
#define INO_SLOT(ino) ((unsigned int)((ino) & 7)) /* 1 .. 7; 0 is no inode */
#define INO_MAKE(blkno, slot) ((uint64_t)(blkno) << 3 | (uint64_t)(slot))

#define INODE_ORPHAN (1u << 0)	 /* nlink 0 and kept, in the orphan tree, while a node has it open */
#define INODE_TRUNCATE (1u << 1) /* an intent about its extents stands for it: all but INTENT_FREE */
#define INODE_FREEING (1u << 2)	 /* INTENT_FREE stands for it: for requests it is gone (ESTALE) */
#define INODE_KEEP (1u << 3) /* regular file: fallocate put space behind its end, which stays at close */
#define INODE_NAMELESS (1u << 4) /* an ORPHAN that never had a name (O_TMPFILE): a link may give it one */
#define INODE_CAPS (1u << 5) /* regular file: security.capability was set, and may be there: a write takes it away */
#define INODE_FLAGS_KNOWN 63u

/*
 * A free slot has mode 0, its generation is that of its last inode (0: never used) and all else is
 * zero. A new inode in a used slot gets generation + 1, in a never used one a random 31-bit number.
 */
struct disk_inode {
	le64 ino; /* its own number; 0 when free */
	le64 generation;
	le64 size;	  /* bytes; of a directory: number of entries, without "." and ".." */
	le64 clusters;	  /* of a regular file: clusters its extents hold */
	le64 tree_blocks; /* MAGIC_TREE blocks below the inline root (not those of xattrs) */
	le32 mode;	  /* as st_mode, with type; 0: free */
	le32 uid, gid;
	le32 nlink; /* of a directory: 2 + number of subdirectories */
	le32 rdev;
	le32 flags; /* INODE_* */
	le64 atime_ns, mtime_ns, ctime_ns, btime_ns; /* signed, since 1970 UTC */
	le64 version;	  /* of the layout: grows when extents change other than by allocation */
	le64 parent;	  /* of a directory: ino of "..", the root's is its own; else 0 */
	le64 xattr_root;  /* block of the root of TREE_XATTRS; 0: none */
	le32 xattr_count;
	le32 xattr_names; /* bytes that all names take in listxattr: each with its ending zero */
	le64 reserved[2];
	/*
	 * Regular file, directory: the root node of its tree, INODE_INLINE_BYTES long.
	 * Symlink: the target (size <= INODE_INLINE_BYTES, no ending zero), else the le64 numbers of
	 * its value blocks. Other types: zero.
	 */
	uint8_t area[INODE_INLINE_BYTES];
};
_Static_assert(offsetof(struct disk_inode, generation) == 8, "format");
_Static_assert(offsetof(struct disk_inode, size) == 16, "format");
_Static_assert(offsetof(struct disk_inode, clusters) == 24, "format");
_Static_assert(offsetof(struct disk_inode, tree_blocks) == 32, "format");
_Static_assert(offsetof(struct disk_inode, mode) == 40, "format");
_Static_assert(offsetof(struct disk_inode, uid) == 44, "format");
_Static_assert(offsetof(struct disk_inode, gid) == 48, "format");
_Static_assert(offsetof(struct disk_inode, nlink) == 52, "format");
_Static_assert(offsetof(struct disk_inode, rdev) == 56, "format");
_Static_assert(offsetof(struct disk_inode, flags) == 60, "format");
_Static_assert(offsetof(struct disk_inode, atime_ns) == 64, "format");
_Static_assert(offsetof(struct disk_inode, mtime_ns) == 72, "format");
_Static_assert(offsetof(struct disk_inode, ctime_ns) == 80, "format");
_Static_assert(offsetof(struct disk_inode, btime_ns) == 88, "format");
_Static_assert(offsetof(struct disk_inode, version) == 96, "format");
_Static_assert(offsetof(struct disk_inode, parent) == 104, "format");
_Static_assert(offsetof(struct disk_inode, xattr_root) == 112, "format");
_Static_assert(offsetof(struct disk_inode, xattr_count) == 120, "format");
_Static_assert(offsetof(struct disk_inode, xattr_names) == 124, "format");
_Static_assert(offsetof(struct disk_inode, reserved) == 128, "format");
_Static_assert(offsetof(struct disk_inode, area) == 144, "format");
_Static_assert(sizeof(struct disk_inode) == INODE_BYTES, "format");

struct disk_inode_block {
	struct disk_header h;
	struct disk_inode slot[INODES_PER_BLOCK];
};
_Static_assert(sizeof(struct disk_inode_block) == BLOCK_SIZE, "format");

#endif
