/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fetch.c - reads blocks into the cache.
 *
 * With a block of a metadata chunk its neighbours are read: they are mostly of the same directory or
 * the inodes that its names lead to, and on a SAN 64 KiB come as fast as 4. A neighbour that turns
 * out to be no block (never used, or freed) is forgotten without a word.
 *
 * Rules
 *  F1. A block that is being read is in the cache as BLOCK_READING, with the number of the read that
 *      will fill it; until then it is neither given out nor made (txn_new waits). So what a read
 *      brings is never older than what was written since.
 *  F2. A read fills only blocks that wait for this very read.
 */
#include "metadata/engine.h"

#define RUN_BYTES ((size_t)FETCH_BLOCKS_MAX * BLOCK_SIZE)

void fetch_create(struct vol *v)
{
	uint32_t n = FETCH_BLOCKS_MAX;

	/* Not so many that they push out what is in use. */
	while (n > 1 && n > v->cache.max / 1024)
		n /= 2;
	v->fetch.blocks = n;
}

void fetch_destroy(struct vol *v)
{
	for (uint32_t i = 0; i < FETCH_RUNS; i++)
		mem_free(v->cfg.mem, v->fetch.run[i].buf, RUN_BYTES);
}

void fetch_reset(struct vol *v)
{
	for (uint32_t i = 0; i < FETCH_RUNS; i++)
		v->fetch.run[i].number = 0;
}

bool fetch_may_read(const struct vol *v, uint64_t blkno)
{
	uint64_t first = le64_get(v->geo->journal_start);

	if (blkno >= le64_get(v->geo->block_count))
		return false;
	return blkno < first || blkno >= first + le64_get(v->geo->journal_blocks);
}

/* ------------------------------------------------------------------ the end of a read */

/* Somebody asked for it: what is wrong with it is said, and is theirs. */
static void bad(struct vol *v, struct block *b, int err, const struct verify_report *rep)
{
	b->err = err;
	b->state = BLOCK_BAD;
	trace(v->cfg.trace, TRACE_ERROR, "%s: block %llu: found %llx, expected %llx",
		problem_name(rep->problem), (unsigned long long)b->blkno,
		(unsigned long long)rep->found, (unsigned long long)rep->expected);
}

static void filled(struct vol *v, struct block *b)
{
	struct verify_report rep = {PROBLEM_NONE, 0, 0};

	b->state = BLOCK_VALID;
	b->magic = le32_get(((struct disk_header *)b->data)->magic);
	if (verify_block(b->data, 0, b->blkno, v->geo, &rep) != PROBLEM_NONE) {
		if (list_empty(&b->waiters)) {
			cache_drop(v, b);
			return;
		}
		bad(v, b, -EUCLEAN, &rep);
	}
	cache_settle(v, b);
	vol_wake(v, b);
}

static void one_done(struct vol *v, struct vio *io, enum lun_status st)
{
	const struct verify_report medium = {PROBLEM_MEDIUM, 0, 0};
	struct block *b = io->arg;

	if (st == LUN_OK) {
		filled(v, b);
	} else {
		bad(v, b, -EIO, &medium);
		cache_settle(v, b);
		vol_wake(v, b);
	}
	vol_unstall(v);
}

static void read_one(struct vol *v, struct block *b)
{
	b->state = BLOCK_READING;
	b->fetch = ++v->fetch.number;
	(void)vio_send(v, LUN_READ, b->blkno, 1, b->data, one_done, b);
}

static void run_done(struct vol *v, struct vio *io, enum lun_status st)
{
	struct fetch_run *r = io->arg;
	uint64_t number = r->number;

	r->number = 0;
	for (uint32_t i = 0; i < r->count; i++) {
		struct block *b = cache_find(v, r->first + i);

		if (!b || b->state != BLOCK_READING || b->fetch != number)
			continue; /* F2 */
		if (st == LUN_OK) {
			memcpy(b->data, r->buf + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
			filled(v, b);
		} else if (list_empty(&b->waiters)) {
			cache_drop(v, b);
		} else {
			read_one(v, b); /* the medium error may be a neighbour's */
		}
	}
	vol_unstall(v);
}

/* ------------------------------------------------------------------ the start */

static struct fetch_run *free_run(struct vol *v)
{
	for (uint32_t i = 0; i < FETCH_RUNS; i++) {
		struct fetch_run *r = &v->fetch.run[i];

		if (r->number)
			continue;
		if (!r->buf)
			r->buf = mem_alloc(v->cfg.mem, RUN_BYTES);
		return r->buf ? r : NULL;
	}
	return NULL;
}

/* The neighbours of `b` that are not in the cache join its read. */
static void read_run(struct vol *v, struct block *b, struct fetch_run *r)
{
	uint64_t first = b->blkno & ~(uint64_t)(v->fetch.blocks - 1);
	uint64_t end = first + v->fetch.blocks;
	uint64_t lo = b->blkno, hi = b->blkno;

	if (end > le64_get(v->geo->block_count))
		end = le64_get(v->geo->block_count);
	r->number = ++v->fetch.number;
	b->state = BLOCK_READING;
	b->fetch = r->number;
	for (uint64_t n = first; n < end; n++) {
		struct block *other;

		/* The rest of the room is for what is really asked for. */
		if (cache_find(v, n) || cache_room(v) < v->cache.max / 4)
			continue;
		other = cache_add(v, n);
		if (!other)
			break;
		other->state = BLOCK_READING;
		other->fetch = r->number;
		lo = n < lo ? n : lo;
		hi = n > hi ? n : hi;
	}
	r->first = lo;
	r->count = (uint32_t)(hi - lo) + 1;
	(void)vio_send(v, LUN_READ, lo, r->count, r->buf, run_done, r);
}

int fetch_block(struct txn *t, uint64_t blkno)
{
	struct vol *v = t->v;
	struct fetch_run *r = NULL;
	struct block *b;

	if (!fetch_may_read(v, blkno))
		return txn_damaged(t, PROBLEM_BLKNO_RANGE, blkno, 0, blkno,
			le64_get(v->geo->block_count));
	v->cache.misses++;
	/* Room is kept for what must never wait: the journal and the checkpoint. */
	if (!vio_room(v, VIO_MAX / 2))
		return txn_wait_room(t);
	b = cache_add(v, blkno);
	if (!b)
		return txn_wait_room(t);
	if (v->fetch.blocks > 1 && blkno >= le64_get(v->geo->data_start))
		r = free_run(v);
	if (r)
		read_run(v, b, r);
	else
		read_one(v, b);
	t->wait = WAIT_BLOCK;
	t->wait_block = b;
	return -EAGAIN;
}
