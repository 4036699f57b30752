/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xattr.c - a tree of names, keyed by cookie as a directory's; short values within the record, long
 * ones in blocks of their own that the record lists.
 */
#include "metadata/xattr.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "csvfs/base/assert.h"
#include "metadata/acl.h"
#include "metadata/cookie.h"

static uint32_t value_blocks(uint32_t len)
{
	return (len + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
}

static uint32_t piece_bytes(uint32_t len, uint32_t index)
{
	uint32_t left = len - index * VALUE_BLOCK_BYTES;

	return left < VALUE_BLOCK_BYTES ? left : VALUE_BLOCK_BYTES;
}

int value_write(const struct inode *in, const void *value, uint32_t len, le64 *numbers)
{
	uint64_t blkno, near = in->b->blkno;
	struct disk_value_block *v;
	struct block *b;
	int err;

	for (uint32_t i = 0; i < value_blocks(len); i++) {
		err = alloc_block(in->t, near, false, &blkno);
		if (!err)
			err = txn_new(in->t, blkno, MAGIC_XATTR, in->ino, &b);
		if (err)
			return err;
		v = (struct disk_value_block *)b->data;
		v->index = le32_of(i);
		v->len = le32_of(piece_bytes(len, i));
		memcpy(v->data, (const uint8_t *)value + i * VALUE_BLOCK_BYTES,
			piece_bytes(len, i));
		numbers[i] = le64_of(blkno);
		near = blkno;
	}
	return 0;
}

int value_read(const struct inode *in, const le64 *numbers, uint32_t len, void *out)
{
	const struct disk_value_block *v;
	struct block *b;
	int err;

	for (uint32_t i = 0; i < value_blocks(len); i++) {
		err = txn_get(in->t, le64_get(numbers[i]), MAGIC_XATTR, in->ino, &b);
		if (err)
			return err;
		v = (const struct disk_value_block *)b->data;
		if (le32_get(v->index) != i || le32_get(v->len) != piece_bytes(len, i))
			return txn_damaged(in->t, PROBLEM_XATTR, b->blkno, in->ino,
				le32_get(v->len), piece_bytes(len, i));
		memcpy((uint8_t *)out + i * VALUE_BLOCK_BYTES, v->data, piece_bytes(len, i));
	}
	return 0;
}

int value_free(const struct inode *in, const le64 *numbers, uint32_t len)
{
	for (uint32_t i = 0; i < value_blocks(len); i++) {
		int err = alloc_free_block(in->t, le64_get(numbers[i]));

		if (err)
			return err;
		txn_forget(in->t, le64_get(numbers[i]));
	}
	return 0;
}

/* ------------------------------------------------------------------ names */

bool xattr_is_trusted(const char *name)
{
	return !strncmp(name, "trusted.", 8);
}

int xattr_name_check(const char *name)
{
	static const char *const spaces[] = {"user.", "trusted.", "security."};
	size_t len;

	if (!*name)
		return -ERANGE;
	if (acl_is_acl(name))
		return 0;
	for (uint32_t i = 0; i < 3; i++) {
		len = strlen(spaces[i]);
		if (!strncmp(name, spaces[i], len))
			return name[len] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

/* ------------------------------------------------------------------ records */

struct attr_rec {
	uint64_t cookie;
	const char *name;
	uint32_t name_len, value_len;
	bool in_blocks;
	const uint8_t *value; /* or the blocks' numbers */
};

static int attr_of(const struct inode *in, const struct tree_rec *rec, struct attr_rec *a)
{
	struct disk_xattr d;
	uint32_t rest;

	if (rec->len < sizeof(d))
		return txn_damaged(
			in->t, PROBLEM_XATTR, in->b->blkno, in->ino, rec->len, sizeof(d));
	memcpy(&d, rec->value, sizeof(d));
	a->cookie = rec->key;
	a->name = (const char *)rec->value + sizeof(d);
	a->name_len = d.name_bytes;
	a->value_len = le32_get(d.value_bytes);
	a->in_blocks = d.place == XATTR_BLOCKS;
	a->value = rec->value + sizeof(d) + d.name_bytes;
	rest = a->in_blocks ? value_blocks(a->value_len) * 8 : a->value_len;
	if (a->value_len > XATTR_BYTES_MAX || rec->len != sizeof(d) + d.name_bytes + rest)
		return txn_damaged(in->t, PROBLEM_XATTR, in->b->blkno, in->ino, rec->len, rest);
	return 0;
}

static void attr_tree(const struct inode *in, struct tree *tr)
{
	tree_block(tr, in->t, TREE_XATTRS, in->ino, le64_get(in->d->xattr_root));
}

/* As in dir.c: -ENODATA, and then *free_cookie, 0 when no more names of this hash fit. */
static int find(const struct inode *in, const char *name, struct attr_rec *a, uint64_t *free_cookie)
{
	size_t len = strlen(name);
	uint64_t bucket = cookie_bucket(txn_super(in->t)->dir_hash_key, name, (uint32_t)len);
	struct tree_cursor cursor;
	struct tree_rec rec;
	struct tree tr;
	int err;

	*free_cookie = bucket;
	attr_tree(in, &tr);
	err = tree_first(&tr, bucket, &cursor, &rec);
	while (!err && rec.key <= bucket + COOKIE_INDEX_MAX) {
		err = attr_of(in, &rec, a);
		if (err)
			return err;
		if (a->name_len == len && !memcmp(a->name, name, len))
			return 0;
		if (rec.key == *free_cookie)
			(*free_cookie)++;
		err = tree_next(&cursor, &rec);
	}
	if (err && err != -ENOENT)
		return err;
	if (*free_cookie > bucket + COOKIE_INDEX_MAX)
		*free_cookie = 0;
	return -ENODATA;
}

static void read_numbers(const struct attr_rec *a, le64 numbers[VALUE_BLOCKS_MAX])
{
	memcpy(numbers, a->value, value_blocks(a->value_len) * sizeof(le64));
}

int xattr_get(const struct inode *in, const char *name, void *out, uint32_t room, uint32_t *len)
{
	le64 numbers[VALUE_BLOCKS_MAX];
	struct attr_rec a;
	uint64_t unused;
	int err = find(in, name, &a, &unused);

	if (err)
		return err;
	*len = a.value_len;
	if (a.value_len > room)
		return -ERANGE;
	if (!a.in_blocks) {
		if (a.value_len)
			memcpy(out, a.value, a.value_len);
		return 0;
	}
	read_numbers(&a, numbers);
	return value_read(in, numbers, a.value_len, out);
}

/* Shows each attribute to take(), until that is an error. */
static int walk(const struct inode *in, int (*take)(void *arg, const struct attr_rec *a), void *arg)
{
	struct tree_cursor cursor;
	struct tree_rec rec;
	struct attr_rec a;
	struct tree tr;
	int err;

	attr_tree(in, &tr);
	err = tree_first(&tr, 0, &cursor, &rec);
	while (!err) {
		err = attr_of(in, &rec, &a);
		if (!err)
			err = take(arg, &a);
		if (err)
			return err;
		err = tree_next(&cursor, &rec);
	}
	return err == -ENOENT ? 0 : err;
}

struct name_list {
	const struct inode *in;
	char *out;
	uint32_t room, used;
};

static int take_name(void *arg, const struct attr_rec *a)
{
	struct name_list *l = arg;

	if (a->name_len + 1 > l->room - l->used)
		return txn_damaged(l->in->t, PROBLEM_XATTR, l->in->b->blkno, l->in->ino, l->used,
			le32_get(l->in->d->xattr_names));
	memcpy(l->out + l->used, a->name, a->name_len);
	l->out[l->used + a->name_len] = 0;
	l->used += a->name_len + 1;
	return 0;
}

int xattr_list(const struct inode *in, void *out, uint32_t room, uint32_t *len)
{
	struct name_list l = {.in = in, .out = out, .room = room};
	int err;

	*len = le32_get(in->d->xattr_names);
	if (*len > room)
		return -ERANGE;
	err = walk(in, take_name, &l);
	if (!err)
		*len = l.used;
	return err;
}

static int put_one(void *arg, const struct attr_rec *a)
{
	struct cursor *c = arg;

	if (!a->in_blocks && FS_GONE_XATTR_BYTES(a->name_len, a->value_len) <= cursor_left(c))
		fs_gone_put_xattr(c, a->name, a->name_len, a->value, a->value_len);
	return 0;
}

int xattr_put_gone(const struct inode *in, struct cursor *c)
{
	return le64_get(in->d->xattr_root) ? walk(in, put_one, c) : 0;
}

/* ------------------------------------------------------------------ changes */

static int count(const struct inode *in, const struct tree *tr, int32_t attrs, int32_t name_bytes)
{
	uint32_t n = le32_get(in->d->xattr_count) + (uint32_t)attrs;
	uint32_t bytes = le32_get(in->d->xattr_names) + (uint32_t)name_bytes;

	/* What the counters said before is not what the tree holds. */
	if ((n == 0) != (tr->root_blkno == 0) || bytes < 2ull * n || bytes > XATTR_BYTES_MAX)
		return txn_damaged(in->t, PROBLEM_XATTR, in->b->blkno, in->ino, n, bytes);
	inode_touch_ctime(in);
	in->d->xattr_root = le64_of(tr->root_blkno);
	in->d->xattr_count = le32_of(n);
	in->d->xattr_names = le32_of(bytes);
	return 0;
}

static int take_away(const struct inode *in, const struct attr_rec *a)
{
	int32_t name_bytes = (int32_t)a->name_len + 1;
	le64 numbers[VALUE_BLOCKS_MAX];
	struct tree tr;
	int err = 0;

	if (a->in_blocks) {
		read_numbers(a, numbers);
		err = value_free(in, numbers, a->value_len);
	}
	attr_tree(in, &tr);
	if (!err)
		err = tree_delete(&tr, a->cookie);
	/* It was found on a walk through the leaves. */
	if (err == -ENOENT)
		return txn_damaged(in->t, PROBLEM_TREE_BOUNDS, in->b->blkno, in->ino, a->cookie, 0);
	if (err)
		return err;
	return count(in, &tr, -1, -name_bytes);
}

static int put(
	const struct inode *in, const char *name, const void *value, uint32_t len, uint64_t cookie)
{
	uint32_t name_len = (uint32_t)strlen(name), used = (uint32_t)sizeof(struct disk_xattr);
	uint8_t record[TREE_VALUE_MAX];
	struct disk_xattr d = {le32_of(len), (uint8_t)name_len, XATTR_INLINE};
	le64 numbers[VALUE_BLOCKS_MAX];
	struct tree tr;
	int err;

	_Static_assert(sizeof(d) + NAME_BYTES_MAX + XATTR_INLINE_MAX <= TREE_VALUE_MAX, "room");
	if (len > XATTR_INLINE_MAX)
		d.place = XATTR_BLOCKS;
	memcpy(record, &d, sizeof(d));
	memcpy(record + used, name, name_len);
	used += name_len;
	if (d.place == XATTR_BLOCKS) {
		err = value_write(in, value, len, numbers);
		if (err)
			return err;
		memcpy(record + used, numbers, value_blocks(len) * sizeof(le64));
		used += value_blocks(len) * (uint32_t)sizeof(le64);
	} else if (len) {
		memcpy(record + used, value, len);
		used += len;
	}
	attr_tree(in, &tr);
	err = tree_insert(&tr, cookie, record, used);
	if (err)
		return err;
	return count(in, &tr, 1, (int32_t)name_len + 1);
}

int xattr_set(
	const struct inode *in, const char *name, const void *value, uint32_t len, uint32_t flags)
{
	size_t name_len = strnlen(name, NAME_BYTES_MAX + 1);
	struct attr_rec a;
	uint64_t cookie;
	int err;

	if (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	if (name_len == 0 || name_len > NAME_BYTES_MAX)
		return -ERANGE;
	if (len > XATTR_BYTES_MAX)
		return -E2BIG;
	err = find(in, name, &a, &cookie);
	if (err && err != -ENODATA)
		return err;
	if (err && (flags & XATTR_REPLACE))
		return -ENODATA;
	if (!err && (flags & XATTR_CREATE))
		return -EEXIST;
	if (!err) {
		err = take_away(in, &a);
		if (err)
			return err;
	}
	if (cookie == 0 || le32_get(in->d->xattr_names) + name_len + 1 > XATTR_BYTES_MAX)
		return -ENOSPC;
	return put(in, name, value, len, cookie);
}

int xattr_remove(const struct inode *in, const char *name)
{
	struct attr_rec a;
	uint64_t unused;
	int err = find(in, name, &a, &unused);

	return err ? err : take_away(in, &a);
}

/*
 * Blocks that it takes to take this one away, by txn.h: each block of its value; the inode, and the record in a tree of two levels
 * below its root. 124 for the largest: one can always be taken away by an operation that has done nothing else.
 */
static uint32_t remove_blocks(const struct attr_rec *a)
{
	_Static_assert(VALUE_BLOCKS_MAX * 4 + 1 + 4 + 2 * 8 + TXN_END_BLOCKS <= TXN_OP_BLOCKS, "a step");
	return (a->in_blocks ? value_blocks(a->value_len) * 4 : 0) + 1 + 4 + 2 * 8 + TXN_END_BLOCKS;
}

int xattr_free_all(const struct inode *in)
{
	struct tree_rec rec;
	struct attr_rec a;
	struct tree tr;
	int err;

	while (le64_get(in->d->xattr_root)) {
		attr_tree(in, &tr);
		err = tree_seek(&tr, 0, &rec);
		csv_assert(err != -ENOENT); /* a root that is there was verified: it is not empty */
		if (!err)
			err = attr_of(in, &rec, &a);
		if (!err && txn_room(in->t) < remove_blocks(&a))
			return -EINPROGRESS;
		if (!err)
			err = take_away(in, &a);
		if (err)
			return err;
	}
	return 0;
}
