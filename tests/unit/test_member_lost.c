/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may hold a lease and not know that it is over: for that one, who takes its rights waits (member.c, lost()). */
#include "tests/unit/members.h"

/* Unmounted, and then its host goes, at once or later: nothing of it is waited for. */
static void who_has_left_in_order_is_not_lost(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	for (int i = 0; i < 4; i++) {
		begin(state);
		view_all(5, all);
		path(3, MPATH_OK, 0x33, all);
		member_set_leaving(&m[3], LEAVING_DONE);
		path(3, i & 2 ? MPATH_COMING : MPATH_CLEAN, 0x33, all); /* (its path had to settle) */
		member_send_fenced(&m[1], &(struct member_victim){.node = 3, .incarnation = 0x33}, 1, now, &fx);
		assert_true(!m[1].lost_ns && !m[1].office_lost_ns);
		if (i & 1)
			cpg(1, 5, N(1) | N(2));
		cpg(1, 6, N(1) | N(2));
		quorum(1, 6, N(1) | N(2), true);
		member_send_fenced(&m[1], &(struct member_victim){.node = 3, .incarnation = 0x33}, 1, now, &fx);
		assert_true(!m[1].lost_ns && !m[1].office_lost_ns);
		cpg(1, 7, N(1));
		quorum(1, 7, N(1), true);
		assert_true(m[1].lost_ns == now); /* that one has not */
	}
}

/* Its daemon had ended once, and another life of it was heard since. That one is cut off, and silent when the ring is whole again: it may not know. */
static void who_ended_in_an_earlier_life_is_waited_for(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	path(3, MPATH_OK, 0x33, all);
	cpg(1, 5, N(1) | N(2));
	member_send_fenced(&m[1], m[1].victims, 1, now, &fx);
	assert_true(!m[1].lost_ns);
	init(3, 999);
	member_set_path(&m[3], MPATH_OK, 0x34);
	view_all(6, all);
	cpg(1, 7, N(1));
	quorum(1, 7, N(1), false);
	cpg(1, 8, all);
	quorum(1, 8, all, true);
	assert_true(!m[1].lost_ns && !m[1].victim_count);
	member_send_fenced(&m[1], &(struct member_victim){.node = 3, .incarnation = 0x34}, 1, now, &fx);
	assert_true(m[1].lost_ns == now);
}

/* It has ended: the life that it had last. Not the one before it, whose session may be held up still. */
static void who_has_ended_has_ended_for_its_last_incarnation_alone(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	for (uint32_t fenced = 0x33; fenced <= 0x34; fenced++) {
		begin(state);
		view_all(5, all);
		path(3, MPATH_OK, 0x33, all);
		path(3, MPATH_OK, 0x34, all);
		cpg(1, 5, N(1) | N(2));
		assert_true(!m[1].lost_ns && !m[1].office_lost_ns);
		member_send_fenced(&m[1], &(struct member_victim){.node = 3, .incarnation = fenced}, 1, now, &fx);
		assert_true(m[1].lost_ns == (fenced == 0x33 ? now : 0) && !m[1].office_lost_ns);
	}
}

/* Its claim tells more of a coordinator's leases than we know; of one that another has followed it is overwritten. */
static void of_two_coordinators_the_newer_one_is_known_by_its_claim(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	for (uint64_t epoch = 6; epoch <= 8; epoch++) {
		begin(state);
		view_all(5, all);
		member_set_role(&m[2], ROLE_NONE, 7, 0, false);
		publish(2, all);
		member_set_role(&m[3], ROLE_SERVING, epoch, 0, false);
		path(3, MPATH_OK, 0x33, all);
		cpg(1, 6, N(1) | N(2));
		quorum(1, 6, N(1) | N(2), true);
		assert_true(m[1].office_lost_ns == (epoch >= 7 ? now : 0));
		assert_true(m[1].lost_ns == (epoch >= 7 ? 0 : now));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(who_has_left_in_order_is_not_lost),
		TEST(who_ended_in_an_earlier_life_is_waited_for),
		TEST(who_has_ended_has_ended_for_its_last_incarnation_alone),
		TEST(of_two_coordinators_the_newer_one_is_known_by_its_claim),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(fx.arena);
	return failed;
}
