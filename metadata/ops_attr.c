/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ops_attr.c - attributes, link targets, extended attributes. */
#include <errno.h>
#include <sys/stat.h>

#include "metadata/acl.h"
#include "metadata/ops_parts.h"
#include "metadata/xattr.h"

#define CAPABILITY "security.capability"

int op_getattr(struct txn *t, struct vol_req *r)
{
	struct inode in;
	int err = inode_get_outside(t, r->rq.ino, &in);

	if (!err)
		inode_attr(&in, &r->reply.attr);
	return err;
}

/* The part of truncate(2) that is here; what is zeroed within the last cluster: ops.h, contract 3. */
static int set_size(const struct inode *in, uint64_t size)
{
	uint64_t old = le64_get(in->d->size), cluster_bytes = ops_cluster_bytes(in->t);

	inode_touch_mtime(in);
	in->d->size = le64_of(size);
	/* What was allocated ahead of a writer at the old end, and never written, does not become its middle. */
	if (size > old && !(inode_flags(in) & INODE_KEEP))
		return ops_trim_ahead(in, old);
	if (size > old)
		return 0;
	in->d->flags = le32_of(inode_flags(in) & ~INODE_KEEP);
	return ops_truncate_extents(in, (size + cluster_bytes - 1) / cluster_bytes);
}

static int check_setattr(struct txn *t, const struct fs_request *rq, struct inode *in)
{
	int err;

	if (!(rq->valid & FS_SET_SIZE))
		return inode_get_outside(t, rq->ino, in);
	err = ops_data_file(t, rq->ino, in);
	if (!err && rq->attr.size > FILE_BYTES_MAX)
		err = -EFBIG;
	return err;
}

/* Of a regular file alone: capabilities of anything else mean nothing, and nothing is written there. */
static void note_caps(const struct inode *in, const char *name, bool there)
{
	uint32_t flags = inode_flags(in) & ~INODE_CAPS;

	if (inode_type(in) == S_IFREG && !strcmp(name, CAPABILITY))
		in->d->flags = le32_of(there ? flags | INODE_CAPS : flags);
}

static int kill_caps(const struct inode *in)
{
	int err = inode_flags(in) & INODE_CAPS ? xattr_remove(in, CAPABILITY) : -ENODATA;

	if (err && err != -ENODATA)
		return err;
	note_caps(in, CAPABILITY, false);
	return 0;
}

int op_setattr(struct txn *t, struct vol_req *r)
{
	const struct fs_attr *a = &r->rq.attr;
	uint32_t valid = r->rq.valid;
	struct inode in;
	int err = check_setattr(t, &r->rq, &in);

	if (err)
		return err;
	if (valid == FS_SET_READ) {
		ops_set_read(&in, a->atime_ns);
		inode_attr(&in, &r->reply.attr);
		return 0;
	}
	inode_touch_ctime(&in);
	if (valid & FS_SET_SIZE)
		err = set_size(&in, a->size);
	if (err)
		return err;
	if (valid & FS_SET_UID)
		in.d->uid = le32_of(a->uid);
	if (valid & FS_SET_GID)
		in.d->gid = le32_of(a->gid);
	if (valid & FS_SET_MODE) {
		in.d->mode = le32_of(inode_type(&in) | (a->mode & 07777));
		err = acl_chmod(&in);
		if (err)
			return err;
	}
	if (valid & FS_SET_KILL_SUID)
		ops_kill_suid(&in, valid);
	if (valid & FS_SET_KILL_CAPS)
		err = kill_caps(&in);
	if (err)
		return err;
	if (valid & FS_SET_ATIME)
		in.d->atime_ns = le64_of((uint64_t)a->atime_ns);
	if (valid & FS_SET_MTIME)
		in.d->mtime_ns = le64_of((uint64_t)a->mtime_ns);
	if (valid & FS_SET_CTIME)
		in.d->ctime_ns = le64_of((uint64_t)a->ctime_ns);
	inode_attr(&in, &r->reply.attr);
	return 0;
}

int op_readlink(struct txn *t, struct vol_req *r)
{
	le64 numbers[VALUE_BLOCKS_MAX];
	struct inode in;
	uint64_t size;
	int err = inode_get_outside(t, r->rq.ino, &in);

	if (err)
		return err;
	if (inode_type(&in) != S_IFLNK)
		return -EINVAL;
	size = le64_get(in.d->size);
	if (size > r->reply.data_room)
		return -ERANGE;
	r->reply.data_len = (uint32_t)size;
	if (size <= INODE_INLINE_BYTES) {
		memcpy(r->reply.data, in.d->area, size);
		return 0;
	}
	memcpy(numbers, in.d->area, sizeof(numbers));
	return value_read(&in, numbers, (uint32_t)size, r->reply.data);
}

/* xattr(7): only who may use trusted.* sees the names (CAP_SYS_ADMIN; a request says who it is, not more). */
static void hide_trusted(struct fs_reply *rp)
{
	char *from = rp->data, *to = rp->data, *end = from + rp->data_len;

	while (from < end) {
		size_t len = strlen(from) + 1;

		if (!xattr_is_trusted(from)) {
			memmove(to, from, len);
			to += len;
		}
		from += len;
	}
	rp->data_len = (uint32_t)(to - (char *)rp->data);
}

static int list_xattrs(const struct inode *in, const struct fs_request *rq, struct fs_reply *rp)
{
	int err = xattr_list(in, rp->data, rp->data_room, &rp->data_len);

	if (!err && rq->cred.uid != 0)
		hide_trusted(rp);
	return err;
}

int op_xattr(struct txn *t, struct vol_req *r)
{
	const struct fs_request *rq = &r->rq;
	struct fs_reply *rp = &r->reply;
	struct inode in;
	int err = inode_get_outside(t, rq->ino, &in);

	if (!err && rq->op != FS_LISTXATTR)
		err = xattr_name_check(rq->name);
	if (err)
		return err;
	switch (rq->op) {
	case FS_GETXATTR:
		return xattr_get(&in, rq->name, rp->data, rp->data_room, &rp->data_len);
	case FS_LISTXATTR:
		return list_xattrs(&in, rq, rp);
	case FS_SETXATTR:
		if (rq->valid & FS_SET_KILL_SUID)
			ops_kill_sgid(&in);
		if (acl_is_acl(rq->name))
			return acl_set(&in, rq->name, rq->data, rq->data_len, rq->flags);
		err = xattr_set(&in, rq->name, rq->data, rq->data_len, rq->flags);
		break;
	default:
		err = xattr_remove(&in, rq->name);
		/* A list that says no more than the mode is there, even if it is not stored (acl(5)). */
		if (err == -ENODATA && acl_is_acl(rq->name))
			err = 0;
	}
	if (!err)
		note_caps(&in, rq->name, rq->op == FS_SETXATTR);
	return err;
}
