/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One block whose header is not right. What is said about it has been said; here is what can be had.
 *
 *  - Only its epoch or transaction number is out of reason: the content is what its writer meant.
 *  - The journal's ring may still have its newest image.
 *  - One flipped bit: the checksum says which. (CRC-32C tells all pairs of flipped bits of a block from
 *    single ones, so this is no guess unless three are flipped.)
 *  - Two blocks changed places: each says where it belongs.
 *  - Checksum and place are right: then the content is as it was written, and what else is wrong in the
 *    header is put right.
 *  - A block of inodes is seven things, each with its own number in it: those that are sound stay.
 */
#include "csvfs/base/crc32c.h"
#include "metadata/fields.h"
#include "metadata/verify_inode.h"
#include "tools/check/mend.h"

static uint32_t crc_of(const uint8_t *block)
{
	const uint8_t zero[4] = {0};
	uint32_t crc = crc32c(0, block, 4);

	crc = crc32c(crc, zero, 4);
	return crc32c(crc, block + 8, BLOCK_SIZE - 8);
}

static bool one_bit(uint32_t v)
{
	return v && !(v & (v - 1));
}

/* True: the flipped bit was found and put right. */
static bool bit_flip_back(uint8_t *block)
{
	uint32_t table[256], at[8], syndrome;
	le32 stored;

	memcpy(&stored, block + 4, sizeof(stored));
	syndrome = crc_of(block) ^ le32_get(stored);
	if (one_bit(syndrome))
		return true; /* of the checksum itself */
	for (uint32_t i = 0; i < 256; i++) {
		const uint8_t byte = (uint8_t)i;

		table[i] = ~crc32c(~0u, &byte, 1);
	}
	for (uint32_t k = 0; k < 8; k++)
		at[k] = table[1u << k];
	/* at[k]: what bit k of the byte in hand does to the checksum. */
	for (uint32_t byte = BLOCK_SIZE; byte-- > 0;) {
		for (uint32_t k = 0; k < 8; k++) {
			if (at[k] == syndrome && (byte < 4 || byte > 7)) {
				block[byte] = (uint8_t)(block[byte] ^ (1u << k));
				return true;
			}
			at[k] = at[k] >> 8 ^ table[at[k] & 255];
		}
	}
	return false;
}

static bool good(struct check *c, const void *block, uint64_t blkno, uint32_t magic, uint64_t owner)
{
	uint64_t found, want;
	const enum problem p = ck_header(c, block, blkno, magic, owner, &found, &want);

	return !p || p == PROBLEM_HEADER_EPOCH || p == PROBLEM_HEADER_LSN || p == PROBLEM_RESERVED;
}

/* The block's own number is another's: do the inodes in it say that they belong here? */
static bool inodes_are_of(const struct disk_inode_block *b, uint64_t blkno)
{
	for (uint32_t s = 1; s <= INODES_PER_BLOCK; s++)
		if (le64_get(b->slot[s - 1].ino) == INO_MAKE(blkno, s))
			return true;
	return false;
}

static uint64_t first_key(const uint8_t *node)
{
	struct disk_slot s;

	memcpy(&s, node + sizeof(struct disk_node), sizeof(s));
	return le64_get(s.key);
}

/* A node that says that it belongs to `other`, where a sound one of the same tree stands: is it a copy of that? */
static bool is_copy(uint32_t magic, const uint8_t *block, const uint8_t *there)
{
	const struct disk_header *h = (const struct disk_header *)block;
	const struct disk_header *t = (const struct disk_header *)there;
	const size_t head = sizeof(*h);

	if (le32_get(t->magic) != magic || le64_get(t->owner) != le64_get(h->owner))
		return false;
	if (magic != MAGIC_TREE)
		return !memcmp(block + head, there + head, BLOCK_SIZE - head);
	/* An older one of it has its first key, most likely; two of one tree never have. */
	return block[head] == there[head] && block[head + 1] == there[head + 1] &&
	       first_key(block + head) == first_key(there + head);
}

/* Sealed, of this volume, but it says that it belongs elsewhere. */
static bool take_misplaced(
	struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, uint8_t *block)
{
	struct disk_header *h = (struct disk_header *)block;
	const uint64_t other = le64_get(h->blkno);
	const uint8_t *there;

	/* On the medium: one of the two may have been put right. */
	there = other < c->block_count && other != blkno ? ck_read_disk(c, other) : NULL;
	/* They changed places. */
	if (there && good(c, there, blkno, magic, owner)) {
		memcpy(block, there, BLOCK_SIZE);
		return true;
	}
	if (magic == MAGIC_INODE)
		return inodes_are_of((struct disk_inode_block *)block, blkno);
	/* A copy of what is sound there. */
	if (there &&
		good(c, there, other, le32_get(((const struct disk_header *)there)->magic),
			CK_ANY_OWNER) &&
		is_copy(magic, block, there))
		return false;
	return magic == MAGIC_TREE || magic == MAGIC_XATTR;
}

static bool known(uint32_t magic)
{
	return magic == MAGIC_JREC || fields_of(magic);
}

/* All but its type agrees with what leads to it: has it the form of what it should be? */
static bool has_form(const struct check *c, uint32_t magic, const uint8_t *block)
{
	struct verify_report rep;

	if (magic == MAGIC_TREE)
		return !verify_tree(block, &c->super, &rep);
	if (magic == MAGIC_XATTR)
		return !verify_value(block, &c->super, &rep);
	return false;
}

/* ------------------------------------------------------------------ whose is it? */

/* The node of this tree that is to hold the key, level by level: is `blkno` one of them? */
static bool key_leads_to(struct check *c, uint64_t ino, const uint8_t *root, uint32_t bytes,
	uint64_t key, uint64_t blkno)
{
	uint8_t node[TREE_NODE_BYTES];
	uint64_t found, want;

	memcpy(node, root, bytes);
	for (uint32_t level = node[1]; level && level < TREE_LEVELS_MAX; level--) {
		const struct disk_tree_block *b;
		struct disk_node n;
		struct disk_slot s;
		le64 v = le64_of(0);

		memcpy(&n, node, sizeof(n));
		for (uint32_t i = 0;
			i < le16_get(n.count) && sizeof(n) + (i + 1) * sizeof(s) <= bytes; i++) {
			memcpy(&s, node + sizeof(n) + i * sizeof(s), sizeof(s));
			if (i && le64_get(s.key) > key)
				break;
			if (le16_get(s.off) > bytes - sizeof(v))
				return true; /* damaged: nobody knows */
			memcpy(&v, node + le16_get(s.off), sizeof(v));
		}
		if (le64_get(v) == blkno || le64_get(v) >= c->block_count)
			return true;
		b = ck_read(c, le64_get(v), ino);
		if (!b || ck_header(c, b, le64_get(v), MAGIC_TREE, ino, &found, &want) ||
			b->node[1] != level - 1)
			return true;
		memcpy(node, b->node, TREE_NODE_BYTES);
		bytes = TREE_NODE_BYTES;
	}
	return false;
}

/* The block says that it is `ino`'s. True: so it is, or that cannot be ruled out. */
static bool may_be_of(
	struct check *c, uint64_t ino, uint64_t blkno, uint32_t magic, const uint8_t *block)
{
	const uint8_t *node = block + sizeof(struct disk_header);
	const struct disk_inode_block *b;
	struct disk_inode d;
	uint64_t found, want;

	if (!INO_SLOT(ino) || INO_BLOCK(ino) < c->data_start || INO_BLOCK(ino) >= c->block_count)
		return false;
	b = ck_read(c, INO_BLOCK(ino), ino);
	if (!b || ck_header(c, b, INO_BLOCK(ino), MAGIC_INODE, 0, &found, &want))
		return b && le32_get(b->h.magic) == MAGIC_INODE; /* of a damaged block of inodes */
	d = b->slot[INO_SLOT(ino) - 1];
	if (!le32_get(d.mode) && !le64_get(d.ino))
		return false;
	if (magic == MAGIC_XATTR)
		return le64_get(d.xattr_root) ||
		       (!le64_get(d.clusters) && !le64_get(d.tree_blocks) &&
			       le64_get(d.size) > INODE_INLINE_BYTES);
	if (node[0] == TREE_XATTRS)
		return le64_get(d.xattr_root) != 0;
	return d.area[0] == node[0] && le64_get(d.tree_blocks) &&
	       key_leads_to(c, ino, d.area, INODE_INLINE_BYTES, first_key(node), blkno);
}

/* It is sealed: what of the header is wrong? */
static bool take_sealed(
	struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, uint8_t *block)
{
	struct disk_header *h = (struct disk_header *)block;
	const bool theirs = owner && le64_get(h->owner) != owner;

	if (memcmp(h->uuid, c->super.h.uuid, 16))
		return magic == MAGIC_INODE && le32_get(h->magic) == magic &&
		       inodes_are_of((struct disk_inode_block *)block, blkno);
	if (le32_get(h->magic) != magic && known(le32_get(h->magic)))
		return le64_get(h->blkno) == blkno && !theirs && has_form(c, magic, block);
	if (le64_get(h->blkno) != blkno) {
		if (le32_get(h->magic) != magic || theirs)
			return false;
		return take_misplaced(c, blkno, magic, owner, block);
	}
	/* A tree's block is of who says that it is, if that can be. */
	return !theirs || !may_be_of(c, le64_get(h->owner), blkno, magic, block);
}

static bool take_inodes(struct check *c, uint64_t blkno, uint8_t *block)
{
	struct disk_inode_block *b = (struct disk_inode_block *)block;
	struct verify_report rep;
	uint32_t sound = 0;

	for (uint32_t s = 1; s <= INODES_PER_BLOCK; s++) {
		struct disk_inode *d = &b->slot[s - 1];

		if (le64_get(d->ino) == INO_MAKE(blkno, s) && le32_get(d->mode) &&
			!verify_inode(d, INO_MAKE(blkno, s), &c->super, &rep)) {
			sound++;
			continue;
		}
		memset(d, 0, sizeof(*d));
		d->generation = le64_of((c->m->lsn & 0x7fffffff) | 1);
	}
	return sound > 0;
}

/* As it was written; only what must be is changed in its header. */
static const void *put(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, void *block)
{
	uint64_t found, want;

	if (ck_header(c, block, blkno, magic, owner, &found, &want))
		ck_put(c, blkno, magic, owner, block);
	else
		ck_put_sealed(c, blkno, block);
	return ck_put_find(c, blkno);
}

const void *ck_restore(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner)
{
	const uint8_t *b;
	const void *image;
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8))),
		again[BLOCK_SIZE] __attribute__((aligned(8)));

	if (magic == MAGIC_SUPER || magic == MAGIC_JHEAD || owner == CK_ANY_OWNER)
		return NULL;
	b = ck_read(c, blkno, 0);
	if (!b)
		return NULL;
	memcpy(block, b, BLOCK_SIZE);
	if (good(c, block, blkno, magic, owner))
		return put(c, blkno, magic, owner, block);
	/* What the repair itself has put is newer than anything in the ring. */
	image = ck_put_find(c, blkno) ? NULL : ck_ring_image(c, blkno);
	if (image && good(c, image, blkno, magic, owner)) {
		memcpy(again, image, BLOCK_SIZE);
		return put(c, blkno, magic, owner, again);
	}
	if (!fields_sealed(block)) {
		memcpy(again, block, BLOCK_SIZE);
		if (bit_flip_back(again)) {
			fields_seal(again);
			if (good(c, again, blkno, magic, owner))
				return put(c, blkno, magic, owner, again);
		}
		if (magic != MAGIC_INODE || !take_inodes(c, blkno, block))
			return NULL;
	} else if (!take_sealed(c, blkno, magic, owner, block)) {
		return NULL;
	}
	return put(c, blkno, magic, owner, block);
}
