/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walks a tree in order of key. No recursion: one block per level, and a level must be one less
 * than its parent's. Each block is entered once (ck_use_block), so damage cannot make the walk long.
 */
#include "tools/check/internal.h"

/* A level of the walk. The node lies in a copy: reading further blocks does not disturb it. */
struct step {
	const uint8_t *node;
	uint64_t blkno;
	uint64_t low, high; /* keys: low <= key <= high */
	uint32_t bytes, count, pos;
};

static struct disk_slot slot_at(const uint8_t *node, uint32_t i)
{
	struct disk_slot s;

	memcpy(&s, node + sizeof(struct disk_node) + i * sizeof(s), sizeof(s));
	return s;
}

static void tree_problem(struct check *c, struct ck_walk *w, const struct step *s, enum problem p,
	uint64_t found, uint64_t want, const char *what)
{
	w->damaged = true;
	/* Orphans and intents. */
	if (!w->ino)
		c->lists_bad = true;
	if (!c->find_owners)
		ck_report(c, p, s->blkno, w->ino, found, want, what);
}

/* Values lie within the heap and do not overlap; what they leave is `frag`. */
static bool node_values_ok(
	struct check *c, struct ck_walk *w, const struct step *s, const struct disk_node *n)
{
	uint8_t map[BLOCK_SIZE] = {0};
	const uint32_t heap = le16_get(n->heap);
	uint32_t sum = le16_get(n->frag);

	for (uint32_t i = 0; i < s->count; i++) {
		const struct disk_slot slot = slot_at(s->node, i);
		const uint32_t off = le16_get(slot.off), len = le16_get(slot.len);

		if (len > TREE_VALUE_MAX) {
			tree_problem(c, w, s, PROBLEM_TREE_RECORD, len, TREE_VALUE_MAX,
				"length of a record");
			return false;
		}
		if (off < heap || off > s->bytes - len) {
			tree_problem(c, w, s, PROBLEM_TREE_RECORD, off, heap, "place of a record");
			return false;
		}
		if (len && !ck_zero(map + off, len)) {
			tree_problem(c, w, s, PROBLEM_TREE_RECORD, off, 0, "records overlap:");
			return false;
		}
		memset(map + off, 1, len);
		sum += len;
	}
	if (sum != s->bytes - heap) {
		tree_problem(c, w, s, PROBLEM_TREE_RECORD, sum, s->bytes - heap,
			"sum of the records' lengths");
		return false;
	}
	return true;
}

static bool node_keys_ok(struct check *c, struct ck_walk *w, const struct step *s, bool leaf)
{
	uint64_t last = 0;

	for (uint32_t i = 0; i < s->count; i++) {
		const struct disk_slot slot = slot_at(s->node, i);
		const uint64_t key = le64_get(slot.key);

		if (!leaf && le16_get(slot.len) != 8) {
			tree_problem(c, w, s, PROBLEM_TREE_RECORD, le16_get(slot.len), 8,
				"length of a pointer");
			return false;
		}
		if (!leaf && !i) {
			/* Key 0 stands for the lower bound of the node itself. */
			if (key)
				tree_problem(c, w, s, PROBLEM_TREE_ORDER, key, 0, "first key");
			last = s->low;
			continue;
		}
		if (i && key <= last) {
			tree_problem(c, w, s, PROBLEM_TREE_ORDER, key, last + 1, "key");
			return false;
		}
		if (key < s->low || key > s->high) {
			tree_problem(c, w, s, PROBLEM_TREE_BOUNDS, key,
				key < s->low ? s->low : s->high, "key");
			return false;
		}
		last = key;
	}
	return true;
}

/* `level`: what it must be; of a root: UINT32_MAX. */
static bool node_ok(
	struct check *c, struct ck_walk *w, struct step *s, uint32_t level, bool may_be_empty)
{
	struct disk_node n;
	uint32_t heap;

	memcpy(&n, s->node, sizeof(n));
	s->count = le16_get(n.count);
	heap = le16_get(n.heap);
	if (n.kind != w->kind) {
		tree_problem(c, w, s, PROBLEM_TREE_KIND, n.kind, w->kind, "kind of tree");
		return false;
	}
	if (n.level >= TREE_LEVELS_MAX || (level != UINT32_MAX && n.level != level)) {
		tree_problem(c, w, s, PROBLEM_TREE_LEVEL, n.level,
			level == UINT32_MAX ? TREE_LEVELS_MAX - 1 : level, "level");
		return false;
	}
	if (!s->count && !(may_be_empty && n.level == 0)) {
		tree_problem(c, w, s, PROBLEM_TREE_COUNT, 0, 1, "number of records");
		return false;
	}
	if (heap > s->bytes || sizeof(n) + s->count * sizeof(struct disk_slot) > heap) {
		tree_problem(c, w, s, PROBLEM_TREE_COUNT, s->count,
			(s->bytes - (uint32_t)sizeof(n)) / (uint32_t)sizeof(struct disk_slot),
			"number of records");
		return false;
	}
	return node_values_ok(c, w, s, &n) && node_keys_ok(c, w, s, n.level == 0);
}

/* Enters child number s->pos of s. False: it cannot be followed. */
static bool walk_down(struct check *c, struct ck_walk *w, const struct step *s, struct step *child)
{
	const uint32_t level = s->node[1] - 1u;
	const struct disk_slot slot = slot_at(s->node, s->pos);
	const struct disk_tree_block *b;
	uint64_t blkno;
	le64 v;

	memcpy(&v, s->node + le16_get(slot.off), sizeof(v));
	blkno = le64_get(v);
	child->blkno = blkno;
	child->low = s->pos ? le64_get(slot.key) : s->low;
	child->high = s->high;
	if (s->pos + 1 < s->count) {
		const struct disk_slot next = slot_at(s->node, s->pos + 1);

		child->high = le64_get(next.key) - 1;
	}
	child->pos = 0;
	child->bytes = TREE_NODE_BYTES;
	if (!ck_use_block(c, blkno, s->blkno, w->ino, false))
		return false;
	b = ck_block(c, blkno, MAGIC_TREE, w->ino);
	if (!b)
		return false;
	w->tree_blocks++;
	memcpy(c->level[level], b->node, TREE_NODE_BYTES);
	child->node = c->level[level];
	return node_ok(c, w, child, level, false);
}

static int walk_leaf(struct check *c, struct ck_walk *w, const struct step *s)
{
	int err = 0;

	w->blkno = s->blkno;
	for (uint32_t i = 0; i < s->count && !err; i++) {
		const struct disk_slot slot = slot_at(s->node, i);

		err = w->record(
			c, w, le64_get(slot.key), s->node + le16_get(slot.off), le16_get(slot.len));
	}
	return err;
}

int ck_walk(struct check *c, struct ck_walk *w, const void *root, uint32_t bytes)
{
	struct step at[TREE_LEVELS_MAX];
	uint32_t depth = 0; /* at[depth] is the node in hand */
	int err = 0;

	/* The root's copy takes the highest buffer: its level is not known yet, so it moves. */
	memcpy(c->level[TREE_LEVELS_MAX - 1], root, bytes);
	at[0] = (struct step){c->level[TREE_LEVELS_MAX - 1], w->blkno, 0, UINT64_MAX, bytes, 0, 0};
	/* A root that is a block of its own goes away with its last record. */
	if (!node_ok(c, w, &at[0], UINT32_MAX, bytes == INODE_INLINE_BYTES))
		return 0;
	for (;;) {
		struct step *s = &at[depth];

		if (s->node[1] == 0) {
			err = walk_leaf(c, w, s);
			if (err)
				return err;
		} else if (s->pos < s->count) {
			if (walk_down(c, w, s, &at[depth + 1])) {
				depth++;
				continue;
			}
			w->damaged = true;
			c->lists_bad |= !w->ino;
			s->pos++;
			continue;
		}
		if (!depth)
			return 0;
		depth--;
		at[depth].pos++;
	}
}

int ck_walk_block(struct check *c, struct ck_walk *w, uint64_t blkno, uint64_t from)
{
	const struct disk_tree_block *b;

	w->blkno = blkno;
	if (!ck_use_block(c, blkno, from, w->ino, false) ||
		!(b = ck_block(c, blkno, MAGIC_TREE, w->ino))) {
		w->damaged = true;
		c->lists_bad |= !w->ino;
		return 0;
	}
	w->tree_blocks++;
	return ck_walk(c, w, b->node, TREE_NODE_BYTES);
}
