/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Takeover on a small cluster with a LUN (coord_lab.h). C is who coordinates, B and D are the
 * others; in all tests the oracle fails on a write of an old epoch that lands late, or an epoch
 * opened twice.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "coordinator/elect.h"
#include "tests/unit/coord_lab.h"

static bool somebody_else_serves(struct lab *l)
{
	uint32_t s = lab_serving(l);

	return s && s != C;
}

static void split2(bool apart)
{
	const uint32_t one[] = {0, 0, 0, 0, 0}, two[] = {0, 1, 0, 0, 0};

	lab_split(&L, apart ? two : one);
}

/* ------------------------------------------------------------------ start and loss */

static void first_mount_claims_an_epoch_and_all_follow(void **state)
{
	up(3);
	CHECK(takeover_epoch(tk(C)) == 1);
	CHECK(takeover_mine(tk(C)));
	CHECK(takeover_coordinator(tk(B)).node == C);
	CHECK(takeover_coordinator(tk(D)).port == 7660);
	CHECK(takeover_coordinator(tk(B)).epoch == 1);
}

static void dead_coordinator_is_fenced_before_the_claim(void **state)
{
	uint64_t at;
	char want[64];

	up(3);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	lab_kill(&L, C);
	at = L.now_ns;
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.now_ns - at < SEC / 2); /* its corosync has seen it die: nobody is waited for */
	CHECK(L.reg[C] == 0);
	CHECK(takeover_epoch(tk(lab_serving(&L))) == 2);
	snprintf(want, sizeof(want), "node %u left, its path was ok -> to be fenced: %u/", C, C);
	CHECK(lab_said(&L, want));
}

/* The word that it waits for is as old as the coordinator's last beat. */
static void path_that_comes_makes_the_coordinator_beat(void **state)
{
	uint64_t at;

	up(3);
	lab_path_set(&L, B, false);
	lab_run(&L, 3 * SEC, NULL);
	lab_path_set(&L, B, true);
	for (at = L.now_ns; !elect_able(&L.node[C].m, member_find(&L.node[C].m, B));)
		CHECK(L.now_ns < at + 5 * SEC && lab_run(&L, MS, NULL));
	at = L.now_ns;
	lab_run(&L, 50 * MS, NULL);
	CHECK(takeover_beat_ns(tk(C)) + MS >= at);
}

static void dead_follower_is_fenced_while_serving(void **state)
{
	up(3);
	lab_kill(&L, B);
	lab_run(&L, SEC, NULL);
	CHECK(lab_serving(&L) == C && takeover_epoch(tk(C)) == 1);
	CHECK(L.reg[B] == 0);
	CHECK(!member_victim_pending(&L.node[C].m, B));
	CHECK(!member_victim_pending(&L.node[D].m, B)); /* FENCED was told */
}

/*
 * The trial's own finding: a fence names an incarnation, since a node may be back before its writes
 * are.
 */
static void rejoined_node_keeps_its_new_key_and_its_old_writes_are_drained(void **state)
{
	uint64_t old;

	for (int abort_ok = 0; abort_ok < 2; abort_ok++) {
		up_with(3, 7, abort_ok);
		L.hold_ns = 800 * MS; /* writes stay in the target */
		old = L.reg[C];
		lab_run(&L, 300 * MS, NULL);
		lab_kill(&L, C);
		L.node[C].path = true;
		lab_start(&L, C);
		CHECK(lab_run(&L, 20 * SEC, lab_settled));
		lab_run(&L, 3 * SEC, NULL);
		CHECK(L.reg[C] && L.reg[C] != old);
		CHECK(lab_serving(&L) && takeover_epoch(tk(lab_serving(&L))) >= 2);
		CHECK(L.resets);
	}
}

static void without_preempt_and_abort_the_barrier_drains(void **state)
{
	up_with(3, 9, false);
	L.hold_ns = 2 * SEC;
	lab_run(&L, SEC, NULL);
	lab_kill(&L, C);
	CHECK(lab_run(&L, 20 * SEC, somebody_else_serves));
	CHECK(L.resets >= 1);
	lab_run(&L, 5 * SEC, NULL);
	CHECK(true); /* no late write */
}

/* The target says OK to its abort all the same: so does LIO before Linux 6.1. */
static void who_does_not_hold_the_reservation_is_drained_and_not_only_aborted(void **state)
{
	up_with(3, 9, true);
	L.holder = B;
	L.resets = 0;
	L.hold_ns = 20 * SEC;
	lab_run(&L, 600 * MS, NULL); /* a beat */
	L.hold_ns = 0;
	lab_kill(&L, C);
	CHECK(lab_run(&L, 30 * SEC, somebody_else_serves));
	CHECK(L.resets == 1 && L.holder == B);
	lab_run(&L, 20 * SEC, NULL);
	CHECK(true); /* no late write */
}

static void candidate_that_dies_in_any_state_is_followed_by_another(void **state)
{
	static const enum takeover_state at[] = {TK_STAND, TK_FENCE, TK_CLAIM_READ, TK_CLAIM_WRITE,
		TK_CLAIM_VERIFY, TK_OPEN, TK_RECLAIM};

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint32_t next;

		lab_init(&L, 5, 100 + i);
		for (uint32_t n = 1; n <= 5; n++)
			lab_start(&L, n);
		CHECK(lab_run(&L, 10 * SEC, lab_settled));
		C = lab_serving(&L);
		next = C == 1 ? 2 : 1;
		if (at[i] == TK_RECLAIM)
			for (uint32_t n = 1; n <= 5; n++)
				L.node[n].paused = n != next && n != C;
		lab_kill(&L, C);
		if (at[i] == TK_OPEN)
			L.node[next].deaf = true;
		if (at[i] == TK_RECLAIM)
			for (uint32_t n = 1; n <= 5; n++)
				L.node[n].paused = false;
		CHECK(run_to(next, at[i]));
		lab_kill(&L, next);
		CHECK(lab_run(&L, 20 * SEC, lab_settled));
		CHECK(L.reg[C] == 0 && L.reg[next] == 0);
		lab_run(&L, 2 * SEC, NULL);
		CHECK(lab_settled(&L));
	}
}

static void candidate_that_loses_its_path_in_any_state_gives_way(void **state)
{
	static const enum takeover_state at[] = {
		TK_STAND, TK_FENCE, TK_CLAIM_READ, TK_CLAIM_WRITE, TK_CLAIM_VERIFY, TK_OPEN};

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint32_t next;

		up_with(3, 200 + i, i & 1);
		next = B;
		if (at[i] == TK_OPEN)
			L.node[next].deaf = true;
		lab_kill(&L, C);
		CHECK(run_to(next, at[i]));
		lab_path_set(&L, next, false);
		CHECK(lab_run(&L, 20 * SEC, lab_settled));
		CHECK(lab_serving(&L) == D);
		lab_path_set(&L, next, true);
		L.node[next].deaf = false;
		lab_run(&L, 3 * SEC, NULL);
		CHECK(lab_settled(&L) && L.reg[next]);
	}
}

static void coordinator_without_path_gives_way_and_is_fenced(void **state)
{
	uint64_t old;

	up(3);
	old = L.reg[C];
	lab_path_set(&L, C, false);
	CHECK(!takeover_mine(tk(C)));
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(!lab_registered(&L, old));
	CHECK(member_was_fenced(&L.node[C].m, FENCE_KEY_INCARNATION(old)));
	lab_path_set(&L, C, true);
	lab_run(&L, 2 * SEC, NULL);
	CHECK(lab_settled(&L) && lab_serving(&L) != C);
	CHECK(L.reg[C] && L.reg[C] != old);
}

static void nobody_with_a_path_holds_until_one_is_back(void **state)
{
	up(3);
	for (uint32_t i = 1; i <= 3; i++)
		lab_path_set(&L, i, false);
	lab_run(&L, 30 * SEC, NULL);
	CHECK(!lab_serving(&L) && st(B) == TK_HOLD && st(D) == TK_HOLD);
	lab_path_set(&L, D, true);
	CHECK(run_to(D, TK_SERVE));
}

/* ------------------------------------------------------------------ races */

static void two_candidates_of_one_view_become_one_coordinator(void **state)
{
	for (uint64_t seed = 1; seed < 40; seed++) {
		lab_init(&L, 3, seed);
		for (uint32_t i = 1; i <= 3; i++)
			lab_start(&L, i);
		/* All paths come in the same moment: who stands is a matter of delivery. */
		for (uint32_t i = 1; i <= 3; i++)
			L.node[i].path_at_ns = L.now_ns + 20 * MS;
		CHECK(lab_run(&L, 10 * SEC, lab_settled));
		CHECK(L.opened == 1);
	}
}

static void claim_of_another_that_shows_at_verification_is_respected(void **state)
{
	struct claim c = {.epoch = 40, .state = CLAIM_HELD, .node = 9, .life = 99, .heartbeat = 1};

	up(3);
	memcpy(c.uuid, lab_uuid, 16);
	lab_kill(&L, C);
	CHECK(run_to(B, TK_CLAIM_VERIFY));
	claim_encode(&c, L.block[1]);
	claim_encode(&c, L.block[2]);
	CHECK(lab_run(&L, 20 * SEC, lab_settled));
	CHECK(takeover_epoch(tk(lab_serving(&L))) == 41);
	CHECK(lab_said(&L, "another node's claim shows -> withdraws"));
}

static void claim_that_the_lun_did_not_keep_is_not_believed(void **state)
{
	up(3);
	lab_kill(&L, C);
	CHECK(run_to(B, TK_CLAIM_VERIFY));
	memset(L.block[1], 0, BLOCK_SIZE);
	memset(L.block[2], 0, BLOCK_SIZE);
	lab_run(&L, 5 * SEC, NULL);
	CHECK(!lab_serving(&L));
	/* With no valid claim nobody guesses an epoch. */
	CHECK(st(B) == TK_REFUSED || st(D) == TK_REFUSED);
}

static void torn_claim_leaves_the_one_before(void **state)
{
	up(3);
	lab_run(&L, 10 * SEC, NULL);
	lab_kill(&L, C);
	L.block[1][100] ^= 1; /* the place where it was being written */
	CHECK(lab_run(&L, 20 * SEC, somebody_else_serves));
	CHECK(takeover_epoch(tk(lab_serving(&L))) == 2);
}

/* ------------------------------------------------------------------ two nodes, partitions */

static void in_a_split_of_two_the_coordinator_wins(void **state)
{
	for (uint64_t seed = 1; seed < 20; seed++) {
		up_with(2, seed, seed & 1);
		B = 3 - C;
		split2(true);
		lab_run(&L, 8 * SEC, NULL);
		CHECK(lab_serving(&L) == C && takeover_epoch(tk(C)) == 1);
		CHECK(L.reg[B] == 0 || st(B) == TK_FROZEN);
		CHECK(st(B) == TK_FROZEN);
		split2(false);
		CHECK(lab_run(&L, 10 * SEC, lab_settled));
		CHECK(lab_serving(&L) == C && takeover_epoch(tk(C)) == 1);
	}
}

static void survivor_of_two_takes_over_after_the_head_start(void **state)
{
	uint64_t at;

	up(2);
	B = 3 - C;
	lab_kill(&L, C);
	L.node[C].part = 1;
	split2(true);
	at = L.now_ns;
	CHECK(run_to(B, TK_SERVE));
	CHECK(L.now_ns - at >= TAKEOVER_HEADSTART_NS + LAB_LEASE_OVER);
	CHECK(L.now_ns - at < TAKEOVER_HEADSTART_NS + LAB_LEASE_OVER + SEC);
}

static void dead_daemon_of_two_needs_no_head_start(void **state)
{
	uint64_t at;

	up(2);
	B = 3 - C;
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	at = L.now_ns;
	lab_kill(&L, C); /* its corosync lives: the ring is the same */
	CHECK(run_to(B, TK_SERVE));
	CHECK(L.now_ns - at < SEC);
}

static void loser_of_a_split_takes_over_when_the_winner_dies(void **state)
{
	up(2);
	B = 3 - C;
	split2(true);
	lab_run(&L, 8 * SEC, NULL);
	CHECK(st(B) == TK_FROZEN);
	lab_run(&L, 60 * SEC, NULL);
	CHECK(st(B) == TK_FROZEN); /* the claim beats */
	lab_kill(&L, C);
	CHECK(run_to(B, TK_SERVE));
	CHECK(takeover_epoch(tk(B)) == 2);
}

static void coordinator_without_quorum_stops_and_follows_after_the_merge(void **state)
{
	up(3);
	cut_off(C);
	lab_run(&L, 200 * MS, NULL);
	CHECK(!takeover_mine(tk(C)));
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(st(C) == TK_IDLE || st(C) == TK_LOST);
	join_all();
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	CHECK(lab_serving(&L) != C && takeover_epoch(tk(lab_serving(&L))) == 2);
}

static void cut_off_follower_is_fenced_told_and_comes_back(void **state)
{
	uint64_t old;

	up(3);
	old = L.reg[B];
	cut_off(B);
	lab_run(&L, 2 * SEC, NULL);
	CHECK(st(B) == TK_IDLE && !lab_registered(&L, old));
	join_all();
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	lab_run(&L, 2 * SEC, NULL);
	CHECK(lab_serving(&L) == C && L.reg[B] && L.reg[B] != old);
}

static void paused_coordinator_wakes_up_fenced(void **state)
{
	up(3);
	lab_run(&L, SEC, NULL);
	L.node[C].paused = true;
	cut_off(C); /* corosync of a paused machine is cut off; its daemon sees it when it wakes */
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	lab_engine_write(&L, &L.node[C]); /* it had one more to send */
	lab_run(&L, SEC, NULL);
	L.node[C].paused = false;
	join_all();
	CHECK(lab_run(&L, 15 * SEC, lab_settled));
	CHECK(lab_serving(&L) != C);
}

static void ghost_member_delays_a_takeover_by_two_seconds_at_most(void **state)
{
	uint64_t at;

	up(3);
	L.node[D].paused = true; /* a member, and silent */
	lab_kill(&L, C);
	at = L.now_ns;
	CHECK(run_to(B, TK_RECLAIM));
	CHECK(L.now_ns - at < MEMBER_AGREE_NS + SEC);
	CHECK(run_to(B, TK_SERVE));
	/* Silent in reclaim as well: fenced, since others may be granted what it has when its lease is over. */
	CHECK(L.now_ns - at >= MEMBER_AGREE_NS + TAKEOVER_RECLAIM_NS + LAB_LEASE_OVER);
	CHECK(L.now_ns - at < MEMBER_AGREE_NS + TAKEOVER_RECLAIM_NS + LAB_LEASE_OVER + SEC);
	CHECK(L.reg[D] == 0);
	L.node[D].paused = false;
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	lab_run(&L, 2 * SEC, NULL);
	CHECK(L.reg[D]);
}

static void silent_ghost_that_coordinated_is_fenced_although_a_member(void **state)
{
	up(3);
	L.node[C].paused = true;
	lab_run(&L, 100 * MS, NULL);
	/* Something makes a new view; in it the coordinator says nothing. */
	lab_kill(&L, D);
	lab_run(&L, 8 * SEC, NULL);
	CHECK(lab_serving(&L) == B || st(B) == TK_SERVE);
	CHECK(L.reg[C] == 0 || takeover_epoch(tk(B)) == 2);
	L.node[C].paused = false;
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	CHECK(lab_serving(&L) == B);
}

static void candidates_of_two_halves_that_merge_become_one(void **state)
{
	for (uint64_t seed = 1; seed < 20; seed++) {
		uint64_t epoch;

		up_with(2, seed, true);
		B = 3 - C;
		epoch = takeover_epoch(tk(C));
		lab_path_set(&L, 1, false);
		lab_path_set(&L, 2, false);
		lab_run(&L, SEC, NULL);
		split2(true);
		lab_run(&L, 100 * MS, NULL);
		lab_path_set(&L, 1, true);
		lab_path_set(&L, 2, true);
		CHECK(run_to(1, TK_HEADSTART) && run_to(2, TK_HEADSTART));
		split2(false);
		CHECK(lab_run(&L, 10 * SEC, lab_settled));
		CHECK(takeover_epoch(tk(lab_serving(&L))) == epoch + 1);
	}
}

/*
 * While node 3 is cut off, node 2 gets a path, coordinates, and loses it with a write in flight.
 * When 3 stands in the view of all, that key is not on the LUN any more, and 3 has never heard
 * of it.
 */
static void what_a_cut_off_node_missed_is_told_by_the_others(void **state)
{
	const uint32_t apart[] = {0, 1, 2, 0, 0};
	uint64_t resets;

	lab_init(&L, 3, 42);
	L.node[2].path = L.node[3].path = false;
	for (uint32_t i = 1; i <= 3; i++)
		lab_start(&L, i);
	CHECK(lab_run(&L, 10 * SEC, lab_settled) && lab_serving(&L) == 1);
	L.node[2].hasty = L.node[3].hasty = true;
	cut_off(3);
	lab_path_set(&L, 2, true);
	lab_run(&L, SEC, NULL);
	effects_reset(&lab_fx);
	CHECK(takeover_move(tk(1), 2, &lab_fx) == 0);
	CHECK(run_to(2, TK_SERVE));
	L.hold_ns = 20 * SEC;
	lab_run(&L, SEC, NULL);
	lab_split(&L, apart);
	lab_path_set(&L, 3, true);
	lab_run(&L, SEC, NULL);
	L.hold_ns = 0;
	CHECK(st(2) == TK_IDLE && L.reg[2] && L.reg[3]);
	member_set_load(&L.node[1].m, 5);
	member_set_load(&L.node[2].m, 5);
	resets = L.resets;
	join_all();
	CHECK(run_to(3, TK_SERVE));
	CHECK(L.resets > resets);
	lab_run(&L, 30 * SEC, NULL);
	CHECK(lab_serving(&L) == 3);
}

static void cold_start_drains_what_an_unknown_life_had_in_flight(void **state)
{
	up_with(1, 3, true);
	L.hold_ns = 30 * SEC;
	lab_run(&L, SEC, NULL);
	lab_kill(&L, 1);
	lab_start(&L, 1); /* registers anew: its old key is nowhere */
	lab_run(&L, 200 * MS, NULL);
	L.hold_ns = 0;
	CHECK(run_to(1, TK_SERVE) || lab_run(&L, 60 * SEC, lab_settled));
	lab_run(&L, 60 * SEC, NULL);
	CHECK(lab_serving(&L) == 1);
}

/* ------------------------------------------------------------------ handover, end */

static void handover_needs_no_fence_and_is_quick(void **state)
{
	struct effects *fx = &lab_fx;
	uint64_t at, preempts;

	up(3);
	preempts = L.preempts;
	at = L.now_ns;
	effects_reset(fx);
	CHECK(takeover_move(tk(C), B, fx) == 0);
	CHECK(run_to(B, TK_SERVE));
	CHECK(L.now_ns - at <
		300 * MS); /* of it up to 200 ms wait for the engine's stream to pause */
	CHECK(L.preempts == preempts && L.resets == 0);
	CHECK(lab_run(&L, SEC, lab_settled));
	CHECK(takeover_epoch(tk(B)) == 2 && L.reg[C]);
}

static void move_may_be_asked_on_any_node(void **state)
{
	up(3);
	effects_reset(&lab_fx);
	CHECK(takeover_move(tk(C), C, &lab_fx) == -EALREADY);
	CHECK(takeover_move(tk(C), 77, &lab_fx) == -ENOENT);
	CHECK(takeover_move(tk(B), D, &lab_fx) == 0);
	CHECK(lab_fx.count == 1);
	lab_cpg_send(&L, B, lab_fx.fx[0].net.bytes, lab_fx.fx[0].net.len);
	CHECK(run_to(D, TK_SERVE));
	lab_path_set(&L, B, false);
	lab_run(&L, SEC, NULL);
	CHECK(takeover_move(tk(D), B, &lab_fx) == -ENODEV);
}

static void target_that_dies_in_a_handover_is_replaced(void **state)
{
	up(3);
	L.node[C].slow_close = true;
	effects_reset(&lab_fx);
	CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	CHECK(run_to(C, TK_DRAIN));
	lab_kill(&L, B);
	lab_run(&L, SEC, NULL);
	CHECK(st(C) == TK_DRAIN);
	L.node[C].slow_close = false;
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	CHECK(takeover_epoch(tk(lab_serving(&L))) == 2);
	CHECK(L.reg[B] == 0);
}

static void coordinator_that_dies_while_draining_is_taken_over(void **state)
{
	up(3);
	L.node[C].slow_close = true;
	effects_reset(&lab_fx);
	CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	CHECK(run_to(C, TK_DRAIN));
	lab_kill(&L, C);
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	CHECK(L.reg[C] == 0);
}

static bool nobody_up(struct lab *l)
{
	for (uint32_t i = 1; i <= l->count; i++)
		if (l->node[i].up)
			return false;
	return true;
}

static enum claim_state last_claim(void)
{
	struct claim c[2], *last;

	assert_int_equal(claim_decode(&c[0], L.block[1], lab_uuid), 0);
	assert_int_equal(claim_decode(&c[1], L.block[2], lab_uuid), 0);
	last = c[0].epoch > c[1].epoch ||
			       (c[0].epoch == c[1].epoch && c[0].heartbeat > c[1].heartbeat)
		       ? &c[0]
		       : &c[1];
	return last->state;
}

static void last_node_leaves_a_clean_claim(void **state)
{
	uint64_t preempts;

	up(3);
	preempts = L.preempts;
	takeover_stop(tk(C));
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	lab_run(&L, SEC, NULL);
	CHECK(!L.node[C].up);
	/*
	 * Its key is preempted, without a barrier: it left clean, and may have held the
	 * reservation.
	 */
	CHECK(L.reg[C] == 0 && L.preempts == preempts + 1 && L.resets == 0 && L.holder);
	takeover_stop(tk(B));
	takeover_stop(tk(D));
	lab_run(&L, 5 * SEC, nobody_up);
	CHECK(nobody_up(&L));
	CHECK(last_claim() == CLAIM_CLEAN);
}

/* Whoever is given the epoch may be about to leave as well, and not have said so yet. */
static void all_that_leave_at_once_leave_a_clean_claim(void **state)
{
	for (uint64_t seed = 1; seed < 100; seed++) {
		uint32_t keys = 0, nodes = 2 + (uint32_t)(seed % 4);

		lab_init(&L, nodes, seed);
		for (uint32_t i = 1; i <= nodes; i++)
			lab_start(&L, i);
		CHECK(lab_run(&L, 10 * SEC, lab_settled));
		lab_run(&L, SEC, NULL);
		for (uint32_t i = 1; i <= nodes; i++) {
			takeover_stop(tk(1 + (i + (uint32_t)seed) % nodes));
			lab_run(&L, lab_rand(&L, 0, seed & 1 ? 3 * MS : 100 * MS), NULL);
		}
		CHECK(lab_run(&L, 5 * SEC, nobody_up));
		CHECK(last_claim() == CLAIM_CLEAN);
		for (uint32_t i = 1; i <= nodes; i++)
			keys += L.reg[i] != 0;
		CHECK(keys <= 1); /* of the last: it takes it away itself (node_stop.c) */
	}
}

/* A daemon that hangs as it leaves is waited for; it is killed in the end, and the claim is clean all the same. */
static void one_that_hangs_as_all_leave_is_waited_for(void **state)
{
	up(3);
	for (uint32_t i = 1; i <= 3; i++)
		member_set_leaving(&L.node[i].m, LEAVING_SOON); /* they close their files */
	lab_run(&L, 2 * SEC, NULL);
	L.node[B].paused = true;
	takeover_stop(tk(C));
	takeover_stop(tk(D));
	lab_run(&L, 4 * SEC, NULL);
	CHECK(st(C) == TK_SERVE && !L.node[D].up);
	lab_kill(&L, B);
	CHECK(lab_run(&L, 5 * SEC, nobody_up));
	CHECK(last_claim() == CLAIM_CLEAN && L.reg[B] == 0);
}

static void stopping_alone_in_a_cluster_of_one_is_clean(void **state)
{
	struct claim c;

	up(1);
	takeover_stop(tk(1));
	CHECK(lab_run(&L, 5 * SEC, nobody_up));
	CHECK(lab_said(&L, "closed -> claim clean"));
	CHECK(claim_decode(&c, L.block[1], lab_uuid) == 0);
}

/* ------------------------------------------------------------------ strangers */

static void claim_that_beats_for_a_stranger_is_refused(void **state)
{
	struct claim c = {.epoch = 8, .state = CLAIM_HELD, .node = 1, .life = 99, .name = "atlas"};

	lab_init(&L, 1, 5);
	memcpy(c.uuid, lab_uuid, 16);
	claim_encode(&c, L.block[1]);
	lab_start(&L, 1);
	CHECK(run_to(1, TK_WATCH));
	/* As slowly as it may. Beats within 3 s of the first may be the last ones of who was cut off. */
	for (uint32_t i = 0; i < 3; i++) {
		lab_run(&L, CLAIM_BEAT_NS, NULL);
		CHECK(st(1) == TK_WATCH);
		c.heartbeat++;
		claim_encode(&c, L.block[1 + (i & 1)]);
	}
	CHECK(run_to(1, TK_REFUSED));
	assert_string_equal(takeover_reason(tk(1)), "in use by atlas (node 1)");
	CHECK(L.preempts == 0);
}

/* A node that starts while its cluster is split waits: who beats is the other half, started anew. */
static void claim_that_beats_in_the_other_half_is_waited_for(void **state)
{
	struct claim c = {.epoch = 8, .state = CLAIM_HELD, .node = 2, .life = 99, .name = "n2"};

	lab_init(&L, 2, 5);
	memcpy(c.uuid, lab_uuid, 16);
	claim_encode(&c, L.block[1]);
	lab_start(&L, 1);
	lab_start(&L, 2);
	lab_run(&L, SEC, NULL);
	split2(true);
	CHECK(run_to(1, TK_WATCH));
	lab_kill(&L, 2);
	for (uint32_t i = 0; i < 12; i++) {
		lab_run(&L, CLAIM_BEAT_NS, NULL);
		c.heartbeat++;
		claim_encode(&c, L.block[1]);
		CHECK(st(1) != TK_REFUSED && !takeover_mine(tk(1)));
	}
	CHECK(st(1) == TK_FROZEN && lab_said(&L, "the other half of the cluster coordinates"));
	CHECK(run_to(1, TK_SERVE)); /* the claim stands still */
	CHECK(takeover_epoch(tk(1)) == 9);
}

static void claim_that_stands_still_is_taken_and_its_key_fenced(void **state)
{
	struct claim c = {.epoch = 8, .state = CLAIM_HELD, .node = 1, .life = 99, .name = "atlas"};
	uint64_t at;

	lab_init(&L, 1, 5);
	memcpy(c.uuid, lab_uuid, 16);
	claim_encode(&c, L.block[1]);
	L.strange_key = FENCE_KEY(1, 0xdead);
	L.holder = 99;
	at = L.now_ns;
	lab_start(&L, 1);
	CHECK(run_to(1, TK_SERVE));
	CHECK(L.now_ns - at >= TAKEOVER_WATCH_NS + LAB_LEASE_OVER);
	CHECK(L.now_ns - at < TAKEOVER_WATCH_NS + LAB_LEASE_OVER + SEC);
	CHECK(takeover_epoch(tk(1)) == 9 && !L.strange_key && L.holder == 1);
}

static bool one_serves(struct lab *l)
{
	return lab_serving(l) != 0;
}

/* Of those who have just started one has heard of that epoch from its own cluster: it is of somebody who was cut off. */
static void claim_whose_epoch_a_member_knows_is_no_strangers(void **state)
{
	struct claim c = {.epoch = 8, .state = CLAIM_HELD, .node = 1, .life = 99, .name = "atlas"};

	lab_init(&L, 2, 5);
	memcpy(c.uuid, lab_uuid, 16);
	claim_encode(&c, L.block[1]);
	lab_start(&L, 1);
	lab_start(&L, 2);
	L.node[2].m.cfg.self.epoch = 8;
	CHECK(lab_run(&L, 10 * SEC, one_serves));
	CHECK(!lab_said(&L, "watches whether it beats"));
	CHECK(takeover_epoch(tk(lab_serving(&L))) == 9);
}

static void beats_that_the_lun_took_are_known(void **state)
{
	uint64_t beat;

	up(3);
	CHECK(takeover_beat_ns(tk(B)) == 0);
	lab_run(&L, 10 * SEC, NULL);
	beat = takeover_beat_ns(tk(C));
	CHECK(L.now_ns - beat <= CLAIM_BEAT_NS + 100 * MS);
	L.min_ns = L.max_ns = 30 * SEC; /* the LUN answers nothing */
	lab_run(&L, 10 * SEC, NULL);
	CHECK(takeover_beat_ns(tk(C)) - beat <= CLAIM_BEAT_NS);
}

static void unknown_keys_are_fenced_at_a_takeover(void **state)
{
	up(3);
	L.strange_key = FENCE_KEY(7, 0xbeef);
	lab_kill(&L, C);
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(!L.strange_key);
}

static void replay_that_fails_lets_another_try(void **state)
{
	up(3);
	lab_kill(&L, C);
	L.node[B].deaf = true;
	CHECK(run_to(B, TK_OPEN));
	takeover_volume_failed(tk(B), "journal block 7: bad checksum");
	CHECK(st(B) == TK_LOST);
	assert_string_equal(takeover_reason(tk(B)), "journal block 7: bad checksum");
	CHECK(run_to(D, TK_SERVE));
}

/* A target that is restarted breaks every coordinator's path in its turn: that makes none of them unfit. */
static void path_that_broke_under_the_engine_is_not_held_against_a_node(void **state)
{
	up(3);
	for (unsigned i = 0; i < 4; i++) {
		unsigned c = lab_serving(&L);

		takeover_volume_lost(tk(c), "outcome of a write of block 7 is unknown");
		CHECK(st(c) == TK_LOST);
		lab_path_recycle(&L, &L.node[c], 100 * MS);
		CHECK(lab_run(&L, 10 * SEC, lab_settled));
		lab_run(&L, 2 * SEC, NULL);
		CHECK(!member_own(&L.node[c].m)->unfit);
		CHECK(takeover_move(tk(c), c, &lab_fx) == 0);
	}
}

static void move_to_a_node_that_could_not_take_over_is_refused(void **state)
{
	up(3);
	lab_kill(&L, C);
	L.node[B].deaf = true;
	CHECK(run_to(B, TK_OPEN));
	takeover_volume_failed(tk(B), "journal block 7: bad checksum");
	L.node[B].deaf = false;
	lab_path_recycle(&L, &L.node[B], 100 * MS);
	CHECK(run_to(D, TK_SERVE));
	lab_run(&L, 5 * SEC, NULL);
	CHECK(takeover_move(tk(D), B, &lab_fx) == -EBUSY);
}

static void member_that_breaks_the_rules_is_fenced_on_demand(void **state)
{
	uint64_t old;

	up(3);
	old = L.reg[B];
	takeover_fence_node(tk(C), B, "did not answer a recall");
	CHECK(member_victim_pending(&L.node[C].m, B));
	lab_run(&L, 2 * SEC, NULL);
	CHECK(!member_victim_pending(&L.node[C].m, B) && !lab_registered(&L, old));
	CHECK(L.reg[B]); /* it was told, and came back with another incarnation */
	CHECK(lab_settled(&L));
}

/* It may be well: the coordinator that says so may have slept, and be replaced. The next one hears what it holds. */
static void who_did_not_answer_is_not_fenced_when_the_coordinator_has_lost_its_office(void **state)
{
	uint64_t old;

	up(3);
	old = L.reg[B];
	takeover_fence_node(tk(C), B, "did not answer a recall");
	takeover_fence_node(tk(C), B, "did not answer another");
	CHECK(member_victim_pending(&L.node[C].m, B));
	takeover_volume_lost(tk(C), "outcome of a write of block 7 is unknown");
	CHECK(st(C) == TK_LOST && !member_victim_pending(&L.node[C].m, B));
	lab_path_recycle(&L, &L.node[C], 100 * MS);
	CHECK(lab_run(&L, 10 * SEC, lab_settled));
	CHECK(takeover_move(tk(lab_serving(&L)), C, &lab_fx) == 0);
	CHECK(run_to(C, TK_SERVE));
	CHECK(L.reg[B] == old);
}

/*
 * ------------------------------------------------------------------ everything, drawn from a seed
 */

static void faults(uint64_t steps)
{
	for (uint64_t i = 0; i < steps; i++) {
		uint32_t node = (uint32_t)lab_rand(&L, 1, L.count + 1);
		struct lab_node *n = &L.node[node];
		uint32_t part[LAB_NODES];

		switch (prng_below(&L.rng, 13)) {
		case 0:
			if (n->up)
				lab_kill(&L, node);
			break;
		case 1:
		case 2:
			if (!n->up)
				lab_start(&L, node);
			break;
		case 3:
			for (uint32_t k = 0; k < LAB_NODES; k++)
				part[k] = (uint32_t)prng_below(&L.rng, 2);
			lab_split(&L, part);
			break;
		case 4:
			join_all();
			break;
		case 5:
			lab_path_set(&L, node, false);
			break;
		case 6:
		case 7:
			lab_path_set(&L, node, true);
			break;
		case 8:
			L.hold_ns = prng_below(&L.rng, 2) ? lab_rand(&L, 0, 3 * SEC) : 0;
			break;
		case 9:
			n->paused = !n->paused && prng_below(&L.rng, 2);
			break;
		case 10:
			if (n->up && lab_serving(&L)) {
				effects_reset(&lab_fx);
				(void)takeover_move(tk(lab_serving(&L)), node, &lab_fx);
			}
			break;
		case 11:
			if (n->up && prng_below(&L.rng, 3) == 0)
				takeover_stop(n->t);
			break;
		case 12:
			n->port_cut = !n->port_cut;
			break;
		}
		lab_run(&L, lab_rand(&L, 0, prng_below(&L.rng, 4) ? 100 * MS : 6 * SEC), NULL);
		CHECK(true);
	}
}

static void heal(void)
{
	L.hold_ns = 0;
	join_all();
	for (uint32_t i = 1; i <= L.count; i++) {
		L.node[i].paused = L.node[i].port_cut = false;
		lab_path_set(&L, i, true);
		if (!L.node[i].up)
			lab_start(&L, i);
	}
	/* Whoever was about to stop does so, and comes back. */
	for (int k = 0; k < 5; k++) {
		lab_run(&L, 2 * SEC, NULL);
		for (uint32_t i = 1; i <= L.count; i++)
			if (!L.node[i].up)
				lab_start(&L, i);
	}
}

static void any_faults_are_safe_and_end_in_one_coordinator(void **state)
{
	uint64_t first = 1, count = 300;

	if (getenv("SEED")) {
		first = strtoull(getenv("SEED"), NULL, 0);
		count = 1;
	}
	if (getenv("SEEDS"))
		count = strtoull(getenv("SEEDS"), NULL, 0);
	for (uint64_t seed = first; seed < first + count; seed++) {
		lab_init(&L, (uint32_t)(1 + seed % LAB_NODES), seed);
		L.abort_ok = seed & 1;
		L.max_ns = seed % 7 ? 2 * MS : 100 * MS;
		for (uint32_t i = 1; i <= L.count; i++)
			lab_start(&L, i);
		faults(30);
		heal();
		if (!lab_run(&L, 60 * SEC, lab_settled))
			fprintf(stderr, "SEED=%llu does not settle\n", (unsigned long long)seed);
		CHECK(lab_settled(&L));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_mount_claims_an_epoch_and_all_follow),
		cmocka_unit_test(dead_coordinator_is_fenced_before_the_claim),
		cmocka_unit_test(path_that_comes_makes_the_coordinator_beat),
		cmocka_unit_test(dead_follower_is_fenced_while_serving),
		cmocka_unit_test(rejoined_node_keeps_its_new_key_and_its_old_writes_are_drained),
		cmocka_unit_test(without_preempt_and_abort_the_barrier_drains),
		cmocka_unit_test(who_does_not_hold_the_reservation_is_drained_and_not_only_aborted),
		cmocka_unit_test(candidate_that_dies_in_any_state_is_followed_by_another),
		cmocka_unit_test(candidate_that_loses_its_path_in_any_state_gives_way),
		cmocka_unit_test(coordinator_without_path_gives_way_and_is_fenced),
		cmocka_unit_test(nobody_with_a_path_holds_until_one_is_back),
		cmocka_unit_test(two_candidates_of_one_view_become_one_coordinator),
		cmocka_unit_test(claim_of_another_that_shows_at_verification_is_respected),
		cmocka_unit_test(claim_that_the_lun_did_not_keep_is_not_believed),
		cmocka_unit_test(torn_claim_leaves_the_one_before),
		cmocka_unit_test(in_a_split_of_two_the_coordinator_wins),
		cmocka_unit_test(survivor_of_two_takes_over_after_the_head_start),
		cmocka_unit_test(dead_daemon_of_two_needs_no_head_start),
		cmocka_unit_test(loser_of_a_split_takes_over_when_the_winner_dies),
		cmocka_unit_test(coordinator_without_quorum_stops_and_follows_after_the_merge),
		cmocka_unit_test(cut_off_follower_is_fenced_told_and_comes_back),
		cmocka_unit_test(paused_coordinator_wakes_up_fenced),
		cmocka_unit_test(ghost_member_delays_a_takeover_by_two_seconds_at_most),
		cmocka_unit_test(silent_ghost_that_coordinated_is_fenced_although_a_member),
		cmocka_unit_test(candidates_of_two_halves_that_merge_become_one),
		cmocka_unit_test(what_a_cut_off_node_missed_is_told_by_the_others),
		cmocka_unit_test(cold_start_drains_what_an_unknown_life_had_in_flight),
		cmocka_unit_test(handover_needs_no_fence_and_is_quick),
		cmocka_unit_test(move_may_be_asked_on_any_node),
		cmocka_unit_test(target_that_dies_in_a_handover_is_replaced),
		cmocka_unit_test(coordinator_that_dies_while_draining_is_taken_over),
		cmocka_unit_test(last_node_leaves_a_clean_claim),
		cmocka_unit_test(all_that_leave_at_once_leave_a_clean_claim),
		cmocka_unit_test(one_that_hangs_as_all_leave_is_waited_for),
		cmocka_unit_test(stopping_alone_in_a_cluster_of_one_is_clean),
		cmocka_unit_test(claim_that_beats_for_a_stranger_is_refused),
		cmocka_unit_test(claim_that_beats_in_the_other_half_is_waited_for),
		cmocka_unit_test(claim_that_stands_still_is_taken_and_its_key_fenced),
		cmocka_unit_test(claim_whose_epoch_a_member_knows_is_no_strangers),
		cmocka_unit_test(beats_that_the_lun_took_are_known),
		cmocka_unit_test(unknown_keys_are_fenced_at_a_takeover),
		cmocka_unit_test(replay_that_fails_lets_another_try),
		cmocka_unit_test(path_that_broke_under_the_engine_is_not_held_against_a_node),
		cmocka_unit_test(move_to_a_node_that_could_not_take_over_is_refused),
		cmocka_unit_test(member_that_breaks_the_rules_is_fenced_on_demand),
		cmocka_unit_test(who_did_not_answer_is_not_fenced_when_the_coordinator_has_lost_its_office),
		cmocka_unit_test(any_faults_are_safe_and_end_in_one_coordinator),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
