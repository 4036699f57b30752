/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that somebody made on purpose: each block is sound by itself and has its checksum, together they say what is not so. Whoever
 * mounts one may lose what is on it, but no coordinator stops, and nothing outside of the files is written.
 */
#include "metadata/alloc.h"
#include "metadata/format_inode.h"
#include "metadata/inode.h"
#include "metadata/verify.h"
#include "tests/unit/ops_engine.h"

#define BYTES (256ull << 20)

static uint64_t root, target;

static void make_volume(void)
{
	root = engine_mkfs(BYTES, 8u << 20);
}

/* Not in order: a damaged one may have things left that it cannot do. */
static void drop_volume(void)
{
	run_sync_crash(engine.rs);
	run_sync_mem_free(engine.mem);
	free(engine.region);
}

static const struct disk_super *super(void)
{
	return vol_super(run_sync_vol(engine.rs));
}

static void read_block(uint64_t blkno, void *b)
{
	assert_int_equal(engine.dev.read(engine.dev.ctx, blkno * BLOCK_SIZE, b, BLOCK_SIZE), 0);
}

static void write_block(uint64_t blkno, void *b)
{
	verify_seal(b);
	assert_int_equal(engine.dev.write(engine.dev.ctx, blkno * BLOCK_SIZE, b, BLOCK_SIZE, true), 0);
}

/* ------------------------------------------------------------------ intents */

static enum intent_op says;
static uint32_t has;

static int intent_op(struct txn *t, void *arg)
{
	struct inode in;
	int err = inode_get(t, target, &in);

	if (!err)
		err = inode_intent_set(&in, says, 0, 0);
	if (!err)
		in.d->flags = le32_of((inode_flags(&in) & ~(uint32_t)(INODE_TRUNCATE | INODE_FREEING)) | has);
	return err;
}

/* The record says one thing, the inode another: what the inode is stays. */
static void intent_stands_for(uint64_t ino, enum intent_op op, uint32_t flag)
{
	uint64_t blocks;

	target = ino;
	says = op;
	has = flag;
	rq(FS_GETATTR, ino, NULL);
	assert_int_equal(run_request(), 0);
	blocks = run.r.reply.attr.blocks;
	assert_int_equal(run_sync_op(engine.rs, intent_op, NULL), 0);
	run_sync_crash(engine.rs);
	engine_open();
	(void)run_sync_settle(engine.rs);
	rq(FS_GETATTR, ino, NULL);
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.attr.blocks, blocks);
	assert_int_equal(vol_state(run_sync_vol(engine.rs)), VOL_READY);
}

static void intent_alone_takes_nothing_away(void **state)
{
	static const enum intent_op ops[] = {INTENT_TRUNCATE, INTENT_FREE};

	for (uint32_t i = 0; i < 2; i++) {
		uint64_t ino;

		make_volume();
		assert_int_equal(do_symlink(root, "link", "abc", 3), 0);
		intent_stands_for(run.r.reply.attr.ino, ops[i], 0);
		ino = mkdir_(root, "dir");
		(void)create(ino, "in it");
		intent_stands_for(ino, ops[i], 0);
		ino = create(root, "file");
		assert_int_equal(do_layout(ino, 0, 5 * CLUSTER, FS_LAYOUT_WRITE), 0);
		intent_stands_for(ino, ops[i], 0);
		drop_volume();
	}
	make_volume();
	target = create(root, "file");
	assert_int_equal(do_layout(target, 0, 5 * CLUSTER, FS_LAYOUT_WRITE), 0);
	intent_stands_for(target, INTENT_FREE, INODE_TRUNCATE);
	drop_volume();
}

/* ------------------------------------------------------------------ space */

/* Clusters [from, to) of group g are free, it says. */
static void say_free(const struct disk_super *s, uint64_t g, uint32_t from, uint32_t to)
{
	uint8_t block[BLOCK_SIZE], sum[BLOCK_SIZE];
	struct disk_group *d = (struct disk_group *)block;
	struct disk_summary_entry *e = &((struct disk_summary *)sum)->e[g];

	read_block(le64_get(s->group_start) + g, block);
	read_block(le64_get(s->summary_start), sum);
	for (uint32_t i = from; i < to; i++) {
		if (!alloc_bit(d->used, i))
			continue;
		alloc_bits_fill(d->used, i, 1, false);
		d->free_clusters = le32_of(le32_get(d->free_clusters) + 1);
		e->free_clusters = le16_of(le16_get(e->free_clusters) + 1);
	}
	write_block(le64_get(s->group_start) + g, block);
	write_block(le64_get(s->summary_start), sum);
}

/* A file takes all that there is. All of that lies in [start, end) of the LUN, or nothing does. */
static void take_all(uint64_t start, uint64_t end, bool inside)
{
	uint64_t ino = create(root, "file"), off = 0, n = 0;
	int err;

	do {
		err = do_layout(ino, off, CLUSTER, FS_LAYOUT_WRITE);
		for (uint32_t i = 0; !err && i < run.r.reply.extent_count; i++) {
			const struct fs_extent *x = &run.r.reply.extents[i];

			if (x->state == EXT_HOLE)
				continue;
			if (inside)
				assert_true(x->lun_off >= start && x->lun_off + x->len <= end);
			else
				assert_true(x->lun_off >= end || x->lun_off + x->len <= start);
			off = x->off + x->len;
		}
	} while (!err && ++n < 10000);
	assert_int_equal(err, -ENOSPC);
}

static void fixed_areas_are_not_given_to_files(void **state)
{
	struct disk_super s;
	uint32_t first, last;
	uint64_t start, end;

	make_volume();
	memcpy(&s, super(), sizeof(s));
	start = le64_get(s.data_start) * BLOCK_SIZE;
	end = (le64_get(s.block_count) - 1) * BLOCK_SIZE / CLUSTER * CLUSTER;
	first = (uint32_t)(start / CLUSTER);
	last = (uint32_t)(end / CLUSTER);
	assert_int_equal(run_sync_close(engine.rs), 0);
	say_free(&s, 0, 0, first);
	say_free(&s, last / GROUP_CLUSTERS, last % GROUP_CLUSTERS, GROUP_CLUSTERS);
	engine_open();
	take_all(start, end, true);
	drop_volume();
}

static int block_at(struct txn *t, void *arg)
{
	uint64_t blkno;

	return alloc_block(t, *(uint64_t *)arg, false, &blkno);
}

/* A chunk of metadata where the last copy of the superblock is: only that block is free in it. */
static void last_copy_is_no_block_of_a_chunk(void **state)
{
	uint64_t last, chunk, g, c;
	uint8_t block[BLOCK_SIZE], sum[BLOCK_SIZE];
	struct disk_group *d = (struct disk_group *)block;
	struct disk_chunk *h = (struct disk_chunk *)block;
	struct disk_summary_entry *e;
	struct disk_super s;

	make_volume();
	memcpy(&s, super(), sizeof(s));
	assert_int_equal(run_sync_close(engine.rs), 0);
	last = le64_get(s.block_count) - 1;
	chunk = last / CHUNK_BLOCKS;
	c = chunk % (GROUP_CLUSTERS * CLUSTER / CHUNK_SIZE);
	g = last / (CLUSTER / BLOCK_SIZE) / GROUP_CLUSTERS;
	read_block(le64_get(s.group_start) + g, block);
	read_block(le64_get(s.summary_start), sum);
	alloc_bits_fill(d->meta, (uint32_t)c, 1, true);
	alloc_bits_fill(d->meta_free, (uint32_t)c, 1, true);
	d->meta_chunks = le32_of(le32_get(d->meta_chunks) + 1);
	e = &((struct disk_summary *)sum)->e[g];
	e->flags = le16_of(le16_get(e->flags) | SUMMARY_META_FREE);
	write_block(le64_get(s.group_start) + g, block);
	write_block(le64_get(s.summary_start), sum);
	memset(block, 0, BLOCK_SIZE);
	verify_init_header(block, MAGIC_CHUNK, s.h.uuid, chunk * CHUNK_BLOCKS, 0);
	alloc_bits_fill(h->used, 0, last % CHUNK_BLOCKS, true);
	h->used_blocks = le32_of((uint32_t)(last % CHUNK_BLOCKS));
	write_block(chunk * CHUNK_BLOCKS, block);
	engine_open();
	assert_int_equal(run_sync_op(engine.rs, block_at, &last), -EUCLEAN);
	drop_volume();
}

/* ------------------------------------------------------------------ trees */

#define NAMES 4000

static const char *long_name(uint32_t i)
{
	static char name[NAME_BYTES_MAX + 1];

	snprintf(name, sizeof(name), "%0250u", i);
	return name;
}

/*
 * The second child of a root seems to begin behind its own first leaf. Each node is in order with its own children. A walk comes to
 * these names, the way down from the root does not.
 */
static void names_that_only_a_walk_finds_are_damage(void **state)
{
	uint8_t block[BLOCK_SIZE], child[BLOCK_SIZE];
	uint32_t damaged = 0, gone = 0, there = 0;
	struct disk_node *n, *low;
	struct disk_slot *slot;
	uint64_t dir;
	le64 blkno;
	int err;

	make_volume();
	dir = mkdir_(root, "dir");
	for (uint32_t i = 0; i < NAMES; i++)
		(void)create(dir, long_name(i));
	assert_int_equal(run_sync_close(engine.rs), 0);
	read_block(INO_BLOCK(dir), block);
	n = (struct disk_node *)((struct disk_inode_block *)block)->slot[INO_SLOT(dir) - 1].area;
	assert_int_equal(n->level, 2);
	assert_in_range(le16_get(n->count), 2, 21);
	slot = (struct disk_slot *)(n + 1);
	memcpy(&blkno, (uint8_t *)n + le16_get(slot[1].off), sizeof(blkno));
	read_block(le64_get(blkno), child);
	low = (struct disk_node *)((struct disk_tree_block *)child)->node;
	assert_int_equal(low->level, 1);
	slot[1].key = le64_of(le64_get(((struct disk_slot *)(low + 1))[1].key) - 1);
	write_block(INO_BLOCK(dir), block);
	engine_open();
	for (uint32_t i = 0; i < NAMES; i++) {
		err = do_name(FS_UNLINK, dir, long_name(i));
		damaged += err == -EUCLEAN;
		gone += err == 0;
		there += err != -EUCLEAN && err != 0;
	}
	assert_int_not_equal(damaged, 0);
	assert_in_range(gone, NAMES / 2, NAMES - 1);
	assert_int_equal(there, 0);
	drop_volume();
}

static uint64_t taken;

static int take_block(struct txn *t, void *arg)
{
	return alloc_block(t, 0, false, &taken);
}

static int give_block(struct txn *t, void *arg)
{
	return alloc_free_block(t, taken);
}

/* A chunk of metadata that is not empty, of which the group calls clusters [from, to) free. */
static void make_chunk_of_free_clusters(uint32_t from, uint32_t to)
{
	const uint32_t n = CHUNK_SIZE / CLUSTER;
	struct disk_super s;
	uint64_t first;

	make_volume();
	memcpy(&s, super(), sizeof(s));
	assert_int_equal(run_sync_op(engine.rs, take_block, NULL), 0);
	assert_int_equal(run_sync_close(engine.rs), 0);
	first = taken / CHUNK_BLOCKS * n;
	say_free(&s, first / GROUP_CLUSTERS, (uint32_t)(first % GROUP_CLUSTERS) + from,
		(uint32_t)(first % GROUP_CLUSTERS) + to);
	engine_open();
}

static void chunk_that_is_not_all_used_does_not_become_free(void **state)
{
	const uint32_t n = CHUNK_SIZE / CLUSTER;

	for (uint32_t i = 0; i < 3; i++) {
		make_chunk_of_free_clusters(i == 1 ? n - 1 : 0, i == 0 ? 1 : n);
		assert_int_equal(run_sync_op(engine.rs, give_block, NULL), -EUCLEAN);
		(void)create(root, "after");
		(void)run_sync_settle(engine.rs);
		assert_int_equal(vol_state(run_sync_vol(engine.rs)), VOL_READY);
		drop_volume();
	}
}

static void clusters_of_a_chunk_are_given_to_nobody_else(void **state)
{
	const uint32_t n = CHUNK_SIZE / CLUSTER;
	uint64_t start;

	/* No other chunk is made in its place. */
	make_chunk_of_free_clusters(0, n);
	for (uint32_t i = 0; i < 2 * CHUNK_BLOCKS; i++)
		assert_int_equal(run_sync_op(engine.rs, take_block, NULL), 0);
	(void)run_sync_settle(engine.rs);
	assert_int_equal(vol_state(run_sync_vol(engine.rs)), VOL_READY);
	drop_volume();
	make_chunk_of_free_clusters(0, n);
	start = taken / CHUNK_BLOCKS * CHUNK_SIZE;
	take_all(start, start + CHUNK_SIZE, false);
	drop_volume();
}

/* ------------------------------------------------------------------ extents */

/* The file's only extent is [start, start + len) from now on. */
static void say_extent(uint64_t ino, uint64_t start, uint32_t len, uint32_t state)
{
	struct disk_inode_block b;
	struct disk_inode *d = &b.slot[INO_SLOT(ino) - 1];
	struct disk_extent e = {le64_of(start), le32_of(len), le32_of(state)};
	struct disk_slot s;

	assert_int_equal(run_sync_close(engine.rs), 0);
	read_block(INO_BLOCK(ino), &b);
	memcpy(&s, d->area + sizeof(struct disk_node), sizeof(s));
	assert_int_equal(le16_get(s.len), sizeof(e));
	memcpy(d->area + le16_get(s.off), &e, sizeof(e));
	d->clusters = le64_of(len);
	write_block(INO_BLOCK(ino), &b);
	engine_open();
}

static void no_file_is_given_the_fixed_areas(uint64_t start, uint32_t len, uint32_t state)
{
	uint64_t ino;

	make_volume();
	ino = create(root, "file");
	do_write(ino, 0, 3 * CLUSTER);
	say_extent(ino, start, len, state);
	assert_int_equal(do_layout(ino, 0, CLUSTER, 0), -EUCLEAN);
	assert_int_equal(do_layout(ino, 0, CLUSTER, FS_LAYOUT_WRITE), -EUCLEAN);
	assert_int_equal(do_layout(ino, 4 * CLUSTER, CLUSTER, FS_LAYOUT_WRITE), -EUCLEAN);
	assert_int_equal(do_commit(ino, 0, CLUSTER, CLUSTER), -EUCLEAN);
	assert_int_equal(do_size(ino, 0), -EUCLEAN);
	(void)run_sync_settle(engine.rs);
	assert_int_equal(vol_state(run_sync_vol(engine.rs)), VOL_READY);
	drop_volume();
}

static void extent_must_lie_where_data_may(void **state)
{
	uint64_t first, last;

	make_volume();
	first = le64_get(super()->data_start) * BLOCK_SIZE / CLUSTER;
	last = (le64_get(super()->block_count) - 1) * BLOCK_SIZE / CLUSTER;
	drop_volume();
	for (uint32_t s = EXT_UNWRITTEN; s <= EXT_SHARED; s++) {
		no_file_is_given_the_fixed_areas(0, 3, s);
		no_file_is_given_the_fixed_areas(first - 1, 1, s);
		no_file_is_given_the_fixed_areas(first - 1, 3, s);
		no_file_is_given_the_fixed_areas(last, 1, s);
		no_file_is_given_the_fixed_areas(last - 2, 3, s);
		no_file_is_given_the_fixed_areas(first, (uint32_t)(last - first + 1), s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {

		cmocka_unit_test(intent_alone_takes_nothing_away),
		cmocka_unit_test(fixed_areas_are_not_given_to_files),
		cmocka_unit_test(last_copy_is_no_block_of_a_chunk),
		cmocka_unit_test(clusters_of_a_chunk_are_given_to_nobody_else),
		cmocka_unit_test(chunk_that_is_not_all_used_does_not_become_free),
		cmocka_unit_test(extent_must_lie_where_data_may),
		cmocka_unit_test(names_that_only_a_walk_finds_are_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
