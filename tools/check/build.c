/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trees made of records, and the blocks and clusters for them. What is taken is neither in use, as far
 * as the walk has seen, nor marked as used, while there is such space; only then what is marked and
 * was not met. So a repair that is not finished has overwritten nothing that the next one needs.
 */
#include "tools/check/mend.h"

/* ------------------------------------------------------------------ blocks */

/* `strict`: what is marked as used is not taken. */
static uint64_t block_in(struct ck_chunk *k, bool strict)
{
	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		if (bit_get(k->seen, b) || (strict && bit_get(k->used, b)))
			continue;
		bit_set(k->seen, b);
		return k->blkno + b;
	}
	return 0;
}

static uint64_t block_find(struct check *c, bool strict)
{
	struct ck_mend *m = c->m;

	for (uint64_t n = 0; n < c->group_count; n++) {
		const uint64_t number = (m->alloc_group + n) % c->group_count;
		struct ck_group *g = ck_group(c, number);

		for (uint32_t i = 0; g && g->chunks && i < c->chunks_per_group; i++) {
			uint64_t b = 0;

			if (g->chunks[i] && !g->chunks[i]->inode)
				b = block_in(g->chunks[i], strict);
			if (!b)
				continue;
			m->alloc_group = number;
			return b;
		}
	}
	return 0;
}

/* No cluster of the chunk is in use. */
static bool chunk_free(struct check *c, uint64_t blkno, bool strict)
{
	const uint64_t cluster = blkno / c->cluster_blocks;
	const uint32_t first = (uint32_t)(cluster % GROUP_CLUSTERS);
	struct ck_group *g = ck_group(c, cluster / GROUP_CLUSTERS);

	if (blkno < c->data_start || blkno + CHUNK_BLOCKS > c->block_count)
		return false;
	if (!g)
		return true;
	if (ck_bits_set(g->seen, first, first + c->chunk_clusters))
		return false;
	return !strict || !g->readable || !ck_bits_set(g->used, first, first + c->chunk_clusters);
}

uint64_t ck_chunk_alloc(struct check *c, bool inode)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		/* From the end: there the space for metadata is that data never takes. */
		for (uint64_t b = c->block_count / CHUNK_BLOCKS;
			b-- > c->data_start / CHUNK_BLOCKS;) {
			const uint64_t blkno = b * CHUNK_BLOCKS;

			if (!chunk_free(c, blkno, pass == 0))
				continue;
			ck_chunk_add(c, blkno, inode, true);
			return blkno;
		}
	}
	c->m->no_room = true;
	return 0;
}

uint64_t ck_block_alloc(struct check *c)
{
	uint64_t b = block_find(c, true);

	if (!b && ck_chunk_alloc(c, false))
		b = block_find(c, true);
	if (!b)
		b = block_find(c, false);
	c->m->no_room = !b;
	return b;
}

uint64_t ck_cluster_alloc(struct check *c)
{
	const uint64_t end = c->cluster_count - le64_get(c->super.reserve_clusters);
	const uint64_t first = c->data_start / c->cluster_blocks;

	for (unsigned strict = 2; strict-- > 0 && end > first;) {
		for (uint64_t n = 0; n < end - first; n++) {
			const uint64_t at = first + (c->m->data_at + n) % (end - first);
			struct ck_group *g = ck_group_new(c, at / GROUP_CLUSTERS);
			const uint32_t i = (uint32_t)(at % GROUP_CLUSTERS);

			if (!g || bit_get(g->seen, i) ||
				(strict && g->readable && bit_get(g->used, i)))
				continue;
			bit_set(g->seen, i);
			c->m->data_at = at + 1 - first;
			return at;
		}
	}
	return UINT64_MAX;
}

/* ------------------------------------------------------------------ nodes */

static void node_start(uint8_t *node, uint32_t bytes, enum tree_kind kind, uint32_t level)
{
	const struct disk_node n = {
		.kind = (uint8_t)kind, .level = (uint8_t)level, .heap = le16_of((uint16_t)bytes)};

	memset(node, 0, bytes);
	memcpy(node, &n, sizeof(n));
}

static bool node_add(uint8_t *node, uint64_t key, const void *value, uint32_t len)
{
	struct disk_node n;
	struct disk_slot s = {.key = le64_of(key)};
	uint32_t count, heap, slots;

	memcpy(&n, node, sizeof(n));
	count = le16_get(n.count);
	heap = le16_get(n.heap);
	slots = (uint32_t)(sizeof(n) + (count + 1) * sizeof(s));
	if (slots + len > heap)
		return false;
	heap -= len;
	memcpy(node + heap, value, len);
	s.off = le16_of((uint16_t)heap);
	s.len = le16_of((uint16_t)len);
	memcpy(node + sizeof(n) + count * sizeof(s), &s, sizeof(s));
	n.count = le16_of((uint16_t)(count + 1));
	n.heap = le16_of((uint16_t)heap);
	memcpy(node, &n, sizeof(n));
	return true;
}

/* All of it in one node, if it fits. */
static bool node_whole(
	uint8_t *node, uint32_t bytes, enum tree_kind kind, uint32_t level, const struct ck_recs *r)
{
	node_start(node, bytes, kind, level);
	for (uint64_t i = 0; i < r->count; i++)
		if (!node_add(
			    node, level && !i ? 0 : r->rec[i].key, r->rec[i].value, r->rec[i].len))
			return false;
	return true;
}

/*
 * One level: nodes with the records of `r`; what points to them takes their place in r. The values of
 * pointers go where the arena has room below those that are there.
 */
static bool level_build(struct check *c, struct ck_recs *r, enum tree_kind kind, uint32_t level,
	uint64_t ino, uint64_t *blocks)
{
	struct disk_tree_block b;
	uint64_t i = 0, n = 0;

	while (i < r->count) {
		const uint64_t first = i, blkno = ck_block_alloc(c), key = r->rec[i].key;
		const le64 v = le64_of(blkno);

		if (!blkno)
			return false;
		memset(&b, 0, sizeof(b));
		node_start(b.node, TREE_NODE_BYTES, kind, level);
		while (i < r->count && node_add(b.node, level && i == first ? 0 : r->rec[i].key,
					       r->rec[i].value, r->rec[i].len))
			i++;
		ck_put(c, blkno, MAGIC_TREE, ino, &b);
		if (c->m->no_memory)
			return false;
		++*blocks;
		/* n <= first: the record that is overwritten has been used. */
		r->values -= sizeof(v);
		if (r->values < (uint8_t *)(r->rec + r->count)) {
			c->m->no_memory = true;
			return false;
		}
		memcpy(r->values, &v, sizeof(v));
		r->rec[n++] = (struct ck_rec){key, 0, r->values, sizeof(v)};
	}
	r->count = n;
	return true;
}

bool ck_build(struct check *c, const struct ck_recs *records, enum tree_kind kind, uint64_t ino,
	uint8_t area[INODE_INLINE_BYTES], uint64_t *blocks)
{
	struct ck_recs r = *records;
	uint8_t root[INODE_INLINE_BYTES];

	*blocks = 0;
	for (uint32_t level = 0; level < TREE_LEVELS_MAX; level++) {
		if (node_whole(root, sizeof(root), kind, level, &r)) {
			memcpy(area, root, sizeof(root));
			return true;
		}
		if (!level_build(c, &r, kind, level, ino, blocks))
			return false;
	}
	return false;
}

bool ck_build_block(struct check *c, const struct ck_recs *records, enum tree_kind kind,
	uint64_t ino, uint64_t *root)
{
	struct ck_recs r = *records;
	uint64_t blocks = 0;
	le64 v;

	*root = 0;
	for (uint32_t level = 0; r.count && level < TREE_LEVELS_MAX; level++) {
		if (!level_build(c, &r, kind, level, ino, &blocks))
			return false;
		if (r.count > 1)
			continue;
		memcpy(&v, r.rec[0].value, sizeof(v));
		*root = le64_get(v);
		return true;
	}
	return !r.count;
}

/* ------------------------------------------------------------------ inodes */

static uint64_t slot_in(struct check *c, struct ck_chunk *k)
{
	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		struct disk_inode_block block = {0};

		if (!k->inodes[b]) {
			if (bit_get(k->seen, b) || bit_get(k->used, b))
				continue;
			k->inodes[b] = mem_alloc(c->o->mem, INODES_PER_BLOCK * sizeof(**k->inodes));
			if (!k->inodes[b])
				return 0;
			bit_set(k->seen, b);
			ck_put(c, k->blkno + b, MAGIC_INODE, 0, &block);
		}
		for (uint32_t s = 1; s <= INODES_PER_BLOCK; s++)
			if (!k->inodes[b][s - 1].type)
				return INO_MAKE(k->blkno + b, s);
	}
	return 0;
}

static uint64_t slot_find(struct check *c)
{
	for (uint64_t n = 0; n < c->group_count; n++) {
		const struct ck_group *g = ck_group(c, n);

		for (uint32_t i = 0; g && g->chunks && i < c->chunks_per_group; i++) {
			uint64_t ino = 0;

			if (g->chunks[i] && g->chunks[i]->inode)
				ino = slot_in(c, g->chunks[i]);
			if (ino)
				return ino;
		}
	}
	return 0;
}

uint64_t ck_inode_alloc(struct check *c)
{
	uint64_t ino = slot_find(c);

	if (!ino && ck_chunk_alloc(c, true))
		ino = slot_find(c);
	if (!ino)
		c->m->no_room = true;
	else
		ck_chunk_mark(c, INO_BLOCK(ino), (uint8_t)(1u << INO_SLOT(ino)));
	return ino;
}
