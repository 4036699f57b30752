/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dir.h - entries of one directory, without "." and "..". `in` is a directory in all calls.
 *
 * These keep the tree and the number of entries (disk_inode.size); link counts, times and parents
 * are the operation's.
 */
#ifndef CSVFS_METADATA_DIR_H
#define CSVFS_METADATA_DIR_H

#include "metadata/inode.h"

struct dir_entry {
	uint64_t ino, cookie;
	uint32_t type; /* S_IFMT bits of mode >> 12 */
	uint32_t name_len;
	const char *name; /* in the block: valid until the directory changes; no ending zero */
};

/* 1 .. 255 bytes, no slash, not "." or "..": 0, -ENAMETOOLONG, -EINVAL, -ENOENT (empty). */
int dir_name_check(const char *name);

/* -ENOENT */
int dir_find(const struct inode *in, const char *name, struct dir_entry *e);
/* The name must not be there yet (dir_find gave -ENOENT). -ENOSPC also when 256 names share one hash. */
int dir_add(const struct inode *in, const char *name, uint64_t ino, uint32_t type);
/* The entry with this cookie, from dir_find. */
int dir_remove(const struct inode *in, uint64_t cookie);
/* The entry keeps its name and cookie, and leads elsewhere. */
int dir_replace(const struct inode *in, const struct dir_entry *e, uint64_t ino, uint32_t type);

bool dir_is_empty(const struct inode *in);

/* Walks in order of cookie: the first entry with a cookie > after; -ENOENT at the end. */
struct dir_walk {
	struct tree tree;
	struct tree_cursor cursor;
};
int dir_first(const struct inode *in, uint64_t after, struct dir_walk *w, struct dir_entry *e);
int dir_next(struct dir_walk *w, struct dir_entry *e);

#endif
