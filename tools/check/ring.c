/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal's ring as a store of old and new blocks. The ring is overwritten from its oldest end, so if
 * any image of a block is left in it, the newest one is: a block that was damaged in its place can
 * be had from there, and if the heads are lost, or the run behind them is broken, all that was
 * not yet in its place.
 */
#include "csvfs/base/crc32c.h"
#include "metadata/fields.h"
#include "tools/check/mend.h"

static uint64_t ring_start(const struct check *c)
{
	return le64_get(c->super.journal_start) + JOURNAL_HEADS;
}

static uint64_t ring_blocks(const struct check *c)
{
	return le64_get(c->super.journal_blocks) - JOURNAL_HEADS;
}

static uint64_t at(const struct check *c, uint64_t pos)
{
	return ring_start(c) + pos % ring_blocks(c);
}

/* ------------------------------------------------------------------ table */

static uint32_t slot(const struct check *c, uint64_t blkno)
{
	uint32_t i = (uint32_t)(blkno * 0x9e3779b97f4a7c15ull >> 32) & (c->ring_room - 1);

	while (c->ring[i].pos && c->ring[i].blkno != blkno)
		i = (i + 1) & (c->ring_room - 1);
	return i;
}

static int grow(struct check *c)
{
	struct ck_image *old = c->ring;
	const uint32_t old_room = c->ring_room;

	c->ring_room = old_room ? old_room * 2 : 1024;
	c->ring = mem_alloc(c->o->mem, c->ring_room * sizeof(*c->ring));
	if (!c->ring)
		return -ENOMEM;
	for (uint32_t i = 0; i < old_room; i++)
		if (old[i].pos)
			c->ring[slot(c, old[i].blkno)] = old[i];
	mem_free(c->o->mem, old, old_room * sizeof(*old));
	return 0;
}

static uint64_t lsn_at(struct check *c, uint64_t blkno)
{
	const struct disk_header *h = ck_read_disk(c, blkno);

	return h ? le64_get(h->lsn) : 0;
}

static int note(struct check *c, uint64_t blkno, uint64_t pos)
{
	uint32_t i;
	int err = 0;

	if (c->ring_count * 2 >= c->ring_room)
		err = grow(c);
	if (err)
		return err;
	i = slot(c, blkno);
	if (c->ring[i].pos && lsn_at(c, c->ring[i].pos) > lsn_at(c, pos))
		return 0;
	c->ring_count += !c->ring[i].pos;
	c->ring[i] = (struct ck_image){blkno, pos};
	return 0;
}

const void *ck_ring_image(struct check *c, uint64_t blkno)
{
	uint32_t i;

	if (!c->ring_count)
		return NULL;
	i = slot(c, blkno);
	return c->ring[i].pos ? ck_read_disk(c, c->ring[i].pos) : NULL;
}

/* ------------------------------------------------------------------ scan */

/* A whole record at `pos`: its header is copied to *d. */
static bool record_at(struct check *c, uint64_t pos, struct disk_jrec *d)
{
	const struct disk_jrec *there = ck_read_disk(c, at(c, pos));

	if (!there || le32_get(there->magic) != MAGIC_JREC || !fields_sealed(there) ||
		memcmp(there->uuid, c->super.h.uuid, 16) ||
		le32_get(there->count) > JREC_IMAGES_MAX)
		return false;
	memcpy(d, there, sizeof(*d));
	for (uint32_t i = 0; i < le32_get(d->count); i++) {
		const void *b = ck_read_disk(c, at(c, pos + 1 + i));

		if (!b || crc32c(0, b, BLOCK_SIZE) != le32_get(d->image[i].crc))
			return false;
	}
	return true;
}

/* How many blocks the whole transaction that starts at `pos` has; 0: none starts there. */
static uint64_t transaction_at(struct check *c, uint64_t pos, struct disk_jrec *d)
{
	uint64_t used = 0, seq = 0, lsn = 0;

	for (uint32_t n = 0; used < ring_blocks(c); n++) {
		if (!record_at(c, pos + used, d))
			return 0;
		if (!n && !(le32_get(d->flags) & JREC_FIRST))
			return 0;
		if (n && (le64_get(d->seq) != seq + n || le64_get(d->lsn) != lsn))
			return 0;
		if (!n) {
			seq = le64_get(d->seq);
			lsn = le64_get(d->lsn);
		}
		used += 1 + le32_get(d->count);
		if (le32_get(d->flags) & JREC_LAST)
			return used;
	}
	return 0;
}

static int transaction_note(struct check *c, uint64_t pos, uint64_t used, struct disk_jrec *d)
{
	const uint64_t end = pos + used;
	int err;

	while (pos < end) {
		if (!record_at(c, pos, d))
			return 0;
		if (le64_get(d->lsn) > c->lsn_seen && le64_get(d->lsn) < CK_NUMBER_MAX)
			c->lsn_seen = le64_get(d->lsn);
		if (le64_get(d->seq) >= c->m->next_seq && le64_get(d->seq) < CK_NUMBER_MAX)
			c->m->next_seq = le64_get(d->seq) + 1;
		for (uint32_t i = 0; i < le32_get(d->count); i++) {
			if (!ck_journal_target(c, le64_get(d->image[i].blkno)))
				continue;
			err = note(c, le64_get(d->image[i].blkno), at(c, pos + 1 + i));
			if (err)
				return err;
		}
		pos += 1 + le32_get(d->count);
	}
	return 0;
}

int ck_ring_scan(struct check *c)
{
	struct disk_jrec *d = mem_alloc(c->o->mem, sizeof(*d));
	uint64_t used;
	int err = 0;

	if (!d)
		return -ENOMEM;
	for (uint64_t pos = 0; pos < ring_blocks(c) && !err; pos += used ? used : 1) {
		used = transaction_at(c, pos, d);
		if (used)
			err = transaction_note(c, pos, used, d);
	}
	return err;
}

/* ------------------------------------------------------------------ apply */

/* The newest word of its group: is there metadata at this place? */
static bool place_is_metadata(struct check *c, uint64_t blkno)
{
	const uint64_t per_group = (uint64_t)GROUP_CLUSTERS * c->cluster_blocks;
	const uint64_t at_group = le64_get(c->super.group_start) + blkno / per_group;
	const struct disk_group *g = ck_read(c, at_group, 0);
	uint64_t found, want;

	if (blkno < c->data_start)
		return true;
	if (!g || ck_header(c, g, at_group, MAGIC_GROUP, 0, &found, &want))
		return true;
	return bit_get(g->meta, blkno % per_group / CHUNK_BLOCKS);
}

/* Records may be lost, so an image counts only over a block that is not newer. */
static void drop_older(struct check *c)
{
	for (uint32_t i = 0; i < c->image_room; i++) {
		struct ck_image *im = &c->images[i];
		const struct disk_header *h;
		uint64_t lsn, found, want;

		if (!im->pos)
			continue;
		lsn = lsn_at(c, im->pos);
		h = ck_read_raw(c, im->blkno, 0);
		if (h &&
			ck_header(c, h, im->blkno, le32_get(h->magic), CK_ANY_OWNER, &found,
				&want) == PROBLEM_NONE &&
			le64_get(h->lsn) > lsn)
			im->pos = im->blkno;
	}
}

int ck_ring_apply(struct check *c)
{
	int err = 0;

	for (uint32_t i = 0; i < c->ring_room && !err; i++)
		if (c->ring[i].pos)
			err = ck_overlay_add(c, c->ring[i].blkno, c->ring[i].pos);
	if (err)
		return err;
	drop_older(c);
	for (uint32_t i = 0; i < c->image_room; i++)
		if (c->images[i].pos && !place_is_metadata(c, c->images[i].blkno))
			c->images[i].pos = c->images[i].blkno;
	c->rep->replayed = c->image_count != 0;
	return 0;
}
