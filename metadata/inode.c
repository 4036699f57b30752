/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inode.c - inodes, orphans, intents.
 *
 * An inode whose last link goes is in one of three states, and flags and trees agree on it:
 *   open on a node     INODE_ORPHAN, in the orphan tree   -> last close: the next or the one after
 *   large, not open    INODE_FREEING, an INTENT_FREE      -> freed in bounded steps, then gone
 *   small, not open    freed in the same operation
 */
#include "metadata/inode.h"

#include <errno.h>
#include <sys/stat.h>

#include "csvfs/base/assert.h"
#include "metadata/cookie.h"

static struct disk_inode *slot_of(struct block *b, uint64_t ino)
{
	return &((struct disk_inode_block *)b->data)->slot[INO_SLOT(ino) - 1];
}

int inode_get_freeing(struct txn *t, uint64_t ino, struct inode *in)
{
	struct block *b;
	int err;

	if (INO_SLOT(ino) == 0)
		return -ESTALE;
	err = txn_get(t, INO_BLOCK(ino), MAGIC_INODE, 0, &b);
	if (err)
		return err;
	*in = (struct inode){t, b, slot_of(b, ino), ino};
	return le32_get(in->d->mode) ? 0 : -ESTALE;
}

int inode_get(struct txn *t, uint64_t ino, struct inode *in)
{
	int err = inode_get_freeing(t, ino, in);

	return !err && (inode_flags(in) & INODE_FREEING) ? -ESTALE : err;
}

int inode_get_outside(struct txn *t, uint64_t ino, struct inode *in)
{
	int err = alloc_inode_used(t, ino);

	return err ? err : inode_get(t, ino, in);
}

void inode_dirty(const struct inode *in)
{
	txn_changes(in->t, in->ino);
	txn_dirty(in->t, in->b);
}

/*
 * 31 bits and not 0: the kernel's exported file handles carry no more. A slot's next life differs from its
 * last one; a slot whose block is new may have lived before, when the block was something else.
 */
static uint64_t next_generation(struct txn *t, uint64_t ino, uint64_t last)
{
	struct {
		le64 ino, time;
	} seed = {le64_of(ino), le64_of((uint64_t)txn_time(t))};
	uint64_t g = last + 1;

	if (last == 0)
		g = siphash24(txn_super(t)->dir_hash_key, &seed, sizeof(seed));
	g &= 0x7fffffff;
	return g ? g : 1;
}

int inode_new(struct txn *t, uint64_t parent_ino, uint32_t mode, struct inode *in)
{
	le64 now = le64_of((uint64_t)txn_time(t));
	uint64_t ino, generation;
	struct block *b;
	bool is_new;
	int err = alloc_inode(t, parent_ino, &ino, &is_new);

	if (err)
		return err;
	if (is_new)
		err = txn_new(t, INO_BLOCK(ino), MAGIC_INODE, 0, &b);
	else
		err = txn_get(t, INO_BLOCK(ino), MAGIC_INODE, 0, &b);
	if (err)
		return err;
	*in = (struct inode){t, b, slot_of(b, ino), ino};
	if (le32_get(in->d->mode))
		return txn_damaged(t, PROBLEM_INODE_SLOT, b->blkno, ino, le32_get(in->d->mode), 0);
	inode_dirty(in);
	generation = next_generation(t, ino, le64_get(in->d->generation));
	memset(in->d, 0, sizeof(*in->d));
	in->d->ino = le64_of(ino);
	in->d->generation = le64_of(generation);
	in->d->mode = le32_of(mode);
	in->d->atime_ns = now;
	in->d->mtime_ns = now;
	in->d->ctime_ns = now;
	in->d->btime_ns = now;
	if (S_ISREG(mode))
		tree_format_root(in->d->area, INODE_INLINE_BYTES, TREE_EXTENTS);
	else if (S_ISDIR(mode))
		tree_format_root(in->d->area, INODE_INLINE_BYTES, TREE_DIR);
	return 0;
}

int inode_free(const struct inode *in)
{
	le64 generation = in->d->generation;

	uint64_t left = le64_get(in->d->clusters) | le64_get(in->d->tree_blocks);

	csv_assert(le64_get(in->d->xattr_root) == 0);
	/* Its trees are empty: then these counted wrong before. */
	if (left)
		return txn_damaged(in->t, PROBLEM_INODE_BLOCKS, in->b->blkno, in->ino, left, 0);
	inode_dirty(in);
	memset(in->d, 0, sizeof(*in->d));
	in->d->generation = generation;
	return alloc_free_inode(in->t, in->ino);
}

uint32_t inode_mode(const struct inode *in)
{
	return le32_get(in->d->mode);
}

uint32_t inode_type(const struct inode *in)
{
	return le32_get(in->d->mode) & S_IFMT;
}

uint32_t inode_flags(const struct inode *in)
{
	return le32_get(in->d->flags);
}

static void set_flags(const struct inode *in, uint32_t clear, uint32_t set)
{
	inode_dirty(in);
	in->d->flags = le32_of((inode_flags(in) & ~clear) | set);
}

void inode_attr(const struct inode *in, struct fs_attr *attr)
{
	const struct disk_inode *d = in->d;
	uint64_t cluster_bytes = le32_get(txn_super(in->t)->cluster_bytes);

	attr->ino = in->ino;
	attr->generation = le64_get(d->generation);
	attr->size = le64_get(d->size);
	attr->blocks = le64_get(d->clusters) * (cluster_bytes / 512);
	if (inode_type(in) == S_IFDIR) {
		/* The entries' number is ours alone; as size a directory shows what it takes. */
		attr->size = (le64_get(d->tree_blocks) + 1) * BLOCK_SIZE;
		attr->blocks = le64_get(d->tree_blocks) * (BLOCK_SIZE / 512);
	}
	attr->mode = le32_get(d->mode);
	attr->uid = le32_get(d->uid);
	attr->gid = le32_get(d->gid);
	attr->nlink = le32_get(d->nlink);
	attr->rdev = le32_get(d->rdev);
	attr->flags = inode_flags(in) & INODE_CAPS ? FS_ATTR_CAPS : 0;
	attr->atime_ns = (int64_t)le64_get(d->atime_ns);
	attr->mtime_ns = (int64_t)le64_get(d->mtime_ns);
	attr->ctime_ns = (int64_t)le64_get(d->ctime_ns);
	attr->btime_ns = (int64_t)le64_get(d->btime_ns);
	attr->version = le64_get(d->version);
}

void inode_touch_ctime(const struct inode *in)
{
	inode_dirty(in);
	in->d->ctime_ns = le64_of((uint64_t)txn_time(in->t));
}

void inode_touch_mtime(const struct inode *in)
{
	inode_touch_ctime(in);
	in->d->mtime_ns = in->d->ctime_ns;
}

void inode_tree(const struct inode *in, struct tree *tr)
{
	csv_assert(S_ISREG(inode_mode(in)) || S_ISDIR(inode_mode(in)));
	tree_inline(tr, in->t, S_ISDIR(inode_mode(in)) ? TREE_DIR : TREE_EXTENTS, in->ino, in->b,
		in->d->area, INODE_INLINE_BYTES);
}

void inode_tree_done(const struct inode *in, const struct tree *tr)
{
	if (tr->block_delta == 0)
		return;
	inode_dirty(in);
	in->d->tree_blocks = le64_of(le64_get(in->d->tree_blocks) + (uint64_t)tr->block_delta);
}

/* ------------------------------------------------------------------ trees of the superblock */

static uint64_t super_root(struct txn *t, enum tree_kind kind)
{
	const struct disk_super *super = txn_super(t);

	return le64_get(kind == TREE_ORPHANS ? super->orphan_root : super->intent_root);
}

/* Both must work on a full volume, or nothing could be deleted there. */
static void super_tree(struct txn *t, enum tree_kind kind, struct tree *tr)
{
	tree_block(tr, t, kind, 0, super_root(t, kind));
	tr->reserve = true;
}

static void super_tree_done(const struct tree *tr)
{
	struct disk_super *super;

	if (tr->root_blkno == super_root(tr->t, tr->kind))
		return;
	super = txn_super_dirty(tr->t);
	if (tr->kind == TREE_ORPHANS)
		super->orphan_root = le64_of(tr->root_blkno);
	else
		super->intent_root = le64_of(tr->root_blkno);
}

/* A record that must be there, or must not: anything else is damage. */
static int damaged_if(
	const struct inode *in, int err, int errno_of_damage, enum problem p, uint64_t expected)
{
	if (err != errno_of_damage)
		return err;
	return txn_damaged(in->t, p, in->b->blkno, in->ino, !expected, expected);
}

int inode_orphan_add(const struct inode *in)
{
	struct tree tr;
	int err;

	super_tree(in->t, TREE_ORPHANS, &tr);
	err = tree_insert(&tr, in->ino, NULL, 0);
	if (err)
		return damaged_if(in, err, -EEXIST, PROBLEM_ORPHAN_LINKED, 0);
	super_tree_done(&tr);
	set_flags(in, 0, INODE_ORPHAN);
	return 0;
}

int inode_orphan_remove(const struct inode *in)
{
	struct tree tr;
	int err;

	super_tree(in->t, TREE_ORPHANS, &tr);
	err = tree_delete(&tr, in->ino);
	if (err)
		return damaged_if(in, err, -ENOENT, PROBLEM_ORPHAN_INO, 1);
	super_tree_done(&tr);
	set_flags(in, INODE_ORPHAN | INODE_NAMELESS, 0);
	return 0;
}

int inode_orphan_next(struct txn *t, uint64_t after, uint64_t *ino)
{
	struct tree_rec rec;
	struct tree tr;
	int err;

	if (after == UINT64_MAX)
		return -ENOENT;
	super_tree(t, TREE_ORPHANS, &tr);
	err = tree_seek(&tr, after + 1, &rec);
	if (!err)
		*ino = rec.key;
	return err;
}

static uint32_t intent_flag(enum intent_op op)
{
	return op == INTENT_FREE ? INODE_FREEING : INODE_TRUNCATE;
}

int inode_intent_set(const struct inode *in, enum intent_op op, uint64_t from, uint64_t to)
{
	struct disk_intent it = {.op = le32_of(op), .from = le64_of(from), .to = le64_of(to)};
	struct tree tr;
	int err;

	super_tree(in->t, TREE_INTENTS, &tr);
	if (inode_flags(in) & (INODE_FREEING | INODE_TRUNCATE))
		err = damaged_if(
			in, tree_update(&tr, in->ino, &it, sizeof(it)), -ENOENT, PROBLEM_INTENT, 1);
	else
		err = damaged_if(
			in, tree_insert(&tr, in->ino, &it, sizeof(it)), -EEXIST, PROBLEM_INTENT, 0);
	if (err)
		return err;
	super_tree_done(&tr);
	set_flags(in, INODE_FREEING | INODE_TRUNCATE, intent_flag(op));
	txn_kick(in->t);
	return 0;
}

int inode_intent_clear(const struct inode *in)
{
	struct tree tr;
	int err;

	if (!(inode_flags(in) & (INODE_FREEING | INODE_TRUNCATE)))
		return 0;
	super_tree(in->t, TREE_INTENTS, &tr);
	err = damaged_if(in, tree_delete(&tr, in->ino), -ENOENT, PROBLEM_INTENT, 1);
	if (err)
		return err;
	super_tree_done(&tr);
	set_flags(in, INODE_FREEING | INODE_TRUNCATE, 0);
	return 0;
}

static int intent_of(struct txn *t, const struct tree_rec *rec, struct disk_intent *it)
{
	if (rec->len != sizeof(*it))
		return txn_damaged(t, PROBLEM_INTENT, super_root(t, TREE_INTENTS), rec->key,
			rec->len, sizeof(*it));
	memcpy(it, rec->value, sizeof(*it));
	return 0;
}

int inode_intent_get(const struct inode *in, struct disk_intent *it)
{
	uint32_t flags = inode_flags(in) & (INODE_FREEING | INODE_TRUNCATE), flag;
	struct tree_rec rec;
	struct tree tr;
	int err;

	super_tree(in->t, TREE_INTENTS, &tr);
	err = tree_get(&tr, in->ino, &rec);
	err = err ? damaged_if(in, err, -ENOENT, PROBLEM_INTENT, 1) : intent_of(in->t, &rec, it);
	if (err)
		return err;
	/* The flag was verified with the inode: a file's, or of one without a link. What the record alone says could be anybody's. */
	flag = intent_flag((enum intent_op)le32_get(it->op));
	if (flags != flag)
		return txn_damaged(in->t, PROBLEM_INTENT, in->b->blkno, in->ino, flags, flag);
	return 0;
}

int inode_intent_next(struct txn *t, uint64_t after, uint64_t *ino, struct disk_intent *it)
{
	struct tree_rec rec;
	struct tree tr;
	int err;

	if (after == UINT64_MAX)
		return -ENOENT;
	super_tree(t, TREE_INTENTS, &tr);
	err = tree_seek(&tr, after + 1, &rec);
	if (err)
		return err;
	*ino = rec.key;
	return intent_of(t, &rec, it);
}
