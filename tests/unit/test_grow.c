/* SPDX-License-Identifier: GPL-2.0-or-later */
/* test_grow.c - metadata/grow.c without memory: a volume that has grown has its index (G6). */
#include "engine_lun.h"

#define BYTES (64ull << 20)
#define CLUSTER 65536u

/* Nothing can be allocated from now on. */
static uint64_t memory_ends(struct lun *l)
{
	uint64_t low = l->m.low;

	memset(l->m.free, 0, sizeof(l->m.free));
	l->m.low = l->m.high;
	return low;
}

static void closed_well(struct lun *l, uint64_t bytes)
{
	struct verify_report rep;
	uint8_t b[BLOCK_SIZE];
	const struct disk_super *s = (const struct disk_super *)b;

	vol_close(l->v, l->fx);
	lun_settle(l);
	assert_int_equal(vol_state(l->v), VOL_CLOSED);
	l->dev.read(l->dev.ctx, bytes - BLOCK_SIZE, b, BLOCK_SIZE);
	assert_int_equal(verify_header(s, MAGIC_SUPER, l->v->geo->h.uuid, bytes / BLOCK_SIZE - 1, &rep),
		PROBLEM_NONE);
	assert_int_equal(le64_get(s->volume_bytes), bytes);
}

static void without_memory_for_the_index_nothing_is_written(void **state)
{
	struct lun *l = lun_new_room(BYTES, 2 * BYTES, CLUSTER, 0);
	uint64_t low, sent;

	(void)state;
	lun_settle(l);
	l->dev.bytes = 2 * BYTES;
	low = memory_ends(l);
	sent = l->sent[LUN_WRITE];
	assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), -ENOMEM);
	assert_int_equal(vol_grow_result(l->v), 0);
	lun_settle(l);
	assert_int_equal(l->sent[LUN_WRITE], sent);
	assert_int_equal(le64_get(l->v->geo->volume_bytes), BYTES);
	l->m.low = low;
	assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), 0);
	lun_settle(l);
	assert_int_equal(vol_grow_result(l->v), 0);
	closed_well(l, 2 * BYTES);
	lun_free(l);
}

static void once_begun_it_needs_no_memory(void **state)
{
	struct lun *l = lun_new_room(BYTES, 2 * BYTES, CLUSTER, 0);
	uint64_t low;

	(void)state;
	lun_settle(l);
	l->dev.bytes = 2 * BYTES;
	assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), 0);
	while (l->v->grow.state != GROW_PLACE) {
		lun_step(l);
		if (l->count)
			lun_answer(l, 0, LUN_OK);
	}
	low = memory_ends(l);
	lun_settle(l);
	l->m.low = low;
	assert_int_equal(vol_grow_result(l->v), 0);
	assert_int_equal(le64_get(l->v->geo->volume_bytes), 2 * BYTES);
	closed_well(l, 2 * BYTES);
	lun_free(l);
}

/* What was taken for it is given back when the volume is opened again, or destroyed. */
static void what_was_begun_leaves_no_memory_behind(void **state)
{
	struct lun *l = lun_new_room(BYTES, 2 * BYTES, CLUSTER, 0);
	uint64_t live;

	(void)state;
	lun_settle(l);
	live = l->m.live;
	l->dev.bytes = 2 * BYTES;
	assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), 0);
	assert_true(l->m.live > live);
	lun_step(l);
	lun_answer(l, 0, LUN_UNKNOWN);
	assert_int_equal(vol_state(l->v), VOL_FROZEN);
	vol_abandon(l->v);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_int_equal(l->m.live, live);
	assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), 0);
	lun_step(l);
	lun_answer(l, 0, LUN_UNKNOWN);
	vol_abandon(l->v);
	vol_destroy(l->v);
	assert_int_equal(l->m.live, 0);
	lun_free(l);
}

/* The operation fails; who asks for growth next is not told of it. */
static void a_failure_is_told_once(void **state)
{
	struct lun *l = lun_new_room(BYTES, 2 * BYTES, CLUSTER, 0);
	uint64_t low;

	(void)state;
	lun_settle(l);
	l->dev.bytes = 2 * BYTES;
	assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), 0);
	low = memory_ends(l);
	lun_settle(l);
	l->m.low = low;
	assert_int_equal(vol_grow_result(l->v), -ENOMEM);
	assert_int_equal(vol_grow_result(l->v), 0);
	assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), 0);
	assert_int_equal(vol_grow_result(l->v), -EINPROGRESS);
	lun_settle(l);
	assert_int_equal(vol_grow_result(l->v), 0);
	closed_well(l, 2 * BYTES);
	lun_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_memory_for_the_index_nothing_is_written),
		cmocka_unit_test(once_begun_it_needs_no_memory),
		cmocka_unit_test(a_failure_is_told_once),
		cmocka_unit_test(what_was_begun_leaves_no_memory_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
