/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a carrier has read or written for a node counts while that one's lease runs, and not later (rule 7 of node_carry.c). */
#include <errno.h>

#include "tests/unit/node_alone.h"

#define CARRIER 3
#define IO_TAG 7u
#define DATA 0x77u /* what it has read */
#define LEN 4096u
#define LEASE (2 * NS_PER_SEC)

static struct session *carrier;
static uint64_t wire_tag;

/* A node without a path; who does its block I/O is not who coordinates. */
static int setup(void **state)
{
	(void)state;
	node_alone();
	n->now_ns = NS_PER_SEC;
	carrier = node_alone_session(CARRIER);
	carrier->outgoing = true;
	n->carrier = carrier;
	n->carrier_node = CARRIER;
	return 0;
}

static uint32_t effects_of(enum fx_type type, uint64_t tag)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < fx.count; i++)
		count += fx.fx[i].type == type && fx.fx[i].tag == tag;
	return count;
}

/* True: it is on its way to the carrier. */
static bool is_sent(void)
{
	static struct wire_room room;
	struct msg m;

	effects_reset(&fx);
	client_block_peer(n->client, carrier, 9);
	client_step(n->client, n->now_ns, &fx);
	client_check(n->client);
	for (uint32_t i = 0; i < fx.count; i++) {
		if (fx.fx[i].type != FX_NET_SEND)
			continue;
		assert_int_equal(wire_decode(&m, fx.fx[i].net.bytes, fx.fx[i].net.len, &room), 0);
		assert_int_equal(m.type, MSG_BLOCK);
		wire_tag = m.tag;
		return true;
	}
	return false;
}

/* With a lease that has just begun. */
static void begin(bool write)
{
	struct seg seg = {65536, LEN, 0};
	struct event ev = {.type = EV_BLOCK, .now_ns = n->now_ns, .tag = IO_TAG};

	n->lease_ns = n->now_ns + LEASE;
	ev.block.write = write;
	ev.block.segs = &seg;
	ev.block.seg_count = 1;
	ev.block.data = 0x1000;
	ev.block.len = LEN;
	assert_int_equal(client_block_submit(n->client, &ev), 0);
	assert_true(is_sent());
}

static void carrier_says_ok(bool write)
{
	struct msg m = {.type = MSG_BLOCK_REPLY, .tag = wire_tag, .data_len = write ? 0 : LEN, .block_reply.status = LUN_OK};

	effects_reset(&fx);
	node_data_reply(n, carrier, &m, write ? 0 : DATA, &fx);
	client_check(n->client);
}

/* It was told once, with what was read. */
static bool is_answered(bool write)
{
	uint32_t done = effects_of(FX_BLOCK_DONE, IO_TAG);

	assert_int_equal(effects_of(FX_BLOCK_DATA, IO_TAG), write ? 0 : done);
	return done == 1;
}

static void ok_counts_as_long_as_the_lease_runs(void **state)
{
	(void)state;
	for (int write = 0; write < 2; write++) {
		begin(write);
		n->now_ns = n->lease_ns - 1;
		carrier_says_ok(write);
		assert_true(is_answered(write));
		assert_false(is_sent());
	}
}

/* Others may have written there since. With a lease again it is done again. */
static void ok_that_comes_later_counts_as_none(void **state)
{
	(void)state;
	for (int write = 0; write < 2; write++) {
		begin(write);
		n->now_ns = n->lease_ns;
		carrier_says_ok(write);
		assert_false(is_answered(write));
		for (uint32_t i = 0; i < fx.count; i++)
			assert_true(fx.fx[i].type == FX_DATA_FREE && fx.fx[i].data == DATA);
		assert_int_equal(fx.count, !write);
		/* Another one is looked for. */
		assert_null(client_block_session(n->client));
		assert_true(n->carrier_after_ns > n->now_ns);
		n->now_ns += NS_PER_SEC;
		n->lease_ns = n->now_ns + LEASE;
		assert_true(is_sent());
		carrier_says_ok(write);
		assert_true(is_answered(write));
	}
}

/* Who coordinates knows whom it has given up, and answers no such node. */
static void the_coordinators_word_counts_whenever_it_comes(void **state)
{
	(void)state;
	n->coord = carrier;
	n->carrier = NULL;
	for (int write = 0; write < 2; write++) {
		begin(write);
		n->now_ns = n->lease_ns;
		carrier_says_ok(write);
		assert_true(is_answered(write));
	}
}

/* What it says to have failed is told as it is: that nothing was done needs no right. */
static void a_late_error_is_an_error(void **state)
{
	struct msg m = {.type = MSG_BLOCK_REPLY, .block_reply.status = LUN_MEDIUM};

	(void)state;
	begin(true);
	n->now_ns = n->lease_ns;
	m.tag = wire_tag;
	effects_reset(&fx);
	node_data_reply(n, carrier, &m, 0, &fx);
	assert_true(is_answered(true));
	assert_int_equal(fx.fx[0].block.err, -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(ok_counts_as_long_as_the_lease_runs, setup),
		cmocka_unit_test_setup(ok_that_comes_later_counts_as_none, setup),
		cmocka_unit_test_setup(the_coordinators_word_counts_whenever_it_comes, setup),
		cmocka_unit_test_setup(a_late_error_is_an_error, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
