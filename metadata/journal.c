/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * journal.c - group commit: the running transaction becomes durable as a whole.
 *
 *   IDLE --journal_start()--> FLUSH (J3, the LUN has a write cache) --flush_done()--> WRITE
 *   IDLE --journal_start()--> WRITE --last write_done()--> IDLE, durable
 *
 * Invariants
 *  J1. One commit is in flight at a time, and records are written in order: so behind the first gap
 *      of the journal there is never a later transaction that was acknowledged.
 *  J2. The images are sealed and copied when the commit starts; operations may change the cached
 *      blocks while it is in flight.
 *  J3. Data that was on the LUN before a request that speaks of it was executed (LAYOUT_COMMIT) is
 *      durable before the records are written: flush first. So an extent never becomes WRITTEN
 *      before what was written there.
 *  J4. Blocks in [tail, head) of the ring are not overwritten; head - tail never exceeds the ring.
 *      The tail used here is the one of the newest *durable* journal head.
 *  J5. An operation is admitted only if the running transaction with TXN_OP_BLOCKS more still fits, and kept only if
 *      it fits with what was dirtied: so a commit never waits for space that only a later commit could free.
 */
#include "csvfs/base/crc32c.h"
#include "metadata/engine.h"

#define RECORD_BYTES ((JREC_IMAGES_MAX + 1) * BLOCK_SIZE)
#define RECORDS_MAX JOURNAL_RECORDS_MAX

int journal_create(struct vol *v)
{
	struct journal *j = &v->journal;
	struct mem *m = v->cfg.mem;
	uint64_t records = v->cfg.cache_bytes / BLOCK_SIZE / 4 / JREC_IMAGES_MAX;

	list_init(&j->waiters);
	j->buf_count = records < 1 ? 1 : records > RECORDS_MAX ? RECORDS_MAX : (uint32_t)records;
	for (uint32_t i = 0; i < j->buf_count; i++) {
		j->bufs[i] = mem_alloc(m, RECORD_BYTES);
		if (!j->bufs[i])
			return -ENOMEM;
	}
	j->head_buf = mem_alloc(m, BLOCK_SIZE);
	j->commit = mem_alloc(
		m, (RECORDS_MAX * JREC_IMAGES_MAX + TXN_OP_BLOCKS) * sizeof(*j->commit));
	return j->head_buf && j->commit ? 0 : -ENOMEM;
}

void journal_destroy(struct vol *v)
{
	struct journal *j = &v->journal;
	struct mem *m = v->cfg.mem;

	for (uint32_t i = 0; i < RECORDS_MAX; i++)
		mem_free(m, j->bufs[i], RECORD_BYTES);
	mem_free(m, j->head_buf, BLOCK_SIZE);
	mem_free(m, j->commit,
		(RECORDS_MAX * JREC_IMAGES_MAX + TXN_OP_BLOCKS) * sizeof(*j->commit));
}

void journal_reset(struct vol *v, const struct journal_pos *pos, uint64_t head_count)
{
	struct journal *j = &v->journal;
	uint32_t records = j->buf_count;

	j->state = JOURNAL_IDLE;
	j->start = le64_get(v->geo->journal_start) + JOURNAL_HEADS;
	j->blocks = le64_get(v->geo->journal_blocks) - JOURNAL_HEADS;
	while (records > 1 && (uint64_t)records * JREC_IMAGES_MAX > j->blocks / 4)
		records--;
	j->txn_max = records * JREC_IMAGES_MAX;
	j->head = *pos;
	j->durable = *pos;
	j->tail = *pos;
	j->head_count = head_count;
	j->lsn = 0;
	v->run.lsn = pos->lsn;
	v->lsn_durable = pos->lsn - 1;
}

uint64_t journal_used(const struct vol *v)
{
	return v->journal.head.at - v->journal.tail.at;
}

uint64_t journal_blkno(const struct vol *v, uint64_t at)
{
	return v->journal.start + at % v->journal.blocks;
}

static uint64_t blocks_for(uint64_t images)
{
	uint64_t records = (images + JREC_IMAGES_MAX - 1) / JREC_IMAGES_MAX;

	return images + (records ? records : 1);
}

static bool fits(const struct vol *v, uint64_t images)
{
	const struct journal *j = &v->journal;

	return images <= j->txn_max && journal_used(v) + blocks_for(images) <= j->blocks;
}

bool journal_admits(const struct vol *v)
{
	return fits(v, (uint64_t)v->run.count + TXN_OP_BLOCKS);
}

bool journal_fits(const struct vol *v)
{
	return fits(v, (uint64_t)v->run.count + 1);
}

/* ------------------------------------------------------------------ durable */

/* The image of b in this commit is durable: older images of it are not needed any more. */
static void block_durable(struct vol *v, struct block *b)
{
	const struct journal *j = &v->journal;

	b->flags &= (uint8_t)~BLK_COMMITTING;
	if (b->journal_seq)
		list_del(&b->needed);
	else
		v->ckpt.needed_count++;
	b->journal_seq = j->pos.seq;
	b->journal_lsn = j->pos.lsn;
	b->journal_at = j->pos.at;
	list_add_tail(&b->needed, &v->ckpt.needed);
}

/* It was freed, durably: no image of it is needed. It may have been allocated again since. */
static void block_gone(struct vol *v, struct block *b)
{
	b->flags &= (uint8_t)~BLK_FORGETTING;
	if (b->journal_seq) {
		list_del(&b->needed);
		v->ckpt.needed_count--;
		b->journal_seq = 0;
	}
	if ((b->flags & BLK_FORGOTTEN) && !(b->flags & BLK_RUNNING)) {
		b->flags = 0;
		cache_drop(v, b);
		return;
	}
	cache_settle(v, b);
}

static void commit_durable(struct vol *v)
{
	struct journal *j = &v->journal;

	v->lsn_durable = j->lsn;
	j->lsn = 0;
	j->state = JOURNAL_IDLE;
	j->durable = j->head;
	for (uint32_t i = 0; i < j->commit_count; i++) {
		if (j->commit[i]->flags & BLK_FORGETTING)
			block_gone(v, j->commit[i]);
		else
			block_durable(v, j->commit[i]);
	}
	j->commit_count = 0;
	v->commits++;
	list_splice_tail(&j->waiters, &v->done);
	alloc_release(v);
	vol_unstall(v);
}

static void write_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK && v->journal.writes);
	if (--v->journal.writes == 0)
		commit_durable(v);
}

/* ------------------------------------------------------------------ start */

static void send_record(struct vol *v, uint64_t at, uint32_t blocks, uint8_t *buf)
{
	struct journal *j = &v->journal;

	while (blocks) {
		uint64_t left = j->blocks - at % j->blocks;
		uint32_t n = blocks < left ? blocks : (uint32_t)left;
		vio_must(v, LUN_WRITE, journal_blkno(v, at), n, buf, write_done)->fua = true;
		j->writes++;
		at += n;
		buf += (size_t)n * BLOCK_SIZE;
		blocks -= n;
	}
}

static void send_records(struct vol *v)
{
	struct journal *j = &v->journal;
	uint64_t at = j->pos.at;

	j->state = JOURNAL_WRITE;
	j->writes = 0;
	for (uint32_t i = 0; i < j->records; i++) {
		send_record(v, at, j->record_blocks[i], j->bufs[i]);
		at += j->record_blocks[i];
		v->journal_bytes += (uint64_t)j->record_blocks[i] * BLOCK_SIZE;
	}
}

static void flush_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK && v->journal.state == JOURNAL_FLUSH);
	send_records(v);
}

/* What is about to be written would not be accepted when read: stop before it is on the LUN. */
static bool seal(struct vol *v, struct block *b)
{
	struct disk_header *h = (struct disk_header *)b->data;
	struct verify_report rep;

	h->lsn = le64_of(v->journal.lsn);
	h->epoch = le64_of(v->epoch);
	verify_seal(h);
	if (verify_sealed(h, b->magic, b->blkno, v->geo, &rep) == PROBLEM_NONE)
		return true;
	vol_freeze(v, VOL_DAMAGED, "%s: block %llu would be written damaged: found %llx, expected %llx",
		problem_name(rep.problem), (unsigned long long)b->blkno,
		(unsigned long long)rep.found, (unsigned long long)rep.expected);
	return false;
}

static void record_begin(struct vol *v, uint32_t i)
{
	struct journal *j = &v->journal;
	struct disk_jrec *r = (struct disk_jrec *)j->bufs[i];

	memset(r, 0, BLOCK_SIZE);
	r->magic = le32_of(MAGIC_JREC);
	memcpy(r->uuid, v->geo->h.uuid, 16);
	r->epoch = le64_of(v->epoch);
	r->seq = le64_of(j->pos.seq + i);
	r->lsn = le64_of(j->pos.lsn);
	j->record_blocks[i] = 1;
}

static void record_add(struct journal *j, uint32_t i, const struct block *b)
{
	struct disk_jrec *r = (struct disk_jrec *)j->bufs[i];
	uint32_t k = j->record_blocks[i] - 1;

	r->image[k].blkno = le64_of(b->blkno);
	r->image[k].crc = le32_of(crc32c(0, b->data, BLOCK_SIZE));
	memcpy(j->bufs[i] + (size_t)(k + 1) * BLOCK_SIZE, b->data, BLOCK_SIZE);
	j->record_blocks[i]++;
}

static void records_end(struct journal *j)
{
	for (uint32_t i = 0; i < j->records; i++) {
		struct disk_jrec *r = (struct disk_jrec *)j->bufs[i];
		uint32_t flags = (i == 0 ? JREC_FIRST : 0) | (i + 1 == j->records ? JREC_LAST : 0);

		r->flags = le32_of(flags);
		r->count = le32_of(j->record_blocks[i] - 1);
		verify_seal(r);
	}
}

/* The copy of the superblock says what the superblock says, but for where it stands. */
static void super_copy(struct vol *v)
{
	struct disk_super *s = (struct disk_super *)v->super_copy->data;

	memcpy(s, v->super->data, BLOCK_SIZE);
	s->h.blkno = le64_of(SUPER_COPY_BLOCK);
}

/* Moves the running transaction's blocks into the commit, their images into the records. */
static bool collect(struct vol *v)
{
	struct journal *j = &v->journal;

	record_begin(v, 0);
	j->records = 1;
	while (!list_empty(&v->run.blocks)) {
		struct block *b = list_first_entry(&v->run.blocks, struct block, running);

		list_del(&b->running);
		b->flags &= (uint8_t)~BLK_RUNNING;
		j->commit[j->commit_count++] = b;
		if (b->flags & BLK_FORGOTTEN) {
			b->flags |= BLK_FORGETTING;
			continue;
		}
		b->flags |= BLK_COMMITTING;
		if (b == v->super_copy)
			super_copy(v);
		if (!seal(v, b))
			return false;
		if (j->record_blocks[j->records - 1] > JREC_IMAGES_MAX)
			record_begin(v, j->records++);
		record_add(j, j->records - 1, b);
	}
	records_end(j);
	return true;
}

static void journal_start(struct vol *v)
{
	struct journal *j = &v->journal;
	bool flush = v->cfg.write_cache && v->run.flush;

	csv_assert(!j->lsn && j->commit_count == 0);
	j->lsn = v->run.lsn;
	j->pos = j->head;
	csv_assert(j->pos.lsn == j->lsn);
	if (!collect(v))
		return;
	v->run.lsn++;
	v->run.count = 0;
	v->run.forgot = 0;
	v->run.flush = false;
	list_splice_tail(&v->run.waiters, &j->waiters);
	j->head.seq += j->records;
	j->head.lsn++;
	for (uint32_t i = 0; i < j->records; i++)
		j->head.at += j->record_blocks[i];
	csv_assert(journal_used(v) <= j->blocks); /* J4, by J5 */
	if (!flush) {
		send_records(v);
		return;
	}
	j->state = JOURNAL_FLUSH;
	(void)vio_must(v, LUN_FLUSH, 0, 0, NULL, flush_done);
}

void journal_step(struct vol *v)
{
	if (v->journal.state == JOURNAL_IDLE && v->run.count)
		journal_start(v);
}

/* ------------------------------------------------------------------ journal heads */

static uint64_t head_place(const struct journal *j, uint64_t count)
{
	return j->start - JOURNAL_HEADS + count % JOURNAL_HEADS;
}

/* The one written last is rotten: the other is all that there is, and a write may be torn. A count is left out. */
void journal_next_head(struct vol *v, uint64_t blkno)
{
	struct journal *j = &v->journal;

	if (head_place(j, j->head_count + 1) != blkno)
		j->head_count++;
	csv_assert(head_place(j, j->head_count + 1) == blkno);
}

void journal_write_head(struct vol *v, const struct journal_pos *tail,
	void (*done)(struct vol *v, struct vio *io, enum lun_status st))
{
	struct journal *j = &v->journal;
	struct disk_jhead *h = (struct disk_jhead *)j->head_buf;
	uint64_t blkno;

	/* In turn: the one that holds the present tail is never overwritten, unless it is rotten. */
	j->head_count++;
	blkno = head_place(j, j->head_count);
	memset(h, 0, BLOCK_SIZE);
	verify_init_header(h, MAGIC_JHEAD, v->geo->h.uuid, blkno, 0);
	h->h.lsn = le64_of(j->durable.lsn - 1);
	h->h.epoch = le64_of(v->epoch);
	h->count = le64_of(j->head_count);
	h->tail_seq = le64_of(tail->seq);
	h->tail_pos = le64_of(tail->at % j->blocks);
	h->tail_lsn = le64_of(tail->lsn);
	h->head_seq = le64_of(j->durable.seq);
	h->head_lsn = le64_of(j->durable.lsn);
	verify_seal(h);
	vio_must(v, LUN_WRITE, blkno, 1, h, done)->fua = true;
}
