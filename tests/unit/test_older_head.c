/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * R5 of replay.c: the newer journal head is lost, and replay begins at the older one's tail, where a chunk was metadata
 * that is file data now.
 */
#include "metadata/engine.h"
#include "tests/unit/ops_engine.h"

#define NAMES 24u
#define VOLUME (64ull << 20)

static uint8_t block[BLOCK_SIZE], there[BLOCK_SIZE];

static void read_block(uint64_t blkno, uint8_t *buf)
{
	assert_int_equal(engine.dev.read(engine.dev.ctx, blkno * BLOCK_SIZE, buf, BLOCK_SIZE), 0);
}

static void write_block(uint64_t blkno, const uint8_t *buf)
{
	assert_int_equal(
		engine.dev.write(engine.dev.ctx, blkno * BLOCK_SIZE, buf, BLOCK_SIZE, true), 0);
}

/* Long enough that a few of them need a block of the directory's tree. */
static const char *name_of(uint32_t i)
{
	static char name[NAME_BYTES_MAX + 1];

	memset(name, 'a', 240);
	snprintf(name + 240, 12, "%u", i);
	return name;
}

static void make_names(uint64_t dir)
{
	for (uint32_t i = 0; i < NAMES; i++)
		(void)create(dir, name_of(i));
}

static void remove_names(uint64_t dir)
{
	for (uint32_t i = 0; i < NAMES; i++)
		assert_int_equal(do_name(FS_UNLINK, dir, name_of(i)), 0);
}

/* A block of that directory's tree, in its place. */
static uint64_t tree_block_of(uint64_t dir)
{
	const struct disk_super *s = vol_super(run_sync_vol(engine.rs));

	for (uint64_t b = le64_get(s->data_start); b < le64_get(s->block_count); b++) {
		const struct disk_header *h = (const struct disk_header *)block;

		read_block(b, block);
		if (le32_get(h->magic) == MAGIC_TREE && le64_get(h->owner) == dir)
			return b;
	}
	fail_msg("no tree block");
	return 0;
}

/* `f` gets space up to where block `blkno` is its own, and writes there; where in the file. */
static uint64_t write_at(uint64_t f, uint64_t blkno)
{
	uint64_t lun = blkno * BLOCK_SIZE;

	for (uint64_t off = 0; off < VOLUME; off += CLUSTER) {
		assert_int_equal(do_layout(f, off, CLUSTER, FS_LAYOUT_WRITE), 0);
		for (uint32_t i = 0; i < run.r.reply.extent_count; i++) {
			const struct fs_extent *x = &run.extents[i];
			uint64_t at = x->off + (lun - x->lun_off);

			if (x->state != EXT_UNWRITTEN || lun < x->lun_off ||
				lun >= x->lun_off + x->len)
				continue;
			memset(block, 0x5a, sizeof(block));
			write_block(blkno, block);
			assert_int_equal(do_commit(f, at / CLUSTER * CLUSTER, CLUSTER,
						 at / CLUSTER * CLUSTER + CLUSTER),
				0);
			return at;
		}
	}
	fail_msg("the file never got block %llu", (unsigned long long)blkno);
	return 0;
}

/* Power fails, and of the newer head one bit is wrong. */
static void newer_head_rots(void)
{
	uint64_t heads = le64_get(vol_super(run_sync_vol(engine.rs))->journal_start), which, count[2];

	run_sync_crash(engine.rs);
	for (uint32_t i = 0; i < 2; i++) {
		read_block(heads + i, there);
		count[i] = le64_get(((const struct disk_jhead *)there)->count);
	}
	which = heads + (count[1] > count[0]);
	read_block(which, there);
	there[2000] ^= 1;
	write_block(which, there);
}

struct reused {
	uint64_t root, dir, file, blkno, off;
};

/* The chunk of a directory's tree is given back behind the older head's tail, and is a file's now. */
static void chunk_becomes_data(struct reused *u)
{
	struct check_report rep;

	u->root = engine_mkfs(VOLUME, 4 << 20);
	u->dir = mkdir_(u->root, "d");
	make_names(u->dir);
	u->file = create(u->root, "f");
	assert_int_equal(run_sync_settle(engine.rs), 0);
	u->blkno = tree_block_of(u->dir);
	remove_names(u->dir);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	u->off = write_at(u->file, u->blkno);
	engine_check(&rep);
}

static void an_older_heads_image_of_a_freed_chunk_spares_the_data(void **state)
{
	struct check_report rep;
	struct reused u;

	chunk_becomes_data(&u);
	newer_head_rots();
	engine_check(&rep); /* as replay will leave it */
	engine_open();
	assert_true(vol_needed_replay(run_sync_vol(engine.rs)));
	assert_int_equal(state_at(u.file, u.off), EXT_WRITTEN);
	memset(block, 0x5a, sizeof(block));
	read_block(u.blkno, there);
	assert_memory_equal(block, there, BLOCK_SIZE);
	engine_check(&rep);
	engine_end();
}

/* What the second replay finds in place is what the first one left there. */
static void a_replay_that_power_ends_spares_it_again(void **state)
{
	uint8_t *image = malloc(VOLUME);
	struct check_report rep;
	struct reused u;

	chunk_becomes_data(&u);
	newer_head_rots();
	assert_int_equal(engine.dev.read(engine.dev.ctx, 0, image, VOLUME), 0);
	engine_open();
	run_sync_crash(engine.rs);
	/* All is in place, but the head that says so. */
	for (uint32_t i = 0; i < 2; i++) {
		const struct disk_super *s = (const struct disk_super *)image;
		uint64_t head = le64_get(s->journal_start) + i;

		write_block(head, image + head * BLOCK_SIZE);
	}
	engine_open();
	memset(block, 0x5a, sizeof(block));
	read_block(u.blkno, there);
	assert_memory_equal(block, there, BLOCK_SIZE);
	engine_check(&rep);
	engine_end();
	free(image);
}

static void a_chunk_that_was_data_between_is_metadata_again(void **state)
{
	struct check_report rep;
	struct reused u;

	chunk_becomes_data(&u);
	assert_int_equal(do_name(FS_UNLINK, u.root, "f"), 0);
	make_names(u.dir);
	newer_head_rots();
	engine_check(&rep);
	engine_open();
	for (uint32_t i = 0; i < NAMES; i++)
		assert_int_equal(do_name(FS_LOOKUP, u.dir, name_of(i)), 0);
	engine_check(&rep);
	assert_int_equal(rep.files, NAMES);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_older_heads_image_of_a_freed_chunk_spares_the_data),
		cmocka_unit_test(a_replay_that_power_ends_spares_it_again),
		cmocka_unit_test(a_chunk_that_was_data_between_is_metadata_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
