/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which open files hear, by fsync(2), that first writes were lost (node_lost.c), against a coordinator that the test plays. */
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

static void kernel(enum fs_op op, uint64_t handle, uint64_t tag)
{
	struct fs_request rq = {.op = op, .ino = op == FS_CREATE ? 1 : INO, .lock.handle = handle, .name = "a"};
	struct event ev = {.type = EV_REQUEST, .tag = tag, .rq = &rq};

	if (op == FS_CREATE)
		rq.mode = 0100644;
	node_kernel_request(n, &ev, &fx);
}

static int setup(void **state)
{
	(void)state;
	node_alone();
	n->path.write_cache = false; /* an fsync is its commit */
	client_serve_local(n->client);
	kernel(FS_OPEN, 1, 1);
	coordinator(FS_OPEN, 0);
	kernel(FS_OPEN, 2, 2);
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

/* Answered at once: there is nothing to commit. */
static int32_t fsync_through(uint64_t handle)
{
	effects_reset(&fx);
	kernel(FS_FSYNC, handle, 10);
	return answer_of(10);
}

/* On its way out: it is not tried again. */
static void first_writes_are_lost(int32_t err)
{
	first_write(0);
	commit_is_due();
	coordinator(FS_LAYOUT_COMMIT, err);
}

static void each_open_file_hears_once(void **state)
{
	(void)state;
	first_writes_are_lost(-EIO);
	assert_int_equal(fsync_through(1), -EIO);
	assert_int_equal(fsync_through(1), 0);
	assert_int_equal(fsync_through(2), -EIO);
	assert_int_equal(fsync_through(2), 0);
	assert_int_equal(fsync_through(1), 0);
	first_writes_are_lost(-ENOSPC);
	assert_int_equal(fsync_through(2), -ENOSPC);
	assert_int_equal(fsync_through(1), -ENOSPC);
	assert_int_equal(fsync_through(1), 0);
	assert_int_equal(fsync_through(2), 0);
}

static void who_opens_it_hears_if_nobody_has(void **state)
{
	(void)state;
	first_writes_are_lost(-EIO);
	kernel(FS_OPEN, 3, 3);
	assert_int_equal(fsync_through(3), -EIO);
	kernel(FS_OPEN, 4, 4);
	assert_int_equal(fsync_through(4), 0);
	assert_int_equal(fsync_through(3), 0);
	assert_int_equal(fsync_through(1), -EIO);
}

/* A backup program's, which is killed. */
static void an_fsync_that_was_killed_has_told_nobody(void **state)
{
	(void)state;
	first_writes_are_lost(-EIO);
	first_write(0);
	kernel(FS_FSYNC, 1, 11);
	assert_int_equal(answer_of(11), UNANSWERED);
	assert_true(node_file_cancel(n, 11, &fx));
	assert_int_equal(answer_of(11), -EINTR);
	coordinator(FS_LAYOUT_COMMIT, 0);
	kernel(FS_OPEN, 3, 3);
	assert_int_equal(fsync_through(3), -EIO);
	assert_int_equal(fsync_through(1), -EIO);
}

static void who_waits_hears_and_the_others_next_time(void **state)
{
	(void)state;
	first_write(0);
	kernel(FS_FSYNC, 1, 11);
	coordinator(FS_LAYOUT_COMMIT, -ENOSPC);
	assert_int_equal(answer_of(11), -ENOSPC);
	assert_int_equal(fsync_through(1), 0);
	assert_int_equal(fsync_through(2), -ENOSPC);
}

static void what_the_lease_took_with_it_is_told_to_each_open_file(void **state)
{
	(void)state;
	node_file_find(n, INO)->layout = LAYOUT_KEPT;
	first_write(0);
	kernel(FS_FSYNC, 1, 11);
	node_file_forget_layouts(n, &fx);
	coordinator(FS_LAYOUT_COMMIT, -ESTALE);
	assert_int_equal(answer_of(11), -EIO);
	assert_int_equal(fsync_through(1), 0);
	assert_int_equal(fsync_through(2), -EIO);
}

/* It says EIO of the loss before, and this one comes while it waits for the LUN's cache. */
static void a_loss_behind_its_commit_is_told_by_the_next_one(void **state)
{
	struct nflush *flush;

	(void)state;
	first_writes_are_lost(-EIO);
	n->path.write_cache = true;
	kernel(FS_FSYNC, 1, 11);
	n->path.write_cache = false;
	first_writes_are_lost(-EIO);
	assert_int_equal(answer_of(11), UNANSWERED);
	flush = list_first_entry(&n->flushes, struct nflush, link);
	node_file_flush_done(n, flush->wait, 0, &fx);
	assert_int_equal(answer_of(11), -EIO);
	assert_int_equal(fsync_through(1), -EIO);
	assert_int_equal(fsync_through(1), 0);
}

/* Its number is asked for with CREATE, and is not the coordinator's. */
static void who_creates_it_has_opened_it(void **state)
{
	(void)state;
	kernel(FS_CREATE, 5, 5);
	coordinator(FS_CREATE, 0);
	first_writes_are_lost(-EIO);
	assert_int_equal(fsync_through(1), -EIO);
	assert_int_equal(fsync_through(5), -EIO);
	kernel(FS_CLOSE, 5, 6);
	assert_int_equal(fsync_through(2), -EIO);
	assert_int_equal(fsync_through(1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_open_file_hears_once, setup),
		cmocka_unit_test_setup(who_opens_it_hears_if_nobody_has, setup),
		cmocka_unit_test_setup(an_fsync_that_was_killed_has_told_nobody, setup),
		cmocka_unit_test_setup(who_waits_hears_and_the_others_next_time, setup),
		cmocka_unit_test_setup(what_the_lease_took_with_it_is_told_to_each_open_file, setup),
		cmocka_unit_test_setup(a_loss_behind_its_commit_is_told_by_the_next_one, setup),
		cmocka_unit_test_setup(who_creates_it_has_opened_it, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
