/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file that the node has open is opened once more: when is the coordinator asked, and what if that takes long (node_reopen.c)? */
#include <errno.h>
#include <string.h>

#include "coordinator/takeover_priv.h"
#include "tests/unit/node_alone.h"

#define INO 7

static struct member_node *self;

/* It has the file open once. It is its own coordinator, which the test plays. */
static int setup(void **state)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO};

	(void)state;
	node_alone();
	n->tk->state = TK_SERVE;
	client_serve_local(n->client);
	self = &n->member.nodes[0];
	assert_int_equal(self->node, 1);
	self->member = self->answered = true;
	node_file_open(n, 1, &rq, &fx);
	node_alone_answer(FS_OPEN, INO, 0);
	effects_reset(&fx);
	return 0;
}

static void open_as(uint64_t tag)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO};

	node_file_open(n, tag, &rq, &fx);
}

static void somebody_leaves(void)
{
	n->member.departures++;
}

static bool nothing_is_asked(void)
{
	uint64_t wire_tag;

	return !client_next_local(n->client, &wire_tag);
}

/* 1: not answered. */
static int32_t answer_of(uint64_t tag)
{
	for (uint32_t i = 0; i < fx.count; i++) {
		if (fx.fx[i].type == FX_REPLY && fx.fx[i].tag == tag)
			return fx.fx[i].reply->err;
	}
	return 1;
}

static uint32_t opens(void)
{
	return node_file_find(n, INO)->opens;
}

static void while_all_stay_nobody_is_asked(void **state)
{
	(void)state;
	open_as(2);
	assert_int_equal(answer_of(2), 0);
	assert_true(nothing_is_asked());
}

static void when_somebody_has_left_the_coordinator_is_asked_once(void **state)
{
	(void)state;
	somebody_leaves();
	open_as(2);
	open_as(3);
	assert_int_equal(answer_of(2), 1);
	assert_int_equal(opens(), 1);
	node_alone_answer(FS_OPEN, INO, 0);
	assert_int_equal(answer_of(2) | answer_of(3), 0);
	assert_int_equal(opens(), 3);
	open_as(4);
	assert_int_equal(answer_of(4), 0);
	assert_true(nothing_is_asked());
}

/* It may answer what it is asked then as if nobody had left. */
static void not_before_it_knows_as_well(void **state)
{
	(void)state;
	self->answered = false;
	somebody_leaves();
	open_as(2);
	node_reopen_step(n, &fx);
	assert_true(nothing_is_asked());
	self->answered = true;
	node_reopen_step(n, &fx);
	node_alone_answer(FS_OPEN, INO, 0);
	assert_int_equal(answer_of(2), 0);
}

static void once_more_if_another_one_leaves(void **state)
{
	(void)state;
	somebody_leaves();
	open_as(2);
	somebody_leaves();
	node_alone_answer(FS_OPEN, INO, 0);
	assert_int_equal(answer_of(2), 1);
	node_alone_answer(FS_OPEN, INO, 0);
	assert_int_equal(answer_of(2), 0);
}

static void first_open_as_well(void **state)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO + 1};

	(void)state;
	self->answered = false;
	somebody_leaves();
	node_file_open(n, 2, &rq, &fx);
	node_alone_answer(FS_OPEN, INO + 1, 0);
	assert_int_equal(answer_of(2), 1);
	assert_true(nothing_is_asked());
	self->answered = true;
	node_reopen_step(n, &fx);
	node_alone_answer(FS_OPEN, INO + 1, 0);
	assert_int_equal(answer_of(2), 0);
	assert_int_equal(node_file_find(n, INO + 1)->opens, 1);
}

/* Behind a CLOSE the coordinator would have it open for good. */
static void it_is_not_closed_meanwhile(void **state)
{
	(void)state;
	somebody_leaves();
	open_as(2);
	node_file_close_one(n, INO, &fx);
	assert_int_equal(node_file_find(n, INO)->st, FILE_OPEN);
	assert_true(node_file_cancel(n, 2, &fx));
	assert_int_equal(answer_of(2), -EINTR);
	node_alone_answer(FS_OPEN, INO, 0);
	assert_int_equal(node_file_find(n, INO)->st, FILE_CLOSING);
}

static void nor_when_the_mount_is_gone(void **state)
{
	(void)state;
	somebody_leaves();
	open_as(2);
	assert_true(node_file_cancel(n, 2, &fx));
	node_file_close_all(n, &fx);
	assert_int_equal(node_file_find(n, INO)->st, FILE_OPEN);
	node_alone_answer(FS_OPEN, INO, 0);
	assert_int_equal(node_file_find(n, INO)->st, FILE_CLOSING);
}

/* Who waits until it may be asked closes nothing that others have open, and what is open for nobody is closed. */
static void who_is_killed_before_leaves_nothing_open(void **state)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO + 1};

	(void)state;
	self->answered = false;
	somebody_leaves();
	open_as(2);
	node_file_open(n, 3, &rq, &fx);
	node_alone_answer(FS_OPEN, INO + 1, 0);
	assert_true(node_file_cancel(n, 2, &fx) && node_file_cancel(n, 3, &fx));
	self->answered = true;
	node_reopen_step(n, &fx);
	node_alone_answer(FS_OPEN, INO + 1, 0);
	assert_int_equal(node_file_find(n, INO + 1)->st, FILE_CLOSING);
	assert_int_equal(node_file_find(n, INO)->st, FILE_OPEN);
	assert_true(nothing_is_asked());
}

static void an_error_is_of_who_asked(void **state)
{
	(void)state;
	somebody_leaves();
	open_as(2);
	node_alone_answer(FS_OPEN, INO, -EIO);
	assert_int_equal(answer_of(2), -EIO);
	assert_int_equal(opens(), 1);
	open_as(3);
	node_alone_answer(FS_OPEN, INO, 0);
	assert_int_equal(answer_of(3), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(while_all_stay_nobody_is_asked, setup),
		cmocka_unit_test_setup(when_somebody_has_left_the_coordinator_is_asked_once, setup),
		cmocka_unit_test_setup(not_before_it_knows_as_well, setup),
		cmocka_unit_test_setup(once_more_if_another_one_leaves, setup),
		cmocka_unit_test_setup(first_open_as_well, setup),
		cmocka_unit_test_setup(it_is_not_closed_meanwhile, setup),
		cmocka_unit_test_setup(nor_when_the_mount_is_gone, setup),
		cmocka_unit_test_setup(who_is_killed_before_leaves_nothing_open, setup),
		cmocka_unit_test_setup(an_error_is_of_who_asked, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
