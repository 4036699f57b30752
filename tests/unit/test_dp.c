/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of dp.h one by one. Random histories: test_dp_random.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "tests/unit/dp_fixture.h"

/* ------------------------------------------------------------------ reads */

static void read_goes_where_the_layout_says(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 2, EXT_WRITTEN, 2 * CS);
	assert_int_equal(go(x, &op, false, CS - 4096, 8192), DP_SUBMIT);
	assert_int_equal(op.seg_count, 1);
	assert_true(op.segs[0].lun_off == 101 * CS - 4096 && op.segs[0].len == 8192);
	assert_int_equal(op.skip, 0);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(op.result, 8192);
	forget(x);
}

static void unaligned_read_takes_whole_blocks_and_answers_the_middle(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, false, 1000, 100), DP_SUBMIT);
	assert_true(op.segs[0].lun_off == 100 * CS + 512 && op.segs[0].len == 1024);
	assert_int_equal(op.skip, 488);
	assert_int_equal(op.img_len, 1024);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(op.result, 100);
	forget(x);
}

static void unwritten_and_holes_read_as_zero(void **state)
{
	struct fixture *x = *state;
	uint8_t img[4 * CS];
	struct dp_op op;

	memset(img, 0xee, sizeof(img));
	put(x, 0, 1, EXT_WRITTEN, 4 * CS);
	put(x, 1, 1, EXT_UNWRITTEN, 4 * CS);
	put(x, 2, 1, EXT_WRITTEN, 4 * CS);
	put(x, 3, 1, EXT_UNWRITTEN, 4 * CS);
	assert_int_equal(go(x, &op, false, 0, 4 * CS), DP_SUBMIT);
	assert_int_equal(op.seg_count, 2);
	assert_int_equal(op.zero_count, 2);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	dp_fill(&op, img, NULL);
	assert_int_equal(img[CS - 1], 0xee);
	assert_int_equal(img[CS], 0);
	assert_int_equal(img[2 * CS], 0xee);
	assert_int_equal(img[4 * CS - 1], 0);
	forget(x);
}

/* Rule 15: nothing, too, is what we know, and others may have written there when it is not ours any more. */
static void zeros_and_the_end_are_answered_while_the_lease_runs(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	for (unsigned closed = 0; closed < 2; closed++) {
		for (unsigned end = 0; end < 2; end++) {
			uint64_t off = end ? CS : 0;

			dp_gate(x->dp, GATE_DIRECT, LEASE);
			x->now.now_ns = LEASE - 1;
			if (!end) { /* behind the end it asks always: the file may have grown */
				assert_int_equal(go(x, &op, false, off, 512), DP_DONE);
				assert_int_equal(op.result, 512);
				assert_int_equal(op.zero_count, 1);
			}
			if (closed)
				dp_gate(x->dp, GATE_CLOSED, LEASE);
			else
				x->now.now_ns = LEASE;
			assert_int_equal(go(x, &op, false, off, 512), DP_NEED_LAYOUT);
			assert_false(op.need_write);
			assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_DONE);
			assert_int_equal(op.result, end ? 0 : 512);
			if (closed)
				(void)drained(x, 0);
		}
	}
	forget(x);
}

static void hole_that_was_known_before_is_asked_for_again(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_HOLE, CS);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_NEED_LAYOUT);
	assert_false(op.need_write);
	/* Meanwhile another node has filled it. */
	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	/* Still a hole: believed, since it was asked for after the read began. */
	put(x, 0, 1, EXT_HOLE, CS);
	assert_int_equal(go(x, &op, false, 0, 4096), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_HOLE, CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_DONE);
	assert_int_equal(op.result, 4096);
	forget(x);
}

static void read_behind_the_end_asks_once_then_is_short(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 2, EXT_WRITTEN, 1000);
	assert_int_equal(go(x, &op, false, 512, 4096), DP_NEED_LAYOUT);
	put(x, 0, 2, EXT_WRITTEN, 1500);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(op.result, 988);
	assert_int_equal(go(x, &op, false, 1500, 4096), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_DONE);
	assert_int_equal(op.result, 0);
	forget(x);
}

static void question_that_fails_is_the_answer(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	assert_int_equal(go(x, &op, true, 0, 4096), DP_NEED_LAYOUT);
	assert_true(op.need_write && op.need_off == 0 && op.need_len == 4096);
	assert_int_equal(dp_layout_done(x->dp, &op, -ENOSPC, x->now), DP_DONE);
	assert_int_equal(op.result, -ENOSPC);
}

/* write(2): as many bytes as there is room for; of the page cache's and of an append that has its place all or none. */
static void write_ends_where_the_space_does(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_UNWRITTEN, 0);
	for (int partly = 0; partly < 2; partly++) {
		dp_op_init(&op);
		op.ino = INO;
		op.write = true;
		op.partly = partly;
		op.off = 4096;
		op.len = CS;
		assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
		assert_true(op.need_off == CS);
		if (!partly) {
			assert_int_equal(dp_layout_done(x->dp, &op, -ENOSPC, x->now), DP_DONE);
			assert_int_equal(op.result, -ENOSPC);
			continue;
		}
		assert_int_equal(dp_layout_done(x->dp, &op, -ENOSPC, x->now), DP_SUBMIT);
		assert_int_equal(op.img_len, CS);
		assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
		assert_int_equal(op.range.size, CS);
		assert_int_equal(block_done(x, &op, 0), DP_DONE);
		assert_int_equal(op.result, CS - 4096);
	}
	/* Nothing of it has space. */
	op.state = DP_ST_NEW;
	op.off = CS;
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &op, -ENOSPC, x->now), DP_DONE);
	assert_int_equal(op.result, -ENOSPC);
	forget(x);
}

static void answer_that_never_brings_the_byte_ends(void **state)
{
	struct fixture *x = *state;
	enum dp_verdict v;
	struct dp_op op;
	int n = 0;

	for (v = go(x, &op, true, 0, 4096); v == DP_NEED_LAYOUT && n < 1000; n++)
		v = dp_layout_done(x->dp, &op, 0, x->now);
	assert_int_equal(v, DP_DONE);
	assert_int_equal(op.result, -EIO);
}

/* ------------------------------------------------------------------ first writes */

static void first_write_writes_whole_clusters(void **state)
{
	struct fixture *x = *state;
	uint8_t *img = malloc(2 * CS), data[CS];
	struct event ev;
	struct dp_op op;

	memset(data, 7, sizeof(data));
	memset(img, 0xee, 2 * CS);
	put(x, 0, 4, EXT_UNWRITTEN, 4 * CS);
	assert_int_equal(go(x, &op, true, CS + 1000, CS), DP_SUBMIT);
	assert_true(op.bounce);
	assert_int_equal(op.img_len, 2 * CS);
	assert_int_equal(op.skip, 1000);
	assert_int_equal(op.seg_count, 1);
	assert_true(op.segs[0].lun_off == 101 * CS && op.segs[0].len == 2 * CS);
	dp_fill(&op, img, data);
	assert_int_equal(img[0] | img[999] | img[CS + 1000] | img[2 * CS - 1], 0);
	assert_int_equal(img[1000] & img[CS + 999], 7);
	free(img);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_true(dp_op_event(&op, &ev));
	assert_int_equal(ev.type, EV_WRITTEN);
	assert_true(ev.range.ino == INO && ev.range.off == CS && ev.range.len == 2 * CS);
	assert_false(dp_op_event(&op, &ev));
	/* Now it is an overwrite. */
	assert_int_equal(go(x, &op, true, CS, 4096), DP_SUBMIT);
	assert_false(op.bounce);
	assert_int_equal(op.img_len, 4096);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

static void second_first_write_of_a_cluster_waits_and_overwrites(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c, r;

	put(x, 0, 4, EXT_UNWRITTEN, 4 * CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, 8192, 4096), DP_WAIT);
	/* Another cluster, or a read: not held up. */
	assert_int_equal(go(x, &c, true, CS, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &r, false, 0, 4096), DP_DONE);
	assert_int_equal(r.zero_count, 1);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_SUBMIT);
	assert_false(b.bounce);
	assert_true(b.segs[0].lun_off == 100 * CS + 8192 && b.segs[0].len == 4096);
	assert_int_equal(done(x, &b, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &c, LUN_OK), DP_DONE);
	forget(x);
}

/* The parts of clusters at the ends of a hole that is punched. */
static void zeroing_changes_no_size_and_fills_no_hole(void **state)
{
	struct fixture *x = *state;
	uint8_t img[1024];
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS - 100);
	put(x, 1, 1, EXT_UNWRITTEN, CS - 100);
	for (int i = 0; i < 4; i++) {
		dp_op_init(&op);
		op.ino = INO;
		op.write = op.zero = true;
		op.off = i == 0 ? 1000 : i == 1 ? CS - 150 : (uint64_t)CS * (i - 1) + 5;
		op.len = i == 0 ? 100 : 150;
		switch (i) {
		case 0:
			assert_int_equal(dp_begin(x->dp, &op, x->now), DP_SUBMIT);
			assert_false(op.io_write);
			assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
			memset(img, 0xee, sizeof(img));
			dp_fill(&op, img, NULL);
			assert_int_equal(img[op.skip - 1], 0xee);
			assert_int_equal(img[op.skip] | img[op.skip + 99], 0);
			assert_int_equal(img[op.skip + 100], 0xee);
			assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
			assert_int_equal(op.result, 100);
			break;
		case 1: /* only up to the end, as it is now */
			assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
			assert_false(op.need_write);
			assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
			assert_int_equal(op.len, 50);
			assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
			assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
			dp_layout_size(x->dp, INO, 3 * CS);
			break;
		case 2: /* unwritten: it is zero */
			assert_int_equal(dp_begin(x->dp, &op, x->now), DP_DONE);
			assert_int_equal(op.result, 0);
			put(x, 2, 1, EXT_HOLE, 3 * CS);
			break;
		case 3: /* a hole, if it still is one */
			assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
			assert_false(op.need_write);
			assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_DONE);
			assert_int_equal(op.result, 0);
			break;
		}
	}
	forget(x);
}

static void failed_first_write_leaves_the_cluster_unwritten(void **state)
{
	struct fixture *x = *state;
	struct event ev;
	struct dp_op a, r;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &a, LUN_MEDIUM), DP_DONE);
	assert_int_equal(a.result, -EIO);
	assert_false(dp_op_event(&a, &ev));
	assert_int_equal(go(x, &r, false, 0, 4096), DP_DONE);
	assert_int_equal(r.zero_count, 1);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(a.img_len, CS);
	assert_int_equal(done(x, &a, LUN_NOSPACE), DP_DONE);
	assert_int_equal(a.result, -ENOSPC);
	forget(x);
}

/* Invariant 9 at this end: while its outcome is unknown nobody else writes there. */
static void unknown_first_write_keeps_its_lock_until_the_core_has_an_answer(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, 8192, 4096), DP_WAIT);
	assert_int_equal(done(x, &a, LUN_UNKNOWN), DP_HANDOVER);
	assert_true(a.io_unknown && a.io_write);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_int_equal(block_done(x, &a, 0), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_SUBMIT);
	assert_int_equal(b.img_len, 4096);
	assert_int_equal(done(x, &b, LUN_OK), DP_DONE);
	forget(x);
}

static void write_to_a_hole_or_shared_space_asks_for_space(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, 2 * CS);
	put(x, 1, 1, EXT_SHARED, 2 * CS);
	assert_int_equal(go(x, &op, true, CS - 4096, 8192), DP_NEED_LAYOUT);
	assert_true(op.need_write && op.need_off == CS && op.need_len == 4096);
	put(x, 1, 1, EXT_HOLE, 2 * CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_NEED_LAYOUT);
	put(x, 1, 1, EXT_UNWRITTEN, 2 * CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	/* Its head as it is, its tail to the end of the new cluster. */
	assert_int_equal(op.img_len, 4096 + CS);
	assert_int_equal(op.zero_count, 1);
	assert_int_equal(op.zeros[0].buf_off, 8192);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

static void writes_that_need_the_same_space_ask_once(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b;

	assert_int_equal(go(x, &a, true, 0, 8192), DP_NEED_LAYOUT);
	assert_int_equal(go(x, &b, true, 4096, 4096), DP_WAIT);
	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_SUBMIT);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_WAIT); /* for the lock now */
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &b, LUN_OK), DP_DONE);
	forget(x);
}

/* ------------------------------------------------------------------ edges */

static void unaligned_write_reads_the_edge_blocks_first(void **state)
{
	struct fixture *x = *state;
	uint8_t img[2048], data[1500];
	struct dp_op op;

	memset(data, 7, sizeof(data));
	memset(img, 0xee, sizeof(img));
	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 100, 1500), DP_SUBMIT);
	assert_false(op.io_write);
	assert_int_equal(op.seg_count, 2);
	assert_true(op.segs[0].lun_off == 100 * CS && op.segs[0].len == 512);
	assert_true(op.segs[1].lun_off == 100 * CS + 1536 && op.segs[1].buf_off == 1536);
	assert_int_equal(done(x, &op, LUN_OK), DP_SUBMIT);
	assert_true(op.io_write && op.bounce);
	assert_int_equal(op.seg_count, 1);
	assert_int_equal(op.segs[0].len, 2048);
	dp_fill(&op, img, data);
	assert_int_equal(img[99], 0xee);
	assert_int_equal(img[100], 7);
	assert_int_equal(img[1599], 7);
	assert_int_equal(img[1600], 0xee);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	assert_int_equal(op.result, 1500);
	/* Both edges in one block: read once. */
	assert_int_equal(go(x, &op, true, 700, 10), DP_SUBMIT);
	assert_int_equal(op.seg_count, 1);
	assert_int_equal(op.img_len, 512);
	assert_int_equal(done(x, &op, LUN_MEDIUM), DP_DONE);
	forget(x);
}

/* Else what the plain write put into the edge block would be overwritten by what was read before. */
static void plain_write_waits_for_an_edge_and_an_edge_for_a_plain_write(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, true, 100, 100), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, 0, 4096), DP_WAIT);
	assert_int_equal(go(x, &c, true, 4096, 4096), DP_SUBMIT); /* elsewhere */
	assert_int_equal(done(x, &a, LUN_OK), DP_SUBMIT);
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_SUBMIT);
	assert_int_equal(go(x, &a, true, 100, 100), DP_WAIT);
	assert_int_equal(done(x, &b, LUN_OK), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &a);
	assert_int_equal(dp_begin(x->dp, &a, x->now), DP_SUBMIT);
	assert_false(a.io_write);
	assert_int_equal(done(x, &a, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &c, LUN_OK), DP_DONE);
	forget(x);
}

static void plain_writes_do_not_wait_for_each_other(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 8192), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, 4096, 8192), DP_SUBMIT);
	assert_int_equal(done(x, &b, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	forget(x);
}

/* A stream of plain writes must not starve one that needs the range for itself. */
static void who_waits_for_a_lock_is_not_overtaken(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, 100, 100), DP_WAIT);
	assert_int_equal(go(x, &c, true, 0, 4096), DP_WAIT);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &b);
	assert_int_equal(dp_begin(x->dp, &b, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &b, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &b, LUN_OK), DP_DONE);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &c);
	assert_int_equal(dp_begin(x->dp, &c, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &c, LUN_OK), DP_DONE);
	forget(x);
}

/* ------------------------------------------------------------------ commits, times */

static void write_that_extends_is_answered_when_committed(void **state)
{
	struct fixture *x = *state;
	struct event ev;
	struct dp_op op, r;

	put(x, 0, 1, EXT_UNWRITTEN, 0);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_true(dp_op_event(&op, &ev));
	assert_int_equal(ev.type, EV_WRITTEN);
	assert_true(op.range.size == 4096 && op.range.len == CS);
	/* Not yet: the size is what the coordinator says. */
	assert_int_equal(go(x, &r, false, 0, 4096), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &r, 0, x->now), DP_DONE);
	assert_int_equal(r.result, 0);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_int_equal(op.result, 4096);
	assert_int_equal(go(x, &r, false, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &r, LUN_OK), DP_DONE);
	/* The lock is free while the commit is under way. */
	assert_int_equal(go(x, &op, true, 4096, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(op.range.len, 0);
	assert_int_equal(go(x, &r, true, 100, 5000), DP_SUBMIT);
	assert_int_equal(block_done(x, &op, -EIO), DP_DONE);
	assert_int_equal(op.result, -EIO);
	assert_int_equal(done(x, &r, LUN_OK), DP_SUBMIT);
	assert_int_equal(done(x, &r, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &r, 0), DP_DONE);
	forget(x);
}

static void sync_write_in_place_waits_for_older_first_writes_to_be_committed(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, 2 * CS);
	put(x, 1, 1, EXT_UNWRITTEN, 2 * CS);
	assert_int_equal(sync_write(x, &op, 0, false), DP_SUBMIT);
	assert_true(op.io_fua);
	/* The place may have been first-written a moment ago: nothing new to commit, but to be told. */
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(op.range.size, 0);
	assert_int_equal(op.range.len, 0);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	/* O_SYNC: the time of change, too. */
	assert_int_equal(sync_write(x, &op, 0, true), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	/* A first write is readable after a crash only when it is committed as written. */
	assert_int_equal(sync_write(x, &op, CS, false), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
}

static void append_learns_its_place_from_the_coordinator(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, 4096);
	dp_op_init(&op);
	op.ino = INO;
	op.write = op.append = true;
	op.off = 0; /* what the kernel thinks is the end */
	op.len = 4096;
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_APPEND);
	assert_int_equal(dp_append_done(x->dp, &op, 0, 8192, x->now), DP_SUBMIT);
	assert_true(op.segs[0].lun_off == 100 * CS + 8192);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_true(op.range.size == 12288);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	forget(x);
}

/* ------------------------------------------------------------------ gates */

static void closed_file_lets_nobody_in_and_is_drained_when_the_last_is_answered(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c;

	put(x, 0, 2, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, false, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, CS, 4096), DP_SUBMIT); /* extends */
	dp_layout_close(x->dp, INO);
	assert_false(drained(x, INO));
	assert_int_equal(go(x, &c, false, 0, 4096), DP_WAIT);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &b, LUN_UNKNOWN), DP_HANDOVER);
	assert_false(drained(x, INO)); /* in the core's hands it is still inside */
	assert_int_equal(block_done(x, &b, 0), DP_COMMIT);
	assert_false(drained(x, INO)); /* its size must be committed under this layout */
	assert_int_equal(block_done(x, &b, 0), DP_DONE);
	assert_true(drained(x, INO));
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	dp_layout_drop(x->dp, INO);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &c);
	assert_int_equal(dp_begin(x->dp, &c, x->now), DP_NEED_LAYOUT); /* nothing is known now */
	assert_int_equal(dp_layout_done(x->dp, &c, -EIO, x->now), DP_DONE);
}

static void all_files_are_forgotten_at_once(void **state)
{
	struct fixture *x = *state;
	struct fs_extent e = {.len = CS, .lun_off = 64 * CS, .state = EXT_WRITTEN};

	for (uint64_t ino = INO; ino < INO + 3000; ino++)
		assert_int_equal(dp_layout_put(x->dp, ino, 0, CS, CS, &e, 1), 0);
	dp_layout_close(x->dp, INO + 1);
	assert_true(drained(x, INO + 1));
	dp_layout_drop_all(x->dp);
	for (uint64_t ino = INO; ino < INO + 3000; ino++)
		assert_null(dp_file_find(x->dp, ino));
}

static void close_of_an_idle_file_is_drained_at_once(void **state)
{
	struct fixture *x = *state;

	dp_layout_close(x->dp, INO);
	assert_true(drained(x, INO));
	assert_false(drained(x, INO));
	dp_layout_close(x->dp, INO);
	assert_true(drained(x, INO));
	forget(x);
}

/* Else a recall would wait for a question that waits for the recall. */
static void who_asks_for_the_layout_is_not_inside(void **state)
{
	struct fixture *x = *state;
	struct dp_op a;

	assert_int_equal(go(x, &a, true, 0, 4096), DP_NEED_LAYOUT);
	dp_layout_close(x->dp, INO);
	assert_true(drained(x, INO));
	assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_WAIT);
	dp_layout_drop(x->dp, INO);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &a);
	assert_int_equal(dp_begin(x->dp, &a, x->now), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(x->dp, &a, -EINTR, x->now), DP_DONE);
}

static void closed_volume_hands_over_and_is_drained_when_no_direct_io_is_left(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	dp_gate(x->dp, GATE_CLOSED, LEASE);
	assert_false(drained(x, 0));
	assert_int_equal(go(x, &b, true, 4096, 4096), DP_HANDOVER);
	assert_false(b.io_unknown);
	assert_int_equal(done(x, &a, LUN_UNKNOWN), DP_HANDOVER);
	assert_true(a.io_unknown);
	assert_true(drained(x, 0));
	/* Direct again: the core gives them back. */
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	assert_false(drained(x, 0));
	assert_int_equal(dp_block_retry(x->dp, &b, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &b, LUN_OK), DP_DONE);
	dp_gate(x->dp, GATE_CLOSED, LEASE);
	assert_true(drained(x, 0));
	assert_int_equal(dp_block_retry(x->dp, &a, x->now), DP_HANDOVER); /* closed again meanwhile */
	assert_int_equal(block_done(x, &a, 0), DP_DONE);
	forget(x);
}

/* Invariant 14. */
static void after_the_lease_nothing_is_submitted_and_no_read_answered(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, w;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, false, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &w, true, 4096, 4096), DP_SUBMIT);
	x->now.now_ns = LEASE;
	assert_int_equal(go(x, &b, false, 0, 4096), DP_HANDOVER);
	assert_int_equal(done(x, &a, LUN_OK), DP_HANDOVER);
	/* A write that the LUN took was made by a node that was not fenced. */
	assert_int_equal(done(x, &w, LUN_OK), DP_DONE);
	assert_int_equal(block_done(x, &b, 0), DP_DONE);
	dp_gate(x->dp, GATE_DIRECT, 2 * LEASE);
	assert_int_equal(dp_block_retry(x->dp, &a, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	forget(x);
}

/* Its space may be given to another by now, and nobody else knows that it was written. One in place is there for all. */
static void a_first_write_that_ends_after_the_lease_is_not_answered(void **state)
{
	struct fixture *x = *state;
	struct dp_op first, place;
	struct event ev;

	put(x, 0, 1, EXT_UNWRITTEN, 2 * CS);
	put(x, 1, 1, EXT_WRITTEN, 2 * CS);
	assert_int_equal(go(x, &first, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &place, true, CS, 4096), DP_SUBMIT);
	x->now.now_ns = LEASE;
	assert_int_equal(done(x, &first, LUN_OK), DP_HANDOVER);
	assert_false(dp_op_event(&first, &ev));
	assert_int_equal(done(x, &place, LUN_OK), DP_DONE);
	/* Done in its name while the right still stood: written. */
	assert_int_equal(block_done(x, &first, 0), DP_DONE);
	assert_true(dp_op_event(&first, &ev));
	assert_int_equal(ev.type, EV_WRITTEN);
	forget(x);
}

/* The lease was lost with what it covered: space that was ours then may be another's now. */
/* The layout is lost while a first write waits for its commit, and the data with it. */
static void layout_dropped_under_a_commit_makes_the_write_run_again(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(sync_write(x, &op, 0, false), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	dp_layout_drop(x->dp, INO);
	assert_int_equal(block_done(x, &op, 0), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_UNWRITTEN, 3 * CS);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_COMMIT);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_int_equal(op.result, 4096);
	forget(x);
}

static void layout_dropped_under_an_io_makes_it_planned_anew(void **state)
{
	struct fixture *x = *state;
	struct event ev;
	struct dp_op a, b;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &a, LUN_UNKNOWN), DP_HANDOVER);
	dp_layout_drop(x->dp, INO);
	assert_int_equal(dp_block_retry(x->dp, &a, x->now), DP_NEED_LAYOUT);
	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(dp_layout_done(x->dp, &a, 0, x->now), DP_SUBMIT);
	dp_layout_drop(x->dp, INO);
	put(x, 0, 1, EXT_UNWRITTEN, CS);
	/* Written, but to what is a new grant by now: that one is still unwritten. */
	assert_int_equal(done(x, &a, LUN_OK), DP_SUBMIT);
	assert_false(dp_op_event(&a, &ev));
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	assert_true(dp_op_event(&a, &ev));
	(void)b;
	forget(x);
}

/* ------------------------------------------------------------------ again, cancelled */

/* Invariant 12: what the path does is no error of the application's. */
static void outcome_that_does_not_settle_it_is_handed_over_as_unknown(void **state)
{
	static const enum lun_status all[] = {LUN_UNKNOWN, LUN_CONFLICT};
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
		assert_int_equal(done(x, &op, all[i]), DP_HANDOVER);
		assert_true(op.io_unknown);
		assert_int_equal(block_done(x, &op, 0), DP_DONE);
		assert_int_equal(op.result, 4096);
	}
	forget(x);
}

/*
 * The core gives a read back as long as the path is up, and a write costs the path each time: neither would ever end.
 */
static void what_the_target_refuses_for_good_is_an_error(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	for (int write = 0; write < 2; write++) {
		assert_int_equal(go(x, &op, write, 0, 4096), DP_SUBMIT);
		assert_int_equal(done(x, &op, LUN_UNSUPPORTED), DP_DONE);
		assert_int_equal(op.result, -EIO);
		assert_int_equal(go(x, &op, write, 0, 4096), DP_SUBMIT);
		assert_int_equal(done(x, &op, LUN_PROTECTED), DP_DONE);
		assert_int_equal(op.result, write ? -EROFS : -EIO);
	}
	forget(x);
}

static void worst_outcome_of_several_commands_counts(void **state)
{
	assert_int_equal(dp_worst(LUN_OK, LUN_OK), LUN_OK);
	assert_int_equal(dp_worst(LUN_OK, LUN_RETRY), LUN_RETRY);
	assert_int_equal(dp_worst(LUN_MEDIUM, LUN_RETRY), LUN_MEDIUM);
	/* As long as one may still land, the whole is unknown. */
	assert_int_equal(dp_worst(LUN_UNKNOWN, LUN_MEDIUM), LUN_UNKNOWN);
	assert_int_equal(dp_worst(LUN_CONFLICT, LUN_UNKNOWN), LUN_UNKNOWN);
}

static void busy_lun_is_tried_again_with_pauses_and_handed_over_in_the_end(void **state)
{
	struct fixture *x = *state;
	enum dp_verdict v;
	struct dp_op op;
	int submits = 0, waits = 0;

	put(x, 0, 1, EXT_WRITTEN, CS);
	v = go(x, &op, true, 0, 4096);
	while (v != DP_HANDOVER) {
		submits++;
		v = done(x, &op, LUN_RETRY);
		if (v != DP_WAIT)
			continue;
		waits++;
		assert_null(dp_next_ready(x->dp, x->now.now_ns));
		assert_true(dp_deadline(x->dp) > x->now.now_ns);
		x->now.now_ns = dp_deadline(x->dp);
		assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
		v = dp_begin(x->dp, &op, x->now);
	}
	assert_true(op.io_unknown);
	assert_true(submits > 50 && submits < 200);
	assert_true(waits > 50);
	assert_true(x->now.now_ns - NS_PER_SEC > DP_RETRY_NS);
	assert_int_equal(block_done(x, &op, 0), DP_DONE);
	assert_true(dp_deadline(x->dp) == NEVER);
	forget(x);
}

/*
 * A LUN reset ends what is under way, of everybody: to be repeated. That two of them met one command, with seconds between
 * that it spent at a slow LUN, is no LUN that has refused it for all that time. A coordinator must not lose its path for it.
 */
static void a_slow_lun_that_was_reset_twice_is_not_one_that_refuses(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
	x->now.now_ns += DP_RETRY_NS + NS_PER_SEC;
	assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

/* Nor does the time count that the core has held it: here a first write that ended after the lease. */
static void what_the_core_gives_back_was_not_refused_meanwhile(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(go(x, &op, true, 0, 4096), DP_SUBMIT);
	for (int i = 0; i < 3; i++)
		assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_RETRY), DP_WAIT);
	x->now.now_ns = dp_deadline(x->dp);
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &op);
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_SUBMIT);
	dp_gate(x->dp, GATE_DIRECT, x->now.now_ns);
	assert_int_equal(done(x, &op, LUN_OK), DP_HANDOVER);
	assert_false(op.io_unknown);
	x->now.now_ns += DP_RETRY_NS + NS_PER_SEC;
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	assert_int_equal(dp_block_retry(x->dp, &op, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_RETRY), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	forget(x);
}

static void who_is_parked_can_be_cancelled(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c, d;

	put(x, 0, 1, EXT_UNWRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 4096), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, 4096, 4096), DP_WAIT);
	assert_int_equal(go(x, &c, true, 8192, 4096), DP_WAIT);
	assert_true(dp_cancel(x->dp, &b));
	assert_int_equal(b.result, -EINTR);
	assert_false(dp_cancel(x->dp, &a)); /* at the LUN: it ends by itself */
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	/* Ready, but not picked up yet. */
	assert_true(dp_cancel(x->dp, &c));
	assert_null(dp_next_ready(x->dp, x->now.now_ns));
	dp_layout_close(x->dp, INO);
	(void)drained(x, INO);
	assert_int_equal(go(x, &d, false, 0, 4096), DP_WAIT);
	assert_true(dp_cancel(x->dp, &d));
	forget(x);
}

static void cancelled_waiter_does_not_hold_up_those_behind_it(void **state)
{
	struct fixture *x = *state;
	struct dp_op a, b, c;

	put(x, 0, 1, EXT_WRITTEN, CS);
	assert_int_equal(go(x, &a, true, 0, 512), DP_SUBMIT);
	assert_int_equal(go(x, &b, true, 100, 1000), DP_WAIT); /* wants 0 .. 1536 for itself */
	assert_int_equal(go(x, &c, true, 1024, 512), DP_WAIT); /* only behind b */
	assert_true(dp_cancel(x->dp, &b));
	assert_ptr_equal(dp_next_ready(x->dp, x->now.now_ns), &c);
	assert_int_equal(dp_begin(x->dp, &c, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &c, LUN_OK), DP_DONE);
	assert_int_equal(done(x, &a, LUN_OK), DP_DONE);
	forget(x);
}

static void limits_are_errors_not_bugs(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	assert_int_equal(go(x, &op, true, 0, 0), DP_DONE);
	assert_int_equal(op.result, 0);
	assert_int_equal(go(x, &op, true, FILE_BYTES_MAX, 4096), DP_DONE);
	assert_int_equal(op.result, -EFBIG);
	/* what still fits is written, as write(2) says */
	assert_int_equal(go(x, &op, true, FILE_BYTES_MAX - 4096, 8192), DP_NEED_LAYOUT);
	assert_int_equal(op.len, 4096);
	assert_int_equal(dp_layout_done(x->dp, &op, -EIO, x->now), DP_DONE);
	assert_int_equal(go(x, &op, false, FILE_BYTES_MAX, 4096), DP_DONE);
	assert_int_equal(op.result, 0);
	assert_int_equal(go(x, &op, false, UINT64_MAX - 100, 4096), DP_DONE);
	assert_int_equal(op.result, 0);
	assert_int_equal(go(x, &op, true, UINT64_MAX - 100, 4096), DP_DONE);
	assert_int_equal(op.result, -EFBIG);
	assert_int_equal(go(x, &op, false, 0, IO_BYTES_MAX + 1), DP_DONE);
	assert_int_equal(op.result, -EINVAL);
	assert_false(dp_busy(x->dp, INO));
}

static void file_of_which_nothing_is_known_leaves_no_memory_behind(void **state)
{
	struct fixture *x = *state;
	size_t live = x->mem.live;
	struct dp_op op;

	for (uint64_t ino = 100; ino < 200; ino++) {
		dp_op_init(&op);
		op.ino = ino;
		op.len = 4096;
		assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
		assert_int_equal(dp_layout_done(x->dp, &op, -EIO, x->now), DP_DONE);
	}
	assert_int_equal(x->mem.live, live);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(read_goes_where_the_layout_says),
		T(unaligned_read_takes_whole_blocks_and_answers_the_middle),
		T(unwritten_and_holes_read_as_zero),
		T(zeros_and_the_end_are_answered_while_the_lease_runs),
		T(hole_that_was_known_before_is_asked_for_again),
		T(read_behind_the_end_asks_once_then_is_short),
		T(question_that_fails_is_the_answer),
		T(write_ends_where_the_space_does),
		T(answer_that_never_brings_the_byte_ends),
		T(first_write_writes_whole_clusters),
		T(second_first_write_of_a_cluster_waits_and_overwrites),
		T(zeroing_changes_no_size_and_fills_no_hole),
		T(failed_first_write_leaves_the_cluster_unwritten),
		T(unknown_first_write_keeps_its_lock_until_the_core_has_an_answer),
		T(write_to_a_hole_or_shared_space_asks_for_space),
		T(writes_that_need_the_same_space_ask_once),
		T(unaligned_write_reads_the_edge_blocks_first),
		T(plain_write_waits_for_an_edge_and_an_edge_for_a_plain_write),
		T(plain_writes_do_not_wait_for_each_other),
		T(who_waits_for_a_lock_is_not_overtaken),
		T(write_that_extends_is_answered_when_committed),
		T(sync_write_in_place_waits_for_older_first_writes_to_be_committed),
		T(append_learns_its_place_from_the_coordinator),
		T(closed_file_lets_nobody_in_and_is_drained_when_the_last_is_answered),
		T(all_files_are_forgotten_at_once),
		T(close_of_an_idle_file_is_drained_at_once),
		T(who_asks_for_the_layout_is_not_inside),
		T(closed_volume_hands_over_and_is_drained_when_no_direct_io_is_left),
		T(after_the_lease_nothing_is_submitted_and_no_read_answered),
		T(a_first_write_that_ends_after_the_lease_is_not_answered),
		T(layout_dropped_under_an_io_makes_it_planned_anew),
		T(layout_dropped_under_a_commit_makes_the_write_run_again),
		T(outcome_that_does_not_settle_it_is_handed_over_as_unknown),
		T(what_the_target_refuses_for_good_is_an_error),
		T(worst_outcome_of_several_commands_counts),
		T(busy_lun_is_tried_again_with_pauses_and_handed_over_in_the_end),
		T(a_slow_lun_that_was_reset_twice_is_not_one_that_refuses),
		T(what_the_core_gives_back_was_not_refused_meanwhile),
		T(who_is_parked_can_be_cancelled),
		T(cancelled_waiter_does_not_hold_up_those_behind_it),
		T(limits_are_errors_not_bugs),
		T(file_of_which_nothing_is_known_leaves_no_memory_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
