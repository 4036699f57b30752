/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fsync(2) and O_DSYNC on a node whose commit fails (node_file.c, F3), against a coordinator that the test plays. */
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
#define UNANSWERED 1

/* Answers what the node asks next, which is `op`. */
static void coordinator(enum fs_op op, int32_t err)
{
	node_alone_answer(op, INO, err);
}

static bool asks(void)
{
	uint64_t wire_tag;

	return client_next_local(n->client, &wire_tag) != NULL;
}

static int setup(void **state)
{
	struct fs_request rq = {.op = FS_OPEN, .ino = INO};

	node_alone();
	n->path.write_cache = false; /* an fsync is its commit */
	client_serve_local(n->client);
	node_file_open(n, 1, &rq, &fx);
	coordinator(FS_OPEN, 0);
	effects_reset(&fx);
	return 0;
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

/* The time for the commit of what was written has come. */
static void commit_is_due(void)
{
	n->now_ns += 60 * NS_PER_SEC;
	node_file_step(n, n->now_ns, &fx);
}

static void fsync_as(uint64_t tag)
{
	struct fs_request rq = {.op = FS_FSYNC, .ino = INO};

	node_file_fsync(n, tag, &rq, &fx);
}

static void dsync_as(uint64_t tag)
{
	struct event ev = {.type = EV_COMMIT, .tag = tag};

	ev.range.ino = INO;
	ev.range.rights = n->evictions;
	node_file_commit(n, &ev, &fx);
}

static int32_t answer_of(uint64_t tag)
{
	for (uint32_t i = 0; i < fx.count; i++) {
		if (fx.fx[i].tag != tag)
			continue;
		if (fx.fx[i].type == FX_REPLY)
			return fx.fx[i].reply->err;
		if (fx.fx[i].type == FX_BLOCK_DONE)
			return fx.fx[i].block.err;
	}
	return UNANSWERED;
}

static void fsync_is_told_that_the_commit_under_way_failed(void **state)
{
	first_write(0);
	commit_is_due();
	fsync_as(10);
	assert_int_equal(answer_of(10), UNANSWERED);
	coordinator(FS_LAYOUT_COMMIT, -ENOSPC);
	assert_int_equal(answer_of(10), -ENOSPC);
}

static void fsync_is_told_also_if_there_is_more_to_commit(void **state)
{
	first_write(0);
	commit_is_due();
	first_write(1u << 20);
	fsync_as(10);
	coordinator(FS_LAYOUT_COMMIT, -EIO);
	assert_int_equal(answer_of(10), -EIO);
}

/* The data path takes it for written: if it is written again nothing says so a second time. */
static void what_could_not_be_committed_is_tried_again_while_the_layout_is_kept(void **state)
{
	struct file *f = node_file_find(n, INO);

	f->layout = LAYOUT_KEPT;
	first_write(0);
	fsync_as(10);
	coordinator(FS_LAYOUT_COMMIT, -ENOSPC);
	assert_int_equal(answer_of(10), -ENOSPC);
	assert_false(asks()); /* not at once */
	fsync_as(11);
	assert_int_equal(answer_of(11), UNANSWERED);
	coordinator(FS_LAYOUT_COMMIT, -ENOMEM);
	assert_int_equal(answer_of(11), -EIO);
	commit_is_due();
	coordinator(FS_LAYOUT_COMMIT, 0);
	fsync_as(12);
	assert_false(asks());
	assert_int_equal(answer_of(12), 0);
	/* It goes back: then that is lost, and somebody is told. */
	first_write(0);
	commit_is_due();
	f->layout = LAYOUT_COMMITTING;
	coordinator(FS_LAYOUT_COMMIT, -ENOSPC);
	assert_true(f->lost);
}

/* Its first write left with the timer's commit, between EV_WRITTEN and EV_COMMIT. */
static void synchronous_write_is_told_that_the_commit_under_way_failed(void **state)
{
	first_write(0);
	commit_is_due();
	dsync_as(10);
	assert_int_equal(answer_of(10), UNANSWERED);
	coordinator(FS_LAYOUT_COMMIT, -ENOSPC);
	assert_int_equal(answer_of(10), -ENOSPC);
}

static void without_memory_for_a_first_write_nobody_hears_that_it_is_durable(void **state)
{
	void *taken[4096], *p;
	uint32_t count = 0;

	for (size_t bytes = 1u << 20; bytes >= 16; bytes /= 2) {
		while (count < 4096 && (p = mem_alloc(&mem, bytes)))
			taken[count++] = p;
	}
	assert_true(count < 4096);
	first_write(0);
	(void)taken;
	assert_true(node_file_find(n, INO)->lost);
	assert_true(node_file_find(n, INO)->lost_write);
}

static void what_was_committed_is_durable(void **state)
{
	first_write(0);
	fsync_as(10);
	coordinator(FS_LAYOUT_COMMIT, 0);
	assert_int_equal(answer_of(10), 0);
	fsync_as(11);
	assert_false(asks());
	assert_int_equal(answer_of(11), 0);
}

/* hold= ends the wait of a process. That nothing was committed must not be told as if it were: stat(2) elsewhere would show it. */
static void who_asked_for_times_waits_for_the_commit(void **state)
{
	struct sreq s = {.times_nr = 77, .times_mask = 1};

	n->serving_local = true;
	n->peers[0] = (struct peer){.node = 1, .life = 5};
	n->peers_end = 1;
	list_add_tail(&s.waiting, &n->times_waiting);
	first_write(0);
	fsync_as(10);
	node_file_commit_times(n, INO, 77, &fx);
	n->now_ns += 60 * NS_PER_SEC;
	node_file_expire(n, n->now_ns, &fx);
	assert_int_equal(answer_of(10), -EIO);
	assert_int_equal(s.times_mask, 1);
	/* It came while that commit was under way: what it waits for may be in the next. */
	coordinator(FS_LAYOUT_COMMIT, 0);
	assert_int_equal(s.times_mask, 0);
	assert_true(list_empty(&node_file_find(n, INO)->waits));
	list_del(&s.waiting);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_was_committed_is_durable, setup),
		cmocka_unit_test_setup(who_asked_for_times_waits_for_the_commit, setup),
		cmocka_unit_test_setup(fsync_is_told_that_the_commit_under_way_failed, setup),
		cmocka_unit_test_setup(fsync_is_told_also_if_there_is_more_to_commit, setup),
		cmocka_unit_test_setup(what_could_not_be_committed_is_tried_again_while_the_layout_is_kept, setup),
		cmocka_unit_test_setup(synchronous_write_is_told_that_the_commit_under_way_failed, setup),
		cmocka_unit_test_setup(without_memory_for_a_first_write_nobody_hears_that_it_is_durable, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
