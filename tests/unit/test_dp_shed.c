/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rule 11 of dp.h: what is known of all files together stays bounded. */
#include "tests/unit/dp_fixture.h"

#define MAX 8u

static int setup_bounded(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	struct dp_config c = {
		.mem = &x->mem, .cluster_bytes = CS, .block_bytes = BS, .extents_max = MAX};

	x->region = aligned_alloc(4096, REGION);
	mem_init(&x->mem, x->region, REGION);
	x->dp = dp_create(&c);
	assert_non_null(x->dp);
	dp_gate(x->dp, GATE_DIRECT, LEASE);
	x->now = (struct dp_now){.now_ns = NS_PER_SEC, .wall_ns = 1000};
	*state = x;
	return 0;
}

/* n extents that cannot be one, from cluster 2 * from on. */
static void known(struct fixture *x, uint64_t ino, uint64_t from, uint32_t n)
{
	for (uint64_t i = from; i < from + n; i++) {
		struct fs_extent e = {.off = 2 * i * CS, .len = CS, .lun_off = (100 + 2 * i) * CS,
			.state = EXT_WRITTEN};

		assert_int_equal(dp_layout_put(x->dp, ino, e.off, CS, 1u << 30, &e, 1), 0);
	}
	dp_check(x->dp);
}

static uint64_t shed(struct fixture *x)
{
	struct event ev;

	if (!dp_next_event(x->dp, &ev))
		return 0;
	assert_int_equal(ev.type, EV_SHED);
	return ev.ino;
}

/* What the core does then. */
static void give_back(struct fixture *x, uint64_t ino)
{
	dp_layout_close(x->dp, ino);
	assert_true(drained(x, ino));
	dp_layout_drop(x->dp, ino);
	dp_check(x->dp);
}

static void read_of(struct fixture *x, uint64_t ino)
{
	struct dp_op op;

	dp_op_init(&op);
	op.ino = ino;
	op.len = 4096;
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_SUBMIT);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
}

static void past_the_limit_the_file_least_recently_used_goes_back(void **state)
{
	struct fixture *x = *state;

	known(x, 1, 0, 3);
	known(x, 2, 0, 3);
	read_of(x, 1);
	known(x, 3, 0, 2);
	assert_int_equal(shed(x), 0);
	known(x, 3, 2, 1);
	assert_int_equal(shed(x), 2);
	assert_int_equal(shed(x), 0); /* once */
	give_back(x, 2);
	assert_int_equal(shed(x), 0);
	known(x, 3, 3, 3);
	assert_int_equal(shed(x), 1);
	give_back(x, 1);
	assert_int_equal(shed(x), 0);
	dp_layout_drop(x->dp, 3);
}

static void a_core_that_leaves_it_is_told_again_later(void **state)
{
	struct fixture *x = *state;

	known(x, 1, 0, MAX + 1);
	assert_int_equal(shed(x), 1);
	known(x, 1, MAX + 1, 1);
	assert_int_equal(shed(x), 0);
	known(x, 1, MAX + 2, 1);
	assert_int_equal(shed(x), 1);
	dp_layout_drop(x->dp, 1);
}

/* Else two that need more than the limit could take it from one another for ever. */
static void what_was_asked_for_stays_until_it_was_seen(void **state)
{
	struct fixture *x = *state;
	struct dp_op op;

	dp_op_init(&op);
	op.ino = 1;
	op.off = 2 * MAX * CS;
	op.len = 4096;
	assert_int_equal(dp_begin(x->dp, &op, x->now), DP_NEED_LAYOUT);
	known(x, 1, 0, MAX + 1);
	assert_int_equal(shed(x), 0);
	assert_int_equal(dp_layout_done(x->dp, &op, 0, x->now), DP_SUBMIT);
	assert_int_equal(shed(x), 1);
	assert_int_equal(done(x, &op, LUN_OK), DP_DONE);
	dp_layout_drop(x->dp, 1);
}

static void what_was_forgotten_is_room_for_what_comes(void **state)
{
	struct fixture *x = *state;
	size_t used;

	known(x, 1, 0, 1000);
	used = x->mem.used;
	for (int i = 0; i < 20; i++) {
		dp_layout_drop(x->dp, 1);
		known(x, 1, 0, 500);
		known(x, 2, 0, 490);
		dp_layout_drop(x->dp, 2);
	}
	assert_in_range(x->mem.used, used, used + 8192);
	dp_layout_drop(x->dp, 1);
}

/* Else the core waits for it until it is fenced. */
static void what_there_is_no_memory_for_is_drained(void **state)
{
	struct fixture *x = *state;
	size_t high = x->mem.high;

	x->mem.high = x->mem.low;
	memset(x->mem.free, 0, sizeof(x->mem.free));
	dp_layout_close(x->dp, 1);
	assert_true(drained(x, 1));
	dp_layout_close(x->dp, 2);
	assert_true(drained(x, 2));
	x->mem.high = high;
	assert_false(drained(x, 2));
	dp_layout_drop(x->dp, 1);
	give_back(x, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup_bounded, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(past_the_limit_the_file_least_recently_used_goes_back),
		T(a_core_that_leaves_it_is_told_again_later),
		T(what_was_asked_for_stays_until_it_was_seen),
		T(what_was_forgotten_is_room_for_what_comes),
		T(what_there_is_no_memory_for_is_drained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
