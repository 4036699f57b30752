/* SPDX-License-Identifier: GPL-2.0-or-later */
/* node_stop.c: an unmount waits longer for a fence on a target that refuses resets, once. */
#include "coordinator/takeover_priv.h"
#include "tests/unit/node_alone.h"

static void stops(void)
{
	struct event ev = {.type = EV_START, .now_ns = NS_PER_SEC};

	node_alone();
	node_step(n, &ev, &fx);
	node_leave(n);
	for (uint32_t i = 0; i < 3 && n->stop != STOP_TAKEOVER; i++)
		node_stop_step(n, &fx);
	assert_int_equal(n->stop, STOP_TAKEOVER);
	/* It has something to do yet. */
	n->tk->state = TK_SERVE;
}

static void time_is_up(void)
{
	n->now_ns = n->stop_at_ns;
	node_stop_step(n, &fx);
}

static void who_leaves_waits_longer_for_a_fence_that_waits(void **state)
{
	uint64_t at;

	(void)state;
	stops();
	n->tk->fence.state = FENCE_WAIT;
	at = n->stop_at_ns;
	time_is_up();
	assert_int_equal(n->stop, STOP_TAKEOVER);
	assert_int_equal(n->stop_at_ns, at + FENCE_WAIT_NS + 3 * NS_PER_SEC);
	time_is_up();
	assert_true(n->stop > STOP_TAKEOVER && n->stop_dirty);
}

static void who_leaves_waits_longer_for_who_was_lost_behind_the_close(void **state)
{
	(void)state;
	stops();
	n->tk->state = TK_DRAIN;
	n->tk->closed = true;
	n->member.victim_count = 1;
	time_is_up();
	assert_int_equal(n->stop, STOP_TAKEOVER);
}

static void who_leaves_waits_no_longer_for_anything_else(void **state)
{
	(void)state;
	stops();
	time_is_up();
	assert_true(n->stop > STOP_TAKEOVER && n->stop_dirty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_leaves_waits_longer_for_a_fence_that_waits),
		cmocka_unit_test(who_leaves_waits_longer_for_who_was_lost_behind_the_close),
		cmocka_unit_test(who_leaves_waits_no_longer_for_anything_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
