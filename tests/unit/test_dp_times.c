/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What dp.h tells of times: when a file was written in place, and when it was read. */
#include "tests/unit/dp_fixture.h"

static void write_in_place_that_must_be_durable_is_told_with_its_time(void **state)
{
	struct fixture *x = *state;
	struct event ev;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	x->now.wall_ns = 77;
	assert_int_equal(sync_write(x, &op, 0, false), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_true(dp_op_event(&op, &ev));
	assert_int_equal(ev.type, EV_TOUCHED);
	assert_true(ev.range.mtime_ns == 77);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
}

static bool read_is_told(struct fixture *x, int64_t wall_ns)
{
	struct event ev;
	struct dp_op op;

	dp_op_init(&op);
	op.ino = INO;
	op.len = 4096;
	op.atime = true;
	x->now.now_ns += 2 * DP_TOUCH_NS;
	x->now.wall_ns = wall_ns;
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	if (!dp_op_event(&op, &ev))
		return false;
	assert_int_equal(ev.type, EV_TOUCHED);
	assert_true(ev.range.ino == INO && ev.range.mtime_ns == 0 && ev.range.atime_ns == wall_ns);
	return true;
}

static void read_is_told_once_then_after_a_change_or_an_hour(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_gate(x->dp, GATE_DIRECT, NEVER);
	assert_true(read_is_told(x, 1));
	assert_false(read_is_told(x, 2));
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_true(read_is_told(x, 3));
	assert_false(read_is_told(x, 4));
	dp_times_set(x->dp, INO);
	assert_true(read_is_told(x, 5));
	x->now.now_ns += DP_READ_NS;
	assert_true(read_is_told(x, 6));
	/* a read that may not set it: O_NOATIME, or the mount says so */
	dp_times_set(x->dp, INO);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_false(dp_op_event(&op, &(struct event){0}));
	forget(x);
}

static void touched_is_told_once_a_second_and_the_last_is_kept(void **state)
{
	struct fixture *x = *state;
	struct event ev;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	for (int i = 0; i < 3; i++) {
		x->now.wall_ns = 1000 + i;
		assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
		assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
		assert_int_equal(dp_op_event(&op, &ev), i == 0);
	}
	assert_true(dp_touched_ns(x->dp, INO) == 1002);
	assert_true(dp_take_touched(x->dp, INO, &ev));
	assert_int_equal(ev.type, EV_TOUCHED);
	assert_true(ev.range.ino == INO && ev.range.mtime_ns == 1002);
	assert_false(dp_take_touched(x->dp, INO, &ev));
	/* Nothing more is written: the last one is told when its time has come. */
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_false(dp_op_event(&op, &ev));
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_false(dp_next_event(x->dp, &ev));
	x->now.now_ns = dp_deadline(x->dp);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_true(dp_next_event(x->dp, &ev));
	assert_int_equal(ev.type, EV_TOUCHED);
	assert_true(dp_deadline(x->dp) == NEVER);
	x->now.now_ns += DP_TOUCH_NS;
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_true(dp_op_event(&op, &ev));
	/* What was not told yet comes before "drained". */
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	dp_layout_close(x->dp, INO);
	assert_true(dp_next_event(x->dp, &ev));
	assert_int_equal(ev.type, EV_TOUCHED);
	assert_true(dp_next_event(x->dp, &ev));
	assert_int_equal(ev.type, EV_DRAINED);
	assert_false(dp_next_event(x->dp, &ev));
	forget(x);
}

/* Rule 14: the coordinator must know that it is written, though what is known of it would do. */
static void who_has_only_read_asks_before_it_writes(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = {.len = CS, .lun_off = 100 * CS, .state = EXT_WRITTEN};
	struct dp_op op;

	assert_int_equal(dp_layout_put(x->dp, INO, 0, CS, CS, &e, 1), 0);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(go(x, &op, true, 0, 4096), i ? DP_SUBMIT : DP_NEED_LAYOUT);
		if (!i) {
			assert_true(op.need_write);
			assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
		}
		assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	}
	/* With the layout the right goes. */
	dp_layout_drop(x->dp, INO);
	assert_int_equal(dp_layout_put(x->dp, INO, 0, CS, CS, &e, 1), 0);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &op, -EIO, x->now), DP_DONE);
	forget(x);
}

/* Each thread reads its clock before it takes the lock: what it brings may be older than what another has brought. */
static void who_comes_with_an_older_time_tells_no_sooner(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_true(read_is_told(x, 1));
	x->now.now_ns -= 2 * DP_TOUCH_NS + 2000;
	assert_false(read_is_told(x, 2));
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_false(dp_op_event(&op, &(struct event){0}));
	forget(x);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(touched_is_told_once_a_second_and_the_last_is_kept),
		T(write_in_place_that_must_be_durable_is_told_with_its_time),
		T(read_is_told_once_then_after_a_change_or_an_hour),
		T(who_has_only_read_asks_before_it_writes),
		T(who_comes_with_an_older_time_tells_no_sooner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
