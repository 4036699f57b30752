/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops_rename.c - rename(2) and renameat2(2) with RENAME_NOREPLACE, RENAME_EXCHANGE and RENAME_WHITEOUT.
 *
 * The kernel has checked much of it on its own node; another node may have changed the tree since,
 * so all that keeps the tree a tree is decided here, in one transaction.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "metadata/acl.h"
#include "metadata/ops_parts.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE (1 << 1)
#define RENAME_WHITEOUT (1 << 2)
#endif

/* A chain of parents longer than this is a loop on disk, not a path. */
#define DEPTH_MAX (1u << 20)

struct side {
	struct inode dir;
	struct dir_entry e;
	char name[NAME_BYTES_MAX + 1];
	struct inode in; /* what the name leads to */
	bool there, is_dir;
};

static int find_side(struct txn *t, uint64_t ino, const char *name, struct side *s)
{
	int err = dir_name_check(name);

	if (err)
		return err == -EINVAL ? -EBUSY : err; /* "." and ".." */
	memcpy(s->name, name, strlen(name) + 1);
	err = ops_directory(t, ino, true, &s->dir);
	if (err)
		return err;
	err = dir_find(&s->dir, s->name, &s->e);
	if (err == -ENOENT)
		return 0;
	if (!err)
		err = ops_entry(&s->dir, &s->e, &s->in);
	s->there = !err;
	s->is_dir = !err && inode_type(&s->in) == S_IFDIR;
	return err;
}

/* -EINVAL when directory `what` is `dir` or stands above it. */
static int check_no_loop(const struct inode *what, const struct inode *dir)
{
	uint64_t root = le64_get(txn_super(dir->t)->root_ino);
	struct inode in = *dir;
	int err;

	for (uint32_t depth = 0; depth < DEPTH_MAX; depth++) {
		if (in.ino == what->ino)
			return -EINVAL;
		if (in.ino == root)
			return 0;
		err = inode_get(dir->t, le64_get(in.d->parent), &in);
		if (!err && inode_type(&in) == S_IFDIR)
			continue;
		if (err && err != -ESTALE)
			return err;
		return txn_damaged(dir->t, PROBLEM_INODE_PARENT, dir->b->blkno, dir->ino,
			le64_get(dir->d->parent), root);
	}
	return txn_damaged(dir->t, PROBLEM_DIR_LOOP, dir->b->blkno, dir->ino, DEPTH_MAX, 0);
}

/* A directory came to another parent: its "..", and the links that its ".." is. */
static int move_directory(const struct inode *in, const struct inode *from, const struct inode *to)
{
	int err;

	if (from->ino == to->ino)
		return 0;
	inode_dirty(in);
	in->d->parent = le64_of(to->ino);
	err = ops_link_count(from, -1);
	return err ? err : ops_link_count(to, 1);
}

static int exchange(struct side *a, struct side *b)
{
	int err = 0;

	if (!b->there)
		return -ENOENT;
	if (a->in.ino == b->in.ino)
		return 0;
	if (a->is_dir && a->dir.ino != b->dir.ino)
		err = check_no_loop(&a->in, &b->dir);
	if (!err && b->is_dir && a->dir.ino != b->dir.ino)
		err = check_no_loop(&b->in, &a->dir);
	if (!err)
		err = dir_replace(&a->dir, &a->e, b->in.ino, inode_type(&b->in) >> 12);
	/* The first change may have moved what b->e points to. */
	if (!err)
		err = dir_find(&b->dir, b->name, &b->e);
	if (!err)
		err = dir_replace(&b->dir, &b->e, a->in.ino, inode_type(&a->in) >> 12);
	if (!err && a->is_dir && !b->is_dir)
		err = move_directory(&a->in, &a->dir, &b->dir);
	else if (!err && b->is_dir && !a->is_dir)
		err = move_directory(&b->in, &b->dir, &a->dir);
	if (err)
		return err;
	if (a->is_dir && b->is_dir) {
		inode_dirty(&a->in);
		inode_dirty(&b->in);
		a->in.d->parent = le64_of(b->dir.ino);
		b->in.d->parent = le64_of(a->dir.ino);
	}
	inode_touch_ctime(&a->in);
	inode_touch_ctime(&b->in);
	inode_touch_mtime(&a->dir);
	inode_touch_mtime(&b->dir);
	return 0;
}

/* What rename(2) says may stand at the new name. */
static int check_replace(const struct side *a, const struct side *b)
{
	if (a->is_dir && !b->is_dir)
		return -ENOTDIR;
	if (!a->is_dir && b->is_dir)
		return -EISDIR;
	return b->is_dir && !dir_is_empty(&b->in) ? -ENOTEMPTY : 0;
}

/* The link that stood at the new name goes. */
static int drop_replaced(struct side *b, struct fs_reply *rp)
{
	int err;

	if (b->is_dir) {
		err = ops_link_count(&b->dir, -1);
		return err ? err : ops_last_link(&b->in, rp);
	}
	if (le32_get(b->in.d->nlink) <= 1)
		return ops_last_link(&b->in, rp);
	inode_touch_ctime(&b->in);
	return ops_link_count(&b->in, -1);
}

/* What overlayfs reads as "nothing is here", in the place of what went: a character device 0, 0, in nobody's way. */
static int leave_whiteout(struct side *a, const struct fs_cred *cred)
{
	struct inode in;
	int err = inode_new(a->dir.t, a->dir.ino, S_IFCHR, &in);

	if (err)
		return err;
	ops_set_owner(&in, &a->dir, cred);
	in.d->nlink = le32_of(1);
	err = acl_inherit(&a->dir, &in, 0);
	if (err)
		return err;
	/* The new name may have moved what a->e points to. */
	err = dir_find(&a->dir, a->name, &a->e);
	return err ? err : dir_replace(&a->dir, &a->e, in.ino, S_IFCHR >> 12);
}

/* whiteout: whose it is; NULL: none is left. */
static int move(
	struct side *a, struct side *b, const struct fs_cred *whiteout, struct fs_reply *rp)
{
	uint32_t type = inode_type(&a->in) >> 12;
	int err = 0;

	/* Two names of one file: rename(2) does nothing. */
	if (b->there && a->in.ino == b->in.ino)
		return 0;
	if (a->is_dir && a->dir.ino != b->dir.ino)
		err = check_no_loop(&a->in, &b->dir);
	if (!err && b->there)
		err = check_replace(a, b);
	if (err)
		return err;
	if (a->is_dir && !b->there && a->dir.ino != b->dir.ino &&
		le32_get(b->dir.d->nlink) >= DIR_LINKS_MAX)
		return -EMLINK;
	if (b->there)
		err = dir_replace(&b->dir, &b->e, a->in.ino, type);
	else
		err = dir_add(&b->dir, b->name, a->in.ino, type);
	if (!err)
		err = whiteout ? leave_whiteout(a, whiteout) : dir_remove(&a->dir, a->e.cookie);
	if (!err && a->is_dir)
		err = move_directory(&a->in, &a->dir, &b->dir);
	if (!err && b->there)
		err = drop_replaced(b, rp);
	if (err)
		return err;
	inode_touch_ctime(&a->in);
	inode_touch_mtime(&a->dir);
	inode_touch_mtime(&b->dir);
	return 0;
}

int op_rename(struct txn *t, struct vol_req *r)
{
	uint32_t flags = r->rq.flags;
	struct side a = {.there = false}, b = {.there = false};
	int err;

	if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if ((flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) && (flags & RENAME_EXCHANGE))
		return -EINVAL;
	err = find_side(t, r->rq.ino, r->rq.name, &a);
	if (!err)
		err = find_side(t, r->rq.ino2, r->rq.name2, &b);
	if (!err && !a.there)
		err = -ENOENT;
	if (err)
		return err;
	if (flags & RENAME_EXCHANGE)
		return exchange(&a, &b);
	if (b.there && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	return move(&a, &b, flags & RENAME_WHITEOUT ? &r->rq.cred : NULL, &r->reply);
}
