/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * txn.c - one operation at a time adds its changes to the running transaction, or leaves no trace.
 *
 * The first change of a block by an operation copies what stood there; an operation that fails puts
 * all its copies back. Since an operation runs to its end between two events, no commit ever sees
 * half of one.
 */
#include "metadata/engine.h"

int txn_create(struct vol *v)
{
	v->txn.v = v;
	v->txn.copies = mem_alloc(v->cfg.mem, (size_t)TXN_UNDO_BLOCKS * BLOCK_SIZE);
	list_init(&v->run.blocks);
	list_init(&v->run.waiters);
	return v->txn.copies ? 0 : -ENOMEM;
}

void txn_destroy(struct vol *v)
{
	mem_free(v->cfg.mem, v->txn.copies, (size_t)TXN_UNDO_BLOCKS * BLOCK_SIZE);
}

void txn_begin(struct vol *v, int64_t time_ns)
{
	struct txn *t = &v->txn;

	t->op++;
	t->time_ns = time_ns;
	t->seen_lsn = 0;
	t->undo_count = 0;
	t->wait = WAIT_NONE;
	t->wait_block = NULL;
	t->refused = false;
	t->kicked = false;
	t->touched_count = 0;
	t->changed_count = 0;
	alloc_count_begin(v);
}

bool txn_keep(struct txn *t)
{
	alloc_count_keep(t->v);
	if (t->kicked)
		t->v->bg_wanted = t->v->bg_again = true;
	return t->undo_count > 0;
}

void txn_undo(struct txn *t)
{
	struct running *run = &t->v->run;

	while (t->undo_count) {
		struct undo *u = &t->undo[--t->undo_count];
		struct block *b = u->b;

		memcpy(b->data, t->copies + (size_t)t->undo_count * BLOCK_SIZE, BLOCK_SIZE);
		if ((b->flags & BLK_FORGOTTEN) && (b->flags & BLK_RUNNING))
			run->forgot--;
		if (!(u->flags & BLK_RUNNING)) {
			list_del(&b->running);
			run->count--;
		}
		b->flags = u->flags;
		b->dirty_lsn = u->dirty_lsn;
		b->magic = le32_get(((struct disk_header *)b->data)->magic);
		if ((b->flags & BLK_FORGOTTEN) && (b->flags & BLK_RUNNING))
			run->forgot++;
		if (u->made)
			cache_drop(t->v, b);
		else
			cache_settle(t->v, b);
	}
	alloc_undo(t);
}

int txn_wait_room(struct txn *t)
{
	t->wait = WAIT_ROOM;
	return -EAGAIN;
}

/* ------------------------------------------------------------------ what an operation calls */

static int not_valid(struct txn *t, struct block *b)
{
	int err = b->err;

	if (b->state == BLOCK_READING) {
		t->wait = WAIT_BLOCK;
		t->wait_block = b;
		return -EAGAIN;
	}
	/* Tried again for whoever asks next: the storage may have recovered. */
	cache_drop(t->v, b);
	return err;
}

/* Of its own changes an operation need not wait for: if they are undone, nobody ever writes them. */
static void saw(struct txn *t, const struct block *b)
{
	if (b->changed_op != t->op && b->dirty_lsn > t->seen_lsn)
		t->seen_lsn = b->dirty_lsn;
}

int txn_get(struct txn *t, uint64_t blkno, uint32_t magic, uint64_t owner, struct block **out)
{
	struct vol *v = t->v;
	struct block *b = cache_find(v, blkno);
	const struct disk_header *h;

	if (!b)
		return fetch_block(t, blkno);
	if (b->state != BLOCK_VALID)
		return not_valid(t, b);
	if (b->flags & BLK_FORGOTTEN)
		return txn_damaged(t, PROBLEM_BLOCK_NOT_MARKED, blkno, 0, 0, magic);
	h = (const struct disk_header *)b->data;
	if (b->magic != magic)
		return txn_damaged(t, PROBLEM_HEADER_MAGIC, blkno, 0, b->magic, magic);
	if (owner != OWNER_ANY && le64_get(h->owner) != owner)
		return txn_damaged(
			t, PROBLEM_HEADER_OWNER, blkno, owner, le64_get(h->owner), owner);
	v->cache.hits++;
	b->op = t->op;
	saw(t, b);
	if (!list_empty(&b->lru)) {
		list_del(&b->lru);
		list_add_tail(&b->lru, &v->cache.lru);
	}
	*out = b;
	return 0;
}

void txn_dirty(struct txn *t, struct block *b)
{
	struct vol *v = t->v;
	struct undo *u;

	csv_assert(b->state == BLOCK_VALID);
	if (b->changed_op == t->op)
		return;
	csv_assert(t->undo_count < TXN_UNDO_BLOCKS);
	saw(t, b);
	t->refused = t->refused || v->cfg.readonly;
	u = &t->undo[t->undo_count];
	u->b = b;
	u->dirty_lsn = b->dirty_lsn;
	u->flags = b->flags;
	u->made = false;
	memcpy(t->copies + (size_t)t->undo_count * BLOCK_SIZE, b->data, BLOCK_SIZE);
	t->undo_count++;
	b->changed_op = t->op;
	b->op = t->op;
	b->dirty_lsn = v->run.lsn;
	if (!(b->flags & BLK_RUNNING)) {
		b->flags |= BLK_RUNNING;
		list_add_tail(&b->running, &v->run.blocks);
		v->run.count++;
		cache_settle(v, b);
	}
}

int txn_new(struct txn *t, uint64_t blkno, uint32_t magic, uint64_t owner, struct block **out)
{
	struct vol *v = t->v;
	struct block *b = cache_find(v, blkno);
	bool made, counted;

	csv_assert(fetch_may_read(v, blkno));
	if (b && b->state == BLOCK_READING)
		return not_valid(t, b);
	if (b && b->state == BLOCK_BAD) {
		cache_drop(v, b);
		b = NULL;
	}
	made = !b;
	if (!b) {
		b = cache_add(v, blkno);
		if (!b)
			return txn_wait_room(t);
	}
	b->state = BLOCK_VALID;
	counted = (b->flags & BLK_FORGOTTEN) && (b->flags & BLK_RUNNING);
	txn_dirty(t, b);
	if (made)
		t->undo[t->undo_count - 1].made = true;
	b->flags &= (uint8_t)~BLK_FORGOTTEN;
	v->run.forgot -= counted ? 1 : 0;
	memset(b->data, 0, BLOCK_SIZE);
	verify_init_header(b->data, magic, v->geo->h.uuid, blkno, owner);
	b->magic = magic;
	*out = b;
	return 0;
}

void txn_forget(struct txn *t, uint64_t blkno)
{
	struct block *b = cache_find(t->v, blkno);

	if (!b || b->state != BLOCK_VALID || (b->flags & BLK_FORGOTTEN))
		return;
	txn_dirty(t, b);
	b->flags |= BLK_FORGOTTEN;
	t->v->run.forgot++;
}

void txn_changes(struct txn *t, uint64_t ino)
{
	for (uint32_t i = t->changed_count; i-- > 0;) {
		if (t->changed[i] == ino)
			return;
	}
	csv_assert(t->changed_count < TXN_INODES_MAX);
	t->changed[t->changed_count++] = ino;
}

uint32_t txn_room(const struct txn *t)
{
	return t->undo_count < TXN_OP_BLOCKS ? TXN_OP_BLOCKS - t->undo_count : 0;
}

void txn_kick(struct txn *t)
{
	t->kicked = true;
}

uint64_t txn_lsn(const struct txn *t)
{
	return t->v->run.lsn;
}

int txn_damaged(struct txn *t, enum problem p, uint64_t blkno, uint64_t ino, uint64_t found,
	uint64_t expected)
{
	trace(t->v->cfg.trace, TRACE_ERROR, "%s: block %llu, inode %llu: found %llx, expected %llx",
		problem_name(p), (unsigned long long)blkno, (unsigned long long)ino,
		(unsigned long long)found, (unsigned long long)expected);
	return -EUCLEAN;
}

bool txn_ino_is_open(struct txn *t, uint64_t ino)
{
	const struct vol_config *cfg = &t->v->cfg;

	return cfg->ino_is_open && cfg->ino_is_open(cfg->ctx, ino);
}

struct vol *txn_vol(struct txn *t)
{
	return t->v;
}

int64_t txn_time(const struct txn *t)
{
	return t->time_ns;
}

const struct disk_super *txn_super(struct txn *t)
{
	saw(t, t->v->super);
	return (const struct disk_super *)t->v->super->data;
}

struct disk_super *txn_super_dirty(struct txn *t)
{
	txn_dirty(t, t->v->super);
	txn_dirty(t, t->v->super_copy);
	return (struct disk_super *)t->v->super->data;
}
