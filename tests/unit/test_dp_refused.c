/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dp.c, rule 7: what the target does not do for seconds: a place that fails behind it, and a path that refuses reads. */
#include "tests/unit/dp_fixture.h"

/* It is answered so again and again, each time after `took_ns`, until the data path has had enough of it. */
static enum dp_verdict keeps_saying(struct fixture *x, struct dp_op *op, enum lun_status status, uint64_t took_ns)
{
	enum dp_verdict v;

	do {
		x->now.now_ns += took_ns;
		v = done(x, op, status);
		if (v != DP_WAIT)
			continue;
		assert_true(dp_deadline(x->dp) > x->now.now_ns);
		x->now.now_ns = dp_deadline(x->dp);
		assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), op);
		v = dp_begin(x->dp, op, x->now);
	} while (v == DP_SUBMIT && x->now.now_ns < 60 * NS_PER_SEC);
	return v;
}

static void a_place_that_fails_is_an_error_in_the_end_and_no_lost_path(void **state)
{
	struct fixture *x = *state;

	for (int write = 0; write < 2; write++) {
		struct dp_op op;
		uint64_t began_ns = x->now.now_ns;

		put(x, 0, 1, EXT_WRITTEN, CS);
		assert_int_equal(go(x, &op, write, 0, 4096), DP_SUBMIT);
		assert_int_equal(keeps_saying(x, &op, LUN_FAILING, NS_PER_MS), DP_DONE);
		assert_int_equal(op.result, -EIO);
		assert_in_range(x->now.now_ns - began_ns, DP_RETRY_NS, DP_RETRY_NS + NS_PER_SEC);
		forget(x);
	}
}

/* While it is tried again the file's layout is not given back: time that the target takes itself counts. */
static void a_slow_target_that_fails_is_not_asked_again_for_longer(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_SUBMIT);
	x->now.now_ns += DP_RETRY_NS + NS_PER_SEC;
	assert_int_equal(done(x, &op, LUN_FAILING), DP_DONE);
	assert_int_equal(op.result, -EIO);
	forget(x);
}

static void what_fails_for_a_moment_goes_on(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(done(x, &op, LUN_FAILING), DP_WAIT);
		x->now.now_ns = dp_deadline(x->dp);
		assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
		assert_int_equal(dp_begin(x->dp, &op, x->now), DP_SUBMIT);
	}
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(op.result, 4096);
	forget(x);
}

/* Resets of a fence, or a busy target, and then one failure: that is no bad place. But no longer than that either. */
static void what_was_refused_before_does_not_count_as_failing(void **state)
{
	struct fixture *x = *state;

	for (int write = 0; write < 2; write++) {
		struct dp_op op;

		put(x, 0, 1, EXT_WRITTEN, CS);
		assert_int_equal(go(x, &op, write, 0, 4096), DP_SUBMIT);
		x->now.now_ns += 100 * NS_PER_MS;
		assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
		x->now.now_ns += 3500 * NS_PER_MS;
		assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
		x->now.now_ns += 1600 * NS_PER_MS;
		assert_int_equal(done(x, &op, LUN_FAILING), DP_HANDOVER);
		assert_int_equal(op.io_refused, !write);
		/* How it was before says nothing of now. */
		assert_int_equal(dp_block_retry(x->dp, &op, x->now), DP_SUBMIT);
		assert_int_equal(done(x, &op, LUN_FAILING), DP_WAIT);
		x->now.now_ns = dp_deadline(x->dp);
		assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
		assert_int_equal(dp_begin(x->dp, &op, x->now), DP_SUBMIT);
		assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
		assert_int_equal(op.result, 4096);
		forget(x);
	}
}

/* A unit attention comes first, often. */
static void a_bad_place_that_was_refused_at_first_costs_no_path(void **state)
{
	struct fixture *x = *state;
	uint64_t began_ns = x->now.now_ns;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	x->now.now_ns += 100 * NS_PER_MS;
	assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
	x->now.now_ns += NS_PER_SEC;
	assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
	assert_int_equal(keeps_saying(x, &op, LUN_FAILING, NS_PER_MS), DP_DONE);
	assert_int_equal(op.result, -EIO);
	assert_in_range(x->now.now_ns - began_ns, DP_RETRY_NS, DP_RETRY_NS + NS_PER_SEC);
	forget(x);
}

static void a_read_that_is_refused_for_seconds_gives_the_path_up(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_SUBMIT);
	assert_int_equal(keeps_saying(x, &op, LUN_RETRY, 0), DP_HANDOVER);
	assert_true(op.io_refused);
	/* Given back, it begins anew. */
	assert_int_equal(dp_block_retry(x->dp, &op, x->now), DP_SUBMIT);
	assert_false(op.io_refused);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

/* Then the core has its own reason for what it does with the path. */
static void a_read_that_meets_a_closed_gate_was_not_refused(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_SUBMIT);
	dp_gate(x->dp, GATE_CLOSED, 0);
	assert_int_equal(done(x, &op, LUN_UNKNOWN), DP_HANDOVER);
	assert_false(op.io_refused);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_place_that_fails_is_an_error_in_the_end_and_no_lost_path, setup, teardown),
		cmocka_unit_test_setup_teardown(a_slow_target_that_fails_is_not_asked_again_for_longer, setup, teardown),
		cmocka_unit_test_setup_teardown(what_fails_for_a_moment_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_refused_before_does_not_count_as_failing, setup, teardown),
		cmocka_unit_test_setup_teardown(a_bad_place_that_was_refused_at_first_costs_no_path, setup, teardown),
		cmocka_unit_test_setup_teardown(a_read_that_is_refused_for_seconds_gives_the_path_up, setup, teardown),
		cmocka_unit_test_setup_teardown(a_read_that_meets_a_closed_gate_was_not_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
