/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A6 of metadata/alloc.c: all space has been given out, unwritten, and then it is written here and there. Each of these writes was
 * accepted, so its extents must find their metadata.
 */
#include "metadata/alloc.h"
#include "tests/unit/ops_engine.h"

static uint32_t cluster;
static struct fs_extent list[EXTENTS_PER_REPLY];

static uint64_t available(void)
{
	rq(FS_STATFS, 0, NULL);
	assert_int_equal(run_request(), 0);
	return run.r.reply.statfs.bavail;
}

static int ask_for(uint64_t ino, uint64_t clusters)
{
	struct fs_request *q = rq(FS_FALLOCATE, ino, NULL);

	q->len = clusters * cluster;
	return run_request();
}

/* Every second cluster of it was written. */
static void write_alternately(uint64_t ino, uint64_t clusters)
{
	for (uint64_t i = 0; i < clusters;) {
		struct fs_request *q = rq(FS_LAYOUT_COMMIT, ino, NULL);
		uint32_t k = 0;

		for (; k < EXTENTS_PER_REPLY && i < clusters; i += 2)
			list[k++] = (struct fs_extent){.off = i * cluster, .len = cluster, .state = EXT_WRITTEN};
		q->extents = list;
		q->extent_count = k;
		assert_int_equal(run_request(), 0);
	}
}

/* Files of that many clusters, until there is no space for one more. */
static uint32_t fill(uint64_t dir, uint32_t from, uint64_t clusters, uint64_t *inos, uint32_t room)
{
	uint32_t n = from;
	char name[16];

	for (; n < room && available() >= clusters; n++) {
		snprintf(name, sizeof(name), "%u", n);
		if (do_make(FS_CREATE, dir, name, 0644, &inos[n]))
			return n;
		if (ask_for(inos[n], clusters)) {
			assert_int_equal(do_name(FS_UNLINK, dir, name), 0);
			return n;
		}
	}
	assert_in_range(n, 1, room - 1);
	return n;
}

/* A disk image that takes all there is. */
static void a_thick_file_that_fills_the_volume_can_be_written_anywhere(void **state)
{
	uint64_t root, ino, clusters;

	(void)state;
	cluster = 4096;
	root = engine_mkfs_of(cluster, 6ull << 30, 32 << 20);
	ino = create(root, "disk.raw");
	clusters = available();
	/* What is kept is no more than a 64th. */
	assert_true(clusters * cluster > (6ull << 30) / 64 * 62);
	/* df says what there is: nearly all of it can be had. */
	assert_int_equal(ask_for(ino, clusters - 300), 0);
	assert_true(available() <= 300);
	write_alternately(ino, clusters - 300);
	/* And what is full can be emptied. */
	assert_int_equal(do_fallocate(ino, 999 * cluster, 3ull * cluster, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE), 0);
	assert_int_equal(do_name(FS_UNLINK, root, "disk.raw"), 0);
	engine_end();
}

/* Each of them needs a block from the 16th extent on. */
static void so_can_very_many_small_ones(void **state)
{
	enum { ROOM = 40000 };
	uint64_t root, *inos = calloc(ROOM, sizeof(*inos));
	uint32_t n;

	(void)state;
	cluster = 16384;
	root = engine_mkfs_of(cluster, 8ull << 30, 32 << 20);
	n = fill(mkdir_(root, "d"), 0, 17, inos, ROOM);
	print_message("%u files\n", n);
	for (uint32_t i = 0; i < n; i++)
		write_alternately(inos[i], 17);
	free(inos);
	engine_end();
}

static void unlink_some(uint64_t dir, uint32_t from, uint32_t to, uint32_t step, uint64_t *inos)
{
	char name[16];

	for (uint32_t i = from; i < to; i += step) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(do_name(FS_UNLINK, dir, name), 0);
		inos[i] = 0;
	}
	assert_int_equal(run_sync_settle(engine.rs), 0);
}

/*
 * After a restart nobody knows how many free chunks the groups have. What is kept lies in front; in the groups behind much is
 * free, and no chunk as a whole.
 */
static void free_chunks_that_are_only_guessed_are_none(void **state)
{
	enum { ROOM = 20000, EACH = 144, FRONT = 120 };
	uint64_t root, dir, *inos = calloc(ROOM, sizeof(*inos));
	const struct alloc *a;
	uint32_t n, all;

	(void)state;
	cluster = 4096;
	root = engine_mkfs_of(cluster, 6ull << 30, 32 << 20);
	dir = mkdir_(root, "d");
	n = fill(dir, 0, EACH, inos, ROOM);
	unlink_some(dir, 0, FRONT, 1, inos);
	all = fill(dir, n, EACH, inos, ROOM);
	assert_in_range(all - n, FRONT - 10, FRONT + 10);
	unlink_some(dir, n / 4 * 3, n, 2, inos);
	assert_int_equal(run_sync_close(engine.rs), 0);
	engine_open();
	a = &run_sync_vol(engine.rs)->alloc;
	n = all;
	all = fill(dir, n, EACH, inos, ROOM);
	print_message("%u files, and %u\n", n, all - n);
	assert_true(a->whole - a->guessed >= alloc_kept(a));
	assert_true(all - n > n / 8 - FRONT);
	for (uint32_t i = 0; i < all; i++)
		if (inos[i])
			write_alternately(inos[i], EACH);
	free(inos);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thick_file_that_fills_the_volume_can_be_written_anywhere),
		cmocka_unit_test(so_can_very_many_small_ones),
		cmocka_unit_test(free_chunks_that_are_only_guessed_are_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
