/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A target may end a write before it has the data (RFC 7143, 11.4), and while the data of others is sent: with UNIT ATTENTION
 * after another node's LUN reset, with BUSY, TASK SET FULL, TASK ABORTED.
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

#define MANY 64
#define LONG (1u << 20)

static bool have_target;
static uint8_t back[4096];
static struct user u;
static struct bdev_req w[MANY];

#define READ_AT(o) ((struct lun_cmd){.op = LUN_READ, .off = (o), .len = 4096, .buf = back})

static const struct lie attention = {"BUS DEVICE RESET OCCURRED", 2, {0x70, 0, 6, [7] = 10, [12] = 0x29, [13] = 0x03}, 18, LUN_RETRY};
static const struct lie busy = {"BUSY", 0x08, {0}, 0, LUN_RETRY};

/* A session whose socket is full soon. */
static bool log_in(const char *url)
{
	int bytes = 4096;

	return user_open(&u, url, 1, 0) && user_do(&u, READ_AT(0)) == LUN_OK &&
	       !setsockopt(bdev_fd(u.b), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static int set_up(void **state)
{
	(void)state;
	if (!have_target)
		return 0;
	liar_start();
	return log_in(LIAR_URL) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	if (!have_target)
		return 0;
	liar.hold = false;
	liar.slow_us = 0;
	liar.lie = NULL;
	liar.early = 0;
	liar.refuse = 0;
	bdev_close(u.b);
	liar_stop();
	return 0;
}

/* Each has memory of its own, which is gone when the write has ended. */
static void ended(struct bdev_req *r)
{
	memset(r->cmd.buf, 0xee, r->cmd.len);
	free(r->cmd.buf);
	r->cmd.buf = NULL;
	user_done(r);
}

static void submit(unsigned n, uint64_t bytes)
{
	for (unsigned i = 0; i < n; i++) {
		w[i] = (struct bdev_req){.cmd = {.op = LUN_WRITE, .off = i % 32 * bytes, .len = bytes}, .done = ended};
		w[i].cmd.buf = malloc(bytes);
		assert_non_null(w[i].cmd.buf);
		memset(w[i].cmd.buf, (int)i, bytes);
		bdev_submit(u.b, &w[i]);
	}
	(void)bdev_service(u.b, POLLOUT);
}

static unsigned count(unsigned n, enum lun_status status)
{
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++)
		found += user_ended(&w[i]) && w[i].status == status;
	return found;
}

static void wait_all(unsigned n)
{
	uint64_t end = bdev_now_ns() + 20 * NS_PER_SEC;

	for (unsigned i = 0; i < n; i++)
		while (!user_ended(&w[i]) && bdev_now_ns() < end)
			user_turn(&u, 5);
}

static void turns(uint64_t ms)
{
	uint64_t end = bdev_now_ns() + ms * NS_PER_MS;

	while (bdev_now_ns() < end || liar.early)
		user_turn(&u, 10);
}

#define NEED_TARGET()                                                                              \
	do {                                                                                       \
		if (!have_target)                                                                  \
			skip();                                                                    \
	} while (0)

/* The answered one has all its data there; what is half sent is another's. */
static void a_write_that_is_refused_while_others_are_sent_ends_alone(void **state)
{
	const struct lie *const lies[] = {&attention, &busy};

	(void)state;
	NEED_TARGET();
	liar.wait_ms = 200;
	for (int i = 0; i < 2; i++) {
		liar.once = true;
		liar.lie = lies[i];
		submit(8, LONG);
		wait_all(8);
		assert_string_equal(bdev_text(u.b), "");
		assert_int_equal(count(8, LUN_RETRY), 1);
		assert_int_equal(count(8, LUN_OK), 7);
	}
	assert_int_equal(user_do(&u, READ_AT(0)), LUN_OK);
	assert_false(u.down);
}

/* Others take its place again and again: what is queued never gets less. */
static unsigned left;

static void send_again(struct bdev_req *r)
{
	if (r->status == LUN_OK && left) {
		left--;
		bdev_submit(u.b, r);
	} else {
		ended(r);
	}
}

static void a_refused_write_ends_though_the_queue_is_never_empty(void **state)
{
	unsigned left_then = 0;

	(void)state;
	NEED_TARGET();
	liar.wait_ms = 200;
	liar.once = true;
	liar.lie = &busy;
	liar.slow_us = 3000;
	left = 200;
	submit(16, LONG / 8);
	for (unsigned i = 0; i < 16; i++)
		w[i].done = send_again;
	while (left && !u.down && bdev_now_ns() - bdev_oldest_ns(u.b) < 10 * NS_PER_SEC) {
		user_turn(&u, 5);
		if (!left_then && count(16, LUN_RETRY))
			left_then = left;
	}
	wait_all(16);
	assert_string_equal(bdev_text(u.b), "");
	assert_int_equal(count(16, LUN_RETRY), 1);
	assert_int_equal(count(16, LUN_OK), 15);
	assert_true(left_then > 100);
}

/* The data of the answered one itself is half sent. It is sent to the end, from memory that is still there. */
static void a_write_that_ends_while_its_data_is_sent_waits_for_that(void **state)
{
	uint64_t start = bdev_now_ns();

	(void)state;
	NEED_TARGET();
	liar.wait_ms = 200;
	liar.hold = true;
	liar.early = 0x40; /* TASK ABORTED */
	submit(1, LONG);
	turns(600);
	/* Who does not take it shows in the age of the oldest command. */
	assert_false(user_ended(&w[0]));
	assert_true(bdev_oldest_ns(u.b) >= start && bdev_oldest_ns(u.b) < bdev_now_ns());
	liar.hold = false;
	wait_all(1);
	assert_int_equal(count(1, LUN_RETRY), 1);
	assert_int_equal(user_do(&u, READ_AT(0)), LUN_OK);
	assert_false(u.down);
}

static void a_session_may_be_closed_before_that(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.wait_ms = 200;
	liar.hold = true;
	liar.early = 0x08;
	submit(4, LONG);
	turns(600);
	assert_int_equal(count(4, LUN_RETRY), 0);
	bdev_close(u.b);
	assert_int_equal(count(4, LUN_UNKNOWN), 4);
	u.b = NULL;
}

static void a_write_that_ends_before_its_data_is_sent_waits_for_that(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.wait_ms = 0;
	liar.early = 0x40;
	submit(1, 96 << 10);
	wait_all(1);
	assert_int_equal(count(1, LUN_RETRY), 1);
	assert_int_equal(user_do(&u, READ_AT(0)), LUN_OK);
	assert_false(u.down);
}

/* Of commands with their data in them, the last one that has begun is half sent: it is another one. */
static void commands_before_the_half_sent_one_may_be_refused(void **state)
{
	(void)state;
	NEED_TARGET();
	liar.wait_ms = 200;
	liar.refuse = 4;
	submit(MANY, 8192);
	wait_all(MANY);
	assert_string_equal(bdev_text(u.b), "");
	assert_int_equal(count(MANY, LUN_RETRY), 4);
	assert_int_equal(count(MANY, LUN_OK), MANY - 4);
	assert_false(u.down);
}

/* The target waits for the rest of a command that is forgotten: nothing may be sent any more. */
static void the_half_sent_one_may_not(void **state)
{
	struct bdev_req next = {.cmd = READ_AT(0)};

	(void)state;
	NEED_TARGET();
	liar.wait_ms = 200;
	liar.hold = true;
	liar.refuse = MANY;
	submit(MANY, 8192);
	wait_all(MANY);
	/* (While the answers arrive, the socket may take more: then those before it have ended.) */
	assert_int_equal(count(MANY, LUN_UNKNOWN) + count(MANY, LUN_RETRY), MANY);
	assert_string_equal(bdev_text(u.b), "the target ended a write before it had the whole command");
	assert_true(u.down);
	user_send(&u, &next);
	assert_true(user_ended(&next));
}

/* tgtd itself, whose LUN another node resets again and again: UNIT ATTENTION each time. */
static unsigned attentions;

static void send_on(struct bdev_req *r)
{
	attentions += r->status == LUN_RETRY;
	if ((r->status == LUN_OK || r->status == LUN_RETRY) && left)
		bdev_submit(u.b, r);
	else
		ended(r);
}

static void resets_by_another_node_end_no_session(void **state)
{
	struct bdev_req reset = {.cmd = {.op = LUN_RESET}};
	struct user other;

	(void)state;
	NEED_TARGET();
	bdev_close(u.b);
	assert_true(log_in(TARGET_URL));
	assert_true(user_open(&other, TARGET_URL, 2, 0));
	left = 20;
	attentions = 0;
	submit(16, LONG);
	for (unsigned i = 0; i < 16; i++)
		w[i].done = send_on;
	for (; left && !u.down; left--) {
		uint64_t end = bdev_now_ns() + 50 * NS_PER_MS;

		user_send(&other, &reset);
		while (!u.down && (!user_ended(&reset) || bdev_now_ns() < end)) {
			user_turn(&u, 1);
			user_turn(&other, 0);
		}
	}
	left = 0;
	wait_all(16);
	bdev_close(other.b);
	assert_string_equal(bdev_text(u.b), "");
	assert_int_equal(count(16, LUN_UNKNOWN), 0);
	assert_true(attentions > 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_write_that_is_refused_while_others_are_sent_ends_alone),
		TEST(a_refused_write_ends_though_the_queue_is_never_empty),
		TEST(a_write_that_ends_while_its_data_is_sent_waits_for_that),
		TEST(a_session_may_be_closed_before_that),
		TEST(a_write_that_ends_before_its_data_is_sent_waits_for_that),
		TEST(commands_before_the_half_sent_one_may_be_refused),
		TEST(the_half_sent_one_may_not),
		TEST(resets_by_another_node_end_no_session),
	};
	int failed;

	have_target = target_up();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (have_target)
		target_down();
	return failed;
}
