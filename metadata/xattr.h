/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xattr.h - extended attributes of an inode: any names and values; who may set which is the kernel's.
 * Changes set the ctime.
 */
#ifndef CSVFS_METADATA_XATTR_H
#define CSVFS_METADATA_XATTR_H

#include "csvfs/base/cursor.h"
#include "metadata/inode.h"

/*
 * What a request may name (xattr(7)): user.*, trusted.*, security.* and the two lists of acl.h. -EOPNOTSUPP: no such
 * namespace; -EINVAL: nothing behind the dot; -ERANGE: empty.
 */
int xattr_name_check(const char *name);
bool xattr_is_trusted(const char *name);

/* The value, into `out`. *len: its length, also with -ERANGE (room too small). -ENODATA: no such name. */
int xattr_get(const struct inode *in, const char *name, void *out, uint32_t room, uint32_t *len);

/* All names, each with an ending zero, as listxattr(2). -ERANGE as above. */
int xattr_list(const struct inode *in, void *out, uint32_t room, uint32_t *len);

/*
 * flags: XATTR_CREATE (-EEXIST), XATTR_REPLACE (-ENODATA). -E2BIG: value too long; -ERANGE: name empty
 * or too long; -ENOSPC: also when the names of one inode would exceed what listxattr can give.
 */
int xattr_set(
	const struct inode *in, const char *name, const void *value, uint32_t len, uint32_t flags);

/* -ENODATA */
int xattr_remove(const struct inode *in, const char *name);

/* For fs_gone_get_xattr(): as far as there is room, and not what has blocks of its own: a removal reads none for it. */
int xattr_put_gone(const struct inode *in, struct cursor *c);

/* Frees attributes while the operation has room: 0: none is left; -EINPROGRESS: go on in the next. */
int xattr_free_all(const struct inode *in);

/* ---- Values in blocks of their own, for symlink targets as well. */

/* Writes the numbers of ceil(len / VALUE_BLOCK_BYTES) new blocks to numbers[]. */
int value_write(const struct inode *in, const void *value, uint32_t len, le64 *numbers);
int value_read(const struct inode *in, const le64 *numbers, uint32_t len, void *out);
int value_free(const struct inode *in, const le64 *numbers, uint32_t len);

#endif
