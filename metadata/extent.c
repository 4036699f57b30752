/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * extent.c - the extents of a file: a tree keyed by offset.
 *
 * Rules
 *  1. Extents do not overlap, and two that continue each other in the file and on the LUN with one
 *     state are one extent (as far as its length's 32 bits go). So a file written in order stays
 *     short, however small its writes were.
 *  2. disk_inode.clusters is the sum of their lengths.
 *  3. Changes that take space away or state changes may use the metadata reserve: a full volume must
 *     neither keep a file from shrinking nor lose a write that was accepted.
 */
#include "metadata/extent.h"

#include <errno.h>

#include "csvfs/base/assert.h"

static void extent_of(const struct tree_rec *rec, struct extent *e)
{
	struct disk_extent d;

	csv_assert(rec->len == sizeof(d)); /* the block was verified */
	memcpy(&d, rec->value, sizeof(d));
	e->off = rec->key;
	e->start = le64_get(d.start);
	e->len = le32_get(d.len);
	e->state = le32_get(d.state);
}

static struct disk_extent disk_of(const struct extent *e)
{
	csv_assert(e->len > 0 && e->len <= EXTENT_LEN_MAX);
	return (struct disk_extent){
		le64_of(e->start), le32_of((uint32_t)e->len), le32_of(e->state)};
}

static int put_new(struct tree *tr, const struct extent *e)
{
	struct disk_extent d = disk_of(e);

	return tree_insert(tr, e->off, &d, sizeof(d));
}

static int put_again(struct tree *tr, const struct extent *e)
{
	struct disk_extent d = disk_of(e);

	return tree_update(tr, e->off, &d, sizeof(d));
}

static void add_clusters(const struct inode *in, int64_t delta)
{
	inode_dirty(in);
	in->d->clusters = le64_of(le64_get(in->d->clusters) + (uint64_t)delta);
}

int extent_at(const struct inode *in, uint64_t off, struct extent *e)
{
	uint64_t hole_from = 0, hole_to = EXTENT_END;
	struct tree_rec rec;
	struct tree tr;
	int err;

	inode_tree(in, &tr);
	err = tree_floor(&tr, off, &rec);
	if (!err) {
		extent_of(&rec, e);
		if (off < e->off + e->len)
			return 0;
		hole_from = e->off + e->len;
	} else if (err != -ENOENT) {
		return err;
	}
	err = tree_seek(&tr, off, &rec);
	if (!err)
		hole_to = rec.key;
	else if (err != -ENOENT)
		return err;
	*e = (struct extent){hole_from, 0, hole_to - hole_from, EXT_HOLE};
	return 0;
}

int extent_next(struct extent_walk *w, struct extent *e)
{
	int err;

	if (w->off >= EXTENT_END)
		return -ENOENT;
	if (w->at_end || w->rec.key > w->off) {
		uint64_t to = w->at_end ? EXTENT_END : w->rec.key;

		*e = (struct extent){w->off, 0, to - w->off, EXT_HOLE};
		w->off = to;
		return 0;
	}
	extent_of(&w->rec, e);
	if (e->off < w->off)
		return txn_damaged(w->tree.t, PROBLEM_EXTENT_OVERLAP, w->tree.holder->blkno,
			w->tree.owner, e->off, w->off);
	w->off = e->off + e->len;
	err = tree_next(&w->cursor, &w->rec);
	w->at_end = err == -ENOENT;
	return w->at_end ? 0 : err;
}

int extent_first(const struct inode *in, uint64_t off, struct extent_walk *w, struct extent *e)
{
	int err = extent_at(in, off, e);

	if (err)
		return err;
	inode_tree(in, &w->tree);
	w->off = e->off;
	err = tree_first(&w->tree, e->off, &w->cursor, &w->rec);
	w->at_end = err == -ENOENT;
	return err && !w->at_end ? err : extent_next(w, e);
}

static bool continues(const struct extent *a, const struct extent *b)
{
	return a->off + a->len == b->off && a->start + a->len == b->start && a->state == b->state &&
	       a->len + b->len <= EXTENT_LEN_MAX;
}

static int overlap(struct tree *tr, uint64_t end, uint64_t next)
{
	return txn_damaged(tr->t, PROBLEM_EXTENT_OVERLAP, tr->holder->blkno, tr->owner, end, next);
}

/* Rule 1. The place is a hole in the tree. */
static int add_joined(struct tree *tr, const struct extent *e)
{
	struct extent left, right, all = *e;
	bool join_left = false, join_right = false;
	struct tree_rec rec;
	int err;

	err = tree_floor(tr, e->off, &rec);
	if (!err) {
		extent_of(&rec, &left);
		if (left.off + left.len > e->off)
			return overlap(tr, left.off + left.len, e->off);
		join_left = continues(&left, &all);
	} else if (err != -ENOENT) {
		return err;
	}
	if (join_left) {
		all = left;
		all.len += e->len;
	}
	err = tree_seek(tr, e->off, &rec);
	if (!err) {
		extent_of(&rec, &right);
		if (right.off < e->off + e->len)
			return overlap(tr, e->off + e->len, right.off);
		join_right = continues(&all, &right);
	} else if (err != -ENOENT) {
		return err;
	}
	if (join_right) {
		err = tree_delete(tr, right.off);
		if (err)
			return err;
		all.len += right.len;
	}
	return join_left ? put_again(tr, &all) : put_new(tr, &all);
}

int extent_add(const struct inode *in, const struct extent *e, bool reserve)
{
	struct tree tr;
	int err;

	inode_tree(in, &tr);
	tr.reserve = reserve;
	err = add_joined(&tr, e);
	if (err)
		return err;
	inode_tree_done(in, &tr);
	add_clusters(in, (int64_t)e->len);
	return 0;
}

/* Takes [off, off + len), which lies within extent e, out of the tree; the rest of e stays. */
static int cut(struct tree *tr, const struct extent *e, uint64_t off, uint64_t len)
{
	struct extent left = *e, right = *e;
	struct tree_rec rec;
	int err;

	/* Two leaves may overlap where each alone is sound: that must not spread. */
	err = tree_seek(tr, e->off + 1, &rec);
	if (!err && rec.key < e->off + e->len)
		return overlap(tr, e->off + e->len, rec.key);
	if (err && err != -ENOENT)
		return err;
	csv_assert(off >= e->off && off + len <= e->off + e->len && len > 0);
	left.len = off - e->off;
	right.off = off + len;
	right.start += right.off - e->off;
	right.len -= right.off - e->off;
	err = left.len ? put_again(tr, &left) : tree_delete(tr, e->off);
	if (!err && right.len)
		err = put_new(tr, &right);
	return err;
}

int extent_set_state(const struct inode *in, uint64_t off, uint64_t len, uint32_t state)
{
	struct extent e, piece;
	struct tree_rec rec;
	struct tree tr;
	int err;

	inode_tree(in, &tr);
	tr.reserve = true;
	err = tree_floor(&tr, off, &rec);
	csv_assert(err != -ENOENT); /* extent_at() has found it there */
	if (err)
		return err;
	extent_of(&rec, &e);
	csv_assert(e.state != state);
	piece = (struct extent){off, e.start + (off - e.off), len, state};
	err = cut(&tr, &e, off, len);
	if (!err)
		err = add_joined(&tr, &piece);
	if (err)
		return err;
	inode_tree_done(in, &tr);
	return 0;
}

/* The last piece of [from, to) within e that lies in one group of clusters: bounded work. */
static int free_piece(
	const struct inode *in, const struct extent *e, uint64_t from, uint64_t to, struct tree *tr)
{
	uint64_t first = e->off > from ? e->off : from;
	uint64_t last = e->off + e->len < to ? e->off + e->len : to;
	uint64_t start = e->start + (first - e->off), end = e->start + (last - e->off);
	uint64_t group = (end - 1) / GROUP_CLUSTERS * GROUP_CLUSTERS;
	uint32_t len;
	int err;

	if (start < group)
		start = group;
	len = (uint32_t)(end - start);
	err = cut(tr, e, last - len, len);
	if (err)
		return err;
	add_clusters(in, -(int64_t)len);
	return alloc_free_clusters(in->t, start, len);
}

int extent_free(const struct inode *in, uint64_t from, uint64_t to)
{
	struct tree_rec rec;
	struct extent e;
	struct tree tr;
	uint32_t pieces = 0;
	int err = 0;

	if (from >= to)
		return 0;
	inode_tree(in, &tr);
	tr.reserve = true;
	for (;;) {
		err = tree_floor(&tr, to - 1, &rec);
		if (err == -ENOENT)
			break;
		if (err)
			return err;
		extent_of(&rec, &e);
		if (e.off + e.len <= from)
			break;
		if (txn_room(in->t) < EXTENT_STEP_BLOCKS || pieces++ == EXTENT_STEP_PIECES) {
			err = -EINPROGRESS;
			break;
		}
		err = free_piece(in, &e, from, to, &tr);
		if (err)
			return err;
	}
	inode_tree_done(in, &tr);
	return err == -EINPROGRESS ? err : 0;
}

/* Behind the extent before `off`, wherever that is. */
static int goal_for(const struct inode *in, uint64_t off, uint64_t *goal)
{
	struct tree_rec rec;
	struct extent e;
	struct tree tr;
	int err;

	*goal = 0;
	inode_tree(in, &tr);
	err = tree_floor(&tr, off, &rec);
	if (err)
		return err == -ENOENT ? 0 : err;
	extent_of(&rec, &e);
	if (e.start + e.len < le64_get(txn_super(in->t)->cluster_count))
		*goal = e.start + e.len;
	return 0;
}

/* A file of less than a chunk shares a window with the other small ones of its node. No inode has the number 1. */
static uint64_t window_for(const struct inode *in, uint32_t node, uint64_t want)
{
	uint64_t bytes = le32_get(txn_super(in->t)->cluster_bytes);

	if ((le64_get(in->d->clusters) + want) * bytes < CHUNK_SIZE)
		return (uint64_t)node << 48 | 1;
	return (uint64_t)node << 48 ^ in->ino;
}

int extent_fill(const struct inode *in, uint64_t from, uint64_t to, uint32_t node, uint32_t most,
	uint64_t *end)
{
	uint64_t goal, want;
	uint32_t got, pieces = 0;
	struct extent e;
	int err;

	for (*end = from; *end < to; *end = e.off + e.len) {
		/* What has space already counts, too: all that is looked at must be in the cache at once. */
		if (pieces++ == EXTENT_STEP_PIECES)
			return -EINPROGRESS;
		err = extent_at(in, *end, &e);
		if (err)
			return err;
		if (e.state != EXT_HOLE)
			continue;
		if (most-- == 0 || txn_room(in->t) < EXTENT_STEP_BLOCKS)
			return -EINPROGRESS;
		want = (e.off + e.len < to ? e.off + e.len : to) - *end;
		err = goal_for(in, *end, &goal);
		if (err)
			return err;
		e = (struct extent){*end, 0, 0, EXT_UNWRITTEN};
		err = alloc_clusters(in->t, goal, window_for(in, node, want),
			(uint32_t)(want < GROUP_CLUSTERS ? want : GROUP_CLUSTERS), &e.start, &got);
		if (err)
			return err;
		e.len = got;
		err = extent_add(in, &e, true);
		if (err) {
			*end = from; /* the clusters would be lost: the whole operation fails */
			return err;
		}
	}
	*end = to;
	return 0;
}
