/* SPDX-License-Identifier: GPL-2.0-or-later */
/* test_scrub.c - metadata/scrub.c: what is damaged on the LUN is found, and mended where there is a sound copy. */
#include "engine_lun.h"

#define BYTES (64ull << 20)
#define CLUSTER 65536u

/* A volume with a block of metadata that an operation has just put. */
static struct lun *one(struct help_put *p)
{
	struct lun *l = lun_new(BYTES, CLUSTER);

	*p = (struct help_put){.value = 4711};
	assert_int_equal(lun_op(l, help_put, p), 0);
	lun_settle(l);
	return l;
}

static struct vol_scrub scrubbed(struct lun *l)
{
	struct vol_scrub st;

	assert_int_equal(vol_scrub(l->v, true), 0);
	assert_int_equal(vol_scrub(l->v, true), -EBUSY);
	lun_settle(l);
	vol_get_scrub(l->v, &st);
	assert_false(st.running);
	return st;
}

static bool sound(struct lun *l, uint64_t blkno)
{
	uint8_t b[BLOCK_SIZE];
	struct verify_report rep;

	l->dev.read(l->dev.ctx, blkno * BLOCK_SIZE, b, BLOCK_SIZE);
	return verify_header(b, 0, l->v->geo->h.uuid, blkno, &rep) == PROBLEM_NONE;
}

static void damage(struct lun *l, uint64_t blkno)
{
	uint8_t b[BLOCK_SIZE];

	l->dev.read(l->dev.ctx, blkno * BLOCK_SIZE, b, BLOCK_SIZE);
	b[1000] ^= 4;
	lun_poke(l, blkno, b);
	assert_false(sound(l, blkno));
}

static void forget(struct lun *l, uint64_t blkno)
{
	struct block *b = cache_find(l->v, blkno);

	if (b)
		cache_drop(l->v, b);
}

static void a_sound_volume_is_looked_at_whole(void **state)
{
	struct help_put p;
	struct lun *l = one(&p);
	struct vol_scrub st = scrubbed(l);

	assert_true(st.complete);
	assert_int_equal(st.found, 0);
	/* superblocks, replies, summary, heads, group, chunk header, the block */
	assert_true(st.checked >= 3 + NODES_MAX + 1 + JOURNAL_HEADS + 1 + 2);
	lun_free(l);
}

/* Everything but what no copy exists of. */
static void what_has_a_sound_copy_is_repaired(void **state)
{
	for (int i = 0; i < 9; i++) {
		struct help_put p;
		struct lun *l = one(&p);
		const struct disk_super *s = l->v->geo;
		uint64_t at[] = {SUPER_BLOCK, SUPER_COPY_BLOCK, le64_get(s->block_count) - 1,
			REPLY_BLOCK + 5, le64_get(s->summary_start), le64_get(s->journal_start),
			le64_get(s->journal_start) + 1, le64_get(s->group_start), p.blkno};
		struct vol_scrub st;

		damage(l, at[i]);
		st = scrubbed(l);
		assert_true(st.complete);
		assert_int_equal(st.found, 1);
		assert_int_equal(st.repaired, 1);
		assert_int_equal(st.finding[0].blkno, at[i]);
		assert_int_equal(st.finding[0].problem, PROBLEM_HEADER_CRC);
		lun_settle(l);
		assert_true(sound(l, at[i]));
		st = scrubbed(l);
		assert_int_equal(st.found, 0);
		lun_free(l);
	}
}

/* The index of all groups knows what stood there. */
static void the_summary_is_made_anew(void **state)
{
	struct help_put p;
	struct lun *l = one(&p);
	uint64_t blkno = le64_get(l->v->geo->summary_start);
	uint8_t was[BLOCK_SIZE], is[BLOCK_SIZE];

	l->dev.read(l->dev.ctx, blkno * BLOCK_SIZE, was, BLOCK_SIZE);
	damage(l, blkno);
	forget(l, blkno);
	assert_int_equal(scrubbed(l).repaired, 1);
	l->dev.read(l->dev.ctx, blkno * BLOCK_SIZE, is, BLOCK_SIZE);
	assert_memory_equal(was + sizeof(struct disk_header), is + sizeof(struct disk_header),
		BLOCK_SIZE - sizeof(struct disk_header));
	lun_free(l);
}

static void what_has_none_is_told_and_left(void **state)
{
	struct help_put p;
	struct lun *l = one(&p);
	struct vol_scrub st;

	damage(l, p.blkno);
	forget(l, p.blkno);
	st = scrubbed(l);
	assert_true(st.complete);
	assert_int_equal(st.found, 1);
	assert_int_equal(st.repaired, 0);
	assert_int_equal(st.finding[0].blkno, p.blkno);
	assert_false(sound(l, p.blkno));
	assert_int_equal(vol_state(l->v), VOL_READY);
	lun_free(l);
}

/* S1. */
static void what_the_journal_will_put_there_is_not_judged(void **state)
{
	struct help_put p = {.value = 1};
	struct lun *l = lun_new(BYTES, CLUSTER);
	struct vol_scrub st;

	assert_int_equal(lun_op(l, help_put, &p), 0);
	lun_run(l);
	assert_true(cache_find(l->v, p.blkno)->journal_seq);
	assert_false(sound(l, p.blkno)); /* nothing was ever written there */
	assert_int_equal(vol_scrub(l->v, true), 0);
	lun_settle(l);
	vol_get_scrub(l->v, &st);
	assert_true(st.complete);
	assert_int_equal(st.found, 0);
	lun_free(l);
}

/* S2: a block that is freed before it is judged is nobody's any more. */
static void one_look_is_not_enough(void **state)
{
	struct help_put p;
	struct lun *l = one(&p);
	struct vol_scrub st;
	uint8_t was[BLOCK_SIZE];

	l->dev.read(l->dev.ctx, p.blkno * BLOCK_SIZE, was, BLOCK_SIZE);
	damage(l, p.blkno);
	assert_int_equal(vol_scrub(l->v, true), 0);
	while (l->v->scrub.state != SCRUB_LOOK) {
		l->now_ns += NS_PER_MS;
		lun_run(l);
	}
	lun_poke(l, p.blkno, was); /* it was being written */
	lun_settle(l);
	vol_get_scrub(l->v, &st);
	assert_true(st.complete);
	assert_int_equal(st.found, 0);
	lun_free(l);
}

static void one_read_at_a_time_and_requests_go_on(void **state)
{
	struct help_put p, q = {.value = 2};
	struct lun *l = one(&p);

	assert_int_equal(vol_scrub(l->v, true), 0);
	for (int turns = 0; l->v->scrub.state != SCRUB_IDLE; turns++) {
		uint32_t reads = 0;

		assert_true(turns < 10000);
		lun_step(l);
		for (uint32_t i = 0; i < l->count; i++) {
			reads += l->cmd[i].c.op == LUN_READ;
			assert_true(l->cmd[i].c.len <= SCRUB_WINDOW * BLOCK_SIZE);
		}
		assert_true(reads <= 1);
		if (turns == 3)
			assert_int_equal(lun_op(l, help_put, &q), 0);
		if (l->count)
			lun_answer(l, 0, LUN_OK);
		l->now_ns += 500000;
	}
	lun_settle(l);
	lun_free(l);
}

static void it_can_be_stopped_at_any_point(void **state)
{
	for (uint64_t steps = 0; steps < 60; steps++) {
		struct help_put p;
		struct lun *l = one(&p);
		struct vol_scrub st;

		damage(l, REPLY_BLOCK + 3);
		damage(l, le64_get(l->v->geo->journal_start));
		assert_int_equal(vol_scrub(l->v, false), -EALREADY);
		assert_int_equal(vol_scrub(l->v, true), 0);
		for (uint64_t i = 0; i < steps; i++) {
			lun_step(l);
			if (l->count)
				lun_answer(l, 0, LUN_OK);
			l->now_ns += 3 * NS_PER_MS;
		}
		if (steps % 3 == 0) {
			vol_close(l->v, l->fx);
			lun_run(l);
			while (vol_state(l->v) != VOL_CLOSED) {
				l->now_ns += NS_PER_MS;
				lun_run(l);
			}
		} else {
			(void)vol_scrub(l->v, false);
			lun_settle(l);
			vol_get_scrub(l->v, &st);
			assert_false(st.running);
			assert_int_equal(vol_scrub(l->v, true), 0);
			lun_settle(l);
			vol_get_scrub(l->v, &st);
			assert_true(st.complete);
			assert_true(sound(l, REPLY_BLOCK + 3));
		}
		lun_free(l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sound_volume_is_looked_at_whole),
		cmocka_unit_test(what_has_a_sound_copy_is_repaired),
		cmocka_unit_test(the_summary_is_made_anew),
		cmocka_unit_test(what_has_none_is_told_and_left),
		cmocka_unit_test(what_the_journal_will_put_there_is_not_judged),
		cmocka_unit_test(one_look_is_not_enough),
		cmocka_unit_test(one_read_at_a_time_and_requests_go_on),
		cmocka_unit_test(it_can_be_stopped_at_any_point),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
