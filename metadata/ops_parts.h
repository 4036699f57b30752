/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ops_parts.h - between the files of ops: the operations by kind, and what they share. */
#ifndef CSVFS_METADATA_OPS_PARTS_H
#define CSVFS_METADATA_OPS_PARTS_H

#include "metadata/dir.h"
#include "metadata/extent.h"
#include "metadata/inode.h"
#include "metadata/ops.h"

/* ops_name.c */
int op_lookup(struct txn *t, struct vol_req *r);
int op_readdir(struct txn *t, struct vol_req *r);
int op_make(struct txn *t, struct vol_req *r); /* MKNOD, CREATE, MKDIR, SYMLINK */
int op_link(struct txn *t, struct vol_req *r);
int op_remove(struct txn *t, struct vol_req *r); /* UNLINK, RMDIR */

/* ops_rename.c */
int op_rename(struct txn *t, struct vol_req *r);

/* ops_attr.c */
int op_getattr(struct txn *t, struct vol_req *r); /* GETATTR, OPEN, FSYNC */
int op_setattr(struct txn *t, struct vol_req *r);
int op_readlink(struct txn *t, struct vol_req *r);
int op_xattr(struct txn *t, struct vol_req *r); /* GET, LIST, SET, REMOVE */

/* ops_data.c */
int op_layout_get(struct txn *t, struct vol_req *r);
int op_layout_commit(struct txn *t, struct vol_req *r);
int op_append(struct txn *t, struct vol_req *r);
int op_fallocate(struct txn *t, struct vol_req *r);
int op_lseek(struct txn *t, struct vol_req *r);
int op_statfs(struct txn *t, struct vol_req *r);

/* ops_free.c */
int op_free_orphan(struct txn *t, struct vol_req *r);
int op_close(struct txn *t, struct vol_req *r);

/* A directory that a request names; `change`: -ENOENT when it was removed. -ENOTDIR. */
int ops_directory(struct txn *t, uint64_t ino, bool change, struct inode *in);

/* The inode of an entry. One that is not there is damage, not the caller's mistake. */
int ops_entry(const struct inode *dir, const struct dir_entry *e, struct inode *in);

/* nlink += delta. It does not become 0 (that is ops_last_link): -EUCLEAN. */
int ops_link_count(const struct inode *in, int delta);

/* It was read at that time: fs_atime_due(). */
void ops_set_read(const struct inode *in, int64_t when_ns);

/* Of what is new in dir. Group and setgid bit come from a setgid directory (inode(7)). */
void ops_set_owner(
	const struct inode *in, const struct inode *dir, const struct fs_cred *cred);

/* A regular file for data operations: -EISDIR, -EINVAL; goes on with a truncate (-EINPROGRESS). */
int ops_data_file(struct txn *t, uint64_t ino, struct inode *in);

/* setuid and setgid go, as at write(2) and chown(2). valid: whether FS_SET_KILL_SGID is asked for, too. */
void ops_kill_suid(const struct inode *in, uint32_t valid);
/* setgid goes: an access list is set by one who is not in the group. */
void ops_kill_sgid(const struct inode *in);

/* The last link of `in` is gone: orphan, freed, or on its way. The reply says what it was (fs_gone_put()). */
int ops_last_link(const struct inode *in, struct fs_reply *rp);

/* All extents from cluster `from` on go: at once, or by an intent in the background. */
int ops_truncate_extents(const struct inode *in, uint64_t from);

/* Space behind the end, which is (or was) at size. */
int ops_trim_ahead(const struct inode *in, uint64_t size);

/* What is WRITTEN in clusters [from, to) becomes UNWRITTEN. -EINPROGRESS: up to *reached it has. */
int ops_make_unwritten(const struct inode *in, uint64_t from, uint64_t to, uint64_t *reached);
/* One step of the intent that stands for `in`. */
int ops_intent_step(const struct inode *in);

static inline uint64_t ops_cluster_bytes(struct txn *t)
{
	return le32_get(txn_super(t)->cluster_bytes);
}

#endif
