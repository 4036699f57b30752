/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fence against a scripted target: each command it sends is compared with what it should be. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/fence.h"
#include "csvfs/base/assert.h"

static struct fence F;
static struct effects fx;
static struct event ev;
static uint64_t now, keys[32];
static uint32_t key_count;
static uint64_t kept;

#define OURS FENCE_KEY(1, 0x11)
#define V2 FENCE_KEY(2, 0x22)
#define V3 FENCE_KEY(3, 0x33)

static bool keep(const void *ctx, uint64_t key)
{
	return key == kept;
}

static void registered(uint32_t n, ...)
{
	va_list ap;

	va_start(ap, n);
	for (key_count = 0; key_count < n; key_count++)
		keys[key_count] = va_arg(ap, uint64_t);
	va_end(ap);
}

static void begin(bool all_but, uint32_t n, ...)
{
	struct member_victim v[8];
	struct fence_order o = {
		.key = OURS, .all_but = all_but, .keep = keep, .victims = v, .victim_count = n};
	va_list ap;

	va_start(ap, n);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t key = va_arg(ap, uint64_t);

		v[i] = (struct member_victim){.node = FENCE_KEY_NODE(key),
			.incarnation = FENCE_KEY_INCARNATION(key),
			.dirty = true};
	}
	va_end(ap);
	now = 1000 * NS_PER_SEC;
	if (!fx.arena)
		fx.arena = malloc(EFFECTS_ARENA);
	effects_reset(&fx);
	fence_start(&F, &o, now, &fx);
	fence_check(&F);
}

static void start(void)
{
	fence_init(&F, NULL, 500);
	kept = 0;
}

/* The one command that is out is `op`, on `victim` if it has one; it ends so. */
static void answer(enum lun_op op, uint64_t victim, enum lun_status status)
{
	assert_int_equal(fx.count, 1);
	assert_int_equal(fx.fx[0].type, FX_LUN);
	assert_int_equal(fx.fx[0].lun.op, op);
	assert_true(fx.fx[0].lun.key == OURS);
	assert_true(fx.fx[0].lun.victim == victim);
	memset(&ev, 0, sizeof(ev));
	ev.type = EV_LUN_DONE;
	ev.now_ns = now;
	ev.tag = fx.fx[0].tag;
	ev.lun.status = status;
	ev.lun.keys = keys;
	ev.lun.key_count = key_count;
	effects_reset(&fx);
	assert_true(fence_lun_done(&F, &ev, &fx));
	fence_check(&F);
}

/* READ RESERVATION: there is a holder, or none. */
static void holder(bool any)
{
	uint32_t count = key_count;

	key_count = any;
	answer(LUN_PR_READ_RESERVATION, 0, LUN_OK);
	key_count = count;
}

/* A key that nobody has told of: nothing is sent before the group's word is in. */
static void hears(void)
{
	assert_int_equal(fx.count, 0);
	assert_int_equal(F.state, FENCE_HEAR);
	assert_true(fence_deadline(&F) == now + FENCE_HEAR_NS);
	fence_step(&F, now + FENCE_HEAR_NS - 1, &fx);
	assert_int_equal(fx.count, 0);
	fence_heard(&F, &fx);
	fence_check(&F);
}

static void ends(enum fence_result r)
{
	assert_int_equal(fx.count, 0);
	assert_false(fence_running(&F));
	assert_int_equal(fence_result(&F), r);
	assert_true(fence_deadline(&F) == NEVER);
}

static void victim_is_preempted_drained_and_proven_gone(void **state)
{
	start();
	registered(4, OURS, OURS, V2, V2); /* two sessions each */
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
	/* OK does not say that anything was aborted. */
	answer(LUN_RESET, 0, LUN_OK);
	registered(2, OURS, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
	assert_int_equal(F.fenced_count, 1);
}

static void where_abort_is_refused_one_reset_drains_all_victims(void **state)
{
	start();
	registered(3, V2, OURS, V3);
	begin(false, 2, V2, V3);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_UNSUPPORTED);
	answer(LUN_PR_PREEMPT, V2, LUN_OK);
	answer(LUN_PR_PREEMPT, V3, LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	registered(1, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_RETRY); /* UNIT ATTENTION after the reset */
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
	/* The target is remembered. */
	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT, V2, LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
}

/* That the target aborts for who is dirty does not do for him, and the barrier is there once for all. */
static void one_reset_drains_all_victims_where_abort_is_accepted_too(void **state)
{
	start();
	registered(4, V2, OURS, V3, FENCE_KEY(4, 0x44));
	begin(false, 3, V2, V3, FENCE_KEY(4, 0x44));
	F.victims[2].dirty = false;
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
	answer(LUN_PR_PREEMPT_ABORT, V3, LUN_OK);
	answer(LUN_PR_PREEMPT, FENCE_KEY(4, 0x44), LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	registered(1, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
	assert_false(fence_left_undrained(&F));
}

static void where_reset_is_refused_too_the_longest_io_is_waited_out(void **state)
{
	start();
	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_UNSUPPORTED);
	answer(LUN_PR_PREEMPT, V2, LUN_OK);
	answer(LUN_RESET, 0, LUN_UNSUPPORTED);
	assert_int_equal(fx.count, 0);
	assert_true(fence_deadline(&F) == now + FENCE_WAIT_NS);
	fence_step(&F, now + FENCE_WAIT_NS - 1, &fx);
	assert_int_equal(fx.count, 0);
	fence_step(&F, now + FENCE_WAIT_NS, &fx);
	registered(1, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
}

static void key_that_is_gone_is_still_drained(void **state)
{
	start();
	registered(1, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_RESET, 0, LUN_OK);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
}

static void clean_victim_needs_no_abort_and_no_drain(void **state)
{
	struct member_victim v = {.node = 2, .incarnation = 0x22, .dirty = false};
	struct fence_order o = {.key = OURS, .victims = &v, .victim_count = 1};

	start();
	registered(2, V2, OURS);
	begin(false, 0);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
	effects_reset(&fx);
	fence_start(&F, &o, now, &fx);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT, V2, LUN_OK);
	registered(1, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
}

/* Without a reservation whoever is preempted may go on writing. */
static void reservation_comes_before_any_preempt(void **state)
{
	start();
	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(false);
	answer(LUN_PR_RESERVE, 0, LUN_OK);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	registered(1, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	/* Its holder unregistered meanwhile: again from the start. What is drained is not drained twice. */
	holder(false);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(false);
	answer(LUN_PR_RESERVE, 0, LUN_OK);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
}

static void all_but_takes_strangers_and_keeps_members(void **state)
{
	start();
	kept = V3;
	registered(4, OURS, V2, V3, FENCE_KEY(9, 0x99));
	begin(true, 0);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	hears();
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
	answer(LUN_PR_PREEMPT_ABORT, FENCE_KEY(9, 0x99), LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	registered(2, OURS, V3);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
	assert_int_equal(F.fenced_count, 2); /* both are told */
}

static void member_that_is_announced_meanwhile_is_spared(void **state)
{
	start();
	registered(3, OURS, V2, V3);
	begin(true, 0);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	hears();
	kept = V3;
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	registered(2, OURS, V3);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
}

static void who_was_announced_before_the_keys_were_read_is_heard_first(void **state)
{
	start();
	registered(3, OURS, V2, V3);
	begin(true, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	assert_int_equal(F.state, FENCE_HEAR);
	kept = V3; /* its STATE was on the way */
	hears();
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	/* Another one in the next round, of whom nothing is heard: not for ever. */
	registered(3, OURS, V3, FENCE_KEY(4, 0x44));
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	assert_int_equal(F.state, FENCE_HEAR);
	now += FENCE_HEAR_NS;
	fence_step(&F, now, &fx);
	answer(LUN_PR_PREEMPT_ABORT, FENCE_KEY(4, 0x44), LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	registered(2, OURS, V3);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
	/* It may be cancelled there. */
	fence_forget(&F);
	registered(2, OURS, FENCE_KEY(4, 0x44));
	begin(true, 0);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	fence_cancel(&F);
	ends(FENCE_FAILED);
}

static void own_key_gone_means_fenced(void **state)
{
	start();
	registered(1, V2);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	ends(FENCE_FENCED);
}

static void conflict_at_preempt_is_looked_into(void **state)
{
	start();
	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	/* Somebody else took it away: whether it drained is not known. */
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_CONFLICT);
	registered(1, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_RESET, 0, LUN_OK);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);

	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_CONFLICT);
	registered(1, V2); /* it was ours that had gone */
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	ends(FENCE_FENCED);
}

static void victim_that_registers_again_is_fenced_again_but_not_for_ever(void **state)
{
	start();
	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	for (int round = 1; round <= FENCE_ROUNDS_MAX; round++) {
		holder(true);
		answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
		answer(LUN_RESET, 0, LUN_OK);
		answer(LUN_PR_READ_KEYS, 0, LUN_OK);
		if (round < FENCE_ROUNDS_MAX)
			answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	}
	ends(FENCE_FAILED);
}

/* It may have written between the barrier and the moment in which another node took its key away again. */
static void victim_that_registers_again_is_drained_again_whoever_preempts_it(void **state)
{
	start();
	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
	answer(LUN_RESET, 0, LUN_OK);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK); /* there again */
	registered(1, OURS);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	answer(LUN_RESET, 0, LUN_OK);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	ends(FENCE_DONE);
}

static void retry_is_paced_and_bounded(void **state)
{
	int sent = 0;

	start();
	registered(1, OURS);
	begin(false, 0);
	while (fence_running(&F)) {
		if (!fx.count) {
			assert_true(fence_deadline(&F) == now + FENCE_RETRY_NS);
			now += FENCE_RETRY_NS;
			fence_step(&F, now, &fx);
		}
		answer(LUN_PR_READ_KEYS, 0, LUN_RETRY);
		sent++;
	}
	assert_int_equal(sent, FENCE_RETRIES_MAX + 1);
	ends(FENCE_FAILED);
}

static void lost_path_leaves_nothing_assumed(void **state)
{
	static const enum lun_op at[] = {
		LUN_PR_READ_KEYS, LUN_PR_READ_RESERVATION, LUN_PR_PREEMPT_ABORT, LUN_RESET, LUN_PR_READ_KEYS};

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		start();
		registered(2, V2, OURS);
		begin(false, 1, V2);
		for (size_t k = 0; k < i; k++)
			answer(at[k], at[k] == LUN_PR_PREEMPT_ABORT ? V2 : 0, LUN_OK);
		answer(at[i], at[i] == LUN_PR_PREEMPT_ABORT ? V2 : 0, LUN_UNKNOWN);
		ends(FENCE_UNKNOWN);
		assert_true(fence_left_undrained(&F) == (at[i] == LUN_PR_PREEMPT_ABORT || at[i] == LUN_RESET));
		/* Repeatable from its beginning. */
		begin(false, 1, V2);
		answer(LUN_PR_READ_KEYS, 0, LUN_OK);
		assert_true(fence_running(&F));
	}
}

static void stale_completion_changes_nothing(void **state)
{
	struct event stale = {.type = EV_LUN_DONE, .lun.status = LUN_UNKNOWN};

	start();
	registered(1, OURS);
	begin(false, 0);
	stale.tag = fx.fx[0].tag + 1;
	assert_false(fence_lun_done(&F, &stale, &fx));
	stale.tag = fx.fx[0].tag - 1;
	assert_false(fence_lun_done(&F, &stale, &fx));
	assert_true(fence_running(&F));
}

static void cancelled_fence_sends_nothing_more(void **state)
{
	start();
	registered(2, V2, OURS);
	begin(false, 1, V2);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	fence_cancel(&F);
	assert_true(fence_running(&F));
	holder(true);
	ends(FENCE_FAILED);
	fence_forget(&F);
	assert_int_equal(fence_result(&F), FENCE_NONE);
}

static void to_preempt(bool clean)
{
	start();
	registered(2, V2, OURS);
	begin(false, 1, V2);
	F.victims[0].dirty = !clean;
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
}

/* Nobody finds the key any more if it was carried out: what its owner has in flight is drained by whoever fences next. */
static void preempt_of_unknown_outcome_is_not_drained(void **state)
{
	/* Cancelled there. OK: its key is gone, and what it had in flight is not known to be aborted. */
	static const enum lun_status status[] = {LUN_OK, LUN_RETRY, LUN_CONFLICT, LUN_MEDIUM, LUN_UNKNOWN};

	to_preempt(false);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_UNKNOWN);
	ends(FENCE_UNKNOWN);
	assert_true(fence_left_undrained(&F));
	assert_false(fence_left_undrained(&F)); /* said once */
	to_preempt(false);
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_UNSUPPORTED);
	answer(LUN_PR_PREEMPT, V2, LUN_UNKNOWN);
	ends(FENCE_UNKNOWN);
	assert_true(fence_left_undrained(&F));
	/* It is clean: there is nothing to drain. */
	to_preempt(true);
	answer(LUN_PR_PREEMPT, V2, LUN_UNKNOWN);
	ends(FENCE_UNKNOWN);
	assert_false(fence_left_undrained(&F));
	for (size_t i = 0; i < sizeof(status) / sizeof(status[0]); i++) {
		to_preempt(false);
		fence_cancel(&F);
		answer(LUN_PR_PREEMPT_ABORT, V2, status[i]);
		ends(status[i] == LUN_UNKNOWN ? FENCE_UNKNOWN : FENCE_FAILED);
		assert_true(fence_left_undrained(&F));
	}
	/* While it waits to be sent once more. */
	to_preempt(false);
	while (fx.count)
		answer(LUN_PR_PREEMPT_ABORT, V2, LUN_RETRY);
	fence_cancel(&F);
	assert_false(fence_running(&F));
	assert_true(fence_left_undrained(&F));
}

static void to_preempt_a_stranger(void)
{
	start();
	registered(2, V2, OURS);
	begin(true, 0);
	answer(LUN_PR_READ_KEYS, 0, LUN_OK);
	holder(true);
	hears();
}

/* No list of victims has it, and its key may be gone: who fenced it is the only one that knows of it. */
static void stranger_is_named_however_its_preempt_ends(void **state)
{
	static const enum lun_status status[] = {LUN_OK, LUN_UNKNOWN};

	for (size_t i = 0; i < sizeof(status) / sizeof(status[0]); i++) {
		to_preempt_a_stranger();
		fence_cancel(&F);
		answer(LUN_PR_PREEMPT_ABORT, V2, status[i]);
		assert_int_equal(F.fenced_count, 1);
		assert_int_equal(F.fenced[0].node, FENCE_KEY_NODE(V2));
		assert_true(F.fenced[0].dirty);
	}
	to_preempt_a_stranger();
	answer(LUN_PR_PREEMPT_ABORT, V2, LUN_UNKNOWN);
	ends(FENCE_UNKNOWN);
	assert_int_equal(F.fenced_count, 1);
}

/* Another one has just taken its key away, and may be dead before anybody hears of that. */
static void stranger_that_another_has_preempted_is_named_when_the_fence_is_done(void **state)
{
	for (int how = 0; how < 4; how++) {
		to_preempt_a_stranger();
		answer(LUN_PR_PREEMPT_ABORT, V2, LUN_CONFLICT);
		if (how == 1) {
			registered(1, V3);
			answer(LUN_PR_READ_KEYS, 0, LUN_OK);
			/* It was ours that was gone: of the stranger nothing is known. */
			ends(FENCE_FENCED);
			assert_int_equal(F.fenced_count, 0);
			continue;
		}
		if (how == 2) { /* it was not gone */
			answer(LUN_PR_READ_KEYS, 0, LUN_OK);
			holder(true);
			hears();
			answer(LUN_PR_PREEMPT_ABORT, V2, LUN_OK);
		} else {
			registered(1, OURS);
			answer(LUN_PR_READ_KEYS, 0, LUN_OK);
			holder(true);
		}
		if (how == 3)
			kept = V2; /* a member's, who took it away himself */
		registered(1, OURS);
		answer(LUN_RESET, 0, LUN_OK);
		answer(LUN_PR_READ_KEYS, 0, LUN_OK);
		holder(true);
		ends(FENCE_DONE);
		assert_int_equal(F.fenced_count, how != 3);
		if (how != 3)
			assert_true(F.fenced[0].node == 2 && F.fenced[0].incarnation == 0x22 && F.fenced[0].dirty);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(victim_is_preempted_drained_and_proven_gone),
		cmocka_unit_test(where_abort_is_refused_one_reset_drains_all_victims),
		cmocka_unit_test(one_reset_drains_all_victims_where_abort_is_accepted_too),
		cmocka_unit_test(where_reset_is_refused_too_the_longest_io_is_waited_out),
		cmocka_unit_test(key_that_is_gone_is_still_drained),
		cmocka_unit_test(clean_victim_needs_no_abort_and_no_drain),
		cmocka_unit_test(reservation_comes_before_any_preempt),
		cmocka_unit_test(all_but_takes_strangers_and_keeps_members),
		cmocka_unit_test(member_that_is_announced_meanwhile_is_spared),
		cmocka_unit_test(who_was_announced_before_the_keys_were_read_is_heard_first),
		cmocka_unit_test(own_key_gone_means_fenced),
		cmocka_unit_test(conflict_at_preempt_is_looked_into),
		cmocka_unit_test(victim_that_registers_again_is_fenced_again_but_not_for_ever),
		cmocka_unit_test(victim_that_registers_again_is_drained_again_whoever_preempts_it),
		cmocka_unit_test(retry_is_paced_and_bounded),
		cmocka_unit_test(lost_path_leaves_nothing_assumed),
		cmocka_unit_test(stale_completion_changes_nothing),
		cmocka_unit_test(cancelled_fence_sends_nothing_more),
		cmocka_unit_test(preempt_of_unknown_outcome_is_not_drained),
		cmocka_unit_test(stranger_is_named_however_its_preempt_ends),
		cmocka_unit_test(stranger_that_another_has_preempted_is_named_when_the_fence_is_done),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	free(fx.arena);
	return failed;
}
