/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Views from scripted events. STATEs of other nodes come from member modules of their own. */
#include "tests/unit/members.h"

/* ------------------------------------------------------------------ views */

static void view_counts_only_when_both_rings_are_one(void **state)
{
	const struct member_view *v = member_view(&m[1]);

	for (int first = 0; first < 2; first++) {
		begin(NULL);
		if (first)
			cpg(1, 5, N(1) | N(2));
		quorum(1, 5, N(1) | N(2), true);
		if (!first)
			cpg(1, 5, N(1) | N(2));
		assert_true(v->quorate && !v->agreed && v->count == 2);
		/* A new ring, told by one of the two: the view before stays, for a moment. */
		if (first)
			cpg(1, 6, N(1));
		else
			quorum(1, 6, N(1) | N(2) | N(3), true);
		assert_true(v->quorate && v->ring.seq == 5 && v->count == 2);
		now += MEMBER_FORM_NS;
		timer(1);
		assert_false(v->quorate);
	}
}

static void not_quorate_is_believed_at_once(void **state)
{
	view_all(5, N(1) | N(2));
	quorum(1, 6, N(1), false);
	assert_false(member_view(&m[1])->quorate);
	assert_false(member_view(&m[1])->agreed);
}

static void view_without_us_does_not_count(void **state)
{
	cpg(1, 5, N(2) | N(3));
	quorum(1, 5, N(1) | N(2) | N(3), true);
	assert_false(member_view(&m[1])->quorate);
}

static void all_states_make_it_agreed_and_a_ghost_only_delays_it(void **state)
{
	for (uint32_t i = 1; i <= 2; i++) {
		cpg(i, 5, N(1) | N(2) | N(3));
		quorum(i, 5, N(1) | N(2) | N(3), true);
	}
	publish(1, N(1) | N(2));
	publish(2, N(1) | N(2));
	assert_false(member_view(&m[1])->agreed);
	assert_true(member_deadline(&m[1]) == now + MEMBER_AGREE_NS);
	now += MEMBER_AGREE_NS - 1;
	timer(1);
	assert_false(member_view(&m[1])->agreed);
	now++;
	timer(1);
	assert_true(member_view(&m[1])->agreed);
	assert_true(said("node 3 is silent -> goes on without it"));
	assert_false(member_find(&m[1], 3)->answered);
}

static void state_that_comes_before_the_configuration_counts(void **state)
{
	const uint32_t both = N(1) | N(2);

	view_all(5, N(1));
	/* Node 2 has the view already. */
	cpg(2, 6, both);
	quorum(2, 6, both, true);
	publish(2, both);
	cpg(1, 6, both);
	quorum(1, 6, both, true);
	assert_true(member_find(&m[1], 2)->answered);
	publish(1, both);
	assert_true(member_view(&m[1])->agreed);
}

static void last_words_of_one_that_left_do_not_make_it_heard(void **state)
{
	struct event ev = {.type = EV_CPG_MSG};
	uint8_t copy[CPG_MSG_MAX];

	view_all(5, N(1) | N(2) | N(3));
	member_set_path(&m[2], MPATH_OK, 0x22);
	effects_reset(&fx);
	member_publish(&m[2], now, &fx);
	memcpy(copy, fx.fx[0].net.bytes, fx.fx[0].net.len);
	ev.msg = (typeof(ev.msg)){.node = 2, .bytes = copy, .len = fx.fx[0].net.len};
	cpg(1, 5, N(1) | N(3));
	give(1, &ev);
	assert_false(member_find(&m[1], 2)->heard);
	cpg(1, 5, N(1) | N(2) | N(3)); /* another life of it */
	assert_false(elect_keeps(&m[1], FENCE_KEY(2, 0x22)));
}

static void state_of_an_earlier_view_does_not_answer_this_one(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	/* 3 is away and back in the same ring: the list looks like before. */
	cpg(1, 5, N(1) | N(2));
	cpg(1, 5, all);
	assert_false(member_find(&m[1], 2)->answered);
	assert_false(member_find(&m[1], 3)->answered);
	assert_false(member_view(&m[1])->agreed);
}

static void who_is_ahead_of_us_in_the_next_view_has_still_answered_in_this_one(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	member_set_role(&m[2], ROLE_SERVING, 7, 0, false);
	publish(2, all);
	assert_int_equal(elect_coordinator(&m[1])->node, 2);
	/* Our quorum callback is late. Nothing of this is a reason to stand, or to follow nobody. */
	cpg(1, 6, all);
	cpg(2, 6, all);
	quorum(2, 6, all, true);
	publish(2, all);
	assert_true(member_view(&m[1])->agreed);
	assert_non_null(elect_coordinator(&m[1]));
	/* Another life of it has not. */
	cpg(1, 6, N(1) | N(3));
	cpg(1, 6, all);
	init(2, 202);
	cpg(2, 6, all);
	quorum(2, 6, all, true);
	publish(2, all);
	assert_true(member_view(&m[1])->agreed);
	assert_false(member_find(&m[1], 2)->answered);
	quorum(1, 6, all, true);
	assert_true(member_find(&m[1], 2)->answered);
}

static void half_of_the_last_cluster_is_marked(void **state)
{
	view_all(5, N(1) | N(2));
	cpg(1, 6, N(1));
	quorum(1, 6, N(1), true);
	assert_true(member_view(&m[1])->halved);
	cpg(1, 7, N(1)); /* the ring forms again: still the same half */
	quorum(1, 7, N(1), true);
	assert_true(member_view(&m[1])->halved);
	quorum(1, 8, N(1), false); /* our corosync starts anew, and finds nobody else again */
	assert_false(member_view(&m[1])->halved);
	cpg(1, 8, N(1));
	quorum(1, 8, N(1), true);
	assert_true(member_view(&m[1])->halved);
	begin(NULL);
	view_all(5, N(1) | N(2) | N(3));
	cpg(1, 6, N(1) | N(2));
	quorum(1, 6, N(1) | N(2), true);
	assert_false(member_view(&m[1])->halved);
	/* Started in one half, it has never seen the other. */
	begin(NULL);
	start(1, 101, 2);
	cpg(1, 6, N(1));
	quorum(1, 6, N(1), true);
	assert_true(member_view(&m[1])->halved);
	begin(NULL);
	view_all(5, N(1) | N(2));
	cpg(1, 5, N(1)); /* a daemon ended; the cluster is whole */
	assert_false(member_view(&m[1])->halved);
}

static void without_corosync_no_view_counts_and_it_is_joined_again(void **state)
{
	struct event ev = {.type = EV_CPG_DOWN};

	view_all(5, N(1) | N(2));
	give(1, &ev);
	assert_false(member_view(&m[1])->quorate);
	effects_reset(&fx);
	member_publish(&m[1], now, &fx);
	assert_int_equal(fx.count, 0);
	assert_true(member_deadline(&m[1]) == now + MEMBER_REJOIN_NS);
	now += MEMBER_REJOIN_NS;
	member_publish(&m[1], now, &fx);
	assert_int_equal(fx.count, 1);
	assert_int_equal(fx.fx[0].type, FX_CPG_JOIN);
	give(1, &ev);
	assert_true(member_deadline(&m[1]) == now + MEMBER_REJOIN_NS);
	m[2].have_cpg = false;
	view_all(9, N(1) | N(2));
}

/* ------------------------------------------------------------------ the fence list */

static bool victim(uint32_t node, uint32_t on, uint32_t incarnation, bool dirty)
{
	for (uint32_t i = 0; i < m[node].victim_count; i++)
		if (m[node].victims[i].node == on && m[node].victims[i].incarnation == incarnation)
			return m[node].victims[i].dirty == dirty;
	return false;
}

static void who_leaves_uncleanly_is_to_be_fenced(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3) | N(4);

	view_all(5, all);
	path(2, MPATH_OK, 0x22, all);
	path(3, MPATH_OK, 0x33, all);
	path(3, MPATH_CLEAN, 0x33, all);
	assert_int_equal(m[1].departures, 0);
	cpg(1, 5, N(1));
	quorum(1, 5, N(1) | N(2) | N(3) | N(4), true);
	assert_int_equal(m[1].departures, 3); /* also who had nothing to fence: others may carry what it wrote */
	assert_true(victim(1, 2, 0x22, true));
	assert_true(victim(1, 3, 0x33, false)); /* its key stays: preempted, not drained */
	assert_int_equal(m[1].victim_count, 2); /* node 4 had no path */
	assert_true(said("node 2 left, its path was ok -> to be fenced: 2/22"));
	assert_int_equal(member_find(&m[1], 3)->state.path, MPATH_CLEAN);
}

static void loss_of_quorum_makes_nobody_a_victim(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	path(2, MPATH_OK, 0x22, all);
	cpg(1, 6, N(1));
	quorum(1, 6, N(1), false);
	assert_int_equal(m[1].victim_count, 0);
	/* Found missing in the next view that counts. */
	cpg(1, 7, N(1) | N(3));
	quorum(1, 7, N(1) | N(3), true);
	assert_true(victim(1, 2, 0x22, true));
}

static void another_life_and_another_incarnation_leave_the_old_one_behind(void **state)
{
	const uint32_t all = N(1) | N(2);

	view_all(5, all);
	path(2, MPATH_OK, 0x22, all);
	path(2, MPATH_OK, 0x23, all);
	assert_true(victim(1, 2, 0x22, true));
	assert_int_equal(m[1].departures, 0);
	/* It is restarted while cut off: only its life tells. */
	init(2, 999);
	member_set_path(&m[2], MPATH_COMING, 0x24);
	view_all(8, all);
	assert_int_equal(m[1].departures, 1);
	assert_true(victim(1, 2, 0x23, true));
	assert_false(victim(1, 2, 0x24, true));
	assert_true(elect_keeps(&m[1], FENCE_KEY(2, 0x24)));
	assert_false(elect_keeps(&m[1], FENCE_KEY(2, 0x23)));
	/* A life that has no path yet proves nothing of the one before. */
	init(2, 1000);
	view_all(9, all);
	assert_true(victim(1, 2, 0x24, true));
}

static void lost_path_is_a_victim_and_none_is_proof(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	path(2, MPATH_OK, 0x22, all);
	path(2, MPATH_LOST, 0x22, all);
	assert_true(victim(1, 2, 0x22, true));
	path(3, MPATH_OK, 0x33, all);
	path(3, MPATH_NONE, 0, all);
	assert_false(member_victim_pending(&m[1], 3));
}

static void fenced_is_told_to_all_and_ends_it(void **state)
{
	const uint32_t all = N(1) | N(2);
	struct event ev = {.type = EV_CPG_MSG};

	view_all(5, all);
	path(2, MPATH_OK, 0x22, all);
	member_victim_add(&m[1], 2, 0x22, true);
	assert_true(member_victim_pending(&m[1], 2));
	effects_reset(&fx);
	member_send_fenced(&m[1], m[1].victims, 1, now, &fx);
	assert_false(member_victim_pending(&m[1], 2));
	ev.msg = (typeof(ev.msg)){.node = 1, .bytes = fx.fx[0].net.bytes, .len = fx.fx[0].net.len};
	give(2, &ev);
	assert_true(member_was_fenced(&m[2], 0x22));
	assert_false(member_was_fenced(&m[2], 0x23));
	/* It leaves: fenced already. */
	cpg(1, 6, N(1));
	quorum(1, 6, N(1), true);
	assert_int_equal(m[1].victim_count, 0);
}

/* Its view was agreed without it, and who is fenced was told to those who had answered. It waits for that word. */
static void who_answers_late_is_to_hear_that_it_is_fenced(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	path(3, MPATH_OK, 0x33, all);
	path(3, MPATH_LOST, 0x33, all);
	member_send_fenced(&m[1], &(struct member_victim){.node = 3, .incarnation = 0x33}, 1, now, &fx);
	for (uint32_t i = 1; i <= 3; i++)
		cpg(i, 6, all);
	for (uint32_t i = 1; i <= 2; i++) {
		quorum(i, 6, all, true);
		publish(i, all);
	}
	now += MEMBER_AGREE_NS;
	timer(1);
	assert_true(member_view(&m[1])->agreed && !member_find(&m[1], 3)->answered);
	m[1].fenced_again_ns = NEVER; /* told */
	quorum(3, 6, all, true);
	publish(3, all);
	assert_true(member_find(&m[1], 3)->answered && member_find(&m[1], 3)->fenced);
	assert_true(m[1].fenced_again_ns == now);
}

/* A node whose path was lost twice is on the list twice, in any order. */
static void of_two_that_are_fenced_the_present_one_counts(void **state)
{
	const uint32_t all = N(1) | N(2);
	struct event ev = {.type = EV_CPG_MSG};

	view_all(5, all);
	for (uint32_t i = 0; i < 2; i++) {
		uint32_t old = 0x21 + 2 * i, last = old + 1;
		const struct member_victim both[] = {{.node = 2, .incarnation = i ? old : last, .dirty = true},
			{.node = 2, .incarnation = i ? last : old, .dirty = true}};

		path(2, MPATH_OK, old, all);
		path(2, MPATH_LOST, old, all);
		path(2, MPATH_LOST, last, all);
		assert_true(victim(1, 2, old, true) && victim(1, 2, last, true));
		effects_reset(&fx);
		member_send_fenced(&m[1], both, 2, now, &fx);
		ev.msg = (typeof(ev.msg)){.node = 1, .bytes = fx.fx[0].net.bytes, .len = fx.fx[0].net.len};
		give(2, &ev);
		for (uint32_t on = 1; on <= 2; on++) {
			assert_true(member_find(&m[on], 2)->fenced);
			assert_int_equal(m[on].victim_count, 0);
		}
		assert_true(member_was_fenced(&m[2], last) && member_was_fenced(&m[2], old));
	}
	/* A new one is not fenced, and is when it is told. */
	path(2, MPATH_OK, 0x29, all);
	assert_false(member_find(&m[1], 2)->fenced || member_was_fenced(&m[2], 0x29));
	member_send_fenced(&m[1], &(struct member_victim){.node = 2, .incarnation = 0x29}, 1, now, &fx);
	assert_true(member_find(&m[1], 2)->fenced);
}

/* Corosync took nothing for long, and the queue is full: what is so in the end is told, and waited for. */
static void state_that_could_not_be_queued_is_told_again(void **state)
{
	const uint32_t all = N(1) | N(2);
	struct event timer = {.type = EV_TIMER};
	uint64_t ask;

	view_all(5, all);
	ask = member_ask_back(&m[1]);
	member_set_path(&m[1], MPATH_OK, 0x11);
	assert_int_equal(publish(1, 0), 1);
	member_not_sent(&m[1], fx.fx[0].net.bytes, fx.fx[0].net.len);
	assert_int_equal(publish(1, all), 0);
	assert_true(member_deadline(&m[1]) == now + MEMBER_AGAIN_NS);
	assert_false(member_came_back(&m[1], ask));
	now += MEMBER_AGAIN_NS;
	timer.now_ns = now;
	member_event(&m[1], &timer);
	assert_int_equal(publish(1, all), 1);
	assert_true(member_came_back(&m[1], ask));
	assert_int_equal(member_find(&m[2], 1)->state.incarnation, 0x11);
	assert_true(member_deadline(&m[1]) == NEVER);
	/* What is told for another reason is as good. */
	member_set_path(&m[1], MPATH_OK, 0x12);
	assert_int_equal(publish(1, 0), 1);
	member_not_sent(&m[1], fx.fx[0].net.bytes, fx.fx[0].net.len);
	ask = member_ask_back(&m[1]);
	assert_int_equal(publish(1, all), 1);
	assert_true(member_came_back(&m[1], ask) && member_deadline(&m[1]) == NEVER);
	assert_int_equal(member_find(&m[2], 1)->state.incarnation, 0x12);
}

static void lists_are_told_and_the_coordinators_settles_older_ones(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, N(1) | N(2));
	member_victim_add(&m[2], 4, 0x44, true);
	view_all(6, all);
	assert_true(victim(1, 4, 0x44, true) && victim(3, 4, 0x44, true));
	/* 2 has claimed since, so fenced them all; what it has now came later. */
	m[2].victim_count = 0;
	member_victim_add(&m[2], 4, 0x45, true);
	member_set_role(&m[2], ROLE_SERVING, 3, 0, false);
	for (uint32_t i = 1; i <= 3; i++) {
		cpg(i, 7, all);
		quorum(i, 7, all, true);
	}
	publish(2, all);
	assert_false(victim(1, 4, 0x44, true));
	assert_true(victim(1, 4, 0x45, true) && victim(3, 4, 0x45, true));
}

/*
 * In a split of two each has the other on its list. When they meet, who coordinates is not fenced
 * for it.
 */
static void hearsay_fences_no_member_that_is_well(void **state)
{
	const uint32_t both = N(1) | N(2);

	view_all(5, both);
	path(1, MPATH_OK, 0x11, both);
	path(2, MPATH_OK, 0x22, both);
	member_set_role(&m[1], ROLE_SERVING, 3, 0, false);
	publish(1, both);
	cpg(2, 6, N(2));
	quorum(2, 6, N(2), true);
	assert_true(victim(2, 1, 0x11, true));
	for (uint32_t i = 1; i <= 2; i++) {
		cpg(i, 7, both);
		quorum(i, 7, both, true);
	}
	publish(2, both);
	publish(1, both);
	assert_int_equal(m[1].victim_count, 0);
	assert_int_equal(m[2].victim_count, 0);
}

/* Its corosync starts anew, and what the other one tells comes before its own word. Else nobody would be left to take over. */
static void nobody_takes_itself_for_a_victim(void **state)
{
	const uint32_t both = N(1) | N(2);
	struct event ev = {.type = EV_CPG_DOWN};

	view_all(5, both);
	path(1, MPATH_OK, 0x11, both);
	path(2, MPATH_OK, 0x22, both);
	give(1, &ev);
	cpg(2, 6, N(2));
	quorum(2, 6, N(2), true);
	assert_true(victim(2, 1, 0x11, true));
	now += MEMBER_REJOIN_NS;
	member_publish(&m[1], now, &fx);
	for (uint32_t i = 1; i <= 2; i++) {
		cpg(i, 7, both);
		quorum(i, 7, both, true);
	}
	publish(2, both);
	assert_int_equal(m[1].victim_count, 0);
	publish(1, both);
	assert_true(elect_able(&m[1], member_find(&m[1], 1)));
}

static void more_victims_than_fit_are_not_forgotten(void **state)
{
	const uint32_t both = N(1) | N(2);

	view_all(5, both);
	for (uint32_t i = 0; i < MEMBER_VICTIMS_MAX + 1; i++)
		member_victim_add(&m[2], 4, 100 + i, true);
	assert_true(m[2].victims_overflow);
	view_all(6, both); /* the longest STATE fits */
	assert_true(m[1].victims_overflow && m[1].victim_count == MEMBER_VICTIMS_MAX);
	assert_true(member_victim_pending(&m[1], 3));
}

static void full_list(uint32_t node)
{
	for (uint32_t i = 0; i < MEMBER_VICTIMS_MAX; i++)
		member_victim_add(&m[node], 4, 100 + i, true);
	assert_int_equal(m[node].victim_count, MEMBER_VICTIMS_MAX);
}

/* As when a fence of all but the members succeeds: whose keys it took away, and that nobody else has to be fenced. */
static void all_but_is_fenced(uint32_t by, uint64_t since, uint32_t node, uint32_t incarnation)
{
	struct member_victim v[MEMBER_VICTIMS_MAX + 1];
	uint32_t count = m[by].victim_count;

	memcpy(v, m[by].victims, sizeof(m[by].victims));
	if (incarnation)
		v[count++] = (struct member_victim){.node = node, .incarnation = incarnation, .dirty = true};
	member_victims_covered(&m[by], since, now);
	member_send_fenced(&m[by], v, count, now, &fx);
}

/* The coordinator has decided it, and a member that is well keeps its key when all others are fenced. */
static void decided_victim_that_does_not_fit_is_pending_until_it_is_fenced(void **state)
{
	const uint32_t both = N(1) | N(2);
	uint64_t since;

	view_all(5, both);
	for (uint32_t covered = 0; covered < 2; covered++) {
		uint32_t incarnation = 0x22 + covered;

		path(2, MPATH_OK, incarnation, both);
		m[1].victim_count = 0;
		full_list(1);
		assert_true(elect_keeps(&m[1], FENCE_KEY(2, incarnation)) && elect_able(&m[1], member_find(&m[1], 2)));
		member_victim_decide(&m[1], 2, incarnation);
		assert_true(m[1].victims_overflow && member_victim_pending(&m[1], 2));
		assert_false(elect_keeps(&m[1], FENCE_KEY(2, incarnation)) || elect_able(&m[1], member_find(&m[1], 2)));
		effects_reset(&fx);
		if (!covered) {
			/* All others are fenced; it had not registered yet. */
			member_victims_covered(&m[1], m[1].unlisted_count, now);
			assert_true(!m[1].victims_overflow && member_victim_pending(&m[1], 2));
			all_but_is_fenced(1, m[1].unlisted_count, 0, 0);
			assert_true(member_victim_pending(&m[1], 2) && victim(1, 2, incarnation, true) && m[1].victims[0].decided);
			assert_false(m[1].victims_overflow || member_victim_pending(&m[1], 4));
			assert_false(elect_keeps(&m[1], FENCE_KEY(2, incarnation)));
		}
		since = m[1].unlisted_count;
		all_but_is_fenced(1, since, 2, incarnation);
		assert_true(!m[1].victim_count && !m[1].victims_overflow && !member_victim_pending(&m[1], 2));
		assert_true(member_find(&m[1], 2)->fenced);
	}
}

/* Else each of them says so again in the next STATE of its own, and all are fenced anew. */
static void all_hear_that_what_did_not_fit_is_covered(void **state)
{
	const uint32_t both = N(1) | N(2);

	view_all(5, both);
	member_set_role(&m[1], ROLE_SERVING, 7, 0, false);
	publish(1, both);
	member_victims_more(&m[1]);
	assert_int_equal(publish(1, both), 1);
	assert_true(m[2].victims_overflow);
	member_victims_covered(&m[1], m[1].unlisted_count, now);
	assert_int_equal(publish(1, both), 1);
	path(2, MPATH_OK, 0x22, both);
	assert_false(m[1].victims_overflow || m[2].victims_overflow);
}

/* It came when that fence had begun, and may have seen the keys for the last time. */
static void what_did_not_fit_is_not_covered_by_a_fence_that_had_begun(void **state)
{
	uint64_t since;

	view_all(5, N(1) | N(2));
	full_list(1);
	member_victim_add(&m[1], 3, 0x33, true);
	since = m[1].unlisted_count;
	member_victim_add(&m[1], 3, 0x34, true);
	effects_reset(&fx);
	all_but_is_fenced(1, since, 3, 0x33);
	assert_true(m[1].victims_overflow && member_victim_pending(&m[1], 3));
	all_but_is_fenced(1, m[1].unlisted_count, 0, 0);
	assert_false(m[1].victims_overflow);
}

/* The decision ends with the office. Another incarnation of it is a victim of its own, whoever coordinates. */
static void decided_victim_that_does_not_fit_is_free_when_the_office_is_lost(void **state)
{
	const uint32_t both = N(1) | N(2);

	view_all(5, both);
	path(2, MPATH_OK, 0x22, both);
	full_list(1);
	member_victim_decide(&m[1], 2, 0x22);
	member_victims_undecide(&m[1]);
	assert_true(elect_keeps(&m[1], FENCE_KEY(2, 0x22)));
	member_victim_decide(&m[1], 2, 0x22);
	path(2, MPATH_OK, 0x23, both);
	assert_true(elect_keeps(&m[1], FENCE_KEY(2, 0x23)) && !elect_keeps(&m[1], FENCE_KEY(2, 0x22)));
	effects_reset(&fx);
	all_but_is_fenced(1, m[1].unlisted_count, 0, 0);
	assert_true(victim(1, 2, 0x22, true) && !m[1].victims[0].decided);
	member_victims_forget(&m[1]);
	assert_false(member_victim_pending(&m[1], 2));
}

/* ------------------------------------------------------------------ what is said */

static void incarnation_is_announced_when_our_own_state_is_back(void **state)
{
	const uint32_t both = N(1) | N(2);

	view_all(5, both);
	member_set_path(&m[1], MPATH_COMING, 0x11);
	assert_false(member_announced(&m[1], 0x11));
	publish(1, both);
	assert_true(member_announced(&m[1], 0x11));
	assert_false(member_announced(&m[1], 0x12));
	assert_int_equal(publish(1, both), 0); /* nothing changed: nothing is sent */
}

/* A key of one that is cut off is a stranger's to the others, who fence it, and at each try it would be another one. */
static void nothing_is_announced_where_no_view_counts(void **state)
{
	const uint32_t both = N(1) | N(2);

	view_all(5, both);
	cpg(1, 6, N(1));
	quorum(1, 6, N(1), false);
	member_set_path(&m[1], MPATH_COMING, 0x11);
	publish(1, N(1));
	assert_false(member_announced(&m[1], 0x11));
	/* Nor before the others, with whom it is now, have heard of it. */
	cpg(1, 7, both);
	quorum(1, 7, both, true);
	assert_true(member_view(&m[1])->quorate);
	assert_false(member_announced(&m[1], 0x11));
	publish(1, N(1));
	assert_true(member_announced(&m[1], 0x11));
}

static void what_comes_back_has_everything_before_it(void **state)
{
	uint64_t ask;

	view_all(5, N(1) | N(2));
	ask = member_ask_back(&m[1]);
	assert_false(member_came_back(&m[1], ask));
	publish(1, N(2)); /* sent; ours not delivered to us yet */
	assert_false(member_came_back(&m[1], ask));
	/* A ring that forms: somebody may be in the group, and in no view. */
	begin(NULL);
	view_all(5, N(1) | N(2));
	ask = member_ask_back(&m[1]);
	publish(1, N(1) | N(2));
	assert_true(member_came_back(&m[1], ask));
	cpg(1, 6, N(1) | N(2) | N(3));
	assert_false(member_came_back(&m[1], ask));
}

static void first_candidate_is_the_same_everywhere(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	member_set_role(&m[3], ROLE_CANDIDATE, 1, 0, false);
	publish(3, all);
	member_set_role(&m[2], ROLE_CANDIDATE, 1, 0, false);
	publish(2, all);
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(elect_standing(&m[i])->node, 3);
	assert_int_equal(elect_others(&m[3], 3), 1);
	member_set_role(&m[3], ROLE_NONE, 1, 0, false);
	publish(3, all);
	assert_int_equal(elect_standing(&m[1])->node, 2);
}

static void best_candidate_follows_the_rules(void **state)
{
	const uint32_t all = N(1) | N(2) | N(3);

	view_all(5, all);
	assert_null(elect_best(&m[1], 0));
	path(3, MPATH_OK, 0x33, all);
	assert_int_equal(elect_best(&m[1], 0)->node, 3);
	path(2, MPATH_OK, 0x22, all);
	path(1, MPATH_OK, 0x11, all);
	assert_int_equal(elect_best(&m[2], 0)->node, 1); /* lowest id */
	member_set_load(&m[1], 2);
	publish(1, all);
	assert_int_equal(elect_best(&m[2], 0)->node, 2); /* coordinates least */
	member_set_role(&m[2], ROLE_NONE, 0, 0, true);
	publish(2, all);
	assert_int_equal(elect_best(&m[2], 0)->node, 3); /* fit */
	member_set_role(&m[1], ROLE_NONE, 7, 2, false);
	publish(1, all);
	assert_int_equal(elect_best(&m[2], 0)->node, 3); /* named, but not fit */
	member_set_role(&m[2], ROLE_NONE, 0, 0, false);
	publish(2, all);
	assert_int_equal(elect_best(&m[3], 0)->node, 2); /* named by who gave up */
	path(2, MPATH_LOST, 0x22, all);
	assert_int_equal(elect_best(&m[3], 0)->node, 3);
}

static void any_bytes_are_refused_or_understood_never_more(void **state)
{
	const uint32_t both = N(1) | N(2);
	struct prng rng = {7};
	uint8_t copy[CPG_MSG_MAX], bad[CPG_MSG_MAX];
	struct event ev = {.type = EV_CPG_MSG};
	uint32_t len;

	view_all(5, both);
	member_victim_add(&m[2], 4, 0x44, true);
	member_set_path(&m[2], MPATH_OK, 0x22);
	effects_reset(&fx);
	member_publish(&m[2], now, &fx);
	len = fx.fx[0].net.len;
	memcpy(copy, fx.fx[0].net.bytes, len);
	ev.msg.node = 2;
	/* Cut anywhere: refused. */
	for (uint32_t cut = 0; cut < len; cut++) {
		uint8_t *exact = malloc(cut + 1);

		memcpy(exact, copy, cut);
		ev.msg.bytes = exact;
		ev.msg.len = cut;
		give(1, &ev);
		assert_int_equal(member_find(&m[1], 2)->state.incarnation, 0);
		free(exact);
	}
	/* Changed anywhere: no invariant breaks. */
	for (int i = 0; i < 20000; i++) {
		memcpy(bad, copy, len);
		for (uint64_t k = 0; k < 1 + prng_below(&rng, 3); k++)
			bad[prng_below(&rng, len)] = (uint8_t)prng_u64(&rng);
		ev.msg.bytes = bad;
		ev.msg.len = len;
		story_used = 0;
		give(1, &ev);
	}
	/* Another volume's message, another node's STATE, another life of ours. */
	begin(NULL);
	view_all(5, both);
	memcpy(bad, copy, len);
	bad[8] ^= 1;
	ev.msg.bytes = bad;
	give(1, &ev);
	ev.msg.bytes = copy;
	ev.msg.node = 3;
	give(1, &ev);
	assert_int_equal(member_find(&m[1], 2)->state.incarnation, 0);
	ev.msg.node = 2;
	give(1, &ev);
	assert_int_equal(member_find(&m[1], 2)->state.incarnation, 0x22);
}

static void standalone_is_a_view_of_one_at_once(void **state)
{
	struct member_config cfg = {.standalone = true, .uuid = {9}};
	struct event ev = {.type = EV_START};

	cfg.self = (struct member_state){.node = 1, .life = 5};
	member_init(&m[1], &cfg);
	give(1, &ev);
	effects_reset(&fx);
	member_publish(&m[1], now, &fx);
	assert_int_equal(fx.count, 0);
	assert_true(member_view(&m[1])->agreed);
	member_set_path(&m[1], MPATH_COMING, 3);
	member_publish(&m[1], now, &fx);
	assert_true(member_announced(&m[1], 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(view_counts_only_when_both_rings_are_one),
		TEST(not_quorate_is_believed_at_once),
		TEST(view_without_us_does_not_count),
		TEST(all_states_make_it_agreed_and_a_ghost_only_delays_it),
		TEST(state_that_comes_before_the_configuration_counts),
		TEST(last_words_of_one_that_left_do_not_make_it_heard),
		TEST(state_of_an_earlier_view_does_not_answer_this_one),
		TEST(who_is_ahead_of_us_in_the_next_view_has_still_answered_in_this_one),
		TEST(half_of_the_last_cluster_is_marked),
		TEST(without_corosync_no_view_counts_and_it_is_joined_again),
		TEST(who_leaves_uncleanly_is_to_be_fenced),
		TEST(loss_of_quorum_makes_nobody_a_victim),
		TEST(another_life_and_another_incarnation_leave_the_old_one_behind),
		TEST(lost_path_is_a_victim_and_none_is_proof),
		TEST(fenced_is_told_to_all_and_ends_it),
		TEST(who_answers_late_is_to_hear_that_it_is_fenced),
		TEST(of_two_that_are_fenced_the_present_one_counts),
		TEST(state_that_could_not_be_queued_is_told_again),
		TEST(lists_are_told_and_the_coordinators_settles_older_ones),
		TEST(hearsay_fences_no_member_that_is_well),
		TEST(nobody_takes_itself_for_a_victim),
		TEST(more_victims_than_fit_are_not_forgotten),
		TEST(decided_victim_that_does_not_fit_is_pending_until_it_is_fenced),
		TEST(all_hear_that_what_did_not_fit_is_covered),
		TEST(what_did_not_fit_is_not_covered_by_a_fence_that_had_begun),
		TEST(decided_victim_that_does_not_fit_is_free_when_the_office_is_lost),
		TEST(incarnation_is_announced_when_our_own_state_is_back),
		TEST(nothing_is_announced_where_no_view_counts),
		TEST(what_comes_back_has_everything_before_it),
		TEST(first_candidate_is_the_same_everywhere),
		TEST(best_candidate_follows_the_rules),
		TEST(any_bytes_are_refused_or_understood_never_more),
		TEST(standalone_is_a_view_of_one_at_once),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(fx.arena);
	return failed;
}
