/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The records of a tree that is broken. Its own nodes give what they have: a node that cannot be read
 * leaves a gap in the keys. Gaps are filled from leaves that nothing leads to and that name the same
 * owner. Then the records are brought to what the format allows; build.c makes a tree of them.
 */
#include "csvfs/base/fsreq.h"
#include "tools/check/mend.h"

#define GAPS_MAX 1024u

struct gap {
	uint64_t low, high;
};

struct gather {
	struct check *c;
	struct ck_recs *r;
	enum tree_kind kind;
	uint64_t ino;
	struct gap *gaps;
	uint32_t gap_count;
};

/* ------------------------------------------------------------------ records */

/* Behind the leaves of this round. */
static uint8_t *arena_start(struct check *c)
{
	return c->m->arena + c->m->leaf_count * sizeof(struct ck_leaf);
}

void ck_recs_start(struct check *c, struct ck_recs *r)
{
	r->rec = (struct ck_rec *)arena_start(c);
	r->count = 0;
	r->values = c->m->arena + c->m->arena_bytes;
	r->full = false;
}

void ck_recs_add(struct ck_recs *r, uint64_t key, uint64_t rank, const void *value, uint32_t len)
{
	if ((uint8_t *)(r->rec + r->count + 1) + len > r->values) {
		r->full = true;
		return;
	}
	r->values -= len;
	memcpy(r->values, value, len);
	r->rec[r->count++] = (struct ck_rec){key, rank, r->values, len};
}

static bool rec_before(const struct ck_rec *a, const struct ck_rec *b)
{
	return a->key != b->key ? a->key < b->key : a->rank > b->rank;
}

static void sift(struct ck_rec *r, uint64_t from, uint64_t count)
{
	for (;;) {
		uint64_t child = 2 * from + 1;
		struct ck_rec t;

		if (child >= count)
			return;
		if (child + 1 < count && rec_before(&r[child], &r[child + 1]))
			child++;
		if (!rec_before(&r[from], &r[child]))
			return;
		t = r[from];
		r[from] = r[child];
		r[child] = t;
		from = child;
	}
}

void ck_recs_sort(struct ck_recs *r)
{
	uint64_t i, n = 0;
	bool sorted = true;

	for (i = 1; i < r->count; i++)
		sorted = sorted && rec_before(&r->rec[i - 1], &r->rec[i]);
	for (i = sorted ? 0 : r->count / 2; i-- > 0;)
		sift(r->rec, i, r->count);
	for (i = sorted ? 0 : r->count; i-- > 1;) {
		struct ck_rec t = r->rec[0];

		r->rec[0] = r->rec[i];
		r->rec[i] = t;
		sift(r->rec, 0, i);
	}
	for (i = 0; i < r->count; i++)
		if (!n || r->rec[n - 1].key != r->rec[i].key)
			r->rec[n++] = r->rec[i];
	r->count = n;
}

/* ------------------------------------------------------------------ leaves that were cut off */

static bool leaf_before(const struct ck_leaf *a, const struct ck_leaf *b)
{
	return a->owner != b->owner ? a->owner < b->owner : a->blkno < b->blkno;
}

static void leaf_sift(struct ck_leaf *l, uint64_t from, uint64_t count)
{
	for (;;) {
		uint64_t child = 2 * from + 1;
		struct ck_leaf t;

		if (child >= count)
			return;
		if (child + 1 < count && leaf_before(&l[child], &l[child + 1]))
			child++;
		if (!leaf_before(&l[from], &l[child]))
			return;
		t = l[from];
		l[from] = l[child];
		l[child] = t;
		from = child;
	}
}

static void leaf_note(struct check *c, uint64_t blkno)
{
	struct ck_mend *m = c->m;
	struct ck_leaf *l = (struct ck_leaf *)m->arena + m->leaf_count;
	uint64_t found, want;
	const struct disk_tree_block *b = ck_read(c, blkno, 0);

	if (!b || ck_header(c, b, blkno, MAGIC_TREE, CK_ANY_OWNER, &found, &want))
		return;
	if (b->node[1] || (uint8_t *)(l + 1) > m->arena + m->arena_bytes / 2)
		return;
	*l = (struct ck_leaf){le64_get(b->h.owner), blkno, le64_get(b->h.lsn), b->node[0], {0}};
	m->leaf_count++;
}

/* Marked as in use, but the walk did not come there. */
static void leaves_find(struct check *c)
{
	struct ck_mend *m = c->m;
	struct ck_leaf *l = (struct ck_leaf *)m->arena, t;

	m->leaves_known = true;
	m->leaf_count = 0;
	for (uint64_t n = 0; n < c->group_count; n++) {
		const struct ck_group *g = ck_group(c, n);

		for (uint32_t i = 0; g && g->chunks && i < c->chunks_per_group; i++) {
			const struct ck_chunk *k = g->chunks[i];

			for (uint32_t b = 1; k && !k->inode && b < CHUNK_BLOCKS; b++)
				if (bit_get(k->used, b) && !bit_get(k->seen, b))
					leaf_note(c, k->blkno + b);
		}
	}
	for (uint64_t i = m->leaf_count / 2; i-- > 0;)
		leaf_sift(l, i, m->leaf_count);
	for (uint64_t i = m->leaf_count; i-- > 1;) {
		t = l[0];
		l[0] = l[i];
		l[i] = t;
		leaf_sift(l, 0, i);
	}
}

const struct ck_leaf *ck_leaves(struct check *c, uint64_t owner, uint64_t *count)
{
	const struct ck_mend *m = c->m;
	const struct ck_leaf *l = (const struct ck_leaf *)m->arena;
	uint64_t low = 0, high;

	if (!m->leaves_known)
		leaves_find(c);
	for (high = m->leaf_count; low < high;) {
		const uint64_t mid = low + (high - low) / 2;

		if (l[mid].owner < owner)
			low = mid + 1;
		else
			high = mid;
	}
	for (high = low; high < m->leaf_count && l[high].owner == owner; high++)
		;
	*count = high - low;
	return l + low;
}

/* ------------------------------------------------------------------ nodes */

static void gap_add(struct gather *g, uint64_t low, uint64_t high)
{
	if (low > high)
		return;
	if (g->gap_count == GAPS_MAX) {
		/* So many that one more or less is of no account: all of it. */
		g->gaps[0] = (struct gap){0, UINT64_MAX};
		g->gap_count = 1;
		return;
	}
	g->gaps[g->gap_count++] = (struct gap){low, high};
}

static bool in_gap(const struct gather *g, uint64_t key)
{
	for (uint32_t i = 0; i < g->gap_count; i++)
		if (key >= g->gaps[i].low && key <= g->gaps[i].high)
			return true;
	return false;
}

/* Slot i of the node, if its value lies within it. */
static bool slot_get(const uint8_t *node, uint32_t bytes, uint32_t i, uint64_t *key,
	const uint8_t **value, uint32_t *len)
{
	struct disk_slot s;
	uint32_t off;

	memcpy(&s, node + sizeof(struct disk_node) + i * sizeof(s), sizeof(s));
	off = le16_get(s.off);
	*key = le64_get(s.key);
	*len = le16_get(s.len);
	*value = node + off;
	return *len <= TREE_VALUE_MAX && off <= bytes && *len <= bytes - off;
}

static uint32_t slots_of(const uint8_t *node, uint32_t bytes)
{
	const uint32_t most =
		(bytes - (uint32_t)sizeof(struct disk_node)) / sizeof(struct disk_slot);
	struct disk_node n;

	memcpy(&n, node, sizeof(n));
	return le16_get(n.count) < most ? le16_get(n.count) : most;
}

static void leaf_take(struct gather *g, const uint8_t *node, uint32_t bytes, uint64_t low,
	uint64_t high, uint64_t rank)
{
	const uint32_t count = slots_of(node, bytes);
	const uint8_t *value;
	uint64_t key;
	uint32_t len;

	for (uint32_t i = 0; i < count; i++)
		if (slot_get(node, bytes, i, &key, &value, &len) && key >= low && key <= high)
			ck_recs_add(g->r, key, rank, value, len);
}

/* A node's level is below its parent's, so this ends. */
static void node_take(
	struct gather *g, const uint8_t *node, uint32_t bytes, uint64_t low, uint64_t high)
{
	const uint32_t count = slots_of(node, bytes), level = node[1];
	struct disk_tree_block child;
	const uint8_t *value;
	uint64_t key, next, from = low;
	uint32_t len;
	le64 v;

	if (!level) {
		leaf_take(g, node, bytes, low, high, UINT64_MAX);
		return;
	}
	for (uint32_t i = 0; i < count; i++, from = next) {
		bool good = slot_get(node, bytes, i, &key, &value, &len) && len == sizeof(v);

		memcpy(&v, value, good ? sizeof(v) : 0);
		next = high;
		if (i + 1 < count) {
			const uint8_t *ignored;

			(void)slot_get(node, bytes, i + 1, &next, &ignored, &len);
			/* Order is lost: what follows is a gap. */
			if (next <= from || next > high) {
				gap_add(g, from, high);
				return;
			}
			next--;
		}
		good = good && ck_try(g->c, le64_get(v), MAGIC_TREE, g->ino, &child) &&
		       child.node[0] == g->kind && child.node[1] == level - 1;
		if (good)
			node_take(g, child.node, TREE_NODE_BYTES, from, next);
		else
			gap_add(g, from, next);
		next++;
	}
}

static void gaps_fill(struct gather *g)
{
	struct disk_tree_block b;
	uint64_t count, first;
	const struct ck_leaf *l;

	if (!g->gap_count)
		return;
	l = ck_leaves(g->c, g->ino, &count);
	/* The leaves stand before the records in the arena: found once they are known. */
	first = (uint64_t)(l - (const struct ck_leaf *)g->c->m->arena);
	for (uint64_t i = first; i < first + count; i++) {
		const struct ck_leaf *leaf = (const struct ck_leaf *)g->c->m->arena + i;
		const uint64_t before = g->r->count;
		uint64_t n = before;

		if (leaf->kind != g->kind || !ck_try(g->c, leaf->blkno, MAGIC_TREE, g->ino, &b))
			continue;
		leaf_take(g, b.node, TREE_NODE_BYTES, 0, UINT64_MAX, leaf->lsn);
		for (uint64_t k = before; k < g->r->count; k++)
			if (in_gap(g, g->r->rec[k].key))
				g->r->rec[n++] = g->r->rec[k];
		g->r->count = n;
	}
}

static void gather(struct check *c, struct ck_recs *r, enum tree_kind kind, uint64_t ino,
	const uint8_t *root, uint32_t bytes)
{
	struct gap gaps[GAPS_MAX];
	struct gather g = {c, r, kind, ino, gaps, 0};
	uint64_t ignored;

	/* Before there are records: it takes the place before them. */
	(void)ck_leaves(c, ino, &ignored);
	ck_recs_start(c, r);
	if (root && root[0] == kind && root[1] < TREE_LEVELS_MAX)
		node_take(&g, root, bytes, 0, UINT64_MAX);
	else
		gap_add(&g, 0, UINT64_MAX);
	gaps_fill(&g);
	if (g.gap_count && kind == TREE_DIR)
		c->m->dirs_lost = true;
	ck_recs_sort(r);
	if (r->full)
		c->m->no_memory = true;
}

void ck_gather(struct check *c, struct ck_recs *r, enum tree_kind kind, uint64_t ino,
	const uint8_t *root, uint32_t root_bytes)
{
	gather(c, r, kind, ino, root, root_bytes);
}

void ck_gather_block(
	struct check *c, struct ck_recs *r, enum tree_kind kind, uint64_t ino, uint64_t root_blkno)
{
	struct disk_tree_block b;
	const bool good = root_blkno && ck_try(c, root_blkno, MAGIC_TREE, ino, &b);

	gather(c, r, kind, ino, good ? b.node : NULL, TREE_NODE_BYTES);
}

/* ------------------------------------------------------------------ what the format allows */

static bool cluster_is_data(const struct check *c, uint64_t cluster)
{
	const uint64_t blkno = cluster * c->cluster_blocks;

	return blkno >= c->data_start && cluster != (c->block_count - 1) / c->cluster_blocks &&
	       !ck_chunk(c, blkno);
}

/* The pieces of one extent that lie where data may lie; appended. */
static void extent_pieces(struct check *c, struct ck_recs *r, uint64_t key, uint64_t start,
	uint64_t n, uint32_t state)
{
	struct disk_extent d = {.state = le32_of(state)};
	uint64_t at, run = 0;

	for (at = start; at <= start + n; at++) {
		if (at < start + n && run < EXTENT_LEN_MAX && cluster_is_data(c, at)) {
			run++;
			continue;
		}
		if (run) {
			d.start = le64_of(at - run);
			d.len = le32_of((uint32_t)run);
			ck_recs_add(r, key + (at - run - start), UINT64_MAX, &d, sizeof(d));
		}
		run = 0;
	}
}

void ck_extents_fit(struct check *c, struct ck_recs *r)
{
	const uint64_t limit = FILE_BYTES_MAX / c->cluster_bytes, from = r->count;

	for (uint64_t i = 0; i < from; i++) {
		uint64_t key = r->rec[i].key, start, n;
		struct disk_extent d;
		uint32_t state;

		if (r->rec[i].len != sizeof(d))
			continue;
		memcpy(&d, r->rec[i].value, sizeof(d));
		start = le64_get(d.start);
		n = le32_get(d.len);
		state = le32_get(d.state);
		/* A length that is out of all reason says nothing about where the extent ends. */
		if (!n || start >= c->cluster_count || n > c->cluster_count - start ||
			key >= limit || n > limit - key)
			continue;
		if (i + 1 < from && n > r->rec[i + 1].key - key)
			n = r->rec[i + 1].key - key;
		if (state < EXT_UNWRITTEN || state > EXT_SHARED)
			state = EXT_WRITTEN;
		extent_pieces(c, r, key, start, n, state);
	}
	memmove(r->rec, r->rec + from, (r->count - from) * sizeof(*r->rec));
	r->count -= from;
	if (r->full)
		c->m->no_memory = true;
}

static bool name_ok(const uint8_t *name, uint32_t len)
{
	if (!len || len > NAME_BYTES_MAX || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

/*
 * Gives records that do not stand in their name's bucket a place there; records that cannot be are
 * marked with length 0. name(): of the record, or 0 bytes.
 */
static void rehash(struct check *c, struct ck_recs *r,
	uint32_t (*name)(const struct ck_rec *rec, const uint8_t **out))
{
	uint64_t n = 0;
	bool moved = false;

	for (uint64_t i = 0; i < r->count; i++) {
		struct ck_rec *rec = &r->rec[i];
		const uint8_t *text;
		const uint32_t len = name(rec, &text);
		uint64_t bucket;

		if (!len)
			continue;
		bucket = ck_bucket(c, text, len);
		if (bucket != (rec->key & ~(uint64_t)COOKIE_INDEX_MAX)) {
			/* From the end of the bucket: others, in their places, are not pushed out. */
			rec->key = bucket + COOKIE_INDEX_MAX - (i & 127);
			rec->rank = 0;
			moved = true;
		}
		r->rec[n++] = *rec;
	}
	r->count = n;
	if (moved)
		ck_recs_sort(r);
}

static uint32_t dirent_name(const struct ck_rec *rec, const uint8_t **out)
{
	*out = rec->value + DIRENT_BYTES;
	return rec->len > DIRENT_BYTES && name_ok(*out, rec->len - DIRENT_BYTES)
		       ? rec->len - DIRENT_BYTES
		       : 0;
}

/* Equal names stand in one bucket: the first stays. */
static bool name_again(const struct ck_recs *r, uint64_t n, const struct ck_rec *rec)
{
	while (n-- > 0 && (r->rec[n].key | COOKIE_INDEX_MAX) == (rec->key | COOKIE_INDEX_MAX))
		if (r->rec[n].len == rec->len &&
			!memcmp(r->rec[n].value + DIRENT_BYTES, rec->value + DIRENT_BYTES,
				rec->len - DIRENT_BYTES))
			return true;
	return false;
}

void ck_names_fit(struct check *c, struct ck_recs *r)
{
	uint64_t n = 0;

	rehash(c, r, dirent_name);
	for (uint64_t i = 0; i < r->count; i++)
		if (!name_again(r, n, &r->rec[i]))
			r->rec[n++] = r->rec[i];
	r->count = n;
}

static uint32_t xattr_name(const struct ck_rec *rec, const uint8_t **out)
{
	struct disk_xattr d;

	*out = rec->value + sizeof(d);
	if (rec->len <= sizeof(d))
		return 0;
	memcpy(&d, rec->value, sizeof(d));
	if (d.name_bytes > rec->len - sizeof(d) || memchr(*out, 0, d.name_bytes))
		return 0;
	return d.name_bytes;
}

static bool value_whole(
	struct check *c, uint64_t ino, const uint8_t *list, uint32_t n, uint32_t bytes)
{
	struct disk_value_block b;

	for (uint32_t i = 0; i < n; i++) {
		const uint32_t want = bytes < VALUE_BLOCK_BYTES ? bytes : VALUE_BLOCK_BYTES;
		le64 v;

		bool index, len;

		memcpy(&v, list + 8 * i, sizeof(v));
		if (!ck_try(c, le64_get(v), MAGIC_XATTR, ino, &b))
			return false;
		/* It is the inode's own, and the record says which piece: one of the two numbers may be wrong. */
		index = le32_get(b.index) == i;
		len = le32_get(b.len) == want;
		if (!index && !len)
			return false;
		if (!index || !len || !ck_zero(b.data + want, VALUE_BLOCK_BYTES - want) ||
			le64_get(b.reserved)) {
			b.index = le32_of(i);
			b.len = le32_of(want);
			memset(b.data + want, 0, VALUE_BLOCK_BYTES - want);
			b.reserved = le64_of(0);
			ck_put(c, le64_get(v), MAGIC_XATTR, ino, &b);
		}
		bytes -= want;
	}
	return true;
}

void ck_xattrs_fit(struct check *c, struct ck_recs *r, uint64_t ino, uint64_t *names_bytes)
{
	uint64_t n = 0;

	*names_bytes = 0;
	rehash(c, r, xattr_name);
	for (uint64_t i = 0; i < r->count; i++) {
		struct ck_rec rec = r->rec[i];
		const uint8_t *rest;
		struct disk_xattr d;
		uint32_t bytes, left, blocks;

		memcpy(&d, rec.value, sizeof(d));
		rest = rec.value + sizeof(d) + d.name_bytes;
		left = rec.len - (uint32_t)sizeof(d) - d.name_bytes;
		bytes = le32_get(d.value_bytes);
		blocks = (bytes + VALUE_BLOCK_BYTES - 1) / VALUE_BLOCK_BYTES;
		if (d.place == XATTR_INLINE
				? bytes != left || bytes > XATTR_INLINE_MAX
				: d.place != XATTR_BLOCKS || bytes <= XATTR_INLINE_MAX ||
					  bytes > XATTR_BYTES_MAX || left != 8 * blocks ||
					  !value_whole(c, ino, rest, blocks, bytes))
			continue;
		*names_bytes += d.name_bytes + 1u;
		r->rec[n++] = rec;
	}
	r->count = n;
}
