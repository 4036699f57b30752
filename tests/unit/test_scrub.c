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

static uint64_t newest_head(struct lun *l)
{
	return le64_get(l->v->geo->journal_start) + l->v->journal.head_count % JOURNAL_HEADS;
}

static bool is_head(const struct lun *l, const struct lun_cmd *c)
{
	uint64_t first = le64_get(l->v->geo->journal_start);

	return c->op == LUN_WRITE && (lun_covers(c, first) || lun_covers(c, first + 1));
}

/* Power fails when half of the n-th head that is written is there; false: there was none. */
static bool head_torn(struct lun *l, int n)
{
	uint8_t b[BLOCK_SIZE];

	for (;;) {
		lun_step(l);
		if (!l->count) {
			if (vol_deadline(l->v) == NEVER)
				return false;
			l->now_ns = vol_deadline(l->v) > l->now_ns ? vol_deadline(l->v) : l->now_ns;
			continue;
		}
		if (is_head(l, &l->cmd[0].c) && !--n)
			break;
		lun_answer(l, 0, LUN_OK);
	}
	memcpy(b, l->cmd[0].c.buf, BLOCK_SIZE);
	memset(b + 512, 0xff, BLOCK_SIZE - 512);
	lun_poke(l, l->cmd[0].c.off / BLOCK_SIZE, b);
	return true;
}

/* Power fails at each head that is written while the newest one is rotten: the other is always there. */
static void the_newest_head_is_renewed_in_its_own_place(void **state)
{
	int torn = 0;

	for (int turn = 0; turn < 2; turn++) {
		for (int n = 1;; n++) {
			struct help_put p;
			struct lun *l = one(&p);
			bool failed;

			if (turn) {
				assert_int_equal(lun_op(l, help_put, &p), 0);
				lun_settle(l);
			}
			damage(l, newest_head(l));
			assert_int_equal(vol_scrub(l->v, true), 0);
			failed = head_torn(l, n);
			torn += failed;
			lun_crash(l);
			lun_open(l);
			assert_int_equal(vol_state(l->v), VOL_READY);
			assert_int_equal(lun_op(l, help_get, &p), 0);
			assert_int_equal(p.value, 4711);
			assert_int_equal(scrubbed(l).found, 0);
			lun_free(l);
			if (!failed)
				break;
		}
	}
	assert_int_equal(torn, 2);
}

static void a_head_that_cannot_be_read_is_renewed(void **state)
{
	for (uint64_t i = 0; i < JOURNAL_HEADS; i++) {
		struct help_put p;
		struct lun *l = one(&p);
		struct vol_scrub st;

		l->bad[0] = le64_get(l->v->geo->journal_start) + i;
		st = scrubbed(l);
		assert_int_equal(st.found, 1);
		assert_int_equal(st.repaired, 1);
		assert_int_equal(st.finding[0].problem, PROBLEM_MEDIUM);
		assert_int_equal(l->bad[0], 0);
		lun_free(l);
	}
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

/* The volume grows while everything but command `held` is answered; true: it has grown. */
static bool grown_beside(struct lun *l, uint32_t held)
{
	int err = -EINPROGRESS;

	for (int i = 0; i < 1000 && err == -EINPROGRESS; i++) {
		lun_step(l);
		while (l->count > held)
			lun_answer(l, held, LUN_OK);
		err = vol_grow_result(l->v);
	}
	return err == 0;
}

/* Until the n-th command of that kind for the block is there, before all others. */
static void until_command(struct lun *l, enum lun_op op, uint64_t blkno, int n)
{
	for (int turns = 0; turns < 10000; turns++) {
		for (uint32_t i = 0; i < l->count; i++) {
			if (l->cmd[i].c.op == op && l->cmd[i].c.off == blkno * BLOCK_SIZE && !--n) {
				assert_int_equal(i, 0);
				return;
			}
			lun_answer(l, i--, LUN_OK);
		}
		l->now_ns += NS_PER_MS;
		lun_step(l);
	}
	fail();
}

/* S5. Where it is: in the first read of the old last superblock, in a second look, between looks, in its renewal. */
static void what_the_volume_has_grown_over_is_left_alone(void **state)
{
	for (int where = 0; where < 4; where++) {
		struct lun *l = lun_new_room(BYTES, 2 * BYTES, CLUSTER, 0);
		uint64_t last = le64_get(l->v->geo->block_count) - 1;
		uint8_t data[BLOCK_SIZE];
		struct vol_scrub st;

		lun_settle(l);
		if (where)
			damage(l, last);
		assert_int_equal(vol_scrub(l->v, true), 0);
		until_command(l, where == 3 ? LUN_WRITE : LUN_READ, last, where == 1 ? 2 : 1);
		if (where == 2)
			lun_answer(l, 0, LUN_OK);
		l->dev.bytes = 2 * BYTES;
		assert_int_equal(vol_grow(l->v, 2 * BYTES, 2 * BYTES), 0);
		if (where != 2) {
			assert_false(grown_beside(l, 1)); /* G5 */
			assert_int_equal(l->cmd[0].c.off, last * BLOCK_SIZE);
			lun_answer(l, 0, LUN_OK);
		}
		assert_true(grown_beside(l, 0));
		assert_true(le64_get(l->v->geo->block_count) - 1 > last);
		/* Its cluster is free: a node was given it, and has written there. */
		memset(data, 0xda, sizeof(data));
		lun_poke(l, last, data);
		lun_settle(l);
		vol_get_scrub(l->v, &st);
		assert_true(st.complete && !st.running);
		assert_int_equal(st.found, 0);
		assert_memory_equal(lun_peek(l, last), data, BLOCK_SIZE);
		assert_true(sound(l, le64_get(l->v->geo->block_count) - 1));
		lun_free(l);
	}
	(void)state;
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
		cmocka_unit_test(the_newest_head_is_renewed_in_its_own_place),
		cmocka_unit_test(a_head_that_cannot_be_read_is_renewed),
		cmocka_unit_test(one_read_at_a_time_and_requests_go_on),
		cmocka_unit_test(it_can_be_stopped_at_any_point),
		cmocka_unit_test(what_the_volume_has_grown_over_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
