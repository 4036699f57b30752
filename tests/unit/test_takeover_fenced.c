/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who was fenced and has not been back, on the small cluster of coord_lab.h: what the claim says of it, and whether the last
 * one that leaves leaves its registration. C coordinates, B and D are the others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "coordinator/takeover_priv.h"
#include "tests/unit/coord_lab.h"

static struct claim on_the_lun(void)
{
	struct claim c[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(claim_decode(&c[i], L.block[1 + i], lab_uuid), 0);
	return c[c[1].epoch > c[0].epoch || (c[1].epoch == c[0].epoch && c[1].heartbeat > c[0].heartbeat)];
}

static bool listed(uint32_t node)
{
	struct claim c = on_the_lun();

	for (uint32_t i = 0; i < c.fenced_count; i++)
		if (c.fenced[i].node == node)
			return true;
	return false;
}

static bool none_up(struct lab *l)
{
	for (uint32_t i = 1; i <= l->count; i++)
		if (l->node[i].up)
			return false;
	return true;
}

static bool stays(uint32_t node)
{
	char why[160];

	return takeover_fenced_at_large(tk(node), why, sizeof(why));
}

/* All that are up leave; true: the last one is to leave its registration, and the claim names it. */
static bool all_leave(void)
{
	struct claim c;
	uint32_t last = 0;

	for (uint32_t i = 1; i <= L.count; i++) {
		if (!L.node[i].up)
			continue;
		takeover_stop(tk(i));
		lab_run(&L, 10 * SEC, NULL);
	}
	CHECK(none_up(&L));
	c = on_the_lun();
	CHECK(c.state == CLAIM_CLEAN);
	for (uint32_t i = 1; i <= L.count; i++)
		last = L.reg[i] == FENCE_KEY(c.node, c.incarnation) ? i : last;
	CHECK(last == c.node && stays(last) == c.kept && c.kept == claim_owes(&c));
	return c.kept;
}

/* As node_stop.c does with a last one that need not stay. */
static void unregistered(void)
{
	for (uint32_t i = 1; i <= L.count; i++)
		L.reg[i] = 0;
	L.holder = 0;
}

static bool d_is_listed(struct lab *l)
{
	(void)l;
	return listed(D);
}

static bool d_is_not_listed(struct lab *l)
{
	(void)l;
	return !listed(D);
}

static void a_fenced_node_is_listed_until_it_is_back(void **state)
{
	up(3);
	lab_run(&L, SEC, NULL);
	CHECK(!listed(D) && !stays(C));
	lab_kill(&L, D);
	CHECK(lab_run(&L, 5 * SEC, d_is_listed));
	/* In every term. */
	effects_reset(&lab_fx);
	CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
	CHECK(run_to(B, TK_SERVE));
	lab_run(&L, SEC, NULL);
	CHECK(listed(D) && stays(B) && !on_the_lun().kept);
	/* That its daemon is there is not enough. */
	lab_path_set(&L, D, false);
	lab_start(&L, D);
	lab_run(&L, 5 * SEC, NULL);
	CHECK(listed(D));
	lab_path_set(&L, D, true);
	CHECK(lab_run(&L, 5 * SEC, d_is_not_listed) && !stays(B));
}

/* Its last words of before arrive late, at a coordinator whose corosync was away when it was told who is fenced. */
static void what_it_said_before_does_not_bring_it_back(void **state)
{
	struct member_node *d;
	uint32_t fenced;

	up(3);
	lab_run(&L, SEC, NULL);
	lab_kill(&L, D);
	CHECK(lab_run(&L, 5 * SEC, d_is_listed));
	fenced = on_the_lun().fenced[0].incarnation;
	lab_path_set(&L, D, false);
	lab_start(&L, D);
	lab_run(&L, 5 * SEC, NULL);
	d = (struct member_node *)member_find(&L.node[C].m, D);
	CHECK(d->member && d->heard);
	d->fenced = false;
	d->state.path = MPATH_OK;
	d->state.incarnation = fenced;
	takeover_fenced_step(tk(C));
	CHECK(stays(C));
	d->state.incarnation = fenced + 1;
	takeover_fenced_step(tk(C));
	CHECK(!stays(C));
}

static bool the_other_has_a_path(struct lab *l)
{
	const struct member_node *n = member_find(&l->node[lab_serving(l) ? lab_serving(l) : B].m, D);

	return n && n->heard && n->state.path == MPATH_OK && !strncmp(n->state.name, "other", 5);
}

/* Its number is another machine's by now: whose writes are kept away, and who it is that is back, is told by the name. */
static void another_machine_under_its_number_is_not_that_one_come_back(void **state)
{
	for (int move = 0; move < 2; move++) {
		up(3);
		lab_run(&L, SEC, NULL);
		lab_kill(&L, D);
		CHECK(lab_run(&L, 5 * SEC, d_is_listed));
		L.node[D].other = true;
		lab_path_set(&L, D, false);
		lab_start(&L, D);
		lab_run(&L, 5 * SEC, NULL);
		CHECK(listed(D));
		if (move) {
			effects_reset(&lab_fx);
			CHECK(takeover_move(tk(C), B, &lab_fx) == 0);
			CHECK(run_to(B, TK_SERVE));
		}
		lab_path_set(&L, D, true);
		CHECK(lab_run(&L, 5 * SEC, the_other_has_a_path));
		lab_run(&L, 5 * SEC, NULL);
		CHECK(listed(D) && stays(lab_serving(&L)));
	}
}

/* It has joined before the fence is over, or before the one that dies then has said in the claim whom it fenced. */
static void nor_is_one_that_joins_while_it_is_fenced(void **state)
{
	for (uint64_t seed = 0; seed < 40; seed++) {
		up(4);
		L.rng.s += seed;
		lab_run(&L, SEC, NULL);
		lab_kill(&L, D);
		for (uint32_t i = 0; i < seed % 20; i++)
			lab_run(&L, MS / 2, NULL);
		L.node[D].other = true;
		lab_start(&L, D);
		if (seed >= 20) {
			lab_run(&L, seed % 5 * MS, NULL);
			lab_kill(&L, C);
		}
		CHECK(lab_run(&L, 20 * SEC, the_other_has_a_path));
		lab_run(&L, 8 * SEC, NULL);
		CHECK(lab_serving(&L) && listed(D));
	}
}

/* All die; whoever comes first finds the others' keys, of which nobody has told it anything. */
static void after_a_power_cut_the_list_is_empty_when_all_are_back(void **state)
{
	for (int others = 0; others < 2; others++) {
		for (uint32_t first = 1; first <= 3; first++) {
			uint32_t holder, count = 0;

			up(3);
			lab_run(&L, SEC, NULL);
			holder = C;
			for (uint32_t i = 1; i <= 3; i++)
				lab_kill(&L, i);
			for (uint32_t i = 1; i <= 3; i++)
				L.node[i].other = others;
			lab_start(&L, first);
			lab_start(&L, first % 3 + 1);
			CHECK(lab_run(&L, 30 * SEC, lab_settled));
			lab_run(&L, SEC, NULL);
			CHECK(listed(holder) || (!others && on_the_lun().fenced_count == 1));
			/* Its key was there: it came too late to replace it. */
			CHECK(listed((first + 1) % 3 + 1));
			lab_start(&L, (first + 1) % 3 + 1);
			lab_run(&L, 10 * SEC, NULL);
			CHECK(lab_settled(&L));
			for (uint32_t i = 1; i <= 3; i++)
				count += listed(i);
			/* Of another cluster with the same numbers nobody is back, the strangers no more than the holder. */
			CHECK(others ? listed(holder) && listed((first + 1) % 3 + 1) : !count);
			CHECK(stays(lab_serving(&L)) == others);
		}
	}
}

static void the_last_one_stays_registered_for_it(void **state)
{
	up(3);
	CHECK(!all_leave());
	up(3);
	lab_kill(&L, D);
	lab_run(&L, 5 * SEC, NULL);
	CHECK(all_leave() && listed(D));
}

/* The coordinator has fenced it, and dies before the claim says so. */
static void the_next_one_knows_of_a_fence_that_the_claim_does_not_name(void **state)
{
	uint32_t not_named = 0;

	for (uint64_t seed = 0; seed < 30; seed++) {
		up(4);
		L.rng.s += seed;
		lab_run(&L, SEC, NULL);
		lab_kill(&L, D);
		for (uint32_t i = 0; i < seed; i++)
			lab_run(&L, MS, NULL);
		not_named += !listed(D) && L.reg[D] == 0;
		lab_kill(&L, C);
		CHECK(run_to(B, TK_SERVE) || lab_serving(&L));
		lab_run(&L, SEC, NULL);
		CHECK(listed(D) && listed(C));
	}
	CHECK(not_named);
}

/* The key that was left on purpose is taken by whoever comes next, and nobody takes that for one that was fenced. */
static void the_next_mount_takes_the_registration_and_goes_on(void **state)
{
	for (int same = 0; same < 2; same++) {
		uint32_t last, next;
		uint64_t at;

		up(3);
		lab_kill(&L, D);
		lab_run(&L, 5 * SEC, NULL);
		CHECK(all_leave());
		last = on_the_lun().node;
		next = same ? last : B + C - last;
		L.two_node = true;
		lab_start(&L, last);
		lab_start(&L, B + C - last);
		at = L.now_ns;
		if (!same)
			lab_path_set(&L, last, false);
		CHECK(run_to(next, TK_SERVE) || lab_serving(&L));
		CHECK(L.now_ns - at < 3 * SEC && L.holder);
		lab_run(&L, SEC, NULL);
		CHECK(listed(D) && !listed(last) && !listed(B + C - last));
		lab_path_set(&L, last, true);
		/* The fenced one is back: all is as it was. */
		lab_start(&L, D);
		CHECK(lab_run(&L, 10 * SEC, d_is_not_listed));
		lab_run(&L, 5 * SEC, NULL);
		CHECK(!all_leave());
		unregistered();
	}
}

static bool stranger_is_listed(struct lab *l)
{
	(void)l;
	return listed(77);
}

static void a_strangers_key_counts_and_a_tools_does_not(void **state)
{
	up(2);
	takeover_stop(tk(C));
	takeover_stop(tk(B));
	CHECK(lab_run(&L, 10 * SEC, none_up));
	unregistered();
	L.strange_key = FENCE_KEY(77, 5);
	lab_start(&L, B);
	lab_start(&L, C);
	CHECK(lab_run(&L, 10 * SEC, stranger_is_listed) && L.strange_key == 0);
	lab_run(&L, 5 * SEC, NULL);
	CHECK(all_leave());
	/* It comes no more. */
	unregistered();
	up(2);
	takeover_stop(tk(C));
	takeover_stop(tk(B));
	CHECK(lab_run(&L, 10 * SEC, none_up));
	unregistered();
	L.strange_key = FENCE_KEY(0, 5);
	lab_start(&L, B);
	lab_start(&L, C);
	lab_run(&L, 10 * SEC, NULL);
	CHECK(lab_serving(&L) && L.strange_key == 0 && !all_leave());
}

static bool b_is_gone(struct lab *l)
{
	return l->node[B].gone;
}

/*
 * Who leaves, holds the reservation and is not the last leaves its key, and waits in the group. Whoever takes over, or is the last,
 * finds it in its fence of all but the members: that was no stranger's.
 */
static void who_left_in_order_is_neither_drained_nor_listed(void **state)
{
	for (int dies = 0; dies < 2; dies++) {
		up_with(3, 42, false);
		lab_run(&L, SEC, NULL);
		L.node[C].lingers = true;
		takeover_stop(tk(C));
		CHECK(run_to(B, TK_SERVE));
		lab_run(&L, SEC, NULL);
		CHECK(L.node[C].gone && L.node[C].up && L.reg[C] && L.holder == C);
		L.resets = 0;
		if (dies) {
			/* Its successor is who drains, but not for C. */
			lab_kill(&L, B);
			CHECK(run_to(D, TK_SERVE));
			lab_run(&L, SEC, NULL);
			CHECK(!L.reg[C] && listed(B) && !listed(C));
			continue;
		}
		takeover_stop(tk(D));
		lab_run(&L, 5 * SEC, NULL);
		L.resets = 0;
		takeover_stop(tk(B));
		CHECK(lab_run(&L, 10 * SEC, b_is_gone));
		CHECK(on_the_lun().state == CLAIM_CLEAN && !L.reg[C] && !L.resets);
		CHECK(!listed(C) && !on_the_lun().kept && !stays(B));
	}
}

/* The same at any moment of that fence: what it says is heard when the fence has begun. */
static void nor_who_leaves_while_the_fence_is_on_its_way(void **state)
{
	for (uint64_t wait = 0; wait < 10 * MS; wait += MS) {
		up_with(3, 42, false);
		lab_run(&L, SEC, NULL);
		L.node[C].lingers = true;
		takeover_move(tk(C), B, &lab_fx);
		CHECK(run_to(B, TK_SERVE));
		lab_run(&L, SEC, NULL);
		CHECK(L.holder == C);
		lab_kill(&L, B);
		lab_run(&L, wait, NULL);
		takeover_stop(tk(C));
		CHECK(run_to(D, TK_SERVE));
		lab_run(&L, 5 * SEC, NULL);
		CHECK(!L.reg[B] && listed(B) && !listed(C));
	}
}

/* Who was away when it was said, and waits for it, reclaims only then. */
static void who_is_fenced_is_told_before_anybody_is_served(void **state)
{
	up(3);
	lab_run(&L, SEC, NULL);
	lab_kill(&L, C);
	CHECK(run_to(B, TK_RECLAIM));
	lab_run(&L, SEC, NULL);
	CHECK(st(B) == TK_RECLAIM && tk(B)->told_view == member_view(tk(B)->m)->number);
}

/* Without a cluster all hosts are node 1, and each other's keys look like older ones of our own. */
static void without_a_cluster_a_host_is_known_by_its_name(void **state)
{
	struct claim c = {.epoch = 7, .served = 7, .state = CLAIM_HELD, .node = 1, .incarnation = 9, .life = 3,
		.name = "another"};

	for (int same = 0; same < 2; same++) {
		lab_init(&L, 1, 5);
		L.standalone = true;
		memcpy(c.uuid, lab_uuid, 16);
		if (same)
			memcpy(c.name, "n1\0", 3);
		claim_encode(&c, L.block[1]);
		claim_encode(&c, L.block[2]);
		lab_start(&L, 1);
		CHECK(run_to(1, TK_SERVE));
		lab_run(&L, SEC, NULL);
		CHECK(listed(1) == !same && stays(1) == !same);
		takeover_stop(tk(1));
		CHECK(lab_run(&L, 10 * SEC, none_up));
		CHECK(on_the_lun().state == CLAIM_CLEAN && on_the_lun().kept == !same);
	}
}

static void more_than_fit_are_said_to_be(void **state)
{
	struct claim c = {.epoch = 7, .served = 7, .state = CLAIM_CLEAN, .fenced_count = CLAIM_FENCED_MAX};

	lab_init(&L, 1, 5);
	memcpy(c.uuid, lab_uuid, 16);
	for (uint32_t i = 0; i < CLAIM_FENCED_MAX; i++)
		c.fenced[i] = (struct claim_fenced){100 + i, 1, 0};
	claim_encode(&c, L.block[1]);
	claim_encode(&c, L.block[2]);
	L.strange_key = FENCE_KEY(77, 5);
	lab_start(&L, 1);
	CHECK(run_to(1, TK_SERVE));
	lab_run(&L, SEC, NULL);
	CHECK(on_the_lun().fenced_count == CLAIM_FENCED_MAX && on_the_lun().fenced_more && stays(1));
}

/* The fence list is full of others, whose fence takes away all keys but those of members that are well. */
static void member_that_does_not_answer_is_fenced_also_when_the_list_is_full(void **state)
{
	uint64_t old;

	(void)state;
	up(3);
	old = L.reg[B];
	for (uint32_t i = 0; i < MEMBER_VICTIMS_MAX; i++)
		member_victim_add(&L.node[C].m, 100 + i, 0x77, true);
	takeover_fence_node(tk(C), B, "did not answer a recall");
	for (int i = 0; i < 5000 && member_victim_pending(&L.node[C].m, B); i++) {
		CHECK(st(C) == TK_SERVE);
		lab_run(&L, MS, NULL);
	}
	CHECK(!member_victim_pending(&L.node[C].m, B) && !lab_registered(&L, old));
	CHECK(L.reg[D] && st(C) == TK_SERVE);
	lab_run(&L, 2 * SEC, NULL);
	CHECK(L.reg[B] && L.reg[B] != old); /* it is back */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fenced_node_is_listed_until_it_is_back),
		cmocka_unit_test(what_it_said_before_does_not_bring_it_back),
		cmocka_unit_test(another_machine_under_its_number_is_not_that_one_come_back),
		cmocka_unit_test(nor_is_one_that_joins_while_it_is_fenced),
		cmocka_unit_test(after_a_power_cut_the_list_is_empty_when_all_are_back),
		cmocka_unit_test(the_last_one_stays_registered_for_it),
		cmocka_unit_test(the_next_one_knows_of_a_fence_that_the_claim_does_not_name),
		cmocka_unit_test(the_next_mount_takes_the_registration_and_goes_on),
		cmocka_unit_test(a_strangers_key_counts_and_a_tools_does_not),
		cmocka_unit_test(who_left_in_order_is_neither_drained_nor_listed),
		cmocka_unit_test(nor_who_leaves_while_the_fence_is_on_its_way),
		cmocka_unit_test(who_is_fenced_is_told_before_anybody_is_served),
		cmocka_unit_test(without_a_cluster_a_host_is_known_by_its_name),
		cmocka_unit_test(more_than_fit_are_said_to_be),
		cmocka_unit_test(member_that_does_not_answer_is_fenced_also_when_the_list_is_full),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	lab_drop(&L);
	free(lab_fx.arena);
	return failed;
}
