/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What follows from the rest of the volume, once the walk has seen all of it:
 *  - copies of the superblock, from a valid one;
 *  - summary, groups, chunk headers;
 *  - blocks of the reply cache that are wrong: empty. Nobody is waiting for a reply of a volume that is
 *    not mounted;
 *  - an inode's link count, number of clusters, of tree blocks, of entries, and its parent.
 *
 * A volume with no other faults than these has lost nothing (report.repairable).
 */
#include "metadata/fields.h"
#include "tools/check/mend.h"

bool ck_repairable(const struct check *c, enum problem code)
{
	switch ((int)code) {
	case PROBLEM_HEADER_MAGIC:
	case PROBLEM_HEADER_CRC:
	case PROBLEM_HEADER_UUID:
	case PROBLEM_HEADER_BLKNO:
	case PROBLEM_HEADER_OWNER:
	case PROBLEM_HEADER_EPOCH:
	case PROBLEM_HEADER_LSN:
		return c->can_be_made;
	case PROBLEM_SUPER_PRIMARY:
	case PROBLEM_SUPER_COPY:
	case PROBLEM_SUPER_DIFFERS:
	case PROBLEM_CLAIM_NONE:
	case PROBLEM_CLAIM_EPOCH:
	case PROBLEM_SUMMARY_FREE:
	case PROBLEM_SUMMARY_FLAGS:
	case PROBLEM_SUMMARY_PADDING:
	case PROBLEM_SUMMARY_LOST_GROUP:
	case PROBLEM_GROUP_FREE:
	case PROBLEM_GROUP_META_COUNT:
	case PROBLEM_GROUP_META_FREE:
	case PROBLEM_GROUP_META_UNUSED:
	case PROBLEM_GROUP_BEYOND_END:
	case PROBLEM_GROUP_FIXED_AREA:
	case PROBLEM_CHUNK_COUNT:
	case PROBLEM_CHUNK_SELF:
	case PROBLEM_CHUNK_SLOTS:
	case PROBLEM_CLUSTER_LEAK:
	case PROBLEM_CLUSTER_NOT_MARKED:
	case PROBLEM_BLOCK_LEAK:
	case PROBLEM_BLOCK_NOT_MARKED:
	case PROBLEM_INODE_SLOT:
	case PROBLEM_INODE_FREE:
	case PROBLEM_INODE_BLOCKS:
	case PROBLEM_INODE_TREE_BLOCKS:
	case PROBLEM_INODE_NLINK:
	case PROBLEM_DIR_COUNT:
		return true;
	}
	return false;
}

void ck_inode_number(struct check *c, enum problem code, uint64_t ino, uint32_t offset,
	uint32_t bytes, uint64_t found, uint64_t want, const char *what)
{
	struct ck_fix *more;

	ck_report(c, code, INO_BLOCK(ino), ino, found, want, what);
	/* A link count of 0 is not just a number: the inode would have to be freed. */
	if (code == PROBLEM_INODE_NLINK && (!found || !want))
		c->lost++;
	if (!c->m)
		return;
	if (c->fix_count == c->fix_room) {
		const uint32_t room = c->fix_room ? 2 * c->fix_room : 256;

		/* What is one too many is found again in the next round. */
		more = mem_alloc(c->o->mem, room * sizeof(*more));
		if (!more)
			return;
		if (c->fix_count)
			memcpy(more, c->fixes, c->fix_count * sizeof(*more));
		mem_free(c->o->mem, c->fixes, c->fix_room * sizeof(*more));
		c->fixes = more;
		c->fix_room = room;
	}
	c->fixes[c->fix_count++] = (struct ck_fix){INO_BLOCK(ino), want,
		(uint32_t)sizeof(struct disk_header) + (INO_SLOT(ino) - 1) * INODE_BYTES + offset,
		bytes};
}

/* ------------------------------------------------------------------ space */

static void bits_count(const uint8_t *map, uint32_t n, uint32_t *out)
{
	*out = 0;
	for (uint32_t i = 0; i < n; i++)
		*out += bit_get(map, i);
}

/* True: the chunk has a free block or slot. */
static bool make_chunk(struct check *c, const struct ck_chunk *k)
{
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8))) = {0};
	struct disk_chunk *d = (struct disk_chunk *)block;
	bool room = false;
	uint32_t used;

	bit_set(d->used, 0);
	d->is_inode = le32_of(k->inode);
	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		for (uint32_t s = 0; k->inode && k->inodes[b] && s < INODES_PER_BLOCK; s++)
			if (k->inodes[b][s].type)
				d->slots[b] = (uint8_t)(d->slots[b] | 2u << s);
		if (k->inode ? d->slots[b] != 0 : bit_get(k->seen, b))
			bit_set(d->used, b);
		if (!bit_get(d->used, b) || (k->inode && d->slots[b] != 0xfe))
			room = true;
	}
	bits_count(d->used, CHUNK_BLOCKS, &used);
	d->used_blocks = le32_of(used);
	ck_put(c, k->blkno, MAGIC_CHUNK, 0, block);
	return room;
}

static void make_group(
	struct check *c, uint64_t number, const struct ck_group *g, struct disk_summary_entry *e)
{
	const uint32_t covered = ck_group_clusters(c, number);
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8))) = {0};
	struct disk_group *d = (struct disk_group *)block;
	uint32_t flags = SUMMARY_INIT, used, chunks;

	memcpy(d->used, g->seen, sizeof(d->used));
	for (uint32_t i = covered; i < GROUP_CLUSTERS; i++)
		bit_set(d->used, i);
	for (uint32_t i = 0; g->chunks && i < c->chunks_per_group; i++) {
		const struct ck_chunk *k = g->chunks[i];

		if (!k)
			continue;
		bit_set(d->meta, i);
		if (k->inode)
			bit_set(d->inode, i);
		if (!make_chunk(c, k))
			continue;
		bit_set(d->meta_free, i);
		flags |= k->inode ? SUMMARY_INODE_FREE : SUMMARY_META_FREE;
	}
	bits_count(d->used, GROUP_CLUSTERS, &used);
	bits_count(d->meta, c->chunks_per_group, &chunks);
	d->free_clusters = le32_of(GROUP_CLUSTERS - used);
	d->meta_chunks = le32_of(chunks);
	e->free_clusters = le16_of((uint16_t)(GROUP_CLUSTERS - used));
	e->flags = le16_of((uint16_t)flags);
	ck_put(c, le64_get(c->super.group_start) + number, MAGIC_GROUP, 0, block);
}

void ck_mend_maps(struct check *c)
{
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	struct disk_summary *s = (struct disk_summary *)block;

	for (uint64_t i = 0; i < le64_get(c->super.summary_blocks); i++) {
		memset(block, 0, sizeof(block));
		for (uint32_t k = 0; k < SUMMARY_PER_BLOCK; k++) {
			const uint64_t number = i * SUMMARY_PER_BLOCK + k;
			const struct ck_group *g = ck_group(c, number);

			if (number >= c->group_count)
				break;
			if (g)
				make_group(c, number, g, &s->e[k]);
			else
				s->e[k].free_clusters =
					le16_of((uint16_t)ck_group_clusters(c, number));
		}
		ck_put(c, le64_get(c->super.summary_start) + i, MAGIC_SUMMARY, 0, block);
	}
	for (uint64_t i = 0; i < NODES_MAX; i++) {
		memset(block, 0, sizeof(block));
		if (c->reply_bad >> i & 1)
			ck_put(c, le64_get(c->super.reply_start) + i, MAGIC_REPLY, 0, block);
	}
}

/* ------------------------------------------------------------------ the rest */

static void make_super(struct check *c, uint64_t blkno)
{
	const struct disk_super *now = ck_read(c, blkno, 0);
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8))) = {0};
	struct disk_super *s = (struct disk_super *)block;

	memcpy(s, &c->super, sizeof(*s));
	/* The last copy need not have the same roots. */
	if (now && blkno > SUPER_COPY_BLOCK && ck_super_valid(now, blkno))
		memcpy(&s->root_ino, &now->root_ino, 24);
	ck_put(c, blkno, MAGIC_SUPER, 0, block);
}

void ck_mend_supers(struct check *c)
{
	make_super(c, SUPER_BLOCK);
	make_super(c, SUPER_COPY_BLOCK);
	make_super(c, c->block_count - 1);
}

static int mend_parent(struct check *c, uint64_t ino, struct ck_inode *i)
{
	struct disk_inode d;

	if (!ck_is_dir(i) || !i->parent || i->parent == i->disk_parent || !ck_inode_get(c, ino, &d))
		return 0;
	d.parent = le64_of(i->parent);
	ck_inode_put(c, ino, &d);
	return 0;
}

void ck_mend_numbers(struct check *c)
{
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));

	for (uint32_t i = 0; i < c->fix_count; i++) {
		const struct ck_fix *f = &c->fixes[i];

		if (!ck_try(c, f->blkno, MAGIC_INODE, 0, block))
			continue;
		for (uint32_t k = 0; k < f->bytes; k++)
			block[f->offset + k] = (uint8_t)(f->value >> (8 * k));
		ck_put(c, f->blkno, MAGIC_INODE, 0, block);
	}
	(void)ck_inodes_each(c, mend_parent);
}
