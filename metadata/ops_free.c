/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ops_free.c - how files end: the last link, the last close, and freeing in steps.
 *
 * Order within one inode that is freed: extents, then attributes, then link target and slot in one
 * operation. Each step frees what it takes out of the tree in the same operation, so a crash between
 * two steps finds a smaller file, nothing else.
 */
#include <errno.h>
#include <sys/stat.h>

#include "csvfs/base/assert.h"
#include "metadata/ops_parts.h"
#include "metadata/xattr.h"

/* 0: all that `in` held is free, and its slot. -EINPROGRESS: a part is. */
static int free_all(const struct inode *in)
{
	uint64_t size = le64_get(in->d->size);
	le64 numbers[VALUE_BLOCKS_MAX];
	int err = 0;

	if (inode_type(in) == S_IFREG)
		err = extent_free(in, 0, EXTENT_END);
	if (!err)
		err = xattr_free_all(in);
	if (!err && inode_type(in) == S_IFLNK && size > INODE_INLINE_BYTES) {
		memcpy(numbers, in->d->area, sizeof(numbers));
		err = value_free(in, numbers, (uint32_t)size);
	}
	if (!err)
		err = inode_intent_clear(in);
	return err ? err : inode_free(in);
}

/* Nobody has it open and no link leads to it. */
static int let_go(const struct inode *in)
{
	int err = free_all(in);

	return err == -EINPROGRESS ? inode_intent_set(in, INTENT_FREE, 0, 0) : err;
}

static int say_gone(const struct inode *in, bool open, struct fs_reply *rp)
{
	struct cursor c = cursor_of(rp->data, rp->data_room);
	uint64_t size = le64_get(in->d->size);
	struct fs_attr a;
	int err;

	if (!rp->data_room)
		return 0;
	inode_attr(in, &a);
	fs_gone_put(&c, &a, open);
	if (inode_type(in) == S_IFLNK && size <= INODE_INLINE_BYTES)
		fs_gone_put_xattr(&c, "", 0, in->d->area, (uint32_t)size);
	err = xattr_put_gone(in, &c);
	csv_assert(cursor_ok(&c));
	rp->data_len = rp->data_room - (uint32_t)cursor_left(&c);
	return err;
}

int ops_last_link(const struct inode *in, struct fs_reply *rp)
{
	bool open;
	int err;

	inode_touch_ctime(in);
	in->d->nlink = le32_of(0);
	open = txn_ino_is_open(in->t, in->ino);
	err = say_gone(in, open, rp);
	if (err)
		return err;
	return open ? inode_orphan_add(in) : let_go(in);
}

static int free_from(const struct inode *in, uint64_t from)
{
	int err;

	inode_dirty(in);
	err = extent_free(in, from, EXTENT_END);
	return err == -EINPROGRESS ? inode_intent_set(in, INTENT_TRUNCATE, from, 0) : err;
}

int ops_truncate_extents(const struct inode *in, uint64_t from)
{
	inode_dirty(in);
	in->d->version = le64_of(le64_get(in->d->version) + 1);
	return free_from(in, from);
}

/* It was allocated ahead of a writer, and never written. The version tells of a file that was made shorter: it was not (rule 17 of dp.h). */
int ops_trim_ahead(const struct inode *in, uint64_t size)
{
	uint64_t cluster_bytes = ops_cluster_bytes(in->t);
	uint64_t end = (size + cluster_bytes - 1) / cluster_bytes;
	struct extent e;
	int err = extent_at(in, end, &e);

	if (err || (e.state == EXT_HOLE && e.off + e.len == EXTENT_END))
		return err;
	return free_from(in, end);
}

/*
 * While the intent stands nobody else changes the file's extents, nor gets a layout of it. So what is UNWRITTEN so far stays so,
 * and the next step begins behind it: one that began at the start again would look at all that earlier ones had done.
 */
static int zero_step(const struct inode *in, uint64_t from, uint64_t to)
{
	int err = ops_make_unwritten(in, from, to, &from), set;

	if (err != -EINPROGRESS)
		return err;
	set = inode_intent_set(in, INTENT_ZERO, from, to);
	return set ? set : err;
}

int ops_intent_step(const struct inode *in)
{
	struct disk_intent it;
	int err = inode_intent_get(in, &it);

	if (err)
		return err;
	if (inode_flags(in) & INODE_FREEING)
		return free_all(in);
	switch ((enum intent_op)le32_get(it.op)) {
	case INTENT_PUNCH:
		err = extent_free(in, le64_get(it.from), le64_get(it.to));
		break;
	case INTENT_ZERO:
		err = zero_step(in, le64_get(it.from), le64_get(it.to));
		break;
	case INTENT_TRUNCATE:
	case INTENT_FREE:
		err = extent_free(in, le64_get(it.from), EXTENT_END);
		break;
	}
	return err ? err : inode_intent_clear(in);
}

static int free_orphan(struct txn *t, uint64_t ino)
{
	struct inode in;
	int err = inode_get_outside(t, ino, &in);

	if (err)
		return err == -ESTALE ? 0 : err; /* freed already: asked twice */
	if (!(inode_flags(&in) & INODE_ORPHAN) || txn_ino_is_open(t, ino))
		return 0;
	err = inode_orphan_remove(&in);
	return err ? err : let_go(&in);
}

int op_free_orphan(struct txn *t, struct vol_req *r)
{
	uint64_t ino = r->rq.off;
	int err;

	if (r->rq.ino)
		return op_close(t, r);
	do {
		err = inode_orphan_next(t, ino, &ino);
		if (err)
			return err;
	} while (txn_ino_is_open(t, ino));
	r->reply.off = ino;
	return free_orphan(t, ino);
}

int op_close(struct txn *t, struct vol_req *r)
{
	struct inode in;
	int err = inode_get_outside(t, r->rq.ino, &in);

	if (err)
		return err == -ESTALE ? 0 : err;
	if (txn_ino_is_open(t, in.ino) && !(r->rq.flags & FS_TRIM_OPEN))
		return 0;
	if (inode_flags(&in) & INODE_ORPHAN)
		return free_orphan(t, in.ino);
	if (inode_type(&in) != S_IFREG || (inode_flags(&in) & INODE_KEEP))
		return 0;
	if (inode_flags(&in) & INODE_TRUNCATE) {
		err = ops_intent_step(&in);
		return err ? err : -EINPROGRESS;
	}
	return ops_trim_ahead(&in, le64_get(in.d->size));
}
