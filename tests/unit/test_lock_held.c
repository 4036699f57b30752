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
#include <linux/falloc.h>
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

static void coordinator_one(void)
{
	uint64_t wire_tag;
	const struct fs_request *rq = client_next_local(n->client, &wire_tag);

	node_lock_serve(n, 0, true, wire_tag, rq, &fx);
}

static void coordinator(void)
{
	while (client_has_local(n->client))
		coordinator_one();
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

/* What there is, whatever its size, but for `keep` bytes in one piece. */
static void *take_all_memory(size_t keep)
{
	void *kept = keep ? mem_alloc(&mem, keep) : NULL, *all = NULL, **p;

	for (size_t bytes = 65536; bytes >= 16; bytes = bytes & (bytes - 1) ? bytes / 3 * 2 : bytes / 4 * 3) {
		while ((p = mem_alloc(&mem, bytes))) {
			p[0] = all;
			memcpy(p + 1, &bytes, sizeof(bytes));
			all = p;
		}
	}
	mem_free(&mem, kept, keep);
	return all;
}

static void give_back_memory(void *all)
{
	while (all) {
		void **p = all;
		size_t bytes;

		all = p[0];
		memcpy(&bytes, p + 1, sizeof(bytes));
		mem_free(&mem, p, bytes);
	}
}

/* What is granted is what the coordinator had before it executes an unlocking that is under way. */
static void a_grant_without_memory_to_take_off_what_is_to_be_unlocked(void **state)
{
	const struct lock *l = NULL;
	struct lock part;
	uint64_t tag;
	bool to_read;
	void *all;

	for (uint32_t locks = 0; locks < 2; locks++) {
		/* Memory for requests, and the inode stays. */
		for (uint64_t i = 0; i < 8; i++)
			(void)ask_of(INO, FS_LOCK, lk(9, 10 * i, 10 * i, READ));
		coordinator();
		assert_int_equal(lock_of(INO, lk(9, 0, FS_LK_END, NONE)), 0);
		assert_int_equal(lock_of(INO, lk(8, 100, 100, READ)), 0);
		assert_int_equal(lock_of(INO, lk(9, 10, 19, READ)), 0);
		effects_reset(&fx);
		tag = ask_of(INO, FS_LOCK, lk(9, 0, 39, READ));
		(void)ask_of(INO, FS_UNLOCK, lk(9, 10, 19, NONE));
		assert_int_equal(n->held.count, 1);
		all = locks ? NULL : take_all_memory(sizeof(struct lock));
		coordinator();
		give_back_memory(all);
		coordinator();
		while ((l = lock_next(&n->held, l))) {
			part = *l;
			assert_false(lock_lacks(&n->locks, l, &part, &to_read));
		}
		assert_int_equal(answer_of(tag), locks ? 0 : -ENOLCK);
		assert_int_equal(n->held.count, locks ? 3 : 1);
	}
}

/* Sent, and not answered: nobody reads what the coordinator is told. */
static uint64_t out_of(enum fs_op op, struct fs_lock l)
{
	uint64_t wire_tag, tag;

	effects_reset(&fx);
	tag = ask_of(INO, op, l);
	assert_non_null(client_next_local(n->client, &wire_tag));
	return tag;
}

/* The coordinator is lost, and another one is there: what is left is sent again. */
static void another_coordinator(void)
{
	client_down(n->client);
	node_ask_step(n, &fx);
	client_serve_local(n->client);
	coordinator();
}

static bool coordinator_has(uint64_t owner, uint64_t at, uint32_t type)
{
	struct fs_lock l = lk(owner, at, at, type);
	struct lock want = node_lock_of(0, INO, &l);

	return lock_has(&n->locks, &want, type == WRITE);
}

static void an_unlock_happens_though_its_process_is_dying(void **state)
{
	uint64_t tag;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	tag = out_of(FS_LOCK, lk(9, 0, 9, NONE));
	node_kernel_cancel(n, tag, &fx);
	assert_int_equal(answer_of(tag), -EINTR);
	assert_int_equal(n->locks.count, 1);
	another_coordinator();
	assert_int_equal(n->locks.count, 0);
	/* FLUSH, while nobody coordinates. */
	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	client_down(n->client);
	tag = ask_of(INO, FS_UNLOCK, lk(9, 0, FS_LK_END, NONE));
	node_kernel_cancel(n, tag, &fx);
	assert_int_equal(answer_of(tag), 0);
	another_coordinator();
	assert_int_equal(n->locks.count, 0);
	assert_true(list_empty(&n->creqs));
}

/* Who ends otherwise than by SIGKILL hears of no signal there, and would wait until somebody coordinates. */
static void a_close_waits_for_nobody_where_nobody_coordinates(void **state)
{
	uint64_t tag, unlock;

	for (uint32_t out = 0; out < 2; out++) {
		assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
		assert_int_equal(lock_of(INO, lk(8, 20, 29, WRITE)), 0);
		if (out) {
			tag = out_of(FS_UNLOCK, lk(9, 0, FS_LK_END, NONE));
			node_ask_step(n, &fx);
			assert_int_equal(answer_of(tag), UNANSWERED);
			client_down(n->client);
		} else {
			client_down(n->client);
			effects_reset(&fx);
			tag = ask_of(INO, FS_UNLOCK, lk(9, 0, FS_LK_END, NONE));
		}
		/* Who unlocks wants to know that it is. */
		unlock = ask_of(INO, FS_LOCK, lk(8, 20, 29, NONE));
		node_ask_step(n, &fx);
		assert_int_equal(answer_of(tag), 0);
		assert_int_equal(answer_of(unlock), UNANSWERED);
		assert_int_equal(n->locks.count, 2);
		assert_int_equal(n->held.count, 0);
		effects_reset(&fx);
		client_serve_local(n->client);
		coordinator();
		assert_int_equal(answer_of(tag), UNANSWERED);
		assert_int_equal(answer_of(unlock), 0);
		assert_int_equal(n->locks.count, 0);
		assert_true(list_empty(&n->creqs));
	}
}

static void a_question_that_is_out_is_left(void **state)
{
	uint64_t tag = out_of(FS_GETLK, lk(9, 0, 9, WRITE));

	node_kernel_cancel(n, tag, &fx);
	assert_int_equal(answer_of(tag), -EINTR);
	effects_reset(&fx);
	another_coordinator();
	assert_int_equal(answer_of(tag), UNANSWERED);
	assert_true(list_empty(&n->creqs));
}

/* INTERRUPT comes once, while it is out. Then its session breaks. */
static void a_lock_that_was_out_is_forgotten_with_its_session(void **state)
{
	for (uint32_t flags = 0; flags <= FS_LK_WAIT; flags += FS_LK_WAIT) {
		struct fs_lock l = lk(9, 0, 9, WRITE);
		uint64_t tag;

		l.flags = flags;
		tag = out_of(FS_LOCK, l);
		node_kernel_cancel(n, tag, &fx);
		assert_int_equal(answer_of(tag), UNANSWERED);
		another_coordinator();
		assert_int_equal(answer_of(tag), -EINTR);
		assert_int_equal(n->locks.count, 0);
		assert_int_equal(n->held.count, 0);
		assert_true(list_empty(&n->creqs));
	}
}

/* INTERRUPT comes once, and there is no memory to ask the coordinator: for the question, or for its place in the line. */
static void a_wait_that_is_interrupted_without_memory_ends_later(void **state)
{
	struct fs_lock l = lk(9, 0, 9, WRITE);
	uint64_t tag;
	void *all;

	/* Memory for requests, which is used again. */
	for (uint64_t i = 0; i < 8; i++)
		(void)ask_of(INO, FS_LOCK, lk(8, 10 * i, 10 * i + 9, WRITE));
	coordinator();
	l.flags = FS_LK_WAIT;
	for (size_t keep = 0; keep <= sizeof(struct creq); keep += sizeof(struct creq)) {
		effects_reset(&fx);
		tag = ask_of(INO, FS_LOCK, l);
		coordinator();
		all = take_all_memory(keep);
		node_kernel_cancel(n, tag, &fx);
		coordinator();
		give_back_memory(all);
		assert_int_equal(answer_of(tag), UNANSWERED);
		assert_in_range(node_deadline(n), n->now_ns, n->now_ns + NS_PER_SEC);
		n->now_ns += NS_PER_SEC;
		node_ask_step(n, &fx);
		coordinator();
		assert_int_equal(answer_of(tag), -EINTR);
		assert_true(list_empty(&n->creqs));
		assert_int_equal(n->cancel_at_ns, NEVER);
	}
}

/* It was granted, and what is left is to tell that less is enough. */
static void a_lock_that_only_becomes_weaker_is_held(void **state)
{
	const struct fs_request *rq;
	uint64_t tag, wire_tag;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	effects_reset(&fx);
	tag = ask_of(INO, FS_LOCK, lk(9, 0, 9, READ));
	rq = client_next_local(n->client, &wire_tag);
	node_lock_serve(n, 0, true, wire_tag, rq, &fx);
	assert_int_equal(answer_of(tag), UNANSWERED);
	node_kernel_cancel(n, tag, &fx);
	assert_int_equal(answer_of(tag), 0);
	coordinator();
	assert_true(coordinator_has(9, 5, READ));
	assert_false(coordinator_has(9, 5, WRITE));
}

/* flock lets the old one go first. */
static void a_flock_that_is_interrupted_between_is_not_taken(void **state)
{
	struct fs_lock l = lk(9, 0, FS_LK_END, READ);
	uint64_t tag;

	l.flags = FS_LK_FLOCK;
	assert_int_equal(lock_of(INO, l), 0);
	l.type = WRITE;
	tag = out_of(FS_LOCK, l);
	node_kernel_cancel(n, tag, &fx);
	assert_int_equal(answer_of(tag), -EINTR);
	another_coordinator();
	assert_int_equal(n->locks.count, 0);
	assert_true(list_empty(&n->creqs));
}

/* ------------------------------------------------------------------ open files that lost their locks (H4) */

static uint64_t change(enum fs_op op, uint64_t handle)
{
	struct fs_request rq = {.op = op, .ino = INO, .lock.handle = handle};
	struct event ev = {.type = EV_REQUEST, .tag = ++tags, .rq = &rq};

	if (op == FS_SETATTR) {
		rq.valid = FS_SET_SIZE | FS_SET_MTIME;
		rq.attr.size = 4096;
	} else {
		rq.flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		rq.len = 65536;
	}
	node_kernel_request(n, &ev, &fx);
	return tags;
}

static void what_changes_a_file_through_it_is_refused(void **state)
{
	uint64_t tag;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	node_evicted(n, true, &fx);
	effects_reset(&fx);
	tag = change(FS_SETATTR, 9);
	assert_int_equal(answer_of(tag), -EIO);
	tag = change(FS_FALLOCATE, 9);
	assert_int_equal(answer_of(tag), -EIO);
	/* Another open file never had any. */
	tag = change(FS_FALLOCATE, 8);
	assert_int_equal(answer_of(tag), UNANSWERED);
}

/* It may be asked again in a new session, when another node has the lock and uses the file. */
static void what_was_asked_before_does_nothing_any_more(void **state)
{
	const struct fs_request *rq;
	uint64_t size, hole, wire_tag;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	size = change(FS_SETATTR, 9);
	hole = change(FS_FALLOCATE, 9);
	node_evicted(n, true, &fx);
	assert_int_equal(answer_of(size), -EIO);
	assert_int_equal(answer_of(hole), -EIO);
	rq = client_next_local(n->client, &wire_tag);
	assert_non_null(rq);
	assert_int_equal(rq->op, FS_SETATTR);
	assert_int_equal(rq->valid, FS_SET_READ);
	rq = client_next_local(n->client, &wire_tag);
	assert_non_null(rq);
	assert_int_equal(rq->op, FS_FALLOCATE);
	assert_int_equal(rq->len, 0);
}

/* Its process is killed, or told EIO by hold=, and ends. */
static void given_up(uint64_t tag, bool held)
{
	struct fs_request close = {.op = FS_CLOSE, .ino = INO, .lock.handle = 9};

	n->cfg.hold_ns = held ? NS_PER_SEC : 0;
	n->now_ns += 2 * NS_PER_SEC;
	if (held)
		node_expire_held(n, &fx);
	else
		node_kernel_cancel(n, tag, &fx);
	assert_int_equal(answer_of(tag), held ? -EIO : -EINTR);
	node_held_closed(n, &close, &fx); /* RELEASE */
}

/* Killed while its node was cut off, or told that nobody waits: its locks went as it ended, and with that the mark of the open file. */
static void what_a_dead_process_asked_does_nothing_any_more(void **state)
{
	for (uint32_t held = 0; held < 2; held++) {
		const struct fs_request *rq;
		uint64_t hole, wire_tag;
		struct fs_reqid id;

		effects_reset(&fx);
		assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
		hole = change(FS_FALLOCATE, 9);
		assert_non_null(client_next_local(n->client, &wire_tag)); /* it is out; then the node is cut off */
		client_down(n->client);
		given_up(hole, held);
		assert_int_equal(n->held.count, 0);
		node_evicted(n, true, &fx); /* given up, and back */
		client_serve_local(n->client);
		rq = client_next_local(n->client, &wire_tag);
		assert_non_null(rq);
		assert_int_equal(rq->op, FS_FALLOCATE);
		assert_int_equal(rq->len, 0);
		id = rq->id;
		node_answer(n, wire_tag, &id, &(struct fs_reply){.err = -EINVAL}, &fx);
		coordinator();
	}
}

/* Its coordinator lives, and has not come to it yet. The UNLOCK of the RELEASE would not wait there. */
static void what_a_dead_process_asked_is_taken_back_before_its_locks_end(void **state)
{
	for (uint32_t held = 0; held < 2; held++) {
		const struct fs_request *rq;
		uint64_t hole, wire_tag;
		struct fs_reqid id;

		effects_reset(&fx);
		assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
		hole = change(FS_FALLOCATE, 9);
		rq = client_next_local(n->client, &wire_tag);
		assert_non_null(rq);
		id = rq->id;
		given_up(hole, held);
		rq = client_next_local(n->client, &wire_tag);
		assert_non_null(rq);
		assert_int_equal(rq->op, FS_LOCK_CANCEL);
		assert_int_equal(rq->lock.owner, id.slot);
		assert_int_equal(rq->lock.handle, id.seq);
		assert_int_equal(rq->lock.seq, n->lock_seq);
		assert_true(wire_request_ok(rq));
		client_again_local(n->client, wire_tag);
		coordinator();
		assert_int_equal(n->locks.count, 0);
		client_down(n->client);
		client_serve_local(n->client);
		assert_non_null(client_next_local(n->client, &wire_tag));
		node_answer(n, wire_tag, &id, &(struct fs_reply){.err = -EINVAL}, &fx);
		assert_true(list_empty(&n->creqs));
	}
}

/* What is not out is not taken back: it was never sent, its session is lost, or it changes nothing. */
static void only_a_change_that_is_out_is_taken_back(void **state)
{
	uint64_t hole = change(FS_FALLOCATE, 9), look, wire_tag;
	struct fs_request rq = {.op = FS_GETATTR, .ino = INO};

	node_kernel_cancel(n, hole, &fx);
	assert_false(client_has_local(n->client));
	look = ++tags;
	node_ask(n, CQ_KERNEL, look, &rq, &fx);
	assert_non_null(client_next_local(n->client, &wire_tag));
	node_kernel_cancel(n, look, &fx);
	assert_false(client_has_local(n->client));
	hole = change(FS_FALLOCATE, 9);
	assert_non_null(client_next_local(n->client, &wire_tag));
	client_down(n->client);
	node_kernel_cancel(n, hole, &fx);
	client_serve_local(n->client);
	assert_non_null(client_next_local(n->client, &wire_tag)); /* the GETATTR */
	assert_non_null(client_next_local(n->client, &wire_tag)); /* and the hole, which is void */
	assert_false(client_has_local(n->client));
}

/* A lone node: it is waited for, until nobody serves. */
static void what_is_waited_for_and_given_up_later_does_nothing_any_more(void **state)
{
	struct fs_request rq = {.op = FS_UNLINK, .ino = 1, .name = "f"};
	struct event ev = {.type = EV_REQUEST, .tag = ++tags, .rq = &rq};
	const struct fs_request *sent;
	uint64_t wire_tag;

	effects_reset(&fx);
	node_kernel_request(n, &ev, &fx);
	assert_non_null(client_next_local(n->client, &wire_tag));
	node_kernel_cancel(n, ev.tag, &fx);
	assert_int_equal(answer_of(ev.tag), UNANSWERED);
	client_down(n->client);
	node_ask_step(n, &fx);
	assert_int_equal(answer_of(ev.tag), -EINTR);
	client_serve_local(n->client);
	sent = client_next_local(n->client, &wire_tag);
	assert_non_null(sent);
	assert_string_equal(sent->name, ".");
}

/* What is not a change of that process's goes on: a layout is given back, and what is written committed. */
static void what_others_rely_on_is_never_void(void **state)
{
	const enum fs_op ops[] = {FS_LAYOUT_COMMIT, FS_LAYOUT_GET, FS_CLOSE, FS_APPENDED};
	struct fs_extent x = {.off = 65536, .len = 65536};

	for (uint32_t i = 0; i < 4; i++) {
		struct fs_request rq = {.op = ops[i], .ino = INO};
		const struct fs_request *sent;
		uint64_t wire_tag, tag;
		struct fs_reqid id;

		if (ops[i] == FS_LAYOUT_COMMIT) {
			rq.extents = &x;
			rq.extent_count = 1;
			rq.valid = FS_SET_SIZE;
		} else if (ops[i] == FS_LAYOUT_GET) {
			rq.len = 65536;
		} else if (ops[i] == FS_APPENDED) {
			rq.off = 4096;
		}
		assert_int_equal(client_submit(n->client, 1000 + i, &rq, 0), 0);
		client_void_change(n->client, 1000 + i);
		sent = client_next_local(n->client, &wire_tag);
		assert_non_null(sent);
		assert_int_equal(sent->extent_count, rq.extent_count);
		assert_int_equal(sent->valid, rq.valid);
		assert_int_equal(sent->len, rq.len);
		assert_int_equal(sent->off, rq.off);
		id = sent->id;
		assert_true(client_answered(n->client, wire_tag, &id, 0, &tag));
	}
}

/* A host whose guests discard all at once, while nobody coordinates. */
static void a_thousand_that_were_asked_before_are_told_in_turn(void **state)
{
	enum { COUNT = 1500 };
	uint64_t first = 0, told = 0;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	for (uint32_t i = 0; i < COUNT; i++) {
		uint64_t tag = change(FS_FALLOCATE, 9);

		first = first ? first : tag;
	}
	effects_reset(&fx);
	node_evicted(n, true, &fx);
	for (uint32_t steps = 0; steps < 10 && told < COUNT; steps++) {
		for (uint64_t tag = first; tag < first + COUNT; tag++)
			told += answer_of(tag) == -EIO;
		effects_reset(&fx);
		node_ask_step(n, &fx);
	}
	assert_int_equal(told, COUNT);
}

/* Its number is not used again; nothing of it is to be remembered. */
static void what_was_lost_is_forgotten_when_it_is_closed(void **state)
{
	struct fs_request rq = {.op = FS_CLOSE, .ino = INO, .lock.handle = 9};

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	node_evicted(n, true, &fx);
	assert_true(node_held_is_lost(n, 9));
	node_held_closed(n, &rq, &fx);
	assert_false(node_held_is_lost(n, 9));
}

/* Its process lets go, and there is no memory to say so. All memory that there was is back when the next one asks. */
static void let_go_without_memory(enum fs_op op, struct fs_lock l)
{
	struct fs_request rq = {.op = op, .ino = INO, .lock = l};
	void *all = take_all_memory(0);

	effects_reset(&fx);
	if (op == FS_CLOSE)
		node_held_closed(n, &rq, &fx);
	else
		node_held_request(n, ++tags, &rq, &fx);
	give_back_memory(all);
	assert_null(client_next_local(n->client, &(uint64_t){0}));
}

static void passes(uint64_t ns)
{
	n->now_ns += ns;
	node_ask_step(n, &fx);
}

/* hold= is over while the UNLOCK to READ is out. What was asked for is held: to say that it failed would be to say that the write lock still is. */
static void a_lock_that_became_weaker_has_done_so_whatever_comes_then(void **state)
{
	uint64_t tag;
	void *all;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	effects_reset(&fx);
	tag = ask_of(INO, FS_LOCK, lk(9, 0, 9, READ));
	coordinator_one();
	assert_int_equal(answer_of(tag), UNANSWERED);
	client_down(n->client);
	n->now_ns += 40 * NS_PER_SEC;
	node_held_expire(n, n->now_ns - 30 * NS_PER_SEC, &fx);
	assert_int_equal(answer_of(tag), 0);
	client_serve_local(n->client);
	coordinator();
	assert_true(!coordinator_has(9, 5, WRITE) && coordinator_has(9, 5, READ));
	/* And where there is no memory to say it. */
	n->peers[0].reclaimed = true;
	n->peers_end = 1;
	assert_int_equal(lock_of(INO, lk(9, 20, 29, WRITE)), 0);
	effects_reset(&fx);
	tag = ask_of(INO, FS_LOCK, lk(9, 20, 29, READ));
	all = take_all_memory(0);
	coordinator_one();
	give_back_memory(all);
	assert_int_equal(answer_of(tag), 0);
	passes(NS_PER_SEC);
	coordinator();
	assert_true(!coordinator_has(9, 25, WRITE) && coordinator_has(9, 25, READ));
}

/* Killed while the LOCK is out, of which we hear once; that is granted, and then nobody coordinates. */
static void who_was_killed_before_its_lock_became_weaker_is_let_go(void **state)
{
	const struct fs_request *rq;
	uint64_t tag, wire_tag;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	effects_reset(&fx);
	tag = ask_of(INO, FS_LOCK, lk(9, 0, 9, READ));
	rq = client_next_local(n->client, &wire_tag);
	node_kernel_cancel(n, tag, &fx);
	assert_int_equal(answer_of(tag), UNANSWERED);
	node_lock_serve(n, 0, true, wire_tag, rq, &fx);
	client_down(n->client);
	passes(NS_PER_SEC);
	assert_int_equal(answer_of(tag), 0);
}

/* We coordinate: no session ends, in whose place one would begin with what we hold. */
static void an_unlock_without_memory_comes_to_be_known_here(void **state)
{
	static const enum fs_op ops[] = {FS_UNLOCK, FS_CLOSE};

	n->peers[0].reclaimed = true;
	n->peers_end = 1;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
		assert_int_equal(lock_of(INO, lk(8, 20, 29, WRITE)), 0);
		let_go_without_memory(ops[i], lk(9, 0, FS_LK_END, NONE));
		assert_int_equal(answer_of(tags), ops[i] == FS_UNLOCK ? -ENOMEM : UNANSWERED);
		assert_int_equal(n->held.count, 1);
		assert_int_equal(lock_of(INO, lk(9, 0, 9, NONE)), 0); /* again: there is nothing to be asked for */
		assert_true(coordinator_has(9, 0, WRITE));
		assert_in_range(node_deadline(n), n->now_ns, n->now_ns + NS_PER_SEC);
		passes(NS_PER_SEC);
		assert_false(coordinator_has(9, 0, WRITE));
		assert_true(coordinator_has(8, 20, WRITE));
		assert_int_equal(n->unsaid_at_ns, NEVER);
	}
}

/* There is no room to tell who waited, and was granted what it wants just before what we hold is looked at. */
static void what_was_granted_and_is_not_told_yet_is_kept(void **state)
{
	struct fs_lock l = lk(7, 20, 29, WRITE);
	uint64_t tag;

	n->peers[0].reclaimed = true;
	n->peers_end = 1;
	/* Memory for requests, which is used again. */
	for (uint64_t i = 0; i < 8; i++)
		(void)ask_of(INO, FS_LOCK, lk(9, 10 * i, 10 * i, READ));
	coordinator();
	assert_int_equal(lock_of(INO, lk(9, 0, FS_LK_END, NONE)), 0);
	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	assert_int_equal(lock_of(INO, lk(8, 20, 39, WRITE)), 0);
	l.flags = FS_LK_WAIT;
	for (uint32_t i = 0; i < 2; i++, l.start += 10, l.end += 10)
		assert_int_equal(lock_of(INO, l), UNANSWERED);
	tag = tags;
	let_go_without_memory(FS_UNLOCK, lk(9, 0, FS_LK_END, NONE));
	(void)ask_of(INO, FS_LOCK, lk(8, 20, 39, NONE));
	/* Room for one. */
	while (effects_room(&fx, 82, 16384))
		effects_add(&fx, FX_DATA_FREE, 0);
	coordinator();
	assert_int_equal(answer_of(tag), UNANSWERED);
	passes(NS_PER_SEC);
	assert_true(coordinator_has(7, 30, WRITE));
	assert_true(coordinator_has(9, 0, WRITE));
	effects_reset(&fx);
	node_lock_step(n, &fx);
	assert_int_equal(answer_of(tag), 0);
	passes(NS_PER_SEC);
	assert_true(coordinator_has(7, 30, WRITE));
	assert_false(coordinator_has(9, 0, WRITE));
}

static struct session *another_node_coordinates(void)
{
	static struct session s;

	s.all = n->sessions;
	s.state = SESSION_UP;
	s.conn = 9;
	s.wanted = true;
	n->coord = &s;
	return &s;
}

/* What it is told as the next session begins is all that we hold. */
static void an_unlock_without_memory_ends_the_session(void **state)
{
	const struct session *s;

	assert_int_equal(lock_of(INO, lk(9, 0, 9, WRITE)), 0);
	s = another_node_coordinates();
	let_go_without_memory(FS_CLOSE, lk(9, 0, 0, NONE));
	assert_int_equal(s->state, SESSION_CLOSED);
	assert_int_equal(n->held.count, 0);
	n->coord = NULL;
}

/* In the next session it is asked again, and does nothing. */
static void what_cannot_be_taken_back_without_memory_ends_the_session(void **state)
{
	const struct session *s = another_node_coordinates();
	uint64_t hole = change(FS_FALLOCATE, 9), wire_tag;
	void *all;

	assert_non_null(client_next_local(n->client, &wire_tag));
	all = take_all_memory(0);
	node_kernel_cancel(n, hole, &fx);
	give_back_memory(all);
	assert_int_equal(answer_of(hole), -EINTR);
	assert_int_equal(s->state, SESSION_CLOSED);
	n->coord = NULL;
}

/* Threads of one process that all wait for the same part of a file. */
static void thousands_are_granted_to_one_owner_at_once(void **state)
{
	enum { COUNT = 1500 };
	uint64_t first = 0, told = 0;

	assert_int_equal(lock_of(INO, lk(8, 0, FS_LK_END, WRITE)), 0);
	for (uint64_t i = 0; i < COUNT; i++) {
		struct fs_lock l = lk(9, 0, 9, WRITE);
		uint64_t tag;

		l.flags = FS_LK_WAIT;
		tag = ask_of(INO, FS_LOCK, l);
		first = first ? first : tag;
	}
	coordinator();
	effects_reset(&fx);
	(void)ask_of(INO, FS_LOCK, lk(8, 0, FS_LK_END, NONE));
	(void)ask_of(INO, FS_LOCK, lk(9, 5000, 5000, WRITE));
	for (uint32_t steps = 0; steps < 10 && told < COUNT + 2; steps++) {
		for (uint32_t i = 0; i < 2 && client_has_local(n->client); i++)
			coordinator_one();
		for (uint64_t tag = first; tag < first + COUNT + 2; tag++)
			told += answer_of(tag) == 0;
		effects_reset(&fx);
		node_lock_step(n, &fx);
	}
	assert_int_equal(told, COUNT + 2);
	assert_int_equal(n->held.count, 2);
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
		cmocka_unit_test_setup_teardown(
			a_grant_without_memory_to_take_off_what_is_to_be_unlocked, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_wait_that_is_interrupted_without_memory_ends_later, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_unlock_happens_though_its_process_is_dying, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_close_waits_for_nobody_where_nobody_coordinates, setup, teardown),
		cmocka_unit_test_setup_teardown(a_question_that_is_out_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_lock_that_was_out_is_forgotten_with_its_session, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_lock_that_only_becomes_weaker_is_held, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_lock_that_became_weaker_has_done_so_whatever_comes_then, setup, teardown),
		cmocka_unit_test_setup_teardown(
			who_was_killed_before_its_lock_became_weaker_is_let_go, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_flock_that_is_interrupted_between_is_not_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_changes_a_file_through_it_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_was_asked_before_does_nothing_any_more, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_a_dead_process_asked_does_nothing_any_more, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_a_dead_process_asked_is_taken_back_before_its_locks_end, setup, teardown),
		cmocka_unit_test_setup_teardown(only_a_change_that_is_out_is_taken_back, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_is_waited_for_and_given_up_later_does_nothing_any_more, setup, teardown),
		cmocka_unit_test_setup_teardown(what_others_rely_on_is_never_void, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_was_lost_is_forgotten_when_it_is_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			a_thousand_that_were_asked_before_are_told_in_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_unlock_without_memory_comes_to_be_known_here, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_granted_and_is_not_told_yet_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(
			an_unlock_without_memory_ends_the_session, setup, teardown),
		cmocka_unit_test_setup_teardown(
			what_cannot_be_taken_back_without_memory_ends_the_session, setup, teardown),
		cmocka_unit_test_setup_teardown(
			thousands_are_granted_to_one_owner_at_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
