/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine_lun.h"
#include "csvfs/base/crc32c.h"

#define N 2000u

static struct help_put put[N];
static struct vol_req req[N];

static struct lun *one_block(struct help_put *p)
{
	struct lun *l = lun_new(64u << 20, 65536);

	*p = (struct help_put){0, 1, 0};
	assert_int_equal(lun_op(l, help_put, p), 0);
	return l;
}

/* ------------------------------------------------------------------ commit */

static void a_reply_waits_until_its_record_is_durable(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);
	struct vol_req r;

	p.value = 2;
	lun_submit(l, &r, help_put, &p);
	/* J3: flush first, so that data written before is durable before the record. */
	assert_int_equal(l->count, 1);
	assert_int_equal(l->cmd[0].c.op, LUN_FLUSH);
	lun_answer(l, 0, LUN_OK);
	assert_int_equal(l->count, 1);
	assert_true(lun_is_record(l, &l->cmd[0].c));
	assert_true(l->cmd[0].c.fua);
	assert_null(lun_done(l));
	lun_answer(l, 0, LUN_OK);
	assert_ptr_equal(lun_done(l), &r);
	lun_free(l);
}

static void without_write_cache_there_is_no_flush(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);

	lun_crash(l);
	l->v->cfg.write_cache = false;
	lun_open(l);
	l->sent[LUN_FLUSH] = 0;
	assert_int_equal(lun_op(l, help_put, &p), 0);
	lun_settle(l);
	assert_int_equal(l->sent[LUN_FLUSH], 0);
	lun_free(l);
}

static void requests_during_a_commit_share_the_next_one(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);
	uint64_t before;

	for (int i = 0; i < 10; i++)
		put[i] = p;
	lun_submit(l, &req[0], help_put, &put[0]);
	before = l->v->commits;
	for (int i = 1; i < 10; i++)
		lun_submit(l, &req[i], help_put, &put[i]);
	lun_run(l);
	assert_int_equal(l->v->commits, before + 2);
	for (int i = 0; i < 10; i++)
		assert_ptr_equal(lun_done(l), &req[i]);
	lun_free(l);
}

static void a_reader_waits_for_what_it_saw_and_for_nothing_else(void **state)
{
	struct help_put p, other = {0, 5, 0}, see;
	struct lun *l = one_block(&p);
	struct vol_req w, reads, reads_other;

	assert_int_equal(lun_op(l, help_put, &other), 0);
	p.value = 2;
	lun_submit(l, &w, help_put, &p);
	see = p;
	see.value = 0;
	lun_submit(l, &reads, help_get, &see);
	lun_submit(l, &reads_other, help_get, &other);
	assert_int_equal(see.value, 2);
	/* Nobody is told of 2 before it is sure to stay. */
	assert_ptr_equal(lun_done(l), &reads_other);
	assert_null(lun_done(l));
	lun_run(l);
	assert_ptr_equal(lun_done(l), &w);
	assert_ptr_equal(lun_done(l), &reads);
	lun_free(l);
}

static void a_transaction_of_several_records_is_replayed_whole(void **state)
{
	struct lun *l = lun_new_journal(256u << 20, 65536, 32u << 20);
	uint32_t n = 700;
	uint64_t lsn;
	struct vol *v;

	l->cfg.cache_bytes = 16u << 20;
	lun_create(l);
	lun_open(l);
	v = l->v;
	put[n] = (struct help_put){0, 0, 0};
	assert_int_equal(lun_op(l, help_put, &put[n]), 0);
	/* This commit is held, so that the next one gathers. */
	put[0] = (struct help_put){0, 0, 0};
	lun_submit(l, &req[0], help_put, &put[0]);
	for (uint32_t i = 1; i < n; i++) {
		put[i] = (struct help_put){0, i, 0};
		lun_submit(l, &req[i], help_put, &put[i]);
	}
	assert_true(v->run.count > 2 * JREC_IMAGES_MAX);
	lun_answer(l, 0, LUN_OK);
	lun_answer(l, 0, LUN_OK);
	lun_answer(l, 0, LUN_OK); /* the flush of the second */
	assert_int_equal(v->journal.records, 3);
	lsn = v->journal.lsn;
	assert_int_equal(l->count, 3);
	lun_answer(l, 2, LUN_OK);
	lun_answer(l, 0, LUN_OK);
	/* Two of three records: none of it counts. */
	while (lun_done(l))
		;
	lun_crash(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_int_equal(l->v->run.lsn, lsn);
	assert_int_equal(lun_op(l, help_get, &put[0]), 0);
	assert_int_equal(lun_op(l, help_get, &put[1]), -EUCLEAN);
	lun_free(l);
}

static void the_ring_is_used_round_and_round(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);

	for (uint32_t i = 0; i < 3000; i++) {
		p.value = i;
		assert_int_equal(lun_op(l, help_put, &p), 0);
		if (i % 97)
			continue;
		lun_crash(l);
		lun_open(l);
		assert_int_equal(vol_state(l->v), VOL_READY);
		assert_int_equal(lun_op(l, help_get, &p), 0);
		assert_int_equal(p.value, i);
	}
	assert_true(l->v->run.lsn > 3000);
	lun_free(l);
}

/* ------------------------------------------------------------------ checkpoint */

static bool is_place(struct lun *l, const struct lun_cmd *c)
{
	return c->op == LUN_WRITE && c->off / BLOCK_SIZE >= le64_get(l->v->geo->data_start);
}

static void a_block_goes_to_its_place_only_when_its_image_is_durable(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);
	struct vol_req r;

	lun_settle(l);
	p.value = 2;
	lun_submit(l, &r, help_put, &p);
	l->now_ns += 10 * NS_PER_SEC;
	lun_step(l);
	for (uint32_t i = 0; i < l->count; i++)
		assert_false(is_place(l, &l->cmd[i].c));
	lun_settle(l);
	assert_int_equal(((struct disk_value_block *)lun_peek(l, p.blkno))->data[0], 2);
	lun_free(l);
}

static void a_block_that_changes_again_stays_in_the_journal(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);
	struct vol_req r;
	int i;

	/* The record of 2 is held; an idle checkpoint wants to begin: it must leave this block out. */
	p.value = 2;
	lun_submit(l, &r, help_put, &p);
	lun_answer(l, 0, LUN_OK);
	l->now_ns += 10 * NS_PER_SEC;
	lun_step(l);
	for (uint32_t k = 0; k < l->count; k++)
		if (is_place(l, &l->cmd[k].c))
			assert_false(l->cmd[k].c.off <= p.blkno * BLOCK_SIZE &&
				     p.blkno * BLOCK_SIZE < l->cmd[k].c.off + l->cmd[k].c.len);
	/* All but the record ends well, then the power fails. */
	while ((i = lun_find_record(l)) >= 0 && l->count > 1)
		lun_answer(l, i ? 0 : 1, LUN_OK);
	lun_crash(l);
	lun_open(l);
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(p.value, 1);
	lun_free(l);
}

static void after_a_quiet_second_the_journal_is_empty(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);
	struct vol_stats st;

	vol_get_stats(l->v, &st);
	assert_true(st.journal_used_blocks > 0);
	assert_true(vol_deadline(l->v) <= l->now_ns + 2 * NS_PER_SEC);
	lun_settle(l);
	vol_get_stats(l->v, &st);
	assert_int_equal(st.journal_used_blocks, 0);
	assert_int_equal(vol_deadline(l->v), NEVER);
	lun_crash(l);
	lun_open(l);
	assert_false(vol_needed_replay(l->v));
	lun_free(l);
}

static void a_full_journal_makes_requests_wait_and_go_on(void **state)
{
	struct help_put p;
	struct lun *l = one_block(&p);
	uint32_t begun = 0, done = 0;
	int i;

	/* Only records and flushes end; nothing reaches its place. */
	while (begun < N) {
		put[begun] = p;
		lun_submit(l, &req[begun], help_put, &put[begun]);
		begun++;
		while ((i = lun_find_record(l)) >= 0 ||
			(l->v->journal.state == JOURNAL_FLUSH && (i = lun_find(l, LUN_FLUSH)) >= 0))
			lun_answer(l, (uint32_t)i, LUN_OK);
		while (lun_done(l))
			done++;
	}
	assert_true(done < N);
	assert_true(journal_used(l->v) + 2 * TXN_OP_BLOCKS > l->v->journal.blocks);
	lun_run(l);
	while (lun_done(l))
		done++;
	assert_int_equal(done, N);
	lun_free(l);
}

/* ------------------------------------------------------------------ replay refuses to guess */

static uint64_t ring_block(struct lun *l, uint64_t at)
{
	return le64_get(l->v->geo->journal_start) + JOURNAL_HEADS + at;
}

/* Three transactions in the journal, none in its place; where each record starts. */
static struct lun *three(struct help_put *p, uint64_t at[4])
{
	struct lun *l = one_block(p);

	lun_settle(l);
	for (int i = 0; i < 3; i++) {
		at[i] = l->v->journal.head.at;
		p->value = 10 + (uint64_t)i;
		assert_int_equal(lun_op(l, help_put, p), 0);
	}
	at[3] = l->v->journal.head.at;
	return l;
}

static void opens_with(struct lun *l, struct help_put *p, uint64_t value)
{
	lun_crash(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_int_equal(lun_op(l, help_get, p), 0);
	assert_int_equal(p->value, value);
}

static void freezes(struct lun *l, enum vol_reason why)
{
	uint64_t writes = l->sent[LUN_WRITE];

	lun_crash(l);
	lun_open(l);
	assert_int_equal(vol_state(l->v), VOL_FROZEN);
	assert_int_equal(vol_reason(l->v), why);
	assert_true(strlen(vol_error(l->v)) > 10);
	assert_int_equal(l->sent[LUN_WRITE], writes);
}

static void a_torn_last_transaction_never_was(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	lun_flip(l, ring_block(l, at[2] + 1));
	opens_with(l, &p, 11);
	/* What comes now is newer than the torn one, and survives. */
	p.value = 99;
	assert_int_equal(lun_op(l, help_put, &p), 0);
	opens_with(l, &p, 99);
	lun_free(l);
}

static void a_damaged_record_before_later_ones_freezes(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	lun_flip(l, ring_block(l, at[1]));
	freezes(l, VOL_DAMAGED);
	lun_free(l);
}

static void a_damaged_image_before_later_records_freezes(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	lun_flip(l, ring_block(l, at[0] + 1));
	freezes(l, VOL_DAMAGED);
	lun_free(l);
}

static void a_head_newer_than_the_records_freezes(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);
	struct disk_jhead *h;
	uint64_t blkno;

	/* A head that saw all three durable, with the first still needed. */
	blkno = ring_block(l, 0) - JOURNAL_HEADS + l->v->journal.head_count % JOURNAL_HEADS;
	h = (struct disk_jhead *)lun_peek(l, blkno);
	h->head_seq = le64_of(l->v->journal.head.seq);
	h->head_lsn = le64_of(l->v->journal.head.lsn);
	verify_seal(h);
	lun_poke(l, blkno, h);
	opens_with(l, &p, 12);
	lun_free(l);

	l = three(&p, at);
	h = (struct disk_jhead *)lun_peek(l, blkno);
	h->head_seq = le64_of(l->v->journal.head.seq);
	h->head_lsn = le64_of(l->v->journal.head.lsn);
	verify_seal(h);
	lun_poke(l, blkno, h);
	lun_flip(l, ring_block(l, at[2]));
	freezes(l, VOL_DAMAGED);
	lun_free(l);
}

static void of_two_heads_one_is_enough(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct help_put p;
		uint64_t at[4];
		struct lun *l = three(&p, at);

		lun_flip(l, ring_block(l, 0) - JOURNAL_HEADS + (uint64_t)i);
		opens_with(l, &p, 12);
		lun_free(l);
	}
}

/* The one that cannot be read, the newer or the older, is the first to be written. */
static void of_two_heads_one_that_can_be_read_is_enough(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct help_put p;
		uint64_t at[4];
		struct lun *l = three(&p, at);

		if (i >= 2) {
			lun_settle(l);
			assert_int_equal(lun_op(l, help_put, &p), 0);
		}
		l->bad[0] = ring_block(l, 0) - JOURNAL_HEADS + (uint64_t)i % 2;
		opens_with(l, &p, 12);
		assert_int_equal(l->bad[0], 0);
		opens_with(l, &p, 12);
		lun_free(l);
	}
}

static void two_heads_that_cannot_be_read_freeze(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	l->bad[0] = ring_block(l, 0) - 1;
	l->bad[1] = ring_block(l, 0) - 2;
	freezes(l, VOL_DAMAGED);
	lun_free(l);
}

static void without_a_head_it_freezes(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	lun_flip(l, ring_block(l, 0) - 1);
	lun_flip(l, ring_block(l, 0) - 2);
	freezes(l, VOL_DAMAGED);
	lun_free(l);
}

static void edit_record(struct lun *l, uint64_t at, void (*edit)(struct disk_jrec *r))
{
	struct disk_jrec *r = (struct disk_jrec *)lun_peek(l, ring_block(l, at));

	edit(r);
	verify_seal(r);
	lun_poke(l, ring_block(l, at), r);
}

/* The image is sound, says that it belongs there, and so does the record. */
static void aim(struct lun *l, uint64_t at, uint64_t blkno)
{
	struct disk_header *h = (struct disk_header *)lun_peek(l, ring_block(l, at + 1));
	struct disk_jrec *r;
	uint32_t crc;

	h->blkno = le64_of(blkno);
	verify_seal(h);
	crc = crc32c(0, h, BLOCK_SIZE);
	lun_poke(l, ring_block(l, at + 1), h);
	r = (struct disk_jrec *)lun_peek(l, ring_block(l, at));
	r->image[0].blkno = le64_of(blkno);
	r->image[0].crc = le32_of(crc);
	verify_seal(r);
	lun_poke(l, ring_block(l, at), r);
}

static void an_image_of_what_is_not_metadata_freezes(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct help_put p;
		uint64_t at[4];
		struct lun *l = three(&p, at);
		uint64_t bad[4] = {1, ring_block(l, 7), l->dev.bytes / BLOCK_SIZE - 1, 1ull << 50};

		aim(l, at[2], bad[i]);
		freezes(l, VOL_DAMAGED);
		lun_free(l);
	}
}

static void older(struct disk_jrec *r)
{
	r->epoch = le64_of(le64_get(r->epoch) - 1);
}

static void later(struct disk_jrec *r)
{
	r->epoch = le64_of(le64_get(r->epoch) + 5);
}

static void a_record_of_an_earlier_epoch_that_lands_late_is_ignored(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	/* As if the node of the epoch before had written it: exactly the next record. */
	edit_record(l, at[2], older);
	opens_with(l, &p, 11);
	lun_free(l);
}

static void a_record_of_a_later_epoch_means_we_are_fenced(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	edit_record(l, at[2], later);
	freezes(l, VOL_FENCED);
	lun_free(l);
}

static void a_block_newer_than_the_journal_freezes(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);
	struct disk_header *h = (struct disk_header *)lun_peek(l, p.blkno);

	h->lsn = le64_of(l->v->run.lsn + 7);
	verify_seal(h);
	lun_poke(l, p.blkno, h);
	freezes(l, VOL_DAMAGED);
	lun_free(l);
}

static void a_damaged_block_in_its_place_is_overwritten(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	lun_flip(l, p.blkno);
	opens_with(l, &p, 12);
	lun_free(l);
}

/* R3: it says that it is of the transaction of its newest image, or of a later one, and is sound by itself. */
static void a_wrong_block_of_the_journals_time_is_overwritten(void **state)
{
	for (uint64_t later_by = 0; later_by < 2; later_by++) {
		struct help_put p, other = {0, 5, 0};
		uint64_t at[4];
		struct lun *l = three(&p, at);
		struct disk_header *h = (struct disk_header *)lun_peek(l, ring_block(l, at[1] + 1));

		/* A transaction more, that does not change the block. */
		assert_int_equal(lun_op(l, help_put, &other), 0);
		h->lsn = le64_of(le64_get(h->lsn) + 1 + later_by);
		assert_true(le64_get(h->lsn) < l->v->run.lsn);
		verify_seal(h);
		lun_poke(l, p.blkno, h);
		h->lsn = le64_of(le64_get(h->lsn) - 1 - later_by);
		verify_seal(h);
		opens_with(l, &p, 12);
		lun_free(l);
	}
}

static void a_block_in_its_place_that_cannot_be_read_is_overwritten(void **state)
{
	struct help_put p;
	uint64_t at[4];
	struct lun *l = three(&p, at);

	lun_crash(l);
	vol_open(l->v, ++l->epoch, l->fx);
	lun_step(l);
	while (l->count) {
		const struct lun_cmd *c = &l->cmd[0].c;
		bool place = c->op == LUN_READ && c->off <= p.blkno * BLOCK_SIZE &&
			     p.blkno * BLOCK_SIZE < c->off + c->len;

		lun_answer(l, 0, place && vol_state(l->v) == VOL_OPENING ? LUN_MEDIUM : LUN_OK);
	}
	assert_int_equal(vol_state(l->v), VOL_READY);
	assert_int_equal(lun_op(l, help_get, &p), 0);
	assert_int_equal(p.value, 12);
	lun_free(l);
}

static void replay_twice_is_replay_once(void **state)
{
	struct help_put p;
	uint64_t at[4], stop = 0;
	bool whole = false;

	/* Power fails after each command of the replay in turn. */
	while (!whole) {
		struct lun *l = three(&p, at);
		uint64_t n = 0;

		lun_crash(l);
		vol_open(l->v, ++l->epoch, l->fx);
		lun_step(l);
		while (l->count && n++ < stop)
			lun_answer(l, 0, LUN_OK);
		whole = !l->count;
		opens_with(l, &p, 12);
		lun_free(l);
		stop++;
	}
	assert_true(stop > 8);
}

/* What an interrupted replay wrote is in its place, and perhaps in the LUN's cache alone. */
static void a_replay_that_finds_all_in_place_flushes_before_it_empties_the_journal(void **state)
{
	struct help_put p;
	uint64_t at[4], flushes;
	struct lun *l = three(&p, at);

	lun_crash(l);
	vol_open(l->v, ++l->epoch, l->fx);
	lun_step(l);
	while (lun_find(l, LUN_FLUSH) < 0)
		lun_answer(l, 0, LUN_OK);
	lun_crash(l);
	flushes = l->sent[LUN_FLUSH];
	vol_open(l->v, ++l->epoch, l->fx);
	lun_step(l);
	while (lun_find(l, LUN_WRITE) < 0) {
		assert_true(l->count > 0);
		lun_answer(l, 0, LUN_OK);
	}
	/* The first write is the head's: nothing else was left to do. */
	assert_int_equal(l->sent[LUN_FLUSH], flushes + 1);
	lun_run(l);
	assert_int_equal(vol_state(l->v), VOL_READY);
	lun_free(l);
}

static int relabel(struct txn *t, void *arg)
{
	txn_super_dirty(t)->label[0] = *(const char *)arg;
	return 0;
}

static uint32_t supers_written_now(const struct lun *l, bool *fua)
{
	uint32_t mask = 0;

	for (uint32_t i = 0; i < l->count; i++) {
		if (l->cmd[i].c.op != LUN_WRITE)
			continue;
		mask |= l->cmd[i].c.off == SUPER_BLOCK * BLOCK_SIZE ? 1 : l->cmd[i].c.off == SUPER_COPY_BLOCK * BLOCK_SIZE ? 2 : 0;
		*fua |= l->cmd[i].c.off == SUPER_BLOCK * BLOCK_SIZE && l->cmd[i].c.fua;
	}
	return mask;
}

/* A power failure may spoil what is being written; where the LUN has been enlarged the copy at its old end is not looked for. */
static void replay_never_writes_both_superblocks_at_once(void **state)
{
	struct lun *l = lun_new_room(64u << 20, 128u << 20, 65536, 0);
	uint32_t seen = 0, now;
	uint64_t flushes;
	bool fua = false;
	char x = 'X';

	assert_int_equal(lun_op(l, relabel, &x), 0);
	l->dev.bytes = 128u << 20;
	lun_crash(l);
	flushes = l->sent[LUN_FLUSH];
	vol_open(l->v, ++l->epoch, l->fx);
	lun_step(l);
	while (l->count) {
		now = supers_written_now(l, &fua);
		/* What has been written there before may be in the target's cache. */
		assert_true(!now || l->sent[LUN_FLUSH] > flushes);
		assert_int_not_equal(now, 3);
		assert_true(now != 1 || seen != 2);
		seen |= now;
		lun_answer(l, 0, LUN_OK);
	}
	assert_true(seen == 3 && fua);
	assert_int_equal(vol_state(l->v), VOL_READY);
	lun_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reply_waits_until_its_record_is_durable),
		cmocka_unit_test(without_write_cache_there_is_no_flush),
		cmocka_unit_test(requests_during_a_commit_share_the_next_one),
		cmocka_unit_test(a_reader_waits_for_what_it_saw_and_for_nothing_else),
		cmocka_unit_test(a_transaction_of_several_records_is_replayed_whole),
		cmocka_unit_test(the_ring_is_used_round_and_round),
		cmocka_unit_test(a_block_goes_to_its_place_only_when_its_image_is_durable),
		cmocka_unit_test(a_block_that_changes_again_stays_in_the_journal),
		cmocka_unit_test(after_a_quiet_second_the_journal_is_empty),
		cmocka_unit_test(a_full_journal_makes_requests_wait_and_go_on),
		cmocka_unit_test(a_torn_last_transaction_never_was),
		cmocka_unit_test(a_damaged_record_before_later_ones_freezes),
		cmocka_unit_test(a_damaged_image_before_later_records_freezes),
		cmocka_unit_test(a_head_newer_than_the_records_freezes),
		cmocka_unit_test(of_two_heads_one_is_enough),
		cmocka_unit_test(of_two_heads_one_that_can_be_read_is_enough),
		cmocka_unit_test(two_heads_that_cannot_be_read_freeze),
		cmocka_unit_test(without_a_head_it_freezes),
		cmocka_unit_test(an_image_of_what_is_not_metadata_freezes),
		cmocka_unit_test(a_record_of_an_earlier_epoch_that_lands_late_is_ignored),
		cmocka_unit_test(a_record_of_a_later_epoch_means_we_are_fenced),
		cmocka_unit_test(a_block_newer_than_the_journal_freezes),
		cmocka_unit_test(a_damaged_block_in_its_place_is_overwritten),
		cmocka_unit_test(a_wrong_block_of_the_journals_time_is_overwritten),
		cmocka_unit_test(a_block_in_its_place_that_cannot_be_read_is_overwritten),
		cmocka_unit_test(replay_twice_is_replay_once),
		cmocka_unit_test(replay_never_writes_both_superblocks_at_once),
		cmocka_unit_test(a_replay_that_finds_all_in_place_flushes_before_it_empties_the_journal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
