/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * internal.h - what the parts of the check share. Public: check.h.
 *
 * Every function that returns int gives 0, or -ENOMEM, which ends the check. All that can be wrong
 * with the volume is reported, not returned. Functions that return bool say whether the thing can be
 * used further.
 */
#ifndef CSVFS_TOOLS_CHECK_INTERNAL_H
#define CSVFS_TOOLS_CHECK_INTERNAL_H

#include <errno.h>
#include <string.h>

#include "csvfs/base/claim.h"
#include "metadata/format_inode.h"
#include "tools/check/check.h"

/* What is known of one inode: 7 of them in a piece of memory. */
struct ck_inode {
	uint64_t parent; /* directory: ino of the directory that names it; 0: none seen */
	uint64_t disk_parent; /* directory: as it says itself */
	uint32_t nlink; /* as it says itself */
	uint32_t links; /* names seen */
	uint32_t subdirs; /* directory: names of directories in it */
	uint8_t type; /* mode >> 12; 0: not in use, or not known */
	uint16_t flags;
};
#define CK_LISTED 1u /* in the tree of orphans, or of intents */
#define CK_ORPHAN 2u /* its own flags say so */
#define CK_INTENT 4u /* its own flags name an intent */
#define CK_LISTED_INTENT 8u
#define CK_REACHED 16u /* its chain of parents ends at the root */
#define CK_ON_PATH 32u /* in the chain that is being followed */
#define CK_DAMAGED 64u /* its counts say nothing: part of it could not be read */
/* What a repair must make anew: fields, trees, entries (names and where they lead), or clusters that
 * are not the file's alone. */
#define CK_MEND_FIELDS 128u
#define CK_MEND_TREES 256u
#define CK_MEND_NAMES 512u
#define CK_MEND_SPACE 1024u
#define CK_MEND (CK_MEND_FIELDS | CK_MEND_TREES | CK_MEND_NAMES | CK_MEND_SPACE)
#define CK_LOOP 4096u /* directory: contains itself */
#define CK_FREEING 8192u /* its own flags say that it is being freed */
#define CK_PLACED 2048u /* directory: the entry that is to stay was met */

struct ck_chunk {
	uint64_t blkno;
	bool inode; /* holds inode blocks */
	bool readable; /* its header is valid: used and slots are known */
	uint8_t used[CHUNK_BLOCKS / 8];
	uint8_t seen[CHUNK_BLOCKS / 8]; /* walked */
	uint8_t again[CHUNK_BLOCKS /
		      8]; /* walked a second time, to find owners of shared clusters */
	uint8_t slots[CHUNK_BLOCKS];
	struct ck_inode **inodes; /* per block; NULL: not an inode chunk */
};

/* A group that was initialised. */
struct ck_group {
	bool readable; /* its block is valid: used, meta, inode are known */
	uint8_t used[GROUP_BITMAP_BYTES];
	uint8_t seen
		[GROUP_BITMAP_BYTES]; /* clusters found by the walk, metadata chunks, fixed areas */
	uint8_t *twice; /* clusters that files have twice; NULL: none */
	uint8_t *kept; /* of those: one file has been left with it */
	struct ck_chunk **chunks; /* chunks_per_group pointers; NULL: none */
};

#define CK_LINE_BYTES 65536u
#define CK_LINES 64u
#define CK_PAGE 4096u /* pointers in one piece of the table of groups */

struct ck_image {
	uint64_t blkno, pos; /* pos: block of the volume that holds the image */
};

/* A number in a block of inodes that is wrong, and what it should be. */
struct ck_fix {
	uint64_t blkno, value;
	uint32_t offset, bytes;
};

struct ck_mend; /* mend.h */

struct check {
	const struct check_dev *dev;
	const struct check_options *o;
	struct check_report *rep;

	struct disk_super super;
	uint64_t super_at; /* block the superblock was taken from */
	bool say_fatal;	   /* why it cannot be used */
	uint64_t block_count, cluster_count, group_count, data_start;
	uint32_t cluster_bytes, cluster_blocks;
	uint32_t chunks_per_group, chunk_clusters; /* chunk_clusters: clusters in a chunk */
	uint64_t root_ino;
	struct claim claim; /* the one that counts; all zero: there is none */
	uint64_t epoch_max, lsn_max; /* no block may be newer; NEVER: not known */

	struct ck_group **groups[CK_PAGE];

	uint8_t *line[CK_LINES];
	uint64_t line_at[CK_LINES]; /* number of the line there */
	uint8_t *scratch; /* one block */

	struct ck_image *ring; /* newest images in the ring, whole transactions only: open hash */
	uint32_t ring_room, ring_count;
	struct ck_image *images; /* the journal's overlay: open hash, power of two */
	uint32_t image_room, image_count;
	bool head_lost; /* one of the journal's heads is not valid */

	bool find_owners; /* second walk: only say who uses the conflicting clusters */
	uint64_t double_clusters;

	struct ck_mend *m; /* NULL: nothing is to be repaired */
	uint64_t epoch_seen; /* highest epoch of a valid block */
	uint64_t lsn_seen; /* highest lsn of one; what is out of all reason does not count */
	uint64_t reply_bad; /* bit per block of the reply cache */
	bool lists_bad; /* orphans or intents are to be made anew */
	uint64_t lost; /* faults that repair.c cannot make good */
	bool can_be_made; /* the block that is being reported can be made from the others */
	struct ck_fix *fixes;
	uint32_t fix_count, fix_room;

	uint8_t *level[TREE_LEVELS_MAX]; /* a block each, for walks of trees */
	uint8_t *names; /* names of one bucket of a directory */
};

/* ---- report.c */
void ck_report(struct check *c, enum problem code, uint64_t blkno, uint64_t ino, uint64_t found,
	uint64_t want, const char *what);

/* ---- repair.c */
bool ck_repairable(const struct check *c, enum problem code);
/* Reports a number of an inode that is not what it should be, and notes it for ck_repair. */
void ck_inode_number(struct check *c, enum problem code, uint64_t ino, uint32_t offset,
	uint32_t bytes, uint64_t found, uint64_t want, const char *what);
#define CK_INODE_NUMBER(c, code, ino, field, found, want, what)                                    \
	ck_inode_number(c, code, ino, offsetof(struct disk_inode, field),                          \
		sizeof(((struct disk_inode *)0)->field), found, want, what)

/* ---- read.c */
int ck_read_init(struct check *c);
/* The block as it is after replay, valid until the next read; NULL: cannot be read (reported). */
const void *ck_read(struct check *c, uint64_t blkno, uint64_t ino);
/* The block as it stands in its place. */
const void *ck_read_raw(struct check *c, uint64_t blkno, uint64_t ino);
int ck_overlay_add(struct check *c, uint64_t blkno, uint64_t pos);
/* As it stands on the medium, whatever a repair has put. */
const void *ck_read_disk(struct check *c, uint64_t blkno);
/* Reads and verifies the header; NULL: reported. owner OWNER_ANY: not looked at. */
const void *ck_block(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner);
#define CK_ANY_OWNER UINT64_MAX
/* The header of a block in hand. PROBLEM_NONE, or the problem, nothing reported. */
enum problem ck_header(const struct check *c, const void *block, uint64_t blkno, uint32_t magic,
	uint64_t owner, uint64_t *found, uint64_t *want);
bool ck_zero(const void *p, size_t n);
/* What lies behind the last field of the block's struct is zero. */
void ck_tail(struct check *c, const void *block, size_t from, uint64_t blkno);

/* ---- check.c */
/* One check with the state in *c, which is filled. */
int ck_run(struct check *c, const struct check_dev *dev, const struct check_options *o,
	struct check_report *rep);

/* ---- super.c */
bool ck_super_valid(const void *block, uint64_t blkno);
int ck_super(struct check *c); /* also -EUCLEAN: nothing can be checked */
void ck_claim(struct check *c);
int ck_super_after_replay(struct check *c); /* also -EUCLEAN */

/* ---- journal.c */
int ck_journal(struct check *c);
/* Metadata of the fixed areas, or a place where a chunk may be; never claim or journal. */
bool ck_journal_target(const struct check *c, uint64_t blkno);

/* ---- space.c */
int ck_space_load(struct check *c);
int ck_space_compare(struct check *c);
struct ck_group *ck_group(const struct check *c, uint64_t number);
struct ck_group *ck_group_new(struct check *c, uint64_t number);
/* All clusters of [from, to) within a group have that bit. */
uint32_t ck_bits_set(const uint8_t *map, uint32_t from, uint32_t to);
uint32_t ck_fixed_clusters(const struct check *c, uint64_t number);
struct ck_chunk *ck_chunk_new(struct check *c, struct ck_group *g, uint64_t blkno, bool inode);
struct ck_chunk *ck_chunk(const struct check *c, uint64_t blkno);
/* Clusters of group `number` that the volume covers; of those, how many are of the fixed areas. */
uint32_t ck_group_clusters(const struct check *c, uint64_t number);
/* blkno is referred to by `from` for ino. True: it is the first to do so and may be followed. */
bool ck_use_block(struct check *c, uint64_t blkno, uint64_t from, uint64_t ino, bool inode);
/* Clusters of a file's extent. Reports all that is wrong with them. */
int ck_use_clusters(struct check *c, uint64_t start, uint64_t count, uint64_t from, uint64_t ino);

/* ---- tree.c */
struct ck_walk {
	enum tree_kind kind;
	uint64_t ino; /* owner; 0: the superblock */
	uint64_t blkno; /* block of the record that is being given; the root's, to begin with */
	uint64_t tree_blocks;
	bool damaged; /* part of the tree was not seen */
	int (*record)(struct check *c, struct ck_walk *w, uint64_t key, const uint8_t *value,
		uint32_t len);
	void *ctx;
};
/* `root`: node of `bytes` bytes in block w->blkno; it is copied. Calls w->record in order of key. */
int ck_walk(struct check *c, struct ck_walk *w, const void *root, uint32_t bytes);
/* The same for a tree whose root is a block of its own. */
int ck_walk_block(struct check *c, struct ck_walk *w, uint64_t blkno, uint64_t from);

/* ---- inode.c */
int ck_inodes(struct check *c);
/* NULL: no inode can be there. */
struct ck_inode *ck_inode(const struct check *c, uint64_t ino);
/* Calls fn for every inode known to be in use; scan must not change what is known to be in use. */
int ck_inodes_each(struct check *c, int (*fn)(struct check *c, uint64_t ino, struct ck_inode *i));

/* ---- dir.c */
int ck_directories(struct check *c);
int ck_links(struct check *c);

/* ---- rest.c */
int ck_xattrs(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino);
/* n value blocks of ino, whose numbers are at `list`; `bytes` long together. */
bool ck_value(struct check *c, uint64_t from, uint64_t ino, const uint8_t *list, uint32_t n,
	uint32_t bytes, enum problem code, bool no_zero);
int ck_orphans(struct check *c);
int ck_intents(struct check *c);
int ck_replies(struct check *c);
/* Bucket of a name's cookie. */
uint64_t ck_bucket(const struct check *c, const uint8_t *name, uint32_t len);

static inline bool bit_get(const uint8_t *map, uint64_t i)
{
	return (map[i / 8] >> (i % 8)) & 1;
}

static inline void bit_set(uint8_t *map, uint64_t i)
{
	map[i / 8] = (uint8_t)(map[i / 8] | (1u << (i % 8)));
}

#endif
