/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who is last, when something happens at the end (PROTOCOL.md, "Leaving"): the volume is left marked clean. C
 * coordinates, B and D are the others (coord_lab.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "coordinator/elect.h"
#include "tests/unit/coord_lab.h"

static bool none_up(struct lab *l)
{
	for (uint32_t i = 1; i <= l->count; i++)
		if (l->node[i].up)
			return false;
	return true;
}

static struct claim on_the_lun(void)
{
	struct claim c[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(claim_decode(&c[i], L.block[1 + i], lab_uuid), 0);
	return c[c[1].epoch > c[0].epoch || (c[1].epoch == c[0].epoch && c[1].heartbeat > c[0].heartbeat)];
}

static bool clean(void)
{
	return on_the_lun().state == CLAIM_CLEAN;
}

/* As node_leave() does. */
static void may_try_again(uint32_t node)
{
	struct event ev = {.type = EV_TIMER};

	member_set_leaving(&L.node[node].m, LEAVING_SOON);
	takeover_try_again(tk(node));
	lab_step_node(&L, &L.node[node], &ev);
}

/*
 * Both leave at one moment. B is given the epoch, since nobody has heard yet that it leaves; then, before it serves, its path
 * breaks. After that it is the last one.
 */
static void who_gave_the_epoch_takes_it_back_from_one_that_leaves_and_cannot(void **state)
{
	uint32_t taken_back = 0;

	for (uint64_t seed = 0; seed < 60; seed++) {
		up(2);
		L.rng.s += seed;
		takeover_stop(tk(C));
		takeover_stop(tk(B));
		for (uint32_t i = 0; i < seed / 2; i++)
			lab_run(&L, MS, NULL);
		if (st(B) >= TK_SERVE)
			continue;
		taken_back += lab_said(&L, "claim released");
		lab_path_set(&L, B, false);
		CHECK(lab_run(&L, TAKEOVER_PATHLESS_NS + 5 * SEC, none_up));
		CHECK(clean());
		CHECK(L.reg[B] == 0);
	}
	CHECK(taken_back > 10);
}

/* Two nodes; C is lost, and B finds the volume as it cannot be opened just then. */
static void fails_to_take_over(void)
{
	up(2);
	lab_kill(&L, C);
	L.node[B].deaf = true;
	CHECK(run_to(B, TK_OPEN));
	takeover_volume_failed(tk(B), "not now");
	lab_path_recycle(&L, &L.node[B], 100 * MS);
}

static bool held_by(uint32_t node)
{
	return on_the_lun().state == CLAIM_HELD && on_the_lun().node == node;
}

/* All leave at one moment, and B as its claim is on its way: D, which takes over from it, finds that it was given up in order. */
static void who_leaves_with_its_claim_on_the_way_gives_it_up_in_order(void **state)
{
	uint32_t on_the_way = 0;

	for (uint64_t seed = 0; seed < 40; seed++) {
		up(3);
		L.rng.s += seed;
		takeover_stop(tk(C));
		CHECK(run_to(B, seed % 2 ? TK_CLAIM_WRITE : TK_CLAIM_VERIFY));
		takeover_stop(tk(B));
		for (uint32_t i = 0; i < 200 && L.node[B].up; i++) {
			on_the_way += held_by(B);
			lab_run(&L, 10 * MS, NULL);
		}
		CHECK(!L.node[B].up && !held_by(B));
		takeover_stop(tk(D));
		CHECK(lab_run(&L, SEC, none_up) && clean());
	}
	assert_true(on_the_way);
}

#define LIFE 0x1234567890abcdefull
#define GONE 77 /* C has given it up */

static bool somebody_is_served;

static bool c_gives_up(struct lab *l)
{
	(void)l;
	return takeover_given_add(tk(C), GONE, LIFE);
}

/* As csvfs/node_peers.c asks in each step. */
static bool b_drains(struct lab *l)
{
	(void)l;
	somebody_is_served |= takeover_given_remove(tk(B), D) || takeover_given_counts(tk(B));
	return st(B) > TK_SERVE;
}

/* The LUN is slower than corosync from now on, and B is in RECLAIM. */
static uint64_t b_takes_over_in_order(bool leaves)
{
	uint64_t before;

	up(3);
	CHECK(lab_run(&L, 5 * SEC, c_gives_up));
	before = takeover_epoch(tk(C));
	effects_reset(&lab_fx);
	if (leaves)
		takeover_stop(tk(C));
	else
		CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	CHECK(run_to(B, TK_CLAIM_WRITE));
	somebody_is_served = false;
	return before;
}

/* What D is told decides about what all nodes hold: node_reclaim_epoch(). */
static void nothing_is_void(uint64_t before)
{
	CHECK(!somebody_is_served);
	CHECK(run_to(D, TK_SERVE));
	CHECK(takeover_epoch(tk(D)) > before + 1);
	CHECK(member_own(&L.node[D].m)->before == before);
	CHECK(takeover_given_up(tk(D), GONE, LIFE));
	lab_run(&L, SEC, NULL);
	CHECK(on_the_lun().served == takeover_epoch(tk(D)));
}

/* C leaves, and so does B, whose claim is on its way; D stays. */
static void a_term_that_is_given_up_before_anybody_is_served_does_not_count(void **state)
{
	uint64_t before = b_takes_over_in_order(true);

	(void)state;
	takeover_stop(tk(B));
	CHECK(run_to(B, TK_RECLAIM));
	L.min_ns = L.max_ns = 20 * MS;
	CHECK(lab_run(&L, 20 * SEC, b_drains));
	nothing_is_void(before);
}

/* The same, if the administrator moves it on at once, or has asked for that before B served. */
static void a_term_that_is_moved_on_before_anybody_is_served_does_not_count(void **state)
{
	(void)state;
	for (int early = 0; early < 2; early++) {
		uint64_t before = b_takes_over_in_order(false);

		CHECK(run_to(B, TK_RECLAIM));
		L.min_ns = L.max_ns = 20 * MS;
		if (early)
			L.node[B].m.asked_move = D;
		CHECK(run_to(B, early ? TK_DRAIN : TK_SERVE));
		if (!early)
			CHECK(takeover_move(tk(B), D, &lab_fx) == 0);
		CHECK(lab_run(&L, 20 * SEC, b_drains));
		nothing_is_void(before);
	}
}

static bool b_counts(struct lab *l)
{
	(void)l;
	return takeover_given_counts(tk(B));
}

/* Else D, say, which has reclaimed and is well, would lose what it holds to its own term. Who is never served is waited for a while. */
static void a_term_that_counts_is_given_up_when_all_who_have_reclaimed_are_served(void **state)
{
	(void)state;
	for (int served = 0; served < 2; served++) {
		uint64_t before = b_takes_over_in_order(false);

		L.node[B].slow_serve = true;
		CHECK(lab_run(&L, SEC, b_counts));
		CHECK(takeover_move(tk(B), D, &lab_fx) == 0);
		lab_run(&L, TAKEOVER_SERVED_NS - 100 * MS, NULL);
		CHECK(st(B) == TK_SERVE);
		L.node[B].slow_serve = !served;
		CHECK(lab_run(&L, served ? 50 * MS : 150 * MS, b_drains));
		CHECK(run_to(D, TK_SERVE));
		CHECK(member_own(&L.node[D].m)->before == before + 1);
		CHECK(!takeover_given_up(tk(D), GONE, LIFE));
	}
}

static bool another_serves(struct lab *l)
{
	uint32_t s = lab_serving(l);

	return s && s != B && s != C;
}

static bool b_claims(struct lab *l)
{
	(void)l;
	return st(B) >= TK_CLAIM_WRITE && st(B) <= TK_RELEASE;
}

/* B has claimed, and is cut off just then; later it is back, and follows who has claimed since. That claim of its own is nothing to give up. */
static void who_has_claimed_long_ago_withdraws(void **state)
{
	uint32_t next;
	uint64_t epoch;

	(void)state;
	up(5);
	epoch = takeover_epoch(tk(C));
	takeover_stop(tk(C));
	CHECK(run_to(B, TK_CLAIM_READ));
	L.min_ns = L.max_ns = 300 * MS;
	CHECK(run_to(B, TK_CLAIM_VERIFY) && held_by(B));
	cut_off(B);
	lab_run(&L, 200 * MS, NULL);
	CHECK(st(B) == TK_CLAIM_VERIFY && !member_view(&L.node[B].m)->quorate); /* and the view has changed */
	CHECK(lab_run(&L, 20 * SEC, another_serves));
	next = lab_serving(&L);
	CHECK(takeover_epoch(tk(next)) == epoch + 2);
	join_all();
	lab_run(&L, 10 * SEC, NULL);
	CHECK(st(B) == TK_FOLLOW);
	lab_kill(&L, next);
	CHECK(run_to(B, TK_STAND));
	takeover_stop(tk(B));
	CHECK(!lab_run(&L, 10 * SEC, b_claims));
	CHECK(L.node[B].gone && lab_serving(&L));
}

/* It is the last one; a moment ago the target was too busy. */
static void who_could_not_take_over_tries_once_more_when_it_leaves(void **state)
{
	fails_to_take_over();
	L.node[B].deaf = false;
	lab_run(&L, SEC, NULL);
	CHECK(member_own(&L.node[B].m)->unfit && st(B) == TK_HOLD);
	may_try_again(B);
	CHECK(run_to(B, TK_SERVE)); /* its files are closed */
	takeover_stop(tk(B));
	CHECK(lab_run(&L, 5 * SEC, none_up));
	CHECK(clean() && L.reg[C] == 0);
	/* If it fails again it goes. */
	fails_to_take_over();
	may_try_again(B);
	takeover_stop(tk(B));
	CHECK(run_to(B, TK_OPEN));
	takeover_volume_failed(tk(B), "not now, too");
	lab_path_recycle(&L, &L.node[B], 100 * MS);
	CHECK(lab_run(&L, SEC, none_up));
}

/* Who has lost a split waits for a claim that beats. One that is clean will not. */
static void loser_of_a_split_takes_over_when_the_winner_has_left(void **state)
{
	static const uint32_t apart[] = {0, 1, 0, 0, 0};

	up(2);
	B = 3 - C;
	lab_split(&L, apart);
	lab_run(&L, 8 * SEC, NULL);
	CHECK(st(B) == TK_FROZEN);
	takeover_stop(tk(C));
	lab_run(&L, SEC, NULL);
	CHECK(L.node[C].up); /* it has fenced B's new key, and nothing tells it that B may use nothing by that */
	lab_run(&L, LAB_LEASE_OVER, NULL);
	CHECK(!L.node[C].up);
	lab_run(&L, CLAIM_BEAT_NS, NULL);
	CHECK(st(B) != TK_FROZEN && run_to(B, TK_SERVE));
	takeover_stop(tk(B));
	CHECK(lab_run(&L, 5 * SEC, none_up) && clean());
}

/* C fences D, which is gone, on a target that refuses resets. */
static void c_waits_a_fence_out(void)
{
	up(3);
	L.abort_ok = L.reset_ok = false;
	lab_kill(&L, D);
	lab_run(&L, SEC, NULL);
	CHECK(st(C) == TK_SERVE && takeover_waits_out(tk(C)));
}

/* Who drains waits for a fence that is under way, and nobody is served meanwhile: it is given up when that is done. */
static void the_office_is_not_given_up_while_a_fence_waits(void **state)
{
	c_waits_a_fence_out();
	effects_reset(&lab_fx);
	CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	lab_run(&L, FENCE_WAIT_NS - 3 * SEC, NULL);
	CHECK(st(C) == TK_SERVE && takeover_waits_out(tk(C)));
	CHECK(run_to(B, TK_SERVE));
	CHECK(!takeover_waits_out(tk(C)));

	c_waits_a_fence_out();
	takeover_stop(tk(C));
	lab_run(&L, FENCE_WAIT_NS - 3 * SEC, NULL);
	CHECK(st(C) == TK_SERVE && takeover_waits_out(tk(C)));
	CHECK(run_to(B, TK_SERVE) && lab_said(&L, "gave up epoch"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_gave_the_epoch_takes_it_back_from_one_that_leaves_and_cannot),
		cmocka_unit_test(who_leaves_with_its_claim_on_the_way_gives_it_up_in_order),
		cmocka_unit_test(a_term_that_is_given_up_before_anybody_is_served_does_not_count),
		cmocka_unit_test(a_term_that_is_moved_on_before_anybody_is_served_does_not_count),
		cmocka_unit_test(a_term_that_counts_is_given_up_when_all_who_have_reclaimed_are_served),
		cmocka_unit_test(who_has_claimed_long_ago_withdraws),
		cmocka_unit_test(who_could_not_take_over_tries_once_more_when_it_leaves),
		cmocka_unit_test(loser_of_a_split_takes_over_when_the_winner_has_left),
		cmocka_unit_test(the_office_is_not_given_up_while_a_fence_waits),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
