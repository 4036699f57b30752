/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SEEK_DATA and SEEK_HOLE in a file with more extents than the cache has room for: they end, and what they say is right
 * though the file changes between two steps.
 */
#include "metadata/engine.h"
#include "metadata/extent.h"
#include "tests/unit/many_extents.h"

#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define FEW 16384u
#define LOOKS_MAX 10u /* at blocks, for one extent; what is not in the cache makes the operation look again */

static int seek(uint64_t ino, uint64_t off, uint32_t whence, uint64_t *found)
{
	uint64_t was = looks();
	int err;

	rq(FS_LSEEK, ino, NULL)->off = off;
	run.r.rq.flags = whence;
	err = run_request();
	print_message("%.2f looks at a block for each extent\n", (double)(looks() - was) / EXTENTS);
	assert_true(looks() - was < (uint64_t)EXTENTS * LOOKS_MAX);
	*found = run.r.reply.off;
	return err;
}

static void a_file_larger_than_the_cache_is_searched(void **state)
{
	uint64_t f = written_file(engine_mkfs_of(SMALL, 4ull << 30, CACHE_SMALL), EXTENTS), at;

	assert_int_equal(seek(f, 5, SEEK_HOLE, &at), 0);
	assert_int_equal(at, EXTENTS * SMALL);
	assert_int_equal(do_fallocate(f, (EXTENTS - 2) * SMALL, SMALL, PUNCH), 0);
	assert_int_equal(seek(f, 0, SEEK_HOLE, &at), 0);
	assert_int_equal(at, (EXTENTS - 2) * SMALL);
	assert_int_equal(do_fallocate(f, 0, (EXTENTS - 1) * SMALL, ZERO), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(seek(f, SMALL + 1, SEEK_DATA, &at), 0);
	assert_int_equal(at, (EXTENTS - 1) * SMALL);
	assert_int_equal(do_fallocate(f, 0, EXTENTS * SMALL, ZERO), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(seek(f, 0, SEEK_DATA, &at), -ENXIO);
	engine_end();
}

/* ------------------------------------------------------------------ while the file changes */

static struct vol_req req[4];

static struct fs_request *also(uint32_t i, enum fs_op op, uint64_t ino)
{
	memset(&req[i], 0, sizeof(req[i]));
	req[i].rq = (struct fs_request){.op = op, .ino = ino, .time_ns = 1700000000000000000};
	if (fs_op_needs_slot(op))
		req[i].rq.id = (struct fs_reqid){.node = 1, .slot = 2 + i, .life = 9, .seq = ++engine.seq};
	return &req[i].rq;
}

static void also_size(uint32_t i, uint64_t ino, uint64_t size)
{
	struct fs_request *q = also(i, FS_SETATTR, ino);

	q->valid = FS_SET_SIZE;
	q->attr.size = size;
}

/* The others run when the search has done its first step. */
static int seek_beside(uint64_t ino, uint64_t off, uint32_t whence, uint32_t others)
{
	struct fs_request *q = also(0, FS_LSEEK, ino);

	q->off = off;
	q->flags = whence;
	assert_int_equal(run_sync_batch(engine.rs, req, 1 + others), 0);
	for (uint32_t i = 1; i <= others; i++)
		assert_int_equal(req[i].reply.err, 0);
	assert_true(req[0].rounds > 0);
	return req[0].reply.err;
}

static void what_is_cut_off_meanwhile_is_not_found(void **state)
{
	uint64_t f = written_file(engine_mkfs_of(SMALL, 1ull << 30, 16 << 20), FEW);

	/* Behind where the search has come, before it, and before where it began. */
	also_size(1, f, FEW / 2 * SMALL);
	assert_int_equal(seek_beside(f, 0, SEEK_HOLE, 1), 0);
	assert_int_equal(req[0].reply.off, FEW / 2 * SMALL);
	also_size(1, f, 500 * SMALL + 1);
	assert_int_equal(seek_beside(f, 0, SEEK_HOLE, 1), 0);
	assert_int_equal(req[0].reply.off, 500 * SMALL + 1);
	engine_end();
	f = written_file(engine_mkfs_of(SMALL, 1ull << 30, 16 << 20), FEW);
	also_size(1, f, 500 * SMALL);
	assert_int_equal(seek_beside(f, 600 * SMALL, SEEK_HOLE, 1), -ENXIO);
	engine_end();
}

/* A hole that came behind the search, where it had passed: then it is the first. */
static void a_hole_where_the_search_has_passed_is_found(void **state)
{
	uint64_t f = written_file(engine_mkfs_of(SMALL, 1ull << 30, 16 << 20), FEW);
	struct fs_request *q = also(1, FS_FALLOCATE, f);

	q->off = 100 * SMALL;
	q->len = SMALL;
	q->flags = PUNCH;
	assert_int_equal(seek_beside(f, 0, SEEK_HOLE, 1), 0);
	assert_int_equal(req[0].reply.off, 100 * SMALL);
	/* Cut off, and made longer again. */
	also_size(1, f, 200 * SMALL);
	also_size(2, f, FEW * SMALL);
	assert_int_equal(seek_beside(f, 101 * SMALL, SEEK_HOLE, 2), 0);
	assert_int_equal(req[0].reply.off, 200 * SMALL);
	engine_end();
}

/* The space is there, and was never written; the one cluster with data is cut off. */
static void data_that_is_cut_off_meanwhile_is_not_found(void **state)
{
	uint64_t f = written_file(engine_mkfs_of(SMALL, 1ull << 30, 16 << 20), FEW);

	assert_int_equal(do_fallocate(f, 0, (FEW - 1) * SMALL, ZERO), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	also(1, FS_GETATTR, f);
	assert_int_equal(seek_beside(f, 0, SEEK_DATA, 1), 0);
	assert_int_equal(req[0].reply.off, (FEW - 1) * SMALL);
	also_size(1, f, (FEW - 1) * SMALL);
	assert_int_equal(seek_beside(f, 0, SEEK_DATA, 1), -ENXIO);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_larger_than_the_cache_is_searched),
		cmocka_unit_test(what_is_cut_off_meanwhile_is_not_found),
		cmocka_unit_test(a_hole_where_the_search_has_passed_is_found),
		cmocka_unit_test(data_that_is_cut_off_meanwhile_is_not_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
