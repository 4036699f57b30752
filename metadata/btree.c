/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * btree.c - one B+tree for all indexes. Layout of a node: format_inode.h.
 *
 * Rules
 *  1. A node below the root is never empty (but for a moment, within one change), and all leaves have
 *     the same depth.
 *  2. The first slot of an inner node has key 0 and covers everything down to the node's own lower
 *     bound, which only its parent knows. So a bound stands in one place, and when a first child goes
 *     the next one inherits its range without a change further down.
 *  3. Going down to insert, every node on the way that could not take one more child is split first:
 *     so a split never travels upwards. (-EEXIST after that costs nothing: the engine undoes it.)
 *  4. The root is full: its content moves to a new block below it (deepen). One child is left and its
 *     content fits: it moves back (shallow). So whoever points to a root never has to change it.
 *  5. A node less than a third full is merged with a neighbour of the same parent when both together
 *     fill at most three quarters; an empty one is freed. So a tree shrinks as records go, and not at
 *     every step back and forth.
 *  6. What is appended behind the last key leaves full nodes behind, not halves.
 */
#include "metadata/btree.h"

#include <errno.h>

#include "csvfs/base/assert.h"

#define NODE_HEAD ((uint32_t)sizeof(struct disk_node))
#define SLOT_BYTES ((uint32_t)sizeof(struct disk_slot))
#define INNER_BYTES (SLOT_BYTES + 8u) /* what a child takes in its parent */

/* ------------------------------------------------------------------ one node */

struct node {
	struct block *b;
	uint8_t *p;
	uint32_t bytes;
};

static struct disk_node *head(const struct node *n)
{
	return (struct disk_node *)n->p;
}

static struct disk_slot *slot(const struct node *n, uint32_t i)
{
	return (struct disk_slot *)(n->p + NODE_HEAD) + i;
}

static uint32_t node_count(const struct node *n)
{
	return le16_get(head(n)->count);
}

static uint32_t node_level(const struct node *n)
{
	return head(n)->level;
}

static uint64_t node_key(const struct node *n, uint32_t i)
{
	return le64_get(slot(n, i)->key);
}

static const uint8_t *node_value(const struct node *n, uint32_t i, uint32_t *len)
{
	*len = le16_get(slot(n, i)->len);
	return n->p + le16_get(slot(n, i)->off);
}

static uint64_t node_child(const struct node *n, uint32_t i)
{
	le64 v;

	memcpy(&v, n->p + le16_get(slot(n, i)->off), sizeof(v));
	return le64_get(v);
}

/* Bytes that slots and their values take. */
static uint32_t node_used(const struct node *n)
{
	return node_count(n) * SLOT_BYTES + n->bytes - le16_get(head(n)->heap) -
	       le16_get(head(n)->frag);
}

static uint32_t node_capacity(const struct node *n)
{
	return n->bytes - NODE_HEAD;
}

static bool node_fits(const struct node *n, uint32_t value_len)
{
	return node_used(n) + SLOT_BYTES + value_len <= node_capacity(n);
}

static void node_format(const struct node *n, enum tree_kind kind, uint32_t level)
{
	memset(n->p, 0, n->bytes);
	head(n)->kind = (uint8_t)kind;
	head(n)->level = (uint8_t)level;
	head(n)->heap = le16_of((uint16_t)n->bytes);
}

/* First slot with a key >= key; `count` when there is none. */
static uint32_t node_lower(const struct node *n, uint64_t key)
{
	uint32_t lo = 0, hi = node_count(n);

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (node_key(n, mid) < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Which child of an inner node covers key (rule 2: the first one covers all that is lower). */
static uint32_t node_child_pos(const struct node *n, uint64_t key)
{
	uint32_t i = node_lower(n, key);

	if (i < node_count(n) && node_key(n, i) == key)
		return i;
	return i ? i - 1 : 0; /* i is 0 for key 0 only */
}

/* Values move together at the end of the node; frag becomes 0. */
static void node_compact(const struct node *n)
{
	uint8_t old[TREE_NODE_BYTES];
	uint32_t heap = n->bytes, count = node_count(n);

	csv_assert(n->bytes <= sizeof(old));
	memcpy(old, n->p, n->bytes);
	for (uint32_t i = 0; i < count; i++) {
		struct disk_slot *s = slot(n, i);
		uint32_t len = le16_get(s->len);

		if (len == 0)
			continue;
		heap -= len;
		memcpy(n->p + heap, old + le16_get(s->off), len);
		s->off = le16_of((uint16_t)heap);
	}
	head(n)->heap = le16_of((uint16_t)heap);
	head(n)->frag = le16_of(0);
	memset(n->p + NODE_HEAD + count * SLOT_BYTES, 0, heap - NODE_HEAD - count * SLOT_BYTES);
}

/* There is room. `value` is not in this node. */
static void node_put(
	const struct node *n, uint32_t pos, uint64_t key, const void *value, uint32_t len)
{
	uint32_t count = node_count(n), heap;
	struct disk_slot *s;

	csv_assert(node_fits(n, len));
	csv_assert(pos <= count);
	if (le16_get(head(n)->heap) < NODE_HEAD + (count + 1) * SLOT_BYTES + len)
		node_compact(n);
	heap = le16_get(head(n)->heap) - len;
	s = slot(n, pos);
	memmove(s + 1, s, (count - pos) * SLOT_BYTES);
	s->key = le64_of(key);
	s->len = le16_of((uint16_t)len);
	/* An empty value has no place in the heap that could move. */
	s->off = le16_of((uint16_t)(len ? heap : n->bytes));
	if (len)
		memcpy(n->p + heap, value, len);
	head(n)->heap = le16_of((uint16_t)heap);
	head(n)->count = le16_of((uint16_t)(count + 1));
}

static void node_remove(const struct node *n, uint32_t pos)
{
	uint32_t count = node_count(n), len = le16_get(slot(n, pos)->len);
	struct disk_slot *s = slot(n, pos);

	csv_assert(pos < count);
	memmove(s, s + 1, (count - pos - 1) * SLOT_BYTES);
	memset(slot(n, count - 1), 0, SLOT_BYTES);
	head(n)->count = le16_of((uint16_t)(count - 1));
	head(n)->frag = le16_of((uint16_t)(le16_get(head(n)->frag) + len));
	if (count == 1)
		node_compact(n);
}

/* Slots from `from` on move to the end of `to`, which has room. */
static void node_move(const struct node *n, uint32_t from, const struct node *to)
{
	uint32_t count = node_count(n), len;
	const uint8_t *value;

	for (uint32_t i = from; i < count; i++) {
		value = node_value(n, i, &len);
		node_put(to, node_count(to), node_key(n, i), value, len);
	}
	for (uint32_t i = count; i > from; i--)
		node_remove(n, i - 1);
}

/* ------------------------------------------------------------------ nodes of a tree */

void tree_inline(struct tree *tr, struct txn *t, enum tree_kind kind, uint64_t owner,
	struct block *holder, uint8_t *root, uint32_t root_bytes)
{
	memset(tr, 0, sizeof(*tr));
	tr->t = t;
	tr->kind = kind;
	tr->owner = owner;
	tr->holder = holder;
	tr->root = root;
	tr->root_bytes = root_bytes;
}

void tree_block(
	struct tree *tr, struct txn *t, enum tree_kind kind, uint64_t owner, uint64_t root_blkno)
{
	memset(tr, 0, sizeof(*tr));
	tr->t = t;
	tr->kind = kind;
	tr->owner = owner;
	tr->root_blkno = root_blkno;
}

void tree_format_root(uint8_t *root, uint32_t root_bytes, enum tree_kind kind)
{
	node_format(&(struct node){NULL, root, root_bytes}, kind, 0);
}

static struct node node_of(struct block *b)
{
	return (struct node){b, ((struct disk_tree_block *)b->data)->node, TREE_NODE_BYTES};
}

static int get_node(struct tree *tr, uint64_t blkno, struct node *out)
{
	struct block *b;
	int err = txn_get(tr->t, blkno, MAGIC_TREE, tr->owner, &b);

	if (err)
		return err;
	*out = node_of(b);
	if (head(out)->kind != tr->kind)
		return txn_damaged(
			tr->t, PROBLEM_TREE_KIND, blkno, tr->owner, head(out)->kind, tr->kind);
	return 0;
}

/* -ENOENT when there is no root block. */
static int get_root(struct tree *tr, struct node *out)
{
	if (tr->holder) {
		*out = (struct node){tr->holder, tr->root, tr->root_bytes};
		if (head(out)->kind != tr->kind)
			return txn_damaged(tr->t, PROBLEM_TREE_KIND, tr->holder->blkno, tr->owner,
				head(out)->kind, tr->kind);
		return 0;
	}
	if (tr->root_blkno == 0)
		return -ENOENT;
	return get_node(tr, tr->root_blkno, out);
}

/* Child i of n. The level decreases by one at each step: so a walk ends, whatever the disk says. */
static int get_child(struct tree *tr, const struct node *parent, uint32_t i, struct node *out)
{
	const struct node n = *parent; /* may be *out */
	uint64_t low = node_key(&n, i);
	uint32_t first;
	int err = get_node(tr, node_child(&n, i), out);

	if (err)
		return err;
	if (node_level(out) + 1 != node_level(&n))
		return txn_damaged(tr->t, PROBLEM_TREE_LEVEL, out->b->blkno, tr->owner,
			node_level(out), node_level(&n) - 1);
	first = node_level(out) ? 1 : 0; /* rule 2: of an inner node the second one, and what lies before it is not empty */
	if (first < node_count(out) && (node_key(out, first) < low || (first && node_key(out, first) == low)))
		return txn_damaged(tr->t, PROBLEM_TREE_BOUNDS, out->b->blkno, tr->owner,
			node_key(out, first), low);
	if (i + 1 < node_count(&n) && node_count(out) &&
		node_key(out, node_count(out) - 1) >= node_key(&n, i + 1))
		return txn_damaged(tr->t, PROBLEM_TREE_BOUNDS, out->b->blkno, tr->owner,
			node_key(out, node_count(out) - 1), node_key(&n, i + 1));
	return 0;
}

static int new_node(struct tree *tr, uint64_t near, uint32_t level, struct node *out)
{
	struct block *b;
	uint64_t blkno;
	int err = alloc_block(tr->t, near, tr->reserve, &blkno);

	if (!err)
		err = txn_new(tr->t, blkno, MAGIC_TREE, tr->owner, &b);
	if (err)
		return err;
	tr->block_delta++;
	*out = node_of(b);
	node_format(out, tr->kind, level);
	return 0;
}

static int free_node(struct tree *tr, const struct node *n)
{
	uint64_t blkno = n->b->blkno;
	int err = alloc_free_block(tr->t, blkno);

	if (err)
		return err;
	txn_forget(tr->t, blkno);
	tr->block_delta--;
	return 0;
}

/* ------------------------------------------------------------------ looking up */

static void cursor_push(struct tree_cursor *cur, const struct node *n, uint32_t pos)
{
	csv_assert(cur->depth < TREE_LEVELS_MAX);
	cur->at[cur->depth++] = (struct tree_step){n->b, n->p, n->bytes, pos};
}

static struct node cursor_node(const struct tree_cursor *cur, uint32_t i)
{
	return (struct node){cur->at[i].b, cur->at[i].node, cur->at[i].bytes};
}

/*
 * The leaf's keys lie within what all nodes above it say, also where it is their first or last child: what a walk comes
 * to is found from the root, too, and is not lower (higher) than what was asked for.
 */
static int check_leaf(const struct tree_cursor *cur)
{
	struct node n = cursor_node(cur, cur->depth - 1), up;
	uint32_t count = node_count(&n), pos;
	uint64_t first, last;

	if (!count)
		return 0;
	first = node_key(&n, 0);
	last = node_key(&n, count - 1);
	for (uint32_t i = 0; i + 1 < cur->depth; i++) {
		up = cursor_node(cur, i);
		pos = cur->at[i].pos;
		if (first < node_key(&up, pos))
			return txn_damaged(cur->tr->t, PROBLEM_TREE_BOUNDS, n.b->blkno, cur->tr->owner, first,
				node_key(&up, pos));
		if (pos + 1 < node_count(&up) && last >= node_key(&up, pos + 1))
			return txn_damaged(cur->tr->t, PROBLEM_TREE_BOUNDS, n.b->blkno, cur->tr->owner, last,
				node_key(&up, pos + 1));
	}
	return 0;
}

/* To the leaf that covers key; the last step's pos is the first slot with a key >= key, or count. */
static int descend(struct tree *tr, uint64_t key, struct tree_cursor *cur)
{
	struct node n;
	uint32_t pos;
	int err = get_root(tr, &n);

	cur->tr = tr;
	cur->depth = 0;
	if (err)
		return err;
	if (node_level(&n) >= TREE_LEVELS_MAX)
		return txn_damaged(tr->t, PROBLEM_TREE_LEVEL, n.b->blkno, tr->owner, node_level(&n),
			TREE_LEVELS_MAX - 1);
	while (node_level(&n) > 0) {
		if (node_count(&n) == 0)
			return txn_damaged(tr->t, PROBLEM_TREE_COUNT, n.b->blkno, tr->owner, 0, 1);
		pos = node_child_pos(&n, key);
		cursor_push(cur, &n, pos);
		err = get_child(tr, &n, pos, &n);
		if (err)
			return err;
	}
	cursor_push(cur, &n, node_lower(&n, key));
	return check_leaf(cur);
}

static void cursor_record(const struct tree_cursor *cur, struct tree_rec *rec)
{
	struct node n = cursor_node(cur, cur->depth - 1);
	uint32_t pos = cur->at[cur->depth - 1].pos;

	rec->key = node_key(&n, pos);
	rec->value = node_value(&n, pos, &rec->len);
}

/* The leaf's steps are used up: to the first slot of the next leaf. */
static int next_leaf(struct tree_cursor *cur)
{
	struct node n;
	uint32_t i = cur->depth - 1;
	int err;

	do {
		if (i == 0) {
			cur->depth = 0;
			return -ENOENT;
		}
		i--;
		n = cursor_node(cur, i);
	} while (++cur->at[i].pos >= node_count(&n));
	cur->depth = i + 1;
	while (node_level(&n) > 0) {
		err = get_child(cur->tr, &n, cur->at[cur->depth - 1].pos, &n);
		if (err)
			return err;
		cursor_push(cur, &n, 0);
	}
	return check_leaf(cur);
}

/* The leaf's steps go back before its first slot: to the last slot of the leaf before. */
static int previous_leaf(struct tree_cursor *cur)
{
	struct node n;
	uint32_t i = cur->depth - 1;
	int err;

	do {
		if (i == 0)
			return -ENOENT;
		i--;
	} while (cur->at[i].pos == 0);
	cur->at[i].pos--;
	n = cursor_node(cur, i);
	cur->depth = i + 1;
	while (node_level(&n) > 0) {
		err = get_child(cur->tr, &n, cur->at[cur->depth - 1].pos, &n);
		if (err)
			return err;
		cursor_push(cur, &n, node_count(&n) - 1);
	}
	return check_leaf(cur);
}

/* Moves on to the next leaf when the cursor stands behind the last slot of its own. */
static int settle(struct tree_cursor *cur, struct tree_rec *rec)
{
	struct node n = cursor_node(cur, cur->depth - 1);
	int err;

	if (cur->at[cur->depth - 1].pos >= node_count(&n)) {
		err = next_leaf(cur);
		if (err)
			return err;
	}
	cursor_record(cur, rec);
	return 0;
}

int tree_first(struct tree *tr, uint64_t key, struct tree_cursor *cur, struct tree_rec *rec)
{
	int err = descend(tr, key, cur);

	return err ? err : settle(cur, rec);
}

int tree_next(struct tree_cursor *cur, struct tree_rec *rec)
{
	if (cur->depth == 0)
		return -ENOENT;
	cur->at[cur->depth - 1].pos++;
	return settle(cur, rec);
}

int tree_seek(struct tree *tr, uint64_t key, struct tree_rec *rec)
{
	struct tree_cursor cur;

	return tree_first(tr, key, &cur, rec);
}

int tree_get(struct tree *tr, uint64_t key, struct tree_rec *rec)
{
	struct tree_cursor cur;
	struct node n;
	int err = descend(tr, key, &cur);

	if (err)
		return err;
	n = cursor_node(&cur, cur.depth - 1);
	if (cur.at[cur.depth - 1].pos >= node_count(&n))
		return -ENOENT;
	cursor_record(&cur, rec);
	return rec->key == key ? 0 : -ENOENT;
}

int tree_floor(struct tree *tr, uint64_t key, struct tree_rec *rec)
{
	struct tree_cursor cur;
	struct node n;
	uint32_t *pos;
	int err = descend(tr, key, &cur);

	if (err)
		return err;
	n = cursor_node(&cur, cur.depth - 1);
	pos = &cur.at[cur.depth - 1].pos;
	if (*pos >= node_count(&n) || node_key(&n, *pos) != key) {
		if (*pos > 0)
			(*pos)--;
		else
			err = previous_leaf(&cur);
		if (err)
			return err;
	}
	cursor_record(&cur, rec);
	return 0;
}

/* ------------------------------------------------------------------ inserting */

/* Rule 4: the root's content goes to a new block below it. */
static int deepen(struct tree *tr, struct node *root)
{
	struct node low;
	uint32_t level = node_level(root);
	le64 child;
	int err;

	if (level + 1 >= TREE_LEVELS_MAX)
		return -EFBIG;
	err = new_node(tr, root->b->blkno, level, &low);
	if (err)
		return err;
	txn_dirty(tr->t, root->b);
	node_move(root, 0, &low);
	node_format(root, tr->kind, level + 1);
	child = le64_of(low.b->blkno);
	node_put(root, 0, 0, &child, sizeof(child));
	return 0;
}

/* The number of slots that stay left, so that both sides are as equal as records allow. */
static uint32_t split_point(const struct node *n)
{
	uint32_t total = node_used(n), left = 0, i, next, count = node_count(n);

	for (i = 0; i + 1 < count; i++) {
		next = left + SLOT_BYTES + le16_get(slot(n, i)->len);
		if (2 * next >= total) {
			/* Here or one before: what leaves the smaller larger half. */
			if (i > 0 && next - total / 2 > total / 2 - left)
				return i;
			return i + 1;
		}
		left = next;
	}
	return i ? i : 1;
}

/*
 * Child `pos` of n, c, has no room; n has room for one more child. `append`: key will be behind all
 * that the tree holds (rule 6). On return *c is the half that key belongs to.
 */
static int split(struct tree *tr, const struct node *n, uint32_t pos, struct node *c, uint64_t key,
	bool append)
{
	uint32_t keep, count = node_count(c);
	struct node right;
	uint64_t right_key;
	le64 child;
	int err = new_node(tr, c->b->blkno, node_level(c), &right);

	if (err)
		return err;
	if (append)
		keep = node_level(c) ? count - 1 : count;
	else
		keep = split_point(c);
	csv_assert(keep > 0);
	right_key = keep < count ? node_key(c, keep) : key;
	txn_dirty(tr->t, c->b);
	node_move(c, keep, &right);
	if (node_level(&right) > 0)
		slot(&right, 0)->key = le64_of(0); /* rule 2 */
	txn_dirty(tr->t, n->b);
	child = le64_of(right.b->blkno);
	node_put(n, pos + 1, right_key, &child, sizeof(child));
	if (key >= right_key)
		*c = right;
	return 0;
}

int tree_insert(struct tree *tr, uint64_t key, const void *value, uint32_t len)
{
	struct node n, c;
	bool append = true;
	uint32_t pos;
	int err;

	csv_assert(len <= TREE_VALUE_MAX);
	if (!tr->holder && tr->root_blkno == 0) {
		err = new_node(tr, 0, 0, &n);
		if (err)
			return err;
		tr->root_blkno = n.b->blkno;
	} else {
		err = get_root(tr, &n);
		if (err)
			return err;
	}
	if (!node_fits(&n, node_level(&n) ? 8 : len)) {
		err = deepen(tr, &n);
		if (err)
			return err;
	}
	while (node_level(&n) > 0) {
		pos = node_child_pos(&n, key);
		append = append && pos + 1 == node_count(&n);
		err = get_child(tr, &n, pos, &c);
		if (err)
			return err;
		if (!node_fits(&c, node_level(&c) ? 8 : len)) {
			err = split(tr, &n, pos, &c, key,
				append && key > node_key(&c, node_count(&c) - 1));
			if (err)
				return err;
		}
		n = c;
	}
	pos = node_lower(&n, key);
	if (pos < node_count(&n) && node_key(&n, pos) == key)
		return -EEXIST;
	txn_dirty(tr->t, n.b);
	node_put(&n, pos, key, value, len);
	return 0;
}

/* ------------------------------------------------------------------ deleting */

/* Takes child `pos` out of inner node n; after the first one, the next inherits its range (rule 2). */
static void remove_child(struct tree *tr, const struct node *n, uint32_t pos)
{
	txn_dirty(tr->t, n->b);
	node_remove(n, pos);
	if (node_count(n) > 0)
		slot(n, 0)->key = le64_of(0);
}

/* Where the last extent of a leaf ends in the file. */
static uint64_t leaf_end(const struct node *n)
{
	uint32_t last = node_count(n) - 1, len;
	struct disk_extent e;

	memcpy(&e, node_value(n, last, &len), sizeof(e));
	return node_key(n, last) + le32_get(e.len);
}

/* Rule 5. `left` and `right` are children pos and pos + 1 of n. `*merged` says whether it was done. */
static int merge(struct tree *tr, const struct node *n, uint32_t pos, const struct node *left,
	const struct node *right, bool *merged)
{
	uint64_t right_key = node_key(n, pos + 1);

	if (left->b == right->b)
		return txn_damaged(tr->t, PROBLEM_TREE_BOUNDS, left->b->blkno, tr->owner, right_key, 0);
	if (node_used(left) + node_used(right) > node_capacity(left) / 4 * 3)
		return 0;
	/* What each leaf alone could not show would stand within one now. */
	if (tr->kind == TREE_EXTENTS && node_level(left) == 0 &&
		leaf_end(left) > node_key(right, 0))
		return txn_damaged(tr->t, PROBLEM_EXTENT_OVERLAP, left->b->blkno, tr->owner,
			leaf_end(left), node_key(right, 0));
	*merged = true;
	txn_dirty(tr->t, left->b);
	txn_dirty(tr->t, right->b);
	/* Rule 2: its lower bound becomes an ordinary key now. */
	if (node_level(right) > 0)
		slot(right, 0)->key = le64_of(right_key);
	node_move(right, 0, left);
	remove_child(tr, n, pos + 1);
	return free_node(tr, right);
}

/* c, child `pos` of n, has become small. */
static int merge_with_neighbour(
	struct tree *tr, const struct node *n, uint32_t pos, const struct node *c, bool *merged)
{
	struct node other;
	int err;

	if (pos > 0) {
		err = get_child(tr, n, pos - 1, &other);
		if (!err)
			err = merge(tr, n, pos - 1, &other, c, merged);
		if (err || *merged)
			return err;
	}
	if (pos + 1 < node_count(n)) {
		err = get_child(tr, n, pos + 1, &other);
		if (!err)
			err = merge(tr, n, pos, c, &other, merged);
		return err;
	}
	return 0;
}

/* From the leaf upwards: frees what is empty, merges what is small. */
static int shrink(struct tree *tr, struct tree_cursor *cur)
{
	for (uint32_t i = cur->depth - 1; i > 0; i--) {
		struct node c = cursor_node(cur, i), n = cursor_node(cur, i - 1);
		uint32_t pos = cur->at[i - 1].pos;
		bool changed = false;
		int err = 0;

		if (node_count(&c) == 0) {
			remove_child(tr, &n, pos);
			err = free_node(tr, &c);
			changed = true;
		} else if (node_used(&c) < node_capacity(&c) / 3) {
			err = merge_with_neighbour(tr, &n, pos, &c, &changed);
		}
		if (err || !changed)
			return err;
	}
	return 0;
}

/* Rule 4, back: the only child's content comes into the root. */
static int shallow(struct tree *tr)
{
	struct node root, c;
	uint32_t level;
	int err = get_root(tr, &root);

	while (!err && node_level(&root) > 0) {
		if (node_count(&root) == 0) {
			txn_dirty(tr->t, root.b);
			node_format(&root, tr->kind, 0);
			break;
		}
		if (node_count(&root) > 1)
			return 0;
		err = get_child(tr, &root, 0, &c);
		if (err || node_used(&c) > node_capacity(&root) / 4 * 3)
			return err;
		level = node_level(&c);
		txn_dirty(tr->t, root.b);
		txn_dirty(tr->t, c.b);
		node_format(&root, tr->kind, level);
		node_move(&c, 0, &root);
		err = free_node(tr, &c);
	}
	if (!err && !tr->holder && node_count(&root) == 0) {
		err = free_node(tr, &root);
		tr->root_blkno = 0;
	}
	return err;
}

int tree_delete(struct tree *tr, uint64_t key)
{
	struct tree_cursor cur;
	struct node n;
	uint32_t pos;
	int err = descend(tr, key, &cur);

	if (err)
		return err;
	n = cursor_node(&cur, cur.depth - 1);
	pos = cur.at[cur.depth - 1].pos;
	if (pos >= node_count(&n) || node_key(&n, pos) != key)
		return -ENOENT;
	txn_dirty(tr->t, n.b);
	node_remove(&n, pos);
	err = shrink(tr, &cur);
	return err ? err : shallow(tr);
}

int tree_update(struct tree *tr, uint64_t key, const void *value, uint32_t len)
{
	struct tree_cursor cur;
	struct node n;
	uint32_t pos;
	int err = descend(tr, key, &cur);

	if (err)
		return err;
	n = cursor_node(&cur, cur.depth - 1);
	pos = cur.at[cur.depth - 1].pos;
	if (pos >= node_count(&n) || node_key(&n, pos) != key)
		return -ENOENT;
	if (le16_get(slot(&n, pos)->len) == len) {
		txn_dirty(tr->t, n.b);
		if (len)
			memcpy(n.p + le16_get(slot(&n, pos)->off), value, len);
		return 0;
	}
	err = tree_delete(tr, key);
	return err ? err : tree_insert(tr, key, value, len);
}
