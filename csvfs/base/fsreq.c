/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/fsreq.h"

#include <sys/stat.h>

#include "csvfs/base/cursor.h"

bool fs_type_known(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
	       S_ISFIFO(mode) || S_ISSOCK(mode);
}

bool fs_op_needs_slot(enum fs_op op)
{
	return (op >= FS_SETATTR && op <= FS_FALLOCATE) || op == FS_APPEND;
}

const char *fs_op_name(enum fs_op op)
{
	switch (op) {
	case FS_NONE: return "none";
	case FS_LOOKUP: return "lookup";
	case FS_GETATTR: return "getattr";
	case FS_READLINK: return "readlink";
	case FS_READDIR: return "readdir";
	case FS_STATFS: return "statfs";
	case FS_GETXATTR: return "getxattr";
	case FS_LISTXATTR: return "listxattr";
	case FS_LSEEK: return "lseek";
	case FS_SETATTR: return "setattr";
	case FS_MKNOD: return "mknod";
	case FS_MKDIR: return "mkdir";
	case FS_SYMLINK: return "symlink";
	case FS_LINK: return "link";
	case FS_UNLINK: return "unlink";
	case FS_RMDIR: return "rmdir";
	case FS_RENAME: return "rename";
	case FS_CREATE: return "create";
	case FS_SETXATTR: return "setxattr";
	case FS_REMOVEXATTR: return "removexattr";
	case FS_FALLOCATE: return "fallocate";
	case FS_OPEN: return "open";
	case FS_CLOSE: return "close";
	case FS_LAYOUT_GET: return "layout_get";
	case FS_LAYOUT_COMMIT: return "layout_commit";
	case FS_LAYOUT_RETURN: return "layout_return";
	case FS_APPEND: return "append";
	case FS_LOCK:
		return "lock";
	case FS_UNLOCK:
		return "unlock";
	case FS_GETLK:
		return "getlk";
	case FS_LOCK_CANCEL:
		return "lock_cancel";
	case FS_APPENDED: return "appended";
	case FS_FREE_ORPHAN: return "free_orphan";
	case FS_FSYNC: return "fsync";
	}
	return "?";
}

void fs_gone_put(struct cursor *c, const struct fs_attr *a, bool open)
{
	cursor_put_u64(c, a->ino);
	cursor_put_u64(c, a->generation);
	cursor_put_u64(c, a->size);
	cursor_put_u64(c, a->blocks);
	cursor_put_u32(c, a->mode);
	cursor_put_u32(c, a->uid);
	cursor_put_u32(c, a->gid);
	cursor_put_u32(c, a->rdev);
	cursor_put_u64(c, (uint64_t)a->atime_ns);
	cursor_put_u64(c, (uint64_t)a->mtime_ns);
	cursor_put_u64(c, (uint64_t)a->ctime_ns);
	cursor_put_u64(c, (uint64_t)a->btime_ns);
	cursor_put_u8(c, open);
}

bool fs_gone_get(struct cursor *c, struct fs_attr *a, bool *open)
{
	*a = (struct fs_attr){.ino = cursor_u64(c)};
	a->generation = cursor_u64(c);
	a->size = cursor_u64(c);
	a->blocks = cursor_u64(c);
	a->mode = cursor_u32(c);
	a->uid = cursor_u32(c);
	a->gid = cursor_u32(c);
	a->rdev = cursor_u32(c);
	a->atime_ns = (int64_t)cursor_u64(c);
	a->mtime_ns = (int64_t)cursor_u64(c);
	a->ctime_ns = (int64_t)cursor_u64(c);
	a->btime_ns = (int64_t)cursor_u64(c);
	*open = cursor_u8(c) != 0;
	return cursor_ok(c) && a->ino != 0;
}

void fs_gone_put_xattr(struct cursor *c, const char *name, uint32_t name_len, const void *value,
	uint32_t value_len)
{
	cursor_put_u8(c, (uint8_t)name_len);
	cursor_put_u32(c, value_len);
	cursor_put(c, name, name_len);
	cursor_put(c, value, value_len);
}

bool fs_gone_get_xattr(struct cursor *c, struct fs_gone_xattr *x)
{
	if (!cursor_left(c))
		return false;
	x->name_len = cursor_u8(c);
	x->value_len = cursor_u32(c);
	x->name = cursor_take(c, x->name_len);
	x->value = cursor_take(c, x->value_len);
	return cursor_ok(c);
}
