/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who was given up, on the small cluster of coord_lab.h: what the claim says of it, and when.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/coord_lab.h"

#define LIFE 0x1234567890abcdefull

/* The claim that counts, as it stands on the LUN. */
static struct claim on_the_lun(void)
{
	struct claim c[2];
	int err[2];

	for (int i = 0; i < 2; i++)
		err[i] = claim_decode(&c[i], L.block[1 + i], lab_uuid);
	CHECK(!err[0] || !err[1]);
	if (err[0] || err[1])
		return c[err[0] != 0];
	return c[c[1].epoch > c[0].epoch ||
		 (c[1].epoch == c[0].epoch && c[1].heartbeat > c[0].heartbeat)];
}

static bool listed(uint32_t node, uint64_t life)
{
	struct claim c = on_the_lun();

	for (uint32_t i = 0; i < c.given_up_count; i++)
		if (c.given_up[i].node == node && c.given_up[i].life == life)
			return true;
	return false;
}

static bool d_is_given_up(struct lab *l)
{
	return takeover_given_add(l->node[C].t, D, LIFE);
}

static bool d_is_taken_back(struct lab *l)
{
	return takeover_given_remove(l->node[C].t, D);
}

static bool b_serves(struct lab *l)
{
	return takeover_state(l->node[B].t) == TK_SERVE;
}

static void nobody_is_given_up_before_the_lun_says_so(void **state)
{
	uint64_t at;

	up(3);
	lab_run(&L, 5 * SEC, NULL);
	L.min_ns = L.max_ns = 500 * MS;
	lab_run(&L, SEC, NULL);
	at = L.now_ns;
	CHECK(!d_is_given_up(&L) && !listed(D, LIFE));
	while (!d_is_given_up(&L)) {
		CHECK(L.now_ns < at + 4 * SEC);
		lab_run(&L, 10 * MS, NULL);
	}
	CHECK(listed(D, LIFE));
	CHECK(L.now_ns - at >= 500 * MS);
	/* And it goes on saying so. */
	lab_run(&L, 10 * SEC, NULL);
	CHECK(listed(D, LIFE) && d_is_given_up(&L));
	CHECK(!takeover_given_up(tk(C), D, LIFE)); /* that is of the term before */
}

static bool b_reclaims(struct lab *l)
{
	return takeover_state(l->node[B].t) == TK_RECLAIM;
}

static bool b_may_serve(struct lab *l)
{
	(void)l;
	return b_serves(l) && takeover_given_remove(tk(B), B);
}

static bool somebody_else_serves(struct lab *l)
{
	uint32_t s = lab_serving(l);

	return s && s != B && s != C;
}

static void the_next_coordinator_knows_and_begins_anew(void **state)
{
	for (int in_order = 0; in_order < 2; in_order++) {
		up(3);
		CHECK(lab_run(&L, 5 * SEC, d_is_given_up));
		effects_reset(&lab_fx);
		if (in_order)
			CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
		else
			lab_kill(&L, C);
		CHECK(lab_run(&L, 20 * SEC, b_serves));
		CHECK(takeover_given_up(tk(B), D, LIFE));
		CHECK(!takeover_given_up(tk(B), D, LIFE + 1));
		CHECK(!takeover_given_up(tk(B), B, LIFE));
		/* Nobody is served before the list is one of this term. */
		CHECK(lab_run(&L, SEC, b_may_serve));
		CHECK(!listed(D, LIFE) && on_the_lun().served == takeover_epoch(tk(B)));
	}
}

/*
 * B has claimed the epoch behind that of C, and is lost while it waits for the lease of C: it has served nobody. Whoever is
 * next tells that C's was the last term that counts, and knows whom C has given up.
 */
static void a_term_that_serves_nobody_does_not_count(void **state)
{
	uint64_t epoch;
	uint32_t next;

	for (int dies = 0; dies < 2; dies++) {
		up(5);
		lab_run(&L, TAKEOVER_LOST_NS, NULL);
		CHECK(lab_run(&L, 5 * SEC, d_is_given_up));
		epoch = takeover_epoch(tk(C));
		CHECK(on_the_lun().served == epoch);
		cut_off(C);
		CHECK(lab_run(&L, 20 * SEC, b_reclaims));
		CHECK(takeover_epoch(tk(B)) == epoch + 1 && takeover_coordinator(tk(B)).before == epoch);
		CHECK(listed(D, LIFE) && on_the_lun().served == epoch && on_the_lun().epoch == epoch + 1);
		if (dies)
			lab_kill(&L, B);
		else
			lab_path_set(&L, B, false);
		CHECK(lab_run(&L, 20 * SEC, somebody_else_serves));
		next = lab_serving(&L);
		CHECK(takeover_epoch(tk(next)) == epoch + 2);
		CHECK(takeover_given_up(tk(next), D, LIFE));
		CHECK(takeover_coordinator(tk(next)).before == epoch);
		/* All are told. */
		lab_run(&L, SEC, NULL);
		for (uint32_t i = 1; i <= 5; i++)
			if (i != B && i != C)
				CHECK(takeover_coordinator(tk(i)).before == epoch);
		CHECK(!listed(D, LIFE) && on_the_lun().served == epoch + 2);
	}
}

static void who_holds_nothing_any_more_is_off_the_list_before_it_is_served(void **state)
{
	up(3);
	CHECK(lab_run(&L, 5 * SEC, d_is_given_up));
	L.min_ns = L.max_ns = 500 * MS;
	CHECK(!d_is_taken_back(&L) && listed(D, LIFE));
	CHECK(lab_run(&L, 5 * SEC, d_is_taken_back));
	CHECK(!listed(D, LIFE));
	CHECK(d_is_taken_back(&L)); /* who is on no list need not wait */
	L.min_ns = L.max_ns = MS;
	lab_kill(&L, C);
	CHECK(lab_run(&L, 20 * SEC, b_serves));
	CHECK(!takeover_given_up(tk(B), D, LIFE));
}

/* Nothing was granted for it, so nobody needs to be told. */
static void a_claim_that_does_not_get_there_gives_nobody_up(void **state)
{
	up(3);
	lab_run(&L, SEC, NULL);
	lab_path_set(&L, C, false);
	CHECK(!d_is_given_up(&L));
	for (int i = 0; i < 1000; i++) {
		lab_run(&L, 20 * MS, NULL);
		CHECK(!d_is_given_up(&L));
	}
	CHECK(lab_serving(&L) && lab_serving(&L) != C);
	CHECK(!takeover_given_up(tk(lab_serving(&L)), D, LIFE));
}

static void a_later_life_takes_the_place_of_the_one_before(void **state)
{
	up(3);
	CHECK(lab_run(&L, 5 * SEC, d_is_given_up));
	CHECK(!takeover_given_add(tk(C), D, LIFE + 1));
	lab_run(&L, 3 * SEC, NULL);
	CHECK(takeover_given_add(tk(C), D, LIFE + 1));
	CHECK(on_the_lun().given_up_count == 1 && listed(D, LIFE + 1));
}

static void a_full_list_holds_and_says_so(void **state)
{
	up(3);
	for (uint32_t i = 0; i < CLAIM_GIVEN_UP_MAX; i++)
		CHECK(!takeover_given_add(tk(C), 100 + i, LIFE));
	lab_run(&L, 3 * SEC, NULL);
	CHECK(on_the_lun().given_up_count == CLAIM_GIVEN_UP_MAX);
	CHECK(takeover_given_add(tk(C), 100, LIFE));
	CHECK(!d_is_given_up(&L));
	lab_run(&L, 5 * SEC, NULL);
	CHECK(!d_is_given_up(&L));
	CHECK(lab_said(&L, "has no room"));
	/* The one whose place another entry gets stays right. */
	(void)takeover_given_remove(tk(C), 100);
	CHECK(lab_run(&L, 5 * SEC, d_is_given_up));
	CHECK(listed(D, LIFE) && !listed(100, LIFE) && listed(101, LIFE));
	CHECK(takeover_given_add(tk(C), 100 + CLAIM_GIVEN_UP_MAX - 1, LIFE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_given_up_before_the_lun_says_so),
		cmocka_unit_test(the_next_coordinator_knows_and_begins_anew),
		cmocka_unit_test(a_term_that_serves_nobody_does_not_count),
		cmocka_unit_test(who_holds_nothing_any_more_is_off_the_list_before_it_is_served),
		cmocka_unit_test(a_claim_that_does_not_get_there_gives_nobody_up),
		cmocka_unit_test(a_later_life_takes_the_place_of_the_one_before),
		cmocka_unit_test(a_full_list_holds_and_says_so),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
