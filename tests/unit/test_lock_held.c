/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node's own side of file locks (node_held.c), against a coordinator in the same process, without all else. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <cmocka.h>

#include "csvfs/node_int.h"

#define INO 7
#define REGION (64u << 20)
#define NONE FS_LK_NONE
#define READ FS_LK_READ
#define WRITE FS_LK_WRITE
#define UNANSWERED 1

static struct mem mem, coord_mem;
static struct node *n;
static struct effects fx;
static uint64_t tags;

static int setup(void **state)
{
	static void *region;
	struct node_config cfg = {
		.node = 1, .name = "n1", .life = 5, .standalone = true, .root_ino = 1};

	if (!region)
		region = aligned_alloc(4096, 2 * REGION);
	if (!fx.arena)
		fx.arena = malloc(EFFECTS_ARENA);
	effects_reset(&fx);
	mem_init(&mem, region, REGION);
	mem_init(&coord_mem, (uint8_t *)region + REGION, REGION);
	n = node_create(&cfg, &mem, NULL);
	assert_non_null(n);
	/* The coordinator's is another node's. */
	n->locks.mem = &coord_mem;
	n->peers[0].node = 1;
	client_serve_local(n->client);
	return 0;
}

static struct fs_lock lk(uint64_t owner, uint64_t start, uint64_t end, uint32_t type)
{
	return (struct fs_lock){
		.owner = owner, .handle = owner, .start = start, .end = end, .type = type};
}

static uint64_t ask_of(uint64_t ino, enum fs_op op, struct fs_lock l)
{
	struct fs_request rq = {.op = op, .ino = ino, .lock = l};

	node_held_request(n, ++tags, &rq, &fx);
	return tags;
}

static void coordinator(void)
{
	const struct fs_request *rq;
	uint64_t wire_tag;

	while ((rq = client_next_local(n->client, &wire_tag)))
		node_lock_serve(n, 0, true, wire_tag, rq, &fx);
}

static int teardown(void **state)
{
	node_lock_check(n);
	node_held_check(n);
	return 0;
}

static int32_t answer_of(uint64_t tag)
{
	for (uint32_t i = 0; i < fx.count; i++) {
		if (fx.fx[i].type == FX_REPLY && fx.fx[i].tag == tag)
			return fx.fx[i].reply->err;
	}
	return UNANSWERED;
}

static int32_t lock_of(uint64_t ino, struct fs_lock l)
{
	uint64_t tag;

	effects_reset(&fx);
	tag = ask_of(ino, FS_LOCK, l);
	coordinator();
	return answer_of(tag);
}

/* A read lock over many write locks fills what is between, before it makes all one: twice as many for a moment. */
static void a_read_lock_over_half_a_table_of_write_locks(void **state)
{
	enum { COUNT = LOCKS_NODE_MAX / 2 + 8 };

	for (uint64_t i = 0; i < COUNT; i++) {
		/* As many asked for, and granted; only faster. */
		struct fs_lock l = lk(9, 2 * i, 2 * i, WRITE);
		struct lock have = node_lock_of(0, INO, &l);

		assert_int_equal(lock_get(&n->held, &have), 0);
		assert_int_equal(lock_get(&n->locks, &have), 0);
	}
	assert_int_equal(lock_of(INO, lk(9, 0, FS_LK_END, READ)), 0);
	assert_int_equal(n->held.count, 1);
	assert_int_equal(n->locks.count, 1);
}

static void who_has_its_limit_gets_no_more_and_keeps_what_it_has(void **state)
{
	uint32_t had;
	uint64_t i = 0;

	while (!lock_of(10 + i, lk(9, 0, 99, WRITE)))
		i++;
	had = n->held.count;
	assert_in_range(had, LOCKS_NODE_MAX - 300, LOCKS_NODE_MAX);
	assert_int_equal(lock_of(10, lk(9, 0, 200, WRITE)), -ENOLCK);
	assert_int_equal(n->held.count, had);
	/* The middle of one may be let go of, up to the limit; then whole ones only. */
	for (i = 0; i < 1000 && !lock_of(10 + i, lk(9, 50, 50, NONE)); i++)
		;
	assert_int_equal(n->held.count, LOCKS_NODE_MAX);
	assert_int_equal(lock_of(10 + i, lk(9, 50, 50, NONE)), -ENOLCK);
	assert_int_equal(n->locks.count, LOCKS_NODE_MAX);
	assert_int_equal(lock_of(10 + i, lk(9, 0, 50, NONE)), 0);
	assert_int_equal(lock_of(10 + i, lk(9, 0, FS_LK_END, NONE)), 0);
	assert_int_equal(n->held.count, LOCKS_NODE_MAX - 1);
	assert_int_equal(n->locks.count, LOCKS_NODE_MAX - 1);
}

/* There is no memory to remember what was granted: that is given back, and what was held stays held. */
static void a_grant_that_cannot_be_remembered_takes_nothing_away(void **state)
{
	struct fs_lock l = lk(9, 0, 39, READ);
	struct lock want = node_lock_of(0, INO, &l), other;
	uint64_t tag;

	/* Memory for requests, which is used again. */
	for (uint64_t i = 0; i < 8; i++)
		(void)ask_of(INO, FS_LOCK, lk(9, 10 * i, 10 * i, READ));
	coordinator();
	assert_int_equal(lock_of(INO, lk(9, 0, FS_LK_END, NONE)), 0);
	assert_int_equal(lock_of(INO, lk(9, 10, 19, READ)), 0);
	assert_int_equal(lock_of(INO, lk(9, 30, 39, WRITE)), 0);
	/* It is granted, and the answer is on its way. */
	effects_reset(&fx);
	tag = ask_of(INO, FS_LOCK, lk(9, 0, 39, WRITE));
	want.write = true;
	assert_int_equal(lock_get(&n->locks, &want), 0);
	while (mem_alloc(&mem, 16) || mem_alloc(&mem, sizeof(struct lock)))
		;
	coordinator();
	assert_int_equal(answer_of(tag), -ENOLCK);
	assert_int_equal(n->held.count, 2);
	assert_int_equal(n->locks.count, 2);
	other = want;
	other.key.owner = 1;
	other.end = 9;
	assert_null(lock_conflict(&n->locks, &other));
	other.start = other.end = 15;
	assert_non_null(lock_conflict(&n->locks, &other));
	other.write = false;
	assert_null(lock_conflict(&n->locks, &other));
	other.start = other.end = 35;
	assert_non_null(lock_conflict(&n->locks, &other));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_read_lock_over_half_a_table_of_write_locks, setup, teardown),
		cmocka_unit_test_setup_teardown(
			who_has_its_limit_gets_no_more_and_keeps_what_it_has, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_grant_that_cannot_be_remembered_takes_nothing_away, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
