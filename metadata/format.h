/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * format.h - the volume on disk: areas, block header, superblock, space, journal, reply cache.
 * Inodes, trees and directories: format_inode.h. Prose with every bit: FORMAT.md.
 *
 *   block 0          superblock
 *   block 1, 2       claim (csvfs/base/claim.h; outside the journal, written by coordinator/)
 *   block 3          superblock, copy; another copy is the last whole block of the volume
 *   block 4 .. 7     reserved
 *   block 8 .. 71    reply cache, one block per node slot
 *   summary area     4 bytes per group
 *   group area       one block per group; a block not yet used is not written by mkfs (summary says)
 *   journal          contiguous: two heads, then the ring
 *   ...              up to a multiple of CHUNK_SIZE, then clusters
 *
 * Space is a bitmap of clusters, in groups of GROUP_CLUSTERS. A metadata chunk is CHUNK_SIZE bytes,
 * aligned, all its clusters allocated; its first block (chunk header) says which of its blocks are
 * in use. So a block that the journal may write to never lies where a node may write data.
 */
#ifndef CSVFS_METADATA_FORMAT_H
#define CSVFS_METADATA_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "csvfs/base/le.h"
#include "csvfs/base/limits.h"

/* Magic of each kind of block; it is the block's type. */
#define SUPER_BLOCK 0
#define SUPER_COPY_BLOCK 3 /* always changed together with block 0 */
#define REPLY_BLOCK 8

#define MAGIC_SUPER 0x53765343u	  /* "CSvS" */
#define MAGIC_SUMMARY 0x4d765343u /* "CSvM" */
#define MAGIC_GROUP 0x47765343u	  /* "CSvG" */
#define MAGIC_CHUNK 0x43765343u	  /* "CSvC" */
#define MAGIC_REPLY 0x52765343u	  /* "CSvR" */
#define MAGIC_JREC 0x4a765343u	  /* "CSvJ" journal record header */
#define MAGIC_JHEAD 0x48765343u	  /* "CSvH" journal head */
#define MAGIC_INODE 0x49765343u	  /* "CSvI" block of inodes */
#define MAGIC_TREE 0x54765343u	  /* "CSvT" node of a B+tree */
#define MAGIC_XATTR 0x58765343u	  /* "CSvX" large xattr value or symlink target */

/* Head of every metadata block. Sealed before a write, verified after each read. */
struct disk_header {
	le32 magic;
	le32 crc; /* crc32c of the whole block with this field zero */
	uint8_t uuid[16];
	le64 blkno; /* where this block belongs: catches a misplaced write */
	le64 owner; /* ino it belongs to; 0: the volume */
	le64 lsn;   /* transaction that wrote it; 0: mkfs. None is newer than the journal's end */
	le64 epoch; /* of the coordinator that wrote it */
	le64 reserved;
};
_Static_assert(sizeof(struct disk_header) == 64, "format");

#define FORMAT_VERSION 1

/* Incompatible features: an unknown bit refuses the mount. */
#define FEATURE_INCOMPAT_KNOWN 0ull
/* Read-only compatible: an unknown bit refuses writing. */
#define FEATURE_ROCOMPAT_KNOWN 0ull

struct disk_super {
	struct disk_header h;
	le32 version;
	le32 cluster_bytes;
	le64 volume_bytes;
	le64 block_count;
	le64 cluster_count;
	le64 compat, incompat, rocompat;
	le64 summary_start, summary_blocks; /* blocks */
	le64 group_start, group_count;
	le64 journal_start, journal_blocks;
	le64 reply_start, reply_blocks;
	le64 data_start; /* first block after the fixed areas, multiple of a chunk */
	le64 root_ino;
	le64 orphan_root, intent_root; /* B+trees; 0: empty */
	le64 created_ns;
	/*
	 * The last clusters of the volume (chunk-aligned start): never given to data, only to metadata
	 * chunks, so that metadata operations go on when the volume is full.
	 */
	le64 reserve_clusters;
	uint8_t dir_hash_key[16];
	char label[64];
	char cluster_name[64];	   /* empty: standalone volume */
	char lun_identity[128];	   /* SCSI device id (VPD 83h) at mkfs; empty: an image file */
	le64 reserved[32];
};
_Static_assert(offsetof(struct disk_super, root_ino) == 192, "format");

/* Summary: what the allocator must know of a group without reading it. */
#define SUMMARY_INIT (1u << 0)	     /* the group block has been written */
#define SUMMARY_META_FREE (1u << 1)  /* a metadata chunk here has free blocks */
#define SUMMARY_INODE_FREE (1u << 2) /* an inode chunk here has free slots or blocks */
struct disk_summary_entry {
	le16 free_clusters; /* of a group that was never initialised: all that the volume covers */
	le16 flags;
};
#define SUMMARY_PER_BLOCK ((BLOCK_SIZE - sizeof(struct disk_header)) / 4) /* 1008 */
struct disk_summary {
	struct disk_header h;
	struct disk_summary_entry e[SUMMARY_PER_BLOCK];
};
_Static_assert(sizeof(struct disk_summary) == BLOCK_SIZE, "format");

#define GROUP_CLUSTERS 4096u
#define GROUP_BITMAP_BYTES (GROUP_CLUSTERS / 8)
/*
 * Bitmaps: bit i of byte i/8. The chunk bitmaps have a bit for each chunk of the group
 * (GROUP_CLUSTERS * cluster_bytes / CHUNK_SIZE of them are meaningful).
 */
struct disk_group {
	struct disk_header h;
	le32 free_clusters;
	le32 meta_chunks;
	le64 reserved[7];
	uint8_t used[GROUP_BITMAP_BYTES];	/* clusters allocated, to data or metadata */
	uint8_t meta[GROUP_BITMAP_BYTES];	/* chunks that hold metadata blocks */
	uint8_t inode[GROUP_BITMAP_BYTES];	/* chunks (of those) that hold inode blocks */
	uint8_t meta_free[GROUP_BITMAP_BYTES];	/* chunks (of both kinds) with a free block or slot */
};
_Static_assert(sizeof(struct disk_group) <= BLOCK_SIZE, "format");

#define CHUNK_BLOCKS (CHUNK_SIZE / BLOCK_SIZE) /* 256; block 0 is the chunk header */
struct disk_chunk {
	struct disk_header h;
	le32 used_blocks; /* with the header */
	le32 is_inode;
	le64 reserved[7];
	uint8_t used[CHUNK_BLOCKS / 8];
	uint8_t slots[CHUNK_BLOCKS]; /* inode chunk: bit s set: inode in slot s of that block is used */
};
_Static_assert(sizeof(struct disk_chunk) <= BLOCK_SIZE, "format");

/*
 * Reply cache: one block per node slot, one entry per request slot. Written in the transaction of
 * the request's effect, so a request is executed at most once across coordinators.
 */
struct disk_reply_entry {
	le64 seq;
	le32 err; /* as uint32 of a negative errno */
	le32 op;
	le64 ino, generation; /* the reply's attributes are read again from there */
	le64 off;
	le32 mode; /* of `ino`, as it was then; 0: written by a csvfs that did not record it */
	le32 reserved0;
	le64 version_1; /* of an append: the version of the layout then, and one; 0: not recorded */
	le64 reserved;
};
_Static_assert(sizeof(struct disk_reply_entry) == 64, "format");
struct disk_reply_block {
	struct disk_header h;
	le64 life; /* 0: this node slot is free */
	le32 node;
	le32 reserved0;
	le64 reserved[6];
	struct disk_reply_entry e[SLOTS_MAX];
};
_Static_assert(sizeof(struct disk_reply_block) <= BLOCK_SIZE, "format");

/*
 * Journal: two head blocks, then a ring of journal_blocks - JOURNAL_HEADS blocks. A transaction is
 * one or more records; a record is a header block followed by `count` images of blocks, 4 KiB each,
 * as they are to stand in their place. Records follow one another without a gap, through the end of
 * the ring to its start.
 *
 * The heads are written in turn, so a torn one leaves the other; the valid one with the higher count
 * says where replay starts. Ring space before its tail may be reused only when it is durable.
 * Replay accepts only an unbroken run from there: records with the volume's uuid, seq growing by one,
 * epoch not below the head's and never falling, whole transactions with lsn growing by one. Records
 * below head_seq were durable when the head was written: if the run ends before, the journal is
 * damaged.
 */
#define JOURNAL_HEADS 2
struct disk_jhead {
	struct disk_header h;
	le64 count;    /* grows by one with each head written */
	le64 tail_seq; /* first record needed: always the first of its transaction */
	le64 tail_pos; /* where it starts: index of a block in the ring */
	le64 tail_lsn; /* its transaction */
	le64 head_seq; /* the record behind the last durable one, */
	le64 head_lsn; /* and its transaction, when this was written; both equal the tail's: empty */
	le64 reserved[8];
};
_Static_assert(offsetof(struct disk_jhead, head_lsn) == 104, "format");

#define JREC_FIRST (1u << 0) /* first record of its transaction */
#define JREC_LAST (1u << 1)  /* last one: the transaction is complete */
#define JREC_IMAGES_MAX 240
struct disk_jrec {
	le32 magic;
	le32 crc; /* of this block, this field zero */
	uint8_t uuid[16];
	le64 epoch;
	le64 seq;	/* of the record; grows by one */
	le64 lsn;	/* of the transaction; grows by one */
	le32 flags;
	le32 count;
	le64 reserved[10];
	struct {
		le64 blkno;
		le32 crc; /* crc32c of the image in the journal */
		le32 pad;
	} image[JREC_IMAGES_MAX];
};
_Static_assert(offsetof(struct disk_jrec, flags) == 48, "format");
_Static_assert(sizeof(struct disk_jrec) <= BLOCK_SIZE, "format");

#endif
