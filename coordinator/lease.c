/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "coordinator/lease.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"

#define BIT(idx) (1ull << (idx))

static struct list *bucket_of(const struct lease_table *t, uint64_t ino)
{
	uint64_t h = ino * 0x9e3779b97f4a7c15ull;

	return (struct list *)(uintptr_t)&t->bucket[h >> 52];
}
_Static_assert(LEASE_BUCKETS == 1 << 12, "bucket_of takes the top 12 bits");

void lease_init(struct lease_table *t, struct mem *mem)
{
	memset(t, 0, sizeof(*t));
	t->mem = mem;
	for (unsigned i = 0; i < LEASE_BUCKETS; i++)
		list_init(&t->bucket[i]);
}

static void ranges_init(struct lease_ranges *rs)
{
	list_init(&rs->all);
	rs->at = &rs->all;
}

static void range_free(struct lease_table *t, struct lease_ranges *rs, struct lease_range *r)
{
	if (rs->at == &r->link)
		rs->at = r->link.prev;
	list_del(&r->link);
	mem_free(t->mem, r, sizeof(*r));
}

/* Of one node, or of all. */
static void ranges_drop(struct lease_table *t, struct lease_ranges *rs, uint64_t mask)
{
	list_for_each_entry_safe(r, tmp, &rs->all, struct lease_range, link) {
		if (mask & BIT(r->idx))
			range_free(t, rs, r);
	}
}

static void ino_free(struct lease_table *t, struct lease_ino *li)
{
	csv_assert(list_empty(&li->waiting) && list_empty(&li->appends.waiting));
	ranges_drop(t, &li->ranges, UINT64_MAX);
	ranges_drop(t, &li->edges, UINT64_MAX);
	list_del(&li->hash);
	t->count--;
	mem_free(t->mem, li, sizeof(*li));
}

void lease_reset(struct lease_table *t)
{
	for (unsigned i = 0; i < LEASE_BUCKETS; i++) {
		list_for_each_entry_safe(li, tmp, &t->bucket[i], struct lease_ino, hash)
			ino_free(t, li);
	}
}

struct lease_ino *lease_find(const struct lease_table *t, uint64_t ino)
{
	list_for_each_entry(li, bucket_of(t, ino), struct lease_ino, hash) {
		if (li->ino == ino)
			return li;
	}
	return NULL;
}

struct lease_ino *lease_get(struct lease_table *t, uint64_t ino)
{
	struct lease_ino *li = lease_find(t, ino);

	if (li)
		return li;
	li = mem_alloc(t->mem, sizeof(*li));
	if (!li)
		return NULL;
	li->ino = ino;
	li->recall_deadline_ns = NEVER;
	ranges_init(&li->ranges);
	ranges_init(&li->edges);
	list_init(&li->waiting);
	list_init(&li->appends.waiting);
	list_add(&li->hash, bucket_of(t, ino));
	t->count++;
	return li;
}

void lease_put(struct lease_table *t, struct lease_ino *li)
{
	if (li->open_mask || li->holder_mask || li->granting || li->exclusive || li->appends.placing ||
		!list_empty(&li->waiting) || !list_empty(&li->appends.waiting))
		return;
	ino_free(t, li);
}

bool lease_is_open(const struct lease_table *t, uint64_t ino)
{
	const struct lease_ino *li = lease_find(t, ino);

	return li && li->open_mask;
}

void lease_closed(struct lease_ino *li, uint32_t idx)
{
	li->open_mask &= ~BIT(idx);
	li->write_mask &= ~BIT(idx);
}

int lease_set_open(struct lease_table *t, uint64_t ino, uint32_t idx, bool open)
{
	struct lease_ino *li = open ? lease_get(t, ino) : lease_find(t, ino);

	csv_assert(idx < NODES_MAX);
	if (!li)
		return open ? -ENOMEM : 0;
	if (open) {
		li->open_mask |= BIT(idx);
	} else {
		lease_closed(li, idx);
		lease_put(t, li);
	}
	return 0;
}

static uint64_t end_of(const struct lease_range *r)
{
	return r->off + r->len;
}

/* NULL: the end of the list. */
static struct lease_range *range_of(const struct lease_ranges *rs, struct list *at)
{
	return at == &rs->all ? NULL : list_entry(at, struct lease_range, link);
}

/* The first range that ends behind `off`. NULL: none. */
static struct lease_range *seek(const struct lease_ranges *rs, uint64_t off, uint64_t *looked_at)
{
	struct lease_range *r = range_of(rs, rs->at);

	if (!r || end_of(r) > off)
		r = range_of(rs, rs->all.next);
	for (; r && end_of(r) <= off; r = range_of(rs, r->link.next))
		++*looked_at;
	return r;
}

/* The same; the next time begins there. */
static struct lease_range *look(struct lease_ranges *rs, uint64_t off)
{
	struct lease_range *r = seek(rs, off, &rs->looked_at);

	rs->at = r ? r->link.prev : rs->all.prev;
	return r;
}

static uint64_t others_in(const struct lease_ranges *rs, uint32_t idx, uint64_t off, uint64_t len)
{
	uint64_t mask = 0, looked_at = 0;
	struct lease_range *r = seek(rs, off, &looked_at);

	for (; r && r->off < off + len; r = range_of(rs, r->link.next)) {
		if (r->idx != idx)
			mask |= BIT(r->idx);
	}
	return mask;
}

uint64_t lease_conflicts(
	const struct lease_ino *li, uint32_t idx, uint32_t flags, uint64_t off, uint64_t len)
{
	uint64_t mask = 0, all = 0;

	if (flags & FS_LAYOUT_WRITE)
		mask = li->blank_mask | others_in(&li->edges, idx, off, len);
	if (flags & FS_LAYOUT_EDGE)
		mask |= li->writer_mask;
	mask = (mask & ~BIT(idx)) | others_in(&li->ranges, idx, off, len);
	if ((flags & FS_LAYOUT_EDGE) && li->edge_count >= LEASE_EDGES_MAX) {
		list_for_each_entry(r, &li->edges.all, struct lease_range, link)
			all |= BIT(r->idx);
	}
	return mask | all;
}

/* The first range in [off, off + len): of another node than idx, or of any one. NULL: none. */
static struct lease_range *owned_in(
	struct lease_ranges *rs, uint32_t idx, bool others, uint64_t off, uint64_t len)
{
	struct lease_range *r = look(rs, off);

	while (r && r->off < off + len && others && r->idx == idx)
		r = range_of(rs, r->link.next);
	return r && r->off < off + len ? r : NULL;
}

static struct lease_range *range_new(
	struct lease_table *t, uint32_t idx, uint64_t off, uint64_t len)
{
	struct lease_range *r = mem_alloc(t->mem, sizeof(*r));

	if (r) {
		r->idx = idx;
		r->off = off;
		r->len = len;
		list_init(&r->link);
	}
	return r;
}

/* Takes [off, off + len) out of what idx owns. May need one more range: a middle piece goes. */
static int disown(
	struct lease_table *t, struct lease_ranges *rs, uint32_t idx, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;
	struct lease_range *r = look(rs, off), *next;

	for (; r && r->off < end; r = next) {
		uint64_t r_end = end_of(r);

		next = range_of(rs, r->link.next);
		rs->looked_at++;
		if (r->idx != idx)
			continue;
		if (r->off < off && r_end > end) {
			struct lease_range *right = range_new(t, idx, end, r_end - end);

			if (!right)
				return -ENOMEM;
			list_add(&right->link, &r->link);
			r->len = off - r->off;
		} else if (r->off < off) {
			r->len = off - r->off;
		} else if (r_end > end) {
			r->off = end;
			r->len = r_end - end;
		} else {
			range_free(t, rs, r);
		}
	}
	return 0;
}

/* What touches or overlaps it becomes one with it. */
static int own(
	struct lease_table *t, struct lease_ranges *rs, uint32_t idx, uint64_t off, uint64_t len)
{
	struct lease_range *r, *next, *n = NULL;
	uint64_t end = off + len;

	csv_assert(idx < NODES_MAX);
	if (!len || end < off)
		return -EINVAL;
	r = look(rs, off);
	if (others_in(rs, idx, off, len))
		return -EEXIST;
	next = range_of(rs, rs->at);
	if (next && next->idx == idx && end_of(next) == off)
		r = next;
	for (; r && r->idx == idx && r->off <= end; r = next) {
		next = range_of(rs, r->link.next);
		rs->looked_at++;
		off = r->off < off ? r->off : off;
		end = end_of(r) > end ? end_of(r) : end;
		if (n)
			range_free(t, rs, r);
		else
			n = r;
	}
	if (!n) {
		n = range_new(t, idx, off, len);
		if (!n)
			return -ENOMEM;
		list_add(&n->link, rs->at);
	}
	n->off = off;
	n->len = end - off;
	return 0;
}

static void count_edges(struct lease_ino *li)
{
	li->edge_count = 0;
	list_for_each_entry(r, &li->edges.all, struct lease_range, link)
		li->edge_count++;
}

int lease_own(struct lease_table *t, struct lease_ino *li, uint32_t idx, uint64_t off, uint64_t len,
	bool edge)
{
	int err = own(t, edge ? &li->edges : &li->ranges, idx, off, len);

	if (!err)
		li->holder_mask |= BIT(idx);
	if (edge) {
		li->edged = true;
		count_edges(li);
	}
	return err;
}

void lease_hold(struct lease_ino *li, uint32_t idx, bool blank)
{
	li->holder_mask |= BIT(idx);
	li->writer_mask |= BIT(idx);
	if (blank)
		li->blank_mask |= BIT(idx);
}

/* One grant: what is asked. */
struct grant {
	struct lease_table *t;
	struct lease_ino *li;
	uint32_t idx, flags;
	uint64_t off, end;
	bool alone; /* nobody else knows anything of the file */
	bool as_writer; /* space of nobody is told so that it may write there */
	int err;
};

static bool is_asked(const struct grant *g, const struct fs_extent *e, uint32_t flag)
{
	return (g->flags & flag) && e->off < g->end && g->off < e->off + e->len;
}

/* Space of nobody, or of who asks; false: another's, the reply ends before it. */
static bool grant_space(struct grant *g, struct fs_extent *e)
{
	struct lease_range *other;

	if (e->state == EXT_UNWRITTEN) {
		/* What another node may be writing right now is not ours to call zero. */
		other = owned_in(&g->li->ranges, g->idx, true, e->off, e->len);
		if (other && other->off <= e->off)
			return false;
		if (other)
			e->len = other->off - e->off;
		if (is_asked(g, e, FS_LAYOUT_WRITE)) {
			g->err = lease_own(g->t, g->li, g->idx, e->off, e->len, false);
			return g->err == 0;
		}
		/*
		 * Partly its own: cut where that changes. What it owns it may have first-written a moment
		 * ago, so it must never be told that it is a hole.
		 */
		other = owned_in(&g->li->ranges, g->idx, false, e->off, e->len);
		if (other && other->off <= e->off) {
			if (other->off + other->len < e->off + e->len)
				e->len = other->off + other->len - e->off;
			return true;
		}
		if (other)
			e->len = other->off - e->off;
		e->state = EXT_HOLE;
		e->lun_off = 0;
	}
	if (e->state == EXT_HOLE)
		g->li->blank_mask |= BIT(g->idx);
	return true;
}

/* What the node may write there (L6); cut where that changes. False: another's, the reply ends before it. */
static bool grant_write(struct grant *g, struct fs_extent *e)
{
	struct lease_range *r;
	uint64_t end = e->off + e->len;
	int err;

	e->edge = 0;
	if (e->state != EXT_UNWRITTEN && e->state != EXT_WRITTEN)
		return true;
	if (is_asked(g, e, FS_LAYOUT_EDGE) || ((g->flags & FS_LAYOUT_EDGE) && g->alone)) {
		/* What it has to first-write is its own as far as that goes: an appender need not ask for each cluster. */
		if (!g->alone && end > g->end && e->state == EXT_WRITTEN)
			e->len = g->end - e->off;
		err = lease_own(g->t, g->li, g->idx, e->off, e->len, true);
		g->err = err == -EEXIST ? 0 : err;
		e->edge = 1;
		return err == 0;
	}
	r = owned_in(&g->li->edges, g->idx, false, e->off, e->len);
	if (r && r->off > e->off) {
		e->len = r->off - e->off;
		r = NULL;
	}
	if (r && r->off + r->len < end)
		e->len = r->off + r->len - e->off;
	if (r && r->idx == g->idx)
		e->edge = 1;
	else if (e->state == EXT_UNWRITTEN && r)
		return false;
	else if (r || (e->state == EXT_WRITTEN && !g->as_writer))
		e->state = EXT_SHARED;
	else
		g->li->writer_mask |= BIT(g->idx);
	return true;
}

int lease_grant(struct lease_table *t, struct lease_ino *li, uint32_t idx, uint32_t flags, uint64_t off,
	uint64_t len, struct fs_extent *extents, uint32_t *count)
{
	struct grant g = {.t = t,
		.li = li,
		.idx = idx,
		.flags = flags,
		.off = off,
		.end = off + len,
		.alone = !(li->holder_mask & ~BIT(idx))};
	uint32_t n = 0;

	csv_assert(idx < NODES_MAX);
	if (flags & FS_LAYOUT_EDGE)
		li->edged = true;
	g.as_writer = (flags & FS_LAYOUT_WRITE) ? !(flags & FS_LAYOUT_EDGE) : !li->edged;
	for (uint32_t i = 0; i < *count; i++) {
		uint64_t was = extents[i].len;

		if (!grant_space(&g, &extents[i]) || !grant_write(&g, &extents[i]))
			break;
		n++;
		if (extents[i].len != was)
			break;
	}
	*count = n;
	if (n)
		li->holder_mask |= BIT(idx);
	return g.err;
}

int lease_commit(
	struct lease_table *t, struct lease_ino *li, uint32_t idx, uint64_t off, uint64_t len)
{
	return disown(t, &li->ranges, idx, off, len);
}

uint64_t lease_recall(struct lease_ino *li, uint64_t mask, uint64_t due_ns)
{
	mask &= li->holder_mask & ~li->recall_mask;
	if (!mask)
		return 0;
	if (li->recall_mask)
		li->recall_later |= mask;
	else
		li->recall_deadline_ns = due_ns;
	li->recall_mask |= mask;
	return mask;
}

uint64_t lease_overdue(struct lease_ino *li, uint64_t due_ns)
{
	uint64_t over = li->recall_mask & ~li->recall_later;

	li->recall_later = 0;
	li->recall_deadline_ns = due_ns;
	return over;
}

void lease_return(struct lease_table *t, struct lease_ino *li, uint32_t idx)
{
	ranges_drop(t, &li->ranges, BIT(idx));
	ranges_drop(t, &li->edges, BIT(idx));
	count_edges(li);
	li->holder_mask &= ~BIT(idx);
	li->blank_mask &= ~BIT(idx);
	li->writer_mask &= ~BIT(idx);
	li->recall_mask &= ~BIT(idx);
	li->recall_later &= ~BIT(idx);
	if (!li->recall_mask)
		li->recall_deadline_ns = NEVER;
}

struct lease_ino *lease_next_of(const struct lease_table *t, uint32_t idx, uint64_t ino)
{
	bool found = ino == 0;
	struct list *from = ino ? bucket_of(t, ino) : (struct list *)(uintptr_t)&t->bucket[0];

	for (struct list *b = from; b < &t->bucket[LEASE_BUCKETS]; b++) {
		list_for_each_entry(li, b, struct lease_ino, hash) {
			if (found && ((li->open_mask | li->holder_mask) & BIT(idx)))
				return li;
			if (li->ino == ino)
				found = true;
		}
	}
	return NULL;
}

/* L1, L2, L5. */
static uint32_t check_ranges(const struct lease_ino *li, const struct lease_ranges *rs)
{
	uint64_t end = 0;
	uint32_t count = 0;
	bool found = rs->at == &rs->all;

	list_for_each_entry(r, &rs->all, struct lease_range, link) {
		csv_assert(r->len > 0);
		csv_assert(r->off >= end);
		csv_assert(li->holder_mask & BIT(r->idx));
		end = r->off + r->len;
		found |= rs->at == &r->link;
		count++;
	}
	csv_assert(found);
	return count;
}

static void check_ino(const struct lease_ino *li)
{
	uint32_t edges = check_ranges(li, &li->edges);

	(void)check_ranges(li, &li->ranges);
	csv_assert(edges == li->edge_count);
	csv_assert(!edges || li->edged);
	csv_assert(!(li->writer_mask & ~li->holder_mask)); /* L6 */
	csv_assert(!li->exclusive || !li->holder_mask); /* L3 */
	csv_assert(!(li->recall_mask & ~li->holder_mask)); /* L4 */
	csv_assert(!(li->recall_later & ~li->recall_mask));
	csv_assert(!li->recall_mask == (li->recall_deadline_ns == NEVER));
	csv_assert(!(li->blank_mask & ~li->holder_mask));
	for (uint32_t i = 0; i < li->appends.count; i++)
		csv_assert(li->open_mask & BIT(li->appends.told[i].idx)); /* L7 */
	csv_assert(!(li->write_mask & ~li->open_mask)); /* L7 */
}

void lease_check(const struct lease_table *t)
{
	uint64_t left = t->count;

	for (unsigned i = 0; i < LEASE_BUCKETS && left; i++) {
		list_for_each_entry(li, &t->bucket[i], struct lease_ino, hash) {
			check_ino(li);
			left--;
		}
	}
	csv_assert(!left);
}
