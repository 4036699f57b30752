/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * layout.c - files by number in a hash; the extents of each in a treap, ordered by offset.
 *
 * A treap since replacing a range is then two splits and two merges, each O(log n) for any number of
 * extents, without a case of its own for every kind of overlap. Priorities are a hash of the offset:
 * the same history gives the same tree.
 */
#include "csvfs/layout.h"

#include <errno.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/limits.h"

struct lext {
	struct lext *left, *right; /* `left` also links the spare ones */
	uint64_t off, len;
	union {
		uint64_t lun_off;
		struct lext *next; /* of the root of what was forgotten: another such tree */
	};
	uint32_t state : 2;
	uint32_t edge : 1; /* nobody else writes there */
	uint32_t prio;
};

/* A first write cuts at both its ends: two more extents stay, a third exists in between. */
#define PROMISE_EXTENTS 4u

static uint64_t mix(uint64_t z)
{
	z += 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static struct list *bucket(struct layout *l, uint64_t ino)
{
	return &l->buckets[mix(ino) % LAYOUT_BUCKETS];
}

int layout_init(struct layout *l, struct mem *mem, uint64_t data_start, uint32_t cluster_bytes,
	uint32_t file_bytes)
{
	csv_assert(file_bytes >= sizeof(struct layout_file));
	csv_assert(cluster_bytes >= CLUSTER_MIN);
	csv_assert((cluster_bytes & (cluster_bytes - 1)) == 0);
	memset(l, 0, sizeof(*l));
	l->mem = mem;
	l->data_start = data_start;
	l->cluster_bytes = cluster_bytes;
	l->file_bytes = file_bytes;
	l->buckets = mem_alloc(mem, LAYOUT_BUCKETS * sizeof(struct list));
	if (!l->buckets)
		return -ENOMEM;
	for (uint32_t i = 0; i < LAYOUT_BUCKETS; i++)
		list_init(&l->buckets[i]);
	return 0;
}

/* ------------------------------------------------------------------ memory of extents */

/* To forget a file of a million extents takes no time: its tree is put aside, and used up one by one. */
static void put_aside(struct layout *l, struct lext *root)
{
	if (!root)
		return;
	root->next = l->aside;
	l->aside = root;
}

static struct lext *from_aside(struct layout *l)
{
	struct lext *t = l->aside, *x, *next;

	if (!t)
		return NULL;
	next = t->next;
	while ((x = t->left)) {
		t->left = x->right;
		x->right = t;
		t = x;
	}
	l->aside = t->right ? t->right : next;
	if (t->right)
		t->right->next = next;
	return t;
}

static int reserve(struct layout *l, uint32_t n)
{
	while (l->spare_count < n) {
		struct lext *x = from_aside(l);

		if (!x)
			x = mem_alloc(l->mem, sizeof(*x));

		if (!x)
			return -ENOMEM;
		x->left = l->spare;
		l->spare = x;
		l->spare_count++;
	}
	return 0;
}

/* Whoever calls has reserved it. */
static struct lext *take(struct layout *l, uint64_t off, uint64_t len, uint64_t lun_off,
	uint32_t state, uint32_t edge)
{
	struct lext *x = l->spare;

	csv_assert(x != NULL);
	l->spare = x->left;
	l->spare_count--;
	l->extent_count++;
	*x = (struct lext){
		.off = off,
		.len = len,
		.lun_off = state == EXT_HOLE ? 0 : lun_off,
		.state = state & 3u,
		.edge = edge & 1u,
		.prio = (uint32_t)mix(off),
	};
	return x;
}

static void give(struct layout *l, struct lext *x)
{
	csv_assert(l->extent_count > 0);
	l->extent_count--;
	if (l->spare_count < l->promised * PROMISE_EXTENTS) {
		x->left = l->spare;
		l->spare = x;
		l->spare_count++;
		return;
	}
	mem_free(l->mem, x, sizeof(*x));
}

/* What was reserved and not needed: promises come first, the rest goes back. */
static void give_surplus(struct layout *l)
{
	while (l->spare_count > l->promised * PROMISE_EXTENTS) {
		struct lext *x = l->spare;

		l->spare = x->left;
		l->spare_count--;
		mem_free(l->mem, x, sizeof(*x));
	}
}

int layout_promise(struct layout *l)
{
	if (reserve(l, (l->promised + 1) * PROMISE_EXTENTS))
		return -ENOMEM;
	l->promised++;
	return 0;
}

void layout_unpromise(struct layout *l)
{
	csv_assert(l->promised > 0);
	l->promised--;
	give_surplus(l);
}

/* ------------------------------------------------------------------ the treap */

static uint64_t end_of(const struct lext *x)
{
	return x->off + x->len;
}

static uint32_t tree_free(struct layout *l, struct lext *t)
{
	uint32_t n = 0;

	/* Rotates to a list as it goes: no recursion, however the tree looks. */
	while (t) {
		struct lext *x = t->left;

		if (x) {
			t->left = x->right;
			x->right = t;
			t = x;
		} else {
			x = t->right;
			give(l, t);
			n++;
			t = x;
		}
	}
	return n;
}

/* Extents that begin before `off` go to *a, the others to *b. */
static void split(struct lext *t, uint64_t off, struct lext **a, struct lext **b)
{
	while (t) {
		if (t->off < off) {
			*a = t;
			a = &t->right;
			t = t->right;
		} else {
			*b = t;
			b = &t->left;
			t = t->left;
		}
	}
	*a = NULL;
	*b = NULL;
}

/* All of a lies before all of b. */
static struct lext *merge(struct lext *a, struct lext *b)
{
	struct lext *root, **p = &root;

	while (a && b) {
		if (a->prio >= b->prio) {
			*p = a;
			p = &a->right;
			a = a->right;
		} else {
			*p = b;
			p = &b->left;
			b = b->left;
		}
	}
	*p = a ? a : b;
	return root;
}

static struct lext *leftmost(struct lext *t)
{
	while (t && t->left)
		t = t->left;
	return t;
}

static struct lext *rightmost(struct lext *t)
{
	while (t && t->right)
		t = t->right;
	return t;
}

/* The last extent that begins at or before `off`; *after: the first behind it. */
static struct lext *last_before(struct lext *t, uint64_t off, struct lext **after)
{
	struct lext *best = NULL;

	*after = NULL;
	while (t) {
		if (t->off <= off) {
			best = t;
			t = t->right;
		} else {
			*after = t;
			t = t->left;
		}
	}
	return best;
}

/* One extent that crosses `off` becomes two. */
static void cut(struct layout *l, struct layout_file *f, uint64_t off)
{
	struct lext *after, *x = last_before(f->root, off, &after), *tail, *a, *b;
	uint64_t head;

	if (!x || x->off == off || end_of(x) <= off)
		return;
	head = off - x->off;
	tail = take(l, off, x->len - head, x->lun_off + head, x->state, x->edge);
	x->len = head;
	split(f->root, off, &a, &b);
	f->root = merge(merge(a, tail), b);
	f->count++;
}

static bool one_extent(
	const struct lext *a, uint64_t off, uint64_t lun_off, uint32_t state, uint32_t edge)
{
	return end_of(a) == off && a->state == state && a->edge == edge &&
	       (state == EXT_HOLE || a->lun_off + a->len == lun_off);
}

/* Joins two neighbouring trees; their touching extents become one if they can be. */
static struct lext *join(struct layout *l, struct layout_file *f, struct lext *a, struct lext *b)
{
	struct lext *x = rightmost(a), *y = leftmost(b), *lone, *rest;

	if (x && y && one_extent(x, y->off, y->lun_off, y->state, y->edge)) {
		x->len += y->len;
		split(b, y->off + 1, &lone, &rest);
		csv_assert(lone == y);
		give(l, y);
		f->count--;
		b = rest;
	}
	return merge(a, b);
}

/* Takes [off, end) out of the tree into *mid; what is left of it and right of it to *a and *b. */
static void carve(struct layout *l, struct layout_file *f, uint64_t off, uint64_t end,
	struct lext **a, struct lext **mid, struct lext **b)
{
	struct lext *rest;

	cut(l, f, off);
	cut(l, f, end);
	split(f->root, off, a, &rest);
	split(rest, end, mid, b);
}

/* ------------------------------------------------------------------ files */

struct layout_file *layout_find(struct layout *l, uint64_t ino)
{
	list_for_each_entry(f, bucket(l, ino), struct layout_file, hash) {
		if (f->ino == ino)
			return f;
	}
	return NULL;
}

struct layout_file *layout_file_get(struct layout *l, uint64_t ino, bool *is_new)
{
	struct layout_file *f = layout_find(l, ino);

	*is_new = !f;
	if (f)
		return f;
	f = mem_alloc(l->mem, l->file_bytes);
	if (!f)
		return NULL;
	f->ino = ino;
	list_add(&f->hash, bucket(l, ino));
	l->file_count++;
	return f;
}

static void forget_extents(struct layout *l, struct layout_file *f)
{
	csv_assert(l->extent_count >= f->count);
	l->extent_count -= f->count;
	put_aside(l, f->root);
	f->root = NULL;
	f->count = 0;
}

void layout_file_free(struct layout *l, struct layout_file *f)
{
	forget_extents(l, f);
	list_del(&f->hash);
	csv_assert(l->file_count > 0);
	l->file_count--;
	mem_free(l->mem, f, l->file_bytes);
}

struct layout_file *layout_next(struct layout *l, struct layout_file *f)
{
	struct list *head = f ? bucket(l, f->ino) : &l->buckets[0];
	struct list *pos = f ? f->hash.next : head->next;

	while (pos == head) {
		if (++head == l->buckets + LAYOUT_BUCKETS)
			return NULL;
		pos = head->next;
	}
	return list_entry(pos, struct layout_file, hash);
}

void layout_fini(struct layout *l)
{
	struct layout_file *f;
	struct lext *x;

	l->promised = 0;
	while ((f = layout_next(l, NULL)))
		layout_file_free(l, f);
	give_surplus(l);
	while ((x = from_aside(l)))
		mem_free(l->mem, x, sizeof(*x));
	mem_free(l->mem, l->buckets, LAYOUT_BUCKETS * sizeof(struct list));
	l->buckets = NULL;
}

/* ------------------------------------------------------------------ knowledge */

bool layout_at(const struct layout_file *f, uint64_t off, struct fs_extent *e, uint64_t *next)
{
	struct lext *after, *x = last_before(f->root, off, &after);

	if (!x || end_of(x) <= off) {
		if (next)
			*next = after ? after->off : UINT64_MAX;
		return false;
	}
	*e = (struct fs_extent){
		.off = x->off,
		.len = x->len,
		.lun_off = x->lun_off,
		.state = x->state,
		.edge = x->edge,
	};
	return true;
}

static bool put_is_sound(const struct layout *l, uint64_t off, uint64_t len,
	const struct fs_extent *e, uint32_t count)
{
	uint64_t mask = l->cluster_bytes - 1, at = off;

	if (((off | len) & mask) || len > FILE_BYTES_MAX + CLUSTER_MAX || off > FILE_BYTES_MAX)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		if (((e[i].off | e[i].len) & mask) || e[i].state > EXT_SHARED || !e[i].len)
			return false;
		if (e[i].off < at || e[i].len > off + len || e[i].off > off + len - e[i].len)
			return false;
		/* Superblock, claim and journal are no file's, whoever says so. Where the volume ends may have changed since. */
		if (e[i].state != EXT_HOLE &&
			((e[i].lun_off & mask) || e[i].lun_off < l->data_start ||
				e[i].len > UINT64_MAX - e[i].lun_off))
			return false;
		if (e[i].edge > (e[i].state == EXT_UNWRITTEN || e[i].state == EXT_WRITTEN))
			return false;
		at = e[i].off + e[i].len;
	}
	return true;
}

/* What a put makes: a tree of its own, or (build unset) only how many extents it would take at most. */
struct fresh {
	struct layout *l;
	bool build;
	uint32_t count;
	struct lext *root, *last;
};

static void fresh_add(struct fresh *n, uint64_t off, uint64_t len, uint64_t lun_off, uint32_t state,
	uint32_t edge)
{
	if (n->build && n->last && one_extent(n->last, off, lun_off, state, edge)) {
		n->last->len += len;
		return;
	}
	n->count++;
	if (n->build) {
		n->last = take(n->l, off, len, lun_off, state, edge);
		n->root = merge(n->root, n->last);
	}
}

/* L2: the parts of an UNWRITTEN extent that are known as WRITTEN at the same place stay so. */
static void fresh_add_unwritten(struct fresh *n, const struct layout_file *f,
	const struct fs_extent *e)
{
	uint64_t end = e->off + e->len, lun_off, stop, next;
	struct fs_extent was;
	uint32_t state;

	for (uint64_t at = e->off; at < end; at = stop) {
		lun_off = e->lun_off + (at - e->off);
		state = EXT_UNWRITTEN;
		if (layout_at(f, at, &was, &next)) {
			stop = was.off + was.len;
			if (was.state == EXT_WRITTEN && was.lun_off + (at - was.off) == lun_off)
				state = EXT_WRITTEN;
		} else {
			stop = next;
		}
		if (stop > end)
			stop = end;
		fresh_add(n, at, stop - at, lun_off, state, e->edge);
	}
}

static void fresh_make(struct fresh *n, const struct layout_file *f, const struct fs_extent *e,
	uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (e[i].state == EXT_UNWRITTEN)
			fresh_add_unwritten(n, f, &e[i]);
		else
			fresh_add(n, e[i].off, e[i].len, e[i].lun_off, e[i].state, e[i].edge);
	}
}

int layout_put(struct layout *l, struct layout_file *f, uint64_t off, uint64_t len,
	const struct fs_extent *e, uint32_t count)
{
	struct fresh probe = {.l = l}, fresh = {.l = l, .build = true};
	struct lext *a, *mid, *b;

	if (!len && !count)
		return 0;
	if (!put_is_sound(l, off, len, e, count))
		return -EINVAL;
	fresh_make(&probe, f, e, count);
	/* Two more: what is there may be cut at both ends of the range. */
	if (reserve(l, l->promised * PROMISE_EXTENTS + probe.count + 2)) {
		give_surplus(l);
		return -ENOMEM;
	}
	fresh_make(&fresh, f, e, count);
	carve(l, f, off, off + len, &a, &mid, &b);
	f->count -= tree_free(l, mid);
	f->count += fresh.count;
	f->root = join(l, f, join(l, f, a, fresh.root), b);
	give_surplus(l);
	return 0;
}

void layout_drop(struct layout *l, struct layout_file *f)
{
	forget_extents(l, f);
	f->size_known = false;
	f->size = 0;
	f->closed = false;
	f->drops++;
}

void layout_written(struct layout *l, struct layout_file *f, uint64_t off, uint64_t len)
{
	uint64_t end = off + len, next, from, to;
	struct lext *a, *mid, *b;
	struct fs_extent e;

	csv_assert(((off | len) & (l->cluster_bytes - 1)) == 0);
	csv_assert(l->promised > 0);
	for (uint64_t at = off; at < end;) {
		if (!layout_at(f, at, &e, &next)) {
			at = next;
			continue;
		}
		from = e.off < off ? off : e.off;
		to = e.off + e.len > end ? end : e.off + e.len;
		at = to;
		if (e.state != EXT_UNWRITTEN)
			continue;
		carve(l, f, from, to, &a, &mid, &b);
		csv_assert(mid && !mid->left && !mid->right);
		mid->state = EXT_WRITTEN;
		f->root = join(l, f, join(l, f, a, mid), b);
	}
	layout_unpromise(l);
}

/* ------------------------------------------------------------------ check */

struct check {
	const struct lext *last;
	uint32_t count;
};

static void check_extent(const struct layout *l, struct check *c, const struct lext *x)
{
	csv_assert(x->len > 0);
	csv_assert(((x->off | x->len | x->lun_off) & (l->cluster_bytes - 1)) == 0);
	csv_assert(!x->edge || x->state == EXT_UNWRITTEN || x->state == EXT_WRITTEN);
	csv_assert(!x->left || x->left->prio <= x->prio);
	csv_assert(!x->right || x->right->prio <= x->prio);
	if (c->last) {
		csv_assert(end_of(c->last) <= x->off);
		csv_assert(!one_extent(c->last, x->off, x->lun_off, x->state, x->edge));
	}
	c->last = x;
	c->count++;
}

static void check_tree(const struct layout *l, struct check *c, const struct lext *t)
{
	if (!t)
		return;
	check_tree(l, c, t->left);
	check_extent(l, c, t);
	check_tree(l, c, t->right);
}

void layout_check(struct layout *l)
{
	uint32_t files = 0, spare = 0, extents = 0;

	for (struct layout_file *f = layout_next(l, NULL); f; f = layout_next(l, f)) {
		struct check c = {0};

		check_tree(l, &c, f->root);
		csv_assert(c.count == f->count);
		extents += c.count;
		files++;
	}
	csv_assert(files == l->file_count);
	csv_assert(extents == l->extent_count);
	for (struct lext *x = l->spare; x; x = x->left)
		spare++;
	csv_assert(spare == l->spare_count);
	csv_assert(spare >= l->promised * PROMISE_EXTENTS);
}
