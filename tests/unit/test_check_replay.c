/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a repair must carry over from the volume that it found: what only the journal has, and what the claim owes.
 */
#include "tests/unit/check_volume.h"

#define LATE 3

static uint8_t *found; /* the volume before each repair */

static void fully(void)
{
	repair = FULL_REPAIR;
	(void)check();
	repair = NO_REPAIR;
}

/* ------------------------------------------------------------------ the journal */

static void reseal(uint64_t blkno)
{
	fields_seal(disk + blkno * BLOCK_SIZE);
}

/* The ring does not have this block any more; other images of the same records stay whole. */
static void forget_image(uint64_t blkno)
{
	const struct disk_super *s = (const struct disk_super *)disk;
	const uint64_t ring = le64_get(s->journal_start) + JOURNAL_HEADS;

	for (uint64_t b = ring; b < le64_get(s->data_start); b++) {
		struct disk_jrec *d = (struct disk_jrec *)(disk + b * BLOCK_SIZE);

		if (le32_get(d->magic) != MAGIC_JREC || !fields_sealed(d))
			continue;
		for (uint32_t i = 0; i < le32_get(d->count); i++)
			if (le64_get(d->image[i].blkno) == blkno)
				d->image[i].blkno = le64_of(ring);
		reseal(b);
	}
}

static uint64_t first_of(uint32_t magic)
{
	for (uint64_t b = le64_get(((struct disk_super *)disk)->data_start); b < BLOCKS; b++)
		if (le32_get(((struct disk_header *)(disk + b * BLOCK_SIZE))->magic) == magic)
			return b;
	fail();
	return 0;
}

/* Files that were answered for, and stand in the journal alone; and a lost block that the journal does not have. */
static void files_in_the_journal_and_damage(void)
{
	uint64_t ino, lost;
	char name[16];

	make_volume(4096);
	open_volume();
	ino = make(root(), "victim", FS_MKNOD, S_IFREG | 0644, NULL, 0);
	set_xattr(ino, "user.large", 20000);
	assert_int_equal(run_sync_close(rs), 0);
	lost = first_of(MAGIC_XATTR);
	open_volume();
	for (int i = 0; i < LATE; i++) {
		snprintf(name, sizeof(name), "late%d", i);
		allocate(make(root(), name, FS_MKNOD, S_IFREG | 0644, NULL, 0), 0, 8192);
	}
	run_sync_crash(rs);
	memset(disk + lost * BLOCK_SIZE, 0, BLOCK_SIZE);
	forget_image(lost);
	memcpy(found, disk, VOLUME_BYTES);
}

static int missing(void)
{
	int n = 0;

	open_volume();
	for (int i = 0; i < LATE; i++) {
		struct fs_request rq = {.op = FS_LOOKUP, .ino = root()};
		struct fs_reply rp = {0};

		snprintf(rq.name, sizeof(rq.name), "late%d", i);
		if (request(&rq, &rp) || rp.attr.size != 8192)
			n++;
	}
	assert_int_equal(run_sync_close(rs), 0);
	return n;
}

/* Its heads say early that the journal is empty: what it held must be elsewhere by then, whatever the repair changes of it. */
static void power_that_fails_takes_nothing_that_was_in_the_journal(void **state)
{
	uint64_t all;

	files_in_the_journal_and_damage();
	sectors = 0;
	fully();
	all = sectors;
	assert_true(!repair_err && !rep.left && rep.repaired && rep.replayed);
	assert_int_equal(missing(), 0);
	for (uint64_t at = 0; at < all; at++) {
		memcpy(disk, found, VOLUME_BYTES);
		sectors_left = at;
		fully();
		sectors_left = NEVER;
		fully();
		assert_true(!repair_err && !rep.left);
		if (missing())
			fail_msg("power failed after %u of %u sectors: files are missing", (unsigned)at, (unsigned)all);
	}
	print_message("%u power failures\n", (unsigned)all);
}

/* ------------------------------------------------------------------ the claim */

static void is_owed(const struct claim *c)
{
	assert_true(c->kept && c->node == 3 && c->incarnation == 0x77);
	assert_true(c->fenced_more);
	assert_int_equal(c->fenced_count, 1);
	assert_true(c->fenced[0].node == 7 && c->fenced[0].incarnation == 0x99 && c->fenced[0].name_crc == 5);
}

/* Else the last node to unmount next ends the reservation, and the fenced one writes. */
static void who_was_fenced_stays_in_the_claim(void **state)
{
	const struct disk_super *s = (const struct disk_super *)disk;
	struct disk_group *g;
	struct claim c;
	uint64_t epoch;

	for (int i = 0; i < 2; i++) {
		make_volume(4096);
		assert_int_equal(claim_decode(&c, disk + CLAIM_BLOCK * BLOCK_SIZE, NULL), 0);
		c.state = i ? CLAIM_HELD : CLAIM_CLEAN;
		c.node = 3;
		c.incarnation = 0x77;
		c.kept = c.fenced_more = true;
		c.fenced_count = 1;
		c.fenced[0] = (struct claim_fenced){7, 0x99, 5};
		c.heartbeat += 10;
		epoch = c.epoch;
		claim_encode(&c, disk + CLAIM_BLOCK * BLOCK_SIZE);
		claim_encode(&c, disk + (CLAIM_BLOCK + 1) * BLOCK_SIZE);
		g = (struct disk_group *)(disk + le64_get(s->group_start) * BLOCK_SIZE);
		g->free_clusters = le32_of(5);
		reseal(le64_get(s->group_start));
		repair = SAFE_REPAIR;
		(void)check();
		repair = NO_REPAIR;
		assert_true(!repair_err && rep.repaired);
		for (uint64_t b = CLAIM_BLOCK; b < CLAIM_BLOCK + 2; b++) {
			assert_int_equal(claim_decode(&c, disk + b * BLOCK_SIZE, NULL), 0);
			assert_true(c.state == CLAIM_CLEAN && c.epoch > epoch);
			is_owed(&c);
		}
		assert_clean();
	}
}

static int memory(void **state)
{
	region = aligned_alloc(4096, MEM_BYTES);
	disk = aligned_alloc(4096, VOLUME_BYTES);
	sound = aligned_alloc(4096, VOLUME_BYTES);
	found = aligned_alloc(4096, VOLUME_BYTES);
	return region && disk && sound && found ? 0 : -1;
}

static int no_memory(void **state)
{
	free(found);
	return teardown(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_that_fails_takes_nothing_that_was_in_the_journal),
		cmocka_unit_test(who_was_fenced_stays_in_the_claim),
	};

	return cmocka_run_group_tests(tests, memory, no_memory);
}
