/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rules 13 and 16 of dp.h: nobody sees the place of an append without its data; and how long a place is its own. */
#include "tests/unit/dp_fixture.h"

static enum dp_verdict append(struct fixture *x, struct dp_op *op)
{
	dp_op_init(op);
	op->ino = INO;
	op->write = op->append = true;
	op->len = 4096;
	return dp_begin(x->dp, op, x->now);
}

static void a_read_that_may_reach_into_an_append_waits_for_its_end(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, before, into;
	struct event ev;

	put(x, 0, 1, EXT_WRITTEN, 4096);
	assert_int_equal(append(x, &a), DP_NEED_APPEND);
	assert_int_equal(go(x, &before, false, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &into, false, 0, 8192), DP_WAIT);
	/* With its answer the file may be known to be longer already. */
	put(x, 0, 1, EXT_WRITTEN, 8192);
	assert_int_equal(dp_append_done(x->dp, &a, 0, 4096, x->now), DP_SUBMIT);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &into);
	assert_int_equal(dp_begin(x->dp, &into, x->now), DP_SUBMIT);
	assert_int_equal(into.result, 4096); /* it has waited once: up to where the append begins */
	assert_int_equal(done(x, &into, LUN_OK), DP_DONE);
	assert_int_equal(go(x, &into, false, 4096, 4096), DP_WAIT);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_TOUCHED);
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_APPENDED);
	assert_true(ev.range.ino == INO && ev.range.off == 4096);
	assert_false(dp_op_event(&a, &ev));
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &into);
	assert_int_equal(dp_begin(x->dp, &into, x->now), DP_SUBMIT);
	assert_int_equal(into.result, 4096);
	assert_int_equal(done(x, &into, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &before, LUN_OK), DP_DONE);
	forget(x);
}

/*
 * Two pieces of one asynchronous append are under way, and another node has written behind them: there is no end of the file. If that is not
 * known here yet, it is asked for.
 */
static void what_others_wrote_behind_appends_of_ours_is_no_end(void **state)
{
	struct fixture *x = *state;
	struct dp_op a[2], r;

	for (int known = 0; known < 2; known++) {
		put(x, 0, 1, EXT_WRITTEN, 4096);
		for (int i = 0; i < 2; i++)
			assert_int_equal(append(x, &a[i]), DP_NEED_APPEND);
		for (uint64_t i = 0; i < 2; i++)
			assert_int_equal(dp_append_done(x->dp, &a[i], 0, 4096 + 4096 * i, x->now), DP_SUBMIT);
		dp_layout_size(x->dp, INO, known ? 20480 : 12288);
		assert_int_equal(go(x, &r, false, 16384, 4096), DP_WAIT);
		assert_int_equal(done(x, &a[0], LUN_OK), DP_DONE);
		assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &r);
		if (!known) {
			assert_int_equal(dp_begin(x->dp, &r, x->now), DP_NEED_LAYOUT);
			put(x, 0, 1, EXT_WRITTEN, 20480);
			assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_WAIT);
		} else {
			assert_int_equal(dp_begin(x->dp, &r, x->now), DP_WAIT);
		}
		assert_int_equal(done(x, &a[1], LUN_OK), DP_DONE);
		assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &r);
		assert_int_equal(dp_begin(x->dp, &r, x->now), DP_SUBMIT);
		assert_int_equal(r.result, 4096);
		assert_int_equal(done(x, &r, LUN_OK), DP_DONE);
		forget(x);
	}
}

/* Behind all that there is, and others append on and on. */
static void who_reads_behind_the_end_is_told_so_while_others_append(void **state)
{
	struct fixture *x = *state;
	struct dp_op a[2], r;

	put(x, 0, 1, EXT_WRITTEN, 4096);
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(append(x, &a[i]), DP_NEED_APPEND);
		assert_int_equal(dp_append_done(x->dp, &a[i], 0, 4096 + 4096 * i, x->now), DP_SUBMIT);
	}
	dp_layout_size(x->dp, INO, 12288);
	assert_int_equal(go(x, &r, false, 1 << 20, 4096), DP_WAIT);
	assert_int_equal(done(x, &a[0], LUN_OK), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &r);
	assert_int_equal(dp_begin(x->dp, &r, x->now), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_WRITTEN, 12288);
	assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_DONE);
	assert_int_equal(r.result, 0);
	assert_int_equal(done(x, &a[1], LUN_OK), DP_DONE);
	forget(x);
}

/* It has asked, and waits for another append; the layout goes back, and with it what was said of the end. */
static void who_has_asked_asks_again_when_that_is_known_no_more(void **state)
{
	struct fixture *x = *state;
	struct dp_op a[2], r, *op;
	enum dp_verdict v;
	bool asks = false;

	put(x, 0, 1, EXT_UNWRITTEN, 4096);
	for (int i = 0; i < 2; i++)
		assert_int_equal(append(x, &a[i]), DP_NEED_APPEND);
	assert_int_equal(dp_append_done(x->dp, &a[0], 0, 4096, x->now), DP_SUBMIT);
	assert_int_equal(go(x, &r, false, 2 * CS, 4096), DP_WAIT);
	assert_int_equal(dp_append_done(x->dp, &a[1], 0, 8192, x->now), DP_WAIT);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &r);
	assert_int_equal(dp_begin(x->dp, &r, x->now), DP_NEED_LAYOUT);
	put(x, 2, 1, EXT_WRITTEN, 3 * CS);
	assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_WAIT);
	dp_layout_close(x->dp, INO);
	v = done(x, &a[0], LUN_OK);
	assert_int_equal(v == DP_COMMIT ? block_done(x, &a[0], 0) : v, DP_DONE);
	while ((op = dp_next_ready(x->dp, x->now.now_ns)))
		assert_int_equal(dp_begin(x->dp, op, x->now), DP_WAIT);
	assert_true(drained(x, INO));
	dp_layout_drop(x->dp, INO);
	while ((op = dp_next_ready(x->dp, x->now.now_ns))) {
		v = dp_begin(x->dp, op, x->now);
		asks |= op == &r && v == DP_NEED_LAYOUT;
	}
	assert_true(asks);
	assert_int_equal(dp_layout_done(x->dp, &r, -EIO, x->now), DP_DONE);
	assert_int_equal(dp_layout_done(x->dp, &a[1], -EIO, x->now), DP_DONE);
	forget(x);
}

static void an_append_that_was_refused_has_no_end_to_be_told(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, r;
	struct event ev;

	put(x, 0, 1, EXT_WRITTEN, 4096);
	assert_int_equal(append(x, &a), DP_NEED_APPEND);
	assert_int_equal(go(x, &r, false, 4096, 100), DP_WAIT);
	assert_int_equal(dp_append_done(x->dp, &a, -ENOSPC, 0, x->now), DP_DONE);
	assert_false(dp_op_event(&a, &ev));
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &r);
	assert_int_equal(dp_begin(x->dp, &r, x->now), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_DONE);
	assert_int_equal(r.result, 0);
	forget(x);
}

static void what_others_append_is_asked_for_before_it_is_read_and_is_no_gap(void **state)
{
	struct fixture *x = *state;
	struct dp_op r, w;

	put(x, 0, 1, EXT_WRITTEN, 12288);
	dp_layout_shown(x->dp, INO, 8192);
	assert_int_equal(go(x, &r, false, 0, 8192), DP_SUBMIT);
	assert_int_equal(done(x, &r, LUN_OK), DP_DONE);
	assert_int_equal(go(x, &r, false, 8192, 4096), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_DONE);
	assert_int_equal(r.result, 0);
	/* A write behind it zeroes nothing of it. */
	assert_int_equal(go(x, &w, true, 12288, 4096), DP_SUBMIT);
	assert_true(w.io_write && w.img_off == 12288);
	assert_int_equal(done(x, &w, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &w, 0), DP_DONE);
	assert_int_equal(go(x, &r, false, 8192, 4096), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_WRITTEN, 16384);
	assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &r, LUN_OK), DP_DONE);
	forget(x);
}

/*
 * Its rights end between FS_APPEND and the layout: others may have made the file shorter, and longer again, since. The place that it
 * was told may hold their data by now.
 */
static void an_append_has_no_place_any_more_when_the_rights_have_ended(void **state)
{
	struct fixture *x = *state;
	struct dp_op a;
	struct event ev;

	assert_int_equal(append(x, &a), DP_NEED_APPEND);
	assert_int_equal(dp_append_done(x->dp, &a, 0, 4096, x->now), DP_NEED_LAYOUT);
	dp_layout_drop_all(x->dp);
	dp_rights(x->dp, 1);
	/* Another node: truncate(0), and 64 KiB appended. Our question is answered when we are served again. */
	put(x, 0, 2, EXT_WRITTEN, CS);
	dp_file_find(x->dp, INO)->writes = true;
	assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_NEED_APPEND);
	/* Nobody waits for that place any longer. */
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_APPENDED && ev.range.off == 4096);
	assert_false(dp_op_event(&a, &ev));
	assert_int_equal(dp_append_done(x->dp, &a, 0, 8192, x->now), DP_SUBMIT);
	assert_int_equal(a.img_off, 8192);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_TOUCHED);
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_APPENDED && ev.range.off == 8192);
	forget(x);
}

/* The coordinator may have executed it before: the version of that moment comes with the place. */
static void asked_for_under_rights_that_have_ended_its_version_tells(void **state)
{
	struct fixture *x = *state;
	struct dp_op a;
	struct event ev;

	for (uint64_t now = 7; now < 9; now++) {
		put(x, 0, 2, EXT_WRITTEN, 8192);
		assert_int_equal(append(x, &a), DP_NEED_APPEND);
		dp_layout_drop_all(x->dp);
		dp_rights(x->dp, (uint32_t)now);
		dp_place_version(&a, 7);
		assert_int_equal(dp_append_done(x->dp, &a, 0, 4096, x->now), DP_NEED_LAYOUT);
		assert_false(dp_op_event(&a, &ev));
		put(x, 0, 2, EXT_WRITTEN, 8192);
		dp_layout_version(x->dp, INO, now);
		dp_file_find(x->dp, INO)->writes = true;
		if (now == 7) {
			assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_SUBMIT);
			assert_int_equal(a.img_off, 4096);
			assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
			forget(x);
			continue;
		}
		assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_NEED_APPEND);
		assert_true(dp_op_event(&a, &ev) && ev.type == EV_APPENDED && ev.range.off == 4096);
	}
	/* Of an older csvfs, which knows of no version. */
	dp_layout_drop_all(x->dp);
	dp_rights(x->dp, 10);
	dp_place_version(&a, UINT64_MAX);
	assert_int_equal(dp_append_done(x->dp, &a, 0, 4096, x->now), DP_NEED_APPEND);
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_APPENDED && ev.range.off == 4096);
	assert_int_equal(dp_append_done(x->dp, &a, -EIO, 0, x->now), DP_DONE);
	assert_false(dp_op_event(&a, &ev));
	forget(x);
}

/* Else it would be in the file twice. */
static void what_may_be_there_already_is_not_appended_again(void **state)
{
	struct fixture *x = *state;
	struct dp_op a;
	struct event ev;

	put(x, 0, 1, EXT_WRITTEN, 8192);
	assert_int_equal(append(x, &a), DP_NEED_APPEND);
	assert_int_equal(dp_append_done(x->dp, &a, 0, 4096, x->now), DP_SUBMIT);
	dp_layout_drop_all(x->dp);
	dp_rights(x->dp, 1);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_int_equal(a.result, -EIO);
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_APPENDED && ev.range.off == 4096);
	forget(x);
}

/* What was first-written, and not committed, nobody sees. */
static void what_was_written_to_unwritten_space_is_appended_again(void **state)
{
	struct fixture *x = *state;
	struct dp_op a;
	struct event ev;

	put(x, 0, 1, EXT_UNWRITTEN, 8192);
	assert_int_equal(append(x, &a), DP_NEED_APPEND);
	assert_int_equal(dp_append_done(x->dp, &a, 0, 4096, x->now), DP_SUBMIT);
	dp_layout_drop_all(x->dp);
	dp_rights(x->dp, 1);
	assert_int_equal(done(x, &a, LUN_OK), DP_NEED_APPEND);
	assert_true(dp_op_event(&a, &ev) && ev.type == EV_APPENDED && ev.range.off == 4096);
	assert_false(dp_op_event(&a, &ev));
	assert_int_equal(dp_append_done(x->dp, &a, -EIO, 0, x->now), DP_DONE);
	forget(x);
}

/* Nobody has made the file shorter: the place is its own still, also if it was written there. */
static void while_the_version_is_the_same_the_place_stands(void **state)
{
	struct fixture *x = *state;
	struct dp_op a;
	struct event ev;

	for (uint64_t now = 5; now <= 6; now++) {
		put(x, 0, 1, EXT_WRITTEN, 8192);
		assert_int_equal(append(x, &a), DP_NEED_APPEND);
		dp_place_version(&a, 5);
		assert_int_equal(dp_append_done(x->dp, &a, 0, 4096, x->now), DP_SUBMIT);
		dp_layout_drop_all(x->dp);
		dp_rights(x->dp, (uint32_t)now);
		assert_int_equal(done(x, &a, LUN_OK), DP_NEED_LAYOUT);
		put(x, 0, 1, EXT_WRITTEN, 8192);
		dp_layout_version(x->dp, INO, now);
		if (now == 5) {
			assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_SUBMIT);
			assert_int_equal(a.off, 4096);
			/* Its layout goes back before it is there, and others make the file shorter then. */
			dp_layout_drop_all(x->dp);
			assert_int_equal(done(x, &a, LUN_OK), DP_NEED_LAYOUT);
			put(x, 0, 1, EXT_WRITTEN, 8192);
			dp_layout_version(x->dp, INO, 6);
		}
		assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_DONE);
		assert_int_equal(a.result, -EIO);
		while (dp_op_event(&a, &ev))
			;
		forget(x);
		dp_layout_drop_all(x->dp);
	}
}

/* It asked while 1 MiB was known; the layout went back, another node made the file shorter, and it got its place at 0. */
static void who_reads_waits_for_a_place_that_may_begin_anywhere_once_the_layout_is_gone(void **state)
{
	struct fixture *x = *state;
	struct dp_op b, r;
	struct event ev;

	put(x, 0, 1, EXT_WRITTEN, 65536);
	assert_int_equal(append(x, &b), DP_NEED_APPEND);
	dp_layout_close(x->dp, INO);
	assert_true(drained(x, INO));
	dp_layout_drop(x->dp, INO);
	/* That answer is on its way. */
	assert_int_equal(go(x, &r, false, 0, 4096), DP_WAIT);
	assert_int_equal(dp_append_done(x->dp, &b, -EIO, 0, x->now), DP_DONE);
	while (dp_op_event(&b, &ev))
		;
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &r);
	assert_int_equal(dp_begin(x->dp, &r, x->now), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_HOLE, 4096);
	assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_DONE);
	forget(x);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(who_reads_waits_for_a_place_that_may_begin_anywhere_once_the_layout_is_gone),
		T(an_append_has_no_place_any_more_when_the_rights_have_ended),
		T(asked_for_under_rights_that_have_ended_its_version_tells),
		T(while_the_version_is_the_same_the_place_stands),
		T(what_may_be_there_already_is_not_appended_again),
		T(what_was_written_to_unwritten_space_is_appended_again),
		T(a_read_that_may_reach_into_an_append_waits_for_its_end),
		T(what_others_wrote_behind_appends_of_ours_is_no_end),
		T(who_reads_behind_the_end_is_told_so_while_others_append),
		T(who_has_asked_asks_again_when_that_is_known_no_more),
		T(an_append_that_was_refused_has_no_end_to_be_told),
		T(what_others_append_is_asked_for_before_it_is_read_and_is_no_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
