/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repair of what follows from the rest of the volume:
 *  - copies of the superblock, from a valid one; a claim, when both are lost;
 *  - summary, groups, chunk headers (the blocks themselves may be lost), from the walk;
 *  - blocks of the reply cache that are lost: empty. Nobody is waiting for a reply of a volume that is
 *    not mounted;
 *  - an inode's link count, number of clusters, of tree blocks, of entries.
 *
 * It is done only when every fault is of these kinds: then the walk has seen everything, and what it
 * did not see is not in use. The journal must be empty, since blocks are written in place. Any of the
 * writes may be the last one: a further check starts anew.
 */
#include "csvfs/base/claim.h"
#include "metadata/fields.h"
#include "tools/check/internal.h"

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
	case PROBLEM_CLAIM_NONE:
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

void ck_inode_number(struct check *c, enum problem code, uint64_t ino, uint32_t offset, uint32_t bytes,
	uint64_t found, uint64_t want, const char *what)
{
	ck_report(c, code, INO_BLOCK(ino), ino, found, want, what);
	if (!c->fixes)
		c->fixes = mem_alloc(c->o->mem, CK_FIXES * sizeof(*c->fixes));
	/* A link count of 0 is not just a number: the inode would have to be freed. */
	if (!c->fixes || c->fix_count == CK_FIXES || (code == PROBLEM_INODE_NLINK && (!found || !want))) {
		c->lost++;
		return;
	}
	c->fixes[c->fix_count++] = (struct ck_fix){INO_BLOCK(ino), want,
		(uint32_t)sizeof(struct disk_header) + (INO_SLOT(ino) - 1) * INODE_BYTES + offset, bytes};
}

/* ------------------------------------------------------------------ writing */

static void write_block(struct check *c, uint64_t blkno, void *block)
{
	fields_seal(block);
	if (c->write_failed || c->dev->write(c->dev->ctx, blkno * BLOCK_SIZE, block, BLOCK_SIZE))
		c->write_failed = true;
	else
		c->rep->repaired++;
}

/* Writes the block unless it stands there already, but for its epoch and lsn. */
static void put(struct check *c, uint64_t blkno, uint32_t magic, uint8_t block[BLOCK_SIZE])
{
	struct disk_header *h = (struct disk_header *)block;
	uint64_t found, want;
	const struct disk_header *now = ck_read_raw(c, blkno, 0);

	h->magic = le32_of(magic);
	memcpy(h->uuid, c->super.h.uuid, 16);
	h->blkno = le64_of(blkno);
	h->owner = le64_of(0);
	h->epoch = le64_of(c->epoch_seen);
	h->lsn = le64_of(c->lsn_max);
	h->reserved = le64_of(0);
	if (now && !ck_header(c, now, blkno, magic, 0, &found, &want) &&
		!memcmp(now + 1, h + 1, BLOCK_SIZE - sizeof(*h)))
		return;
	write_block(c, blkno, block);
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
	uint8_t block[BLOCK_SIZE] = {0};
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
	put(c, k->blkno, MAGIC_CHUNK, block);
	return room;
}

static void make_group(struct check *c, uint64_t number, const struct ck_group *g,
	struct disk_summary_entry *e)
{
	const uint32_t covered = ck_group_clusters(c, number);
	uint8_t block[BLOCK_SIZE] = {0};
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
	put(c, le64_get(c->super.group_start) + number, MAGIC_GROUP, block);
}

static void make_space(struct check *c)
{
	uint8_t block[BLOCK_SIZE];
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
		put(c, le64_get(c->super.summary_start) + i, MAGIC_SUMMARY, block);
	}
}

/* ------------------------------------------------------------------ the rest */

static void make_super(struct check *c, uint64_t blkno)
{
	const struct disk_super *now = ck_read_raw(c, blkno, 0);
	uint8_t block[BLOCK_SIZE] = {0};
	struct disk_super *s = (struct disk_super *)block;

	if (blkno == c->super_at)
		return;
	memcpy(s, &c->super, sizeof(*s));
	s->h.blkno = le64_of(blkno);
	s->h.owner = le64_of(0);
	/* The last copy need not have the same roots. */
	if (now && ck_super_valid(now, blkno) && blkno > SUPER_COPY_BLOCK)
		memcpy(&s->root_ino, &now->root_ino, 24);
	if (now && ck_super_valid(now, blkno) && !memcmp(now->h.uuid, s->h.uuid, 16) &&
		!le64_get(now->h.owner) &&
		!memcmp(&now->version, &s->version, sizeof(*s) - sizeof(s->h)))
		return;
	write_block(c, blkno, block);
}

static void make_claims(struct check *c)
{
	struct claim claim = {.epoch = c->epoch_seen + 1, .state = CLAIM_CLEAN};
	uint8_t block[BLOCK_SIZE];

	if (!c->rep->count[PROBLEM_CLAIM_NONE])
		return;
	memcpy(claim.uuid, c->super.h.uuid, 16);
	for (uint64_t i = 0; i < 2; i++) {
		claim.heartbeat = i;
		claim_encode(&claim, block);
		write_block(c, CLAIM_BLOCK + i, block);
	}
}

static void make_replies(struct check *c)
{
	uint8_t block[BLOCK_SIZE];
	uint64_t found, want;

	for (uint64_t i = 0; i < NODES_MAX; i++) {
		const uint64_t blkno = le64_get(c->super.reply_start) + i;
		const void *b = ck_read_raw(c, blkno, 0);

		if (b && !ck_header(c, b, blkno, MAGIC_REPLY, 0, &found, &want))
			continue;
		memset(block, 0, sizeof(block));
		put(c, blkno, MAGIC_REPLY, block);
	}
}

static void mend_inodes(struct check *c)
{
	uint8_t block[BLOCK_SIZE];

	for (uint32_t i = 0; i < c->fix_count; i++) {
		const struct ck_fix *f = &c->fixes[i];
		const void *b = ck_read_raw(c, f->blkno, 0);

		if (!b) {
			c->write_failed = true;
			return;
		}
		memcpy(block, b, sizeof(block));
		for (uint32_t k = 0; k < f->bytes; k++)
			block[f->offset + k] = (uint8_t)(f->value >> (8 * k));
		write_block(c, f->blkno, block);
		/* A further fix of this block must see this one. */
		ck_read_forget(c, f->blkno);
	}
}

void ck_repair(struct check *c)
{
	c->rep->repairable = check_faults(c->rep) && !c->lost;
	if (!c->o->repair || !c->dev->write || !c->rep->repairable || c->rep->replayed)
		return;
	mend_inodes(c);
	make_space(c);
	make_replies(c);
	make_super(c, c->block_count - 1);
	make_super(c, SUPER_COPY_BLOCK);
	make_super(c, SUPER_BLOCK);
	make_claims(c);
	if (c->write_failed)
		ck_report(c, PROBLEM_MEDIUM, 0, 0, 0, 0, "a write failed: the repair is not complete");
}
