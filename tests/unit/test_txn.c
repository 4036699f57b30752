/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine_help.h"

static void a_change_is_there_after_close_and_open(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put p = {0, 4711, 0};

	assert_int_equal(run_sync_op(h->rs, help_put, &p), 0);
	assert_int_not_equal(p.blkno, 0);
	help_close(h);
	help_open(h);
	assert_false(vol_needed_replay(h->v));
	p.value = 0;
	assert_int_equal(run_sync_op(h->rs, help_get, &p), 0);
	assert_int_equal(p.value, 4711);
	help_free(h);
}

static void a_durable_change_is_there_after_a_crash(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put p = {0, 4711, 0};

	assert_int_equal(run_sync_op(h->rs, help_put, &p), 0);
	help_crash(h);
	help_open(h);
	assert_true(vol_needed_replay(h->v));
	p.value = 0;
	assert_int_equal(run_sync_op(h->rs, help_get, &p), 0);
	assert_int_equal(p.value, 4711);
	help_free(h);
}

static void a_failed_operation_leaves_no_trace(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put a = {0, 1, 0}, b = {0, 2, -EEXIST}, c = {0, 3, 0};
	struct fs_statfs before, after;
	uint64_t second;

	assert_int_equal(run_sync_op(h->rs, help_put, &a), 0);
	alloc_statfs(h->v, &before);
	assert_int_equal(run_sync_op(h->rs, help_put, &b), -EEXIST);
	b.blkno = a.blkno;
	assert_int_equal(run_sync_op(h->rs, help_put, &b), -EEXIST);
	alloc_statfs(h->v, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(h->v->run.count, 0);
	assert_int_equal(run_sync_op(h->rs, help_get, &a), 0);
	assert_int_equal(a.value, 1);
	/* The block that the failed one had is free. */
	second = a.blkno + 1;
	assert_int_equal(run_sync_op(h->rs, help_put, &c), 0);
	assert_int_equal(c.blkno, second);
	help_free(h);
}

static void a_freed_block_is_gone_and_can_be_had_again(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put keep = {0, 3, 0}, a = {0, 1, 0}, b = {0, 2, 0};

	assert_int_equal(
		run_sync_op(h->rs, help_put, &keep), 0); /* else the whole chunk were freed */
	assert_int_equal(run_sync_op(h->rs, help_put, &a), 0);
	assert_int_equal(run_sync_op(h->rs, help_free_block, &a), 0);
	assert_int_equal(run_sync_op(h->rs, help_free_block, &a), -EUCLEAN);
	assert_int_equal(run_sync_op(h->rs, help_put, &b), 0);
	assert_int_equal(b.blkno, a.blkno);
	help_crash(h);
	help_open(h);
	assert_int_equal(run_sync_op(h->rs, help_get, &b), 0);
	assert_int_equal(b.value, 2);
	help_free(h);
}

static int new_and_forget(struct txn *t, void *arg)
{
	struct help_put *p = arg;
	struct block *b;
	int err = alloc_block(t, 0, false, &p->blkno);

	if (!err)
		err = txn_new(t, p->blkno, HELP_MAGIC, HELP_OWNER, &b);
	if (!err)
		err = alloc_free_block(t, p->blkno);
	return err ? err : p->fail;
}

static void made_and_freed_in_one_operation_is_balanced(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put a = {0, 1, -EEXIST}, b = {0, 0, 0};

	assert_int_equal(run_sync_op(h->rs, new_and_forget, &a), -EEXIST);
	assert_int_equal(h->v->run.count, 0);
	assert_int_equal(h->v->run.forgot, 0);
	assert_int_equal(run_sync_op(h->rs, new_and_forget, &b), 0);
	assert_int_equal(run_sync_op(h->rs, help_put, &b), -EUCLEAN);
	b.blkno = 0;
	assert_int_equal(run_sync_op(h->rs, help_put, &b), 0);
	help_free(h);
}

static void pointers_out_of_the_volume_are_damage_not_a_crash(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put p = {1ull << 60, 0, 0};

	assert_int_equal(run_sync_op(h->rs, help_get, &p), -EUCLEAN);
	p.blkno = le64_get(h->v->geo->journal_start) + 5;
	assert_int_equal(run_sync_op(h->rs, help_get, &p), -EUCLEAN);
	p.blkno = le64_get(h->v->geo->data_start) + 77;
	assert_int_equal(run_sync_op(h->rs, help_get, &p), -EUCLEAN);
	assert_int_equal(vol_state(h->v), VOL_READY);
	help_free(h);
}

static int get_as_tree(struct txn *t, void *arg)
{
	struct block *b;

	return txn_get(t, ((struct help_put *)arg)->blkno, MAGIC_TREE, OWNER_ANY, &b);
}

static int get_as_anothers(struct txn *t, void *arg)
{
	struct block *b;

	return txn_get(t, ((struct help_put *)arg)->blkno, HELP_MAGIC, HELP_OWNER + 8, &b);
}

static void a_block_of_another_type_or_owner_is_damage(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put p = {0, 1, 0};

	assert_int_equal(run_sync_op(h->rs, help_put, &p), 0);
	assert_int_equal(run_sync_op(h->rs, get_as_tree, &p), -EUCLEAN);
	assert_int_equal(run_sync_op(h->rs, get_as_anothers, &p), -EUCLEAN);
	assert_int_equal(run_sync_op(h->rs, help_get, &p), 0);
	help_free(h);
}

struct many {
	uint32_t count;
};

static int make_many(struct txn *t, void *arg)
{
	const struct many *m = arg;
	uint64_t blkno = 0;
	struct block *b;
	int err = 0;

	for (uint32_t i = 0; i < m->count && !err; i++) {
		err = alloc_block(t, 0, false, &blkno);
		if (!err)
			err = txn_new(t, blkno, HELP_MAGIC, HELP_OWNER, &b);
		if (!err)
			((struct disk_value_block *)b->data)->len = le32_of(8);
	}
	return err;
}

/* An operation on the worst volume there can be: it is not cut short, and stops nobody. */
static void more_than_an_operation_is_admitted_for_is_done_when_there_is_room(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put one = {0, 1, 0}, two = {0, 2, 0};
	struct many m = {TXN_OP_BLOCKS + 80};

	assert_int_equal(run_sync_op(h->rs, help_put, &one), 0);
	assert_in_range(m.count, 1, h->v->journal.txn_max - 10);
	assert_int_equal(run_sync_op(h->rs, make_many, &m), 0);
	help_crash(h);
	help_open(h);
	two.blkno = one.blkno + m.count;
	assert_int_equal(run_sync_op(h->rs, help_get, &two), 0);
	help_free(h);
}

static void more_than_a_transaction_holds_is_put_back(void **state)
{
	struct help *h = help_new(64u << 20, 65536);
	struct help_put one = {0, 1, 0}, two = {0, 2, 0};
	struct fs_statfs before, after;
	struct many m = {250};

	assert_int_equal(run_sync_op(h->rs, help_put, &one), 0);
	assert_in_range(h->v->journal.txn_max, TXN_OP_BLOCKS, m.count);
	alloc_statfs(h->v, &before);
	assert_int_equal(run_sync_op(h->rs, make_many, &m), -ENOMEM);
	alloc_statfs(h->v, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(vol_state(h->v), VOL_READY);
	assert_int_equal(run_sync_op(h->rs, help_put, &two), 0);
	assert_int_equal(two.blkno, one.blkno + 1);
	help_free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_change_is_there_after_close_and_open),
		cmocka_unit_test(a_durable_change_is_there_after_a_crash),
		cmocka_unit_test(a_failed_operation_leaves_no_trace),
		cmocka_unit_test(a_freed_block_is_gone_and_can_be_had_again),
		cmocka_unit_test(made_and_freed_in_one_operation_is_balanced),
		cmocka_unit_test(a_block_of_another_type_or_owner_is_damage),
		cmocka_unit_test(more_than_an_operation_is_admitted_for_is_done_when_there_is_room),
		cmocka_unit_test(more_than_a_transaction_holds_is_put_back),
		cmocka_unit_test(pointers_out_of_the_volume_are_damage_not_a_crash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
