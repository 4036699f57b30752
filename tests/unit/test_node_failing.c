/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What fails behind the target (LUN_FAILING), or is refused for too long, of block I/O that a node does for others or for itself
 * (node_data.c): an error in a time that is shorter than a recall's, and only what is the path's fault costs the path.
 */
#include <string.h>

#include "tests/unit/node_alone.h"

#define OTHER 2

static int setup(void **state)
{
	(void)state;
	node_alone();
	node_alone_session(OTHER);
	n->now_ns = NS_PER_SEC;
	n->path.st = PST_UP;
	return 0;
}

/* It is done for the other node, and has just been sent to the LUN. */
static struct served *serve(enum block_op op)
{
	struct served *v = mem_alloc(&mem, sizeof(*v));

	memset(v, 0, sizeof(*v));
	v->node = OTHER;
	v->op = op;
	v->len = op == BLOCK_FLUSH ? 0 : 4096;
	v->lun_tag = 77;
	v->since_ns = v->sent_ns = n->now_ns;
	v->retry_ns = NEVER;
	list_add_tail(&v->link, &n->served);
	return v;
}

/* True: it is tried again. False: the other node has the answer. */
static bool ends(struct served *v, enum lun_status status, enum lun_status *answer)
{
	static struct wire_room room;
	struct event ev = {.type = EV_LUN_DONE, .tag = v->lun_tag, .lun.status = status};
	struct msg m;

	effects_reset(&fx);
	assert_true(node_data_lun_done(n, &ev, &fx));
	assert_int_equal(n->path.st, PST_UP);
	if (!list_empty(&n->served))
		return true;
	assert_int_equal(fx.count, 1);
	assert_int_equal(wire_decode(&m, fx.fx[0].net.bytes, fx.fx[0].net.len, &room), 0);
	assert_int_equal(m.type, MSG_BLOCK_REPLY);
	*answer = m.block_reply.status;
	return false;
}

static bool fails(struct served *v, enum lun_status *answer)
{
	return ends(v, LUN_FAILING, answer);
}

/* It is sent again when that is due. */
static void is_sent_again(struct served *v)
{
	assert_true(v->retry_ns > n->now_ns && v->retry_ns != NEVER);
	n->now_ns = v->sent_ns = v->retry_ns;
	v->lun_tag = 77;
}

static void a_bad_place_is_tried_again_and_then_said_to_who_asked(void **state)
{
	static const enum block_op ops[] = {BLOCK_READ, BLOCK_WRITE};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct served *v = serve(ops[i]);
		uint64_t began_ns = n->now_ns;
		enum lun_status answer = LUN_OK;

		while (fails(v, &answer))
			is_sent_again(v);
		assert_int_equal(answer, LUN_MEDIUM);
		assert_in_range(n->now_ns - began_ns, 4 * NS_PER_SEC, 8 * NS_PER_SEC);
	}
}

static void what_was_refused_before_does_not_count_as_failing(void **state)
{
	enum lun_status answer = LUN_OK;
	uint64_t began_ns = n->now_ns;
	struct served *v = serve(BLOCK_WRITE);

	(void)state;
	/* Refused, for longer than what fails is tried. */
	while (n->now_ns - began_ns < 6 * NS_PER_SEC) {
		assert_true(ends(v, LUN_RETRY, &answer));
		is_sent_again(v);
	}
	assert_false(fails(v, &answer));
	assert_int_equal(answer, LUN_RETRY);
	/* Refused once, and failing ever since. */
	v = serve(BLOCK_WRITE);
	assert_true(ends(v, LUN_RETRY, &answer));
	do
		is_sent_again(v);
	while (fails(v, &answer));
	assert_int_equal(answer, LUN_MEDIUM);
}

/* The next one may succeed, and what this one was to write is lost all the same. */
static void a_flush_that_fails_is_not_tried_again(void **state)
{
	enum lun_status answer = LUN_OK;

	(void)state;
	assert_false(fails(serve(BLOCK_FLUSH), &answer));
	assert_int_equal(answer, LUN_MEDIUM);
}

static void a_read_that_was_refused_for_too_long_ends_the_path(void **state)
{
	struct seg seg = {.lun_off = 0, .len = 4096};
	struct event ev = {.type = EV_BLOCK, .tag = 9};

	(void)state;
	ev.block.segs = &seg;
	ev.block.seg_count = 1;
	ev.block.len = 4096;
	ev.block.rights = n->evictions;
	node_data_block(n, &ev, &fx);
	assert_int_equal(n->path.st, PST_UP);
	ev.tag = 10;
	ev.block.refused = true;
	node_data_block(n, &ev, &fx);
	assert_int_not_equal(n->path.st, PST_UP);
	assert_false(client_block_unknown(n->client));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_bad_place_is_tried_again_and_then_said_to_who_asked, setup),
		cmocka_unit_test_setup(what_was_refused_before_does_not_count_as_failing, setup),
		cmocka_unit_test_setup(a_flush_that_fails_is_not_tried_again, setup),
		cmocka_unit_test_setup(a_read_that_was_refused_for_too_long_ends_the_path, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
