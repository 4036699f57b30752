/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "csvfs/base/fsreq.h"

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
	case FS_FREE_ORPHAN: return "free_orphan";
	case FS_FSYNC: return "fsync";
	}
	return "?";
}
