/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations on layouts, sizes and space one by one, and how files end. */
#include "tests/unit/ops_fixture.h"

/* ------------------------------------------------------------------ layouts and space */

static void first_write_gets_space_and_commit_makes_it_written(void **state)
{
	uint64_t f = create(root, "f"), version;

	assert_int_equal(do_layout(f, 100, 10, 0), 0);
	assert_int_equal(run.r.reply.extent_count, 1);
	assert_int_equal(run.extents[0].state, EXT_HOLE);
	assert_int_equal(run.extents[0].len, CLUSTER);
	assert_int_equal(do_layout(f, 100, 10, FS_LAYOUT_WRITE), 0);
	version = run.r.reply.attr.version;
	assert_int_equal(run.extents[0].state, EXT_UNWRITTEN);
	assert_int_equal(run.extents[0].off, 0);
	assert_true(run.extents[0].lun_off >= FAKE_CLUSTER_FIRST * CLUSTER);
	assert_int_equal(attr_of(f).size, 0);
	assert_int_equal(attr_of(f).blocks, CLUSTER / 512);

	assert_int_equal(do_commit(f, 0, CLUSTER, 110), 0);
	assert_int_equal(attr_of(f).size, 110);
	assert_true(attr_of(f).mtime_ns == WRITTEN_NS);
	assert_true(attr_of(f).ctime_ns == WRITTEN_NS);
	assert_int_equal(state_at(f, 0), EXT_WRITTEN);
	/* Twice does no harm, over a hole neither; a smaller size does not shrink. */
	assert_int_equal(do_commit(f, 0, 10 * CLUSTER, 50), 0);
	assert_int_equal(attr_of(f).size, 110);
	assert_int_equal(state_at(f, CLUSTER), EXT_HOLE);
	assert_int_equal(attr_of(f).version, version);
	assert_int_equal(do_commit(f, 1, CLUSTER, 0), -EINVAL);
	assert_int_equal(do_layout(root, 0, 1, 0), -EISDIR);
	assert_int_equal(do_layout(f, 0, 0, 0), -EINVAL);
}

static struct fs_attr written_at(uint64_t ino, int64_t when_ns)
{
	struct fs_request *q = rq(FS_LAYOUT_COMMIT, ino, NULL);

	q->valid = FS_SET_MTIME;
	q->attr.mtime_ns = when_ns;
	assert_int_equal(run_request(), 0);
	return attr_of(ino);
}

static struct fs_attr read_at(uint64_t ino, int64_t when_ns)
{
	struct fs_request *q = rq(FS_LAYOUT_COMMIT, ino, NULL);

	q->valid = FS_SET_ATIME;
	q->attr.atime_ns = when_ns;
	assert_int_equal(run_request(), 0);
	return attr_of(ino);
}

static void read_sets_atime_once_after_a_change_and_once_a_day(void **state)
{
	uint64_t f = create(root, "f");
	int64_t made = attr_of(f).ctime_ns;
	struct fs_attr a = read_at(f, made + 10);

	assert_true(a.atime_ns == made + 10 && a.mtime_ns == made && a.ctime_ns == made);
	assert_true(read_at(f, made + 20).atime_ns == made + 10);
	a = written_at(f, made + 30);
	assert_true(a.atime_ns == made + 10);
	assert_true(read_at(f, made + 40).atime_ns == made + 40);
	assert_true(read_at(f, made + 50).atime_ns == made + 40);
	assert_true(read_at(f, made + 40 + FS_ATIME_AGE_NS).atime_ns == made + 40 + FS_ATIME_AGE_NS);
}

static struct fs_attr mtime_set(uint64_t ino, int64_t ns)
{
	struct fs_request *q = rq(FS_SETATTR, ino, NULL);

	q->valid = FS_SET_MTIME;
	q->attr.mtime_ns = ns;
	assert_int_equal(run_request(), 0);
	return attr_of(ino);
}

static void news_of_a_write_turns_no_newer_time_back(void **state)
{
	uint64_t f = create(root, "f");
	int64_t then = attr_of(f).ctime_ns, set;
	struct fs_attr a = written_at(f, then - 1000);

	assert_true(a.mtime_ns == then && a.ctime_ns == then);
	/* set to the past, and written before that: the write shows; it may have come after, too */
	set = mtime_set(f, 5).ctime_ns;
	a = written_at(f, set - 1);
	assert_true(a.mtime_ns == set - 1 && a.ctime_ns == set);
	/* set to the future, and written behind that */
	set = mtime_set(f, WRITTEN_NS).ctime_ns;
	a = written_at(f, set + 1);
	assert_true(a.mtime_ns == set + 1 && a.ctime_ns == set + 1);
}

static void commit_of_other_clusters_than_are_there_now_is_ignored(void **state)
{
	uint64_t f = create(root, "f");
	struct fs_extent x;
	struct fs_request *q;

	assert_int_equal(do_layout(f, 0, 1, FS_LAYOUT_WRITE), 0);
	x = run.extents[0];
	x.len = CLUSTER;
	x.lun_off += CLUSTER;
	q = rq(FS_LAYOUT_COMMIT, f, NULL);
	q->extents = &x;
	q->extent_count = 1;
	assert_int_equal(run_request(), 0);
	assert_int_equal(state_at(f, 0), EXT_UNWRITTEN);
	x.lun_off -= CLUSTER;
	q = rq(FS_LAYOUT_COMMIT, f, NULL);
	q->extents = &x;
	q->extent_count = 1;
	assert_int_equal(run_request(), 0);
	assert_int_equal(state_at(f, 0), EXT_WRITTEN);
}

/* What a reply with FS_LAYOUT_AROUND shows: no gap, the asked place in it, and written space before it. */
static void check_around(uint64_t off, uint64_t first)
{
	uint64_t at = first;

	assert_int_equal(run.extents[0].off, first);
	for (uint32_t i = 0; i < run.r.reply.extent_count; i++) {
		assert_int_equal(run.extents[i].off, at);
		at += run.extents[i].len;
		if (at <= off)
			assert_int_equal(run.extents[i].state, EXT_WRITTEN);
	}
	assert_true(at > off);
}

static void layout_around_begins_with_the_written_space_before(void **state)
{
	uint64_t f = create(root, "f");

	/* Clusters 0 to 2 WRITTEN, 3 a hole, 4 to 9 WRITTEN, 10 UNWRITTEN, 11 WRITTEN. */
	assert_int_equal(do_layout(f, 0, 3 * CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(do_commit(f, 0, 3 * CLUSTER, 3 * CLUSTER), 0);
	assert_int_equal(do_layout(f, 4 * CLUSTER, 8 * CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(do_commit(f, 4 * CLUSTER, 6 * CLUSTER, 10 * CLUSTER), 0);
	assert_int_equal(do_commit(f, 11 * CLUSTER, CLUSTER, 12 * CLUSTER), 0);

	assert_int_equal(do_layout(f, 8 * CLUSTER, 1, 0), 0);
	assert_int_equal(run.extents[0].off, 8 * CLUSTER);
	assert_int_equal(do_layout(f, 8 * CLUSTER, 1, FS_LAYOUT_AROUND), 0);
	check_around(8 * CLUSTER, 4 * CLUSTER);
	/* One extent on the LUN is one in the reply. */
	assert_int_equal(run.extents[0].len, 6 * CLUSTER);
	assert_int_equal(do_layout(f, 2 * CLUSTER, 1, FS_LAYOUT_AROUND), 0);
	check_around(2 * CLUSTER, 0);
	/* Holes and unwritten space are not for everybody to know: they are not told unasked. */
	assert_int_equal(do_layout(f, 4 * CLUSTER, 1, FS_LAYOUT_AROUND), 0);
	check_around(4 * CLUSTER, 4 * CLUSTER);
	assert_int_equal(do_layout(f, 11 * CLUSTER, 1, FS_LAYOUT_AROUND), 0);
	check_around(11 * CLUSTER, 11 * CLUSTER);
	assert_int_equal(do_layout(f, 0, 1, FS_LAYOUT_AROUND), 0);
	check_around(0, 0);
}

static void layout_near_tells_nothing_behind_the_range_but_what_was_allocated(void **state)
{
	uint64_t f = create(root, "f");

	/* Clusters 0 and 9 to 11 WRITTEN, the rest a hole. */
	assert_int_equal(do_layout(f, 0, CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(do_commit(f, 0, CLUSTER, CLUSTER), 0);
	assert_int_equal(do_layout(f, 9 * CLUSTER, 3 * CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(do_commit(f, 9 * CLUSTER, 3 * CLUSTER, 12 * CLUSTER), 0);
	assert_int_equal(do_layout(f, 4 * CLUSTER, CLUSTER, FS_LAYOUT_WRITE | FS_LAYOUT_NEAR), 0);
	assert_int_equal(run.r.reply.extent_count, 1);
	assert_int_equal(run.extents[0].off, 4 * CLUSTER);
	assert_int_equal(run.extents[0].len, CLUSTER);
	assert_int_equal(run.extents[0].state, EXT_UNWRITTEN);
	/* All of the range, whatever it is. */
	assert_int_equal(do_layout(f, 3 * CLUSTER, 7 * CLUSTER, FS_LAYOUT_NEAR), 0);
	assert_int_equal(run.r.reply.extent_count, 4);
	assert_int_equal(run.extents[3].state, EXT_WRITTEN);
	/* A streaming writer is told of what is ahead. */
	assert_int_equal(do_layout(f, 12 * CLUSTER, CLUSTER, FS_LAYOUT_WRITE | FS_LAYOUT_NEAR), 0);
	assert_true(run.extents[0].off == 12 * CLUSTER && run.extents[0].len > CLUSTER);
}

/* A random writer's file: many extents, and a reply that has no room for all of them. */
static void layout_around_keeps_to_the_room_of_the_reply(void **state)
{
	uint64_t f = create(root, "f"), n = 3 * EXTENT_ROOM;

	for (uint64_t i = 0; i < n; i++) {
		uint64_t at = i * 7 % n * CLUSTER; /* in an order that joins nothing */

		assert_int_equal(do_layout(f, at, 1, FS_LAYOUT_WRITE), 0);
		assert_int_equal(do_commit(f, at, CLUSTER, at + CLUSTER), 0);
	}
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(do_layout(f, i * CLUSTER, 1, FS_LAYOUT_AROUND), 0);
		assert_true(run.r.reply.extent_count <= EXTENT_ROOM);
		check_around(i * CLUSTER, run.extents[0].off);
		if (n - i < EXTENT_ROOM / 2)
			assert_true(run.extents[0].off < i * CLUSTER);
	}
}

static void streaming_writer_gets_one_extent_and_space_ahead(void **state)
{
	uint64_t f = create(root, "f");

	run.faults = false;
	for (uint64_t off = 0; off < 64 << 20; off += CLUSTER)
		do_write(f, off, CLUSTER);
	assert_int_equal(do_layout(f, 0, 64 << 20, 0), 0);
	assert_int_equal(run.extents[0].state, EXT_WRITTEN);
	assert_int_equal(run.extents[0].len, 64 << 20);
	assert_true(attr_of(f).blocks * 512 <= 192 << 20);
	/* What is ahead goes when nobody has it open any more, and not before. */
	run_set_open(f, true);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_true(attr_of(f).blocks * 512 > 64 << 20);
	run_set_open(f, false);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	run_background();
	assert_int_equal(attr_of(f).blocks * 512, 64 << 20);
	assert_int_equal(attr_of(f).size, 64 << 20);
}

static void scattered_writers_get_nothing_ahead(void **state)
{
	uint64_t f = create(root, "f");

	/* Not even when their sizes are not committed yet. */
	for (uint64_t off = 40; off < 400; off += 7)
		assert_int_equal(do_layout(f, off * CLUSTER, CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(attr_of(f).blocks * 512, (400 - 40 + 6) / 7 * CLUSTER);
}

static void small_file_takes_one_cluster(void **state)
{
	uint64_t f = create(root, "f");

	do_write(f, 0, 5000);
	assert_int_equal(attr_of(f).blocks * 512, CLUSTER);
}

static void no_space_is_said_only_when_nothing_was_got(void **state)
{
	uint64_t f = create(root, "f"), g = create(root, "g");

	run.faults = false;
	fake.cluster_count = FAKE_CLUSTER_FIRST + 4;
	do_write(g, 0, 2 * CLUSTER);
	assert_int_equal(do_layout(f, 0, 10 * CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(run.extents[0].len, 2 * CLUSTER);
	assert_int_equal(run.extents[1].state, EXT_HOLE);
	assert_int_equal(do_layout(f, 2 * CLUSTER, 8 * CLUSTER, FS_LAYOUT_WRITE), -ENOSPC);
	assert_int_equal(do_layout(f, CLUSTER, 8 * CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(do_fallocate(f, 0, 3 * CLUSTER, 0), -ENOSPC);
	assert_int_equal(do_name(FS_UNLINK, root, "g"), 0);
	assert_int_equal(do_layout(f, 2 * CLUSTER, CLUSTER, FS_LAYOUT_WRITE), 0);
}

static void shrinking_frees_what_is_behind_the_end(void **state)
{
	uint64_t f = create(root, "f"), version;

	do_write(f, 0, 10 * CLUSTER);
	version = attr_of(f).version;
	assert_int_equal(do_size(f, 2 * CLUSTER + 1), 0);
	assert_int_equal(attr_of(f).blocks * 512, 3 * CLUSTER);
	assert_true(attr_of(f).version > version);
	assert_int_equal(do_size(f, 9 * CLUSTER), 0);
	assert_int_equal(state_at(f, 2 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 3 * CLUSTER), EXT_HOLE);
	assert_int_equal(do_size(f, 0), 0);
	assert_int_equal(fake.clusters_used, 0);
}

/* A file of n extents: every second cluster of it. */
static uint64_t scattered(const char *name, uint32_t n)
{
	uint64_t f = create(root, name);
	bool faults = run.faults;

	run.faults = false;
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(do_layout(f, 2 * i * CLUSTER, 1, FS_LAYOUT_WRITE), 0);
		assert_int_equal(do_commit(f, 2 * i * CLUSTER, CLUSTER, 2 * i * CLUSTER + 1), 0);
		fake.cluster_hint = FAKE_CLUSTER_FIRST + i * 61 % 50000;
	}
	run.faults = faults;
	return f;
}

static void large_truncate_takes_effect_at_once_and_space_comes_back_later(void **state)
{
	uint64_t f, left;

	fake.run_max = 1;
	f = scattered("f", 6000);
	run.steps = 0;
	run.faults = false;
	assert_int_equal(do_size(f, CLUSTER), 0);
	assert_int_equal(run.steps, 1);
	assert_int_equal(attr_of(f).size, CLUSTER);
	left = fake.clusters_used;
	assert_true(left > 1);
	check_volume();
	/* Others are not held up. */
	run.steps = 0;
	create(root, "g");
	assert_int_equal(run.steps, 1);
	/* Whoever makes the file grow sees none of the old extents. */
	assert_int_equal(do_size(f, 12000 * CLUSTER), 0);
	assert_int_equal(fake.clusters_used, 1);
	assert_int_equal(state_at(f, 2000 * CLUSTER), EXT_HOLE);
	assert_int_equal(run_background(), 0);
	assert_int_equal(le64_get(fake.super.intent_root), 0);
}

static void large_file_is_unlinked_at_once_and_freed_later(void **state)
{
	uint64_t f, steps;

	fake.run_max = 1;
	f = scattered("f", 6000);
	run.faults = true;
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_true(fake.clusters_used > 0);
	assert_int_equal(do_getattr(f), -ESTALE);
	assert_int_equal(do_name(FS_LOOKUP, f, "."), -ESTALE);
	check_volume();
	assert_true(fake.kicks > 0);
	steps = run_background();
	assert_true(steps >= 5 && steps < 100);
	assert_int_equal(fake.clusters_used, 0);
	assert_int_equal(fake.blocks_used, 0);
	assert_int_equal(fake.inodes_used, 1);
}

static void truncated_large_file_can_be_unlinked_meanwhile(void **state)
{
	uint64_t f;

	run.faults = false;
	f = scattered("f", 6000);
	assert_int_equal(do_size(f, 1), 0);
	assert_true(le64_get(fake.super.intent_root) != 0);
	run_set_open(f, true);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(attr_of(f).nlink, 0);
	run_set_open(f, false);
	assert_int_equal(do_name(FS_FREE_ORPHAN, f, ""), 0);
	run_background();
	assert_int_equal(fake.inodes_used, 1);
	assert_int_equal(fake.blocks_used, 0);
}

static void unlinked_file_lives_until_its_last_close(void **state)
{
	uint64_t f = create(root, "f"), g = create(root, "g");

	do_write(f, 0, CLUSTER);
	run_set_open(f, true);
	run_set_open(g, true);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(do_rename(root, "g", root, "h", 0), 0);
	create(root, "i");
	assert_int_equal(do_rename(root, "i", root, "h", 0), 0);
	assert_int_equal(attr_of(f).nlink, 0);
	assert_int_equal(attr_of(f).size, CLUSTER);
	do_write(f, CLUSTER, CLUSTER);
	assert_int_equal(do_link(f, root, "again"), -ENOENT);
	/* Asked too early: it stays. */
	assert_int_equal(do_name(FS_FREE_ORPHAN, f, ""), 0);
	assert_int_equal(attr_of(f).nlink, 0);
	check_volume();
	/* After a crash only f is found to be open still. */
	run_set_open(g, false);
	rq(FS_FREE_ORPHAN, 0, NULL);
	run.faults = false;
	assert_int_equal(run_request(), 0);
	assert_int_equal(run.r.reply.off, g);
	rq(FS_FREE_ORPHAN, 0, NULL);
	assert_int_equal(run_request(), -ENOENT);
	assert_int_equal(do_getattr(g), -ESTALE);
	run_set_open(f, false);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_int_equal(do_getattr(f), -ESTALE);
	assert_int_equal(do_name(FS_FREE_ORPHAN, f, ""), 0);
	assert_int_equal(fake.clusters_used, 0);
	assert_int_equal(le64_get(fake.super.orphan_root), 0);
}

static void nothing_is_lost_when_a_tree_finds_no_block_for_what_was_allocated(void **state)
{
	uint64_t a = create(root, "a"), b = create(root, "b");
	uint32_t failed = 0;

	run.faults = false;
	/* Holes of one cluster each on the LUN, so that each allocation is an extent. */
	do_write(b, 0, 200 * CLUSTER);
	for (uint64_t c = 0; c < 200; c += 2)
		assert_int_equal(do_fallocate(b, c * CLUSTER, CLUSTER,
					 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
			0);
	fake.cluster_hint = FAKE_CLUSTER_FIRST;
	do_write(a, 0, 12 * CLUSTER);
	for (uint32_t n = 1; n < 20; n++) {
		fake.fail_alloc = n;
		/* No cluster: what was got is enough. No block for the tree: all is undone. */
		if (do_layout(a, 12 * CLUSTER, 9 * CLUSTER, FS_LAYOUT_WRITE))
			failed++;
		fake.fail_alloc = 0;
		check_volume();
		assert_int_equal(do_size(a, 12 * CLUSTER), 0);
		check_volume();
	}
	assert_int_equal(failed, 1);
}

static void full_volume_can_be_emptied(void **state)
{
	uint64_t f, g = create(root, "g"), h = create(root, "h");

	run.faults = false;
	f = scattered("f", 6000);
	do_write(h, 0, 100 * CLUSTER);
	fake.blocks_limit = fake.blocks_used; /* from here on only of the reserve */
	assert_int_equal(do_setxattr(g, "user.a", "v", 1, 0), -ENOSPC);
	run_set_open(g, true);
	assert_int_equal(do_name(FS_UNLINK, root, "g"), 0);
	/* A hole, and a state: more extents than before. */
	for (uint64_t c = 1; c < 100; c += 2)
		assert_int_equal(do_fallocate(h, c * CLUSTER, CLUSTER,
					 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE),
			0);
	assert_int_equal(do_size(f, CLUSTER), 0);
	assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	assert_int_equal(do_name(FS_UNLINK, root, "h"), 0);
	run_background();
	run_set_open(g, false);
	assert_int_equal(do_name(FS_FREE_ORPHAN, g, ""), 0);
	assert_int_equal(fake.clusters_used, 0);
	assert_int_equal(fake.blocks_used, 0);
}

static void what_was_written_is_committed_on_a_full_volume(void **state)
{
	uint64_t f = create(root, "f");

	run.faults = false;
	assert_int_equal(do_fallocate(f, 0, 1000 * CLUSTER, 0), 0);
	fake.blocks_limit = 1;
	for (uint64_t c = 0; c < 1000; c += 2)
		assert_int_equal(do_commit(f, c * CLUSTER, CLUSTER, 0), 0);
	assert_int_equal(state_at(f, 500 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 501 * CLUSTER), EXT_UNWRITTEN);
}

static void commit_of_everything_goes_in_steps(void **state)
{
	const uint64_t n = 20000;
	uint64_t f = create(root, "f");

	run.faults = false;
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(do_layout(f, 2 * i * CLUSTER, 1, FS_LAYOUT_WRITE), 0);
	run.steps = 0;
	assert_int_equal(do_commit(f, 0, 2 * n * CLUSTER, 2 * n * CLUSTER), 0);
	assert_true(run.steps > 1);
	assert_int_equal(attr_of(f).size, 2 * n * CLUSTER);
	for (uint64_t i = 0; i < n; i += 777)
		assert_int_equal(state_at(f, 2 * i * CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 2 * (n - 1) * CLUSTER), EXT_WRITTEN);
}

static void append_gives_each_its_own_room(void **state)
{
	uint64_t f = create(root, "f");

	for (uint64_t i = 0; i < 5; i++) {
		rq(FS_APPEND, f, NULL)->len = 1000;
		assert_int_equal(run_request(), 0);
		assert_int_equal(run.r.reply.off, i * 1000);
		assert_int_equal(run.r.reply.attr.size, i * 1000 + 1000);
	}
}

static void fallocate_gives_space_that_reads_as_zero(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(do_fallocate(f, 100, 3 * CLUSTER, 0), 0);
	assert_int_equal(attr_of(f).size, 3 * CLUSTER + 100);
	assert_int_equal(attr_of(f).blocks * 512, 4 * CLUSTER);
	assert_int_equal(state_at(f, 0), EXT_UNWRITTEN);
	assert_int_equal(do_fallocate(f, 8 * CLUSTER, CLUSTER, FALLOC_FL_KEEP_SIZE), 0);
	assert_int_equal(attr_of(f).size, 3 * CLUSTER + 100);
	assert_int_equal(attr_of(f).blocks * 512, 5 * CLUSTER);
	/* That was asked for: it stays at close. */
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_int_equal(attr_of(f).blocks * 512, 5 * CLUSTER);
	assert_int_equal(do_size(f, 3 * CLUSTER), 0);
	assert_int_equal(attr_of(f).blocks * 512, 3 * CLUSTER);
	/* It went with the end of the file, and what is ahead of a writer now goes at close. */
	do_write(f, 3 * CLUSTER, 4 * CLUSTER);
	assert_true(attr_of(f).blocks * 512 > 7 * CLUSTER);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	assert_int_equal(attr_of(f).blocks * 512, 7 * CLUSTER);
	assert_int_equal(do_fallocate(f, 0, 0, 0), -EINVAL);
	assert_int_equal(do_fallocate(f, 0, 1, FALLOC_FL_COLLAPSE_RANGE), -EOPNOTSUPP);
	assert_int_equal(do_fallocate(f, 0, 1, FALLOC_FL_PUNCH_HOLE), -EOPNOTSUPP);
	assert_int_equal(do_fallocate(f, FILE_BYTES_MAX, 1, 0), -EFBIG);
	assert_int_equal(do_fallocate(root, 0, 1, 0), -ENODEV);
}

static void fallocate_of_a_fragmented_volume_goes_in_steps(void **state)
{
	uint64_t f = create(root, "f");

	fake.run_max = 1;
	run.faults = false;
	run.steps = 0;
	assert_int_equal(do_fallocate(f, 0, 5000 * CLUSTER, 0), 0);
	assert_true(run.steps > 50);
	assert_int_equal(attr_of(f).size, 5000 * CLUSTER);
	assert_int_equal(attr_of(f).blocks * 512, 5000 * CLUSTER);
	/* More than there is: refused before anything is taken. */
	assert_int_equal(do_fallocate(f, 0, 70000 * CLUSTER, 0), -ENOSPC);
	assert_int_equal(fake.clusters_used, 5000);
}

/* Of more extents than one operation can free: another node may write there before all are, and nothing takes that away. */
static void a_punch_of_very_many_extents_takes_effect_at_once(void **state)
{
	const uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	uint64_t f;

	fake.run_max = 1;
	run.faults = false;
	f = scattered("f", 6000);
	run.steps = 0;
	assert_int_equal(do_fallocate(f, 10 * CLUSTER, 11000 * CLUSTER, punch), 0);
	assert_int_equal(run.steps, 1);
	assert_int_not_equal(le64_get(fake.super.intent_root), 0);
	assert_true(fake.clusters_used > 1000);
	check_volume();
	do_write(f, 20 * CLUSTER, CLUSTER);
	run_background();
	assert_int_equal(le64_get(fake.super.intent_root), 0);
	assert_int_equal(state_at(f, 20 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 10 * CLUSTER), EXT_HOLE);
	assert_int_equal(state_at(f, 8 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(fake.clusters_used, 5 + 1 + (12000 - 11010) / 2);
	/* It may be truncated, closed or unlinked before. */
	for (unsigned i = 0; i < 3; i++) {
		f = scattered("g", 6000);
		assert_int_equal(do_fallocate(f, 0, 11000 * CLUSTER, punch), 0);
		assert_int_not_equal(le64_get(fake.super.intent_root), 0);
		assert_int_equal(i == 0	  ? do_size(f, CLUSTER)
				 : i == 1 ? do_name(FS_CLOSE, f, "")
					  : 0,
			0);
		assert_int_equal(do_name(FS_UNLINK, root, "g"), 0);
		run_background();
		check_volume();
	}
}

/* The space first, in steps that nobody sees; then all of it is zero at once. */
static void so_does_a_range_that_is_zeroed(void **state)
{
	uint64_t f;

	fake.run_max = 1;
	run.faults = false;
	f = scattered("f", 6000);
	assert_int_equal(do_fallocate(f, 0, 11000 * CLUSTER, FALLOC_FL_ZERO_RANGE), 0);
	assert_int_not_equal(le64_get(fake.super.intent_root), 0);
	check_volume();
	do_write(f, 20 * CLUSTER, CLUSTER);
	run_background();
	assert_int_equal(state_at(f, 20 * CLUSTER), EXT_WRITTEN);
	for (uint64_t i = 0; i < 11000; i += 99)
		assert_int_equal(state_at(f, i * CLUSTER), EXT_UNWRITTEN);
	assert_int_equal(state_at(f, 11000 * CLUSTER), EXT_WRITTEN);
}

/* It goes in steps, and between two of them what is ahead of writers is taken back. */
static void what_fallocate_keeps_behind_the_end_is_kept_from_its_first_step_on(void **state)
{
	uint64_t f = create(root, "f");
	struct vol_req half;

	fake.run_max = 1;
	run.faults = false;
	do_write(f, 0, CLUSTER);
	rq(FS_FALLOCATE, f, NULL);
	run.r.rq.len = 500 * CLUSTER;
	run.r.rq.flags = FALLOC_FL_KEEP_SIZE;
	assert_int_equal(run_once(op_execute), -EINPROGRESS);
	half = run.r;
	rq(FS_FREE_ORPHAN, f, NULL)->flags = FS_TRIM_OPEN;
	assert_int_equal(run_request(), 0);
	run.r = half;
	assert_int_equal(run_request_once(), 0);
	assert_int_equal(attr_of(f).size, CLUSTER);
	assert_int_equal(attr_of(f).blocks * 512, 500 * CLUSTER);
}

static void punch_frees_whole_clusters(void **state)
{
	const uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	uint64_t f = create(root, "f");

	do_write(f, 0, 10 * CLUSTER);
	assert_int_equal(do_fallocate(f, CLUSTER + 1, 3 * CLUSTER, punch), 0);
	assert_int_equal(state_at(f, CLUSTER), EXT_WRITTEN);
	assert_int_equal(state_at(f, 2 * CLUSTER), EXT_HOLE);
	assert_int_equal(state_at(f, 3 * CLUSTER), EXT_HOLE);
	assert_int_equal(state_at(f, 4 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(attr_of(f).blocks * 512, 8 * CLUSTER);
	assert_int_equal(attr_of(f).size, 10 * CLUSTER);
	assert_int_equal(do_fallocate(f, 9 * CLUSTER + 5, CLUSTER, punch), 0);
	assert_int_equal(state_at(f, 9 * CLUSTER), EXT_WRITTEN);
	assert_int_equal(do_fallocate(f, 0, FILE_BYTES_MAX, punch), 0);
	assert_int_equal(fake.clusters_used, 0);
}

static void range_that_cuts_written_clusters_needs_somebody_to_zero_them(void **state)
{
	const uint32_t punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	static const struct {
		uint64_t off, len;
		int err;
	} cases[] = {
		{CLUSTER, CLUSTER, 0}, {CLUSTER + 1, CLUSTER - 1, -EOPNOTSUPP},
		{CLUSTER, CLUSTER - 1, -EOPNOTSUPP}, {1, 2, -EOPNOTSUPP},
		{3 * CLUSTER, CLUSTER + 5, 0}, /* behind the end */
		{2 * CLUSTER + 7, 9 * CLUSTER, -EOPNOTSUPP},
		{6 * CLUSTER + 7, 9 * CLUSTER, 0}, /* unwritten, and a hole */
	};

	for (unsigned int i = 0; i < 14; i++) {
		uint64_t f = create(root, "f");
		struct fs_request *q;

		do_write(f, 0, 3 * CLUSTER + 100);
		assert_int_equal(do_fallocate(f, 6 * CLUSTER, CLUSTER, FALLOC_FL_KEEP_SIZE), 0);
		q = rq(FS_FALLOCATE, f, NULL);
		q->flags = i % 2 ? punch : FALLOC_FL_ZERO_RANGE;
		q->off = cases[i / 2].off;
		q->len = cases[i / 2].len;
		assert_int_equal(run_request(), cases[i / 2].err);
		assert_int_equal(do_name(FS_UNLINK, root, "f"), 0);
	}
}

static void zero_range_makes_whole_clusters_unwritten(void **state)
{
	uint64_t f = create(root, "f");

	do_write(f, 0, 4 * CLUSTER);
	assert_int_equal(do_fallocate(f, 1, 6 * CLUSTER, FALLOC_FL_ZERO_RANGE), 0);
	assert_int_equal(state_at(f, 0), EXT_WRITTEN);
	assert_int_equal(state_at(f, CLUSTER), EXT_UNWRITTEN);
	assert_int_equal(state_at(f, 6 * CLUSTER), EXT_UNWRITTEN);
	assert_int_equal(attr_of(f).size, 6 * CLUSTER + 1);
	assert_int_equal(do_layout(f, CLUSTER, CLUSTER, 0), 0);
	assert_int_equal(run.extents[0].len, 6 * CLUSTER); /* one extent again */
}

static int seek(uint64_t ino, uint64_t off, uint32_t whence)
{
	rq(FS_LSEEK, ino, NULL)->off = off;
	run.r.rq.flags = whence;
	return run_request();
}

static void lseek_finds_data_and_holes(void **state)
{
	uint64_t f = create(root, "f");

	assert_int_equal(seek(f, 0, SEEK_DATA), -ENXIO);
	do_write(f, 2 * CLUSTER, CLUSTER);
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0); /* nothing is ahead */
	assert_int_equal(do_size(f, 10 * CLUSTER), 0);
	assert_int_equal(seek(f, 5, SEEK_DATA), 0);
	assert_int_equal(run.r.reply.off, 2 * CLUSTER);
	assert_int_equal(seek(f, 5, SEEK_HOLE), 0);
	assert_int_equal(run.r.reply.off, 5);
	assert_int_equal(seek(f, 2 * CLUSTER + 7, SEEK_DATA), 0);
	assert_int_equal(run.r.reply.off, 2 * CLUSTER + 7);
	assert_int_equal(seek(f, 2 * CLUSTER + 7, SEEK_HOLE), 0);
	assert_int_equal(run.r.reply.off, 3 * CLUSTER);
	assert_int_equal(seek(f, 3 * CLUSTER, SEEK_DATA), -ENXIO);
	assert_int_equal(seek(f, 10 * CLUSTER, SEEK_HOLE), -ENXIO);
	assert_int_equal(seek(f, 0, 0), -EINVAL);
	do_write(f, 9 * CLUSTER, CLUSTER);
	assert_int_equal(seek(f, 9 * CLUSTER, SEEK_HOLE), 0);
	assert_int_equal(run.r.reply.off, 10 * CLUSTER);
	/* Space that was never written is none, whether it was asked for or is ahead of a writer. */
	assert_int_equal(do_fallocate(f, 0, 2 * CLUSTER, 0), 0);
	assert_int_equal(seek(f, 0, SEEK_DATA), 0);
	assert_int_equal(run.r.reply.off, 2 * CLUSTER);
	assert_int_equal(do_layout(f, 5 * CLUSTER, CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(seek(f, 3 * CLUSTER, SEEK_DATA), 0);
	assert_int_equal(run.r.reply.off, 9 * CLUSTER);
	assert_int_equal(seek(f, CLUSTER + 1, SEEK_HOLE), 0);
	assert_int_equal(run.r.reply.off, CLUSTER + 1);
}

/* A file that grows does not take the space that was ahead of its writer into its middle. */
static void growing_gives_back_what_was_ahead(void **state)
{
	uint64_t f = create(root, "f"), size = 32 * CLUSTER;

	do_write(f, 0, size / 2);
	do_write(f, size / 2, size / 2);
	assert_int_equal(do_layout(f, size, CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(state_at(f, size + CLUSTER), EXT_UNWRITTEN);
	assert_int_equal(do_size(f, 1000 * CLUSTER), 0);
	assert_int_equal(attr_of(f).blocks, size / 512);
	assert_int_equal(state_at(f, size + CLUSTER), EXT_HOLE);
	/* What was asked for stays. */
	assert_int_equal(do_fallocate(f, 1000 * CLUSTER, 3 * CLUSTER, FALLOC_FL_KEEP_SIZE), 0);
	assert_int_equal(do_size(f, 2000 * CLUSTER), 0);
	assert_int_equal(attr_of(f).blocks, size / 512 + 3 * CLUSTER / 512);
	check_volume();
}

/* Rule 17 of dp.h: the version tells whether the file has been made shorter, and then longer, maybe. */
static void what_was_ahead_goes_and_the_version_stays(void **state)
{
	uint64_t f = create(root, "f"), size = 32 * CLUSTER, version;

	do_write(f, 0, size / 2);
	do_write(f, size / 2, size / 2);
	assert_int_equal(do_layout(f, size, CLUSTER, FS_LAYOUT_WRITE), 0);
	assert_int_equal(state_at(f, size + CLUSTER), EXT_UNWRITTEN);
	version = attr_of(f).version;
	assert_int_equal(do_name(FS_CLOSE, f, ""), 0);
	run_background();
	assert_int_equal(attr_of(f).blocks, size / 512);
	assert_int_equal(attr_of(f).version, version);
	assert_int_equal(do_size(f, size - 1), 0);
	assert_true(attr_of(f).version > version);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(first_write_gets_space_and_commit_makes_it_written),
		T(commit_of_other_clusters_than_are_there_now_is_ignored),
		T(news_of_a_write_turns_no_newer_time_back),
		T(read_sets_atime_once_after_a_change_and_once_a_day),
		T(streaming_writer_gets_one_extent_and_space_ahead),
		T(layout_around_begins_with_the_written_space_before),
		T(layout_near_tells_nothing_behind_the_range_but_what_was_allocated),
		T(layout_around_keeps_to_the_room_of_the_reply),
		T(scattered_writers_get_nothing_ahead),
		T(small_file_takes_one_cluster),
		T(no_space_is_said_only_when_nothing_was_got),
		T(shrinking_frees_what_is_behind_the_end),
		T(large_truncate_takes_effect_at_once_and_space_comes_back_later),
		T(large_file_is_unlinked_at_once_and_freed_later),
		T(truncated_large_file_can_be_unlinked_meanwhile),
		T(unlinked_file_lives_until_its_last_close),
		T(nothing_is_lost_when_a_tree_finds_no_block_for_what_was_allocated),
		T(full_volume_can_be_emptied),
		T(what_was_written_is_committed_on_a_full_volume),
		T(commit_of_everything_goes_in_steps),
		T(append_gives_each_its_own_room),
		T(fallocate_gives_space_that_reads_as_zero),
		T(fallocate_of_a_fragmented_volume_goes_in_steps),
		T(a_punch_of_very_many_extents_takes_effect_at_once),
		T(so_does_a_range_that_is_zeroed),
		T(what_fallocate_keeps_behind_the_end_is_kept_from_its_first_step_on),
		T(punch_frees_whole_clusters),
		T(range_that_cuts_written_clusters_needs_somebody_to_zero_them),
		T(zero_range_makes_whole_clusters_unwritten),
		T(lseek_finds_data_and_holes),
		T(growing_gives_back_what_was_ahead),
		T(what_was_ahead_goes_and_the_version_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
