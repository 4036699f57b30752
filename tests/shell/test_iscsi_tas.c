/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A target with TAS=0: what the reset of another node ends is not answered, and UNIT ATTENTION is all that is heard of it
 * (iscsi_tas.h). The target here has done those commands; between it and the session their answers are lost.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/shell/bdev_user.h"
#include "tests/shell/liar.h"
#include "tests/shell/target.h"

#define MANY 8
#define FULL 400 /* more than tgtd's window */
#define LONG (256u << 10) /* the target asks for a part of its data */

static bool have_target;
static uint8_t buf[LONG], back[4096];
static struct user u;
static struct bdev_req w[FULL];

#define READ_AT(o) ((struct lun_cmd){.op = LUN_READ, .off = (o), .len = 4096, .buf = back})
#define TEST_READY ((struct lun_cmd){.op = LUN_TEST})

static const struct lie was_reset = {"BUS DEVICE RESET OCCURRED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x29, [13] = 0x03}, 18, LUN_RETRY};
static const struct lie was_cleared = {"COMMANDS CLEARED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x2f}, 18, LUN_RETRY};
static const struct lie mode_changed = {"MODE PARAMETERS CHANGED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x2a, [13] = 0x01}, 18, LUN_RETRY};
static const struct lie another_lun = {"REPORTED LUNS DATA HAS CHANGED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x3f, [13] = 0x0e}, 18, LUN_UNKNOWN};

static int set_up(void **state)
{
	(void)state;
	if (!have_target)
		return 0;
	liar.vendor = "ANOTHER ";
	liar_start();
	if (!user_open(&u, LIAR_URL, 1, 0) || user_do(&u, READ_AT(0)) != LUN_OK)
		return -1;
	liar.resets = 0;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (!have_target)
		return 0;
	target_hold(false);
	liar.lie = NULL;
	liar.once = false;
	liar.wait_ms = 0;
	liar.silent = 0;
	liar.slow_us = 0;
	liar.management = 0;
	liar.tas = liar.is_lio = false;
	bdev_close(u.b);
	liar_stop();
	return 0;
}

#define NEED_TARGET()                                                                              \
	do {                                                                                       \
		if (!have_target)                                                                  \
			skip();                                                                    \
	} while (0)

static void submit(unsigned n, uint64_t bytes)
{
	for (unsigned i = 0; i < n; i++) {
		w[i] = (struct bdev_req){.cmd = {.op = LUN_WRITE, .off = i * bytes, .len = bytes, .buf = buf}};
		user_send(&u, &w[i]);
	}
}

static unsigned count(unsigned n, enum lun_status status)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++)
		found += user_ended(&w[i]) && w[i].status == status;
	return found;
}

static void turns(uint64_t ms)
{
	uint64_t end = bdev_now_ns() + ms * NS_PER_MS;

	while (bdev_now_ns() < end)
		user_turn(&u, 10);
}

static bool all_end(unsigned n, uint64_t ms)
{
	uint64_t end = bdev_now_ns() + ms * NS_PER_MS;

	for (unsigned i = 0; i < n; i++)
		while (!user_ended(&w[i]) && bdev_now_ns() < end)
			user_turn(&u, 5);
	for (unsigned i = 0; i < n; i++)
		if (!user_ended(&w[i]))
			return false;
	return true;
}

/* They are done, and their answers are lost. */
static void lose_writes(unsigned n, uint64_t bytes)
{
	liar.silent = n;
	submit(n, bytes);
	for (int i = 0; i < 2000 && liar.silent; i++)
		user_turn(&u, 5);
	assert_int_equal(liar.silent, 0);
	assert_int_equal(count(n, LUN_OK), 0);
}

static void tell_once(const struct lie *l)
{
	liar.once = true;
	liar.lie = l;
}

static void what_a_reset_has_ended_is_to_be_repeated(void **state)
{
	static const struct lie *const news[] = {&was_reset, &was_cleared};

	(void)state;
	NEED_TARGET();
	for (unsigned i = 0; i < 4; i++) {
		liar.resets = 0;
		lose_writes(MANY, i < 2 ? 4096 : LONG);
		tell_once(news[i % 2]);
		assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
		assert_true(all_end(MANY, 8000));
		assert_int_equal(count(MANY, LUN_RETRY), MANY);
		assert_int_equal(liar.resets, MANY);
		/* Once more, and done. */
		submit(MANY, 4096);
		assert_true(all_end(MANY, 8000));
		assert_int_equal(count(MANY, LUN_OK), MANY);
	}
	assert_true(bdev_oldest_ns(u.b) == NEVER && !u.down);
}

/* Nobody sends a command that could hear of it. */
static void a_session_that_waits_asks_by_itself(void **state)
{
	(void)state;
	NEED_TARGET();
	lose_writes(MANY, 4096);
	tell_once(&was_reset);
	assert_true(all_end(MANY, 8000));
	assert_int_equal(count(MANY, LUN_RETRY), MANY);
	assert_int_equal(user_cmd(&u, READ_AT(0)), LUN_OK);
	assert_false(u.down);
	/* Other news is no reason. */
	lose_writes(1, 4096);
	tell_once(&mode_changed);
	liar.resets = 0;
	turns(1800);
	assert_int_equal(liar.resets, 0);
	assert_false(liar.lie || user_ended(&w[0]) || u.down);
}

/* It hears for all. */
static void what_it_hears_is_not_lost(void **state)
{
	(void)state;
	NEED_TARGET();
	lose_writes(1, 4096);
	tell_once(&another_lun);
	assert_true(all_end(1, 8000));
	assert_int_equal(w[0].status, LUN_UNKNOWN);
	assert_true(u.down);
	assert_non_null(strstr(bdev_text(u.b), "LUN 1 may be another one now"));
}

static void answers_that_are_under_way_are_waited_for(void **state)
{
	(void)state;
	NEED_TARGET();
	target_hold(true);
	submit(MANY, 4096);
	turns(50);
	tell_once(&was_reset);
	assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
	target_hold(false);
	assert_true(all_end(MANY, 1000));
	assert_int_equal(count(MANY, LUN_OK), MANY);
	/* It is over with them: what is sent later is not meant. */
	target_hold(true);
	submit(1, 4096);
	turns(1500);
	assert_int_equal(liar.resets, 0);
	assert_false(user_ended(&w[0]));
	target_hold(false);
	assert_true(all_end(1, 1000));
	assert_int_equal(w[0].status, LUN_OK);
	assert_false(u.down);
}

/* The target waits for it before it answers ABORT TASK; or answers the command itself first. */
static void one_that_still_runs_ends_before_it_is_said_to_have(void **state)
{
	(void)state;
	NEED_TARGET();
	target_hold(true);
	submit(1, 4096);
	turns(50);
	tell_once(&was_reset);
	assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
	turns(1000);
	assert_int_equal(liar.resets, 1);
	assert_false(user_ended(&w[0]));
	target_hold(false);
	assert_true(all_end(1, 1000));
	assert_int_equal(count(1, LUN_OK) + count(1, LUN_RETRY), 1);
	assert_int_equal(user_cmd(&u, READ_AT(0)), LUN_OK);
	assert_false(u.down);
}

/* A reset of our own waits for what is in doubt. */
static void a_reset_of_its_own_waits_for_that(void **state)
{
	struct bdev_req reset = {.cmd = {.op = LUN_RESET}}, after = {.cmd = READ_AT(0)};

	(void)state;
	NEED_TARGET();
	lose_writes(2, 4096);
	user_send(&u, &reset);
	user_send(&u, &after);
	turns(200);
	assert_int_equal(liar.resets, 0);
	tell_once(&was_reset);
	assert_true(user_wait(&u, &reset, 8000));
	assert_int_equal(reset.status, LUN_OK);
	assert_int_equal(count(2, LUN_RETRY), 2);
	assert_int_equal(liar.resets, 3);
	assert_true(user_wait(&u, &after, 1000));
	assert_false(u.down);
}

/* Nothing can be sent, and nothing comes that would say that it can. */
static void a_window_that_is_full_of_them_is_opened(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.silent = FULL;
	submit(FULL, 4096);
	turns(500);
	assert_true(liar.silent > 0);
	liar.silent = 0;
	tell_once(&was_reset);
	turns(1000);
	assert_int_equal(count(FULL, LUN_OK) + count(FULL, LUN_RETRY), 0);
	assert_true(all_end(FULL, 8000));
	assert_true(count(FULL, LUN_OK) > 0 && count(FULL, LUN_RETRY) > MANY);
	assert_int_equal(count(FULL, LUN_OK) + count(FULL, LUN_RETRY), FULL);
	assert_false(u.down);
}

/* Others take its place again and again: what is queued never gets less. But a session that gets no room for ABORT TASK makes it. */
static unsigned left;

static void send_again(struct bdev_req *r)
{
	if (r->status == LUN_OK && left) {
		left--;
		bdev_submit(u.b, r);
	} else {
		user_done(r);
	}
}

static void it_ends_though_the_queue_is_never_empty(void **state)
{
	struct bdev_req more[16];
	unsigned left_then;
	int bytes = 4096;

	(void)state;
	NEED_TARGET();
	lose_writes(1, LONG);
	assert_int_equal(setsockopt(bdev_fd(u.b), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
	liar.slow_us = 3000;
	tell_once(&was_reset);
	assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
	left = 1000;
	for (unsigned i = 0; i < 16; i++) {
		more[i] = (struct bdev_req){.cmd = {.op = LUN_WRITE, .off = (i + 1) * LONG, .len = LONG / 2, .buf = buf}};
		more[i].done = send_again;
		bdev_submit(u.b, &more[i]);
	}
	assert_true(all_end(1, 8000));
	left_then = left;
	left = 0;
	for (unsigned i = 0; i < 16; i++) {
		assert_true(user_wait(&u, &more[i], 8000));
		assert_int_equal(more[i].status, LUN_OK);
	}
	assert_string_equal(bdev_text(u.b), "");
	assert_int_equal(w[0].status, LUN_RETRY);
	assert_true(left_then > 100);
	assert_false(u.down);
}

static void who_refuses_to_tell_loses_the_session(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.management = 5; /* not supported */
	lose_writes(2, 4096);
	tell_once(&was_reset);
	assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
	assert_true(all_end(2, 8000));
	assert_int_equal(count(2, LUN_UNKNOWN), 2);
	assert_true(u.down);
	assert_non_null(strstr(bdev_text(u.b), "ABORT TASK answered with 5"));
}

/* What the target says it is has changed. */
static void logs_in_anew(void)
{
	bdev_close(u.b);
	assert_true(user_open(&u, LIAR_URL, 1, 0));
	assert_int_equal(user_do(&u, READ_AT(0)), LUN_OK);
	liar.resets = 0;
}

/* What a reset waits for does not exist for LIO's ABORT TASK, and is under way. */
static void lio_does_not_know_what_is_under_way(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.is_lio = true;
	logs_in_anew();
	liar.management = 1; /* does not exist */
	lose_writes(2, 4096);
	tell_once(&was_reset);
	assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
	assert_true(all_end(2, 8000));
	assert_int_equal(count(2, LUN_UNKNOWN), 2);
	assert_true(u.down);
}

/* At tgtd itself, with whatever vendor_id: a session that is busy must not take the answer to its reset away from who fences. */
static void a_reset_at_tgtd_is_answered(void **state)
{
	struct bdev_req reset = {.cmd = {.op = LUN_RESET}};
	struct user other;

	(void)state;
	NEED_TARGET();
	for (int renamed = 0; renamed < 2; renamed++) {
		liar.vendor = NULL;
		target_admin(renamed ? "--op update --mode logicalunit --tid 1 --lun 1 --params 'vendor_id=ACME,scsi_id=IET     00010001'"
				     : "--op update --mode logicalunit --tid 1 --lun 1 --params vendor_id=IET");
		logs_in_anew();
		assert_string_equal(bdev_info(u.b)->vendor, renamed ? "ACME VIRTUAL-DISK" : "IET VIRTUAL-DISK");
		assert_true(user_open(&other, TARGET_URL, 2, 0));
		assert_int_equal(user_do(&other, READ_AT(0)), LUN_OK);
		target_hold(true);
		submit(1, 4096);
		turns(50);
		user_send(&other, &reset);
		turns(100);
		assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY); /* it has begun */
		turns(1500);
		assert_false(user_wait(&other, &reset, 1));
		target_hold(false);
		assert_true(user_wait(&other, &reset, 3000));
		assert_int_equal(reset.status, LUN_OK);
		assert_true(all_end(1, 1000));
		assert_int_equal(w[0].status, LUN_OK);
		assert_int_equal(liar.resets, 0);
		bdev_close(other.b);
	}
	target_admin("--op update --mode logicalunit --tid 1 --lun 1 --params vendor_id=IET,scsi_id=test-1");
}

static void who_does_not_answer_that_loses_it_too(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.management = 255;
	lose_writes(2, 4096);
	tell_once(&was_reset);
	assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
	turns(2000);
	assert_false(u.down);
	assert_true(all_end(2, 8000));
	assert_int_equal(count(2, LUN_UNKNOWN), 2);
	assert_true(u.down);
}

/* What it has not answered yet is under way: nothing is asked, and nothing is taken for ended. */
static void a_target_that_answers_what_it_ends_is_waited_for(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.tas = true;
	logs_in_anew();
	liar.cdb = 0;
	lose_writes(2, 4096);
	tell_once(&was_reset);
	assert_int_equal(user_cmd(&u, TEST_READY), LUN_RETRY);
	liar.cdb = 0;
	turns(3000);
	assert_int_equal(liar.resets, 0);
	assert_int_equal(liar.cdb, 0);
	assert_int_equal(count(2, LUN_RETRY), 0);
	assert_true(bdev_due_ns(u.b) == NEVER);
}

/* ... and if there is no answer at all, the age of the command tells. */
static void a_session_may_be_closed_meanwhile(void **state)
{
	uint64_t start_ns = bdev_now_ns();

	(void)state;
	NEED_TARGET();
	target_hold(true);
	submit(2, 4096);
	turns(50);
	tell_once(&was_reset);
	turns(1500);
	assert_int_equal(liar.resets, 1);
	assert_true(bdev_oldest_ns(u.b) >= start_ns && bdev_oldest_ns(u.b) < bdev_now_ns() - NS_PER_SEC);
	bdev_close(u.b);
	u.b = NULL;
	assert_int_equal(count(2, LUN_UNKNOWN), 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_a_reset_has_ended_is_to_be_repeated),
		TEST(a_session_that_waits_asks_by_itself),
		TEST(what_it_hears_is_not_lost),
		TEST(answers_that_are_under_way_are_waited_for),
		TEST(one_that_still_runs_ends_before_it_is_said_to_have),
		TEST(a_reset_of_its_own_waits_for_that),
		TEST(a_window_that_is_full_of_them_is_opened),
		TEST(it_ends_though_the_queue_is_never_empty),
		TEST(who_refuses_to_tell_loses_the_session),
		TEST(lio_does_not_know_what_is_under_way),
		TEST(a_reset_at_tgtd_is_answered),
		TEST(who_does_not_answer_that_loses_it_too),
		TEST(a_target_that_answers_what_it_ends_is_waited_for),
		TEST(a_session_may_be_closed_meanwhile),
	};
	int failed;

	have_target = target_up();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (have_target)
		target_down();
	return failed;
}
