/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ops.c - which function carries out which request; what several of them share. */
#include "metadata/ops.h"

#include <errno.h>
#include <sys/stat.h>

#include "metadata/ops_parts.h"

const struct vol_ops metadata_ops = {
	.execute = op_execute,
	.replied = op_replied,
	.make_root = inode_make_root,
	.background = op_background,
};

static int execute(struct txn *t, struct vol_req *r)
{
	switch (r->rq.op) {
	case FS_LOOKUP:
		return op_lookup(t, r);
	case FS_GETATTR:
	case FS_OPEN:
	case FS_FSYNC:
		return op_getattr(t, r);
	case FS_READLINK:
		return op_readlink(t, r);
	case FS_READDIR:
		return op_readdir(t, r);
	case FS_STATFS:
		return op_statfs(t, r);
	case FS_GETXATTR:
	case FS_LISTXATTR:
	case FS_SETXATTR:
	case FS_REMOVEXATTR:
		return op_xattr(t, r);
	case FS_LSEEK:
		return op_lseek(t, r);
	case FS_SETATTR:
		return op_setattr(t, r);
	case FS_MKNOD:
	case FS_CREATE:
	case FS_MKDIR:
	case FS_SYMLINK:
		return op_make(t, r);
	case FS_LINK:
		return op_link(t, r);
	case FS_UNLINK:
	case FS_RMDIR:
		return op_remove(t, r);
	case FS_RENAME:
		return op_rename(t, r);
	case FS_FALLOCATE:
		return op_fallocate(t, r);
	case FS_CLOSE:
		return op_close(t, r);
	case FS_LAYOUT_GET:
		return op_layout_get(t, r);
	case FS_LAYOUT_COMMIT:
		return op_layout_commit(t, r);
	case FS_LOCK:
	case FS_UNLOCK:
	case FS_GETLK:
	case FS_LOCK_CANCEL:
	case FS_LAYOUT_RETURN:
	case FS_APPENDED:
		return 0; /* locks and layouts are the node core's; nothing of them is on disk */
	case FS_APPEND:
		return op_append(t, r);
	case FS_FREE_ORPHAN:
		return op_free_orphan(t, r);
	case FS_NONE:
		break;
	}
	return -ENOSYS;
}

/* Whoever asks has seen this number in another life of it: what it means is gone. */
static int check_life(struct txn *t, uint64_t ino, uint32_t generation)
{
	struct inode in;
	int err;

	if (generation == 0)
		return 0;
	err = inode_get_outside(t, ino, &in);
	return !err && !fs_is_life(generation, le64_get(in.d->generation)) ? -ESTALE : err;
}

int op_execute(struct txn *t, struct vol_req *r)
{
	int err = check_life(t, r->rq.ino, r->rq.generation);

	if (!err)
		err = check_life(t, r->rq.ino2, r->rq.generation2);
	return err ? err : execute(t, r);
}

/*
 * What was made, or changed by its name, has been removed since, by another node. The kernel must not hear ESTALE: it would walk the
 * path again and do it again. It gets what it was, without a name. But what is to be open cannot be opened any more.
 */
static int replied_gone(struct vol_req *r)
{
	switch (r->rq.op) {
	case FS_MKNOD:
	case FS_MKDIR:
	case FS_SYMLINK:
	case FS_LINK:
	case FS_SETATTR:
		return fs_type_known(r->reply.attr.mode) ? 0 : -ESTALE;
	default:
		return -ESTALE;
	}
}

int op_replied(struct txn *t, struct vol_req *r)
{
	uint64_t generation = r->reply.attr.generation, version = r->reply.attr.version;
	struct inode in;
	int err;

	if (r->reply.attr.ino == 0)
		return 0;
	err = inode_get_outside(t, r->reply.attr.ino, &in);
	/* Or the slot has a new life. */
	if (err == -ESTALE || (!err && le64_get(in.d->generation) != generation))
		return replied_gone(r);
	if (err)
		return err;
	inode_attr(&in, &r->reply.attr);
	/* Of an append that of its place: the file may have been made shorter since. */
	if (r->rq.op == FS_APPEND)
		r->reply.attr.version = version;
	return 0;
}

int inode_make_root(struct txn *t)
{
	struct inode root;
	int err = inode_new(t, 0, S_IFDIR | 0755, &root);

	if (err)
		return err;
	root.d->nlink = le32_of(2);
	root.d->parent = le64_of(root.ino);
	/* No request asks for it: its times are those of the volume. */
	root.d->atime_ns = root.d->mtime_ns = txn_super(t)->created_ns;
	root.d->ctime_ns = root.d->btime_ns = txn_super(t)->created_ns;
	txn_super_dirty(t)->root_ino = le64_of(root.ino);
	return 0;
}

int op_next_orphan(struct txn *t, uint64_t after, uint64_t *ino)
{
	return inode_orphan_next(t, after, ino);
}

int op_background(struct txn *t, uint64_t *ino)
{
	struct disk_intent it;
	struct inode in;
	int err = inode_intent_next(t, *ino, ino, &it);

	if (err)
		return err;
	err = inode_get_freeing(t, *ino, &in);
	if (err == -ESTALE)
		return txn_damaged(t, PROBLEM_INTENT, INO_BLOCK(*ino), *ino, 0, *ino);
	if (!err)
		err = ops_intent_step(&in);
	return err == -EINPROGRESS ? 0 : err;
}

int ops_directory(struct txn *t, uint64_t ino, bool change, struct inode *in)
{
	int err = inode_get_outside(t, ino, in);

	if (err)
		return err;
	if (inode_type(in) != S_IFDIR)
		return -ENOTDIR;
	return change && le32_get(in->d->nlink) == 0 ? -ENOENT : 0;
}

int ops_entry(const struct inode *dir, const struct dir_entry *e, struct inode *in)
{
	int err = inode_get(dir->t, e->ino, in);

	if (err == -ESTALE)
		return txn_damaged(dir->t, PROBLEM_DIRENT_INO, dir->b->blkno, dir->ino, e->ino, 0);
	if (err)
		return err;
	if (inode_type(in) >> 12 != e->type)
		return txn_damaged(dir->t, PROBLEM_DIRENT_TYPE, dir->b->blkno, dir->ino, e->type,
			inode_type(in) >> 12);
	return 0;
}

int ops_link_count(const struct inode *in, int delta)
{
	uint32_t nlink = le32_get(in->d->nlink) + (uint32_t)delta;

	if (nlink == 0)
		return txn_damaged(in->t, PROBLEM_INODE_NLINK, in->b->blkno, in->ino, 0, 1);
	inode_dirty(in);
	in->d->nlink = le32_of(nlink);
	return 0;
}

void ops_kill_sgid(const struct inode *in)
{
	inode_dirty(in);
	in->d->mode = le32_of(inode_mode(in) & ~(uint32_t)S_ISGID);
}

void ops_kill_suid(const struct inode *in, uint32_t valid)
{
	uint32_t mode = inode_mode(in), without = mode & ~(uint32_t)S_ISUID;

	/* Without group execute it is no right to lose, and stays if one of the group writes. */
	if ((mode & S_IXGRP) || (valid & FS_SET_KILL_SGID))
		without &= ~(uint32_t)S_ISGID;
	if (!S_ISREG(mode) || without == mode)
		return;
	inode_dirty(in);
	in->d->mode = le32_of(without);
}

void ops_set_owner(const struct inode *in, const struct inode *dir, const struct fs_cred *cred)
{
	in->d->uid = le32_of(cred->uid);
	in->d->gid = le32_of(cred->gid);
	if (!(inode_mode(dir) & S_ISGID))
		return;
	in->d->gid = dir->d->gid;
	if (inode_type(in) == S_IFDIR)
		in->d->mode = le32_of(inode_mode(in) | S_ISGID);
}
