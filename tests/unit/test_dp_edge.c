/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rule 2 of dp.h, between nodes: who may write parts of blocks. And what rule 5 says of those whose question was answered. */
#include "tests/unit/dp_fixture.h"

static void whole_blocks_need_no_edge_right(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put_shared(x, 0, 2, EXT_WRITTEN, 2 * CS);
	assert_int_equal(go(x, &op, true, CS - 512, 1024), DP_SUBMIT);
	assert_true(op.io_write);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(go(x, &op, false, 100, 100), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

static void a_part_of_a_block_is_written_only_where_nobody_else_writes(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put_shared(x, 0, 2, EXT_WRITTEN, 2 * CS);
	assert_int_equal(go(x, &op, true, 100, 10), DP_NEED_LAYOUT);
	assert_true(op.need_write && op.need_edge);
	assert_true(op.need_off == 0 && op.need_len == CS);
	/* It is not granted: asked again. */
	put_shared(x, 0, 1, EXT_WRITTEN, 2 * CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_WRITTEN, 2 * CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	/* Once is enough; of the other cluster it says nothing. */
	assert_int_equal(go(x, &op, true, CS - 10, 10), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	/* Its head may, its tail not yet: the tail is asked for. */
	assert_int_equal(go(x, &op, true, CS - 10, 20), DP_NEED_LAYOUT);
	assert_true(op.need_edge && op.need_off == CS && op.need_len == CS);
	put(x, 1, 1, EXT_WRITTEN, 2 * CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

static void a_first_write_needs_none_and_keeps_what_it_was_given(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put_shared(x, 0, 1, EXT_UNWRITTEN, 2 * CS);
	put(x, 1, 1, EXT_UNWRITTEN, 2 * CS);
	assert_int_equal(go(x, &op, true, 100, 10), DP_SUBMIT);
	assert_true(op.first && op.img_len == CS);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	/* As soon as that is committed others may write there. */
	assert_int_equal(go(x, &op, true, 200, 10), DP_NEED_LAYOUT);
	assert_true(op.need_edge);
	/* The answer was made before the commit was heard of. */
	put(x, 0, 1, EXT_UNWRITTEN, 2 * CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_false(op.first);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(go(x, &op, true, CS + 100, 10), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(go(x, &op, true, CS + 200, 10), DP_SUBMIT);
	assert_false(op.first);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	/* Who needs space for a part of a block asks for both at once. */
	assert_int_equal(go(x, &op, true, 2 * CS + 100, 10), DP_NEED_LAYOUT);
	assert_true(op.need_edge);
	assert_int_equal(dp_layout_done(x->dp, &op, -ENOSPC, x->now), DP_DONE);
	assert_int_equal(go(x, &op, true, 2 * CS, 512), DP_NEED_LAYOUT);
	assert_false(op.need_edge);
	assert_int_equal(dp_layout_done(x->dp, &op, -ENOSPC, x->now), DP_DONE);
	forget(x);
}

static void the_right_goes_with_the_layout_and_when_it_is_told_so(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	put_shared(x, 0, 1, EXT_SHARED, CS);
	assert_int_equal(go(x, &op, true, 0, 512), DP_NEED_LAYOUT);
	assert_false(op.need_edge);
	put_shared(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	put(x, 0, 1, EXT_WRITTEN, CS);
	forget(x);
	put_shared(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 1, 1), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &op, -EIO, x->now), DP_DONE);
	forget(x);
}

static void alone_nobody_is_asked(void **state)
{
	struct fixture *x = *state;
	struct dp_config c = {.mem = &x->mem, .cluster_bytes = CS, .block_bytes = BS, .sole_node = true};
	struct dp *was = x->dp;
	struct dp_op op;

	x->dp = dp_create(&c);
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	put_shared(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 100, 10), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
	dp_destroy(x->dp);
	x->dp = was;
}

/* Whoever coordinates says that the journal is the file's: nothing is read or written there. */
static void extent_in_front_of_all_data_is_not_believed(void **state)
{
	struct fixture *x = *state;
	struct dp_config c = {.mem = &x->mem, .data_start = 32 * CS, .cluster_bytes = CS, .block_bytes = BS};
	struct fs_extent e = {.len = CS, .lun_off = 31 * CS, .state = EXT_WRITTEN};
	struct dp *was = x->dp;
	struct dp_op op;

	x->dp = dp_create(&c);
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	for (uint32_t write = 0; write < 2; write++) {
		assert_int_equal(go(x, &op, write, 100, 10), DP_NEED_LAYOUT);
		assert_int_equal(dp_layout_put(x->dp, INO, 0, CS, CS, &e, 1), -EINVAL);
		assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_DONE);
		assert_int_equal(op.result, -EIO);
	}
	forget(x);
	dp_destroy(x->dp);
	x->dp = was;
}

/* Whose answer was lost is not known: nobody takes what was known before for the end of the file. */
static void an_answer_that_is_not_recorded_is_nobodys(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = {.len = CS, .lun_off = 31 * CS, .state = EXT_WRITTEN};
	struct dp_op a, b;

	put_shared(x, 0, 1, EXT_WRITTEN, 4096);
	assert_int_equal(go(x, &a, false, 4096, 4096), DP_NEED_LAYOUT);
	assert_int_equal(go(x, &b, false, 4096, 4096), DP_NEED_LAYOUT);
	e.lun_off = 1;
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(dp_layout_put(x->dp, INO, 0, CS, 8192, &e, 1), -EINVAL);
	assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_DONE);
	assert_int_equal(a.result, -EIO);
	assert_int_equal(dp_layout_done(x->dp, &b, 0, x->now), DP_DONE);
	assert_int_equal(b.result, -EIO);
	/* Who comes later asks for itself. */
	assert_int_equal(go(x, &a, false, 4096, 4096), DP_NEED_LAYOUT);
	put_shared(x, 0, 1, EXT_WRITTEN, 8192);
	assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_int_equal(a.result, 4096);
}

/* Several nodes want it in turn: it is recalled before the thread that asked has seen the answer. */
static void who_was_answered_goes_in_though_the_gate_is_closed_by_then(void **state)
{
	struct fixture *x = *state;
	struct dp_op op, late;

	put_shared(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 100, 10), DP_NEED_LAYOUT);
	assert_int_equal(go(x, &late, true, 200, 10), DP_WAIT);
	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_answered(x->dp, &op);
	dp_layout_close(x->dp, INO);
	dp_check(x->dp);
	assert_false(drained(x, INO));
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	dp_check(x->dp);
	/* Who did not ask waits. */
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &late);
	assert_int_equal(dp_begin(x->dp, &late, x->now), DP_WAIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_false(drained(x, INO));
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_true(drained(x, INO));
	assert_false(drained(x, INO));
	forget(x);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &late);
	assert_int_equal(dp_begin(x->dp, &late, x->now), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &late, -EIO, x->now), DP_DONE);
}

static void an_answer_that_is_not_enough_or_void_keeps_nobody_waiting(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	/* Not enough: it waits for the gate, and the file is drained. */
	assert_int_equal(go(x, &op, true, 100, 10), DP_NEED_LAYOUT);
	put_shared(x, 0, 1, EXT_WRITTEN, CS);
	dp_answered(x->dp, &op);
	dp_layout_close(x->dp, INO);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_WAIT);
	assert_true(drained(x, INO));
	dp_check(x->dp);
	forget(x);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
	/* Void: forgotten in between. */
	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_answered(x->dp, &op);
	forget(x);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_NEED_LAYOUT);
	dp_check(x->dp);
	/* Closed before the answer came: that one is part of what goes back. */
	dp_layout_close(x->dp, INO);
	assert_true(drained(x, INO));
	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_answered(x->dp, &op);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_WAIT);
	assert_false(drained(x, INO));
	forget(x);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
	/* An error while it is recalled. */
	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_answered(x->dp, &op);
	dp_layout_close(x->dp, INO);
	assert_int_equal(dp_layout_done(x->dp, &op, -ENOSPC, x->now), DP_DONE);
	assert_true(drained(x, INO));
	forget(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_blocks_need_no_edge_right, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_part_of_a_block_is_written_only_where_nobody_else_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_first_write_needs_none_and_keeps_what_it_was_given, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_right_goes_with_the_layout_and_when_it_is_told_so, setup, teardown),
		cmocka_unit_test_setup_teardown(extent_in_front_of_all_data_is_not_believed, setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_that_is_not_recorded_is_nobodys, setup, teardown),
		cmocka_unit_test_setup_teardown(alone_nobody_is_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(
			who_was_answered_goes_in_though_the_gate_is_closed_by_then, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_answer_that_is_not_enough_or_void_keeps_nobody_waiting, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
