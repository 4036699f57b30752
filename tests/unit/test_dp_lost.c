/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rule 10 of dp.h: I/O through an open file whose locks were lost. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/dp_int.h"

#define INO 12
#define CS 65536u
#define REGION (16u << 20)
#define LEASE (1000 * NS_PER_SEC)

static struct mem mem;
static struct dp *dp;
static const struct dp_now now = {.now_ns = NS_PER_SEC, .wall_ns = 1000};

static int setup(void **state)
{
	struct dp_config c = {.mem = &mem, .cluster_bytes = CS, .block_bytes = 512};
	struct fs_extent e = {.len = 4 * CS, .lun_off = 100 * CS, .state = EXT_WRITTEN};

	*state = aligned_alloc(4096, REGION);
	mem_init(&mem, *state, REGION);
	dp = dp_create(&c);
	dp_gate(dp, GATE_DIRECT, LEASE);
	assert_int_equal(dp_layout_put(dp, INO, 0, 4 * CS, 4 * CS, &e, 1), 0);
	dp_file_find(dp, INO)->writes = true;
	return 0;
}

static int teardown(void **state)
{
	dp_layout_drop(dp, INO);
	dp_check(dp);
	dp_destroy(dp);
	free(*state);
	return 0;
}

static enum dp_verdict go(struct dp_op *op, uint64_t handle, bool write, uint64_t off)
{
	dp_op_init(op);
	op->ino = INO;
	op->handle = handle;
	op->write = write;
	op->off = off;
	op->len = 4096;
	return dp_begin(dp, op, now);
}

/* Another node may have those locks by now: what waits is not sent again, what was done not acknowledged. */
static void what_is_under_way_fails_whatever_became_of_it(void **state)
{
	struct dp_op lost[3], other;
	const uint64_t handle = 7;

	assert_int_equal(go(&lost[0], 7, true, 0), DP_SUBMIT);
	assert_int_equal(go(&lost[1], 7, false, 8192), DP_SUBMIT);
	assert_int_equal(go(&other, 8, true, 65536), DP_SUBMIT);
	dp_gate(dp, GATE_CLOSED, LEASE);
	assert_int_equal(go(&lost[2], 7, true, 4096), DP_HANDOVER);
	dp_handles_lost(dp, &handle, 1);
	assert_int_equal(dp_done(dp, &lost[0], LUN_OK, now), DP_DONE);
	assert_int_equal(dp_done(dp, &lost[1], LUN_OK, now), DP_DONE);
	assert_int_equal(dp_block_retry(dp, &lost[2], now), DP_DONE);
	for (int i = 0; i < 3; i++)
		assert_int_equal(lost[i].result, -EIO);
	assert_int_equal(dp_done(dp, &other, LUN_OK, now), DP_DONE);
	assert_int_equal(other.result, 4096);
}

/* The effects of one step come one by one: the gate is still open when the locks, or the layout, are gone. */
static void what_the_lun_did_not_do_is_not_sent_again_either(void **state)
{
	struct dp_op lost, planned;
	const uint64_t handle = 7;

	assert_int_equal(go(&lost, 7, true, 0), DP_SUBMIT);
	assert_int_equal(go(&planned, 8, true, 8192), DP_SUBMIT);
	dp_handles_lost(dp, &handle, 1);
	assert_int_equal(dp_done(dp, &lost, LUN_RETRY, now), DP_DONE);
	assert_int_equal(lost.result, -EIO);
	dp_layout_drop(dp, INO);
	assert_int_equal(dp_done(dp, &planned, LUN_RETRY, now), DP_NEED_LAYOUT);
	assert_int_equal(dp_layout_done(dp, &planned, -EIO, now), DP_DONE);
}

/* The core may hear of it when the node's rights are others already. */
static void what_was_first_written_says_under_which_rights(void **state)
{
	struct fs_extent e = {.off = 4 * CS, .len = CS, .lun_off = 200 * CS, .state = EXT_UNWRITTEN};
	struct event ev;
	struct dp_op op;

	assert_int_equal(dp_layout_put(dp, INO, 4 * CS, CS, 5 * CS, &e, 1), 0);
	dp_rights(dp, 3);
	assert_int_equal(go(&op, 0, true, 4 * CS), DP_SUBMIT);
	assert_int_equal(dp_done(dp, &op, LUN_OK, now), DP_DONE);
	assert_true(dp_op_event(&op, &ev));
	assert_int_equal(ev.type, EV_WRITTEN);
	assert_int_equal(ev.range.rights, 3);
}

static void only_that_open_file_fails_and_only_while_it_is_open(void **state)
{
	const uint64_t handles[2] = {7, 7 + 64};
	struct dp_op op;

	dp_handles_lost(dp, handles, 2);
	assert_int_equal(go(&op, 7, false, 0), DP_DONE);
	assert_int_equal(op.result, -EIO);
	assert_int_equal(go(&op, 7 + 128, false, 0), DP_SUBMIT);
	assert_int_equal(dp_done(dp, &op, LUN_OK, now), DP_DONE);
	assert_int_equal(go(&op, 0, false, 0), DP_SUBMIT);
	assert_int_equal(dp_done(dp, &op, LUN_OK, now), DP_DONE);
	dp_handle_closed(dp, 7);
	assert_int_equal(go(&op, 7, false, 0), DP_SUBMIT);
	assert_int_equal(dp_done(dp, &op, LUN_OK, now), DP_DONE);
	assert_int_equal(op.result, 4096);
	assert_int_equal(go(&op, 7 + 64, true, 0), DP_DONE);
	assert_int_equal(op.result, -EIO);
	dp_handle_closed(dp, 7 + 64);
}

/* FS_APPEND alone makes the file longer, durably: who has the lock now finds zeros between its own records. */
static void an_append_is_not_even_asked_for_its_place(void **state)
{
	struct dp_op op;
	const uint64_t handle = 7;

	(void)state;
	dp_handles_lost(dp, &handle, 1);
	dp_op_init(&op);
	op.ino = INO;
	op.handle = 7;
	op.write = op.append = true;
	op.len = 4096;
	assert_int_equal(dp_begin(dp, &op, now), DP_DONE);
	assert_int_equal(op.result, -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_append_is_not_even_asked_for_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_under_way_fails_whatever_became_of_it, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_the_lun_did_not_do_is_not_sent_again_either, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_was_first_written_says_under_which_rights, setup, teardown),
		cmocka_unit_test_setup_teardown(
			only_that_open_file_fails_and_only_while_it_is_open, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
