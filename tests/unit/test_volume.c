/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine_lun.h"

/* ------------------------------------------------------------------ abandon */

static void a_new_life_waits_for_the_commands_of_the_old_one(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct lun_wait old;
	struct vol_req r;
	uint32_t i = lun_record_waits(l, &r, &p);
	struct event ev = {.type = EV_LUN_DONE};

	old = l->cmd[i];
	l->count = 0;
	vol_abandon(l->v);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(vol_state(l->v), VOL_CLOSED);
	assert_true(vol_busy(l->v));
	/* V3: the write may still land; nothing is read before it has ended. */
	vol_open(l->v, ++l->epoch, l->fx);
	lun_step(l);
	assert_int_equal(l->count, 0);
	l->dev.write(l->dev.ctx, old.c.off, old.c.buf, old.c.len, true);
	ev.tag = old.tag;
	vol_lun_done(l->v, &ev, l->fx);
	lun_run(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_false(vol_busy(l->v));
	/* It did land. */
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(p.value, 2);
	/* The same completion again: nobody waits for it. */
	vol_lun_done(l->v, &ev, l->fx);
	lun_run(l);
	lun_free(l);
}

static void requests_come_back_from_wherever_they_waited(void **state)
{
	struct help_put p, q = {0, 3, 0};
	struct vol_req r[3];
	struct lun *l = lun_one(&p);

	assert_int_equal(lun_op(l, help_put, &q), 0);
	lun_settle(l);
	lun_crash(l);
	lun_open(l);
	lun_submit(l, &r[0], help_get, &p); /* waits for a block */
	lun_submit(l, &r[1], help_get, &p);
	vol_abandon(l->v);
	assert_ptr_equal(lun_done(l), &r[0]);
	assert_ptr_equal(lun_done(l), &r[1]);
	assert_null(lun_done(l));
	lun_free(l);

	l = lun_one(&p);
	lun_submit(l, &r[0], help_put, &p); /* in the commit in flight */
	lun_submit(l, &r[1], help_put, &p); /* in the running transaction */
	vol_abandon(l->v);
	memset(&r[2], 0, sizeof(r[2]));
	assert_ptr_equal(lun_done(l), &r[0]);
	assert_ptr_equal(lun_done(l), &r[1]);
	assert_null(lun_done(l));
	lun_free(l);
}

/* ------------------------------------------------------------------ superblocks */

static uint64_t last_block(const struct lun *l)
{
	return l->dev.bytes / BLOCK_SIZE - 1;
}

static void any_one_superblock_is_enough_to_find_the_journal(void **state)
{
	for (uint32_t bad = 0; bad < 8; bad++) {
		struct help_put p;
		struct lun *l = lun_one(&p);
		uint64_t at[3] = {SUPER_BLOCK, SUPER_COPY_BLOCK, last_block(l)};

		for (int i = 0; i < 3; i++)
			if (bad >> i & 1)
				lun_flip(l, at[i]);
		lun_crash(l);
		lun_open(l);
		/* Both of the first two: their trees' roots may be newer than the last copy. */
		if ((bad & 3) == 3) {
			assert_int_equal(vol_state(l->v), VOL_FROZEN);
			assert_int_equal(vol_reason(l->v), VOL_DAMAGED);
			lun_free(l);
			continue;
		}
		assert_int_equal(vol_state(l->v), VOL_READY);
		assert_int_equal(lun_op(l, help_get, &p), 0);
		/* What was damaged is whole again. */
		lun_settle(l);
		for (int i = 0; i < 2; i++) {
			struct verify_report rep;

			assert_int_equal(
				verify_super(lun_peek(l, at[i]), at[i], 0, &rep), PROBLEM_NONE);
		}
		lun_free(l);
	}
}

static int set_label(struct txn *t, void *arg)
{
	txn_super_dirty(t)->label[0] = *(char *)arg;
	return 0;
}

static void torn_superblocks_are_replayed(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	char x = 'X';

	assert_int_equal(lun_op(l, set_label, &x), 0);
	lun_flip(l, SUPER_BLOCK);
	lun_flip(l, SUPER_COPY_BLOCK);
	lun_crash(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_int_equal(vol_super(l->v)->label[0], 'X');
	vol_close(l->v, l->fx);
	lun_run(l);
	assert_int_equal(vol_state(l->v), VOL_CLOSED);
	/* Closed in order, all three say it. */
	assert_int_equal(((struct disk_super *)lun_peek(l, last_block(l)))->label[0], 'X');
	assert_int_equal(((struct disk_super *)lun_peek(l, SUPER_COPY_BLOCK))->label[0], 'X');
	lun_free(l);
}

static void edit_super(struct lun *l, void (*edit)(struct disk_super *s))
{
	struct disk_super *s = (struct disk_super *)lun_peek(l, SUPER_BLOCK);

	edit(s);
	verify_seal(s);
	lun_poke(l, SUPER_BLOCK, s);
}

static void set_version(struct disk_super *s)
{
	s->version = le32_of(99);
}

static void set_incompat(struct disk_super *s)
{
	s->incompat = le64_of(1ull << 40);
}

static void set_rocompat(struct disk_super *s)
{
	s->rocompat = le64_of(1ull << 40);
}

static void set_geometry(struct disk_super *s)
{
	s->journal_start = le64_of(5);
}

static void what_this_program_does_not_know_is_refused(void **state)
{
	static void (*const edits[])(struct disk_super *s) = {
		set_version, set_incompat, set_rocompat, set_geometry};

	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		struct help_put p;
		struct lun *l = lun_one(&p);
		uint64_t writes = l->sent[LUN_WRITE];

		edit_super(l, edits[i]);
		lun_crash(l);
		lun_open(l);
		assert_int_equal(vol_state(l->v), VOL_FROZEN);
		assert_int_equal(vol_reason(l->v), VOL_DAMAGED);
		assert_int_equal(l->sent[LUN_WRITE], writes);
		lun_free(l);
	}
}

static void a_truncated_device_is_refused(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);

	l->dev.bytes -= BLOCK_SIZE;
	lun_crash(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_FROZEN);
	assert_non_null(strstr(vol_error(l->v), "truncated"));
	assert_null(vol_super(l->v));
	lun_free(l);
}

/* The LUN has grown and the volume with it since this node logged in. */
static void a_volume_larger_than_the_login_told_asks_the_lun(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);

	lun_crash(l);
	l->v->cfg.lun_bytes -= CHUNK_SIZE;
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_int_equal(l->sent[LUN_CAPACITY], 1);
	lun_free(l);
}

static void an_empty_device_is_no_volume(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	uint8_t zeros[BLOCK_SIZE] = {0};

	lun_poke(l, 0, zeros);
	lun_poke(l, SUPER_COPY_BLOCK, zeros);
	lun_poke(l, last_block(l), zeros);
	lun_crash(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_FROZEN);
	assert_non_null(strstr(vol_error(l->v), "not a csvfs volume"));
	lun_free(l);
}

static void a_damaged_fixed_block_refuses_to_open(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	uint64_t at[2];

	at[0] = REPLY_BLOCK + 17;
	at[1] = le64_get(l->v->geo->summary_start);
	lun_free(l);
	for (int i = 0; i < 2; i++) {
		uint64_t writes;

		l = lun_one(&p);
		lun_flip(l, at[i]);
		lun_crash(l);
		lun_open(l);
		assert_int_equal(vol_state(l->v), VOL_FROZEN);
		assert_int_equal(vol_reason(l->v), VOL_DAMAGED);
		writes = l->sent[LUN_WRITE];
		lun_run(l);
		assert_int_equal(l->sent[LUN_WRITE], writes);
		lun_free(l);
	}
}

/* ------------------------------------------------------------------ read-only */

static void read_only_writes_nothing(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	uint64_t writes;

	l->cfg.readonly = true;
	lun_crash(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	writes = l->sent[LUN_WRITE];
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(lun_op(l, help_put, &p), -EROFS);
	vol_close(l->v, l->fx);
	lun_run(l);
	assert_int_equal(vol_state(l->v), VOL_CLOSED);
	assert_int_equal(l->sent[LUN_WRITE], writes);
	lun_free(l);
}

static void read_only_cannot_replay(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	uint64_t writes;

	p.value = 5;
	assert_int_equal(lun_op(l, help_put, &p), 0);
	l->cfg.readonly = true;
	lun_crash(l);
	writes = l->sent[LUN_WRITE];
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_FROZEN);
	assert_int_equal(vol_reason(l->v), VOL_PROTECTED);
	assert_int_equal(l->sent[LUN_WRITE], writes);
	lun_free(l);
}

/* ------------------------------------------------------------------ reply cache */

static struct {
	uint32_t executed, replied;
	uint64_t blkno;
	int err;
} ops;

/* Each execution counts one up in a block; the reply has the count. */
static int count_execute(struct txn *t, struct vol_req *r)
{
	struct help_put p = {ops.blkno, 0, 0};
	int err = help_get(t, &p);

	if (err)
		return err;
	p.value++;
	err = help_put(t, &p);
	ops.executed++;
	r->reply.attr.ino = p.value;
	r->reply.attr.generation = 77;
	r->reply.off = p.value * 10;
	return err ? err : ops.err;
}

static int count_replied(struct txn *t, struct vol_req *r)
{
	(void)t;
	ops.replied++;
	r->reply.attr.size = 1234;
	return 0;
}

static const struct vol_ops count_ops = {count_execute, count_replied, help_make_root, help_background};

static struct lun *counting(void)
{
	struct help_put p;
	struct lun *l = lun_one(&p);

	memset(&ops, 0, sizeof(ops));
	p.value = 0;
	assert_int_equal(lun_op(l, help_put, &p), 0);
	ops.blkno = p.blkno;
	l->cfg.ops = &count_ops;
	lun_crash(l);
	lun_open(l);
	return l;
}

static int ask(struct lun *l, struct vol_req *r, uint32_t node, uint64_t life, uint32_t slot, uint64_t seq)
{
	memset(r, 0, sizeof(*r));
	r->rq.op = FS_MKNOD;
	r->rq.id = (struct fs_reqid){node, slot, life, seq};
	vol_submit(l->v, r);
	lun_run(l);
	assert_ptr_equal(lun_done(l), r);
	return r->reply.err;
}

static void a_request_sent_again_is_answered_not_executed(void **state)
{
	struct lun *l = counting();
	struct vol_req r;

	assert_int_equal(ask(l, &r, 5, 100, 3, 1), 0);
	assert_int_equal(r.reply.attr.ino, 1);
	/* By the same coordinator, by one that closed in order, by one after a crash. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(ask(l, &r, 5, 100, 3, 1), 0);
		assert_int_equal(ops.executed, 1);
		assert_int_equal(ops.replied, (uint32_t)i + 1);
		assert_int_equal(r.reply.attr.ino, 1);
		assert_int_equal(r.reply.attr.generation, 77);
		assert_int_equal(r.reply.attr.size, 1234);
		assert_int_equal(r.reply.off, 10);
		if (i == 1) {
			vol_close(l->v, l->fx);
			lun_run(l);
		}
		lun_crash(l);
		lun_open(l);
	}
	assert_int_equal(ask(l, &r, 5, 100, 3, 2), 0);
	assert_int_equal(r.reply.attr.ino, 2);
	assert_int_equal(ask(l, &r, 5, 100, 3, 1), -ESTALE);
	assert_int_equal(ask(l, &r, 5, 100, 4, 1), 0);
	assert_int_equal(r.reply.attr.ino, 3);
	lun_free(l);
}

static void the_same_request_twice_at_once_is_executed_once(void **state)
{
	struct lun *l = counting();
	struct vol_req r[2];

	for (int i = 0; i < 2; i++) {
		memset(&r[i], 0, sizeof(r[i]));
		r[i].rq.op = FS_MKNOD;
		r[i].rq.id = (struct fs_reqid){5, 1, 100, 1};
		vol_submit(l->v, &r[i]);
	}
	lun_step(l);
	/* The second must not be answered before the first is durable either. */
	assert_null(lun_done(l));
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r[0]);
	assert_ptr_equal(lun_done(l), &r[1]);
	assert_int_equal(ops.executed, 1);
	assert_int_equal(ops.replied, 1);
	assert_int_equal(r[1].reply.attr.ino, 1);
	lun_free(l);
}

static void a_failed_request_is_not_recorded(void **state)
{
	struct lun *l = counting();
	struct vol_req r;

	ops.err = -EEXIST;
	assert_int_equal(ask(l, &r, 5, 100, 1, 1), -EEXIST);
	ops.err = 0;
	assert_int_equal(ask(l, &r, 5, 100, 1, 1), 0);
	assert_int_equal(r.reply.attr.ino, 1);
	lun_free(l);
}

static void a_new_life_of_a_node_starts_afresh(void **state)
{
	struct lun *l = counting();
	struct vol_req r;

	assert_int_equal(ask(l, &r, 5, 100, 1, 40), 0);
	assert_int_equal(ask(l, &r, 5, 101, 1, 1), 0);
	assert_int_equal(r.reply.attr.ino, 2);
	assert_int_equal(ops.replied, 0);
	lun_free(l);
}

static uint32_t gone_node;

static bool node_is_gone(void *ctx, uint32_t node)
{
	(void)ctx;
	return node == gone_node;
}

static void a_slot_is_taken_only_from_a_node_that_is_gone(void **state)
{
	struct lun *l = counting();
	struct vol_req r;

	for (uint32_t n = 1; n <= NODES_MAX; n++)
		assert_int_equal(ask(l, &r, n, 1000 + n, 1, 1), 0);
	assert_int_equal(ask(l, &r, 500, 7, 1, 1), -EBUSY);
	l->v->cfg.node_is_gone = node_is_gone;
	gone_node = 9;
	assert_int_equal(ask(l, &r, 500, 7, 1, 1), 0);
	assert_int_equal(ask(l, &r, 500, 7, 1, 1), 0);
	assert_int_equal(ops.replied, 1);
	/* The others are still known. */
	for (uint32_t n = 1; n <= NODES_MAX; n++)
		if (n != gone_node)
			assert_int_equal(ask(l, &r, n, 1000 + n, 1, 1), 0);
	assert_int_equal(ops.replied, NODES_MAX);
	lun_free(l);
}

static void bad_request_numbers_are_refused(void **state)
{
	struct lun *l = counting();
	struct vol_req r;

	assert_int_equal(ask(l, &r, 5, 100, SLOTS_MAX + 1, 1), -EINVAL);
	assert_int_equal(ask(l, &r, 5, 0, 1, 1), -EINVAL);
	lun_free(l);
}

/* ------------------------------------------------------------------ background, steps */

static struct {
	int steps_left, calls;
	uint64_t blkno;
} bg;

static int bg_step(struct txn *t, uint64_t *ino)
{
	struct help_put p = {bg.blkno, 0, 0};
	int err;

	bg.calls++;
	if (!bg.steps_left)
		return -ENOENT;
	err = help_get(t, &p);
	p.value++;
	if (!err)
		err = help_put(t, &p);
	if (!err)
		bg.steps_left--;
	return err;
}

static int kick(struct txn *t, void *arg)
{
	(void)arg;
	txn_kick(t);
	return 0;
}

static const struct vol_ops bg_ops = {help_execute, help_execute, help_make_root, bg_step};

static void background_work_is_done_after_open_and_when_kicked(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);

	l->cfg.ops = &bg_ops;
	bg.blkno = p.blkno;
	bg.steps_left = 5;
	lun_crash(l);
	lun_open(l);
	assert_int_equal(bg.steps_left, 0);
	bg.calls = 0;
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(p.value, 6);
	assert_int_equal(bg.calls, 0);
	bg.steps_left = 3;
	assert_int_equal(lun_op(l, kick, NULL), 0);
	lun_run(l);
	assert_int_equal(bg.steps_left, 0);
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(p.value, 9);
	lun_free(l);
}

struct steps {
	uint64_t blkno;
	int left, runs;
};

static int in_steps(struct txn *t, void *arg)
{
	struct steps *s = arg;
	struct help_put p = {s->blkno, 0, 0};
	int err = help_get(t, &p);

	s->runs++;
	p.value++;
	if (!err)
		err = help_put(t, &p);
	if (err)
		return err;
	return --s->left ? -EINPROGRESS : 0;
}

static void long_work_goes_on_step_by_step(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct steps s = {p.blkno, 400, 0};

	assert_int_equal(lun_op(l, in_steps, &s), 0);
	assert_int_equal(s.left, 0);
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(p.value, 401);
	lun_free(l);
}

/* ------------------------------------------------------------------ odds and ends */

static void closing_finishes_what_was_submitted(void **state)
{
	struct help_put p, q = {0, 2, 0};
	struct lun *l = lun_one(&p);
	struct vol_req r[2];

	lun_submit(l, &r[0], help_put, &p);
	lun_submit(l, &r[1], help_put, &q);
	vol_close(l->v, l->fx);
	lun_run(l);
	assert_int_equal(vol_state(l->v), VOL_CLOSED);
	assert_ptr_equal(lun_done(l), &r[0]);
	assert_ptr_equal(lun_done(l), &r[1]);
	lun_crash(l);
	lun_open(l);
	assert_false(vol_needed_replay(l->v));
	assert_int_equal(lun_op(l, help_get, &q), 0);
	lun_free(l);
}

static void closed_while_opening_it_stays_as_it_was(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);

	lun_crash(l);
	vol_open(l->v, ++l->epoch, l->fx);
	lun_step(l);
	vol_close(l->v, l->fx);
	assert_int_equal(vol_state(l->v), VOL_CLOSED);
	lun_run(l);
	vol_open(l->v, ++l->epoch, l->fx);
	lun_run(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	lun_free(l);
}

static void foreign_completions_are_ignored(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct vol_req r;
	struct event ev = {.type = EV_LUN_DONE};

	p.value = 2;
	lun_submit(l, &r, help_put, &p);
	for (uint64_t n = 0; n < 5000; n++) {
		ev.tag = TAG(TAG_META, n);
		if (ev.tag != l->cmd[0].tag)
			vol_lun_done(l->v, &ev, l->fx);
	}
	lun_step(l);
	assert_int_equal(l->count, 1);
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	lun_free(l);
}

static int too_much(struct txn *t, void *arg)
{
	(void)arg;
	return txn_wait_room(t);
}

static void what_can_never_have_room_fails(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);

	assert_int_equal(lun_op(l, too_much, NULL), -ENOMEM);
	assert_int_equal(vol_state(l->v), VOL_READY);
	lun_free(l);
}

static void a_block_that_would_be_written_damaged_freezes_first(void **state)
{
	struct help_put p;
	struct lun *l = lun_one(&p);
	struct block *b = cache_find(l->v, p.blkno);
	uint64_t writes = l->sent[LUN_WRITE];
	struct vol_req r;

	/* A bug somewhere writes over a block's length. */
	((struct disk_value_block *)b->data)->len = le32_of(1u << 30);
	p.value = 3;
	lun_submit(l, &r, help_get, &p);
	(void)lun_done(l);
	lun_submit(l, &r, kick, NULL);
	txn_begin(l->v, 0);
	txn_dirty(&l->v->txn, b);
	assert_true(txn_keep(&l->v->txn));
	lun_run(l);
	assert_int_equal(vol_state(l->v), VOL_FROZEN);
	assert_int_equal(vol_reason(l->v), VOL_DAMAGED);
	assert_int_equal(l->sent[LUN_WRITE], writes);
	lun_free(l);
}

static struct {
	bool held;
	uint32_t asked, count;
	uint64_t ino;
	const struct vol_req *r;
} others;

static bool may_change(void *ctx, struct vol_req *r, const uint64_t *inos, uint32_t count)
{
	(void)ctx;
	others.asked++;
	others.count = count;
	others.ino = inos[0];
	others.r = r;
	return !others.held;
}

static int put_and_change(struct txn *t, void *arg)
{
	int err = help_put(t, arg);

	txn_changes(t, 9);
	txn_changes(t, 9);
	return err;
}

/* Cache leases: what others must forget first leaves no trace until they have. */
static void a_change_that_others_must_hear_of_first_is_undone_and_waits(void **state)
{
	struct help_put p, got = {0};
	struct lun *l = lun_one(&p);
	struct vol_req r, q;

	l->v->cfg.may_change = may_change;
	others.held = true;
	others.asked = 0;
	p.value = 2;
	lun_submit(l, &r, put_and_change, &p);
	lun_settle(l);
	assert_null(lun_done(l));
	assert_int_equal(others.asked, 1);
	assert_int_equal(others.count, 1);
	assert_int_equal(others.ino, 9);
	assert_ptr_equal(others.r, &r);
	got.blkno = p.blkno;
	assert_int_equal(lun_op(l, help_get, &got), 0);
	assert_int_equal(got.value, 1); /* as it was */
	vol_unheld(l->v);
	lun_settle(l);
	assert_int_equal(others.asked, 2);
	assert_null(lun_done(l));
	others.held = false;
	vol_unheld(l->v);
	lun_settle(l);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(r.reply.err, 0);
	assert_int_equal(lun_op(l, help_get, &got), 0);
	assert_int_equal(got.value, 2);

	/* And it is among what is given back. */
	others.held = true;
	lun_submit(l, &q, put_and_change, &p);
	lun_settle(l);
	vol_abandon(l->v);
	assert_ptr_equal(lun_done(l), &q);
	assert_int_equal(q.reply.err, -ECONNRESET);
	lun_free(l);
}

static void withdrawn(struct lun *l, struct vol_req *r)
{
	assert_true(vol_withdraw(l->v, r));
	assert_false(vol_withdraw(l->v, r));
	assert_ptr_equal(lun_done(l), r);
	assert_int_equal(r->reply.err, -ECONNRESET);
}

/* Who asked for it is gone: it is not done when what it waits for is there. */
static void what_waits_can_be_withdrawn(void **state)
{
	struct help_put p, q = {0, 3, 0}, got = {0};
	struct lun *l = lun_one(&p);
	struct vol_req r;

	assert_int_equal(lun_op(l, help_put, &q), 0);
	lun_settle(l);
	lun_crash(l);
	lun_open(l);
	lun_submit(l, &r, help_get, &p); /* waits for a block */
	withdrawn(l, &r);
	lun_settle(l);
	assert_null(lun_done(l));

	l->v->cfg.may_change = may_change;
	others.held = true;
	p.value = 2;
	lun_submit(l, &r, put_and_change, &p);
	lun_settle(l);
	withdrawn(l, &r);
	others.held = false;
	vol_unheld(l->v);
	lun_settle(l);
	assert_null(lun_done(l));
	got.blkno = p.blkno;
	assert_int_equal(lun_op(l, help_get, &got), 0);
	assert_int_equal(got.value, 1);

	lun_submit(l, &r, put_and_change, &p); /* done, and not durable */
	assert_false(vol_withdraw(l->v, &r));
	lun_settle(l);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(r.reply.err, 0);
	lun_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_waits_can_be_withdrawn),
		cmocka_unit_test(a_change_that_others_must_hear_of_first_is_undone_and_waits),
		cmocka_unit_test(a_new_life_waits_for_the_commands_of_the_old_one),
		cmocka_unit_test(requests_come_back_from_wherever_they_waited),
		cmocka_unit_test(any_one_superblock_is_enough_to_find_the_journal),
		cmocka_unit_test(torn_superblocks_are_replayed),
		cmocka_unit_test(what_this_program_does_not_know_is_refused),
		cmocka_unit_test(a_truncated_device_is_refused),
		cmocka_unit_test(a_volume_larger_than_the_login_told_asks_the_lun),
		cmocka_unit_test(an_empty_device_is_no_volume),
		cmocka_unit_test(a_damaged_fixed_block_refuses_to_open),
		cmocka_unit_test(read_only_writes_nothing),
		cmocka_unit_test(read_only_cannot_replay),
		cmocka_unit_test(a_request_sent_again_is_answered_not_executed),
		cmocka_unit_test(the_same_request_twice_at_once_is_executed_once),
		cmocka_unit_test(a_failed_request_is_not_recorded),
		cmocka_unit_test(a_new_life_of_a_node_starts_afresh),
		cmocka_unit_test(a_slot_is_taken_only_from_a_node_that_is_gone),
		cmocka_unit_test(bad_request_numbers_are_refused),
		cmocka_unit_test(background_work_is_done_after_open_and_when_kicked),
		cmocka_unit_test(long_work_goes_on_step_by_step),
		cmocka_unit_test(closing_finishes_what_was_submitted),
		cmocka_unit_test(closed_while_opening_it_stays_as_it_was),
		cmocka_unit_test(foreign_completions_are_ignored),
		cmocka_unit_test(what_can_never_have_room_fails),
		cmocka_unit_test(a_block_that_would_be_written_damaged_freezes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
