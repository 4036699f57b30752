/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fsck library neither crashes nor runs on, whatever it is given; and what it repairs is sound
 * afterwards.
 */
#include "tests/unit/check_volume.h"

/* ------------------------------------------------------------------ anything at all */

static uint64_t random_block(struct prng *r)
{
	for (;;) {
		uint64_t b = prng_below(r, BLOCKS);

		if (used[b] || prng_below(r, 500) == 0)
			return b;
	}
}

static uint64_t interesting(struct prng *r)
{
	static const uint64_t values[] = {0, 1, 2, 7, 8, 255, 256, 4095, 4096, 65535, 1ull << 31, 1ull << 32,
		1ull << 62, 1ull << 63, UINT64_MAX, UINT64_MAX - 1, BLOCKS, BLOCKS - 1};

	return prng_below(r, 3) ? values[prng_below(r, sizeof(values) / 8)] : prng_u64(r) % (BLOCKS * 8);
}

/* One act of damage; the block that was changed. */
static uint64_t damage(struct prng *r)
{
	uint64_t b = random_block(r), from = random_block(r);
	uint8_t *block = disk + b * BLOCK_SIZE;
	uint64_t v = interesting(r);
	size_t size = 1ul << prng_below(r, 4);
	le64 own = le64_of(b);

	switch (prng_below(r, 6)) {
	case 0:
		block[prng_below(r, BLOCK_SIZE)] ^= (uint8_t)(1u << prng_below(r, 8));
		break;
	case 1:
		memcpy(block, disk + from * BLOCK_SIZE, BLOCK_SIZE);
		break;
	case 2: /* another block's content, as if it belonged here */
		memcpy(block, disk + from * BLOCK_SIZE, BLOCK_SIZE);
		memcpy(block + 24, &own, 8);
		break;
	case 3:
		memset(block + prng_below(r, BLOCK_SIZE / 2), (int)prng_below(r, 256), BLOCK_SIZE / 4);
		break;
	default:
		memcpy(block + prng_below(r, BLOCK_SIZE / 8) * 8, &v, size);
		break;
	}
	/* Most with a right checksum: what a wrong one hides is where the check could fall. */
	if (prng_below(r, 8))
		fields_seal(block);
	return b;
}

/* A repair leaves a clean volume with the same files in the same places. */
static void mends(unsigned round)
{
	const struct check_report before = rep;

	repair = SAFE_REPAIR;
	(void)check();
	repair = NO_REPAIR;
	if (!rep.repaired || check()) {
		verbose = true;
		(void)check();
		fail_msg("damage %u: not clean after its repair", round);
	}
	assert_int_equal(rep.files, before.files);
	assert_int_equal(rep.directories, before.directories);
	assert_int_equal(rep.extents, before.extents);
	assert_int_equal(rep.data_clusters, before.data_clusters);
	assert_int_equal(rep.meta_blocks, before.meta_blocks);
}

/* Damaged volumes that were found to be so, in percent. */
static unsigned fuzz(unsigned n)
{
	const char *rounds = getenv("CSVFS_FUZZ_ROUNDS");
	const char *seed = getenv("CSVFS_SEED");
	unsigned found = 0, mended = 0;

	if (rounds)
		n = (unsigned)atoi(rounds);
	for (unsigned i = 0; i < n; i++) {
		struct prng r = {seed ? strtoull(seed, NULL, 0) + i : i * 7919ull + 17};
		uint64_t changed[8];
		uint32_t count = 1 + (uint32_t)prng_below(&r, 8);

		for (uint32_t k = 0; k < count; k++)
			changed[k] = damage(&r);
		found += check() > 0;
		if (rep.repairable && !rep.replayed) {
			mends(i);
			mended++;
			restore();
			continue;
		}
		for (uint32_t k = 0; k < count; k++)
			restore_block(changed[k]);
	}
	print_message("%u were repaired\n", mended);
	print_message("%u of %u damaged volumes were found to be so\n", found, n);
	assert_clean();
	return found * 100 / n;
}

/*
 * Space and copies follow from the rest: whatever stands there, they are made as they were. Groups say
 * where chunks are, and chunk headers say it too; one of the two must be left.
 */
static void maps_of_space_are_made_anew(uint32_t type)
{
	struct prng r = {5};

	restore();
	memset(disk, 0, BLOCK_SIZE);
	for (uint64_t b = 0; b < BLOCKS; b++) {
		struct disk_header *h = (struct disk_header *)(disk + b * BLOCK_SIZE);
		const uint32_t magic = le32_get(h->magic);

		if (used[b] && (magic == type || magic == MAGIC_SUMMARY))
			h->crc = le32_of((uint32_t)prng_u64(&r));
	}
	assert_true(check() >= 4);
	assert_true(rep.repairable);
	mends(0);
	for (uint64_t b = 0; b < BLOCKS; b++)
		if (used[b])
			assert_memory_equal(disk + b * BLOCK_SIZE + 64, sound + b * BLOCK_SIZE + 64,
				BLOCK_SIZE - 64);
	restore();
}

static void all_maps_of_space_can_be_made_anew(void **state)
{
	maps_of_space_are_made_anew(MAGIC_GROUP);
	maps_of_space_are_made_anew(MAGIC_CHUNK);
}

static void nothing_is_written_when_something_is_lost(void **state)
{
	restore();
	disk[(uint64_t)INO_BLOCK(entry_ino("one")) * BLOCK_SIZE + 9] ^= 1;
	memset(disk, 0, BLOCK_SIZE);
	repair = SAFE_REPAIR;
	assert_true(check() > 0);
	repair = NO_REPAIR;
	assert_false(rep.repairable);
	assert_int_equal(rep.repaired, 0);
	restore();
}

static void random_damage_neither_crashes_nor_hangs_the_check(void **state)
{
	restore();
	assert_true(fuzz(3000) > 50);
}

static void random_damage_of_a_journal_does_not_either(void **state)
{
	make_volume(4096);
	open_volume();
	fill_volume();
	run_sync_crash(rs);
	memcpy(sound, disk, VOLUME_BYTES);
	for (uint64_t b = 0; b < BLOCKS; b++)
		used[b] = layout_at(b) != NULL;
	(void)fuzz(2000); /* much of a journal is of no account */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_maps_of_space_can_be_made_anew),
		cmocka_unit_test(nothing_is_written_when_something_is_lost),
		cmocka_unit_test(random_damage_neither_crashes_nor_hangs_the_check),
		cmocka_unit_test(random_damage_of_a_journal_does_not_either),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
