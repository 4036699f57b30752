/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LUN_RESET at a target whose LOGICAL UNIT RESET is no barrier: tgtd, which the liar (liar.h) makes say that it is LIO. (tgtd lets
 * the old session be. What LIO does with it is in tests/lab/lio.)
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "csvfs/bdev_sync.h"
#include "csvfs/iscsi_name.h"
#include "tests/shell/bdev_user.h"
#include "tests/shell/full_status.h"
#include "tests/shell/liar.h"
#include "tests/shell/target.h"

#define OP(o) ((struct lun_cmd){.op = (o)})
#define US 1u

static bool have_target;
static uint8_t page[4096];

/* What a node's session is called. */
static void port_of(uint32_t node, uint16_t session, char *name, char *port)
{
	struct bdev_config cfg = {.node = node, .session = session};

	iscsi_name_initiator(&cfg, name, 224);
	full_port(port, 256, name, 0x80ull << 40 | (uint64_t)iscsi_name_isid(&cfg, "iqn.2026-11.test:lun", 1) << 16 | session);
}

/* These are registered: we, by one session or two, and `node`, unless it is 0. */
static void registered(uint32_t sessions, uint32_t node)
{
	char name[224], port[256];
	size_t n = 8;

	memset(liar.full, 0, sizeof(liar.full));
	for (uint32_t i = 0; i < sessions; i++) {
		port_of(US, (uint16_t)i, name, port);
		n = full_add(liar.full, n, 0x100, 1, port);
	}
	if (node) {
		port_of(node, 0, name, port);
		n = full_add(liar.full, n, 0x100 + node, 1, port);
	}
	liar.full_bytes = (uint32_t)n;
}

static char victim_name[224];
static uint8_t victim_isid[6];

/* `u` is ours, and has seen the victim, which was registered and is so no more. */
static void victim_is_seen_and_goes(struct user *u, struct user *victim, uint32_t node)
{
	char port[256];

	liar.is_lio = true;
	liar.logins = liar.resets = 0;
	port_of(node, 0, victim_name, port);
	victim_isid[0] = 0x80;
	scsi_put_be(victim_isid + 1, iscsi_name_isid(&(struct bdev_config){.node = node}, "iqn.2026-11.test:lun", 1), 3);
	liar.login_of = victim_name;
	assert_true(user_open(victim, TARGET_URL, node, 0));
	assert_true(user_open(u, LIAR_URL, US, 0));
	assert_string_equal(bdev_info(u->b)->vendor, "LIO-ORG VIRTUAL-DISK");
	registered(1, node);
	assert_int_equal(user_do(u, OP(LUN_PR_READ_KEYS)), LUN_OK);
	/* As long as it is registered it is left alone. */
	assert_int_equal(user_do(u, OP(LUN_RESET)), LUN_OK);
	assert_int_equal(liar.logins, 0);
	liar.resets = 0;
	while (user_cmd(u, OP(LUN_TEST)) == LUN_RETRY || user_cmd(victim, OP(LUN_TEST)) == LUN_RETRY)
		;
	registered(1, 0);
}

static void ends(struct user *u, struct user *victim)
{
	bdev_close(u->b);
	bdev_close(victim->b);
	liar.login_of = NULL;
	liar.login_waits = false;
	liar.login_refused = 0;
	liar.is_lio = false;
}

static void reset_waits_for_a_login_in_the_place_of_who_is_gone(void **state)
{
	struct bdev_req reset = {.cmd = OP(LUN_RESET)}, second = reset;
	struct user u, v;

	(void)state;
	if (!have_target)
		skip();
	victim_is_seen_and_goes(&u, &v, 2);
	liar.login_waits = true;
	user_send(&u, &reset);
	assert_false(user_wait(&u, &reset, 1500));
	assert_int_equal(liar.resets, 0);
	assert_int_equal(liar.logins, 1);
	/* The target answers: that is no lost path. And the others go on. */
	assert_true(bdev_now_ns() - bdev_oldest_ns(u.b) < NS_PER_SEC);
	assert_int_equal(user_cmd(&u, (struct lun_cmd){.op = LUN_READ, .len = sizeof(page), .buf = page}), LUN_OK);
	assert_int_equal(user_cmd(&u, OP(LUN_PR_READ_KEYS)), LUN_OK);
	user_send(&u, &second);
	assert_false(user_wait(&u, &reset, 200));
	assert_int_equal(user_cmd(&v, OP(LUN_TEST)), LUN_OK);
	liar.login_waits = false;
	assert_true(user_wait(&u, &reset, 3000));
	assert_int_equal(reset.status, LUN_OK);
	assert_memory_equal(liar.login_isid, victim_isid, 6);
	assert_true(user_wait(&u, &second, 3000));
	assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
	assert_int_equal(liar.logins, 1); /* once is enough */
	/* It has come and gone again. */
	registered(1, 2);
	assert_int_equal(user_do(&u, OP(LUN_PR_READ_KEYS)), LUN_OK);
	registered(1, 0);
	assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
	assert_int_equal(liar.logins, 2);
	ends(&u, &v);
}

static void *ended_late(void *arg)
{
	(void)arg;
	sleep(5);
	liar.login_waits = false;
	return NULL;
}

/* A tool's: who gives up after so long has forgotten, when it is run again, whom there was to wait for. */
static void a_tool_waits_as_long_as_the_target_answers(void **state)
{
	const struct bdev_config cfg = {.url = LIAR_URL, .session = BDEV_SESSION_RANDOM};
	struct user u, v;
	struct bdev_sync *s;
	pthread_t thread;
	uint64_t from_ns;
	char text[256];

	(void)state;
	if (!have_target)
		skip();
	victim_is_seen_and_goes(&u, &v, 3);
	liar.login_waits = true;
	assert_int_equal(bdev_sync_open(&cfg, 2000, &s, text, sizeof(text)), 0);
	from_ns = bdev_now_ns();
	assert_int_equal(pthread_create(&thread, NULL, ended_late, NULL), 0);
	assert_int_equal(bdev_sync_cmd(s, &OP(LUN_RESET), NULL, NULL), LUN_OK);
	assert_true(bdev_now_ns() - from_ns >= 5 * NS_PER_SEC);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* One that does not answer is given up in time. */
	target_signal(SIGSTOP);
	from_ns = bdev_now_ns();
	assert_int_equal(bdev_sync_cmd(s, &OP(LUN_RESET), NULL, NULL), LUN_UNKNOWN);
	assert_true(bdev_now_ns() - from_ns < 4 * NS_PER_SEC);
	target_signal(SIGCONT);
	bdev_sync_close(s);
	ends(&u, &v);
}

static void what_an_earlier_session_has_seen_is_known(void **state)
{
	struct user u, v;

	(void)state;
	if (!have_target)
		skip();
	victim_is_seen_and_goes(&u, &v, 3);
	bdev_close(u.b);
	assert_true(user_open(&u, LIAR_URL, US, 0));
	assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
	assert_int_equal(liar.logins, 1);
	assert_memory_equal(liar.login_isid, victim_isid, 6);
	ends(&u, &v);
}

static void our_own_sessions_are_left_alone(void **state)
{
	struct user u, v, own;
	char name[224], port[256];

	(void)state;
	if (!have_target)
		skip();
	victim_is_seen_and_goes(&u, &v, 4);
	assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
	port_of(US, 1, name, port);
	liar.login_of = name;
	assert_true(user_open(&own, LIAR_URL, US, 1));
	registered(2, 0);
	assert_int_equal(user_do(&u, OP(LUN_PR_READ_KEYS)), LUN_OK);
	registered(1, 0);
	liar.logins = 0;
	assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
	assert_int_equal(liar.logins, 0);
	while (user_cmd(&own, OP(LUN_TEST)) != LUN_OK)
		;
	assert_false(own.down);
	bdev_close(own.b);
	ends(&u, &v);
}

static void who_lets_us_not_in_has_no_barrier(void **state)
{
	struct bdev_req reset = {.cmd = OP(LUN_RESET)};
	struct user u, v;

	(void)state;
	if (!have_target)
		skip();
	victim_is_seen_and_goes(&u, &v, 5);
	liar.login_refused = 0x0201;
	user_send(&u, &reset);
	assert_true(user_wait(&u, &reset, 3000));
	assert_int_equal(reset.status, LUN_UNSUPPORTED);
	assert_non_null(strstr(reset.text, "no login in the place of "));
	assert_non_null(strstr(reset.text, victim_name));
	assert_non_null(strstr(reset.text, "Authentication failure"));
	assert_int_equal(liar.resets, 0);
	assert_false(v.down);
	/* A connection that is lost says nothing. */
	liar.login_refused = LIAR_HANGS_UP;
	liar.logins = 0;
	user_send(&u, &reset);
	assert_false(user_wait(&u, &reset, 1000));
	assert_true(liar.logins > 1 && liar.logins < 20);
	/* "Just now": it is tried again. */
	liar.login_refused = 0x0301;
	liar.logins = 0;
	assert_false(user_wait(&u, &reset, 1000));
	assert_true(liar.logins > 1);
	liar.login_refused = 0;
	assert_true(user_wait(&u, &reset, 3000));
	assert_int_equal(reset.status, LUN_OK);
	ends(&u, &v);
}

/* (The last of all: rule 3 of iscsi_nexus.h is for as long as the process lives.) */
static void without_a_list_of_who_is_there_there_is_no_barrier(void **state)
{
	struct bdev_req reset = {.cmd = OP(LUN_RESET)};
	struct user u, v;

	(void)state;
	if (!have_target)
		skip();
	victim_is_seen_and_goes(&u, &v, 6);
	liar.full[8 + 20] = 1; /* a TransportID that is longer than the answer */
	user_send(&u, &reset);
	assert_true(user_wait(&u, &reset, 3000));
	assert_int_equal(reset.status, LUN_UNSUPPORTED);
	assert_non_null(strstr(reset.text, "READ FULL STATUS"));
	assert_int_equal(liar.logins + liar.resets, 0);
	registered(1, 0);
	assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
	assert_int_equal(liar.logins, 1);
	/* Beside the keys: the reset's own will not show who was there. */
	liar.full[8 + 20] = 1;
	assert_int_equal(user_do(&u, OP(LUN_PR_READ_KEYS)), LUN_OK);
	registered(1, 0);
	user_send(&u, &reset);
	assert_true(user_wait(&u, &reset, 3000));
	assert_int_equal(reset.status, LUN_UNSUPPORTED);
	assert_non_null(strstr(reset.text, "remember"));
	ends(&u, &v);
}

static void a_target_that_dies_meanwhile_is_noticed(void **state)
{
	struct bdev_req reset = {.cmd = OP(LUN_RESET)};
	struct user u, v;

	(void)state;
	if (!have_target)
		skip();
	victim_is_seen_and_goes(&u, &v, 7);
	liar.login_waits = true;
	user_send(&u, &reset);
	assert_false(user_wait(&u, &reset, 300));
	target_signal(SIGSTOP);
	assert_false(user_wait(&u, &reset, 2000));
	assert_true(bdev_now_ns() - bdev_oldest_ns(u.b) > NS_PER_SEC);
	/* Given up: nothing of it comes back. */
	bdev_close(u.b);
	assert_true(user_ended(&reset));
	assert_int_equal(reset.status, LUN_UNKNOWN);
	target_signal(SIGCONT);
	liar.login_waits = false;
	assert_true(user_open(&u, LIAR_URL, US, 0));
	assert_int_equal(user_do(&u, OP(LUN_RESET)), LUN_OK);
	ends(&u, &v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reset_waits_for_a_login_in_the_place_of_who_is_gone),
		cmocka_unit_test(a_tool_waits_as_long_as_the_target_answers),
		cmocka_unit_test(what_an_earlier_session_has_seen_is_known),
		cmocka_unit_test(our_own_sessions_are_left_alone),
		cmocka_unit_test(who_lets_us_not_in_has_no_barrier),
		cmocka_unit_test(a_target_that_dies_meanwhile_is_noticed),
		cmocka_unit_test(without_a_list_of_who_is_there_there_is_no_barrier),
	};
	int failed;

	have_target = target_up();
	if (have_target)
		liar_start();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (have_target) {
		liar_stop();
		target_down();
	}
	return failed;
}
