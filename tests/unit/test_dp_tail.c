/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rule 4 of dp.h: what a WRITTEN cluster holds behind the end of the file is unknown, and no gap shows it. */
#include "tests/unit/dp_fixture.h"

#define END 20000u /* of the file, in the middle of a block */

static void a_write_behind_the_end_zeroes_the_gap_before_it_writes(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;
	uint8_t image[CS], data[4096];

	put(x, 0, 1, EXT_WRITTEN, END);
	assert_int_equal(go(x, &op, true, 40960, 4096), DP_SUBMIT);
	/* The block in which the file ends is read: its head is data. */
	assert_true(op.tail && !op.io_write && op.seg_count == 1);
	assert_int_equal(op.segs[0].lun_off, 100 * CS + 19968);
	assert_int_equal(op.segs[0].len, BS);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_true(op.tail && op.io_write && op.bounce);
	assert_int_equal(op.segs[0].lun_off, 100 * CS + 19968);
	assert_int_equal(op.segs[0].len, CS - 19968);
	memset(image, 7, sizeof(image));
	memset(data, 1, sizeof(data));
	dp_fill(&op, image, data);
	assert_int_equal(image[END - 19968 - 1], 7);
	for (uint32_t i = END - 19968; i < CS - 19968; i++)
		assert_int_equal(image[i], 0);
	/* Now the write itself. */
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_true(!op.tail && op.io_write && !op.bounce);
	assert_int_equal(op.segs[0].lun_off, 100 * CS + 40960);
	assert_int_equal(op.segs[0].len, 4096);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_int_equal(op.result, 4096);
	forget(x);
}

static void once_zeroed_it_is_zero_until_a_write_fails(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b;

	put(x, 0, 1, EXT_WRITTEN, 512);
	assert_int_equal(go(x, &a, true, 8192, 512), DP_SUBMIT);
	assert_true(a.tail);
	assert_int_equal(done(x, &a, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &a, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &a, 0), DP_DONE);
	assert_int_equal(go(x, &a, true, 32768, 512), DP_SUBMIT);
	assert_false(a.tail);
	/* Nobody knows what of it has landed. */
	assert_int_equal(done(x, &a, LUN_NOSPACE), DP_DONE);
	assert_int_equal(a.result, -ENOSPC);
	assert_int_equal(go(x, &b, true, 40960, 512), DP_SUBMIT);
	assert_true(b.tail);
	assert_int_equal(b.segs[0].lun_off, 100 * CS + 8704);
	/* Without zeros there is no write. */
	assert_int_equal(done(x, &b, LUN_MEDIUM), DP_DONE);
	assert_int_equal(b.result, -EIO);
	forget(x);
}

static void what_we_wrote_ourselves_is_not_zeroed_though_not_committed(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c;

	put(x, 0, 1, EXT_WRITTEN, 4096);
	assert_int_equal(go(x, &a, true, 4096, 4096), DP_SUBMIT);
	assert_false(a.tail); /* no gap */
	assert_int_equal(go(x, &b, true, 16384, 4096), DP_WAIT); /* its tail is being written */
	assert_int_equal(done(x, &a, LUN_OK), DP_COMMIT);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_SUBMIT);
	assert_true(b.tail);
	assert_int_equal(b.segs[0].lun_off, 100 * CS + 8192);
	/* Who comes meanwhile finds it zeroed. */
	assert_int_equal(go(x, &c, true, 32768, 4096), DP_WAIT);
	assert_int_equal(done(x, &b, LUN_OK), DP_SUBMIT);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &c);
	assert_int_equal(dp_begin(x->dp, &c, x->now), DP_SUBMIT);
	assert_false(c.tail);
	assert_int_equal(done(x, &b, LUN_OK), DP_COMMIT);
	assert_int_equal(done(x, &c, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &a, 0), DP_DONE);
	assert_int_equal(block_done(x, &b, 0), DP_DONE);
	assert_int_equal(block_done(x, &c, 0), DP_DONE);
	forget(x);
}

static void the_gap_is_zeroed_only_where_nobody_else_writes(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put_shared(x, 0, 4, EXT_WRITTEN, 4096);
	assert_int_equal(go(x, &op, true, 8192, 4096), DP_NEED_LAYOUT);
	assert_true(op.need_write && op.need_edge);
	assert_true(op.need_off == 0 && op.need_len == CS);
	/* Another node had made it longer: there is no gap. */
	put(x, 0, 1, EXT_WRITTEN, 16384);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_false(op.tail);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

/* A recall that comes in between must not send it back to where it began. */
static void who_has_zeroed_the_gap_writes_though_the_layout_is_recalled(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, 4096);
	assert_int_equal(go(x, &op, true, 8192, 4096), DP_SUBMIT);
	assert_true(op.tail);
	dp_layout_close(x->dp, INO);
	assert_false(drained(x, INO));
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_false(op.tail);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_true(drained(x, INO));
	forget(x);
	/* What comes later knows nothing of it. */
	put(x, 0, 1, EXT_WRITTEN, 12288);
	assert_int_equal(go(x, &op, true, 16384, 4096), DP_SUBMIT);
	assert_true(op.tail);
	dp_layout_drop(x->dp, INO);
	/* The layout went away though it was inside: all of it is done anew. */
	assert_int_equal(done(x, &op, LUN_OK), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_WRITTEN, 12288);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_true(op.tail);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
}

/* Without the edge range others may write behind the end as well, and fail: what is there nobody knows. */
static void a_first_write_without_the_right_promises_nothing(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put_shared(x, 0, 1, EXT_UNWRITTEN, 0);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_true(op.first && !op.tail);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_int_equal(go(x, &op, true, 16384, 4096), DP_NEED_LAYOUT);
	assert_true(op.need_write && op.need_edge);
	forget(x);
}

static void a_first_write_leaves_zeros_behind_it(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 2, EXT_UNWRITTEN, 0);
	assert_int_equal(go(x, &op, true, CS, 4096), DP_SUBMIT);
	assert_true(op.first);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_int_equal(go(x, &op, true, CS + 16384, 4096), DP_SUBMIT);
	assert_false(op.tail);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
	/* An end in space that nobody has written reads as zero. */
	put(x, 0, 2, EXT_UNWRITTEN, 4096);
	assert_int_equal(go(x, &op, true, CS + 4096, 4096), DP_SUBMIT);
	assert_true(op.first && !op.tail);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
}

static void an_append_is_behind_no_gap_unless_the_file_was_cut_since(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	for (int cut = 0; cut < 2; cut++) {
		put(x, 0, 1, EXT_WRITTEN, 4096);
		dp_op_init(&op);
		op.ino = INO;
		op.write = op.append = true;
		op.len = 4096;
		assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_APPEND);
		if (cut) {
			dp_layout_drop(x->dp, INO);
			put(x, 0, 1, EXT_WRITTEN, 512);
		}
		/* Others have appended before it, which we do not know. */
		assert_int_equal(dp_append_done(x->dp, &op, 0, 16384, x->now), DP_SUBMIT);
		assert_int_equal(op.tail, cut);
		if (cut)
			assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
		assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
		assert_int_equal(block_done(x, &op, 0), DP_DONE);
		forget(x);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_write_behind_the_end_zeroes_the_gap_before_it_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(
			once_zeroed_it_is_zero_until_a_write_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_we_wrote_ourselves_is_not_zeroed_though_not_committed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			the_gap_is_zeroed_only_where_nobody_else_writes, setup, teardown),
		cmocka_unit_test_setup_teardown(
			who_has_zeroed_the_gap_writes_though_the_layout_is_recalled, setup, teardown),
		cmocka_unit_test_setup_teardown(a_first_write_leaves_zeros_behind_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_first_write_without_the_right_promises_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_append_is_behind_no_gap_unless_the_file_was_cut_since, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
