/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Half of a cluster that was fenced by the other half, or may have been (PROTOCOL.md, "A split of two"): the claim on
 * the LUN says whether it was. C coordinates first, B is the other (coord_lab.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/coord_lab.h"

static void split2(void)
{
	static const uint32_t apart[] = {0, 1, 0, 0, 0};

	B = 3 - C;
	lab_split(&L, apart);
}

/* Its path is lost; when it comes back the old key is gone, and nobody here says why. As node.c says it. */
static void comes_back_without_its_key(uint32_t node)
{
	struct event ev = {.type = EV_TIMER};

	lab_path_set(&L, node, false);
	lab_run(&L, 200 * MS, NULL);
	lab_path_set(&L, node, true);
	takeover_fenced_outside(tk(node));
	lab_step_node(&L, &L.node[node], &ev);
}

/* The target has restarted and has forgotten all registrations, or our new login replaced our key itself. */
static void key_that_nobody_took_costs_two_head_starts(void **state)
{
	uint64_t at;

	up(2);
	split2();
	lab_kill(&L, B);
	lab_run(&L, 8 * SEC, NULL);
	CHECK(st(C) == TK_SERVE);
	for (uint32_t i = 0; i < 5; i++) {
		at = L.now_ns;
		comes_back_without_its_key(C);
		CHECK(run_to(C, TK_FROZEN));
		CHECK(run_to(C, TK_SERVE));
		CHECK(L.now_ns - at >= 2 * TAKEOVER_HEADSTART_NS);
		CHECK(L.now_ns - at < 2 * TAKEOVER_HEADSTART_NS + LAB_LEASE_OVER + SEC);
		CHECK(lab_said(&L, "nobody has claimed since we did -> tries again"));
	}
}

/* Its own claim is the last one when it looks first: the other half is about to write one. */
static void other_half_that_claims_within_a_head_start_is_waited_for(void **state)
{
	for (uint64_t late = 0; late < 1500; late += 300) {
		up(2);
		split2();
		lab_path_set(&L, C, false);
		lab_run(&L, 400 * MS + late * MS, NULL);
		CHECK(st(B) == TK_HEADSTART);
		comes_back_without_its_key(C);
		CHECK(run_to(C, TK_FROZEN) && run_to(B, TK_SERVE));
		for (uint32_t i = 0; i < 30; i++) {
			lab_run(&L, SEC, NULL);
			CHECK(st(C) == TK_FROZEN && lab_serving(&L) == B);
		}
		CHECK(takeover_epoch(tk(B)) == 2);
	}
}

/*
 * It had no path as the cluster was split, and has one again: the other half knows nothing of its new key, takes nothing, and coordinates. The
 * claim says so.
 */
static void path_that_comes_back_in_a_split_takes_nothing_away(void **state)
{
	for (uint64_t before = 200 * MS; before <= 10 * SEC; before += 2450 * MS) {
		up(2);
		B = 3 - C;
		lab_path_set(&L, B, false);
		lab_run(&L, before, NULL);
		split2();
		lab_run(&L, 20 * SEC, NULL);
		CHECK(st(C) == TK_SERVE);
		lab_path_set(&L, B, true);
		CHECK(run_to(B, TK_HEADSTART) && run_to(B, TK_FROZEN));
		for (uint32_t i = 0; i < 30; i++) {
			lab_run(&L, SEC, NULL);
			CHECK(st(C) == TK_SERVE && st(B) == TK_FROZEN && L.reg[B]);
		}
		CHECK(lab_said(&L, "the other half of the cluster coordinates"));
		/* It is the last one, and the other one has gone. */
		lab_kill(&L, C);
		CHECK(run_to(B, TK_SERVE));
	}
}

/* As a write of C that hangs in the target, and is carried out now. */
static void beat_of_a_dead_node_lands(void)
{
	struct claim c[2];
	unsigned i;

	for (i = 0; i < 2; i++)
		CHECK(!claim_decode(&c[i], L.block[CLAIM_BLOCK + i], lab_uuid));
	i = c[1].heartbeat > c[0].heartbeat;
	c[i].heartbeat++;
	claim_encode(&c[i], L.block[CLAIM_BLOCK + (i ^ 1)]);
}

/* Of two, one that has its path again has seen the other one die. One last beat of that costs it time, and nothing else. */
static void last_beat_that_lands_in_a_head_start_costs_nothing_but_time(void **state)
{
	for (int beats = 0; beats < 2; beats++) {
		uint64_t at;

		up(2);
		B = 3 - C;
		lab_path_set(&L, B, false);
		lab_run(&L, SEC, NULL);
		split2();
		lab_run(&L, 10 * SEC, NULL);
		lab_kill(&L, C);
		lab_path_set(&L, B, true);
		CHECK(run_to(B, TK_HEADSTART));
		at = L.now_ns;
		lab_run(&L, 500 * MS, NULL);
		if (beats)
			beat_of_a_dead_node_lands();
		CHECK(run_to(B, TK_SERVE));
		CHECK(L.now_ns - at >= (1 + (uint64_t)beats) * TAKEOVER_HEADSTART_NS);
		CHECK(L.now_ns - at < (1 + (uint64_t)beats) * TAKEOVER_HEADSTART_NS + LAB_LEASE_OVER + SEC);
		CHECK(!lab_said(&L, "the other half of the cluster coordinates"));
	}
}

/* Its daemon beats, and its corosync hangs: it knows our key, and does not take it away. So it has not noticed, and may never do. */
static void who_does_not_notice_a_split_is_fenced(void **state)
{
	uint64_t at;

	up(2);
	B = 3 - C;
	L.node[C].paused = true;
	split2();
	CHECK(run_to(B, TK_HEADSTART));
	for (at = L.now_ns; st(B) == TK_HEADSTART; lab_run(&L, 250 * MS, NULL))
		beat_of_a_dead_node_lands();
	CHECK(L.now_ns - at <= TAKEOVER_HEADSTART_NS + SEC);
	CHECK(run_to(B, TK_SERVE));
}

/* C serves, and B has a key that it has not taken away, or not yet: B waits. */
static void goes_on_alone(void)
{
	for (uint32_t i = 0; i < 80; i++) {
		lab_run(&L, 250 * MS, NULL);
		CHECK(st(C) == TK_SERVE && st(B) != TK_SERVE);
	}
	CHECK(st(B) == TK_FROZEN && !strcmp(takeover_reason(tk(B)), "the other half of the cluster coordinates"));
}

/* They are together for a moment; the winner's daemon is told of both changes at once: it forms no view with B, and takes nothing away. */
static void who_was_here_for_a_moment_takes_nothing_away(void **state)
{
	up(2);
	B = 3 - C;
	lab_path_set(&L, B, false);
	lab_run(&L, 200 * MS, NULL);
	split2();
	lab_run(&L, 20 * SEC, NULL);
	lab_path_set(&L, B, true);
	CHECK(run_to(B, TK_FROZEN));
	lab_run(&L, 3 * SEC, NULL);
	L.node[C].paused = true;
	join_all();
	lab_run(&L, 100 * MS, NULL);
	split2();
	lab_run(&L, 20 * MS, NULL);
	L.node[C].paused = false;
	goes_on_alone();
}

/*
 * corosync delivers to the sender first: the word of the new key is back at B, and has not got as far as C. Nor does anything else (where the
 * daemons have a network of their own, B takes itself for known: PROTOCOL.md, "Known gaps").
 */
static void key_that_its_own_node_alone_has_heard_of_takes_nothing_away(void **state)
{
	up(2);
	B = 3 - C;
	lab_path_set(&L, B, false);
	lab_run(&L, 2 * SEC, NULL);
	L.node[1].part = 0;
	L.node[2].part = 1;
	L.node[B].port_cut = true;
	lab_path_set(&L, B, true);
	lab_run(&L, 300 * MS, NULL);
	split2();
	goes_on_alone();
}

static bool register_is_late(uint64_t by_ns)
{
	for (uint32_t i = 0; i < LAB_OPS; i++) {
		if (!L.op[i].used || L.op[i].node != B || L.op[i].cmd.op != LUN_PR_REGISTER || L.op[i].arrived)
			continue;
		L.op[i].at_ns = L.now_ns + by_ns;
		return true;
	}
	return false;
}

/* All have heard of the new key, and it is registered late: C looks for it before. */
static void key_that_comes_behind_its_fence_takes_nothing_away(void **state)
{
	bool late = false;

	up(2);
	B = 3 - C;
	lab_path_set(&L, B, false);
	lab_run(&L, 2 * SEC, NULL);
	lab_path_set(&L, B, true);
	for (uint32_t i = 0; i < 3000 && !late; i++) {
		lab_run(&L, MS / 10, NULL);
		late = register_is_late(2500 * MS);
	}
	CHECK(late);
	lab_run(&L, 1500 * MS, NULL);
	split2();
	goes_on_alone();
}

/* Who was refused by the LUN was fenced for certain, whatever the claim says: a target may be slow. */
static void who_is_known_to_be_fenced_waits_longer(void **state)
{
	uint64_t at;

	up(2);
	split2();
	lab_kill(&L, B);
	lab_run(&L, 8 * SEC, NULL);
	L.reg[C] = 0;
	L.holder = 99;
	at = L.now_ns;
	CHECK(run_to(C, TK_FROZEN));
	lab_run(&L, 100 * MS, NULL);
	comes_back_without_its_key(C);
	CHECK(run_to(C, TK_SERVE));
	CHECK(L.now_ns - at >= TAKEOVER_FROZEN_NS);
}

/* The winner has died, and the loser's path comes and goes: the claim stands still all the same. */
static void claim_stands_still_while_a_path_comes_and_goes(void **state)
{
	uint64_t at;
	bool served = false;

	up(2);
	split2();
	lab_run(&L, 8 * SEC, NULL);
	CHECK(st(B) == TK_FROZEN);
	lab_kill(&L, C);
	at = L.now_ns;
	while (!served && L.now_ns < at + 60 * SEC) {
		comes_back_without_its_key(B);
		want_node = B;
		want_state = TK_STAND;
		served = lab_run(&L, 3 * SEC, is_in_state);
	}
	CHECK(served);
	CHECK(L.now_ns - at >= TAKEOVER_FROZEN_NS - CLAIM_BEAT_NS);
	CHECK(L.now_ns - at < TAKEOVER_FROZEN_NS + 4 * SEC);
	CHECK(run_to(B, TK_SERVE));
}

/* What was seen before a long loss of the path says nothing about a winner that lives: its claim is looked at anew. */
static void claim_that_moved_while_we_had_no_path_is_waited_for(void **state)
{
	up(2);
	split2();
	lab_run(&L, 8 * SEC, NULL);
	CHECK(st(B) == TK_FROZEN);
	for (uint32_t i = 0; i < 5; i++) {
		lab_path_set(&L, B, false);
		lab_run(&L, 2 * TAKEOVER_FROZEN_NS, NULL);
		lab_path_set(&L, B, true);
		lab_run(&L, 3 * SEC, NULL);
		CHECK(st(B) == TK_FROZEN && lab_serving(&L) == C);
	}
	CHECK(takeover_epoch(tk(C)) == 1);
}

/* It is fenced as its corosync goes. That this comes back, alone, is nobody's return. */
static void fenced_while_corosync_is_away_is_still_half(void **state)
{
	struct event down = {.type = EV_CPG_DOWN};

	up(2);
	split2();
	lab_kill(&L, C);
	CHECK(run_to(B, TK_CLAIM_WRITE));
	L.reg[B] = 0;
	L.holder = 99;
	lab_step_node(&L, &L.node[B], &down);
	lab_run(&L, SEC, NULL);
	CHECK(lab_said(&L, "RESERVATION CONFLICT on the claim: fenced by another node"));
	CHECK(st(B) == TK_IDLE);
	lab_tell_conf(&L, L.node[B].part, true);
	lab_run(&L, 4 * SEC, NULL);
	CHECK(member_view(&L.node[B].m)->halved && st(B) == TK_FROZEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(key_that_nobody_took_costs_two_head_starts),
		cmocka_unit_test(other_half_that_claims_within_a_head_start_is_waited_for),
		cmocka_unit_test(path_that_comes_back_in_a_split_takes_nothing_away),
		cmocka_unit_test(last_beat_that_lands_in_a_head_start_costs_nothing_but_time),
		cmocka_unit_test(who_does_not_notice_a_split_is_fenced),
		cmocka_unit_test(who_was_here_for_a_moment_takes_nothing_away),
		cmocka_unit_test(key_that_its_own_node_alone_has_heard_of_takes_nothing_away),
		cmocka_unit_test(key_that_comes_behind_its_fence_takes_nothing_away),
		cmocka_unit_test(who_is_known_to_be_fenced_waits_longer),
		cmocka_unit_test(claim_stands_still_while_a_path_comes_and_goes),
		cmocka_unit_test(claim_that_moved_while_we_had_no_path_is_waited_for),
		cmocka_unit_test(fenced_while_corosync_is_away_is_still_half),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
