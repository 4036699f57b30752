/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node without memory for what its data path hands over, or for what it has to ask (node_data.c, node_file.c). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "tests/unit/node_alone.h"

#define INO 7
#define TAKEN_MAX 8192

static struct {
	void *p;
	size_t bytes;
} taken[TAKEN_MAX];
static uint32_t taken_count;

static bool take(size_t bytes)
{
	assert_true(taken_count < TAKEN_MAX);
	taken[taken_count].bytes = bytes;
	taken[taken_count].p = mem_alloc(&mem, bytes);
	if (!taken[taken_count].p)
		return false;
	taken_count++;
	return true;
}

/* Blocks of all sizes: what is given back serves its own size alone. */
static void exhaust(void)
{
	for (size_t bytes = 16; bytes <= 1u << 16; bytes *= 2)
		for (int i = 0; i < 8; i++)
			(void)take(bytes), (void)take(bytes / 2 * 3);
	for (size_t bytes = 1u << 20; bytes >= 16; bytes /= 2)
		while (take(bytes) || take(bytes / 2 * 3))
			;
}

static void memory_is_back(void)
{
	while (taken_count) {
		taken_count--;
		mem_free(&mem, taken[taken_count].p, taken[taken_count].bytes);
	}
}

static int setup(void **state)
{
	(void)state;
	taken_count = 0;
	node_alone();
	n->now_ns = NS_PER_SEC;
	client_serve_local(n->client);
	return 0;
}

static int32_t block_answer(uint64_t tag)
{
	for (uint32_t i = 0; i < fx.count; i++)
		if (fx.fx[i].type == FX_BLOCK_DONE && fx.fx[i].tag == tag)
			return fx.fx[i].block.err;
	return 0;
}

/* It comes again until there is memory for it; by then the path may have come back, and what is known of it is newer. */
static void a_lost_write_ends_its_path_once(void **state)
{
	struct seg seg = {.lun_off = 0, .len = 4096};
	struct event ev = {.type = EV_BLOCK, .tag = 9};

	(void)state;
	ev.block.write = ev.block.unknown = ev.block.conflict = true;
	ev.block.segs = &seg;
	ev.block.seg_count = 1;
	ev.block.len = 4096;
	ev.block.rights = n->evictions;
	n->path.st = PST_UP;
	exhaust();
	node_data_block(n, &ev, &fx);
	assert_int_equal(block_answer(9), -ENOMEM);
	assert_int_not_equal(n->path.st, PST_UP);
	assert_true(n->path.key_gone);
	n->path.st = PST_UP;
	n->path.key_gone = false;
	ev.block.told = true;
	effects_reset(&fx);
	node_data_block(n, &ev, &fx);
	assert_int_equal(block_answer(9), -ENOMEM);
	memory_is_back();
	effects_reset(&fx);
	node_data_block(n, &ev, &fx);
	assert_int_equal(block_answer(9), 0);
	assert_true(client_block_unknown(n->client));
	assert_int_equal(n->path.st, PST_UP);
	assert_false(n->path.key_gone);
}

/* Answers what the node asks next, which is `op`. */
static void coordinator(enum fs_op op)
{
	node_alone_answer(op, INO, 0);
}

static bool asks(void)
{
	uint64_t wire_tag;

	return client_next_local(n->client, &wire_tag) != NULL;
}

static struct file *opened(void)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO};

	node_file_open(n, 1, &rq, &fx);
	coordinator(FS_OPEN);
	effects_reset(&fx);
	return node_file_find(n, INO);
}

static bool closes_gate(void)
{
	for (uint32_t i = 0; i < fx.count; i++)
		if (fx.fx[i].type == FX_LAYOUT_CLOSE && fx.fx[i].layout.ino == INO)
			return true;
	return false;
}

static void first_write(uint64_t off)
{
	struct event ev = {.type = EV_WRITTEN};

	ev.range.ino = INO;
	ev.range.off = off;
	ev.range.len = 65536;
	ev.range.rights = n->evictions;
	node_file_written(n, &ev, &fx);
}

static void is_drained(void)
{
	struct event ev = {.type = EV_DRAINED, .ino = INO};

	node_file_layout_event(n, &ev, &fx);
}

/* The data path takes it for written: rewritten in place it would be reported durable, and read as zero after a crash. */
static void a_first_write_that_cannot_be_remembered_takes_the_layout_along(void **state)
{
	struct file *f = opened();

	(void)state;
	f->layout = LAYOUT_KEPT;
	first_write(0);
	assert_false(closes_gate());
	exhaust();
	first_write(1u << 20);
	assert_true(f->lost && f->lost_write);
	assert_true(closes_gate());
	assert_int_equal(f->layout, LAYOUT_DRAINING);
	memory_is_back();
	is_drained();
	coordinator(FS_LAYOUT_COMMIT);
	coordinator(FS_LAYOUT_RETURN);
	assert_int_equal(f->layout, LAYOUT_NONE);
}

/* Of what the file's commit cannot be told to be, the layout goes back as well. */
static void a_commit_that_is_for_nobody_takes_the_layout_along(void **state)
{
	struct file *f = opened();
	struct fs_reply rp = {.err = -ESTALE};

	(void)state;
	f->layout = LAYOUT_KEPT;
	first_write(0);
	n->now_ns += 60 * NS_PER_SEC;
	node_file_step(n, n->now_ns, &fx);
	assert_true(f->commit_in_flight);
	node_file_commit_reply(n, INO, &rp, &fx);
	assert_true(f->lost);
	assert_true(closes_gate());
}

/* The coordinator would wait for it, and fence the node; who uses the file here would wait for ever. */
static void what_goes_back_is_asked_for_when_there_is_memory(void **state)
{
	struct file *f = opened();
	void *spare = mem_alloc(&mem, sizeof(struct creq));

	(void)state;
	f->layout = LAYOUT_KEPT;
	node_file_recall(n, INO, &fx);
	exhaust();
	is_drained();
	assert_int_equal(f->layout, LAYOUT_COMMITTING);
	assert_int_equal(node_file_deadline(n), n->now_ns + 100 * NS_PER_MS);
	/* There is memory for one half of it; and another recall comes. */
	mem_free(&mem, spare, sizeof(struct creq));
	for (int i = 0; i < 3; i++) {
		node_file_recall(n, INO, &fx);
		n->now_ns += 100 * NS_PER_MS;
		node_file_step(n, n->now_ns, &fx);
		assert_false(asks());
		assert_int_equal(f->layout, LAYOUT_COMMITTING);
		assert_int_equal(node_file_deadline(n), n->now_ns + 100 * NS_PER_MS);
		assert_true(list_empty(&n->creqs));
	}
	memory_is_back();
	n->now_ns += 100 * NS_PER_MS;
	node_file_step(n, n->now_ns, &fx);
	assert_int_equal(f->layout, LAYOUT_RETURNING);
	coordinator(FS_LAYOUT_RETURN);
	assert_int_equal(f->layout, LAYOUT_NONE);
	assert_false(asks());
	/* A close, too. */
	node_file_close_one(n, INO, &fx);
	exhaust();
	is_drained();
	memory_is_back();
	assert_false(asks());
	n->now_ns += 100 * NS_PER_MS;
	node_file_step(n, n->now_ns, &fx);
	coordinator(FS_CLOSE);
	assert_null(node_file_find(n, INO));
}

static void a_recall_that_cannot_be_answered_comes_again_in_the_next_session(void **state)
{
	struct session *s = &n->sessions->s[0];

	(void)state;
	s->all = n->sessions;
	s->state = SESSION_UP;
	s->conn = 9;
	s->peer = 2;
	n->sessions->used = 1;
	n->coord = s;
	exhaust();
	node_file_recall(n, INO, &fx);
	assert_int_not_equal(s->state, SESSION_UP);
}

static int32_t reply_to(uint64_t tag)
{
	for (uint32_t i = 0; i < fx.count; i++)
		if (fx.fx[i].type == FX_REPLY && fx.fx[i].tag == tag)
			return fx.fx[i].reply->err;
	fail_msg("nothing was answered");
	return 0;
}

/* Not counted, it would lose its file with the next one that closes it. */
static void what_is_created_and_cannot_be_counted_is_not_open(void **state)
{
	struct fs_reply rp = {.attr.ino = INO, .attr.generation = 1, .attr.mode = 0100644, .attr.nlink = 1};
	struct creq q = {.kind = CQ_CREATE, .tag = 5};

	(void)state;
	exhaust();
	assert_false(node_file_created(n, &q, &rp, &fx));
	assert_null(node_file_find(n, INO));
	assert_int_equal(rp.err, -ENOMEM);
}

/* The data path would take it for asked, and believe the end of the file that it knew before. */
static void a_layout_that_is_not_remembered_is_no_answer(void **state)
{
	struct fs_extent e = {.off = 0, .len = 65536, .lun_off = 1u << 20, .state = EXT_UNWRITTEN};
	struct fs_request rq = {.op = FS_LAYOUT_GET, .ino = INO, .len = 4096};

	(void)state;
	opened();
	node_ask(n, CQ_LAYOUT, 5, &rq, &fx);
	exhaust();
	node_alone_reply(FS_LAYOUT_GET, (struct fs_reply){.extents = &e, .extent_count = 1});
	for (uint32_t i = 0; i < fx.count; i++)
		assert_int_not_equal(fx.fx[i].type, FX_LAYOUT_PUT);
	assert_int_equal(reply_to(5), -ENOMEM);
}

/* Nobody else wakes a node that has no path and no coordinator. */
static void the_limit_for_waiting_is_looked_at_though_nothing_happens(void **state)
{
	struct event ev = {.type = EV_TIMER, .now_ns = 2 * NS_PER_SEC};

	(void)state;
	n->cfg.hold_ns = 10 * NS_PER_SEC;
	node_step(n, &ev, &fx);
	assert_in_range(node_deadline(n), n->now_ns, n->now_ns + NS_PER_SEC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_lost_write_ends_its_path_once, setup),
		cmocka_unit_test_setup(a_recall_that_cannot_be_answered_comes_again_in_the_next_session, setup),
		cmocka_unit_test_setup(what_goes_back_is_asked_for_when_there_is_memory, setup),
		cmocka_unit_test_setup(a_first_write_that_cannot_be_remembered_takes_the_layout_along, setup),
		cmocka_unit_test_setup(a_commit_that_is_for_nobody_takes_the_layout_along, setup),
		cmocka_unit_test_setup(what_is_created_and_cannot_be_counted_is_not_open, setup),
		cmocka_unit_test_setup(a_layout_that_is_not_remembered_is_no_answer, setup),
		cmocka_unit_test_setup(the_limit_for_waiting_is_looked_at_though_nothing_happens, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
