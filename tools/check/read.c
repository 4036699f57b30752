/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading: a small cache of lines, and the journal's images laid over the blocks they are for.
 */
#include "csvfs/base/crc32c.h"
#include "metadata/fields.h"
#include "tools/check/mend.h"

#define LINE_BLOCKS (CK_LINE_BYTES / BLOCK_SIZE)

int ck_read_init(struct check *c)
{
	for (uint32_t i = 0; i < CK_LINES; i++) {
		c->line_at[i] = UINT64_MAX;
		if (c->dev->at)
			continue;
		c->line[i] = mem_alloc(c->o->mem, CK_LINE_BYTES);
		if (!c->line[i])
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < TREE_LEVELS_MAX; i++) {
		c->level[i] = mem_alloc(c->o->mem, BLOCK_SIZE);
		if (!c->level[i])
			return -ENOMEM;
	}
	c->scratch = mem_alloc(c->o->mem, BLOCK_SIZE);
	c->names = mem_alloc(c->o->mem, (COOKIE_INDEX_MAX + 1) * 256);
	return c->scratch && c->names ? 0 : -ENOMEM;
}

/* Neighbouring lines and the areas of groups shall not push each other out. */
static uint32_t line_of(uint64_t number)
{
	return (uint32_t)((number ^ number >> 7) % CK_LINES);
}

static const void *read_line(struct check *c, uint64_t blkno, uint64_t ino)
{
	const uint64_t number = blkno / LINE_BLOCKS;
	const uint32_t i = line_of(number);
	uint64_t len = CK_LINE_BYTES;
	int err;

	if (blkno >= c->dev->bytes / BLOCK_SIZE)
		return NULL;
	if (c->dev->at)
		return c->dev->at(c->dev->ctx, blkno * BLOCK_SIZE);
	if (c->line_at[i] == number)
		return c->line[i] + blkno % LINE_BLOCKS * BLOCK_SIZE;
	if (len > c->dev->bytes - number * CK_LINE_BYTES)
		len = (c->dev->bytes - number * CK_LINE_BYTES) / BLOCK_SIZE * BLOCK_SIZE;
	c->line_at[i] = UINT64_MAX;
	if (!c->dev->read(c->dev->ctx, number * CK_LINE_BYTES, c->line[i], (uint32_t)len)) {
		c->line_at[i] = number;
		return c->line[i] + blkno % LINE_BLOCKS * BLOCK_SIZE;
	}
	/* One bad block must not hide its neighbours. */
	err = c->dev->read(c->dev->ctx, blkno * BLOCK_SIZE, c->scratch, BLOCK_SIZE);
	if (!err)
		return c->scratch;
	ck_report(c, PROBLEM_MEDIUM, blkno, ino, (uint64_t)-err, 0, "read error");
	return NULL;
}

const void *ck_read_raw(struct check *c, uint64_t blkno, uint64_t ino)
{
	const void *put = c->m ? ck_put_find(c, blkno) : NULL;

	return put ? put : read_line(c, blkno, ino);
}

const void *ck_read_disk(struct check *c, uint64_t blkno)
{
	return read_line(c, blkno, 0);
}

static uint32_t image_slot(const struct check *c, uint64_t blkno)
{
	uint32_t i = (uint32_t)(blkno * 0x9e3779b97f4a7c15ull >> 32) & (c->image_room - 1);

	while (c->images[i].pos && c->images[i].blkno != blkno)
		i = (i + 1) & (c->image_room - 1);
	return i;
}

/* The table is never more than half full, so a search ends. */
static int overlay_grow(struct check *c)
{
	struct ck_image *old = c->images;
	uint32_t old_room = c->image_room;
	uint32_t room = old_room ? old_room * 2 : 1024;

	c->images = mem_alloc(c->o->mem, room * sizeof(*c->images));
	if (!c->images)
		return -ENOMEM;
	c->image_room = room;
	for (uint32_t i = 0; i < old_room; i++)
		if (old[i].pos)
			c->images[image_slot(c, old[i].blkno)] = old[i];
	mem_free(c->o->mem, old, old_room * sizeof(*old));
	return 0;
}

int ck_overlay_add(struct check *c, uint64_t blkno, uint64_t pos)
{
	uint32_t i;
	int err;

	if (c->image_count * 2 >= c->image_room) {
		err = overlay_grow(c);
		if (err)
			return err;
	}
	i = image_slot(c, blkno);
	if (!c->images[i].pos)
		c->image_count++;
	c->images[i].blkno = blkno;
	c->images[i].pos = pos;
	return 0;
}

const void *ck_read(struct check *c, uint64_t blkno, uint64_t ino)
{
	const void *put = c->m ? ck_put_find(c, blkno) : NULL;
	uint32_t i;

	if (put)
		return put;
	if (c->image_count) {
		i = image_slot(c, blkno);
		if (c->images[i].pos)
			blkno = c->images[i].pos;
	}
	return read_line(c, blkno, ino);
}

bool ck_zero(const void *p, size_t n)
{
	const uint8_t *b = p;

	return !n || (!b[0] && !memcmp(b, b + 1, n - 1));
}

void ck_tail(struct check *c, const void *block, size_t from, uint64_t blkno)
{
	if (!ck_zero((const uint8_t *)block + from, BLOCK_SIZE - from))
		ck_report(c, PROBLEM_RESERVED, blkno, 0, 0, 0, "bytes behind the last field");
}

enum problem ck_header(const struct check *c, const void *block, uint64_t blkno, uint32_t magic,
	uint64_t owner, uint64_t *found, uint64_t *want)
{
	const struct disk_header *h = block;

	*found = le32_get(h->magic);
	*want = magic;
	if (*found != magic)
		return PROBLEM_HEADER_MAGIC;
	*found = *want = 0;
	if (!fields_sealed(block))
		return PROBLEM_HEADER_CRC;
	if (memcmp(h->uuid, c->super.h.uuid, 16))
		return PROBLEM_HEADER_UUID;
	*found = le64_get(h->blkno);
	*want = blkno;
	if (*found != blkno)
		return PROBLEM_HEADER_BLKNO;
	*found = le64_get(h->owner);
	*want = owner;
	if (owner != CK_ANY_OWNER && *found != owner)
		return PROBLEM_HEADER_OWNER;
	*found = le64_get(h->epoch);
	*want = c->epoch_max;
	if (*found > c->epoch_max)
		return PROBLEM_HEADER_EPOCH;
	*found = le64_get(h->lsn);
	*want = c->lsn_max;
	if (*found > c->lsn_max)
		return PROBLEM_HEADER_LSN;
	*found = le64_get(h->reserved);
	*want = 0;
	if (*found)
		return PROBLEM_RESERVED;
	return PROBLEM_NONE;
}

static const char *header_field(enum problem p)
{
	switch ((int)p) {
	case PROBLEM_HEADER_MAGIC:
		return "magic";
	case PROBLEM_HEADER_CRC:
		return "checksum is wrong";
	case PROBLEM_HEADER_UUID:
		return "uuid of another volume";
	case PROBLEM_HEADER_BLKNO:
		return "own block number";
	case PROBLEM_HEADER_OWNER:
		return "owner";
	case PROBLEM_HEADER_EPOCH:
		return "epoch";
	case PROBLEM_HEADER_LSN:
		return "transaction number";
	}
	return "reserved field of the header";
}

/* A repair's blocks are to be newer than all others. */
static void seen(struct check *c, const struct disk_header *h)
{
	if (le64_get(h->epoch) > c->epoch_seen && le64_get(h->epoch) < CK_NUMBER_MAX)
		c->epoch_seen = le64_get(h->epoch);
	if (le64_get(h->lsn) > c->lsn_seen && le64_get(h->lsn) < CK_NUMBER_MAX)
		c->lsn_seen = le64_get(h->lsn);
}

const void *ck_block(struct check *c, uint64_t blkno, uint32_t magic, uint64_t owner)
{
	const uint64_t ino = owner == CK_ANY_OWNER ? 0 : owner;
	uint64_t found, want;
	const void *block = ck_read(c, blkno, ino);
	enum problem p;

	if (!block)
		return NULL;
	p = ck_header(c, block, blkno, magic, owner, &found, &want);
	if (p && c->m) {
		block = ck_restore(c, blkno, magic, owner);
		if (block)
			return block;
		block = ck_read(c, blkno, ino);
	}
	if (!p || p == PROBLEM_HEADER_EPOCH || p == PROBLEM_HEADER_LSN)
		seen(c, block);
	if (!p)
		return block;
	c->can_be_made = magic == MAGIC_SUMMARY || magic == MAGIC_GROUP || magic == MAGIC_CHUNK ||
			 magic == MAGIC_REPLY;
	/* In the second walk everything has been said. */
	if (!c->find_owners)
		ck_report(c, p, blkno, ino, found, want, header_field(p));
	c->can_be_made = false;
	/* Too new, or a reserved field: the content is what its writer meant. */
	if (p == PROBLEM_HEADER_EPOCH || p == PROBLEM_HEADER_LSN || p == PROBLEM_RESERVED)
		return block;
	return NULL;
}
