/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whom a takeover waits for, and how long (coordinator/PROTOCOL.md): the leases of who was lost, and may not know it.
 * C is who coordinates, B takes over.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/coord_lab.h"

static bool somebody_else_serves(struct lab *l)
{
	uint32_t s = lab_serving(l);

	return s && s != C;
}

static bool nobody_has_cs_key(struct lab *l)
{
	return !l->reg[C];
}

static bool is_fenced_by_c(struct lab *l)
{
	return l->preempts && !l->node[C].m.victim_count;
}

/*
 * It may be awake, and answer what it knows until its lease is over: nobody is told anything else before. The time of
 * replay and reclaim counts.
 */
static void cut_off_coordinator_is_waited_for_until_its_lease_is_over(void **state)
{
	uint64_t fenced_at;

	for (int cut = 0; cut < 2; cut++) {
		up(3);
		lab_run(&L, TAKEOVER_LOST_NS, NULL);
		if (!cut)
			lab_kill(&L, C); /* and its machine with it: that looks the same */
		cut_off(C);
		CHECK(lab_run(&L, 10 * SEC, nobody_has_cs_key));
		fenced_at = L.now_ns;
		CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
		CHECK(L.now_ns - fenced_at >= LAB_LEASE_OVER);
		CHECK(L.now_ns - fenced_at < LAB_LEASE_OVER + SEC / 2);
	}
}

/*
 * A coordinator's leases, and those that it gave, run from its beats. Whoever has seen for how long there was none
 * waits for no more than the rest.
 */
static void dead_coordinator_whose_claim_was_seen_to_stand_still_is_hardly_waited_for(void **state)
{
	uint64_t at;

	up(3);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	L.node[C].paused = true; /* the others' corosync does not know yet */
	at = L.now_ns;
	lab_run(&L, 3500 * MS, NULL);
	cut_off(C);
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.now_ns - at >= TAKEOVER_UNEASY_NS + LAB_LEASE_OVER - SEC / 2);
	CHECK(L.now_ns - at < TAKEOVER_UNEASY_NS + LAB_LEASE_OVER + SEC);
}

/* The one who lost it waits before it gives its rights away, and dies: its successor has to wait in its place. */
static void whom_the_last_coordinator_lost_a_moment_ago_is_waited_for(void **state)
{
	uint32_t lost;
	uint64_t at;

	up(5);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	lost = C == 5 ? 4 : 5;
	cut_off(lost);
	CHECK(lab_run(&L, 10 * SEC, is_fenced_by_c) && !L.reg[lost]);
	at = L.now_ns;
	lab_kill(&L, C);
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.now_ns - at >= LAB_LEASE_OVER);
	CHECK(L.now_ns - at < LAB_LEASE_OVER + SEC);
	/* Longer ago: that is settled. */
	C = lab_serving(&L);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	at = L.now_ns;
	lab_kill(&L, C);
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.now_ns - at < SEC / 2);
}

/* A corosync that is stopped tells that its clients have ended, a moment before it goes itself. They may live. */
static void daemon_whose_corosync_goes_with_it_is_waited_for(void **state)
{
	uint64_t at;

	up(3);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	lab_kill(&L, C);
	CHECK(run_to(B, TK_CLAIM_VERIFY));
	cut_off(C);
	at = L.now_ns;
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.now_ns - at >= LAB_LEASE_OVER);
}

/*
 * Known for less than TAKEOVER_LOST_NS, it has given up the epoch and left: the view changes, and its successor begins anew, with a fence.
 * Whom it had lost it had waited for.
 */
static void who_released_the_claim_has_waited(void **state)
{
	uint64_t at;

	up(2);
	takeover_stop(tk(C));
	for (uint32_t i = 0; i < 1000 && st(C) != TK_STOPPED; i++)
		lab_run(&L, MS, NULL);
	CHECK(st(C) == TK_STOPPED && st(B) < TK_SERVE);
	at = L.now_ns;
	lab_kill(&L, C);
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.now_ns - at < SEC);
}

/* The same when its successor has just written its own claim, and sees that instead. */
static void who_released_the_claim_has_waited_also_if_ours_is_written(void **state)
{
	uint64_t at;

	up(2);
	takeover_stop(tk(C));
	CHECK(run_to(B, TK_STAND));
	at = L.now_ns;
	L.node[C].paused = true;
	CHECK(run_to(B, TK_CLAIM_READ));
	L.min_ns = L.max_ns = 10 * MS; /* longer than the news that it has left needs */
	CHECK(run_to(B, TK_CLAIM_VERIFY));
	lab_kill(&L, C);
	CHECK(run_to(B, TK_FENCE));
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.now_ns - at < SEC);
}

static bool b_has_fenced(struct lab *l)
{
	return !l->node[B].m.victim_count;
}

/* C has left, but for its key, which held the reservation; B, which was given the epoch, leaves; and D finds that key in its fence. */
static void who_said_clean_is_not_waited_for_though_its_key_is_fenced(void **state)
{
	uint64_t at;

	up_with(3, 42, false);
	lab_run(&L, 10 * SEC, NULL);
	L.node[C].lingers = true;
	takeover_move(tk(C), B, &lab_fx);
	CHECK(run_to(B, TK_SERVE));
	lab_run(&L, 10 * SEC, NULL);
	takeover_stop(tk(C));
	lab_run(&L, SEC, NULL);
	CHECK(L.node[C].gone && L.node[C].up && L.reg[C]);
	takeover_stop(tk(B));
	at = L.now_ns;
	CHECK(run_to(D, TK_SERVE));
	CHECK(!L.reg[C] && L.now_ns - at < SEC);
}

/* It says what it holds when what it does for others has ended, has given up its path for that, and the fence takes its time. */
static void who_waits_for_our_fence_is_not_late(void **state)
{
	uint32_t x;

	up(3);
	x = 6 - C - B;
	L.node[x].deaf = true;
	lab_kill(&L, C);
	CHECK(run_to(B, TK_RECLAIM));
	takeover_connected(tk(B), x, true);
	L.busy = true;
	lab_path_set(&L, x, false);
	lab_run(&L, TAKEOVER_RECLAIM_NS + TAKEOVER_RECLAIM_MORE_NS + SEC, NULL);
	CHECK(st(B) == TK_RECLAIM);
	L.busy = false;
	CHECK(lab_run(&L, 10 * SEC, b_has_fenced));
	lab_run(&L, SEC / 2, NULL);
	L.node[x].deaf = false;
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
	CHECK(L.node[x].reclaim_epoch == takeover_epoch(tk(B)));
}

/* Only what would happen again makes a node wait for others: nobody else is there, and the target may answer at any moment. */
static void target_that_was_busy_is_tried_again_soon(void **state)
{
	for (int at = 0; at < 2; at++) {
		enum takeover_state busy = at ? TK_CLAIM_READ : TK_FENCE;
		uint64_t end;

		up(2);
		lab_kill(&L, C);
		CHECK(run_to(B, busy));
		L.busy = true;
		for (end = L.now_ns + 20 * SEC; L.now_ns < end && st(B) == busy;)
			lab_run(&L, MS, NULL);
		L.busy = false;
		CHECK(st(B) != busy && member_own(&L.node[B].m)->unfit);
		CHECK(lab_run(&L, TAKEOVER_BUSY_NS + LAB_LEASE_OVER + SEC, somebody_else_serves));
	}
}

static uint32_t told(const char *text)
{
	uint32_t count = 0;

	for (const char *at = L.log; (at = strstr(at, text)); at++)
		count++;
	return count;
}

/* Corosync took nothing for long: who has been fenced waits for that word, in the same view. */
static void fence_that_could_not_be_told_is_told_again(void **state)
{
	/* Its beginning: magic, version, MSG_FENCED, 0. */
	static const uint8_t message[8] = {[5] = 2};
	uint32_t before;

	up(3);
	lab_path_set(&L, B, false);
	lab_run(&L, 8 * SEC, NULL);
	before = told("is fenced");
	CHECK(before > 0 && member_find(&L.node[C].m, B)->fenced);
	lab_run(&L, 2 * SEC, NULL);
	CHECK(told("is fenced") == before);
	member_not_sent(&L.node[C].m, message, sizeof(message));
	lab_run(&L, 2 * SEC, NULL);
	CHECK(told("is fenced") == before + 3); /* to each */
}

/*
 * It left with its path, and was fenced meanwhile. It comes back with another path, which breaks at once: what it waits for
 * is that the first one is fenced, and it was not here when that was said.
 */
static void who_came_back_under_another_path_hears_that_the_first_is_fenced(void **state)
{
	const uint32_t together[] = {0, 0, 0, 0, 0};
	uint32_t apart[] = {0, 0, 0, 0, 0}, old;
	struct event ev = {.type = EV_TIMER};

	up(3);
	old = L.node[D].incarnation;
	apart[D - 1] = 1;
	lab_split(&L, apart);
	lab_run(&L, SEC, NULL);
	CHECK(st(C) == TK_SERVE && !L.reg[D] && !member_victim_pending(&L.node[C].m, D));
	lab_path_set(&L, D, false);
	lab_run(&L, 200 * MS, NULL);
	lab_path_set(&L, D, true);
	L.node[D].path_at_ns = L.now_ns;
	lab_split(&L, together);
	while (member_view(&L.node[C].m)->count < 3 || !member_view(&L.node[C].m)->agreed ||
		member_find(&L.node[C].m, D)->state.path != MPATH_COMING)
		lab_run(&L, MS / 5, NULL);
	CHECK(!member_find(&L.node[D].m, D)->fenced);
	lab_path_set(&L, D, false);
	member_set_path(&L.node[D].m, MPATH_LOST, old); /* as node.c: what it wrote, it wrote under that */
	lab_step_node(&L, &L.node[D], &ev);
	lab_run(&L, SEC, NULL);
	CHECK(member_find(&L.node[D].m, D)->state.incarnation == old);
	CHECK(member_find(&L.node[D].m, D)->fenced);
}

/* Drains, with nobody to hear that it is done: nothing of it arrives any more but at the LUN, and it closes. */
static void drains_unheard(uint32_t nodes)
{
	struct event ev = {.type = EV_TIMER};

	up(nodes);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	L.node[C].slow_close = true;
	CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	lab_step_node(&L, &L.node[C], &ev);
	CHECK(run_to(C, TK_DRAIN));
	lab_run(&L, 20 * MS, NULL);
	L.node[C].paused = true;
	L.node[C].part = 3;
	takeover_volume_closed(tk(C));
	lab_step_node(&L, &L.node[C], &ev);
	lab_run(&L, 300 * MS, NULL);
	CHECK(st(C) == TK_AGREE);
	lab_run(&L, 3300 * MS, NULL); /* corosync's time; and they have seen its claim stand still */
}

/* Its claim says RELEASED, and it is a node like any other: it goes on reading, by its looks, and not by its beats. */
static void who_has_released_unheard_is_waited_for_from_the_fence(void **state)
{
	uint64_t fenced_at;

	for (uint32_t nodes = 2; nodes <= 3; nodes++) {
		drains_unheard(nodes);
		cut_off(C);
		if (nodes == 2) {
			/* Quorate alone, its corosync sees it later: it has its head start, and B fences. */
			lab_run(&L, 300 * MS, NULL);
			L.node[C].paused = false;
		}
		CHECK(lab_run(&L, 10 * SEC, nobody_has_cs_key));
		fenced_at = L.now_ns;
		CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
		CHECK(L.now_ns - fenced_at >= LAB_LEASE_OVER);
	}
}

static bool c_has_fenced(struct lab *l)
{
	return !l->node[C].m.victim_count;
}

static bool c_releases(struct lab *l)
{
	(void)l;
	return st(C) == TK_RELEASE || st(C) == TK_AGREE;
}

/* Closed, and a node is lost before the release: its fence takes 30 s here. Meanwhile data goes on, by the beats; and the next one relies on our wait. */
static void drain_in_which_one_is_lost_beats_on_and_waits(void **state)
{
	struct event ev = {.type = EV_TIMER};
	uint64_t fenced_at;

	up(3);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	L.reset_ok = false;
	CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	L.node[C].slow_close = true;
	lab_step_node(&L, &L.node[C], &ev);
	CHECK(run_to(C, TK_DRAIN));
	cut_off(D);
	lab_run(&L, 50 * MS, NULL);
	CHECK(!c_has_fenced(&L));
	L.node[C].slow_close = false;
	for (int i = 0; i < 20; i++) {
		lab_run(&L, SEC, NULL);
		CHECK(st(C) == TK_DRAIN);
		CHECK(L.now_ns - takeover_beat_ns(tk(C)) < SEC);
	}
	CHECK(lab_run(&L, 20 * SEC, c_has_fenced));
	fenced_at = L.now_ns;
	CHECK(st(C) == TK_DRAIN);
	CHECK(lab_run(&L, 10 * SEC, c_releases));
	CHECK(L.now_ns - fenced_at >= LAB_LEASE_OVER);
	CHECK(L.now_ns - fenced_at < LAB_LEASE_OVER + SEC / 2);
	CHECK(lab_run(&L, 10 * SEC, somebody_else_serves));
}

/* Closed; and as the ring has to form anew, nobody hears for long that it drains. */
static void drain_that_is_not_heard_beats_on(void **state)
{
	struct event ev = {.type = EV_TIMER};

	up(3);
	lab_run(&L, TAKEOVER_LOST_NS, NULL);
	CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	L.node[C].part = 3; /* what is said from now on arrives when the ring has formed */
	L.node[C].in_group = false;
	lab_step_node(&L, &L.node[C], &ev);
	CHECK(st(C) == TK_DRAIN);
	for (int i = 0; i < 6; i++) {
		lab_run(&L, SEC / 2, NULL);
		CHECK(st(C) == TK_DRAIN);
		CHECK(L.now_ns - takeover_beat_ns(tk(C)) < SEC);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_off_coordinator_is_waited_for_until_its_lease_is_over),
		cmocka_unit_test(who_has_released_unheard_is_waited_for_from_the_fence),
		cmocka_unit_test(drain_in_which_one_is_lost_beats_on_and_waits),
		cmocka_unit_test(drain_that_is_not_heard_beats_on),
		cmocka_unit_test(
			dead_coordinator_whose_claim_was_seen_to_stand_still_is_hardly_waited_for),
		cmocka_unit_test(whom_the_last_coordinator_lost_a_moment_ago_is_waited_for),
		cmocka_unit_test(daemon_whose_corosync_goes_with_it_is_waited_for),
		cmocka_unit_test(who_released_the_claim_has_waited),
		cmocka_unit_test(who_released_the_claim_has_waited_also_if_ours_is_written),
		cmocka_unit_test(who_said_clean_is_not_waited_for_though_its_key_is_fenced),
		cmocka_unit_test(who_waits_for_our_fence_is_not_late),
		cmocka_unit_test(target_that_was_busy_is_tried_again_soon),
		cmocka_unit_test(fence_that_could_not_be_told_is_told_again),
		cmocka_unit_test(who_came_back_under_another_path_hears_that_the_first_is_fenced),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
