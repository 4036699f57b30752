/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who waits: the limit of patience, and pauses (dp.h, rules 12 and 17). */
#include "tests/unit/dp_fixture.h"

#define HOLD (5 * NS_PER_SEC)

static int with_limit(void **state)
{
	struct fixture *x;
	struct dp_config c = {.cluster_bytes = CS, .block_bytes = BS, .hold_ns = HOLD};

	setup(state);
	x = *state;
	dp_destroy(x->dp);
	c.mem = &x->mem;
	x->dp = dp_create(&c);
	assert_non_null(x->dp);
	return 0;
}

/* Without a path: handed over, sent, and not answered for too long. */
static void given_up(struct fixture *x, struct dp_op *op, uint64_t off)
{
	dp_gate(x->dp, GATE_CLOSED, 0);
	assert_int_equal(go(x, op, true, off, 4096), DP_HANDOVER);
	dp_given_up(x->dp, op);
	dp_check(x->dp);
	/* The path is back. */
	dp_gate(x->dp, GATE_DIRECT, LEASE);
}

static void a_later_write_waits_for_one_that_was_given_up_and_may_land(void **state)
{
	struct fixture *x = *state;
	struct dp_op old, over, beside, read;

	put(x, 0, 1, EXT_WRITTEN, CS);
	given_up(x, &old, 8192);
	assert_int_equal(go(x, &over, true, 4096, 8192), DP_WAIT);
	assert_int_equal(go(x, &beside, true, 16384, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &read, false, 8192, 4096), DP_SUBMIT);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_int_equal(block_done(x, &old, 0), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &over);
	assert_int_equal(dp_begin(x->dp, &over, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &over, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &beside, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &read, LUN_OK), DP_DONE);
	forget(x);
}

/* Its space would be another file's when it lands. */
static void no_layout_goes_back_under_a_write_that_was_given_up(void **state)
{
	struct fixture *x = *state;
	struct dp_op old;

	put(x, 0, 1, EXT_WRITTEN, CS);
	given_up(x, &old, 0);
	dp_layout_close(x->dp, INO);
	assert_false(drained(x, INO));
	assert_int_equal(block_done(x, &old, -EIO), DP_DONE);
	assert_true(drained(x, INO));
	forget(x);
}

static void a_first_write_that_was_given_up_counts_as_never_written(void **state)
{
	struct fixture *x = *state;
	struct dp_op old, again;
	struct event ev;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	given_up(x, &old, 0);
	assert_int_equal(block_done(x, &old, 0), DP_DONE);
	assert_int_equal(old.result, -EIO);
	assert_false(dp_op_event(&old, &ev));
	assert_int_equal(go(x, &again, true, 4096, 4096), DP_SUBMIT);
	assert_int_equal(again.img_len, CS);
	assert_int_equal(done(x, &again, LUN_OK), DP_DONE);
	forget(x);
}

static void who_waits_behind_it_has_a_limit_of_its_own(void **state)
{
	struct fixture *x = *state;
	struct dp_op old, over;

	put(x, 0, 1, EXT_WRITTEN, CS);
	given_up(x, &old, 0);
	assert_int_equal(go(x, &over, true, 0, 4096), DP_WAIT);
	x->now.now_ns += HOLD - 1;
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_in_range(dp_deadline(x->dp), x->now.now_ns, x->now.now_ns + NS_PER_SEC);
	x->now.now_ns += NS_PER_SEC;
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &over);
	assert_int_equal(dp_begin(x->dp, &over, x->now), DP_DONE);
	assert_int_equal(over.result, -EIO);
	dp_check(x->dp);
	assert_int_equal(block_done(x, &old, 0), DP_DONE);
	forget(x);
}

static void who_waits_behind_one_that_gives_up_goes_on(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_HANDOVER);
	assert_int_equal(go(x, &b, true, 100, 4100), DP_WAIT); /* parts of blocks: alone */
	x->now.now_ns += HOLD - 1;
	assert_int_equal(go(x, &c, true, 4096, 4096), DP_WAIT); /* not overtaken */
	x->now.now_ns += 1;
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_DONE);
	assert_int_equal(b.result, -EIO);
	dp_check(x->dp);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &c);
	assert_int_equal(dp_begin(x->dp, &c, x->now), DP_HANDOVER);
	assert_int_equal(block_done(x, &c, 0), DP_DONE);
	assert_int_equal(block_done(x, &a, 0), DP_DONE);
	forget(x);
}

/* Each thread reads its clock before it takes the lock: what it brings may be older than what another has brought. */
static void who_comes_with_an_older_time_ends_nobodys_wait(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_layout_close(x->dp, INO);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_WAIT);
	assert_null(dp_next_ready(x->dp, x->now.now_ns - 2000));
	x->now.now_ns += HOLD + NS_PER_SEC;
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_DONE);
	assert_int_equal(op.result, -EIO);
	forget(x);
}

/* A target that answers no read as it should, on a path that stands: asked again, not all the time, and not for ever. */
static void a_read_whose_outcome_is_never_known_is_spaced_and_ends(void **state)
{
	struct fixture *x = *state;
	unsigned submitted = 1, handed_over = 0;
	enum dp_verdict v;
	struct dp_op op;

	dp_gate(x->dp, GATE_DIRECT, LEASE);
	put(x, 0, 1, EXT_WRITTEN, CS);
	v = go(x, &op, false, 0, 4096);
	for (uint64_t end = x->now.now_ns + HOLD; v != DP_DONE; submitted++) {
		assert_in_range(x->now.now_ns, 0, end + NS_PER_SEC);
		assert_in_range(submitted, 1, 1000);
		if (v == DP_SUBMIT)
			v = done(x, &op, LUN_UNKNOWN);
		if (v == DP_WAIT) {
			x->now.now_ns = dp_deadline(x->dp);
			assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
			v = dp_begin(x->dp, &op, x->now);
		} else if (v == DP_HANDOVER) {
			handed_over++;
			v = dp_block_retry(x->dp, &op, x->now);
		}
	}
	assert_int_equal(op.result, -EIO);
	assert_in_range(submitted, 20, 200);
	assert_in_range(handed_over, 0, 2);
	forget(x);
}

static void a_read_that_is_to_be_made_again_can_be_killed(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	dp_gate(x->dp, GATE_DIRECT, LEASE);
	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_SUBMIT);
	assert_false(dp_cancel(x->dp, &op));
	assert_int_equal(done(x, &op, LUN_UNKNOWN), DP_WAIT);
	assert_true(dp_cancel(x->dp, &op));
	assert_int_equal(op.result, -EINTR);
	/* The path is lost, and this is known: a peer is asked at once. */
	assert_int_equal(go(x, &op, false, 0, 4096), DP_SUBMIT);
	dp_gate(x->dp, GATE_CLOSED, 0);
	assert_int_equal(done(x, &op, LUN_UNKNOWN), DP_HANDOVER);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
}

/* The core has no memory for it: nobody would say when it can land no more. */
static void a_write_that_may_land_stays_inside_until_the_core_takes_it(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	dp_gate(x->dp, GATE_DIRECT, LEASE);
	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	op.handle = 7;
	assert_int_equal(done(x, &op, LUN_UNKNOWN), DP_HANDOVER);
	assert_true(op.io_unknown && !op.io_told);
	dp_layout_close(x->dp, INO);
	/* Whatever becomes of it: its locks are lost, its time is over, its process is killed. */
	dp_handles_lost(x->dp, &op.handle, 1);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(block_done(x, &op, -ENOMEM), DP_WAIT);
		assert_false(drained(x, INO));
		assert_false(dp_cancel(x->dp, &op));
		x->now.now_ns += DP_AGAIN_NS;
		assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
		assert_int_equal(dp_begin(x->dp, &op, x->now), DP_HANDOVER);
		assert_true(op.io_write && op.io_unknown && op.io_told);
	}
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_int_equal(op.result, -EIO);
	assert_true(drained(x, INO));
	dp_handle_closed(x->dp, 7);
	forget(x);
}

/* Nothing of it is under way: it may go another way, or end. */
static void what_the_core_has_no_memory_for_comes_again(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_gate(x->dp, GATE_CLOSED, 0);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_HANDOVER);
	assert_int_equal(block_done(x, &op, -ENOMEM), DP_WAIT);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_int_equal(dp_deadline(x->dp), x->now.now_ns + DP_AGAIN_NS);
	x->now.now_ns += DP_AGAIN_NS;
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_HANDOVER);
	assert_false(op.io_unknown || op.io_told);
	assert_int_equal(block_done(x, &op, -ENOMEM), DP_WAIT);
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	x->now.now_ns += DP_AGAIN_NS;
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(op.result, 4096);
	dp_gate(x->dp, GATE_CLOSED, 0);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_HANDOVER);
	x->now.now_ns += HOLD;
	assert_int_equal(block_done(x, &op, -ENOMEM), DP_DONE);
	assert_int_equal(op.result, -EIO);
	forget(x);
}

static void a_pause_keeps_out_who_is_not_inside_and_no_layout(void **state)
{
	struct fixture *x = *state;
	struct dp_op in, core, out, asks;

	dp_gate(x->dp, GATE_DIRECT, LEASE);
	put(x, 0, 2, EXT_WRITTEN, 2 * CS);
	assert_int_equal(go(x, &in, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &asks, false, 2 * CS, 4096), DP_NEED_LAYOUT);
	dp_gate(x->dp, GATE_CLOSED, 0);
	assert_int_equal(go(x, &core, true, 8192, 4096), DP_HANDOVER);
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	dp_pause(x->dp, true);
	assert_int_equal(go(x, &out, true, 16384, 4096), DP_WAIT);
	dp_check(x->dp);
	dp_layout_close(x->dp, INO);
	assert_int_equal(dp_layout_done(x->dp, &asks, 0, x->now), DP_WAIT);
	assert_int_equal(dp_block_retry(x->dp, &core, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &core, LUN_OK), DP_DONE);
	assert_false(drained(x, INO));
	assert_int_equal(done(x, &in, LUN_OK), DP_DONE);
	assert_true(drained(x, INO));
	dp_layout_drop(x->dp, INO);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	dp_check(x->dp);
	dp_pause(x->dp, false);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &out);
	assert_int_equal(dp_begin(x->dp, &out, x->now), DP_NEED_LAYOUT);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &asks);
	assert_int_equal(dp_begin(x->dp, &asks, x->now), DP_NEED_LAYOUT);
	put(x, 0, 2, EXT_WRITTEN, 2 * CS);
	assert_int_equal(dp_layout_done(x->dp, &out, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &out, LUN_OK), DP_DONE);
	assert_int_equal(dp_layout_done(x->dp, &asks, 0, x->now), DP_DONE);
	forget(x);
}

static enum dp_verdict append(struct fixture *x, struct dp_op *op)
{
	dp_op_init(op);
	op->ino = INO;
	op->write = op->append = true;
	op->len = 4096;
	return dp_begin(x->dp, op, x->now);
}

/* Others wait for an append that has its place. */
static void an_append_waits_for_the_end_of_a_pause_without_a_place_and_not_with_one(void **state)
{
	struct fixture *x = *state;
	struct dp_op with, without;

	dp_gate(x->dp, GATE_DIRECT, LEASE);
	put(x, 0, 1, EXT_WRITTEN, 8192);
	assert_int_equal(append(x, &with), DP_NEED_APPEND);
	dp_pause(x->dp, true);
	assert_int_equal(append(x, &without), DP_WAIT);
	assert_int_equal(dp_append_done(x->dp, &with, 0, 8192, x->now), DP_SUBMIT);
	dp_check(x->dp);
	assert_int_equal(done(x, &with, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &with, 0), DP_DONE);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	dp_pause(x->dp, false);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &without);
	assert_int_equal(dp_begin(x->dp, &without, x->now), DP_NEED_APPEND);
	assert_int_equal(dp_append_done(x->dp, &without, 0, 12288, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &without, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &without, 0), DP_DONE);
	forget(x);
}

static void who_waits_for_the_end_of_a_pause_can_be_killed_and_has_the_limit(void **state)
{
	struct fixture *x = *state;
	struct dp_op killed, late;

	put(x, 0, 1, EXT_WRITTEN, CS);
	dp_pause(x->dp, true);
	assert_int_equal(go(x, &killed, true, 0, 4096), DP_WAIT);
	assert_int_equal(go(x, &late, true, 0, 4096), DP_WAIT);
	assert_true(dp_cancel(x->dp, &killed));
	assert_int_equal(killed.result, -EINTR);
	x->now.now_ns += HOLD;
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &late);
	assert_int_equal(dp_begin(x->dp, &late, x->now), DP_DONE);
	assert_int_equal(late.result, -EIO);
	forget(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, with_limit, teardown)
		T(a_write_that_may_land_stays_inside_until_the_core_takes_it),
		T(what_the_core_has_no_memory_for_comes_again),
		T(a_later_write_waits_for_one_that_was_given_up_and_may_land),
		T(no_layout_goes_back_under_a_write_that_was_given_up),
		T(a_first_write_that_was_given_up_counts_as_never_written),
		T(who_waits_behind_it_has_a_limit_of_its_own),
		T(who_waits_behind_one_that_gives_up_goes_on),
		T(who_comes_with_an_older_time_ends_nobodys_wait),
		T(a_read_whose_outcome_is_never_known_is_spaced_and_ends),
		T(a_read_that_is_to_be_made_again_can_be_killed),
		T(a_pause_keeps_out_who_is_not_inside_and_no_layout),
		T(an_append_waits_for_the_end_of_a_pause_without_a_place_and_not_with_one),
		T(who_waits_for_the_end_of_a_pause_can_be_killed_and_has_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
