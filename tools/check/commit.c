/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing what a repair has worked out. Each write is durable before the next one.
 *
 *   claim held -> copies of clusters -> replayed images to their places -> heads: the journal is empty
 *     -> for each batch: records in the ring -> places -> head: empty again
 *     -> superblocks, one after the other -> claim clean
 *
 * Until the heads are written, a power failure leaves the old journal, which gives the same images again. A
 * batch is one transaction: it is replayed if its records are whole, else it did not happen. Batches
 * come in the order tree nodes, inodes, the rest; a node that is new lies where nothing was, so a volume
 * with some of the batches has lost nothing that the damaged one still had.
 */
#include "csvfs/base/claim.h"
#include "csvfs/base/crc32c.h"
#include "metadata/fields.h"
#include "tools/check/mend.h"

#define OUT_BLOCKS 64u
#define BATCH_MAX 4096u /* images in one transaction */

/* Joins neighbours. */
struct out {
	struct check *c;
	uint8_t *buf;
	uint64_t first;
	uint32_t count;
	bool failed;
};

static void out_flush(struct out *o)
{
	const struct check_dev *dev = o->c->dev;

	if (o->count && !o->failed &&
		dev->write(dev->ctx, o->first * BLOCK_SIZE, o->buf, o->count * BLOCK_SIZE))
		o->failed = true;
	o->count = 0;
}

static void out_block(struct out *o, uint64_t blkno, const void *block)
{
	if (o->count && (o->count == OUT_BLOCKS || o->first + o->count != blkno))
		out_flush(o);
	if (!o->count)
		o->first = blkno;
	memcpy(o->buf + (size_t)o->count++ * BLOCK_SIZE, block, BLOCK_SIZE);
	o->c->m->written++;
}

/* ------------------------------------------------------------------ claim, heads */

static int claim_write(struct out *o, enum claim_state state, uint64_t heartbeat)
{
	const struct check_dev *dev = o->c->dev;
	struct claim claim = {
		.epoch = o->c->m->epoch, .state = state, .node = 1, .name = "fsck.csvfs"};
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8)));

	memcpy(claim.uuid, o->c->super.h.uuid, 16);
	claim_keep(&claim, &o->c->claim);
	if (dev->claim)
		return dev->claim(dev->ctx, &claim);
	for (uint64_t i = 0; i < 2; i++) {
		claim.heartbeat = heartbeat + i;
		claim_encode(&claim, block);
		out_block(o, CLAIM_BLOCK + i, block);
		out_flush(o);
	}
	return 0;
}

struct journal {
	uint64_t start, ring; /* blocks: of the heads, of the ring */
	uint64_t seq, lsn, pos, count;
};

static void journal_start(struct check *c, struct journal *j)
{
	uint64_t found, want;

	j->start = le64_get(c->super.journal_start);
	j->ring = le64_get(c->super.journal_blocks) - JOURNAL_HEADS;
	j->seq = c->m->next_seq + 1;
	j->lsn = c->m->lsn + 1;
	for (uint64_t i = 0; i < JOURNAL_HEADS; i++) {
		const struct disk_jhead *h = ck_read_disk(c, j->start + i);
		enum problem p;

		p = h ? ck_header(c, h, j->start + i, MAGIC_JHEAD, CK_ANY_OWNER, &found, &want)
		      : PROBLEM_MEDIUM;
		if (p && p != PROBLEM_HEADER_LSN && p != PROBLEM_HEADER_EPOCH)
			continue;
		if (le64_get(h->count) > j->count && le64_get(h->count) < CK_NUMBER_MAX)
			j->count = le64_get(h->count);
		if (le64_get(h->head_seq) >= j->seq && le64_get(h->head_seq) < CK_NUMBER_MAX)
			j->seq = le64_get(h->head_seq) + 1;
	}
}

/* The journal is empty and goes on at j->pos. */
static void head_write(struct out *o, struct journal *j)
{
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8))) = {0};
	struct disk_jhead *h = (struct disk_jhead *)block;
	const uint64_t blkno = j->start + ++j->count % JOURNAL_HEADS;

	h->h.magic = le32_of(MAGIC_JHEAD);
	memcpy(h->h.uuid, o->c->super.h.uuid, 16);
	h->h.blkno = le64_of(blkno);
	h->h.epoch = le64_of(o->c->m->epoch);
	h->count = le64_of(j->count);
	h->tail_seq = h->head_seq = le64_of(j->seq);
	h->tail_lsn = h->head_lsn = le64_of(j->lsn);
	h->tail_pos = le64_of(j->pos);
	fields_seal(h);
	out_block(o, blkno, block);
	out_flush(o);
}

/*
 * Records that are newer than all that comes now would be taken for a later part of a journal that has lost some:
 * the next replay would not go on. The journal is empty, so nobody needs them.
 */
static void newer_records_end(struct out *o, const struct journal *j)
{
	static const uint8_t zeros[BLOCK_SIZE] __attribute__((aligned(8)));
	struct check *c = o->c;

	for (uint64_t i = 0; i < j->ring; i++) {
		const struct disk_jrec *d = ck_read_disk(c, j->start + JOURNAL_HEADS + i);

		if (d && le32_get(d->magic) == MAGIC_JREC && le64_get(d->lsn) >= j->lsn)
			out_block(o, j->start + JOURNAL_HEADS + i, zeros);
	}
	out_flush(o);
}

/* ------------------------------------------------------------------ copies, replay */

/* One after the other: the source of one may be the copy of another. */
static void copies_write(struct out *o)
{
	struct check *c = o->c;
	const uint64_t blocks = c->cluster_blocks;

	for (uint32_t k = 0; k < c->m->copy_count; k++) {
		const struct ck_copy *y = &c->m->copies[k];

		for (uint64_t i = 0; i < blocks; i++) {
			if (c->dev->read(c->dev->ctx, (y->from * blocks + i) * BLOCK_SIZE, c->scratch, BLOCK_SIZE))
				memset(c->scratch, 0, BLOCK_SIZE);
			out_block(o, y->to * blocks + i, c->scratch);
		}
		out_flush(o);
	}
}

/*
 * Also of the blocks that the repair changes: their batch may come late, or never if power fails, and then nothing but the place has
 * what the journal held.
 */
static void replay(struct out *o)
{
	struct check *c = o->c;

	for (uint32_t i = 0; i < c->image_room; i++) {
		const struct ck_image *im = &c->images[i];
		const void *block;

		if (!im->pos || im->pos == im->blkno || !ck_journal_target(c, im->blkno))
			continue;
		/* A chunk that became data since. */
		if (im->blkno >= c->data_start && im->blkno != c->block_count - 1 &&
			!ck_chunk(c, im->blkno))
			continue;
		block = ck_read_disk(c, im->pos);
		if (block)
			out_block(o, im->blkno, block);
		o->failed |= !block;
	}
	out_flush(o);
}

/* ------------------------------------------------------------------ batches */

static bool is_super(const struct check *c, uint64_t blkno)
{
	return blkno == SUPER_BLOCK || blkno == SUPER_COPY_BLOCK || blkno == c->block_count - 1;
}

static uint64_t order(const struct ck_put *p)
{
	const uint32_t magic = le32_get(((const struct disk_header *)p->data)->magic);

	if (magic == MAGIC_TREE || magic == MAGIC_XATTR)
		return p->blkno;
	return p->blkno | (magic == MAGIC_INODE ? 1ull << 60 : 1ull << 61);
}

/* What goes through the journal, in the order in which it is written. */
static void collect(struct check *c, struct ck_recs *r)
{
	const struct ck_mend *m = c->m;

	c->m->leaf_count = 0;
	ck_recs_start(c, r);
	for (uint32_t i = 0; i < m->put_room; i++) {
		const struct ck_put *p = &m->puts[i];

		if (!p->data || is_super(c, p->blkno) || p->blkno == CLAIM_BLOCK ||
			p->blkno == CLAIM_BLOCK + 1)
			continue;
		if ((uint8_t *)(r->rec + r->count + 1) > r->values) {
			c->m->no_memory = true;
			return;
		}
		r->rec[r->count++] = (struct ck_rec){order(p), 0, p->data, BLOCK_SIZE};
	}
	ck_recs_sort(r);
}

static uint64_t blkno_of(const struct ck_rec *rec)
{
	return rec->key & ((1ull << 60) - 1);
}

/* One record of the transaction: a header and up to 240 images. */
static void record_write(
	struct out *o, struct journal *j, const struct ck_rec *rec, uint32_t n, uint32_t flags)
{
	uint8_t block[BLOCK_SIZE] __attribute__((aligned(8))) = {0};
	struct disk_jrec *d = (struct disk_jrec *)block;
	const uint64_t ring = j->start + JOURNAL_HEADS;

	d->magic = le32_of(MAGIC_JREC);
	memcpy(d->uuid, o->c->super.h.uuid, 16);
	d->epoch = le64_of(o->c->m->epoch);
	d->seq = le64_of(j->seq++);
	d->lsn = le64_of(j->lsn);
	d->flags = le32_of(flags);
	d->count = le32_of(n);
	for (uint32_t i = 0; i < n; i++) {
		struct disk_header *h = (struct disk_header *)(uintptr_t)rec[i].value;

		h->lsn = le64_of(j->lsn);
		fields_seal(h);
		d->image[i].blkno = le64_of(blkno_of(&rec[i]));
		d->image[i].crc = le32_of(crc32c(0, h, BLOCK_SIZE));
	}
	fields_seal(d);
	out_block(o, ring + j->pos++ % j->ring, block);
	for (uint32_t i = 0; i < n; i++)
		out_block(o, ring + j->pos++ % j->ring, rec[i].value);
}

static void batch_write(struct out *o, struct journal *j, const struct ck_rec *rec, uint32_t n)
{
	uint32_t at, step;

	for (at = 0; at < n; at += step) {
		step = n - at < JREC_IMAGES_MAX ? n - at : JREC_IMAGES_MAX;
		record_write(o, j, rec + at, step,
			(at ? 0 : JREC_FIRST) | (at + step == n ? JREC_LAST : 0));
	}
	out_flush(o);
	j->lsn++;
	j->pos %= j->ring;
	for (at = 0; at < n; at++)
		out_block(o, blkno_of(&rec[at]), rec[at].value);
	out_flush(o);
	head_write(o, j);
}

static void supers_write(struct out *o)
{
	const uint64_t places[] = {SUPER_BLOCK, SUPER_COPY_BLOCK, o->c->block_count - 1};

	for (uint32_t i = 0; i < 3; i++) {
		const void *block = ck_put_find(o->c, places[i]);

		if (block)
			out_block(o, places[i], block);
		out_flush(o);
	}
}

int ck_commit(struct check *c)
{
	struct out o = {.c = c, .buf = mem_alloc(&c->m->keep, OUT_BLOCKS * BLOCK_SIZE)};
	struct journal j = {0};
	struct ck_recs r;
	uint64_t most, n;
	int err;

	if (!o.buf)
		return -ENOMEM;
	collect(c, &r);
	if (c->m->no_memory)
		return -ENOMEM;
	journal_start(c, &j);
	/* Records with their headers leave a block of the ring free. */
	most = (j.ring - 1) / (JREC_IMAGES_MAX + 1) * JREC_IMAGES_MAX;
	if (!most)
		most = j.ring - 2;
	if (most > BATCH_MAX)
		most = BATCH_MAX;
	err = claim_write(&o, CLAIM_HELD, 1);
	if (err)
		return err;
	copies_write(&o);
	replay(&o);
	head_write(&o, &j);
	head_write(&o, &j);
	newer_records_end(&o, &j);
	for (uint64_t at = 0; at < r.count && !o.failed; at += n) {
		n = r.count - at < most ? r.count - at : most;
		batch_write(&o, &j, r.rec + at, (uint32_t)n);
	}
	supers_write(&o);
	return o.failed || claim_write(&o, CLAIM_CLEAN, 3) || o.failed ? -EIO : 0;
}
