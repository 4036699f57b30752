/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What iscsi_sent.c concludes from the lengths of libiscsi's lists, which are the test's. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <iscsi/iscsi.h>

#include "csvfs/iscsi_sent.h"

static struct {
	int queue, waiting; /* the two lists */
	bool half; /* one that has left the queue is half sent */
	bool window; /* the target takes no more commands */
	int takes, commands; /* what the socket takes next: so many leave the queue, the last of them commands */
	bool then_half;
	int err;
} lib;

int iscsi_which_events(struct iscsi_context *ctx)
{
	(void)ctx;
	return POLLIN | (lib.half || (lib.queue && !lib.window) ? POLLOUT : 0);
}

int iscsi_queue_length(struct iscsi_context *ctx)
{
	(void)ctx;
	return lib.queue + lib.waiting;
}

int iscsi_out_queue_length(struct iscsi_context *ctx)
{
	(void)ctx;
	return lib.queue;
}

int iscsi_service(struct iscsi_context *ctx, int revents)
{
	(void)ctx;
	assert_int_equal(revents, POLLOUT);
	assert_true(lib.half || lib.queue);
	lib.queue -= lib.takes;
	lib.waiting += lib.commands;
	lib.half = lib.then_half;
	return lib.err;
}

static struct iscsi_sent s;

static int start(void **state)
{
	(void)state;
	s = (struct iscsi_sent){0};
	lib.queue = lib.waiting = 0;
	lib.half = lib.window = false;
	lib.err = 0;
	return 0;
}

static void give(int commands)
{
	s.given += (uint64_t)commands;
	lib.queue += commands;
}

static void answer(int commands)
{
	s.answered += (uint64_t)commands;
	lib.waiting -= commands;
}

/* The target asks for data: so many pieces. */
static void ask(int pieces)
{
	lib.queue += pieces;
}

static void expect(int takes, int commands, bool then_half, uint64_t begun, uint64_t whole)
{
	lib.takes = takes;
	lib.commands = commands;
	lib.then_half = then_half;
	assert_int_equal(iscsi_sent_more(&s, NULL), 0);
	assert_int_equal(s.begun, begun);
	assert_int_equal(s.whole, whole);
}

static void the_last_one_that_has_begun_may_be_half_sent(void **state)
{
	(void)state;
	give(5);
	expect(3, 3, true, 3, 2);
	expect(0, 0, true, 3, 2);
	answer(2);
	expect(1, 1, true, 4, 3);
	expect(1, 1, false, 5, 5);
	answer(3);
	expect(0, 0, false, 5, 5);
}

static void data_that_is_sent_behind_it_says_that_it_is_not(void **state)
{
	(void)state;
	give(3);
	expect(2, 2, true, 2, 1);
	ask(4);
	/* Only data: the first piece has left when the command had been sent. */
	expect(1, 0, true, 2, 2);
	expect(2, 0, true, 2, 2);
	/* The last one of these two is the command. */
	expect(2, 1, true, 3, 2);
	ask(1);
	expect(0, 0, true, 3, 2);
	expect(1, 0, true, 3, 3);
}

static void what_is_beyond_the_window_has_not_begun(void **state)
{
	(void)state;
	give(4);
	lib.window = true;
	lib.queue = 2;
	lib.waiting = 2;
	expect(0, 0, false, 2, 2);
	answer(1);
	lib.window = false;
	expect(2, 2, false, 4, 4);
}

/* It waits for its answer as the commands do. (A flush that follows a write may be given meanwhile.) */
static void a_reset_is_no_command(void **state)
{
	(void)state;
	give(2);
	expect(2, 2, false, 2, 2);
	lib.queue++;
	s.task_mgmt = true;
	lib.takes = 1;
	lib.commands = 1;
	assert_int_equal(iscsi_sent_more(&s, NULL), 0);
	ask(2);
	give(1);
	expect(1, 0, true, 2, 2);
	expect(1, 0, true, 2, 2);
	expect(1, 1, false, 3, 3);
	s.task_mgmt = false;
	lib.waiting--;
	expect(0, 0, false, 3, 3);
	answer(3);
	give(1);
	expect(1, 1, true, 4, 3);
}

/* One that is still in the queue is taken for one that waits. */
static void what_has_begun_stays_so(void **state)
{
	(void)state;
	give(3);
	expect(3, 3, false, 3, 3);
	lib.queue++;
	s.task_mgmt = true;
	expect(0, 0, false, 3, 3);
	give(1);
	expect(0, 0, false, 3, 3);
	expect(1, 1, false, 3, 3);
	expect(1, 1, false, 4, 4);
}

static void a_lost_session_is_told(void **state)
{
	(void)state;
	give(1);
	lib.err = -1;
	lib.takes = lib.commands = 0;
	assert_int_equal(iscsi_sent_more(&s, NULL), -1);
	assert_int_equal(s.begun, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(the_last_one_that_has_begun_may_be_half_sent, start),
		cmocka_unit_test_setup(data_that_is_sent_behind_it_says_that_it_is_not, start),
		cmocka_unit_test_setup(what_is_beyond_the_window_has_not_begun, start),
		cmocka_unit_test_setup(a_reset_is_no_command, start),
		cmocka_unit_test_setup(what_has_begun_stays_so, start),
		cmocka_unit_test_setup(a_lost_session_is_told, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
