/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a repair must carry over from the volume that it found: what the claim owes.
 */
#include "tests/unit/check_volume.h"

static void reseal(uint64_t blkno)
{
	fields_seal(disk + blkno * BLOCK_SIZE);
}

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
	return region && disk && sound ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_was_fenced_stays_in_the_claim),
	};

	return cmocka_run_group_tests(tests, memory, teardown);
}
