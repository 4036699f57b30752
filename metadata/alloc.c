/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * alloc.c - space: clusters in groups, metadata chunks of blocks, inode slots.
 *
 * On disk: a bitmap per group, a summary entry per group, a header per metadata chunk. In memory: the
 * summary as an index (found without a scan of the volume), and what must not be on disk:
 *  - the overlay: clusters freed but not to be used yet. They are free in the bitmap already, since
 *    after a crash nobody can still be using them.
 *  - windows: where each writer goes on, so that two growing files do not interleave.
 *
 * Invariants
 *  A1. Freed clusters are used again only when the transaction that freed them is durable.
 *  A2. Clusters of a freed metadata chunk are used again only when the durable journal head's tail is
 *      behind the transaction that freed them: until then a replay could write images there. (From the older
 *      head, if the newer one is lost, replay.c, R5.)
 *  A3. The index entry of a group equals its entry in the summary block of the running transaction.
 *  A4. Clusters from reserve_start on are never given to data.
 *  A5. Data breaks up no free chunk while fewer are left than the metadata of all free clusters could
 *      need: it uses what is broken up already. So a volume full of holes can still make files.
 *  A6. Nor does it break up the last ones, which the extents of all files could come to need (alloc_keep.c).
 *      Ordinary metadata takes none of them either.
 */
#include "metadata/alloc.h"

/* ------------------------------------------------------------------ bitmaps */

bool alloc_bit(const uint8_t *map, uint32_t i)
{
	return map[i >> 3] >> (i & 7) & 1;
}

void alloc_bits_fill(uint8_t *map, uint32_t from, uint32_t count, bool on)
{
	for (uint32_t i = from; i < from + count;) {
		if ((i & 7) == 0 && i + 8 <= from + count) {
			map[i >> 3] = on ? 0xff : 0;
			i += 8;
			continue;
		}
		if (on)
			map[i >> 3] |= (uint8_t)(1u << (i & 7));
		else
			map[i >> 3] &= (uint8_t) ~(1u << (i & 7));
		i++;
	}
}

uint32_t alloc_bits_next(const uint8_t *map, uint32_t from, uint32_t end, bool on)
{
	uint8_t skip = on ? 0 : 0xff;
	uint32_t i = from;

	while (i < end) {
		if ((i & 7) == 0 && map[i >> 3] == skip) {
			i += 8;
			continue;
		}
		if (alloc_bit(map, i) == on)
			return i;
		i++;
	}
	return end;
}

/* ------------------------------------------------------------------ the overlay */

static struct alloc_overlay **overlay_at(struct alloc *a, uint32_t group)
{
	struct alloc_overlay **p = &a->overlay[group % ALLOC_OVERLAY_BUCKETS];

	while (*p && (*p)->group != group)
		p = &(*p)->next;
	return p;
}

static int overlay_set(struct vol *v, uint32_t group, uint32_t from, uint32_t count)
{
	struct alloc_overlay **p = overlay_at(&v->alloc, group);

	if (!*p) {
		*p = mem_alloc(v->cfg.mem, sizeof(**p));
		if (!*p)
			return -ENOMEM;
		(*p)->group = group;
	}
	alloc_bits_fill((*p)->bits, from, count, true);
	(*p)->count += count;
	return 0;
}

static void overlay_clear(struct vol *v, uint32_t group, uint32_t from, uint32_t count)
{
	struct alloc_overlay **p = overlay_at(&v->alloc, group), *o = *p;

	csv_assert(o && o->count >= count);
	alloc_bits_fill(o->bits, from, count, false);
	o->count -= count;
	v->alloc.groups[group].hints = 0;
	if (!o->count) {
		*p = o->next;
		mem_free(v->cfg.mem, o, sizeof(*o));
	}
}

int alloc_pend(struct txn *t, uint64_t start, uint32_t count, bool chunk)
{
	struct vol *v = t->v;
	struct alloc_pending *p = mem_alloc(v->cfg.mem, sizeof(*p));
	uint32_t group = (uint32_t)(start / GROUP_CLUSTERS);

	if (!p || overlay_set(v, group, (uint32_t)(start % GROUP_CLUSTERS), count)) {
		mem_free(v->cfg.mem, p, sizeof(*p));
		return txn_wait_room(t);
	}
	p->start = start;
	p->count = count;
	p->lsn = v->run.lsn;
	p->op = t->op;
	p->chunk = chunk;
	list_add_tail(&p->link, chunk ? &v->alloc.pending_chunks : &v->alloc.pending_data);
	return 0;
}

static void unpend(struct vol *v, struct alloc_pending *p)
{
	overlay_clear(v, (uint32_t)(p->start / GROUP_CLUSTERS),
		(uint32_t)(p->start % GROUP_CLUSTERS), p->count);
	list_del(&p->link);
	mem_free(v->cfg.mem, p, sizeof(*p));
}

static void unpend_op(struct vol *v, struct list *l, uint64_t op)
{
	while (!list_empty(l)) {
		struct alloc_pending *p = list_entry(l->prev, struct alloc_pending, link);

		if (p->op != op)
			return;
		unpend(v, p);
	}
}

void alloc_release(struct vol *v)
{
	struct alloc *a = &v->alloc;

	while (!list_empty(&a->pending_data)) {
		struct alloc_pending *p =
			list_first_entry(&a->pending_data, struct alloc_pending, link);

		if (p->lsn > v->lsn_durable)
			break;
		unpend(v, p);
	}
	while (!list_empty(&a->pending_chunks)) {
		struct alloc_pending *p =
			list_first_entry(&a->pending_chunks, struct alloc_pending, link);

		if (p->lsn >= v->journal.tail.lsn)
			break;
		unpend(v, p);
	}
}

bool alloc_waits_for_tail(const struct vol *v)
{
	return !list_empty(&v->alloc.pending_chunks);
}

static bool older(const struct list *l, uint64_t op)
{
	return !list_empty(l) && list_first_entry(l, struct alloc_pending, link)->op != op;
}

bool alloc_pending(const struct txn *t)
{
	const struct alloc *a = &t->v->alloc;

	return older(&a->pending_chunks, t->op) || older(&a->pending_data, t->op);
}

/* ------------------------------------------------------------------ index, summary, group blocks */

void alloc_index_set(struct vol *v, uint32_t g, uint32_t free, uint32_t flags)
{
	struct alloc *a = &v->alloc;
	struct alloc_group *e = &a->groups[g];
	struct alloc_sum *s = &a->sums[g / SUMMARY_PER_BLOCK];

	a->free += free - (uint64_t)e->free;
	s->free += free - e->free;
	s->meta_free += !!(flags & SUMMARY_META_FREE) - !!(e->flags & SUMMARY_META_FREE);
	s->inode_free += !!(flags & SUMMARY_INODE_FREE) - !!(e->flags & SUMMARY_INODE_FREE);
	e->free = (uint16_t)free;
	e->flags = (uint8_t)flags;
}

void alloc_load(struct vol *v, uint32_t i, const struct disk_summary *s)
{
	struct alloc *a = &v->alloc;

	for (uint32_t k = 0; k < SUMMARY_PER_BLOCK; k++) {
		uint32_t g = i * (uint32_t)SUMMARY_PER_BLOCK + k;

		if (g >= a->group_count)
			return;
		alloc_index_set(v, g, le16_get(s->e[k].free_clusters), le16_get(s->e[k].flags));
		alloc_whole_guess(a, g);
	}
}

static uint64_t summary_blkno(const struct vol *v, uint32_t g)
{
	return le64_get(v->geo->summary_start) + g / SUMMARY_PER_BLOCK;
}

static int summary_set(struct txn *t, uint32_t g, uint32_t free, uint32_t flags)
{
	struct vol *v = t->v;
	struct disk_summary_entry *e;
	struct block *b;
	int err;

	if (v->alloc.groups[g].free == free && v->alloc.groups[g].flags == flags)
		return 0;
	err = txn_get(t, summary_blkno(v, g), MAGIC_SUMMARY, 0, &b);
	if (err)
		return err;
	txn_dirty(t, b);
	e = &((struct disk_summary *)b->data)->e[g % SUMMARY_PER_BLOCK];
	e->free_clusters = le16_of((uint16_t)free);
	e->flags = le16_of((uint16_t)flags);
	alloc_index_set(v, g, free, flags);
	for (uint32_t i = 0; i < t->touched_count; i++)
		if (t->touched[i] == g)
			return 0;
	csv_assert(t->touched_count < ALLOC_TOUCH_MAX);
	t->touched[t->touched_count++] = g;
	return 0;
}

void alloc_undo(struct txn *t)
{
	struct vol *v = t->v;

	/* The summary blocks were dirtied by this operation, so they are in the cache. */
	for (uint32_t i = 0; i < t->touched_count; i++) {
		uint32_t g = t->touched[i];
		struct block *b = cache_find(v, summary_blkno(v, g));
		struct disk_summary_entry *e;

		csv_assert(b);
		e = &((struct disk_summary *)b->data)->e[g % SUMMARY_PER_BLOCK];
		alloc_index_set(v, g, le16_get(e->free_clusters), le16_get(e->flags));
		b = cache_find(v, le64_get(v->geo->group_start) + g);
		if (b && b->state == BLOCK_VALID && (v->alloc.groups[g].flags & SUMMARY_INIT))
			alloc_whole_count(&v->alloc, g, (const struct disk_group *)b->data);
		else
			alloc_whole_guess(&v->alloc, g);
	}
	t->touched_count = 0;
	unpend_op(v, &v->alloc.pending_data, t->op);
	unpend_op(v, &v->alloc.pending_chunks, t->op);
}

int alloc_group_get(struct txn *t, uint32_t g, struct block **out)
{
	struct vol *v = t->v;
	uint64_t blkno = le64_get(v->geo->group_start) + g;
	uint32_t free = v->alloc.groups[g].free;
	struct disk_group *d;
	int err;

	if (v->alloc.groups[g].flags & SUMMARY_INIT)
		return txn_get(t, blkno, MAGIC_GROUP, 0, out);
	/* mkfs writes every group that is not whole. */
	if (free != GROUP_CLUSTERS)
		return txn_damaged(t, PROBLEM_SUMMARY_LOST_GROUP, blkno, 0, free, GROUP_CLUSTERS);
	err = txn_new(t, blkno, MAGIC_GROUP, 0, out);
	if (err)
		return err;
	d = (struct disk_group *)(*out)->data;
	d->free_clusters = le32_of(GROUP_CLUSTERS);
	return summary_set(t, g, free, v->alloc.groups[g].flags | SUMMARY_INIT);
}

int alloc_group_changed(struct txn *t, uint32_t g, const struct block *b)
{
	const struct disk_group *d = (const struct disk_group *)b->data;
	uint32_t flags = SUMMARY_INIT;
	int err;

	for (uint32_t i = 0; i < GROUP_BITMAP_BYTES; i++) {
		if (!d->meta_free[i])
			continue;
		if (d->meta_free[i] & d->inode[i])
			flags |= SUMMARY_INODE_FREE;
		if (d->meta_free[i] & ~d->inode[i])
			flags |= SUMMARY_META_FREE;
	}
	err = summary_set(t, g, le32_get(d->free_clusters), flags);
	if (!err)
		alloc_whole_count(&t->v->alloc, g, d);
	return err;
}

void alloc_group_take(struct disk_group *d, uint32_t from, uint32_t count)
{
	alloc_bits_fill(d->used, from, count, true);
	d->free_clusters = le32_of(le32_get(d->free_clusters) - count);
}

void alloc_group_give(struct disk_group *d, uint32_t from, uint32_t count)
{
	alloc_bits_fill(d->used, from, count, false);
	d->free_clusters = le32_of(le32_get(d->free_clusters) + count);
}

/* ------------------------------------------------------------------ finding groups */

static bool group_has(const struct alloc *a, uint32_t g, enum want want)
{
	const struct alloc_group *e = &a->groups[g];

	switch (want) {
	case WANT_DATA:
		return e->free && !(e->hints & HINT_NO_DATA);
	case WANT_CHUNK:
		return e->free >= a->chunk_clusters && !(e->hints & HINT_NO_CHUNK);
	case WANT_META:
		return e->flags & SUMMARY_META_FREE;
	case WANT_INODE:
		return e->flags & SUMMARY_INODE_FREE;
	}
	return false;
}

static bool sum_has(const struct alloc *a, uint32_t s, enum want want)
{
	switch (want) {
	case WANT_DATA:
	case WANT_CHUNK:
		return a->sums[s].free;
	case WANT_META:
		return a->sums[s].meta_free;
	case WANT_INODE:
		return a->sums[s].inode_free;
	}
	return false;
}

uint32_t alloc_find_group(const struct alloc *a, uint32_t from, uint32_t end, enum want want)
{
	uint32_t g = from;

	while (g < end) {
		if (!sum_has(a, g / SUMMARY_PER_BLOCK, want)) {
			g = (g / (uint32_t)SUMMARY_PER_BLOCK + 1) * (uint32_t)SUMMARY_PER_BLOCK;
			continue;
		}
		if (group_has(a, g, want))
			return g;
		g++;
	}
	return end;
}

/* ------------------------------------------------------------------ what may be taken in a group */

static void mask_range(
	const struct alloc *a, uint32_t g, uint64_t start, uint64_t end, uint8_t *map)
{
	uint64_t lo = (uint64_t)g * GROUP_CLUSTERS, hi = lo + GROUP_CLUSTERS;

	(void)a;
	if (start < lo)
		start = lo;
	if (end > hi)
		end = hi;
	if (start < end)
		alloc_bits_fill(map, (uint32_t)(start - lo), (uint32_t)(end - start), true);
}

/*
 * Clusters that may hold data or metadata chunks: behind the fixed areas, in front of the superblock's last copy. The groups say
 * so, too, but what stands in them is only what somebody wrote there.
 */
static uint64_t area_start(const struct vol *v)
{
	return le64_get(v->geo->data_start) / v->alloc.cluster_blocks;
}

static uint64_t area_end(const struct vol *v)
{
	return (le64_get(v->geo->block_count) - 1) / v->alloc.cluster_blocks;
}

void alloc_group_mask(struct vol *v, uint32_t g, const struct disk_group *d, uint64_t who,
	unsigned mask, uint8_t map[GROUP_BITMAP_BYTES])
{
	struct alloc *a = &v->alloc;
	struct alloc_overlay *o = *overlay_at(a, g);

	memcpy(map, d->used, GROUP_BITMAP_BYTES);
	if (o)
		for (uint32_t i = 0; i < GROUP_BITMAP_BYTES; i++)
			map[i] |= o->bits[i];
	/* As with the fixed areas: what a chunk of metadata has is not given to anybody, used or not. */
	for (uint32_t c = alloc_bits_next(d->meta, 0, a->group_chunks, true); c < a->group_chunks;
		c = alloc_bits_next(d->meta, c + 1, a->group_chunks, true))
		alloc_bits_fill(map, c * a->chunk_clusters, a->chunk_clusters, true);
	mask_range(a, g, 0, area_start(v), map);
	mask_range(a, g, area_end(v), UINT64_MAX, map);
	if (mask & MASK_RESERVE)
		mask_range(a, g, a->reserve_start, a->clusters, map);
	if (mask & MASK_WHOLE)
		for (uint32_t c = 0; c < a->group_chunks; c++)
			if (alloc_chunk_is_whole(a, d, c))
				alloc_bits_fill(
					map, c * a->chunk_clusters, a->chunk_clusters, true);
	if (!(mask & MASK_WINDOWS))
		return;
	for (uint32_t i = 0; i < ALLOC_WINDOWS; i++)
		if (a->windows[i].end && a->windows[i].who != who)
			mask_range(a, g, a->windows[i].start, a->windows[i].end, map);
}

/* ------------------------------------------------------------------ metadata chunks */

static uint32_t chunk_group(const struct alloc *a, uint64_t chunk)
{
	return (uint32_t)(chunk / a->group_chunks);
}

/* A free chunk in the group, from bit `from` on; group_chunks: none. */
static uint32_t free_chunk_in(const struct alloc *a, const uint8_t *map, uint32_t from)
{
	for (uint32_t c = from; c < a->group_chunks; c++) {
		uint32_t bit = c * a->chunk_clusters;

		if (alloc_bits_next(map, bit, bit + a->chunk_clusters, true) ==
			bit + a->chunk_clusters)
			return c;
	}
	return a->group_chunks;
}

static int chunk_make(
	struct txn *t, struct block *gb, uint32_t g, uint32_t c, bool is_inode, uint64_t *chunk)
{
	struct alloc *a = &t->v->alloc;
	struct disk_group *d = (struct disk_group *)gb->data;
	struct disk_chunk *h;
	struct block *b;
	int err;

	*chunk = (uint64_t)g * a->group_chunks + c;
	txn_dirty(t, gb);
	alloc_group_take(d, c * a->chunk_clusters, a->chunk_clusters);
	alloc_bits_fill(d->meta, c, 1, true);
	alloc_bits_fill(d->meta_free, c, 1, true);
	alloc_bits_fill(d->inode, c, 1, is_inode);
	d->meta_chunks = le32_of(le32_get(d->meta_chunks) + 1);
	err = txn_new(t, *chunk * CHUNK_BLOCKS, MAGIC_CHUNK, 0, &b);
	if (err)
		return err;
	h = (struct disk_chunk *)b->data;
	h->used_blocks = le32_of(1);
	h->is_inode = le32_of(is_inode);
	h->used[0] = 1;
	return alloc_group_changed(t, g, gb);
}

/* A new chunk in one of the groups [from, end). -ENOSPC: none there. */
static int chunk_search(struct txn *t, uint32_t from, uint32_t end, uint32_t first_chunk,
	unsigned mask, bool is_inode, uint64_t *chunk)
{
	struct vol *v = t->v;
	struct alloc *a = &v->alloc;
	static const struct disk_group all_free;
	uint8_t map[GROUP_BITMAP_BYTES];
	struct block *gb;
	uint32_t c;
	int err;

	for (uint32_t g = alloc_find_group(a, from, end, WANT_CHUNK); g < end;
		g = alloc_find_group(a, g + 1, end, WANT_CHUNK)) {
		const struct disk_group *d = &all_free;

		/* A6: of those that are known. A look at this one would change nothing. */
		if ((mask & MASK_KEEP) && !a->groups[g].guessed && a->whole - a->guessed <= alloc_kept(a))
			continue;
		/* A group that was never used is not made before it is chosen: all that are passed by would be dirty. */
		if (a->groups[g].flags & SUMMARY_INIT) {
			err = alloc_group_get(t, g, &gb);
			if (err)
				return err;
			d = (const struct disk_group *)gb->data;
		}
		if (a->groups[g].guessed)
			alloc_whole_count(a, g, d);
		if ((mask & MASK_KEEP) && a->whole - a->guessed <= alloc_kept(a))
			continue;
		alloc_group_mask(v, g, d, 0, mask, map);
		c = free_chunk_in(a, map, g == from ? first_chunk : 0);
		if (c < a->group_chunks) {
			err = alloc_group_get(t, g, &gb);
			return err ? err : chunk_make(t, gb, g, c, is_inode, chunk);
		}
		if (!(mask & MASK_WINDOWS) && (g + 1ull) * GROUP_CLUSTERS <= a->reserve_start)
			a->groups[g].hints |= HINT_NO_CHUNK;
	}
	return -ENOSPC;
}

static int chunk_search_all(
	struct txn *t, uint32_t near_group, unsigned mask, bool is_inode, uint64_t *chunk)
{
	uint32_t count = t->v->alloc.group_count;
	int err = chunk_search(t, near_group, count, 0, mask, is_inode, chunk);

	if (err == -ENOSPC && near_group)
		err = chunk_search(t, 0, near_group, 0, mask, is_inode, chunk);
	return err;
}

/*
 * A new chunk: outside the reserve; then in the reserve, of which ordinary operations get half and
 * those that must not fail for want of space (deletes) all.
 */
static int chunk_new(
	struct txn *t, uint64_t near_chunk, bool is_inode, bool reserve, uint64_t *chunk)
{
	struct vol *v = t->v;
	struct alloc *a = &v->alloc;
	uint32_t g = chunk_group(a, near_chunk);
	uint64_t from = a->reserve_start / a->chunk_clusters;
	uint64_t all = a->clusters / a->chunk_clusters;
	unsigned mask = MASK_RESERVE | (reserve ? 0 : MASK_KEEP);
	int err = -ENOSPC;

	if (g >= a->group_count)
		g = 0;
	/* As many are not there, even if all that is guessed is true. */
	if (reserve || a->whole > alloc_kept(a))
		err = chunk_search_all(t, g, mask | MASK_WINDOWS, is_inode, chunk);
	if (err == -ENOSPC && (reserve || a->whole > alloc_kept(a)))
		err = chunk_search_all(t, g, mask, is_inode, chunk);
	if (err != -ENOSPC)
		return err;
	if (!reserve)
		from += (all - from) / 2;
	if (from >= all)
		return -ENOSPC;
	err = chunk_search(t, chunk_group(a, from), a->group_count,
		(uint32_t)(from % a->group_chunks), 0, is_inode, chunk);
	/* Freed space that is not usable yet comes back with the next commit or checkpoint. */
	if (err == -ENOSPC && alloc_pending(t))
		return txn_wait_room(t);
	return err;
}

/* The last block is used, or the chunk has room again: the group's mark, and from it the summary's. */
static int chunk_mark(struct txn *t, uint64_t chunk, bool has_free)
{
	struct alloc *a = &t->v->alloc;
	uint32_t g = chunk_group(a, chunk), c = (uint32_t)(chunk % a->group_chunks);
	struct disk_group *d;
	struct block *gb;
	int err = alloc_group_get(t, g, &gb);

	if (err)
		return err;
	d = (struct disk_group *)gb->data;
	if (alloc_bit(d->meta_free, c) == has_free)
		return 0;
	txn_dirty(t, gb);
	alloc_bits_fill(d->meta_free, c, 1, has_free);
	return alloc_group_changed(t, g, gb);
}

/* An empty chunk goes back to data. */
static int chunk_free_if_empty(struct txn *t, uint64_t chunk)
{
	struct alloc *a = &t->v->alloc;
	uint32_t g = chunk_group(a, chunk), c = (uint32_t)(chunk % a->group_chunks);
	uint32_t from = c * a->chunk_clusters, at;
	struct disk_group *d;
	struct block *gb;
	int err = alloc_group_get(t, g, &gb);

	if (err)
		return err;
	d = (struct disk_group *)gb->data;
	/* Else the count would not be the bitmap's any more, and somebody may have been given them. */
	at = alloc_bits_next(d->used, from, from + a->chunk_clusters, false);
	if (at < from + a->chunk_clusters)
		return txn_damaged(t, PROBLEM_GROUP_META_UNUSED, gb->blkno, 0,
			(uint64_t)g * GROUP_CLUSTERS + at, chunk);
	txn_dirty(t, gb);
	alloc_group_give(d, from, a->chunk_clusters);
	alloc_bits_fill(d->meta, c, 1, false);
	alloc_bits_fill(d->meta_free, c, 1, false);
	alloc_bits_fill(d->inode, c, 1, false);
	d->meta_chunks = le32_of(le32_get(d->meta_chunks) - 1);
	txn_forget(t, chunk * CHUNK_BLOCKS);
	err = alloc_pend(t, chunk * a->chunk_clusters, a->chunk_clusters, true);
	if (err)
		return err;
	a->groups[g].hints = 0;
	return alloc_group_changed(t, g, gb);
}

/* ------------------------------------------------------------------ metadata blocks */

/* A chunk of the wanted kind with room in group g, from chunk `from` on; group_chunks: none. */
static uint32_t chunk_with_room(
	const struct alloc *a, const struct disk_group *d, bool is_inode, uint32_t from)
{
	for (uint32_t c = from; c < a->group_chunks; c++) {
		if ((c & 7) == 0 && !d->meta_free[c >> 3]) {
			c += 7;
			continue;
		}
		if (alloc_bit(d->meta_free, c) && alloc_bit(d->inode, c) == is_inode)
			return c;
	}
	return a->group_chunks;
}

/* Is this chunk of that kind, and has room? 0, -ENOENT, or an error. */
static int chunk_try(struct txn *t, uint64_t chunk, bool is_inode)
{
	struct alloc *a = &t->v->alloc;
	uint32_t g = chunk_group(a, chunk), c = (uint32_t)(chunk % a->group_chunks);
	const struct disk_group *d;
	struct block *gb;
	int err;

	if (!chunk || g >= a->group_count || !group_has(a, g, is_inode ? WANT_INODE : WANT_META))
		return -ENOENT;
	err = alloc_group_get(t, g, &gb);
	if (err)
		return err;
	d = (const struct disk_group *)gb->data;
	if (alloc_bit(d->meta_free, c) && alloc_bit(d->inode, c) == is_inode)
		return 0;
	return -ENOENT;
}

static int chunk_in_groups(
	struct txn *t, uint32_t from, uint32_t end, bool is_inode, uint64_t *chunk)
{
	struct alloc *a = &t->v->alloc;
	enum want want = is_inode ? WANT_INODE : WANT_META;
	struct block *gb;
	uint32_t g = alloc_find_group(a, from, end, want), c;
	int err;

	if (g >= end)
		return -ENOENT;
	err = alloc_group_get(t, g, &gb);
	if (err)
		return err;
	c = chunk_with_room(a, (const struct disk_group *)gb->data, is_inode, 0);
	if (c == a->group_chunks)
		return txn_damaged(t, PROBLEM_SUMMARY_FLAGS, gb->blkno, 0, a->groups[g].flags, 0);
	*chunk = (uint64_t)g * a->group_chunks + c;
	return 0;
}

/* A chunk with room, near `near` if it can be; made if there is none. */
static int chunk_find(
	struct txn *t, uint64_t near_chunk, bool is_inode, bool reserve, uint64_t *chunk)
{
	struct alloc *a = &t->v->alloc;
	uint64_t *hint = is_inode ? &a->inode_hint : &a->meta_hint;
	uint32_t g = chunk_group(a, near_chunk);
	int err;

	*chunk = near_chunk;
	err = chunk_try(t, *chunk, is_inode);
	if (err == -ENOENT) {
		*chunk = *hint;
		err = chunk_try(t, *chunk, is_inode);
	}
	if (g >= a->group_count)
		g = 0;
	if (err == -ENOENT)
		err = chunk_in_groups(t, g, a->group_count, is_inode, chunk);
	if (err == -ENOENT)
		err = chunk_in_groups(t, 0, g, is_inode, chunk);
	if (err == -ENOENT)
		err = chunk_new(t, near_chunk, is_inode, reserve, chunk);
	if (!err)
		*hint = *chunk;
	return err;
}

/* Can this number be a block of a metadata chunk at all? */
static bool may_be_block(const struct vol *v, uint64_t blkno)
{
	return blkno >= le64_get(v->geo->data_start) && blkno / v->alloc.cluster_blocks < area_end(v) &&
	       blkno % CHUNK_BLOCKS;
}

int alloc_chunk_header(struct txn *t, uint64_t chunk, struct block **out)
{
	return txn_get(t, chunk * CHUNK_BLOCKS, MAGIC_CHUNK, 0, out);
}

int alloc_block(struct txn *t, uint64_t near, bool reserve, uint64_t *blkno)
{
	struct disk_chunk *h;
	struct block *b;
	uint64_t chunk;
	uint32_t at;
	int err = chunk_find(t, near / CHUNK_BLOCKS, false, reserve, &chunk);

	if (err)
		return err;
	err = alloc_chunk_header(t, chunk, &b);
	if (err)
		return err;
	h = (struct disk_chunk *)b->data;
	at = near / CHUNK_BLOCKS == chunk ? (uint32_t)(near % CHUNK_BLOCKS) : 0;
	at = alloc_bits_next(h->used, at, CHUNK_BLOCKS, false);
	if (at == CHUNK_BLOCKS)
		at = alloc_bits_next(h->used, 0, CHUNK_BLOCKS, false);
	if (at == CHUNK_BLOCKS || le32_get(h->is_inode))
		return txn_damaged(t, PROBLEM_GROUP_META_FREE, b->blkno, 0, at, 0);
	txn_dirty(t, b);
	alloc_bits_fill(h->used, at, 1, true);
	h->used_blocks = le32_of(le32_get(h->used_blocks) + 1);
	*blkno = chunk * CHUNK_BLOCKS + at;
	if (!may_be_block(t->v, *blkno))
		return txn_damaged(t, PROBLEM_BLKNO_RANGE, b->blkno, 0, *blkno, 0);
	return le32_get(h->used_blocks) == CHUNK_BLOCKS ? chunk_mark(t, chunk, false) : 0;
}

/*
 * The header of the chunk that holds a block which is about to be freed. The group is asked first:
 * what stands where a chunk was, before it went back to data, still looks like a chunk.
 */
static int chunk_of(struct txn *t, uint64_t blkno, bool is_inode, struct block **out)
{
	struct alloc *a = &t->v->alloc;
	uint64_t chunk = blkno / CHUNK_BLOCKS;
	uint32_t c = (uint32_t)(chunk % a->group_chunks);
	const struct disk_group *d;
	struct block *gb;
	int err;

	if (!may_be_block(t->v, blkno))
		return txn_damaged(t, PROBLEM_BLKNO_RANGE, blkno, 0, blkno, 0);
	err = alloc_group_get(t, chunk_group(a, chunk), &gb);
	if (err)
		return err;
	d = (const struct disk_group *)gb->data;
	if (!alloc_bit(d->meta, c) || alloc_bit(d->inode, c) != is_inode)
		return txn_damaged(t, PROBLEM_BLOCK_NOT_META, blkno, 0, 0, 1);
	return alloc_chunk_header(t, chunk, out);
}

/* The block in its chunk is free from now on; `b` is the chunk's header, dirty. */
static int give_block(struct txn *t, struct block *b, uint64_t blkno)
{
	struct disk_chunk *h = (struct disk_chunk *)b->data;
	uint32_t at = (uint32_t)(blkno % CHUNK_BLOCKS);
	uint64_t chunk = blkno / CHUNK_BLOCKS;
	int err;

	alloc_bits_fill(h->used, at, 1, false);
	h->used_blocks = le32_of(le32_get(h->used_blocks) - 1);
	txn_forget(t, blkno);
	err = chunk_mark(t, chunk, true);
	if (err)
		return err;
	return le32_get(h->used_blocks) == 1 ? chunk_free_if_empty(t, chunk) : 0;
}

int alloc_free_block(struct txn *t, uint64_t blkno)
{
	struct disk_chunk *h;
	struct block *b;
	int err = chunk_of(t, blkno, false, &b);

	if (err)
		return err;
	h = (struct disk_chunk *)b->data;
	if (!alloc_bit(h->used, (uint32_t)(blkno % CHUNK_BLOCKS)))
		return txn_damaged(t, PROBLEM_BLOCK_NOT_MARKED, blkno, 0, 0, 1);
	txn_dirty(t, b);
	return give_block(t, b, blkno);
}

/* ------------------------------------------------------------------ inodes */

#define SLOTS_ALL 0xfeu /* slots 1 .. 7 */

/* A block with a free slot, else a free block; CHUNK_BLOCKS: the chunk is full. */
static uint32_t inode_place(const struct disk_chunk *h, uint32_t near)
{
	uint32_t at;

	if (near && h->slots[near] && h->slots[near] != SLOTS_ALL)
		return near;
	for (uint32_t i = 1; i < CHUNK_BLOCKS; i++)
		if (h->slots[i] && h->slots[i] != SLOTS_ALL)
			return i;
	at = alloc_bits_next(h->used, near, CHUNK_BLOCKS, false);
	return at < CHUNK_BLOCKS ? at : alloc_bits_next(h->used, 0, CHUNK_BLOCKS, false);
}

/*
 * The free slot of that block that is to be used; 0: none. A node that was given up may have a file open that is gone, and has
 * told so: a new file of that number would be closed with the old one.
 */
static uint32_t inode_slot(struct txn *t, const struct disk_chunk *h, uint64_t blkno)
{
	for (uint32_t slot = 1; slot < 8; slot++) {
		if (!(h->slots[blkno % CHUNK_BLOCKS] >> slot & 1) &&
			!txn_ino_is_open(t, blkno << 3 | slot))
			return slot;
	}
	return 0;
}

/* Any block that has one, where `at` has none. */
static uint32_t inode_place_else(
	struct txn *t, const struct disk_chunk *h, uint64_t chunk, uint32_t at, uint32_t *slot)
{
	*slot = inode_slot(t, h, chunk * CHUNK_BLOCKS + at);
	for (uint32_t i = 1; i < CHUNK_BLOCKS && !*slot; i++) {
		if (h->slots[i] == SLOTS_ALL || (!h->slots[i] && alloc_bit(h->used, i)))
			continue;
		*slot = inode_slot(t, h, chunk * CHUNK_BLOCKS + i);
		at = *slot ? i : at;
	}
	for (uint32_t i = 1; i < 8 && !*slot; i++)
		*slot = h->slots[at] >> i & 1 ? 0 : i;
	return at;
}

int alloc_inode(struct txn *t, uint64_t parent_ino, uint64_t *ino, bool *is_new)
{
	uint64_t near = parent_ino >> 3, chunk;
	uint32_t at, slot;
	struct disk_chunk *h;
	struct block *b;
	int err = chunk_find(t, near / CHUNK_BLOCKS, true, false, &chunk);

	if (err)
		return err;
	err = alloc_chunk_header(t, chunk, &b);
	if (err)
		return err;
	h = (struct disk_chunk *)b->data;
	at = inode_place(h, near / CHUNK_BLOCKS == chunk ? (uint32_t)(near % CHUNK_BLOCKS) : 0);
	if (at == CHUNK_BLOCKS || !le32_get(h->is_inode))
		return txn_damaged(t, PROBLEM_GROUP_META_FREE, b->blkno, 0, at, 0);
	at = inode_place_else(t, h, chunk, at, &slot);
	txn_dirty(t, b);
	*is_new = !h->slots[at];
	h->slots[at] |= (uint8_t)(1u << slot);
	alloc_count_change(t, chunk, 1);
	if (*is_new) {
		alloc_bits_fill(h->used, at, 1, true);
		h->used_blocks = le32_of(le32_get(h->used_blocks) + 1);
	}
	*ino = (chunk * CHUNK_BLOCKS + at) << 3 | slot;
	if (!may_be_block(t->v, *ino >> 3))
		return txn_damaged(t, PROBLEM_BLKNO_RANGE, b->blkno, *ino, *ino >> 3, 0);
	if (le32_get(h->used_blocks) == CHUNK_BLOCKS && inode_place(h, 0) == CHUNK_BLOCKS)
		return chunk_mark(t, chunk, false);
	return 0;
}

int alloc_free_inode(struct txn *t, uint64_t ino)
{
	uint64_t blkno = ino >> 3;
	uint32_t at = (uint32_t)(blkno % CHUNK_BLOCKS), slot = (uint32_t)(ino & 7);
	struct disk_chunk *h;
	struct block *b;
	int err = chunk_of(t, blkno, true, &b);

	if (err)
		return err;
	h = (struct disk_chunk *)b->data;
	if (!slot || !(h->slots[at] >> slot & 1))
		return txn_damaged(t, PROBLEM_INODE_SLOT, blkno, ino, h->slots[at], 1u << slot);
	txn_dirty(t, b);
	h->slots[at] &= (uint8_t) ~(1u << slot);
	alloc_count_change(t, blkno / CHUNK_BLOCKS, -1);
	if (!h->slots[at])
		return give_block(t, b, blkno);
	return chunk_mark(t, blkno / CHUNK_BLOCKS, true);
}

int alloc_inode_used(struct txn *t, uint64_t ino)
{
	struct alloc *a = &t->v->alloc;
	uint64_t blkno = ino >> 3, chunk = blkno / CHUNK_BLOCKS;
	const struct disk_chunk *h;
	const struct disk_group *d;
	struct block *b;
	int err;

	if (!may_be_block(t->v, blkno) || !(ino & 7))
		return -ESTALE;
	if (!(a->groups[chunk_group(a, chunk)].flags & SUMMARY_INIT))
		return -ESTALE;
	err = alloc_group_get(t, chunk_group(a, chunk), &b);
	if (err)
		return err;
	d = (const struct disk_group *)b->data;
	if (!alloc_bit(d->inode, (uint32_t)(chunk % a->group_chunks)))
		return -ESTALE;
	err = alloc_chunk_header(t, chunk, &b);
	if (err)
		return err;
	h = (const struct disk_chunk *)b->data;
	return h->slots[blkno % CHUNK_BLOCKS] >> (ino & 7) & 1 ? 0 : -ESTALE;
}

/* ------------------------------------------------------------------ start and end */

int alloc_create(struct vol *v)
{
	struct alloc *a = &v->alloc;
	const struct disk_super *s = v->geo;
	uint64_t reserve = le64_get(s->reserve_clusters);

	alloc_destroy(v);
	list_init(&a->pending_data);
	list_init(&a->pending_chunks);
	a->cluster_blocks = le32_get(s->cluster_bytes) / BLOCK_SIZE;
	a->chunk_clusters = CHUNK_SIZE / le32_get(s->cluster_bytes);
	a->group_chunks = GROUP_CLUSTERS / a->chunk_clusters;
	a->clusters = le64_get(s->cluster_count);
	a->group_count = (uint32_t)le64_get(s->group_count);
	a->sum_count = (uint32_t)le64_get(s->summary_blocks);
	a->reserve_start = (a->clusters - reserve) & ~(uint64_t)(a->chunk_clusters - 1);
	a->groups = mem_alloc(v->cfg.mem, a->group_count * sizeof(*a->groups));
	a->sums = mem_alloc(v->cfg.mem, a->sum_count * sizeof(*a->sums));
	return a->groups && a->sums ? 0 : -ENOMEM;
}

void alloc_destroy(struct vol *v)
{
	struct alloc *a = &v->alloc;

	if (!a->groups && !a->sums)
		return;
	for (struct list *l = &a->pending_data; l;
		l = l == &a->pending_data ? &a->pending_chunks : NULL) {
		while (!list_empty(l))
			unpend(v, list_first_entry(l, struct alloc_pending, link));
	}
	mem_free(v->cfg.mem, a->groups, a->group_count * sizeof(*a->groups));
	mem_free(v->cfg.mem, a->sums, a->sum_count * sizeof(*a->sums));
	memset(a, 0, sizeof(*a));
}

void alloc_check(const struct vol *v)
{
	const struct alloc *a = &v->alloc;
	uint64_t free = 0, guessed = 0;

	if (!a->groups)
		return;
	for (uint32_t s = 0; s < a->sum_count; s++)
		free += a->sums[s].free;
	csv_assert(free == a->free);
	free = 0;
	for (uint32_t g = 0; g < a->group_count; g++) {
		free += a->groups[g].whole;
		guessed += a->groups[g].guessed ? a->groups[g].whole : 0;
	}
	csv_assert(free == a->whole);
	csv_assert(guessed == a->guessed);
	/* A1, A2: nothing waits that need not. */
	list_for_each_entry (p, &a->pending_data, struct alloc_pending, link)
		csv_assert(p->lsn > v->lsn_durable);
	list_for_each_entry (p, &a->pending_chunks, struct alloc_pending, link)
		csv_assert(p->lsn >= v->journal.tail.lsn);
}
