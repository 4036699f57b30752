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

/* It is the last one; a moment ago the target was too busy. */
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
	CHECK(!L.node[C].up);
	lab_run(&L, CLAIM_BEAT_NS, NULL);
	CHECK(st(B) != TK_FROZEN && run_to(B, TK_SERVE));
	takeover_stop(tk(B));
	CHECK(lab_run(&L, 5 * SEC, none_up) && clean());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_gave_the_epoch_takes_it_back_from_one_that_leaves_and_cannot),
		cmocka_unit_test(who_leaves_with_its_claim_on_the_way_gives_it_up_in_order),
		cmocka_unit_test(who_has_claimed_long_ago_withdraws),
		cmocka_unit_test(who_could_not_take_over_tries_once_more_when_it_leaves),
		cmocka_unit_test(loser_of_a_split_takes_over_when_the_winner_has_left),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
