/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "coordinator/cache_lease.h"

#define NOW (100 * NS_PER_SEC)

static struct mem mem;
static struct cache_lease_table *t;

static int setup(void **state)
{
	static void *region;
	const size_t bytes = 64u << 20;

	if (!region)
		region = aligned_alloc(4096, bytes);
	mem_init(&mem, region, bytes);
	t = mem_alloc(&mem, sizeof(*t));
	return cache_lease_init(t, &mem);
}

static bool give(uint64_t ino, uint32_t idx, uint64_t now_ns)
{
	return cache_lease_grant(t, ino, idx, t->changes, true, now_ns);
}

static void a_change_waits_until_all_others_have_forgotten(void **state)
{
	uint64_t inos[4], nr;

	assert_true(give(7, 1, NOW));
	assert_true(give(7, 2, NOW));
	assert_true(give(7, 3, NOW));
	assert_false(cache_lease_change(t, 7, 1u << 3, NOW));
	assert_int_equal(cache_lease_unsent(t, 1, inos, 4, &nr), 1);
	assert_int_equal(inos[0], 7);
	assert_int_equal(cache_lease_unsent(t, 1, inos, 4, &nr), 0); /* once */
	assert_int_equal(
		cache_lease_unsent(t, 3, inos, 4, &nr), 0); /* who has given it up is not asked */
	cache_lease_check(t);
	cache_lease_gone(t, 7, 1, t->asks_made);
	assert_false(cache_lease_change(t, 7, 1u << 3, NOW));
	cache_lease_gone(t, 7, 2, t->asks_made);
	assert_true(t->freed);
	assert_true(cache_lease_change(t, 7, 1u << 3, NOW));
	cache_lease_check(t);
}

static void who_does_not_answer_is_waited_for_until_its_time_is_over(void **state)
{
	assert_true(give(7, 1, NOW));
	assert_false(cache_lease_change(t, 7, 0, NOW));
	cache_lease_step(t, NOW + CACHE_LEASE_NS);
	assert_false(cache_lease_change(t, 7, 0, NOW + CACHE_LEASE_NS));
	/* Asked again does not make it longer. */
	cache_lease_step(t, NOW + CACHE_LEASE_OVER_NS);
	assert_true(cache_lease_change(t, 7, 0, NOW + CACHE_LEASE_OVER_NS));
}

static void a_broken_session_ends_what_its_node_had_but_not_at_once(void **state)
{
	assert_true(give(7, 1, NOW));
	cache_lease_cut(t, 1, NOW);
	cache_lease_step(t, NOW + CACHE_LEASE_NS);
	assert_int_equal(t->count, 1);
	assert_int_equal(cache_lease_deadline(t), NOW + CACHE_LEASE_OVER_NS);
	cache_lease_step(t, NOW + CACHE_LEASE_OVER_NS);
	assert_int_equal(t->count, 0);
	assert_int_equal(t->life[1], 1);
}

static void what_is_older_than_a_change_is_not_granted(void **state)
{
	uint64_t seen = t->changes;

	(void)cache_lease_changed(t, 7, 1);
	assert_false(cache_lease_grant(t, 7, 2, seen, true, NOW));
	/* Names: of its own changes it knows itself. */
	assert_true(cache_lease_grant(t, 7, 1, seen, false, NOW));
	assert_false(cache_lease_grant(t, 7, 1, seen, true, NOW));
	(void)cache_lease_changed(t, 7, 2);
	(void)cache_lease_changed(t, 7, 1);
	assert_false(cache_lease_grant(t, 7, 1, seen, false, NOW));
}

static void nothing_is_granted_while_somebody_waits_or_has_just_waited(void **state)
{
	cache_lease_wait(t, 7, true);
	assert_false(give(7, 1, NOW));
	cache_lease_wait(t, 7, false);
	assert_true(give(7, 1, NOW));
	assert_false(cache_lease_change(t, 7, 0, NOW));
	cache_lease_gone(t, 7, 1, t->asks_made);
	assert_false(give(7, 2, NOW + CACHE_LEASE_COOL_NS - 1));
	assert_true(give(7, 2, NOW + CACHE_LEASE_COOL_NS));
}

/* An answer that names more than was asked for takes nothing: it may have been given since. */
static void only_what_was_asked_for_can_be_gone(void **state)
{
	assert_true(give(7, 1, NOW));
	cache_lease_gone(t, 7, 1, t->asks_made);
	assert_false(cache_lease_change(t, 7, 0, NOW));
}

/*
 * The answer to a question is long on its way: its time is over, the inode is changed, and the node (of which a request waited
 * here) is given a lease anew. It is asked for that one, too, and has not answered that.
 */
static void a_late_answer_is_none_to_a_later_question(void **state)
{
	uint64_t later = NOW + CACHE_LEASE_OVER_NS;
	uint64_t inos[4], first, second;

	assert_true(give(7, 1, NOW));
	assert_false(cache_lease_change(t, 7, 0, NOW));
	assert_int_equal(cache_lease_unsent(t, 1, inos, 4, &first), 1);
	cache_lease_step(t, later);
	assert_true(cache_lease_change(t, 7, 0, later));
	(void)cache_lease_changed(t, 7, 2);
	assert_true(give(7, 1, later));
	assert_false(cache_lease_change(t, 7, 0, later + NS_PER_MS));
	cache_lease_gone(t, 7, 1, first); /* before it is asked */
	assert_false(cache_lease_change(t, 7, 0, later + NS_PER_MS));
	assert_int_equal(cache_lease_unsent(t, 1, inos, 4, &second), 1);
	cache_lease_gone(t, 7, 1, first);
	assert_false(cache_lease_change(t, 7, 0, later + 2 * NS_PER_MS));
	cache_lease_gone(t, 7, 1, second + 1); /* of no message of ours */
	assert_false(cache_lease_change(t, 7, 0, later + 2 * NS_PER_MS));
	cache_lease_check(t);
	cache_lease_gone(t, 7, 1, second);
	assert_true(cache_lease_change(t, 7, 0, later + 2 * NS_PER_MS));
}

/* Two are asked for one inode, at two times, and what the later one is asked does not make the first one's answer too old. */
static void who_was_asked_first_may_answer_after_another_one_was_asked(void **state)
{
	uint64_t inos[4], first, second;

	assert_true(give(7, 1, NOW));
	assert_true(give(7, 2, NOW));
	assert_true(give(9, 2, NOW));
	assert_false(cache_lease_change(t, 7, 1u << 2, NOW));
	assert_int_equal(cache_lease_unsent(t, 1, inos, 4, &first), 1);
	assert_false(cache_lease_change(t, 9, 0, NOW));
	assert_false(cache_lease_change(t, 7, 0, NOW));
	assert_int_equal(cache_lease_unsent(t, 2, inos, 4, &second), 2);
	assert_true(second > first);
	cache_lease_gone(t, 7, 1, first);
	cache_lease_gone(t, 7, 2, second);
	cache_lease_gone(t, 9, 2, second);
	assert_true(cache_lease_change(t, 7, 0, NOW));
	assert_true(cache_lease_change(t, 9, 0, NOW));
}

static void a_full_table_asks_back_what_was_given_first(void **state)
{
	uint64_t inos[2], nr;

	for (uint64_t i = 1; i <= CACHE_LEASE_INODES_MAX; i++)
		assert_true(give(i << 3, 5, NOW));
	assert_false(give(3, 5, NOW));
	assert_int_equal(cache_lease_unsent(t, 5, inos, 2, &nr), 1);
	assert_int_equal(inos[0], 1 << 3);
	cache_lease_gone(t, inos[0], 5, t->asks_made);
	assert_true(give(3, 5, NOW));
	cache_lease_check(t);
	cache_lease_drop_node(t, 5);
	assert_int_equal(t->count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_change_waits_until_all_others_have_forgotten, setup),
		cmocka_unit_test_setup(
			who_does_not_answer_is_waited_for_until_its_time_is_over, setup),
		cmocka_unit_test_setup(
			a_broken_session_ends_what_its_node_had_but_not_at_once, setup),
		cmocka_unit_test_setup(what_is_older_than_a_change_is_not_granted, setup),
		cmocka_unit_test_setup(
			nothing_is_granted_while_somebody_waits_or_has_just_waited, setup),
		cmocka_unit_test_setup(only_what_was_asked_for_can_be_gone, setup),
		cmocka_unit_test_setup(a_late_answer_is_none_to_a_later_question, setup),
		cmocka_unit_test_setup(
			who_was_asked_first_may_answer_after_another_one_was_asked, setup),
		cmocka_unit_test_setup(a_full_table_asks_back_what_was_given_first, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
