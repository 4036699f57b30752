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
	/* A copy of what is sound there. */
	if (there && good(c, there, other, le32_get(h->magic), CK_ANY_OWNER))
		return magic == MAGIC_INODE &&
		       inodes_are_of((struct disk_inode_block *)block, blkno);
	if (magic == MAGIC_INODE)
		return inodes_are_of((struct disk_inode_block *)block, blkno);
	return magic == MAGIC_TREE || magic == MAGIC_XATTR;
}

static bool known(uint32_t magic)
{
	return magic == MAGIC_JREC || fields_of(magic);
}

/* It is sealed: what of the header is wrong? */
static bool take_sealed(
	struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner, uint8_t *block)
{
	struct disk_header *h = (struct disk_header *)block;

	if (memcmp(h->uuid, c->super.h.uuid, 16))
		return magic == MAGIC_INODE && le32_get(h->magic) == magic &&
		       inodes_are_of((struct disk_inode_block *)block, blkno);
	if (le32_get(h->magic) != magic && known(le32_get(h->magic)))
		return false;
	if (le64_get(h->blkno) != blkno) {
		if (le32_get(h->magic) != magic || (owner && le64_get(h->owner) != owner))
			return false;
		return take_misplaced(c, blkno, magic, owner, block);
	}
	/* A tree's block is of who says that it is. */
	return !owner || le64_get(h->owner) == owner;
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
