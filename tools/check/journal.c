/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal as replay would take it, written anew from FORMAT.md: heads, the unbroken run of whole
 * transactions behind the tail, and the newest image of each block in it.
 */
#include "csvfs/base/claim.h"
#include "csvfs/base/crc32c.h"
#include "metadata/fields.h"
#include "tools/check/mend.h"

/* No transaction is longer: 4 records of 240 images. */
#define BEYOND_BLOCKS (5u * (JREC_IMAGES_MAX + 1))

struct ring {
	uint64_t start, blocks; /* of the volume */
	uint64_t tail_seq, tail_pos, tail_lsn, head_seq, head_lsn, epoch;
};

/* A record as read, in memory of its own: images are read while it is in use. */
struct record {
	struct disk_jrec d;
	uint64_t seq, lsn, epoch, pos;
	uint32_t flags, count;
};

/* What replay takes for a head; the better one, of equals the first, is in *r. */
static bool head_take(struct check *c, struct ring *r, uint64_t blkno, bool *any, uint64_t *best)
{
	const struct disk_jhead *h = ck_read_raw(c, blkno, 0);
	uint64_t found, want;
	enum problem p;

	if (!h)
		return false;
	p = ck_header(c, h, blkno, MAGIC_JHEAD, CK_ANY_OWNER, &found, &want);
	if (p == PROBLEM_HEADER_EPOCH)
		ck_report(c, PROBLEM_JOURNAL_ORDER, blkno, 0, found, want,
			"epoch of the journal's head");
	else if (p && p != PROBLEM_HEADER_LSN)
		return false;
	if (le64_get(h->head_seq) < le64_get(h->tail_seq) ||
		le64_get(h->head_lsn) < le64_get(h->tail_lsn) || !le64_get(h->tail_lsn))
		return false;
	/* Replay believes them all the same. A repair writes both anew. */
	if (!c->m && le64_get(h->h.owner))
		ck_report(c, PROBLEM_HEADER_OWNER, blkno, 0, le64_get(h->h.owner), 0, "owner");
	if (!c->m && !ck_zero(h->reserved, BLOCK_SIZE - offsetof(struct disk_jhead, reserved)))
		ck_report(c, PROBLEM_RESERVED, blkno, 0, 0, 0,
			"reserved field of the journal's head");
	if (*any && le64_get(h->count) <= *best)
		return true;
	*any = true;
	*best = le64_get(h->count);
	r->tail_seq = le64_get(h->tail_seq);
	r->tail_pos = le64_get(h->tail_pos);
	r->tail_lsn = le64_get(h->tail_lsn);
	r->head_seq = le64_get(h->head_seq);
	r->head_lsn = le64_get(h->head_lsn);
	r->epoch = le64_get(h->h.epoch);
	return true;
}

static uint64_t ring_block(const struct ring *r, uint64_t pos)
{
	return r->start + pos % r->blocks;
}

/* False: no record that continues the run stands there. */
static bool record_read(struct check *c, const struct ring *r, uint64_t pos, uint64_t seq,
	uint64_t epoch, struct record *out)
{
	const struct disk_jrec *d = ck_read_raw(c, ring_block(r, pos), 0);

	if (!d || le32_get(d->magic) != MAGIC_JREC || !fields_sealed(d))
		return false;
	if (memcmp(d->uuid, c->super.h.uuid, 16))
		return false;
	memcpy(&out->d, d, sizeof(out->d));
	out->pos = pos;
	out->seq = le64_get(d->seq);
	out->lsn = le64_get(d->lsn);
	out->epoch = le64_get(d->epoch);
	out->flags = le32_get(d->flags);
	out->count = le32_get(d->count);
	return out->seq == seq && out->epoch >= epoch && out->count <= JREC_IMAGES_MAX;
}

static bool images_whole(struct check *c, const struct ring *r, const struct record *rec)
{
	for (uint32_t i = 0; i < rec->count; i++) {
		const uint64_t at = ring_block(r, rec->pos + 1 + i);
		const void *b = ck_read_raw(c, at, 0);

		if (b && crc32c(0, b, BLOCK_SIZE) == le32_get(rec->d.image[i].crc))
			continue;
		/* Behind the head, a torn end is what a crash leaves. */
		if (rec->seq < r->head_seq)
			ck_report(c, PROBLEM_JOURNAL_IMAGE, at, 0, le64_get(rec->d.image[i].blkno),
				le64_get(rec->d.image[i].blkno),
				"image with a wrong checksum: of block");
		return false;
	}
	return true;
}

bool ck_journal_target(const struct check *c, uint64_t blkno)
{
	const uint64_t start = le64_get(c->super.journal_start);

	if (blkno >= c->block_count || blkno == CLAIM_BLOCK || blkno == CLAIM_BLOCK + 1)
		return false;
	return blkno < start || blkno >= start + le64_get(c->super.journal_blocks);
}

static int record_apply(struct check *c, const struct ring *r, const struct record *rec)
{
	int err;

	for (uint32_t i = 0; i < rec->count; i++) {
		const uint64_t blkno = le64_get(rec->d.image[i].blkno);

		if (!ck_journal_target(c, blkno)) {
			ck_report(c, PROBLEM_JOURNAL_TARGET, ring_block(r, rec->pos), 0, blkno, 0,
				"image for a block that is no metadata:");
			continue;
		}
		err = ck_overlay_add(c, blkno, ring_block(r, rec->pos + 1 + i));
		if (err)
			return err;
	}
	c->rep->journal_records++;
	return 0;
}

/* One transaction from *seq at *pos. 1: applied, both moved on; 0: the run ends here; -ENOMEM. */
static int transaction(struct check *c, struct ring *r, struct record *rec, uint64_t *seq,
	uint64_t *pos, uint64_t lsn, uint64_t *epoch)
{
	uint64_t s = *seq, p = *pos, e = *epoch, used;
	int err;

	for (used = 0;; s++) {
		if (!record_read(c, r, p, s, e, rec) || rec->lsn != lsn)
			return 0;
		if (!!(rec->flags & JREC_FIRST) != (s == *seq))
			return 0;
		used += 1 + rec->count;
		if (used > r->blocks || !images_whole(c, r, rec))
			return 0;
		e = rec->epoch;
		p = (p + 1 + rec->count) % r->blocks;
		if (rec->flags & JREC_LAST)
			break;
	}
	/* It is whole: now its images count. */
	for (s = *seq, p = *pos;; s++) {
		if (!record_read(c, r, p, s, *epoch, rec))
			return 0;
		err = record_apply(c, r, rec);
		if (err)
			return err;
		p = (p + 1 + rec->count) % r->blocks;
		if (rec->flags & JREC_LAST)
			break;
	}
	*seq = s + 1;
	*pos = p;
	*epoch = e;
	return 1;
}

/*
 * The newest image in the run is what its block is, whatever stands in its place. But a block there that no
 * transaction up to the end of the run can have written says that records are lost: replay guesses nothing.
 */
static void places_not_beyond(struct check *c)
{
	for (uint32_t i = 0; i < c->image_room; i++) {
		const struct ck_image *im = &c->images[i];
		const struct disk_header *h = im->pos ? ck_read_raw(c, im->blkno, 0) : NULL;
		uint64_t found, want;
		enum problem p;

		if (!h || le64_get(h->lsn) <= c->lsn_max)
			continue;
		p = ck_header(c, h, im->blkno, le32_get(h->magic), CK_ANY_OWNER, &found, &want);
		if (p == PROBLEM_HEADER_LSN || p == PROBLEM_HEADER_EPOCH)
			ck_report(c, PROBLEM_HEADER_LSN, im->blkno, 0, le64_get(h->lsn), c->lsn_max,
				"transaction number in its place");
	}
}

/*
 * The run has ended before transaction `lsn`. What is torn is the last that was begun, so none that is later
 * stands behind it: else records in between are damaged, and replay guesses nothing.
 */
static void nothing_beyond(
	struct check *c, const struct ring *r, uint64_t pos, uint64_t lsn, uint64_t blocks)
{
	const uint64_t end = blocks < BEYOND_BLOCKS ? blocks : BEYOND_BLOCKS;

	for (uint64_t i = 0; i < end; i++) {
		const struct disk_jrec *d = ck_read_raw(c, ring_block(r, pos + i), 0);

		if (!d || le32_get(d->magic) != MAGIC_JREC || !fields_sealed(d) ||
			memcmp(d->uuid, c->super.h.uuid, 16) ||
			le32_get(d->count) > JREC_IMAGES_MAX || le64_get(d->lsn) <= lsn)
			continue;
		ck_report(c, PROBLEM_JOURNAL_RECORD, ring_block(r, pos), 0, le64_get(d->lsn), lsn,
			"damaged, but later transactions follow it:");
		return;
	}
}

static int scan(struct check *c, struct ring *r)
{
	struct record *rec = mem_alloc(c->o->mem, sizeof(*rec));
	uint64_t seq = r->tail_seq, pos = r->tail_pos, lsn = r->tail_lsn, epoch = r->epoch;
	uint64_t used = 0, before, step;
	int got = 1;

	if (!rec)
		return -ENOMEM;
	while (used < r->blocks) {
		before = pos;
		got = transaction(c, r, rec, &seq, &pos, lsn, &epoch);
		if (got <= 0)
			break;
		lsn++;
		step = (pos + r->blocks - before) % r->blocks;
		used += step ? step : r->blocks;
	}
	if (got < 0)
		return got;
	if (seq < r->head_seq)
		ck_report(c, PROBLEM_JOURNAL_RECORD, ring_block(r, pos), 0, seq, r->head_seq,
			"the run of records ends early:");
	else
		nothing_beyond(c, r, pos, lsn, r->blocks - (used < r->blocks ? used : r->blocks));
	if (lsn > c->lsn_max + 1)
		c->lsn_max = lsn - 1;
	if (epoch > c->epoch_max)
		ck_report(c, PROBLEM_JOURNAL_ORDER, ring_block(r, pos), 0, epoch, c->epoch_max,
			"epoch");
	if (c->image_count) {
		c->rep->replayed = true;
		ck_report(c, PROBLEM_JOURNAL_NEEDED, ring_block(r, r->tail_pos), 0, c->image_count,
			c->image_count, "replayed in memory for this check");
		/* A repair puts the image there. */
		if (!c->m)
			places_not_beyond(c);
	}
	return 0;
}

int ck_journal(struct check *c)
{
	struct ring r = {.start = le64_get(c->super.journal_start) + JOURNAL_HEADS,
		.blocks = le64_get(c->super.journal_blocks) - JOURNAL_HEADS};
	uint64_t best = 0, bad = 0;
	uint32_t heads = 0;
	bool any = false;

	c->lsn_max = NEVER;
	if (c->m) {
		int err = ck_ring_scan(c);

		if (err || c->m->salvage)
			return err ? err : ck_ring_apply(c);
	}
	for (uint64_t i = 0; i < JOURNAL_HEADS; i++) {
		if (head_take(c, &r, r.start - JOURNAL_HEADS + i, &any, &best))
			heads++;
		else
			bad = r.start - JOURNAL_HEADS + i;
	}
	/* A crash leaves this, too: it does not make the volume a damaged one. */
	c->head_lost = bad;
	if (heads && bad)
		ck_report(c, PROBLEM_JOURNAL_HEAD_COPY, bad, 0, 0, 0, "not a valid head");
	if (!heads) {
		ck_report(
			c, PROBLEM_JOURNAL_HEAD, r.start - JOURNAL_HEADS, 0, 0, 0, "no valid head");
		return 0;
	}
	if (r.tail_pos >= r.blocks || r.head_seq < r.tail_seq || r.head_lsn < r.tail_lsn) {
		ck_report(c, PROBLEM_JOURNAL_ORDER, r.start - JOURNAL_HEADS, 0, r.tail_pos,
			r.blocks, "tail in the head");
		return 0;
	}
	c->lsn_max = r.head_lsn ? r.head_lsn - 1 : 0;
	return scan(c, &r);
}
