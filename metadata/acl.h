/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acl.h - POSIX access control lists, as far as a FUSE server has a part in them (FUSE_POSIX_ACL): the
 * kernel checks permissions; here mode and list are kept in step, and new files inherit.
 *
 * A list is the value of the xattr system.posix_acl_access or system.posix_acl_default, in the
 * kernel's form: le32 version 2, then entries of le16 tag, le16 permissions, le32 id (acl(5),
 * linux/posix_acl_xattr.h).
 */
#ifndef CSVFS_METADATA_ACL_H
#define CSVFS_METADATA_ACL_H

#include "metadata/inode.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define ACL_BYTES_MAX 4096u

bool acl_is_acl(const char *xattr_name);

/*
 * SETXATTR of one of the two. An access list sets the mode's permission bits, and is not stored when
 * they say all of it; an empty list removes what was there. -EINVAL: malformed; -EACCES: a default list
 * of what is no directory; -E2BIG: more than ACL_BYTES_MAX; flags as xattr_set().
 */
int acl_set(
	const struct inode *in, const char *name, const void *value, uint32_t len, uint32_t flags);

/* chmod(2): the mode has been set; an access list, if there is one, follows. */
int acl_chmod(const struct inode *in);

/*
 * A new inode in `dir`, made with these permission bits. With a default list there, list and mode
 * come from it; without, the mode loses the bits of `umask`.
 */
int acl_inherit(const struct inode *dir, const struct inode *in, uint32_t umask);

#endif
