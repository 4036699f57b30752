/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When there is no space for a request (node_space.c): what others have ahead is taken back before it is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/takeover_priv.h"
#include "tests/unit/node_alone.h"

#define SIZE 65536u

static struct sreq asks[3];

/* A coordinator, and files 7 and 8, both of which have space ahead of a writer. */
static int setup(void **state)
{
	(void)state;
	node_alone();
	n->now_ns = 10 * NS_PER_SEC;
	n->tk->state = TK_SERVE;
	n->peers[0] = (struct peer){.node = 1, .life = 5};
	n->peers_end = 1;
	for (uint64_t ino = 7; ino <= 8; ino++) {
		struct lease_ino *li = lease_get(&n->leases, ino);

		assert_int_equal(lease_own(&n->leases, li, 0, 0, SIZE, false), 0);
	}
	memset(asks, 0, sizeof(asks));
	for (unsigned i = 0; i < 3; i++) {
		asks[i].node = 1;
		asks[i].id.life = 5;
		asks[i].vr.rq.op = FS_LAYOUT_GET;
		list_init(&asks[i].waiting);
	}
	return 0;
}

static uint32_t trims(bool round)
{
	uint32_t count = 0;

	list_for_each_entry (s, &n->sreqs, struct sreq, link)
		count += s->trim && s->round == round;
	return count;
}

static void what_a_dead_node_had_ahead_is_no_round(void **state)
{
	static struct sreq dead;

	(void)state;
	dead = (struct sreq){.trim = true};
	list_add_tail(&dead.link, &n->sreqs);
	assert_true(node_space_wait(n, &asks[0], &fx));
	assert_int_equal(trims(true), 2);
	/* Asked again, there is still none. */
	assert_false(node_space_wait(n, &asks[0], &fx));
}

static void rounds_do_not_overlap(void **state)
{
	(void)state;
	assert_true(node_space_wait(n, &asks[0], &fx));
	n->now_ns += 5 * NS_PER_SEC;
	assert_true(node_space_wait(n, &asks[1], &fx));
	assert_int_equal(trims(true), 2);
}

static void who_has_no_one_to_wait_for_is_refused(void **state)
{
	(void)state;
	n->press_after_ns = n->now_ns + 1;
	assert_false(node_space_wait(n, &asks[2], &fx));
	assert_int_equal(trims(true) + trims(false), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_a_dead_node_had_ahead_is_no_round, setup),
		cmocka_unit_test_setup(rounds_do_not_overlap, setup),
		cmocka_unit_test_setup(who_has_no_one_to_wait_for_is_refused, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
