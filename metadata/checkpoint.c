/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * checkpoint.c - brings committed blocks to their places, so that the journal's tail can move.
 *
 *   IDLE --start_batch()--> WRITE --last write_done()--> FLUSH (write cache) --flush_done()--> HEAD
 *   WRITE --last write_done()--> HEAD or IDLE       HEAD --head_done()--> IDLE, the tail has moved
 *
 * Invariants
 *  C1. Write-ahead: a block goes to its place only when its image is durable in the journal and no
 *      newer change of it is running or committing.
 *  C2. A block is needed (on ckpt.needed) from when its image is durable until it is durable in its
 *      place, or its freeing is. The list is in order of journal_seq: its first one is the tail.
 *  C3. The tail moves only after a batch, when no write to a place is in flight: so nothing can land in
 *      a chunk that was freed and, the tail having passed, is data's again.
 */
#include "metadata/engine.h"

#define IDLE_NS (1 * NS_PER_SEC)
#define LOOKED_AT_MAX 2048u /* blocks of the list, for one batch */

int ckpt_create(struct vol *v)
{
	list_init(&v->ckpt.needed);
	v->ckpt.idle_ns = NEVER;
	v->ckpt.buf = mem_alloc(v->cfg.mem, (size_t)CKPT_BATCH * BLOCK_SIZE);
	return v->ckpt.buf ? 0 : -ENOMEM;
}

void ckpt_destroy(struct vol *v)
{
	mem_free(v->cfg.mem, v->ckpt.buf, (size_t)CKPT_BATCH * BLOCK_SIZE);
}

/* ------------------------------------------------------------------ sorting */

static bool before(const struct pair *a, const struct pair *b)
{
	return a->key < b->key || (a->key == b->key && a->value < b->value);
}

static void sift_down(struct pair *p, size_t root, size_t n)
{
	for (;;) {
		size_t child = 2 * root + 1;
		struct pair t;

		if (child >= n)
			return;
		if (child + 1 < n && before(&p[child], &p[child + 1]))
			child++;
		if (!before(&p[root], &p[child]))
			return;
		t = p[root];
		p[root] = p[child];
		p[child] = t;
		root = child;
	}
}

void pair_sort(struct pair *p, size_t n)
{
	for (size_t i = n / 2; i-- > 0;)
		sift_down(p, i, n);
	for (size_t end = n; end > 1; end--) {
		struct pair t = p[0];

		p[0] = p[end - 1];
		p[end - 1] = t;
		sift_down(p, 0, end - 1);
	}
}

/* ------------------------------------------------------------------ the end of a batch */

static struct journal_pos tail_now(const struct vol *v)
{
	const struct block *b;

	if (list_empty(&v->ckpt.needed))
		return v->journal.durable;
	b = list_first_entry(&v->ckpt.needed, struct block, needed);
	return (struct journal_pos){b->journal_seq, b->journal_lsn, b->journal_at};
}

static void batch_end(struct vol *v)
{
	v->ckpt.state = CKPT_IDLE;
	v->ckpt.batch_count = 0;
	v->checkpoints++;
	vol_unstall(v);
}

static void head_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK && v->ckpt.state == CKPT_HEAD);
	v->journal.tail = v->ckpt.new_tail;
	alloc_release(v);
	batch_end(v);
}

static void move_tail(struct vol *v)
{
	struct ckpt *c = &v->ckpt;

	c->new_tail = tail_now(v);
	if (c->new_tail.seq == v->journal.tail.seq) {
		batch_end(v);
		return;
	}
	c->state = CKPT_HEAD;
	journal_write_head(v, &c->new_tail, head_done);
}

/* What is in its place now, with nothing newer in the journal, is not needed there any more. */
static void batch_durable(struct vol *v)
{
	struct ckpt *c = &v->ckpt;

	for (uint32_t i = 0; i < c->batch_count; i++) {
		struct block *b = cache_find(v, c->batch[i].key);

		/* By number: it may have been freed, and even allocated again, meanwhile. */
		if (c->batch[i].key == SUPER_BLOCK || c->batch[i].key == SUPER_COPY_BLOCK)
			grow_placed(v, c->buf + (size_t)i * BLOCK_SIZE);
		if (!b || b->journal_seq != c->batch[i].value)
			continue;
		list_del(&b->needed);
		b->journal_seq = 0;
		c->needed_count--;
		cache_settle(v, b);
	}
	move_tail(v);
}

static void flush_done(struct vol *v, struct vio *io, enum lun_status st)
{
	(void)io;
	csv_assert(st == LUN_OK && v->ckpt.state == CKPT_FLUSH);
	batch_durable(v);
}

static void write_done(struct vol *v, struct vio *io, enum lun_status st)
{
	struct ckpt *c = &v->ckpt;

	(void)io;
	csv_assert(st == LUN_OK && c->state == CKPT_WRITE && c->writes);
	if (--c->writes)
		return;
	if (!v->cfg.write_cache) {
		batch_durable(v);
		return;
	}
	c->state = CKPT_FLUSH;
	(void)vio_must(v, LUN_FLUSH, 0, 0, NULL, flush_done);
}

/* ------------------------------------------------------------------ a batch */

/*
 * The two superblocks never go to their places in one batch: a crash may tear both writes of a
 * batch, and one of them must tell where the journal is.
 */
static bool may_join(const struct vol *v, const struct block *b, bool has_super)
{
	const uint8_t busy = BLK_RUNNING | BLK_COMMITTING | BLK_FORGETTING | BLK_FORGOTTEN;

	if (b->flags & busy)
		return false;
	return !(has_super && (b == v->super || b == v->super_copy));
}

static void pick_batch(struct vol *v)
{
	struct ckpt *c = &v->ckpt;
	uint32_t looked_at = 0;
	bool has_super = false;
	struct block *first = grow_places(v);

	c->batch_count = 0;
	if (first && first->journal_seq && may_join(v, first, false)) {
		c->batch[c->batch_count++] = (struct pair){first->blkno, first->journal_seq};
		return;
	}
	list_for_each_entry(b, &c->needed, struct block, needed)
	{
		if (c->batch_count == CKPT_BATCH || looked_at++ == LOOKED_AT_MAX)
			break;
		if (!may_join(v, b, has_super))
			continue;
		has_super = has_super || b == v->super || b == v->super_copy;
		c->batch[c->batch_count++] = (struct pair){b->blkno, b->journal_seq};
	}
	pair_sort(c->batch, c->batch_count);
}

static void start_batch(struct vol *v)
{
	struct ckpt *c = &v->ckpt;
	uint32_t from = 0;

	pick_batch(v);
	if (!c->batch_count) {
		if (tail_now(v).seq != v->journal.tail.seq)
			move_tail(v);
		return;
	}
	c->state = CKPT_WRITE;
	c->writes = 0;
	for (uint32_t i = 0; i < c->batch_count; i++) {
		const struct block *b = cache_find(v, c->batch[i].key);

		csv_assert(b && b->journal_seq && b->dirty_lsn <= v->lsn_durable); /* C1 */
		memcpy(c->buf + (size_t)i * BLOCK_SIZE, b->data, BLOCK_SIZE);
		if (i + 1 < c->batch_count && c->batch[i + 1].key == c->batch[i].key + 1)
			continue;
		(void)vio_must(v, LUN_WRITE, c->batch[from].key, i + 1 - from,
			c->buf + (size_t)from * BLOCK_SIZE, write_done);
		c->writes++;
		from = i + 1;
	}
}

bool ckpt_all_done(const struct vol *v)
{
	return v->ckpt.state == CKPT_IDLE && list_empty(&v->ckpt.needed) &&
	       v->journal.tail.seq == v->journal.head.seq;
}

bool ckpt_renew_head(struct vol *v, uint64_t blkno)
{
	struct ckpt *c = &v->ckpt;

	if (c->state != CKPT_IDLE)
		return false;
	c->state = CKPT_HEAD;
	c->batch_count = 0;
	c->new_tail = v->journal.tail;
	journal_next_head(v, blkno);
	journal_write_head(v, &c->new_tail, head_done);
	return true;
}

static bool nothing_eligible(const struct vol *v)
{
	return list_empty(&v->ckpt.needed) && tail_now(v).seq == v->journal.tail.seq;
}

/* Space runs short, somebody waits for it, or nothing else is to be done. */
static bool wanted(const struct vol *v)
{
	const struct ckpt *c = &v->ckpt;

	if (v->state == VOL_CLOSING || v->tight || !list_empty(&v->stalled) || grow_busy(v))
		return true;
	if (journal_used(v) > v->journal.blocks / 4)
		return true;
	if (c->needed_count > v->cache.max / 4)
		return true;
	return c->idle_ns <= v->now_ns;
}

void ckpt_step(struct vol *v)
{
	struct ckpt *c = &v->ckpt;

	if (c->state != CKPT_IDLE)
		return;
	if (nothing_eligible(v)) {
		c->idle_ns = NEVER;
		return;
	}
	if (c->idle_ns == NEVER || v->commits != c->idle_commits)
		c->idle_ns = v->now_ns + IDLE_NS;
	c->idle_commits = v->commits;
	if (wanted(v))
		start_batch(v);
}
