/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A coordinator that hangs, on the small cluster of coord_lab.h: C is who coordinates, B and D are the
 * others. What looks like it and is not, too.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/coord_lab.h"

/* The one that hangs believes that it serves. */
static bool one_beside_c_serves(struct lab *l)
{
	for (uint32_t i = 1; i <= l->count; i++)
		if (i != C && takeover_state(l->node[i].t) == TK_SERVE)
			return true;
	return false;
}

static void coordinator_that_hangs_is_replaced_in_seconds_and_loses_gracefully(void **state)
{
	for (uint32_t count = 2; count <= 5; count++) {
		uint64_t at;

		up(count);
		lab_run(&L, 3 * SEC, NULL);
		L.node[C].paused = true; /* its corosync goes on: no view changes */
		at = L.now_ns;
		CHECK(lab_run(&L, 20 * SEC, one_beside_c_serves));
		CHECK(L.now_ns - at >= TAKEOVER_HUNG_NS - SEC);
		CHECK(L.now_ns - at < TAKEOVER_HUNG_NS + 2 * SEC);
		CHECK(!L.reg[C]);
		lab_run(&L, 20 * SEC, NULL);
		L.node[C].paused = false;
		CHECK(lab_run(&L, 10 * SEC, lab_settled));
		CHECK(lab_serving(&L) != C);
		lab_run(&L, 2 * SEC, NULL);
		CHECK(L.reg[C]);
	}
}

/* In any state: it has claimed, and its session and its claim go quiet. */
static void coordinator_that_hangs_while_it_recovers_is_replaced(void **state)
{
	up(3);
	L.node[B].deaf = L.node[D].deaf = true;
	lab_kill(&L, C);
	CHECK(run_to(B, TK_OPEN) || run_to(D, TK_OPEN));
	want_node = st(B) == TK_OPEN ? B : D;
	L.node[want_node].paused = true;
	L.node[B + D - want_node].deaf = false;
	CHECK(run_to(B + D - want_node, TK_SERVE));
}

static void port_that_is_cut_costs_a_healthy_coordinator_nothing(void **state)
{
	uint64_t epoch;

	up(3);
	epoch = takeover_epoch(tk(C));
	L.node[C].port_cut = true;
	lab_run(&L, 60 * SEC, NULL);
	CHECK(lab_serving(&L) == C && takeover_epoch(tk(C)) == epoch);
	CHECK(lab_settled(&L));
}

/* The claim beats late, and so late that it seems to stand still; but so do our looks at it. */
static void slow_lun_costs_a_healthy_coordinator_nothing(void **state)
{
	uint64_t epoch;

	up(3);
	epoch = takeover_epoch(tk(C));
	L.node[C].port_cut = true;
	L.min_ns = 600 * MS;
	L.max_ns = 4 * SEC;
	lab_run(&L, 100 * SEC, NULL);
	CHECK(lab_serving(&L) == C && takeover_epoch(tk(C)) == epoch);
}

static void coordinator_that_wakes_before_it_is_fenced_gives_up_by_itself(void **state)
{
	up(3);
	lab_run(&L, SEC, NULL);
	L.node[C].paused = true;
	CHECK(run_to(B, TK_STAND));
	CHECK(member_own(&L.node[B].m)->against == takeover_epoch(tk(C)));
	L.node[C].paused = false;
	CHECK(run_to(B, TK_SERVE));
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	CHECK(lab_serving(&L) == B);
}

/* The one who should stand hangs, too: the other one does not wait for it for ever. */
static void two_that_hang_are_replaced_by_the_third(void **state)
{
	up(3);
	lab_run(&L, SEC, NULL);
	L.node[C].paused = L.node[B].paused = true;
	CHECK(run_to(D, TK_SERVE));
	L.node[C].paused = L.node[B].paused = false;
	CHECK(lab_run(&L, 20 * SEC, lab_settled));
}

static bool other_serves(struct lab *l)
{
	return st(B + D - want_node) == TK_SERVE;
}

/* It has claimed nothing yet, or nobody knows: it has no session, and no claim that could stand still. */
static void candidate_that_hangs_in_any_state_is_replaced(void **state)
{
	static const enum takeover_state at[] = {
		TK_STAND, TK_FENCE, TK_CLAIM_READ, TK_CLAIM_WRITE, TK_CLAIM_VERIFY};

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint64_t from;

		up_with(3, 300 + i, i & 1);
		lab_run(&L, 6 * SEC, NULL);
		lab_kill(&L, C);
		CHECK(run_to(B, at[i]));
		want_node = B;
		L.node[B].paused = true;
		from = L.now_ns;
		CHECK(lab_run(&L, 30 * SEC, other_serves));
		CHECK(L.now_ns - from < TAKEOVER_HUNG_NS + LAB_LEASE_OVER + 2 * SEC);
		CHECK(!L.reg[B]);
		lab_run(&L, 5 * SEC, NULL);
		L.node[B].paused = false;
		CHECK(lab_run(&L, 20 * SEC, lab_settled));
		CHECK(lab_serving(&L) == D);
	}
}

static void sleeps(uint32_t node, bool does)
{
	L.node[node].paused = L.node[node].asleep = does;
}

static bool b_sees_d_stand(struct lab *l)
{
	return member_find(&l->node[B].m, D)->state.role == ROLE_CANDIDATE;
}

/*
 * Two candidates sleep in turn. The one that wakes has its fence behind it, which spared the other, and finds only then that
 * the other hangs (csvsim seed 2000845): it is fenced before anybody is served.
 */
static void candidate_found_to_hang_after_the_fence_is_fenced(void **state)
{
	for (uint64_t seed = 500; seed < 520; seed++) {
		up_with(3, seed, seed & 1);
		lab_run(&L, 6 * SEC, NULL);
		L.node[C].paused = true;
		CHECK(run_to(B, TK_STAND));
		lab_run(&L, 5 * MS, NULL);
		sleeps(B, true);
		CHECK(run_to(D, TK_STAND));
		sleeps(D, true);
		lab_run(&L, 5 * MS, NULL);
		sleeps(B, false);
		CHECK(lab_run(&L, SEC, b_sees_d_stand));
		CHECK(run_to(B, TK_FENCE));
		sleeps(B, true);
		lab_run(&L, 11 * SEC, NULL);
		CHECK(L.reg[D]);
		sleeps(B, false);
		CHECK(run_to(B, TK_SERVE));
		CHECK(!L.reg[D]);
		L.node[C].paused = false;
		sleeps(D, false);
		CHECK(lab_run(&L, 30 * SEC, lab_settled));
	}
}

/* It waits for long, for a target that knows neither PREEMPT AND ABORT nor reset, and says that it is there. */
static void candidate_that_takes_long_is_not_taken_for_one_that_hangs(void **state)
{
	lab_init(&L, 3, 11);
	L.abort_ok = L.reset_ok = false;
	for (uint32_t i = 1; i <= 3; i++)
		lab_start(&L, i);
	CHECK(lab_run(&L, 60 * SEC, lab_settled));
	names();
	L.log_used = 0;
	lab_kill(&L, C);
	CHECK(lab_run(&L, 120 * SEC, lab_settled));
	CHECK(!lab_said(&L, "it hangs"));
}

/* Who watches may have slept itself: what it hears first is old, and says nothing. */
static void who_wakes_does_not_accuse_a_candidate(void **state)
{
	lab_init(&L, 3, 12);
	L.abort_ok = L.reset_ok = false;
	for (uint32_t i = 1; i <= 3; i++)
		lab_start(&L, i);
	CHECK(lab_run(&L, 60 * SEC, lab_settled));
	names();
	lab_kill(&L, C);
	CHECK(run_to(B, TK_FENCE));
	lab_run(&L, SEC, NULL);
	L.node[D].paused = true;
	lab_run(&L, 10 * SEC, NULL);
	L.log_used = 0;
	L.node[D].paused = false;
	CHECK(lab_run(&L, 120 * SEC, lab_settled));
	CHECK(!lab_said(&L, "it hangs"));
}

static bool preempted_and_not_drained(struct lab *l)
{
	return !l->reg[C] && takeover_state(l->node[B].t) == TK_FENCE &&
	       lab_said(l, "the target refuses LUN reset");
}

/*
 * On a target that knows neither PREEMPT AND ABORT nor reset, so that the barrier takes long. The one that hangs
 * is a member: it is on no fence list, and has no key any more when the fence begins anew. Its write is still
 * in the target.
 */
static void a_fence_that_ends_before_its_barrier_is_remembered_by_the_next(void **state)
{
	lab_init(&L, 4, 9);
	L.abort_ok = L.reset_ok = false;
	for (uint32_t i = 1; i <= 3; i++)
		lab_start(&L, i);
	CHECK(lab_run(&L, 60 * SEC, lab_settled));
	names();
	L.hold_ns = 25 * SEC;
	lab_run(&L, 300 * MS, NULL);
	L.hold_ns = 0;
	L.node[C].paused = true;
	L.log_used = 0;
	CHECK(lab_run(&L, 20 * SEC, preempted_and_not_drained));
	lab_start(&L, 4); /* the view changes: who fences begins anew */
	CHECK(lab_run(&L, 120 * SEC, one_beside_c_serves));
	CHECK(lab_said(&L, "a fence ended before its barrier"));
	lab_run(&L, 30 * SEC, NULL);
	CHECK(true); /* no late write */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(coordinator_that_hangs_is_replaced_in_seconds_and_loses_gracefully),
		cmocka_unit_test(coordinator_that_hangs_while_it_recovers_is_replaced),
		cmocka_unit_test(port_that_is_cut_costs_a_healthy_coordinator_nothing),
		cmocka_unit_test(slow_lun_costs_a_healthy_coordinator_nothing),
		cmocka_unit_test(coordinator_that_wakes_before_it_is_fenced_gives_up_by_itself),
		cmocka_unit_test(two_that_hang_are_replaced_by_the_third),
		cmocka_unit_test(candidate_that_hangs_in_any_state_is_replaced),
		cmocka_unit_test(candidate_found_to_hang_after_the_fence_is_fenced),
		cmocka_unit_test(candidate_that_takes_long_is_not_taken_for_one_that_hangs),
		cmocka_unit_test(who_wakes_does_not_accuse_a_candidate),
		cmocka_unit_test(a_fence_that_ends_before_its_barrier_is_remembered_by_the_next),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
