/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node's path to the LUN: whose older keys it takes away, and how long one that comes back waits before it is used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "csvfs/io_mode.h"

#define SEC NS_PER_SEC
#define US 2

static struct io_path P;
static struct effects fx;
static uint64_t now;

static void setup_path(void)
{
	if (!fx.arena)
		fx.arena = malloc(EFFECTS_ARENA);
	now = 1000 * SEC;
	io_path_init(&P, US, 7, true, SEC, NULL);
}

static void told(enum path_state st)
{
	struct event ev = {.type = EV_PATH, .now_ns = now};

	ev.path.state = st;
	strcpy(ev.path.text, "the session broke");
	assert_true(io_path_event(&P, &ev, &fx));
}

/* Whatever the path waits for succeeds, and the LUN shows our key. */
static void lun_answers(void)
{
	uint64_t key = io_path_key(US, P.incarnation);
	struct event ev = {.type = EV_LUN_DONE, .now_ns = now, .tag = P.tag};

	ev.lun.status = LUN_OK;
	ev.lun.keys = &key;
	ev.lun.key_count = 1;
	assert_true(io_path_event(&P, &ev, &fx));
}

/* Logs in and registers; returns for how long it settles. */
static uint64_t comes_back(void)
{
	effects_reset(&fx);
	if (P.st == PST_CLOSING)
		told(PATH_CLOSED);
	now += SEC;
	if (P.st == PST_CLOSED)
		io_path_start(&P, now, &fx);
	told(PATH_UP);
	io_path_announced(&P, now, &fx);
	while (P.st < PST_SETTLE)
		lun_answers();
	return P.st == PST_UP ? 0 : P.settle_until_ns - now;
}

static void is_used(void)
{
	if (P.st == PST_SETTLE)
		now = P.settle_until_ns;
	effects_reset(&fx);
	io_path_step(&P, now, &fx);
	assert_int_equal(P.st, PST_UP);
	now += SEC;
}

static void loses(void)
{
	effects_reset(&fx);
	told(PATH_LOST);
	io_path_fenced(&P, P.unfenced);
}

static void path_that_comes_and_goes_waits_longer_each_time(void **state)
{
	static const uint64_t want[] = {0, 5, 30, 300};

	setup_path();
	assert_int_equal(comes_back(), 0);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		is_used();
		loses();
		assert_int_equal(comes_back(), want[i] * SEC);
	}
	/* Five minutes after the first loss it has a clean sheet. */
	is_used();
	loses();
	assert_int_equal(comes_back(), 0);
}

/* The path reads the registrations, and finds these and its own. */
static void shows(uint64_t other)
{
	uint64_t keys[2] = {other, io_path_key(US, P.incarnation)};
	struct event ev = {.type = EV_LUN_DONE, .now_ns = now, .tag = P.tag};

	ev.lun.status = LUN_OK;
	ev.lun.keys = keys;
	ev.lun.key_count = 2;
	assert_true(io_path_event(&P, &ev, &fx));
}

static void registers(void)
{
	effects_reset(&fx);
	if (P.st == PST_CLOSING)
		told(PATH_CLOSED);
	now += SEC;
	if (P.st == PST_CLOSED)
		io_path_start(&P, now, &fx);
	told(PATH_UP);
	io_path_announced(&P, now, &fx);
	lun_answers();
	assert_int_equal(P.st, PST_KEYS);
}

/* P4: whoever else has it may live, and be at work. */
static void key_with_our_number_is_left_alone_until_we_know_whose_it_is(void **state)
{
	uint32_t first;

	setup_path();
	registers();
	shows(io_path_key(US, 5));
	assert_int_equal(P.st, PST_HOLDER);
	assert_int_equal(P.unfenced, 0);
	/* It breaks before it is up: that key is of this life. */
	first = P.incarnation;
	loses();
	registers();
	shows(io_path_key(US, first));
	assert_int_equal(P.st, PST_PREEMPT);
	assert_true(P.old_key == io_path_key(US, first));
	while (P.st < PST_SETTLE)
		lun_answers();
	is_used();
	/* And so is that of one that was up. */
	first = P.incarnation;
	effects_reset(&fx);
	told(PATH_LOST);
	registers();
	shows(io_path_key(US, first));
	assert_int_equal(P.st, PST_PREEMPT);
	while (P.st < PST_SETTLE)
		lun_answers();
	is_used();
	/* Now that we are served it can only be one of our own. */
	loses();
	P.number_is_ours = true;
	registers();
	shows(io_path_key(US, 5));
	assert_int_equal(P.st, PST_PREEMPT);
}

/* After a crash, and the target knows no LUN reset: what the older one has in flight is waited out. */
static void older_key_is_waited_out_where_the_target_knows_no_reset(void **state)
{
	struct event ev = {.type = EV_LUN_DONE};
	uint64_t from;

	setup_path();
	P.number_is_ours = true;
	registers();
	shows(io_path_key(US, 5));
	assert_int_equal(P.st, PST_PREEMPT);
	lun_answers();
	assert_int_equal(P.st, PST_DRAIN);
	ev = (struct event){.type = EV_LUN_DONE, .now_ns = now, .tag = P.tag};
	ev.lun.status = LUN_UNSUPPORTED;
	assert_true(io_path_event(&P, &ev, &fx));
	from = now;
	now = io_path_deadline(&P);
	assert_int_equal(now - from, 30 * SEC);
	io_path_step(&P, now, &fx);
	assert_int_equal(P.st, PST_VERIFY);
	while (P.st < PST_SETTLE)
		lun_answers();
	assert_int_equal(P.unfenced, 0);
}

/* If it is fenced meanwhile there is nothing to be waited for; but for what another older one has in flight. */
static void waiting_ends_when_it_was_fenced(void **state)
{
	struct event ev = {.type = EV_LUN_DONE};

	for (uint32_t other = 0; other < 2; other++) {
		uint32_t lost;

		setup_path();
		P.number_is_ours = true;
		assert_int_equal(comes_back(), 0);
		is_used();
		lost = P.incarnation;
		effects_reset(&fx);
		told(PATH_LOST);
		registers();
		shows(io_path_key(US, other ? 5 : lost));
		lun_answers();
		assert_int_equal(P.st, PST_DRAIN);
		ev = (struct event){.type = EV_LUN_DONE, .now_ns = now, .tag = P.tag};
		ev.lun.status = LUN_UNSUPPORTED;
		assert_true(io_path_event(&P, &ev, &fx));
		io_path_fenced(&P, lost);
		effects_reset(&fx);
		io_path_step(&P, now + SEC, &fx);
		assert_int_equal(P.st, other ? PST_DRAIN : PST_VERIFY);
	}
}

/* Used, and then the LUN shows that our registration is gone; returns after how long we are to log in again. */
static uint64_t is_fenced(bool no_reset)
{
	uint64_t other = io_path_key(1, 9);
	struct event ev = {.type = EV_LUN_DONE};

	setup_path();
	assert_int_equal(comes_back(), 0);
	is_used();
	P.no_reset = no_reset;
	now = io_path_deadline(&P);
	effects_reset(&fx);
	io_path_step(&P, now, &fx);
	ev = (struct event){.type = EV_LUN_DONE, .now_ns = now, .tag = P.tag};
	ev.lun.status = LUN_OK;
	ev.lun.keys = &other;
	ev.lun.key_count = 1;
	assert_true(io_path_event(&P, &ev, &fx));
	assert_true(P.key_gone && P.unfenced);
	told(PATH_CLOSED);
	return io_path_deadline(&P) - now;
}

/* A key of ours that whoever fences us finds in the end makes him begin anew. */
static void who_was_fenced_stays_away_where_a_fence_takes_long(void **state)
{
	assert_int_equal(is_fenced(false), SEC);
	assert_int_equal(is_fenced(true), 35 * SEC);
	/* That he is done with it is told. */
	io_path_fenced(&P, P.unfenced + 1);
	assert_int_equal(io_path_deadline(&P) - now, 35 * SEC);
	io_path_fenced(&P, P.unfenced);
	effects_reset(&fx);
	io_path_step(&P, now, &fx);
	assert_int_equal(P.st, PST_OPENING);
	/* A path that is merely lost is tried again at once. */
	told(PATH_UP);
	io_path_announced(&P, now, &fx);
	while (P.st < PST_SETTLE)
		lun_answers();
	is_used();
	effects_reset(&fx);
	told(PATH_LOST);
	told(PATH_CLOSED);
	assert_int_equal(io_path_deadline(&P) - now, SEC);
}

/* A machine that pauses finds its session gone each time that it wakes up. */
static void path_that_was_lost_in_our_sleep_does_not_count(void **state)
{
	setup_path();
	assert_int_equal(comes_back(), 0);
	for (int i = 0; i < 10; i++) {
		is_used();
		io_path_excuse(&P);
		loses();
		assert_int_equal(comes_back(), 0);
	}
	assert_int_equal(P.lost_count, 10);
}

/* Awake again, and the LUN has shown our registration: what is lost now is lost by the path. */
static void excuse_ends_when_the_lun_has_shown_our_registration(void **state)
{
	uint32_t since;

	setup_path();
	assert_int_equal(comes_back(), 0);
	for (int i = 0; i < 4; i++) {
		is_used();
		io_path_excuse(&P);
		assert_true(io_path_look(&P, &since));
		effects_reset(&fx);
		io_path_step(&P, now, &fx);
		while (P.looks <= since) {
			if (P.tag)
				lun_answers();
			io_path_step(&P, now, &fx);
		}
		loses();
		(void)comes_back();
	}
	assert_int_equal(P.settle_until_ns - now, 300 * SEC);
}

static void path_that_settles_is_used_at_once_when_there_is_no_other(void **state)
{
	setup_path();
	assert_int_equal(comes_back(), 0);
	for (int i = 0; i < 3; i++) {
		is_used();
		loses();
		(void)comes_back();
	}
	assert_int_equal(P.settle_until_ns - now, 30 * SEC);
	io_path_outage(&P, now);
	effects_reset(&fx);
	io_path_step(&P, now, &fx);
	assert_int_equal(P.st, PST_UP);
}

static void path_that_is_trusted_is_used_at_once_and_its_losses_are_forgotten(void **state)
{
	setup_path();
	assert_false(io_path_trust(&P, now));
	for (int i = 0; i < 4; i++) {
		(void)comes_back();
		is_used();
		loses();
	}
	assert_int_equal(comes_back(), 300 * SEC);
	assert_string_equal(P.reason, "back after 4 losses: used when it has held for 300 s");
	assert_true(io_path_trust(&P, now));
	effects_reset(&fx);
	io_path_step(&P, now, &fx);
	assert_int_equal(P.st, PST_UP);
	assert_false(io_path_trust(&P, now));
	loses();
	assert_int_equal(comes_back(), 0);
}

/* ------------------------------------------------------------------ without reservations */

/* Logs in; nothing is announced or registered. */
static void logs_in(void)
{
	effects_reset(&fx);
	if (P.st == PST_CLOSING)
		told(PATH_CLOSED);
	now += SEC;
	if (P.st == PST_CLOSED)
		io_path_start(&P, now, &fx);
	effects_reset(&fx);
	told(PATH_UP);
}

static void setup_bare(bool left_behind)
{
	setup_path();
	io_path_init(&P, US, 7, false, SEC, NULL);
	P.left_behind = left_behind;
	logs_in();
}

static void lun_says(enum lun_status status)
{
	struct event ev = {.type = EV_LUN_DONE, .now_ns = now, .tag = P.tag};

	ev.lun.status = status;
	assert_true(io_path_event(&P, &ev, &fx));
}

/* The LUN is reset, and nothing is used before that is answered. */
static void drains(void)
{
	const struct effect *e = &fx.fx[fx.count - 1];

	assert_int_equal(P.st, PST_DRAIN);
	assert_true(fx.count > 0);
	assert_int_equal(e->type, FX_LUN);
	assert_int_equal(e->lun.op, LUN_RESET);
	assert_int_equal(e->tag, P.tag);
	now += 100 * SEC;
	io_path_step(&P, now, &fx);
	assert_int_equal(P.st, PST_DRAIN);
}

/* P5: a write of the lost session may be held in the target, and land on what is written now. */
static void without_reservations_a_lost_path_is_drained_before_it_is_used(void **state)
{
	uint32_t lost;

	setup_bare(false);
	assert_int_equal(P.st, PST_UP);
	lost = P.incarnation;
	told(PATH_LOST);
	assert_int_equal(P.unfenced, lost);
	logs_in();
	drains();
	/* Also when the next login is lost before it is answered. */
	told(PATH_LOST);
	assert_int_equal(P.unfenced, lost);
	logs_in();
	drains();
	lun_says(LUN_UNKNOWN);
	assert_int_equal(P.unfenced, lost);
	logs_in();
	drains();
	lun_says(LUN_RETRY);
	assert_int_equal(P.st, PST_DRAIN);
	now = io_path_deadline(&P);
	effects_reset(&fx);
	io_path_step(&P, now, &fx);
	drains();
	lun_says(LUN_OK);
	assert_int_equal(P.unfenced, 0);
	assert_int_equal(P.st, PST_UP);
	io_path_check(&P);
}

static void without_reservations_and_reset_a_lost_path_is_waited_out(void **state)
{
	uint64_t from;

	setup_bare(false);
	told(PATH_LOST);
	logs_in();
	drains();
	from = now;
	lun_says(LUN_UNSUPPORTED);
	assert_int_equal(P.st, PST_DRAIN);
	now = io_path_deadline(&P);
	assert_int_equal(now - from, 30 * SEC);
	io_path_step(&P, now - 1, &fx);
	assert_int_equal(P.st, PST_DRAIN);
	assert_true(P.unfenced != 0);
	io_path_step(&P, now, &fx);
	assert_int_equal(P.st, PST_UP);
	assert_int_equal(P.unfenced, 0);
}

/* A daemon that was killed, and is back at once. */
static void without_reservations_what_an_earlier_life_left_is_drained_once(void **state)
{
	setup_bare(true);
	drains();
	told(PATH_LOST);
	logs_in();
	drains();
	lun_says(LUN_OK);
	assert_int_equal(P.st, PST_UP);
	assert_false(P.left_behind);
}

/* Used, and lost; somebody takes its key away. That is seen by the next login, also if one in between registers, and breaks before it has looked. */
static void key_that_was_taken_is_seen_also_after_a_login_that_breaks(void **state)
{
	uint32_t second;

	for (uint32_t breaks = 0; breaks < 2; breaks++) {
		setup_path();
		assert_int_equal(comes_back(), 0);
		is_used();
		effects_reset(&fx);
		told(PATH_LOST);
		registers();
		if (breaks) {
			second = P.incarnation;
			effects_reset(&fx);
			told(PATH_LOST);
			registers();
			shows(io_path_key(US, second));
		} else {
			lun_answers();
		}
		assert_true(P.stolen);
	}
}

/* An older one that had registered, and was never used. */
static void key_of_a_login_that_broke_was_not_taken(void **state)
{
	uint32_t first, second;

	setup_path();
	assert_int_equal(comes_back(), 0);
	io_path_fenced(&P, P.unfenced);
	effects_reset(&fx);
	told(PATH_LOST);
	io_path_fenced(&P, P.unfenced);
	registers();
	first = P.incarnation;
	effects_reset(&fx);
	told(PATH_LOST);
	P.unfenced = 0;
	registers();
	second = P.incarnation;
	shows(io_path_key(US, first));
	assert_int_equal(P.st, PST_PREEMPT);
	effects_reset(&fx);
	told(PATH_LOST);
	registers();
	shows(io_path_key(US, second));
	assert_false(P.stolen);
}

/* We have preempted it ourselves, and that login broke, too. */
static void key_that_we_took_ourselves_was_not_taken(void **state)
{
	uint32_t first, second;

	setup_path();
	assert_int_equal(comes_back(), 0);
	first = P.incarnation;
	is_used();
	effects_reset(&fx);
	told(PATH_LOST);
	registers();
	second = P.incarnation;
	shows(io_path_key(US, first));
	assert_int_equal(P.st, PST_PREEMPT);
	assert_false(P.stolen);
	effects_reset(&fx);
	told(PATH_LOST);
	registers();
	shows(io_path_key(US, second));
	assert_int_equal(P.st, PST_PREEMPT);
	assert_false(P.stolen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(path_that_comes_and_goes_waits_longer_each_time),
		cmocka_unit_test(key_with_our_number_is_left_alone_until_we_know_whose_it_is),
		cmocka_unit_test(older_key_is_waited_out_where_the_target_knows_no_reset),
		cmocka_unit_test(waiting_ends_when_it_was_fenced),
		cmocka_unit_test(who_was_fenced_stays_away_where_a_fence_takes_long),
		cmocka_unit_test(path_that_was_lost_in_our_sleep_does_not_count),
		cmocka_unit_test(excuse_ends_when_the_lun_has_shown_our_registration),
		cmocka_unit_test(path_that_settles_is_used_at_once_when_there_is_no_other),
		cmocka_unit_test(path_that_is_trusted_is_used_at_once_and_its_losses_are_forgotten),
		cmocka_unit_test(without_reservations_a_lost_path_is_drained_before_it_is_used),
		cmocka_unit_test(without_reservations_and_reset_a_lost_path_is_waited_out),
		cmocka_unit_test(key_that_was_taken_is_seen_also_after_a_login_that_breaks),
		cmocka_unit_test(key_that_we_took_ourselves_was_not_taken),
		cmocka_unit_test(key_of_a_login_that_broke_was_not_taken),
		cmocka_unit_test(without_reservations_what_an_earlier_life_left_is_drained_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
