/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inodes: every block of every inode chunk is read, each inode verified, its extents and the blocks
 * of its tree are marked as seen. Directories' records are looked at later (dir.c), when it is known
 * which inodes exist.
 */
#include <sys/stat.h>

#include "csvfs/base/fsreq.h"
#include "tools/check/internal.h"

struct ck_inode *ck_inode(const struct check *c, uint64_t ino)
{
	const uint64_t blkno = INO_BLOCK(ino);
	const struct ck_chunk *k;
	struct ck_inode *block;

	if (!INO_SLOT(ino) || blkno >= c->block_count)
		return NULL;
	k = ck_chunk(c, blkno);
	if (!k || !k->inodes)
		return NULL;
	block = k->inodes[blkno % CHUNK_BLOCKS];
	return block ? &block[INO_SLOT(ino) - 1] : NULL;
}

static int each_in_chunk(struct check *c, struct ck_chunk *k,
	int (*fn)(struct check *c, uint64_t ino, struct ck_inode *i))
{
	int err;

	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		if (!k->inodes[b])
			continue;
		for (uint32_t s = 0; s < INODES_PER_BLOCK; s++) {
			if (!k->inodes[b][s].type)
				continue;
			err = fn(c, INO_MAKE(k->blkno + b, s + 1), &k->inodes[b][s]);
			if (err)
				return err;
		}
	}
	return 0;
}

static void progress(const struct check *c, uint64_t group)
{
	if (c->o->on_progress)
		c->o->on_progress(c->o->ctx, group, c->group_count);
}

int ck_inodes_each(struct check *c, int (*fn)(struct check *c, uint64_t ino, struct ck_inode *i))
{
	int err;

	for (uint64_t g = 0; g < c->group_count; g++) {
		const struct ck_group *group = ck_group(c, g);

		if (!group || !group->chunks)
			continue;
		progress(c, g);
		for (uint32_t i = 0; i < c->chunks_per_group; i++) {
			struct ck_chunk *k = group->chunks[i];

			if (!k || !k->inodes)
				continue;
			err = each_in_chunk(c, k, fn);
			if (err)
				return err;
		}
	}
	return 0;
}

/* ------------------------------------------------------------------ extents */

struct extents {
	uint64_t next; /* cluster of the file where the last extent ended */
	uint64_t clusters, count;
	uint64_t
		written; /* cluster of the file where the last extent ended that is not UNWRITTEN */
};

static int extent_record(
	struct check *c, struct ck_walk *w, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct extents *x = w->ctx;
	struct disk_extent d;
	uint64_t start, n;

	if (len != sizeof(d)) {
		w->damaged = true;
		ck_report(c, PROBLEM_TREE_RECORD, w->blkno, w->ino, len, sizeof(d),
			"length of an extent");
		return 0;
	}
	memcpy(&d, value, sizeof(d));
	start = le64_get(d.start);
	n = le32_get(d.len);
	if (!n || n > EXTENT_LEN_MAX) {
		w->damaged = true;
		ck_report(c, PROBLEM_EXTENT_EMPTY, w->blkno, w->ino, n, 1, "length of an extent");
		return 0;
	}
	if (le32_get(d.state) < EXT_UNWRITTEN || le32_get(d.state) > EXT_SHARED)
		ck_report(c, PROBLEM_EXTENT_STATE, w->blkno, w->ino, le32_get(d.state), EXT_WRITTEN,
			"state of an extent");
	if (key < x->next)
		ck_report(c, PROBLEM_EXTENT_OVERLAP, w->blkno, w->ino, key, x->next,
			"offset of an extent");
	if (key > FILE_BYTES_MAX / c->cluster_bytes || n > FILE_BYTES_MAX / c->cluster_bytes - key)
		ck_report(c, PROBLEM_EXTENT_BEYOND, w->blkno, w->ino, key + n,
			FILE_BYTES_MAX / c->cluster_bytes, "end of an extent");
	x->next = key + n;
	if (le32_get(d.state) != EXT_UNWRITTEN)
		x->written = x->next;
	x->clusters += n;
	x->count++;
	return ck_use_clusters(c, start, n, w->blkno, w->ino);
}

static int check_file(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino)
{
	struct extents x = {0};
	struct ck_walk w = {.kind = TREE_EXTENTS,
		.ino = ino,
		.blkno = blkno,
		.record = extent_record,
		.ctx = &x};
	int err;

	if (le64_get(d->size) > FILE_BYTES_MAX)
		ck_report(c, PROBLEM_INODE_SIZE, blkno, ino, le64_get(d->size), FILE_BYTES_MAX,
			"size");
	err = ck_walk(c, &w, d->area, INODE_INLINE_BYTES);
	if (err)
		return err;
	c->rep->extents += x.count;
	if (w.damaged)
		return 0;
	if (le64_get(d->size) <= FILE_BYTES_MAX && !(le32_get(d->flags) & INODE_TRUNCATE) &&
		x.written > (le64_get(d->size) + c->cluster_bytes - 1) / c->cluster_bytes)
		ck_report(c, PROBLEM_INODE_BEHIND_END, blkno, ino, x.written * c->cluster_bytes,
			x.written * c->cluster_bytes,
			"written clusters behind the end of the file: up to byte");
	if (le64_get(d->clusters) != x.clusters)
		CK_INODE_NUMBER(c, PROBLEM_INODE_BLOCKS, ino, clusters, le64_get(d->clusters),
			x.clusters, "number of clusters");
	if (le64_get(d->tree_blocks) != w.tree_blocks)
		CK_INODE_NUMBER(c, PROBLEM_INODE_TREE_BLOCKS, ino, tree_blocks,
			le64_get(d->tree_blocks), w.tree_blocks, "number of tree blocks");
	return 0;
}

/* ------------------------------------------------------------------ one inode */

static void check_symlink(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino)
{
	const uint64_t size = le64_get(d->size);
	uint32_t blocks;

	if (!size || size > SYMLINK_BYTES_MAX) {
		ck_report(c, PROBLEM_SYMLINK, blkno, ino, size, SYMLINK_BYTES_MAX,
			"length of target");
		return;
	}
	if (size <= INODE_INLINE_BYTES) {
		if (memchr(d->area, 0, size))
			ck_report(c, PROBLEM_SYMLINK, blkno, ino, 0, 0, "zero byte in target");
		if (!ck_zero(d->area + size, INODE_INLINE_BYTES - size))
			ck_report(c, PROBLEM_INODE_INLINE, blkno, ino, 0, 0,
				"bytes behind the target");
		return;
	}
	blocks = (uint32_t)((size + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES);
	(void)ck_value(c, blkno, ino, d->area, blocks, (uint32_t)size, PROBLEM_SYMLINK, true);
	if (!ck_zero(d->area + 8 * blocks, INODE_INLINE_BYTES - 8 * blocks))
		ck_report(c, PROBLEM_INODE_INLINE, blkno, ino, 0, 0,
			"bytes behind the target's blocks");
}

static void check_flags(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino,
	struct ck_inode *i)
{
	const uint32_t flags = le32_get(d->flags);
	const uint32_t intents = flags & (INODE_TRUNCATE | INODE_FREEING);

	if (flags & ~INODE_FLAGS_KNOWN)
		ck_report(c, PROBLEM_INODE_FLAGS, blkno, ino, flags, flags & INODE_FLAGS_KNOWN,
			"flags");
	if (intents == (INODE_TRUNCATE | INODE_FREEING))
		ck_report(c, PROBLEM_INODE_FLAGS, blkno, ino, flags, 0, "two intents in flags");
	/* Without a link: waits for its last close, or is being freed; one of the two. */
	if (!le32_get(d->nlink) != !!(flags & (INODE_ORPHAN | INODE_FREEING)))
		ck_report(c, PROBLEM_INODE_FLAGS, blkno, ino, flags, flags,
			"link count and flags contradict each other: flags");
	if ((flags & INODE_FREEING) && (flags & INODE_ORPHAN))
		ck_report(c, PROBLEM_INODE_FLAGS, blkno, ino, flags, INODE_FREEING,
			"orphan and being freed: flags");
	if ((flags & (INODE_TRUNCATE | INODE_KEEP | INODE_CAPS)) && !S_ISREG(le32_get(d->mode)))
		ck_report(c, PROBLEM_INODE_FLAGS, blkno, ino, flags, 0,
			"flags of a regular file on another type: flags");
	if ((flags & INODE_NAMELESS) && (!(flags & INODE_ORPHAN) || !S_ISREG(le32_get(d->mode))))
		ck_report(c, PROBLEM_INODE_FLAGS, blkno, ino, flags, flags & ~INODE_NAMELESS,
			"no name yet, but flags");
	if (flags & INODE_ORPHAN)
		i->flags |= CK_ORPHAN;
	if (intents)
		i->flags |= CK_INTENT;
	if (flags & INODE_FREEING)
		i->flags |= CK_FREEING;
}

static void check_fields(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino)
{
	const uint32_t mode = le32_get(d->mode);
	const bool tree = S_ISREG(mode) || S_ISDIR(mode);

	if (le64_get(d->ino) != ino)
		ck_report(c, PROBLEM_INODE_NUMBER, blkno, ino, le64_get(d->ino), ino, "own number");
	if (mode & ~(uint32_t)(S_IFMT | 07777))
		ck_report(c, PROBLEM_INODE_MODE, blkno, ino, mode, mode & (S_IFMT | 07777), "mode");
	if (!le64_get(d->generation))
		ck_report(c, PROBLEM_INODE_GENERATION, blkno, ino, 0, 1, "generation");
	if (!S_ISREG(mode) && le64_get(d->clusters))
		CK_INODE_NUMBER(c, PROBLEM_INODE_BLOCKS, ino, clusters, le64_get(d->clusters), 0,
			"number of clusters");
	if (!tree && le64_get(d->tree_blocks))
		CK_INODE_NUMBER(c, PROBLEM_INODE_TREE_BLOCKS, ino, tree_blocks,
			le64_get(d->tree_blocks), 0, "number of tree blocks");
	if (!S_ISDIR(mode) && le64_get(d->parent))
		ck_report(c, PROBLEM_INODE_PARENT, blkno, ino, le64_get(d->parent), 0, "parent");
	if (!S_ISBLK(mode) && !S_ISCHR(mode) && le32_get(d->rdev))
		ck_report(c, PROBLEM_INODE_MODE, blkno, ino, le32_get(d->rdev), 0, "device number");
	if (le32_get(d->nlink) > LINKS_MAX && !S_ISDIR(mode))
		ck_report(c, PROBLEM_INODE_NLINK, blkno, ino, le32_get(d->nlink), LINKS_MAX,
			"link count, at most");
	if (!tree && !S_ISLNK(mode) && le64_get(d->size))
		ck_report(c, PROBLEM_INODE_SIZE, blkno, ino, le64_get(d->size), 0, "size");
	if (!tree && !S_ISLNK(mode) && !ck_zero(d->area, INODE_INLINE_BYTES))
		ck_report(c, PROBLEM_INODE_INLINE, blkno, ino, 0, 0, "bytes of a special file");
	if (!ck_zero(d->reserved, sizeof(d->reserved)))
		ck_report(c, PROBLEM_RESERVED, blkno, ino, 0, 0, "reserved field of the inode");
}

static int check_inode(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino,
	struct ck_inode *i)
{
	const uint32_t mode = le32_get(d->mode);

	if (!fs_type_known(mode)) {
		ck_report(c, PROBLEM_INODE_MODE, blkno, ino, mode, S_IFREG, "type in mode");
		return 0;
	}
	i->type = (uint8_t)(mode >> 12);
	i->nlink = le32_get(d->nlink);
	check_fields(c, blkno, d, ino);
	check_flags(c, blkno, d, ino, i);
	if (S_ISDIR(mode)) {
		i->disk_parent = le64_get(d->parent);
		c->rep->directories++;
	} else if (S_ISLNK(mode)) {
		check_symlink(c, blkno, d, ino);
		c->rep->symlinks++;
	} else if (S_ISREG(mode)) {
		int err = check_file(c, blkno, d, ino);

		if (err)
			return err;
		c->rep->files++;
	} else {
		c->rep->others++;
	}
	return ck_xattrs(c, blkno, d, ino);
}

static void check_free(struct check *c, uint64_t blkno, const struct disk_inode *d, uint64_t ino)
{
	struct disk_inode z;

	/* Only who is in use has its own number. */
	if (le64_get(d->ino) == ino) {
		ck_report(c, PROBLEM_INODE_MODE, blkno, ino, 0, S_IFREG, "in use, but the mode");
		return;
	}
	memcpy(&z, d, sizeof(z));
	memset(&z.generation, 0, sizeof(z.generation));
	if (!ck_zero(&z, sizeof(z)))
		ck_report(c, PROBLEM_INODE_NOT_CLEARED, blkno, ino, 0, 0, "free, but not empty");
}

/* ------------------------------------------------------------------ blocks of inodes */

static int check_inode_block(struct check *c, struct ck_chunk *k, uint32_t index)
{
	const uint64_t blkno = k->blkno + index;
	struct disk_inode_block copy;
	struct ck_inode *table;
	const void *b = ck_block(c, blkno, MAGIC_INODE, 0);
	int err = 0;

	if (!b)
		return 0;
	memcpy(&copy, b, sizeof(copy));
	table = mem_alloc(c->o->mem, INODES_PER_BLOCK * sizeof(*table));
	if (!table)
		return -ENOMEM;
	k->inodes[index] = table;
	for (uint32_t s = 1; s <= INODES_PER_BLOCK && !err; s++) {
		const struct disk_inode *d = &copy.slot[s - 1];
		const uint64_t ino = INO_MAKE(blkno, s);
		const bool used = le32_get(d->mode) != 0;
		const bool marked = (k->slots[index] >> s) & 1;

		if (k->readable && used != marked)
			ck_report(c, used ? PROBLEM_INODE_SLOT : PROBLEM_INODE_FREE, blkno, ino,
				marked, used, "mark of being in use");
		if (used)
			err = check_inode(c, blkno, d, ino, &table[s - 1]);
		else
			check_free(c, blkno, d, ino);
	}
	return err;
}

/* ------------------------------------------------------------------ owners of shared clusters */

static int owner_record(
	struct check *c, struct ck_walk *w, uint64_t key, const uint8_t *value, uint32_t len)
{
	struct disk_extent d;
	uint64_t start, end, run;
	const struct ck_group *g;

	(void)key;
	if (len != sizeof(d))
		return 0;
	memcpy(&d, value, sizeof(d));
	start = le64_get(d.start);
	end = start + le32_get(d.len);
	if (start >= c->cluster_count || end > c->cluster_count)
		return 0;
	for (; start < end; start++) {
		for (run = start; run < end; run++) {
			g = ck_group(c, run / GROUP_CLUSTERS);
			if (!g || !g->twice || !bit_get(g->twice, run % GROUP_CLUSTERS))
				break;
		}
		if (run == start)
			continue;
		ck_report(c, PROBLEM_CLUSTER_DOUBLE, w->blkno, w->ino, start, run - start,
			"shares clusters with another extent:");
		start = run;
	}
	return 0;
}

/* What was verified in the first walk is not verified again. */
static int find_owners_in_block(struct check *c, struct ck_chunk *k, uint32_t index)
{
	const uint64_t blkno = k->blkno + index;
	struct disk_inode_block copy;
	const void *b = ck_block(c, blkno, MAGIC_INODE, 0);
	int err = 0;

	if (!b)
		return 0;
	memcpy(&copy, b, sizeof(copy));
	for (uint32_t s = 1; s <= INODES_PER_BLOCK && !err; s++) {
		const struct disk_inode *d = &copy.slot[s - 1];
		struct ck_walk w = {.kind = TREE_EXTENTS,
			.ino = INO_MAKE(blkno, s),
			.blkno = blkno,
			.record = owner_record};

		if (S_ISREG(le32_get(d->mode)))
			err = ck_walk(c, &w, d->area, INODE_INLINE_BYTES);
	}
	return err;
}

/* The chunk's header cannot be read: every block that is sealed as one of inodes is taken as one. */
static bool probe_inode_block(struct check *c, uint64_t blkno)
{
	uint64_t found, want;
	const void *b = ck_read(c, blkno, 0);

	return b && ck_header(c, b, blkno, MAGIC_INODE, 0, &found, &want) == PROBLEM_NONE;
}

static int check_inode_chunk(struct check *c, struct ck_chunk *k)
{
	int err;

	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		if (k->readable ? !bit_get(k->used, b) : !probe_inode_block(c, k->blkno + b))
			continue;
		if (c->find_owners) {
			err = find_owners_in_block(c, k, b);
		} else {
			(void)ck_use_block(c, k->blkno + b, k->blkno, 0, true);
			err = check_inode_block(c, k, b);
		}
		if (err)
			return err;
	}
	return 0;
}

static int inodes_pass(struct check *c)
{
	int err;

	for (uint64_t g = 0; g < c->group_count; g++) {
		const struct ck_group *group = ck_group(c, g);

		if (!group || !group->chunks)
			continue;
		progress(c, g);
		for (uint32_t i = 0; i < c->chunks_per_group; i++) {
			struct ck_chunk *k = group->chunks[i];

			if (!k || !k->inode)
				continue;
			err = check_inode_chunk(c, k);
			if (err)
				return err;
		}
	}
	return 0;
}

int ck_inodes(struct check *c)
{
	int err = inodes_pass(c);

	if (err || !c->double_clusters)
		return err;
	/* Some clusters have two users: a second walk names all of them. */
	c->find_owners = true;
	err = inodes_pass(c);
	c->find_owners = false;
	return err;
}
