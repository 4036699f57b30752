/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dir.c - a directory is a tree of names keyed by cookie: the name's keyed hash with an index that
 * tells names of one hash apart. A cookie stays as long as its entry: so readdir, which goes on from
 * the last cookie it has seen, neither skips nor repeats an entry that stays, whatever else is made
 * or removed meanwhile. The hash has a key, so nobody can choose names that collide.
 */
#include "metadata/dir.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "metadata/cookie.h"

int dir_name_check(const char *name)
{
	size_t len = strnlen(name, NAME_BYTES_MAX + 1);

	if (len == 0)
		return -ENOENT;
	if (len > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	if (memchr(name, '/', len) || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return 0;
}

static int entry_of(struct txn *t, uint64_t ino, const struct tree_rec *rec, struct dir_entry *e)
{
	struct disk_dirent d;

	if (rec->len <= DIRENT_BYTES || rec->len > DIRENT_BYTES + NAME_BYTES_MAX)
		return txn_damaged(t, PROBLEM_TREE_RECORD, 0, ino, rec->len, DIRENT_BYTES + 1);
	memcpy(&d, rec->value, sizeof(d));
	e->ino = le64_get(d.ino);
	e->type = d.type;
	e->cookie = rec->key;
	e->name = (const char *)rec->value + DIRENT_BYTES;
	e->name_len = rec->len - DIRENT_BYTES;
	return 0;
}

static uint64_t bucket_of(const struct inode *in, const char *name, size_t len)
{
	return cookie_bucket(txn_super(in->t)->dir_hash_key, name, (uint32_t)len);
}

/*
 * All names of one hash, in order. *free_cookie (may be NULL): the first cookie not taken, 0 when
 * all are. -ENOENT when the name is not among them.
 */
static int find(
	const struct inode *in, const char *name, struct dir_entry *e, uint64_t *free_cookie)
{
	size_t len = strlen(name);
	uint64_t bucket = bucket_of(in, name, len), next = bucket;
	struct tree_cursor cursor;
	struct tree_rec rec;
	struct tree tr;
	int err;

	inode_tree(in, &tr);
	err = tree_first(&tr, bucket, &cursor, &rec);
	while (!err && rec.key <= bucket + COOKIE_INDEX_MAX) {
		err = entry_of(in->t, in->ino, &rec, e);
		if (err)
			return err;
		if (e->name_len == len && !memcmp(e->name, name, len))
			return 0;
		if (rec.key == next)
			next++;
		err = tree_next(&cursor, &rec);
	}
	if (err && err != -ENOENT)
		return err;
	if (free_cookie)
		*free_cookie = next <= bucket + COOKIE_INDEX_MAX ? next : 0;
	return -ENOENT;
}

int dir_find(const struct inode *in, const char *name, struct dir_entry *e)
{
	return find(in, name, e, NULL);
}

static uint32_t dirent_make(
	uint8_t *value, uint64_t ino, uint32_t type, const char *name, size_t len)
{
	struct disk_dirent d = {le64_of(ino), (uint8_t)type};

	memcpy(value, &d, sizeof(d));
	memcpy(value + DIRENT_BYTES, name, len);
	return (uint32_t)(DIRENT_BYTES + len);
}

int dir_add(const struct inode *in, const char *name, uint64_t ino, uint32_t type)
{
	uint8_t value[DIRENT_BYTES + NAME_BYTES_MAX];
	struct dir_entry e;
	uint64_t cookie;
	struct tree tr;
	int err = find(in, name, &e, &cookie);

	csv_assert(err != 0);
	if (err != -ENOENT)
		return err;
	if (cookie == 0)
		return -ENOSPC;
	inode_tree(in, &tr);
	err = tree_insert(&tr, cookie, value, dirent_make(value, ino, type, name, strlen(name)));
	if (err)
		return err;
	inode_tree_done(in, &tr);
	inode_dirty(in);
	in->d->size = le64_of(le64_get(in->d->size) + 1);
	return 0;
}

int dir_remove(const struct inode *in, uint64_t cookie)
{
	struct tree tr;
	int err;

	inode_tree(in, &tr);
	err = tree_delete(&tr, cookie);
	/* It was found on a walk through the leaves. */
	if (err == -ENOENT)
		return txn_damaged(in->t, PROBLEM_TREE_BOUNDS, in->b->blkno, in->ino, cookie, 0);
	if (err)
		return err;
	inode_tree_done(in, &tr);
	if (le64_get(in->d->size) == 0)
		return txn_damaged(in->t, PROBLEM_DIR_COUNT, in->b->blkno, in->ino, 0, 1);
	inode_dirty(in);
	in->d->size = le64_of(le64_get(in->d->size) - 1);
	return 0;
}

int dir_replace(const struct inode *in, const struct dir_entry *e, uint64_t ino, uint32_t type)
{
	uint8_t value[DIRENT_BYTES + NAME_BYTES_MAX];
	struct tree tr;

	inode_tree(in, &tr);
	return tree_update(
		&tr, e->cookie, value, dirent_make(value, ino, type, e->name, e->name_len));
}

bool dir_is_empty(const struct inode *in)
{
	return le64_get(in->d->size) == 0;
}

int dir_first(const struct inode *in, uint64_t after, struct dir_walk *w, struct dir_entry *e)
{
	struct tree_rec rec;
	int err;

	if (after >= (uint64_t)INT64_MAX)
		return -ENOENT;
	inode_tree(in, &w->tree);
	err = tree_first(&w->tree, after + 1, &w->cursor, &rec);
	return err ? err : entry_of(in->t, in->ino, &rec, e);
}

int dir_next(struct dir_walk *w, struct dir_entry *e)
{
	struct tree_rec rec;
	int err = tree_next(&w->cursor, &rec);

	return err ? err : entry_of(w->tree.t, w->tree.owner, &rec, e);
}
