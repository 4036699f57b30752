/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * alloc_data.c - clusters for data: long runs, and each writer in a place of its own.
 *
 * A writer that asks again goes on at its goal (behind the file's last extent), else in its window: a
 * free, 1 MiB-aligned range that others keep out of while they find space elsewhere. Windows are
 * only a preference, in memory: nothing is lost with them. Files below 1 MiB of one node share one window, so
 * that they lie side by side and leave whole chunks free, which metadata needs (alloc.c, A5).
 */
#include "metadata/alloc.h"
#include "metadata/verify_inode.h"

#define WINDOW_BYTES_MIN (1u << 20)
#define WINDOW_BYTES_MAX (64u << 20)
#define GROUPS_LOOKED_AT 8u /* for a whole window, before a smaller run is taken */

struct run {
	uint32_t group, from, count; /* count 0: none */
};

/* ------------------------------------------------------------------ windows */

static struct alloc_window *window_of(struct alloc *a, uint64_t who)
{
	for (uint32_t i = 0; i < ALLOC_WINDOWS; i++)
		if (a->windows[i].end && a->windows[i].who == who)
			return &a->windows[i];
	return NULL;
}

/*
 * Windows do not overlap: space that was found although it is in somebody's window (search_best()) is in
 * nobody else's from now on. Else its finder would be kept out of its own window, and break up another free
 * chunk each time.
 */
static void windows_give_way(struct alloc *a, uint64_t start, uint64_t end)
{
	for (uint32_t i = 0; i < ALLOC_WINDOWS; i++)
		if (a->windows[i].start < end && start < a->windows[i].end)
			a->windows[i].end = 0;
}

/* The writer's own entry, a free one, or the one that was not used for the longest time. */
static void window_set(struct txn *t, uint64_t who, uint64_t start, uint64_t end)
{
	struct alloc *a = &t->v->alloc;
	struct alloc_window *w;

	windows_give_way(a, start, end);
	w = window_of(a, who);
	for (uint32_t i = 0; i < ALLOC_WINDOWS && !w; i++)
		if (!a->windows[i].end)
			w = &a->windows[i];
	if (!w) {
		w = &a->windows[0];
		for (uint32_t i = 1; i < ALLOC_WINDOWS; i++)
			if (a->windows[i].used < w->used)
				w = &a->windows[i];
	}
	*w = (struct alloc_window){who, start, end, t->op};
}

/* ------------------------------------------------------------------ taking */

/* A5, A6: the run ends before the first free chunk that must be left. */
static void limit_run(const struct alloc *a, const struct disk_group *d, struct run *r)
{
	uint64_t spare = alloc_whole_to_spare(a);
	uint32_t c = r->from / a->chunk_clusters;

	for (; r->count && c * a->chunk_clusters < r->from + r->count; c++) {
		if (!alloc_chunk_is_whole(a, d, c) || spare--)
			continue;
		r->count = c * a->chunk_clusters > r->from ? c * a->chunk_clusters - r->from : 0;
		return;
	}
}

static int take(
	struct txn *t, struct block *gb, const struct run *r, uint64_t *start, uint32_t *got)
{
	txn_dirty(t, gb);
	alloc_group_take((struct disk_group *)gb->data, r->from, r->count);
	*start = (uint64_t)r->group * GROUP_CLUSTERS + r->from;
	*got = r->count;
	return alloc_group_changed(t, r->group, gb);
}

/* A run from cluster `first` on, ending before `end`; *got 0: that cluster is taken. */
static int take_at(struct txn *t, uint64_t first, uint64_t end, uint64_t who, uint32_t want,
	uint64_t *start, uint32_t *got)
{
	struct vol *v = t->v;
	struct run r = {(uint32_t)(first / GROUP_CLUSTERS), (uint32_t)(first % GROUP_CLUSTERS), 0};
	uint64_t group_end = ((uint64_t)r.group + 1) * GROUP_CLUSTERS;
	uint8_t map[GROUP_BITMAP_BYTES];
	struct block *gb;
	uint32_t stop;
	int err;

	*got = 0;
	if (first >= v->alloc.clusters || !v->alloc.groups[r.group].free)
		return 0;
	err = alloc_group_get(t, r.group, &gb);
	if (err)
		return err;
	alloc_group_mask(
		v, r.group, (struct disk_group *)gb->data, who, MASK_WINDOWS | MASK_RESERVE, map);
	if (alloc_bit(map, r.from))
		return 0;
	if (end > group_end)
		end = group_end;
	if (end > first + want)
		end = first + want;
	stop = r.from + (uint32_t)(end - first);
	r.count = alloc_bits_next(map, r.from, stop, true) - r.from;
	limit_run(&v->alloc, (const struct disk_group *)gb->data, &r);
	return r.count ? take(t, gb, &r, start, got) : 0;
}

/* The first free cluster of the writer's window, and what follows. */
static int take_in_window(
	struct txn *t, uint64_t who, uint32_t want, uint64_t *start, uint32_t *got)
{
	struct vol *v = t->v;
	struct alloc_window *w = window_of(&v->alloc, who);
	uint8_t map[GROUP_BITMAP_BYTES];
	struct block *gb;
	uint32_t g, lo, hi, at;
	int err;

	*got = 0;
	if (!w)
		return 0;
	g = (uint32_t)(w->start / GROUP_CLUSTERS);
	lo = (uint32_t)(w->start % GROUP_CLUSTERS);
	hi = lo + (uint32_t)(w->end - w->start);
	err = alloc_group_get(t, g, &gb);
	if (err)
		return err;
	alloc_group_mask(
		v, g, (struct disk_group *)gb->data, who, MASK_WINDOWS | MASK_RESERVE, map);
	at = alloc_bits_next(map, lo, hi, false);
	if (at == hi) {
		w->end = 0;
		return 0;
	}
	w->used = t->op;
	return take_at(t, (uint64_t)g * GROUP_CLUSTERS + at, w->end, who, want, start, got);
}

/* ------------------------------------------------------------------ a new place */

/* The first aligned free run of `len`; else the longest one. */
static void best_run(const struct alloc *a, const uint8_t *map, uint32_t len, struct run *best)
{
	uint32_t align = a->chunk_clusters, at = 0;

	while (at < GROUP_CLUSTERS) {
		uint32_t from = alloc_bits_next(map, at, GROUP_CLUSTERS, false);
		uint32_t end = alloc_bits_next(map, from, GROUP_CLUSTERS, true);
		uint32_t aligned = (from + align - 1) & ~(align - 1);

		if (aligned < end && end - aligned >= len) {
			best->from = aligned;
			best->count = end - aligned;
			return;
		}
		if (end - from > best->count) {
			best->from = from;
			best->count = end - from;
		}
		at = end;
	}
}

/* Looks at groups [from, end) for a run of `len`; *best is the best one seen so far. */
static int search(struct txn *t, uint32_t from, uint32_t end, uint64_t who, unsigned mask,
	uint32_t len, uint32_t *budget, struct run *best)
{
	struct vol *v = t->v;
	struct alloc *a = &v->alloc;
	uint8_t map[GROUP_BITMAP_BYTES];

	for (uint32_t g = alloc_find_group(a, from, end, WANT_DATA); g < end;
		g = alloc_find_group(a, g + 1, end, WANT_DATA)) {
		static const struct disk_group all_free;
		const struct disk_group *d = &all_free;
		struct run r = {g, 0, 0};
		struct block *gb;
		int err;

		/* A group that was never used is not made before it is chosen. */
		if (a->groups[g].flags & SUMMARY_INIT) {
			err = alloc_group_get(t, g, &gb);
			if (err)
				return err;
			d = (const struct disk_group *)gb->data;
			alloc_whole_count(a, g, d);
		}
		alloc_group_mask(v, g, d, who, mask, map);
		best_run(a, map, len, &r);
		if (!r.count && !(mask & (MASK_WINDOWS | MASK_WHOLE)))
			a->groups[g].hints |= HINT_NO_DATA;
		if (r.count > best->count)
			*best = r;
		if (best->count >= len)
			return 0;
		if (best->count && --*budget == 0)
			return 0;
	}
	return 0;
}

static int search_all(
	struct txn *t, uint32_t near, uint64_t who, unsigned mask, uint32_t len, struct run *best)
{
	uint32_t budget = GROUPS_LOOKED_AT;
	int err = search(t, near, t->v->alloc.group_count, who, mask, len, &budget, best);

	if (!err && best->count < len && budget)
		err = search(t, 0, near, who, mask, len, &budget, best);
	return err;
}

static uint32_t window_clusters(const struct vol *v, uint32_t want)
{
	uint32_t cluster = le32_get(v->geo->cluster_bytes);
	uint64_t bytes = (uint64_t)want * cluster * 2;

	if (bytes < WINDOW_BYTES_MIN)
		bytes = WINDOW_BYTES_MIN;
	if (bytes > WINDOW_BYTES_MAX)
		bytes = WINDOW_BYTES_MAX;
	if (bytes > (uint64_t)GROUP_CLUSTERS * cluster)
		return GROUP_CLUSTERS;
	return (uint32_t)(bytes / cluster);
}

/*
 * In chunks that others have broken up already if free ones are few (A5): none of them is left to data when
 * metadata could need them all. Windows are only a preference: when space is short they count for nothing.
 */
static int search_best(struct txn *t, uint32_t near, uint64_t who, uint32_t len, struct run *r)
{
	const struct alloc *a = &t->v->alloc;
	int err = 0;

	for (unsigned windows = MASK_WINDOWS;; windows = 0) {
		if (alloc_whole_to_spare(a))
			err = search_all(t, near, who, windows | MASK_RESERVE, len, r);
		if (!err && !r->count)
			err = search_all(t, near, who, windows | MASK_RESERVE | MASK_WHOLE, len, r);
		if (err || r->count || !windows)
			return err;
	}
}

static int take_new_window(
	struct txn *t, uint32_t near, uint64_t who, uint32_t want, uint64_t *start, uint32_t *got)
{
	struct vol *v = t->v;
	struct run r = {0, 0, 0};
	uint32_t len = window_clusters(v, want);
	struct block *gb;
	uint64_t first;
	int err = alloc_whole_look(t);

	if (!err)
		err = search_best(t, near, who, len, &r);
	if (err)
		return err;
	if (!r.count)
		return alloc_pending(t) ? txn_wait_room(t) : -ENOSPC;
	err = alloc_group_get(t, r.group, &gb);
	if (err)
		return err;
	/* Groups that were looked at had fewer free chunks than it seemed: then there is none to spare. */
	limit_run(&v->alloc, (const struct disk_group *)gb->data, &r);
	if (!r.count)
		return take_new_window(t, near, who, want, start, got);
	first = (uint64_t)r.group * GROUP_CLUSTERS + r.from;
	window_set(t, who, first, first + (r.count < len ? r.count : len));
	v->alloc.data_hint = r.group;
	if (r.count > want)
		r.count = want;
	return take(t, gb, &r, start, got);
}

int alloc_clusters(
	struct txn *t, uint64_t goal, uint64_t who, uint32_t want, uint64_t *start, uint32_t *got)
{
	struct alloc *a = &t->v->alloc;
	uint32_t near = a->data_hint;
	int err = 0;

	csv_assert(want);
	*got = 0;
	if (goal) {
		err = take_at(t, goal, goal + want, who, want, start, got);
		if (goal < a->clusters)
			near = (uint32_t)(goal / GROUP_CLUSTERS);
	}
	if (!err && !*got)
		err = take_in_window(t, who, want, start, got);
	if (!err && !*got)
		err = take_new_window(t, near, who, want, start, got);
	return err;
}

/* ------------------------------------------------------------------ freeing */

static int free_in_group(struct txn *t, uint32_t g, uint32_t from, uint32_t count)
{
	struct alloc *a = &t->v->alloc;
	uint64_t first = (uint64_t)g * GROUP_CLUSTERS + from;
	struct disk_group *d;
	struct block *gb;
	uint32_t at;
	int err = alloc_group_get(t, g, &gb);

	if (err)
		return err;
	d = (struct disk_group *)gb->data;
	at = alloc_bits_next(d->used, from, from + count, false);
	if (at < from + count)
		return txn_damaged(
			t, PROBLEM_CLUSTER_NOT_MARKED, gb->blkno, 0, first + (at - from), first);
	at = alloc_bits_next(d->meta, from / a->chunk_clusters,
		(from + count - 1) / a->chunk_clusters + 1, true);
	if (at <= (from + count - 1) / a->chunk_clusters)
		return txn_damaged(t, PROBLEM_CLUSTER_IN_META, gb->blkno, 0, first, at);
	txn_dirty(t, gb);
	alloc_group_give(d, from, count);
	err = alloc_pend(t, first, count, false);
	if (err)
		return err;
	a->groups[g].hints = 0;
	return alloc_group_changed(t, g, gb);
}

int alloc_free_clusters(struct txn *t, uint64_t start, uint32_t count)
{
	/* Extents that are read have been verified so. Whoever else calls: nothing of the fixed areas becomes free. */
	if (!verify_clusters_for_data(t->v->geo, start, count))
		return txn_damaged(t, PROBLEM_EXTENT_RANGE, 0, 0, start, t->v->alloc.clusters);
	while (count) {
		uint32_t from = (uint32_t)(start % GROUP_CLUSTERS);
		uint32_t n = count < GROUP_CLUSTERS - from ? count : GROUP_CLUSTERS - from;
		int err = free_in_group(t, (uint32_t)(start / GROUP_CLUSTERS), from, n);

		if (err)
			return err;
		start += n;
		count -= n;
	}
	return 0;
}
