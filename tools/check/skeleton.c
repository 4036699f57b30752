/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First of a repair: superblock, claim, summary, groups and chunk headers are made readable, so that the
 * walk comes to everything. Their counts and marks need not be right yet; repair.c makes them so.
 *
 * Which places hold metadata say the groups. A group that is lost, or older than a chunk in it, is
 * made from what stands there: a chunk header, or blocks that say they are metadata of this volume at
 * this place. A group that says "no chunk here" and is not older than what stands there is right: a
 * chunk that was given back leaves its old blocks behind.
 */
#include "csvfs/base/claim.h"
#include "tools/check/mend.h"

#define RESERVE_BYTES_MAX (64ull << 20)

static uint64_t blocks_of_group(const struct check *c)
{
	return (uint64_t)GROUP_CLUSTERS * c->cluster_blocks;
}

/* ------------------------------------------------------------------ chunks */

struct found {
	uint32_t trees, inodes; /* blocks */
	uint8_t used[CHUNK_BLOCKS / 8];
	uint8_t slots[CHUNK_BLOCKS];
};

static uint8_t slots_of(const struct disk_inode_block *b)
{
	uint8_t slots = 0;

	for (uint32_t s = 1; s <= INODES_PER_BLOCK; s++)
		if (le32_get(b->slot[s - 1].mode))
			slots = (uint8_t)(slots | 1u << s);
	return slots;
}

/* What stands in the chunk's blocks that is newer than `lsn`, or marked in `marked`. */
static void chunk_scan(
	struct check *c, uint64_t blkno, const uint8_t *marked, uint64_t lsn, struct found *f)
{
	memset(f, 0, sizeof(*f));
	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		const struct disk_header *h = ck_read(c, blkno + b, 0);
		uint64_t found, want;
		uint32_t magic;

		if (!h)
			continue;
		magic = le32_get(h->magic);
		if (magic != MAGIC_INODE && magic != MAGIC_TREE && magic != MAGIC_XATTR)
			continue;
		if (ck_header(c, h, blkno + b, magic, CK_ANY_OWNER, &found, &want))
			continue;
		if (!(marked && bit_get(marked, b)) && le64_get(h->lsn) <= lsn)
			continue;
		f->trees += magic != MAGIC_INODE;
		f->inodes += magic == MAGIC_INODE;
		if (magic == MAGIC_INODE)
			f->slots[b] = slots_of((const struct disk_inode_block *)h);
		/* A block of inodes without one is not in use. */
		if (magic != MAGIC_INODE || f->slots[b])
			bit_set(f->used, b);
	}
}

static void chunk_put(struct check *c, uint64_t blkno, struct disk_chunk *d)
{
	const bool inode = le32_get(d->is_inode) == 1;

	bit_set(d->used, 0);
	for (uint32_t b = 0; b < CHUNK_BLOCKS; b++) {
		d->slots[b] &= 0xfe;
		if (!b || !inode || !bit_get(d->used, b))
			d->slots[b] = 0;
		else if (!d->slots[b])
			d->used[b / 8] = (uint8_t)(d->used[b / 8] & ~(1u << (b % 8)));
	}
	d->used_blocks = le32_of(ck_bits_set(d->used, 0, CHUNK_BLOCKS));
	ck_put(c, blkno, MAGIC_CHUNK, 0, d);
}

/* The header is valid or made so; says what the chunk holds. `inode`: what the group says. */
static bool chunk_mend(struct check *c, uint64_t blkno, bool inode)
{
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8))) = {0};
	struct disk_chunk *d = (struct disk_chunk *)block;
	const bool valid = ck_try(c, blkno, MAGIC_CHUNK, 0, block);
	const bool says = le32_get(d->is_inode) == 1;
	struct found f;

	if (!valid) {
		memset(block, 0, sizeof(block));
		if (c->m->probed_count < CK_PROBED_MAX)
			c->m->probed[c->m->probed_count++] = blkno;
	}
	chunk_scan(c, blkno, valid ? d->used : NULL, valid ? le64_get(d->h.lsn) : 0, &f);
	/* Blocks made by mkfs have lsn 0, but no chunk is. */
	if (f.inodes != f.trees)
		inode = f.inodes > f.trees;
	else if (valid)
		inode = says;
	for (uint32_t b = 1; b < CHUNK_BLOCKS; b++) {
		if (!bit_get(f.used, b))
			continue;
		bit_set(d->used, b);
		if (!bit_get(((const struct disk_chunk *)block)->used, b) || !d->slots[b])
			d->slots[b] = f.slots[b];
	}
	d->is_inode = le32_of(inode);
	chunk_put(c, blkno, d);
	return inode;
}

/* ------------------------------------------------------------------ groups */

static void group_put(struct check *c, uint64_t number, struct disk_group *d)
{
	const uint32_t covered = ck_group_clusters(c, number);

	for (uint32_t i = covered; i < GROUP_CLUSTERS; i++)
		bit_set(d->used, i);
	for (uint32_t i = 0; i < GROUP_BITMAP_BYTES; i++) {
		if (i * 8 >= c->chunks_per_group)
			d->meta[i] = 0;
		d->inode[i] &= d->meta[i];
		d->meta_free[i] &= d->meta[i];
	}
	d->free_clusters = le32_of(GROUP_CLUSTERS - ck_bits_set(d->used, 0, GROUP_CLUSTERS));
	d->meta_chunks = le32_of(ck_bits_set(d->meta, 0, c->chunks_per_group));
	ck_put(c, le64_get(c->super.group_start) + number, MAGIC_GROUP, 0, d);
}

static bool has_metadata(struct check *c, uint64_t blkno)
{
	struct found f;

	chunk_scan(c, blkno, NULL, 0, &f);
	return f.trees + f.inodes > 0;
}

/* Is there a chunk at this place? `valid`: the group's block is, and d is it. */
static bool is_chunk(
	struct check *c, uint64_t blkno, const struct disk_group *d, uint32_t i, bool valid)
{
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	bool header;

	if (blkno < c->data_start || blkno + CHUNK_BLOCKS > c->block_count)
		return false;
	if (valid && (bit_get(d->meta, i) || bit_get(d->inode, i)))
		return true;
	/* A large volume has a million places for chunks: they are looked at if something is missed. */
	if (valid && !c->m->missed)
		return false;
	header = ck_try(c, blkno, MAGIC_CHUNK, 0, block);
	if (valid)
		return header && le64_get(((struct disk_header *)block)->lsn) > le64_get(d->h.lsn);
	return header || has_metadata(c, blkno);
}

static void group_mend(struct check *c, uint64_t number, bool valid, struct disk_group *d)
{
	if (!valid) {
		memset(d, 0, sizeof(*d));
		/* Until the walk has shown what is free. */
		memset(d->used, 0xff, sizeof(d->used));
	}
	for (uint32_t i = 0; i < c->chunks_per_group; i++) {
		const uint64_t blkno = number * blocks_of_group(c) + (uint64_t)i * CHUNK_BLOCKS;
		const uint8_t bit = (uint8_t)(1u << (i % 8));

		if (!is_chunk(c, blkno, d, i, valid)) {
			d->meta[i / 8] = (uint8_t)(d->meta[i / 8] & ~bit);
			continue;
		}
		bit_set(d->meta, i);
		d->inode[i / 8] = (uint8_t)(d->inode[i / 8] & ~bit);
		if (chunk_mend(c, blkno, d->inode[i / 8] & bit))
			bit_set(d->inode, i);
		for (uint32_t k = 0; k < c->chunk_clusters; k++)
			bit_set(d->used, i * c->chunk_clusters + k);
	}
	group_put(c, number, d);
}

/* True: the group is in use, and its block is valid now. */
static bool group_make(struct check *c, uint64_t number, bool known, bool said_in_use)
{
	const uint64_t blkno = le64_get(c->super.group_start) + number;
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	const void *there;
	bool valid = ck_try(c, blkno, MAGIC_GROUP, 0, block);

	if (!valid && known && !said_in_use && !ck_fixed_clusters(c, number) &&
		number + 1 != c->group_count)
		return false;
	/* Nobody knows: a place that was never written to is empty, mostly. */
	there = ck_read(c, blkno, 0);
	if (!valid && !known && !ck_fixed_clusters(c, number) && number + 1 != c->group_count &&
		there && ck_zero(there, BLOCK_SIZE))
		return false;
	group_mend(c, number, valid, (struct disk_group *)block);
	return true;
}

static void summary_make(struct check *c, uint64_t index)
{
	const uint64_t blkno = le64_get(c->super.summary_start) + index;
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	struct disk_summary *s = (struct disk_summary *)block;
	const bool known = ck_try(c, blkno, MAGIC_SUMMARY, 0, block);

	if (!known)
		memset(block, 0, sizeof(block));
	for (uint32_t i = 0; i < SUMMARY_PER_BLOCK; i++) {
		const uint64_t number = index * SUMMARY_PER_BLOCK + i;
		const uint32_t flags = le16_get(s->e[i].flags);

		if (number >= c->group_count)
			memset(&s->e[i], 0, sizeof(s->e[i]));
		else if (group_make(c, number, known, flags & SUMMARY_INIT))
			s->e[i].flags = le16_of((uint16_t)(flags | SUMMARY_INIT));
		else
			s->e[i].flags = le16_of(0);
	}
	ck_put(c, blkno, MAGIC_SUMMARY, 0, s);
}

/* ------------------------------------------------------------------ during the rounds */

static void summary_set(struct check *c, uint64_t number)
{
	const uint64_t blkno = le64_get(c->super.summary_start) + number / SUMMARY_PER_BLOCK;
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	struct disk_summary *s = (struct disk_summary *)block;
	le16 *flags;

	if (!ck_try(c, blkno, MAGIC_SUMMARY, 0, block))
		return;
	flags = &s->e[number % SUMMARY_PER_BLOCK].flags;
	*flags = le16_of((uint16_t)(le16_get(*flags) | SUMMARY_INIT));
	ck_put(c, blkno, MAGIC_SUMMARY, 0, s);
}

void ck_chunk_add(struct check *c, uint64_t blkno, bool inode, bool fresh)
{
	const uint64_t number = blkno / blocks_of_group(c);
	const uint32_t i = (uint32_t)(blkno % blocks_of_group(c) / CHUNK_BLOCKS);
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	struct disk_group *d = (struct disk_group *)block;
	struct ck_group *g = ck_group_new(c, number);
	struct ck_chunk *k;

	if (!ck_try(c, le64_get(c->super.group_start) + number, MAGIC_GROUP, 0, block))
		memset(block, 0, sizeof(block));
	bit_set(d->meta, i);
	if (inode)
		bit_set(d->inode, i);
	for (uint32_t n = 0; n < c->chunk_clusters; n++)
		bit_set(d->used, i * c->chunk_clusters + n);
	group_put(c, number, d);
	summary_set(c, number);
	memset(block, 0, sizeof(block));
	((struct disk_chunk *)block)->is_inode = le32_of(inode);
	if (fresh)
		chunk_put(c, blkno, (struct disk_chunk *)block);
	else
		(void)chunk_mend(c, blkno, inode);
	k = g ? ck_chunk_new(c, g, blkno, inode) : NULL;
	if (!k) {
		c->m->no_memory = true;
		return;
	}
	bit_set(k->used, 0);
	k->readable = true;
	for (uint32_t n = 0; n < c->chunk_clusters; n++)
		bit_set(g->seen, i * c->chunk_clusters + n);
}

void ck_chunk_mark(struct check *c, uint64_t blkno, uint8_t slots)
{
	const uint64_t at = blkno / CHUNK_BLOCKS * CHUNK_BLOCKS;
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	struct disk_chunk *d = (struct disk_chunk *)block;

	if (!ck_try(c, at, MAGIC_CHUNK, 0, block))
		return;
	bit_set(d->used, blkno % CHUNK_BLOCKS);
	d->slots[blkno % CHUNK_BLOCKS] |= slots;
	chunk_put(c, at, d);
}

void ck_missed_inode(struct check *c, uint64_t ino)
{
	const uint64_t blkno = INO_BLOCK(ino);
	const struct ck_chunk *k = ck_chunk(c, blkno);
	struct disk_inode_block b;

	if (!INO_SLOT(ino) || blkno < c->data_start || blkno >= c->block_count ||
		(k && !k->inode) || !ck_try(c, blkno, MAGIC_INODE, 0, &b) ||
		le64_get(b.slot[INO_SLOT(ino) - 1].ino) != ino)
		return;
	if (!k)
		ck_chunk_add(c, blkno / CHUNK_BLOCKS * CHUNK_BLOCKS, true, false);
	ck_chunk_mark(c, blkno, slots_of(&b));
}

void ck_missed_block(struct check *c, uint64_t blkno, uint64_t ino)
{
	const struct disk_header *h = ck_read(c, blkno, 0);
	uint64_t found, want;
	uint32_t magic;

	if (!h || blkno % CHUNK_BLOCKS == 0)
		return;
	magic = le32_get(h->magic);
	if ((magic == MAGIC_TREE || magic == MAGIC_XATTR) &&
		!ck_header(c, h, blkno, magic, ino, &found, &want))
		ck_chunk_add(c, blkno / CHUNK_BLOCKS * CHUNK_BLOCKS, false, false);
}

/* ------------------------------------------------------------------ all of it */

static void claims(struct check *c)
{
	struct claim claim = {.epoch = c->m->epoch, .state = CLAIM_CLEAN};
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));

	memcpy(claim.uuid, c->super.h.uuid, 16);
	/* The next rounds read these: what the last claim owes must show in them for the one that is written in the end. */
	claim_keep(&claim, &c->claim);
	for (uint64_t i = 0; i < 2; i++) {
		claim.heartbeat = i;
		claim_encode(&claim, block);
		ck_put_sealed(c, CLAIM_BLOCK + i, block);
	}
}

/* As mkfs reckons it. */
static uint64_t reserve(const struct check *c)
{
	const uint64_t bytes = le64_get(c->super.volume_bytes);
	uint64_t r = bytes / 64 < (4ull << 20) ? 4ull << 20 : bytes / 64;

	if (r > RESERVE_BYTES_MAX)
		r = RESERVE_BYTES_MAX;
	r = (r + CHUNK_SIZE - 1) / CHUNK_SIZE * CHUNK_SIZE;
	return (r + bytes % CHUNK_SIZE / c->cluster_bytes * c->cluster_bytes) / c->cluster_bytes;
}

/* False: no block of a tree can be there. */
static bool root_possible(const struct check *c, le64 blkno)
{
	const uint64_t b = le64_get(blkno);

	return !b || (b >= c->data_start && b < c->block_count && b % CHUNK_BLOCKS);
}

static void super(struct check *c)
{
	struct disk_super *s = &c->super;
	const uint64_t now = le64_get(s->reserve_clusters);

	s->label[sizeof(s->label) - 1] = 0;
	s->cluster_name[sizeof(s->cluster_name) - 1] = 0;
	s->lun_identity[sizeof(s->lun_identity) - 1] = 0;
	if (now > c->cluster_count || (c->cluster_count - now) % c->chunk_clusters)
		s->reserve_clusters = le64_of(reserve(c));
	if (!root_possible(c, s->orphan_root))
		s->orphan_root = le64_of(0);
	if (!root_possible(c, s->intent_root))
		s->intent_root = le64_of(0);
	memset(s->reserved, 0, sizeof(s->reserved));
	ck_mend_supers(c);
}

int ck_skeleton(struct check *c)
{
	claims(c);
	super(c);
	for (uint64_t i = 0; i < le64_get(c->super.summary_blocks); i++)
		summary_make(c, i);
	return c->m->no_memory ? -ENOMEM : 0;
}
