/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The number of a node that is in no cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "csvfs/node_id.h"

#define MACHINE "0123456789abcdef0123456789abcdef\n"

static void it_is_no_cluster_nodes_and_the_same_each_time(void **state)
{
	uint32_t id = node_id_alone(MACHINE, "host1");

	(void)state;
	assert_true(id & NODE_ALONE);
	assert_int_equal(id, node_id_alone(MACHINE, "host1"));
	assert_true(node_id_alone("", "") & NODE_ALONE);
}

/* Machines that were made as copies have one machine-id, or one name; neither may stand for the other. */
static void machines_differ_in_their_id_or_in_their_name(void **state)
{
	static uint32_t ids[2000];
	char host[16];

	(void)state;
	assert_int_not_equal(node_id_alone(MACHINE, "host1"), node_id_alone(MACHINE, "host2"));
	assert_int_not_equal(node_id_alone("a", "host1"), node_id_alone("b", "host1"));
	assert_int_not_equal(node_id_alone("a", "b"), node_id_alone("ab", ""));
	assert_int_not_equal(node_id_alone("", "ab"), node_id_alone("ab", ""));
	for (uint32_t i = 0; i < 2000; i++) {
		snprintf(host, sizeof(host), "host%u", i);
		ids[i] = node_id_alone(MACHINE, host);
		for (uint32_t k = 0; k < i; k++)
			assert_int_not_equal(ids[k], ids[i]);
	}
}

/* corosync makes one of an IPv4 address where corosync.conf has none: 192.168.0.1 is 0xc0a80001. */
static void a_cluster_nodes_number_that_looks_like_one_is_refused(void **state)
{
	char text[200] = "";

	(void)state;
	assert_true(node_id_in_cluster(1, text, sizeof(text)));
	assert_true(node_id_in_cluster(0x7fffffff, text, sizeof(text)) && !*text);
	assert_false(node_id_in_cluster(0xc0a80001, text, sizeof(text)));
	assert_string_equal(text, "corosync gives this node the id 3232235521, made of its address: csvfs needs one below "
				  "2147483648, set nodeid for each node in corosync.conf");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_no_cluster_nodes_and_the_same_each_time),
		cmocka_unit_test(machines_differ_in_their_id_or_in_their_name),
		cmocka_unit_test(a_cluster_nodes_number_that_looks_like_one_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
