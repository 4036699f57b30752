/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fallocate() of a file with more extents than the cache has room for: its steps end, none begins again at the
 * start, and what an intent says at any moment is true.
 */
#include "metadata/engine.h"
#include "metadata/extent.h"
#include "tests/unit/many_extents.h"

#define ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)
#define CACHE_LARGE (64u << 20)
#define LOOKS_MAX 150u /* at blocks, for one extent; what is not in the cache makes the operation look again */

static void crash_and_open(uint64_t cache_bytes)
{
	struct check_report rep;

	run_sync_crash(engine.rs);
	engine_check(&rep);
	engine.cache_bytes = cache_bytes;
	engine_open();
}

static void the_next_coordinator_with_a_small_cache_ends_a_zero(void **state)
{
	uint64_t f = written_file(engine_mkfs_of(SMALL, 4ull << 30, CACHE_LARGE), EXTENTS);
	struct check_report rep;

	assert_int_equal(do_fallocate(f, 0, EXTENTS * SMALL, ZERO), 0);
	crash_and_open(CACHE_SMALL);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	print_message("%.1f looks at a block for each extent\n", (double)looks() / EXTENTS);
	assert_true(looks() < (uint64_t)EXTENTS * LOOKS_MAX);
	for (uint32_t i = 0; i < EXTENTS; i += 997)
		assert_int_equal(state_at(f, i * SMALL), EXT_UNWRITTEN);
	assert_int_equal(state_at(f, (EXTENTS - 1) * SMALL), EXT_UNWRITTEN);
	engine_check(&rep);
	assert_int_equal(rep.data_clusters, EXTENTS);
	engine_end();
}

static void a_file_larger_than_the_cache_is_filled_and_zeroed(void **state)
{
	uint64_t f = written_file(engine_mkfs_of(SMALL, 4ull << 30, CACHE_SMALL), EXTENTS);
	struct check_report rep;
	uint64_t was = looks();

	assert_int_equal(do_fallocate(f, 0, (EXTENTS + 100) * SMALL, 0), 0);
	assert_true(looks() - was < (uint64_t)EXTENTS * LOOKS_MAX);
	assert_int_equal(state_at(f, 0), EXT_WRITTEN);
	assert_int_equal(state_at(f, (EXTENTS + 99) * SMALL), EXT_UNWRITTEN);
	assert_int_equal(do_fallocate(f, 0, EXTENTS * SMALL, ZERO), 0);
	assert_int_equal(run_sync_settle(engine.rs), 0);
	assert_int_equal(state_at(f, 0), EXT_UNWRITTEN);
	engine_check(&rep);
	assert_int_equal(rep.data_clusters, EXTENTS + 100);
	engine_end();
}

/* ------------------------------------------------------------------ what the intent says */

#define FEW 8192u

struct seen {
	uint64_t ino, from, to;
	uint64_t written_before; /* clusters in front of `from` that are WRITTEN */
	bool any;
};

static int look_at_intent(struct txn *t, void *arg)
{
	struct seen *s = arg;
	struct disk_intent it;
	struct extent_walk w;
	struct inode in;
	struct extent e;
	int err = inode_get(t, s->ino, &in);

	s->written_before = 0;
	if (err)
		return err;
	s->any = inode_flags(&in) & INODE_TRUNCATE;
	if (!s->any)
		return 0;
	err = inode_intent_get(&in, &it);
	if (err)
		return err;
	assert_int_equal(le32_get(it.op), INTENT_ZERO);
	s->from = le64_get(it.from);
	s->to = le64_get(it.to);
	for (err = extent_first(&in, 0, &w, &e); !err && e.off < s->from; err = extent_next(&w, &e))
		s->written_before += e.state == EXT_WRITTEN ? e.len : 0;
	return err == -ENOENT ? 0 : err;
}

static uint32_t steps_left;

static int some_steps(struct txn *t, uint64_t *ino)
{
	int err = steps_left ? op_background(t, ino) : -ENOENT;

	steps_left -= !err;
	return err;
}

/* What the background does, ends after `steps`. */
static void open_for(uint32_t steps)
{
	static struct vol_ops ops;
	struct run_sync_config cfg = {.dev = &engine.dev, .ops = &ops, .cache_bytes = 16 << 20,
		.mem_bytes = 128u << 20, .steal = true, .write_cache = true, .trace = &engine_trace};
	char why[256] = "";

	ops = metadata_ops;
	ops.background = some_steps;
	steps_left = steps;
	if (run_sync_open(&cfg, &engine.rs, why))
		fail_msg("%s", why);
}

/* Power fails behind each step: the range that is left shrinks, and what it no longer names reads as zeros. */
static void what_an_intent_no_longer_names_is_done(void **state)
{
	uint64_t f = written_file(engine_mkfs_of(SMALL, 1ull << 30, 16 << 20), FEW), last = 0;
	struct seen s = {.ino = f};
	struct check_report rep;
	uint32_t steps = 0;

	assert_int_equal(run_sync_close(engine.rs), 0);
	open_for(0);
	assert_int_equal(do_fallocate(f, 0, FEW * SMALL, ZERO), 0);
	for (;; steps++) {
		assert_int_equal(run_sync_op(engine.rs, look_at_intent, &s), 0);
		if (!s.any)
			break;
		assert_int_equal(s.written_before, 0);
		assert_true(s.from > last && s.from < s.to);
		assert_int_equal(s.to, FEW);
		last = s.from;
		run_sync_crash(engine.rs);
		engine_check(&rep);
		open_for(1);
	}
	print_message("%u steps\n", steps);
	assert_true(steps >= FEW / EXTENT_STEP_PIECES);
	assert_int_equal(state_at(f, (FEW - 1) * SMALL), EXT_UNWRITTEN);
	engine_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_coordinator_with_a_small_cache_ends_a_zero),
		cmocka_unit_test(a_file_larger_than_the_cache_is_filled_and_zeroed),
		cmocka_unit_test(what_an_intent_no_longer_names_is_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
