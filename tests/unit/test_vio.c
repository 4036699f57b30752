/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vio.c: what the LUN may answer, and what that does to the volume. */
#include "engine_lun.h"

static void a_command_that_is_refused_for_now_is_sent_again(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;
	uint32_t i = lun_record_waits(l, &r, &p);

	for (int k = 0; k < 50; k++) {
		lun_answer(l, i, LUN_RETRY);
		assert_int_equal(l->count, 0);
		assert_true(vol_deadline(l->v) > l->now_ns && vol_deadline(l->v) != NEVER);
		l->now_ns = vol_deadline(l->v);
		lun_step(l);
		i = (uint32_t)lun_find_record(l);
	}
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(r.reply.err, 0);
	lun_free(l);
}

static void a_command_that_is_refused_for_ever_freezes(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;
	uint32_t i = lun_record_waits(l, &r, &p);

	while (vol_state(l->v) == VOL_READY) {
		lun_answer(l, i, LUN_RETRY);
		l->now_ns += NS_PER_SEC;
		lun_step(l);
		i = 0;
	}
	assert_int_equal(vol_reason(l->v), VOL_LOST_PATH);
	assert_null(lun_done(l));
	lun_free(l);
}

/* A bad place, or no space, on a target that does not say which: some tries, and no path is blamed. */
static void a_write_that_keeps_failing_freezes_as_without_space(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;
	uint64_t began_ns = l->now_ns;
	uint32_t i = lun_record_waits(l, &r, &p);

	while (vol_state(l->v) == VOL_READY) {
		lun_answer(l, i, LUN_FAILING);
		if (vol_state(l->v) != VOL_READY)
			break;
		l->now_ns = vol_deadline(l->v);
		lun_step(l);
		i = 0;
	}
	assert_int_equal(vol_reason(l->v), VOL_NO_SPACE);
	assert_in_range(l->now_ns - began_ns, NS_PER_SEC, 8 * NS_PER_SEC);
	lun_free(l);
}

/* All reads fail from the nth one on, for so long; then none does. */
static struct lun *open_while_it_fails(uint32_t nth, uint64_t ns)
{
	struct help_put p = {0, 1, 0};
	struct lun *l = lun_new(64u << 20, 65536);
	uint64_t until_ns;

	assert_int_equal(lun_op(l, help_put, &p), 0);
	lun_crash(l);
	until_ns = l->now_ns + ns;
	vol_open(l->v, ++l->epoch, l->fx);
	lun_step(l);
	while (vol_state(l->v) == VOL_OPENING) {
		if (l->count) {
			lun_answer(l, 0, nth || l->now_ns >= until_ns ? LUN_OK : LUN_FAILING);
			nth -= nth > 0;
		} else {
			assert_true(vol_deadline(l->v) != NEVER);
			l->now_ns = vol_deadline(l->v);
			lun_step(l);
		}
	}
	return l;
}

/* Storage that comes back is not a volume that is damaged, and no reason to give up. */
static void an_opening_waits_for_storage_that_fails(void **state)
{
	(void)state;
	for (uint32_t nth = 0; nth < 8; nth++) {
		struct lun *l = open_while_it_fails(nth, 20 * NS_PER_SEC);

		assert_int_equal(vol_state(l->v), VOL_READY);
		lun_free(l);
	}
	for (uint32_t nth = 0; nth < 8; nth++) {
		struct lun *l = open_while_it_fails(nth, 500 * NS_PER_SEC);

		/* (One head suffices: its place is given up, and nothing else.) */
		if (vol_state(l->v) == VOL_FROZEN)
			assert_int_equal(vol_reason(l->v), VOL_NO_SPACE);
		lun_free(l);
	}
}

/* Answered `st` so often, and sent again each time. */
static uint32_t again_and_again(struct lun *l, uint32_t i, enum lun_status st, int times)
{
	for (int k = 0; k < times; k++) {
		lun_answer(l, i, st);
		assert_int_equal(vol_state(l->v), VOL_READY);
		l->now_ns = vol_deadline(l->v);
		lun_step(l);
		i = 0;
	}
	return i;
}

static void what_was_refused_before_does_not_count_as_failing(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;
	uint32_t i = lun_record_waits(l, &r, &p);

	for (int k = 0; k < 3; k++) {
		i = again_and_again(l, i, LUN_RETRY, 20);
		i = again_and_again(l, i, LUN_FAILING, 5);
	}
	/* All in all it has an end, which is as after a refusal: few in a row failed. */
	i = again_and_again(l, i, LUN_RETRY, 20);
	i = again_and_again(l, i, LUN_FAILING, 5);
	lun_answer(l, i, LUN_FAILING);
	assert_int_equal(vol_state(l->v), VOL_FROZEN);
	assert_int_equal(vol_reason(l->v), VOL_LOST_PATH);
	lun_free(l);
}

static void a_bad_end_of_a_write_freezes_with_its_reason(void **state)
{
	static const struct {
		enum lun_status st;
		enum vol_reason why;
	} ends[] = {{LUN_UNKNOWN, VOL_LOST_PATH}, {LUN_CONFLICT, VOL_FENCED},
		{LUN_MEDIUM, VOL_DAMAGED}, {LUN_NOSPACE, VOL_NO_SPACE},
		{LUN_PROTECTED, VOL_PROTECTED}};

	for (size_t k = 0; k < sizeof(ends) / sizeof(ends[0]); k++) {
		struct help_put p;
		struct lun *l = lun_one(&p);
		struct vol_req r, q;
		uint64_t sent;
		uint32_t i = lun_record_waits(l, &r, &p);

		lun_answer(l, i, ends[k].st);
		assert_int_equal(vol_state(l->v), VOL_FROZEN);
		assert_int_equal(vol_reason(l->v), ends[k].why);
		assert_true(vol_error(l->v)[0]);
		assert_non_null(vol_super(l->v)); /* who has its last replies looks at it */
		/* Nothing more goes out, nobody is answered, until it is abandoned. */
		sent = l->sent[LUN_READ] + l->sent[LUN_WRITE] + l->sent[LUN_FLUSH];
		lun_submit(l, &q, help_get, &p);
		l->now_ns += 100 * NS_PER_SEC;
		lun_run(l);
		assert_int_equal(
			l->sent[LUN_READ] + l->sent[LUN_WRITE] + l->sent[LUN_FLUSH], sent);
		assert_null(lun_done(l));
		vol_abandon(l->v);
		assert_ptr_equal(lun_done(l), &r);
		assert_int_equal(r.reply.err, -ECONNRESET);
		assert_ptr_equal(lun_done(l), &q);
		assert_int_equal(q.reply.err, -ECONNRESET);
		assert_null(lun_done(l));
		lun_free(l);
	}
}

static void a_read_of_unknown_outcome_is_sent_again(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;

	lun_crash(l);
	lun_open(l);
	lun_submit(l, &r, help_get, &p);
	lun_answer(l, 0, LUN_UNKNOWN);
	assert_null(lun_done(l));
	l->now_ns = vol_deadline(l->v);
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(r.reply.err, 0);
	lun_free(l);
}

static void a_lost_path_is_no_error_of_the_request(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;

	lun_crash(l);
	lun_open(l);
	lun_submit(l, &r, help_get, &p);
	while (vol_state(l->v) == VOL_READY) {
		lun_answer(l, 0, LUN_UNKNOWN);
		l->now_ns += NS_PER_SEC;
		lun_step(l);
	}
	/* Invariant 12: it is asked again where there is a path. */
	assert_int_equal(vol_reason(l->v), VOL_LOST_PATH);
	assert_null(lun_done(l));
	vol_abandon(l->v);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(r.reply.err, -ECONNRESET);
	lun_free(l);
}

static void a_target_without_flush_is_one_without_cache(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;

	p.value = 9;
	lun_submit(l, &r, help_put, &p);
	lun_answer(l, (uint32_t)lun_find(l, LUN_FLUSH), LUN_UNSUPPORTED);
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	lun_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_command_that_is_refused_for_now_is_sent_again),
		cmocka_unit_test(a_command_that_is_refused_for_ever_freezes),
		cmocka_unit_test(a_write_that_keeps_failing_freezes_as_without_space),
		cmocka_unit_test(an_opening_waits_for_storage_that_fails),
		cmocka_unit_test(what_was_refused_before_does_not_count_as_failing),
		cmocka_unit_test(a_bad_end_of_a_write_freezes_with_its_reason),
		cmocka_unit_test(a_read_of_unknown_outcome_is_sent_again),
		cmocka_unit_test(a_lost_path_is_no_error_of_the_request),
		cmocka_unit_test(a_target_without_flush_is_one_without_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
