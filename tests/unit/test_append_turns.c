/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which requests wait for an append that is under way (node_append.c, rules 2 and 5). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "csvfs/node_int.h"

static struct lease_ino li;
static struct sreq s[3];

static bool waits(uint32_t i, uint32_t idx, enum fs_op op, uint32_t valid)
{
	s[i].idx = idx;
	s[i].vr.rq.op = op;
	s[i].vr.rq.valid = valid;
	s[i].id = s[i].vr.rq.id = (struct fs_reqid){.node = idx + 1, .slot = i + 1, .life = 1, .seq = 1};
	list_add_tail(&s[i].waiting, &li.waiting);
	return node_append_waits(&li, &s[i]);
}

static int setup(void **state)
{
	memset(&li, 0, sizeof(li));
	memset(s, 0, sizeof(s));
	list_init(&li.waiting);
	list_init(&li.appends.waiting);
	/* Node 2 has been told that it appends at 100, and has not said that it is over. */
	li.appends.idx = 1;
	li.appends.count = 1;
	li.appends.told[0].off = 100;
	li.appends.told[0].idx = 1;
	li.appends.told[0].id = (struct fs_reqid){.node = 2, .slot = 9, .life = 1, .seq = 1};
	return 0;
}

static void append_of_another_node_waits(void **state)
{
	assert_true(waits(0, 0, FS_APPEND, 0));
	assert_false(waits(1, 0, FS_GETATTR, 0));
}

static void truncation_of_another_node_waits(void **state)
{
	assert_true(waits(0, 0, FS_SETATTR, FS_SET_SIZE));
	assert_false(waits(1, 0, FS_SETATTR, FS_SET_MODE));
	/* Its own kernel sees to it that the two do not meet. */
	assert_false(waits(2, 1, FS_SETATTR, FS_SET_SIZE));
}

/* Else one that appends all the time would keep it out for ever. */
static void next_append_waits_behind_a_truncation(void **state)
{
	assert_false(waits(0, 1, FS_APPEND, 0));
	assert_true(waits(1, 0, FS_SETATTR, FS_SET_SIZE));
	assert_true(waits(2, 1, FS_APPEND, 0));
	/* But not what was told before: the truncation waits for that. */
	s[2].id = li.appends.told[0].id;
	list_del(&s[2].waiting);
	list_add_tail(&s[2].waiting, &li.waiting);
	assert_false(node_append_waits(&li, &s[2]));
}

/* Its node may still write there, once it has a layout: who appends behind a truncation would have it over its data. */
static void who_is_late_is_waited_for_by_a_change_of_the_size_alone(void **state)
{
	li.appends.told[0].late = true;
	assert_false(waits(0, 0, FS_LAYOUT_GET, 0));
	assert_false(waits(1, 0, FS_APPEND, 0));
	assert_true(waits(2, 0, FS_SETATTR, FS_SET_SIZE));
	/* It asks again, having heard nothing, and takes its turn with who appends by now. */
	node_append_placing(&li, &s[1]);
	s[0].idx = 1;
	s[0].vr.rq.op = FS_APPEND;
	s[0].id = li.appends.told[0].id;
	assert_true(node_append_waits(&li, &s[0]));
}

/* The truncation waits for the place that is late; its node, which has heard nothing of it, must hear: else both wait for ever. */
static void who_is_late_and_asks_again_does_not_wait_behind_a_truncation(void **state)
{
	li.appends.told[0].late = true;
	assert_true(waits(0, 0, FS_SETATTR, FS_SET_SIZE));
	s[1].idx = 1;
	s[1].vr.rq.op = FS_APPEND;
	s[1].id = li.appends.told[0].id;
	list_add_tail(&s[1].waiting, &li.waiting);
	assert_false(node_append_waits(&li, &s[1]));
}

/* In the engine one may have to wait for something, and the next one not: of a large asynchronous write the pieces would be swapped. */
static void appends_of_one_node_go_to_the_engine_one_after_the_other(void **state)
{
	assert_false(waits(0, 1, FS_APPEND, 0));
	node_append_placing(&li, &s[0]);
	assert_true(waits(1, 1, FS_APPEND, 0));
	assert_true(waits(2, 1, FS_APPEND, 0));
	li.appends.placing--;
	list_del(&s[1].waiting);
	list_del(&s[2].waiting);
	list_add_tail(&s[1].waiting, &li.waiting);
	assert_false(node_append_waits(&li, &s[1]));
}

/* It came twice: in between the file was made shorter, and the node appends at the same place once more. */
static void what_is_over_is_told_by_the_version(void **state)
{
	static struct node n;

	s[0].idx = 1;
	s[0].vr.rq = (struct fs_request){.op = FS_APPENDED, .off = 100, .attr.version = 6};
	li.appends.told[0].version = 7;
	node_append_over(&n, &li, &s[0]);
	assert_int_equal(li.appends.count, 1);
	s[0].vr.rq.attr.version = 7;
	node_append_over(&n, &li, &s[0]);
	assert_int_equal(li.appends.count, 0);
}

static struct node *coordinator(void)
{
	static uint8_t region[1 << 24] __attribute__((aligned(4096)));
	static struct node n;
	static struct mem mem;
	static struct trace silent;

	memset(&n, 0, sizeof(n));
	mem_init(&mem, region, sizeof(region));
	n.mem = &mem;
	n.trace = &silent;
	n.cfg.recall_ns = 10 * NS_PER_SEC;
	n.now_ns = NS_PER_SEC;
	n.append_deadline_ns = NEVER;
	lease_init(&n.leases, &mem);
	n.peers_end = 3;
	for (uint32_t i = 0; i < 3; i++)
		n.peers[i] = (struct peer){.node = i + 1, .life = 1};
	lease_get(&n.leases, 77)->open_mask = 7;
	return &n;
}

/* Node 1 was late when node 2 was told its place. A new coordinator hears of both in any order: it is not node 2 for whom nobody waits any more. */
static void who_was_late_is_told_by_the_places(void **state)
{
	const struct msg_append at[2] = {{.ino = 77, .off = 100, .version = 5}, {.ino = 77, .off = 200, .version = 5}};

	for (uint32_t first = 0; first < 2; first++) {
		struct node *n = coordinator();
		struct lease_ino *li = lease_find(&n->leases, 77);

		setup(state);
		node_append_reclaimed(n, &n->peers[first], &at[first]);
		node_append_reclaimed(n, &n->peers[!first], &at[!first]);
		s[0].vr.rq = (struct fs_request){.op = FS_APPENDED, .ino = 77, .off = 100, .attr.version = 5};
		node_append_over(n, li, &s[0]);
		assert_int_equal(li->appends.count, 1);
		assert_false(li->appends.told[0].late);
		s[2].idx = 2;
		s[2].vr.rq = (struct fs_request){.op = FS_LAYOUT_GET, .ino = 77, .off = 200, .len = 100};
		list_add_tail(&s[2].waiting, &li->waiting);
		assert_true(node_append_waits(li, &s[2]));
		list_del(&s[2].waiting);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(append_of_another_node_waits, setup),
		cmocka_unit_test_setup(truncation_of_another_node_waits, setup),
		cmocka_unit_test_setup(who_is_late_is_waited_for_by_a_change_of_the_size_alone, setup),
		cmocka_unit_test_setup(next_append_waits_behind_a_truncation, setup),
		cmocka_unit_test_setup(who_is_late_and_asks_again_does_not_wait_behind_a_truncation, setup),
		cmocka_unit_test_setup(appends_of_one_node_go_to_the_engine_one_after_the_other, setup),
		cmocka_unit_test_setup(what_is_over_is_told_by_the_version, setup),
		cmocka_unit_test_setup(who_was_late_is_told_by_the_places, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
