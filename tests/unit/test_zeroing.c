/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the target answers as the coordinator zeroes the rest of a cluster before a file's size is set (node_size.c): a place that it
 * refuses is that file's trouble, as on the data path (rule 7 of dp.h), and takes nobody's path.
 */
#include <errno.h>
#include <string.h>

#include "tests/unit/node_alone.h"

#define INO 7
#define OTHER 2

static struct sreq *asked;
static struct lease_ino *li;

static int setup(void **state)
{
	(void)state;
	node_alone();
	node_alone_session(OTHER);
	n->path.st = PST_UP;
	li = lease_get(&n->leases, INO);
	li->exclusive = true;
	asked = mem_alloc(&mem, sizeof(*asked));
	memset(asked, 0, sizeof(*asked));
	asked->node = OTHER;
	asked->id = (struct fs_reqid){.node = OTHER, .life = 5, .slot = 1, .seq = 1};
	asked->lun_tag = 77;
	asked->vr.rq = (struct fs_request){.op = FS_LAYOUT_GET, .ino = INO};
	asked->asked.op = FS_SETATTR;
	list_add_tail(&asked->link, &n->sreqs);
	list_init(&asked->waiting);
	return 0;
}

static void answered(enum sreq_stage stage, enum lun_status status)
{
	struct event ev = {.type = EV_LUN_DONE, .tag = 77, .lun.status = status};

	asked->stage = stage;
	assert_true(node_size_lun_done(n, &ev, &fx));
}

static void fails(enum sreq_stage stage, enum lun_status status, int32_t err)
{
	static struct wire_room room;
	struct msg m;

	answered(stage, status);
	assert_int_equal(fx.count, 1);
	assert_int_equal(wire_decode(&m, fx.fx[0].net.bytes, fx.fx[0].net.len, &room), 0);
	assert_int_equal(m.type, MSG_REPLY);
	assert_int_equal(m.reply.op, FS_SETATTR);
	assert_int_equal(m.reply.r.err, err);
	assert_true(list_empty(&n->sreqs));
	assert_false(li->exclusive);
	assert_int_equal(n->path.st, PST_UP);
}

static void a_bad_place(void **state)
{
	(void)state;
	fails(SREQ_ZERO_READ, LUN_MEDIUM, -EIO);
}

static void a_place_that_the_target_will_not_read(void **state)
{
	(void)state;
	fails(SREQ_ZERO_READ, LUN_UNSUPPORTED, -EIO);
}

static void a_place_that_the_target_will_not_write(void **state)
{
	(void)state;
	fails(SREQ_ZERO_WRITE, LUN_UNSUPPORTED, -EIO);
}

static void a_place_that_is_write_protected(void **state)
{
	(void)state;
	fails(SREQ_ZERO_WRITE, LUN_PROTECTED, -EROFS);
}

static void no_space(void **state)
{
	(void)state;
	fails(SREQ_ZERO_WRITE, LUN_NOSPACE, -ENOSPC);
}

static void an_unknown_write_is_a_lost_path_and_asked_again_elsewhere(void **state)
{
	(void)state;
	answered(SREQ_ZERO_WRITE, LUN_UNKNOWN);
	assert_int_not_equal(n->path.st, PST_UP);
	assert_false(list_empty(&n->sreqs));
}

/* It is sent again after a pause, as often as it is refused. False: it is sent no more. */
static bool refused_once_more(enum sreq_stage stage, enum lun_status status)
{
	struct event ev = {.type = EV_LUN_DONE, .tag = asked->lun_tag, .lun.status = status};
	uint64_t pause_ns;

	asked->stage = stage;
	assert_true(node_size_lun_done(n, &ev, &fx));
	if (list_empty(&n->sreqs) || n->path.st != PST_UP)
		return false;
	assert_int_equal(fx.count, 0);
	pause_ns = node_size_deadline(n) - n->now_ns;
	assert_in_range(pause_ns, NS_PER_MS, NS_PER_SEC);
	node_size_step(n, &fx);
	assert_int_equal(fx.count, 0);
	n->now_ns += pause_ns;
	node_size_step(n, &fx);
	assert_int_equal(fx.count, 1);
	assert_int_equal(fx.fx[0].lun.op, stage == SREQ_ZERO_READ ? LUN_READ : LUN_WRITE);
	assert_true(node_size_deadline(n) == NEVER);
	effects_reset(&fx);
	return true;
}

static void what_is_refused_for_now_is_sent_again_after_a_pause(void **state)
{
	(void)state;
	assert_true(refused_once_more(SREQ_ZERO_READ, LUN_RETRY));
	assert_true(refused_once_more(SREQ_ZERO_WRITE, LUN_RETRY));
	assert_int_equal(n->path.st, PST_UP);
}

static void what_is_refused_for_seconds_is_a_lost_path(void **state)
{
	(void)state;
	while (refused_once_more(SREQ_ZERO_WRITE, LUN_RETRY))
		assert_true(n->now_ns < 8 * NS_PER_SEC);
	assert_true(n->now_ns > 4 * NS_PER_SEC);
	assert_int_not_equal(n->path.st, PST_UP);
	assert_false(list_empty(&n->sreqs));
}

static void what_fails_behind_the_target_is_an_error_in_the_end_and_no_lost_path(void **state)
{
	(void)state;
	asked->zero_since_ns = n->now_ns;
	while (refused_once_more(SREQ_ZERO_READ, LUN_FAILING))
		assert_true(n->now_ns < 8 * NS_PER_SEC);
	assert_true(n->now_ns > 4 * NS_PER_SEC);
	assert_int_equal(n->path.st, PST_UP);
	assert_true(list_empty(&n->sreqs));
	assert_false(li->exclusive);
}

/* Then that one failure is an error of the place no more than of the path, which had its time. */
static void what_was_refused_before_does_not_count_as_failing(void **state)
{
	(void)state;
	asked->zero_since_ns = n->now_ns;
	for (uint64_t began_ns = n->now_ns; n->now_ns - began_ns < 4990 * NS_PER_MS;)
		assert_true(refused_once_more(SREQ_ZERO_WRITE, LUN_RETRY));
	n->now_ns += 100 * NS_PER_MS;
	assert_false(refused_once_more(SREQ_ZERO_WRITE, LUN_FAILING));
	assert_int_not_equal(n->path.st, PST_UP);
	assert_false(list_empty(&n->sreqs));
}

static void a_read_that_failed_for_seconds_leaves_the_write_its_time(void **state)
{
	(void)state;
	asked->zero_buf = mem_alloc(&mem, CLUSTER_MAX);
	asked->zero_since_ns = n->now_ns;
	for (uint64_t began_ns = n->now_ns; n->now_ns - began_ns < 4 * NS_PER_SEC;)
		assert_true(refused_once_more(SREQ_ZERO_READ, LUN_FAILING));
	{
		struct event ev = {.type = EV_LUN_DONE, .tag = asked->lun_tag, .lun.status = LUN_OK};

		asked->stage = SREQ_ZERO_READ;
		assert_true(node_size_lun_done(n, &ev, &fx));
		assert_int_equal(asked->stage, SREQ_ZERO_WRITE);
		effects_reset(&fx);
	}
	for (uint64_t began_ns = n->now_ns; n->now_ns - began_ns < 4 * NS_PER_SEC;)
		assert_true(refused_once_more(SREQ_ZERO_WRITE, LUN_FAILING));
	assert_int_equal(n->path.st, PST_UP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_bad_place, setup),
		cmocka_unit_test_setup(a_place_that_the_target_will_not_read, setup),
		cmocka_unit_test_setup(a_place_that_the_target_will_not_write, setup),
		cmocka_unit_test_setup(a_place_that_is_write_protected, setup),
		cmocka_unit_test_setup(no_space, setup),
		cmocka_unit_test_setup(an_unknown_write_is_a_lost_path_and_asked_again_elsewhere, setup),
		cmocka_unit_test_setup(what_is_refused_for_now_is_sent_again_after_a_pause, setup),
		cmocka_unit_test_setup(what_is_refused_for_seconds_is_a_lost_path, setup),
		cmocka_unit_test_setup(what_was_refused_before_does_not_count_as_failing, setup),
		cmocka_unit_test_setup(a_read_that_failed_for_seconds_leaves_the_write_its_time, setup),
		cmocka_unit_test_setup(what_fails_behind_the_target_is_an_error_in_the_end_and_no_lost_path, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
