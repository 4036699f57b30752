/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fuzz/damage.h"

#include <stdlib.h>
#include <string.h>

#include "csvfs/base/assert.h"
#include "csvfs/base/crc32c.h"
#include "metadata/fields.h"
#include "metadata/format_inode.h"
#include "metadata/ops.h"
#include "tests/crash/recover.h"
#include "tests/crash/table.h"

#define PLACES_MAX 8192u
#define EDITED_MAX 128u

/* A block that can be edited; an image in the journal also names its record. */
struct place {
	uint64_t blkno, record;
	uint32_t image;
};

struct volume {
	struct disk *disk;
	struct place place[PLACES_MAX];
	uint32_t places;
};

static struct volume closed, crashed;
static struct disk *work;
static enum damage_where where;
static uint64_t edited[EDITED_MAX];
static uint32_t edited_count;

/* ------------------------------------------------------------------ the volumes */

static void add(struct volume *v, uint64_t blkno, uint64_t record, uint32_t image)
{
	if (v->places < PLACES_MAX)
		v->place[v->places++] = (struct place){blkno, record, image};
}

static bool wanted(uint32_t magic)
{
	switch (where) {
	case DAMAGE_ALL:
		return true;
	case DAMAGE_TREES:
		return magic == MAGIC_INODE || magic == MAGIC_TREE || magic == MAGIC_XATTR;
	case DAMAGE_JOURNAL:
		return magic == MAGIC_JHEAD || magic == MAGIC_JREC;
	}
	return false;
}

static void find_places(struct volume *v)
{
	for (uint64_t b = 0; b < v->disk->pages; b++) {
		const struct disk_header *h = disk_at(v->disk, b * BLOCK_SIZE);
		const struct disk_jrec *r = (const struct disk_jrec *)h;
		uint32_t magic = le32_get(h->magic);

		if (!fields_of(magic) || !fields_sealed(h) || !wanted(magic))
			continue;
		if (magic != MAGIC_JREC && b > CLAIM_BLOCK + 1 && le64_get(h->blkno) != b)
			continue;
		add(v, b, 0, 0);
		for (uint32_t i = 0; magic == MAGIC_JREC && i < le32_get(r->count); i++)
			add(v, b + 1 + i, b, i);
	}
	csv_assert(v->places);
}

/* Power is lost with a journal in use, orphans, and an intent. */
static void lose_power(struct world *w, struct disk *d)
{
	world_open(w, d);
	world_settle(w, true);
	w->hold_places = true;
	for (uint32_t i = 0; i < table_count; i++) {
		struct fs_extent x[16];
		struct fs_reply rp = {.extents = x, .extent_room = 16};
		struct fs_request rq;

		table_request(&table[i], &rq);
		(void)world_request(w, &rq, &rp);
	}
	world_abandon(w);
	w->hold_places = false;
}

void damage_start(enum damage_where what)
{
	struct world *w = world_new(&metadata_ops, false);

	where = what;
	work = disk_new(CRASH_VOLUME_BYTES);
	closed.disk = disk_new(CRASH_VOLUME_BYTES);
	crashed.disk = disk_new(CRASH_VOLUME_BYTES);
	closed.disk->cache = crashed.disk->cache = work->cache = false;
	table_fixture(w, closed.disk, FIXTURE_ROOMY);
	if (where != DAMAGE_JOURNAL)
		find_places(&closed);
	w->vol = NULL;
	table_fixture(w, crashed.disk, FIXTURE_LONG);
	lose_power(w, crashed.disk);
	find_places(&crashed);
	world_free(w);
}

/* ------------------------------------------------------------------ edits */

static uint64_t new_value(const struct volume *v, uint32_t kind, uint32_t n, uint64_t was)
{
	uint64_t blkno = v->place[n % v->places].blkno;

	switch (kind % 8) {
	case 0:
		return n;
	case 1:
		return (uint64_t)n << 16;
	case 2:
		return ~0ull >> n % 64;
	case 3:
		return was + 1;
	case 4:
		return was - 1;
	case 5:
		return blkno;
	case 6:
		return blkno << 3 | (1 + n % 7);
	}
	return was ^ 1ull << n % 64;
}

static void edit_field(const struct volume *v, uint8_t *block, const uint8_t *e, uint32_t n)
{
	const struct block_layout *l = fields_of(le32_get(((struct disk_header *)block)->magic));
	const struct field *f;
	uint64_t was = 0;
	uint32_t at;

	if (!l)
		return;
	f = &l->fields[e[3] % l->field_count];
	at = e[4] % f->count;
	if (field_get(block, f, at, &was))
		(void)field_set(block, f, at, new_value(v, e[5], n, was));
	else
		block[field_offset(f, at) + e[5] % field_bytes(f)] = (uint8_t)n;
}

/* 2, 4 or 8 bytes, wherever. */
static void edit_number(
	const struct volume *v, uint8_t *block, uint32_t off, const uint8_t *e, uint32_t n)
{
	uint32_t bytes = 2u << e[5] / 8 % 3;
	uint64_t was = 0;

	off %= BLOCK_SIZE - 8;
	memcpy(&was, block + off, bytes);
	was = new_value(v, e[5], n, was);
	memcpy(block + off, &was, bytes);
}

static void edit_block(const struct volume *v, uint8_t *block, const uint8_t *e)
{
	uint32_t off = (e[3] | (uint32_t)e[4] << 8) % BLOCK_SIZE, n = e[6] | (uint32_t)e[7] << 8;
	const uint8_t *other = disk_at(v->disk, v->place[n % v->places].blkno * BLOCK_SIZE);
	uint64_t own;

	switch (e[0] % 8) {
	case 0:
		block[off] ^= (uint8_t)(1u << e[5] % 8);
		break;
	case 1:
		edit_field(v, block, e, n);
		break;
	case 2:
		edit_number(v, block, off, e, n);
		break;
	case 3: /* slots of a tree block, or the first inode */
		edit_number(v, block, 64 + e[3] % 128, e, n);
		break;
	case 4: /* the tree in an inode */
		edit_number(v, block, 64 + 144 + e[4] % 7 * 576u + e[3] % 64, e, n);
		break;
	case 5:
		memcpy(block + off % (BLOCK_SIZE - 64), other + off % (BLOCK_SIZE - 64), 64);
		break;
	case 6: /* another block in its place, with or without its number */
		memcpy(&own, block + 32, 8);
		memcpy(block, other, BLOCK_SIZE);
		if (e[5] % 2)
			memcpy(block + 32, &own, 8);
		break;
	case 7:
		if (e[5] % 4)
			edit_field(v, block, e, n);
		else
			memset(block + off, 0, BLOCK_SIZE - off);
		break;
	}
}

static void note_edited(uint64_t blkno)
{
	if (edited_count < EDITED_MAX && blkno < work->pages)
		edited[edited_count++] = blkno;
}

static void edit(const struct volume *v, const uint8_t *e)
{
	const struct place *p = &v->place[(e[1] | (uint32_t)e[2] << 8) % v->places];
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));
	uint8_t record[BLOCK_SIZE] __attribute__((aligned(8)));
	struct disk_jrec *rec = (struct disk_jrec *)record;

	memcpy(block, disk_at(work, p->blkno * BLOCK_SIZE), BLOCK_SIZE);
	note_edited(p->blkno);
	if (p->record)
		note_edited(le64_get(((struct disk_header *)block)->blkno));
	edit_block(v, block, e);
	if (e[0] < 0xf0)
		fields_seal(block);
	disk_write_now(work, p->blkno * BLOCK_SIZE, block, BLOCK_SIZE);
	if (!p->record)
		return;
	memcpy(record, disk_at(work, p->record * BLOCK_SIZE), BLOCK_SIZE);
	rec->image[p->image].crc = le32_of(crc32c(0, block, BLOCK_SIZE));
	fields_seal(record);
	disk_write_now(work, p->record * BLOCK_SIZE, record, BLOCK_SIZE);
}

struct disk *damage_apply(const uint8_t *data, size_t size)
{
	const struct volume *v = &crashed;

	if (where != DAMAGE_JOURNAL && size && data[0] % 2 == 0)
		v = &closed;
	disk_reset(work, v->disk);
	edited_count = 0;
	for (size_t at = 1; at + DAMAGE_EDIT_BYTES <= size; at += DAMAGE_EDIT_BYTES)
		edit(v, data + at);
	return work;
}

uint32_t damage_blocks(const uint64_t **blkno)
{
	*blkno = edited;
	return edited_count;
}
