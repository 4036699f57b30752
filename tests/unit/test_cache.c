/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine_lun.h"

#define MANY 3000u

static struct help_put put[MANY];

/* More blocks than the cache holds; each with its own number. */
static void fill(struct lun *l)
{
	for (uint32_t i = 0; i < MANY; i++) {
		put[i] = (struct help_put){0, i, 0};
		assert_int_equal(lun_op(l, help_put, &put[i]), 0);
	}
}

static void blocks_that_do_not_fit_are_read_again(void **state)
{
	struct lun *l = lun_new(64u << 20, 65536);

	fill(l);
	assert_true(l->v->cache.count <= l->v->cache.max);
	for (uint32_t i = 0; i < MANY; i++) {
		put[i].value = 0;
		assert_int_equal(lun_op(l, help_get, &put[i]), 0);
		assert_int_equal(put[i].value, i);
	}
	assert_true(l->v->cache.misses > MANY - l->v->cache.max);
	lun_free(l);
}

static void many_requests_wait_for_blocks_at_once_and_all_end(void **state)
{
	static struct vol_req r[MANY];
	struct lun *l = lun_new(64u << 20, 65536);
	uint32_t done = 0;

	fill(l);
	for (uint32_t i = 0; i < MANY; i++) {
		put[i].value = 0;
		lun_submit(l, &r[i], help_get, &put[i]);
	}
	lun_run(l);
	while (lun_done(l))
		done++;
	assert_int_equal(done, MANY);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(put[i].value, i);
	lun_free(l);
}

static void all_who_wait_for_a_block_share_one_read(void **state)
{
	struct help_put p = {0, 7, 0};
	struct vol_req r[5];
	struct lun *l = lun_new(64u << 20, 65536);
	uint64_t reads;

	assert_int_equal(lun_op(l, help_put, &p), 0);
	lun_settle(l);
	lun_crash(l);
	lun_open(l);
	reads = l->sent[LUN_READ];
	for (int i = 0; i < 5; i++)
		lun_submit(l, &r[i], help_get, &p);
	assert_int_equal(l->sent[LUN_READ], reads + 1);
	assert_null(lun_done(l));
	lun_run(l);
	/* In the order in which they came. */
	for (int i = 0; i < 5; i++)
		assert_ptr_equal(lun_done(l), &r[i]);
	lun_free(l);
}

static void a_block_that_cannot_be_read_fails_its_request_alone(void **state)
{
	struct help_put p = {0, 7, 0}, q = {0, 8, 0};
	struct vol_req r;
	struct lun *l = lun_new(64u << 20, 65536);

	assert_int_equal(lun_op(l, help_put, &p), 0);
	assert_int_equal(lun_op(l, help_put, &q), 0);
	lun_settle(l);
	lun_crash(l);
	lun_open(l);
	lun_submit(l, &r, help_get, &p);
	lun_answer(l, (uint32_t)lun_find(l, LUN_READ), LUN_MEDIUM);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(r.reply.err, -EIO);
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_int_equal(lun_op(l, help_get, &q), 0);
	/* Asked again, it is read again. */
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(p.value, 7);
	lun_free(l);
}

static void a_damaged_block_fails_its_request_alone(void **state)
{
	struct help_put p = {0, 7, 0};
	struct lun *l = lun_new(64u << 20, 65536);

	assert_int_equal(lun_op(l, help_put, &p), 0);
	lun_settle(l);
	lun_crash(l);
	lun_open(l);
	lun_flip(l, p.blkno);
	assert_int_equal(lun_op(l, help_get, &p), -EUCLEAN);
	assert_int_equal(vol_state(l->v), VOL_READY);
	lun_free(l);
}

static void a_block_in_another_ones_place_is_refused(void **state)
{
	struct help_put p = {0, 7, 0}, q = {0, 8, 0};
	struct lun *l = lun_new(64u << 20, 65536);

	assert_int_equal(lun_op(l, help_put, &p), 0);
	assert_int_equal(lun_op(l, help_put, &q), 0);
	lun_settle(l);
	lun_crash(l);
	lun_open(l);
	lun_poke(l, p.blkno, lun_peek(l, q.blkno));
	assert_int_equal(lun_op(l, help_get, &p), -EUCLEAN);
	lun_free(l);
}

static void what_is_not_in_its_place_is_never_evicted(void **state)
{
	static struct vol_req r[1000];
	struct lun *l = lun_new(64u << 20, 65536);
	struct vol *v = l->v;

	/* The LUN answers nothing: only so much may be begun as can be held. */
	for (uint32_t i = 0; i < 1000; i++) {
		put[i] = (struct help_put){0, i, 0};
		lun_submit(l, &r[i], help_put, &put[i]);
		assert_true(v->cache.count <= v->cache.max);
		assert_true(v->run.count <= v->journal.txn_max);
	}
	assert_false(list_empty(&v->queue));
	assert_null(lun_done(l));
	lun_run(l);
	for (uint32_t i = 0; i < 1000; i++)
		assert_ptr_equal(lun_done(l), &r[i]);
	lun_free(l);
}

static void undone_it_still_must_not_be_evicted(void **state)
{
	struct lun *l = lun_new(64u << 20, 65536);
	struct help_put p = {0, 1, 0};
	struct block *b;

	assert_int_equal(lun_op(l, help_put, &p), 0);
	b = cache_find(l->v, p.blkno);
	assert_true(b->journal_seq && list_empty(&b->lru));
	p.fail = -EEXIST;
	assert_int_equal(lun_op(l, help_put, &p), -EEXIST);
	assert_true(b->journal_seq && list_empty(&b->lru));
	lun_settle(l);
	assert_true(!b->journal_seq && !list_empty(&b->lru));
	p.fail = -EEXIST;
	assert_int_equal(lun_op(l, help_put, &p), -EEXIST);
	assert_false(list_empty(&b->lru));
	lun_free(l);
}

/* ------------------------------------------------------------------ neighbours */

#define NEAR 40u

/* A volume with NEAR blocks side by side, none in the cache, which is large enough to read 16 at once. */
static struct lun *side_by_side(void)
{
	struct lun *l = lun_new(64u << 20, 65536);

	for (uint32_t i = 0; i < NEAR; i++) {
		put[i] = (struct help_put){0, i, 0};
		assert_int_equal(lun_op(l, help_put, &put[i]), 0);
	}
	assert_int_equal(put[NEAR - 1].blkno, put[0].blkno + NEAR - 1);
	lun_settle(l);
	free(l->region);
	l->region = aligned_alloc(4096, 96u << 20);
	mem_init(&l->m, l->region, 96u << 20);
	l->cfg.cache_bytes = 64u << 20;
	l->v = vol_create(&l->cfg);
	lun_open(l);
	assert_int_equal(l->v->fetch.blocks, 16);
	return l;
}

/* All that may be evicted is. */
static void evict_all(struct lun *l)
{
	lun_settle(l);
	while (!list_empty(&l->v->cache.lru))
		cache_drop(l->v, list_first_entry(&l->v->cache.lru, struct block, lru));
}

static void neighbours_come_with_one_read(void **state)
{
	struct lun *l = side_by_side();
	uint64_t reads = l->sent[LUN_READ];

	for (uint32_t i = 0; i < NEAR; i++) {
		put[i].value = 0;
		assert_int_equal(lun_op(l, help_get, &put[i]), 0);
		assert_int_equal(put[i].value, i);
	}
	assert_in_range(l->sent[LUN_READ] - reads, 3, 4);
	lun_free(l);
}

static void a_neighbour_that_cannot_be_read_harms_nobody(void **state)
{
	struct lun *l = side_by_side();
	struct vol_req r;

	lun_submit(l, &r, help_get, &put[20]);
	lun_answer(l, 0, LUN_MEDIUM);
	assert_int_equal(l->count, 1);
	assert_int_equal(l->cmd[0].c.len, BLOCK_SIZE);
	lun_run(l);
	assert_ptr_equal(lun_done(l), &r);
	assert_int_equal(r.reply.err, 0);
	/* A damaged one is said when it is asked for. */
	lun_flip(l, put[37].blkno);
	assert_int_equal(lun_op(l, help_get, &put[36]), 0);
	assert_int_equal(lun_op(l, help_get, &put[37]), -EUCLEAN);
	lun_free(l);
}

static void a_block_made_while_it_is_read_is_the_new_one(void **state)
{
	struct help_put keep = {0, 2, 0}, old = {0, 1, 0}, made = {0, 4711, 0};
	struct lun *l = lun_new(64u << 20, 65536);
	struct vol_req r[3];

	assert_int_equal(lun_op(l, help_put, &keep), 0); /* else the whole chunk were freed */
	assert_int_equal(lun_op(l, help_put, &old), 0);
	evict_all(l);
	/* Its read is held; meanwhile it is freed, and the next allocation gives it. */
	lun_submit(l, &r[0], help_get, &old);
	lun_submit(l, &r[1], help_free_block, &old);
	while (l->count > 1)
		lun_answer(l, 1, LUN_OK);
	lun_submit(l, &r[2], help_put, &made);
	while (l->count > 1)
		lun_answer(l, 1, LUN_OK);
	assert_int_equal(made.blkno, 0);
	lun_run(l);
	while (lun_done(l))
		;
	assert_int_equal(r[2].reply.err, 0);
	assert_int_equal(made.blkno, old.blkno);
	made.value = 0;
	assert_int_equal(lun_op(l, help_get, &made), 0);
	assert_int_equal(made.value, 4711);
	lun_free(l);
}

static void a_read_fills_only_what_waits_for_it(void **state)
{
	struct lun *l = side_by_side();
	struct vol_req a, c;
	struct block *b;

	assert_int_equal(lun_op(l, help_get, &put[21]), 0);
	for (uint32_t i = 0; i < NEAR; i++) {
		b = cache_find(l->v, put[i].blkno);
		if (b && i != 21 && i != 23)
			cache_drop(l->v, b);
	}
	/* The first read is for all around 21 and 23, the second for these two and what is between. */
	lun_submit(l, &a, help_get, &put[20]);
	cache_drop(l->v, cache_find(l->v, put[21].blkno));
	cache_drop(l->v, cache_find(l->v, put[23].blkno));
	lun_submit(l, &c, help_get, &put[21]);
	assert_int_equal(l->count, 2);
	lun_answer(l, 1, LUN_OK);
	assert_ptr_equal(lun_done(l), &c);
	b = cache_find(l->v, put[22].blkno);
	assert_int_equal(b->state, BLOCK_READING);
	lun_run(l);
	assert_int_equal(b->state, BLOCK_VALID);
	assert_ptr_equal(lun_done(l), &a);
	lun_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_that_do_not_fit_are_read_again),
		cmocka_unit_test(many_requests_wait_for_blocks_at_once_and_all_end),
		cmocka_unit_test(all_who_wait_for_a_block_share_one_read),
		cmocka_unit_test(a_block_that_cannot_be_read_fails_its_request_alone),
		cmocka_unit_test(a_damaged_block_fails_its_request_alone),
		cmocka_unit_test(a_block_in_another_ones_place_is_refused),
		cmocka_unit_test(what_is_not_in_its_place_is_never_evicted),
		cmocka_unit_test(undone_it_still_must_not_be_evicted),
		cmocka_unit_test(neighbours_come_with_one_read),
		cmocka_unit_test(a_neighbour_that_cannot_be_read_harms_nobody),
		cmocka_unit_test(a_block_made_while_it_is_read_is_the_new_one),
		cmocka_unit_test(a_read_fills_only_what_waits_for_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
