/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ops_name.c - looking up, listing, making and removing names. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "metadata/acl.h"
#include "metadata/ops_parts.h"
#include "metadata/xattr.h"

int op_lookup(struct txn *t, struct vol_req *r)
{
	const char *name = r->rq.name;
	struct dir_entry e;
	struct inode dir, in;
	int err;

	/* "." is how an exported file handle is turned into an inode again, of any type. */
	if (name[0] == '.' && !name[1]) {
		err = inode_get_outside(t, r->rq.ino, &in);
		if (!err)
			inode_attr(&in, &r->reply.attr);
		return err;
	}
	err = ops_directory(t, r->rq.ino, false, &dir);
	if (err)
		return err;
	if (name[0] == '.' && name[1] == '.' && !name[2]) {
		err = inode_get_outside(t, le64_get(dir.d->parent), &in);
	} else {
		err = dir_name_check(name);
		if (!err)
			err = dir_find(&dir, name, &e);
		if (!err)
			err = ops_entry(&dir, &e, &in);
	}
	if (!err)
		inode_attr(&in, &r->reply.attr);
	return err;
}

/* ------------------------------------------------------------------ listing */

/* False: no room. */
static bool put_dirent(struct vol_req *r, uint64_t ino, uint64_t cookie, uint32_t type,
	const char *name, uint32_t name_len)
{
	struct fs_dirent d = {ino, cookie, type, name_len};
	uint32_t bytes = (uint32_t)FS_DIRENT_SIZE(name_len);
	uint64_t room = r->reply.data_room;
	uint8_t *p = (uint8_t *)r->reply.data + r->reply.data_len;

	if (r->rq.len && r->rq.len < room)
		room = r->rq.len;
	if (r->reply.data_len + bytes > room)
		return false;
	memset(p, 0, bytes);
	memcpy(p, &d, sizeof(d));
	memcpy(p + sizeof(d), name, name_len);
	r->reply.data_len += bytes;
	return true;
}

int op_readdir(struct txn *t, struct vol_req *r)
{
	uint64_t after = r->rq.off;
	struct dir_walk w;
	struct dir_entry e;
	struct inode dir;
	int err = ops_directory(t, r->rq.ino, false, &dir);

	if (err)
		return err;
	r->reply.data_len = 0;
	if (after < COOKIE_DOT && !put_dirent(r, dir.ino, COOKIE_DOT, S_IFDIR >> 12, ".", 1))
		return -EINVAL;
	if (after < COOKIE_DOTDOT &&
		!put_dirent(r, le64_get(dir.d->parent), COOKIE_DOTDOT, S_IFDIR >> 12, "..", 2))
		return r->reply.data_len ? 0 : -EINVAL;
	err = dir_first(&dir, after > COOKIE_DOTDOT ? after : COOKIE_DOTDOT, &w, &e);
	while (!err) {
		if (!put_dirent(r, e.ino, e.cookie, e.type, e.name, e.name_len))
			return r->reply.data_len ? 0 : -EINVAL;
		err = dir_next(&w, &e);
	}
	return err == -ENOENT ? 0 : err;
}

/* ------------------------------------------------------------------ making */

static int set_target(const struct inode *in, const void *target, uint32_t len)
{
	le64 numbers[VALUE_BLOCKS_MAX];
	uint32_t blocks = (len + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
	int err;

	in->d->size = le64_of(len);
	if (len <= INODE_INLINE_BYTES) {
		memcpy(in->d->area, target, len);
		return 0;
	}
	err = value_write(in, target, len, numbers);
	if (!err)
		memcpy(in->d->area, numbers, blocks * sizeof(le64));
	return err;
}

/* What the request asks for is sound by itself. */
static int check_make(const struct fs_request *rq)
{
	uint32_t type = rq->mode & S_IFMT;
	int err = dir_name_check(rq->name);

	if (err)
		return err == -EINVAL ? -EEXIST : err; /* "." and ".." are always there */
	switch (rq->op) {
	case FS_MKDIR:
		return type == 0 || type == S_IFDIR ? 0 : -EINVAL;
	case FS_SYMLINK:
		if (rq->data_len == 0)
			return -ENOENT;
		if (rq->data_len > SYMLINK_BYTES_MAX)
			return -ENAMETOOLONG;
		return memchr(rq->data, 0, rq->data_len) ? -EINVAL : 0;
	case FS_CREATE:
		return type == 0 || type == S_IFREG ? 0 : -EINVAL;
	default:
		break;
	}
	switch (type) {
	case 0:
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return 0;
	case S_IFDIR:
		return -EPERM;
	}
	return -EINVAL;
}

static uint32_t mode_to_make(const struct fs_request *rq)
{
	uint32_t bits = rq->mode & 07777; /* the umask: acl_inherit */

	switch (rq->op) {
	case FS_MKDIR:
		return S_IFDIR | bits;
	case FS_SYMLINK:
		return S_IFLNK | 0777;
	case FS_CREATE:
		return S_IFREG | bits;
	default:
		return (rq->mode & S_IFMT ? rq->mode & S_IFMT : S_IFREG) | bits;
	}
}

/* open(O_TMPFILE): as the last link of an open file had gone, but link(2) may give it one. */
static int make_nameless(struct vol_req *r, const struct inode *dir)
{
	const struct fs_request *rq = &r->rq;
	struct inode in;
	int err = inode_new(dir->t, dir->ino, mode_to_make(rq), &in);

	if (err)
		return err;
	ops_set_owner(&in, dir, &rq->cred);
	in.d->flags = le32_of(INODE_NAMELESS);
	err = acl_inherit(dir, &in, rq->cred.umask);
	if (!err)
		err = inode_orphan_add(&in);
	if (!err)
		inode_attr(&in, &r->reply.attr);
	return err;
}

int op_make(struct txn *t, struct vol_req *r)
{
	const struct fs_request *rq = &r->rq;
	uint32_t mode = mode_to_make(rq);
	struct inode dir, in;
	struct dir_entry e;
	int err = check_make(rq);

	if (!err)
		err = ops_directory(t, rq->ino, true, &dir);
	if (err)
		return err;
	if (rq->op == FS_CREATE && (rq->valid & FS_NO_NAME))
		return make_nameless(r, &dir);
	err = dir_find(&dir, rq->name, &e);
	/*
	 * Made by another node since the kernel last looked. Only the kernel checks permissions: without
	 * O_EXCL, it has to look again and open what is there (ESTALE makes it).
	 */
	if (!err)
		return rq->op == FS_CREATE && !(rq->flags & O_EXCL) ? -ESTALE : -EEXIST;
	if (err != -ENOENT)
		return err;
	if (S_ISDIR(mode) && le32_get(dir.d->nlink) >= DIR_LINKS_MAX)
		return -EMLINK;
	err = inode_new(t, dir.ino, mode, &in);
	if (err)
		return err;
	ops_set_owner(&in, &dir, &rq->cred);
	in.d->nlink = le32_of(S_ISDIR(mode) ? 2 : 1);
	if (S_ISDIR(mode))
		in.d->parent = le64_of(dir.ino);
	if (S_ISCHR(mode) || S_ISBLK(mode))
		in.d->rdev = le32_of(rq->rdev);
	err = acl_inherit(&dir, &in, rq->cred.umask);
	if (!err && S_ISLNK(mode))
		err = set_target(&in, rq->data, rq->data_len);
	if (!err)
		err = dir_add(&dir, rq->name, in.ino, mode >> 12);
	if (!err && S_ISDIR(mode))
		err = ops_link_count(&dir, 1);
	if (err)
		return err;
	inode_touch_mtime(&dir);
	inode_attr(&in, &r->reply.attr);
	return 0;
}

int op_link(struct txn *t, struct vol_req *r)
{
	struct inode dir, in;
	struct dir_entry e;
	int err = dir_name_check(r->rq.name);

	if (err)
		return err == -EINVAL ? -EEXIST : err;
	err = ops_directory(t, r->rq.ino2, true, &dir);
	if (!err)
		err = inode_get_outside(t, r->rq.ino, &in);
	if (err)
		return err;
	err = dir_find(&dir, r->rq.name, &e);
	if (err != -ENOENT)
		return err ? err : -EEXIST;
	if (inode_type(&in) == S_IFDIR)
		return -EPERM;
	if (le32_get(in.d->nlink) == 0 && !(inode_flags(&in) & INODE_NAMELESS))
		return -ENOENT;
	if (le32_get(in.d->nlink) >= LINKS_MAX)
		return -EMLINK;
	if (le32_get(in.d->nlink) == 0)
		err = inode_orphan_remove(&in);
	else
		err = 0;
	if (err)
		return err;
	err = dir_add(&dir, r->rq.name, in.ino, inode_type(&in) >> 12);
	if (!err)
		err = ops_link_count(&in, 1);
	if (err)
		return err;
	inode_touch_ctime(&in);
	inode_touch_mtime(&dir);
	inode_attr(&in, &r->reply.attr);
	return 0;
}

/* ------------------------------------------------------------------ removing */

int op_remove(struct txn *t, struct vol_req *r)
{
	bool rmdir = r->rq.op == FS_RMDIR, is_dir;
	struct inode dir, in;
	struct dir_entry e;
	int err = dir_name_check(r->rq.name);

	if (err)
		return err;
	err = ops_directory(t, r->rq.ino, true, &dir);
	if (!err)
		err = dir_find(&dir, r->rq.name, &e);
	if (!err)
		err = ops_entry(&dir, &e, &in);
	if (err)
		return err;
	is_dir = inode_type(&in) == S_IFDIR;
	if (rmdir && !is_dir)
		return -ENOTDIR;
	if (!rmdir && is_dir)
		return -EISDIR;
	if (is_dir && !dir_is_empty(&in))
		return -ENOTEMPTY;
	err = dir_remove(&dir, e.cookie);
	if (err)
		return err;
	inode_touch_mtime(&dir);
	if (is_dir) {
		err = ops_link_count(&dir, -1);
		return err ? err : ops_last_link(&in, &r->reply);
	}
	if (le32_get(in.d->nlink) <= 1)
		return ops_last_link(&in, &r->reply);
	inode_touch_ctime(&in);
	return ops_link_count(&in, -1);
}
